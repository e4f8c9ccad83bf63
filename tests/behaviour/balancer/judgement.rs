//! Members that have got a request and fail, or answer with an error: who is asked then, and who is set aside.

use super::{
    BOTH, Kind, SET_ASIDE, ask, failing, member, row, seen, start, told, whole_answer, whose,
};
use crate::support::pages::{get, page, post};
use crate::support::{Backend, Client, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a member does instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Closes,
    Resets,
    Garbage,
    /// Bytes that begin an answer, and the end.
    Half,
    Stalls,
    /// A 101 to who asked for none, or for another one.
    FalseSwitch,
}

const FAULTS: [Fault; 6] = [
    Fault::Closes,
    Fault::Resets,
    Fault::Garbage,
    Fault::Half,
    Fault::Stalls,
    Fault::FalseSwitch,
];

/// How long members may take, where one stalls.
const SHORT: &str = "timeout=300ms";

impl Fault {
    fn status(self) -> u16 {
        if self == Self::Stalls { 504 } else { 502 }
    }

    fn happen(self, mut wire: Wire) {
        match self {
            Self::Closes => {}
            Self::Resets => wire.reset(),
            Self::Garbage => _ = wire.send_if_taken("\0\0garbage\r\n\r\n"),
            Self::Half => _ = wire.send_if_taken("HTTP/1.1 200 OK\r\nContent-Le"),
            Self::Stalls => drop(wire.rest()),
            Self::FalseSwitch => {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: odd\r\nConnection: Upgrade\r\n\r\n";
                _ = wire.send_if_taken(answer);
            }
        }
    }
}

/// A member with that fault, and how many whole requests it has seen.
fn faulty(fault: Fault) -> (Backend, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&count);
    let backend = Backend::serve(move |mut wire| {
        if crate::support::pages::next_request(&mut wire).is_some() {
            counter.fetch_add(1, Ordering::SeqCst);
            fault.happen(wire);
        }
    });
    (backend, count)
}

/// Three of them.
fn three(kind: Kind, fault: Fault) -> ([String; 3], impl Fn() -> usize) {
    let members = [(); 3].map(|()| faulty(fault));
    let urls = members
        .each_ref()
        .map(|(backend, _)| format!("{} {SHORT}", kind.url(backend)));
    let total = move || {
        members
            .iter()
            .map(|(_, count)| count.load(Ordering::SeqCst))
            .sum()
    };
    (urls, total)
}

#[test]
fn exactly_one_other_member_sees_a_request_that_failed_at_one() {
    for kind in BOTH {
        for fault in FAULTS {
            let (members, total) = three(kind, fault);
            let proxy = start(&members, "", "");
            for round in 1..=2 {
                assert_eq!(ask(&proxy, kind).status, fault.status(), "{fault:?}");
                assert_eq!(total(), 2 * round, "{kind:?} {fault:?}: {:#?}", proxy.log());
            }
            told(&proxy, SET_ASIDE, 0);
        }
    }
}

#[test]
fn a_client_gets_the_answer_of_the_member_that_follows() {
    for kind in BOTH {
        for fault in FAULTS {
            let (bad, good) = (faulty(fault), member("b"));
            let members = [format!("{} {SHORT}", kind.url(&bad.0)), kind.at(&good)];
            let proxy = start(&members, "", "");
            assert_eq!(row(&proxy, kind, 3), "bbb", "{kind:?} {fault:?}");
            // It is not set aside, so the third request came to it as well.
            assert_eq!(bad.1.load(Ordering::SeqCst), 2, "{kind:?} {fault:?}");
            told(&proxy, SET_ASIDE, 0);
            let lines = proxy.wait_for_lines("access.log", 3);
            let served = format!("{} {}", kind.success(), members[1]);
            assert!(
                lines
                    .iter()
                    .all(|line| line.trim_end_matches('/') == served),
                "{lines:?}"
            );
        }
    }
}

/// Members that have not been reached do not count among those that have seen it.
#[test]
fn a_closed_port_behind_a_failure_does_not_end_the_search() {
    for kind in BOTH {
        let (bad, dead, good) = (faulty(Fault::Closes), super::port(), member("c"));
        let members = [kind.url(&bad.0), kind.nobody(&dead), kind.at(&good)];
        let proxy = start(&members, "", "");
        assert_eq!(row(&proxy, kind, 1), "c", "{:#?}", proxy.log());
    }
}

