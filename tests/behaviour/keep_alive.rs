//! Several requests on a client's connection: how long it stays, what ends it, and that none knows of another.

use crate::support::client::{request, request_with, switch};
use crate::support::pages::{
    answer, expect_page, fetch, get, get_with, page, page_with, post, post_head, to, visitor,
};
use crate::support::{Backend, Client, Pages, Proxy, Wire, each_mode, pattern};
use std::time::{Duration, Instant};

#[test]
fn a_connection_carries_a_thousand_requests() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "MaxKeepAliveRequests 0");
    let mut client = Client::connect(proxy.address());
    for number in 0..1000 {
        let answer = fetch(&mut client, &format!("/{number}"));
        assert_eq!(answer.field("Connection"), None, "{number}");
    }
    // One client at a time needs one connection to the backend.
    assert_eq!(pages.connections(), [1; 1000]);
}

#[test]
fn the_last_answer_that_a_connection_may_carry_says_so() {
    let pages = Pages::start();
    for (directives, most) in [("MaxKeepAliveRequests 3", 3), ("", 100)] {
        let before = pages.seen().len();
        let proxy = to(&pages.backend, directives);
        let mut client = Client::connect(proxy.address());
        // One more than will be answered.
        client.send(get("/").repeat(most + 1));
        for number in 1..=most {
            let answer = expect_page(&mut client, "/");
            let expected = (number == most).then(|| "close".to_owned());
            assert_eq!(answer.field("Connection"), expected, "{number}");
        }
        client.expect_end();
        assert_eq!(pages.seen().len() - before, most);
    }
}

#[test]
fn where_nothing_is_kept_one_answer_ends_the_connection() {
    let pages = Pages::start();
    let once = |directives: &str, request: &str| {
        let proxy = to(&pages.backend, directives);
        let mut client = Client::sending(&proxy, request.to_owned() + &get("/never"));
        let answer = expect_page(&mut client, "/once");
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
        client.expect_end();
    };
    once("KeepAlive Off", &get("/once"));
    once("KeepAliveTimeout 0", &get("/once"));
    once("MaxKeepAliveRequests 1", &get("/once"));
    once("", &get_with("/once", "Connection: close\r\n"));
    once(
        "",
        &get_with("/once", "Connection: x\r\nConnection: CLOSE, y\r\n"),
    );
    once("", "GET /once HTTP/1.0\r\nHost: front.example\r\n\r\n");
    let never = pages.seen().iter().any(|asked| asked.path() == "/never");
    assert!(!never, "a backend was asked behind the last answer");
}

#[test]
fn a_client_of_http_1_0_that_asks_for_it_keeps_its_connection() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "KeepAliveTimeout 7\nMaxKeepAliveRequests 3");
    let mut client = Client::connect(proxy.address());
    let ask = "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n";
    for said in [Some("timeout=7, max=2"), Some("timeout=7, max=1"), None] {
        client.send(ask);
        let answer = expect_page(&mut client, "/");
        assert_eq!(answer.field("Keep-Alive").as_deref(), said);
        let connection = if said.is_some() {
            "Keep-Alive"
        } else {
            "close"
        };
        assert_eq!(answer.field("Connection").as_deref(), Some(connection));
    }
    client.expect_end();
}

