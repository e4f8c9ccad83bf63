//! Bytes both ways, half-close, resets, stop.

use crate::support::client::{close_frame, echoes, frame};
use crate::support::{
    Backend, Client, Mode, Wire, both_ends as tunnel, each_mode, logging as start, pattern,
    wait_until,
};
use std::time::{Duration, Instant};
use tungstenite::Message;

each_mode! {
    fn messages_pass_both_ways(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(mode, &backend, "");
        let mut socket = Client::messages(&proxy, "/ws/");
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            echoes(&mut socket, &Message::text("x".repeat(size)));
            echoes(&mut socket, &Message::binary(pattern(size as u64, size)));
        }
        socket.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong(vec![1, 2, 3].into()));
    }

    fn sixteen_megabytes_each_way_at_once_arrive_as_they_were_sent(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        let (there, back) = (pattern(11, 16 << 20), pattern(13, 16 << 20));
        std::thread::scope(|scope| {
            let mut client_writer = Wire::new(client.tcp().try_clone().unwrap());
            let mut peer_writer = Wire::new(peer.tcp().try_clone().unwrap());
            let (there, back) = (&there, &back);
            scope.spawn(move || client_writer.send(there));
            scope.spawn(move || peer_writer.send(back));
            scope.spawn(move || peer.expect(there));
            client.expect(back);
        });
    }

    /// A read stops short at the urgent byte, whatever waits behind it.
    fn urgent_data_is_part_of_the_stream_and_holds_nothing_up(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        for _ in 0..50 {
            client.send("before");
            rustix::net::send(client.tcp(), b"!", rustix::net::SendFlags::OOB).unwrap();
            client.send("behind");
            peer.expect("before!behind");
        }
    }

    /// With Nagle's algorithm against delayed acknowledgements each round would take 40 ms.
    fn a_small_write_is_not_held_back(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        let begun = Instant::now();
        for _ in 0..100 {
            client.send("a");
            peer.expect("a");
            client.send("b");
            peer.expect("b");
            peer.send("c");
            client.expect("c");
            peer.send("d");
            client.expect("d");
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?} for 100 rounds");
    }

    fn the_client_may_end_first_and_still_read(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        let there = pattern(17, 300_000);
        client.send(&there);
        client.finish();
        peer.expect(&there);
        peer.expect_end();
        let back = pattern(19, 300_000);
        peer.send(&back);
        client.expect(&back);
        peer.send("and more");
        peer.finish();
        client.expect("and more");
        client.expect_end();
        assert_eq!(proxy.wait_for_lines("access.log", 1), ["101 client closed"]);
    }

    fn the_backend_may_say_close_end_first_and_still_read(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        let back = [frame(&pattern(23, 300_000), None), close_frame(None)].concat();
        peer.send(&back);
        peer.finish();
        client.expect(&back);
        client.expect_end();
        client.send("and more");
        peer.expect("and more");
        client.finish();
        peer.expect_end();
        assert_eq!(proxy.wait_for_lines("access.log", 1), ["101 backend closed"]);
    }

    fn what_was_sent_before_an_end_arrives_before_the_end(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        for size in [1, 1000, 16_384, 16_385, 2_000_000] {
            let (mut client, mut peer) = tunnel(&proxy, &backend);
            let bytes = pattern(29, size);
            std::thread::scope(|scope| {
                let bytes = &bytes;
                scope.spawn(move || {
                    peer.send(bytes);
                    peer.finish();
                    peer.rest();
                });
                assert!(client.rest_in_order() == *bytes, "of {size} bytes");
                client.finish();
            });
        }
    }

    fn a_reset_of_the_client_ends_the_backend(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (client, mut peer) = tunnel(&proxy, &backend);
        client.reset();
        peer.expect_cut();
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        assert!(line.starts_with("101 client"), "{line}");
    }

    fn a_reset_of_the_backend_ends_the_client(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, peer) = tunnel(&proxy, &backend);
        peer.reset();
        client.expect_cut();
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        assert!(line.starts_with("101 backend"), "{line}");
    }

    fn a_reset_while_much_is_under_way_ends_both(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (client, mut peer) = tunnel(&proxy, &backend);
        peer.send_until_stuck(64 << 20, Duration::from_millis(100));
        client.reset();
        peer.rest();
        assert_eq!(proxy.wait_for_lines("access.log", 1).len(), 1);
    }

    fn half_a_tunnel_does_not_last(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "ProxyWebsocketHalfCloseTimeout 1");
        for client_first in [true, false] {
            let (mut client, mut peer) = tunnel(&proxy, &backend);
            let (first, silent) = if client_first {
                (&mut *client, &mut peer)
            } else {
                (&mut peer, &mut *client)
            };
            let close = close_frame(client_first.then_some([5, 6, 7, 8]));
            let begun = Instant::now();
            first.send(&close);
            first.finish();
            silent.expect(&close);
            silent.expect_end();
            first.expect_cut();
            let took = begun.elapsed();
            let expected = Duration::from_millis(950)..Duration::from_secs(5);
            assert!(expected.contains(&took), "{took:?}");
        }
        for line in proxy.wait_for_lines("access.log", 2) {
            assert!(line.ends_with("nothing moved the other way for 1s"), "{line}");
        }
    }

    fn half_a_tunnel_lasts_while_something_moves(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "ProxyWebsocketHalfCloseTimeout 1");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        client.finish();
        peer.expect_end();
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(400));
            peer.send("x");
            client.expect("x");
        }
        peer.finish();
        client.expect_end();
    }

    fn stopping_ends_tunnels_and_completes_their_access_lines(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = start(mode, &backend, "");
        let mut tunnels: Vec<_> = (0..5).map(|_| tunnel(&proxy, &backend)).collect();
        for (client, peer) in &mut tunnels {
            client.send("x");
            peer.expect("x");
        }
        proxy.stop();
        for (client, peer) in &mut tunnels {
            client.expect_cut();
            peer.expect_cut();
        }
        let lines = proxy.wait_for_lines("access.log", 5);
        assert_eq!(lines, ["101 the server is stopping"; 5]);
    }

    fn stopping_waits_for_nobody(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = start(mode, &backend, "MaxRequestWorkers 3\nTimeout 60");
        let silent = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\n");
        let mut unanswered = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        // A tunnel whose client reads nothing of what is under way.
        let (stuck, mut pushing) = tunnel(&proxy, &backend);
        pushing.send_until_stuck(64 << 20, Duration::from_millis(100));
        let queued = Client::asking(&proxy, "/ws/");
        let begun = Instant::now();
        proxy.stop();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        peer.expect_cut();
        drop((silent, stuck, queued));
        // No answer, or one that says so; never a 101.
        let (bytes, _) = unanswered.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 50"), "{text}");
        let lines = proxy.wait_for_lines("access.log", 2);
        assert!(lines.contains(&"101 the server is stopping".to_owned()), "{lines:?}");
    }

    fn both_legs_are_kept_alive_by_the_kernel(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        client.send("x");
        peer.expect("x");
        wait_until("keepalive on both legs", Duration::from_secs(5), || {
            timer_of_the_proxy(&client) == KEEPALIVE && timer_of_the_proxy(&peer) == KEEPALIVE
        });
    }
}

