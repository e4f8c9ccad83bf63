//! The status as a page for people, which needs no script. Pure.

use super::text::{Bytes, Html, Span, counts};
use super::{STRETCH, Snapshot, seconds};
use crate::http::date::imf_fixdate;
use crate::registry::View;
use std::fmt::{self, Display, Write};
use std::time::SystemTime;

const STYLE: &str = "body{font-family:sans-serif;margin:1em 2em;color:#222;background:#fff}\
h2{font-size:1.1em;margin:1.5em 0 .3em}\
table{border-collapse:collapse;font-size:.9em}\
td,th{border:1px solid #ccc;padding:.15em .5em;text-align:left;vertical-align:top}\
th{background:#eee}\
td.n{text-align:right;white-space:nowrap}\
.bad{color:#a00;font-weight:bold}";

/// Writes it down; `rests` is called now and then.
pub(super) fn write(
    out: &mut String,
    snapshot: &Snapshot,
    lists_tunnels: bool,
    rests: &dyn Fn(),
) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>proxy-wstunnel status</title>\
         <style>{STYLE}</style></head><body>\n<h1>proxy-wstunnel status</h1>\n"
    )?;
    write_process(out, snapshot)?;
    write_totals(out, snapshot)?;
    write_members(out, snapshot)?;
    write_certificates(out, snapshot)?;
    writeln!(out, "<h2>Tunnels: {}</h2>", snapshot.tunnels.len())?;
    if lists_tunnels {
        write_tunnels(out, &snapshot.tunnels, rests)?;
    } else {
        write_shares(out, snapshot)?;
    }
    out.push_str("</body></html>\n");
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
    out.push_str("<table>\n");
    let mut row = |name: &str, value: fmt::Arguments<'_>| {
        writeln!(out, "<tr><th>{name}</th><td>{value}</td></tr>")
    };
    let version = env!("CARGO_PKG_VERSION");
    row(
        "Version",
        format_args!("{}, process {}", Html(version), process.id),
    )?;
    row("Now", format_args!("{}", date(process.now)))?;
    let (started, uptime) = (date(process.started), Span(process.uptime));
    row("Started", format_args!("{started}, {uptime} ago"))?;
    let (good, failed) = (configuration.good_reloads, configuration.failed_reloads);
    row(
        "Configuration",
        format_args!(
            "generation {}; reloads: {good} good, {failed} failed",
            configuration.generation
        ),
    )?;
    if let Some(last) = &configuration.last_reload {
        let at = date(last.at);
        if last.problems.is_empty() {
            row("Last reload", format_args!("{at}: good"))?;
        } else {
            let problems = last.problems.join("\n");
            let problems = Html(&problems).to_string().replace('\u{fffd}', "<br>");
            let text = format!("{at}: <span class=\"bad\">failed</span><br>{problems}");
            row("Last reload", format_args!("{text}"))?;
        }
    }
    row(
        "Workers",
        format_args!(
            "{} busy ({} with a handshake), {} idle, {} at the most",
            workers.busy, workers.handshakes, workers.idle, workers.most
        ),
    )?;
    row(
        "Queue",
        format_args!("{} connections wait, {} may", queue.waiting, queue.room),
    )?;
    row(
        "Reactor",
        format_args!("{} tunnels, {} at the most", reactor.tunnels, reactor.most),
    )?;
    let most = places.most.map(|most| format!(", {most} at the most"));
    row(
        "Places",
        format_args!(
            "{} taken by tunnels and handshakes{}",
            places.taken,
            most.unwrap_or_default()
        ),
    )?;
    out.push_str("</table>\n");
    Ok(())
}

fn write_totals(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let totals = &snapshot.totals;
    out.push_str("<h2>Since the start</h2>\n<table>\n");
    let mut row =
        |name: &str, value: &dyn Display| writeln!(out, "<tr><th>{name}</th><td>{value}</td></tr>");
    row("Connections", &totals.connections)?;
    row("Answers", &counts(&totals.answers))?;
    row("Handshakes", &counts(&totals.handshakes))?;
    let sums = &totals.tunnels;
    let (up, down) = (Bytes(sums.to_backend), Bytes(sums.from_backend));
    let [to, from] = sums.messages;
    let tunnels = format!(
        "{}; {up} and {to} messages up, {down} and {from} messages down",
        sums.tunnels
    );
    row("Tunnels", &tunnels)?;
    row("Ended by", &counts(&totals.ended))?;
    row("Refused by limit", &counts(&totals.refused))?;
    row("Addresses forgotten", &totals.forgotten)?;
    row("Panics", &totals.panics)?;
    row("Log lines lost", &totals.lost_lines)?;
    out.push_str("</table>\n");
    Ok(())
}

