//! Certificates and keys, as they stand in files.

use super::session::in_words;
use super::{Credential, Unfit};
use crate::tls::Named;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::{X509, X509NameRef};
use std::path::Path;

/// The least days that a certificate should have left.
const SOON: i32 = 14;

/// A certificate with those that lead to its authority, and its key.
pub(super) struct Material {
    leaf: X509,
    pub(super) key: PKey<Private>,
}

/// What an administrator wants to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// Whom it names.
    pub subject: String,
    /// When it ends, as OpenSSL writes it.
    pub until: String,
    /// Whole days until then, below 0 if it is over.
    pub days: i32,
    /// When it ends, in seconds since 1970.
    ends: i64,
}

impl std::fmt::Display for Validity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            subject,
            until,
            days,
            ..
        } = self;
        if *days < 0 {
            write!(f, "certificate {subject} ended {until}")
        } else {
            write!(f, "certificate {subject} ends {until}, in {days} days")
        }
    }
}

impl Validity {
    fn of(certificate: &X509) -> Self {
        let until = certificate.not_after();
        let now = openssl::asn1::Asn1Time::days_from_now(0);
        let left = now.and_then(|now| now.diff(until));
        let since_1970 = openssl::asn1::Asn1Time::from_unix(0);
        let since_1970 = since_1970.and_then(|start| start.diff(until));
        let seconds =
            |it: openssl::asn1::TimeDiff| i64::from(it.days) * 86_400 + i64::from(it.secs);
        Self {
            ends: since_1970.map_or(0, seconds),
            subject: subject(certificate),
            until: until.to_string(),
            // The library rounds towards 0, where one that has ended today would be good for the rest of the day.
            days: left.map_or(0, |left| left.days - i32::from(left.secs < 0)),
        }
    }

    /// Whom it names.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// When it ends, in seconds since 1970.
    pub fn ends(&self) -> i64 {
        self.ends
    }

    /// Whether it ends soon or has ended.
    pub fn is_short(&self) -> bool {
        self.days < SOON
    }
}

/// What is shown to backends that ask for a certificate.
pub(super) struct Identity {
    pub(super) leaf: X509,
    /// What leads to its authority.
    pub(super) above: Vec<X509>,
    pub(super) key: PKey<Private>,
}

impl Identity {
    /// Reads a certificate and its key from one file, in any order and with those above it if they are there; more of them
    /// may stand in `chain`.
    // httpd: the file may hold several pairs, of which the backend's list of authorities chooses one; those above stand in
    // the other file alone.
    pub(super) fn read(file: &Path, chain: Option<&Path>) -> Result<Self, String> {
        let mut found = certificates(file)?;
        let keys = read(file)?;
        let keys = count(&keys, b"-----BEGIN ", b"PRIVATE KEY-----");
        if keys > 1 {
            return Err(format!(
                "{}: there are {keys} keys in it; expected one, for which no other could be chosen",
                file.display()
            ));
        }
        let key = private_key(file)?;
        let is_its_own = |certificate: &X509| {
            let public = certificate.public_key();
            public.is_ok_and(|public| public.public_eq(&key))
        };
        let Some(place) = found.iter().position(is_its_own) else {
            return Err(format!(
                "{}: the key belongs to no certificate in it; expected the one that it was made with",
                file.display()
            ));
        };
        let leaf = found.remove(place);
        let more = chain.map(certificates).transpose()?;
        found.extend(more.into_iter().flatten());
        Ok(Self {
            leaf,
            above: found,
            key,
        })
    }

    /// The certificates, that of the key first, and the key as PKCS#8.
    pub(super) fn to_pem(&self) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
        let mut chain = self.leaf.to_pem()?;
        for above in &self.above {
            chain.extend(above.to_pem()?);
        }
        Ok((chain, self.key.private_key_to_pem_pkcs8()?))
    }

    pub(super) fn validity(&self) -> Validity {
        Validity::of(&self.leaf)
    }
}

/// How many lines begin and end like this.
fn count(text: &[u8], begin: &[u8], end: &[u8]) -> usize {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines
        .filter(|line| line.starts_with(begin) && line.ends_with(end))
        .count()
}

impl Credential<'_> {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Material, Unfit> {
        let chain = named(self.certificate)?;
        let path = &self.certificate.path;
        let file = path.display();
        let leaf = chain.into_iter().next();
        let leaf = leaf.ok_or_else(|| unfit(self.certificate, without_certificate(path)))?;
        let key = private_key(&self.key.path).map_err(|problem| unfit(self.key, problem))?;
        let public = leaf.public_key().map_err(|error| {
            let reasons = in_words(Some(&error), None, "");
            let problem = format!("{file}: the key in the certificate cannot be read: {reasons}");
            unfit(self.certificate, problem)
        })?;
        if !public.public_eq(&key) {
            let problem = format!(
                "{}: the key does not belong to the certificate in {file}; expected the one that it was made with",
                self.key.path.display()
            );
            return Err(unfit(self.key, problem));
        }
        Ok(Material { leaf, key })
    }
}

/// The file that this line names is to blame.
pub(super) fn unfit(named: &Named, problem: String) -> Unfit {
    let line = Some(named.line.clone());
    Unfit { line, problem }
}

