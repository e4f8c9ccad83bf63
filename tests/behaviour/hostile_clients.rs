//! Those who mean harm, or are broken: the proxy answers or hangs up, and serves the next one.

use crate::support::client::{request, request_with};
use crate::support::{BOUND, Backend, Client, Proxy, each_mode, pattern, wait_until};

#[track_caller]
fn start(backend: &Backend) -> Proxy {
    Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()))
}

#[test]
fn noise_is_refused() {
    let backend = Backend::listen();
    let proxy = start(&backend);
    for seed in 0..200_u64 {
        let mut client = Client::connect(proxy.address());
        client.send_if_taken(pattern(
            seed,
            1 + usize::try_from(seed * 37 % 2000).unwrap(),
        ));
        client.send_if_taken("\r\n\r\n");
        let (bytes, _) = client.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    backend.expect_untouched();
}

#[test]
fn heads_with_one_byte_changed_are_refused_or_served() {
    let backend = Backend::echo();
    let proxy = start(&backend);
    let good = request_with("/ws/", "Sec-WebSocket-Protocol: chat\r\n");
    for (place, noise) in pattern(77, good.len()).into_iter().enumerate() {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = noise;
        let mut client = Client::connect(proxy.address());
        client.send_if_taken(&bytes);
        // Where the change ate the end of the head: now there is one.
        client.send_if_taken("\r\n\r\n");
        let answer = client.answer_head();
        assert!(
            answer.status == 101 || (400..500).contains(&answer.status) || answer.status == 502,
            "byte {place} changed to {noise}: {}",
            answer.head
        );
    }
}

each_mode! {
    fn a_head_that_comes_byte_by_byte_is_a_head(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!("{}\nProxyPass /ws/ {}/", mode.directives(), backend.url()));
        let mut client = Client::connect(proxy.address());
        for byte in request("/ws/").bytes() {
            client.send([byte]);
        }
        client.switched();
        client.echo("complete");
    }
}

#[test]
fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let backend = Backend::echo();
    let proxy = start(&backend);
    // What signals come through, for instance, may be sockets too.
    let before = proxy.connections();
    let head = request("/ws/");
    for round in 0..300 {
        let client = Client::sending(&proxy, &head[..head.len() * (round % 10) / 9]);
        if round % 2 == 0 {
            client.reset();
        }
    }
    Client::tunnel(&proxy, "/ws/").echo("served");
    wait_until("the sockets to be closed", BOUND, || {
        proxy.connections() <= before
    });
}

#[test]
fn a_client_that_never_reads_its_answer_is_let_go() {
    let body = vec![b'x'; 20 << 20];
    let backend = Backend::serve(move |mut wire| {
        wire.head();
        wire.send_if_taken("HTTP/1.1 200 OK\r\nContent-Length: 20971520\r\n\r\n");
        wire.send_if_taken(&body);
    });
    let proxy = Proxy::start(format!(
        "Timeout 1\nProxyPass /ws/ {}/ timeout=60\nCustomLog access.log \"%>s %O\"",
        backend.url()
    ));
    let _client = Client::asking(&proxy, "/ws/");
    let lines = proxy.wait_for_lines("access.log", 1);
    assert!(lines[0].starts_with("200 "), "{lines:?}");
}

/// What a client wrote cannot make lines of its own in a log, nor speak to the operator's terminal.
#[test]
fn no_client_writes_lines_into_the_logs() {
    let proxy = Proxy::start(
        "LogLevel trace8\nProxyPass /ws/ ws://127.0.0.1:9/\n\
         CustomLog access.log \"%r|%{User-Agent}i|%{Referer}i\"",
    );
    let fields = "User-Agent: a\"b\\c\x1b[31m\u{e9}\r\nReferer: x\ty\r\n";
    let bytes = format!("GET /%0aforged HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    Client::sending(&proxy, bytes).answer();
    let mut bytes = b"GET /\x1b[2J\nforged line HTTP/1.1\r\n".to_vec();
    bytes.extend_from_slice(b"Host: a\r\n\r\n");
    Client::sending(&proxy, bytes).answer().expect_status(400);
    let lines = proxy.wait_for_lines("access.log", 2);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in lines.into_iter().chain(proxy.log()) {
        assert!(
            line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{line:?}"
        );
        assert!(!line.starts_with("forged"), "{line}");
    }
}
