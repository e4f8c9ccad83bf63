//! A request's head as its backend shall see it: httpd `ap_proxy_create_hdrbrgd`, as of 2.4.54. The order of the bytes is
//!
//! ```text
//! <method> <target> HTTP/1.1
//! Host
//! the client's fields in their order, but for those that end at this hop
//! Via
//! X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Server
//! Upgrade; or Expect, TE and what says where the body ends
//! Connection: Upgrade; or Keep-Alive or close
//! ```
//!
//! Repeated fields stay apart, where httpd joins them into one: that breaks those that are no lists. `Via` and the three
//! `X-Forwarded-` fields are the exception, since each tells one story.
//!
//! What `RequestHeader` says has been done before, as in httpd.

use super::{Hop, USUAL_HEAD, VIA, push_all, push_field, via_entry};
use crate::handshake::Asked;
use crate::http::answer::Refusal;
use crate::http::body::Framing;
use crate::http::head::{RequestHead, Version};
use crate::http::headers::Headers;
use crate::ids::Id;
use crate::route::Arrival;
use crate::route::backend::Parameters;
use crate::route::environment::Environment;
use crate::route::settings::{Settings, Via};
use crate::route::url::BackendUrl;
use std::borrow::Cow;
use std::net::IpAddr;

/// What the configuration and the connection have to say about a request's head.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The client's `Host` goes to the backend. httpd: `ProxyPreserveHost`.
    pub preserve_host: bool,
    /// The backend is told where the request came from. httpd: `ProxyAddHeaders`.
    pub add_headers: bool,
    /// The name of the virtual host.
    pub server_name: &'a str,
    /// Our port, where it is not the default one of the scheme that the client speaks.
    pub port: Option<u16>,
    /// Whether we name ourselves.
    pub via: Via,
    /// The address of the client.
    pub client: IpAddr,
    /// The backend.
    pub backend: &'a BackendUrl,
}

impl<'a> Policy<'a> {
    /// That of a request, once it is known where it goes.
    pub fn new(
        settings: &Settings,
        server_name: &'a str,
        arrival: &Arrival<'_>,
        backend: &'a BackendUrl,
    ) -> Self {
        Self {
            preserve_host: settings.preserve_host,
            add_headers: settings.add_headers,
            server_name,
            port: arrival.unusual_port(),
            via: settings.via,
            client: arrival.client.ip(),
            backend,
        }
    }
}

impl Policy<'_> {
    /// Whether the page that asks was loaded from another host than the one that the backend is told it is. Many backends
    /// refuse that (RFC 6455 section 4.2.2, step 4).
    pub fn origin_is_foreign(&self, head: &RequestHead) -> bool {
        let Some(origin) = head.headers.first("Origin") else {
            return false;
        };
        let behind_scheme = origin.windows(3).position(|window| window == b"://");
        let Some(host) = behind_scheme.and_then(|colon| origin.get(colon + 3..)) else {
            return false;
        };
        let client_host = head.headers.first("Host").filter(|_| self.preserve_host);
        let told = match client_host {
            Some(host) => Cow::Borrowed(host),
            None => Cow::Owned(self.backend.host_header().into_bytes()),
        };
        !host.eq_ignore_ascii_case(&told)
    }
}

/// The head that asks the backend for the upgrade. `target` is the one that the route gave, and the fields of `head` are
/// what `RequestHeader` and `RemoteIPHeader` have left.
pub fn upgrade_head(
    head: &RequestHead,
    target: &str,
    asked: &Asked,
    policy: &Policy<'_>,
) -> Vec<u8> {
    // An HTTP/1.0 client gets no upgrade, so the version is ours to say.
    let mut out = request_head(head, target, Version::Http11, policy);
    push_field(&mut out, "Upgrade", asked.token().as_bytes());
    push_field(&mut out, "Connection", b"Upgrade");
    out.extend_from_slice(b"\r\n");
    out
}

