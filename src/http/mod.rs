//! HTTP/1.1 messages, without sockets: RFC 9110 and RFC 9112.
#![deny(clippy::indexing_slicing)]

pub mod answer;
pub mod body;
pub mod date;
pub mod head;
pub mod headers;
