//! What a backend calls itself in its answers, as the client gets it; and what Apache's httpd makes of the same.

use crate::support::client::{KEY, request_with, switch_with};
use crate::support::wire::{Answer, Wire};
use crate::support::{Backend, Client, Httpd, Port, Proxy, missing};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What the client gets for this request where the backend answers so.
#[track_caller]
fn answered(config: &str, sent: &str, answer: &str) -> Answer {
    let backend = Backend::listen();
    let own = |text: &str| text.replace("BACKEND", &backend.address().to_string());
    let proxy = Proxy::start(own(config));
    let mut client = Client::sending(&proxy, sent);
    let mut peer = backend.accept();
    peer.head();
    peer.send(own(answer));
    let mut found = client.answer_head();
    found.head = found
        .head
        .replace(&backend.address().to_string(), "BACKEND");
    found
}

/// A 302 with these fields, each with its line end.
fn found(fields: &str) -> String {
    format!("HTTP/1.1 302 Found\r\n{fields}Content-Length: 0\r\n\r\n")
}

const LINES: &str = "ServerName proxy.example\nProxyPass /app/ ws://BACKEND/\nProxyPassReverse /app/ http://BACKEND/\n\
                     ProxyPassReverseCookieDomain app.internal www.example\nProxyPassReverseCookiePath / /app/\n";

/// The fields that matter here, in their order.
fn fields(answer: &Answer) -> Vec<&str> {
    let names = ["Location: ", "Content-Location: ", "Set-Cookie: "];
    let is_one = |line: &&str| names.iter().any(|name| line.starts_with(name));
    answer.head.split("\r\n").filter(is_one).collect()
}

#[test]
fn a_redirection_of_the_backend_leads_to_the_front() {
    let fields_of_backend = "Location: http://BACKEND/login?next=%2Fx#a\r\nX-Own: http://BACKEND/\r\n\
                             Set-Cookie: s=1; Path=/x; Domain=app.internal; HttpOnly\r\n\
                             Content-Location: http://BACKEND\r\nSet-Cookie: path=/; Secure\r\n";
    let answer = answered(
        LINES,
        &request_with("/app/x", ""),
        &found(fields_of_backend),
    );
    assert_eq!(answer.status, 302);
    assert_eq!(
        fields(&answer),
        [
            "Location: http://front.example/app/login?next=%2Fx#a",
            "Set-Cookie: s=1; Path=/app/; Domain=www.example; HttpOnly",
            "Content-Location: http://front.example/app/",
            "Set-Cookie: path=/; Secure",
        ]
    );
    assert_eq!(answer.field("X-Own").as_deref(), Some("http://BACKEND/"));
}

#[test]
fn every_status_and_the_101_have_it() {
    let fields_of_backend = "Location: http://BACKEND/x\r\nSet-Cookie: s=1; Path=/\r\n";
    let expected = [
        "Location: http://front.example/app/x",
        "Set-Cookie: s=1; Path=/app/",
    ];
    for status in ["401 Unauthorized", "201 Created", "503 Busy"] {
        let answer = found(fields_of_backend).replace("302 Found", status);
        let answer = answered(LINES, &request_with("/app/", ""), &answer);
        assert_eq!(fields(&answer), expected, "{status}");
    }
    let answer = answered(
        LINES,
        &request_with("/app/", ""),
        &switch_with(fields_of_backend),
    );
    assert_eq!(answer.status, 101);
    assert_eq!(fields(&answer), expected);
}

