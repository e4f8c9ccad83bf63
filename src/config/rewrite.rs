//! `RewriteEngine`, `RewriteCond`, `RewriteRule` and `RewriteOptions`: their words, what belongs together, and what a host
//! has from the main server. Source: httpd mod_rewrite.c `parseargline`, `config_server_merge`.

use super::balancers::Known;
use super::draft::Scope;
use super::findings::{Findings, Origin};
use super::names;
use super::proxy_pass::check_tls;
use crate::route::backend::Parameters;
use crate::route::destination::{Destination, ProxyUrl};
use crate::route::rewrite::{Condition, Review, Rule, Rules};
use std::sync::Arc;

/// The rules of a host so far.
#[derive(Debug, Clone, Default)]
pub(super) struct RewriteDraft {
    engine: Option<bool>,
    options: Option<Options>,
    /// Those that wait for their rule.
    conditions: Vec<(Condition, Origin)>,
    rules: Vec<RuleDraft>,
}

/// A rule, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct RuleDraft {
    rule: Rule,
    pub(super) at: Origin,
}

impl RuleDraft {
    /// Where a `[P]` rule leads.
    pub(super) fn url(&self) -> Option<ProxyUrl> {
        self.rule.destination().map(Destination::url)
    }
}

/// How rules are inherited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Options {
    /// What this host takes from the main server.
    takes: Option<Place>,
    /// What virtual hosts have from here, unless they say `IgnoreInherit`.
    gives: Option<Place>,
    ignores: bool,
}

/// Where inherited rules stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Behind,
}

/// `RewriteEngine On|Off`
pub(super) fn rewrite_engine(scope: &mut Scope<'_>, on: bool) -> Result<(), String> {
    scope.host.rewrite.engine = Some(on);
    Ok(())
}

/// `RewriteCond test pattern [flags]`
pub(super) fn rewrite_cond(scope: &mut Scope<'_>, arguments: &str) -> Result<(), String> {
    let expected = "a test string and a pattern, such as %{HTTP:Upgrade} websocket [NC]";
    let [subject, test, flags] = line(scope, arguments, expected)?;
    let mut review = review(scope);
    let condition = Condition::parse(subject, test, flags, &mut review);
    report(scope, review);
    if let Some(condition) = condition {
        let at = scope.at.clone();
        scope.host.rewrite.conditions.push((condition, at));
    }
    Ok(())
}

/// `RewriteRule pattern substitution [flags]`
pub(super) fn rewrite_rule(scope: &mut Scope<'_>, arguments: &str) -> Result<(), String> {
    let expected = "a pattern and a substitution, such as ^/?(.*) \"ws://localhost:9000/$1\" [P,L]";
    let words = line(scope, arguments, expected)?;
    let conditions = std::mem::take(&mut scope.host.rewrite.conditions);
    let conditions = conditions.into_iter().map(|(condition, _)| condition);
    let mut review = review(scope);
    let origin = scope.at.to_string();
    let rule = Rule::parse(words, conditions.collect(), origin, &mut review);
    report(scope, review);
    if let Some(rule) = rule {
        if let Some(Destination::Backend(backend)) = rule.destination() {
            check_tls(&backend.url)?;
        }
        let at = scope.at.clone();
        scope.host.rewrite.rules.push(RuleDraft { rule, at });
    }
    Ok(())
}

/// `RewriteOptions option ...`
pub(super) fn rewrite_options(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let mut options = scope.host.rewrite.options.unwrap_or_default();
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "inherit" => options.takes = Some(Place::Behind),
            "inheritbefore" => options.takes = Some(Place::Before),
            "inheritdown" => options.gives = Some(Place::Behind),
            "inheritdownbefore" => options.gives = Some(Place::Before),
            "ignoreinherit" => options.ignores = true,
            "allownoslash" | "mergebase" | "ignorecontextinfo" | "legacyprefixdocroot" => {
                scope.error(format!(
                    "{word} is about rules of directories and files, and there are none; remove it"
                ));
            }
            "allowanyuri" => scope.error(format!(
                "{word} is not supported: what does not begin with \"/\" is no path; remove it"
            )),
            _ => scope.error(format!(
                "unknown option \"{word}\"; expected Inherit, InheritBefore, InheritDown, InheritDownBefore or IgnoreInherit"
            )),
        }
    }
    scope.host.rewrite.options = Some(options);
    Ok(())
}

fn review<'a>(scope: &Scope<'a>) -> Review<'a> {
    Review {
        server_root: scope.server_root,
        near: |wrong, names| names::near_miss(wrong, names.iter().copied()),
        problems: Vec::new(),
        doubts: Vec::new(),
    }
}

fn report(scope: &mut Scope<'_>, review: Review<'_>) {
    for problem in review.problems {
        scope.error(problem);
    }
    for doubt in review.doubts {
        scope.warn(doubt);
    }
}

/// The three words of a line; the third may be empty.
fn line<'t>(
    scope: &mut Scope<'_>,
    arguments: &'t str,
    expected: &str,
) -> Result<[&'t str; 3], String> {
    let mut rest = arguments;
    let first = word(&mut rest)?;
    let second = word(&mut rest)?;
    let third = word(&mut rest)?;
    let (Some(first), Some(second)) = (first, second) else {
        return Err(format!("expected {expected}; found \"{arguments}\""));
    };
    let rest = rest.trim();
    // A list of flags that a blank has cut is an error already.
    if !rest.is_empty() && third.is_some_and(|flags| flags.ends_with(']')) {
        scope.warn(format!(
            "\"{rest}\" behind the flags is ignored, as in httpd"
        ));
    }
    Ok([first, second, third.unwrap_or_default()])
}

