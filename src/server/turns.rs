//! Turns at backends that are not to have more than some requests and tunnels at once. httpd: `max=`, `acquire=`.

use crate::config::Config;
use crate::route::backend::Backend;
use crate::route::url::BackendUrl;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The turns at every backend that counts them, by its URL: mappings that lead to the same backend share them.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<BackendUrl, Arc<Gate>>);

/// Those of one backend.
#[derive(Debug)]
struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, in order. Each is a worker, so there are no more than `MaxRequestWorkers`.
    waiting: VecDeque<Arc<Seat>>,
}

/// Where a turn is brought to somebody who waits for it.
#[derive(Debug)]
struct Seat {
    /// An event counter: readable when the turn is there.
    bell: OwnedFd,
    turn: Mutex<Option<Turn>>,
}

/// A turn; it is given back when this is dropped, by whichever thread ends the tunnel.
#[derive(Debug)]
pub(super) struct Turn(Arc<Gate>);

/// What who asks for a turn gets.
#[derive(Debug)]
pub(super) enum Entry {
    /// The backend may have any number of requests.
    Free,
    /// One of its turns.
    Taken(Turn),
    /// None is left, so there is one to wait for.
    Waiting(Place),
}

/// A place among those who wait. A turn that comes when its owner has just left goes to the next.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    seat: Arc<Seat>,
}

impl Turns {
    /// The first `max=` of a backend counts.
    pub(super) fn new(config: &Config) -> Self {
        let mut gates = HashMap::new();
        let backends = config.hosts().flat_map(|host| host.router.backends());
        for backend in backends {
            if let Some(max) = backend.parameters.max {
                gates.entry(backend.url.clone()).or_insert_with(|| {
                    let state = State {
                        free: max,
                        waiting: VecDeque::new(),
                    };
                    Arc::new(Gate(Mutex::new(state)))
                });
            }
        }
        Self(gates)
    }

    /// Asks for a turn at `backend`.
    ///
    /// # Errors
    /// When the system has no descriptor left to wait with.
    pub(super) fn ask(&self, backend: &Backend) -> io::Result<Entry> {
        let Some(gate) = self.0.get(&backend.url) else {
            return Ok(Entry::Free);
        };
        let mut state = gate.state();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Entry::Taken(Turn(Arc::clone(gate))));
        }
        let seat = Arc::new(Seat {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            turn: Mutex::default(),
        });
        state.waiting.push_back(Arc::clone(&seat));
        let gate = Arc::clone(gate);
        Ok(Entry::Waiting(Place { gate, seat }))
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock cannot leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What becomes readable when the turn has come.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.seat.bell.as_fd()
    }

    /// The turn, if it has come.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.seat.turn().take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state
            .waiting
            .retain(|other| !Arc::ptr_eq(other, &self.seat));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The lock is let go before the turn is brought: who has left meanwhile gives it back at once.
        let next = {
            let mut state = self.0.state();
            let next = state.waiting.pop_front();
            state.free += usize::from(next.is_none());
            next
        };
        // The turn goes from hand to hand.
        if let Some(next) = next {
            *next.turn() = Some(Self(Arc::clone(&self.0)));
            // An event counter that is empty takes a one.
            let _ = rustix::io::write(&next.bell, &1_u64.to_ne_bytes());
        }
    }
}
