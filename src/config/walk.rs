//! From directives to a [`Config`]: the walk over sections, and what becomes of each host.
//!
//! The table's defaults are applied first, then the main server's directives, then each virtual host's on a copy of the
//! main server's settings. So every directive is inherited on its own, and no value has a second place for its default.

use super::balancers::Known;
use super::directives::{self, Action, Context, Entry, SectionKind};
use super::documents::{Library, Pages};
use super::draft::{HostDraft, ProgramDraft, Scope};
use super::findings::{Findings, Origin};
use super::proxy_protocol::ProxyProtocol;
use super::sections::{Finished, Kind, Section as SectionDraft};
use super::syntax::{self, Files, Item, Reading, Section};
use super::{
    AccessLog, Config, ConfigError, Control, HostAddress, Sources, VirtualHost, apply, balancers,
    checks, limits, names, tls, value,
};
use crate::access_log::format::{self, LogFormat};
use crate::balancer::Balancer;
use crate::route::access;
use crate::route::{HostName, Router};
use std::path::PathBuf;
use std::sync::Arc;

/// Applies what was read.
pub(super) fn resolve(
    reading: Reading,
    sources: &Sources,
    files: &dyn Files,
) -> Result<Config, Vec<ConfigError>> {
    let whole = whole(&reading, sources);
    let (mut walk, mut main) = Walk::begin(reading.findings, reading.server_root, files);
    let sections = walk.items(&reading.items, Context::Server, &mut main, None);
    let mut hosts = Vec::new();
    for section in sections {
        let addresses = walk.addresses(section);
        let mut host = main.heir();
        walk.items(&section.body, Context::VirtualHost, &mut host, None);
        if host.logs.is_empty() {
            host.logs = main.logs.clone();
        }
        host.rules = host.rewrite.resolve(Some(&main.rewrite));
        hosts.push((host, addresses, section.origin.clone()));
    }
    main.rules = main.rewrite.resolve(None);

    checks::check(
        &walk.program.listen,
        &main,
        &hosts,
        &whole,
        &mut walk.findings,
    );
    limits::check(&walk.program, &main, &hosts, &mut walk.findings);
    let with_addresses = hosts
        .iter()
        .map(|(host, addresses, _)| (host, &**addresses));
    let proxy_protocol = ProxyProtocol::resolve(&main, with_addresses, &mut walk.findings);
    let mut tls = tls::resolve(
        &walk.program.listen,
        (&main, &whole),
        &hosts,
        &mut walk.findings,
    )
    .into_iter();
    let main_name = name_of(&main, files);
    let main_draft = main.clone();
    let balancers = balancers::of_main(&main, &hosts);
    let mut main = walk.host(main, &main_name, Vec::new(), whole, None, balancers);
    main.tls = tls.next().flatten();
    let main = Arc::new(main);
    let virtual_hosts = hosts
        .into_iter()
        .map(|(host, addresses, origin)| {
            let same = host.proxies.len() == main_draft.proxies.len()
                && host.interpolates == main_draft.interpolates
                && (host.document_root == main_draft.document_root || !main_draft.has_files());
            let inherited = Inherited {
                router: same.then_some(&main.router),
                balancers: &main.balancers,
            };
            let own = balancers::of_host(&host);
            let own_log = (host.error_log != main_draft.error_log).then(|| host.error_log.clone());
            let mut host = walk.host(host, &main_name, addresses, origin, Some(inherited), own);
            host.error_log = own_log;
            host.tls = tls.next().flatten();
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
        control: program.control.resolve(),
        error_log: main_draft.error_log,
        user: program.user,
        group: program.group,
        pid_file: program.pid_file,
        graceful_shutdown: program.graceful_shutdown,
        max_request_workers: program.max_request_workers,
        reactor_threads: program.reactor_threads,
        reactor_limit: program.reactor_limit,
        max_tunnels: program.max_tunnels,
        handshake_rate: program.handshake_rate,
        on_reload: program.on_reload,
        on_upgrade: program.on_upgrade,
        thread_stack_size: program.thread_stack_size,
        listen_backlog: program.listen_backlog,
        health_threads: program.health_threads,
        server_root: walk.server_root,
        proxy_protocol,
        main,
        virtual_hosts,
        warnings: findings.warnings,
    })
}

