//! What the configuration says about a request once its path and its backend are known: the virtual host's settings, with
//! the changes of each `<Proxy>` and `<Location>` that applies, in this order.

use std::time::Duration;

/// How one request and its tunnel are dealt with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// `ProxyPreserveHost`
    pub preserve_host: bool,
    /// `ProxyAddHeaders`
    pub add_headers: bool,
    /// `ProxyWebsocketIdleTimeout`; none: a tunnel may be silent for ever.
    pub idle_timeout: Option<Duration>,
    /// `ProxyWebsocketHalfCloseTimeout`, more than zero.
    pub half_close_timeout: Duration,
    /// `ProxyWebsocketAsync`
    pub asynchronous: bool,
    /// `ProxyWebsocketAsyncDelay`; zero: at once.
    pub async_delay: Duration,
}

/// One directive that stands in a section, or in the host itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// [`Settings::preserve_host`]
    PreserveHost(bool),
    /// [`Settings::add_headers`]
    AddHeaders(bool),
    /// [`Settings::idle_timeout`]
    IdleTimeout(Option<Duration>),
    /// [`Settings::half_close_timeout`]
    HalfCloseTimeout(Duration),
    /// [`Settings::asynchronous`]
    Asynchronous(bool),
    /// [`Settings::async_delay`]
    AsyncDelay(Duration),
}

impl Settings {
    /// Lets a directive have its effect over what was set before.
    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::PreserveHost(on) => self.preserve_host = on,
            Change::AddHeaders(on) => self.add_headers = on,
            Change::IdleTimeout(limit) => self.idle_timeout = limit,
            Change::HalfCloseTimeout(limit) => self.half_close_timeout = limit,
            Change::Asynchronous(on) => self.asynchronous = on,
            Change::AsyncDelay(delay) => self.async_delay = delay,
        }
    }
}
