//! `%{NAME}`: what rules can ask of a request. Source: httpd mod_rewrite.c `lookup_variable`.

use super::Review;
use super::text::Values;
use crate::http::date::Date;
use crate::http::headers::is_token;
use crate::route::facts::{Fact, protocol};
use crate::tls::Session;
use std::borrow::Cow;

/// A variable that this program knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// `HTTP:name` and those with a name of their own: a field of the request, all of that name joined by commas.
    Header(String),
    /// `ENV:name`
    Environment(String),
    /// What is known of the connection.
    Fact(Fact),
    /// One of [`PLAIN`].
    Plain(Plain),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    RequestUri,
    QueryString,
    RequestMethod,
    TheRequest,
    ServerProtocol,
    ServerSoftware,
    Ipv6,
    IsSubrequest,
    Time,
    TimeYear,
    TimeMonth,
    TimeDay,
    TimeHour,
    TimeMinute,
    TimeSecond,
    TimeWeekday,
}

const PLAIN: &[(&str, Plain)] = &[
    ("REQUEST_URI", Plain::RequestUri),
    ("QUERY_STRING", Plain::QueryString),
    ("REQUEST_METHOD", Plain::RequestMethod),
    ("THE_REQUEST", Plain::TheRequest),
    ("SERVER_PROTOCOL", Plain::ServerProtocol),
    ("SERVER_SOFTWARE", Plain::ServerSoftware),
    ("IPV6", Plain::Ipv6),
    ("IS_SUBREQ", Plain::IsSubrequest),
    ("TIME", Plain::Time),
    ("TIME_YEAR", Plain::TimeYear),
    ("TIME_MON", Plain::TimeMonth),
    ("TIME_DAY", Plain::TimeDay),
    ("TIME_HOUR", Plain::TimeHour),
    ("TIME_MIN", Plain::TimeMinute),
    ("TIME_SEC", Plain::TimeSecond),
    ("TIME_WDAY", Plain::TimeWeekday),
];

/// Fields of the request that have a variable of their own.
const HEADERS: &[(&str, &str)] = &[
    ("HTTP_HOST", "Host"),
    ("HTTP_USER_AGENT", "User-Agent"),
    ("HTTP_REFERER", "Referer"),
    ("HTTP_COOKIE", "Cookie"),
    ("HTTP_ACCEPT", "Accept"),
    ("HTTP_FORWARDED", "Forwarded"),
    ("HTTP_PROXY_CONNECTION", "Proxy-Connection"),
];

/// Variables of httpd that cannot be known here, and why.
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (
        &[
            "REQUEST_FILENAME",
            "SCRIPT_FILENAME",
            "DOCUMENT_ROOT",
            "PATH_INFO",
            "SCRIPT_USER",
            "SCRIPT_GROUP",
            "CONTEXT_PREFIX",
            "CONTEXT_DOCUMENT_ROOT",
        ],
        "this program serves no files; the path is in %{REQUEST_URI}",
    ),
    (
        &["REMOTE_USER", "REMOTE_IDENT", "AUTH_TYPE"],
        "this program asks nobody for a name; what a client or a proxy before this one claims is in %{HTTP:name}",
    ),
    (
        &["REMOTE_HOST"],
        "addresses are not looked up; write %{REMOTE_ADDR}",
    ),
    (
        &["SERVER_ADMIN", "API_VERSION", "HANDLER"],
        "there is nothing of this kind here",
    ),
];

/// Prefixes of names that cannot be known here, and why.
const UNSUPPORTED_PREFIXES: &[(&str, &str)] = &[
    (
        "LA-U:",
        "looking ahead needs a subrequest, and there is none here",
    ),
    (
        "LA-F:",
        "looking ahead needs a file, and this program serves none",
    ),
];

