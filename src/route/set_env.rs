//! The variables that the configuration gives a request: `SetEnvIf` and its kin (httpd mod_setenvif) and `SetEnv`
//! (mod_env). When each has its say is for the router; what a line means and what it does is decided here.

use super::environment::Environment;
use super::facts::{Fact, Facts, Tell, protocol};
use super::pattern::{Captures, Case, Pattern, Subject};
use super::url::KEPT_SLASH;
use crate::http::head::RequestHead;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// One line of `SetEnvIf`, `SetEnvIfNoCase`, `BrowserMatch` or `BrowserMatchNoCase`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetEnvIf {
    /// The line, but for quotes.
    text: String,
    attribute: Attribute,
    /// Whether the line before has looked at the same attribute already: both see the same value then, also where it is
    /// that of a variable which the line before has changed (httpd `match_headers`).
    continues: bool,
    pattern: Pattern,
    assignments: Vec<Assignment>,
}

/// What a line looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// `SetEnvIf`: at the attribute that it names first.
    AtAttribute,
    /// `BrowserMatch`: at `User-Agent`.
    AtBrowser,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Attribute {
    Fact(Fact),
    Method,
    Protocol,
    Path,
    /// A field of the request, or else a variable.
    Named(String),
    /// The last of the fields in whose name this is found.
    Fields(Pattern),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    variable: String,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Unset,
    Constant(String),
    Made(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// A request, as far as these lines look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// Where it came from.
    pub facts: &'a Facts<'a>,
    /// Its path: outside of sections as the client wrote it, in a section the one that the section was chosen by.
    pub path: &'a [u8],
}

/// Attributes that are no fields, by their names in any case.
pub const ATTRIBUTES: [&str; 5] = [
    "Remote_Addr",
    "Server_Addr",
    "Request_Method",
    "Request_Protocol",
    "Request_URI",
];

impl SetEnvIf {
    /// Parses the words behind the name of the directive: `attribute pattern [!]variable[=value] ...`, for
    /// [`Looks::AtBrowser`] without the attribute.
    ///
    /// # Errors
    /// A sentence that says what was found, and what was expected or what to do instead.
    pub fn parse(looks: Looks, case: Case, words: &[&str]) -> Result<Self, String> {
        let name = match (looks, case) {
            (Looks::AtAttribute, Case::Sensitive) => "SetEnvIf",
            (Looks::AtAttribute, Case::Insensitive) => "SetEnvIfNoCase",
            (Looks::AtBrowser, Case::Sensitive) => "BrowserMatch",
            (Looks::AtBrowser, Case::Insensitive) => "BrowserMatchNoCase",
        };
        let text = format!("{name} {}", words.join(" "));
        let (attribute, words) = match (looks, words) {
            (Looks::AtBrowser, words) => ("User-Agent", words),
            (Looks::AtAttribute, [attribute, words @ ..]) => (*attribute, words),
            (Looks::AtAttribute, []) => ("", words),
        };
        let [pattern, variables @ ..] = words else {
            return Err(expected(name));
        };
        if attribute.is_empty() || pattern.is_empty() || variables.is_empty() {
            return Err(expected(name));
        }
        let attribute = Attribute::parse(attribute, case)?;
        let plain = plain_text(pattern);
        let assignments = variables
            .iter()
            .map(|word| Assignment::parse(word, plain))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text,
            attribute,
            continues: false,
            pattern: Pattern::parse(pattern, case)?,
            assignments,
        })
    }

    /// The line as it is behind `previous`, which stands before it in the same place.
    #[must_use]
    pub fn behind(mut self, previous: Option<&Self>) -> Self {
        self.continues = previous.is_some_and(|previous| self.attribute.is(&previous.attribute));
        self
    }

    /// What is probably not meant, if there is something: a `$1` that stands for itself.
    pub fn doubt(&self) -> Option<String> {
        let is_reference = |value: &str| {
            let mut behind = value.split('$').skip(1);
            behind.any(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        };
        let constant = |assignment: &Assignment| match &assignment.value {
            Value::Constant(value) if is_reference(value) => Some(value.clone()),
            _ => None,
        };
        let value = self.assignments.iter().find_map(constant)?;
        Some(format!(
            "\"{}\" has no special character, so it is compared as text, and \"{value}\" stands for itself, as in httpd; \
             put a group around it",
            self.pattern
        ))
    }

    /// The variables that it sets or unsets.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let assignments = self.assignments.iter();
        assignments.map(|assignment| assignment.variable.as_str())
    }

    /// A name that is that of no attribute, and so of a field or of a variable.
    pub fn other_name(&self) -> Option<&str> {
        match &self.attribute {
            Attribute::Named(name) => Some(name),
            _ => None,
        }
    }

    fn assign(&self, found: &Captures<'_>, environment: &mut Environment) {
        for Assignment { variable, value } in &self.assignments {
            match value {
                Value::Unset => environment.unset(variable),
                Value::Constant(value) => {
                    environment.set(variable, value.as_bytes());
                }
                Value::Made(pieces) => {
                    let parts = pieces.iter().map(|piece| match piece {
                        Piece::Text(text) => text.as_bytes(),
                        Piece::Group(number) => found.get(*number),
                    });
                    // What has no room is not set.
                    let made = parts.fold(Vec::new(), |mut made, part| {
                        if made.len() <= LONGEST {
                            made.extend_from_slice(part);
                        }
                        made
                    });
                    environment.set(variable, &made);
                }
            }
        }
    }
}

