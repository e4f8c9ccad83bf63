//! Where WebSocket frames begin and end in a stream of bytes (RFC 6455, section 5.2). Only their headers are looked
//! at, in constant space and over any split of the stream; and the payload of a Close, which has 125 bytes at the most.
//!
//! A stream that does not keep to the framing is no longer followed: it passes unchanged, but nobody knows any more
//! where something could be put between its frames.

#![deny(clippy::indexing_slicing)]

/// The longest header: two bytes, a length of eight, a masking key of four.
pub const LONGEST_HEADER: usize = 14;
/// The longest payload of a control frame.
const CONTROL_PAYLOAD: usize = 125;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0F;
const CONTROL: u8 = 0x08;
const CLOSE: u8 = 0x08;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// Who sends the frames: a client has to mask them, and a server must not (RFC 6455, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The side that asked for the WebSocket.
    Client,
    /// The side that agreed.
    Server,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a header, of which this many bytes have come; 0 is the boundary between two frames.
    Header(u8),
    /// In a payload, of which this many bytes are still to come; never 0.
    Payload(u64),
    /// In that of the first Close frame, as `Payload`.
    Close(u8),
    /// The stream is not, or no longer, followed.
    Lost,
}

/// Follows the frames of one direction.
#[derive(Debug, Clone)]
pub struct FrameTracker {
    state: State,
    header: [u8; LONGEST_HEADER],
    sender: Sender,
    /// The header of a Close frame has come.
    closes: bool,
    counts: Counts,
    /// What has come of the first Close frame's payload; nothing before there was any.
    heard: Option<Box<Heard>>,
}

/// The payload of a Close frame as far as it has come, unmasked.
#[derive(Debug, Clone)]
struct Heard {
    length: usize,
    bytes: [u8; CONTROL_PAYLOAD],
}

/// What has come of the frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames whose header has come, Ping, Pong and Close among them.
    pub frames: u64,
    /// Messages, text or binary, the header of whose last frame has come.
    pub messages: u64,
}

/// What a Close frame says (RFC 6455, section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// None where it gives none: RFC 6455 calls that 1005.
    pub code: Option<u16>,
    /// What stands behind the code: text, if the sender keeps to the standard; at most 123 bytes.
    pub reason: Vec<u8>,
}

impl FrameTracker {
    /// Stands before the first frame of `sender`.
    pub fn new(sender: Sender) -> Self {
        Self {
            state: State::Header(0),
            header: [0; LONGEST_HEADER],
            sender,
            closes: false,
            counts: Counts::default(),
            heard: None,
        }
    }

    /// For a stream that is no WebSocket's.
    pub fn unfollowed() -> Self {
        Self {
            state: State::Lost,
            ..Self::new(Sender::Client)
        }
    }

    /// The stream stands between two frames.
    pub fn is_at_boundary(&self) -> bool {
        self.state == State::Header(0)
    }

    /// The stream has not kept to the framing, or never was a WebSocket's.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// The stream is followed, and no Close frame has passed (RFC 6455, section 5.5.1), at least not whole.
    pub fn lacks_close(&self) -> bool {
        match self.state {
            State::Header(_) => !self.closes,
            State::Payload(_) | State::Close(_) => true,
            State::Lost => false,
        }
    }

    /// What has come so far; nothing where the stream is not followed.
    pub fn counts(&self) -> Option<Counts> {
        (self.state != State::Lost).then_some(self.counts)
    }

    /// What the first Close frame says, as far as it has come. Nothing if none has.
    pub fn close(&self) -> Option<Close> {
        if !self.closes {
            return None;
        }
        let heard = self.heard.as_deref();
        let heard = heard.and_then(|heard| heard.bytes.get(..heard.length));
        let (code, reason) = match heard.unwrap_or_default() {
            [high, low, reason @ ..] => (Some(u16::from_be_bytes([*high, *low])), reason.to_vec()),
            _ => (None, Vec::new()),
        };
        Some(Close { code, reason })
    }

    /// How many bytes can pass before the next has to be seen.
    pub fn unseen(&self) -> u64 {
        match self.state {
            State::Header(_) | State::Close(_) => 0,
            State::Payload(left) => left,
            State::Lost => u64::MAX,
        }
    }

    /// Notes that `count` bytes have passed which nobody has seen, at most [`unseen`](Self::unseen).
    pub fn pass_unseen(&mut self, count: u64) {
        match self.state {
            State::Payload(left) if count < left => self.state = State::Payload(left - count),
            State::Payload(left) if count == left => self.state = State::Header(0),
            State::Lost => {}
            State::Header(_) | State::Close(_) if count == 0 => {}
            State::Header(_) | State::Payload(_) | State::Close(_) => self.state = State::Lost,
        }
    }

