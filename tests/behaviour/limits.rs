//! Sizes, deadlines, workers, descriptors.

use crate::support::client::{request, request_with};
use crate::support::http::Origin;
use crate::support::{Backend, Client, Proxy, TempDir, wait_until};
use std::time::{Duration, Instant};

#[test]
fn limits_are_those_of_the_configuration() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "LimitRequestLine 30\nLimitRequestFieldSize 60\nLimitRequestFields 7\nProxyPass /ws/ {}/",
        backend.url()
    ));
    let fits = "/ws/aaaaaaaaaaaaa";
    assert_eq!(format!("GET {fits} HTTP/1.1").len(), 30);
    Client::tunnel(&proxy, fits);
    let status = |bytes: String| Client::sending(&proxy, bytes).answer().status;
    assert_eq!(status(request(&format!("{fits}a"))), 414);
    Client::sending(&proxy, request_with("/ws/", "X: 1\r\nY: 2\r\n")).switched();
    assert_eq!(
        status(request_with("/ws/", "X: 1\r\nY: 2\r\nZ: 3\r\n")),
        431
    );
    let long = "a".repeat(100);
    assert_eq!(status(request_with("/ws/", &format!("X: {long}\r\n"))), 431);
}

/// By address: who is meant by name is known only when the head has been read (as in httpd).
#[test]
fn a_virtual_host_of_an_address_has_limits_of_its_own() {
    let backend = Backend::echo();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "Listen 127.0.0.1:0\nListen [::1]:0\nProxyPass /ws/ {url}/\n\
         <VirtualHost [::1]:*>\nLimitRequestFields 5\nProxyPass /ws/ {url}/\n</VirtualHost>"
    ));
    let more = request_with("/ws/", "X: 1\r\n");
    let mut wide = Client::connect(proxy.addresses()[0]);
    wide.send(&more);
    wide.switched();
    let mut narrow = Client::connect(proxy.addresses()[1]);
    narrow.send(&more);
    narrow.answer().expect_status(431);
}

/// The deadline is for the head as a whole: no byte extends it.
#[test]
fn a_head_that_drips_is_a_408() {
    let proxy = Proxy::start("RequestReadTimeout header=1\nProxyPass /ws/ ws://127.0.0.1:9/");
    let mut client = Client::connect(proxy.address());
    let begun = Instant::now();
    let mut dripper = crate::support::Wire::new(client.tcp().try_clone().unwrap());
    let drip = std::thread::spawn(move || {
        for byte in request("/ws/").bytes().cycle() {
            if begun.elapsed() > Duration::from_secs(8) || !dripper.send_if_taken([byte]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    client.answer_head().expect_status(408);
    let took = begun.elapsed();
    let expected = Duration::from_millis(950)..Duration::from_secs(5);
    assert!(expected.contains(&took), "{took:?}");
    drip.join().unwrap();
}

#[test]
fn bytes_earn_time_for_the_head_up_to_a_maximum() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "RequestReadTimeout header=1-3,MinRate=20\nProxyPass /ws/ {}/",
        backend.url()
    ));
    // Slower than 1 s in all, but faster than 20 bytes a second.
    let mut client = Client::connect(proxy.address());
    let begun = Instant::now();
    for part in request("/ws/").as_bytes().chunks(15) {
        client.send(part);
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(begun.elapsed() > Duration::from_secs(1));
    client.switched();
    // As fast, but without end.
    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\n");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if !client.send_if_taken("X: 5678901234\r\n") {
            break;
        }
        std::thread::sleep(Duration::from_millis(150));
        client.tcp().set_nonblocking(true).unwrap();
        let arrived = client.tcp().peek(&mut [0]).is_ok();
        client.tcp().set_nonblocking(false).unwrap();
        if arrived {
            break;
        }
    }
    client.answer_head().expect_status(408);
    let took = begun.elapsed();
    let expected = Duration::from_millis(2900)..Duration::from_secs(8);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let proxy = Proxy::start("RequestReadTimeout header=1\nProxyPass /ws/ ws://127.0.0.1:9/");
    let mut client = Client::connect(proxy.address());
    let begun = Instant::now();
    let (bytes, _) = client.rest();
    assert!(begun.elapsed() >= Duration::from_millis(950));
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408 "),
        "{text}"
    );
}

#[test]
fn slow_heads_do_not_hold_up_others() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    let slow: Vec<_> = (0..50)
        .map(|_| Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\n"))
        .collect();
    let begun = Instant::now();
    Client::tunnel(&proxy, "/ws/").echo("quick");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(slow);
}

