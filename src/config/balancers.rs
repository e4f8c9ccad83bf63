//! Balancers: `BalancerMember`, and what `<Proxy>`, `ProxySet` and `ProxyPass` say of a whole one. Source: httpd mod_proxy.c
//! `add_member`, `set_balancer_param`, `set_worker_param`.

use super::draft::{HostDraft, Hosted, Scope};
use super::findings::Origin;
use super::health::{self, CheckDraft, Templates};
use super::proxy_pass::{check_path, check_tls};
use super::sections::ProxySection;
use super::value::{self, Unit::Seconds};
use super::{names, parameters, span};
use crate::balancer::{
    Balancer, Change, LoadFactor, Member, Method, Names, Settings, Terms, separator,
};
use crate::handshake::Upgrade;
use crate::route::backend::{Backend, Parameters};
use crate::route::destination::{BalancerUrl, Destination, ProxyUrl};
use crate::route::reverse::Reverse;
use crate::route::settings;
use crate::route::url::BackendUrl;
use crate::tls::backend::Demands;
use std::mem::discriminant;
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
    /// A line for a member of it was refused: what it lacks would not be news.
    pub(super) is_broken: bool,
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
#[derive(Debug, Clone, PartialEq)]
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

/// Who lets requests wait for a member as long as this has probably thought of something else.
const LONG_WAIT: Duration = Duration::from_secs(60);

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
    let url = member_url(scope, url).inspect_err(|_| {
        let draft = scope.host.balancer(&name, scope.at, scope.directive);
        draft.is_broken = true;
    })?;
    let draft = scope.host.balancer(&name, scope.at, scope.directive);
    // httpd: ignores what a second line for a URL says.
    let known = draft.members.iter().position(|member| member.url == url);
    let place = known.unwrap_or(draft.members.len());
    let mut member = match known.map(|index| draft.members.remove(index)) {
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
    if let Some(note) = parameters::note(&member.parameters, &member.url) {
        scope.note(note);
    }
    for text in parameters::doubts(&member.parameters, &member.url) {
        scope.warn(text);
    }
    let draft = scope.host.balancer(&name, scope.at, scope.directive);
    draft.members.insert(place, member);
    Ok(())
}

/// The URL of a member.
fn member_url(scope: &Scope<'_>, text: &str) -> Result<BackendUrl, String> {
    if BalancerUrl::is_meant(text) {
        return Err(format!(
            "\"{text}\" is a balancer, and no balancer is a member of another; expected the URL of a backend (inside of \
             <Proxy> the balancer is that of the section)"
        ));
    }
    let url = BackendUrl::configured(text, scope.server_root)?;
    check_tls(&url)?;
    check_path(&url, &url.path)?;
    Ok(url)
}