    /// Notes that `bytes` have passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Lost => return,
                State::Payload(left) => {
                    let passed = left.min(bytes.len() as u64);
                    self.pass_unseen(passed);
                    let passed = usize::try_from(passed).unwrap_or(bytes.len());
                    bytes = bytes.get(passed..).unwrap_or_default();
                }
                State::Close(left) => {
                    let (of_close, behind) =
                        bytes.split_at_checked(left.into()).unwrap_or((bytes, &[]));
                    self.hear_close(of_close, left);
                    bytes = behind;
                }
                State::Header(filled) => {
                    let taken = self.take_header(usize::from(filled), bytes);
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
            }
        }
    }

    /// Adds what `bytes` hold of a header to its first `filled` bytes. Says how many that were.
    fn take_header(&mut self, filled: usize, bytes: &[u8]) -> usize {
        let room = self.header.get_mut(filled..).unwrap_or_default();
        let copied = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        let known = self.header.get(..filled + copied).unwrap_or_default();
        let [first, second, ..] = *known else {
            self.state = in_header(known.len());
            return copied;
        };
        let length = header_length(second);
        if known.len() < length {
            self.state = in_header(known.len());
            return copied;
        }
        let opcode = first & OPCODE;
        let payload = payload(first, second, known, self.sender);
        self.state = match payload {
            _ if opcode == CLOSE => self.begin_close(payload),
            Some(0) => State::Header(0),
            Some(payload) => State::Payload(payload),
            None => State::Lost,
        };
        self.counts.frames += 1;
        self.counts.messages += u64::from(opcode < CONTROL && first & FIN != 0);
        length - filled
    }

    /// The header of a Close frame has come. Says what follows.
    #[cold]
    fn begin_close(&mut self, payload: Option<u64>) -> State {
        let is_first = !std::mem::replace(&mut self.closes, true);
        match payload {
            Some(0) => State::Header(0),
            Some(payload) => match u8::try_from(payload) {
                Ok(payload) if is_first => State::Close(payload),
                _ => State::Payload(payload),
            },
            None => State::Lost,
        }
    }

    /// Keeps what has come of a Close frame's payload, `bytes` of the `left` that are still to come.
    #[cold]
    fn hear_close(&mut self, bytes: &[u8], left: u8) {
        let [_, second, ..] = self.header;
        let length = header_length(second);
        let key = if second & MASK == 0 {
            [0; 4]
        } else {
            let key = self.header.get(length.saturating_sub(4)..length);
            key.and_then(|key| key.try_into().ok()).unwrap_or_default()
        };
        let heard = self.heard.get_or_insert_with(|| {
            Box::new(Heard {
                length: 0,
                bytes: [0; CONTROL_PAYLOAD],
            })
        });
        let keys = key.iter().cycle().skip(heard.length % 4);
        let room = heard.bytes.get_mut(heard.length..).unwrap_or_default();
        for ((to, from), key) in room.iter_mut().zip(bytes).zip(keys) {
            *to = from ^ key;
            heard.length += 1;
        }
        let taken = u8::try_from(bytes.len()).unwrap_or(left);
        self.state = match left.saturating_sub(taken) {
            0 => State::Header(0),
            left => State::Close(left),
        };
    }
}

fn in_header(filled: usize) -> State {
    // A header is never longer than 14 bytes.
    State::Header(u8::try_from(filled).unwrap_or(u8::MAX))
}

