//! What the server tells of itself: the table, the other forms, and probes.

use super::{LISTEN, command, control, knock, probe, request, socket, start, status_address, text};
use crate::support::client::frame;
use crate::support::proxy::{BINARY, run};
use crate::support::{BOUND, Backend, Json, Wire, both_ends, each_mode, wait_until};
use rustix::process::Signal;
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// The words of the line that begins with this one.
#[track_caller]
fn row<'t>(table: &'t str, first: &str) -> Vec<&'t str> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect());
    rows.find(|row: &Vec<&str>| row.first() == Some(&first))
        .unwrap_or_else(|| panic!("no {first} in {table}"))
}

each_mode! {
    fn the_table_has_a_line_for_each_tunnel(mode: Mode) {
        let backend = Backend::listen();
        let (directives, url) = (mode.directives(), backend.url());
        let proxy = start(format!(
            "{directives}\nServerName front.example\nProxyPass /ws/ {url}/\n\
             <Proxy balancer://set>\nBalancerMember ws://127.0.0.1:9\n</Proxy>\nProxyPass /b/ balancer://set/\n"
        ));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send(frame(b"12345", Some([1, 2, 3, 4])));
        peer.receive(11);
        peer.send(frame(b"", None));
        peer.send(frame(b"", None));
        client.receive(4);
        let second = both_ends(&proxy, &backend);
        let mut table = String::new();
        // The bytes are published at the end of the turn that has moved them.
        wait_until("the tunnels to be told of", BOUND, || {
            table = command(&proxy, &["--status"]).expect_status(0).stdout;
            table.contains("tunnels: 2 open") && table.contains(" 4 B ")
        });
        let titles = row(&table, "ID");
        let expected = [
            "ID", "CLIENT", "HOST", "MAPPING", "BACKEND", "AGE", "IDLE", "SENT", "MESSAGES", "RECEIVED", "MESSAGES", "IN",
        ];
        assert_eq!(titles, expected);
        let lines = [(row(&table, "1"), &client), (row(&table, "2"), &second.0)];
        for (line, client) in lines {
            let address = client.local().to_string();
            let mapping = "ProxyPass \"/ws/\"";
            assert_eq!(line[1..5].join(" "), format!("{address} front.example {mapping}"));
            assert_eq!(line[5], backend.url() + "/");
        }
        let moved = &row(&table, "1")[8..14];
        assert_eq!(moved, ["11", "B", "1", "4", "B", "2"], "{table}");
        let sums = "since the start: 2; 11 B and 1 messages sent, 4 B and 2 messages received\n";
        assert!(table.contains(sums), "{table}");
        assert!(table.find("\n 1  ") < table.find("\n 2  "), "{table}");
        let member = row(&table, "front.example");
        assert_eq!(member[1..5], ["balancer://set", "ws://127.0.0.1:9", "-", "0"]);
        let json = command(&proxy, &["--status", "--json"]).expect_status(0).stdout;
        assert!(json.starts_with('{') && json.ends_with("]}\n"), "{json}");
        command(&proxy, &["--end", "2"]).expect_status(0);
        wait_until("it to be gone", BOUND, || {
            let table = command(&proxy, &["--status"]).expect_status(0).stdout;
            table.contains("tunnels: 1 open")
        });
    }
}

#[test]
fn every_form_is_told_to_whoever_asks() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    let address = status_address(&proxy);
    for (target, content_type, part) in [
        ("/server-status", "text/html; charset=utf-8", "<html"),
        (
            "/server-status?auto",
            "text/plain; charset=utf-8",
            "\nBusyWorkers: 0\n",
        ),
        ("/server-status?json", "application/json", "\"tunnels\":["),
        (
            "/server-status?metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            "\n# TYPE ",
        ),
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            "\n# TYPE ",
        ),
        (
            "/server-status?table",
            "text/plain; charset=utf-8",
            "workers: 0 of 400 ",
        ),
    ] {
        let told = [
            probe(address, "GET", target),
            control(&proxy, "GET", target),
        ];
        for answer in told {
            let answer = answer.expect_status(200);
            assert_eq!(answer.field("Content-Type").as_deref(), Some(content_type));
            assert!(text(&answer).contains(part), "{target}: {}", text(&answer));
        }
        assert!(
            probe(address, "HEAD", target)
                .expect_status(200)
                .body
                .is_empty()
        );
    }
    let again = probe(address, "GET", "/server-status?refresh=5").expect_status(200);
    assert_eq!(again.field("Refresh").as_deref(), Some("5"));
}

