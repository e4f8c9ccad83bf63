//! A slow reader slows its own writer, in constant memory, and nobody else.

use crate::support::pages::{
    answer, expect_page, fetch, get, next_request, page, post_head, to, url, visitor,
};
use crate::support::wire::field;
use crate::support::{BOUND, Backend, Client, Mode, Pages, Proxy, Wire, each_mode, wait_until};
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

    /// What the clients do not read is more than there is memory for.
    fn out_of_memory_for_one_tunnel_ends_that_one_and_no_other(mode: Mode) {
        const SLOW: usize = 48;
        let backend = Backend::listen();
        let echo = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /push/ {}/\nProxyPass /echo/ {}/\n\
             CustomLog access.log \"%{{ended-by}}n: %{{close-reason}}n\"",
            mode.directives(),
            backend.url(),
            echo.url()
        ));
        let mut other = Client::tunnel(&proxy, "/echo/");
        let mut slow: Vec<_> = (0..SLOW).map(|_| tunnel(&proxy, &backend)).collect();
        other.echo("warm");
        proxy.settle();
        proxy.limit_growth(MEBIBYTE / 4);
        for (_, peer) in &mut slow {
            let is_stuck = Duration::from_millis(100);
            peer.tcp().set_write_timeout(Some(is_stuck)).unwrap();
            // Until it is, or has been cut.
            while peer.send_if_taken([0x42; 65_536]) {}
            if !proxy.log_lines("PW515").is_empty() {
                break;
            }
        }
        let line = proxy.wait_for_log("PW515");
        let cause = "out of memory for what comes from the backend";
        assert!(line.contains(cause), "{line}");
        assert!(line.contains("] 127.0.0.1:"), "it names the tunnel: {line}");
        let ends = proxy.wait_for_lines("access.log", 1);
        assert_eq!(ends[0], format!("fault: fault: {cause}"));
        for _ in 0..100 {
            other.echo("undisturbed");
        }
        let ends = proxy.wait_for_lines("access.log", 1);
        assert!(ends.len() < SLOW / 2, "and others not: {ends:?}");
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

/// A client whose kernel takes little of an answer.
#[track_caller]
fn narrow_client(proxy: &Proxy) -> Client {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    // Before it connects: the window is agreed on then.
    sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("SO_RCVBUF");
    connect(&socket, &proxy.address()).expect("to connect to the proxy");
    Client::over(socket.into())
}

const SMALL: usize = 60 * 1024;

/// Asks for one small answer after the other and reads none, until the proxy takes no more of them from the backend. The
/// last one is in its hands.
#[track_caller]
fn ask_until_held(proxy: &Proxy, backend: &Backend) -> (Client, Wire, usize) {
    let mut client = narrow_client(proxy);
    client.send(get("/small").repeat(400));
    let mut peer = backend.accept();
    peer.tcp()
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut answered = 0;
    while peer.try_head().is_ok() {
        peer.send(page(&"s".repeat(SMALL)));
        answered += 1;
        assert!(answered < 400, "the proxy took everything");
    }
    peer.tcp().set_read_timeout(Some(BOUND)).unwrap();
    (client, peer, answered)
}

#[test]
fn a_slow_client_of_a_small_answer_does_not_hold_its_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "Timeout 600\nMaxKeepAliveRequests 0\nProxyPass / {}/ max=1",
        url(&backend)
    ));
    let (mut slow, mut peer, answered) = ask_until_held(&proxy, &backend);
    // The connection, and the only turn there is, are for others.
    for _ in 0..3 {
        let mut other = Client::sending(&proxy, get("/other"));
        assert!(peer.head().starts_with("GET /other "));
        peer.send(page("other"));
        expect_page(&mut other, "other");
    }
    assert_eq!(backend.count(), 1);
    // And nothing of it is lost.
    for _ in 0..answered {
        assert_eq!(answer(&mut slow).body.len(), SMALL);
    }
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_and_a_slow_one_is_not() {
    for is_large in [false, true] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "Timeout 2\nMaxKeepAliveRequests 0\nCustomLog access.log \"%X\"\nProxyPass / {}/ timeout=600",
            url(&backend)
        ));
        let begun = Instant::now();
        let (mut client, mut peer) = if is_large {
            let mut client = narrow_client(&proxy);
            client.send(get("/large"));
            let mut peer = backend.accept();
            peer.head();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {GIBIBYTE}\r\n\r\n"
            ));
            (client, peer)
        } else {
            let (client, peer, _) = ask_until_held(&proxy, &backend);
            (client, peer)
        };
        let pushing =
            is_large.then(|| std::thread::spawn(move || while peer.send_if_taken([0; 65_536]) {}));
        if is_large {
            // It takes something now and then. The kernel says so only when a third of what it holds has gone.
            let mut buffer = vec![0; 2 * MEBIBYTE];
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(900));
                client.read_exact(&mut buffer).unwrap();
            }
        }
        wait_until("the client to be cut", BOUND, || {
            let lines = proxy.wait_for_lines("access.log", 0);
            lines.last().is_some_and(|line| line == "X")
        });
        let least = if is_large { 5500 } else { 2000 };
        assert!(begun.elapsed() > Duration::from_millis(least));
        if let Some(pushing) = pushing {
            pushing.join().unwrap();
        }
    }
}

