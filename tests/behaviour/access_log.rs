//! What the access log says of each request: one line, at its end.

use crate::support::client::{close_frame, frame, request, request_with, switch_with};
use crate::support::{Backend, Client, Proxy, each_mode};
use rustix::process::Signal;
use std::time::Duration;

/// A line of `name=value` words.
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let begin = format!(" {name}=");
    let Some((_, rest)) = line.split_once(&begin) else {
        panic!("no {name} in {line}");
    };
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => rest.split(' ').next().unwrap(),
    }
}

each_mode! {
    fn a_tunnel_is_one_line_at_its_end_with_its_bytes_and_its_end(mode: Mode) {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "{}\nServerName proxy.example\nProxyPass \"/ws/\" {}/base/\n\
             LogFormat \": h=%h client=%{{c}}a port=%{{remote}}p r=\\\"%r\\\" m=%m U=%U q=%q H=%H s=%>s b=%b B=%B I=%I O=%O S=%S D=%D ms=%{{ms}}T \
             T=%T v=%v ua=\\\"%{{User-Agent}}i\\\" proto=%{{Sec-WebSocket-Protocol}}o up=%{{Upgrade}}o cookie=%{{id}}C \
             backend=%{{backend}}n mapping='%{{mapping}}n' to=%{{bytes-to-backend}}n from=%{{bytes-from-backend}}n \
             end=\\\"%{{close-reason}}n\\\"\" whole\nCustomLog access.log whole",
            mode.directives(),
            backend.url()
        ));
        let fields = "User-Agent: Test 1.0\r\nSec-WebSocket-Protocol: chat\r\nCookie: id=42; other=1\r\n";
        let asked = request_with("/ws/room%20one?key=value", fields);
        let mut client = Client::sending(&proxy, &asked);
        let mut peer = backend.accept();
        let forwarded = peer.head();
        peer.send(switch_with("Sec-WebSocket-Protocol: chat\r\n"));
        let answered = client.switched().head;
        let there = frame(&[b'a'; 1000], Some([1, 2, 3, 4]));
        let back = frame(&[b'b'; 50_000], None);
        client.send(&there);
        peer.expect(&there);
        peer.send(&back);
        client.expect(&back);
        assert!(proxy.wait_for_lines("access.log", 0).is_empty(), "not before its end");
        std::thread::sleep(Duration::from_millis(200));
        client.finish();
        peer.expect_end();
        peer.finish();
        client.expect_end();

        let lines = proxy.wait_for_lines("access.log", 1);
        let line = &lines[0];
        let number = |name: &str| value(line, name).parse::<usize>().expect(name);
        assert_eq!(value(line, "h"), "127.0.0.1");
        assert_eq!(value(line, "client"), "127.0.0.1");
        assert_eq!(number("port"), usize::from(client.local().port()));
        assert_eq!(value(line, "r"), "GET /ws/room%20one?key=value HTTP/1.1");
        assert_eq!(value(line, "m"), "GET");
        assert_eq!(value(line, "q"), "?key=value");
        assert_eq!(value(line, "H"), "HTTP/1.1");
        assert_eq!(number("s"), 101);
        assert_eq!(number("b"), back.len());
        assert_eq!(number("B"), back.len());
        assert_eq!(number("I"), asked.len() + there.len());
        assert_eq!(number("O"), answered.len() + back.len());
        assert_eq!(number("S"), number("I") + number("O"));
        let micros = number("D");
        assert!((200_000..20_000_000).contains(&micros), "{line}");
        assert_eq!(number("ms"), micros / 1000);
        assert_eq!(number("T"), micros / 1_000_000);
        assert_eq!(value(line, "v"), "proxy.example");
        assert_eq!(value(line, "ua"), "Test 1.0");
        assert_eq!(value(line, "proto"), "chat");
        assert_eq!(value(line, "up"), "websocket");
        assert_eq!(value(line, "cookie"), "42");
        assert!(value(line, "backend").contains(&backend.address().to_string()), "{line}");
        assert!(line.contains("mapping='ProxyPass "), "{line}");
        let to = number("to");
        assert!(to == there.len() || to == there.len() + forwarded.len(), "{line}");
        assert!(number("from") >= back.len(), "{line}");
        assert_eq!(value(line, "end"), "client closed");
    }

    fn the_reason_of_every_end_is_told(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = Proxy::start(format!(
            "{}\nProxyWebsocketIdleTimeout 1\nProxyPass /ws/ {}/\nCustomLog access.log %{{close-reason}}n",
            mode.directives(),
            backend.url()
        ));
        let tunnel = || {
            let mut client = Client::asking(&proxy, "/ws/");
            let peer = backend.accept_tunnel();
            client.switched();
            (client, peer)
        };
        let mut told = Vec::new();
        {
            let (client, mut peer) = tunnel();
            drop(client);
            peer.expect_end();
            drop(peer);
            told.push("client closed");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (mut client, mut peer) = tunnel();
            peer.send(close_frame(None));
            peer.finish();
            client.expect(close_frame(None));
            client.expect_end();
            drop((client, peer));
            told.push("backend closed");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (mut client, mut peer) = tunnel();
            peer.finish();
            client.expect_end();
            told.push("backend ended without a Close frame");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (_client, peer) = tunnel();
            peer.reset();
            told.push("backend failed without a Close frame: ");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (mut client, mut peer) = tunnel();
            peer.send(close_frame(None));
            client.expect(close_frame(None));
            peer.reset();
            told.push("backend failed: ");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (client, _peer) = tunnel();
            client.reset();
            told.push("client failed: ");
            proxy.wait_for_lines("access.log", told.len());
        }
        {
            let (_client, _peer) = tunnel();
            told.push("idle for 1s");
            proxy.wait_for_lines("access.log", told.len());
        }
        let (_client, _peer) = tunnel();
        proxy.stop();
        told.push("the server is stopping");
        let lines = proxy.wait_for_lines("access.log", told.len());
        for (line, told) in lines.iter().zip(told) {
            assert!(line.starts_with(told), "{line} instead of {told}");
        }
    }
}

