//! What a message is answered with when it is not tunnelled, and the map from errors to statuses: of heads and of
//! backends here, of paths in `route`, of upgrades in `handshake`, since this room knows no other.

use super::date;
use super::head::HeadError;
use std::io::Write;

/// An answer that we give instead of tunnelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status code, 300 to 599 but not 304, which has no body.
    pub status: u16,
    /// The reason, in the manner of log lines: lower case, no full stop. It goes to the log. The client reads it only if
    /// the fault is the client's (4xx): what is wrong behind us is not for everybody to know.
    pub why: String,
    fields: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal without further header fields.
    pub fn new(status: u16, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
            fields: Vec::new(),
        }
    }

    /// Sends the client to another URL, which holds visible ASCII characters only. `status` is one of 301 to 308.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::new(status, "the answer is elsewhere").with_header("Location", location)
    }

    /// Adds a header field. The value must be one that we made or configured: it is written as it is.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        debug_assert!(
            !value.contains(|c: char| c.is_control()),
            "{name} with control characters"
        );
        self.fields.push((name, value));
        self
    }

    /// The whole answer: an HTTP/1.1 head that ends the connection, and one plain sentence; and how many of the bytes are
    /// that sentence. To a HEAD request the sentence is only counted in `Content-Length`.
    pub fn encode(&self, is_head: bool, now_unix_seconds: u64) -> (Vec<u8>, usize) {
        let body = self.sentence();
        let sent = if is_head { "" } else { &body };
        let mut out = Vec::with_capacity(256 + body.len());
        // RFC 9110 section 7.8: who sends Upgrade names it in Connection.
        let upgrade = self.fields.iter().any(|(name, _)| *name == "Upgrade");
        let connection = if upgrade { "close, Upgrade" } else { "close" };
        // Writing to a vector does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {} {}\r\nDate: {}\r\nServer: proxy-wstunnel\r\n",
            self.status,
            reason(self.status),
            date::imf_fixdate(now_unix_seconds)
        );
        for (name, value) in &self.fields {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        let _ = write!(
            out,
            "Connection: {connection}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{sent}",
            body.len()
        );
        (out, sent.len())
    }

    /// What the client reads.
    fn sentence(&self) -> String {
        let text = match self.status {
            500.. => public_reason(self.status),
            _ => &self.why,
        };
        let mut sentence = String::with_capacity(text.len() + 2);
        let mut chars = text.chars();
        if let Some(first) = chars.next() {
            sentence.extend(first.to_uppercase());
        }
        sentence.push_str(chars.as_str());
        sentence.push_str(".\n");
        sentence
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let status = match error {
            HeadError::LineTooLong(_) => 414,
            HeadError::FieldTooLong(_) | HeadError::TooManyFields(_) | HeadError::TooLarge => 431,
            HeadError::Version => 505,
            HeadError::Connect => 405,
            _ => 400,
        };
        let refusal = Self::new(status, error.to_string());
        match error {
            // RFC 9110 section 15.5.6 demands the list.
            HeadError::Connect => refusal.with_header("Allow", "GET"),
            _ => refusal,
        }
    }
}

/// What went wrong between us and a backend before a tunnel began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendFailure {
    /// It is not to be used. httpd: `status=+D`.
    Disabled,
    /// It has as many tunnels as it may have, and none ended in time. httpd: `max=`, `acquire=`.
    Busy,
    /// Its name has no address.
    Resolve,
    /// No address took the connection.
    Connect,
    /// No address took the connection in time.
    ConnectTimeout,
    /// The TLS handshake failed, or its certificate is not to be trusted.
    Tls,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// It ended the connection before its answer was complete.
    Closed,
    /// Its answer is not HTTP, or not such that everybody reads it alike.
    Garbage,
    /// It did not answer in time.
    AnswerTimeout,
    /// It said 101, but not to what was asked.
    BadSwitch,
}

impl From<BackendFailure> for Refusal {
    fn from(failure: BackendFailure) -> Self {
        let status = failure.status();
        Self::new(status, public_reason(status))
    }
}

impl BackendFailure {
    /// The status with which a client learns of it.
    pub fn status(self) -> u16 {
        match self {
            // httpd: a connect timeout is 503 there too, as one of the ways of not being reachable.
            Self::Disabled | Self::Busy | Self::Connect | Self::ConnectTimeout => 503,
            Self::TlsTimeout | Self::AnswerTimeout => 504,
            Self::Resolve | Self::Tls | Self::Closed | Self::Garbage | Self::BadSwitch => 502,
        }
    }
}

/// What everybody may know about an error on our side.
fn public_reason(status: u16) -> &'static str {
    match status {
        502 => "the backend did not give a valid answer",
        503 => "the backend cannot be reached at the moment",
        504 => "the backend did not answer in time",
        505 => "this server speaks HTTP/1.1 and HTTP/1.0",
        _ => "the request cannot be served",
    }
}

/// The reason phrases of the statuses that we send (RFC 9110 section 15).
fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
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
        String::from_utf8(refusal.encode(false, 784_111_777).0).unwrap()
    }

    #[test]
    fn a_refusal_is_one_whole_answer() {
        let refusal = Refusal::new(404, "nothing is mapped at \"/x\"");
        assert_eq!(
            text(&refusal),
            "HTTP/1.1 404 Not Found\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Server: proxy-wstunnel\r\n\
             Connection: close\r\n\
             Content-Type: text/plain\r\n\
             Content-Length: 27\r\n\
             \r\n\
             Nothing is mapped at \"/x\".\n"
        );
    }

    #[test]
    fn our_own_parsers_take_every_refusal() {
        for status in (300..600).filter(|status| *status != 304) {
            let bytes = Refusal::new(status, "so").encode(false, 0).0;
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
        let refusal = Refusal::new(426, "no").with_header("Upgrade", "WebSocket");
        let text = text(&refusal);
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(text.contains("\r\nUpgrade: WebSocket\r\n"));
        assert!(text.contains("\r\nConnection: close, Upgrade\r\n"));
    }

    #[test]
    fn what_is_wrong_behind_us_stays_in_the_log() {
        let refusal = Refusal::new(503, "ws://10.0.0.7:9/: connection refused");
        assert!(!text(&refusal).contains("10.0.0.7"));
        assert!(text(&refusal).ends_with("The backend cannot be reached at the moment.\n"));
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
        use BackendFailure as F;
        for (failure, status) in [
            (F::Resolve, 502),
            (F::Connect, 503),
            (F::ConnectTimeout, 503),
            (F::Tls, 502),
            (F::TlsTimeout, 504),
            (F::Closed, 502),
            (F::Garbage, 502),
            (F::AnswerTimeout, 504),
            (F::BadSwitch, 502),
        ] {
            assert_eq!(failure.status(), status, "{failure:?}");
        }
    }
}