/// More than this is never set: it is more than all variables of a request may have together.
const LONGEST: usize = 64 * 1024;

/// Has lines set and take out variables, in their order. The time is bounded by their number, and for each by the size
/// of its pattern and of what it looks at.
#[inline(never)]
pub fn apply(
    lines: &[Arc<SetEnvIf>],
    asking: &Asking<'_>,
    environment: &mut Environment,
    tell: &mut Tell<'_>,
) {
    let mut rest = lines;
    while let [first, behind @ ..] = rest {
        let count = behind.iter().take_while(|line| line.continues).count();
        let (same, others) = behind.split_at_checked(count).unwrap_or((behind, &[]));
        // A variable may be changed by the very lines that look at it.
        let value = first.attribute.value(asking, environment);
        let subject = Subject::new(&value);
        for line in std::iter::once(first).chain(same) {
            match line.pattern.find(&subject) {
                Some(found) => {
                    tell(format_args!("{line}: matches"));
                    line.assign(&found, environment);
                }
                None => tell(format_args!("{line}: does not match")),
            }
        }
        rest = others;
    }
}

impl fmt::Display for SetEnvIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn expected(name: &str) -> String {
    match name {
        "SetEnvIf" | "SetEnvIfNoCase" => format!(
            "expected an attribute, a pattern and variables, such as {name} Request_URI \"^/health\" dontlog"
        ),
        _ => format!("expected a pattern and variables, such as {name} \"Robot/1\" dontlog"),
    }
}

impl Attribute {
    fn parse(text: &str, case: Case) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "remote_addr" => Self::Fact(Fact::RemoteAddr),
            "server_addr" => Self::Fact(Fact::ServerAddr),
            "request_method" => Self::Method,
            "request_protocol" => Self::Protocol,
            "request_uri" => Self::Path,
            "remote_host" => {
                return Err(format!(
                    "{text} is not supported, since addresses are not looked up; write Remote_Addr, and a pattern of \
                     addresses"
                ));
            }
            "remote_user" => {
                return Err(format!(
                    "{text} is not supported: this program asks nobody for a name; let the backend do that"
                ));
            }
            lower if lower.starts_with("oid(") => {
                return Err(format!(
                    "{text} is not supported: this program asks clients for no certificates"
                ));
            }
            _ if text.bytes().all(is_of_name) => Self::Named(text.to_owned()),
            _ => Self::Fields(Pattern::parse(text, case)?),
        })
    }

    /// Whether both are of one name. httpd: patterns of fields are compared as text, whatever the case.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named(one), Self::Named(other)) => one.eq_ignore_ascii_case(other),
            (Self::Fields(one), Self::Fields(other)) => {
                one.as_str().eq_ignore_ascii_case(other.as_str())
            }
            (one, other) => one == other,
        }
    }

    /// Its value; empty where the request has none.
    fn value<'v>(&self, asking: &'v Asking<'_>, environment: &Environment) -> Cow<'v, [u8]> {
        let headers = &asking.head.headers;
        match self {
            Self::Fact(fact) => match asking.facts.get(*fact) {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            },
            Self::Method => asking.head.method().as_bytes().into(),
            Self::Protocol => protocol(asking.head.version).as_bytes().into(),
            Self::Path => shown(asking.path),
            Self::Named(name) => match headers.joined(name) {
                Some(value) => value,
                None => environment.get(name).unwrap_or_default().to_owned().into(),
            },
            Self::Fields(pattern) => {
                // Fields of one name are joined at the place of the first, as httpd has them.
                let mut known = HashSet::new();
                let fits = |name: &&str| pattern.is_match(&Subject::new(name.as_bytes()));
                let names = headers.iter().map(|(name, _)| name);
                let last = names
                    .filter(|name| known.insert(name.to_ascii_lowercase()))
                    .filter(fits)
                    .last();
                last.and_then(|name| headers.joined(name))
                    .unwrap_or_default()
            }
        }
    }
}

