//! The directives of mod_remoteip that read a header field. `RemoteIPProxyProtocol` is in `proxy_protocol`.

use super::draft::Scope;
use super::findings::{Findings, Origin};
use crate::http::network::Network;
use crate::route::remote_ip::{self, RemoteIp, Trust};

/// What is set so far for a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    header: Option<(String, Origin)>,
    proxies_header: Option<String>,
    proxies: Vec<(Network, Trust)>,
    /// Whether the proxies are those of the main server, which the first line of a virtual host replaces.
    are_inherited: bool,
    /// Where the first of them stands.
    at: Option<Origin>,
}

pub(super) fn header(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let name = remote_ip::field_name(text)?;
    scope.host.remote_ip.header = Some((name, scope.at.clone()));
    Ok(())
}

pub(super) fn proxies_header(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.remote_ip.proxies_header = Some(remote_ip::field_name(text)?);
    Ok(())
}

pub(super) fn proxies(scope: &mut Scope<'_>, words: &[&str], trust: Trust) -> Result<(), String> {
    for word in words {
        match Network::parse(word) {
            Ok(network) => add(scope, network, trust),
            Err(problem) => scope.error(problem),
        }
    }
    Ok(())
}

pub(super) fn list(scope: &mut Scope<'_>, text: &str, trust: Trust) -> Result<(), String> {
    let path = scope.path(text)?;
    let shown = path.display().to_string();
    let read = scope.files.read(&path);
    let bytes = read.map_err(|cause| format!("cannot read \"{shown}\": {cause}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("\"{shown}\" is not UTF-8 text"))?;
    match remote_ip::parse_list(&text) {
        Ok(networks) => {
            for network in networks {
                add(scope, network, trust);
            }
        }
        Err(problems) => {
            for (line, problem) in problems {
                scope.error(format!("{shown}:{line}: {problem}"));
            }
        }
    }
    Ok(())
}

fn add(scope: &mut Scope<'_>, network: Network, trust: Trust) {
    let draft = &mut scope.host.remote_ip;
    if draft.are_inherited {
        draft.proxies.clear();
        draft.are_inherited = false;
        draft.at = None;
    }
    draft.at.get_or_insert_with(|| scope.at.clone());
    draft.proxies.push((network, trust));
}

impl Draft {
    /// What a virtual host begins with.
    pub(super) fn inherited(&self) -> Self {
        Self {
            are_inherited: true,
            ..self.clone()
        }
    }

    /// What has no effect since neither this host names a field to believe, nor one of those that inherit from it.
    pub(super) fn check<'d>(
        &self,
        mut heirs: impl Iterator<Item = &'d Self>,
        findings: &mut Findings,
    ) {
        if let Some(at) = self.at.as_ref().filter(|_| !self.are_inherited)
            && self.header.is_none()
            && heirs.all(|heir| heir.header.is_none())
        {
            let text = "trusted proxies have no effect without RemoteIPHeader, which names the field to believe";
            findings.warning(at, "RemoteIPHeader", text);
        }
    }

    pub(super) fn resolve(self, findings: &mut Findings) -> Option<RemoteIp> {
        let (header, at) = self.header?;
        match RemoteIp::new(header, self.proxies_header, self.proxies) {
            Ok(remote_ip) => Some(remote_ip),
            Err(problem) => {
                findings.error(&at, "RemoteIPHeader", problem);
                None
            }
        }
    }
}
