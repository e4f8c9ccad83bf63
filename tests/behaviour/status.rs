//! What the server shows of itself: `SetHandler server-status`.

use crate::support::client::{frame, request_with};
use crate::support::http::Message;
use crate::support::pages::get_with;
use crate::support::{
    BOUND, Backend, Client, Json, Port, Proxy, both_ends, each_mode, proxy, wait_until,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const STATUS: &str = "<Location /status>\nSetHandler server-status\n</Location>\n";

/// The answer to a request for the status.
#[track_caller]
fn ask(proxy: &Proxy, query: &str) -> Message {
    let mut client = Client::sending(proxy, get_with(&format!("/status{query}"), ""));
    client.last_or_staying()
}

trait Last {
    fn last_or_staying(&mut self) -> Message;
}

impl Last for Client {
    #[track_caller]
    fn last_or_staying(&mut self) -> Message {
        self.answer_to("GET").expect_status(200)
    }
}

#[track_caller]
fn text(proxy: &Proxy, query: &str) -> String {
    String::from_utf8(ask(proxy, query).body).unwrap()
}

#[track_caller]
fn json(proxy: &Proxy) -> Json {
    Json::parse(&text(proxy, "?json"))
}

/// The series of the metrics, each with its value. What does not keep to the format fails.
#[track_caller]
fn metrics(proxy: &Proxy) -> BTreeMap<String, f64> {
    let text = text(proxy, "?metrics");
    let mut series = BTreeMap::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(text.ends_with('.') && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge") && helped.contains(name));
            assert!(typed.insert(name, kind).is_none(), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            // The series of a metric stand below its type, and below no other.
            assert_eq!(
                typed.keys().filter(|known| **known == name).count(),
                1,
                "{line}"
            );
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(name.chars().all(letters), "{line}");
            let value = value.parse().unwrap();
            assert!(
                series.insert(key.to_owned(), value).is_none(),
                "{line} twice"
            );
        }
    }
    assert!(text.ends_with('\n'));
    series
}

/// The fields of httpd's form.
#[track_caller]
fn auto(proxy: &Proxy) -> BTreeMap<String, String> {
    let text = text(proxy, "?auto");
    let fields = text.lines().map(|line| line.split_once(": ").unwrap());
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn tunnels(status: &Json) -> &[Json] {
    status.list("tunnels")
}

each_mode! {
    fn a_tunnel_is_shown_with_all_that_is_known_of_it(mode: Mode) {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "ServerName front.example\n{}\n{STATUS}ProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        assert!(tunnels(&json(&proxy)).is_empty());
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send(frame(b"hello", Some([1, 2, 3, 4])));
        peer.receive(11);
        peer.send(frame(&[7; 100], None));
        client.receive(102);
        // What has moved is published behind it.
        let mut status = json(&proxy);
        let expected = if mode.directives().contains("Off") { "worker" } else { "reactor" };
        wait_until("the tunnel to be where it belongs", BOUND, || {
            status = json(&proxy);
            let tunnel = &tunnels(&status)[0];
            tunnel.number("bytes_from_backend") > 0.0 && tunnel.text("mode") == expected
        });
        let [tunnel] = tunnels(&status) else {
            panic!("{status:#?}");
        };
        assert_eq!(tunnel.text("client"), client.local().to_string());
        assert_eq!(tunnel.text("host"), "front.example");
        assert_eq!(tunnel.text("mapping"), "ProxyPass \"/ws/\"");
        assert_eq!(tunnel.text("backend"), format!("{}/", backend.url()));
        assert_eq!(tunnel.at("balancer"), &Json::Null);
        assert!(tunnel.number("age_seconds") >= tunnel.number("idle_seconds"));
        assert!(tunnel.number("age_seconds") < BOUND.as_secs_f64());
        assert_eq!(tunnel.number("bytes_to_backend"), 11.0);
        assert_eq!(tunnel.number("bytes_from_backend"), 102.0);
        assert_eq!(tunnel.number("messages_to_backend"), 1.0);
        assert_eq!(tunnel.number("messages_from_backend"), 1.0);
        assert_eq!(tunnel.at("ending"), &Json::Bool(false));
        let totals = status.at("totals");
        assert_eq!(totals.number("tunnels"), 1.0);
        assert_eq!(totals.number("bytes_to_backends"), 11.0);
        assert_eq!(totals.number("handshakes.switched"), 1.0);

        let page = text(&proxy, "");
        let row = format!("<td>{}</td><td>front.example</td>", client.local());
        assert!(page.contains(&row), "{page}");
        assert!(page.contains("<td>ProxyPass &quot;/ws/&quot;</td>"), "{page}");
        assert!(page.contains(&format!("<td>{expected}</td>")), "{page}");

        let labels = format!("{{host=\"front.example\",mapping=\"ProxyPass \\\"/ws/\\\"\",mode=\"{expected}\"}}");
        let series = metrics(&proxy);
        assert_eq!(series[&format!("proxy_wstunnel_tunnels{labels}")], 1.0);
        assert_eq!(series["proxy_wstunnel_answers_total{class=\"1xx\"}"], 1.0, "each counts once");
        for (direction, field) in [("to_backend", "Up"), ("from_backend", "Down")] {
            let name = format!("proxy_wstunnel_tunnel_messages_total{{direction=\"{direction}\"}}");
            assert_eq!(series[&name], 1.0, "{name}");
            assert_eq!(auto(&proxy)[&format!("Total Tunnel Messages {field}")], "1");
        }
        let messages = format!("<td class=\"n\">1</td><td class=\"n\">1</td><td>{expected}</td>");
        assert!(page.contains(&messages), "{page}");
        assert!(page.contains("11 B and 1 messages up, 102 B and 1 messages down"), "{page}");
        assert_eq!(auto(&proxy)["Tunnels"], "1");

        // When it has ended its bytes are in the sums still.
        drop((client, peer));
        wait_until("the tunnel to be gone", BOUND, || tunnels(&json(&proxy)).is_empty());
        let totals = json(&proxy).at("totals").clone();
        assert_eq!(totals.number("tunnels"), 1.0);
        assert_eq!(totals.number("bytes_from_backends"), 102.0);
        let ended: f64 = ["client", "backend"]
            .iter()
            .map(|who| totals.number(&format!("tunnels_ended.{who}")))
            .sum();
        assert_eq!(ended, 1.0, "{totals:#?}");
        assert_eq!(metrics(&proxy)["proxy_wstunnel_tunnel_bytes_total{direction=\"from_backend\"}"], 102.0);
    }
}

each_mode! {
    fn messages_stay_in_the_sums_when_what_follows_is_no_message(mode: Mode) {
        let backend = Backend::listen();
        let directives = mode.directives();
        let proxy = Proxy::start(format!("{directives}\n{STATUS}ProxyPass /ws/ {}/", backend.url()));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let sum = || metrics(&proxy)["proxy_wstunnel_tunnel_messages_total{direction=\"to_backend\"}"];
        client.send(frame(b"hello", Some([1, 2, 3, 4])));
        peer.receive(11);
        wait_until("the message to be counted", BOUND, || sum() == 1.0);
        client.send("SSH-2.0-x");
        peer.receive(9);
        wait_until("nobody to know any more", BOUND, || {
            tunnels(&json(&proxy))[0].at("messages_to_backend") == &Json::Null
        });
        assert_eq!(sum(), 1.0);
        drop((client, peer));
        wait_until("the tunnel to be gone", BOUND, || tunnels(&json(&proxy)).is_empty());
        assert_eq!(sum(), 1.0);
    }

    fn what_each_limit_has_refused_is_shown(mode: Mode) {
        let backend = Backend::echo();
        let host = |name: &str, bound: &str| {
            let url = backend.url();
            format!(
                "<VirtualHost *>\nServerName {name}.example\n{bound}\n{STATUS}ProxyPass /ws/ {url}/\n</VirtualHost>\n"
            )
        };
        let hosts = ["first", "second"].map(|name| host(name, "")).concat()
            + &host("host", "ProxyWebsocketMaxTunnelsPerHost 1")
            + &host("backend", "ProxyWebsocketMaxTunnelsPerBackend 1")
            + &host("address", "ProxyWebsocketMaxTunnelsPerAddress 1");
        let directives = mode.directives();
        let proxy = Proxy::start(format!("{directives}\nProxyWebsocketMaxTunnels 2\n{hosts}"));
        let ask = |name: &str| {
            let request = request_with("/ws/", "").replace("Host: ", &format!("Host: {name}.example\r\nX-Host: "));
            let mut client = Client::sending(&proxy, request);
            let status = client.answer_head().status;
            (client, status)
        };
        let _first = ask("host");
        for (name, status) in [("host", 503), ("backend", 503), ("backend", 503), ("address", 429)] {
            assert_eq!(ask(name).1, status, "{name}");
        }
        let _second = ask("first");
        assert_eq!(ask("second").1, 503);
        let expected = [("total", 1), ("host", 1), ("backend", 2), ("address", 1), ("rate", 0)];
        let (status, series, fields, page) = (json(&proxy), metrics(&proxy), auto(&proxy), text(&proxy, ""));
        for (limit, count) in expected {
            assert_eq!(status.number(&format!("totals.refused.{limit}")), f64::from(count), "{limit}");
            let name = format!("proxy_wstunnel_refused_total{{limit=\"{limit}\"}}");
            assert_eq!(series[&name], f64::from(count), "{limit}");
            assert_eq!(fields[&format!("Refused {limit}")], count.to_string());
        }
        let counts = "total 1, host 1, backend 2, address 1, rate 0";
        assert!(page.contains(&format!("<td>{counts}</td>")), "{page}");
        let table = text(&proxy, "?table");
        let line = format!("limits: 2 places taken of 2; refused: {counts}; 0 addresses forgotten\n");
        assert!(table.contains(&line), "{table}");
        assert_eq!((status.number("places.taken"), status.number("places.max")), (2.0, 2.0));
        assert_eq!((fields["PlacesTaken"].as_str(), fields["MaxTunnels"].as_str()), ("2", "2"));
        assert_eq!(series["proxy_wstunnel_places_taken"], 2.0);
    }
}

#[test]
fn a_rate_that_has_refused_is_shown() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketHandshakeRate 1/h\n{STATUS}ProxyPass /ws/ {}/",
        backend.url()
    ));
    while Client::sending(&proxy, request_with("/ws/", ""))
        .answer_head()
        .status
        == 101
    {}
    assert_eq!(json(&proxy).number("totals.refused.rate"), 1.0);
}

