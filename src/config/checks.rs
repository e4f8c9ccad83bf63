//! The checks that need the whole: what contradicts something that stands elsewhere, or leads nowhere.

use super::balancers::{BalancerDraft, MemberDraft};
use super::draft::{HostDraft, Hosted};
use super::findings::{Findings, Origin};
use super::proxy_pass::{MappingDraft, TargetDraft};
use super::rewrite::RuleDraft;
use super::sections::ProxySection;
use super::{ConfigError, HostAddress, Listen, names};
use crate::balancer::Flag;
use crate::route::destination::{BalancerUrl, ProxyUrl};
use std::sync::Arc;

/// What only shows when everything is known.
pub(super) fn check(
    listen: &[Listen],
    main: &HostDraft,
    hosts: &[Hosted],
    whole: &Origin,
    findings: &mut Findings,
) {
    let reported = |error: &ConfigError| {
        // The line may be the one that failed, or in a file that could not be read.
        ["Listen", "Include", "IncludeOptional", ""].contains(&error.directive.as_str())
    };
    if listen.is_empty() && !findings.errors.iter().any(reported) {
        let problem = "there is none; say where to listen, for example \"Listen 8080\"";
        findings.error(whole, "Listen", problem);
    }
    tls_off(main, None, findings);
    let all = std::iter::once(main).chain(hosts.iter().map(|(host, _, _)| host));
    balancers(main, None, &Said::by(all), findings);
    shared(main, hosts, findings);
    main.rewrite.check(None, findings);
    let heirs = hosts.iter().map(|(host, _, _)| &host.remote_ip);
    main.remote_ip.check(heirs, findings);
    let drafts = std::iter::once(main).chain(hosts.iter().map(|(host, _, _)| host));
    sections(&main.proxies, drafts, findings);
    for (host, addresses, origin) in hosts {
        tls_off(host, Some(main), findings);
        balancers(host, Some(main), &Said::by([host]), findings);
        host.rewrite.check(Some(&main.rewrite), findings);
        host.remote_ip.check(std::iter::empty(), findings);
        let own = host.proxies.get(main.proxies.len()..).unwrap_or_default();
        sections(own, [host], findings);
        for address in addresses {
            listened(listen, *address, origin, findings);
        }
    }
    let maps = |host: &HostDraft| host.urls().next().is_some();
    let routed = maps(main) || hosts.iter().any(|(host, _, _)| maps(host));
    if !routed && findings.errors.is_empty() {
        let text = "there is none, so every request is answered with 404";
        findings.warning(whole, "ProxyPass", text);
    }
}

/// What hosts say of balancers, by their names.
struct Said {
    /// Some line leads to them.
    used: Vec<String>,
    /// Sessions are looked for.
    sticky: Vec<String>,
}

impl Said {
    fn by<'h>(hosts: impl IntoIterator<Item = &'h HostDraft>) -> Self {
        let (mut used, mut sticky) = (Vec::new(), Vec::new());
        for host in hosts {
            used.extend(
                host.balanced_lines()
                    .into_iter()
                    .map(|(url, _, _)| url.name),
            );
            let own = host
                .balancers
                .iter()
                .filter(|balancer| balancer.is_sticky());
            sticky.extend(own.map(|balancer| balancer.name.clone()));
        }
        Self { used, sticky }
    }
}

