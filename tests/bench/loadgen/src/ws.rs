//! The WebSocket protocol (RFC 6455), as far as both ends of a measured tunnel need it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The first byte of a frame: the last of its message, and its opcode.
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
const OPCODE: u8 = 0x0f;

/// Which end of the connection sends. A client has to mask its frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// A `Sec-WebSocket-Key`, another for each number.
pub fn key(number: u64) -> String {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    nonce[8..].copy_from_slice(&number.to_le_bytes());
    STANDARD.encode(nonce)
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub fn accept_for(key: &str) -> String {
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key.as_bytes());
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(sha.digest().bytes())
}

/// Length of the head at the beginning of `data` including its empty line, if it is whole.
pub fn head_length(data: &[u8]) -> Option<usize> {
    data.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|place| place + 4)
}

/// The value of the field `name` in a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim())
    })
}

/// Appends a frame's header. A client's carries the all-zero masking key: valid framing, and masking costs neither end
/// anything.
pub fn put_header(out: &mut Vec<u8>, first: u8, length: u64, sender: Sender) {
    let is_masked = sender == Sender::Client;
    let mask_bit = if is_masked { 0x80 } else { 0 };
    out.push(first);
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    if is_masked {
        out.extend_from_slice(&[0; 4]);
    }
}

/// Some equal binary frames, to be written over and over.
pub fn frame_train(size: usize, sender: Sender) -> Vec<u8> {
    let mut train = Vec::new();
    while train.len() < 256 * 1024 {
        put_header(&mut train, BINARY, size as u64, sender);
        train.resize(train.len() + size, b'x');
    }
    train
}

/// What a byte stream consists of.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Header {
        first: u8,
        length: u64,
    },
    /// Part of a frame's payload; `last` ends the frame.
    Payload {
        data: &'a [u8],
        last: bool,
    },
}

/// Splits a byte stream into frames without holding payload back.
///
/// Payload is not unmasked: the only client sends the all-zero key, so that it can be compared and counted as it is.
#[derive(Default)]
pub struct Parser {
    header: [u8; 14],
    have: usize,
    in_payload: bool,
    remaining: u64,
}

impl Parser {
    /// Takes the next piece off the front of `input`; `None` when it is used up.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.in_payload {
            if input.is_empty() && self.remaining > 0 {
                return None;
            }
            let here = self.remaining.min(input.len() as u64) as usize;
            let data = input.split_off(..here)?;
            self.remaining -= here as u64;
            self.in_payload = self.remaining > 0;
            let last = !self.in_payload;
            return Some(Piece::Payload { data, last });
        }
        while self.have < self.header_length() {
            self.header[self.have] = *input.split_off_first()?;
            self.have += 1;
        }
        let length = match self.extended() {
            0 => u64::from(self.header[1] & 0x7f),
            bytes => self.header[2..2 + bytes]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        self.have = 0;
        self.remaining = length;
        self.in_payload = true;
        let first = self.header[0];
        Some(Piece::Header { first, length })
    }

    /// Bytes of the header behind its first two that hold the length.
    fn extended(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.extended() + mask
    }
}

/// Whether the frame that begins with this byte closes the connection.
pub fn is_close(first: u8) -> bool {
    first & OPCODE == CLOSE & OPCODE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept_for("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_are_found_across_any_split() {
        let mut wire = Vec::new();
        for size in [5, 126, 70_000] {
            put_header(&mut wire, BINARY, size, Sender::Client);
            wire.resize(wire.len() + size as usize, b'x');
        }
        put_header(&mut wire, CLOSE, 0, Sender::Server);
        for cut in (0..200).chain([wire.len() - 1, wire.len()]) {
            let (mut parser, mut lengths, mut payload, mut ended) =
                (Parser::default(), Vec::new(), 0, 0);
            for mut part in [&wire[..cut], &wire[cut..]] {
                while let Some(piece) = parser.next(&mut part) {
                    match piece {
                        Piece::Header { length, .. } => lengths.push(length),
                        Piece::Payload { data, last } => {
                            payload += data.len();
                            ended += usize::from(last);
                        }
                    }
                }
            }
            assert_eq!(lengths, [5, 126, 70_000, 0]);
            assert_eq!((payload, ended), (70_131, 4));
        }
    }
}