/// How a request for an ordinary answer is put to its backend.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The version that we speak; 1.0 where `force-proxy-request-1.0` says so.
    pub version: Version,
    /// How the body ends, as it is written.
    pub body: Framing,
    /// The backend is asked whether it wants the body.
    pub expects: bool,
    /// The client takes trailer fields.
    pub takes_trailers: bool,
    /// The connection may be used again.
    pub stays: bool,
}

impl Manner {
    /// That of a request whose body ends so, as the backend's parameters and the variables of mod_proxy_http want it. The
    /// backend is asked whether it wants the body if the client does so, or `ping=`.
    ///
    /// # Errors
    /// [`Id::LengthRequired`]: a body of unknown length, where a variable says that the backend has to know it. (httpd:
    /// writes such a body to a file first.)
    pub fn new(
        head: &RequestHead,
        body: Framing,
        expects: bool,
        parameters: &Parameters,
        environment: &Environment,
    ) -> Result<Self, Refusal> {
        let is_old = environment.is_set("force-proxy-request-1.0");
        if body == Framing::Chunked && (is_old || environment.is_set("proxy-sendcl")) {
            let why =
                "the backend has to know the length of the body, and the client does not tell it";
            return Err(Refusal::new(Id::LengthRequired, why));
        }
        Ok(Self {
            version: if is_old {
                Version::Http10
            } else {
                Version::Http11
            },
            body,
            expects: !is_old && body.has_body() && (expects || parameters.ping.is_some()),
            takes_trailers: !is_old && takes_trailers(head),
            stays: !is_old
                && parameters.reuse != Some(false)
                && !environment.is_set("proxy-nokeepalive"),
        })
    }
}

/// Whether the client takes trailer fields (RFC 9110 section 10.1.4).
pub fn takes_trailers(head: &RequestHead) -> bool {
    head.version == Version::Http11 && head.headers.has_token("TE", "trailers")
}

/// Counts this proxy as one of the hops that `Max-Forwards` allows (RFC 9110 section 7.6.2; httpd `proxy_handler`, for all
/// methods); `initial`: what a request gets that has none.
///
/// # Errors
/// [`Id::NoHopsLeft`]: there are none left, or the field is no number.
// httpd: answers TRACE and OPTIONS by itself where none are left.
pub fn count_hop(headers: &mut Headers, initial: Option<u32>) -> Result<(), Refusal> {
    const FIELD: &str = "Max-Forwards";
    let left = match headers.first(FIELD) {
        None => match initial {
            None => return Ok(()),
            Some(initial) => initial,
        },
        Some(value) => {
            let number = std::str::from_utf8(value).ok();
            let number: Option<u32> = number.and_then(|text| text.trim().parse().ok());
            match number {
                Some(number @ 1..) => number - 1,
                Some(0) => {
                    let why =
                        "Max-Forwards has come to 0: proxies may lead to each other in a circle";
                    return Err(Refusal::new(Id::NoHopsLeft, why));
                }
                None => {
                    let value = value.escape_ascii();
                    let why = format!("\"Max-Forwards: {value}\" is no number");
                    return Err(Refusal::new(Id::NoHopsLeft, why));
                }
            }
        }
    };
    headers.set(FIELD, left.to_string().as_bytes());
    Ok(())
}

/// The head that asks the backend for an ordinary answer. As [`upgrade_head`].
pub fn exchange_head(
    head: &RequestHead,
    target: &str,
    manner: &Manner,
    policy: &Policy<'_>,
) -> Vec<u8> {
    let mut out = request_head(head, target, manner.version, policy);
    if manner.expects {
        push_field(&mut out, "Expect", b"100-continue");
    }
    if manner.takes_trailers {
        push_field(&mut out, "TE", b"trailers");
    }
    match manner.body {
        Framing::Length(length) => {
            push_field(&mut out, "Content-Length", length.to_string().as_bytes());
        }
        Framing::Chunked => push_field(&mut out, "Transfer-Encoding", b"chunked"),
        Framing::Empty | Framing::UntilClose => {}
    }
    let connection: &[u8] = match (manner.stays, manner.takes_trailers) {
        (true, false) => b"Keep-Alive",
        (true, true) => b"Keep-Alive, TE",
        (false, false) => b"close",
        (false, true) => b"close, TE",
    };
    push_field(&mut out, "Connection", connection);
    out.extend_from_slice(b"\r\n");
    out
}

