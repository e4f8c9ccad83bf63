//! Members that cannot be reached, and what follows in the same request and in later ones.

use super::{BOTH, Kind, SET_ASIDE, ask, member, own_answer, port, row, start, told, whose};
use crate::support::http::{Origin, chunked};
use crate::support::pages::{expect_page, next_request, page, post, post_head};
use crate::support::{BOUND, Backend, Client, Pages, Proxy, TempDir, pattern, wait_until};
use std::time::{Duration, Instant};

#[test]
fn a_closed_port_is_followed_by_the_next_member_in_the_same_request() {
    for kind in BOTH {
        let (dead, alive) = (port(), member("b"));
        let members = [kind.nobody(&dead), kind.at(&alive)];
        let proxy = start(&members, "", "");
        let answer = ask(&proxy, kind).expect_status(kind.success());
        assert_eq!(whose(&answer), "b");
        let lines = told(&proxy, SET_ASIDE, 1);
        for part in ["balancer://set", &members[0], "60s: Connection refused"] {
            assert!(lines[0].contains(part), "{part}: {}", lines[0]);
        }
        let failures = told(&proxy, &format!("{}: connect: ", members[0]), 1);
        assert!(failures[0].contains("PW404"), "{}", failures[0]);
        // Nobody asks it again so soon.
        assert_eq!(row(&proxy, kind, 5), "bbbbb");
        told(&proxy, ": connect: ", 1);
        told(&proxy, SET_ASIDE, 1);
        let expected = format!("{} {}", kind.success(), members[1]);
        let lines = proxy.wait_for_lines("access.log", 6);
        assert!(
            lines
                .iter()
                .all(|line| line.trim_end_matches('/') == expected),
            "{lines:?}"
        );
    }
}

#[test]
fn a_name_without_an_address_is_followed_by_the_next_member() {
    for kind in BOTH {
        let alive = member("b");
        let nowhere = format!("{}://no-such-host.invalid", kind.scheme());
        let proxy = start(&[nowhere.clone(), kind.at(&alive)], "", "");
        assert_eq!(row(&proxy, kind, 3), "bbb");
        let lines = told(&proxy, SET_ASIDE, 1);
        assert!(lines[0].contains(&nowhere), "{lines:?}");
        told(&proxy, ": resolve: ", 1);
    }
}

#[test]
fn a_member_is_tried_again_after_its_time_and_gets_its_share() {
    for kind in BOTH {
        let (dead, alive) = (port(), member("b"));
        let members = [
            format!("{} retry=300ms", kind.nobody(&dead)),
            kind.at(&alive),
        ];
        let proxy = start(&members, "", "");
        let begun = Instant::now();
        assert_eq!(whose(&ask(&proxy, kind)), "b");
        let back = Pages::with(
            |script| Backend::serve_at(dead.address(), script),
            |asked| own_answer("a", asked),
        );
        wait_until("the member to be tried again", BOUND, || {
            whose(&ask(&proxy, kind)) == "a"
        });
        assert!(begun.elapsed() >= Duration::from_millis(300));
        let line = proxy.wait_for_log("takes connections again");
        assert!(
            line.contains("balancer://set") && line.contains(&kind.nobody(&dead)),
            "{line}"
        );
        let shares = row(&proxy, kind, 10);
        assert_eq!(shares.matches('a').count(), 5, "{shares}");
        told(&proxy, "takes connections again", 1);
        assert_eq!(back.seen().len(), 6);
    }
}

#[test]
fn without_a_time_to_retry_each_request_may_try_it() {
    for kind in BOTH {
        let (dead, alive) = (port(), member("b"));
        let members = [format!("{} retry=0", kind.nobody(&dead)), kind.at(&alive)];
        let proxy = start(&members, "", "");
        assert_eq!(row(&proxy, kind, 8), "bbbbbbbb");
        told(&proxy, ": connect: ", 4);
        told(&proxy, SET_ASIDE, 0);
    }
}

