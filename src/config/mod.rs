//! The configuration: text to resolved, immutable values.
//!
//! [`load`] reads httpd's syntax, looks every directive up in the [table](directives::TABLE), and gives a [`Config`] that
//! can hold no wrong value, or every error of every file at once. Pure: files, environment and the machine's name come in
//! through [`Files`]; what is opened, bound or connected is left to others.
#![deny(clippy::indexing_slicing)]

mod apply;
mod backend_tls;
mod balancers;
mod checks;
mod control;
pub mod directives;
mod documents;
mod draft;
mod exchange;
mod findings;
mod health;
mod limits;
mod logs;
mod names;
mod parameters;
mod proxy_pass;
mod proxy_protocol;
mod remote_ip;
mod reverse;
mod rewrite;
mod sections;
mod set_env;
mod summary;
mod syntax;
mod tls;
pub mod value;
mod walk;

pub use control::{Control, ControlSocket, DEFAULT_SOCKET};
pub use exchange::{KeepAlive, ReadTimeout, Trace};
pub use findings::{ConfigError, ConfigWarning, Origin, Weight};
pub use limits::{Rate, TunnelBounds};
pub use proxy_protocol::ProxyProtocol;
pub(crate) use summary::{limit, span};
pub use syntax::Files;
pub use tls::{Certificate, ClientCertificates, ListenerTls, TlsPolicy};

use crate::access_log::format::LogFormat;
use crate::balancer::Balancer;
use crate::http::authority::Authority;
use crate::http::head::Limits;
use crate::logging::{ErrorLogTerms, Events, Target};
use crate::route::Router;
use crate::route::backend::Backend;
use crate::route::environment::Condition;
use crate::tls::backend::{Demands, Policy};
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
/// All errors of all files, file by file in the order of reading. Never empty.
pub fn load(sources: &Sources, files: &dyn Files) -> Result<Config, Vec<ConfigError>> {
    let reading = syntax::read(sources, files);
    walk::resolve(reading, sources, files)
}

/// Where a server of this configuration is asked about itself, whatever else is wrong with the configuration: a server
/// that runs with an older one can still be reached.
#[must_use]
pub fn control(sources: &Sources, files: &dyn Files) -> Control {
    walk::control(syntax::read(sources, files), files)
}

/// A configuration in force. Directives are named in the fields' documentation; defaults stand in the table.
#[derive(Debug, Clone)]
pub struct Config {
    /// `Listen`; at least one.
    pub listen: Vec<Listen>,
    /// `Listen unix:`, `Listen ... status`, `ControlSocketMode`
    pub control: Control,
    /// `ErrorLog`, `LogLevel`
    pub error_log: ErrorLogTerms,
    /// `User`, and where it stands.
    pub user: Option<(Account, Origin)>,
    /// `Group`, and where it stands.
    pub group: Option<(Account, Origin)>,
    /// `PidFile`; unset: none is written.
    pub pid_file: Option<PathBuf>,
    /// `GracefulShutdownTimeout`; none: a graceful stop waits for the last connection, however long.
    pub graceful_shutdown: Option<Duration>,
    /// `MaxRequestWorkers`, at least 1.
    pub max_request_workers: usize,
    /// `ProxyWebsocketAsyncThreads`, 1 to 64.
    pub reactor_threads: usize,
    /// `ProxyWebsocketAsyncMaxTunnels`, at least 1.
    pub reactor_limit: usize,
    /// `ProxyWebsocketMaxTunnels`, at least 1; none: any number.
    pub max_tunnels: Option<usize>,
    /// `ProxyWebsocketHandshakeRate`; none: as fast as they come.
    pub handshake_rate: Option<Rate>,
    /// `ProxyWebsocketOnReload`
    pub on_reload: Fate,
    /// `ProxyWebsocketOnUpgrade`
    pub on_upgrade: Fate,
    /// `ThreadStackSize` in bytes, at least 64 KiB.
    pub thread_stack_size: usize,
    /// `ListenBacklog`, at least 1.
    pub listen_backlog: i32,
    /// `ProxyHCTPsize`: the most threads that check the health of members; 0 counts as 1.
    pub health_threads: usize,
    /// `ServerRoot`. All paths here are resolved already.
    pub server_root: PathBuf,
    /// `RemoteIPProxyProtocol`, `RemoteIPProxyProtocolExceptions`
    pub proxy_protocol: ProxyProtocol,
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
    /// does not count), then the first of that address. A name with wildcards counts as much as one without. Source:
    /// httpd server/vhost.c `ap_update_vhost_given_ip`, `check_hostalias`.
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
        let by_name = host.and_then(bare_host).and_then(|name| {
            candidates()
                .find(|host| host.is_called(name))
                .or_else(|| candidates().find(|host| host.is_at(name)))
        });
        by_name
            .or_else(|| candidates().next())
            .unwrap_or(&self.main)
    }
}

