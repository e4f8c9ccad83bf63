//! The fields that no line may change: they say where a message ends, or hold the two ends of a handshake together.

use super::List;
use crate::http::headers::{is_hop_by_hop, is_token};

/// Lets pass the names of fields that may be changed.
///
/// # Errors
/// That `name` is none, or why `Header` or `RequestHeader` cannot change that field, and what does.
pub(super) fn check(list: List, name: &str) -> Result<(), String> {
    if !is_token(name.as_bytes()) {
        return Err(format!(
            "{name:?} is not the name of a header field; expected letters, digits and \"-\""
        ));
    }
    let is = |own: &&str| own.eq_ignore_ascii_case(name);
    let reason = |rules: &[(&[&str], &'static str)]| {
        let rule = rules.iter().find(|(names, _)| names.iter().any(is));
        rule.map(|(_, reason)| *reason)
    };
    let found = reason(EVERYWHERE).or_else(|| match list {
        List::Request => reason(REQUESTS),
        List::Answer => reason(ANSWERS),
        List::Always => reason(ANSWERS).or_else(|| reason(OUR_OWN)),
    });
    // Whatever else ends at this hop would not be passed on either.
    let one_hop = || {
        is_hop_by_hop(name)
            .then_some("it holds for one connection, and does not pass through a proxy")
    };
    match found.or_else(one_hop) {
        Some(reason) => Err(format!("{name} cannot be changed: {reason}")),
        None => Ok(()),
    }
}

type Rules = &'static [(&'static [&'static str], &'static str)];

const EVERYWHERE: Rules = &[
    (
        &["Content-Length", "Transfer-Encoding", "Trailer"],
        "it says where the message ends, and a wrong one would make a second message of its rest",
    ),
    (
        &["Upgrade", "Connection"],
        "both sides are asked for the upgrade by this program; upgrade= of ProxyPass names the protocol, and upgrade=NONE \
         is for clients behind something that removes Upgrade",
    ),
    (
        &[
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
        ],
        "the handshake is verified by it",
    ),
];

const REQUESTS: Rules = &[(
    &["Expect"],
    "it is never passed on, since a backend that answers 100 would do it in the middle of the handshake; remove the line",
)];

const ANSWERS: Rules = &[
    (
        &["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"],
        "client and backend would no longer mean the same by the bytes of the tunnel; to forbid one, write RequestHeader \
         unset",
    ),
    (&["Host"], "it belongs to requests; write RequestHeader"),
];

/// With text of the client in it, our own answers must stay what they say they are; and a page has its type from its file.
const OUR_OWN: Rules = &[(
    &["Content-Type"],
    "answers of this program are plain text, or what ErrorDocument gives; for those of a backend write Header without \
     always",
)];