#[test]
fn a_member_that_ignores_errors_is_never_set_aside() {
    for kind in BOTH {
        let (dead, alive) = (port(), member("b"));
        let members = [format!("{} status=+I", kind.nobody(&dead)), kind.at(&alive)];
        let proxy = start(&members, "", "");
        assert_eq!(row(&proxy, kind, 4), "bbbb");
        told(&proxy, ": connect: ", 2);
        told(&proxy, SET_ASIDE, 0);
    }
}

/// Each of them once within a request, until there is none left; then what the last one failed at is the answer.
#[test]
fn one_member_after_the_other_is_tried_until_none_is_left() {
    for kind in BOTH {
        let dead = [port(), port(), port()];
        let urls = dead.each_ref().map(|port| kind.nobody(port));
        let proxy = start(&urls, "", "");
        assert_eq!(ask(&proxy, kind).status, 503);
        for url in &urls {
            told(&proxy, &format!("{url}: connect: "), 1);
        }
        told(&proxy, SET_ASIDE, 3);
        let lines = proxy.wait_for_lines("access.log", 1);
        assert!(lines[0].starts_with("503 "), "{lines:?}");
    }
}

#[test]
fn maxattempts_bounds_how_many_follow() {
    for kind in BOTH {
        for (attempts, first, tried) in [(0, "503", 1), (1, "503", 2), (2, "c", 2), (9, "c", 2)] {
            let (dead, alive) = ([port(), port()], member("c"));
            let members = [
                kind.nobody(&dead[0]),
                kind.nobody(&dead[1]),
                kind.at(&alive),
            ];
            let proxy = start(&members, &format!("ProxySet maxattempts={attempts}"), "");
            assert_eq!(row(&proxy, kind, 1), first, "{attempts}");
            told(&proxy, ": connect: ", tried);
            // What has failed is set aside all the same.
            told(&proxy, SET_ASIDE, tried);
        }
    }
}

#[test]
fn when_all_have_failed_the_next_request_tries_all_again_with_forcerecovery() {
    for kind in BOTH {
        let dead = [port(), port()];
        let urls = dead.each_ref().map(|port| kind.nobody(port));
        let proxy = start(&urls, "", "");
        for round in 1..=3 {
            assert_eq!(ask(&proxy, kind).status, 503);
            told(&proxy, ": connect: ", 2 * round);
        }
        let _back = Pages::with(
            |script| Backend::serve_at(dead[1].address(), script),
            |asked| own_answer("b", asked),
        );
        assert_eq!(row(&proxy, kind, 3), "bbb");
    }
}

#[test]
fn without_forcerecovery_nobody_is_tried_before_the_time() {
    for kind in BOTH {
        let dead = [port(), port()];
        let members = dead
            .each_ref()
            .map(|port| format!("{} retry=400ms", kind.nobody(port)));
        let proxy = start(&members, "ProxySet forcerecovery=Off", "");
        let begun = Instant::now();
        assert_eq!(ask(&proxy, kind).status, 503);
        told(&proxy, ": connect: ", 2);
        let given_up = "PW404 ProxyPass \"/\": balancer://set: no other member is tried (503); ";
        told(&proxy, given_up, 1);
        wait_until("a member to be tried again", BOUND, || {
            assert_eq!(ask(&proxy, kind).status, 503);
            proxy.settle();
            proxy.log_lines(": connect: ").len() > 2
        });
        assert!(begun.elapsed() >= Duration::from_millis(400));
        proxy.wait_for_log("PW416");
        let lines = proxy.log_lines("PW416");
        for line in lines {
            assert!(
                line.contains("balancer://set: no member can be used (503)"),
                "{line}"
            );
        }
    }
}

/// No byte of it has gone anywhere before there is a connection.
#[test]
fn a_body_is_whole_at_the_member_that_follows() {
    let body = pattern(7, 300_000);
    let mut chunks =
        b"POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunks.extend(chunked(&body, 4_000, "", ""));
    for request in [post("/x", &body), chunks] {
        let (dead, alive) = (port(), member("b"));
        let kind = Kind::Page;
        let proxy = start(&[kind.nobody(&dead), kind.at(&alive)], "", "");
        let mut client = Client::sending(&proxy, &request);
        assert_eq!(whose(&super::whole_answer(&mut client)), "b");
        let asked = alive.seen();
        assert!(asked.len() == 1 && asked[0].body == body);
        // The connection goes on.
        client.send(post("/y", b"again"));
        assert_eq!(whose(&super::whole_answer(&mut client)), "b");
        assert_eq!(alive.seen()[1].body, b"again");
    }
}

