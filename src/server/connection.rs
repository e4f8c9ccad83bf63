//! One connection from bytes to tunnel: a script that only calls the rooms.

mod backend;
mod relay;
mod request;

use self::backend::Final;
use super::acceptor::Accepted;
use super::turns::Turn;
use super::{Shared, Site};
use crate::access_log::AccessLog;
use crate::forward;
use crate::handshake::{self, Asked};
use crate::http::answer::Refusal;
use crate::http::head::{Limits, RequestHead};
use crate::ids::Id;
use crate::net::stream::Stream;
use crate::net::wait::{Interrupted, Waiter};
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
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
pub(super) fn serve(accepted: Accepted, worker: &mut Worker, shared: &Shared) {
    let _busy = Counted::new(&shared.busy);
    let is_crowded = shared.busy.load(Ordering::Relaxed) > shared.processors;
    worker.waiter.yields = is_crowded;
    worker.event_loop.yields = is_crowded;
    if let Some((tunnel, until_reactor)) = receive(accepted, worker, shared) {
        run(tunnel, until_reactor, worker, shared);
    }
}

/// Everything up to a tunnel: that, and when a reactor is to take it. Nothing, where there is none.
// Apart from what goes on while a tunnel is open: its stack is as deep as a handshake needs, and each worker has one.
#[inline(never)]
fn receive(
    accepted: Accepted,
    worker: &mut Worker,
    shared: &Shared,
) -> Option<(Box<Tunnel>, Option<Duration>)> {
    let Accepted { id, connection, at } = accepted;
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
        Ok((backend, leftovers)) => return Some(visit.into_tunnel(backend, leftovers)),
        Err(End::Refused(refusal)) => visit.refuse(&refusal),
        Err(End::Failed(refusal)) => visit.answer(&refusal),
        Err(End::Relayed) => visit.finish_answer(),
        Err(End::Gone(why)) => visit.give_up(&why),
    }
    None
}

