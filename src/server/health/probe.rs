//! One check of one member, from the name to the answer.

use super::Target;
use crate::balancer::Member;
use crate::balancer::health::{Check, Question, Verb, Verdict, close_frame};
use crate::http::body::{BodyReader, Framing};
use crate::http::head::{Limits, ResponseHead};
use crate::net::buffer::Buffer;
use crate::net::connect::{ConnectError, Place, connect_host, connect_unix};
use crate::net::resolve::{ResolveError, Resolver};
use crate::net::stream::{Socket, Stream};
use crate::net::tls::TlsError;
use crate::net::wait::{Interrupted, Waiter};
use crate::server::acceptor::is_exhaustion;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::time::{Duration, Instant};

/// How long a member may take to end its side, when all is said.
const LEAVE: Duration = Duration::from_secs(1);
/// The most of an answer's body that is waited for.
const BODY: usize = 64 * 1024;
/// Answers with 1xx other than 101 before the final one, as many as httpd takes.
const MOST_INTERIM: usize = 10;

/// What a thread checks with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) waiter: Waiter,
    pub(super) resolver: Resolver,
}

/// Why a check did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The member is not well, in the manner of log lines.
    Member(String),
    /// It says nothing about the member: we stop, or have no descriptor left.
    Ours(String),
}

/// What is left to be done when the outcome is known, so that the member finds an end and not a reset in its log.
#[derive(Debug)]
pub(super) enum Leave {
    /// Nothing.
    AtOnce,
    /// The body of an answer to this method, of which these bytes have come.
    Body(Stream, BodyReader, Vec<u8>),
    /// A WebSocket is open.
    Close(Stream),
}

/// Whether the member is well, and how to leave it.
pub(super) type Outcome = (Result<(), Failure>, Leave);

/// Checks `member`.
pub(super) fn probe(target: &Target, member: &Member, check: &Check, tools: &mut Tools) -> Outcome {
    let attempt = Attempt {
        target,
        member,
        tools,
        deadline: Instant::now() + check.patience(target.timeout),
    };
    attempt
        .run(check)
        .unwrap_or_else(|failure| (Err(failure), Leave::AtOnce))
}

struct Attempt<'a> {
    target: &'a Target,
    member: &'a Member,
    tools: &'a mut Tools,
    /// That of all steps together.
    deadline: Instant,
}

impl Attempt<'_> {
    fn run(mut self, check: &Check) -> Result<Outcome, Failure> {
        let mut nonce = [0; 16];
        random(&mut nonce)?;
        let question = check.question(&self.member.backend.url, nonce);
        let socket = self.connect()?;
        let Some(question) = question else {
            return Ok((Ok(()), Leave::AtOnce));
        };
        let mut stream = self.secure(socket)?;
        stream
            .send_all(
                question.head.as_bytes(),
                self.deadline,
                &mut self.tools.waiter,
            )
            .map_err(|why| failure("request", why))?;
        self.hear(stream, &question)
    }

    fn connect(&mut self) -> Result<Socket, Failure> {
        let url = &self.member.backend.url;
        let deadline = self
            .deadline
            .min(Instant::now() + self.target.connect_timeout);
        let Tools { waiter, resolver } = &mut *self.tools;
        let socket = match &url.socket {
            Some(path) => connect_unix(path, deadline, waiter)
                .map(Socket::from)
                .map_err(ConnectError::Connect),
            None => {
                let place = Place {
                    host: &url.host,
                    port: url.port,
                    address_ttl: self.member.backend.parameters.address_ttl,
                };
                connect_host(resolver, place, self.target.options, deadline, waiter)
                    .map(Socket::from)
            }
        };
        socket.map_err(|why| match why {
            ConnectError::Connect(why) => failure("connect", why),
            ConnectError::Resolve(why @ ResolveError::Closed) => Failure::Ours(why.to_string()),
            ConnectError::Resolve(why) => Failure::Member(format!("resolve: {why}")),
        })
    }

    /// Speaks TLS where the member does.
    // httpd: to https:// members only, so that wss:// ones cannot be checked but by TCP.
    fn secure(&mut self, socket: Socket) -> Result<Stream, Failure> {
        let url = &self.member.backend.url;
        if !url.scheme.is_tls() {
            return Ok(socket.into());
        }
        let Some(connector) = &self.target.tls else {
            return Err(Failure::Member("tls: there is no TLS here".to_owned()));
        };
        connector
            .connect(&url.host, socket, self.deadline, &mut self.tools.waiter)
            .map_err(|why| match why {
                TlsError::Interrupted(why) => failure("tls", why),
                TlsError::Handshake(why) => Failure::Member(format!("tls: {why}")),
            })
    }

    /// Reads the final answer, and judges it.
    fn hear(&mut self, mut stream: Stream, question: &Question) -> Result<Outcome, Failure> {
        let mut limits = Limits::default();
        let field = self.member.backend.parameters.answer_field;
        limits.field = field.unwrap_or(limits.field);
        let mut buffer = Buffer::default();
        let mut interim = 0;
        loop {
            let parsed = ResponseHead::parse(buffer.bytes(), &limits);
            let parsed = parsed.map_err(|why| Failure::Member(format!("answer: {why}")))?;
            let Some((used, answer)) = parsed else {
                let deadline = Some(self.deadline);
                let received = buffer.receive(&mut stream, deadline, &mut self.tools.waiter);
                match received.map_err(|why| failure("answer", why))? {
                    0 => {
                        let why = "answer: closed before it was complete";
                        return Err(Failure::Member(why.to_owned()));
                    }
                    _ => continue,
                }
            };
            let behind = buffer.split_off(used);
            return Ok(match question.verdict(&answer) {
                Verdict::Interim if interim < MOST_INTERIM => {
                    interim += 1;
                    buffer = Buffer::from(behind);
                    continue;
                }
                Verdict::Interim => {
                    let why = "answer: more than 10 interim answers".to_owned();
                    (Err(Failure::Member(why)), Leave::AtOnce)
                }
                Verdict::Switched => (Ok(()), Leave::Close(stream)),
                Verdict::Passed => (Ok(()), body(stream, question.verb, &answer, behind)),
                Verdict::Failed(why) => (
                    Err(Failure::Member(why)),
                    body(stream, question.verb, &answer, behind),
                ),
            });
        }
    }
}

