//! How many tunnels there may be, how fast they may come, and how old they may get.

use crate::support::client::{frame, request, request_with, switch};
use crate::support::pages::get;
use crate::support::proxy::{check, run};
use crate::support::wire::Answer;
use crate::support::{
    BOUND, Backend, Client, Mode, Pages, Port, Proxy, TempDir, both_ends, each_mode, logging,
    wait_until,
};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

/// A proxy in this mode that leads `/ws/` to `backend`.
#[track_caller]
fn start(mode: Mode, backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!(
        "{}\n{directives}\nProxyPass /ws/ {}/\n",
        mode.directives(),
        backend.url()
    ))
}

/// The answer to whom the proxy takes for a client at `address`: it speaks the PROXY protocol.
#[track_caller]
fn ask_from(proxy: &Proxy, address: &str, request: &str) -> (Client, Answer) {
    let family = if address.contains(':') {
        "TCP6"
    } else {
        "TCP4"
    };
    let ours = if family == "TCP6" {
        "2001:db8::ffff"
    } else {
        "198.51.100.1"
    };
    let mut client = Client::sending(
        proxy,
        format!("PROXY {family} {address} {ours} 50000 80\r\n{request}"),
    );
    let answer = client.answer_head();
    (client, answer)
}

#[track_caller]
fn ask(proxy: &Proxy, request: &str) -> (Client, Answer) {
    let mut client = Client::sending(proxy, request);
    let answer = client.answer_head();
    (client, answer)
}

/// Fails unless this is a refusal with all that the client has to know.
#[track_caller]
fn expect_refusal((mut client, answer): (Client, Answer), status: u16, id: &str) {
    let answer = answer.expect_status(status);
    let wait: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
    assert!(wait > 0, "a client that comes back at once");
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    let body = String::from_utf8(client.rest().0).unwrap();
    assert!(body.ends_with(&format!("[{id}]\n")), "{body}");
}

/// Asks until there is room again: the end of a tunnel is told to its ends before everybody else.
#[track_caller]
fn ask_until_let_in(mut ask: impl FnMut() -> (Client, Answer)) -> Client {
    let mut inside = None;
    wait_until("room for a tunnel", BOUND, || {
        let (client, answer) = ask();
        inside = (answer.status == 101).then_some(client);
        inside.is_some()
    });
    inside.unwrap()
}

