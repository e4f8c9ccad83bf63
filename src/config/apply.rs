//! What obeys the directives that need more than a line: each takes the words behind the name.

use super::draft::{FormatDraft, LogDraft, Scope};
use super::sections::ProxySection;
use super::value::{self, Unit::Seconds};
use super::{Listen, ListenProtocol, LogTarget, Origin, balancers, parameters, syntax, tls};
use crate::access_log::format::LogFormat;
use crate::route::backend::Parameters;
use crate::route::destination::ProxyUrl;
use crate::route::edit::{HeaderEdit, Target};
use crate::route::environment::Condition;
use crate::route::settings::{Change, Handler, Via};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// httpd: `Listen [address:]port [protocol]`. Port 0 is ours.
pub(super) fn listen(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (address, protocol) = match words {
        [address, protocol] => (*address, Some(*protocol)),
        _ => (words.first().copied().unwrap_or_default(), None),
    };
    let protocol = match protocol.map(str::to_ascii_lowercase).as_deref() {
        None => ListenProtocol::ByPort,
        Some("http") => ListenProtocol::Http,
        Some("https") => {
            tls::lines::needs_library().map_err(|problem| format!("https: {problem}"))?;
            ListenProtocol::Https
        }
        Some(other) => {
            return Err(format!(
                "unknown protocol \"{other}\"; expected http or https"
            ));
        }
    };
    let (address, port) = value::listen_address(address)?;
    let listen = Listen {
        address,
        port,
        protocol,
        origin: scope.at.clone(),
    };
    let same = |other: &&Listen| other.address == address && other.port == port && port != 0;
    if let Some(other) = scope.program.listen.iter().find(same) {
        return Err(format!(
            "{other} is listened on already, at {}",
            other.origin
        ));
    }
    // Without an address both families are bound, so the same port on either family's "any" address is taken.
    let any = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
    let clash = |other: &&Listen| {
        other.port == port
            && port != 0
            && (address.is_none() || other.address.is_none())
            && any(address)
            && any(other.address)
    };
    if let Some(other) = scope.program.listen.iter().find(clash) {
        return Err(format!(
            "{listen} and {other} (at {}) are the same port on every address; remove one",
            other.origin
        ));
    }
    scope.program.listen.push(listen);
    Ok(())
}

/// Beside the bound on a type this is a bound on memory: each worker has a stack and two buffers.
pub(super) fn max_request_workers(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.program.max_request_workers = value::integer(text, 1..=100_000)?;
    Ok(())
}

/// How long one step may take.
pub(super) fn step_limit(scope: &mut Scope<'_>, text: &str) -> Result<Duration, String> {
    let limit = value::positive_duration(text, Seconds)?;
    if let Some(doubt) = value::doubtful_limit("it", limit) {
        scope.warn(doubt);
    }
    Ok(limit)
}

/// `On` would hand requests without `Upgrade` to an http:// backend, which only exists in httpd.
pub(super) fn fallback_to_proxy_http(_: &mut Scope<'_>, on: bool) -> Result<(), String> {
    if on {
        return Err(
            "On is not supported: a ws:// entry is never served as http://; tell both apart by RewriteCond \
             %{HTTP:Upgrade} and RewriteRule [P], and remove this line"
                .to_owned(),
        );
    }
    Ok(())
}

/// httpd: a forward proxy goes where its clients say; this program goes where it is told.
pub(super) fn proxy_requests(_: &mut Scope<'_>, on: bool) -> Result<(), String> {
    if on {
        return Err(
            "On is not supported: this program is no forward proxy; remove the line".to_owned(),
        );
    }
    Ok(())
}

/// `ProxySet [url] key=value ...`: inside of `<Proxy>` without the URL. Reports every problem of the line.
pub(super) fn proxy_set(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let section = scope.section.as_ref();
    let inside = section.and_then(|section| section.url().cloned());
    let is_inside = inside.is_some();
    let (url, words) = match (inside, words) {
        (Some(_), [first, ..]) if first.contains("://") && !first.contains('=') => {
            return Err(format!(
                "\"{first}\": inside of <Proxy> the URL is that of the section; write the parameters alone"
            ));
        }
        (Some(url), words) => (url, words),
        (None, [url, words @ ..]) if !url.contains('=') && !words.is_empty() => {
            (ProxyUrl::configured(url, scope.server_root)?, words)
        }
        (None, _) => {
            return Err(
                "expected the URL of a backend and parameters, such as ProxySet \"ws://localhost:9000/\" timeout=5"
                    .to_owned(),
            );
        }
    };
    let url = match url {
        ProxyUrl::Balancer(url) => {
            balancers::set(scope, &url, words);
            return Ok(());
        }
        ProxyUrl::Backend(url) => url,
    };
    let mut parameters = Parameters::default();
    for word in words {
        match parameters::take(&mut parameters, word, url.scheme) {
            Ok(Some(note)) => scope.note(note),
            Ok(None) => {}
            Err(problem) => scope.error(problem),
        }
    }
    if let Some(problem) = parameters::contradiction(&parameters, &url, "") {
        scope.error(problem);
    }
    for text in parameters::doubts(&parameters, &url) {
        scope.warn(text);
    }
    match &mut scope.section {
        Some(section) if is_inside => {
            section.parameters = parameters.over(&section.parameters);
        }
        _ => {
            let section = ProxySection::of_backend(url, parameters, scope.at);
            scope.host.proxies.push(Arc::new(section));
        }
    }
    Ok(())
}

