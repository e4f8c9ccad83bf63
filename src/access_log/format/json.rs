//! Formats of JSON: where in their text a field stands, and whether every line that is made of them can be read.

/// Follows the text of a format: whether what comes next stands in a string.
#[derive(Debug, Default)]
pub(super) struct Context {
    in_string: bool,
    /// Behind a backslash in a string.
    is_escaped: bool,
}

impl Context {
    pub(super) fn in_string(&self) -> bool {
        self.in_string
    }

    pub(super) fn pass(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' => self.is_escaped = self.in_string,
                '"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
    }
}

/// How deep values may lie in each other.
const DEEPEST: usize = 32;

/// Checks that `text` is an object of JSON (RFC 8259).
///
/// # Errors
/// Where it is not, and what was expected there.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut reader = Reader {
        rest: text.as_bytes(),
        text,
    };
    reader.skip_blanks();
    if reader.next() != Some(b'{') {
        return Err(reader.expected("an object, \"{ ... }\""));
    }
    reader.value(DEEPEST)?;
    reader.skip_blanks();
    match reader.rest {
        [] => Ok(()),
        _ => Err(reader.expected("nothing")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    text: &'a str,
}

impl Reader<'_> {
    fn next(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self, what: &[u8]) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn expected(&self, what: &str) -> String {
        let behind = self.text.len() - self.rest.len();
        let before = self.text.get(..behind).unwrap_or_default();
        let near: String = before.chars().rev().take(20).collect();
        let near: String = near.chars().rev().collect();
        format!("no JSON: expected {what} behind \"{near}\"")
    }

    fn value(&mut self, depth: usize) -> Result<(), String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.expected("values that lie less deep"));
        };
        self.skip_blanks();
        match self.next() {
            Some(b'{') => self.list(b"}", |reader| {
                reader.string()?;
                reader.skip_blanks();
                if !reader.take(b":") {
                    return Err(reader.expected("\":\""));
                }
                reader.value(depth)
            }),
            Some(b'[') => self.list(b"]", |reader| reader.value(depth)),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if [&b"true"[..], b"false", b"null"]
                .iter()
                .any(|word| self.take(word)) =>
            {
                Ok(())
            }
            _ => Err(self.expected("a value")),
        }
    }

    /// What stands between two brackets, with commas.
    fn list(
        &mut self,
        end: &[u8],
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.rest = self.rest.get(1..).unwrap_or_default();
        self.skip_blanks();
        if self.take(end) {
            return Ok(());
        }
        loop {
            self.skip_blanks();
            item(self)?;
            self.skip_blanks();
            if self.take(end) {
                return Ok(());
            }
            if !self.take(b",") {
                return Err(self.expected("\",\" or the end of the list"));
            }
        }
    }

    fn string(&mut self) -> Result<(), String> {
        if !self.take(b"\"") {
            return Err(self.expected("a string"));
        }
        loop {
            match *self.rest {
                [b'"', ref rest @ ..] => {
                    self.rest = rest;
                    return Ok(());
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ref rest @ ..,
                ] => {
                    self.rest = rest;
                }
                [b'\\', b'u', a, b, c, d, ref rest @ ..]
                    if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) =>
                {
                    self.rest = rest;
                }
                [b'\\', ..] => return Err(self.expected("an escape of JSON")),
                [0..0x20, ..] | [] => return Err(self.expected("the end of a string")),
                [_, ref rest @ ..] => self.rest = rest,
            }
        }
    }

    fn number(&mut self) -> Result<(), String> {
        self.take(b"-");
        if !self.take(b"0") && self.digits() == 0 {
            return Err(self.expected("a digit"));
        }
        if self.take(b".") && self.digits() == 0 {
            return Err(self.expected("a digit"));
        }
        if self.take(b"e") || self.take(b"E") {
            let _ = self.take(b"+") || self.take(b"-");
            if self.digits() == 0 {
                return Err(self.expected("a digit"));
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let count = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.rest = self.rest.get(count..).unwrap_or_default();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_what_only_looks_like_it() {
        for text in [
            "{}",
            r#" { "a" : 1 , "b":[-0.5e+3,10,null,true,false,{}], "c":"x\"\\\u00e9" } "#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, expected) in [
            ("", "expected an object"),
            ("[]", "expected an object"),
            ("{} {}", "expected nothing"),
            (r#"{"a":1,}"#, "expected a string"),
            (r#"{"a" 1}"#, "expected \":\" behind \"{\"a\" \""),
            (r#"{"a":01}"#, "expected \",\""),
            (r#"{"a":-}"#, "expected a digit"),
            (r#"{"a":"x}"#, "the end of a string"),
            (r#"{"a":"\x"}"#, "an escape"),
            (r#"{"a":x}"#, "expected a value"),
            (
                &format!("{}{}", r#"{"a":"#.repeat(40), "}".repeat(40)),
                "less deep",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_in_a_string_or_not_however_the_text_is_split() {
        let mut context = Context::default();
        for (text, in_string) in [
            (r#"{"a":"#, false),
            (r#"""#, true),
            (r#"x\"#, true),
            (r#"" "#, true),
            (r#"\\"#, true),
            (r#"","b":"#, false),
        ] {
            context.pass(text);
            assert_eq!(context.in_string(), in_string, "{text}");
        }
    }
}