/// What both have, up to the fields of this hop.
fn request_head(
    head: &RequestHead,
    target: &str,
    version: Version,
    policy: &Policy<'_>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_HEAD);
    let version = match version {
        Version::Http10 => " HTTP/1.0\r\n",
        Version::Http11 => " HTTP/1.1\r\n",
    };
    push_all(&mut out, &[head.method(), " ", target, version]);
    let client_host = head.headers.first("Host");
    match client_host {
        Some(host) if policy.preserve_host => push_field(&mut out, "Host", host),
        None if policy.preserve_host => {
            push_field(&mut out, "Host", policy.server_name.as_bytes());
        }
        _ => push_field(&mut out, "Host", policy.backend.host_header().as_bytes()),
    }
    let hop = Hop::of(&head.headers);
    for (name, value) in head.headers.iter() {
        // Expect: of this hop too, in so far as a backend that answers 100 would do it in the middle of a handshake.
        let ours = ["Host", "Expect"]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
            || (policy.via != Via::Off && name.eq_ignore_ascii_case(VIA))
            || (policy.add_headers && is_forwarded(name));
        if !ours && hop.passes(name) {
            push_field(&mut out, name, value);
        }
    }
    if let Some(entry) = via_entry(policy.via, head.version, policy.server_name, policy.port) {
        push_appended(&mut out, &head.headers, VIA, entry.as_bytes());
    }
    if policy.add_headers {
        // Behind the removal: a client must not be able to name them in Connection (CVE-2022-31813). Each is written once,
        // so that a backend which reads only the first or only the last field still reads what we know.
        let client = policy.client.to_canonical().to_string();
        push_appended(&mut out, &head.headers, FORWARDED_FOR, client.as_bytes());
        push_appended(
            &mut out,
            &head.headers,
            FORWARDED_HOST,
            client_host.unwrap_or_default(),
        );
        push_appended(
            &mut out,
            &head.headers,
            FORWARDED_SERVER,
            policy.server_name.as_bytes(),
        );
    }
    out
}

const FORWARDED_FOR: &str = "X-Forwarded-For";
const FORWARDED_HOST: &str = "X-Forwarded-Host";
const FORWARDED_SERVER: &str = "X-Forwarded-Server";

fn is_forwarded(name: &str) -> bool {
    [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_SERVER]
        .iter()
        .any(|forwarded| forwarded.eq_ignore_ascii_case(name))
}

