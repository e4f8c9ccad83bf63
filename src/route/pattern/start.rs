//! The literal start of a pattern, which is compared before the engine runs.
//!
//! A configuration with a thousand patterns mostly meets paths that the first bytes already tell apart; and where nothing
//! but "the rest" follows the literal, the engine has nothing to add.

use super::Case;
use super::syntax::{Kind, Token};
use std::ops::Range;

/// `^`, perhaps `x?`, a literal, and what comes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    case: Case,
    /// A byte that may stand before the literal: the "/" of `^/?ws`.
    optional: Option<u8>,
    literal: Vec<u8>,
    tail: Tail,
}

/// What follows the literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing: `^/ws`
    Open,
    /// The end: `^/ws$`
    End,
    /// Whatever there is: `^/ws/(.*)`, with or without "$" and the group.
    Rest { captured: bool },
    /// Something that the engine has to look at.
    Other,
}

/// What the start of a subject says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The pattern is not in this subject.
    Differs,
    /// It is, and this is `$0` and `$1`.
    Found {
        whole: Range<usize>,
        rest: Option<Range<usize>>,
    },
    /// It may be.
    AskEngine,
}

impl Start {
    /// The start of a pattern that can be told without the engine; `None` if there is none.
    pub(super) fn of(tokens: &[Token], case: Case) -> Option<Self> {
        let mut kinds: Vec<Kind> = tokens.iter().map(|token| token.kind).collect();
        let mut case = case;
        if kinds.first() == Some(&Kind::IgnoreCase) {
            kinds.remove(0);
            case = Case::Insensitive;
        }
        // Options would change what the parts behind them mean.
        if kinds
            .iter()
            .any(|kind| matches!(kind, Kind::IgnoreCase | Kind::Options))
        {
            return None;
        }
        let mut start = Self {
            case,
            optional: None,
            literal: Vec::new(),
            tail: Tail::Other,
        };
        let [Kind::Start, rest @ ..] = kinds.as_slice() else {
            // A search that may take everything takes it from the first byte on.
            start.tail = tail(&kinds);
            return matches!(start.tail, Tail::Rest { .. }).then_some(start);
        };
        if has_alternatives(rest) {
            return None;
        }
        let mut rest = rest;
        if let [
            Kind::Literal(byte),
            Kind::Repeat {
                least: 0,
                most: Some(1),
                greedy: true,
            },
            behind @ ..,
        ] = rest
        {
            start.optional = Some(*byte);
            rest = behind;
        }
        let mut in_group = false;
        loop {
            match rest {
                [Kind::Literal(_), Kind::Repeat { least: 0, .. }, ..] => break,
                [Kind::Literal(byte), Kind::Repeat { .. }, ..] => {
                    start.literal.push(*byte);
                    break;
                }
                [Kind::Literal(byte), behind @ ..] => {
                    start.literal.push(*byte);
                    rest = behind;
                }
                [Kind::Open { .. }, behind @ ..]
                    if tail(rest) == Tail::Other && is_certain(behind) =>
                {
                    in_group = true;
                    rest = behind;
                }
                _ => {
                    start.tail = if in_group { Tail::Other } else { tail(rest) };
                    break;
                }
            }
        }
        let says_nothing = start.literal.is_empty() && start.tail == Tail::Other;
        (!says_nothing).then_some(start)
    }

    /// Compares `subject` with it.
    pub(super) fn compare(&self, subject: &[u8]) -> Verdict {
        let with_optional = self.optional.and_then(|byte| self.strip(subject, &[byte]));
        // As the engine would: first with the optional byte, then without.
        for candidate in [with_optional, Some(subject)].into_iter().flatten() {
            let Some(rest) = self.strip(candidate, &self.literal) else {
                continue;
            };
            let matched = subject.len() - rest.len();
            return match self.tail {
                Tail::Other => Verdict::AskEngine,
                Tail::End if !rest.is_empty() => continue,
                Tail::Open | Tail::End => Verdict::Found {
                    whole: 0..matched,
                    rest: None,
                },
                Tail::Rest { captured } => Verdict::Found {
                    whole: 0..subject.len(),
                    rest: captured.then_some(matched..subject.len()),
                },
            };
        }
        Verdict::Differs
    }

    /// The byte that every subject begins with, in one of its cases, if there is only one such byte.
    pub(super) fn first_byte(&self) -> Option<u8> {
        let first = self.literal.first().copied();
        first.filter(|_| self.optional.is_none())
    }

    fn strip<'a>(&self, subject: &'a [u8], literal: &[u8]) -> Option<&'a [u8]> {
        let (start, rest) = subject.split_at_checked(literal.len())?;
        let equal = match self.case {
            Case::Sensitive => start == literal,
            Case::Insensitive => start.eq_ignore_ascii_case(literal),
        };
        equal.then_some(rest)
    }
}

fn tail(kinds: &[Kind]) -> Tail {
    const ALL: Kind = Kind::Repeat {
        least: 0,
        most: None,
        greedy: true,
    };
    match kinds {
        [] => Tail::Open,
        [Kind::End] => Tail::End,
        [Kind::Dot, ALL] | [Kind::Dot, ALL, Kind::End] => Tail::Rest { captured: false },
        [Kind::Open { captures }, Kind::Dot, ALL, Kind::Close]
        | [
            Kind::Open { captures },
            Kind::Dot,
            ALL,
            Kind::Close,
            Kind::End,
        ] => Tail::Rest {
            captured: *captures,
        },
        _ => Tail::Other,
    }
}

/// Whether there is a `|` outside of all groups that `kinds` opens, before a group is closed that they do not open.
fn has_alternatives(kinds: &[Kind]) -> bool {
    let mut depth = 0_usize;
    for kind in kinds {
        match kind {
            Kind::Open { .. } | Kind::OpenWithOptions => depth += 1,
            Kind::Close if depth == 0 => return false,
            Kind::Close => depth -= 1,
            Kind::Or if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Whether the group whose inside `kinds` begins with has to be there, and always in the same words.
fn is_certain(kinds: &[Kind]) -> bool {
    let mut depth = 0_usize;
    let close = kinds.iter().position(|kind| {
        match kind {
            Kind::Open { .. } | Kind::OpenWithOptions => depth += 1,
            Kind::Close if depth == 0 => return true,
            Kind::Close => depth -= 1,
            _ => {}
        }
        false
    });
    let behind = close.and_then(|close| kinds.get(close + 1));
    !has_alternatives(kinds) && !matches!(behind, Some(Kind::Repeat { least: 0, .. }))
}