each_mode! {
    fn there_are_never_more_tunnels_than_may_be_in_all(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(mode, &backend, "ProxyWebsocketMaxTunnels 3");
        let ask = || ask(&proxy, &request("/ws/"));
        let mut inside: Vec<_> = (0..3).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        for _ in 0..3 {
            expect_refusal(ask(), 503, "PW303");
        }
        inside.pop();
        inside.push(ask_until_let_in(ask));
        expect_refusal(ask(), 503, "PW303");
        for client in &mut inside {
            client.echo("still here");
        }
    }

    fn an_address_has_no_more_tunnels_than_it_may(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(
            mode,
            &backend,
            "ProxyWebsocketMaxTunnelsPerAddress 2\nRemoteIPProxyProtocol On",
        );
        let from = |address: &str| ask_from(&proxy, address, &request("/ws/"));
        for same in [
            ["192.0.2.1", "192.0.2.1", "192.0.2.1"],
            ["::ffff:192.0.2.2", "192.0.2.2", "::ffff:192.0.2.2"],
            ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2:a:b:c:d"],
        ] {
            let [first, second, third] = same;
            let mut inside: Vec<_> = [first, second].map(from).into();
            for (_, answer) in &inside {
                assert_eq!(answer.status, 101);
            }
            expect_refusal(from(third), 429, "PW306");
            // Nobody else is concerned.
            for other in ["192.0.2.77", "2001:db8:1:3::1"] {
                assert_eq!(from(other).1.status, 101, "{other}");
            }
            inside.pop();
            ask_until_let_in(|| from(third));
        }
    }

    fn the_address_is_the_one_that_a_trusted_proxy_names(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(
            mode,
            &backend,
            "ProxyWebsocketMaxTunnelsPerAddress 1\nRemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1",
        );
        let from = |address: &str| {
            ask(&proxy, &request_with("/ws/", &format!("X-Client: {address}\r\n")))
        };
        let inside = ["192.0.2.1", "192.0.2.2"].map(from);
        for (_, answer) in &inside {
            assert_eq!(answer.status, 101);
        }
        expect_refusal(from("192.0.2.1"), 429, "PW306");
        expect_refusal(from("192.0.2.2"), 429, "PW306");
    }

    fn each_host_has_its_own_bound_and_its_own_count(mode: Mode) {
        let backend = Backend::echo();
        let url = backend.url();
        let host = |name: &str, more: &str| {
            format!("<VirtualHost *:*>\nServerName {name}\n{more}\nProxyPass /ws/ {url}/\n</VirtualHost>\n")
        };
        let proxy = Proxy::start(format!(
            "{}\nProxyWebsocketMaxTunnelsPerHost 2\n{}{}{}",
            mode.directives(),
            host("two.example", ""),
            host("one.example", "ProxyWebsocketMaxTunnelsPerHost 1"),
            host("any.example", "ProxyWebsocketMaxTunnelsPerHost 0"),
        ));
        let at = |name: &str| ask(&proxy, &request("/ws/").replace("front.example", name));
        let inside = [
            at("two.example"),
            at("one.example"),
            at("two.example"),
            at("any.example"),
            at("any.example"),
            at("any.example"),
        ];
        for (_, answer) in &inside {
            assert_eq!(answer.status, 101);
        }
        expect_refusal(at("one.example"), 503, "PW304");
        expect_refusal(at("two.example"), 503, "PW304");
        assert_eq!(at("any.example").1.status, 101);
        let [_, one, ..] = inside;
        drop(one);
        ask_until_let_in(|| at("one.example"));
        expect_refusal(at("two.example"), 503, "PW304");
    }

    fn a_backend_has_no_more_tunnels_than_it_may_whatever_leads_there(mode: Mode) {
        let (backend, other) = (Backend::echo(), Backend::echo());
        let proxy = start(
            mode,
            &backend,
            &format!(
                "ProxyWebsocketMaxTunnelsPerBackend 2\nProxyPass /too/ {}/\nProxyPass /other/ {}/",
                backend.url(),
                other.url()
            ),
        );
        let mut inside = vec![Client::tunnel(&proxy, "/ws/"), Client::tunnel(&proxy, "/too/")];
        for path in ["/ws/", "/too/"] {
            expect_refusal(ask(&proxy, &request(path)), 503, "PW305");
        }
        inside.push(Client::tunnel(&proxy, "/other/"));
        inside.remove(0);
        ask_until_let_in(|| ask(&proxy, &request("/too/")));
    }

    fn a_member_without_room_is_passed_over_and_is_not_judged_by_it(mode: Mode) {
        let members = [Backend::echo(), Backend::echo()];
        for more in ["", "ProxySet maxattempts=0"] {
            let [a, b] = members.each_ref().map(Backend::count);
            let proxy = Proxy::start(format!(
                "{}\nProxyWebsocketMaxTunnelsPerBackend 2\n<Proxy balancer://set>\n\
                 BalancerMember {} loadfactor=100\nBalancerMember {}\n{more}\n</Proxy>\n\
                 ProxyPass /ws/ balancer://set/\n",
                mode.directives(),
                members[0].url(),
                members[1].url(),
            ));
            let inside: Vec<_> = (0..4).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
            assert_eq!(members.each_ref().map(Backend::count), [a + 2, b + 2]);
            for _ in 0..3 {
                expect_refusal(ask(&proxy, &request("/ws/")), 503, "PW305");
            }
            drop(inside);
            let again: Vec<_> = (0..4)
                .map(|_| ask_until_let_in(|| ask(&proxy, &request("/ws/"))))
                .collect();
            assert_eq!(members.each_ref().map(Backend::count), [a + 4, b + 4]);
            drop(again);
            assert_eq!(proxy.log_lines("PW305").len(), 1, "{:#?}", proxy.log());
            assert!(proxy.log_lines("PW417").is_empty(), "{:#?}", proxy.log());
        }
    }

    fn an_address_that_asks_too_often_has_to_wait(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(
            mode,
            &backend,
            "ProxyWebsocketHandshakeRate 2/h\nRemoteIPProxyProtocol On",
        );
        let from = |address: &str| ask_from(&proxy, address, &request("/ws/"));
        // What is no handshake does not count.
        for _ in 0..3 {
            let page = ask_from(&proxy, "192.0.2.1", &get("/ws/"));
            assert_eq!(page.1.status, 426);
            assert_eq!(ask_from(&proxy, "192.0.2.1", &request("/none")).1.status, 404);
        }
        // Nor does it help to close.
        for _ in 0..2 {
            assert_eq!(from("192.0.2.1").1.status, 101);
        }
        let (client, answer) = from("192.0.2.1");
        let wait: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
        assert!((1700..=1800).contains(&wait), "{wait}");
        expect_refusal((client, answer), 429, "PW307");
        assert_eq!(from("192.0.2.2").1.status, 101);
    }

    fn who_waits_may_ask_again(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(mode, &backend, "ProxyWebsocketHandshakeRate 2 burst=1");
        let ask = || ask(&proxy, &request("/ws/"));
        let begun = Instant::now();
        for _ in 0..4 {
            ask_until_let_in(ask);
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1500), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    fn whatever_becomes_of_handshakes_no_place_is_lost(mode: Mode) {
        const MOST: usize = 5;
        let backend = Backend::listen();
        let port = Port::at(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let bounds = ["", "PerAddress", "PerHost", "PerBackend"];
        let bounds = bounds.map(|name| format!("ProxyWebsocketMaxTunnels{name} {MOST}\n"));
        let proxy = start(
            mode,
            &backend,
            &format!(
                "{}\nLogLevel error\nProxyPass /none/ ws://{}/\nProxyPass /late/ {}/ timeout=50ms",
                bounds.concat(),
                port.address(),
                backend.url()
            ),
        );
        for round in 0..300 {
            let path = match round % 6 {
                3 => "/late/",
                5 => "/none/",
                _ => "/ws/",
            };
            let mut client = Client::asking(&proxy, path);
            if path == "/none/" {
                client.answer_head().expect_status(503);
                continue;
            }
            let mut peer = backend.accept();
            peer.head();
            match round % 6 {
                0 => {
                    client.reset();
                    peer.expect_cut();
                }
                1 => {
                    peer.reset();
                    client.answer_head().expect_status(502);
                }
                2 => {
                    peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                    client.answer_head().expect_status(403);
                }
                3 => {
                    // No answer in time.
                    client.answer_head().expect_status(504);
                }
                _ => {
                    peer.send(switch());
                    client.reset();
                    peer.expect_cut();
                }
            }
        }
        proxy.settle();
        let inside: Vec<_> = (0..MOST).map(|_| both_ends(&proxy, &backend)).collect();
        for _ in 0..3 {
            ask(&proxy, &request("/ws/")).1.expect_status(429);
        }
        drop(inside);
    }

    fn what_is_counted_outlives_a_reload_that_changes_the_bounds(mode: Mode) {
        let backend = Backend::echo();
        let url = backend.url();
        for (bound, status) in [("", 503), ("PerAddress", 429), ("PerHost", 503), ("PerBackend", 503)] {
            let config = |most: usize| {
                format!(
                    "{}\nProxyWebsocketMaxTunnels{bound} {most}\n\
                     <VirtualHost *:*>\nServerName front.example\nTimeout {}\nProxyPass /ws/ {url}/\n</VirtualHost>",
                    mode.directives(),
                    most + 5
                )
            };
            let proxy = Proxy::start(config(2));
            let without = proxy.connections();
            let ask = || ask(&proxy, &request("/ws/"));
            let expect_full = || ask().1.expect_status(status);
            let mut inside = vec![Client::tunnel(&proxy, "/ws/"), Client::tunnel(&proxy, "/ws/")];
            expect_full();
            proxy.reload(config(3));
            inside.push(Client::tunnel(&proxy, "/ws/"));
            expect_full();
            // Who is there stays, and nobody comes until there are fewer.
            proxy.reload(config(1));
            expect_full();
            inside.pop();
            inside.pop();
            wait_until("two to be gone", BOUND, || {
                proxy.connections() == without + 2
            });
            expect_full();
            inside.pop();
            ask_until_let_in(ask);
        }
    }

    fn who_has_asked_too_often_has_after_a_reload_too(mode: Mode) {
        let backend = Backend::echo();
        let config = |rate: &str| {
            let (mode, url) = (mode.directives(), backend.url());
            format!("{mode}\nProxyWebsocketHandshakeRate {rate}\nProxyPass /ws/ {url}/")
        };
        let proxy = Proxy::start(config("2/h"));
        let ask = || ask(&proxy, &request("/ws/")).1.status;
        assert_eq!([ask(), ask(), ask()], [101, 101, 429]);
        proxy.reload(config("2/h"));
        assert_eq!(ask(), 429);
        proxy.reload(config("Off"));
        assert_eq!(ask(), 101);
        // It owes an hour, and may owe a quarter more.
        proxy.reload(config("4/h burst=5"));
        assert_eq!([ask(), ask()], [101, 429]);
    }

    fn who_comes_at_once_does_not_get_more_than_there_is(mode: Mode) {
        const MOST: usize = 10;
        let backend = Backend::echo();
        let proxy = start(mode, &backend, &format!("ProxyWebsocketMaxTunnels {MOST}"));
        let idle = proxy.connections();
        for _ in 0..3 {
            let answers: Vec<_> = thread::scope(|scope| {
                let asking: Vec<_> = (0..50)
                    .map(|_| scope.spawn(|| ask(&proxy, &request("/ws/"))))
                    .collect();
                asking.into_iter().map(|it| it.join().unwrap()).collect()
            });
            let inside = answers.iter().filter(|(_, answer)| answer.status == 101);
            assert_eq!(inside.count(), MOST);
            let refused = answers.iter().filter(|(_, answer)| answer.status == 503);
            assert_eq!(refused.count(), 50 - MOST);
            drop(answers);
            wait_until("the tunnels to end", BOUND, || proxy.connections() == idle);
            proxy.settle();
        }
    }

    fn a_tunnel_gets_no_older_than_it_may_whatever_moves(mode: Mode) {
        let backend = Backend::listen();
        let proxy = logging(mode, &backend, "ProxyWebsocketMaxLifetime 1500ms spread=0");
        let begun = Instant::now();
        let (mut busy, mut busy_peer) = both_ends(&proxy, &backend);
        let (mut quiet, mut quiet_peer) = both_ends(&proxy, &backend);
        let hello = frame(b"hello", Some([1, 2, 3, 4]));
        // Both ends speak until they cannot.
        let speaks = thread::spawn(move || {
            while busy.send_if_taken(&hello) && busy_peer.send_if_taken(frame(b"hello", None)) {
                thread::sleep(Duration::from_millis(5));
            }
            busy.rest();
            busy_peer.rest();
        });
        quiet.expect_cut();
        quiet_peer.expect_cut();
        let took = begun.elapsed();
        let expected = Duration::from_millis(1450)..Duration::from_millis(4500);
        assert!(expected.contains(&took), "{took:?}");
        speaks.join().unwrap();
        drop((quiet, quiet_peer));
        let lines = proxy.wait_for_lines("access.log", 2);
        assert_eq!(lines, ["101 open for 1.5s, the longest that is allowed"; 2]);
    }

    fn tunnels_that_came_together_do_not_end_together(mode: Mode) {
        const TUNNELS: usize = 40;
        let backend = Backend::echo();
        let proxy = start(mode, &backend, "ProxyWebsocketMaxLifetime 3 spread=2s");
        let begun = Instant::now();
        let clients: Vec<_> = (0..TUNNELS).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        let began = begun.elapsed();
        let mut ages: Vec<_> = thread::scope(|scope| {
            let waiting: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        client.expect_cut();
                        begun.elapsed()
                    })
                })
                .collect();
            waiting.into_iter().map(|it| it.join().unwrap()).collect()
        });
        ages.sort_unstable();
        let (first, last) = (ages[0], ages[TUNNELS - 1]);
        assert!(first >= Duration::from_millis(950), "{ages:?}");
        assert!(last < Duration::from_secs(8), "{ages:?}");
        // Of 40 that are drawn from two seconds, less than one in a million times all lie within 1.2.
        assert!(last - first > began + Duration::from_millis(1200), "{ages:?}");
    }
}

