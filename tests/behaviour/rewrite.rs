//! Rewriting: rules, conditions, flags, and what no request may make of them.

use crate::support::client::{request_with, switch_with};
use crate::support::proxy::{check, run};
use crate::support::wire::Answer;
use crate::support::{Backend, Client, Proxy, TempDir};

/// A backend that says in its 101 what it was asked for.
fn telling() -> Backend {
    Backend::serve(|mut wire| {
        let head = wire.head();
        let target = head.split(' ').nth(1).unwrap_or_default();
        wire.send(switch_with(&format!("X-Asked: {target}\r\n")));
        let _ = wire.rest();
    })
}

#[track_caller]
fn answer(proxy: &Proxy, target: &str, fields: &str) -> Answer {
    let mut client = Client::sending(proxy, request_with(target, fields));
    client.answer_head()
}

/// What the backend was asked for, where a redirection leads, or the status of another answer.
#[track_caller]
fn comes_of(proxy: &Proxy, target: &str, fields: &str) -> String {
    let answer = answer(proxy, target, fields);
    let named = answer.field("X-Asked").or(answer.field("Location"));
    named.unwrap_or_else(|| answer.status.to_string())
}

/// `WS` stands for the URL of the backend.
#[track_caller]
fn holds(lines: &str, expected: &[(&str, &str)]) {
    let backend = telling();
    let lines = lines.replace("WS", &backend.url());
    let proxy = Proxy::start(format!("RewriteEngine On\n{lines}\n"));
    for (target, expected) in expected {
        assert_eq!(comes_of(&proxy, target, ""), *expected, "{lines} {target}");
    }
}

/// The example of the httpd manual, but for host and port.
#[test]
fn the_example_of_the_documents() {
    let backend = Backend::echo();
    let port = backend.port();
    let proxy = Proxy::start(format!(
        "RewriteEngine on\n\
         RewriteCond %{{HTTP:Upgrade}} websocket [NC]\n\
         RewriteCond %{{HTTP:Connection}} upgrade [NC]\n\
         RewriteRule ^/?(.*) \"ws://127.0.0.1:{port}/$1\" [P,L]\n"
    ));
    for target in ["/", "/chat", "/a/b?c=d"] {
        Client::tunnel(&proxy, target).echo("through a rule");
    }
    // Without the upgrade no rule matches, and nothing is mapped.
    let plain = "GET /chat HTTP/1.1\r\nHost: front.example\r\n\r\n";
    assert_eq!(Client::sending(&proxy, plain).answer().status, 404);
    let other =
        "GET /chat HTTP/1.1\r\nHost: front.example\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(Client::sending(&proxy, other).answer().status, 404);
}

#[test]
fn a_rule_comes_before_the_mappings_and_leads_where_its_text_says() {
    holds(
        "RewriteRule ^/ws/(.*) WS/new/$1 [P]\nProxyPass / WS/mapped/",
        &[
            ("/ws/a?b", "/new/a?b"),
            ("/ws/", "/new/"),
            ("//ws//a", "/new/a"),
            ("/wsx", "/mapped/wsx"),
            ("/ws/a%20b%3fc%23", "/new/a%20b%3Fc%23"),
        ],
    );
    holds(
        "RewriteRule ^ WS%{REQUEST_URI} [P]",
        &[("/a/b?c", "/a/b?c"), ("/%c3%a9", "/%C3%A9")],
    );
    holds(
        "RewriteRule ^/x(/.*)?$ WS$1 [P]",
        &[("/x", "/"), ("/x/a", "/a")],
    );
}

#[test]
fn a_rule_may_lead_to_a_unix_socket() {
    let directory = TempDir::new();
    let backend = Backend::listen_unix(&directory.path().join("app.sock"));
    let config = "RewriteEngine On\nRewriteRule ^/(.*) unix:app.sock|ws://localhost/base/$1 [P]\n";
    let root = format!("ServerRoot {:?}\n{config}", directory.path());
    let proxy = Proxy::start(root);
    let mut client = Client::asking(&proxy, "/a?b");
    let mut peer = backend.accept();
    assert!(peer.head().starts_with("GET /base/a?b HTTP/1.1\r\n"));
    peer.send(switch_with(""));
    client.switched();
}

#[test]
fn a_rule_with_pt_goes_on_to_the_mappings_and_one_without_leads_to_a_file() {
    holds(
        "RewriteRule ^/old/(.*) /new/$1 [PT]\nRewriteRule ^/file /new [L]\nProxyPass /new WS/n",
        &[
            ("/old/a?q", "/n/a?q"),
            ("/old//a%20b", "/n/a%20b"),
            ("/new/a", "/n/a"),
            ("/file", "404"),
        ],
    );
}

