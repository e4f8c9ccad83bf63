//! `max=` and `timeout=`: who waits for a member, and that no place at one is ever lost.

use super::{BOTH, Kind, LOG, SET_ASIDE, ask, member, port, row, section, start, told};
use crate::support::client::{request, request_with, switch};
use crate::support::pages::{expect_page, page};
use crate::support::{BOUND, Backend, Client, Mode, Proxy, Wire, each_mode, wait_until};
use std::time::{Duration, Instant};

/// Long enough that a test never ends because of it.
const PATIENT: &str = "ProxySet timeout=60";

/// A proxy in this mode with one member that takes one tunnel at a time.
#[track_caller]
fn one_at_a_time(mode: Mode, member: &Backend, set: &str) -> Proxy {
    let line = format!("{} max=1", member.url());
    start(
        &[line],
        set,
        &format!("{}\nLogLevel debug", mode.directives()),
    )
}

/// A client that asks, and has nobody to ask.
#[track_caller]
fn waiting(proxy: &Proxy, member: &Backend) -> Client {
    let before = member.count();
    let mut client = Client::asking(proxy, "/");
    client.expect_quiet(Duration::from_millis(100));
    assert_eq!(member.count(), before);
    client
}

/// A tunnel that is there: both ends.
#[track_caller]
fn open(proxy: &Proxy, member: &Backend) -> (Client, Wire) {
    let mut client = Client::asking(proxy, "/");
    let peer = member.accept_tunnel();
    client.switched();
    (client, peer)
}

each_mode! {
    fn a_request_waits_until_a_tunnel_of_the_full_member_ends(mode: Mode) {
        let member = Backend::listen();
        let proxy = one_at_a_time(mode, &member, PATIENT);
        let (first, peer) = open(&proxy, &member);
        let mut second = waiting(&proxy, &member);
        drop((first, peer));
        let peer = member.accept_tunnel();
        second.switched();
        // And so does the next, whichever side ends the tunnel.
        let mut third = waiting(&proxy, &member);
        peer.reset();
        let _peer = member.accept_tunnel();
        third.switched();
    }

    fn what_a_client_sends_while_it_waits_comes_to_its_member(mode: Mode) {
        let member = Backend::listen();
        let proxy = one_at_a_time(mode, &member, PATIENT);
        let held = open(&proxy, &member);
        let mut client = waiting(&proxy, &member);
        client.send("early");
        proxy.settle();
        drop(held);
        let mut peer = member.accept_tunnel();
        client.switched();
        peer.expect("early");
    }

    fn a_client_that_leaves_while_it_waits_takes_no_place(mode: Mode) {
        let member = Backend::listen();
        let proxy = one_at_a_time(mode, &member, PATIENT);
        let held = open(&proxy, &member);
        drop(waiting(&proxy, &member));
        proxy.wait_for_log("gone: closed before the backend had answered");
        let mut third = waiting(&proxy, &member);
        drop(held);
        let _peer = member.accept_tunnel();
        third.switched();
        assert_eq!(member.count(), 2);
    }

    fn waiting_ends_with_503(mode: Mode) {
        let member = Backend::listen();
        let proxy = one_at_a_time(mode, &member, "ProxySet timeout=200ms");
        let _held = open(&proxy, &member);
        let begun = Instant::now();
        Client::asking(&proxy, "/").answer().expect_status(503);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        let line = proxy.wait_for_log("PW416");
        assert!(line.contains("balancer://set: each member that can be used has as many requests"), "{line}");
        assert_eq!(member.count(), 1);
    }

    fn a_full_member_is_passed_over_while_another_is_free(mode: Mode) {
        let (full, free) = (Backend::listen(), Backend::listen());
        let lines = [&full, &free].map(|member| format!("{} max=1", member.url()));
        let proxy = start(&lines, PATIENT, mode.directives());
        let one = open(&proxy, &full);
        let two = open(&proxy, &free);
        let mut third = Client::asking(&proxy, "/");
        third.expect_quiet(Duration::from_millis(100));
        drop(two);
        let _peer = free.accept_tunnel();
        third.switched();
        assert_eq!(full.count(), 1);
        drop(one);
    }
}

