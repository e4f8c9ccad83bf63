//! One connection from bytes to tunnel: a script that only calls the rooms.

mod relay;

use super::acceptor::Accepted;
use super::turns::{Entry, Turn};
use super::{Shared, Site};
use crate::access_log::AccessLog;
use crate::forward;
use crate::handshake::{self, Asked, Verdict};
use crate::http::answer::Refusal;
use crate::http::authority::Authority;
use crate::http::head::{self, Limits, RequestHead, ResponseHead};
use crate::http::proxy_header::{self, Header};
use crate::ids::Id;
use crate::net::buffer::Buffer;
use crate::net::connect::{Options, connect, connect_unix};
use crate::net::resolve::{Addresses, ResolveError};
use crate::net::stream::{Socket, Stream};
use crate::net::tls::TlsError;
use crate::net::wait::{Interrupted, Waiter, Want};
use crate::route::backend::Backend;
use crate::route::edit::{self, Circumstances};
use crate::route::environment::Environment;
use crate::route::settings::Settings;
use crate::route::{Arrival, Route};
use crate::transaction::Transaction;
use crate::tunnel::event_loop::{EventLoop, Size};
use crate::tunnel::inbox::Inbox;
use crate::tunnel::{Leftovers, Limits as TunnelLimits, Observer, Record, Tunnel};
use log::{Level, error, log, warn};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes that a client may send before it has the 101; then no more is read from it.
const EARLY: usize = 16 * 1024;
/// The most that is taken of them at a time.
const EARLY_PART: usize = 2048;
/// Answers with 1xx other than 101 before the final one, as many as httpd takes.
const MOST_INTERIM: usize = 10;

/// What each worker has of its own, made once.
#[derive(Debug)]
pub(super) struct Worker {
    waiter: Waiter,
    event_loop: EventLoop,
}

impl Worker {
    /// Takes three descriptors.
    pub(super) fn new(shared: &Shared) -> io::Result<Self> {
        let waiter = Waiter::new(Arc::clone(&shared.cancel))?;
        let event_loop = EventLoop::new(Arc::clone(&shared.scratch), &waiter.alarm, Size::ONE)?;
        Ok(Self { waiter, event_loop })
    }

    /// Where its tunnels are told to end.
    pub(super) fn inbox(&self) -> Inbox {
        self.event_loop.inbox()
    }
}

/// Serves a connection to its end.
// Apart from what a worker does between connections, so that its stack is only as deep as a handshake needs.
#[inline(never)]
pub(super) fn serve(accepted: Accepted, worker: &mut Worker, shared: &Shared) {
    let Accepted { id, connection, at } = accepted;
    let _busy = Counted::new(&shared.busy);
    let is_crowded = shared.busy.load(Ordering::Relaxed) > shared.processors;
    worker.waiter.yields = is_crowded;
    worker.event_loop.yields = is_crowded;
    // Until the request names a host, the first of the address sets the limits.
    let site = shared.site_for(connection.local, None);
    let mut visit = Visit {
        shared,
        waiter: &mut worker.waiter,
        site,
        settings: Cow::Borrowed(&site.host.router.settings),
        environment: Environment::default(),
        client: connection.stream.into(),
        turn: None,
        transaction: Transaction::new(
            id,
            connection.client,
            connection.local,
            SystemTime::now() - at.elapsed(),
        ),
        began: at,
    };
    visit.transaction.server_name = Arc::clone(&visit.site.host.server_name);
    let handshake = Counted::new(&shared.handshakes);
    let outcome = visit.shake_hands();
    drop(handshake);
    if outcome.is_err() {
        // There is no connection to the backend any more, and a client may take its time to close its own.
        visit.turn = None;
    }
    match outcome {
        Ok((backend, leftovers)) => visit.tunnel(backend, leftovers, &mut worker.event_loop),
        Err(End::Refused(refusal)) => visit.refuse(&refusal),
        Err(End::Failed(refusal)) => visit.answer(&refusal),
        Err(End::Relayed) => visit.finish_answer(),
        Err(End::Gone(why)) => visit.give_up(&why),
    }
}

