//! Who may not change anything, who does not speak HTTP, and who says nothing at all.

use super::{control, knock, probe, request, socket, start, status_address, text};
use crate::support::{BOUND, Wire, wait_until};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn nothing_is_changed_from_the_network() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    let address = status_address(&proxy);
    for target in [
        "/end?id=1",
        "/drain?member=ws://127.0.0.1:9",
        "/undrain?member=x",
    ] {
        let refused = probe(address, "POST", target).expect_status(403);
        assert_eq!(
            text(&refused),
            "nothing is changed from here; ask through the control socket\n"
        );
    }
    for (method, target, status) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("POST", "/healthz", 405),
        ("POST", "/server-status", 405),
        ("GET", "/end?id=1", 405),
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("OPTIONS", "/", 404),
    ] {
        let answer = probe(address, method, target).expect_status(status);
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
        assert_eq!(
            answer.field("X-Content-Type-Options").as_deref(),
            Some("nosniff")
        );
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{answer:?}");
    }
    let refused = probe(address, "PUT", "/readyz").expect_status(405);
    assert_eq!(refused.field("Allow").as_deref(), Some("GET, HEAD"));
    // What is served to clients is not served there.
    probe(address, "GET", "/ws/").expect_status(404);
}

#[test]
fn requests_that_are_none_get_the_status_that_says_so() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    for (bytes, status) in [
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("\x16\x03\x01 hello\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n", "x".repeat(5000)),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "A: b\r\n".repeat(70)),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}",
                format!("A: {}\r\n", "b".repeat(3000)).repeat(6)
            ),
            431,
        ),
        (
            "POST /end?id=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            413,
        ),
        (request("POST", "/end"), 400),
        (request("POST", "/end?id=x"), 400),
        (request("POST", "/end?id=-1"), 400),
        (request("POST", "/end?id=1&id=1"), 400),
        (request("POST", "/end?id=1&other=1"), 400),
        (request("POST", "/end?id=1&code=x"), 400),
        (request("POST", "/drain?member=%FF"), 400),
        (request("POST", "/drain"), 400),
    ] {
        let mut wire = knock(&socket(&proxy));
        wire.send(&bytes);
        wire.answer().expect_status(status);
    }
}

#[test]
fn those_who_say_nothing_are_in_nobody_s_way_and_are_let_go() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    proxy.settle();
    let before = proxy.figures().descriptors;
    let address = status_address(&proxy);
    let idle: Vec<Wire> = (0..200)
        .map(|_| Wire::new(TcpStream::connect(address).unwrap()))
        .collect();
    let mut local: Vec<Wire> = (0..40).map(|_| knock(&socket(&proxy))).collect();
    for wire in &mut local {
        // The oldest have made room.
        wire.send_if_taken("GET /health");
    }
    for _ in 0..3 {
        probe(address, "GET", "/readyz").expect_status(200);
        control(&proxy, "GET", "/readyz").expect_status(200);
    }
    let held = proxy.figures().descriptors - before;
    assert!(held <= 32 + 16, "{held} descriptors");
    // The last ones are still there; after five seconds they are not, whatever they send meanwhile.
    let last = local.last_mut().unwrap();
    let begun = Instant::now();
    wait_until("it to be let go", BOUND, || {
        std::thread::sleep(Duration::from_millis(100));
        !last.send_if_taken("z")
    });
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(8),
        "{took:?}"
    );
    wait_until("all to be let go", BOUND, || {
        proxy.figures().descriptors == before
    });
    drop(idle);
}
