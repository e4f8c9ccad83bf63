//! `[flags]` behind rules and conditions. Source: httpd mod_rewrite.c `cmd_parseflagfield`, `cmd_rewriterule_setflag`,
//! `escape_backref`.

use super::text::Text;
use super::{MAX_ROUNDS, Review};
use crate::route::url::KEPT_SLASH;

/// A flag of a `RewriteRule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flag {
    /// `P`
    Proxy,
    /// `L`, `END`: without rules of directories they are the same.
    Last,
    /// `NE`
    NoEscape,
    /// `QSA`
    AppendQuery,
    /// `QSD`
    DiscardQuery,
    /// `QSL`
    LastMark,
    /// `NC`
    NoCase,
    /// `F`, `G`, `R=4xx`, `R=5xx`
    Refuse(u16),
    /// `R`
    Redirect(u16),
    /// `E=name:value`
    Set(String, Text),
    /// `E=!name`
    Unset(String),
    /// `S=n`
    Skip(usize),
    /// `C`
    Chain,
    /// `N`
    Restart(usize),
    /// `B`, with the bytes that alone are escaped.
    EscapeGroups(Vec<u8>),
    /// `BNE=`
    NotEscaped(Vec<u8>),
    /// `BNP`
    NoPlus,
    /// `BCTLS`
    EscapeControls,
    /// `PT`
    PassOn,
    /// `UnsafeAllow3F`
    AllowQuestionMark,
}

/// A flag of a `RewriteCond`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionFlag {
    NoCase,
    OrNext,
}

/// All names, short and long, as messages spell them.
const NAMES: &[&str] = &[
    "P",
    "proxy",
    "L",
    "last",
    "END",
    "NE",
    "noescape",
    "QSA",
    "qsappend",
    "QSD",
    "qsdiscard",
    "QSL",
    "qslast",
    "NC",
    "nocase",
    "F",
    "forbidden",
    "G",
    "gone",
    "R",
    "redirect",
    "E",
    "env",
    "S",
    "skip",
    "C",
    "chain",
    "N",
    "next",
    "B",
    "BNE",
    "BNP",
    "backrefnoplus",
    "BCTLS",
    "PT",
    "passthrough",
    "NS",
    "nosubreq",
    "DPI",
    "discardpath",
    "UnsafeAllow3F",
    "UnsafePrefixStat",
];

/// Flags of httpd that cannot be obeyed here, and why.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (
        &["T", "type", "H", "handler"],
        "this program serves no files, so there is nothing that a type or a handler could change; remove it",
    ),
    (
        &["CO", "cookie"],
        "rules set no cookies here; a tunnel has no answer of its own to put one into",
    ),
    (&["UNC"], "it is about file names of Windows; remove it"),
];

/// The flags behind a rule. Problems go to `review`.
pub(super) fn of_rule(text: &str, review: &mut Review<'_>) -> Vec<Flag> {
    let mut flags = Vec::new();
    for (name, value) in split(text, "[P,L]", review) {
        match rule_flag(name, value, review) {
            Ok(flag) => flags.extend(flag),
            Err(problem) => review.problems.push(problem),
        }
    }
    flags
}

/// The flags behind a condition. Problems go to `review`.
pub(super) fn of_condition(text: &str, review: &mut Review<'_>) -> Vec<ConditionFlag> {
    let mut flags = Vec::new();
    for (name, _) in split(text, "[NC,OR]", review) {
        match name.to_ascii_lowercase().as_str() {
            "nc" | "nocase" => flags.push(ConditionFlag::NoCase),
            "or" | "ornext" => flags.push(ConditionFlag::OrNext),
            // Nothing is added to the Vary field of any answer, so there is nothing to leave out.
            "nv" | "novary" => {}
            _ => review
                .problems
                .push(format!("unknown flag \"{name}\"; expected NC, OR or NV")),
        }
    }
    flags
}

/// Names and values between the brackets.
fn split<'t>(text: &'t str, example: &str, review: &mut Review<'_>) -> Vec<(&'t str, &'t str)> {
    if text.is_empty() {
        return Vec::new();
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let Some(inner) = inner else {
        review.problems.push(format!(
            "\"{text}\" is no list of flags; expected [flag,flag] without blanks, such as {example}"
        ));
        return Vec::new();
    };
    let flags = inner.split(',').map(str::trim);
    let flags = flags.filter(|flag| !flag.is_empty());
    flags
        .map(|flag| flag.split_once('=').unwrap_or((flag, "")))
        .collect()
}

