//! One end of a connection, as bytes: what a client and a backend have in common.

use super::BOUND;
#[cfg(feature = "tls")]
use openssl::ssl::ShutdownState;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection with full control of its bytes. Every wait is bounded by [`BOUND`] and fails by panicking.
#[derive(Debug)]
pub struct Wire {
    link: Link,
    /// Read already, but not asked for yet.
    pending: Vec<u8>,
}

#[derive(Debug)]
enum Link {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(openssl::ssl::SslStream<TcpStream>),
}

/// How the other side ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything was sent, and then the end.
    Orderly,
    /// Cut off.
    Reset,
    /// The connection has ended, and TLS was not told: anybody on the way may have ended it.
    #[cfg(feature = "tls")]
    Untold,
}

impl Wire {
    pub fn new(tcp: TcpStream) -> Self {
        set_up(&tcp);
        Self {
            link: Link::Tcp(tcp),
            pending: Vec::new(),
        }
    }

    #[cfg(feature = "tls")]
    pub fn new_tls(tls: openssl::ssl::SslStream<TcpStream>) -> Self {
        set_up(tls.get_ref());
        Self {
            link: Link::Tls(tls),
            pending: Vec::new(),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        match &self.link {
            Link::Tcp(tcp) => tcp,
            #[cfg(feature = "tls")]
            Link::Tls(tls) => tls.get_ref(),
        }
    }

    #[cfg(feature = "tls")]
    pub fn tls(&mut self) -> &mut openssl::ssl::SslStream<TcpStream> {
        match &mut self.link {
            Link::Tls(tls) => tls,
            Link::Tcp(_) => panic!("a plain connection"),
        }
    }

    pub fn local(&self) -> SocketAddr {
        self.tcp().local_addr().unwrap()
    }

    pub fn peer(&self) -> SocketAddr {
        self.tcp().peer_addr().unwrap()
    }

    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.write_all(bytes.as_ref()).expect("to send");
        self.flush().expect("to send");
    }

    /// Sends what the other side still takes: one that has refused us may have closed already.
    pub fn send_if_taken(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.write_all(bytes.as_ref()).is_ok()
    }

