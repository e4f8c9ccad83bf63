//! What ordinary requests and their answers need beside their mappings: how long a client's connection is kept, how long a
//! request may take to arrive, how much is read at a time, and where backends see us come from. Source: httpd core.c,
//! mod_reqtimeout, mod_proxy.c.

use super::draft::Scope;
use super::value::{self, Unit::Seconds};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Bytes that an exchange reads at a time where nothing says otherwise.
// httpd: 8192. Twice as much halves the system calls of all that is larger, and workers have such a buffer already.
const IO_BUFFER: usize = 16 * 1024;
/// The most that it can be told to read: each exchange that is busy holds as much.
const LARGEST_IO_BUFFER: usize = 1024 * 1024;

/// Whether a client's connection stays open for its next request. httpd: `KeepAlive`, `KeepAliveTimeout`,
/// `MaxKeepAliveRequests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAlive {
    /// Off also where the timeout is 0.
    pub is_on: bool,
    /// How long the next request is waited for; more than zero where it is on.
    pub timeout: Duration,
    /// Requests that one connection carries; 0: any number.
    pub max_requests: u64,
}

impl KeepAlive {
    /// What three directives add up to.
    pub(super) fn resolved(self) -> Self {
        Self {
            is_on: self.is_on && !self.timeout.is_zero(),
            ..self
        }
    }
}

/// How long a part of a request may take to arrive. httpd: `RequestReadTimeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadTimeout {
    /// The time at the start; zero: no limit at all.
    pub initial: Duration,
    /// The most that can be earned; equal to `initial` where nothing can, [`value::LONGEST`] where there is no bound.
    pub max: Duration,
    /// Bytes that earn one more second; 0: none is earned.
    pub min_rate: u32,
}

impl ReadTimeout {
    /// The time that a client has of which `received` bytes have come; `None`: no limit.
    #[must_use]
    pub fn allowed(&self, received: usize) -> Option<Duration> {
        if self.initial.is_zero() {
            return None;
        }
        let rate = usize::try_from(self.min_rate).unwrap_or(usize::MAX);
        let earned = received.checked_div(rate).unwrap_or(0);
        let allowed = self
            .initial
            .saturating_add(Duration::from_secs(earned as u64));
        Some(allowed.min(self.max))
    }
}

/// What is done about the method TRACE. httpd: `TraceEnable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trace {
    /// It is refused.
    Off,
    /// It is passed on without a body; one with a body is refused.
    #[default]
    On,
    /// It is passed on as any other method.
    Extended,
}

impl Trace {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "extended" => Ok(Self::Extended),
            _ => Err(format!("expected on, off or extended, found \"{text}\"")),
        }
    }
}

pub(super) fn trace_enable(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.trace = Trace::parse(text)?;
    Ok(())
}

pub(super) fn keep_alive_timeout(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let timeout = value::duration(text, Seconds)?;
    if let Some(doubt) = value::doubtful_limit("it", timeout) {
        scope.warn(doubt);
    }
    scope.host.keep_alive.timeout = timeout;
    Ok(())
}

/// httpd: mod_reqtimeout `RequestReadTimeout`. Each stage is inherited on its own.
pub(super) fn request_read_timeout(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for word in words {
        let Some((stage, text)) = value::key_value(word) else {
            return Err(format!(
                "expected header=, body= or handshake=, found \"{word}\""
            ));
        };
        let timeout = stage_timeout(text).map_err(|problem| format!("{stage}: {problem}"))?;
        match stage.to_ascii_lowercase().as_str() {
            "header" => scope.host.header_timeout = timeout,
            "body" => scope.host.body_timeout = timeout,
            "handshake" => scope.host.handshake_timeout = timeout,
            _ => {
                return Err(format!(
                    "unknown stage \"{stage}\"; expected header, body or handshake"
                ));
            }
        }
    }
    Ok(())
}

/// `duration[-duration][,MinRate=bytes]`
fn stage_timeout(text: &str) -> Result<ReadTimeout, String> {
    let (range, rate) = match text.split_once(',') {
        Some((range, rate)) => (range, Some(rate)),
        None => (text, None),
    };
    let min_rate = match rate.map(value::key_value) {
        None => 0,
        Some(Some((key, rate))) if key.eq_ignore_ascii_case("MinRate") => {
            value::integer(rate, 1..=u32::MAX)?
        }
        Some(_) => {
            return Err(format!(
                "expected MinRate=bytes behind the comma in \"{text}\""
            ));
        }
    };
    let (initial, max) = match range.split_once('-') {
        // A sign, which the duration refuses better.
        Some(("", _)) | None => (value::duration(range, Seconds)?, None),
        Some((initial, max)) => (
            value::duration(initial, Seconds)?,
            Some(value::duration(max, Seconds)?),
        ),
    };
    let max = match max {
        Some(_) if min_rate == 0 => {
            return Err(format!(
                "\"{text}\" has a maximum that nothing leads to; add ,MinRate=500"
            ));
        }
        Some(max) if max < initial => {
            return Err(format!("the maximum in \"{text}\" is below the beginning"));
        }
        Some(max) => max,
        None if min_rate == 0 => initial,
        None => value::LONGEST,
    };
    Ok(ReadTimeout {
        initial,
        max,
        min_rate,
    })
}

/// `ProxyIOBufferSize`, `iobuffersize=`
pub(super) fn io_buffer(text: &str) -> Result<usize, String> {
    let size = value::buffer(text, LARGEST_IO_BUFFER, "the default")?;
    Ok(if size == 0 { IO_BUFFER } else { size })
}

