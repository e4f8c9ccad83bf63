//! Rewriting: rules that change path and query of a request, lead it to a backend, or answer it, before any mapping is
//! looked at. Source: httpd mod_rewrite.c `hook_uri2file`, `apply_rewrite_list`, in the context of a server.
//!
//! What httpd puts together as text and takes apart again, is never one text here: the backend of a `[P]` rule is a value
//! from the configuration, and a `?` that a request brings in stays a byte of its path. So no request can choose where
//! it goes (CVE-2011-3368, CVE-2024-39573) or make a query of a path (CVE-2024-38474).

mod condition;
mod flags;
mod redirect;
mod rule;
mod text;
mod variable;

pub use condition::Condition;
pub use rule::Rule;

use super::destination::Destination;
use super::environment::Environment;
use super::facts::{Facts, Tell};
use super::pattern::Subject;
use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::ids::Id;
use flags::Flag;
use rule::Effect;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use text::{Groups, Values};

/// How often `[N]` may begin anew. Each round is work that a client asks for with one byte of its path.
// httpd: 32,000 rounds.
const MAX_ROUNDS: usize = 256;

/// What reading a line finds, beside its meaning.
#[derive(Debug)]
pub struct Review<'a> {
    /// The folder that relative paths of sockets are below.
    pub server_root: &'a Path,
    /// The name in a list that was probably meant by a wrong one.
    pub near: fn(&str, &[&'static str]) -> Option<&'static str>,
    /// Why the line cannot be obeyed.
    pub problems: Vec<String>,
    /// What is legal and probably not meant.
    pub doubts: Vec<String>,
}

impl Review<'_> {
    /// The value; or its problem goes to the others.
    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }
}

/// The words of a line as they may have been written.
fn written(words: [&str; 3]) -> String {
    let mut line = String::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let separator = if line.is_empty() { "" } else { " " };
        let quote = if word.contains([' ', '\t']) { "\"" } else { "" };
        line.extend([separator, quote, word, quote]);
    }
    line
}

/// The rules of a host, in their order. None where the engine is off.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<Arc<Rule>>,
}

/// A request on its way through the rules.
#[derive(Debug)]
pub struct Rewriting<'a, 'e> {
    /// As it came.
    pub head: &'a RequestHead,
    /// What is known beside it.
    pub facts: &'a Facts<'a>,
    /// What rules say to those that come later.
    pub environment: &'e mut Environment,
    /// The canonical path, decoded.
    pub path: Vec<u8>,
    /// The query. A rule may bring blanks and control characters into it: the last look at a target finds them.
    pub query: Option<Cow<'a, str>>,
}

/// What rules decide about a request.
#[derive(Debug, PartialEq)]
pub enum Outcome<'a> {
    /// The mappings are looked at, for the path and the query that the rules left.
    Mappings,
    /// A `[P]` rule leads to a backend.
    Proxy {
        /// The rule, as logs name it.
        name: &'a Arc<str>,
        /// Where it leads.
        to: &'a Destination,
        /// Path and query that are asked for there, not yet looked at for the last time.
        target: String,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// The rule, as logs name it.
        name: &'a Arc<str>,
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The absolute URL; every byte is a visible ASCII character.
        location: String,
    },
}

/// What a rule does.
enum Step<'a> {
    /// The path stays as it is.
    Kept,
    /// It becomes another one.
    Path(Vec<u8>),
    /// All is decided.
    Decided(Outcome<'a>),
}

/// Where the walk is.
struct Walk<'a, 'r, 'q, 'e> {
    rules: &'a [Arc<Rule>],
    request: &'r mut Rewriting<'q, 'e>,
    /// The path before any rule.
    original: Vec<u8>,
    /// The next rule.
    place: usize,
    rounds: usize,
    /// The rule that changed the path last.
    changed: Option<&'a Rule>,
}

impl Rules {
    /// Lets the rules have their say about a request.
    ///
    /// # Errors
    /// The status of a rule with `F`, `G` or `R=4xx`; 404 if a rule leads to a file; 403 if a target climbs out of its
    /// place; 500 if rules never end or make too much of a request.
    #[inline(never)]
    pub fn apply(
        &self,
        request: &mut Rewriting<'_, '_>,
        tell: &mut Tell<'_>,
    ) -> Result<Outcome<'_>, Refusal> {
        if self.rules.is_empty() {
            return Ok(Outcome::Mappings);
        }
        let mut path = request.path.clone();
        let mut walk = Walk {
            rules: &self.rules,
            original: path.clone(),
            request,
            place: 0,
            rounds: 0,
            changed: None,
        };
        loop {
            let subject = Subject::new(&path);
            match walk.on(&subject, tell)? {
                Step::Kept => break,
                Step::Path(changed) => path = changed,
                Step::Decided(outcome) => return Ok(outcome),
            }
        }
        if let Some(rule) = walk.changed {
            let path = path.escape_ascii();
            return Err(Refusal::new(
                Id::LocalFile,
                format!(
                    "{} makes \"{path}\" of the path, which would be a file",
                    rule.name
                ),
            ));
        }
        request.path = path;
        Ok(Outcome::Mappings)
    }
}