#[test]
fn what_may_have_been_done_is_not_asked_of_a_second_member() {
    for request in [
        post("/", b"body"),
        post("/", b""),
        b"POST / HTTP/1.1\r\nHost: front\r\n\r\n".to_vec(),
        b"PATCH / HTTP/1.1\r\nHost: front\r\n\r\n".to_vec(),
        b"PUT / HTTP/1.1\r\nHost: front\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
    ] {
        for fault in FAULTS {
            let (members, total) = three(Kind::Page, fault);
            let proxy = start(&members, "", "");
            let answer = whole_answer(&mut Client::sending(&proxy, &request));
            let line = request.escape_ascii();
            assert_eq!(answer.status, fault.status(), "{line} {fault:?}");
            assert_eq!(total(), 1, "{line} {fault:?}");
        }
    }
    for method in ["HEAD", "OPTIONS", "DELETE", "PUT"] {
        let (members, total) = three(Kind::Page, Fault::Closes);
        let proxy = start(&members, "", "");
        let request = get("/").replace("GET", method);
        Client::sending(&proxy, request)
            .answer_head()
            .expect_status(502);
        assert_eq!(total(), 2, "{method}");
    }
}

#[test]
fn failontimeout_and_failonstatus_set_aside_who_gave_no_answer() {
    for kind in BOTH {
        for (fault, set, is_set_aside) in [
            (Fault::Stalls, "failontimeout=On", true),
            (Fault::Stalls, "failontimeout=Off", false),
            (Fault::Stalls, "failonstatus=502,504", true),
            (Fault::Stalls, "failonstatus=502", false),
            (Fault::Closes, "failontimeout=On", false),
            (Fault::Closes, "failonstatus=502,504", true),
            (Fault::Garbage, "failonstatus=504", false),
            (Fault::Garbage, "failonstatus=502", true),
        ] {
            let (bad, good) = (faulty(fault), member("b"));
            let url = kind.url(&bad.0);
            let members = [format!("{url} {SHORT}"), kind.at(&good)];
            let proxy = start(&members, &format!("ProxySet {set}"), "");
            assert_eq!(row(&proxy, kind, 4), "bbbb", "{kind:?} {fault:?} {set}");
            let tries = bad.1.load(Ordering::SeqCst);
            assert_eq!(
                tries,
                if is_set_aside { 1 } else { 2 },
                "{kind:?} {fault:?} {set}"
            );
            let lines = told(&proxy, SET_ASIDE, usize::from(is_set_aside));
            let why = match (fault, set) {
                (Fault::Stalls, _) => "no answer in time; ",
                _ => "the status is 502; ",
            };
            let tells = |line: &String| line.contains(&url) && line.contains(why);
            assert!(lines.iter().all(tells), "{lines:?}");
        }
    }
}

#[test]
fn an_answer_that_failonstatus_names_is_passed_on_and_sets_its_member_aside() {
    for kind in BOTH {
        let (bad, good) = (failing("a", "503 Busy"), member("b"));
        let proxy = start(
            &[kind.at(&bad), kind.at(&good)],
            "ProxySet failonstatus=500,503",
            "",
        );
        let answer = ask(&proxy, kind).expect_status(503);
        assert_eq!((&*whose(&answer), &*answer.body), ("a", &b"busy"[..]));
        let lines = told(&proxy, SET_ASIDE, 1);
        for part in [&kind.at(&bad), "60s: the status is 503; "] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        assert_eq!(row(&proxy, kind, 5), "bbbbb");
        assert_eq!(seen([&bad, &good]), [1, 5]);
    }
}

#[test]
fn other_answers_set_nobody_aside() {
    for kind in BOTH {
        let (bad, good) = (failing("a", "503 Busy"), member("b"));
        for set in ["", "ProxySet failonstatus=500,502,504"] {
            let proxy = start(&[kind.at(&bad), kind.at(&good)], set, "");
            assert_eq!(row(&proxy, kind, 6), "ababab");
            told(&proxy, SET_ASIDE, 0);
        }
    }
}

/// A page in its place does not change what the member has answered.
#[test]
fn an_answer_that_is_overridden_is_judged_all_the_same() {
    for kind in BOTH {
        let (bad, good) = (failing("a", "503 Busy"), member("b"));
        let proxy = start(
            &[kind.at(&bad), kind.at(&good)],
            "ProxySet failonstatus=503",
            "ProxyErrorOverride On\nErrorDocument 503 \"ours\"",
        );
        let answer = ask(&proxy, kind).expect_status(503);
        assert_eq!(answer.body, b"ours");
        assert_eq!(row(&proxy, kind, 3), "bbb");
    }
}

/// No client has got anything of it yet.
#[test]
fn an_answer_whose_end_nobody_knows_is_followed_by_the_next_member() {
    for kind in BOTH {
        let bad = Backend::answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        );
        let good = member("b");
        let proxy = start(
            &[kind.url(&bad), kind.at(&good)],
            "ProxySet failonstatus=502",
            "",
        );
        assert_eq!(row(&proxy, kind, 3), "bbb", "{kind:?}: {:#?}", proxy.log());
        assert_eq!(bad.count(), 1, "{kind:?}");
        told(&proxy, SET_ASIDE, 1);
    }
}