/// The name that the client knows, whatever the backend is told and whatever `RequestHeader` makes of it.
#[test]
fn the_front_is_called_what_the_client_calls_it() {
    let other_host = "RequestHeader set Host inner.example\nProxyPreserveHost On\n";
    for (more, host, expected) in [
        ("", "front.example", "front.example"),
        ("", "Front.Example:8080", "Front.Example:8080"),
        ("", "front.example:80", "front.example"),
        ("", "[::1]:81", "[::1]:81"),
        (other_host, "front.example:81", "front.example:81"),
        (
            "UseCanonicalName On\nServerName www.example:8443\n",
            "front.example",
            "www.example:8443",
        ),
    ] {
        let sent = request_with("/app/", "").replace("front.example", host);
        let lines = LINES.replace("ServerName proxy.example\n", "");
        let answer = answered(
            &format!("{more}{lines}"),
            &sent,
            &found("Location: http://BACKEND/x\r\n"),
        );
        let expected = format!("http://{expected}/app/x");
        assert_eq!(answer.field("Location"), Some(expected), "{more}{host}");
    }
}

#[test]
fn lines_of_the_server_come_before_those_of_the_host_and_of_locations() {
    let lines = "ProxyPass / ws://BACKEND/\nProxyPassReverse /main/ http://one.internal/\n\
                 <Location /deep/>\nProxyPassReverse http://one.internal/\nProxyPassReverse http://two.internal/\n\
                 ProxyPassReverse http://three.internal/\nProxyPassReverseCookiePath / /deep/\n</Location>\n\
                 <VirtualHost *:*>\nServerName front.example\nProxyPassReverse /host/ http://two.internal/\n</VirtualHost>";
    for (path, value, expected) in [
        (
            "/deep/",
            "http://one.internal/x",
            "http://front.example/main/x",
        ),
        (
            "/deep/",
            "http://two.internal/x",
            "http://front.example/host/x",
        ),
        (
            "/deep/",
            "http://three.internal/x",
            "http://front.example/deep/x",
        ),
        ("/", "http://three.internal/x", "http://three.internal/x"),
        ("/", "http://two.internal/x", "http://front.example/host/x"),
    ] {
        let value = found(&format!("Location: {value}\r\nSet-Cookie: a=b; Path=/\r\n"));
        let answer = answered(lines, &request_with(path, ""), &value);
        assert_eq!(
            answer.field("Location").as_deref(),
            Some(expected),
            "{path}"
        );
        let cookie = if path == "/" {
            "a=b; Path=/"
        } else {
            "a=b; Path=/deep/"
        };
        assert_eq!(
            answer.field("Set-Cookie").as_deref(),
            Some(cookie),
            "{path}"
        );
    }
}

#[test]
fn header_sees_what_has_become_of_it() {
    let lines = format!(
        "{LINES}Header edit Location ^http://front[.]example/ https://www.example/\n\
         Header edit Set-Cookie $ \"; Secure\"\n"
    );
    let answer = answered(
        &lines,
        &request_with("/app/", ""),
        &found("Location: http://BACKEND/x\r\nSet-Cookie: a=b; Path=/\r\n"),
    );
    assert_eq!(
        fields(&answer),
        [
            "Location: https://www.example/app/x",
            "Set-Cookie: a=b; Path=/app/; Secure",
        ]
    );
}

#[test]
fn without_a_line_an_answer_passes_as_it_is() {
    let value = "Location: http://BACKEND/x\r\nSet-Cookie: a=b; Path=/; Domain=app.internal\r\n";
    let config = "ProxyPass /app/ ws://BACKEND/";
    let answer = answered(config, &request_with("/app/", ""), &found(value));
    let lines: Vec<_> = value.trim_end().split("\r\n").collect();
    assert_eq!(fields(&answer), lines);
}

/// Lines, and what becomes of the fields of answers: FRONT is the host with its port.
struct Lines {
    lines: &'static str,
    cases: &'static [Case],
}

struct Case {
    /// As the backend writes it.
    field: &'static str,
    ours: &'static str,
    /// Where httpd does something else: its value.
    httpd: Option<&'static str>,
}

/// Both do the same.
const fn same(field: &'static str, ours: &'static str) -> Case {
    Case {
        field,
        ours,
        httpd: None,
    }
}

/// Each goes its own way, which the manual tells.
const fn differs(field: &'static str, ours: &'static str, httpd: &'static str) -> Case {
    Case {
        field,
        ours,
        httpd: Some(httpd),
    }
}