fn body(stream: Stream, verb: Verb, answer: &ResponseHead, behind: Vec<u8>) -> Leave {
    match Framing::of_answer(verb.name(), answer) {
        Ok(framing) => Leave::Body(stream, BodyReader::new(framing), behind),
        Err(_) => Leave::AtOnce,
    }
}

impl Leave {
    /// Does it, within [`LEAVE`] and as long as the server does not stop.
    pub(super) fn take(self, waiter: &mut Waiter) {
        let deadline = Instant::now() + LEAVE;
        match self {
            Self::AtOnce => {}
            Self::Body(mut stream, mut reader, behind) => {
                let mut left = BODY;
                let mut has_ended = pass(&mut reader, &behind);
                receive_until(&mut stream, deadline, waiter, |piece| {
                    left = left.saturating_sub(piece.len());
                    has_ended = has_ended || pass(&mut reader, piece);
                    has_ended || left == 0
                });
                stream.finish_by(deadline, waiter);
            }
            Self::Close(mut stream) => {
                let mut mask = [0; 4];
                let is_drawn = random(&mut mask).is_ok();
                let frame = close_frame(mask);
                if is_drawn && stream.send_all(&frame, deadline, waiter).is_ok() {
                    // Its own Close, and the end: a server ends the connection first (RFC 6455 section 7.1.1).
                    receive_until(&mut stream, deadline, waiter, |_| false);
                }
                stream.finish_by(deadline, waiter);
            }
        }
    }
}

/// Reads until `is_enough` says so of what has come, nothing at first, or the stream ends.
fn receive_until(
    stream: &mut Stream,
    deadline: Instant,
    waiter: &mut Waiter,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 2048];
    let mut received = 0;
    while !is_enough(buffer.get(..received).unwrap_or_default()) && Instant::now() < deadline {
        match stream.receive(&mut buffer, Some(deadline), waiter) {
            Ok(count) if count > 0 => received = count,
            _ => break,
        }
    }
}

/// Reads what has come of a body. Whether nothing more is to come, or nobody can tell.
fn pass(reader: &mut BodyReader, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() && !reader.is_complete() {
        let Ok((consumed, _)) = reader.read(bytes) else {
            return true;
        };
        bytes = bytes.get(consumed..).unwrap_or_default();
    }
    reader.is_complete()
}

