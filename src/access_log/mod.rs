//! The access log: one line per transaction, at its end. httpd: `CustomLog`.

pub mod format;

use crate::log_writer::LineSink;
use crate::transaction::Transaction;
use format::LogFormat;
use std::sync::Arc;
use std::time::Duration;

/// One access log of one virtual host.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: LineSink,
    format: Arc<LogFormat>,
}

impl AccessLog {
    /// A log of `format` into `sink`.
    pub fn new(sink: LineSink, format: Arc<LogFormat>) -> Self {
        Self { sink, format }
    }

    /// Whether its lines tell of the request's header fields.
    pub fn needs_request(&self) -> bool {
        self.format.needs_request()
    }

    /// Whether its lines tell of the answer's header fields.
    pub fn needs_answer(&self) -> bool {
        self.format.needs_answer()
    }

    /// Writes the line of a transaction that has taken `took`.
    pub fn write(&self, transaction: &Transaction, took: Duration) {
        let mut line = Vec::with_capacity(160);
        self.format.render(transaction, took, &mut line);
        self.sink.write_line(line);
    }
}
