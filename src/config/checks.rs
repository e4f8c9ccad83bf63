//! The checks that need the whole: what contradicts something that stands elsewhere, or leads nowhere.

use super::draft::{HostDraft, Hosted};
use super::findings::{Findings, Origin};
use super::proxy_pass::{MappingDraft, TargetDraft};
use super::rewrite::RuleDraft;
use super::sections::ProxySection;
use super::{ConfigError, HostAddress, Listen};
use crate::route::url::BackendUrl;
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
    main.rewrite.check(None, findings);
    let heirs = hosts.iter().map(|(host, _, _)| &host.remote_ip);
    main.remote_ip.check(heirs, findings);
    let drafts = std::iter::once(main).chain(hosts.iter().map(|(host, _, _)| host));
    sections(&main.proxies, drafts, findings);
    for (host, addresses, origin) in hosts {
        tls_off(host, Some(main), findings);
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

/// An explicit `SSLProxyEngine Off` contradicts a `wss://` or `https://` entry.
fn tls_off(host: &HostDraft, main: Option<&HostDraft>, findings: &mut Findings) {
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
    let urls: Vec<_> = hosts.into_iter().flat_map(HostDraft::urls).collect();
    for section in sections {
        let Some(text) = section.idle(&urls) else {
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
    fn urls(&self) -> impl Iterator<Item = &BackendUrl> {
        let mapped = self.targets().map(|(_, target)| &target.url);
        mapped.chain(self.rules.iter().filter_map(RuleDraft::url))
    }
}
