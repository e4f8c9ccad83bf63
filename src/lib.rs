//! A WebSocket tunnelling reverse proxy with the directives of Apache's `mod_proxy_wstunnel`, and an ordinary one beside it.
//!
//! # The map
//!
//! Pure rooms decide; they know no sockets, threads, files or clock:
//!
//! | room | what it decides |
//! |---|---|
//! | [`http`] | heads, header fields, body framing, whether a connection stays, our own answers; what stands before a head, and networks |
//! | [`route`] | which mapping a request meets, and the URL the backend or balancer is asked for |
//! | [`handshake`] | what a client must ask, what a backend must answer |
//! | [`balancer`] | which member of a balancer gets a request, and what is known of them |
//! | [`forward`] | the heads as the other side shall see them |
//! | [`frame`] | where WebSocket frames begin and end |
//! | [`tls`] | versions of TLS, and what a client opens a connection with |
//! | [`transaction`] | all that is known of one request, and why its tunnel ended |
//! | [`logging`] | topics and levels of the error log, and where logs go |
//! | [`ids`] | the numbers of our messages, and what to do about each |
//! | [`config`] | text to a resolved, immutable configuration; the directive table |
//! | [`explain`] | what would become of a request, with every step told |
//!
//! Devices act; they know no policy:
//!
//! | room | what it does |
//! |---|---|
//! | [`net`] | listening, resolving, connecting, TLS, waiting by a deadline |
//! | [`tunnel`] | moves bytes between two legs: one engine |
//! | [`access_log`], [`error_log`], [`log_writer`] | whole lines into files that reopen, to the standard outputs and to syslog |
//! | [`registry`] | the tunnels that are open: who they are, how they fare, how one is ended |
//! | [`config_files`] | reads configuration files for `config` |
//! | [`control_client`] | asks a running server for its state, and for changes |
//! | [`pid_file`] | who runs, and how it is asked for something |
//! | `sys` | system calls that need unsafe code |
//!
//! [`server`] is where policy meets devices, and [`cli`] is the way in.
pub mod access_log;
pub mod balancer;
pub mod cli;
pub mod config;
pub mod config_files;
pub mod control_client;
pub mod error_log;
pub mod explain;
pub mod forward;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod ids;
pub mod log_writer;
pub mod logging;
pub mod net;
pub mod pid_file;
pub mod registry;
pub mod route;
pub mod server;
#[expect(
    unsafe_code,
    reason = "the one room for it: each call is wrapped in a safe function"
)]
mod sys;
pub mod tls;
pub mod transaction;
pub mod tunnel;
