//! Whether a connection goes on behind a message (RFC 9112 section 9.3), and what an answer says about it.

use super::head::Version;
use super::headers::Headers;
use std::io::Write;
use std::time::Duration;

/// Whether the sender of a message keeps its connection open behind it, as far as the message tells.
pub fn stays(headers: &Headers, version: Version) -> bool {
    !headers.has_token("Connection", "close")
        && (version == Version::Http11 || headers.has_token("Connection", "keep-alive"))
}

/// Whether the recipient of a request may take all that follows on its connection for the same client's (RFC 4559 section 6;
/// NTLM does so as well).
pub fn authenticates_connection(headers: &Headers) -> bool {
    let is_one = |value: &[u8]| {
        let scheme = value.split(|byte| *byte == b' ').next();
        let schemes = [&b"Negotiate"[..], b"NTLM"];
        scheme.is_some_and(|scheme| schemes.iter().any(|one| one.eq_ignore_ascii_case(scheme)))
    };
    let fields = ["Authorization", "Proxy-Authorization"];
    fields.iter().any(|name| headers.all(name).any(is_one))
}

/// What becomes of the client's connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// It ends.
    #[default]
    Ends,
    /// It stays, which goes without saying in HTTP/1.1.
    Stays,
    /// It stays, and the answer says so to a client that has asked for it. httpd: `ap_set_keepalive`.
    StaysAsAsked {
        /// How long the server waits for the next request.
        timeout: Duration,
        /// How many requests may follow; none: any number.
        left: Option<u64>,
    },
}

impl Afterwards {
    /// That of a request whose connection the server would keep so long for so many further requests.
    pub fn of_request(
        headers: &Headers,
        version: Version,
        timeout: Duration,
        left: Option<u64>,
    ) -> Self {
        if left == Some(0) || !stays(headers, version) {
            Self::Ends
        } else if headers.has_token("Connection", "keep-alive") {
            Self::StaysAsAsked { timeout, left }
        } else {
            Self::Stays
        }
    }

    /// Whether another request may follow.
    pub fn stays(self) -> bool {
        self != Self::Ends
    }

    /// Appends the fields that say so. `names_upgrade`: there is an `Upgrade` field, which `Connection` has to name.
    pub fn push_fields(self, names_upgrade: bool, out: &mut Vec<u8>) {
        let upgrade = if names_upgrade { ", Upgrade" } else { "" };
        // Writing to a vector does not fail.
        let _ = match self {
            Self::Ends => write!(out, "Connection: close{upgrade}\r\n"),
            Self::Stays if names_upgrade => write!(out, "Connection: Upgrade\r\n"),
            Self::Stays => Ok(()),
            Self::StaysAsAsked { timeout, left } => {
                let _ = write!(out, "Keep-Alive: timeout={}", timeout.as_secs());
                if let Some(left) = left {
                    let _ = write!(out, ", max={left}");
                }
                write!(out, "\r\nConnection: Keep-Alive{upgrade}\r\n")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(connection: &[&str]) -> Headers {
        let mut headers = Headers::default();
        for value in connection {
            headers.push("Connection", value.as_bytes());
        }
        headers
    }

    #[test]
    fn the_version_and_the_field_say_whether_a_connection_stays() {
        for (version, connection, expected) in [
            (Version::Http11, &[][..], true),
            (Version::Http11, &["Close"], false),
            (Version::Http11, &["keep-alive"], true),
            (Version::Http11, &["x, close"], false),
            (Version::Http11, &["keep-alive", "close"], false),
            (Version::Http11, &["closed"], true),
            (Version::Http10, &[], false),
            (Version::Http10, &["Keep-Alive"], true),
            (Version::Http10, &["Keep-Alive, close"], false),
        ] {
            assert_eq!(
                stays(&fields(connection), version),
                expected,
                "{connection:?}"
            );
        }
    }

    #[test]
    fn some_credentials_are_those_of_a_connection() {
        for (name, value, expected) in [
            ("Authorization", "Negotiate abc", true),
            ("authorization", "ntlm", true),
            ("Proxy-Authorization", "NTLM TlRM", true),
            ("Authorization", "Basic TlRM", false),
            ("Authorization", "Bearer NTLM", false),
            ("X-Authorization", "NTLM TlRM", false),
        ] {
            let mut headers = Headers::default();
            headers.push(name, value.as_bytes());
            assert_eq!(authenticates_connection(&headers), expected, "{value}");
        }
    }

    #[test]
    fn an_answer_says_what_becomes_of_its_connection() {
        let timeout = Duration::from_secs(5);
        for (version, connection, left, names_upgrade, expected) in [
            (Version::Http11, &[][..], Some(9), false, ""),
            (Version::Http11, &[], None, true, "Connection: Upgrade\r\n"),
            (
                Version::Http11,
                &[],
                Some(0),
                false,
                "Connection: close\r\n",
            ),
            (
                Version::Http11,
                &["close"],
                Some(9),
                true,
                "Connection: close, Upgrade\r\n",
            ),
            (
                Version::Http10,
                &[],
                Some(9),
                false,
                "Connection: close\r\n",
            ),
            (
                Version::Http10,
                &["keep-alive"],
                Some(9),
                false,
                "Keep-Alive: timeout=5, max=9\r\nConnection: Keep-Alive\r\n",
            ),
            (
                Version::Http11,
                &["Keep-Alive"],
                None,
                true,
                "Keep-Alive: timeout=5\r\nConnection: Keep-Alive, Upgrade\r\n",
            ),
        ] {
            let afterwards = Afterwards::of_request(&fields(connection), version, timeout, left);
            let mut out = Vec::new();
            afterwards.push_fields(names_upgrade, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{connection:?}");
            assert_eq!(afterwards.stays(), !expected.contains("close"));
        }
    }
}
