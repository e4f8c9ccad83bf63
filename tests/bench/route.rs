//! From a request's target to the backend's, with the mapping that matches behind all others.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark with an input that is refused has nothing to measure"
)]

use divan::{AllocProfiler, Bencher, black_box};
use proxy_wstunnel::handshake::Upgrade;
use proxy_wstunnel::http::head::{Limits, RequestHead};
use proxy_wstunnel::route::Router;
use proxy_wstunnel::route::mapping::Mapping;
use proxy_wstunnel::route::url::BackendUrl;
use std::sync::Arc;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 10, 100])]
fn plain(bencher: Bencher<'_, '_>, mappings: usize) {
    last_of(bencher, mappings, "room/7?name=x");
}

/// A path that is not yet in its canonical form.
#[divan::bench(args = [1, 10, 100])]
fn escaped(bencher: Bencher<'_, '_>, mappings: usize) {
    last_of(bencher, mappings, "./a%20room//%37/../8?name=%20");
}

fn last_of(bencher: Bencher<'_, '_>, mappings: usize, below: &str) {
    let router = Router {
        mappings: (0..mappings).map(mapping).map(Arc::new).collect(),
    };
    let last = mappings - 1;
    let text = format!("GET /app-{last}/{below} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (_, head) = RequestHead::parse(text.as_bytes(), &Limits::default())
        .unwrap()
        .unwrap();
    assert_eq!(
        router.route(&head).unwrap().mapping.prefix,
        format!("/app-{last}/")
    );
    bencher.bench(|| router.route(black_box(&head)));
}

fn mapping(number: usize) -> Mapping {
    Mapping {
        prefix: format!("/app-{number}/"),
        url: BackendUrl::parse(&format!("ws://backend-{number}.example:9000/base/")).unwrap(),
        connect_timeout: None,
        timeout: None,
        upgrade: Upgrade::default(),
        origin: "bench:1".to_owned(),
    }
}
