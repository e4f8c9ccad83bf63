//! What only a tunnel has to tell: `%{...}n`.

use super::escape::Escape;
use crate::transaction::{Said, Side, Transaction};
use std::io::Write;

/// A note, which `%{name}n` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Backend,
    Mapping,
    Event,
    CloseReason,
    EndedBy,
    BytesFromBackend,
    BytesToBackend,
    Frames(Side),
    Messages(Side),
    CloseCode(Side),
    CloseText(Side),
    Silence,
}

/// What a Close frame counts for that gives no code. RFC 6455 section 7.1.5.
const NO_CODE: u16 = 1005;

impl Note {
    const ALL: [(&'static str, Self); 16] = [
        ("backend", Self::Backend),
        ("mapping", Self::Mapping),
        ("event", Self::Event),
        ("close-reason", Self::CloseReason),
        ("ended-by", Self::EndedBy),
        ("bytes-from-backend", Self::BytesFromBackend),
        ("bytes-to-backend", Self::BytesToBackend),
        ("frames-from-client", Self::Frames(Side::Client)),
        ("frames-from-backend", Self::Frames(Side::Backend)),
        ("messages-from-client", Self::Messages(Side::Client)),
        ("messages-from-backend", Self::Messages(Side::Backend)),
        ("close-code-from-client", Self::CloseCode(Side::Client)),
        ("close-code-from-backend", Self::CloseCode(Side::Backend)),
        ("close-text-from-client", Self::CloseText(Side::Client)),
        ("close-text-from-backend", Self::CloseText(Side::Backend)),
        ("silence", Self::Silence),
    ];

    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, note)| *note).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("unknown note; expected one of {names}")
        })
    }

    /// Whether what it shows is a number.
    pub(super) fn is_number(self) -> bool {
        match self {
            Self::Backend
            | Self::Mapping
            | Self::Event
            | Self::CloseReason
            | Self::EndedBy
            | Self::CloseText(_) => false,
            Self::BytesFromBackend
            | Self::BytesToBackend
            | Self::Frames(_)
            | Self::Messages(_)
            | Self::CloseCode(_)
            | Self::Silence => true,
        }
    }

    /// Appends what is known; nothing where nothing is.
    pub(super) fn render(self, t: &Transaction, escape: Escape, out: &mut Vec<u8>) -> Option<()> {
        let said = |side| {
            t.seen.as_ref().map(|seen| match side {
                Side::Client => &seen.from_client,
                Side::Backend => &seen.from_backend,
            })
        };
        let counts = |side| said(side).and_then(|said: &Said| said.counts);
        let close = |side| said(side).and_then(|said: &Said| said.close.as_ref());
        let mut number = |number: &dyn std::fmt::Display| {
            let _ = write!(out, "{number}");
        };
        match self {
            Self::BytesFromBackend => number(&t.from_backend),
            Self::BytesToBackend => number(&t.to_backend),
            Self::Frames(side) => number(&counts(side)?.frames),
            Self::Messages(side) => number(&counts(side)?.messages),
            Self::CloseCode(side) => number(&close(side)?.code.unwrap_or(NO_CODE)),
            Self::Silence => number(&t.seen.as_ref()?.silence.as_millis()),
            Self::CloseText(side) => escape.append(&close(side)?.reason, out),
            Self::Event => escape.append(if t.is_open { b"open" } else { b"end" }, out),
            Self::EndedBy => escape.append(t.close.as_ref()?.who().as_bytes(), out),
            Self::Mapping => escape.append(t.mapping.as_ref()?.as_bytes(), out),
            Self::Backend => {
                escape.append(t.backend.as_ref()?.url.to_string().as_bytes(), out);
            }
            Self::CloseReason => escape.append(t.close.as_ref()?.to_string().as_bytes(), out),
        }
        Some(())
    }
}
