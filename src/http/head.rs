//! Request and response heads: what they must be to be taken at all.
//!
//! httparse cuts the lines into their parts. It takes more than RFC 9112 demands of a recipient that forwards (bare LF,
//! control characters it does not look at, heads of any size), so a scan comes first: whatever two recipients could read
//! in two ways is refused here, and the types below cannot hold it. A message is scanned anew after each read; what it
//! costs is bounded by [`MAX_HEAD`], and a limit that is broken is known before the line has ended.

use super::authority::{Authority, AuthorityError};
use super::body::{BodyError, Framing};
use super::headers::{Headers, is_token};
use std::borrow::Cow;
use std::fmt;

/// The most bytes a head may have, whatever the limits of its parts: 64 KiB.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most empty lines before a request line (RFC 9112 section 2.2; httpd allows as many).
const MAX_BLANK_LINES: usize = 10;

/// Bounds on a head, in bytes. httpd: `LimitRequestLine`, `LimitRequestFieldSize`, `LimitRequestFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line, without its line end.
    pub line: usize,
    /// Longest header field, name and value together.
    pub field: usize,
    /// Most header fields; 0 means as many as the head as a whole may hold.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 8190,
            field: 8190,
            fields: 100,
        }
    }
}

/// The protocol version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// A request line and its header fields (RFC 9112 section 3).
///
/// It has at most one `Host`, a valid one, and exactly one if it is of HTTP/1.1. Where its body ends is beyond doubt.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method and the target, one behind the other.
    line: String,
    method_length: usize,
    /// The version.
    pub version: Version,
    /// The header fields. The authority of an absolute target stands in `Host`, in place of what the client wrote there
    /// (RFC 9112 section 3.2.2).
    pub headers: Headers,
}

impl RequestHead {
    /// Parses the head at the beginning of `bytes`, behind at most ten empty lines. `None`: more bytes are needed.
    /// Otherwise the head, and how many bytes it takes with its empty line.
    ///
    /// # Errors
    /// The first rule that is broken, as soon as no further byte could mend it.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(usize, Self)>, HeadError> {
        let mut rest = bytes;
        let mut blank_lines = 0;
        while let Some(next) = rest.strip_prefix(b"\r\n") {
            blank_lines += 1;
            if blank_lines > MAX_BLANK_LINES {
                return Err(HeadError::BlankLines);
            }
            rest = next;
        }
        let Some((line, section)) = scan(rest, limits, RequestLine::parse)? else {
            return Ok(None);
        };
        let mut headers = section.parse()?;
        check_host(&headers, line.version)?;
        if let Some(authority) = line.authority {
            headers.set("Host", authority.as_bytes());
        }
        let head = Self {
            line: [line.method, &line.target].concat(),
            method_length: line.method.len(),
            version: line.version,
            headers,
        };
        Framing::of_request(&head)?;
        Ok(Some((bytes.len() - rest.len() + section.end, head)))
    }

    /// The method, as written.
    pub fn method(&self) -> &str {
        self.line.get(..self.method_length).unwrap_or_default()
    }

    /// The path and the query of the target, as written. Begins with `/`, and every byte is a visible ASCII character.
    pub fn target(&self) -> &str {
        self.line.get(self.method_length..).unwrap_or_default()
    }
}

/// The request line of a request as it was written, without its end; what there is of it, if it has not ended. For the
/// access log, which shows it for refused requests too.
pub fn request_line(bytes: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !is_end(byte));
    let line = start.and_then(|start| bytes.get(start..));
    line.and_then(|line| line.split(is_end).next())
        .unwrap_or_default()
}

/// A status line and its header fields (RFC 9112 section 4).
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, as written.
    pub reason: Vec<u8>,
    /// The header fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// Parses the head at the beginning of `bytes`. `None`: more bytes are needed. Otherwise the head, and how many bytes
    /// it takes with its empty line.
    ///
    /// As strict as for requests: what a backend's answer could smuggle would reach the client.
    ///
    /// # Errors
    /// The first rule that is broken, as soon as no further byte could mend it.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(usize, Self)>, HeadError> {
        let Some((line, section)) = scan(bytes, limits, StatusLine::parse)? else {
            return Ok(None);
        };
        let head = Self {
            version: line.version,
            status: line.status,
            reason: line.reason.to_vec(),
            headers: section.parse()?,
        };
        Ok(Some((section.end, head)))
    }
}

