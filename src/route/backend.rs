//! A backend: its URL, and what the configuration says about connecting to it.

use super::url::BackendUrl;
use crate::handshake::Upgrade;
use std::time::Duration;

/// One ws or wss origin with its base path and its parameters. httpd calls this a worker of mod_proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where it is.
    pub url: BackendUrl,
    /// How it is dealt with.
    pub parameters: Parameters,
}

/// `key=value` behind the URL of a `ProxyPass`, or in `ProxySet`. What is unset leaves it to directives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// `connectiontimeout=`: time for the TCP connect; unset means as `timeout`.
    pub connect_timeout: Option<Duration>,
    /// `timeout=`; unset means `ProxyTimeout`, else `Timeout`.
    pub timeout: Option<Duration>,
    /// `upgrade=`
    pub upgrade: Upgrade,
}
