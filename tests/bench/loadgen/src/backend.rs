//! The WebSocket server behind the proxies: one thread, one epoll.
//!
//! The last segment of the path chooses what a connection does: `source` streams frames, `sink` swallows frames and
//! acknowledges each MiB, `both` is source and sink at once, and anything else returns every frame. `source` and `both`
//! take the payload size of a frame from `?size=N`.

use crate::sys::{self, Epoll};
use crate::transport::Transport;
use crate::ws::{self, Parser, Piece, Sender};
use openssl::ssl::SslContext;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// Tokens from here on are listeners.
const LISTENER: u64 = 1 << 32;
const CHUNK: usize = 256 * 1024;
/// Reads or writes of one connection before the others have their turn.
const BURST: usize = 4;
/// Connections that are accepted in one go.
const ACCEPTED: usize = 64;
const LONGEST_HEAD: usize = 16 * 1024;
const ACKNOWLEDGE_EVERY: u64 = 1 << 20;

/// Where it listens, and with what TLS is spoken there, if it is.
pub type Address = (SocketAddrV4, Option<SslContext>);

/// Serves on all these addresses, for ever. Says `ready` when it does.
pub fn run(addresses: &[Address]) -> Result<(), String> {
    let start = || {
        let epoll = Epoll::new()?;
        let mut listeners = Vec::new();
        for (token, (address, tls)) in (LISTENER..).zip(addresses) {
            let listener = sys::listen(*address, false)?;
            epoll.add(listener.as_raw_fd(), token, sys::READABLE)?;
            listeners.push((listener, tls.clone()));
        }
        Ok((epoll, listeners))
    };
    let (epoll, listeners) = start().map_err(|error: io::Error| error.to_string())?;
    println!("ready");
    let mut server = Server {
        epoll,
        conns: Vec::new(),
        free: Vec::new(),
        trains: Trains::default(),
        again: Vec::new(),
        has_complained: false,
    };
    let Err(error) = server.serve(&listeners);
    Err(error.to_string())
}

type Listener = (TcpListener, Option<SslContext>);

struct Server {
    epoll: Epoll,
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    trains: Trains,
    /// Who could go on at once, each once.
    again: Vec<usize>,
    has_complained: bool,
}

/// Frames to be streamed, by their size.
#[derive(Default)]
struct Trains(HashMap<usize, Rc<Vec<u8>>>);

impl Trains {
    fn of(&mut self, size: usize) -> Rc<Vec<u8>> {
        let train = self.0.entry(size);
        Rc::clone(train.or_insert_with(|| Rc::new(ws::frame_train(size, Sender::Server))))
    }
}

