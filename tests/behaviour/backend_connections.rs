//! Connections to `http://` backends that are kept for the next request: which ones are, for whom, and for how long.

use crate::support::pages::{
    answer, expect_page, fetch, get, get_with, next_request, page, page_with, post, post_head, to,
    url, visitor,
};
use crate::support::{BOUND, Backend, Client, Pages, Proxy, TempDir, Wire, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Waits until the backend has seen so many connections end that so many are open.
#[track_caller]
fn wait_until_open(pages: &Pages, count: usize) {
    wait_until(&format!("{count} open connections"), BOUND, || {
        pages.open() == count
    });
}

/// Asks `requests` times in turn, each as a client of its own, and says on which connections they came.
#[track_caller]
fn in_turn(proxy: &Proxy, pages: &Pages, requests: usize) -> Vec<usize> {
    let before = pages.seen().len();
    for _ in 0..requests {
        let mut client = Client::sending(proxy, get_with("/", "Connection: close\r\n"));
        answer(&mut client).expect_status(200);
        client.expect_end();
    }
    pages.connections().split_off(before)
}

#[test]
fn a_connection_serves_one_client_after_the_other() {
    let pages = Pages::start();
    let proxy = to(&pages.backend, "");
    assert_eq!(in_turn(&proxy, &pages, 20), [1; 20]);
    for asked in pages.seen() {
        let connection = asked.field("Connection").unwrap();
        assert_eq!(connection, "Keep-Alive", "{}", asked.head);
    }
    // Two at a time need two, and those are enough for all that come later.
    let mut clients = [visitor(&proxy, "/"), visitor(&proxy, "/")];
    for _ in 0..10 {
        clients.iter_mut().for_each(|client| client.send(get("/")));
        for client in &mut clients {
            expect_page(client, "/");
        }
    }
    assert!(pages.backend.count() <= 2, "{:?}", pages.connections());
}

/// What the configuration says, what is asked, and what the backend answers.
#[test]
fn what_speaks_against_it_makes_each_request_a_connection() {
    let unless = |what: &str, directives: &str, parameters: &str, answer: &'static str| {
        let pages = Pages::answering(move |asked| {
            if answer.is_empty() {
                page(asked.path())
            } else {
                answer.to_owned()
            }
        });
        let proxy = Proxy::start(format!(
            "{directives}\nProxyPass / {}/ {parameters}",
            pages.url()
        ));
        let kept = in_turn(&proxy, &pages, 3);
        // Nothing is left open that will not be used.
        if kept == [1, 2, 3] {
            wait_until_open(&pages, 0);
        }
        (what.to_owned(), kept, pages)
    };
    let rule = |variable: &str| format!("RewriteEngine On\nRewriteRule ^ - [E={variable}]");
    let fresh = [1, 2, 3];
    for (what, kept, pages) in [
        unless("disablereuse", "", "disablereuse=On", ""),
        unless("enablereuse", "", "enablereuse=Off", ""),
        unless("nokeepalive", &rule("proxy-nokeepalive:1"), "", ""),
        unless("1.0", &rule("force-proxy-request-1.0:1"), "", ""),
    ] {
        assert_eq!(kept, fresh, "{what}");
        for asked in pages.seen() {
            let said = asked.field("Connection");
            // HTTP/1.0 has no other way.
            assert!(said.is_none_or(|said| said == "close"), "{}", asked.head);
        }
    }
    // That it is asked to stay does not change what holds for later requests.
    for (what, answer) in [
        (
            "close",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            "close among others",
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx",
        ),
        ("1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        (
            "more than there should be",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n",
        ),
    ] {
        let (what, kept, _) = unless(what, "", "", answer);
        assert_eq!(kept, fresh, "{what}");
    }
    for (what, answer) in [
        (
            "1.0 that stays",
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n",
        ),
        (
            "an empty one",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let (what, kept, _) = unless(what, "", "", answer);
        assert_eq!(kept, [1; 3], "{what}");
    }
}

/// Answers that have no body, and those to HEAD, end at once.
#[test]
fn answers_without_a_body_leave_a_connection_that_can_be_used() {
    let pages = Pages::answering(|asked| {
        let status = match asked.path() {
            "/204" => "204 No Content\r\n",
            "/304" => "304 Not Modified\r\nContent-Length: 99\r\n",
            _ => "200 OK\r\nContent-Length: 99\r\n",
        };
        if asked.head.starts_with("HEAD") || asked.path() != "/page" {
            format!("HTTP/1.1 {status}\r\n")
        } else {
            page("/page")
        }
    });
    let proxy = to(&pages.backend, "");
    let mut client = visitor(&proxy, "/page");
    for (request, status) in [
        (get("/204"), 204),
        (get("/304"), 304),
        (get("/page").replace("GET", "HEAD"), 200),
    ] {
        client.send(request);
        client.answer_head().expect_status(status);
        fetch(&mut client, "/page");
    }
    assert_eq!(pages.connections(), [1; 7]);
}

/// A client's first request shall not meet a connection that the backend is just closing; its later ones may.
#[test]
fn the_first_request_of_a_client_may_have_a_connection_of_its_own() {
    let pages = Pages::start();
    let proxy = to(
        &pages.backend,
        "RewriteEngine On\nRewriteRule ^ - [E=proxy-initial-not-pooled:1]",
    );
    let mut first = visitor(&proxy, "/");
    fetch(&mut first, "/");
    let mut second = visitor(&proxy, "/");
    fetch(&mut second, "/");
    fetch(&mut first, "/");
    let connections = pages.connections();
    assert_eq!(connections[..3], [1, 1, 2]);
    assert!(connections[3..].iter().all(|&one| one <= 2));
}

#[test]
fn one_that_is_not_used_is_closed_after_its_time() {
    let pages = Pages::start();
    let proxy = Proxy::start(format!("ProxyPass / {}/ ttl=1", pages.url()));
    fetch(&mut Client::connect(proxy.address()), "/");
    let begun = Instant::now();
    wait_until_open(&pages, 0);
    assert!(begun.elapsed() > Duration::from_millis(800));
    // And is not used when it is over its time, swept or not.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1050));
        fetch(&mut Client::connect(proxy.address()), "/");
    }
    assert_eq!(pages.connections(), [1, 2, 3, 4]);
}

