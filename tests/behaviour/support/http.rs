//! HTTP messages as a strict reader takes them off a connection, and backends that read so, or that only look at the bytes.

use super::wire::field;
use super::{BOUND, Backend, Proxy, Wire};
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};

/// A message that is written exactly as RFC 9112 says.
#[derive(Debug, Clone)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
    /// The lines behind the last chunk.
    pub trailers: String,
}

impl Message {
    /// The request line or the status line.
    pub fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// The status of an answer.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let status = self.line().strip_prefix("HTTP/1.1 ");
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        status.unwrap_or_else(|| panic!("not a status line: {:?}", self.head))
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{self:?}");
        self
    }

    /// The path and the query of a request.
    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    /// The values of all fields of this name, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }

    /// `length 5`, `chunked`, or `none`: what the head says of the body.
    #[track_caller]
    pub fn framing(&self) -> String {
        framing(&self.head).unwrap()
    }

    /// Reads the next request; nothing where the connection ends in front of it.
    pub fn request(wire: &mut Wire) -> Result<Option<Self>, String> {
        let mut first = [0];
        match wire.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(format!("{error} instead of a request")),
        }
        let head = String::from_utf8_lossy(&first).into_owned() + &wire.try_head()?;
        Self::behind(head, false, wire).map(Some)
    }

    /// Reads the answer to a request with this method, an interim one without its body.
    pub fn answer(wire: &mut Wire, method: &str) -> Result<Self, String> {
        let head = wire.try_head()?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let is_empty =
            method == "HEAD" || status.starts_with('1') || matches!(status, "204" | "304");
        if is_empty {
            framing(&head)?;
            return Ok(Self::new(head));
        }
        Self::behind(head, true, wire)
    }

    fn new(head: String) -> Self {
        Self {
            head,
            body: Vec::new(),
            trailers: String::new(),
        }
    }

    fn behind(head: String, is_answer: bool, wire: &mut Wire) -> Result<Self, String> {
        let mut message = Self::new(head);
        match framing(&message.head)?.as_str() {
            "chunked" => loop {
                let line = line(wire)?;
                let size = usize::from_str_radix(&line, 16);
                let size = size.map_err(|_| format!("the chunk size {line:?}"))?;
                if size == 0 {
                    message.trailers = trailers(wire)?;
                    break;
                }
                message.body.extend(take(wire, size)?);
                if take(wire, 2)? != b"\r\n" {
                    return Err("a chunk without its end".to_owned());
                }
            },
            "none" if is_answer => {
                let read = wire.read_to_end(&mut message.body);
                read.map_err(|error| format!("{error} inside a body"))?;
            }
            "none" => {}
            length => {
                let length = length.trim_start_matches("length ");
                message.body = take(wire, length.parse().unwrap())?;
            }
        }
        Ok(message)
    }
}

fn framing(head: &str) -> Result<String, String> {
    match (
        field(head, "Content-Length"),
        field(head, "Transfer-Encoding"),
    ) {
        (None, None) => Ok("none".to_owned()),
        (None, Some(coding)) if coding == "chunked" => Ok(coding),
        (Some(length), None) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(format!("length {length}"))
        }
        other => Err(format!("the framing {other:?} in {head:?}")),
    }
}

fn take(wire: &mut Wire, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; count];
    match wire.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(format!("{error} inside a body")),
    }
}

fn line(wire: &mut Wire) -> Result<String, String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(take(wire, 1)?);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|error| error.to_string())
}

fn trailers(wire: &mut Wire) -> Result<String, String> {
    let mut lines = String::new();
    loop {
        match line(wire)?.as_str() {
            "" => return Ok(lines),
            line => lines = lines + line + "\r\n",
        }
    }
}

impl Wire {
    /// The answer to a request with this method; what follows stays to be read.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Message {
        match Message::answer(self, method) {
            Ok(answer) => answer,
            Err(problem) => panic!("{problem}"),
        }
    }

    /// An answer, and the end of the connection behind it.
    #[track_caller]
    pub fn last_answer(&mut self) -> Message {
        let answer = self.answer_to("GET");
        self.expect_end();
        answer
    }

    /// The next request of a proxy.
    #[track_caller]
    pub fn request(&mut self) -> Message {
        match Message::request(self) {
            Ok(Some(request)) => request,
            other => panic!("instead of a request: {other:?}"),
        }
    }
}

