//! What a request has come to, held to what a table says, or to what came of the same request elsewhere.

use super::table::{Case, Field};
use std::collections::{BTreeMap, BTreeSet};

/// What a request has come to.
#[derive(Debug)]
pub struct Outcome {
    /// The head of the client's answer.
    pub answer: String,
    /// What backends have seen.
    pub seen: Vec<Seen>,
}

/// A request as a backend has seen it.
#[derive(Debug)]
pub struct Seen {
    /// Which backend.
    pub origin: &'static str,
    /// Whether it was spoken to in TLS.
    pub in_tls: bool,
    pub head: String,
    /// Its content, without chunks.
    pub content: Vec<u8>,
}

impl Outcome {
    pub fn status(&self) -> &str {
        self.answer.split(' ').nth(1).unwrap_or_default()
    }

    /// `ONE /target` for a tunnel to a backend (`ONE in TLS /target`), `404` for an answer without one, and
    /// `ONE /target and 200` where a backend has answered something else than 101.
    fn brief(&self) -> String {
        let line = |seen: &Seen| {
            let Seen { origin, head, .. } = seen;
            let tls = if seen.in_tls { " in TLS" } else { "" };
            let line = head.split("\r\n").next().unwrap_or_default();
            let target = line.strip_prefix("GET ");
            let target = target.and_then(|line| line.strip_suffix(" HTTP/1.1"));
            format!("{origin}{tls} {}", target.unwrap_or(line))
        };
        let mut parts: Vec<String> = self.seen.iter().map(line).collect();
        if self.status() != "101" || parts.is_empty() {
            parts.push(self.status().to_owned());
        }
        parts.join(" and ")
    }

    /// The content that the backend has seen.
    fn content(&self) -> &[u8] {
        self.seen.first().map_or(&[], |seen| &seen.content)
    }

    /// The fields that the backend has seen.
    fn fields(&self) -> Vec<(String, String)> {
        let head = self.seen.first().map_or("", |seen| seen.head.as_str());
        fields(head)
    }

    /// Holds this to what the table says.
    pub fn compare(&self, case: &Case) -> Result<(), String> {
        let brief = self.brief();
        if brief != case.expected {
            return Err(format!("expected {}, found {brief}", case.expected));
        }
        let content = self.content();
        if case.content.as_deref().is_some_and(|it| it != content) {
            let content = content.escape_ascii();
            return Err(format!("the backend saw the content \"{content}\""));
        }
        let found = self.fields();
        check(&case.seen, &found).map_err(|problem| format!("the backend saw {problem}"))?;
        check(&case.answered, &fields(&self.answer))
            .map_err(|problem| format!("the client saw {problem}"))?;
        if case.exactly {
            let expected: Vec<(String, String)> = case
                .seen
                .iter()
                .filter_map(|field| match field {
                    Field::Is(name, value) => Some((name.clone(), value.clone())),
                    Field::Missing(_) => None,
                })
                .collect();
            if expected != found {
                return Err(format!("the backend saw {found:#?}"));
            }
        }
        Ok(())
    }

    /// What is otherwise here than in `ours`: another outcome; content or fields that the backend saw otherwise, or fields in
    /// another order; and of the fields that the case names in an answer of the same status, what the client saw otherwise.
    pub fn differences(&self, ours: &Self, case: &Case) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let brief = self.brief();
        if brief != ours.brief() {
            found.insert(brief);
        }
        if !self.seen.is_empty() && !ours.seen.is_empty() {
            if self.content() != ours.content() {
                found.insert(format!("+ {}", self.content().escape_ascii()));
            }
            let (theirs, ours) = (self.fields(), ours.fields());
            found.extend(differing(&theirs, &ours, |_| true));
            let order = |fields: &[(String, String)]| {
                let mut names = Vec::new();
                for (name, _) in fields {
                    let name = name.to_ascii_lowercase();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            };
            let (theirs, mut ours) = (order(&theirs), order(&ours));
            ours.retain(|name| theirs.contains(name));
            let mut common = theirs.clone();
            common.retain(|name| ours.contains(name));
            if common != ours {
                found.insert(format!("order: {}", theirs.join(", ")));
            }
        }
        if self.status() != ours.status() {
            return found;
        }
        let named = |name: &str| {
            case.answered.iter().any(|field| match field {
                Field::Is(own, _) | Field::Missing(own) => own.eq_ignore_ascii_case(name),
            })
        };
        let answered = differing(&fields(&self.answer), &fields(&ours.answer), named);
        found.extend(answered.iter().map(|difference| format!("<- {difference}")));
        found
    }
}

/// The fields of a head in their order.
pub fn fields(head: &str) -> Vec<(String, String)> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Holds fields to what is said about some of them.
fn check(expected: &[Field], found: &[(String, String)]) -> Result<(), String> {
    for field in expected {
        let (Field::Is(name, _) | Field::Missing(name)) = field;
        let mut values = found
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value);
        let is_right = match field {
            Field::Is(_, value) => values.any(|found| found == value),
            Field::Missing(_) => values.next().is_none(),
        };
        if !is_right {
            return Err(format!("{found:#?}, against {field:?}"));
        }
    }
    Ok(())
}

/// What `theirs` has otherwise than `ours`, of the names that count: all values of a field, or `no NAME`.
fn differing(
    theirs: &[(String, String)],
    ours: &[(String, String)],
    counts: impl Fn(&str) -> bool,
) -> Vec<String> {
    let by_name = |fields: &[(String, String)]| {
        let mut map: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
        for (name, value) in fields.iter().filter(|(name, _)| counts(name)) {
            let entry = map.entry(name.to_ascii_lowercase());
            let entry = entry.or_insert_with(|| (name.clone(), Vec::new()));
            entry.1.push(value.clone());
        }
        map
    };
    let (mut theirs, ours) = (by_name(theirs), by_name(ours));
    let mut lines = Vec::new();
    for (key, (name, values)) in ours {
        match theirs.remove(&key) {
            None => lines.push(format!("no {name}")),
            Some((_, others)) if others != values => {
                lines.push(format!("{name}: {}", others.join(" and ")));
            }
            Some(_) => {}
        }
    }
    let rest = theirs.into_values();
    lines.extend(rest.map(|(name, values)| format!("{name}: {}", values.join(" and "))));
    lines
}
