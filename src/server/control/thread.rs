//! The thread that serves those who ask about the server: it waits for all of them at once, and for none alone.

use super::Door;
use super::service::Service;
use super::visit::{Caller, Next, Visit};
use crate::ids::Id;
use crate::net::stream::Socket;
use crate::server::Shared;
use crate::server::acceptor::is_exhaustion;
use log::{debug, error, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Its stack: a rendering takes more than a connection does.
const STACK: usize = 256 * 1024;
/// Visits at a time through Unix sockets.
const MOST_LOCAL: usize = 16;
/// Visits at a time through TCP. They take no place of a local one.
const MOST_REMOTE: usize = 32;
/// Connections that are taken from one listener before others have their turn. Less than there may be visits: who has
/// just come is heard before he makes room for others.
const AT_ONCE: usize = 8;
/// Bodies from here on are few at a time: a rendering for many tunnels takes megabytes.
const BIG: usize = 64 * 1024;
/// Big bodies at a time for either kind of visits. Who comes on top waits, but not long for those who do not read.
const MOST_BIG: usize = 2;
/// What the kernel may hold for a reader on the network; by itself it would take megabytes.
const SEND_BUFFER: usize = 128 * 1024;
/// How long it may take until new listeners are taken.
const SWITCH: Duration = Duration::from_secs(1);
/// How long those on the network are served in a round.
const MOMENT: Duration = Duration::from_millis(5);
/// How long its listeners are left alone when the system has no descriptor or memory left, or it cannot wait for them.
const PAUSE: Duration = Duration::from_millis(200);

/// What the thread is told.
#[derive(Debug)]
pub(super) struct Orders {
    /// Readable where there is something new.
    bell: OwnedFd,
    is_stopping: AtomicBool,
    state: Mutex<State>,
    /// New listeners have been taken.
    taken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    doors: Option<Vec<Door>>,
    ends: bool,
}

impl Orders {
    fn new() -> io::Result<Self> {
        Ok(Self {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_stopping: AtomicBool::new(false),
            state: Mutex::default(),
            taken: Condvar::new(),
        })
    }

    /// Has the thread listen at these, and waits until it has closed the others: their addresses may be wanted again soon.
    pub(super) fn replace(&self, doors: Vec<Door>) {
        let mut state = self.state();
        state.doors = Some(doors);
        self.ring();
        let is_untaken = |state: &mut State| state.doors.is_some();
        // A thread that cannot be waited for is no reason not to go on.
        let _ = self.taken.wait_timeout_while(state, SWITCH, is_untaken);
    }

    pub(super) fn stop(&self) {
        self.state().ends = true;
        self.ring();
    }

    pub(super) fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        // The only failure is a counter at its maximum, and then it is readable.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread knows.
pub(super) struct Thread {
    orders: Arc<Orders>,
    service: Service,
    doors: Vec<Door>,
    /// The oldest first.
    visits: Vec<Visit>,
    /// When the listeners are looked at again, after the system had nothing left.
    pauses_until: Option<Instant>,
}

/// What one wait has found.
struct Ready {
    doors: Vec<bool>,
    visits: Vec<bool>,
}

impl Thread {
    pub(super) fn start(
        doors: Vec<Door>,
        shared: &Arc<Shared>,
    ) -> io::Result<(Arc<Orders>, JoinHandle<()>)> {
        let orders = Arc::new(Orders::new()?);
        let mut this = Self {
            orders: Arc::clone(&orders),
            service: Service::new(Arc::clone(shared), Arc::clone(&orders)),
            doors,
            visits: Vec::new(),
            pauses_until: None,
        };
        let handle = thread::Builder::new()
            .name("control".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // A panic costs the visits that there are, and nothing else.
                while catch_unwind(AssertUnwindSafe(|| this.run())).is_err() {
                    let id = Id::Panicked;
                    error!("{id} the control thread panicked; {}", id.remedy());
                    this.visits.clear();
                }
            })?;
        Ok((orders, handle))
    }

    fn run(&mut self) {
        while self.takes_orders() {
            let now = Instant::now();
            self.visits.retain(|visit| now < visit.deadline());
            self.pauses_until = self.pauses_until.filter(|until| now < *until);
            let ready = match self.wait(now) {
                Ok(ready) => ready,
                Err(error) => {
                    // Nothing of its own can mend it, but nobody should have to restart the server for a status.
                    let id = Id::CannotWait;
                    error!(
                        "{id} the control thread cannot wait: {error}; {}",
                        id.remedy()
                    );
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            for (visit, is_ready) in self.visits.iter_mut().zip(ready.visits) {
                visit.is_ready = is_ready;
            }
            self.accept(&ready.doors);
            self.serve();
        }
    }

    /// Whether it goes on.
    fn takes_orders(&mut self) -> bool {
        let mut state = self.orders.state();
        if let Some(doors) = state.doors.take() {
            self.doors = doors;
            self.orders.taken.notify_all();
        }
        !state.ends
    }

    fn wait(&self, now: Instant) -> io::Result<Ready> {
        let mut polled = vec![PollFd::new(&self.orders.bell, PollFlags::IN)];
        let doors: &[Door] = match self.pauses_until {
            Some(_) => &[],
            None => &self.doors,
        };
        polled.extend(doors.iter().map(|door| PollFd::new(door, PollFlags::IN)));
        polled.extend(
            self.visits
                .iter()
                .map(|visit| PollFd::new(visit, visit.wants())),
        );
        let places = [true, false].map(|is_local| self.next_place(is_local, now));
        let next = self
            .visits
            .iter()
            .map(Visit::deadline)
            .chain(self.pauses_until)
            .chain(places.into_iter().flatten());
        let timeout = next.min().map(|next| {
            // Rounded up, so that it has passed when the wait is over.
            let left = next.saturating_duration_since(now) + Duration::from_millis(1);
            Timespec::try_from(left)
        });
        let timeout = timeout.transpose().map_err(io::Error::other)?;
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|it| !it.revents().is_empty());
        if ready.next() == Some(true) {
            // It may be silent already.
            let _ = rustix::io::read(&self.orders.bell, &mut [0; 8]);
        }
        Ok(Ready {
            doors: ready.by_ref().take(doors.len()).collect(),
            visits: ready.collect(),
        })
    }

    fn accept(&mut self, ready: &[bool]) {
        let doors = self.doors.clone();
        for (door, _) in doors.iter().zip(ready).filter(|(_, is_ready)| **is_ready) {
            for _ in 0..AT_ONCE {
                match enter(door) {
                    Ok((socket, caller)) => self.admit(Visit::new(socket, caller, Instant::now())),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_exhaustion(&error) => {
                        let id = Id::NoDescriptors;
                        if self.pauses_until.is_none() {
                            warn!("{id} {door}: {error}: {}", id.remedy());
                        }
                        self.pauses_until = Some(Instant::now() + PAUSE);
                        return;
                    }
                    // The client has gone already, or its network has: accept(2), "Error handling".
                    Err(error) => debug!("{door}: {error}"),
                }
            }
        }
    }

    /// Who has been there longest makes room; those first who have their answer.
    fn admit(&mut self, visit: Visit) {
        let is_local = visit.caller.is_local();
        let most = if is_local { MOST_LOCAL } else { MOST_REMOTE };
        let alike = |other: &Visit| other.caller.is_local() == is_local;
        if self.visits.iter().filter(|other| alike(other)).count() >= most {
            let answered = |other: &Visit| alike(other) && other.is_answered();
            let place = self.visits.iter().position(answered);
            if let Some(place) = place.or_else(|| self.visits.iter().position(alike)) {
                self.visits.remove(place);
            }
        }
        self.visits.push(visit);
    }

    /// Local visits first; of the others, as many as can be served in a moment, so that a local one that comes meanwhile
    /// is next.
    fn serve(&mut self) {
        let begun = Instant::now();
        for is_local in [true, false] {
            let mut place = 0;
            while let Some(visit) = self.visits.get_mut(place) {
                let now = Instant::now();
                let has_time = is_local || now < begun + MOMENT;
                let is_due = visit.is_ready || visit.waits();
                if !(is_due && visit.caller.is_local() == is_local && has_time) {
                    place += 1;
                    continue;
                }
                let mut next = visit.advance(now, &self.service);
                if next == Next::Waits {
                    match self.make_place(is_local, now) {
                        None => {
                            place += 1;
                            continue;
                        }
                        // Those behind it move up.
                        Some(Some(cut)) if cut < place => place -= 1,
                        Some(_) => {}
                    }
                    if let Some(visit) = self.visits.get_mut(place) {
                        next = visit.answer(now, &self.service);
                    }
                }
                match next {
                    Next::Stays | Next::Waits => place += 1,
                    Next::Ends => drop(self.visits.remove(place)),
                }
            }
        }
    }

    /// The places in the list of those with big bodies, the oldest first.
    fn big(&self, is_local: bool) -> impl Iterator<Item = usize> {
        let visits = self.visits.iter().enumerate();
        let is_big =
            move |visit: &Visit| visit.caller.is_local() == is_local && visit.body_length() > BIG;
        visits.filter_map(move |(place, visit)| is_big(visit).then_some(place))
    }

    /// Sees to it that there is a place for one more big body: whether there is, and who was cut off for it.
    fn make_place(&mut self, is_local: bool, now: Instant) -> Option<Option<usize>> {
        if self.big(is_local).count() < MOST_BIG {
            return Some(None);
        }
        let is_over = |place: &usize| {
            let visit = self.visits.get(*place);
            visit.is_some_and(|visit| visit.has_place_until() <= now)
        };
        let place = self.big(is_local).find(is_over)?;
        self.visits.remove(place);
        Some(Some(place))
    }

    /// When there is a place for those who wait for one, if somebody does.
    fn next_place(&self, is_local: bool, now: Instant) -> Option<Instant> {
        let waits = |visit: &Visit| visit.caller.is_local() == is_local && visit.waits();
        if !self.visits.iter().any(waits) {
            return None;
        }
        if self.big(is_local).count() < MOST_BIG {
            return Some(now);
        }
        let until = |place| self.visits.get(place).map(Visit::has_place_until);
        self.big(is_local).filter_map(until).min()
    }
}

/// Takes the next connection.
fn enter(door: &Door) -> io::Result<(Socket, Caller)> {
    match door {
        Door::Control(listener) => {
            let connection = listener.accept()?;
            Ok((connection.stream.into(), Caller::Local(connection.peer)))
        }
        Door::Status(listener) => {
            let connection = listener.accept()?;
            sockopt::set_socket_send_buffer_size(&connection.stream, SEND_BUFFER)?;
            Ok((connection.stream.into(), Caller::Remote(connection.client)))
        }
    }
}
