//! Health checks of the members of balancers: what they are asked, who passes, and what comes of it.

use crate::support::backend::{echo, nobody};
use crate::support::client::{ACCEPT, request};
use crate::support::wire::{End, Wire, field};
use crate::support::{BOUND, Backend, Client, Proxy, TempDir, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tungstenite::Message;

/// What checks begin with, and no request of a client.
const AGENT: &str = "User-Agent: proxy-wstunnel (health check)\r\n";

/// A proxy that has `/` mapped to a balancer of these lines. It says of each check what came of it.
#[track_caller]
fn start(members: &[String], directives: &str) -> Proxy {
    Proxy::start(configured(members, directives))
}

fn configured(members: &[String], directives: &str) -> String {
    let members: String = members
        .iter()
        .map(|member| format!("BalancerMember {member}\n"))
        .collect();
    format!(
        "LogLevel debug\n{directives}\n<Proxy \"balancer://set\">\n{members}</Proxy>\n\
         ProxyPass \"/\" \"balancer://set/\"\n"
    )
}

/// A WebSocket backend that echoes to clients while it is well, and at other times ends each connection.
struct Moody {
    backend: Backend,
    is_well: Arc<AtomicBool>,
    clients: Arc<AtomicUsize>,
}

impl Moody {
    fn new() -> Self {
        let is_well = Arc::new(AtomicBool::new(true));
        let clients = Arc::<AtomicUsize>::default();
        let (mood, count) = (Arc::clone(&is_well), Arc::clone(&clients));
        let backend = Backend::serve(move |mut wire| {
            let Ok(head) = wire.try_head() else { return };
            let is_client = !head.contains(AGENT);
            count.fetch_add(usize::from(is_client), Ordering::SeqCst);
            if mood.load(Ordering::SeqCst) {
                wire.put_back(head.as_bytes());
                echo(wire);
            }
        });
        Self {
            backend,
            is_well,
            clients,
        }
    }

    /// From now on.
    fn is(&self, well: bool) {
        self.is_well.store(well, Ordering::SeqCst);
    }

    /// How many clients have come to it.
    fn clients(&self) -> usize {
        self.clients.load(Ordering::SeqCst)
    }
}

/// The line about a member that has become unhealthy.
#[track_caller]
fn unhealthy(proxy: &Proxy, url: &str) -> String {
    proxy.wait_for_log(&format!("PW418 balancer://set: {url}: unhealthy: "))
}

/// The line about a member that is healthy again.
#[track_caller]
fn healthy(proxy: &Proxy, url: &str) -> String {
    proxy.wait_for_log(&format!("PW419 balancer://set: {url}: healthy again: "))
}

#[test]
fn a_member_that_does_not_answer_is_taken_out_and_comes_back_and_no_client_ever_meets_it() {
    let (moody, other) = (Moody::new(), Moody::new());
    let often = "hcmethod=WS hcinterval=100ms hcfails=2 hcpasses=3";
    let url = moody.backend.url();
    let members = [
        format!("{url} {often}"),
        format!("{} {often}", other.backend.url()),
    ];
    let proxy = start(&members, "");
    for _ in 0..2 {
        Client::tunnel(&proxy, "/").echo("hello");
    }
    assert_eq!((moody.clients(), other.clients()), (1, 1));

    let mut open = Client::tunnel(&proxy, "/");
    let at_moody = moody.clients() == 2;
    moody.is(false);
    let line = unhealthy(&proxy, &url);
    assert!(line.contains("[WARN]"), "{line}");
    assert!(
        line.contains("health check WS: answer: closed before it was complete; "),
        "{line}"
    );
    let met = moody.clients();
    for _ in 0..6 {
        Client::tunnel(&proxy, "/").echo("hello");
    }
    assert_eq!(moody.clients(), met, "a client has met it");
    assert_eq!(other.clients(), 7 + usize::from(!at_moody));
    open.echo("its tunnels go on");

    moody.is(true);
    healthy(&proxy, &url);
    for _ in 0..4 {
        Client::tunnel(&proxy, "/").echo("hello");
    }
    assert!(moody.clients() >= met + 2, "it gets its share again");

    // Two in a row it took to go, and three to come back.
    let log = proxy.log();
    let place = |text: &str| log.iter().position(|line| line.contains(text)).unwrap();
    let (out, back) = (place("PW418"), place("PW419"));
    let count = |lines: &[String], what: &str| {
        let text = format!("{url}: health check WS: {what}");
        lines.iter().filter(|line| line.contains(&text)).count()
    };
    assert_eq!(count(&log[..out], "failed"), 2);
    let after = log[out..back]
        .iter()
        .rev()
        .take_while(|line| !line.contains(&format!("{url}: health check WS: failed")));
    let after: Vec<String> = after.cloned().collect();
    assert_eq!(count(&after, "passed"), 3);
    assert!(proxy.log_lines("is set aside").is_empty(), "{log:#?}");
}

/// A backend that gives this answer to everybody, and hands over the heads that it was sent.
fn telling(answer: &'static str) -> (Backend, Receiver<String>) {
    let (sender, heads) = channel();
    let backend = Backend::serve(move |mut wire| {
        if let Ok(head) = wire.try_head() {
            drop(sender.send(head));
            if wire.send_if_taken(answer) {
                wire.finish();
                wire.rest();
            }
        }
    });
    (backend, heads)
}

#[test]
fn each_method_asks_in_its_own_way() {
    const GOOD: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    for (method, more, line, rest) in [
        ("HEAD", "", "HEAD /base HTTP/1.0", ""),
        (
            "GET",
            "hcuri=/up?deep=1",
            "GET /base/up?deep=1 HTTP/1.0",
            "",
        ),
        ("OPTIONS", "", "OPTIONS * HTTP/1.0", ""),
        ("OPTIONS", "hcuri=up", "OPTIONS /base/up HTTP/1.0", ""),
        ("get11", "", "GET /base HTTP/1.1", "Connection: close\r\n"),
    ] {
        let (backend, heads) = telling(GOOD);
        let url = format!("http://{}/base", backend.address());
        let proxy = start(&[format!("{url} hcmethod={method} {more}")], "");
        let expected = format!("{line}\r\nHost: {}\r\n{AGENT}{rest}\r\n", backend.address());
        assert_eq!(heads.recv_timeout(BOUND).unwrap(), expected);
        let method = method.to_uppercase();
        proxy.wait_for_log(&format!(
            "balancer://set: {url}: health check {method}: passed"
        ));
    }
}

#[test]
fn statuses_from_200_to_399_pass() {
    for (answer, problem) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            None,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            None,
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", Some("it answered 404")),
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
            Some("it answered 500"),
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Some("it answered 101, which nobody asked for"),
        ),
        (
            "220 mail.example ESMTP\r\n",
            Some("answer: the status line is not"),
        ),
    ] {
        let (backend, _heads) = telling(answer);
        let url = format!("http://{}", backend.address());
        let proxy = start(&[format!("{url} hcmethod=GET hcuri=/health")], "");
        match problem {
            None => {
                proxy.wait_for_log("health check GET: passed");
            }
            Some(problem) => {
                let line = unhealthy(&proxy, &url);
                assert!(
                    line.contains(&format!("health check GET: {problem}")),
                    "{line}"
                );
                let mut client = Client::sending(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                client.answer_head().expect_status(503);
            }
        }
    }
}