#[test]
fn a_body_that_comes_late_is_whole_at_the_member_that_follows() {
    let (dead, alive) = (port(), Backend::listen());
    let kind = Kind::Page;
    let proxy = start(&[kind.nobody(&dead), kind.url(&alive)], "", "");
    let body = pattern(8, 200_000);
    let mut client = Client::sending(&proxy, post_head("/x", body.len()));
    client.send(&body[..100_000]);
    let mut peer = alive.accept();
    client.send(&body[100_000..]);
    assert!(next_request(&mut peer).unwrap().1 == body);
}

/// However it comes, and however it goes on: its framing is made once.
#[test]
fn a_body_in_chunks_is_framed_once() {
    for sends_chunks in [false, true] {
        for (length, size) in [(0, 1), (5, 5), (5, 1), (20_000, 3_000), (100_000, 70_000)] {
            let body = pattern(11, length);
            let mut request =
                b"POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            request.extend(chunked(&body, size, "", "X-Trailer: x\r\n"));
            let (dead, alive) = ([port(), port()], Origin::telling());
            let kind = Kind::Page;
            let members = [kind.nobody(&dead[0]), kind.nobody(&dead[1]), alive.url()];
            let more = if sends_chunks {
                "SetEnv proxy-sendchunked 1"
            } else {
                ""
            };
            let proxy = start(&members, "", more);
            let mut client = Client::sending(&proxy, &request);
            client.answer_to("POST").expect_status(200);
            assert!(alive.request().body == body, "{length} {size} {more}");
            assert!(alive.others().is_empty());
        }
    }
}

/// A client that waits for a 100 gets that of the member that takes its body.
#[test]
fn a_client_that_expects_a_100_gets_that_of_the_member_that_follows() {
    let (dead, alive) = (port(), Backend::listen());
    let kind = Kind::Page;
    let proxy = start(&[kind.nobody(&dead), kind.url(&alive)], "", "");
    let head = post_head("/x", 4).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let mut client = Client::sending(&proxy, head);
    let mut peer = alive.accept();
    assert!(peer.head().contains("\r\nExpect: 100-continue\r\n"));
    client.expect_quiet(Duration::from_millis(50));
    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.answer_head().expect_status(100);
    client.send("body");
    peer.expect("body");
    peer.send(page("done"));
    expect_page(&mut client, "done");
}

/// With `ping=` a body waits for a 100 of the member: one that gives none has not got it.
#[test]
fn a_member_that_does_not_answer_a_ping_is_followed_by_one_that_gets_the_body() {
    let stalls = Backend::serve(|mut wire| {
        if wire.try_head().is_ok() {
            let (bytes, _) = wire.rest();
            assert!(bytes.is_empty(), "a byte of the body");
        }
    });
    let pings = Backend::serve(|mut wire| {
        let Ok(head) = wire.try_head() else { return };
        assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = String::from_utf8(wire.receive(6)).unwrap();
        wire.send(page(&body));
        wire.rest();
    });
    let kind = Kind::Page;
    let members = [&stalls, &pings].map(|backend| format!("{} ping=300ms", kind.url(backend)));
    let proxy = start(&members, "", "");
    let mut client = Client::sending(&proxy, post("/", b"abcdef"));
    expect_page(&mut client, "abcdef");
    let lines = told(&proxy, SET_ASIDE, 1);
    assert!(lines[0].contains(&kind.url(&stalls)), "{lines:?}");
}