/// What is wrong with the balancers of a host, and what is odd about them. `said` is by all who have the same.
fn balancers(host: &HostDraft, main: Option<&HostDraft>, said: &Said, findings: &mut Findings) {
    let all = host.balancers.iter();
    let all = all.chain(main.into_iter().flat_map(|main| &main.balancers));
    let with_members = all.filter(|balancer| !balancer.members.is_empty());
    let known: Vec<&str> = with_members.map(|known| known.name.as_str()).collect();
    for balancer in &host.balancers {
        let BalancerDraft {
            name,
            members,
            at,
            directive,
            ..
        } = balancer;
        let of_main = main.and_then(|main| main.balancer_with_members(name));
        match (members.first(), of_main) {
            (Some(first), Some(main)) => findings.error(
                &first.at,
                "BalancerMember",
                format!(
                    "the main server has a balancer://{name} of its own, at {}, which virtual hosts have as well; give \
                     this one another name",
                    main.at
                ),
            ),
            (Some(first), None) => {
                alike(first, members, findings);
                if !said.used.contains(name) {
                    let text = format!("no mapping leads to balancer://{name}");
                    findings.warning(at, directive, text);
                }
                usable(balancer, findings);
                routes(balancer, said.sticky.contains(name), findings);
                health(members, findings);
            }
            (None, Some(_)) => {}
            (None, None) if balancer.is_broken => {}
            (None, None) => findings.error(at, directive, without_members(name, &known)),
        }
    }
    let lines = host.balanced_lines();
    for (url, at, directive) in lines {
        let is_known = |host: &HostDraft| host.balancer_with_members(&url.name).is_some();
        // What has been said of the balancer elsewhere has been said above.
        let is_said = host.balancers.iter().any(|own| own.name == url.name);
        // What the main server gets wrong by itself is its own error, and not that of each host that inherits it.
        let is_inherited = main.is_some_and(|main| {
            let mut lines = main.balanced_lines().into_iter();
            lines.any(|(_, line, _)| line == at)
        });
        if !is_said && !is_inherited && !is_known(host) && !main.is_some_and(is_known) {
            findings.error(&at, directive, without_members(&url.name, &known));
        }
    }
}

/// What one host says of a balancer holds for all who have it.
fn shared(main: &HostDraft, hosts: &[Hosted], findings: &mut Findings) {
    for own in main.balancers.iter().filter(|own| !own.members.is_empty()) {
        let mut before = vec![own];
        let more = hosts.iter().flat_map(|(host, _, _)| &host.balancers);
        for draft in more.filter(|more| more.name == own.name) {
            if let Some(other) = before.iter().find(|other| draft.contradicts(other)) {
                let text = format!(
                    "what is said here of balancer://{} holds in all hosts, and differs from what is said at {}; say it once, \
                     in the main server",
                    own.name, other.at
                );
                findings.warning(&draft.at, draft.directive, text);
            }
            before.push(draft);
        }
    }
}

fn without_members(name: &str, known: &[&str]) -> String {
    if let Some(near) = names::near_miss(name, known.iter().copied()) {
        return format!("balancer://{name} has no members; did you mean balancer://{near}?");
    }
    format!(
        "balancer://{name} has no members; write BalancerMember lines with their URLs into <Proxy \"balancer://{name}\">"
    )
}

/// One request is either asked for a tunnel or for an answer, whichever member gets it.
fn alike(first: &MemberDraft, members: &[MemberDraft], findings: &mut Findings) {
    let is_odd =
        |member: &&MemberDraft| member.url.scheme.is_tunnel() != first.url.scheme.is_tunnel();
    if let Some(odd) = members.iter().find(is_odd) {
        let problem = format!(
            "\"{}\" speaks {}:// and \"{}\" at {} speaks {}://; write one balancer for tunnels and one for ordinary \
             requests, and tell both apart by RewriteCond %{{HTTP:Upgrade}} and RewriteRule [P]",
            odd.url,
            odd.url.scheme.name(),
            first.url,
            first.at,
            first.url.scheme.name()
        );
        findings.error(&odd.at, "BalancerMember", problem);
    }
    let is_otherwise = |member: &&MemberDraft| member.upgrade() != first.upgrade();
    if let Some(odd) = members.iter().find(is_otherwise) {
        let text = format!(
            "its upgrade= is not that of \"{}\" at {}: a request that one member takes, another one refuses",
            first.url, first.at
        );
        findings.warning(&odd.at, "BalancerMember", text);
    }
}