#[test]
fn a_location_has_its_own_lifetime_and_zero_is_any_age() {
    let backend = Backend::echo();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketMaxLifetime 500ms\nProxyPass /ws/ {url}/\n\
         <Location /old/>\nProxyWebsocketMaxLifetime 0\nProxyPass {url}/\n</Location>"
    ));
    let mut old = Client::tunnel(&proxy, "/old/");
    let mut young = Client::tunnel(&proxy, "/ws/");
    young.expect_cut();
    thread::sleep(Duration::from_millis(500));
    old.echo("still here");
}

/// A flood of those who are refused is no flood in the log, whose every line they would otherwise own.
#[test]
fn the_log_says_once_in_a_while_that_a_bound_is_reached() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketMaxTunnels 1\nProxyWebsocketMaxTunnelsPerAddress 1\nRemoteIPProxyProtocol On\n\
         ProxyPass /ws/ {}/\nCustomLog access.log %>s",
        backend.url()
    ));
    let from = |address: &str| ask_from(&proxy, address, &request("/ws/"));
    let _inside = from("192.0.2.1");
    for _ in 0..50 {
        from("192.0.2.1").1.expect_status(429);
        from("192.0.2.2").1.expect_status(503);
    }
    assert_eq!(proxy.wait_for_lines("access.log", 100).len(), 100);
    let lines = |id| proxy.log_lines(id);
    assert_eq!(lines("PW303").len(), 1, "{:#?}", proxy.log());
    let of_address = lines("PW306");
    assert_eq!(of_address.len(), 1, "{:#?}", proxy.log());
    for part in [
        "WARN",
        " 192.0.2.1:50000 ",
        "\"GET /ws/ HTTP/1.1\" refused: this address has as many tunnels as it may: 1 (429); raise ",
    ] {
        assert!(of_address[0].contains(part), "{part:?} in {of_address:?}");
    }
}

