//! The only file that calls mio's poll for tunnels: for one in a worker's thread, for thousands in a reactor's.
//!
//! mio is edge-triggered: an event is said once. A flow latches what was said, and forgets it only when an
//! operation would have blocked; so nothing can be missed.

use super::deadlines::Deadlines;
use super::inbox::{Door, Inbox, Lobby};
use super::{Readiness, ScratchPool, Tunnel, Turn};
use crate::ids::Id;
use crate::net::alarm::Alarm;
use crate::net::stream::Stream;
use crate::transaction::{CloseReason, Side};
use log::error;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

// Tunnels are counted from 0, and each has two tokens.
const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// For how many tunnels a loop is made.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Events of one wait.
    events: usize,
    is_shared: bool,
}

impl Size {
    /// For one tunnel: it has two sockets, and the loop has a waker and an alarm.
    pub const ONE: Self = Self {
        events: 4,
        is_shared: false,
    };
    /// For thousands.
    pub const MANY: Self = Self {
        events: 512,
        is_shared: true,
    };
}

/// Runs tunnels in one thread.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    /// Lets other threads run before it sleeps: see [`Waiter::yields`](crate::net::wait::Waiter::yields).
    pub yields: bool,
    lobby: Arc<Lobby>,
    scratch: Arc<ScratchPool>,
    /// By their places.
    tunnels: Vec<Option<Running>>,
    /// How many of them there are.
    count: usize,
    /// Tunnels that are to have a turn, each once.
    due: VecDeque<usize>,
    deadlines: Deadlines,
    load: Arc<AtomicUsize>,
    /// When those outside believe that the loop wakes by itself.
    wakes_at: Option<Instant>,
    /// Why no further tunnel shall run.
    ending: Option<CloseReason>,
}

/// A tunnel in its loop.
#[derive(Debug)]
struct Running {
    tunnel: Box<Tunnel>,
    is_due: bool,
    /// The legs whose room for bytes is listened for, from the first time that there was none.
    hears_room: [bool; 2],
    /// Its entry in the deadlines. The deadline itself moves on with each byte; it is looked at again then.
    looked_at: Option<Instant>,
}

impl Running {
    /// Whether from now on it is to have a turn, and was not before.
    fn becomes_due(&mut self) -> bool {
        let becomes = !self.is_due && self.tunnel.can_move();
        self.is_due |= becomes;
        becomes
    }
}