/// Takes a word off the front of `rest`: up to white space, or in quotes. A backslash and what is behind it belong
/// together and both stay, so `\ ` is a blank in a pattern; within quotes there is no way to write the quote itself.
fn word<'t>(rest: &mut &'t str) -> Result<Option<&'t str>, String> {
    let text = rest.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = text
        .get(quote.map_or(0, char::len_utf8)..)
        .unwrap_or_default();
    let mut characters = inner.char_indices().peekable();
    let mut end = None;
    while let Some((place, c)) = characters.next() {
        let ends = match quote {
            Some(quote) => c == quote,
            None => c.is_ascii_whitespace(),
        };
        if ends {
            end = Some(place);
            break;
        }
        if c == '\\' {
            characters.next_if(|(_, next)| next.is_ascii_whitespace());
        }
    }
    if quote.is_some() && end.is_none() {
        return Err(format!("the quote in \"{text}\" has no end"));
    }
    let end = end.unwrap_or(inner.len());
    let (word, behind) = inner.split_at_checked(end).unwrap_or((inner, ""));
    *rest = match quote {
        Some(quote) => behind.strip_prefix(quote).unwrap_or(behind),
        None => behind,
    };
    Ok((quote.is_some() || !word.is_empty()).then_some(word))
}

impl RewriteDraft {
    /// Whether any directive of rewriting stands in this host. A virtual host without one has no rules, whatever the main
    /// server has.
    fn is_touched(&self) -> bool {
        self.engine.is_some()
            || self.options.is_some()
            || !self.rules.is_empty()
            || !self.conditions.is_empty()
    }

    /// The rules that run in this host, in their order.
    pub(super) fn resolve(&self, main: Option<&Self>) -> Vec<RuleDraft> {
        if !self.is_touched() || !self.is_on(main) {
            return Vec::new();
        }
        let Some(main) = main else {
            return self.rules.clone();
        };
        let options = self.options.or(main.options).unwrap_or_default();
        let given = main.options.and_then(|main| main.gives);
        let place = match (options.takes, given) {
            (Some(place), _) => Some(place),
            (None, Some(place)) if !options.ignores => Some(place),
            _ => None,
        };
        match place {
            None => self.rules.clone(),
            Some(Place::Behind) => [&*self.rules, &*main.rules].concat(),
            Some(Place::Before) => [&*main.rules, &*self.rules].concat(),
        }
    }

    fn is_on(&self, main: Option<&Self>) -> bool {
        let inherited = main.and_then(|main| main.engine);
        self.engine.or(inherited).unwrap_or(false)
    }

    /// What is legal in these lines and probably not meant.
    pub(super) fn check(&self, main: Option<&Self>, findings: &mut Findings) {
        if let Some((_, at)) = self.conditions.last() {
            let text = "no RewriteRule follows that it could belong to, so it has no effect";
            findings.warning(at, "RewriteCond", text);
        }
        if let Some(first) = self.rules.first()
            && !self.is_on(main)
        {
            let text = "RewriteEngine is Off, so no rule is looked at; write \"RewriteEngine On\" before it";
            findings.warning(&first.at, "RewriteRule", text);
            return;
        }
        for (index, RuleDraft { rule, at }) in self.rules.iter().enumerate() {
            let behind = self.rules.get(index + 1..).unwrap_or_default();
            let goes_on = !rule.is_last() && behind.iter().any(|later| later.rule.decides());
            if rule.leads_to_a_file() && !goes_on {
                let text = "without [PT] the new path would be a file, and is answered with 404; add the flag PT to go on \
                            to ProxyPass, or P and a ws:// URL";
                findings.warning(at, "RewriteRule", text);
            }
        }
    }
}

/// Rules with what is said elsewhere about where they lead.
pub(super) fn finish(rules: Vec<RuleDraft>, known: Known<'_>) -> Rules {
    let finished = rules.into_iter().map(|RuleDraft { mut rule, .. }| {
        if let Some(url) = rule.destination().map(Destination::url) {
            rule.set_destination(known.destination(&url, &Parameters::default()));
        }
        Arc::new(rule)
    });
    Rules {
        rules: finished.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut rest = text;
        let mut words = Vec::new();
        while let Some(word) = word(&mut rest).unwrap() {
            words.push(word);
        }
        words
    }

    #[test]
    fn rules_have_words_of_their_own() {
        for (text, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            (r#""a b" 'c "d"' e"#, &["a b", r#"c "d""#, "e"]),
            // A backslash keeps a blank in its word, and stays.
            (r"a\ b c", &[r"a\ b", "c"]),
            (r#""a\ b" c"#, &[r"a\ b", "c"]),
            (r"a\\ b", &[r"a\\ b"]),
            // There is no way to write the quote itself.
            (r#""a\" b"#, &[r"a\", "b"]),
            (r#"a"b c"d"#, &["a\"b", "c\"d"]),
            (r#""a"b"#, &["a", "b"]),
            (r#""" x"#, &["", "x"]),
            ("  ", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        assert!(word(&mut "\"a b").unwrap_err().contains("no end"));
    }
}