#[test]
fn conditions_decide_and_lend_their_groups() {
    let backend = telling();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\n\
         RewriteCond %{{HTTP:X-Room}} ^([a-z]+)-([0-9]+)$ [NC]\n\
         RewriteCond %{{REQUEST_METHOD}} =GET\n\
         RewriteRule ^/room$ {url}/%1/%2 [P]\n\
         RewriteCond %{{HTTP:X-A}} 1 [OR]\n\
         RewriteCond %{{HTTP:X-B}} 1\n\
         RewriteCond %{{HTTP_HOST}}%{{HTTPS}} ^front\\.example(off)$\n\
         RewriteRule ^/either$ {url}/%1 [P]\n\
         RewriteCond %{{QUERY_STRING}} !(^|&)token=\n\
         RewriteRule ^/closed - [F]\n\
         RewriteCond %{{REMOTE_ADDR}} ^127\\.0\\.0\\.1$\n\
         RewriteCond %{{SERVER_PORT}} \"-gt 0\"\n\
         RewriteRule ^/ {url}/rest [P]\n"
    ));
    for (target, fields, expected) in [
        ("/room", "X-Room: Red-7\r\n", "/Red/7"),
        ("/room", "X-Room: red\r\n", "/rest"),
        ("/either", "X-A: 1\r\n", "/off"),
        ("/either", "X-B: 1\r\n", "/off"),
        ("/either", "X-C: 1\r\n", "/rest"),
        ("/closed", "", "403"),
        ("/closed?a&token=1", "", "/rest?a&token=1"),
    ] {
        let found = comes_of(&proxy, target, fields);
        assert_eq!(found, expected, "{target} {fields}");
    }
}

#[test]
fn flags_that_answer() {
    let rules = "RewriteRule ^/forbidden - [F]\nRewriteRule ^/gone - [G]\nRewriteRule ^/teapot - [R=418]\n\
                 RewriteRule ^/down - [R=503]\nRewriteRule ^/moved(.*) /to$1 [R=301,L]\n\
                 RewriteRule ^/away https://other.example/%{QUERY_STRING}? [R]\n\
                 RewriteRule ^/tls https://%{HTTP_HOST}%{REQUEST_URI} [R=308]\n";
    let proxy = Proxy::start(format!("RewriteEngine On\n{rules}"));
    for (target, status, location) in [
        ("/forbidden", 403, None),
        ("/gone", 410, None),
        ("/teapot", 418, None),
        ("/down", 503, None),
        ("/moved/a?b", 301, Some("http://front.example/to/a?b")),
        ("/away?a=b", 302, Some("https://other.example/a=b")),
        (
            "/tls/a%20b?c",
            308,
            Some("https://front.example/tls/a%20b?c"),
        ),
        ("/else", 404, None),
    ] {
        let answer = answer(&proxy, target, "");
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.field("Location").as_deref(), location, "{target}");
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    }
}

#[test]
fn flags_that_choose_the_next_rule() {
    holds(
        "RewriteRule ^/l /x\nRewriteRule ^/x WS/last [P,L]\nRewriteRule . WS/never [P]",
        &[("/l", "/last"), ("/m", "/never")],
    );
    holds(
        "RewriteRule ^/l - [L]\nRewriteRule ^/e - [END]\nRewriteRule . WS/on [P]\nProxyPass / WS/mapped/",
        &[("/l", "/mapped/l"), ("/e", "/mapped/e"), ("/m", "/on")],
    );
    holds(
        "RewriteRule ^/c /d [C]\nRewriteRule ^/d WS/chained [P]\nRewriteRule ^/(.) WS/$1 [P]",
        &[("/c", "/chained"), ("/d", "/d"), ("/e", "/e")],
    );
    holds(
        "RewriteRule ^/s - [S=1]\nRewriteRule . WS/one [P]\nRewriteRule . WS/two [P]",
        &[("/s", "/two"), ("/t", "/one")],
    );
    holds(
        "RewriteRule ^(.*)_(.*)$ $1-$2 [N]\nRewriteRule ^(.*) WS$1 [P]",
        &[("/a_b_c", "/a-b-c")],
    );
    // Rules that never end are ended.
    holds(
        "RewriteRule ^/loop - [N]\nRewriteRule ^/few - [N=2]\nRewriteRule . WS/ [P]",
        &[("/loop", "500"), ("/few", "500"), ("/a", "/")],
    );
}

