//! Clients that have been answered and may ask again: the workers that wait for them can be called away when others need
//! them more.

use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The workers that wait for a next request, and how many clients there are for whom there is no worker.
#[derive(Debug, Default)]
pub(super) struct IdleClients {
    state: Mutex<State>,
    /// Whether a worker is missing, for those who only look.
    is_crowded: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The last has waited the shortest.
    waiting: VecDeque<Arc<Bell>>,
    /// Clients in the queue for whom no worker may be started.
    queued: usize,
    /// Those of them for whom nobody could be called. With the workers that were called and have not come yet there is one
    /// for each.
    missing: usize,
    /// The server is going: nobody waits any more.
    is_retired: bool,
}

/// What calls one worker away.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

/// The place of a worker among those who wait. It is left when this goes.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    clients: &'a IdleClients,
    bell: &'a Arc<Bell>,
    /// The client has asked for more, so the worker will not come if it is called.
    stays: bool,
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
    /// Takes a place among those who wait, unless somebody is there for whom there is no worker: then it is this one.
    pub(super) fn wait<'a>(&'a self, bell: &'a Arc<Bell>) -> Option<Waiting<'a>> {
        let mut state = self.state();
        if state.missing > 0 {
            self.set_missing(&mut state, |missing| missing - 1);
            return None;
        }
        if state.is_retired {
            return None;
        }
        state.waiting.push_back(Arc::clone(bell));
        Some(Waiting {
            clients: self,
            bell,
            stays: false,
        })
    }

    /// Somebody has come for whom there is no worker: the one that has waited the longest is called. To be said while
    /// nobody can take them off the queue, so that it is not said too late.
    pub(super) fn crowd(&self) {
        let mut state = self.state();
        state.queued += 1;
        self.call(&mut state);
    }

    /// Calls all away, and whoever would wait from now on.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.is_retired = true;
        for bell in state.waiting.drain(..) {
            bell.ring();
        }
        self.set_missing(&mut state, |missing| missing);
    }

    fn call(&self, state: &mut State) {
        match state.waiting.pop_front() {
            Some(bell) => bell.ring(),
            None => self.set_missing(state, |missing| missing + 1),
        }
    }

    /// One was taken off the queue, and so many are left there. To be said in the same way.
    pub(super) fn relax(&self, left: usize) {
        let mut state = self.state();
        state.queued = state.queued.min(left);
        self.set_missing(&mut state, |missing| missing.min(left));
    }

    /// Whether a client that is idle is not to be waited for: somebody is there for whom there is no worker, and none was
    /// called; or the server is going.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    fn set_missing(&self, state: &mut State, change: impl FnOnce(usize) -> usize) {
        state.missing = change(state.missing);
        let is_crowded = state.missing > 0 || state.is_retired;
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// What becomes readable when the worker is called.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }

    /// The client has asked for more. If the worker was called in the same moment, the next one is in its place: nobody
    /// knows how long this one will take.
    pub(super) fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        let waiting = &mut state.waiting;
        let place = waiting
            .iter()
            .rposition(|bell| Arc::ptr_eq(bell, self.bell));
        let was_called = place.and_then(|place| waiting.remove(place)).is_none();
        if was_called {
            self.bell.silence();
            if self.stays && state.queued > 0 {
                self.clients.call(&mut state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wait::{Cancel, Waiter, Want};
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::{Duration, Instant};

    fn bell() -> Arc<Bell> {
        Arc::new(Bell::new().unwrap())
    }

    fn has_rung(waiting: &Waiting<'_>) -> bool {
        let mut count = [0; 8];
        let rang = rustix::io::read(&waiting.bell.0, &mut count).is_ok();
        if rang {
            waiting.bell.ring();
        }
        rang
    }

    #[test]
    fn the_one_that_has_waited_the_longest_is_called() {
        let clients = IdleClients::default();
        let bells = [bell(), bell(), bell()];
        let waiting: Vec<_> = bells.iter().map(|it| clients.wait(it).unwrap()).collect();
        clients.crowd();
        let rung: Vec<_> = waiting.iter().map(has_rung).collect();
        assert_eq!(rung, [true, false, false]);
        clients.crowd();
        let rung: Vec<_> = waiting.iter().map(has_rung).collect();
        assert_eq!(rung, [true, true, false]);
        assert!(!clients.is_crowded(), "both will come");
    }

    #[test]
    fn where_nobody_waits_the_next_ones_do_not_either() {
        let clients = IdleClients::default();
        let bell = bell();
        clients.crowd();
        clients.crowd();
        assert!(clients.is_crowded());
        assert!(clients.wait(&bell).is_none());
        assert!(clients.is_crowded(), "one more is missing");
        assert!(clients.wait(&bell).is_none());
        assert!(!clients.is_crowded());
        assert!(clients.wait(&bell).is_some());
    }

    #[test]
    fn nobody_leaves_for_clients_that_others_have_taken() {
        let clients = IdleClients::default();
        let bell = bell();
        for _ in 0..5 {
            clients.crowd();
        }
        clients.relax(1);
        assert!(clients.wait(&bell).is_none());
        assert!(clients.wait(&bell).is_some());
        clients.crowd();
        clients.relax(0);
        assert!(!clients.is_crowded());
    }

    #[test]
    fn one_that_stays_passes_the_call_on() {
        let clients = IdleClients::default();
        let [first, second] = [bell(), bell()];
        let called = clients.wait(&first).unwrap();
        let next = clients.wait(&second).unwrap();
        clients.crowd();
        called.stay();
        assert!(has_rung(&next));
        next.stay();
        assert!(clients.is_crowded(), "nobody is left to be called");
        clients.relax(0);
        // Somebody else has served who was there.
        let called = clients.wait(&first).unwrap();
        clients.crowd();
        clients.relax(0);
        called.stay();
        assert!(!clients.is_crowded());
        // Nothing of it is left to be heard.
        for bell in [&first, &second] {
            assert!(!has_rung(&clients.wait(bell).unwrap()));
        }
        // One that was not called has nothing to pass on.
        let other = clients.wait(&second).unwrap();
        clients.wait(&first).unwrap().stay();
        assert!(!has_rung(&other));
        assert!(!clients.is_crowded());
    }

    #[test]
    fn when_the_server_is_going_all_are_called_and_nobody_waits_again() {
        let clients = IdleClients::default();
        let bells = [bell(), bell()];
        let waiting: Vec<_> = bells.iter().map(|it| clients.wait(it).unwrap()).collect();
        clients.retire();
        assert!(waiting.iter().all(has_rung));
        assert!(clients.is_crowded());
        drop(waiting);
        assert!(clients.wait(&bells[0]).is_none());
        // Who comes and is served all the same changes nothing about that.
        clients.crowd();
        clients.relax(0);
        assert!(clients.is_crowded());
        assert!(clients.wait(&bells[0]).is_none());
    }

    /// Workers that wait for sockets, each asked at some moment, and as many calls: each call fetches one that does not
    /// stay, now or as soon as one comes back.
    #[test]
    fn no_call_is_lost_between_requests() {
        const WORKERS: usize = 4;
        const CALLS: usize = 2000;
        let clients = IdleClients::default();
        let cancel = Arc::new(Cancel::new().unwrap());
        let came = AtomicUsize::new(0);
        thread::scope(|scope| {
            let mut askers = Vec::new();
            for _ in 0..WORKERS {
                let (asker, client) = UnixStream::pair().unwrap();
                askers.push(asker);
                let mut waiter = Waiter::new(Arc::clone(&cancel)).unwrap();
                let (clients, came) = (&clients, &came);
                scope.spawn(move || {
                    let bell = bell();
                    loop {
                        let Some(waiting) = clients.wait(&bell) else {
                            came.fetch_add(1, Ordering::SeqCst);
                            continue;
                        };
                        let sockets = [(client.as_fd(), Want::Read), (waiting.bell(), Want::Read)];
                        match waiter.wait(sockets, None) {
                            Ok([true, _]) => {
                                waiting.stay();
                                let mut byte = [0];
                                if rustix::io::read(&client, &mut byte).unwrap() == 0 {
                                    return;
                                }
                            }
                            Ok(_) => {
                                came.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(why) => panic!("{why}"),
                        }
                    }
                });
            }
            for call in 0..CALLS {
                let asker = askers.get_mut(call % WORKERS).unwrap();
                asker.write_all(b"x").unwrap();
                clients.crowd();
                let begun = Instant::now();
                while came.load(Ordering::SeqCst) <= call {
                    assert!(begun.elapsed() < Duration::from_secs(20), "call {call}");
                    thread::yield_now();
                }
            }
            drop(askers);
        });
        assert_eq!(came.into_inner(), CALLS);
    }
}
