//! The path of a URL that is made for each request: text, and between it what the pattern of a `ProxyPassMatch` captured
//! (httpd util.c `ap_pregsub`) or what the environment holds (`interpolate`; httpd mod_proxy.c `proxy_interpolate`).

use super::environment::Environment;
use super::pattern::Captures;
use super::url::{decode_text, encode};
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

    /// The text for the wire. What was captured is encoded, or with `is_raw` written as it is: it has to come from a path
    /// of the wire then. All else is encoded in any case.
    ///
    /// # Errors
    /// 500 for more than 64 KiB.
    pub fn expand(
        &self,
        captures: Option<&Captures<'_>>,
        is_raw: bool,
        environment: &Environment,
    ) -> Result<String, Refusal> {
        let mut out = String::new();
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Literal(text) => text,
                Piece::Group(group) => captures.map_or(&[][..], |found| found.get(*group)),
                Piece::Variable(name) => environment.get(name).unwrap_or_default(),
            };
            match piece {
                Piece::Group(_) if is_raw => out.extend(bytes.iter().copied().map(char::from)),
                _ => bytes.iter().for_each(|byte| encode(*byte, &mut out)),
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
        let expanded = template.expand(Some(&captures), false, &Environment::default());
        expanded.unwrap()
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
            (false, "/${room}/${none}/$1/x", "/a%20b//$1/x"),
            (true, "/${ROOM}$1", "/a%20b"),
            (false, r"/\$x${", "/%5C$x$%7B"),
        ] {
            let references = References {
                groups,
                variables: true,
            };
            let template = Template::of_mapping(text, references).unwrap();
            let expanded = template.expand(None, false, &environment).unwrap();
            assert_eq!(expanded, expected, "{text}");
        }
        assert_eq!(expand("a", "a", "/${room}"), "/$%7Broom%7D");
    }

    #[test]
    fn references_stand_for_what_was_found() {
        for (template, expected) in [
            ("/$1", "/b"),
            ("$2$1", "cb"),
            ("/$0/$9x", "/abc/x"),
            (r"/\$1\\", "/$1%5C"),
            ("/$", "/$"),
            ("/$x$10", "/$xb0"),
            ("/a%20b", "/a%20b"),
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
                .expand(Some(&captures), false, &Environment::default())
                .unwrap_err()
                .status,
            500
        );
    }
}
