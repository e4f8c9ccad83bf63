//! Bulk data. The path says which way it flows: see `backend`.

use crate::client::{CHUNK, Conn, Faults, OPEN_ALL, Pool, TICK, Target};
use crate::json::Object;
use crate::sys::{self, epoll_event};
use crate::window::Window;
use crate::ws::{self, Parser, Piece, Sender};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Reads or writes of one tunnel before the others have their turn.
const BURST: usize = 4;

/// As much as goes through `conns` tunnels.
pub fn run(target: &Target, conns: usize, size: usize) -> io::Result<()> {
    let mut streams = Streams::open(target, conns, size)?;
    let mut window = Window::new(target);
    let mut before = 0;
    while !window.is_over() && streams.pool.open() > 0 {
        streams.step()?;
        if window.step(streams.moved() - before) {
            before = streams.moved();
        }
    }
    let moved = streams.moved() - before;
    let rate = moved as f64 / window.seconds() / f64::from(1 << 20);
    let result = Object::default()
        .with("units", moved)
        .with("rate", rate)
        .with("cpu", window.cpu())
        .with("faults", streams.pool.faults.json());
    println!("{result}");
    Ok(())
}

/// One tunnel that streams in a thread of its own, beside what is measured.
pub struct Beside {
    moved: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Faults>>,
}

impl Beside {
    pub fn start(target: &Target, path: &str) -> io::Result<Self> {
        let target = Target {
            addr: target.addr,
            path: path.to_owned(),
            tls: target.tls.clone(),
            watches: Vec::new(),
            warmup: Duration::ZERO,
            window: Duration::ZERO,
        };
        let mut streams = Streams::open(&target, 1, CHUNK)?;
        let moved = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (moved, stop) = (Arc::clone(&moved), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) && streams.pool.open() > 0 {
                    streams.step()?;
                    moved.store(streams.moved(), Ordering::Relaxed);
                }
                Ok(streams.pool.faults)
            }
        });
        Ok(Self {
            moved,
            stop,
            thread,
        })
    }

    /// Payload bytes so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends it. What went wrong goes to the faults of the others.
    pub fn stop(self, faults: &mut Faults) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(found)) if found.total() == 0 => {}
            Ok(Ok(_)) => faults.add("the stream was cut"),
            Ok(Err(error)) => faults.add(error),
            Err(_) => faults.add("the stream's thread panicked"),
        }
    }
}

/// Tunnels that stream.
struct Streams {
    pool: Pool,
    bulks: Vec<Bulk>,
    upward: Upward,
    buffer: Vec<u8>,
    events: Vec<epoll_event>,
    /// Who could go on at once, each once.
    again: Vec<usize>,
}

/// What is sent to the backend.
enum Upward {
    Nothing,
    /// These frames, over and over.
    Frames(Vec<u8>),
    /// As before, and what counts is what the backend acknowledges.
    Acknowledged(Vec<u8>),
}

impl Streams {
    fn open(target: &Target, conns: usize, size: usize) -> io::Result<Self> {
        let path = target.path.split('?').next().unwrap_or_default();
        let train = || ws::frame_train(size, Sender::Client);
        let upward = match path.rsplit('/').next() {
            Some("sink") => Upward::Acknowledged(train()),
            Some("both") => Upward::Frames(train()),
            _ => Upward::Nothing,
        };
        let mut pool = Pool::new(conns)?;
        pool.open_all(target, &mut [0; 4096], OPEN_ALL)?;
        let mut bulks: Vec<Bulk> = (0..conns).map(|_| Bulk::default()).collect();
        for (conn, bulk) in pool.conns.iter_mut().zip(&mut bulks) {
            if let Some(conn) = conn {
                bulk.take_in(&std::mem::take(&mut conn.early), &upward)?;
            }
        }
        Ok(Self {
            pool,
            bulks,
            upward,
            buffer: vec![0; CHUNK],
            events: sys::no_events(),
            again: (0..conns).collect(),
        })
    }

    /// One wait, and a turn for each tunnel that can move then.
    fn step(&mut self) -> io::Result<()> {
        let timeout = if self.again.is_empty() {
            TICK
        } else {
            Duration::ZERO
        };
        let count = self.pool.wait(&mut self.events, timeout)?;
        let mut due = std::mem::take(&mut self.again);
        for &index in &due {
            self.bulks[index].is_queued = false;
        }
        due.extend(self.events[..count].iter().map(|event| event.u64 as usize));
        for index in due {
            let Some(conn) = &mut self.pool.conns[index] else {
                continue;
            };
            let bulk = &mut self.bulks[index];
            match bulk.turn(conn, &mut self.buffer, &self.upward) {
                Ok(true) if !bulk.is_queued => {
                    bulk.is_queued = true;
                    self.again.push(index);
                }
                Ok(_) => {}
                Err(error) => self.pool.fail(index, error),
            }
        }
        Ok(())
    }

    /// Payload bytes that have come, and those that have gone (to a sink: that it has acknowledged).
    fn moved(&self) -> u64 {
        self.bulks.iter().map(|bulk| bulk.moved).sum()
    }
}

/// One tunnel's part.
#[derive(Default)]
struct Bulk {
    parser: Parser,
    moved: u64,
    /// An acknowledgement that is coming in, and what the last one said.
    acknowledgement: Vec<u8>,
    acknowledged: u64,
    /// How far the train of frames has been sent.
    sent: usize,
    is_queued: bool,
}

impl Bulk {
    /// Reads and writes; true when it could go on at once.
    fn turn(&mut self, conn: &mut Conn, buffer: &mut [u8], upward: &Upward) -> io::Result<bool> {
        conn.send_out()?;
        let mut more = true;
        for _ in 0..BURST {
            let received = match conn.read(buffer)? {
                None => {
                    more = false;
                    break;
                }
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(received) => received,
            };
            self.take_in(&buffer[..received], upward)?;
            if received < buffer.len() {
                more = false;
                break;
            }
        }
        let (train, counts) = match upward {
            Upward::Nothing => return Ok(more),
            Upward::Frames(train) => (train, true),
            Upward::Acknowledged(train) => (train, false),
        };
        for _ in 0..BURST {
            match conn.transport.write(&train[self.sent..]) {
                Ok(sent) => {
                    self.sent = (self.sent + sent) % train.len();
                    self.moved += if counts { sent as u64 } else { 0 };
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(more),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take_in(&mut self, mut data: &[u8], upward: &Upward) -> io::Result<()> {
        while let Some(piece) = self.parser.next(&mut data) {
            match (piece, upward) {
                (Piece::Header { first, .. }, _) if first != ws::BINARY => {
                    return Err(io::Error::other("unexpected frame"));
                }
                (Piece::Header { .. }, _) => {}
                (Piece::Payload { data, last }, Upward::Acknowledged(_)) => {
                    self.acknowledgement.extend_from_slice(data);
                    if last {
                        let bytes = self.acknowledgement.as_slice().try_into();
                        let total = u64::from_be_bytes(bytes.map_err(io::Error::other)?);
                        self.moved += total - self.acknowledged;
                        self.acknowledged = total;
                        self.acknowledgement.clear();
                    }
                }
                (Piece::Payload { data, .. }, _) => self.moved += data.len() as u64,
            }
        }
        Ok(())
    }
}
