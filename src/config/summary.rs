//! What `-S` prints: the resolved configuration, as a reader of logs or a script wants it.

mod balancers;

use super::value::LONGEST;
use super::{Config, KeepAlive, ListenProtocol, ListenerTls, ReadTimeout, Trace, VirtualHost};
use crate::handshake::Upgrade;
use crate::http::document::Document;
use crate::logging::Events;
use crate::route::backend::Backend;
use crate::route::destination::Destination;
use crate::route::mapping::{Action, Mapping, TargetPath};
use crate::route::own_name::CanonicalName;
use crate::route::settings::{Change, ErrorOverride, Lifetime, Settings, Via};
use crate::route::url::Slashes;
use crate::tls::backend::Policy;
use std::fmt::{self, Write};
use std::time::Duration;

impl Config {
    /// The resolved listeners, hosts and mappings in the order in which they are tried. A line for each fact; two blanks
    /// for each level; origins in brackets at the end.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "server root {}", self.server_root.display())?;
        writeln!(
            out,
            "error log {}, level {}",
            self.error_log.target, self.error_log.levels
        )?;
        if let Some((user, _)) = &self.user {
            writeln!(out, "user {user}")?;
        }
        if let Some((group, _)) = &self.group {
            writeln!(out, "group {group}")?;
        }
        if let Some(path) = &self.pid_file {
            writeln!(out, "pid file {}", path.display())?;
        }
        match self.graceful_shutdown {
            Some(limit) => writeln!(out, "graceful stop within {limit:?}")?,
            None => writeln!(out, "graceful stop without limit")?,
        }
        writeln!(
            out,
            "workers {}, stack of {} bytes, backlog {}",
            self.max_request_workers, self.thread_stack_size, self.listen_backlog
        )?;
        self.write_bounds(out)?;
        let hosts = std::iter::once(&self.main).chain(&self.virtual_hosts);
        let mut all = hosts.flat_map(|host| &host.balancers);
        if all.any(|balancer| balancers::is_checked(balancer)) {
            // None is one.
            let threads = self.health_threads.max(1);
            writeln!(out, "health checks by at most {threads} threads")?;
        }
        writeln!(out, "listeners")?;
        for listen in &self.listen {
            let protocol = match listen.protocol {
                ListenProtocol::Https => " https",
                ListenProtocol::Http | ListenProtocol::ByPort => "",
            };
            writeln!(out, "  {listen}{protocol}  [{}]", listen.origin)?;
        }
        for listen in &self.control.status {
            writeln!(out, "  {listen} status  [{}]", listen.origin)?;
        }
        for socket in &self.control.sockets {
            write!(
                out,
                "control socket {}, mode {:04o}",
                socket.path.display(),
                self.control.mode
            )?;
            match &socket.origin {
                Some(origin) => writeln!(out, "  [{origin}]")?,
                None => writeln!(out)?,
            }
        }
        write!(out, "{}", self.proxy_protocol)?;
        writeln!(out, "main server {}", self.main.server_name)?;
        write_host(out, &self.main)?;
        for host in &self.virtual_hosts {
            writeln!(out, "virtual host {}  [{}]", host.server_name, host.origin)?;
            for address in &host.addresses {
                let first = self
                    .virtual_hosts
                    .iter()
                    .find(|other| other.addresses.contains(address));
                let default = first.is_some_and(|first| std::sync::Arc::ptr_eq(first, host));
                let mark = if default {
                    ", default of this address"
                } else {
                    ""
                };
                writeln!(out, "  address {address}{mark}")?;
            }
            for name in &host.names {
                writeln!(out, "  name {name}")?;
            }
            write_host(out, host)?;
        }
        Ok(())
    }

    fn write_bounds(&self, out: &mut String) -> fmt::Result {
        match self.max_tunnels {
            Some(most) => write!(out, "tunnels at most {most}")?,
            None => write!(out, "any number of tunnels")?,
        }
        if let Some(rate) = self.handshake_rate {
            write!(out, ", handshakes of an address {rate}")?;
        }
        writeln!(out)
    }
}

/// How many tunnels a host may have.
fn write_tunnel_bounds(out: &mut String, host: &VirtualHost) -> fmt::Result {
    let bounds = &host.bounds;
    let bounds = [
        ("address", bounds.per_address),
        ("host", bounds.per_host),
        ("backend", bounds.per_backend),
    ];
    let set: Vec<_> = bounds
        .into_iter()
        .filter_map(|(what, most)| Some(format!("per {what} {}", most?)))
        .collect();
    if set.is_empty() {
        return Ok(());
    }
    writeln!(out, "  tunnels at most {}", set.join(", "))
}

