//! Patterns: the regular expressions of httpd, in linear time.
//!
//! httpd matches bytes (PCRE without UTF). The engine here matches `str`, so pattern and subject are given to it in their
//! Latin-1 image: each byte is one character. What it lacks of PCRE, or reads in another way, is refused at start with a
//! sentence that shows how to write it without; what is left means the same in both.

mod class;
mod start;
mod syntax;

use regex_lite::{Regex, RegexBuilder};
use start::Start;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use syntax::Kind;

/// The most memory that a compiled pattern may take: 64 KiB, some thousand characters of it. The time of a search grows
/// with the product of this and the length of what is searched.
const MAX_COMPILED: usize = 64 * 1024;

/// How deep groups may be nested.
const MAX_DEPTH: u32 = 50;

/// `$0` to `$9`.
const GROUPS: usize = 10;

/// Whether upper and lower case are the same. Only those of ASCII are: bytes above 0x7f have no case, as in httpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Case {
    /// They differ.
    #[default]
    Sensitive,
    /// They are the same. httpd: `[NC]`
    Insensitive,
}

/// A regular expression. It is searched for anywhere in its subject, "." stands for every byte, and "$" for the very end
/// (httpd `RegexDefaultOptions DOTALL DOLLAR_ENDONLY`).
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    case: Case,
    regex: Regex,
    start: Option<Start>,
    /// The groups that have a name.
    names: Vec<(usize, String)>,
}

/// What a pattern is searched for in. Made once for all patterns that look at it.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    bytes: &'a [u8],
    /// The Latin-1 image.
    image: Cow<'a, str>,
}

/// What a pattern found: the whole match and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captures<'s> {
    bytes: &'s [u8],
    groups: [Option<Range<usize>>; GROUPS],
}

impl Pattern {
    /// Reads a pattern as the configuration holds it.
    ///
    /// # Errors
    /// A sentence that quotes the pattern, and says what is wrong with it or how to write it without what is not supported.
    pub fn parse(text: &str, case: Case) -> Result<Self, String> {
        let of = |problem: String| format!("\"{text}\": {problem}");
        let tokens = syntax::tokens(text).map_err(of)?;
        let image: String = tokens.iter().map(|token| token.image.as_str()).collect();
        let regex = RegexBuilder::new(&image)
            .case_insensitive(case == Case::Insensitive)
            .dot_matches_new_line(true)
            .size_limit(MAX_COMPILED)
            .nest_limit(MAX_DEPTH)
            .build()
            .map_err(|error| of(build_problem(&error.to_string())))?;
        let names = regex.capture_names().enumerate().take(GROUPS);
        let names = names
            .filter_map(|(group, name)| Some((group, name?.to_owned())))
            .collect();
        Ok(Self {
            text: text.to_owned(),
            case,
            regex,
            start: Start::of(&tokens, case),
            names,
        })
    }

    /// Searches `subject`, and says what each group holds.
    pub fn find<'s>(&self, subject: &'s Subject<'_>) -> Option<Captures<'s>> {
        let mut groups = [const { None }; GROUPS];
        match self
            .start
            .as_ref()
            .map(|start| start.compare(subject.bytes))
        {
            Some(start::Verdict::Differs) => return None,
            Some(start::Verdict::Found { whole, rest }) => {
                groups = [const { None }; GROUPS];
                let [first, second, ..] = &mut groups;
                *first = Some(whole);
                *second = rest;
            }
            Some(start::Verdict::AskEngine) | None => {
                let found = self.regex.captures(&subject.image)?;
                for (group, part) in groups.iter_mut().zip(found.iter()) {
                    *group =
                        part.map(|part| subject.place(part.start())..subject.place(part.end()));
                }
            }
        }
        Some(Captures {
            bytes: subject.bytes,
            groups,
        })
    }

