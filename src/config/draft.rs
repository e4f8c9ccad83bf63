//! From directives to a [`Config`]: what is set so far, the walk over sections, and the checks that need the whole.
//!
//! The table's defaults are applied first, then the main server's directives, then each virtual host's on a copy of the
//! main server's settings. So every directive is inherited on its own, and no value has a second place for its default.

use super::directives::{self, Action, Context, Entry, SectionKind};
use super::documents::{DocumentDraft, DocumentRoot, Library, Pages};
use super::findings::{Findings, Origin};
use super::proxy_pass::{MappingDraft, TargetDraft};
use super::proxy_protocol::{self, ProxyProtocol};
use super::rewrite::{self, RewriteDraft, RuleDraft};
use super::sections::{Finished, Kind, LocationDraft, ProxySection, Section as SectionDraft};
use super::syntax::{self, Files, Item, Reading, Section};
use super::{
    AccessLog, BackendTls, Config, ConfigError, ErrorLog, HostAddress, KeepAlive, Listen,
    LogTarget, ReadTimeout, Sources, Trace, VirtualHost, apply, names, remote_ip, set_env, value,
};
use crate::access_log::format::LogFormat;
use crate::http::head::Limits;
use crate::route::access;
use crate::route::environment::Condition;
use crate::route::own_name::CanonicalName;
use crate::route::settings::{Change, ErrorOverride, Settings};
use crate::route::url::{BackendUrl, Slashes};
use crate::route::{HostName, Router};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the whole program. What they begin with is overwritten by the table's defaults.
#[derive(Debug)]
pub(super) struct ProgramDraft {
    pub(super) listen: Vec<Listen>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) max_request_workers: usize,
    pub(super) reactor_threads: usize,
    pub(super) reactor_limit: usize,
    pub(super) thread_stack_size: usize,
    pub(super) listen_backlog: i32,
}

/// Settings of a host. As above, `Default` only stands for "not yet".
#[derive(Debug, Clone, Default)]
pub(super) struct HostDraft {
    pub(super) error_log: LogTarget,
    pub(super) log_level: Option<log::LevelFilter>,
    pub(super) server_name: Option<String>,
    /// What requests may call this host, beside its own `ServerName`; not inherited.
    pub(super) aliases: Vec<String>,
    pub(super) limits: Limits,
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
    pub(super) backend_tls: BackendTls,
    /// Where `SSLProxyEngine Off` stands.
    pub(super) tls_off: Option<Origin>,
    pub(super) mappings: Vec<MappingDraft>,
    pub(super) locations: Vec<Arc<LocationDraft>>,
    pub(super) proxies: Vec<Arc<ProxySection>>,
    /// `RewriteRule` and its kin; each host has its own.
    pub(super) rewrite: RewriteDraft,
    /// The rules that run, also those of the main server.
    rules: Vec<RuleDraft>,
    /// Nicknames; the last of a name counts.
    pub(super) formats: Vec<(String, Arc<LogFormat>)>,
    /// `LogFormat` without a nickname.
    pub(super) transfer_format: Option<Arc<LogFormat>>,
    pub(super) logs: Vec<LogDraft>,
}