/// A host of one name for each of two ports, as most who speak TLS have it, with what both include.
#[cfg(feature = "tls")]
#[test]
fn no_two_series_are_the_same_where_hosts_share_names_and_lines() {
    let certs = crate::support::Certs::new();
    let directory = crate::support::TempDir::new();
    for (name, identity) in [
        ("one", certs.server("front.example")),
        ("two", certs.rsa_server("front.example")),
    ] {
        directory.write(&format!("{name}.pem"), identity.pem());
        directory.write(&format!("{name}.key"), identity.key_pem());
    }
    directory.write(
        "tls.conf",
        "SSLEngine On\nSSLCertificateFile one.pem\nSSLCertificateKeyFile one.key\n\
         SSLCertificateFile two.pem\nSSLCertificateKeyFile two.key\n",
    );
    let host = |address: &str, more: &str| {
        format!(
            "<VirtualHost {address}:*>\nServerName front.example\n{more}\
             <Proxy balancer://set>\nBalancerMember ws://127.0.0.1:9\n</Proxy>\n\
             ProxyPass /ws/ balancer://set/\n{STATUS}</VirtualHost>\n"
        )
    };
    let hosts = host("127.0.0.1", "")
        + &host("127.0.0.2", "Include tls.conf\n")
        + &host("127.0.0.3", "Include tls.conf\n");
    let listen = "Listen 127.0.0.1:0\nListen 127.0.0.2:0\nListen 127.0.0.3:0\n";
    let proxy = Proxy::start_in(directory, listen.to_owned() + &hosts, "");
    let series = metrics(&proxy);
    let of = |name: &str| series.keys().filter(|key| key.starts_with(name)).count();
    assert_eq!(of("proxy_wstunnel_member_busy{"), 3);
    assert_eq!(
        of("proxy_wstunnel_certificate_expiry_timestamp_seconds{"),
        2
    );
    // Each with the line that names it, and with its end.
    let status = json(&proxy);
    let certificates = status.list("certificates");
    let now = status.number("now");
    let path = proxy.directory().join("tls.conf");
    for (certificate, line) in certificates.iter().zip([2, 4]) {
        let line = format!("{}:{line}", path.display());
        assert_eq!(certificate.text("line"), line);
        assert_eq!(certificate.text("subject"), "CN=front.example");
        let (ends, days) = (certificate.number("ends"), certificate.number("days"));
        assert!(ends > now && days == ((ends - now) / 86_400.0).floor());
        let name = format!(
            "proxy_wstunnel_certificate_expiry_timestamp_seconds{{line=\"{line}\",subject=\"CN=front.example\"}}"
        );
        assert_eq!(series[&name], ends);
        let row = format!("<td>{line}</td><td>CN=front.example</td><td class=\"n\">{days}</td>");
        assert!(text(&proxy, "").contains(&row), "{row}");
        let table = text(&proxy, "?table");
        let row = format!("CN=front.example  {days:>9}  {line}\n");
        assert!(table.contains(&row), "{table}");
    }
    assert_eq!(certificates.len(), 2);
}

