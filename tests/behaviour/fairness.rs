//! One tunnel that streams at full speed leaves the others of its reactor their turns.

use crate::support::client::{frame, switch};
use crate::support::strace::Strace;
use crate::support::{BOUND, Backend, Client, Proxy, wait_until};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const KIBIBYTE: usize = 1 << 10;
const MEBIBYTE: usize = 1 << 20;

/// A backend that sends frames of 64 KiB for as long as they are taken.
fn source() -> Backend {
    Backend::serve(|mut wire| {
        wire.head();
        wire.send(switch());
        let frames = frame(&[b's'; 64 * KIBIBYTE], None).repeat(16);
        while wire.send_if_taken(&frames) {}
    })
}

/// Counts what arrives, until the proxy is gone.
fn count(mut stream: Client) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        let mut buffer = vec![0; MEBIBYTE];
        while let Ok(more @ 1..) = stream.read(&mut buffer) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    });
    count
}

/// A message there and back meets a turn of the stream in each direction: 256 KiB, and up to a buffer of 128 KiB on top.
///
/// The clock is the stream itself. strace is not asked for anything here: it makes the reactor the slowest of all, so that
/// there is always more to be read, and room for it.
#[test]
fn an_echo_beside_a_stream_waits_for_two_turns_of_it() {
    let (echo, source) = (Backend::echo(), source());
    let proxy = Proxy::start(format!(
        "ProxyWebsocketAsync On\nProxyPass /echo/ {}/\nProxyPass /stream/ {}/",
        echo.url(),
        source.url()
    ));
    let open = |_| Client::tunnel(&proxy, "/echo/");
    let mut clients: Vec<_> = (0..32).map(open).collect();
    let Some(_slow) = Strace::attach(&proxy, &[]) else {
        return;
    };
    let received = count(Client::tunnel(&proxy, "/stream/"));
    let received = || received.load(Ordering::Relaxed);
    wait_until("the stream to flow", BOUND, || received() > 32 * MEBIBYTE);
    let mut meanwhile = Vec::new();
    for _ in 0..10 {
        for client in &mut clients {
            let before = received();
            client.echo("beside the stream");
            meanwhile.push(received() - before);
        }
    }
    meanwhile.sort_unstable();
    let all: usize = meanwhile.iter().sum();
    let [median, most] = [meanwhile.len() / 2, meanwhile.len() - 1].map(|at| meanwhile[at]);
    println!(
        "an echo waits for {} KiB of the stream, at most for {} KiB",
        median / KIBIBYTE,
        most / KIBIBYTE
    );
    assert!(all > 16 * MEBIBYTE, "the stream stands still");
    assert!(median <= 3 * MEBIBYTE, "{median} bytes");
}
