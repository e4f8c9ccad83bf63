//! What the server shows of itself: everything is looked at once, and written down in one of four forms by pure functions.
//! None of it is on the way of bytes: a shard of the tunnels is locked while it is copied, and who writes thousands of them
//! down lets others run in between.

mod auto;
mod json;
mod metrics;
mod page;
mod text;

use super::Shared;
use super::counters::Reload;
use super::generation::Generation;
use crate::balancer::{Balancer, Figures};
use crate::log_writer::lost_lines;
use crate::net::tls::Validity;
use crate::registry::{Sums, View};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tunnels that are written down at a stretch. A core belongs to others as well, and who is woken there does not interrupt.
const STRETCH: usize = 64;

/// One of the ways to write it down, with what can be chosen about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people; loaded anew after so many seconds if they want that.
    Page {
        refresh: Option<u32>,
        /// Tunnels one by one.
        lists_tunnels: bool,
    },
    /// httpd's for machines.
    Auto,
    Json,
    /// That of Prometheus.
    Metrics,
}

impl Form {
    /// What the query of a request asks for, in httpd's words and more. What is unknown is no reason to show nothing.
    pub(super) fn asked_for(query: Option<&str>) -> Self {
        let mut refresh = None;
        let mut lists_tunnels = true;
        for word in query.unwrap_or_default().split(['&', ',']) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("auto", _) => return Self::Auto,
                ("json", _) => return Self::Json,
                ("metrics", _) => return Self::Metrics,
                ("notable", _) => lists_tunnels = false,
                // httpd: a bare word means every second, and 0 as well.
                ("refresh", seconds) => refresh = Some(seconds.parse().unwrap_or(1).max(1)),
                _ => {}
            }
        }
        Self::Page {
            refresh,
            lists_tunnels,
        }
    }

    /// As in `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Page { .. } => "text/html; charset=utf-8",
            Self::Auto => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything that is shown, as it was at one moment, but for tunnels, which are looked at one after the other.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) process: Process,
    pub(super) configuration: Configuration,
    pub(super) workers: Workers,
    pub(super) queue: Queue,
    pub(super) reactor: Reactor,
    pub(super) totals: Totals,
    pub(super) balancers: Vec<BalancerView>,
    pub(super) certificates: Vec<CertificateView>,
    /// Those that are open, by their numbers.
    pub(super) tunnels: Vec<View>,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: u32,
    pub(super) now: SystemTime,
    pub(super) started: SystemTime,
    pub(super) uptime: Duration,
    /// Time of processors that it has used.
    pub(super) cpu: Duration,
    /// Most descriptors that it may have; none: any number.
    pub(super) most_descriptors: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Configuration {
    /// Counts those that were in force.
    pub(super) generation: u64,
    pub(super) good_reloads: u64,
    pub(super) failed_reloads: u64,
    pub(super) last_reload: Option<Reload>,
}

#[derive(Debug)]
pub(super) struct Workers {
    pub(super) most: usize,
    /// With a connection, be it a tunnel or not.
    pub(super) busy: usize,
    /// Of those that are busy, with a request that has no answer yet.
    pub(super) handshakes: usize,
    /// Without a connection.
    pub(super) idle: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Connections that wait for a worker.
    pub(super) waiting: usize,
    pub(super) room: usize,
}

#[derive(Debug)]
pub(super) struct Reactor {
    pub(super) tunnels: usize,
    pub(super) most: usize,
}

