//! All that is known of one request: what its access line prints.

use crate::frame::{Close, Counts};
use crate::http::head::RequestHead;
use crate::http::headers::Headers;
use crate::route::backend::Backend;
use crate::route::environment::Environment;
use crate::tls::Session;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One request from its first byte to its answer's last, or to the end of its tunnel. Filled in by those who serve it, step by step; what a step
/// did not get to stays empty.
#[derive(Debug)]
pub struct Transaction {
    /// The number of the connection, as log lines name it.
    pub id: u64,
    /// The other end of the connection: somebody who speaks for the client, or the client itself.
    pub peer: SocketAddr,
    /// The client that the other end speaks for; nothing where that is the client. In a box, since a tunnel is to be small.
    spoken_for: Option<Box<SocketAddr>>,
    /// Our address on the connection to the client.
    pub local: SocketAddr,
    /// When the connection was accepted.
    pub received: SystemTime,
    /// The name of the virtual host.
    pub server_name: Arc<str>,
    /// The request line as written, without its end.
    pub request_line: Vec<u8>,
    /// The status that we sent; 0 if nothing was answered.
    pub status: u16,
    /// What an access log looks at and most do not; nothing where none does. In a box, as the client.
    noted: Option<Box<Noted>>,
    /// The line of the configuration that the request met, as logs name it: `ProxyPass "/ws2/"`.
    pub mapping: Option<Arc<str>>,
    /// The backend that it leads to.
    pub backend: Option<Arc<Backend>>,
    /// Requests on this connection before this one.
    pub served: u64,
    /// Another may follow.
    pub stays: bool,
    /// The client has not got all of its answer.
    pub is_cut: bool,
    /// Bytes from the client, its head included.
    pub bytes_in: u64,
    /// Bytes to the client, our head included.
    pub bytes_out: u64,
    /// Bytes to the client behind the head.
    pub body_out: u64,
    /// Bytes that the tunnel took from the backend.
    pub from_backend: u64,
    /// Bytes that the tunnel delivered to the backend.
    pub to_backend: u64,
    /// The tunnel has opened, and goes on: what follows counts for the time so far, and its end has a line of its own.
    pub is_open: bool,
    /// Why the tunnel ended; `None` if there was none. In a box, as the client.
    pub close: Option<Box<CloseReason>>,
    /// What was seen of a tunnel until its end.
    pub seen: Option<Box<Seen>>,
}

/// What an access log looks at and most do not.
#[derive(Debug, Default)]
pub struct Noted {
    /// The request, where the log format needs it (`LogFormat::needs_request`) and it was one.
    pub request: Option<RequestHead>,
    /// The header fields of the backend's answer, as they came, where the log format needs them
    /// (`LogFormat::needs_answer`); none for an answer of our own.
    pub answer: Option<Headers>,
    /// The variables of the request that an access log looks at; no others.
    pub environment: Environment,
    /// What an access log looks at of the client's TLS; nothing else.
    pub tls: Session,
}

/// What was seen of a tunnel until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What came from the client.
    pub from_client: Said,
    /// What came from the backend.
    pub from_backend: Said,
    /// How long before its end the last byte moved, or if none did, how long it was open.
    pub silence: Duration,
}

/// What one side of a WebSocket has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Nothing where it was no WebSocket, or did not keep to its framing.
    pub counts: Option<Counts>,
    /// Its Close frame, if it has sent one.
    pub close: Option<Close>,
}

impl Transaction {
    /// A transaction of which only the connection is known.
    pub fn new(id: u64, peer: SocketAddr, local: SocketAddr, received: SystemTime) -> Self {
        Self {
            id,
            peer,
            spoken_for: None,
            local,
            received,
            server_name: Arc::from(""),
            request_line: Vec::new(),
            status: 0,
            noted: None,
            mapping: None,
            backend: None,
            served: 0,
            stays: false,
            is_cut: false,
            bytes_in: 0,
            bytes_out: 0,
            body_out: 0,
            from_backend: 0,
            to_backend: 0,
            is_open: false,
            close: None,
            seen: None,
        }
    }

    /// The address of the client, as far as it is known.
    pub fn client(&self) -> SocketAddr {
        self.spoken_for.as_deref().copied().unwrap_or(self.peer)
    }

    /// Notes who the client is, whoever is at the other end.
    pub fn set_client(&mut self, client: SocketAddr) {
        self.spoken_for = (client != self.peer).then(|| Box::new(client));
    }

    /// What was noted for an access log, if anything was.
    pub fn noted(&self) -> Option<&Noted> {
        self.noted.as_deref()
    }

    /// To note something for an access log.
    pub fn note(&mut self) -> &mut Noted {
        self.noted.get_or_insert_default()
    }
}

