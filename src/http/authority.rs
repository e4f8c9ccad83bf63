//! `host[:port]`, wherever it stands: a `Host` field, an absolute target, the URL of a backend
//! (RFC 3986 section 3.2).
//!
//! Narrower than the RFC: a name holds letters, digits, `-`, `.`, `_` and `~`. The other characters that its grammar
//! allows occur in no name that can be resolved or configured, and a comma would forge an element of `X-Forwarded-Host`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A host and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as written; an IPv6 address without its brackets.
    pub host: &'a str,
    /// The port as written, 1 to 65535.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `name`, `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    ///
    /// # Errors
    /// The first rule that `bytes` break.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AuthorityError> {
        let text = std::str::from_utf8(bytes).map_err(|_| AuthorityError::Character)?;
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(text) => {
                let (host, behind) = text.split_once(']').ok_or(AuthorityError::Address)?;
                if host.contains('%') {
                    return Err(AuthorityError::Zone);
                }
                host.parse::<Ipv6Addr>()
                    .map_err(|_| AuthorityError::Address)?;
                match behind.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if behind.is_empty() => (host, None),
                    None => return Err(AuthorityError::Port),
                }
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                check_name(host)?;
                (host, port)
            }
        };
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host, port })
    }
}

fn check_name(host: &str) -> Result<(), AuthorityError> {
    if host.is_empty() {
        return Err(AuthorityError::Empty);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !host.bytes().all(allowed) {
        return Err(AuthorityError::Character);
    }
    // No resolver knows such a name, and a wildcard of ServerAlias would.
    if host.contains("..") {
        return Err(AuthorityError::Label);
    }
    // Resolvers take "127.1" or "2130706433" for addresses; those who compare names do not.
    let numeric = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(AuthorityError::Address);
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    // `parse` would take a plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(AuthorityError::Port),
    }
}

/// What is wrong with a `host[:port]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityError {
    /// No host.
    Empty,
    /// `user@` or `user:password@`.
    UserInfo,
    /// An IPv6 zone, as in `[fe80::1%eth0]`: it means something on one machine only.
    Zone,
    /// Brackets without an IPv6 address, or digits and dots that are no IPv4 address.
    Address,
    /// A character that occurs in no host name.
    Character,
    /// Two dots in a row.
    Label,
    /// Not a number from 1 to 65535.
    Port,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::UserInfo => "it holds user information (\"@\")",
            Self::Zone => "it holds an IPv6 zone (\"%\")",
            Self::Address => "the host is not a valid IP address",
            Self::Character => "the host holds a character that no host name has",
            Self::Label => "the host has two dots in a row",
            Self::Port => "the port is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for AuthorityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_with_and_without_port() {
        for (text, host, port) in [
            ("example.org", "example.org", None),
            ("Example.ORG:8080", "Example.ORG", Some(8080)),
            ("a_b-c~d.:1", "a_b-c~d.", Some(1)),
            ("192.0.2.1", "192.0.2.1", None),
            ("[::1]", "::1", None),
            ("[2001:db8::1]:65535", "2001:db8::1", Some(65535)),
            ("1.2.3.example", "1.2.3.example", None),
        ] {
            assert_eq!(
                Authority::parse(text.as_bytes()),
                Ok(Authority { host, port }),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use AuthorityError::*;
        for (text, error) in [
            ("", Empty),
            (":80", Empty),
            ("user@host", UserInfo),
            ("user:pw@host:80", UserInfo),
            ("[fe80::1%eth0]", Zone),
            ("[::1", Address),
            ("[]", Address),
            ("[1.2.3.4]", Address),
            ("[v1.x]", Address),
            ("127.1", Address),
            ("2130706433", Address),
            ("256.0.0.1", Address),
            ("..", Label),
            ("a..example", Label),
            ("1..2", Label),
            ("a b", Character),
            ("a,b", Character),
            ("a/b", Character),
            ("a%41", Character),
            ("b\u{fc}cher", Character),
            ("::1", Empty),
            ("host:", Port),
            ("host:0", Port),
            ("host:65536", Port),
            ("host:+1", Port),
            ("host:8 0", Port),
            ("[::1]80", Port),
            ("[::1]:", Port),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Authority::parse(b"\xff"), Err(Character));
    }
}
