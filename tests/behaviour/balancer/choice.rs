//! Who gets a request: methods, factors, sets, roles, flags, and the ways to configure them.

use super::{BOTH, Kind, LOG, ask, ask_with, member, port, row, section, seen, start, told, whose};
use crate::support::client::switch;
use crate::support::{BOUND, Backend, Client, Proxy, each_mode, pattern, wait_until};

#[test]
fn requests_go_round_by_their_factors() {
    for kind in BOTH {
        let members = ["a", "b", "c", "d"].map(member);
        let mut lines = members.each_ref().map(|member| kind.at(member));
        let proxy = start(&lines, "", "");
        assert_eq!(row(&proxy, kind, 8), "abcdabcd");
        lines[3] += " loadfactor=2";
        let proxy = start(&lines, "", "");
        assert_eq!(row(&proxy, kind, 10), "dabcddabcd");
        lines[0] += " loadfactor=1.5";
        let proxy = start(&lines[..2], "", "");
        assert_eq!(row(&proxy, kind, 5).matches('a').count(), 3);
    }
}

/// `LINE` stands for the members that are closed ports. A small letter is a member, with its parameters behind it.
#[test]
fn sets_roles_and_flags_decide_who_may_have_it() {
    for kind in BOTH {
        for (lines, expected) in [
            // Nobody sees a standby while another one is there.
            (&["a", "h status=+H", "b"][..], "abab"),
            (&["- a", "h status=+H", "b"], "bbbb"),
            (&["- a", "h status=+H", "- b"], "hhhh"),
            (&["- a", "h status=+H", "i status=+H"], "hihi"),
            // A spare comes for each who is missing.
            (&["a", "b", "r status=+R"], "abab"),
            (&["a", "- b", "r status=+R"], "arar"),
            (&["a status=+D", "b", "r status=+R"], "brbr"),
            (&["- a", "h status=+H", "r status=+R"], "rrrr"),
            // Those who are not to be used are not.
            (&["a status=+D", "b"], "bbbb"),
            (&["a status=+S", "b"], "bbbb"),
            (&["a status=+N", "b"], "bbbb"),
            (&["a status=D", "b status=+D-D"], "bbbb"),
            (&["a status=+D", "h status=+H"], "hhhh"),
            // A set is there for those before it.
            (&["a lbset=1", "b", "c"], "bcbc"),
            (&["a lbset=1", "- b", "c"], "cccc"),
            (&["a lbset=1", "- b", "- c"], "aaaa"),
            (&["a lbset=1", "- b", "h status=+H"], "hhhh"),
        ] {
            let members: Vec<_> = lines
                .iter()
                .map(|line| {
                    let is_dead = line.starts_with("- ");
                    let (name, parameters) = line
                        .trim_start_matches("- ")
                        .split_once(' ')
                        .unwrap_or((line, ""));
                    let name = &*name.to_owned().leak();
                    let (member, port) = (member(name), port());
                    let url = if is_dead {
                        kind.nobody(&port)
                    } else {
                        kind.at(&member)
                    };
                    (format!("{url} {parameters}"), member, port)
                })
                .collect();
            let configured: Vec<_> = members.iter().map(|(line, ..)| line.clone()).collect();
            let proxy = start(&configured, "", "");
            // Whoever is closed is found out by the first requests.
            ask(&proxy, kind).expect_status(kind.success());
            ask(&proxy, kind).expect_status(kind.success());
            let mut found: Vec<_> = row(&proxy, kind, 4).chars().collect();
            let mut expected: Vec<_> = expected.chars().collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{kind:?} {lines:?}");
        }
    }
}

#[test]
fn where_nobody_may_be_used_the_answer_is_503() {
    for kind in BOTH {
        for flags in ["+D", "+S", "+N", "+DH"] {
            let member = member("a");
            let proxy = start(&[format!("{} status={flags}", kind.at(&member))], "", "");
            assert_eq!(ask(&proxy, kind).status, 503, "{flags}");
            let lines = told(&proxy, "PW416", 1);
            assert!(
                lines[0].contains("balancer://set: no member can be used (503)"),
                "{lines:?}"
            );
            assert_eq!(proxy.wait_for_lines("access.log", 1), ["503 -"]);
            assert_eq!(seen([&member]), [0]);
        }
    }
}

