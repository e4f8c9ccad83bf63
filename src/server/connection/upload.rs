//! The body of a request on its way to the backend: read as the client has framed it, written in framing of our own.

use super::{End, Visit};
use crate::balancer::Meter;
use crate::http::answer::Refusal;
use crate::http::body::{self, BodyReader, Framing};
use crate::http::head::{RequestHead, Version};
use crate::http::headers::Headers;
use crate::ids::Id;
use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::wait::Interrupted;
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// What is read of a body before its backend is asked: one that ends within it keeps no backend waiting, goes out in one
/// piece with its head, and has a length there. httpd: `MAX_MEM_SPOOL`.
const FIRST: usize = 16 * 1024;
/// How much goes to a backend until it is asked again whether it has answered already.
const ROUND: usize = 256 * 1024;

/// The body of one request.
#[derive(Debug)]
pub(super) struct Upload {
    reader: BodyReader,
    /// How it is written.
    framing: Framing,
    /// Bytes that the backend has not taken, from `sent` on: payload until the framing is settled, then as they are written.
    pending: Vec<u8>,
    sent: usize,
    payload: u64,
    limit: Option<u64>,
    /// Whether its end has been written into `pending`, where it has to be.
    is_ended: bool,
    pub(super) sending: Sending,
    /// Counts what the backend gets, if somebody wants to know.
    pub(super) meter: Option<Meter>,
    /// When the client's time began; later, where we did not listen.
    began: Instant,
    received: usize,
    /// Bytes of the client, framing included.
    consumed: u64,
}

/// Whether a body goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// As fast as it comes.
    Open,
    /// The client may wait for a 100 before it sends anything.
    ClientWaits,
    /// We wait for a 100 before we send anything.
    WeWait,
    /// The backend does not want any more of it.
    Closed,
}

/// What keeps a body from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Nothing, or there is no more of it: look what the backend says.
    No,
    /// The client has to send more.
    OnClient,
    /// The backend has to take more.
    OnBackend,
}

impl Upload {
    fn new(framing: Framing, limit: Option<u64>) -> Self {
        Self {
            reader: BodyReader::new(framing),
            framing,
            pending: Vec::new(),
            sent: 0,
            payload: 0,
            limit,
            is_ended: false,
            sending: Sending::Open,
            meter: None,
            began: Instant::now(),
            received: 0,
            consumed: 0,
        }
    }

    /// How the backend sees that it ends.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client has sent all of it: what it sends next is another request.
    pub(super) fn is_read(&self) -> bool {
        self.reader.is_complete()
    }

    /// Whether the backend has got all of it.
    pub(super) fn is_sent(&self) -> bool {
        self.is_read() && self.sent == self.pending.len() && self.sending != Sending::Closed
    }

    /// Whether the backend is still to get some of it.
    pub(super) fn goes_on(&self) -> bool {
        !self.is_sent() && self.sending != Sending::Closed
    }

    /// Whether there is none, so that nothing of it can be lost.
    pub(super) fn is_empty(&self) -> bool {
        self.is_read() && self.payload == 0
    }

    /// The bytes that it took, framing included.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The client's time has stood still for so long: it was the backend that took its own.
    pub(super) fn pause(&mut self, time: Duration) {
        self.began += time;
    }

    /// What of it can go out with the head.
    pub(super) fn take_first(&mut self) -> Vec<u8> {
        self.sent = 0;
        std::mem::take(&mut self.pending)
    }

    /// The backend takes no more of it.
    pub(super) fn abandon(&mut self) {
        if self.is_sent() {
            return;
        }
        self.sending = Sending::Closed;
        self.pending = Vec::new();
        self.sent = 0;
    }

    /// Takes what has come of it, until `most` bytes are pending or the input is at its end.
    fn take(&mut self, input: &mut Buffer, most: usize, frames: bool) -> Result<(), Refusal> {
        let before = self.pending.len();
        let mut rest = input.bytes();
        while !rest.is_empty() && !self.is_read() && self.pending.len() < most {
            let (used, payload) = self
                .reader
                .read(rest)
                .map_err(|why| Refusal::new(Id::BadBody, why.to_string()))?;
            self.payload += payload.len() as u64;
            if self.limit.is_some_and(|limit| self.payload > limit) {
                return Err(too_large(self.limit));
            }
            self.pending.extend_from_slice(payload);
            rest = rest.get(used..).unwrap_or_default();
        }
        let used = input.bytes().len() - rest.len();
        input.discard(used);
        self.consumed += used as u64;
        if frames {
            if self.framing == Framing::Chunked {
                // However small the client's chunks are, ours are not.
                let payload = self.pending.split_off(before);
                body::push_chunk(&payload, &mut self.pending);
            }
            self.end();
        }
        Ok(())
    }

    /// Settles how it is written: with its length, if that is known by now.
    fn settle(&mut self, sends_chunks: bool) {
        if self.is_read() && !sends_chunks {
            self.framing = match self.framing {
                Framing::Empty => Framing::Empty,
                _ => Framing::Length(self.payload),
            };
        } else if self.framing == Framing::Chunked || sends_chunks && self.framing.has_body() {
            self.framing = Framing::Chunked;
            let payload = std::mem::take(&mut self.pending);
            body::push_chunk(&payload, &mut self.pending);
        }
        self.end();
    }

