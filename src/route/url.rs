//! Canonical paths, percent rules, `ws://` and `wss://` targets.

/// The URL of a backend, taken from configuration text only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendUrl {
    /// `wss://`: the backend is spoken to in TLS.
    pub tls: bool,
    /// The host in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port; 80 for ws and 443 for wss where none was written.
    pub port: u16,
    /// The path, empty or beginning with `/`.
    pub path: String,
}

impl BackendUrl {
    /// Parses `ws://host[:port][/path]` or `wss://...`.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Err("not written yet".into())
    }
}