/// The certificates in the file that a line names; at least one.
pub(super) fn named(named: &Named) -> Result<Vec<X509>, Unfit> {
    certificates(&named.path).map_err(|problem| unfit(named, problem))
}

/// The certificates in a file; at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<X509>, String> {
    let text = read(file)?;
    let found = X509::stack_from_pem(&text).map_err(|error| {
        format!(
            "{}: a certificate in it cannot be read: {}",
            file.display(),
            in_words(Some(&error), None, "")
        )
    })?;
    if found.is_empty() {
        return Err(without_certificate(file));
    }
    Ok(found)
}

fn without_certificate(file: &Path) -> String {
    format!(
        "{}: there is no certificate in it; expected PEM blocks \"-----BEGIN CERTIFICATE-----\"",
        file.display()
    )
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: cannot be read: {error}", file.display()))
}

impl Material {
    pub(super) fn validity(&self) -> Validity {
        Validity::of(&self.leaf)
    }

    /// `RSA`, `EC`, ...: a listener has one certificate of a kind.
    pub(super) fn kind(&self) -> &'static str {
        match self.key.id() {
            Id::RSA => "RSA",
            Id::EC => "EC",
            Id::ED25519 => "Ed25519",
            Id::ED448 => "Ed448",
            Id::RSA_PSS => "RSA-PSS",
            _ => "other",
        }
    }
}

/// A key in any of the forms of PEM: PKCS#8, PKCS#1 or SEC1.
fn private_key(file: &Path) -> Result<PKey<Private>, String> {
    let text = read(file)?;
    let file = file.display();
    let has = |label: &[u8]| text.windows(label.len()).any(|window| window == label);
    if has(b"ENCRYPTED") {
        return Err(format!(
            "{file}: the key is encrypted, and nobody is there to ask for its password at start; write it without one by \
             \"openssl pkey -in {file} -out NEW\", readable by the server alone"
        ));
    }
    if !has(b"PRIVATE KEY-----") {
        return Err(format!(
            "{file}: there is no key in it; expected a PEM block such as \"-----BEGIN PRIVATE KEY-----\""
        ));
    }
    // No word of the library about a key: it may hold a part of it.
    PKey::private_key_from_pem(&text).map_err(|_| {
        format!(
            "{file}: the key cannot be read; \"openssl pkey -in {file} -noout -check\" says why"
        )
    })
}

/// Whom a certificate names.
pub(super) fn subject(certificate: &X509) -> String {
    name(certificate.subject_name())
}

/// As httpd writes it: RFC 2253, the last part first, such as `CN=www.example.org,O=Example`.
pub(super) fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_default();
        format!("{kind}={}", escaped(&value))
    });
    let mut entries: Vec<String> = entries.collect();
    entries.reverse();
    entries.join(",")
}

/// RFC 2253 section 2.4; and nothing that could end a line or a field.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (place, c) in value.chars().enumerate() {
        let is_at_an_end = c == ' ' && (place == 0 || place == last) || c == '#' && place == 0;
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("\\{byte:02X}"));
            }
            continue;
        }
        if is_at_an_end || ",+\"\\<>;".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The first part of this kind, as httpd names it.
pub(super) fn part_of(name: &X509NameRef, kind: &str) -> Option<String> {
    let kind = match kind {
        "C" => Nid::COUNTRYNAME,
        "ST" => Nid::STATEORPROVINCENAME,
        "L" => Nid::LOCALITYNAME,
        "O" => Nid::ORGANIZATIONNAME,
        "OU" => Nid::ORGANIZATIONALUNITNAME,
        "CN" => Nid::COMMONNAME,
        "UID" => Nid::USERID,
        "Email" => Nid::PKCS9_EMAILADDRESS,
        _ => return None,
    };
    let entry = name.entries_by_nid(kind).next()?;
    let value = entry.data().to_string().ok()?;
    Some(
        value
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::x509::X509NameBuilder;

    #[test]
    fn names_are_written_backwards_and_nothing_in_them_ends_anything() {
        for (parts, written) in [
            (
                &[("C", "DE"), ("O", "A, B"), ("CN", "a.example")][..],
                "CN=a.example,O=A\\, B,C=DE",
            ),
            (&[("CN", " x ")], "CN=\\ x\\ "),
            (&[("CN", "#1+\"\\<>;")], "CN=\\#1\\+\\\"\\\\\\<\\>\\;"),
            (&[("CN", "a\r\nX: y")], "CN=a\\0D\\0AX: y"),
            (&[("CN", "b\u{e4}r")], "CN=b\u{e4}r"),
            (&[], ""),
        ] {
            let mut builder = X509NameBuilder::new().unwrap();
            for (kind, value) in parts {
                builder.append_entry_by_text(kind, value).unwrap();
            }
            assert_eq!(name(&builder.build()), written);
        }
    }

    #[test]
    fn a_part_of_a_name_is_one_line() {
        let mut builder = X509NameBuilder::new().unwrap();
        builder.append_entry_by_text("OU", "one\ntwo").unwrap();
        builder.append_entry_by_text("OU", "three").unwrap();
        let name = builder.build();
        assert_eq!(part_of(&name, "OU").as_deref(), Some("one two"));
        assert_eq!(part_of(&name, "CN"), None);
        assert_eq!(part_of(&name, "X"), None);
    }
}