fn write_host(out: &mut String, host: &VirtualHost) -> fmt::Result {
    if let Some(tls) = &host.tls {
        write_tls(out, host, tls)?;
    }
    write_requests(out, host)?;
    let router = &host.router;
    match router.slashes {
        Slashes::Refused => {}
        Slashes::Decoded => writeln!(out, "  encoded slashes decoded")?,
        Slashes::Kept => writeln!(out, "  encoded slashes kept")?,
    }
    if let Some(remote_ip) = &router.remote_ip {
        writeln!(out, "  client by {remote_ip}")?;
    }
    if router.name.canonical == CanonicalName::On {
        writeln!(out, "  calls itself by its name")?;
    }
    let settings = &router.settings;
    writeln!(
        out,
        "  timeout {}, tunnel idle {}, half closed {}",
        limit(Some(host.timeout)),
        limit(settings.idle_timeout),
        limit(Some(settings.half_close_timeout))
    )?;
    if settings.lifetime.is_some() {
        writeln!(out, "  {}", age(settings.lifetime))?;
    }
    write_tunnel_bounds(out, host)?;
    if settings.asynchronous {
        writeln!(out, "  asynchronous, after {}", span(settings.async_delay))?;
    }
    writeln!(
        out,
        "  preserve host {}, add headers {}",
        on_off(settings.preserve_host),
        on_off(settings.add_headers)
    )?;
    if !settings.passes_expect {
        writeln!(out, "  answers Expect itself")?;
    }
    if settings.via != Via::Off {
        writeln!(out, "  via {:?}", settings.via)?;
    }
    for line in &router.set_env_if {
        writeln!(out, "  {line}")?;
    }
    for variable in &settings.variables {
        writeln!(out, "  {variable}")?;
    }
    for edit in &settings.request_edits {
        writeln!(out, "  request header {edit}")?;
    }
    for line in &settings.reverse {
        writeln!(out, "  reverse {line}")?;
    }
    for edit in &settings.answer_edits {
        writeln!(out, "  header {edit}")?;
    }
    write_errors(out, settings)?;
    write_logs(out, host)?;
    for balancer in &host.balancers {
        balancers::write_balancer(out, host, balancer)?;
    }
    for rule in &host.router.rules.rules {
        for condition in rule.conditions() {
            writeln!(out, "  {condition}")?;
        }
        write!(out, "  {rule}")?;
        if let Some(to) = rule.destination() {
            write!(out, " -> {to}")?;
            write_destination(out, host, to)?;
        }
        writeln!(out, "  [{}]", rule.origin)?;
    }
    for section in &host.router.proxied {
        writeln!(out, "  {}  [{}]", section.name, section.origin)?;
        for change in &section.changes {
            writeln!(out, "    {change}")?;
        }
    }
    for location in &host.router.locations {
        writeln!(out, "  {}  [{}]", location.name, location.origin)?;
        for change in &location.changes {
            writeln!(out, "    {change}")?;
        }
        if let Some(mapping) = &location.mapping {
            write!(out, "  ")?;
            write_mapping(out, host, mapping)?;
        }
    }
    for mapping in &host.router.mappings {
        write_mapping(out, host, mapping)?;
    }
    Ok(())
}

fn write_logs(out: &mut String, host: &VirtualHost) -> fmt::Result {
    if let Some(log) = &host.error_log {
        writeln!(out, "  error log {}, level {}", log.target, log.levels)?;
    }
    for log in &host.access_logs {
        write!(out, "  access log {}", log.target)?;
        if let Some(condition) = &log.condition {
            write!(out, " {condition}")?;
        }
        match log.events {
            Events::End => {}
            Events::Open => write!(out, " event=open")?,
            Events::Both => write!(out, " event=both")?,
        }
        writeln!(out, "  [{}]", log.origin)?;
    }
    Ok(())
}

/// What clients see before their first request.
fn write_tls(out: &mut String, host: &VirtualHost, tls: &ListenerTls) -> fmt::Result {
    let policy = &tls.policy;
    write!(
        out,
        "  TLS {}, handshake within {}, tickets {}, own order {}",
        policy.protocols,
        host.handshake_timeout,
        on_off(tls.tickets),
        on_off(policy.prefers_own_order)
    )?;
    writeln!(
        out,
        "{}",
        if tls.is_strict {
            ", no client without a name"
        } else {
            ""
        }
    )?;
    let lists = [
        ("ciphers", &policy.ciphers),
        ("TLS 1.3 suites", &policy.suites),
        ("groups", &policy.groups),
    ];
    for (name, list) in lists {
        if let Some(list) = list {
            writeln!(out, "  {name} {list}")?;
        }
    }
    if let Some(client) = &policy.client {
        writeln!(
            out,
            "  certificates of clients {}, by {}, at most {} between",
            if client.is_required {
                "required"
            } else {
                "optional"
            },
            client.authorities.path.display(),
            client.depth
        )?;
    }
    for certificate in &tls.certificates {
        write!(out, "  certificate {}", certificate.file.path.display())?;
        if certificate.key != certificate.file {
            write!(out, ", key {}", certificate.key.path.display())?;
        }
        writeln!(out, "  [{}]", certificate.origin)?;
    }
    if let Some(chain) = &tls.chain {
        writeln!(out, "  certificate chain {}", chain.path.display())?;
    }
    Ok(())
}

