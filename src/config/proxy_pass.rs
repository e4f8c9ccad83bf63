//! `ProxyPass` and `ProxyPassMatch`: a place, a URL, flags and parameters. Source: httpd mod_proxy.c `add_pass`.

use super::balancers::{self, Known};
use super::draft::Scope;
use super::findings::Origin;
use super::parameters;
use crate::route::backend::Parameters;
use crate::route::destination::ProxyUrl;
use crate::route::mapping::{Action, Mapping, Proxy, TargetPath};
use crate::route::pattern::{Case, Pattern};
use crate::route::place::{self, Place};
use crate::route::template::{References, Template};
use crate::route::url::{BackendUrl, Scheme, has_no_dot_segments};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A line whose backend is not known in full: a `<Proxy>` further down may say more about it.
#[derive(Debug, Clone)]
pub(super) struct MappingDraft {
    pub(super) place: Place,
    /// None: an exclusion.
    pub(super) target: Option<TargetDraft>,
    name: Arc<str>,
    pub(super) at: Origin,
    pub(super) directive: &'static str,
}

/// Where a line leads.
#[derive(Debug, Clone)]
pub(super) struct TargetDraft {
    pub(super) url: ProxyUrl,
    path: TargetPath,
    /// The same with the variables of a request, for `ProxyPassInterpolateEnv On`.
    interpolated: Option<(ProxyUrl, TargetPath)>,
    is_raw: bool,
    own: Parameters,
}

impl MappingDraft {
    /// The mapping, with what the `<Proxy>` sections say about its backend.
    pub(super) fn resolve(&self, known: Known<'_>, interpolates: bool) -> Arc<Mapping> {
        let action = match &self.target {
            None => Action::Exclude,
            Some(target) => {
                let own = target.interpolated.as_ref().filter(|_| interpolates);
                let (url, path) = match own {
                    Some((url, path)) => (url, path),
                    None => (&target.url, &target.path),
                };
                Action::Proxy(Proxy {
                    to: known.destination(url, &target.own),
                    path: path.clone(),
                    is_raw: target.is_raw,
                })
            }
        };
        Arc::new(Mapping {
            place: self.place.clone(),
            action,
            name: Arc::clone(&self.name),
            origin: self.at.to_string(),
        })
    }
}

/// `ProxyPass [path] !|url [flags] [key=value ...]`. Reports every problem of the line.
pub(super) fn proxy_pass(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    match words {
        ["~", words @ ..] => line(scope, words, true),
        _ => line(scope, words, false),
    }
}

/// `ProxyPassMatch [pattern] !|url [flags] [key=value ...]`
pub(super) fn proxy_pass_match(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    line(scope, words, true)
}

