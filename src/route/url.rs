//! Canonical paths, percent rules, the URLs of backends and what they are asked for.
//!
//! A path is brought into one form before anything is matched, and written in one form for the backend, so that both
//! sides mean the same place. The order is that of httpd 2.4.49 and later (`ap_normalize_path`, `unescape_url`).

use crate::http::authority::{Authority, AuthorityError};
use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket, in bytes: unix(7), `sun_path`, less the NUL at its end.
pub const LONGEST_SOCKET_PATH: usize = 107;

const FORM: &str = "ws://host[:port][/path], or wss://, http://, https://";
const SOCKET_FORM: &str = "unix:/path/of/socket|ws://host[:port][/path]";

/// What is spoken with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A request that becomes a tunnel.
    Ws,
    /// The same in TLS.
    Wss,
    /// Ordinary requests and answers.
    Http,
    /// The same in TLS.
    Https,
}

impl Scheme {
    /// The scheme of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::Ws, Self::Wss, Self::Http, Self::Https];
        all.into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }

    /// As it stands in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether the backend is spoken to in TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Wss | Self::Https)
    }

    /// Whether requests become tunnels.
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The one for tunnels that is as safe as this one.
    pub fn of_tunnel(self) -> Self {
        if self.is_tls() { Self::Wss } else { Self::Ws }
    }

    /// The one that does the same without TLS.
    pub fn without_tls(self) -> Self {
        if self.is_tunnel() {
            Self::Ws
        } else {
            Self::Http
        }
    }

    pub(super) fn default_port(self) -> u16 {
        if self.is_tls() { 443 } else { 80 }
    }
}

/// The URL of a backend, taken from configuration text only. Two are the same if all of it is, the socket too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    /// The Unix socket that is connected to, in place of the host and the port: these are then only what the backend is
    /// asked for, and what its certificate has to be valid for.
    pub socket: Option<PathBuf>,
    /// What is spoken.
    pub scheme: Scheme,
    /// The host in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port; 80, or 443 with TLS, where none was written.
    pub port: u16,
    /// The path, empty or beginning with `/`, as it goes on the wire.
    pub path: String,
}

