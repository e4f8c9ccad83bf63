//! The lines of `Require`, its sections, `Order`, `Allow` and `Deny`: what they may say, and where.

use super::{Access, Compat, Kind, Order, Rule, Section, Test, Whom, known_as};
use crate::http::network::Network;
use crate::route::environment::Condition;
use std::sync::Arc;

/// Takes the lines of one place. A line with an error leaves everything else as it is, so that the next lines can be
/// checked too.
#[derive(Debug)]
pub struct Builder {
    /// The list outside of sections.
    top: Open,
    /// The sections that are open, innermost last.
    open: Vec<Open>,
    compat: Option<Compat>,
}

#[derive(Debug)]
struct Open {
    section: Section,
    /// Whether a line in it had an error, so that nothing is said about what it holds.
    is_broken: bool,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            top: Open::new(Kind::Any),
            open: Vec::new(),
            compat: None,
        }
    }

    /// `Require [not] provider words...`
    ///
    /// # Errors
    /// A sentence that says what was found, and what was expected or what to do instead.
    pub fn require(&mut self, words: &[&str]) -> Result<(), String> {
        let parsed = Rule::parse(words);
        let list = self.list();
        let rule = parsed.inspect_err(|_| list.is_broken = true)?;
        if rule.is_negated && list.section.kind != Kind::All {
            list.is_broken = true;
            return Err(format!(
                "\"not\" can deny but never permit, so it has no effect in {}; write it in <RequireAll>, beside a Require \
                 that permits, such as \"Require all granted\"",
                list.name()
            ));
        }
        list.section.rules.push(rule);
        Ok(())
    }

    /// `<RequireAll>`, `<RequireAny>` or `<RequireNone>` begins. It is open whether or not there is an error.
    ///
    /// # Errors
    /// A `<RequireNone>` that could have no effect.
    pub fn open(&mut self, kind: Kind) -> Result<(), String> {
        let list = self.list();
        let outcome = match (kind, list.section.kind) {
            (Kind::None, Kind::Any | Kind::None) => Err(format!(
                "it can deny but never permit, so it has no effect in {}; write it in <RequireAll>, beside a Require that \
                 permits, such as \"Require all granted\"",
                list.name()
            )),
            _ => Ok(()),
        };
        list.is_broken |= outcome.is_err();
        self.open.push(Open::new(kind));
        outcome
    }

    /// The section that was opened last ends.
    ///
    /// # Errors
    /// It is empty, or has nothing that could permit.
    pub fn close(&mut self) -> Result<(), String> {
        debug_assert!(!self.open.is_empty(), "a section that was never opened");
        let Some(closed) = self.open.pop() else {
            return Ok(());
        };
        let outcome = closed.check();
        let list = self.list();
        list.is_broken |= closed.is_broken || outcome.is_err();
        list.section.rules.push(Rule {
            is_negated: false,
            test: Test::Section(closed.section),
        });
        outcome
    }

    /// `Order`
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn order(&mut self, words: &[&str]) -> Result<(), String> {
        const FORM: &str = "expected deny,allow or allow,deny, in one word";
        let [word] = words else {
            return Err(FORM.to_owned());
        };
        let order = match word.to_ascii_lowercase().as_str() {
            "deny,allow" => Order::DenyAllow,
            "allow,deny" | "mutual-failure" => Order::AllowDeny,
            _ => return Err(format!("unknown order {word:?}; {FORM}")),
        };
        self.compat().order = order;
        Ok(())
    }

    /// `Allow from ...`
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn allow(&mut self, words: &[&str]) -> Result<(), String> {
        let list = parse_from(words)?;
        self.compat().allow.extend(list);
        Ok(())
    }

    /// `Deny from ...`
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn deny(&mut self, words: &[&str]) -> Result<(), String> {
        let list = parse_from(words)?;
        self.compat().deny.extend(list);
        Ok(())
    }

    /// `Satisfy`
    ///
    /// # Errors
    /// Anything but `all`, which is what is always done.
    pub fn satisfy(&self, words: &[&str]) -> Result<(), String> {
        match words {
            [word] if word.eq_ignore_ascii_case("all") => Ok(()),
            [word] if word.eq_ignore_ascii_case("any") => Err(
                "any is not supported: Order, Allow and Deny have to permit, and Require too; write all of it with Require \
                 in <RequireAny>"
                    .to_owned(),
            ),
            _ => Err(format!("expected all, found \"{}\"", words.join(" "))),
        }
    }

    /// The rules of all lines.
    pub fn finish(self) -> Access {
        debug_assert!(self.open.is_empty(), "a section that was never closed");
        let require = Some(self.top.section).filter(|section| !section.rules.is_empty());
        Access {
            require: require.map(Arc::new),
            compat: self.compat.map(Arc::new),
        }
    }

    fn list(&mut self) -> &mut Open {
        self.open.last_mut().unwrap_or(&mut self.top)
    }

    fn compat(&mut self) -> &mut Compat {
        self.compat.get_or_insert_default()
    }
}

