//! The thread that waits on all listeners, and hands each connection to the pool. It blocks where there is
//! nothing to do, and where the pool has no room: then the kernel's backlog fills, and clients wait there.

use super::pool::{Pool, Stopped};
use super::signals;
use crate::ids::Id;
use crate::net::alarm::Alarm;
use crate::net::listen::{Connection, Listener};
use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, bounded};
use log::{debug, error, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The stack of the acceptor's thread: it only hands on.
const STACK: usize = 128 * 1024;
/// How long accepting pauses when the system has no descriptor or memory left.
const PAUSE: Duration = Duration::from_secs(1);
/// Listeners that can be ready at a time; what does not fit comes with the next wait.
const EVENTS: usize = 64;

// Listeners are counted from 0.
const WAKER: Token = Token(usize::MAX - 1);
const ALARM: Token = Token(usize::MAX - 2);

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Counts the connections of this process from 1; logs call them by it.
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) at: Instant,
}

/// The running acceptor.
#[derive(Debug)]
pub(super) struct Acceptor {
    // Dropped, and thereby seen by the thread, when it is to stop. What is sent asks whether it lives.
    running: Sender<()>,
    answers: Arc<AtomicU64>,
    /// How many there were when it was asked last.
    heard: Option<u64>,
    waker: Waker,
    thread: JoinHandle<()>,
    registry: Registry,
    changes: Arc<Mutex<Vec<Change>>>,
    next_token: usize,
}

/// A listener that is watched: connections may come in as soon as it is [`added`](Acceptor::change).
#[derive(Debug)]
pub(super) struct Port {
    listener: Arc<Listener>,
    token: Token,
    /// Connections may wait: said once by an event, until accepting would have blocked.
    ready: bool,
}

/// What changes while it accepts.
#[derive(Debug)]
struct Change {
    added: Vec<Port>,
    /// Listeners that are no longer accepted from, when all that waits there has been taken.
    removed: Vec<Arc<Listener>>,
    /// Dropped when they are closed.
    closed: Sender<()>,
}

/// Tells when listeners that were removed are closed.
#[derive(Debug)]
pub(super) struct Closing(Receiver<()>);

impl Closing {
    /// Waits for that, up to `limit`: where there is no room for those who wait there it may take long.
    pub(super) fn wait(&self, limit: Duration) {
        // Nobody ever sends.
        let _ = self.0.recv_timeout(limit);
    }
}

impl Acceptor {
    /// Starts to accept from `listeners` into `pool`.
    pub(super) fn start(listeners: &[Arc<Listener>], pool: Pool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let ports = listeners.iter().enumerate();
        let ports = ports
            .map(|(token, listener)| Port::watch(listener, token, &registry))
            .collect::<io::Result<_>>()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let alarm = Alarm::new()?;
        poll.registry().register(
            &mut SourceFd(&alarm.as_fd().as_raw_fd()),
            ALARM,
            Interest::READABLE,
        )?;
        let (running, questions) = bounded(1);
        let answers = Arc::<AtomicU64>::default();
        let told = Told {
            questions,
            answers: Arc::clone(&answers),
        };
        let changes = Arc::default();
        let mut accepting = Accepting {
            poll,
            ports,
            removed: Vec::new(),
            closed: Vec::new(),
            changes: Arc::clone(&changes),
            pool,
            alarm,
            told,
            next_id: 1,
        };
        let thread = thread::Builder::new()
            .name("acceptor".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| accepting.run()));
                if ended.is_err() || !accepting.is_stopped() {
                    // Whoever supervises us shall see it; a server that accepts nobody looks healthy.
                    error!("no further connection can be accepted: stopping");
                    signals::ask_to_stop();
                }
            })?;
        Ok(Self {
            running,
            answers,
            heard: None,
            waker,
            thread,
            registry,
            changes,
            next_token: listeners.len(),
        })
    }

    /// Watches a further listener, from which nothing is accepted yet.
    ///
    /// # Errors
    /// When the system has no memory left, or does not watch so many.
    pub(super) fn watch(&mut self, listener: &Arc<Listener>) -> io::Result<Port> {
        let token = self.next_token;
        self.next_token += 1;
        Port::watch(listener, token, &self.registry)
    }

    /// Accepts from the ones `added`, and no longer from the `removed` ones, which are closed with their last owner when all
    /// that waits there has been taken: whoever was let in is served. It waits for nobody.
    pub(super) fn change(&self, added: Vec<Port>, removed: Vec<Arc<Listener>>) -> Closing {
        let (closed, closing) = bounded(0);
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(Change {
            added,
            removed,
            closed,
        });
        drop(changes);
        // Where the thread cannot be woken it has ended.
        let _ = self.waker.wake();
        Closing(closing)
    }

    /// Whether it has answered since this was asked for the last time. It does so wherever it waits, also where that is for
    /// room in the pool.
    pub(super) fn has_answered(&mut self) -> bool {
        let answers = self.answers.load(Ordering::Relaxed);
        let has_answered = self.heard != Some(answers);
        self.heard = Some(answers);
        // One question is enough, if it has not taken the last one.
        let _ = self.running.try_send(());
        // Where the thread cannot be woken it has ended.
        let _ = self.waker.wake();
        has_answered && !self.thread.is_finished()
    }

    /// Closes the listeners. No worker is started any more when this returns. Says whether the thread had to be
    /// told, as it should be.
    pub(super) fn stop(self) -> bool {
        let was_running = !self.thread.is_finished();
        drop(self.running);
        // Where the thread cannot be woken it has ended.
        let _ = self.waker.wake();
        let _ = self.thread.join();
        was_running
    }
}

