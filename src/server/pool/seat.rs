//! Where a free worker waits, and how it is told what comes next: it is woken alone, without a look at the others.

use crate::server::acceptor::Accepted;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Where a free worker waits.
#[derive(Debug)]
pub(super) struct Seat {
    /// That of the worker.
    pub(super) id: u64,
    worker: Thread,
    told: Mutex<Option<Order>>,
}

/// What a free worker is told.
#[derive(Debug)]
pub(super) enum Order {
    Serve(Box<Accepted>),
    Leave,
}

impl Seat {
    /// That of this thread, as the worker of this number.
    pub(super) fn here(id: u64) -> Self {
        Self {
            id,
            worker: thread::current(),
            told: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, order: Order) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.worker.unpark();
    }

    /// Waits for an order, up to `limit` if there is one: it costs a timer, so most wait without.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Option<Order> {
        let until = limit.map(|limit| Instant::now() + limit);
        // On a busy machine the next connection is a moment away, and the acceptor may hand it over meanwhile:
        // that spares a sleep and a wake-up.
        thread::yield_now();
        loop {
            let told = self
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if told.is_some() {
                return told;
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}
