//! The status of a member: what the configuration, an operator, a health check or an error says about its use.

use std::fmt;

/// One fact about a member. Its letter is that of httpd's `status=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `D`: not to be used.
    Disabled,
    /// `S`: not to be used, and never looked at again until somebody says so.
    Stopped,
    /// `I`: never set aside because of an error.
    IgnoreErrors,
    /// `R`: a hot spare, used in place of an ordinary member of its set that cannot be.
    Spare,
    /// `H`: a hot standby, used when nothing else in its set can be.
    Standby,
    /// `E`: set aside because of an error, until its time to retry has come.
    Error,
    /// `N`: draining; it goes on with the sessions that are its own, and gets no new ones.
    Drain,
    /// `C`: its health check fails. Found out while running, so no configuration can say it.
    Unhealthy,
}

impl Flag {
    const ALL: [Self; 8] = [
        Self::Disabled,
        Self::Stopped,
        Self::IgnoreErrors,
        Self::Spare,
        Self::Standby,
        Self::Error,
        Self::Drain,
        Self::Unhealthy,
    ];

    /// Its letter in `status=`.
    pub fn letter(self) -> char {
        match self {
            Self::Disabled => 'D',
            Self::Stopped => 'S',
            Self::IgnoreErrors => 'I',
            Self::Spare => 'R',
            Self::Standby => 'H',
            Self::Error => 'E',
            Self::Drain => 'N',
            Self::Unhealthy => 'C',
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(pub(super) u8);

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Ordinary,
    Spare,
    Standby,
}

impl Status {
    /// Whether the flag is set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & flag.bit() != 0
    }

    /// Whether nothing forbids its use. A draining member is usable: by the sessions that are its own.
    pub fn is_usable(self) -> bool {
        !self.has(Flag::Error) && !self.is_withheld()
    }

    /// This, after the change.
    #[must_use]
    pub fn with(self, change: Change) -> Self {
        Self(self.0 & !change.clears | change.sets)
    }

    /// What leads from `old` to this: flags that are alike in both stay as they are.
    pub(super) fn since(self, old: Self) -> Change {
        Change {
            sets: self.0 & !old.0,
            clears: old.0 & !self.0,
        }
    }

    /// Whether it is forbidden for a reason that does not end by itself.
    pub(super) fn is_withheld(self) -> bool {
        [Flag::Disabled, Flag::Stopped, Flag::Unhealthy]
            .into_iter()
            .any(|flag| self.has(flag))
    }

    /// Who is both is a spare.
    pub(super) fn role(self) -> Role {
        if self.has(Flag::Spare) {
            Role::Spare
        } else if self.has(Flag::Standby) {
            Role::Standby
        } else {
            Role::Ordinary
        }
    }
}

impl fmt::Display for Status {
    /// The letters that are set, such as `HN`; `-` where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Flag::ALL.into_iter().filter(|flag| self.has(*flag));
        let letters: String = set.map(Flag::letter).collect();
        f.write_str(if letters.is_empty() { "-" } else { &letters })
    }
}

/// Flags to set and flags to clear; of what is neither, nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    sets: u8,
    clears: u8,
}

