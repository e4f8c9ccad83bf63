//! The lines of TLS towards clients, each by itself. Source: httpd ssl_engine_config.c.

use super::files::{self, Pem};
use super::{Certificate, ClientCertificates, ListenerTls, TlsPolicy};
use crate::config::draft::Scope;
use crate::config::findings::{Findings, Origin};
use crate::config::value;
use crate::tls::{Named, Protocols, Version};
use std::path::PathBuf;

/// What is left out of each list of ciphers, whatever it says: those without encryption, without a certificate, and those
/// that were made to be broken. httpd: `ssl_cmd_SSLCipherSuite`.
const NEVER: &str = ":!aNULL:!eNULL:!EXP";

/// RHEL's name for what the policy of the whole system says, which is what its library does if it is told nothing.
const SYSTEM: &str = "PROFILE=SYSTEM";

/// What a host says so far. `Default` only stands for "not yet": the table has the defaults.
#[derive(Debug, Clone, Default)]
pub(in crate::config) struct Draft {
    /// `SSLEngine`, and where.
    pub(super) engine: Option<(bool, Origin)>,
    shown: Shown,
    chain: Option<Named>,
    protocols: Protocols,
    ciphers: Option<String>,
    suites: Option<String>,
    groups: Option<String>,
    pub(in crate::config) prefers_own_order: bool,
    pub(in crate::config) tickets: bool,
    pub(in crate::config) is_strict: bool,
    /// `SSLVerifyClient`, unless it is `none`: whether a certificate is required, and where.
    pub(super) client: Option<(bool, Origin)>,
    depth: u32,
    authorities: Option<Named>,
}

/// `SSLCertificateFile` and `SSLCertificateKeyFile`, each in the order of the lines.
#[derive(Debug, Clone, Default)]
struct Shown {
    certificates: Vec<CertificateLine>,
    keys: Vec<(PathBuf, Origin)>,
    /// Whether they are those of the main server.
    are_inherited: bool,
}

/// `SSLCertificateFile`
#[derive(Debug, Clone)]
struct CertificateLine {
    path: PathBuf,
    at: Origin,
    /// What is wrong with the key in the file, where no other line names one.
    key: Result<(), String>,
    /// What is doubtful about the file if there is a key in it.
    doubt: Option<String>,
}

impl Draft {
    /// What a virtual host begins with.
    pub(in crate::config) fn inherited(&self) -> Self {
        let mut heir = self.clone();
        heir.shown.are_inherited = true;
        heir
    }

    /// What the host itself shows. The first certificate or key of a virtual host replaces all of the main server.
    // httpd: replaces them one by one, by their number, so that the main server's second certificate stays, and with it a
    // name that is none of this host (`modssl_ctx_cfg_merge_certkeys_array`).
    fn own(&mut self) -> &mut Shown {
        if self.shown.are_inherited {
            self.shown = Shown::default();
        }
        &mut self.shown
    }

    /// Where the first certificate stands; none: there is no certificate.
    pub(super) fn certificate(&self) -> Option<&Origin> {
        Some(&self.shown.certificates.first()?.at)
    }

    /// Keys without a certificate.
    pub(super) fn check(&self, findings: &mut Findings) {
        let Shown {
            certificates, keys, ..
        } = &self.shown;
        for (_, at) in keys.iter().skip(certificates.len()) {
            let problem = "there is no SSLCertificateFile for it in this host; the first key belongs to the first \
                           certificate, the second to the second";
            findings.error(at, "SSLCertificateKeyFile", problem);
        }
    }

    /// What a host does that speaks TLS.
    pub(super) fn finish(&self, findings: &mut Findings) -> ListenerTls {
        let mut keys = self.shown.keys.iter();
        let certificates = self.shown.certificates.iter();
        let certificates = certificates.map(|line| Certificate {
            file: line.named(),
            key: match keys.next() {
                Some((path, at)) => Named::at(at, "SSLCertificateKeyFile", path),
                None => line.own_key(findings),
            },
            origin: line.at.clone(),
        });
        let certificates = certificates.collect();
        ListenerTls {
            certificates,
            chain: self.chain.clone(),
            policy: TlsPolicy {
                protocols: self.protocols,
                ciphers: self.ciphers.clone(),
                suites: self.suites.clone(),
                groups: self.groups.clone(),
                prefers_own_order: self.prefers_own_order,
                client: self.clients(findings),
            },
            tickets: self.tickets,
            is_strict: self.is_strict,
        }
    }

