//! How other threads reach an event loop: with tunnels, and with the word that it shall end.
//!
//! Who brings a tunnel registers its sockets himself and leaves it here. It wakes the loop only where that would
//! be late otherwise: most tunnels lie here until their first event fetches them.

use super::Tunnel;
use super::event_loop::watch;
use crate::transaction::CloseReason;
use mio::{Registry, Waker};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the loop and those outside share.
#[derive(Debug)]
pub(super) struct Lobby {
    waker: Waker,
    /// Its loop runs more than one tunnel.
    is_shared: bool,
    state: Mutex<State>,
}

/// What has come, and what the loop lets those outside know.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Tunnels that are registered under these places, and that the loop does not have yet.
    pub(super) arrivals: Vec<(usize, Box<Tunnel>)>,
    /// Places of tunnels that have been told to end, each once.
    pub(super) told: Vec<usize>,
    /// Why no further tunnel shall run.
    pub(super) ending: Option<CloseReason>,
    pub(super) places: Places,
    /// When the loop wakes by itself.
    pub(super) wakes_at: Option<Instant>,
    /// The loop has ended.
    pub(super) is_gone: bool,
}

/// Numbers of tunnels, all below the most there have been at a time, since the loop keeps a list by them.
#[derive(Debug, Default)]
pub(super) struct Places {
    vacant: Vec<usize>,
    next: usize,
}

impl Places {
    fn take(&mut self) -> usize {
        self.vacant.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives a place back. Says whether all are vacant now; then nothing is kept of the busiest hour.
    pub(super) fn give_back(&mut self, place: usize) -> bool {
        self.vacant.push(place);
        let is_empty = self.vacant.len() == self.next;
        if is_empty {
            *self = Self::default();
        }
        is_empty
    }
}

impl Lobby {
    pub(super) fn new(waker: Waker, is_shared: bool) -> Self {
        Self {
            waker,
            is_shared,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers `tunnel` and leaves it for the loop. Says whether the loop has to be woken for it.
    ///
    /// # Errors
    /// The tunnel, unharmed, and why it cannot be run here.
    // The lock is held meanwhile, so that who finds an event without its tunnel has only to look here.
    pub(super) fn leave(
        self: &Arc<Self>,
        tunnel: Box<Tunnel>,
        registry: &Registry,
    ) -> Result<bool, (Box<Tunnel>, io::Error)> {
        let mut state = self.state();
        if state.is_gone {
            return Err((tunnel, io::Error::other("the event loop has ended")));
        }
        let place = state.places.take();
        if let Err(error) = watch(registry, &tunnel, place) {
            state.places.give_back(place);
            return Err((tunnel, error));
        }
        let would_sleep_too_long = tunnel
            .deadline()
            .is_some_and(|deadline| state.wakes_at.is_none_or(|wakes_at| deadline < wakes_at));
        let is_told = tunnel.live().is_at(self, place);
        if is_told {
            state.told.push(place);
        }
        let is_urgent =
            tunnel.can_move() || would_sleep_too_long || is_told || state.ending.is_some();
        state.arrivals.push((place, tunnel));
        Ok(is_urgent)
    }

    /// Whether its loop runs more than one tunnel.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Has the loop look at the tunnel of this place, which has been told to end.
    pub(super) fn look_at(&self, place: usize) {
        self.state().told.push(place);
        self.wake();
    }

    fn wake(&self) {
        // A loop that cannot be woken has ended.
        let _ = self.waker.wake();
    }
}

/// Where a loop is told to end.
#[derive(Debug, Clone)]
pub struct Inbox {
    lobby: Arc<Lobby>,
}

impl Inbox {
    pub(super) fn new(lobby: Arc<Lobby>) -> Self {
        Self { lobby }
    }

    /// Has the loop end what runs, and what is still to come, in order. It waits for nobody.
    pub fn end(&self, reason: CloseReason) {
        self.lobby.state().ending.get_or_insert(reason);
        self.lobby.wake();
    }
}

/// Where tunnels are brought to a loop in another thread.
#[derive(Debug)]
pub struct Door {
    lobby: Arc<Lobby>,
    registry: Registry,
}

impl Door {
    pub(super) fn new(lobby: Arc<Lobby>, registry: Registry) -> Self {
        Self { lobby, registry }
    }

    /// Brings a tunnel. It waits for nobody.
    ///
    /// # Errors
    /// The tunnel, unharmed, and why it cannot be run there.
    pub fn adopt(&self, tunnel: Box<Tunnel>) -> Result<(), (Box<Tunnel>, io::Error)> {
        if self.lobby.leave(tunnel, &self.registry)? {
            self.lobby.wake();
        }
        Ok(())
    }
}
