//! The error log: simplelog, set up for a daemon. httpd: `ErrorLog`, `LogLevel`.

use crate::log_writer::LineSink;
use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, SharedLogger, WriteLogger};
use std::collections::HashMap;
use std::io::{self, Write};

/// The target of records that are written whatever the level, as httpd's notices are.
const NOTICE: &str = "notice";

/// A log of its own for the records of one target.
#[derive(Debug)]
pub struct Own {
    /// The target of the records, as `log::log!` takes it.
    pub target: String,
    /// Where their lines go.
    pub sink: LineSink,
    /// The least level that is written.
    pub level: LevelFilter,
}

/// Makes the error log: from now on the records of the `log` crate become lines of `sink`, but for those that have a log
/// of their own.
///
/// # Errors
/// When the process has a logger already.
pub fn start(sink: LineSink, level: LevelFilter, own: Vec<Own>) -> Result<(), log::SetLoggerError> {
    let most = own.iter().map(|own| own.level).fold(level, Ord::max);
    let own = own.into_iter();
    let logger = ErrorLog {
        records: logger(level, sink.clone(), LevelFilter::Error),
        notices: logger(level, sink, LevelFilter::Off),
        own: own
            .map(|own| (own.target, logger(own.level, own.sink, LevelFilter::Error)))
            .collect(),
    };
    log::set_max_level(most.max(LevelFilter::Info));
    log::set_boxed_logger(Box::new(logger))
}

/// Logs the life of the program: started, stopped. It is written whatever `LogLevel` says.
pub fn notice(text: &str) {
    log::info!(target: NOTICE, "[NOTICE] {text}");
}

struct ErrorLog {
    records: Box<WriteLogger<WholeLines>>,
    notices: Box<WriteLogger<WholeLines>>,
    own: HashMap<String, Box<WriteLogger<WholeLines>>>,
}

impl ErrorLog {
    fn for_target(&self, target: &str) -> &WriteLogger<WholeLines> {
        match self.own.get(target) {
            Some(own) => own,
            None if target == NOTICE => &self.notices,
            None => &self.records,
        }
    }
}

/// `shown`: the records whose level is written out are those of this level and the less important ones.
fn logger(level: LevelFilter, sink: LineSink, shown: LevelFilter) -> Box<WriteLogger<WholeLines>> {
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_time_level(LevelFilter::Error)
        .set_max_level(shown)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let level = if shown == LevelFilter::Off {
        LevelFilter::Info
    } else {
        level
    };
    WriteLogger::new(
        level,
        config,
        WholeLines {
            sink,
            line: Vec::new(),
        },
    )
}

impl Log for ErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == NOTICE
            || metadata.level() <= self.for_target(metadata.target()).level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = printable(&record.args().to_string());
        self.for_target(record.target()).log(
            &Record::builder()
                .level(record.level())
                .target(record.target())
                .args(format_args!("{text}"))
                .build(),
        );
    }

    fn flush(&self) {}
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
