//! The walk from a path to what it leads to, in the order of httpd: rules, locations, mappings, the sections about the
//! backend that was found, `SetEnvIf`; last the rules of access are asked, also where nothing is mapped.

use super::environment::Environment;
use super::facts::{Facts, Tell};
use super::location::Location;
use super::mapping::{Action, Asked, NO_PROXY};
use super::place::Place;
use super::proxied::{Proxied, Wanted};
use super::rewrite::{Outcome, Rewriting};
use super::set_env::{self, Asking};
use super::url::{self, PathError};
use super::{Decision, Found, Route, Router};
use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::ids::Id;
use std::borrow::Cow;
use std::sync::Arc;

impl Router {
    /// Where a request goes, with all that sections say about it in `decision`.
    #[inline(never)]
    pub(super) fn find<'a>(
        &'a self,
        head: &RequestHead,
        facts: &Facts<'_>,
        decision: &mut Decision<'a>,
        tell: &mut Tell<'_>,
    ) -> Result<Found, Refusal> {
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
        // httpd: a mapping that fits the path as well wins. Here a section that says so by name does, since next to nobody wants
        // a backend to be asked for what stands there.
        if let Some(handler) = settings.handler {
            tell(format_args!("SetHandler {handler}: this program answers"));
            return Ok(Found::Handler(handler));
        }
        let route = route?.ok_or_else(|| {
            let path = path.escape_ascii();
            Refusal::new(Id::NotMapped, format!("nothing is mapped at \"{path}\""))
        })?;
        Ok(Found::Route(route))
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
            Outcome::Proxy { name, to, target } => Some(Route {
                to: to.clone(),
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
        let wanted = Wanted::of(&route.to, &route.target);
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
                to: proxy.to.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Limits;
    use crate::route::Arrival;
    use crate::route::backend::{Backend, Parameters};
    use crate::route::destination::Destination;
    use crate::route::mapping::{Mapping, Proxy, TargetPath};
    use crate::route::pattern::{Case, Pattern};
    use crate::route::settings::Change;
    use crate::route::template::{References, Template};
    use crate::route::url::{BackendUrl, Slashes};
    use std::time::{Duration, UNIX_EPOCH};

    const GROUPS: References = References {
        groups: true,
        variables: false,
    };

    fn proxy(url: &str) -> Proxy {
        Proxy {
            to: Destination::Backend(Arc::new(Backend {
                url: BackendUrl::parse(url).unwrap(),
                parameters: Parameters::default(),
            })),
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
            tls: None,
            received: UNIX_EPOCH,
            took: Duration::ZERO,
        };
        router.route(&mut head, &arrival, told)
    }

    /// The URL and the target that a request for `target` leads to, or the status that it is refused with.
    fn route(router: &Router, target: &str) -> Result<(String, String), u16> {
        let decision = decide(router, target, &mut |_| ());
        match decision.outcome.map_err(|refusal| refusal.status)? {
            Found::Route(route) => Ok((route.to.to_string(), route.target)),
            Found::Handler(handler) => Ok((handler.to_string(), String::new())),
        }
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
}