/// RFC 9112 section 2.2: some clients put one behind a body.
#[test]
fn an_empty_line_behind_a_body_begins_no_request() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "KeepAliveTimeout 100ms");
    let mut client = Client::connect(proxy.address());
    let with_line = [post("/", b"body"), b"\r\n".to_vec()].concat();
    client.send(&with_line);
    expect_page(&mut client, "/");
    client.expect_end();
    let mut client = Client::connect(proxy.address());
    client.send([with_line, get("/next").into_bytes()].concat());
    expect_page(&mut client, "/");
    expect_page(&mut client, "/next");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let pages = Pages::start();
    let proxy = to(
        &pages.backend,
        "KeepAliveTimeout 400ms\nCustomLog access.log \"%>s %k\"",
    );
    let mut client = visitor(&proxy, "/");
    let begun = Instant::now();
    client.expect_end();
    let took = begun.elapsed();
    let expected = Duration::from_millis(300)..Duration::from_secs(5);
    assert!(expected.contains(&took), "{took:?}");
    // The time is that between requests, not that of the connection.
    let mut client = visitor(&proxy, "/");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(150));
        fetch(&mut client, "/");
    }
    client.expect_end();
    let lines = proxy.wait_for_lines("access.log", 7);
    assert_eq!(
        lines,
        [
            "200 0", "200 0", "200 1", "200 2", "200 3", "200 4", "200 5"
        ]
    );
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "");
    let requests: String = (0..50).map(|number| get(&format!("/{number}"))).collect();
    let mut client = Client::sending(&proxy, requests);
    for number in 0..50 {
        expect_page(&mut client, &format!("/{number}"));
    }
    // Cut anywhere, and a part of the next one in front of the wait for it.
    let two = get("/one") + &get("/two");
    for cut in 1..two.len() {
        let mut client = Client::connect(proxy.address());
        let (begin, rest) = two.split_at(cut);
        client.send(begin);
        if cut >= get("/one").len() {
            expect_page(&mut client, "/one");
        }
        client.send(rest);
        if cut < get("/one").len() {
            expect_page(&mut client, "/one");
        }
        expect_page(&mut client, "/two");
    }
}

/// Whatever length a body has and however it is framed: the request behind it begins where it ends.
#[test]
fn a_request_behind_a_body_is_a_request() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "");
    let mut client = Client::connect(proxy.address());
    for length in [0, 1, 1000, 16_383, 16_384, 16_385, 40_000, 300_000] {
        let body = pattern(length as u64, length);
        let mut chunked =
            b"POST /chunked HTTP/1.1\r\nHost: front.example\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec();
        for chunk in body.chunks(7000) {
            chunked.extend(format!("{:x};a=b\r\n", chunk.len()).into_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
        let bytes = [
            post("/length", &body),
            get("/behind-length").into_bytes(),
            chunked,
            get("/behind-chunks").into_bytes(),
        ]
        .concat();
        // It is read while it is sent: the proxy takes no more than it can pass on.
        let mut writer = Wire::new(client.tcp().try_clone().unwrap());
        let sending = std::thread::spawn(move || writer.send(bytes));
        for path in ["/length", "/behind-length", "/chunked", "/behind-chunks"] {
            expect_page(&mut client, path);
        }
        sending.join().unwrap();
        let seen = pages.seen();
        let bodies: Vec<_> = seen[seen.len() - 4..]
            .iter()
            .map(|asked| asked.body == body)
            .collect();
        assert_eq!(bodies, [true, length == 0, true, length == 0], "{length}");
    }
}

/// Some clients send an empty line behind a body (RFC 9112 section 2.2).
#[test]
fn an_empty_line_in_front_of_a_request_is_passed_over() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "");
    let mut client = Client::connect(proxy.address());
    for _ in 0..3 {
        client.send(post("/form", b"a=b"));
        client.send("\r\n");
        expect_page(&mut client, "/form");
    }
    fetch(&mut client, "/");
}

#[test]
fn a_client_that_has_ended_its_direction_still_gets_its_answers() {
    let backend = Backend::listen();
    let proxy = to(&backend, "CustomLog access.log \"%>s %X\"");
    let mut client = Client::sending(&proxy, get("/1") + &get("/2"));
    client.finish();
    let mut peer = backend.accept();
    for number in 1..=2 {
        assert!(peer.head().starts_with(&format!("GET /{number} ")));
        peer.send(page("late"));
        expect_page(&mut client, "late");
    }
    client.expect_end();
    // Behind a body as well, whether it is read before the backend is asked or not.
    for length in [10, 100_000] {
        let mut client = Client::sending(&proxy, post("/", &vec![b'x'; length]));
        client.finish();
        let head = peer.head();
        assert!(head.contains(&format!("Content-Length: {length}\r\n")));
        peer.receive(length);
        peer.send(page("late"));
        expect_page(&mut client, "late");
        client.expect_end();
    }
    assert_eq!(proxy.wait_for_lines("access.log", 4), ["200 +"; 4]);
}

