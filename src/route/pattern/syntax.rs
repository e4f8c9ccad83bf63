//! The syntax of PCRE, read as far as the engine means the same by it.

use super::class::class;

/// How often a part may be repeated at most, as in PCRE.
const MAX_REPEAT: u32 = 65_535;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// As the engine shall read it, each byte as one character.
    pub(super) image: String,
}

/// What a part is, as far as its start is compared before the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `^`
    Start,
    /// `$`
    End,
    /// One certain byte.
    Literal(u8),
    /// `.`
    Dot,
    /// One byte of a set.
    Class,
    /// `\b` and the like: no byte at all.
    Assertion,
    /// `(` or `(?:`
    Open { captures: bool },
    /// `(?i:` and the like.
    OpenWithOptions,
    /// `)`
    Close,
    /// `|`
    Or,
    /// What repeats the part before it.
    Repeat {
        least: u32,
        most: Option<u32>,
        greedy: bool,
    },
    /// `(?i)`: from here on, case does not matter.
    IgnoreCase,
    /// `(?s)` and the like.
    Options,
}

impl Kind {
    /// Whether it can be repeated.
    fn is_atom(self) -> bool {
        matches!(
            self,
            Self::Literal(_) | Self::Dot | Self::Class | Self::Close
        )
    }
}

/// What was read, and what is behind it.
pub(super) type Step<'a> = Result<(Token, &'a [u8]), String>;

/// Cuts a pattern into its parts.
///
/// # Errors
/// What cannot be read, or not in the way of PCRE, and how to write it.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut depth = 0_u32;
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let (token, next) = match byte {
            b'\\' => escape(behind)?,
            b'[' => class(behind)?,
            b'(' => group(behind)?,
            b'*' | b'+' | b'?' | b'{' => {
                let before = tokens.last().map(|token| token.kind);
                repeat(rest, before)?
            }
            b'^' => (token(Kind::Start, "^"), behind),
            b'$' => (token(Kind::End, "$"), behind),
            b'.' => (token(Kind::Dot, "."), behind),
            b')' => (token(Kind::Close, ")"), behind),
            b'|' => (token(Kind::Or, "|"), behind),
            _ => (literal(*byte), behind),
        };
        match token.kind {
            Kind::Open { .. } | Kind::OpenWithOptions => depth += 1,
            Kind::Close => {
                depth = depth
                    .checked_sub(1)
                    .ok_or("\")\" closes no \"(\"; a bracket itself is written \"\\)\"")?;
            }
            _ => {}
        }
        tokens.push(token);
        rest = next;
    }
    if depth > 0 {
        return Err(
            "an unclosed group: \"(\" without \")\"; a bracket itself is written \"\\(\""
                .to_owned(),
        );
    }
    Ok(tokens)
}

pub(super) fn token(kind: Kind, image: impl Into<String>) -> Token {
    Token {
        kind,
        image: image.into(),
    }
}

fn literal(byte: u8) -> Token {
    let mut image = String::with_capacity(2);
    if br"\.+*?()|[]{}^$".contains(&byte) {
        image.push('\\');
    }
    image.push(char::from(byte));
    token(Kind::Literal(byte), image)
}

/// Reads behind a backslash outside of classes.
fn escape(rest: &[u8]) -> Step<'_> {
    let (byte, behind) = rest.split_first().ok_or(LONE_BACKSLASH)?;
    let token = match byte {
        b'd' | b'D' | b's' | b'S' | b'w' | b'W' => {
            token(Kind::Class, format!("\\{}", char::from(*byte)))
        }
        b'b' | b'B' | b'A' | b'z' => token(Kind::Assertion, format!("\\{}", char::from(*byte))),
        _ => {
            let (byte, behind) = escaped_byte(*byte, behind)?;
            return Ok((literal(byte), behind));
        }
    };
    Ok((token, behind))
}

pub(super) const LONE_BACKSLASH: &str =
    r#"a lone backslash at the end; a backslash itself is written "\\""#;

/// The byte that `\` and `byte` stand for, in classes and outside of them.
pub(super) fn escaped_byte(byte: u8, behind: &[u8]) -> Result<(u8, &[u8]), String> {
    let value = match byte {
        b'a' => 0x07,
        b'e' => 0x1b,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => return hexadecimal(behind),
        _ if byte.is_ascii_alphanumeric() => return Err(unsupported_escape(byte)),
        _ => byte,
    };
    Ok((value, behind))
}