    /// Whether it is found in `subject`.
    pub fn is_match(&self, subject: &Subject<'_>) -> bool {
        match self
            .start
            .as_ref()
            .map(|start| start.compare(subject.bytes))
        {
            Some(start::Verdict::Differs) => false,
            Some(start::Verdict::Found { .. }) => true,
            Some(start::Verdict::AskEngine) | None => self.regex.is_match(&subject.image),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The groups that have a name, as in `(?<NAME>...)`, with their numbers.
    pub fn names(&self) -> &[(usize, String)] {
        &self.names
    }

    /// How many groups it has, `$0` not counted.
    pub fn groups(&self) -> usize {
        self.regex.captures_len().saturating_sub(1)
    }

    /// Whether what `$n` stands for begins with a slash in every path, as far as the pattern says so.
    pub fn begins_with_slash(&self, n: usize) -> bool {
        let tokens = syntax::tokens(&self.text).unwrap_or_default();
        let mut kinds = tokens.iter().map(|token| token.kind).peekable();
        // As every path does.
        let mut at_its_start = kinds.next_if_eq(&Kind::Start).is_some();
        let mut group = 0;
        loop {
            if group == n {
                return at_its_start || kinds.next() == Some(Kind::Literal(b'/'));
            }
            match kinds.next() {
                Some(Kind::Open { captures: true }) => group += 1,
                Some(Kind::Open { captures: false }) => {}
                Some(_) => at_its_start = false,
                None => return false,
            }
        }
    }

    /// The byte that every subject it is found in begins with, in one of its cases, if the pattern says so by "^" and a
    /// character.
    pub fn first_byte(&self) -> Option<u8> {
        self.start.as_ref().and_then(Start::first_byte)
    }
}

/// What is left to be wrong when the syntax has been read.
fn build_problem(error: &str) -> String {
    if error.contains("size") {
        return format!(
            "it needs more than {MAX_COMPILED} bytes of memory; write fewer repetitions and alternatives"
        );
    }
    error.to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.case) == (&other.text, other.case)
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'a> Subject<'a> {
    /// Prepares `bytes`: at no cost if they are ASCII.
    pub fn new(bytes: &'a [u8]) -> Self {
        let ascii = bytes.is_ascii().then(|| std::str::from_utf8(bytes).ok());
        let image = match ascii.flatten() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
        };
        Self { bytes, image }
    }

    /// What was prepared.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What is behind the first `place` bytes, as a subject of its own: "^" matches where it begins.
    pub fn behind(&self, place: usize) -> Subject<'_> {
        let before = self.bytes.get(..place).unwrap_or(self.bytes);
        // Each byte above 0x7f takes two in the image.
        let wide = match self.image.len() == self.bytes.len() {
            true => 0,
            false => before.iter().filter(|byte| !byte.is_ascii()).count(),
        };
        let image = self.image.get(before.len() + wide..);
        Subject {
            bytes: self.bytes.get(place..).unwrap_or_default(),
            image: Cow::Borrowed(image.unwrap_or_default()),
        }
    }

    /// The place in the bytes of a place in the image.
    fn place(&self, in_image: usize) -> usize {
        match &self.image {
            image if image.len() == self.bytes.len() => in_image,
            image => image.get(..in_image).unwrap_or(image).chars().count(),
        }
    }
}

