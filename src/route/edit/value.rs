//! The values of `Header` and `RequestHeader`: text with `%` directives, and for `edit` with `$` groups.

use super::{Circumstances, starts_with};
use crate::http::head::MAX_HEAD;
use crate::route::facts::Fact;
use crate::route::pattern::Captures;
use crate::tls::Session;
use std::time::UNIX_EPOCH;

/// The longest value that is written, in bytes: as long as a whole head may be. What would be longer is left out.
pub(super) const LONGEST: usize = MAX_HEAD;

/// What a value is made of, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Stands for itself. Holds no control character but HT.
    Text(String),
    /// `%t`: when the request was received.
    Received,
    /// `%D`: how long it has been served.
    Took,
    /// `%{NAME}e`, and `%{reqenv:NAME}` of an expression; and what stands for one that is not set.
    Variable(String, &'static str),
    /// `%{NAME}s`, and `%{NAME}` of an expression.
    Fact(Fact),
    /// `$0` to `$9` of an `edit`.
    Group(usize),
}

impl Value {
    /// Parses a value as httpd's `parse_format_string`: `%%`, `%t`, `%D`, `%{NAME}e`, `%{NAME}s`, and a backslash before a
    /// backslash or before `t`. Behind `expr=` it is an expression of text and `%{NAME}`.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        // In lower case only: httpd takes "EXPR=" for text.
        if let Some(expression) = text.strip_prefix("expr=") {
            parse_expression(expression, &mut pieces)?;
            let value = Self { pieces };
            value.check(text)?;
            return Ok(value);
        }
        let mut rest = text;
        while let Some(place) = rest.find('%') {
            let (before, directive) = rest.split_at(place);
            push_text(&mut pieces, &unescape(before));
            rest = parse_directive(directive, &mut pieces)?;
        }
        push_text(&mut pieces, &unescape(rest));
        let value = Self { pieces };
        value.check(text)?;
        Ok(value)
    }

    /// Parses what an `edit` puts in place of a match: a value, in which `$0` to `$9` are groups, and a backslash before
    /// any character makes it stand for itself.
    ///
    /// Both kinds of backslash are read one after the other, as in httpd. Only what stands in the configuration is
    /// searched for groups.
    // httpd: also searches the values of variables for "$1", so that a client could ask for a group.
    pub(super) fn parse_replacement(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for piece in Self::parse(text)?.pieces {
            match piece {
                Piece::Text(text) => push_groups(&mut pieces, &text),
                other => pieces.push(other),
            }
        }
        Ok(Self { pieces })
    }

    /// A line end in a value would begin a field of its own, or end the head.
    fn check(&self, text: &str) -> Result<(), String> {
        let is_bad = |c: char| c.is_ascii_control() && c != '\t';
        let mut texts = self.pieces.iter().filter_map(Piece::text);
        if texts.any(|piece| piece.contains(is_bad)) {
            return Err(format!(
                "{text:?} holds a line end or another control character, which no header field can have"
            ));
        }
        Ok(())
    }

    /// The value, if it is the same for every request.
    pub(super) fn constant(&self) -> Option<String> {
        self.pieces.iter().map(Piece::text).collect()
    }

    /// Appends the value for one request to `out`. Control characters of variables and facts become blanks: none can end a
    /// line. A client asks for a host in TLS by any bytes that it likes.
    pub(super) fn render(
        &self,
        about: &Circumstances<'_>,
        found: Option<&Captures<'_>>,
        out: &mut Vec<u8>,
    ) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Received => {
                    let since = about.received.duration_since(UNIX_EPOCH);
                    let microseconds = since.unwrap_or_default().as_micros();
                    out.extend_from_slice(format!("t={microseconds}").as_bytes());
                }
                Piece::Took => {
                    let microseconds = about.took.as_micros();
                    out.extend_from_slice(format!("D={microseconds}").as_bytes());
                }
                Piece::Variable(name, absent) => {
                    let value = about.environment.get(name);
                    out.extend(value.unwrap_or(absent.as_bytes()).iter().map(printable));
                }
                Piece::Fact(fact) => {
                    let value = about.facts.get(*fact);
                    let is_absent = matches!(fact, Fact::Tls(_)) && value.is_empty();
                    let value = if is_absent { ABSENT } else { &value };
                    out.extend(value.as_bytes().iter().map(printable));
                }
                Piece::Group(number) => {
                    let group = found.map(|found| found.get(*number));
                    out.extend(group.unwrap_or_default().iter().map(printable));
                }
            }
        }
    }
}

/// What httpd writes for a variable that is not set.
const ABSENT: &str = "(null)";