/// Reads behind `\x`.
fn hexadecimal(rest: &[u8]) -> Result<(u8, &[u8]), String> {
    let (digits, behind) = match rest {
        [b'{', inner @ ..] => split_once(inner, b"}").unwrap_or_default(),
        _ => rest.split_at_checked(2).unwrap_or_default(),
    };
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(
            r#""\x" without two hexadecimal digits; expected "\x2f" or "\x{2f}""#.to_owned(),
        );
    }
    let value = u8::from_str_radix(digits, 16)
        .map_err(|_| r#""\x" of more than ff: patterns are matched against bytes; write each byte by itself"#)?;
    Ok((value, behind))
}

fn unsupported_escape(byte: u8) -> String {
    let what = match byte {
        b'0' => r#"an octal number; write "\x20" for "\040""#,
        b'1'..=b'9' | b'k' | b'g' => "a back-reference, which is not supported; write the text out",
        b'Z' => r#"not supported; write "$", which stands for the very end"#,
        b'G' => r#"not supported; write "^""#,
        b'K' => "not supported; put what follows into a group",
        b'Q' | b'E' => r#"not supported; write "\" before each special character"#,
        b'h' => r"not supported; write [ \t]",
        b'H' => r"not supported; write [^ \t]",
        b'R' | b'v' => r"not supported; write [\r\n]",
        b'V' | b'N' => r"not supported; write [^\r\n]",
        b'p' | b'P' | b'X' | b'C' => {
            "not supported: patterns are matched against bytes; write a class like [a-z]"
        }
        b'o' | b'c' => r#"not supported; write the byte as "\x20""#,
        _ => "an unknown escape; a letter or a digit stands for itself without the backslash",
    };
    format!("\"\\{}\" is {what}", char::from(byte))
}

pub(super) fn split_once<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = text.windows(at.len()).position(|window| window == at)?;
    Some((text.get(..place)?, text.get(place + at.len()..)?))
}

/// What PCRE begins with "(?", or "(*": the beginning, what it is called, and how to write it without. Longer ones first.
const GROUPS: &[(&str, &str, &str)] = &[
    (
        "(?=",
        "a look-ahead",
        "make it part of the pattern, and put what is needed into a group",
    ),
    (
        "(?!",
        "a negative look-ahead",
        "except what shall not match by a line before it (ProxyPass /path !), or by a RewriteCond with \"!\"",
    ),
    (
        "(?<=",
        "a look-behind",
        "make it part of the pattern, and put what is needed into a group",
    ),
    (
        "(?<!",
        "a negative look-behind",
        "except what shall not match by a line before it, or by a RewriteCond with \"!\"",
    ),
    (
        "(?>",
        "an atomic group",
        "write \"(?:\": nothing is tried twice here",
    ),
    (
        "(?|",
        "a branch reset",
        "number the groups one after the other",
    ),
    (
        "(?#",
        "a comment",
        "put it on a line of its own that begins with \"#\"",
    ),
    (
        "(?(",
        "a condition",
        "write both cases out with \"|\" between them",
    ),
    ("(?P=", "a back-reference", "write the text out"),
    (
        "(?P>",
        "a recursion",
        "write the part out as often as it may occur",
    ),
    (
        "(?&",
        "a recursion",
        "write the part out as often as it may occur",
    ),
    (
        "(?R",
        "a recursion",
        "write the part out as often as it may occur",
    ),
    (
        "(?+",
        "a recursion",
        "write the part out as often as it may occur",
    ),
    ("(?'", "a named group in quotes", "write (?<name>...)"),
    ("(?C", "a callout", "leave it out"),
    ("(*", "a verb", "leave it out"),
];