#[test]
fn members_are_shown_with_their_state_and_who_is_at_them() {
    let backend = Backend::listen();
    let nobody = Port::at(Ipv4Addr::LOCALHOST.into());
    let proxy = Proxy::start(format!(
        "{STATUS}<Proxy balancer://set>\n\
         BalancerMember ws://{} route=a\n\
         BalancerMember ws://{} loadfactor=50 status=+H\n\
         </Proxy>\nProxyPass /ws/ balancer://set/",
        backend.address(),
        nobody.address()
    ));
    let (client, _peer) = both_ends(&proxy, &backend);
    let status = json(&proxy);
    assert_eq!(tunnels(&status)[0].text("balancer"), "balancer://set");
    let [balancer] = status.list("balancers") else {
        panic!("{status:#?}");
    };
    let [first, second] = balancer.list("members") else {
        panic!("{balancer:#?}");
    };
    assert_eq!(first.text("name"), format!("ws://{}", backend.address()));
    assert_eq!((first.text("route"), first.number("busy")), ("a", 1.0));
    assert_eq!(first.number("elected"), 1.0);
    assert_eq!(
        (second.at("route"), second.text("status")),
        (&Json::Null, "H")
    );
    assert_eq!(second.number("load_factor"), 50.0);
    let labels = format!(
        "{{host=\"{}\",balancer=\"balancer://set\",member=\"ws://{}\",number=\"0\"}}",
        balancer.text("host"),
        backend.address()
    );
    assert_eq!(
        metrics(&proxy)[&format!("proxy_wstunnel_member_busy{labels}")],
        1.0
    );
    let page = text(&proxy, "?notable");
    assert!(page.contains("balancer://set of "), "{page}");
    assert!(!page.contains(&client.local().to_string()), "{page}");
}

