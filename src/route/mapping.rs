//! One `ProxyPass` line.

use super::url::BackendUrl;
use crate::handshake::Upgrade;
use std::fmt;
use std::time::Duration;

/// One mapping: a path prefix and the backend that serves what is below it. httpd: `ProxyPass`.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The path prefix as configured. Begins with `/`.
    pub prefix: String,
    /// Where it leads.
    pub url: BackendUrl,
    /// `connectiontimeout=`: time for the TCP connect; unset means as `timeout`.
    pub connect_timeout: Option<Duration>,
    /// `timeout=`; unset means `ProxyTimeout`, else `Timeout`.
    pub timeout: Option<Duration>,
    /// `upgrade=`
    pub upgrade: Upgrade,
    /// Where it was configured: `file:line`.
    pub origin: String,
}

impl Mapping {
    /// What of a canonical `path` is behind the prefix, or `None` if the path is not below it.
    ///
    /// A run of slashes in the prefix stands for any run of slashes, and a prefix ends where a segment does: `/ws` is not a
    /// prefix of `/wsx`. (httpd `alias_match`.)
    pub fn rest<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let mut rest = path;
        let mut prefix = self.prefix.as_bytes();
        while let Some((expected, behind)) = prefix.split_first() {
            rest = rest.strip_prefix(&[*expected])?;
            prefix = behind;
            if *expected == b'/' {
                rest = without_slashes(rest);
                prefix = without_slashes(prefix);
            }
        }
        let at_boundary = self.prefix.ends_with('/') || matches!(rest, [] | [b'/', ..]);
        at_boundary.then_some(rest)
    }
}

impl fmt::Display for Mapping {
    /// How logs name it: `ProxyPass "/ws2/"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyPass {:?}", self.prefix)
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| *byte != b'/');
    end.and_then(|end| path.get(end..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(prefix: &str) -> Mapping {
        Mapping {
            prefix: prefix.to_owned(),
            url: BackendUrl::parse("ws://b/").unwrap(),
            connect_timeout: None,
            timeout: None,
            upgrade: Upgrade::default(),
            origin: "test:1".to_owned(),
        }
    }

    #[test]
    fn prefixes_end_where_segments_end() {
        for (prefix, path, rest) in [
            ("/ws", "/ws", Some("")),
            ("/ws", "/ws/", Some("/")),
            ("/ws", "/ws/a", Some("/a")),
            ("/ws", "/wsx", None),
            ("/ws", "/w", None),
            ("/ws", "/WS", None),
            ("/ws/", "/ws", None),
            ("/ws/", "/ws/", Some("")),
            ("/ws/", "/ws/a", Some("a")),
            ("/", "/", Some("")),
            ("/", "/a", Some("a")),
            ("/a/b", "/a/b/c", Some("/c")),
            ("/a/b", "/a", None),
        ] {
            let found = mapping(prefix).rest(path.as_bytes());
            assert_eq!(found, rest.map(str::as_bytes), "{prefix} {path}");
        }
    }

    #[test]
    fn runs_of_slashes_match_each_other() {
        for (prefix, path, rest) in [
            ("//a", "/a/x", Some("/x")),
            ("/a//b", "/a/b", Some("")),
            ("/a/b", "/a///b", Some("")),
            ("/a//", "/a/x", Some("x")),
            ("/a/", "/a//x", Some("x")),
            ("/a//", "/a", None),
        ] {
            let found = mapping(prefix).rest(path.as_bytes());
            assert_eq!(found, rest.map(str::as_bytes), "{prefix} {path}");
        }
    }

    #[test]
    fn logs_name_a_mapping_as_it_was_written() {
        assert_eq!(mapping("/ws2/").to_string(), "ProxyPass \"/ws2/\"");
    }
}
