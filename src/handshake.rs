//! What the client must ask, and what the backend must answer, before a tunnel begins (RFC 6455 section 4,
//! RFC 9110 section 7.8).
//!
//! We stand between the two ends of a handshake and check both: an answer is believed only if it fits what was asked. The
//! frames behind it are nobody's business here.

use crate::http::answer::Refusal;
use crate::http::body::Framing;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::headers::{Headers, is_token};
use crate::ids::Id;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// Which protocol a mapping upgrades to. httpd: `ProxyPass upgrade=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// One named protocol, `WebSocket` by default.
    Protocol(String),
    /// `ANY`: the one that the client names.
    Any,
    /// `NONE`: the client's `Upgrade` is not looked at; the backend is asked for WebSocket.
    None,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self::Protocol(WEBSOCKET.to_owned())
    }
}

impl Upgrade {
    /// Parses the value of `upgrade=`: a protocol of at most 15 characters, or `ANY` or `NONE` (any case).
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        // httpd keeps the value in 16 bytes, and cuts what is longer.
        const LONGEST: usize = 15;
        if text.eq_ignore_ascii_case("ANY") {
            return Ok(Self::Any);
        }
        if text.eq_ignore_ascii_case("NONE") {
            return Ok(Self::None);
        }
        if !is_protocol(text.as_bytes()) {
            return Err(format!(
                "{text:?} is not one protocol name; expected a name such as websocket, or ANY or NONE"
            ));
        }
        if text.len() > LONGEST {
            return Err(format!(
                "{text:?} is longer than {LONGEST} characters; expected a name such as websocket, or ANY or NONE"
            ));
        }
        Ok(Self::Protocol(text.to_owned()))
    }

    /// The protocol that a client is told to ask for.
    fn wanted(&self) -> &str {
        match self {
            Self::Protocol(protocol) => protocol,
            Self::Any | Self::None => WEBSOCKET,
        }
    }
}

const WEBSOCKET: &str = "WebSocket";

/// What is asked of the backend, and so what its answer has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    token: String,
    /// The value that `Sec-WebSocket-Accept` must have. `None` if no key was sent, which only `upgrade=NONE` lets through.
    accept: Option<String>,
    /// The fields in which the client offers subprotocols and extensions.
    offered: Headers,
}

impl Asked {
    /// A WebSocket that we ask for ourselves, without subprotocols and extensions, and the `Sec-WebSocket-Key` to ask with.
    /// `nonce` is drawn anew for each time (RFC 6455 section 4.1, step 7).
    pub fn by_us(nonce: [u8; 16]) -> (Self, String) {
        let key = STANDARD.encode(nonce);
        let asked = Self {
            token: WEBSOCKET.to_owned(),
            accept: Some(accept_for(key.as_bytes())),
            offered: Headers::default(),
        };
        (asked, key)
    }

    /// The protocol for the `Upgrade` field.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether that protocol is WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.token.eq_ignore_ascii_case(WEBSOCKET)
    }
}

const ACCEPT: &str = "Sec-WebSocket-Accept";
const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const KEY: &str = "Sec-WebSocket-Key";
const PROTOCOL: &str = "Sec-WebSocket-Protocol";
const VERSION: &str = "Sec-WebSocket-Version";

/// Decides whether a request asks for the upgrade of any of several backends, of which there is at least one.
///
/// # Errors
/// What [`requested`] says of the first.
pub fn requested_of_any<'u>(
    head: &RequestHead,
    upgrades: impl IntoIterator<Item = &'u Upgrade>,
) -> Result<(), Refusal> {
    let mut asked = upgrades.into_iter().map(|upgrade| requested(head, upgrade));
    let Some(Err(refusal)) = asked.next() else {
        return Ok(());
    };
    if asked.any(|asked| asked.is_ok()) {
        return Ok(());
    }
    Err(refusal)
}

