//! The attributes of cookies. Source: httpd proxy_util.c `ap_proxy_cookie_reverse_map`.

use crate::http::authority::Authority;
use std::fmt;

/// One line of `ProxyPassReverseCookieDomain` or `ProxyPassReverseCookiePath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cookie {
    attribute: Attribute,
    /// What its value begins with when a backend writes it; a domain without a dot before it.
    internal: String,
    /// What it is when a browser shall read it.
    public: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Domain,
    Path,
}

impl Cookie {
    pub(super) fn domain(internal: &str, public: &str) -> Result<Self, String> {
        Ok(Self {
            attribute: Attribute::Domain,
            internal: without_dot(domain(internal)?).to_owned(),
            public: domain(public)?.to_owned(),
        })
    }

    pub(super) fn path(internal: &str, public: &str) -> Result<Self, String> {
        Ok(Self {
            attribute: Attribute::Path,
            internal: path(internal)?.to_owned(),
            public: path(public)?.to_owned(),
        })
    }

    fn fits(&self, attribute: Attribute, value: &[u8]) -> bool {
        let internal = self.internal.as_bytes();
        let has_start = match (attribute, value.get(..internal.len())) {
            (_, None) => false,
            (Attribute::Domain, Some(start)) => start.eq_ignore_ascii_case(internal),
            (Attribute::Path, Some(start)) => start == internal,
        };
        self.attribute == attribute && has_start
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attribute = match self.attribute {
            Attribute::Domain => "domain",
            Attribute::Path => "path",
        };
        write!(f, "cookie {attribute} {} -> {}", self.internal, self.public)
    }
}

/// A `Set-Cookie` with domain and path as the client knows them; none if no line has a say in it. Only the values of these
/// two attributes change.
///
/// Attributes are taken apart as a browser does it (RFC 6265 section 5.2), and the cookie itself is none.
// httpd: also takes a cookie called "path" or "domain" for the attribute, and does not see one before whose "=" is a blank.
pub(super) fn mapped<'a>(
    lines: &(impl Iterator<Item = &'a Cookie> + Clone),
    value: &[u8],
) -> Option<Vec<u8>> {
    let mut parts = value.split(|byte| *byte == b';');
    let mut new = parts.next()?.to_vec();
    let mut is_changed = false;
    for part in parts {
        new.push(b';');
        let wanted = named_value(part).and_then(|(name, attribute, value)| {
            let line = lines.clone().find(|line| line.fits(attribute, value))?;
            Some((name, line.public.as_bytes()))
        });
        let (name, value) = wanted.unwrap_or((part, b""));
        new.extend_from_slice(name);
        new.extend_from_slice(value);
        is_changed |= wanted.is_some();
    }
    is_changed.then_some(new)
}

/// One of the two attributes: its name as far as behind the `=`, which it is, and its value.
fn named_value(part: &[u8]) -> Option<(&[u8], Attribute, &[u8])> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    let (name, value) = part.split_at_checked(equals + 1)?;
    let bare = part.get(..equals)?.trim_ascii();
    let value = value.trim_ascii();
    if bare.eq_ignore_ascii_case(b"Path") {
        return Some((name, Attribute::Path, value));
    }
    // A dot before a domain means nothing (RFC 6265 section 5.2.3).
    // httpd: tells a domain with a dot from one without.
    let value = value.strip_prefix(b".").unwrap_or(value);
    bare.eq_ignore_ascii_case(b"Domain")
        .then_some((name, Attribute::Domain, value))
}

fn domain(text: &str) -> Result<&str, String> {
    let bare = without_dot(text);
    let is_domain = Authority::parse(bare.as_bytes())
        .is_ok_and(|authority| authority.port.is_none() && !authority.host.contains(':'));
    if !is_domain {
        return Err(format!(
            "\"{text}\" is not the domain of a cookie; expected a name without scheme, port and path, such as \
             \"app.example.org\""
        ));
    }
    Ok(text)
}

fn without_dot(domain: &str) -> &str {
    domain.strip_prefix('.').unwrap_or(domain)
}

