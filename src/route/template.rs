//! The path of a URL that is made for each request: text, and between it what the pattern of a `ProxyPassMatch` captured
//! (httpd util.c `ap_pregsub`) or what the environment holds (`interpolate`; httpd mod_proxy.c `proxy_interpolate`).

use super::environment::Environment;
use super::pattern::Captures;
use super::url::decode_text;
use crate::http::answer::Refusal;
use crate::ids::Id;
use std::fmt;

/// What `$` may begin in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct References {
    /// `$0` to `$9`: what a pattern found; and `\` takes the meaning from what is behind it.
    pub groups: bool,
    /// `${NAME}`: a variable of the request.
    pub variables: bool,
}

/// A text with references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Group(usize),
    Variable(String),
}

/// The most bytes that can be made of a template, as in httpd.
const LONGEST: usize = 64 * 1024;

impl Template {
    /// Reads the path of a URL as it was configured: what is percent-encoded there means the decoded byte.
    ///
    /// # Errors
    /// An escape that is none, or stands for a slash.
    pub fn of_mapping(text: &str, references: References) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let behind = rest.get(c.len_utf8()..).unwrap_or_default();
            let (piece, behind) = match c {
                '$' => reference(behind, references),
                '\\' if references.groups => {
                    let mut chars = behind.chars();
                    literal.push(chars.next().unwrap_or(c));
                    rest = chars.as_str();
                    continue;
                }
                _ => (None, behind),
            };
            match piece {
                Some(piece) => {
                    push_literal(&mut pieces, &mut literal)?;
                    pieces.push(piece);
                }
                None => literal.push(c),
            }
            rest = behind;
        }
        push_literal(&mut pieces, &mut literal)?;
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// The text with what was captured, decoded as the subject was.
    ///
    /// # Errors
    /// 500 for more than 64 KiB.
    pub fn expand(
        &self,
        captures: Option<&Captures<'_>>,
        environment: &Environment,
    ) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Group(group) => {
                    out.extend_from_slice(captures.map_or(&[], |found| found.get(*group)));
                }
                Piece::Variable(name) => {
                    out.extend_from_slice(environment.get(name).unwrap_or_default());
                }
            }
            if out.len() > LONGEST {
                return Err(Refusal::new(
                    Id::TooLong,
                    "the path for the backend is longer than 64 KiB",
                ));
            }
        }
        Ok(out)
    }
}

/// What stands behind a `$`, and the text behind that.
fn reference(text: &str, references: References) -> (Option<Piece>, &str) {
    let group = text.chars().next().and_then(|c| c.to_digit(10));
    if let Some(group) = group.filter(|_| references.groups) {
        return (
            Some(Piece::Group(group as usize)),
            text.get(1..).unwrap_or_default(),
        );
    }
    let name = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    match name.filter(|_| references.variables) {
        Some((name, behind)) => (Some(Piece::Variable(name.to_owned())), behind),
        None => (None, text),
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) -> Result<(), String> {
    if !literal.is_empty() {
        let decoded = decode_text(literal).map_err(|error| format!("\"{literal}\": {error}"))?;
        pieces.push(Piece::Literal(decoded));
        literal.clear();
    }
    Ok(())
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::{Case, Pattern, Subject};
    use super::*;

    fn expand(pattern: &str, subject: &str, template: &str) -> String {
        let subject = Subject::new(subject.as_bytes());
        let pattern = Pattern::parse(pattern, Case::Sensitive).unwrap();
        let captures = pattern.find(&subject).unwrap();
        let template = Template::of_mapping(template, GROUPS).unwrap();
        let expanded = template.expand(Some(&captures), &Environment::default());
        String::from_utf8(expanded.unwrap()).unwrap()
    }

    const GROUPS: References = References {
        groups: true,
        variables: false,
    };

    #[test]
    fn variables_stand_for_what_the_environment_holds() {
        let mut environment = Environment::default();
        environment.set("room", b"a b");
        for (groups, text, expected) in [
            (false, "/${room}/${none}/$1/x", "/a b//$1/x"),
            (true, "/${ROOM}$1", "/a b"),
            (false, r"/\$x${", r"/\$x${"),
        ] {
            let references = References {
                groups,
                variables: true,
            };
            let template = Template::of_mapping(text, references).unwrap();
            let expanded = template.expand(None, &environment).unwrap();
            assert_eq!(String::from_utf8(expanded).unwrap(), expected, "{text}");
        }
        assert_eq!(expand("a", "a", "/${room}"), "/${room}");
    }

    #[test]
    fn references_stand_for_what_was_found() {
        for (template, expected) in [
            ("/$1", "/b"),
            ("$2$1", "cb"),
            ("/$0/$9x", "/abc/x"),
            (r"/\$1\\", r"/$1\"),
            ("/$", "/$"),
            ("/$x$10", "/$xb0"),
            ("/a%20b", "/a b"),
        ] {
            assert_eq!(expand("a(b)(c)", "xabcx", template), expected, "{template}");
        }
    }

    #[test]
    fn an_escape_has_to_be_one() {
        assert!(Template::of_mapping("/%zz", GROUPS).is_err());
        assert!(Template::of_mapping("/%2F$1", GROUPS).is_err());
    }

    #[test]
    fn what_is_made_of_it_has_a_bound() {
        let subject = "a".repeat(40_000);
        let subject = Subject::new(subject.as_bytes());
        let pattern = Pattern::parse("a+", Case::Sensitive).unwrap();
        let captures = pattern.find(&subject).unwrap();
        let twice = Template::of_mapping("$0$0", GROUPS).unwrap();
        assert_eq!(
            twice
                .expand(Some(&captures), &Environment::default())
                .unwrap_err()
                .status,
            500
        );
    }
}
