//! What is set so far: the settings of the program and of a host while directives are applied, and what a directive may
//! look at and change meanwhile.

use super::backend_tls::Engine;
use super::balancers::{BalancerDraft, Known};
use super::documents::{DocumentDraft, DocumentRoot, Pages};
use super::findings::{Findings, Origin};
use super::health::Templates;
use super::proxy_pass::MappingDraft;
use super::rewrite::{self, RewriteDraft, RuleDraft};
use super::sections::{LocationDraft, ProxySection, Section as SectionDraft};
use super::syntax::Files;
use super::{
    Account, Fate, HostAddress, KeepAlive, Listen, Rate, ReadTimeout, Trace, control, limits,
    names, proxy_protocol, remote_ip, set_env, tls,
};
use crate::access_log::format::LogFormat;
use crate::http::head::Limits;
use crate::logging::{ErrorLogTerms, Events, Target};
use crate::route::access;
use crate::route::destination::BalancerUrl;
use crate::route::environment::Condition;
use crate::route::own_name::CanonicalName;
use crate::route::settings::{Change, ErrorOverride, Settings};
use crate::route::url::Slashes;
use crate::route::{HostName, Router};
use crate::tls::backend::Demands;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the whole program. `Default` only stands for "not yet": the table has the defaults.
#[derive(Debug, Default)]
pub(super) struct ProgramDraft {
    pub(super) listen: Vec<Listen>,
    pub(super) control: control::Draft,
    pub(super) user: Option<(Account, Origin)>,
    pub(super) group: Option<(Account, Origin)>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) graceful_shutdown: Option<Duration>,
    pub(super) max_request_workers: usize,
    pub(super) reactor_threads: usize,
    pub(super) reactor_limit: usize,
    pub(super) max_tunnels: Option<usize>,
    pub(super) handshake_rate: Option<Rate>,
    pub(super) on_reload: Fate,
    pub(super) on_upgrade: Fate,
    pub(super) thread_stack_size: usize,
    pub(super) listen_backlog: i32,
    pub(super) health_threads: usize,
}

/// Settings of a host. `Default` as above.
#[derive(Debug, Clone, Default)]
pub(super) struct HostDraft {
    pub(super) error_log: ErrorLogTerms,
    pub(super) server_name: Option<String>,
    /// What requests may call this host, beside its own `ServerName`; not inherited.
    pub(super) aliases: Vec<String>,
    pub(super) bounds: limits::Draft,
    pub(super) limits: Limits,
    pub(super) tls: tls::Draft,
    pub(super) handshake_timeout: ReadTimeout,
    pub(super) header_timeout: ReadTimeout,
    pub(super) body_timeout: ReadTimeout,
    pub(super) keep_alive: KeepAlive,
    pub(super) trace: Trace,
    pub(super) timeout: Duration,
    pub(super) proxy_timeout: Option<Duration>,
    pub(super) io_buffer: usize,
    pub(super) receive_buffer: Option<usize>,
    pub(super) source_address: Option<IpAddr>,
    pub(super) max_forwards: Option<u32>,
    pub(super) server_port: Option<u16>,
    pub(super) canonical_name: CanonicalName,
    pub(super) remote_ip: remote_ip::Draft,
    pub(super) set_env_if: set_env::Draft,
    pub(super) interpolates: bool,
    pub(super) slashes: Slashes,
    pub(super) settings: Settings,
    pub(super) documents: Vec<DocumentDraft>,
    pub(super) document_root: Option<DocumentRoot>,
    /// What the host's own lines of `ProxyErrorOverride` say together; not inherited, since `settings` has it.
    pub(super) error_override: ErrorOverride,
    pub(super) proxy_protocol: proxy_protocol::Draft,
    pub(super) backend_tls: Demands,
    /// `SSLProxyEngine`
    pub(super) engine: Option<Engine>,
    pub(super) mappings: Vec<MappingDraft>,
    pub(super) locations: Vec<Arc<LocationDraft>>,
    pub(super) proxies: Vec<Arc<ProxySection>>,
    /// `ProxyHCTemplate`
    pub(super) templates: Templates,
    /// What the host's own lines say of balancers; not inherited.
    pub(super) balancers: Vec<BalancerDraft>,
    /// The balancers whose addresses a `ProxyPassReverse` of the host names; not inherited.
    pub(super) reversed: Vec<(BalancerUrl, Origin)>,
    /// `RewriteRule` and its kin; each host has its own.
    pub(super) rewrite: RewriteDraft,
    /// The rules that run, also those of the main server.
    pub(super) rules: Vec<RuleDraft>,
    /// Nicknames; the last of a name counts.
    pub(super) formats: Vec<(String, Arc<LogFormat>)>,
    /// `LogFormat` without a nickname.
    pub(super) transfer_format: Option<Arc<LogFormat>>,
    pub(super) logs: Vec<LogDraft>,
}

/// A host, the addresses of its section, and where it begins.
pub(super) type Hosted = (HostDraft, Vec<HostAddress>, Origin);