#[test]
fn flags_that_change_the_query_and_the_encoding() {
    holds(
        "RewriteRule ^/keep WS/k [P]\nRewriteRule ^/new WS/n?x=1 [P]\nRewriteRule ^/both WS/b?x=1 [P,QSA]\n\
         RewriteRule ^/none WS/n? [P]\nRewriteRule ^/drop WS/d [P,QSD]\nRewriteRule ^/last WS/l?a?b [P,QSL]",
        &[
            ("/keep?q", "/k?q"),
            ("/new?q", "/n?x=1"),
            ("/both?q", "/b?x=1&q"),
            ("/both", "/b?x=1"),
            ("/none?q", "/n"),
            ("/drop?q", "/d"),
            ("/last", "/l%3Fa?b"),
        ],
    );
    holds(
        "RewriteRule ^/NC/(.*) WS/$1 [P,NC]\nRewriteRule ^/ne/(.*) WS/$1 [P,NE]\nRewriteRule ^/b/(.*) WS/?p=$1 [P,B]\n\
         RewriteRule ^/bnp/(.*) WS/?p=$1 [P,B,BNP]\nRewriteRule ^/raw/(.*) WS/?p=$1 [P]\n\
         RewriteRule ^/3f/(.*) WS/$1 [P,UnsafeAllow3F]",
        &[
            ("/nc/a%2541", "/a%2541"),
            ("/ne/a%2541", "/a%2541"),
            ("/b/a%26b%20c", "/?p=a%26b+c"),
            ("/bnp/a%26b%20c", "/?p=a%26b%20c"),
            ("/raw/a%26b", "/?p=a&b"),
            ("/3f/a%3fb", "/a?b"),
        ],
    );
}

#[test]
fn the_environment_reaches_later_rules() {
    holds(
        "RewriteRule ^/(.) - [E=first:$1,E=other:x]\nRewriteRule ^/b - [E=!first]\nRewriteCond %{ENV:first} (.)\n\
         RewriteRule . WS/%1-%{ENV:other} [P]",
        &[("/a", "/a-x"), ("/b", "404")],
    );
}

/// What a virtual host has of the main server's rules.
#[test]
fn a_virtual_host_has_the_rules_that_it_asks_for() {
    let backend = telling();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\nRewriteRule ^/main {url}/main [P]\nRewriteRule ^/both {url}/of-main [P]\n\
         <VirtualHost *:*>\nServerName none\nProxyPass / {url}/mapped/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName own\nRewriteRule ^/both {url}/own [P]\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName behind\nRewriteOptions Inherit\nRewriteRule ^/both {url}/own [P]\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName before\nRewriteOptions InheritBefore\nRewriteRule ^/both {url}/own [P]\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName off\nRewriteEngine Off\nRewriteOptions Inherit\n</VirtualHost>\n"
    ));
    for (host, target, expected) in [
        ("none", "/main", "/mapped/main"),
        ("own", "/main", "404"),
        ("own", "/both", "/own"),
        ("behind", "/main", "/main"),
        ("behind", "/both", "/own"),
        ("before", "/both", "/of-main"),
        ("off", "/main", "404"),
    ] {
        let request = request_with(target, "").replace("front.example", host);
        let answer = Client::sending(&proxy, request).answer_head();
        let asked = answer.field("X-Asked");
        let found = asked.unwrap_or_else(|| answer.status.to_string());
        assert_eq!(found, expected, "{host} {target}");
    }
}

#[test]
fn rules_are_given_down_unless_a_host_ignores_them() {
    let backend = telling();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\nRewriteOptions InheritDown\nRewriteRule ^/main {url}/main [P]\n\
         <VirtualHost *:*>\nServerName takes\nRewriteEngine On\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName ignores\nRewriteOptions IgnoreInherit\n</VirtualHost>\n"
    ));
    for (host, expected) in [("takes", 101), ("ignores", 404)] {
        let request = request_with("/main", "").replace("front.example", host);
        let status = Client::sending(&proxy, request).answer_head().status;
        assert_eq!(status, expected, "{host}");
    }
}