impl EventLoop {
    /// A loop that borrows its buffers from `scratch`, and is woken for its deadlines by `alarm`, which each call
    /// below has to be given. Takes two descriptors.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(scratch: Arc<ScratchPool>, alarm: &Alarm, size: Size) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let alarm = alarm.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&alarm), ALARM, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(size.events),
            yields: false,
            lobby: Arc::new(Lobby::new(waker, size.is_shared)),
            scratch,
            tunnels: Vec::new(),
            count: 0,
            due: VecDeque::new(),
            deadlines: Deadlines::default(),
            load: Arc::default(),
            wakes_at: None,
            ending: None,
        })
    }

    /// Where this loop is told to end.
    pub fn inbox(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.lobby))
    }

    /// Where other threads bring tunnels. Takes a descriptor.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn door(&self) -> io::Result<Door> {
        let registry = self.poll.registry().try_clone()?;
        Ok(Door::new(Arc::clone(&self.lobby), registry))
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
        if let Err((mut tunnel, error)) = self.lobby.leave(tunnel, self.poll.registry()) {
            tunnel.fail(error.to_string());
            return Err(error);
        }
        self.load.fetch_add(1, Ordering::Relaxed);
        self.take_arrivals();
        while self.count > 0 {
            if let Some(quiet) = quiet
                && let Some(tunnel) = self.release_quiet(alarm, quiet)?
            {
                return Ok(Some(tunnel));
            }
            self.step(alarm)?;
        }
        Ok(None)
    }

    /// Runs what is brought to its door, until it is told to end and all have.
    ///
    /// # Errors
    /// What the system said, when it does not let us wait. All tunnels have then been cut.
    pub fn run_many(&mut self, alarm: &mut Alarm) -> io::Result<()> {
        while !self.may_go() {
            self.step(alarm)?;
        }
        Ok(())
    }

    /// Whether it has been told to end and all tunnels have. Then no further is taken.
    fn may_go(&self) -> bool {
        if self.ending.is_none() || self.count > 0 {
            return false;
        }
        let mut state = self.lobby.state();
        state.is_gone = state.arrivals.is_empty();
        state.is_gone
    }

    /// Takes in whom others have brought, and hears whether the loop is to end.
    fn take_arrivals(&mut self) {
        let (arrivals, told, ending) = {
            let mut state = self.lobby.state();
            let ending = state.ending.clone().filter(|_| self.ending.is_none());
            state.wakes_at = self.wakes_at;
            let told = std::mem::take(&mut state.told);
            (std::mem::take(&mut state.arrivals), told, ending)
        };
        for (index, tunnel) in arrivals {
            let running = Running {
                hears_room: tunnel.waits_for_room(),
                tunnel,
                is_due: false,
                looked_at: None,
            };
            if index >= self.tunnels.capacity() {
                // A quarter more, and not twice as many: there may be thousands.
                let more = index + 1 - self.tunnels.len() + self.tunnels.len() / 4;
                self.tunnels.reserve_exact(more);
            }
            if index >= self.tunnels.len() {
                self.tunnels.resize_with(index + 1, || None);
            }
            if let Some(place) = self.tunnels.get_mut(index) {
                *place = Some(running);
                self.count += 1;
            }
            if let Some(reason) = &self.ending {
                self.end(index, &reason.clone());
            }
            self.schedule(index);
        }
        for index in told {
            // Another one may have the place by now.
            let tunnel = self.tunnels.get(index).and_then(Option::as_ref);
            let reason = tunnel.and_then(|running| running.tunnel.live().told());
            if let Some(reason) = reason {
                self.end(index, &reason);
            }
        }
        if let Some(reason) = ending {
            for index in 0..self.tunnels.len() {
                self.end(index, &reason);
            }
            self.ending = Some(reason);
        }
    }

    fn end(&mut self, index: usize, reason: &CloseReason) {
        if let Some(Some(running)) = self.tunnels.get_mut(index) {
            running.tunnel.end(reason.clone());
            self.schedule(index);
        }
    }

    /// One wait, and a turn for each tunnel that can move then.
    fn step(&mut self, alarm: &mut Alarm) -> io::Result<()> {
        let has_rung = self.hear(alarm).inspect_err(|error| self.cut_all(error))?;
        if has_rung {
            self.look_at_deadlines();
        }
        if !self.due.is_empty() {
            self.give_turns();
        }
        Ok(())
    }

    /// Waits for events, and has the tunnels note them. Says whether the alarm has rung.
    fn hear(&mut self, alarm: &mut Alarm) -> io::Result<bool> {
        if let Some(at) = self.deadlines.earliest() {
            alarm.ring_by(at)?;
        }
        if self.wakes_at != alarm.rings_at() {
            self.wakes_at = alarm.rings_at();
            self.lobby.state().wakes_at = self.wakes_at;
        }
        // Whose budget ran out goes on after the others have been heard.
        let timeout = (!self.due.is_empty()).then_some(Duration::ZERO);
        if self.yields && timeout.is_none() {
            thread::yield_now();
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut has_rung = false;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER => self.take_arrivals(),
                ALARM => {
                    alarm.has_rung();
                    has_rung = true;
                    // Who came meanwhile has relied upon it.
                    self.wakes_at = None;
                    self.take_arrivals();
                }
                token => self.note(token, readiness(event)),
            }
        }
        self.events = events;
        Ok(has_rung)
    }

    fn note(&mut self, token: Token, readiness: Readiness) {
        let (index, side) = whose(token);
        if !matches!(self.tunnels.get(index), Some(Some(_))) {
            // It lies where it was left.
            self.take_arrivals();
        }
        if let Some(Some(running)) = self.tunnels.get_mut(index) {
            running.tunnel.ready(side, readiness);
            if running.becomes_due() {
                self.due.push_back(index);
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
                } else if !running.is_due {
                    // Who is due has its turn first, and then another deadline.
                    self.schedule(index);
                }
            }
        }
    }

    /// A turn for each that is due now; who can go on then is due again.
    fn give_turns(&mut self) {
        let pool = Arc::clone(&self.scratch);
        let mut scratch = match pool.take() {
            Ok(scratch) => scratch,
            Err(error) => return self.cut_first_due(&error),
        };
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
                Ok(Turn::GoesOn) => match self.hear_of_room(index) {
                    Ok(()) => self.schedule(index),
                    Err(error) => self.cut(index, &error),
                },
                Ok(Turn::Ended) => self.close(index),
                Err(_) => {
                    error!(
                        "{} {} the tunnel is cut after a panic, which is a bug",
                        running.tunnel.name(),
                        Id::Panicked
                    );
                    running.tunnel.fail("panic".to_owned());
                    self.close(index);
                }
            }
        }
        pool.give_back(scratch.buffer);
    }

    /// There is not even memory for a turn: somebody has to go, and the others try again.
    fn cut_first_due(&mut self, error: &io::Error) {
        let Some(mut tunnel) = self.due.pop_front().and_then(|index| self.take_out(index)) else {
            return;
        };
        let (name, id) = (tunnel.name(), Id::OutOfMemory);
        error!(
            "{name} {id} the tunnel is cut: {error} for its turn; {}",
            id.remedy()
        );
        tunnel.fail(format!("{error} for its turn"));
    }

    /// Sees to it that the tunnel gets its next turn, or is looked at when its time is up.
    fn schedule(&mut self, index: usize) {
        let Some(Some(running)) = self.tunnels.get_mut(index) else {
            return;
        };
        if running.becomes_due() {
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

    /// Registers the legs that have refused bytes for what is to be heard of them then. Most never do.
    fn hear_of_room(&mut self, index: usize) -> io::Result<()> {
        let Some(Some(running)) = self.tunnels.get_mut(index) else {
            return Ok(());
        };
        let wanted = running.tunnel.waits_for_room();
        let legs = running.tunnel.legs().into_iter().zip(wanted);
        for (((side, leg), waits), hears) in legs.zip(&mut running.hears_room) {
            if waits && !*hears {
                let fd = leg.as_fd().as_raw_fd();
                let mut source = SourceFd(&fd);
                let registry = self.poll.registry();
                registry.reregister(&mut source, token(index, side), interest(true))?;
                *hears = true;
            }
        }
        Ok(())
    }

    fn take_out(&mut self, index: usize) -> Option<Box<Tunnel>> {
        let running = self.tunnels.get_mut(index)?.take()?;
        if let Some(at) = running.looked_at {
            self.deadlines.remove(at, index);
        }
        self.count -= 1;
        if self.lobby.state().places.give_back(index) {
            self.tunnels = Vec::new();
        }
        self.load.fetch_sub(1, Ordering::Relaxed);
        Some(running.tunnel)
    }

    fn close(&mut self, index: usize) {
        drop(self.take_out(index));
    }

    fn cut(&mut self, index: usize, error: &io::Error) {
        if let Some(mut tunnel) = self.take_out(index) {
            let id = Id::CannotWait;
            error!(
                "{} {id} the tunnel cannot be watched: {error}",
                tunnel.name()
            );
            tunnel.fail(format!("it cannot be watched: {error}"));
        }
    }

    /// Nobody can be served any more, nor will be.
    fn cut_all(&mut self, error: &io::Error) {
        self.lobby.state().is_gone = true;
        self.take_arrivals();
        for index in 0..self.tunnels.len() {
            if let Some(Some(running)) = self.tunnels.get_mut(index) {
                running.tunnel.fail(error.to_string());
            }
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
        ignore(self.poll.registry(), running.tunnel.legs());
        Ok(self.take_out(0))
    }
}

impl Drop for EventLoop {
    /// However the loop has come to its end, nobody is to leave a tunnel any more.
    fn drop(&mut self) {
        let left = {
            let mut state = self.lobby.state();
            state.is_gone = true;
            std::mem::take(&mut state.arrivals)
        };
        // Who hears of their ends may be about to look at this loop.
        drop(left);
    }
}

/// Listens for what comes from both legs of `tunnel`, under the tokens of its place.
pub(super) fn watch(registry: &Registry, tunnel: &Tunnel, index: usize) -> io::Result<()> {
    let legs = tunnel.legs();
    for ((side, leg), waits_for_room) in legs.into_iter().zip(tunnel.waits_for_room()) {
        let fd = leg.as_fd().as_raw_fd();
        let mut source = SourceFd(&fd);
        registry
            .register(&mut source, token(index, side), interest(waits_for_room))
            .inspect_err(|_| ignore(registry, legs))?;
    }
    Ok(())
}

/// What is listened for. Behind urgent data a read stops short, so it is heard of as well.
fn interest(room: bool) -> Interest {
    let input = Interest::READABLE | Interest::PRIORITY;
    if room {
        input | Interest::WRITABLE
    } else {
        input
    }
}

/// No longer listens for `legs`, as far as it did.
fn ignore(registry: &Registry, legs: [(Side, &Stream); 2]) {
    for (_, leg) in legs {
        let fd = leg.as_fd().as_raw_fd();
        // Who is not registered need not be taken out.
        let _ = registry.deregister(&mut SourceFd(&fd));
    }
}

fn token(index: usize, side: Side) -> Token {
    match side {
        Side::Client => Token(2 * index),
        Side::Backend => Token(2 * index + 1),
    }
}

fn whose(Token(token): Token) -> (usize, Side) {
    let side = if token % 2 == 0 {
        Side::Client
    } else {
        Side::Backend
    };
    (token / 2, side)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::Leftovers;
    use crate::tunnel::tests::{Ends, MINUTE, sum, tunnel, tunnel_behind};
    use std::io::{Read, Write};

    fn event_loop() -> (EventLoop, Alarm) {
        let alarm = Alarm::new().unwrap();
        let event_loop = EventLoop::new(Arc::default(), &alarm, Size::ONE).unwrap();
        (event_loop, alarm)
    }

    #[test]
    fn bytes_that_come_together_with_the_idle_deadline_are_delivered() {
        let idle = Duration::from_millis(20);
        let ends = Arc::default();
        let (tunnel, mut client, mut backend) = tunnel(idle, &ends);
        client.write_all(b"in time").unwrap();
        // The loop begins to look only when the deadline has passed.
        while tunnel.live().moved_at().elapsed() <= idle {
            thread::yield_now();
        }
        let (mut event_loop, mut alarm) = event_loop();
        drop(client);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            backend.read_to_end(&mut received).unwrap();
            received
        });
        event_loop.run_one(tunnel, &mut alarm, None).unwrap();
        assert_eq!(reader.join().unwrap(), b"in time");
    }

    #[test]
    fn a_tunnel_that_nobody_woke_the_loop_for_ends_at_its_deadline() {
        let ends = Arc::<Ends>::default();
        let (mut event_loop, mut alarm) = event_loop();
        let (door, inbox) = (event_loop.door().unwrap(), event_loop.inbox());
        let runs = thread::spawn(move || event_loop.run_many(&mut alarm));
        // The second has the later deadline, so that it lies there until the first alarm.
        let idle = Duration::from_millis(5);
        let (first, client, backend) = tunnel(idle, &ends);
        let (second, client_2, backend_2) = tunnel(2 * idle, &ends);
        door.adopt(first).unwrap();
        door.adopt(second).unwrap();
        for mut end in [client, backend, client_2, backend_2] {
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        }
        inbox.end(CloseReason::Stopping);
        runs.join().unwrap().unwrap();
        let reasons = ends.reasons.lock().unwrap();
        assert_eq!(
            *reasons,
            [CloseReason::Idle(idle), CloseReason::Idle(2 * idle)]
        );
    }

    #[test]
    fn a_panic_in_a_turn_ends_that_tunnel_and_leaves_the_others_their_loop() {
        let (bad, good) = (Arc::<Ends>::default(), Arc::<Ends>::default());
        bad.panics_in_turn.store(true, Ordering::Relaxed);
        let (mut event_loop, mut alarm) = event_loop();
        let (door, inbox) = (event_loop.door().unwrap(), event_loop.inbox());
        let runs = thread::spawn(move || event_loop.run_many(&mut alarm));
        let (first, mut client, mut backend) = tunnel(MINUTE, &bad);
        let (second, mut client_2, mut backend_2) = tunnel(MINUTE, &good);
        door.adopt(first).unwrap();
        door.adopt(second).unwrap();
        client.write_all(b"x").unwrap();
        let mut received = Vec::new();
        backend.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"x");
        client_2.write_all(b"x").unwrap();
        backend_2.read_exact(&mut [0]).unwrap();
        inbox.end(CloseReason::Stopping);
        drop((client_2, backend_2));
        runs.join().unwrap().unwrap();
        let fault = CloseReason::Fault("panic".to_owned());
        assert_eq!(*bad.reasons.lock().unwrap(), [fault]);
        assert_eq!(good.reasons.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_loop_that_is_gone_takes_no_tunnel() {
        let ends = Arc::default();
        let (event_loop, _alarm) = event_loop();
        let door = event_loop.door().unwrap();
        drop(event_loop);
        let (tunnel, _client, _backend) = tunnel(Duration::from_secs(60), &ends);
        assert!(door.adopt(tunnel).is_err());
    }

    #[test]
    fn what_moves_is_told_while_the_tunnel_is_open() {
        let ends = Arc::<Ends>::default();
        let leftovers = Leftovers {
            from_client: b"early".to_vec(),
            from_backend: b"first words".to_vec(),
            ..Leftovers::default()
        };
        let (tunnel, mut client, mut backend) = tunnel_behind(leftovers, MINUTE, &ends);
        let (mut event_loop, mut alarm) = event_loop();
        let runs = thread::spawn(move || event_loop.run_one(tunnel, &mut alarm, None));
        ends.wait_for([5, 11]);
        for round in 1..=50 {
            client.write_all(b"ping").unwrap();
            ends.wait_for([5 + 4 * round, 11 + 6 * (round - 1)]);
            backend.write_all(b"answer").unwrap();
            ends.wait_for([5 + 4 * round, 11 + 6 * round]);
        }
        drop((client, backend));
        runs.join().unwrap().unwrap();
        assert_eq!(*ends.total.lock().unwrap(), [205, 311]);
        let moved = ends.moved.lock().unwrap();
        assert_eq!(sum(&moved), [205, 311], "and nothing of it twice");
        assert!(
            moved.iter().all(|turn| *turn != [0; 2]),
            "no word of nothing"
        );
    }

    #[test]
    fn what_is_told_sums_up_to_what_the_access_line_says_however_a_tunnel_ends() {
        let ends = Arc::<Ends>::default();
        let leftovers = Leftovers {
            from_backend: vec![1; 9000],
            ..Leftovers::default()
        };
        let (tunnel, client, mut backend) = tunnel_behind(leftovers, MINUTE, &ends);
        let (mut event_loop, mut alarm) = event_loop();
        let inbox = event_loop.inbox();
        let runs = thread::spawn(move || event_loop.run_one(tunnel, &mut alarm, None));
        // The client reads nothing: much has been taken that it never gets.
        backend
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while backend.write(&[2; 1 << 20]).is_ok() {}
        drop(client);
        inbox.end(CloseReason::Stopping);
        drop(backend);
        runs.join().unwrap().unwrap();
        let told = ends.told();
        assert_eq!(told, *ends.total.lock().unwrap());
        assert!(told[1] > 1 << 20, "{told:?}");
    }

    #[test]
    fn a_panic_when_one_has_ended_leaves_the_others_their_loop() {
        let (bad, good) = (Arc::<Ends>::default(), Arc::<Ends>::default());
        bad.panics.store(true, Ordering::Relaxed);
        let (mut event_loop, mut alarm) = event_loop();
        let (door, inbox) = (event_loop.door().unwrap(), event_loop.inbox());
        let runs = thread::spawn(move || event_loop.run_many(&mut alarm));
        let (first, client, backend) = tunnel(MINUTE, &bad);
        let (second, mut client_2, mut backend_2) = tunnel(MINUTE, &good);
        door.adopt(first).unwrap();
        door.adopt(second).unwrap();
        drop((client, backend));
        while bad.reasons.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        client_2.write_all(b"still here").unwrap();
        let mut received = [0; 10];
        backend_2.read_exact(&mut received).unwrap();
        drop((client_2, backend_2));
        inbox.end(CloseReason::Stopping);
        runs.join().unwrap().unwrap();
        assert_eq!(good.reasons.lock().unwrap().len(), 1);
    }

    const TOLD: CloseReason = CloseReason::Administrator { code: None };

    #[test]
    fn a_tunnel_that_is_told_to_end_does_so_and_the_others_go_on() {
        let ends = Arc::<Ends>::default();
        let (mut event_loop, mut alarm) = event_loop();
        let (door, inbox) = (event_loop.door().unwrap(), event_loop.inbox());
        let runs = thread::spawn(move || event_loop.run_many(&mut alarm));
        let (first, mut client, mut backend) = tunnel(MINUTE, &ends);
        let (second, mut client_2, mut backend_2) = tunnel(MINUTE, &ends);
        let live = first.share();
        door.adopt(first).unwrap();
        door.adopt(second).unwrap();
        live.end(TOLD).unwrap().carry_out();
        assert!(live.end(CloseReason::Stopping).is_none(), "told twice");
        for end in [&mut client, &mut backend] {
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        }
        client_2.write_all(b"still here").unwrap();
        let mut received = [0; 10];
        backend_2.read_exact(&mut received).unwrap();
        drop((client, backend, client_2, backend_2));
        inbox.end(CloseReason::Stopping);
        runs.join().unwrap().unwrap();
        let reasons = ends.reasons.lock().unwrap();
        let told = reasons.iter().filter(|reason| **reason == TOLD);
        assert_eq!((told.count(), reasons.len()), (1, 2), "{reasons:?}");
        assert!(live.id().is_none(), "it has ended");
    }

    #[test]
    fn a_tunnel_that_is_told_to_end_between_two_loops_ends_in_the_second() {
        let ends = Arc::<Ends>::default();
        let (mut worker, mut alarm) = event_loop();
        let quiet = Some(Duration::from_millis(1));
        let (told, mut client, mut backend) = tunnel(MINUTE, &ends);
        let live = told.share();
        let told = worker.run_one(told, &mut alarm, quiet).unwrap().unwrap();
        live.end(TOLD).unwrap().carry_out();
        let (mut reactor, mut alarm_2) = event_loop();
        let (door, inbox) = (reactor.door().unwrap(), reactor.inbox());
        let runs = thread::spawn(move || reactor.run_many(&mut alarm_2));
        door.adopt(told).unwrap();
        for end in [&mut client, &mut backend] {
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        }
        drop((client, backend));
        inbox.end(CloseReason::Stopping);
        runs.join().unwrap().unwrap();
        assert_eq!(*ends.reasons.lock().unwrap(), [TOLD]);
        // The word came to its old place as well, where it is nothing to the next tunnel.
        let (next, mut client, mut backend) = tunnel(MINUTE, &ends);
        let runs = thread::spawn(move || worker.run_one(next, &mut alarm, None).map(drop));
        client.write_all(b"untouched").unwrap();
        let mut received = [0; 9];
        backend.read_exact(&mut received).unwrap();
        drop(client);
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
        drop(backend);
        runs.join().unwrap().unwrap();
        let closed = CloseReason::Closed(Side::Client);
        assert_eq!(*ends.reasons.lock().unwrap(), [TOLD, closed]);
    }
}