impl BackendUrl {
    /// Parses what a configuration says: as [`Self::parse`], or behind `unix:path|`, a Unix socket. There the host may be
    /// missing, and is then `localhost`. A relative path of the socket is below `server_root`.
    ///
    /// Only this looks for a socket, and only at the beginning: so no text that holds a part of a request may ever come
    /// here (CVE-2021-40438: httpd up to 2.4.48 finds `unix:` anywhere in a URL that clients have a hand in).
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn configured(text: &str, server_root: &Path) -> Result<Self, String> {
        let Some(behind) = strip_unix(text) else {
            return Self::parse(text);
        };
        let wrong = |problem: &str| format!("{text:?}: {problem}; expected {SOCKET_FORM}");
        let (path, url) = behind
            .split_once('|')
            .ok_or_else(|| wrong("no URL stands behind the socket"))?;
        let path = match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(wrong("a host stands before the path of the socket")),
            None => path,
        };
        if path.is_empty() {
            return Err(wrong("the path of the socket is empty"));
        }
        let socket = server_root.join(path);
        let length = socket.as_os_str().len();
        if length > LONGEST_SOCKET_PATH {
            return Err(format!(
                "{text:?}: the path of the socket, {socket:?}, has {length} bytes; \
                 the system takes at most {LONGEST_SOCKET_PATH}"
            ));
        }
        Self::parse_url(text, url, Some(socket))
    }

    /// Whether `text`, of a configuration, begins with a Unix socket.
    pub fn begins_with_socket(text: &str) -> bool {
        strip_unix(text).is_some()
    }

    /// Parses `ws://host[:port][/path]`, or the same with another [`Scheme`].
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if strip_unix(text).is_some() {
            return Err(format!(
                "{text:?} is a Unix socket, which may not stand here; expected {FORM}"
            ));
        }
        Self::parse_url(text, text, None)
    }

    /// Parses `url`, which is the end of `text`.
    fn parse_url(text: &str, url: &str, socket: Option<PathBuf>) -> Result<Self, String> {
        let scheme_alone = || {
            let (scheme, path) = url.split_once(':')?;
            (path.is_empty() || path.starts_with('/')).then_some((scheme, path))
        };
        let split = match url.split_once("://") {
            None if socket.is_some() => scheme_alone(),
            split => split,
        };
        let (scheme, behind) =
            split.ok_or_else(|| format!("{text:?} is not a URL; expected {FORM}"))?;
        let scheme = Scheme::named(scheme).ok_or_else(|| unsupported(scheme, text))?;
        if behind.contains(['?', '#']) {
            return Err(format!(
                "{text:?} has a query or a fragment; the query of a request is that of the client"
            ));
        }
        let end = behind.find('/').unwrap_or(behind.len());
        let (authority, path) = match behind.split_at(end) {
            ("", path) if socket.is_some() => ("localhost", path),
            split => split,
        };
        let authority = Authority::parse(authority.as_bytes()).map_err(|error| match error {
            AuthorityError::UserInfo => {
                format!("{text:?}: {error}; a backend is not logged in to by its URL")
            }
            _ => format!("{text:?}: {error}; expected {FORM}"),
        })?;
        Ok(Self {
            socket,
            scheme,
            host: authority.host.to_ascii_lowercase(),
            port: authority.port.unwrap_or(scheme.default_port()),
            path: wire_path(path).map_err(|error| format!("{text:?}: {error}"))?,
        })
    }

    /// The value of `Host` for this backend: the port stands in it unless it is the default of the scheme.
    // httpd: omits port 80 whatever the scheme, so a wss:// backend on port 80 is told a wrong port there.
    pub fn host_header(&self) -> String {
        let host = self.bracketed_host();
        if self.port == self.scheme.default_port() {
            host.into_owned()
        } else {
            [&*host, ":", &self.port.to_string()].concat()
        }
    }

    fn bracketed_host(&self) -> Cow<'_, str> {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            format!("[{}]", self.host).into()
        } else {
            self.host.as_str().into()
        }
    }

    /// What stands before the path, in two forms: with the port only where it is not the default one, and with it anyway.
    pub(super) fn origins(&self) -> [String; 2] {
        let with = |host: String| format!("{}{host}", self.before_host());
        let port = self.port;
        [
            with(self.host_header()),
            with(format!("{}:{port}", self.bracketed_host())),
        ]
    }

    /// Socket and scheme.
    fn before_host(&self) -> String {
        let scheme = self.scheme.name();
        match &self.socket {
            Some(socket) => format!("unix:{}|{scheme}://", socket.display()),
            None => format!("{scheme}://"),
        }
    }

    /// Whether both lead to the same socket, in the same way.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.socket == other.socket
            && self.scheme == other.scheme
            && self.host == other.host
            && self.port == other.port
    }

    /// The target that asks this backend for `rest`, what a mapping left over or made of the path, as it goes on the wire; and
    /// for the client's query as it was written.
    ///
    /// Nothing of a request can reach the scheme, the host or the port: they are not part of a target, and between them
    /// and `rest` there is always a `/`. (httpd: glues `rest` to the authority of a URL without a path.)
    pub fn target(&self, rest: &str, query: Option<&str>) -> String {
        target(&self.path, rest, query)
    }

    /// What this backend is asked for as a member of a balancer that is asked for `target`.
    // httpd: doubles the slash where the URL of the member ends with one.
    pub fn below(&self, target: &str) -> String {
        let path = self.path.strip_suffix('/').unwrap_or(&self.path);
        [path, target].concat()
    }
}

/// Path and query: `rest` behind `path`, which is empty or begins with `/`. See [`BackendUrl::target`].
pub(super) fn target(path: &str, rest: &str, query: Option<&str>) -> String {
    let query_length = query.map_or(0, |query| 1 + query.len());
    let mut target = String::with_capacity(path.len() + 1 + rest.len() + query_length);
    target.push_str(path);
    if target.is_empty() && !rest.starts_with('/') {
        target.push('/');
    }
    target.push_str(rest);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

impl fmt::Display for BackendUrl {
    /// As it is configured, in its canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, host) = (self.before_host(), self.host_header());
        write!(f, "{before}{host}{}", self.path)
    }
}

