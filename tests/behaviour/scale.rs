//! Many tunnels, and nothing left behind.

#[cfg(feature = "tls")]
use crate::support::Certs;
use crate::support::cgroup::MemoryLimit;
#[cfg(feature = "tls")]
use crate::support::client::request;
use crate::support::client::switch;
use crate::support::pages::{answer, expect_page, fetch, get, page, post, post_head, to, url};
use crate::support::{
    BOUND, Backend, Client, Pages, Proxy, TempDir, Wire, each_mode, pattern, raise_limit_of_files,
    wait_until,
};
#[cfg(feature = "tls")]
use openssl::ssl::{Ssl, SslContextBuilder, SslMethod};
#[cfg(feature = "tls")]
use std::net::TcpStream;
use std::time::Duration;

/// A small box: the limit holds for the kernel's part of the sockets as well.
#[test]
fn three_thousand_idle_tunnels_fit_into_48_mib_and_each_still_echoes() {
    let Some(limit) = MemoryLimit::of(48 << 20) else {
        println!("skipped: no cgroup with a limit of memory can be made here");
        return;
    };
    raise_limit_of_files();
    let backend = Backend::echo();
    let proxy = Proxy::start_in(
        TempDir::new(),
        format!("ProxyWebsocketAsync On\nProxyPass /ws/ {}/", backend.url()),
        &limit.entering(),
    );
    let mut clients: Vec<_> = (0..3000).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.echo(&format!("number {number}"));
    }
    let peak = limit.peak();
    drop(proxy);
    println!("at most {peak:?} bytes were in use");
    assert!(peak.is_none_or(|peak| peak <= 48 << 20));
}

/// Less than a session with both of OpenSSL's buffers, of 16 KiB each: they are released. How much is left depends on its
/// version. The backend is in this process, so that only the proxy's part counts.
#[cfg(feature = "tls")]
#[test]
fn an_idle_tunnel_to_a_wss_backend_takes_less_than_40_kib() {
    const TUNNELS: usize = 400;
    raise_limit_of_files();
    let certs = Certs::new();
    let backend = Backend::echo_tls(&certs.server("localhost"));
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let config = format!(
        "ProxyWebsocketAsync On\nSSLProxyCACertificateFile ca.pem\nProxyPass /wss/ wss://localhost:{}/",
        backend.port()
    );
    let proxy = Proxy::start_in(directory, config, "");
    let open = |_| Client::tunnel(&proxy, "/wss/");
    // What is loaded and made once has been, with the first.
    let mut clients = vec![open(0)];
    clients[0].echo("warm");
    let before = proxy.figures().private;
    clients.extend((0..TUNNELS).map(open));
    let grown = proxy.figures().private.saturating_sub(before);
    println!(
        "{:.1} KiB for an idle tunnel to a wss:// backend",
        grown as f64 / TUNNELS as f64 / 1024.0
    );
    assert!(grown <= TUNNELS * 40 * 1024, "{grown} bytes");
    for (number, client) in clients.iter_mut().enumerate() {
        client.echo(&format!("number {number}"));
    }
}

/// As above, the other way round: most tunnels of those who are out there are so.
#[cfg(feature = "tls")]
#[test]
fn an_idle_tunnel_of_a_tls_client_takes_less_than_40_kib() {
    const TUNNELS: usize = 400;
    raise_limit_of_files();
    let certs = Certs::new();
    let identity = certs.server("front.example");
    let backend = Backend::echo();
    let directory = TempDir::new();
    directory.write("site.pem", [identity.pem(), identity.key_pem()].concat());
    let config = format!(
        "Listen 127.0.0.1:0 https\nSSLCertificateFile site.pem\nProxyWebsocketAsync On\nProxyPass /ws/ {}/",
        backend.url()
    );
    let proxy = Proxy::start_in(directory, config, "");
    let context = SslContextBuilder::new(SslMethod::tls_client());
    let context = context.unwrap().build();
    let open = |_| {
        let tcp = TcpStream::connect(proxy.address()).unwrap();
        let tls = Ssl::new(&context).unwrap().connect(tcp);
        let mut client = Client::over_tls(tls.expect("a TLS handshake"));
        client.send(request("/ws/"));
        client.switched();
        client
    };
    let mut clients = vec![open(0)];
    clients[0].echo("warm");
    let before = proxy.figures().private;
    clients.extend((0..TUNNELS).map(open));
    let grown = proxy.figures().private.saturating_sub(before);
    println!(
        "{:.1} KiB for an idle tunnel of a client that speaks TLS",
        grown as f64 / TUNNELS as f64 / 1024.0
    );
    assert!(grown <= TUNNELS * 40 * 1024, "{grown} bytes");
    for (number, client) in clients.iter_mut().enumerate() {
        client.echo(&format!("number {number}"));
    }
}

