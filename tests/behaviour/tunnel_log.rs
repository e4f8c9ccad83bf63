//! What the logs tell of a tunnel: that it has opened, who has ended it, and what both sides have said.

use crate::support::client::{close_frame, frame, request_with};
use crate::support::{Backend, Client, Mode, Proxy, both_ends, each_mode};
use std::time::Duration;

const KEY: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

/// A Close with a code and a reason.
fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame(&[&code.to_be_bytes(), reason.as_bytes()].concat(), mask);
    bytes[0] = 0x88;
    bytes
}

fn proxy(mode: Mode, backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!(
        "{}\nLogLevel debug\nProxyPass /ws/ {}/\n{directives}",
        mode.directives(),
        backend.url()
    ))
}

const SAID: &str = r#"CustomLog access.log "%{ended-by}n|%{close-code-from-client}n|%{close-text-from-client}n|%{close-code-from-backend}n|%{close-text-from-backend}n|%{frames-from-client}n %{messages-from-client}n|%{frames-from-backend}n %{messages-from-backend}n""#;

each_mode! {
    fn the_line_tells_what_each_side_has_said_at_the_end(mode: Mode) {
        let backend = Backend::listen();
        let proxy = proxy(mode, &backend, SAID);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        for _ in 0..3 {
            client.send(frame(b"hello", KEY));
            peer.expect(frame(b"hello", KEY));
        }
        peer.send(frame(b"answer", None));
        client.expect(frame(b"answer", None));
        let goes = close(1001, "going \"away\"", KEY);
        client.send(&goes);
        peer.expect(&goes);
        let agrees = close(1000, "", None);
        peer.send(&agrees);
        client.expect(&agrees);
        peer.finish();
        client.expect_end();
        drop(client);
        assert_eq!(
            proxy.wait_for_lines("access.log", 1),
            [r#"backend|1001|going \"away\"|1000||4 3|2 1"#]
        );
        let line = proxy.wait_for_log("closed: ");
        assert!(
            line.ends_with(r#"; client said Close 1001 "going \"away\""; backend said Close 1000"#),
            "{line}"
        );
    }

    fn a_close_is_heard_however_its_bytes_come(mode: Mode) {
        let backend = Backend::listen();
        let proxy = proxy(mode, &backend, SAID);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        for byte in close(4321, "bit by bit", KEY) {
            client.send([byte]);
            peer.expect([byte]);
        }
        // A Close without a payload, and what should not come behind it.
        let bare = [0x88, 0];
        peer.send(bare);
        peer.send(close(1011, "late", None));
        client.expect(bare);
        drop((client, peer));
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        let (_, said) = line.split_once('|').unwrap();
        assert!(said.starts_with("4321|bit by bit|1005||1 0|"), "{line}");
    }

    /// Bulk goes through pipes, which nobody reads: the Close behind it has to be seen all the same.
    fn a_close_behind_a_stream_is_heard(mode: Mode) {
        let backend = Backend::listen();
        let proxy = proxy(mode, &backend, SAID);
        let payload = vec![0x88; 3_000_000];
        for round in 0..3 {
            let (mut client, mut peer) = both_ends(&proxy, &backend);
            let there = [frame(&payload, KEY), close(4000 + round, "that is all", KEY)].concat();
            let back = [frame(&payload, None), close(1000, "thanks", None)].concat();
            std::thread::scope(|scope| {
                scope.spawn(|| client.send(&there));
                peer.expect(&there);
            });
            std::thread::scope(|scope| {
                scope.spawn(|| peer.send(&back));
                client.expect(&back);
            });
            client.finish();
            peer.expect_end();
            drop((client, peer));
            let lines = proxy.wait_for_lines("access.log", usize::from(round) + 1);
            assert_eq!(
                lines[usize::from(round)],
                format!("client|{}|that is all|1000|thanks|2 1|2 1", 4000 + round)
            );
        }
    }

    fn of_what_is_no_websocket_nothing_is_said(mode: Mode) {
        let backend = Backend::listen();
        let proxy = proxy(mode, &backend, SAID);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send("SSH-2.0-x\r\n");
        peer.expect("SSH-2.0-x\r\n");
        peer.send(close_frame(None));
        client.expect(close_frame(None));
        drop(client);
        peer.expect_end();
        drop(peer);
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        assert_eq!(line, "client|-|-|1000||- -|1 0");
    }

    fn who_ended_a_tunnel_is_one_word_and_how_long_it_was_silent_a_number(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = proxy(
            mode,
            &backend,
            "ProxyWebsocketIdleTimeout 1\nCustomLog access.log \"%{ended-by}n %{silence}n\"",
        );
        {
            let (mut client, mut peer) = both_ends(&proxy, &backend);
            client.send("x");
            peer.expect("x");
            std::thread::sleep(Duration::from_millis(300));
            drop(client);
            peer.expect_end();
        }
        proxy.wait_for_lines("access.log", 1);
        {
            let (mut client, peer) = both_ends(&proxy, &backend);
            drop(peer);
            client.rest();
        }
        proxy.wait_for_lines("access.log", 2);
        let (idle_client, idle_peer) = both_ends(&proxy, &backend);
        proxy.wait_for_lines("access.log", 3);
        drop((idle_client, idle_peer));
        let (_client, _peer) = both_ends(&proxy, &backend);
        proxy.stop();
        let lines = proxy.wait_for_lines("access.log", 4);
        let told: Vec<(&str, u64)> = lines
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(who, silence)| (who, silence.parse().unwrap()))
            .collect();
        let who: Vec<&str> = told.iter().map(|(who, _)| *who).collect();
        assert_eq!(who, ["client", "backend", "idle", "stop"]);
        assert!((300..10_000).contains(&told[0].1), "{lines:?}");
        assert!((1000..10_000).contains(&told[2].1), "{lines:?}");
    }

    fn a_tunnel_has_a_line_when_it_opens_if_that_is_asked_for(mode: Mode) {
        let backend = Backend::listen();
        let format = r#""%{event}n %L %>s %U %{ended-by}n""#;
        let proxy = proxy(
            mode,
            &backend,
            &format!(
                "CustomLog end.log {format}\nCustomLog open.log {format} event=open\n\
                 CustomLog both.log {format} event=both\n\
                 SetEnvIf Request_URI quiet quiet\n\
                 CustomLog loud.log {format} env=!quiet event=open\n\
                 CustomLog json.log json event=both"
            ),
        );
        Client::sending(&proxy, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            .answer()
            .expect_status(404);
        proxy.wait_for_lines("end.log", 1);
        let mut client = Client::asking(&proxy, "/ws/quiet");
        let mut peer = backend.accept_tunnel();
        client.switched();
        let opened = proxy.wait_for_lines("open.log", 1);
        let [event, id, rest] = opened[0].splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{opened:?}");
        };
        assert_eq!((event, rest), ("open", "101 /ws/quiet -"));
        assert_eq!(proxy.wait_for_lines("both.log", 2)[1], opened[0]);
        assert_eq!(proxy.wait_for_lines("end.log", 1).len(), 1, "not before its end");
        client.send(frame(b"x", KEY));
        peer.expect(frame(b"x", KEY));
        client.finish();
        peer.expect_end();
        drop((client, peer));
        let ended = format!("end {id} 101 /ws/quiet client");
        assert_eq!(proxy.wait_for_lines("end.log", 2)[1], ended);
        assert_eq!(proxy.wait_for_lines("both.log", 3)[2], ended);
        assert_eq!(proxy.wait_for_lines("open.log", 1).len(), 1, "and no ordinary request");
        assert!(proxy.wait_for_lines("loud.log", 0).is_empty());
        let json = proxy.wait_for_lines("json.log", 3);
        assert!(json[1].contains(r#","event":"open","#), "{}", json[1]);
        assert!(json[1].contains(r#","ended_by":null,"#), "{}", json[1]);
        assert!(json[2].contains(r#","event":"end","#), "{}", json[2]);
    }

    fn lines_of_json_can_be_read_whatever_a_client_sends(mode: Mode) {
        let backend = Backend::listen();
        let proxy = proxy(
            mode,
            &backend,
            "CustomLog access.log json\n\
             LogFormat '{\"x\":%{X}i,\"t\":\"%m %{X}i\",\"s\":[%>s,%{ended-by}n]}' own escape=json\n\
             CustomLog own.log own",
        );
        let fields = "X: \"\\\u{e9}\u{202e}\t\r\nUser-Agent: \\\"\r\n";
        let mut client = Client::sending(&proxy, request_with("/ws/", fields));
        let mut peer = backend.accept_tunnel();
        client.switched();
        let mut goes = frame(b"\x0f\xa0\"\\\xff\n", KEY);
        goes[0] = 0x88;
        client.send(&goes);
        peer.expect(&goes);
        client.finish();
        peer.expect_end();
        drop((client, peer));
        let own = proxy.wait_for_lines("own.log", 1).remove(0);
        let value = r#"\"\\\u00e9\u202e"#;
        assert_eq!(
            own,
            format!(r#"{{"x":"{value}","t":"GET {value}","s":[101,"client"]}}"#)
        );
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        for part in [
            r#""user_agent":"\\\"","#,
            r#""status":101,"#,
            r#""close_code_from_client":4000,"#,
            r#""close_text_from_client":"\"\\\\xff\u000a","#,
            r#""close_code_from_backend":null,"#,
            r#""frames_from_client":1,"#,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
