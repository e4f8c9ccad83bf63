//! Values as httpd writes them: `On|Off`, durations, numbers. Every error is a sentence that quotes what was written,
//! says what was expected and, where we can guess it, what was meant.

use crate::http::authority::Authority;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest duration that is taken: 100 years. Long enough to mean "never", short enough that adding it to a point
/// in time cannot overflow.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The unit of a duration that is written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// `On` or `Off`, in any case.
///
/// # Errors
/// Any other word.
pub fn on_off(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("on") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("off") {
        Ok(false)
    } else {
        Err(format!("expected On or Off, found \"{text}\""))
    }
}

/// A number with an optional unit, of at most [`LONGEST`]. Units, in any case: `ms`, `s`, `mi`, `h` and their longer
/// spellings (`msec`, `sec`, `min`, `minutes`, ...).
///
/// httpd: only the first one or two letters of a unit count there, so that `5mice` are minutes; here a unit is a whole
/// word. The same parser serves every directive and parameter: httpd reads `timeout=500ms` as 500 seconds.
///
/// # Errors
/// No number, a sign, an unknown unit, or too long a time.
pub fn duration(text: &str, unit: Unit) -> Result<Duration, String> {
    const FORM: &str = "expected a number and ms, s, min or h, such as 500ms or 30s";
    if text.starts_with('-') {
        return Err(format!("\"{text}\" is negative; {FORM}"));
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    let split = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(split);
    if number.is_empty() {
        return Err(format!("\"{text}\" is not a duration; {FORM}"));
    }
    let milliseconds_each: u64 = match suffix.to_ascii_lowercase().as_str() {
        "" => match unit {
            Unit::Milliseconds => 1,
            Unit::Seconds => 1000,
        },
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "mi" | "min" | "mins" | "minute" | "minutes" => 60 * 1000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 60 * 60 * 1000,
        "m" => {
            return Err(format!(
                "\"{text}\" is ambiguous; write {number}min for minutes or {number}ms for milliseconds"
            ));
        }
        _ => {
            return Err(format!("unknown unit \"{suffix}\" in \"{text}\"; {FORM}"));
        }
    };
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(milliseconds_each))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| format!("\"{text}\" is too long a time; at most 100 years"))
}

/// A [`duration`] that may not be zero.
///
/// # Errors
/// As [`duration`], and zero.
pub fn positive_duration(text: &str, unit: Unit) -> Result<Duration, String> {
    let duration = duration(text, unit)?;
    if duration.is_zero() {
        return Err(format!(
            "\"{text}\" leaves no time at all; expected more than 0"
        ));
    }
    Ok(duration)
}

/// What is to be doubted in a time limit for one step, called `name`: who writes 30000 thinks of milliseconds.
#[must_use]
pub fn doubtful_limit(name: &str, limit: Duration) -> Option<String> {
    const LONG: Duration = Duration::from_secs(10_000);
    let hours = limit.as_secs() / 3600;
    (limit >= LONG).then(|| {
        format!(
            "{name} is {hours} hours; a number without a unit is seconds, write \"ms\" behind it for milliseconds"
        )
    })
}

/// A whole number within `range`.
///
/// # Errors
/// Anything but decimal digits, or a number outside the range.
pub fn integer<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<u64> + PartialOrd + std::fmt::Display,
{
    let expected = || format!("expected {} to {}", range.start(), range.end());
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("\"{text}\" is not a whole number; {}", expected()));
    }
    text.parse::<u64>()
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("\"{text}\" is out of range; {}", expected()))
}

/// Bytes of a buffer: 512 to `most`, or 0 for what `usual` names.
///
/// # Errors
/// As [`integer`], and what is too small.
pub fn buffer(text: &str, most: usize, usual: &str) -> Result<usize, String> {
    let size = integer(text, 0..=most)?;
    if (1..512).contains(&size) {
        return Err(format!(
            "\"{text}\" is too small; expected 512 or more, or 0 for {usual}"
        ));
    }
    Ok(size)
}

/// Bytes of a receive buffer of the kernel; 0 is its own choice, as in httpd.
///
/// # Errors
/// As [`buffer`].
pub fn receive_buffer(text: &str) -> Result<usize, String> {
    buffer(text, 1_073_741_824, "the kernel's choice")
}

