//! `LogFormat`: parsed once, rendered per transaction (httpd mod_log_config, mod_logio).
//!
//! What can have a meaning for a tunnel has httpd's; what cannot is refused by name, so that no column of a log is silently
//! empty. Times are UTC.

use crate::http::authority::Authority;
use crate::http::date::{self, Date};
use crate::http::headers::is_token;
use crate::route::url::{Slashes, canonical_path};
use crate::tls::Session;
use crate::transaction::{CloseReason, Side, Transaction};
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// A parsed log format. httpd: `LogFormat`, `CustomLog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    parts: Vec<Part>,
}

impl LogFormat {
    /// httpd's Common Log Format: `%h %l %u %t "%r" %>s %b`.
    pub fn common() -> Self {
        let text = |text: &str| Part::Text(text.to_owned());
        let field = |field| Part::Field { on: None, field };
        Self {
            parts: vec![
                field(Field::ClientAddress),
                text(" "),
                field(Field::Nothing),
                text(" "),
                field(Field::Nothing),
                text(" "),
                field(Field::Time(Moment::Received, TimeForm::Common)),
                text(" \""),
                field(Field::RequestLine),
                text("\" "),
                field(Field::Status),
                text(" "),
                field(Field::Body { or_dash: true }),
            ],
        }
    }

    /// Parses a format such as `%h %l %u %t "%r" %>s %b`.
    ///
    /// # Errors
    /// A sentence that names the part that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '%' if rest.as_str().starts_with('%') => {
                    literal.push('%');
                    rest.next();
                }
                '%' => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    let (part, behind) = parse_field(rest.as_str())?;
                    parts.push(part);
                    rest = behind.chars();
                }
                '\\' => {
                    let escaped = match rest.as_str().chars().next() {
                        Some('n') => Some('\n'),
                        Some('r') => Some('\r'),
                        Some('t') => Some('\t'),
                        Some('\\') => Some('\\'),
                        _ => None,
                    };
                    if escaped.is_some() {
                        rest.next();
                    }
                    literal.push(escaped.unwrap_or('\\'));
                }
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Whether [`Transaction::request`] is looked at, and so has to be kept until the end.
    pub fn needs_request(&self) -> bool {
        self.fields().any(|field| {
            matches!(
                field,
                Field::RequestHeader(_) | Field::Cookie(_) | Field::HostName
            )
        })
    }

    /// As [`needs_request`](Self::needs_request), for [`Transaction::answer`].
    pub fn needs_answer(&self) -> bool {
        self.fields()
            .any(|field| matches!(field, Field::AnswerHeader(_)))
    }

    /// As [`needs_request`](Self::needs_request), for a variable of [`Transaction::environment`], in any case.
    pub fn needs_variable(&self, name: &str) -> bool {
        let is =
            |field: &Field| matches!(field, Field::Variable(own) if own.eq_ignore_ascii_case(name));
        self.fields().any(is)
    }

    /// As [`needs_request`](Self::needs_request), for one of the names in [`Transaction::tls`].
    pub fn needs_tls(&self, name: &str) -> bool {
        self.fields()
            .any(|field| matches!(field, Field::Tls(own) if *own == name))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field { field, .. } => Some(field),
            Part::Text(_) => None,
        })
    }

    /// Appends the line for a transaction that took so long, with its line end. Nothing from outside can end the line or
    /// leave its quotes.
    pub fn render(&self, transaction: &Transaction, took: Duration, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field { on: Some(on), .. } if !on.includes(transaction.status) => {
                    out.push(b'-');
                }
                Part::Field { field, .. } => field.render(transaction, took, out),
            }
        }
        out.push(b'\n');
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { on: Option<Statuses>, field: Field },
}

/// The statuses with which a field is shown: `%400,501{...}i`, `%!101{...}i`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statuses {
    listed: Vec<u16>,
    negated: bool,
}

