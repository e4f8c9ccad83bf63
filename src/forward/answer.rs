//! An answer's head as the client shall see it: a verified 101, an ordinary answer, one with 1xx, and the trailer fields
//! behind a body. The fields keep their order, but for those that end at this hop; where the body ends, and what becomes
//! of the connection, is said anew.
//!
//! What `Header` says is done here, behind all that the proxy does by itself.

use super::{Hop, USUAL_HEAD, VIA, is_protected, push_field, via_entry};
use crate::http::body::Framing;
use crate::http::date;
use crate::http::head::{ResponseHead, Version};
use crate::http::headers::{Headers, is_hop_by_hop};
use crate::http::persistence::Afterwards;
use crate::route::edit::{self, Circumstances, HeaderEdit};
use crate::route::reverse::{self, Reverse};
use crate::route::settings::Via;
use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

/// What the configuration has to say about an answer's head.
#[derive(Debug, Clone, Copy)]
pub struct AnswerPolicy<'a> {
    /// The name of the virtual host.
    pub server_name: &'a str,
    /// As in [`Policy::port`](super::Policy::port).
    pub port: Option<u16>,
    /// Whether we name ourselves.
    pub via: Via,
    /// The lines of `ProxyPassReverse` and its kin.
    pub reverse: &'a [Arc<Reverse>],
    /// The lines of `Header`.
    pub edits: &'a [Arc<HeaderEdit>],
    /// What they need to know.
    pub about: Circumstances<'a>,
}

impl AnswerPolicy<'_> {
    /// The fields of an answer with what the configuration makes of them, and which of them go beyond this hop. What the
    /// backend's `Connection` names is gone by then: it has no say in what is added here.
    fn prepared<'a>(&self, answer: &'a ResponseHead) -> (Cow<'a, Headers>, Hop<'a>) {
        let mut hop = Hop::of(&answer.headers);
        let via = via_entry(self.via, answer.version, self.server_name, self.port);
        if via.is_none() && self.reverse.is_empty() && self.edits.is_empty() {
            return (Cow::Borrowed(&answer.headers), hop);
        }
        let mut headers = answer.headers.clone();
        headers.retain(|name, _| !hop.names(name));
        hop.named.clear();
        // Of its own, as in httpd.
        if let Some(entry) = via {
            headers.push(VIA, entry.as_bytes());
        }
        reverse::apply(self.reverse, &mut headers, &self.about.facts);
        edit::apply(self.edits, &mut headers, &self.about);
        (Cow::Owned(headers), hop)
    }
}