#[test]
fn tunnels_count_as_busy_as_long_as_they_are_open() {
    let kind = Kind::Tunnel;
    let members = ["a", "b"].map(member);
    let proxy = start(
        &members.each_ref().map(|member| kind.at(member)),
        "ProxySet lbmethod=bybusyness",
        "",
    );
    let open = || {
        let mut client = Client::asking(&proxy, "/");
        let name = whose(&client.switched());
        (client, name)
    };
    let mut tunnels: Vec<_> = (0..6).map(|_| open()).collect();
    let held =
        |tunnels: &[(Client, String)], name| tunnels.iter().filter(|(_, of)| of == name).count();
    assert_eq!((held(&tunnels, "a"), held(&tunnels, "b")), (3, 3));
    // All of one end: those that come next are its own.
    tunnels.retain(|(_, name)| name == "a");
    proxy.wait_for_lines("access.log", 3);
    proxy.settle();
    tunnels.extend((0..3).map(|_| open()));
    assert_eq!((held(&tunnels, "a"), held(&tunnels, "b")), (3, 3));
}

#[test]
fn a_request_that_is_being_answered_counts_as_busy() {
    let kind = Kind::Page;
    let slow = Backend::listen();
    let quick = member("b");
    let proxy = start(
        &[kind.url(&slow), kind.at(&quick)],
        "ProxySet lbmethod=bybusyness",
        "",
    );
    let mut waits = Client::sending(&proxy, kind.request("/", ""));
    let mut peer = slow.accept();
    peer.head();
    assert_eq!(row(&proxy, kind, 10), "b".repeat(10));
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12");
    waits.answer_head();
    assert_eq!(row(&proxy, kind, 10), "b".repeat(10));
    peer.send("345");
    waits.receive(5);
    let mut next = None;
    wait_until("the slow member to be asked again", BOUND, || {
        let mut client = Client::sending(&proxy, kind.request("/", ""));
        client
            .tcp()
            .set_read_timeout(Some(std::time::Duration::from_millis(100)))
            .unwrap();
        let is_slow = client.try_head().is_err();
        next = Some(client);
        is_slow
    });
    // Over the connection that it had kept.
    peer.head();
}

#[test]
fn bytes_of_answers_decide_by_traffic() {
    let kind = Kind::Page;
    let large = crate::support::Pages::answering(|asked| {
        super::own_answer("a", asked).replace(
            "X-Member",
            &format!("X-Long: {}\r\nX-Member", "x".repeat(5000)),
        )
    });
    let small = member("b");
    let proxy = start(
        &[kind.at(&large), kind.at(&small)],
        "ProxySet lbmethod=bytraffic",
        "",
    );
    let shares = row(&proxy, kind, 20);
    // One answer of the first is as much as a dozen and more of the second.
    assert!(shares.starts_with("abbbbbbbbb"), "{shares}");
    assert!(shares.matches('a').count() <= 2, "{shares}");
}

each_mode! {
    fn bytes_of_a_tunnel_decide_by_traffic_while_it_is_open(mode: Mode) {
        for comes_from_member in [true, false] {
            let (busy, other) = (Backend::listen(), member("b"));
            let kind = Kind::Tunnel;
            let lines = [kind.url(&busy), kind.at(&other)];
            let proxy = start(&lines, "ProxySet lbmethod=bytraffic", mode.directives());
            let mut client = Client::asking(&proxy, "/");
            let mut peer = busy.accept_tunnel();
            client.switched();
            let bytes = pattern(9, 60_000);
            if comes_from_member {
                peer.send(&bytes);
                client.expect(&bytes);
            } else {
                client.send(&bytes);
                peer.expect(&bytes);
            }
            proxy.settle();
            // A handshake is some hundred bytes.
            assert_eq!(row(&proxy, kind, 30), "b".repeat(30));
            // Until the other one has moved more.
            let mut second = Client::asking(&proxy, "/");
            assert_eq!(whose(&second.switched()), "b");
            second.send(pattern(10, 120_000));
            let mut clients = Vec::new();
            wait_until("the first to be asked again", BOUND, || {
                clients.push(Client::asking(&proxy, "/"));
                busy.count() > 1
            });
        }
    }
}

