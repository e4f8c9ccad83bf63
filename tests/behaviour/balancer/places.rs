//! What members are asked for, what leads to a balancer, and what does not get there.

use super::{BOTH, Kind, LOG, SET_ASIDE, ask, ask_with, member, row, section, seen, told, whose};
use crate::support::client::request_with;
use crate::support::pages::{get, get_with};
use crate::support::{Backend, Client, Pages, Proxy, TempDir};

/// The line and the `Host` of what a member was asked last.
fn last(member: &Pages) -> (String, String) {
    let asked = member.seen().pop().unwrap();
    let target = asked.path().to_owned();
    (target, asked.field("Host").unwrap())
}

#[test]
fn a_member_is_asked_for_its_own_path_that_of_the_balancer_and_the_rest() {
    for kind in BOTH {
        for (own, from, to, asked, expected) in [
            ("", "/", "/", "/", "/"),
            ("", "/", "/", "/x/y?z", "/x/y?z"),
            ("/", "/", "/", "/x", "/x"),
            ("", "/app", "", "/app", "/"),
            ("", "/app", "", "/app?q", "/?q"),
            ("", "/app", "", "/app/x", "/x"),
            ("", "/app/", "/", "/app/x", "/x"),
            ("", "/app/", "/inner/", "/app/x", "/inner/x"),
            ("", "/app", "/inner", "/app/x", "/inner/x"),
            ("/base", "/app/", "/", "/app/x", "/base/x"),
            ("/base/", "/app/", "/", "/app/x", "/base/x"),
            (
                "/base",
                "/app/",
                "/inner/",
                "/app/x?y=1&z",
                "/base/inner/x?y=1&z",
            ),
            ("/base/", "/app/", "/inner/", "/app/", "/base/inner/"),
            ("/base", "/app", "", "/app/x", "/base/x"),
            ("/a%20b", "/app/", "/c%20d/", "/app/%7ex", "/a%20b/c%20d/~x"),
            ("", "/app/", "/", "/app/a%20b/%C3%BC%25", "/a%20b/%C3%BC%25"),
            (
                "",
                "/app/",
                "/",
                "/app/x?a%20b=%2F%00+%",
                "/x?a%20b=%2F%00+%",
            ),
        ] {
            let member = member("a");
            let proxy = Proxy::start(format!(
                "{}ProxyPass {from} balancer://set{to}",
                section(&[format!("{}{own}", kind.at(&member))], "")
            ));
            let answer = ask_with(&proxy, kind, asked, "");
            assert_eq!(answer.status, kind.success(), "{own} {from} {to} {asked}");
            assert_eq!(
                last(&member).0,
                expected,
                "{kind:?} {own} {from} {to} {asked}"
            );
        }
    }
}

/// Whatever a plain mapping makes of a path, a balancer makes of it too.
#[test]
fn the_rest_of_the_path_is_what_a_plain_mapping_makes_of_it() {
    for kind in BOTH {
        for more in ["", "nocanon"] {
            let member = member("a");
            let url = kind.at(&member);
            let proxy = Proxy::start(format!(
                "AllowEncodedSlashes NoDecode\n{}ProxyPass /plain/ {url}/base/inner/ {more}\n\
                 ProxyPass /set/ balancer://set/inner/ {more}",
                section(&[format!("{url}/base/")], "")
            ));
            for rest in [
                "",
                "a",
                "a/b",
                "a//b",
                "./a",
                "../plain/a",
                "%41",
                "%2e%2e/x",
                "a%2Fb",
                "a%2fb",
                "a;b=c",
                "%e4%f6",
                "a:b@c",
                "~",
                "%7E",
                "a%20b",
                "a+b",
                "*",
                "a?b?c",
                "?",
                "a?b%20c#",
            ] {
                let answers = ["plain", "set"].map(|begin| {
                    let before = member.seen().len();
                    let rest = rest.replace("plain", begin);
                    let answer = ask_with(&proxy, kind, &format!("/{begin}/{rest}"), "");
                    let asked = member.seen().split_off(before).pop();
                    (answer.status, asked.map(|asked| asked.path().to_owned()))
                });
                assert_eq!(answers[0], answers[1], "{kind:?} {more} {rest}");
            }
        }
    }
}

#[test]
fn the_host_is_the_member_s_own_or_that_of_the_client() {
    for kind in BOTH {
        let members = ["a", "b"].map(member);
        let lines = members.each_ref().map(|member| kind.at(member));
        for (more, keeps) in [("", false), ("ProxyPreserveHost On", true)] {
            let proxy = Proxy::start(format!(
                "{more}\n{}ProxyPass / balancer://set/",
                section(&lines, "")
            ));
            assert_eq!(row(&proxy, kind, 2), "ab");
            for member in &members {
                let host = last(member).1;
                let own = member.backend.address().to_string();
                assert_eq!(host, if keeps { "front.example" } else { &own });
            }
        }
        // That of who is asked at last, not of who was tried first.
        let (dead, alive) = (super::port(), member("c"));
        let proxy = super::start(&[kind.nobody(&dead), kind.at(&alive)], "", "");
        ask(&proxy, kind);
        assert_eq!(last(&alive).1, alive.backend.address().to_string());
    }
}

