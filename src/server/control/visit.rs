//! One connection to the control thread: a request, its answer, and the end.

use super::service::Service;
use crate::http::answer::Refusal;
use crate::http::head::{Limits, RequestHead};
use crate::http::headers::Headers;
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::net::local::Credentials;
use crate::net::stream::{LINGER, Socket};
use crate::net::wait::is_momentary;
use rustix::event::PollFlags;
use rustix::process::geteuid;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a request may take to come.
const ASKING: Duration = Duration::from_secs(5);
/// How long an answer may take to go. Those that hold much memory make room before that.
const ANSWERING: Duration = Duration::from_secs(60);
/// The longest head: members are named in it by their URLs.
const HEAD: usize = 16 * 1024;
/// Bounds on its parts.
const LIMITS: Limits = Limits {
    line: 8190,
    field: 4096,
    fields: 64,
};
/// How long a large answer has its place for itself, though others wait for one.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read or written before others have their turn.
const STEP: usize = 256 * 1024;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    /// Somebody on this machine.
    Local(Credentials),
    /// Somebody on the network.
    Remote(SocketAddr),
}

impl Caller {
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Whether it may change something: root, and whoever could stop this process anyway. The permissions of the socket
    /// alone do not say so, as they may be there for those who only look.
    pub(super) fn may_change(self) -> bool {
        match self {
            Self::Local(peer) => peer.user == 0 || peer.user == geteuid().as_raw(),
            Self::Remote(_) => false,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(Credentials { user, process: 0 }) => write!(f, "user {user}"),
            Self::Local(Credentials { user, process }) => {
                write!(f, "user {user}, process {process}")
            }
            Self::Remote(address) => address.fmt(f),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Visit {
    socket: Socket,
    pub(super) caller: Caller,
    /// Whether something waits there.
    pub(super) is_ready: bool,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What has come of the head.
    Asking(Vec<u8>),
    /// It asks for what may be large, and waits for a place among those who get that.
    Waiting(Box<RequestHead>),
    Answering {
        head: Vec<u8>,
        body: Vec<u8>,
        /// Of both.
        sent: usize,
    },
    /// The answer is out, and the connection half closed: what still comes is dropped until the other side has seen it.
    Leaving,
}

/// What becomes of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stays,
    /// It is to be [answered](Visit::answer) when there is a place for a large answer.
    Waits,
    Ends,
}

impl Visit {
    pub(super) fn new(socket: Socket, caller: Caller, now: Instant) -> Self {
        Self {
            socket,
            caller,
            // Most have sent their request already.
            is_ready: true,
            deadline: now + ASKING,
            state: State::Asking(Vec::new()),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn wants(&self) -> PollFlags {
        match self.state {
            State::Answering { .. } => PollFlags::OUT,
            // That the other side has gone is heard of in any case.
            State::Waiting(_) => PollFlags::empty(),
            State::Asking(_) | State::Leaving => PollFlags::IN,
        }
    }

    /// Whether nobody waits for anything more.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Leaving)
    }

    /// How much memory its answer takes.
    pub(super) fn body_length(&self) -> usize {
        match &self.state {
            State::Answering { body, .. } => body.len(),
            _ => 0,
        }
    }

    /// Until when its answer is not cut off for others.
    pub(super) fn has_place_until(&self) -> Instant {
        match self.state {
            State::Answering { .. } => self.deadline - ANSWERING + PATIENCE,
            _ => self.deadline,
        }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Goes on as far as it can without waiting, and not for long.
    pub(super) fn advance(&mut self, now: Instant, service: &Service) -> Next {
        let is_ready = std::mem::take(&mut self.is_ready);
        if self.waits() {
            return if is_ready { Next::Ends } else { Next::Waits };
        }
        self.step(now, service).unwrap_or(Next::Ends)
    }

    /// Gives the answer for which it has waited.
    pub(super) fn answer(&mut self, now: Instant, service: &Service) -> Next {
        if let State::Waiting(head) = &self.state {
            let head = head.clone();
            self.begin_answer(&head, now, service);
        }
        self.step(now, service).unwrap_or(Next::Ends)
    }

    fn begin_answer(&mut self, head: &RequestHead, now: Instant, service: &Service) {
        let reply = service.answer(head, self.caller);
        let is_head = head.method() == "HEAD";
        self.state = State::Answering {
            head: reply.head(unix_seconds()),
            body: if is_head { Vec::new() } else { reply.body },
            sent: 0,
        };
        self.deadline = now + ANSWERING;
    }

    fn step(&mut self, now: Instant, service: &Service) -> io::Result<Next> {
        if let State::Asking(bytes) = &mut self.state {
            match read_head(&mut self.socket, bytes)? {
                Asked::More => return Ok(Next::Stays),
                Asked::Ended => return Ok(Next::Ends),
                Asked::Head(head) if Service::may_be_large(&head) => {
                    self.state = State::Waiting(head);
                    self.deadline = now + ANSWERING;
                    return Ok(Next::Waits);
                }
                Asked::Head(head) => self.begin_answer(&head, now, service),
                Asked::Wrong(refusal) => {
                    let none = Headers::default();
                    let ends = Afterwards::Ends;
                    let (bytes, _) = refusal.encode(false, unix_seconds(), &none, None, ends);
                    self.state = State::Answering {
                        head: bytes,
                        body: Vec::new(),
                        sent: 0,
                    };
                    self.deadline = now + ANSWERING;
                }
            }
        }
        if let State::Answering { head, body, sent } = &mut self.state {
            if !write_some(&mut self.socket, head, body, sent)? {
                return Ok(Next::Stays);
            }
            self.socket.shut_down_writing()?;
            self.state = State::Leaving;
            self.deadline = now + LINGER;
        }
        discard(&mut self.socket)
    }
}

impl AsFd for Visit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

enum Asked {
    Head(Box<RequestHead>),
    Wrong(Refusal),
    More,
    /// The other side has gone.
    Ended,
}

fn read_head(socket: &mut Socket, bytes: &mut Vec<u8>) -> io::Result<Asked> {
    let mut chunk = [0; 2048];
    loop {
        let count = match socket.read(&mut chunk) {
            Ok(0) => return Ok(Asked::Ended),
            Ok(count) => count,
            Err(error) if is_momentary(&error) => return Ok(Asked::More),
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        match RequestHead::parse(bytes, &LIMITS) {
            Ok(Some((_, head))) => return Ok(Asked::Head(Box::new(head))),
            Err(error) => return Ok(Asked::Wrong(error.into())),
            Ok(None) if bytes.len() > HEAD => {
                let why = format!("the head is longer than {HEAD} bytes");
                return Ok(Asked::Wrong(Refusal::new(Id::FieldsTooLarge, why)));
            }
            Ok(None) => {}
        }
    }
}

/// Whether everything is out.
fn write_some(socket: &mut Socket, head: &[u8], body: &[u8], sent: &mut usize) -> io::Result<bool> {
    let mut left = STEP;
    loop {
        let rest = match head.get(*sent..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => body.get(*sent - head.len()..).unwrap_or_default(),
        };
        let rest = rest.get(..left).unwrap_or(rest);
        if rest.is_empty() {
            return Ok(*sent == head.len() + body.len());
        }
        match socket.write(rest) {
            Ok(count) => {
                *sent += count;
                left -= count;
            }
            Err(error) if is_momentary(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Closing while there is input would reset the connection, and with it the answer.
fn discard(socket: &mut Socket) -> io::Result<Next> {
    let mut chunk = [0; 2048];
    for _ in 0..STEP / chunk.len() {
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(Next::Ends),
            Ok(_) => {}
            Err(error) if is_momentary(&error) => return Ok(Next::Stays),
            Err(error) => return Err(error),
        }
    }
    Ok(Next::Stays)
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