#[test]
fn requests_and_handshakes_are_counted_by_what_came_of_them() {
    let backend = Backend::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let nobody = Port::at(Ipv4Addr::LOCALHOST.into());
    let proxy = Proxy::start(format!(
        "{STATUS}ProxyPass /ws/ {}/\nProxyPass /dead/ ws://{}/",
        backend.url(),
        nobody.address()
    ));
    let answers = [
        (get_with("/none", ""), 404),
        (get_with("/ws/", ""), 426),
        (request_with("/ws/", ""), 403),
        (request_with("/dead/", ""), 503),
    ];
    for (request, status) in answers {
        Client::sending(&proxy, request)
            .answer()
            .expect_status(status);
    }
    let status = json(&proxy);
    for (what, expected) in [
        ("handshakes.refused", 1.0),
        ("handshakes.declined", 1.0),
        ("handshakes.failed", 1.0),
        ("handshakes.switched", 0.0),
        ("answers.4xx", 3.0),
        ("answers.5xx", 1.0),
        ("requests", 4.0),
        ("connections", 5.0),
    ] {
        assert_eq!(status.number(&format!("totals.{what}")), expected, "{what}");
    }
    let fields = auto(&proxy);
    assert_eq!(fields["Total Accesses"], "5");
    assert_eq!(fields["BusyWorkers"], "1");
    let board = &fields["Scoreboard"];
    let letters = |letter| board.chars().filter(|c| *c == letter).count().to_string();
    assert_eq!(letters('W'), fields["BusyWorkers"]);
    assert_eq!(letters('_'), fields["IdleWorkers"]);
    assert_eq!(board.len().to_string(), fields["MaxWorkers"]);
    for name in ["Uptime", "ReqPerSec", "Total kBytes", "CPULoad"] {
        fields[name].parse::<f64>().unwrap();
    }
}

