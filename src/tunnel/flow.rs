//! One direction of a tunnel: bytes from a source to a sink, neither of which is waited for.
//!
//! A flow owns bytes only while its sink refuses them, and then reads no more: a slow reader slows its writer,
//! and an idle tunnel holds no buffer. What it accepts it follows frame by frame, whichever way it goes.

use super::pipe::Pipe;
use super::scratch::Scratch;
use super::trial::{Trial, Way};
use crate::frame::FrameTracker;
use crate::net::stream::Stream;
use crate::transaction::Said;
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Reads in a row that filled the buffer, after which a stream is taken for bulk.
const BULK: u8 = 2;
/// What a pipe has to be filled with at the least, for the stream to be bulk still.
const STILL_BULK: usize = 16 * 1024;
/// Frames of less than this many bytes are small.
const SMALL_FRAMES: usize = 8 * 1024;

/// Where a flow's bytes come from.
pub(super) trait Source {
    /// As [`Read::read`], of something non-blocking.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether a read that fills only a part of the buffer has taken all there is.
    fn short_read_drains(&self) -> bool;

    /// The socket, where its bytes are the flow's bytes and may be spliced.
    fn plain_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Where a flow's bytes go.
pub(super) trait Sink {
    /// As [`Write::write`], of something non-blocking.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// As [`Source::plain_fd`].
    fn plain_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Says that nothing more comes: the half-close. Fails only where there is no room to say so yet.
    fn finish(&mut self) -> io::Result<()>;
}

impl Source for Stream {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn short_read_drains(&self) -> bool {
        Self::short_read_drains(self)
    }

    fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
        Self::plain_fd(self)
    }
}

impl Sink for Stream {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
        Self::plain_fd(self)
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self)
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
    /// It would block, until an event says otherwise. Only beside bytes that are held.
    Full,
    /// It has been told that nothing more comes.
    Finished,
    /// It takes nothing more.
    Broken,
}

/// Bytes that a sink refused, at least one.
#[derive(Debug)]
struct Residue {
    bytes: Vec<u8>,
    /// So many of the first it has taken since.
    sent: usize,
}

