//! Which backend a request is for, and what it is asked for there: rewriting, locations, mappings, in the order of httpd.
#![deny(clippy::indexing_slicing)]

pub mod access;
pub mod backend;
pub mod edit;
pub mod environment;
pub mod facts;
pub mod location;
pub mod mapping;
pub mod own_name;
pub mod pattern;
pub mod place;
pub mod proxied;
pub mod remote_ip;
pub mod reverse;
pub mod rewrite;
pub mod set_env;
pub mod settings;
pub mod template;
pub mod url;

use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::http::headers::Headers;
use crate::ids::Id;
use backend::Backend;
use edit::{Circumstances, HeaderEdit};
use environment::Environment;
use facts::{Facts, Tell};
use location::Location;
use mapping::{Action, Asked, Mapping, NO_PROXY};
use own_name::{CanonicalName, Configured, OwnName};
use place::Place;
use proxied::{Proxied, Wanted};
use remote_ip::RemoteIp;
use rewrite::{Outcome, Rewriting, Rules};
use set_env::{Asking, SetEnvIf};
use settings::{Change, Settings};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use url::{PathError, Slashes};

/// All that one virtual host knows of paths.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// What the host is called.
    pub name: HostName,
    /// `RemoteIPHeader`, with the proxies that are trusted.
    pub remote_ip: Option<RemoteIp>,
    /// `AllowEncodedSlashes`
    pub slashes: Slashes,
    /// `SetEnvIf` and its kin outside of sections, in the order of the lines. They see the path as the client wrote it.
    pub set_env_if: Vec<Arc<SetEnvIf>>,
    /// What holds where no section changes it.
    pub settings: Settings,
    /// `RewriteRule`, tried before all others.
    pub rules: Rules,
    /// `<Proxy>` and `<ProxyMatch>` that change something, in the order of the file; all that name what a backend is asked
    /// for apply, before the locations.
    pub proxied: Vec<Arc<Proxied>>,
    /// `<Location>` and `<LocationMatch>`, in the order of the file; all that hold a path apply, the last one strongest.
    pub locations: Vec<Arc<Location>>,
    /// `ProxyPass` and `ProxyPassMatch` outside of locations, first match wins.
    pub mappings: Vec<Arc<Mapping>>,
}

/// What a virtual host is called. httpd: `ServerName`, `UseCanonicalName`.
#[derive(Debug, Clone)]
pub struct HostName {
    /// The name in the configuration, without scheme and port.
    pub server_name: Arc<str>,
    /// The port in `ServerName`, if there is one.
    pub port: Option<u16>,
    /// Whose word counts where this server names itself.
    pub canonical: CanonicalName,
}

impl Default for HostName {
    fn default() -> Self {
        Self {
            server_name: Arc::from("localhost"),
            port: None,
            canonical: CanonicalName::default(),
        }
    }
}

/// What is known of a request when its head has been read.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The client, as far as the connection tells.
    pub client: SocketAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// Whether the client speaks TLS to us.
    pub is_secure: bool,
    /// When the connection was accepted.
    pub received: SystemTime,
    /// How long ago that is.
    pub took: Duration,
}

impl Arrival {
    /// Our port, where it is not the default one of the scheme that the client speaks.
    pub fn unusual_port(&self) -> Option<u16> {
        let usual = if self.is_secure { 443 } else { 80 };
        Some(self.local.port()).filter(|port| *port != usual)
    }

    /// What is known of it in a virtual host that calls itself so.
    pub fn facts<'a>(&self, server_name: &'a str, own_name: OwnName<'a>) -> Facts<'a> {
        let now = (self.received + self.took).duration_since(UNIX_EPOCH);
        Facts {
            client: self.client,
            peer: self.peer,
            local: self.local,
            is_secure: self.is_secure,
            server_name,
            own_name,
            unix_seconds: now.unwrap_or_default().as_secs(),
        }
    }
}

