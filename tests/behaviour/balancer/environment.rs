//! What a request's environment says of the member that got it, in logs and in fields.

use super::{BOTH, Kind, ask, ask_with, member, own_answer, port, section, told, whose};
use crate::support::{Client, Pages, Proxy};

const VARIABLES: &str = "CustomLog access.log \"%>s %{BALANCER_NAME}e %{BALANCER_WORKER_NAME}e %{BALANCER_WORKER_ROUTE}e \
                         %{BALANCER_SESSION_STICKY}e %{BALANCER_SESSION_ROUTE}e %{BALANCER_ROUTE_CHANGED}e\"";

/// A proxy with these members, sessions in `S`, and a plain mapping beside the balancer.
#[track_caller]
fn telling(members: &[String], set: &str, more: &str) -> Proxy {
    Proxy::start(format!(
        "{more}\n{}ProxyPass /plain {}\nProxyPass / balancer://set/\n{VARIABLES}",
        section(members, &format!("ProxySet stickysession=S|s {set}")),
        members.last().unwrap().split(' ').next().unwrap()
    ))
}

#[test]
fn the_variables_tell_balancer_member_and_session() {
    for kind in BOTH {
        let members = ["a", "b", "c"].map(member);
        let [a, b, c] = members.each_ref().map(|member| kind.at(member));
        let lines = [format!("{a} route=ra"), format!("{b} route=rb"), c.clone()];
        let proxy = telling(&lines, "", "");
        let status = kind.success();
        for (number, (path, fields, expected)) in [
            ("/", "", format!("{status} balancer://set {a} ra - - 1")),
            (
                "/",
                "Cookie: S=1.rb\r\n",
                format!("{status} balancer://set {b} rb S rb -"),
            ),
            (
                "/?s=1.ra",
                "",
                format!("{status} balancer://set {a} ra s ra -"),
            ),
            // Who has no route has an empty one.
            (
                "/",
                "Cookie: S=1.rx\r\n",
                format!("{status} balancer://set {c}  S rx 1"),
            ),
            ("/plain", "", format!("{status} - - - - - -")),
            ("/", "Cookie: S=1.\"\\x\r\n", String::new()),
        ]
        .into_iter()
        .enumerate()
        {
            ask_with(&proxy, kind, path, fields).expect_status(status);
            let lines = proxy.wait_for_lines("access.log", number + 1);
            let line = lines[number].replace("/ ", " ");
            if expected.is_empty() {
                // The client's word cannot break out of its place.
                assert!(line.ends_with("S \\\"\\\\x 1"), "{line}");
            } else {
                assert_eq!(line, expected, "{path} {fields}");
            }
        }
    }
}

/// The first attempt was for a session with a route of its own, at a member with a route: none of that is left.
#[test]
fn nothing_remains_of_an_attempt_that_failed() {
    for kind in BOTH {
        let (dead, alive) = (port(), member("b"));
        let lines = [format!("{} route=ra", kind.nobody(&dead)), kind.at(&alive)];
        let proxy = telling(
            &lines,
            "",
            "Header set X-Changed %{BALANCER_ROUTE_CHANGED}e env=BALANCER_ROUTE_CHANGED\n\
             Header set X-Route <%{BALANCER_WORKER_ROUTE}e>\nCustomLog backend.log %{backend}n",
        );
        let answer =
            ask_with(&proxy, kind, "/", "Cookie: S=1.ra\r\n").expect_status(kind.success());
        assert_eq!(whose(&answer), "b");
        assert_eq!(answer.field("X-Changed").as_deref(), Some("1"));
        assert_eq!(answer.field("X-Route").as_deref(), Some("<>"));
        let lines = proxy.wait_for_lines("access.log", 1);
        let expected = format!(
            "{} balancer://set {}  S ra 1",
            kind.success(),
            kind.at(&alive)
        );
        assert_eq!(lines[0].replace("/ ", " "), expected);
        let lines = proxy.wait_for_lines("backend.log", 1);
        assert_eq!(lines, [kind.at(&alive)]);
    }
}

