//! What a message is answered with when it is not tunnelled, and the map from errors to statuses: of heads and of
//! backends here, of paths in `route`, of upgrades in `handshake`, since this room knows no other.

use super::date;
use super::document::Document;
use super::head::{HeadError, ResponseHead};
use super::headers::Headers;
use super::persistence::Afterwards;
use super::proxy_header::ProxyHeaderError;
use crate::ids::Id;
use std::io::Write;

/// The methods of the RFC that may reach a backend, for an `Allow` field. Others may as well.
pub const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// An answer that we give in place of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub id: Id,
    /// The status code, 300 to 599 but not 304, which has no body.
    pub status: u16,
    /// The reason, in the manner of log lines: lower case, no full stop. It goes to the log. The client reads it only if
    /// the fault is the client's (4xx) and no rule is named: what is behind us is not for everybody to know.
    pub why: String,
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl Refusal {
    /// A refusal without further header fields, with the status that belongs to it.
    pub fn new(id: Id, why: impl Into<String>) -> Self {
        Self::with_status(id, status_of(id), why)
    }

    /// A refusal whose status the configuration chose.
    pub fn with_status(id: Id, status: u16, why: impl Into<String>) -> Self {
        Self {
            id,
            status,
            why: why.into(),
            fields: Vec::new(),
        }
    }

    /// What a client gets in place of a backend's error answer: its status, and of its fields those alone without which
    /// this status would not be whole. httpd: `ProxyErrorOverride`.
    pub fn in_place_of(answer: &ResponseHead) -> Self {
        let why = format!("the backend answered {}", answer.status);
        let mut refusal = Self::with_status(Id::Overridden, answer.status, why);
        for name in required_fields(answer.status) {
            for value in answer.headers.all(name) {
                refusal = refusal.with_header(name, value);
            }
        }
        refusal
    }

    /// Adds a header field. The value must be one that we made, configured or parsed: it is written as it is.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        debug_assert!(
            !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "{name} with the end of a line"
        );
        self.fields.push((name, value));
        self
    }

    /// The whole answer: an HTTP/1.1 head, and one plain sentence, or the page of `document`; and
    /// how many of the bytes are that body. To a HEAD request the body is only counted in `Content-Length`. Where
    /// `document` leads elsewhere, the answer is a redirection, and the fields of the refusal's own status are not in it.
    ///
    /// `extra` are fields that the configuration adds (`Header always`). What is among them stands in place of ours, so that
    /// no field is there twice; one that frames the answer or says what it is must not be there.
    pub fn encode(
        &self,
        is_head: bool,
        now_unix_seconds: u64,
        extra: &Headers,
        document: Option<&Document>,
        afterwards: Afterwards,
    ) -> (Vec<u8>, usize) {
        let status = document.map_or(self.status, |document| document.status(self.status));
        let (sentence, location);
        let (content_type, body) = match document {
            Some(Document::Page(page)) => (page.content_type, page.body.as_slice()),
            _ => {
                sentence = self.sentence();
                ("text/plain", sentence.as_bytes())
            }
        };
        let fields = match document {
            Some(Document::Elsewhere(url)) => {
                location = [("Location", url.clone().into_bytes())];
                location.as_slice()
            }
            _ => self.fields.as_slice(),
        };
        let head = OwnHead {
            status,
            fields,
            content_type,
            length: body.len(),
        };
        let sent = if is_head { &[] } else { body };
        let mut out = head.encode(now_unix_seconds, extra, afterwards);
        out.extend_from_slice(sent);
        (out, sent.len())
    }

    /// What the client reads: what is wrong, what to do, and the number to search for.
    fn sentence(&self) -> String {
        let (what, then) = match public_reason(self.id, self.status) {
            Some(reason) => (reason, "the error log of the proxy tells more"),
            None => (self.why.as_str(), self.id.remedy()),
        };
        let mut text = String::with_capacity(what.len() + then.len() + 16);
        for sentence in [what, then] {
            let mut chars = sentence.chars();
            if let Some(first) = chars.next() {
                text.extend(first.to_uppercase());
            }
            text.push_str(chars.as_str());
            text.push_str(". ");
        }
        text.push('[');
        text.push_str(self.id.code());
        text.push_str("]\n");
        text
    }
}

/// The head of an answer that this program makes.
#[derive(Debug)]
pub struct OwnHead<'a> {
    /// The status code.
    pub status: u16,
    /// Fields that belong to it. The values must be such that we made, configured or parsed.
    pub fields: &'a [(&'static str, Vec<u8>)],
    /// As in `Content-Type`.
    pub content_type: &'a str,
    /// Bytes of the body, also where it is not sent.
    pub length: usize,
}

