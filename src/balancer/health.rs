//! What a member is asked from time to time, beside all requests, and which answer says that it is well. httpd:
//! `mod_proxy_hcheck`.

use crate::handshake::{self, Asked};
use crate::http::head::ResponseHead;
use crate::route::url::BackendUrl;
use std::time::Duration;

/// The shortest `hcinterval=`. httpd: `HCHECK_WATHCHDOG_INTERVAL`.
pub const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// How a member is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `hcmethod=`
    pub method: Method,
    /// `hcinterval=`: from the beginning of one check to that of the next, at least [`LEAST_INTERVAL`]; 30 s where nothing
    /// is said.
    pub interval: Duration,
    /// `hcpasses=`: how many checks in a row bring a member back, at least 1.
    pub passes: u32,
    /// `hcfails=`: how many checks in a row take it out, at least 1.
    pub fails: u32,
    /// `hcuri=`: what is asked for, behind the path of the member's URL.
    pub uri: Option<Uri>,
}

impl Check {
    /// One where nothing but the method is said.
    pub fn by(method: Method) -> Self {
        Self {
            method,
            interval: Duration::from_secs(30),
            passes: 1,
            fails: 1,
            uri: None,
        }
    }

    /// How long one check may take at a member whose steps may take `timeout` each: not longer than it takes to the next
    /// one, so that a member that hangs is found as fast as the interval promises; but a second at least, since an interval
    /// below that asks for attention, and not for answers within it.
    // httpd: `timeout` for each step, and of the server: that of the member is not asked.
    pub fn patience(&self, timeout: Duration) -> Duration {
        timeout.min(self.interval.max(Duration::from_secs(1)))
    }

    /// What the member at `url` is asked, once it is connected to; nothing where it is to be connected to and no more.
    /// `nonce`: 16 random bytes.
    pub fn question(&self, url: &BackendUrl, nonce: [u8; 16]) -> Option<Question> {
        let target = target(url, self.uri.as_ref());
        let host = url.host_header();
        let question = match self.method {
            Method::Tcp => return None,
            Method::Http { verb, is_modern } => {
                // Where nothing is named it is asked about itself as a whole.
                let target = match (verb, &self.uri) {
                    (Verb::Options, None) => "*",
                    _ => &target,
                };
                let (version, end) = if is_modern {
                    ("1.1", "Connection: close\r\n")
                } else {
                    ("1.0", "")
                };
                let name = verb.name();
                Question {
                    head: format!(
                        "{name} {target} HTTP/{version}\r\nHost: {host}\r\n{AGENT}{end}\r\n"
                    ),
                    verb,
                    asked: None,
                }
            }
            Method::Ws => {
                let (asked, key) = Asked::by_us(nonce);
                let upgrade = asked.token();
                Question {
                    head: format!(
                        "GET {target} HTTP/1.1\r\nHost: {host}\r\n{AGENT}Upgrade: {upgrade}\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
                    ),
                    verb: Verb::Get,
                    asked: Some(asked),
                }
            }
        };
        Some(question)
    }
}

/// So that a backend's log tells checks from clients.
const AGENT: &str = "User-Agent: proxy-wstunnel (health check)\r\n";

/// `hcmethod=`, but for `NONE`: what is done at a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It is connected to.
    Tcp,
    /// It is asked for an ordinary answer.
    Http {
        /// How.
        verb: Verb,
        /// In HTTP/1.1, and not in HTTP/1.0.
        is_modern: bool,
    },
    /// A WebSocket is opened and closed.
    // httpd: has no such method.
    Ws,
}

/// The method of an ordinary request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `OPTIONS`
    Options,
    /// `HEAD`
    Head,
    /// `GET`
    Get,
}

impl Verb {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Head => "HEAD",
            Self::Get => "GET",
        }
    }
}