/// One of those that are counted, for as long as this lives, however it ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no tunnel.
enum End {
    /// We answer, instead of a backend, what the request is to blame for.
    Refused(Refusal),
    /// We answer in place of a backend that failed, which has been logged where it happened.
    Failed(Refusal),
    /// The backend's own answer has been passed on, as far as it went.
    Relayed,
    /// There is nobody left to answer.
    Gone(String),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a backend's last answer is.
enum Final {
    /// A 101 that has been verified.
    Switched,
    /// Any other.
    Relay,
}

/// A connection on its way through the server.
struct Visit<'a> {
    shared: &'a Shared,
    waiter: &'a mut Waiter,
    site: &'a Arc<Site>,
    /// What holds for this request: that of its host, until its path is known.
    settings: Cow<'a, Settings>,
    /// What rules said about it.
    environment: Environment,
    client: Stream,
    /// Given back when the visit or its tunnel ends.
    turn: Option<Turn>,
    transaction: Transaction,
    began: Instant,
}

/// The steps towards a backend, as the logs call them.
#[derive(Clone, Copy)]
enum Step {
    /// There is a turn to be had at the backend.
    Acquire,
    Resolve,
    Connect,
    Tls,
    Handshake,
    /// An answer that is no 101 is passed on.
    Relay,
}

impl Step {
    /// What is said when it was not completed in time.
    fn too_late(self) -> Id {
        match self {
            Self::Acquire => Id::Busy,
            Self::Resolve | Self::Connect => Id::ConnectTimeout,
            Self::Tls => Id::TlsTimeout,
            Self::Handshake => Id::AnswerTimeout,
            Self::Relay => Id::CutShort,
        }
    }

    /// What is said when it failed for another reason, and that has no number of its own.
    fn failed(self) -> Id {
        match self {
            Self::Acquire => Id::Busy,
            Self::Resolve => Id::Unresolved,
            Self::Connect => Id::Unreachable,
            Self::Tls => Id::TlsFailed,
            Self::Handshake => Id::Closed,
            Self::Relay => Id::CutShort,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acquire => "acquire",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Relay => "relay",
        })
    }
}

impl<'a> Visit<'a> {
    /// Everything up to the verified 101, which the client then has.
    fn shake_hands(&mut self) -> Result<(Stream, Leftovers), End> {
        let (mut head, from_client) = self.read_request()?;
        self.site = self
            .shared
            .site_for(self.transaction.local, head.headers.first("Host"));
        self.transaction.server_name = self.site.host.server_name.clone();
        let outcome = self.ask_backend(&mut head, from_client);
        if self.site.access_logs.iter().any(AccessLog::needs_request) {
            self.transaction.request = Some(head);
        }
        outcome
    }

    /// Finds the backend, and has it agree.
    fn ask_backend(
        &mut self,
        head: &mut RequestHead,
        mut from_client: Vec<u8>,
    ) -> Result<(Stream, Leftovers), End> {
        let route = self.find_route(head)?;
        let asked = handshake::requested(head, route.backend.parameters.upgrade())?;

        self.turn = self.take_turn(&route.backend, &mut from_client)?;
        let mut backend = self.connect(&route.backend, head)?;
        let name = &self.site.host.server_name;
        let policy =
            forward::Policy::new(&self.settings, name, &self.arrival(), &route.backend.url);
        let request = forward::request_head(head, &route.target, &asked, &policy);
        let timeout = self.site.host.backend_timeout(&route.backend);
        let deadline = Instant::now() + timeout;
        backend
            .send_all(&request, deadline, self.waiter)
            .map_err(|why| self.step_failed(Step::Handshake, &why))?;
        self.debug(format_args!("asked for {}", route.target));

        let mut limits = Limits::default();
        limits.field = route
            .backend
            .parameters
            .answer_field
            .unwrap_or(limits.field);
        let (answer, outcome, leftovers) =
            self.read_answer(&mut backend, from_client, &asked, &limits, deadline)?;
        match outcome {
            Final::Switched => {}
            Final::Relay => {
                if answer.status == 403 && policy.origin_is_foreign(head) {
                    self.hint_at_origin(&route.name);
                }
                return Err(self.relay(head, &answer, &mut backend, &leftovers, timeout));
            }
        }
        let switched = forward::switched_head(&answer, &self.answer_policy());
        self.send(&switched)?;
        self.transaction.status = answer.status;
        if self.site.access_logs.iter().any(AccessLog::needs_answer) {
            self.transaction.answer = answer.headers;
        }
        Ok((backend, leftovers))
    }

