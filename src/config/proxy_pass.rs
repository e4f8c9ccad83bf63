//! The `ProxyPass` line: a path, a URL and parameters. Source: httpd mod_proxy.c `add_pass`, `set_worker_param`.

use super::draft::Scope;
use super::names;
use super::value::{self, Unit::Seconds};
use crate::handshake::Upgrade;
use crate::route::mapping::Mapping;
use crate::route::url::BackendUrl;
use std::path::Path;
use std::sync::Arc;

/// `ProxyPass path url [key=value ...]`. Reports every problem of the line.
pub(super) fn apply(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (prefix, url, parameters) = match words {
        ["~", ..] => {
            return Err(
                "patterns (\"~\") are not supported by this version; write one ProxyPass for each path prefix"
                    .to_owned(),
            );
        }
        [prefix, url, parameters @ ..] => (*prefix, *url, parameters),
        _ => {
            return Err(
                "expected a path and a URL, such as ProxyPass \"/ws/\" \"ws://localhost:9000/\""
                    .to_owned(),
            );
        }
    };
    if !prefix.starts_with('/') {
        scope.error(format!("the path \"{prefix}\" does not begin with \"/\""));
    }
    let url = backend(url, scope.server_root);
    let parameters = parameters
        .iter()
        .fold(Parameters::default(), |mut parameters, word| {
            if let Err(problem) = parameters.take(word) {
                scope.error(problem);
            }
            parameters
        });
    let mapping = Mapping {
        prefix: prefix.to_owned(),
        url: url?,
        connect_timeout: parameters.connect_timeout,
        timeout: parameters.timeout,
        upgrade: parameters.upgrade,
        origin: scope.at.to_string(),
    };
    for text in doubts(scope, &mapping) {
        scope.warn(text);
    }
    let at = scope.at.clone();
    scope.host.mappings.push((Arc::new(mapping), at));
    Ok(())
}

fn backend(text: &str, server_root: &Path) -> Result<BackendUrl, String> {
    if text == "!" {
        return Err(
            "exclusions (\"!\") are not supported by this version; map only the paths that shall be tunnelled"
                .to_owned(),
        );
    }
    let url = BackendUrl::configured(text, server_root)?;
    if url.tls && !cfg!(feature = "tls") {
        return Err(format!(
            "\"{text}\": this program was built without TLS (feature \"tls\"); only ws:// can be used"
        ));
    }
    Ok(url)
}

#[derive(Default)]
struct Parameters {
    connect_timeout: Option<std::time::Duration>,
    timeout: Option<std::time::Duration>,
    upgrade: Upgrade,
}

/// The parameters that are obeyed.
const OBEYED: [&str; 3] = ["connectiontimeout", "timeout", "upgrade"];

/// Parameters and flags of httpd that are not obeyed, and why.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (
        &["nocanon", "noquery", "interpolate", "mapping"],
        "not supported by this version: the path is always decoded, checked and encoded anew, and the query is kept",
    ),
    (
        &["max"],
        "not supported by this version; MaxRequestWorkers bounds all tunnels together",
    ),
    (
        &[
            "min",
            "smax",
            "ttl",
            "acquire",
            "disablereuse",
            "enablereuse",
        ],
        "there is no pool of backend connections: each tunnel has one of its own; remove it",
    ),
    (&["keepalive"], "TCP keepalive is always on; remove it"),
    (
        &[
            "retry",
            "route",
            "redirect",
            "loadfactor",
            "lbset",
            "status",
            "lbmethod",
            "stickysession",
            "stickysessionsep",
            "scolonpathdelim",
            "nofailover",
            "maxattempts",
            "failonstatus",
            "failontimeout",
            "forcerecovery",
            "nonce",
            "growth",
        ],
        "it belongs to balancers, which are not supported by this version; remove it",
    ),
    (
        &[
            "ping",
            "addressttl",
            "receivebuffersize",
            "iobuffersize",
            "responsefieldsize",
            "flushpackets",
            "flushwait",
            "flusher",
            "secret",
            "multipathtcp",
        ],
        "not supported by this version; remove it",
    ),
];

