//! `key=value` parameters of backends, behind a URL or in `ProxySet`. Source: httpd mod_proxy.c `set_worker_param`.

use super::names;
use super::value::{self, Unit::Milliseconds, Unit::Seconds};
use crate::handshake::Upgrade;
use crate::route::backend::Parameters;

/// The parameters that are obeyed.
const OBEYED: [&str; 9] = [
    "acquire",
    "connectiontimeout",
    "keepalive",
    "max",
    "receivebuffersize",
    "responsefieldsize",
    "status",
    "timeout",
    "upgrade",
];

/// What stands among them without a value.
const FLAGS: [&str; 3] = ["nocanon", "noquery", "interpolate"];

/// Parameters of httpd that are taken and change nothing, and why.
const NOTED: &[(&[&str], &str)] = &[
    (
        &["disablereuse", "enablereuse", "min", "smax", "ttl"],
        "has no effect: each tunnel has a connection to the backend of its own, so there is none to keep",
    ),
    (
        &["retry"],
        "has no effect: a single backend is never left alone after a failure, each request tries it",
    ),
    (
        &["iobuffersize", "flushpackets", "flushwait"],
        "has no effect: what a tunnel reads it writes at once, in buffers of its own",
    ),
];

/// Parameters of httpd that are refused, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["mapping"],
        "not supported by this version: paths are matched decoded and in canonical form; remove it",
    ),
    (
        &[
            "route",
            "redirect",
            "loadfactor",
            "lbset",
            "lbmethod",
            "stickysession",
            "stickysessionsep",
            "scolonpathdelim",
            "nofailover",
            "maxattempts",
            "failonstatus",
            "failontimeout",
            "forcerecovery",
            "nonce",
            "growth",
        ],
        "it belongs to balancers, which are not supported by this version; remove it",
    ),
    (
        &["ping"],
        "it probes ordinary requests that have a body, and a request for a tunnel has none; remove it",
    ),
    (
        &["addressttl"],
        "not supported by this version: an address is looked up anew after 30 seconds; remove it",
    ),
    (
        &["secret", "flusher", "multipathtcp"],
        "it belongs to other protocols than WebSocket; remove it",
    ),
];

/// Takes one `key=value`; keys in any case, the last of a key counts. A note, where it has no effect.
///
/// # Errors
/// An unknown key, a wrong value, or what is refused by name.
pub(super) fn take(parameters: &mut Parameters, word: &str) -> Result<Option<String>, String> {
    let (key, value) = match value::key_value(word) {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    let lower = key.to_ascii_lowercase();
    let of = |list: &[(&[&str], &'static str)]| {
        let found = list.iter().find(|(keys, _)| keys.contains(&lower.as_str()));
        found.map(|(_, why)| *why)
    };
    if let Some(why) = of(REFUSED) {
        return Err(format!("parameter \"{key}\": {why}"));
    }
    let Some(value) = value else {
        return Err(match names::near_miss(key, FLAGS) {
            Some(near) => format!("unknown flag \"{word}\"; did you mean \"{near}\"?"),
            None => format!("expected parameters in the form key=value, found \"{word}\""),
        });
    };
    if let Some(why) = of(NOTED) {
        return Ok(Some(format!("\"{word}\" {why}")));
    }
    let positive = |unit| value::positive_duration(value, unit);
    let done = match lower.as_str() {
        "connectiontimeout" => {
            positive(Seconds).map(|limit| parameters.connect_timeout = Some(limit))
        }
        "timeout" => positive(Seconds).map(|limit| parameters.timeout = Some(limit)),
        "acquire" => positive(Milliseconds).map(|limit| parameters.acquire = Some(limit)),
        "upgrade" => Upgrade::parse(value).map(|upgrade| parameters.upgrade = Some(upgrade)),
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
            // A single backend is always asked, whatever came of the last time.
            'I' | 'E' => {}
            'H' | 'R' | 'N' | 'C' | 'O' | 'G' | 'U' | 'F' => {
                return Err(format!(
                    "the letter {letter} in \"{text}\" belongs to balancers, which are not supported by this version"
                ));
            }
            _ => {
                return Err(format!(
                    "unknown letter {letter:?} in \"{text}\"; expected D or S (not to be used), with + or - before it"
                ));
            }
        }
    }
    Ok(is_disabled)
}

/// What is legal and probably not meant.
pub(super) fn doubts(parameters: &Parameters) -> Vec<String> {
    let named = [
        ("connectiontimeout", parameters.connect_timeout),
        ("timeout", parameters.timeout),
    ];
    let limits = named.into_iter();
    let mut doubts: Vec<String> = limits
        .filter_map(|(key, limit)| value::doubtful_limit(key, limit?))
        .collect();
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
    use std::time::Duration;

    #[test]
    fn a_key_is_obeyed_noted_or_refused_by_name() {
        let refusal = |word: &str| take(&mut Parameters::default(), word).unwrap_err();
        assert!(refusal("timout=5").contains("did you mean \"timeout\"?"));
        assert!(refusal("frobnicate=1").contains("expected acquire"));
        assert!(refusal("lbset=5").contains("balancers"));
        assert!(refusal("timeout").contains("key=value"));
        assert!(refusal("timeout=0").starts_with("timeout: "));
        assert!(refusal("max=0").starts_with("max: "));
        assert!(refusal("receivebuffersize=511").contains("too small"));
        assert!(refusal("status=+H").contains("balancers"));
        assert!(refusal("status=+X").contains("unknown letter"));
        assert!(refusal("=5").contains("key=value"));
        let mut parameters = Parameters::default();
        let mut take = |word| take(&mut parameters, word).unwrap();
        assert_eq!(take("TimeOut=500ms"), None);
        assert_eq!(take("acquire=20"), None);
        assert_eq!(take("status=+D"), None);
        assert!(take("retry=5").unwrap().contains("no effect"));
        assert_eq!(parameters.timeout, Some(Duration::from_millis(500)));
        assert_eq!(parameters.acquire, Some(Duration::from_millis(20)));
        assert_eq!(parameters.is_disabled, Some(true));
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