/// As many clients at once as make `count` connections, which are then free.
#[track_caller]
fn at_once(proxy: &Proxy, backend: &Backend, count: usize) -> Vec<Wire> {
    let mut clients: Vec<_> = (0..count)
        .map(|_| Client::sending(proxy, get("/")))
        .collect();
    let mut peers: Vec<_> = (0..count).map(|_| backend.accept()).collect();
    for peer in &mut peers {
        peer.head();
        peer.send(page("done"));
    }
    for client in &mut clients {
        expect_page(client, "done");
    }
    peers
}

/// How many of the connections are still open, once the others have ended.
#[track_caller]
fn wait_until_kept(peers: &mut Vec<Wire>, count: usize) {
    wait_until(&format!("{count} of {}", peers.len()), BOUND, || {
        peers.retain(|peer| {
            let tcp = peer.tcp();
            tcp.set_nonblocking(true).unwrap();
            let is_open = !matches!(tcp.peek(&mut [0]), Ok(0));
            tcp.set_nonblocking(false).unwrap();
            is_open
        });
        assert!(peers.len() >= count, "only {} were kept", peers.len());
        peers.len() == count
    });
}

#[test]
fn no_more_are_kept_than_smax_says() {
    for most in [0, 1, 3] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!("ProxyPass / {}/ smax={most}", url(&backend)));
        let mut peers = at_once(&proxy, &backend, 6);
        wait_until_kept(&mut peers, most);
        // The next request comes over one of those.
        if most > 0 {
            let mut client = Client::sending(&proxy, get("/"));
            let mut asked = None;
            wait_until("the request", BOUND, || {
                asked = peers.iter().position(has_come);
                asked.is_some()
            });
            let peer = &mut peers[asked.unwrap()];
            peer.head();
            peer.send(page("kept"));
            expect_page(&mut client, "kept");
        }
        assert_eq!(backend.count(), 6);
    }
}

fn has_come(peer: &Wire) -> bool {
    let tcp = peer.tcp();
    tcp.set_nonblocking(true).unwrap();
    let has_come = matches!(tcp.peek(&mut [0]), Ok(1));
    tcp.set_nonblocking(false).unwrap();
    has_come
}

