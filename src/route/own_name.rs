//! How this server calls itself when it speaks of itself to a client: httpd `UseCanonicalName`.

use crate::http::authority::Authority;
use std::fmt;
use std::sync::Arc;

/// Whose word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CanonicalName {
    /// That of the client: its `Host`.
    #[default]
    Off,
    /// That of the configuration: `ServerName`.
    On,
}

/// What a virtual host is called. httpd: `ServerName`, `UseCanonicalName`.
#[derive(Debug, Clone)]
pub struct HostName {
    /// `ServerName`, without scheme and port; an IPv6 address without its brackets.
    pub server_name: Arc<str>,
    /// The port in `ServerName`, if there is one.
    pub port: Option<u16>,
    /// Whose word counts where this server names itself.
    pub canonical: CanonicalName,
}

/// A name and the port that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnName<'a> {
    /// The name; an IPv6 address without its brackets.
    pub name: &'a str,
    /// The port, unless it is the default one of the scheme.
    pub port: Option<u16>,
}

impl CanonicalName {
    /// Parses the word behind `UseCanonicalName`.
    ///
    /// # Errors
    /// Anything but `On` and `Off`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "dns" => Err(format!(
                "{text:?} is not supported, since addresses are not looked up; write On, and the name in ServerName"
            )),
            _ => Err(format!("expected On or Off, found {text:?}")),
        }
    }
}

impl Default for HostName {
    fn default() -> Self {
        Self {
            server_name: Arc::from("localhost"),
            port: None,
            canonical: CanonicalName::default(),
        }
    }
}

impl HostName {
    /// The name towards a client that has sent this `Host` to our port `local`.
    pub fn towards<'a>(
        &'a self,
        host: Option<&'a [u8]>,
        local: u16,
        is_secure: bool,
    ) -> OwnName<'a> {
        let default = if is_secure { 443 } else { 80 };
        let asked = host
            .filter(|_| self.canonical == CanonicalName::Off)
            .and_then(|host| Authority::parse(host).ok());
        let (name, port) = match asked {
            // Where it names no port, the client has come by the default one, whatever it is here.
            // httpd: takes the port of ServerName or <VirtualHost> for it.
            Some(asked) => (asked.host, asked.port.unwrap_or(default)),
            None => (&*self.server_name, self.port.unwrap_or(local)),
        };
        let port = Some(port).filter(|port| *port != default);
        OwnName { name, port }
    }
}

impl fmt::Display for OwnName<'_> {
    /// `name` or `name:port`, as it stands in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]", self.name)?,
            false => f.write_str(self.name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_or_the_configuration_names_the_server() {
        use CanonicalName::{Off, On};
        let (bare, full) = (("www.example", None), ("www.example", Some(8443)));
        let address = ("2001:db8::1", Some(81));
        for (mode, configured, host, local, is_secure, expected) in [
            (Off, bare, Some("other:81"), 8080, false, "other:81"),
            (Off, bare, Some("other:80"), 8080, false, "other"),
            (Off, bare, Some("other:80"), 8080, true, "other:80"),
            (Off, full, Some("other"), 8080, false, "other"),
            (Off, full, Some("[::1]:443"), 8080, true, "[::1]"),
            (Off, bare, None, 8080, false, "www.example:8080"),
            (Off, bare, Some(""), 80, false, "www.example"),
            (On, bare, Some("other:81"), 8080, false, "www.example:8080"),
            (On, bare, Some("other"), 443, true, "www.example"),
            (On, full, Some("other"), 443, true, "www.example:8443"),
            (On, address, None, 80, false, "[2001:db8::1]:81"),
        ] {
            let host = host.map(str::as_bytes);
            let (name, port) = configured;
            let called = HostName {
                server_name: name.into(),
                port,
                canonical: mode,
            };
            let own = called.towards(host, local, is_secure);
            assert_eq!(
                own.to_string(),
                expected,
                "{mode:?} {configured:?} {host:?}"
            );
        }
    }

    #[test]
    fn words_are_known_in_any_case() {
        assert_eq!(CanonicalName::parse("on"), Ok(CanonicalName::On));
        assert_eq!(CanonicalName::parse("Off"), Ok(CanonicalName::default()));
        for (text, problem) in [("DNS", "not looked up"), ("yes", "expected On or Off")] {
            let found = CanonicalName::parse(text).unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
    }
}