/// Which rule a head breaks, or which limit. RFC 9112 unless another source is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadError {
    /// Section 2.2: a line ends with LF alone.
    BareLf,
    /// Section 2.2: CR stands elsewhere than before LF.
    BareCr,
    /// RFC 9110 section 5.5: a control character other than HT.
    Control(u8),
    /// Section 2.2: more empty lines before the request line than we skip.
    BlankLines,
    /// Section 3: not `method SP request-target SP HTTP-version`.
    RequestLine,
    /// Section 4: not `HTTP-version SP status-code SP reason-phrase`.
    StatusLine,
    /// Section 2.3: some HTTP, but neither 1.0 nor 1.1.
    Version,
    /// Section 3.2: a byte above 0x7f in the request line.
    NotAscii(u8),
    /// Section 3.2: a target with a fragment.
    Fragment,
    /// Section 3.2.4: the target `*`, which no request to a backend can have.
    AsteriskTarget,
    /// Section 3.2: neither `/...` nor `http://...` nor `https://...`.
    Target,
    /// Section 3.2.3: `CONNECT`, which asks for another kind of proxy.
    Connect,
    /// Section 3.2.2: the authority of an absolute target.
    TargetAuthority(AuthorityError),
    /// Section 5.1: a name that is no token.
    FieldName,
    /// Section 5.1: white space between a name and its colon.
    SpaceBeforeColon,
    /// Sections 2.2 and 5.2: a field that begins with white space.
    Folded,
    /// Section 3.2: HTTP/1.1 without `Host`.
    HostMissing,
    /// Section 3.2: more than one `Host`.
    HostRepeated,
    /// Section 3.2: a `Host` that is not `host[:port]`.
    Host(AuthorityError),
    /// Section 6: where the body ends is in doubt.
    Body(BodyError),
    /// Section 3: [`Limits::line`]
    LineTooLong(usize),
    /// RFC 9110 section 5.4: [`Limits::field`]
    FieldTooLong(usize),
    /// RFC 9110 section 5.4: [`Limits::fields`]
    TooManyFields(usize),
    /// RFC 9110 section 5.4: [`MAX_HEAD`]
    TooLarge,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLf => "a line of the head ends with LF instead of CR LF",
            Self::BareCr => "the head holds a CR that is not followed by LF",
            Self::BlankLines => "too many empty lines before the request line",
            Self::RequestLine => "the request line is not \"method target HTTP/1.1\"",
            Self::StatusLine => "the status line is not \"HTTP/1.1 status reason\"",
            Self::Version => "the protocol version is neither HTTP/1.1 nor HTTP/1.0",
            Self::Fragment => "the target has a fragment (\"#\")",
            Self::AsteriskTarget => "the target is \"*\"",
            Self::Target => {
                "the target begins neither with \"/\" nor with \"http://\" nor with \"https://\""
            }
            Self::Connect => "CONNECT asks for a forward proxy, which this is not",
            Self::FieldName => "the name of a header field is not a token followed by \":\"",
            Self::SpaceBeforeColon => {
                "white space between the name of a header field and its colon"
            }
            Self::Folded => "a header field begins with white space (obsolete line folding)",
            Self::HostMissing => "the Host header field is missing",
            Self::HostRepeated => "there is more than one Host header field",
            Self::Control(byte) => {
                return write!(f, "the head holds the control character 0x{byte:02x}");
            }
            Self::NotAscii(byte) => {
                return write!(f, "the request line holds the byte 0x{byte:02x}");
            }
            Self::TargetAuthority(error) => {
                return write!(f, "the authority of the target is not valid: {error}");
            }
            Self::Host(error) => return write!(f, "the Host header field is not valid: {error}"),
            Self::Body(error) => return error.fmt(f),
            Self::LineTooLong(limit) => {
                return write!(f, "the first line of the head is longer than {limit} bytes");
            }
            Self::FieldTooLong(limit) => {
                return write!(f, "a header field is longer than {limit} bytes");
            }
            Self::TooManyFields(limit) => {
                return write!(f, "there are more than {limit} header fields");
            }
            Self::TooLarge => return write!(f, "the head is longer than {MAX_HEAD} bytes"),
        })
    }
}

