//! TLS towards backends: the `SSLProxy` directives, of a host or of a `<Proxy>`. Source: httpd ssl_engine_config.c.
//!
//! Files are looked at for a first time here, so that `-t` finds what is missing; what their content is worth is judged by
//! the library at start.

use super::draft::Scope;
use super::findings::Origin;
use super::tls::files::{self, Pem};
use super::tls::lines::{List, needs_library};
use super::value;
use crate::route::destination::ProxyUrl;
use crate::tls::Named;
use crate::tls::backend::Demands;
use crate::tls::{Protocols, Version};
use std::io::ErrorKind;
use std::path::Path;

/// Where `SSLProxyEngine` stands, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) is_on: bool,
    pub(super) at: Origin,
}

/// Where the directive says what it demands.
fn demands<'s>(scope: &'s mut Scope<'_>) -> Result<&'s mut Demands, String> {
    let Some(section) = &mut scope.section else {
        return Ok(&mut scope.host.backend_tls);
    };
    if let Some(ProxyUrl::Balancer(url)) = section.url()
        && !["", "/"].contains(&url.path.as_str())
    {
        return Err(format!(
            "the members of a balancer are spoken to in one way, whatever they are asked for; write it into <Proxy \
             \"balancer://{}\">",
            url.name
        ));
    }
    Ok(&mut section.tls)
}

/// `SSLProxyEngine`
pub(super) fn engine(scope: &mut Scope<'_>, is_on: bool) -> Result<(), String> {
    if is_on {
        needs_library()?;
    }
    demands(scope)?;
    let engine = Engine {
        is_on,
        at: scope.at.clone(),
    };
    match &mut scope.section {
        Some(section) => section.engine = Some(engine),
        None => scope.host.engine = Some(engine),
    }
    Ok(())
}

/// `SSLProxyVerify`
pub(super) fn verify(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let verify = match text.to_ascii_lowercase().as_str() {
        "require" => true,
        "none" => false,
        "optional" | "optional_no_ca" => {
            return Err(format!(
                "\"{text}\" is not supported: a backend always shows a certificate; expected require or none"
            ));
        }
        _ => return Err(format!("expected require or none, found \"{text}\"")),
    };
    demands(scope)?.verify = Some(verify);
    if !verify {
        scope.warn(
            "none: anybody can make a certificate that a wss:// backend is taken for, so anyone on the way can read and \
             change what is tunnelled",
        );
    }
    Ok(())
}

/// `SSLProxyVerifyDepth`
pub(super) fn depth(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    demands(scope)?.depth = Some(value::integer(text, 0..=100)?);
    Ok(())
}

/// `SSLProxyCACertificateFile`
pub(super) fn authorities(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let named = with_certificate(scope, text)?;
    demands(scope)?.authorities = Some(named);
    Ok(())
}

/// `SSLProxyCACertificatePath`
pub(super) fn authorities_folder(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let path = scope.path(text)?;
    let shown = path.display();
    if !scope.files.exists(&path) {
        return Err(format!("\"{shown}\": there is no such folder"));
    }
    if let Err(cause) = scope.files.find(&path, HASHED) {
        return Err(match cause.kind() {
            ErrorKind::NotFound => format!(
                "\"{shown}\" holds no certificate with a hashed name, such as 5ad8a5d6.0; \"openssl rehash {shown}\" makes \
                 these names"
            ),
            _ => format!("cannot read \"{shown}\": {cause}"),
        });
    }
    demands(scope)?.authorities_folder = Some(named(scope, &path));
    Ok(())
}

/// The names that OpenSSL looks for in a folder of authorities, but for their length.
const HASHED: &str = "????????.[0-9]*";

/// `SSLProxyCheckPeerName`
pub(super) fn check_name(scope: &mut Scope<'_>, on: bool) -> Result<(), String> {
    demands(scope)?.check_name = Some(on);
    let of_host = scope.host.backend_tls.verify;
    let of_section = scope.section.as_ref().map(|section| section.tls.verify);
    if !on && of_section.flatten().or(of_host) != Some(false) {
        scope.warn(
            "Off: whoever has a certificate of a trusted authority can take the place of a wss:// backend, whatever name is \
             in it",
        );
    }
    Ok(())
}

/// `SSLProxyCheckPeerCN`
pub(super) fn check_common_name(scope: &mut Scope<'_>, on: bool) -> Result<(), String> {
    demands(scope)?.check_common_name = Some(on);
    Ok(())
}

/// `SSLProxyCheckPeerExpire`
pub(super) fn check_dates(scope: &mut Scope<'_>, on: bool) -> Result<(), String> {
    demands(scope)?.check_dates = Some(on);
    Ok(())
}

/// `SSLProxyProtocol`
pub(super) fn protocols(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let protocols = Protocols::parse(words)?;
    demands(scope)?.protocols = Some(protocols);
    if protocols.least < Version::Tls12 {
        scope.warn(format!(
            "{protocols}: RFC 8996 forbids what is older than TLSv1.2, and OpenSSL 3 speaks it only with \
             SSLProxyCipherSuite \"DEFAULT:@SECLEVEL=0\"; write \"SSLProxyProtocol -all +TLSv1.2 +TLSv1.3\" unless a backend \
             knows nothing newer"
        ));
    }
    Ok(())
}

/// `SSLProxyCipherSuite`
pub(super) fn ciphers(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let list = List::parse(scope, words)?;
    let demands = demands(scope)?;
    match list {
        List::Ciphers(list) => demands.ciphers = Some(list),
        List::Suites(list) => demands.suites = Some(list),
    }
    Ok(())
}

/// `SSLProxyMachineCertificateFile`
pub(super) fn identity(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let path = scope.path(text)?;
    let pem = Pem::read(scope.files, &path)?;
    pem.certificate()?;
    pem.key()?;
    demands(scope)?.identity = Some(named(scope, &path));
    if let Some(doubt) = files::doubt(scope.files, &path) {
        scope.warn(doubt);
    }
    Ok(())
}

/// `SSLProxyMachineCertificateChainFile`
pub(super) fn identity_chain(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let named = with_certificate(scope, text)?;
    demands(scope)?.identity_chain = Some(named);
    Ok(())
}

/// A file that holds certificates.
fn with_certificate(scope: &Scope<'_>, text: &str) -> Result<Named, String> {
    let path = scope.path(text)?;
    Pem::read(scope.files, &path)?.certificate()?;
    Ok(named(scope, &path))
}

fn named(scope: &Scope<'_>, path: &Path) -> Named {
    Named::at(scope.at, scope.directive, path)
}
