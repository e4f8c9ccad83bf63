//! How the members of balancers are checked: `hc...=` parameters, `ProxyHCTemplate`, `ProxyHCTPsize`. Source: httpd
//! mod_proxy_hcheck.c `set_worker_hc_param`, `set_hc_template`.

use super::draft::Scope;
use super::findings::Origin;
use super::names;
use super::value::{self, Unit::Seconds};
use crate::balancer::health::{Check, LEAST_INTERVAL, Method, Uri};
use std::time::Duration;

/// The parameters of health checks.
pub(super) const KEYS: [&str; 6] = [
    "hcfails",
    "hcinterval",
    "hcmethod",
    "hcpasses",
    "hctemplate",
    "hcuri",
];

/// The most checks in a row that a change of mind may take.
const MOST: u32 = 10_000;

/// What the lines so far say about the checks of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckDraft {
    method: Option<Method>,
    /// All but the method.
    rest: Check,
    /// The last parameter.
    said: Option<&'static str>,
}

impl Default for CheckDraft {
    fn default() -> Self {
        Self {
            method: None,
            rest: Check::by(Method::Tcp),
            said: None,
        }
    }
}

impl CheckDraft {
    /// Takes one `key=value`, if it is of health checks; `key` is in lower case. The last of a key counts, and a template
    /// says everything anew.
    ///
    /// # Errors
    /// A wrong value, or a template that there is not.
    pub(super) fn take(
        &mut self,
        key: &str,
        value: &str,
        templates: &Templates,
    ) -> Option<Result<(), String>> {
        let key = KEYS.into_iter().find(|known| *known == key)?;
        let many = |text| value::integer(text, 1..=MOST);
        let done = match key {
            "hcmethod" => Method::parse(value).map(|method| self.method = method),
            "hcinterval" => interval(value).map(|interval| self.rest.interval = interval),
            "hcpasses" => many(value).map(|passes| self.rest.passes = passes),
            "hcfails" => many(value).map(|fails| self.rest.fails = fails),
            "hcuri" => Uri::parse(value).map(|uri| self.rest.uri = Some(uri)),
            _ => templates
                .find(value)
                .map(|template| *self = template.clone()),
        };
        self.said = Some(key);
        Some(done)
    }

    /// The check, if there is to be one.
    pub(super) fn check(&self) -> Option<Check> {
        let method = self.method?;
        let rest = self.rest.clone();
        Some(Check { method, ..rest })
    }

    /// What has no effect.
    pub(super) fn note(&self) -> Option<String> {
        match (self.method, self.said) {
            (None, Some(key)) if key != "hcmethod" => Some(format!(
                "\"{key}\" has no effect: without hcmethod= no health is checked"
            )),
            (Some(method), _) if !method.asks() && self.rest.uri.is_some() => {
                let method = method.name();
                Some(format!(
                    "\"hcuri\" has no effect: hcmethod={method} asks for nothing"
                ))
            }
            _ => None,
        }
    }

    /// What is legal and probably not meant.
    pub(super) fn doubt(&self) -> Option<String> {
        value::doubtful_limit("hcinterval", self.rest.interval)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = value::duration(text, Seconds)?;
    if interval < LEAST_INTERVAL {
        let least = LEAST_INTERVAL.as_millis();
        return Err(format!(
            "\"{text}\" is too short; expected {least}ms or more"
        ));
    }
    Ok(interval)
}

/// `ProxyHCTemplate`
#[derive(Debug, Clone)]
struct Template {
    name: String,
    says: CheckDraft,
    at: Origin,
}

/// The templates of a host: those of the main server, then its own.
// httpd: a virtual host does not see those of the main server.
#[derive(Debug, Clone, Default)]
pub(super) struct Templates {
    all: Vec<Template>,
    inherited: usize,
}

impl Templates {
    /// Those of a virtual host before its own lines.
    pub(super) fn inherited(&self) -> Self {
        Self {
            all: self.all.clone(),
            inherited: self.all.len(),
        }
    }

