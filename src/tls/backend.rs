//! What is asked of backends in TLS: what one place of the configuration says of it, and what all of them add up to.
//! httpd: the `SSLProxy` directives.

use super::{Named, Protocols};
use std::fmt;

/// What one place of the configuration says; what is unset, the place around it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// `SSLProxyVerify`: whether somebody who is trusted has to vouch for the certificate.
    pub verify: Option<bool>,
    /// `SSLProxyVerifyDepth`
    pub depth: Option<u32>,
    /// `SSLProxyCACertificateFile`
    pub authorities: Option<Named>,
    /// `SSLProxyCACertificatePath`
    pub authorities_folder: Option<Named>,
    /// `SSLProxyCheckPeerName`
    pub check_name: Option<bool>,
    /// `SSLProxyCheckPeerCN`
    pub check_common_name: Option<bool>,
    /// `SSLProxyCheckPeerExpire`
    pub check_dates: Option<bool>,
    /// `SSLProxyProtocol`
    pub protocols: Option<Protocols>,
    /// `SSLProxyCipherSuite`; a list, or that of the library.
    pub ciphers: Option<Option<String>>,
    /// `SSLProxyCipherSuite TLSv1.3`, likewise.
    pub suites: Option<Option<String>>,
    /// `SSLProxyMachineCertificateFile`
    pub identity: Option<Named>,
    /// `SSLProxyMachineCertificateChainFile`
    pub identity_chain: Option<Named>,
}

impl Demands {
    /// These, where they are set, and else those of `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        fn over<T: Clone>(own: Option<&T>, base: Option<&T>) -> Option<T> {
            own.or(base).cloned()
        }
        Self {
            verify: self.verify.or(base.verify),
            depth: self.depth.or(base.depth),
            authorities: over(self.authorities.as_ref(), base.authorities.as_ref()),
            authorities_folder: over(
                self.authorities_folder.as_ref(),
                base.authorities_folder.as_ref(),
            ),
            check_name: self.check_name.or(base.check_name),
            check_common_name: self.check_common_name.or(base.check_common_name),
            check_dates: self.check_dates.or(base.check_dates),
            protocols: self.protocols.or(base.protocols),
            ciphers: over(self.ciphers.as_ref(), base.ciphers.as_ref()),
            suites: over(self.suites.as_ref(), base.suites.as_ref()),
            identity: over(self.identity.as_ref(), base.identity.as_ref()),
            identity_chain: over(self.identity_chain.as_ref(), base.identity_chain.as_ref()),
        }
    }

    /// What they come to where nothing else is said.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            verify: self.verify.unwrap_or(true),
            depth: self.depth,
            authorities: self.authorities.clone(),
            authorities_folder: self.authorities_folder.clone(),
            name: NameCheck::of(self.check_name, self.check_common_name),
            dates: self.check_dates.unwrap_or(true),
            protocols: self.protocols.unwrap_or_default(),
            ciphers: self.ciphers.clone().flatten(),
            suites: self.suites.clone().flatten(),
            identity: self.identity.clone(),
            identity_chain: self.identity_chain.clone(),
        }
    }
}

/// How a backend is spoken to in TLS. Backends of the same policy have their connections from the same place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whether somebody who is trusted has to vouch for the certificate; else anybody may, and only name and dates count.
    pub verify: bool,
    /// The most certificates above that of the backend, its authority included; unset: as many as the library takes.
    // httpd: 1 where nothing is said, with which hardly any public server could be verified.
    pub depth: Option<u32>,
    /// The only authorities that count, with those of the folder; those of the system where there is neither.
    pub authorities: Option<Named>,
    /// A folder of such, by hashed names.
    pub authorities_folder: Option<Named>,
    /// Whom the certificate has to name.
    pub name: NameCheck,
    /// Whether its dates count.
    pub dates: bool,
    /// The versions that are spoken.
    pub protocols: Protocols,
    /// The ciphers for TLS up to 1.2, in OpenSSL's words; unset: those of the library.
    pub ciphers: Option<String>,
    /// The cipher suites for TLS 1.3, likewise.
    pub suites: Option<String>,
    /// The certificate that is shown to a backend that asks for one, and its key.
    pub identity: Option<Named>,
    /// What leads from it to its authority.
    pub identity_chain: Option<Named>,
}

/// Whom a backend's certificate has to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameCheck {
    /// The backend, by RFC 6125: among the alternative names, or as the common name where there are none.
    Name,
    /// The backend, as the common name.
    CommonName,
    /// Anybody.
    Nobody,
}

impl NameCheck {
    /// What `SSLProxyCheckPeerName` and `SSLProxyCheckPeerCN` come to. Source: httpd 2.4.46 ssl_engine_io.c
    /// `ssl_io_filter_handshake`.
    fn of(name: Option<bool>, common_name: Option<bool>) -> Self {
        match (name, common_name) {
            (Some(true), _) | (None, None | Some(true)) => Self::Name,
            (Some(false), Some(true)) => Self::CommonName,
            (Some(false), _) | (None, Some(false)) => Self::Nobody,
        }
    }
}

/// Whether a common name is that of a backend: the same, or `*` and all behind its first label. Source: httpd
/// ssl_engine_io.c `ssl_io_filter_handshake`.
#[must_use]
pub fn is_common_name(common: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    if common.eq_ignore_ascii_case(name) {
        return true;
    }
    let Some(behind) = common.strip_prefix(b"*") else {
        return false;
    };
    let dot = name.iter().position(|byte| *byte == b'.');
    let rest = dot.and_then(|dot| name.get(dot..));
    behind.len() > 1 && rest.is_some_and(|rest| rest.eq_ignore_ascii_case(behind))
}