/// As many tunnels as there are workers by default, and as many again that wait for them.
#[test]
fn four_hundred_tunnels_echo_and_four_hundred_more_have_their_turn() {
    raise_limit_of_files();
    let backend = Backend::echo();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    let mut first: Vec<_> = (0..400).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
    for (number, client) in first.iter_mut().enumerate() {
        client.echo(&format!("number {number}"));
    }
    let mut second: Vec<_> = (0..400).map(|_| Client::asking(&proxy, "/ws/")).collect();
    proxy.wait_for_log("MaxRequestWorkers");
    assert_eq!(backend.count(), 400, "MaxRequestWorkers is 400 by default");
    for (number, client) in first.iter_mut().enumerate() {
        client.echo(&format!("again number {number}"));
    }
    // One by one: each that ends lets one in.
    for (number, client) in second.iter_mut().enumerate() {
        drop(first.pop());
        client.switched();
        client.echo(&format!("later number {number}"));
    }
    assert_eq!(proxy.log_lines("MaxRequestWorkers").len(), 1, "one episode");
    for (number, client) in second.iter_mut().enumerate() {
        client.echo(&format!("last number {number}"));
    }
}

#[test]
fn tunnels_in_the_reactor_hold_no_worker() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "MaxRequestWorkers 4\nProxyWebsocketAsync On\nProxyPass /ws/ {}/",
        backend.url()
    ));
    let mut crowd: Vec<_> = (0..400).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.echo(&format!("number {number}"));
    }
    // The main thread, the log, the acceptor, the reactor and up to four workers.
    let threads = proxy.figures().threads;
    assert!(threads <= 8, "{threads} threads");
}

/// A backend that takes its time needs a worker for each who waits for it; afterwards they are of no use. Those who are
/// enough stay for 5 seconds.
#[test]
fn a_crowd_that_waited_for_a_slow_backend_leaves_few_workers_behind() {
    const CROWD: usize = 60;
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketAsync On\nProxyPass /ws/ {}/",
        backend.url()
    ));
    let mut clients: Vec<_> = (0..CROWD).map(|_| Client::asking(&proxy, "/ws/")).collect();
    let mut peers: Vec<_> = (0..CROWD).map(|_| backend.accept()).collect();
    assert!(proxy.figures().threads > CROWD, "each has a worker");
    for peer in &mut peers {
        peer.head();
        peer.send(switch());
    }
    for client in &mut clients {
        client.switched();
    }
    wait_until(
        "those who are more than enough to go home",
        Duration::from_secs(4),
        || proxy.figures().threads <= 24,
    );
}

#[test]
fn a_tunnel_that_no_reactor_takes_stays_in_its_worker() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketAsync On\nProxyWebsocketAsyncMaxTunnels 2\nProxyPass /ws/ {}/",
        backend.url()
    ));
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let mut client = Client::tunnel(&proxy, "/ws/");
        client.echo("x");
        crowd.push(client);
    }
    let line = proxy.wait_for_log("stays in its worker");
    assert!(line.contains("the reactor runs 2 tunnels"), "{line}");
    crowd
        .iter_mut()
        .for_each(|client| client.echo("still there"));
}

#[test]
fn several_reactors_share_the_tunnels() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketAsync On\nProxyWebsocketAsyncThreads 3\nProxyPass /ws/ {}/",
        backend.url()
    ));
    let mut crowd: Vec<_> = (0..30).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
    for client in &mut crowd {
        client.echo("x");
    }
    let threads = proxy.thread_names();
    let reactors = threads.iter().filter(|name| name.starts_with("reactor"));
    assert_eq!(reactors.count(), 3, "{threads:?}");
}

#[test]
fn without_asynchronous_tunnels_there_is_no_reactor() {
    let proxy = Proxy::start("ProxyPass /ws/ ws://127.0.0.1:9/");
    let threads = proxy.thread_names();
    assert!(
        threads.iter().all(|name| !name.starts_with("reactor")),
        "{threads:?}"
    );
}

each_mode! {
    fn five_thousand_tunnels_leave_nothing_behind(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        // The start: what the first crowd needed has been touched once, and is idle again.
        open_and_close(&proxy, 64);
        let start = settled(&proxy);
        open_and_close(&proxy, 5000);
        wait_until("descriptors and threads to be back at the start", BOUND, || {
            let now = proxy.figures();
            now.descriptors <= start.descriptors && now.threads <= start.threads
        });
        let grown = proxy.figures().resident.saturating_sub(start.resident);
        // What the allocator keeps for its arenas is not the tunnels'; a kilobyte for each would be 5 MB.
        assert!(grown < 1 << 20, "{grown} bytes are left behind");
    }

    fn tunnels_that_are_there_at_once_leave_nothing_behind(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        let start = settled(&proxy);
        let mut crowd: Vec<_> = (0..300).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        for client in &mut crowd {
            client.echo("x");
        }
        let full = proxy.figures();
        assert!(full.descriptors >= start.descriptors + 600);
        drop(crowd);
        wait_until("descriptors and threads to be back at the start", BOUND, || {
            let now = proxy.figures();
            now.descriptors <= start.descriptors && now.threads <= start.threads
        });
        let each = full.resident.saturating_sub(start.resident) / 300;
        assert!(each < 100_000, "{each} bytes for a tunnel at rest");
    }
}

