//! What a handshake costs beside its sockets: the heads of both sides, read and written anew.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark with an input that is refused has nothing to measure"
)]

use divan::{AllocProfiler, Bencher, black_box};
use proxy_wstunnel::forward::{AnswerPolicy, Policy, switched_head, upgrade_head};
use proxy_wstunnel::handshake::{Upgrade, accept_for, requested, verdict};
use proxy_wstunnel::http::head::{Limits, RequestHead, ResponseHead};
use proxy_wstunnel::route::edit::{Circumstances, HeaderEdit, Target};
use proxy_wstunnel::route::environment::Environment;
use proxy_wstunnel::route::facts::Facts;
use proxy_wstunnel::route::own_name::OwnName;
use proxy_wstunnel::route::settings::Via;
use proxy_wstunnel::route::url::BackendUrl;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// As a browser asks.
const REQUEST: &str = "GET /chat/room?name=x HTTP/1.1\r\n\
    Host: front.example:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://front.example\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    \r\n";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn main() {
    divan::main();
}

fn parsed_request() -> RequestHead {
    let whole = RequestHead::parse(REQUEST.as_bytes(), &Limits::default()).unwrap();
    whole.unwrap().1
}

/// As a backend agrees.
fn answer() -> String {
    let accept = accept_for(KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Accept: {accept}\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\
        Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
        Server: backend/1.0\r\n\
        \r\n"
    )
}

fn parsed_answer() -> ResponseHead {
    let whole = ResponseHead::parse(answer().as_bytes(), &Limits::default()).unwrap();
    whole.unwrap().1
}

#[divan::bench]
fn parse_request(bencher: Bencher<'_, '_>) {
    let limits = Limits::default();
    bencher.bench(|| RequestHead::parse(black_box(REQUEST.as_bytes()), &limits));
}

#[divan::bench]
fn parse_answer(bencher: Bencher<'_, '_>) {
    let (answer, limits) = (answer(), Limits::default());
    bencher.bench(|| ResponseHead::parse(black_box(answer.as_bytes()), &limits));
}

/// What has to be asked, and the key's digest.
#[divan::bench]
fn judge_request(bencher: Bencher<'_, '_>) {
    let (request, upgrade) = (parsed_request(), Upgrade::default());
    bencher.bench(|| requested(black_box(&request), &upgrade));
}

/// What has to be answered.
#[divan::bench]
fn judge_answer(bencher: Bencher<'_, '_>) {
    let asked = requested(&parsed_request(), &Upgrade::default()).unwrap();
    let answer = parsed_answer();
    bencher.bench(|| verdict(black_box(&answer), &asked));
}

#[divan::bench]
fn forward_request(bencher: Bencher<'_, '_>) {
    let request = parsed_request();
    let asked = requested(&request, &Upgrade::default()).unwrap();
    let backend = BackendUrl::parse("ws://backend.internal.example:9000/").unwrap();
    let policy = Policy {
        preserve_host: false,
        add_headers: true,
        server_name: "front.example",
        port: None,
        via: Via::Off,
        client: "192.0.2.7".parse().unwrap(),
        backend: &backend,
    };
    bencher.bench(|| upgrade_head(black_box(&request), "/room?name=x", &asked, &policy));
}

#[divan::bench]
fn forward_answer(bencher: Bencher<'_, '_>) {
    forward_edited(bencher, &[]);
}

/// With two lines of `Header`, as many sites have them.
#[divan::bench]
fn forward_answer_with_edits(bencher: Bencher<'_, '_>) {
    let lines = [
        &["always", "set", "Strict-Transport-Security", "max-age=1"][..],
        &["unset", "Server"],
    ];
    let edits = lines.map(|words| Arc::new(HeaderEdit::parse(Target::Answer, words).unwrap()));
    forward_edited(bencher, &edits);
}

fn forward_edited(bencher: Bencher<'_, '_>, edits: &[Arc<HeaderEdit>]) {
    let answer = parsed_answer();
    let address = "192.0.2.7:80".parse().unwrap();
    let policy = AnswerPolicy {
        server_name: "front.example",
        port: None,
        via: Via::Off,
        reverse: &[],
        edits,
        about: Circumstances {
            facts: Facts {
                client: address,
                peer: address,
                local: address,
                tls: None,
                server_name: "front.example",
                own_name: OwnName {
                    name: "front.example",
                    port: None,
                },
                unix_seconds: 0,
            },
            environment: &Environment::default(),
            received: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
        },
    };
    bencher.bench(|| switched_head(black_box(&answer), &policy));
}