#[test]
fn tcp_asks_for_a_connection_and_no_more() {
    let backend = Backend::listen();
    let gone = nobody();
    let members = [
        format!("{} hcmethod=TCP", backend.url()),
        format!("ws://{gone} hcmethod=TCP"),
    ];
    let proxy = start(&members, "");
    backend.accept().expect_end();
    proxy.wait_for_log(&format!("{}: health check TCP: passed", backend.url()));
    let line = unhealthy(&proxy, &format!("ws://{gone}"));
    assert!(
        line.contains("health check TCP: connect: Connection refused"),
        "{line}"
    );
}

#[test]
fn a_member_that_comes_to_life_is_found() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let member = format!(
        "unix:{}|ws://localhost hcmethod=WS hcinterval=100ms",
        path.display()
    );
    let proxy = start(&[member], "");
    let line = proxy.wait_for_log("PW418 ");
    assert!(line.contains("connect: No such file"), "{line}");
    Client::asking(&proxy, "/").answer_head().expect_status(503);
    let _backend = Backend::echo_unix(&path);
    proxy.wait_for_log("PW419 ");
    Client::tunnel(&proxy, "/").echo("hello");
}

/// How a WebSocket server has seen a connection end.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// The status of the Close that came.
    code: Option<u16>,
    end: End,
}

/// A WebSocket server that says something first, and tells the key of each handshake, and how the connection has ended.
fn witness(
    wire: impl Fn(std::net::TcpStream) -> Option<Wire> + Send + Sync + 'static,
) -> (Backend, Receiver<(String, Seen)>) {
    let (sender, seen) = channel();
    let backend = Backend::serve_tcp(move |tcp| {
        let Some(mut wire) = wire(tcp) else { return };
        let head = wire.head();
        let key = field(&head, "Sec-WebSocket-Key").unwrap();
        wire.put_back(head.as_bytes());
        let mut socket = tungstenite::accept(wire).unwrap();
        socket.send(Message::text("welcome")).unwrap();
        let mut code = None;
        while let Ok(message) = socket.read() {
            if let Message::Close(close) = message {
                code = close.map(|close| close.code.into());
            }
        }
        socket.get_mut().finish();
        let (_, end) = socket.get_mut().rest();
        drop(sender.send((key, Seen { code, end })));
    });
    (backend, seen)
}

