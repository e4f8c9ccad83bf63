//! Whole lines into files that reopen, to the standard outputs and to the system's collector, by one thread behind a bounded
//! channel.
//!
//! Who logs never waits for a disk. Lines that find the channel full, or cannot be written, are counted, and the count is
//! logged.

mod outlet;
mod syslog;

use crate::ids::Id;
use crate::logging::{Severity, Target};
use crossbeam_channel::{Receiver, Sender, bounded};
use outlet::{Collector, Outlet};
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Lines that may wait for the disk, of all files together.
const LINES: usize = 4096;
/// Bytes that may wait for the disk, of all files together.
const BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are gathered for one write when lines come faster than the disk takes them.
const GATHERED: usize = 64 * 1024;
/// How long the end of the program waits for the disk.
const FLUSH: Duration = Duration::from_secs(5);

enum Message {
    Line(Arc<Destination>, Vec<u8>),
    Reopen,
    /// Somebody has let a destination go, and may have been the last.
    Forget,
    Flush(Sender<()>),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Line(..) => "Line",
            Self::Reopen => "Reopen",
            Self::Forget => "Forget",
            Self::Flush(_) => "Flush",
        })
    }
}

struct Destination {
    target: Target,
    collector: Option<Collector>,
    outlet: Mutex<Outlet>,
    lost: AtomicU64,
    /// The last line could not be written.
    fails: AtomicBool,
}

type OwnLine = (Arc<Destination>, Vec<u8>);

thread_local! {
    /// What the thread that writes has to say itself, which would find no room behind the lines that it tells of: nothing
    /// in all other threads.
    static OWN_LINES: RefCell<Option<Vec<OwnLine>>> = const { RefCell::new(None) };
}

/// Lines that were lost since the process has begun, of all logs.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since the process has begun: they came faster than they could be written, or could not be
/// written at all.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// One file's end of the channel. The file is open for as long as somebody has one.
#[derive(Debug, Clone)]
pub struct LineSink(Arc<Held>);

struct Held {
    destination: Arc<Destination>,
    messages: Sender<Message>,
    queued: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineSink")
            .field("target", &self.destination.target)
            .finish_non_exhaustive()
    }
}

impl Drop for Held {
    /// Who lets go may be a reactor, and closing a file may take its time: that is left to the thread that writes.
    fn drop(&mut self) {
        // Where there is no room the next one to go is in time.
        let _ = self.messages.try_send(Message::Forget);
    }
}

impl LineSink {
    /// Hands over a line, its newline included. It waits for nobody: what finds no room is lost, and counted.
    pub fn write_line(&self, line: Vec<u8>) {
        let Held {
            destination,
            messages,
            queued,
        } = &*self.0;
        let Some(line) = keep_own(destination, line) else {
            return;
        };
        let size = line.len();
        let message = Message::Line(Arc::clone(destination), line);
        let has_room = queued.fetch_add(size, Ordering::Relaxed) + size <= BYTES;
        if !has_room || messages.try_send(message).is_err() {
            queued.fetch_sub(size, Ordering::Relaxed);
            destination.lose(1);
        }
    }

    /// Whether it is somebody who collects lines, and knows by himself when each came.
    pub fn is_collected(&self) -> bool {
        self.0.destination.collector.is_some()
    }

    /// What a line of this severity has to begin with: nothing where nobody collects them.
    pub fn prefix(&self, severity: Severity) -> String {
        let collector = self.0.destination.collector;
        collector.map_or_else(String::new, |collector| collector.prefix(severity))
    }
}

/// The destinations that are open.
#[derive(Default)]
struct Known {
    destinations: Mutex<Vec<(Arc<Destination>, Weak<Held>)>>,
    /// They are to be opened anew at the next occasion: the channel had no room for saying so.
    are_to_reopen: AtomicBool,
}

impl Known {
    fn destinations(&self) -> MutexGuard<'_, Vec<(Arc<Destination>, Weak<Held>)>> {
        // It is whole between statements, whatever became of another thread.
        self.destinations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Those at this moment. Nobody who opens one has to wait for what is done with them.
    fn all(&self) -> Vec<Arc<Destination>> {
        let known = self.destinations();
        known
            .iter()
            .map(|(destination, _)| Arc::clone(destination))
            .collect()
    }

