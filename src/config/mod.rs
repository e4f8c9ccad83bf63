//! The configuration: text to resolved, immutable values.
//!
//! [`load`] reads httpd's syntax, looks every directive up in the [table](directives::TABLE), and gives a [`Config`] that
//! can hold no wrong value, or every error of every file at once. Pure: files, environment and the machine's name come in
//! through [`Files`]; what is opened, bound or connected is left to others.
#![deny(clippy::indexing_slicing)]

mod apply;
pub mod directives;
mod draft;
mod findings;
mod names;
mod proxy_pass;
mod summary;
mod syntax;
pub mod value;

pub use findings::{ConfigError, ConfigWarning, Origin};
pub use syntax::Files;

use crate::access_log::format::LogFormat;
use crate::http::head::Limits;
use crate::route::Router;
use crate::route::mapping::Mapping;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The folder that relative paths are below, until `ServerRoot` names another.
pub const DEFAULT_SERVER_ROOT: &str = "/etc/proxy-wstunnel";

/// The file that is read when the command line names neither a file nor directives.
pub const DEFAULT_FILE: &str = "/etc/proxy-wstunnel/proxy-wstunnel.conf";

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `-C`: directives before the file, a line each.
    pub before: Vec<String>,
    /// `-f`
    pub file: Option<PathBuf>,
    /// `-c`: directives after the file, a line each.
    pub after: Vec<String>,
    /// `-D`: names that `<IfDefine>` finds.
    pub defines: Vec<String>,
}

/// Reads, checks and resolves a configuration.
///
/// # Errors
/// All errors of all files, in the order of reading. Never empty.
pub fn load(sources: &Sources, files: &dyn Files) -> Result<Config, Vec<ConfigError>> {
    let reading = syntax::read(sources, files);
    draft::resolve(reading, sources, files)
}

/// A configuration in force. Directives are named in the fields' documentation; defaults stand in the table.
#[derive(Debug, Clone)]
pub struct Config {
    /// `Listen`; at least one.
    pub listen: Vec<Listen>,
    /// `ErrorLog`
    pub error_log: LogTarget,
    /// `LogLevel`
    pub log_level: log::LevelFilter,
    /// `PidFile`; unset: none is written.
    pub pid_file: Option<PathBuf>,
    /// `MaxRequestWorkers`, at least 1.
    pub max_request_workers: usize,
    /// `ThreadStackSize` in bytes, at least 64 KiB.
    pub thread_stack_size: usize,
    /// `ListenBacklog`, at least 1.
    pub listen_backlog: i32,
    /// `ServerRoot`. All paths here are resolved already.
    pub server_root: PathBuf,
    /// The main server: what stands outside of `<VirtualHost>`. It serves every address that no virtual host names.
    pub main: Arc<VirtualHost>,
    /// `<VirtualHost>`, in the order of the file.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// What is legal and probably not meant, in the order of reading.
    pub warnings: Vec<ConfigWarning>,
}

impl Config {
    /// The main server, then the virtual hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<VirtualHost>> {
        std::iter::once(&self.main).chain(&self.virtual_hosts)
    }

    /// Chooses the host that serves a request: by the address that was connected to, then by the name in `Host` (its port
    /// does not count), then the first of that address. Source: httpd server/vhost.c `ap_update_vhost_given_ip`,
    /// `check_hostalias`.
    #[must_use]
    pub fn host_for(&self, local: SocketAddr, host: Option<&[u8]>) -> &Arc<VirtualHost> {
        let fits = |candidate: &VirtualHost| {
            let fits = |address: &HostAddress| address.fit(local);
            candidate.addresses.iter().filter_map(fits).max()
        };
        let Some(best) = self.virtual_hosts.iter().filter_map(|h| fits(h)).max() else {
            return &self.main;
        };
        let candidates = || self.virtual_hosts.iter().filter(|h| fits(h) == Some(best));
        let by_name = host.map(bare_host).and_then(|name| {
            candidates()
                .find(|host| host.is_called(name))
                .or_else(|| candidates().find(|host| host.is_like(name)))
                .or_else(|| candidates().find(|host| host.is_at(name)))
        });
        by_name
            .or_else(|| candidates().next())
            .unwrap_or(&self.main)
    }
}

/// The name in a `Host` value or `ServerName`: without port, without brackets, without the dot of the root.
fn bare_host(host: &[u8]) -> &[u8] {
    if let Some(inside) = host.strip_prefix(b"[") {
        return inside.split(|b| *b == b']').next().unwrap_or(inside);
    }
    let name = host.split(|b| *b == b':').next().unwrap_or(host);
    name.strip_suffix(b".").unwrap_or(name)
}

