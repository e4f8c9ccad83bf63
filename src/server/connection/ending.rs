//! How a connection goes on when its handshake is over: as a tunnel, with an answer of ours, or without a word. Each way
//! ends with its line in the access log.

use super::admission::is_for_lack_of_room;
use super::failure::Step;
use super::{End, Next, Visit, Worker};
use crate::balancer::Lease;
use crate::http::answer::Refusal;
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::wait::Want;
use crate::registry::Registry;
use crate::route::edit;
use crate::route::settings::Settings;
use crate::server::clients::Bell;
use crate::server::counters::{Counters, Handshake};
use crate::server::limits::Place;
use crate::server::removed;
use crate::server::turns::Turn;
use crate::server::{Shared, SiteLogs};
use crate::transaction::{CloseReason, Seen, Side, Transaction};
use crate::tunnel::reactor::Refused;
use crate::tunnel::{Leftovers, Limits, Live, Observer, Tunnel};
use log::{Level, error, warn};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

impl Visit<'_> {
    /// What becomes of the visit when both sides have agreed: a tunnel, and when a reactor is to take it.
    #[inline(never)]
    pub(super) fn into_tunnel(
        mut self: Box<Self>,
        backend: Stream,
        leftovers: Leftovers,
    ) -> (Box<Tunnel>, Option<Duration>) {
        self.debug(Topic::Tunnel, format_args!("switched"));
        self.transaction.is_open = true;
        self.log_access();
        self.transaction.is_open = false;
        let Settings {
            idle_timeout,
            half_close_timeout,
            lifetime,
            asynchronous,
            async_delay,
            ..
        } = *self.settings;
        let limits = Limits {
            idle: idle_timeout,
            half_close: half_close_timeout,
            lifetime: lifetime.map(|it| it.drawn(self.tools.shared.limits.draw(self.link.id))),
        };
        let shared = self.tools.shared;
        let guest = Guest {
            logs: Arc::clone(&self.site.logs),
            tunnels: Arc::clone(&shared.tunnels),
            counters: Arc::clone(&shared.counters),
            place: self.place,
            _turn: self.turn,
            elected: self.elected.map(|elected| Box::new(elected.into_lease())),
        };
        shared.counters.handshake(Handshake::Switched);
        let id = self.transaction.id;
        let is_too_late = !shared.in_force.is(self.generation)
            && removed::is_too_late(&shared.in_force.get(), &self.transaction);
        let live: Arc<Live> = Live::new(self.transaction, self.began, guest);
        shared.tunnels.open(Arc::clone(&live));
        if is_too_late {
            shared.tunnels.end(id, CloseReason::Removed);
        }
        let tunnel = Tunnel::new(self.link.client, backend, leftovers, limits, live);
        (Box::new(tunnel), asynchronous.then_some(async_delay))
    }

    /// Ends a request that has become no tunnel.
    #[inline(never)]
    pub(super) fn conclude(&mut self, end: End) -> Next {
        // There is no exchange with the backend any more, and a client may take its time.
        self.place = None;
        self.turn = None;
        self.elected = None;
        if self.asks_for_tunnel {
            self.tools.shared.counters.handshake(come_to(&end));
        }
        match end {
            End::Refused(refusal) => {
                self.log_refusal(&refusal);
                self.answer(&refusal)
            }
            End::BackendFailed(_, refusal) | End::Failed(refusal) => self.answer(&refusal),
            End::Answered(afterwards) => self.answered(afterwards),
            End::Unsecured => Next::Farewell,
            End::Gone(why) => {
                self.give_up(&why);
                Next::Nothing
            }
        }
    }

    fn log_refusal(&self, refusal: &Refusal) {
        let Refusal {
            id, status, why, ..
        } = refusal;
        let transaction = &self.transaction;
        let line = transaction.request_line.escape_ascii();
        let route = transaction
            .mapping
            .as_ref()
            .zip(transaction.backend.as_ref());
        // What is refused of a tunnel was refused before a backend came into it.
        let (topic, place) = match route {
            Some((mapping, backend)) if !backend.url.scheme.is_tunnel() => {
                let (url, step) = (&backend.url, Step::Request);
                let place = format!(" on the way to {url} by {mapping}, step {step}");
                (Topic::Exchange, place)
            }
            Some(_) => (Topic::Tunnel, String::new()),
            None => (Topic::Core, String::new()),
        };
        self.log(
            topic,
            Level::Info,
            format_args!(
                "{id} \"{line}\" refused: {why} ({status}){place}; {}",
                id.remedy()
            ),
        );
    }

    /// Answers in place of a backend.
    #[inline(never)]
    fn answer(&mut self, refusal: &Refusal) -> Next {
        let document = self.settings.document(refusal.status);
        self.transaction.status =
            document.map_or(refusal.status, |document| document.status(refusal.status));
        let is_head = self.transaction.request_line.starts_with(b"HEAD ");
        // httpd: `ap_status_drops_connection`.
        let afterwards = match refusal.status {
            400 | 408 | 411 | 413 | 414 | 500 | 501 | 503 => Afterwards::Ends,
            _ => self.afterwards,
        };
        let extra = edit::always(&self.settings.answer_edits, &self.circumstances(None));
        let (answer, body) = refusal.encode(is_head, unix_seconds(), &extra, document, afterwards);
        self.transaction.body_out = body as u64;
        match self.send(&answer) {
            Ok(()) => self.answered(afterwards),
            Err(_) => {
                self.log_access();
                Next::Nothing
            }
        }
    }

    /// The answer is out.
    fn answered(&mut self, afterwards: Afterwards) -> Next {
        self.transaction.stays = afterwards.stays();
        self.log_access();
        if afterwards.stays() {
            Next::Request
        } else {
            Next::Farewell
        }
    }

    /// Nobody is left to answer.
    fn give_up(&mut self, why: &str) {
        self.debug(Topic::Core, format_args!("gone: {why}"));
        self.transaction.is_cut = true;
        if self.transaction.request_line.is_empty() {
            self.link.client.take_leave();
        } else {
            self.log_access();
        }
    }

    fn log_access(&self) {
        self.tools.shared.counters.answered(&self.transaction);
        let took = self.began.elapsed();
        self.site.logs.log_access(&self.transaction, took);
    }

    /// Waits for the next request of the client: whether there is one.
    #[inline(never)]
    pub(super) fn await_request(&mut self) -> bool {
        // RFC 9112 section 2.2: some clients put an empty line behind a body, which begins no request.
        while self.link.input.bytes().starts_with(b"\r\n") {
            self.link.input.discard(2);
        }
        if !self.link.input.is_empty() {
            return true;
        }
        // What TLS has decrypted already raises no event.
        if self.tools.waiter.let_others_run() || !self.link.client.is_plain() {
            match self.link.input.fill(&mut self.link.client) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end or a failure is found again by who reads the request.
                _ => return true,
            }
        }
        // Others need not wait for a client that may ask nothing more, and nothing is held for it.
        self.handshake = None;
        self.link.input = Buffer::default();
        if self.tools.bell.is_none() {
            *self.tools.bell = Bell::new().ok().map(Arc::new);
        }
        let Some(bell) = self.tools.bell.as_ref() else {
            // Out of descriptors: others need this one.
            return false;
        };
        let Some(waiting) = self.tools.shared.clients.wait(bell) else {
            return false;
        };
        let deadline = Instant::now() + self.site.host.keep_alive.timeout;
        let sockets = [
            self.link.client.waits_to_read(),
            (waiting.bell(), Want::Read),
        ];
        // Who has asked in the last moment is served.
        let has_asked = matches!(
            self.tools.waiter.wait(sockets, Some(deadline)),
            Ok([true, _])
        );
        if has_asked {
            waiting.stay();
        }
        has_asked
    }
}