    /// Closes those that nobody holds any more.
    fn forget(&self) {
        let gone: Vec<_> = {
            let mut known = self.destinations();
            known
                .extract_if(.., |(_, held)| held.strong_count() == 0)
                .collect()
        };
        drop(gone);
    }
}

/// The thread that writes all logs.
pub struct LogWriter {
    messages: Sender<Message>,
    known: Arc<Known>,
    queued: Arc<AtomicUsize>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start() -> io::Result<Self> {
        let (messages, inbox) = bounded(LINES);
        let known = Arc::<Known>::default();
        let of_thread = Arc::clone(&known);
        let queued: Arc<AtomicUsize> = Arc::default();
        let written = Arc::clone(&queued);
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                // A panic costs the lines in hand; what it said is among the next.
                let write = || write_all(&inbox, &of_thread, &written);
                while catch_unwind(AssertUnwindSafe(write)).is_err() {}
            })?;
        Ok(Self {
            messages,
            known,
            queued,
        })
    }

    /// Opens `target`, or finds it open: two logs may share a file. It is closed when the last that was given out for it
    /// goes, so that all that a configuration names can be opened before one of them is used.
    ///
    /// # Errors
    /// Why the file could not be opened.
    pub fn open(&self, target: &Target) -> io::Result<LineSink> {
        let hold = |destination: &Arc<Destination>| {
            Arc::new(Held {
                destination: Arc::clone(destination),
                messages: self.messages.clone(),
                queued: Arc::clone(&self.queued),
            })
        };
        let mut known = self.known.destinations();
        if let Some((destination, held)) = known.iter_mut().find(|(d, _)| d.target == *target) {
            let found = held.upgrade().unwrap_or_else(|| {
                // It was let go a moment ago.
                let again = hold(destination);
                *held = Arc::downgrade(&again);
                again
            });
            return Ok(LineSink(found));
        }
        let destination = Arc::new(Destination {
            outlet: Mutex::new(Outlet::open(target)?),
            collector: Collector::of(target),
            target: target.clone(),
            lost: AtomicU64::new(0),
            fails: AtomicBool::new(false),
        });
        let held = hold(&destination);
        known.push((destination, Arc::downgrade(&held)));
        Ok(LineSink(held))
    }

    /// Opens all files anew, behind the lines that were handed over before: for log rotation.
    pub fn reopen(&self) {
        // It must not be lost. And who asks must not wait for ever for a disk, or for who reads the standard error: a
        // signal to stop comes to the same thread.
        if self.messages.send_timeout(Message::Reopen, FLUSH).is_err() {
            self.known.are_to_reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until all lines that were handed over are written.
    pub fn flush(&self) {
        let (done, written) = bounded(1);
        if self
            .messages
            .send_timeout(Message::Flush(done), FLUSH)
            .is_ok()
        {
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

/// Keeps the line, if this is the thread that writes. Otherwise gives it back.
fn keep_own(destination: &Arc<Destination>, line: Vec<u8>) -> Option<Vec<u8>> {
    // A thread that ends has no variables any more.
    let is_writer = OWN_LINES.try_with(|own| own.borrow().is_some());
    if !is_writer.unwrap_or_default() {
        return Some(line);
    }
    OWN_LINES.with_borrow_mut(|own| {
        own.get_or_insert_default()
            .push((Arc::clone(destination), line));
    });
    None
}

/// Writes what the thread that writes has had to say. Not at once, but when nobody waits for a lock that it holds.
fn write_own() {
    while let Some(own) = OWN_LINES.with_borrow_mut(|own| own.replace(Vec::new()))
        && !own.is_empty()
    {
        for (destination, line) in own {
            destination.write(&line, 1);
        }
    }
}

fn write_all(inbox: &Receiver<Message>, known: &Known, queued: &AtomicUsize) {
    OWN_LINES.set(Some(Vec::new()));
    let mut gathered: Vec<u8> = Vec::new();
    let mut pending = None;
    loop {
        let message = match pending.take() {
            Some(message) => message,
            None => match inbox.recv() {
                Ok(message) => message,
                Err(_) => return,
            },
        };
        match message {
            Message::Line(destination, line) => {
                gathered.clear();
                gathered.extend_from_slice(&line);
                let mut lines = 1;
                // A message to a socket is one line.
                let most = match destination.target {
                    Target::Syslog { .. } => 0,
                    _ => GATHERED,
                };
                while gathered.len() < most {
                    match inbox.try_recv() {
                        Ok(Message::Line(next, line)) if Arc::ptr_eq(&next, &destination) => {
                            gathered.extend_from_slice(&line);
                            lines += 1;
                        }
                        Ok(other) => {
                            pending = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                destination.write(&gathered, lines);
                queued.fetch_sub(gathered.len(), Ordering::Relaxed);
                destination.report_lost();
            }
            Message::Reopen => known.all().iter().for_each(|file| file.reopen()),
            Message::Forget => known.forget(),
            Message::Flush(done) => {
                known.all().iter().for_each(|file| file.report_lost());
                write_own();
                known.forget();
                let _ = done.send(());
            }
        }
        if known.are_to_reopen.swap(false, Ordering::Relaxed) {
            known.all().iter().for_each(|file| file.reopen());
        }
        write_own();
    }
}

impl Destination {
    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        LOST.fetch_add(lines, Ordering::Relaxed);
    }

    /// `lines`: how many that are.
    fn write(&self, bytes: &[u8], lines: u64) {
        let outcome = self.outlet().write(bytes);
        let has_failed = outcome.is_err();
        let had_failed = self.fails.swap(has_failed, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.lose(lines);
            if !had_failed {
                // It may be the error log itself that cannot be written: then this is lost as well, and said no more.
                let (id, target) = (Id::LogNotWritten, &self.target);
                log::error!("{id} {target}: cannot be written: {error}; {}", id.remedy());
            }
        }
    }

    fn reopen(&self) {
        if matches!(self.target, Target::File(_)) {
            match Outlet::open(&self.target) {
                Ok(outlet) => *self.outlet() = outlet,
                Err(error) => log::error!(
                    "{} {}: cannot be reopened: {error}; the old file is written on",
                    Id::LogNotReopened,
                    self.target
                ),
            }
        }
    }

    fn report_lost(&self) {
        // What would be said about a log that cannot be written may only be lost in the same place.
        if self.fails.load(Ordering::Relaxed) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            log::warn!(
                "{} {}: {lost} lines were lost: they came faster than they could be written, or could not be written",
                Id::LinesLost,
                self.target
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    fn descriptors_of(path: &Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|link| link.starts_with(path))
            .count()
    }

    fn directory(name: &str) -> PathBuf {
        let name = format!("proxy-wstunnel-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.canonicalize().unwrap()
    }

    #[track_caller]
    fn wait_until(holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(10));
            thread::yield_now();
        }
    }

    #[test]
    fn files_that_nobody_holds_are_closed_and_forgotten_however_often_that_happens() {
        let directory = directory("forgotten");
        let writer = LogWriter::start().unwrap();
        let path = |name: &str| Target::File(directory.join(name));
        let stays = writer.open(&path("stays")).unwrap();
        for round in 0..1000 {
            let sinks =
                [0, 1].map(|i| writer.open(&path(&format!("{}", (round + i) % 7))).unwrap());
            sinks[0].write_line(b"a line\n".to_vec());
            writer
                .open(&path("stays"))
                .unwrap()
                .write_line(b"one\n".to_vec());
            // As a reload does, whose channel has room at last.
            if round % 100 == 0 {
                writer.flush();
            }
        }
        writer.flush();
        wait_until(|| descriptors_of(&directory) == 1);
        assert_eq!(writer.known.all().len(), 1);
        stays.write_line(b"the last\n".to_vec());
        writer.flush();
        let text = std::fs::read_to_string(directory.join("stays")).unwrap();
        assert!(text.ends_with("one\nthe last\n"));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_line_reaches_its_file_though_nobody_holds_that_any_more() {
        let directory = directory("behind");
        let writer = LogWriter::start().unwrap();
        for round in 0..50 {
            let sink = writer.open(&Target::File(directory.join("log"))).unwrap();
            sink.write_line(format!("{round}\n").into_bytes());
        }
        writer.flush();
        let text = std::fs::read_to_string(directory.join("log")).unwrap();
        assert_eq!(text.lines().count(), 50);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
