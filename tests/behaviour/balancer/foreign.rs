//! The same balancers in Apache's httpd: who gets each request of a row, and what cookie comes of it.

use super::member;
use crate::support::pages::{answer, get_with};
use crate::support::{Client, Httpd, Pages, Port, Proxy, missing};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A balancer, and requests to it in their order.
struct Entry {
    /// Its section. `A` to `D` stand for members of these names, `X` and `Y` for closed ports.
    members: &'static [&'static str],
    set: &'static str,
    row: &'static [Asked],
}

/// A request, and what is expected of it.
struct Asked {
    path: &'static str,
    cookie: &'static str,
    /// Who answers, or the status, and the route that the client is told.
    ours: &'static str,
    /// What httpd does instead.
    httpd: Option<&'static str>,
}

const fn to(path: &'static str, cookie: &'static str, ours: &'static str) -> Asked {
    Asked {
        path,
        cookie,
        ours,
        httpd: None,
    }
}

const fn any(ours: &'static str) -> Asked {
    to("/", "", ours)
}

const fn kept(cookie: &'static str, ours: &'static str) -> Asked {
    to("/", cookie, ours)
}

const ROUTES: &[&str] = &["A route=a", "B route=b", "C route=c"];

const TABLE: &[Entry] = &[
    Entry {
        members: ROUTES,
        set: "stickysession=R",
        row: &[
            any("a .a"),
            any("b .b"),
            any("c .c"),
            kept("R=.b", "b"),
            kept("R=1234.b", "b"),
            kept("x=y; R=.b; z=.c", "b"),
            any("a .a"),
            any("c .c"),
            any("a .a"),
            any("c .c"),
            kept("R=.d", "a .a"),
            kept("R=b", "b .b"),
            kept("R=", "c .c"),
            kept("XR=.c", "a .a"),
            kept("R=.a.b", "b .b"),
            to("/?R=x.c", "", "c"),
            to("/?R=x.c", "R=.a", "c"),
            to("/p;R=x.b?q", "R=.a", "b"),
            to("/?R=x", "R=.c", "a .a"),
            to("/?R=x.c&S=.a", "", "c"),
            to("/?R=x.c;S=.a", "", "b .b"),
        ],
    },
    Entry {
        members: ROUTES,
        set: "stickysession=JSESSIONID|jsessionid scolonpathdelim=On",
        row: &[
            to("/p;jsessionid=x.c", "", "c"),
            to("/p;jsessionid=x.c;v=1", "", "c"),
            to("/p;jsessionid=x.c;v=1?q", "JSESSIONID=.b", "c"),
            to("/p", "JSESSIONID=x.b", "b"),
            to("/p", "jsessionid=x.b", "a .a"),
            to("/p;JSESSIONID=x.c", "", "a .a"),
        ],
    },
    Entry {
        members: ROUTES,
        set: "stickysession=R stickysessionsep=:",
        row: &[
            kept("R=x:c", "c"),
            kept("R=x.c", "a .a"),
            kept("R=x.y:b", "b"),
        ],
    },
    Entry {
        members: ROUTES,
        set: "stickysession=R stickysessionsep=Off",
        row: &[kept("R=c", "c"), kept("R=.c", "a .a")],
    },
    // Those that are gone.
    Entry {
        members: &["X route=x", "B route=b", "C route=c"],
        set: "stickysession=R",
        row: &[
            kept("R=.x", "b .b"),
            kept("R=.x", "c .c"),
            kept("R=.c", "c"),
            any("b .b"),
        ],
    },
    Entry {
        members: &["X route=x", "B route=b", "C route=c"],
        set: "stickysession=R nofailover=On",
        row: &[
            kept("R=.x", "503"),
            kept("R=.x", "503"),
            any("b .b"),
            kept("R=.y", "c .c"),
            kept("R=.b", "b"),
        ],
    },
    Entry {
        members: &["X route=x redirect=c", "B route=b", "C route=c"],
        set: "stickysession=R",
        row: &[
            kept("R=.x", "c .c"),
            kept("R=.x", "c .c"),
            kept("R=.c", "c"),
            any("b .b"),
            any("b .b"),
            any("b .b"),
        ],
    },
    Entry {
        members: &["X route=x", "Y route=y"],
        set: "stickysession=R",
        row: &[any("503"), any("503"), kept("R=.x", "503")],
    },
    Entry {
        members: &["X", "Y", "C"],
        set: "maxattempts=1",
        row: &[any("503"), any("c"), any("c")],
    },
    // Roles and sets.
    Entry {
        members: &["A route=a status=+N", "B route=b", "C route=c"],
        set: "stickysession=R",
        row: &[any("b .b"), any("c .c"), kept("R=.a", "a"), any("b .b")],
    },
    Entry {
        members: &["A route=a status=+D", "B route=b status=+H", "C route=c"],
        set: "stickysession=R",
        row: &[any("c .c"), kept("R=.a", "c .c"), kept("R=.b", "b")],
    },
    Entry {
        members: &["X", "B status=+H", "C status=+H"],
        set: "",
        row: &[any("b"), any("c"), any("b"), any("c")],
    },
    Entry {
        members: &["A", "X", "C status=+R", "D status=+R"],
        set: "",
        row: &[any("a"), any("c"), any("a"), any("c"), any("a")],
    },
    Entry {
        members: &["A lbset=1", "X lbset=0", "C lbset=2"],
        set: "",
        row: &[any("a"), any("a"), any("a")],
    },
    // Shares.
    Entry {
        members: &["A", "B", "C", "D loadfactor=2"],
        set: "lbmethod=byrequests",
        row: &[
            any("d"),
            any("a"),
            any("b"),
            any("c"),
            any("d"),
            any("d"),
            any("a"),
        ],
    },
    Entry {
        members: &["A loadfactor=1.5", "B"],
        set: "",
        row: &[
            any("a"),
            any("b"),
            any("a"),
            any("b"),
            any("a"),
            any("a"),
            any("b"),
        ],
    },
    Entry {
        members: &["A loadfactor=3", "B"],
        set: "lbmethod=bybusyness",
        row: &[any("a"), any("a"), any("b"), any("a"), any("a")],
    },
];