impl Residue {
    fn of(bytes: Vec<u8>) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes, sent: 0 }))
    }
}

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Flow {
    /// Bytes that the sink refused. In a box, since most flows have none most of the time.
    residue: Option<Box<Residue>>,
    /// Where bulk goes through. Between turns only with bytes in it that the sink refused, and then nothing is in
    /// `residue`.
    pipe: Option<Box<Pipe>>,
    /// Full reads that are still to come in a row before the stream is taken for bulk; nothing where that is of no
    /// use.
    until_bulk: Option<u8>,
    /// How bulk goes; nothing before there was any.
    trial: Option<Box<Trial>>,
    /// Follows what is accepted.
    frames: FrameTracker,
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
    /// event will tell. `frames` stands where the leftover begins.
    pub(super) fn new(leftover: Vec<u8>, ask_first: bool, mut frames: FrameTracker) -> Self {
        frames.pass(&leftover);
        Self {
            accepted: leftover.len() as u64,
            residue: Residue::of(leftover),
            pipe: None,
            until_bulk: Some(BULK),
            trial: None,
            frames,
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
        self.residue = None;
        self.pipe = None;
        self.discards = true;
        if self.sink != SinkState::Finished {
            self.sink = SinkState::Broken;
        }
    }

    /// What was seen of its frames.
    pub(super) fn said(&self) -> Said {
        Said {
            counts: self.frames.counts(),
            close: self.frames.close(),
        }
    }

    /// It is made of frames, and none of those accepted says Close.
    pub(super) fn lacks_close(&self) -> bool {
        self.frames.lacks_close()
    }

    /// It is made of frames, and one of those accepted says Close.
    pub(super) fn has_said_close(&self) -> bool {
        !self.frames.is_lost() && !self.frames.lacks_close()
    }

    /// Messages of which the last frame has begun; none where it is not made of frames.
    pub(super) fn messages(&self) -> Option<u64> {
        self.frames.counts().map(|counts| counts.messages)
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
        self.residue.is_some() || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
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
        scratch: &mut Scratch<'_>,
        budget: usize,
    ) -> Result<(), FlowError> {
        // Only what is bulk from the beginning of the turn is told to the trial: chat costs no clock.
        let before = self.accepted;
        let trial = self.trial.as_ref().filter(|_| self.until_bulk == Some(0));
        let watch = trial.map(|trial| trial.is_measured().then(Stopwatch::start));
        let outcome = self.move_bytes(from, to, scratch, budget);
        if let Some(watch) = watch
            && let Some(trial) = &mut self.trial
        {
            let spent = watch.map(Stopwatch::spent).unwrap_or_default();
            if let Some(outcome) = trial.note(self.accepted - before, spent) {
                log::trace!("a stream: {outcome}");
            }
        }
        // A pipe is borrowed only for as long as something is in it.
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held() == 0) {
            scratch.pipes.give_back(pipe);
        }
        outcome
    }

    fn move_bytes(
        &mut self,
        from: &mut impl Source,
        to: &mut impl Sink,
        scratch: &mut Scratch<'_>,
        budget: usize,
    ) -> Result<(), FlowError> {
        let mut moved = 0;
        loop {
            self.deliver_held(to)?;
            if self.is_to_finish() {
                self.sink = match to.finish() {
                    Ok(()) => SinkState::Finished,
                    Err(_) => SinkState::Full,
                };
            }
            if !self.can_read() || moved >= budget {
                // What could still move without an event has only run out of its budget.
                debug_assert!(
                    !self.can_move() || moved >= budget,
                    "a flow would stall: {self:?}"
                );
                return Ok(());
            }
            moved += match from.plain_fd() {
                Some(source) if self.is_spliced(to, scratch) => self.fill_pipe(source, scratch)?,
                _ => self.read(from, to, &mut scratch.buffer)?,
            };
        }
    }

    /// Whether what comes next goes through a pipe, which is then there.
    fn is_spliced(&mut self, to: &impl Sink, scratch: &Scratch<'_>) -> bool {
        // What ends is read: a pipe may stop short of it.
        let is_bulk = self.until_bulk == Some(0) && self.source == SourceState::Ready;
        if !is_bulk || self.discards || to.plain_fd().is_none() {
            return false;
        }
        let trial = self.trial.get_or_insert_default();
        if trial.way() == Way::Splice && self.pipe.is_none() {
            self.pipe = scratch.pipes.take();
            if self.pipe.is_none() {
                trial.copy_for_a_while();
            }
        }
        trial.way() == Way::Splice
    }

    /// Reads once and passes it on. Says how much that was.
    fn read(
        &mut self,
        from: &mut impl Source,
        to: &mut impl Sink,
        buffer: &mut [u8],
    ) -> Result<usize, FlowError> {
        let Some(taken) = self.note_taken(from.take(buffer))? else {
            return Ok(0);
        };
        let is_full = taken == buffer.len();
        self.until_bulk = self.until_bulk.map(|left| {
            if is_full {
                left.saturating_sub(1)
            } else {
                BULK
            }
        });
        if !is_full && self.source == SourceState::Ready && from.short_read_drains() {
            self.source = SourceState::Quiet;
        }
        if !self.discards {
            let bytes = buffer.get(..taken).unwrap_or_default();
            self.accepted += taken as u64;
            self.frames.pass(bytes);
            self.deliver(bytes, to)?;
        }
        Ok(taken)
    }

    /// Fills the pipe, to be delivered next. Says with how much.
    fn fill_pipe(
        &mut self,
        from: BorrowedFd<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Result<usize, FlowError> {
        let Some(mut pipe) = self.pipe.take() else {
            return Ok(0);
        };
        let outcome = pipe.fill(from);
        match &outcome {
            // It may be an end, or urgent data in front of one: reading tells.
            Ok(0) => {
                self.source = SourceState::Ending;
                self.pipe = Some(pipe);
                return Ok(0);
            }
            // Splicing is not to be had here. Other errors are the socket's, and told only once.
            Err(error) if is_refusal(error) => {
                self.until_bulk = None;
                return Ok(0);
            }
            _ => {}
        }
        let Some(filled) = self.note_taken(outcome)? else {
            self.pipe = Some(pipe);
            return Ok(0);
        };
        self.accepted += filled as u64;
        let mut frames = self.frames.clone();
        match pipe.follow(&mut frames, &mut scratch.buffer) {
            Ok(reads) => {
                self.frames = frames;
                self.pipe = Some(pipe);
                if filled < STILL_BULK {
                    self.until_bulk = Some(BULK);
                } else if reads > 1 + filled / SMALL_FRAMES
                    && let Some(trial) = &mut self.trial
                {
                    trial.copy_for_a_while();
                }
            }
            Err(_) => {
                self.until_bulk = None;
                let bytes = pipe
                    .into_bytes()
                    .map_err(|source| self.read_failed(source))?;
                self.frames.pass(&bytes);
                self.residue = Residue::of(bytes);
            }
        }
        Ok(filled)
    }

    /// Takes note of how taking bytes went. Says how many came, if any.
    fn note_taken(&mut self, outcome: io::Result<usize>) -> Result<Option<usize>, FlowError> {
        match outcome {
            Ok(0) => self.source = SourceState::Ended,
            Ok(taken) => return Ok(Some(taken)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.source = SourceState::Quiet;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(self.read_failed(error)),
        }
        Ok(None)
    }

    fn read_failed(&mut self, source: io::Error) -> FlowError {
        self.source = SourceState::Ended;
        FlowError {
            operation: Operation::Read,
            source,
        }
    }

    fn deliver_held(&mut self, to: &mut impl Sink) -> Result<(), FlowError> {
        if self.sink != SinkState::Open {
            return Ok(());
        }
        if let Some(mut residue) = self.residue.take() {
            let left = residue.bytes.get(residue.sent..).unwrap_or_default();
            residue.sent += self.offer(left, to)?;
            if residue.sent < residue.bytes.len() {
                self.residue = Some(residue);
            }
        }
        if let Some(mut pipe) = self.pipe.take() {
            while pipe.held() > 0 && self.sink == SinkState::Open {
                let outcome = match to.plain_fd() {
                    Some(sink) => pipe.drain(sink),
                    None => Err(ErrorKind::Unsupported.into()),
                };
                self.note_put(outcome)?;
            }
            self.pipe = Some(pipe);
        }
        Ok(())
    }

    /// Writes `bytes`, and keeps what the sink refuses.
    fn deliver(&mut self, bytes: &[u8], to: &mut impl Sink) -> Result<(), FlowError> {
        let sent = self.offer(bytes, to)?;
        if let Some(refused @ [_, ..]) = bytes.get(sent..) {
            let mut kept = Vec::new();
            if let Err(error) = kept.try_reserve_exact(refused.len()) {
                return Err(self.write_failed(error.into()));
            }
            kept.extend_from_slice(refused);
            self.residue = Residue::of(kept);
        }
        Ok(())
    }

    /// Writes until the sink refuses. Says how much it took.
    fn offer(&mut self, bytes: &[u8], to: &mut impl Sink) -> Result<usize, FlowError> {
        let mut taken = 0;
        while let Some(left @ [_, ..]) = bytes.get(taken..) {
            taken += self.note_put(to.put(left))?;
            if self.sink != SinkState::Open {
                break;
            }
        }
        Ok(taken)
    }

    /// Takes note of how putting bytes went. Says how many were taken.
    fn note_put(&mut self, outcome: io::Result<usize>) -> Result<usize, FlowError> {
        let failure = match outcome {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(written) => {
                self.delivered += written as u64;
                return Ok(written);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.sink = SinkState::Full;
                return Ok(0);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            Err(error) => error,
        };
        Err(self.write_failed(failure))
    }

    fn write_failed(&mut self, source: io::Error) -> FlowError {
        self.break_sink();
        FlowError {
            operation: Operation::Write,
            source,
        }
    }
}

/// The system call was refused as such, by the kernel or by a filter of system calls.
fn is_refusal(error: &io::Error) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Measures the processor time of this thread.
struct Stopwatch(Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(processor_time())
    }

    fn spent(self) -> Duration {
        processor_time().saturating_sub(self.0)
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Sender;
    use crate::tunnel::pipe::Pipes;
    use rustix::net::sockopt::set_socket_oobinline;
    use rustix::net::{SendFlags, send};
    use std::collections::VecDeque;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;

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

        fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
            None
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

        fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn finish(&mut self) -> io::Result<()> {
            if self.allowances.front() == Some(&0) {
                self.allowances.pop_front();
                return Err(ErrorKind::WouldBlock.into());
            }
            self.finished += 1;
            Ok(())
        }
    }

    fn ready_flow() -> Flow {
        let mut flow = Flow::new(Vec::new(), false, FrameTracker::unfollowed());
        flow.source_is_ready(false);
        flow
    }

    fn pump(
        flow: &mut Flow,
        from: &mut impl Source,
        to: &mut impl Sink,
        buffer: usize,
        budget: usize,
    ) -> Result<(), FlowError> {
        let pipes = Pipes::default();
        let mut scratch = Scratch {
            buffer: vec![0; buffer].into(),
            pipes: &pipes,
        };
        flow.pump(from, to, &mut scratch, budget)
    }

    fn bytes(text: &str) -> Step {
        Step::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn a_message_that_fits_takes_one_read_and_leaves_no_buffer() {
        let (mut from, mut to, mut flow) =
            (Script::new([bytes("hello")]), Slow::default(), ready_flow());
        pump(&mut flow, &mut from, &mut to, 64, 1024).unwrap();
        assert_eq!((to.taken.as_slice(), from.calls), (&b"hello"[..], 1));
        assert!(flow.residue.is_none());
        assert!(!flow.can_move());
    }

    #[test]
    fn a_short_read_is_not_trusted_when_an_end_was_reported_or_tls_may_hold_bytes() {
        for (plain, ending) in [(false, false), (true, true)] {
            let mut from = Script {
                plain,
                ..Script::new([bytes("a"), bytes("b"), Step::Ends])
            };
            let (mut to, mut flow) = (
                Slow::default(),
                Flow::new(Vec::new(), false, FrameTracker::unfollowed()),
            );
            flow.source_is_ready(ending);
            pump(&mut flow, &mut from, &mut to, 64, 1024).unwrap();
            assert_eq!(to.taken, b"ab");
            assert!(flow.is_done());
        }
    }

    #[test]
    fn a_leftover_goes_first() {
        let (mut from, mut to) = (Script::new([bytes("second")]), Slow::default());
        let mut flow = Flow::new(b"first ".to_vec(), true, FrameTracker::unfollowed());
        assert!(flow.can_move());
        pump(&mut flow, &mut from, &mut to, 64, 1024).unwrap();
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
        pump(&mut flow, &mut from, &mut to, 6, 1024).unwrap();
        assert_eq!((to.taken.as_slice(), from.calls), (&b"ab"[..], 1));
        assert!(!flow.can_move());
        flow.sink_is_ready();
        pump(&mut flow, &mut from, &mut to, 6, 1024).unwrap();
        assert_eq!(to.taken, b"abcdeflater");
        assert!(flow.residue.is_none(), "the buffer is given back");
    }

    #[test]
    fn an_end_is_passed_on_once_and_after_the_residue() {
        let (mut from, mut to) = (Script::new([bytes("abc"), Step::Ends]), Slow::new([1, 0]));
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"a"[..], 0, false)
        );
        flow.sink_is_ready();
        for _ in 0..2 {
            pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
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
        pump(&mut flow, &mut from, &mut to, 10, 30).unwrap();
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
        let error = pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap_err();
        assert_eq!(
            (error.operation, error.source.kind()),
            (Operation::Write, ErrorKind::BrokenPipe)
        );
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
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
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
        flow.sink_is_ready();
        let error = pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap_err();
        assert_eq!(error.operation, Operation::Read);
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
        assert_eq!(
            (to.taken.as_slice(), to.finished, flow.is_done()),
            (&b"last"[..], 1, true)
        );
    }

    #[test]
    fn an_end_that_has_no_room_is_said_when_there_is() {
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        let mut from = Script::new([bytes("all"), Step::Ends]);
        let mut to = Slow::new([usize::MAX, 0, 0]);
        for _ in 0..2 {
            pump(&mut flow, &mut from, &mut to, 64, 1024).unwrap();
            assert_eq!((to.taken.as_slice(), to.finished), (b"all".as_slice(), 0));
            assert!(flow.sink_is_full() && !flow.is_done() && !flow.can_move());
            flow.sink_is_ready();
            assert!(flow.can_move());
        }
        pump(&mut flow, &mut from, &mut to, 64, 1024).unwrap();
        assert!(flow.is_done() && to.finished == 1);
    }

    #[test]
    fn a_flow_told_to_discard_delivers_what_it_holds_and_finishes_before_the_source_ends() {
        let (mut from, mut to) = (
            Script::new([bytes("held"), bytes("late"), Step::Ends]),
            Slow::new([0]),
        );
        let mut flow = ready_flow();
        flow.source_is_ready(true);
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
        flow.discard();
        flow.sink_is_ready();
        pump(&mut flow, &mut from, &mut to, 8, 1024).unwrap();
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
            let mut flow = Flow::new(Vec::new(), false, FrameTracker::unfollowed());
            let size = random.below(20) + 1;
            for _ in 0..2_000 {
                // An end that is near is reported with the event, as an edge-triggered poll does.
                flow.source_is_ready(from.steps.len() <= 2);
                flow.sink_is_ready();
                pump(&mut flow, &mut from, &mut to, size, 50).unwrap();
                if flow.is_done() {
                    break;
                }
            }
            assert_eq!(to.taken, sent, "seed {seed}");
            assert_eq!((to.finished, flow.is_done()), (1, true), "seed {seed}");
        }
    }

    /// Two ends of a connection, neither of which is waited for.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        for end in [&near, &far] {
            end.set_nonblocking(true).unwrap();
        }
        (near, far)
    }

    /// Frames of a server, of sizes below `below`.
    fn frames(random: &mut Random, count: usize, below: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..count {
            let size = random.below(below);
            match size {
                0..126 => stream.extend([0x82, u8::try_from(size).unwrap()]),
                126..0x1_0000 => {
                    stream.extend([0x82, 126]);
                    stream.extend(u16::try_from(size).unwrap().to_be_bytes());
                }
                _ => {
                    stream.extend([0x82, 127]);
                    stream.extend((size as u64).to_be_bytes());
                }
            }
            stream.extend((0..size).map(|i| u8::try_from(i % 251).unwrap()));
        }
        stream
    }

    /// A flow of bulk for which splicing has turned out to be cheaper.
    fn spliced_flow() -> Flow {
        let mut trial = Trial::default();
        trial.note(1 << 30, Duration::from_secs(9));
        trial.note(1 << 30, Duration::ZERO);
        assert_eq!(trial.way(), Way::Splice);
        Flow {
            trial: Some(Box::new(trial)),
            until_bulk: Some(0),
            ..Flow::new(Vec::new(), true, FrameTracker::new(Sender::Server))
        }
    }

    /// As [`connection`], in the Unix domain; std asks the far end nothing that only TCP has.
    fn unix_connection() -> (UnixStream, TcpStream) {
        let (near, far) = UnixStream::pair().unwrap();
        for end in [&near, &far] {
            end.set_nonblocking(true).unwrap();
        }
        (near, OwnedFd::from(far).into())
    }

    /// Runs `stream` through `flow` from socket to socket, in unequal steps, with an end behind it.
    fn run(flow: &mut Flow, stream: &[u8], pipes: &Pipes, random: &mut Random) {
        let ((writer, from), (to, reader)) = (connection(), connection());
        let (legs, ends) = ((from.into(), to.into()), (writer, reader));
        run_between(flow, stream, pipes, random, legs, ends);
    }

    fn run_between(
        flow: &mut Flow,
        stream: &[u8],
        pipes: &Pipes,
        random: &mut Random,
        (mut from, mut to): (Stream, Stream),
        (mut writer, mut reader): (TcpStream, TcpStream),
    ) {
        let mut scratch = Scratch {
            buffer: vec![0; 64 * 1024].into(),
            pipes,
        };
        let (mut sent, mut received) = (0, Vec::new());
        let mut part = vec![0; 300_000];
        for _ in 0..1_000_000 {
            let upto = (sent + random.below(300_000)).min(stream.len());
            sent += writer.write(&stream[sent..upto]).unwrap_or(0);
            let is_over = sent == stream.len();
            if is_over {
                writer.shutdown(Shutdown::Write).unwrap();
            }
            // Towards the end, what comes is announced together with the end.
            flow.source_is_ready(is_over && random.below(4) == 0);
            flow.sink_is_ready();
            flow.pump(&mut from, &mut to, &mut scratch, 256 * 1024)
                .unwrap();
            let wanted = random.below(part.len());
            let count = reader.read(&mut part[..wanted]).unwrap_or(0);
            received.extend_from_slice(&part[..count]);
            if received.len() == stream.len() && flow.is_done() {
                break;
            }
        }
        assert_eq!(
            (flow.accepted(), flow.delivered()),
            (stream.len() as u64, stream.len() as u64)
        );
        assert!(received == stream, "the bytes out are not the bytes in");
    }

    #[test]
    fn bulk_through_a_pipe_arrives_whole_and_its_frames_are_followed() {
        for seed in 1..9 {
            let mut random = Random(seed * 0x9E37_79B9);
            let mut stream = frames(&mut random, 80, 300_000);
            // It ends inside of the last frame.
            stream.extend([0x82, 127, 0, 0, 0, 0, 0, 9, 0, 0]);
            stream.resize(stream.len() + 100_000, 7);
            let (pipes, mut flow) = (Pipes::default(), spliced_flow());
            run(&mut flow, &stream, &pipes, &mut random);
            assert!(pipes.were_used(), "seed {seed}");
            assert_eq!(flow.frames.unseen(), 9 * 0x1_0000 - 100_000, "seed {seed}");
            assert!(flow.pipe.is_none(), "the pipe is given back");
        }
    }

    #[test]
    fn bulk_of_the_unix_domain_goes_through_a_pipe_as_well() {
        for seed in 1..5 {
            let mut random = Random(seed * 0x9E37_79B9);
            let stream = frames(&mut random, 80, 300_000);
            for from_unix in [true, false] {
                let ((tcp, tcp_end), (unix, unix_end)) = (connection(), unix_connection());
                let (legs, ends) = if from_unix {
                    ((unix.into(), tcp.into()), (unix_end, tcp_end))
                } else {
                    ((tcp.into(), unix.into()), (tcp_end, unix_end))
                };
                let (pipes, mut flow) = (Pipes::default(), spliced_flow());
                run_between(&mut flow, &stream, &pipes, &mut random, legs, ends);
                assert!(pipes.were_used(), "seed {seed}");
                assert!(flow.frames.is_at_boundary(), "seed {seed}");
            }
        }
    }

    #[test]
    fn frames_that_cannot_be_copied_out_of_the_pipe_are_read_and_followed() {
        let mut random = Random(7);
        let stream = frames(&mut random, 40, 300_000);
        let pipes = Pipes::default();
        let blocked = pipes.take().unwrap();
        blocked.block_copy();
        pipes.give_back(blocked);
        let mut flow = spliced_flow();
        run(&mut flow, &stream, &pipes, &mut random);
        assert_eq!(flow.until_bulk, None, "and are not tried again");
        assert!(flow.frames.is_at_boundary());
    }

    #[test]
    fn a_stream_of_small_frames_goes_back_to_being_copied() {
        let mut random = Random(7);
        let stream = frames(&mut random, 40_000, 200);
        let (pipes, mut flow) = (Pipes::default(), spliced_flow());
        run(&mut flow, &stream, &pipes, &mut random);
        assert_eq!(flow.trial.unwrap().way(), Way::Copy);
        assert!(flow.frames.is_at_boundary());
    }

    #[test]
    fn bytes_behind_urgent_data_and_in_front_of_the_end_are_not_lost_in_bulk() {
        let ((mut writer, from), (to, mut reader)) = (connection(), connection());
        set_socket_oobinline(&from, true).unwrap();
        let (mut from, mut to) = (Stream::from(from), Stream::from(to));
        writer.write_all(&[1; 40_000]).unwrap();
        assert_eq!(send(&writer, &[2], SendFlags::OOB).unwrap(), 1);
        writer.write_all(&[3; 1000]).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
        let (pipes, mut flow) = (Pipes::default(), spliced_flow());
        let mut scratch = Scratch {
            buffer: vec![0; 64 * 1024].into(),
            pipes: &pipes,
        };
        while !flow.is_done() {
            flow.source_is_ready(false);
            flow.sink_is_ready();
            flow.pump(&mut from, &mut to, &mut scratch, 1024 * 1024)
                .unwrap();
        }
        drop(to);
        reader.set_nonblocking(false).unwrap();
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 41_001);
        assert!(pipes.were_used());
    }

    #[test]
    fn what_a_pipe_holds_is_dropped_with_its_sink() {
        let ((mut writer, from), (to, reader)) = (connection(), connection());
        let (mut from, mut to) = (Stream::from(from), Stream::from(to));
        let (pipes, mut flow) = (Pipes::default(), spliced_flow());
        writer.write_all(&[0; 1000]).unwrap();
        let mut pipe = pipes.take().unwrap();
        while pipe.fill(from.as_fd()).is_err() {}
        flow.pipe = Some(pipe);
        drop(reader);
        let mut scratch = Scratch {
            buffer: vec![0; 64 * 1024].into(),
            pipes: &pipes,
        };
        to.finish().unwrap();
        let error = flow
            .pump(&mut from, &mut to, &mut scratch, 1024)
            .unwrap_err();
        assert_eq!(error.operation, Operation::Write);
        assert!(flow.pipe.is_none() && flow.delivered() == 0);
    }
}