/// The path of a request as the client wrote it, but for slashes at its beginning, which are one (httpd `ap_parse_uri`).
pub fn written_path(head: &RequestHead) -> &str {
    let path = head.target().split('?').next().unwrap_or_default();
    let further = path.bytes().take_while(|byte| *byte == b'/').count();
    path.get(further.saturating_sub(1)..).unwrap_or_default()
}

/// A path as a pattern shall see it: a slash that is kept encoded is "%2F".
fn shown(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&KEPT_SLASH) {
        return path.into();
    }
    let parts: Vec<_> = path.split(|byte| *byte == KEPT_SLASH).collect();
    parts.join(&b"%2F"[..]).into()
}

/// Those that a field name of httpd has; with any other it is a pattern (httpd `is_header_regex`).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a pattern is text that is compared as it is, so that nothing is put into values (httpd `non_regex_pattern`).
fn plain_text(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let special = |c: char| r"^.$|()[]*+?{}".contains(c);
        match c {
            '\\' if !chars.next().is_none_or(|c| special(c) || c == '\\') => return false,
            c if special(c) => return false,
            _ => {}
        }
    }
    true
}

impl Assignment {
    fn parse(word: &str, plain: bool) -> Result<Self, String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let (variable, value) = match (name.strip_prefix('!'), value) {
            (Some(name), "") => (name, Value::Unset),
            (Some(_), _) => {
                return Err(format!(
                    "\"{word}\": \"!\" takes a variable out, so there is no value to it"
                ));
            }
            (None, "") => (name, Value::Constant("1".to_owned())),
            (None, value) if value.starts_with('!') => (name, Value::Unset),
            (None, value) if plain => (name, Value::Constant(value.to_owned())),
            (None, value) => (name, Value::made(value)),
        };
        if variable.is_empty() {
            return Err(format!(
                "\"{word}\" names no variable; expected name, name=value or !name"
            ));
        }
        Ok(Self {
            variable: variable.to_owned(),
            value,
        })
    }
}

impl Value {
    /// A text in which `$0` to `$9` are groups, and `\` takes the meaning from what is behind it (httpd `ap_pregsub`).
    fn made(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let next = chars.as_str().chars().next();
            match (c, next.and_then(|next| next.to_digit(10)), next) {
                ('$', Some(group), _) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Group(group as usize));
                    chars.next();
                }
                ('\\', _, Some(next)) => {
                    literal.push(next);
                    chars.next();
                }
                _ => literal.push(c),
            }
        }
        if pieces.is_empty() {
            return Self::Constant(literal);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Self::Made(pieces)
    }
}

/// A variable of `SetEnv` or `PassEnv`. It is set when the way to the backend is known, where nothing has set it before
/// (httpd `fixup_env_module`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name, not empty.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it is one of `PassEnv`: the value may be a secret then, and is not shown.
    pub is_passed: bool,
}

