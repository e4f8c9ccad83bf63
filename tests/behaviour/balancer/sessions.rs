//! Sessions: where a request says whose it is, what becomes of that, and how the client is told.

use super::{BOTH, Kind, ask, ask_with, member, own_answer, port, section, seen, start, whose};
use crate::support::wire::Answer;
use crate::support::{BOUND, Backend, Client, Pages, Proxy, wait_until};

/// The line of the documentation.
const COOKIE: &str = "Header add Set-Cookie \"ROUTEID=.%{BALANCER_WORKER_ROUTE}e; path=/\" env=BALANCER_ROUTE_CHANGED";

fn cookie(value: &str) -> String {
    format!("Cookie: ROUTEID={value}\r\n")
}

/// Members `a`, `b` and `c`, each with its name as its route, and these parameters.
fn routed(kind: Kind, members: &[Pages; 3], more: [&str; 3]) -> [String; 3] {
    let mut lines = members.each_ref().map(|member| kind.at(member));
    for ((line, route), more) in lines.iter_mut().zip(["a", "b", "c"]).zip(more) {
        *line += &format!(" route={route} {more}");
    }
    lines
}

fn three() -> [Pages; 3] {
    ["a", "b", "c"].map(member)
}

/// Who answers this four times: one letter, or `*` where it differs.
#[track_caller]
fn holder(proxy: &Proxy, kind: Kind, path: &str, fields: &str) -> String {
    let mut found: Vec<_> = (0..4)
        .map(|_| whose(&ask_with(proxy, kind, path, fields)))
        .collect();
    found.dedup();
    if found.len() == 1 {
        found.remove(0)
    } else {
        "*".to_owned()
    }
}

/// Parameters of the balancer, the path, further fields, and who gets all such requests; `*` where they go round.
const CLAIMS: &[(&str, &str, &str, &str)] = &[
    ("stickysession=ROUTEID", "/", "Cookie: ROUTEID=.b\r\n", "b"),
    (
        "stickysession=ROUTEID",
        "/",
        "Cookie: ROUTEID=1234.c\r\n",
        "c",
    ),
    (
        "stickysession=ROUTEID",
        "/",
        "Cookie: x=1; ROUTEID=1.b; y=2\r\n",
        "b",
    ),
    (
        "stickysession=ROUTEID",
        "/",
        "Cookie: x=1\r\nCookie: ROUTEID=1.b\r\n",
        "b",
    ),
    (
        "stickysession=ROUTEID",
        "/",
        "Cookie: OTHERROUTEID=1.b\r\n",
        "*",
    ),
    ("stickysession=ROUTEID", "/", "Cookie: ROUTEID=b\r\n", "*"),
    ("stickysession=ROUTEID", "/", "Cookie: ROUTEID=.d\r\n", "*"),
    ("stickysession=ROUTEID", "/", "Cookie: ROUTEID=.B\r\n", "*"),
    ("stickysession=ROUTEID", "/", "", "*"),
    ("lbmethod=byrequests", "/", "Cookie: ROUTEID=.b\r\n", "*"),
    ("stickysession=ROUTEID", "/?ROUTEID=1.b", "", "b"),
    ("stickysession=ROUTEID", "/?x=y&ROUTEID=1.c&z", "", "c"),
    ("stickysession=ROUTEID", "/x;ROUTEID=1.c", "", "c"),
    // The URL goes before the cookie.
    (
        "stickysession=ROUTEID",
        "/?ROUTEID=1.b",
        "Cookie: ROUTEID=.c\r\n",
        "b",
    ),
    (
        "stickysession=JSESSIONID|jsessionid",
        "/",
        "Cookie: JSESSIONID=x.b\r\n",
        "b",
    ),
    (
        "stickysession=JSESSIONID|jsessionid",
        "/x;jsessionid=y.c",
        "",
        "c",
    ),
    (
        "stickysession=JSESSIONID|jsessionid",
        "/x;jsessionid=y.c?q",
        "",
        "c",
    ),
    (
        "stickysession=JSESSIONID|jsessionid",
        "/",
        "Cookie: jsessionid=x.b\r\n",
        "*",
    ),
    // Where the value ends.
    ("stickysession=S", "/x;S=y.c;v=1", "", "*"),
    (
        "stickysession=S scolonpathdelim=On",
        "/x;S=y.c;v=1",
        "",
        "c",
    ),
    (
        "stickysession=S scolonpathdelim=Off",
        "/x;S=y.c&v=1",
        "",
        "c",
    ),
    // Where the route begins.
    (
        "stickysession=S stickysessionsep=:",
        "/",
        "Cookie: S=x.a:b\r\n",
        "b",
    ),
    (
        "stickysession=S stickysessionsep=:",
        "/",
        "Cookie: S=x.b\r\n",
        "*",
    ),
    (
        "stickysession=S stickysessionsep=Off",
        "/",
        "Cookie: S=b\r\n",
        "b",
    ),
    (
        "stickysession=S stickysessionsep=Off",
        "/",
        "Cookie: S=x.b\r\n",
        "*",
    ),
    ("stickysession=S", "/", "Cookie: S=x.y.b\r\n", "*"),
];

