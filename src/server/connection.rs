//! One connection, request by request, until it ends or becomes a tunnel: a script that only calls the rooms.

mod admission;
mod backend;
mod balance;
mod deliver;
mod ending;
mod exchange;
mod failure;
mod handler;
mod outgoing;
mod relay;
mod request;
mod secure;
mod upload;

use self::backend::Final;
use self::balance::{Elected, Way};
use self::failure::Step;
use self::secure::Secured;
use super::acceptor::Accepted;
use super::clients::Bell;
use super::limits::Place;
use super::turns::Turn;
use super::{Generation, Shared, Site};
use crate::access_log::AccessLog;
use crate::forward;
use crate::handshake::{self, Asked};
use crate::http::answer::Refusal;
use crate::http::body::Framing;
use crate::http::head::{Limits, RequestHead};
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::stream::{LINGER, Stream};
use crate::net::wait::Waiter;
use crate::route::destination::Destination;
use crate::route::edit::Circumstances;
use crate::route::environment::Environment;
use crate::route::settings::Settings;
use crate::route::{Arrival, Found, Route};
use crate::transaction::Transaction;
use crate::tunnel::event_loop::{EventLoop, Size};
use crate::tunnel::inbox::Inbox;
use crate::tunnel::{Leftovers, Tunnel};
use log::Level;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long a client is given to take its last answer and close while others wait for a worker: a round trip to most
/// places. Otherwise [`LINGER`].
const LINGER_IN_A_CROWD: Duration = Duration::from_millis(200);

/// What each worker has of its own, made once.
#[derive(Debug)]
pub(super) struct Worker {
    waiter: Waiter,
    event_loop: EventLoop,
    /// Calls it away from a client that has nothing to ask; made for the first one.
    bell: Option<Arc<Bell>>,
}

