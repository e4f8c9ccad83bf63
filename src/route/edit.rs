//! Header fields as the configuration changes them: `Header` and `RequestHeader` (httpd mod_headers).
//!
//! Decided here: what a line may say, and what becomes of a head. A request is edited before the proxy makes its own of
//! it, an answer when that is done; `forward` says where exactly. No line can touch what frames a message or what the
//! handshake was verified by: those are refused when they are read. No value can end a line.

mod line;
mod protected;
mod value;

use crate::http::authority::Authority;
use crate::http::headers::Headers;
use crate::route::environment::{Condition, Environment};
use crate::route::facts::Facts;
use crate::route::pattern::{Pattern, Subject};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use value::{LONGEST, Value};

/// Whose fields a line changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `RequestHeader`: those of the client, before the backend gets them.
    Request,
    /// `Header`: those of the answer, before the client gets them.
    Answer,
}

/// One line of `Header` or `RequestHeader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEdit {
    /// The words of the line.
    text: String,
    /// `early`: it holds before anything looks at the request.
    is_early: bool,
    list: List,
    name: String,
    action: Action,
    condition: Option<Condition>,
}

/// Which fields a line sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Request,
    /// Those of the backend's answer (httpd `headers_out`).
    Answer,
    /// A list of its own, empty at first, that goes before all of an answer, also of one of our own (httpd
    /// `err_headers_out`).
    Always,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Set(Value),
    SetIfEmpty(Value),
    Append(Value),
    Merge(Value),
    Add(Value),
    Unset,
    Edit {
        pattern: Pattern,
        replacement: Value,
        /// `edit*`: all matches, not only the first.
        each: bool,
    },
}

/// What is known when a head is edited.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Who asks, and whom.
    pub facts: Facts<'a>,
    /// The variables of the request.
    pub environment: &'a Environment,
    /// When the request was received.
    pub received: SystemTime,
    /// How long it has been served since.
    pub took: Duration,
}

impl HeaderEdit {
    /// Whether this line is one of those that answers of our own get too: `always`.
    pub fn is_always(&self) -> bool {
        self.list == List::Always
    }

    /// Whether this line holds before anything looks at the request: `early`. Such a line cannot stand in a section.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Whether this line changes `Host`. The backend sees that only with `ProxyPreserveHost On`; otherwise it shows in
    /// `X-Forwarded-Host`, as in httpd.
    pub fn is_of_host(&self) -> bool {
        self.list == List::Request && self.name.eq_ignore_ascii_case("Host")
    }

    /// Whether this line takes out or edits what `always` has not put in, and so can have no effect on a backend's answer.
    /// In httpd this is the trap of `Header always unset`.
    pub fn misses_the_backend(&self) -> bool {
        let changes = matches!(self.action, Action::Unset | Action::Edit { .. });
        self.list == List::Always && changes
    }
}

/// Lets pass the names of fields that may be changed on their way.
///
/// # Errors
/// That `name` is not one of a header field, or why nothing may change this field on its way.
pub fn check_name(target: Target, name: &str) -> Result<(), String> {
    let list = match target {
        Target::Request => List::Request,
        Target::Answer => List::Answer,
    };
    protected::check(list, name)
}

impl fmt::Display for HeaderEdit {
    /// The words behind the directive.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Changes the fields of a request or of a backend's answer as the lines say, in the order in which they are written.
pub fn apply(edits: &[Arc<HeaderEdit>], headers: &mut Headers, about: &Circumstances<'_>) {
    if edits.is_empty() {
        return;
    }
    let own = |edit: &&Arc<HeaderEdit>| !edit.is_always() && !edit.is_early();
    for edit in edits.iter().filter(own) {
        edit.apply(headers, about);
    }
    headers.prepend(&always(edits, about));
}

/// Changes the fields of a request before anything looks at them, as the lines with `early` say.
pub fn apply_early(edits: &[Arc<HeaderEdit>], headers: &mut Headers, about: &Circumstances<'_>) {
    for edit in edits.iter().filter(|edit| edit.is_early()) {
        edit.apply(headers, about);
    }
}

/// The fields that `Header always` adds to an answer of our own.
pub fn always(edits: &[Arc<HeaderEdit>], about: &Circumstances<'_>) -> Headers {
    let mut headers = Headers::default();
    for edit in edits.iter().filter(|edit| edit.is_always()) {
        edit.apply(&mut headers, about);
    }
    headers
}

impl HeaderEdit {
    fn apply(&self, headers: &mut Headers, about: &Circumstances<'_>) {
        let holds = |condition: &Condition| condition.holds(about.environment);
        if !self.condition.as_ref().is_none_or(holds) {
            return;
        }
        let name = &self.name;
        match &self.action {
            Action::Unset => headers.remove(name),
            Action::Edit {
                pattern,
                replacement,
                each,
            } => headers.change(name, |old| {
                self.written(edited(old, pattern, replacement, *each, about)?)
            }),
            Action::SetIfEmpty(_) if headers.first(name).is_some() => {}
            Action::Set(value) | Action::SetIfEmpty(value) => match self.rendered(value, about) {
                Some(value) => headers.set(name, &value),
                // A backend takes the field for ours: what the client has put there must not stay.
                None if !self.is_of_host() => headers.remove(name),
                None => {}
            },
            Action::Add(value) => {
                if let Some(value) = self.rendered(value, about) {
                    headers.push(name, &value);
                }
            }
            Action::Append(value) => {
                if let Some(value) = self.rendered(value, about) {
                    self.append(headers, &value);
                }
            }
            Action::Merge(value) => {
                if let Some(value) = self.rendered(value, about)
                    && !headers.all(name).any(|list| has_element(list, &value))
                {
                    self.append(headers, &value);
                }
            }
        }
    }