/// An address to listen on. httpd: `Listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// None: every address, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// 0: the kernel chooses one.
    pub port: u16,
    /// Where it was configured.
    pub origin: Origin,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard error of the process.
    Stderr,
    /// A file, by its resolved path.
    File(PathBuf),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The settings of the main server or of one virtual host, with what it inherits from the main server.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// `ServerName` without scheme and port; unset: the main server's, there the name of the machine.
    pub server_name: Arc<str>,
    /// The names that choose this host, in lower case: its own `ServerName`, then each `ServerAlias`, which may hold the
    /// wildcards `*` and `?`.
    pub names: Vec<String>,
    /// The addresses in `<VirtualHost ...>`; empty for the main server.
    pub addresses: Vec<HostAddress>,
    /// Where `<VirtualHost>` stands; for the main server the configuration file as a whole.
    pub origin: Origin,
    /// `LimitRequestLine`, `LimitRequestFieldSize`, `LimitRequestFields`
    pub limits: Limits,
    /// `RequestReadTimeout header=`
    pub header_timeout: HeaderTimeout,
    /// `Timeout`, more than zero.
    pub timeout: Duration,
    /// `ProxyTimeout`, more than zero; unset: [`Self::timeout`] counts.
    pub proxy_timeout: Option<Duration>,
    /// `ProxyWebsocketIdleTimeout`; none: a tunnel may be silent for ever.
    pub idle_timeout: Option<Duration>,
    /// `ProxyWebsocketHalfCloseTimeout`, more than zero.
    pub half_close_timeout: Duration,
    /// `ProxyPreserveHost`
    pub preserve_host: bool,
    /// `ProxyAddHeaders`
    pub add_headers: bool,
    /// TLS towards backends.
    pub backend_tls: BackendTls,
    /// `CustomLog`, `TransferLog`
    pub access_logs: Vec<AccessLog>,
    /// `ProxyPass`: the main server's entries come first in every virtual host, as in httpd.
    pub router: Router,
}

impl VirtualHost {
    /// How long one step towards the backend of `mapping` may take: `timeout=`, else `ProxyTimeout`, else `Timeout`.
    #[must_use]
    pub fn backend_timeout(&self, mapping: &Mapping) -> Duration {
        mapping
            .timeout
            .or(self.proxy_timeout)
            .unwrap_or(self.timeout)
    }

    /// How long the TCP connect to the backend of `mapping` may take: `connectiontimeout=`, else
    /// [`Self::backend_timeout`].
    #[must_use]
    pub fn connect_timeout(&self, mapping: &Mapping) -> Duration {
        mapping
            .connect_timeout
            .unwrap_or_else(|| self.backend_timeout(mapping))
    }

    fn is_called(&self, name: &[u8]) -> bool {
        let same = |own: &String| own.as_bytes().eq_ignore_ascii_case(name);
        self.names.iter().any(same)
    }

    fn is_like(&self, name: &[u8]) -> bool {
        let like = |own: &String| own.contains(['*', '?']) && wildcard_match(own.as_bytes(), name);
        self.names.iter().any(like)
    }

    /// Whether `name` is an address that the section names.
    fn is_at(&self, name: &[u8]) -> bool {
        let address = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok());
        address.is_some() && self.addresses.iter().any(|own| own.address == address)
    }
}

/// Whether `text` is what `pattern` describes: `*` is any text, `?` any one byte. Case does not count.
fn wildcard_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to try again when it goes wrong: behind the last star, one byte further in the text. Earlier stars need no
    // second try, so the work is bounded by the product of both lengths.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', behind)), _) => {
                again = Some((behind, text));
                pattern = behind;
                continue;
            }
            (Some((p, behind)), Some((t, rest))) if *p == b'?' || p.eq_ignore_ascii_case(t) => {
                pattern = behind;
                text = rest;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((behind, [_, rest @ ..])) = again else {
            return false;
        };
        again = Some((behind, rest));
        pattern = behind;
        text = rest;
    }
}

/// An address in `<VirtualHost ...>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// None: `*` or `_default_`, any address.
    pub address: Option<IpAddr>,
    /// None: any port.
    pub port: Option<u16>,
}

impl HostAddress {
    /// How exactly this names `local`, if at all: an address counts more than a port.
    fn fit(self, local: SocketAddr) -> Option<(bool, bool)> {
        // A socket that listens on all of IPv6 and IPv4 shows IPv4 addresses in their mapped form.
        let ip = local.ip().to_canonical();
        let fits = self.address.is_none_or(|own| own == ip)
            && self.port.is_none_or(|own| own == local.port());
        fits.then_some((self.address.is_some(), self.port.is_some()))
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => f.write_str("*")?,
            Some(IpAddr::V4(address)) => address.fmt(f)?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        match self.port {
            None => f.write_str(":*"),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

/// How long a request head may take to arrive. httpd: `RequestReadTimeout header=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderTimeout {
    /// The time at the start; zero: no limit at all.
    pub initial: Duration,
    /// The most that can be earned; equal to `initial` where nothing can, [`value::LONGEST`] where there is no bound.
    pub max: Duration,
    /// Bytes that earn one more second; 0: none is earned.
    pub min_rate: u32,
}

/// How backends of `wss://` are verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendTls {
    /// `SSLProxyVerify`: certificate chain, name and dates. False for `none`.
    pub verify: bool,
    /// `SSLProxyCACertificateFile`: the only authorities that count; unset: those of the system. Its line, for messages.
    pub ca_file: Option<(PathBuf, Origin)>,
}

/// One access log of a host. httpd: `CustomLog`, `TransferLog`.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The resolved path.
    pub path: PathBuf,
    /// What is written for each transaction.
    pub format: Arc<LogFormat>,
    /// Where it was configured.
    pub origin: Origin,
}
