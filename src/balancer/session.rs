//! Which member a session belongs to, as its request says: in a parameter of the URL, or in a cookie. httpd:
//! `mod_proxy_balancer.c`, `find_session_route`.
//!
//! The member stands in what the client sends and nowhere else, so any number of proxies agree about it without a word.

use crate::http::headers::Headers;
use std::fmt;

/// `stickysession=` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// `stickysession=`: where a session says whose it is; unset means that there are no sessions.
    pub names: Option<Names>,
    /// `stickysessionsep=`: what stands before the route in the value; `None` is `Off`: all of it is the route.
    pub separator: Option<u8>,
    /// `scolonpathdelim=`: whether a `;` ends the value in a URL as well.
    pub semicolon_delimits: bool,
    /// `nofailover=`: whether a session whose member cannot be used is refused rather than given to another one.
    pub no_failover: bool,
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            names: None,
            separator: Some(b'.'),
            semicolon_delimits: false,
            no_failover: false,
        }
    }
}

/// The names that are looked for; never empty, and in the case that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    cookie: String,
    parameter: String,
}

impl Names {
    /// Parses `cookie`, which is the parameter of the URL as well, or `cookie|parameter`.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (cookie, parameter) = text.split_once('|').unwrap_or((text, text));
        let is_name = |name: &str| {
            let is_odd = |c: char| c.is_ascii_control() || " \t|=;,?&".contains(c);
            !name.is_empty() && !name.contains(is_odd)
        };
        if !is_name(cookie) || !is_name(parameter) {
            return Err(format!(
                "{text:?} is no name of a session; expected the name of a cookie, or cookie|parameter with that of a \
                 parameter of the URL"
            ));
        }
        Ok(Self {
            cookie: cookie.to_owned(),
            parameter: parameter.to_owned(),
        })
    }
}

impl fmt::Display for Names {
    /// As they are configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cookie)?;
        if self.cookie != self.parameter {
            write!(f, "|{}", self.parameter)?;
        }
        Ok(())
    }
}

/// Parses the value of `stickysessionsep=`: one ASCII character, or `Off`.
///
/// # Errors
/// A sentence that says what was found and what was expected.
pub fn separator(text: &str) -> Result<Option<u8>, String> {
    match text.as_bytes() {
        [one] => Ok(Some(*one)),
        _ if text.eq_ignore_ascii_case("off") => Ok(None),
        _ => Err(format!("{text:?}: expected one ASCII character, or Off")),
    }
}

/// What of a request says whose session it is.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// Path and query that a backend would be asked for, percent-encoded.
    pub target: &'a str,
    /// The fields of the request, for its cookies.
    pub headers: &'a Headers,
}

/// What a session says of its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The name under which it was found, that of the parameter or the cookie.
    pub name: &'a str,
    /// The route, not empty. It is the client's word: nothing but a comparison may come of it.
    pub route: &'a [u8],
}

impl Sticky {
    /// What a request claims, if it is one of a session. A parameter of the URL goes before a cookie, also where its value holds no route.
    pub fn claim<'a>(&'a self, asked: &Session<'a>) -> Option<Claim<'a>> {
        let names = self.names.as_ref()?;
        let by_parameter = parameter(
            asked.target.as_bytes(),
            &names.parameter,
            self.semicolon_delimits,
        )
        .map(|value| (names.parameter.as_str(), value));
        let (name, value) = by_parameter.or_else(|| {
            let mut cookies = asked.headers.all("cookie");
            let value = cookies.find_map(|cookies| cookie(cookies, &names.cookie))?;
            Some((names.cookie.as_str(), value))
        })?;
        let route = match self.separator {
            Some(separator) => {
                let at = value.iter().position(|byte| *byte == separator)?;
                value.get(at + 1..)?
            }
            None => value,
        };
        (!route.is_empty()).then_some(Claim { name, route })
    }
}

