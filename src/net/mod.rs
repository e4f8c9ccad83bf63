//! Sockets before the tunnel: listening, resolving, connecting, TLS, and waiting by a deadline.
//!
//! All sockets are non-blocking from accept and connect on, so each deadline is total (a peer that drips
//! bytes gains nothing) and each wait can be cancelled when the server stops.

pub mod alarm;
pub mod buffer;
pub mod connect;
pub mod listen;
pub mod local;
pub mod resolve;
pub mod stream;
pub mod tls;
pub mod wait;