/// An access log whose format may still be a name: it may be defined further down.
#[derive(Debug, Clone)]
pub(super) struct LogDraft {
    pub(super) directive: &'static str,
    pub(super) path: PathBuf,
    pub(super) format: FormatDraft,
    pub(super) condition: Option<Condition>,
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
    findings: &'a mut Findings,
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

/// Applies what was read.
pub(super) fn resolve(
    reading: Reading,
    sources: &Sources,
    files: &dyn Files,
) -> Result<Config, Vec<ConfigError>> {
    let whole = Origin {
        file: match &sources.file {
            Some(path) => path.to_string_lossy().into(),
            None => reading.files.first().cloned().unwrap_or_default(),
        },
        line: 0,
    };
    let mut walk = Walk {
        program: ProgramDraft {
            listen: Vec::new(),
            pid_file: None,
            max_request_workers: 0,
            reactor_threads: 0,
            reactor_limit: 0,
            thread_stack_size: 0,
            listen_backlog: 0,
        },
        findings: reading.findings,
        server_root: reading.server_root,
        files,
        library: Library::default(),
    };
    let mut main = HostDraft::default();
    walk.defaults(&mut main);
    let sections = walk.items(&reading.items, Context::Server, &mut main, None);
    let mut hosts = Vec::new();
    for section in sections {
        let addresses = walk.addresses(section);
        let mut host = HostDraft {
            server_name: None,
            server_port: None,
            remote_ip: main.remote_ip.inherited(),
            set_env_if: main.set_env_if.inherited(),
            logs: Vec::new(),
            rewrite: RewriteDraft::default(),
            error_override: ErrorOverride::Off,
            ..main.clone()
        };
        walk.items(&section.body, Context::VirtualHost, &mut host, None);
        if host.logs.is_empty() {
            host.logs = main.logs.clone();
        }
        host.rules = host.rewrite.resolve(Some(&main.rewrite));
        hosts.push((host, addresses, section.origin.clone()));
    }
    main.rules = main.rewrite.resolve(None);

    walk.check(&main, &hosts, &whole);
    let with_addresses = hosts
        .iter()
        .map(|(host, addresses, _)| (host, &**addresses));
    let proxy_protocol = ProxyProtocol::resolve(&main, with_addresses, &mut walk.findings);
    let main_name = match &main.server_name {
        Some(name) => name.clone(),
        None => files
            .host_name()
            .filter(|name| value::server_name(name).is_ok())
            .unwrap_or_else(|| "localhost".to_owned()),
    };
    let main_draft = main.clone();
    let ErrorLog {
        target: error_log,
        level: log_level,
    } = main_draft.error_log();
    let main = Arc::new(walk.host(main, &main_name, Vec::new(), whole, None));
    let virtual_hosts = hosts
        .into_iter()
        .map(|(host, addresses, origin)| {
            let same = host.proxies.len() == main_draft.proxies.len()
                && host.interpolates == main_draft.interpolates
                && (host.document_root == main_draft.document_root || !main_draft.has_files());
            let inherited = same.then(|| &main.router);
            let own_log = host.error_log();
            let own_log = (own_log != main_draft.error_log()).then_some(own_log);
            let mut host = walk.host(host, &main_name, addresses, origin, inherited);
            host.error_log = own_log;
            Arc::new(host)
        })
        .collect();

    let mut findings = walk.findings;
    findings.sort(&reading.files);
    if !findings.errors.is_empty() {
        return Err(findings.errors);
    }
    let program = walk.program;
    Ok(Config {
        listen: program.listen,
        error_log,
        log_level,
        pid_file: program.pid_file,
        max_request_workers: program.max_request_workers,
        reactor_threads: program.reactor_threads,
        reactor_limit: program.reactor_limit,
        thread_stack_size: program.thread_stack_size,
        listen_backlog: program.listen_backlog,
        server_root: walk.server_root,
        proxy_protocol,
        main,
        virtual_hosts,
        warnings: findings.warnings,
    })
}

/// A host, the addresses of its section, and where it begins.
type Hosted = (HostDraft, Vec<HostAddress>, Origin);

/// The nicknames that every packaged configuration of httpd defines, and that files for single sites take for granted.
const NICKNAMES: [(&str, &str); 3] = [
    ("common", r#"%h %l %u %t "%r" %>s %O"#),
    (
        "combined",
        r#"%h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#,
    ),
    (
        "vhost_combined",
        r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#,
    ),
];

struct Walk<'a> {
    program: ProgramDraft,
    findings: Findings,
    server_root: PathBuf,
    files: &'a dyn Files,
    library: Library,
}

impl Walk<'_> {
    /// Applies the table's defaults. A default that its own directive refuses would be a defect of the table; a test
    /// holds it to that, and here it shows as an error like any other.
    fn defaults(&mut self, host: &mut HostDraft) {
        let at = Origin {
            file: "default".into(),
            line: 0,
        };
        for entry in directives::TABLE {
            if let Some(default) = entry.default {
                self.apply(entry, default, &at, host, None);
            }
        }
        // The one nickname that httpd has of its own.
        if let Some(format) = &host.transfer_format {
            host.formats.push(("CLF".to_owned(), Arc::clone(format)));
        }
        for (nickname, format) in NICKNAMES {
            match LogFormat::parse(format) {
                Ok(format) => host.formats.push((nickname.to_owned(), Arc::new(format))),
                Err(problem) => self.findings.error(&at, "LogFormat", problem),
            }
        }
    }