/// Since the process was started.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) connections: u64,
    pub(super) answers: [(&'static str, u64); 5],
    /// To clients, but for tunnels.
    pub(super) bytes_out: u64,
    pub(super) handshakes: [(&'static str, u64); 5],
    pub(super) ended: [(&'static str, u64); 9],
    pub(super) panics: u64,
    pub(super) lost_lines: u64,
    /// Of all tunnels, those that are open among them.
    pub(super) tunnels: Sums,
}

#[derive(Debug)]
pub(super) struct BalancerView {
    pub(super) host: Arc<str>,
    pub(super) balancer: Arc<Balancer>,
    /// What was known of each member then.
    pub(super) members: Vec<MemberView>,
}

#[derive(Debug)]
pub(super) struct MemberView {
    pub(super) figures: Figures,
    /// Since its last error, if a connection has not come about since.
    pub(super) error_age: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct CertificateView {
    /// The line of the configuration that names it.
    pub(super) line: String,
    pub(super) subject: String,
    /// When it ends, in seconds since 1970.
    pub(super) ends: i64,
}

/// Tunnels that met one line of a host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) in_workers: u64,
    pub(super) in_reactor: u64,
}

impl Snapshot {
    /// Looks at everything. It waits for nobody for long.
    pub(super) fn take(shared: &Shared) -> Self {
        let generation = shared.in_force.get();
        let (tunnels, sums) = tunnels(shared);
        let counters = &shared.counters;
        let (good_reloads, failed_reloads, last_reload) = counters.reloads();
        let crew = shared.crew.get();
        let busy = shared.busy.load(Relaxed);
        let handshakes = shared.handshakes.load(Relaxed);
        let (started, waiting, room) = crew.map_or((0, 0, 0), |crew| crew.figures());
        Self {
            process: Process::look(shared),
            configuration: Configuration {
                generation: generation.number,
                good_reloads,
                failed_reloads,
                last_reload,
            },
            workers: Workers {
                most: generation.config.max_request_workers,
                busy,
                handshakes: handshakes.min(busy),
                idle: started.saturating_sub(busy),
            },
            queue: Queue { waiting, room },
            reactor: Reactor {
                tunnels: shared.reactors.get().map_or(0, |reactors| reactors.load()),
                most: generation.config.reactor_limit,
            },
            totals: Totals {
                connections: counters.connections.get(),
                answers: counters.answers(),
                bytes_out: counters.bytes_out.get(),
                handshakes: counters.handshakes(),
                ended: counters.ends(),
                panics: counters.panics.get(),
                lost_lines: lost_lines(),
                tunnels: sums,
            },
            balancers: balancers(&generation),
            certificates: CertificateView::of(&generation),
            tunnels,
        }
    }

    /// Tunnels by their host and the line that they met, of which there are no more than the configuration has.
    pub(super) fn shares(&self) -> BTreeMap<(&str, &str), Share> {
        let mut shares = BTreeMap::<_, Share>::new();
        for view in &self.tunnels {
            let mapping = view.mapping.as_deref().unwrap_or_default();
            let share = shares.entry((&*view.host, mapping)).or_default();
            match view.figures.is_in_reactor {
                true => share.in_reactor += 1,
                false => share.in_workers += 1,
            }
        }
        shares
    }

    /// Requests that were answered, handshakes among them.
    pub(super) fn requests(&self) -> u64 {
        self.totals.answers.iter().map(|(_, count)| count).sum()
    }

    /// Bytes to clients.
    pub(super) fn bytes_out(&self) -> u64 {
        self.totals.bytes_out + self.totals.tunnels.from_backend
    }
}

impl Process {
    fn look(shared: &Shared) -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            id: std::process::id(),
            now: SystemTime::now(),
            started: shared.started.0,
            uptime: shared.started.1.elapsed(),
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            most_descriptors: getrlimit(Resource::Nofile).current,
        }
    }
}

impl CertificateView {
    fn of(generation: &Generation) -> Vec<Self> {
        let certificates = generation.certificates.iter();
        let view = |(line, validity): &(String, Validity)| Self {
            line: line.clone(),
            subject: validity.subject().to_owned(),
            ends: validity.ends(),
        };
        certificates.map(view).collect()
    }

    fn days_left(&self, now: SystemTime) -> i64 {
        (self.ends - seconds(now)).div_euclid(24 * 60 * 60)
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Who runs a tunnel.
fn mode(view: &View) -> &'static str {
    if view.figures.is_in_reactor {
        "reactor"
    } else {
        "worker"
    }
}

/// All tunnels that are open, by their numbers, and the sums of all that ever were.
fn tunnels(shared: &Shared) -> (Vec<View>, Sums) {
    let mut tunnels = Vec::with_capacity(shared.tunnels.count());
    let mut sums = Sums::default();
    for (views, of_shard) in shared.tunnels.views() {
        tunnels.extend(views);
        sums.add(of_shard);
        thread::yield_now();
    }
    tunnels.sort_by_cached_key(|view| view.id);
    thread::yield_now();
    (tunnels, sums)
}

/// The balancers of all hosts, each once.
fn balancers(generation: &Generation) -> Vec<BalancerView> {
    let mut found: Vec<BalancerView> = Vec::new();
    let now = Instant::now();
    for site in generation.sites() {
        for balancer in &site.host.balancers {
            if found
                .iter()
                .any(|view| Arc::ptr_eq(&view.balancer, balancer))
            {
                continue;
            }
            let members = balancer.members().iter().map(|member| {
                let figures = member.figures();
                let error_age = figures.error_at.map(|at| now.saturating_duration_since(at));
                MemberView { figures, error_age }
            });
            found.push(BalancerView {
                host: Arc::clone(&site.host.server_name),
                balancer: Arc::clone(balancer),
                members: members.collect(),
            });
        }
    }
    found
}

/// Writes a snapshot down. Who does so for thousands of tunnels lets other threads run in between.
pub(super) fn render(snapshot: &Snapshot, form: Form) -> Vec<u8> {
    let mut out = String::with_capacity(64 * 1024);
    // Writing to a string does not fail.
    let _ = match form {
        Form::Page {
            refresh: _,
            lists_tunnels,
        } => page::write(&mut out, snapshot, lists_tunnels, &thread::yield_now),
        Form::Auto => auto::write(&mut out, snapshot),
        Form::Json => json::write(&mut out, snapshot, &thread::yield_now),
        Form::Metrics => metrics::write(&mut out, snapshot),
    };
    out.into_bytes()
}
