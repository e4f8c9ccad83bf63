//! The directives of logs. httpd: core, mod_log_config.

use super::Origin;
use super::draft::{FormatDraft, LogDraft, Scope};
use super::syntax;
use crate::access_log::format::{Escape, LogFormat};
use crate::logging::{self, Events, Facility, Target, Topic};
use crate::route::environment::Condition;
use std::sync::Arc;

pub(super) fn error_log(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.error_log.target = target(scope, text)?;
    Ok(())
}

/// Where the lines of a log go.
fn target(scope: &Scope<'_>, text: &str) -> Result<Target, String> {
    if text.starts_with('|') {
        return Err(
            "piped logs are not supported: a program that reads too slowly, or ends, would take the log with it; write to a \
             file, to /dev/stderr, or to syslog:local7"
                .to_owned(),
        );
    }
    let mut parts = text.split(':');
    let is_syslog = parts
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case("syslog"));
    if is_syslog {
        let facility = Facility::parse(parts.next())?;
        // httpd: later versions have a tag in this place.
        let socket = match (parts.next(), parts.next()) {
            (None, _) => logging::SYSLOG,
            (Some(socket), None) if socket.starts_with('/') => socket,
            _ => {
                return Err(format!(
                    "\"{text}\": a tag is not supported, lines have \"proxy-wstunnel\" for one; expected \
                     syslog:facility, perhaps with \":\" and the path of a socket that begins with \"/\""
                ));
            }
        };
        return Ok(Target::Syslog {
            facility,
            socket: socket.into(),
        });
    }
    Ok(match text {
        // Opening these names would fail where they are sockets, as under systemd.
        "/dev/stderr" => Target::Stderr,
        "/dev/stdout" => Target::Stdout,
        _ => Target::File(scope.path(text)?),
    })
}

/// httpd: server/core.c `set_loglevel`.
pub(super) fn log_level(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for word in words {
        let Some((name, level)) = word.rsplit_once(':') else {
            scope.host.error_log.levels.set_all(logging::level(word)?);
            continue;
        };
        let level = logging::level(level).map_err(|problem| format!("\"{word}\": {problem}"))?;
        match Topic::named(name) {
            Some(topic) => scope.host.error_log.levels.set(topic, level),
            None => no_topic(scope, name)?,
        }
    }
    Ok(())
}

/// A module that writes nothing here at any level is no error: who has it writes for a httpd that says more.
fn no_topic(scope: &mut Scope<'_>, name: &str) -> Result<(), String> {
    if logging::module(name) == "rewrite" {
        scope.warn("rewriting writes no log; --explain tells what each rule does with a request");
        return Ok(());
    }
    if syntax::has_module(name) || syntax::has_module(&format!("{name}_module")) {
        scope.note(format!("nothing is logged here of \"{name}\""));
        return Ok(());
    }
    let ours = Topic::ALL.map(Topic::name).join(", ");
    Err(format!(
        "there is no module \"{name}\"; expected one of {ours}, or one of httpd that does the same, such as proxy, \
         proxy_wstunnel or ssl"
    ))
}

pub(super) fn log_format(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (words, escape) = match words {
        [words @ .., last] if last.starts_with("escape=") => (words, escape(last)?),
        _ => (words, Escape::Text),
    };
    let parse = |format: &str| match escape {
        Escape::Text => LogFormat::parse(format),
        Escape::Json => LogFormat::parse_json(format),
    };
    match words {
        [format, nickname] => {
            if nickname.is_empty() || nickname.contains('%') {
                return Err(format!(
                    "\"{nickname}\" is no nickname; expected a word without \"%\""
                ));
            }
            let format = Arc::new(parse(format)?);
            scope.host.formats.push(((*nickname).to_owned(), format));
        }
        [format] => scope.host.transfer_format = Some(Arc::new(parse(format)?)),
        _ => {
            return Err(
                "expected a format, perhaps a nickname, and perhaps escape=json behind it; a format of several words stands \
                 in quotes"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn escape(word: &str) -> Result<Escape, String> {
    match word {
        "escape=default" => Ok(Escape::Text),
        "escape=json" => Ok(Escape::Json),
        _ => Err(format!(
            "expected escape=default or escape=json, found \"{word}\""
        )),
    }
}

pub(super) fn custom_log(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [path, format, rest @ ..] = words else {
        return Err(
            "expected a path and a format or nickname; TransferLog takes a path alone".to_owned(),
        );
    };
    let (mut condition, mut events) = (None, None);
    for word in rest {
        let is_twice = match word.strip_prefix("event=") {
            Some(named) => events.replace(Events::parse(named)?).is_some(),
            None => condition.replace(log_condition(word)?).is_some(),
        };
        if is_twice {
            return Err(format!("\"{word}\": expected no more than one of its kind"));
        }
    }
    // A nickname cannot hold a "%", and a format without one would write the same line for ever.
    let format = if format.contains('%') {
        FormatDraft::Ready(Arc::new(LogFormat::parse(format)?))
    } else {
        FormatDraft::Nickname((*format).to_owned())
    };
    access_log(scope, path, format, condition, events.unwrap_or_default())
}

pub(super) fn transfer_log(scope: &mut Scope<'_>, path: &str) -> Result<(), String> {
    access_log(scope, path, FormatDraft::Transfer, None, Events::End)
}

/// What stands behind a format.
fn log_condition(word: &str) -> Result<Condition, String> {
    if let Some(condition) = Condition::parse(word) {
        return condition;
    }
    let start = word.split_at_checked("expr=".len());
    Err(
        match start.is_some_and(|(start, _)| start.eq_ignore_ascii_case("expr=")) {
            true => format!(
                "\"{word}\": expressions are not supported; set a variable with SetEnvIf, and write env=NAME"
            ),
            false => format!(
                "expected env=NAME, env=!NAME or event=open behind the format, found \"{word}\"; a format of several words stands in \
                 quotes"
            ),
        },
    )
}

fn access_log(
    scope: &mut Scope<'_>,
    path: &str,
    format: FormatDraft,
    condition: Option<Condition>,
    events: Events,
) -> Result<(), String> {
    let target = match target(scope, path)? {
        // A file of that name is what httpd writes.
        Target::Syslog { .. } if !path.contains(':') => Target::File(scope.path(path)?),
        target => target,
    };
    let log = LogDraft {
        directive: scope.directive,
        target,
        format,
        condition,
        events,
        origin: Origin::clone(scope.at),
    };
    scope.host.logs.push(log);
    Ok(())
}
