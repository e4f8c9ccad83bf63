//! The program as a whole: the built binary on real sockets, held to what its man pages promise.
//!
//! | module | what it is for |
//! |---|---|
//! | `handshake` | what has to be asked and answered before a tunnel begins; answers that are none |
//! | `refusals` | the table of request heads in `tests/data/heads`, and how our own answers look and close |
//! | `early_answers` | answers that begin before the backend has all of the request |
//! | `error_documents` | `ErrorDocument` and `ProxyErrorOverride` |
//! | `applications` | configurations for well-known applications, in `tests/data/config/accepted/applications` |
//! | `routes` | the table of requests in `tests/data/routes`, also through Apache's httpd |
//! | `routing` | which request meets which backend URL |
//! | `rewrite` | rules: their flags, and what no request may make of them |
//! | `backend_parameters` | what is set for single backends |
//! | `access` | who may connect, and who it is that connects |
//! | `health_checks` | who of a balancer is well, found out before any client has to |
//! | `headers` | the heads as the other side sees them, to the byte |
//! | `exchange` | ordinary requests and answers on `http://` routes, to the byte |
//! | `smuggling` | messages that two readers could read in two ways |
//! | `reverse` | `ProxyPassReverse` and its kin, also through Apache's httpd |
//! | `unix_backends` | backends at Unix sockets |
//! | `balancer` | `balancer://`: who gets a request, whose session it is, and what follows a failure; also through Apache's httpd |
//! | `balancer_change` | members that die and come back |
//! | `balancer_shares` | what members get by each method, and by their factors |
//! | `names` | backends whose names have several addresses, or move |
//! | `proxy_protocol` | PROXY headers in front of requests |
//! | `tls_terms` | what the directives of TLS towards clients say, as clients find it |
//! | `tls_listeners` | TLS with clients: who is spoken to, who is let in, and what no client may do with it |
//! | `tls` | `wss://`: names, trust, stalls |
//! | `tls_backends` | what is asked of backends in TLS, and what becomes of those that are not like that |
//! | `tunnel` | bytes both ways, half-close, resets, stop |
//! | `dead_backends` | what becomes of the tunnels of a backend that ends without a Close frame |
//! | `backpressure` | a slow reader slows its own writer, in constant memory |
//! | `reload` | another configuration, put in force while tunnels go on |
//! | `upgrade` | another process that takes over |
//! | `under_load` | reloads, a restart and an upgrade, while many talk and more come |
//! | `idle_timeout` | `ProxyWebsocketIdleTimeout` |
//! | `keep_alive` | several requests on a client's connection |
//! | `control` | the control socket, probes, and the command line that speaks to a running server |
//! | `crowd` | more clients than workers: who is idle makes room |
//! | `backend_connections` | connections to backends that are kept for the next request |
//! | `limits` | sizes, deadlines, workers, descriptors |
//! | `tunnel_limits` | how many tunnels, how fast, how old |
//! | `hostile_clients` | those who mean harm, or are broken |
//! | `access_log`, `error_log`, `tunnel_log` | what the operator reads |
//! | `log_targets` | where logs go, and what becomes of lines that cannot be written |
//! | `signals` | what the operator asks of a running process, and how it is found |
//! | `privileges` | who the process is, and what it may open |
//! | `service_manager` | what systemd is told, and what it passes |
//! | `config_errors`, `command_line`, `explain` | what the operator writes, and what he is told when it is wrong |
//! | `calls` | how many system calls it takes |
//! | `fairness` | a stream and the others |
//! | `status` | what the server shows of itself: `SetHandler server-status` |
//! | `scale` | many tunnels, and nothing left behind |
//! | `foreign` | other people's clients and servers, and a browser |
//! | `house` | who may import whom |
//! | `man_pages` | the manual and the program name the same things |
//! | `support` | the proxy as a process, clients, backends, certificates |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a helper of a test fails by panicking, and says on the terminal what it skips"
)]
#![allow(
    unreachable_pub,
    missing_docs,
    reason = "a test binary exports nothing"
)]

mod access;
mod access_log;
mod applications;
mod backend_connections;
mod backend_parameters;
mod backpressure;
mod balancer;
mod balancer_change;
mod balancer_shares;
mod calls;
mod command_line;
mod config_errors;
mod control;
mod crowd;
mod dead_backends;
mod early_answers;
mod error_documents;
mod error_log;
mod exchange;
mod explain;
mod fairness;
mod foreign;
mod handshake;
mod headers;
mod health_checks;
mod hostile_clients;
mod house;
mod idle_timeout;
mod keep_alive;
mod limits;
mod log_targets;
mod man_pages;
mod names;
mod privileges;
mod proxy_protocol;
mod refusals;
mod reload;
mod reverse;
mod rewrite;
mod routes;
mod routing;
mod scale;
mod service_manager;
mod signals;
mod smuggling;
mod status;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_backends;
#[cfg(feature = "tls")]
mod tls_listeners;
#[cfg(feature = "tls")]
mod tls_terms;
mod tunnel;
mod tunnel_limits;
mod tunnel_log;
mod under_load;
mod unix_backends;
mod upgrade;