/// Runs a tunnel to its end, or until a reactor takes it, when nothing has moved for `until_reactor`.
fn run(
    mut tunnel: Box<Tunnel>,
    until_reactor: Option<Duration>,
    worker: &mut Worker,
    shared: &Shared,
) {
    let Worker { waiter, event_loop } = worker;
    if let Some(delay) = until_reactor {
        if !delay.is_zero() {
            match event_loop.run_one(tunnel, &mut waiter.alarm, Some(delay)) {
                Ok(Some(quiet)) => tunnel = quiet,
                Ok(None) => return,
                Err(error) => return cannot_wait(&error),
            }
        }
        match shared.reactors.adopt(tunnel) {
            Ok(()) => return,
            Err((refused, why)) => {
                let (id, name) = (Id::NotTaken, refused.name());
                warn!("{name} {id} stays in its worker: {why}; {}", id.remedy());
                tunnel = refused;
            }
        }
    }
    if let Err(error) = event_loop.run_one(tunnel, &mut waiter.alarm, None) {
        cannot_wait(&error);
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
    #[inline(never)]
    fn shake_hands(&mut self) -> Result<(Stream, Leftovers), End> {
        let (mut head, from_client) = self.read_request()?;
        self.site = self
            .shared
            .site_for(self.transaction.local, head.headers.first("Host"));
        self.transaction.server_name = self.site.host.server_name.clone();
        let route = self.find_route(&mut head);
        let outcome = match route {
            Ok(route) => self.ask_backend(&head, &route, from_client),
            Err(refusal) => Err(End::Refused(refusal)),
        };
        if self.site.access_logs.iter().any(AccessLog::needs_request) {
            self.transaction.request = Some(head);
        }
        outcome
    }

    /// Has the backend agree.
    fn ask_backend(
        &mut self,
        head: &RequestHead,
        route: &Route,
        mut from_client: Vec<u8>,
    ) -> Result<(Stream, Leftovers), End> {
        let (mut backend, asked, deadline) = self.ask(head, route, &mut from_client)?;
        let leftovers = self.hear(head, route, &asked, &mut backend, from_client, deadline)?;
        Ok((backend, leftovers))
    }

    /// Connects, and sends the request. Also: until when the answer has to be there. What the client sends early is kept.
    #[inline(never)]
    fn ask(
        &mut self,
        head: &RequestHead,
        route: &Route,
        early: &mut Vec<u8>,
    ) -> Result<(Stream, Asked, Instant), End> {
        let asked = handshake::requested(head, route.backend.parameters.upgrade())?;
        self.turn = self.take_turn(&route.backend, early)?;
        let mut backend = self.connect(&route.backend, head)?;
        let request = forward::request_head(head, &route.target, &asked, &self.policy(route));
        let deadline = Instant::now() + self.site.host.backend_timeout(&route.backend);
        backend
            .send_all(&request, deadline, self.waiter)
            .map_err(|why| self.step_failed(Step::Handshake, &why))?;
        self.debug(format_args!("asked for {}", route.target));
        Ok((backend, asked, deadline))
    }

    /// Reads the answer, and passes it on.
    #[inline(never)]
    fn hear(
        &mut self,
        head: &RequestHead,
        route: &Route,
        asked: &Asked,
        backend: &mut Stream,
        from_client: Vec<u8>,
        deadline: Instant,
    ) -> Result<Leftovers, End> {
        let mut limits = Limits::default();
        limits.field = route
            .backend
            .parameters
            .answer_field
            .unwrap_or(limits.field);
        let (answer, outcome, leftovers) =
            self.read_answer(backend, from_client, asked, &limits, deadline)?;
        if matches!(outcome, Final::Relay) {
            if answer.status == 403 && self.policy(route).origin_is_foreign(head) {
                self.hint_at_origin(&route.name);
            }
            let timeout = self.site.host.backend_timeout(&route.backend);
            return Err(self.relay(head, &answer, backend, &leftovers, timeout));
        }
        let switched = forward::switched_head(&answer, &self.answer_policy());
        self.send(&switched)?;
        self.transaction.status = answer.status;
        if self.site.access_logs.iter().any(AccessLog::needs_answer) {
            self.transaction.answer = answer.headers;
        }
        Ok(leftovers)
    }

    fn policy<'p>(&'p self, route: &'p Route) -> forward::Policy<'p> {
        let name = &self.site.host.server_name;
        forward::Policy::new(&self.settings, name, &self.arrival(), &route.backend.url)
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
    #[inline(never)]
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

    /// What becomes of the visit when both sides have agreed: a tunnel, and when a reactor is to take it.
    #[inline(never)]
    fn into_tunnel(self, backend: Stream, leftovers: Leftovers) -> (Box<Tunnel>, Option<Duration>) {
        self.debug(format_args!("switched"));
        let Settings {
            idle_timeout,
            half_close_timeout,
            asynchronous,
            async_delay,
            ..
        } = *self.settings;
        let limits = TunnelLimits {
            idle: idle_timeout,
            half_close: half_close_timeout,
        };
        let observer: Arc<dyn Observer> = match self.turn {
            None => Arc::<Site>::clone(self.site),
            Some(turn) => Arc::new(Guest {
                site: Arc::clone(self.site),
                _turn: turn,
            }),
        };
        let record = Record {
            transaction: self.transaction,
            began: self.began,
            observer,
        };
        let tunnel = Tunnel::new(self.client, backend, leftovers, limits, record);
        (Box::new(tunnel), asynchronous.then_some(async_delay))
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
    #[inline(never)]
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
        self.site.say(level, &self.transaction, text);
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
    /// A line about a connection.
    fn say(&self, level: Level, transaction: &Transaction, text: fmt::Arguments<'_>) {
        let (id, client) = (transaction.id, transaction.client);
        log!(target: &self.log_target, level, "[{id}] {client} {text}");
    }

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
            self.say(
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

/// What a client is told that waited for a backend when the server stopped.
fn stopping() -> End {
    End::Failed(Refusal::new(Id::Stopping, "the server is stopping"))
}
