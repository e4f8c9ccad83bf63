//! The tunnel: two legs and two flows, its ends and its clock. It is run by an [`event_loop`], knows no
//! configuration, and does not wait.

mod deadlines;
pub mod event_loop;
mod flow;
pub mod inbox;
pub mod live;
mod pipe;
pub mod reactor;
mod scratch;
mod trial;

pub use live::{Live, Observer};
pub use scratch::ScratchPool;

use crate::frame::{FrameTracker, Sender};
use crate::ids::Id;
use crate::net::stream::Stream;
use crate::transaction::{CloseReason, Seen, Side};
use flow::{Flow, FlowError, Operation};
use log::{error, trace};
use scratch::Scratch;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure, or when it has been told to end, a tunnel delivers what it has accepted, says that nothing
/// more comes, and discards what still arrives until both sides have closed; for this long without progress.
/// To close with unread input would reset a connection, and what was just delivered with it.
pub const CLOSING: Duration = Duration::from_secs(2);

/// How long the client of a dead backend may take to close as well, once it has been told that nothing more comes. Most
/// do so at once; the rest shall not outlive their backend. It is many round trips, so that who is about to send
/// something finds an orderly end and no reset.
pub const DEAD: Duration = Duration::from_secs(1);

/// Most bytes that one flow moves before the other has its turn.
const BUDGET: usize = 256 * 1024;

/// The bounds of one tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long nothing may move in either direction; nothing means for ever.
    /// httpd: `ProxyWebsocketIdleTimeout`.
    pub idle: Option<Duration>,
    /// How long the direction that is left may stand still once the other has ended.
    pub half_close: Duration,
    /// How old it may get since its request began, whatever moves; nothing means any age. `ProxyWebsocketMaxLifetime`, as
    /// drawn for this one.
    pub lifetime: Option<Duration>,
}

/// Two legs whose bytes are passed to each other.
#[derive(Debug)]
pub struct Tunnel {
    client: Stream,
    backend: Stream,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    idle: Bound,
    half_close: Bound,
    lifetime: Bound,
    /// Why it ends, from the moment that it does.
    close: Option<Box<CloseReason>>,
    /// It has been told to end or has failed: see [`CLOSING`] and [`DEAD`].
    closing: bool,
    live: Arc<Live>,
}

/// A span of time in nanoseconds, as small as can be; more than those of 584 years is none.
#[derive(Debug, Clone, Copy)]
struct Bound(u64);

impl From<Option<Duration>> for Bound {
    fn from(span: Option<Duration>) -> Self {
        let nanoseconds = span.map_or(u128::MAX, |span| span.as_nanos());
        Self(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl Bound {
    fn get(self) -> Option<Duration> {
        (self.0 < u64::MAX).then(|| Duration::from_nanos(self.0))
    }
}

/// What an event said about one leg.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has ended its direction, or the connection has failed, or there is urgent data: a read that
    /// stops short has not taken all.
    pub(super) ending: bool,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    GoesOn,
    /// Both directions have ended, or it cannot go on.
    Ended,
}

/// What the handshake leaves behind. The bytes arrived behind it, and go first.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Whether what follows is made of WebSocket frames.
    pub is_websocket: bool,
    /// What the client sent behind its request.
    pub from_client: Vec<u8>,
    /// What the backend sent behind its 101.
    pub from_backend: Vec<u8>,
}

impl Tunnel {
    /// A tunnel between two established, non-blocking streams.
    pub fn new(
        client: Stream,
        backend: Stream,
        leftovers: Leftovers,
        limits: Limits,
        live: Arc<Live>,
    ) -> Self {
        let frames = |sender| {
            if leftovers.is_websocket {
                FrameTracker::new(sender)
            } else {
                FrameTracker::unfollowed()
            }
        };
        let [from_client, from_server] = [Sender::Client, Sender::Server].map(frames);
        // What TLS has already decrypted raises no event, so it has to be asked once.
        let up = Flow::new(leftovers.from_client, !client.is_plain(), from_client);
        let down = Flow::new(leftovers.from_backend, !backend.is_plain(), from_server);
        Self {
            client,
            backend,
            up,
            down,
            idle: limits.idle.into(),
            half_close: Some(limits.half_close).into(),
            lifetime: limits.lifetime.into(),
            close: None,
            closing: false,
            live,
        }
    }

    /// What logs begin their lines with.
    pub fn name(&self) -> String {
        self.live.name()
    }

    /// What others know of it.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    pub(super) fn legs(&self) -> [(Side, &Stream); 2] {
        [(Side::Client, &self.client), (Side::Backend, &self.backend)]
    }