#[test]
fn a_second_request_has_no_more_time_than_the_first() {
    let pages = Pages::start();
    let proxy = to(
        &pages.backend,
        "RequestReadTimeout header=1 body=1\nKeepAliveTimeout 30\nCustomLog access.log \"%>s %k\"",
    );
    for part in ["GET /2 HT", &post_head("/2", 10), &post_head("/2", 100_000)] {
        let mut client = visitor(&proxy, "/1");
        // What it does not ask for takes no time of what it asks.
        std::thread::sleep(Duration::from_millis(1200));
        let begun = Instant::now();
        client.send(part);
        let late = client.answer().expect_status(408);
        assert_eq!(late.field("Connection").as_deref(), Some("close"));
        let took = begun.elapsed();
        let expected = Duration::from_millis(900)..Duration::from_secs(5);
        assert!(expected.contains(&took), "{took:?} for {part}");
    }
    let lines = proxy.wait_for_lines("access.log", 6);
    assert_eq!(
        lines,
        ["200 0", "408 1", "200 0", "408 1", "200 0", "408 1"]
    );
}

/// Each request has its own host, settings, variables and client, and the next one nothing of them.
#[test]
fn nothing_of_a_request_is_left_for_the_next() {
    let pages = Pages::answering(|asked| page_with("X-Backend: 1\r\n", asked.path()));
    let url = pages.url();
    let proxy = Proxy::start(format!(
        "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1\n\
         LogFormat \"%a %v %U %{{mapping}}n %{{X-Client}}i %{{X-Backend}}o %>s %k %X\" whole\n\
         CustomLog access.log whole\n\
         <VirtualHost *:*>\nServerName one.example\nRewriteEngine On\n\
         RewriteRule ^/marked - [E=mark:set]\n\
         RequestHeader set X-Mark %{{mark}}e env=mark\n\
         <Location /deep/>\nRequestHeader set X-Deep 1\nHeader set X-Deep 1\n</Location>\n\
         ErrorDocument 404 \"nothing here\"\n\
         ProxyPass /local !\nProxyPass / {url}/one/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nProxyPreserveHost On\nKeepAlive On\nProxyPass / {url}/two/\n</VirtualHost>"
    ));
    let mut client = Client::connect(proxy.address());
    let mut ask = |host: &str, path: &str, fields: &str| {
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"
        ));
        let answer = answer(&mut client);
        let seen = pages.seen().pop().unwrap();
        (answer, seen)
    };
    let (first, seen) = ask("one.example", "/deep/marked", "X-Client: 192.0.2.1\r\n");
    assert_eq!(first.field("X-Deep").as_deref(), Some("1"));
    assert_eq!(seen.path(), "/one/deep/marked");
    assert_eq!(seen.field("X-Deep").as_deref(), Some("1"));
    assert_eq!(seen.field("X-Forwarded-For").as_deref(), Some("192.0.2.1"));

    let (marked, seen) = ask("one.example", "/marked", "X-Client: 192.0.2.2\r\n");
    assert_eq!(marked.field("X-Deep"), None);
    assert_eq!(seen.field("X-Mark").as_deref(), Some("set"));
    assert_eq!(seen.field("X-Deep"), None);

    let (plain, seen) = ask("one.example", "/", "");
    assert_eq!(plain.status, 200);
    assert_eq!(seen.field("X-Mark"), None);
    assert_eq!(seen.field("X-Forwarded-For").as_deref(), Some("127.0.0.1"));
    let own = seen.field("Host").unwrap();
    assert!(own.starts_with("127.0.0.1"), "{own}");

    let (missing, _) = ask("one.example", "/local", "");
    assert_eq!(
        (missing.status, &missing.body[..]),
        (404, &b"nothing here"[..])
    );

    let (_, seen) = ask("two.example", "/marked", "X-Client: 192.0.2.3\r\n");
    assert_eq!(seen.path(), "/two/marked");
    assert_eq!(seen.field("Host").as_deref(), Some("two.example"));
    assert_eq!(seen.field("X-Mark"), None);
    // The first host of the address is that of a name that nobody has.
    let (_, seen) = ask("three.example", "/", "");
    assert_eq!(seen.path(), "/one/");
    assert_eq!(
        seen.field("X-Forwarded-Host").as_deref(),
        Some("three.example")
    );

    assert_eq!(
        proxy.wait_for_lines("access.log", 6),
        [
            "192.0.2.1 one.example /deep/marked ProxyPass \\\"/\\\" - 1 200 0 +",
            "192.0.2.2 one.example /marked ProxyPass \\\"/\\\" - 1 200 1 +",
            "127.0.0.1 one.example / ProxyPass \\\"/\\\" - 1 200 2 +",
            "127.0.0.1 one.example /local - - - 404 3 +",
            "192.0.2.3 two.example /marked ProxyPass \\\"/\\\" - 1 200 4 +",
            "127.0.0.1 one.example / ProxyPass \\\"/\\\" - 1 200 5 +",
        ]
    );
}

