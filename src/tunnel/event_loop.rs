//! The only file that calls mio's poll for tunnels: for one in a worker's thread, for thousands in a reactor's.
//!
//! mio is edge-triggered: an event is said once. Each socket is registered once for both directions, a flow
//! latches what was said, and forgets it only when an operation would have blocked; so nothing can be missed.

use super::deadlines::Deadlines;
use super::{Readiness, ScratchPool, Tunnel, Turn};
use crate::net::alarm::Alarm;
use crate::transaction::{CloseReason, Side};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::error;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

// Tunnels are counted from 0, and each has two tokens.
const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// What a loop can be told from another thread.
#[derive(Debug)]
pub enum Command {
    /// Run this tunnel, too.
    Adopt(Box<Tunnel>),
    /// End what runs, and what is still to come.
    End(CloseReason),
}

/// Where commands for one loop are put.
#[derive(Debug, Clone)]
pub struct Inbox {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Inbox {
    /// Tells the loop. It waits for nobody.
    ///
    /// # Errors
    /// The command, when the loop has not taken earlier ones yet, or is gone.
    pub fn tell(&self, command: Command) -> Result<(), Command> {
        match self.commands.try_send(command) {
            Ok(()) => {
                // A loop that cannot be woken has ended.
                let _ = self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }
}

/// How much a loop takes at a time.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Events of one wait.
    pub events: usize,
    /// Commands that may wait.
    pub commands: usize,
}

impl Size {
    /// For one tunnel: it has two sockets, and the loop has a waker and an alarm.
    pub const ONE: Self = Self {
        events: 4,
        commands: 2,
    };
    /// For thousands.
    pub const MANY: Self = Self {
        events: 512,
        commands: 1024,
    };
}

/// Runs tunnels in one thread.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    commands: Receiver<Command>,
    inbox: Inbox,
    scratch: ScratchPool,
    tunnels: Vec<Option<Running>>,
    /// Places in `tunnels` that are free.
    vacant: Vec<usize>,
    /// Tunnels that are to have a turn, each once.
    due: VecDeque<usize>,
    deadlines: Deadlines,
    load: Arc<AtomicUsize>,
    /// Why no further tunnel shall run.
    ending: Option<CloseReason>,
}

/// A tunnel in its loop.
#[derive(Debug)]
struct Running {
    tunnel: Box<Tunnel>,
    is_due: bool,
    /// Its entry in the deadlines. The deadline itself moves on with each byte; it is looked at again then.
    looked_at: Option<Instant>,
}

impl EventLoop {
    /// A loop that borrows its buffers from `scratch`, and is woken for its deadlines by `alarm`, which each call
    /// below has to be given. Takes two descriptors.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(scratch: ScratchPool, alarm: &Alarm, size: Size) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let alarm = alarm.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&alarm), ALARM, Interest::READABLE)?;
        let (sender, commands) = bounded(size.commands);
        Ok(Self {
            poll,
            events: Events::with_capacity(size.events),
            commands,
            inbox: Inbox {
                commands: sender,
                waker,
            },
            scratch,
            tunnels: Vec::new(),
            vacant: Vec::new(),
            due: VecDeque::new(),
            deadlines: Deadlines::default(),
            load: Arc::default(),
            ending: None,
        })
    }

