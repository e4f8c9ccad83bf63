//! What `--explain` tells of a request.

use crate::command_line::with_file;

#[test]
fn it_tells_what_would_become_of_a_request_step_by_step() {
    let config = "Listen 127.0.0.1:8765\nListen 8766\nServerName main.example\nProxyTimeout 7\n\
                  ProxyPass /ws/no !\nProxyPassMatch ^/m/(.*) ws://m.example/$1\n\
                  ProxyPass /ws/ ws://backend.example:81/x/ connectiontimeout=2\n\
                  ProxyPass /down/ ws://down.example/ status=+D\n\
                  ProxyPass /page/ http://page.example/ disablereuse=On\n\
                  <Location /ws/deep>\nProxyPreserveHost On\nProxyWebsocketIdleTimeout 5min\n</Location>\n\
                  <VirtualHost *:8766>\nServerName two.example\nProxyWebsocketAsync On\n</VirtualHost>\n\
                  <Proxy ws://backend.example:81/x/deep>\nProxyWebsocketHalfCloseTimeout 7\n</Proxy>\n";
    let explain = |arguments: &[&str]| with_file(config, &[&["--explain"], arguments].concat());
    let told = explain(&[
        "GET /ws/deep//%61?q HTTP/1.1",
        "-H",
        "Host: main.example:8765",
        "-H",
        "Origin: http://o",
    ])
    .expect_status(0)
    .stdout;
    for part in [
        "main server\n  main.example",
        "  path \"/ws/deep/a\"\n",
        "  <Location \"/ws/deep\"> at ",
        " applies\n",
        ": \"/ws/deep/a\" is not below \"/ws/no\"\n",
        ": \"/ws/deep/a\" is not what \"^/m/(.*)\" finds\n",
        "proxy.conf:7: matches, and asks for /x/deep/a?q\n",
        "  connect within 2s, each other step within 7s\n",
        "the backend is asked\n  GET /x/deep/a?q HTTP/1.1\n  Host: main.example:8765\n",
        "  Origin: http://o\n",
        "  X-Forwarded-For: 127.0.0.1\n",
        "  <Proxy \"ws://backend.example:81/x/deep\"> at ",
        "  idle 300s, half closed 7s\n  in its worker\n",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    let told = explain(&[
        "GET /m/",
        "-H",
        "host: two.example:8766",
        "--client",
        "192.0.2.9",
    ])
    .expect_status(0)
    .stdout;
    assert!(told.contains("virtual host\n  two.example"), "{told}");
    assert!(told.contains("X-Forwarded-For: 192.0.2.9\n"), "{told}");
    assert!(told.contains("  in a reactor, after 0s"), "{told}");
    let asked = "the backend is asked\n  GET /x HTTP/1.1\n  Host: page.example\n";
    let rest = "  X-Forwarded-Host: two.example\n  X-Forwarded-Server: main.example\n  Connection: close\nexchange\n";
    for question in [&["GET /page/x", "-H", "Upgrade:"][..], &["POST /page/x"]] {
        let told = explain(question).expect_status(0).stdout;
        let asked = asked.replace("GET", question[0].split(' ').next().unwrap());
        assert!(told.contains(&asked) && told.contains(rest), "{told}");
        assert!(!told.contains("Sec-WebSocket"), "{told}");
    }
    for (arguments, answer) in [
        (
            &["GET /ws/no/x"][..],
            "  404: nothing is mapped at \"/ws/no/x\"\n",
        ),
        (&["GET /ws/", "-H", "Upgrade:"], "  426: "),
        (&["GET /down/", "-H", "Upgrade:"], "  426: "),
        (&["GET /down/"], "  503: "),
        (&["GET /ws/%00"], "  404: "),
        (&["GET /ws/ HTTP/3"], "  400: "),
        (&["BREW\t/ x"], "  400: "),
    ] {
        let told = explain(arguments).expect_status(0).stdout;
        assert!(
            told.contains(&format!("answer\n{answer}")),
            "{arguments:?}: {told}"
        );
    }
    for (arguments, problem) in [
        (&["--explain", "x"][..], "request line"),
        (&["--explain", "GET /", "-H", "no field"], "Name: value"),
        (&["-t", "-H", "a: b"], "belong to --explain"),
    ] {
        let finished = with_file(config, arguments).expect_status(1);
        assert!(
            finished.stderr.contains(problem),
            "{arguments:?}: {finished:?}"
        );
    }
}

const BALANCERS: &str = "Listen 127.0.0.1:8765\nServerName main.example\n\
    <Proxy balancer://set>\nBalancerMember ws://a.example route=a status=+D redirect=b\n\
    BalancerMember ws://b.example/x/ route=b loadfactor=2 timeout=3 hcmethod=WS\n\
    BalancerMember ws://c.example route=c status=+N retry=5\n\
    BalancerMember ws://d.example route=d status=+H\nBalancerMember ws://e.example lbset=1 route=e\n\
    BalancerMember ws://f.example route=f status=+ER\n\
    ProxySet stickysession=S|s lbmethod=bybusyness maxattempts=1\n</Proxy>\n\
    <Proxy balancer://bound>\nBalancerMember ws://a.example route=a status=+I\n\
    BalancerMember ws://b.example route=b status=+S\n\
    ProxySet stickysession=S nofailover=On timeout=2\n</Proxy>\n\
    <Proxy balancer://none>\nBalancerMember ws://a.example status=+S\nProxySet timeout=2\n</Proxy>\n\
    <Proxy balancer://pages>\nBalancerMember http://p.example\n</Proxy>\n\
    ProxyPass /set/ balancer://set/y/\nProxyPass /bound/ balancer://bound/\n\
    ProxyPass /none/ balancer://none/\nProxyPass /pages/ balancer://pages/\n";

fn explain(arguments: &[&str]) -> String {
    let finished = with_file(BALANCERS, &[&["--explain"], arguments].concat());
    finished.expect_status(0).stdout
}

#[test]
fn it_tells_which_member_of_a_balancer_would_get_a_request_and_why() {
    let told = explain(&["GET /set/%7a?q"]);
    let lines = told.lines().skip_while(|line| *line != "balancer");
    let lines: Vec<&str> = lines.take(17).collect();
    // Behind some stands where they were configured.
    let parts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split("  [").next())
        .collect();
    assert_eq!(
        parts,
        [
            "balancer",
            "  balancer://set, bybusyness",
            "  no session: nothing in cookie or URL names a route by S|s",
            "  ws://a.example route a redirect b: disabled (D), not used",
            "  ws://b.example/x/ route b: can be used, while its health checks (WS) pass",
            "  ws://c.example route c: draining (N), for its own sessions only",
            "  ws://d.example route d: hot standby (H), where nobody else of its set can be used",
            "  ws://e.example route e set 1: used where no lower set has anybody",
            "  ws://f.example route f: set aside (E) until this request tries it; hot spare (R), in place of one of its set \
             that cannot be used",
            "  chosen, if nothing has happened before: ws://b.example/x/",
            "  where it cannot be connected to, it is left alone for 60s, and one other is tried",
            "variables",
            "  BALANCER_NAME=balancer://set",
            "  BALANCER_WORKER_NAME=ws://b.example/x/",
            "  BALANCER_WORKER_ROUTE=b",
            "  BALANCER_ROUTE_CHANGED=1",
            "backend",
        ]
    );
    assert!(lines[1].contains("proxy.conf:4]"), "{told}");
    assert!(lines[4].contains("proxy.conf:5]"), "{told}");
    for part in [
        "  ws://b.example/x/\n  connect within 3s, each other step within 3s\n",
        "the backend is asked\n  GET /x/y/z?q HTTP/1.1\n  Host: b.example\n",
        "tunnel\n",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
}

#[test]
fn it_tells_what_a_session_leads_to() {
    for (cookie, session, chosen) in [
        ("S=1.c", "\"c\" by S: leads to its member", "ws://c.example"),
        (
            "S=1.a",
            "\"a\" by S: its member cannot be used, and redirect= leads on",
            "ws://b.example/x/",
        ),
        (
            "S=1.x\u{fc}",
            "\"x\u{fc}\" by S: no member has it",
            "ws://b.example/x/",
        ),
    ] {
        let told = explain(&["GET /set/", "-H", &format!("Cookie: {cookie}")]);
        let session = format!("  session: route {session}\n");
        let chosen = format!("  chosen, if nothing has happened before: {chosen}\n");
        assert!(told.contains(&session) && told.contains(&chosen), "{told}");
    }
    let told = explain(&["GET /set/;s=1.c?x", "-H", "Cookie: S=1.e"]);
    for part in [
        "  session: route \"c?x\" by s: no member has it\n",
        "  session: route \"c\" by s: leads to its member\n",
    ] {
        assert_eq!(told.contains(part), !part.contains("?x"), "{told}");
    }
    assert!(
        told.contains("BALANCER_SESSION_STICKY=s\n  BALANCER_SESSION_ROUTE=c\nbackend\n"),
        "{told}"
    );
    let told = explain(&["GET /bound/", "-H", "Cookie: S=.a"]);
    let told_end = "it is used again all the same, and one other is tried\n";
    assert!(told.contains(told_end), "{told}");
    let told = explain(&["GET /bound/", "-H", "Cookie: S=.b"]);
    assert!(!told.contains("waits"), "{told}");
    let refused = "answer\n  503: the member of the session cannot be used, and nofailover=On forbids another one\n";
    assert!(told.contains(refused), "{told}");
}

#[test]
fn it_tells_what_is_answered_where_no_member_is_asked() {
    let told = explain(&["GET /none/"]);
    let refused = "  waits for a member for 2s\nanswer\n  503: no member can be used\n  PW416: ";
    assert!(told.contains(refused), "{told}");
    let told = explain(&["GET /none/", "-H", "Upgrade:"]);
    assert!(told.contains("answer\n  426: "), "{told}");
    let told = explain(&["POST /pages/x", "-H", "Content-Length: 3"]);
    let asked = "nobody else is tried\nvariables\n";
    assert!(
        told.contains(asked) && told.contains("\nexchange\n"),
        "{told}"
    );
}
