//! `<Location>`, `<LocationMatch>`, `<Proxy>` and `<ProxyMatch>`: what a section names, and what its lines add up to.
//! Source: httpd core.c `urlsection`, mod_proxy.c `proxysection`.

use super::findings::Origin;
use super::proxy_pass::{MappingDraft, check_tls};
use crate::route::access::{self, Access};
use crate::route::backend::Parameters;
use crate::route::location::Location;
use crate::route::pattern::{Case, Pattern, Subject};
use crate::route::place::{self, Place};
use crate::route::settings::Change;
use crate::route::url::BackendUrl;
use std::path::Path;
use std::sync::Arc;

/// Which section it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Location,
    LocationMatch,
    Proxy,
    ProxyMatch,
}

/// A section that is being read.
#[derive(Debug)]
pub(super) struct Section {
    scope: Applies,
    /// As messages name it: `<Location "/ws">`.
    pub(super) name: String,
    pub(super) at: Origin,
    pub(super) changes: Vec<Change>,
    pub(super) access: access::Builder,
    pub(super) mapping: Option<MappingDraft>,
    pub(super) parameters: Parameters,
    /// `ProxyPassInterpolateEnv`, where it stands in the section.
    pub(super) interpolates: Option<bool>,
}

#[derive(Debug)]
enum Applies {
    /// To paths; and the text, for a `ProxyPassMatch` that takes its pattern from here.
    Path {
        place: Place,
        text: String,
    },
    Backend(Which),
}

/// The backends that a `<Proxy>` names.
#[derive(Debug, Clone)]
enum Which {
    /// That of a URL, with its path and all that is below.
    Url(BackendUrl),
    /// Those whose URL fits.
    Pattern(Pattern),
}

/// A finished section.
#[derive(Debug)]
pub(super) enum Finished {
    Location(Arc<LocationDraft>),
    Proxy(Arc<ProxySection>),
}

/// A `<Location>` whose mapping's backend is not known in full.
#[derive(Debug)]
pub(super) struct LocationDraft {
    place: Place,
    changes: Vec<Change>,
    pub(super) mapping: Option<MappingDraft>,
    interpolates: Option<bool>,
    name: String,
    at: Origin,
}

/// What a `<Proxy>` section or a `ProxySet` line says about backends.
#[derive(Debug, Clone)]
pub(super) struct ProxySection {
    which: Which,
    pub(super) parameters: Parameters,
    pub(super) changes: Vec<Change>,
}

impl Section {
    /// Begins a section. `words` are those behind its name.
    pub(super) fn begin(
        kind: Kind,
        words: &[&str],
        at: &Origin,
        server_root: &Path,
    ) -> Result<Self, String> {
        let (is_pattern, text, rest) = match words {
            [] | ["~"] => {
                return Err(match (kind, words) {
                    (Kind::Location, []) => "expected a path, such as <Location \"/ws/\">",
                    (Kind::Location | Kind::LocationMatch, _) => {
                        "expected a pattern of paths, such as <LocationMatch \"^/app/.*/ws$\">"
                    }
                    (Kind::Proxy, []) => {
                        "expected the URL of a backend, such as <Proxy \"ws://localhost:9000/\">, or * for all"
                    }
                    (Kind::Proxy | Kind::ProxyMatch, _) => {
                        "expected a pattern of URLs, such as <ProxyMatch \"^ws://10[.]\">"
                    }
                }
                .to_owned());
            }
            ["~", text, rest @ ..] => (true, *text, rest),
            [text, rest @ ..] => (
                matches!(kind, Kind::LocationMatch | Kind::ProxyMatch),
                *text,
                rest,
            ),
        };
        let scope = match kind {
            Kind::Location | Kind::LocationMatch => Applies::Path {
                place: path_place(text, is_pattern)?,
                text: text.to_owned(),
            },
            Kind::Proxy | Kind::ProxyMatch => {
                Applies::Backend(Which::parse(text, is_pattern, server_root)?)
            }
        };
        match (rest, &scope) {
            ([], _) | (_, Applies::Backend(Which::Url(_))) => {}
            ([word, ..], Applies::Backend(Which::Pattern(_))) => {
                return Err(format!(
                    "\"{word}\": parameters need the URL of one backend, without wildcards"
                ));
            }
            ([word, ..], Applies::Path { .. }) => {
                return Err(format!("expected one path, found \"{word}\" behind it"));
            }
        }
        let title = match kind {
            Kind::Location => "Location",
            Kind::LocationMatch => "LocationMatch",
            Kind::Proxy => "Proxy",
            Kind::ProxyMatch => "ProxyMatch",
        };
        Ok(Self {
            scope,
            name: format!("<{title} {text:?}>"),
            at: at.clone(),
            changes: Vec::new(),
            access: Access::builder(),
            mapping: None,
            parameters: Parameters::default(),
            interpolates: None,
        })
    }