    fn rendered(&self, value: &Value, about: &Circumstances<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        value.render(about, None, &mut out);
        self.written(out)
    }

    /// `value`, if it may be written at all.
    fn written(&self, value: Vec<u8>) -> Option<Vec<u8>> {
        let fits = value.len() <= LONGEST;
        let is_host = !self.is_of_host() || Authority::parse(&value).is_ok();
        (fits && is_host).then_some(value)
    }

    /// Adds an element to a list: behind all of it in a request, and in an answer to its first field, which is the one
    /// that httpd finds. (Of a request it has made one field by then.)
    fn append(&self, headers: &mut Headers, element: &[u8]) {
        let count = headers.all(&self.name).count();
        if count == 0 {
            headers.push(&self.name, element);
            return;
        }
        let here = match self.list {
            List::Request => count,
            List::Answer | List::Always => 1,
        };
        let mut at = 0;
        headers.change(&self.name, |list| {
            at += 1;
            (at == here)
                .then(|| [list, b", ", element].concat())
                .filter(|list| list.len() <= LONGEST)
        });
    }
}

/// Whether a list has an element, to the byte. A comma within quotes separates nothing (httpd `hdr_merge`).
fn has_element(list: &[u8], element: &[u8]) -> bool {
    let mut quoted = false;
    list.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .any(|other| other.trim_ascii() == element)
}

/// In any case.
fn starts_with(word: &str, prefix: &str) -> bool {
    word.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A value with the first match of a pattern replaced, or each match; `None` if there is none, or if the value becomes
/// too long.
///
/// Behind a match the rest is searched as if it were a whole value, so `^` matches at each rest (httpd `process_regexp`).
// httpd: recurses without end where `edit*` matches nothing at all ("x*").
fn edited(
    value: &[u8],
    pattern: &Pattern,
    replacement: &Value,
    each: bool,
    about: &Circumstances<'_>,
) -> Option<Vec<u8>> {
    let whole = Subject::new(value);
    let mut out = Vec::with_capacity(value.len());
    let mut done = 0;
    let mut is_changed = false;
    while done <= value.len() {
        let rest = whole.behind(done);
        let Some(found) = pattern.find(&rest) else {
            break;
        };
        is_changed = true;
        let place = found.place();
        out.extend_from_slice(rest.bytes().get(..place.start)?);
        replacement.render(about, Some(&found), &mut out);
        done += place.end;
        if !each {
            break;
        }
        if place.is_empty() {
            out.extend(value.get(done));
            done += 1;
        }
        if out.len() > LONGEST {
            return None;
        }
    }
    out.extend_from_slice(value.get(done..).unwrap_or_default());
    is_changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::line::tests::parse;
    use super::*;
    use crate::http::head::{Limits, RequestHead};
    use crate::http::noise::Noise;
    use crate::route::facts::testing::facts;
    use std::time::UNIX_EPOCH;

    fn headers(fields: &str) -> Headers {
        let mut headers = Headers::default();
        for field in fields.lines() {
            let (name, value) = field.split_once(':').unwrap();
            headers.push(name, value.strip_prefix(' ').unwrap_or(value).as_bytes());
        }
        headers
    }

    fn lines_of(headers: &Headers) -> String {
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.escape_ascii()));
        lines.collect()
    }

