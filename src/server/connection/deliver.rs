//! A backend's answer on its way to the client: read as the backend has framed it, written in framing of our own. While
//! the client takes its time, what the backend sends is held up to a bound, so that a backend with a short answer is free
//! again. A backend that answers before it has all of the request gets the rest of it meanwhile.

use super::exchange::Lease;
use super::failure::Step;
use super::outgoing::{HELD, Outgoing};
use super::upload::{Blocked, Upload};
use super::{End, Visit};
use crate::forward::{self, Delivery, Writing};
use crate::http::body::{BodyError, BodyReader, Framing};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::net::stream::Stream;
use crate::net::wait::Interrupted;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

/// How many bytes are gathered before they are written, if the backend has more to read at once.
const GATHERED: usize = 16 * 1024;
/// How many are read at a time while the backend has more to read than ProxyIOBufferSize, though no more than four times
/// that.
const BULK: usize = 64 * 1024 - 64;

/// What is to be delivered.
pub(super) struct Answer<'a> {
    pub(super) head: &'a ResponseHead,
    pub(super) framing: Framing,
    /// What it answers.
    pub(super) request: &'a RequestHead,
    /// What came behind the head.
    pub(super) first: Vec<u8>,
    /// The body of the request, if the backend may still get some of it.
    pub(super) upload: Option<&'a mut Upload>,
}

/// What was read last.
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
    /// How much is read at first.
    least: usize,
    /// How much is read next.
    size: usize,
}

