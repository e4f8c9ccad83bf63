//! Balancers: `BalancerMember`, and what `<Proxy>`, `ProxySet` and `ProxyPass` say of a whole one. Source: httpd mod_proxy.c
//! `add_member`, `set_balancer_param`, `set_worker_param`.

use super::draft::{HostDraft, Hosted, Scope};
use super::findings::Origin;
use super::health::{self, CheckDraft, Templates};
use super::proxy_pass::check_tls;
use super::sections::ProxySection;
use super::value::{self, Unit::Seconds};
use super::{names, parameters};
use crate::balancer::{
    Balancer, Change, LoadFactor, Member, Method, Names, Settings, Terms, separator,
};
use crate::route::backend::{Backend, Parameters};
use crate::route::destination::{BalancerUrl, Destination, ProxyUrl};
use crate::route::settings;
use crate::route::url::BackendUrl;
use std::sync::Arc;
use std::time::Duration;

/// What the lines of one host say of a balancer.
#[derive(Debug, Clone)]
pub(super) struct BalancerDraft {
    /// Its name, in lower case.
    pub(super) name: String,
    pub(super) members: Vec<MemberDraft>,
    /// In the order of the lines; the last word counts.
    settings: Vec<Setting>,
    /// The first line.
    pub(super) at: Origin,
    pub(super) directive: &'static str,
}

/// What `BalancerMember` says.
#[derive(Debug, Clone)]
pub(super) struct MemberDraft {
    pub(super) url: BackendUrl,
    parameters: Parameters,
    /// All but the check.
    pub(super) terms: Terms,
    pub(super) check: CheckDraft,
    pub(super) at: Origin,
}

/// One parameter of a balancer.
#[derive(Debug, Clone)]
enum Setting {
    Method(Method),
    Session(Names),
    Separator(Option<u8>),
    SemicolonDelimits(bool),
    NoFailover(bool),
    Timeout(Duration),
    MaxAttempts(usize),
    FailOnStatus(Vec<u16>),
    FailOnTimeout(bool),
    ForceRecovery(bool),
}

/// Parameters of a balancer that are obeyed.
const OBEYED: [&str; 10] = [
    "failonstatus",
    "failontimeout",
    "forcerecovery",
    "lbmethod",
    "maxattempts",
    "nofailover",
    "scolonpathdelim",
    "stickysession",
    "stickysessionsep",
    "timeout",
];

/// Parameters of its members that no other backend has.
pub(super) const OF_MEMBERS: [&str; 6] = [
    "loadfactor",
    "lbset",
    "route",
    "redirect",
    "retry",
    "status",
];

/// The most bytes of a route, as in httpd.
const LONGEST_ROUTE: usize = 63;

/// Whether a parameter belongs to balancers as a whole.
pub(super) fn is_of_balancers(key: &str) -> bool {
    OBEYED.contains(&key) && key != "timeout" || ["nonce", "growth"].contains(&key)
}

/// `BalancerMember [balancer://name] url [key=value ...]`: inside of `<Proxy>` without the name. Reports every problem of
/// the line.
pub(super) fn balancer_member(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let section = scope.section.as_ref();
    let (name, words) = match (section.map(|section| section.url()), words) {
        (Some(Some(ProxyUrl::Balancer(url))), words) => (url.name.clone(), words),
        (Some(_), _) => {
            return Err("not allowed here; allowed in <Proxy \"balancer://name\">".to_owned());
        }
        (None, [first, words @ ..]) if BalancerUrl::is_meant(first) => {
            (BalancerUrl::parse(first)?.name, words)
        }
        (None, _) => {
            return Err(
                "expected the balancer first, such as BalancerMember \"balancer://name\" \"ws://localhost:9000\"; only \
                 inside of <Proxy> it is that of the section"
                    .to_owned(),
            );
        }
    };
    let [url, words @ ..] = words else {
        return Err(
            "expected the URL of a backend, such as BalancerMember \"ws://localhost:9000\""
                .to_owned(),
        );
    };
    let url = BackendUrl::configured(url, scope.server_root)?;
    check_tls(&url)?;
    let draft = scope.host.balancer(&name, scope.at, scope.directive);
    // httpd: a second line for a URL says more about the same member.
    let known = draft.members.iter().position(|member| member.url == url);
    let known = known.map(|index| draft.members.remove(index));
    let mut member = match known {
        Some(member) => {
            let text = format!(
                "\"{url}\" is a member already, at {}; both lines say of it what they say",
                member.at
            );
            scope.warn(text);
            member
        }
        None => MemberDraft {
            url,
            parameters: Parameters::default(),
            terms: Terms::default(),
            check: CheckDraft::default(),
            at: scope.at.clone(),
        },
    };
    for word in words {
        match member.take(word, &scope.host.templates) {
            Ok(Some(note)) => scope.note(note),
            Ok(None) => {}
            Err(problem) => scope.error(problem),
        }
    }
    if let Some(problem) = parameters::contradiction(&member.parameters, &member.url, "") {
        scope.error(problem);
    }
    for text in parameters::doubts(&member.parameters) {
        scope.warn(text);
    }
    let draft = scope.host.balancer(&name, scope.at, scope.directive);
    draft.members.push(member);
    Ok(())
}