#[test]
fn what_is_refused_has_its_line_too() {
    let proxy = Proxy::start(
        "ProxyPass /ws/ ws://127.0.0.1:9/\nRequestReadTimeout header=1\n\
         CustomLog access.log \"%>s %b \\\"%r\\\" %{close-reason}n\"",
    );
    let not_found = Client::sending(&proxy, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n").answer();
    Client::sending(&proxy, "nonsense\r\n\r\n")
        .answer()
        .expect_status(400);
    Client::asking(&proxy, "/ws/").answer().expect_status(503);
    let lines = proxy.wait_for_lines("access.log", 3);
    assert_eq!(
        lines[0],
        format!("404 {} \"GET /none HTTP/1.1\" -", not_found.body.len())
    );
    assert!(
        lines[1].starts_with("400 ") && lines[1].contains("\"nonsense\""),
        "{}",
        lines[1]
    );
    assert!(lines[2].starts_with("503 "), "{}", lines[2]);
    Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\n")
        .answer()
        .expect_status(408);
    let lines = proxy.wait_for_lines("access.log", 4);
    assert!(lines[3].starts_with("408 "), "{}", lines[3]);
}

#[test]
fn the_common_format_is_the_default() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "LogFormat \"%h %l %u %t \\\"%r\\\" %>s %b\" common\nProxyPass /ws/ {}/\nCustomLog access.log common",
        backend.url()
    ));
    drop(Client::tunnel(&proxy, "/ws/"));
    let line = proxy.wait_for_lines("access.log", 1).remove(0);
    let (front, rest) = line.split_once(" [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(front, "127.0.0.1 - -");
    assert_eq!(rest, "\"GET /ws/ HTTP/1.1\" 101 -");
    assert_eq!(time.len(), "10/Oct/2000:13:55:36 +0000".len(), "{time}");
    assert!(time.ends_with(" +0000"), "{time}");
}

#[test]
fn a_virtual_host_with_a_log_of_its_own_does_not_use_the_other() {
    let proxy = Proxy::start(
        "CustomLog main.log main\nLogFormat %U main\n\
         <VirtualHost *:*>\nServerName one.example\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nCustomLog two.log %U\nCustomLog again.log %m\n</VirtualHost>",
    );
    for host in ["one", "two"] {
        let bytes = format!("GET /{host} HTTP/1.1\r\nHost: {host}.example\r\n\r\n");
        Client::sending(&proxy, bytes).answer().expect_status(404);
    }
    assert_eq!(proxy.wait_for_lines("two.log", 1), ["/two"]);
    assert_eq!(proxy.wait_for_lines("again.log", 1), ["GET"]);
    assert_eq!(proxy.wait_for_lines("main.log", 1), ["/one"]);
}