/// One end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected to us.
    Client,
    /// The end that we connected to.
    Backend,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a tunnel ended. Not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// This side ended its direction first, and the other followed.
    Closed(Side),
    /// This side's direction ended without its TLS, or a Close frame, having said so: anybody on the way may have ended it,
    /// and kept what came behind from us.
    Cut(Side),
    /// Nothing moved for as long as `ProxyWebsocketIdleTimeout` allows.
    Idle(Duration),
    /// One side had ended its direction, and the other did not move within the bound.
    HalfClosed(Side, Duration),
    /// Reading from or writing to this side failed.
    Failed(Side, String),
    /// The backend of a WebSocket ended its direction, or failed for this cause, and neither it nor the client had said
    /// Close.
    Died(Option<String>),
    /// The server is stopping.
    Stopping,
    /// It was open for as long as `ProxyWebsocketMaxLifetime` allows.
    Lifetime(Duration),
    /// The administrator has ended it, with this close code if one was said.
    Administrator {
        /// 1000 to 4999 (RFC 6455, section 7.4).
        code: Option<u16>,
    },
    /// Who was told to take no further tunnels has ended those that were left: the server in a graceful stop, or one member of
    /// a balancer.
    Drained,
    /// A reload has removed or changed what it belongs to, and the delay for such tunnels is over.
    Removed,
    /// Something of ours failed, for this cause. A panic is a bug; the system may also have refused what a tunnel needs.
    Fault(String),
}

impl CloseReason {
    /// Who or what has ended the tunnel, in one word: `client`, `backend`, `idle`, `lifetime`, `drain`, `administrator`,
    /// `reload`, `stop` or `fault`. An end that began with one side counts for that side.
    pub fn who(&self) -> &'static str {
        match self {
            Self::Closed(side)
            | Self::Cut(side)
            | Self::HalfClosed(side, _)
            | Self::Failed(side, _) => side.name(),
            Self::Died(_) => Side::Backend.name(),
            Self::Idle(_) => "idle",
            Self::Lifetime(_) => "lifetime",
            Self::Drained => "drain",
            Self::Administrator { .. } => "administrator",
            Self::Removed => "reload",
            Self::Stopping => "stop",
            Self::Fault(_) => "fault",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(side) => write!(f, "{side} closed"),
            Self::Cut(side) => write!(f, "{side} closed without close_notify"),
            Self::Idle(limit) => write!(f, "idle for {limit:?}"),
            Self::HalfClosed(side, limit) => {
                write!(
                    f,
                    "{side} had closed, and nothing moved the other way for {limit:?}"
                )
            }
            Self::Failed(side, cause) => write!(f, "{side} failed: {cause}"),
            Self::Died(None) => f.write_str("backend ended without a Close frame"),
            Self::Died(Some(cause)) => write!(f, "backend failed without a Close frame: {cause}"),
            Self::Stopping => f.write_str("the server is stopping"),
            Self::Lifetime(limit) => write!(f, "open for {limit:?}, the longest that is allowed"),
            Self::Administrator { code: None } => f.write_str("ended by the administrator"),
            Self::Administrator { code: Some(code) } => {
                write!(f, "ended by the administrator with code {code}")
            }
            Self::Drained => f.write_str("drained"),
            Self::Removed => f.write_str("a reload removed or changed what it belongs to"),
            Self::Fault(cause) => write!(f, "fault: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reasons_are_sentences_for_people() {
        let second = Duration::from_secs(1);
        for (reason, sentence) in [
            (CloseReason::Closed(Side::Client), "client closed"),
            (
                CloseReason::Cut(Side::Client),
                "client closed without close_notify",
            ),
            (CloseReason::Idle(second), "idle for 1s"),
            (
                CloseReason::HalfClosed(Side::Backend, second),
                "backend had closed, and nothing moved the other way for 1s",
            ),
            (
                CloseReason::Failed(Side::Backend, "connection reset".to_owned()),
                "backend failed: connection reset",
            ),
            (
                CloseReason::Died(None),
                "backend ended without a Close frame",
            ),
            (
                CloseReason::Died(Some("connection reset".to_owned())),
                "backend failed without a Close frame: connection reset",
            ),
            (CloseReason::Stopping, "the server is stopping"),
            (
                CloseReason::Lifetime(second),
                "open for 1s, the longest that is allowed",
            ),
            (
                CloseReason::Administrator { code: Some(1001) },
                "ended by the administrator with code 1001",
            ),
            (
                CloseReason::Administrator { code: None },
                "ended by the administrator",
            ),
            (CloseReason::Drained, "drained"),
            (
                CloseReason::Removed,
                "a reload removed or changed what it belongs to",
            ),
            (CloseReason::Fault("panic".to_owned()), "fault: panic"),
        ] {
            assert_eq!(reason.to_string(), sentence);
        }
    }

    #[test]
    fn who_ended_a_tunnel_is_one_word() {
        let second = Duration::from_secs(1);
        for (reason, word) in [
            (CloseReason::Closed(Side::Client), "client"),
            (CloseReason::Cut(Side::Backend), "backend"),
            (CloseReason::HalfClosed(Side::Client, second), "client"),
            (CloseReason::Failed(Side::Backend, String::new()), "backend"),
            (CloseReason::Died(None), "backend"),
            (CloseReason::Idle(second), "idle"),
            (CloseReason::Lifetime(second), "lifetime"),
            (CloseReason::Drained, "drain"),
            (CloseReason::Administrator { code: None }, "administrator"),
            (CloseReason::Removed, "reload"),
            (CloseReason::Stopping, "stop"),
            (CloseReason::Fault(String::new()), "fault"),
        ] {
            assert_eq!(reason.who(), word);
        }
    }
}