/// The name in a `Host` value: without port, without brackets, without the dot of the root. A value that is no
/// authority names no host.
fn bare_host(host: &[u8]) -> Option<&str> {
    let name = Authority::parse(host).ok()?.host;
    Some(name.strip_suffix('.').unwrap_or(name))
}

/// What becomes of tunnels that have no place any more: `ProxyWebsocketOnReload`, `ProxyWebsocketOnUpgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// They go on.
    #[default]
    Keep,
    /// They are ended in order, so long after that.
    End(Duration),
}

impl Fate {
    fn parse(words: &[&str]) -> Result<Self, String> {
        match *words {
            [word] if word.eq_ignore_ascii_case("keep") => Ok(Self::Keep),
            [word] if word.eq_ignore_ascii_case("end") => Ok(Self::End(Duration::ZERO)),
            [word, delay] if word.eq_ignore_ascii_case("end") => {
                value::duration(delay, value::Unit::Seconds).map(Self::End)
            }
            _ => Err(format!(
                "found {:?}; expected \"Keep\", or \"End\" and after how long, such as \"End 30s\"",
                words.join(" ")
            )),
        }
    }
}

/// A user or a group. httpd: `User`, `Group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By a name that the system may know.
    Name(String),
    /// `#` and a number.
    Number(u32),
}

impl Account {
    fn parse(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix('#') {
            Some(number) => number.parse().ok(),
            None if !text.is_empty() && !text.contains('\0') => {
                return Ok(Self::Name(text.to_owned()));
            }
            None => None,
        };
        // The last one stands for "none" in the calls of the system.
        let number = number.filter(|number| *number != u32::MAX);
        let problem = || format!("expected a name, or \"#\" and a number, not \"{text}\"");
        number.map(Self::Number).ok_or_else(problem)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "#{number}"),
        }
    }
}

/// An address to listen on. httpd: `Listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// None: every address, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// 0: the kernel chooses one.
    pub port: u16,
    /// What it says of TLS; the host that serves a connection decides.
    pub protocol: ListenProtocol,
    /// Where it was configured.
    pub origin: Origin,
}