/// Once the client has the head, there is no way back.
#[test]
fn an_answer_that_breaks_off_in_its_body_is_not_asked_for_again() {
    let bad = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    let good = member("b");
    let kind = Kind::Page;
    let proxy = start(&[kind.url(&bad), kind.at(&good)], "", "");
    let mut client = Client::sending(&proxy, get("/"));
    client.answer_head().expect_status(200);
    let (body, _) = client.rest();
    assert_eq!(body, b"abc");
    assert!(good.seen().is_empty());
}

/// What a client sends before it has its 101 belongs to the member that gives it.
#[test]
fn what_a_client_sends_early_comes_to_the_member_that_switches() {
    let early = crate::support::client::frame(b"early", Some([1, 2, 3, 4]));
    let odd = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef";
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    for answer in ["", "garbage\r\n\r\n", odd, broken] {
        let bad = Backend::listen();
        let good = Backend::listen();
        let kind = Kind::Tunnel;
        let proxy = start(&[kind.url(&bad), kind.url(&good)], "", "");
        let mut client = Client::asking(&proxy, "/");
        let mut first = bad.accept();
        first.head();
        client.send(&early);
        // It has been read by the time that the member fails.
        proxy.settle();
        first.send(answer);
        first.finish();
        let mut second = good.accept_tunnel();
        client.switched();
        second.expect(&early);
    }
}

/// A kept connection that has ended says nothing about the member: it is asked again over a new one.
#[test]
fn a_kept_connection_that_has_ended_is_no_failure_of_its_member() {
    let closes = Backend::serve(|mut wire| {
        if crate::support::pages::next_request(&mut wire).is_some() {
            wire.send(page("once"));
            // The next one is read, and not answered.
            drop(crate::support::pages::next_request(&mut wire));
        }
    });
    let kind = Kind::Page;
    let spare = member("b");
    let proxy = start(
        &[kind.url(&closes), format!("{} status=+H", kind.at(&spare))],
        "ProxySet failonstatus=502",
        "",
    );
    for _ in 0..3 {
        let answer = ask(&proxy, kind).expect_status(200);
        assert_eq!(answer.body, b"once");
    }
    assert!(spare.seen().is_empty());
    told(&proxy, SET_ASIDE, 0);
}

/// It may have been closed for its age just when the request came; what may have been done is not asked for twice.
#[test]
fn a_kept_connection_that_has_ended_sets_nobody_aside_either_where_it_cannot_be_asked_again() {
    let closes = Backend::serve(|mut wire| {
        if crate::support::pages::next_request(&mut wire).is_some() {
            wire.send(page("once"));
            drop(crate::support::pages::next_request(&mut wire));
        }
    });
    let kind = Kind::Page;
    let proxy = start(&[kind.url(&closes)], "ProxySet failonstatus=502", "");
    ask(&proxy, kind).expect_status(200);
    let mut client = Client::sending(&proxy, post("/", b"x"));
    client.answer_head().expect_status(502);
    told(&proxy, SET_ASIDE, 0);
    ask(&proxy, kind).expect_status(200);
}

/// The client is as slow as the member: whose fault it is nobody knows.
#[test]
fn a_client_that_waits_for_a_100_in_vain_sets_nobody_aside() {
    let waits = Backend::listen();
    let kind = Kind::Page;
    let member = format!("{} timeout=300ms", kind.url(&waits));
    let set = "ProxySet failontimeout=On failonstatus=504";
    let proxy = start(&[member], set, "");
    let expecting = "POST / HTTP/1.1\r\nHost: front.example\r\nContent-Length: 5\r\n\
                     Expect: 100-continue\r\n\r\n";
    let mut client = Client::sending(&proxy, expecting);
    let mut wire = waits.accept();
    wire.head();
    client.answer_head().expect_status(504);
    told(&proxy, SET_ASIDE, 0);
}

/// Nothing of an attempt is left in the request: the heads differ in nothing but the member's name.
#[test]
fn the_second_member_gets_the_request_that_the_first_one_got() {
    for kind in BOTH {
        let (first, second) = (Backend::listen(), Backend::listen());
        let members = [
            format!("{}/base", kind.url(&first)),
            format!("{}/base", kind.url(&second)),
        ];
        let proxy = start(
            &members,
            "",
            "ProxyVia On\nRequestHeader append X-Own here\nProxyPassReverse / balancer://set/",
        );
        let fields =
            "X-Forwarded-For: 192.0.2.7\r\nMax-Forwards: 5\r\nX-Own: there\r\nCookie: a=b\r\n";
        let _client = Client::sending(&proxy, kind.request("/x?y", fields));
        let mut peer = first.accept();
        let head = peer.head();
        drop(peer);
        let expected = head.replace(&first.address().to_string(), &second.address().to_string());
        assert_eq!(second.accept().head(), expected, "{kind:?}");
        assert_eq!(head.matches("127.0.0.1").count(), 2, "{head}");
    }
}