/// Where it is asked about itself, of all that was read.
pub(super) fn control(reading: Reading, files: &dyn Files) -> Control {
    let (mut walk, mut main) = Walk::begin(reading.findings, reading.server_root, files);
    walk.items(&reading.items, Context::Server, &mut main, None);
    walk.program.control.resolve()
}

/// Where what concerns all of the configuration comes from.
fn whole(reading: &Reading, sources: &Sources) -> Origin {
    let file = match &sources.file {
        Some(path) => path.to_string_lossy().into(),
        None => reading.files.first().cloned().unwrap_or_default(),
    };
    Origin { file, line: 0 }
}

/// The name of the main server.
fn name_of(main: &HostDraft, files: &dyn Files) -> String {
    let given = main.server_name.clone();
    let of_machine = || {
        let name = files.host_name();
        name.filter(|name| value::server_name(name).is_ok())
    };
    given
        .or_else(of_machine)
        .unwrap_or_else(|| "localhost".to_owned())
}

/// What tells a host from the others. Of two that are the same in all this, the second is never chosen.
fn identity(server_name: &str, names: &[String], addresses: &[HostAddress]) -> Arc<str> {
    let addresses = addresses.iter().map(HostAddress::to_string);
    let parts = std::iter::once(server_name.to_owned());
    let parts: Vec<_> = parts
        .chain(names.iter().cloned())
        .chain(addresses)
        .collect();
    parts.join(" ").into()
}

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

/// What a virtual host has from the main server.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    /// Where it means the same.
    router: Option<&'a Router>,
    balancers: &'a [Arc<Balancer>],
}

struct Walk<'a> {
    program: ProgramDraft,
    findings: Findings,
    server_root: PathBuf,
    files: &'a dyn Files,
    library: Library,
}

impl<'f> Walk<'f> {
    /// With a main server for which nothing is said yet.
    fn begin(findings: Findings, server_root: PathBuf, files: &'f dyn Files) -> (Self, HostDraft) {
        let mut walk = Self {
            program: ProgramDraft::default(),
            findings,
            server_root,
            files,
            library: Library::default(),
        };
        let mut main = HostDraft::default();
        walk.defaults(&mut main);
        (walk, main)
    }
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
        let of_text = NICKNAMES.map(|(nickname, format)| (nickname, LogFormat::parse(format)));
        let of_json = ("json", LogFormat::parse_json(format::JSON));
        for (nickname, format) in of_text.into_iter().chain([of_json]) {
            match format {
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
            && draft.url().is_some()
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
        match draft.finish(&mut self.findings) {
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

    fn host(
        &mut self,
        mut draft: HostDraft,
        main_name: &str,
        addresses: Vec<HostAddress>,
        origin: Origin,
        main: Option<Inherited<'_>>,
        balancers: Vec<Arc<Balancer>>,
    ) -> VirtualHost {
        let mut access_logs = Vec::new();
        for log in &draft.logs {
            match draft.format(&log.format) {
                Ok(format) => access_logs.push(AccessLog {
                    target: log.target.clone(),
                    format,
                    condition: log.condition.clone(),
                    events: log.events,
                    origin: log.origin.clone(),
                }),
                Err(problem) => self.findings.error(&log.origin, log.directive, problem),
            }
        }
        let names = draft.server_name.iter().chain(&draft.aliases);
        let names: Vec<_> = names
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
        let of_main = main.map(|main| main.balancers).unwrap_or_default();
        let all_balancers = [&balancers, of_main].concat();
        let known = Known {
            sections: &draft.proxies,
            balancers: &all_balancers,
        };
        let balancer_tls = balancers::tls(&draft.proxies, &all_balancers);
        let mut router = draft.router(main.and_then(|main| main.router), known, &mut pages);
        router.remote_ip = draft.remote_ip.clone().resolve(&mut self.findings);
        router.name = HostName {
            server_name: Arc::clone(&server_name),
            port: draft.server_port,
            canonical: draft.canonical_name,
        };
        VirtualHost {
            error_log: None,
            identity: identity(&server_name, &names, &addresses),
            server_name,
            names,
            addresses,
            origin,
            bounds: draft.bounds.resolve(),
            limits: draft.limits,
            tls: None,
            handshake_timeout: draft.handshake_timeout,
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
            balancer_tls,
            access_logs,
            balancers,
            router,
        }
    }
}
