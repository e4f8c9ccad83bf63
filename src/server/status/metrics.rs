//! The status in the text format of Prometheus (version 0.0.4). Pure. Names follow its conventions: base units, `_total` for
//! what only grows. No series is about one tunnel or one client: there are no more of them than the configuration has lines.

use super::text::Label;
use super::{Snapshot, seconds};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// What all names but those of the process begin with.
const PREFIX: &str = "proxy_wstunnel_";

pub(super) fn write(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let mut metrics = Metrics(out);
    process(&mut metrics, snapshot)?;
    load(&mut metrics, snapshot)?;
    totals(&mut metrics, snapshot)?;
    configuration(&mut metrics, snapshot)?;
    members(&mut metrics, snapshot)
}

/// Where they are written.
struct Metrics<'a>(&'a mut String);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The labels of a series, each with its value.
type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Metrics<'_> {
    /// Begins a metric, of which the series follow.
    fn begin(&mut self, name: &str, kind: Kind, help: &str) -> fmt::Result {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn series(&mut self, name: &str, labels: Labels<'_>, value: impl Display) -> fmt::Result {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            write!(self.0, "{before}{label}={}", Label(text))?;
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        writeln!(self.0, " {value}")
    }

    /// A metric of one series.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) -> fmt::Result {
        let name = format!("{PREFIX}{name}");
        self.begin(&name, kind, help)?;
        self.series(&name, &[], value)
    }

    /// A metric with one label.
    fn by(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        label: &str,
        series: &[(&str, u64)],
    ) -> fmt::Result {
        let name = format!("{PREFIX}{name}");
        self.begin(&name, kind, help)?;
        let mut series = series.iter();
        series.try_for_each(|(text, value)| self.series(&name, &[(label, text)], value))
    }
}

/// Names that many programs have in common.
fn process(metrics: &mut Metrics<'_>, snapshot: &Snapshot) -> fmt::Result {
    let process = &snapshot.process;
    let name = "process_start_time_seconds";
    metrics.begin(name, Kind::Gauge, "Start of the process since 1970.")?;
    metrics.series(name, &[], seconds(process.started))?;
    let name = "process_cpu_seconds_total";
    metrics.begin(
        name,
        Kind::Counter,
        "Time of processors used, of user and system.",
    )?;
    metrics.series(name, &[], Decimal(process.cpu))?;
    if let Some(most) = process.most_descriptors {
        let name = "process_max_fds";
        metrics.begin(name, Kind::Gauge, "Most descriptors that may be open.")?;
        metrics.series(name, &[], most)?;
    }
    let name = format!("{PREFIX}build_info");
    metrics.begin(&name, Kind::Gauge, "Always 1; the version is a label.")?;
    metrics.series(&name, &[("version", &env!("CARGO_PKG_VERSION"))], 1)
}

fn load(metrics: &mut Metrics<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Snapshot {
        workers,
        queue,
        reactor,
        places,
        ..
    } = snapshot;
    let states = [("busy", workers.busy as u64), ("idle", workers.idle as u64)];
    metrics.by(
        "workers",
        Kind::Gauge,
        "Workers that have been started.",
        "state",
        &states,
    )?;
    metrics.one(
        "workers_max",
        Kind::Gauge,
        "MaxRequestWorkers.",
        workers.most,
    )?;
    let help = "Connections that wait for a worker.";
    metrics.one("queued_connections", Kind::Gauge, help, queue.waiting)?;
    let help = "Most connections that may wait for a worker.";
    metrics.one("queued_connections_max", Kind::Gauge, help, queue.room)?;
    let help = "Most tunnels that reactors may have, ProxyWebsocketAsyncLimit.";
    metrics.one("reactor_tunnels_max", Kind::Gauge, help, reactor.most)?;
    let help = "Tunnels, and handshakes that may become some.";
    metrics.one("places_taken", Kind::Gauge, help, places.taken)?;
    if let Some(most) = places.most {
        let help = "Most tunnels that there may be, ProxyWebsocketMaxTunnels.";
        metrics.one("places_max", Kind::Gauge, help, most)?;
    }
    let name = format!("{PREFIX}tunnels");
    let help = "Tunnels that are open, by host, line of the configuration and mode.";
    metrics.begin(&name, Kind::Gauge, help)?;
    for ((host, mapping), share) in snapshot.shares() {
        for (mode, count) in [("worker", share.in_workers), ("reactor", share.in_reactor)] {
            let labels: Labels<'_> = &[("host", &host), ("mapping", &mapping), ("mode", &mode)];
            metrics.series(&name, labels, count)?;
        }
    }
    Ok(())
}

