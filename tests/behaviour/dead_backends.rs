//! What becomes of the tunnels of a backend that ends without a Close frame: soon nothing, and everybody is told.

use crate::support::client::{close_frame, frame};
use crate::support::{
    Backend, Client, Proxy, Wire, both_ends, each_mode, logging as start, pattern, wait_until,
};
use std::io::Read;
use std::time::{Duration, Instant};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);
const ENDED: &str = "101 backend ended without a Close frame";
const FAILED: &str = "101 backend failed without a Close frame: ";

/// When the only tunnel has its line, which begins with `reason`: it takes the second that a client has, and not the 30
/// that half a tunnel has.
#[track_caller]
fn expect_line(proxy: &Proxy, begun: Instant, reason: &str) {
    let line = proxy.wait_for_lines("access.log", 1).remove(0);
    let took = begun.elapsed();
    assert!(line.starts_with(reason), "{line}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

each_mode! {
    fn the_end_of_a_backend_reaches_a_silent_client_at_once_and_leaves_it_a_second(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        peer.send(frame(b"last words", None));
        let begun = Instant::now();
        peer.finish();
        client.expect(frame(b"last words", None));
        client.expect_end();
        peer.expect_end();
        let told = begun.elapsed();
        assert!(told < Duration::from_millis(900), "{told:?}");
        expect_line(&proxy, begun, ENDED);
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(950), "{took:?}");
        let line = proxy.wait_for_log("PW420");
        assert!(line.contains("[INFO]"), "{line}");
        let begin = format!(
            "] {} PW420 ProxyPass \"/ws/\": {}/: closed: backend ended without a Close frame; 0 bytes up, 12 down; ",
            client.local(),
            backend.url()
        );
        assert!(line.contains(&begin), "{line}");
    }

    fn a_client_that_closes_as_well_takes_no_second(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let begun = Instant::now();
        for number in 1..=10 {
            let (mut client, mut peer) = both_ends(&proxy, &backend);
            peer.finish();
            client.expect_end();
            drop(client);
            assert_eq!(proxy.wait_for_lines("access.log", number)[number - 1], ENDED);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} for ten");
    }

    /// What is only discarded keeps nobody alive.
    fn a_client_that_goes_on_sending_has_the_same_second(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let begun = Instant::now();
        peer.finish();
        client.expect_end();
        wait_until("the proxy to cut it", Duration::from_secs(5), || {
            !client.send_if_taken(frame(&[7; 100], MASK))
        });
        expect_line(&proxy, begun, ENDED);
    }

    fn a_reset_is_told_apart(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        peer.send(frame(b"last words", None));
        client.expect(frame(b"last words", None));
        let begun = Instant::now();
        peer.reset();
        client.expect_end();
        expect_line(&proxy, begun, FAILED);
        proxy.wait_for_log("closed: backend failed without a Close frame: Connection reset by peer");
    }

    /// The kernel resets for who is killed with something unread.
    fn a_backend_that_dies_with_messages_unread_is_dead_as_well(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, peer) = both_ends(&proxy, &backend);
        client.send(frame(&[7; 3000], MASK));
        wait_until("the message", Duration::from_secs(5), || {
            peer.tcp().peek(&mut [0; 4000]).unwrap() > 3000
        });
        let begun = Instant::now();
        drop(peer);
        client.expect_end();
        expect_line(&proxy, begun, FAILED);
    }

    fn a_backend_may_die_while_much_is_under_way_both_ways(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let piece = frame(&pattern(3, 60_000), None);
        std::thread::scope(|scope| {
            let mut writer = Wire::new(client.tcp().try_clone().unwrap());
            scope.spawn(move || while writer.send_if_taken(frame(&[7; 60_000], MASK)) {});
            for _ in 0..200 {
                peer.send(&piece);
                client.expect(&piece);
            }
            let begun = Instant::now();
            drop(peer);
            client.rest();
            let line = proxy.wait_for_lines("access.log", 1).remove(0);
            assert!(line.contains("without a Close frame"), "{line}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
    }

    fn a_slow_client_gets_all_that_a_dead_backend_has_sent(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let sent: Vec<_> = (0..200).flat_map(|seed| frame(&pattern(seed, 80_000), None)).collect();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&sent);
                drop(peer);
            });
            let mut part = vec![0; 1 << 20];
            // Longer than the second that is left to it at the end: before, and when the rest is in the kernel.
            for upto in [0, sent.len() - (2 << 20), sent.len()] {
                while received.len() < upto {
                    let count = client.read(&mut part).unwrap();
                    assert!(count > 0, "an end after {} bytes", received.len());
                    received.extend_from_slice(&part[..count]);
                }
                if upto < sent.len() {
                    std::thread::sleep(Duration::from_millis(1200));
                }
            }
        });
        assert!(received == sent, "other bytes have arrived");
        client.expect_end();
    }

    fn whose_close_has_passed_is_not_dead(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        // In frames that are too large to be seen at once, and in a frame that came in two pieces.
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let farewell = [frame(&pattern(5, 3_000_000), None), close_frame(None)].concat();
        let (first, second) = farewell.split_at(farewell.len() - 3);
        std::thread::scope(|scope| {
            let sender = &mut peer;
            scope.spawn(move || sender.send(first));
            client.expect(first);
        });
        peer.send(second);
        client.expect(second);
        let announced = (client, peer);
        // The client has said it: many backends then just end.
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send(close_frame(MASK));
        peer.expect(close_frame(MASK));
        expect_halves([announced, (client, peer)]);
        assert_eq!(proxy.wait_for_lines("access.log", 2), ["101 backend closed"; 2]);
        assert!(proxy.log_lines("PW420").is_empty());
    }

    fn of_what_is_not_made_of_frames_nobody_expects_a_close(mode: Mode) {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/ upgrade=ANY\nCustomLog access.log \"%>s %{{close-reason}}n\"",
            mode.directives(),
            backend.url()
        ));
        let agreed = "HTTP/1.1 101 Switching\r\nUpgrade: telnet/2\r\nConnection: Upgrade\r\n\r\n";
        let mut client = Client::sending(
            &proxy,
            "GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: telnet/2\r\nConnection: Upgrade\r\n\r\n",
        );
        let mut peer = backend.accept();
        peer.head();
        peer.send(agreed);
        client.answer_head().expect_status(101);
        let telnet = (client, peer);
        // Who has agreed upon frames, and then sends others.
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send("SSH-2.0-x\r\n");
        peer.expect("SSH-2.0-x\r\n");
        let lost_up = (client, peer);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        peer.send("SSH-2.0-x\r\n");
        client.expect("SSH-2.0-x\r\n");
        expect_halves([telnet, lost_up, (client, peer)]);
        assert_eq!(proxy.wait_for_lines("access.log", 3), ["101 backend closed"; 3]);
    }

    /// The backend is a process of its own: another proxy, in front of one that echoes.
    fn tunnels_of_a_killed_process_end_within_the_second(mode: Mode) {
        const TUNNELS: usize = 200;
        let echo = Backend::echo();
        let mut victim = Proxy::start(format!(
            "ProxyWebsocketAsync On\nProxyPass / {}/",
            echo.url()
        ));
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ ws://{}/\nCustomLog access.log \"%>s %{{close-reason}}n\"",
            mode.directives(),
            victim.address()
        ));
        let mut clients: Vec<_> = (0..TUNNELS).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        for client in &mut clients {
            client.echo("x");
        }
        // Some are killed in the midst of something.
        for client in clients.iter_mut().step_by(2) {
            client.send(frame(b"y", MASK));
        }
        let begun = Instant::now();
        victim.kill();
        for client in &mut clients {
            client.rest_in_order();
        }
        let told = begun.elapsed();
        let lines = proxy.wait_for_lines("access.log", TUNNELS);
        let took = begun.elapsed();
        println!("{TUNNELS} clients knew after {told:?}, and all was over after {took:?}, {mode:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        for line in &lines {
            assert!(line == ENDED || line.starts_with(FAILED), "{line}");
        }
        assert_eq!(proxy.log_lines("PW420").len(), TUNNELS);
    }
}

/// The backends end, the clients are silent for longer than those of dead ones might be, and then all go on.
#[track_caller]
fn expect_halves<const COUNT: usize>(mut tunnels: [(Client, Wire); COUNT]) {
    for (client, peer) in &mut tunnels {
        peer.finish();
        client.expect_end();
    }
    tunnels[0].1.expect_quiet(Duration::from_millis(1300));
    for (client, peer) in &mut tunnels {
        client.send("and more");
        peer.expect("and more");
        client.finish();
        peer.expect_end();
    }
}