/// Parameters of a whole balancer: those of `ProxySet`, of `<Proxy>`, and of `ProxyPass`.
pub(super) fn set(scope: &mut Scope<'_>, url: &BalancerUrl, words: &[&str]) {
    for word in words {
        match Setting::parse(word) {
            Ok(Parsed::Setting(setting)) => {
                if let Some(doubt) = setting.doubt() {
                    scope.warn(doubt);
                }
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

    /// What is legal and probably not meant.
    fn doubt(&self) -> Option<String> {
        match self {
            Self::Timeout(timeout) if *timeout >= LONG_WAIT => Some(format!(
                "timeout={}: a request waits so long where no member can be used; how long a member may take to answer, \
                 say ProxyTimeout and the timeout= behind its BalancerMember",
                span(*timeout)
            )),
            _ => None,
        }
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
    /// What it is asked for where requests become tunnels.
    pub(super) fn upgrade(&self) -> &Upgrade {
        self.parameters.upgrade()
    }

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
            is_broken: false,
        }
    }

    /// Whether sessions are looked for.
    pub(super) fn is_sticky(&self) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|setting| matches!(setting, Setting::Session(_)))
    }

    /// Whether the last words of both about one parameter are different.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        let last_of_kind = |settings: &[Setting], kind| {
            let mut settings = settings.iter().rev();
            settings
                .find(|setting| discriminant(*setting) == kind)
                .cloned()
        };
        let mut kinds = self.settings.iter().map(discriminant);
        kinds.any(|kind| {
            let said = last_of_kind(&other.settings, kind);
            said.is_some() && said != last_of_kind(&self.settings, kind)
        })
    }

    /// What is said of sessions, without that any are looked for by that alone.
    pub(super) fn session_setting(&self) -> Option<&'static str> {
        let own = |setting: &Setting| match setting {
            Setting::Separator(_) => Some("stickysessionsep"),
            Setting::SemicolonDelimits(true) => Some("scolonpathdelim"),
            Setting::NoFailover(true) => Some("nofailover"),
            _ => None,
        };
        let mut settings = self.settings.iter();
        settings.find_map(own)
    }

    /// `more` are parameters that stand elsewhere.
    fn finish<'a>(&'a self, more: impl Iterator<Item = &'a Setting>) -> Arc<Balancer> {
        let mut settings = Settings {
            origin: self.at.to_string(),
            ..Settings::default()
        };
        for setting in self.settings.iter().chain(more) {
            setting.apply(&mut settings);
        }
        let members = self.members.iter().map(|member| {
            let backend = Backend {
                url: member.url.clone(),
                parameters: member.parameters.clone(),
            };
            let terms = Terms {
                check: member.check.check(),
                origin: member.at.to_string(),
                ..member.terms.clone()
            };
            Member::new(Arc::new(backend), terms)
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

    /// The lines of this host about a balancer that has members here, as far as anybody can say.
    pub(super) fn balancer_with_members(&self, name: &str) -> Option<&BalancerDraft> {
        let mut balancers = self.balancers.iter();
        balancers.find(|draft| draft.name == name && (draft.is_broken || !draft.members.is_empty()))
    }
}

/// The balancers of the main server, with what its virtual hosts say of them.
// httpd: what a virtual host says of one behind ProxyPass holds there alone, and it may not say anything in ProxySet.
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

/// What the sections of a host say of TLS with the members of its balancers, by their names.
// httpd: a section is compared with what is asked of a balancer, and here with the balancer alone.
pub(super) fn tls(
    sections: &[Arc<ProxySection>],
    balancers: &[Arc<Balancer>],
) -> Vec<(String, Arc<Demands>)> {
    let names = balancers.iter().map(|balancer| balancer.bare_name());
    let said = names.filter_map(|name| {
        let url = BalancerUrl {
            name: name.to_owned(),
            path: String::new(),
        };
        let said = ProxySection::parameters_for(&ProxyUrl::Balancer(url), sections);
        Some((name.to_owned(), said.tls?))
    });
    said.collect()
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
                let shared = match self.sections {
                    [] => Parameters::default(),
                    sections => {
                        ProxySection::parameters_for(&ProxyUrl::Backend(url.clone()), sections)
                    }
                };
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

    /// The same changes, where the address of a balancer stands for those of its members.
    pub(super) fn with_members(&self, changes: Vec<settings::Change>) -> Vec<settings::Change> {
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
    pub(super) fn reverse(&self, line: Arc<Reverse>) -> Vec<Arc<Reverse>> {
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

#[cfg(test)]
mod tests {
    use super::super::tests::{config, load_text};
    use super::super::{Config, VirtualHost};
    use super::*;
    use crate::route::mapping::Action;
    use crate::route::settings::Settings as RouteSettings;

    fn load(text: &str) -> Config {
        config(&format!("Listen 80\n{text}"))
    }

    /// What its mappings lead to, in their order; and its rules, before them.
    fn destinations(host: &VirtualHost) -> Vec<Arc<Balancer>> {
        let balancer = |to: &Destination| match to {
            Destination::Balancer { balancer, .. } => Some(Arc::clone(balancer)),
            Destination::Backend(_) => None,
        };
        let rules = host.router.rules.rules.iter();
        let rules = rules.filter_map(|rule| balancer(rule.destination()?));
        let mappings = host.router.mappings.iter();
        let mappings = mappings.filter_map(|mapping| match &mapping.action {
            Action::Proxy(proxy) => balancer(&proxy.to),
            Action::Exclude => None,
        });
        rules.chain(mappings).collect()
    }

    fn urls(balancer: &Balancer) -> Vec<&str> {
        balancer.members().iter().map(Member::name).collect()
    }

    #[test]
    fn all_hosts_lead_to_the_same_balancer_of_the_main_server() {
        let config = load(
            "ProxyPass /a balancer://set/a\nBalancerMember balancer://SET ws://one\nBalancerMember balancer://set ws://two\n\
             <VirtualHost *:80>\nProxyPass /b balancer://set lbmethod=bytraffic\nRewriteEngine On\n\
             RewriteRule ^/c balancer://Set/x [P]\n</VirtualHost>\n\
             <VirtualHost *:80>\nDocumentRoot /srv\nProxySet balancer://set maxattempts=1 lbmethod=bybusyness\n\
             <Location /d>\nProxyPass balancer://set nofailover=On stickysession=S\n</Location>\n</VirtualHost>\n",
        );
        let [main] = config.main.balancers.as_slice() else {
            panic!("one balancer");
        };
        let all: Vec<_> = std::iter::once(&config.main)
            .chain(&config.virtual_hosts)
            .flat_map(|host| destinations(host))
            .collect();
        assert_eq!(all.len(), 1 + 3 + 1);
        assert!(all.iter().all(|balancer| Arc::ptr_eq(balancer, main)));
        for host in &config.virtual_hosts {
            assert!(host.balancers.is_empty());
        }
        let located = config.virtual_hosts[1].router.destinations();
        let located = located.filter(|to| matches!(to, Destination::Balancer { balancer, .. } if Arc::ptr_eq(balancer, main)));
        assert_eq!(located.count(), 2);
        // What virtual hosts say of it holds for all, in the order of the lines.
        let settings = &main.settings;
        assert_eq!(settings.method, Method::ByBusyness);
        assert_eq!(settings.max_attempts, Some(1));
        assert!(settings.sticky.no_failover && settings.sticky.names.is_some());
        assert_eq!(urls(main), ["ws://one", "ws://two"]);
    }

    #[test]
    fn hosts_may_have_balancers_of_one_name_and_other_members() {
        let config = load(
            "<VirtualHost *:80>\nBalancerMember balancer://own ws://one\nProxySet balancer://own timeout=5\n\
             ProxyPass / balancer://own\n</VirtualHost>\n\
             <VirtualHost *:80>\nBalancerMember balancer://own http://two\nProxyPass / balancer://own\n</VirtualHost>\n",
        );
        let of = |index: usize| -> (Arc<Balancer>, Arc<Balancer>) {
            let host = &config.virtual_hosts[index];
            let [own] = host.balancers.as_slice() else {
                panic!("one balancer");
            };
            (Arc::clone(own), destinations(host).remove(0))
        };
        let ((first, first_led), (second, second_led)) = (of(0), of(1));
        assert!(Arc::ptr_eq(&first, &first_led) && Arc::ptr_eq(&second, &second_led));
        assert_eq!(
            (urls(&first), urls(&second)),
            (vec!["ws://one"], vec!["http://two"])
        );
        assert_eq!(first.settings.timeout, Duration::from_secs(5));
        assert_eq!(second.settings.timeout, Duration::ZERO);
        assert!(first.is_tunnel() && !second.is_tunnel());
        assert!(config.main.balancers.is_empty());
    }

    #[test]
    fn a_second_line_for_a_url_says_more_about_the_member_in_its_place() {
        let config = load(
            "<Proxy balancer://set>\nBalancerMember ws://one/ loadfactor=3 status=+H timeout=5\nBalancerMember ws://two\n\
             BalancerMember WS://ONE:80/ route=a status=-H+N timeout=7\nBalancerMember ws://one/x\n</Proxy>\n\
             ProxyPass / balancer://set/\n",
        );
        let set = &config.main.balancers[0];
        assert_eq!(urls(set), ["ws://one/", "ws://two", "ws://one/x"]);
        let first = &set.members()[0];
        assert_eq!(first.terms.load_factor.hundredths(), 300);
        assert_eq!(first.terms.route.as_deref(), Some("a"));
        assert_eq!(first.terms.status.to_string(), "N");
        let timeout = first.backend.parameters.timeout;
        assert_eq!(timeout, Some(Duration::from_secs(7)));
        assert_eq!(first.terms.origin, "test.conf:3");
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn the_address_of_a_balancer_stands_for_those_of_its_members() {
        let config = load(
            "ProxyPassReverse /a balancer://set/x\n<Location /b>\nProxyPassReverse balancer://set\n</Location>\n\
             <Proxy balancer://set>\nBalancerMember http://one/\nBalancerMember http://two:8443/y status=+D\n</Proxy>\n\
             ProxyPass / balancer://set\n\
             <VirtualHost *:80>\nProxyPassReverse /c balancer://own\nBalancerMember balancer://own http://four/z\n\
             ProxyPass /c balancer://own\n</VirtualHost>\n",
        );
        let reverse = |settings: &RouteSettings| -> Vec<String> {
            settings.reverse.iter().map(ToString::to_string).collect()
        };
        let mut expected = vec!["http://one/x -> /a", "http://two:8443/y/x -> /a"];
        let main = &config.main.router;
        assert_eq!(reverse(&main.settings), expected);
        let mut inside = RouteSettings::default();
        for change in &main.locations[0].changes {
            inside.apply(change);
        }
        assert_eq!(
            reverse(&inside),
            ["http://one/ -> /b", "http://two:8443/y -> /b"]
        );
        expected.push("http://four/z -> /c");
        let host = &config.virtual_hosts[0].router;
        assert_eq!(reverse(&host.settings), expected);
    }

    #[test]
    fn a_member_that_is_refused_is_all_that_is_said_of_its_balancer() {
        let errors = load_text(
            "Listen 80\nBalancerMember balancer://set ajp://one\nProxySet balancer://set timeout=5\n\
             ProxyPass /a balancer://set\n<VirtualHost *:80>\nProxyPass /b balancer://set\n</VirtualHost>\n",
        )
        .unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("ajp://"), "{errors:?}");
    }
}