#[test]
fn a_session_stays_where_its_cookie_or_its_url_says() {
    for kind in BOTH {
        let members = three();
        for (set, path, fields, expected) in CLAIMS.iter().copied() {
            let lines = routed(kind, &members, [""; 3]);
            let proxy = start(&lines, &format!("ProxySet {set}"), "");
            assert_eq!(
                holder(&proxy, kind, path, fields),
                expected,
                "{set} {path} {fields}"
            );
        }
    }
}

/// What the client keeps of an answer, as its next request says it.
fn kept(answer: &Answer) -> Option<String> {
    let value = answer.field("Set-Cookie")?;
    let (pair, rest) = value.split_once("; ").unwrap();
    assert_eq!(rest, "path=/", "{value}");
    Some(format!("Cookie: {pair}\r\n"))
}

#[test]
fn the_cookie_is_set_exactly_when_the_route_changes() {
    for kind in BOTH {
        let members = three();
        let lines = routed(kind, &members, [""; 3]);
        let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
        for expected in ["a", "b", "c"] {
            let first = ask(&proxy, kind).expect_status(kind.success());
            assert_eq!(whose(&first), expected);
            let cookie = kept(&first).expect(&first.head);
            assert_eq!(cookie, format!("Cookie: ROUTEID=.{expected}\r\n"));
            for _ in 0..3 {
                let next = ask_with(&proxy, kind, "/", &cookie);
                assert_eq!(
                    (&*whose(&next), kept(&next)),
                    (expected, None),
                    "{}",
                    next.head
                );
            }
        }
        // One that nobody has is replaced.
        let answer = ask_with(&proxy, kind, "/", &cookie(".gone"));
        assert_eq!(kept(&answer), Some(cookie(&format!(".{}", whose(&answer)))));
        // The cookies of the application stay beside it.
        let both = "Cookie: app=1; ROUTEID=.c\r\n";
        assert_eq!(kept(&ask_with(&proxy, kind, "/", both)), None);
    }
}

/// An answer of the member that is no success has it as well.
#[test]
fn whatever_a_member_answers_tells_the_route() {
    for kind in BOTH {
        let members = [("a", "403 No"), ("b", "302 Found"), ("c", "200 OK")]
            .map(|(name, status)| super::failing(name, status));
        let lines = routed(kind, &members, [""; 3]);
        let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
        for (status, name) in [(403, "a"), (302, "b"), (200, "c")] {
            let answer = ask(&proxy, kind).expect_status(status);
            assert_eq!(
                kept(&answer),
                Some(cookie(&format!(".{name}"))),
                "{}",
                answer.head
            );
        }
    }
}