/// Decides whether a request asks for the upgrade that its mapping gives.
///
/// # Errors
/// 426 if it asks for no upgrade, for another one, or for another version of WebSocket; the answer says what to ask for.
/// 400 if it asks in a way that must not be passed on.
pub fn requested(head: &RequestHead, upgrade: &Upgrade) -> Result<Asked, Refusal> {
    let token = token_for(head, upgrade)?;
    // RFC 6455 section 4.2.1, in its order.
    // 1. A GET of HTTP/1.1. (RFC 9110 section 7.8 also: an upgrade in HTTP/1.0 is to be ignored.)
    if head.method() != "GET" {
        return Err(bad("an upgrade must be asked for with GET"));
    }
    if head.version != Version::Http11 {
        return Err(bad("an upgrade must be asked for with HTTP/1.1"));
    }
    // 2. A Host field: `RequestHead` cannot be without.
    // 3. An Upgrade field with the protocol: `token_for`.
    // 4. A Connection field with "upgrade". Whoever removed the one upstream of us removed the other as well, so NONE
    //    cannot ask for it.
    if *upgrade != Upgrade::None && !head.headers.has_token("Connection", "upgrade") {
        return Err(bad("the Connection header field does not name \"upgrade\""));
    }
    // Not in that list: a body. httpd 2.4.46 passed it on as the first bytes of the tunnel; to a backend that does not
    // switch they were the next request.
    if Framing::of_request(head)?.has_body() {
        return Err(bad("a request for an upgrade must not have a body"));
    }
    let mut asked = Asked {
        token,
        accept: None,
        offered: Headers::default(),
    };
    if asked.is_websocket() {
        // Under NONE these fields may be missing; those that are there follow the rules.
        let optional = *upgrade == Upgrade::None;
        // 5. A key: 16 bytes in base64, once.
        asked.accept = match key(&head.headers)? {
            Some(key) => Some(accept_for(key)),
            None if optional => None,
            None => return Err(bad("the Sec-WebSocket-Key header field is missing")),
        };
        // 6. A version of 13 (section 4.4 says how others are answered).
        check_version(&head.headers, optional, upgrade)?;
        // 7. The origin is for the backend to judge.
        // 8. and 9. Subprotocols and extensions: kept, to be held against the answer.
        for name in [PROTOCOL, EXTENSIONS] {
            for value in head.headers.all(name) {
                asked.offered.push(name, value);
            }
        }
    }
    Ok(asked)
}

/// The protocol to ask the backend for.
fn token_for(head: &RequestHead, upgrade: &Upgrade) -> Result<String, Refusal> {
    if *upgrade == Upgrade::None {
        return Ok(WEBSOCKET.to_owned());
    }
    let mut named = head.headers.tokens("Upgrade");
    if !named.all(is_protocol) {
        return Err(bad("the Upgrade header field is not a list of protocols"));
    }
    let first = head.headers.tokens("Upgrade").next();
    match (upgrade, first) {
        // httpd: takes no list, so a client that offers a second protocol is turned away there.
        (Upgrade::Protocol(token), _) if head.headers.has_token("Upgrade", token) => {
            Ok(token.clone())
        }
        (Upgrade::Any, Some(first)) => Ok(String::from_utf8_lossy(first).into_owned()),
        (_, None) => Err(upgrade_required(
            upgrade,
            "the request asks for no upgrade of the protocol",
        )),
        (_, Some(_)) => Err(upgrade_required(
            upgrade,
            "the request asks for an upgrade to another protocol",
        )),
    }
}

/// The one valid key, if there is a key.
fn key(headers: &Headers) -> Result<Option<&[u8]>, Refusal> {
    let mut keys = headers.all(KEY);
    let key = keys.next();
    if keys.next().is_some() {
        return Err(bad("there is more than one Sec-WebSocket-Key header field"));
    }
    match key {
        Some(key) if !is_key(key) => Err(bad(
            "the Sec-WebSocket-Key header field is not 16 bytes in base64",
        )),
        _ => Ok(key),
    }
}

/// Whether this is the base64 form of 16 bytes. The four bits that stand for nothing may be set: some clients draw the
/// characters at random, and no server decodes them.
fn is_key(text: &[u8]) -> bool {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    // 24 characters stand for up to 18 bytes.
    let mut nonce = [0; 18];
    text.len() == 24 && LENIENT.decode_slice(text, &mut nonce) == Ok(16)
}

fn check_version(headers: &Headers, optional: bool, upgrade: &Upgrade) -> Result<(), Refusal> {
    let mut versions = headers.all(VERSION);
    match (versions.next(), versions.next()) {
        (Some(b"13"), None) => Ok(()),
        (None, _) if optional => Ok(()),
        _ => {
            let refusal = upgrade_required(upgrade, "the version of WebSocket is not 13");
            Err(refusal.with_header(VERSION, "13"))
        }
    }
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Id::BadUpgrade, why)
}

