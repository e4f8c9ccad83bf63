//! The error log: simplelog, set up for a daemon.
