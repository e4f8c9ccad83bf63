//! One direction of a tunnel: bytes from a source to a sink, neither of which is waited for.
//!
//! A flow owns bytes only while its sink refuses them, and then reads no more: a slow reader slows its writer,
//! and an idle tunnel holds no buffer.

use crate::net::stream::Stream;
use std::io::{self, ErrorKind, Read, Write};

/// Where a flow's bytes come from.
pub(super) trait Source {
    /// As [`Read::read`], of something non-blocking.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether a read that fills only a part of the buffer has taken all there is.
    fn short_read_drains(&self) -> bool;
}

/// Where a flow's bytes go.
pub(super) trait Sink {
    /// As [`Write::write`], of something non-blocking.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Says that nothing more comes: the half-close.
    fn finish(&mut self);
}

impl Source for Stream {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn short_read_drains(&self) -> bool {
        self.is_plain()
    }
}

impl Sink for Stream {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn finish(&mut self) {
        Self::finish(self);
    }
}

/// Which half of a flow failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
}

/// A failure of the source or the sink; the flow has taken note, and may be pumped again.
#[derive(Debug)]
pub(super) struct FlowError {
    pub(super) operation: Operation,
    pub(super) source: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceState {
    /// It would block, until an event says otherwise.
    Quiet,
    /// There is something to be read.
    Ready,
    /// As `Ready`, and behind the bytes is what no further event may tell of: an end, or what follows urgent data.
    Ending,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinkState {
    Open,
    /// It would block, until an event says otherwise. Only beside a residue.
    Full,
    /// It has been told that nothing more comes.
    Finished,
    /// It takes nothing more.
    Broken,
}

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Flow {
    /// Bytes that the sink refused; the first `sent` of them it has taken since.
    residue: Vec<u8>,
    sent: usize,
    source: SourceState,
    sink: SinkState,
    /// What is still read is dropped.
    discards: bool,
    /// Bytes read, but for those dropped.
    accepted: u64,
    /// Bytes written.
    delivered: u64,
}

impl Flow {
    /// A flow that is to deliver `leftover` first. `ask_first`: whether the source may hold bytes of which no
    /// event will tell.
    pub(super) fn new(leftover: Vec<u8>, ask_first: bool) -> Self {
        Self {
            accepted: leftover.len() as u64,
            residue: leftover,
            sent: 0,
            source: if ask_first {
                SourceState::Ready
            } else {
                SourceState::Quiet
            },
            sink: SinkState::Open,
            discards: false,
            delivered: 0,
        }
    }

    /// An event of the source: bytes, or with `ending` an end behind them.
    pub(super) fn source_is_ready(&mut self, ending: bool) {
        self.source = match self.source {
            SourceState::Ended => SourceState::Ended,
            _ if ending => SourceState::Ending,
            SourceState::Quiet => SourceState::Ready,
            known => known,
        };
    }

    /// An event of the sink: room.
    pub(super) fn sink_is_ready(&mut self) {
        if self.sink == SinkState::Full {
            self.sink = SinkState::Open;
        }
    }

    /// From now on the flow delivers what it has accepted, and drops what it reads.
    pub(super) fn discard(&mut self) {
        self.discards = true;
    }

    /// The sink takes nothing more.
    pub(super) fn break_sink(&mut self) {
        self.residue = Vec::new();
        self.sent = 0;
        self.discards = true;
        if self.sink != SinkState::Finished {
            self.sink = SinkState::Broken;
        }
    }

    pub(super) fn source_has_ended(&self) -> bool {
        self.source == SourceState::Ended
    }

    /// The sink has refused bytes.
    pub(super) fn sink_is_full(&self) -> bool {
        self.sink == SinkState::Full
    }

    /// The source has ended, and the sink knows or is gone.
    pub(super) fn is_done(&self) -> bool {
        self.source_has_ended() && matches!(self.sink, SinkState::Finished | SinkState::Broken)
    }

    /// Bytes read so far, but for those dropped.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Bytes written so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    fn holds_bytes(&self) -> bool {
        !self.residue.is_empty()
    }

    /// Whether pumping would do something without a further event.
    pub(super) fn can_move(&self) -> bool {
        let can_deliver = self.holds_bytes() && self.sink == SinkState::Open;
        can_deliver || self.can_read() || self.is_to_finish()
    }

    fn can_read(&self) -> bool {
        let has_some = matches!(self.source, SourceState::Ready | SourceState::Ending);
        has_some && (self.discards || !self.holds_bytes())
    }

    fn is_to_finish(&self) -> bool {
        self.sink == SinkState::Open
            && !self.holds_bytes()
            && (self.source_has_ended() || self.discards)
    }

    /// Moves bytes until the source or the sink would block, the source has ended, or `budget` bytes were read.
    /// `scratch` holds bytes only meanwhile.
    ///
    /// # Errors
    /// [`FlowError`] when one side failed. It has then been noted, and the flow may be pumped further.
    pub(super) fn pump(
        &mut self,
        from: &mut impl Source,
        to: &mut impl Sink,
        scratch: &mut [u8],
        budget: usize,
    ) -> Result<(), FlowError> {
        let mut read = 0;
        loop {
            self.deliver_residue(to)?;
            if self.is_to_finish() {
                to.finish();
                self.sink = SinkState::Finished;
            }
            if !self.can_read() || read >= budget {
                // What could still move without an event has only run out of its budget.
                debug_assert!(
                    !self.can_move() || read >= budget,
                    "a flow would stall: {self:?}"
                );
                return Ok(());
            }
            match from.take(scratch) {
                Ok(0) => self.source = SourceState::Ended,
                Ok(taken) => {
                    read += taken;
                    let is_short = taken < scratch.len() && self.source == SourceState::Ready;
                    if is_short && from.short_read_drains() {
                        self.source = SourceState::Quiet;
                    }
                    if !self.discards {
                        self.accepted += taken as u64;
                        self.deliver(scratch.get(..taken).unwrap_or_default(), to)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.source = SourceState::Quiet;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    self.source = SourceState::Ended;
                    return Err(FlowError {
                        operation: Operation::Read,
                        source,
                    });
                }
            }
        }
    }

    fn deliver_residue(&mut self, to: &mut impl Sink) -> Result<(), FlowError> {
        if !self.holds_bytes() || self.sink != SinkState::Open {
            return Ok(());
        }
        let residue = std::mem::take(&mut self.residue);
        let sent = self.offer(residue.get(self.sent..).unwrap_or_default(), to)?;
        self.sent += sent;
        if self.sent < residue.len() {
            self.residue = residue;
        } else {
            self.sent = 0;
        }
        Ok(())
    }

    /// Writes `bytes`, and keeps what the sink refuses.
    fn deliver(&mut self, bytes: &[u8], to: &mut impl Sink) -> Result<(), FlowError> {
        let sent = self.offer(bytes, to)?;
        if let Some(refused @ [_, ..]) = bytes.get(sent..) {
            self.residue = refused.to_vec();
            self.sent = 0;
        }
        Ok(())
    }

    /// Writes until the sink refuses. Says how much it took.
    fn offer(&mut self, bytes: &[u8], to: &mut impl Sink) -> Result<usize, FlowError> {
        let mut taken = 0;
        while let Some(left @ [_, ..]) = bytes.get(taken..) {
            let failure = match to.put(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    taken += written;
                    self.delivered += written as u64;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.sink = SinkState::Full;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.break_sink();
            return Err(FlowError {
                operation: Operation::Write,
                source: failure,
            });
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What a scripted end does at each call, in turn.
    #[derive(Debug, Clone)]
    enum Step {
        Bytes(Vec<u8>),
        Blocks,
        Ends,
        Fails(ErrorKind),
    }

    struct Script {
        steps: VecDeque<Step>,
        plain: bool,
        calls: usize,
    }

    impl Script {
        fn new(steps: impl IntoIterator<Item = Step>) -> Self {
            Self {
                steps: steps.into_iter().collect(),
                plain: true,
                calls: 0,
            }
        }
    }

    impl Source for Script {
        fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.steps.pop_front() {
                Some(Step::Bytes(mut bytes)) => {
                    let taken = bytes.len().min(buffer.len());
                    buffer[..taken].copy_from_slice(&bytes[..taken]);
                    if taken < bytes.len() {
                        self.steps.push_front(Step::Bytes(bytes.split_off(taken)));
                    }
                    Ok(taken)
                }
                Some(Step::Ends) => Ok(0),
                Some(Step::Fails(kind)) => Err(kind.into()),
                Some(Step::Blocks) | None => Err(ErrorKind::WouldBlock.into()),
            }
        }

        fn short_read_drains(&self) -> bool {
            self.plain
        }
    }

    /// Takes as many bytes as its next allowance says; 0 refuses.
    #[derive(Default)]
    struct Slow {
        allowances: VecDeque<usize>,
        taken: Vec<u8>,
        finished: usize,
        fails: Option<ErrorKind>,
    }

    impl Slow {
        fn new(allowances: impl IntoIterator<Item = usize>) -> Self {
            Self {
                allowances: allowances.into_iter().collect(),
                ..Self::default()
            }
        }
    }

    impl Sink for Slow {
        fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.fails {
                return Err(kind.into());
            }
            match self.allowances.pop_front() {
                Some(0) => Err(ErrorKind::WouldBlock.into()),
                allowance => {
                    let taken = bytes.len().min(allowance.unwrap_or(usize::MAX));
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn finish(&mut self) {
            self.finished += 1;
        }
    }

    fn ready_flow() -> Flow {
        let mut flow = Flow::new(Vec::new(), false);
        flow.source_is_ready(false);
        flow
    }

    fn bytes(text: &str) -> Step {
        Step::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn a_message_that_fits_takes_one_read_and_leaves_no_buffer() {
        let (mut from, mut to, mut flow) =
            (Script::new([bytes("hello")]), Slow::default(), ready_flow());
        flow.pump(&mut from, &mut to, &mut [0; 64], 1024).unwrap();
        assert_eq!((to.taken.as_slice(), from.calls), (&b"hello"[..], 1));
        assert_eq!(flow.residue.capacity(), 0);
        assert!(!flow.can_move());
    }

    #[test]
    fn a_short_read_is_not_trusted_when_an_end_was_reported_or_tls_may_hold_bytes() {
        for (plain, ending) in [(false, false), (true, true)] {
            let mut from = Script {
                plain,
                ..Script::new([bytes("a"), bytes("b"), Step::Ends])
            };
            let (mut to, mut flow) = (Slow::default(), Flow::new(Vec::new(), false));
            flow.source_is_ready(ending);
            flow.pump(&mut from, &mut to, &mut [0; 64], 1024).unwrap();
            assert_eq!(to.taken, b"ab");
            assert!(flow.is_done());
        }
    }

    #[test]
    fn a_leftover_goes_first() {
        let (mut from, mut to) = (Script::new([bytes("second")]), Slow::default());
        let mut flow = Flow::new(b"first ".to_vec(), true);
        assert!(flow.can_move());
        flow.pump(&mut from, &mut to, &mut [0; 64], 1024).unwrap();
        assert_eq!(to.taken, b"first second");
        assert_eq!((flow.accepted(), flow.delivered()), (12, 12));
    }

    #[test]
    fn while_the_sink_refuses_bytes_the_source_is_not_read() {
        let (mut from, mut to) = (
            Script::new([bytes("abcdef"), bytes("later")]),
            Slow::new([2, 0]),
        );
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        flow.pump(&mut from, &mut to, &mut [0; 6], 1024).unwrap();
        assert_eq!((to.taken.as_slice(), from.calls), (&b"ab"[..], 1));
        assert!(!flow.can_move());
        flow.sink_is_ready();
        flow.pump(&mut from, &mut to, &mut [0; 6], 1024).unwrap();
        assert_eq!(to.taken, b"abcdeflater");
        assert_eq!(flow.residue.capacity(), 0, "the buffer is given back");
    }

    #[test]
    fn an_end_is_passed_on_once_and_after_the_residue() {
        let (mut from, mut to) = (Script::new([bytes("abc"), Step::Ends]), Slow::new([1, 0]));
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"a"[..], 0, false)
        );
        flow.sink_is_ready();
        for _ in 0..2 {
            flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        }
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"abc"[..], 1, true)
        );
    }

    #[test]
    fn the_budget_ends_a_turn_and_leaves_the_flow_able_to_move() {
        let (mut from, mut to, mut flow) = (
            Script::new([Step::Bytes(vec![7; 100])]),
            Slow::default(),
            ready_flow(),
        );
        flow.pump(&mut from, &mut to, &mut [0; 10], 30).unwrap();
        assert_eq!(to.taken.len(), 30);
        assert!(flow.can_move());
    }

    #[test]
    fn a_broken_sink_drops_what_comes_until_the_source_ends() {
        let (mut from, mut to) = (
            Script::new([bytes("lost"), bytes("more"), Step::Ends]),
            Slow::default(),
        );
        to.fails = Some(ErrorKind::BrokenPipe);
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        let error = flow
            .pump(&mut from, &mut to, &mut [0; 8], 1024)
            .unwrap_err();
        assert_eq!(
            (error.operation, error.source.kind()),
            (Operation::Write, ErrorKind::BrokenPipe)
        );
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        assert!(flow.is_done());
        assert_eq!((flow.accepted(), flow.delivered(), to.finished), (4, 0, 0));
    }

    #[test]
    fn what_was_accepted_before_the_source_failed_is_delivered() {
        let (mut from, mut to) = (
            Script::new([bytes("last"), Step::Fails(ErrorKind::ConnectionReset)]),
            Slow::new([1, 0]),
        );
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        flow.sink_is_ready();
        let error = flow
            .pump(&mut from, &mut to, &mut [0; 8], 1024)
            .unwrap_err();
        assert_eq!(error.operation, Operation::Read);
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"last"[..], 1, true)
        );
    }

    #[test]
    fn a_flow_told_to_discard_delivers_what_it_holds_and_finishes_before_the_source_ends() {
        let (mut from, mut to) = (
            Script::new([bytes("held"), bytes("late"), Step::Ends]),
            Slow::new([0]),
        );
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        flow.discard();
        flow.sink_is_ready();
        flow.pump(&mut from, &mut to, &mut [0; 8], 1024).unwrap();
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"held"[..], 1, true)
        );
    }

    /// A small generator, so that a failure can be run again.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }
    }

    #[test]
    fn under_any_schedule_the_bytes_out_are_the_bytes_in() {
        for seed in 1..2_000 {
            let mut random = Random(seed * 0x9E37_79B9);
            let sent: Vec<u8> = (0..random.below(400))
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            let mut steps = Vec::new();
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(random.below(rest.len()) + 1);
                rest = later;
                steps.push(Step::Bytes(now.to_vec()));
                if random.below(3) == 0 {
                    steps.push(Step::Blocks);
                }
            }
            steps.push(Step::Ends);
            let mut from = Script {
                plain: random.below(2) == 0,
                ..Script::new(steps)
            };
            let mut to = Slow::new((0..200).map(|_| random.below(7)));
            let mut flow = Flow::new(Vec::new(), false);
            let mut scratch = vec![0; random.below(20) + 1];
            for _ in 0..2_000 {
                // An end that is near is reported with the event, as an edge-triggered poll does.
                flow.source_is_ready(from.steps.len() <= 2);
                flow.sink_is_ready();
                flow.pump(&mut from, &mut to, &mut scratch, 50).unwrap();
                if flow.is_done() {
                    break;
                }
            }
            assert_eq!(to.taken, sent, "seed {seed}");
            assert_eq!((to.finished, flow.is_done()), (1, true), "seed {seed}");
        }
    }
}