#[test]
fn a_session_whose_member_is_gone_gets_another_one_and_a_new_cookie() {
    for kind in BOTH {
        let (dead, members) = (port(), three());
        let mut lines = routed(kind, &members, [""; 3]);
        lines[0] = format!("{} route=a retry=300ms", kind.nobody(&dead));
        let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
        let first = ask_with(&proxy, kind, "/", &cookie(".a")).expect_status(kind.success());
        let name = whose(&first);
        assert!(["b", "c"].contains(&&*name), "{name}");
        // One cookie, not one for each attempt.
        assert_eq!(kept(&first), Some(cookie(&format!(".{name}"))));
        for _ in 0..3 {
            let next = ask_with(&proxy, kind, "/", &cookie(&format!(".{name}")));
            assert_eq!((&whose(&next), kept(&next)), (&name, None));
        }
        // A client that still has the old cookie gets its member when that is back.
        let _back = Pages::with(
            |script| Backend::serve_at(dead.address(), script),
            |asked| own_answer("a", asked),
        );
        let mut answer = None;
        wait_until("the member to be back", BOUND, || {
            let found = ask_with(&proxy, kind, "/", &cookie(".a"));
            let is_back = whose(&found) == "a";
            answer = Some(found);
            is_back
        });
        assert_eq!(kept(&answer.unwrap()), None);
        // Those that have been given to another one stay there.
        let next = ask_with(&proxy, kind, "/", &cookie(&format!(".{name}")));
        assert_eq!(whose(&next), name);
    }
}

#[test]
fn with_nofailover_a_session_whose_member_is_gone_is_refused() {
    for kind in BOTH {
        let (dead, members) = (port(), three());
        let mut lines = routed(kind, &members, [""; 3]);
        lines[0] = format!("{} route=a", kind.nobody(&dead));
        let proxy = start(
            &lines,
            "ProxySet stickysession=ROUTEID nofailover=On timeout=60",
            COOKIE,
        );
        for _ in 0..2 {
            let answer = ask_with(&proxy, kind, "/", &cookie(".a")).expect_status(503);
            assert_eq!(kept(&answer), None);
        }
        let line = proxy.wait_for_log("PW416");
        assert!(line.contains("nofailover=On"), "{line}");
        assert_eq!(seen([&members[1], &members[2]]), [0, 0]);
        // Others are led to those who are left, and so is a session of nobody.
        assert_eq!(ask(&proxy, kind).status, kind.success());
        let answer = ask_with(&proxy, kind, "/", &cookie(".gone"));
        assert_eq!(answer.status, kind.success());
    }
}

#[test]
fn redirect_names_who_takes_the_sessions_of_a_member() {
    for kind in BOTH {
        let (dead, members) = (port(), three());
        let mut lines = routed(kind, &members, [""; 3]);
        lines[0] = format!("{} route=a redirect=c", kind.nobody(&dead));
        lines[1] += " status=+D redirect=c";
        let proxy = start(
            &lines,
            "ProxySet stickysession=ROUTEID nofailover=On",
            COOKIE,
        );
        // A member that nobody has tried yet is found out by the first request, which is then led on.
        for route in ["a", "a", "b", "c"] {
            let answer = ask_with(&proxy, kind, "/", &cookie(&format!(".{route}")));
            let changed = (route != "c").then(|| cookie(".c"));
            assert_eq!((&*whose(&answer), kept(&answer)), ("c", changed), "{route}");
        }
    }
}

/// A client without a cookie comes to `c` at the first request, and stays there.
#[test]
fn a_member_that_drains_keeps_its_sessions_and_gets_no_new_ones() {
    for kind in BOTH {
        let members = three();
        let lines = routed(kind, &members, ["status=+N", "", "status=+N"]);
        let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
        for _ in 0..4 {
            let answer = ask(&proxy, kind);
            assert_eq!((&*whose(&answer), kept(&answer)), ("b", Some(cookie(".b"))));
        }
        for route in ["a", "c", "b"] {
            let answer = ask_with(&proxy, kind, "/", &cookie(&format!(".{route}")));
            assert_eq!((&*whose(&answer), kept(&answer)), (route, None));
        }
    }
}

