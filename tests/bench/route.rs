//! From a request's target to the backend's, with the mapping that matches behind all others.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark with an input that is refused has nothing to measure"
)]

use divan::{AllocProfiler, Bencher, black_box};
use proxy_wstunnel::config::{self, Config, Files, Sources};
use proxy_wstunnel::http::head::{Limits, RequestHead};
use proxy_wstunnel::route::{Arrival, Decision, Found};
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Prefixes, of which the last one matches.
#[divan::bench(args = [1, 10, 100, 1000])]
fn prefixes(bencher: Bencher<'_, '_>, mappings: usize) {
    let config = load(mappings, |text, number| {
        writeln!(
            text,
            "ProxyPass /app-{number}/ ws://backend-{number}.example:9000/base/"
        )
        .unwrap();
    });
    last_of(bencher, &config, mappings, "room/7?name=x");
}

/// A path that is not yet in its canonical form.
#[divan::bench(args = [1, 1000])]
fn escaped(bencher: Bencher<'_, '_>, mappings: usize) {
    let config = load(mappings, |text, number| {
        writeln!(
            text,
            "ProxyPass /app-{number}/ ws://backend-{number}.example:9000/base/"
        )
        .unwrap();
    });
    last_of(bencher, &config, mappings, "./a%20room//%37/../8?name=%20");
}

/// Patterns that begin with a literal.
#[divan::bench(args = [1, 10, 100, 1000])]
fn patterns(bencher: Bencher<'_, '_>, mappings: usize) {
    let config = load(mappings, |text, number| {
        writeln!(
            text,
            "ProxyPassMatch ^/app-{number}/(.*)$ ws://backend-{number}.example:9000/base/$1"
        )
        .unwrap();
    });
    last_of(bencher, &config, mappings, "room/7?name=x");
}

/// The last of so many virtual hosts, which all have the 1,000 mappings of the main server before their own.
#[divan::bench(args = [1, 10, 100])]
fn hosts(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut text = lines(1000, |text, number| {
        writeln!(
            text,
            "ProxyPass /main-{number}/ ws://backend-{number}.example:9000/base/"
        )
        .unwrap();
    });
    for number in 0..hosts {
        writeln!(
            text,
            "<VirtualHost *:80>\nServerName host-{number}.example\nProxyPass /app-{}/ ws://own\n</VirtualHost>",
            hosts - 1
        )
        .unwrap();
    }
    last_of(bencher, &load_text(&text), hosts, "room/7?name=x");
}

fn last_of(bencher: Bencher<'_, '_>, config: &Config, count: usize, below: &str) {
    let last = count - 1;
    let text = format!("GET /app-{last}/{below} HTTP/1.1\r\nHost: host-{last}.example\r\n\r\n");
    let (_, head) = RequestHead::parse(text.as_bytes(), &Limits::default())
        .unwrap()
        .unwrap();
    let found = decide(config, &mut head.clone()).outcome.unwrap();
    let Found::Route(route) = found else {
        unreachable!("nothing here is a handler");
    };
    assert!(
        route.name.contains(&format!("/app-{last}/")),
        "{}",
        route.name
    );
    bencher
        .with_inputs(|| head.clone())
        .bench_local_refs(|head| decide(black_box(config), black_box(head)));
}

fn decide<'a>(config: &'a Config, head: &mut RequestHead) -> Decision<'a> {
    let local = SocketAddr::from(([127, 0, 0, 1], 80));
    let host = config.host_for(local, head.headers.first("Host"));
    let arrival = Arrival {
        client: local,
        peer: local,
        local,
        tls: None,
        received: UNIX_EPOCH,
        took: Duration::ZERO,
    };
    host.router.route(head, &arrival, &mut |_| ())
}

fn load(count: usize, line: impl Fn(&mut String, usize)) -> Config {
    load_text(&lines(count, line))
}

fn lines(count: usize, line: impl Fn(&mut String, usize)) -> String {
    let mut text = "Listen 80\n".to_owned();
    for number in 0..count {
        line(&mut text, number);
    }
    text
}

fn load_text(text: &str) -> Config {
    let sources = Sources {
        after: text.lines().map(str::to_owned).collect(),
        ..Sources::default()
    };
    config::load(&sources, &NoFiles).unwrap()
}

/// The configuration stands on its own.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_regular(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn find(&self, _: &Path, _: &str) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn exists(&self, _: &Path) -> bool {
        false
    }

    fn mode(&self, _: &Path) -> io::Result<u32> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn host_name(&self) -> Option<String> {
        None
    }
}