impl<'s> Captures<'s> {
    /// What group `n` of 0 to 9 holds; nothing if it is unset or there is no such group.
    pub fn get(&self, n: usize) -> &'s [u8] {
        let range = self.groups.get(n).and_then(Clone::clone);
        range
            .and_then(|range| self.bytes.get(range))
            .unwrap_or_default()
    }

    /// Where in the subject the whole match lies.
    pub fn place(&self) -> Range<usize> {
        self.groups.first().cloned().flatten().unwrap_or_default()
    }

    /// Whether group `n` took part in the match.
    pub fn has(&self, n: usize) -> bool {
        self.groups.get(n).is_some_and(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, Case::Sensitive).unwrap()
    }

    /// `$0` to `$2`, `-` for what is unset.
    fn find(pattern: &Pattern, subject: &[u8]) -> Option<String> {
        let subject = Subject::new(subject);
        let found = pattern.find(&subject);
        assert_eq!(found.is_some(), pattern.is_match(&subject), "{pattern}");
        found.map(|found| {
            let group = |n| match found.has(n) {
                true => found.get(n).escape_ascii().to_string(),
                false => "-".to_owned(),
            };
            [group(0), group(1), group(2)].join(" ")
        })
    }

    #[test]
    fn what_is_found_and_what_its_groups_hold() {
        for (text, subject, expected) in [
            ("b", "/abc", Some("b - -")),
            ("^b", "/abc", None),
            ("^/(.*)$", "/a/b", Some("/a/b a/b -")),
            ("^/?(.*)", "/a", Some("/a a -")),
            ("^/?(.*)", "a", Some("a a -")),
            ("^/?(.*)", "", Some("  -")),
            ("^/ws(/.*)?$", "/ws", Some("/ws - -")),
            ("^/ws(/.*)?$", "/ws/x", Some("/ws/x /x -")),
            ("^/ws(/.*)?$", "/wsx", None),
            ("^/(a|b)/(.*)$", "/b/c", Some("/b/c b c")),
            ("(a)|(b)", "b", Some("b - b")),
            ("a+?", "aaa", Some("a - -")),
            ("a{2,3}", "aaaa", Some("aaa - -")),
            (r"\.js$", "/x.js", Some(".js - -")),
            (r"\.js$", "/x.jsx", None),
            (r"^/a\/b\.c$", "/a/b.c", Some("/a/b.c - -")),
            (r"^/a\/b\.c$", "/a/bxc", None),
            (r"[\w-.]+$", "/a-b.c", Some("a-b.c - -")),
            ("[^/]+", "/abc/d", Some("abc - -")),
            ("[][]+", "a[]", Some("[] - -")),
            ("[a&&b~~]+", "&~", Some("&~ - -")),
            ("[+--]", ",", Some(", - -")),
            ("[[:digit:]]+", "/a42", Some("42 - -")),
            (r"\<a\>", "<a>", Some("<a> - -")),
            (r"\x2Fa\x{2f}", "/a/", Some("/a/ - -")),
            (r"\bws\b", "/ws/", Some("ws - -")),
            ("(?:a|b)(?<rest>.*)", "/bc", Some("bc c -")),
            ("(?P<x>a)", "a", Some("a a -")),
            ("(?i)^/WS/(.*)", "/ws/X", Some("/ws/X X -")),
            ("(?i:w)s", "/Ws", Some("Ws - -")),
            ("(?i:w)s", "/wS", None),
            ("(?i)[B-C]", "b", Some("b - -")),
            ("(?i)[^B]", "b", None),
            ("", "/a", Some(" - -")),
            (".*", "/a", Some("/a - -")),
            ("(.*)", "/a", Some("/a /a -")),
            ("}", "}", Some("} - -")),
        ] {
            let found = find(&pattern(text), subject.as_bytes());
            assert_eq!(found.as_deref(), expected, "{text} {subject}");
        }
    }

    #[test]
    fn a_group_begins_with_a_slash_where_the_pattern_says_so() {
        for (text, begins) in [
            ("^(.*)$", [true, true]),
            ("(.*)", [false, false]),
            ("/(.*)", [true, false]),
            ("^/x(/.*)?", [true, true]),
            ("^/x([/a].*)", [true, false]),
            (r"^/\((?:a)(\/b)", [true, true]),
            ("^((?:a)b)", [true, true]),
            ("^a", [true, false]),
        ] {
            let pattern = pattern(text);
            let found = [0, 1].map(|n| pattern.begins_with_slash(n));
            assert_eq!(found, begins, "{text}");
        }
    }

    #[test]
    fn the_rest_of_a_subject_is_a_subject() {
        let subject = Subject::new(b"a\xe4b\xfcb");
        let pattern_b = pattern("b");
        for (place, expected) in [
            (0, Some(2)),
            (1, Some(1)),
            (2, Some(0)),
            (3, Some(1)),
            (5, None),
            (9, None),
        ] {
            let rest = subject.behind(place);
            assert_eq!(rest.bytes(), subject.bytes().get(place..).unwrap_or(b""));
            let found = pattern_b.find(&rest).map(|found| found.place());
            assert_eq!(found, expected.map(|start| start..start + 1), "{place}");
        }
        assert!(pattern("^b").find(&subject.behind(2)).is_some());
        assert!(pattern("^b").find(&subject.behind(1)).is_none());
    }

    #[test]
    fn the_end_is_the_very_end_and_a_dot_is_any_byte() {
        // CVE-2019-10098, CVE-2020-1927
        for (text, subject, expected) in [
            ("^/a$", "/a\n", None),
            ("^/a.b$", "/a\nb", Some(r"/a\nb - -")),
            ("^/(.*)$", "/a\r\nb", Some(r"/a\r\nb a\r\nb -")),
            ("a$", "a\nb", None),
            ("^b", "a\nb", None),
        ] {
            let found = find(&pattern(text), subject.as_bytes());
            assert_eq!(found.as_deref(), expected, "{text} {subject:?}");
        }
    }

    #[test]
    fn a_byte_is_a_character() {
        for (text, subject, expected) in [
            (
                "^/(.)(.*)$",
                &b"/\xc3\xa9x"[..],
                Some(r"/\xc3\xa9x \xc3 \xa9x"),
            ),
            ("^/(é)(x)", b"/\xc3\xa9x", Some(r"/\xc3\xa9x \xc3\xa9 x")),
            // Without UTF a quantifier takes the last byte alone.
            ("^/é{2}$", b"/\xc3\xa9\xa9", Some(r"/\xc3\xa9\xa9 - -")),
            (r"\xff", b"\xfe\xff", Some(r"\xff - -")),
            ("[^a]$", b"a\x80", Some(r"\x80 - -")),
            (r"^\W$", b"\xe9", Some(r"\xe9 - -")),
            ("é", b"\xe9", None),
        ] {
            let found = find(&pattern(text), subject);
            assert_eq!(found.as_deref(), expected, "{text} {subject:?}");
        }
        let upper = Pattern::parse("É", Case::Insensitive).unwrap();
        assert_eq!(find(&upper, "é".as_bytes()), None);
        let insensitive = Pattern::parse("^/WS/(.*)$", Case::Insensitive).unwrap();
        assert!(find(&insensitive, b"/wS/x").is_some());
        assert_ne!(insensitive, pattern("^/WS/(.*)$"));
        assert_eq!(insensitive.to_string(), "^/WS/(.*)$");
    }

    #[test]
    fn what_the_engine_lacks_is_refused_with_a_way_around() {
        for (text, parts) in [
            ("^/(?!static)", ["negative look-ahead", "ProxyPass /path !"]),
            ("a(?=b)", ["look-ahead \"(?=\"", "part of the pattern"]),
            ("(?<=a)b", ["look-behind \"(?<=\"", "part of the pattern"]),
            ("(?<!a)b", ["negative look-behind", "RewriteCond"]),
            ("(?>a+)b", ["atomic group", "\"(?:\""]),
            ("a++", ["possessive", "\"+\""]),
            ("a{2}+", ["possessive", "\"{2}\""]),
            (r"(a)\1", ["back-reference", "write the text out"]),
            (r"\040", ["octal", r#""\x20""#]),
            (r"(?<n>a)\k<n>", [r#""\k""#, "write the text out"]),
            ("(a)?(?(1)b|c)", ["condition", "\"|\""]),
            ("(a(?R)?b)", ["recursion", "write"]),
            ("(?1)(a)", ["recursion", "write"]),
            ("(?P>n)", ["recursion", "write"]),
            ("(?P=n)", ["back-reference", "write"]),
            ("(?'n'a)", ["named group", "(?<name>...)"]),
            ("(?#x)a", ["comment", "line of its own"]),
            ("(?|a|b)", ["branch reset", "number the groups"]),
            ("(?m)^a", ["option \"m\"", "only \"i\" and \"s\""]),
            ("(?x)a b", ["option \"x\"", "only \"i\" and \"s\""]),
            ("(*UTF8)a", ["verb", "leave it out"]),
            ("a**", ["quantifier \"*\"", "nothing to repeat"]),
            ("*a", ["quantifier \"*\"", "nothing to repeat"]),
            ("a|+", ["quantifier \"+\"", "nothing to repeat"]),
            ("^*a", ["quantifier \"*\"", "nothing to repeat"]),
            ("a{,3}", ["\"{\"", r#""\{""#]),
            ("{a}", ["\"{\"", r#""\{""#]),
            ("a{1,70000}", ["65535", "repetition"]),
            (r"a\Z", [r#""\Z""#, "\"$\""]),
            (r"\Qa.b\E", [r#""\Q""#, "each special character"]),
            (r"\Ga", [r#""\G""#, "\"^\""]),
            (r"a\Kb", [r#""\K""#, "group"]),
            (r"\h", [r#""\h""#, r"[ \t]"]),
            (r"\R", [r#""\R""#, r"\r"]),
            (r"\pL", [r#""\p""#, "bytes"]),
            (r"\y", [r#""\y""#, "unknown escape"]),
            (r"[\y]", [r#""\y""#, "unknown escape"]),
            (r"\x1", [r#""\x""#, "two hexadecimal digits"]),
            (r"\x{100}", [r#""\x""#, "bytes"]),
            (r"a\", ["backslash", r#""\\""#]),
            ("[a", ["\"[\"", "\"]\""]),
            ("[z-a]", ["range \"z-a\"", "backwards"]),
            ("[[:foo:]]", ["\"[:foo:]\"", "[:alpha:]"]),
            ("(a", ["unclosed", "group"]),
            ("a)", ["\")\"", "\"(\""]),
            ("(((a){99}){99}){99}", ["65536", "memory"]),
        ] {
            let Err(error) = Pattern::parse(text, Case::Sensitive) else {
                panic!("{text} is taken");
            };
            assert!(error.starts_with(&format!("\"{text}\": ")), "{error}");
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_first_byte_of_what_it_is_found_in() {
        for (text, first) in [
            ("^/a", Some(b'/')),
            ("^ws", Some(b'w')),
            ("^(ws|a)", None),
            ("^(ws/.*)", Some(b'w')),
            ("^/?ws", None),
            ("^", None),
            ("ws", None),
        ] {
            assert_eq!(pattern(text).first_byte(), first, "{text}");
        }
        let insensitive = Pattern::parse("^ws", Case::Insensitive).unwrap();
        assert_eq!(insensitive.first_byte(), Some(b'w'));
    }

    #[test]
    fn the_short_ways_find_what_the_engine_finds() {
        let parts: &[&str] = &[
            "^", "^/?", "^/", "/", "a", "ab", "(a)", "(/a", ")", "(", "(?:", "(?i)", "a?", "b*",
            "b+", "b{0,2}", "b{1,2}?", "(.*)", ".*", ".*?", "(.*)$", "$", "|", ".", r"\.", r"\/",
            "[ab]", "(?i:b)", "B",
        ];
        let mut noise = Noise::new(0x5eed_0004);
        let mut patterns = 0;
        for _ in 0..20_000 {
            let count = 1 + noise.below(6);
            let text: String = (0..count)
                .map(|_| parts[noise.below(parts.len())])
                .collect();
            for case in [Case::Sensitive, Case::Insensitive] {
                let Ok(short) = Pattern::parse(&text, case) else {
                    continue;
                };
                patterns += 1;
                let long = Pattern {
                    start: None,
                    ..short.clone()
                };
                for subject in [
                    &b""[..],
                    b"/",
                    b"/a",
                    b"/ab/a",
                    b"a",
                    b"/Abb",
                    b"//a.b\xe9\n",
                    b"/a/b",
                ] {
                    let subject = Subject::new(subject);
                    assert_eq!(
                        short.find(&subject),
                        long.find(&subject),
                        "{text} {subject:?}"
                    );
                    assert_eq!(short.is_match(&subject), long.is_match(&subject), "{text}");
                }
            }
        }
        assert!(patterns > 5_000);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let mut noise = Noise::new(0x5eed_0005);
        for _ in 0..20_000 {
            let bytes = noise.mangle(
                br"^/(a|b)?[\w-.]{1,2}(?i:\x2f)+(?<n>.*)$",
                br"^$()[]{}?*+|\-:<>!=,019aZnx#&~",
            );
            if let Ok(pattern) = Pattern::parse(&String::from_utf8_lossy(&bytes), Case::Sensitive) {
                let subject = Subject::new(&bytes);
                assert_eq!(pattern.find(&subject).is_some(), pattern.is_match(&subject));
            }
        }
    }
}