/// As many as there are workers could be of use at a time, whatever the number of backends.
#[test]
fn all_backends_together_have_no_more_than_there_are_workers() {
    let backends: Vec<_> = (0..4).map(|_| Pages::start()).collect();
    let lines: String = backends
        .iter()
        .enumerate()
        .map(|(number, pages)| format!("ProxyPass /{number}/ {}/\n", pages.url()))
        .collect();
    let proxy = Proxy::start(format!("MaxRequestWorkers 2\n{lines}"));
    for round in 0..3 {
        for number in 0..4 {
            let path = format!("/{number}/{round}");
            let request = get_with(&path, "Connection: close\r\n");
            let mut client = Client::sending(&proxy, request);
            expect_page(&mut client, &format!("/{round}"));
        }
        wait_until("no more than two to be open", BOUND, || {
            backends.iter().map(Pages::open).sum::<usize>() <= 2
        });
    }
}

#[test]
fn one_that_its_backend_has_closed_is_not_used() {
    let backend = Backend::listen();
    let proxy = to(&backend, "");
    let mut client = Client::sending(&proxy, get("/1"));
    let mut peer = backend.accept();
    for number in 1..=20 {
        peer.head();
        peer.send(page("kept"));
        expect_page(&mut client, "kept");
        if number % 2 == 0 {
            peer.finish();
        } else {
            // Nor one that says something that nobody asked for.
            peer.send("HTTP/1.1 408 Too slow\r\nConnection: close\r\n\r\n");
        }
        // A POST would be sent over it once at most.
        client.send(post("/2", b"body"));
        let next = backend.accept();
        let old = std::mem::replace(&mut peer, next);
        drop(old);
    }
    let (head, body) = next_request(&mut peer).unwrap();
    assert!(head.starts_with("POST /2 "));
    assert_eq!(body, b"body");
}

/// A backend that closes each kept connection when it has read the next request, unanswered.
fn closing_on_the_second() -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let backend = Backend::serve(move |mut wire| {
        for turn in 1.. {
            let Some((head, _)) = next_request(&mut wire) else {
                return;
            };
            count.fetch_add(1, Ordering::SeqCst);
            if turn == 2 {
                return;
            }
            let name = head.split(' ').next().unwrap_or_default();
            wire.send(if name == "HEAD" {
                "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
            } else {
                page(name)
            });
        }
    });
    (backend, asked)
}

#[test]
fn what_may_be_asked_twice_is_asked_again_where_a_kept_connection_ends_without_a_word() {
    let (backend, asked) = closing_on_the_second();
    let proxy = to(&backend, "TraceEnable On");
    for method in ["GET", "OPTIONS", "PUT", "DELETE", "TRACE"] {
        let before = (backend.count(), asked.load(Ordering::SeqCst));
        let mut client = Client::connect(proxy.address());
        let request = get("/").replace("GET", method);
        client.send(&request);
        expect_page(&mut client, method);
        client.send(&request);
        expect_page(&mut client, method);
        // The kept connection is the one of the last method but the first time.
        let now = (backend.count(), asked.load(Ordering::SeqCst));
        assert!(now.0 - before.0 <= 2 && now.1 - before.1 >= 3, "{method}");
    }
    assert!(proxy.log_lines("WARN").is_empty(), "{:#?}", proxy.log());
}

#[test]
fn what_may_have_been_done_is_not_asked_for_again() {
    for request in [
        post("/", b"order"),
        post_head("/", 0).into_bytes(),
        get("/").replace("GET", "PATCH").into_bytes(),
        get("/").replace("GET", "BREW").into_bytes(),
        // Its body has gone with the connection.
        String::from_utf8(post("/", b"order"))
            .unwrap()
            .replace("POST", "PUT")
            .into_bytes(),
        post("/", &[b'x'; 100_000]),
    ] {
        let (backend, asked) = closing_on_the_second();
        let proxy = to(&backend, "");
        let mut client = visitor_of(&proxy);
        client.send(&request);
        answer(&mut client).expect_status(502);
        assert_eq!((backend.count(), asked.load(Ordering::SeqCst)), (1, 2));
        let line = proxy.wait_for_log("the kept connection was closed");
        assert!(line.contains("answer: "), "{line}");
        // 502 does not end the client's connection.
        client.send(get("/"));
        expect_page(&mut client, "GET");
    }
}

