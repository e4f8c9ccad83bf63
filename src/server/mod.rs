//! Policy meets devices: starting, serving, stopping. This file alone knows every thread.

mod acceptor;
mod activation;
mod clients;
mod connection;
mod control;
mod counters;
mod descriptors;
mod drain;
mod generation;
mod health;
mod kept;
mod limits;
mod listening;
mod notify;
mod pool;
mod privileges;
mod reload;
mod removed;
mod signals;
mod site;
mod status;
mod tls;
mod turns;
mod upgrade;

use crate::config::{Config, Sources, Weight};
use crate::error_log;
use crate::ids::Id;
use crate::log_writer::LogWriter;
use crate::logging::Target;
use crate::net::listen::Listener;
use crate::net::resolve::Resolver;
use crate::net::wait::Cancel;
use crate::pid_file::PidFile;
use crate::registry::Registry;
use crate::sys;
use crate::tunnel::ScratchPool;
use crate::tunnel::reactor::Reactors;
use acceptor::{Acceptor, Closing};
use activation::Activation;
use clients::IdleClients;
use control::{Control, Doors};
use counters::Counters;
use generation::{Generation, InForce};
use health::Health;
use limits::Limits;
use listening::{asked, bind};
use log::{error, info, warn};
use notify::Manager;
use pool::{Pool, Team, Workers};
use privileges::Plan;
use removed::Removed;
use rustix::process::Signal;
use signals::{Request, Requests};
use site::{Site, SiteLogs, open_error_log};
use std::collections::HashSet;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Instant, SystemTime};
use tls::Workshop;
use upgrade::{Program, Successor};

/// What all workers read, and nobody changes.
#[derive(Debug)]
struct Shared {
    in_force: InForce,
    resolver: Resolver,
    cancel: Arc<Cancel>,
    scratch: Arc<ScratchPool>,
    tunnels: Arc<Registry>,
    counters: Arc<Counters>,
    /// When the server was started.
    started: (SystemTime, Instant),
    /// Held by who writes a status down.
    showing: Mutex<()>,
    /// Those who serve connections, from the first one on.
    crew: OnceLock<Arc<Workers>>,
    /// From the first configuration on that has asynchronous tunnels.
    reactors: OnceLock<Reactors>,
    /// What is counted of tunnels; the bounds come with each handshake.
    limits: Arc<Limits>,
    clients: IdleClients,
    hinted: Hinted,
    /// Workers that are between a connection and its tunnel.
    handshakes: AtomicUsize,
    /// Workers that have a connection.
    busy: AtomicUsize,
    /// `MaxRequestWorkers`
    most_workers: AtomicUsize,
    /// How many threads can run at a time.
    processors: usize,
}

/// The mappings about which a hint was given. There are no more of them than mappings.
#[derive(Debug, Default)]
struct Hinted(Mutex<HashSet<Arc<str>>>);

impl Hinted {
    fn first_time(&self, mapping: &Arc<str>) -> bool {
        let mut hinted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hinted.insert(Arc::clone(mapping))
    }
}

/// Serves `config` until a signal ends it. Returns the exit status; what keeps it from starting is said on the
/// standard error output.
///
/// `sources`: where it comes from, and its successors are read.
pub fn run(config: Config, sources: Sources) -> ExitCode {
    // Before the first thread, since all inherit it: who is woken does not interrupt who runs, which spares switches
    // between threads under load. Where a sandbox forbids it, that is lost and nothing else.
    let _ = sys::run_as_batch();
    privileges::forbid_new();
    // Before anything is opened.
    let activation = Activation::of_environment();
    let outcome = LogWriter::start()
        .map_err(|error| format!("cannot start the log thread: {error}"))
        .and_then(|logs| {
            let is_error_log_elsewhere = config.error_log.target != Target::Stderr;
            let outcome =
                Server::start(config, sources, activation, &logs).map(|server| server.serve(&logs));
            if let Err(problem) = &outcome
                && is_error_log_elsewhere
            {
                // Whoever upgrades a server looks there. Where it is not open yet, nothing comes of this.
                error!("cannot start: {problem}");
            }
            logs.flush();
            outcome
        });
    outcome.unwrap_or_else(|problem| {
        #[expect(
            clippy::print_stderr,
            reason = "the error log may be a file that nobody looks at yet"
        )]
        {
            eprintln!("proxy-wstunnel: {problem}");
        }
        ExitCode::FAILURE
    })
}

