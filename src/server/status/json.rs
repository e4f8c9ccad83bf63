//! The status as JSON. Pure. Its fields are stable: programs rely on them, and the manual names each. Fields may be added.
//!
//! Times are seconds since 1970 or, where the name ends in `_seconds`, spans; numbers of bytes are bytes. What is not known
//! is `null`.
//!
//! ```json
//! {
//!   "version": "0.1.0", "pid": 4711, "now": 1763742000, "started": 1763741000, "uptime_seconds": 1000,
//!   "cpu_seconds": 0.52, "descriptors_max": 65536,
//!   "configuration": {
//!     "generation": 2, "reloads": {"good": 1, "failed": 1},
//!     "last_reload": {"at": 1763741900, "succeeded": false, "problems": ["/etc/x.conf:3: ..."]}
//!   },
//!   "workers": {"max": 400, "busy": 2, "handshakes": 0, "idle": 1},
//!   "queue": {"waiting": 0, "max": 400},
//!   "reactor": {"tunnels": 1, "max": 65536},
//!   "places": {"taken": 3, "max": 20000},
//!   "totals": {
//!     "connections": 12, "requests": 11, "bytes_to_clients": 51234,
//!     "answers": {"1xx": 3, "2xx": 8, "3xx": 0, "4xx": 0, "5xx": 0},
//!     "handshakes": {"switched": 3, "refused": 0, "declined": 0, "failed": 0, "gone": 0},
//!     "tunnels": 3, "bytes_to_backends": 100, "bytes_from_backends": 200, "messages_to_backends": 9, "messages_from_backends": 8,
//!     "tunnels_ended": {"client": 1, "backend": 0, "idle": 0, "lifetime": 0, "drain": 0, "administrator": 0, "reload": 0,
//!                       "stop": 0, "fault": 0},
//!     "refused": {"total": 0, "host": 0, "backend": 0, "address": 0, "rate": 0}, "addresses_forgotten": 0,
//!     "panics": 0, "log_lines_lost": 0
//!   },
//!   "balancers": [{
//!     "name": "balancer://set", "host": "example.org", "method": "byrequests",
//!     "members": [{
//!       "name": "ws://a.example:9000", "route": null, "set": 0, "load_factor": 1, "status": "-", "usable": true,
//!       "busy": 1, "elected": 3, "bytes_sent": 10, "bytes_received": 20, "error_seconds": null, "retries": 0
//!     }]
//!   }],
//!   "certificates": [{"line": "/etc/x.conf:9", "subject": "CN=example.org", "ends": 1771518000, "days": 90}],
//!   "tunnels": [{
//!     "id": 7, "client": "192.0.2.1:40000", "host": "example.org", "mapping": "ProxyPass \"/ws/\"",
//!     "backend": "ws://a.example:9000/", "balancer": null, "mode": "worker", "age_seconds": 12.345,
//!     "idle_seconds": 0.25, "bytes_to_backend": 10, "bytes_from_backend": 20, "messages_to_backend": 1,
//!     "messages_from_backend": 2, "ending": false
//!   }]
//! }
//! ```

use super::text::Json;
use super::{BalancerView, STRETCH, Snapshot, seconds};
use crate::registry::View;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// Writes it down; `rests` is called now and then.
pub(super) fn write(out: &mut String, snapshot: &Snapshot, rests: &dyn Fn()) -> fmt::Result {
    write_process(out, snapshot)?;
    write_totals(out, snapshot)?;
    out.push_str("\n\"balancers\":");
    list(out, &snapshot.balancers, write_balancer)?;
    out.push_str(",\n\"certificates\":");
    list(out, &snapshot.certificates, |out, certificate| {
        let days = certificate.days_left(snapshot.process.now);
        write!(
            out,
            "{{\"line\":{},\"subject\":{},\"ends\":{},\"days\":{days}}}",
            Json(&certificate.line),
            Json(&certificate.subject),
            certificate.ends
        )
    })?;
    out.push_str(",\n\"tunnels\":[");
    for (number, stretch) in snapshot.tunnels.chunks(STRETCH).enumerate() {
        for (place, view) in stretch.iter().enumerate() {
            out.push_str(if number + place > 0 { ",\n" } else { "\n" });
            write_tunnel(out, view)?;
        }
        rests();
    }
    out.push_str("]}\n");
    Ok(())
}

