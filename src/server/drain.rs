//! The end. The graceful stop: nobody new, and whoever is there comes to an end of his own; httpd:
//! `GracefulShutdownTimeout`. And the stop, which ends them.

use super::Server;
use super::signals::Request;
use crate::error_log;
use crate::ids::Id;
use crate::log_writer::LogWriter;
use crate::transaction::CloseReason;
use log::warn;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked who is left.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is said in the log.
const SAY: Duration = Duration::from_secs(10);
/// How long a stopping server waits for its workers: a closing tunnel takes [`crate::tunnel::CLOSING`].
const STOP: Duration = Duration::from_secs(5);

impl Server {
    /// Closes the listeners, and returns when the last connection and tunnel has ended, when the `limit` is over that a
    /// `directive` has set, or when a stop is asked for.
    pub(super) fn drain(&mut self, limit: Option<Duration>, directive: &str, logs: &LogWriter) {
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
                    "{directive} is over; open connections and tunnels: {left}"
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
                Some(Request::Upgrade) => {
                    error_log::notice("not upgraded, since the server is stopping");
                }
                Some(Request::GracefulStop | Request::GiveWay) | None => {}
            }
        }
    }

    /// Closes the listeners, and ends the tunnels.
    pub(super) fn stop(mut self) -> ExitCode {
        error_log::notice("stopping");
        self.control.set_stopping();
        let status = self.status();
        self.manager.stopping(status);
        let was_accepting = self.acceptor.stop();
        self.shared.cancel.cancel();
        self.shared.resolver.close();
        let reactors = self.shared.reactors.get();
        if let Some(reactors) = reactors {
            reactors.end(&CloseReason::Stopping);
        }
        let left = self.team.stop(STOP);
        let left_async = reactors.map_or(0, |reactors| reactors.wait(STOP));
        self.health.stop();
        self.control.stop();
        if left_async > 0 {
            let id = Id::CutAtStop;
            warn!(
                "{id} {left_async} asynchronous tunnels did not end within {STOP:?}; they are cut"
            );
        }
        if left > 0 {
            let id = Id::CutAtStop;
            warn!("{id} {left} workers did not end within {STOP:?}; their connections are cut");
        }
        if let Some(file) = self.pid_file {
            let path = file.path().to_owned();
            if let Err(error) = file.remove() {
                let (id, path) = (Id::PidFileStays, path.display());
                warn!("{id} PidFile {path}: cannot be removed: {error}");
            }
        }
        error_log::notice("stopped");
        if was_accepting {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
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
