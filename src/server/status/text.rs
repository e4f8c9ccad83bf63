//! How values are written so that no client, however it calls itself, can say anything in the language around them. Pure.

use std::fmt::{self, Display, Write};
use std::time::Duration;

/// Text between quotation marks or tags of HTML.
pub(super) struct Html<T>(pub(super) T);

/// A string of JSON (RFC 8259 section 7), with its quotation marks.
pub(super) struct Json<T>(pub(super) T);

/// A value of a label in the text format of Prometheus, with its quotation marks.
pub(super) struct Label<T>(pub(super) T);

/// Writes what it gets in another way.
struct Escaping<'a, 'b, F>(&'a mut fmt::Formatter<'b>, F);

impl<F: Fn(&mut fmt::Formatter<'_>, char) -> fmt::Result> Write for Escaping<'_, '_, F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.1(self.0, c))
    }
}

impl<T: Display> Display for Html<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // No document may hold them, not even by number.
            c if c.is_control() => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        };
        write!(Escaping(f, escape), "{}", self.0)
    }
}

impl<T: Display> Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, c| match c {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        };
        f.write_char('"')?;
        write!(Escaping(f, escape), "{}", self.0)?;
        f.write_char('"')
    }
}

impl<T: Display> Display for Label<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, c| match c {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        };
        f.write_char('"')?;
        write!(Escaping(f, escape), "{}", self.0)?;
        f.write_char('"')
    }
}

/// A span of time for people: its two largest units, such as `2h 5m`.
pub(super) struct Span(pub(super) Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m {}s", seconds % 60),
            (0, _, _) => write!(f, "{hours}h {}m", minutes % 60),
            _ => write!(f, "{days}d {}h", hours % 24),
        }
    }
}

/// A number of bytes for people, such as `1.5 MiB`.
pub(super) struct Bytes(pub(super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 1_u64;
        let mut name = "B";
        for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if self.0 / unit < 1024 {
                break;
            }
            unit *= 1024;
            name = next;
        }
        match unit {
            1 => write!(f, "{} B", self.0),
            // Rounded down, so that no unit has as many as the next one.
            _ => write!(f, "{}.{} {name}", self.0 / unit, self.0 % unit * 10 / unit),
        }
    }
}

/// Counts with their names: `client 1, backend 0`.
pub(super) fn counts(counts: &[(&str, u64)]) -> String {
    let texts = counts.iter().map(|(name, count)| format!("{name} {count}"));
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "a\"b'c\\d<e>f&g\nh\u{0}i\u{7f}j\u{2028}ü";

    #[test]
    fn nothing_breaks_out_of_what_is_around_it() {
        let html = "a&quot;b&#39;c\\d&lt;e&gt;f&amp;g\u{fffd}h\u{fffd}i\u{fffd}j\u{2028}ü";
        assert_eq!(Html(ODD).to_string(), html);
        let json = "\"a\\\"b'c\\\\d<e>f&g\\u000ah\\u0000i\\u007fj\u{2028}ü\"";
        assert_eq!(Json(ODD).to_string(), json);
        let label = "\"a\\\"b'c\\\\d<e>f&g\\nh\u{0}i\u{7f}j\u{2028}ü\"";
        assert_eq!(Label(ODD).to_string(), label);
        // Also where it comes in pieces.
        assert_eq!(
            Json(format_args!("{}{}", "\\", "\"")).to_string(),
            r#""\\\"""#
        );
    }

    #[test]
    fn spans_and_sizes_are_for_people() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3_599, "59m 59s"),
            (3_600, "1h 0m"),
            (86_399, "23h 59m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
