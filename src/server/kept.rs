//! Connections to backends that wait for their next request. httpd: the connection pool of a worker of mod_proxy.

use super::Site;
use crate::net::stream::Stream;
use crate::route::backend::Backend;
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection is kept where `ttl=` says nothing. httpd: as long as the backend likes.
const TTL: Duration = Duration::from_secs(60);

/// How often it is looked whether a backend has closed one.
const LOOK: Duration = Duration::from_secs(5);

/// All of them.
#[derive(Debug)]
pub(super) struct Kept {
    state: Mutex<State>,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    idle: HashMap<Key, Vec<Idle>>,
    count: usize,
}

/// Whose they are: the addresses of a host and of a backend of the configuration, which live as long as the server.
/// A host has its own way to verify a backend, and a mapping its own parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    site: usize,
    backend: usize,
}

impl Key {
    fn new(site: &Arc<Site>, backend: &Arc<Backend>) -> Self {
        Self {
            site: Arc::as_ptr(site).addr(),
            backend: Arc::as_ptr(backend).addr(),
        }
    }
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    /// The name that the backend was asked for in TLS, where a client chose it.
    name: Option<String>,
    /// The only client's connection that it is for, where the backend knows somebody by it.
    owner: Option<u64>,
    until: Instant,
    /// Keeps the address of the key in use.
    _backend: Arc<Backend>,
}

impl Kept {
    /// Room for so many, of all backends together: one for each worker is what can be of use at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::default(),
            most,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last, if it still lives; rather one that is for nobody but `client`, and then with its owner.
    pub(super) fn take(
        &self,
        site: &Arc<Site>,
        backend: &Arc<Backend>,
        name: Option<&str>,
        client: u64,
    ) -> Option<(Stream, Option<u64>)> {
        loop {
            let mut idle = self.pop(Key::new(site, backend), name, client)?;
            if idle.until > Instant::now() && is_silent(&mut idle.stream) {
                return Some((idle.stream, idle.owner));
            }
        }
    }

    fn pop(&self, key: Key, name: Option<&str>, client: u64) -> Option<Idle> {
        let mut state = self.state();
        let of_backend = state.idle.get_mut(&key)?;
        let last_of = |owner| {
            let is_it = |idle: &Idle| idle.owner == owner && idle.name.as_deref() == name;
            of_backend.iter().rposition(is_it)
        };
        let place = last_of(Some(client)).or_else(|| last_of(None))?;
        let idle = of_backend.remove(place);
        state.count -= 1;
        Some(idle)
    }

    /// Keeps a connection over which an exchange has come to its end.
    pub(super) fn put(
        &self,
        site: &Arc<Site>,
        backend: &Arc<Backend>,
        name: Option<String>,
        owner: Option<u64>,
        stream: Stream,
    ) {
        let parameters = &backend.parameters;
        let idle = Idle {
            stream,
            name,
            owner,
            until: Instant::now() + parameters.ttl.unwrap_or(TTL),
            _backend: Arc::clone(backend),
        };
        let most = parameters.smax.unwrap_or(self.most);
        // Closed when the lock is free again.
        let _too_many = {
            let mut state = self.state();
            let is_full = state.count >= self.most;
            let of_backend = state.idle.entry(Key::new(site, backend)).or_default();
            if most == 0 || is_full && of_backend.is_empty() {
                Some(idle)
            } else {
                let is_full = is_full || of_backend.len() >= most;
                let oldest = is_full.then(|| of_backend.remove(0));
                of_backend.push(idle);
                state.count += usize::from(oldest.is_none());
                oldest
            }
        };
    }

    /// Closes all of them: there are no descriptors left for those who need one now. Says whether there were any.
    pub(super) fn clear(&self) -> bool {
        // Closed when the lock is free again.
        let closed = {
            let mut state = self.state();
            state.count = 0;
            std::mem::take(&mut state.idle)
        };
        closed.values().any(|of_backend| !of_backend.is_empty())
    }

    /// Closes those that have been kept for too long, and those whose backend has closed. Says when to look again.
    pub(super) fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.retain(|_, of_backend| {
            of_backend.retain_mut(|idle| idle.until > now && is_silent(&mut idle.stream));
            !of_backend.is_empty()
        });
        state.count = state.idle.values().map(Vec::len).sum();
        (state.count > 0).then_some(now + LOOK)
    }
}

/// Whether nothing came from a backend that was not asked for anything: neither its end nor an answer.
fn is_silent(stream: &mut Stream) -> bool {
    // In TLS this also takes what is no data, such as tickets.
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}