/// Somebody has to be there.
fn usable(balancer: &BalancerDraft, findings: &mut Findings) {
    let BalancerDraft {
        name,
        members,
        at,
        directive,
        ..
    } = balancer;
    let is_out = |member: &MemberDraft| {
        let status = member.terms.status;
        status.has(Flag::Disabled) || status.has(Flag::Stopped)
    };
    if members.iter().all(is_out) {
        let text = format!(
            "each member of balancer://{name} is disabled or stopped, so every request is answered with 503"
        );
        findings.warning(at, directive, text);
    }
}

/// Sessions and routes belong together.
fn routes(balancer: &BalancerDraft, is_sticky: bool, findings: &mut Findings) {
    let BalancerDraft {
        name,
        members,
        at,
        directive,
        ..
    } = balancer;
    if let Some(idle) = balancer.session_setting()
        && !is_sticky
    {
        let text = format!("{idle}= has no effect: balancer://{name} has no stickysession=");
        findings.warning(at, directive, text);
    }
    let has_route = |wanted: &str| {
        let mut routes = members
            .iter()
            .filter_map(|member| member.terms.route.as_deref());
        routes.any(|route| route == wanted)
    };
    for (index, member) in members.iter().enumerate() {
        // A standby may take over the sessions of another one; who stands behind an ordinary member gets none.
        let has_same = |other: &&MemberDraft| {
            other.terms.route.is_some()
                && other.terms.route == member.terms.route
                && !other.terms.status.has(Flag::Standby)
                && !member.terms.status.has(Flag::Standby)
        };
        if let Some(other) = members.iter().take(index).find(has_same) {
            let text = format!(
                "\"{}\" at {} has the same route=, and is first in all its sessions; routes tell members apart",
                other.url, other.at
            );
            findings.warning(&member.at, "BalancerMember", text);
        }
        if let Some(redirect) = &member.terms.redirect
            && !has_route(redirect)
        {
            let text =
                format!("redirect={redirect}: no member of balancer://{name} has this route");
            findings.warning(&member.at, "BalancerMember", text);
        }
        if is_sticky && member.terms.route.is_none() {
            let text = format!(
                "balancer://{name} has a stickysession=, and without a route= no session finds this member again"
            );
            findings.warning(&member.at, "BalancerMember", text);
        }
    }
}

/// What is said of health checks, and changes nothing or too much.
fn health(members: &[MemberDraft], findings: &mut Findings) {
    for MemberDraft { check, at, .. } in members {
        if let Some(text) = check.note() {
            findings.note(at, "BalancerMember", text);
        }
        if let Some(text) = check.doubt() {
            findings.warning(at, "BalancerMember", text);
        }
    }
}

/// An explicit `SSLProxyEngine Off` contradicts a `wss://` or `https://` entry.
fn tls_off(host: &HostDraft, main: Option<&HostDraft>, findings: &mut Findings) {
    // What the main server gets wrong by itself is its own error, and not that of each host that inherits it.
    let is_inherited = |off: &Origin, url: &ProxyUrl, at: &Origin| {
        main.is_some_and(|main| {
            main.tls_off_at(url) == Some(off) && main.targets().any(|(own, _)| own.at == *at)
        })
    };
    let mappings = host.targets().map(|(mapping, target)| {
        let url = target.url.clone();
        (&mapping.at, mapping.directive, url.clone(), url)
    });
    let rules = host.rules.iter();
    let rules = rules.filter_map(|rule| {
        let url = rule.url()?;
        Some((&rule.at, "RewriteRule", url.clone(), url))
    });
    let members = host.balancers.iter().flat_map(|balancer| {
        let url = BalancerUrl {
            name: balancer.name.clone(),
            path: String::new(),
        };
        balancer.members.iter().map(move |member| {
            let own = ProxyUrl::Backend(member.url.clone());
            let url = ProxyUrl::Balancer(url.clone());
            (&member.at, "BalancerMember", own, url)
        })
    });
    for (at, directive, own, url) in mappings.chain(rules).chain(members) {
        let scheme = own.backend().map(|backend| backend.scheme);
        let Some(scheme) = scheme.filter(|scheme| scheme.is_tls()) else {
            continue;
        };
        let Some(off) = host.tls_off_at(&url) else {
            continue;
        };
        if is_inherited(off, &url, at) {
            continue;
        }
        let (scheme, plain) = (scheme.name(), scheme.without_tls().name());
        let problem = format!(
            "{scheme}:// needs TLS, but \"SSLProxyEngine Off\" stands at {off}; remove that line, or write {plain}://"
        );
        findings.error(at, directive, problem);
    }
}