const IN_ORDER: Seen = Seen {
    code: Some(1000),
    end: End::Orderly,
};

#[test]
fn a_websocket_is_opened_with_a_key_of_its_own_and_closed_in_order() {
    let (backend, seen) = witness(|tcp| Some(Wire::new(tcp)));
    let member = format!("{} hcmethod=WS hcinterval=100ms", backend.url());
    let proxy = start(&[member], "");
    let (first, end) = seen.recv_timeout(BOUND).unwrap();
    assert_eq!(end, IN_ORDER);
    let (second, end) = seen.recv_timeout(BOUND).unwrap();
    assert_eq!(end, IN_ORDER);
    assert_ne!(first, second);
    assert!(proxy.log_lines("failed").is_empty());
}

#[test]
fn who_does_not_speak_websocket_fails_its_check() {
    let (page, _heads) = telling("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    let wrong = Backend::answering(switch);
    let members = [&page, &wrong].map(|backend| format!("{} hcmethod=WS", backend.url()));
    let proxy = start(&members, "");
    let line = unhealthy(&proxy, &page.url());
    assert!(
        line.contains("health check WS: it answered 200, and 101 was asked for; "),
        "{line}"
    );
    let line = unhealthy(&proxy, &wrong.url());
    assert!(line.contains("belongs to the key"), "{line}");
    let counts = [page.count(), wrong.count()];
    Client::asking(&proxy, "/").answer_head().expect_status(503);
    assert_eq!(
        [page.count(), wrong.count()],
        counts,
        "the client has met a member"
    );
}

#[cfg(feature = "tls")]
#[test]
fn members_in_tls_are_checked_in_tls_and_held_to_their_certificates() {
    use crate::support::Certs;
    use crate::support::certs::Identity;

    let certs = Certs::new();
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let acceptor = certs.server("localhost").acceptor();
    let (good, seen) = witness(move |tcp| Some(Wire::new_tls(acceptor.accept(tcp).ok()?)));
    let bad = Backend::echo_tls(&Identity::self_signed("localhost"));
    let [good_url, bad_url] = [&good, &bad].map(|it| format!("wss://localhost:{}", it.port()));
    let members = [&good_url, &bad_url].map(|url| format!("{url} hcmethod=WS hcinterval=1s"));
    let lenient = Backend::echo_tls(&Identity::self_signed("localhost"));
    let lenient_url = format!("wss://localhost:{}", lenient.port());
    let config = configured(&members, "SSLProxyCACertificateFile ca.pem");
    let config = format!(
        "{config}<Proxy balancer://lenient>\nBalancerMember {lenient_url} hcmethod=WS hcinterval=1s\n\
         SSLProxyVerify none\n</Proxy>\nProxyPass /lenient balancer://lenient\n"
    );
    let proxy = Proxy::start_in(directory, config, "");
    proxy.wait_for_log(&format!("{lenient_url}: health check WS: passed"));
    assert_eq!(seen.recv_timeout(BOUND).unwrap().1, IN_ORDER);
    let line = unhealthy(&proxy, &bad_url);
    assert!(line.contains("health check WS: tls: "), "{line}");
    assert!(
        proxy
            .log_lines(&format!("{good_url}: unhealthy"))
            .is_empty()
    );
}

#[test]
fn a_member_that_hangs_keeps_no_other_waiting() {
    let hanging = Backend::listen();
    let good = Moody::new();
    let members = [
        format!("{} hcmethod=GET hcinterval=100ms", hanging.url()),
        format!("{} hcmethod=WS hcinterval=100ms", good.backend.url()),
    ];
    let proxy = start(&members, "");
    let _held = hanging.accept();
    let before = good.backend.count();
    // An interval this short leaves a second to answer.
    let line = unhealthy(&proxy, &hanging.url());
    assert!(
        line.contains("health check GET: answer: timed out"),
        "{line}"
    );
    let meanwhile = good.backend.count() - before;
    assert!(
        meanwhile >= 3,
        "{meanwhile} checks in a second, one each 100 ms"
    );
}

#[test]
fn a_check_that_goes_on_does_not_keep_the_server_from_stopping() {
    let hanging = Backend::listen();
    let members: Vec<String> = ["GET", "WS"]
        .iter()
        .map(|method| {
            format!(
                "{}/{method} hcmethod={method} hcinterval=1h timeout=1h",
                hanging.url()
            )
        })
        .collect();
    let mut proxy = start(&members, "");
    let _held = [hanging.accept(), hanging.accept()];
    let begun = Instant::now();
    proxy.stop();
    assert!(begun.elapsed() < BOUND / 4, "{:?}", begun.elapsed());
    assert!(proxy.log_lines("unhealthy").is_empty());
}

#[test]
fn the_time_of_a_check_is_that_of_the_member() {
    let hanging = Backend::listen();
    let member = format!(
        "{} hcmethod=HEAD timeout=200ms hcinterval=1h",
        hanging.url()
    );
    let proxy = start(&[member], "");
    let _held = hanging.accept();
    let begun = Instant::now();
    unhealthy(&proxy, &hanging.url());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn who_is_disabled_or_draining_is_checked_and_who_is_stopped_is_not() {
    let [disabled, draining, stopped] = [(); 3].map(|()| Backend::listen());
    let member = |backend: &Backend, letter: &str| {
        format!(
            "{} status=+{letter} hcmethod=TCP hcinterval=100ms",
            backend.url()
        )
    };
    let members = [
        member(&stopped, "S"),
        member(&disabled, "D"),
        member(&draining, "N"),
    ];
    let _proxy = start(&members, "ProxyHCTPsize 1");
    for _ in 0..3 {
        disabled.accept().expect_end();
        draining.accept().expect_end();
    }
    stopped.expect_untouched();
}

#[test]
fn there_are_as_many_threads_as_members_and_no_more_than_they_may_be() {
    let backend = Backend::listen();
    for (methods, directives, expected) in [
        (&["NONE"][..], "", 0),
        (&["TCP", "NONE"], "", 1),
        (&["TCP", "TCP", "TCP"], "", 3),
        (&["TCP", "TCP", "TCP"], "ProxyHCTPsize 2", 2),
        (&["TCP", "TCP", "TCP"], "ProxyHCTPsize 0", 1),
    ] {
        let members = methods.iter().enumerate();
        let member = |(n, method)| format!("{}/{n} hcmethod={method}", backend.url());
        let members: Vec<String> = members.map(member).collect();
        let proxy = start(&members, directives);
        // A thread gives itself its name.
        proxy.settle();
        let names = proxy.thread_names();
        let count = names
            .iter()
            .filter(|name| name.starts_with("health"))
            .count();
        assert_eq!(count, expected, "{members:?} {directives}: {names:?}");
    }
}

#[test]
fn a_template_says_how_and_the_line_more() {
    let (backend, heads) = telling("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    let url = format!("http://{}", backend.address());
    let template = "ProxyHCTemplate strict hcmethod=GET hcuri=/t hcinterval=100ms hcfails=50";
    let proxy = start(&[format!("{url} hctemplate=Strict hcfails=2")], template);
    let head = heads.recv_timeout(BOUND).unwrap();
    assert!(head.starts_with("GET /t HTTP/1.0\r\n"), "{head}");
    unhealthy(&proxy, &url);
    assert!(backend.count() >= 2);
}

#[test]
fn a_balancer_that_several_hosts_use_is_checked_once() {
    let backend = Backend::listen();
    let member = format!("{} hcmethod=TCP hcinterval=1h", backend.url());
    let host = "<VirtualHost *>\nServerName b.example\nProxyPass \"/b/\" \"balancer://set/\"\n</VirtualHost>";
    let proxy = start(
        &[member],
        &format!("ProxyPass \"/a/\" \"balancer://set/\"\n{host}"),
    );
    backend.accept().expect_end();
    proxy.wait_for_log("health check TCP: passed");
    backend.expect_untouched();
}

#[test]
fn one_that_is_unhealthy_keeps_no_session() {
    let (moody, other) = (Moody::new(), Moody::new());
    let members = [
        format!(
            "{} route=a hcmethod=WS hcinterval=100ms",
            moody.backend.url()
        ),
        format!("{} route=b", other.backend.url()),
    ];
    let sticky = "<Proxy \"balancer://set\">\nProxySet stickysession=ROUTE\n</Proxy>";
    let proxy = start(&members, sticky);
    let of_a = || {
        let asking = request("/").replace("\r\n\r\n", "\r\nCookie: ROUTE=x.a\r\n\r\n");
        let mut client = Client::sending(&proxy, asking);
        client.switched();
        client.echo("hello");
    };
    of_a();
    assert_eq!((moody.clients(), other.clients()), (1, 0));
    moody.is(false);
    unhealthy(&proxy, &moody.backend.url());
    of_a();
    assert_eq!((moody.clients(), other.clients()), (1, 1));
    moody.is(true);
    healthy(&proxy, &moody.backend.url());
    wait_until("the session to come back", BOUND, || {
        of_a();
        moody.clients() == 2
    });
}
