//! A backend's answer that is no 101, passed on.

use super::failure::Step;
use super::{End, Visit};
use crate::forward::{self, Relayed};
use crate::http::body::{BodyReader, Framing};
use crate::http::head::{RequestHead, ResponseHead};
use crate::ids::Id;
use crate::net::stream::Stream;
use crate::net::wait::Interrupted;
use crate::tunnel::Leftovers;
use log::Level;
use std::fmt;
use std::time::{Duration, Instant};

/// The part of a body that is held at a time.
const BODY_PART: usize = 16 * 1024;

impl Visit<'_> {
    /// Passes an ordinary answer on, as one framed response after which both connections end. What the client
    /// has sent behind its request is dropped: no backend sees it as a request (CVE-2019-17567).
    pub(super) fn relay(
        &mut self,
        request: &RequestHead,
        answer: &ResponseHead,
        backend: &mut Stream,
        leftovers: &Leftovers,
        timeout: Duration,
    ) -> End {
        self.transaction.bytes_in += leftovers.from_client.len() as u64;
        let framing = match Framing::of_answer(request.method(), answer) {
            Ok(framing) => framing,
            Err(why) => return self.backend_failed(Step::Handshake, Id::Garbage, &why),
        };
        let policy = self.answer_policy(request);
        let (head, relayed) = forward::relayed_head(answer, &framing, request.version, &policy);
        if let Err(end) = self.send(&head) {
            return end;
        }
        self.transaction.status = answer.status;
        self.transaction.answer = answer.headers.clone();
        let id = Id::NoSwitch;
        self.log(
            Level::Info,
            format_args!(
                "{id} the backend answered {} instead of 101; {}",
                answer.status,
                id.remedy()
            ),
        );
        match self.relay_body(
            BodyReader::new(framing),
            relayed,
            backend,
            &leftovers.from_backend,
            timeout,
        ) {
            Ok(()) => End::Relayed,
            Err(end) => end,
        }
    }

    /// A body that the backend cuts short is cut short for the client too, who can tell by its framing; but for a client
    /// of HTTP/1.0 without a length, which knows no such framing.
    fn relay_body(
        &mut self,
        mut body: BodyReader,
        relayed: Relayed,
        backend: &mut Stream,
        first: &[u8],
        timeout: Duration,
    ) -> Result<(), End> {
        let (mut part, mut chunked) = (first.to_vec(), Vec::new());
        let end = match relayed {
            Relayed::Plain => &[],
            Relayed::Chunked => forward::LAST_CHUNK,
        };
        loop {
            let mut input = part.as_slice();
            while !input.is_empty() && !body.is_complete() {
                let (used, payload) = body.read(input).map_err(|why| self.broken_off(&why))?;
                input = input.get(used..).unwrap_or_default();
                self.transaction.body_out += payload.len() as u64;
                match relayed {
                    Relayed::Plain => self.send(payload)?,
                    Relayed::Chunked => {
                        chunked.clear();
                        forward::chunk(payload, &mut chunked);
                        self.send(&chunked)?;
                    }
                }
            }
            if body.is_complete() {
                return self.send(end);
            }
            part.resize(BODY_PART, 0);
            match backend.receive(&mut part, Some(Instant::now() + timeout), self.waiter) {
                Ok(0) if body.ended() && !backend.was_cut() => return self.send(end),
                Ok(0) => {
                    return Err(self.broken_off(&"closed inside the body of its answer"));
                }
                Ok(received) => part.truncate(received),
                Err(Interrupted::Cancelled) => return Err(End::Relayed),
                Err(why) => return Err(self.broken_off(&why)),
            }
        }
    }

    /// The backend failed when the client already had a part of its answer.
    fn broken_off(&self, why: &dyn fmt::Display) -> End {
        self.log_failure(
            Step::Relay,
            Id::CutShort,
            &format_args!("{why}; the client's answer is cut short, too"),
        );
        End::Relayed
    }
}
