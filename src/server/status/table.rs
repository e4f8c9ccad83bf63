//! The status as a table for a terminal: columns as wide as what is in them.

use super::text::{Bytes, Span, counts};
use super::{STRETCH, Snapshot};
use std::fmt::{self, Display, Write};

/// Writes it down; `rests` is called now and then.
pub(super) fn write(out: &mut String, snapshot: &Snapshot, rests: &dyn Fn()) -> fmt::Result {
    write_process(out, snapshot)?;
    if !snapshot.balancers.is_empty() {
        out.push('\n');
        members(snapshot).write(out, rests);
    }
    if !snapshot.certificates.is_empty() {
        out.push('\n');
        certificates(snapshot).write(out, rests);
    }
    if !snapshot.tunnels.is_empty() {
        out.push('\n');
        tunnels(snapshot, rests).write(out, rests);
    }
    Ok(())
}

fn write_process(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let (process, configuration) = (&snapshot.process, &snapshot.configuration);
    writeln!(
        out,
        "process {}, up {}, processor time {}",
        process.id,
        Span(process.uptime),
        Span(process.cpu)
    )?;
    writeln!(
        out,
        "configuration {}, {} reloads, {} failed",
        configuration.generation, configuration.good_reloads, configuration.failed_reloads
    )?;
    if let Some(reload) = &configuration.last_reload {
        let ago = process.now.duration_since(reload.at).unwrap_or_default();
        let outcome = match reload.problems.is_empty() {
            true => "has put this configuration in force",
            false => "has failed, and left this configuration in force",
        };
        writeln!(out, "the last reload, {} ago, {outcome}", Span(ago))?;
        for problem in &reload.problems {
            writeln!(out, "  {}", problem.replace(char::is_control, "?"))?;
        }
    }
    let (workers, queue, reactor) = (&snapshot.workers, &snapshot.queue, &snapshot.reactor);
    writeln!(
        out,
        "workers: {} of {} have a connection, {} of them a request; {} idle; {} connections wait",
        workers.busy, workers.most, workers.handshakes, workers.idle, queue.waiting
    )?;
    writeln!(
        out,
        "tunnels: {} open, {} of at most {} in reactors",
        snapshot.tunnels.len(),
        reactor.tunnels,
        reactor.most
    )?;
    let totals = &snapshot.totals;
    let (sums, [up, down]) = (&totals.tunnels, totals.tunnels.messages);
    writeln!(
        out,
        "tunnels since the start: {}; {} and {up} messages sent, {} and {down} messages received",
        sums.tunnels,
        Bytes(sums.to_backend),
        Bytes(sums.from_backend)
    )?;
    let places = &snapshot.places;
    write!(out, "limits: {} places taken", places.taken)?;
    if let Some(most) = places.most {
        write!(out, " of {most}")?;
    }
    writeln!(
        out,
        "; refused: {}; {} addresses forgotten",
        counts(&totals.refused),
        totals.forgotten
    )
}

fn members(snapshot: &Snapshot) -> Table<9> {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("HOST", Left),
        ("BALANCER", Left),
        ("MEMBER", Left),
        ("STATUS", Left),
        ("OPEN", Right),
        ("CHOSEN", Right),
        ("SENT", Right),
        ("RECEIVED", Right),
        ("LAST ERROR", Left),
    ]);
    for view in &snapshot.balancers {
        for (member, known) in view.balancer.members().iter().zip(&view.members) {
            let figures = &known.figures;
            let error = known.error_age.map(|age| format!("{} ago", Span(age)));
            table.row([
                &view.host,
                &view.balancer.name(),
                &member.name(),
                &figures.status,
                &figures.busy,
                &figures.elected,
                &Bytes(figures.sent),
                &Bytes(figures.received),
                &error.unwrap_or_default(),
            ]);
        }
    }
    table
}

fn certificates(snapshot: &Snapshot) -> Table<3> {
    use Align::{Left, Right};
    let mut table = Table::new([("CERTIFICATE", Left), ("DAYS LEFT", Right), ("LINE", Left)]);
    for certificate in &snapshot.certificates {
        let days = certificate.days_left(snapshot.process.now);
        table.row([&certificate.subject, &days, &certificate.line]);
    }
    table
}

