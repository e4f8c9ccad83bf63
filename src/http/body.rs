//! Where a body ends (RFC 9112 sections 6 and 7), taking one apart as it arrives, and writing it anew: what one side sent
//! as framing never reaches the other.

use super::head::{self, HeadError, RequestHead, ResponseHead, Version};
use super::headers::Headers;
use std::fmt;
use std::io::Write;

/// The most bytes that the extensions of one chunk, or all trailer fields together, may have.
const MAX_UNREAD: usize = 8192;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, whatever the head says.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection ends.
    UntilClose,
}

impl Framing {
    /// How the body of an answer to a request with `method` ends (RFC 9112 section 6.3, in its order).
    ///
    /// # Errors
    /// Where the RFC lets a recipient choose between two readings, neither is taken.
    pub fn of_answer(method: &str, head: &ResponseHead) -> Result<Self, BodyError> {
        // 1. Answers to HEAD, and those with such a status, have no body.
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Self::Empty);
        }
        // 2. Answers to CONNECT: no such request gets this far (`HeadError::Connect`).
        // 3. to 6. What the head declares.
        // 8. Otherwise it ends with the connection. (7 is about requests.)
        Ok(declared(&head.headers, head.version)?.unwrap_or(Self::UntilClose))
    }

    /// How the body of a request ends (RFC 9112 section 6.3): one that declares nothing has none.
    ///
    /// # Errors
    /// [`HeadError::Body`], where the end of the body is in doubt. A parsed head never gets it: it was asked already.
    pub fn of_request(head: &RequestHead) -> Result<Self, HeadError> {
        let declared = declared(&head.headers, head.version)?;
        Ok(declared.unwrap_or(Self::Empty))
    }

    /// Whether there is a byte of body to come, or may be.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::Empty | Self::Length(0))
    }

    /// The length that an answer without a body announces: that of the body which GET would have got (RFC 9110 section 8.6).
    pub fn announced(head: &ResponseHead) -> Option<u64> {
        match declared(&head.headers, head.version) {
            Ok(Some(Self::Length(length))) if head.status != 204 => Some(length),
            _ => None,
        }
    }
}

/// What `Transfer-Encoding` and `Content-Length` say together.
fn declared(headers: &Headers, version: Version) -> Result<Option<Framing>, BodyError> {
    let mut lengths = headers.all("Content-Length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(BodyError::LengthRepeated);
    }
    if headers.first("Transfer-Encoding").is_none() {
        return match length {
            Some(value) => parse_length(value).map(|length| Some(Framing::Length(length))),
            None => Ok(None),
        };
    }
    if length.is_some() {
        return Err(BodyError::LengthAndCoding);
    }
    if version == Version::Http10 {
        return Err(BodyError::CodingInHttp10);
    }
    let mut codings = headers.tokens("Transfer-Encoding");
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(BodyError::Coding),
    }
}

/// Only digits: no sign, no list, nothing beyond 64 bits.
fn parse_length(value: &[u8]) -> Result<u64, BodyError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or(BodyError::Length)
}

/// Why the end of a body cannot be known, or is not where the head said. RFC 9112.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Section 6.2: a `Content-Length` that is no number.
    Length,
    /// Section 6.3: several `Content-Length`, the same or not.
    LengthRepeated,
    /// Section 6.3: `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// Section 6.1: `Transfer-Encoding` in HTTP/1.0.
    CodingInHttp10,
    /// Section 6.1: a `Transfer-Encoding` other than `chunked` alone.
    Coding,
    /// Section 7.1: a chunk size that is no hexadecimal number of 64 bits, or not ended as it must be.
    ChunkSize,
    /// Section 7.1: no CR LF behind the data of a chunk.
    ChunkEnd,
    /// Sections 7.1.1 and 7.1.2: an extension or a trailer with a control character, or lines ended otherwise than by CR LF.
    Unread,
    /// Extensions or trailers that are longer than 8 KiB.
    UnreadTooLong,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the Content-Length is not a number",
            Self::LengthRepeated => "there is more than one Content-Length",
            Self::LengthAndCoding => "there are both Content-Length and Transfer-Encoding",
            Self::CodingInHttp10 => "there is a Transfer-Encoding in an HTTP/1.0 message",
            Self::Coding => "the Transfer-Encoding is not \"chunked\"",
            Self::ChunkSize => "a chunk does not begin with its size",
            Self::ChunkEnd => "a chunk does not end where its size says",
            Self::Unread => "a chunk extension or a trailer field is malformed",
            Self::UnreadTooLong => {
                return write!(
                    f,
                    "chunk extensions or trailer fields are longer than {MAX_UNREAD} bytes"
                );
            }
        })
    }
}

