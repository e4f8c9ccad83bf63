//! Classes of bytes, `[...]`, and what may stand in them.

use super::syntax::{Kind, LONE_BACKSLASH, Step, escaped_byte, split_once, token};

/// Reads behind `[`.
///
/// Each item is given to the engine in a form that has one meaning only: `[`, `&&`, `--` and `~~` mean something to it
/// that they do not mean in PCRE.
pub(super) fn class(rest: &[u8]) -> Step<'_> {
    const UNCLOSED: &str = r#"a "[" without "]"; a bracket itself is written "\[""#;
    let mut image = String::from("[");
    let mut rest = rest;
    if let [b'^', behind @ ..] = rest {
        image.push('^');
        rest = behind;
    }
    let mut is_first = true;
    loop {
        let (first, behind) = match rest {
            [] => return Err(UNCLOSED.to_owned()),
            [b']', behind @ ..] if !is_first => {
                image.push(']');
                return Ok((token(Kind::Class, image), behind));
            }
            _ => item(rest)?,
        };
        is_first = false;
        rest = behind;
        let Item::Byte(from) = first else {
            first.write(&mut image);
            continue;
        };
        // A hyphen makes a range of two bytes; before a set or at the end it is itself.
        let range = match rest {
            [b'-', b']', ..] => None,
            [b'-', behind @ ..] if !behind.is_empty() => match item(behind)? {
                (Item::Byte(to), behind) => Some((to, behind)),
                (Item::Set(_), _) => None,
            },
            _ => None,
        };
        first.write(&mut image);
        if let Some((to, behind)) = range {
            if from > to {
                let (from, to) = (from.escape_ascii(), to.escape_ascii());
                return Err(format!(
                    "the range \"{from}-{to}\" runs backwards; write \"{to}-{from}\""
                ));
            }
            image.push('-');
            Item::Byte(to).write(&mut image);
            rest = behind;
            // Behind a range a hyphen is itself.
            if let [b'-', behind @ ..] = rest {
                Item::Byte(b'-').write(&mut image);
                rest = behind;
            }
        }
    }
}

/// What stands in a class: one byte, or a set in the words of the engine.
enum Item {
    Byte(u8),
    Set(String),
}

impl Item {
    fn write(&self, image: &mut String) {
        match self {
            // The engine folds the case of what is written as a number too early to make a range of it.
            Self::Byte(byte) if byte.is_ascii_alphanumeric() || !byte.is_ascii() => {
                image.push(char::from(*byte));
            }
            Self::Byte(byte) => image.push_str(&format!("\\x{byte:02X}")),
            Self::Set(set) => image.push_str(set),
        }
    }
}

fn item(rest: &[u8]) -> Result<(Item, &[u8]), String> {
    match rest {
        [
            b'\\',
            byte @ (b'd' | b'D' | b's' | b'S' | b'w' | b'W'),
            behind @ ..,
        ] => Ok((Item::Set(format!("\\{}", char::from(*byte))), behind)),
        [b'\\', b'b', behind @ ..] => Ok((Item::Byte(0x08), behind)),
        [b'\\', byte, behind @ ..] => {
            let (byte, behind) = escaped_byte(*byte, behind)?;
            Ok((Item::Byte(byte), behind))
        }
        [b'\\'] => Err(LONE_BACKSLASH.to_owned()),
        [b'[', b':', inner @ ..] => match split_once(inner, b":]") {
            Some((name, behind))
                if name
                    .iter()
                    .all(|byte| byte.is_ascii_alphabetic() || *byte == b'^') =>
            {
                named_set(name).map(|set| (set, behind))
            }
            _ => Ok((Item::Byte(b'['), rest.get(1..).unwrap_or_default())),
        },
        [b'[', sign @ (b'.' | b'='), inner @ ..] if split_once(inner, &[*sign, b']']).is_some() => {
            let sign = char::from(*sign);
            Err(format!(
                "\"[{sign}\" begins a collating element, which is not supported; write \"\\[{sign}\""
            ))
        }
        [byte, behind @ ..] => Ok((Item::Byte(*byte), behind)),
        [] => Err(LONE_BACKSLASH.to_owned()),
    }
}

fn named_set(name: &[u8]) -> Result<Item, String> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let name = String::from_utf8_lossy(name);
    if NAMES.contains(&name.trim_start_matches('^')) {
        return Ok(Item::Set(format!("[:{name}:]")));
    }
    Err(format!(
        "unknown set \"[:{name}:]\"; expected one like [:alpha:] or [:digit:]"
    ))
}