    /// The place of a `ProxyPass` (or `ProxyPassMatch`) that stands in this section.
    pub(super) fn place_of_mapping(&self, is_pattern: bool) -> Result<Place, String> {
        let Applies::Path { place, text } = &self.scope else {
            return Err(format!(
                "not allowed in {}; allowed in <Location>",
                self.name
            ));
        };
        match place {
            Place::Prefix(_) if is_pattern => {
                Pattern::parse(text, Case::Sensitive).map(Place::Pattern)
            }
            // httpd: takes the wildcards for a regular expression, so that "*" means something else than in the section.
            Place::Pattern(pattern) if pattern.as_str() != text => Err(format!(
                "{} has wildcards; write <LocationMatch> with a pattern for a mapping",
                self.name
            )),
            place => Ok(place.clone()),
        }
    }

    /// Whether parameters of a backend may stand here.
    pub(super) fn takes_parameters(&self) -> bool {
        matches!(self.scope, Applies::Backend(Which::Url(_)))
    }

    pub(super) fn finish(mut self) -> Finished {
        let access = self.access.finish();
        if !access.is_empty() {
            self.changes.push(Change::Access(access));
        }
        match self.scope {
            Applies::Path { place, .. } => Finished::Location(Arc::new(LocationDraft {
                place,
                changes: self.changes,
                mapping: self.mapping,
                interpolates: self.interpolates,
                name: self.name,
                at: self.at,
            })),
            Applies::Backend(which) => Finished::Proxy(Arc::new(ProxySection {
                which,
                parameters: self.parameters,
                changes: self.changes,
            })),
        }
    }
}

fn path_place(text: &str, is_pattern: bool) -> Result<Place, String> {
    if is_pattern {
        Pattern::parse(text, Case::Sensitive).map(Place::Pattern)
    } else if !text.starts_with('/') {
        Err(format!("the path \"{text}\" does not begin with \"/\""))
    } else if Place::has_wildcards(text) {
        Place::wildcards(text)
    } else {
        Place::below(text)
    }
}

impl Which {
    fn parse(text: &str, is_pattern: bool, server_root: &Path) -> Result<Self, String> {
        if is_pattern {
            return Pattern::parse(text, Case::Sensitive).map(Self::Pattern);
        }
        if Place::has_wildcards(text) {
            return place::wildcard_pattern(text, place::Star::CrossesSlashes).map(Self::Pattern);
        }
        let url = BackendUrl::configured(text, server_root)?;
        check_tls(&url)?;
        Ok(Self::Url(url))
    }

    /// Whether this names a backend, and how exactly: the length of the path that it names.
    fn fit(&self, url: &BackendUrl) -> Option<usize> {
        match self {
            Self::Url(own) => {
                let same = own.is_same_origin(url);
                let below = place::behind(non_empty(&own.path), non_empty(&url.path).as_bytes());
                (same && below.is_some()).then_some(own.path.len())
            }
            Self::Pattern(pattern) => {
                let mut text = url.to_string();
                if url.path.is_empty() {
                    text.push('/');
                }
                pattern
                    .is_match(&Subject::new(text.as_bytes()))
                    .then_some(0)
            }
        }
    }
}

fn non_empty(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl ProxySection {
    /// What `ProxySet url key=value ...` says.
    pub(super) fn of_backend(url: BackendUrl, parameters: Parameters) -> Self {
        Self {
            which: Which::Url(url),
            parameters,
            changes: Vec::new(),
        }
    }

    /// Whether this is about the backend at `url`.
    pub(super) fn names(&self, url: &BackendUrl) -> bool {
        self.which.fit(url).is_some()
    }

    /// All that `sections` say about the backend at `url`: the changes in their order, and the parameters of those that
    /// name it more exactly over those of the others.
    pub(super) fn all_for(url: &BackendUrl, sections: &[Arc<Self>]) -> Self {
        let mut found: Vec<(usize, &Self)> = sections
            .iter()
            .filter_map(|section| Some((section.which.fit(url)?, section.as_ref())))
            .collect();
        let changes = found
            .iter()
            .flat_map(|(_, section)| section.changes.clone());
        let changes = changes.collect();
        found.sort_by_key(|(exactness, _)| *exactness);
        let parameters = found
            .iter()
            .fold(Parameters::default(), |base, (_, section)| {
                section.parameters.clone().over(&base)
            });
        Self {
            which: Which::Url(url.clone()),
            parameters,
            changes,
        }
    }
}

impl LocationDraft {
    /// The location, with what the `<Proxy>` sections say about its backend.
    pub(super) fn resolve(
        &self,
        sections: &[Arc<ProxySection>],
        interpolates: bool,
    ) -> Arc<Location> {
        let interpolates = self.interpolates.unwrap_or(interpolates);
        Arc::new(Location {
            place: self.place.clone(),
            changes: self.changes.clone(),
            mapping: self
                .mapping
                .as_ref()
                .map(|mapping| mapping.resolve(sections, interpolates)),
            name: self.name.clone(),
            origin: self.at.to_string(),
        })
    }
}
