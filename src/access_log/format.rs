//! `LogFormat`: parsed once, rendered per transaction (httpd mod_log_config, mod_logio).
//!
//! What can have a meaning for a tunnel has httpd's; what cannot is refused by name, so that no column of a log is silently
//! empty. Times are UTC.

mod escape;
mod json;
mod note;
mod time;

pub use escape::Escape;

use crate::http::authority::Authority;
use crate::http::head::RequestHead;
use crate::http::headers::is_token;
use crate::route::url::{Slashes, canonical_path};
use crate::tls::Session;
use crate::transaction::{CloseReason, Side, Transaction};
use json::Context;
use note::Note;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};
use time::{Moment, TimeForm, Unit};

/// A parsed log format. httpd: `LogFormat`, `CustomLog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    parts: Vec<Part>,
    escape: Escape,
}

/// The nickname `json`. What is not known is `null` there.
pub const JSON: &str = concat!(
    r#"{"time":"%{%FT%T}t.%{msec_frac}tZ","event":%{event}n,"id":%L,"pid":%P,"client":%a,"client_port":%{remote}p,"#,
    r#""peer":%{c}a,"local":%A,"local_port":%p,"server":%v,"request":%r,"status":%s,"bytes_in":%I,"bytes_out":%O,"#,
    r#""body_out":%B,"took_us":%D,"kept":%k,"user_agent":%{User-Agent}i,"origin":%{Origin}i,"#,
    r#""protocol":%{Sec-WebSocket-Protocol}o,"mapping":%{mapping}n,"backend":%{backend}n,"ended_by":%{ended-by}n,"#,
    r#""close_reason":%{close-reason}n,"bytes_to_backend":%{bytes-to-backend}n,"#,
    r#""bytes_from_backend":%{bytes-from-backend}n,"frames_from_client":%{frames-from-client}n,"#,
    r#""frames_from_backend":%{frames-from-backend}n,"messages_from_client":%{messages-from-client}n,"#,
    r#""messages_from_backend":%{messages-from-backend}n,"close_code_from_client":%{close-code-from-client}n,"#,
    r#""close_text_from_client":%{close-text-from-client}n,"close_code_from_backend":%{close-code-from-backend}n,"#,
    r#""close_text_from_backend":%{close-text-from-backend}n,"silence_ms":%{silence}n}"#
);

impl LogFormat {
    /// httpd's Common Log Format: `%h %l %u %t "%r" %>s %b`.
    pub fn common() -> Self {
        let text = |text: &str| Part::Text(text.to_owned());
        let field = |field| Part::Field {
            on: None,
            place: Place::Text,
            field,
        };
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
            escape: Escape::Text,
        }
    }

    /// Parses a format such as `%h %l %u %t "%r" %>s %b`.
    ///
    /// # Errors
    /// A sentence that names the part that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_parts(text, Escape::Text)
    }

    /// Parses a format whose lines are objects of JSON, such as `{"client":%h,"request":"%m %U"}`: a field in a string of the
    /// format becomes a part of it; elsewhere it is a value: a number, a string, or `null` if it is not known.
    ///
    /// # Errors
    /// A sentence that names the part that is not understood, or is no JSON.
    pub fn parse_json(text: &str) -> Result<Self, String> {
        let mut format = Self::parse_parts(text, Escape::Json)?;
        let mut context = Context::default();
        let mut sample = String::new();
        for part in &mut format.parts {
            match part {
                Part::Text(text) => {
                    context.pass(text);
                    sample.push_str(text);
                }
                Part::Field { place, .. } if context.in_string() => {
                    *place = Place::JsonString;
                    sample.push('x');
                }
                Part::Field { place, .. } => {
                    *place = Place::JsonValue;
                    sample.push_str("null");
                }
            }
        }
        json::check(&sample)?;
        Ok(format)
    }

    fn parse_parts(text: &str, escape: Escape) -> Result<Self, String> {
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
                // JSON has its own.
                '\\' if escape == Escape::Json => literal.push(c),
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
        Ok(Self { parts, escape })
    }

    /// Whether [`Noted::request`](crate::transaction::Noted::request) is looked at, and so has to be kept until the end.
    pub fn needs_request(&self) -> bool {
        self.fields().any(|field| {
            matches!(
                field,
                Field::RequestHeader(_) | Field::Cookie(_) | Field::HostName
            )
        })
    }

    /// As [`needs_request`](Self::needs_request), for [`Noted::answer`](crate::transaction::Noted::answer).
    pub fn needs_answer(&self) -> bool {
        self.fields()
            .any(|field| matches!(field, Field::AnswerHeader(_)))
    }

    /// As [`needs_request`](Self::needs_request), for a variable of [`Noted::environment`](crate::transaction::Noted::environment), in any case.
    pub fn needs_variable(&self, name: &str) -> bool {
        let is =
            |field: &Field| matches!(field, Field::Variable(own) if own.eq_ignore_ascii_case(name));
        self.fields().any(is)
    }

    /// As [`needs_request`](Self::needs_request), for one of the names in [`Noted::tls`](crate::transaction::Noted::tls).
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
            let (on, place, field) = match part {
                Part::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Field { on, place, field } => (on, *place, field),
            };
            let start = out.len();
            let is_quoted = place == Place::JsonValue && !field.is_number();
            if is_quoted {
                out.push(b'"');
            }
            let is_shown = on.as_ref().is_none_or(|on| on.includes(transaction.status));
            let is_known = is_shown && field.render(transaction, took, self.escape, out).is_some();
            match place {
                _ if is_known && is_quoted => out.push(b'"'),
                _ if is_known => {}
                Place::JsonValue => {
                    out.truncate(start);
                    out.extend_from_slice(b"null");
                }
                Place::Text | Place::JsonString => out.push(b'-'),
            }
        }
        out.push(b'\n');
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field {
        on: Option<Statuses>,
        place: Place,
        field: Field,
    },
}