#[test]
fn without_require_only_local_clients_see_it_whatever_stands_around() {
    let told = |more: &str| {
        let location = format!("<Location /x>\nSetHandler server-status\n{more}</Location>");
        let proxy = Proxy::start(location);
        proxy.log_lines("<Location \"/x\"> has no Require").len()
    };
    assert_eq!((told(""), told("Require all denied\n")), (1, 0));
    // Who comes by a trusted proxy is who that says he is.
    let behind = "RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.1\n";
    let proxy = Proxy::start(format!(
        "{behind}<Location />\nRequire all granted\n</Location>\n{STATUS}\
         <Location /open>\nSetHandler server-status\nRequire ip 192.0.2.0/24\n</Location>\n\
         <Location /status/not>\nSetHandler None\nRequire all granted\n</Location>"
    ));
    for (path, client, status) in [
        ("/status", "", 200),
        ("/status", "X-Forwarded-For: 192.0.2.1\r\n", 403),
        ("/open", "", 403),
        ("/open", "X-Forwarded-For: 192.0.2.1\r\n", 200),
        ("/status/not", "", 404),
    ] {
        let mut asking = Client::sending(&proxy, get_with(path, client));
        asking.answer_to("GET").expect_status(status);
    }
}

#[test]
fn a_status_stands_above_mappings_and_is_only_looked_at() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("{STATUS}ProxyPass / {}/", backend.url()));
    let mut client = Client::sending(&proxy, "HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = client.answer_to("HEAD").expect_status(200);
    assert!(
        head.field("Content-Length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 100
    );
    // The connection stays.
    client.send("GET /status?refresh=7 HTTP/1.1\r\nHost: x\r\n\r\n");
    let page = client.answer_to("GET").expect_status(200);
    assert_eq!(page.field("Refresh").as_deref(), Some("7"));
    assert_eq!(page.field("Cache-Control").as_deref(), Some("no-store"));
    let refused = Client::sending(
        &proxy,
        "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    )
    .answer()
    .expect_status(405);
    assert_eq!(refused.field("Allow").as_deref(), Some("GET, HEAD"));
    backend.expect_untouched();
}

#[test]
fn what_a_reload_came_to_is_shown_with_its_reasons() {
    let proxy = Proxy::start(STATUS);
    assert_eq!(json(&proxy).at("configuration.last_reload"), &Json::Null);
    proxy.reload(STATUS);
    proxy.reload_refused(format!("{STATUS}ProxyPas /a ws://b/"));
    let status = json(&proxy);
    assert_eq!(status.number("configuration.generation"), 2.0);
    assert_eq!(status.number("configuration.reloads.good"), 1.0);
    assert_eq!(status.number("configuration.reloads.failed"), 1.0);
    let last = status.at("configuration.last_reload");
    assert_eq!(last.at("succeeded"), &Json::Bool(false));
    let [Json::Text(problem)] = last.list("problems") else {
        panic!("{last:?}");
    };
    assert!(
        problem.contains("proxy.conf:") && problem.contains("ProxyPas"),
        "{problem}"
    );
    let page = text(&proxy, "");
    assert!(
        page.contains("did you mean &quot;ProxyPass&quot;?"),
        "{page}"
    );
    let series = metrics(&proxy);
    assert_eq!(series["proxy_wstunnel_config_last_reload_successful"], 0.0);
}

#[test]
fn other_handlers_are_refused_by_their_names() {
    let checked = proxy::check("<Location /x>\nSetHandler balancer-manager\n</Location>");
    let said = checked.expect_status(1).stderr;
    assert!(
        said.contains("no handler is called \"balancer-manager\""),
        "{said}"
    );
    assert!(said.contains("--drain"), "{said}");
}