/// A verified 101 as the client gets it: the same fields in the same order, but for those that end at this hop, and with
/// what the configuration makes of them. `Upgrade` and `Connection: Upgrade` begin one hop anew, and stay where they were.
pub fn switched_head(answer: &ResponseHead, policy: &AnswerPolicy<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_HEAD);
    push_status_line(&mut out, answer);
    let (headers, hop) = policy.prepared(answer);
    let mut connected = false;
    for (name, value) in headers.iter() {
        if name.eq_ignore_ascii_case("Connection") {
            if !connected {
                push_field(&mut out, "Connection", b"Upgrade");
            }
            connected = true;
        } else if name.eq_ignore_ascii_case("Upgrade") || hop.passes(name) {
            push_field(&mut out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// How the bytes of an answer's body have to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As they are.
    Plain,
    /// In chunks, with what ends them.
    Chunked,
}

/// What a client can take, and gets.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// The version of its request.
    pub version: Version,
    /// What becomes of its connection.
    pub afterwards: Afterwards,
    /// It takes trailer fields.
    pub takes_trailers: bool,
}

impl Delivery {
    /// How a body is written whose end is known in this way, and what then becomes of the connection: one that does not
    /// say where it ends goes on to the connection's end, but in chunks, of which HTTP/1.0 knows nothing.
    fn of_body(&self, framing: &Framing) -> (Writing, Afterwards) {
        match (framing, self.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => {
                (Writing::Chunked, self.afterwards)
            }
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => {
                (Writing::Plain, Afterwards::Ends)
            }
            (Framing::Length(_) | Framing::Empty, _) => (Writing::Plain, self.afterwards),
        }
    }
}

/// An answer that is no 101 as the client gets it, how its body has to be written, and what becomes of the connection. A
/// client of HTTP/1.1 gets chunks where the length is not known: it can tell a whole body from one that was cut short.
pub fn answer_head(
    answer: &ResponseHead,
    framing: &Framing,
    client: &Delivery,
    policy: &AnswerPolicy<'_>,
) -> (Vec<u8>, Writing, Afterwards) {
    let mut out = Vec::with_capacity(USUAL_HEAD);
    push_status_line(&mut out, answer);
    let (headers, hop) = policy.prepared(answer);
    // RFC 9110 section 15.5.22: the client has to learn from a 426 what to ask for.
    let keeps_upgrade = answer.status == 426 && answer.headers.first("Upgrade").is_some();
    for (name, value) in headers.iter() {
        if hop.passes(name)
            || (keeps_upgrade && name.eq_ignore_ascii_case("Upgrade"))
            || (client.takes_trailers && name.eq_ignore_ascii_case("Trailer"))
        {
            push_field(&mut out, name, value);
        }
    }
    if headers.first("Date").is_none() {
        // RFC 9110 section 6.6.1: who has a clock dates what it passes on without a date.
        let now = date::imf_fixdate(policy.about.facts.unix_seconds);
        push_field(&mut out, "Date", now.to_string().as_bytes());
    }
    let (writing, afterwards) = client.of_body(framing);
    let length = match framing {
        Framing::Length(length) => Some(*length),
        Framing::Empty => Framing::announced(answer),
        Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = length {
        push_field(&mut out, "Content-Length", length.to_string().as_bytes());
    }
    if writing == Writing::Chunked {
        push_field(&mut out, "Transfer-Encoding", b"chunked");
    }
    afterwards.push_fields(keeps_upgrade, &mut out);
    out.extend_from_slice(b"\r\n");
    (out, writing, afterwards)
}

/// An answer with 1xx as the client gets it: nothing is changed in it but what ends at this hop.
pub fn interim_head(answer: &ResponseHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_HEAD);
    push_status_line(&mut out, answer);
    let hop = Hop::of(&answer.headers);
    for (name, value) in answer.headers.iter().filter(|(name, _)| hop.passes(name)) {
        push_field(&mut out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The trailer fields that may go on: none that frames a message, says who may do what, or holds for one hop (RFC 9110
/// section 6.5.1).
pub fn passing_trailers(mut trailers: Headers) -> Headers {
    const NEVER: [&str; 9] = [
        "Host",
        "Content-Length",
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "Set-Cookie",
        "Location",
        "Cache-Control",
        "WWW-Authenticate",
    ];
    trailers.retain(|name, _| {
        let is_never = NEVER.iter().any(|never| never.eq_ignore_ascii_case(name));
        !is_never && !is_hop_by_hop(name) && !is_protected(name)
    });
    trailers
}

fn push_status_line(out: &mut Vec<u8>, answer: &ResponseHead) {
    // Writing to a vector does not fail.
    let _ = write!(out, "HTTP/1.1 {} ", answer.status);
    out.extend_from_slice(&answer.reason);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::PRODUCT;
    use crate::http::head::Limits;
    use crate::route::edit::Target;
    use crate::route::environment::Environment;
    use crate::route::facts::testing::facts;
    use std::time::{Duration, UNIX_EPOCH};

    fn answer(text: &str) -> ResponseHead {
        let parsed = ResponseHead::parse(text.as_bytes(), &Limits::default());
        parsed.unwrap().unwrap().1
    }

    /// What is set for answers.
    #[derive(Default)]
    struct Set<'a> {
        via: Via,
        port: Option<u16>,
        edits: &'a [Arc<HeaderEdit>],
    }

    impl Set<'_> {
        fn policy<T>(&self, then: impl FnOnce(&AnswerPolicy<'_>) -> T) -> T {
            then(&AnswerPolicy {
                server_name: "www.example",
                port: self.port,
                via: self.via,
                reverse: &[],
                edits: self.edits,
                about: Circumstances {
                    facts: facts(),
                    environment: &Environment::default(),
                    received: UNIX_EPOCH,
                    took: Duration::ZERO,
                },
            })
        }
    }

    fn switched(head: &ResponseHead, set: &Set<'_>) -> String {
        let bytes = set.policy(|policy| switched_head(head, policy));
        String::from_utf8(bytes).unwrap()
    }

    fn relayed_as(
        head: &ResponseHead,
        framing: &Framing,
        client: Version,
        set: &Set<'_>,
    ) -> (String, Writing) {
        let client = Delivery {
            version: client,
            afterwards: Afterwards::Ends,
            takes_trailers: false,
        };
        let (bytes, how, afterwards) =
            set.policy(|policy| answer_head(head, framing, &client, policy));
        assert_eq!(afterwards, Afterwards::Ends);
        let text = String::from_utf8(bytes).unwrap();
        // None of them has a date of its own.
        let undated = text.replace("Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n", "");
        assert_ne!(text, undated);
        (undated, how)
    }

    #[test]
    fn a_101_keeps_its_order() {
        let head = answer(
            "HTTP/1.1 101 Web Socket Protocol Handshake\r\n\
             Server: x\r\nconnection: Upgrade, Keep-Alive, X-Hop, Sec-WebSocket-Accept\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nupgrade: websocket\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\
             Set-Cookie: a=1\r\nSec-WebSocket-Accept: x\r\nConnection: x\r\nSet-Cookie: b=2\r\n\r\n",
        );
        assert_eq!(
            switched(&head, &Set::default()),
            "HTTP/1.1 101 Web Socket Protocol Handshake\r\n\
             Server: x\r\n\
             Connection: Upgrade\r\n\
             upgrade: websocket\r\n\
             Set-Cookie: a=1\r\n\
             Sec-WebSocket-Accept: x\r\n\
             Set-Cookie: b=2\r\n\
             \r\n"
        );
    }

    #[test]
    fn an_answer_is_edited_behind_the_proxy_s_own_work() {
        let edits: Vec<_> = [
            &["always", "set", "X-First", "1"][..],
            &["unset", "Server"],
            &["set", "X-Hop", "ours"],
            &["edit", "Set-Cookie", "$", "; Secure"],
            &["append", "Via", "2"],
        ]
        .iter()
        .map(|words| Arc::new(HeaderEdit::parse(Target::Answer, words).unwrap()))
        .collect();
        let fields = "Server: x\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nUpgrade: websocket\r\n\
                      Set-Cookie: a=1\r\nKeep-Alive: 5\r\n";
        let head = answer(&format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"));
        let mut set = Set {
            via: Via::On,
            port: None,
            edits: &edits,
        };
        assert_eq!(
            switched(&head, &set),
            "HTTP/1.1 101 Switching Protocols\r\nX-First: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Set-Cookie: a=1; Secure\r\nVia: 1.1 www.example, 2\r\nX-Hop: ours\r\n\r\n"
        );
        let head = answer(&format!(
            "HTTP/1.1 403 Forbidden\r\n{fields}Content-Length: 2\r\n\r\n"
        ));
        set.via = Via::Off;
        let (bytes, how) = relayed_as(&head, &Framing::Length(2), Version::Http11, &set);
        assert_eq!(
            bytes,
            "HTTP/1.1 403 Forbidden\r\nX-First: 1\r\nSet-Cookie: a=1; Secure\r\nX-Hop: ours\r\nVia: 2\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(how, Writing::Plain);
    }

    #[test]
    fn via_of_the_proxy_is_a_field_of_its_own_in_an_answer() {
        for (via, port, added) in [
            (Via::Off, None, ""),
            (Via::Block, None, ""),
            (Via::On, None, "Via: 1.0 www.example\r\n"),
            (
                Via::Full,
                Some(8080),
                &format!("Via: 1.0 www.example:8080 ({PRODUCT})\r\n"),
            ),
        ] {
            let head = answer("HTTP/1.0 200 OK\r\nVia: 1.1 b\r\nX: y\r\n\r\n");
            let set = Set {
                via,
                port,
                ..Set::default()
            };
            let (bytes, _) = relayed_as(&head, &Framing::Empty, Version::Http10, &set);
            assert_eq!(
                bytes,
                format!(
                    "HTTP/1.1 200 OK\r\nVia: 1.1 b\r\nX: y\r\n{added}Connection: close\r\n\r\n"
                )
            );
        }
    }

    #[test]
    fn an_ordinary_answer_is_framed_anew() {
        let fields =
            "Content-Type: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nUpgrade: h2c\r\n";
        for (status, framed, client, expected, relayed) in [
            (
                "200 OK",
                "Content-Length: 007\r\n",
                Version::Http11,
                "Content-Length: 7\r\n",
                Writing::Plain,
            ),
            (
                "200 OK",
                "Transfer-Encoding: chunked\r\nTrailer: X\r\n",
                Version::Http11,
                "Transfer-Encoding: chunked\r\n",
                Writing::Chunked,
            ),
            (
                "200 OK",
                "Transfer-Encoding: chunked\r\n",
                Version::Http10,
                "",
                Writing::Plain,
            ),
            (
                "200 OK",
                "",
                Version::Http11,
                "Transfer-Encoding: chunked\r\n",
                Writing::Chunked,
            ),
            ("200 OK", "", Version::Http10, "", Writing::Plain),
            (
                "304 Not Modified",
                "Content-Length: 7\r\nContent-Length: 8\r\n",
                Version::Http11,
                "",
                Writing::Plain,
            ),
        ] {
            let head = answer(&format!("HTTP/1.0 {status}\r\n{fields}\r\n"));
            let head = if framed.is_empty() {
                head
            } else {
                answer(&format!("HTTP/1.1 {status}\r\n{fields}{framed}\r\n"))
            };
            let framing = Framing::of_answer("GET", &head).unwrap();
            let (bytes, how) = relayed_as(&head, &framing, client, &Set::default());
            assert_eq!(
                bytes,
                format!(
                    "HTTP/1.1 {status}\r\nContent-Type: a\r\n{expected}Connection: close\r\n\r\n"
                )
            );
            assert_eq!(how, relayed);
        }
    }

    #[test]
    fn a_426_keeps_what_it_asks_for() {
        let head = answer(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
        );
        let (bytes, _) = relayed_as(&head, &Framing::Length(0), Version::Http11, &Set::default());
        assert_eq!(
            bytes,
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Content-Length: 0\r\nConnection: close, Upgrade\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_says_what_becomes_of_the_connection() {
        let asked = Afterwards::StaysAsAsked {
            timeout: Duration::from_secs(5),
            left: Some(3),
        };
        let keep = "Keep-Alive: timeout=5, max=3\r\nConnection: Keep-Alive\r\n";
        let close = "Connection: close\r\n";
        let chunks = "Transfer-Encoding: chunked\r\n";
        let (new, old) = (Version::Http11, Version::Http10);
        for (version, method, fields, afterwards, expected, how) in [
            (
                new,
                "GET",
                "Content-Length: 5\r\n",
                Afterwards::Stays,
                "Content-Length: 5\r\n".to_owned(),
                Writing::Plain,
            ),
            (
                new,
                "GET",
                chunks,
                Afterwards::Stays,
                chunks.to_owned(),
                Writing::Chunked,
            ),
            (
                new,
                "GET",
                "",
                asked,
                chunks.to_owned() + keep,
                Writing::Chunked,
            ),
            (
                new,
                "HEAD",
                "",
                Afterwards::Stays,
                String::new(),
                Writing::Plain,
            ),
            (new, "HEAD", chunks, asked, keep.to_owned(), Writing::Plain),
            (
                new,
                "HEAD",
                "Content-Length: 5\r\n",
                Afterwards::Ends,
                format!("Content-Length: 5\r\n{close}"),
                Writing::Plain,
            ),
            (
                old,
                "GET",
                "Content-Length: 5\r\n",
                asked,
                format!("Content-Length: 5\r\n{keep}"),
                Writing::Plain,
            ),
            // Its end is that of the connection.
            (old, "GET", chunks, asked, close.to_owned(), Writing::Plain),
            (old, "GET", "", asked, close.to_owned(), Writing::Plain),
            (old, "HEAD", "", asked, keep.to_owned(), Writing::Plain),
        ] {
            let head = answer(&format!(
                "HTTP/1.1 200 OK\r\nDate: D\r\n{fields}Connection: close\r\nKeep-Alive: 9\r\n\r\n"
            ));
            let framing = Framing::of_answer(method, &head).unwrap();
            let client = Delivery {
                version,
                afterwards,
                takes_trailers: false,
            };
            let (bytes, found, then) =
                Set::default().policy(|policy| answer_head(&head, &framing, &client, policy));
            let expected = format!("HTTP/1.1 200 OK\r\nDate: D\r\n{expected}\r\n");
            assert_eq!(
                String::from_utf8(bytes).unwrap(),
                expected,
                "{method} {fields}"
            );
            assert_eq!(found, how, "{method} {fields}");
            assert_eq!(then.stays(), !expected.contains("close"));
        }
    }

    #[test]
    fn an_interim_answer_has_the_fields_that_go_on() {
        let head = answer(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X\r\nX: 1\r\nContent-Length: 5\r\n\
             Transfer-Encoding: chunked\r\nKeep-Alive: 5\r\nlink: </b>\r\n\r\n",
        );
        assert_eq!(
            String::from_utf8(interim_head(&head)).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n"
        );
    }

    #[test]
    fn trailers_that_mean_more_than_themselves_do_not_pass() {
        let mut trailers = Headers::default();
        for name in [
            "X-Sum",
            "content-length",
            "Transfer-Encoding",
            "Trailer",
            "Host",
            "SET-COOKIE",
            "Location",
            "Content-Type",
            "Content-Encoding",
            "Content-Range",
            "Cache-Control",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "WWW-Authenticate",
            "Proxy-Authenticate",
            "Authorization",
            "Cookie",
            "X-Forwarded-For",
            "Server-Timing",
        ] {
            trailers.push(name, b"1");
        }
        let passing = passing_trailers(trailers);
        let names: Vec<_> = passing.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["X-Sum", "Server-Timing"]);
    }
}
