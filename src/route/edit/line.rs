//! One line of `Header` or `RequestHeader`: its words, and what they mean (httpd mod_headers.c `header_inout_cmd`).

use super::value::Value;
use super::{Action, HeaderEdit, List, Target, protected, starts_with};
use crate::http::authority::Authority;
use crate::route::environment::Condition;
use crate::route::pattern::{Case, Pattern};

impl HeaderEdit {
    /// Parses the words behind `Header` or `RequestHeader`:
    /// `[always|onsuccess] action field [value [replacement]] [env=[!]NAME] [early]`.
    ///
    /// # Errors
    /// A sentence that says what was found, and what was expected or what to do instead.
    pub fn parse(target: Target, words: &[&str]) -> Result<Self, String> {
        const FORM: &str = "expected an action, a field and, except for unset, a value";
        let text = words.join(" ");
        let (list, words) = match (target, words) {
            (Target::Request, words) => (List::Request, words),
            (Target::Answer, [first, rest @ ..]) if first.eq_ignore_ascii_case("always") => {
                (List::Always, rest)
            }
            (Target::Answer, [first, rest @ ..]) if first.eq_ignore_ascii_case("onsuccess") => {
                (List::Answer, rest)
            }
            (Target::Answer, words) => (List::Answer, words),
        };
        let [verb, name, rest @ ..] = words else {
            return Err(FORM.to_owned());
        };
        let verb = Verb::parse(verb, target)?;
        // httpd takes "Name:" as well, and whatever is behind the colon.
        let name = name.strip_suffix(':').unwrap_or(name);
        protected::check(list, name)?;
        let (action, rest) = verb.with_operands(rest)?;
        let (is_early, rest) = match (target, rest) {
            (Target::Request, [rest @ .., last]) if last.eq_ignore_ascii_case("early") => {
                (true, rest)
            }
            _ => (false, rest),
        };
        let edit = Self {
            text,
            is_early,
            list,
            name: name.to_owned(),
            action,
            condition: parse_condition(rest)?,
        };
        edit.check()?;
        Ok(edit)
    }

    /// What the action may not do to the field, whatever the request.
    fn check(&self) -> Result<(), String> {
        let adds = !matches!(self.action, Action::Unset | Action::Edit { .. });
        let is_offer = ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"]
            .iter()
            .any(|offer| offer.eq_ignore_ascii_case(&self.name));
        if is_offer && adds {
            return Err(format!(
                "the client would get what it has not offered, and end the connection; {} can be edited and unset",
                self.name
            ));
        }
        if !self.is_of_host() {
            return Ok(());
        }
        match &self.action {
            Action::Append(_) | Action::Merge(_) | Action::Add(_) => {
                Err("a request has one Host with one value; write \"set\"".to_owned())
            }
            Action::Set(value) | Action::SetIfEmpty(value) => match value.constant() {
                Some(host) => match Authority::parse(host.as_bytes()) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{host:?}: {error}; expected host or host:port")),
                },
                None => Ok(()),
            },
            Action::Unset | Action::Edit { .. } => Ok(()),
        }
    }
}

/// An action without its operands.
#[derive(Clone, Copy)]
enum Verb {
    Set,
    SetIfEmpty,
    Append,
    Merge,
    Add,
    Unset,
    Edit { each: bool },
}

impl Verb {
    fn parse(word: &str, target: Target) -> Result<Self, String> {
        const EXPECTED: &str = "expected set, setifempty, append, merge, add, unset, edit or edit*";
        Ok(match word.to_ascii_lowercase().as_str() {
            "set" => Self::Set,
            "setifempty" => Self::SetIfEmpty,
            "append" => Self::Append,
            "merge" => Self::Merge,
            "add" => Self::Add,
            "unset" => Self::Unset,
            "edit" => Self::Edit { each: false },
            "edit*" => Self::Edit { each: true },
            "note" => {
                return Err(
                    "note is not supported, since nothing here reads notes; the log format %{NAME}o shows a \
                     field of the answer"
                        .to_owned(),
                );
            }
            "echo" => {
                return Err(
                    "echo is not supported: it would show clients what other proxies have added; to pass \
                     one field on, write RewriteRule with [E=NAME:%{HTTP:Field}] and Header set with %{NAME}e"
                        .to_owned(),
                );
            }
            "always" | "onsuccess" if target == Target::Request => {
                return Err(format!(
                    "{word:?} belongs to Header; a request has no condition before the action"
                ));
            }
            _ => return Err(format!("unknown action {word:?}; {EXPECTED}")),
        })
    }