impl std::error::Error for HeadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TargetAuthority(error) | Self::Host(error) => Some(error),
            Self::Body(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BodyError> for HeadError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// The fields in whole lines without the empty one behind them, as they stand behind the last chunk of a body.
///
/// # Errors
/// The first rule that is broken.
pub fn fields(lines: &[u8]) -> Result<Headers, HeadError> {
    let text = [b"\r\n", lines, b"\r\n"].concat();
    match scan(&text, &Limits::default(), |_| Ok(()))? {
        Some((_, section)) if section.end == text.len() => section.parse(),
        _ => Err(HeadError::BareLf),
    }
}

/// The header fields of a head whose lines have been scanned.
struct Section<'a> {
    /// The fields with their line ends and the empty line.
    text: &'a [u8],
    count: usize,
    /// Where the head ends, counted from the beginning of its first line.
    end: usize,
}

/// Walks the lines of the head at the beginning of `bytes`: their ends, their lengths, their number, and no control
/// characters in them. `first_line` judges the first line as soon as it is there.
///
/// The rules are looked at in the order of the bytes that break them, so that a head gets the same answer however it was
/// cut into reads.
fn scan<'a, L>(
    bytes: &'a [u8],
    limits: &Limits,
    first_line: impl FnOnce(&'a [u8]) -> Result<L, HeadError>,
) -> Result<Option<(L, Section<'a>)>, HeadError> {
    let window = bytes.get(..MAX_HEAD).unwrap_or(bytes);
    let more = || {
        if window.len() == MAX_HEAD {
            Err(HeadError::TooLarge)
        } else {
            Ok(None)
        }
    };
    let mut rest = window;
    let line = match take_line(&mut rest, limits.line) {
        Ok(Some(line)) => first_line(line)?,
        Ok(None) => return more(),
        Err(LineError::TooLong) => return Err(HeadError::LineTooLong(limits.line)),
        Err(LineError::Broken(error)) => return Err(error),
    };
    let text = rest;
    let mut count = 0;
    loop {
        match rest.first() {
            Some(b' ' | b'\t') => return Err(HeadError::Folded),
            Some(b'\r' | b'\n') | None => {}
            Some(_) if limits.fields != 0 && count == limits.fields => {
                return Err(HeadError::TooManyFields(limits.fields));
            }
            Some(_) => count += 1,
        }
        match take_line(&mut rest, limits.field) {
            Ok(Some([])) => break,
            Ok(Some(_)) => {}
            Ok(None) => return more(),
            Err(LineError::TooLong) => return Err(HeadError::FieldTooLong(limits.field)),
            Err(LineError::Broken(error)) => return Err(error),
        }
    }
    let section = Section {
        text,
        count,
        end: window.len() - rest.len(),
    };
    Ok(Some((line, section)))
}

enum LineError {
    TooLong,
    Broken(HeadError),
}

/// Takes a line off the front of `rest`, without its end. `None`: it has not ended, but could still become one.
fn take_line<'a>(rest: &mut &'a [u8], limit: usize) -> Result<Option<&'a [u8]>, LineError> {
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let line = parts.next().unwrap_or_default();
    let behind = parts.next();
    // Without LF a CR at the end may be the first half of a line end.
    let ended = line.strip_suffix(b"\r");
    let text = ended.unwrap_or(line);
    let is_control = |byte: &&u8| (**byte < b' ' && **byte != b'\t') || **byte == 0x7f;
    // Not beyond the limit: the answer would then depend on how much of an endless line has come.
    match text.iter().take(limit).find(is_control) {
        Some(b'\r') => return Err(LineError::Broken(HeadError::BareCr)),
        Some(byte) => return Err(LineError::Broken(HeadError::Control(*byte))),
        None if text.len() > limit => return Err(LineError::TooLong),
        None => {}
    }
    let Some(behind) = behind else {
        return Ok(None);
    };
    if ended.is_none() {
        return Err(LineError::Broken(HeadError::BareLf));
    }
    *rest = behind;
    Ok(Some(text))
}