    fn environment() -> Environment {
        let mut environment = Environment::default();
        for (name, value) in [
            ("SET", &b"a value"[..]),
            ("EMPTY", b""),
            ("HOSTILE", b"x\r\nEvil: 1\r\n\r\n\0\x7f\x1b[\ty\xe4"),
            ("GROUP", b"$0"),
        ] {
            environment.set(name, value);
        }
        environment
    }

    /// `fields` behind `lines`, one of them on each line.
    fn edited_by(target: Target, lines: &str, fields: &str) -> String {
        let parsed = lines.lines().map(|line| parse(target, line).map(Arc::new));
        let parsed: Result<Vec<_>, _> = parsed.collect();
        let mut headers = headers(fields);
        let environment = environment();
        let about = Circumstances {
            facts: facts(),
            environment: &environment,
            received: UNIX_EPOCH + Duration::from_micros(1_234_567),
            took: Duration::from_millis(3),
        };
        apply(&parsed.unwrap(), &mut headers, &about);
        lines_of(&headers)
    }

    #[test]
    fn every_action_does_what_its_name_says() {
        for (line, before, after) in [
            ("set A 1", "", "A: 1\n"),
            ("set A: 1", "b: 0\na: 2\nA: 3\nC: 4", "b: 0\nA: 1\nC: 4\n"),
            ("SET A \"\"", "A: 1", "A: \n"),
            ("setifempty A 1", "", "A: 1\n"),
            ("setifempty A 1", "a: 2", "a: 2\n"),
            // A field without a value is there, as httpd sees it.
            ("setifempty A 1", "A:", "A: \n"),
            ("append A 1", "", "A: 1\n"),
            ("append A 1", "a: 1", "a: 1, 1\n"),
            ("append A 1", "A:", "A: , 1\n"),
            ("merge A 1", "", "A: 1\n"),
            ("merge A 1", "A: 2", "A: 2, 1\n"),
            ("merge A 1", "A: 2 , 1", "A: 2 , 1\n"),
            ("merge A 1", "A: 11", "A: 11, 1\n"),
            ("merge A x", "A: X", "A: X, x\n"),
            ("merge A 1", "A: 2\nA: 3,1", "A: 2\nA: 3,1\n"),
            ("merge A 1", "A: \"2,1\"", "A: \\\"2,1\\\", 1\n"),
            ("merge A \"1, 2\"", "A: 1, 2", "A: 1, 2, 1, 2\n"),
            ("add A 1", "A: 1\nB: 2", "A: 1\nB: 2\nA: 1\n"),
            ("unset A", "a: 1\nB: 2\nA: 3", "B: 2\n"),
            ("unset A", "B: 2", "B: 2\n"),
        ] {
            for target in [Target::Request, Target::Answer] {
                assert_eq!(edited_by(target, line, before), after, "{line} {before}");
            }
        }
        // httpd has joined the fields of a request before.
        let fields = "A: 1\nA: 2";
        assert_eq!(
            edited_by(Target::Request, "append A 3", fields),
            "A: 1\nA: 2, 3\n"
        );
        assert_eq!(
            edited_by(Target::Answer, "append A 3", fields),
            "A: 1, 3\nA: 2\n"
        );
    }

    #[test]
    fn an_edit_replaces_what_its_pattern_matches() {
        for (line, before, after) in [
            ("edit A b x", "A: abab\nB: b\na: b", "A: axab\nB: b\na: x\n"),
            ("edit* A b x", "A: abab", "A: axax\n"),
            ("edit A B x", "A: abab", "A: abab\n"),
            ("edit A (?i)B x", "A: abab", "A: axab\n"),
            ("edit A ^http: https:", "A: http://b/", "A: https://b/\n"),
            ("edit A (.)(.) $2$1$9$0", "A: ab-", "A: baab-\n"),
            ("edit A a [&$0]", "A: a", "A: [&a]\n"),
            ("edit A a $$x", "A: a", "A: $$x\n"),
            (r"edit A a \$0\x", "A: a", "A: $0x\n"),
            (r"edit A a \\\\$0", "A: a", "A: \\\\a\n"),
            ("edit A a %{SET}e%%%D", "A: a", "A: a value%D=3000\n"),
            // What a variable holds is never searched for groups.
            ("edit A a %{GROUP}e", "A: a", "A: $0\n"),
            ("edit* A ^a x", "A: aab", "A: xxb\n"),
            ("edit* A x* -", "A: axb", "A: -a--b-\n"),
            ("edit* A b \"\"", "A: bb", "A: \n"),
            ("edit A a x", "B: a", "B: a\n"),
            ("edit A (.*) $0$0", "A: \u{e4}", "A: \\xc3\\xa4\\xc3\\xa4\n"),
        ] {
            assert_eq!(edited_by(Target::Answer, line, before), after, "{line}");
        }
    }