impl Method {
    const ALL: [Self; 8] = [
        Self::Tcp,
        Self::http(Verb::Options, false),
        Self::http(Verb::Head, false),
        Self::http(Verb::Get, false),
        Self::http(Verb::Options, true),
        Self::http(Verb::Head, true),
        Self::http(Verb::Get, true),
        Self::Ws,
    ];

    const fn http(verb: Verb, is_modern: bool) -> Self {
        Self::Http { verb, is_modern }
    }

    /// Parses its name, in any case. `NONE` is none.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.eq_ignore_ascii_case("NONE") {
            return Ok(None);
        }
        let mut all = Self::ALL.into_iter();
        let method = all.find(|method| method.name().eq_ignore_ascii_case(text));
        method.map(Some).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            let found = if text.eq_ignore_ascii_case("CPING") {
                "\"CPING\" is for backends of another protocol than HTTP and WebSocket".to_owned()
            } else {
                format!("unknown method {text:?}")
            };
            format!("{found}; expected NONE, {names}")
        })
    }

    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Ws => "WS",
            Self::Http {
                verb,
                is_modern: false,
            } => verb.name(),
            Self::Http { verb, .. } => match verb {
                Verb::Options => "OPTIONS11",
                Verb::Head => "HEAD11",
                Verb::Get => "GET11",
            },
        }
    }

    /// Whether it asks for something, so that `hcuri=` has a meaning.
    pub fn asks(self) -> bool {
        self != Self::Tcp
    }
}

/// `hcuri=`: a path and a query; every byte is one that may stand in a request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri(String);

impl Uri {
    /// Parses a path, a query behind `?`, or both.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a path such as /health or /health?deep=1";
        let is_wrong = |c: &char| !c.is_ascii_graphic() || *c == '#';
        match text.chars().find(is_wrong) {
            _ if text.is_empty() => Err(format!("\"\" names nothing; {EXPECTED}")),
            Some('#') => Err(format!(
                "{text:?} has a fragment, which is never asked for; {EXPECTED}"
            )),
            Some(wrong) => Err(format!(
                "{text:?} holds the character {wrong:?}, which has to be percent-encoded; {EXPECTED}"
            )),
            None if text.contains("://") && !text.starts_with(['/', '?']) => Err(format!(
                "{text:?} is a URL, and the member is known already; {EXPECTED}"
            )),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked for at a member: the path of its URL, and `uri` behind it.
// httpd: writes both and one more slash between them, so that `/app` and `/health` become `/app//health`; where there are
// neither it asks for nothing, which is no request.
fn target(url: &BackendUrl, uri: Option<&Uri>) -> String {
    let base = if url.path.is_empty() { "/" } else { &url.path };
    match uri.map(Uri::as_str) {
        None => base.to_owned(),
        Some(query) if query.starts_with('?') => [base, query].concat(),
        Some(path) if path.starts_with('/') => url.below(path),
        Some(path) => url.below(&format!("/{path}")),
    }
}

/// What a member is asked, and what its answer is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The head of the request; it has no body.
    pub head: String,
    /// Its method.
    pub verb: Verb,
    /// What a 101 has to fit, where that is what it asks for.
    asked: Option<Asked>,
}

/// What an answer says about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: it is an interim answer (1xx), and the real one is still to come.
    Interim,
    /// It is well: the status is 200 to 399. httpd: `hc_check_http`.
    Passed,
    /// It is well, and has switched to the WebSocket that was asked for.
    Switched,
    /// It is not well. Why, in the manner of log lines.
    Failed(String),
}

impl Question {
    /// Judges an answer.
    pub fn verdict(&self, answer: &ResponseHead) -> Verdict {
        let status = answer.status;
        match &self.asked {
            Some(asked) => match handshake::verdict(answer, asked) {
                handshake::Verdict::Interim => Verdict::Interim,
                handshake::Verdict::Switched => Verdict::Switched,
                handshake::Verdict::Bad(why) => Verdict::Failed(why),
                handshake::Verdict::Relay => {
                    Verdict::Failed(format!("it answered {status}, and 101 was asked for"))
                }
            },
            None => match status {
                200..=399 => Verdict::Passed,
                101 => Verdict::Failed("it answered 101, which nobody asked for".to_owned()),
                100..=199 => Verdict::Interim,
                _ => Verdict::Failed(format!("it answered {status}")),
            },
        }
    }
}

