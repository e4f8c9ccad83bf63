//! The directives of mod_env and mod_setenvif: `SetEnv`, `PassEnv`, `UnsetEnv`, `SetEnvIf`, `BrowserMatch` and those
//! without case.

use super::draft::Scope;
use super::names;
use crate::route::pattern::Case;
use crate::route::set_env::{ATTRIBUTES, Looks, SetEnvIf, Variable};
use crate::route::settings::Change;
use std::sync::Arc;

/// The lines of `SetEnvIf` and its kin of a host, outside of sections: those of the main server, then its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) lines: Vec<Arc<SetEnvIf>>,
    /// How many of them are those of the main server.
    inherited: usize,
}

impl Draft {
    /// What a virtual host begins with.
    pub(super) fn inherited(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            inherited: self.lines.len(),
        }
    }
}

/// `SetEnv name [value]`
pub(super) fn set_env(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (name, value) = match words {
        [name, value] => (*name, *value),
        _ => (words.first().copied().unwrap_or_default(), ""),
    };
    check_name(name)?;
    if let Some((name, value)) = name.split_once('=') {
        scope.warn(format!(
            "the \"=\" belongs to the name, as in httpd; write SetEnv {name} {value}"
        ));
    }
    set(scope, name, value.to_owned(), false);
    Ok(())
}

/// `PassEnv name ...`
pub(super) fn pass_env(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for name in words {
        check_name(name)?;
        match scope.files.variable(name) {
            Some(value) => set(scope, name, value, true),
            None => scope.warn(format!(
                "\"{name}\" is not in the environment, so nothing is set"
            )),
        }
    }
    Ok(())
}

/// `UnsetEnv name ...`
pub(super) fn unset_env(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for name in words {
        check_name(name)?;
        scope.change(Change::UnsetEnv((*name).into()));
    }
    Ok(())
}

/// Variables to which httpd gives a meaning that they do not have here.
const WITHOUT_MEANING: [&str; 12] = [
    "ap_trust_cgilike_cl",
    "force-gzip",
    "force-no-vary",
    "force-response-1.0",
    "gzip-only-text/html",
    "no-cache",
    "no-gzip",
    "proxy-chain-auth",
    "proxy-nohalfclose",
    "redirect-carefully",
    "ssl-unclean-shutdown",
    "suppress-error-charset",
];

fn note_meaning(scope: &mut Scope<'_>, name: &str) {
    if WITHOUT_MEANING
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
    {
        scope.note(format!(
            "\"{name}\" has no meaning of its own: it is a variable like any other"
        ));
    }
}

fn set(scope: &mut Scope<'_>, name: &str, value: String, is_passed: bool) {
    note_meaning(scope, name);
    let variable = Variable {
        name: name.to_owned(),
        value,
        is_passed,
    };
    scope.change(Change::SetEnv(Arc::new(variable)));
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("expected the name of a variable, found \"\"".to_owned());
    }
    Ok(())
}

/// `SetEnvIf`, `BrowserMatch` and those without case.
pub(super) fn set_env_if(
    scope: &mut Scope<'_>,
    words: &[&str],
    looks: Looks,
    case: Case,
) -> Result<(), String> {
    let line = SetEnvIf::parse(looks, case, words)?;
    if let Some(doubt) = line.doubt() {
        scope.warn(doubt);
    }
    for name in line.variables() {
        note_meaning(scope, name);
    }
    // Fields with "_" are rare, and attributes all have one.
    let near = line.other_name().filter(|name| name.contains('_'));
    if let Some((name, near)) =
        near.and_then(|name| Some((name, names::near_miss(name, ATTRIBUTES)?)))
    {
        scope.warn(format!(
            "\"{name}\" is looked for among header fields and variables; did you mean \"{near}\"?"
        ));
    }
    match &mut scope.section {
        Some(section) => {
            let mut before = section.changes.iter().rev();
            let previous = before.find_map(|change| match change {
                Change::SetEnvIf(line) => Some(line.as_ref()),
                _ => None,
            });
            let line = line.behind(previous);
            section.changes.push(Change::SetEnvIf(Arc::new(line)));
        }
        None => {
            let Draft { lines, inherited } = &mut scope.host.set_env_if;
            let own = lines.get(*inherited..).unwrap_or_default();
            let line = line.behind(own.last().map(Arc::as_ref));
            lines.push(Arc::new(line));
        }
    }
    Ok(())
}