/// Reads behind `(`.
fn group(rest: &[u8]) -> Step<'_> {
    let digit = matches!(
        rest,
        [b'?', b'0'..=b'9', ..] | [b'?', b'-', b'0'..=b'9', ..]
    );
    let refused = GROUPS
        .iter()
        .find(|(start, _, _)| rest.starts_with(start.get(1..).unwrap_or(start).as_bytes()));
    let recursion = &(
        "(?1",
        "a recursion",
        "write the part out as often as it may occur",
    );
    if let Some((start, name, remedy)) = if digit { Some(recursion) } else { refused } {
        return Err(format!("{name} \"{start}\" is not supported; {remedy}"));
    }
    let Some(special) = rest.strip_prefix(b"?") else {
        return Ok((token(Kind::Open { captures: true }, "("), rest));
    };
    if let Some(named) = special
        .strip_prefix(b"<")
        .or_else(|| special.strip_prefix(b"P<"))
    {
        let (name, behind) = split_once(named, b">").unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let is_word = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        {
            return Err("a group with a name is written (?<name>...), the name of letters, digits and \"_\"".to_owned());
        }
        return Ok((
            token(Kind::Open { captures: true }, format!("(?<{name}>")),
            behind,
        ));
    }
    options(special)
}

/// Reads behind `(?` what is `i`, `s`, `-` and then `:` or `)`.
fn options(rest: &[u8]) -> Step<'_> {
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b':' | b')'))
        .unwrap_or(rest.len());
    let (options, behind) = rest.split_at_checked(end).unwrap_or_default();
    if let Some(other) = options.iter().find(|byte| !b"is-".contains(byte)) {
        let other = other.escape_ascii();
        return Err(format!(
            "the option \"{other}\" in \"(?\" is not supported; expected only \"i\" and \"s\", as in (?i)"
        ));
    }
    let text = String::from_utf8_lossy(options);
    match behind {
        [b':', behind @ ..] if options.is_empty() => {
            Ok((token(Kind::Open { captures: false }, "(?:"), behind))
        }
        [b':', behind @ ..] => Ok((token(Kind::OpenWithOptions, format!("(?{text}:")), behind)),
        [b')', behind @ ..] if options == b"i" => Ok((token(Kind::IgnoreCase, "(?i)"), behind)),
        [b')', behind @ ..] => Ok((token(Kind::Options, format!("(?{text})")), behind)),
        _ => Err("an unclosed group: \"(?\" without \")\"".to_owned()),
    }
}

/// Reads a quantifier, which stands at the beginning of `rest`.
fn repeat(rest: &[u8], before: Option<Kind>) -> Step<'_> {
    let (bounds, behind) = match rest {
        [b'*', behind @ ..] => (Some((0, None)), behind),
        [b'+', behind @ ..] => (Some((1, None)), behind),
        [b'?', behind @ ..] => (Some((0, Some(1))), behind),
        [_, inner @ ..] => {
            let (inner, behind) = split_once(inner, b"}").unwrap_or_default();
            (counts(inner), behind)
        }
        [] => (None, rest),
    };
    let Some((least, most)) = bounds else {
        return Err(
            r#"a "{" that begins no repetition like {2} or {1,3}; a brace itself is written "\{""#
                .to_owned(),
        );
    };
    let length = rest.len() - behind.len();
    let mut image = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
    if most.unwrap_or(least).max(least) > MAX_REPEAT {
        return Err(format!(
            "the repetition \"{image}\" is more than {MAX_REPEAT} times"
        ));
    }
    if most.is_some_and(|most| most < least) {
        return Err(format!(
            "the repetition \"{image}\" has its numbers in the wrong order"
        ));
    }
    if !before.is_some_and(Kind::is_atom) {
        return Err(format!(
            "the quantifier \"{image}\" has nothing to repeat; the character itself is written \"\\{}\"",
            image.chars().next().unwrap_or_default()
        ));
    }
    let (greedy, behind) = match behind {
        [b'+', ..] => {
            return Err(format!(
                "the possessive quantifier \"{image}+\" is not supported; write \"{image}\": nothing is tried twice here"
            ));
        }
        [b'?', behind @ ..] => {
            image.push('?');
            (false, behind)
        }
        _ => (true, behind),
    };
    let kind = Kind::Repeat {
        least,
        most,
        greedy,
    };
    Ok((token(kind, image), behind))
}

/// `2`, `2,` or `2,3` in braces. A number that does not fit is more than any limit.
fn counts(text: &[u8]) -> Option<(u32, Option<u32>)> {
    let number = |digits: &str| {
        let are_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        are_digits.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once(',') {
        None => number(text).map(|count| (count, Some(count))),
        Some((least, "")) => Some((number(least)?, None)),
        Some((least, most)) => Some((number(least)?, Some(number(most)?))),
    }
}
