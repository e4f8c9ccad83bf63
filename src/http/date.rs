//! Dates as HTTP and the logs write them, from a count of seconds.