/// A client that has been served once.
#[track_caller]
fn visitor_of(proxy: &Proxy) -> Client {
    let mut client = Client::sending(proxy, get("/"));
    expect_page(&mut client, "GET");
    client
}

/// Where the backend does so with every connection, even fresh ones, somebody has to say so.
#[test]
fn it_is_asked_again_only_once_and_only_for_a_kept_connection() {
    let count = Arc::<AtomicUsize>::default();
    let asked = Arc::clone(&count);
    let backend = Backend::serve(move |mut wire| {
        if next_request(&mut wire).is_some() && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            wire.send(page("GET"));
            if next_request(&mut wire).is_some() {
                asked.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let proxy = to(&backend, "");
    let mut client = visitor_of(&proxy);
    client.send(get("/"));
    answer(&mut client).expect_status(502);
    assert_eq!(count.load(Ordering::SeqCst), 3, "kept, and once more");
    client.send(get("/"));
    answer(&mut client).expect_status(502);
    assert_eq!(count.load(Ordering::SeqCst), 4, "a fresh one is asked once");
}

/// A part of an answer is an answer.
#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    for begin in ["HTTP/1.1 2", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let backend = Backend::listen();
        let proxy = to(&backend, "");
        let mut client = Client::sending(&proxy, get("/"));
        let mut peer = backend.accept();
        peer.head();
        peer.send(page("GET"));
        expect_page(&mut client, "GET");
        client.send(get("/"));
        peer.head();
        peer.send(begin);
        if begin.contains("103") {
            client.answer_head().expect_status(103);
        }
        drop(peer);
        answer(&mut client).expect_status(502);
        assert_eq!(backend.count(), 1);
    }
}

/// Whether the backend closes at once or much later, when no worker is left that would look: our end is closed as well.
#[test]
fn our_end_of_a_connection_that_its_backend_has_closed_is_closed() {
    let backend = Backend::listen();
    let proxy = to(&backend, "");
    let before = proxy.connections();
    let mut peers = at_once(&proxy, &backend, 5);
    for peer in &mut peers[..3] {
        peer.finish();
    }
    for peer in &mut peers[..3] {
        peer.expect_end();
    }
    wait_until("the workers to have gone home", BOUND, || {
        let names = proxy.thread_names();
        !names.iter().any(|name| name.starts_with("worker"))
    });
    for peer in &mut peers[3..] {
        peer.finish();
    }
    for peer in &mut peers[3..] {
        peer.expect_end();
    }
    wait_until("no socket to be left", BOUND, || {
        proxy.connections() == before
    });
}

/// Each mapping has its own parameters, and each virtual host its own idea of whom to trust.
#[test]
fn mappings_and_hosts_do_not_share_connections() {
    let pages = Pages::start();
    let url = pages.url();
    let proxy = Proxy::start(format!(
        "<VirtualHost *:*>\nServerName one.example\nProxyPass /a/ {url}/\nProxyPass /b/ {url}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nProxyPass /a/ {url}/\n</VirtualHost>"
    ));
    let mut client = Client::connect(proxy.address());
    for _ in 0..2 {
        for (host, path) in [
            ("one.example", "/a/"),
            ("one.example", "/b/"),
            ("two.example", "/a/"),
        ] {
            client.send(get(path).replace("front.example", host));
            expect_page(&mut client, "/");
        }
    }
    assert_eq!(pages.connections(), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn connections_to_a_unix_socket_are_kept() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let pages = Pages::with(
        |script| Backend::serve_unix(&path, script),
        |asked| page(asked.path()),
    );
    let proxy = Proxy::start(format!(
        "ProxyPass / unix:{}|http://localhost/",
        path.display()
    ));
    for _ in 0..10 {
        visitor(&proxy, "/");
    }
    assert_eq!(pages.connections(), [1; 10]);
}

/// The turn is given back when the answer is in our hands, whatever the client makes of it.
#[test]
fn a_turn_lasts_as_long_as_an_exchange() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass / {}/ max=1 acquire=10000",
        url(&backend)
    ));
    let mut first = Client::sending(&proxy, get("/1"));
    let mut peer = backend.accept();
    assert!(peer.head().starts_with("GET /1 "));
    let mut second = Client::sending(&proxy, get("/2"));
    second.expect_quiet(Duration::from_millis(100));
    // The head alone is not the answer.
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    first.answer_head();
    second.expect_quiet(Duration::from_millis(100));
    peer.send("lf");
    // On the connection that the first has used, since that is free before the turn is.
    assert!(peer.head().starts_with("GET /2 "));
    peer.send(page("second"));
    expect_page(&mut second, "second");
    first.expect("half");
    assert_eq!(backend.count(), 1);
    // One that fails gives it back as well, and so does one whose client has gone.
    for number in 0..5 {
        let mut gone = Client::sending(&proxy, get("/3"));
        peer.head();
        if number % 2 == 0 {
            gone.tcp().set_nonblocking(true).unwrap();
            gone.reset();
            peer.send(page("nobody"));
        } else {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            drop(peer);
            gone.rest();
            let mut next = Client::sending(&proxy, get("/4"));
            peer = backend.accept();
            peer.head();
            peer.send(page("next"));
            expect_page(&mut next, "next");
        }
    }
}