impl OwnHead<'_> {
    /// An HTTP/1.1 head. `extra`: see [`Refusal::encode`].
    pub fn encode(
        &self,
        now_unix_seconds: u64,
        extra: &Headers,
        afterwards: Afterwards,
    ) -> Vec<u8> {
        let Self {
            status,
            fields,
            content_type,
            length,
        } = self;
        let mut out = Vec::with_capacity(512);
        // RFC 9110 section 7.8: who sends Upgrade names it in Connection.
        let upgrade = fields.iter().any(|(name, _)| *name == "Upgrade");
        // Writing to a vector does not fail.
        let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(*status));
        if extra.first("Date").is_none() {
            let _ = write!(out, "Date: {}\r\n", date::imf_fixdate(now_unix_seconds));
        }
        if extra.first("Server").is_none() {
            out.extend_from_slice(b"Server: proxy-wstunnel\r\n");
        }
        // The sentence repeats what the client has sent: no browser shall take it for a page.
        let own = fields.iter().map(|(name, value)| (*name, &**value));
        let own = own.chain([("X-Content-Type-Options", &b"nosniff"[..])]);
        let own = own.filter(|(name, _)| extra.first(name).is_none());
        for (name, value) in extra.iter().chain(own) {
            let _ = write!(out, "{name}: ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        afterwards.push_fields(upgrade, &mut out);
        let _ = write!(
            out,
            "Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        out
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let id = match error {
            HeadError::LineTooLong(_) => Id::LineTooLong,
            HeadError::FieldTooLong(_) | HeadError::TooManyFields(_) | HeadError::TooLarge => {
                Id::FieldsTooLarge
            }
            HeadError::Version => Id::BadVersion,
            HeadError::Connect => Id::Connect,
            _ => Id::BadHead,
        };
        let refusal = Self::new(id, error.to_string());
        match error {
            // RFC 9110 section 15.5.6 demands the list.
            HeadError::Connect => refusal.with_header("Allow", METHODS),
            _ => refusal,
        }
    }
}

impl From<ProxyHeaderError> for Refusal {
    fn from(error: ProxyHeaderError) -> Self {
        // httpd: drops the connection without a word. Who is meant to send the header learns here what is wrong.
        Self::new(Id::BadProxyHeader, error.to_string())
    }
}

/// The status with which a client learns of something.
fn status_of(id: Id) -> u16 {
    match id {
        Id::BadHead
        | Id::HeadCut
        | Id::BadProxyHeader
        | Id::BadBody
        | Id::NoHopsLeft
        | Id::BadPath
        | Id::PlainHttp
        | Id::BadUpgrade => 400,
        Id::Misdirected => 421,
        Id::BadTarget | Id::Denied | Id::Forbidden => 403,
        Id::NotMapped | Id::HiddenByte | Id::LocalFile => 404,
        Id::Connect | Id::TraceOff | Id::WrongMethod => 405,
        Id::HeadTimeout | Id::BodyTimeout => 408,
        Id::Gone => 410,
        Id::LengthRequired => 411,
        Id::BodyTooLarge => 413,
        Id::LineTooLong => 414,
        Id::BadExpectation => 417,
        Id::UpgradeRequired => 426,
        Id::TooManyOfAddress | Id::TooOften => 429,
        Id::FieldsTooLarge => 431,
        Id::Unresolved | Id::TlsFailed | Id::Closed | Id::Garbage | Id::BadSwitch => 502,
        // httpd: a connect timeout is 503 there too, as one of the ways of not being reachable.
        Id::TooManyTunnels
        | Id::TooManyOfHost
        | Id::TooManyAtBackend
        | Id::Disabled
        | Id::NoMember
        | Id::Busy
        | Id::Unreachable
        | Id::ConnectTimeout
        | Id::Stopping
        | Id::NoDescriptors => 503,
        Id::TlsTimeout | Id::AnswerTimeout => 504,
        Id::BadVersion => 505,
        _ => 500,
    }
}

/// What everybody may know where the reason tells about our side: what went wrong there, or how a rule is written.
fn public_reason(id: Id, status: u16) -> Option<&'static str> {
    let reason = match (id, status) {
        // Why the backend refuses is its own affair.
        (Id::Overridden, _) => "the request cannot be served",
        (Id::TooManyTunnels | Id::TooManyOfHost | Id::TooManyAtBackend, _) => {
            "there is no room for a further tunnel at the moment"
        }
        (_, 502) => "the backend did not give a valid answer",
        (_, 503) => "the backend cannot be reached at the moment",
        (_, 504) => "the backend did not answer in time",
        (_, 505) => "this server speaks HTTP/1.1 and HTTP/1.0",
        (Id::Redirected, ..400) => "what was asked for is elsewhere",
        (Id::LocalFile, _) => "there is nothing here",
        (Id::Forbidden | Id::Gone | Id::Redirected, _) | (_, 500..) => {
            "the request cannot be served"
        }
        _ => return None,
    };
    Some(reason)
}

