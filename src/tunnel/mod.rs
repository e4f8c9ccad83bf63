//! The tunnel: two legs and two flows, its ends and its clock. It is run by an [`event_loop`], knows no
//! configuration, and does not wait.

mod deadlines;
pub mod event_loop;
mod flow;
pub mod inbox;
mod pipe;
pub mod reactor;
mod scratch;
mod trial;

pub use scratch::ScratchPool;

use crate::frame::{FrameTracker, Sender};
use crate::net::stream::Stream;
use crate::transaction::{CloseReason, Side, Transaction};
use flow::{Flow, FlowError, Operation};
use log::trace;
use scratch::Scratch;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure, or when it has been told to end, a tunnel delivers what it has accepted, says that nothing
/// more comes, and discards what still arrives until both sides have closed; for this long without progress.
/// To close with unread input would reset a connection, and what was just delivered with it.
pub const CLOSING: Duration = Duration::from_secs(2);

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
    limits: Limits,
    moved_at: Instant,
    /// Why it ends, from the moment that it does.
    close: Option<CloseReason>,
    /// It has been told to end or has failed: see [`CLOSING`].
    closing: bool,
    began: Instant,
    transaction: Transaction,
    observer: Arc<dyn Observer>,
    /// Bytes to and from the backend that the observer knows of.
    told: [u64; 2],
}

/// Who is told how a tunnel fares. Called in the thread that runs it, so that nothing in here may wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// So many bytes were delivered to the backend and taken from it since the last call. Called at most once in a
    /// turn, never for nothing, and for the last time before the [`end`](Self::ended): the sums are then
    /// [`Transaction::to_backend`] and [`Transaction::from_backend`].
    fn moved(&self, to_backend: u64, from_backend: u64) {
        let _ = (to_backend, from_backend);
    }

    /// The connection has come to its end, `took` after it was accepted. Called once.
    fn ended(&self, transaction: &Transaction, took: Duration);
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
    /// Both directions have ended.
    Ended,
}

/// What a tunnel's end is logged by.
#[derive(Debug)]
pub struct Record {
    /// All that is known of the connection so far.
    pub transaction: Transaction,
    /// When it was accepted.
    pub began: Instant,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
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
        record: Record,
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
        let moved_at = Instant::now();
        Self {
            client,
            backend,
            up,
            down,
            limits,
            moved_at,
            close: None,
            closing: false,
            began: record.began,
            transaction: record.transaction,
            observer: record.observer,
            told: [0; 2],
        }
    }

    /// What logs begin their lines with.
    pub fn name(&self) -> String {
        let Transaction { id, client, .. } = &self.transaction;
        format!("[{id}] {client}")
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
        if self.progress() != before {
            self.moved_at = Instant::now();
            self.tell();
        }
        trace!(
            "[{}] {} {} bytes up, {} down so far",
            self.transaction.id,
            self.transaction.client,
            self.up.delivered(),
            self.down.delivered()
        );
        if self.up.is_done() && self.down.is_done() {
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

    /// Tells the observer what has moved since it was told last.
    fn tell(&mut self) {
        let moved = [self.up.delivered(), self.down.accepted()];
        let [to_backend, from_backend] = [moved[0] - self.told[0], moved[1] - self.told[1]];
        if to_backend + from_backend > 0 {
            self.told = moved;
            self.observer.moved(to_backend, from_backend);
        }
    }

    /// Takes note of how the flow that comes from `source` fared.
    fn note(&mut self, source: Side, outcome: Result<(), FlowError>) {
        match outcome {
            Ok(()) => {
                let ended = match source {
                    Side::Client => self.up.source_has_ended(),
                    Side::Backend => self.down.source_has_ended(),
                };
                if ended && self.close.is_none() {
                    self.close = Some(CloseReason::Closed(source));
                    self.moved_at = Instant::now();
                }
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

    /// How long the direction that is left may stand still.
    fn half_closed_limit(&self) -> Duration {
        let Limits { idle, half_close } = self.limits;
        idle.map_or(half_close, |idle| idle.min(half_close))
    }

    /// When the tunnel has to be told that time is up, if nothing moves until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = if self.closing {
            Some(CLOSING)
        } else if self.close.is_some() {
            Some(self.half_closed_limit())
        } else {
            self.limits.idle
        };
        limit.and_then(|limit| self.moved_at.checked_add(limit))
    }

    /// Whether its time is up; not if something has come that may still move. What is only discarded does not
    /// count.
    pub(super) fn is_overdue(&self) -> bool {
        (self.closing || !self.can_move())
            && self
                .deadline()
                .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// When nothing will have moved for `quiet`, if nothing does until then.
    pub(super) fn quiet_at(&self, quiet: Duration) -> Option<Instant> {
        self.moved_at.checked_add(quiet)
    }

    /// Whether nothing has moved for `quiet`, and nothing is about to.
    pub(super) fn is_quiet(&self, quiet: Duration) -> bool {
        !self.can_move() && !self.closing && self.moved_at.elapsed() >= quiet
    }

    /// Time is up. Says whether the tunnel is over; if not, it takes turns until it has closed in order.
    pub(super) fn expire(&mut self) -> bool {
        if self.closing {
            return true;
        }
        let reason = match self.close.take() {
            Some(CloseReason::Closed(side)) => {
                CloseReason::HalfClosed(side, self.half_closed_limit())
            }
            _ => CloseReason::Idle(self.limits.idle.unwrap_or_default()),
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

    /// The first reason stands: what follows from it is not why.
    fn start_closing(&mut self, reason: CloseReason) {
        self.close.get_or_insert(reason);
        if !self.closing {
            self.closing = true;
            self.moved_at = Instant::now();
        }
    }

    /// Closes both connections, and tells the observer.
    pub(super) fn close(mut self) {
        self.tell();
        self.transaction.bytes_in += self.up.accepted();
        self.transaction.to_backend += self.up.delivered();
        self.transaction.from_backend += self.down.accepted();
        self.transaction.bytes_out += self.down.delivered();
        self.transaction.body_out += self.down.delivered();
        self.transaction.close = self.close;
        self.observer.ended(&self.transaction, self.began.elapsed());
    }
}
