//! The access log: one line per transaction, at its end; another one when its tunnel opens, if asked for. httpd: `CustomLog`.

pub mod format;

use crate::log_writer::LineSink;
use crate::logging::{Events, Severity};
use crate::route::environment::{Condition, Environment};
use crate::transaction::Transaction;
use format::LogFormat;
use std::sync::Arc;
use std::time::Duration;

/// One access log of one virtual host.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: LineSink,
    /// What each line begins with, for who collects them.
    prefix: String,
    format: Arc<LogFormat>,
    condition: Option<Condition>,
    events: Events,
}

impl AccessLog {
    /// A log of `format` into `sink`, of these events of the requests for which `condition` holds.
    pub fn new(
        sink: LineSink,
        format: Arc<LogFormat>,
        condition: Option<Condition>,
        events: Events,
    ) -> Self {
        Self {
            prefix: sink.prefix(Severity::ACCESS),
            sink,
            format,
            condition,
            events,
        }
    }

    /// Whether it looks at this variable of a request.
    pub fn needs_variable(&self, name: &str) -> bool {
        let is_named = |condition: &Condition| condition.variable().eq_ignore_ascii_case(name);
        self.condition.as_ref().is_some_and(is_named) || self.format.needs_variable(name)
    }

    /// Whether its lines tell this of the client's TLS.
    pub fn needs_tls(&self, name: &str) -> bool {
        self.format.needs_tls(name)
    }

    /// Whether its lines tell of the request's header fields.
    pub fn needs_request(&self) -> bool {
        self.format.needs_request()
    }

    /// Whether its lines tell of the answer's header fields.
    pub fn needs_answer(&self) -> bool {
        self.format.needs_answer()
    }

    /// Writes the line of a transaction that has taken `took` up to now, if it is one that is logged here.
    pub fn write(&self, transaction: &Transaction, took: Duration) {
        let nothing = Environment::default();
        let environment = transaction.noted().map_or(&nothing, |it| &it.environment);
        let holds = |condition: &Condition| condition.holds(environment);
        let is_due = self.events.include(transaction.is_open);
        if !is_due || !self.condition.as_ref().is_none_or(holds) {
            return;
        }
        let mut line = Vec::with_capacity(160);
        line.extend_from_slice(self.prefix.as_bytes());
        self.format.render(transaction, took, &mut line);
        self.sink.write_line(line);
    }
}