/// What is behind `unix:`, in any case.
fn strip_unix(text: &str) -> Option<&str> {
    let (scheme, behind) = text.split_at_checked("unix:".len())?;
    scheme.eq_ignore_ascii_case("unix:").then_some(behind)
}

/// The sentence for a URL of another scheme.
fn unsupported(scheme: &str, text: &str) -> String {
    match scheme.to_ascii_lowercase().as_str() {
        "balancer" => {
            format!("{text:?}: a balancer may not stand here; expected one backend, {FORM}")
        }
        "h2" | "h2c" => format!(
            "{text:?}: HTTP/2 to backends is not supported; write http:// or https://, which every backend speaks as well"
        ),
        "ajp" | "fcgi" | "scgi" | "uwsgi" | "ftp" => {
            format!("{text:?}: {scheme}:// backends are not supported; expected {FORM}")
        }
        _ => format!("{text:?}: unknown scheme {scheme:?}; expected {FORM}"),
    }
}

/// A configured path for the wire: what is percent-encoded stays so, what has to be becomes so.
// httpd: takes the configured path for a decoded one and writes its "%" as "%25".
pub(super) fn wire_path(path: &str) -> Result<String, PathError> {
    let mut wire = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        if *byte == b'%' {
            let (value, behind) = take_escape(behind)?;
            push_escape(value, &mut wire);
            rest = behind;
        } else {
            encode(*byte, &mut wire);
            rest = behind;
        }
    }
    Ok(wire)
}

/// What an encoded slash in a path means. httpd: `AllowEncodedSlashes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slashes {
    /// `Off`: such a path is refused.
    #[default]
    Refused,
    /// `On`: it is a slash like any other.
    Decoded,
    /// `NoDecode`: it belongs to its segment, and stays encoded.
    Kept,
}

/// Stands for an encoded slash that is kept. No path can hold a NUL: `%00` is refused, and a head with one as well.
// httpd: writes "%2F" into the decoded path, where it can no longer be told from a "%252F" of the client.
pub(super) const KEPT_SLASH: u8 = 0;

/// The path of a request as mappings are matched against it: percent-decoded once, without empty and dot segments.
/// `raw` begins with `/`.
///
/// # Errors
/// [`PathError`]: 400 for what is malformed, else 404 for what no path may hold.
pub fn canonical_path(raw: &str, slashes: Slashes) -> Result<Cow<'_, [u8]>, PathError> {
    if !raw.contains('%') && !has_pair(raw, *b"//") && !has_pair(raw, *b"/.") {
        return Ok(Cow::Borrowed(raw.as_bytes()));
    }
    let raw: Cow<'_, str> = match slashes {
        Slashes::Decoded => raw.replace("%2F", "/").replace("%2f", "/").into(),
        Slashes::Refused | Slashes::Kept => raw.into(),
    };
    let mut path = Vec::with_capacity(raw.len());
    let mut hidden = None;
    // Dot segments hold nothing but unreserved characters, and an encoded slash is refused in the end: so a segment can be
    // decoded whole, once, before it is looked at, and the result is that of httpd's two passes.
    let mut directory = true;
    for segment in raw.split('/').skip(1) {
        let start = path.len();
        path.push(b'/');
        if let Err(error) = decode(segment.as_bytes(), slashes, &mut path) {
            if error == PathError::Escape {
                return Err(error);
            }
            hidden = Some(error);
        }
        let decoded = path.get(start + 1..).unwrap_or_default();
        directory = matches!(decoded, b"" | b"." | b"..");
        if decoded == b".." {
            path.truncate(start);
            let parent = path.iter().rposition(|byte| *byte == b'/');
            path.truncate(parent.ok_or(PathError::AboveRoot)?);
        } else if directory {
            path.truncate(start);
        }
    }
    if directory {
        path.push(b'/');
    }
    match hidden {
        Some(error) => Err(error),
        None => Ok(Cow::Owned(path)),
    }
}

/// Whether two bytes stand side by side. A search for text would set up more than there is to search.
fn has_pair(text: &str, pair: [u8; 2]) -> bool {
    text.as_bytes().windows(2).any(|two| two == pair)
}