    /// Writes until nothing was taken for `quiet`, at most `limit` bytes; says how many were taken.
    ///
    /// Only for plain connections: this is how a side looks that somebody downstream does not read.
    pub fn send_until_stuck(&mut self, limit: usize, quiet: Duration) -> usize {
        let chunk = vec![0x55; 65_536];
        let mut sent = 0;
        let mut last = Instant::now();
        self.tcp().set_nonblocking(true).unwrap();
        while sent < limit && last.elapsed() < quiet {
            match self.write(&chunk[..chunk.len().min(limit - sent)]) {
                Ok(count) => {
                    sent += count;
                    last = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        self.tcp().set_nonblocking(false).unwrap();
        sent
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        if let Err(error) = self.read_exact(&mut bytes) {
            panic!("waited for {count} bytes: {error}");
        }
        bytes
    }

    /// Reads these bytes, and fails if others arrive.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let found = self.receive(bytes.len());
        assert!(
            found == bytes,
            "expected {:?}, received {:?}",
            brief(bytes),
            brief(&found)
        );
    }

    /// Everything up to the end, and how it ended.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return (bytes, self.end()),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return (bytes, End::Reset);
                }
                Err(error) => panic!("after {}: {error}", brief(&bytes)),
            }
        }
    }

    fn end(&mut self) -> End {
        #[cfg(feature = "tls")]
        if let Link::Tls(tls) = &mut self.link
            && !tls.get_shutdown().contains(ShutdownState::RECEIVED)
        {
            return End::Untold;
        }
        End::Orderly
    }

    /// Everything up to an orderly end.
    #[track_caller]
    pub fn rest_in_order(&mut self) -> Vec<u8> {
        let (bytes, end) = self.rest();
        assert_eq!(end, End::Orderly, "after {}", brief(&bytes));
        bytes
    }

    /// The end, and nothing before it.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let bytes = self.rest_in_order();
        assert!(bytes.is_empty(), "instead of the end: {}", brief(&bytes));
    }

    /// The end, in whatever way, and nothing before it.
    #[track_caller]
    pub fn expect_cut(&mut self) -> End {
        let (bytes, end) = self.rest();
        assert!(bytes.is_empty(), "instead of the end: {}", brief(&bytes));
        end
    }

    /// Fails if a byte or the end arrives within `span`.
    #[track_caller]
    pub fn expect_quiet(&mut self, span: Duration) {
        assert!(
            self.pending.is_empty(),
            "instead of nothing: {}",
            brief(&self.pending)
        );
        self.tcp().set_read_timeout(Some(span)).unwrap();
        let mut bytes = [0; 64];
        let found = self.read(&mut bytes);
        self.tcp().set_read_timeout(Some(BOUND)).unwrap();
        match found {
            Ok(count) => panic!("instead of nothing: {}", brief(&bytes[..count])),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "instead of nothing: {error}"
            ),
        }
    }

    /// A head up to and with its empty line; what follows stays to be read.
    #[track_caller]
    pub fn head(&mut self) -> String {
        match self.try_head() {
            Ok(head) => head,
            Err(problem) => panic!("{problem}"),
        }
    }

    /// As [`Wire::head`], for those who may be left before it is complete.
    pub fn try_head(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.read(&mut byte) {
                Ok(0) => {
                    return Err(format!(
                        "the end instead of a head, after {}",
                        brief(&bytes)
                    ));
                }
                Ok(_) => bytes.push(byte[0]),
                Err(error) => {
                    return Err(format!(
                        "{error} instead of a head, after {}",
                        brief(&bytes)
                    ));
                }
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An answer's head.
    #[track_caller]
    pub fn answer_head(&mut self) -> Answer {
        Answer::new(self.head())
    }

    /// A whole answer that ends with the connection.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = Answer::new(self.head());
        answer.body = self.rest_in_order();
        answer
    }

    /// These bytes are read again, before all others.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.pending.splice(0..0, bytes.iter().copied());
    }

    /// No more will be sent; the other direction stays.
    pub fn finish(&mut self) {
        match &mut self.link {
            Link::Tcp(tcp) => tcp.shutdown(Shutdown::Write).expect("to half-close"),
            #[cfg(feature = "tls")]
            Link::Tls(tls) => {
                tls.shutdown().expect("to send close_notify");
            }
        }
    }

    /// Cuts the connection so that the other side sees a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(self.tcp(), Some(Duration::ZERO))
            .expect("SO_LINGER");
    }
}

fn set_up(tcp: &TcpStream) {
    tcp.set_read_timeout(Some(BOUND)).unwrap();
    tcp.set_write_timeout(Some(BOUND)).unwrap();
    // A Unix socket that poses as one of TCP has no such address, and nothing to be set.
    if tcp.peer_addr().is_ok() {
        tcp.set_nodelay(true).unwrap();
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if self.pending.is_empty() {
            if bytes.len() >= 4096 {
                return self.link.read(bytes);
            }
            let mut chunk = [0; 4096];
            let count = self.link.read(&mut chunk)?;
            self.pending.extend_from_slice(&chunk[..count]);
        }
        let count = bytes.len().min(self.pending.len());
        bytes[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.link {
            Link::Tcp(tcp) => tcp.write(bytes),
            #[cfg(feature = "tls")]
            Link::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.read(bytes),
        }
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head as received.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn new(head: String) -> Self {
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("not a status line: {head:?}")),
            head,
            body: Vec::new(),
        }
    }

    /// The values of all fields of this name, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}{}",
            self.head,
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

/// The values of all fields of this name in a head, joined by `, `.
pub fn field(head: &str, name: &str) -> Option<String> {
    let values: Vec<&str> = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Bytes as a message can show them.
pub fn brief(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(300)];
    format!("{} bytes \"{}\"", bytes.len(), shown.escape_ascii())
}
