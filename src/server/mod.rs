//! Policy meets devices: starting, serving, stopping. This file alone knows every thread.

mod acceptor;
mod clients;
mod connection;
mod health;
mod kept;
mod pool;
mod signals;
mod site;
mod tls;
mod turns;

use crate::config::{Config, Weight};
use crate::error_log;
use crate::ids::Id;
use crate::log_writer::LogWriter;
use crate::net::listen::Listener;
use crate::net::resolve::Resolver;
use crate::net::wait::Cancel;
use crate::sys;
use crate::transaction::CloseReason;
use crate::tunnel::ScratchPool;
use crate::tunnel::reactor::Reactors;
use acceptor::Acceptor;
use clients::IdleClients;
use health::Health;
use kept::Kept;
use log::{error, info, warn};
use pool::{Pool, Team};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::{Request, Requests};
use site::{Site, SiteLogs, open_error_log};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tls::Workshop;
use turns::Turns;

/// How long a stopping server waits for its workers: a closing tunnel takes [`crate::tunnel::CLOSING`].
const STOP: Duration = Duration::from_secs(5);

/// What all workers read, and nobody changes.
#[derive(Debug)]
struct Shared {
    config: Config,
    main_site: Arc<Site>,
    virtual_sites: Vec<Arc<Site>>,
    resolver: Resolver,
    cancel: Arc<Cancel>,
    scratch: Arc<ScratchPool>,
    reactors: Reactors,
    turns: Turns,
    kept: Kept,
    clients: IdleClients,
    hinted: Hinted,
    /// Workers that are between a connection and its tunnel.
    handshakes: AtomicUsize,
    /// Workers that have a connection.
    busy: AtomicUsize,
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

impl Shared {
    /// The site that serves what reached `local` for the `Host` that it named, if it did.
    fn site_for(&self, local: SocketAddr, host: Option<&[u8]>) -> &Arc<Site> {
        let chosen = self.config.host_for(local, host);
        let is_chosen = |site: &&Arc<Site>| Arc::ptr_eq(&site.host, chosen);
        self.virtual_sites
            .iter()
            .find(is_chosen)
            .unwrap_or(&self.main_site)
    }
}

/// Serves `config` until a signal ends it. Returns the exit status; what keeps it from starting is said on the
/// standard error output.
pub fn run(config: Config) -> ExitCode {
    // Before the first thread, since all inherit it: who is woken does not interrupt who runs, which spares switches
    // between threads under load. Where a sandbox forbids it, that is lost and nothing else.
    let _ = sys::run_as_batch();
    let outcome = LogWriter::start()
        .map_err(|error| format!("cannot start the log thread: {error}"))
        .and_then(|logs| {
            let outcome = Server::start(config, &logs).map(|server| server.serve(&logs));
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

/// Reads what a start would read beside the configuration: certificates and keys. What is worth a warning about them.
///
/// # Errors
/// What would keep the server from starting.
pub fn check(config: &Config) -> Result<Vec<String>, String> {
    let mut workshop = Workshop::default();
    for host in config.hosts() {
        workshop.tls_host(host)?;
        workshop.of(host)?;
    }
    let certificates = workshop.certificates.into_iter();
    let short = certificates.filter(|(_, certificate)| certificate.is_short());
    Ok(short
        .map(|(line, certificate)| format!("{line}: warning: {certificate}"))
        .collect())
}

struct Server {
    requests: Requests,
    acceptor: Acceptor,
    team: Team,
    health: Health,
    shared: Arc<Shared>,
}

impl Server {
    fn start(config: Config, logs: &LogWriter) -> Result<Self, String> {
        raise_descriptor_limit();
        // Signals first: one that comes while we start is not lost.
        let requests = Requests::new().map_err(|e| format!("cannot take signals: {e}"))?;
        let error_log = open_error_log(logs, &config.error_log)?;
        error_log::use_for_process(error_log).map_err(|e| e.to_string())?;
        std::panic::set_hook(Box::new(|panic| error!("{panic}")));
        for warning in &config.warnings {
            match warning.weight {
                Weight::Note => info!("{warning}"),
                Weight::Warning => warn!("{warning}"),
            }
        }
        let listeners = bind(&config)?;
        let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
        let mut workshop = Workshop::default();
        let main_site = Site::open(&config.main, logs, &mut workshop)?;
        let virtual_sites = config
            .virtual_hosts
            .iter()
            .map(|host| Site::open(host, logs, &mut workshop))
            .collect::<Result<_, _>>()?;
        for (line, certificate) in &workshop.certificates {
            if certificate.is_short() {
                let id = Id::CertificateEnds;
                warn!("{id} {line}: {certificate}; {}", id.remedy());
            } else {
                error_log::notice(&format!("{line}: {certificate}"));
            }
        }
        let scratch = Arc::<ScratchPool>::default();
        let reactors = if config
            .hosts()
            .any(|host| host.router.is_ever_asynchronous())
        {
            Reactors::start(config.reactor_threads, config.reactor_limit, &scratch)
                .map_err(|e| format!("cannot start the reactor: {e}"))?
        } else {
            Reactors::default()
        };
        let shared = Arc::new(Shared {
            main_site,
            virtual_sites,
            resolver: Resolver::default(),
            cancel: Cancel::new()
                .map(Arc::new)
                .map_err(|e| format!("cannot make an event descriptor: {e}"))?,
            scratch,
            reactors,
            turns: Turns::new(&config),
            kept: Kept::new(config.max_request_workers),
            clients: IdleClients::default(),
            hinted: Hinted::default(),
            handshakes: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            config,
        });
        if let Some(path) = &shared.config.pid_file {
            write_pid_file(path).map_err(|e| format!("PidFile {}: {e}", path.display()))?;
        }
        let health =
            check_health(&shared).map_err(|e| format!("cannot start health checks: {e}"))?;
        let (pool, team) = Pool::new(Arc::clone(&shared));
        let acceptor = Acceptor::start(listeners, pool)
            .map_err(|e| format!("cannot start the acceptor: {e}"))?;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        error_log::notice(&format!("ready: listening on {}", addresses.join(", ")));
        Ok(Self {
            requests,
            acceptor,
            team,
            health,
            shared,
        })
    }

    /// Serves until it is told to stop.
    fn serve(mut self, logs: &LogWriter) -> ExitCode {
        while self.requests.next() == Request::ReopenLogs {
            logs.reopen();
            error_log::notice("log files reopened");
        }
        self.stop()
    }

    /// Closes the listeners, and ends the tunnels.
    fn stop(mut self) -> ExitCode {
        error_log::notice("stopping");
        let was_accepting = self.acceptor.stop();
        self.shared.cancel.cancel();
        self.shared.resolver.close();
        self.shared.reactors.end(&CloseReason::Stopping);
        let left = self.team.stop(STOP);
        let left_async = self.shared.reactors.wait(STOP);
        self.health.stop();
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
        if let Some(path) = &self.shared.config.pid_file
            && let Err(error) = std::fs::remove_file(path)
        {
            let (id, path) = (Id::PidFileStays, path.display());
            warn!("{id} PidFile {path}: cannot be removed: {error}");
        }
        error_log::notice("stopped");
        if was_accepting {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Each tunnel takes two descriptors, and the usual soft limit of 1024 is for programs that use select(2).
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // Where it is forbidden, the lower limit is what there is.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// Begins to check the members that are to be checked.
fn check_health(shared: &Shared) -> io::Result<Health> {
    let sites = std::iter::once(&shared.main_site).chain(&shared.virtual_sites);
    let size = health::Size {
        threads: shared.config.health_threads,
        stack: shared.config.thread_stack_size,
    };
    Health::start(
        health::targets(sites),
        size,
        &shared.resolver,
        &shared.cancel,
    )
}

fn bind(config: &Config) -> Result<Vec<Listener>, String> {
    let bind_one = |listen: &crate::config::Listen| {
        Listener::bind(listen.address, listen.port, config.listen_backlog).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "; another program listens there",
                io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
                io::ErrorKind::PermissionDenied => {
                    "; ports below 1024 take root or CAP_NET_BIND_SERVICE"
                }
                _ => "",
            };
            format!(
                "{}: Listen: cannot bind {listen}: {error}{hint}",
                listen.origin
            )
        })
    };
    config.listen.iter().map(bind_one).collect()
}

fn write_pid_file(path: &Path) -> io::Result<()> {
    std::fs::write(path, format!("{}\n", std::process::id()))
}