pub(super) fn set_handler(scope: &mut Scope<'_>, word: &str) -> Result<(), String> {
    scope.change(Change::Handler(Handler::parse(word)?));
    Ok(())
}

pub(super) fn require(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    scope.access()?.require(words)
}

pub(super) fn request_header(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let edit = HeaderEdit::parse(Target::Request, words)?;
    if let Some(section) = scope.section.as_ref().filter(|_| edit.is_early()) {
        return Err(format!(
            "\"early\" holds before it is known whether {} applies; remove it, or move the line out of the section",
            section.name
        ));
    }
    if edit.is_of_host() {
        scope.note("the backend sees this Host with ProxyPreserveHost On only; else X-Forwarded-Host has it");
    }
    scope.change(Change::RequestHeader(Arc::new(edit)));
    Ok(())
}

pub(super) fn header(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let edit = HeaderEdit::parse(Target::Answer, words)?;
    if edit.misses_the_backend() {
        scope.warn(
            "\"always\" sees only the fields that other lines with \"always\" have added; without it the fields of the \
             backend's answer are changed",
        );
    }
    scope.change(Change::Header(Arc::new(edit)));
    Ok(())
}

pub(super) fn proxy_via(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let via = match text.to_ascii_lowercase().as_str() {
        "on" => Via::On,
        "off" => Via::Off,
        "full" => Via::Full,
        "block" => Via::Block,
        _ => return Err(format!("expected On, Off, Full or Block, found \"{text}\"")),
    };
    scope.change(Change::Via(via));
    Ok(())
}

/// `wss://` implies it, so only `Off` has to be remembered: it may contradict an entry.
pub(super) fn error_log(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    if text.starts_with('|') {
        return Err("piped logs are not supported; write to a file or to /dev/stderr".to_owned());
    }
    if text == "syslog" || text.starts_with("syslog:") {
        return Err(
            "syslog is not supported; write to /dev/stderr, which a service manager collects"
                .to_owned(),
        );
    }
    // Opening the name would fail where the standard error is a socket, as under systemd.
    scope.host.error_log = if text == "/dev/stderr" {
        LogTarget::Stderr
    } else {
        LogTarget::File(scope.path(text)?)
    };
    Ok(())
}

/// The sixteen levels of httpd, on the five that there are.
pub(super) fn log_level(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    if let Some(word) = words.iter().find(|word| word.contains(':')) {
        return Err(format!(
            "\"{word}\": levels of single modules are not supported; set one level for all"
        ));
    }
    let [level] = words else {
        return Err(format!("expected one level, found \"{}\"", words.join(" ")));
    };
    let level = match level.to_ascii_lowercase().as_str() {
        "emerg" | "alert" | "crit" | "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "notice" | "info" => log::LevelFilter::Info,
        "debug" => log::LevelFilter::Debug,
        "trace1" | "trace2" | "trace3" | "trace4" | "trace5" | "trace6" | "trace7" | "trace8" => {
            log::LevelFilter::Trace
        }
        _ => {
            return Err(format!(
                "unknown level \"{level}\"; expected emerg, alert, crit, error, warn, notice, info, debug or trace1 to \
                 trace8"
            ));
        }
    };
    scope.host.log_level = Some(level);
    Ok(())
}

pub(super) fn log_format(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    match words {
        [format, nickname] => {
            if nickname.is_empty() || nickname.contains('%') {
                return Err(format!(
                    "\"{nickname}\" is no nickname; expected a word without \"%\""
                ));
            }
            let format = Arc::new(LogFormat::parse(format)?);
            scope.host.formats.push(((*nickname).to_owned(), format));
        }
        _ => {
            let format = LogFormat::parse(words.first().copied().unwrap_or_default())?;
            scope.host.transfer_format = Some(Arc::new(format));
        }
    }
    Ok(())
}

pub(super) fn custom_log(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (path, format, condition) = match words {
        [path, format] => (*path, *format, None),
        [path, format, condition] => (*path, *format, Some(log_condition(condition)?)),
        _ => {
            return Err(
                "expected a path and a format or nickname; TransferLog takes a path alone"
                    .to_owned(),
            );
        }
    };
    // A nickname cannot hold a "%", and a format without one would write the same line for ever.
    let format = if format.contains('%') {
        FormatDraft::Ready(Arc::new(LogFormat::parse(format)?))
    } else {
        FormatDraft::Nickname(format.to_owned())
    };
    access_log(scope, path, format, condition)
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
                "expected env=NAME or env=!NAME behind the format, found \"{word}\"; a format of several words stands in \
                 quotes"
            ),
        },
    )
}

pub(super) fn access_log(
    scope: &mut Scope<'_>,
    path: &str,
    format: FormatDraft,
    condition: Option<Condition>,
) -> Result<(), String> {
    if path.starts_with('|') {
        return Err("piped logs are not supported; write to a file or to /dev/stdout".to_owned());
    }
    let log = LogDraft {
        directive: scope.directive,
        path: scope.path(path)?,
        format,
        condition,
        origin: Origin::clone(scope.at),
    };
    scope.host.logs.push(log);
    Ok(())
}

pub(super) fn load_module(_: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [module, _path] = words else {
        return Err("expected the name of a module and a path".to_owned());
    };
    if syntax::has_module(module) {
        return Ok(());
    }
    Err(format!(
        "this program does not do the job of \"{module}\"; remove the line"
    ))
}