    /// Takes the operands from the front of `words`; what is behind them.
    fn with_operands<'a>(self, words: &'a [&'a str]) -> Result<(Action, &'a [&'a str]), String> {
        let value = |words: &'a [&'a str]| match words {
            [] => Err("the value is missing".to_owned()),
            [value, rest @ ..] => Ok((Value::parse(value)?, rest)),
        };
        Ok(match self {
            Self::Unset => (Action::Unset, words),
            Self::Edit { each } => {
                let [pattern, replacement, rest @ ..] = words else {
                    return Err("edit needs a pattern and what to put in its place".to_owned());
                };
                let action = Action::Edit {
                    pattern: Pattern::parse(pattern, Case::Sensitive)?,
                    replacement: Value::parse_replacement(replacement)?,
                    each,
                };
                (action, rest)
            }
            Self::Set => value(words).map(|(value, rest)| (Action::Set(value), rest))?,
            Self::SetIfEmpty => {
                value(words).map(|(value, rest)| (Action::SetIfEmpty(value), rest))?
            }
            Self::Append => value(words).map(|(value, rest)| (Action::Append(value), rest))?,
            Self::Merge => value(words).map(|(value, rest)| (Action::Merge(value), rest))?,
            Self::Add => value(words).map(|(value, rest)| (Action::Add(value), rest))?,
        })
    }
}

fn parse_condition(words: &[&str]) -> Result<Option<Condition>, String> {
    let [word, rest @ ..] = words else {
        return Ok(None);
    };
    if word.eq_ignore_ascii_case("early") {
        return Err(
            "\"early\" is not supported for answers: there is none yet; remove it".to_owned(),
        );
    }
    if starts_with(word, "expr=") {
        return Err(format!(
            "{word:?}: expressions are not supported; set a variable with SetEnvIf, and write env=NAME"
        ));
    }
    let Some(condition) = Condition::parse(word) else {
        return Err(format!(
            "{word:?} behind the value is not known; expected env=NAME or env=!NAME, or quotes around a value of several \
             words"
        ));
    };
    let condition = condition?;
    if let [further, ..] = rest {
        return Err(format!("{further:?} behind {word:?} is one word too many"));
    }
    Ok(Some(condition))
}

#[cfg(test)]
pub(super) mod tests {
    use super::Target::{Answer, Request};
    use super::*;

    /// Parses a line. Enough of a splitter: quotes hold words together.
    pub(in super::super) fn parse(target: Target, line: &str) -> Result<HeaderEdit, String> {
        let mut words = Vec::new();
        for (place, part) in line.split('"').enumerate() {
            match place % 2 {
                0 => words.extend(part.split(' ').filter(|word| !word.is_empty())),
                _ => words.push(part),
            }
        }
        HeaderEdit::parse(target, &words)
    }