/// Sixteen at a time, each echoing once.
#[track_caller]
fn open_and_close(proxy: &Proxy, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for number in 0..count.div_ceil(16) {
                    let mut client = Client::tunnel(proxy, "/ws/");
                    client.echo(&format!("number {number}"));
                    client.finish();
                    client.rest();
                }
            });
        }
    });
}

/// The figures once they stand still: the pool lets idle threads go after some seconds.
#[track_caller]
fn settled(proxy: &Proxy) -> crate::support::proxy::Figures {
    let mut last = proxy.figures();
    let mut since = std::time::Instant::now();
    wait_until("the proxy to settle", BOUND, || {
        let now = proxy.figures();
        if (now.descriptors, now.threads) != (last.descriptors, last.threads) {
            last = now;
            since = std::time::Instant::now();
        }
        since.elapsed() > Duration::from_secs(7)
    });
    proxy.figures()
}

/// Bytes go through as they come, whatever their number: the limit holds for the kernel's part of the sockets as well.
#[test]
fn a_gibibyte_down_and_one_up_fit_into_24_mib() {
    const GIBIBYTE: usize = 1 << 30;
    let Some(limit) = MemoryLimit::of(24 << 20) else {
        println!("skipped: no cgroup with a limit of memory can be made here");
        return;
    };
    let backend = Backend::listen();
    let proxy = Proxy::start_in(
        TempDir::new(),
        format!("ProxyPass / {}/", url(&backend)),
        &limit.entering(),
    );
    let piece = pattern(1, 1 << 20);
    let pour = |wire: &mut Wire| (0..GIBIBYTE / piece.len()).for_each(|_| wire.send(&piece));
    let drain = |wire: &mut Wire| {
        (0..GIBIBYTE / piece.len()).for_each(|_| wire.expect(&piece));
    };
    for is_chunked in [false, true] {
        let framing = if is_chunked {
            "Transfer-Encoding: chunked\r\n\r\n40000000\r\n".to_owned()
        } else {
            format!("Content-Length: {GIBIBYTE}\r\n\r\n")
        };
        let end: &[u8] = if is_chunked { b"\r\n0\r\n\r\n" } else { b"" };
        std::thread::scope(|scope| {
            let mut client = Client::connect(proxy.address());
            let mut writer = Wire::new(client.tcp().try_clone().unwrap());
            let (pour, drain) = (&pour, &drain);
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}");
            scope.spawn(move || {
                writer.send(head);
                pour(&mut writer);
                writer.send(end);
            });
            let mut peer = backend.accept();
            peer.head();
            if is_chunked {
                let mut received = 0;
                while let Some(size) = chunk(&mut peer) {
                    received += size;
                }
                assert_eq!(received, GIBIBYTE);
            } else {
                drain(&mut peer);
            }
            peer.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            scope.spawn(move || {
                pour(&mut peer);
                peer.send(end);
            });
            client.answer_head().expect_status(200);
            if is_chunked {
                let mut received = 0;
                while let Some(size) = chunk(&mut client) {
                    received += size;
                }
                assert_eq!(received, GIBIBYTE);
            } else {
                drain(&mut client);
            }
        });
    }
    let peak = limit.peak();
    drop(proxy);
    println!("at most {peak:?} bytes were in use");
    assert!(peak.is_none_or(|peak| peak <= 24 << 20));
}

/// The size of the next chunk, which is read and dropped; nothing behind the last.
fn chunk(wire: &mut Wire) -> Option<usize> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(wire.receive(1));
    }
    let text = std::str::from_utf8(&line).unwrap().trim_end();
    let size = usize::from_str_radix(text, 16).expect("the size of a chunk");
    wire.receive(size + 2);
    (size > 0).then_some(size)
}

