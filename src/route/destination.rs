//! Where mappings and rules lead: to one backend, or to a balancer, which chooses one for each request.

use super::backend::Backend;
use super::url::{self, BackendUrl, PathError, wire_path};
use crate::balancer::Balancer;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What stands before the name of a balancer.
const SCHEME: &str = "balancer://";

/// The URL that a configuration leads requests to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProxyUrl {
    /// That of a backend.
    Backend(BackendUrl),
    /// That of a balancer.
    Balancer(BalancerUrl),
}

/// `balancer://name/path`, taken from configuration text only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BalancerUrl {
    /// Its name, in lower case; never empty.
    pub name: String,
    /// The path, empty or beginning with `/`, as it goes on the wire behind that of a member.
    pub path: String,
}

/// Where a request is led to, as far as it is known before a balancer has chosen.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To this backend.
    Backend(Arc<Backend>),
    /// To a member of this balancer.
    Balancer {
        /// The balancer.
        balancer: Arc<Balancer>,
        /// What stands behind its name, and before what is made of a request.
        path: Arc<str>,
    },
}

/// What stands before the path of a URL.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    Backend(&'a BackendUrl),
    /// A balancer, by its name.
    Balancer(&'a str),
}

impl BalancerUrl {
    /// Whether `text` is meant for one.
    pub fn is_meant(text: &str) -> bool {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("balancer"))
    }

    /// Parses `balancer://name[/path]`.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let behind = text
            .split_at_checked(SCHEME.len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
        let (_, behind) = behind.unwrap_or_default();
        let (name, path) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
        let is_odd = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
        if name.is_empty() || name.contains(is_odd) {
            return Err(format!(
                "{text:?} names no balancer; expected {SCHEME}name[/path] with letters, digits, \"-\", \"_\" and \".\" in \
                 the name"
            ));
        }
        if path.contains(['?', '#']) {
            return Err(format!(
                "{text:?} has a query or a fragment; the query of a request is that of the client"
            ));
        }
        let path = wire_path(path).map_err(|error: PathError| format!("{text:?}: {error}"))?;
        Ok(Self {
            name: name.to_ascii_lowercase(),
            path,
        })
    }
}

impl ProxyUrl {
    /// Parses what a configuration says: a balancer's URL, or a backend's as [`BackendUrl::configured`] does.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn configured(text: &str, server_root: &Path) -> Result<Self, String> {
        if BalancerUrl::is_meant(text) {
            BalancerUrl::parse(text).map(Self::Balancer)
        } else {
            BackendUrl::configured(text, server_root).map(Self::Backend)
        }
    }

    /// The path, empty or beginning with `/`.
    pub fn path(&self) -> &str {
        match self {
            Self::Backend(url) => &url.path,
            Self::Balancer(url) => &url.path,
        }
    }

    /// The backend's, if it is that.
    pub fn backend(&self) -> Option<&BackendUrl> {
        match self {
            Self::Backend(url) => Some(url),
            Self::Balancer(_) => None,
        }
    }

    /// Whether both lead to the same socket in the same way, or to the same balancer.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.origin().is_same(other.origin())
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Backend(url) => Origin::Backend(url),
            Self::Balancer(url) => Origin::Balancer(&url.name),
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(url) => url.fmt(f),
            Self::Balancer(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for BalancerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.name, self.path)
    }
}

impl Destination {
    /// Whether requests that come here become tunnels.
    pub fn is_tunnel(&self) -> bool {
        match self {
            Self::Backend(backend) => backend.url.scheme.is_tunnel(),
            Self::Balancer { balancer, .. } => balancer.is_tunnel(),
        }
    }

    /// Its URL.
    pub fn url(&self) -> ProxyUrl {
        match self {
            Self::Backend(backend) => ProxyUrl::Backend(backend.url.clone()),
            Self::Balancer { balancer, path } => ProxyUrl::Balancer(BalancerUrl {
                name: balancer.bare_name().to_owned(),
                path: path.to_string(),
            }),
        }
    }

    /// Every backend that a request can come to from here.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let (one, balancer) = match self {
            Self::Backend(backend) => (Some(backend), None),
            Self::Balancer { balancer, .. } => (None, Some(balancer)),
        };
        let members = balancer.into_iter().flat_map(|balancer| balancer.members());
        one.into_iter().chain(members.map(|member| &member.backend))
    }

    /// The path that all that is asked for here begins with.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Backend(backend) => &backend.url.path,
            Self::Balancer { path, .. } => path,
        }
    }

    /// Path and query that are asked for here: see [`BackendUrl::target`]. What a balancer's member is asked for then,
    /// its URL says with [`BackendUrl::below`].
    pub(super) fn target(&self, rest: &str, query: Option<&str>) -> String {
        url::target(self.path(), rest, query)
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Backend(backend) => Origin::Backend(&backend.url),
            Self::Balancer { balancer, .. } => Origin::Balancer(balancer.bare_name()),
        }
    }
}

impl PartialEq for Destination {
    /// A balancer is only like itself.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Backend(one), Self::Backend(other)) => one == other,
            (
                Self::Balancer { balancer, path },
                Self::Balancer {
                    balancer: other,
                    path: other_path,
                },
            ) => Arc::ptr_eq(balancer, other) && path == other_path,
            _ => false,
        }
    }
}

impl fmt::Display for Destination {
    /// As it is configured, in its canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(backend) => backend.url.fmt(f),
            Self::Balancer { balancer, path } => write!(f, "{}{path}", balancer.name()),
        }
    }
}

impl Origin<'_> {
    pub(super) fn is_same(self, other: Origin<'_>) -> bool {
        match (self, other) {
            (Self::Backend(one), Origin::Backend(other)) => one.is_same_origin(other),
            (Self::Balancer(one), Origin::Balancer(other)) => one == other,
            _ => false,
        }
    }

    /// As patterns of URLs see it, in two forms: with the port only where it is not the default one, and with it anyway.
    pub(super) fn texts(self) -> [String; 2] {
        match self {
            Self::Backend(url) => url.origins(),
            Self::Balancer(name) => [format!("{SCHEME}{name}"), format!("{SCHEME}{name}")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_are_named_in_any_case_and_have_no_port() {
        for (text, name, path) in [
            ("balancer://set", "set", ""),
            ("BALANCER://My_Set.1/", "my_set.1", "/"),
            ("balancer://set/a b/%7e", "set", "/a%20b/%7E"),
        ] {
            let url = BalancerUrl::parse(text).unwrap();
            assert_eq!((&*url.name, &*url.path), (name, path), "{text}");
        }
        for text in [
            "balancer:",
            "balancer://",
            "balancer:///x",
            "balancer://a:80/",
            "balancer://u@a/",
            "balancer://a?x",
            "balancer://a/?x",
            "balancer://a/%zz",
            "balancer:a/",
            "balancer:/a/",
            "ws://a/",
        ] {
            assert!(BalancerUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_leads_to_a_balancer_or_to_a_backend() {
        let url = |text| ProxyUrl::configured(text, Path::new("/etc")).unwrap();
        for text in ["balancer://set/x", "ws://a.example/x"] {
            assert_eq!(url(text).to_string(), text);
            assert!(url(text).is_same_origin(&url(text)));
            assert_eq!(url(text).path(), "/x");
        }
        assert!(!url("balancer://a").is_same_origin(&url("ws://a")));
        assert!(!url("balancer://a").is_same_origin(&url("balancer://b")));
        assert!(url("balancer://a/x").is_same_origin(&url("balancer://A/y")));
    }
}