    /// Each line is refused with a sentence in which this stands.
    fn refused(lines: &[(Target, &str, &str)]) {
        for (target, line, problem) in lines {
            let found = parse(*target, line).unwrap_err();
            assert!(found.contains(problem), "{line}: {found}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_says_what_was_expected() {
        refused(&[
            (Request, "", "expected an action, a field and"),
            (Request, "set", "expected an action, a field and"),
            (Answer, "always", "expected an action, a field and"),
            (Request, "set A", "the value is missing"),
            (Request, "put A b", "unknown action \"put\"; expected set, "),
            (Request, "always set A b", "belongs to Header"),
            (Answer, "note A b", "note is not supported"),
            (Answer, "echo ^A", "echo is not supported"),
            (
                Answer,
                "set \"A b\" c",
                "\"A b\" is not the name of a header field",
            ),
            (
                Answer,
                "set A:b c",
                "\"A:b\" is not the name of a header field",
            ),
            (Answer, "set : c", "\"\" is not the name of a header field"),
            (
                Answer,
                "set A b c",
                "\"c\" behind the value is not known; expected env=NAME",
            ),
            (Answer, "unset A b", "\"b\" behind the value is not known"),
            (Answer, "set A b env=", "\"env=\" has no name"),
            (Answer, "set A b env=!", "\"env=!\" has no name"),
            (
                Answer,
                "set A b env=C d",
                "\"d\" behind \"env=C\" is one word too many",
            ),
            (Answer, "set A b early", "\"early\" is not supported"),
            (Answer, "set A b expr=true", "expressions are not supported"),
            (Answer, "edit A b", "a pattern and what to put in its place"),
            (Answer, "edit A (b c", "\"(b\": "),
        ]);
    }

    #[test]
    fn a_value_that_cannot_be_made_is_refused() {
        refused(&[
            (Answer, "set A %q", "unknown directive %q; expected %%, "),
            (Answer, "set A %{q", "\"%{q\" has no \"}\""),
            (Answer, "set A %{q}", "\"%{q}\" has no letter at its end"),
            (Answer, "set A %e", "%e has no name; write %{NAME}e"),
            (Answer, "set A %{}s", "%s has no name; write %{NAME}s"),
            (Answer, "set A %{HTTP_HOST}s", "or SSL_*"),
            (Answer, "set A %l", "the load of a machine"),
            (
                Answer,
                r"set A a\nb",
                "holds a line end or another control character",
            ),
            (
                Answer,
                r"set A a\r",
                "holds a line end or another control character",
            ),
            (
                Answer,
                "set A a\u{7f}",
                "holds a line end or another control character",
            ),
            (
                Answer,
                "edit A b \u{1}",
                "holds a line end or another control character",
            ),
            (
                Answer,
                "set A expr=a\nb",
                "holds a line end or another control character",
            ),
            (
                Answer,
                "set A expr=%{HTTP_HOST}",
                "\"HTTP_HOST\" is not a variable that can be written here; expected one of HTTPS, ",
            ),
            (Answer, "set A expr=%{HTTPS", "has a \"%{\" without \"}\""),
            (
                Answer,
                "set A expr=%{reqenv:}",
                "\"reqenv:\" is not a variable",
            ),
            (
                Answer,
                "set A expr=$1",
                "backslashes and groups are not supported",
            ),
            (
                Answer,
                r"set A expr=a\nb",
                "backslashes and groups are not supported",
            ),
            (Answer, "edit A b expr=%{X}", "is not a variable"),
        ]);
    }

    #[test]
    fn a_field_that_must_not_change_is_refused_with_the_reason() {
        refused(&[
            (
                Request,
                "set Host a/b",
                "\"a/b\": the host holds a character",
            ),
            (Request, "append Host b", "a request has one Host"),
            (Request, "add host b", "a request has one Host"),
            (
                Request,
                "set Content-Length 5",
                "Content-Length cannot be changed: it says where",
            ),
            (
                Answer,
                "unset transfer-encoding",
                "cannot be changed: it says where",
            ),
            (
                Answer,
                "always set Connection close",
                "cannot be changed: both sides",
            ),
            (
                Request,
                "set Upgrade websocket",
                "cannot be changed: both sides",
            ),
            (
                Request,
                "unset Sec-WebSocket-Key",
                "cannot be changed: the handshake",
            ),
            (
                Answer,
                "set Sec-WebSocket-Accept x",
                "cannot be changed: the handshake",
            ),
            (
                Answer,
                "unset Sec-WebSocket-Extensions",
                "write RequestHeader unset",
            ),
            (Answer, "set Host a", "it belongs to requests"),
            (Answer, "set Keep-Alive 5", "it holds for one connection"),
            (Request, "unset te", "it holds for one connection"),
            (Answer, "always set Content-Type text/html", "plain text"),
            (Request, "unset Expect", "never passed on"),
            (
                Request,
                "add sec-websocket-protocol x",
                "can be edited and unset",
            ),
        ]);
        assert!(parse(Answer, "set Content-Type text/html").is_ok());
    }
}