/// Its place is there, whoever else is free; when it is not to be had, another member is better than none.
#[test]
fn a_session_waits_for_its_full_member_and_then_goes_to_another() {
    let (own, other) = (Backend::listen(), Backend::listen());
    let lines = [
        format!("{} route=a max=1 acquire=300ms", own.url()),
        format!("{} route=b", other.url()),
    ];
    let more = "Header set X-Changed yes env=BALANCER_ROUTE_CHANGED";
    let proxy = start(&lines, "ProxySet stickysession=S", more);
    let asking = || Client::sending(&proxy, request_with("/", "Cookie: S=.a\r\n"));
    let mut first = asking();
    let peer = own.accept_tunnel();
    assert_eq!(first.switched().field("X-Changed"), None);
    let mut second = asking();
    let _other = other.accept_tunnel();
    assert_eq!(second.switched().field("X-Changed").as_deref(), Some("yes"));
    told(&proxy, SET_ASIDE, 0);
    drop((first, peer));
    let mut third = asking();
    let _peer = own.accept_tunnel();
    assert_eq!(third.switched().field("X-Changed"), None);
}

#[test]
fn who_waits_for_a_member_does_not_keep_the_server_from_stopping() {
    let member = Backend::listen();
    let mut proxy = one_at_a_time(Mode::Worker, &member, PATIENT);
    let _held = open(&proxy, &member);
    let mut client = waiting(&proxy, &member);
    proxy.stop();
    client.answer().expect_status(503);
}

/// Without `timeout=` who comes to full members waits as with any backend that has `max=`: for `acquire=`.
#[test]
fn without_timeout_the_place_at_a_full_member_is_waited_for() {
    let member = Backend::listen();
    let line = format!("{} max=1 acquire=200ms", member.url());
    let proxy = start(&[line], "", "");
    let held = open(&proxy, &member);
    Client::asking(&proxy, "/").answer().expect_status(503);
    told(&proxy, SET_ASIDE, 0);
    drop(held);
    drop(open(&proxy, &member));
}

#[test]
fn a_page_waits_until_the_one_before_it_is_out() {
    let member = Backend::listen();
    let kind = Kind::Page;
    let proxy = start(&[format!("{} max=1", kind.url(&member))], PATIENT, "");
    let mut first = Client::sending(&proxy, kind.request("/1", ""));
    let mut peer = member.accept();
    peer.head();
    let mut second = Client::sending(&proxy, kind.request("/2", ""));
    second.expect_quiet(Duration::from_millis(100));
    // A client that has ended its direction may still wait for its answer.
    second.finish();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    first.answer_head().expect_status(200);
    let head = peer.head();
    assert!(head.starts_with("GET /2 "), "{head}");
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    second.answer_head().expect_status(200);
}

