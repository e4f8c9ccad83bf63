//! A virtual host, and what it takes to serve it.

use super::tls::{Connectors, Workshop};
use crate::access_log::AccessLog;
use crate::config::VirtualHost;
use crate::error_log::{self, ErrorLog};
use crate::log_writer::{LineSink, LogWriter};
use crate::logging::{ErrorLogTerms, Target, Topic};
use crate::net::tls::TlsHost;
use crate::transaction::Transaction;
use log::Level;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A virtual host with the devices that it needs.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: Arc<VirtualHost>,
    pub(super) logs: Arc<SiteLogs>,
    /// Where it speaks TLS with its clients.
    pub(super) tls_host: Option<TlsHost>,
    /// What speaks TLS with its backends.
    pub(super) connectors: Connectors,
}

/// The logs of a virtual host: what a tunnel keeps of its host, for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct SiteLogs {
    pub(super) access: Vec<AccessLog>,
    /// Its own error log; otherwise that of the process.
    error: Option<ErrorLog>,
}

impl Site {
    /// Opens and reads what the host needs.
    pub(super) fn open(
        host: &Arc<VirtualHost>,
        logs: &LogWriter,
        workshop: &mut Workshop,
    ) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            host: Arc::clone(host),
            logs: Arc::new(SiteLogs::open(host, logs)?),
            tls_host: workshop.tls_host(host)?,
            connectors: workshop.of(host)?,
        }))
    }
}

impl SiteLogs {
    fn open(host: &VirtualHost, logs: &LogWriter) -> Result<Self, String> {
        let open_access_log = |log: &crate::config::AccessLog| {
            let sink = open_log(logs, &log.target)?;
            let (format, condition) = (Arc::clone(&log.format), log.condition.clone());
            Ok::<_, String>(AccessLog::new(sink, format, condition, log.events))
        };
        let access = host.access_logs.iter().map(open_access_log);
        let own_error_log = host.error_log.as_ref();
        let own_error_log = own_error_log.map(|terms| open_error_log(logs, terms));
        Ok(Self {
            access: access.collect::<Result<_, String>>()?,
            error: own_error_log.transpose()?,
        })
    }

    /// A line about a connection.
    pub(super) fn say(
        &self,
        topic: Topic,
        level: Level,
        transaction: &Transaction,
        text: fmt::Arguments<'_>,
    ) {
        let (id, client) = (transaction.id, transaction.client());
        match &self.error {
            Some(own) => own.say(topic, level, format_args!("[{id}] {client} {text}")),
            None => error_log::say(topic, level, format_args!("[{id}] {client} {text}")),
        }
    }

    /// The lines of the access logs about a transaction that has taken so long up to now.
    pub(super) fn log_access(&self, transaction: &Transaction, took: Duration) {
        for log in &self.access {
            log.write(transaction, took);
        }
    }
}

/// An error log, ready to be used.
pub(super) fn open_error_log(logs: &LogWriter, terms: &ErrorLogTerms) -> Result<ErrorLog, String> {
    let sink = open_log(logs, &terms.target)?;
    Ok(ErrorLog::new(&sink, terms.levels.clone()))
}

fn open_log(logs: &LogWriter, target: &Target) -> Result<LineSink, String> {
    logs.open(target)
        .map_err(|error| format!("log {target}: cannot be opened: {error}"))
}