    /// Applies directives in order, and returns the virtual hosts among them.
    fn items<'i>(
        &mut self,
        items: &'i [Item],
        context: Context,
        host: &mut HostDraft,
        mut inside: Option<&mut SectionDraft>,
    ) -> Vec<&'i Section> {
        let mut hosts = Vec::new();
        for item in items {
            match item {
                Item::Directive(directive) => {
                    let entry = self.look_up(&directive.name, &directive.origin, context);
                    if let Some(entry) = entry {
                        let (arguments, at) = (&directive.arguments, &directive.origin);
                        self.apply(entry, arguments, at, host, inside.as_deref_mut());
                    }
                }
                Item::Section(section) => {
                    let name = format!("<{}>", section.name);
                    let entry = self.look_up(&name, &section.origin, context);
                    match entry.map(|entry| (entry.name, entry.action)) {
                        Some((_, Action::Section(SectionKind::Host))) => hosts.push(section),
                        Some((name, Action::Section(SectionKind::Place(kind)))) => {
                            self.place(name, kind, section, host);
                        }
                        Some((name, Action::Section(SectionKind::Access(kind)))) => {
                            if let Some(inside) = inside.as_deref_mut() {
                                self.access(name, kind, section, context, host, inside);
                            }
                        }
                        Some((name, Action::Section(SectionKind::Files))) => {
                            let text = "nothing in it has an effect: this program serves no files";
                            self.findings.note(&section.origin, name, text);
                        }
                        _ => {}
                    }
                }
            }
        }
        hosts
    }

    /// A `<RequireAll>`, or one of its kind.
    fn access(
        &mut self,
        name: &'static str,
        kind: access::Kind,
        section: &Section,
        context: Context,
        host: &mut HostDraft,
        inside: &mut SectionDraft,
    ) {
        let at = &section.origin;
        if !section.arguments.is_empty() {
            let problem = format!(
                "expected nothing behind it, found \"{}\"",
                section.arguments
            );
            self.findings.error(at, name, problem);
        }
        if let Err(problem) = inside.access.open(kind) {
            self.findings.error(at, name, problem);
        }
        self.items(&section.body, context, host, Some(&mut *inside));
        if let Err(problem) = inside.access.close() {
            self.findings.error(at, name, problem);
        }
    }

    /// A `<Location>` or `<Proxy>` with what is in it.
    fn place(&mut self, name: &'static str, kind: Kind, section: &Section, host: &mut HostDraft) {
        let at = &section.origin;
        let words = match syntax::words(&section.arguments) {
            Ok(words) => words,
            Err(problem) => return self.findings.error(at, name, problem),
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut draft = match SectionDraft::begin(kind, &words, at, &self.server_root) {
            Ok(draft) => draft,
            Err(problem) => return self.findings.error(at, name, problem),
        };
        if let [_, parameters @ ..] = words.as_slice()
            && draft.backend().is_some()
            && !parameters.is_empty()
        {
            let mut scope = self.scope(name, at, host, Some(&mut draft));
            if let Err(problem) = apply::proxy_set(&mut scope, parameters) {
                scope.error(problem);
            }
        }
        let context = match kind {
            Kind::Location | Kind::LocationMatch => Context::Location,
            Kind::Proxy | Kind::ProxyMatch => Context::Proxy,
        };
        self.items(&section.body, context, host, Some(&mut draft));
        match draft.finish() {
            Finished::Location(location) => host.locations.push(location),
            Finished::Proxy(proxy) => host.proxies.push(proxy),
        }
    }

    /// Finds a name in the table, if it may stand here.
    fn look_up(&mut self, name: &str, at: &Origin, context: Context) -> Option<&'static Entry> {
        let Some(entry) = directives::find(name) else {
            let problem = match names::unsupported(name) {
                Some(hint) => hint.to_owned(),
                None => match names::near_miss(name, directives::TABLE.iter().map(|e| e.name)) {
                    Some(near) => format!("unknown directive; did you mean \"{near}\"?"),
                    None => "unknown directive; \"proxy-wstunnel -L\" lists all".to_owned(),
                },
            };
            self.findings.error(at, name, problem);
            return None;
        };
        if !entry.contexts.contains(&context) {
            let mut allowed: Vec<String> = entry.contexts.iter().map(Context::to_string).collect();
            let last = allowed.pop().unwrap_or_default();
            let and = if allowed.is_empty() { "" } else { " and " };
            let allowed = allowed.join(", ");
            let problem = format!("not allowed in {context}; allowed in {allowed}{and}{last}");
            self.findings.error(at, entry.name, problem);
            return None;
        }
        Some(entry)
    }

    fn apply(
        &mut self,
        entry: &Entry,
        arguments: &str,
        at: &Origin,
        host: &mut HostDraft,
        section: Option<&mut SectionDraft>,
    ) {
        // What the reader obeys, it has judged as well.
        if matches!(entry.action, Action::Reader | Action::Section(_)) {
            return;
        }
        let mut scope = self.scope(entry.name, at, host, section);
        if let Err(problem) = entry.apply(&mut scope, arguments) {
            scope.error(problem);
        }
    }

    fn scope<'a>(
        &'a mut self,
        directive: &'static str,
        at: &'a Origin,
        host: &'a mut HostDraft,
        section: Option<&'a mut SectionDraft>,
    ) -> Scope<'a> {
        Scope {
            program: &mut self.program,
            host,
            section,
            at,
            directive,
            files: self.files,
            server_root: &self.server_root,
            findings: &mut self.findings,
        }
    }

    fn addresses(&mut self, section: &Section) -> Vec<HostAddress> {
        let words = syntax::words(&section.arguments).unwrap_or_else(|problem| {
            self.findings
                .error(&section.origin, "<VirtualHost>", problem);
            Vec::new()
        });
        if words.is_empty() {
            let problem = "expected one or more addresses, such as *:80 or [::1]:8080";
            self.findings
                .error(&section.origin, "<VirtualHost>", problem);
        }
        let mut addresses = Vec::new();
        for word in words {
            match value::host_address(&word) {
                Ok((address, port)) => addresses.push(HostAddress { address, port }),
                Err(problem) => self
                    .findings
                    .error(&section.origin, "<VirtualHost>", problem),
            }
        }
        addresses
    }

    /// What only shows when everything is known.
    fn check(&mut self, main: &HostDraft, hosts: &[Hosted], whole: &Origin) {
        let reported = |error: &ConfigError| {
            // The line may be the one that failed, or in a file that could not be read.
            ["Listen", "Include", "IncludeOptional", ""].contains(&error.directive.as_str())
        };
        if self.program.listen.is_empty() && !self.findings.errors.iter().any(reported) {
            let problem = "there is none; say where to listen, for example \"Listen 8080\"";
            self.findings.error(whole, "Listen", problem);
        }
        self.check_tls_off(main, None);
        main.rewrite.check(None, &mut self.findings);
        let heirs = hosts.iter().map(|(host, _, _)| &host.remote_ip);
        main.remote_ip.check(heirs, &mut self.findings);
        let drafts = std::iter::once(main).chain(hosts.iter().map(|(host, _, _)| host));
        self.check_sections(&main.proxies, drafts);
        for (host, addresses, origin) in hosts {
            self.check_tls_off(host, Some(main));
            host.rewrite.check(Some(&main.rewrite), &mut self.findings);
            host.remote_ip.check(std::iter::empty(), &mut self.findings);
            let own = host.proxies.get(main.proxies.len()..).unwrap_or_default();
            self.check_sections(own, [host]);
            for address in addresses {
                self.check_listened(*address, origin);
            }
        }
        let maps = |host: &HostDraft| host.urls().next().is_some();
        let routed = maps(main) || hosts.iter().any(|(host, _, _)| maps(host));
        if !routed && self.findings.errors.is_empty() {
            let text = "there is none, so every request is answered with 404";
            self.findings.warning(whole, "ProxyPass", text);
        }
    }

    /// An explicit `SSLProxyEngine Off` contradicts a `wss://` or `https://` entry.
    fn check_tls_off(&mut self, host: &HostDraft, main: Option<&HostDraft>) {
        let Some(off) = &host.tls_off else { return };
        // What the main server gets wrong by itself is its own error, and not that of each host that inherits it.
        let is_inherited = |mapping: &MappingDraft| {
            main.is_some_and(|main| {
                main.tls_off == host.tls_off && main.targets().any(|(own, _)| own.at == mapping.at)
            })
        };
        let mappings = host
            .targets()
            .filter(|(mapping, target)| target.url.scheme.is_tls() && !is_inherited(mapping))
            .map(|(mapping, target)| (&mapping.at, mapping.directive, target.url.scheme));
        let rules = host.rules.iter();
        let rules = rules
            .filter_map(|rule| Some((&rule.at, "RewriteRule", rule.url()?.scheme)))
            .filter(|(_, _, scheme)| scheme.is_tls());
        for (at, directive, scheme) in mappings.chain(rules) {
            let (scheme, plain) = (scheme.name(), scheme.without_tls().name());
            let problem = format!(
                "{scheme}:// needs TLS, but \"SSLProxyEngine Off\" stands at {off}; remove that line, or write {plain}://"
            );
            self.findings.error(at, directive, problem);
        }
    }

    /// `ProxySet url` and `<Proxy url>` are about a backend that some mapping has.
    fn check_sections<'h>(
        &mut self,
        sections: &[Arc<ProxySection>],
        hosts: impl IntoIterator<Item = &'h HostDraft>,
    ) {
        if sections.is_empty() {
            return;
        }
        let urls: Vec<_> = hosts.into_iter().flat_map(HostDraft::urls).collect();
        for section in sections {
            let Some(text) = section.idle(&urls) else {
                continue;
            };
            match section.directive {
                "ProxySet" => self.findings.error(&section.at, "ProxySet", text),
                directive => self.findings.warning(&section.at, directive, text),
            }
        }
    }

    fn check_listened(&mut self, address: HostAddress, at: &Origin) {
        let serves = |listen: &Listen| {
            let same_port = address.port.is_none_or(|port| port == listen.port) || listen.port == 0;
            let same_address = match (address.address, listen.address) {
                (Some(own), Some(listened)) => own == listened || listened.is_unspecified(),
                _ => true,
            };
            same_port && same_address
        };
        if !self.program.listen.is_empty() && !self.program.listen.iter().any(serves) {
            let text = format!("no Listen serves {address}, so this host is never chosen by it");
            self.findings.warning(at, "<VirtualHost>", text);
        }
    }

    fn host(
        &mut self,
        mut draft: HostDraft,
        main_name: &str,
        addresses: Vec<HostAddress>,
        origin: Origin,
        main: Option<&Router>,
    ) -> VirtualHost {
        let mut access_logs = Vec::new();
        for log in &draft.logs {
            match draft.format(&log.format) {
                Ok(format) => access_logs.push(AccessLog {
                    path: log.path.clone(),
                    format,
                    condition: log.condition.clone(),
                    origin: log.origin.clone(),
                }),
                Err(problem) => self.findings.error(&log.origin, log.directive, problem),
            }
        }
        let names = draft.server_name.iter().chain(&draft.aliases);
        let names = names
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
            .collect();
        let server_name: Arc<str> = draft.server_name.as_deref().unwrap_or(main_name).into();
        let mut pages = Pages {
            library: &mut self.library,
            files: self.files,
            root: draft.document_root.as_ref(),
            findings: &mut self.findings,
        };
        for change in pages.changes(&draft.documents) {
            draft.settings.apply(&change);
        }
        let mut router = draft.router(main, &mut pages);
        router.remote_ip = draft.remote_ip.clone().resolve(&mut self.findings);
        router.name = HostName {
            server_name: Arc::clone(&server_name),
            port: draft.server_port,
            canonical: draft.canonical_name,
        };
        VirtualHost {
            error_log: None,
            server_name,
            names,
            addresses,
            origin,
            limits: draft.limits,
            header_timeout: draft.header_timeout,
            body_timeout: draft.body_timeout,
            keep_alive: draft.keep_alive.resolved(),
            trace: draft.trace,
            timeout: draft.timeout,
            proxy_timeout: draft.proxy_timeout,
            io_buffer: draft.io_buffer,
            receive_buffer: draft.receive_buffer,
            source_address: draft.source_address,
            max_forwards: draft.max_forwards,
            backend_tls: draft.backend_tls,
            access_logs,
            router,
        }
    }
}