/// A field with all values that it already had, and one more; nothing if there is none at all.
fn push_appended(out: &mut Vec<u8>, headers: &Headers, name: &str, last: &[u8]) {
    let values = headers.all(name).chain([last]);
    let mut values = values.filter(|value| !value.is_empty());
    let Some(first) = values.next() else {
        return;
    };
    push_all(out, &[name, ": "]);
    out.extend_from_slice(first);
    for value in values {
        out.extend_from_slice(b", ");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::PRODUCT;
    use crate::handshake::{self, Upgrade};
    use crate::http::head::Limits;
    use std::time::Duration;

    fn request(text: &str) -> RequestHead {
        let parsed = RequestHead::parse(text.as_bytes(), &Limits::default());
        parsed.unwrap().unwrap().1
    }

    /// The head for the backend of a request with these fields behind `Host` and before those of the handshake.
    fn forwarded(fields: &str, change: impl FnOnce(&mut Policy<'_>)) -> String {
        let head = request(&format!(
            "GET /ignored HTTP/1.1\r\nHost: front:8080\r\n{fields}\
             Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nconnection: Upgrade\r\n\r\n"
        ));
        let asked = handshake::requested(&head, &Upgrade::default()).unwrap();
        let backend = BackendUrl::parse("ws://Back:81/x").unwrap();
        let mut policy = Policy {
            preserve_host: false,
            add_headers: true,
            server_name: "www.example",
            port: None,
            via: Via::Off,
            client: "192.0.2.7".parse().unwrap(),
            backend: &backend,
        };
        change(&mut policy);
        let bytes = upgrade_head(&head, "/y?z", &asked, &policy);
        let (used, _) = RequestHead::parse(&bytes, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(used, bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_request_is_written_in_this_order() {
        let text = forwarded(
            "Origin: http://front\r\nCookie: a=b\r\ncookie: c=d\r\n",
            |_| (),
        );
        assert_eq!(
            text,
            "GET /y?z HTTP/1.1\r\n\
             Host: back:81\r\n\
             Origin: http://front\r\n\
             Cookie: a=b\r\n\
             cookie: c=d\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\
             X-Forwarded-For: 192.0.2.7\r\n\
             X-Forwarded-Host: front:8080\r\n\
             X-Forwarded-Server: www.example\r\n\
             Upgrade: WebSocket\r\n\
             Connection: Upgrade\r\n\
             \r\n"
        );
    }

    #[test]
    fn what_ends_at_this_hop_is_not_passed_on() {
        let text = forwarded(
            "TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTrailer: T\r\nExpect: 100-continue\r\n\
             Content-Length: 0\r\nX-Named: 1\r\nHTTP2-Settings: x\r\nX-Kept: 1\r\n\
             Connection: x-named, HTTP2-Settings, close\r\n",
            |_| (),
        );
        for name in [
            "TE:",
            "Keep-Alive",
            "Proxy-Connection",
            "Trailer",
            "Expect",
            "Content-Length",
            "X-Named",
            "HTTP2-Settings",
            "close",
        ] {
            assert!(!text.contains(name), "{name}: {text}");
        }
        assert!(text.contains("\r\nX-Kept: 1\r\n"));
        assert_eq!(text.matches("Connection:").count(), 1);
        assert_eq!(text.matches("Upgrade:").count(), 1);
    }

    #[test]
    fn connection_cannot_take_out_what_the_backend_relies_on() {
        let text = forwarded(
            "Authorization: x\r\nCookie: y\r\nOrigin: z\r\nX-Forwarded-Proto: https\r\n\
             Connection: Host, X-Forwarded-For, x-forwarded-proto, Sec-WebSocket-Key, authorization, Cookie, Origin\r\n",
            |_| (),
        );
        for field in [
            "Host: back:81",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Authorization: x",
            "Cookie: y",
            "Origin: z",
        ] {
            assert!(
                text.contains(&format!("\r\n{field}\r\n")),
                "{field}: {text}"
            );
        }
    }

    #[test]
    fn what_was_forwarded_before_comes_first() {
        let fields = "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2, 10.0.0.3\r\n\
                      X-Forwarded-Host:\r\nX-Forwarded-Server: front\r\n";
        let text = forwarded(fields, |_| ());
        for field in [
            "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7",
            "X-Forwarded-Host: front:8080",
            "X-Forwarded-Server: front, www.example",
        ] {
            assert!(text.contains(&format!("\r\n{field}\r\n")), "{text}");
        }
        assert_eq!(text.to_lowercase().matches("x-forwarded-").count(), 3);
        // Off: they are the client's own business.
        let text = forwarded(fields, |policy| policy.add_headers = false);
        assert!(text.contains("\r\nx-forwarded-for: 10.0.0.2, 10.0.0.3\r\n"));
        assert!(!text.contains("192.0.2.7"));
    }

    #[test]
    fn addresses_are_written_as_people_know_them() {
        for (client, written) in [
            ("::ffff:192.0.2.9", "192.0.2.9"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let text = forwarded("", |policy| policy.client = client.parse().unwrap());
            assert!(text.contains(&format!("\r\nX-Forwarded-For: {written}\r\n")));
        }
    }

    #[test]
    fn the_host_of_the_client_is_kept_on_demand() {
        let text = forwarded("", |policy| policy.preserve_host = true);
        assert!(text.starts_with("GET /y?z HTTP/1.1\r\nHost: front:8080\r\n"));
        assert_eq!(text.matches("\r\nHost:").count(), 1);
    }

    #[test]
    fn via_names_the_proxy_behind_those_before_it() {
        let full = format!("1.1 www.example:8080 ({PRODUCT})");
        assert!(PRODUCT.starts_with("proxy-wstunnel/"));
        let before = "via: 1.0 a\r\nX: y\r\nVia: 1.1 b (c)\r\n";
        for (via, port, written) in [
            (Via::Off, None, ""),
            (Via::Block, None, ""),
            (Via::On, None, "Via: 1.0 a, 1.1 b (c), 1.1 www.example\r\n"),
            (
                Via::Full,
                Some(8080),
                &format!("Via: 1.0 a, 1.1 b (c), {full}\r\n"),
            ),
        ] {
            let text = forwarded(before, |policy| {
                policy.via = via;
                policy.port = port;
            });
            let passed = text.contains("\r\nvia: 1.0 a\r\nX: y\r\nVia: 1.1 b (c)\r\n");
            assert_eq!(passed, via == Via::Off, "{text}");
            assert!(text.contains(written), "{text}");
            let count = text.to_lowercase().matches("via: ").count();
            assert_eq!(
                count,
                if passed {
                    2
                } else {
                    usize::from(via != Via::Block)
                }
            );
        }
        let text = forwarded("", |policy| {
            policy.via = Via::On;
            policy.server_name = "2001:db8::1";
            policy.port = Some(81);
        });
        assert!(text.contains("\r\nVia: 1.1 [2001:db8::1]:81\r\n"), "{text}");
    }

    /// The head for the backend of an ordinary request with these fields behind `Host`.
    fn exchanged(version: &str, fields: &str, manner: &Manner) -> String {
        let head = request(&format!(
            "PUT /ignored HTTP/{version}\r\nHost: front\r\n{fields}\r\n"
        ));
        let backend = BackendUrl::parse("http://back/x").unwrap();
        let policy = Policy {
            preserve_host: false,
            add_headers: false,
            server_name: "www.example",
            port: None,
            via: Via::Off,
            client: "192.0.2.7".parse().unwrap(),
            backend: &backend,
        };
        String::from_utf8(exchange_head(&head, "/y?z", manner, &policy)).unwrap()
    }

    const PLAIN: Manner = Manner {
        version: Version::Http11,
        body: Framing::Empty,
        expects: false,
        takes_trailers: false,
        stays: true,
    };

    #[test]
    fn an_ordinary_request_says_how_its_body_ends() {
        let fields = "Upgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\nTE: gzip\r\nExpect: x\r\n\
                      HTTP2-Settings: x\r\nContent-Length: 99\r\nX-Kept: 1\r\n";
        for (manner, line, expected) in [
            (PLAIN, "HTTP/1.1", "X-Kept: 1\r\nConnection: Keep-Alive\r\n"),
            (
                Manner {
                    body: Framing::Length(0),
                    ..PLAIN
                },
                "HTTP/1.1",
                "X-Kept: 1\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n",
            ),
            (
                Manner {
                    body: Framing::Chunked,
                    expects: true,
                    takes_trailers: true,
                    ..PLAIN
                },
                "HTTP/1.1",
                "X-Kept: 1\r\nExpect: 100-continue\r\nTE: trailers\r\n\
                 Transfer-Encoding: chunked\r\nConnection: Keep-Alive, TE\r\n",
            ),
            (
                Manner {
                    stays: false,
                    takes_trailers: true,
                    ..PLAIN
                },
                "HTTP/1.1",
                "X-Kept: 1\r\nTE: trailers\r\nConnection: close, TE\r\n",
            ),
            (
                Manner {
                    version: Version::Http10,
                    body: Framing::Length(5),
                    stays: false,
                    ..PLAIN
                },
                "HTTP/1.0",
                "X-Kept: 1\r\nContent-Length: 5\r\nConnection: close\r\n",
            ),
        ] {
            let expected = format!("PUT /y?z {line}\r\nHost: back\r\n{expected}\r\n");
            assert_eq!(exchanged("1.1", fields, &manner), expected);
        }
        // The version of the client makes no difference.
        assert!(exchanged("1.0", "", &PLAIN).starts_with("PUT /y?z HTTP/1.1\r\n"));
    }

    #[test]
    fn variables_and_parameters_say_how_a_backend_is_asked() {
        let head = request("PUT / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
        let usual = |body| Manner {
            body,
            takes_trailers: true,
            ..PLAIN
        };
        let old = |body| Manner {
            version: Version::Http10,
            body,
            stays: false,
            ..PLAIN
        };
        let asking = |body| Manner {
            expects: true,
            ..usual(body)
        };
        let once = |body| Manner {
            stays: false,
            ..usual(body)
        };
        let (none, length, chunked) = (Framing::Empty, Framing::Length(5), Framing::Chunked);
        let nothing = Framing::Length(0);
        let parameters = Parameters::default();
        let ping = Parameters {
            ping: Some(Duration::from_secs(1)),
            ..Parameters::default()
        };
        let unkept = Parameters {
            reuse: Some(false),
            ..Parameters::default()
        };
        let force = "force-proxy-request-1.0";
        for (variable, parameters, body, expects, expected) in [
            ("", &parameters, none, false, Some(usual(none))),
            ("", &parameters, chunked, true, Some(asking(chunked))),
            ("", &ping, length, false, Some(asking(length))),
            ("", &ping, nothing, true, Some(usual(nothing))),
            ("", &unkept, none, false, Some(once(none))),
            (
                "proxy-nokeepalive",
                &parameters,
                none,
                false,
                Some(once(none)),
            ),
            (
                "proxy-sendcl",
                &parameters,
                length,
                false,
                Some(usual(length)),
            ),
            ("proxy-sendcl", &parameters, chunked, false, None),
            (force, &ping, length, true, Some(old(length))),
            (force, &parameters, chunked, false, None),
        ] {
            let mut environment = Environment::default();
            environment.set(variable, b"1");
            let found = Manner::new(&head, body, expects, parameters, &environment);
            match (found, expected) {
                (Ok(found), Some(expected)) => {
                    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
                }
                (Err(refusal), None) => {
                    assert_eq!((refusal.id, refusal.status), (Id::LengthRequired, 411));
                }
                (found, expected) => {
                    panic!("{variable} {body:?}: {found:?} instead of {expected:?}")
                }
            }
        }
    }

    #[test]
    fn trailers_are_taken_by_those_who_say_so() {
        for (version, fields, expected) in [
            ("1.1", "TE: trailers\r\n", true),
            ("1.1", "TE: gzip\r\nTE: deflate, Trailers\r\n", true),
            ("1.1", "TE: trailers;q=0\r\n", false),
            ("1.1", "TE: gzip\r\nTrailer: X\r\n", false),
            ("1.1", "", false),
            ("1.0", "TE: trailers\r\n", false),
        ] {
            let head = request(&format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(takes_trailers(&head), expected, "{version} {fields}");
        }
    }

    #[test]
    fn hops_are_counted_down() {
        for (sent, initial, expected) in [
            (None, None, Ok(None)),
            (None, Some(0), Ok(Some("0"))),
            (None, Some(7), Ok(Some("7"))),
            (Some("1"), Some(7), Ok(Some("0"))),
            (Some("4294967295"), None, Ok(Some("4294967294"))),
            (Some("0"), Some(7), Err(())),
            (Some("4294967296"), None, Err(())),
            (Some("-1"), None, Err(())),
            (Some("1.5"), None, Err(())),
            (Some("x"), None, Err(())),
            (Some(""), None, Err(())),
        ] {
            let mut headers = Headers::default();
            if let Some(value) = sent {
                headers.push("max-forwards", value.as_bytes());
            }
            let found = count_hop(&mut headers, initial);
            assert_eq!(found.is_err(), expected.is_err(), "{sent:?}");
            if let Ok(expected) = expected {
                assert_eq!(headers.first("Max-Forwards"), expected.map(str::as_bytes));
            }
        }
    }
}