fn line(scope: &mut Scope<'_>, words: &[&str], is_pattern: bool) -> Result<(), String> {
    let own_place = match &scope.section {
        Some(section) => Some(section.place_of_mapping(is_pattern)?),
        None => None,
    };
    let (place, place_text, words) = match (own_place, words) {
        (Some(place), [first, rest @ ..]) => {
            let is_place = |text: &str| text.starts_with(['/', '^']);
            if is_place(first) && rest.first().is_some_and(|second| !second.contains('=')) {
                return Err(format!(
                    "\"{first}\": inside of a location the path is that of the location; write the URL alone"
                ));
            }
            let text = place.to_string();
            (place, text, words)
        }
        (None, [url, path, ..]) if url.contains("://") && path.starts_with('/') => {
            return Err(format!(
                "the path comes before the URL; write {} {path:?} {url:?}",
                scope.directive
            ));
        }
        (None, [text, url, ..]) if !is_pattern && text.starts_with('^') => {
            return Err(format!(
                "{text:?} is a pattern, and ProxyPass takes a path; write ProxyPassMatch {text:?} {url:?}"
            ));
        }
        (None, [text, words @ ..]) if !words.is_empty() => {
            let place = if is_pattern {
                Pattern::parse(text, Case::Sensitive).map(Place::Pattern)
            } else {
                Place::below(text)
            };
            (place?, format!("{text:?}"), words)
        }
        _ if is_pattern => {
            return Err(
                "expected a pattern and a URL, such as ProxyPassMatch \"^/app/(.*)/ws$\" \"ws://localhost:9000/$1\""
                    .to_owned(),
            );
        }
        _ => {
            return Err(
                "expected a path and a URL, such as ProxyPass \"/ws/\" \"ws://localhost:9000/\""
                    .to_owned(),
            );
        }
    };
    let [url, words @ ..] = words else {
        return Err("expected a URL or \"!\"".to_owned());
    };
    let target = if *url == "!" {
        if let [word, ..] = words {
            return Err(format!(
                "\"{word}\" has no meaning for an exclusion; remove it"
            ));
        }
        None
    } else {
        Some(target(
            scope,
            url,
            words,
            matches!(place, Place::Pattern(_)),
        )?)
    };
    let within = match &scope.section {
        Some(section) => format!("{} in {}", scope.directive, section.name),
        None => format!("{} {place_text}", scope.directive),
    };
    let draft = MappingDraft {
        place,
        target,
        name: within.into(),
        at: scope.at.clone(),
        directive: scope.directive,
    };
    for text in doubts(scope, &draft, url) {
        scope.warn(text);
    }
    match &mut scope.section {
        Some(section) => {
            if let Some(other) = section.mapping.replace(draft) {
                return Err(format!(
                    "{} has one already, at {}; remove one",
                    section.name, other.at
                ));
            }
        }
        None => scope.host.mappings.push(draft),
    }
    Ok(())
}

/// The URL with its flags and parameters.
fn target(
    scope: &mut Scope<'_>,
    url: &str,
    words: &[&str],
    is_pattern: bool,
) -> Result<TargetDraft, String> {
    let with = |variables| References {
        groups: is_pattern,
        variables,
    };
    let parsed = if is_pattern {
        url_with_references(url, scope.server_root, with(false))
    } else {
        ProxyUrl::configured(url, scope.server_root).map(|url| (url, TargetPath::Appended))
    };
    // Of a URL that is wrong nobody knows what it means for its parameters; fewest are refused for ordinary requests.
    let scheme = match &parsed {
        Ok((ProxyUrl::Backend(url), _)) => url.scheme,
        _ => Scheme::Http,
    };
    let balancer = match &parsed {
        Ok((ProxyUrl::Balancer(url), _)) => Some(url),
        _ => None,
    };
    let mut is_raw = false;
    let mut interpolated = None;
    let mut own = Parameters::default();
    let mut of_balancer = Vec::new();
    for word in words {
        let outcome = match word.to_ascii_lowercase().as_str() {
            "nocanon" => {
                is_raw = true;
                Ok(())
            }
            "interpolate" => url_with_references(url, scope.server_root, with(true))
                .map(|found| interpolated = Some(found)),
            "noquery" => {
                scope.note("noquery has no effect: it concerns a variable of scripts, and the query goes to the backend");
                Ok(())
            }
            _ if balancer.is_some() => {
                of_balancer.push(*word);
                Ok(())
            }
            _ => parameters::take(&mut own, word, scheme).map(|note| {
                if let Some(note) = note {
                    scope.note(note);
                }
            }),
        };
        if let Err(problem) = outcome {
            scope.error(problem);
        }
    }
    if let Some(balancer) = balancer {
        balancers::set(scope, balancer, &of_balancer);
    }
    let (url, path) = parsed?;
    let behind = match &path {
        TargetPath::Template(template) => template.to_string(),
        TargetPath::Appended => String::new(),
    };
    if let ProxyUrl::Backend(url) = &url {
        check_tls(url)?;
        if let Some(problem) = parameters::contradiction(&own, url, &behind) {
            scope.error(problem);
        }
        if let Some(note) = parameters::note(&own, url) {
            scope.note(note);
        }
    }
    check_path(&url, url.path())?;
    Ok(TargetDraft {
        url,
        path,
        interpolated,
        is_raw,
        own,
    })
}

