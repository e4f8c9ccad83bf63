//! `key=value` parameters of backends, behind a URL or in `ProxySet`. Source: httpd mod_proxy.c `set_worker_param`.

use super::health::EXPRESSIONS;
use super::value::{self, Unit::Milliseconds, Unit::Seconds};
use super::{balancers, exchange, names};
use crate::handshake::Upgrade;
use crate::route::backend::Parameters;
use crate::route::url::{BackendUrl, Scheme};
use std::time::Duration;

/// The parameters that are obeyed.
const OBEYED: [&str; 16] = [
    "acquire",
    "addressttl",
    "connectiontimeout",
    "disablereuse",
    "enablereuse",
    "iobuffersize",
    "keepalive",
    "max",
    "ping",
    "receivebuffersize",
    "responsefieldsize",
    "smax",
    "status",
    "timeout",
    "ttl",
    "upgrade",
];

/// What stands among them without a value.
const FLAGS: [&str; 3] = ["nocanon", "noquery", "interpolate"];

/// Keys, and what is said about each of them.
type Told = &'static [(&'static [&'static str], &'static str)];

/// Parameters of httpd that are taken and change nothing, and why.
const NOTED: Told = &[
    (
        &["retry"],
        "has no effect: a single backend is never left alone after a failure, each request tries it",
    ),
    (
        &["route", "redirect", "loadfactor", "lbset"],
        "has no effect: it tells members of a balancer apart, and this is a single backend",
    ),
];

/// The same where requests become tunnels.
const NOTED_OF_TUNNELS: Told = &[
    (
        &["disablereuse", "enablereuse", "min", "smax", "ttl"],
        "has no effect: each tunnel has a connection to the backend of its own, so there is none to keep",
    ),
    (
        &["iobuffersize", "flushpackets", "flushwait"],
        "has no effect: what a tunnel reads it writes at once, in buffers of its own",
    ),
];

/// The same where they do not.
const NOTED_OF_EXCHANGES: Told = &[
    (
        &["min"],
        "has no effect: no connection is opened before a request needs it",
    ),
    (
        &["flushpackets", "flushwait"],
        "has no effect: what has come of an answer is passed on at once when nothing more is there",
    ),
];

/// Parameters of httpd that are refused, and why.
const REFUSED: Told = &[
    (
        &["mapping"],
        "not supported by this version: paths are matched decoded and in canonical form; remove it",
    ),
    (
        &[
            "hcfails",
            "hcinterval",
            "hcmethod",
            "hcpasses",
            "hctemplate",
            "hcuri",
        ],
        "health is checked of the members of a balancer, and a single backend is always asked; remove it",
    ),
    (&["hcexpr"], EXPRESSIONS),
    (
        &["secret", "flusher", "multipathtcp"],
        "it belongs to other protocols than HTTP and WebSocket; remove it",
    ),
];

/// The same where requests become tunnels.
const REFUSED_OF_TUNNELS: Told = &[(
    &["ping"],
    "it probes ordinary requests that have a body, and a request for a tunnel has none; remove it",
)];