    /// Of which of the [`legs`](Self::legs) it has to hear when there is room for bytes.
    pub(super) fn waits_for_room(&self) -> [bool; 2] {
        // A TLS read may wait for room to write.
        [
            self.down.sink_is_full() || !self.client.is_plain(),
            self.up.sink_is_full() || !self.backend.is_plain(),
        ]
    }

    /// Notes what an event said.
    pub(super) fn ready(&mut self, side: Side, readiness: Readiness) {
        let (leg, from, to) = match side {
            Side::Client => (&self.client, &mut self.up, &mut self.down),
            Side::Backend => (&self.backend, &mut self.down, &mut self.up),
        };
        // A TLS read may have waited for room to write, and a write for bytes to read.
        let any = !leg.is_plain();
        if readiness.readable || any {
            from.source_is_ready(readiness.ending);
        }
        if readiness.writable || any {
            to.sink_is_ready();
        }
    }

    /// Moves what can be moved.
    fn turn(&mut self, scratch: &mut Scratch<'_>) -> Turn {
        let before = self.progress();
        let up = self
            .up
            .pump(&mut self.client, &mut self.backend, scratch, BUDGET);
        self.note(Side::Client, up);
        let down = self
            .down
            .pump(&mut self.backend, &mut self.client, scratch, BUDGET);
        self.note(Side::Backend, down);
        self.notice_death();
        if self.progress() != before {
            self.live.moves_bytes();
            self.publish();
        }
        trace!(
            "{} {} bytes up, {} down so far",
            self.name(),
            self.up.delivered(),
            self.down.delivered()
        );
        let is_over = self.up.is_done() && self.down.is_done();
        if is_over || matches!(self.close.as_deref(), Some(CloseReason::Fault(_))) {
            Turn::Ended
        } else {
            Turn::GoesOn
        }
    }

    /// Whether a turn would do something without a further event.
    pub(super) fn can_move(&self) -> bool {
        self.up.can_move() || self.down.can_move()
    }

    /// Grows with each byte that moves.
    fn progress(&self) -> u64 {
        [&self.up, &self.down]
            .map(|flow| flow.accepted() + flow.delivered())
            .iter()
            .sum()
    }

    /// Lets others know what has moved.
    fn publish(&self) {
        let moved = [self.up.delivered(), self.down.accepted()];
        let messages = [&self.up, &self.down].map(Flow::messages);
        self.live.publish(moved, messages);
    }

    /// Takes note of how the flow that comes from `source` fared.
    fn note(&mut self, source: Side, outcome: Result<(), FlowError>) {
        match outcome {
            Ok(()) => self.note_end(source),
            Err(FlowError { source: error, .. }) if error.kind() == ErrorKind::OutOfMemory => {
                let cause = format!("{error} for what comes from the {source}");
                let (name, id) = (self.name(), Id::OutOfMemory);
                error!("{name} {id} the tunnel is cut: {cause}; {}", id.remedy());
                self.fail(cause);
            }
            Err(FlowError {
                operation,
                source: error,
            }) => {
                let failed = match operation {
                    Operation::Read => source,
                    Operation::Write => source.other(),
                };
                match failed {
                    Side::Client => self.down.break_sink(),
                    Side::Backend => self.up.break_sink(),
                }
                self.start_closing(CloseReason::Failed(failed, error.to_string()));
            }
        }
    }

    /// Takes note of the end of the flow that comes from `source`, if it has come. The first to end is why the tunnel does;
    /// but where the other one is cut then, its last bytes may be missing, and that is what has to be known.
    fn note_end(&mut self, source: Side) {
        let (flow, leg) = match source {
            Side::Client => (&self.up, &self.client),
            Side::Backend => (&self.down, &self.backend),
        };
        if !flow.source_has_ended() {
            return;
        }
        let is_cut = leg.was_cut() && !flow.has_said_close();
        match self.close.as_deref() {
            None => {
                self.close = Some(Box::new(if is_cut {
                    CloseReason::Cut(source)
                } else {
                    CloseReason::Closed(source)
                }));
                self.live.moves();
            }
            Some(CloseReason::Closed(first)) if is_cut && *first != source => {
                self.close = Some(Box::new(CloseReason::Cut(source)));
            }
            Some(_) => {}
        }
    }