impl Section<'_> {
    fn parse(&self) -> Result<Headers, HeadError> {
        let mut parsed = vec![httparse::EMPTY_HEADER; self.count];
        let fields = match httparse::parse_headers(self.text, &mut parsed) {
            Ok(httparse::Status::Complete((_, fields))) => fields,
            // The scan has left nothing else to be wrong.
            Ok(httparse::Status::Partial) | Err(_) => return Err(self.name_error()),
        };
        let mut headers = Headers::with_capacity(self.count, self.text.len());
        for field in fields {
            headers.push(field.name, field.value);
        }
        Ok(headers)
    }

    /// Which rule the first wrong name breaks.
    fn name_error(&self) -> HeadError {
        let lines = self.text.split(|byte| *byte == b'\n');
        let mut names =
            lines.map(|line| line.split(|byte| *byte == b':').next().unwrap_or_default());
        let wrong = names.find(|name| !is_token(name));
        if wrong.is_some_and(|name| name.ends_with(b" ") || name.ends_with(b"\t")) {
            HeadError::SpaceBeforeColon
        } else {
            HeadError::FieldName
        }
    }
}

/// A request line in its parts.
struct RequestLine<'a> {
    method: &'a str,
    /// The authority of an absolute target.
    authority: Option<&'a str>,
    /// Path and query.
    target: Cow<'a, str>,
    version: Version,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, HeadError> {
        if let Some(byte) = line.iter().find(|byte| !byte.is_ascii()) {
            return Err(HeadError::NotAscii(*byte));
        }
        // The rest of the head is not there: httparse says that it wants more, and has filled in the line.
        let mut request = httparse::Request::new(&mut []);
        let outcome = request.parse(line);
        let (Ok(_), Some(method), Some(target), Some(version)) =
            (outcome, request.method, request.path, request.version)
        else {
            return Err(if has_other_version(line) {
                HeadError::Version
            } else {
                HeadError::RequestLine
            });
        };
        if method == "CONNECT" {
            return Err(HeadError::Connect);
        }
        let (authority, target) = split_target(target)?;
        Ok(Self {
            method,
            authority,
            target,
            version: Version::of(version),
        })
    }
}

impl Version {
    /// From the minor version, as httparse tells it.
    fn of(minor: u8) -> Self {
        if minor == 0 {
            Self::Http10
        } else {
            Self::Http11
        }
    }
}

/// Whether the line is a request line but for its version, which is `HTTP/` digit `.` digit (RFC 9112 section 2.3).
fn has_other_version(line: &[u8]) -> bool {
    let version = line.splitn(3, |byte| *byte == b' ').nth(2);
    let number = version.and_then(|version| version.strip_prefix(b"HTTP/"));
    match number {
        Some(b"1.0" | b"1.1") => false,
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// Cuts a target into its authority, if it has one, and its path and query.
fn split_target(target: &str) -> Result<(Option<&str>, Cow<'_, str>), HeadError> {
    if target.contains('#') {
        return Err(HeadError::Fragment);
    }
    if target.starts_with('/') {
        return Ok((None, Cow::Borrowed(target)));
    }
    if target == "*" {
        return Err(HeadError::AsteriskTarget);
    }
    let behind_scheme = target
        .split_once("://")
        .filter(|(scheme, _)| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        })
        .map(|(_, behind)| behind)
        .ok_or(HeadError::Target)?;
    let end = behind_scheme.find(['/', '?']);
    let (authority, path) = behind_scheme.split_at(end.unwrap_or(behind_scheme.len()));
    Authority::parse(authority.as_bytes()).map_err(HeadError::TargetAuthority)?;
    let path = if path.starts_with('/') {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("/{path}"))
    };
    Ok((Some(authority), path))
}

