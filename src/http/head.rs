//! Request and response heads.

use super::headers::Headers;

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
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method, as written.
    pub method: String,
    /// The request target, as written.
    pub target: String,
    /// The version.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
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