/// `ProxySet url` and `<Proxy url>` are about a backend that some mapping has.
fn sections<'h>(
    sections: &[Arc<ProxySection>],
    hosts: impl IntoIterator<Item = &'h HostDraft>,
    findings: &mut Findings,
) {
    if sections.is_empty() {
        return;
    }
    let hosts: Vec<_> = hosts.into_iter().collect();
    let urls: Vec<_> = hosts.iter().flat_map(|host| host.urls()).collect();
    let balancers = hosts.iter().flat_map(|host| &host.balancers);
    let members = balancers.flat_map(|balancer| &balancer.members);
    let members: Vec<_> = members.map(|member| &member.url).collect();
    for section in sections {
        let Some(text) = section.idle(&urls, &members) else {
            continue;
        };
        match section.directive {
            "ProxySet" => findings.error(&section.at, "ProxySet", text),
            directive => findings.warning(&section.at, directive, text),
        }
    }
}

/// A host that no listener leads to is never chosen.
fn listened(listen: &[Listen], address: HostAddress, at: &Origin, findings: &mut Findings) {
    let serves = |listen: &Listen| {
        let same_port = address.port.is_none_or(|port| port == listen.port) || listen.port == 0;
        let same_address = match (address.address, listen.address) {
            (Some(own), Some(listened)) => own == listened || listened.is_unspecified(),
            _ => true,
        };
        same_port && same_address
    };
    if !listen.is_empty() && !listen.iter().any(serves) {
        let text = format!("no Listen serves {address}, so this host is never chosen by it");
        findings.warning(at, "<VirtualHost>", text);
    }
}

impl HostDraft {
    /// Where `SSLProxyEngine Off` stands that counts for what is led to `url`.
    fn tls_off_at(&self, url: &ProxyUrl) -> Option<&Origin> {
        let of_sections = ProxySection::engine_for(url, &self.proxies);
        let engine = of_sections.or(self.engine.as_ref())?;
        (!engine.is_on).then_some(&engine.at)
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

    /// The URL of every backend that a request can be led to.
    fn urls(&self) -> impl Iterator<Item = ProxyUrl> {
        let mapped = self.targets().map(|(_, target)| target.url.clone());
        mapped.chain(self.rules.iter().filter_map(RuleDraft::url))
    }

    /// Every line that names a balancer whose members stand elsewhere.
    fn balanced_lines(&self) -> Vec<(BalancerUrl, Origin, &'static str)> {
        let mapped = self.targets().map(|(mapping, target)| {
            let url = target.url.clone();
            (url, mapping.at.clone(), mapping.directive)
        });
        let led = self
            .rules
            .iter()
            .filter_map(|rule| Some((rule.url()?, rule.at.clone(), "RewriteRule")));
        let balanced = mapped
            .chain(led)
            .filter_map(|(url, at, directive)| match url {
                ProxyUrl::Balancer(url) => Some((url, at, directive)),
                ProxyUrl::Backend(_) => None,
            });
        let reversed = self.reversed.iter();
        let reversed = reversed.map(|(url, at)| (url.clone(), at.clone(), "ProxyPassReverse"));
        balanced.chain(reversed).collect()
    }
}