impl Server {
    fn serve(&mut self, listeners: &[Listener]) -> io::Result<std::convert::Infallible> {
        let mut events = sys::no_events();
        let mut buffer = vec![0; CHUNK];
        loop {
            let timeout = (!self.again.is_empty()).then_some(Duration::ZERO);
            let count = self.epoll.wait(&mut events, timeout)?;
            let again = std::mem::take(&mut self.again);
            for event in &events[..count] {
                let (token, flags) = (event.u64, event.events);
                match token.checked_sub(LISTENER) {
                    Some(listener) => self.accept(&listeners[listener as usize]),
                    None => self.turn(token as usize, flags & sys::HANGUP != 0, &mut buffer),
                }
            }
            for index in again {
                if let Some(conn) = &mut self.conns[index] {
                    conn.is_queued = false;
                    self.turn(index, false, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self, (listener, tls): &Listener) {
        for _ in 0..ACCEPTED {
            let socket = match sys::accept(listener) {
                Ok(socket) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.complain(&error),
            };
            let transport = match Transport::server(socket, tls.as_ref()) {
                Ok(transport) => transport,
                Err(error) => return self.complain(&error),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            match self.epoll.add(transport.fd(), index as u64, sys::EDGE) {
                Ok(()) => self.conns[index] = Some(Box::new(Conn::new(transport))),
                Err(error) => {
                    self.free.push(index);
                    self.complain(&error);
                }
            }
        }
    }

    /// Out of files, most likely: says so once, and does not spin.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_complained, true) {
            eprintln!("backend: a connection cannot be accepted: {error}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    fn turn(&mut self, index: usize, hangup: bool, buffer: &mut [u8]) {
        let Some(conn) = &mut self.conns[index] else {
            return;
        };
        match conn.turn(hangup, buffer, &mut self.trains) {
            Ok(Turn::Idle) => {}
            Ok(Turn::More) => {
                if !std::mem::replace(&mut conn.is_queued, true) {
                    self.again.push(index);
                }
            }
            Ok(Turn::Done) | Err(_) => {
                self.conns[index] = None;
                self.free.push(index);
            }
        }
    }
}

/// What became of a connection in its turn.
enum Turn {
    Idle,
    /// It could go on at once.
    More,
    Done,
}

struct Conn {
    transport: Transport,
    state: State,
    out: Vec<u8>,
    sent: usize,
    /// Nothing is to be sent behind `out`.
    finish: bool,
    /// A read that stops short has not seen the end that is announced.
    hangup: bool,
    is_queued: bool,
}

enum State {
    /// What has come of the request.
    Head(Vec<u8>),
    Open(Open),
}

struct Open {
    parser: Parser,
    /// The first byte of the frame that is coming in.
    first: u8,
    role: Role,
}

enum Role {
    Echo,
    /// Payload bytes that have come, and those of them that have been acknowledged.
    Sink {
        sunk: u64,
        acknowledged: u64,
    },
    /// Sends these frames over and over, and swallows what comes.
    Source {
        train: Rc<Vec<u8>>,
        sent: usize,
    },
}

impl Conn {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            state: State::Head(Vec::new()),
            out: Vec::new(),
            sent: 0,
            finish: false,
            hangup: false,
            is_queued: false,
        }
    }

    fn turn(&mut self, hangup: bool, buffer: &mut [u8], trains: &mut Trains) -> io::Result<Turn> {
        self.hangup |= hangup;
        let mut more = true;
        for _ in 0..BURST {
            // Who does not take the echoes sends nothing more.
            if !self.send_out()? {
                return Ok(Turn::Idle);
            }
            let received = match self.transport.read(buffer) {
                Ok(0) => return Ok(Turn::Done),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(error) => return Err(error),
            };
            self.take_in(&buffer[..received], trains)?;
            if received < buffer.len() && !self.hangup {
                more = false;
                break;
            }
        }
        more |= self.send_out()? && self.send_stream()?;
        Ok(if more { Turn::More } else { Turn::Idle })
    }

    /// Writes what is queued; false when the socket would not take it all.
    fn send_out(&mut self) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match self.transport.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.out.clear();
        self.out.shrink_to(CHUNK);
        if std::mem::take(&mut self.finish) {
            self.transport.finish()?;
        }
        Ok(true)
    }

    /// Streams frames; true when the socket would take more.
    fn send_stream(&mut self) -> io::Result<bool> {
        let State::Open(Open {
            role: Role::Source { train, sent },
            ..
        }) = &mut self.state
        else {
            return Ok(false);
        };
        for _ in 0..BURST {
            match self.transport.write(&train[*sent..]) {
                Ok(now) => *sent = (*sent + now) % train.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take_in(&mut self, data: &[u8], trains: &mut Trains) -> io::Result<()> {
        match &mut self.state {
            State::Open(open) => {
                self.finish |= open.take_in(data, &mut self.out);
                Ok(())
            }
            State::Head(head) => {
                head.extend_from_slice(data);
                let Some(length) = ws::head_length(head) else {
                    let is_bounded = head.len() <= LONGEST_HEAD;
                    return is_bounded
                        .then_some(())
                        .ok_or(ErrorKind::InvalidData.into());
                };
                let behind = head.split_off(length);
                let head = String::from_utf8_lossy(head).into_owned();
                self.upgrade(&head, trains)?;
                self.take_in(&behind, trains)
            }
        }
    }

    fn upgrade(&mut self, head: &str, trains: &mut Trains) -> io::Result<()> {
        let key = ws::field(head, "Sec-WebSocket-Key").ok_or(ErrorKind::InvalidData)?;
        let reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            ws::accept_for(key)
        );
        self.out.extend_from_slice(reply.as_bytes());
        let target = head.split(' ').nth(1).unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let size = query
            .strip_prefix("size=")
            .and_then(|size| size.parse().ok())
            .unwrap_or(64 * 1024);
        let role = match path.rsplit('/').next() {
            Some("source" | "both") => Role::Source {
                train: trains.of(size),
                sent: 0,
            },
            Some("sink") => Role::Sink {
                sunk: 0,
                acknowledged: 0,
            },
            _ => Role::Echo,
        };
        self.state = State::Open(Open {
            parser: Parser::default(),
            first: 0,
            role,
        });
        Ok(())
    }
}

impl Open {
    /// Takes bytes of the tunnel in, and queues what they call for. True: a closing frame has come.
    fn take_in(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> bool {
        let mut is_closing = false;
        while let Some(piece) = self.parser.next(&mut data) {
            if let Piece::Header { first, .. } = piece {
                self.first = first;
            }
            let returns = match &mut self.role {
                Role::Echo => true,
                // Nothing may land inside of a frame of the stream.
                Role::Source { .. } => false,
                Role::Sink { sunk, .. } => {
                    if let Piece::Payload { data, .. } = piece {
                        *sunk += data.len() as u64;
                    }
                    ws::is_close(self.first)
                }
            };
            match piece {
                Piece::Header { first, length } if returns => {
                    ws::put_header(out, first, length, Sender::Server);
                }
                Piece::Payload { data, .. } if returns => out.extend_from_slice(data),
                _ => {}
            }
            is_closing |=
                matches!(piece, Piece::Payload { last: true, .. }) && ws::is_close(self.first);
        }
        if let Role::Sink { sunk, acknowledged } = &mut self.role {
            while *sunk - *acknowledged >= ACKNOWLEDGE_EVERY {
                *acknowledged += ACKNOWLEDGE_EVERY;
                ws::put_header(out, ws::BINARY, 8, Sender::Server);
                out.extend_from_slice(&acknowledged.to_be_bytes());
            }
        }
        is_closing
    }
}