impl std::error::Error for BodyError {}

/// Takes a body apart as it arrives: payload from framing. Chunk extensions are dropped, trailer fields too unless they are
/// asked for.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    /// Bytes of the state that are still to come (`Sized`, `ChunkData`) or the size as far as it is known (`Size`).
    left: u64,
    /// Bytes of extensions or trailers that have been skipped.
    unread: usize,
    /// The lines of the trailer section, where somebody wants them.
    trailers: Option<Vec<u8>>,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A body with a length.
    Sized,
    UntilClose,
    /// The size of a chunk, before its first digit.
    SizeStart,
    Size,
    Extension,
    /// The LF behind the size or the extensions.
    SizeLf,
    ChunkData,
    ChunkCr,
    ChunkLf,
    /// The first byte of a trailer field, or the CR of the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Complete,
}

impl BodyReader {
    /// A reader at the beginning of a body.
    pub fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::Empty | Framing::Length(0) => (State::Complete, 0),
            Framing::Length(length) => (State::Sized, length),
            Framing::Chunked => (State::SizeStart, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Self {
            state,
            left,
            unread: 0,
            trailers: None,
        }
    }

    /// The same, and trailer fields are kept.
    #[must_use]
    pub fn keeping_trailers(mut self) -> Self {
        self.trailers = Some(Vec::new());
        self
    }

    /// The trailer fields of a complete body, where they were kept.
    ///
    /// # Errors
    /// A line among them is no field.
    pub fn trailers(&self) -> Result<Headers, BodyError> {
        match self.trailers.as_deref() {
            None | Some([]) => Ok(Headers::default()),
            Some(lines) => head::fields(lines).map_err(|_| BodyError::Unread),
        }
    }

    /// Reads on in `input`: how many of its bytes were consumed, and the payload among them, which are always the last
    /// ones. To be called again with what is left, until that is empty or the body complete. What is behind a complete
    /// body is never consumed.
    ///
    /// # Errors
    /// The chunk framing is broken: there is no way to know where the body goes on.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<(usize, &'a [u8]), BodyError> {
        let mut consumed = 0;
        let mut rest = input;
        loop {
            match self.state {
                State::Complete => break,
                State::UntilClose => return Ok((input.len(), rest)),
                State::Sized | State::ChunkData => {
                    let length = usize::try_from(self.left).unwrap_or(usize::MAX);
                    let payload = rest.get(..length).unwrap_or(rest);
                    self.left = self.left.saturating_sub(count(payload));
                    if self.left == 0 {
                        self.state = match self.state {
                            State::Sized => State::Complete,
                            _ => State::ChunkCr,
                        };
                    }
                    return Ok((consumed + payload.len(), payload));
                }
                _ => {}
            }
            let Some((byte, behind)) = rest.split_first() else {
                break;
            };
            self.state = self.step(*byte)?;
            if let (State::Trailer | State::TrailerLf | State::TrailerStart, Some(lines)) =
                (self.state, &mut self.trailers)
                && !(*byte == b'\n' && lines.is_empty())
            {
                lines.push(*byte);
            }
            consumed += 1;
            rest = behind;
        }
        Ok((consumed, &[]))
    }

    /// Whether the whole body was read.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the connection may end here: the body is complete, or ends with the connection.
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Complete | State::UntilClose)
    }

    /// The state behind a byte of chunk framing.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::SizeStart, _) if byte.is_ascii_hexdigit() => {
                self.left = 0;
                self.unread = 0;
                self.add_digit(byte)
            }
            (State::Size, _) if byte.is_ascii_hexdigit() => self.add_digit(byte),
            (State::Size, b';') => self.skip(State::Extension),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::SizeLf, b'\n') if self.left == 0 => {
                self.unread = 0;
                Ok(State::TrailerStart)
            }
            (State::SizeLf, b'\n') => Ok(State::ChunkData),
            (State::SizeStart | State::Size | State::SizeLf, _) => Err(BodyError::ChunkSize),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::SizeStart),
            (State::ChunkCr | State::ChunkLf, _) => Err(BodyError::ChunkEnd),
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::Complete),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::Extension | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.skip(self.state)
            }
            (State::TrailerStart, b'!'..=b'~') => self.skip(State::Trailer),
            _ => Err(BodyError::Unread),
        }
    }

    fn add_digit(&mut self, digit: u8) -> Result<State, BodyError> {
        let value = char::from(digit).to_digit(16).map(u64::from);
        self.left = self
            .left
            .checked_mul(16)
            .zip(value)
            .map(|(size, value)| size | value)
            .ok_or(BodyError::ChunkSize)?;
        // Zeros could go on for ever without a change of the value.
        self.skip(State::Size)
    }

    fn skip(&mut self, state: State) -> Result<State, BodyError> {
        self.unread += 1;
        if self.unread > MAX_UNREAD {
            return Err(BodyError::UnreadTooLong);
        }
        Ok(state)
    }
}