fn tunnels(snapshot: &Snapshot, rests: &dyn Fn()) -> Table<12> {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("ID", Right),
        ("CLIENT", Left),
        ("HOST", Left),
        ("MAPPING", Left),
        ("BACKEND", Left),
        ("AGE", Right),
        ("IDLE", Right),
        ("SENT", Right),
        ("MESSAGES", Right),
        ("RECEIVED", Right),
        ("MESSAGES", Right),
        ("IN", Left),
    ]);
    for stretch in snapshot.tunnels.chunks(STRETCH) {
        for view in stretch {
            let figures = &view.figures;
            let place = match (figures.is_in_reactor, figures.is_ending) {
                (true, false) => "reactor",
                (false, false) => "worker",
                (true, true) => "reactor, ending",
                (false, true) => "worker, ending",
            };
            let backend: &dyn Display = match &view.backend {
                Some(backend) => &backend.url,
                None => &"",
            };
            let [up, down] = figures.messages.each_ref().map(|count| match count {
                Some(count) => count as &dyn Display,
                None => &"",
            });
            table.row([
                &view.id,
                &view.client,
                &view.host,
                &view.mapping.as_deref().unwrap_or_default(),
                backend,
                &Span(figures.age),
                &Span(figures.idle),
                &Bytes(figures.to_backend),
                up,
                &Bytes(figures.from_backend),
                down,
                &place,
            ]);
        }
        rests();
    }
    table
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Rows of cells, as one text until their widths are known: there may be thousands.
struct Table<const N: usize> {
    columns: [(usize, Align); N],
    /// Each cell, with a line end behind it.
    cells: String,
}

impl<const N: usize> Table<N> {
    fn new(titles: [(&str, Align); N]) -> Self {
        let mut table = Self {
            columns: titles.map(|(_, align)| (0, align)),
            cells: String::new(),
        };
        table.row(titles.each_ref().map(|(title, _)| title as &dyn Display));
        table
    }

    fn row(&mut self, cells: [&dyn Display; N]) {
        for (cell, (width, _)) in cells.into_iter().zip(&mut self.columns) {
            let begin = self.cells.len();
            // Writing to a string does not fail.
            let _ = write!(self.cells, "{cell}");
            let text = self.cells.get(begin..).unwrap_or_default();
            if text.is_empty() {
                self.cells.push('-');
            } else if text.contains(char::is_control) {
                let text = text.replace(char::is_control, "?");
                self.cells.truncate(begin);
                self.cells.push_str(&text);
            }
            let text = self.cells.get(begin..).unwrap_or_default();
            *width = (*width).max(text.chars().count());
            self.cells.push('\n');
        }
    }

    fn write(&self, out: &mut String, rests: &dyn Fn()) {
        let last = N.saturating_sub(1);
        let mut cells = self.cells.lines();
        for row in 1_usize.. {
            for (index, (width, align)) in self.columns.iter().enumerate() {
                let Some(cell) = cells.next() else { return };
                // Writing to a string does not fail.
                let _ = match align {
                    Align::Right => write!(out, "{cell:>width$}"),
                    Align::Left if index == last => write!(out, "{cell}"),
                    Align::Left => write!(out, "{cell:width$}"),
                };
                out.push_str(if index == last {
                    "
"
                } else {
                    "  "
                });
            }
            if row.is_multiple_of(STRETCH) {
                rests();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new([
            ("ID", Align::Right),
            ("NAME", Align::Left),
            ("LAST", Align::Left),
        ]);
        table.row([&7, &"ü", &"x"]);
        table.row([&12345, &"longer name", &""]);
        table.row([&1, &"a\nb\u{1b}", &"y"]);
        let mut out = String::new();
        table.write(&mut out, &|| {});
        assert_eq!(
            out,
            "   ID  NAME         LAST\n    7  ü            x\n12345  longer name  -\n    1  a?b?         y\n"
        );
    }
}
