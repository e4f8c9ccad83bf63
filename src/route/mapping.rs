//! One `ProxyPass` line.

use super::url::BackendUrl;
use crate::handshake::Upgrade;
use std::time::Duration;

/// One mapping: a path prefix and the backend that serves what is below it. httpd: `ProxyPass`.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The path prefix as configured.
    pub prefix: String,
    /// Where it leads.
    pub url: BackendUrl,
    /// `connectiontimeout=`: time for the TCP connect; unset means as `timeout`.
    pub connect_timeout: Option<Duration>,
    /// `timeout=`; unset means `ProxyTimeout`, else `Timeout`.
    pub timeout: Option<Duration>,
    /// `upgrade=`
    pub upgrade: Upgrade,
    /// Where it was configured: `file:line`.
    pub origin: String,
}
