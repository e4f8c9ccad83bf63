//! `<Location>`, `<LocationMatch>`, `<Proxy>` and `<ProxyMatch>`: what a section names, and what its lines add up to.
//! Source: httpd core.c `urlsection`, mod_proxy.c `proxysection`.

use super::backend_tls::Engine;
use super::balancers::Known;
use super::documents::{DocumentDraft, Pages};
use super::findings::{Findings, Origin};
use super::proxy_pass::{MappingDraft, check_tls};
use crate::route::access::{self, Access};
use crate::route::backend::Parameters;
use crate::route::destination::ProxyUrl;
use crate::route::location::Location;
use crate::route::pattern::{Case, Pattern};
use crate::route::place::{self, Place};
use crate::route::proxied::{Proxied, Wanted, Which};
use crate::route::settings::{Change, ErrorOverride};
use crate::route::url::BackendUrl;
use crate::tls::backend::Demands;
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
    pub(super) tls: Demands,
    /// `SSLProxyEngine`
    pub(super) engine: Option<Engine>,
    /// `ProxyPassInterpolateEnv`, where it stands in the section.
    pub(super) interpolates: Option<bool>,
    pub(super) documents: Vec<DocumentDraft>,
    /// What the lines of `ProxyErrorOverride` in the section say together.
    pub(super) error_override: ErrorOverride,
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
    documents: Vec<DocumentDraft>,
    name: String,
    at: Origin,
}

/// What a `<Proxy>` section or a `ProxySet` line says about backends.
#[derive(Debug, Clone)]
pub(super) struct ProxySection {
    which: Which,
    /// `<Proxy>` or `ProxySet`.
    pub(super) directive: &'static str,
    pub(super) at: Origin,
    pub(super) parameters: Parameters,
    engine: Option<Engine>,
    /// What it changes for each request, if it changes anything; without its pages.
    proxied: Option<Arc<Proxied>>,
    documents: Vec<DocumentDraft>,
}

impl Section {
    /// Begins a section. `words` are those behind its name; `notes` get what has no effect.
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
                Applies::Backend(which_backends(text, is_pattern, server_root)?)
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
            tls: Demands::default(),
            engine: None,
            interpolates: None,
            documents: Vec::new(),
            error_override: ErrorOverride::Off,
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

    /// The path that an address of a backend becomes, for a `ProxyPassReverse` that stands in this section.
    pub(super) fn own_path(&self) -> Result<&str, String> {
        match &self.scope {
            Applies::Path {
                place: Place::Prefix(path),
                ..
            } => Ok(path),
            // httpd: makes the address of the pattern as it is written.
            _ => Err(format!(
                "{} stands for many paths, and an address begins with one; write the line with its path outside of it",
                self.name
            )),
        }
    }

    /// The backend or the balancer whose parameters may stand here.
    pub(super) fn url(&self) -> Option<&ProxyUrl> {
        match &self.scope {
            Applies::Backend(Which::Url(url)) => Some(url),
            _ => None,
        }
    }