/// Runs a tunnel to its end, or until a reactor takes it, when nothing has moved for `until_reactor`.
pub(super) fn run(
    mut tunnel: Box<Tunnel>,
    until_reactor: Option<Duration>,
    worker: &mut Worker,
    shared: &Shared,
) {
    let Worker {
        waiter, event_loop, ..
    } = worker;
    if let Some(delay) = until_reactor {
        if !delay.is_zero() {
            match event_loop.run_one(tunnel, &mut waiter.alarm, Some(delay)) {
                Ok(Some(quiet)) => tunnel = quiet,
                Ok(None) => return,
                Err(error) => return cannot_wait(&error),
            }
        }
        let outcome = match shared.reactors.get() {
            Some(reactors) => reactors.adopt(tunnel),
            None => Err((tunnel, Refused::Limit(0))),
        };
        match outcome {
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

/// What a request for a tunnel came to that has got none.
fn come_to(end: &End) -> Handshake {
    match end {
        End::Refused(_) | End::Unsecured => Handshake::Refused,
        End::Failed(refusal) if refusal.id == Id::Overridden => Handshake::Declined,
        End::BackendFailed(_, refusal) | End::Failed(refusal) if is_for_lack_of_room(refusal) => {
            Handshake::Refused
        }
        End::BackendFailed(..) | End::Failed(_) => Handshake::Failed,
        End::Answered(_) => Handshake::Declined,
        End::Gone(_) => Handshake::Gone,
    }
}

pub(super) fn unix_seconds() -> u64 {
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

impl SiteLogs {
    fn tunnel_ended(&self, transaction: &Transaction, took: Duration) {
        if let Some(reason) = &transaction.close {
            let (up, down) = (transaction.to_backend, transaction.from_backend);
            if let CloseReason::Died(_) = **reason
                && let (Some(mapping), Some(backend)) = (&transaction.mapping, &transaction.backend)
            {
                // No warning: thousands may have had this backend, and who comes next is warned about. And where a
                // backend never says Close, the log would be full of what is usual there.
                let (id, url) = (Id::Died, &backend.url);
                self.say(
                    Topic::Tunnel,
                    Level::Info,
                    transaction,
                    format_args!(
                        "{id} {mapping}: {url}: closed: {reason}; {up} bytes up, {down} down; {}",
                        id.remedy()
                    ),
                );
            } else {
                self.say(
                    Topic::Tunnel,
                    Level::Debug,
                    transaction,
                    format_args!(
                        "closed: {reason}; {up} bytes up, {down} down{}",
                        Closes(transaction.seen.as_deref())
                    ),
                );
            }
        }
        self.log_access(transaction, took);
    }
}

/// What the Close frames of a tunnel have said: `; client said Close 1001 "going away"`.
struct Closes<'a>(Option<&'a Seen>);

impl fmt::Display for Closes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(seen) = self.0 else { return Ok(()) };
        for (side, said) in [
            (Side::Client, &seen.from_client),
            (Side::Backend, &seen.from_backend),
        ] {
            let Some(close) = &said.close else { continue };
            write!(f, "; {side} said Close")?;
            if let Some(code) = close.code {
                write!(f, " {code}")?;
            }
            if !close.reason.is_empty() {
                write!(f, " \"{}\"", close.reason.escape_ascii())?;
            }
        }
        Ok(())
    }
}

/// What the server has for a tunnel, until it ends.
#[derive(Debug)]
struct Guest {
    logs: Arc<SiteLogs>,
    tunnels: Arc<Registry>,
    counters: Arc<Counters>,
    place: Option<Place>,
    _turn: Option<Turn>,
    /// The member of a balancer that it is at, and the balancer's name. In a box, since most have none.
    elected: Option<Box<(Lease, Arc<str>)>>,
}

impl Observer for Guest {
    fn moved(&self, to_backend: u64, from_backend: u64) {
        if let Some((lease, _)) = self.elected.as_deref() {
            lease.meter().sent(to_backend);
            lease.meter().received(from_backend);
        }
    }

    fn balancer(&self) -> Option<Arc<str>> {
        let elected = self.elected.as_deref();
        elected.map(|(_, name)| Arc::clone(name))
    }

    fn ended(&self, live: &Live, transaction: &Transaction, took: Duration) {
        self.counters.ended(transaction.close.as_deref());
        if let Some(place) = &self.place {
            place.end();
        }
        self.tunnels.close(transaction.id, live);
        self.logs.tunnel_ended(transaction, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that there may be thousands of, but for the request line, a seat in the loop and one in the registry, and a deadline.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_idle_tunnel_is_two_small_pieces() {
        assert!(size_of::<Tunnel>() <= 296, "{}", size_of::<Tunnel>());
        let shared = size_of::<Live<Guest>>();
        assert!(shared <= 408, "{shared}");
    }
}
