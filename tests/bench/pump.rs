//! The tunnel engine, alone in its loop and between real sockets: one iteration is the whole life of one tunnel.
//!
//! The loop runs in the measured thread, so that its allocations are counted; another thread is both ends.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark whose peer or socket fails has nothing to measure"
)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use proxy_wstunnel::net::alarm::Alarm;
use proxy_wstunnel::net::stream::Stream;
use proxy_wstunnel::transaction::Transaction;
use proxy_wstunnel::tunnel::event_loop::{EventLoop, Size};
use proxy_wstunnel::tunnel::{Leftovers, Limits, Live, Observer, ScratchPool, Tunnel};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// So many that opening and closing the tunnel does not count.
const MESSAGES: usize = 500;
const FRAME: usize = 64 * 1024;
const FRAMES: usize = 512;

fn main() {
    divan::main();
}

/// There and back again, the next message when the last has returned.
#[divan::bench(args = [32, 1024, 16 * 1024], sample_count = 20, sample_size = 1)]
fn echo(bencher: Bencher<'_, '_>, size: usize) {
    let bencher = bencher.counter(ItemsCount::new(MESSAGES));
    measure(bencher, move |Ends { client, backend }| {
        let mut message = vec![b'm'; size];
        for _ in 0..MESSAGES {
            for (mut from, mut to) in [(&client, &backend), (&backend, &client)] {
                from.write_all(&message).unwrap();
                to.read_exact(&mut message).unwrap();
            }
        }
    });
}

/// One way, as fast as it goes.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn stream(bencher: Bencher<'_, '_>) {
    let bencher = bencher.counter(BytesCount::new(FRAMES * FRAME));
    measure(bencher, |Ends { client, backend }| {
        let source = thread::spawn(move || {
            let frame = vec![b'f'; FRAME];
            for _ in 0..FRAMES {
                (&backend).write_all(&frame).unwrap();
            }
            backend
        });
        let mut sunk = vec![0; 4 * FRAME];
        let mut left = FRAMES * FRAME;
        while left > 0 {
            let received = (&client).read(&mut sunk).unwrap();
            assert_ne!(received, 0, "the stream was cut");
            left -= received;
        }
        // Both connections close together, in order.
        source.join().unwrap();
    });
}

/// Runs a tunnel to its end, with `play` at both ends of it.
fn measure(bencher: Bencher<'_, '_>, play: impl Fn(Ends) + Copy + Send + Sync + 'static) {
    let mut alarm = Alarm::new().unwrap();
    let mut event_loop = EventLoop::new(Arc::<ScratchPool>::default(), &alarm, Size::ONE).unwrap();
    bencher
        .with_inputs(|| Staged::new(play))
        .bench_local_values(|staged| {
            staged.go.send(()).unwrap();
            event_loop.run_one(staged.tunnel, &mut alarm, None).unwrap();
            staged.players.join().unwrap();
        });
}

/// What the client and the backend hold in their hands.
struct Ends {
    client: TcpStream,
    backend: TcpStream,
}

/// A tunnel, and those who wait to use it.
struct Staged {
    tunnel: Box<Tunnel>,
    go: SyncSender<()>,
    players: JoinHandle<()>,
}

impl Staged {
    fn new(play: impl FnOnce(Ends) + Send + 'static) -> Self {
        let (client, to_client) = connection();
        let (backend, to_backend) = connection();
        let transaction = Transaction::new(
            1,
            to_client.peer_addr().unwrap(),
            to_client.local_addr().unwrap(),
            SystemTime::now(),
        );
        let live = Live::new(transaction, Instant::now(), Nobody);
        // As the server configures it by default, with a limit, so that the clock is part of the measurement.
        let limits = Limits {
            idle: Some(Duration::from_secs(60)),
            half_close: Duration::from_secs(30),
            lifetime: None,
        };
        let [to_client, to_backend] = [to_client, to_backend].map(|socket| {
            socket.set_nonblocking(true).unwrap();
            Stream::from(socket)
        });
        let (go, told) = sync_channel(1);
        let players = thread::spawn(move || {
            told.recv().unwrap();
            play(Ends { client, backend });
        });
        Self {
            tunnel: Box::new(Tunnel::new(
                to_client,
                to_backend,
                Leftovers::default(),
                limits,
                live,
            )),
            go,
            players,
        }
    }
}

/// Both ends of a connection over loopback.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
    }
    (near, far)
}

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn ended(&self, _: &Live, _: &Transaction, _: Duration) {}
}
