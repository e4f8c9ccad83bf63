//! What can be said of TLS without a library for it: its versions, and what a client opens a connection with.

#![deny(clippy::indexing_slicing)]

pub mod backend;
pub mod hello;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

/// A file or folder, and the line that names it. Which line that is makes no difference.
#[derive(Debug, Clone)]
pub struct Named {
    /// Where it is.
    pub path: PathBuf,
    /// As messages begin: `file:line: directive`.
    pub line: String,
}

impl Named {
    /// What `directive` names, which stands at `origin`, as messages say it.
    pub fn at(origin: &dyn fmt::Display, directive: &str, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            line: format!("{origin}: {directive}"),
        }
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.path.display())
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 1.0
    Tls10,
    /// 1.1
    Tls11,
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];
}

impl fmt::Display for Version {
    /// As httpd's `SSLProtocol` names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls10 => "TLSv1",
            Self::Tls11 => "TLSv1.1",
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// The versions that are spoken: these two and all between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocols {
    /// The oldest.
    pub least: Version,
    /// The newest.
    pub most: Version,
}

impl Default for Protocols {
    /// TLS 1.2 and 1.3: RFC 8996 forbids those before.
    // httpd: from the oldest that the library speaks.
    fn default() -> Self {
        Self {
            least: Version::Tls12,
            most: Version::Tls13,
        }
    }
}

impl Protocols {
    /// Reads the words of `SSLProtocol`: versions and `all`, with `+` or `-` before them; one without either stands for itself
    /// alone. Source: httpd ssl_engine_config.c `ssl_cmd_protocol_parse`.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut chosen = [false; Version::ALL.len()];
        for word in words {
            let (action, name) = match word.split_at_checked(1) {
                Some((sign @ ("+" | "-"), name)) => (Some(sign == "+"), name),
                _ => (None, *word),
            };
            let named = named(name).ok_or_else(|| {
                format!(
                    "unknown version \"{name}\"; expected all, TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3, with + or - before it"
                )
            })?;
            if name.to_ascii_lowercase().starts_with("ssl") && action != Some(false) {
                return Err(format!(
                    "\"{name}\" is broken, and nothing here speaks it; write TLSv1.2 and TLSv1.3"
                ));
            }
            for (is_chosen, is_named) in chosen.iter_mut().zip(named) {
                *is_chosen = match action {
                    Some(true) => *is_chosen || is_named,
                    Some(false) => *is_chosen && !is_named,
                    None => is_named,
                };
            }
        }
        let mut versions = Version::ALL.into_iter().zip(chosen);
        let versions: Vec<Version> = versions
            .by_ref()
            .filter_map(|(version, is_chosen)| is_chosen.then_some(version))
            .collect();
        let (Some(least), Some(most)) = (versions.first(), versions.last()) else {
            return Err("no version is left; expected at least one".to_owned());
        };
        if *most as usize - *least as usize >= versions.len() {
            return Err(format!(
                "a version between {least} and {most} is left out, which the library cannot do; expected a row without a gap"
            ));
        }
        Ok(Self {
            least: *least,
            most: *most,
        })
    }
}

/// Which versions a word stands for.
fn named(word: &str) -> Option<[bool; Version::ALL.len()]> {
    let lower = word.to_ascii_lowercase();
    if ["all", "sslv2", "sslv3"].contains(&lower.as_str()) {
        return Some([lower == "all"; Version::ALL.len()]);
    }
    let is_it = |version: Version| version.to_string().eq_ignore_ascii_case(word);
    let named = Version::ALL.map(is_it);
    named.contains(&true).then_some(named)
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            return self.least.fmt(f);
        }
        write!(f, "{} to {}", self.least, self.most)
    }
}

/// What is known of the TLS of a client's connection, by the names of httpd (mod_ssl, Environment Variables).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session(Vec<(&'static str, String)>);

impl Session {
    /// The names that there are.
    pub const NAMES: [&'static str; 29] = [
        "SSL_PROTOCOL",
        "SSL_CIPHER",
        "SSL_CIPHER_USEKEYSIZE",
        "SSL_CIPHER_ALGKEYSIZE",
        "SSL_SESSION_RESUMED",
        "SSL_TLS_SNI",
        "SSL_CLIENT_VERIFY",
        "SSL_CLIENT_S_DN",
        "SSL_CLIENT_I_DN",
        "SSL_CLIENT_S_DN_C",
        "SSL_CLIENT_S_DN_ST",
        "SSL_CLIENT_S_DN_L",
        "SSL_CLIENT_S_DN_O",
        "SSL_CLIENT_S_DN_OU",
        "SSL_CLIENT_S_DN_CN",
        "SSL_CLIENT_S_DN_UID",
        "SSL_CLIENT_S_DN_Email",
        "SSL_CLIENT_I_DN_C",
        "SSL_CLIENT_I_DN_ST",
        "SSL_CLIENT_I_DN_L",
        "SSL_CLIENT_I_DN_O",
        "SSL_CLIENT_I_DN_OU",
        "SSL_CLIENT_I_DN_CN",
        "SSL_CLIENT_I_DN_UID",
        "SSL_CLIENT_I_DN_Email",
        "SSL_CLIENT_M_SERIAL",
        "SSL_CLIENT_V_START",
        "SSL_CLIENT_V_END",
        "SSL_CLIENT_CERT",
    ];

    /// The one of the names that is this, in any case.
    pub fn named(name: &str) -> Option<&'static str> {
        let mut names = Self::NAMES.into_iter();
        names.find(|known| known.eq_ignore_ascii_case(name))
    }

    /// What is wanted of it.
    pub fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let known = self.0.iter();
        Self(known.filter(|(name, _)| is_wanted(name)).cloned().collect())
    }

    /// Asks `about` each of the names.
    pub fn new(about: impl Fn(&str) -> Option<String>) -> Self {
        let known = Self::NAMES.into_iter();
        Self(
            known
                .filter_map(|name| Some((name, about(name)?)))
                .collect(),
        )
    }

    /// What is known under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut known = self.0.iter();
        known
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let words: Vec<&str> = text.split(' ').collect();
        Protocols::parse(&words).map(|protocols| protocols.to_string())
    }

    #[test]
    fn versions_add_up_as_in_httpd() {
        for (text, versions) in [
            ("all -SSLv3", "TLSv1 to TLSv1.3"),
            ("all -SSLv3 -TLSv1 -TLSv1.1", "TLSv1.2 to TLSv1.3"),
            ("-all +TLSv1.2 +TLSv1.3", "TLSv1.2 to TLSv1.3"),
            ("tlsv1.3", "TLSv1.3"),
            // A word without a sign overrides what was before it.
            ("TLSv1.2 TLSv1.3", "TLSv1.3"),
            ("TLSv1.2 +TLSv1.3", "TLSv1.2 to TLSv1.3"),
            ("ALL -TLSv1.3", "TLSv1 to TLSv1.2"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(versions), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        for (text, why) in [
            ("TLSv1.4", "unknown version \"TLSv1.4\""),
            ("", "unknown version \"\""),
            ("+", "unknown version \"\""),
            ("SSLv3", "broken"),
            ("all +SSLv2", "broken"),
            ("all -all", "no version is left"),
            ("all -TLSv1.2", "left out"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
    }
}
