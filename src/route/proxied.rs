//! `<Proxy>` and `<ProxyMatch>`: settings for what is asked of backends, whatever leads there.
//!
//! What counts is the whole URL that a request is led to, and not only what a mapping says of it: a section for a part of
//! a backend holds for that part, also where the mapping is for all of it (httpd mod_proxy.c `proxy_walk`). Its path is
//! looked at decoded and in canonical form, as a request's path is by `<Location>`: however a client writes it, the same
//! rules hold.

use super::destination::{Destination, Origin, ProxyUrl};
use super::pattern::{Pattern, Subject};
use super::place;
use super::settings::Change;
use super::url::{Slashes, canonical_path};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

/// One section.
#[derive(Debug, Clone)]
pub struct Proxied {
    /// Which URLs it is for.
    pub which: Which,
    /// What it changes, in the order of its lines.
    pub changes: Vec<Change>,
    /// As logs name it: `<Proxy "ws://localhost/">`.
    pub name: String,
    /// Where it was configured: `file:line`.
    pub origin: String,
}

/// The URLs that a section names.
#[derive(Debug, Clone)]
pub enum Which {
    /// This one, and all that is below its path.
    Url(ProxyUrl),
    /// Those in which the pattern is found.
    Pattern(Pattern),
}

/// A URL that sections are compared with.
#[derive(Debug)]
pub struct Wanted<'a> {
    origin: Origin<'a>,
    /// The path, decoded and in canonical form.
    path: Cow<'a, [u8]>,
    /// The whole, for patterns: as short as it can be written, and with its port. Made when the first one asks.
    texts: OnceCell<[Vec<u8>; 2]>,
}

impl<'a> Wanted<'a> {
    /// What is asked for at a destination, of which a balancer's members are no part. The query of `target` does not
    /// count.
    pub fn of(to: &'a Destination, target: &'a str) -> Self {
        Self::at(to.origin(), target)
    }

    /// The URL itself.
    pub fn new(url: &'a ProxyUrl) -> Self {
        Self::at(url.origin(), url.path())
    }

    fn at(origin: Origin<'a>, target: &'a str) -> Self {
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        Self {
            origin,
            path: decoded(path),
            texts: OnceCell::new(),
        }
    }

    fn texts(&self) -> &[Vec<u8>; 2] {
        let text = |origin: String| [origin.as_bytes(), &self.path].concat();
        self.texts.get_or_init(|| self.origin.texts().map(text))
    }
}

/// A path of the wire, decoded and in canonical form. One that has none is only equal to itself.
fn decoded(path: &str) -> Cow<'_, [u8]> {
    let path = if path.is_empty() { "/" } else { path };
    canonical_path(path, Slashes::Kept).unwrap_or(Cow::Borrowed(path.as_bytes()))
}

impl Which {
    /// Whether a URL is one of those, and how exactly it is named: the length of the path that is.
    #[must_use]
    pub fn fit(&self, wanted: &Wanted<'_>) -> Option<usize> {
        match self {
            Self::Url(own) => {
                let path = decoded(own.path());
                let is_below = place::behind(&path, &wanted.path).is_some();
                (own.origin().is_same(wanted.origin) && is_below).then_some(path.len())
            }
            Self::Pattern(pattern) => {
                let mut texts = wanted.texts().iter();
                let is_found = texts.any(|text| pattern.is_match(&Subject::new(text)));
                is_found.then_some(0)
            }
        }
    }
}

impl fmt::Display for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Case;
    use super::*;
    use std::path::Path;

    fn url(text: &str) -> ProxyUrl {
        ProxyUrl::configured(text, Path::new("/")).unwrap()
    }

    #[test]
    fn a_url_names_itself_and_what_is_below() {
        let below = |own: &str, target: &str| {
            let backend = url("ws://backend/app");
            let which = Which::Url(url(own));
            which.fit(&Wanted::at(backend.origin(), target)).is_some()
        };
        for own in ["ws://backend/app", "ws://BACKEND:80/app/x", "ws://backend"] {
            for target in [
                "/app/x",
                "/app/x/y",
                "/app/%78",
                "/app//x/",
                "/app/x?/../z",
                "/app/y/../x",
            ] {
                assert!(below(own, target), "{own} {target}");
            }
        }
        for target in ["/app/xy", "/app/X", "/app", "/", "/app/x%2Fy"] {
            assert!(!below("ws://backend/app/x", target), "{target}");
        }
        assert!(below("ws://backend/a%70p/%78", "/app/x"));
        assert!(!below("balancer://backend/app", "/app/x"));
        for own in ["wss://backend/app", "ws://backend:81/app", "ws://other/app"] {
            assert!(!below(own, "/app/x"), "{own}");
        }
    }

    #[test]
    fn a_pattern_sees_the_whole_url_with_and_without_its_port() {
        let backend = url("ws://backend/app");
        for (pattern, holds) in [
            ("^ws://backend/app/x y$", true),
            ("^ws://backend:80/app/", true),
            ("^ws://backend:81/", false),
            (r"\?q", false),
            ("", true),
        ] {
            let which = Which::Pattern(Pattern::parse(pattern, Case::Sensitive).unwrap());
            let wanted = Wanted::at(backend.origin(), "/app/x%20y?q");
            assert_eq!(which.fit(&wanted).is_some(), holds, "{pattern}");
        }
    }
}