/// The workers, the queue, the kernel's backlog: whoever has connected is served once it is their turn.
#[test]
fn when_all_workers_are_busy_new_connections_wait_and_one_warning_says_so() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "MaxRequestWorkers 4\nCustomLog access.log %s\nProxyPass /ws/ {}/",
        backend.url()
    ));
    // Who has written the line of its tunnel, and sleeps, is free.
    let all_are_free = |ended: usize| {
        proxy.wait_for_lines("access.log", ended);
        proxy.settle();
    };
    for episode in 1..=2 {
        let mut served: Vec<_> = (0..4).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        let waiting: Vec<_> = (0..12).map(|_| Client::asking(&proxy, "/ws/")).collect();
        wait_until("the warning", Duration::from_secs(10), || {
            proxy.log_lines("MaxRequestWorkers").len() == episode
        });
        let before = backend.count();
        for client in &mut served {
            client.echo("still served");
        }
        assert_eq!(backend.count(), before, "nobody else is served meanwhile");
        drop(served);
        for mut client in waiting {
            client.switched();
            client.echo("served at last");
        }
        let lines = proxy.log_lines("MaxRequestWorkers");
        assert_eq!(lines.len(), episode, "once per episode: {lines:#?}");
        assert!(lines[0].contains("WARN"), "{lines:?}");
        // The episode ends when somebody comes and finds a free worker.
        all_are_free(17 * episode - 1);
        Client::tunnel(&proxy, "/ws/").echo("free");
        all_are_free(17 * episode);
    }
}

#[test]
fn running_out_of_descriptors_pauses_accepting_and_recovers() {
    let backend = Backend::echo();
    let proxy = Proxy::start_in(
        TempDir::new(),
        format!("ProxyPass /ws/ {}/", backend.url()),
        "ulimit -n 40",
    );
    // Each takes two descriptors or more; the kernel accepts those that the proxy cannot.
    let clients: Vec<_> = (0..60).map(|_| Client::asking(&proxy, "/ws/")).collect();
    let warning = proxy.wait_for_log("accepting pauses");
    assert!(warning.contains("[WARN]"), "{warning}");
    drop(clients);
    wait_until("tunnels again", Duration::from_secs(15), || {
        let mut client = Client::asking(&proxy, "/ws/");
        let answer = client.answer_head();
        if answer.status == 101 {
            client.echo("recovered");
        }
        answer.status == 101
    });
    let lines = proxy.log_lines("accepting pauses");
    assert!(lines.len() < 20, "a line for each failure: {lines:#?}");
}

#[test]
fn running_out_of_descriptors_does_not_hurt_the_tunnels_that_are_there() {
    let backend = Backend::echo();
    let proxy = Proxy::start_in(
        TempDir::new(),
        format!("ProxyPass /ws/ {}/", backend.url()),
        "ulimit -n 40",
    );
    let mut early = Client::tunnel(&proxy, "/ws/");
    let clients: Vec<_> = (0..60).map(|_| Client::asking(&proxy, "/ws/")).collect();
    proxy.wait_for_log("accepting pauses");
    let before = proxy.processor_time();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        early.echo("as before");
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = proxy.processor_time() - before;
    assert!(
        spent < Duration::from_millis(500),
        "the acceptor spins: {spent:?}"
    );
    drop(clients);
}

/// A connection is kept for each of the mappings, more of them than there are descriptors.
#[test]
fn connections_that_are_kept_take_no_descriptor_from_who_needs_one() {
    const MAPPINGS: usize = 50;
    let origin = Origin::telling();
    let mappings = (0..MAPPINGS).map(|i| format!("ProxyPass /{i}/ {}/{i}/\n", origin.url()));
    let tunnels = Backend::echo();
    let proxy = Proxy::start_in(
        TempDir::new(),
        mappings.collect::<String>() + &format!("ProxyPass /ws/ {}/", tunnels.url()),
        "ulimit -n 40",
    );
    let mut client = Client::connect(proxy.address());
    for i in 0..MAPPINGS {
        client.send(format!("GET /{i}/ HTTP/1.1\r\nHost: front\r\n\r\n"));
        client.answer_to("GET").expect_status(200);
    }
    assert_eq!(origin.backend.count(), MAPPINGS);
    Client::tunnel(&proxy, "/ws/").echo("there is room");
}
