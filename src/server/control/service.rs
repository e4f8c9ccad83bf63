//! What is asked of the control thread, and what it answers.

use super::members;
use super::thread::Orders;
use super::visit::Caller;
use crate::error_log;
use crate::http::answer::OwnHead;
use crate::http::body::Framing;
use crate::http::head::RequestHead;
use crate::http::headers::Headers;
use crate::http::persistence::Afterwards;
use crate::server::Shared;
use crate::server::status::{self, Form, Snapshot};
use crate::transaction::CloseReason;
use std::sync::Arc;
use std::time::Instant;

/// What there is, for those who ask for something else.
const PLACES: &str = "GET /healthz, GET /readyz, GET /server-status (?auto, ?json, ?metrics, ?table) and GET /metrics";
const CHANGES: &str =
    "POST /end?id=NUMBER[&code=STATUS], POST /drain?member=URL, POST /undrain?member=URL";

/// An answer, with which its connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    fields: Vec<(&'static str, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Lines of text.
    fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            fields: vec![("Cache-Control", b"no-store".to_vec())],
            body: text.into().into_bytes(),
        }
    }

    /// What stands before the body.
    pub(super) fn head(&self, now_unix_seconds: u64) -> Vec<u8> {
        let head = OwnHead {
            status: self.status,
            fields: &self.fields,
            content_type: self.content_type,
            length: self.body.len(),
        };
        head.encode(now_unix_seconds, &Headers::default(), Afterwards::Ends)
    }
}

/// Answers requests.
pub(super) struct Service {
    shared: Arc<Shared>,
    orders: Arc<Orders>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, orders: Arc<Orders>) -> Self {
        Self { shared, orders }
    }

    /// Whether the answer may take megabytes.
    pub(super) fn may_be_large(head: &RequestHead) -> bool {
        let path = head.target().split('?').next();
        matches!(path, Some("/server-status" | "/metrics"))
    }

    /// What a request comes to.
    pub(super) fn answer(&self, head: &RequestHead, caller: Caller) -> Reply {
        let target = head.target();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if Framing::of_request(head).is_ok_and(Framing::has_body) {
            return Reply::text(
                413,
                "no body is read here; write parameters behind a \"?\"\n",
            );
        }
        match (path, head.method()) {
            ("/healthz" | "/readyz", "GET" | "HEAD") => self.probe(path),
            ("/server-status", "GET" | "HEAD") => self.status(Form::asked_for(Some(query))),
            ("/metrics", "GET" | "HEAD") => self.status(Form::Metrics),
            ("/end" | "/drain" | "/undrain", "POST") => {
                if let Some(refusal) = refused(caller) {
                    return refusal;
                }
                let outcome = if path == "/end" {
                    self.end(query, caller)
                } else {
                    self.drain(path, query, caller)
                };
                outcome.unwrap_or_else(|reply| reply)
            }
            ("/healthz" | "/readyz" | "/server-status" | "/metrics", _) => not_allowed("GET, HEAD"),
            ("/end" | "/drain" | "/undrain", _) => not_allowed("POST"),
            _ => Reply::text(
                404,
                format!(
                    "there is nothing at {path}; there are {PLACES}, and through the control socket {CHANGES}\n"
                ),
            ),
        }
    }

    fn probe(&self, path: &str) -> Reply {
        if path == "/readyz" && self.orders.is_stopping() {
            return Reply::text(503, "stopping\n");
        }
        Reply::text(200, "ok\n")
    }

    fn status(&self, form: Form) -> Reply {
        // Not in turn with workers that show it, of which there may be hundreds.
        let snapshot = Snapshot::take(&self.shared);
        Reply {
            status: 200,
            content_type: form.content_type(),
            fields: form.fields(),
            body: status::render(&snapshot, form),
        }
    }

    fn end(&self, query: &str, caller: Caller) -> Result<Reply, Reply> {
        let [id, code] = parameters(query, ["id", "code"])?;
        let text = id.ok_or_else(|| missing("id"))?;
        let id: u64 = text
            .parse()
            .map_err(|_| Reply::text(400, format!("\"{text}\" is no number of a tunnel\n")))?;
        let code = code.map(|text| {
            let code = text.parse().ok().filter(|code| is_close_status(*code));
            code.ok_or_else(|| {
                let expected = "1000 to 1003, 1007 to 1014 or 3000 to 4999";
                Reply::text(400, format!("code {text}: expected {expected}\n"))
            })
        });
        let code = code.transpose()?;
        let reason = CloseReason::Administrator { code };
        if !self.shared.tunnels.end(id, reason) {
            let text = format!("there is no tunnel {id}; --status lists those that are open\n");
            return Err(Reply::text(404, text));
        }
        let with = code.map_or(String::new(), |code| format!(" with code {code}"));
        let text = format!("tunnel {id} is told to end{with}");
        error_log::notice(&format!("{text}, at the request of {caller}"));
        Ok(Reply::text(200, text + "\n"))
    }

    fn drain(&self, path: &str, query: &str, caller: Caller) -> Result<Reply, Reply> {
        let [member] = parameters(query, ["member"])?;
        let member = member.ok_or_else(|| missing("member"))?;
        let generation = self.shared.in_force.get();
        let hosts = generation.config.hosts();
        let balancers = hosts.flat_map(|host| &host.balancers);
        let found = members::find(balancers, &member)
            .map_err(|(status, text)| Reply::text(status, text))?;
        let text = if path == "/drain" {
            found.drain(Instant::now())
        } else {
            found.undrain(Instant::now())
        };
        error_log::notice(&format!("{text}, at the request of {caller}"));
        Ok(Reply::text(200, text + "\n"))
    }
}