/// Whether no segment of a path of the wire is `.` or `..`, encoded or not, also between encoded slashes.
pub(crate) fn has_no_dot_segments(raw: &str) -> bool {
    if !raw.contains('%') && !has_pair(raw, *b"/.") {
        return true;
    }
    raw.split('/').all(|segment| {
        let mut plain = Vec::new();
        decode(segment.as_bytes(), Slashes::Kept, &mut plain).is_ok()
            && !plain
                .split(|byte| *byte == KEPT_SLASH)
                .any(|part| matches!(part, b"." | b".."))
    })
}

/// A configured text percent-decoded.
///
/// # Errors
/// An escape that is none, or that stands for a slash or a NUL.
pub(super) fn decode_text(text: &str) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::with_capacity(text.len());
    decode(text.as_bytes(), Slashes::Refused, &mut decoded)?;
    Ok(decoded)
}

/// Appends `segment` percent-decoded. Goes on behind a byte that may not be hidden, and reports it at the end.
fn decode(segment: &[u8], slashes: Slashes, path: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    let mut hidden = Ok(());
    while let Some((byte, behind)) = rest.split_first() {
        let mut value = *byte;
        rest = behind;
        if *byte == b'%' {
            (value, rest) = take_escape(behind)?;
            match value {
                b'/' if slashes == Slashes::Kept => value = KEPT_SLASH,
                b'/' => hidden = Err(PathError::Slash),
                0 => hidden = Err(PathError::Nul),
                _ => {}
            }
        }
        path.push(value);
    }
    hidden
}

/// Takes the two digits behind a `%` off the front of `rest`.
fn take_escape(rest: &[u8]) -> Result<(u8, &[u8]), PathError> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, behind @ ..] = rest else {
        return Err(PathError::Escape);
    };
    digit(*high)
        .zip(digit(*low))
        .and_then(|(high, low)| u8::try_from(high << 4 | low).ok())
        .map(|value| (value, behind))
        .ok_or(PathError::Escape)
}

/// Appends a byte of a decoded path as it goes on the wire: httpd's list of what needs no encoding
/// (`ap_proxy_canonenc`).
pub(super) fn encode(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"/~$-_.+!*'(),;:@&=".contains(&byte) {
        out.push(char::from(byte));
    } else if byte == KEPT_SLASH {
        out.push_str("%2F");
    } else {
        push_escape(byte, out);
    }
}

/// A decoded path as it goes on the wire.
pub(super) fn encoded(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    path.iter().for_each(|byte| encode(*byte, &mut out));
    out
}

pub(super) fn push_escape(byte: u8, out: &mut String) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    out.push('%');
    out.push(digit(byte >> 4).to_ascii_uppercase());
    out.push(digit(byte & 0xf).to_ascii_uppercase());
}

