//! Where in the tree of paths something applies: below a prefix, or where a pattern finds something.

use super::pattern::{Case, Pattern};
use std::fmt;

/// What a `ProxyPass`, `ProxyPassMatch`, `<Location>` or `<LocationMatch>` names.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// A path and all that is below it. Begins with `/`, and holds no two slashes in a row.
    Prefix(String),
    /// Wherever the pattern is found.
    Pattern(Pattern),
}

impl Place {
    /// The place below `prefix`, in which a run of slashes counts as one, as it does in canonical paths.
    ///
    /// # Errors
    /// A prefix that does not begin with a slash.
    pub fn below(prefix: &str) -> Result<Self, String> {
        if !prefix.starts_with('/') {
            return Err(format!("the path \"{prefix}\" does not begin with \"/\""));
        }
        let mut single = String::with_capacity(prefix.len());
        for c in prefix.chars() {
            if c != '/' || !single.ends_with('/') {
                single.push(c);
            }
        }
        Ok(Self::Prefix(single))
    }

    /// The place that a `<Location>` with the wildcards `*`, `?` and `[...]` names: the whole path must fit, and no
    /// wildcard stands for a slash (httpd: `apr_fnmatch` with `APR_FNM_PATHNAME`).
    ///
    /// # Errors
    /// A bracket that is never closed.
    pub fn wildcards(text: &str) -> Result<Self, String> {
        wildcard_pattern(text, Star::StaysInSegment).map(Self::Pattern)
    }

    /// Why a path does not lie here, in words that are made when they are printed.
    pub(super) fn refusal(&self) -> Refusal<'_> {
        Refusal(self)
    }

    /// Whether a `<Location>` text has wildcards.
    pub fn has_wildcards(text: &str) -> bool {
        text.contains(['*', '?', '['])
    }
}

/// What a wildcard may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Star {
    /// Anything but a slash, as in paths.
    StaysInSegment,
    /// Anything, as in the URLs of `<Proxy>`.
    CrossesSlashes,
}

/// The pattern that finds what a text with the wildcards `*`, `?` and `[...]` describes, as a whole.
///
/// # Errors
/// A bracket that is never closed.
pub fn wildcard_pattern(text: &str, star: Star) -> Result<Pattern, String> {
    let any = match star {
        Star::StaysInSegment => "[^/]",
        Star::CrossesSlashes => ".",
    };
    let mut pattern = String::from("^");
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => {
                pattern.push_str(any);
                pattern.push('*');
            }
            '?' => pattern.push_str(any),
            '[' => {
                let (class, behind) = rest
                    .as_str()
                    .split_once(']')
                    .ok_or_else(|| format!("\"{text}\" has a \"[\" without a \"]\""))?;
                push_class(class, &mut pattern);
                rest = behind.chars();
            }
            '\\' => push_literal(rest.next().unwrap_or('\\'), &mut pattern),
            _ => push_literal(c, &mut pattern),
        }
    }
    pattern.push('$');
    Pattern::parse(&pattern, Case::Sensitive)
}

/// A class of a wildcard as that of a pattern; `!` and `^` turn it round.
fn push_class(class: &str, pattern: &mut String) {
    pattern.push('[');
    let members = match class.strip_prefix(['!', '^']) {
        // Turned round it would hold the slash as well.
        Some(members) => {
            pattern.push_str("^/");
            members
        }
        None => class,
    };
    for c in members.chars() {
        if matches!(c, '[' | '\\' | '&' | '~' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push(']');
}

fn push_literal(c: char, pattern: &mut String) {
    if c.is_ascii_punctuation() && c != '/' {
        pattern.push('\\');
    }
    pattern.push(c);
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix:?}"),
            Self::Pattern(pattern) => write!(f, "{:?}", pattern.as_str()),
        }
    }
}

/// See [`Place::refusal`].
#[derive(Debug)]
pub(super) struct Refusal<'a>(&'a Place);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Prefix(prefix) => write!(f, "is not below {prefix:?}"),
            Place::Pattern(pattern) => write!(f, "is not what {:?} finds", pattern.as_str()),
        }
    }
}

/// What of `path` is behind `prefix`, or `None` if the path is not below it. A prefix ends where a segment does: `/ws` is
/// not a prefix of `/wsx`. Both hold no two slashes in a row. (httpd `alias_match`.)
pub fn behind(prefix: impl AsRef<[u8]>, path: &[u8]) -> Option<&[u8]> {
    let prefix = prefix.as_ref();
    let rest = path.strip_prefix(prefix)?;
    (prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::pattern::Subject;

    #[test]
    fn prefixes_end_where_segments_end() {
        for (prefix, path, rest) in [
            ("/ws", "/ws", Some("")),
            ("/ws", "/ws/", Some("/")),
            ("/ws", "/ws/a", Some("/a")),
            ("/ws", "/wsx", None),
            ("/ws", "/w", None),
            ("/ws", "/WS", None),
            ("/ws/", "/ws", None),
            ("/ws/", "/ws/", Some("")),
            ("/ws/", "/ws/a", Some("a")),
            ("/", "/", Some("")),
            ("/", "/a", Some("a")),
            ("/a/b", "/a/b/c", Some("/c")),
            ("/a/b", "/a", None),
        ] {
            let found = behind(prefix, path.as_bytes());
            assert_eq!(found, rest.map(str::as_bytes), "{prefix} {path}");
        }
    }

    #[test]
    fn runs_of_slashes_count_as_one() {
        for (prefix, single) in [("//a", "/a"), ("/a//b", "/a/b"), ("/a//", "/a/")] {
            assert_eq!(Place::below(prefix), Ok(Place::Prefix(single.to_owned())));
        }
        assert!(Place::below("a").is_err());
        assert!(Place::below("").is_err());
    }

    #[test]
    fn wildcards_stand_for_no_slash() {
        let fits = |text: &str, path: &str| {
            let Ok(Place::Pattern(pattern)) = Place::wildcards(text) else {
                panic!("{text}");
            };
            pattern.is_match(&Subject::new(path.as_bytes()))
        };
        for (text, path, expected) in [
            ("/*/ws", "/a/ws", true),
            ("/*/ws", "/a/b/ws", false),
            ("/*/ws", "/a/wsx", false),
            ("/a?c", "/abc", true),
            ("/a?c", "/a/c", false),
            ("/[ab]x", "/ax", true),
            ("/[ab]x", "/cx", false),
            ("/[!ab]x", "/cx", true),
            ("/[!ab]x", "/ax", false),
            ("/a[!b]x", "/a/x", false),
            ("/[a-c]", "/b", true),
            ("/a.b*", "/a.bc", true),
            ("/a.b*", "/axbc", false),
            (r"/a\*", "/a*", true),
            (r"/a\*", "/ab", false),
            ("/a+(b)*", "/a+(b)", true),
        ] {
            assert_eq!(fits(text, path), expected, "{text} {path}");
        }
        assert!(Place::wildcards("/[a").is_err());
    }
}
