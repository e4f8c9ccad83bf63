//! The addresses in answers. Source: httpd proxy_util.c `ap_proxy_location_reverse_map`.

use crate::http::authority::Authority;
use crate::route::destination::{BalancerUrl, ProxyUrl};
use crate::route::facts::Facts;
use crate::route::url::{BackendUrl, Scheme, wire_path};
use std::fmt;
use std::path::Path;

/// One line of `ProxyPassReverse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    inside: Inside,
    outside: Outside,
}

/// What an address begins with when a backend writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inside {
    Url(BackendUrl),
    /// That of any member of a balancer; a line for each of them stands in its place when all are known.
    Balancer(BalancerUrl),
    /// This path, at whatever host.
    Path(String),
}

/// What it begins with when a client shall read it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outside {
    /// This path, at the host that the client has asked.
    Path(String),
    Url(String),
}

impl Address {
    pub(super) fn parse(outside: &str, inside: &str, server_root: &Path) -> Result<Self, String> {
        let outside = if outside.contains("://") {
            let mut url = BackendUrl::parse(outside)?;
            // What the backend writes must not become a part of the host.
            if url.path.is_empty() {
                url.path.push('/');
            }
            Outside::Url(url.to_string())
        } else {
            Outside::Path(path(outside)?)
        };
        let inside = match inside {
            "!" => {
                return Err(
                    "\"!\": answers for what is excluded are not changed; remove the line"
                        .to_owned(),
                );
            }
            text if text.starts_with('/') => Inside::Path(path(text)?),
            text => match ProxyUrl::configured(text, server_root)? {
                ProxyUrl::Backend(url) => Inside::Url(url),
                ProxyUrl::Balancer(url) => Inside::Balancer(url),
            },
        };
        Ok(Self { inside, outside })
    }

    pub(super) fn balancer(&self) -> Option<&BalancerUrl> {
        match &self.inside {
            Inside::Balancer(url) => Some(url),
            Inside::Url(_) | Inside::Path(_) => None,
        }
    }

    pub(super) fn at_member(&self, url: &BalancerUrl, member: &BackendUrl) -> Self {
        let path = if url.path.is_empty() {
            member.path.clone()
        } else {
            member.below(&url.path)
        };
        Self {
            inside: Inside::Url(BackendUrl {
                path,
                ..member.clone()
            }),
            outside: self.outside.clone(),
        }
    }

    pub(super) fn doubt(&self) -> Option<String> {
        let written = self.inside.to_string();
        let known = self.outside.text();
        let is_glued = written.ends_with('/') && !known.ends_with('/');
        is_glued.then(|| {
            format!(
                "\"{written}\" ends in \"/\" and \"{known}\" does not, so \"{written}x\" becomes \"{known}x\""
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.inside, self.outside.text())
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Balancer(url) => url.fmt(f),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// The address in `value` as the client knows it; none if no line has a say in it, or it is that already.
///
/// The first line that fits counts. If there is none, the first one that would fit if the backend had written `ws://` for
/// `http://` or the other way round: both name the same place, and a WebSocket server that answers an upgrade with a
/// redirection has been asked over HTTP.
// httpd: compares the texts, so that none of the latter fits.
pub(super) fn mapped<'a>(
    lines: &(impl Iterator<Item = &'a Address> + Clone),
    value: &[u8],
    facts: &Facts<'_>,
) -> Option<Vec<u8>> {
    let said = Said::parse(value)?;
    let first = |compare: Compare| {
        let mut lines = lines.clone();
        lines.find_map(|line| Some((line, line.inside.behind(&said, compare)?)))
    };
    let (line, rest) = first(Compare::Exactly).or_else(|| first(Compare::Kin))?;
    // The slash at the end of what is put in stands for the one that the rest has.
    // httpd: writes "//x" for "http://b/x" where the line says / and http://b.
    let is_doubled = line.outside.text().ends_with('/') && !line.inside.path().ends_with('/');
    let rest = match rest {
        [b'/', behind @ ..] if is_doubled => behind,
        _ => rest,
    };
    let new = line.outside.followed_by(rest, said.is_tunnel(), facts);
    (new != value).then_some(new)
}

/// Whether `ws` and `http` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Exactly,
    Kin,
}

/// The parts of an address in an answer.
struct Said<'v> {
    origin: Option<Origin<'v>>,
    /// The path and what is behind it.
    tail: &'v [u8],
}

struct Origin<'v> {
    scheme: Scheme,
    host: &'v str,
    port: u16,
}

impl<'v> Said<'v> {
    /// None for what no line can name: it is relative to what the client has asked for, or no URL of ours.
    // httpd: looks for "://" anywhere, so that a query with an address in it passes for one.
    fn parse(value: &'v [u8]) -> Option<Self> {
        if value.starts_with(b"/") {
            // Behind two slashes there is a host.
            let is_path = !value.starts_with(b"//");
            return is_path.then_some(Self {
                origin: None,
                tail: value,
            });
        }
        let colon = value.iter().position(|byte| *byte == b':')?;
        let (scheme, behind) = value.split_at_checked(colon)?;
        let scheme = Scheme::named(std::str::from_utf8(scheme).ok()?)?;
        let behind = behind.strip_prefix(b"://")?;
        let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
        let end = behind.iter().position(ends).unwrap_or(behind.len());
        let (authority, tail) = behind.split_at_checked(end)?;
        let authority = Authority::parse(authority).ok()?;
        Some(Self {
            origin: Some(Origin {
                scheme,
                host: authority.host,
                port: authority.port.unwrap_or(scheme.default_port()),
            }),
            tail,
        })
    }