impl Statuses {
    fn includes(&self, status: u16) -> bool {
        self.listed.contains(&status) != self.negated
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    ClientAddress,
    PeerAddress,
    ClientPort,
    LocalAddress,
    LocalPort,
    /// `%l` and `%u`: there is no identd, and no user is known.
    Nothing,
    Time(Moment, TimeForm),
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Body {
        or_dash: bool,
    },
    BytesIn,
    BytesOut,
    BytesBoth,
    Took(Unit),
    ConnectionStatus,
    /// `%k`: requests on the connection before this one.
    KeptAlive,
    RequestHeader(String),
    AnswerHeader(String),
    Cookie(String),
    Variable(String),
    /// `%{NAME}x`
    Tls(&'static str),
    Note(Note),
    ServerName,
    HostName,
    ProcessId,
    ConnectionId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Received,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TimeForm {
    Common,
    Since1970(Unit),
    MillisecondOfSecond,
    MicrosecondOfSecond,
    /// A pattern for strftime(3), of conversions that [`convert`] knows.
    Pattern(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl Unit {
    fn count(self, duration: Duration) -> u128 {
        match self {
            Self::Seconds => duration.as_secs().into(),
            Self::Milliseconds => duration.as_millis(),
            Self::Microseconds => duration.as_micros(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Backend,
    Mapping,
    CloseReason,
    BytesFromBackend,
    BytesToBackend,
}

/// Parses what is behind a `%`, and gives what is behind the field.
fn parse_field(text: &str) -> Result<(Part, &str), String> {
    let mut listed = Vec::new();
    let mut negated = false;
    let mut argument = None;
    let mut rest = text;
    loop {
        let mut chars = rest.chars();
        let letter = chars.next();
        let behind = chars.as_str();
        match letter {
            None => return Err(format!("\"%{text}\" is not complete")),
            Some('!') => negated = true,
            // httpd: choose between the request and what it was internally redirected to, which are one here.
            Some('<' | '>' | ',') => {}
            Some('0'..='9') => {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let (digits, behind) = rest.split_at(end);
                listed.push(parse_status(digits)?);
                rest = behind;
                continue;
            }
            Some('{') => {
                let (inside, behind) = behind
                    .split_once('}')
                    .ok_or_else(|| format!("\"%{text}\" has no closing \"}}\""))?;
                argument = Some(inside);
                rest = behind;
                continue;
            }
            Some(letter) => {
                let end = text.len() - behind.len();
                let written = format!("\"%{}\"", text.get(..end).unwrap_or_default());
                if negated && listed.is_empty() {
                    return Err(format!("{written} names no status behind \"!\""));
                }
                let field = meaning(letter, argument, behind)
                    .map_err(|problem| format!("{written}: {problem}"))?;
                let on = (!listed.is_empty()).then_some(Statuses { listed, negated });
                return Ok((Part::Field { on, field }, behind));
            }
        }
        rest = behind;
    }
}

fn parse_status(digits: &str) -> Result<u16, String> {
    match digits.parse() {
        Ok(status @ 100..=999) => Ok(status),
        _ => Err(format!("\"%{digits}\": {digits} is not a status")),
    }
}

/// The field that a letter stands for. `behind` is only for telling what a `^` begins.
fn meaning(letter: char, argument: Option<&str>, behind: &str) -> Result<Field, String> {
    let name = || match argument {
        Some(name) if is_token(name.as_bytes()) => Ok(name.to_owned()),
        Some(_) => Err("the name in the braces is not a token".to_owned()),
        None => Err(format!("a name is missing, as in \"%{{Name}}{letter}\"")),
    };
    let field = match (letter, argument) {
        ('h' | 'a', None) => Field::ClientAddress,
        ('h' | 'a', Some("c")) => Field::PeerAddress,
        ('A', None) => Field::LocalAddress,
        // httpd: "canonical" is the port of ServerName, which need not be the one that was connected to.
        ('p', None | Some("canonical" | "local")) => Field::LocalPort,
        ('p', Some("remote")) => Field::ClientPort,
        ('l' | 'u', None) => Field::Nothing,
        ('t', None) => Field::Time(Moment::Received, TimeForm::Common),
        ('t', Some(form)) => parse_time(form)?,
        ('r', None) => Field::RequestLine,
        ('m', None) => Field::Method,
        ('U', None) => Field::Path,
        ('q', None) => Field::Query,
        ('H', None) => Field::Protocol,
        ('s', None) => Field::Status,
        ('b', None) => Field::Body { or_dash: true },
        ('B', None) => Field::Body { or_dash: false },
        ('I', None) => Field::BytesIn,
        ('O', None) => Field::BytesOut,
        ('S', None) => Field::BytesBoth,
        ('D', None) | ('T', Some("us")) => Field::Took(Unit::Microseconds),
        ('T', Some("ms")) => Field::Took(Unit::Milliseconds),
        ('T', None | Some("s")) => Field::Took(Unit::Seconds),
        ('X', None) => Field::ConnectionStatus,
        ('k', None) => Field::KeptAlive,
        ('i', _) => Field::RequestHeader(name()?),
        ('o', _) => Field::AnswerHeader(name()?),
        ('C', _) => Field::Cookie(name()?),
        ('e', Some(name)) if !name.is_empty() => Field::Variable(name.to_owned()),
        ('e', _) => return Err("a name is missing, as in \"%{NAME}e\"".to_owned()),
        ('x', Some(name)) => match Session::named(name) {
            Some(name) => Field::Tls(name),
            None => {
                return Err(format!(
                    "unknown name; expected one of {}",
                    Session::NAMES.join(", ")
                ));
            }
        },
        ('x', None) => return Err("a name is missing, as in \"%{SSL_PROTOCOL}x\"".to_owned()),
        // Of the time before there was "%{...}x".
        ('c', Some("version")) => Field::Tls("SSL_PROTOCOL"),
        ('c', Some("cipher")) => Field::Tls("SSL_CIPHER"),
        ('c', Some("subjectdn")) => Field::Tls("SSL_CLIENT_S_DN"),
        ('c', Some("issuerdn")) => Field::Tls("SSL_CLIENT_I_DN"),
        ('n', _) => Field::Note(parse_note(&name()?)?),
        ('v', None) => Field::ServerName,
        ('V', None) => Field::HostName,
        ('P', None | Some("pid")) => Field::ProcessId,
        ('L', None) => Field::ConnectionId,
        ('f', _) => return Err("requests are not served from files here".to_owned()),
        ('R', _) => return Err("there are no handlers here".to_owned()),
        ('P', Some("tid" | "hextid")) => {
            return Err("a request does not belong to one thread here".to_owned());
        }
        ('^', _) if behind.starts_with("ti") || behind.starts_with("to") => {
            return Err("trailer fields are not kept".to_owned());
        }
        ('p', _) => return Err("expected canonical, local or remote in the braces".to_owned()),
        ('P', _) => return Err("expected pid in the braces".to_owned()),
        ('T', _) => return Err("expected s, ms or us in the braces".to_owned()),
        (letter, Some(_)) if "haAlurmUqHsbBIOSDXkvVL".contains(letter) => {
            return Err("this field takes no such braces".to_owned());
        }
        _ => return Err("unknown field".to_owned()),
    };
    Ok(field)
}

fn parse_note(name: &str) -> Result<Note, String> {
    match name {
        "backend" => Ok(Note::Backend),
        "mapping" => Ok(Note::Mapping),
        "close-reason" => Ok(Note::CloseReason),
        "bytes-from-backend" => Ok(Note::BytesFromBackend),
        "bytes-to-backend" => Ok(Note::BytesToBackend),
        _ => Err(
            "unknown note; expected backend, mapping, close-reason, bytes-from-backend or \
             bytes-to-backend"
                .to_owned(),
        ),
    }
}

/// Parses the braces of `%{...}t`.
fn parse_time(text: &str) -> Result<Field, String> {
    let (moment, form) = match text.split_once(':') {
        Some(("begin", form)) => (Moment::Received, form),
        Some(("end", form)) => (Moment::Ended, form),
        _ => (Moment::Received, text),
    };
    let form = match form {
        "" => TimeForm::Common,
        "sec" => TimeForm::Since1970(Unit::Seconds),
        "msec" => TimeForm::Since1970(Unit::Milliseconds),
        "usec" => TimeForm::Since1970(Unit::Microseconds),
        "msec_frac" => TimeForm::MillisecondOfSecond,
        "usec_frac" => TimeForm::MicrosecondOfSecond,
        pattern => {
            check_pattern(pattern)?;
            TimeForm::Pattern(pattern.to_owned())
        }
    };
    Ok(Field::Time(moment, form))
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut out = Vec::new();
    match render_pattern(pattern, 0, &mut out) {
        Ok(()) if pattern.contains('%') => Ok(()),
        Ok(()) => Err(
            "expected sec, msec, usec, msec_frac, usec_frac or a pattern for strftime, perhaps \
             behind begin: or end:"
                .to_owned(),
        ),
        Err(Some(letter)) => Err(format!("unknown conversion \"%{letter}\"")),
        Err(None) => Err("the last \"%\" has no letter".to_owned()),
    }
}

impl Field {
    fn render(&self, transaction: &Transaction, took: Duration, out: &mut Vec<u8>) {
        let t = transaction;
        // Writing to a vector does not fail.
        let mut print = |value: &dyn std::fmt::Display| {
            let _ = write!(out, "{value}");
        };
        match self {
            Self::ClientAddress => print(&t.client.ip().to_canonical()),
            Self::PeerAddress => print(&t.peer.ip().to_canonical()),
            Self::ClientPort => print(&t.client.port()),
            Self::LocalAddress => print(&t.local.ip().to_canonical()),
            Self::LocalPort => print(&t.local.port()),
            Self::Nothing => out.push(b'-'),
            Self::Time(moment, form) => {
                let received = t.received.duration_since(UNIX_EPOCH).unwrap_or_default();
                let since_1970 = match moment {
                    Moment::Received => received,
                    Moment::Ended => received.saturating_add(took),
                };
                form.render(since_1970, out);
            }
            Self::RequestLine if t.request_line.is_empty() => out.push(b'-'),
            Self::RequestLine => escape(&t.request_line, out),
            Self::Method => escape_or_dash(word(t, 0), out),
            Self::Path => match path_and_query(t) {
                Some((path, _)) => match canonical_path(path, Slashes::Refused) {
                    Ok(path) => escape(&path, out),
                    Err(_) => escape(path.as_bytes(), out),
                },
                None => out.push(b'-'),
            },
            Self::Query => {
                if let Some((_, Some(query))) = path_and_query(t) {
                    out.push(b'?');
                    escape(query.as_bytes(), out);
                }
            }
            Self::Protocol => escape_or_dash(word(t, 2), out),
            Self::Status if t.status == 0 => out.push(b'-'),
            Self::Status => print(&t.status),
            Self::Body { or_dash: true } if t.body_out == 0 => out.push(b'-'),
            Self::Body { .. } => print(&t.body_out),
            Self::BytesIn => print(&t.bytes_in),
            Self::BytesOut => print(&t.bytes_out),
            Self::BytesBoth => print(&t.bytes_in.saturating_add(t.bytes_out)),
            Self::Took(unit) => print(&unit.count(took)),
            Self::ConnectionStatus => out.push(match t.close {
                Some(CloseReason::Failed(Side::Client, _)) => b'X',
                None if t.status == 0 || t.is_cut => b'X',
                None if t.stays => b'+',
                _ => b'-',
            }),
            Self::KeptAlive => print(&t.served),
            Self::RequestHeader(name) => {
                let values = t.request.iter().flat_map(|head| head.headers.all(name));
                escape_joined(values, out);
            }
            Self::AnswerHeader(name) => escape_joined(t.answer.all(name), out),
            Self::Cookie(name) => escape_or_dash(cookie(t, name), out),
            Self::Variable(name) => escape_or_dash(t.environment.get(name), out),
            Self::Tls(name) => escape_or_dash(t.tls.get(name).map(str::as_bytes), out),
            Self::Note(note) => note.render(t, out),
            Self::ServerName => escape(t.server_name.as_bytes(), out),
            Self::HostName => {
                let host = t
                    .request
                    .as_ref()
                    .and_then(|head| head.headers.first("Host"));
                match host.map(Authority::parse) {
                    Some(Ok(authority)) => escape(authority.host.as_bytes(), out),
                    _ => escape(t.server_name.as_bytes(), out),
                }
            }
            Self::ProcessId => print(&std::process::id()),
            Self::ConnectionId => print(&t.id),
        }
    }
}

impl Note {
    fn render(self, t: &Transaction, out: &mut Vec<u8>) {
        let text = match self {
            Self::Backend => t.backend.as_ref().map(|backend| backend.url.to_string()),
            Self::Mapping => t.mapping.as_ref().map(ToString::to_string),
            Self::CloseReason => t.close.as_ref().map(ToString::to_string),
            Self::BytesFromBackend => Some(t.from_backend.to_string()),
            Self::BytesToBackend => Some(t.to_backend.to_string()),
        };
        escape_or_dash(text.as_deref().map(str::as_bytes), out);
    }
}

impl TimeForm {
    fn render(&self, since_1970: Duration, out: &mut Vec<u8>) {
        let seconds = since_1970.as_secs();
        let _ = match self {
            Self::Common => write!(out, "{}", date::common_log(seconds)),
            Self::Since1970(unit) => write!(out, "{}", unit.count(since_1970)),
            Self::MillisecondOfSecond => write!(out, "{:03}", since_1970.subsec_millis()),
            Self::MicrosecondOfSecond => write!(out, "{:06}", since_1970.subsec_micros()),
            Self::Pattern(pattern) => {
                // What `parse` took has no unknown conversion.
                let _ = render_pattern(pattern, seconds, out);
                Ok(())
            }
        };
    }
}

/// Writes the time as a pattern for strftime(3) says, in the C locale.
///
/// # Errors
/// The letter of a conversion that is not known, or `None` for a `%` at the end.
fn render_pattern(pattern: &str, unix_seconds: u64, out: &mut Vec<u8>) -> Result<(), Option<char>> {
    let date = Date::from_unix(unix_seconds);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            let letter = chars.next().ok_or(None)?;
            convert(letter, &date, unix_seconds, out)?;
        } else {
            let _ = write!(out, "{c}");
        }
    }
    Ok(())
}

/// One conversion of strftime(3). Those that count weeks, GNU's for padding, and the one that ends the line are not among
/// them.
fn convert(
    letter: char,
    date: &Date,
    unix_seconds: u64,
    out: &mut Vec<u8>,
) -> Result<(), Option<char>> {
    let composed = match letter {
        'c' => Some("%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => Some("%m/%d/%y"),
        'F' => Some("%Y-%m-%d"),
        'r' => Some("%I:%M:%S %p"),
        'R' => Some("%H:%M"),
        'T' | 'X' => Some("%H:%M:%S"),
        _ => None,
    };
    if let Some(pattern) = composed {
        return render_pattern(pattern, unix_seconds, out);
    }
    let hour_of_12 = (date.hour + 11) % 12 + 1;
    let _ = match letter {
        'a' => write!(out, "{}", date::short(date.weekday_name())),
        'A' => write!(out, "{}", date.weekday_name()),
        'b' | 'h' => write!(out, "{}", date::short(date.month_name())),
        'B' => write!(out, "{}", date.month_name()),
        'C' => write!(out, "{:02}", date.year / 100),
        'd' => write!(out, "{:02}", date.day),
        'e' => write!(out, "{:2}", date.day),
        'H' => write!(out, "{:02}", date.hour),
        'I' => write!(out, "{hour_of_12:02}"),
        'j' => write!(out, "{:03}", date.day_of_year),
        'm' => write!(out, "{:02}", date.month),
        'M' => write!(out, "{:02}", date.minute),
        'p' => write!(out, "{}", if date.hour < 12 { "AM" } else { "PM" }),
        's' => write!(out, "{unix_seconds}"),
        'S' => write!(out, "{:02}", date.second),
        't' => write!(out, "\t"),
        'u' => write!(out, "{}", (date.weekday + 6) % 7 + 1),
        'w' => write!(out, "{}", date.weekday),
        'y' => write!(out, "{:02}", date.year % 100),
        'Y' => write!(out, "{}", date.year),
        'z' => write!(out, "+0000"),
        'Z' => write!(out, "UTC"),
        '%' => write!(out, "%"),
        _ => return Err(Some(letter)),
    };
    Ok(())
}

/// One of the three words of the request line, if there are three. Taken from the line, so that it is known of refused
/// requests as well.
fn word(t: &Transaction, place: usize) -> Option<&[u8]> {
    let words = || t.request_line.splitn(3, |byte| *byte == b' ');
    words().nth(2)?;
    words().nth(place)
}

/// The path of the request as it was written, and its query.
fn path_and_query(t: &Transaction) -> Option<(&str, Option<&str>)> {
    let target = std::str::from_utf8(word(t, 1)?).ok()?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if path.starts_with('/') {
        return Some((path, query));
    }
    let (_, behind) = path.split_once("://")?;
    let path = behind.find('/').and_then(|start| behind.get(start..));
    Some((path.unwrap_or("/"), query))
}

/// The value of the first cookie called `name` (any case, as in httpd).
fn cookie<'a>(t: &'a Transaction, name: &str) -> Option<&'a [u8]> {
    let fields = t.request.iter().flat_map(|head| head.headers.all("Cookie"));
    let mut pairs = fields
        .flat_map(|field| field.split(|byte| *byte == b';'))
        .map(|pair| pair.splitn(2, |byte| *byte == b'='));
    pairs.find_map(|mut pair| {
        let found = pair.next()?.trim_ascii();
        let value = pair.next()?.trim_ascii();
        found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    })
}

fn escape_or_dash(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => escape(text, out),
        None => out.push(b'-'),
    }
}

/// The values of repeated fields as one list; a dash for none.
fn escape_joined<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut any = false;
    for value in values {
        if any {
            out.extend_from_slice(b", ");
        }
        escape(value, out);
        any = true;
    }
    if !any {
        out.push(b'-');
    }
}

/// Appends text from outside so that it stays in its line and in its quotes, and brings no control sequence to a terminal
/// (httpd `ap_escape_logitem`).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\x0b' => out.extend_from_slice(b"\\v"),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Limits, RequestHead};
    use crate::http::noise::Noise;
    use crate::route::backend::{Backend, Parameters};
    use crate::route::url::BackendUrl;
    use std::sync::Arc;

    const TOOK: Duration = Duration::from_micros(61_234_567);

    fn transaction() -> Transaction {
        let received = UNIX_EPOCH + Duration::from_micros(971_186_136_007_089);
        let client = "[::ffff:192.0.2.7]:50123".parse().unwrap();
        let peer = "[::ffff:192.0.2.9]:443".parse().unwrap();
        let mut t = Transaction::new(17, peer, "192.0.2.1:8080".parse().unwrap(), received);
        t.client = client;
        let request = b"GET /a%20b/../ws?x=%20 HTTP/1.1\r\nHost: Front:8080\r\n\
            User-Agent: \"evil\\\x80\" \r\nX: 1\r\nX: 2\r\nEmpty:\r\nCookie: a=1; B = two ;c\r\n\r\n";
        t.request_line = crate::http::head::request_line(request).to_vec();
        let (_, head) = RequestHead::parse(request, &Limits::default())
            .unwrap()
            .unwrap();
        t.request = Some(Box::new(head));
        t.server_name = Arc::from("www.example");
        t.environment.set("Robot", b"\"y\xe4\n");
        t.status = 101;
        t.answer.push("Upgrade", b"websocket");
        t.mapping = Some(Arc::from("ProxyPass \"/ws\""));
        t.backend = Some(Arc::new(Backend {
            url: BackendUrl::parse("ws://b/").unwrap(),
            parameters: Parameters::default(),
        }));
        t.bytes_in = 1000;
        t.bytes_out = 2000;
        t.body_out = 1800;
        t.from_backend = 1850;
        t.to_backend = 900;
        t.close = Some(CloseReason::Closed(Side::Client));
        t
    }

    fn line(format: &str, t: &Transaction) -> String {
        let mut out = Vec::new();
        LogFormat::parse(format).unwrap().render(t, TOOK, &mut out);
        let mut line = String::from_utf8(out).unwrap();
        assert_eq!(line.pop(), Some('\n'));
        line
    }

    #[test]
    fn the_common_format_is_the_one_of_httpd() {
        let text = r#"%h %l %u %t "%r" %>s %b"#;
        assert_eq!(LogFormat::parse(text), Ok(LogFormat::common()));
        assert_eq!(
            line(text, &transaction()),
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a%20b/../ws?x=%20 HTTP/1.1\" 101 1800"
        );
    }

    #[test]
    fn every_field_has_its_meaning() {
        let t = transaction();
        for (format, expected) in [
            (
                "%a %{c}a %h %{c}h %A",
                "192.0.2.7 192.0.2.9 192.0.2.7 192.0.2.9 192.0.2.1",
            ),
            (
                "%p %{canonical}p %{local}p %{remote}p",
                "8080 8080 8080 50123",
            ),
            ("%m|%U|%q|%H", "GET|/ws|?x=%20|HTTP/1.1"),
            ("%s %>s %<s", "101 101 101"),
            ("%b %B %I %O %S", "1800 1800 1000 2000 3000"),
            ("%D %T %{s}T %{ms}T %{us}T", "61234567 61 61 61234 61234567"),
            ("%X%k", "-0"),
            (
                "%{host}i %{X}i %{Missing}i [%{Empty}i]",
                "Front:8080 1, 2 - []",
            ),
            ("%{upgrade}o %{Missing}o", "websocket -"),
            ("%{a}C %{b}C %{c}C", "1 two -"),
            ("%{robot}e %{none}e", r#"\"y\xe4\n -"#),
            ("%{backend}n %{close-reason}n", "ws://b/ client closed"),
            ("%{mapping}n", r#"ProxyPass \"/ws\""#),
            ("%{bytes-to-backend}n %{bytes-from-backend}n", "900 1850"),
            ("%v %V %L", "www.example Front 17"),
            ("100%% \\t\\\\ \\x", "100% \t\\ \\x"),
            ("", ""),
        ] {
            assert_eq!(line(format, &t), expected, "{format}");
        }
        assert_eq!(line("%P", &t), line("%{pid}P", &t));
    }

    #[test]
    fn times_have_all_their_forms() {
        let t = transaction();
        for (format, expected) in [
            ("%t", "[10/Oct/2000:13:55:36 +0000]"),
            ("%{begin:}t", "[10/Oct/2000:13:55:36 +0000]"),
            ("%{end:}t", "[10/Oct/2000:13:56:37 +0000]"),
            ("%{sec}t %{msec}t", "971186136 971186136007"),
            ("%{usec}t", "971186136007089"),
            ("%{msec_frac}t %{usec_frac}t", "007 007089"),
            ("%{end:usec}t", "971186197241656"),
            ("%{%d/%b/%Y:%H:%M:%S %z}t", "10/Oct/2000:13:55:36 +0000"),
            ("%{end:%T}t", "13:56:37"),
            ("%{%FT%TZ}t", "2000-10-10T13:55:36Z"),
            (
                "%{%A %a %B %h %C %e %I %j %m %p}t",
                "Tuesday Tue October Oct 20 10 01 284 10 PM",
            ),
            (
                "%{%s %u %w %y %Z %% %R %D}t",
                "971186136 2 2 00 UTC % 13:55 10/10/00",
            ),
            (
                "%{%c|%x|%X|%r}t",
                "Tue Oct 10 13:55:36 2000|10/10/00|13:55:36|01:55:36 PM",
            ),
        ] {
            assert_eq!(line(format, &t), expected, "{format}");
        }
    }

    #[test]
    fn a_field_is_shown_for_its_statuses_only() {
        let mut t = transaction();
        for (status, format, expected) in [
            (101, "%101{Host}i", "Front:8080"),
            (404, "%101{Host}i", "-"),
            (404, "%400,404{Host}i", "Front:8080"),
            (404, "%!101{Host}i", "Front:8080"),
            (101, "%!101,404>s", "-"),
            (502, "%{Host}!101,404i", "Front:8080"),
        ] {
            t.status = status;
            assert_eq!(line(format, &t), expected, "{status} {format}");
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let address = "127.0.0.1:1".parse().unwrap();
        let t = Transaction::new(1, address, address, UNIX_EPOCH);
        assert_eq!(
            line(
                "%r %m %U|%q|%H %s %b %B %X %{A}i %{A}C %{mapping}n %{close-reason}n",
                &t
            ),
            "- - -||- - - 0 X - - - -"
        );
    }

    #[test]
    fn refused_requests_show_what_they_were() {
        let mut t = transaction();
        t.request = None;
        for (request, expected) in [
            (&b"GET http://h:1/p?q HTTP/2.0"[..], "GET|/p|?q|HTTP/2.0"),
            (b"GET http://h HTTP/1.1", "GET|/||HTTP/1.1"),
            (b"OPTIONS * HTTP/1.1", "OPTIONS|-||HTTP/1.1"),
            (b"GET /%zz HTTP/1.1", "GET|/%zz||HTTP/1.1"),
            (b"GET /\xff HTTP/1.1", "GET|-||HTTP/1.1"),
            (b"\x16\x03", "-|-||-"),
        ] {
            t.request_line = request.to_vec();
            assert_eq!(line("%m|%U|%q|%H", &t), expected);
        }
        assert_eq!(line("%r", &t), r"\x16\x03");
    }

    #[test]
    fn nothing_from_outside_ends_a_line_or_its_quotes() {
        let mut t = transaction();
        assert_eq!(line("\"%{User-Agent}i\"", &t), r#""\"evil\\\x80\"""#);
        t.request_line = b"GET /%0a%22%1b \"\\\x08\n\r\t\x0b\x7f".to_vec();
        assert_eq!(line("%r", &t), r#"GET /%0a%22%1b \"\\\b\n\r\t\v\x7f"#);
        assert_eq!(line("%U", &t), r#"/\n\"\x1b"#);
    }

    #[test]
    fn an_aborted_client_is_marked() {
        let mut t = transaction();
        t.close = Some(CloseReason::Failed(Side::Client, "reset".to_owned()));
        assert_eq!(line("%X", &t), "X");
        t.close = Some(CloseReason::Failed(Side::Backend, "reset".to_owned()));
        assert_eq!(line("%X", &t), "-");
    }

    #[test]
    fn only_some_formats_need_the_request_or_the_answer() {
        for (text, request, answer) in [
            ("%h %l %u %t \"%r\" %>s %b %m %U %q %H %v", false, false),
            ("%{X}o", false, true),
            ("%{Referer}i", true, false),
            ("%!200{a}C", true, false),
            ("%V", true, false),
        ] {
            let format = LogFormat::parse(text).unwrap();
            assert_eq!(
                (format.needs_request(), format.needs_answer()),
                (request, answer),
                "{text}"
            );
        }
    }

    #[test]
    fn a_format_needs_the_variables_that_it_names() {
        let format = LogFormat::parse("%h %404{Robot}e %{robots}i").unwrap();
        assert!(format.needs_variable("ROBOT"));
        assert!(!format.needs_variable("robots"));
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        for (format, part) in [
            ("%h %e", "\"%e\": a name is missing, as in \"%{NAME}e\""),
            ("%{}e", "a name is missing"),
            ("%f", "\"%f\": requests are not served from files"),
            ("%R", "handlers"),
            (
                "%{tid}P",
                "\"%{tid}P\": a request does not belong to one thread",
            ),
            ("%{x}P", "expected pid"),
            ("%{X}^ti", "trailer fields are not kept"),
            ("%{X}^xx", "unknown field"),
            ("%Z", "\"%Z\": unknown field"),
            ("%\u{e9}", "unknown field"),
            ("%i", "a name is missing, as in \"%{Name}i\""),
            ("%{}i", "not a token"),
            ("%{A B}o", "not a token"),
            ("%{foo}n", "unknown note; expected backend, mapping"),
            ("%{x}p", "expected canonical, local or remote"),
            ("%{m}T", "expected s, ms or us"),
            ("%{x}s", "\"%{x}s\": this field takes no such braces"),
            ("%{x}h", "takes no such braces"),
            ("%{%Q}t", "unknown conversion \"%Q\""),
            ("%{%U}t", "unknown conversion \"%U\""),
            ("%{%n}t", "unknown conversion \"%n\""),
            ("%{%d %}t", "no letter"),
            ("%{mesc}t", "expected sec, msec, usec"),
            ("%{Host", "\"%{Host\" has no closing \"}\""),
            ("%", "\"%\" is not complete"),
            ("%h %>", "\"%>\" is not complete"),
            ("%!s", "\"%!s\" names no status"),
            ("%99s", "99 is not a status"),
            ("%70000s", "70000 is not a status"),
        ] {
            let error = LogFormat::parse(format).unwrap_err();
            assert!(error.contains(part), "{format}: {error}");
        }
    }

    #[test]
    fn never_panics_and_always_writes_one_line() {
        let mut noise = Noise::new(0x5eed_0005);
        let format = br#"%h %400,101{Host}i %{end:%d %T}t \"%r\" %!101>s %{backend}n%%"#;
        let mut t = transaction();
        for _ in 0..5000 {
            let bytes = noise.mangle(format, b"%{}!,<>^09aitnCsT:");
            t.request_line = noise.mangle(b"GET http://h/%41?x HTTP/1.1", b" %/?:\n\"\xff");
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(['\n', '\\']) {
                continue;
            }
            if let Ok(format) = LogFormat::parse(&text) {
                let mut out = Vec::new();
                format.render(&t, TOOK, &mut out);
                let ends = out.iter().filter(|byte| **byte == b'\n').count();
                assert!(ends == 1 && out.ends_with(b"\n"), "{text:?}");
            }
        }
    }
}
