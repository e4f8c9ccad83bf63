//! What is known of a request beside its head: where it came from, and how.

use super::own_name::OwnName;
use crate::http::head::Version;
use crate::tls::Session;
use std::borrow::Cow;
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
    /// The client's TLS, if it speaks that to us.
    pub tls: Option<&'a Session>,
    /// The name of the virtual host in the configuration.
    pub server_name: &'a str,
    /// What this server calls itself towards the client, in one of the ways of `UseCanonicalName`.
    pub own_name: OwnName<'a>,
    /// The time, in seconds since 1970 began (UTC).
    pub unix_seconds: u64,
}

/// A fact that a rule can ask for by a name of httpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// `HTTPS`: `on` or `off`.
    Https,
    /// `REQUEST_SCHEME`: `https` or `http`.
    RequestScheme,
    /// `REMOTE_ADDR`
    RemoteAddr,
    /// `REMOTE_PORT`
    RemotePort,
    /// `CONN_REMOTE_ADDR`
    ConnRemoteAddr,
    /// `SERVER_ADDR`
    ServerAddr,
    /// `SERVER_PORT`
    ServerPort,
    /// `SERVER_NAME`
    ServerName,
    /// One of [`Session::NAMES`]; empty where there is none.
    Tls(&'static str),
}

impl Fact {
    /// All of them, by their names.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("HTTPS", Self::Https),
        ("REQUEST_SCHEME", Self::RequestScheme),
        ("REMOTE_ADDR", Self::RemoteAddr),
        ("REMOTE_PORT", Self::RemotePort),
        ("CONN_REMOTE_ADDR", Self::ConnRemoteAddr),
        ("SERVER_ADDR", Self::ServerAddr),
        ("SERVER_PORT", Self::ServerPort),
        ("SERVER_NAME", Self::ServerName),
    ];

    /// The fact of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let mut known = Self::NAMES.iter();
        known
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, fact)| *fact)
            .or_else(|| Session::named(name).map(Self::Tls))
    }
}

impl Facts<'_> {
    /// Whether the client speaks TLS to us.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// What is known. Addresses are written as people know them: an IPv4 address never in the form of an IPv6 one.
    pub fn get(&self, fact: Fact) -> Cow<'_, str> {
        let address = |socket: SocketAddr| socket.ip().to_canonical().to_string().into();
        match fact {
            Fact::Tls(name) => {
                let known = self.tls.and_then(|session| session.get(name));
                known.unwrap_or_default().into()
            }
            Fact::Https if self.is_secure() => "on".into(),
            Fact::Https => "off".into(),
            Fact::RequestScheme if self.is_secure() => "https".into(),
            Fact::RequestScheme => "http".into(),
            Fact::RemoteAddr => address(self.client),
            Fact::RemotePort => self.client.port().to_string().into(),
            Fact::ConnRemoteAddr => address(self.peer),
            Fact::ServerAddr => address(self.local),
            // httpd: the one in the client's Host, if UseCanonicalPhysicalPort is Off: whatever the client likes.
            Fact::ServerPort => self.local.port().to_string().into(),
            Fact::ServerName => self.own_name.name.into(),
        }
    }
}

/// A version as it is written in a request line.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// Is told each step of a decision: which rules were tried, and what came of them. Nothing is formatted unless somebody
/// listens.
pub type Tell<'a> = dyn FnMut(fmt::Arguments<'_>) + 'a;

/// Facts for the tests of all rooms that ask for some.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Facts, OwnName};
    use std::net::SocketAddr;

    /// Those of a request that has come through a proxy, over plain TCP, when 1970 was a second old.
    pub(crate) fn facts() -> Facts<'static> {
        Facts {
            client: SocketAddr::from(([192, 0, 2, 7], 4711)),
            peer: SocketAddr::from(([10, 0, 0, 1], 4712)),
            local: SocketAddr::from(([10, 0, 0, 2], 8080)),
            tls: None,
            server_name: "www.example",
            own_name: OwnName {
                name: "www.example",
                port: None,
            },
            unix_seconds: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::facts;
    use super::*;

    #[test]
    fn every_fact_has_its_name() {
        let mut facts = Facts {
            client: "[::ffff:192.0.2.7]:4711".parse().unwrap(),
            local: "[2001:db8::1]:80".parse().unwrap(),
            ..facts()
        };
        for (name, value) in [
            ("HTTPS", "off"),
            ("request_scheme", "http"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "4711"),
            ("CONN_REMOTE_ADDR", "10.0.0.1"),
            ("SERVER_ADDR", "2001:db8::1"),
            ("SERVER_PORT", "80"),
            ("SERVER_NAME", "www.example"),
        ] {
            let fact = Fact::named(name).unwrap();
            assert_eq!(facts.get(fact), value, "{name}");
        }
        assert_eq!(Fact::named("HTTP"), None);
        let session = Session::default();
        facts.tls = Some(&session);
        assert_eq!(facts.get(Fact::Https), "on");
        assert_eq!(facts.get(Fact::RequestScheme), "https");
    }
}
