//! A backend: its URL, and what the configuration says about connecting to it.

use super::url::BackendUrl;
use crate::handshake::Upgrade;
use crate::tls::backend::Demands;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// One ws or wss origin with its base path and its parameters. httpd calls this a worker of mod_proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where it is.
    pub url: BackendUrl,
    /// How it is dealt with.
    pub parameters: Parameters,
}

/// `key=value` behind the URL of a `ProxyPass` or `<Proxy>`, or in `ProxySet`. What is unset leaves it to directives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// `connectiontimeout=`: time for the TCP connect; unset means as `timeout`.
    pub connect_timeout: Option<Duration>,
    /// `addressttl=`: how long the addresses hold that the name leads to, also for ever, as [`Duration::MAX`].
    pub address_ttl: Option<Duration>,
    /// `timeout=`; unset means `ProxyTimeout`, else `Timeout`.
    pub timeout: Option<Duration>,
    /// `upgrade=`; unset means WebSocket.
    pub upgrade: Option<Upgrade>,
    /// `keepalive=`: whether the kernel probes a silent backend; unset means that it does.
    pub keepalive: Option<bool>,
    /// `disablereuse=`, `enablereuse=`: whether a connection is kept for the next request; unset means that it is. For
    /// ordinary requests only, as all that follow down to [`Self::io_buffer`].
    pub reuse: Option<bool>,
    /// `ttl=`: how long a connection is kept that nobody uses, at least 1 s.
    pub ttl: Option<Duration>,
    /// `smax=`: the most connections that are kept while nobody uses them.
    pub smax: Option<usize>,
    /// `ping=`: how long the backend may take to say that it wants a request's body; unset: it is not asked.
    pub ping: Option<Duration>,
    /// `iobuffersize=`, bytes, 512 to 1 MiB; unset means as `ProxyIOBufferSize`.
    pub io_buffer: Option<usize>,
    /// `receivebuffersize=`, bytes; 0 leaves it to the kernel, unset to `ProxyReceiveBufferSize`.
    pub receive_buffer: Option<usize>,
    /// `responsefieldsize=`, bytes of the longest header field of an answer.
    pub answer_field: Option<usize>,
    /// `max=`: the most requests and tunnels at once, at least 1.
    pub max: Option<usize>,
    /// `acquire=`: how long a request waits for its turn where [`Self::max`] is reached; unset means as `timeout`.
    pub acquire: Option<Duration>,
    /// `status=+D` or `+S`: the backend is not to be used.
    pub is_disabled: Option<bool>,
    /// What `<Proxy>` sections say of TLS with it; unset means as its host says.
    pub tls: Option<Arc<Demands>>,
}

impl Parameters {
    /// The protocol that is asked for.
    pub fn upgrade(&self) -> &Upgrade {
        static USUAL: LazyLock<Upgrade> = LazyLock::new(Upgrade::default);
        self.upgrade.as_ref().unwrap_or(&USUAL)
    }

    /// These, where they are set, and else those of `base`.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        Self {
            connect_timeout: self.connect_timeout.or(base.connect_timeout),
            address_ttl: self.address_ttl.or(base.address_ttl),
            timeout: self.timeout.or(base.timeout),
            upgrade: self.upgrade.or_else(|| base.upgrade.clone()),
            keepalive: self.keepalive.or(base.keepalive),
            reuse: self.reuse.or(base.reuse),
            ttl: self.ttl.or(base.ttl),
            smax: self.smax.or(base.smax),
            ping: self.ping.or(base.ping),
            io_buffer: self.io_buffer.or(base.io_buffer),
            receive_buffer: self.receive_buffer.or(base.receive_buffer),
            answer_field: self.answer_field.or(base.answer_field),
            max: self.max.or(base.max),
            acquire: self.acquire.or(base.acquire),
            is_disabled: self.is_disabled.or(base.is_disabled),
            tls: match (self.tls, &base.tls) {
                (Some(own), Some(base)) => Some(Arc::new(own.over(base))),
                (own, base) => own.or_else(|| base.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_counts_and_what_is_not_is_inherited() {
        let base = Parameters {
            timeout: Some(Duration::from_secs(5)),
            max: Some(1),
            reuse: Some(true),
            smax: Some(7),
            ..Parameters::default()
        };
        let own = Parameters {
            max: Some(2),
            keepalive: Some(false),
            reuse: Some(false),
            ..Parameters::default()
        };
        let both = own.over(&base);
        assert_eq!(both.timeout, base.timeout);
        assert_eq!(both.max, Some(2));
        assert_eq!(both.smax, Some(7));
        assert_eq!(both.keepalive, Some(false));
        assert_eq!(both.reuse, Some(false));
        assert_eq!(both.acquire, None);
        let with = |verify, check_dates| Parameters {
            tls: Some(Arc::new(Demands {
                verify,
                check_dates,
                ..Demands::default()
            })),
            ..Parameters::default()
        };
        let (one, other) = (with(Some(false), None), with(Some(true), Some(false)));
        assert_eq!(one.clone().over(&base).tls, one.tls);
        assert_eq!(base.clone().over(&one).tls, one.tls);
        assert_eq!(one.over(&other), with(Some(false), Some(false)));
    }
}