/// What a request resolved to.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The client, as rules and logs shall see it.
    pub client: SocketAddr,
    /// How it is dealt with, also where it is refused.
    pub settings: Cow<'a, Settings>,
    /// What rules said about it.
    pub environment: Environment,
    /// What its `Host` said before `RequestHeader` changed the fields, empty if there was none; none: nothing was changed.
    pub host: Option<Vec<u8>>,
    /// Where it goes.
    pub outcome: Result<Route, Refusal>,
}

impl Decision<'_> {
    /// `SetEnv`, for a request that no rule has refused (httpd: fixups).
    fn set_variables(&mut self, tell: &mut Tell<'_>) {
        let is_refused = |refusal: &Refusal| refusal.id != Id::NotMapped;
        if self.outcome.as_ref().is_err_and(is_refused) {
            return;
        }
        for variable in &self.settings.variables {
            variable.apply(&mut self.environment, tell);
        }
    }
}

/// The way to a backend.
#[derive(Debug, Clone)]
pub struct Route {
    /// The backend.
    pub backend: Arc<Backend>,
    /// The line that leads there, as logs name it: `ProxyPass "/ws2/"`.
    pub name: Arc<str>,
    /// The target for the backend: path and query, canonical, every byte visible.
    pub target: String,
}

impl Router {
    /// Finds the backend for a request, and changes its fields as the configuration says.
    ///
    /// Refused are: a path without a canonical form (400 or 404), a path where nothing is mapped (404; httpd would serve a
    /// file), a client that is not permitted and a target that may not go on the wire (403), and what a rule refuses.
    pub fn route(
        &self,
        head: &mut RequestHead,
        arrival: &Arrival,
        tell: &mut Tell<'_>,
    ) -> Decision<'_> {
        let mut arrival = *arrival;
        if let Some(remote_ip) = &self.remote_ip {
            let found = remote_ip.client(arrival.client, &head.headers);
            remote_ip.rewrite(&found, arrival.client, &mut head.headers);
            arrival.client = found.client;
            tell(format_args!(
                "client {}",
                arrival.client.ip().to_canonical()
            ));
        }
        let mut decision = Decision {
            client: arrival.client,
            settings: Cow::Borrowed(&self.settings),
            environment: Environment::default(),
            host: None,
            outcome: Err(Refusal::new(Id::NotMapped, "")),
        };
        self.edit(head, &arrival, &decision, edit::apply_early);
        let host = head.headers.first("Host");
        let facts = arrival.facts(&self.name.server_name, self.own_name(host, &arrival));
        let asking = Asking {
            head,
            facts: &facts,
            path: set_env::written_path(head).as_bytes(),
        };
        set_env::apply(&self.set_env_if, &asking, &mut decision.environment, tell);
        let found = self.find(head, &facts, &mut decision, tell);
        decision.outcome = found.and_then(|route| outgoing(&route.target).map(|()| route));
        decision.set_variables(tell);
        if decision.outcome.is_ok() {
            decision.host = self.edit(head, &arrival, &decision, edit::apply);
        }
        decision
    }

    /// What this host calls itself towards a client that has sent this `Host`.
    pub fn own_name<'a>(&'a self, host: Option<&'a [u8]>, arrival: &Arrival) -> OwnName<'a> {
        let HostName {
            server_name,
            port,
            canonical,
        } = &self.name;
        let configured = Configured {
            name: server_name,
            port: *port,
        };
        canonical.of(configured, host, arrival.local.port(), arrival.is_secure)
    }

    /// Changes the fields of a request. What its `Host` said until then, if anything may be changed.
    #[inline(never)]
    fn edit(
        &self,
        head: &mut RequestHead,
        arrival: &Arrival,
        decision: &Decision<'_>,
        apply: impl FnOnce(&[Arc<HeaderEdit>], &mut Headers, &Circumstances<'_>),
    ) -> Option<Vec<u8>> {
        let edits = decision.settings.request_edits.as_slice();
        if edits.is_empty() {
            return None;
        }
        // The name may be that in Host, which may be changed.
        let host = head.headers.first("Host").unwrap_or_default().to_vec();
        let own_name = self.own_name(Some(&host), arrival);
        let about = Circumstances {
            facts: arrival.facts(&self.name.server_name, own_name),
            environment: &decision.environment,
            received: arrival.received,
            took: arrival.took,
        };
        apply(edits, &mut head.headers, &about);
        Some(host)
    }

    /// Every backend that a request can be led to.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let own = self
            .locations
            .iter()
            .filter_map(|location| location.mapping.as_ref());
        let mapped = own
            .chain(&self.mappings)
            .filter_map(|mapping| match &mapping.action {
                Action::Proxy(proxy) => Some(proxy.backend.as_ref()),
                Action::Exclude => None,
            });
        let led = self.rules.rules.iter().filter_map(|rule| rule.backend());
        mapped.chain(led)
    }

    /// Whether any request could have its tunnel in a reactor.
    pub fn is_ever_asynchronous(&self) -> bool {
        let locations = self.locations.iter();
        let changes = locations
            .flat_map(|location| &location.changes)
            .chain(self.proxied.iter().flat_map(|section| &section.changes));
        self.settings.asynchronous
            || changes
                .into_iter()
                .any(|change| *change == Change::Asynchronous(true))
    }

    #[inline(never)]
    fn find<'a>(
        &'a self,
        head: &RequestHead,
        facts: &Facts<'_>,
        decision: &mut Decision<'a>,
        tell: &mut Tell<'_>,
    ) -> Result<Route, Refusal> {
        let (mut raw, query) = match head.target().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (head.target(), None),
        };
        let mut path = url::canonical_path(raw, self.slashes)?;
        tell(format_args!("path \"{}\"", path.escape_ascii()));
        let mut query = query.map(Cow::Borrowed);
        let mut led = None;
        if !self.rules.rules.is_empty() {
            let environment = &mut decision.environment;
            let rewritten = self.rewrite(head, facts, environment, &path, query, tell)?;
            led = rewritten.led;
            query = rewritten.query;
            if rewritten.path != *path {
                path = Cow::Owned(rewritten.path);
                raw = "";
            }
        }
        let Decision {
            environment,
            settings,
            ..
        } = decision;
        let asked = Asked::new(raw, &path, query.as_deref(), environment);
        let locations = self.locations_of(&asked, tell);
        let named = named_groups(&locations, &asked);
        let route = match led {
            Some(route) => Ok(Some(route)),
            None if asked.is_not_for_mappings() => {
                tell(format_args!("{NO_PROXY} is set: nothing is mapped"));
                Ok(None)
            }
            None => self.map(&asked, &locations, tell),
        };
        for (name, value) in named {
            environment.set(&name, &value);
        }
        let sections = match &route {
            Ok(Some(route)) => self.sections_for(route, tell),
            _ => Vec::new(),
        };
        let changes = sections.iter().flat_map(|section| &section.changes);
        let of_locations = locations.iter().flat_map(|location| &location.changes);
        for change in changes.chain(of_locations) {
            settings.to_mut().apply(change);
        }
        let asking = Asking {
            head,
            facts,
            path: &path,
        };
        set_env::apply(&settings.set_env_if, &asking, environment, tell);
        // httpd: asks before it finds that there is nothing, so nobody learns what is there.
        if !settings.access.permits(facts, environment, head.method()) {
            let client = facts.client.ip().to_canonical();
            let why = format!("Require, or Allow and Deny, do not permit {client}");
            return Err(Refusal::new(Id::Denied, why));
        }
        route?.ok_or_else(|| {
            let path = path.escape_ascii();
            Refusal::new(Id::NotMapped, format!("nothing is mapped at \"{path}\""))
        })
    }

    /// Walks over the rules.
    // Apart, so that the stack of a worker without rules is not as deep.
    #[inline(never)]
    fn rewrite<'r>(
        &self,
        head: &'r RequestHead,
        facts: &'r Facts<'r>,
        environment: &mut Environment,
        path: &[u8],
        query: Option<Cow<'r, str>>,
        tell: &mut Tell<'_>,
    ) -> Result<Rewritten<'r>, Refusal> {
        let mut request = Rewriting {
            head,
            facts,
            environment,
            path: path.to_vec(),
            query,
        };
        let led = match self.rules.apply(&mut request, tell)? {
            Outcome::Redirect {
                name,
                status,
                location,
            } => {
                let why = format!("{name} sends the client elsewhere");
                let answer = Refusal::with_status(Id::Redirected, status, why);
                return Err(answer.with_header("Location", location));
            }
            Outcome::Proxy {
                name,
                backend,
                target,
            } => Some(Route {
                backend: Arc::clone(backend),
                name: Arc::clone(name),
                target,
            }),
            Outcome::Mappings => None,
        };
        Ok(Rewritten {
            led,
            path: request.path,
            query: request.query,
        })
    }

    /// The locations that hold the path.
    fn locations_of<'a>(&'a self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Vec<&'a Location> {
        let mut found = Vec::new();
        for location in &self.locations {
            let holds = location.place.holds(asked);
            let verdict = if holds { "applies" } else { "does not apply" };
            tell(format_args!(
                "{} at {} {verdict}",
                location.name, location.origin
            ));
            if holds {
                found.push(location.as_ref());
            }
        }
        found
    }

    /// The `<Proxy>` sections about what a backend is asked for.
    #[inline(never)]
    fn sections_for(&self, route: &Route, tell: &mut Tell<'_>) -> Vec<&Proxied> {
        let wanted = Wanted::new(&route.backend.url, &route.target);
        let mut found = Vec::new();
        for section in &self.proxied {
            let applies = section.which.fit(&wanted).is_some();
            let verdict = if applies { "applies" } else { "does not apply" };
            tell(format_args!("{section} {verdict}"));
            if applies {
                found.push(section.as_ref());
            }
        }
        found
    }

    /// Tries the mapping of the last location that has one, then the others in their order (httpd `proxy_trans`).
    #[inline(never)]
    fn map<'a>(
        &'a self,
        asked: &Asked<'_>,
        locations: &[&'a Location],
        tell: &mut Tell<'_>,
    ) -> Result<Option<Route>, Refusal> {
        let own = locations
            .iter()
            .rev()
            .find_map(|location| location.mapping.as_ref());
        for mapping in own.into_iter().chain(&self.mappings) {
            let (name, origin) = (&mapping.name, &mapping.origin);
            let proxy = match &mapping.action {
                Action::Exclude if mapping.place.holds(asked) => {
                    tell(format_args!("{name} at {origin}: matches, and excludes"));
                    return Ok(None);
                }
                Action::Exclude => None,
                Action::Proxy(proxy) => proxy
                    .target(&mapping.place, asked)?
                    .map(|target| (proxy, target)),
            };
            let Some((proxy, target)) = proxy else {
                let path = asked.path().escape_ascii();
                let why = mapping.place.refusal();
                tell(format_args!("{name} at {origin}: \"{path}\" {why}"));
                continue;
            };
            tell(format_args!(
                "{name} at {origin}: matches, and asks for {target}"
            ));
            return Ok(Some(Route {
                backend: Arc::clone(&proxy.backend),
                name: Arc::clone(&mapping.name),
                target,
            }));
        }
        Ok(None)
    }
}