impl Change {
    /// Parses the value of `status=`: letters in any case, each set, or cleared behind a `-` up to the next `+`. The last
    /// word about a flag counts. httpd: `ap_proxy_set_wstatus`.
    ///
    /// # Errors
    /// A sentence that names the letter and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut change = Self::default();
        let mut sets = true;
        for letter in text.chars() {
            match letter {
                '+' => sets = true,
                '-' => sets = false,
                _ => {
                    let flag = flag(letter).map_err(|problem| format!("\"{text}\": {problem}"))?;
                    change = if sets {
                        change.set(flag)
                    } else {
                        change.clear(flag)
                    };
                }
            }
        }
        if change == Self::default() {
            return Err(format!("\"{text}\" names no status; expected {LETTERS}"));
        }
        Ok(change)
    }

    /// The same, and the flag is set.
    #[must_use]
    pub fn set(self, flag: Flag) -> Self {
        Self {
            sets: self.sets | flag.bit(),
            clears: self.clears & !flag.bit(),
        }
    }

    /// The same, and the flag is cleared.
    #[must_use]
    pub fn clear(self, flag: Flag) -> Self {
        Self {
            sets: self.sets & !flag.bit(),
            clears: self.clears | flag.bit(),
        }
    }

    /// Whether it sets the flag.
    pub(super) fn sets(self, flag: Flag) -> bool {
        self.sets & flag.bit() != 0
    }

    /// Whether it clears the flag.
    pub(super) fn clears(self, flag: Flag) -> bool {
        self.clears & flag.bit() != 0
    }
}

const LETTERS: &str = "letters out of D S I R H E N, each set by a + before it and cleared by a -";

fn flag(letter: char) -> Result<Flag, String> {
    let upper = letter.to_ascii_uppercase();
    match Flag::ALL.into_iter().find(|flag| flag.letter() == upper) {
        Some(flag) if flag != Flag::Unhealthy => Ok(flag),
        // The letters of httpd's own bookkeeping; what they say is found out while running.
        _ if "CFGOU".contains(upper) => Err(format!(
            "the letter {letter} is not for configurations; expected {LETTERS}"
        )),
        _ => Err(format!("unknown letter {letter:?}; expected {LETTERS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn status(text: &str) -> String {
        let change = Change::parse(text).unwrap();
        Status::default().with(change).to_string()
    }

    #[test]
    fn letters_set_and_clear() {
        for (text, expected) in [
            ("D", "D"),
            ("+D", "D"),
            ("-D", "-"),
            ("+H-D", "H"),
            ("+HN", "HN"),
            ("nh", "HN"),
            ("+D-D", "-"),
            ("-D+D", "D"),
            ("+D-HS+N", "DN"),
            ("++I", "I"),
            ("DSIRHEN", "DSIRHEN"),
        ] {
            assert_eq!(status(text), expected, "{text}");
        }
    }

    #[test]
    fn other_letters_are_refused_by_name() {
        for (text, expected) in [
            ("", "names no status"),
            ("+-", "names no status"),
            ("+DX", "unknown letter 'X'"),
            ("D,S", "unknown letter ','"),
            ("+\u{e9}", "unknown letter '\u{e9}'"),
            ("+C", "the letter C is not for configurations"),
            ("u", "the letter u is not for configurations"),
        ] {
            let refusal = Change::parse(text).unwrap_err();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_a_change_does_not_name_stays() {
        let old = Status::default().with(Change::parse("+DE").unwrap());
        let new = old.with(Change::parse("-D+N").unwrap());
        assert_eq!(new.to_string(), "EN");
        assert_eq!(old.with(new.since(old)), new);
        assert_eq!(new.since(new), Change::default());
        // What was changed at run time and is alike in both configurations is nobody's to change back.
        let (none, stopped) = (Status::default(), Change::default().set(Flag::Stopped));
        assert_eq!(none.with(stopped).with(new.since(old)).to_string(), "SN");
    }

    #[test]
    fn what_may_be_used() {
        for (text, usable) in [
            ("D", false),
            ("S", false),
            ("E", false),
            ("EI", false),
            ("I", true),
            ("R", true),
            ("H", true),
            ("N", true),
        ] {
            let status = Status::default().with(Change::parse(text).unwrap());
            assert_eq!(status.is_usable(), usable, "{text}");
        }
        let unhealthy = Change::default().set(Flag::Unhealthy);
        assert!(!Status::default().with(unhealthy).is_usable());
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(11);
        for _ in 0..5_000 {
            let bytes = noise.mangle(b"+H-D+N", b"+-DSIRHENCx");
            let _ = Change::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
