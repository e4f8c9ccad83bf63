//! The way to a backend, and its answer: one step after the other, each by its deadline.

use super::failure::{Step, stopping};
use super::{End, Visit};
use crate::handshake::{self, Asked, Verdict};
use crate::http::authority::Authority;
use crate::http::head::{Limits, RequestHead, ResponseHead};
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::connect::{ConnectError, Options, Place, connect_host, connect_unix};
use crate::net::resolve::{ResolveError, TTL};
use crate::net::stream::{Socket, Stream};
use crate::net::tls::TlsError;
use crate::net::wait::{Interrupted, Want, is_momentary};
use crate::route::backend::Backend;
use crate::server::Site;
use crate::server::acceptor::is_exhaustion;
use crate::server::turns::{Entry, Turn};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Bytes that a client may send before it has the 101; then no more is read from it.
const EARLY: usize = 16 * 1024;
/// Answers with 1xx other than 101 before the final one, as many as httpd takes.
const MOST_INTERIM: usize = 10;

/// What a backend's last answer is.
pub(super) enum Final {
    /// A 101 that has been verified.
    Switched,
    /// Any other.
    Relay,
}

impl Visit<'_> {
    /// Waits until the backend may have one more request, where it may not have any number.
    #[inline(never)]
    pub(super) fn take_turn(&mut self, backend: &Backend) -> Result<Option<Turn>, End> {
        if backend.parameters.is_disabled == Some(true) {
            let why = "the backend is disabled (status=+D)";
            return Err(self.backend_failed(Step::Acquire, Id::Disabled, &why));
        }
        let entry = self.generation.turns.ask(backend);
        let no_bell = |error| self.blameless_failure(Step::Acquire, Id::NoDescriptors, &error);
        let place = match entry.map_err(no_bell)? {
            Entry::Free => return Ok(None),
            Entry::Taken(turn) => return Ok(Some(turn)),
            Entry::Waiting(place) => place,
        };
        let patience = backend.parameters.acquire;
        let patience = patience.unwrap_or_else(|| self.site.host.backend_timeout(backend));
        let deadline = Instant::now() + patience;
        loop {
            let bell = (place.bell(), Want::Read);
            let waited = if backend.url.scheme.is_tunnel() {
                self.wait_beside_client(bell, deadline, Step::Acquire)
            } else {
                // A client may have ended its direction and wait for its answer.
                let woken = self.tools.waiter.wait([bell], Some(deadline));
                woken
                    .map(drop)
                    .map_err(|why| self.step_failed(Step::Acquire, &why))
            };
            // One that has come in the last moment is taken as well.
            match place.turn() {
                Some(turn) => return Ok(Some(turn)),
                None => waited?,
            }
        }
    }

    /// Connects to the backend, with TLS where it wants that.
    #[inline(never)]
    pub(super) fn connect(&mut self, backend: &Backend, head: &RequestHead) -> Result<Stream, End> {
        let url = &backend.url;
        let Site {
            host, connectors, ..
        } = self.site.as_ref();
        let deadline = Instant::now() + host.connect_timeout(backend);
        let socket = loop {
            let socket = match &url.socket {
                Some(path) => connect_unix(path, deadline, self.tools.waiter)
                    .map(Socket::from)
                    .map_err(ConnectError::Connect),
                None => {
                    let place = Place {
                        host: &url.host,
                        port: url.port,
                        address_ttl: backend.parameters.address_ttl,
                    };
                    let options = Options {
                        keepalive: backend.parameters.keepalive.unwrap_or(true),
                        receive_buffer: host.backend_receive_buffer(backend),
                        source: host.source_address,
                    };
                    let resolver = &self.tools.shared.resolver;
                    connect_host(resolver, place, options, deadline, self.tools.waiter)
                        .map(Socket::from)
                }
            };
            match socket {
                Ok(socket) => break socket,
                Err(ConnectError::Connect(Interrupted::Failed(error))) if is_exhaustion(&error) => {
                    // Those that are kept need not come first.
                    if !self.generation.kept.clear() {
                        let id = Id::NoDescriptors;
                        return Err(self.blameless_failure(Step::Connect, id, &error));
                    }
                }
                Err(ConnectError::Connect(why)) => {
                    return Err(self.step_failed(Step::Connect, &why));
                }
                Err(ConnectError::Resolve(why)) => return Err(self.unresolved(&why)),
            }
        };
        if !url.scheme.is_tls() {
            self.backend_lives();
            return Ok(socket.into());
        }
        let Some(connector) = connectors.of(backend) else {
            return Err(self.backend_failed(Step::Tls, Id::TlsFailed, &"this host has no TLS"));
        };
        let name = self.client_name(backend, head);
        // Which certificate a backend shows, and whether it shows one at all, may depend on the name: nobody shall have
        // others do without a backend by asking it for something odd.
        let step = match &name {
            Some(name) if !host.is_named(name) => Step::TlsByName,
            _ => Step::Tls,
        };
        let name = name.as_deref().unwrap_or(&url.host);
        let deadline = Instant::now() + host.backend_timeout(backend);
        let stream = connector
            .connect(name, socket, deadline, self.tools.waiter)
            .map_err(|why| match why {
                TlsError::Interrupted(why) => self.step_failed(step, &why),
                TlsError::Handshake(why) => self.backend_failed(step, Id::TlsFailed, &why),
            })?;
        self.backend_lives();
        Ok(stream)
    }

    /// Whether more is taken from a client that has no 101 yet.
    pub(super) fn has_room_for_early(&self) -> bool {
        self.link.input.bytes().len() < EARLY
    }

    /// The name that a backend is asked for in TLS and held to, where it is one that the client chose.
    // httpd: with ProxyPreserveHost it is the one that the client knows.
    pub(super) fn client_name(&self, backend: &Backend, head: &RequestHead) -> Option<String> {
        if !backend.url.scheme.is_tls() || !self.settings.preserve_host {
            return None;
        }
        let host = head.headers.first("Host")?;
        let authority = Authority::parse(host).ok()?;
        Some(authority.host.to_owned())
    }

    /// Whether the backend's name no longer leads to where this connection leads.
    pub(super) fn has_moved(&self, backend: &Backend, stream: &Stream) -> bool {
        let host = &backend.url.host;
        if backend.url.socket.is_some() || host.parse::<IpAddr>().is_ok() {
            return false;
        }
        let resolver = &self.tools.shared.resolver;
        let ttl = backend.parameters.address_ttl.unwrap_or(TTL);
        let peer = stream.peer();
        peer.is_some_and(|address| !resolver.still_has(host, address, ttl))
    }

    fn unresolved(&self, why: &ResolveError) -> End {
        match why {
            ResolveError::Closed => stopping(),
            ResolveError::Deadline => self.backend_failed(Step::Resolve, Id::ConnectTimeout, why),
            ResolveError::Failed(_) => self.backend_failed(Step::Resolve, Id::Unresolved, why),
        }
    }

    /// Reads the backend's final answer head, or its 101. Meanwhile what the client sends early is kept, and a
    /// client that goes away ends the wait.
    pub(super) fn read_answer(
        &mut self,
        backend: &mut Stream,
        asked: &Asked,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<(ResponseHead, Final, Vec<u8>), End> {
        let mut buffer = Buffer::default();
        let mut interim = 0;
        loop {
            let parsed = ResponseHead::parse(buffer.bytes(), limits);
            match parsed.map_err(|why| self.backend_failed(Step::Handshake, Id::Garbage, &why))? {
                Some((used, answer)) => {
                    self.trace_head(Topic::Tunnel, "backend", buffer.bytes());
                    // What is behind it is counted by who moves it.
                    self.count_received(used);
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
                        return Ok((answer, outcome, from_backend));
                    }
                    interim += 1;
                    if interim > MOST_INTERIM {
                        let why = "more than 10 interim answers";
                        return Err(self.backend_failed(Step::Handshake, Id::Garbage, &why));
                    }
                    buffer = Buffer::from(from_backend);
                }
                None => self.read_more_answer(backend, &mut buffer, deadline)?,
            }
        }
    }

    /// Reads what the backend sends next, and takes what the client sends until then.
    fn read_more_answer(
        &mut self,
        backend: &mut Stream,
        answer: &mut Buffer,
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
            self.wait_beside_client(backend, deadline, Step::Handshake)?;
            is_ready = true;
        }
    }

    /// Waits for what a step needs next, and takes what the client sends until then. A client that goes away ends the
    /// wait.
    fn wait_beside_client(
        &mut self,
        awaited: (BorrowedFd<'_>, Want),
        deadline: Instant,
        step: Step,
    ) -> Result<(), End> {
        loop {
            let woken = match [awaited, self.link.client.waits_to_read()] {
                // What is not read waits in the kernel, and slows its sender.
                [awaited, _] if !self.has_room_for_early() => self
                    .tools
                    .waiter
                    .wait([awaited], Some(deadline))
                    .map(|[ready]| [ready, false]),
                both => self.tools.waiter.wait(both, Some(deadline)),
            };
            let [is_ready, client_is_ready] = woken.map_err(|why| self.step_failed(step, &why))?;
            if client_is_ready {
                self.take_early()?;
            }
            if is_ready {
                return Ok(());
            }
        }
    }

    pub(super) fn take_early(&mut self) -> Result<(), End> {
        match self.link.input.fill(&mut self.link.client) {
            Ok(0) => Err(End::Gone(
                "closed before the backend had answered".to_owned(),
            )),
            Ok(_) => Ok(()),
            Err(error) if is_momentary(&error) => Ok(()),
            Err(error) => Err(End::Gone(error.to_string())),
        }
    }
}