/// CVE-2023-25690: what a rule decodes must not end the request line.
#[test]
fn no_capture_brings_a_blank_or_a_line_end_into_the_request_line() {
    holds(
        "RewriteRule ^/q/(.*) WS/?p=$1 [P]\nRewriteRule ^/ne/(.*) WS/$1 [P,NE]\nRewriteRule ^/p/(.*) WS/$1 [P]\n\
         RewriteRule ^/pt/(.*) /new?p=$1 [PT]\nRewriteRule ^/r/(.*) /x?p=$1 [R,NE]\nProxyPass /new WS/",
        &[
            ("/q/a%0d%0aX-Injected:%20y", "403"),
            ("/q/a%20HTTP/1.1", "403"),
            ("/q/a%7f", "403"),
            ("/ne/a%0d%0aX-Injected:%20y", "403"),
            ("/ne/a%20b", "403"),
            ("/pt/a%0d%0ab", "403"),
            ("/p/a%0d%0ab%20c", "/a%0D%0Ab%20c"),
            (
                "/r/a%0d%0aX-Injected:%20y",
                "http://front.example/x?p=a%0D%0AX-Injected:%20y",
            ),
            ("/q/ok", "/?p=ok"),
        ],
    );
    // The header fields of a request reach it in no way but this one either.
    let backend = telling();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\nRewriteRule ^/a {url}/?%{{HTTP:X-Tab}} [P]\n"
    ));
    assert_eq!(comes_of(&proxy, "/a", "X-Tab: a\tb\r\n"), "403");
    assert_eq!(comes_of(&proxy, "/a", "X-Tab: a b\r\n"), "403");
    assert_eq!(comes_of(&proxy, "/a", "X-Tab: \u{e9}#\r\n"), "/?%C3%A9%23");
}

/// CVE-2024-38474, CVE-2024-38475: an encoded question mark makes no query.
#[test]
fn no_capture_makes_a_query_of_a_path() {
    holds(
        "RewriteRule ^/p/(.*) WS/$1 [P]\nRewriteRule ^/ne/(.*) WS/$1 [P,NE]\nRewriteRule ^/pt/(.*) /new/$1 [PT]\n\
         RewriteRule ^/r/(.*) /x/$1 [R]\nRewriteRule ^/rne/(.*) /x/$1 [R,NE]\nProxyPass /new WS",
        &[
            ("/p/a%3fadmin=1", "/a%3Fadmin=1"),
            ("/p/a%3fadmin=1?q", "/a%3Fadmin=1?q"),
            ("/ne/a%3fadmin=1", "/a%3Fadmin=1"),
            ("/pt/a%3fadmin=1", "/a%3Fadmin=1"),
            ("/r/a%3fb", "http://front.example/x/a%3Fb"),
            ("/rne/a%3fb", "http://front.example/x/a%3Fb"),
        ],
    );
}

/// CVE-2011-3368, CVE-2011-4317, CVE-2024-39573: no request decides where it goes.
#[test]
fn no_request_reaches_scheme_host_or_port() {
    holds(
        "RewriteRule ^/glued(.*) WS$1 [P]\nRewriteRule ^/(.*) WS/$1 [P]",
        &[
            ("/glued@other.example/", "403"),
            ("/glued.other.example/", "403"),
            ("/glued0/", "403"),
            ("/glued/a", "/a"),
            ("/@other.example/", "/@other.example/"),
            ("/unix:/tmp/x%7cws://h/", "/unix:/tmp/x%7Cws:/h/"),
            (
                "/proxy:http://other.example/",
                "/proxy:http:/other.example/",
            ),
        ],
    );
    // Only [P] proxies: what looks like a URL is a path.
    holds(
        "RewriteRule ^/(.*) $1 [PT]\nProxyPass /ws: WS",
        &[("/ws://other.example/x", "/other.example/x"), ("/a", "404")],
    );
    let proxy = Proxy::start("RewriteEngine On\nRewriteRule (.*) ws://127.0.0.1:1$1 [P]\n");
    for target in ["@evil/", "evil", "*", ":80/"] {
        let status = Client::asking(&proxy, target).answer().status;
        assert_eq!(status, 400, "{target}");
    }
}

/// CVE-2019-10098, CVE-2020-1927: an encoded line end is a byte like any other to patterns.
#[test]
fn a_line_end_ends_no_pattern() {
    holds(
        "RewriteRule ^/exact$ WS/exact [P]\nRewriteRule ^/(a.b)$ WS/$1 [P]\nRewriteRule ^/to(.*)$ http://front.example$1 [R]",
        &[
            ("/exact", "/exact"),
            ("/exact%0a", "404"),
            ("/a%0ab", "/a%0Ab"),
            ("/to%0a.evil.example", "403"),
            ("/to.evil.example", "403"),
            ("/to/a%0ab", "http://front.example/a%0Ab"),
        ],
    );
}

