//! How a request has come to us, as far as that is known before its head is looked at.

use super::facts::Facts;
use super::own_name::OwnName;
use crate::tls::Session;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of a request when its head has been read.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The client, as far as the connection tells.
    pub client: SocketAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// The client's TLS, if it speaks that to us.
    pub tls: Option<&'a Session>,
    /// When the connection was accepted.
    pub received: SystemTime,
    /// How long ago that is.
    pub took: Duration,
}

impl<'a> Arrival<'a> {
    /// Our port, where it is not the default one of the scheme that the client speaks.
    pub fn unusual_port(&self) -> Option<u16> {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        Some(self.local.port()).filter(|port| *port != usual)
    }

    /// What is known of it in a virtual host that calls itself so.
    pub fn facts(&self, server_name: &'a str, own_name: OwnName<'a>) -> Facts<'a> {
        let now = (self.received + self.took).duration_since(UNIX_EPOCH);
        Facts {
            client: self.client,
            peer: self.peer,
            local: self.local,
            tls: self.tls,
            server_name,
            own_name,
            unix_seconds: now.unwrap_or_default().as_secs(),
        }
    }
}