/// How requests are read, and what exchanges take of the machine.
fn write_requests(out: &mut String, host: &VirtualHost) -> fmt::Result {
    writeln!(
        out,
        "  request head within {}; line {}, field {}, fields {}",
        host.header_timeout, host.limits.line, host.limits.field, host.limits.fields
    )?;
    write!(out, "  request body within {}", host.body_timeout)?;
    match host.router.settings.body_limit {
        Some(most) => writeln!(out, ", at most {most} bytes")?,
        None => writeln!(out)?,
    }
    writeln!(out, "  {}", host.keep_alive)?;
    write!(out, "  reads {} bytes at a time", host.io_buffer)?;
    if let Some(address) = host.source_address {
        write!(out, ", connects from {address}")?;
    }
    if let Some(most) = host.max_forwards {
        write!(out, ", max forwards {most}")?;
    }
    if host.trace != Trace::On {
        write!(out, ", trace {:?}", host.trace)?;
    }
    writeln!(out)
}

fn write_mapping(out: &mut String, host: &VirtualHost, mapping: &Mapping) -> fmt::Result {
    write!(out, "  {} -> ", mapping.place)?;
    match &mapping.action {
        Action::Exclude => write!(out, "excluded")?,
        Action::Proxy(proxy) => {
            let raw = if proxy.is_raw { " nocanon" } else { "" };
            write!(out, "{}", proxy.to)?;
            if let TargetPath::Template(template) = &proxy.path {
                write!(out, "{template}")?;
            }
            write!(out, "{raw}")?;
            write_destination(out, host, &proxy.to)?;
        }
    }
    writeln!(out, "  [{}]", mapping.origin)
}

fn write_destination(out: &mut String, host: &VirtualHost, to: &Destination) -> fmt::Result {
    match to {
        Destination::Backend(backend) => {
            write_backend(out, host, backend, &host.tls_policy(backend))
        }
        // Its members have lines of their own.
        Destination::Balancer { .. } => Ok(()),
    }
}

fn write_backend(
    out: &mut String,
    host: &VirtualHost,
    backend: &Backend,
    tls: &Policy,
) -> fmt::Result {
    let parameters = &backend.parameters;
    if backend.url.scheme.is_tunnel() {
        let upgrade = parameters.upgrade.as_ref().map_or("WebSocket", upgrade);
        write!(out, " upgrade={upgrade}")?;
    } else if parameters.reuse == Some(false) {
        write!(out, " reuse Off")?;
    }
    write!(
        out,
        " connect {} step {}{}",
        limit(Some(host.connect_timeout(backend))),
        limit(Some(host.backend_timeout(backend))),
        if backend.url.scheme.is_tls() {
            format!(" {tls}")
        } else {
            String::new()
        },
    )?;
    match parameters.address_ttl {
        None => {}
        Some(Duration::MAX) => write!(out, " addresses for ever")?,
        Some(limit) => write!(out, " addresses for {}", span(limit))?,
    }
    if let Some(max) = parameters.max {
        let wait = parameters
            .acquire
            .unwrap_or_else(|| host.backend_timeout(backend));
        write!(out, " max {max}, waiting {}", limit(Some(wait)))?;
    }
    if parameters.keepalive == Some(false) {
        write!(out, " keepalive Off")?;
    }
    if let Some(size) = host.backend_receive_buffer(backend) {
        write!(out, " receive buffer {size}")?;
    }
    if let Some(limit) = parameters.ping {
        write!(out, " ping {}", span(limit))?;
    }
    if let Some(limit) = parameters.ttl {
        write!(out, " idle for {}", span(limit))?;
    }
    if let Some(most) = parameters.smax {
        write!(out, " idle at most {most}")?;
    }
    if parameters.io_buffer.is_some() {
        write!(out, " reads {}", host.backend_io_buffer(backend))?;
    }
    if let Some(size) = parameters.answer_field {
        write!(out, " answer field {size}")?;
    }
    if parameters.is_disabled == Some(true) {
        write!(out, " disabled")?;
    }
    Ok(())
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreserveHost(on) => write!(f, "preserve host {}", on_off(*on)),
            Self::AddHeaders(on) => write!(f, "add headers {}", on_off(*on)),
            Self::Access(_) => write!(f, "rules of access"),
            Self::Via(via) => write!(f, "via {via:?}"),
            Self::SetEnvIf(line) => write!(f, "{line}"),
            Self::SetEnv(variable) => write!(f, "{variable}"),
            Self::UnsetEnv(name) => write!(f, "UnsetEnv {name}"),
            Self::RequestHeader(edit) => write!(f, "request header {edit}"),
            Self::Reverse(line) => write!(f, "reverse {line}"),
            Self::Header(edit) => write!(f, "header {edit}"),
            Self::Document(status, document) => write_document(f, *status, document.as_deref()),
            Self::ErrorOverride(which) => write_override(f, which),
            Self::IdleTimeout(idle) => write!(f, "tunnel idle {}", limit(*idle)),
            Self::HalfCloseTimeout(bound) => write!(f, "half closed {}", limit(Some(*bound))),
            Self::Lifetime(lifetime) => f.write_str(&age(*lifetime)),
            Self::Asynchronous(on) => write!(f, "asynchronous {}", on_off(*on)),
            Self::AsyncDelay(delay) => write!(f, "asynchronous after {}", span(*delay)),
            Self::BodyLimit(Some(most)) => write!(f, "request body of at most {most} bytes"),
            Self::BodyLimit(None) => write!(f, "request body of any length"),
            Self::PassesExpect(on) => write!(f, "passes Expect {}", on_off(*on)),
            Self::Handler(Some(handler)) => write!(f, "handler {handler}"),
            Self::Handler(None) => write!(f, "no handler"),
        }
    }
}

