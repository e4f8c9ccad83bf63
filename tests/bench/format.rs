//! One line of the access log, as it is made for every connection.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark with an input that is refused has nothing to measure"
)]

use divan::{AllocProfiler, Bencher, black_box};
use proxy_wstunnel::access_log::format::LogFormat;
use proxy_wstunnel::http::head::{Limits, RequestHead, request_line};
use proxy_wstunnel::transaction::{CloseReason, Side, Transaction};
use std::time::{Duration, UNIX_EPOCH};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// httpd's formats, and the README's.
#[divan::bench(args = [
    "%h %l %u %t \"%r\" %>s %b",
    "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"",
    "%h %t \"%r\" %>s %I %O %{close-reason}n",
])]
fn line(bencher: Bencher<'_, '_>, format: &str) {
    let format = LogFormat::parse(format).unwrap();
    let (transaction, took) = (transaction(), Duration::from_millis(61_234));
    bencher.bench(|| {
        let mut line = Vec::with_capacity(160);
        format.render(black_box(&transaction), took, &mut line);
        line
    });
}

/// A tunnel that has ended.
fn transaction() -> Transaction {
    let request = b"GET /chat/room?name=x HTTP/1.1\r\nHost: front.example\r\n\
        Referer: https://front.example/\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\r\n";
    let mut transaction = Transaction::new(
        17,
        "192.0.2.7:50123".parse().unwrap(),
        "192.0.2.1:8080".parse().unwrap(),
        UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    );
    let (_, head) = RequestHead::parse(request, &Limits::default())
        .unwrap()
        .unwrap();
    transaction.request_line = request_line(request).to_vec();
    transaction.note().request = Some(head);
    transaction.status = 101;
    transaction.bytes_in = 123_456;
    transaction.bytes_out = 234_567;
    transaction.body_out = 234_345;
    transaction.close = Some(Box::new(CloseReason::Closed(Side::Client)));
    transaction
}