/// What a backend says to a request, and what it does then.
#[derive(Debug, Clone)]
pub struct Reply {
    bytes: Vec<u8>,
    stays: bool,
}

impl Reply {
    /// It waits for the next request.
    pub fn staying(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            bytes: bytes.as_ref().to_vec(),
            stays: true,
        }
    }

    /// It ends the connection.
    pub fn last(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            stays: false,
            ..Self::staying(bytes)
        }
    }

    /// 200 with this body.
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::staying([head.as_bytes(), body].concat())
    }
}

/// A backend that reads request after request, strictly, and hands each of them over.
#[derive(Debug)]
pub struct Origin {
    pub backend: Backend,
    requests: Receiver<Result<Message, String>>,
}

impl Origin {
    pub fn new(reply: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        let (sender, requests) = channel();
        let backend = Backend::serve(move |mut wire| {
            loop {
                let request = match Message::request(&mut wire) {
                    Ok(Some(request)) => request,
                    Ok(None) => return,
                    Err(problem) => return drop(sender.send(Err(problem))),
                };
                let reply = reply(&request);
                // The test may be over, or not care.
                drop(sender.send(Ok(request)));
                if !wire.send_if_taken(&reply.bytes) || !reply.stays {
                    return;
                }
            }
        });
        Self { backend, requests }
    }

    /// One that answers everything with the method, and the path.
    pub fn telling() -> Self {
        Self::new(|request| {
            let body = format!("{} {}", request.method(), request.target());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            Reply::staying(if request.method() == "HEAD" {
                head
            } else {
                head + &body
            })
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.backend.address())
    }

    /// A proxy that maps everything to it.
    #[track_caller]
    pub fn behind(&self, directives: &str) -> Proxy {
        Proxy::start(format!("{directives}\nProxyPass / {}/", self.url()))
    }

    /// The next request.
    #[track_caller]
    pub fn request(&self) -> Message {
        self.next().expect("a request as RFC 9112 says")
    }

    /// The next request, or what was wrong with it.
    #[track_caller]
    pub fn next(&self) -> Result<Message, String> {
        let request = self.requests.recv_timeout(BOUND);
        request.expect("a request at the backend")
    }

    /// What has been read since, be it a request or none.
    pub fn others(&self) -> Vec<Result<Message, String>> {
        self.requests.try_iter().collect()
    }
}

/// A backend that gives one answer in each connection, whatever comes, and hands over all bytes of it.
#[derive(Debug)]
pub struct Witness {
    pub backend: Backend,
    connections: Receiver<Vec<u8>>,
}

impl Witness {
    pub fn new() -> Self {
        let (sender, connections) = channel();
        let backend = Backend::serve(move |mut wire| {
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            let mut has_answered = false;
            while let Ok(count @ 1..) = wire.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..count]);
                if !has_answered && ends_once(&bytes) {
                    has_answered = true;
                    wire.send_if_taken(
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                    );
                }
            }
            drop(sender.send(bytes));
        });
        Self {
            backend,
            connections,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.backend.address())
    }

    /// All bytes of the next connection that has ended.
    #[track_caller]
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.connections.recv_timeout(BOUND);
        bytes.expect("a connection to the backend, and its end")
    }
}

/// Whether a message without chunks, or with all of them, may have ended: this one does not look closely.
fn ends_once(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let is_chunked = String::from_utf8_lossy(&bytes[..head]).contains("chunked");
    !is_chunked || bytes.ends_with(b"\r\n0\r\n\r\n")
}

/// A body in chunks of this size, with whatever RFC 9112 allows in between.
pub fn chunked(body: &[u8], size: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in body.chunks(size) {
        bytes.extend(format!("{:X}{extension}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend(format!("000{extension}\r\n{trailers}\r\n").into_bytes());
    bytes
}
