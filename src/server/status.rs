//! What the server shows of itself: everything is looked at once, and written down in one of five forms by pure functions.
//! None of it is on the way of bytes: a shard of the tunnels is locked while it is copied, and who writes thousands of them
//! down lets others run in between.

mod auto;
mod json;
mod metrics;
mod page;
mod table;
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
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
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
    /// For terminals.
    Table,
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
                ("table", _) => return Self::Table,
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

    /// Fields of an answer that shows it.
    pub(super) fn fields(self) -> Vec<(&'static str, Vec<u8>)> {
        // What is shown is true now, and runs nothing.
        let mut fields = vec![
            ("Cache-Control", b"no-store".to_vec()),
            (
                "Content-Security-Policy",
                b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'".to_vec(),
            ),
        ];
        if let Self::Page {
            refresh: Some(seconds),
            ..
        } = self
        {
            fields.push(("Refresh", seconds.to_string().into_bytes()));
        }
        fields
    }

    /// As in `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Page { .. } => "text/html; charset=utf-8",
            Self::Auto | Self::Table => "text/plain; charset=utf-8",
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
    pub(super) places: Places,
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

/// What `ProxyWebsocketMaxTunnels` counts.
#[derive(Debug)]
pub(super) struct Places {
    /// By tunnels, and by handshakes that may become some.
    pub(super) taken: usize,
    /// None: any number.
    pub(super) most: Option<usize>,
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
    /// Tunnels that were refused, by the bound that was reached.
    pub(super) refused: [(&'static str, u64); 5],
    /// Addresses of which it is no more known how often they have asked.
    pub(super) forgotten: u64,
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

impl Shared {
    /// What there is to be seen now. Of several who ask one is served at a time: others need the processors as well.
    pub(super) fn status(&self, form: Form) -> Vec<u8> {
        let _turn = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        render(&Snapshot::take(self), form)
    }
}

impl Snapshot {
    /// Looks at everything. It waits for nobody for long.
    pub(super) fn take(shared: &Shared) -> Self {
        let generation = shared.in_force.get();
        let (tunnels, sums) = tunnels(shared);
        let (counters, limits) = (&shared.counters, &shared.limits.counts);
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
            places: Places {
                taken: limits.tunnels.load(Relaxed),
                most: generation.config.max_tunnels,
            },
            totals: Totals {
                connections: counters.connections.get(),
                answers: counters.answers(),
                bytes_out: counters.bytes_out.get(),
                handshakes: counters.handshakes(),
                ended: counters.ends(),
                refused: limits.refused(),
                forgotten: limits.forgotten.load(Relaxed),
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
        Form::Table => table::write(&mut out, snapshot, &thread::yield_now),
    };
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::{Member, Settings, Terms};
    use crate::route::backend::{Backend, Parameters};
    use crate::route::url::BackendUrl;
    use crate::tunnel::live;
    use std::cell::Cell;

    const ODD: &str = "a\"b<c>&'\\";

    fn backend() -> Arc<Backend> {
        Arc::new(Backend {
            url: BackendUrl::parse("ws://b.example:9000/x").unwrap(),
            parameters: Parameters::default(),
        })
    }

    fn view(id: u64) -> View {
        View {
            id,
            client: "[2001:db8::1]:5000".parse().unwrap(),
            host: ODD.into(),
            mapping: Some(format!("ProxyPass {ODD}").into()),
            backend: Some(backend()),
            balancer: None,
            figures: live::Figures {
                age: Duration::from_millis(90_061_002),
                idle: Duration::from_millis(1_500),
                to_backend: 1,
                from_backend: 2048,
                messages: [Some(5), None],
                is_in_reactor: id.is_multiple_of(2),
                is_ending: id == 3,
            },
        }
    }

    fn snapshot(tunnels: u64) -> Snapshot {
        let terms = Terms {
            route: Some(ODD.to_owned()),
            ..Terms::default()
        };
        let member = Member::new(backend(), terms);
        let figures = member.figures();
        let balancer = Balancer::new("set", Settings::default(), vec![member]);
        let now = UNIX_EPOCH + Duration::from_secs(1_763_658_023);
        Snapshot {
            process: Process {
                id: 7,
                now,
                started: now - Duration::from_secs(100),
                uptime: Duration::from_secs(100),
                cpu: Duration::from_millis(2_500),
                most_descriptors: None,
            },
            configuration: Configuration {
                generation: 2,
                good_reloads: 1,
                failed_reloads: 1,
                last_reload: Some(Reload {
                    at: now,
                    problems: vec![format!("x.conf:1: {ODD}"), "another".to_owned()],
                }),
            },
            workers: Workers {
                most: 6,
                busy: 3,
                handshakes: 1,
                idle: 2,
            },
            queue: Queue {
                waiting: 1,
                room: 6,
            },
            reactor: Reactor {
                tunnels: 1,
                most: 10,
            },
            places: Places {
                taken: 4,
                most: Some(20),
            },
            totals: Totals {
                connections: 12,
                answers: [("1xx", 3), ("2xx", 4), ("3xx", 0), ("4xx", 2), ("5xx", 1)],
                bytes_out: 1000,
                handshakes: Default::default(),
                ended: Default::default(),
                refused: [
                    ("total", 1),
                    ("host", 2),
                    ("backend", 3),
                    ("address", 4),
                    ("rate", 5),
                ],
                forgotten: 6,
                panics: 0,
                lost_lines: 5,
                tunnels: Sums {
                    tunnels: 3,
                    to_backend: 10,
                    from_backend: 4120,
                    messages: [5, 6],
                },
            },
            balancers: vec![BalancerView {
                host: ODD.into(),
                balancer: Arc::new(balancer),
                members: vec![MemberView {
                    figures,
                    error_age: Some(Duration::from_secs(3)),
                }],
            }],
            certificates: vec![CertificateView {
                line: ODD.to_owned(),
                subject: "CN=x".to_owned(),
                ends: 1_763_658_023 + 2 * 86_400 - 1,
            }],
            tunnels: (1..=tunnels).map(view).collect(),
        }
    }

    fn rendered(form: Form) -> String {
        String::from_utf8(render(&snapshot(3), form)).unwrap()
    }

    const PAGE: Form = Form::Page {
        refresh: None,
        lists_tunnels: true,
    };

    #[test]
    fn a_query_chooses_the_form() {
        let page = |refresh, lists_tunnels| Form::Page {
            refresh,
            lists_tunnels,
        };
        for (query, form) in [
            (None, page(None, true)),
            (Some(""), page(None, true)),
            (Some("auto"), Form::Auto),
            (Some("refresh=5&auto"), Form::Auto),
            (Some("json"), Form::Json),
            (Some("metrics"), Form::Metrics),
            (Some("refresh=5"), page(Some(5), true)),
            (Some("refresh"), page(Some(1), true)),
            (Some("refresh=0"), page(Some(1), true)),
            (Some("refresh=5,notable"), page(Some(5), false)),
            (Some("notable&refresh=99999999999"), page(Some(1), false)),
            (Some("autos"), page(None, true)),
        ] {
            assert_eq!(Form::asked_for(query), form, "{query:?}");
        }
    }

    #[test]
    fn a_page_has_everything_and_nobody_writes_into_its_language() {
        let page = rendered(PAGE);
        let odd = "a&quot;b&lt;c&gt;&amp;&#39;\\";
        for expected in [
            format!("<td>{odd}</td><td>ProxyPass {odd}</td><td>ws://b.example:9000/x</td>"),
            "<td>[2001:db8::1]:5000</td>".to_owned(),
            "<td class=\"n\">1d 1h</td><td class=\"n\">1s</td>".to_owned(),
            "<td class=\"n\">5</td><td class=\"n\">-</td><td>worker, ending</td>".to_owned(),
            "<td>reactor</td>".to_owned(),
            format!("x.conf:1: {odd}<br>another</td>"),
            format!("<h2>balancer://set of {odd}, byrequests</h2>"),
            format!("<td>{odd}</td><td>CN=x</td><td class=\"n\">1</td>"),
            "<h2>Tunnels: 3</h2>".to_owned(),
        ] {
            assert!(page.contains(&expected), "{expected} in {page}");
        }
        assert!(!page.contains(ODD));
        let short = rendered(Form::Page {
            refresh: None,
            lists_tunnels: false,
        });
        assert!(!short.contains("2001:db8"));
        assert!(short.contains("<td class=\"n\">2</td><td class=\"n\">1</td>"));
    }

    #[test]
    fn what_httpd_writes_for_machines_is_written_as_httpd_does() {
        let text = rendered(Form::Auto);
        for line in [
            "CurrentTime: Thursday, 20-Nov-2025 17:00:23 UTC",
            "Total Accesses: 10",
            "Total kBytes: 5",
            "CPULoad: 2.500",
            "Uptime: 100",
            "ReqPerSec: 0.100",
            "BytesPerReq: 512.000",
            "BusyWorkers: 3",
            "IdleWorkers: 2",
            "ConnsTotal: 5",
            "Scoreboard: RWW__.",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line} in {text}"
            );
        }
    }

    #[test]
    fn in_json_and_metrics_texts_are_values_and_nothing_else() {
        let json = rendered(Form::Json);
        assert!(json.contains(r#""host":"a\"b<c>&'\\","mapping":"ProxyPass a\"b<c>&'\\""#));
        assert!(json.contains(r#""age_seconds":90061.002,"idle_seconds":1.500"#));
        assert!(json.contains(r#""messages_to_backend":5,"messages_from_backend":null"#));
        assert!(json.contains(r#""descriptors_max":null"#));
        assert!(json.contains(r#""days":1}"#), "{json}");
        let metrics = rendered(Form::Metrics);
        let tunnels = r#"proxy_wstunnel_tunnels{host="a\"b<c>&'\\",mapping="ProxyPass a\"b<c>&'\\",mode="worker"} 2"#;
        assert!(metrics.lines().any(|line| line == tunnels), "{metrics}");
        assert!(!metrics.contains("2001:db8"), "no series is about a client");
        let many = String::from_utf8(render(&snapshot(1000), Form::Metrics)).unwrap();
        assert_eq!(many.lines().count(), metrics.lines().count());
    }

    #[test]
    fn who_writes_down_many_tunnels_rests_in_between() {
        let snapshot = snapshot(1000);
        let rests = Cell::new(0);
        let rest = || rests.set(rests.get() + 1);
        let mut out = String::new();
        json::write(&mut out, &snapshot, &rest).unwrap();
        assert_eq!(rests.get(), 1000_usize.div_ceil(STRETCH));
        assert_eq!(out.matches("\"client\":").count(), 1000);
        page::write(&mut out, &snapshot, true, &rest).unwrap();
        assert_eq!(rests.get(), 2 * 1000_usize.div_ceil(STRETCH));
    }
}