/// httpd: `ProxySourceAddress`, which takes a name as well; what it stands for would then depend on DNS at start.
pub(super) fn source_address(text: &str) -> Result<IpAddr, String> {
    let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse(),
    };
    let Ok(address) = address.map(|address| address.to_canonical()) else {
        return Err(format!(
            "\"{text}\" is not an IP address; expected one of this machine, such as 192.0.2.1 or 2001:db8::1"
        ));
    };
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!(
            "\"{text}\" is no address of one machine; expected one of this machine, or remove the line: the kernel then \
             chooses one"
        ));
    }
    Ok(address)
}

/// `ProxyMaxForwards`: any negative number is none.
pub(super) fn max_forwards(text: &str) -> Result<Option<u32>, String> {
    let is_negative = |digits: &str| digits.parse::<u32>().is_ok_and(|number| number > 0);
    if text.strip_prefix('-').is_some_and(is_negative) {
        return Ok(None);
    }
    let most = i32::MAX.unsigned_abs();
    value::integer(text, 0..=most)
        .map(Some)
        .map_err(|problem| format!("{problem}, or -1 for none"))
}

/// A field that is none makes an answer a bad one, whose rest nobody can know the meaning of.
pub(super) fn proxy_bad_header(_: &mut Scope<'_>, text: &str) -> Result<(), String> {
    match text.to_ascii_lowercase().as_str() {
        "iserror" => Ok(()),
        "ignore" | "startbody" => Err(format!(
            "\"{text}\" is not supported: an answer with a line that is no header field is refused with 502, since its \
             rest could be taken for something else than the backend means; mend the backend, and remove the line"
        )),
        _ => Err(format!("expected IsError, found \"{text}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stage_has_a_beginning_a_maximum_and_a_rate() {
        for (text, initial, max, min_rate) in [
            ("20-40,MinRate=500", seconds(20), seconds(40), 500),
            ("20s-1min,minrate=1", seconds(20), seconds(60), 1),
            ("20", seconds(20), seconds(20), 0),
            (
                "500ms",
                Duration::from_millis(500),
                Duration::from_millis(500),
                0,
            ),
            ("20,MinRate=500", seconds(20), value::LONGEST, 500),
            ("0", Duration::ZERO, Duration::ZERO, 0),
        ] {
            let expected = ReadTimeout {
                initial,
                max,
                min_rate,
            };
            assert_eq!(stage_timeout(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_stage_that_is_not_whole_is_refused() {
        for text in [
            "",
            "20-40",
            "40-20,MinRate=500",
            "20-,MinRate=500",
            "-20,MinRate=500",
            "20,",
            "20,500",
            "20,Rate=500",
            "20,MinRate=0",
            "20,MinRate=",
            "20-40,MinRate=500,x",
        ] {
            assert!(stage_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_earn_time_up_to_the_maximum() {
        let timeout = ReadTimeout {
            initial: seconds(20),
            max: seconds(40),
            min_rate: 500,
        };
        for (received, allowed) in [
            (0, 20),
            (499, 20),
            (500, 21),
            (10_000, 40),
            (usize::MAX, 40),
        ] {
            assert_eq!(timeout.allowed(received), Some(seconds(allowed)));
        }
        let endless = ReadTimeout {
            max: value::LONGEST,
            min_rate: 1,
            ..timeout
        };
        assert_eq!(endless.allowed(usize::MAX), Some(value::LONGEST));
        assert_eq!(ReadTimeout::default().allowed(0), None);
    }

    #[test]
    fn a_connection_is_not_kept_for_no_time() {
        let keep_alive = |is_on, timeout| KeepAlive {
            is_on,
            timeout,
            max_requests: 0,
        };
        assert!(keep_alive(true, seconds(1)).resolved().is_on);
        assert!(!keep_alive(true, Duration::ZERO).resolved().is_on);
        assert!(!keep_alive(false, seconds(1)).resolved().is_on);
    }

    #[test]
    fn a_buffer_is_of_512_bytes_or_more_or_the_usual_one() {
        for (text, size) in [("0", 16_384), ("512", 512), ("1048576", 1_048_576)] {
            assert_eq!(io_buffer(text), Ok(size));
        }
        for text in ["", "1", "511", "1048577", "-1", "8k"] {
            assert!(io_buffer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_source_is_an_address_of_one_machine() {
        for (text, address) in [
            ("127.0.0.2", "127.0.0.2"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[::1]", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(source_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "localhost",
            "127.0.0.1:80",
            "[127.0.0.1]",
            "[::1]:80",
            "fe80::1%eth0",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "*",
        ] {
            assert!(source_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_negative_number_of_forwards_is_none() {
        for (text, number) in [
            ("-1", None),
            ("-15", None),
            ("0", Some(0)),
            ("2147483647", Some(2_147_483_647)),
        ] {
            assert_eq!(max_forwards(text), Ok(number), "{text}");
        }
        for text in ["", "-", "-0", "--1", "-x", "+1", "2147483648", "ten"] {
            assert!(max_forwards(text).is_err(), "{text}");
        }
    }

    #[test]
    fn trace_is_one_of_three() {
        for (text, trace) in [
            ("on", Trace::On),
            ("OFF", Trace::Off),
            ("Extended", Trace::Extended),
        ] {
            assert_eq!(Trace::parse(text), Ok(trace));
        }
        assert!(Trace::parse("yes").is_err());
    }
}