each_mode! {
    fn three_wrong_configurations_change_nothing_and_are_told_of_with_file_and_line(mode: Mode) {
        let backend = Backend::listen();
        let rest = format!("{}\nProxyPass /ws/ {}/\n", mode.directives(), backend.url());
        let proxy = start(&rest);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let file = proxy.directory().join("proxy.conf");
        let begin = format!("{LISTEN}{rest}");
        for (count, (wrong, problem)) in [
            ("ProxyPas / ws://b/", "ProxyPas: unknown directive; did you mean \"ProxyPass\"?"),
            // Nobody speaks to a terminal by this.
            ("Timeout \u{1b}[31mx\u{9b}2J", "Timeout: "),
            ("Listen unix:/no/such/folder/x", "Listen: cannot make the control socket /no/such/folder/x: "),
        ].into_iter().enumerate() {
            let lines = proxy.reload_refused(format!("{begin}{wrong}\n"));
            let text = std::fs::read_to_string(&file).unwrap();
            let number = text.lines().position(|line| line == wrong).unwrap() + 1;
            let problem = format!("{}:{number}: {problem}", file.display());
            assert!(lines.iter().any(|line| line.contains(&problem)), "{problem} in {lines:?}");
            let ask = |more: &[&str]| {
                let all = [&["-f", file.to_str().unwrap(), "--status"], more].concat();
                run(&all).expect_status(0).stdout
            };
            let (table, json) = (ask(&[]), ask(&["--json"]));
            let failed = format!("configuration 1, 0 reloads, {} failed\n", count + 1);
            assert!(table.contains(&failed), "{table}");
            assert!(table.contains(", has failed, and left this configuration in force\n"), "{table}");
            assert!(table.contains(&format!("\n  {problem}")), "{problem} in {table}");
            assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
            let json = Json::parse(&json);
            let last = json.at("configuration.last_reload");
            assert_eq!(last.at("succeeded"), &Json::Bool(false));
            let [Json::Text(told)] = last.list("problems") else {
                panic!("{last:?}");
            };
            assert!(told.starts_with(&problem), "{told}");
            client.send("goes on");
            peer.expect("goes on");
        }
        // The old one is in force for who comes new as well.
        both_ends(&proxy, &backend);
        proxy.reload(&begin);
        let table = command(&proxy, &["--status"]).expect_status(0).stdout;
        assert!(table.contains("configuration 2, 1 reloads, 3 failed\n"), "{table}");
        assert!(table.contains(", has put this configuration in force\n"), "{table}");
    }
}

/// A status of more than a megabyte, which no socket takes at once.
fn large() -> String {
    let member =
        |number| format!("BalancerMember http://member-{number}.example:8080/with/a/long/path\n");
    let members: String = (0..8000).map(member).collect();
    format!("<Proxy balancer://set>\n{members}</Proxy>\nProxyPass / balancer://set/\n")
}

#[test]
fn slow_readers_of_a_large_status_hold_no_more_than_a_few() {
    let proxy = start(large());
    let address = status_address(&proxy);
    let whole = text(&probe(address, "GET", "/server-status?json").expect_status(200));
    assert!(whole.len() > 1_000_000, "{}", whole.len());
    // What the allocator keeps has been seen.
    for _ in 0..4 {
        control(&proxy, "GET", "/server-status?json").expect_status(200);
    }
    let before = proxy.figures().private;
    let ask = |mut wire: Wire| {
        // Its window takes next to nothing.
        rustix::net::sockopt::set_socket_recv_buffer_size(wire.tcp(), 4096).unwrap();
        wire.send(request("GET", "/server-status?json"));
        wire.receive(1);
        wire
    };
    let slow: Vec<Wire> = (0..7)
        .map(|_| ask(Wire::new(TcpStream::connect(address).unwrap())))
        .collect();
    let local: Vec<Wire> = (0..5).map(|_| ask(knock(&socket(&proxy)))).collect();
    let json = command(&proxy, &["--status", "--json"])
        .expect_status(0)
        .stdout;
    assert_eq!(json.lines().count(), whole.lines().count());
    assert!(json.ends_with("]}\n"));
    probe(address, "GET", "/readyz").expect_status(200);
    let grown = proxy.figures().private.saturating_sub(before);
    assert!(
        grown < 8 * whole.len(),
        "{grown} bytes for renderings of {}",
        whole.len()
    );
    drop((slow, local));
}

#[test]
fn many_who_ask_for_a_large_status_at_once_all_get_it_whole() {
    let proxy = start(large());
    let path = socket(&proxy);
    let address = status_address(&proxy);
    let whole = text(&probe(address, "GET", "/server-status?json").expect_status(200));
    let lines = whole.lines().count();
    // All have asked before the first of them reads.
    let mut wires: Vec<Wire> = (0..8)
        .flat_map(|_| {
            [
                knock(&path),
                Wire::new(TcpStream::connect(address).unwrap()),
            ]
        })
        .collect();
    for wire in &mut wires {
        wire.send(request("GET", "/server-status?json"));
    }
    std::thread::scope(|scope| {
        for mut wire in wires {
            scope.spawn(move || {
                let told = text(&wire.answer().expect_status(200));
                assert!(told.lines().count() == lines && told.ends_with("]}\n"));
            });
        }
    });
}

#[test]
fn probes_learn_that_it_stops_while_it_does() {
    let backend = Backend::listen();
    let mut proxy = start(format!("ProxyPass /ws/ {}/\n", backend.url()));
    let address = status_address(&proxy);
    // These two do not close, so that it takes two seconds.
    let (client, peer) = both_ends(&proxy, &backend);
    proxy.signal(Signal::TERM);
    wait_until("the probe to say so", BOUND, || {
        probe(address, "GET", "/readyz").status == 503
    });
    let told = control(&proxy, "GET", "/readyz").expect_status(503);
    assert_eq!(text(&told), "stopping\n");
    probe(address, "GET", "/healthz").expect_status(200);
    proxy.await_exit();
    assert!(!socket(&proxy).exists());
    drop((client, peer));
}

#[test]
fn probes_learn_of_a_graceful_stop_while_tunnels_go_on() {
    let backend = Backend::listen();
    let mut proxy = start(format!("ProxyPass /ws/ {}/\n", backend.url()));
    let (mut client, mut peer) = both_ends(&proxy, &backend);
    proxy.signal(Signal::WINCH);
    wait_until("the probe to say so", BOUND, || {
        control(&proxy, "GET", "/readyz").status == 503
    });
    client.send("goes on");
    peer.expect("goes on");
    command(&proxy, &["--end", "1"]).expect_status(0);
    client.expect_cut();
    peer.expect_cut();
    proxy.await_exit();
}

#[test]
fn a_reader_of_the_table_that_goes_away_is_told_nothing() {
    let proxy = start(large());
    let mut command = Command::new(BINARY);
    command.args(["--control", socket(&proxy).to_str().unwrap(), "--status"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(1), Vec::new()));
}