/// The fields that an answer of a backend's must have because of its status (RFC 9110 sections 15.5.2, 15.5.6 and
/// 15.5.22).
// httpd: keeps the first alone, and makes an Allow of its own, which knows nothing of the backend.
fn required_fields(status: u16) -> &'static [&'static str] {
    match status {
        401 => &["WWW-Authenticate"],
        405 => &["Allow"],
        426 => &["Upgrade", "Sec-WebSocket-Version"],
        _ => &[],
    }
}

/// The reason phrases of the statuses that we send (RFC 9110 section 15, and others that backends like to send).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        // A phrase may be empty (RFC 9112 section 4), and no client reads it.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::AuthorityError;
    use super::super::body::BodyError;
    use super::super::body::{BodyReader, Framing};
    use super::super::head::{Limits, ResponseHead};
    use super::*;

    fn text(refusal: &Refusal) -> String {
        let bytes = refusal
            .encode(
                false,
                784_111_777,
                &Headers::default(),
                None,
                Afterwards::Ends,
            )
            .0;
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_refusal_is_one_whole_answer() {
        let refusal = Refusal::new(Id::NotMapped, "nothing is mapped at \"/x\"");
        assert_eq!(
            text(&refusal),
            "HTTP/1.1 404 Not Found\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Server: proxy-wstunnel\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\
             Content-Type: text/plain\r\n\
             Content-Length: 93\r\n\
             \r\n\
             Nothing is mapped at \"/x\". Write a ProxyPass for it; --explain tells what was tried. [PW201]\n"
        );
    }

    #[test]
    fn an_answer_has_the_fields_that_the_configuration_adds() {
        let mut extra = Headers::default();
        extra.push("Strict-Transport-Security", b"max-age=1");
        extra.push("server", b"other");
        extra.push("allow", b"HEAD");
        let refusal = Refusal::new(Id::Connect, "no").with_header("Allow", "GET");
        let (bytes, body) = refusal.encode(true, 784_111_777, &extra, None, Afterwards::Ends);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 405 Method Not Allowed\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Strict-Transport-Security: max-age=1\r\n\
             server: other\r\n\
             allow: HEAD\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\
             Content-Type: text/plain\r\n\
             Content-Length: 86\r\n\
             \r\n"
        );
        assert_eq!(body, 0);
    }

    fn with_document(refusal: &Refusal, is_head: bool, document: &Document) -> (String, usize) {
        let mut extra = Headers::default();
        extra.push("X-Always", b"1");
        let (bytes, body) = refusal.encode(
            is_head,
            784_111_777,
            &extra,
            Some(document),
            Afterwards::Ends,
        );
        (String::from_utf8(bytes).unwrap(), body)
    }

    #[test]
    fn a_page_stands_in_place_of_our_sentence() {
        let refusal = Refusal::new(Id::UpgradeRequired, "no").with_header("Upgrade", "WebSocket");
        let head = "HTTP/1.1 426 Upgrade Required\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Server: proxy-wstunnel\r\n\
             X-Always: 1\r\n\
             Upgrade: WebSocket\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Connection: close, Upgrade\r\n\
             Content-Type: text/html; charset=utf-8\r\n\
             Content-Length: 3\r\n\
             \r\n";
        let document = Document::text("<ö").unwrap();
        assert_eq!(
            with_document(&refusal, true, &document),
            (head.to_owned(), 0)
        );
        assert_eq!(
            with_document(&refusal, false, &document),
            (head.to_owned() + "<ö", 3)
        );
    }

    #[test]
    fn a_document_elsewhere_is_a_redirection() {
        let refusal = Refusal::new(Id::Connect, "what it was").with_header("Allow", "GET");
        let document = Document::elsewhere("https://help.example/405?a=b").unwrap();
        let (text, _) = with_document(&refusal, false, &document);
        assert!(text.starts_with("HTTP/1.1 302 Found\r\n"), "{text}");
        assert!(
            text.contains("\r\nX-Always: 1\r\nLocation: https://help.example/405?a=b\r\nX-Content")
        );
        assert!(text.contains("\r\nContent-Type: text/plain\r\n"));
        assert!(
            !text.contains("Allow") && text.contains("What it was. "),
            "{text}"
        );
    }

    #[test]
    fn an_overridden_answer_keeps_only_what_its_status_demands() {
        let fields = "WWW-Authenticate: Basic realm=\"x\"\r\nallow: GET\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Version: 13\r\nwww-authenticate: \tNegotiate\r\nSet-Cookie: a=b\r\n\
                      Location: /x\r\nContent-Length: 7\r\nContent-Type: a/b\r\n";
        for (status, kept) in [
            (
                401,
                "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Negotiate\r\n",
            ),
            (405, "Allow: GET\r\n"),
            (426, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            (403, ""),
            (502, ""),
            (599, ""),
        ] {
            let head = format!("HTTP/1.1 {status} Its own words\r\n{fields}\r\n");
            let parsed = ResponseHead::parse(head.as_bytes(), &Limits::default());
            let refusal = Refusal::in_place_of(&parsed.unwrap().unwrap().1);
            let connection = if status == 426 {
                "close, Upgrade"
            } else {
                "close"
            };
            let text = text(&refusal);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = body.len();
            assert_eq!(
                head,
                format!(
                    "HTTP/1.1 {status} {}\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: proxy-wstunnel\r\n\
                     {kept}X-Content-Type-Options: nosniff\r\nConnection: {connection}\r\n\
                     Content-Type: text/plain\r\nContent-Length: {length}",
                    reason(status)
                )
            );
            assert_eq!(
                body,
                "The request cannot be served. The error log of the proxy tells more. [PW415]\n"
            );
        }
    }

    #[test]
    fn our_own_parsers_take_every_refusal() {
        for status in (300..600).filter(|status| *status != 304) {
            let refusal = Refusal::with_status(Id::Redirected, status, "so");
            let bytes = refusal
                .encode(false, 0, &Headers::default(), None, Afterwards::Ends)
                .0;
            let parsed = ResponseHead::parse(&bytes, &Limits::default());
            let (used, head) = parsed.unwrap().unwrap();
            assert_eq!(head.status, status);
            let framing = Framing::of_answer("GET", &head).unwrap();
            let mut body = BodyReader::new(framing);
            let (read, _) = body.read(bytes.get(used..).unwrap()).unwrap();
            assert_eq!((used + read, body.is_complete()), (bytes.len(), true));
        }
    }

    #[test]
    fn an_upgrade_field_is_named_in_connection() {
        let refusal = Refusal::new(Id::UpgradeRequired, "no").with_header("Upgrade", "WebSocket");
        let text = text(&refusal);
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(text.contains("\r\nUpgrade: WebSocket\r\n"));
        assert!(text.contains("\r\nConnection: close, Upgrade\r\n"));
    }

    #[test]
    fn what_is_wrong_behind_us_stays_in_the_log() {
        let refusal = Refusal::new(Id::Unreachable, "ws://10.0.0.7:9/: connection refused");
        assert!(!text(&refusal).contains("10.0.0.7"));
        assert!(text(&refusal).ends_with(
            "The backend cannot be reached at the moment. The error log of the proxy tells more. [PW404]\n"
        ));
    }

    #[test]
    fn how_a_rule_is_written_stays_in_the_log() {
        for id in [Id::Forbidden, Id::Gone, Id::LocalFile, Id::Redirected] {
            for status in [302, 403, 404, 410, 451] {
                let refusal = Refusal::with_status(id, status, "RewriteRule \"^/s3cret\" refuses");
                assert!(!text(&refusal).contains("RewriteRule"), "{id:?} {status}");
            }
        }
    }

    #[test]
    fn every_broken_rule_has_its_status() {
        for (error, status) in [
            (HeadError::LineTooLong(8190), 414),
            (HeadError::FieldTooLong(8190), 431),
            (HeadError::TooManyFields(100), 431),
            (HeadError::TooLarge, 431),
            (HeadError::Version, 505),
            (HeadError::Connect, 405),
            (HeadError::BareLf, 400),
            (HeadError::HostMissing, 400),
            (HeadError::Host(AuthorityError::Empty), 400),
            (HeadError::Body(BodyError::LengthAndCoding), 400),
        ] {
            let refusal = Refusal::from(error.clone());
            assert_eq!(refusal.status, status, "{error}");
            assert_eq!(refusal.why, error.to_string());
            assert_eq!(text(&refusal).contains("Allow: GET"), status == 405);
        }
    }

    #[test]
    fn every_failure_of_a_backend_has_its_status() {
        for (id, status) in [
            (Id::Disabled, 503),
            (Id::Busy, 503),
            (Id::Unresolved, 502),
            (Id::Unreachable, 503),
            (Id::ConnectTimeout, 503),
            (Id::TlsFailed, 502),
            (Id::TlsTimeout, 504),
            (Id::Closed, 502),
            (Id::Garbage, 502),
            (Id::AnswerTimeout, 504),
            (Id::BadSwitch, 502),
        ] {
            assert_eq!(Refusal::new(id, "").status, status, "{id:?}");
        }
    }
}
