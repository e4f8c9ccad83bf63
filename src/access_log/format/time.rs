//! Times in a line: those of httpd, and patterns for strftime(3). Times are UTC.

use super::escape::Escape;
use crate::http::date::{self, Date};
use std::io::Write;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Received,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeForm {
    Common,
    Since1970(Unit),
    MillisecondOfSecond,
    MicrosecondOfSecond,
    /// A pattern for strftime(3), of conversions that [`convert`] knows.
    Pattern(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl Unit {
    pub(super) fn count(self, duration: Duration) -> u128 {
        match self {
            Self::Seconds => duration.as_secs().into(),
            Self::Milliseconds => duration.as_millis(),
            Self::Microseconds => duration.as_micros(),
        }
    }
}

/// Parses the braces of `%{...}t`.
pub(super) fn parse(text: &str) -> Result<(Moment, TimeForm), String> {
    let (moment, form) = match text.split_once(':') {
        Some(("begin", form)) => (Moment::Received, form),
        Some(("end", form)) => (Moment::Ended, form),
        _ => (Moment::Received, text),
    };
    let form = match form {
        "" => TimeForm::Common,
        "sec" => TimeForm::Since1970(Unit::Seconds),
        "msec" => TimeForm::Since1970(Unit::Milliseconds),
        "usec" => TimeForm::Since1970(Unit::Microseconds),
        "msec_frac" => TimeForm::MillisecondOfSecond,
        "usec_frac" => TimeForm::MicrosecondOfSecond,
        pattern => {
            check_pattern(pattern)?;
            TimeForm::Pattern(pattern.to_owned())
        }
    };
    Ok((moment, form))
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut out = Vec::new();
    match render_pattern(pattern, 0, &mut out) {
        Ok(()) if pattern.contains('%') => Ok(()),
        Ok(()) => Err(
            "expected sec, msec, usec, msec_frac, usec_frac or a pattern for strftime, perhaps \
             behind begin: or end:"
                .to_owned(),
        ),
        Err(Some(letter)) => Err(format!("unknown conversion \"%{letter}\"")),
        Err(None) => Err("the last \"%\" has no letter".to_owned()),
    }
}

impl TimeForm {
    pub(super) fn render(&self, since_1970: Duration, escape: Escape, out: &mut Vec<u8>) {
        let seconds = since_1970.as_secs();
        let _ = match self {
            Self::Common => write!(out, "{}", date::common_log(seconds)),
            Self::Since1970(unit) => write!(out, "{}", unit.count(since_1970)),
            Self::MillisecondOfSecond => write!(out, "{:03}", since_1970.subsec_millis()),
            Self::MicrosecondOfSecond => write!(out, "{:06}", since_1970.subsec_micros()),
            Self::Pattern(pattern) => {
                // What `parse` took has no unknown conversion.
                let _ = match escape {
                    Escape::Text => render_pattern(pattern, seconds, out),
                    Escape::Json => {
                        let mut text = Vec::new();
                        let outcome = render_pattern(pattern, seconds, &mut text);
                        escape.append(&text, out);
                        outcome
                    }
                };
                Ok(())
            }
        };
    }
}

/// Writes the time as a pattern for strftime(3) says, in the C locale.
///
/// # Errors
/// The letter of a conversion that is not known, or `None` for a `%` at the end.
fn render_pattern(pattern: &str, unix_seconds: u64, out: &mut Vec<u8>) -> Result<(), Option<char>> {
    let date = Date::from_unix(unix_seconds);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            let letter = chars.next().ok_or(None)?;
            convert(letter, &date, unix_seconds, out)?;
        } else {
            let _ = write!(out, "{c}");
        }
    }
    Ok(())
}

/// One conversion of strftime(3). Those that count weeks, GNU's for padding, and the one that ends the line are not among
/// them.
fn convert(
    letter: char,
    date: &Date,
    unix_seconds: u64,
    out: &mut Vec<u8>,
) -> Result<(), Option<char>> {
    let composed = match letter {
        'c' => Some("%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => Some("%m/%d/%y"),
        'F' => Some("%Y-%m-%d"),
        'r' => Some("%I:%M:%S %p"),
        'R' => Some("%H:%M"),
        'T' | 'X' => Some("%H:%M:%S"),
        _ => None,
    };
    if let Some(pattern) = composed {
        return render_pattern(pattern, unix_seconds, out);
    }
    let hour_of_12 = (date.hour + 11) % 12 + 1;
    let _ = match letter {
        'a' => write!(out, "{}", date::short(date.weekday_name())),
        'A' => write!(out, "{}", date.weekday_name()),
        'b' | 'h' => write!(out, "{}", date::short(date.month_name())),
        'B' => write!(out, "{}", date.month_name()),
        'C' => write!(out, "{:02}", date.year / 100),
        'd' => write!(out, "{:02}", date.day),
        'e' => write!(out, "{:2}", date.day),
        'H' => write!(out, "{:02}", date.hour),
        'I' => write!(out, "{hour_of_12:02}"),
        'j' => write!(out, "{:03}", date.day_of_year),
        'm' => write!(out, "{:02}", date.month),
        'M' => write!(out, "{:02}", date.minute),
        'p' => write!(out, "{}", if date.hour < 12 { "AM" } else { "PM" }),
        's' => write!(out, "{unix_seconds}"),
        'S' => write!(out, "{:02}", date.second),
        't' => write!(out, "\t"),
        'u' => write!(out, "{}", (date.weekday + 6) % 7 + 1),
        'w' => write!(out, "{}", date.weekday),
        'y' => write!(out, "{:02}", date.year % 100),
        'Y' => write!(out, "{}", date.year),
        'z' => write!(out, "+0000"),
        'Z' => write!(out, "UTC"),
        '%' => write!(out, "%"),
        _ => return Err(Some(letter)),
    };
    Ok(())
}
