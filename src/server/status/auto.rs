//! The status as httpd's mod_status writes it for machines (`?auto`): its fields where they have a meaning here, under their
//! names, and ours behind them. Pure.

use super::{Snapshot, seconds};
use crate::http::date::Date;
use std::fmt::{self, Write};
use std::time::SystemTime;

/// Workers that the scoreboard shows at the most: it has a letter for each.
const BOARD: usize = 4096;

pub(super) fn write(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let Snapshot {
        process,
        configuration,
        workers,
        queue,
        reactor,
        places,
        totals,
        ..
    } = snapshot;
    let version = env!("CARGO_PKG_VERSION");
    let uptime = process.uptime.as_secs();
    writeln!(out, "ServerVersion: proxy-wstunnel/{version}")?;
    writeln!(out, "CurrentTime: {}", written(process.now))?;
    writeln!(out, "RestartTime: {}", written(process.started))?;
    let generation = configuration.generation;
    writeln!(out, "ParentServerConfigGeneration: {generation}")?;
    writeln!(out, "ServerUptimeSeconds: {uptime}")?;
    writeln!(out, "ServerUptime: {}", super::text::Span(process.uptime))?;
    let (requests, bytes) = (snapshot.requests(), snapshot.bytes_out());
    writeln!(out, "Total Accesses: {requests}")?;
    writeln!(out, "Total kBytes: {}", bytes / 1024)?;
    let busy_share = Ratio(process.cpu.as_millis() * 100, process.uptime.as_millis());
    writeln!(out, "CPULoad: {busy_share}")?;
    writeln!(out, "Uptime: {uptime}")?;
    writeln!(out, "ReqPerSec: {}", Ratio(requests.into(), uptime.into()))?;
    writeln!(out, "BytesPerSec: {}", Ratio(bytes.into(), uptime.into()))?;
    writeln!(out, "BytesPerReq: {}", Ratio(bytes.into(), requests.into()))?;
    writeln!(out, "BusyWorkers: {}", workers.busy)?;
    writeln!(out, "IdleWorkers: {}", workers.idle)?;
    writeln!(out, "Processes: 1")?;
    writeln!(
        out,
        "ConnsTotal: {}",
        workers.busy + queue.waiting + reactor.tunnels
    )?;
    writeln!(out, "MaxWorkers: {}", workers.most)?;
    writeln!(out, "QueuedConnections: {}", queue.waiting)?;
    writeln!(out, "Tunnels: {}", snapshot.tunnels.len())?;
    writeln!(out, "ReactorTunnels: {}", reactor.tunnels)?;
    writeln!(out, "MaxReactorTunnels: {}", reactor.most)?;
    writeln!(out, "PlacesTaken: {}", places.taken)?;
    if let Some(most) = places.most {
        writeln!(out, "MaxTunnels: {most}")?;
    }
    writeln!(out, "Total Connections: {}", totals.connections)?;
    writeln!(out, "Total Tunnels: {}", totals.tunnels.tunnels)?;
    writeln!(out, "Total Tunnel Bytes Up: {}", totals.tunnels.to_backend)?;
    writeln!(
        out,
        "Total Tunnel Bytes Down: {}",
        totals.tunnels.from_backend
    )?;
    let [to, from] = totals.tunnels.messages;
    writeln!(out, "Total Tunnel Messages Up: {to}")?;
    writeln!(out, "Total Tunnel Messages Down: {from}")?;
    for (outcome, count) in totals.handshakes {
        writeln!(out, "Handshakes {outcome}: {count}")?;
    }
    for (bound, count) in totals.refused {
        writeln!(out, "Refused {bound}: {count}")?;
    }
    writeln!(out, "ForgottenAddresses: {}", totals.forgotten)?;
    for (who, count) in totals.ended {
        writeln!(out, "Ended {who}: {count}")?;
    }
    writeln!(out, "Panics: {}", totals.panics)?;
    writeln!(out, "LostLogLines: {}", totals.lost_lines)?;
    writeln!(out, "ReloadsGood: {}", configuration.good_reloads)?;
    writeln!(out, "ReloadsFailed: {}", configuration.failed_reloads)?;
    let certificates = snapshot.certificates.iter();
    writeln!(out, "Certificates: {}", certificates.len())?;
    let days = certificates.map(|certificate| certificate.days_left(process.now));
    if let Some(least) = days.min() {
        writeln!(out, "LeastCertificateDays: {least}")?;
    }
    out.push_str("Scoreboard: ");
    let reading = workers.handshakes;
    let letters = [
        ('R', reading),
        ('W', workers.busy.saturating_sub(reading)),
        ('_', workers.idle),
    ];
    let mut left = workers.most.min(BOARD);
    for (letter, count) in letters {
        let count = count.min(left);
        out.extend(std::iter::repeat_n(letter, count));
        left -= count;
    }
    // No worker has been started there.
    out.extend(std::iter::repeat_n('.', left));
    out.push('\n');
    Ok(())
}

/// `Thursday, 20-Nov-2025 17:00:23 UTC`, as httpd writes it.
fn written(time: SystemTime) -> String {
    let date = Date::from_unix(u64::try_from(seconds(time)).unwrap_or_default());
    format!(
        "{}, {:02}-{}-{:04} {:02}:{:02}:{:02} UTC",
        date.weekday_name(),
        date.day,
        crate::http::date::short(date.month_name()),
        date.year,
        date.hour,
        date.minute,
        date.second
    )
}

/// A quotient with three decimals, 0 where there is none.
struct Ratio(u128, u128);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (self.0 * 1000).checked_div(self.1).unwrap_or_default();
        write!(f, "{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}