impl Open {
    fn new(kind: Kind) -> Self {
        let rules = Vec::new();
        Self {
            section: Section { kind, rules },
            is_broken: false,
        }
    }

    fn name(&self) -> &'static str {
        match self.section.kind {
            Kind::All => "<RequireAll>",
            Kind::Any => "<RequireAny>, which every list outside of a section is too",
            Kind::None => "<RequireNone>",
        }
    }

    fn check(&self) -> Result<(), String> {
        let rules = &self.section.rules;
        if self.is_broken {
            return Ok(());
        }
        if rules.is_empty() {
            return Err("there is no Require in it".to_owned());
        }
        if self.section.kind == Kind::All && rules.iter().all(Rule::is_negative) {
            return Err(
                "what is in it can deny but never permit, so nobody could connect; add \"Require all granted\""
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Rule {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let (is_negated, words) = match words {
            [first, rest @ ..] if first.eq_ignore_ascii_case("not") => (true, rest),
            words => (false, words),
        };
        let test = match words {
            [] => return Err(EXPECTED.to_owned()),
            [provider, operands @ ..] => Test::parse(provider, operands)?,
        };
        Ok(Self { is_negated, test })
    }
}

const EXPECTED: &str = "expected all granted, all denied, ip, local, method or env";

impl Test {
    fn parse(provider: &str, operands: &[&str]) -> Result<Self, String> {
        let some = |what: &str| match operands {
            [] => Err(format!("{provider} needs {what}")),
            _ => Ok(operands),
        };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match provider {
            "all" => match operands {
                [word] if word.eq_ignore_ascii_case("granted") => Ok(Self::All(true)),
                [word] if word.eq_ignore_ascii_case("denied") => Ok(Self::All(false)),
                words => Err(format!(
                    "expected all granted or all denied, found \"{}\"",
                    [&["all"], words].concat().join(" ")
                )),
            },
            "ip" => {
                let networks = some("addresses or networks")?.iter();
                let networks = networks.map(|word| Network::parse(word));
                networks.collect::<Result<_, _>>().map(Self::Ip)
            }
            "host" if matches!(operands, [word] if word.eq_ignore_ascii_case("localhost")) => {
                let networks = ["127.0.0.0/8", "::1"].map(Network::parse);
                networks.into_iter().collect::<Result<_, _>>().map(Self::Ip)
            }
            "local" => match operands {
                [] => Ok(Self::Local),
                [word, ..] => Err(format!("{word:?} behind local is one word too many")),
            },
            "method" => {
                let methods = some("names of methods")?;
                if let Some(unknown) = methods.iter().find(|method| !METHODS.contains(method)) {
                    return Err(format!(
                        "{unknown:?} is not a method of HTTP; expected names in capitals, such as GET"
                    ));
                }
                let methods = methods.iter().map(|method| known_as(method).to_owned());
                Ok(Self::Method(methods.collect()))
            }
            "env" => Ok(Self::Env(owned(some("names of variables")?))),
            other => Err(unsupported(other)),
        }
    }
}

/// Those that httpd knows.
const METHODS: [&str; 27] = [
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "VERSION-CONTROL",
    "CHECKOUT",
    "UNCHECKOUT",
    "CHECKIN",
    "UPDATE",
    "LABEL",
    "REPORT",
    "MKWORKSPACE",
    "MKACTIVITY",
    "BASELINE-CONTROL",
    "MERGE",
];

/// What to do about a provider that is not there.
fn unsupported(provider: &str) -> String {
    let known = ["all", "ip", "local", "method", "env"];
    if known.iter().any(|own| own.eq_ignore_ascii_case(provider)) {
        return format!("{provider:?} is written in lower case");
    }
    let what = match provider {
        "host" | "forward-dns" => {
            "names are not looked up; write \"ip\" with addresses or networks"
        }
        "expr" => {
            "expressions are not supported; set a variable with SetEnvIf, and write \"env NAME\""
        }
        "user" | "valid-user" | "group" | "file-owner" | "file-group" => {
            "this program asks nobody for a name; let the backend do that"
        }
        _ if ["ldap-", "dbd-", "dbm-", "ssl", "unix-", "shib"]
            .iter()
            .any(|start| provider.starts_with(start)) =>
        {
            "this program asks nobody for a name; let the backend do that"
        }
        _ => return format!("unknown provider {provider:?}; {EXPECTED}"),
    };
    format!("{provider:?} is not supported: {what}")
}

fn parse_from(words: &[&str]) -> Result<Vec<Whom>, String> {
    match words {
        [from, rest @ ..] if from.eq_ignore_ascii_case("from") && !rest.is_empty() => {
            rest.iter().map(|word| Whom::parse(word)).collect()
        }
        _ => Err(
            "expected \"from\", and behind it \"all\", addresses, networks or env=NAME".to_owned(),
        ),
    }
}

impl Whom {
    fn parse(word: &str) -> Result<Self, String> {
        if word.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        // The one name whose addresses are the same everywhere.
        if word.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Loopback);
        }
        if let Some(condition) = Condition::parse(word) {
            return condition.map(Self::Variable);
        }
        let network = Network::parse(word).map_err(|problem| match looks_like_a_name(word) {
            true => format!(
                "\"{word}\" is a host name, which is not looked up; expected \"all\", an address, a network or env=NAME"
            ),
            false => problem,
        })?;
        Ok(Self::Network(network))
    }
}