/// The frame that ends the WebSocket of a check: Close with the status 1000, masked with `mask` (RFC 6455 sections 5.3 and
/// 7.4.1).
pub fn close_frame(mask: [u8; 4]) -> [u8; 8] {
    const CLOSE: u8 = 0x88;
    const MASKED: u8 = 0x80;
    const NORMAL: u16 = 1000;
    let [a, b, c, d] = mask;
    let [high, low] = NORMAL.to_be_bytes();
    [CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Limits, RequestHead};
    use crate::http::noise::Noise;

    fn check(method: &str) -> Check {
        Check::by(Method::parse(method).unwrap().unwrap())
    }

    fn question(method: &str, url: &str, uri: &str) -> Question {
        let mut check = check(method);
        check.uri = (!uri.is_empty()).then(|| Uri::parse(uri).unwrap());
        let url = BackendUrl::parse(url).unwrap();
        check.question(&url, *b"the sample nonce").unwrap()
    }

    fn judge(question: &Question, answer: &str) -> Verdict {
        let parsed = ResponseHead::parse(answer.as_bytes(), &Limits::default());
        question.verdict(&parsed.unwrap().unwrap().1)
    }

    #[test]
    fn methods_are_known_by_name() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.name()), Ok(Some(method)));
        }
        assert_eq!(Method::parse("ws"), Ok(Some(Method::Ws)));
        assert_eq!(
            Method::parse("Get11"),
            Ok(Some(Method::http(Verb::Get, true)))
        );
        assert_eq!(Method::parse("none"), Ok(None));
        let refusal = Method::parse("POST").unwrap_err();
        assert!(refusal.contains("unknown method \"POST\""), "{refusal}");
        assert!(refusal.contains("expected NONE, TCP, "), "{refusal}");
        assert!(Method::parse("cping").unwrap_err().contains("protocol"));
    }

    #[test]
    fn a_uri_can_hold_nothing_that_ends_a_request_line() {
        for text in ["/", "/health", "status.php", "/a?b=c&d", "?x", "/%0d%0a"] {
            assert_eq!(Uri::parse(text).map(|uri| uri.0), Ok(text.to_owned()));
        }
        for (text, expected) in [
            ("", "names nothing"),
            ("/a b", "holds the character ' '"),
            ("/a\r\nX: y", "percent-encoded"),
            ("/a\0", "percent-encoded"),
            ("/\u{e9}", "percent-encoded"),
            ("/a#b", "fragment"),
            ("http://b/health", "is a URL"),
        ] {
            let refusal = Uri::parse(text).unwrap_err();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_asked_for_is_behind_the_path_of_the_member() {
        for (path, uri, expected) in [
            ("", "", "/"),
            ("/", "", "/"),
            ("/app", "", "/app"),
            ("/app/", "", "/app/"),
            ("", "/health", "/health"),
            ("", "health", "/health"),
            ("/", "/health", "/health"),
            ("/app", "/health", "/app/health"),
            ("/app/", "health", "/app/health"),
            ("/app", "?deep", "/app?deep"),
            ("", "?deep", "/?deep"),
        ] {
            let uri = (!uri.is_empty()).then(|| Uri::parse(uri).unwrap());
            let url = BackendUrl::parse(&format!("ws://a{path}")).unwrap();
            assert_eq!(target(&url, uri.as_ref()), expected, "{path} {uri:?}");
        }
    }

    #[test]
    fn ordinary_questions_to_the_byte() {
        let agent = "User-Agent: proxy-wstunnel (health check)\r\n";
        for (method, url, uri, line, rest) in [
            ("HEAD", "http://a:81/app", "", "HEAD /app HTTP/1.0", ""),
            ("GET", "http://a:81", "/x?y", "GET /x?y HTTP/1.0", ""),
            ("OPTIONS", "http://a:81/app", "", "OPTIONS * HTTP/1.0", ""),
            ("OPTIONS", "ws://a:81/p", "/q", "OPTIONS /p/q HTTP/1.0", ""),
            (
                "GET11",
                "https://a:81",
                "",
                "GET / HTTP/1.1",
                "Connection: close\r\n",
            ),
        ] {
            let expected = format!("{line}\r\nHost: a:81\r\n{agent}{rest}\r\n");
            assert_eq!(question(method, url, uri).head, expected);
        }
        let url = BackendUrl::parse("ws://a").unwrap();
        assert_eq!(check("TCP").question(&url, [0; 16]), None);
    }

    #[test]
    fn a_websocket_is_asked_for_as_we_want_to_be_asked() {
        let question = question("WS", "wss://a/chat", "?check");
        let head = RequestHead::parse(question.head.as_bytes(), &Limits::default());
        let (used, head) = head.unwrap().unwrap();
        assert_eq!(used, question.head.len());
        assert_eq!(head.target(), "/chat?check");
        assert_eq!(head.headers.first("Host"), Some(&b"a"[..]));
        let asked = handshake::requested(&head, &handshake::Upgrade::default());
        assert_eq!(asked.ok(), question.asked);
    }

    #[test]
    fn two_and_three_hundreds_pass() {
        let question = question("GET", "http://a", "");
        for (status, passes) in [
            (199, Verdict::Interim),
            (200, Verdict::Passed),
            (204, Verdict::Passed),
            (302, Verdict::Passed),
            (399, Verdict::Passed),
            (400, Verdict::Failed("it answered 400".to_owned())),
            (503, Verdict::Failed("it answered 503".to_owned())),
        ] {
            let answer = format!("HTTP/1.1 {status} x\r\n\r\n");
            assert_eq!(judge(&question, &answer), passes);
        }
        let switched = judge(&question, "HTTP/1.1 101 x\r\n\r\n");
        assert!(matches!(switched, Verdict::Failed(_)), "{switched:?}");
    }

    #[test]
    fn a_websocket_passes_by_the_switch_that_was_asked_for() {
        let question = question("WS", "ws://a", "");
        let switch = |accept: &str| {
            format!(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )
        };
        let right = switch("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(judge(&question, &right), Verdict::Switched);
        let failed = |answer: &str| match judge(&question, answer) {
            Verdict::Failed(why) => why,
            other => format!("{other:?}"),
        };
        assert!(failed(&switch("AAAA")).contains("belongs to the key"));
        assert!(failed("HTTP/1.1 200 OK\r\n\r\n").contains("answered 200"));
        let interim = judge(&question, "HTTP/1.1 103 x\r\n\r\n");
        assert_eq!(interim, Verdict::Interim);
    }

    #[test]
    fn a_check_takes_no_longer_than_to_the_next_one() {
        for (timeout, interval, patience) in [
            (60_000, 30_000, 30_000),
            (5_000, 30_000, 5_000),
            (60_000, 100, 1_000),
            (200, 100, 200),
        ] {
            let check = Check {
                interval: Duration::from_millis(interval),
                ..check("WS")
            };
            let timeout = Duration::from_millis(timeout);
            assert_eq!(check.patience(timeout), Duration::from_millis(patience));
        }
    }

    #[test]
    fn the_close_is_masked_and_says_1000() {
        let frame = close_frame([1, 2, 3, 4]);
        assert_eq!(frame, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xE8 ^ 2]);
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(17);
        let url = BackendUrl::parse("ws://a/app").unwrap();
        for _ in 0..5_000 {
            let bytes = noise.mangle(b"/health?x=http://y", b"\r\n #?:/\xc3\xa9");
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(uri) = Uri::parse(&text) {
                let target = target(&url, Some(&uri));
                assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
            let _ = Method::parse(&text);
        }
    }
}