/// What the rules have made of a request.
struct Rewritten<'r> {
    /// Where a rule leads, if one does.
    led: Option<Route>,
    path: Vec<u8>,
    query: Option<Cow<'r, str>>,
}

/// What the named groups of `<LocationMatch>` have found, for the environment: `MATCH_NAME` in capital letters, as in httpd.
#[inline(never)]
fn named_groups(locations: &[&Location], asked: &Asked<'_>) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for location in locations {
        if let Place::Pattern(pattern) = &location.place
            && !pattern.names().is_empty()
            && let Some(captures) = pattern.find(asked.subject())
        {
            let names = pattern.names().iter();
            found.extend(names.map(|(group, name)| {
                let name = format!("MATCH_{}", name.to_ascii_uppercase());
                (name, captures.get(*group).to_vec())
            }));
        }
    }
    found
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        let id = match error {
            PathError::Escape | PathError::AboveRoot => Id::BadPath,
            PathError::Slash | PathError::Nul => Id::HiddenByte,
        };
        Self::new(id, error.to_string())
    }
}

/// The last look at a target before it becomes part of a request line. Encoding and head parsing leave nothing to find
/// today but in a query; whatever way of making targets comes later has to pass here as well (httpd since 2.4.56,
/// CVE-2023-25690).
///
/// No dot segment passes either. What the client wrote has none left, but a pattern can cut one out of `/v1../x`, and a
/// variable can hold one: the backend would end up elsewhere than the rules of access did.
// httpd: passes dot segments on.
fn outgoing(target: &str) -> Result<(), Refusal> {
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::new(
            Id::BadTarget,
            "the target for the backend holds a blank or a control character",
        ));
    }
    let path = target.split('?').next().unwrap_or_default();
    if !url::has_no_dot_segments(path) {
        return Err(Refusal::new(
            Id::BadTarget,
            "the path for the backend has a segment \".\" or \"..\", or a \"%\" that encodes nothing",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::backend::Parameters;
    use super::mapping::{Proxy, TargetPath};
    use super::pattern::{Case, Pattern};
    use super::template::{References, Template};
    use super::url::BackendUrl;
    use super::*;
    use crate::http::head::Limits;

    const GROUPS: References = References {
        groups: true,
        variables: false,
    };

    fn proxy(url: &str) -> Proxy {
        Proxy {
            backend: Arc::new(Backend {
                url: BackendUrl::parse(url).unwrap(),
                parameters: Parameters::default(),
            }),
            path: TargetPath::Appended,
            is_raw: false,
        }
    }

    fn mapping(place: Place, action: Action) -> Arc<Mapping> {
        Arc::new(Mapping {
            name: format!("ProxyPass {place}").into(),
            place,
            action,
            origin: "test:1".to_owned(),
        })
    }

    /// `!` is an exclusion.
    fn router(lines: &[(&str, &str)]) -> Router {
        let mappings = lines.iter().map(|(prefix, url)| {
            let action = match *url {
                "!" => Action::Exclude,
                url => Action::Proxy(proxy(url)),
            };
            mapping(Place::below(prefix).unwrap(), action)
        });
        Router {
            mappings: mappings.collect(),
            ..Router::default()
        }
    }

    fn decide<'a>(router: &'a Router, target: &str, told: &mut Tell<'_>) -> Decision<'a> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_, mut head) = RequestHead::parse(text.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        let arrival = Arrival {
            client: "192.0.2.1:5000".parse().unwrap(),
            peer: "192.0.2.1:5000".parse().unwrap(),
            local: "192.0.2.2:80".parse().unwrap(),
            is_secure: false,
            received: UNIX_EPOCH,
            took: Duration::ZERO,
        };
        router.route(&mut head, &arrival, told)
    }

    /// The URL and the target that a request for `target` leads to, or the status that it is refused with.
    fn route(router: &Router, target: &str) -> Result<(String, String), u16> {
        let decision = decide(router, target, &mut |_| ());
        let route = decision.outcome.map_err(|refusal| refusal.status)?;
        Ok((route.backend.url.to_string(), route.target))
    }

    #[test]
    fn the_first_match_wins() {
        let router = router(
            &[
                ("/a/b", "ws://one"),
                ("/a", "ws://two/"),
                ("/a/c", "ws://3/"),
            ][..2],
        );
        for (target, url, path) in [
            ("/a/b/c", "ws://one", "/c"),
            ("/a/c", "ws://two/", "//c"),
            ("/a", "ws://two/", "/"),
        ] {
            let expected = (url.to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
        assert_eq!(route(&router, "/"), Err(404));
        assert_eq!(route(&Router::default(), "/a"), Err(404));
    }

    #[test]
    fn an_exclusion_ends_the_search() {
        let router = router(&[("/a/b", "!"), ("/a", "ws://a"), ("/", "ws://rest")]);
        for (target, expected) in [
            ("/a/b", Err(404)),
            ("/a/b/c", Err(404)),
            ("/a/bc", Ok(("ws://a".to_owned(), "/bc".to_owned()))),
            ("/b", Ok(("ws://rest".to_owned(), "/b".to_owned()))),
        ] {
            assert_eq!(route(&router, target), expected, "{target}");
        }
    }

    #[test]
    fn patterns_give_what_they_captured_to_the_path() {
        let pattern = |text: &str| Place::Pattern(Pattern::parse(text, Case::Sensitive).unwrap());
        let with = |url, template| {
            let path = TargetPath::Template(Template::of_mapping(template, GROUPS).unwrap());
            Action::Proxy(Proxy { path, ..proxy(url) })
        };
        let router = Router {
            mappings: vec![
                mapping(pattern("^/(myApp/ws)$"), with("ws://one", "/$1")),
                mapping(pattern("^/room(.*)"), with("ws://two", "$1")),
                mapping(
                    pattern("^/x([0-9]+)/(.*)"),
                    with("ws://three", "/$2/$1$0$3"),
                ),
                mapping(pattern("^/not"), Action::Exclude),
                mapping(pattern("o"), Action::Proxy(proxy("ws://four/base"))),
            ],
            ..Router::default()
        };
        for (target, url, path) in [
            ("/myApp/ws?q=1", "ws://one", "/myApp/ws?q=1"),
            // Whatever a request holds stays behind the authority.
            ("/room@evil", "ws://two", "/@evil"),
            ("/room:81/", "ws://two", "/:81/"),
            ("/room", "ws://two", "/"),
            ("/x12/a%3Fb%20", "ws://three", "/a%3Fb%20/12/x12/a%3Fb%20"),
            ("/myApp/wso", "ws://four/base", "/base/myApp/wso"),
        ] {
            let expected = (url.to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
        assert_eq!(route(&router, "/not/o"), Err(404));
        assert_eq!(route(&router, "/a"), Err(404));
    }

    #[test]
    fn without_canonical_form_the_rest_is_the_client_s_own() {
        let raw = |url| {
            Action::Proxy(Proxy {
                is_raw: true,
                ..proxy(url)
            })
        };
        let router = Router {
            slashes: Slashes::Kept,
            mappings: vec![mapping(Place::below("/ws").unwrap(), raw("ws://b/base"))],
            ..Router::default()
        };
        for (target, path) in [
            ("/ws/a%2Fb%2bc//d?e", "/base/a%2Fb%2bc//d?e"),
            ("//ws/a", "/base/a"),
            // The prefix is only there once it is decoded.
            ("/%77s/%2b", "/base/+"),
            // The backend would leave what was mapped.
            ("/ws/../ws/%2b", "/base/+"),
            ("/ws/%2e%2e/ws/%2b", "/base/+"),
        ] {
            let expected = ("ws://b/base".to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
        assert_eq!(route(&router, "/ws/x%2f..%2f..%2f%2b"), Err(403));
    }

    #[test]
    fn the_last_location_with_a_mapping_is_asked_first() {
        let location = |path: &str, url: Option<Action>, changes: Vec<Change>| {
            let place = Place::below(path).unwrap();
            Arc::new(Location {
                mapping: url.map(|action| mapping(place.clone(), action)),
                name: format!("<Location {place}>"),
                place,
                changes,
                origin: "test:1".to_owned(),
            })
        };
        let to = |url| Some(Action::Proxy(proxy(url)));
        let mut router = router(&[("/", "ws://list/")]);
        router.locations = vec![
            location("/a/b", to("ws://exact/"), vec![Change::PreserveHost(true)]),
            location("/a", to("ws://last/"), vec![Change::AddHeaders(true)]),
            location("/a/c", Some(Action::Exclude), vec![]),
            location(
                "/d",
                None,
                vec![Change::AddHeaders(true), Change::AddHeaders(false)],
            ),
        ];
        for (target, expected) in [
            ("/a/b", Ok("ws://last/")),
            ("/a/x", Ok("ws://last/")),
            ("/a/c", Err(404)),
            ("/d", Ok("ws://list/")),
        ] {
            let found = route(&router, target).map(|(url, _)| url);
            assert_eq!(found, expected.map(str::to_owned), "{target}");
        }
        let settings = |target| {
            let settings = decide(&router, target, &mut |_| ()).settings;
            (settings.preserve_host, settings.add_headers)
        };
        assert_eq!(settings("/a/b"), (true, true));
        assert_eq!(settings("/a"), (false, true));
        assert_eq!(settings("/d"), (false, false));
        assert_eq!(settings("/"), (false, false));
    }

    #[test]
    fn each_step_is_told() {
        let router = router(&[("/a/b", "!"), ("/a", "ws://a")]);
        let mut steps = Vec::new();
        decide(&router, "/a//%62c", &mut |step| {
            steps.push(step.to_string());
        });
        assert_eq!(
            steps,
            [
                "path \"/a/bc\"",
                "ProxyPass \"/a/b\" at test:1: \"/a/bc\" is not below \"/a/b\"",
                "ProxyPass \"/a\" at test:1: matches, and asks for /bc",
            ]
        );
    }

    #[test]
    fn the_example_of_the_documents() {
        let router = router(&[
            ("/ws2/", "ws://echo.websocket.org/"),
            ("/wss2/", "wss://echo.websocket.org/"),
        ]);
        for (target, url, path) in [
            ("/ws2/", "ws://echo.websocket.org/", "/"),
            ("/ws2/a?b", "ws://echo.websocket.org/", "/a?b"),
            ("/wss2/a/?", "wss://echo.websocket.org/", "/a/?"),
        ] {
            let expected = (url.to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn matching_and_forwarding_see_the_same_path() {
        let router = router(&[("/ws/", "ws://b/base/")]);
        for (target, path) in [
            ("/%77s/x", "/base/x"),
            ("//ws//x", "/base/x"),
            ("/other/../ws/x", "/base/x"),
            ("/ws/%2e/x", "/base/x"),
            ("/ws/a%20b%0d%0a", "/base/a%20b%0D%0A"),
            ("/ws/a%3fb", "/base/a%3Fb"),
            ("/ws/a%25b?q=%0d%0a", "/base/a%25b?q=%0d%0a"),
            ("/ws/%e4", "/base/%E4"),
            ("/ws/?a?b", "/base/?a?b"),
            ("/ws/@evil:80/", "/base/@evil:80/"),
            ("/ws/;x=1", "/base/;x=1"),
        ] {
            let expected = ("ws://b/base/".to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn paths_that_are_refused() {
        let router = router(&[("/", "ws://b/")]);
        for (target, status) in [
            ("/%zz", 400),
            ("/../x", 400),
            ("/%2e%2e/x", 400),
            ("/a%2Fb", 404),
            ("/a%00b", 404),
        ] {
            assert_eq!(route(&router, target), Err(status), "{target}");
        }
        // In a query they are the backend's business.
        assert!(route(&router, "/?%zz/../%2f%00").is_ok());
    }

    #[test]
    fn a_prefix_with_a_slash_before_a_url_without_one_is_no_injection() {
        let router = router(&[("/ws/", "ws://b")]);
        for (target, path) in [("/ws/a", "/a"), ("/ws/@evil/", "/@evil/"), ("/ws/", "/")] {
            let expected = ("ws://b".to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected));
        }
    }

    #[test]
    fn a_target_with_a_blank_or_a_control_does_not_go_out() {
        for target in ["/a b", "/a\r\nX: y", "/\u{7f}", "/\0"] {
            assert_eq!(outgoing(target).unwrap_err().status, 403);
        }
        assert_eq!(outgoing("/a%20b"), Ok(()));
    }
}
