//! The error log: simplelog, set up for a daemon. httpd: `ErrorLog`, `LogLevel`.
//!
//! The records of the `log` crate go to the one of the process, which may be another one from one moment to the next. That
//! of a virtual host is called by who speaks about it.

use crate::log_writer::LineSink;
use crate::logging::{Levels, Severity, Topic};
use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

/// The target of records that are written whatever the level, as httpd's notices are.
const NOTICE: &str = "notice";

/// Where records become lines, and which of them do.
pub struct ErrorLog {
    levels: Levels,
    sink: LineSink,
    records: Box<WriteLogger<WholeLines>>,
    notices: Box<WriteLogger<WholeLines>>,
}

impl fmt::Debug for ErrorLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorLog")
            .field("levels", &self.levels)
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}

impl ErrorLog {
    /// An error log whose lines go to `sink`, if `levels` says so.
    pub fn new(sink: &LineSink, levels: Levels) -> Self {
        let is_collected = sink.is_collected();
        Self {
            levels,
            sink: sink.clone(),
            records: logger(sink.clone(), is_collected, LevelFilter::Error),
            notices: logger(sink.clone(), is_collected, LevelFilter::Off),
        }
    }

    /// Writes a line, if it is important enough.
    pub fn say(&self, topic: Topic, level: Level, text: fmt::Arguments<'_>) {
        if level <= self.levels.of(topic) {
            self.write(&self.records, level, Severity::of(level), text);
        }
    }

    fn notice(&self, text: fmt::Arguments<'_>) {
        // Who collects lines is told by the severity.
        let text = if self.sink.is_collected() {
            text.to_string()
        } else {
            format!("[NOTICE] {text}")
        };
        let text = format_args!("{text}");
        self.write(&self.notices, Level::Info, Severity::NOTICE, text);
    }

    fn write(
        &self,
        logger: &WriteLogger<WholeLines>,
        level: Level,
        severity: Severity,
        text: fmt::Arguments<'_>,
    ) {
        let text = printable(&text.to_string());
        let prefix = self.sink.prefix(severity);
        logger.log(
            &Record::builder()
                .level(level)
                .args(format_args!("{prefix}{text}"))
                .build(),
        );
    }
}

/// The error log of the process.
static OF_PROCESS: RwLock<Option<Arc<ErrorLog>>> = RwLock::new(None);

fn of_process() -> Option<Arc<ErrorLog>> {
    let of_process = OF_PROCESS.read().unwrap_or_else(PoisonError::into_inner);
    of_process.clone()
}

/// From now on the records of the `log` crate are lines of `log`. May be called again.
///
/// # Errors
/// When the process has a logger that is not this one.
pub fn use_for_process(log: ErrorLog) -> Result<(), log::SetLoggerError> {
    let most = log.levels.most().max(LevelFilter::Info);
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

/// Writes a line of a topic to the error log of the process, if it is important enough.
pub fn say(topic: Topic, level: Level, text: fmt::Arguments<'_>) {
    if level <= log::max_level()
        && let Some(log) = of_process()
    {
        log.say(topic, level, text);
    }
}

/// Logs the life of the program: started, stopped. It is written whatever `LogLevel` says.
pub fn notice(text: &str) {
    log::info!(target: NOTICE, "{text}");
}

/// What the `log` crate calls.
struct Facade;

impl Log for Facade {
    /// Whatever the level is: the log that counts is asked then, once.
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Some(log) = of_process() else { return };
        if record.target() == NOTICE {
            log.notice(*record.args());
        } else {
            let topic = Topic::of_module(record.target());
            log.say(topic, record.level(), *record.args());
        }
    }

    fn flush(&self) {}
}

/// `is_collected`: whoever collects the lines knows when they were written, and how important they are. `shown`: otherwise
/// the records whose level is written out are those of this level and the less important ones.
fn logger(sink: LineSink, is_collected: bool, shown: LevelFilter) -> Box<WriteLogger<WholeLines>> {
    let (time, level) = if is_collected {
        (LevelFilter::Off, LevelFilter::Off)
    } else {
        (LevelFilter::Error, shown)
    };
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_time_level(time)
        .set_max_level(level)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let line = Vec::new();
    WriteLogger::new(LevelFilter::Trace, config, WholeLines { sink, line })
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