#[test]
fn who_gets_no_turn_in_time_is_told_so() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / {}/ max=1 acquire=200", url(&backend)));
    let mut first = Client::sending(&proxy, get("/1"));
    let mut peer = backend.accept();
    peer.head();
    let begun = Instant::now();
    let mut second = Client::sending(&proxy, get("/2"));
    second.answer().expect_status(503);
    assert!(begun.elapsed() >= Duration::from_millis(180));
    proxy.wait_for_log("acquire: ");
    peer.send(page("first"));
    expect_page(&mut first, "first");
    fetch_over(&mut peer, &proxy);
}

#[track_caller]
fn fetch_over(peer: &mut Wire, proxy: &Proxy) {
    let mut client = Client::sending(proxy, get("/"));
    peer.head();
    peer.send(page("again"));
    expect_page(&mut client, "again");
}

/// `ping=`: the backend has to show that it is there before it gets a body.
#[test]
fn a_backend_that_does_not_answer_a_ping_gets_no_body() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / {}/ ping=300ms", url(&backend)));
    // Without a body nothing is asked.
    let mut client = Client::sending(&proxy, get("/"));
    let mut peer = backend.accept();
    assert!(!peer.head().contains("Expect"));
    peer.send(page("here"));
    expect_page(&mut client, "here");
    client.send(post("/", b"body"));
    assert!(peer.head().contains("Expect: 100-continue\r\n"));
    peer.expect_quiet(Duration::from_millis(100));
    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    peer.expect("body");
    peer.send(page("taken"));
    expect_page(&mut client, "taken");
    client.send(post("/", b"body"));
    peer.head();
    client.answer_head().expect_status(503);
    peer.expect_end();
}

#[cfg(feature = "tls")]
mod tls {
    use super::{in_turn, wait_until_open};
    use crate::support::certs::Identity;
    use crate::support::pages::{answer, expect_page, get, page, visitor};
    use crate::support::{Backend, Certs, Client, Pages, Proxy, TempDir, Wire};

    fn serving(identity: &Identity) -> Pages {
        let acceptor = identity.acceptor();
        Pages::with(
            |script| {
                Backend::serve_tcp(move |tcp| {
                    if let Ok(tls) = acceptor.accept(tcp) {
                        script(Wire::new_tls(tls));
                    }
                })
            },
            |asked| page(asked.path()),
        )
    }

    #[track_caller]
    fn start(certs: &Certs, config: &str) -> Proxy {
        let directory = TempDir::new();
        directory.write("ca.pem", certs.pem());
        directory.write("other.pem", Certs::new().pem());
        let config = format!("SSLProxyEngine On\nSSLProxyCACertificateFile ca.pem\n{config}");
        Proxy::start_in(directory, config, "")
    }

    /// The tickets of TLS 1.3 that come behind the handshake are no answer that nobody asked for.
    #[test]
    fn connections_in_tls_are_kept() {
        let certs = Certs::new();
        let pages = serving(&certs.server("localhost"));
        let port = pages.backend.port();
        let proxy = start(
            &certs,
            &format!("ProxyPass / https://localhost:{port}/ ttl=1"),
        );
        assert_eq!(in_turn(&proxy, &pages, 10), [1; 10]);
        wait_until_open(&pages, 0);
    }