fn upgrade_required(upgrade: &Upgrade, why: &str) -> Refusal {
    let wanted = upgrade.wanted();
    Refusal::new(
        Id::UpgradeRequired,
        format!("{why}; {wanted:?} is spoken here"),
    )
    .with_header("Upgrade", wanted)
}

/// What a backend's answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It switched to what was asked: the tunnel begins.
    Switched,
    /// An interim answer (1xx other than 101): the real one is still to come.
    Interim,
    /// It did not switch: this is an ordinary answer.
    Relay,
    /// It says that it switched, but not as was asked. Why not, in the manner of log lines.
    Bad(String),
}

/// Holds a backend's answer against what was asked: the checks of RFC 6455 section 4.1 for a client, in their order.
pub fn verdict(answer: &ResponseHead, asked: &Asked) -> Verdict {
    match answer.status {
        101 => match check_switch(answer, asked) {
            Ok(()) => Verdict::Switched,
            Err(found) => Verdict::Bad(found),
        },
        100..=199 => Verdict::Interim,
        // 1. Any other status is handled as HTTP says.
        _ => Verdict::Relay,
    }
}

/// What is wrong with a 101.
fn check_switch(answer: &ResponseHead, asked: &Asked) -> Result<(), String> {
    // RFC 9110 section 15.2: HTTP/1.0 has no such status.
    if answer.version != Version::Http11 {
        return Err("the 101 is of HTTP/1.0".to_owned());
    }
    // 2. Upgrade names the protocol, in any case. A list would leave open what is spoken.
    let mut named = answer.headers.all("Upgrade");
    match (named.next(), named.next()) {
        (None, _) => return Err("the 101 has no Upgrade".to_owned()),
        (Some(named), None) if named.eq_ignore_ascii_case(asked.token.as_bytes()) => {}
        (Some(named), _) => {
            return Err(format!(
                "the 101 has the Upgrade \"{}\", but {:?} was asked for",
                named.escape_ascii(),
                asked.token
            ));
        }
    }
    // 3. Connection has the token "upgrade", in any case.
    if !answer.headers.has_token("Connection", "upgrade") {
        return Err("the 101 has no \"upgrade\" in Connection".to_owned());
    }
    if !asked.is_websocket() {
        return Ok(());
    }
    // 4. Sec-WebSocket-Accept is what the key makes of it.
    if let Some(expected) = &asked.accept {
        let mut accepts = answer.headers.all(ACCEPT);
        match (accepts.next(), accepts.next()) {
            (None, _) => return Err(format!("the 101 has no {ACCEPT}")),
            (Some(accept), None) if accept == expected.as_bytes() => {}
            (Some(accept), None) => {
                return Err(format!(
                    "the 101 has the {ACCEPT} \"{}\", but \"{expected}\" belongs to the key",
                    accept.escape_ascii()
                ));
            }
            (Some(_), Some(_)) => return Err(format!("the 101 has more than one {ACCEPT}")),
        }
    }
    // 5. Every extension was offered. Their parameters are for those who speak them.
    let not_offered = answer.headers.tokens(EXTENSIONS).map(extension_name);
    for extension in not_offered {
        let mut offered = asked.offered.tokens(EXTENSIONS).map(extension_name);
        if !offered.any(|offered| offered.eq_ignore_ascii_case(extension)) {
            return Err(format!(
                "the 101 has the extension \"{}\", which was not offered",
                extension.escape_ascii()
            ));
        }
    }
    // 6. At most one subprotocol, and one that was offered.
    let mut chosen = answer.headers.all(PROTOCOL);
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if asked.offered.tokens(PROTOCOL).any(|offered| offered == one) => Ok(()),
        (Some(one), None) => Err(format!(
            "the 101 has the subprotocol \"{}\", which was not offered",
            one.escape_ascii()
        )),
        (Some(_), Some(_)) => Err(format!("the 101 has more than one {PROTOCOL}")),
    }
}

/// The name of an extension in front of its parameters.
fn extension_name(element: &[u8]) -> &[u8] {
    let name = element.split(|byte| *byte == b';').next();
    name.unwrap_or_default().trim_ascii()
}