/// A step came to nothing.
fn failure(step: &str, why: Interrupted) -> Failure {
    match why {
        Interrupted::Deadline => Failure::Member(format!("{step}: timed out")),
        Interrupted::Failed(error) if !is_exhaustion(&error) => {
            Failure::Member(format!("{step}: {error}"))
        }
        why => Failure::Ours(format!("{step}: {why}")),
    }
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    match getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(drawn) if drawn == bytes.len() => Ok(()),
        // So few are drawn as a whole or not at all (getrandom(2)).
        Ok(_) => Err(Failure::Ours("random: too few bytes".to_owned())),
        Err(error) => Err(Failure::Ours(format!("random: {}", io::Error::from(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::target;
    use super::*;
    use crate::handshake::accept_for;
    use crate::net::wait::Cancel;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    /// What is read until the end, and whether it was an end and no reset.
    fn rest(tcp: &mut TcpStream) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let has_ended = tcp.read_to_end(&mut bytes).is_ok();
        (bytes, has_ended)
    }

    /// The head of a request.
    fn head(tcp: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            bytes.extend(byte);
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Checks a member that does as `script` says with the one connection that it gets.
    fn checked<T: Send + 'static>(
        method: &str,
        script: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (Result<(), Failure>, T) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("ws://{}/app", listener.local_addr().unwrap());
        let member: JoinHandle<T> = thread::spawn(move || script(listener.accept().unwrap().0));
        let outcome = check(method, &url);
        (outcome, member.join().unwrap())
    }

    fn check(method: &str, url: &str) -> Result<(), Failure> {
        let target = target(method, url);
        let (member, check) = target.subject().unwrap();
        let cancel = Arc::new(Cancel::new().unwrap());
        let mut tools = Tools {
            waiter: Waiter::new(cancel).unwrap(),
            resolver: Resolver::default(),
        };
        let (outcome, leave) = probe(&target, member, check, &mut tools);
        leave.take(&mut tools.waiter);
        outcome
    }

    fn why(outcome: Result<(), Failure>) -> String {
        match outcome {
            Err(Failure::Member(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_is_all_that_tcp_asks_for() {
        let (outcome, rest) = checked("TCP", |mut tcp| rest(&mut tcp));
        assert_eq!((outcome, rest), (Ok(()), (Vec::new(), true)));
        let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", refused.local_addr().unwrap());
        drop(refused);
        let why = why(check("TCP", &url));
        assert!(why.starts_with("connect: Connection refused"), "{why}");
    }

    #[test]
    fn answers_are_read_to_their_end_and_judged_by_their_status() {
        for (answer, problem) in [
            ("HTTP/1.0 204 No Content\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", None),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                None,
            ),
            (
                "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nhi",
                Some("it answered 500"),
            ),
            ("SSH-2.0-x\r\n", Some("answer: the status line is not")),
            (
                "HTTP/1.1 200",
                Some("answer: closed before it was complete"),
            ),
        ] {
            let is_cut = problem.is_some_and(|problem| problem.starts_with("answer: closed"));
            let (outcome, (request, rest)) = checked("GET", move |mut tcp| {
                let request = head(&mut tcp);
                tcp.write_all(answer.as_bytes()).unwrap();
                if is_cut {
                    tcp.shutdown(std::net::Shutdown::Write).unwrap();
                }
                (request, rest(&mut tcp))
            });
            assert!(request.starts_with("GET /app/health HTTP/1.0\r\n"));
            assert_eq!(rest, (Vec::new(), true), "{answer}");
            match problem {
                None => assert_eq!(outcome, Ok(()), "{answer}"),
                Some(problem) => {
                    let why = why(outcome);
                    assert!(why.starts_with(problem), "{why}");
                }
            }
        }
    }

    #[test]
    fn interim_answers_without_end_are_no_answer() {
        let (outcome, ()) = checked("HEAD11", |mut tcp| {
            head(&mut tcp);
            let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(11);
            tcp.write_all(interim.as_bytes()).unwrap();
            rest(&mut tcp);
        });
        assert!(why(outcome).contains("more than 10 interim answers"));
    }

    #[test]
    fn a_websocket_is_opened_and_closed_in_order() {
        let (outcome, (frame, end)) = checked("WS", |mut tcp| {
            let request = head(&mut tcp);
            let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap();
            let accept = accept_for(key.split("\r\n").next().unwrap().as_bytes());
            write!(
                tcp,
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .unwrap();
            // Frames that it may have to say before it hears of the end.
            tcp.write_all(b"\x81\x02hi").unwrap();
            let mut frame = [0; 8];
            tcp.read_exact(&mut frame).unwrap();
            tcp.write_all(&[0x88, 2, 0x03, 0xE8]).unwrap();
            tcp.shutdown(std::net::Shutdown::Write).unwrap();
            (frame, rest(&mut tcp))
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(end, (Vec::new(), true));
        let [first, second, a, b, _, _, high, low] = frame;
        assert_eq!((first, second), (0x88, 0x82));
        assert_eq!([high ^ a, low ^ b], 1000_u16.to_be_bytes());
    }

    #[test]
    fn a_member_that_needs_tls_is_not_asked_without() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("wss://{}", listener.local_addr().unwrap());
        assert!(why(check("WS", &url)).starts_with("tls: "));
        let (bytes, _) = rest(&mut listener.accept().unwrap().0);
        assert_eq!(bytes, b"");
    }
}
