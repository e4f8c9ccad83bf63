//! One request and its answer on an `http://` or `https://` route. No `ws://` or `wss://` route ever leads here, and no
//! `Upgrade` passes.

use super::balance::Way;
use super::deliver::Answer;
use super::failure::{Step, stopping};
use super::upload::{Blocked, Sending, Upload, body_timeout};
use super::{End, Visit};
use crate::access_log::AccessLog;
use crate::config::Trace;
use crate::forward::{self, Delivery, Manner};
use crate::http::answer::{METHODS, Refusal};
use crate::http::body::{BodyReader, Framing};
use crate::http::head::{Limits, RequestHead, ResponseHead, Version};
use crate::http::persistence::{self, Afterwards};
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::wait::{Interrupted, Want};
use crate::route::Route;
use crate::route::backend::Backend;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers with 1xx before the final one, as many as httpd takes.
const MOST_INTERIM: usize = 10;

/// A connection to a backend, for one exchange.
pub(super) struct Lease<'a> {
    pub(super) stream: Stream,
    backend: &'a Arc<Backend>,
    /// The name that it was asked for in TLS, where the client chose it.
    name: Option<String>,
    /// The client's connection that nobody else may follow on it.
    owner: Option<u64>,
    /// It has carried an exchange before.
    is_reused: bool,
    /// Nothing speaks against using it again.
    pub(super) stays: bool,
}

impl<'a> Lease<'a> {
    /// A connection that nobody uses again.
    pub(super) fn once(stream: Stream, backend: &'a Arc<Backend>) -> Self {
        Self {
            stream,
            backend,
            name: None,
            owner: None,
            is_reused: false,
            stays: false,
        }
    }
}

/// Why there is no answer.
enum Lost {
    /// The connection had been kept, and had ended before anything came back over it: perhaps the backend never saw the
    /// request.
    Stale,
    End(End),
}

impl From<End> for Lost {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl Visit<'_> {
    /// Asks the backend, and delivers its answer.
    #[inline(never)]
    pub(super) fn exchange(
        &mut self,
        head: &RequestHead,
        route: &Route,
    ) -> Result<Afterwards, End> {
        // Others need not wait for a backend that takes its time.
        self.handshake = None;
        self.check_trace(head)?;
        let mut upload = self.begin_upload(head)?;
        // RFC 9112 section 9.3.1: what may have been done already is not asked for again, unless twice is as once.
        let is_repeatable = upload.is_empty() && is_idempotent(head.method());
        let asked = self.lead(head, route, is_repeatable, |visit, way| {
            visit.ask_for_answer(head, way, is_repeatable, &mut upload)
        });
        let consumed = upload.consumed();
        self.transaction.bytes_in += consumed;
        if upload.is_read() {
            // What is left of a body would be read as a request. Whatever the backend has done, the client may ask for more,
            // unless others have come meanwhile and wait for a worker.
            self.afterwards = self.afterwards_of(head);
        }
        let (mut lease, answer, framing, first) = asked?;
        self.judge(answer.status, false);
        if upload.sending != Sending::Open {
            // Whoever waits for a 100 and gets this is done.
            upload.abandon();
        }
        lease.stays &= upload.is_sent() && persistence::stays(&answer.headers, answer.version);
        if let Some(ours) = self.in_place_of(&answer) {
            self.drain(lease, framing, &first);
            return Err(End::Failed(ours));
        }
        let version = self.version_for_client(head);
        let delivery = Delivery {
            version,
            afterwards: self.afterwards,
            takes_trailers: version == Version::Http11 && forward::takes_trailers(head),
        };
        self.debug(Topic::Exchange, format_args!("answered {}", answer.status));
        if self.site.logs.access.iter().any(AccessLog::needs_answer) {
            self.transaction.note().answer = Some(answer.headers.clone());
        }
        let timeout = self.site.host.backend_timeout(lease.backend);
        let answer = Answer {
            head: &answer,
            framing,
            request: head,
            first,
            upload: Some(&mut upload),
        };
        let delivered = self.deliver(answer, lease, &delivery, timeout);
        self.transaction.bytes_in += upload.consumed() - consumed;
        delivered
    }

    /// The version whose means the client is answered with.
    fn version_for_client(&self, head: &RequestHead) -> Version {
        if self.environment.is_set("downgrade-1.0") {
            Version::Http10
        } else {
            head.version
        }
    }

