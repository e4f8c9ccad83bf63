//! All that is known of one request: what its access line prints.

use std::fmt;
use std::time::Duration;

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
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Backend => "backend",
        })
    }
}

/// Why a tunnel ended. Not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// This side ended its direction first, and the other followed.
    Closed(Side),
    /// Nothing moved for as long as `ProxyWebsocketIdleTimeout` allows.
    Idle(Duration),
    /// One side had ended its direction, and the other did not move within the bound.
    HalfClosed(Side, Duration),
    /// Reading from or writing to this side failed.
    Failed(Side, String),
    /// The server is stopping.
    Stopping,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(side) => write!(f, "{side} closed"),
            Self::Idle(limit) => write!(f, "idle for {limit:?}"),
            Self::HalfClosed(side, limit) => {
                write!(
                    f,
                    "{side} had closed, and nothing moved the other way for {limit:?}"
                )
            }
            Self::Failed(side, cause) => write!(f, "{side} failed: {cause}"),
            Self::Stopping => f.write_str("the server is stopping"),
        }
    }
}