/// The value behind the first `name=` anywhere in the target that has one. httpd: `get_path_param`, which searches for a
/// substring: `;name=` in a path is found like `&name=` in a query, and so is the end of a longer name.
///
/// httpd: it takes what stands behind the delimiters where the value is empty (`name=&x=1` is `x=1`). Here it is empty.
fn parameter<'a>(target: &'a [u8], name: &str, semicolon_delimits: bool) -> Option<&'a [u8]> {
    let ends = |byte: &u8| matches!(byte, b'?' | b'&') || semicolon_delimits && *byte == b';';
    behind(target, name)
        .filter_map(|(_, rest)| rest.strip_prefix(b"="))
        .filter_map(|value| value.split(ends).next())
        .find(|value| !value.is_empty())
}

/// The value of the first cookie of this name that has one. httpd: `get_cookie_param`, which takes a blank for a
/// delimiter, allows blanks before the `=`, lets a comma end the value, and leaves quotes in it.
fn cookie<'a>(cookies: &'a [u8], name: &str) -> Option<&'a [u8]> {
    behind(cookies, name)
        .filter(|(before, _)| {
            before.is_none_or(|byte| matches!(byte, b';' | b',') || is_blank(byte))
        })
        .filter_map(|(_, rest)| {
            let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
            rest.get(blanks..)?.strip_prefix(b"=")
        })
        .filter_map(|value| value.split(|byte| matches!(byte, b';' | b',')).next())
        .find(|value| !value.is_empty())
}