impl Piece {
    fn new(first: Vec<u8>, least: usize) -> Self {
        Self {
            filled: first.len(),
            buffer: first,
            least,
            size: least,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Reads anew, and more the next time if this takes all there is room for; but not for a client that is behind. After
    /// an error there is nothing.
    fn fill(&mut self, stream: &mut Stream, is_behind: bool) -> io::Result<usize> {
        self.filled = 0;
        if is_behind {
            self.size = self.least;
        }
        if self.buffer.len() < self.size {
            self.buffer.resize(self.size, 0);
        }
        let room = self.buffer.get_mut(..self.size).unwrap_or_default();
        self.filled = stream.read(room)?;
        if self.filled == self.size {
            self.size = self.least.max(BULK.min(4 * self.least));
        }
        Ok(self.filled)
    }

    /// Holds nothing while nothing is read.
    fn shrink(&mut self) {
        self.buffer = Vec::new();
        self.filled = 0;
        self.size = self.least;
    }
}

/// Why an answer does not go on.
enum Broken {
    Backend(BodyError),
    Client(End),
}

impl Visit<'_> {
    /// Delivers an answer, and gives the connection back that it came over. What becomes of the client's.
    ///
    /// An answer that the backend cuts short is cut short for the client too, who can tell by its framing; but for a client
    /// of HTTP/1.0 without a length, which knows no such framing, unless it speaks TLS.
    #[inline(never)]
    pub(super) fn deliver(
        &mut self,
        answer: Answer<'_>,
        mut lease: Lease<'_>,
        client: &Delivery,
        timeout: Duration,
    ) -> Result<Afterwards, End> {
        let Answer {
            head,
            framing,
            request,
            first,
            mut upload,
        } = answer;
        let policy = self.answer_policy(request);
        let (bytes, writing, afterwards) = forward::answer_head(head, &framing, client, &policy);
        self.transaction.status = head.status;
        let mut out = Outgoing::new(bytes);
        let mut body = BodyReader::new(framing);
        if client.takes_trailers {
            body = body.keeping_trailers();
        }
        let mut piece = Piece::new(first, self.piece_size(&lease));
        let mut heard = Instant::now();
        loop {
            let rest = match self.frame(&mut body, piece.bytes(), writing, &mut out) {
                Ok(rest) => rest,
                Err(Broken::Client(end)) => return Err(end),
                // Nothing of the answer has gone out, so there can be another.
                Err(Broken::Backend(why)) if !out.has_begun() => {
                    self.transaction.status = 0;
                    return Err(self.backend_failed(Step::Answer, Id::Garbage, &why));
                }
                Err(Broken::Backend(why)) => return Err(self.broken_off(&mut out, &why)),
            };
            if body.is_complete() {
                lease.stays &= rest == 0;
                break;
            }
            if out.waiting() >= GATHERED {
                self.write_out(&mut out)?;
            }
            let read = if out.waiting() < HELD {
                piece.fill(&mut lease.stream, out.waiting() > 0)
            } else {
                heard = Instant::now();
                piece.shrink();
                Err(ErrorKind::WouldBlock.into())
            };
            match read {
                Ok(0) if body.ended() && !lease.stream.was_cut() => {
                    lease.stays = false;
                    break;
                }
                Ok(0) => {
                    let why = "closed inside the body of its answer";
                    return Err(self.broken_off(&mut out, &why));
                }
                Ok(read) => {
                    self.count_received(read);
                    heard = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.write_out(&mut out)?;
                    let mut rest = upload.as_deref_mut().filter(|rest| rest.goes_on());
                    let mut blocked = Blocked::No;
                    if let Some(rest) = &mut rest {
                        let before = rest.consumed();
                        blocked = self.push_rest(rest, &mut lease)?;
                        if rest.consumed() > before {
                            heard = Instant::now();
                        }
                        if blocked == Blocked::No {
                            continue;
                        }
                    }
                    let rest = rest.map(|rest| (rest, blocked));
                    self.await_either(&lease, &mut out, rest, heard + timeout)?;
                }
                Err(error) => return Err(self.broken_off(&mut out, &error)),
            }
        }
        if writing == Writing::Chunked {
            let trailers = body.trailers().unwrap_or_default();
            out.hold_end(&forward::passing_trailers(trailers));
        }
        self.give_back(lease);
        self.write_all_out(&mut out)?;
        Ok(afterwards)
    }

    /// Frames what has come of a body for the client, and writes what is worth a write of its own. Says how much of it does
    /// not belong to the body.
    fn frame(
        &mut self,
        body: &mut BodyReader,
        part: &[u8],
        writing: Writing,
        out: &mut Outgoing,
    ) -> Result<usize, Broken> {
        let mut input = part;
        while !input.is_empty() && !body.is_complete() {
            let (used, payload) = body.read(input).map_err(Broken::Backend)?;
            input = input.get(used..).unwrap_or_default();
            self.transaction.body_out += payload.len() as u64;
            match writing {
                Writing::Plain if payload.len() >= GATHERED => {
                    let (written, outcome) = out.write_through(payload, &mut self.link.client);
                    self.transaction.bytes_out += written;
                    outcome.map_err(|error| Broken::Client(End::Gone(error.to_string())))?;
                }
                Writing::Plain => out.hold(payload),
                Writing::Chunked => out.hold_chunk(payload),
            }
        }
        Ok(input.len())
    }

    /// Writes what the client takes at once.
    fn write_out(&mut self, out: &mut Outgoing) -> Result<(), End> {
        let (written, outcome) = out.write_to(&mut self.link.client);
        self.transaction.bytes_out += written;
        outcome.map_err(|error| End::Gone(error.to_string()))
    }

    fn write_all_out(&mut self, out: &mut Outgoing) -> Result<(), End> {
        loop {
            self.write_out(out)?;
            if out.rest().is_empty() {
                return Ok(());
            }
            // As long as it takes anything it is only slow.
            let deadline = out.stands_since() + self.site.host.timeout;
            let client = self.link.client.waits_to_write();
            let woken = self.tools.waiter.wait([client], Some(deadline));
            woken.map_err(|why| End::Gone(why.to_string()))?;
        }
    }

    /// Moves what can be moved of a request that is being answered already. It is past any other answer: if something is
    /// wrong with it now, the backend gets no more of it.
    fn push_rest(&mut self, rest: &mut Upload, lease: &mut Lease<'_>) -> Result<Blocked, End> {
        let size = self.piece_size(lease);
        match rest.push(
            &mut self.link.client,
            &mut self.link.input,
            &mut lease.stream,
            size,
        ) {
            Err(End::Gone(why)) => Err(End::Gone(why)),
            Err(_) => {
                rest.abandon();
                Ok(Blocked::No)
            }
            blocked => blocked,
        }
    }

    /// Waits until the backend has sent more, or the client takes more of what waits for it; or what is left of the request
    /// can go on.
    fn await_either(
        &mut self,
        lease: &Lease<'_>,
        out: &mut Outgoing,
        mut rest: Option<(&mut Upload, Blocked)>,
        backend_deadline: Instant,
    ) -> Result<(), End> {
        let waiting = out.waiting();
        let blocked = rest.as_ref().map_or(Blocked::No, |(_, blocked)| *blocked);
        let (stream, client) = (&lease.stream, &self.link.client);
        let (hears, feeds) = (waiting < HELD, blocked == Blocked::OnBackend);
        let (tells, takes) = (waiting > 0, blocked == Blocked::OnClient);
        let backend = match (hears, feeds) {
            (true, true) => Some(stream.waits_for_both()),
            (true, false) => Some(stream.waits_to_read()),
            (false, true) => Some(stream.waits_to_write()),
            (false, false) => None,
        };
        let client = match (tells, takes) {
            (true, true) => Some(client.waits_for_both()),
            (true, false) => Some(client.waits_to_write()),
            (false, true) => Some(client.waits_to_read()),
            (false, false) => None,
        };
        let client_deadline = tells.then_some(out.stands_since() + self.site.host.timeout);
        let body_deadline = match &rest {
            Some((rest, Blocked::OnClient)) => self.body_deadline(rest),
            _ => None,
        };
        let backend_deadline = backend.map(|_| backend_deadline);
        let deadlines = [client_deadline, body_deadline, backend_deadline];
        let deadline = deadlines.into_iter().flatten().min();
        let woken = match (backend, client) {
            (Some(backend), Some(client)) => self
                .tools
                .waiter
                .wait([backend, client], deadline)
                .map(drop),
            (Some(one), None) | (None, Some(one)) => {
                self.tools.waiter.wait([one], deadline).map(drop)
            }
            (None, None) => Ok(()),
        };
        let has_passed =
            |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
        match woken {
            Ok(()) => Ok(()),
            Err(Interrupted::Deadline) if has_passed(client_deadline) => {
                let why = "it took nothing of its answer for as long as Timeout allows";
                Err(End::Gone(why.to_owned()))
            }
            Err(Interrupted::Deadline) if has_passed(body_deadline) => {
                if let Some((rest, _)) = &mut rest {
                    rest.abandon();
                }
                Ok(())
            }
            Err(Interrupted::Cancelled) => Err(End::Answered(Afterwards::Ends)),
            Err(why) => Err(self.broken_off(out, &why)),
        }
    }

    /// The backend failed when the client already had a part of its answer: what there is of it still goes out.
    fn broken_off(&mut self, out: &mut Outgoing, why: &dyn std::fmt::Display) -> End {
        self.log_failure(
            Step::Relay,
            Id::CutShort,
            &format_args!("{why}; the client's answer is cut short, too"),
        );
        self.transaction.is_cut = true;
        match self.write_all_out(out) {
            Ok(()) => End::Answered(Afterwards::Ends),
            Err(end) => end,
        }
    }
}