/// A virtual host for each entry.
fn hosts(listen: SocketAddr, members: &[Pages], closed: &[Port]) -> String {
    let mut config = format!("Listen {listen}\nServerName main.example\n");
    let places = members.iter().map(|member| member.backend.address());
    let places = places.chain(closed.iter().map(Port::address));
    let places: Vec<_> = "ABCDXY".chars().zip(places).collect();
    for (number, entry) in TABLE.iter().enumerate() {
        let mut section = String::new();
        for line in entry.members {
            let (_, address) = places.iter().find(|(name, _)| line.starts_with(*name)).unwrap();
            writeln!(section, "BalancerMember http://{address} {}", &line[1..]).unwrap();
        }
        if !entry.set.is_empty() {
            writeln!(section, "ProxySet {}", entry.set).unwrap();
        }
        writeln!(
            config,
            "<VirtualHost *:{}>\nServerName host{number}.example\n\
             Header add Set-Cookie \"R=.%{{BALANCER_WORKER_ROUTE}}e; path=/\" env=BALANCER_ROUTE_CHANGED\n\
             <Proxy balancer://set{number}>\n{section}</Proxy>\nProxyPass / balancer://set{number}/\n</VirtualHost>",
            listen.port(),
        )
        .unwrap();
    }
    config
}

/// Asks for all of the table, and tells what does not come to what `expected` says.
fn differences(address: SocketAddr, expected: impl Fn(&Asked) -> &'static str) -> String {
    let mut failures = String::new();
    for (number, entry) in TABLE.iter().enumerate() {
        for (place, asked) in entry.row.iter().enumerate() {
            let mut client = Client::connect(address);
            let fields = match asked.cookie {
                "" => String::new(),
                cookie => format!("Cookie: {cookie}\r\n"),
            } + "Connection: close\r\n";
            let request = get_with(asked.path, &fields);
            client.send(request.replace("front.example", &format!("host{number}.example")));
            let answer = answer(&mut client);
            let mut found = super::whose(&answer);
            if let Some(cookie) = answer.field("Set-Cookie") {
                let told = cookie.trim_start_matches("R=").trim_end_matches("; path=/");
                found = format!("{found} {told}");
            }
            let expected = expected(asked);
            if found != expected {
                let Entry { members, set, .. } = entry;
                let Asked { path, cookie, .. } = asked;
                writeln!(
                    failures,
                    "{members:?} {set} request {place}: {path} {cookie}: {found:?} instead of {expected:?}"
                )
                .unwrap();
            }
        }
    }
    failures
}

fn members() -> (Vec<Pages>, [Port; 2], Port) {
    let members = ["a", "b", "c", "d"].map(member).into();
    (members, [super::port(), super::port()], super::port())
}

#[test]
fn the_members_are_those_of_the_table() {
    let (members, closed, port) = members();
    let _proxy = Proxy::start(hosts(port.address(), &members, &closed));
    let failures = differences(port.address(), |asked| asked.ours);
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn httpd_chooses_the_same_but_where_the_table_says_so() {
    if Httpd::program().is_none() {
        return missing("apache2 is not installed");
    }
    let (members, closed, port) = members();
    let config = hosts(port.address(), &members, &closed);
    let modules = [
        "proxy_http",
        "slotmem_shm",
        "proxy_balancer",
        "lbmethod_byrequests",
        "lbmethod_bybusyness",
    ];
    let _httpd = Httpd::start(&config, port.address(), &modules);
    let failures = differences(port.address(), |asked| asked.httpd.unwrap_or(asked.ours));
    assert!(failures.is_empty(), "\n{failures}");
}