/// What a field becomes a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    JsonString,
    JsonValue,
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
                let place = Place::Text;
                return Ok((Part::Field { on, place, field }, behind));
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
        ('t', Some(form)) => {
            let (moment, form) = time::parse(form)?;
            Field::Time(moment, form)
        }
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
        ('n', _) => Field::Note(Note::parse(&name()?)?),
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

impl Field {
    /// Whether what it shows is a number.
    fn is_number(&self) -> bool {
        match self {
            Self::ClientPort
            | Self::LocalPort
            | Self::Time(_, TimeForm::Since1970(_))
            | Self::Status
            | Self::Body { .. }
            | Self::BytesIn
            | Self::BytesOut
            | Self::BytesBoth
            | Self::Took(_)
            | Self::KeptAlive
            | Self::ProcessId
            | Self::ConnectionId => true,
            Self::Note(note) => note.is_number(),
            _ => false,
        }
    }

    /// Appends what is known; nothing where nothing is.
    fn render(
        &self,
        transaction: &Transaction,
        took: Duration,
        escape: Escape,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let t = transaction;
        // Writing to a vector does not fail.
        let mut print = |value: &dyn std::fmt::Display| {
            let _ = write!(out, "{value}");
        };
        match self {
            Self::ClientAddress => print(&t.client().ip().to_canonical()),
            Self::PeerAddress => print(&t.peer.ip().to_canonical()),
            Self::ClientPort => print(&t.client().port()),
            Self::LocalAddress => print(&t.local.ip().to_canonical()),
            Self::LocalPort => print(&t.local.port()),
            Self::Nothing => return None,
            Self::Time(moment, form) => {
                let received = t.received.duration_since(UNIX_EPOCH).unwrap_or_default();
                let since_1970 = match moment {
                    Moment::Received => received,
                    Moment::Ended => received.saturating_add(took),
                };
                form.render(since_1970, escape, out);
            }
            Self::RequestLine if t.request_line.is_empty() => return None,
            Self::RequestLine => escape.append(&t.request_line, out),
            Self::Method => escape.append(word(t, 0)?, out),
            Self::Path => {
                let (path, _) = path_and_query(t)?;
                match canonical_path(path, Slashes::Refused) {
                    Ok(path) => escape.append(&path, out),
                    Err(_) => escape.append(path.as_bytes(), out),
                }
            }
            Self::Query => {
                if let Some((_, Some(query))) = path_and_query(t) {
                    out.push(b'?');
                    escape.append(query.as_bytes(), out);
                }
            }
            Self::Protocol => escape.append(word(t, 2)?, out),
            Self::Status if t.status == 0 => return None,
            Self::Status => print(&t.status),
            Self::Body { or_dash: true } if t.body_out == 0 => return None,
            Self::Body { .. } => print(&t.body_out),
            Self::BytesIn => print(&t.bytes_in),
            Self::BytesOut => print(&t.bytes_out),
            Self::BytesBoth => print(&t.bytes_in.saturating_add(t.bytes_out)),
            Self::Took(unit) => print(&unit.count(took)),
            Self::ConnectionStatus => out.push(match t.close.as_deref() {
                Some(CloseReason::Failed(Side::Client, _)) => b'X',
                None if t.status == 0 || t.is_cut => b'X',
                None if t.stays => b'+',
                _ => b'-',
            }),
            Self::KeptAlive => print(&t.served),
            Self::RequestHeader(name) => {
                let values = request(t)
                    .into_iter()
                    .flat_map(|head| head.headers.all(name));
                join(values, escape, out)?;
            }
            Self::AnswerHeader(name) => {
                let values = t.noted().and_then(|it| it.answer.as_ref());
                let values = values.into_iter().flat_map(|headers| headers.all(name));
                join(values, escape, out)?;
            }
            Self::Cookie(name) => escape.append(cookie(t, name)?, out),
            Self::Variable(name) => escape.append(t.noted()?.environment.get(name)?, out),
            Self::Tls(name) => escape.append(t.noted()?.tls.get(name)?.as_bytes(), out),
            Self::Note(note) => note.render(t, escape, out)?,
            Self::ServerName => escape.append(t.server_name.as_bytes(), out),
            Self::HostName => {
                let host = request(t).and_then(|head| head.headers.first("Host"));
                match host.map(Authority::parse) {
                    Some(Ok(authority)) => escape.append(authority.host.as_bytes(), out),
                    _ => escape.append(t.server_name.as_bytes(), out),
                }
            }
            Self::ProcessId => print(&std::process::id()),
            Self::ConnectionId => print(&t.id),
        }
        Some(())
    }
}