/// Both let it pass.
const fn passes(field: &'static str) -> Case {
    same(field, field)
}

const TABLE: &[Lines] = &[
    Lines {
        lines: "ProxyPassReverse /app/ http://b.internal/",
        cases: &[
            same(
                "Location: http://b.internal/x?y#z",
                "http://FRONT/app/x?y#z",
            ),
            same("Location: HTTP://B.Internal/X", "http://FRONT/app/X"),
            same(
                "Content-Location: http://b.internal/x",
                "http://FRONT/app/x",
            ),
            same("URI: http://b.internal/x", "http://FRONT/app/x"),
            same("Destination: http://b.internal/x", "http://FRONT/app/x"),
            same("Location: http://b.internal//x", "http://FRONT/app//x"),
            passes("Link: http://b.internal/x"),
            passes("Refresh: 0; http://b.internal/x"),
            passes("Location: https://b.internal/x"),
            passes("Location: http://b.internal:8080/x"),
            passes("Location: http://b.internal.example/x"),
            passes("Location: http://user@b.internal/x"),
            passes("Location: http://other.example/x"),
            passes("Location: http://FRONT/app/x"),
            passes("Location: //b.internal/x"),
            passes("Location: /x"),
            passes("Location: x"),
            passes("Location: ?next=http://b.internal/x"),
            differs(
                "Location: http://b.internal:80/x",
                "http://FRONT/app/x",
                "http://b.internal:80/x",
            ),
            differs(
                "Location: http://b.internal",
                "http://FRONT/app/",
                "http://b.internal",
            ),
            differs(
                "Location: http://b.internal?x",
                "http://FRONT/app/?x",
                "http://b.internal?x",
            ),
            differs(
                "Location: ws://b.internal/x",
                "ws://FRONT/app/x",
                "ws://b.internal/x",
            ),
        ],
    },
    Lines {
        lines: "ProxyPassReverse / http://b.internal:80",
        cases: &[
            same("Location: http://b.internal:80", "http://FRONT/"),
            differs(
                "Location: http://b.internal:80/x",
                "http://FRONT/x",
                "http://FRONT//x",
            ),
            differs(
                "Location: http://b.internal/x",
                "http://FRONT/x",
                "http://b.internal/x",
            ),
            differs(
                "Location: http://b.internal:8080/x",
                "http://b.internal:8080/x",
                "http://FRONT/80/x",
            ),
        ],
    },
    Lines {
        lines: "ProxyPassReverse /app http://b.internal/app",
        cases: &[
            same("Location: http://b.internal/app", "http://FRONT/app"),
            same("Location: http://b.internal/app/x", "http://FRONT/app/x"),
            same("Location: http://b.internal/app?x", "http://FRONT/app?x"),
            same("Location: http://b.internal/APP/x", "http://FRONT/app/x"),
            same("Location: http://b.internal/apple", "http://FRONT/apple"),
            passes("Location: http://b.internal/ap"),
        ],
    },
    Lines {
        lines: "ProxyPassReverse /glued http://b.internal/",
        cases: &[same("Location: http://b.internal/x", "http://FRONT/gluedx")],
    },
    Lines {
        lines: "ProxyPassReverse /one/ http://b.internal/1/\nProxyPassReverse /any/ http://b.internal/\n\
                ProxyPassReverse /two/ http://b.internal/2/",
        cases: &[
            same("Location: http://b.internal/1/x", "http://FRONT/one/x"),
            same("Location: http://b.internal/2/x", "http://FRONT/any/2/x"),
        ],
    },
    Lines {
        lines: "ProxyPassReverse /app/ /base/",
        cases: &[
            same("Location: /base/x", "http://FRONT/app/x"),
            same("Location: /BASE/x", "http://FRONT/app/x"),
            same(
                "Location: http://any.example:81/base/x",
                "http://FRONT/app/x",
            ),
            same("Location: https://any.example/base/x", "http://FRONT/app/x"),
            passes("Location: /other/x"),
            passes("Location: http://any.example/other/base/"),
            differs(
                "Location: ftp://any.example/base/x",
                "ftp://any.example/base/x",
                "http://FRONT/app/x",
            ),
            differs(
                "Location: /base/?to=http://a/x",
                "http://FRONT/app/?to=http://a/x",
                "/base/?to=http://a/x",
            ),
            differs(
                "Location: /other?to=http://a/base/x",
                "/other?to=http://a/base/x",
                "http://FRONT/app/x",
            ),
        ],
    },
    Lines {
        lines: "ProxyPassReverse https://www.example/app/ http://b.internal/",
        cases: &[same(
            "Location: http://b.internal/x",
            "https://www.example/app/x",
        )],
    },
    Lines {
        lines: "ProxyPassReverse https://www.example http://b.internal/",
        cases: &[differs(
            "Location: http://b.internal/.evil.example/",
            "https://www.example/.evil.example/",
            "https://www.example.evil.example/",
        )],
    },
    Lines {
        lines: "ProxyPassReverse /ws/ ws://b.internal/\nProxyPassReverse /app/ http://b.internal/",
        cases: &[
            same("Location: http://b.internal/x", "http://FRONT/app/x"),
            differs(
                "Location: ws://b.internal/x",
                "ws://FRONT/ws/x",
                "http://FRONT/ws/x",
            ),
        ],
    },
    Lines {
        lines: "<Location /app/>\nProxyPassReverse http://b.internal/\nProxyPassReverse http://c.internal/\n\
                ProxyPassReverseCookiePath / /app/\n</Location>",
        cases: &[
            same("Location: http://b.internal/x", "http://FRONT/app/x"),
            same("Location: http://c.internal/x", "http://FRONT/app/x"),
            same("Set-Cookie: a=1; Path=/", "a=1; Path=/app/"),
        ],
    },
    Lines {
        lines: "ProxyPassReverseCookiePath /base /app\nProxyPassReverseCookiePath /b /other/\n\
                ProxyPassReverseCookieDomain b.internal www.example\nProxyPassReverseCookieDomain internal .example",
        cases: &[
            same("Set-Cookie: a=1; Path=/base", "a=1; Path=/app"),
            same(
                "Set-Cookie: a=1; path=/base/x/y; Secure",
                "a=1; path=/app; Secure",
            ),
            same(
                "Set-Cookie: a=1;PATH=/bas;Secure",
                "a=1;PATH=/other/;Secure",
            ),
            same(
                "Set-Cookie: a=1; Domain=b.internal",
                "a=1; Domain=www.example",
            ),
            same(
                "Set-Cookie: a=1; domain=B.INTERNAL",
                "a=1; domain=www.example",
            ),
            same(
                "Set-Cookie: a=1; Domain=b.internal.too",
                "a=1; Domain=www.example",
            ),
            same(
                "Set-Cookie: a=1; Domain=internal; Path=/b",
                "a=1; Domain=.example; Path=/other/",
            ),
            same(
                "Set-Cookie: a=1; Path=/b; Domain=internal",
                "a=1; Path=/other/; Domain=.example",
            ),
            same(
                "Set-Cookie: a=\"1,2\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/base; SameSite=Lax",
                "a=\"1,2\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/app; SameSite=Lax",
            ),
            passes("Set-Cookie: a=1"),
            passes("Set-Cookie: a=1; Path=/"),
            passes("Set-Cookie: a=1; Path=/BASE"),
            passes("Set-Cookie: a=1; Path=\"/base\""),
            passes("Set-Cookie: a=1; Path"),
            passes("Set-Cookie: a=1; Path="),
            passes("Set-Cookie: a=1; XPath=/base"),
            passes("Set-Cookie: a=1; Domain=other.internal"),
            passes("Cookie2: a=1; Path=/base"),
            differs(
                "Set-Cookie: a=1; Domain=.b.internal",
                "a=1; Domain=www.example",
                "a=1; Domain=.b.internal",
            ),
            differs(
                "Set-Cookie: a=1; Path = /base",
                "a=1; Path =/app",
                "a=1; Path = /base",
            ),
            differs(
                "Set-Cookie: path=/base; Secure",
                "path=/base; Secure",
                "path=/app; Secure",
            ),
        ],
    },
];

