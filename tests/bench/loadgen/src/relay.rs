//! A bare TCP relay: no HTTP, no configuration, nothing but moving bytes.
//!
//! It marks what a proxy can reach with ordinary reads and writes: the practical limit, where the direct path is the
//! absolute one.

use crate::sys::{self, Epoll};
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const LISTENER: u64 = u64::MAX;
const CHUNK: usize = 128 * 1024;
/// Reads of one direction before the others have their turn.
const BURST: usize = 4;

/// Runs `threads` relays, each with a listener of its own on the same port.
pub fn run(listen: SocketAddrV4, to: SocketAddrV4, threads: usize) -> Result<(), String> {
    let listeners: Vec<TcpListener> = (0..threads)
        .map(|_| sys::listen(listen, true))
        .collect::<io::Result<_>>()
        .map_err(|error| format!("{listen}: {error}"))?;
    let running: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || Relay::new(to)?.serve(&listener)))
        .collect();
    // None ends before it fails, and what fails one fails all.
    match running.into_iter().map(JoinHandle::join).next() {
        Some(Ok(Err(error))) => Err(error.to_string()),
        _ => Err("no thread is left".to_owned()),
    }
}

struct Relay {
    epoll: Epoll,
    to: SocketAddrV4,
    pairs: Vec<Option<Box<Pair>>>,
    free: Vec<usize>,
    /// Tokens of sides that have more to read.
    again: Vec<u64>,
}

impl Relay {
    fn new(to: SocketAddrV4) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            to,
            pairs: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
        })
    }

    fn serve(&mut self, listener: &TcpListener) -> io::Result<Infallible> {
        self.epoll
            .add(listener.as_raw_fd(), LISTENER, sys::READABLE)?;
        let mut events = sys::no_events();
        let mut buffer = vec![0; CHUNK];
        loop {
            let timeout = (!self.again.is_empty()).then_some(Duration::ZERO);
            let count = self.epoll.wait(&mut events, timeout)?;
            let again = std::mem::take(&mut self.again);
            for event in &events[..count] {
                let (token, flags) = (event.u64, event.events);
                if token == LISTENER {
                    self.accept(listener);
                } else {
                    self.turn(token, flags, &mut buffer);
                }
            }
            for token in again {
                self.turn(token, sys::READABLE, &mut buffer);
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener) {
        while let Ok(client) = sys::accept(listener) {
            let Ok(server) = sys::connect(Ipv4Addr::LOCALHOST, self.to) else {
                continue;
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let sockets = [client, server];
            let mut sides = (2 * index as u64..).zip(&sockets);
            let added = sides.try_for_each(|(token, socket)| {
                self.epoll.add(socket.as_raw_fd(), token, sys::EDGE)
            });
            match added {
                Ok(()) => {
                    self.pairs[index] = Some(Box::new(Pair {
                        sockets,
                        flows: Default::default(),
                        hangup: false,
                    }));
                }
                Err(_) => self.free.push(index),
            }
        }
    }

    fn turn(&mut self, token: u64, flags: u32, buffer: &mut [u8]) {
        let (index, side) = ((token / 2) as usize, (token % 2) as usize);
        let Some(pair) = &mut self.pairs[index] else {
            return;
        };
        let is_over = match pair.turn(side, flags, buffer) {
            Ok(more) => {
                let sides = (0..2).filter(|&side| more[side]);
                self.again
                    .extend(sides.map(|side| (index * 2 + side) as u64));
                pair.flows.iter().all(Flow::is_over)
            }
            Err(_) => true,
        };
        if is_over {
            self.pairs[index] = None;
            self.free.push(index);
        }
    }
}

/// `flows[i]` runs from `sockets[i]` to the other socket.
struct Pair {
    sockets: [TcpStream; 2],
    flows: [Flow; 2],
    hangup: bool,
}

/// What has been read from one side and not yet written to the other.
#[derive(Default)]
struct Flow {
    pending: Vec<u8>,
    sent: usize,
    ended: bool,
}

impl Flow {
    fn is_over(&self) -> bool {
        self.ended && self.pending.is_empty()
    }
}

impl Pair {
    /// Acts on an event of one side; tells which sides have more to read.
    fn turn(&mut self, side: usize, flags: u32, buffer: &mut [u8]) -> io::Result<[bool; 2]> {
        self.hangup |= flags & sys::HANGUP != 0;
        let mut more = [false; 2];
        if flags & sys::WRITABLE != 0 && !self.flows[1 - side].pending.is_empty() {
            more[1 - side] = self.pump(1 - side, buffer)?;
        }
        if flags & (sys::READABLE | sys::HANGUP) != 0 {
            more[side] = self.pump(side, buffer)?;
        }
        Ok(more)
    }

    /// Moves bytes from `side` to the other; true when there may be more.
    fn pump(&mut self, side: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let flow = &mut self.flows[side];
        let (mut from, mut to) = (&self.sockets[side], &self.sockets[1 - side]);
        while flow.sent < flow.pending.len() {
            match to.write(&flow.pending[flow.sent..]) {
                Ok(sent) => flow.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        flow.pending = Vec::new();
        flow.sent = 0;
        for _ in 0..BURST {
            if flow.ended {
                return Ok(false);
            }
            let received = match from.read(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            if received == 0 {
                flow.ended = true;
                to.shutdown(Shutdown::Write)?;
                return Ok(false);
            }
            let sent = match to.write(&buffer[..received]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent < received {
                flow.pending = buffer[sent..received].to_vec();
                return Ok(false);
            }
            if received < buffer.len() && !self.hangup {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