/// For each place in `text` where `name` stands, the byte before it and all behind it.
fn behind<'a>(text: &'a [u8], name: &str) -> impl Iterator<Item = (Option<u8>, &'a [u8])> {
    let name = name.as_bytes();
    let length = name.len();
    // There are no windows of no width.
    text.windows(length.max(1))
        .enumerate()
        .filter(move |(_, window)| *window == name)
        .filter_map(move |(at, _)| {
            let before = at.checked_sub(1).and_then(|at| text.get(at)).copied();
            Some((before, text.get(at + length..)?))
        })
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn sticky(names: &str) -> Sticky {
        Sticky {
            names: Some(Names::parse(names).unwrap()),
            ..Sticky::default()
        }
    }

    /// Name and route, as `name:route`.
    fn claim(sticky: &Sticky, target: &str, cookies: &[&str]) -> Option<String> {
        let mut headers = Headers::default();
        headers.push("Host", b"ROUTEID=x.no");
        for cookie in cookies {
            headers.push("Cookie", cookie.as_bytes());
        }
        let claim = sticky.claim(&Session {
            target,
            headers: &headers,
        })?;
        Some(format!(
            "{}:{}",
            claim.name,
            String::from_utf8_lossy(claim.route)
        ))
    }

    #[test]
    fn cookies_that_name_a_route() {
        let sticky = sticky("ROUTEID");
        for (cookies, route) in [
            ("ROUTEID=.a", Some("a")),
            ("ROUTEID=0123.a", Some("a")),
            ("x=1; ROUTEID=.a", Some("a")),
            ("x=1;ROUTEID=.a; y=2", Some("a")),
            ("x=1,ROUTEID=.a,y=2", Some("a")),
            ("x=1 ROUTEID=.a", Some("a")),
            ("x=1;\tROUTEID=.a", Some("a")),
            ("ROUTEID =.a", Some("a")),
            ("ROUTEID \t =.a", Some("a")),
            // A blank behind the sign is part of the value, and so is one behind the route.
            ("ROUTEID= .a", Some("a")),
            ("ROUTEID=.a ;x", Some("a ")),
            ("ROUTEID=s.a.b", Some("a.b")),
            ("ROUTEID=\"s.a\"", Some("a\"")),
            ("ROUTEID=.a=b", Some("a=b")),
            // Not its name, or none of it.
            ("MYROUTEID=.a", None),
            ("routeid=.a", None),
            ("ROUTEIDS=.a", None),
            ("ROUTEID", None),
            ("ROUTEID=", None),
            ("ROUTEID=; x=.a", None),
            ("x=\"ROUTEID=.a\"", None),
            ("", None),
            // The second one counts where the first is none.
            ("MYROUTEID=.b; ROUTEID=.a", Some("a")),
            ("ROUTEID=; ROUTEID=.a", Some("a")),
            ("ROUTEID=.a; ROUTEID=.b", Some("a")),
            // The first one counts where it has a value, even if that holds no route.
            ("ROUTEID=s; ROUTEID=.a", None),
            ("ROUTEID=s.", None),
        ] {
            let expected = route.map(|route| format!("ROUTEID:{route}"));
            assert_eq!(claim(&sticky, "/", &[cookies]), expected, "{cookies}");
        }
        assert_eq!(
            claim(&sticky, "/", &["a=b.r1;x", "ROUTEID=.r2"]).unwrap(),
            "ROUTEID:r2"
        );
        assert_eq!(claim(&sticky, "/", &[]), None);
    }

    #[test]
    fn parameters_that_name_a_route() {
        let sticky = sticky("JSESSIONID|jsessionid");
        for (target, route) in [
            ("/?jsessionid=s.a", Some("a")),
            ("/?x=1&jsessionid=s.a&y=2", Some("a")),
            ("/page;jsessionid=s.a?x=1", Some("a")),
            ("/page;jsessionid=s.a;v=1?x=1", Some("a;v=1")),
            ("/?myjsessionid=s.a", Some("a")),
            ("/jsessionid/jsessionid=s.a", Some("a")),
            ("/?jsessionid=s%2Ea", None),
            ("/?jsessionid=sa", None),
            ("/?jsessionid=", None),
            ("/?jsessionid=&x=s.a", None),
            ("/?jsessionid=&jsessionid=s.a", Some("a")),
            ("/?JSESSIONID=s.a", None),
            ("/?jsessionid", None),
        ] {
            let expected = route.map(|route| format!("jsessionid:{route}"));
            assert_eq!(claim(&sticky, target, &[]), expected, "{target}");
        }
        let semicolons = Sticky {
            semicolon_delimits: true,
            ..sticky
        };
        let target = "/page;jsessionid=s.a;v=1?x=1";
        assert_eq!(claim(&semicolons, target, &[]).unwrap(), "jsessionid:a");
    }

    #[test]
    fn a_parameter_goes_before_a_cookie() {
        let sticky = sticky("S|s");
        let cookie = ["S=x.b"];
        assert_eq!(claim(&sticky, "/?s=x.a", &cookie).unwrap(), "s:a");
        assert_eq!(claim(&sticky, "/?s=", &cookie).unwrap(), "S:b");
        assert_eq!(claim(&sticky, "/?s=x", &cookie), None);
        assert_eq!(claim(&sticky, "/", &cookie).unwrap(), "S:b");
    }

    #[test]
    fn the_separator_is_any_character_or_none() {
        let mut sticky = sticky("S");
        for (text, cookie, route) in [
            ("!", "S=x.y!a", Some("S:a")),
            ("!", "S=x.y", None),
            ("Off", "S=x.y", Some("S:x.y")),
            ("off", "S=", None),
        ] {
            sticky.separator = separator(text).unwrap();
            assert_eq!(
                claim(&sticky, "/", &[cookie]).as_deref(),
                route,
                "{text} {cookie}"
            );
        }
        for wrong in ["", "..", "\u{e9}", "On"] {
            assert!(separator(wrong).unwrap_err().contains("or Off"), "{wrong}");
        }
    }

    #[test]
    fn without_names_there_are_no_sessions() {
        assert_eq!(claim(&Sticky::default(), "/?S=x.a", &["S=x.a"]), None);
        for wrong in ["", "|", "a|", "|b", "a|b|c", "a b", "a=b", "a;b"] {
            assert!(Names::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(12);
        let mut sticky = sticky("S|s");
        for round in 0..20_000 {
            let bytes = noise.mangle(b"/p;s=x.a?s=y.b&S=1; S =.c,S=d.e", b"Ss=.;,?& \x00\xff");
            let target = String::from_utf8_lossy(&bytes);
            let mut headers = Headers::default();
            headers.push("cookie", &bytes);
            sticky.semicolon_delimits = round % 2 == 0;
            sticky.separator = noise.pick(&[None, Some(b'.'), Some(b'=')]).to_owned();
            let asked = Session {
                target: if round % 3 == 0 { "/" } else { &target },
                headers: &headers,
            };
            if let Some(claim) = sticky.claim(&asked) {
                assert!(!claim.route.is_empty());
            }
        }
    }
}
