//! Messages that come back: what is sent, and whether it is what returns.

use crate::client::Conn;
use crate::ws::{self, Sender};
use std::io;
use std::time::Instant;

/// The messages of some tunnels, of one size, each tunnel with one under way at a time.
pub struct PingPong {
    pattern: Pattern,
    size: usize,
    header: Vec<u8>,
    pings: Vec<Ping>,
}

/// One tunnel's message.
#[derive(Clone, Copy, Default)]
struct Ping {
    number: u64,
    received: usize,
    sent: Option<Instant>,
}

/// What has come of an echo.
pub enum Pong {
    Waiting,
    /// All of it. Its message was sent then.
    Complete(Instant),
}

impl PingPong {
    pub fn new(conns: usize, size: usize) -> Self {
        let mut header = Vec::new();
        ws::put_header(&mut header, ws::BINARY, size as u64, Sender::Server);
        Self {
            pattern: Pattern::new(size),
            size,
            header,
            pings: vec![Ping::default(); conns],
        }
    }

    /// Sends the tunnel's next message.
    pub fn send(&mut self, index: usize, conn: &mut Conn) -> io::Result<()> {
        let ping = &mut self.pings[index];
        *ping = Ping {
            number: ping.number + 1,
            received: 0,
            sent: Some(Instant::now()),
        };
        ws::put_header(&mut conn.out, ws::BINARY, self.size as u64, Sender::Client);
        let payload = self.pattern.payload(index, ping.number, self.size);
        conn.out.extend_from_slice(payload);
        conn.send_out()
    }

    /// Reads the echo and compares every byte of it.
    pub fn receive(
        &mut self,
        index: usize,
        conn: &mut Conn,
        buffer: &mut [u8],
    ) -> io::Result<Pong> {
        conn.send_out()?;
        let ping = &mut self.pings[index];
        loop {
            let received = match conn.read(buffer)? {
                None => return Ok(Pong::Waiting),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(received) => received,
            };
            let Some(sent) = ping.sent else {
                return Err(io::Error::other("unasked data"));
            };
            let payload = self.pattern.payload(index, ping.number, self.size);
            let header_left = self.header.get(ping.received..).unwrap_or_default();
            let (header, body) = buffer[..received].split_at(header_left.len().min(received));
            let place = (ping.received + header.len()).saturating_sub(self.header.len());
            let expected = payload.get(place..place + body.len());
            if !header_left.starts_with(header) || expected != Some(body) {
                return Err(io::Error::other("the echo differs"));
            }
            ping.received += received;
            if ping.received == self.header.len() + self.size {
                ping.sent = None;
                return Ok(Pong::Complete(sent));
            }
            if received < buffer.len() {
                return Ok(Pong::Waiting);
            }
        }
    }

    /// Whether the tunnel has a message under way.
    pub fn is_waiting(&self, index: usize) -> bool {
        self.pings[index].sent.is_some()
    }
}

/// Payload bytes that differ from message to message and from tunnel to tunnel.
struct Pattern(Vec<u8>);

impl Pattern {
    const PERIOD: usize = 4093;

    fn new(size: usize) -> Self {
        // xorshift64: what the bytes are matters to nobody, if only they differ.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let bytes = (0..size + Self::PERIOD).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        Self(bytes.collect())
    }

    fn payload(&self, conn: usize, number: u64, size: usize) -> &[u8] {
        let start = (conn.wrapping_mul(31) + number as usize * 17) % Self::PERIOD;
        &self.0[start..start + size]
    }
}