#[test]
fn a_slow_client_of_a_large_answer_slows_its_backend_in_bounded_memory() {
    let backend = Backend::listen();
    let pages = Pages::start();
    let proxy = Proxy::start(format!(
        "ProxyPass /large {}/\nProxyPass / {}/",
        url(&backend),
        pages.url()
    ));
    let mut other = visitor(&proxy, "/");
    for framing in [
        format!("Content-Length: {GIBIBYTE}"),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let mut client = Client::sending(&proxy, get("/large"));
        let mut peer = backend.accept();
        peer.head();
        peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        let before = proxy.figures().resident;
        let sent = if framing.contains("chunked") {
            peer.send("40000000\r\n");
            peer.send_until_stuck(GIBIBYTE, Duration::from_millis(300))
        } else {
            peer.send_until_stuck(GIBIBYTE, Duration::from_millis(300))
        };
        assert!(sent < GIBIBYTE, "the proxy took everything");
        let processor = proxy.processor_time();
        for _ in 0..20 {
            fetch(&mut other, "/");
            std::thread::sleep(Duration::from_millis(25));
        }
        let spent = proxy.processor_time() - processor;
        assert!(spent < Duration::from_millis(200), "it spins: {spent:?}");
        let grown = proxy.figures().resident.saturating_sub(before);
        assert!(grown < MEBIBYTE, "the proxy has grown by {grown} bytes");
        client.answer_head();
        // A client that goes then lets its backend go.
        drop(client);
        wait_until("the backend to be let go", BOUND, || {
            !peer.send_if_taken([0; 65_536])
        });
    }
}

/// A form of a few kilobytes that comes byte by byte occupies no backend, and no turn at one.
#[test]
fn a_slow_uploader_of_a_small_body_does_not_occupy_the_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / {}/ max=1", url(&backend)));
    let body = vec![b'u'; 16 * 1024];
    let chunked = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n")
    };
    let cases = [
        (post_head("/", body.len()), ""),
        (chunked(body.len() - 1), "\r\n0\r\n\r\n"),
    ];
    let mut slow: Vec<_> = cases
        .iter()
        .map(|(head, _)| {
            let mut client = Client::sending(&proxy, head);
            client.send(&body[..body.len() - 10]);
            client
        })
        .collect();
    let mut others = Client::sending(&proxy, get("/other"));
    let mut peer = backend.accept();
    assert!(peer.head().starts_with("GET /other "));
    peer.send(page("other"));
    expect_page(&mut others, "other");
    assert_eq!(backend.count(), 1, "a body that is not complete");
    for (client, (head, end)) in slow.iter_mut().zip(&cases) {
        let length = body.len() - usize::from(!end.is_empty());
        client.send(&body[body.len() - 10..length]);
        client.send(end);
        let (sent, received) = next_request(&mut peer).unwrap();
        assert_eq!(
            field(&sent, "Content-Length"),
            Some(length.to_string()),
            "{head}"
        );
        assert_eq!(received.len(), length);
        peer.send(page("done"));
        expect_page(client, "done");
    }
    assert_eq!(backend.count(), 1);
}

/// One that is larger is not held for that, and its backend not longer than it takes.
#[test]
fn a_backend_that_takes_nothing_of_an_upload_holds_its_client() {
    let backend = Backend::listen();
    let proxy = to(&backend, "RequestReadTimeout body=0");
    let mut client = Client::sending(&proxy, post_head("/", GIBIBYTE));
    client.send(vec![0; 20_000]);
    let mut peer = backend.accept();
    peer.head();
    let before = proxy.figures().resident;
    let sent = 20_000 + client.send_until_stuck(GIBIBYTE - 20_000, Duration::from_millis(300));
    assert!(sent < GIBIBYTE, "the proxy took everything");
    let processor = proxy.processor_time();
    std::thread::sleep(Duration::from_millis(500));
    let spent = proxy.processor_time() - processor;
    assert!(spent < Duration::from_millis(100), "it spins: {spent:?}");
    let grown = proxy.figures().resident.saturating_sub(before);
    assert!(grown < MEBIBYTE, "the proxy has grown by {grown} bytes");
    drop(client);
    // What had come is passed on, and then the end.
    let (received, _) = peer.rest();
    assert!(received.len() <= sent);
}