fn looks_like_a_name(word: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    word.contains(is_letter) && !word.contains([':', '/'])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn take(builder: &mut Builder, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, words) = words.split_first().unwrap();
        match *name {
            "Require" => builder.require(words),
            "Order" => builder.order(words),
            "Allow" => builder.allow(words),
            "Deny" => builder.deny(words),
            "Satisfy" => builder.satisfy(words),
            "<RequireAll>" => builder.open(Kind::All),
            "<RequireAny>" => builder.open(Kind::Any),
            "<RequireNone>" => builder.open(Kind::None),
            _ => builder.close(),
        }
    }

    /// The errors of these lines, in their order.
    fn problems(lines: &str) -> Vec<String> {
        let mut builder = Access::builder();
        let lines = lines.split("; ");
        lines
            .filter_map(|line| take(&mut builder, line).err())
            .collect()
    }

    #[test]
    fn what_is_refused_says_what_to_do() {
        for (line, problem) in [
            ("Require", "expected all granted, all denied, ip, local"),
            ("Require not", "expected all granted, all denied, ip, local"),
            (
                "Require all",
                "expected all granted or all denied, found \"all\"",
            ),
            (
                "Require all maybe",
                "expected all granted or all denied, found \"all maybe\"",
            ),
            ("Require ALL granted", "\"ALL\" is written in lower case"),
            ("Require ip", "ip needs addresses or networks"),
            (
                "Require ip example.org",
                "\"example.org\" is no address and no network",
            ),
            ("Require ip 10,11", "\"10,11\" is no address and no network"),
            ("Require local x", "\"x\" behind local is one word too many"),
            ("Require method", "method needs names of methods"),
            ("Require method get", "\"get\" is not a method of HTTP"),
            ("Require env", "env needs names of variables"),
            (
                "Require host example.org",
                "names are not looked up; write \"ip\"",
            ),
            ("Require forward-dns example.org", "names are not looked up"),
            ("Require user alice", "this program asks nobody for a name"),
            ("Require valid-user", "this program asks nobody for a name"),
            ("Require group staff", "this program asks nobody for a name"),
            ("Require ldap-user x", "this program asks nobody for a name"),
            ("Require expr true", "write \"env NAME\""),
            (
                "Require foo",
                "unknown provider \"foo\"; expected all granted",
            ),
            (
                "Require not ip 10",
                "no effect in <RequireAny>, which every list outside",
            ),
            (
                "<RequireNone>",
                "no effect in <RequireAny>, which every list outside",
            ),
            ("Order allow, deny", "in one word"),
            ("Order foo", "unknown order \"foo\"; expected deny,allow"),
            ("Allow from", "expected \"from\", and behind it"),
            ("Deny all", "expected \"from\", and behind it"),
            (
                "Allow from example.org",
                "\"example.org\" is a host name, which is not looked up",
            ),
            (
                "Allow from .example.org",
                "is a host name, which is not looked up",
            ),
            ("Deny from 10.0.0.0/33", "not a number of bits"),
            ("Deny from ::1/200", "not a number of bits"),
            ("Allow from env=", "\"env=\" has no name"),
            ("Allow from env=!", "\"env=!\" has no name"),
            ("Satisfy any", "in <RequireAny>"),
            ("Satisfy", "expected all, found \"\""),
        ] {
            let found = problems(line);
            let [found] = found.as_slice() else {
                panic!("{line}: {found:?}");
            };
            assert!(found.contains(problem), "{line}: {found}");
        }
    }

    #[test]
    fn sections_that_could_do_nothing_are_refused_once() {
        for (lines, expected) in [
            (
                "<RequireAny>; </RequireAny>",
                &["there is no Require in it"][..],
            ),
            (
                "<RequireAll>; </RequireAll>",
                &["there is no Require in it"],
            ),
            (
                "<RequireAll>; Require not ip 10; </RequireAll>",
                &["so nobody could connect"],
            ),
            (
                "<RequireAll>; <RequireNone>; Require ip 10; </RequireNone>; </RequireAll>",
                &["so nobody could connect"],
            ),
            (
                "<RequireAny>; Require not ip 10; </RequireAny>",
                &["no effect in <RequireAny>"],
            ),
            (
                "<RequireNone>; Require not ip 10; </RequireNone>",
                &["no effect in <RequireAny>", "no effect in <RequireNone>"],
            ),
            (
                "<RequireAll>; Require ip x; </RequireAll>",
                &["is no address"],
            ),
            (
                "<RequireAll>; <RequireAny>; Require ip x; </RequireAny>; Require ip y; </RequireAll>",
                &["is no address", "is no address"],
            ),
        ] {
            let found = problems(lines);
            assert_eq!(found.len(), expected.len(), "{lines}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{lines}: {found}");
            }
        }
    }
}