    #[test]
    fn lines_hold_in_their_order_and_where_their_variable_says() {
        let lines = "set A 1\nappend A 2 env=SET\nappend A 3 env=empty\nappend A 4 env=!SET\nappend A 5 env=!NONE\n\
                     unset B env=SET\nunset C env=NONE\nedit A 5 6 env=SET\nedit A 6 7 ENV=NONE";
        assert_eq!(
            edited_by(Target::Request, lines, "B: 1\nC: 2"),
            "C: 2\nA: 1, 2, 3, 5\n".replace('5', "6")
        );
    }

    #[test]
    fn values_are_filled_in() {
        for (value, written) in [
            ("50%%", "50%"),
            ("50%", "50%"),
            ("%t %D", "t=1234567 D=3000"),
            ("a%{SET}eb", "aa valueb"),
            ("%{set}e", "a value"),
            ("%{EMPTY}e", ""),
            ("%{NONE}e", "(null)"),
            ("%{SSL_PROTOCOL}s", "(null)"),
            ("%{REMOTE_ADDR}s", "192.0.2.7"),
            ("%{https}s", "off"),
            ("expr=%{REQUEST_SCHEME}", "http"),
            (
                "expr=a %{SERVER_NAME}:%{SERVER_PORT}%%",
                "a www.example:8080%%",
            ),
            ("expr=[%{reqenv:SET}%{env:NONE}]", "[a value]"),
            ("expr=", ""),
            ("EXPR=x", "EXPR=x"),
            (r"a\\b\c\%%\", r"a\\b\\c\\%\\"),
            (r"a\tb", r"a\tb"),
            ("$0 \u{e4}", r"$0 \xc3\xa4"),
        ] {
            let line = format!("set A \"{value}\"");
            let after = edited_by(Target::Answer, &line, "");
            assert_eq!(after, format!("A: {written}\n"), "{value}");
        }
    }

    #[test]
    fn no_variable_and_no_group_breaks_a_line() {
        let written = r"x  Evil: 1       [\ty\xe4";
        for line in [
            "set A %{HOSTILE}e",
            "add A %{HOSTILE}e",
            "append A %{HOSTILE}e",
            "merge A %{HOSTILE}e",
            "setifempty A %{HOSTILE}e",
            "set A 1\nedit A 1 %{HOSTILE}e",
            "set A expr=%{reqenv:HOSTILE}",
        ] {
            for target in [Target::Request, Target::Answer] {
                let after = edited_by(target, line, "");
                assert_eq!(after, format!("A: {written}\n"), "{line}");
            }
        }
    }

    #[test]
    fn what_people_write_works() {
        for (target, line, before, after) in [
            (Target::Request, "set Host \"x\"", "Host: a:1", "Host: x\n"),
            (Target::Request, "unset Host", "Host: a:1", ""),
            (
                Target::Request,
                "edit Host ^a b",
                "Host: a:1",
                "Host: b:1\n",
            ),
            (Target::Request, "unset Origin", "Origin: b\nC: d", "C: d\n"),
            (
                Target::Request,
                "set Origin http://b",
                "origin: c",
                "Origin: http://b\n",
            ),
            (
                Target::Request,
                "unset Accept-Encoding",
                "Accept-Encoding: gzip",
                "",
            ),
            (
                Target::Request,
                "set X-Forwarded-Proto \"https\"",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Proto: https\n",
            ),
            (
                Target::Request,
                "unset Sec-WebSocket-Extensions",
                "Sec-WebSocket-Extensions: permessage-deflate",
                "",
            ),
            (
                Target::Answer,
                "always set Strict-Transport-Security \"max-age=63072000; includeSubDomains\"",
                "Server: x",
                "Strict-Transport-Security: max-age=63072000; includeSubDomains\nServer: x\n",
            ),
            (
                Target::Answer,
                "add Set-Cookie \"ROUTEID=.%{BALANCER_WORKER_ROUTE}e; path=/\" env=BALANCER_ROUTE_CHANGED",
                "Set-Cookie: a=b",
                "Set-Cookie: a=b\n",
            ),
            (
                Target::Answer,
                "add Set-Cookie \"ROUTEID=.%{SET}e; path=/\" env=SET",
                "Set-Cookie: a=b",
                "Set-Cookie: a=b\nSet-Cookie: ROUTEID=.a value; path=/\n",
            ),
            (
                Target::Answer,
                "edit Set-Cookie ^(.*)$ $1;Secure",
                "Set-Cookie: a=b\nSet-Cookie: c=d",
                "Set-Cookie: a=b;Secure\nSet-Cookie: c=d;Secure\n",
            ),
            (Target::Answer, "onsuccess unset Server", "Server: x", ""),
            (
                Target::Request,
                "set \"X-Forwarded-Proto\" expr=%{REQUEST_SCHEME}",
                "",
                "X-Forwarded-Proto: http\n",
            ),
            (
                Target::Request,
                "set X-Real-IP %{REMOTE_ADDR}s",
                "X-Real-IP: 1.1.1.1",
                "X-Real-IP: 192.0.2.7\n",
            ),
        ] {
            assert_eq!(edited_by(target, line, before), after, "{line}");
        }
    }

    #[test]
    fn always_has_a_list_of_its_own_before_the_answer() {
        let lines = "always set A 1\nset A 2\nalways append A 3\nalways unset B\nunset C\nalways add D 4\nalways unset D";
        assert_eq!(
            edited_by(Target::Answer, lines, "B: 0\nA: 0\nC: 0"),
            "A: 1, 3\nB: 0\nA: 2\n"
        );
        let edits: Vec<_> = lines
            .lines()
            .map(|line| Arc::new(parse(Target::Answer, line).unwrap()))
            .collect();
        let about = Circumstances {
            facts: facts(),
            environment: &environment(),
            received: UNIX_EPOCH,
            took: Duration::ZERO,
        };
        assert_eq!(lines_of(&always(&edits, &about)), "A: 1, 3\n");
        let missing: Vec<_> = edits
            .iter()
            .map(|edit| (edit.is_always(), edit.misses_the_backend()))
            .collect();
        assert_eq!(
            missing,
            [
                (true, false),
                (false, false),
                (true, false),
                (true, true),
                (false, false),
                (true, false),
                (true, true)
            ]
        );
    }

    #[test]
    fn a_host_stays_one_host() {
        for line in [
            "set Host %{SET}e",
            "set Host %{HOSTILE}e",
            "set Host %{NONE}e",
            "edit Host $ /evil",
            "edit* Host . \"\"",
            "setifempty Host b",
        ] {
            assert_eq!(edited_by(Target::Request, line, "Host: a:1"), "Host: a:1\n");
        }
        assert!(parse(Target::Request, "set host b").unwrap().is_of_host());
        assert!(!parse(Target::Request, "set X-Host b").unwrap().is_of_host());
    }

    #[test]
    fn lines_that_double_a_value_have_an_end() {
        let lines = "edit A (.*) $0$0\n".repeat(40);
        let after = edited_by(Target::Request, &lines, "A: x");
        assert_eq!(after.len(), "A: \n".len() + LONGEST);
        let lines = "edit* A x xx\n".repeat(40);
        let after = edited_by(Target::Request, &lines, "A: x");
        assert_eq!(after.len(), "A: \n".len() + LONGEST);
        let long = format!("append A {}", "y".repeat(LONGEST - 3));
        assert_eq!(edited_by(Target::Request, &long, "A: xx"), "A: xx\n");
    }

    #[test]
    fn what_a_client_says_does_not_stand_in_for_a_value_that_is_too_long() {
        let long = format!("set A {}", "y".repeat(LONGEST + 1));
        assert_eq!(edited_by(Target::Request, &long, "A: forged"), "");
    }

    #[test]
    fn never_panics_and_never_breaks_a_head() {
        let mut noise = Noise::new(11);
        let samples = [
            "set A \"%t %{HOSTILE}e\\t$0\"",
            "edit* A (x*)y \"$1%{HOSTILE}e\\$\" env=SET",
            "merge A \"x, y\" env=!NONE",
            "append Host %{HOSTILE}e",
        ];
        let environment = environment();
        let about = Circumstances {
            facts: facts(),
            environment: &environment,
            received: UNIX_EPOCH,
            took: Duration::MAX,
        };
        for _ in 0..20_000 {
            let line = noise.pick(&samples).as_bytes();
            let line = noise.mangle(line, b"\"\\%${}$*x\r\n: ");
            let Ok(line) = std::str::from_utf8(&line) else {
                continue;
            };
            let Ok(edit) = parse(Target::Request, line) else {
                continue;
            };
            let mut fields = headers("A: xxy, y\nA: \"x,y\"\nHost: a");
            apply(&[Arc::new(edit)], &mut fields, &about);
            let mut head = b"GET / HTTP/1.0\r\n".to_vec();
            for (name, value) in fields.iter() {
                head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            head.extend_from_slice(b"\r\n");
            let parsed = RequestHead::parse(&head, &Limits::default());
            let (used, _) = parsed.unwrap().unwrap();
            assert_eq!(used, head.len(), "{line}");
        }
    }
}