fn totals(metrics: &mut Metrics<'_>, snapshot: &Snapshot) -> fmt::Result {
    let totals = &snapshot.totals;
    let counter = Kind::Counter;
    let help = "Connections accepted.";
    metrics.one("connections_total", counter, help, totals.connections)?;
    let help = "Requests answered, by the class of their status.";
    metrics.by("answers_total", counter, help, "class", &totals.answers)?;
    let help = "Bytes to clients.";
    metrics.one("sent_bytes_total", counter, help, snapshot.bytes_out())?;
    let help = "Requests for tunnels, by what they came to.";
    metrics.by(
        "handshakes_total",
        counter,
        help,
        "outcome",
        &totals.handshakes,
    )?;
    let help = "Tunnels refused, by the limit that was reached.";
    metrics.by("refused_total", counter, help, "limit", &totals.refused)?;
    let help = "Addresses whose rate of handshakes was forgotten, as there were too many.";
    metrics.one("forgotten_addresses_total", counter, help, totals.forgotten)?;
    let sums = &totals.tunnels;
    let help = "Tunnels opened.";
    metrics.one("tunnels_opened_total", counter, help, sums.tunnels)?;
    let help = "Tunnels ended, by who or what ended them.";
    metrics.by("tunnels_ended_total", counter, help, "by", &totals.ended)?;
    let help = "Bytes that went through tunnels.";
    let ways = [
        ("to_backend", sums.to_backend),
        ("from_backend", sums.from_backend),
    ];
    metrics.by("tunnel_bytes_total", counter, help, "direction", &ways)?;
    let [to, from] = sums.messages;
    let help = "Messages of WebSockets that went through tunnels.";
    let ways = [("to_backend", to), ("from_backend", from)];
    metrics.by("tunnel_messages_total", counter, help, "direction", &ways)?;
    let help = "Faults of this program that cost a request or a tunnel.";
    metrics.one("panics_total", counter, help, totals.panics)?;
    let help = "Lines of logs that were lost as nothing took them fast enough.";
    metrics.one("lost_log_lines_total", counter, help, totals.lost_lines)
}

fn configuration(metrics: &mut Metrics<'_>, snapshot: &Snapshot) -> fmt::Result {
    let configuration = &snapshot.configuration;
    let help = "Configurations that were in force so far.";
    let generation = configuration.generation;
    metrics.one("config_generation", Kind::Gauge, help, generation)?;
    let reloads = [
        ("good", configuration.good_reloads),
        ("failed", configuration.failed_reloads),
    ];
    let help = "Reloads, by how they went.";
    metrics.by(
        "config_reloads_total",
        Kind::Counter,
        help,
        "outcome",
        &reloads,
    )?;
    let last = configuration.last_reload.as_ref();
    let help = "Whether the last reload went well; 1 before the first.";
    let went_well = u8::from(last.is_none_or(|last| last.problems.is_empty()));
    metrics.one(
        "config_last_reload_successful",
        Kind::Gauge,
        help,
        went_well,
    )?;
    let name = format!("{PREFIX}certificate_expiry_timestamp_seconds");
    let help = "End of a certificate since 1970, by the line that names it.";
    metrics.begin(&name, Kind::Gauge, help)?;
    for certificate in &snapshot.certificates {
        let (line, subject) = (&certificate.line, &certificate.subject);
        let labels: Labels<'_> = &[("line", line), ("subject", subject)];
        metrics.series(&name, labels, certificate.ends)?;
    }
    Ok(())
}

fn members(metrics: &mut Metrics<'_>, snapshot: &Snapshot) -> fmt::Result {
    /// The value for one direction, or the one that there is.
    type Value = (&'static str, fn(&crate::balancer::Figures) -> u64);
    type Metric = (&'static str, Kind, &'static str, &'static [Value]);
    let all: [Metric; 4] = [
        (
            "member_usable",
            Kind::Gauge,
            "Whether a member may be used: it is not disabled, stopped, ill or set aside.",
            &[("", |figures| u64::from(figures.status.is_usable()))],
        ),
        (
            "member_busy",
            Kind::Gauge,
            "Requests and tunnels that are open at a member.",
            &[("", |figures| figures.busy as u64)],
        ),
        (
            "member_elected_total",
            Kind::Counter,
            "How often a member was chosen.",
            &[("", |figures| figures.elected)],
        ),
        (
            "member_bytes_total",
            Kind::Counter,
            "Bytes to and from a member.",
            &[
                ("to_backend", |figures| figures.sent),
                ("from_backend", |figures| figures.received),
            ],
        ),
    ];
    for (name, kind, help, values) in all {
        let name = format!("{PREFIX}{name}");
        metrics.begin(&name, kind, help)?;
        // Two members of one URL are told apart by their number, also where two hosts of one name, for two ports, have a
        // balancer of one name each.
        let mut numbers = BTreeMap::<_, usize>::new();
        for view in &snapshot.balancers {
            let known = view.balancer.members().iter().zip(&view.members);
            let number = numbers
                .entry((&*view.host, view.balancer.name()))
                .or_default();
            for (member, known) in known {
                let this = *number;
                *number += 1;
                let (host, balancer) = (&view.host, view.balancer.name());
                let member = member.name();
                for (direction, value) in values {
                    let labels: [(&str, &dyn Display); 5] = [
                        ("host", host),
                        ("balancer", balancer),
                        ("member", &member),
                        ("number", &this),
                        ("direction", direction),
                    ];
                    let labels = match *direction {
                        "" => labels
                            .split_last()
                            .map_or(&labels[..], |(_, before)| before),
                        _ => &labels,
                    };
                    metrics.series(&name, labels, value(&known.figures))?;
                }
            }
        }
    }
    Ok(())
}

/// Seconds with their fraction.
struct Decimal(Duration);

impl Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}