impl Piece {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

fn printable(byte: &u8) -> u8 {
    if byte.is_ascii_control() && *byte != b'\t' {
        b' '
    } else {
        *byte
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// Reads the directive that `text` begins with; what is behind it.
fn parse_directive<'a>(text: &'a str, pieces: &mut Vec<Piece>) -> Result<&'a str, String> {
    const FORM: &str = "expected %%, %t, %D or %{NAME}e";
    let behind = text.strip_prefix('%').unwrap_or(text);
    let (argument, behind) = match behind.strip_prefix('{') {
        Some(behind) => {
            let (argument, behind) = behind
                .split_once('}')
                .ok_or_else(|| format!("{text:?} has no \"}}\"; {FORM}"))?;
            (Some(argument), behind)
        }
        None => (None, behind),
    };
    let mut chars = behind.chars();
    let piece = match (chars.next(), argument) {
        // At the end of a value it stands for itself.
        (Some('%') | None, None) => {
            push_text(pieces, "%");
            return Ok(chars.as_str());
        }
        (Some('t'), _) => Piece::Received,
        (Some('D'), _) => Piece::Took,
        (Some('e'), Some(name)) if !name.is_empty() => Piece::Variable(name.to_owned(), ABSENT),
        (Some('s'), Some(name)) if !name.is_empty() => match Fact::named(name) {
            Some(fact) => Piece::Fact(fact),
            None if starts_with(name, "SSL_") => return Err(unknown_of_tls(name)),
            None => return Err(unknown(name, "SSL_*")),
        },
        (Some(letter @ ('e' | 's')), _) => {
            return Err(format!("%{letter} has no name; write %{{NAME}}{letter}"));
        }
        (Some(letter @ ('l' | 'i' | 'b')), _) => {
            return Err(format!(
                "%{letter} is the load of a machine with httpd on it, which this program does not know; {FORM}"
            ));
        }
        (Some(letter), _) => return Err(format!("unknown directive %{letter}; {FORM}")),
        (None, Some(_)) => return Err(format!("{text:?} has no letter at its end; {FORM}")),
    };
    pieces.push(piece);
    Ok(chars.as_str())
}

/// Reads the part of httpd's expressions that makes text of variables (`ap_expr`, "string expressions").
fn parse_expression(text: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("%{") {
        push_literal(before, pieces)?;
        let (name, behind) = behind
            .split_once('}')
            .ok_or_else(|| format!("\"expr={text}\" has a \"%{{\" without \"}}\""))?;
        let variable = ["reqenv:", "ENV:"].iter().find_map(|prefix| {
            let is = starts_with(name, prefix);
            name.get(prefix.len()..).filter(|_| is)
        });
        pieces.push(match (Fact::named(name), variable) {
            (Some(fact), _) => Piece::Fact(fact),
            (None, Some(variable)) if !variable.is_empty() => {
                Piece::Variable(variable.to_owned(), "")
            }
            (None, _) => return Err(unknown(name, "reqenv:NAME")),
        });
        rest = behind;
    }
    push_literal(rest, pieces)
}

fn push_literal(text: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let group = text.split('$').skip(1);
    let mut group = group.filter(|behind| behind.starts_with(|c: char| c.is_ascii_digit()));
    if text.contains('\\') || group.next().is_some() {
        return Err(format!(
            "{text:?}: backslashes and groups are not supported in expressions"
        ));
    }
    push_text(pieces, text);
    Ok(())
}

fn unknown(name: &str, also: &str) -> String {
    let known: Vec<_> = Fact::NAMES.iter().map(|(name, _)| *name).collect();
    format!(
        "{name:?} is not a variable that can be written here; expected one of {} or {also}",
        known.join(", ")
    )
}

fn unknown_of_tls(name: &str) -> String {
    format!(
        "{name:?} is not known of TLS here; expected one of {}",
        Session::NAMES.join(", ")
    )
}

/// The backslashes of httpd's `parse_misc_string`. Those that protect nothing stay.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let ahead = chars.clone();
        match chars.next() {
            Some('\\') => out.push('\\'),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            _ => {
                out.push('\\');
                chars = ahead;
            }
        }
    }
    out
}

/// Cuts a text where a group stands in it (httpd `ap_pregsub`).
fn push_groups(pieces: &mut Vec<Piece>, text: &str) {
    let mut literal = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let ahead = chars.clone();
        let group = chars.next().and_then(|next| next.to_digit(10));
        match (c, group.and_then(|group| usize::try_from(group).ok())) {
            ('$', Some(group)) => {
                push_text(pieces, &std::mem::take(&mut literal));
                pieces.push(Piece::Group(group));
            }
            ('\\', _) => {
                chars = ahead;
                literal.push(chars.next().unwrap_or('\\'));
            }
            _ => {
                chars = ahead;
                literal.push(c);
            }
        }
    }
    push_text(pieces, &literal);
}