    fn clients(&self, findings: &mut Findings) -> Option<ClientCertificates> {
        let (is_required, at) = self.client.as_ref()?;
        let Some(authorities) = &self.authorities else {
            // httpd: only warns, and then lets nobody in.
            let problem = "there is nothing to verify clients by; write SSLCACertificateFile with the path of a PEM file \
                           of the authorities that count";
            findings.error(at, "SSLVerifyClient", problem);
            return None;
        };
        Some(ClientCertificates {
            is_required: *is_required,
            depth: self.depth.saturating_sub(1),
            authorities: authorities.clone(),
        })
    }
}

impl CertificateLine {
    /// The key in the same file.
    fn own_key(&self, findings: &mut Findings) -> Named {
        match (&self.key, &self.doubt) {
            (Err(problem), _) => findings.error(
                &self.at,
                "SSLCertificateFile",
                format!("{problem}, or SSLCertificateKeyFile with the path of the key"),
            ),
            (Ok(()), Some(doubt)) => findings.warning(&self.at, "SSLCertificateFile", doubt),
            (Ok(()), None) => {}
        }
        self.named()
    }

    fn named(&self) -> Named {
        Named::at(&self.at, "SSLCertificateFile", &self.path)
    }
}

/// What is obeyed only where there is a library for it.
pub(in crate::config) fn needs_library() -> Result<(), String> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    Err("this program was built without TLS (feature \"tls\")".to_owned())
}

pub(in crate::config) fn engine(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("optional") {
        return Err(
            "optional is not supported: whoever is between client and server could mix up requests before and after the \
             change to TLS (CVE-2025-49812); expected On or Off"
                .to_owned(),
        );
    }
    let on = value::on_off(text)?;
    if on {
        needs_library()?;
    }
    scope.host.tls.engine = Some((on, scope.at.clone()));
    Ok(())
}

pub(in crate::config) fn certificate_file(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    needs_library()?;
    let path = scope.path(text)?;
    let pem = Pem::read(scope.files, &path);
    let line = CertificateLine {
        at: scope.at.clone(),
        // What cannot be read has been complained of.
        key: pem.as_ref().map_or(Ok(()), Pem::key),
        doubt: files::doubt(scope.files, &path),
        path: path.clone(),
    };
    scope.host.tls.own().certificates.push(line);
    pem?.certificate()
}

pub(in crate::config) fn key_file(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    needs_library()?;
    let path = scope.path(text)?;
    let key = (path.clone(), scope.at.clone());
    scope.host.tls.own().keys.push(key);
    Pem::read(scope.files, &path)?.key()?;
    if let Some(doubt) = files::doubt(scope.files, &path) {
        scope.warn(doubt);
    }
    Ok(())
}

pub(in crate::config) fn chain_file(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let path = scope.path(text)?;
    Pem::read(scope.files, &path)?.certificate()?;
    scope.host.tls.chain = Some(Named::at(scope.at, scope.directive, &path));
    Ok(())
}

pub(in crate::config) fn ca_certificate_file(
    scope: &mut Scope<'_>,
    text: &str,
) -> Result<(), String> {
    let path = scope.path(text)?;
    scope.host.tls.authorities = Some(Named::at(scope.at, scope.directive, &path));
    Pem::read(scope.files, &path)?.certificate()
}

pub(in crate::config) fn protocol(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let protocols = Protocols::parse(words)?;
    if protocols.least < Version::Tls12 {
        scope.warn(format!(
            "{protocols}: RFC 8996 forbids what is older than TLSv1.2; write \"SSLProtocol -all +TLSv1.2 +TLSv1.3\" unless \
             there are clients that know nothing newer"
        ));
    }
    scope.host.tls.protocols = protocols;
    Ok(())
}

pub(in crate::config) fn cipher_suite(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    match List::parse(scope, words)? {
        List::Ciphers(list) => scope.host.tls.ciphers = list,
        List::Suites(list) => scope.host.tls.suites = list,
    }
    Ok(())
}

/// What `[SSL|TLSv1.3] list` says; none: as the library has it.
pub(in crate::config) enum List {
    /// For all up to TLS 1.2.
    Ciphers(Option<String>),
    /// For TLS 1.3.
    Suites(Option<String>),
}

