//! One `ProxyPass` or `ProxyPassMatch` line: where it applies, and what a backend is asked for there.

use super::destination::Destination;
use super::environment::Environment;
use super::pattern::{Pattern, Subject};
use super::place::{self, Place};
use super::template::Template;
use super::url::{encode, encoded};
use crate::http::answer::Refusal;
use std::cell::OnceCell;
use std::sync::Arc;

/// One mapping. httpd: an entry of `ProxyPass` or `ProxyPassMatch`.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Where it applies.
    pub place: Place,
    /// What happens there.
    pub action: Action,
    /// How logs name it: `ProxyPass "/ws2/"`.
    pub name: Arc<str>,
    /// Where it was configured: `file:line`.
    pub origin: String,
}

/// What a mapping does with a request that it meets.
#[derive(Debug, Clone)]
pub enum Action {
    /// `!`: nothing is mapped here, whatever comes later.
    Exclude,
    /// A backend is asked.
    Proxy(Proxy),
}

/// The way to a backend.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Which one.
    pub to: Destination,
    /// What it is asked for.
    pub path: TargetPath,
    /// `nocanon`: the rest of the path goes to the backend as the client wrote it.
    pub is_raw: bool,
}

/// The path that a backend is asked for.
#[derive(Debug, Clone)]
pub enum TargetPath {
    /// That of its URL, and behind it what the place left over; all of the path, where the place is a pattern.
    Appended,
    /// Made of what a pattern captured, or of variables. Where the place is a prefix, what it left over stands behind it.
    Template(Template),
}

/// The path and the query of a request, as mappings look at them.
#[derive(Debug)]
pub struct Asked<'r> {
    /// The path as the client wrote it; empty where a rule has changed it since.
    raw: &'r str,
    /// The canonical path.
    path: &'r [u8],
    /// As the client wrote it, or as a rule did.
    query: Option<&'r str>,
    /// What rules have said about the request.
    environment: &'r Environment,
    /// [`Self::path`], for patterns. Made when the first one asks.
    subject: OnceCell<Subject<'r>>,
}

/// The variable that keeps a request from all mappings. httpd: `proxy_trans`.
pub(super) const NO_PROXY: &str = "no-proxy";

impl<'r> Asked<'r> {
    pub(super) fn new(
        raw: &'r str,
        path: &'r [u8],
        query: Option<&'r str>,
        environment: &'r Environment,
    ) -> Self {
        Self {
            raw,
            path,
            query,
            environment,
            subject: OnceCell::new(),
        }
    }

    /// Whether no mapping is looked at.
    pub(super) fn is_not_for_mappings(&self) -> bool {
        self.environment.is_set(NO_PROXY)
    }

    pub(super) fn path(&self) -> &'r [u8] {
        self.path
    }

    pub(super) fn subject(&self) -> &Subject<'r> {
        self.subject.get_or_init(|| Subject::new(self.path))
    }
}

impl Place {
    /// Whether `asked` lies here.
    pub(super) fn holds(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Prefix(prefix) => place::behind(prefix, asked.path).is_some(),
            Self::Pattern(pattern) => pattern.is_match(asked.subject()),
        }
    }
}

impl Proxy {
    /// The target for the backend, if `asked` lies at `place`: path and query.
    ///
    /// # Errors
    /// 500 where a template makes too much of it.
    pub(super) fn target(
        &self,
        place: &Place,
        asked: &Asked<'_>,
    ) -> Result<Option<String>, Refusal> {
        if self.is_raw
            && is_plain(asked.raw)
            && let Some(rest) = self.rest_of_raw(place, asked)?
        {
            return Ok(Some(self.to.target(&rest, asked.query)));
        }
        let rest = match place {
            Place::Prefix(prefix) => {
                let Some(rest) = place::behind(prefix, asked.path) else {
                    return Ok(None);
                };
                let mut target = self.base(asked)?;
                rest.iter().for_each(|byte| encode(*byte, &mut target));
                target
            }
            Place::Pattern(pattern) => match self.found(pattern, asked)? {
                Some(rest) => rest,
                None => return Ok(None),
            },
        };
        Ok(Some(self.to.target(&rest, asked.query)))
    }

    /// What a pattern makes of the path, for the wire; `None` if it finds nothing.
    // Apart, so that the stack of a worker without patterns is not as deep.
    #[inline(never)]
    fn found(&self, pattern: &Pattern, asked: &Asked<'_>) -> Result<Option<String>, Refusal> {
        let Some(captures) = pattern.find(asked.subject()) else {
            return Ok(None);
        };
        Ok(Some(match &self.path {
            TargetPath::Appended => encoded(asked.path),
            TargetPath::Template(template) => {
                template.expand(Some(&captures), false, asked.environment)?
            }
        }))
    }

    /// What stands behind the URL where the path goes on as the client wrote it; `None` if only its canonical form lies at
    /// `place`.
    #[inline(never)]
    fn rest_of_raw(&self, place: &Place, asked: &Asked<'_>) -> Result<Option<String>, Refusal> {
        match place {
            Place::Prefix(prefix) => {
                let rest = place::behind(prefix, asked.raw.as_bytes());
                let rest = rest.and_then(|rest| asked.raw.get(asked.raw.len() - rest.len()..));
                // The prefix has a slash where the client wrote several.
                let rest = rest.filter(|rest| !(prefix.ends_with('/') && rest.starts_with('/')));
                let Some(rest) = rest else { return Ok(None) };
                Ok(Some(self.base(asked)? + rest))
            }
            Place::Pattern(pattern) => {
                let raw = Subject::new(asked.raw.as_bytes());
                let Some(captures) = pattern.find(&raw) else {
                    return Ok(None);
                };
                Ok(Some(match &self.path {
                    TargetPath::Appended => asked.raw.to_owned(),
                    TargetPath::Template(template) => {
                        template.expand(Some(&captures), true, asked.environment)?
                    }
                }))
            }
        }
    }

    /// What stands between the URL and the rest of a path behind a prefix.
    fn base(&self, asked: &Asked<'_>) -> Result<String, Refusal> {
        match &self.path {
            TargetPath::Appended => Ok(String::new()),
            TargetPath::Template(template) => template.expand(None, false, asked.environment),
        }
    }
}

/// Whether a raw path may go on as it is: with dot segments in it, a backend would end up elsewhere than the mapping did.
// httpd: forwards them.
fn is_plain(raw: &str) -> bool {
    !raw.is_empty() && super::url::has_no_dot_segments(raw)
}
