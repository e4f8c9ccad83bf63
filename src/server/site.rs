//! A virtual host, and what it takes to serve it.

use super::tls::{Connectors, Workshop};
use crate::access_log::AccessLog;
use crate::config::{LogTarget, VirtualHost};
use crate::log_writer::{LineSink, LogWriter, Target};
use crate::net::tls::TlsHost;
use std::sync::Arc;

/// A virtual host with the devices that it needs.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: Arc<VirtualHost>,
    /// The target of log records about its requests.
    pub(super) log_target: String,
    pub(super) access_logs: Vec<AccessLog>,
    /// Where it speaks TLS with its clients.
    pub(super) tls_host: Option<TlsHost>,
    /// What speaks TLS with its backends.
    pub(super) connectors: Connectors,
}

impl Site {
    /// Opens and reads what the host needs.
    pub(super) fn open(
        host: &Arc<VirtualHost>,
        logs: &LogWriter,
        workshop: &mut Workshop,
    ) -> Result<Arc<Self>, String> {
        let access_logs = host
            .access_logs
            .iter()
            .map(|log| {
                let sink = open_log(logs, &LogTarget::File(log.path.clone()))?;
                let (format, condition) = (Arc::clone(&log.format), log.condition.clone());
                Ok(AccessLog::new(sink, format, condition))
            })
            .collect::<Result<_, String>>()?;
        Ok(Arc::new(Self {
            log_target: log_target(host),
            host: Arc::clone(host),
            access_logs,
            tls_host: workshop.tls_host(host)?,
            connectors: workshop.of(host)?,
        }))
    }
}

/// The target of the log records about a host's requests.
pub(super) fn log_target(host: &VirtualHost) -> String {
    match host.error_log {
        Some(_) => format!("host {}", host.origin),
        None => module_path!().to_owned(),
    }
}

pub(super) fn open_log(logs: &LogWriter, target: &LogTarget) -> Result<LineSink, String> {
    let (target, name) = match target {
        LogTarget::Stderr => (Target::Stderr, "stderr".to_owned()),
        LogTarget::File(path) => (Target::File(path.clone()), path.display().to_string()),
    };
    logs.open(&target)
        .map_err(|error| format!("log {name}: cannot be opened: {error}"))
}
