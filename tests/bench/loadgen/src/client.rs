//! What all loads share: the target, a connection up to its upgrade, and the set of connections behind one epoll.

use crate::cpu::Watch;
use crate::json::Object;
use crate::sys::{self, Epoll, epoll_event};
use crate::transport::Transport;
use crate::ws;
use openssl::ssl::SslContext;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Bytes of one read.
pub const CHUNK: usize = 256 * 1024;
/// How long the loads wait at the most before they look at their clock.
pub const TICK: Duration = Duration::from_millis(100);
/// How long opening all tunnels of a load may take.
pub const OPEN_ALL: Duration = Duration::from_secs(60);
/// An attempt to open one that takes longer than this has failed.
const OPEN_ONE: Duration = Duration::from_secs(20);
/// Connections that are opened at the same time.
const OPENING: usize = 256;
/// Local addresses to connect from, beginning with 127.0.0.2: each has ephemeral ports of its own.
const SOURCES: u64 = 8;

/// Where the load goes, and what is measured beside it.
pub struct Target {
    pub addr: SocketAddrV4,
    pub path: String,
    /// With what TLS is spoken, if it is.
    pub tls: Option<SslContext>,
    pub watches: Vec<Watch>,
    pub warmup: Duration,
    pub window: Duration,
}

/// One connection.
pub struct Conn {
    pub transport: Transport,
    /// What is to be sent: see [`Conn::send_out`].
    pub out: Vec<u8>,
    sent: usize,
    pub started: Instant,
    accept: String,
    head: Vec<u8>,
    /// It has been upgraded.
    pub is_open: bool,
    /// What came behind the head that upgraded it.
    pub early: Vec<u8>,
}

impl Conn {
    /// Starts connection number `number`.
    fn start(target: &Target, number: u64) -> io::Result<Self> {
        let started = Instant::now();
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
        let key = ws::key(number);
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
             Origin: http://localhost\r\nUser-Agent: loadgen\r\n\r\n",
            target.path, target.addr
        );
        Ok(Self {
            transport: Transport::client(sys::connect(source, target.addr)?, target.tls.as_ref())?,
            out: request.into_bytes(),
            sent: 0,
            started,
            accept: ws::accept_for(&key),
            head: Vec::new(),
            is_open: false,
            early: Vec::new(),
        })
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn send_out(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.transport.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                // Not yet connected, or full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.out.clear();
        Ok(())
    }

    /// Reads once; `None` when there is nothing to read now, 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.transport.read(buffer) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Drives connecting and upgrading; true once the tunnel is open.
    pub fn upgrade(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.send_out()?;
        loop {
            let received = match self.read(buffer)? {
                None => return Ok(false),
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(received) => received,
            };
            self.head.extend_from_slice(&buffer[..received]);
            if let Some(length) = ws::head_length(&self.head) {
                self.early = self.head.split_off(length);
                let head = std::mem::take(&mut self.head);
                check_answer(&String::from_utf8_lossy(&head), &self.accept)?;
                self.is_open = true;
                return Ok(true);
            }
        }
    }
}

fn check_answer(head: &str, accept: &str) -> io::Result<()> {
    let status = head.split(' ').nth(1).unwrap_or("none");
    if status != "101" {
        return Err(io::Error::other(format!("status {status}")));
    }
    if ws::field(head, "Sec-WebSocket-Accept") != Some(accept) {
        return Err(io::Error::other("wrong Sec-WebSocket-Accept"));
    }
    Ok(())
}

/// Connections behind one epoll; the place of each is its token.
pub struct Pool {
    pub epoll: Epoll,
    pub conns: Vec<Option<Conn>>,
    pub faults: Faults,
    started: u64,
}

impl Pool {
    pub fn new(size: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            conns: (0..size).map(|_| None).collect(),
            faults: Faults::default(),
            started: 0,
        })
    }

    /// Starts a connection in this place.
    pub fn start(&mut self, target: &Target, index: usize) -> io::Result<()> {
        self.started += 1;
        let conn = Conn::start(target, self.started)?;
        self.epoll
            .add(conn.transport.fd(), index as u64, sys::EDGE)?;
        self.conns[index] = Some(conn);
        Ok(())
    }

    pub fn fail(&mut self, index: usize, what: impl ToString) {
        self.conns[index] = None;
        self.faults.add(what);
    }

    /// Tunnels that are open.
    pub fn open(&self) -> usize {
        let conns = self.conns.iter().flatten();
        conns.filter(|conn| conn.is_open).count()
    }

    pub fn wait(&self, events: &mut [epoll_event], timeout: Duration) -> io::Result<usize> {
        self.epoll.wait(events, Some(timeout))
    }

    /// Opens all places, a bounded number at a time; those that fail stay empty.
    pub fn open_all(
        &mut self,
        target: &Target,
        buffer: &mut [u8],
        limit: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let mut events = sys::no_events();
        let (mut next, mut opening) = (0, Vec::new());
        while (next < self.conns.len() || !opening.is_empty()) && Instant::now() < deadline {
            while next < self.conns.len() && opening.len() < OPENING {
                match self.start(target, next) {
                    Ok(()) => opening.push(next),
                    Err(error) => self.faults.add(error),
                }
                next += 1;
            }
            let count = self.wait(&mut events, TICK)?;
            for event in &events[..count] {
                self.opens(event.u64 as usize, event.events, buffer);
            }
            opening.retain(|&index| match &self.conns[index] {
                Some(conn) if !conn.is_open && conn.started.elapsed() > OPEN_ONE => {
                    self.conns[index] = None;
                    self.faults.add("opening took too long");
                    false
                }
                Some(conn) => !conn.is_open,
                None => false,
            });
        }
        for index in opening {
            self.fail(index, "not open in time");
        }
        for _ in next..self.conns.len() {
            self.faults.add("not started in time");
        }
        Ok(())
    }

    /// An event of a connection while all are being opened.
    fn opens(&mut self, index: usize, flags: u32, buffer: &mut [u8]) {
        let Some(conn) = &mut self.conns[index] else {
            return;
        };
        if conn.is_open {
            // Only a hang-up is news here: data is read by the load.
            if flags & sys::HANGUP != 0 {
                self.fail(index, "closed while opening others");
            }
        } else if let Err(error) = conn.upgrade(buffer) {
            self.fail(index, error);
        }
    }
}

/// What went wrong, and how often.
#[derive(Default)]
pub struct Faults(Vec<(String, u64)>);

impl Faults {
    pub fn add(&mut self, what: impl ToString) {
        let what = what.to_string();
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => self.0.push((what, 1)),
        }
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    pub fn json(&self) -> Object {
        self.0
            .iter()
            .fold(Object::default(), |object, (what, count)| {
                object.with(what, count)
            })
    }
}