/// Reads what a start would read beside the configuration: certificates and keys. What is worth a warning about them, and
/// about what `User` could not read again: for that the process becomes that user, if it is root.
///
/// # Errors
/// What would keep the server from starting.
pub fn check(config: &Config, sources: &Sources) -> Result<Vec<String>, String> {
    // The one that has no User is only refused where it is started.
    let plan = match config.user {
        Some(_) => Plan::new(config)?,
        None => Plan::Stay,
    };
    let mut workshop = Workshop::default();
    for host in config.hosts() {
        workshop.tls_host(host)?;
        workshop.of(host)?;
    }
    let certificates = workshop.certificates.into_iter();
    let short = certificates.filter(|(_, certificate)| certificate.is_short());
    let mut warnings: Vec<_> = short
        .map(|(line, certificate)| format!("{line}: warning: {certificate}"))
        .collect();
    if plan.is_change() {
        privileges::forbid_new();
        plan.carry_out(config)?;
        let lost = privileges::out_of_reach(config, sources);
        warnings.extend(lost.into_iter().map(|it| format!("warning: {it}")));
    }
    Ok(warnings)
}

struct Server {
    sources: Sources,
    requests: Requests,
    listeners: Vec<Arc<Listener>>,
    acceptor: Acceptor,
    /// Listeners that the last reload has removed.
    closing: Option<Closing>,
    team: Team,
    health: Health,
    control: Control,
    shared: Arc<Shared>,
    pid_file: Option<PidFile>,
    manager: Manager,
    /// Why the last reload has failed.
    not_reloaded: Option<String>,
    /// The listeners that the service manager opens for every process.
    activated: Vec<Weak<Listener>>,
    removed: Removed,
    program: Program,
    /// The process that an upgrade has started, until it serves.
    successor: Option<Successor>,
}

impl Server {
    fn start(
        config: Config,
        sources: Sources,
        mut activation: Activation,
        logs: &LogWriter,
    ) -> Result<Self, String> {
        let plan = Plan::new(&config)?;
        // Signals first: one that comes while we start is not lost.
        let program = Program::running();
        let requests = Requests::new().map_err(|e| format!("cannot take signals: {e}"))?;
        plan.make_logs(&config);
        error_log::use_for_process(open_error_log(logs, &config.error_log)?)
            .map_err(|e| e.to_string())?;
        let counters = Arc::<Counters>::default();
        let of_hook = Arc::clone(&counters);
        std::panic::set_hook(Box::new(move |panic| {
            of_hook.panics.count();
            error!("{panic}");
        }));
        say_warnings(&config);
        descriptors::provide(&config);
        // Before anything that two of us would dispute, so that who is in the way is named.
        let mut predecessor = activation.predecessor.take();
        let mut pid_file = None;
        if predecessor.is_none() {
            pid_file = take_pid_file(&config)?;
        }
        let mut manager = Manager::of_environment();
        let passed = activation.sort(&config, &mut manager);
        if let Some(predecessor) = &mut predecessor {
            predecessor.lends(passed.doors.sockets());
        }
        let backlog = config.listen_backlog;
        let listeners = bind(&config.listen, backlog, &passed.listeners, &[])?;
        let doors = Doors::open(&config.control, &passed.doors, &[])?;
        plan.give(doors.sockets());
        let mut workshop = Workshop::default();
        let generation = Generation::open(config, None, logs, &mut workshop)?;
        let config = &generation.config;
        workshop.say_validity();
        // All that takes root is above, and all threads that serve are below.
        plan.carry_out(config)?;
        if plan.is_change() {
            privileges::say_out_of_reach(config, &sources);
        }
        let scratch = Arc::<ScratchPool>::default();
        let reactors = OnceLock::new();
        if let Some(started) = start_reactors(config, &scratch)? {
            reactors.get_or_init(|| started);
        }
        let shared = Arc::new(Shared {
            most_workers: config.max_request_workers.into(),
            resolver: Resolver::default(),
            cancel: Cancel::new()
                .map(Arc::new)
                .map_err(|e| format!("cannot make an event descriptor: {e}"))?,
            scratch,
            reactors,
            tunnels: Arc::default(),
            counters,
            started: (SystemTime::now(), Instant::now()),
            showing: Mutex::default(),
            crew: OnceLock::new(),
            limits: Arc::default(),
            clients: IdleClients::default(),
            hinted: Hinted::default(),
            handshakes: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            in_force: InForce::new(generation),
        });
        let generation = shared.in_force.get();
        generation.turns.open();
        let health = check_health(&generation, &shared.resolver)?;
        let control = Control::start(doors, &shared)
            .map_err(|e| format!("cannot start the control thread: {e}"))?;
        let (pool, team) = Pool::new(Arc::clone(&shared));
        let acceptor = Acceptor::start(&listeners, pool)
            .map_err(|e| format!("cannot start the acceptor: {e}"))?;
        let mut server = Self {
            sources,
            requests,
            listeners,
            acceptor,
            closing: None,
            team,
            health,
            control,
            shared,
            pid_file,
            manager,
            not_reloaded: None,
            activated: passed.opened,
            removed: Removed::default(),
            program,
            successor: None,
        };
        error_log::notice(&format!("ready: listening on {}", server.addresses()));
        if let Some(predecessor) = predecessor {
            server.succeed(predecessor);
        }
        server.say_ready();
        Ok(server)
    }