/// What a listener is meant for. httpd: the protocol of `Listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenProtocol {
    /// None is written: TLS at port 443.
    #[default]
    ByPort,
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Listen {
    /// Whether hosts that have a certificate speak TLS here, if they say nothing of it themselves.
    fn is_https(&self) -> bool {
        match self.protocol {
            ListenProtocol::ByPort => self.port == 443,
            ListenProtocol::Http => false,
            ListenProtocol::Https => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// The settings of the main server or of one virtual host, with what it inherits from the main server.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// The error log for lines about its requests, where it is another one than the main server's.
    pub error_log: Option<ErrorLogTerms>,
    /// `ServerName` without scheme and port; unset: the main server's, there the name of the machine.
    pub server_name: Arc<str>,
    /// The names that choose this host, in lower case: its own `ServerName`, then each `ServerAlias`, which may hold the
    /// wildcards `*` and `?`.
    pub names: Vec<String>,
    /// The addresses in `<VirtualHost ...>`; empty for the main server.
    pub addresses: Vec<HostAddress>,
    /// Where `<VirtualHost>` stands; for the main server the configuration file as a whole.
    pub origin: Origin,
    /// What tells it from the other hosts, and is the same after a reload: its names and addresses.
    pub identity: Arc<str>,
    /// `ProxyWebsocketMaxTunnelsPerAddress`, `ProxyWebsocketMaxTunnelsPerHost`, `ProxyWebsocketMaxTunnelsPerBackend`
    pub bounds: TunnelBounds,
    /// `LimitRequestLine`, `LimitRequestFieldSize`, `LimitRequestFields`
    pub limits: Limits,
    /// TLS towards clients, where it is on.
    pub tls: Option<ListenerTls>,
    /// `RequestReadTimeout handshake=`
    pub handshake_timeout: ReadTimeout,
    /// `RequestReadTimeout header=`
    pub header_timeout: ReadTimeout,
    /// `RequestReadTimeout body=`
    pub body_timeout: ReadTimeout,
    /// `KeepAlive`, `KeepAliveTimeout`, `MaxKeepAliveRequests`
    pub keep_alive: KeepAlive,
    /// `TraceEnable`
    pub trace: Trace,
    /// `Timeout`, more than zero.
    pub timeout: Duration,
    /// `ProxyTimeout`, more than zero; unset: [`Self::timeout`] counts.
    pub proxy_timeout: Option<Duration>,
    /// `ProxyIOBufferSize`: bytes that one exchange reads at a time, 512 to 1 MiB.
    pub io_buffer: usize,
    /// `ProxyReceiveBufferSize`, bytes, at least 512; unset: the kernel decides.
    pub receive_buffer: Option<usize>,
    /// `ProxySourceAddress`: our own address of connections to backends; unset: the kernel chooses one.
    pub source_address: Option<IpAddr>,
    /// `ProxyMaxForwards`: what a request without `Max-Forwards` gets there; unset: nothing.
    pub max_forwards: Option<u32>,
    /// TLS towards backends.
    pub backend_tls: Demands,
    /// What sections say of TLS with the members of balancers, by the name of each.
    pub balancer_tls: Vec<(String, Arc<Demands>)>,
    /// `CustomLog`, `TransferLog`
    pub access_logs: Vec<AccessLog>,
    /// The balancers that have their members here; those of the main server serve virtual hosts as well. httpd:
    /// `BalancerMember`.
    pub balancers: Vec<Arc<Balancer>>,
    /// Paths, and what is set for them. The main server's locations and mappings come first in every virtual host, as in
    /// httpd.
    pub router: Router,
}

impl VirtualHost {
    /// How long one step towards `backend` may take: `timeout=`, else `ProxyTimeout`, else `Timeout`.
    #[must_use]
    pub fn backend_timeout(&self, backend: &Backend) -> Duration {
        backend
            .parameters
            .timeout
            .or(self.proxy_timeout)
            .unwrap_or(self.timeout)
    }

    /// How long the connect to `backend` may take: `connectiontimeout=`, else [`Self::backend_timeout`].
    #[must_use]
    pub fn connect_timeout(&self, backend: &Backend) -> Duration {
        backend
            .parameters
            .connect_timeout
            .unwrap_or_else(|| self.backend_timeout(backend))
    }

    /// Bytes that an exchange with `backend` reads at a time: `iobuffersize=`, else `ProxyIOBufferSize`.
    #[must_use]
    pub fn backend_io_buffer(&self, backend: &Backend) -> usize {
        backend.parameters.io_buffer.unwrap_or(self.io_buffer)
    }

    /// Bytes that the kernel may hold of what `backend` has sent: `receivebuffersize=`, else `ProxyReceiveBufferSize`;
    /// unset: it decides for itself.
    #[must_use]
    pub fn backend_receive_buffer(&self, backend: &Backend) -> Option<usize> {
        let own = backend.parameters.receive_buffer;
        own.or(self.receive_buffer).filter(|size| *size > 0)
    }

    /// How a backend that this host leads requests to is spoken to in TLS.
    #[must_use]
    pub fn tls_policy(&self, backend: &Backend) -> Policy {
        Self::policy(backend.parameters.tls.as_ref(), &self.backend_tls)
    }

    /// How the members of a balancer are, when this host leads requests to it.
    #[must_use]
    pub fn balancer_tls_policy(&self, balancer: &Balancer) -> Policy {
        let mut said = self.balancer_tls.iter();
        let own = said.find(|(name, _)| name == balancer.bare_name());
        Self::policy(own.map(|(_, demands)| demands), &self.backend_tls)
    }

    fn policy(own: Option<&Arc<Demands>>, of_host: &Demands) -> Policy {
        own.map_or_else(|| of_host.policy(), |own| own.over(of_host).policy())
    }

    /// Whether `name` is one that the configuration gives the host, letter by letter and without wildcards.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let is_it = |own: &str| own.eq_ignore_ascii_case(name) && !own.contains(['*', '?']);
        is_it(&self.server_name) || self.names.iter().any(|own| is_it(own))
    }

    fn is_called(&self, name: &str) -> bool {
        let called = |own: &String| wildcard_match(own.as_bytes(), name.as_bytes());
        self.names.iter().any(called)
    }

    /// Whether `name` is an address that the section names.
    fn is_at(&self, name: &str) -> bool {
        let address = name.parse().ok();
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

/// One access log of a host. httpd: `CustomLog`, `TransferLog`.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where its lines go; the path of a file is resolved.
    pub target: Target,
    /// What is written for each transaction.
    pub format: Arc<LogFormat>,
    /// For which requests; none: for all.
    pub condition: Option<Condition>,
    /// When.
    pub events: Events,
    /// Where it was configured.
    pub origin: Origin,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::settings::Settings;
    use std::collections::BTreeMap;
    use std::io;
    use std::path::Path;

    /// Files, variables and a name that exist in the test only.
    #[derive(Default)]
    pub(super) struct Fake {
        pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
        /// Of those that are not 0600.
        pub(super) modes: BTreeMap<PathBuf, u32>,
        pub(super) variables: BTreeMap<String, String>,
    }

    impl Fake {
        pub(super) fn with(files: &[(&str, &str)]) -> Self {
            let files = files
                .iter()
                .map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_owned()));
            Self {
                files: files.collect(),
                ..Self::default()
            }
        }
    }

    impl Files for Fake {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let text = self.files.get(path);
            text.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn read_regular(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
            let content = self.read(path)?;
            if content.len() > most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(content)
        }

        /// A star at the end is the one wildcard.
        fn find(&self, root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
            let whole = root.join(pattern);
            let found: Vec<PathBuf> = match pattern.strip_suffix('*') {
                Some(start) => {
                    let start = root.join(start).display().to_string();
                    let fits = |path: &&PathBuf| path.display().to_string().starts_with(&start);
                    self.files.keys().filter(fits).cloned().collect()
                }
                None => self
                    .files
                    .keys()
                    .filter(|path| **path == whole)
                    .cloned()
                    .collect(),
            };
            if found.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(found)
        }

        fn exists(&self, path: &Path) -> bool {
            self.files.keys().any(|file| file.starts_with(path))
        }

        fn mode(&self, path: &Path) -> io::Result<u32> {
            Ok(self.modes.get(path).copied().unwrap_or(0o600))
        }

        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).cloned()
        }

        fn host_name(&self) -> Option<String> {
            Some("machine.example".to_owned())
        }
    }

    pub(super) fn load_text(text: &str) -> Result<Config, Vec<ConfigError>> {
        let sources = Sources {
            file: Some("test.conf".into()),
            ..Sources::default()
        };
        load(&sources, &Fake::with(&[("test.conf", text)]))
    }

    pub(super) fn config(text: &str) -> Config {
        load_text(text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    #[test]
    fn five_lines_are_a_configuration() {
        let config = config("Listen 8080\nProxyPass /ws2/ ws://echo.websocket.org/\n");
        assert_eq!(config.listen.len(), 1);
        assert_eq!(config.main.router.mappings.len(), 1);
        assert_eq!(&*config.main.server_name, "machine.example");
        assert_eq!(config.warnings, []);
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = config("Listen 0\nProxyPass / ws://b/");
        assert_eq!(config.error_log, ErrorLogTerms::default());
        assert_eq!(config.max_request_workers, 400);
        assert_eq!(config.thread_stack_size, 131_072);
        assert_eq!(config.listen_backlog, 511);
        assert_eq!(config.server_root, Path::new(DEFAULT_SERVER_ROOT));
        let main = &config.main;
        assert_eq!(main.limits, Limits::default());
        let head = ReadTimeout {
            initial: Duration::from_secs(20),
            max: Duration::from_secs(40),
            min_rate: 500,
        };
        assert_eq!(main.header_timeout, head);
        let handshake = ReadTimeout {
            initial: Duration::from_secs(20),
            max: Duration::from_secs(20),
            min_rate: 0,
        };
        assert_eq!(main.handshake_timeout, handshake);
        assert_eq!(main.tls, None);
        let body = ReadTimeout {
            max: value::LONGEST,
            ..head
        };
        assert_eq!(main.body_timeout, body);
        let keep_alive = KeepAlive {
            is_on: true,
            timeout: Duration::from_secs(5),
            max_requests: 100,
        };
        assert_eq!(main.keep_alive, keep_alive);
        assert_eq!(main.trace, Trace::On);
        assert_eq!(main.io_buffer, 16_384);
        assert_eq!(main.receive_buffer, None);
        assert_eq!(main.source_address, None);
        assert_eq!(main.max_forwards, None);
        assert_eq!(main.timeout, Duration::from_secs(60));
        assert_eq!(main.proxy_timeout, None);
        let tls = main.backend_tls.policy();
        assert_eq!(tls, Demands::default().policy());
        assert_eq!(tls.to_string(), "verified by the system's authorities");
        let settings = Settings {
            preserve_host: false,
            add_headers: true,
            idle_timeout: None,
            half_close_timeout: Duration::from_secs(30),
            passes_expect: true,
            ..Settings::default()
        };
        assert_eq!(main.router.settings, settings);
    }

    #[test]
    fn the_command_line_stands_before_and_behind_the_file() {
        let sources = Sources {
            before: vec!["Timeout 1".into(), "ProxyTimeout 1".into()],
            file: Some("test.conf".into()),
            after: vec!["Timeout 3".into(), "Listen 2".into()],
            defines: vec!["TWO".into()],
        };
        let text = "Timeout 2\n<IfDefine TWO>\nProxyTimeout 2\n</IfDefine>\nProxyPass / ws://b/";
        let config = load(&sources, &Fake::with(&[("test.conf", text)])).unwrap();
        assert_eq!(config.main.timeout, Duration::from_secs(3));
        assert_eq!(config.main.proxy_timeout, Some(Duration::from_secs(2)));
        assert_eq!(config.listen[0].origin.to_string(), "-c:2");
    }

    #[test]
    fn without_a_file_the_command_line_is_the_configuration() {
        let sources = Sources {
            after: vec!["Lisen 1".into(), "ProxyPass / ws://b/".into()],
            ..Sources::default()
        };
        let errors = load(&sources, &Fake::default()).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "-c: Listen: there is none; say where to listen, for example \"Listen 8080\"",
                "-c:1: Lisen: unknown directive; did you mean \"Listen\"?",
            ]
        );
    }

    #[test]
    fn a_missing_file_is_one_error() {
        let sources = Sources {
            file: Some("none.conf".into()),
            ..Sources::default()
        };
        let errors = load(&sources, &Fake::default()).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().starts_with("none.conf: cannot read"));
    }

    #[test]
    fn errors_come_in_the_order_of_the_lines() {
        let errors = load_text("Timeout x\n<VirtualHost\nBogus\nTimeout 0\n").unwrap_err();
        let lines: Vec<u32> = errors.iter().map(|error| error.origin.line).collect();
        assert!(lines.is_sorted(), "{errors:?}");
        assert!(lines.contains(&1) && lines.contains(&2) && lines.contains(&4));
    }

    #[test]
    fn each_directive_is_inherited_on_its_own() {
        let config = config(
            "Listen 80\nTimeout 1\nProxyWebsocketIdleTimeout 5\nCustomLog a %h\n\
             <VirtualHost *:80>\nProxyWebsocketHalfCloseTimeout 7\nTimeout 2\n</VirtualHost>\n\
             <VirtualHost *:80>\nProxyWebsocketIdleTimeout 0\nCustomLog b %h\n</VirtualHost>\n\
             ProxyTimeout 9\n",
        );
        let [first, second] = config.virtual_hosts.as_slice() else {
            panic!("two hosts");
        };
        let settings = |host: &VirtualHost| host.router.settings.clone();
        assert_eq!(settings(first).idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(settings(first).half_close_timeout, Duration::from_secs(7));
        assert_eq!(first.timeout, Duration::from_secs(2));
        assert_eq!(second.timeout, Duration::from_secs(1));
        assert_eq!(settings(second).idle_timeout, None);
        assert_eq!(
            settings(&config.main).half_close_timeout,
            Duration::from_secs(30)
        );
        // What stands behind a section counts for it as well.
        assert_eq!(first.proxy_timeout, Some(Duration::from_secs(9)));
        let logs = |host: &VirtualHost| host.access_logs[0].target.to_string();
        assert_eq!(logs(first), "/etc/proxy-wstunnel/a");
        assert_eq!(logs(second), "/etc/proxy-wstunnel/b");
        assert_eq!(second.access_logs.len(), 1);
    }

    #[test]
    fn the_main_server_s_mappings_come_first_in_every_host() {
        let config = config(
            "Listen 80\n<VirtualHost *:80>\nProxyPass /a ws://own\n</VirtualHost>\nProxyPass /b ws://main\n",
        );
        let prefixes = |host: &VirtualHost| -> Vec<String> {
            host.router
                .mappings
                .iter()
                .map(|m| m.place.to_string())
                .collect()
        };
        assert_eq!(prefixes(&config.main), [r#""/b""#]);
        assert_eq!(prefixes(&config.virtual_hosts[0]), [r#""/b""#, r#""/a""#]);
    }

    #[test]
    fn timeouts_fall_back_from_the_mapping_to_the_server() {
        let config = config(
            "Listen 80\nTimeout 60\nProxyTimeout 30\nProxyPass /a ws://b timeout=20\n\
             ProxyPass /b ws://b connectiontimeout=5\nProxyPass /c ws://b\n",
        );
        let host = &config.main;
        let resolved: Vec<(u64, u64)> = host
            .router
            .backends()
            .map(|backend| {
                (
                    host.connect_timeout(backend).as_secs(),
                    host.backend_timeout(backend).as_secs(),
                )
            })
            .collect();
        assert_eq!(resolved, [(20, 20), (5, 30), (30, 30)]);
    }

    #[test]
    fn sections_say_more_about_paths_and_backends() {
        let config = config(
            "Listen 80\nProxyPass /a ws://b:9/app/x timeout=5\nProxyPass /c ws://other addressttl=5\n\
             <Proxy *>\nProxyPreserveHost On\n</Proxy>\n\
             <Proxy ws://B:9/app max=3>\nProxySet timeout=7 keepalive=Off\n</Proxy>\n\
             ProxySet ws://b:9 max=1 acquire=50 addressttl=-1\n\
             <Location /a>\nProxyAddHeaders Off\nProxyPass ws://own/\n</Location>\n\
             <LocationMatch ^/(d+)$>\nProxyPassMatch ws://own/$1 upgrade=ANY\n</LocationMatch>\n\
             <Location /no>\nProxyPass !\n</Location>\n\
             <VirtualHost *:80>\n<Proxy ws://other/>\nProxyWebsocketIdleTimeout 9\n</Proxy>\n</VirtualHost>\n",
        );
        let summary = config.summary();
        for line in [
            r#"    "/a" -> ws://own/ upgrade=WebSocket connect 60s step 60s  [test.conf:13]"#,
            r#"    "^/(d+)$" -> ws://own/$1 upgrade=ANY connect 60s step 60s  [test.conf:16]"#,
            r#"    "/no" -> excluded  [test.conf:19]"#,
            "    add headers Off",
            r#"  "/a" -> ws://b:9/app/x upgrade=WebSocket connect 5s step 5s addresses for ever max 3, waiting 50ms keepalive Off  [test.conf:2]"#,
            r#"  "/c" -> ws://other upgrade=WebSocket connect 60s step 60s addresses for 5s  [test.conf:3]"#,
            "    preserve host On",
            "    tunnel idle 9s",
        ] {
            assert!(
                summary.lines().any(|found| found == line),
                "{line}\n{summary}"
            );
        }
        let shared = |host: &VirtualHost| Arc::as_ptr(&host.router.mappings[0]);
        assert_ne!(shared(&config.main), shared(&config.virtual_hosts[0]));
    }

    #[test]
    fn a_host_is_chosen_by_address_then_name_then_order() {
        let config = config(
            "Listen 80\nListen 81\nServerName main.example\n\
             <VirtualHost *:80>\nServerName first.example\n</VirtualHost>\n\
             <VirtualHost *:80 [::1]:80>\nServerName second.example\nServerAlias *.wild.example B?\n</VirtualHost>\n\
             <VirtualHost _default_:80>\nServerName third.example\nServerAlias sub.wild.example\n</VirtualHost>\n\
             <VirtualHost 10.0.0.1>\nServerName exact.example\n</VirtualHost>\n\
             <VirtualHost 10.0.0.1:80>\nServerName port.example\n</VirtualHost>\n",
        );
        for (local, host, expected) in [
            ("1.2.3.4:80", Some("first.example"), "first.example"),
            ("1.2.3.4:80", Some("SECOND.example:8080"), "second.example"),
            ("1.2.3.4:80", Some("second.example."), "second.example"),
            ("1.2.3.4:80", Some("a.wild.example"), "second.example"),
            // A name in full counts no more than a wildcard that stands before it.
            ("1.2.3.4:80", Some("sub.wild.example"), "second.example"),
            ("1.2.3.4:80", Some("third.example"), "third.example"),
            ("1.2.3.4:80", Some("b2"), "second.example"),
            ("1.2.3.4:80", Some("unknown.example"), "first.example"),
            ("1.2.3.4:80", Some("main.example"), "first.example"),
            ("1.2.3.4:80", Some("not a host"), "first.example"),
            ("1.2.3.4:80", None, "first.example"),
            ("1.2.3.4:81", Some("first.example"), "main.example"),
            // The address is decided first, whatever the name.
            ("[::1]:80", Some("first.example"), "second.example"),
            ("10.0.0.1:80", Some("first.example"), "port.example"),
            ("10.0.0.1:81", None, "exact.example"),
            ("[::ffff:10.0.0.1]:80", None, "port.example"),
        ] {
            let local = local.parse().unwrap();
            let chosen = config.host_for(local, host.map(str::as_bytes));
            assert_eq!(&*chosen.server_name, expected, "{local} {host:?}");
        }
    }

    #[test]
    fn wildcards_match_any_text_and_any_letter() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("*.a", "b.A", true),
            ("*.a", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxbx", true),
            ("*aab", "aaaab", true),
            ("a*", "b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            let found = wildcard_match(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, matches, "{pattern} {text}");
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn the_summary_shows_how_each_backend_is_spoken_to_in_tls() {
        let config = config(
            "Listen 80\nProxyPass /a/ wss://a/\nProxyPass /b/ wss://b/x/\nProxyPass /c/ balancer://c/y/\n\
             SSLProxyCheckPeerExpire Off\nSSLProxyCipherSuite HIGH\n\
             <Proxy wss://b/>\nSSLProxyVerifyDepth 3\nSSLProxyProtocol TLSv1.3\n</Proxy>\n\
             <Proxy wss://b/x>\nSSLProxyVerify none\nSSLProxyCipherSuite PROFILE=SYSTEM\n</Proxy>\n\
             <Proxy balancer://c>\nBalancerMember https://d\nSSLProxyVerifyDepth 1\n</Proxy>\n\
             <VirtualHost *:80>\nServerName e\nSSLProxyCheckPeerExpire On\n\
             <Proxy *>\nSSLProxyCipherSuite LOW\n</Proxy>\n</VirtualHost>\n",
        );
        let never = "!aNULL:!eNULL:!EXP";
        let all = "verified by the system's authorities";
        let expected = [
            format!("https://d connect 60s step 60s {all} to a depth of 1 at any time, ciphers HIGH:{never}"),
            format!("wss://a/ upgrade=WebSocket connect 60s step 60s {all} at any time, ciphers HIGH:{never}"),
            "wss://b/x/ upgrade=WebSocket connect 60s step 60s not verified but for name, TLSv1.3".to_owned(),
            format!("wss://a/ upgrade=WebSocket connect 60s step 60s {all}, ciphers LOW:{never}"),
            "wss://b/x/ upgrade=WebSocket connect 60s step 60s not verified but for name and dates, TLSv1.3".to_owned(),
        ];
        let summary = config.summary();
        let mut lines = summary.lines();
        for part in expected {
            assert!(lines.any(|line| line.contains(&part)), "{part}\n{summary}");
        }
    }

    #[test]
    fn the_summary_shows_what_is_resolved() {
        let config = config(
            "Listen 8080\nListen [::1]:81\nServerName main.example\nProxyPass /ws/ ws://b:9/ws/ timeout=500ms\n\
             <VirtualHost *:8080>\nServerName a.example\nServerAlias b.example\n</VirtualHost>\n\
             <VirtualHost *:8080>\nServerName c.example\nProxyWebsocketIdleTimeout 5min\n</VirtualHost>\n",
        );
        let summary = config.summary();
        for line in [
            "  *:8080  [test.conf:1]",
            "  [::1]:81  [test.conf:2]",
            "main server main.example",
            "virtual host a.example  [test.conf:5]",
            "  address *:8080, default of this address",
            "  name b.example",
            "  address *:8080",
            "  timeout 60s, tunnel idle 300s, half closed 30s",
            "  \"/ws/\" -> ws://b:9/ws/ upgrade=WebSocket connect 500ms step 500ms  [test.conf:4]",
        ] {
            assert!(summary.lines().any(|l| l == line), "{line}\n{summary}");
        }
    }
}