    fn find(&self, name: &str) -> Result<&CheckDraft, String> {
        let is_it = |template: &&Template| template.name.eq_ignore_ascii_case(name);
        if let Some(found) = self.all.iter().rev().find(is_it) {
            return Ok(&found.says);
        }
        let known = self.all.iter().map(|template| template.name.as_str());
        Err(match names::near_miss(name, known) {
            Some(near) => {
                format!("no ProxyHCTemplate is called \"{name}\"; did you mean \"{near}\"?")
            }
            None => format!(
                "no ProxyHCTemplate is called \"{name}\"; write ProxyHCTemplate {name} hcmethod=... above this line"
            ),
        })
    }
}

/// `ProxyHCTemplate name key=value ...`. Reports every problem of the line.
pub(super) fn template(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (name, words) = match words {
        [name, words @ ..] if !name.is_empty() && !name.contains('=') => (*name, words),
        _ => {
            return Err(
                "expected a name and parameters, such as ProxyHCTemplate often hcmethod=WS hcinterval=5s"
                    .to_owned(),
            );
        }
    };
    let templates = &scope.host.templates;
    let own = templates.all.get(templates.inherited..).unwrap_or_default();
    // httpd: the first of a name counts.
    if let Some(other) = own.iter().find(|own| own.name.eq_ignore_ascii_case(name)) {
        return Err(format!(
            "there is a template \"{}\" already, at {}; remove one",
            other.name, other.at
        ));
    }
    let mut says = CheckDraft::default();
    for word in words {
        let taken = match value::key_value(word) {
            None => Err(format!(
                "expected parameters in the form key=value, found \"{word}\""
            )),
            Some((key, value)) => {
                let lower = key.to_ascii_lowercase();
                let taken = says.take(&lower, value, &scope.host.templates);
                let taken =
                    taken.map(|taken| taken.map_err(|problem| format!("{lower}: {problem}")));
                taken.unwrap_or_else(|| Err(unknown(key)))
            }
        };
        if let Err(problem) = taken {
            scope.error(problem);
        }
    }
    let (name, at) = (name.to_owned(), scope.at.clone());
    scope.host.templates.all.push(Template { name, says, at });
    Ok(())
}

fn unknown(key: &str) -> String {
    if key.eq_ignore_ascii_case("hcexpr") {
        return format!("parameter \"{key}\": {EXPRESSIONS}");
    }
    match names::near_miss(key, KEYS) {
        Some(near) => format!("unknown parameter \"{key}\"; did you mean \"{near}\"?"),
        None => format!("unknown parameter \"{key}\"; expected {}", KEYS.join(", ")),
    }
}

/// Why `hcexpr=` is refused.
pub(super) const EXPRESSIONS: &str = "expressions are not supported: an answer of 200 to 399 passes; let hcuri= name a place whose status says how the \
     member is, and remove it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::health::Verb;

    fn templates() -> Templates {
        let mut says = CheckDraft::default();
        for (key, value) in [("hcmethod", "GET"), ("hcfails", "3"), ("hcuri", "/up")] {
            says.take(key, value, &Templates::default())
                .unwrap()
                .unwrap();
        }
        let at = Origin {
            file: "test".into(),
            line: 1,
        };
        let name = "often".to_owned();
        Templates {
            all: vec![Template { name, says, at }],
            inherited: 0,
        }
    }

    fn taken(words: &str) -> Result<CheckDraft, String> {
        let mut draft = CheckDraft::default();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap();
            draft.take(key, value, &templates()).unwrap()?;
        }
        Ok(draft)
    }

    #[test]
    fn parameters_add_up_to_a_check() {
        let said = "hcmethod=ws hcinterval=500ms hcpasses=2 hcfails=4 hcuri=/x";
        let expected = Check {
            method: Method::Ws,
            interval: Duration::from_millis(500),
            passes: 2,
            fails: 4,
            uri: Some(Uri::parse("/x").unwrap()),
        };
        assert_eq!(taken(said).unwrap().check(), Some(expected));
        let usual = taken("hcmethod=TCP").unwrap().check();
        assert_eq!(usual, Some(Check::by(Method::Tcp)));
        for none in ["", "hcfails=2", "hcmethod=TCP hcmethod=NONE"] {
            assert_eq!(taken(none).unwrap().check(), None, "{none}");
        }
        let draft = &mut CheckDraft::default();
        assert_eq!(draft.take("loadfactor", "1", &templates()), None);
    }

    #[test]
    fn a_template_says_all_and_what_stands_behind_it_more() {
        let get = Method::Http {
            verb: Verb::Get,
            is_modern: false,
        };
        let check = |words| taken(words).unwrap().check().unwrap();
        let both = check("hcfails=9 hctemplate=Often hcpasses=7");
        assert_eq!((both.method, both.fails, both.passes), (get, 3, 7));
        let refusal = taken("hctemplate=oftn").unwrap_err();
        assert!(refusal.contains("did you mean \"often\"?"), "{refusal}");
        let refusal = taken("hctemplate=x").unwrap_err();
        assert!(refusal.contains("above this line"), "{refusal}");
    }

    #[test]
    fn wrong_values_are_refused() {
        for (word, expected) in [
            ("hcmethod=POST", "unknown method"),
            ("hcinterval=99ms", "too short; expected 100ms"),
            ("hcinterval=0", "too short"),
            ("hcinterval=5m", "ambiguous"),
            ("hcpasses=0", "expected 1 to 10000"),
            ("hcfails=-1", "expected 1 to 10000"),
            ("hcuri=/a#b", "fragment"),
        ] {
            let refusal = taken(word).unwrap_err();
            assert!(refusal.contains(expected), "{word}: {refusal}");
        }
    }

    #[test]
    fn what_has_no_effect_is_noted() {
        for (words, expected) in [
            ("", None),
            ("hcmethod=WS hcuri=/x", None),
            ("hcmethod=NONE", None),
            ("hcinterval=5", Some("without hcmethod=")),
            ("hcmethod=TCP hcuri=/x", Some("asks for nothing")),
            ("hctemplate=often hcmethod=TCP", Some("asks for nothing")),
        ] {
            let note = taken(words).unwrap().note();
            let found = expected.is_none_or(|text| note.as_ref().unwrap().contains(text));
            assert!(found && note.is_some() == expected.is_some(), "{note:?}");
        }
        let doubt = taken("hcmethod=WS hcinterval=30000").unwrap().doubt();
        assert!(doubt.unwrap().contains("hcinterval is 8 hours"));
    }
}
