//! Clients that have been answered and may ask again: the workers that wait for them can be called away when others need
//! them more.

use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The workers that wait for a next request, and whether there is somebody for whom there is no worker.
#[derive(Debug, Default)]
pub(super) struct IdleClients {
    /// The last has waited the shortest.
    waiting: Mutex<VecDeque<Arc<Bell>>>,
    is_crowded: AtomicBool,
}

/// What calls one worker away.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

/// The place of a worker among those who wait. It is left when this goes.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    clients: &'a IdleClients,
    bell: &'a Arc<Bell>,
}

impl Bell {
    /// Takes a descriptor.
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    fn ring(&self) {
        // An event counter that is empty takes a one.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn silence(&self) {
        // It may be silent already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl IdleClients {
    /// Takes a place among those who wait, unless somebody is there for whom there is no worker.
    pub(super) fn wait<'a>(&'a self, bell: &'a Arc<Bell>) -> Option<Waiting<'a>> {
        self.waiting().push_back(Arc::clone(bell));
        let waiting = Waiting {
            clients: self,
            bell,
        };
        // Behind the lock: who has found nobody to call has said before that it is crowded.
        (!self.is_crowded()).then_some(waiting)
    }

    /// Somebody has come for whom there is no worker: the one that has waited the longest is called. To be said while
    /// nobody can take them off the queue, so that it is not said too late.
    pub(super) fn crowd(&self) {
        self.is_crowded.store(true, Ordering::Relaxed);
        if let Some(bell) = self.waiting().pop_front() {
            bell.ring();
        }
    }

    /// Everybody has a worker. To be said in the same way.
    pub(super) fn relax(&self) {
        self.is_crowded.store(false, Ordering::Relaxed);
    }

    /// Whether somebody is there for whom there is no worker.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Bell>>> {
        // A list is whole between statements, whatever became of another thread.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// What becomes readable when the worker is called.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.clients.waiting();
        let place = waiting
            .iter()
            .rposition(|bell| Arc::ptr_eq(bell, self.bell));
        let was_called = place.and_then(|place| waiting.remove(place)).is_none();
        drop(waiting);
        if was_called {
            self.bell.silence();
        }
    }
}