/// Takes one `key=value` for a backend with which this scheme is spoken; keys in any case, the last of a key counts. A note,
/// where it has no effect.
///
/// # Errors
/// An unknown key, a wrong value, or what is refused by name.
pub(super) fn take(
    parameters: &mut Parameters,
    word: &str,
    scheme: Scheme,
) -> Result<Option<String>, String> {
    let (noted, refused) = if scheme.is_tunnel() {
        (NOTED_OF_TUNNELS, REFUSED_OF_TUNNELS)
    } else {
        (NOTED_OF_EXCHANGES, &[] as Told)
    };
    let (key, value) = match value::key_value(word) {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    let lower = key.to_ascii_lowercase();
    let told = |all: Told, own: Told| {
        let mut list = all.iter().chain(own);
        let found = list.find(|(keys, _)| keys.contains(&lower.as_str()));
        found.map(|(_, why)| *why)
    };
    if balancers::is_of_balancers(&lower) {
        return Err(format!(
            "parameter \"{key}\": it belongs to a balancer as a whole; write it behind the URL of a ProxyPass to \
             balancer://, or in ProxySet"
        ));
    }
    if let Some(why) = told(REFUSED, refused) {
        return Err(format!("parameter \"{key}\": {why}"));
    }
    let Some(value) = value else {
        return Err(match names::near_miss(key, FLAGS) {
            Some(near) if near == lower => {
                format!("\"{word}\" may stand behind the URL of a ProxyPass only")
            }
            Some(near) => format!("unknown flag \"{word}\"; did you mean \"{near}\"?"),
            None => format!("expected parameters in the form key=value, found \"{word}\""),
        });
    };
    if let Some(why) = told(NOTED, noted) {
        return Ok(Some(format!("\"{word}\" {why}")));
    }
    let positive = |unit| value::positive_duration(value, unit);
    let done = match lower.as_str() {
        "connectiontimeout" => {
            positive(Seconds).map(|limit| parameters.connect_timeout = Some(limit))
        }
        "addressttl" => address_ttl(value).map(|limit| parameters.address_ttl = Some(limit)),
        "timeout" => positive(Seconds).map(|limit| parameters.timeout = Some(limit)),
        "acquire" => positive(Milliseconds).map(|limit| parameters.acquire = Some(limit)),
        "upgrade" => Upgrade::parse(value).map(|upgrade| parameters.upgrade = Some(upgrade)),
        "disablereuse" => value::on_off(value).map(|off| parameters.reuse = Some(!off)),
        "enablereuse" => value::on_off(value).map(|on| parameters.reuse = Some(on)),
        "ttl" => time_to_live(value).map(|limit| parameters.ttl = Some(limit)),
        "smax" => value::integer(value, 0..=10_000_000).map(|most| parameters.smax = Some(most)),
        "ping" => positive(Seconds).map(|limit| parameters.ping = Some(limit)),
        "iobuffersize" => exchange::io_buffer(value).map(|size| parameters.io_buffer = Some(size)),
        "keepalive" => value::on_off(value).map(|on| parameters.keepalive = Some(on)),
        "max" => value::integer(value, 1..=10_000_000).map(|most| parameters.max = Some(most)),
        "receivebuffersize" => {
            value::receive_buffer(value).map(|size| parameters.receive_buffer = Some(size))
        }
        "responsefieldsize" => value::integer(value, 1..=crate::http::head::MAX_HEAD)
            .map(|size| parameters.answer_field = Some(size)),
        "status" => status(value).map(|disabled| parameters.is_disabled = Some(disabled)),
        _ => {
            return Err(match names::near_miss(key, OBEYED) {
                Some(near) => format!("unknown parameter \"{key}\"; did you mean \"{near}\"?"),
                None => format!(
                    "unknown parameter \"{key}\"; expected {}",
                    OBEYED.join(", ")
                ),
            });
        }
    };
    done.map_err(|problem| format!("{lower}: {problem}"))?;
    Ok(None)
}

/// How long an answer of the name servers holds.
fn address_ttl(text: &str) -> Result<Duration, String> {
    match text {
        "-1" => Ok(Duration::MAX),
        _ => {
            value::duration(text, Seconds).map_err(|problem| format!("{problem}, or -1 for no end"))
        }
    }
}

/// Whether backends have a parameter of this name, in lower case.
pub(super) fn is_known(key: &str) -> bool {
    let told = [NOTED, NOTED_OF_TUNNELS, REFUSED, REFUSED_OF_TUNNELS];
    let mut told = told.into_iter().flatten();
    OBEYED.contains(&key) || told.any(|(keys, _)| keys.contains(&key))
}

fn time_to_live(text: &str) -> Result<Duration, String> {
    let limit = value::duration(text, Seconds)?;
    if limit < Duration::from_secs(1) {
        return Err(format!(
            "\"{text}\" is too short; expected one second or more, or disablereuse=On to keep no connection"
        ));
    }
    Ok(limit)
}

/// What is wrong with parameters for the backend at `url`, where `path` comes behind it: only what becomes a tunnel is
/// upgraded.
pub(super) fn contradiction(
    parameters: &Parameters,
    url: &BackendUrl,
    path: &str,
) -> Option<String> {
    if parameters.upgrade.is_none() || url.scheme.is_tunnel() {
        return None;
    }
    let tunnel = BackendUrl {
        scheme: url.scheme.of_tunnel(),
        ..url.clone()
    };
    Some(format!(
        "parameter \"upgrade\": {}:// is never upgraded; write \"{tunnel}{path}\" for tunnels",
        url.scheme.name()
    ))
}

/// The letters of `status=` that have a meaning for a single backend.
fn status(text: &str) -> Result<bool, String> {
    let mut is_disabled = false;
    let mut sets = true;
    for letter in text.chars() {
        match letter.to_ascii_uppercase() {
            '+' => sets = true,
            '-' => sets = false,
            // Disabled and stopped differ in what a balancer manager shows.
            'D' | 'S' => is_disabled = sets,
            // A single backend is always asked, whatever came of the last time, and nobody else takes its place.
            'I' | 'E' | 'H' | 'R' | 'N' => {}
            _ => {
                return Err(format!(
                    "unknown letter {letter:?} in \"{text}\"; expected D or S (not to be used), with + or - before it"
                ));
            }
        }
    }
    Ok(is_disabled)
}

/// What has no effect on the backend at `url`.
pub(super) fn note(parameters: &Parameters, url: &BackendUrl) -> Option<&'static str> {
    let is_of_tcp = parameters.keepalive.is_some() || parameters.receive_buffer.is_some();
    (url.socket.is_some() && is_of_tcp).then_some(
        "keepalive= and receivebuffersize= have no effect: they are for TCP, and this is a Unix socket",
    )
}