impl Worker {
    /// Takes three descriptors.
    pub(super) fn new(shared: &Shared) -> io::Result<Self> {
        let waiter = Waiter::new(Arc::clone(&shared.cancel))?;
        let event_loop = EventLoop::new(Arc::clone(&shared.scratch), &waiter.alarm, Size::ONE)?;
        Ok(Self {
            waiter,
            event_loop,
            bell: None,
        })
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
        ending::run(tunnel, until_reactor, worker, shared);
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
    let at = accepted.at;
    let mut link = Link::new(accepted);
    let mut began = at;
    loop {
        let generation = shared.in_force.get();
        let tools = Tools::new(worker, shared);
        match serve_requests(Visit::begin(tools, link, &generation, began)) {
            Served::Tunnel(tunnel, until_reactor) => return Some((tunnel, until_reactor)),
            Served::Done => return None,
            Served::Overtaken(overtaken) => link = *overtaken,
        }
        began = Instant::now();
    }
}

/// What became of the requests of a connection.
enum Served {
    Tunnel(Box<Tunnel>, Option<Duration>),
    Done,
    /// A reload has put another configuration in force, and there is one more request.
    Overtaken(Box<Link>),
}

/// Serves one request after the other.
fn serve_requests(mut visit: Box<Visit<'_>>) -> Served {
    loop {
        match visit.serve_request() {
            Ok((backend, leftovers)) => {
                let (tunnel, until_reactor) = visit.into_tunnel(backend, leftovers);
                return Served::Tunnel(tunnel, until_reactor);
            }
            Err(end) => match visit.conclude(end) {
                Next::Request => {}
                Next::Farewell => {
                    visit.part();
                    return Served::Done;
                }
                Next::Nothing => return Served::Done,
            },
        }
        if !visit.await_request() {
            visit.link.client.take_leave();
            return Served::Done;
        }
        visit.link.served += 1;
        if !visit.tools.shared.in_force.is(visit.generation) {
            return Served::Overtaken(visit.into_link());
        }
        visit = visit.next();
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
    /// A backend failed at this step before the client has got anything, which has been logged. We answer in its place,
    /// unless another one does.
    BackendFailed(Step, Refusal),
    /// We answer in place of any backend, which has been logged where it happened.
    Failed(Refusal),
    /// The backend's own answer has been passed on, as far as it went.
    Answered(Afterwards),
    /// There is nobody left to answer.
    Gone(String),
    /// There is no TLS with the client, which has been logged; it may have been told why.
    Unsecured,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What follows when a request has come to its end.
enum Next {
    /// Perhaps another one.
    Request,
    /// We say that nothing more comes, and let the client have its answer.
    Farewell,
    /// The connection is of no use any more.
    Nothing,
}

/// What a worker serves a client with.
struct Tools<'a> {
    shared: &'a Shared,
    waiter: &'a mut Waiter,
    bell: &'a mut Option<Arc<Bell>>,
}

/// A client's connection.
struct Link {
    client: Stream,
    /// What the client has sent, and nobody has read.
    input: Buffer,
    /// The number of the connection.
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    /// The client, as the header of the PROXY protocol named it.
    forwarded_for: Option<SocketAddr>,
    /// Its TLS, if it speaks that.
    secured: Option<Secured>,
    /// Requests that were served before the present one.
    served: u64,
}

/// A request on its way through the server. Each is made anew, so that none knows of those before it.
struct Visit<'a> {
    tools: Tools<'a>,
    link: Link,
    generation: &'a Generation,
    site: &'a Arc<Site>,
    /// What holds for this request: that of its host, until its path is known.
    settings: Cow<'a, Settings>,
    /// What rules said about it.
    environment: Environment,
    /// What its `Host` said, where that may have been changed since.
    host: Option<Vec<u8>>,
    /// What becomes of the connection if we answer now.
    afterwards: Afterwards,
    /// What it is counted by if it asks for a tunnel; given back when the request or its tunnel ends, as what follows.
    place: Option<Place>,
    turn: Option<Turn>,
    /// The member that a balancer has chosen; given back likewise.
    elected: Option<Elected>,
    /// It is one of those that others wait for a moment for, since they will soon be done.
    handshake: Option<Counted<'a>>,
    transaction: Transaction,
    /// Its route leads to a tunnel.
    asks_for_tunnel: bool,
    began: Instant,
}

impl<'a> Tools<'a> {
    fn new(worker: &'a mut Worker, shared: &'a Shared) -> Self {
        Self {
            shared,
            waiter: &mut worker.waiter,
            bell: &mut worker.bell,
        }
    }
}

impl Link {
    fn new(accepted: Accepted) -> Self {
        let Accepted { id, connection, .. } = accepted;
        Self {
            client: connection.stream.into(),
            input: Buffer::default(),
            id,
            peer: connection.client,
            local: connection.local,
            forwarded_for: None,
            secured: None,
            served: 0,
        }
    }
}

impl<'a> Visit<'a> {
    /// The next request of a client, which begins at this time.
    // In a box: the stack below it is as deep as the deepest handshake, and stays so while a tunnel is open.
    #[inline(never)]
    fn begin(
        tools: Tools<'a>,
        link: Link,
        generation: &'a Generation,
        began: Instant,
    ) -> Box<Self> {
        let shared = tools.shared;
        // Until the request names a host, the first of the address sets the limits.
        let site = generation.site_for(link.local, None);
        let received = SystemTime::now() - began.elapsed();
        let mut transaction = Transaction::new(link.id, link.peer, link.local, received);
        transaction.set_client(link.forwarded_for.unwrap_or(link.peer));
        transaction.server_name = Arc::clone(&site.host.server_name);
        transaction.served = link.served;
        Box::new(Self {
            tools,
            link,
            generation,
            site,
            settings: Cow::Borrowed(&site.host.router.settings),
            environment: Environment::default(),
            host: None,
            afterwards: Afterwards::Ends,
            place: None,
            turn: None,
            elected: None,
            handshake: Some(Counted::new(&shared.handshakes)),
            transaction,
            asks_for_tunnel: false,
            began,
        })
    }

    /// The one behind this.
    #[inline(never)]
    fn next(self: Box<Self>) -> Box<Self> {
        Self::begin(self.tools, self.link, self.generation, Instant::now())
    }

    /// Its connection, for which another configuration is in force from now on.
    // Apart, so that its way through the stack is not that of every handshake.
    #[inline(never)]
    fn into_link(self: Box<Self>) -> Box<Link> {
        Box::new(self.link)
    }

    /// Says that nothing more comes, and lets the client have its answer.
    #[inline(never)]
    fn part(mut self: Box<Self>) {
        let limit = if self.tools.shared.clients.is_crowded() {
            LINGER_IN_A_CROWD
        } else {
            LINGER
        };
        if self.transaction.is_cut {
            self.link.client.cut();
        } else {
            let deadline = Instant::now() + limit;
            self.link.client.finish_by(deadline, self.tools.waiter);
        }
        self.link.client.close_lingering(limit, self.tools.waiter);
    }