#[test]
fn patterns_and_locations_lead_to_a_balancer() {
    for kind in BOTH {
        let member = member("a");
        let set = section(&[format!("{}/base", kind.at(&member))], "");
        for (line, asked, expected) in [
            (
                "ProxyPassMatch ^/room/(.*)$ balancer://set/r/$1",
                "/room/x/y?z",
                "/base/r/x/y?z",
            ),
            (
                "ProxyPassMatch ^/room/ balancer://set",
                "/room/x",
                "/base/room/x",
            ),
            (
                "<Location /app/>\nProxyPass balancer://set/\n</Location>",
                "/app/x",
                "/base/x",
            ),
            (
                "<Location /app>\nProxyPass balancer://set/inner\n</Location>",
                "/app/x",
                "/base/inner/x",
            ),
            (
                "RewriteEngine On\nRewriteRule ^/x/(.*) balancer://set/$1 [P]",
                "/x/y?z",
                "/base/y?z",
            ),
            (
                "RewriteEngine On\nRewriteRule ^/x/(.*) balancer://SET/$1?q=$1 [P]",
                "/x/y",
                "/base/y?q=y",
            ),
            (
                "RewriteEngine On\nRewriteRule ^/x$ balancer://set [P]",
                "/x",
                "/base/",
            ),
        ] {
            let proxy = Proxy::start(format!("{set}{line}"));
            let answer = ask_with(&proxy, kind, asked, "");
            assert_eq!(answer.status, kind.success(), "{line}");
            assert_eq!(last(&member).0, expected, "{kind:?} {line}");
        }
    }
}

/// The name of a balancer ends where the configuration ends it.
#[test]
fn no_request_chooses_another_balancer() {
    for kind in BOTH {
        let members = ["a", "b"].map(member);
        let [one, other] = members
            .each_ref()
            .map(|member| section(&[kind.at(member)], ""));
        let other = other.replace("balancer://set", "balancer://set2");
        for line in [
            "RewriteEngine On\nRewriteRule ^/(.*) balancer://set$1 [P]",
            "ProxyPassMatch ^/(.*) balancer://set$1",
            "ProxyPassMatch ^/set(.*) balancer://set$1",
            "ProxyPass /set balancer://set",
        ] {
            let proxy = Proxy::start(format!("{one}{other}{line}"));
            for path in [
                "/2",
                "/2/",
                "/2/x",
                "/set2/x",
                "/set2",
                "/set/../2",
                "/@set2/",
                "/.set2",
                "/:2/x",
            ] {
                let answer = ask_with(&proxy, kind, path, "");
                let name = whose(&answer);
                assert!(
                    ["a", "400", "403", "404"].contains(&&*name),
                    "{kind:?} {line} {path}: {name}"
                );
            }
        }
        assert!(members[1].seen().is_empty());
        assert!(!members[0].seen().is_empty());
    }
}

/// The documented way to have pages and tunnels on one path.
#[test]
fn rules_lead_pages_and_tunnels_of_one_path_to_their_balancers() {
    let sockets = ["a", "b"].map(member);
    let pages = ["c", "d"].map(member);
    let proxy = Proxy::start(format!(
        "{}{}RewriteEngine On\nRewriteCond %{{HTTP:Upgrade}} =websocket [NC]\n\
         RewriteRule ^/x/(.*) balancer://set/$1 [P,L]\nRewriteRule ^/x/(.*) balancer://pages/$1 [P,L]",
        section(
            &sockets.each_ref().map(|member| Kind::Tunnel.at(member)),
            ""
        ),
        section(&pages.each_ref().map(|member| Kind::Page.at(member)), "")
            .replace("balancer://set", "balancer://pages"),
    ));
    let mut names = String::new();
    for _ in 0..4 {
        for kind in BOTH {
            let answer = ask_with(&proxy, kind, "/x/y?z", "");
            names += &whose(&answer.expect_status(kind.success()));
        }
    }
    assert_eq!(names, "acbdacbd");
    for member in sockets.iter().chain(&pages) {
        assert_eq!(last(member).0, "/y?z");
    }
}

/// A tunnel's place stays one: no member hears of who asks for something else, and nobody's turn is taken by him.
#[test]
fn who_asks_for_no_upgrade_gets_426_and_comes_to_no_member() {
    let kind = Kind::Tunnel;
    let members = ["a", "b"].map(member);
    let proxy = super::start(&members.each_ref().map(|member| kind.at(member)), "", "");
    let mut names = String::new();
    for method in ["GET", "POST", "HEAD", "GET"] {
        let request = get("/").replace("GET", method);
        let answer = Client::sending(&proxy, request)
            .answer_head()
            .expect_status(426);
        assert!(answer.field("Upgrade").is_some(), "{}", answer.head);
        names += &row(&proxy, kind, 1);
    }
    assert_eq!(names, "abab");
    assert_eq!(
        members.each_ref().map(|member| member.backend.count()),
        [2, 2]
    );
    told(&proxy, SET_ASIDE, 0);
    // Also where nobody could have been asked.
    let proxy = super::start(
        &[format!("{} status=+D", kind.at(&members[0]))],
        "ProxySet timeout=60",
        "",
    );
    Client::sending(&proxy, get("/"))
        .answer_head()
        .expect_status(426);
    told(&proxy, "PW416", 0);
}