    fn is_tunnel(&self) -> bool {
        let origin = self.origin.as_ref();
        origin.is_some_and(|origin| origin.scheme.is_tunnel())
    }
}

impl Inside {
    fn path(&self) -> &str {
        match self {
            Self::Url(url) => &url.path,
            Self::Balancer(url) => &url.path,
            Self::Path(path) => path,
        }
    }

    /// What stands behind this in an address that begins with it.
    // httpd: compares text with text, so that "http://b" fits "http://b.example/" and ":80" is told from nothing.
    fn behind<'v>(&self, said: &Said<'v>, compare: Compare) -> Option<&'v [u8]> {
        if matches!(self, Self::Balancer(_)) {
            // No answer has such an address.
            return None;
        }
        if let Self::Url(url) = self {
            let origin = said.origin.as_ref()?;
            let is_same = url.port == origin.port
                && url.host.eq_ignore_ascii_case(origin.host)
                && match compare {
                    Compare::Exactly => url.scheme == origin.scheme,
                    Compare::Kin => url.scheme.is_tls() == origin.scheme.is_tls(),
                };
            is_same.then_some(())?;
        }
        let path = self.path();
        // Without a path an address means the root (RFC 9110 section 4.2.3).
        if path == "/" && !said.tail.starts_with(b"/") {
            return Some(said.tail);
        }
        let (start, rest) = said.tail.split_at_checked(path.len())?;
        start.eq_ignore_ascii_case(path.as_bytes()).then_some(rest)
    }
}

impl Outside {
    fn text(&self) -> &str {
        match self {
            Self::Path(text) | Self::Url(text) => text,
        }
    }

    /// The whole address.
    fn followed_by(&self, rest: &[u8], is_tunnel: bool, facts: &Facts<'_>) -> Vec<u8> {
        let mut address = String::new();
        if let Self::Path(_) = self {
            // httpd: writes http:// or https:// in any case, which no WebSocket client takes.
            let scheme = match (is_tunnel, facts.is_secure) {
                (false, false) => Scheme::Http,
                (false, true) => Scheme::Https,
                (true, false) => Scheme::Ws,
                (true, true) => Scheme::Wss,
            };
            address = format!("{}://{}", scheme.name(), facts.own_name);
        }
        address.push_str(self.text());
        let mut address = address.into_bytes();
        address.extend_from_slice(rest);
        address
    }
}