fn write_members(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    for view in &snapshot.balancers {
        let balancer = &view.balancer;
        write!(
            out,
            "<h2>{} of {}, {}</h2>\n<table>\n<tr><th>Member</th><th>Route</th><th>Set</th><th>Factor</th><th>Status</th>\
             <th>Busy</th><th>Elected</th><th>To</th><th>From</th><th>Last error</th></tr>\n",
            Html(balancer.name()),
            Html(&view.host),
            balancer.settings.method.name()
        )?;
        for (member, known) in balancer.members().iter().zip(&view.members) {
            let (terms, figures) = (&member.terms, &known.figures);
            let class = match figures.status.is_usable() {
                true => "",
                false => " class=\"bad\"",
            };
            let error = known.error_age.map(|age| format!("{} ago", Span(age)));
            writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td{class}>{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
                Html(member.name()),
                Html(terms.route.as_deref().unwrap_or_default()),
                terms.lbset,
                terms.load_factor,
                figures.status,
                figures.busy,
                figures.elected,
                Bytes(figures.sent),
                Bytes(figures.received),
                error.unwrap_or_default()
            )?;
        }
        out.push_str("</table>\n");
    }
    Ok(())
}

fn write_certificates(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if snapshot.certificates.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Certificates</h2>\n<table>\n<tr><th>Line</th><th>Subject</th><th>Days left</th></tr>\n",
    );
    for certificate in &snapshot.certificates {
        let days = certificate.days_left(snapshot.process.now);
        let class = if days < 0 { " bad" } else { "" };
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n{class}\">{days}</td></tr>",
            Html(&certificate.line),
            Html(&certificate.subject)
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_shares(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    out.push_str(
        "<table>\n<tr><th>Host</th><th>Mapping</th><th>In workers</th><th>In the reactor</th></tr>\n",
    );
    for ((host, mapping), share) in snapshot.shares() {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Html(host),
            Html(mapping),
            share.in_workers,
            share.in_reactor
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_tunnels(out: &mut String, tunnels: &[View], rests: &dyn Fn()) -> fmt::Result {
    out.push_str(
        "<table>\n<tr><th>Number</th><th>Client</th><th>Host</th><th>Mapping</th><th>Backend</th><th>Age</th><th>Idle</th>\
         <th>Up</th><th>Down</th><th>Messages up</th><th>Messages down</th><th>Mode</th></tr>\n",
    );
    for stretch in tunnels.chunks(STRETCH) {
        for view in stretch {
            write_tunnel(out, view)?;
        }
        rests();
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_tunnel(out: &mut String, view: &View) -> fmt::Result {
    let figures = &view.figures;
    write!(
        out,
        "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>",
        view.id,
        view.client,
        Html(&view.host),
        Html(view.mapping.as_deref().unwrap_or_default())
    )?;
    if let Some(backend) = &view.backend {
        write!(out, "{}", Html(&backend.url))?;
    }
    if let Some(balancer) = &view.balancer {
        write!(out, " of {}", Html(balancer))?;
    }
    out.push_str("</td>");
    let mut number = |number: &dyn Display| write!(out, "<td class=\"n\">{number}</td>");
    number(&Span(figures.age))?;
    number(&Span(figures.idle))?;
    number(&Bytes(figures.to_backend))?;
    number(&Bytes(figures.from_backend))?;
    for messages in &figures.messages {
        match messages {
            Some(count) => number(count)?,
            None => number(&"-")?,
        }
    }
    let ending = if figures.is_ending { ", ending" } else { "" };
    writeln!(out, "<td>{}{ending}</td></tr>", super::mode(view))
}

fn date(time: SystemTime) -> String {
    imf_fixdate(u64::try_from(seconds(time)).unwrap_or_default())
}