fn rule_flag(name: &str, value: &str, review: &Review<'_>) -> Result<Option<Flag>, String> {
    let flag = match name.to_ascii_lowercase().as_str() {
        "p" | "proxy" => Flag::Proxy,
        "l" | "last" | "end" => Flag::Last,
        "ne" | "noescape" => Flag::NoEscape,
        "qsa" | "qsappend" => Flag::AppendQuery,
        "qsd" | "qsdiscard" => Flag::DiscardQuery,
        "qsl" | "qslast" => Flag::LastMark,
        "nc" | "nocase" => Flag::NoCase,
        "f" | "forbidden" => Flag::Refuse(403),
        "g" | "gone" => Flag::Refuse(410),
        "r" | "redirect" => status(value)?,
        "e" | "env" => environment(value, review)?,
        "s" | "skip" => Flag::Skip(number(name, value, usize::MAX)?),
        "c" | "chain" => Flag::Chain,
        "n" | "next" if value.is_empty() => Flag::Restart(MAX_ROUNDS),
        "n" | "next" => Flag::Restart(number(name, value, MAX_ROUNDS)?),
        "b" | "escapebackref" => Flag::EscapeGroups(value.as_bytes().to_vec()),
        "bne" => Flag::NotEscaped(value.as_bytes().to_vec()),
        "bnp" | "backrefnoplus" => Flag::NoPlus,
        "bctls" => Flag::EscapeControls,
        "pt" | "passthrough" => Flag::PassOn,
        "unsafeallow3f" => Flag::AllowQuestionMark,
        // There are no subrequests, no path behind a file's, and no files: nothing that they could change.
        "ns" | "nosubreq" | "dpi" | "discardpath" | "unsafeprefixstat" => return Ok(None),
        lower => {
            let unsupported = UNSUPPORTED
                .iter()
                .find(|(names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(lower)));
            // Every short name is near to every other.
            let near = Some(name).filter(|name| name.len() > 2);
            let near = near.and_then(|name| (review.near)(name, NAMES));
            return Err(match (unsupported, near) {
                (Some((_, why)), _) => format!("flag \"{name}\" is not supported: {why}"),
                (None, Some(near)) => {
                    format!("unknown flag \"{name}\"; did you mean \"{near}\"?")
                }
                (None, None) => format!("unknown flag \"{name}\""),
            });
        }
    };
    Ok(Some(flag))
}

/// `R`, `R=301`, `R=permanent`, `R=404`
fn status(value: &str) -> Result<Flag, String> {
    let status = match value.to_ascii_lowercase().as_str() {
        "" | "temp" => 302,
        "permanent" => 301,
        "seeother" => 303,
        number => number.parse().unwrap_or(0),
    };
    match status {
        301 | 302 | 303 | 307 | 308 => Ok(Flag::Redirect(status)),
        400..=599 => Ok(Flag::Refuse(status)),
        _ => Err(format!(
            "R={value}: expected permanent, temp, seeother, 301, 302, 303, 307 or 308, or a status from 400 to 599"
        )),
    }
}

/// `E=name:value`, `E=name`, `E=!name`
fn environment(value: &str, review: &Review<'_>) -> Result<Flag, String> {
    let (name, text) = value.split_once(':').unwrap_or((value, ""));
    let bare = name.strip_prefix('!').unwrap_or(name);
    if bare.is_empty() || bare.contains(['$', '%', '\\']) {
        return Err(format!(
            "E={value}: expected a name and a value, as in E=name:value, or !name"
        ));
    }
    Ok(if bare == name {
        Flag::Set(name.to_owned(), Text::parse(text, review)?)
    } else {
        Flag::Unset(bare.to_owned())
    })
}

fn number(name: &str, value: &str, most: usize) -> Result<usize, String> {
    let are_digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok();
    number
        .filter(|number| are_digits && (1..=most).contains(number))
        .ok_or_else(|| match most {
            usize::MAX => format!("{name}={value}: expected a number from 1 on"),
            _ => format!("{name}={value}: expected a number from 1 to {most}"),
        })
}

/// How `$n` and `%n` are percent-encoded where a rule has `B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Escape {
    which: Which,
    blank_is_plus: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// All but letters, digits, `_` and these.
    AllBut(Vec<u8>),
    Only(Vec<u8>),
    /// Control characters and blanks.
    Controls,
}

impl Escape {
    /// What the flags of a rule say; `None`: nothing is encoded.
    pub(super) fn of(flags: &[Flag]) -> Result<Option<Self>, String> {
        let mut which = None;
        let mut not_escaped = None;
        for flag in flags {
            match flag {
                Flag::EscapeGroups(only) if only.is_empty() => {
                    which = Some(Which::AllBut(Vec::new()));
                }
                Flag::EscapeGroups(only) => which = Some(Which::Only(only.clone())),
                Flag::EscapeControls => which = Some(Which::Controls),
                Flag::NotEscaped(bytes) => not_escaped = Some(bytes.clone()),
                _ => {}
            }
        }
        let has_plus_flag = flags.contains(&Flag::NoPlus);
        let which = match (which, not_escaped) {
            (Some(Which::AllBut(_)), Some(bytes)) => Which::AllBut(bytes),
            (_, Some(_)) => return Err("BNE says what B leaves out; write [B,BNE=...]".to_owned()),
            (Some(which), None) => which,
            (None, None) if has_plus_flag => {
                return Err("BNP says how B writes a blank; write [B,BNP]".to_owned());
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            which,
            blank_is_plus: !has_plus_flag,
        }))
    }

    pub(super) fn push(&self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            let escaped = match &self.which {
                Which::AllBut(kept) => {
                    !(byte.is_ascii_alphanumeric() || *byte == b'_' || kept.contains(byte))
                }
                Which::Only(only) => only.contains(byte),
                Which::Controls => byte.is_ascii_control() || *byte == b' ',
            };
            match *byte {
                KEPT_SLASH => out.extend_from_slice(b"%2F"),
                b' ' if escaped && self.blank_is_plus => out.push(b'+'),
                _ if escaped => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                byte => out.push(byte),
            }
        }
    }
}
