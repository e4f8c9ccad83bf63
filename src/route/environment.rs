//! The environment of a request: what rules say about it to those that come later, such as `Header` and `Require env`.

use std::fmt;

/// The variables of one request, in the order in which they were first set. Names are found in any case, as in httpd's
/// `subprocess_env`.
///
/// Values may hold what the client sent. They are bytes, and whoever writes one somewhere looks at each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, Vec<u8>)>,
    room_used: usize,
}

/// How many bytes the names and values of one request may have together. Rules can double a value as often as there are
/// rules, so there has to be an end. A head has fewer bytes than this.
const ROOM: usize = 64 * 1024;

impl Environment {
    /// Gives a variable this value. Whether there was room for it: if not, the variable is no longer set, so that no rule
    /// takes an old value for the new one.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        let place = self.position(name);
        let old = place.and_then(|place| self.variables.get_mut(place));
        let used = match &old {
            Some((_, old)) => self.room_used.saturating_sub(old.len()),
            None => self.room_used.saturating_add(name.len()),
        };
        let used = used.saturating_add(value.len());
        if used > ROOM {
            self.unset(name);
            return false;
        }
        self.room_used = used;
        match old {
            Some((_, old)) => value.clone_into(old),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
        true
    }

    /// Takes a variable out.
    pub fn unset(&mut self, name: &str) {
        if let Some(place) = self.position(name) {
            let (name, value) = self.variables.remove(place);
            self.room_used = self.room_used.saturating_sub(name.len() + value.len());
        }
    }

    /// The value of a variable; `None` if it is not set.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let place = self.position(name)?;
        self.variables.get(place).map(|(_, value)| value.as_slice())
    }

    /// Whether a variable is set, be its value empty or not.
    pub fn is_set(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// A copy of those whose name is wanted.
    #[must_use]
    pub fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut copy = Self::default();
        for (name, value) in self.variables.iter().filter(|(name, _)| is_wanted(name)) {
            copy.set(name, value);
        }
        copy
    }

    fn position(&self, name: &str) -> Option<usize> {
        let is = |(own, _): &(String, Vec<u8>)| own.eq_ignore_ascii_case(name);
        self.variables.iter().position(is)
    }
}

/// `env=NAME` and `env=!NAME`: whether a variable is set, be its value empty or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    variable: String,
    is_set: bool,
}

impl Condition {
    /// Parses a word that begins with `env=`, in any case; `None` for any other.
    ///
    /// # Errors
    /// There is no name.
    pub fn parse(word: &str) -> Option<Result<Self, String>> {
        let (start, variable) = word.split_at_checked("env=".len())?;
        if !start.eq_ignore_ascii_case("env=") {
            return None;
        }
        let (variable, is_set) = match variable.strip_prefix('!') {
            Some(variable) => (variable, false),
            None => (variable, true),
        };
        if variable.is_empty() {
            return Some(Err(format!(
                "{word:?} has no name; expected env=NAME or env=!NAME"
            )));
        }
        Some(Ok(Self {
            variable: variable.to_owned(),
            is_set,
        }))
    }

    /// Whether it holds for a request with these variables.
    pub fn holds(&self, environment: &Environment) -> bool {
        environment.is_set(&self.variable) == self.is_set
    }

    /// The name of the variable.
    pub fn variable(&self) -> &str {
        &self.variable
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_set { "" } else { "!" };
        write!(f, "env={mark}{}", self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_in_any_case_and_has_one_value() {
        let mut environment = Environment::default();
        assert_eq!(environment.get("A"), None);
        assert!(environment.set("A", b"1"));
        assert!(environment.set("b", b""));
        assert!(environment.set("a", b"\xe4\r\n"));
        assert_eq!(environment.get("A"), Some(&b"\xe4\r\n"[..]));
        assert_eq!(environment.get("B"), Some(&b""[..]));
        assert!(environment.is_set("b"));
        environment.unset("B");
        environment.unset("B");
        assert!(!environment.is_set("b"));
        assert_eq!(environment.get("a"), Some(&b"\xe4\r\n"[..]));
    }

    #[test]
    fn a_condition_is_about_being_set() {
        let mut environment = Environment::default();
        environment.set("a", b"");
        for (word, holds) in [
            ("env=A", true),
            ("ENV=!a", false),
            ("env=b", false),
            ("env=!b", true),
        ] {
            let condition = Condition::parse(word).unwrap().unwrap();
            assert_eq!(condition.holds(&environment), holds, "{word}");
            assert_eq!(condition.to_string()[4..], word[4..]);
        }
        assert!(Condition::parse("env=!").unwrap().is_err());
        for other in ["env", "en\u{e9}=a", "expr=a"] {
            assert_eq!(Condition::parse(other), None);
        }
        environment.set("B", b"2");
        let only = environment.only(|name| name == "B");
        assert_eq!((only.get("b"), only.is_set("a")), (Some(&b"2"[..]), false));
    }

    #[test]
    fn there_is_an_end_to_what_rules_can_add_up() {
        let mut environment = Environment::default();
        assert!(environment.set("A", b"x"));
        let mut doubled = 0;
        loop {
            let value = environment.get("A").unwrap();
            let value = [value, value].concat();
            if !environment.set("A", &value) {
                break;
            }
            doubled += 1;
        }
        assert_eq!(doubled, 15);
        assert!(!environment.is_set("A"), "an old value looks like the new");
        // Its room is free again.
        assert!(environment.set("A", &[b'x'; ROOM - 1]));
        assert!(!environment.set("B", b""));
        assert!(environment.is_set("A"));
        environment.unset("A");
        assert!(environment.set("B", b""));
        let empty = Environment::default();
        environment.unset("B");
        assert_eq!(environment, empty);
    }
}