impl Case {
    fn name(&self) -> &str {
        self.field.split_once(": ").unwrap().0
    }

    /// The value that is expected, which may be all of what the backend writes.
    fn expected(&self, value: &str, front: &str) -> String {
        let value = if value == self.field {
            value.split_once(": ").unwrap().1
        } else {
            value
        };
        value.replace("FRONT", front)
    }
}

/// A virtual host for each entry of the table.
fn hosts(listen: SocketAddr, backend: &Backend, scheme: &str) -> String {
    let mut config = format!("Listen {listen}\nServerName main.example\n");
    for (number, entry) in TABLE.iter().enumerate() {
        writeln!(
            config,
            "<VirtualHost *:{}>\nServerName host{number}.example\n{}\nProxyPass / {scheme}://{}/\n</VirtualHost>",
            listen.port(),
            entry.lines,
            backend.address()
        )
        .unwrap();
    }
    config
}

/// A backend that answers `/app/ENTRY/CASE` with the field of that case. FRONT is what stands in `X-Front` of the request.
fn table_backend() -> Backend {
    Backend::serve(|mut wire: Wire| {
        let Ok(head) = wire.try_head() else {
            return;
        };
        let mut numbers = head
            .split(' ')
            .nth(1)
            .unwrap()
            .split('/')
            .skip(2)
            .map(|number| number.parse::<usize>().unwrap());
        let case = &TABLE[numbers.next().unwrap()].cases[numbers.next().unwrap()];
        let front = crate::support::wire::field(&head, "X-Front").unwrap();
        let field = case.field.replace("FRONT", &front);
        wire.send(format!(
            "HTTP/1.1 302 Found\r\n{field}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        wire.finish();
        wire.rest();
    })
}

/// Asks for all of the table, and tells what does not come to what `expected` says.
fn differences(
    address: SocketAddr,
    fields: &str,
    expected: impl Fn(&Case) -> &'static str,
) -> String {
    let mut failures = String::new();
    for (number, entry) in TABLE.iter().enumerate() {
        let front = format!("host{number}.example:{}", address.port());
        for (place, case) in entry.cases.iter().enumerate() {
            let mut client = Client::connect(address);
            client.send(format!(
                "GET /app/{number}/{place} HTTP/1.1\r\nHost: {front}\r\nX-Front: {front}\r\n{fields}\r\n"
            ));
            let answer = client.answer_head().expect_status(302);
            let found = answer.field(case.name());
            let expected = case.expected(expected(case), &front);
            if found.as_ref() != Some(&expected) {
                writeln!(
                    failures,
                    "{}: {}: {found:?} instead of {expected:?}",
                    entry.lines, case.field
                )
                .unwrap();
            }
        }
    }
    failures
}

#[test]
fn answers_become_what_the_table_says() {
    let upgrade = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    for (scheme, fields) in [("http", "Connection: close\r\n"), ("ws", &upgrade)] {
        let backend = table_backend();
        let port = Port::at(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let _proxy = Proxy::start(hosts(port.address(), &backend, scheme));
        let failures = differences(port.address(), fields, |case| case.ours);
        assert!(failures.is_empty(), "{scheme}\n{failures}");
    }
}

#[test]
fn httpd_makes_the_same_of_them_but_where_the_table_says_so() {
    if Httpd::program().is_none() {
        return missing("apache2 is not installed");
    }
    let backend = table_backend();
    let port = Port::at(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let config = hosts(port.address(), &backend, "http");
    let _httpd = Httpd::start(&config, port.address(), &["proxy_http"]);
    let failures = differences(port.address(), "Connection: close\r\n", |case| {
        case.httpd.unwrap_or(case.ours)
    });
    assert!(failures.is_empty(), "\n{failures}");
}