    fn check_trace(&self, head: &RequestHead) -> Result<(), Refusal> {
        if head.method() != "TRACE" {
            return Ok(());
        }
        let has_body = Framing::of_request(head)?.has_body();
        match self.site.host.trace {
            Trace::Off => {
                let refusal = Refusal::new(Id::TraceOff, "TraceEnable is Off");
                Err(refusal.with_header("Allow", METHODS))
            }
            Trace::On if has_body => {
                let why = "a TRACE request has no body, unless TraceEnable is extended";
                Err(Refusal::new(Id::BodyTooLarge, why))
            }
            Trace::On | Trace::Extended => Ok(()),
        }
    }

    /// Sends the request until an answer comes, over another connection where a kept one has ended unseen.
    fn ask_for_answer<'r>(
        &mut self,
        head: &RequestHead,
        way: &Way<'r>,
        is_repeatable: bool,
        upload: &mut Upload,
    ) -> Result<(Lease<'r>, ResponseHead, Framing, Vec<u8>), End> {
        let began = Instant::now();
        if upload.sending == Sending::WeWait {
            upload.sending = Sending::Open;
        }
        self.turn = self.take_turn(way.backend)?;
        let manner = Manner::new(
            head,
            upload.framing(),
            upload.sending == Sending::ClientWaits,
            &way.backend.parameters,
            &self.environment,
        )?;
        let reuses = manner.stays
            && (self.link.served > 0 || !self.environment.is_set("proxy-initial-not-pooled"));
        let mut lease = self.lease(way.backend, head, reuses)?;
        upload.pause(began.elapsed());
        let mut request = forward::exchange_head(head, &way.target, &manner, &self.policy(way));
        // With ping= nothing of the body goes out before the backend has shown that it is there.
        if manner.expects && upload.sending == Sending::Open {
            upload.sending = Sending::WeWait;
        } else {
            request.extend_from_slice(&upload.take_first());
        }
        upload.meter = self.meter();
        loop {
            lease.stays = manner.stays;
            match self.ask_over(&mut lease, &request, head, upload) {
                Ok((answer, first)) => {
                    // While another member may still be asked.
                    let framing = Framing::of_answer(head.method(), &answer)
                        .map_err(|why| self.backend_failed(Step::Answer, Id::Garbage, &why))?;
                    return Ok((lease, answer, framing, first));
                }
                Err(Lost::End(end)) => return Err(end),
                Err(Lost::Stale) if is_repeatable => {
                    self.debug(
                        Topic::Exchange,
                        format_args!("a kept connection had ended; asking again"),
                    );
                    lease = self.lease(way.backend, head, false)?;
                }
                Err(Lost::Stale) => {
                    let why = "the kept connection was closed before its answer had begun";
                    // It may have been closed for its age while the request was under way.
                    return Err(self.blameless_failure(Step::Answer, Id::Closed, &why));
                }
            }
        }
    }

    /// A connection to the backend, a kept one if there is one and that will do.
    fn lease<'r>(
        &mut self,
        backend: &'r Arc<Backend>,
        head: &RequestHead,
        reuses: bool,
    ) -> Result<Lease<'r>, End> {
        let name = self.client_name(backend, head);
        if reuses {
            let (kept, client) = (&self.generation.kept, self.transaction.id);
            while let Some((stream, owner)) = kept.take(self.site, backend, name.as_deref(), client)
            {
                if self.has_moved(backend, &stream) {
                    self.debug(
                        Topic::Exchange,
                        format_args!("a kept connection leads where the name no longer does"),
                    );
                    continue;
                }
                return Ok(Lease {
                    stream,
                    backend,
                    name,
                    owner: owner.or_else(|| self.owner_after(head)),
                    is_reused: true,
                    stays: true,
                });
            }
        }
        let stream = self.connect(backend, head)?;
        Ok(Lease {
            stream,
            backend,
            name,
            owner: self.owner_after(head),
            is_reused: false,
            stays: true,
        })
    }

    /// Whose a backend's connection is behind this request: with some schemes it is the connection that is authenticated.
    // httpd: the next client is then taken for this one.
    fn owner_after(&self, head: &RequestHead) -> Option<u64> {
        let authenticates = persistence::authenticates_connection(&head.headers);
        authenticates.then_some(self.transaction.id)
    }

    /// Keeps a connection for the next request, if nothing speaks against it; and gives the turn to the next.
    pub(super) fn give_back(&mut self, lease: Lease<'_>) {
        if lease.stays {
            let (kept, site) = (&self.generation.kept, self.site);
            kept.put(site, lease.backend, lease.name, lease.owner, lease.stream);
        }
        self.turn = None;
        self.elected = None;
    }

    /// Keeps a connection whose answer nobody wants, if all of that is here.
    fn drain(&mut self, mut lease: Lease<'_>, framing: Framing, mut first: &[u8]) {
        let mut body = BodyReader::new(framing);
        while !first.is_empty() && !body.is_complete() {
            let Ok((used, _)) = body.read(first) else {
                break;
            };
            first = first.get(used..).unwrap_or_default();
        }
        lease.stays &= body.is_complete() && first.is_empty();
        self.give_back(lease);
    }

    /// How much is read at a time.
    pub(super) fn piece_size(&self, lease: &Lease<'_>) -> usize {
        self.site.host.backend_io_buffer(lease.backend)
    }

    /// Sends the request, and reads the head of the final answer. Also: what came behind it.
    fn ask_over(
        &mut self,
        lease: &mut Lease<'_>,
        request: &[u8],
        head: &RequestHead,
        upload: &mut Upload,
    ) -> Result<(ResponseHead, Vec<u8>), Lost> {
        let parameters = &lease.backend.parameters;
        let timeout = self.site.host.backend_timeout(lease.backend);
        let deadline = Instant::now() + timeout;
        match lease.stream.send_all(request, deadline, self.tools.waiter) {
            Ok(()) => {
                if let Some(meter) = &upload.meter {
                    meter.sent(request.len() as u64);
                }
            }
            // It may have said why before it closed.
            Err(Interrupted::Failed(_)) => upload.abandon(),
            Err(why) => return Err(self.step_failed(Step::Request, &why).into()),
        }
        let mut limits = Limits::default();
        limits.field = parameters.answer_field.unwrap_or(limits.field);
        let size = self.piece_size(lease);
        let mut hearing = Hearing {
            answer: Buffer::default(),
            interim: 0,
            deadline: Instant::now() + timeout,
            timeout,
        };
        if let Some(ping) = parameters
            .ping
            .filter(|_| upload.sending == Sending::WeWait)
        {
            hearing.deadline = Instant::now() + ping;
        }
        loop {
            let parsed = ResponseHead::parse(hearing.answer.bytes(), &limits);
            let parsed =
                parsed.map_err(|why| self.backend_failed(Step::Answer, Id::Garbage, &why))?;
            let Some((used, answer)) = parsed else {
                self.hear(lease, upload, &mut hearing, size)?;
                continue;
            };
            self.trace_head(Topic::Exchange, "backend", hearing.answer.bytes());
            match answer.status {
                101 => {
                    let why = "it answered 101 to a request that asked for no upgrade";
                    return Err(self
                        .backend_failed(Step::Answer, Id::BadSwitch, &why)
                        .into());
                }
                100..=199 => {
                    hearing.answer.discard(used);
                    hearing.interim += 1;
                    if hearing.interim > MOST_INTERIM {
                        let why = "more than 10 interim answers";
                        return Err(self.backend_failed(Step::Answer, Id::Garbage, &why).into());
                    }
                    hearing.deadline = Instant::now() + timeout;
                    self.pass_interim(&answer, head, upload)?;
                }
                _ => return Ok((answer, hearing.answer.split_off(used))),
            }
        }
    }

    /// An answer with 1xx is for a client that knows what to make of it.
    fn pass_interim(
        &mut self,
        answer: &ResponseHead,
        head: &RequestHead,
        upload: &mut Upload,
    ) -> Result<(), End> {
        let is_awaited = answer.status != 100 || upload.sending == Sending::ClientWaits;
        if answer.status == 100 && matches!(upload.sending, Sending::ClientWaits | Sending::WeWait)
        {
            upload.sending = Sending::Open;
        }
        let policy = self.environment.get("proxy-interim-response");
        let is_suppressed = policy.is_some_and(|policy| policy.eq_ignore_ascii_case(b"suppress"));
        let is_welcome = !is_suppressed && self.version_for_client(head) == Version::Http11;
        // Without the 100 a client would wait on.
        if is_awaited && (is_welcome || answer.status == 100) {
            self.send(&forward::interim_head(answer))?;
        }
        Ok(())
    }

    /// Waits for more of the answer, and meanwhile sends what the client sends of its body.
    fn hear(
        &mut self,
        lease: &mut Lease<'_>,
        upload: &mut Upload,
        hearing: &mut Hearing,
        size: usize,
    ) -> Result<(), Lost> {
        let mut is_ready =
            !lease.stream.is_plain() || !upload.goes_on() && self.tools.waiter.let_others_run();
        loop {
            if is_ready {
                match hearing.answer.fill(&mut lease.stream) {
                    Ok(0) => {
                        return Err(self.no_answer(
                            lease,
                            hearing,
                            &"closed before its answer was complete",
                        ));
                    }
                    Ok(read) => {
                        self.count_received(read);
                        return Ok(());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.no_answer(lease, hearing, &error)),
                }
            }
            let was_going = upload.goes_on();
            let blocked = upload.push(
                &mut self.link.client,
                &mut self.link.input,
                &mut lease.stream,
                size,
            )?;
            let now = Instant::now();
            let is_asking = matches!(upload.sending, Sending::ClientWaits | Sending::WeWait);
            if was_going && !upload.goes_on() {
                hearing.deadline = now + hearing.timeout;
            }
            is_ready = match blocked {
                Blocked::No if upload.goes_on() && upload.sending != Sending::WeWait => true,
                Blocked::No => self.wait_for_answer(lease, upload, Want::Read, hearing.deadline)?,
                Blocked::OnBackend => {
                    let deadline = now + hearing.timeout;
                    let is_ready = self.wait_for_answer(lease, upload, Want::Either, deadline)?;
                    upload.pause(now.elapsed());
                    is_ready
                }
                Blocked::OnClient => self.wait_for_body(lease, upload, hearing)?,
            };
            if is_asking {
                upload.pause(now.elapsed());
            }
        }
    }

    fn wait_for_answer(
        &mut self,
        lease: &Lease<'_>,
        upload: &Upload,
        want: Want,
        deadline: Instant,
    ) -> Result<bool, End> {
        let (awaited, step) = match want {
            Want::Either => (lease.stream.waits_for_both(), Step::Request),
            Want::Read | Want::Write => (lease.stream.waits_to_read(), Step::Answer),
        };
        match self.tools.waiter.wait([awaited], Some(deadline)) {
            Ok(_) => Ok(true),
            Err(Interrupted::Deadline) if upload.sending == Sending::WeWait => {
                let why = "no sign of it within ping=";
                Err(self.backend_failed(Step::Ping, Id::Unreachable, &why))
            }
            Err(why) => Err(self.step_failed(step, &why)),
        }
    }

    /// Waits for more of the client's body, and for an answer that may come all the same.
    fn wait_for_body(
        &mut self,
        lease: &Lease<'_>,
        upload: &Upload,
        hearing: &Hearing,
    ) -> Result<bool, End> {
        // Who waits for a 100 is not slow, but the backend is.
        let deadline = if upload.sending == Sending::ClientWaits {
            Some(hearing.deadline)
        } else {
            self.body_deadline(upload)
        };
        let sockets = [
            lease.stream.waits_to_read(),
            self.link.client.waits_to_read(),
        ];
        match self.tools.waiter.wait(sockets, deadline) {
            Ok([is_ready, _]) => Ok(is_ready),
            Err(Interrupted::Cancelled) => Err(stopping()),
            Err(Interrupted::Deadline) if upload.sending != Sending::ClientWaits => {
                Err(body_timeout())
            }
            // Each waits for the other. Backends that never send a 100 shall not be set aside by clients that never send
            // anything else.
            Err(Interrupted::Deadline) => {
                let (id, why) = (Id::AnswerTimeout, "no 100 in time, and no body either");
                Err(self.blameless_failure(Step::Answer, id, &why))
            }
            Err(why) => Err(self.step_failed(Step::Answer, &why)),
        }
    }

    /// The backend has ended the connection, or has broken it off.
    fn no_answer(&self, lease: &Lease<'_>, hearing: &Hearing, why: &dyn std::fmt::Display) -> Lost {
        if lease.is_reused && hearing.answer.is_empty() && hearing.interim == 0 {
            return Lost::Stale;
        }
        Lost::End(self.backend_failed(Step::Answer, Id::Closed, why))
    }
}

/// An answer as far as it has come.
struct Hearing {
    answer: Buffer,
    interim: usize,
    deadline: Instant,
    timeout: Duration,
}

/// Whether asking twice is as asking once (RFC 9110 section 9.2.2).
fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method)
}