/// A URL of `wss://` or `https://` needs TLS in this program.
pub(super) fn check_tls(url: &BackendUrl) -> Result<(), String> {
    if url.scheme.is_tls() && !cfg!(feature = "tls") {
        return Err(format!(
            "\"{url}\": this program was built without TLS (feature \"tls\"); only ws:// and http:// can be used"
        ));
    }
    Ok(())
}

/// No path that is configured climbs.
pub(super) fn check_path(url: &dyn fmt::Display, path: &str) -> Result<(), String> {
    if !has_no_dot_segments(path) {
        return Err(format!(
            "\"{url}\": the path has a segment \".\" or \"..\"; write it without"
        ));
    }
    Ok(())
}

/// A URL that is made for each request: what a request holds may stand in its path only.
// httpd: also in the host and the port, so that a request can choose where it is sent to.
fn url_with_references(
    text: &str,
    server_root: &Path,
    references: References,
) -> Result<(ProxyUrl, TargetPath), String> {
    let Some(first) = text.find('$') else {
        return Ok((
            ProxyUrl::configured(text, server_root)?,
            TargetPath::Appended,
        ));
    };
    let (origin, _) = text.split_at(first);
    // A socket has a path of its own, which ends at the bar.
    let url_start = match origin.find('|') {
        _ if !BackendUrl::begins_with_socket(text) => 0,
        Some(bar) => bar + 1,
        None => {
            return Err(format!(
                "\"{text}\": what a request holds may not choose the socket; \"$\" may stand in the path of the URL only"
            ));
        }
    };
    let url = origin.get(url_start..).unwrap_or_default();
    let authority = url_start + url.find("://").map_or(0, |colon| colon + 3);
    let path_start = origin.get(authority..).and_then(|rest| rest.find('/'));
    let (origin, path) = text.split_at(path_start.map_or(first, |start| authority + start));
    let chooses_host = || {
        format!(
            "\"{text}\": what a request holds may not choose the host or the port; \"$\" may stand in the path only"
        )
    };
    // Behind a socket no host is one, so that it would be no error.
    let host = origin.get(authority..).unwrap_or_default();
    let is_glued = path_start.is_none() && origin.contains("://");
    if is_glued && (host.is_empty() || goes_on_as_host(host, path)) {
        return Err(chooses_host());
    }
    let url = ProxyUrl::configured(origin, server_root)
        // It shows all of what was written, where the problem is there as well.
        .map_err(|problem| {
            ProxyUrl::configured(text, server_root)
                .err()
                .unwrap_or(problem)
        })?;
    if path.contains(['?', '#']) {
        return Err(format!(
            "\"{text}\" has a query or a fragment; the query of a request is that of the client (RewriteRule can change it)"
        ));
    }
    let template = Template::of_mapping(path, references)?;
    Ok((url, TargetPath::Template(template)))
}

/// Whether `path`, which begins with a reference right behind `host`, reads as more of that host. What a request brings in
/// is always a path: this is about what the line was meant to say.
fn goes_on_as_host(host: &str, path: &str) -> bool {
    let mut references = 0;
    let mut rest = path;
    while let Some(behind) = rest.strip_prefix('$') {
        references += 1;
        rest = match behind
            .strip_prefix('{')
            .and_then(|name| name.split_once('}'))
        {
            Some((_, behind)) => behind,
            None => behind.trim_start_matches(|c: char| c.is_ascii_digit()),
        };
    }
    host.ends_with([':', '.', '-', '@', '['])
        || !(rest.is_empty() || rest.starts_with('/'))
        || (references > 1 && !host.contains(':'))
}

