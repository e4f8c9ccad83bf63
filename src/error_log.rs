//! The error log: simplelog, set up for a daemon. httpd: `ErrorLog`, `LogLevel`.
//!
//! The records of the `log` crate go to the one of the process, which may be another one from one moment to the next. That
//! of a virtual host is called by who speaks about it.

use crate::log_writer::LineSink;
use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

/// The target of records that are written whatever the level, as httpd's notices are.
const NOTICE: &str = "notice";

/// Where records become lines, and which of them do.
pub struct ErrorLog {
    level: LevelFilter,
    records: Box<WriteLogger<WholeLines>>,
    notices: Box<WriteLogger<WholeLines>>,
}

impl fmt::Debug for ErrorLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorLog")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl ErrorLog {
    /// An error log whose lines go to `sink`, if they are of `level` or more important.
    pub fn new(sink: LineSink, level: LevelFilter) -> Self {
        Self {
            level,
            records: logger(sink.clone(), LevelFilter::Error),
            notices: logger(sink, LevelFilter::Off),
        }
    }

    /// Writes a line, if it is important enough.
    pub fn say(&self, level: Level, text: fmt::Arguments<'_>) {
        if level <= self.level {
            write(&self.records, level, text);
        }
    }
}

/// The error log of the process.
static OF_PROCESS: RwLock<Option<Arc<ErrorLog>>> = RwLock::new(None);

/// From now on the records of the `log` crate are lines of `log`. May be called again.
///
/// # Errors
/// When the process has a logger that is not this one.
pub fn use_for_process(log: ErrorLog) -> Result<(), log::SetLoggerError> {
    let most = log.level.max(LevelFilter::Info);
    let former = {
        let mut of_process = OF_PROCESS.write().unwrap_or_else(PoisonError::into_inner);
        of_process.replace(Arc::new(log))
    };
    if former.is_none() {
        log::set_logger(&Facade)?;
    }
    log::set_max_level(most);
    Ok(())
}

/// Logs the life of the program: started, stopped. It is written whatever `LogLevel` says.
pub fn notice(text: &str) {
    log::info!(target: NOTICE, "[NOTICE] {text}");
}

/// What the `log` crate calls.
struct Facade;

impl Log for Facade {
    /// Whatever the level is: the log that counts is asked then, once.
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let log = {
            let of_process = OF_PROCESS.read().unwrap_or_else(PoisonError::into_inner);
            of_process.clone()
        };
        let Some(log) = log else { return };
        if record.target() == NOTICE {
            write(&log.notices, record.level(), *record.args());
        } else {
            log.say(record.level(), *record.args());
        }
    }

    fn flush(&self) {}
}

/// `shown`: the records whose level is written out are those of this level and the less important ones.
fn logger(sink: LineSink, shown: LevelFilter) -> Box<WriteLogger<WholeLines>> {
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_time_level(LevelFilter::Error)
        .set_max_level(shown)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let line = Vec::new();
    WriteLogger::new(LevelFilter::Trace, config, WholeLines { sink, line })
}

fn write(logger: &WriteLogger<WholeLines>, level: Level, text: fmt::Arguments<'_>) {
    let text = printable(&text.to_string());
    logger.log(
        &Record::builder()
            .level(level)
            .args(format_args!("{text}"))
            .build(),
    );
}

/// Text without control characters: no client can forge a line, or speak to the terminal of who reads it.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Gathers the pieces in which simplelog writes a record.
struct WholeLines {
    sink: LineSink,
    line: Vec<u8>,
}

impl Write for WholeLines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        if self.line.ends_with(b"\n") {
            self.sink.write_line(std::mem::take(&mut self.line));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