fn write_process(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let Snapshot {
        process,
        configuration,
        workers,
        queue,
        reactor,
        places,
        ..
    } = snapshot;
    writeln!(
        out,
        "{{\"version\":{},\"pid\":{},\"now\":{},\"started\":{},\"uptime_seconds\":{},\"cpu_seconds\":{},\
         \"descriptors_max\":{},",
        Json(env!("CARGO_PKG_VERSION")),
        process.id,
        seconds(process.now),
        seconds(process.started),
        process.uptime.as_secs(),
        Seconds(process.cpu),
        Optional(process.most_descriptors)
    )?;
    write!(
        out,
        "\"configuration\":{{\"generation\":{},\"reloads\":{{\"good\":{},\"failed\":{}}},\"last_reload\":",
        configuration.generation, configuration.good_reloads, configuration.failed_reloads
    )?;
    match &configuration.last_reload {
        None => out.push_str("null"),
        Some(last) => {
            let (at, succeeded) = (seconds(last.at), last.problems.is_empty());
            write!(out, "{{\"at\":{at},\"succeeded\":{succeeded},\"problems\":")?;
            list(out, &last.problems, |out, problem| {
                write!(out, "{}", Json(problem))
            })?;
            out.push('}');
        }
    }
    writeln!(
        out,
        "}},\n\"workers\":{{\"max\":{},\"busy\":{},\"handshakes\":{},\"idle\":{}}},\n\
         \"queue\":{{\"waiting\":{},\"max\":{}}},\n\"reactor\":{{\"tunnels\":{},\"max\":{}}},\n\
         \"places\":{{\"taken\":{},\"max\":{}}},",
        workers.most,
        workers.busy,
        workers.handshakes,
        workers.idle,
        queue.waiting,
        queue.room,
        reactor.tunnels,
        reactor.most,
        places.taken,
        Optional(places.most)
    )
}

fn write_totals(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let totals = &snapshot.totals;
    let [to, from] = totals.tunnels.messages;
    write!(
        out,
        "\"totals\":{{\"connections\":{},\"requests\":{},\"bytes_to_clients\":{},\"answers\":",
        totals.connections,
        snapshot.requests(),
        snapshot.bytes_out()
    )?;
    counts(out, &totals.answers)?;
    out.push_str(",\"handshakes\":");
    counts(out, &totals.handshakes)?;
    write!(
        out,
        ",\"tunnels\":{},\"bytes_to_backends\":{},\"bytes_from_backends\":{},\"messages_to_backends\":{},\
         \"messages_from_backends\":{},\"tunnels_ended\":",
        totals.tunnels.tunnels, totals.tunnels.to_backend, totals.tunnels.from_backend, to, from
    )?;
    counts(out, &totals.ended)?;
    out.push_str(",\"refused\":");
    counts(out, &totals.refused)?;
    write!(
        out,
        ",\"addresses_forgotten\":{},\"panics\":{},\"log_lines_lost\":{}}},",
        totals.forgotten, totals.panics, totals.lost_lines
    )
}

fn write_balancer(out: &mut String, view: &BalancerView) -> fmt::Result {
    let balancer = &view.balancer;
    write!(
        out,
        "{{\"name\":{},\"host\":{},\"method\":{},\"members\":",
        Json(balancer.name()),
        Json(&view.host),
        Json(balancer.settings.method.name())
    )?;
    let members: Vec<_> = balancer.members().iter().zip(&view.members).collect();
    list(out, &members, |out, (member, known)| {
        let (terms, figures) = (&member.terms, &known.figures);
        write!(
            out,
            "{{\"name\":{},\"route\":{},\"set\":{},\"load_factor\":{},\"status\":{},\"usable\":{},\"busy\":{},\
             \"elected\":{},\"bytes_sent\":{},\"bytes_received\":{},\"error_seconds\":{},\"retries\":{}}}",
            Json(member.name()),
            Optional(terms.route.as_ref().map(Json)),
            terms.lbset,
            terms.load_factor,
            Json(figures.status),
            figures.status.is_usable(),
            figures.busy,
            figures.elected,
            figures.sent,
            figures.received,
            Optional(known.error_age.map(Seconds)),
            figures.retries
        )
    })?;
    out.push('}');
    Ok(())
}

fn write_tunnel(out: &mut String, view: &View) -> fmt::Result {
    let figures = &view.figures;
    let [to, from] = figures.messages;
    write!(
        out,
        "{{\"id\":{},\"client\":{},\"host\":{},\"mapping\":{},\"backend\":{},\"balancer\":{},\"mode\":\"{}\",\
         \"age_seconds\":{},\"idle_seconds\":{},\"bytes_to_backend\":{},\"bytes_from_backend\":{},\"messages_to_backend\":{},\"messages_from_backend\":{},\
         \"ending\":{}}}",
        view.id,
        Json(view.client),
        Json(&view.host),
        Optional(view.mapping.as_ref().map(Json)),
        Optional(view.backend.as_ref().map(|backend| Json(&backend.url))),
        Optional(view.balancer.as_ref().map(Json)),
        super::mode(view),
        Seconds(figures.age),
        Seconds(figures.idle),
        figures.to_backend,
        figures.from_backend,
        Optional(to),
        Optional(from),
        figures.is_ending
    )
}

fn counts(out: &mut String, counts: &[(&str, u64)]) -> fmt::Result {
    out.push('{');
    for (place, (name, count)) in counts.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(out, "{comma}{}:{count}", Json(name))?;
    }
    out.push('}');
    Ok(())
}

fn list<T>(
    out: &mut String,
    items: &[T],
    mut write: impl FnMut(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    out.push('[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item)?;
    }
    out.push(']');
    Ok(())
}

/// A value, or `null`.
struct Optional<T>(Option<T>);

impl<T: Display> Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Seconds, with thousandths.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}