/// It says nothing about a member, and the next one would not be reached either.
#[test]
fn running_out_of_descriptors_sets_nobody_aside() {
    let members = [Backend::echo(), Backend::echo()];
    let lines = members
        .each_ref()
        .map(|backend| format!("BalancerMember {}\n", backend.url()));
    let proxy = Proxy::start_in(
        TempDir::new(),
        format!(
            "<Proxy balancer://set>\n{}</Proxy>\nProxyPass / balancer://set/",
            lines.concat()
        ),
        "ulimit -n 40",
    );
    let clients: Vec<_> = (0..60).map(|_| Client::asking(&proxy, "/")).collect();
    let line = proxy.wait_for_log(": connect: Too many open files");
    for part in ["PW503", "(503)", "ulimit -n"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    drop(clients);
    assert_eq!(proxy.log_lines(SET_ASIDE), [""; 0]);
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::balancer::section;
    use crate::support::certs::Identity;
    use crate::support::client::request_with;
    use crate::support::{Certs, Wire};
    use std::fmt::Write as _;

    /// A balancer of these backends by the name `localhost`, in a proxy that trusts `certs`.
    #[track_caller]
    fn trusting(certs: &Certs, members: &[&Backend], more: &str) -> Proxy {
        let directory = TempDir::new();
        directory.write("ca.pem", certs.pem());
        let mut lines = String::new();
        for member in members {
            writeln!(
                lines,
                "BalancerMember wss://localhost:{} timeout=5",
                member.port()
            )
            .unwrap();
        }
        let config = format!(
            "SSLProxyCACertificateFile ca.pem\n{more}\n<Proxy balancer://set>\n{lines}</Proxy>\n\
             ProxyPass / balancer://set/\nCustomLog access.log \"%>s %{{BALANCER_WORKER_NAME}}e\""
        );
        Proxy::start_in(directory, config, "")
    }

    #[test]
    fn a_certificate_that_nobody_trusts_is_followed_by_the_next_member() {
        let certs = Certs::new();
        let odd = [
            Identity::self_signed("localhost"),
            certs.expired("localhost"),
            certs.server("other.example"),
        ];
        for identity in odd {
            let (bad, good) = (
                Backend::echo_tls(&identity),
                Backend::echo_tls(&certs.server("localhost")),
            );
            let proxy = trusting(&certs, &[&bad, &good], "");
            for _ in 0..3 {
                Client::tunnel(&proxy, "/").echo("x");
            }
            let lines = told(&proxy, SET_ASIDE, 1);
            assert!(
                lines[0].contains(&format!("wss://localhost:{}", bad.port())),
                "{lines:?}"
            );
            assert_eq!((bad.count(), good.count()), (1, 3));
            let lines = proxy.wait_for_lines("access.log", 3);
            let served = format!("101 wss://localhost:{}", good.port());
            assert!(
                lines
                    .iter()
                    .all(|line| line.trim_end_matches('/') == served),
                "{lines:?}"
            );
        }
    }

    /// A page in TLS.
    fn secure_page(identity: &Identity) -> Backend {
        let acceptor = identity.acceptor();
        Backend::serve_tcp(move |tcp| {
            let Ok(tls) = acceptor.accept(tcp) else {
                return;
            };
            let mut wire = Wire::new_tls(tls);
            while next_request(&mut wire).is_some() {
                wire.send_if_taken(page("secure"));
            }
        })
    }

    #[test]
    fn pages_are_had_from_the_next_member_too() {
        let certs = Certs::new();
        let (bad, good) = (
            secure_page(&Identity::self_signed("localhost")),
            secure_page(&certs.server("localhost")),
        );
        let directory = TempDir::new();
        directory.write("ca.pem", certs.pem());
        let members = [&bad, &good].map(|one| format!("https://localhost:{}", one.port()));
        let config = format!(
            "SSLProxyCACertificateFile ca.pem\n{}ProxyPass / balancer://set/",
            section(&members, "")
        );
        let proxy = Proxy::start_in(directory, config, "");
        for body in [&b"one"[..], b"two"] {
            expect_page(&mut Client::sending(&proxy, post("/", body)), "secure");
        }
        let lines = told(&proxy, SET_ASIDE, 1);
        assert!(lines[0].contains(&members[0]), "{lines:?}");
        assert_eq!(bad.count(), 1);
    }

    #[test]
    fn a_member_that_stalls_in_tls_is_followed_by_the_next() {
        let certs = Certs::new();
        let stalls = Backend::listen();
        let good = Backend::echo_tls(&certs.server("localhost"));
        let directory = TempDir::new();
        directory.write("ca.pem", certs.pem());
        let members = [
            format!("wss://localhost:{} timeout=300ms", stalls.port()),
            format!("wss://localhost:{}", good.port()),
        ];
        let config = format!(
            "SSLProxyCACertificateFile ca.pem\n{}ProxyPass / balancer://set/",
            section(&members, "")
        );
        let proxy = Proxy::start_in(directory, config, "");
        for _ in 0..3 {
            Client::tunnel(&proxy, "/").echo("x");
        }
        told(&proxy, SET_ASIDE, 1);
        assert_eq!(stalls.count(), 1);
    }

    #[test]
    fn a_plain_member_where_tls_is_expected_is_followed_by_the_next() {
        let certs = Certs::new();
        let bad = Backend::serve(|mut wire| {
            wire.send_if_taken("HTTP/1.1 400 Bad Request\r\n\r\n");
            wire.rest();
        });
        let good = Backend::echo_tls(&certs.server("localhost"));
        let proxy = trusting(&certs, &[&bad, &good], "");
        Client::tunnel(&proxy, "/").echo("x");
        told(&proxy, SET_ASIDE, 1);
    }

    /// Anybody may ask for anything: what a client calls a member, and is not so, says nothing about the member.
    #[test]
    fn a_name_that_the_client_made_up_sets_nobody_aside() {
        let certs = Certs::new();
        let member = Backend::echo_tls(&certs.server("localhost"));
        let proxy = trusting(
            &certs,
            &[&member],
            "ServerName www.example\nProxyPreserveHost On\nLogLevel debug",
        );
        let named = |host: &str| request_with("/", "").replace("front.example", host);
        for _ in 0..3 {
            let mut client = Client::sending(&proxy, named("other.example"));
            client.answer().expect_status(502);
        }
        told(&proxy, SET_ASIDE, 0);
        let mut client = Client::sending(&proxy, named("localhost"));
        client.switched();
        client.echo("x");
        // Nothing was the matter with it that could be over now.
        told(&proxy, "takes connections again", 0);
    }

    /// Both are asked in turn where the first does not know the name, and both stay.
    #[test]
    fn a_name_that_only_the_second_member_knows_leads_to_that() {
        let certs = Certs::new();
        let one = Backend::echo_tls(&certs.server("one.example"));
        let two = Backend::echo_tls(&certs.server("two.example"));
        let proxy = trusting(&certs, &[&one, &two], "ProxyPreserveHost On");
        for _ in 0..4 {
            for name in ["two.example", "one.example"] {
                let mut client =
                    Client::sending(&proxy, request_with("/", "").replace("front.example", name));
                client.switched();
                client.echo("x");
            }
        }
        told(&proxy, SET_ASIDE, 0);
    }

    /// A handshake costs a member much more than the client that asks for one.
    #[test]
    fn a_name_that_the_client_made_up_is_taken_to_two_members_at_most() {
        let certs = Certs::new();
        let members: Vec<_> = (0..4)
            .map(|_| Backend::echo_tls(&certs.server("localhost")))
            .collect();
        let all: Vec<_> = members.iter().collect();
        let proxy = trusting(&certs, &all, "ProxyPreserveHost On");
        let mut client = Client::sending(
            &proxy,
            request_with("/", "").replace("front.example", "other.example"),
        );
        client.answer().expect_status(502);
        let asked: usize = members.iter().map(Backend::count).sum();
        assert_eq!(asked, 2);
        told(&proxy, SET_ASIDE, 0);
    }

    #[test]
    fn a_member_without_a_certificate_for_our_own_name_is_set_aside() {
        let certs = Certs::new();
        let bad = Backend::echo_tls(&certs.server("localhost"));
        let good = Backend::echo_tls(&certs.server("front.example"));
        let proxy = trusting(
            &certs,
            &[&bad, &good],
            "ServerName front.example\nProxyPreserveHost On",
        );
        for _ in 0..3 {
            Client::tunnel(&proxy, "/").echo("x");
        }
        let lines = told(&proxy, SET_ASIDE, 1);
        assert!(lines[0].contains(&bad.port().to_string()), "{lines:?}");
    }
}
