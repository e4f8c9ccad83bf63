//! What `-S` prints: the resolved configuration, as a reader of logs or a script wants it.

use super::{Config, VirtualHost};
use crate::handshake::Upgrade;
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
            self.error_log,
            self.log_level.as_str().to_ascii_lowercase()
        )?;
        if let Some(path) = &self.pid_file {
            writeln!(out, "pid file {}", path.display())?;
        }
        writeln!(
            out,
            "workers {}, stack of {} bytes, backlog {}",
            self.max_request_workers, self.thread_stack_size, self.listen_backlog
        )?;
        writeln!(out, "listeners")?;
        for listen in &self.listen {
            writeln!(out, "  {listen}  [{}]", listen.origin)?;
        }
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
}

fn write_host(out: &mut String, host: &VirtualHost) -> fmt::Result {
    let head = host.header_timeout;
    write!(out, "  request head within {}", limit(Some(head.initial)))?;
    if head.min_rate > 0 && !head.initial.is_zero() {
        write!(
            out,
            ", up to {} at {} bytes/s",
            limit(Some(head.max)),
            head.min_rate
        )?;
    }
    writeln!(
        out,
        "; line {}, field {}, fields {}",
        host.limits.line, host.limits.field, host.limits.fields
    )?;
    writeln!(
        out,
        "  timeout {}, tunnel idle {}, half closed {}",
        limit(Some(host.timeout)),
        limit(host.idle_timeout),
        limit(Some(host.half_close_timeout))
    )?;
    if host.asynchronous {
        writeln!(
            out,
            "  asynchronous, after {}",
            limit(Some(host.async_delay))
        )?;
    }
    writeln!(
        out,
        "  preserve host {}, add headers {}",
        on_off(host.preserve_host),
        on_off(host.add_headers)
    )?;
    for log in &host.access_logs {
        writeln!(out, "  access log {}  [{}]", log.path.display(), log.origin)?;
    }
    for mapping in &host.router.mappings {
        writeln!(
            out,
            "  {:?} -> {} upgrade={} connect {} step {}{}  [{}]",
            mapping.prefix,
            mapping.url,
            upgrade(&mapping.upgrade),
            limit(Some(host.connect_timeout(mapping))),
            limit(Some(host.backend_timeout(mapping))),
            if mapping.url.tls { verified(host) } else { "" },
            mapping.origin
        )?;
    }
    Ok(())
}

fn upgrade(upgrade: &Upgrade) -> &str {
    match upgrade {
        Upgrade::Protocol(name) => name,
        Upgrade::Any => "ANY",
        Upgrade::None => "NONE",
    }
}

fn verified(host: &VirtualHost) -> &'static str {
    match (host.backend_tls.verify, &host.backend_tls.ca_file) {
        (false, _) => " not verified",
        (true, None) => " verified by the system's authorities",
        (true, Some(_)) => " verified by SSLProxyCACertificateFile",
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "On" } else { "Off" }
}

/// A duration in the largest unit that shows it whole; zero and none are no limit.
fn limit(duration: Option<Duration>) -> String {
    match duration {
        None | Some(Duration::ZERO) => "unlimited".to_owned(),
        Some(duration) if duration.subsec_millis() > 0 => format!("{}ms", duration.as_millis()),
        Some(duration) => format!("{}s", duration.as_secs()),
    }
}
