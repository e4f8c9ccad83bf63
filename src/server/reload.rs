//! A reload: the configuration is read anew and takes the place of the one in force, while connections and tunnels go on.
//! All that it needs is acquired first, and what fails then leaves everything as it was. httpd: "Graceful Restart".

use super::acceptor::Port;
use super::control::Doors;
use super::generation::Generation;
use super::listening::{bind, going};
use super::privileges::explained;
use super::tls::Workshop;
use super::{Server, check_health, descriptors, open_error_log, say_warnings, start_reactors};
use crate::config::{self, Account, Config, ConfigError, Origin, VirtualHost};
use crate::config_files::Machine;
use crate::error_log::{self, ErrorLog};
use crate::ids::Id;
use crate::log_writer::LogWriter;
use crate::net::listen::Listener;
use crate::tunnel::reactor::Reactors;
use log::{error, warn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// How long a reload waits for listeners to be closed that the one before has removed.
const CLOSING: Duration = Duration::from_secs(1);

/// All that is needed to put a configuration in force: nothing of it can fail any more.
struct Next {
    generation: Generation,
    error_log: ErrorLog,
    workshop: Workshop,
    reactors: Option<Reactors>,
    listeners: Vec<Arc<Listener>>,
    /// Those of them that are not open yet, watched already.
    added: Vec<Port>,
    doors: Doors,
}

impl Server {
    /// Reads the configuration, and puts it in force if it can be. Reopens the logs in any case: whoever rotates them relies
    /// on that.
    pub(super) fn reload(&mut self, logs: &LogWriter) {
        match self.prepare(logs) {
            Ok(next) => {
                self.not_reloaded = None;
                self.put_in_force(next, logs);
            }
            Err(problems) => {
                self.not_reloaded = problems.first().cloned();
                logs.reopen();
                let id = Id::NotReloaded;
                for problem in &problems {
                    error!("{id} {problem}");
                }
                self.shared.counters.reloaded(SystemTime::now(), problems);
                error!(
                    "{id} not reloaded: the configuration from before stays in force; {}",
                    id.remedy()
                );
            }
        }
    }

    fn prepare(&mut self, logs: &LogWriter) -> Result<Next, Vec<String>> {
        let config = config::load(&self.sources, &Machine);
        let config = config.map_err(|errors| {
            let in_force = self.shared.in_force.get();
            let explained = |error: &ConfigError| explained(error.to_string(), &in_force.config);
            errors.iter().map(explained).collect::<Vec<_>>()
        })?;
        self.acquire(config, logs).map_err(|problem| vec![problem])
    }

    fn acquire(&mut self, config: Config, logs: &LogWriter) -> Result<Next, String> {
        let before = self.shared.in_force.get();
        let mut workshop = Workshop::default();
        let generation = Generation::open(config, Some(&before), logs, &mut workshop)
            .map_err(|problem| explained(problem, &before.config))?;
        let config = &generation.config;
        let error_log = open_error_log(logs, &config.error_log)?;
        let reactors = match self.shared.reactors.get() {
            Some(_) => None,
            None => start_reactors(config, &self.shared.scratch)?,
        };
        if let Some(closing) = self.closing.take() {
            // Their addresses may be wanted again.
            closing.wait(CLOSING);
        }
        let wanted = &config.control;
        let doors = self.control.doors();
        let going: Vec<_> = going(&config.listen, &self.listeners)
            .chain(going(&wanted.status, doors.status()))
            .collect();
        let backlog = config.listen_backlog;
        let listeners = bind(&config.listen, backlog, &self.listeners, &going)?;
        let doors = Doors::open(wanted, doors, &going)?;
        let is_new = |it: &&Arc<Listener>| !is_among(it, &self.listeners);
        let new = listeners.iter().filter(is_new);
        let added = new
            .map(|listener| self.acceptor.watch(listener))
            .collect::<Result<_, _>>()
            .map_err(|e| format!("Listen: cannot wait for connections: {e}"))?;
        Ok(Next {
            generation,
            error_log,
            workshop,
            reactors,
            listeners,
            added,
            doors,
        })
    }

    fn put_in_force(&mut self, next: Next, logs: &LogWriter) {
        let shared = Arc::clone(&self.shared);
        let before = shared.in_force.get();
        logs.reopen();
        if let Err(error) = error_log::use_for_process(next.error_log) {
            error!("ErrorLog: {error}");
        }
        say_warnings(&next.generation.config);
        descriptors::provide(&next.generation.config);
        next.workshop.say_validity();
        self.say_what_waits(&before.config, &next.generation.config);
        carry_over(&before.config, &next.generation.config);
        if let Some(started) = next.reactors {
            shared.reactors.get_or_init(|| started);
        }
        let config = &next.generation.config;
        let most = config.max_request_workers;
        shared.most_workers.store(most, Ordering::Relaxed);
        if let Some(reactors) = shared.reactors.get() {
            reactors.set_limit(config.reactor_limit);
        }
        self.health.retire();
        shared.in_force.replace(next.generation);
        let generation = shared.in_force.get();
        generation.turns.open();
        before.kept.clear();
        match check_health(&generation, &shared.resolver) {
            Ok(health) => self.health = health,
            Err(problem) => error!("{} {problem}", Id::NoWorker),
        }
        let before = std::mem::replace(&mut self.listeners, next.listeners);
        for listener in &self.listeners {
            if let Err(error) = listener.set_backlog(generation.config.listen_backlog) {
                let address = listener.address();
                warn!("ListenBacklog: {address} keeps the one it had: {error}");
            }
        }
        let removed = before.into_iter();
        let removed = removed.filter(|it| !is_among(it, &self.listeners));
        self.closing = Some(self.acceptor.change(next.added, removed.collect()));
        self.removed.note(&generation, &shared.tunnels);
        self.control.replace(next.doors);
        shared.counters.reloaded(SystemTime::now(), Vec::new());
        error_log::notice(&format!(
            "reloaded: generation {} listens on {}",
            generation.number,
            self.addresses()
        ));
    }

    /// Names what is changed and not obeyed before a restart.
    fn say_what_waits(&self, before: &Config, now: &Config) {
        let id = Id::TakesRestart;
        let say = |directive: &str, is_changed: bool, stays: String| {
            if is_changed {
                warn!(
                    "{id} {directive}: {stays} stays until a restart; {}",
                    id.remedy()
                );
            }
        };
        let path = |config: &Config| {
            let path = config.pid_file.as_ref();
            path.map_or("none".to_owned(), |path| path.display().to_string())
        };
        let called = |account: &Option<(Account, Origin)>| {
            let account = account.as_ref();
            account.map_or("none".to_owned(), |(account, _)| account.to_string())
        };
        for (directive, before, now) in [
            ("User", &before.user, &now.user),
            ("Group", &before.group, &now.group),
        ] {
            let (before, now) = (called(before), called(now));
            say(directive, before != now, before);
        }
        say("PidFile", before.pid_file != now.pid_file, path(before));
        if self.shared.reactors.get().is_some() {
            let (before, now) = (before.reactor_threads, now.reactor_threads);
            say(
                "ProxyWebsocketAsyncThreads",
                before != now,
                before.to_string(),
            );
        }
    }
}

fn is_among(listener: &Arc<Listener>, listeners: &[Arc<Listener>]) -> bool {
    listeners.iter().any(|other| Arc::ptr_eq(other, listener))
}

/// Members of balancers that stay keep what is known of them.
fn carry_over(before: &Config, now: &Config) {
    for host in now.hosts() {
        let Some(before) = same_host(host, before, now) else {
            continue;
        };
        for balancer in &host.balancers {
            let mut known = before.balancers.iter();
            if let Some(known) = known.find(|known| known.name() == balancer.name()) {
                balancer.carry_over(known);
            }
        }
    }
}

/// The host of the configuration `before` that is the same as `host` of the one `now`: with the same names at the same
/// addresses. Of several it is the one that stands in the same place among them.
fn same_host<'c>(
    host: &Arc<VirtualHost>,
    before: &'c Config,
    now: &Config,
) -> Option<&'c Arc<VirtualHost>> {
    if Arc::ptr_eq(host, &now.main) {
        return Some(&before.main);
    }
    let is_like = |other: &&Arc<VirtualHost>| {
        let [ours, theirs] = [host, other];
        ours.server_name == theirs.server_name
            && ours.names == theirs.names
            && ours.addresses == theirs.addresses
    };
    let hosts = now.virtual_hosts.iter();
    let twins = hosts.take_while(|other| !Arc::ptr_eq(other, host));
    let twins = twins.filter(is_like).count();
    before.virtual_hosts.iter().filter(is_like).nth(twins)
}