    /// Which backend the request is for, and what is set for it. Its fields are then as the configuration wants them.
    fn find_route(&mut self, head: &mut RequestHead) -> Result<Route, Refusal> {
        let router = &self.site.host.router;
        let decision = router.route(head, &self.arrival(), &mut |_| ());
        self.transaction.client = decision.client;
        self.settings = decision.settings;
        self.environment = decision.environment;
        let route = decision.outcome?;
        self.transaction.mapping = Some(Arc::clone(&route.name));
        self.transaction.backend = Some(Arc::clone(&route.backend));
        Ok(route)
    }

    /// Says once for each mapping what often makes a backend refuse.
    fn hint_at_origin(&self, mapping: &Arc<str>) {
        if self.shared.hinted.first_time(mapping) {
            let id = Id::OriginRefused;
            self.log(
                Level::Warn,
                format_args!(
                    "{id} {mapping}: the backend answered 403, and Origin differs from the Host that it got; {}",
                    id.remedy()
                ),
            );
        }
    }

    fn arrival(&self) -> Arrival {
        let Transaction {
            client,
            peer,
            local,
            received,
            ..
        } = self.transaction;
        Arrival {
            client,
            peer,
            local,
            is_secure: false,
            received,
            took: self.began.elapsed(),
        }
    }

