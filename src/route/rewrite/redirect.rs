//! `[R]`: the absolute URL that a client is sent to.

use super::flags::Escape;
use super::text::{Piece, Text, Values};
use super::variable::Variable;
use crate::http::answer::Refusal;
use crate::http::authority::Authority;
use crate::ids::Id;
use crate::route::facts::Fact;
use crate::route::url::{KEPT_SLASH, encode, push_escape};

/// The scheme that a substitution begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    /// None: it is a path of this very host.
    Absent,
    /// `%{REQUEST_SCHEME}`
    OfRequest,
    /// One in lower case.
    Written(String),
}

impl Scheme {
    /// Takes the scheme and `://` off the front of `text`.
    ///
    /// # Errors
    /// A scheme that clients are not sent to.
    pub(super) fn take(text: &mut Text) -> Result<Self, String> {
        const KNOWN: [&str; 4] = ["http", "https", "ws", "wss"];
        let of_request = Piece::Variable(Variable::Fact(Fact::RequestScheme));
        let is_own = text.pieces.first() == Some(&of_request);
        let Some(Piece::Literal(literal)) = text.pieces.get_mut(usize::from(is_own)) else {
            return Ok(Self::Absent);
        };
        let Some(place) = literal.windows(3).position(|window| window == b"://") else {
            return Ok(Self::Absent);
        };
        let written = literal.get(..place).unwrap_or_default();
        let written = String::from_utf8_lossy(written).to_ascii_lowercase();
        if is_own && written.is_empty() {
            literal.drain(..3);
            text.pieces.remove(0);
            return Ok(Self::OfRequest);
        }
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if is_own || written.is_empty() || !written.bytes().all(is_scheme) {
            return Ok(Self::Absent);
        }
        if !KNOWN.contains(&written.as_str()) {
            return Err(format!(
                "redirections to {written}:// are not supported; expected http:// or https://"
            ));
        }
        literal.drain(..place + 3);
        Ok(Self::Written(written))
    }
}

/// Scheme, host and port of a redirection to a path of this very host: the name that the client has for it.
pub(super) fn own_origin(values: &Values<'_>) -> String {
    format!("{}://{}", own_scheme(values), values.facts.own_name)
}

fn own_scheme(values: &Values<'_>) -> &'static str {
    if values.facts.is_secure() {
        "https"
    } else {
        "http"
    }
}

/// Scheme, host and port of a redirection to another host, and the path behind them. `rest` stands behind `://`.
///
/// # Errors
/// 403 if a group of the pattern would become a part of the host, or if the host is none.
pub(super) fn origin_and_path(
    scheme: &Scheme,
    rest: &Text,
    values: &Values<'_>,
    escape: Option<&Escape>,
) -> Result<(String, Vec<u8>), Refusal> {
    let mut authority = Vec::new();
    let mut path = Vec::new();
    for piece in &rest.pieces {
        let mut text = Vec::new();
        piece.expand(values, escape, &mut text);
        let slash = text.iter().position(|byte| *byte == b'/');
        let end = match slash {
            _ if !path.is_empty() => 0,
            Some(slash) => slash,
            None => text.len(),
        };
        if end > 0 && matches!(piece, Piece::Group(_)) {
            return Err(Refusal::new(
                Id::BadTarget,
                "a part of the path would become a part of the host that the redirection leads to",
            ));
        }
        authority.extend_from_slice(text.get(..end).unwrap_or_default());
        path.extend_from_slice(text.get(end..).unwrap_or_default());
    }
    let scheme = match scheme {
        Scheme::Written(scheme) => scheme,
        Scheme::Absent | Scheme::OfRequest => own_scheme(values),
    };
    let is_valid = Authority::parse(&authority).is_ok();
    match String::from_utf8(authority) {
        Ok(authority) if is_valid => Ok((format!("{scheme}://{authority}"), path)),
        _ => Err(Refusal::new(
            Id::BadTarget,
            "the redirection leads to no valid host",
        )),
    }
}

/// The value of `Location`. With `is_raw` what is encoded stays as it is.
///
/// Whatever a rule says, no blank, control character or byte above 0x7f leaves this function: it is written into a head.
pub(super) fn location(origin: String, path: &[u8], query: Option<&str>, is_raw: bool) -> String {
    let mut location = origin;
    if !path.starts_with(b"/") {
        location.push('/');
    }
    for byte in path {
        match byte {
            // The query has been taken off: this one is of a request.
            b'?' => push_escape(*byte, &mut location),
            _ if is_raw => push_visible(*byte, &mut location),
            _ => encode(*byte, &mut location),
        }
    }
    if let Some(query) = query {
        location.push('?');
        for byte in query.bytes() {
            push_visible(byte, &mut location);
        }
    }
    location
}

fn push_visible(byte: u8, out: &mut String) {
    match byte {
        KEPT_SLASH => out.push_str("%2F"),
        0x21..0x7f => out.push(char::from(byte)),
        _ => push_escape(byte, out),
    }
}