    /// Serves one request: up to the verified 101, which the client then has, or to its end.
    #[inline(never)]
    fn serve_request(&mut self) -> Result<(Stream, Leftovers), End> {
        let mut head = match self.read_request() {
            Ok(head) => head,
            Err(end) => {
                // The first host logs what is no request.
                self.note_tls();
                return Err(end);
            }
        };
        self.site = self
            .generation
            .site_for(self.transaction.local, head.headers.first("Host"));
        self.transaction.server_name = self.site.host.server_name.clone();
        self.note_tls();
        let terms = self.check_terms();
        let is_outdated = terms.is_err() && self.is_outdated();
        let route = terms.and_then(|()| self.find_route(&mut head));
        self.afterwards = if is_outdated {
            Afterwards::Ends
        } else {
            self.afterwards_of_refusal(&head)
        };
        let outcome = match route {
            Ok(Found::Handler(handler)) => match self.answer_ourselves(&head, handler) {
                Ok(afterwards) => Err(End::Answered(afterwards)),
                Err(end) => Err(end),
            },
            Ok(Found::Route(route)) if route.to.is_tunnel() => {
                self.asks_for_tunnel = true;
                self.ask_backend(&head, &route)
            }
            Ok(Found::Route(route)) => match self.exchange(&head, &route) {
                Ok(afterwards) => Err(End::Answered(afterwards)),
                Err(end) => Err(end),
            },
            Err(refusal) => Err(End::Refused(refusal)),
        };
        if self.site.logs.access.iter().any(AccessLog::needs_request) {
            self.transaction.note().request = Some(head);
        }
        outcome
    }

    /// What becomes of the connection behind an answer to this request.
    fn afterwards_of(&self, head: &RequestHead) -> Afterwards {
        let keep_alive = &self.site.host.keep_alive;
        let is_refused = self.environment.is_set("nokeepalive");
        if !keep_alive.is_on || is_refused || self.tools.shared.clients.is_crowded() {
            return Afterwards::Ends;
        }
        let left = match keep_alive.max_requests {
            0 => None,
            most => Some(most.saturating_sub(self.link.served + 1)),
        };
        Afterwards::of_request(&head.headers, head.version, keep_alive.timeout, left)
    }

    /// The same where we refuse it, and read no more of it than its head.
    fn afterwards_of_refusal(&self, head: &RequestHead) -> Afterwards {
        // Who asks for a tunnel may have begun to send what belongs into it.
        let is_whole = Framing::of_request(head).is_ok_and(|framing| !framing.has_body())
            && head.headers.first("Upgrade").is_none();
        if is_whole {
            self.afterwards_of(head)
        } else {
            Afterwards::Ends
        }
    }

    /// Has the backend agree.
    fn ask_backend(
        &mut self,
        head: &RequestHead,
        route: &Route,
    ) -> Result<(Stream, Leftovers), End> {
        // Whatever comes of it, this connection has no further request.
        self.afterwards = Afterwards::Ends;
        // What none of its members would be asked for is no turn of a balancer.
        if let Destination::Balancer { balancer, .. } = &route.to {
            handshake::requested_of_any(head, balancer.upgrades())?;
            // Who has no place is no turn of it either.
            self.enter()?;
        }
        self.lead(head, route, true, |visit, way| {
            let (backend, asked, deadline) = visit.ask(head, way)?;
            visit.hear_switch(head, way, &asked, backend, deadline)
        })
    }

    /// Connects, and sends the request. Also: until when the answer has to be there. What the client sends early is kept.
    #[inline(never)]
    fn ask(&mut self, head: &RequestHead, way: &Way<'_>) -> Result<(Stream, Asked, Instant), End> {
        let asked = handshake::requested(head, way.backend.parameters.upgrade())?;
        self.enter()?;
        self.enter_backend(way.backend)?;
        self.turn = self.take_turn(way.backend)?;
        let mut backend = self.connect(way.backend, head)?;
        let request = forward::upgrade_head(head, &way.target, &asked, &self.policy(way));
        let deadline = Instant::now() + self.site.host.backend_timeout(way.backend);
        backend
            .send_all(&request, deadline, self.tools.waiter)
            .map_err(|why| self.step_failed(Step::Handshake, &why))?;
        self.count_sent(request.len());
        self.debug(Topic::Tunnel, format_args!("asked for {}", way.target));
        Ok((backend, asked, deadline))
    }