/// Parameters of a whole balancer: those of `ProxySet`, of `<Proxy>`, and of `ProxyPass`.
pub(super) fn set(scope: &mut Scope<'_>, url: &BalancerUrl, words: &[&str]) {
    for word in words {
        match Setting::parse(word) {
            Ok(Parsed::Setting(setting)) => {
                let draft = scope.host.balancer(&url.name, scope.at, scope.directive);
                draft.settings.push(setting);
            }
            Ok(Parsed::Note(note)) => scope.note(note),
            Err(problem) => scope.error(problem),
        }
    }
}

enum Parsed {
    Setting(Setting),
    /// It has no effect, for this reason.
    Note(String),
}

impl Setting {
    fn parse(word: &str) -> Result<Parsed, String> {
        let Some((key, value)) = value::key_value(word) else {
            return Err(format!(
                "expected parameters in the form key=value, found \"{word}\""
            ));
        };
        let lower = key.to_ascii_lowercase();
        let setting = match lower.as_str() {
            "lbmethod" => Method::parse(value).map(Self::Method),
            "stickysession" => Names::parse(value).map(Self::Session),
            "stickysessionsep" => separator(value).map(Self::Separator),
            "scolonpathdelim" => value::on_off(value).map(Self::SemicolonDelimits),
            "nofailover" => value::on_off(value).map(Self::NoFailover),
            "timeout" => value::duration(value, Seconds).map(Self::Timeout),
            "maxattempts" => value::integer(value, 0..=1_000_000).map(Self::MaxAttempts),
            "failonstatus" => statuses(value).map(Self::FailOnStatus),
            "failontimeout" => value::on_off(value).map(Self::FailOnTimeout),
            "forcerecovery" => value::on_off(value).map(Self::ForceRecovery),
            "nonce" | "growth" => {
                return Ok(Parsed::Note(format!(
                    "\"{word}\" has no effect: it is for httpd's balancer-manager, and there is none; members change with \
                     the configuration"
                )));
            }
            _ => return Err(unknown(key, &lower)),
        };
        let setting = setting.map_err(|problem| format!("{lower}: {problem}"))?;
        Ok(Parsed::Setting(setting))
    }

    fn apply(&self, settings: &mut Settings) {
        let sticky = &mut settings.sticky;
        match self {
            Self::Method(method) => settings.method = *method,
            Self::Session(names) => sticky.names = Some(names.clone()),
            Self::Separator(separator) => sticky.separator = *separator,
            Self::SemicolonDelimits(on) => sticky.semicolon_delimits = *on,
            Self::NoFailover(on) => sticky.no_failover = *on,
            Self::Timeout(timeout) => settings.timeout = *timeout,
            Self::MaxAttempts(most) => settings.max_attempts = Some(*most),
            Self::FailOnStatus(statuses) => settings.fail_on_status.clone_from(statuses),
            Self::FailOnTimeout(on) => settings.fail_on_timeout = *on,
            Self::ForceRecovery(on) => settings.force_recovery = *on,
        }
    }
}

/// What is said of a key that no balancer has.
fn unknown(key: &str, lower: &str) -> String {
    if parameters::is_known(lower) || OF_MEMBERS.contains(&lower) {
        return format!(
            "parameter \"{key}\": it belongs to the members; write it behind the URL of each BalancerMember"
        );
    }
    match names::near_miss(key, OBEYED) {
        Some(near) => format!("unknown parameter \"{key}\"; did you mean \"{near}\"?"),
        None => format!(
            "unknown parameter \"{key}\" of a balancer; expected {}",
            OBEYED.join(", ")
        ),
    }
}

