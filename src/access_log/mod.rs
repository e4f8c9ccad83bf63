//! The access log: one line per transaction.

pub mod format;
