//! The table of requests in `tests/data/routes`: through the built binary to real backends, and through Apache's httpd
//! with the same configuration to the same backends.

mod outcome;
mod stage;
pub mod table;

use crate::support::{Httpd, Proxy, missing};
use outcome::Outcome;
use stage::{Fronts, Origins};
use std::fmt::Write as _;
use table::{Case, Table};

#[test]
fn every_request_of_the_tables_goes_where_it_says() {
    let count = hold(&Table::all());
    assert!(count >= 150, "only {count} requests were found");
}

#[test]
fn httpd_does_the_same_but_where_the_tables_say_so() {
    compare(&Table::all());
}

/// Sends all requests through the binary, and fails with those that do not come to what their tables say. Says how many
/// have been sent.
#[track_caller]
pub fn hold(tables: &[Table]) -> usize {
    let mut failures = String::new();
    let mut count = 0;
    for table in tables {
        let origins = Origins::new();
        let (_proxy, fronts) = ours(table, &origins);
        for case in &table.cases {
            count += 1;
            let outcome = fronts.outcome(case, &origins);
            let held = outcome.and_then(|outcome| outcome.compare(case));
            report(&mut failures, table, case, held);
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    count
}

/// Sends all requests through the binary and through httpd. A difference that no line names is a failure, and a line that
/// names one that is not there as well.
#[track_caller]
pub fn compare(tables: &[Table]) {
    if Httpd::program().is_none() {
        return missing("apache2 is not installed");
    }
    let mut failures = String::new();
    for table in tables {
        let origins = Origins::new();
        let (_proxy, ours) = ours(table, &origins);
        let theirs = Fronts::new();
        let config = for_httpd(&theirs.config(table, &origins));
        let modules: Vec<&str> = table.modules.iter().map(String::as_str).collect();
        let httpd = Httpd::start(&config, theirs.address("FRONT"), &modules);
        for case in &table.cases {
            let theirs = theirs.outcome(case, &origins);
            let theirs = theirs.map_err(|problem| format!("httpd: {problem}"));
            let problem = theirs.and_then(|theirs| {
                let ours = ours.outcome(case, &origins)?;
                listed(case, &ours, &theirs)
            });
            report(&mut failures, table, case, problem);
        }
        drop(httpd);
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// What httpd understands of a configuration: it has no word on idle tunnels, and none on reactors.
fn for_httpd(config: &str) -> String {
    const OURS: [&str; 3] = ["Async", "IdleTimeout", "HalfCloseTimeout"];
    let is_ours = |line: &&str| {
        let name = line.trim_start().strip_prefix("ProxyWebsocket");
        name.is_some_and(|name| OURS.iter().any(|own| name.starts_with(own)))
    };
    let lines = config.lines().filter(|line| !is_ours(line));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// Holds the differences to those that the case names.
fn listed(case: &Case, ours: &Outcome, theirs: &Outcome) -> Result<(), String> {
    let found = theirs.differences(ours, case);
    let line = |(mark, text): (&str, &String)| format!("\n    {mark} {text}");
    let unlisted = found.difference(&case.differences);
    let vanished = case.differences.difference(&found);
    let lines: String = unlisted
        .map(|text| ("unlisted:", text))
        .chain(vanished.map(|text| ("not there:", text)))
        .map(line)
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

/// The binary with the configuration of a table.
fn ours(table: &Table, origins: &Origins) -> (Proxy, Fronts) {
    let fronts = Fronts::new();
    (Proxy::start(fronts.config(table, origins)), fronts)
}

fn report(failures: &mut String, table: &Table, case: &Case, held: Result<(), String>) {
    if let Err(problem) = held {
        writeln!(
            failures,
            "{}:{}: {}: {}: {problem}",
            table.file.display(),
            case.line,
            case.heading,
            case.request_line
        )
        .unwrap();
    }
}
