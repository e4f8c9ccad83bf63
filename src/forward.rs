//! The heads as the other side shall see them: requests in one file, answers in the other, and here what both hold to:
//! which fields end at this hop, what we write into `Via`, and how a field is written.

mod answer;
mod request;

pub use answer::{
    AnswerPolicy, Delivery, Writing, answer_head, interim_head, passing_trailers, switched_head,
};
pub use request::{Manner, Policy, count_hop, exchange_head, takes_trailers, upgrade_head};

use crate::http::head::Version;
use crate::http::headers::{Headers, is_hop_by_hop};
use crate::route::settings::Via;

/// Room for a browser's head, so that writing one is one allocation.
const USUAL_HEAD: usize = 1024;

const PRODUCT: &str = concat!("proxy-wstunnel/", env!("CARGO_PKG_VERSION"));

const VIA: &str = "Via";

/// What we write into `Via` of a message that came to us in this version (RFC 9110 section 7.6.3).
fn via_entry(via: Via, version: Version, name: &str, port: Option<u16>) -> Option<String> {
    let comment = match via {
        Via::Off | Via::Block => return None,
        Via::On => String::new(),
        Via::Full => format!(" ({PRODUCT})"),
    };
    let version = match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    // A bare IPv6 address would end at its first colon.
    Some(match name.contains(':') {
        true => format!("{version} [{name}]{port}{comment}"),
        false => format!("{version} {name}{port}{comment}"),
    })
}

/// Which fields of a message go beyond this hop (RFC 9110 section 7.6.1).
struct Hop<'a> {
    /// What `Connection` names beside the fields that never pass.
    named: Vec<&'a [u8]>,
}

impl<'a> Hop<'a> {
    fn of(headers: &'a Headers) -> Self {
        let named = headers.tokens("Connection").filter(|token| {
            std::str::from_utf8(token)
                .is_ok_and(|token| !is_hop_by_hop(token) && !is_protected(token))
        });
        Self {
            named: named.collect(),
        }
    }

    /// Where the body ends is said anew on each hop: no `Content-Length` passes either.
    fn passes(&self, name: &str) -> bool {
        !is_hop_by_hop(name) && !name.eq_ignore_ascii_case("Content-Length") && !self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        let is = |named: &&[u8]| named.eq_ignore_ascii_case(name.as_bytes());
        self.named.iter().any(is)
    }
}

/// Fields that `Connection` may not name. Whoever could take them out on the way would decide what the backend believes
/// about who is asking, and for what.
fn is_protected(name: &str) -> bool {
    const NAMES: [&str; 4] = ["Host", "Authorization", "Cookie", "Origin"];
    const PREFIXES: [&str; 2] = ["X-Forwarded-", "Sec-WebSocket-"];
    let has = |prefix: &&str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    NAMES.iter().any(|own| own.eq_ignore_ascii_case(name)) || PREFIXES.iter().any(has)
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    push_all(out, &[name, ": "]);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_all(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