/// Why a path has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    Escape,
    /// More `..` than there are segments before them.
    AboveRoot,
    /// An encoded slash. httpd `AllowEncodedSlashes Off`.
    Slash,
    /// An encoded NUL.
    Nul,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Escape => "the path holds a \"%\" without two hexadecimal digits",
            Self::AboveRoot => "the path climbs above its root",
            Self::Slash => "the path holds an encoded slash",
            Self::Nul => "the path holds an encoded NUL",
        })
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn url(text: &str) -> BackendUrl {
        BackendUrl::parse(text).unwrap()
    }

    fn path(raw: &str) -> Result<String, PathError> {
        canonical_path(raw, Slashes::Refused).map(|path| path.escape_ascii().to_string())
    }

    #[test]
    fn a_url_has_its_parts() {
        for (text, scheme, host, port, path) in [
            ("http://b", Scheme::Http, "b", 80, ""),
            ("HttpS://b/x", Scheme::Https, "b", 443, "/x"),
            ("ws://echo.example", Scheme::Ws, "echo.example", 80, ""),
            ("ws://Echo.Example/", Scheme::Ws, "echo.example", 80, "/"),
            ("WSS://b:9443/a/b", Scheme::Wss, "b", 9443, "/a/b"),
            ("wss://b", Scheme::Wss, "b", 443, ""),
            (
                "ws://[2001:DB8::1]:81/x",
                Scheme::Ws,
                "2001:db8::1",
                81,
                "/x",
            ),
            ("ws://127.0.0.1:65535", Scheme::Ws, "127.0.0.1", 65535, ""),
            (
                "ws://b/a%2fb c\u{e9}",
                Scheme::Ws,
                "b",
                80,
                "/a%2Fb%20c%C3%A9",
            ),
        ] {
            let url = url(text);
            assert_eq!(
                (url.scheme, &*url.host, url.port, &*url.path),
                (scheme, host, port, path),
                "{text}"
            );
        }
    }

    #[test]
    fn a_refused_url_says_what_was_expected() {
        for (text, part) in [
            ("http:/b", "is not a URL"),
            ("balancer://set/", "a balancer may not stand here"),
            (
                "unix:/run/a.sock|ws://b/",
                "Unix socket, which may not stand here",
            ),
            ("UNIX:/run/a.sock", "Unix socket, which may not stand here"),
            ("ftp://b/", "ftp:// backends are not supported"),
            ("h2c://b/", "write http:// or https://"),
            ("wsx://b/", "unknown scheme \"wsx\""),
            ("b:80", "is not a URL; expected ws://"),
            ("/x", "is not a URL"),
            ("!", "is not a URL"),
            ("ws:/b", "is not a URL"),
            ("ws://", "host is empty"),
            ("ws:///x", "host is empty"),
            ("ws://u:p@b/", "user information"),
            ("ws://b:0/", "port is not a number from 1 to 65535"),
            ("ws://b:65536/", "port is not"),
            ("ws://b:/", "port is not"),
            ("ws://[fe80::1%25eth0]/", "IPv6 zone"),
            ("ws://[::1/", "not a valid IP address"),
            ("ws://a b/", "character"),
            ("ws://b/?x", "query or a fragment"),
            ("ws://b?x", "query or a fragment"),
            ("ws://b/#x", "query or a fragment"),
            ("ws://b/%zz", "hexadecimal"),
            ("ws://b/%2", "hexadecimal"),
        ] {
            let error = BackendUrl::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn configured(text: &str) -> Result<BackendUrl, String> {
        BackendUrl::configured(text, Path::new("/etc/proxy"))
    }

    #[test]
    fn a_socket_stands_before_its_url() {
        for (text, socket, rest) in [
            ("unix:/run/a.sock|ws://b/x", "/run/a.sock", "ws://b/x"),
            ("UNIX:/run/A.sock|WSS://B:9/x", "/run/A.sock", "wss://b:9/x"),
            ("Unix:a.sock|ws://b", "/etc/proxy/a.sock", "ws://b"),
            ("unix:run/a.sock|ws://b", "/etc/proxy/run/a.sock", "ws://b"),
            ("unix:///run/a.sock|ws://b", "/run/a.sock", "ws://b"),
            ("unix:/run/a.sock|ws:", "/run/a.sock", "ws://localhost"),
            ("unix:/run/a.sock|wss://", "/run/a.sock", "wss://localhost"),
            ("unix:/run/a.sock|ws:/x", "/run/a.sock", "ws://localhost/x"),
            (
                "unix:/run/a.sock|ws:///x",
                "/run/a.sock",
                "ws://localhost/x",
            ),
            ("unix:/run/a b%20?#|ws:", "/run/a b%20?#", "ws://localhost"),
            ("unix:/a|ws://[::1]:7/", "/a", "ws://[::1]:7/"),
            // What comes later is a part of the URL, where it means nothing.
            ("unix:/a|ws://b/unix:/c", "/a", "ws://b/unix:/c"),
        ] {
            let url = configured(text).unwrap();
            assert_eq!(url.socket.as_deref(), Some(Path::new(socket)), "{text}");
            assert_eq!(url.to_string(), format!("unix:{socket}|{rest}"), "{text}");
            assert_eq!(configured(&url.to_string()), Ok(url), "{text}");
        }
        assert_eq!(configured("ws://b/"), BackendUrl::parse("ws://b/"));
        let [one, other] = ["unix:/a|ws://b/", "unix:/c|ws://b/"].map(configured);
        assert_ne!(one, other, "the socket is a part of what it is");
        assert_ne!(one, configured("ws://b/"));
    }

    #[test]
    fn a_refused_socket_says_what_was_expected() {
        for (text, part) in [
            (
                "unix:/run/a.sock",
                "no URL stands behind the socket; expected unix:/",
            ),
            ("unix:", "no URL stands behind the socket"),
            ("unix:|ws://b/", "the path of the socket is empty"),
            ("unix://run/a.sock|ws://b/", "a host stands before the path"),
            ("unix://|ws://b/", "a host stands before the path"),
            ("unix:/a|", "is not a URL; expected ws://"),
            ("unix:/a|ws", "is not a URL"),
            ("unix:/a|ws:b", "is not a URL"),
            ("unix:/a|b:80", "is not a URL"),
            ("unix:/a|:80", "is not a URL"),
            ("unix:/a|fcgi://b/x", "fcgi:// backends are not"),
            ("unix:/a|unix:/b|ws://c", "unknown scheme"),
            ("unix:/a|gopher://b", "unknown scheme \"gopher\""),
            ("unix:/a|ws://u@b", "user information"),
            ("unix:/a|ws://b/?x", "query or a fragment"),
            ("unix:/a|ws://:80/", "host is empty"),
        ] {
            let error = configured(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.starts_with(&format!("{text:?}")), "{text}: {error}");
        }
    }

    #[test]
    fn a_socket_may_have_as_long_a_path_as_the_system_takes() {
        let below = "/etc/proxy/".len();
        for (path, length) in [
            (format!("/{}", "x".repeat(106)), 107),
            ("x".repeat(107 - below), 107),
            (format!("/{}", "x".repeat(107)), 108),
            ("x".repeat(108 - below), 108),
            (format!("x{}", "\u{e4}".repeat(48)), 108),
        ] {
            let text = format!("unix:{path}|ws:");
            match configured(&text) {
                Ok(_) => assert!(length <= LONGEST_SOCKET_PATH, "{text}"),
                Err(error) => {
                    assert!(length > LONGEST_SOCKET_PATH, "{error}");
                    assert!(error.contains("has 108 bytes"), "{error}");
                    assert!(error.ends_with("takes at most 107"), "{error}");
                }
            }
        }
    }

    #[test]
    fn default_ports_are_not_written() {
        for (text, host, display) in [
            ("ws://b:80/x", "b", "ws://b/x"),
            ("ws://b:443/x", "b:443", "ws://b:443/x"),
            ("wss://b:443", "b", "wss://b"),
            ("wss://b:80/", "b:80", "wss://b:80/"),
            ("ws://[::1]/", "[::1]", "ws://[::1]/"),
            ("wss://[::1]:9/", "[::1]:9", "wss://[::1]:9/"),
        ] {
            assert_eq!(url(text).host_header(), host);
            assert_eq!(url(text).to_string(), display);
        }
    }

    #[test]
    fn paths_have_one_form() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a//../b", "/b"),
            ("/...", "/..."),
            ("/.a/..b", "/.a/..b"),
            ("/%41%7e%2D", "/A~-"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            // Decoded once: what comes of it is not looked at again.
            ("/a/%252e%252e/b", "/a/%2e%2e/b"),
            ("/%2541", "/%41"),
            ("/a%20b%3f%23%25", "/a b?#%"),
            ("/%e4%0d%0a", r"/\xe4\r\n"),
            ("/a;x=1/..;/b", "/a;x=1/..;/b"),
        ] {
            assert_eq!(path(raw), Ok(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn paths_without_a_form_are_refused() {
        for (raw, error) in [
            ("/%", PathError::Escape),
            ("/%2", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%2g", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/%%32%65", PathError::Escape),
            ("/..", PathError::AboveRoot),
            ("/a/../..", PathError::AboveRoot),
            ("/%2e%2e/etc", PathError::AboveRoot),
            ("/a/../../a/b", PathError::AboveRoot),
            ("/a%2fb", PathError::Slash),
            ("/a/%2F", PathError::Slash),
            ("/a%00", PathError::Nul),
            // What is malformed comes before what is forbidden.
            ("/a%2f/%zz", PathError::Escape),
            ("/a%00/../..", PathError::AboveRoot),
        ] {
            assert_eq!(path(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn an_encoded_slash_is_refused_decoded_or_kept() {
        let target = |raw: &str, slashes| {
            canonical_path(raw, slashes).map(|path| url("ws://b").target(&encoded(&path), None))
        };
        for (raw, decoded, kept) in [
            ("/a%2Fb", "/a/b", "/a%2Fb"),
            ("/a%2fb/%2F", "/a/b/", "/a%2Fb/%2F"),
            ("/a%2F..%2Fb", "/b", "/a%2F..%2Fb"),
            // Decoded once: this is a percent sign and two characters, and stays that.
            ("/a%252Fb", "/a%252Fb", "/a%252Fb"),
        ] {
            assert_eq!(
                target(raw, Slashes::Decoded).as_deref(),
                Ok(decoded),
                "{raw}"
            );
            assert_eq!(target(raw, Slashes::Kept).as_deref(), Ok(kept), "{raw}");
        }
        assert_eq!(target("/a%2Fb", Slashes::Refused), Err(PathError::Slash));
        assert_eq!(target("/a%2Fb/../..", Slashes::Decoded).as_deref(), Ok("/"));
        assert_eq!(
            target("/%2F../..", Slashes::Decoded),
            Err(PathError::AboveRoot)
        );
        assert_eq!(target("/a%00", Slashes::Kept), Err(PathError::Nul));
    }

    #[test]
    fn dot_segments_are_found_in_any_spelling() {
        for raw in [
            "/..",
            "/a/./b",
            "/%2e%2E/",
            "/a/.%2e",
            "/a%2f..%2fb",
            "/%zz",
        ] {
            assert!(!has_no_dot_segments(raw), "{raw}");
        }
        for raw in ["/", "/a", "/...", "/.a", "/a%2Fb", "/a//b"] {
            assert!(has_no_dot_segments(raw), "{raw}");
        }
    }

    #[test]
    fn targets_are_encoded_by_the_list() {
        let base = url("ws://b/base");
        for (rest, query, target) in [
            (&b""[..], None, "/base"),
            (b"/x", None, "/base/x"),
            (b"x", Some("a=%20&b"), "/basex?a=%20&b"),
            (b"/x", Some(""), "/base/x?"),
            (b"/~$-_.+!*'(),;:@&=", None, "/base/~$-_.+!*'(),;:@&="),
            (
                b"/ ?#%\"[]|{}^\\<>`",
                None,
                "/base/%20%3F%23%25%22%5B%5D%7C%7B%7D%5E%5C%3C%3E%60",
            ),
            (b"/\xe4\r\n\x7f", None, "/base/%E4%0D%0A%7F"),
        ] {
            assert_eq!(base.target(&encoded(rest), query), target);
        }
    }

    #[test]
    fn a_request_never_reaches_the_authority() {
        let bare = url("ws://b");
        for (rest, target) in [
            (&b"@evil/"[..], "/@evil/"),
            (b".evil", "/.evil"),
            (b":81", "/:81"),
            (b"/a", "/a"),
            (b"", "/"),
        ] {
            assert_eq!(bare.target(&encoded(rest), None), target);
        }
    }

    #[test]
    fn never_panics_and_never_lets_a_bad_byte_out() {
        let mut noise = Noise::new(0x5eed_0003);
        for _ in 0..20_000 {
            let bytes = noise.mangle(b"/a/%2e%2e//b%20c/./%41", b"%/.2eEfF0\0\r\n ");
            // No target holds a NUL (`HeadError::Control`).
            let raw = format!("/{}", String::from_utf8_lossy(&bytes)).replace('\0', "");
            if let Ok(path) = canonical_path(&raw, Slashes::Refused) {
                assert!(path.starts_with(b"/"));
                assert!(!path.windows(2).any(|pair| pair == b"//"), "{raw:?}");
                assert!(
                    !path
                        .split(|byte| *byte == b'/')
                        .any(|part| matches!(part, b"." | b".."))
                );
                let target = url("ws://b").target(&encoded(&path), None);
                assert!(target.bytes().all(|byte| (0x21..0x7f).contains(&byte)));
                // The backend decodes what we matched.
                let again = canonical_path(&target, Slashes::Refused);
                assert_eq!(again.as_deref().ok(), Some(&*path));
            }
            let _ = BackendUrl::parse(&format!("ws://b{raw}"));
            let _ = BackendUrl::parse(&String::from_utf8_lossy(&bytes));
            let socket = noise.mangle(b"unix:/a|ws://b/", b"unixws:/|");
            let _ = configured(&String::from_utf8_lossy(&socket));
        }
    }
}
