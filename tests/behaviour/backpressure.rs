//! A slow reader slows its own writer, in constant memory, and nobody else.

use crate::support::{BOUND, Backend, Client, Mode, Proxy, Wire, each_mode, wait_until};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MEBIBYTE: usize = 1 << 20;
const GIBIBYTE: usize = 1 << 30;

#[track_caller]
fn start(mode: Mode, pushing: &Backend, echo: &Backend) -> Proxy {
    Proxy::start(format!(
        "{}\nProxyPass /push/ {}/\nProxyPass /echo/ {}/",
        mode.directives(),
        pushing.url(),
        echo.url()
    ))
}

#[track_caller]
fn tunnel(proxy: &Proxy, backend: &Backend) -> (Client, Wire) {
    let mut client = Client::asking(proxy, "/push/");
    let peer = backend.accept_tunnel();
    client.switched();
    (client, peer)
}

/// Waits until `sent` has stood still for a while: the writer is held.
#[track_caller]
fn wait_until_held(sent: &AtomicUsize) -> usize {
    let mut last = (sent.load(Ordering::SeqCst), Instant::now());
    wait_until("the writer to be held", BOUND, || {
        let now = sent.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
    last.0
}

each_mode! {
    /// The backend pushes a gibibyte; the client stops reading at the start, and then again and again.
    fn a_client_that_stops_reading_costs_no_memory_and_disturbs_nobody(mode: Mode) {
        let backend = Backend::listen();
        let echo = Backend::echo();
        let proxy = start(mode, &backend, &echo);
        let mut other = Client::tunnel(&proxy, "/echo/");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        for _ in 0..20 {
            other.echo("warm");
            peer.send("x");
            client.expect("x");
        }
        let before = proxy.figures().resident;
        let sent = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = vec![0x42; MEBIBYTE];
                while sent.load(Ordering::SeqCst) < GIBIBYTE {
                    peer.send(&chunk);
                    sent.fetch_add(chunk.len(), Ordering::SeqCst);
                }
                peer.finish();
            });
            let mut read = 0;
            let mut buffer = vec![0; MEBIBYTE];
            for stop in 0..4 {
                let held_at = wait_until_held(&sent);
                assert!(held_at < GIBIBYTE, "the proxy took everything");
                for _ in 0..100 {
                    other.echo("undisturbed");
                }
                let grown = proxy.figures().resident.saturating_sub(before);
                assert!(grown < MEBIBYTE, "the proxy has grown by {grown} bytes");
                while read < (stop + 1) * GIBIBYTE / 5 {
                    read += client.read(&mut buffer).unwrap();
                }
            }
            loop {
                match client.read(&mut buffer).unwrap() {
                    0 => break,
                    count => read += count,
                }
            }
            assert_eq!(read, GIBIBYTE);
        });
        let grown = proxy.figures().resident.saturating_sub(before);
        assert!(grown < MEBIBYTE, "the proxy has grown by {grown} bytes");
    }

    fn a_backend_that_stops_reading_holds_its_client(mode: Mode) {
        let backend = Backend::listen();
        let echo = Backend::echo();
        let proxy = start(mode, &backend, &echo);
        let mut other = Client::tunnel(&proxy, "/echo/");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        other.echo("warm");
        client.send("x");
        peer.expect("x");
        let before = proxy.figures().resident;
        let sent = client.send_until_stuck(512 * MEBIBYTE, Duration::from_millis(300));
        assert!(sent < 512 * MEBIBYTE, "the proxy took everything");
        other.echo("undisturbed");
        let grown = proxy.figures().resident.saturating_sub(before);
        assert!(grown < MEBIBYTE, "the proxy has grown by {grown} bytes");
        client.finish();
        assert_eq!(peer.rest_in_order().len(), sent);
    }

    fn one_direction_that_is_held_does_not_hold_the_other(mode: Mode) {
        let backend = Backend::listen();
        let echo = Backend::echo();
        let proxy = start(mode, &backend, &echo);
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        let sent = peer.send_until_stuck(512 * MEBIBYTE, Duration::from_millis(300));
        for round in 0..100_u8 {
            client.send([round]);
            peer.expect([round]);
        }
        client.finish();
        peer.expect_end();
        peer.finish();
        assert_eq!(client.rest_in_order().len(), sent);
    }

    /// A held tunnel takes no turn at the processor.
    fn a_held_tunnel_does_not_spin(mode: Mode) {
        let backend = Backend::listen();
        let echo = Backend::echo();
        let proxy = start(mode, &backend, &echo);
        let (client, mut peer) = tunnel(&proxy, &backend);
        peer.send_until_stuck(512 * MEBIBYTE, Duration::from_millis(300));
        let idle = Client::tunnel(&proxy, "/echo/");
        let before = proxy.processor_time();
        // Not a wait for anything: the span in which nothing may happen.
        std::thread::sleep(Duration::from_secs(1));
        let spent = proxy.processor_time() - before;
        assert!(spent < Duration::from_millis(200), "{spent:?} of a second");
        drop((client, idle));
    }
}