#[test]
fn no_capture_climbs_out_of_its_place() {
    holds(
        "RewriteRule ^/a(.*) WS/public/$1 [P]\nRewriteRule ^/n(.*) WS/public/$1 [P,NE]\nRewriteRule ^/t(.*) /public/$1 [PT]\n\
         ProxyPass /public WS/public",
        &[
            ("/a/x", "/public//x"),
            ("/a../private", "403"),
            ("/n%252e%252e/private", "/public/%252e%252e/private"),
            (
                "/n/%252e%252e%252fprivate",
                "/public//%252e%252e%252fprivate",
            ),
            ("/t../private", "403"),
            ("/t/x", "/public/x"),
            ("/a%252e%252e/x", "/public/%252e%252e/x"),
        ],
    );
}

/// CVE-2025-54090: what is not understood is an error, and never true.
#[test]
fn expressions_and_tests_of_files_are_refused_at_start() {
    for (lines, part) in [
        (
            "RewriteCond expr \"%{REQUEST_METHOD} == 'GET'\"",
            "expressions",
        ),
        ("RewriteCond %{REQUEST_FILENAME} !-f", "serves no"),
        ("RewriteCond %{LA-U:REMOTE_USER} x", "looking ahead"),
        (
            "RewriteRule ^/(.*) ws://%{HTTP_HOST}/$1 [P]",
            "nothing of a request",
        ),
        ("RewriteRule ^/(.*) h2c://b/$1 [P]", "write http://"),
        ("RewriteRule ^/(?!a) ws://b/ [P]", "look-ahead"),
        (
            "<Location /a>\nRewriteRule ^/ ws://b/ [P]\n</Location>",
            "not allowed in <Location>",
        ),
        ("RewriteMap a txt:/b", "RewriteRule for each key"),
    ] {
        let checked = check(&format!("RewriteEngine On\n{lines}")).expect_status(1);
        assert!(checked.stderr.contains(part), "{lines}: {}", checked.stderr);
    }
}

#[test]
fn the_log_says_which_rule_refused() {
    let proxy = Proxy::start(
        "LogLevel info\nRewriteEngine On\nRewriteRule ^/f - [F]\nRewriteRule ^/l - [N]\nRewriteRule ^/p /file\n",
    );
    for (target, said) in [
        (
            "/f",
            "PW206 \"GET /f HTTP/1.1\" refused: RewriteRule \"^/f\" refuses the request (403)",
        ),
        (
            "/l",
            "RewriteRule \"^/l\" began anew more than 256 times (500)",
        ),
        (
            "/p",
            "RewriteRule \"^/p\" makes \"/file\" of the path, which would be a file (404)",
        ),
    ] {
        Client::asking(&proxy, target).answer();
        proxy.wait_for_log(said);
    }
}

#[test]
fn every_rule_that_was_tried_is_explained() {
    let directory = TempDir::new();
    let file = directory.write(
        "a.conf",
        "Listen 1\nRewriteEngine On\nRewriteCond %{HTTP:Upgrade} websocket [NC]\nRewriteRule ^/x/(.*) ws://b/$1 [P]\n\
         RewriteRule ^/y/(.*) /z/$1?k=1 [E=seen:$1,QSA,PT]\nProxyPass /z ws://c",
    );
    let file = file.to_str().unwrap();
    let explain = |target: &str| {
        let request = format!("GET {target} HTTP/1.1");
        let upgrade = "Upgrade: WebSocket";
        let explained = run(&["-f", file, "--explain", &request, "-H", upgrade]);
        explained.expect_status(0).stdout
    };
    for (target, parts) in [
        (
            "/x/a",
            &[
                "RewriteRule ^/x/(.*) ws://b/$1 [P] at",
                "matches \"/x/a\"",
                "RewriteCond %{HTTP:Upgrade} websocket [NC]: \"WebSocket\" holds",
                "ws://b/, which is asked for \"/a\"",
            ][..],
        ),
        (
            "/y/a?q",
            &[
                "does not match \"/y/a\"",
                "seen becomes \"a\"",
                "the path becomes \"/z/a\", the query \"k=1&q\"",
            ],
        ),
    ] {
        let explained = explain(target);
        for part in parts {
            assert!(explained.contains(part), "{part}: {explained}");
        }
    }
}