/// What is legal in a mapping and probably not meant.
fn doubts(scope: &Scope<'_>, draft: &MappingDraft, written_url: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    if scope.section.is_none()
        && let Some(text) = shadowed(&scope.host.mappings, draft)
    {
        doubts.push(text);
    }
    if let Place::Pattern(pattern) = &draft.place
        && pattern.first_byte().is_some_and(|first| first != b'/')
    {
        let rest = pattern.as_str().trim_start_matches('^');
        doubts.push(format!(
            "it never matches: a path begins with \"/\"; write \"^/{rest}\""
        ));
    }
    let Some(target) = &draft.target else {
        return doubts;
    };
    let url = &target.url;
    match &draft.place {
        Place::Prefix(prefix) => {
            if target.interpolated.is_some() && prefix.contains("${") {
                doubts.push(format!(
                    "\"{prefix}\" stands for itself: variables are replaced in the URL only"
                ));
            }
            if prefix.contains(['%', '?', '#']) {
                doubts.push(format!(
                    "\"{prefix}\" is compared with the decoded path without its query, so \"%\", \"?\" and \"#\" stand for themselves"
                ));
            }
            doubts.extend(slashes(prefix, url));
        }
        Place::Pattern(pattern) => {
            if matches!(target.path, TargetPath::Appended) {
                doubts.push(format!(
                    "there is no $1 in \"{written_url}\", so the whole path of the request is appended to it"
                ));
            }
            if let Some(group) = glued_group(&target.path)
                && !pattern.begins_with_slash(group)
            {
                doubts.push(format!(
                    "\"${group}\" stands right behind the host, and what it captures need not begin with \"/\": a \"/\" is \
                     put between them"
                ));
            }
            if pattern.as_str().contains('?') && pattern.as_str().contains("\\?") {
                doubts.push(
                    "the pattern looks for a \"?\", but it sees the path without the query"
                        .to_owned(),
                );
            }
        }
    }
    if let ProxyUrl::Backend(url) = url {
        doubts.extend(parameters::doubts(&target.own, url));
    }
    doubts
}

/// The group that a path begins with, without a slash.
fn glued_group(path: &TargetPath) -> Option<usize> {
    let TargetPath::Template(template) = path else {
        return None;
    };
    let text = template.to_string();
    let digit = text.strip_prefix('$')?.chars().next()?.to_digit(10)?;
    usize::try_from(digit).ok()
}

/// Why a place can never have its turn: what matches a prefix matches all that lies below it.
fn shadowed(earlier: &[MappingDraft], draft: &MappingDraft) -> Option<String> {
    let place = &draft.place;
    let covers = |first: &&MappingDraft| match (&first.place, place) {
        (Place::Prefix(first), Place::Prefix(prefix)) => {
            place::behind(first, prefix.as_bytes()).is_some()
        }
        (Place::Pattern(first), Place::Pattern(pattern)) => first == pattern,
        (Place::Prefix(first), Place::Pattern(_)) => first == "/",
        (Place::Pattern(_), Place::Prefix(_)) => false,
    };
    let first = earlier.iter().find(covers)?;
    let at = &first.at;
    let does = if first.target.is_some() {
        "mapped"
    } else {
        "excluded"
    };
    let is_tunnel = |mapping: &MappingDraft| {
        let target = mapping.target.as_ref();
        target
            .and_then(|target| target.url.backend())
            .is_some_and(|url| url.scheme.is_tunnel())
    };
    let hint = if is_tunnel(draft) && first.target.is_some() && !is_tunnel(first) {
        "; write RewriteCond %{HTTP:Upgrade} websocket [NC] and a RewriteRule with [P] to have pages and WebSocket at \
         one path"
    } else {
        ""
    };
    Some(if first.place == *place {
        format!(
            "{place} is never reached: it is {does} at {at} already, and the first counts{hint}"
        )
    } else {
        format!(
            "{place} is never reached: {} at {at} matches first; put the longer path before it",
            first.place
        )
    })
}

/// A slash at the end of one side only.
fn slashes(prefix: &str, url: &ProxyUrl) -> Option<String> {
    match (prefix.ends_with('/'), url.path().ends_with('/')) {
        (true, false) if url.path().is_empty() => Some(format!(
            "\"{prefix}\" ends in \"/\" and the URL does not; a \"/\" is inserted between \"{url}\" and the rest of the path"
        )),
        (true, false) => Some(format!(
            "\"{prefix}\" ends in \"/\" and the URL does not, so \"{prefix}x\" becomes \"{}x\"",
            url.path()
        )),
        (false, true) => Some(format!(
            "the URL ends in \"/\" and \"{prefix}\" does not, so \"{prefix}/x\" becomes \"{}/x\"",
            url.path()
        )),
        _ => None,
    }
}
