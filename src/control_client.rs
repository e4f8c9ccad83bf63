//! The other end of the control socket: what the command line asks a running server for.

use crate::http::head::{Limits, ResponseHead};
use crate::net::connect::connect_unix;
use crate::net::stream::Stream;
use crate::net::wait::{Cancel, Interrupted, Waiter};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long each step may take: to be let in, to get the beginning of an answer, and to get more of it.
const STEP: Duration = Duration::from_secs(10);
/// The longest refusal that is shown.
const LONGEST_REFUSAL: u64 = 64 * 1024;

/// What a running server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// What it does now, as a table.
    Status,
    /// The same, as JSON.
    StatusAsJson,
    /// The end of a tunnel.
    End {
        /// The number of its connection.
        id: u64,
        /// The status of its Close frames, if one is chosen.
        code: Option<u16>,
    },
    /// No new sessions for this member of a balancer.
    Drain(String),
    /// And sessions again.
    Undrain(String),
}

impl Order {
    /// The method and the target.
    fn request(&self) -> (&'static str, String) {
        match self {
            Self::Status => ("GET", "/server-status?table".to_owned()),
            Self::StatusAsJson => ("GET", "/server-status?json".to_owned()),
            Self::End { id, code: None } => ("POST", format!("/end?id={id}")),
            Self::End {
                id,
                code: Some(code),
            } => ("POST", format!("/end?id={id}&code={code}")),
            Self::Drain(member) => ("POST", format!("/drain?member={}", encoded(member))),
            Self::Undrain(member) => ("POST", format!("/undrain?member={}", encoded(member))),
        }
    }
}

/// Percent-encoded, but for what is unreserved (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Why the server has not done what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// Nobody answers there.
    Unreachable(PathBuf, Interrupted),
    /// The connection failed, or took too long.
    Broken(Interrupted),
    /// The answer is none, or ends too soon.
    NoAnswer,
    /// What it says: lines of text.
    Refused(String),
    /// What it says could not be written.
    Unwritten(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(path, cause) => {
                let path = path.display();
                let kind = match cause {
                    Interrupted::Failed(error) => Some(error.kind()),
                    _ => None,
                };
                match kind {
                    Some(io::ErrorKind::NotFound) => write!(
                        f,
                        "there is no control socket {path}: is the server running? Listen unix: in its configuration says \
                         where it is; --control names another"
                    ),
                    Some(io::ErrorKind::ConnectionRefused) => write!(
                        f,
                        "nobody listens at {path}: the server that made it has ended; start it again"
                    ),
                    Some(io::ErrorKind::PermissionDenied) => write!(
                        f,
                        "{path}: permission denied; ask as root, or as the user that the server runs as"
                    ),
                    _ => write!(f, "{path}: cannot connect: {cause}"),
                }
            }
            Self::Broken(cause) => write!(f, "the server was reached, and then: {cause}"),
            Self::NoAnswer => f.write_str(
                "the server's answer is not whole; is it stopping, or is something else listening there?",
            ),
            Self::Refused(text) => f.write_str(text.trim_end()),
            Self::Unwritten(error) => write!(f, "cannot write what the server says: {error}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(_, cause) | Self::Broken(cause) => Some(cause),
            Self::Unwritten(error) => Some(error),
            Self::NoAnswer | Self::Refused(_) => None,
        }
    }
}

impl From<Interrupted> for Failure {
    fn from(cause: Interrupted) -> Self {
        Self::Broken(cause)
    }
}

/// Asks the server whose control socket is at `path`, and writes to `out` what it says. It is never held as a whole, and no
/// step waits for longer than 10 seconds.
///
/// # Errors
/// [`Failure`]; a part of the answer may have been written by then.
pub fn ask(path: &Path, order: &Order, out: &mut dyn Write) -> Result<(), Failure> {
    let cancel = Cancel::new().map_err(|error| Failure::Broken(error.into()))?;
    let mut waiter =
        Waiter::new(Arc::new(cancel)).map_err(|error| Failure::Broken(error.into()))?;
    let deadline = Instant::now() + STEP;
    let socket = connect_unix(path, deadline, &mut waiter)
        .map_err(|cause| Failure::Unreachable(path.to_owned(), cause))?;
    let mut stream = Stream::from(socket);
    let (method, target) = order.request();
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.send_all(request.as_bytes(), deadline, &mut waiter)?;

    let mut chunk = vec![0; 16 * 1024];
    let mut held = Vec::new();
    let (status, length) = loop {
        let deadline = Some(Instant::now() + STEP);
        let count = stream.receive(&mut chunk, deadline, &mut waiter)?;
        held.extend_from_slice(chunk.get(..count).unwrap_or_default());
        match ResponseHead::parse(&held, &Limits::default()) {
            Ok(Some((used, head))) => {
                held.drain(..used);
                let length = head.headers.first("Content-Length");
                let length =
                    length.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
                break (head.status, length.ok_or(Failure::NoAnswer)?);
            }
            Ok(None) if count > 0 => {}
            _ => return Err(Failure::NoAnswer),
        }
    };
    let mut refusal = Vec::new();
    let is_refused = status != 200;
    let sink: &mut dyn Write = if is_refused { &mut refusal } else { out };
    let mut left = if is_refused {
        length.min(LONGEST_REFUSAL)
    } else {
        length
    };
    loop {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        let part = held.get(..wanted).unwrap_or(&held);
        sink.write_all(part).map_err(Failure::Unwritten)?;
        left -= part.len() as u64;
        if left == 0 {
            break;
        }
        let deadline = Some(Instant::now() + STEP);
        held.resize(chunk.len(), 0);
        let count = stream.receive(&mut held, deadline, &mut waiter)?;
        held.truncate(count);
        if count == 0 {
            return Err(Failure::NoAnswer);
        }
    }
    sink.flush().map_err(Failure::Unwritten)?;
    if is_refused {
        return Err(Failure::Refused(
            String::from_utf8_lossy(&refusal).into_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_in_any_letters() {
        let order = Order::Drain("unix:/run/a b|ws://ü?&".to_owned());
        assert_eq!(
            order.request(),
            (
                "POST",
                "/drain?member=unix%3A%2Frun%2Fa%20b%7Cws%3A%2F%2F%C3%BC%3F%26".to_owned()
            )
        );
    }
}