impl fmt::Display for Policy {
    /// For the summary of a configuration: `verified by the system's authorities`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verify {
            f.write_str("verified by ")?;
            match (&self.authorities, &self.authorities_folder) {
                (None, None) => f.write_str("the system's authorities")?,
                (Some(_), None) => f.write_str("SSLProxyCACertificateFile")?,
                (None, Some(_)) => f.write_str("SSLProxyCACertificatePath")?,
                (Some(_), Some(_)) => {
                    f.write_str("SSLProxyCACertificateFile and SSLProxyCACertificatePath")?;
                }
            }
        } else {
            f.write_str("not verified")?;
        }
        if let (true, Some(depth)) = (self.verify, self.depth) {
            write!(f, " to a depth of {depth}")?;
        }
        let name = match self.name {
            NameCheck::Name => "name",
            NameCheck::CommonName => "common name",
            NameCheck::Nobody => "",
        };
        match (self.verify, self.name, self.dates) {
            (true, NameCheck::Name, _) | (false, NameCheck::Nobody, false) => {}
            (true, NameCheck::CommonName, _) => f.write_str(" for its common name")?,
            (true, NameCheck::Nobody, _) => f.write_str(" for any name")?,
            (false, NameCheck::Nobody, true) => f.write_str(" but for dates")?,
            (false, _, true) => write!(f, " but for {name} and dates")?,
            (false, _, false) => write!(f, " but for {name}")?,
        }
        if self.verify && !self.dates {
            f.write_str(" at any time")?;
        }
        if self.protocols != Protocols::default() {
            write!(f, ", {}", self.protocols)?;
        }
        if let Some(ciphers) = &self.ciphers {
            write!(f, ", ciphers {ciphers}")?;
        }
        if let Some(suites) = &self.suites {
            write!(f, ", suites {suites}")?;
        }
        if let Some(identity) = &self.identity {
            write!(f, ", as {}", identity.path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, line: &str) -> Named {
        Named {
            path: path.into(),
            line: line.to_owned(),
        }
    }

    #[test]
    fn the_checks_of_names_add_up_as_in_httpd() {
        use NameCheck::{CommonName, Name, Nobody};
        for (name, common_name, check) in [
            (None, None, Name),
            (None, Some(true), Name),
            (None, Some(false), Nobody),
            (Some(true), None, Name),
            (Some(true), Some(true), Name),
            (Some(true), Some(false), Name),
            (Some(false), None, Nobody),
            (Some(false), Some(false), Nobody),
            (Some(false), Some(true), CommonName),
        ] {
            assert_eq!(NameCheck::of(name, common_name), check);
        }
    }

    #[test]
    fn a_common_name_stands_for_one_label_at_most() {
        for (common, name, fits) in [
            ("www.example.org", "WWW.example.org", true),
            ("*.example.org", "www.Example.org", true),
            ("*.example.org", "a.b.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", true),
            ("*", "localhost", false),
            ("*.", "localhost.", false),
            ("w*.example.org", "www.example.org", false),
            ("", "", true),
            ("", "a", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("www.example.org\0.evil.example", "www.example.org", false),
        ] {
            assert_eq!(
                is_common_name(common.as_bytes(), name),
                fits,
                "{common} {name}"
            );
        }
    }

    #[test]
    fn a_section_says_more_than_its_host_and_the_same_is_the_same_wherever_it_stands() {
        let host = Demands {
            verify: Some(true),
            authorities: Some(named("/ca.pem", "a:1")),
            ciphers: Some(Some("HIGH".to_owned())),
            ..Demands::default()
        };
        let section = Demands {
            verify: Some(false),
            identity: Some(named("/me.pem", "a:2")),
            ..Demands::default()
        };
        let both = section.over(&host).policy();
        assert!(!both.verify);
        assert_eq!(both.ciphers.as_deref(), Some("HIGH"));
        let usual = Demands {
            ciphers: Some(None),
            ..Demands::default()
        };
        assert_eq!(usual.over(&host).policy().ciphers, None);
        assert_eq!(both.identity, Some(named("/me.pem", "b:7")));
        assert_eq!(Demands::default().over(&host), host);
        let elsewhere = Demands {
            authorities: Some(named("/ca.pem", "b:9")),
            ..host.clone()
        };
        assert_eq!(elsewhere.policy(), host.policy());
    }

    #[test]
    fn a_policy_is_told_in_words() {
        let usual = Demands::default();
        let httpd = Demands {
            verify: Some(false),
            ..Demands::default()
        };
        let open = Demands {
            check_name: Some(false),
            check_dates: Some(false),
            ..httpd.clone()
        };
        let odd = Demands {
            authorities: Some(named("/ca.pem", "")),
            depth: Some(2),
            check_name: Some(false),
            check_common_name: Some(true),
            check_dates: Some(false),
            protocols: Protocols::parse(&["TLSv1.3"]).ok(),
            ciphers: Some(Some("HIGH".to_owned())),
            identity: Some(named("/me.pem", "")),
            ..Demands::default()
        };
        for (demands, words) in [
            (usual, "verified by the system's authorities"),
            (httpd, "not verified but for name and dates"),
            (open, "not verified"),
            (
                odd,
                "verified by SSLProxyCACertificateFile to a depth of 2 for its common name at any time, TLSv1.3, ciphers \
                 HIGH, as /me.pem",
            ),
        ] {
            assert_eq!(demands.policy().to_string(), words);
        }
    }
}