    pub(super) fn finish(mut self, findings: &mut Findings) -> Finished {
        let mut access = self.access.finish();
        let has_handler = |change: &Change| matches!(change, Change::Handler(Some(_)));
        if access.is_empty() && self.changes.iter().any(has_handler) {
            // What it shows is not for everybody, also where a section around this one permits all.
            access = Access::local();
            let text = format!(
                "{} has no Require, so only clients of this machine see it; write Require ip ... or Require all granted \
                 there for others",
                self.name
            );
            findings.note(&self.at, "SetHandler", text);
        }
        if !access.is_empty() {
            self.changes.push(Change::Access(access));
        }
        match self.scope {
            Applies::Path { place, .. } => Finished::Location(Arc::new(LocationDraft {
                place,
                changes: self.changes,
                mapping: self.mapping,
                interpolates: self.interpolates,
                documents: self.documents,
                name: self.name,
                at: self.at,
            })),
            Applies::Backend(which) => {
                let has_tls = self.tls != Demands::default();
                self.parameters.tls = has_tls.then(|| Arc::new(self.tls));
                let is_plain = self.changes.is_empty() && self.documents.is_empty();
                let proxied = (!is_plain).then(|| Proxied {
                    which: which.clone(),
                    changes: self.changes,
                    name: self.name,
                    origin: self.at.to_string(),
                });
                Finished::Proxy(Arc::new(ProxySection {
                    which,
                    directive: "<Proxy>",
                    at: self.at,
                    parameters: self.parameters,
                    engine: self.engine,
                    proxied: proxied.map(Arc::new),
                    documents: self.documents,
                }))
            }
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

fn which_backends(text: &str, is_pattern: bool, server_root: &Path) -> Result<Which, String> {
    if is_pattern {
        return Pattern::parse(text, Case::Sensitive).map(Which::Pattern);
    }
    if Place::has_wildcards(text) {
        return place::wildcard_pattern(text, place::Star::CrossesSlashes).map(Which::Pattern);
    }
    let url = ProxyUrl::configured(text, server_root)?;
    url.backend().map_or(Ok(()), check_tls)?;
    Ok(Which::Url(url))
}

impl ProxySection {
    /// What `ProxySet url key=value ...` says.
    pub(super) fn of_backend(url: BackendUrl, parameters: Parameters, at: &Origin) -> Self {
        Self {
            which: Which::Url(ProxyUrl::Backend(url)),
            directive: "ProxySet",
            at: at.clone(),
            parameters,
            engine: None,
            proxied: None,
            documents: Vec::new(),
        }
    }

    /// What it changes for each request of a host, if it changes anything.
    pub(super) fn resolve(&self, pages: &mut Pages<'_>) -> Option<Arc<Proxied>> {
        let proxied = self.proxied.as_ref()?;
        if self.documents.is_empty() {
            return Some(Arc::clone(proxied));
        }
        let mut with_pages = Proxied::clone(proxied);
        with_pages.changes.extend(pages.changes(&self.documents));
        Some(Arc::new(with_pages))
    }

    /// How exactly this names the backend at `url`, if at all.
    fn fit(&self, url: &ProxyUrl) -> Option<usize> {
        self.which.fit(&Wanted::new(url))
    }

    /// Why this changes nothing, where requests are led to these URLs only. Of a pattern that is said where it is about TLS.
    pub(super) fn idle(&self, urls: &[ProxyUrl], members: &[&BackendUrl]) -> Option<String> {
        let mut urls = urls.iter();
        let Which::Url(own) = &self.which else {
            // What is meant to make backends safer must not be without effect unseen.
            let has_tls = self.parameters.tls.is_some() || self.engine.is_some();
            let is_idle = has_tls && !urls.any(|url| self.fit(url).is_some());
            return is_idle.then(|| {
                "what it says of TLS has no effect: no mapping leads to a URL that it describes, of a backend or of a balancer"
                    .to_owned()
            });
        };
        let has_effect = if self.parameters != Parameters::default() || self.engine.is_some() {
            urls.any(|url| self.fit(url).is_some())
        } else {
            // What a request adds to a URL can lead to any path.
            self.proxied.is_none() || urls.any(|url| own.is_same_origin(url))
        };
        let is_member = |own: &BackendUrl| members.iter().any(|url| own.is_same_origin(url));
        (!has_effect).then(|| match own.backend() {
            Some(own) if is_member(own) => format!(
                "\"{own}\" is the member of a balancer, and no mapping leads to it by itself; write its parameters behind \
                 its BalancerMember, and all else into the <Proxy> of the balancer"
            ),
            _ => format!("no mapping leads to \"{own}\"; write its URL as ProxyPass does"),
        })
    }

    /// What `sections` say about the backend or balancer at `url`: those that name it more exactly over the others.
    pub(super) fn parameters_for(url: &ProxyUrl, sections: &[Arc<Self>]) -> Parameters {
        let found = Self::of(url, sections).into_iter();
        found.fold(Parameters::default(), |base, section| {
            section.parameters.clone().over(&base)
        })
    }

    /// What they say last of `SSLProxyEngine` there.
    pub(super) fn engine_for<'s>(url: &ProxyUrl, sections: &'s [Arc<Self>]) -> Option<&'s Engine> {
        let found = Self::of(url, sections).into_iter().rev();
        found.filter_map(|section| section.engine.as_ref()).next()
    }

    /// Those that name `url`, the more exact ones behind the others.
    fn of<'s>(url: &ProxyUrl, sections: &'s [Arc<Self>]) -> Vec<&'s Self> {
        let fits = |section: &'s Arc<Self>| Some((section.fit(url)?, section.as_ref()));
        let mut found: Vec<(usize, &Self)> = sections.iter().filter_map(fits).collect();
        found.sort_by_key(|(exactness, _)| *exactness);
        found.into_iter().map(|(_, section)| section).collect()
    }
}

impl LocationDraft {
    /// Whether what it means depends on `DocumentRoot`.
    pub(super) fn has_files(&self) -> bool {
        self.documents.iter().any(DocumentDraft::is_file)
    }

    /// The location, with what the `<Proxy>` sections say about its backend.
    pub(super) fn resolve(
        &self,
        known: Known<'_>,
        interpolates: bool,
        pages: &mut Pages<'_>,
    ) -> Arc<Location> {
        let mut changes = self.changes.clone();
        changes.extend(pages.changes(&self.documents));
        let changes = known.with_members(changes);
        let interpolates = self.interpolates.unwrap_or(interpolates);
        Arc::new(Location {
            place: self.place.clone(),
            changes,
            mapping: self
                .mapping
                .as_ref()
                .map(|mapping| mapping.resolve(known, interpolates)),
            name: self.name.clone(),
            origin: self.at.to_string(),
        })
    }
}