impl<'a> Walk<'a, '_, '_, '_> {
    /// Walks on until the path changes, all is decided, or the rules are at their end.
    fn on(&mut self, path: &Subject<'_>, tell: &mut Tell<'_>) -> Result<Step<'a>, Refusal> {
        let rules = self.rules;
        while let Some(rule) = rules.get(self.place) {
            self.place += 1;
            let Some((groups, found)) = self.matches(rule, path, tell)? else {
                if rule.has(&Flag::Chain) {
                    self.skip_chain();
                }
                continue;
            };
            let step = self.act(rule, &groups, &found, tell)?;
            if let Step::Decided(_) = step {
                return Ok(step);
            }
            self.advance(rule)?;
            if let Step::Path(_) = step {
                return Ok(step);
            }
        }
        Ok(Step::Kept)
    }

    /// What the pattern and the last of the conditions found, if the rule matches.
    fn matches(
        &self,
        rule: &Rule,
        path: &Subject<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<Option<(Groups, Groups)>, Refusal> {
        let captures = rule.pattern.find(path);
        let matches = captures.is_some() != rule.is_negated;
        tell(format_args!(
            "{rule} at {}: {} \"{}\"",
            rule.origin,
            if matches { "matches" } else { "does not match" },
            path.bytes().escape_ascii()
        ));
        if !matches {
            return Ok(None);
        }
        let groups = captures.map(Groups::from).unwrap_or_default();
        let mut found = Groups::default();
        let mut is_decided = false;
        for condition in &rule.conditions {
            // One of those that OR joins has held: the others need not be asked.
            if is_decided {
                is_decided = condition.or_next;
                continue;
            }
            let values = Values {
                found: &found,
                ..self.values(&groups, &groups)
            };
            let (holds, now_found) = condition.holds(&values, tell)?;
            if let Some(now_found) = now_found {
                found = now_found;
            }
            match (holds, condition.or_next) {
                (false, false) => return Ok(None),
                (true, true) => is_decided = true,
                _ => {}
            }
        }
        Ok(Some((groups, found)))
    }

    fn values<'v>(&'v self, groups: &'v Groups, found: &'v Groups) -> Values<'v> {
        Values {
            head: self.request.head,
            facts: self.request.facts,
            environment: self.request.environment,
            path: &self.original,
            query: self.request.query.as_deref(),
            groups,
            found,
        }
    }

    fn act(
        &mut self,
        rule: &'a Rule,
        groups: &Groups,
        found: &Groups,
        tell: &mut Tell<'_>,
    ) -> Result<Step<'a>, Refusal> {
        let values = self.values(groups, found);
        let mut query = None;
        // Before the environment changes, as in httpd.
        let step = match &rule.effect {
            Effect::Keep | Effect::Refuse(_) => Step::Kept,
            Effect::Path(text) => {
                let (path, new_query) = rule.rewritten(text, &values)?;
                query = Some(new_query);
                Step::Path(clean(&path)?)
            }
            Effect::Proxy(proxy) => Step::Decided(Outcome::Proxy {
                name: &rule.name,
                to: &proxy.to,
                target: rule.target(proxy, &values)?,
            }),
            Effect::Redirect(redirect) => Step::Decided(Outcome::Redirect {
                name: &rule.name,
                status: redirect.status,
                location: rule.location(redirect, &values)?,
            }),
        };
        self.set_environment(rule, groups, found, tell)?;
        if let Effect::Refuse(status) = rule.effect {
            tell(format_args!("  answered with {status}"));
            let why = format!("{} refuses the request", rule.name);
            let id = match status {
                403 => Id::Forbidden,
                410 => Id::Gone,
                _ => Id::Redirected,
            };
            return Err(Refusal::with_status(id, status, why));
        }
        if let Some(query) = query {
            self.request.query = query.map(Cow::Owned);
        }
        match &step {
            Step::Kept => {}
            Step::Path(path) => {
                self.changed = Some(rule);
                tell(format_args!(
                    "  the path becomes \"{}\", the query \"{}\"",
                    path.escape_ascii(),
                    self.request
                        .query
                        .as_deref()
                        .unwrap_or_default()
                        .escape_debug()
                ));
            }
            Step::Decided(Outcome::Proxy { to, target, .. }) => tell(format_args!(
                "  leads to {to}, which is asked for \"{}\"",
                target.escape_debug()
            )),
            Step::Decided(Outcome::Redirect { location, .. }) => {
                tell(format_args!("  sends the client to {location}"));
            }
            Step::Decided(Outcome::Mappings) => {}
        }
        Ok(step)
    }

    fn set_environment(
        &mut self,
        rule: &Rule,
        groups: &Groups,
        found: &Groups,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        for flag in &rule.flags {
            match flag {
                Flag::Set(name, text) => {
                    let value = text.expand(&self.values(groups, found), None)?;
                    tell(format_args!(
                        "  {name} becomes \"{}\"",
                        value.escape_ascii()
                    ));
                    if !self.request.environment.set(name, &value) {
                        let why = format!("{} makes too much of the environment", rule.name);
                        return Err(Refusal::new(Id::TooLong, why));
                    }
                }
                Flag::Unset(name) => self.request.environment.unset(name),
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes to the rule that is next after one that matched.
    fn advance(&mut self, rule: &Rule) -> Result<(), Refusal> {
        if rule.has(&Flag::PassOn) {
            self.changed = None;
        }
        if rule.has(&Flag::PassOn) || rule.has(&Flag::Last) {
            self.place = self.rules.len();
            return Ok(());
        }
        for flag in &rule.flags {
            match flag {
                Flag::Restart(limit) => {
                    self.rounds += 1;
                    if self.rounds > *limit {
                        let why = format!("{} began anew more than {limit} times", rule.name);
                        return Err(Refusal::new(Id::TooLong, why));
                    }
                    self.place = 0;
                }
                Flag::Skip(count) => self.place = self.place.saturating_add(*count),
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes past the rules that are chained to one that did not match.
    fn skip_chain(&mut self) {
        let rest = self.rules.get(self.place..).unwrap_or_default();
        let chained = rest.iter().take_while(|rule| rule.has(&Flag::Chain));
        // The last of a chain has no `C` of its own.
        self.place += chained.count() + 1;
    }
}

/// The path that a rule made, in the form in which paths are matched: it begins with a slash, and has no empty segments.
///
/// # Errors
/// 403 for a dot segment. What the client wrote has none left, so a rule has cut it out of something else.
fn clean(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut clean = Vec::with_capacity(path.len() + 1);
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(segment, b"." | b"..") {
            return Err(Refusal::new(
                Id::BadTarget,
                "the rewritten path has a segment \".\" or \"..\"",
            ));
        }
        let is_last = segments.peek().is_none();
        if !segment.is_empty() || is_last {
            clean.push(b'/');
            clean.extend_from_slice(segment);
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Limits;
    use crate::http::noise::Noise;
    use crate::route::facts::testing::facts;
    use crate::route::own_name::OwnName;

    fn review() -> Review<'static> {
        Review {
            server_root: Path::new("/srv"),
            near: |_, _| None,
            problems: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// Reads lines of `cond` and `rule`, words between single blanks.
    fn read(lines: &str) -> (Rules, Review<'static>) {
        let mut review = review();
        let mut rules = Vec::new();
        let mut conditions = Vec::new();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let word = |n: usize| words.get(n).copied().unwrap_or_default();
            if word(0) == "cond" {
                conditions.extend(Condition::parse(word(1), word(2), word(3), &mut review));
            } else {
                let words = [word(1), word(2), word(3)];
                let conditions = std::mem::take(&mut conditions);
                rules.extend(Rule::parse(
                    words,
                    conditions,
                    "test:1".to_owned(),
                    &mut review,
                ));
            }
        }
        let rules = rules.into_iter().map(Arc::new).collect();
        (Rules { rules }, review)
    }

    fn rules(lines: &str) -> Rules {
        let (rules, review) = read(lines);
        assert!(review.problems.is_empty(), "{lines}: {:?}", review.problems);
        rules
    }

    /// What comes of `path?query`, and what the environment holds as `V`.
    fn ask_with(rules: &Rules, target: &str, fields: &str) -> (String, String) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a:8080\r\n{fields}\r\n");
        let (_, head) = RequestHead::parse(text.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        let facts = Facts {
            client: "192.0.2.1:5000".parse().unwrap(),
            peer: "[::ffff:192.0.2.9]:5001".parse().unwrap(),
            local: "192.0.2.2:8443".parse().unwrap(),
            own_name: OwnName {
                name: "a",
                port: Some(8080),
            },
            unix_seconds: 951_782_405,
            ..facts()
        };
        let (path, query) = match head.target().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (head.target(), None),
        };
        let mut environment = Environment::default();
        let mut request = Rewriting {
            head: &head,
            facts: &facts,
            environment: &mut environment,
            path: crate::route::url::canonical_path(path, Default::default())
                .unwrap()
                .into_owned(),
            query: query.map(Cow::Borrowed),
        };
        let said = match rules.apply(&mut request, &mut |_| ()) {
            Err(refusal) => refusal.status.to_string(),
            Ok(Outcome::Redirect {
                status, location, ..
            }) => format!("{status} {location}"),
            Ok(Outcome::Proxy { to, target, .. }) => match crate::route::outgoing(&target) {
                Ok(()) => {
                    let backend = to.backends().next().unwrap();
                    format!("{} {target}", backend.url.host_header())
                }
                Err(refusal) => refusal.status.to_string(),
            },
            Ok(Outcome::Mappings) => {
                let path = request.path.escape_ascii();
                match &request.query {
                    Some(query) => format!("{path}?{query}"),
                    None => path.to_string(),
                }
            }
        };
        let v = environment.get("V").unwrap_or_default();
        (said, v.escape_ascii().to_string())
    }

    fn ask(rules: &Rules, target: &str) -> String {
        ask_with(rules, target, "").0
    }

    #[test]
    fn rules_change_the_path_for_the_mappings() {
        for (lines, target, expected) in [
            ("", "/a?b", "/a?b"),
            ("rule ^/x - [F]", "/a?b", "/a?b"),
            ("rule ^/a(.*) /b$1 [PT]", "/a/c?q", "/b/c?q"),
            ("rule ^/a(.*) /b$1", "/a/c?q", "404"),
            ("rule ^/a(.*) /b$1 [L]\nrule ^/b - [PT]", "/a/c", "404"),
            ("rule ^/a(.*) /b$1\nrule ^/b - [PT]", "/a/c", "/b/c"),
            ("rule ^/a b//$0/ [PT]", "/a", "/b/a/"),
            // In a configured path what is percent-encoded is the byte.
            (r"rule ^/a /\%20b [PT]", "/a", "/ b"),
            ("rule ^/a - [L]\nrule ^/ - [F]", "/a", "/a"),
            ("rule ^/a - [END]\nrule ^/ - [F]", "/a", "/a"),
            ("rule !^/a - [F]", "/a", "/a"),
            ("rule !^/a - [F]", "/b", "403"),
            ("rule ^/(.) - [G]", "/b", "410"),
            ("rule ^/(.) - [R=503]", "/b", "503"),
            ("rule ^/A - [F,NC]", "/a", "403"),
            (
                "rule ^/a - [S=2]\nrule . - [F]\nrule . - [F]\nrule . - [G]",
                "/a",
                "410",
            ),
            ("rule ^/a - [S=9]\nrule . - [F]", "/a", "/a"),
            (
                "rule ^/a /b [C]\nrule ^/b /c [C]\nrule ^/c - [F]\nrule . - [G]",
                "/a",
                "403",
            ),
            (
                "rule ^/a /b [C]\nrule ^/b /c [C]\nrule ^/c - [F]\nrule . - [G]",
                "/b",
                "410",
            ),
            (
                "rule ^(.*)_(.*)$ $1-$2 [N]\nrule . - [PT]",
                "/a_b_c",
                "/a-b-c",
            ),
            ("rule ^/a(.*) /aa$1 [N]", "/a", "500"),
            ("rule . - [N=3]", "/a", "500"),
            (
                "rule ^(.*)_(.*)$ $1-$2 [N=2]\nrule . - [PT]",
                "/a_b_c",
                "/a-b-c",
            ),
            (
                "rule ^(.*)_(.*)$ $1-$2 [N=2]\nrule . - [PT]",
                "/a_b_c_d",
                "500",
            ),
            // What a request brings in makes no query and no way out.
            ("rule ^/a(.*) /b$1 [PT]", "/a%3fq", "/b?q"),
            ("rule ^/a(.*) /b$1?z=1 [PT]", "/a%3fq", "/b?q?z=1"),
            ("rule ^/a(.*) /b/$1 [PT]", "/a../x", "403"),
            ("rule ^/(.)(.)(.*) /$3/$1$2/x [PT]", "/..a", "403"),
        ] {
            assert_eq!(ask(&rules(lines), target), expected, "{lines} {target}");
        }
    }

    /// Past the rules of access, the backend would find another path.
    #[test]
    fn what_is_decoded_here_is_not_decoded_once_more() {
        for (lines, target, expected) in [
            ("rule ^ ws://b%{REQUEST_URI} [P,NE]", "/%2573", "b /%2573"),
            ("rule ^/(.*) ws://b/$1 [P,NE]", "/%25", "b /%25"),
            (
                "rule ^/(.*) ws://b/$1 [P,B,NE]",
                "/%252e%252e/x",
                "b /%252e%252e%2Fx",
            ),
            ("rule ^/(.*) ws://b/%{HTTP:X} [P,NE]", "/x", "b /"),
            // What is as the client wrote it stays so.
            (
                "cond %{THE_REQUEST} \\s/(\\S+)\nrule ^ ws://b/%1 [P,NE]",
                "/%41%2541",
                "b /%41%2541",
            ),
        ] {
            assert_eq!(ask(&rules(lines), target), expected, "{lines} {target}");
        }
    }

    #[test]
    fn rules_lead_to_a_backend_that_no_request_chooses() {
        for (lines, target, expected) in [
            ("rule ^/?(.*) ws://b:9/$1 [P,L]", "/a?q", "b:9 /a?q"),
            ("rule ^/?(.*) ws://b:9/$1 [P,L]", "/", "b:9 /"),
            ("rule ^/a ws://b/x [P]", "/a?q", "b /x?q"),
            ("rule ^/a ws://b [P]", "/a?q", "b /?q"),
            (
                "rule ^/(.*) unix:/run/a|ws://s/x/$1 [P]",
                "/a?q",
                "s /x/a?q",
            ),
            ("rule . ws://b:9%{REQUEST_URI} [P]", "/a%20b", "b:9 /a%20b"),
            ("rule ^(.*)$ ws://b$1 [P]", "/a", "b /a"),
            ("rule ^/a(/.*)?$ ws://b$1 [P]", "/a", "b /"),
            // CVE-2011-3368, CVE-2024-39573
            ("rule ^/a(.*) ws://b$1 [P]", "/a@evil", "403"),
            ("rule ^/a(.*) ws://b$1 [P]", "/a.evil/", "403"),
            ("rule ^/a(.*) ws://b:8$1 [P]", "/a0/", "403"),
            (
                "rule ^/(.*) ws://b/$1 [P]",
                "/unix:/x|ws://h/",
                "b /unix:/x%7Cws:/h/",
            ),
            // CVE-2024-38474: a "?" of the path stays one.
            ("rule ^/(.*) ws://b/$1 [P]", "/a%3fb", "b /a%3Fb"),
            ("rule ^/(.*) ws://b/$1 [P]", "/a%3fb?c", "b /a%3Fb?c"),
            ("rule ^/(.*) ws://b/$1 [P,NE]", "/a%3fb", "b /a%3Fb"),
            (
                "rule ^/(.*) ws://b/$1 [P,UnsafeAllow3F]",
                "/a%3fb?c",
                "b /a?b",
            ),
            (
                "rule ^/(.*) ws://b/$1?c [P,UnsafeAllow3F]",
                "/a%3fb",
                "b /a?b?c",
            ),
            // A query keeps what it must not, for the last look at a target.
            ("rule ^/(.*) ws://b/?p=$1 [P]", "/a%0d%0ab", "403"),
            (
                "rule ^/(.*) ws://b/?p=$1 [P,B]",
                "/a%0d%0ab%26",
                "b /?p=a%0D%0Ab%26",
            ),
            ("rule ^/(.*) ws://b/?p=$1 [P,B]", "/a%20b", "b /?p=a+b"),
            (
                "rule ^/(.*) ws://b/?p=$1 [P,B,BNP]",
                "/a%20b",
                "b /?p=a%20b",
            ),
            ("rule ^/(.*) ws://b/?p=$1 [P,B=b]", "/a%20b", "403"),
            (
                "rule ^/(.*) ws://b/?p=$1 [P,B,BNE=/]",
                "/a/b.",
                "b /?p=a/b%2E",
            ),
            (
                "rule ^/(.*) ws://b/?p=$1 [P,BCTLS,BNP]",
                "/a%20%26b",
                "b /?p=a%20&b",
            ),
            (
                "rule ^/(.*) ws://b/?p=$1 [P]",
                "/%c3%a9%23",
                "b /?p=%C3%A9%23",
            ),
            ("rule ^/(.*) ws://b/$1 [P,B]", "/a%26b", "b /a%2526b"),
            (
                "rule ^/(.*) ws://b/$1 [P]",
                "/a%25b%0d%0a",
                "b /a%25b%0D%0A",
            ),
            ("rule ^/(.*) ws://b/$1 [P,NE]", "/a%2541%c3", "b /a%2541%C3"),
            (
                "rule ^/(.*) ws://b/$1 [P,NE]",
                "/%252e%252e/x",
                "b /%252e%252e/x",
            ),
            (
                "rule ^/(.*) ws://b/$1 [P]",
                "/%252e%252e/x",
                "b /%252e%252e/x",
            ),
            ("rule ^/a(.*) ws://b/x/$1 [P]", "/a../y", "403"),
            ("rule ^/a(.*) ws://b/x/.$1 [P]", "/a./y", "403"),
            (r"rule ^/a ws://b/x\%2fy [P]", "/a", "b /x%2Fy"),
            (r"rule ^/(.) ws://b/$1/\%20/%c3 [P]", "/a", "b /a/%20/%C3"),
            ("rule ^/(a) ws://b/$1/$9/%1/$0 [P]", "/a", "b /a////a"),
            (r"rule ^/(a) ws://b/\$1/$ [P]", "/a", "b /$1/$"),
        ] {
            assert_eq!(ask(&rules(lines), target), expected, "{lines} {target}");
        }
    }

    #[test]
    fn a_query_is_kept_replaced_or_joined() {
        for (substitution, target, expected) in [
            ("/p [P]", "/a?b", "b /p?b"),
            ("/p? [P]", "/a?b", "b /p"),
            ("/p?x [P]", "/a?b", "b /p?x"),
            ("/p?x& [P]", "/a?b", "b /p?x"),
            ("/p?x [P,QSA]", "/a?b", "b /p?x&b"),
            ("/p?x [P,QSA]", "/a?", "b /p?x"),
            ("/p?x [P,QSA]", "/a", "b /p?x"),
            ("/p? [P,QSA]", "/a?b", "b /p?b"),
            ("/p [P,QSD]", "/a?b", "b /p"),
            ("/p?x [P,QSD,QSA]", "/a?b", "b /p?x"),
            ("/p?x?y [P]", "/a", "b /p?x?y"),
            ("/p?x?y [P,QSL]", "/a", "b /p%3Fx?y"),
            ("/p?%{QUERY_STRING}&y [P]", "/a?b", "b /p?b&y"),
        ] {
            let lines = format!("rule ^/a ws://b{substitution}");
            assert_eq!(ask(&rules(&lines), target), expected, "{lines} {target}");
        }
        let joined = rules("rule ^/a /b?x [QSA]\nrule ^/b ws://b/c?y [P,QSA]");
        assert_eq!(ask(&joined, "/a?q"), "b /c?y&x&q");
    }

    #[test]
    fn conditions_hold_together_and_their_groups_are_the_last_ones() {
        let led = |conditions: &str, fields: &str| {
            let lines = format!("{conditions}\nrule ^/(.) ws://b/$1-%0-%1 [P]");
            ask_with(&rules(&lines), "/q?s=1", fields).0
        };
        let no = "/q?s=1";
        for (conditions, fields, expected) in [
            ("cond %{HTTP:A} 1\ncond %{HTTP:B} 1", "A: 1\r\n", no),
            (
                "cond %{HTTP:A} 1\ncond %{HTTP:B} 1",
                "A: 1\r\nB: 1\r\n",
                "b /q-1-?s=1",
            ),
            (
                "cond %{HTTP:A} 1 [OR]\ncond %{HTTP:B} 1",
                "B: 1\r\n",
                "b /q-1-?s=1",
            ),
            ("cond %{HTTP:A} 1 [OR]\ncond %{HTTP:B} 1", "C: 1\r\n", no),
            (
                "cond %{HTTP:A} (.) [OR]\ncond %{HTTP:B} (.)",
                "A: 1\r\nB: 2\r\n",
                "b /q-1-1?s=1",
            ),
            (
                "cond %{HTTP:A} 1 [OR]\ncond %{HTTP:B} 1\ncond %{HTTP:C} 1",
                "A: 1\r\n",
                no,
            ),
            (
                "cond %{HTTP:A} (.)\ncond %{HTTP:B} !(.)",
                "A: 1\r\n",
                "b /q-1-1?s=1",
            ),
            (
                "cond %{HTTP:A} (.)\ncond x%1 ^x(1)$",
                "A: 1\r\n",
                "b /q-x1-1?s=1",
            ),
            ("cond $1 ^(q)$", "", "b /q-q-q?s=1"),
            ("cond %{http:a} ^ab$ [NC]", "A: AB\r\n", "b /q-AB-?s=1"),
            ("cond %{HTTP:A} =ab", "A: ab\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} !=ab [NV]", "A: abc\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} =AB [NC]", "A: ab\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} =\"\"", "", "b /q--?s=1"),
            ("cond %{HTTP:A} =", "", "b /q--?s=1"),
            // The shorter one is the lesser one.
            ("cond %{HTTP:A} <b", "A: aa\r\n", no),
            ("cond %{HTTP:A} <b [NC]", "A: aa\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} >=b", "A: b\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} <=b", "A: c\r\n", no),
            ("cond %{HTTP:A} >b", "A: c\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} -eq5", "A: 5 apples\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} -gt-1", "A: none\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} -lt0", "A: -7\r\n", "b /q--?s=1"),
            (
                "cond %{HTTP:A} -ne1",
                "A: 99999999999999999999\r\n",
                "b /q--?s=1",
            ),
            ("cond %{HTTP:A} -ge2", "A: +2\r\n", "b /q--?s=1"),
            ("cond %{HTTP:A} -le2", "A: 3\r\n", no),
            (
                "cond %{HTTP:A} ^1,.2$",
                "A: 1\r\nA: 2\r\n",
                "b /q-1,%202-?s=1",
            ),
        ] {
            assert_eq!(led(conditions, fields), expected, "{conditions} {fields}");
        }
    }

    #[test]
    fn variables_say_what_is_known() {
        for (text, expected) in [
            ("%{REQUEST_URI}", "/a b"),
            ("%{QUERY_STRING}", "q=1"),
            ("%{request_method}", "GET"),
            ("%{THE_REQUEST}", "GET /a%20b?q=1 HTTP/1.1"),
            ("%{SERVER_PROTOCOL}", "HTTP/1.1"),
            ("%{REQUEST_SCHEME}", "http"),
            ("%{HTTPS}", "off"),
            ("%{REMOTE_ADDR}", "192.0.2.1"),
            ("%{REMOTE_PORT}", "5000"),
            ("%{CONN_REMOTE_ADDR}", "192.0.2.9"),
            ("%{IPV6}", "off"),
            ("%{SERVER_ADDR}", "192.0.2.2"),
            ("%{SERVER_PORT}", "8443"),
            ("%{SERVER_NAME}", "a"),
            ("%{SERVER_SOFTWARE}", "proxy-wstunnel"),
            ("%{IS_SUBREQ}", "false"),
            ("%{TIME}", "20000229000005"),
            (
                "%{TIME_YEAR}-%{TIME_MON}-%{TIME_DAY}_%{TIME_HOUR}:%{TIME_MIN}:%{TIME_SEC}_%{TIME_WDAY}",
                "2000-02-29_00:00:05_2",
            ),
            ("%{HTTP_HOST}", "a:8080"),
            ("%{HTTP_USER_AGENT}", "it"),
            ("%{HTTP:x-own}", "1"),
            ("%{HTTP:Absent}", ""),
            ("%{ENV:W}", "set"),
            ("%{ENV:Absent}", ""),
            ("$1%1", "a"),
            ("$0:%%{HTTPS}", "/a b:%off"),
        ] {
            let rules = read_spaced(text);
            let fields = "User-Agent: it\r\nX-Own: 1\r\n";
            let (_, v) = ask_with(&rules, "/a%20b?q=1", fields);
            assert_eq!(v, expected, "{text}");
        }
    }

    /// A rule that puts `text` into the environment.
    fn read_spaced(text: &str) -> Rules {
        let set = format!("[E=V:{text}]");
        let words = ["^/(a) b$", "-", set.as_str()];
        let mut first = rules("rule . - [E=W:set]");
        let rule = Rule::parse(words, Vec::new(), "test:1".to_owned(), &mut review()).unwrap();
        first.rules.push(Arc::new(rule));
        first
    }

    #[test]
    fn the_environment_is_set_and_unset() {
        for (lines, v) in [
            ("rule ^/(.) - [E=V:x$1]", "xa"),
            ("rule ^/(.) - [E=V]", ""),
            ("rule . - [E=V:1]\nrule . - [E=!V]", ""),
            ("rule . - [E=V:1,E=V:%{ENV:V}2]", "12"),
            ("rule . - [F,E=V:1]", "1"),
            // Before the path and the query change.
            ("rule ^/(a) /b?c [E=V:%{QUERY_STRING}]", "q"),
            ("rule ^/x - [E=V:1]", ""),
        ] {
            assert_eq!(ask_with(&rules(lines), "/a?q", "").1, v, "{lines}");
        }
        let mut doubling = "rule . - [E=V:0123456789abcdef]\n".to_owned();
        doubling.push_str(&"rule . - [E=V:%{ENV:V}%{ENV:V}]\n".repeat(12));
        assert_eq!(ask(&rules(&doubling), "/a"), "500");
    }

    #[test]
    fn redirections_are_absolute_and_hold_no_byte_that_ends_a_line() {
        for (lines, target, expected) in [
            ("rule ^/a /b [R]", "/a?q", "302 http://a:8080/b?q"),
            ("rule ^/a b [R=permanent]", "/a", "301 http://a:8080/b"),
            (
                "rule ^/a /b?x [R=303,QSA]",
                "/a?q",
                "303 http://a:8080/b?x&q",
            ),
            (
                "rule ^/(.*) https://x/$1 [R=308]",
                "/a%0d%0a",
                "308 https://x/a%0D%0A",
            ),
            (
                "rule ^/(.*) https://x/$1 [R,NE]",
                "/a%0d%0a%20%c3",
                "302 https://x/a%0D%0A%20%C3",
            ),
            (
                "rule ^/(.*) https://x/?$1 [R,NE]",
                "/a%0d%0a",
                "302 https://x/?a%0D%0A",
            ),
            (
                "rule ^/(.*) https://x/$1 [R]",
                "/a%3fb%23",
                "302 https://x/a%3Fb%23",
            ),
            (
                "rule ^/(.*) https://x/$1#f [R,NE]",
                "/a%3fb",
                "302 https://x/a%3Fb#f",
            ),
            (
                "rule ^/(.*) https://x/?$1#f [R,NE]",
                "/a",
                "302 https://x/?a#f",
            ),
            (
                "rule ^/(.*) https://x/?$1 [R,B]",
                "/a%26",
                "302 https://x/?a%26",
            ),
            ("rule ^/(.*) https://x/$1", "/a", "302 https://x/a"),
            (
                "rule . https://%{HTTP_HOST}%{REQUEST_URI} [R=307,L]",
                "/a?q",
                "307 https://a:8080/a?q",
            ),
            (
                "rule . %{REQUEST_SCHEME}://%{SERVER_NAME}/x [R]",
                "/a",
                "302 http://a/x",
            ),
            (
                "rule ^(.*) https://www.x$1 [R]",
                "/a",
                "302 https://www.x/a",
            ),
            (
                "cond %{HTTP_HOST} ^(.).\nrule ^(.*) https://www.%1$1 [R]",
                "/a",
                "302 https://www.a/a",
            ),
            ("rule ^/a(.*) https://x$1 [R]", "/a.evil", "403"),
            ("rule ^/(.*) https://$1/ [R]", "/evil", "403"),
            ("rule . https://%{HTTP:X}/ [R]", "/a", "403"),
            (
                "rule ^/(.*) %{HTTP:X}://b/$1 [R]",
                "/a",
                "302 http://a:8080/://b/a",
            ),
        ] {
            assert_eq!(ask(&rules(lines), target), expected, "{lines} {target}");
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        for (line, part) in [
            ("rule (?!a) ws://b/ [P]", "look-ahead"),
            ("rule ^/ /x [P]", "is not a URL"),
            ("rule ^/ - [P]", "leads nowhere"),
            ("rule ^/ - [R]", "leads nowhere"),
            ("rule ^/ h2c://b/$1 [P]", "write http:// or https://"),
            (
                "rule ^/ ws://%{HTTP_HOST}/ [P]",
                "nothing of a request may become",
            ),
            ("rule ^/ ws://b:%1/ [P]", "nothing of a request may become"),
            (
                "rule ^/(.*) ws://app-$1/ [P]",
                "nothing of a request may become",
            ),
            (
                "rule ^/(.*) ws://app$1.internal/ [P]",
                "nothing of a request may become",
            ),
            (
                "rule ^/(.*) ws://app%{ENV:x}/ [P]",
                "nothing of a request may become",
            ),
            ("rule ^/(.*) $1 [P]", "in its own text"),
            ("rule ^/ %{ENV:backend}/ [P]", "in its own text"),
            ("rule ^/ ws://b/../$1 [P]", "\"..\""),
            (
                "rule ^/(.*) unix:/run/$1|ws://b/ [P]",
                "no URL stands behind the socket",
            ),
            (
                "rule ^/(.*) unix:/run/a|ws://$1/ [P]",
                "nothing of a request may become",
            ),
            ("rule ^/ ws://b/$1/%zz [P]", "hexadecimal"),
            ("rule ^/ gopher://b/ [R]", "redirections to gopher://"),
            ("rule ^/ /${map:$1} [PT]", "RewriteMap"),
            ("rule ^/ /%{LA-U:REMOTE_USER} [PT]", "looking ahead"),
            ("rule ^/ /%{SSL:SSL_X} [PT]", "behind SSL:"),
            ("rule ^/ /%{REQUEST_FILENAME} [PT]", "no files"),
            ("rule ^/ /%{REMOTE_USER} [PT]", "asks nobody"),
            ("rule ^/ /%{HTTP_HOTS} [PT]", "unknown variable"),
            ("rule ^/ /%{HTTP:a(b} [PT]", "name of a header field"),
            ("rule ^/ /%{ENV:} [PT]", "name behind ENV"),
            ("rule ^/ /%{HTTPS [PT]", "without \"}\""),
            ("rule ^/ - [P,R]", "only one of"),
            ("rule ^/ - [F", "no list of flags"),
            ("rule ^/ - [F,X]", "unknown flag \"X\""),
            ("rule ^/ - [T=text/html]", "serves no files"),
            ("rule ^/ - [H=x]", "serves no files"),
            ("rule ^/ - [CO=a:b:c]", "no cookies"),
            ("rule ^/ - [R=200]", "R=200"),
            ("rule ^/ - [R=304]", "R=304"),
            ("rule ^/ - [S=x]", "S=x"),
            ("rule ^/ - [N=0]", "from 1 to 256"),
            ("rule ^/ - [N=257]", "from 1 to 256"),
            ("rule ^/ - [E=]", "a name and a value"),
            ("rule ^/ - [E=$1:x]", "a name and a value"),
            ("rule ^/ - [BNP]", "write [B,BNP]"),
            ("rule ^/ - [BNE=/]", "write [B,BNE"),
            ("cond expr true", "not supported"),
            ("cond %{REQUEST_URI} -f", "looks for a file"),
            ("cond %{REQUEST_URI} !-d", "looks for a file"),
            ("cond %{HTTP:A} -eq", "\"-eq 5\""),
            ("cond %{HTTP:A} a [L]", "unknown flag \"L\""),
            ("cond %{HTTP:A} (", "unclosed group"),
        ] {
            let (_, review) = read(line);
            let found = review.problems.iter().any(|problem| problem.contains(part));
            assert!(found, "{line}: {:?}", review.problems);
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_doubted() {
        for (line, part) in [
            ("rule ^ws ws://b/ [P]", "write \"^/?ws\""),
            ("rule ^/ws/(.*) ws://b/ws [P]", "put \"$1\" into it"),
            ("rule ^/a\\?b ws://b/ [P]", "has no query"),
            ("rule ^/a ws://b/?x [P]", "add QSA"),
            ("rule ^/a ws://b/%{REQUEST_URI} [P]", "begins with \"/\""),
            ("rule ^/a ws://b/ [R]", "add the flag P"),
            ("rule ^/a /b%20c [PT]", "is written \"\\%20\""),
            ("cond %{HTTP:A} -eq1 [NC]", "no effect on numbers"),
        ] {
            let (_, review) = read(line);
            assert!(review.problems.is_empty(), "{line}: {:?}", review.problems);
            let [doubt] = review.doubts.as_slice() else {
                panic!("{line}: {:?}", review.doubts);
            };
            assert!(doubt.contains(part), "{line}: {doubt}");
        }
        for line in [
            "rule ^/?(.*) ws://b:9/$1 [P,L]",
            "rule ^/ws/(.*) ws://b%{REQUEST_URI} [P]",
            "rule ^/a ws://b/?x [P,QSA]",
            "rule ^/a ws://b/?%{QUERY_STRING}&x [P]",
            "rule !^ws - [F]",
            "cond %{HTTP:A} (.)\nrule ^/a /%1 [PT]",
        ] {
            assert_eq!(read(line).1.doubts, Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn no_line_makes_it_panic() {
        let mut noise = Noise::new(0x5eed_0007);
        let likely = b"%{}$[],=!:\\|?#/ -()eR1\"";
        for _ in 0..20_000 {
            let samples: [&[u8]; 4] = [
                b"rule ^/(a) ws://b:9$1/%{ENV:x}?$0 [P,NE,QSA,B=/]",
                b"rule !^/ %{REQUEST_SCHEME}://%{HTTP_HOST}/x%{REQUEST_URI} [R=301,E=a:$1,S=2]",
                b"rule ^/ unix:/run/a|ws://b$1 [P]",
                b"cond %{HTTP:A}$1%1 !-ge5 [NC,OR]",
            ];
            let line = noise.pick(&samples).to_vec();
            let line = noise.mangle(&line, likely);
            let line = String::from_utf8_lossy(&line);
            let (rules, _) = read(&line);
            if line.bytes().all(|byte| byte != b'\n') && !rules.rules.is_empty() {
                ask(&rules, "/a%20b/c?d");
            }
        }
    }

    #[test]
    fn no_request_makes_it_panic_or_leaves_its_place() {
        let rules = [
            rules("rule ^/a(.*) ws://b/x/$1?$1 [P]\nrule ^(.*)$ ws://b:9$1 [P]"),
            rules("rule ^/a(.*) /$1 [PT]\nrule ^/(.)(.*) ws://b/$2/$1/%{THE_REQUEST} [P,NE]"),
            rules("rule ^/(.*)a(.*) https://x/$1$2?$1 [R,NE]\nrule ^(.*)b(.*) /$1$2 [N]"),
        ];
        let mut noise = Noise::new(0x5eed_0006);
        for _ in 0..5_000 {
            let bytes = noise.mangle(b"a/%2e%2e/b%20c/.a./%41?%0d", b"%/.2eabF0?&# ");
            let target: String = bytes
                .iter()
                .filter(|byte| byte.is_ascii_graphic() && **byte != b'#')
                .map(|byte| char::from(*byte))
                .collect();
            let target = format!("/{target}");
            let path = target.split('?').next().unwrap();
            if crate::route::url::canonical_path(path, Default::default()).is_err() {
                continue;
            }
            for rules in &rules {
                let said = ask(rules, &target);
                assert!(said.is_ascii(), "{said}");
                let path = said.split([' ', '?']).nth(1).unwrap_or_default();
                let climbs = path.split('/').any(|part| part == "..");
                assert!(!climbs || said.starts_with("302"), "{target}: {said}");
                assert!(!said.starts_with("302") || !said.contains(['\r', '\n']));
            }
        }
    }
}