impl Parameters {
    /// Takes one `key=value`; keys in any case, the last of a key counts.
    fn take(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = match value::key_value(word) {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let lower = key.to_ascii_lowercase();
        if let Some((_, why)) = UNSUPPORTED
            .iter()
            .find(|(keys, _)| keys.contains(&lower.as_str()))
        {
            return Err(format!("parameter \"{key}\": {why}"));
        }
        let Some(value) = value else {
            return Err(format!(
                "expected parameters in the form key=value, found \"{word}\""
            ));
        };
        let done = match lower.as_str() {
            "connectiontimeout" => value::positive_duration(value, Seconds)
                .map(|limit| self.connect_timeout = Some(limit)),
            "timeout" => {
                value::positive_duration(value, Seconds).map(|limit| self.timeout = Some(limit))
            }
            "upgrade" => Upgrade::parse(value).map(|upgrade| self.upgrade = upgrade),
            _ => {
                return Err(match names::near_miss(key, OBEYED) {
                    Some(near) => {
                        format!("unknown parameter \"{key}\"; did you mean \"{near}\"?")
                    }
                    None => format!(
                        "unknown parameter \"{key}\"; expected {}",
                        OBEYED.join(", ")
                    ),
                });
            }
        };
        done.map_err(|problem| format!("{lower}: {problem}"))
    }
}

/// What is legal in a mapping and probably not meant.
fn doubts(scope: &Scope<'_>, mapping: &Mapping) -> Vec<String> {
    let mut doubts = Vec::new();
    let prefix = &mapping.prefix;
    // What matches a prefix matches all that lies below it, so the later entry can never have its turn.
    let mut earlier = scope.host.mappings.iter();
    if let Some((first, at)) = earlier.find(|(first, _)| first.rest(prefix.as_bytes()).is_some()) {
        doubts.push(if first.prefix == *prefix {
            format!("\"{prefix}\" is never reached: it is mapped at {at} already, and the first counts")
        } else {
            format!(
                "\"{prefix}\" is never reached: \"{}\" at {at} matches first; put the longer path before it",
                first.prefix
            )
        });
    }
    if prefix.contains(['%', '?', '#']) {
        doubts.push(format!(
            "\"{prefix}\" is compared with the decoded path without its query, so \"%\", \"?\" and \"#\" stand for themselves"
        ));
    }
    let url = &mapping.url;
    match (prefix.ends_with('/'), url.path.ends_with('/')) {
        (true, false) if url.path.is_empty() => doubts.push(format!(
            "\"{prefix}\" ends in \"/\" and the URL does not; a \"/\" is inserted between \"{url}\" and the rest of the path"
        )),
        (true, false) => doubts.push(format!(
            "\"{prefix}\" ends in \"/\" and the URL does not, so \"{prefix}x\" becomes \"{}x\"",
            url.path
        )),
        (false, true) => doubts.push(format!(
            "the URL ends in \"/\" and \"{prefix}\" does not, so \"{prefix}/x\" becomes \"{}/x\"",
            url.path
        )),
        _ => {}
    }
    if mapping.upgrade == Upgrade::None {
        doubts.push(
            "upgrade=NONE: the client's Upgrade field is not looked at, so any request from any page opens a tunnel"
                .to_owned(),
        );
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_obeyed_or_refused_by_name() {
        let refusal = |word: &str| Parameters::default().take(word).unwrap_err();
        assert!(refusal("timout=5").contains("did you mean \"timeout\"?"));
        assert!(refusal("frobnicate=1").contains("expected connectiontimeout"));
        assert!(refusal("Retry=5").contains("balancers"));
        assert!(refusal("nocanon").contains("not supported"));
        assert!(refusal("timeout").contains("key=value"));
        assert!(refusal("timeout=0").starts_with("timeout: "));
        assert!(refusal("=5").contains("key=value"));
        assert_eq!(Parameters::default().take("TimeOut=500ms"), Ok(()));
    }
}