fn statuses(text: &str) -> Result<Vec<u16>, String> {
    let status = |text: &str| value::integer(text.trim(), 100..=599);
    text.split(',').map(status).collect()
}

impl MemberDraft {
    /// Takes one `key=value`. A note, where it has no effect.
    fn take(&mut self, word: &str, templates: &Templates) -> Result<Option<String>, String> {
        let Some((key, value)) = value::key_value(word) else {
            return parameters::take(&mut self.parameters, word, self.url.scheme);
        };
        let lower = key.to_ascii_lowercase();
        let terms = &mut self.terms;
        let done = match lower.as_str() {
            "loadfactor" => LoadFactor::parse(value).map(|factor| terms.load_factor = factor),
            "lbset" => value::integer(value, 0..=99).map(|set| terms.lbset = set),
            "route" => route(value).map(|route| terms.route = Some(route)),
            "redirect" => route(value).map(|route| terms.redirect = Some(route)),
            "retry" => value::duration(value, Seconds).map(|retry| terms.retry = retry),
            "status" => Change::parse(value).map(|change| terms.status = terms.status.with(change)),
            _ => match self.check.take(&lower, value, templates) {
                Some(done) => done,
                None => {
                    if let Some(near) = misspelled(key, &lower) {
                        return Err(format!(
                            "unknown parameter \"{key}\"; did you mean \"{near}\"?"
                        ));
                    }
                    return parameters::take(&mut self.parameters, word, self.url.scheme);
                }
            },
        };
        done.map_err(|problem| format!("{lower}: {problem}"))?;
        Ok(None)
    }
}

/// The parameter of members alone that was probably meant.
fn misspelled(key: &str, lower: &str) -> Option<&'static str> {
    let is_other = parameters::is_known(lower) || is_of_balancers(lower);
    let own = OF_MEMBERS.into_iter().chain(health::KEYS);
    names::near_miss(key, own).filter(|_| !is_other)
}

/// The name of a route. What a cookie cannot hold would never come back in one.
// httpd: takes any text.
fn route(text: &str) -> Result<String, String> {
    let is_odd = |c: char| !c.is_ascii_graphic() || ";,&?\"".contains(c);
    if text.is_empty() || text.len() > LONGEST_ROUTE || text.contains(is_odd) {
        return Err(format!(
            "{text:?} is no route; expected 1 to {LONGEST_ROUTE} visible characters without \";\", \",\", \"&\", \"?\" and \
             quotes"
        ));
    }
    Ok(text.to_owned())
}

impl BalancerDraft {
    pub(super) fn new(name: &str, at: &Origin, directive: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            members: Vec::new(),
            settings: Vec::new(),
            at: at.clone(),
            directive,
        }
    }

    /// Whether sessions are looked for.
    pub(super) fn is_sticky(&self) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|setting| matches!(setting, Setting::Session(_)))
    }

    /// `more` are parameters that stand elsewhere.
    fn finish<'a>(&'a self, more: impl Iterator<Item = &'a Setting>) -> Arc<Balancer> {
        let mut settings = Settings::default();
        for setting in self.settings.iter().chain(more) {
            setting.apply(&mut settings);
        }
        let members = self.members.iter().map(|member| {
            let backend = Backend {
                url: member.url.clone(),
                parameters: member.parameters.clone(),
            };
            let check = member.check.check();
            let terms = member.terms.clone();
            Member::new(Arc::new(backend), Terms { check, ..terms })
        });
        Arc::new(Balancer::new(&self.name, settings, members.collect()))
    }
}

impl HostDraft {
    /// What is said of a balancer so far.
    fn balancer(&mut self, name: &str, at: &Origin, directive: &'static str) -> &mut BalancerDraft {
        let found = self.balancers.iter().position(|draft| draft.name == name);
        let index = found.unwrap_or_else(|| {
            self.balancers.push(BalancerDraft::new(name, at, directive));
            self.balancers.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "it was found there, or has just been put there"
        )]
        &mut self.balancers[index]
    }

    /// The lines of this host about a balancer that has members here.
    pub(super) fn balancer_with_members(&self, name: &str) -> Option<&BalancerDraft> {
        let mut balancers = self.balancers.iter();
        balancers.find(|draft| draft.name == name && !draft.members.is_empty())
    }
}