#[test]
fn the_proxy_header_stands_before_the_first_request_and_holds_for_all() {
    let pages = Pages::start();
    let proxy = to(
        &pages.backend,
        "RemoteIPProxyProtocol On\nCustomLog access.log \"%a %k %>s %I\"",
    );
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 50000 80\r\n";
    let mut client = Client::sending(&proxy, line.to_owned() + &get("/1"));
    expect_page(&mut client, "/1");
    fetch(&mut client, "/2");
    for asked in pages.seen() {
        assert_eq!(asked.field("X-Forwarded-For").as_deref(), Some("192.0.2.7"));
    }
    client.send(line.to_owned() + &get("/3"));
    client.answer().expect_status(400);
    let lines = proxy.wait_for_lines("access.log", 3);
    let starts = ["192.0.2.7 0 200 ", "192.0.2.7 1 200 ", "192.0.2.7 2 400 "];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{lines:#?}");
    }
    assert_eq!(pages.seen().len(), 2);
}

#[test]
fn every_request_has_its_own_line_with_its_own_figures() {
    let backend = Backend::listen();
    let proxy = to(
        &backend,
        "MaxKeepAliveRequests 3\nCustomLog access.log \"%m %k %X %I %O %B %D\"",
    );
    let mut client: Option<Client> = None;
    let requests = [
        get("/").into_bytes(),
        post("/", &[b'x'; 5000]),
        post("/", &[b'x'; 50_000]),
    ];
    let mut peer = None;
    let mut expected = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        // A client that takes its time between requests is not slow in them.
        std::thread::sleep(Duration::from_millis(300));
        let client = client.get_or_insert_with(|| Client::connect(proxy.address()));
        client.send(request);
        let peer = peer.get_or_insert_with(|| backend.accept());
        crate::support::pages::next_request(peer).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        peer.send(page(&"y".repeat(1000 * (number + 1))));
        let answer = answer(client);
        expected.push((
            if number == 2 { "-" } else { "+" },
            request.len(),
            answer.head.len() + answer.body.len(),
            answer.body.len(),
        ));
    }
    client.unwrap().expect_end();
    let lines = proxy.wait_for_lines("access.log", 3);
    for (number, (line, (status, bytes_in, bytes_out, body))) in
        lines.iter().zip(expected).enumerate()
    {
        let method = ["GET", "POST", "POST"][number];
        let start = format!("{method} {number} {status} {bytes_in} {bytes_out} {body} ");
        let took = line.strip_prefix(&start);
        let took: u64 = took
            .unwrap_or_else(|| panic!("{line} is not {start}"))
            .parse()
            .unwrap();
        assert!((25_000..290_000).contains(&took), "{line}");
    }
}

each_mode! {
    /// First a page, then a tunnel, as a browser may do it.
    fn a_tunnel_may_begin_on_a_connection_that_has_carried_pages(mode: Mode) {
        let pages = Pages::start();
        let echo = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nCustomLog access.log \"%k %>s %{{mapping}}n %{{close-reason}}n\"\nProxyPass /ws/ {}/\nProxyPass / {}/",
            mode.directives(),
            echo.url(),
            pages.url()
        ));
        let mut client = visitor(&proxy, "/page");
        fetch(&mut client, "/other");
        client.send(request("/ws/"));
        client.switched();
        for round in 0..20 {
            client.echo(&format!("round {round}"));
        }
        client.finish();
        client.rest();
        // The tunnel's request right behind that of a page.
        let mut client = Client::sending(&proxy, get("/page") + &request("/ws/"));
        expect_page(&mut client, "/page");
        client.switched();
        client.echo("pipelined");
        // What the tunnel carried does not come back as a request.
        drop(client);
        assert_eq!(pages.connections(), [1, 1, 1]);
        assert_eq!(echo.count(), 2);
        let lines = proxy.wait_for_lines("access.log", 5);
        let mut starts: Vec<&str> = lines.iter().map(|line| &line[..5]).collect();
        starts.sort_unstable();
        assert_eq!(starts, ["0 200", "0 200", "1 101", "1 200", "2 101"]);
    }
}