/// A path as it stands in a cookie: what it says is the business of the browser, but it must not be more than one value.
fn path(text: &str) -> Result<&str, String> {
    if !text.starts_with('/') {
        return Err(format!("the path \"{text}\" does not begin with \"/\""));
    }
    if text.contains(';') {
        return Err(format!(
            "\"{text}\": a path ends at \";\"; to add attributes to cookies, write Header edit Set-Cookie"
        ));
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!(
            "\"{text}\": {odd:?} cannot stand in the path of a cookie; write it percent-encoded, as browsers do"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    /// Lines for cookies of `b.internal` and of the paths /base, /b and /odd.
    fn lines() -> [Cookie; 5] {
        [
            Cookie::domain("b.internal", "www.example"),
            Cookie::domain("internal", ".example"),
            Cookie::path("/base", "/app"),
            Cookie::path("/b", "/other/"),
            Cookie::path("/Odd", "/even"),
        ]
        .map(Result::unwrap)
    }

    fn becomes(value: &[u8]) -> Option<Vec<u8>> {
        mapped(&lines().iter(), value)
    }

    #[test]
    fn domain_and_path_of_a_cookie_become_those_that_the_client_knows() {
        for (value, expected) in [
            ("a=1; Path=/base", "a=1; Path=/app"),
            // The whole value, whatever it had behind the beginning.
            ("a=1; Path=/base/x/y", "a=1; Path=/app"),
            ("a=1; Path=/bas", "a=1; Path=/other/"),
            ("a=1;path=/Odd;Secure", "a=1;path=/even;Secure"),
            ("a=1; PATH = /base ; HttpOnly", "a=1; PATH =/app; HttpOnly"),
            ("a=1; Domain=b.internal", "a=1; Domain=www.example"),
            ("a=1; domain=B.Internal.too", "a=1; domain=www.example"),
            ("a=1; Domain=.b.internal", "a=1; Domain=www.example"),
            ("a=1; Domain=internal", "a=1; Domain=.example"),
            (
                "a=\"1,2\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Domain=b.internal; Path=/base; Secure; SameSite=Lax",
                "a=\"1,2\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Domain=www.example; Path=/app; Secure; SameSite=Lax",
            ),
            // A browser takes the last of a name.
            ("a=1; Path=/x; Path=/base", "a=1; Path=/x; Path=/app"),
            ("a=1; Path=/base; Path=/b", "a=1; Path=/app; Path=/other/"),
            // The cookie itself is none of its attributes.
            ("path=/base; Path=/base", "path=/base; Path=/app"),
            ("; Path=/base", "; Path=/app"),
        ] {
            let new = becomes(value.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(new).unwrap(), expected, "{value}");
        }
        assert_eq!(
            becomes(b"\xff=\xe4; Path=/base\xff; \xfe").unwrap(),
            b"\xff=\xe4; Path=/app; \xfe"
        );
    }

    #[test]
    fn other_cookies_stay_as_they_are() {
        for value in [
            "",
            ";",
            "a",
            "a=1",
            "path=/base",
            "domain=b.internal",
            "Path=/base",
            "a=1; Path",
            "a=1; Path=",
            "a=1; Path=/",
            "a=1; Path=/ODD",
            "a=1; Path=base",
            "a=1; Path=\"/base\"",
            "a=1; XPath=/base",
            "a=1; Path/base",
            "a=1; Paths=/base",
            "a=1; =/base",
            "a=1; Domain=",
            "a=1; Domain=.",
            "a=1; Domain=other.internal",
            "a=1; Domain=nternal",
            "a=1; Domain=..b.internal",
            "a=1; Comment=Path=/base",
            "a=1,Path=/base",
        ] {
            assert_eq!(becomes(value.as_bytes()), None, "{value}");
        }
        assert_eq!(mapped(&[].iter(), b"a=1; Path=/base"), None);
    }

    #[test]
    fn what_is_no_domain_and_no_path_is_refused() {
        for text in [
            "",
            ".",
            "localhost:80",
            "http://b/",
            "b/",
            "[::1]",
            "*.b",
            "b;c",
            "b\r\nX: y",
        ] {
            assert!(Cookie::domain(text, "b").is_err(), "{text}");
            assert!(Cookie::domain("b", text).is_err(), "{text}");
        }
        for text in [
            "",
            "base",
            "/a;Secure",
            "/a b",
            "/\u{e4}",
            "/\r\nX: y",
            "/\u{7f}",
        ] {
            assert!(Cookie::path(text, "/").is_err(), "{text}");
            assert!(Cookie::path("/", text).is_err(), "{text}");
        }
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(7);
        let lines = lines();
        let samples: [&[u8]; 2] = [
            b"a=1; Path=/base; Domain=.b.internal; Secure",
            b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; path=/b",
        ];
        let mut changed = 0;
        for _ in 0..20_000 {
            let sample = noise.pick(&samples);
            let value = noise.mangle(sample, b";=. \xff\0Pp");
            let Some(new) = mapped(&lines.iter(), &value) else {
                continue;
            };
            changed += 1;
            let count = |text: &[u8]| text.iter().filter(|byte| **byte == b';').count();
            assert_eq!(count(&new), count(&value), "{value:?}");
        }
        assert!(changed > 1000, "{changed}");
    }
}