/// Appends a piece of a body as one chunk (RFC 9112 section 7.1). Nothing for an empty piece: that would be the last chunk.
pub fn push_chunk(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    // Writing to a vector does not fail.
    let _ = write!(out, "{:x}\r\n", payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends what ends a body of chunks: the last one, and trailer fields.
pub fn push_end(trailers: &Headers, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::head::Limits;
    use super::super::noise::Noise;
    use super::*;

    fn answer(head: &str) -> ResponseHead {
        let text = format!("{head}\r\n\r\n");
        let parsed = ResponseHead::parse(text.as_bytes(), &Limits::default());
        parsed.unwrap().unwrap().1
    }

    fn framing(head: &str) -> Result<Framing, BodyError> {
        Framing::of_answer("GET", &answer(head))
    }

    fn request(fields: &str) -> RequestHead {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let parsed = RequestHead::parse(text.as_bytes(), &Limits::default());
        parsed.unwrap().unwrap().1
    }

    #[test]
    fn the_head_says_where_the_body_ends() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", Framing::Length(5)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", Framing::Length(0)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
                Framing::Chunked,
            ),
            ("HTTP/1.1 200 OK", Framing::UntilClose),
            ("HTTP/1.0 401 No", Framing::UntilClose),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5",
                Framing::Empty,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
                Framing::Empty,
            ),
            ("HTTP/1.1 103 Early Hints", Framing::Empty),
        ] {
            assert_eq!(framing(head), Ok(expected), "{head}");
        }
        let head = answer("HTTP/1.1 200 OK\r\nContent-Length: 5");
        assert_eq!(Framing::of_answer("HEAD", &head), Ok(Framing::Empty));
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        for (fields, error) in [
            (
                "Content-Length: 5\r\nContent-Length: 5",
                BodyError::LengthRepeated,
            ),
            ("Content-Length: 5, 5", BodyError::Length),
            ("Content-Length: 0x5", BodyError::Length),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                BodyError::LengthAndCoding,
            ),
            ("Transfer-Encoding: gzip", BodyError::Coding),
            ("Transfer-Encoding: chunked, gzip", BodyError::Coding),
            ("Transfer-Encoding: gzip, chunked", BodyError::Coding),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                BodyError::Coding,
            ),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}");
            assert_eq!(framing(&head), Err(error), "{fields}");
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked";
        assert_eq!(framing(old), Err(BodyError::CodingInHttp10));
    }

    #[test]
    fn a_request_has_a_body_if_it_says_so() {
        for (fields, expected) in [
            ("", false),
            ("Content-Length: 0\r\n", false),
            ("Content-Length: 1\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
        ] {
            let framing = Framing::of_request(&request(fields)).unwrap();
            assert_eq!(framing.has_body(), expected, "{fields:?}");
        }
    }

    /// Reads all of `input` in pieces of `step` bytes: the payload, the bytes consumed, the reader.
    fn read(
        framing: Framing,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize, BodyReader), BodyError> {
        let mut reader = BodyReader::new(framing);
        let mut payload = Vec::new();
        let mut used = 0;
        for piece in input.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && !reader.is_complete() {
                let (consumed, data) = reader.read(rest)?;
                assert!(consumed > 0 && rest.get(..consumed).unwrap().ends_with(data));
                payload.extend_from_slice(data);
                used += consumed;
                rest = rest.get(consumed..).unwrap();
            }
        }
        Ok((payload, used, reader))
    }

    #[test]
    fn bodies_are_read_alike_however_they_arrive() {
        for (framing, input, expected, behind) in [
            (Framing::Empty, &b"next"[..], &b""[..], &b"next"[..]),
            (Framing::Length(0), b"next", b"", b"next"),
            (Framing::Length(5), b"hellonext", b"hello", b"next"),
            (Framing::UntilClose, b"hello", b"hello", b""),
            (Framing::Chunked, b"0\r\n\r\nnext", b"", b"next"),
            (
                Framing::Chunked,
                b"5\r\nhello\r\n0\r\n\r\nnext",
                b"hello",
                b"next",
            ),
            (
                Framing::Chunked,
                b"00a;x=\"y;z\"\r\nhellohello\r\n0;x\r\n\r\n",
                b"hellohello",
                b"",
            ),
            (
                Framing::Chunked,
                b"A\r\n0123456789\r\n3\r\nabc\r\n000\r\nT: v\r\nU:\r\n\r\nx",
                b"0123456789abc",
                b"x",
            ),
        ] {
            for step in 1..=input.len() {
                let (payload, used, reader) = read(framing, input, step).unwrap();
                assert_eq!(payload, expected);
                assert_eq!(input.get(used..).unwrap(), behind);
                assert!(reader.ended());
                assert_eq!(reader.is_complete(), framing != Framing::UntilClose);
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_short_has_not_ended() {
        for (framing, input) in [
            (Framing::Length(6), &b"hello"[..]),
            (Framing::Chunked, b""),
            (Framing::Chunked, b"5"),
            (Framing::Chunked, b"5\r\nhello"),
            (Framing::Chunked, b"5\r\nhello\r\n"),
            (Framing::Chunked, b"5\r\nhello\r\n0\r\n"),
            (Framing::Chunked, b"0\r\nT: v\r\n"),
        ] {
            let (_, _, reader) = read(framing, input, 64).unwrap();
            assert!(!reader.ended() && !reader.is_complete(), "{input:?}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for (input, error) in [
            (&b"x"[..], BodyError::ChunkSize),
            (b"\r\n", BodyError::ChunkSize),
            (b"-1\r\n", BodyError::ChunkSize),
            (b"0x1\r\n", BodyError::ChunkSize),
            (b"5 \r\n", BodyError::ChunkSize),
            (b"5\nhello", BodyError::ChunkSize),
            (b"5\rhello", BodyError::ChunkSize),
            (b"10000000000000000\r\n", BodyError::ChunkSize),
            (b"1\r\nab", BodyError::ChunkEnd),
            (b"1\r\na\n", BodyError::ChunkEnd),
            (b"1;a\n", BodyError::Unread),
            (b"1;\0", BodyError::Unread),
            (b"0\r\n\n", BodyError::Unread),
            (b"0\r\n x: y\r\n", BodyError::Unread),
            (b"0\r\nx: y\n", BodyError::Unread),
            (b"0\r\nx\ry", BodyError::Unread),
        ] {
            assert_eq!(
                read(Framing::Chunked, input, 1).unwrap_err(),
                error,
                "{input:?}"
            );
        }
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        for start in ["1;", "0\r\nX: ", "0"] {
            let filler = if start == "0" { "0" } else { "x" };
            let fits = start.to_owned() + &filler.repeat(8000);
            assert!(read(Framing::Chunked, fits.as_bytes(), 512).is_ok());
            let endless = start.to_owned() + &filler.repeat(9000);
            let error = read(Framing::Chunked, endless.as_bytes(), 512).unwrap_err();
            assert_eq!(error, BodyError::UnreadTooLong);
        }
        // Of each chunk anew.
        let many = "1;xxxxxxxx\r\na\r\n".repeat(2000);
        assert!(read(Framing::Chunked, many.as_bytes(), 512).is_ok());
    }

    #[test]
    fn a_body_of_the_largest_size_is_counted() {
        let mut reader = BodyReader::new(Framing::Chunked);
        let (consumed, data) = reader.read(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!((consumed, data), (21, &b"abc"[..]));
        assert!(!reader.ended());
        assert_eq!(reader.read(b"").unwrap(), (0, &b""[..]));
    }

    #[test]
    fn never_panics_and_never_depends_on_the_reads() {
        let mut noise = Noise::new(0x5eed_0002);
        let sample = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\nnext";
        for _ in 0..3000 {
            let bytes = noise.mangle(sample, b"\r\n;0fF \0\x80");
            let whole = read(Framing::Chunked, &bytes, bytes.len().max(1));
            for step in 1..8 {
                match (&whole, read(Framing::Chunked, &bytes, step)) {
                    (Ok(one), Ok(two)) => assert_eq!((&one.0, one.1), (&two.0, two.1)),
                    (one, two) => assert_eq!(one.as_ref().err(), two.as_ref().err()),
                }
            }
        }
    }

    #[test]
    fn chunks_are_what_our_own_reader_reads() {
        let mut bytes = Vec::new();
        for piece in ["hello", "", " ", &"x".repeat(300)] {
            push_chunk(piece.as_bytes(), &mut bytes);
        }
        push_end(&Headers::default(), &mut bytes);
        let mut reader = BodyReader::new(Framing::Chunked);
        let mut payload = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (used, data) = reader.read(rest).unwrap();
            payload.extend_from_slice(data);
            rest = rest.split_at(used).1;
        }
        assert!(reader.is_complete());
        assert_eq!(payload, ("hello ".to_owned() + &"x".repeat(300)).as_bytes());
    }
    /// The trailers of a whole body of chunks that comes in pieces of `step` bytes.
    fn trailers(input: &str, step: usize) -> Result<Headers, BodyError> {
        let mut reader = BodyReader::new(Framing::Chunked).keeping_trailers();
        for piece in input.as_bytes().chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && !reader.is_complete() {
                let (used, _) = reader.read(rest)?;
                rest = rest.split_at(used).1;
            }
        }
        assert!(reader.is_complete(), "{input:?}");
        reader.trailers()
    }

    #[test]
    fn trailers_are_kept_however_they_arrive() {
        for (section, expected) in [
            ("", &[][..]),
            ("A: 1\r\n", &[("A", "1")]),
            (
                "A:\r\nb: \t2 3 \r\nA: 4\r\n",
                &[("A", ""), ("b", "2 3"), ("A", "4")],
            ),
        ] {
            let input = format!("3;x=\"y\"\r\nabc\r\n00;z\r\n{section}\r\nB: next\r\n");
            for step in 1..=input.len() {
                let found = trailers(&input, step).unwrap();
                let found: Vec<_> = found.iter().collect();
                let expected: Vec<_> = expected
                    .iter()
                    .map(|(name, value)| (*name, value.as_bytes()))
                    .collect();
                assert_eq!(found, expected, "{step}");
            }
        }
    }

    #[test]
    fn trailers_that_are_no_fields_are_none() {
        for line in ["A", "A B: 1", ": 1", "A : 1", "\u{e4}: 1"] {
            let input = format!("0\r\n{line}\r\n\r\n");
            let found = trailers(&input, 1);
            assert_eq!(found.map(|_| ()), Err(BodyError::Unread), "{line}");
        }
        // Nobody has asked for them: then they are not looked at.
        let (_, _, reader) = read(Framing::Chunked, b"0\r\nA: 1\r\n\r\n", 1).unwrap();
        assert!(reader.trailers().unwrap().first("A").is_none());
    }

    #[test]
    fn an_end_is_written_with_its_trailers() {
        let mut trailers = Headers::default();
        trailers.push("A", b"1");
        trailers.push("b", b"");
        let mut bytes = Vec::new();
        push_chunk(b"", &mut bytes);
        push_chunk(&[b'x'; 17], &mut bytes);
        push_end(&trailers, &mut bytes);
        let expected = format!("11\r\n{}\r\n0\r\nA: 1\r\nb: \r\n\r\n", "x".repeat(17));
        assert_eq!(bytes, expected.as_bytes());
    }

    #[test]
    fn an_answer_without_a_body_may_announce_a_length() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 7", Some(7)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 0", Some(0)),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 7", None),
            ("HTTP/1.1 200 OK", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7",
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked",
                None,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: seven", None),
        ] {
            assert_eq!(Framing::announced(&answer(head)), expected, "{head}");
        }
    }
}
