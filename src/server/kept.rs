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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use crate::config_files::Machine;
    use crate::net::stream::Socket;
    use crate::route::backend::Parameters;
    use crate::server::tls::Connectors;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn site() -> Arc<Site> {
        let sources = Sources {
            before: vec!["Listen 127.0.0.1:0".to_owned()],
            ..Sources::default()
        };
        Arc::new(Site {
            host: load(&sources, &Machine).unwrap().main,
            logs: Arc::default(),
            tls_host: None,
            connectors: Connectors::default(),
        })
    }

    fn backend(parameters: Parameters) -> Arc<Backend> {
        Arc::new(Backend {
            url: crate::route::url::BackendUrl::parse("http://backend.example/").unwrap(),
            parameters,
        })
    }

    fn unlimited() -> Arc<Backend> {
        backend(Parameters::default())
    }

    /// Our end of a connection, and the backend's.
    fn connection() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Socket::from(ours).into(), theirs)
    }

    /// One for a client that owns none.
    fn taken(
        kept: &Kept,
        site: &Arc<Site>,
        backend: &Arc<Backend>,
        name: Option<&str>,
    ) -> Option<Stream> {
        kept.take(site, backend, name, 0).map(|(stream, _)| stream)
    }

    /// Whether this is the other end of `stream`.
    fn is_other_end(stream: &mut Stream, theirs: &mut UnixStream) -> bool {
        stream.write_all(b"x").unwrap();
        theirs.set_nonblocking(true).unwrap();
        matches!(theirs.read(&mut [0]), Ok(1))
    }

    fn is_closed(theirs: &mut UnixStream) -> bool {
        theirs.set_nonblocking(true).unwrap();
        matches!(theirs.read(&mut [0]), Ok(0))
    }

    #[test]
    fn the_one_that_was_used_last_is_taken_first() {
        let (kept, site, backend) = (Kept::new(10), site(), unlimited());
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = connection();
            kept.put(&site, &backend, None, None, ours);
            peers.push(theirs);
        }
        while let Some(mut theirs) = peers.pop() {
            let mut ours = taken(&kept, &site, &backend, None).unwrap();
            assert!(is_other_end(&mut ours, &mut theirs));
        }
        assert!(taken(&kept, &site, &backend, None).is_none());
    }

    #[test]
    fn one_is_for_its_host_its_backend_and_its_name_alone() {
        let (kept, sites) = (Kept::new(10), [site(), site()]);
        let backends = [unlimited(), unlimited()];
        let (ours, mut theirs) = connection();
        let [one, other] = &sites;
        let [here, there] = &backends;
        kept.put(one, here, Some("a".to_owned()), None, ours);
        assert!(taken(&kept, other, here, Some("a")).is_none());
        assert!(taken(&kept, one, there, Some("a")).is_none());
        assert!(taken(&kept, one, here, Some("b")).is_none());
        assert!(taken(&kept, one, here, None).is_none());
        let mut ours = taken(&kept, one, here, Some("a")).unwrap();
        assert!(is_other_end(&mut ours, &mut theirs));
    }

    #[test]
    fn one_that_a_client_owns_is_for_nobody_else() {
        let (kept, site, backend) = (Kept::new(10), site(), unlimited());
        let (ours, mut owned) = connection();
        kept.put(&site, &backend, None, Some(7), ours);
        assert!(kept.take(&site, &backend, None, 8).is_none());
        let (ours, mut free) = connection();
        kept.put(&site, &backend, None, None, ours);
        let (mut ours, owner) = kept.take(&site, &backend, None, 7).unwrap();
        assert_eq!(owner, Some(7), "rather its own");
        assert!(is_other_end(&mut ours, &mut owned));
        let (mut ours, owner) = kept.take(&site, &backend, None, 7).unwrap();
        assert_eq!(owner, None);
        assert!(is_other_end(&mut ours, &mut free));
    }

    #[test]
    fn one_whose_backend_has_closed_or_spoken_is_passed_over_and_closed() {
        let (kept, site, backend) = (Kept::new(10), site(), unlimited());
        let (ours, mut alive) = connection();
        kept.put(&site, &backend, None, None, ours);
        let (ours, mut spoken) = connection();
        kept.put(&site, &backend, None, None, ours);
        let (ours, closed) = connection();
        kept.put(&site, &backend, None, None, ours);
        drop(closed);
        spoken.write_all(b"HTTP/1.1 408 Too late\r\n\r\n").unwrap();
        let mut ours = taken(&kept, &site, &backend, None).unwrap();
        assert!(is_other_end(&mut ours, &mut alive));
        assert!(taken(&kept, &site, &backend, None).is_none());
        assert!(spoken.write_all(b"x").is_err(), "our end is closed");
    }

    #[test]
    fn smax_is_how_many_of_a_backend_are_kept() {
        let site = site();
        for most in [0, 1, 2] {
            let kept = Kept::new(10);
            let backend = backend(Parameters {
                smax: Some(most),
                ..Parameters::default()
            });
            let mut peers = Vec::new();
            for _ in 0..4 {
                let (ours, theirs) = connection();
                kept.put(&site, &backend, None, None, ours);
                peers.push(theirs);
            }
            // Those that were used first have gone.
            let closed: Vec<_> = peers.iter_mut().map(is_closed).collect();
            let expected: Vec<_> = (0..4).map(|place| place < 4 - most).collect();
            assert_eq!(closed, expected, "smax={most}");
        }
    }

    #[test]
    fn all_together_are_no_more_than_there_is_room_for() {
        let (kept, site) = (Kept::new(2), site());
        let backends = [unlimited(), unlimited(), unlimited()];
        let mut peers = Vec::new();
        for _ in 0..3 {
            for backend in &backends {
                let (ours, theirs) = connection();
                kept.put(&site, backend, None, None, ours);
                peers.push(theirs);
                let open = peers
                    .iter_mut()
                    .filter_map(|it| (!is_closed(it)).then_some(()));
                assert!(open.count() <= 2);
            }
        }
        // What was taken leaves room for others.
        let [first, _, third] = &backends;
        assert!(taken(&kept, &site, third, None).is_none());
        assert!(taken(&kept, &site, first, None).is_some());
        let (ours, _theirs) = connection();
        kept.put(&site, third, None, None, ours);
        assert!(taken(&kept, &site, third, None).is_some());
    }

    #[test]
    fn what_is_swept_is_closed_and_leaves_room() {
        let (kept, site) = (Kept::new(2), site());
        let (lasting, short) = (
            unlimited(),
            backend(Parameters {
                ttl: Some(Duration::ZERO),
                ..Parameters::default()
            }),
        );
        assert_eq!(kept.sweep(), None, "there is nothing to look after");
        let (ours, mut over) = connection();
        kept.put(&site, &short, None, None, ours);
        let (ours, mut alive) = connection();
        kept.put(&site, &lasting, None, None, ours);
        assert!(kept.sweep().is_some());
        assert!(is_closed(&mut over));
        assert!(!is_closed(&mut alive));
        // Nobody has to ask for it: it is noticed.
        alive.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(kept.sweep(), None);
        assert!(is_closed(&mut alive));
        let state = kept.state();
        assert_eq!((state.count, state.idle.len()), (0, 0));
    }

    #[test]
    fn one_that_is_over_its_time_is_not_taken_before_it_is_swept() {
        let (kept, site) = (Kept::new(2), site());
        let backend = backend(Parameters {
            ttl: Some(Duration::ZERO),
            ..Parameters::default()
        });
        let (ours, mut theirs) = connection();
        kept.put(&site, &backend, None, None, ours);
        assert!(taken(&kept, &site, &backend, None).is_none());
        assert!(is_closed(&mut theirs));
    }
}
