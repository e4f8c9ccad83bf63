//! What a backend calls itself in its answers, as its clients know it: `ProxyPassReverse`, `ProxyPassReverseCookieDomain`
//! and `ProxyPassReverseCookiePath`.
//!
//! Decided here: what a line may say, and what becomes of the fields of an answer. A new value is made of visible
//! characters of the configuration, of our own name, which is that of an authority, and of what stood in the old value:
//! nothing comes in that could end a line.

mod address;
mod cookie;

use super::destination::BalancerUrl;
use super::facts::Facts;
use super::url::BackendUrl;
use crate::http::headers::Headers;
use address::Address;
use cookie::Cookie;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One line of `ProxyPassReverse` or of its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverse(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Address(Address),
    Cookie(Cookie),
}

/// The fields with an address that a `ProxyPassReverse` changes.
const ADDRESSES: [&str; 4] = ["Location", "Content-Location", "URI", "Destination"];

impl Reverse {
    /// Reads what a `ProxyPassReverse` says: the path (or the URL) that clients know, and the URL (or the path) that the
    /// backend writes. A Unix socket before it does not count: no answer names it.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn address(outside: &str, inside: &str, server_root: &Path) -> Result<Self, String> {
        Address::parse(outside, inside, server_root).map(|address| Self(Kind::Address(address)))
    }

    /// Reads what a `ProxyPassReverseCookieDomain` says.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn cookie_domain(internal: &str, public: &str) -> Result<Self, String> {
        Cookie::domain(internal, public).map(|cookie| Self(Kind::Cookie(cookie)))
    }

    /// Reads what a `ProxyPassReverseCookiePath` says.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn cookie_path(internal: &str, public: &str) -> Result<Self, String> {
        Cookie::path(internal, public).map(|cookie| Self(Kind::Cookie(cookie)))
    }

    /// The balancer that it names, for whose members it stands.
    pub fn balancer(&self) -> Option<&BalancerUrl> {
        self.as_address()?.balancer()
    }

    /// The same line for a member of the balancer that it names with `url`.
    #[must_use]
    pub fn at_member(&self, url: &BalancerUrl, member: &BackendUrl) -> Self {
        match &self.0 {
            Kind::Address(address) => Self(Kind::Address(address.at_member(url, member))),
            Kind::Cookie(_) => self.clone(),
        }
    }

    /// What is legal here and probably not meant.
    pub fn doubt(&self) -> Option<String> {
        self.as_address()?.doubt()
    }

    fn as_address(&self) -> Option<&Address> {
        match &self.0 {
            Kind::Address(address) => Some(address),
            Kind::Cookie(_) => None,
        }
    }

    fn as_cookie(&self) -> Option<&Cookie> {
        match &self.0 {
            Kind::Cookie(cookie) => Some(cookie),
            Kind::Address(_) => None,
        }
    }
}

impl fmt::Display for Reverse {
    /// What becomes of what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => address.fmt(f),
            Kind::Cookie(cookie) => cookie.fmt(f),
        }
    }
}

/// Changes the fields of an answer as the lines say. Of several that fit the first counts.
pub fn apply(lines: &[Arc<Reverse>], headers: &mut Headers, facts: &Facts<'_>) {
    if lines.is_empty() {
        return;
    }
    let addresses = lines.iter().filter_map(|line| line.as_address());
    for name in ADDRESSES {
        headers.change(name, |value| address::mapped(&addresses, value, facts));
    }
    let cookies = lines.iter().filter_map(|line| line.as_cookie());
    headers.change("Set-Cookie", |value| cookie::mapped(&cookies, value));
}

#[cfg(test)]
mod testing {
    use super::Facts;
    use crate::route::facts;
    use crate::route::own_name::OwnName;

    /// Those of a request for which we have this name.
    pub(super) fn facts(name: &str, port: Option<u16>, is_secure: bool) -> Facts<'_> {
        Facts {
            is_secure,
            own_name: OwnName { name, port },
            ..facts::testing::facts()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::facts;
    use super::*;

    #[test]
    fn all_fields_of_these_names_are_changed_and_no_others() {
        let lines = [
            Reverse::cookie_path("/", "/a/"),
            Reverse::address("/a/", "http://b/", Path::new("/")),
        ];
        let lines = lines.map(|line| Arc::new(line.unwrap()));
        let names = [
            "location",
            "Content-Location",
            "uri",
            "DESTINATION",
            "Link",
            "Refresh",
        ];
        let mut headers = Headers::default();
        for name in names {
            headers.push(name, b"http://b/x");
        }
        headers.push("Set-Cookie", b"a=1; Path=/");
        headers.push("X", b"a; Path=/");
        headers.push("set-cookie", b"b=1; Path=/b");
        apply(&lines, &mut headers, &facts("front", None, false));
        let found: Vec<_> = headers.iter().map(|(_, value)| value).collect();
        let (ours, same) = (&b"http://front/a/x"[..], &b"http://b/x"[..]);
        let expected = [ours, ours, ours, ours, same, same];
        assert_eq!(found.get(..6), Some(&expected[..]));
        assert_eq!(
            found.get(6..),
            Some(&[&b"a=1; Path=/a/"[..], b"a; Path=/", b"b=1; Path=/a/"][..])
        );
        let before = headers.clone();
        apply(&[], &mut headers, &facts("front", None, false));
        assert_eq!(headers, before);
    }

    #[test]
    fn lines_say_what_becomes_of_what() {
        let root = Path::new("/");
        for (line, expected) in [
            (
                Reverse::address("/a", "HTTP://B:80", root),
                "http://b -> /a",
            ),
            (
                Reverse::address("https://front", "/b/", root),
                "/b/ -> https://front/",
            ),
            (
                Reverse::cookie_domain(".b", ".front"),
                "cookie domain b -> .front",
            ),
            (Reverse::cookie_path("/b", "/"), "cookie path /b -> /"),
        ] {
            let line = line.unwrap();
            assert_eq!(line.to_string(), expected);
            assert_eq!(line.doubt(), None);
        }
    }
}