    /// Who ends a WebSocket says Close before, or has heard it (RFC 6455, section 7.1.2). A backend that ends without
    /// it will take nothing more either, so that nothing is left to wait for but that the client gets what was there.
    /// Looked at when all has been read: the Close may come behind a write that has failed.
    fn notice_death(&mut self) {
        let cause = match self.close.as_deref() {
            Some(CloseReason::Closed(Side::Backend)) => None,
            Some(CloseReason::Cut(Side::Backend)) => Some("TLS ended without close_notify"),
            Some(CloseReason::Failed(Side::Backend, cause)) => Some(cause.as_str()),
            _ => return,
        };
        let is_unannounced = self.up.lacks_close() && self.down.lacks_close();
        if self.down.source_has_ended() && is_unannounced {
            self.close = Some(Box::new(CloseReason::Died(cause.map(str::to_owned))));
            self.closing = true;
            self.live.moves();
            self.up.discard();
        }
    }

    /// How long the direction that is left may stand still.
    fn half_closed_limit(&self) -> Duration {
        let least = self.idle.0.min(self.half_close.0);
        Duration::from_nanos(least)
    }

    /// For how long nothing may move now.
    fn limit(&self) -> Option<Duration> {
        match self.close.as_deref() {
            None => self.idle.get(),
            // An end is read only when all in front of it has been delivered.
            Some(CloseReason::Died(_)) => Some(DEAD),
            Some(_) if self.closing => Some(CLOSING),
            Some(_) => Some(self.half_closed_limit()),
        }
    }

    /// When the tunnel has to be told that time is up, if nothing moves until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.silent_at().into_iter().chain(self.old_at()).min()
    }

    /// When nothing will have moved for as long as that may be.
    fn silent_at(&self) -> Option<Instant> {
        self.limit()
            .and_then(|limit| self.live.moved_at().checked_add(limit))
    }

    /// Whether its time is up; not if something has come that may still move, unless it is too old for that. What is only
    /// discarded does not count.
    pub(super) fn is_overdue(&self) -> bool {
        let now = Instant::now();
        let is_silent = (self.closing || !self.can_move())
            && self.silent_at().is_some_and(|deadline| deadline <= now);
        is_silent || self.is_too_old(now)
    }

    /// When it is as old as it may get. Who is closing has its own time.
    fn old_at(&self) -> Option<Instant> {
        let lifetime = self.lifetime.get().filter(|_| !self.closing);
        lifetime.and_then(|age| self.live.began().checked_add(age))
    }

    fn is_too_old(&self, now: Instant) -> bool {
        self.old_at().is_some_and(|end| end <= now)
    }

    /// When nothing will have moved for `quiet`, if nothing does until then.
    pub(super) fn quiet_at(&self, quiet: Duration) -> Option<Instant> {
        self.live.moved_at().checked_add(quiet)
    }

    /// Whether nothing has moved for `quiet`, and nothing is about to.
    pub(super) fn is_quiet(&self, quiet: Duration) -> bool {
        !self.can_move() && !self.closing && self.live.moved_at().elapsed() >= quiet
    }

    /// Time is up. Says whether the tunnel is over; if not, it takes turns until it has closed in order.
    pub(super) fn expire(&mut self) -> bool {
        if self.closing {
            return true;
        }
        let is_too_old = self.is_too_old(Instant::now());
        let reason = match self.close.take().map(|reason| *reason) {
            Some(cut @ CloseReason::Cut(_)) => cut,
            _ if is_too_old => CloseReason::Lifetime(self.lifetime.get().unwrap_or_default()),
            Some(CloseReason::Closed(side)) => {
                CloseReason::HalfClosed(side, self.half_closed_limit())
            }
            _ => CloseReason::Idle(self.idle.get().unwrap_or_default()),
        };
        self.end(reason);
        false
    }

    /// Ends the tunnel in order: see [`CLOSING`].
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.up.discard();
        self.down.discard();
        self.start_closing(reason);
    }

    /// It cannot go on for a reason of ours, and is to be closed at once. Had it begun to end, it has not ended like that.
    pub(super) fn fail(&mut self, cause: String) {
        self.close = Some(Box::new(CloseReason::Fault(cause)));
        self.closing = true;
    }

    /// The first reason stands: what follows from it is not why.
    fn start_closing(&mut self, reason: CloseReason) {
        self.close.get_or_insert_with(|| Box::new(reason));
        if !self.closing {
            self.closing = true;
            self.live.moves();
        }
    }
}

impl Drop for Tunnel {
    /// Closes both connections, and tells the observer.
    fn drop(&mut self) {
        let name = self.name();
        // A fault in what is told must not take the loop with it, and all other tunnels that it runs.
        if catch_unwind(AssertUnwindSafe(|| self.tell_end())).is_err() {
            let id = Id::Panicked;
            error!(
                "{name} {id} a panic at the end of the tunnel, which is a bug; {}",
                id.remedy()
            );
        }
    }
}