/// The balancers of the main server, with what its virtual hosts say of them.
// httpd: there, a virtual host that says something of such a balancer has lost it.
pub(super) fn of_main(main: &HostDraft, hosts: &[Hosted]) -> Vec<Arc<Balancer>> {
    let of_hosts = || hosts.iter().flat_map(|(host, _, _)| &host.balancers);
    let with_members = main.balancers.iter().filter(|own| !own.members.is_empty());
    let finished = with_members.map(|own| {
        let more = of_hosts().filter(|other| other.name == own.name);
        own.finish(more.flat_map(|other| &other.settings))
    });
    finished.collect()
}

/// Those that a virtual host has of its own.
pub(super) fn of_host(host: &HostDraft) -> Vec<Arc<Balancer>> {
    let with_members = host.balancers.iter().filter(|own| !own.members.is_empty());
    with_members.map(|own| own.finish([].iter())).collect()
}

/// What URLs stand for in one host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// What `<Proxy>` sections say of single backends.
    pub(super) sections: &'a [Arc<ProxySection>],
    pub(super) balancers: &'a [Arc<Balancer>],
}

impl Known<'_> {
    /// Where a URL leads. `own` is what its line says of it.
    pub(super) fn destination(&self, url: &ProxyUrl, own: &Parameters) -> Destination {
        match url {
            ProxyUrl::Backend(url) => {
                let shared = ProxySection::parameters_for(url, self.sections);
                Destination::Backend(Arc::new(Backend {
                    url: url.clone(),
                    parameters: own.clone().over(&shared),
                }))
            }
            ProxyUrl::Balancer(BalancerUrl { name, path }) => {
                // One that nobody knows is an error that is found when all is known; it has no members here.
                let none = || Arc::new(Balancer::new(name, Settings::default(), Vec::new()));
                Destination::Balancer {
                    balancer: self.balancer(name).map_or_else(none, Arc::clone),
                    path: path.as_str().into(),
                }
            }
        }
    }

    /// Whether a line means something else where balancers are known.
    pub(super) fn concerns(changes: &[settings::Change]) -> bool {
        let of_balancer = |change: &settings::Change| matches!(change, settings::Change::Reverse(line) if line.balancer().is_some());
        changes.iter().any(of_balancer)
    }

    /// The same changes, where the address of a balancer stands for those of its members.
    pub(super) fn with_members(&self, changes: Vec<settings::Change>) -> Vec<settings::Change> {
        if !Self::concerns(&changes) {
            return changes;
        }
        let each = changes.into_iter().flat_map(|change| match change {
            settings::Change::Reverse(line) => self
                .reverse(line)
                .into_iter()
                .map(settings::Change::Reverse)
                .collect(),
            other => vec![other],
        });
        each.collect()
    }

    /// The lines of `ProxyPassReverse` that one line stands for.
    pub(super) fn reverse(
        &self,
        line: Arc<crate::route::reverse::Reverse>,
    ) -> Vec<Arc<crate::route::reverse::Reverse>> {
        let Some(url) = line.balancer() else {
            return vec![line];
        };
        let members = self
            .balancer(&url.name)
            .map_or(&[][..], |found| found.members());
        let of_member = |member: &Member| Arc::new(line.at_member(url, &member.backend.url));
        members.iter().map(of_member).collect()
    }

    fn balancer(&self, name: &str) -> Option<&Arc<Balancer>> {
        let mut balancers = self.balancers.iter();
        balancers.find(|balancer| balancer.bare_name() == name)
    }
}

/// `BalancerPersist`
pub(super) fn persist(_: &mut Scope<'_>, on: bool) -> Result<(), String> {
    if on {
        return Err(
            "On is not supported: nothing is kept over a restart; members begin as their lines say, so remove the line"
                .to_owned(),
        );
    }
    Ok(())
}

/// `BalancerInherit`, `ProxyPassInherit`
pub(super) fn inherit(_: &mut Scope<'_>, on: bool) -> Result<(), String> {
    if on {
        return Ok(());
    }
    Err(
        "Off is not supported: what stands outside of <VirtualHost> holds in each; move it into those that it is for"
            .to_owned(),
    )
}

/// `BalancerGrowth`
pub(super) fn growth(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    value::integer(text, 1..=100_usize)?;
    scope.note(
        "has no effect: members come and go with the configuration, and no room is kept for them",
    );
    Ok(())
}