#[test]
fn ordinary_requests_are_not_counted() {
    let backend = Backend::echo();
    let pages = Pages::start();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketMaxTunnels 1\nProxyWebsocketMaxTunnelsPerBackend 1\nProxyWebsocketHandshakeRate 1/h\n\
         ProxyPass /ws/ {}/\nProxyPass /pages/ {}/",
        backend.url(),
        pages.url()
    ));
    let mut inside = Client::tunnel(&proxy, "/ws/");
    for _ in 0..5 {
        ask(&proxy, &get("/pages/")).1.expect_status(200);
    }
    inside.echo("still here");
}

#[test]
fn what_cannot_be_meant_is_refused_and_what_can_never_be_reached_is_warned_of() {
    let with = |lines: &str| check(&format!("Listen 80\nProxyPass /ws/ ws://h/\n{lines}"));
    for (line, part) in [
        ("ProxyWebsocketMaxTunnels many", "\"many\""),
        ("ProxyWebsocketMaxTunnelsPerHost -1", "\"-1\""),
        ("ProxyWebsocketHandshakeRate 0", "expected 1 to 1000000"),
        ("ProxyWebsocketHandshakeRate 5/day", "unknown unit \"day\""),
        ("ProxyWebsocketHandshakeRate 5 10", "expected burst=number"),
        ("ProxyWebsocketHandshakeRate 5 burst=0", "burst: "),
        ("ProxyWebsocketHandshakeRate Off burst=5", "remove it"),
        ("ProxyWebsocketMaxLifetime 5 spread=5", "expected less"),
        ("ProxyWebsocketMaxLifetime 5 6", "expected spread=duration"),
        ("ProxyWebsocketMaxLifetime 5 spread=x", "spread: "),
    ] {
        let said = with(line).expect_status(1).stderr;
        let (directive, _) = line.split_once(' ').unwrap();
        assert!(said.contains(&format!(":3: {directive}: ")), "{said}");
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let said = with(
        "ProxyWebsocketMaxTunnels 10\nProxyWebsocketMaxTunnelsPerAddress 10\nProxyWebsocketMaxTunnelsPerHost 11\n\
         <VirtualHost *:80>\nProxyWebsocketMaxTunnelsPerBackend 12\n</VirtualHost>",
    )
    .expect_status(0)
    .stderr;
    let warnings: Vec<_> = said.lines().filter(|it| it.contains("warning")).collect();
    assert_eq!(warnings.len(), 2, "{said}");
    assert!(warnings[0].contains(":5: warning: ProxyWebsocketMaxTunnelsPerHost: 11 are never"));
    assert!(warnings[1].contains(":7: warning: ProxyWebsocketMaxTunnelsPerBackend: 12 are never"));
}

#[test]
fn the_summary_shows_what_is_set_each_on_its_own() {
    let directory = TempDir::new();
    let file = directory.write(
        "proxy.conf",
        "Listen 80\nProxyWebsocketMaxTunnels 50\nProxyWebsocketHandshakeRate 30/min burst=5\n\
         ProxyWebsocketMaxTunnelsPerAddress 7\nProxyWebsocketMaxLifetime 8h\n\
         <VirtualHost *:80>\nServerName own.example\nProxyWebsocketMaxTunnelsPerHost 40\nProxyWebsocketMaxLifetime 60 spread=1500ms\n\
         ProxyPass /ws/ ws://h/\n</VirtualHost>\n",
    );
    let shown = run(&["-S", "-f", file.to_str().unwrap()]).expect_status(0);
    let (main, own) = shown.stdout.split_once("virtual host own.example").unwrap();
    for line in [
        "tunnels at most 50, handshakes of an address one in 2s, 5 at once\n",
        "  tunnels at most per address 7\n",
        "  tunnel lifetime 28800s, less up to 2880s\n",
    ] {
        assert!(main.contains(line), "{line:?} in {main}");
    }
    for line in [
        "  tunnels at most per address 7, per host 40\n",
        "  tunnel lifetime 60s, less up to 1500ms\n",
    ] {
        assert!(own.contains(line), "{line:?} in {own}");
    }
}