/// And an `Upgrade` on the way to pages goes no further.
#[test]
fn members_for_pages_are_asked_for_no_upgrade() {
    let kind = Kind::Page;
    let member = member("a");
    let proxy = super::start(&[kind.at(&member)], "", "");
    let mut client = Client::sending(&proxy, request_with("/", ""));
    assert_eq!(super::whole_answer(&mut client).status, 200);
    assert_eq!(member.seen()[0].field("Upgrade"), None);
}

#[test]
fn who_may_not_come_to_a_balancer_comes_to_none_of_its_members() {
    for kind in BOTH {
        let member = member("a");
        for denied in [
            "<Proxy balancer://set>\nRequire all denied\n</Proxy>",
            "<Proxy balancer://set/x>\nRequire ip 192.0.2.1\n</Proxy>",
            "<Proxy *>\nRequire ip 192.0.2.0/24\n</Proxy>",
            "<Location />\nRequire all denied\n</Location>",
        ] {
            let proxy = super::start(&[kind.at(&member)], "", denied);
            let answer = ask_with(&proxy, kind, "/x/y", "");
            assert_eq!(answer.status, 403, "{denied}");
            assert_eq!(proxy.wait_for_lines("access.log", 1), ["403 -"]);
        }
        assert_eq!(member.backend.count(), 0);
        // What is said of the member's own URL is about those that are led there without a balancer.
        let url = kind.at(&member);
        let other = format!(
            "<Proxy {url}>\nRequire all denied\n</Proxy>\n<Proxy balancer://other>\nRequire all denied\n</Proxy>\n\
             ProxyPass /plain/ {url}/"
        );
        let proxy = super::start(&[url], "", &other);
        assert_eq!(ask(&proxy, kind).status, kind.success());
        assert_eq!(ask_with(&proxy, kind, "/plain/", "").status, 403);
    }
}

/// What a member calls itself in its answers, or what the balancer is called there, is called as the client knows it.
#[test]
fn redirections_of_members_lead_to_the_front() {
    for kind in BOTH {
        let members = ["a", "b"].map(|_| {
            Pages::answering(|asked| {
                let host = asked.field("Host").unwrap();
                format!("HTTP/1.1 302 Found\r\nLocation: http://{host}/base/next\r\nContent-Length: 0\r\n\r\n")
            })
        });
        let lines = members
            .each_ref()
            .map(|member| format!("{}/base", kind.at(member)));
        let reverse: String = members
            .iter()
            .map(|member| {
                format!(
                    "ProxyPassReverse /app/ http://{}/base/\n",
                    member.backend.address()
                )
            })
            .collect();
        for reverse in [&*reverse, "ProxyPassReverse /app/ balancer://set/\n"] {
            let proxy = Proxy::start(format!(
                "{}ProxyPass /app/ balancer://set/\n{reverse}",
                section(&lines, "")
            ));
            for _ in 0..4 {
                let answer = ask_with(&proxy, kind, "/app/", "").expect_status(302);
                let location = answer.field("Location");
                assert_eq!(
                    location.as_deref(),
                    Some("http://front.example/app/next"),
                    "{kind:?} {reverse}"
                );
            }
        }
    }
}

#[test]
fn members_may_be_unix_sockets() {
    let directory = TempDir::new();
    let path = directory.path().join("b.sock");
    let member = Backend::echo_unix(&path);
    let config = format!(
        "<Proxy balancer://set>\nBalancerMember unix:{}|ws://localhost/ route=u\n\
         BalancerMember unix:{}|ws://other/\n</Proxy>\nProxyPass / balancer://set/\n{LOG}",
        directory.path().join("nobody.sock").display(),
        path.display(),
    );
    let proxy = Proxy::start_in(directory, config, "");
    for _ in 0..2 {
        Client::tunnel(&proxy, "/").echo("x");
    }
    assert_eq!(member.count(), 2);
    told(&proxy, SET_ASIDE, 1);
}

/// Requests of one client's connection go to balancers, to plain backends and to nobody, in any order.
#[test]
fn a_connection_goes_on_behind_a_request_that_a_balancer_had() {
    let kind = Kind::Page;
    let members = ["a", "b"].map(member);
    let proxy = Proxy::start(format!(
        "{}ProxyPass /set/ balancer://set/\nProxyPass /plain/ {}/",
        section(&members.each_ref().map(|member| kind.at(member)), ""),
        kind.at(&members[0])
    ));
    let mut client = Client::connect(proxy.address());
    for (path, expected) in [
        ("/set/", "a"),
        ("/plain/", "a"),
        ("/none", "404"),
        ("/set/", "b"),
        ("/set/", "a"),
    ] {
        client.send(get_with(path, ""));
        assert_eq!(whose(&super::whole_answer(&mut client)), expected, "{path}");
    }
    assert_eq!(seen([&members[0], &members[1]]), [3, 1]);
}