/// A configured path as it goes on the wire.
fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("the path \"{text}\" does not begin with \"/\""));
    }
    if text.contains(['?', '#']) {
        return Err(format!(
            "\"{text}\" has a query or a fragment; what an address begins with ends before both"
        ));
    }
    wire_path(text).map_err(|error| format!("\"{text}\": {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::facts;
    use super::*;
    use crate::http::noise::Noise;

    fn line(outside: &str, inside: &str) -> Address {
        Address::parse(outside, inside, Path::new("/etc")).unwrap()
    }

    /// What becomes of an address at `http://front`.
    fn becomes(lines: &[(&str, &str)], value: &str) -> String {
        let lines: Vec<_> = lines.iter().map(|(a, b)| line(a, b)).collect();
        let new = mapped(
            &lines.iter(),
            value.as_bytes(),
            &facts("front", None, false),
        );
        let new = new.map(|new| String::from_utf8(new).unwrap());
        new.unwrap_or_else(|| value.to_owned())
    }

    #[test]
    fn an_address_of_the_backend_becomes_one_of_ours() {
        for (outside, inside, value, expected) in [
            (
                "/app/",
                "http://b/",
                "http://b/x?y#z",
                "http://front/app/x?y#z",
            ),
            ("/app/", "http://b/", "http://b/", "http://front/app/"),
            ("/", "http://b/", "http://b/x", "http://front/x"),
            ("/app", "http://b/app", "http://b/app", "http://front/app"),
            (
                "/app",
                "http://b/app",
                "http://b/app/x",
                "http://front/app/x",
            ),
            (
                "/app",
                "http://b/app",
                "http://b/app?x",
                "http://front/app?x",
            ),
            // Case does not count, not even in the path, as in httpd.
            (
                "/app/",
                "HTTP://B/Base/",
                "hTTp://b/bASE/X",
                "http://front/app/X",
            ),
            // The default port is the one that is meant where there is none.
            ("/", "http://b/", "http://b:80/x", "http://front/x"),
            ("/", "http://b:80/", "http://b/x", "http://front/x"),
            ("/", "https://b:443", "https://b/x", "http://front/x"),
            ("/", "http://b:8080/", "http://b:8080/x", "http://front/x"),
            (
                "/",
                "http://[::1]:8080/",
                "http://[::1]:8080/x",
                "http://front/x",
            ),
            // No path is the root.
            ("/app/", "http://b/", "http://b", "http://front/app/"),
            ("/app/", "http://b/", "http://b?x", "http://front/app/?x"),
            ("/app", "http://b", "http://b", "http://front/app"),
            ("/app", "http://b", "http://b/x", "http://front/app/x"),
            ("/app/", "http://b/", "http://b//x", "http://front/app//x"),
            // One slash is enough.
            ("/", "http://b", "http://b/x", "http://front/x"),
            (
                "/app/",
                "http://b/app",
                "http://b/app/x",
                "http://front/app/x",
            ),
            ("/app/", "http://b/app", "http://b/app", "http://front/app/"),
            // As it is written, which doubts() tells.
            ("/app", "http://b/", "http://b/x", "http://front/appx"),
        ] {
            let found = becomes(&[(outside, inside)], value);
            assert_eq!(found, expected, "{outside} {inside}: {value}");
        }
    }

    #[test]
    fn lines_may_name_paths_other_fronts_tunnels_and_sockets() {
        for (outside, inside, value, expected) in [
            // A path is one at any host.
            ("/app/", "/base/", "/base/x?y", "http://front/app/x?y"),
            (
                "/app/",
                "/base/",
                "http://any.example:81/base/x",
                "http://front/app/x",
            ),
            (
                "/app/",
                "/base/",
                "https://any.example/BASE/x",
                "http://front/app/x",
            ),
            ("/app/", "/", "http://any.example", "http://front/app/"),
            // The client knows another address than we do.
            (
                "https://www.example/app/",
                "http://b/",
                "http://b/x",
                "https://www.example/app/x",
            ),
            (
                "https://www.example",
                "http://b/",
                "http://b/x",
                "https://www.example/x",
            ),
            (
                "https://www.example",
                "http://b/",
                "http://b/.evil",
                "https://www.example/.evil",
            ),
            (
                "https://www.example:8443/a",
                "http://b/a",
                "http://b/a",
                "https://www.example:8443/a",
            ),
            // Whatever is spoken to the backend, a page stays a page and a tunnel a tunnel.
            ("/ws/", "ws://b/", "ws://b/x", "ws://front/ws/x"),
            ("/ws/", "ws://b/", "http://b/login", "http://front/ws/login"),
            (
                "/ws/",
                "wss://b/",
                "https://b:443/login",
                "http://front/ws/login",
            ),
            ("/app/", "http://b/", "ws://b/x", "ws://front/app/x"),
            // No answer names a socket.
            (
                "/",
                "unix:/run/a.sock|http://b/",
                "http://b/x",
                "http://front/x",
            ),
            (
                "/",
                "unix:/run/a.sock|ws:",
                "http://localhost/x",
                "http://front/x",
            ),
            // What a path needs on the wire is written that way.
            (
                "/b\u{fc}ro/",
                "http://b/",
                "http://b/%e4",
                "http://front/b%C3%BCro/%e4",
            ),
            (
                "/",
                "http://b/b\u{fc}ro/",
                "http://b/b%c3%bcro/x",
                "http://front/x",
            ),
        ] {
            let found = becomes(&[(outside, inside)], value);
            assert_eq!(found, expected, "{outside} {inside}: {value}");
        }
    }

    #[test]
    fn other_addresses_stay_as_they_are() {
        for (outside, inside, value) in [
            ("/app/", "http://b/", "http://front/app/x"),
            ("/app/", "http://b/", "http://other/x"),
            ("/app/", "http://b/", "http://b.example/x"),
            ("/app/", "http://b", "http://b.example/x"),
            ("/app/", "http://b", "http://bb/x"),
            ("/app/", "http://b", "http://b@evil/x"),
            ("/app/", "http://b", "http://b:8080/x"),
            ("/app/", "http://b:8080", "http://b:80801/x"),
            ("/app/", "http://b:8080", "http://b/x"),
            ("/app/", "http://b/", "https://b/x"),
            ("/app/", "ws://b/", "https://b/x"),
            ("/app/", "http://b:443/", "https://b/x"),
            ("/app/", "http://b/base/", "http://b/bas"),
            ("/app/", "http://b/base/", "http://b"),
            ("/app/", "http://b/", "/x"),
            ("/app/", "http://b/", "//b/x"),
            ("/app/", "http://b/", "x"),
            ("/app/", "http://b/", "?http://b/"),
            ("/app/", "http://b/", ""),
            ("/app/", "http://b/", " http://b/x"),
            ("/app/", "http://b/", "http:/b/x"),
            ("/app/", "http://b/", "http:"),
            ("/app/", "http://b/", "http://"),
            ("/app/", "http://b/", "ftp://b/x"),
            ("/app/", "http://b/", "http://user@b/x"),
            ("/app/", "http://b/", "http://b:/x"),
            ("/app/", "http://b/", "http://b,c/x"),
            ("/app/", "http://[::1]/", "http://::1/"),
            ("/app/", "/", "//other/x"),
            ("/app/", "/base/", "/other"),
            ("/app/", "/base/", "base/x"),
            ("/app/", "/page/", "/login?next=http://b/page/x"),
            ("/app/", "/base/", "ftp://b/base/x"),
            // It says already what it would say then.
            ("/", "http://front/", "http://front/x"),
        ] {
            let found = becomes(&[(outside, inside)], value);
            assert_eq!(found, value, "{outside} {inside}");
        }
        assert_eq!(becomes(&[], "http://b/"), "http://b/");
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let lines = [
            ("/one/", "http://b/1/"),
            ("/any/", "http://b/"),
            ("/two/", "http://b/2/"),
            ("/c/", "http://c/"),
        ];
        for (value, expected) in [
            ("http://b/1/x", "http://front/one/x"),
            ("http://b/2/x", "http://front/any/2/x"),
            ("http://c/2/x", "http://front/c/2/x"),
        ] {
            assert_eq!(becomes(&lines, value), expected);
        }
        // People write the tunnel first.
        let lines = [("/ws/", "ws://b/"), ("/", "http://b/")];
        for (value, expected) in [
            ("http://b/login", "http://front/login"),
            ("ws://b/x", "ws://front/ws/x"),
        ] {
            assert_eq!(becomes(&lines, value), expected);
        }
    }

    #[test]
    fn our_own_name_is_the_one_that_the_client_knows() {
        let lines = [line("/a/", "http://b/"), line("/t/", "ws://t/")];
        for (name, port, is_secure, page, tunnel) in [
            (
                "front",
                Some(8080),
                false,
                "http://front:8080/a/x",
                "ws://front:8080/t/x",
            ),
            ("front", None, true, "https://front/a/x", "wss://front/t/x"),
            (
                "::1",
                Some(81),
                true,
                "https://[::1]:81/a/x",
                "wss://[::1]:81/t/x",
            ),
        ] {
            let facts = facts(name, port, is_secure);
            let found =
                |value: &[u8]| String::from_utf8(mapped(&lines.iter(), value, &facts).unwrap());
            assert_eq!(found(b"http://b/x").unwrap(), page);
            assert_eq!(found(b"ws://t/x").unwrap(), tunnel);
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass() {
        let lines = [line("/a/", "http://b/")];
        let facts = facts("front", None, false);
        assert_eq!(
            mapped(&lines.iter(), b"http://b/\xe4\xff", &facts).unwrap(),
            b"http://front/a/\xe4\xff"
        );
        assert_eq!(mapped(&lines.iter(), b"http://\xe4/", &facts), None);
        assert_eq!(mapped(&lines.iter(), b"\xe4://b/", &facts), None);
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        let root = Path::new("/");
        for (outside, inside, problem) in [
            ("app/", "http://b/", "does not begin with"),
            ("", "http://b/", "does not begin with"),
            ("/app/?x", "http://b/", "a query or a fragment"),
            ("/app/%zz", "http://b/", "/app/%zz"),
            (
                "ftp://www.example/",
                "http://b/",
                "ftp:// backends are not supported",
            ),
            ("https://www example/", "http://b/", "https://www example/"),
            ("unix:/a|http://b/", "http://b/", "a Unix socket"),
            ("/app/", "!", "remove the line"),
            ("/app/", "b", "not a URL"),
            ("/app/", "", "not a URL"),
            ("/app/", "gopher://b/", "gopher://"),
            ("/app/", "http://", "the host is empty"),
            ("/app/", "http://b:99999/", "port"),
            ("/app/", "http://b/?x", "a query"),
            ("/app/", "/base/#x", "a query or a fragment"),
            ("/app/", "http://b/%0", "%0"),
        ] {
            let found = Address::parse(outside, inside, root).unwrap_err();
            assert!(found.contains(problem), "{outside} {inside}: {found}");
        }
    }

    #[test]
    fn a_slash_at_one_end_only_is_doubted() {
        for (outside, inside, expected) in [
            (
                "/app",
                "http://b/",
                Some("\"http://b/x\" becomes \"/appx\""),
            ),
            ("/app", "/base/", Some("\"/base/x\" becomes \"/appx\"")),
            ("/app/", "http://b/", None),
            ("/app/", "http://b", None),
            ("/app", "http://b/app", None),
            ("https://front", "http://b/", None),
        ] {
            let doubt = line(outside, inside).doubt();
            match expected {
                Some(expected) => assert!(doubt.unwrap().contains(expected), "{outside}"),
                None => assert_eq!(doubt, None, "{outside}"),
            }
        }
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(7);
        let lines = [
            line("/app/", "/base"),
            line("https://front", "ws://b:81/x/"),
            line("/", "https://[::1]:8443"),
            line("/b", "http://b/"),
        ];
        let facts = facts("front", Some(81), true);
        let samples: [&[u8]; 4] = [
            b"http://b:80/base/x?y#z",
            b"wss://b:81/x/y",
            b"https://[::1]:8443",
            b"/base/x",
        ];
        let mut changed = 0;
        for _ in 0..20_000 {
            let sample = noise.pick(&samples);
            let value = noise.mangle(sample, b"/:;=. []#?\xff\0");
            let Some(new) = mapped(&lines.iter(), &value, &facts) else {
                continue;
            };
            changed += 1;
            // No byte comes in that no configuration can have.
            assert!(odd_bytes(&new) <= odd_bytes(&value), "{value:?}");
        }
        assert!(changed > 1000, "{changed}");
    }

    fn odd_bytes(bytes: &[u8]) -> usize {
        bytes.iter().filter(|byte| !byte.is_ascii_graphic()).count()
    }
}
