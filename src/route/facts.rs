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

impl Facts<'_> {
    /// Our port, where it is not the default one of the scheme that the client speaks.
    pub fn unusual_port(&self) -> Option<u16> {
        let usual = if self.is_secure { 443 } else { 80 };
        Some(self.local.port()).filter(|port| *port != usual)
    }
}

/// Is told each step of a decision: which rules were tried, and what came of them. Nothing is formatted unless somebody
/// listens.
pub type Tell<'a> = dyn FnMut(fmt::Arguments<'_>) + 'a;