/// The session is on its way to another member, which fails, and so comes back to its own: nothing has changed for it.
#[test]
fn a_session_that_comes_back_to_its_member_is_told_nothing() {
    for kind in BOTH {
        let own = Pages::answering(|asked| {
            if asked.path() == "/busy" {
                "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned()
            } else {
                own_answer("a", asked)
            }
        });
        let dead = port();
        let members = [
            format!("{} route=ra", kind.at(&own)),
            format!("{} route=rb", kind.nobody(&dead)),
        ];
        let set = "failonstatus=503";
        let more = "Header set X-Changed yes env=BALANCER_ROUTE_CHANGED";
        let proxy = telling(&members, set, more);
        let cookie = "Cookie: S=1.ra\r\n";
        ask_with(&proxy, kind, "/busy", cookie).expect_status(503);
        let answer = ask_with(&proxy, kind, "/", cookie).expect_status(kind.success());
        assert_eq!((&*whose(&answer), answer.field("X-Changed")), ("a", None));
        // It was there.
        told(&proxy, ": connect: ", 1);
        let lines = proxy.wait_for_lines("access.log", 2);
        let expected = format!(
            "{} balancer://set {} ra S ra -",
            kind.success(),
            kind.at(&own)
        );
        assert_eq!(lines[1], expected);
    }
}

#[test]
fn who_failed_last_is_in_the_line_of_a_request_that_nobody_took() {
    for kind in BOTH {
        let dead = [port(), port()];
        let [one, two] = dead.each_ref().map(|port| kind.nobody(port));
        let proxy = telling(
            &[format!("{one} route=a"), format!("{two} route=b")],
            "",
            "",
        );
        ask(&proxy, kind).expect_status(503);
        let lines = proxy.wait_for_lines("access.log", 1);
        assert_eq!(
            lines[0].replace("/ ", " "),
            format!("503 balancer://set {two} b - - 1")
        );
    }
}

#[test]
fn lines_and_fields_may_depend_on_them() {
    for kind in BOTH {
        let members = ["a", "b"].map(member);
        let lines = members.each_ref().map(|member| kind.at(member));
        let lines = [
            format!("{} route=ra", lines[0]),
            format!("{} route=rb", lines[1]),
        ];
        let proxy = telling(
            &lines,
            "",
            "CustomLog changed.log %U env=BALANCER_ROUTE_CHANGED\nCustomLog stayed.log %U env=!BALANCER_ROUTE_CHANGED\n\
             Header set X-Balancer %{BALANCER_NAME}e\nHeader set X-Stays yes env=!BALANCER_ROUTE_CHANGED",
        );
        let changed = ask_with(&proxy, kind, "/1", "");
        let stays = ask_with(&proxy, kind, "/2", "Cookie: S=.rb\r\n");
        for (answer, says) in [(&changed, None), (&stays, Some("yes"))] {
            assert_eq!(
                answer.field("X-Balancer").as_deref(),
                Some("balancer://set")
            );
            assert_eq!(answer.field("X-Stays").as_deref(), says);
        }
        proxy.wait_for_lines("access.log", 2);
        assert_eq!(proxy.wait_for_lines("changed.log", 1), ["/1"]);
        assert_eq!(proxy.wait_for_lines("stayed.log", 1), ["/2"]);
    }
}

/// Each request of a connection has its own.
#[test]
fn nothing_remains_of_the_request_before() {
    let kind = Kind::Page;
    let members = ["a", "b"].map(member);
    let lines = members
        .each_ref()
        .map(|member| format!("{} route=r", kind.at(member)));
    let proxy = telling(&lines, "", "");
    let mut client = Client::connect(proxy.address());
    for path in ["/", "/plain", "/none/../plain"] {
        client.send(kind.request(path, ""));
        super::whole_answer(&mut client);
    }
    let lines = proxy.wait_for_lines("access.log", 3);
    assert!(
        lines[0].starts_with("200 balancer://set http://"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["200 - - - - - -"; 2]);
}
