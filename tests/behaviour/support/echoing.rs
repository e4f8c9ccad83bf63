//! Tunnels that echo for as long as a test likes, every byte of them numbered, and clients that come all the time.

use super::client::{Client, frame};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Threads that tunnels are shared out to. More would only wait for each other.
const THREADS: usize = 2;

/// Open tunnels, each with a message under way all the time. A byte that is lost, doubled, moved or somebody else's, and a
/// tunnel that ends, fails the test at [`Echoing::stop`] at the latest.
#[derive(Debug)]
pub struct Echoing {
    is_over: Arc<AtomicBool>,
    rounds: [Arc<AtomicUsize>; THREADS],
    threads: Vec<JoinHandle<Vec<Tunnel>>>,
}

/// One of them.
#[derive(Debug)]
pub struct Tunnel {
    client: Client,
    number: usize,
    /// Messages so far.
    messages: u64,
}

impl Tunnel {
    fn new(number: usize, client: Client) -> Self {
        let messages = 0;
        Self {
            client,
            number,
            messages,
        }
    }

    /// No two messages of a test are the same, and their lengths differ.
    fn payload(&self) -> Vec<u8> {
        let mut text = format!("tunnel {} message {} ", self.number, self.messages);
        let length = (self.number + 13 * usize::try_from(self.messages).unwrap()) % 199;
        text.extend(('a'..='z').cycle().take(length));
        text.into_bytes()
    }

    fn send(&mut self) {
        self.messages += 1;
        let payload = self.payload();
        self.client.send(frame(&payload, Some([1, 2, 3, 4])));
    }

    fn receive(&mut self) {
        let payload = self.payload();
        self.client.expect(frame(&payload, None));
    }

    /// Ends it in order, and holds it to that nothing more has come.
    fn end(mut self) {
        self.client.finish();
        self.client.expect_end();
    }
}

impl Echoing {
    /// Has these echo from now on.
    pub fn start(clients: impl IntoIterator<Item = Client>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut shares: [Vec<Tunnel>; THREADS] = Default::default();
        for (number, client) in clients.into_iter().enumerate() {
            shares[number % THREADS].push(Tunnel::new(number, client));
        }
        let rounds: [Arc<AtomicUsize>; THREADS] = Default::default();
        let threads = shares.into_iter().zip(&rounds);
        let threads = threads.map(|(mut share, rounds)| {
            let (is_over, rounds) = (Arc::clone(&is_over), Arc::clone(rounds));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    share.iter_mut().for_each(Tunnel::send);
                    share.iter_mut().for_each(Tunnel::receive);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                share
            })
        });
        Self {
            threads: threads.collect(),
            is_over,
            rounds,
        }
    }

    /// How often each tunnel has echoed at least.
    pub fn rounds(&self) -> usize {
        let rounds = self.rounds.iter();
        rounds
            .map(|rounds| rounds.load(Ordering::Relaxed))
            .min()
            .unwrap()
    }

    /// Whether none has failed so far.
    pub fn is_well(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops echoing; the tunnels stay open.
    #[track_caller]
    pub fn stop(self) -> Vec<Tunnel> {
        self.is_over.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let shares = threads.flat_map(|thread| thread.join().expect("every tunnel to echo"));
        shares.collect()
    }

    /// Stops, and ends all tunnels in order.
    #[track_caller]
    pub fn end(self) {
        self.stop().into_iter().for_each(Tunnel::end);
    }
}

/// Clients that come one after the other, each served before it goes, and none refused: else [`Coming::stop`] fails.
#[derive(Debug)]
pub struct Coming {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Coming {
    /// Has `count` come at a time from now on, each to be served by `serve`, which fails by panicking.
    pub fn start(count: usize, serve: impl Fn() + Send + Clone + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            let serve = serve.clone();
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    serve();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self {
            threads: threads.collect(),
            is_over,
            served,
        }
    }

    /// How many have been served so far.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// No more come; how many have been served.
    #[track_caller]
    pub fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("everybody to be served");
        }
        self.served.load(Ordering::Relaxed)
    }
}