/// What the thread is told while it waits for something else.
#[derive(Debug)]
pub(super) struct Told {
    questions: Receiver<()>,
    answers: Arc<AtomicU64>,
}

impl Told {
    /// Where questions come from, to be [answered](Self::answer).
    pub(super) fn questions(&self) -> &Receiver<()> {
        &self.questions
    }

    /// Says that the thread lives. There are no more questions when it is to stop.
    pub(super) fn answer(&self, question: Result<(), RecvError>) -> Result<(), Stopped> {
        question.map_err(|_| Stopped)?;
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        loop {
            let question = match self.questions.try_recv() {
                Err(TryRecvError::Empty) => return false,
                outcome => outcome.map_err(|_| RecvError),
            };
            if self.answer(question).is_err() {
                return true;
            }
        }
    }

    /// Waits for so long, unless it is to stop meanwhile.
    fn pause(&self, span: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + span;
        loop {
            match self.questions.recv_deadline(until) {
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                outcome => self.answer(outcome.map_err(|_| RecvError))?,
            }
        }
    }
}

impl Port {
    fn watch(listener: &Arc<Listener>, token: usize, registry: &Registry) -> io::Result<Self> {
        let token = Token(token);
        let fd = listener.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Self {
            listener: Arc::clone(listener),
            token,
            ready: true,
        })
    }
}

struct Accepting {
    poll: Poll,
    ports: Vec<Port>,
    /// Those of them that are to be closed as soon as nobody waits there.
    removed: Vec<Arc<Listener>>,
    /// Who is told then.
    closed: Vec<Sender<()>>,
    changes: Arc<Mutex<Vec<Change>>>,
    pool: Pool,
    /// Rings when something may have been idle for too long.
    alarm: Alarm,
    told: Told,
    next_id: u64,
}

/// Why a round of accepting ended.
enum Round {
    /// Nothing waits any more.
    Drained,
    /// The system has nothing left to accept with.
    Exhausted(io::Error),
    Stopped,
}

impl Accepting {
    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut is_exhausted = false;
        while !self.is_stopped() {
            self.take_changes();
            match self.accept_all() {
                Round::Stopped => return,
                Round::Drained => {
                    self.close_removed();
                    if std::mem::take(&mut is_exhausted) {
                        warn!("accepting connections again");
                    }
                }
                // Those that are kept need not come first.
                Round::Exhausted(_) if self.pool.close_kept() => continue,
                Round::Exhausted(error) => {
                    if !std::mem::replace(&mut is_exhausted, true) {
                        let id = Id::NoDescriptors;
                        warn!(
                            "{id} accepting pauses: {error}; new connections wait: {}",
                            id.remedy()
                        );
                    }
                    match self.told.pause(PAUSE) {
                        Ok(()) => continue,
                        Err(Stopped) => return,
                    }
                }
            }
            let next_look = match self.pool.patience() {
                Some(patience) => Some(Instant::now() + patience),
                None if self.alarm.rings_at().is_some() => None,
                None => self.pool.tidy(),
            };
            if let Some(at) = next_look
                && let Err(error) = self.alarm.ring_by(at)
            {
                debug!("the pool is not looked after: {error}");
            }
            // Before it sleeps, who else is ready may run: on a busy machine more connections have come by then,
            // and one wake-up serves them all. On an idle one this returns at once.
            thread::yield_now();
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!("{} the acceptor cannot wait: {error}", Id::CannotWait);
                return;
            }
            for event in &events {
                match event.token() {
                    ALARM => {
                        self.alarm.has_rung();
                        self.pool.relieve();
                    }
                    token => {
                        let mut ports = self.ports.iter_mut();
                        if let Some(port) = ports.find(|port| port.token == token) {
                            port.ready = true;
                        }
                    }
                }
            }
        }
    }

    fn take_changes(&mut self) {
        let changes = {
            let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *changes)
        };
        for change in changes {
            let Change {
                added,
                removed,
                closed,
            } = change;
            self.ports.extend(added);
            for port in &mut self.ports {
                port.ready |= removed.iter().any(|it| Arc::ptr_eq(it, &port.listener));
            }
            self.removed.extend(removed);
            self.closed.push(closed);
        }
    }

    /// Nobody waits there any more.
    fn close_removed(&mut self) {
        for listener in self.removed.drain(..) {
            let fd = listener.as_fd().as_raw_fd();
            if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&fd)) {
                debug!("a listener is closed that was not watched: {error}");
            }
            self.ports
                .retain(|port| !Arc::ptr_eq(&port.listener, &listener));
        }
        self.closed.clear();
    }

    fn is_stopped(&self) -> bool {
        self.told.is_stopped()
    }

    /// Accepts what waits, one of each listener in turn.
    fn accept_all(&mut self) -> Round {
        while !self.is_stopped() {
            let mut accepted_any = false;
            for port in self.ports.iter_mut().filter(|port| port.ready) {
                let connection = match port.listener.accept() {
                    Ok(connection) => connection,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        port.ready = false;
                        continue;
                    }
                    Err(error) if is_exhaustion(&error) => return Round::Exhausted(error),
                    // The client has gone already, or its network has: accept(2), "Error handling".
                    Err(error) => {
                        debug!("accept: {error}");
                        accepted_any = true;
                        continue;
                    }
                };
                accepted_any = true;
                let accepted = Accepted {
                    id: self.next_id,
                    connection,
                    at: Instant::now(),
                };
                self.next_id += 1;
                if self.pool.offer(accepted, &self.told).is_err() {
                    return Round::Stopped;
                }
            }
            if !accepted_any {
                return Round::Drained;
            }
        }
        Round::Stopped
    }
}

/// Whether the system has no descriptor or memory left.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhaustions = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| exhaustions.iter().any(|errno| errno.raw_os_error() == code))
}
