//! The graceful stop: nobody new, and whoever is there comes to an end of his own. httpd: `GracefulShutdownTimeout`.

use super::Server;
use super::signals::Request;
use crate::error_log;
use crate::log_writer::LogWriter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked who is left.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is said in the log.
const SAY: Duration = Duration::from_secs(10);

impl Server {
    /// Closes the listeners, and returns when the last connection and tunnel has ended, when the `limit` is over,
    /// or when a stop is asked for.
    pub(super) fn drain(&mut self, limit: Option<Duration>, logs: &LogWriter) {
        self.control.set_stopping();
        let begun = Instant::now();
        let end = limit.and_then(|limit| begun.checked_add(limit));
        let bound = match limit {
            Some(limit) => format!("for {limit:?} at most"),
            None => "for as long as they take".to_owned(),
        };
        error_log::notice(&format!(
            "stopping gracefully; open connections and tunnels: {}; they may go on {bound}",
            self.left()
        ));
        let status = self.status();
        self.manager.stopping(status);
        // They are closed with their last owner, the acceptor, which first hands over whoever waits there.
        let open: Vec<_> = self.listeners.iter().map(Arc::downgrade).collect();
        let listeners = std::mem::take(&mut self.listeners);
        self.acceptor.change(Vec::new(), listeners);
        self.shared.clients.retire();
        let mut say_at = begun + SAY;
        loop {
            let now = Instant::now();
            let is_closed = open.iter().all(|it| it.strong_count() == 0);
            let left = self.left();
            if left == 0 && is_closed {
                error_log::notice("all connections and tunnels have ended");
                return;
            }
            if end.is_some_and(|end| end <= now) {
                error_log::notice(&format!(
                    "the time for that is over; open connections and tunnels: {left}"
                ));
                return;
            }
            if say_at <= now {
                error_log::notice(&format!(
                    "stopping gracefully; open connections and tunnels: {left}"
                ));
                say_at = now + SAY;
            }
            let look_at = now + LOOK;
            let wake_at = end.map_or(look_at, |end| look_at.min(end));
            match self.next_request(Some(wake_at)) {
                Some(Request::Stop) => return,
                Some(Request::Reload) => {
                    logs.reopen();
                    error_log::notice("not reloaded, since the server is stopping; logs reopened");
                }
                Some(Request::GracefulStop | Request::Upgrade | Request::GiveWay) | None => {}
            }
        }
    }

    /// How many connections and tunnels are left.
    fn left(&self) -> usize {
        // In this order: a tunnel is with a reactor before its worker is free, so that none is overlooked.
        let with_workers = self.team.connections();
        let reactors = self.shared.reactors.get();
        with_workers + reactors.map_or(0, |reactors| reactors.load())
    }
}