impl List {
    pub(in crate::config) fn parse(scope: &mut Scope<'_>, words: &[&str]) -> Result<Self, String> {
        let (protocol, list) = match words {
            [protocol, list] => (*protocol, *list),
            _ => ("SSL", words.first().copied().unwrap_or_default()),
        };
        if protocol.eq_ignore_ascii_case("SSL") {
            let parsed = ciphers(list)?;
            if let Some(suite) = list.split([':', ',', ' ']).find(|word| is_suite(word)) {
                let directive = scope.directive;
                scope.warn(format!(
                    "\"{suite}\" is of TLS 1.3 and has no effect here; write \"{directive} TLSv1.3 {suite}\""
                ));
            }
            return Ok(Self::Ciphers(parsed));
        }
        if protocol.eq_ignore_ascii_case("TLSv1.3") {
            return suites(list).map(Self::Suites);
        }
        Err(format!(
            "unknown protocol \"{protocol}\"; expected SSL, for all up to TLS 1.2, or TLSv1.3"
        ))
    }
}

/// Whether it is of those that RFC 8446 has, which all begin so, and no earlier ones in OpenSSL's words.
fn is_suite(word: &str) -> bool {
    word.starts_with("TLS_AES_") || word.starts_with("TLS_CHACHA20_")
}

/// A list in OpenSSL's words, ciphers(1). What its words mean, the library knows.
fn ciphers(list: &str) -> Result<Option<String>, String> {
    if list == SYSTEM {
        return Ok(None);
    }
    let is_odd = |c: &char| !c.is_ascii_alphanumeric() && !"!+-_.:,;@= ".contains(*c);
    if let Some(odd) = list.chars().find(is_odd) {
        return Err(format!(
            "\"{list}\": \"{odd}\" is in no list of ciphers; expected names with \":\" between them"
        ));
    }
    if list.trim().is_empty() || list.contains("PROFILE=") {
        return Err(format!(
            "expected names of ciphers with \":\" between them, or {SYSTEM}, found \"{list}\""
        ));
    }
    // At the end: some words, such as DEFAULT, may only stand at the beginning.
    Ok(Some(format!("{list}{NEVER}")))
}

fn suites(list: &str) -> Result<Option<String>, String> {
    if list == SYSTEM {
        return Ok(None);
    }
    match list.split(':').find(|word| !is_suite(word)) {
        Some(word) => Err(format!(
            "\"{word}\" is no suite of TLS 1.3; expected names such as TLS_AES_256_GCM_SHA384 with \":\" between them"
        )),
        None => Ok(Some(list.to_owned())),
    }
}

pub(in crate::config) fn verify_client(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let at = scope.at.clone();
    scope.host.tls.client = match text.to_ascii_lowercase().as_str() {
        "none" => None,
        "optional" => Some((false, at)),
        "require" => Some((true, at)),
        "optional_no_ca" => {
            return Err(
                "optional_no_ca is not supported: anybody can make a certificate that nobody verifies; write optional, with \
                 SSLCACertificateFile"
                    .to_owned(),
            );
        }
        _ => {
            return Err(format!(
                "expected none, optional or require, found \"{text}\""
            ));
        }
    };
    Ok(())
}

pub(in crate::config) fn verify_depth(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    // httpd: 0 lets in what stands in the file of authorities itself, and nothing that these have signed.
    scope.host.tls.depth = value::integer(text, 1..=100)?;
    Ok(())
}

/// `SSLOpenSSLConfCmd`: of all that the library can be told in this way, what no directive says.
pub(in crate::config) fn conf_cmd(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [command, text] = words else {
        return Err("expected a command and its value, such as Groups X25519:P-256".to_owned());
    };
    let instead = match command.to_ascii_lowercase().as_str() {
        "groups" | "curves" => {
            let is_odd = |c: char| !c.is_ascii_alphanumeric() && !"-_:?*/".contains(c);
            if text.is_empty() || text.contains(is_odd) {
                return Err(format!(
                    "expected names of groups with \":\" between them, such as X25519:P-256, found \"{text}\""
                ));
            }
            scope.host.tls.groups = Some((*text).to_owned());
            return Ok(());
        }
        "protocol" | "minprotocol" | "maxprotocol" => "write SSLProtocol",
        "cipherstring" => "write SSLCipherSuite",
        "ciphersuites" => "write SSLCipherSuite TLSv1.3",
        "dhparameters" => "the library chooses them; remove the line",
        _ => "expected Groups or Curves; remove the line",
    };
    Err(format!("\"{command}\" is not supported; {instead}"))
}

