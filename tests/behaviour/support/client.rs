//! A WebSocket client that sends exactly what it is told to.

use super::wire::{Answer, Wire};
use super::{BOUND, Proxy};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use tungstenite::{Message, WebSocket};

/// The key of every handshake here, and what a server has to make of it (RFC 6455 section 1.3).
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A client's connection to the proxy.
#[derive(Debug)]
pub struct Client(Wire);

impl Client {
    /// Connects, and says nothing yet.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect_timeout(&address, BOUND).expect("to connect to the proxy");
        Self(Wire::new(tcp))
    }

    /// A connection that the test has made for itself.
    pub fn over(tcp: TcpStream) -> Self {
        Self(Wire::new(tcp))
    }

    /// A connection whose TLS the test has made for itself.
    #[cfg(feature = "tls")]
    pub fn over_tls(tls: openssl::ssl::SslStream<TcpStream>) -> Self {
        Self(Wire::new_tls(tls))
    }

    /// Connects, and sends these bytes.
    #[track_caller]
    pub fn sending(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Self {
        let mut client = Self::connect(proxy.address());
        client.send(bytes);
        client
    }

    /// Connects, and asks for a WebSocket at `path`; the answer has yet to be read.
    #[track_caller]
    pub fn asking(proxy: &Proxy, path: &str) -> Self {
        Self::sending(proxy, request(path))
    }

    /// A tunnel to `path`, as far as the 101.
    #[track_caller]
    pub fn tunnel(proxy: &Proxy, path: &str) -> Self {
        let mut client = Self::asking(proxy, path);
        client.switched();
        client
    }

    /// Reads the 101.
    #[track_caller]
    pub fn switched(&mut self) -> Answer {
        let answer = self.answer_head().expect_status(101);
        assert_eq!(
            answer.field("Sec-WebSocket-Accept").as_deref(),
            Some(ACCEPT)
        );
        answer
    }

    /// A tunnel to `path` that speaks in messages.
    #[track_caller]
    pub fn messages(proxy: &Proxy, path: &str) -> WebSocket<Self> {
        let client = Self::connect(proxy.address());
        let url = format!("ws://{}{path}", proxy.address());
        tungstenite::client(url, client)
            .expect("a WebSocket handshake")
            .0
    }

    /// Cuts the connection so that the other side sees a reset.
    pub fn reset(self) {
        self.0.reset();
    }

    /// Sends a text of its own over an echoing tunnel, and reads it back.
    #[track_caller]
    pub fn echo(&mut self, text: &str) {
        self.send(frame(text.as_bytes(), Some([1, 2, 3, 4])));
        self.expect(frame(text.as_bytes(), None));
    }
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl std::io::Read for Client {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl std::io::Write for Client {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// An ordinary WebSocket request.
pub fn request(path: &str) -> String {
    request_with(path, "")
}

/// An ordinary WebSocket request with further field lines, each with its line end.
pub fn request_with(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: front.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// The 101 that answers [`request`].
pub fn switch() -> String {
    switch_with("")
}

/// The 101 with further field lines, each with its line end.
pub fn switch_with(fields: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{fields}\r\n"
    )
}

/// One whole text frame (RFC 6455 section 5.2), masked as a client has to.
pub fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x81];
    match payload.len() {
        short @ 0..=125 => bytes.push(masked | u8::try_from(short).unwrap()),
        middle @ 126..=65_535 => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    match mask {
        None => bytes.extend_from_slice(payload),
        Some(mask) => {
            bytes.extend_from_slice(&mask);
            bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        }
    }
    bytes
}

/// A Close frame with the status 1000 (RFC 6455 section 5.5.1).
pub fn close_frame(mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame(&1000_u16.to_be_bytes(), mask);
    bytes[0] = 0x88;
    bytes
}

/// Sends `message`, and expects it back.
#[track_caller]
pub fn echoes(socket: &mut WebSocket<Client>, message: &Message) {
    socket.send(message.clone()).expect("to send a message");
    let found = socket.read().expect("a message");
    assert!(found == *message, "another message came back");
}