impl Tunnel {
    fn tell_end(&mut self) {
        self.publish();
        let silence = self.live.silence();
        let Self {
            up, down, close, ..
        } = self;
        self.live.finish(|transaction| {
            transaction.bytes_in += up.accepted();
            transaction.to_backend += up.delivered();
            transaction.from_backend += down.accepted();
            transaction.bytes_out += down.delivered();
            transaction.body_out += down.delivered();
            // Who has no reason was left by a thread that failed.
            let reason = close.take();
            transaction.close =
                Some(reason.unwrap_or_else(|| Box::new(CloseReason::Fault("panic".to_owned()))));
            transaction.seen = Some(Box::new(Seen {
                from_client: up.said(),
                from_backend: down.said(),
                silence,
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::Transaction;
    use rustix::net::sockopt::set_socket_linger;
    use std::io::Write;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::time::SystemTime;

    pub(super) const MINUTE: Duration = Duration::from_secs(60);

    /// Keeps why tunnels ended, and what was told of their bytes to and from the backend.
    #[derive(Debug, Default)]
    pub(super) struct Ends {
        pub(super) reasons: Mutex<Vec<CloseReason>>,
        pub(super) moved: Mutex<Vec<[u64; 2]>>,
        has_moved: Condvar,
        /// What the transactions say at the end.
        pub(super) total: Mutex<[u64; 2]>,
        /// Whether to panic when bytes have moved.
        pub(super) panics_in_turn: AtomicBool,
        /// Whether to panic when one has ended.
        pub(super) panics: AtomicBool,
    }

    impl Ends {
        pub(super) fn told(&self) -> [u64; 2] {
            sum(&self.moved.lock().unwrap())
        }

        /// Waits until so many bytes are known to have moved to and from the backend.
        pub(super) fn wait_for(&self, bytes: [u64; 2]) {
            let moved = self.moved.lock().unwrap();
            let bound = Duration::from_secs(10);
            let (_moved, waited) = self
                .has_moved
                .wait_timeout_while(moved, bound, |moved| sum(moved) != bytes)
                .unwrap();
            assert!(!waited.timed_out(), "{:?}", self.told());
        }
    }

    pub(super) fn sum(moved: &[[u64; 2]]) -> [u64; 2] {
        let add = |sum: [u64; 2], more: &[u64; 2]| [sum[0] + more[0], sum[1] + more[1]];
        moved.iter().fold([0; 2], add)
    }

    impl Observer for Ends {
        fn moved(&self, to_backend: u64, from_backend: u64) {
            if self.panics_in_turn.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new(()));
            }
            self.moved.lock().unwrap().push([to_backend, from_backend]);
            self.has_moved.notify_all();
        }

        fn ended(&self, _: &Live, transaction: &Transaction, _: Duration) {
            self.reasons
                .lock()
                .unwrap()
                .extend(transaction.close.as_deref().cloned());
            let mut total = self.total.lock().unwrap();
            *total = sum(&[*total, [transaction.to_backend, transaction.from_backend]]);
            if self.panics.load(Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new(()));
            }
        }
    }

    impl Tunnel {
        /// What others have of it.
        pub(super) fn share(&self) -> Arc<Live> {
            Arc::clone(&self.live)
        }
    }

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    /// A tunnel with its client and its backend.
    pub(super) fn tunnel(idle: Duration, ends: &Arc<Ends>) -> (Box<Tunnel>, TcpStream, TcpStream) {
        tunnel_behind(Leftovers::default(), idle, ends)
    }

    /// As [`tunnel`], with what the handshake has left behind.
    pub(super) fn tunnel_behind(
        leftovers: Leftovers,
        idle: Duration,
        ends: &Arc<Ends>,
    ) -> (Box<Tunnel>, TcpStream, TcpStream) {
        let ((near_client, client), (near_backend, backend)) = (connection(), connection());
        let address = client.local_addr().unwrap();
        let limits = Limits {
            idle: Some(idle),
            half_close: idle,
            lifetime: None,
        };
        let transaction = Transaction::new(1, address, address, SystemTime::now());
        let live = Live::new(transaction, Instant::now(), Arc::clone(ends));
        let tunnel = Tunnel::new(
            near_client.into(),
            near_backend.into(),
            leftovers,
            limits,
            live,
        );
        (Box::new(tunnel), client, backend)
    }

    /// Nothing has a turn in which it could be told of.
    #[test]
    fn a_leftover_that_is_cut_before_its_first_turn_is_told_of_at_the_end() {
        let ends = Arc::<Ends>::default();
        let leftovers = Leftovers {
            from_client: vec![1; 300],
            from_backend: vec![2; 400],
            ..Leftovers::default()
        };
        let (tunnel, _client, _backend) = tunnel_behind(leftovers, MINUTE, &ends);
        drop(tunnel);
        assert_eq!(ends.told(), [0, 400]);
        assert_eq!(*ends.total.lock().unwrap(), [0, 400]);
    }

    const CLOSE: [u8; 2] = [0x88, 0];
    const CLOSE_OF_CLIENT: [u8; 6] = [0x88, 0x80, 1, 2, 3, 4];
    const HELLO: [u8; 3] = [0x81, 1, b'a'];
    const HELLO_OF_CLIENT: [u8; 7] = [0x81, 0x81, 1, 2, 3, 4, 5];

    /// The tunnel after a turn with all that its ends have done.
    fn after_a_turn(mut tunnel: Box<Tunnel>) -> Box<Tunnel> {
        let pool = ScratchPool::default();
        for side in [Side::Client, Side::Backend] {
            let readiness = Readiness {
                readable: true,
                writable: true,
                ending: true,
            };
            tunnel.ready(side, readiness);
        }
        tunnel.turn(&mut pool.take().unwrap());
        tunnel
    }

    /// A tunnel of frames after a turn in which its backend ends, when both have sent this.
    fn when_the_backend_ends(client_sends: &[u8], backend_sends: &[u8]) -> Box<Tunnel> {
        let leftovers = Leftovers {
            is_websocket: true,
            ..Leftovers::default()
        };
        let (tunnel, mut client, mut backend) = tunnel_behind(leftovers, MINUTE, &Arc::default());
        client.write_all(client_sends).unwrap();
        backend.write_all(backend_sends).unwrap();
        backend.shutdown(Shutdown::Write).unwrap();
        // Loopback has delivered what was written.
        after_a_turn(tunnel)
    }

    #[test]
    fn a_dead_backend_leaves_a_second_and_one_that_has_said_close_the_long_bound() {
        for (client_sends, backend_sends) in [
            (&b""[..], &b""[..]),
            (&HELLO_OF_CLIENT, &HELLO),
            (b"", &CLOSE[..1]),
        ] {
            let tunnel = when_the_backend_ends(client_sends, backend_sends);
            assert_eq!(tunnel.close.as_deref(), Some(&CloseReason::Died(None)));
            assert_eq!(tunnel.limit(), Some(DEAD));
        }
        for (client_sends, backend_sends) in [
            (&HELLO_OF_CLIENT[..], &CLOSE[..]),
            (&CLOSE_OF_CLIENT, &HELLO),
            (b"", b"SSH-2.0-x\r\n"),
            (b"SSH-2.0-x\r\n", b""),
        ] {
            let tunnel = when_the_backend_ends(client_sends, backend_sends);
            assert_eq!(
                tunnel.close.as_deref(),
                Some(&CloseReason::Closed(Side::Backend))
            );
            assert_eq!(tunnel.limit(), Some(MINUTE));
        }
    }

    #[test]
    fn a_close_that_lies_behind_a_write_that_has_failed_counts() {
        for (backend_sends, is_dead) in [(&CLOSE[..], false), (&HELLO, true)] {
            let leftovers = Leftovers {
                is_websocket: true,
                ..Leftovers::default()
            };
            let (tunnel, mut client, mut backend) =
                tunnel_behind(leftovers, MINUTE, &Arc::default());
            client.write_all(&HELLO_OF_CLIENT).unwrap();
            backend.write_all(backend_sends).unwrap();
            set_socket_linger(&backend, Some(Duration::ZERO)).unwrap();
            drop(backend);
            let tunnel = after_a_turn(tunnel);
            assert_eq!(tunnel.up.delivered(), 0, "the write has failed");
            let sent = backend_sends.len() as u64;
            assert_eq!(tunnel.down.delivered(), sent, "and the read has not");
            let is_said = matches!(tunnel.close.as_deref(), Some(CloseReason::Died(Some(_))));
            assert_eq!(is_said, is_dead, "{:?}", tunnel.close);
            assert_eq!(tunnel.limit(), Some(if is_dead { DEAD } else { CLOSING }));
        }
    }

    #[test]
    fn who_is_told_to_end_is_not_said_to_have_died() {
        let leftovers = Leftovers {
            is_websocket: true,
            ..Leftovers::default()
        };
        let (mut tunnel, _client, backend) = tunnel_behind(leftovers, MINUTE, &Arc::default());
        tunnel.end(CloseReason::Stopping);
        drop(backend);
        let tunnel = after_a_turn(tunnel);
        assert_eq!(tunnel.close.as_deref(), Some(&CloseReason::Stopping));
    }
}