/// The time to retry comes while the request waits.
#[test]
fn a_request_waits_for_a_member_that_is_set_aside() {
    for kind in BOTH {
        let dead = port();
        let line = format!("{} retry=300ms", kind.nobody(&dead));
        let proxy = start(
            &[line],
            "ProxySet timeout=60\nProxySet forcerecovery=Off",
            "",
        );
        let begun = Instant::now();
        assert_eq!(ask(&proxy, kind).status, 503);
        let _back = crate::support::Pages::with(
            |script| Backend::serve_at(dead.address(), script),
            |asked| super::own_answer("a", asked),
        );
        assert_eq!(row(&proxy, kind, 1), "a");
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

/// Nobody waits where waiting is of no use.
#[test]
fn a_request_that_has_met_all_members_does_not_wait() {
    for kind in BOTH {
        let dead = [port(), port()];
        let members = dead.each_ref().map(|port| kind.nobody(port));
        let proxy = start(&members, PATIENT, "");
        let begun = Instant::now();
        assert_eq!(ask(&proxy, kind).status, 503);
        assert!(begun.elapsed() < BOUND);
    }
}

/// The ways in which a handshake fails half-way, one after the other.
#[track_caller]
fn fail_half_way(proxy: &Proxy, member: &Backend, round: usize) {
    let mut client = Client::asking(proxy, "/");
    let mut peer = member.accept();
    match round % 6 {
        // The client leaves before its request has been answered.
        0 => {
            peer.head();
            drop(client);
            peer.expect_cut();
        }
        1 => {
            peer.head();
            client.reset();
            peer.expect_cut();
        }
        // The member refuses.
        2 => {
            peer.head();
            peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
            client.answer().expect_status(403);
        }
        // It fails.
        3 => {
            peer.head();
            drop(peer);
            client.answer().expect_status(502);
        }
        4 => {
            peer.head();
            peer.send("garbage\r\n\r\n");
            client.answer().expect_status(502);
        }
        // It begins an answer, and the client leaves.
        _ => {
            peer.head();
            peer.send("HTTP/1.1 101 Swi");
            drop(client);
            peer.expect_cut();
        }
    }
}

each_mode! {
    fn no_handshake_that_fails_half_way_keeps_a_place(mode: Mode) {
        let member = Backend::listen();
        let proxy = one_at_a_time(mode, &member, PATIENT);
        for round in 0..24 {
            fail_half_way(&proxy, &member, round);
        }
        // The first free place would be lost by a single one of them.
        drop(open(&proxy, &member));
        let _last = open(&proxy, &member);
    }

    fn members_are_equally_busy_after_many_failures(mode: Mode) {
        let (one, two) = (Backend::listen(), member("b"));
        let lines = [format!("{} route=a", one.url()), Kind::Tunnel.at(&two)];
        let proxy = start(
            &lines,
            "ProxySet lbmethod=bybusyness stickysession=S maxattempts=0",
            mode.directives(),
        );
        // Whatever fails does so at the first.
        for round in 0..200 {
            let request = request("/").replace("\r\n\r\n", "\r\nCookie: S=1.a\r\n\r\n");
            let mut client = Client::sending(&proxy, request);
            let mut peer = one.accept();
            peer.head();
            if round % 2 == 0 {
                drop(client);
                peer.expect_cut();
            } else {
                drop(peer);
                client.answer().expect_status(502);
            }
        }
        proxy.wait_for_lines("access.log", 200);
        proxy.settle();
        let mut held = Vec::new();
        let mut at_two = 0;
        for _ in 0..10 {
            let mut client = Client::asking(&proxy, "/");
            let before = two.seen().len();
            let mut peer = None;
            wait_until("a member to be asked", BOUND, || {
                if two.seen().len() > before {
                    return true;
                }
                peer = one.try_accept();
                peer.is_some()
            });
            match &mut peer {
                Some(peer) => {
                    peer.head();
                    peer.send(switch());
                }
                None => at_two += 1,
            }
            client.switched();
            held.push((client, peer));
        }
        assert_eq!(at_two, 5);
    }
}

/// Those who come while others are just being refused, from many sides at once.
#[test]
fn no_place_is_lost_in_a_crowd() {
    let member = Backend::serve(|mut wire| {
        let Ok(head) = wire.try_head() else { return };
        match head.as_bytes().get(5).copied() {
            Some(b'r') => _ = wire.send_if_taken("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
            Some(b'c') => {}
            Some(b's') => drop(wire.rest()),
            _ => {
                wire.send_if_taken(switch());
                wire.rest();
            }
        }
    });
    let config = format!(
        "MaxRequestWorkers 32\n{}ProxyPass / balancer://set/\n{LOG}",
        section(&[format!("{} max=3", member.url())], PATIENT)
    );
    let proxy = Proxy::start(config);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                for round in 0..20 {
                    let mut client = Client::asking(
                        proxy,
                        ["/refuse", "/close", "/stall", "/go"][(thread + round) % 4],
                    );
                    match (thread + round) % 4 {
                        0 => drop(client.answer().expect_status(403)),
                        1 => drop(client.answer().expect_status(502)),
                        2 => {}
                        _ => drop(client.switched()),
                    }
                }
            });
        }
    });
    // All three of them are free.
    let tunnels: Vec<_> = (0..3).map(|_| Client::tunnel(&proxy, "/go")).collect();
    let mut fourth = Client::asking(&proxy, "/go");
    fourth.expect_quiet(Duration::from_millis(100));
    drop(tunnels);
    fourth.switched();
}

/// Answers that are refused before they have begun, and clients that do not wait for theirs.
#[test]
fn no_page_that_fails_half_way_keeps_a_place() {
    let member = Backend::listen();
    let kind = Kind::Page;
    let proxy = start(&[format!("{} max=1", kind.url(&member))], PATIENT, "");
    for round in 0..12 {
        let mut client = Client::sending(&proxy, kind.request("/", "Connection: close\r\n"));
        let mut peer = member.accept();
        peer.head();
        match round % 4 {
            0 => {
                drop(peer);
                client.answer_head().expect_status(502);
            }
            1 => {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx");
                client.answer_head().expect_status(200);
                drop(peer);
                client.rest();
            }
            2 => {
                peer.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\nx",
                );
                client.reset();
                peer.send_if_taken([b'x'; 99_999]);
                peer.finish();
            }
            _ => {
                peer.send("garbage\r\n\r\n");
                client.answer_head().expect_status(502);
            }
        }
    }
    let mut client = Client::sending(&proxy, kind.request("/", ""));
    let mut peer = member.accept();
    peer.head();
    peer.send(page("x"));
    expect_page(&mut client, "x");
}