fn request(t: &Transaction) -> Option<&RequestHead> {
    t.noted()?.request.as_ref()
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
    let fields = request(t)
        .into_iter()
        .flat_map(|head| head.headers.all("Cookie"));
    let mut pairs = fields
        .flat_map(|field| field.split(|byte| *byte == b';'))
        .map(|pair| pair.splitn(2, |byte| *byte == b'='));
    pairs.find_map(|mut pair| {
        let found = pair.next()?.trim_ascii();
        let value = pair.next()?.trim_ascii();
        found.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    })
}

/// Appends the values of repeated fields as one list; nothing where there are none.
fn join<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    escape: Escape,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut values = values;
    escape.append(values.next()?, out);
    for value in values {
        out.extend_from_slice(b", ");
        escape.append(value, out);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Close, Counts};
    use crate::http::head::{Limits, RequestHead};
    use crate::http::headers::Headers;
    use crate::http::noise::Noise;
    use crate::route::backend::{Backend, Parameters};
    use crate::route::url::BackendUrl;
    use crate::transaction::{Said, Seen};
    use std::sync::Arc;

    const TOOK: Duration = Duration::from_micros(61_234_567);

    fn transaction() -> Transaction {
        let received = UNIX_EPOCH + Duration::from_micros(971_186_136_007_089);
        let client = "[::ffff:192.0.2.7]:50123".parse().unwrap();
        let peer = "[::ffff:192.0.2.9]:443".parse().unwrap();
        let mut t = Transaction::new(17, peer, "192.0.2.1:8080".parse().unwrap(), received);
        t.set_client(client);
        let request = b"GET /a%20b/../ws?x=%20 HTTP/1.1\r\nHost: Front:8080\r\n\
            User-Agent: \"evil\\\x80\" \r\nX: 1\r\nX: 2\r\nEmpty:\r\nCookie: a=1; B = two ;c\r\n\r\n";
        t.request_line = crate::http::head::request_line(request).to_vec();
        let (_, head) = RequestHead::parse(request, &Limits::default())
            .unwrap()
            .unwrap();
        t.note().request = Some(head);
        t.server_name = Arc::from("www.example");
        t.note().environment.set("Robot", b"\"y\xe4\n");
        t.status = 101;
        let mut answer = Headers::default();
        answer.push("Upgrade", b"websocket");
        t.note().answer = Some(answer);
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
        t.close = Some(Box::new(CloseReason::Closed(Side::Client)));
        let counts = |frames, messages| Some(Counts { frames, messages });
        t.seen = Some(Box::new(Seen {
            from_client: Said {
                counts: counts(12, 10),
                close: Some(Close {
                    code: Some(1001),
                    reason: b"\"bye\xff\n".to_vec(),
                }),
            },
            from_backend: Said {
                counts: counts(7, 5),
                close: Some(Close {
                    code: None,
                    reason: Vec::new(),
                }),
            },
            silence: Duration::from_millis(1500),
        }));
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
            ("%{event}n %{ended-by}n %{silence}n", "end client 1500"),
            ("%{frames-from-client}n %{messages-from-client}n", "12 10"),
            ("%{frames-from-backend}n %{messages-from-backend}n", "7 5"),
            (
                "%{close-code-from-client}n %{close-text-from-client}n",
                r#"1001 \"bye\xff\n"#,
            ),
            (
                "%{close-code-from-backend}n [%{close-text-from-backend}n]",
                "1005 []",
            ),
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
        t.note().request = None;
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

    fn json(format: &str, t: &Transaction) -> String {
        let mut out = Vec::new();
        let format = LogFormat::parse_json(format).unwrap();
        format.render(t, TOOK, &mut out);
        let mut line = String::from_utf8(out).unwrap();
        assert_eq!(line.pop(), Some('\n'));
        assert_eq!(json::check(&line), Ok(()), "{line}");
        line
    }

    #[test]
    fn a_field_of_json_is_a_number_a_string_or_null_or_a_part_of_a_string() {
        let mut t = transaction();
        for (format, expected) in [
            (r#"{"a":%s,"b":%h}"#, r#"{"a":101,"b":"192.0.2.7"}"#),
            (
                r#"{"%m":[%r],"u":"%m %U%q"}"#,
                r#"{"GET":["GET /a%20b/../ws?x=%20 HTTP/1.1"],"u":"GET /ws?x=%20"}"#,
            ),
            (
                r#"{"a":%{User-Agent}i,"b":%{None}i,"c":"%{None}i","d":%400{Host}i,"e":%u}"#,
                r#"{"a":"\"evil\\\\x80\"","b":null,"c":"-","d":null,"e":null}"#,
            ),
            (
                r#"{"a":%{close-text-from-client}n,"b":%{close-code-from-backend}n,"c":%{event}n}"#,
                r#"{"a":"\"bye\\xff\u000a","b":1005,"c":"end"}"#,
            ),
            (
                r#"{"t":%{%F"\%t}t,"s":%{sec}t,"f":%{msec_frac}t}"#,
                r#"{"t":"2000-10-10\"\\\u0009","s":971186136,"f":"007"}"#,
            ),
            (r#"{"%%":"\\"}"#, r#"{"%":"\\"}"#),
        ] {
            assert_eq!(json(format, &t), expected, "{format}");
        }
        t = Transaction::new(1, t.peer, t.local, UNIX_EPOCH);
        assert_eq!(
            json(r#"{"a":%s,"b":%{silence}n,"c":%B,"d":%{backend}n}"#, &t),
            r#"{"a":null,"b":null,"c":0,"d":null}"#
        );
        t.is_open = true;
        assert_eq!(json(r#"{"e":%{event}n}"#, &t), r#"{"e":"open"}"#);
    }

    #[test]
    fn a_format_that_would_be_no_json_is_refused() {
        for (format, problem) in [
            ("%h", "expected an object"),
            (r#"{"a":%h,}"#, "expected a string"),
            (r#"{"a":%h%s}"#, "expected \",\""),
            (r#"{"a":0%s}"#, "expected \",\""),
            ("{\"a\":\n1}", "expected a value"),
            ("{\"a\":\"\n\"}", "the end of a string"),
            (r#"{"a":"%h}"#, "the end of a string"),
            (r#"{"a":%Z}"#, "unknown field"),
        ] {
            let error = LogFormat::parse_json(format).unwrap_err();
            assert!(error.contains(problem), "{format}: {error}");
        }
    }

    #[test]
    fn a_line_of_json_is_json_whatever_comes_from_outside() {
        let format = LogFormat::parse_json(JSON).unwrap();
        let mut noise = Noise::new(0x5eed_0008);
        let mut t = transaction();
        for _ in 0..3000 {
            t.request_line =
                noise.mangle(b"GET http://h/%41?x HTTP/1.1", b" %/?:\n\"\\\x00\xff\xc3");
            if let Some(seen) = &mut t.seen {
                let reason = noise.mangle(b"going \xf0\x9f\x91\x8b away", b"\"\\\x1b\x80\xf0");
                seen.from_backend.close = Some(Close { code: None, reason });
            }
            let mut out = Vec::new();
            format.render(&t, TOOK, &mut out);
            let line = String::from_utf8(out).unwrap();
            assert!(line.is_ascii(), "{line}");
            assert_eq!(
                json::check(line.strip_suffix('\n').unwrap()),
                Ok(()),
                "{line}"
            );
        }
    }

    #[test]
    fn an_aborted_client_is_marked() {
        let mut t = transaction();
        let failed = |side| Some(Box::new(CloseReason::Failed(side, "reset".to_owned())));
        t.close = failed(Side::Client);
        assert_eq!(line("%X", &t), "X");
        t.close = failed(Side::Backend);
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
            (
                "%{foo}n",
                "unknown note; expected one of backend, mapping, event",
            ),
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