fn check_host(headers: &Headers, version: Version) -> Result<(), HeadError> {
    let mut hosts = headers.all("Host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(HeadError::HostRepeated),
        (Some(host), None) => Authority::parse(host).map(drop).map_err(HeadError::Host),
        (None, None) if version == Version::Http11 => Err(HeadError::HostMissing),
        (None, None) => Ok(()),
    }
}

/// A status line in its parts.
struct StatusLine<'a> {
    version: Version,
    status: u16,
    reason: &'a [u8],
}

impl<'a> StatusLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, HeadError> {
        // As for requests: httparse wants more, and has filled in the line. It does not give reasons beyond ASCII.
        let mut response = httparse::Response::new(&mut []);
        let outcome = response.parse(line);
        let (Ok(_), Some(version), Some(status @ 100..)) =
            (outcome, response.version, response.code)
        else {
            return Err(HeadError::StatusLine);
        };
        const REASON: usize = "HTTP/1.1 101 ".len();
        Ok(Self {
            version: Version::of(version),
            status,
            reason: line.get(REASON..).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::Noise;
    use super::*;

    const SMALL: Limits = Limits {
        line: 40,
        field: 30,
        fields: 3,
    };

    fn request(text: &str) -> Result<RequestHead, HeadError> {
        let parsed = RequestHead::parse(text.as_bytes(), &Limits::default())?;
        let (used, head) = parsed.expect("the head is whole");
        assert_eq!(used, text.len());
        Ok(head)
    }

    fn response(text: &[u8]) -> Result<ResponseHead, HeadError> {
        let parsed = ResponseHead::parse(text, &Limits::default())?;
        let (used, head) = parsed.expect("the head is whole");
        assert_eq!(used, text.len());
        Ok(head)
    }

    /// The error of a request whose line is `line`.
    fn line_error(line: &str) -> HeadError {
        request(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err()
    }

    /// The error of a request with these fields.
    fn field_error(fields: &str) -> HeadError {
        request(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).unwrap_err()
    }

    #[test]
    fn a_head_has_its_parts_and_says_where_it_ends() {
        let text = b"GET /chat?x=1 HTTP/1.1\r\nHost: a:80\r\nX-Y:\t v\xe4l \r\n\r\nbehind";
        let (used, head) = RequestHead::parse(text, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(used, text.len() - "behind".len());
        assert_eq!((head.method(), head.target()), ("GET", "/chat?x=1"));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.headers.first("x-y"), Some(&b"v\xe4l"[..]));
        assert_eq!(head.headers.len(), 2);
    }

    #[test]
    fn ten_empty_lines_may_come_first() {
        let head = "GET / HTTP/1.0\r\n\r\n";
        assert!(request(&("\r\n".repeat(10) + head)).is_ok());
        let error = request(&("\r\n".repeat(11) + head)).unwrap_err();
        assert_eq!(error, HeadError::BlankLines);
    }

    #[test]
    fn an_absolute_target_replaces_the_host() {
        for (target, host, path) in [
            ("http://b.example/x?y", "b.example", "/x?y"),
            ("HTTPS://b.example:81", "b.example:81", "/"),
            ("http://[::1]?q=//", "[::1]", "/?q=//"),
        ] {
            let head = request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            assert_eq!(head.target(), path);
            let hosts: Vec<_> = head.headers.all("host").collect();
            assert_eq!(hosts, [host.as_bytes()]);
        }
        let old = request("GET http://b/ HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(old.headers.first("Host"), Some(&b"b"[..]));
    }

    #[test]
    fn request_lines_that_are_refused() {
        for line in [
            "GET /",
            "GET",
            "",
            " GET / HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "GET /a b HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.",
            "GET / HTTP/1.10",
            "GET / HTTP/11",
            "GET / ICY/1.1",
        ] {
            assert_eq!(line_error(line), HeadError::RequestLine, "{line:?}");
        }
        for line in [
            "GET / HTTP/2.0",
            "GET / HTTP/0.9",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.2",
        ] {
            assert_eq!(line_error(line), HeadError::Version, "{line:?}");
        }
        assert_eq!(line_error("CONNECT a:443 HTTP/1.1"), HeadError::Connect);
        assert_eq!(
            line_error("GET /\u{e9} HTTP/1.1"),
            HeadError::NotAscii(0xc3)
        );
        assert_eq!(line_error("GET /\u{1} HTTP/1.1"), HeadError::Control(1));
    }

    #[test]
    fn targets_that_are_refused() {
        for (target, error) in [
            ("*", HeadError::AsteriskTarget),
            ("/a#b", HeadError::Fragment),
            ("a", HeadError::Target),
            ("a:80", HeadError::Target),
            ("?x", HeadError::Target),
            ("ws://a/", HeadError::Target),
            ("http:/a", HeadError::Target),
            ("@evil/", HeadError::Target),
            (
                "http://u@a/",
                HeadError::TargetAuthority(AuthorityError::UserInfo),
            ),
            (
                "http:///a",
                HeadError::TargetAuthority(AuthorityError::Empty),
            ),
            (
                "http://a:b/",
                HeadError::TargetAuthority(AuthorityError::Port),
            ),
            (
                "http://[fe80::1%25eth0]/",
                HeadError::TargetAuthority(AuthorityError::Zone),
            ),
        ] {
            assert_eq!(line_error(&format!("GET {target} HTTP/1.1")), error);
        }
    }

    #[test]
    fn line_ends_and_controls_that_are_refused() {
        for (text, error) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLf),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", HeadError::BareCr),
            ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", HeadError::BareCr),
            ("GET / HTTP/1.1\r\n\rHost: a\r\n\r\n", HeadError::BareCr),
            ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareCr),
            ("GET / HTTP/1.1\r\nX: \0\r\n\r\n", HeadError::Control(0)),
            (
                "GET / HTTP/1.1\r\nX: \x7f\r\n\r\n",
                HeadError::Control(0x7f),
            ),
            (
                "GET / HTTP/1.1\r\nX\x0b: a\r\n\r\n",
                HeadError::Control(0x0b),
            ),
            ("GET / HTTP/1.1\r\n X: a\r\n\r\n", HeadError::Folded),
            ("GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n", HeadError::Folded),
        ] {
            assert_eq!(request(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn names_that_are_refused() {
        for fields in [
            "Foo\r\n",
            ": x\r\n",
            "A B: x\r\n",
            "A(: x\r\n",
            "\u{e4}: x\r\n",
        ] {
            assert_eq!(field_error(fields), HeadError::FieldName, "{fields:?}");
        }
        for fields in ["Host : a\r\n", "Good: x\r\nHost\t: a\r\n"] {
            assert_eq!(field_error(fields), HeadError::SpaceBeforeColon);
        }
    }

    #[test]
    fn there_is_one_valid_host() {
        assert_eq!(field_error(""), HeadError::HostMissing);
        assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok());
        for fields in ["Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n"] {
            assert_eq!(field_error(fields), HeadError::HostRepeated);
        }
        let twice = request("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
        assert_eq!(twice.unwrap_err(), HeadError::HostRepeated);
        for (fields, error) in [
            ("Host:\r\n", AuthorityError::Empty),
            ("Host: a, b\r\n", AuthorityError::Character),
            ("Host: a/b\r\n", AuthorityError::Character),
            ("Host: u@a\r\n", AuthorityError::UserInfo),
            ("Host: a:x\r\n", AuthorityError::Port),
            ("Host: 1.2\r\n", AuthorityError::Address),
        ] {
            assert_eq!(field_error(fields), HeadError::Host(error), "{fields:?}");
        }
    }

    #[test]
    fn doubt_about_the_body_is_refused() {
        for (fields, error) in [
            ("Content-Length: -1\r\n", BodyError::Length),
            ("Content-Length: +1\r\n", BodyError::Length),
            ("Content-Length:\r\n", BodyError::Length),
            ("Content-Length: 1, 1\r\n", BodyError::Length),
            (
                "Content-Length: 18446744073709551616\r\n",
                BodyError::Length,
            ),
            (
                "Content-Length: 1\r\nContent-Length: 1\r\n",
                BodyError::LengthRepeated,
            ),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                BodyError::LengthAndCoding,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", BodyError::Coding),
            ("Transfer-Encoding: chunked, chunked\r\n", BodyError::Coding),
            ("Transfer-Encoding: identity\r\n", BodyError::Coding),
            ("Transfer-Encoding:\r\n", BodyError::Coding),
        ] {
            let fields = format!("Host: a\r\n{fields}");
            assert_eq!(field_error(&fields), HeadError::Body(error), "{fields:?}");
        }
        let old = request("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.unwrap_err(), HeadError::Body(BodyError::CodingInHttp10));
    }

    #[test]
    fn limits_hold_to_the_byte() {
        let parse =
            |text: &str| RequestHead::parse(text.as_bytes(), &SMALL).map(|head| head.is_some());
        let line = |length: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(length - 14));
        assert_eq!(parse(&line(40)), Ok(true));
        assert_eq!(parse(&line(41)), Err(HeadError::LineTooLong(40)));
        let field =
            |length: usize| format!("GET / HTTP/1.0\r\nX:{}\r\n\r\n", "x".repeat(length - 2));
        assert_eq!(parse(&field(30)), Ok(true));
        assert_eq!(parse(&field(31)), Err(HeadError::FieldTooLong(30)));
        let fields = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(parse(&fields(3)), Ok(true));
        assert_eq!(parse(&fields(4)), Err(HeadError::TooManyFields(3)));
    }

    #[test]
    fn no_number_of_fields_means_up_to_the_size_of_the_head() {
        let limits = Limits {
            fields: 0,
            ..Limits::default()
        };
        let start = "GET / HTTP/1.0\r\n";
        let many = start.to_owned() + &"X: y\r\n".repeat(1000) + "\r\n";
        let (_, head) = RequestHead::parse(many.as_bytes(), &limits)
            .unwrap()
            .unwrap();
        assert_eq!(head.headers.len(), 1000);
        let endless = start.to_owned() + &"X: y\r\n".repeat(MAX_HEAD / 6);
        let error = RequestHead::parse(endless.as_bytes(), &limits).unwrap_err();
        assert_eq!(error, HeadError::TooLarge);
        // The last byte that is allowed may be the last of the head.
        let mut exact = start.to_owned() + &"X: y\r\n".repeat(10);
        while exact.len() < MAX_HEAD - 2 {
            let left = (MAX_HEAD - 2 - exact.len()).min(8000);
            exact += &format!("Y: {}\r\n", "z".repeat(left - 5));
        }
        exact += "\r\n";
        assert_eq!(exact.len(), MAX_HEAD);
        assert!(matches!(
            RequestHead::parse(exact.as_bytes(), &limits),
            Ok(Some((MAX_HEAD, _)))
        ));
    }

    #[test]
    fn a_limit_is_broken_before_the_line_has_ended() {
        let parse = |text: &str| RequestHead::parse(text.as_bytes(), &SMALL).unwrap_err();
        assert_eq!(parse(&"x".repeat(41)), HeadError::LineTooLong(40));
        let line = "GET / HTTP/1.1\r\n";
        let long = line.to_owned() + &"x".repeat(31);
        assert_eq!(parse(&long), HeadError::FieldTooLong(30));
        let many = line.to_owned() + &"X: y\r\n".repeat(3) + "X";
        assert_eq!(parse(&many), HeadError::TooManyFields(3));
    }

    #[test]
    fn what_cannot_become_http_is_refused_at_once() {
        let parse = |bytes: &[u8]| RequestHead::parse(bytes, &Limits::default()).unwrap_err();
        assert_eq!(parse(b"\x16\x03\x01"), HeadError::Control(0x16));
        assert_eq!(parse(b"HELLO\r\n"), HeadError::RequestLine);
    }

    #[test]
    fn an_answer_has_its_parts() {
        let head = response(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n").unwrap();
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.status, 101);
        assert_eq!(head.reason, b"Switching Protocols");
        assert_eq!(head.headers.first("a"), Some(&b"b"[..]));
    }

    #[test]
    fn a_reason_may_be_empty_or_beyond_ascii() {
        for (line, reason) in [
            (&b"HTTP/1.0 200"[..], &b""[..]),
            (b"HTTP/1.0 200 ", b""),
            (b"HTTP/1.0 404 pas trouv\xe9", b"pas trouv\xe9"),
        ] {
            let head = response(&[line, b"\r\n\r\n"].concat()).unwrap();
            assert_eq!(head.reason, reason);
            assert_eq!(head.version, Version::Http10);
        }
    }

    #[test]
    fn answers_that_are_refused() {
        for line in [
            "HTTP/2.0 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1\t200 OK",
            "ICY 200 OK",
            "SSH-2.0-x",
            "",
        ] {
            let error = response(format!("{line}\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, HeadError::StatusLine, "{line:?}");
        }
        for (text, error) in [
            (&b"HTTP/1.1 200 a\rb\r\n\r\n"[..], HeadError::BareCr),
            (b"HTTP/1.1 200 OK\n\n", HeadError::BareLf),
            (b"HTTP/1.1 200 \x1b[0m\r\n\r\n", HeadError::Control(0x1b)),
            (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", HeadError::Folded),
            (
                b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
                HeadError::SpaceBeforeColon,
            ),
            (b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", HeadError::Control(0)),
        ] {
            assert_eq!(response(text).unwrap_err(), error);
        }
    }

    #[test]
    fn the_request_line_is_known_of_every_request() {
        for (bytes, line) in [
            (
                &b"\r\n\r\nGET / HTTP/1.1\r\nHost: a"[..],
                &b"GET / HTTP/1.1"[..],
            ),
            (b"BAD\nX", b"BAD"),
            (b"GET /not-yet-en", b"GET /not-yet-en"),
            (b"\r\n", b""),
            (b"", b""),
        ] {
            assert_eq!(request_line(bytes), line);
        }
    }

    /// What came of parsing, in a form that can be compared.
    fn outcome<H: std::fmt::Debug>(
        parsed: Result<Option<(usize, H)>, HeadError>,
    ) -> Option<String> {
        match parsed {
            Ok(None) => None,
            Ok(Some((used, head))) => Some(format!("{used} {head:?}")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Feeds `bytes` one by one; the first outcome must be the one that all bytes have at once.
    fn same_at_every_split(bytes: &[u8], limits: &Limits) {
        let by_byte = (0..=bytes.len())
            .find_map(|end| outcome(RequestHead::parse(bytes.get(..end).unwrap(), limits)));
        assert_eq!(
            by_byte,
            outcome(RequestHead::parse(bytes, limits)),
            "{bytes:?}"
        );
        let by_byte = (0..=bytes.len())
            .find_map(|end| outcome(ResponseHead::parse(bytes.get(..end).unwrap(), limits)));
        assert_eq!(
            by_byte,
            outcome(ResponseHead::parse(bytes, limits)),
            "{bytes:?}"
        );
    }

    const SAMPLES: [&[u8]; 4] = [
        b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nxyz",
        b"\r\nGET http://b:1/ HTTP/1.0\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00",
        b"HTTP/1.0 404\r\nX: y\r\nX: z\r\n\r\n",
    ];
    const LIKELY: &[u8] = b"\r\n\t :/,\0HTTP1.#*@[]%\x7f\x80";

    #[test]
    fn cuts_into_reads_make_no_difference() {
        for sample in SAMPLES {
            same_at_every_split(sample, &Limits::default());
            same_at_every_split(sample, &SMALL);
        }
    }

    #[test]
    fn never_panics_and_never_depends_on_the_reads() {
        let mut noise = Noise::new(0x5eed_0001);
        for _ in 0..3000 {
            let sample = *noise.pick(&SAMPLES);
            let bytes = noise.mangle(sample, LIKELY);
            same_at_every_split(&bytes, &SMALL);
            same_at_every_split(&bytes, &Limits::default());
            request_line(&bytes);
        }
    }
}
