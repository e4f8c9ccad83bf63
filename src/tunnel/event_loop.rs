//! The only file that calls mio's poll for tunnels.
//!
//! mio is edge-triggered: an event is said once. Each socket is registered once for both directions, a flow
//! latches what was said, and forgets it only when an operation would have blocked; so nothing can be missed.

use super::{Readiness, ScratchPool, Tunnel, Turn};
use crate::net::alarm::Alarm;
use crate::net::stream::Stream;
use crate::transaction::{CloseReason, Side, Transaction};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

const CLIENT: Token = Token(0);
const BACKEND: Token = Token(1);
const WAKER: Token = Token(2);
const ALARM: Token = Token(3);

/// Events taken by one wait: a worker has two sockets, a waker and an alarm.
const EVENTS: usize = 4;
/// Commands that may wait. A loop takes all of them at its next wake-up, and to end twice is to end.
const COMMANDS: usize = 4;

/// What a loop can be told from another thread.
#[derive(Debug, Clone)]
pub enum Command {
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
    /// Tells the loop. It waits for nobody: a loop that has not taken its last few commands has been told.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.try_send(command);
        // A loop that cannot be woken has ended.
        let _ = self.waker.wake();
    }
}

/// Runs tunnels: one at a time, in a worker's thread.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    commands: Receiver<Command>,
    inbox: Inbox,
    scratch: ScratchPool,
    /// Why no further tunnel shall run.
    ending: Option<CloseReason>,
}

impl EventLoop {
    /// A loop that borrows its buffers from `scratch`, and runs its tunnels by `alarm`. Takes two descriptors.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(scratch: ScratchPool, alarm: &Alarm) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(
            &mut SourceFd(&alarm.as_fd().as_raw_fd()),
            ALARM,
            Interest::READABLE,
        )?;
        let (sender, commands) = bounded(COMMANDS);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            commands,
            inbox: Inbox {
                commands: sender,
                waker,
            },
            scratch,
            ending: None,
        })
    }

    /// Where this loop takes its commands from.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Runs `tunnel` to its end.
    ///
    /// # Errors
    /// What the system said, when it does not let us wait. The tunnel has then been cut.
    pub fn run_one(
        &mut self,
        mut tunnel: Tunnel,
        alarm: &mut Alarm,
    ) -> (Box<Transaction>, io::Result<()>) {
        let outcome = self.run_to_end(&mut tunnel, alarm);
        (tunnel.close(), outcome)
    }

    fn run_to_end(&mut self, tunnel: &mut Tunnel, alarm: &mut Alarm) -> io::Result<()> {
        for (side, stream) in tunnel.legs() {
            let token = if side == Side::Client {
                CLIENT
            } else {
                BACKEND
            };
            self.register(stream, token)?;
        }
        if let Some(reason) = &self.ending {
            tunnel.end(reason.clone());
        }
        loop {
            if tunnel.can_move() && self.scratch.lend(|scratch| tunnel.turn(scratch)) == Turn::Ended
            {
                return Ok(());
            }
            if let Some(deadline) = tunnel.deadline() {
                alarm.ring_by(deadline)?;
            }
            // Where only its budget ran out, others are heard before it goes on.
            let timeout = tunnel.can_move().then_some(Duration::ZERO);
            let woken = self.wait(tunnel, alarm, timeout)?;
            if woken == Woken::ByAlarm && tunnel.is_overdue() && tunnel.expire() {
                return Ok(());
            }
        }
    }

    fn register(&self, stream: &Stream, token: Token) -> io::Result<()> {
        let fd = stream.as_fd().as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&fd),
            token,
            Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
        )
    }

    /// Waits for events, and passes them on.
    fn wait(
        &mut self,
        tunnel: &mut Tunnel,
        alarm: &mut Alarm,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut woken = Woken::ByEvents;
        for event in &self.events {
            match event.token() {
                CLIENT => tunnel.ready(Side::Client, readiness(event)),
                BACKEND => tunnel.ready(Side::Backend, readiness(event)),
                ALARM => {
                    alarm.has_rung();
                    woken = Woken::ByAlarm;
                }
                _ => {
                    while let Ok(Command::End(reason)) = self.commands.try_recv() {
                        tunnel.end(reason.clone());
                        self.ending.get_or_insert(reason);
                    }
                }
            }
        }
        Ok(woken)
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    ByEvents,
    /// The alarm rang, whatever else there was.
    ByAlarm,
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
