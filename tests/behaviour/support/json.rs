//! A reader of JSON that takes nothing but that (RFC 8259).

use std::collections::BTreeMap;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// The one value that `text` is.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut rest = text;
        let value = value(&mut rest).unwrap_or_else(|| {
            let at = text.len() - rest.len();
            let near = text.get(at.saturating_sub(80)..).unwrap_or_default();
            panic!("no JSON at {at}: {:.160}", near)
        });
        assert_eq!(rest.trim_start(), "", "something behind the value");
        value
    }

    /// What an object has there; `a.b.c` leads through several.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Self {
        path.split('.').fold(self, |value, name| match value {
            Self::Object(members) => members
                .get(name)
                .unwrap_or_else(|| panic!("no {path:?} in {self:#?}")),
            other => panic!("{name:?} of {path:?} in {other:?}"),
        })
    }

    #[track_caller]
    pub fn number(&self, path: &str) -> f64 {
        match self.at(path) {
            Self::Number(number) => *number,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn text(&self, path: &str) -> &str {
        match self.at(path) {
            Self::Text(text) => text,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn list(&self, path: &str) -> &[Self] {
        match self.at(path) {
            Self::List(items) => items,
            other => panic!("{path} is {other:?}"),
        }
    }
}

fn skip(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
}

fn take(rest: &mut &str, what: &str) -> Option<()> {
    skip(rest);
    *rest = rest.strip_prefix(what)?;
    Some(())
}

fn value(rest: &mut &str) -> Option<Json> {
    skip(rest);
    match rest.chars().next()? {
        '{' => members(rest),
        '[' => items(rest),
        '"' => text(rest).map(Json::Text),
        't' => take(rest, "true").map(|()| Json::Bool(true)),
        'f' => take(rest, "false").map(|()| Json::Bool(false)),
        'n' => take(rest, "null").map(|()| Json::Null),
        _ => number(rest),
    }
}

fn members(rest: &mut &str) -> Option<Json> {
    take(rest, "{")?;
    let mut members = BTreeMap::new();
    if take(rest, "}").is_some() {
        return Some(Json::Object(members));
    }
    loop {
        skip(rest);
        let name = text(rest)?;
        take(rest, ":")?;
        let value = value(rest)?;
        assert!(
            members.insert(name.clone(), value).is_none(),
            "{name} twice"
        );
        if take(rest, "}").is_some() {
            return Some(Json::Object(members));
        }
        take(rest, ",")?;
    }
}

fn items(rest: &mut &str) -> Option<Json> {
    take(rest, "[")?;
    let mut items = Vec::new();
    if take(rest, "]").is_some() {
        return Some(Json::List(items));
    }
    loop {
        items.push(value(rest)?);
        if take(rest, "]").is_some() {
            return Some(Json::List(items));
        }
        take(rest, ",")?;
    }
}

fn text(rest: &mut &str) -> Option<String> {
    *rest = rest.strip_prefix('"')?;
    let mut text = String::new();
    loop {
        let c = rest.chars().next()?;
        *rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some(text),
            '\\' => {
                let c = rest.chars().next()?;
                *rest = &rest[c.len_utf8()..];
                text.push(match c {
                    '"' | '\\' | '/' => c,
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let (digits, behind) = rest.split_at_checked(4)?;
                        *rest = behind;
                        char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                    }
                    _ => return None,
                });
            }
            c if c < ' ' => return None,
            c => text.push(c),
        }
    }
}

fn number(rest: &mut &str) -> Option<Json> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c))
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    let whole = digits.trim_start_matches('-');
    let is_padded = whole.len() > 1 && whole.starts_with('0') && !whole.starts_with("0.");
    if is_padded || !whole.starts_with(|c: char| c.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    *rest = behind;
    digits.parse().ok().map(Json::Number)
}
