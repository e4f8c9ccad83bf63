//! The path of a `ProxyPassMatch`: text, and between it what the pattern captured. Source: httpd util.c `ap_pregsub`.

use super::pattern::Captures;
use super::url::decode_text;
use crate::http::answer::Refusal;
use crate::ids::Id;
use std::fmt;

/// A text with references. `$0` to `$9` stand for what a pattern found, `\` takes the meaning from what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Group(usize),
}

/// The most bytes that can be made of a template, as in httpd.
const LONGEST: usize = 64 * 1024;

impl Template {
    /// Reads the path of a URL as it was configured: what is percent-encoded there means the decoded byte.
    ///
    /// # Errors
    /// An escape that is none, or stands for a slash.
    pub fn of_mapping(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let digit = chars.peek().and_then(|c| c.to_digit(10));
            match (c, digit) {
                ('$', Some(group)) => {
                    chars.next();
                    push_literal(&mut pieces, &mut literal)?;
                    pieces.push(Piece::Group(group as usize));
                }
                ('\\', _) => literal.push(chars.next().unwrap_or('\\')),
                _ => literal.push(c),
            }
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
    pub fn expand(&self, captures: &Captures<'_>) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Group(group) => out.extend_from_slice(captures.get(*group)),
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
        let template = Template::of_mapping(template).unwrap();
        String::from_utf8(template.expand(&captures).unwrap()).unwrap()
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
        assert!(Template::of_mapping("/%zz").is_err());
        assert!(Template::of_mapping("/%2F$1").is_err());
    }

    #[test]
    fn what_is_made_of_it_has_a_bound() {
        let subject = "a".repeat(40_000);
        let subject = Subject::new(subject.as_bytes());
        let pattern = Pattern::parse("a+", Case::Sensitive).unwrap();
        let captures = pattern.find(&subject).unwrap();
        let twice = Template::of_mapping("$0$0").unwrap();
        assert_eq!(twice.expand(&captures).unwrap_err().status, 500);
    }
}