/// How long a header is, from its second byte.
fn header_length(second: u8) -> usize {
    let extended = match second & LENGTH {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let key = if second & MASK == 0 { 0 } else { 4 };
    2 + extended + key
}

/// The length of the payload behind a whole header; nothing where it breaks the framing. The RSV bits are the
/// extensions' affair; no extension has ever taken an opcode.
fn payload(first: u8, second: u8, header: &[u8], sender: Sender) -> Option<u64> {
    let extended = |bytes: usize| {
        header
            .iter()
            .skip(2)
            .take(bytes)
            .fold(0_u64, |length, byte| length << 8 | u64::from(*byte))
    };
    let (length, least) = match second & LENGTH {
        126 => (extended(2), 126),
        127 => (extended(8), 0x1_0000),
        length => (u64::from(length), 0),
    };
    let is_known = matches!(first & OPCODE, 0..=2 | 8..=10);
    let is_control = first & OPCODE >= CONTROL;
    let is_whole = first & FIN != 0;
    let is_masked = second & MASK != 0;
    let keeps_to_it = (least..=i64::MAX as u64).contains(&length)
        && is_known
        && is_masked == (sender == Sender::Client)
        && (!is_control || is_whole && length <= CONTROL_PAYLOAD as u64);
    keeps_to_it.then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as RFC 6455 has it, in the shortest form.
    fn frame(first: u8, payload: usize, sender: Sender) -> Vec<u8> {
        let mask = if sender == Sender::Client { MASK } else { 0 };
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        if mask != 0 {
            bytes.extend([1, 2, 3, 4]);
        }
        // Looks like headers, so that a tracker that loses its way is found out.
        bytes.extend((0..payload).map(|i| [0x82, 0xFE, 0xFF, 0x00][i % 4]));
        bytes
    }

    const SIZES: [usize; 9] = [0, 1, 125, 126, 127, 300, 0xFFFF, 0x1_0000, 70_000];

    #[test]
    fn a_boundary_is_where_a_frame_ends_and_nowhere_else() {
        for sender in [Sender::Client, Sender::Server] {
            for size in SIZES {
                let bytes = frame(0x82, size, sender);
                let mut tracker = FrameTracker::new(sender);
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(tracker.is_at_boundary(), at == 0, "{size} at {at}");
                    tracker.pass(std::slice::from_ref(byte));
                }
                assert!(tracker.is_at_boundary(), "{size}");
            }
        }
    }

    #[test]
    fn any_split_of_a_stream_leads_to_the_same_place() {
        let sender = Sender::Client;
        let stream: Vec<u8> = SIZES
            .iter()
            .flat_map(|size| frame(0x81, *size, sender))
            .chain(frame(0x01, 200, sender).into_iter().take(50))
            .collect();
        let mut whole = FrameTracker::new(sender);
        whole.pass(&stream);
        assert_eq!(whole.unseen(), 158);
        for step in 1..100 {
            let mut tracker = FrameTracker::new(sender);
            stream.chunks(step).for_each(|chunk| tracker.pass(chunk));
            assert_eq!(tracker.state, whole.state, "in steps of {step}");
        }
    }

    #[test]
    fn payload_may_pass_unseen_as_far_as_it_is_announced() {
        let bytes = frame(0x82, 70_000, Sender::Server);
        let mut tracker = FrameTracker::new(Sender::Server);
        tracker.pass(bytes.get(..10).unwrap());
        assert_eq!(tracker.unseen(), 70_000);
        tracker.pass_unseen(60_000);
        tracker.pass(bytes.get(60_010..60_020).unwrap());
        assert_eq!(tracker.unseen(), 9_990);
        tracker.pass_unseen(9_990);
        assert!(tracker.is_at_boundary());
        tracker.pass_unseen(1);
        assert!(tracker.is_lost());
    }

    #[test]
    fn a_stream_that_breaks_the_framing_is_no_longer_followed() {
        let breaks: [(&str, Sender, &[u8]); 8] = [
            ("a client that does not mask", Sender::Client, &[0x82, 1]),
            (
                "a server that masks",
                Sender::Server,
                &[0x82, 0x81, 1, 2, 3, 4],
            ),
            ("a ping in pieces", Sender::Server, &[0x09, 0]),
            ("a long close", Sender::Server, &[0x88, 126, 0, 126]),
            (
                "a length of 64 bits with the first one set",
                Sender::Server,
                &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                "a length of 16 bits that fits into 7",
                Sender::Server,
                &[0x82, 126, 0, 125],
            ),
            (
                "a length of 64 bits that fits into 16",
                Sender::Server,
                &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            ),
            ("another protocol", Sender::Server, b"SSH-2.0-x\r\n"),
        ];
        for (what, sender, bytes) in breaks {
            let mut tracker = FrameTracker::new(sender);
            tracker.pass(bytes);
            assert!(tracker.is_lost(), "{what}");
            tracker.pass(&frame(0x82, 5, sender));
            tracker.pass_unseen(7);
            assert!(tracker.is_lost() && !tracker.is_at_boundary(), "{what}");
        }
    }

    #[test]
    fn a_close_frame_has_passed_with_its_last_byte_however_it_is_split() {
        for sender in [Sender::Client, Sender::Server] {
            for payload in [0, 2, 125] {
                let mut stream = Vec::new();
                // What looks like a Close inside of a payload is none, nor is another control frame.
                for first in [0x82, 0x89, 0x8A] {
                    stream.extend(frame(first, 20, sender));
                }
                stream.extend([0x81, if sender == Sender::Client { 0x82 } else { 2 }]);
                stream.extend(
                    [0; 4]
                        .iter()
                        .take(4 * usize::from(sender == Sender::Client)),
                );
                stream.extend([0x88, 0]);
                let before = stream.len();
                stream.extend(frame(0x88, payload, sender));
                for step in 1..stream.len() {
                    let mut tracker = FrameTracker::new(sender);
                    let mut passed = 0;
                    for chunk in stream.chunks(step) {
                        tracker.pass(chunk);
                        passed += chunk.len();
                        assert_eq!(
                            tracker.lacks_close(),
                            passed < stream.len(),
                            "{passed} of {before} and {payload} in steps of {step}"
                        );
                    }
                }
            }
        }
    }

    /// A Close of `sender` that says this.
    fn close(sender: Sender, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(0x88, payload.len(), sender);
        let start = bytes.len() - payload.len();
        let keys = [1, 2, 3, 4].into_iter().cycle();
        for ((to, from), key) in bytes.iter_mut().skip(start).zip(payload).zip(keys) {
            *to = from ^ if sender == Sender::Client { key } else { 0 };
        }
        bytes
    }

    #[test]
    fn what_a_close_says_is_known_however_it_is_split() {
        let longest = [&[0x03, 0xE8][..], &[b'x'; 123]].concat();
        for sender in [Sender::Client, Sender::Server] {
            for (payload, code, reason) in [
                (&b""[..], None, &b""[..]),
                (b"\x03", None, b""),
                (b"\x03\xE9", Some(1001), b""),
                (
                    b"\x0F\xA0going \xF0\x9F\x91\x8B",
                    Some(4000),
                    b"going \xF0\x9F\x91\x8B",
                ),
                (&longest, Some(1000), &[b'x'; 123]),
            ] {
                let mut stream = frame(0x81, 300, sender);
                stream.extend(close(sender, payload));
                let before = stream.len();
                // Only the first counts.
                stream.extend(close(sender, b"\x0B\xB8too late"));
                stream.extend(frame(0x82, 5, sender));
                let said = Close {
                    code,
                    reason: reason.to_vec(),
                };
                for step in 1..before + 1 {
                    let mut tracker = FrameTracker::new(sender);
                    stream.chunks(step).for_each(|chunk| tracker.pass(chunk));
                    assert_eq!(tracker.close(), Some(said.clone()), "in steps of {step}");
                    assert!(tracker.is_at_boundary());
                }
            }
        }
    }

    #[test]
    fn of_a_close_that_is_cut_off_is_known_what_has_come() {
        let mut tracker = FrameTracker::new(Sender::Client);
        assert_eq!(tracker.close(), None);
        let bytes = close(Sender::Client, b"\x03\xE8bye");
        tracker.pass(bytes.get(..9).unwrap());
        let said = tracker.close().unwrap();
        assert_eq!((said.code, &*said.reason), (Some(1000), &b"b"[..]));
        assert!(tracker.lacks_close(), "it is not whole");
        assert_eq!(tracker.unseen(), 0, "the rest has to be seen");
    }

    #[test]
    fn frames_and_messages_are_counted() {
        let sender = Sender::Server;
        let mut tracker = FrameTracker::new(sender);
        // A text in three pieces with a ping inside, a binary message, a pong, a Close.
        for first in [0x01, 0x00, 0x89, 0x80, 0x82, 0x8A, 0x88] {
            tracker.pass(&frame(first, 2, sender));
        }
        let counts = Counts {
            frames: 7,
            messages: 2,
        };
        assert_eq!(tracker.counts(), Some(counts));
        assert_eq!(FrameTracker::unfollowed().counts(), None);
        tracker.pass(&[0x8F, 0]);
        assert_eq!(tracker.counts(), None, "nobody knows any more");
    }

    #[test]
    fn of_a_stream_that_is_not_followed_nobody_says_that_it_lacks_a_close() {
        assert!(FrameTracker::new(Sender::Server).lacks_close());
        assert!(!FrameTracker::unfollowed().lacks_close());
        let mut tracker = FrameTracker::new(Sender::Server);
        tracker.pass(b"SSH-2.0-x\r\n");
        assert!(!tracker.lacks_close());
        let mut tracker = FrameTracker::new(Sender::Server);
        tracker.pass(&frame(0x88, 2, Sender::Server));
        tracker.pass(&frame(0x8F, 2, Sender::Server));
        assert!(!tracker.lacks_close());
    }

    #[test]
    fn extensions_may_use_their_bits_and_fragments_their_order() {
        let mut tracker = FrameTracker::new(Sender::Server);
        for first in [0x41, 0xC1, 0x01, 0x00, 0x89, 0x80, 0xE2, 0x8A, 0x88] {
            tracker.pass(&frame(first, 20, Sender::Server));
            assert!(tracker.is_at_boundary(), "{first:#x}");
        }
    }
}