/// The `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub fn accept_for(key: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.digest().bytes())
}

/// Whether `text` is a protocol: a token, or a token and a version behind a slash (RFC 9110 section 7.8).
fn is_protocol(text: &[u8]) -> bool {
    text.splitn(2, |byte| *byte == b'/').all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Limits;
    use crate::http::noise::Noise;
    use crate::http::persistence::Afterwards;

    const FIELDS: [&str; 4] = [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    const ACCEPT_LINE: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn request(line: &str, fields: &[&str]) -> RequestHead {
        let text = format!("{line}\r\nHost: a\r\n{}\r\n\r\n", fields.join("\r\n"));
        let text = text.replace("\r\n\r\n\r\n", "\r\n\r\n");
        let parsed = RequestHead::parse(text.as_bytes(), &Limits::default());
        parsed.unwrap().unwrap().1
    }

    fn ask(fields: &[&str], upgrade: &Upgrade) -> Result<Asked, Refusal> {
        requested(&request("GET / HTTP/1.1", fields), upgrade)
    }

    /// The fields of a good request, with those of the same name replaced.
    fn with<'a>(fields: &[&'a str]) -> Vec<&'a str> {
        let name = |field: &str| field.split(':').next().unwrap().to_owned();
        let replaced: Vec<_> = fields.iter().map(|field| name(field)).collect();
        let kept = FIELDS
            .into_iter()
            .filter(|field| !replaced.contains(&name(field)));
        kept.chain(fields.iter().copied()).collect()
    }

    fn status(fields: &[&str], upgrade: &Upgrade) -> u16 {
        ask(&with(fields), upgrade).map_or_else(|refusal| refusal.status, |_| 101)
    }

    #[test]
    fn one_of_several_backends_is_enough() {
        let [websocket, h2c] = ["websocket", "h2c"].map(|name| Upgrade::parse(name).unwrap());
        let of_any = |fields: &[&str], upgrades: &[&Upgrade]| {
            let head = request("GET / HTTP/1.1", &with(fields));
            let asked = requested_of_any(&head, upgrades.iter().copied());
            asked.map_err(|refusal| (refusal.status, refusal.why))
        };
        assert_eq!(of_any(&[], &[&websocket, &h2c]), Ok(()));
        assert_eq!(of_any(&[], &[&h2c, &websocket]), Ok(()));
        assert_eq!(of_any(&["Upgrade: h2c"], &[&websocket, &h2c]), Ok(()));
        let (status, why) = of_any(&[], &[&h2c, &h2c]).unwrap_err();
        assert_eq!(status, 426);
        // It is the first that says what to do.
        assert!(why.contains("h2c"), "{why}");
        let fields = ["Upgrade: other"];
        let (_, why) = of_any(&fields, &[&websocket, &h2c]).unwrap_err();
        assert!(why.to_ascii_lowercase().contains("websocket"), "{why}");
    }

    fn judge(line: &str, fields: &[&str], asked: &Asked) -> Verdict {
        let text = format!("{line}\r\n{}\r\n\r\n", fields.join("\r\n"));
        let parsed = ResponseHead::parse(text.as_bytes(), &Limits::default());
        verdict(&parsed.unwrap().unwrap().1, asked)
    }

    fn found(fields: &[&str], asked: &Asked) -> String {
        match judge("HTTP/1.1 101 Switching Protocols", fields, asked) {
            Verdict::Bad(found) => found,
            other => format!("{other:?}"),
        }
    }

    fn websocket() -> Upgrade {
        Upgrade::default()
    }

    #[test]
    fn what_we_ask_ourselves_is_what_we_take_from_others() {
        let (by_us, key) = Asked::by_us(*b"the sample nonce");
        assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(ask(&FIELDS, &websocket()).ok(), Some(by_us));
    }

    #[test]
    fn the_value_of_upgrade_is_one_protocol() {
        assert_eq!(Upgrade::parse("any"), Ok(Upgrade::Any));
        assert_eq!(Upgrade::parse("NONE"), Ok(Upgrade::None));
        for name in ["websocket", "TLS/1.0", "fifteen-letters"] {
            assert_eq!(Upgrade::parse(name), Ok(Upgrade::Protocol(name.to_owned())));
        }
        for name in [
            "",
            "a b",
            "a,b",
            "/",
            "a/",
            "a/b/c",
            "sixteen--letters",
            "a\u{e9}",
        ] {
            let error = Upgrade::parse(name).unwrap_err();
            assert!(
                error.contains("expected a name such as websocket"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_sample_key_of_the_rfc_has_its_accept() {
        let accept = accept_for(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_good_request_is_asked_on() {
        let asked = ask(&FIELDS, &websocket()).unwrap();
        assert_eq!(asked.token(), "WebSocket");
        assert!(asked.is_websocket());
        let named = Upgrade::Protocol("websocket".to_owned());
        assert_eq!(ask(&FIELDS, &named).unwrap().token(), "websocket");
    }

    #[test]
    fn a_request_without_the_upgrade_is_told_which() {
        for fields in [
            FIELDS[1..].to_vec(),
            with(&["Upgrade: h2c"]),
            with(&["Upgrade: websocket/13"]),
            with(&["Upgrade:"]),
            with(&["Upgrade: ,"]),
        ] {
            let refusal = ask(&fields, &websocket()).unwrap_err();
            assert_eq!(refusal.status, 426, "{fields:?}");
            let text = String::from_utf8(
                refusal
                    .encode(false, 0, &Headers::default(), None, Afterwards::Ends)
                    .0,
            )
            .unwrap();
            assert!(text.contains("\r\nUpgrade: WebSocket\r\n"));
            assert!(text.contains("\r\nConnection: close, Upgrade\r\n"));
        }
    }

    #[test]
    fn a_list_with_the_protocol_will_do() {
        for field in [
            "Upgrade: h2c, WEBSOCKET",
            "Upgrade: h2c\r\nUpgrade: websocket",
            "Upgrade: ,websocket/8 ,  websocket",
        ] {
            assert_eq!(status(&[field], &websocket()), 101, "{field}");
        }
    }

    #[test]
    fn an_upgrade_that_is_no_list_of_protocols_is_refused() {
        for field in [
            "Upgrade: web socket",
            "Upgrade: websocket, \"x\"",
            "Upgrade: websocket, /",
        ] {
            assert_eq!(status(&[field], &websocket()), 400, "{field}");
            assert_eq!(status(&[field], &Upgrade::Any), 400, "{field}");
        }
    }

    #[test]
    fn every_rule_for_a_request_is_held() {
        for (line, expected) in [
            ("POST / HTTP/1.1", 400),
            ("get / HTTP/1.1", 400),
            ("GET / HTTP/1.0", 400),
        ] {
            let refusal = requested(&request(line, &FIELDS), &websocket()).unwrap_err();
            assert_eq!(refusal.status, expected, "{line}");
        }
        for (field, expected) in [
            ("Connection: close", 400),
            ("Connection: not-upgrade", 400),
            ("Connection: UPGRADE", 101),
            ("Content-Length: 0", 101),
            ("Content-Length: 1", 400),
            ("Transfer-Encoding: chunked", 400),
            ("Sec-WebSocket-Key:", 400),
            ("Sec-WebSocket-Key: short", 400),
            // 15 and 17 bytes, and a character that is not of the alphabet.
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA", 400),
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=", 400),
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA", 400),
            ("Sec-WebSocket-Key: -AAAAAAAAAAAAAAAAAAAAA==", 400),
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", 101),
            ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==", 101),
            (
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                400,
            ),
            ("Sec-WebSocket-Version: 8", 426),
            ("Sec-WebSocket-Version: 13, 8", 426),
            (
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
                426,
            ),
            ("Sec-WebSocket-Version:", 426),
        ] {
            assert_eq!(status(&[field], &websocket()), expected, "{field}");
        }
        assert_eq!(ask(&FIELDS[..2], &websocket()).unwrap_err().status, 400);
    }

    #[test]
    fn another_version_is_told_which_is_spoken() {
        for fields in [&FIELDS[..3], &with(&["Sec-WebSocket-Version: 8"])] {
            let refusal = ask(fields, &websocket()).unwrap_err();
            let text = String::from_utf8(
                refusal
                    .encode(false, 0, &Headers::default(), None, Afterwards::Ends)
                    .0,
            )
            .unwrap();
            assert!(text.starts_with("HTTP/1.1 426 "));
            assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"));
            assert!(text.contains("\r\nUpgrade: WebSocket\r\n"));
        }
    }

    #[test]
    fn any_asks_for_the_first_that_the_client_names() {
        let fields = ["Upgrade: echo/1, websocket", "Connection: upgrade"];
        let asked = ask(&fields, &Upgrade::Any).unwrap();
        assert_eq!(asked.token(), "echo/1");
        assert!(!asked.is_websocket());
        assert_eq!(ask(&fields[1..], &Upgrade::Any).unwrap_err().status, 426);
        // WebSocket keeps its rules, however it was named.
        let bare = ["Upgrade: webSocket", "Connection: upgrade"];
        assert_eq!(ask(&bare, &Upgrade::Any).unwrap_err().status, 400);
    }

    #[test]
    fn another_protocol_has_no_rules_of_websocket() {
        let echo = Upgrade::Protocol("echo".to_owned());
        let asked = ask(&["Upgrade: Echo", "Connection: upgrade"], &echo).unwrap();
        assert_eq!(asked.token(), "echo");
        assert_eq!(
            found(&["Upgrade: ECHO", "Connection: upgrade"], &asked),
            "Switched"
        );
        let refusal = ask(&FIELDS, &echo).unwrap_err();
        assert_eq!(refusal.status, 426);
    }

    #[test]
    fn none_does_not_look_at_the_upgrade() {
        for fields in [&[][..], &["Upgrade: ???"], &["Connection: close"], &FIELDS] {
            let asked = ask(fields, &Upgrade::None).unwrap();
            assert_eq!(asked.token(), "WebSocket");
            assert_eq!(asked.accept.is_some(), fields.len() == FIELDS.len());
        }
        for (field, expected) in [
            ("Sec-WebSocket-Key: x", 400),
            ("Sec-WebSocket-Version: 8", 426),
            ("Content-Length: 5", 400),
        ] {
            let refusal = ask(&[field], &Upgrade::None).unwrap_err();
            assert_eq!(refusal.status, expected, "{field}");
        }
        let post = request("POST / HTTP/1.1", &[]);
        assert_eq!(requested(&post, &Upgrade::None).unwrap_err().status, 400);
    }

    #[test]
    fn none_verifies_the_101_all_the_same() {
        let asked = ask(&[], &Upgrade::None).unwrap();
        assert_eq!(
            found(&["Upgrade: websocket", "Connection: upgrade"], &asked),
            "Switched"
        );
        assert!(found(&["Connection: upgrade"], &asked).contains("no Upgrade"));
        let asked = ask(&FIELDS, &Upgrade::None).unwrap();
        assert!(found(&["Upgrade: websocket", "Connection: upgrade"], &asked).contains(ACCEPT));
    }

    #[test]
    fn a_101_that_fits_switches() {
        let mut fields = with(&["Sec-WebSocket-Protocol: chat, super.chat"]);
        fields.push("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-foo");
        let asked = ask(&fields, &websocket()).unwrap();
        let good = ["Upgrade: WEBsocket", "Connection: x, upgrade", ACCEPT_LINE];
        for more in [
            "X: y",
            "Sec-WebSocket-Protocol: super.chat",
            "Sec-WebSocket-Extensions: permessage-deflate;server_no_context_takeover",
            "Sec-WebSocket-Extensions: x-foo\r\nSec-WebSocket-Extensions: permessage-deflate",
        ] {
            let fields = [good.as_slice(), &[more]].concat();
            assert_eq!(found(&fields, &asked), "Switched", "{more}");
        }
        for (more, part) in [
            (
                "Sec-WebSocket-Protocol: Chat",
                "the subprotocol \"Chat\", which was not",
            ),
            (
                "Sec-WebSocket-Protocol: chat, super.chat",
                "was not offered",
            ),
            ("Sec-WebSocket-Protocol:", "the subprotocol \"\""),
            (
                "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat",
                "more than one Sec-WebSocket-Protocol",
            ),
            (
                "Sec-WebSocket-Extensions: x-bar; x-foo",
                "the extension \"x-bar\"",
            ),
            (
                "Sec-WebSocket-Extensions: x-foo, x-bar",
                "the extension \"x-bar\"",
            ),
        ] {
            let fields = [good.as_slice(), &[more]].concat();
            let found = found(&fields, &asked);
            assert!(found.contains(part), "{more}: {found}");
        }
    }

    #[test]
    fn nothing_may_be_chosen_where_nothing_was_offered() {
        let asked = ask(&FIELDS, &websocket()).unwrap();
        let good = ["Upgrade: websocket", "Connection: upgrade", ACCEPT_LINE];
        for more in [
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Extensions: x",
        ] {
            let fields = [good.as_slice(), &[more]].concat();
            assert!(found(&fields, &asked).contains("not offered"), "{more}");
        }
    }

    #[test]
    fn a_101_that_does_not_fit_is_bad() {
        let asked = ask(&FIELDS, &websocket()).unwrap();
        let connection = "Connection: upgrade";
        let upgrade = "Upgrade: websocket";
        for (fields, part) in [
            (&[connection, ACCEPT_LINE][..], "no Upgrade"),
            (
                &["Upgrade: h2c", connection, ACCEPT_LINE],
                "the Upgrade \"h2c\", but \"WebSocket\" was asked for",
            ),
            (
                &["Upgrade: websocket, h2c", connection, ACCEPT_LINE],
                "the Upgrade \"websocket, h2c\"",
            ),
            (&[upgrade, upgrade, connection, ACCEPT_LINE], "the Upgrade"),
            (&[upgrade, ACCEPT_LINE], "no \"upgrade\" in Connection"),
            (
                &[upgrade, "Connection: close", ACCEPT_LINE],
                "no \"upgrade\" in Connection",
            ),
            (&[upgrade, connection], "no Sec-WebSocket-Accept"),
            (
                &[
                    upgrade,
                    connection,
                    "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                ],
                "belongs to the key",
            ),
            (
                &[upgrade, connection, ACCEPT_LINE, ACCEPT_LINE],
                "more than one Sec-WebSocket-Accept",
            ),
        ] {
            let found = found(fields, &asked);
            assert!(found.contains(part), "{fields:?}: {found}");
        }
        let old = judge(
            "HTTP/1.0 101 x",
            &[upgrade, connection, ACCEPT_LINE],
            &asked,
        );
        assert_eq!(old, Verdict::Bad("the 101 is of HTTP/1.0".to_owned()));
    }

    #[test]
    fn other_answers_are_no_switch() {
        let asked = ask(&FIELDS, &websocket()).unwrap();
        let fields = ["Upgrade: websocket", "Connection: upgrade", ACCEPT_LINE];
        for (line, verdict) in [
            ("HTTP/1.1 100 Continue", Verdict::Interim),
            ("HTTP/1.1 103 Early Hints", Verdict::Interim),
            ("HTTP/1.1 200 OK", Verdict::Relay),
            ("HTTP/1.1 426 Upgrade Required", Verdict::Relay),
            ("HTTP/1.0 500 Oops", Verdict::Relay),
            ("HTTP/1.1 999 ?", Verdict::Relay),
        ] {
            assert_eq!(judge(line, &fields, &asked), verdict, "{line}");
        }
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(0x5eed_0004);
        let request = with(&["Sec-WebSocket-Extensions: a; b, c"]).join("\r\n");
        let answer = ["Upgrade: websocket", "Connection: upgrade", ACCEPT_LINE].join("\r\n");
        let likely = b",;/= \r\n\xff";
        for _ in 0..5000 {
            let head = |line: &str, fields: &str, noise: &mut Noise| {
                let fields = noise.mangle(fields.as_bytes(), likely);
                [line.as_bytes(), &fields, b"\r\n\r\n"].concat()
            };
            let bytes = head("GET / HTTP/1.1\r\nHost: a\r\n", &request, &mut noise);
            let Ok(Some((_, parsed))) = RequestHead::parse(&bytes, &Limits::default()) else {
                continue;
            };
            let upgrade = noise
                .pick(&[websocket(), Upgrade::Any, Upgrade::None])
                .clone();
            let Ok(asked) = requested(&parsed, &upgrade) else {
                continue;
            };
            let bytes = head("HTTP/1.1 101 x\r\n", &answer, &mut noise);
            if let Ok(Some((_, parsed))) = ResponseHead::parse(&bytes, &Limits::default()) {
                let _ = verdict(&parsed, &asked);
            }
        }
    }
}
