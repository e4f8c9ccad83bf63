//! A backend: its URL, and what the configuration says about connecting to it.

use super::url::BackendUrl;
use crate::handshake::Upgrade;
use std::sync::LazyLock;
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
    /// `timeout=`; unset means `ProxyTimeout`, else `Timeout`.
    pub timeout: Option<Duration>,
    /// `upgrade=`; unset means WebSocket.
    pub upgrade: Option<Upgrade>,
    /// `keepalive=`: whether the kernel probes a silent backend; unset means that it does.
    pub keepalive: Option<bool>,
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
            timeout: self.timeout.or(base.timeout),
            upgrade: self.upgrade.or_else(|| base.upgrade.clone()),
            keepalive: self.keepalive.or(base.keepalive),
            receive_buffer: self.receive_buffer.or(base.receive_buffer),
            answer_field: self.answer_field.or(base.answer_field),
            max: self.max.or(base.max),
            acquire: self.acquire.or(base.acquire),
            is_disabled: self.is_disabled.or(base.is_disabled),
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
            ..Parameters::default()
        };
        let own = Parameters {
            max: Some(2),
            keepalive: Some(false),
            ..Parameters::default()
        };
        let both = own.over(&base);
        assert_eq!(both.timeout, base.timeout);
        assert_eq!(both.max, Some(2));
        assert_eq!(both.keepalive, Some(false));
        assert_eq!(both.acquire, None);
    }
}
