//! Whole lines into files that reopen, by one thread behind a bounded channel.
//!
//! Who logs never waits for a disk. Lines that find the channel full are counted, and the count is logged.

use crate::ids::Id;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The standard error output.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

enum Message {
    Line(Arc<Destination>, Vec<u8>),
    Reopen,
    Flush(Sender<()>),
}

struct Destination {
    target: Target,
    file: Mutex<Option<File>>,
    lost: AtomicU64,
}

/// One file's end of the channel.
#[derive(Clone)]
pub struct LineSink {
    destination: Arc<Destination>,
    messages: Sender<Message>,
    queued: Arc<AtomicUsize>,
}

impl std::fmt::Debug for LineSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineSink")
            .field("target", &self.destination.target)
            .finish_non_exhaustive()
    }
}

impl LineSink {
    /// Hands over a line, its newline included.
    pub fn write_line(&self, line: Vec<u8>) {
        let size = line.len();
        let message = Message::Line(Arc::clone(&self.destination), line);
        let has_room = self.queued.fetch_add(size, Ordering::Relaxed) + size <= BYTES;
        if !has_room || self.messages.try_send(message).is_err() {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            self.destination.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes all logs.
#[derive(Debug)]
pub struct LogWriter {
    messages: Sender<Message>,
    files: Arc<Mutex<Vec<LineSink>>>,
    queued: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Line(..) => "Line",
            Self::Reopen => "Reopen",
            Self::Flush(_) => "Flush",
        })
    }
}

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start() -> io::Result<Self> {
        let (messages, inbox) = bounded(LINES);
        let files: Arc<Mutex<Vec<LineSink>>> = Arc::default();
        let known = Arc::clone(&files);
        let queued: Arc<AtomicUsize> = Arc::default();
        let written = Arc::clone(&queued);
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || write_all(&inbox, &known, &written))?;
        Ok(Self {
            messages,
            files,
            queued,
        })
    }

    /// Opens `target`, or finds it open: two logs may share a file.
    ///
    /// # Errors
    /// Why the file could not be opened.
    pub fn open(&self, target: &Target) -> io::Result<LineSink> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.iter().find(|sink| sink.destination.target == *target) {
            return Ok(known.clone());
        }
        let file = match target {
            Target::Stderr => None,
            Target::File(path) => Some(append_to(path)?),
        };
        let destination = Destination {
            target: target.clone(),
            file: Mutex::new(file),
            lost: AtomicU64::new(0),
        };
        let sink = LineSink {
            destination: Arc::new(destination),
            messages: self.messages.clone(),
            queued: Arc::clone(&self.queued),
        };
        files.push(sink.clone());
        Ok(sink)
    }

    /// Opens all files anew, behind the lines that were handed over before: for log rotation.
    pub fn reopen(&self) {
        // The channel may be full, and this must not be lost; the caller is no thread that serves anybody.
        let _ = self.messages.send(Message::Reopen);
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

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write_all(inbox: &Receiver<Message>, files: &Mutex<Vec<LineSink>>, queued: &AtomicUsize) {
    let files = || files.lock().unwrap_or_else(PoisonError::into_inner);
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
                while gathered.len() < GATHERED {
                    match inbox.try_recv() {
                        Ok(Message::Line(next, line)) if Arc::ptr_eq(&next, &destination) => {
                            gathered.extend_from_slice(&line);
                        }
                        Ok(other) => {
                            pending = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                destination.write(&gathered);
                queued.fetch_sub(gathered.len(), Ordering::Relaxed);
                destination.report_lost();
            }
            Message::Reopen => files().iter().for_each(|sink| sink.destination.reopen()),
            Message::Flush(done) => {
                files()
                    .iter()
                    .for_each(|sink| sink.destination.report_lost());
                // The reports are lines behind this message.
                while let Ok(message) = inbox.try_recv() {
                    if let Message::Line(destination, line) = message {
                        destination.write(&line);
                        queued.fetch_sub(line.len(), Ordering::Relaxed);
                    }
                }
                let _ = done.send(());
            }
        }
    }
}

impl Destination {
    fn write(&self, lines: &[u8]) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // There is nobody to tell that a log cannot be written.
        let _ = match file.as_ref() {
            Some(file) => { file }.write_all(lines),
            None => io::stderr().write_all(lines),
        };
    }

    fn reopen(&self) {
        if let Target::File(path) = &self.target {
            match append_to(path) {
                Ok(file) => *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file),
                Err(error) => log::error!(
                    "{} {}: cannot be reopened: {error}; the old file is written on",
                    Id::LogNotReopened,
                    path.display()
                ),
            }
        }
    }

    fn report_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let name = match &self.target {
                Target::Stderr => "stderr".into(),
                Target::File(path) => path.display().to_string(),
            };
            log::warn!(
                "{} {name}: {lost} lines were lost: they came faster than they could be written",
                Id::LinesLost
            );
        }
    }
}