    /// The name in the certificate is that of the client's `Host`: a connection was verified for one name alone.
    #[test]
    fn a_connection_that_was_made_for_one_name_is_not_used_for_another() {
        let certs = Certs::new();
        let names = ["localhost", "other.example"];
        let pages = serving(&certs.server("localhost"));
        let port = pages.backend.port();
        let proxy = start(
            &certs,
            &format!("ProxyPreserveHost On\nProxyPass / https://localhost:{port}/"),
        );
        let mut client = Client::connect(proxy.address());
        for (name, status) in [
            (names[0], 200),
            (names[1], 502),
            (names[0], 200),
            ("LOCALHOST", 200),
        ] {
            client.send(get("/").replace("front.example", name));
            let answer = answer(&mut client);
            assert_eq!(answer.status, status, "{name}");
        }
        assert_eq!(pages.connections()[..2], [1, 1]);
    }

    /// One host trusts the backend, another does not, and does not get what the first has opened.
    #[test]
    fn a_host_that_does_not_trust_a_backend_gets_no_connection_of_one_that_does() {
        let certs = Certs::new();
        let pages = serving(&certs.server("localhost"));
        let port = pages.backend.port();
        let proxy = start(
            &certs,
            &format!(
                "<VirtualHost *:*>\nServerName front.example\nSSLProxyEngine On\nProxyPass / https://localhost:{port}/\n</VirtualHost>\n\
                 <VirtualHost *:*>\nServerName strict.example\nSSLProxyEngine On\nSSLProxyCACertificateFile other.pem\n\
                 ProxyPass / https://localhost:{port}/\n</VirtualHost>"
            ),
        );
        let mut client = visitor(&proxy, "/");
        client.send(get("/").replace("front.example", "strict.example"));
        answer(&mut client).expect_status(502);
        assert_eq!(pages.connections(), [1]);
    }

    #[test]
    fn one_that_is_cut_without_a_word_of_tls_is_not_used() {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let port = backend.port();
        let proxy = start(&certs, &format!("ProxyPass / https://localhost:{port}/"));
        let mut client = Client::connect(proxy.address());
        for is_cut in [false, true, false, true] {
            client.send(get("/"));
            let mut peer = backend.accept_tls(&identity);
            peer.head();
            peer.send(page("kept"));
            expect_page(&mut client, "kept");
            client.send(get("/"));
            peer.head();
            peer.send(page("kept"));
            expect_page(&mut client, "kept");
            if is_cut {
                peer.tcp().shutdown(std::net::Shutdown::Write).unwrap();
            } else {
                peer.finish();
            }
        }
    }

    /// A body that ends with its connection has to end with a close_notify: a cut is no end.
    #[test]
    fn an_answer_without_a_length_that_is_cut_is_cut_for_the_client() {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let port = backend.port();
        let proxy = start(&certs, &format!("ProxyPass / https://localhost:{port}/"));
        for is_cut in [false, true] {
            let mut client = Client::sending(&proxy, get("/"));
            let mut peer = backend.accept_tls(&identity);
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\n\r\nbody");
            if is_cut {
                peer.tcp().shutdown(std::net::Shutdown::Write).unwrap();
            } else {
                peer.finish();
            }
            if is_cut {
                client.answer_head().expect_status(200);
                let (rest, _) = client.rest();
                assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
            } else {
                expect_page(&mut client, "body");
            }
        }
    }
}

/// A page for each, whoever was there before: what one backend's connection carried is not another's answer.
#[test]
fn every_client_gets_its_own_answer() {
    let pages = Pages::answering(|asked| page_with("X-Own: 1\r\n", asked.path()));
    let proxy = to(&pages.backend, "MaxKeepAliveRequests 0");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut client = Client::connect(proxy.address());
                for number in 0..150 {
                    fetch(&mut client, &format!("/{thread}/{number}"));
                    // Some leave in the midst of theirs.
                    if number % 10 == 0 {
                        client.send(get("/left"));
                        client = Client::connect(proxy.address());
                    }
                }
            });
        }
    });
}
