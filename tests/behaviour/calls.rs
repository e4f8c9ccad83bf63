//! How many system calls the work takes, counted by strace: the steadiest figures of speed that there are.
//!
//! Where strace is not installed or may not attach, these tests are skipped by name; with `CI=true` they fail.

use crate::support::client::frame;
use crate::support::http::{Origin, Reply};
use crate::support::strace::Strace;
use crate::support::{Backend, Client, Mode, Proxy, both_ends, each_mode, pattern};
use std::io::Read;
use std::ops::RangeInclusive;

const TUNNELS: usize = 100;
const MEBIBYTE: usize = 1 << 20;

/// A proxy with a hundred tunnels that have echoed once, and that waits for more.
#[track_caller]
fn hundred_tunnels(mode: Mode) -> (Proxy, Vec<Client>) {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "{}\nProxyPass /ws/ {}/",
        mode.directives(),
        backend.url()
    ));
    let open = |_| Client::tunnel(&proxy, "/ws/");
    let mut clients: Vec<_> = (0..TUNNELS).map(open).collect();
    exchange(&mut clients);
    // Who has its echo may be faster than the worker that sent it, which would be seen on its way to its next wait.
    proxy.settle();
    (proxy, clients)
}

/// Sends a message of 32 bytes through each tunnel, and then reads all that come back.
#[track_caller]
fn exchange(clients: &mut [Client]) {
    let text = [b'm'; 32];
    for client in &mut *clients {
        client.send(frame(&text, Some([1, 2, 3, 4])));
    }
    for client in clients {
        client.expect(frame(&text, None));
    }
}

/// With a hundred tunnels: two reads and two writes, and a wait that tells of many messages at a time.
#[test]
fn a_message_takes_a_reactor_four_calls_and_a_share_of_a_wait() {
    let (proxy, mut clients) = hundred_tunnels(Mode::Reactor);
    let Some(strace) = Strace::attach(&proxy, &[]) else {
        return;
    };
    let rounds = 50;
    for _ in 0..rounds {
        exchange(&mut clients);
    }
    let calls = strace.finish();
    let each = calls.count() as f64 / (rounds * TUNNELS) as f64;
    println!("{each:.2} calls of a reactor for a message there and back: {calls}");
    assert!((4.0..=4.2).contains(&each), "{each:.2}: {calls}");
}

/// With a hundred tunnels, in each direction: it lets others run, waits, reads and writes.
#[test]
fn a_message_takes_a_worker_eight_calls() {
    let (proxy, mut clients) = hundred_tunnels(Mode::Worker);
    let Some(strace) = Strace::attach(&proxy, &[]) else {
        return;
    };
    let rounds = 50;
    for _ in 0..rounds {
        // strace stops each worker in the midst of its turn, with the buffer that it has borrowed. More of them at a
        // time than there could be otherwise would find none, and have one made.
        for two in clients.chunks_mut(2) {
            exchange(two);
        }
    }
    let calls = strace.finish();
    let each = calls.count() as f64 / (rounds * TUNNELS) as f64;
    println!("{each:.2} calls of a worker for a message there and back: {calls}");
    assert!((4.0..=8.2).contains(&each), "{each:.2}: {calls}");
}

/// A wait, a read and a write in each direction, and a look whether the connection to the backend is still there.
#[test]
fn a_page_takes_seven_calls() {
    let page = pattern(1, 1024);
    let sent = page.clone();
    let origin = Origin::new(move |_| Reply::ok(&sent));
    let proxy = origin.behind("MaxKeepAliveRequests 0");
    let mut client = Client::connect(proxy.address());
    let mut ask = || {
        client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.answer_to("GET").expect_status(200).body == page);
    };
    ask();
    let Some(strace) = Strace::attach(&proxy, &[]) else {
        return;
    };
    let times = 200;
    for _ in 0..times {
        ask();
    }
    let calls = strace.finish();
    let each = calls.count() as f64 / f64::from(times);
    println!("{each:.2} calls for a page: {calls}");
    assert!((4.0..=7.2).contains(&each), "{each:.2}: {calls}");
}

/// One tunnel is busy beside 99 that are idle. Says how many calls each thread has made, the busiest last, and how many
/// there are room for: a wait, a read and a write in each direction, and a few as strace comes.
#[track_caller]
fn calls_beside_idle_tunnels(mode: Mode) -> Option<(Vec<usize>, RangeInclusive<usize>)> {
    let (proxy, mut clients) = hundred_tunnels(mode);
    let strace = Strace::attach(&proxy, &[])?;
    let messages = 50;
    for _ in 0..messages {
        exchange(&mut clients[..1]);
    }
    let calls = strace.finish();
    println!("{messages} messages through one of a hundred tunnels, {mode:?}: {calls}");
    let mut threads = calls.by_thread();
    threads.sort_unstable();
    Some((threads, 4 * messages..=6 * messages + 3))
}

#[test]
fn idle_tunnels_in_the_reactor_call_nothing() {
    let Some((mut threads, expected)) = calls_beside_idle_tunnels(Mode::Reactor) else {
        return;
    };
    let reactor = threads.pop().unwrap();
    assert!(expected.contains(&reactor), "{reactor} calls");
}

#[test]
fn idle_tunnels_in_their_workers_call_nothing() {
    let Some((mut threads, expected)) = calls_beside_idle_tunnels(Mode::Worker) else {
        return;
    };
    let busy = threads.pop().unwrap();
    assert!(expected.contains(&busy), "{busy} calls");
    // What each was in as strace came, which may be begun anew for that.
    assert!(threads.iter().all(|&calls| calls <= 3), "{threads:?}");
}

each_mode! {
    /// Where splice(2) is not to be had, one attempt tells, and all is copied.
    fn a_stream_that_cannot_be_spliced_takes_twenty_calls_for_a_mebibyte(mode: Mode) {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let Some(strace) = Strace::attach(&proxy, &["-e", "inject=splice:error=EINVAL"]) else {
            return;
        };
        let frames: Vec<_> = (0..16)
            .flat_map(|seed| frame(&pattern(seed, 64 * 1024), None))
            .collect();
        let times = 256;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..times {
                    peer.send(&frames);
                }
            });
            let mut received = vec![0; frames.len()];
            for _ in 0..times {
                client.read_exact(&mut received).unwrap();
                assert!(received == frames, "other bytes have arrived");
            }
        });
        let calls = strace.finish();
        let each = calls.count() as f64 * MEBIBYTE as f64 / (times * frames.len()) as f64;
        println!("{each:.2} calls for a MiB that is copied, {mode:?}: {calls}");
        assert_eq!(calls.of("splice"), 1, "{calls}");
        assert!((16.0..=20.0).contains(&each), "{each:.2}: {calls}");
    }
}