#[test]
fn an_answer_other_than_101_on_a_tunnels_route_ends_a_kept_connection() {
    let pages = Pages::start();
    let refusing = Backend::answering("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    let proxy = Proxy::start(format!(
        "ProxyPass /ws/ {}/\nProxyPass / {}/",
        refusing.url(),
        pages.url()
    ));
    let mut client = visitor(&proxy, "/page");
    client.send(request("/ws/") + &get("/never"));
    let answer = client.answer().expect_status(403);
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    assert_eq!(pages.seen().len(), 1);
}

#[test]
fn a_refusal_keeps_the_connection_where_it_is_known_what_comes_next() {
    let pages = Pages::start();
    let proxy = to(
        &pages.backend,
        "ProxyPass /none !\nProxyPass /ws/ ws://127.0.0.1:9/\nMaxKeepAliveRequests 4",
    );
    let mut client = visitor(&proxy, "/1");
    for _ in 0..2 {
        client.send(get("/none"));
        let refused = answer(&mut client).expect_status(404);
        assert_eq!(refused.field("Connection"), None);
    }
    client.send(get("/none"));
    let last = client.answer().expect_status(404);
    assert_eq!(
        last.field("Connection").as_deref(),
        Some("close"),
        "the fourth"
    );
    // A HEAD gets no body, so that the next answer is where the client looks for it.
    let mut client = Client::sending(
        &proxy,
        get("/none").replace("GET", "HEAD") + &get("/behind"),
    );
    client.answer_head().expect_status(404);
    expect_page(&mut client, "/behind");
    for (bytes, status) in [
        // Where it ends cannot be known.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            400,
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        // Its body would have to be read for nothing.
        (post_head("/none", 20), 404),
        // Who asks for a tunnel may have begun to speak in it.
        (request_with("/none", ""), 404),
    ] {
        let mut client = visitor(&proxy, "/1");
        client.send(bytes.clone() + &get("/smuggled"));
        let refused = client.answer().expect_status(status);
        let connection = refused.field("Connection");
        assert_eq!(connection.as_deref(), Some("close"), "{bytes}");
    }
    let smuggled = pages.seen().iter().any(|asked| asked.path() == "/smuggled");
    assert!(!smuggled);
}

#[test]
fn a_client_that_leaves_between_requests_leaves_no_line() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "CustomLog access.log \"%U %>s\"");
    drop(visitor(&proxy, "/1"));
    visitor(&proxy, "/2").reset();
    let mut client = visitor(&proxy, "/3");
    client.finish();
    client.expect_end();
    // In the midst of a head it is one.
    let mut client = visitor(&proxy, "/4");
    client.send("GET /5 HT");
    client.finish();
    client.answer().expect_status(400);
    let mut lines = proxy.wait_for_lines("access.log", 5);
    lines.sort_unstable();
    assert_eq!(lines, ["/1 200", "/2 200", "/3 200", "/4 200", "/5 400"]);
}

/// Who is idle when the server stops has nothing to wait for; who is served gets his answer, which says that it is the
/// last.
#[test]
fn idle_clients_are_let_go_at_once_when_the_server_stops() {
    let pages = Pages::start();
    let mut proxy = to(&pages.backend, "KeepAliveTimeout 60");
    let mut clients: Vec<_> = (0..5).map(|_| visitor(&proxy, "/")).collect();
    let begun = Instant::now();
    proxy.stop();
    assert!(begun.elapsed() < Duration::from_secs(5));
    for client in &mut clients {
        client.expect_end();
    }
}

/// The backend's 101 belongs to the tunnel alone.
#[test]
fn a_page_behind_a_tunnel_that_has_ended_is_not_served() {
    let pages = Pages::start();
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /ws/ {}/\nProxyPass / {}/",
        backend.url(),
        pages.url()
    ));
    let mut client = visitor(&proxy, "/page");
    client.send(request("/ws/"));
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch());
    client.switched();
    client.send(get("/never"));
    peer.expect(get("/never"));
    peer.finish();
    client.expect_end();
    assert_eq!(pages.seen().len(), 1);
}