    fn end(&mut self) {
        if self.is_read() && self.framing == Framing::Chunked && !self.is_ended {
            self.is_ended = true;
            // httpd: drops the trailer fields of a request, too. What follows a body no backend expects in its fields.
            body::push_end(&Headers::default(), &mut self.pending);
        }
    }

    /// Moves what can be moved without waiting.
    pub(super) fn push(
        &mut self,
        client: &mut Stream,
        input: &mut Buffer,
        backend: &mut Stream,
        size: usize,
    ) -> Result<Blocked, End> {
        let mut moved = 0;
        while moved < ROUND && matches!(self.sending, Sending::Open | Sending::ClientWaits) {
            if let Some(pending @ [_, ..]) = self.pending.get(self.sent..) {
                match backend.write(pending) {
                    Ok(written) => {
                        self.sent += written;
                        moved += written;
                        if let Some(meter) = &self.meter {
                            meter.sent(written as u64);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Blocked::OnBackend);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // It may have said why before it closed.
                    Err(_) => self.abandon(),
                }
                continue;
            }
            self.pending.clear();
            self.sent = 0;
            if self.is_read() {
                break;
            }
            if input.is_empty() {
                input.reserve(size);
                match input.fill(client) {
                    Ok(0) => return Err(cut()),
                    Ok(received) => self.received += received,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Blocked::OnClient);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(End::Gone(error.to_string())),
                }
            }
            self.sending = Sending::Open;
            self.take(input, size, true)?;
        }
        Ok(Blocked::No)
    }
}

impl Visit<'_> {
    /// The body of a request, as far as it is read before a backend is asked.
    #[inline(never)]
    pub(super) fn begin_upload(&mut self, head: &RequestHead) -> Result<Upload, End> {
        let framing = Framing::of_request(head).map_err(Refusal::from)?;
        let limit = self.settings.body_limit;
        let expects = expects_continue(head)? && framing.has_body();
        if let (Framing::Length(length), Some(most)) = (framing, limit)
            && length > most
        {
            return Err(too_large(limit).into());
        }
        let mut upload = Upload::new(framing, limit);
        let sends_chunks = self.environment.is_set("proxy-sendchunked");
        // httpd: refuses it with 417 where the backend is spoken to in HTTP/1.0, which knows nothing of it.
        let passes_expect =
            self.settings.passes_expect && !self.environment.is_set("force-proxy-request-1.0");
        if expects && self.link.input.is_empty() && passes_expect {
            upload.sending = Sending::ClientWaits;
            upload.settle(sends_chunks);
            return Ok(upload);
        }
        if expects && self.link.input.is_empty() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        // One byte more, so that the end of a body of just this length is seen.
        while !upload.is_read() && upload.pending.len() <= FIRST {
            if self.link.input.is_empty() {
                self.receive_body(&mut upload)?;
            }
            upload.take(&mut self.link.input, FIRST + 1, false)?;
        }
        upload.settle(sends_chunks);
        Ok(upload)
    }

    /// Takes what the client sends next of a body, within the time that it has for it.
    fn receive_body(&mut self, upload: &mut Upload) -> Result<(), End> {
        let deadline = self.body_deadline(upload);
        self.link.input.reserve(self.site.host.io_buffer);
        match self
            .link
            .input
            .receive(&mut self.link.client, deadline, self.tools.waiter)
        {
            Ok(0) => Err(cut()),
            Ok(received) => {
                upload.received += received;
                Ok(())
            }
            Err(Interrupted::Deadline) => Err(body_timeout()),
            Err(why) => Err(End::Gone(why.to_string())),
        }
    }

    /// Until when the client has to send more of a body.
    pub(super) fn body_deadline(&self, upload: &Upload) -> Option<Instant> {
        let allowed = self.site.host.body_timeout.allowed(upload.received);
        allowed.map(|allowed| upload.began + allowed)
    }
}

/// The client was too slow with its body.
pub(super) fn body_timeout() -> End {
    let why = "the body took longer than RequestReadTimeout allows";
    Refusal::new(Id::BodyTimeout, why).into()
}

/// The connection ended inside the body.
fn cut() -> End {
    Refusal::new(Id::BadBody, "the connection ended inside the body").into()
}

fn too_large(limit: Option<u64>) -> Refusal {
    let limit = limit.unwrap_or(u64::MAX);
    let why = format!("the body is larger than {limit} bytes");
    Refusal::new(Id::BodyTooLarge, why)
}

/// Whether the client waits for a 100 (RFC 9110 section 10.1.1). HTTP/1.0 knows no such thing.
fn expects_continue(head: &RequestHead) -> Result<bool, Refusal> {
    let mut expects = false;
    for expectation in head.headers.tokens("Expect") {
        if head.version == Version::Http10 {
            continue;
        }
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            let why = format!("\"Expect: {}\" is not known", expectation.escape_ascii());
            return Err(Refusal::new(Id::BadExpectation, why));
        }
        expects = true;
    }
    Ok(expects)
}
