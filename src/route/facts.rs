//! What is known of a request beside its head: where it came from, and how.

use std::fmt;
use std::net::SocketAddr;

/// What the connection, the virtual host and the clock say about a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The client, as logs and rules shall see it. Differs from [`Self::peer`] behind a trusted proxy.
    pub client: SocketAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// Whether the client speaks TLS to us.
    pub is_secure: bool,
    /// The name of the virtual host, in one of the ways of `UseCanonicalName`.
    pub server_name: &'a str,
    /// The time, in seconds since 1970 began (UTC).
    pub unix_seconds: u64,
}

/// Is told each step of a decision: which rules were tried, and what came of them. Nothing is formatted unless somebody
/// listens.
pub type Tell<'a> = dyn FnMut(fmt::Arguments<'_>) + 'a;