/// An access log whose format may still be a name: it may be defined further down.
#[derive(Debug, Clone)]
pub(super) struct LogDraft {
    pub(super) directive: &'static str,
    pub(super) target: Target,
    pub(super) format: FormatDraft,
    pub(super) condition: Option<Condition>,
    pub(super) events: Events,
    pub(super) origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) enum FormatDraft {
    Ready(Arc<LogFormat>),
    Nickname(String),
    /// Whatever `LogFormat` without a nickname says in the end.
    Transfer,
}

/// What an apply function may look at and change.
pub(super) struct Scope<'a> {
    pub(super) program: &'a mut ProgramDraft,
    pub(super) host: &'a mut HostDraft,
    /// The `<Location>` or `<Proxy>` that the directive stands in.
    pub(super) section: Option<&'a mut SectionDraft>,
    /// Where the directive stands.
    pub(super) at: &'a Origin,
    /// Its name as the table spells it.
    pub(super) directive: &'static str,
    pub(super) files: &'a dyn Files,
    pub(super) server_root: &'a Path,
    pub(super) findings: &'a mut Findings,
}

impl Scope<'_> {
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.findings.warning(self.at, self.directive, text);
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.findings.note(self.at, self.directive, text);
    }

    /// The rules of access of the section, where alone they may stand.
    pub(super) fn access(&mut self) -> Result<&mut access::Builder, String> {
        let section = self.section.as_mut();
        let section =
            section.ok_or_else(|| "not allowed outside of <Location> and <Proxy>".to_owned())?;
        Ok(&mut section.access)
    }

    /// A setting of the section, or of the host outside of sections.
    pub(super) fn change(&mut self, change: Change) {
        match &mut self.section {
            Some(section) => section.changes.push(change),
            None => self.host.settings.apply(&change),
        }
    }

    /// Reports a problem and lets the caller go on to find more.
    pub(super) fn error(&mut self, problem: impl Into<String>) {
        self.findings.error(self.at, self.directive, problem);
    }

    /// A path; a relative one is below `ServerRoot`.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("expected a path, found \"\"".to_owned());
        }
        Ok(self.server_root.join(text))
    }
}

impl HostDraft {
    /// What a virtual host begins with where this is the main server.
    pub(super) fn heir(&self) -> Self {
        Self {
            server_name: None,
            server_port: None,
            remote_ip: self.remote_ip.inherited(),
            set_env_if: self.set_env_if.inherited(),
            tls: self.tls.inherited(),
            templates: self.templates.inherited(),
            logs: Vec::new(),
            rewrite: RewriteDraft::default(),
            balancers: Vec::new(),
            reversed: Vec::new(),
            error_override: ErrorOverride::Off,
            ..self.clone()
        }
    }

    /// Whether what its locations mean depends on `DocumentRoot`.
    pub(super) fn has_files(&self) -> bool {
        self.locations.iter().any(|location| location.has_files())
    }

    /// `main` is that of the main server, whose entries come first, where they mean the same here: many hosts then share
    /// them.
    pub(super) fn router(
        &self,
        main: Option<&Router>,
        known: Known<'_>,
        pages: &mut Pages<'_>,
    ) -> Router {
        let inherited = main
            .map(|main| main.mappings.as_slice())
            .unwrap_or_default();
        let locations = main
            .map(|main| main.locations.as_slice())
            .unwrap_or_default();
        Router {
            name: HostName::default(),
            remote_ip: None,
            slashes: self.slashes,
            set_env_if: self.set_env_if.lines.clone(),
            settings: self.settings(known),
            rules: rewrite::finish(self.rules.clone(), known),
            proxied: self
                .proxies
                .iter()
                .filter_map(|section| section.resolve(pages))
                .collect(),
            locations: locations
                .iter()
                .cloned()
                .chain(
                    self.locations
                        .iter()
                        .skip(locations.len())
                        .map(|location| location.resolve(known, self.interpolates, pages)),
                )
                .collect(),
            mappings: inherited
                .iter()
                .cloned()
                .chain(
                    self.mappings
                        .iter()
                        .skip(inherited.len())
                        .map(|mapping| mapping.resolve(known, self.interpolates)),
                )
                .collect(),
        }
    }

    /// What holds outside of sections.
    fn settings(&self, known: Known<'_>) -> Settings {
        let mut settings = self.settings.clone();
        let lines = settings.reverse.into_iter();
        settings.reverse = lines.flat_map(|line| known.reverse(line)).collect();
        settings
    }

    pub(super) fn format(&self, wanted: &FormatDraft) -> Result<Arc<LogFormat>, String> {
        let nickname = match wanted {
            FormatDraft::Ready(format) => return Ok(Arc::clone(format)),
            FormatDraft::Transfer => {
                return self
                    .transfer_format
                    .clone()
                    .ok_or_else(|| "there is no LogFormat without a nickname".to_owned());
            }
            FormatDraft::Nickname(nickname) => nickname,
        };
        let found = self
            .formats
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case(nickname));
        if let Some((_, format)) = found {
            return Ok(Arc::clone(format));
        }
        let known = self.formats.iter().map(|(name, _)| name.as_str());
        Err(match names::near_miss(nickname, known) {
            Some(near) => {
                format!("no LogFormat has the nickname \"{nickname}\"; did you mean \"{near}\"?")
            }
            None => format!(
                "no LogFormat has the nickname \"{nickname}\"; write LogFormat \"...\" {nickname}"
            ),
        })
    }
}
