//! `LogFormat`: parsed once, rendered per transaction.

/// A parsed log format. httpd: `LogFormat`, `CustomLog`.
#[derive(Debug, Clone)]
pub struct LogFormat {
    // The pure-rooms author decides.
}

impl LogFormat {
    /// Parses a format such as `%h %l %u %t "%r" %>s %b`.
    ///
    /// # Errors
    /// A sentence that names the part that is not understood.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Err("not written yet".into())
    }
}