/// What is legal for the backend at `url`, and probably not meant.
pub(super) fn doubts(parameters: &Parameters, url: &BackendUrl) -> Vec<String> {
    let named = [
        ("connectiontimeout", parameters.connect_timeout),
        ("timeout", parameters.timeout),
        ("ping", parameters.ping),
    ];
    let limits = named.into_iter();
    let mut doubts: Vec<String> = limits
        .filter_map(|(key, limit)| value::doubtful_limit(key, limit?))
        .collect();
    if !url.scheme.is_tls() && url.port == 443 {
        doubts.push(format!(
            "\"{url}\" speaks without TLS to port 443, where it is usual; write {}s:// if that is meant",
            url.scheme.name()
        ));
    }
    if parameters.upgrade == Some(Upgrade::None) {
        doubts.push(
            "upgrade=NONE: the client's Upgrade field is not looked at, so any request from any page opens a tunnel"
                .to_owned(),
        );
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_obeyed_noted_or_refused_by_name() {
        let refusal = |word: &str| take(&mut Parameters::default(), word, Scheme::Ws).unwrap_err();
        assert!(refusal("timout=5").contains("did you mean \"timeout\"?"));
        assert!(refusal("frobnicate=1").contains("expected acquire"));
        assert!(refusal("lbmethod=byrequests").contains("balancer as a whole"));
        assert!(refusal("timeout").contains("key=value"));
        assert!(refusal("timeout=0").starts_with("timeout: "));
        assert!(refusal("max=0").starts_with("max: "));
        assert!(refusal("receivebuffersize=511").contains("too small"));
        assert!(refusal("status=+X").contains("unknown letter"));
        assert!(refusal("=5").contains("key=value"));
        assert!(refusal("addressttl=-2").contains("or -1"));
        let mut parameters = Parameters::default();
        let mut take = |word| take(&mut parameters, word, Scheme::Wss).unwrap();
        assert_eq!(take("addressttl=-1"), None);
        assert_eq!(take("TimeOut=500ms"), None);
        assert_eq!(take("acquire=20"), None);
        assert_eq!(take("status=+D"), None);
        assert_eq!(take("status=+H"), None);
        assert_eq!(take("status=+D"), None);
        assert!(take("retry=5").unwrap().contains("no effect"));
        assert!(take("lbset=5").unwrap().contains("no effect"));
        assert_eq!(parameters.timeout, Some(Duration::from_millis(500)));
        assert_eq!(parameters.acquire, Some(Duration::from_millis(20)));
        assert_eq!(parameters.is_disabled, Some(true));
        assert_eq!(parameters.address_ttl, Some(Duration::MAX));
    }

    #[test]
    fn connections_are_kept_for_ordinary_requests_only() {
        let mut parameters = Parameters::default();
        let mut taken = |word| take(&mut parameters, word, Scheme::Http).unwrap();
        for word in [
            "disablereuse=On",
            "ttl=2min",
            "SMAX=0",
            "ping=500ms",
            "iobuffersize=512",
        ] {
            assert_eq!(taken(word), None, "{word}");
        }
        assert!(taken("min=5").unwrap().contains("before a request"));
        assert!(taken("flushpackets=auto").unwrap().contains("no effect"));
        assert!(taken("retry=5").unwrap().contains("no effect"));
        let expected = Parameters {
            reuse: Some(false),
            ttl: Some(Duration::from_secs(120)),
            smax: Some(0),
            ping: Some(Duration::from_millis(500)),
            io_buffer: Some(512),
            ..Parameters::default()
        };
        assert_eq!(parameters, expected);
        take(&mut parameters, "enablereuse=on", Scheme::Https).unwrap();
        assert_eq!(parameters.reuse, Some(true));
        let mut tunnels = Parameters::default();
        let mut taken = |word| take(&mut tunnels, word, Scheme::Ws);
        for word in ["disablereuse=On", "ttl=x", "smax=5", "iobuffersize=512"] {
            assert!(
                taken(word).unwrap().unwrap().contains("no effect"),
                "{word}"
            );
        }
        assert!(taken("ping=5").unwrap_err().contains("tunnel"));
        assert_eq!(tunnels, Parameters::default());
    }

    #[test]
    fn what_is_out_of_range_for_ordinary_requests_is_refused() {
        let mut parameters = Parameters::default();
        for word in [
            "disablereuse=yes",
            "ttl=0",
            "ttl=999ms",
            "smax=-1",
            "ping=0",
            "iobuffersize=511",
        ] {
            let (key, _) = word.split_once('=').unwrap();
            let why = take(&mut parameters, word, Scheme::Https).unwrap_err();
            assert!(why.starts_with(&format!("{key}: ")), "{why}");
        }
        assert_eq!(parameters, Parameters::default());
    }

    #[test]
    fn what_is_never_upgraded_is_shown_as_what_is() {
        let parameters = Parameters {
            upgrade: Some(Upgrade::Any),
            ..Parameters::default()
        };
        let url = |text| BackendUrl::parse(text).unwrap();
        let said = |text| contradiction(&parameters, &url(text), "/$1").unwrap();
        assert!(said("https://b:9/x").contains("\"wss://b:9/x/$1\""));
        assert!(said("http://b").contains("http:// is never upgraded; write \"ws://b/$1\""));
        assert_eq!(contradiction(&parameters, &url("ws://b"), ""), None);
        let none = Parameters::default();
        assert_eq!(contradiction(&none, &url("http://b"), ""), None);
    }

    #[test]
    fn a_letter_is_set_and_taken_back() {
        for (text, disabled) in [
            ("D", true),
            ("+S", true),
            ("+D-D", false),
            ("-D", false),
            ("I", false),
            ("-I+D", true),
        ] {
            assert_eq!(status(text), Ok(disabled), "{text}");
        }
    }
}
