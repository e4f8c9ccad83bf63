//! Whole lines into files that reopen, by one thread.