    fn addresses(&self) -> String {
        let addresses = self.listeners.iter().map(|it| it.address().to_string());
        addresses.collect::<Vec<_>>().join(", ")
    }

    /// Serves until it is told to stop.
    fn serve(mut self, logs: &LogWriter) -> ExitCode {
        loop {
            match self.next_request(None) {
                Some(Request::Reload) if self.defers_reload(logs) => {}
                Some(Request::Reload) => {
                    self.manager.reloading();
                    self.reload(logs);
                    self.say_ready();
                }
                Some(Request::GracefulStop) => {
                    self.call_off_upgrade(Signal::WINCH);
                    let limit = self.shared.in_force.get().config.graceful_shutdown;
                    self.drain(limit, "GracefulShutdownTimeout", logs);
                    break;
                }
                Some(Request::Upgrade) => self.upgrade(),
                Some(Request::GiveWay) => {
                    self.give_way(logs);
                    break;
                }
                Some(Request::Stop) => {
                    self.call_off_upgrade(Signal::TERM);
                    break;
                }
                None => {}
            }
        }
        self.stop()
    }

    /// Waits for the next, until `deadline` if there is one, and does meanwhile what is due: ends tunnels whose time is over, and
    /// tells the service manager what it wants to know.
    fn next_request(&mut self, deadline: Option<Instant>) -> Option<Request> {
        loop {
            let generation = self.shared.in_force.get();
            let removed_at = self.removed.end_due(&generation, &self.shared.tunnels);
            drop(generation);
            let given_up_at = self.successor.as_ref().map(Successor::until);
            let times = [self.manager.next_at(), removed_at, given_up_at, deadline];
            let wake_at = times.into_iter().flatten().min();
            let word = self.successor.as_ref().map(Successor::word);
            if let Some(request) = self.requests.next(wake_at, word) {
                return Some(request);
            }
            if let Some(request) = self.news_of_upgrade() {
                return Some(request);
            }
            let status = self.status();
            self.manager.beat(|| self.acceptor.has_answered(), status);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
        }
    }

    /// What a service manager shows of us.
    fn status(&self) -> String {
        let tunnels = match self.shared.tunnels.count() {
            1 => "1 tunnel".to_owned(),
            count => format!("{count} tunnels"),
        };
        match &self.not_reloaded {
            Some(why) => format!("{tunnels}; not reloaded: {why}"),
            None => tunnels,
        }
    }

    fn say_ready(&mut self) {
        let generation = self.shared.in_force.get();
        let listeners = &self.listeners;
        self.activated.retain(|activated| {
            let is_open = listeners.iter().any(|it| Arc::as_ptr(it) == activated.as_ptr());
            if !is_open {
                let id = Id::NotListenedOn;
                warn!("{id} a socket of the service manager is closed here, and stays open there: no Listen is for it; {}", id.remedy());
            }
            is_open
        });
        let activated = &self.activated;
        self.manager.hold(&self.listeners, |listener| {
            let is_opened = activated
                .iter()
                .any(|it| it.as_ptr() == Arc::as_ptr(listener));
            let mut listens = generation.config.listen.iter();
            let listen = listens.find(|listen| asked(listen) == listener.asked());
            let name = listen.filter(|_| !is_opened).map(activation::name_of);
            name.map(|name| format!("{}{name}", notify::HELD))
        });
        let status = self.status();
        self.manager.ready(status);
    }
}

fn say_warnings(config: &Config) {
    for warning in &config.warnings {
        match warning.weight {
            Weight::Note => info!("{warning}"),
            Weight::Warning => warn!("{warning}"),
        }
    }
}

/// Where there are to be asynchronous tunnels.
fn start_reactors(config: &Config, scratch: &Arc<ScratchPool>) -> Result<Option<Reactors>, String> {
    let mut hosts = config.hosts();
    if !hosts.any(|host| host.router.is_ever_asynchronous()) {
        return Ok(None);
    }
    Reactors::start(config.reactor_threads, config.reactor_limit, scratch)
        .map(Some)
        .map_err(|e| format!("cannot start the reactor: {e}"))
}

/// Begins to check the members that are to be checked.
fn check_health(generation: &Generation, resolver: &Resolver) -> Result<Health, String> {
    let size = health::Size {
        threads: generation.config.health_threads,
        stack: generation.config.thread_stack_size,
    };
    Health::start(health::targets(generation.sites()), size, resolver)
        .map_err(|e| format!("cannot start health checks: {e}"))
}

fn take_pid_file(config: &Config) -> Result<Option<PidFile>, String> {
    let path = config.pid_file.as_deref();
    path.map(|path| PidFile::take(path).map_err(|e| format!("PidFile {}: {e}", path.display())))
        .transpose()
}
