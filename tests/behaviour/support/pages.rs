//! Ordinary requests and their answers, several on a connection.

use super::wire::{Answer, Wire, field};
use super::{Backend, Client, Proxy};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A backend that answers requests, as many as come on each connection.
#[derive(Debug)]
pub struct Pages {
    pub backend: Backend,
    seen: Arc<Mutex<Vec<Asked>>>,
    open: Arc<AtomicUsize>,
}

/// A request as a backend got it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }
}

impl Pages {
    /// Answers each request with a page that is its path.
    pub fn start() -> Self {
        Self::answering(|asked| page(asked.path()))
    }

    /// Answers each request with these bytes, after which the connection stays.
    pub fn answering<T: AsRef<[u8]>>(answer: impl Fn(&Asked) -> T + Send + Sync + 'static) -> Self {
        Self::with(Backend::serve, answer)
    }

    /// As [`Pages::answering`], in a backend that `serve` starts.
    pub fn with<T: AsRef<[u8]>>(
        serve: impl FnOnce(Box<dyn Fn(Wire) + Send + Sync>) -> Backend,
        answer: impl Fn(&Asked) -> T + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::<Mutex<Vec<Asked>>>::default();
        let open = Arc::<AtomicUsize>::default();
        let count = AtomicUsize::new(0);
        let (log, live) = (Arc::clone(&seen), Arc::clone(&open));
        let script = move |mut wire: Wire| {
            // A connection that is kept may rest for as long as it likes.
            wire.tcp().set_read_timeout(None).unwrap();
            let connection = count.fetch_add(1, Ordering::SeqCst) + 1;
            live.fetch_add(1, Ordering::SeqCst);
            while let Some((head, body)) = next_request(&mut wire) {
                let asked = Asked {
                    connection,
                    head,
                    body,
                };
                log.lock().unwrap().push(asked.clone());
                if !wire.send_if_taken(answer(&asked)) {
                    break;
                }
            }
            live.fetch_sub(1, Ordering::SeqCst);
        };
        Self {
            backend: serve(Box::new(script)),
            seen,
            open,
        }
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        url(&self.backend)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// On which connection each request came.
    pub fn connections(&self) -> Vec<usize> {
        self.seen().iter().map(|asked| asked.connection).collect()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// `http://127.0.0.1:port`
pub fn url(backend: &Backend) -> String {
    format!("http://{}", backend.address())
}

/// A proxy that leads everything to `backend`.
#[track_caller]
pub fn to(backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!("{directives}\nProxyPass / {}/", url(backend)))
}

pub fn get(path: &str) -> String {
    get_with(path, "")
}

/// With further field lines, each with its line end.
pub fn get_with(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: front.example\r\n{fields}\r\n")
}

/// A POST with its length.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = post_head(path, body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn post_head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: front.example\r\nContent-Length: {length}\r\n\r\n")
}

/// A 200 with this body.
pub fn page(body: &str) -> String {
    page_with("", body)
}

/// A 200 with further field lines, each with its line end.
pub fn page_with(fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A whole answer, after which the connection may go on.
#[track_caller]
pub fn answer(wire: &mut Wire) -> Answer {
    let mut answer = wire.answer_head();
    answer.body = match body(wire, &answer.head) {
        Ok(Some(body)) => body,
        Ok(None) => panic!("an answer without a length: {}", answer.head),
        Err(problem) => panic!("{problem}: {}", answer.head),
    };
    answer
}

/// A whole answer that is this page.
#[track_caller]
pub fn expect_page(wire: &mut Wire, expected: &str) -> Answer {
    let answer = answer(wire).expect_status(200);
    assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    answer
}

/// Asks for a page, and gets it.
#[track_caller]
pub fn fetch(client: &mut Client, path: &str) -> Answer {
    client.send(get(path));
    expect_page(client, path)
}

/// A client that has got a page, and may ask for another.
#[track_caller]
pub fn visitor(proxy: &Proxy, path: &str) -> Client {
    let mut client = Client::connect(proxy.address());
    let answer = fetch(&mut client, path);
    assert_eq!(answer.field("Connection"), None, "{}", answer.head);
    client
}

/// A whole request; nothing at the end of the connection, or where it was cut.
pub fn next_request(wire: &mut Wire) -> Option<(String, Vec<u8>)> {
    let head = wire.try_head().ok()?;
    let body = body(wire, &head).ok()?;
    Some((head, body.unwrap_or_default()))
}

/// The body behind a head, if that says how long it is.
fn body(wire: &mut Wire, head: &str) -> std::io::Result<Option<Vec<u8>>> {
    if let Some(length) = field(head, "Content-Length") {
        let mut bytes = vec![0; length.parse().expect("a length")];
        wire.read_exact(&mut bytes)?;
        return Ok(Some(bytes));
    }
    if field(head, "Transfer-Encoding").is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(wire)?, 16).expect("the size of a chunk");
        if size == 0 {
            while !line(wire)?.is_empty() {}
            return Ok(Some(bytes));
        }
        let begin = bytes.len();
        bytes.resize(begin + size, 0);
        wire.read_exact(&mut bytes[begin..])?;
        assert_eq!(line(wire)?, "", "behind a chunk");
    }
}

fn line(wire: &mut Wire) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        wire.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8(line).expect("a line"))
}