each_mode! {
    /// What comes in one piece with the 101 counts as what comes behind it: once.
    fn bytes_of_a_tunnel_count_once(mode: Mode) {
        let (first, second) = (Backend::listen(), Backend::listen());
        let kind = Kind::Tunnel;
        let lines = [kind.url(&first), kind.url(&second)];
        let proxy = start(&lines, "ProxySet lbmethod=bytraffic", mode.directives());
        let open = |backend: &Backend, at_once: usize, later: usize| {
            let mut client = Client::asking(&proxy, "/");
            let mut peer = backend.accept();
            peer.head();
            peer.send([switch().as_bytes(), &vec![1; at_once]].concat());
            client.switched();
            client.expect(vec![1; at_once]);
            peer.send(vec![2; later]);
            client.expect(vec![2; later]);
            proxy.settle();
            (client, peer)
        };
        let _first = open(&first, 6000, 0);
        let _second = open(&second, 0, 6300);
        // The first has moved less.
        let _third = open(&first, 0, 0);
    }
}

#[test]
fn parameters_of_the_balancer_may_stand_at_its_mapping_too() {
    let members = ["a", "b"].map(member);
    let kind = Kind::Tunnel;
    let lines = members
        .each_ref()
        .map(|member| format!("{} route={}", kind.at(member), "r"));
    let lines = [lines[0].clone(), lines[1].replace("route=r", "route=s")];
    let set = section(&lines, "");
    for config in [
        format!("{set}ProxyPass / balancer://set/ stickysession=S"),
        format!("ProxyPass / balancer://set/ stickysession=S\n{set}"),
        format!("{set}ProxySet balancer://set stickysession=S\nProxyPass / balancer://set/"),
        format!(
            "{set}<Proxy balancer://set>\nProxySet stickysession=S\n</Proxy>\nProxyPass / balancer://set/"
        ),
        format!("{set}<Location />\nProxyPass balancer://set/ stickysession=S\n</Location>"),
        format!(
            "BalancerMember balancer://set {}\nBalancerMember balancer://set {}\n\
             ProxySet balancer://set stickysession=S\nProxyPass / balancer://set/",
            lines[0], lines[1]
        ),
    ] {
        let proxy = Proxy::start(format!("{config}\n{LOG}"));
        let asked = (0..4).map(|_| whose(&ask_with(&proxy, kind, "/", "Cookie: S=1.s\r\n")));
        assert_eq!(asked.collect::<String>(), "bbbb", "{config}");
    }
}

#[test]
fn virtual_hosts_share_the_balancers_of_the_server_and_have_some_of_their_own() {
    let members = ["a", "b", "c", "d"].map(member);
    for kind in BOTH {
        let [a, b, c, d] = members.each_ref().map(|member| kind.at(member));
        let shared = section(&[a, b], "");
        let own = |url| section(&[url], "").replace("balancer://set", "balancer://own");
        let config = format!(
            "{shared}<VirtualHost *:*>\nServerName one.example\n{}\
             ProxyPass /own balancer://own\nProxyPass / balancer://set/\n</VirtualHost>\n\
             <VirtualHost *:*>\nServerName two.example\n{}\
             ProxyPass /own balancer://own\nProxyPass / balancer://set/\n</VirtualHost>",
            own(c),
            own(d)
        );
        let proxy = Proxy::start(config);
        // Those of the shared one take turns, whichever host the requests are for.
        for (host, path, expected) in [
            ("one.example", "/", "a"),
            ("two.example", "/", "b"),
            ("one.example", "/own", "c"),
            ("two.example", "/own", "d"),
            ("one.example", "/own", "c"),
            ("two.example", "/", "a"),
            ("one.example", "/", "b"),
        ] {
            let request = kind.request(path, "").replace("front.example", host);
            let answer = super::whole_answer(&mut Client::sending(&proxy, request));
            assert_eq!(whose(&answer), expected, "{host} {path}");
        }
    }
}
