//! Turns at backends that are not to have more than some requests and tunnels at once. httpd: `max=`, `acquire=`.

use crate::config::Config;
use crate::net::wait::{Interrupted, Waiter, Want};
use crate::route::backend::Backend;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The turns at every backend that counts them, by its URL: mappings that lead to the same backend share them.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<String, Arc<Gate>>);

/// Those of one backend.
#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, in order. Each is a worker, so there are no more than `MaxRequestWorkers`.
    waiting: VecDeque<Arc<OwnedFd>>,
}

/// A turn; it is given back when this is dropped, by whichever thread ends the tunnel.
#[derive(Debug)]
pub(super) struct Turn(Arc<Gate>);

impl Turns {
    /// The first `max=` of a backend counts.
    pub(super) fn new(config: &Config) -> Self {
        let mut gates = HashMap::new();
        let backends = config.hosts().flat_map(|host| host.router.backends());
        for backend in backends {
            if let Some(max) = backend.parameters.max {
                gates.entry(backend.url.to_string()).or_insert_with(|| {
                    let state = State {
                        free: max,
                        waiting: VecDeque::new(),
                    };
                    Arc::new(Gate {
                        state: Mutex::new(state),
                    })
                });
            }
        }
        Self(gates)
    }

    /// Waits for a turn at `backend`; none is needed where it does not count them.
    ///
    /// # Errors
    /// [`Interrupted`], by the deadline for example.
    pub(super) fn take(
        &self,
        backend: &Backend,
        deadline: Instant,
        waiter: &mut Waiter,
    ) -> Result<Option<Turn>, Interrupted> {
        if backend.parameters.max.is_none() {
            return Ok(None);
        }
        match self.0.get(&backend.url.to_string()) {
            Some(gate) => gate.take(deadline, waiter).map(Some),
            None => Ok(None),
        }
    }
}

impl Gate {
    fn take(self: &Arc<Self>, deadline: Instant, waiter: &mut Waiter) -> Result<Turn, Interrupted> {
        let own = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn(Arc::clone(self)));
            }
            let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            let own = Arc::new(own.map_err(std::io::Error::from)?);
            state.waiting.push_back(Arc::clone(&own));
            own
        };
        let waited = waiter.wait([(own.as_fd(), Want::Read)], Some(deadline));
        let mut state = self.state();
        match state
            .waiting
            .iter()
            .position(|other| Arc::ptr_eq(other, &own))
        {
            // Nobody took it out of the queue, so it was not called.
            Some(place) => {
                state.waiting.remove(place);
                waited.and(Err(Interrupted::Deadline))
            }
            // It was called, be it in the last moment.
            None => Ok(Turn(Arc::clone(self))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match state.waiting.pop_front() {
            // The turn goes from hand to hand. An event counter that is empty takes a one.
            Some(next) => drop(rustix::io::write(&next, &1_u64.to_ne_bytes())),
            None => state.free += 1,
        }
    }
}