/// `SSLOptions`: what scripts get, and what directories do, which are not here.
pub(in crate::config) fn options(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for word in words {
        let (is_taken, name) = match word.split_at_checked(1) {
            Some(("-", name)) => (false, name),
            Some(("+", name)) => (true, name),
            _ => (true, *word),
        };
        let problem = match name.to_ascii_lowercase().as_str() {
            "stdenvvars" | "exportcertdata" | "strictrequire" | "optrenegotiate"
            | "compatenvvars" => continue,
            "fakebasicauth" | "legacydnstringformat" if !is_taken => continue,
            "fakebasicauth" => {
                "is not supported: nobody is asked for a password here; RequestHeader set X-Client \
                 \"%{SSL_CLIENT_S_DN}s\" tells the backend who it is"
            }
            "legacydnstringformat" => {
                "is not supported: SSL_CLIENT_S_DN and SSL_CLIENT_I_DN are written in one way"
            }
            _ => "is unknown; expected StdEnvVars, ExportCertData, StrictRequire or OptRenegotiate",
        };
        scope.error(format!("\"{name}\" {problem}"));
    }
    scope.note("it has no effect: RequestHeader has what is known of TLS as %{SSL_...}s, and RewriteCond as %{SSL:SSL_...}");
    Ok(())
}

/// Of the policies of httpd the one that is kept here.
pub(in crate::config) fn sni_policy(_: &mut Scope<'_>, text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("secure") {
        return Ok(());
    }
    let known = ["strict", "authonly", "insecure"];
    if known.iter().any(|known| text.eq_ignore_ascii_case(known)) {
        return Err(format!(
            "\"{text}\" is not supported: a request for a host with other terms of TLS than the one that its connection was \
             made for gets 421; expected secure"
        ));
    }
    Err(format!("expected secure, found \"{text}\""))
}

/// A switch whose `Off` is what is done here: `why` says what there is against `On`.
pub(in crate::config) fn only_off(on: bool, why: &str) -> Result<(), String> {
    if on {
        return Err(format!("On is not supported: {why}"));
    }
    Ok(())
}

pub(in crate::config) fn crypto_device(_: &mut Scope<'_>, text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("builtin") {
        return Ok(());
    }
    Err(format!(
        "\"{text}\" is not supported: OpenSSL chooses by itself what the processor can do; expected builtin"
    ))
}

/// `Protocols`: what clients are offered inside of TLS (ALPN).
pub(in crate::config) fn protocols(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let is_ours = |word: &&&str| word.eq_ignore_ascii_case("http/1.1");
    if !words.iter().any(|word| is_ours(&word)) {
        return Err(format!(
            "\"{}\": nothing but HTTP/1.1 is spoken here; add http/1.1",
            words.join(" ")
        ));
    }
    let others: Vec<&str> = words
        .iter()
        .filter(|word| !is_ours(word))
        .copied()
        .collect();
    if !others.is_empty() {
        let others = others.join(" ");
        scope.note(format!(
            "\"{others}\" has no effect: clients are offered HTTP/1.1 alone"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_of_ciphers_has_those_without_encryption() {
        let list = |text| ciphers(text).unwrap();
        assert_eq!(
            list("HIGH:!MD5:@SECLEVEL=2").as_deref(),
            Some("HIGH:!MD5:@SECLEVEL=2:!aNULL:!eNULL:!EXP")
        );
        assert_eq!(list("PROFILE=SYSTEM"), None);
        for text in ["", " ", "PROFILE=FUTURE", "HIGH\nX", "a\"b", "HIGH|MD5"] {
            assert!(ciphers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn suites_are_those_of_tls_1_3() {
        let list = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
        assert_eq!(suites(list), Ok(Some(list.to_owned())));
        assert_eq!(suites("PROFILE=SYSTEM"), Ok(None));
        for text in [
            "",
            "HIGH",
            "TLS_AES_128_GCM_SHA256:",
            "!TLS_AES_128_GCM_SHA256",
        ] {
            assert!(suites(text).is_err(), "{text}");
        }
    }
}