/// An address to listen on: `port`, `address:port` or `*:port`, an IPv6 address in brackets. None: every address.
///
/// # Errors
/// A name instead of an address, a missing port, an IPv6 address without brackets or with a zone.
pub fn listen_address(text: &str) -> Result<(Option<IpAddr>, u16), String> {
    const FORM: &str =
        "expected a port, or an IP address and a port such as 127.0.0.1:8080 or [::1]:8080";
    if !text.contains([':', '[', '.', '*']) {
        return Ok((None, integer(text, 0..=u16::MAX)?));
    }
    match split_port(text)? {
        (address, Some(port)) => Ok((ip_address(address)?, integer(port, 0..=u16::MAX)?)),
        (_, None) => Err(format!("\"{text}\" has no port; {FORM}")),
    }
}

/// An address of `<VirtualHost>`: `address`, `address:port` or `address:*`, where the address may be `*` or
/// `_default_`. None: any address, any port.
///
/// # Errors
/// As [`listen_address`], except that the port may be missing.
pub fn host_address(text: &str) -> Result<(Option<IpAddr>, Option<u16>), String> {
    let (address, port) = split_port(text)?;
    let port = match port {
        None | Some("*") => None,
        Some(port) => Some(integer(port, 1..=u16::MAX)?),
    };
    if address.eq_ignore_ascii_case("_default_") {
        return Ok((None, port));
    }
    match ip_address(address) {
        Err(_) if server_name(address).is_ok() && address.contains(char::is_alphabetic) => {
            Err(format!(
                "\"{text}\" is a name; expected an address, such as *:80 or 127.0.0.1:80, and the name in ServerName"
            ))
        }
        address => Ok((address?, port)),
    }
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`; brackets stay.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!(
            "\"{text}\" has several colons; write an IPv6 address in brackets, such as [::1]:8080"
        ));
    }
    Ok((host, port))
}

/// `*` (None), an IPv4 address, or an IPv6 address in brackets. httpd resolves names here; what is listened on would
/// then depend on DNS, so names are refused.
fn ip_address(text: &str) -> Result<Option<IpAddr>, String> {
    if text == "*" {
        return Ok(None);
    }
    let address = match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse(),
    };
    match address {
        // A mapped IPv4 address is that IPv4 address: peers and sockets are told apart by one form only.
        Ok(address) => Ok(Some(address.to_canonical())),
        Err(_) if text.contains('%') => Err(format!(
            "\"{text}\" has a zone; expected an address without one"
        )),
        Err(_) => Err(format!(
            "\"{text}\" is not an IP address; expected one such as 127.0.0.1 or [::1], or * for all"
        )),
    }
}

/// The host and the port of a `ServerName`: `host[:port]`, also with a scheme before it; an IPv6 address without its
/// brackets.
///
/// # Errors
/// What is no host name and no IP address; a port that is none.
pub fn server_name(text: &str) -> Result<(&str, Option<u16>), String> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    match Authority::parse(authority.as_bytes()) {
        Ok(authority) => Ok((authority.host, authority.port)),
        Err(cause) => Err(format!(
            "\"{text}\": {cause}; expected a host such as ws.example.org or ws.example.org:8080"
        )),
    }
}

/// A `ServerAlias`: a host that may hold the wildcards `*` and `?`.
///
/// # Errors
/// Anything else.
pub fn server_alias(text: &str) -> Result<&str, String> {
    let plain = text.replace(['*', '?'], "x");
    match Authority::parse(plain.as_bytes()) {
        Ok(Authority { port: None, .. }) => Ok(text),
        _ => Err(format!(
            "\"{text}\" is not a host name; expected one without a port, such as *.example.org"
        )),
    }
}

/// Splits `key=value` at the first `=`.
#[must_use]
pub fn key_value(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(key, _)| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<Duration, String> {
        duration(text, Unit::Seconds)
    }

    #[test]
    fn a_duration_takes_every_suffix_of_httpd_in_any_case() {
        for (text, milliseconds) in [
            ("0", 0),
            ("5", 5_000),
            ("+5", 5_000),
            ("500ms", 500),
            ("500MS", 500),
            ("5s", 5_000),
            ("5S", 5_000),
            ("5seconds", 5_000),
            ("5mi", 300_000),
            ("5min", 300_000),
            ("5Minutes", 300_000),
            ("2h", 7_200_000),
            ("2hours", 7_200_000),
        ] {
            assert_eq!(
                seconds(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        assert_eq!(
            duration("7", Unit::Milliseconds),
            Ok(Duration::from_millis(7))
        );
    }

    #[test]
    fn a_duration_with_anything_else_is_refused() {
        for text in [
            "", "s", "-1", "-0", "5 s", "5sx", "5minx", "5mice", "5d", "1.5", "1e3", "0x10", "٣",
            "++1",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds("5m").is_err_and(|e| e.contains("5min") && e.contains("5ms")));
    }

    #[test]
    fn a_duration_ends_at_a_hundred_years() {
        let longest = LONGEST.as_secs();
        assert_eq!(seconds(&longest.to_string()), Ok(LONGEST));
        assert!(seconds(&(longest + 1).to_string()).is_err());
        assert!(seconds("18446744073709551615h").is_err());
        assert!(seconds("99999999999999999999999").is_err());
    }

    #[test]
    fn zero_is_no_positive_duration() {
        assert!(positive_duration("0ms", Unit::Seconds).is_err());
        assert_eq!(
            positive_duration("1ms", Unit::Seconds),
            Ok(Duration::from_millis(1))
        );
    }

    #[test]
    fn a_flag_is_one_of_two_words() {
        assert_eq!(on_off("oN"), Ok(true));
        assert_eq!(on_off("OFF"), Ok(false));
        for text in ["", "1", "yes", "on ", "onn"] {
            assert!(on_off(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_to_listen_on_has_a_port() {
        let v4 = |a: &str| Some(a.parse().unwrap());
        for (text, expected) in [
            ("8080", (None, 8080)),
            ("*:80", (None, 80)),
            ("0", (None, 0)),
            ("127.0.0.1:0", (v4("127.0.0.1"), 0)),
            ("[::1]:8080", (v4("::1"), 8080)),
            ("[::]:80", (v4("::"), 80)),
        ] {
            assert_eq!(listen_address(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "127.0.0.1",
            "[::1]",
            "::1:80",
            "*",
            "65536",
            "-1",
            "localhost:80",
            "[fe80::1%eth0]:80",
            "[127.0.0.1]:80",
            "1.2.3:80",
            "127.0.0.1:",
            ":80",
            "http",
        ] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_a_virtual_host_may_leave_the_port_open() {
        let v6 = Some("::1".parse().unwrap());
        for (text, expected) in [
            ("*", (None, None)),
            ("*:*", (None, None)),
            ("*:80", (None, Some(80))),
            ("_default_:443", (None, Some(443))),
            ("[::1]", (v6, None)),
            ("[::1]:80", (v6, Some(80))),
        ] {
            assert_eq!(host_address(text), Ok(expected), "{text}");
        }
        for text in ["", "80", "*:0", "example.org:80", "::1"] {
            assert!(host_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_name_is_a_host_and_perhaps_a_port_with_an_idle_scheme() {
        for (text, host, port) in [
            ("a.example", "a.example", None),
            ("a.example:8080", "a.example", Some(8080)),
            ("https://a_b.example:443", "a_b.example", Some(443)),
            ("[::1]:80", "::1", Some(80)),
            ("127.0.0.1", "127.0.0.1", None),
        ] {
            assert_eq!(server_name(text), Ok((host, port)), "{text}");
        }
        for text in [
            "",
            "a b",
            "a\r\nX: y",
            "a/b",
            "a:b",
            "a:0",
            "[x]",
            "http://",
        ] {
            assert!(server_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_alias_may_hold_wildcards() {
        assert_eq!(server_alias("*.a?.example"), Ok("*.a?.example"));
        for text in ["", "a:80", "a/b"] {
            assert!(server_alias(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_integer_is_digits_within_its_range() {
        assert_eq!(integer("0", 0..=9_u16), Ok(0));
        assert_eq!(integer("007", 0..=9_u16), Ok(7));
        for text in [
            "",
            "+1",
            "-1",
            "10",
            "1.0",
            "70000",
            "99999999999999999999999",
        ] {
            assert!(integer(text, 0..=9_u16).is_err(), "{text}");
        }
    }
}