    /// Where this loop takes its commands from.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// How many tunnels it runs. Who sends one counts it before, so that a limit can be kept; the loop takes each
    /// out that has left it.
    pub fn load(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.load)
    }

    /// Runs `tunnel` alone to its end; or with `quiet` until nothing has moved for that long, and then gives it
    /// back.
    ///
    /// # Errors
    /// What the system said, when it does not let us wait. The tunnel has then been cut.
    pub fn run_one(
        &mut self,
        tunnel: Box<Tunnel>,
        alarm: &mut Alarm,
        quiet: Option<Duration>,
    ) -> io::Result<Option<Box<Tunnel>>> {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.adopt(tunnel);
        while self.is_busy() {
            if let Some(quiet) = quiet
                && let Some(tunnel) = self.release_quiet(alarm, quiet)?
            {
                return Ok(Some(tunnel));
            }
            self.step(alarm)?;
        }
        Ok(None)
    }

    /// Runs what comes into the inbox, until it is told to end and all have.
    ///
    /// # Errors
    /// What the system said, when it does not let us wait. All tunnels have then been cut.
    pub fn run_many(&mut self, alarm: &mut Alarm) -> io::Result<()> {
        while self.ending.is_none() || self.is_busy() {
            self.step(alarm)?;
        }
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.tunnels.len() > self.vacant.len()
    }

    fn adopt(&mut self, mut tunnel: Box<Tunnel>) {
        let index = self.vacant.pop().unwrap_or(self.tunnels.len());
        if let Err(error) = self.watch(&tunnel, index) {
            if index < self.tunnels.len() {
                self.vacant.push(index);
            }
            error!("{} the tunnel cannot be watched: {error}", tunnel.name());
            self.load.fetch_sub(1, Ordering::Relaxed);
            tunnel.close();
            return;
        }
        if let Some(reason) = &self.ending {
            tunnel.end(reason.clone());
        }
        let running = Running {
            tunnel,
            is_due: false,
            looked_at: None,
        };
        match self.tunnels.get_mut(index) {
            Some(place) => *place = Some(running),
            None => self.tunnels.push(Some(running)),
        }
        self.schedule(index);
    }

    fn watch(&self, tunnel: &Tunnel, index: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        for (side, stream) in tunnel.legs() {
            let fd = stream.as_fd().as_raw_fd();
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&fd), token(index, side), interest)?;
        }
        Ok(())
    }

    /// One wait, and a turn for each tunnel that can move then.
    fn step(&mut self, alarm: &mut Alarm) -> io::Result<()> {
        let heard = self.hear(alarm).inspect_err(|_| self.cut_all())?;
        if heard.commands {
            self.obey();
        }
        if heard.alarm {
            self.look_at_deadlines();
        }
        if !self.due.is_empty() {
            self.give_turns();
        }
        Ok(())
    }

    /// Waits for events, and has the tunnels note them.
    fn hear(&mut self, alarm: &mut Alarm) -> io::Result<Heard> {
        if let Some(at) = self.deadlines.earliest() {
            alarm.ring_by(at)?;
        }
        // Whose budget ran out goes on after the others have been heard.
        let timeout = (!self.due.is_empty()).then_some(Duration::ZERO);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut heard = Heard::default();
        for event in &self.events {
            match event.token() {
                WAKER => heard.commands = true,
                ALARM => {
                    alarm.has_rung();
                    heard.alarm = true;
                }
                Token(token) => {
                    let side = if token % 2 == 0 {
                        Side::Client
                    } else {
                        Side::Backend
                    };
                    let index = token / 2;
                    // Who ended a moment ago may still have an event on the way.
                    if let Some(Some(running)) = self.tunnels.get_mut(index) {
                        running.tunnel.ready(side, readiness(event));
                        if !running.is_due && running.tunnel.can_move() {
                            running.is_due = true;
                            self.due.push_back(index);
                        }
                    }
                }
            }
        }
        Ok(heard)
    }

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Adopt(tunnel) => self.adopt(tunnel),
                Command::End(reason) => {
                    for index in 0..self.tunnels.len() {
                        if let Some(Some(running)) = self.tunnels.get_mut(index) {
                            running.tunnel.end(reason.clone());
                            self.schedule(index);
                        }
                    }
                    self.ending.get_or_insert(reason);
                }
            }
        }
    }

    fn look_at_deadlines(&mut self) {
        let now = Instant::now();
        while let Some(index) = self.deadlines.take_due(now) {
            if let Some(Some(running)) = self.tunnels.get_mut(index) {
                running.looked_at = None;
                if running.tunnel.is_overdue() && running.tunnel.expire() {
                    self.close(index);
                } else {
                    self.schedule(index);
                }
            }
        }
    }

    /// A turn for each that is due now; who can go on then is due again.
    fn give_turns(&mut self) {
        let mut scratch = self.scratch.take();
        for _ in 0..self.due.len() {
            let Some(index) = self.due.pop_front() else {
                break;
            };
            let Some(Some(running)) = self.tunnels.get_mut(index) else {
                continue;
            };
            running.is_due = false;
            // A fault in one tunnel must not take the others with it.
            let turn = catch_unwind(AssertUnwindSafe(|| running.tunnel.turn(&mut scratch)));
            match turn {
                Ok(Turn::GoesOn) => self.schedule(index),
                Ok(Turn::Ended) => self.close(index),
                Err(_) => {
                    error!(
                        "{} the tunnel is cut after a panic, which is a bug",
                        running.tunnel.name()
                    );
                    self.close(index);
                }
            }
        }
        self.scratch.give_back(scratch);
    }

    /// Sees to it that the tunnel gets its next turn, or is looked at when its time is up.
    fn schedule(&mut self, index: usize) {
        let Some(Some(running)) = self.tunnels.get_mut(index) else {
            return;
        };
        if running.tunnel.can_move() && !running.is_due {
            running.is_due = true;
            self.due.push_back(index);
        }
        if let Some(deadline) = running.tunnel.deadline()
            && running.looked_at.is_none_or(|at| deadline < at)
        {
            if let Some(at) = running.looked_at.replace(deadline) {
                self.deadlines.remove(at, index);
            }
            self.deadlines.insert(deadline, index);
        }
    }

    fn take_out(&mut self, index: usize) -> Option<Box<Tunnel>> {
        let running = self.tunnels.get_mut(index)?.take()?;
        if let Some(at) = running.looked_at {
            self.deadlines.remove(at, index);
        }
        self.vacant.push(index);
        if !self.is_busy() {
            // Nothing is kept of the busiest hour.
            self.tunnels = Vec::new();
            self.vacant = Vec::new();
        }
        self.load.fetch_sub(1, Ordering::Relaxed);
        Some(running.tunnel)
    }

    fn close(&mut self, index: usize) {
        if let Some(tunnel) = self.take_out(index) {
            tunnel.close();
        }
    }

    fn cut_all(&mut self) {
        for index in 0..self.tunnels.len() {
            self.close(index);
        }
    }

    /// Takes the only tunnel out, if nothing has moved in it for `quiet`.
    fn release_quiet(
        &mut self,
        alarm: &mut Alarm,
        quiet: Duration,
    ) -> io::Result<Option<Box<Tunnel>>> {
        let Some(Some(running)) = self.tunnels.first() else {
            return Ok(None);
        };
        if !running.tunnel.is_quiet(quiet) {
            if let Some(at) = running.tunnel.quiet_at(quiet) {
                alarm.ring_by(at)?;
            }
            return Ok(None);
        }
        for (_, stream) in running.tunnel.legs() {
            let fd = stream.as_fd().as_raw_fd();
            self.poll.registry().deregister(&mut SourceFd(&fd))?;
        }
        Ok(self.take_out(0))
    }
}

/// What a wait heard beside what the tunnels noted.
#[derive(Debug, Default)]
struct Heard {
    commands: bool,
    alarm: bool,
}

fn token(index: usize, side: Side) -> Token {
    match side {
        Side::Client => Token(2 * index),
        Side::Backend => Token(2 * index + 1),
    }
}

fn readiness(event: &Event) -> Readiness {
    // An error is an end that is found by reading; a hang-up may be found by writing as well.
    // Behind urgent data a read stops short, too.
    let ending = event.is_read_closed() || event.is_error() || event.is_priority();
    Readiness {
        readable: event.is_readable() || ending,
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        ending,
    }
}
