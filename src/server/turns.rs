//! Turns at backends that are not to have more than some requests and tunnels at once. httpd: `max=`, `acquire=`.

use crate::config::Config;
use crate::route::backend::Backend;
use crate::route::url::BackendUrl;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The turns at every backend that counts them, by its URL: mappings that lead to the same backend share them. Also: how
/// many there are to be.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<BackendUrl, (Arc<Gate>, usize)>);

/// Those of one backend.
#[derive(Debug, Default)]
struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// How many may be. A reload may have made them less than are taken.
    most: usize,
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
    /// The first `max=` of a backend counts. What was taken `before` a reload is taken on. Nobody gets in before
    /// [`open`](Self::open).
    pub(super) fn new(config: &Config, before: Option<&Self>) -> Self {
        let mut gates = HashMap::new();
        let backends = config.hosts().flat_map(|host| host.router.backends());
        for backend in backends {
            if let Some(max) = backend.parameters.max {
                gates.entry(backend.url.clone()).or_insert_with(|| {
                    let known = before.and_then(|before| before.0.get(&backend.url));
                    let gate = known.map_or_else(Arc::default, |(gate, _)| Arc::clone(gate));
                    (gate, max)
                });
            }
        }
        Self(gates)
    }

    /// From now on there are as many turns as the configuration says.
    pub(super) fn open(&self) {
        for (gate, most) in self.0.values() {
            gate.state().most = *most;
            while let Some(next) = gate.state().admit() {
                next.bring(Turn(Arc::clone(gate)));
            }
        }
    }

    /// Asks for a turn at `backend`.
    ///
    /// # Errors
    /// When the system has no descriptor left to wait with.
    pub(super) fn ask(&self, backend: &Backend) -> io::Result<Entry> {
        let Some((gate, _)) = self.0.get(&backend.url) else {
            return Ok(Entry::Free);
        };
        let mut state = gate.state();
        if state.taken < state.most {
            state.taken += 1;
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

impl State {
    /// Whose turn it is, if there is one.
    fn admit(&mut self) -> Option<Arc<Seat>> {
        if self.taken >= self.most {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.taken += 1;
        Some(next)
    }
}

impl Seat {
    /// Not to be called with the gate locked: who has left meanwhile gives the turn back at once.
    fn bring(&self, turn: Turn) {
        *self.turn() = Some(turn);
        // An event counter that is empty takes a one.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

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
        let next = {
            let mut state = self.0.state();
            state.taken -= 1;
            state.admit()
        };
        if let Some(next) = next {
            next.bring(Self(Arc::clone(&self.0)));
        }
    }
}