/// Sixty-four clients at once, each with bytes of its own both ways.
#[test]
fn eight_mebibytes_up_and_down_for_each_of_many_are_the_same_bytes() {
    let pages = Pages::answering(|asked| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            asked.body.len()
        )
        .into_bytes();
        answer.extend_from_slice(&asked.body);
        answer
    });
    let proxy = to(&pages.backend, "");
    let up_and_down = |seed: u64, size: usize, is_chunked: bool| {
        let body = pattern(seed, size);
        let mut client = Client::connect(proxy.address());
        for _ in 0..2 {
            let mut writer = Wire::new(client.tcp().try_clone().unwrap());
            std::thread::scope(|scope| {
                let body = &body;
                scope.spawn(move || {
                    if is_chunked {
                        writer.send(
                            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                        );
                        for chunk in body.chunks(10_007) {
                            writer.send(format!("{:X}\r\n", chunk.len()));
                            writer.send(chunk);
                            writer.send("\r\n");
                        }
                        writer.send("0\r\n\r\n");
                    } else {
                        writer.send(post("/", body));
                    }
                });
                let answer = answer(&mut client).expect_status(200);
                assert!(answer.body == *body, "other bytes have come back");
            });
        }
    };
    up_and_down(1, 8 << 20, false);
    up_and_down(2, 8 << 20, true);
    std::thread::scope(|scope| {
        for seed in 0..64 {
            let up_and_down = &up_and_down;
            scope.spawn(move || {
                up_and_down(
                    seed,
                    300_000 + usize::try_from(seed).unwrap(),
                    seed % 2 == 0,
                );
            });
        }
    });
}

/// The figures once those who are kept have had their time.
#[track_caller]
fn wait_until_as_before(proxy: &Proxy, start: crate::support::proxy::Figures) {
    wait_until(
        "descriptors and threads to be back at the start",
        BOUND,
        || {
            let now = proxy.figures();
            now.descriptors <= start.descriptors && now.threads <= start.threads
        },
    );
}

#[test]
fn two_thousand_pages_leave_nothing_behind() {
    let pages = Pages::start();
    let proxy = Proxy::start(format!("ProxyPass / {}/ ttl=1", pages.url()));
    let fetch_all = |count: usize| {
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let proxy = &proxy;
                scope.spawn(move || {
                    let mut client = Client::connect(proxy.address());
                    for number in 0..count / 16 {
                        fetch(&mut client, &format!("/{thread}/{number}"));
                        if number % 7 == 0 {
                            client = Client::connect(proxy.address());
                        }
                    }
                });
            }
        });
    };
    fetch_all(64);
    let start = settled(&proxy);
    fetch_all(2000);
    wait_until_as_before(&proxy, start);
    let grown = proxy.figures().resident.saturating_sub(start.resident);
    assert!(grown < 1 << 20, "{grown} bytes are left behind");
}

/// Each side breaks off in each phase of an exchange.
#[test]
fn five_hundred_aborted_exchanges_leave_nothing_behind() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "LogLevel error\nMaxKeepAliveRequests 0\nProxyPass / {}/ ttl=1 timeout=30",
        url(&backend)
    ));
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n";
    let abort_all = |rounds: usize| {
        for _ in 0..rounds {
            // In the head, and in a body that is not complete, where no backend is asked.
            Client::sending(&proxy, "GET / HTTP/1.1\r\nHo").reset();
            Client::sending(&proxy, post_head("/", 100) + "half").reset();
            // In a body on its way.
            let mut client = Client::sending(&proxy, post_head("/", 1_000_000));
            client.send(vec![0; 20_000]);
            let mut peer = backend.accept();
            peer.head();
            client.reset();
            peer.rest();
            // In the wait for an answer: the backend is not told before it has answered.
            let client = Client::sending(&proxy, get("/"));
            let mut peer = backend.accept();
            peer.head();
            client.reset();
            peer.send_if_taken(long);
            while peer.send_if_taken([0; 65_536]) {}
            // In the answer.
            let mut client = Client::sending(&proxy, get("/"));
            let mut peer = backend.accept();
            peer.head();
            peer.send(long);
            client.answer_head();
            client.reset();
            while peer.send_if_taken([0; 65_536]) {}
            // The backend: before it has read, in the body, in the wait, in its head, and in its body.
            for (request, answer) in [
                (post_head("/", 1_000_000), None),
                (get("/"), Some("")),
                (get("/"), Some("HTTP/1.1 200 O")),
                (get("/"), Some(long)),
            ] {
                let mut client = Client::sending(&proxy, &request);
                if answer.is_none() {
                    client.send(vec![0; 20_000]);
                }
                let mut peer = backend.accept();
                if let Some(answer) = answer {
                    peer.head();
                    peer.send(answer);
                    if answer == long {
                        client.answer_head();
                    }
                }
                peer.reset();
                drop(client);
            }
        }
    };
    abort_all(4);
    let start = settled(&proxy);
    // Nine in each round.
    abort_all(56);
    wait_until_as_before(&proxy, start);
    let grown = proxy.figures().resident.saturating_sub(start.resident);
    assert!(grown < 1 << 20, "{grown} bytes are left behind");
    let mut client = Client::sending(&proxy, get("/"));
    let mut peer = backend.accept();
    peer.head();
    peer.send(page("whole"));
    expect_page(&mut client, "whole");
}
