//! Texts with references: what a rule puts in place of a path, and what a condition looks at. Source: httpd mod_rewrite.c
//! `do_expand`.

use super::Review;
use super::flags::Escape;
use super::variable::{Plain, Variable};
use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::ids::Id;
use crate::route::environment::Environment;
use crate::route::facts::Facts;
use crate::route::pattern::Captures;
use crate::route::url::decode_text;

/// The most bytes that can be made of a text.
const LONGEST: usize = 64 * 1024;

/// A text, read once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    /// `$0` to `$9`: what the rule found.
    Group(usize),
    /// `%0` to `%9`: what the last condition found.
    Found(usize),
    /// `%{NAME}`
    Variable(Variable),
}

/// What a pattern found, `$0` to `$9`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups([Vec<u8>; 10]);

impl Groups {
    fn get(&self, n: usize) -> &[u8] {
        self.0.get(n).map(Vec::as_slice).unwrap_or_default()
    }

    /// The same with `%25` for each percent sign.
    pub(super) fn percent_encoded(&self) -> Self {
        Self(self.0.each_ref().map(|group| percent_encoded(group)))
    }
}

/// `%25` for each percent sign.
pub(super) fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'%').collect();
    parts.join(&b"%25"[..])
}

impl From<Captures<'_>> for Groups {
    fn from(captures: Captures<'_>) -> Self {
        Self(std::array::from_fn(|n| captures.get(n).to_vec()))
    }
}

/// What references stand for.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) facts: &'a Facts<'a>,
    pub(super) environment: &'a Environment,
    /// The canonical path before any rule.
    pub(super) path: &'a [u8],
    /// The query, as the rules before this one left it.
    pub(super) query: Option<&'a str>,
    pub(super) groups: &'a Groups,
    pub(super) found: &'a Groups,
}

impl Text {
    /// Reads a text: `$n`, `%n`, `%{NAME}`; `\` takes the meaning from what is behind it.
    pub(super) fn parse(text: &str, review: &Review<'_>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let next = rest.clone().next();
            let digit = next.and_then(|next| next.to_digit(10));
            let piece = match (c, next, digit) {
                ('\\', Some(next), _) => {
                    literal.push(next);
                    rest.next();
                    continue;
                }
                ('$', _, Some(n)) => {
                    rest.next();
                    Piece::Group(n as usize)
                }
                ('%', _, Some(n)) => {
                    rest.next();
                    Piece::Found(n as usize)
                }
                ('$', Some('{'), _) => {
                    let name = rest.as_str().trim_start_matches('{');
                    let name = name.split_once('}').map_or(name, |(name, _)| name);
                    return Err(format!(
                        "\"${{{name}}}\" looks something up in a RewriteMap, which is not supported; a variable is \
                         written \"%{{{name}}}\""
                    ));
                }
                ('%', Some('{'), _) => {
                    let (name, behind) = rest
                        .as_str()
                        .trim_start_matches('{')
                        .split_once('}')
                        .ok_or_else(|| {
                            format!("\"{text}\": a \"%{{\" without \"}}\"; expected %{{NAME}}")
                        })?;
                    rest = behind.chars();
                    Piece::Variable(Variable::parse(name, review)?)
                }
                _ => {
                    literal.push(c);
                    continue;
                }
            };
            push_literal(&mut pieces, &mut literal);
            pieces.push(piece);
        }
        push_literal(&mut pieces, &mut literal);
        Ok(Self { pieces })
    }

    /// Cuts it at the first or the last `?` that was configured. One that a request brings in is no separator
    /// (CVE-2024-38474).
    pub(super) fn split_query(self, at_last: bool) -> (Self, Option<Self>) {
        let mark = |piece: &Piece| match piece {
            Piece::Literal(text) if at_last => text.iter().rposition(|byte| *byte == b'?'),
            Piece::Literal(text) => text.iter().position(|byte| *byte == b'?'),
            _ => None,
        };
        let marks = || self.pieces.iter().enumerate();
        let found = if at_last {
            marks().rev().find_map(|(i, piece)| Some((i, mark(piece)?)))
        } else {
            marks().find_map(|(i, piece)| Some((i, mark(piece)?)))
        };
        let Some((index, place)) = found else {
            return (self, None);
        };
        let mut path = self.pieces;
        let mut query = path.split_off(index);
        if let Some(Piece::Literal(text)) = query.first_mut() {
            let before = text.drain(..=place).take(place).collect::<Vec<u8>>();
            if !before.is_empty() {
                path.push(Piece::Literal(before));
            }
        }
        query.retain(|piece| *piece != Piece::Literal(Vec::new()));
        (Self { pieces: path }, Some(Self { pieces: query }))
    }

    /// Takes the percent encoding out of what was configured: in a path `\%20` means a blank.
    // httpd: takes a substitution for a decoded path, and sends "%2520" to the backend.
    pub(super) fn decoded(mut self) -> Result<Self, String> {
        for piece in &mut self.pieces {
            if let Piece::Literal(text) = piece
                && text.contains(&b'%')
            {
                let written = String::from_utf8_lossy(text);
                let decoded = decode_text(&written).map_err(|error| {
                    format!("\"{written}\": {error}; a percent sign itself is written \"%25\"")
                })?;
                *text = decoded;
            }
        }
        Ok(self)
    }

    /// Whether anything of a request comes into it.
    pub(super) fn has_references(&self) -> bool {
        let is_literal = |piece: &Piece| matches!(piece, Piece::Literal(_));
        !self.pieces.iter().all(is_literal)
    }

    /// Whether it has this variable in it.
    pub(super) fn asks_for(&self, plain: Plain) -> bool {
        self.pieces
            .contains(&Piece::Variable(Variable::Plain(plain)))
    }

    /// Whether what was configured may stand in a query.
    pub(super) fn check_query(&self) -> Result<(), String> {
        let is_bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
        for piece in &self.pieces {
            if let Piece::Literal(text) = piece
                && text.iter().any(is_bad)
            {
                return Err(format!(
                    "\"{}\": a query holds no blanks and no control characters; a blank is written \"\\%20\"",
                    String::from_utf8_lossy(text)
                ));
            }
        }
        Ok(())
    }

    /// The text for a request.
    ///
    /// # Errors
    /// 500 for more than 64 KiB.
    pub(super) fn expand(
        &self,
        values: &Values<'_>,
        escape: Option<&Escape>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            piece.expand(values, escape, &mut out);
            if out.len() > LONGEST {
                return Err(Refusal::new(
                    Id::TooLong,
                    "a rewrite rule makes more than 64 KiB of the request",
                ));
            }
        }
        Ok(out)
    }
}

impl Piece {
    pub(super) fn expand(&self, values: &Values<'_>, escape: Option<&Escape>, out: &mut Vec<u8>) {
        let reference = match self {
            Self::Literal(text) => return out.extend_from_slice(text),
            Self::Variable(variable) => return out.extend_from_slice(&variable.value(values)),
            Self::Group(n) => values.groups.get(*n),
            Self::Found(n) => values.found.get(*n),
        };
        match escape {
            Some(escape) => escape.push(reference, out),
            None => out.extend_from_slice(reference),
        }
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into_bytes()));
    }
}
