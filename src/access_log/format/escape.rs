//! How text from outside stands in a line so that it cannot leave its place.

use std::io::Write;

/// What a line is made of. LogFormat: `escape=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// Text with escapes of C, as in httpd.
    #[default]
    Text,
    /// JSON (RFC 8259), one value in a line.
    Json,
}

impl Escape {
    /// Appends `text` so that it stays in its line and in its quotes, and brings no control sequence to a terminal.
    pub(super) fn append(self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => append_text(text, out),
            Self::Json => append_json(text, out),
        }
    }
}

/// Source: httpd `ap_escape_logitem`.
fn append_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\x0b' => out.extend_from_slice(b"\\v"),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

/// Source: RFC 8259 section 7. What is no UTF-8 stands as `\xhh`, as httpd would show it.
fn append_json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => {
                    let _ = write!(out, "\\{c}");
                }
                ' '..='~' => {
                    let _ = write!(out, "{c}");
                }
                // Control characters, and all that a terminal may take for more than it looks like.
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_and_loses_nothing() {
        for (text, expected) in [
            (&b"plain"[..], "plain"),
            (b"\"\\/", r#"\"\\/"#),
            (b"\x00\n\t\x1b\x7f", r"\u0000\u000a\u0009\u001b\u007f"),
            (
                "\u{e9}\u{1f44b}\u{202e}".as_bytes(),
                r"\u00e9\ud83d\udc4b\u202e",
            ),
            (b"a\xffb\xc3", r"a\\xffb\\xc3"),
        ] {
            let mut out = Vec::new();
            Escape::Json.append(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