/// Nobody but an operator gets a session to a member that is disabled.
#[test]
fn a_disabled_member_keeps_no_session() {
    for kind in BOTH {
        let members = three();
        let lines = routed(kind, &members, ["status=+D", "", "status=+S"]);
        let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
        for route in ["a", "c"] {
            let answer = ask_with(&proxy, kind, "/", &cookie(&format!(".{route}")));
            assert_eq!((&*whose(&answer), kept(&answer)), ("b", Some(cookie(".b"))));
        }
        assert_eq!(seen([&members[0], &members[2]]), [0, 0]);
    }
}

/// A standby takes what is its own, even while others are there.
#[test]
fn a_standby_keeps_the_sessions_that_it_was_given() {
    let kind = Kind::Tunnel;
    let members = three();
    let lines = routed(kind, &members, ["", "status=+H", ""]);
    let proxy = start(&lines, "ProxySet stickysession=ROUTEID", "");
    assert_eq!(holder(&proxy, kind, "/", &cookie(".b")), "b");
    assert!(!super::row(&proxy, kind, 6).contains('b'));
}

/// Where the route stands in the cookie, proxies need not know of one another.
#[test]
fn two_proxies_with_the_same_configuration_agree_on_every_session() {
    for kind in BOTH {
        let members = three();
        let lines = routed(kind, &members, [""; 3]);
        let proxies = [(); 2].map(|()| start(&lines, "ProxySet stickysession=ROUTEID", COOKIE));
        for round in 0..6 {
            let answer = ask(&proxies[round % 2], kind);
            let (name, cookie) = (whose(&answer), kept(&answer).unwrap());
            for proxy in proxies.iter().rev() {
                let next = ask_with(proxy, kind, "/", &cookie);
                assert_eq!((&whose(&next), kept(&next)), (&name, None));
            }
        }
    }
}

/// Tunnels and pages of one application, at the same places: what a page was told holds for the tunnel.
#[test]
fn tunnels_and_pages_of_a_session_come_to_the_same_place() {
    let members = three();
    let config = format!(
        "{COOKIE}\n{}{}ProxyPass /ws/ balancer://set/\nProxyPass / balancer://pages/",
        section(
            &routed(Kind::Tunnel, &members, [""; 3]),
            "ProxySet stickysession=ROUTEID"
        ),
        section(
            &routed(Kind::Page, &members, [""; 3]),
            "ProxySet stickysession=ROUTEID"
        )
        .replace("balancer://set", "balancer://pages"),
    );
    let proxy = Proxy::start(config);
    for _ in 0..4 {
        let page = ask(&proxy, Kind::Page);
        let cookie = kept(&page).unwrap();
        let tunnel = ask_with(&proxy, Kind::Tunnel, "/ws/", &cookie);
        assert_eq!((whose(&tunnel), kept(&tunnel)), (whose(&page), None));
        // Set anew where the tunnel comes first, too.
        let tunnel = ask_with(&proxy, Kind::Tunnel, "/ws/", "");
        let page = ask_with(&proxy, Kind::Page, "/", &kept(&tunnel).unwrap());
        assert_eq!((whose(&page), kept(&page)), (whose(&tunnel), None));
    }
}

/// Many requests of a client over one connection, each for itself.
#[test]
fn each_request_of_a_connection_has_its_own_member() {
    let kind = Kind::Page;
    let members = three();
    let lines = routed(kind, &members, [""; 3]);
    let proxy = start(&lines, "ProxySet stickysession=ROUTEID", COOKIE);
    let mut client = Client::connect(proxy.address());
    for (fields, name, is_told) in [
        (cookie(".c"), "c", false),
        (cookie(".b"), "b", false),
        (String::new(), "a", true),
        (cookie(".c"), "c", false),
    ] {
        client.send(kind.request("/", &fields));
        let answer = super::whole_answer(&mut client);
        assert_eq!(
            (&*whose(&answer), kept(&answer).is_some()),
            (name, is_told),
            "{fields}"
        );
    }
}