impl Variable {
    /// Sets it, if it is not set.
    pub fn apply(&self, environment: &mut Environment, tell: &mut Tell<'_>) {
        if environment.is_set(&self.name) {
            tell(format_args!("{self}: is set already"));
            return;
        }
        tell(format_args!("{self}"));
        environment.set(&self.name, self.value.as_bytes());
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_passed {
            write!(f, "PassEnv {}", self.name)
        } else {
            write!(f, "SetEnv {} {:?}", self.name, self.value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Limits;
    use crate::http::noise::Noise;
    use crate::route::facts::testing::facts;

    const HEAD: &str = "GET /a/b?c HTTP/1.0\r\nHost: www.example\r\nX-A: 1\r\nx-b: 2\r\nX-A: 3\r\nX-Empty:\r\n\
        X-Latin: \u{e9}\r\n\r\n";

    fn line(text: &str) -> SetEnvIf {
        let words: Vec<&str> = text.split(' ').collect();
        let (looks, case, words) = match words.as_slice() {
            ["BrowserMatch", words @ ..] => (Looks::AtBrowser, Case::Sensitive, words),
            ["NoCase", words @ ..] => (Looks::AtAttribute, Case::Insensitive, words),
            words => (Looks::AtAttribute, Case::Sensitive, words),
        };
        SetEnvIf::parse(looks, case, words).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// What these lines make of a request with `B=b`.
    fn after(lines: &[&str], head: &str) -> Environment {
        let (_, head) = RequestHead::parse(head.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        let facts = Facts {
            local: "[::ffff:10.0.0.2]:80".parse().unwrap(),
            ..facts()
        };
        let mut parsed: Vec<Arc<SetEnvIf>> = Vec::new();
        for text in lines {
            let line = line(text).behind(parsed.last().map(Arc::as_ref));
            parsed.push(Arc::new(line));
        }
        let asking = Asking {
            head: &head,
            facts: &facts,
            path: b"/pa\0th",
        };
        let mut environment = Environment::default();
        environment.set("B", b"b");
        apply(&parsed, &asking, &mut environment, &mut |_| ());
        environment
    }

    #[test]
    fn attributes_are_facts_fields_or_variables() {
        for (text, expected) in [
            ("Remote_Addr (.+) V=$1", Some("192.0.2.7")),
            ("server_addr (.+) V=$1", Some("10.0.0.2")),
            ("Request_Method (.+) V=$1", Some("GET")),
            ("REQUEST_PROTOCOL (.+) V=$1", Some("HTTP/1.0")),
            ("Request_URI (.+) V=$1", Some("/pa%2Fth")),
            ("host (.+) V=$1", Some("www.example")),
            ("x-a (.+) V=$1", Some("1, 3")),
            ("X-Empty ^$ V", Some("1")),
            ("X-Missing ^$ V", Some("1")),
            ("b (.+) V=$1", Some("b")),
            ("^x- (.+) V=$1", Some("2")),
            ("NoCase ^X-[ab]$ (.+) V=$1", Some("2")),
            ("^X-[AB]$ (.+) V=$1", Some("1, 3")),
            ("^X-None$ ^$ V", Some("1")),
            ("X-Latin .. V=$0", Some("\u{e9}")),
            ("Host WWW V", None),
            ("NoCase Host WWW V", Some("1")),
            ("BrowserMatch . V", None),
        ] {
            let value = after(&[text], HEAD).get("V").map(<[u8]>::to_vec);
            let value = value.map(|value| String::from_utf8(value).unwrap());
            assert_eq!(value.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_text_unless_the_pattern_is_one() {
        for (text, expected) in [
            ("Host (w+)(x)? V=$1$2$0$9", "wwwwww"),
            (r"Host w+ V=\$0\\a\", r"$0\a\"),
            ("Host w+ V=$x$", "$x$"),
            ("Host w+ V=", "1"),
            ("Host w+ V=a=b", "a=b"),
            ("Host www V=$0", "$0"),
            (r"Host www\.e V=$0\", r"$0\"),
            (r"Host ww\x77 V=$0", "www"),
        ] {
            let environment = after(&[text], HEAD);
            let value = environment.get("V").map(<[u8]>::escape_ascii);
            let expected = expected.as_bytes().escape_ascii().to_string();
            assert_eq!(value.unwrap().to_string(), expected, "{text}");
        }
        assert!(!after(&["Host www.e V !V"], HEAD).is_set("V"));
        assert!(after(&["Host www.e !V V"], HEAD).is_set("V"));
        assert!(!after(&["Host . b=!"], HEAD).is_set("B"));
    }

    #[test]
    fn lines_in_a_row_look_once_at_an_attribute() {
        let row = after(&["B b B=c", "b b ONCE", "Host . X", "B b NO"], HEAD);
        assert_eq!(row.get("B"), Some(&b"c"[..]));
        assert!(row.is_set("ONCE") && row.is_set("X") && !row.is_set("NO"));
    }

    #[test]
    fn doubtful_is_a_reference_behind_plain_text() {
        assert!(line("Host www V=$1").doubt().unwrap().contains("\"$1\""));
        assert_eq!(line("Host www V=$x").doubt(), None);
        assert_eq!(line("Host (www) V=$1").doubt(), None);
    }

    #[test]
    fn a_request_s_path_is_that_of_its_line() {
        for (target, path) in [
            ("/a?b?c", "/a"),
            ("//a//b", "/a//b"),
            ("/", "/"),
            ("/%41", "/%41"),
        ] {
            let text = format!("GET {target} HTTP/1.0\r\n\r\n");
            let parsed = RequestHead::parse(text.as_bytes(), &Limits::default());
            let (_, head) = parsed.unwrap().unwrap();
            assert_eq!(written_path(&head), path);
        }
    }

    #[test]
    fn what_is_set_stays_within_bounds() {
        let growing = "B (.*) B=$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1";
        let lines = [growing, "Host . X"].repeat(4);
        assert_eq!(
            after(&lines[..6], HEAD).get("B").unwrap().len(),
            17 * 17 * 17
        );
        assert!(!after(&lines, HEAD).is_set("B"));
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(0x5eed_0021);
        for _ in 0..3000 {
            let text = noise.mangle(br"X-A ^(1)?.*\.$ V=a$1\$2 !W X=!y", br"$\=!()[]{}^. -_9");
            let text = String::from_utf8_lossy(&text);
            let words: Vec<&str> = text.split(' ').collect();
            if let Ok(line) = SetEnvIf::parse(Looks::AtAttribute, Case::Insensitive, &words) {
                after(&[&format!("NoCase {text}")], HEAD);
                assert!(!line.to_string().is_empty());
            }
        }
    }
}