impl HostDraft {
    fn error_log(&self) -> ErrorLog {
        ErrorLog {
            target: self.error_log.clone(),
            level: self.log_level.unwrap_or(log::LevelFilter::Warn),
        }
    }

    /// Every mapping that leads to a backend.
    fn targets(&self) -> impl Iterator<Item = (&MappingDraft, &TargetDraft)> {
        let own = self
            .locations
            .iter()
            .filter_map(|location| location.mapping.as_ref());
        let all = self.mappings.iter().chain(own);
        all.filter_map(|mapping| Some((mapping, mapping.target.as_ref()?)))
    }

    /// Whether what its locations mean depends on `DocumentRoot`.
    fn has_files(&self) -> bool {
        self.locations.iter().any(|location| location.has_files())
    }

    /// The URL of every backend that a request can be led to.
    fn urls(&self) -> impl Iterator<Item = &BackendUrl> {
        let mapped = self.targets().map(|(_, target)| &target.url);
        mapped.chain(self.rules.iter().filter_map(RuleDraft::url))
    }

    /// `main` is that of the main server, whose entries come first, where they mean the same here: many hosts then share
    /// them.
    fn router(&self, main: Option<&Router>, pages: &mut Pages<'_>) -> Router {
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
            settings: self.settings.clone(),
            rules: rewrite::finish(self.rules.clone(), &self.proxies),
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
                        .map(|location| location.resolve(&self.proxies, self.interpolates, pages)),
                )
                .collect(),
            mappings: inherited
                .iter()
                .cloned()
                .chain(
                    self.mappings
                        .iter()
                        .skip(inherited.len())
                        .map(|mapping| mapping.resolve(&self.proxies, self.interpolates)),
                )
                .collect(),
        }
    }

    fn format(&self, wanted: &FormatDraft) -> Result<Arc<LogFormat>, String> {
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