    /// Reads the answer, and passes it on.
    #[inline(never)]
    fn hear_switch(
        &mut self,
        head: &RequestHead,
        way: &Way<'_>,
        asked: &Asked,
        mut backend: Stream,
        deadline: Instant,
    ) -> Result<(Stream, Leftovers), End> {
        let mut limits = Limits::default();
        let parameters = &way.backend.parameters;
        limits.field = parameters.answer_field.unwrap_or(limits.field);
        let (answer, outcome, from_backend) =
            self.read_answer(&mut backend, asked, &limits, deadline)?;
        if matches!(outcome, Final::Relay) {
            if answer.status == 403 && self.policy(way).origin_is_foreign(head) {
                self.hint_at_origin(way.name);
            }
            self.judge(answer.status, false);
            return Err(self.relay(head, &answer, backend, way.backend, from_backend));
        }
        let switched = forward::switched_head(&answer, &self.answer_policy(head));
        self.send(&switched)?;
        self.transaction.status = answer.status;
        if self.site.logs.access.iter().any(AccessLog::needs_answer) {
            self.transaction.note().answer = Some(answer.headers);
        }
        let leftovers = Leftovers {
            is_websocket: asked.is_websocket(),
            from_client: self.link.input.take(),
            from_backend,
        };
        Ok((backend, leftovers))
    }

    fn policy<'p>(&'p self, way: &'p Way<'_>) -> forward::Policy<'p> {
        let name = &self.site.host.server_name;
        forward::Policy::new(&self.settings, name, &self.arrival(), &way.backend.url)
    }

    /// Which backend the request is for, and what is set for it. Its fields are then as the configuration wants them.
    fn find_route(&mut self, head: &mut RequestHead) -> Result<Found, Refusal> {
        let router = &self.site.host.router;
        let decision = router.route(head, &self.arrival(), &mut |_| ());
        self.transaction.set_client(decision.client);
        self.settings = decision.settings;
        self.environment = decision.environment;
        self.host = decision.host;
        self.note_environment();
        let route = match decision.outcome? {
            Found::Route(route) => route,
            handler @ Found::Handler(_) => return Ok(handler),
        };
        self.transaction.mapping = Some(Arc::clone(&route.name));
        if let Destination::Backend(backend) = &route.to {
            self.transaction.backend = Some(Arc::clone(backend));
        }
        forward::count_hop(&mut head.headers, self.site.host.max_forwards)?;
        Ok(Found::Route(route))
    }

    /// Says once for each mapping what often makes a backend refuse.
    #[inline(never)]
    fn hint_at_origin(&self, mapping: &Arc<str>) {
        if self.tools.shared.hinted.first_time(mapping) {
            let id = Id::OriginRefused;
            self.log(
                Topic::Proxy,
                Level::Warn,
                format_args!(
                    "{id} {mapping}: the backend answered 403, and Origin differs from the Host that it got; {}",
                    id.remedy()
                ),
            );
        }
    }

    fn arrival(&self) -> Arrival<'_> {
        let Transaction {
            peer,
            local,
            received,
            ..
        } = self.transaction;
        Arrival {
            client: self.transaction.client(),
            peer,
            local,
            tls: self.link.secured.as_ref().map(|secured| &secured.session),
            received,
            took: self.began.elapsed(),
        }
    }

    /// `host`: what the client's `Host` said, where that is known.
    fn circumstances<'c>(&'c self, host: Option<&'c [u8]>) -> Circumstances<'c> {
        let router = &self.site.host.router;
        let arrival = self.arrival();
        Circumstances {
            facts: arrival.facts(&router.name.server_name, router.own_name(host, &arrival)),
            environment: &self.environment,
            received: arrival.received,
            took: arrival.took,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + self.site.host.timeout;
        self.link
            .client
            .send_all(bytes, deadline, self.tools.waiter)
            .map_err(|why| End::Gone(why.to_string()))?;
        self.transaction.bytes_out += bytes.len() as u64;
        Ok(())
    }

    fn answer_policy<'p>(&'p self, head: &'p RequestHead) -> forward::AnswerPolicy<'p> {
        let host = self.host.as_deref();
        let host = host.or_else(|| head.headers.first("Host"));
        forward::AnswerPolicy {
            server_name: &self.site.host.server_name,
            port: self.arrival().unusual_port(),
            via: self.settings.via,
            reverse: &self.settings.reverse,
            edits: &self.settings.answer_edits,
            about: self.circumstances(host),
        }
    }

    /// What was received, as it was: it may hold secrets, which the manual says.
    fn trace_head(&self, topic: Topic, from: &str, bytes: &[u8]) {
        let head = bytes.escape_ascii();
        self.log(topic, Level::Trace, format_args!("{from}: {head}"));
    }

    fn debug(&self, topic: Topic, text: fmt::Arguments<'_>) {
        self.log(topic, Level::Debug, text);
    }

    fn log(&self, topic: Topic, level: Level, text: fmt::Arguments<'_>) {
        self.site.logs.say(topic, level, &self.transaction, text);
    }
}