#[test]
fn values_are_escaped_and_modifiers_obeyed() {
    let proxy = Proxy::start(
        "CustomLog access.log \"%400,404{User-Agent}i|%!404{User-Agent}i|%{X-None}i|%%|%{X}i\"",
    );
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: say \"a\\b\"\r\nX: \u{e9}\t.\r\n\r\n";
    Client::sending(&proxy, bytes).answer().expect_status(404);
    assert_eq!(
        proxy.wait_for_lines("access.log", 1),
        [r#"say \"a\\b\"|-|-|%|\xc3\xa9\t."#]
    );
}

#[test]
fn a_log_with_a_condition_has_only_the_requests_that_meet_it() {
    let proxy = Proxy::start(
        "SetEnvIf Request_URI ^/health dontlog\nSetEnv FIXED yes\n\
         <Location /inner>\nSetEnvIf X-Robot (.*) robot=$1 dontlog\nRequire all denied\n</Location>\n\
         CustomLog rest.log \"%U %{FIXED}e\" env=!dontlog\n\
         CustomLog robots.log \"%U \\\"%{Robot}e\\\" %{dontlog}e %{FIXED}e\" env=ROBOT\n\
         CustomLog all.log \"%U %>s\"",
    );
    for (target, status) in [("/health", 404), ("/inner", 403), ("/other", 404)] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Robot: \"a\\b\"\r\n\r\n");
        Client::sending(&proxy, bytes)
            .answer()
            .expect_status(status);
    }
    // What is no request has no variables.
    Client::sending(&proxy, "nonsense /health\r\n\r\n")
        .answer()
        .expect_status(400);
    assert_eq!(
        proxy.wait_for_lines("all.log", 4),
        ["/health 404", "/inner 403", "/other 404", "- 400"]
    );
    assert_eq!(proxy.wait_for_lines("rest.log", 2), ["/other yes", "- -"]);
    assert_eq!(
        proxy.wait_for_lines("robots.log", 1),
        [r#"/inner "\"a\\b\"" 1 -"#]
    );
}

each_mode! {
    fn a_tunnel_s_line_depends_on_its_variables(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nSetEnvIf Request_URI ^/ws/quiet$ dontlog\nSetEnvIf Host (.*) THE_HOST=$1\nProxyPass /ws/ {}/\n\
             CustomLog quiet.log %U env=dontlog\nCustomLog loud.log \"%U %{{THE_HOST}}e\" env=!dontlog",
            mode.directives(),
            backend.url()
        ));
        for path in ["/ws/quiet", "/ws/loud"] {
            drop(Client::tunnel(&proxy, path));
            let file = path.replace("/ws/", "") + ".log";
            let line = proxy.wait_for_lines(&file, 1).remove(0);
            assert!(line.starts_with(path), "{line}");
            assert_eq!(line.ends_with(" front.example"), path == "/ws/loud", "{line}");
        }
        assert_eq!(proxy.wait_for_lines("quiet.log", 0).len(), 1);
    }
}

#[test]
fn a_request_has_no_variables_of_the_one_before_on_its_connection() {
    let proxy = Proxy::start(
        "SetEnvIf Request_URI ^/health dontlog\nCustomLog rest.log %U env=!dontlog\n\
         CustomLog all.log \"%U %{dontlog}e\"",
    );
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let bytes = ask("/health") + &ask("/other") + "nonsense /health\r\n\r\n";
    let _client = Client::sending(&proxy, bytes);
    assert_eq!(
        proxy.wait_for_lines("all.log", 3),
        ["/health 1", "/other -", "- -"]
    );
    assert_eq!(proxy.wait_for_lines("rest.log", 2), ["/other", "-"]);
}

/// As logrotate does it: the file is renamed, then the signal, then the rest goes into a new file.
#[test]
fn a_signal_reopens_all_log_files() {
    for signal in [Signal::USR1, Signal::HUP] {
        let proxy = Proxy::start(
            "ErrorLog error.log\nLogLevel debug\nProxyPass /ws/ ws://127.0.0.1:9/\nCustomLog access.log %U",
        );
        let ask = |path: &str| {
            let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            Client::sending(&proxy, bytes).answer().expect_status(404);
        };
        ask("/before");
        proxy.wait_for_lines("access.log", 1);
        for file in ["access.log", "error.log"] {
            let path = proxy.directory().join(file);
            std::fs::rename(&path, path.with_extension("old")).unwrap();
        }
        ask("/between");
        assert_eq!(
            proxy.wait_for_lines("access.old", 2),
            ["/before", "/between"]
        );
        proxy.signal(signal);
        crate::support::wait_until("new files", Duration::from_secs(10), || {
            ["access.log", "error.log"]
                .iter()
                .all(|file| proxy.directory().join(file).exists())
        });
        ask("/after");
        assert_eq!(proxy.wait_for_lines("access.log", 1), ["/after"]);
        Client::sending(&proxy, request("/ws/"))
            .answer()
            .expect_status(503);
        let lines = proxy.wait_for_lines("error.log", 1);
        assert!(!lines.is_empty());
    }
}