    fn circumstances(&self) -> Circumstances<'_> {
        let router = &self.site.host.router;
        let arrival = self.arrival();
        Circumstances {
            facts: arrival.facts(&router.name.server_name, router.own_name(None, &arrival)),
            environment: &self.environment,
            received: arrival.received,
            took: arrival.took,
        }
    }

    /// Reads the request head; what is behind it belongs to the tunnel.
    fn read_request(&mut self) -> Result<(RequestHead, Vec<u8>), End> {
        let mut buffer = Buffer::default();
        // What it has waited for a worker is not the client's fault.
        let began = Instant::now();
        let outcome = self
            .read_proxy_header(&mut buffer, began)
            .and_then(|()| self.read_request_into(&mut buffer, began));
        self.trace_head("client", buffer.bytes());
        let request_line = head::request_line(buffer.bytes());
        self.transaction.request_line = request_line.to_vec();
        let (used, head) =
            outcome.inspect_err(|_| self.transaction.bytes_in = buffer.bytes().len() as u64)?;
        self.transaction.bytes_in = used as u64;
        Ok((head, buffer.split_off(used)))
    }

    /// Reads the PROXY header, where the connection has to begin with one, and takes what it says of the client.
    fn read_proxy_header(&mut self, buffer: &mut Buffer, began: Instant) -> Result<(), End> {
        let Transaction { peer, local, .. } = self.transaction;
        if !self
            .shared
            .config
            .proxy_protocol
            .is_expected(local, peer.ip())
        {
            return Ok(());
        }
        let (used, header) = loop {
            if let Some(parsed) = proxy_header::parse(buffer.bytes()).map_err(Refusal::from)? {
                break parsed;
            }
            self.receive(buffer, began, "PROXY header")?;
        };
        self.debug(format_args!("PROXY header: {header}"));
        if let Header::Proxied { source, .. } = header {
            self.transaction.client = source;
        }
        buffer.discard(used);
        Ok(())
    }

    fn read_request_into(
        &mut self,
        buffer: &mut Buffer,
        began: Instant,
    ) -> Result<(usize, RequestHead), End> {
        loop {
            let parsed = RequestHead::parse(buffer.bytes(), &self.site.host.limits);
            if let Some(parsed) = parsed.map_err(Refusal::from)? {
                return Ok(parsed);
            }
            self.receive(buffer, began, "request head")?;
        }
    }

    /// Takes what the client sends next of `what`, within the time that it has for all of its head.
    fn receive(&mut self, buffer: &mut Buffer, began: Instant, what: &str) -> Result<(), End> {
        let allowed = self.site.host.header_timeout;
        let allowed = allowed.allowed(buffer.bytes().len());
        let deadline = allowed.map(|allowed| began + allowed);
        match buffer.receive(&mut self.client, deadline, self.waiter) {
            Ok(0) if buffer.bytes().is_empty() => {
                Err(End::Gone("closed without a request".to_owned()))
            }
            Ok(0) => {
                let why = format!("the connection ended inside the {what}");
                Err(Refusal::new(Id::HeadCut, why).into())
            }
            Ok(_) => Ok(()),
            Err(Interrupted::Deadline) => {
                let why = format!("the {what} took longer than RequestReadTimeout allows");
                Err(Refusal::new(Id::HeadTimeout, why).into())
            }
            Err(why) => Err(End::Gone(why.to_string())),
        }
    }

    /// Waits until the backend may have one more request, where it may not have any number.
    fn take_turn(&mut self, backend: &Backend, early: &mut Vec<u8>) -> Result<Option<Turn>, End> {
        if backend.parameters.is_disabled == Some(true) {
            let why = "the backend is disabled (status=+D)";
            return Err(self.backend_failed(Step::Acquire, Id::Disabled, &why));
        }
        let entry = self.shared.turns.ask(backend);
        let place = match entry.map_err(|error| self.step_failed(Step::Acquire, &error.into()))? {
            Entry::Free => return Ok(None),
            Entry::Taken(turn) => return Ok(Some(turn)),
            Entry::Waiting(place) => place,
        };
        let patience = backend.parameters.acquire;
        let patience = patience.unwrap_or_else(|| self.site.host.backend_timeout(backend));
        let deadline = Instant::now() + patience;
        loop {
            let bell = (place.bell(), Want::Read);
            let waited = self.wait_beside_client(bell, early, deadline, Step::Acquire);
            // One that has come in the last moment is taken as well.
            match place.turn() {
                Some(turn) => return Ok(Some(turn)),
                None => waited?,
            }
        }
    }

    /// Connects to the backend, with TLS where it wants that.
    fn connect(&mut self, backend: &Backend, head: &RequestHead) -> Result<Stream, End> {
        let url = &backend.url;
        let Site { host, tls, .. } = self.site.as_ref();
        let deadline = Instant::now() + host.connect_timeout(backend);
        let socket = match &url.socket {
            Some(path) => connect_unix(path, deadline, self.waiter).map(Socket::from),
            None => {
                let addresses = self.resolve(&url.host, deadline)?;
                let options = Options {
                    keepalive: backend.parameters.keepalive.unwrap_or(true),
                    receive_buffer: backend.parameters.receive_buffer,
                };
                connect(&addresses, url.port, options, deadline, self.waiter).map(Socket::from)
            }
        };
        let socket = socket.map_err(|why| self.step_failed(Step::Connect, &why))?;
        if !url.tls {
            return Ok(socket.into());
        }
        let Some(connector) = tls else {
            return Err(self.backend_failed(Step::Tls, Id::TlsFailed, &"this host has no TLS"));
        };
        // httpd: with ProxyPreserveHost the backend is asked for, and held to, the name that the client knows.
        let preserved = self.settings.preserve_host;
        let client_host = head.headers.first("Host").filter(|_| preserved);
        let authority = client_host.and_then(|host| Authority::parse(host).ok());
        let name = authority.map_or(url.host.as_str(), |authority| authority.host);
        let deadline = Instant::now() + host.backend_timeout(backend);
        connector
            .connect(name, socket, deadline, self.waiter)
            .map_err(|why| match why {
                TlsError::Interrupted(why) => self.step_failed(Step::Tls, &why),
                TlsError::Handshake(why) => self.backend_failed(Step::Tls, Id::TlsFailed, &why),
            })
    }

    fn resolve(&self, name: &str, deadline: Instant) -> Result<Addresses, End> {
        let resolved = self.shared.resolver.resolve(name, deadline);
        resolved.map_err(|why| match why {
            ResolveError::Closed => stopping(),
            ResolveError::Deadline => self.backend_failed(Step::Resolve, Id::ConnectTimeout, &why),
            ResolveError::Failed(_) => self.backend_failed(Step::Resolve, Id::Unresolved, &why),
        })
    }

    /// Reads the backend's final answer head, or its 101. Meanwhile what the client sends early is kept, and a
    /// client that goes away ends the wait.
    fn read_answer(
        &mut self,
        backend: &mut Stream,
        mut from_client: Vec<u8>,
        asked: &Asked,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<(ResponseHead, Final, Leftovers), End> {
        let mut buffer = Buffer::default();
        let mut interim = 0;
        loop {
            let parsed = ResponseHead::parse(buffer.bytes(), limits);
            match parsed.map_err(|why| self.backend_failed(Step::Handshake, Id::Garbage, &why))? {
                Some((used, answer)) => {
                    self.trace_head("backend", buffer.bytes());
                    let from_backend = buffer.split_off(used);
                    let outcome = match handshake::verdict(&answer, asked) {
                        Verdict::Switched => Some(Final::Switched),
                        Verdict::Relay => Some(Final::Relay),
                        Verdict::Interim => None,
                        Verdict::Bad(why) => {
                            return Err(self.backend_failed(Step::Handshake, Id::BadSwitch, &why));
                        }
                    };
                    if let Some(outcome) = outcome {
                        let leftovers = Leftovers {
                            is_websocket: asked.is_websocket(),
                            from_client,
                            from_backend,
                        };
                        return Ok((answer, outcome, leftovers));
                    }
                    interim += 1;
                    if interim > MOST_INTERIM {
                        let why = "more than 10 interim answers";
                        return Err(self.backend_failed(Step::Handshake, Id::Garbage, &why));
                    }
                    buffer = Buffer::from(from_backend);
                }
                None => self.read_more_answer(backend, &mut buffer, &mut from_client, deadline)?,
            }
        }
    }

    /// Reads what the backend sends next, and takes what the client sends until then.
    fn read_more_answer(
        &mut self,
        backend: &mut Stream,
        answer: &mut Buffer,
        early: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<(), End> {
        let mut is_ready = !backend.is_plain();
        loop {
            if is_ready {
                match answer.fill(backend) {
                    Ok(0) => {
                        let why = "closed before its answer was complete";
                        return Err(self.backend_failed(Step::Handshake, Id::Closed, &why));
                    }
                    Ok(_) => return Ok(()),
                    Err(error) if is_momentary(&error) => {}
                    Err(error) => {
                        return Err(self.backend_failed(Step::Handshake, Id::Closed, &error));
                    }
                }
            }
            let backend = backend.waits_to_read();
            self.wait_beside_client(backend, early, deadline, Step::Handshake)?;
            is_ready = true;
        }
    }

    /// Waits for what a step needs next, and takes what the client sends until then. A client that goes away ends the
    /// wait.
    fn wait_beside_client(
        &mut self,
        awaited: (BorrowedFd<'_>, Want),
        early: &mut Vec<u8>,
        deadline: Instant,
        step: Step,
    ) -> Result<(), End> {
        loop {
            let woken = match [awaited, self.client.waits_to_read()] {
                // What is not read waits in the kernel, and slows its sender.
                [awaited, _] if early.len() >= EARLY => self
                    .waiter
                    .wait([awaited], Some(deadline))
                    .map(|[ready]| [ready, false]),
                both => self.waiter.wait(both, Some(deadline)),
            };
            let [is_ready, client_is_ready] = woken.map_err(|why| self.step_failed(step, &why))?;
            if client_is_ready {
                self.take_early(early)?;
            }
            if is_ready {
                return Ok(());
            }
        }
    }

    fn take_early(&mut self, early: &mut Vec<u8>) -> Result<(), End> {
        let held = early.len();
        early.resize(held + EARLY_PART, 0);
        let outcome = self.client.read(early.get_mut(held..).unwrap_or_default());
        early.truncate(held + outcome.as_ref().copied().unwrap_or(0));
        match outcome {
            Ok(0) => Err(End::Gone(
                "closed before the backend had answered".to_owned(),
            )),
            Ok(_) => Ok(()),
            Err(error) if is_momentary(&error) => Ok(()),
            Err(error) => Err(End::Gone(error.to_string())),
        }
    }

    /// The tunnel: here to its end, or until the reactor takes it.
    fn tunnel(self, backend: Stream, leftovers: Leftovers, event_loop: &mut EventLoop) {
        self.debug(format_args!("switched"));
        let Self {
            shared,
            waiter,
            site,
            settings,
            environment: _,
            client,
            turn,
            transaction,
            began,
        } = self;
        let limits = TunnelLimits {
            idle: settings.idle_timeout,
            half_close: settings.half_close_timeout,
        };
        let observer: Arc<dyn Observer> = match turn {
            None => Arc::<Site>::clone(site),
            Some(turn) => Arc::new(Guest {
                site: Arc::clone(site),
                _turn: turn,
            }),
        };
        let record = Record {
            transaction,
            began,
            observer,
        };
        let mut tunnel = Box::new(Tunnel::new(client, backend, leftovers, limits, record));
        if settings.asynchronous {
            if !settings.async_delay.is_zero() {
                match event_loop.run_one(tunnel, &mut waiter.alarm, Some(settings.async_delay)) {
                    Ok(Some(quiet)) => tunnel = quiet,
                    Ok(None) => return,
                    Err(error) => return cannot_wait(&error),
                }
            }
            match shared.reactors.adopt(tunnel) {
                Ok(()) => return,
                Err((refused, why)) => {
                    let id = Id::NotTaken;
                    warn!(
                        "{} {id} stays in its worker: {why}; {}",
                        refused.name(),
                        id.remedy()
                    );
                    tunnel = refused;
                }
            }
        }
        if let Err(error) = event_loop.run_one(tunnel, &mut waiter.alarm, None) {
            cannot_wait(&error);
        }
    }

    /// Says why, and answers.
    fn refuse(self, refusal: &Refusal) {
        let Refusal {
            id, status, why, ..
        } = refusal;
        let line = self.transaction.request_line.escape_ascii();
        self.log(
            Level::Info,
            format_args!("{id} \"{line}\" refused: {why} ({status}); {}", id.remedy()),
        );
        self.answer(refusal);
    }

    /// Answers in place of a backend.
    fn answer(mut self, refusal: &Refusal) {
        self.transaction.status = refusal.status;
        let is_head = self.transaction.request_line.starts_with(b"HEAD ");
        let extra = edit::always(&self.settings.answer_edits, &self.circumstances());
        let (answer, body) = refusal.encode(is_head, unix_seconds(), &extra);
        self.transaction.body_out = body as u64;
        match self.send(&answer) {
            Ok(()) => self.finish_answer(),
            Err(_) => self
                .site
                .log_access(&self.transaction, self.began.elapsed()),
        }
    }

    /// An answer is out after which the connection ends.
    fn finish_answer(self) {
        self.site
            .log_access(&self.transaction, self.began.elapsed());
        self.client.close_lingering(self.waiter);
    }

    /// Nobody is left to answer.
    fn give_up(self, why: &str) {
        self.debug(format_args!("gone: {why}"));
        if !self.transaction.request_line.is_empty() {
            self.site
                .log_access(&self.transaction, self.began.elapsed());
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + self.site.host.timeout;
        self.client
            .send_all(bytes, deadline, self.waiter)
            .map_err(|why| End::Gone(why.to_string()))?;
        self.transaction.bytes_out += bytes.len() as u64;
        Ok(())
    }

    fn answer_policy(&self) -> forward::AnswerPolicy<'_> {
        forward::AnswerPolicy {
            server_name: &self.site.host.server_name,
            port: self.arrival().unusual_port(),
            via: self.settings.via,
            edits: &self.settings.answer_edits,
            about: self.circumstances(),
        }
    }

    /// A step towards a backend was not completed: by its deadline, by a failure, or because we stop.
    fn step_failed(&self, step: Step, why: &Interrupted) -> End {
        match why {
            Interrupted::Cancelled => stopping(),
            Interrupted::Deadline => self.backend_failed(step, step.too_late(), why),
            Interrupted::Failed(_) => self.backend_failed(step, step.failed(), why),
        }
    }

    /// The backend failed us before the client has got anything. What the client is told names no backend.
    fn backend_failed(&self, step: Step, failure: Id, why: &dyn fmt::Display) -> End {
        let refusal = Refusal::new(failure, why.to_string());
        self.log_failure(step, failure, &format_args!("{why} ({})", refusal.status));
        End::Failed(refusal)
    }

    /// The one log line of a backend that failed.
    fn log_failure(&self, step: Step, id: Id, why: &dyn fmt::Display) {
        let transaction = &self.transaction;
        if let (Some(mapping), Some(backend)) = (&transaction.mapping, &transaction.backend) {
            let backend = &backend.url;
            self.log(
                Level::Warn,
                format_args!("{id} {mapping}: {backend}: {step}: {why}; {}", id.remedy()),
            );
        }
    }

    /// What was received, as it was: it may hold secrets, which the manual says.
    fn trace_head(&self, from: &str, bytes: &[u8]) {
        let head = bytes.escape_ascii();
        self.log(Level::Trace, format_args!("{from}: {head}"));
    }

    fn debug(&self, text: fmt::Arguments<'_>) {
        self.log(Level::Debug, text);
    }

    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        say(level, &self.transaction, text);
    }
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn cannot_wait(error: &io::Error) {
    let id = Id::CannotWait;
    error!(
        "{id} a worker cannot wait for events: {error}; its tunnel was cut; {}",
        id.remedy()
    );
}

impl Site {
    fn log_access(&self, transaction: &Transaction, took: Duration) {
        for log in &self.access_logs {
            log.write(transaction, took);
        }
    }
}

impl Observer for Site {
    fn ended(&self, transaction: &Transaction, took: Duration) {
        if let Some(reason) = &transaction.close {
            let (up, down) = (transaction.to_backend, transaction.from_backend);
            say(
                Level::Debug,
                transaction,
                format_args!("closed: {reason}; {up} bytes up, {down} down"),
            );
        }
        self.log_access(transaction, took);
    }
}

/// A tunnel that has taken a turn, and gives it back when it goes.
#[derive(Debug)]
struct Guest {
    site: Arc<Site>,
    _turn: Turn,
}

impl Observer for Guest {
    fn ended(&self, transaction: &Transaction, took: Duration) {
        self.site.ended(transaction, took);
    }
}

/// A line about a connection.
fn say(level: Level, transaction: &Transaction, text: fmt::Arguments<'_>) {
    log!(level, "[{}] {} {text}", transaction.id, transaction.client);
}

fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What a client is told that waited for a backend when the server stopped.
fn stopping() -> End {
    End::Failed(Refusal::new(Id::Stopping, "the server is stopping"))
}