/// In /proc/net/tcp the timer of an idle socket with SO_KEEPALIVE.
const KEEPALIVE: &str = "02";

/// The kind of timer that runs for the proxy's end of `wire`, as /proc/net/tcp has it.
fn timer_of_the_proxy(wire: &Wire) -> String {
    let [local, remote] = [wire.peer(), wire.local()].map(|end| format!(":{:04X}", end.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect());
    let line = lines.find(|words: &Vec<&str>| {
        words.len() > 5 && words[1].ends_with(&local) && words[2].ends_with(&remote)
    });
    let timer = line.expect("a connection")[5];
    timer.split(':').next().unwrap().to_owned()
}

#[test]
fn a_backend_may_do_without_keepalive() {
    let backend = Backend::listen();
    let proxy = start(
        Mode::Worker,
        &backend,
        &format!(
            "<Proxy {}/>\nProxySet keepalive=Off\n</Proxy>",
            backend.url()
        ),
    );
    let (client, peer) = tunnel(&proxy, &backend);
    wait_until("no timer", Duration::from_secs(5), || {
        timer_of_the_proxy(&peer) == "00" && timer_of_the_proxy(&client) == KEEPALIVE
    });
}

/// The frames of a tunnel are none of the proxy's business.
#[test]
fn a_tunnel_is_transparent_to_bytes_that_are_no_frames() {
    let backend = Backend::listen();
    let proxy = start(Mode::Worker, &backend, "");
    let (mut client, mut peer) = tunnel(&proxy, &backend);
    let bytes: Vec<u8> = (0..=255).collect();
    client.send(&bytes);
    peer.expect(&bytes);
    peer.send(&bytes);
    client.expect(&bytes);
    client.send(frame(b"half", Some([1; 4])).split_at(3).0);
    peer.expect([0x81, 0x84, 1]);
}