impl Variable {
    /// Finds a variable by what stands in the braces, in any case.
    // httpd: takes an unknown name for an empty text, so that a misspelled condition is silently true or false.
    pub(super) fn parse(name: &str, review: &Review<'_>) -> Result<Self, String> {
        let behind = |prefix: &str| {
            let (start, rest) = name.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(rest)
        };
        if let Some(header) = behind("HTTP:") {
            if !is_token(header.as_bytes()) {
                return Err(format!(
                    "\"%{{{name}}}\": expected the name of a header field behind HTTP:"
                ));
            }
            return Ok(Self::Header(header.to_owned()));
        }
        if let Some(variable) = behind("ENV:") {
            if variable.is_empty() {
                return Err(format!("\"%{{{name}}}\": expected a name behind ENV:"));
            }
            return Ok(Self::Environment(variable.to_owned()));
        }
        if let Some(name) = behind("SSL:") {
            return Session::named(name)
                .map(|name| Self::Fact(Fact::Tls(name)))
                .ok_or_else(|| {
                    format!(
                        "\"%{{SSL:{name}}}\": expected one of {} behind SSL:",
                        Session::NAMES.join(", ")
                    )
                });
        }
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        if let Some(fact) = Fact::named(name) {
            return Ok(Self::Fact(fact));
        }
        if let Some((_, plain)) = PLAIN.iter().find(|(known, _)| is(known)) {
            return Ok(Self::Plain(*plain));
        }
        if let Some((_, header)) = HEADERS.iter().find(|(known, _)| is(known)) {
            return Ok(Self::Header((*header).to_owned()));
        }
        let by_name = UNSUPPORTED
            .iter()
            .find(|(names, _)| names.iter().any(|known| is(known)))
            .map(|(_, why)| why);
        let by_prefix = UNSUPPORTED_PREFIXES
            .iter()
            .find(|(prefix, _)| behind(prefix).is_some())
            .map(|(_, why)| why);
        if let Some(why) = by_name.or(by_prefix) {
            return Err(format!("\"%{{{name}}}\" is not supported: {why}"));
        }
        let known: Vec<&'static str> = PLAIN
            .iter()
            .map(|(name, _)| *name)
            .chain(Fact::NAMES.iter().map(|(name, _)| *name))
            .chain(HEADERS.iter().map(|(name, _)| *name))
            .collect();
        Err(match (review.near)(name, &known) {
            Some(near) => {
                format!("unknown variable \"%{{{name}}}\"; did you mean \"%{{{near}}}\"?")
            }
            None => format!(
                "unknown variable \"%{{{name}}}\"; a header field is written %{{HTTP:name}}, a variable of the \
                 environment %{{ENV:name}}"
            ),
        })
    }

    /// Its value for a request; empty where there is none.
    pub(super) fn value<'v>(&self, of: &'v Values<'_>) -> Cow<'v, [u8]> {
        match self {
            Self::Header(name) => of.head.headers.joined(name).unwrap_or_default(),
            Self::Environment(name) => of.environment.get(name).unwrap_or_default().into(),
            Self::Fact(fact) => match of.facts.get(*fact) {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            },
            Self::Plain(plain) => plain.value(of),
        }
    }
}

impl Plain {
    fn value<'v>(self, of: &'v Values<'_>) -> Cow<'v, [u8]> {
        let text = match self {
            Self::RequestUri => return Cow::Borrowed(of.path),
            Self::QueryString => of.query.unwrap_or_default(),
            Self::RequestMethod => of.head.method(),
            Self::ServerSoftware => "proxy-wstunnel",
            Self::ServerProtocol => protocol(of.head.version),
            Self::Ipv6 if of.facts.peer.ip().to_canonical().is_ipv6() => "on",
            Self::Ipv6 => "off",
            Self::IsSubrequest => "false",
            _ => return self.written(of).into_bytes().into(),
        };
        text.as_bytes().into()
    }

    /// Those that have to be written first.
    fn written(self, of: &Values<'_>) -> String {
        // httpd: in local time. The server's time zone is no business of a rule that shall mean the same everywhere.
        let date = Date::from_unix(of.facts.unix_seconds);
        match self {
            Self::TheRequest => {
                let (method, target) = (of.head.method(), of.head.target());
                format!("{method} {target} {}", protocol(of.head.version))
            }
            Self::Time => format!(
                "{:04}{:02}{:02}{:02}{:02}{:02}",
                date.year, date.month, date.day, date.hour, date.minute, date.second
            ),
            Self::TimeYear => format!("{:04}", date.year),
            Self::TimeMonth => format!("{:02}", date.month),
            Self::TimeDay => format!("{:02}", date.day),
            Self::TimeHour => format!("{:02}", date.hour),
            Self::TimeMinute => format!("{:02}", date.minute),
            Self::TimeSecond => format!("{:02}", date.second),
            Self::TimeWeekday => date.weekday.to_string(),
            _ => String::new(),
        }
    }
}