/// Whether a Close frame that an endpoint makes may have this status (RFC 6455 section 7.4 and its registry): not one that
/// is only for its own use, such as 1005, 1006 and 1015, and none that nobody has given a meaning.
fn is_close_status(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// What those are told who may only look.
fn refused(caller: Caller) -> Option<Reply> {
    let text = match caller {
        _ if caller.may_change() => return None,
        Caller::Local(peer) => format!(
            "user {} may look, and change nothing; root may, and the user that the server runs as\n",
            peer.user
        ),
        Caller::Remote(_) => {
            "nothing is changed from here; ask through the control socket\n".to_owned()
        }
    };
    Some(Reply::text(403, text))
}

fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = Reply::text(405, format!("expected {methods}\n"));
    reply.fields.push(("Allow", methods.into()));
    reply
}

fn missing(name: &str) -> Reply {
    Reply::text(400, format!("the parameter {name}= is missing\n"))
}

/// The values of the parameters with these names in a query. Others, and one that is there twice, are refused.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], Reply> {
    let mut values = [const { None }; N];
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let place = names.iter().position(|known| *known == name);
        let Some(place) = place.and_then(|place| values.get_mut(place)) else {
            let text = format!(
                "unknown parameter \"{name}\"; expected {}=\n",
                names.join("=, ")
            );
            return Err(Reply::text(400, text));
        };
        let value = decoded(value).ok_or_else(|| {
            Reply::text(
                400,
                format!("{name}=: \"{value}\" is not percent-encoded UTF-8\n"),
            )
        })?;
        if place.replace(value).is_some() {
            return Err(Reply::text(400, format!("{name}= is there twice\n")));
        }
    }
    Ok(values)
}

/// Without its percent-encoding (RFC 3986 section 2.1). None: it is none, or not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.split('%');
    bytes.extend_from_slice(rest.next()?.as_bytes());
    for part in rest {
        let (digits, behind) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(behind.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_statuses_are_those_that_may_be_sent() {
        let allowed: Vec<u16> = (0..=u16::MAX)
            .filter(|code| is_close_status(*code))
            .collect();
        assert_eq!(allowed.len(), 4 + 8 + 2000);
        for code in [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(!allowed.contains(&code), "{code}");
        }
    }

    #[test]
    fn parameters_are_percent_encoded_and_known() {
        let read = |query| parameters(query, ["id", "member"]);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read(""), Ok([None, None]));
        assert_eq!(
            read("member=ws://a:9/b?c=d"),
            Ok([None, text("ws://a:9/b?c=d")])
        );
        assert_eq!(
            read("member=%77s%3A&id=%C3%BC+"),
            Ok([text("ü+"), text("ws:")])
        );
        for query in [
            "ID=1",
            "id=1&id=1",
            "id=%",
            "id=%4",
            "id=%+1",
            "id=%g0",
            "id=%FF",
            "id&member=x&y",
        ] {
            let refused = read(query).unwrap_err();
            assert_eq!(refused.status, 400, "{query}");
        }
    }
}