impl fmt::Display for ReadTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&limit(Some(self.initial)))?;
        if self.min_rate == 0 || self.initial.is_zero() {
            return Ok(());
        }
        if self.max < LONGEST {
            write!(f, ", up to {}", span(self.max))?;
        }
        write!(f, " at {} bytes/s", self.min_rate)
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_on {
            return f.write_str("keep-alive Off");
        }
        write!(f, "keep-alive for {}", span(self.timeout))?;
        match self.max_requests {
            0 => f.write_str(", any number of requests"),
            most => write!(f, ", at most {most} requests"),
        }
    }
}

fn write_errors(out: &mut String, settings: &Settings) -> fmt::Result {
    for (status, document) in &settings.documents {
        write!(out, "  ")?;
        write_document(out, *status, Some(document))?;
        writeln!(out)?;
    }
    if settings.error_override != ErrorOverride::Off {
        write!(out, "  ")?;
        write_override(out, &settings.error_override)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_document(out: &mut dyn Write, status: u16, document: Option<&Document>) -> fmt::Result {
    write!(out, "error {status} ")?;
    match document {
        None => write!(out, "as usual"),
        Some(Document::Elsewhere(url)) => write!(out, "leads to {url}"),
        Some(Document::Page(page)) => {
            write!(out, "is {} bytes of {}", page.body.len(), page.content_type)
        }
    }
}

fn write_override(out: &mut dyn Write, which: &ErrorOverride) -> fmt::Result {
    match which {
        ErrorOverride::Off => write!(out, "errors of backends pass"),
        ErrorOverride::All => write!(out, "errors of backends are replaced"),
        ErrorOverride::Only(statuses) => {
            write!(out, "errors of backends are replaced:")?;
            statuses
                .iter()
                .try_for_each(|status| write!(out, " {status}"))
        }
    }
}

/// How old tunnels may get.
fn age(lifetime: Option<Lifetime>) -> String {
    match lifetime {
        None => "tunnels of any age".to_owned(),
        Some(Lifetime { most, spread }) => format!(
            "tunnel lifetime {}, less up to {}",
            span(most),
            span(spread)
        ),
    }
}

fn upgrade(upgrade: &Upgrade) -> &str {
    match upgrade {
        Upgrade::Protocol(name) => name,
        Upgrade::Any => "ANY",
        Upgrade::None => "NONE",
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "On" } else { "Off" }
}

/// A duration in the largest unit that shows it whole; zero and none are no limit.
pub(crate) fn limit(duration: Option<Duration>) -> String {
    match duration {
        None | Some(Duration::ZERO) => "unlimited".to_owned(),
        Some(duration) => span(duration),
    }
}

/// A duration in the largest unit that shows it whole.
pub(crate) fn span(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}s", duration.as_secs())
    }
}
