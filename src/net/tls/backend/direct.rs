//! What native-tls cannot express, by OpenSSL itself.

use super::{Read, not_accepted};
use crate::net::stream::{Socket, Stream};
use crate::net::tls::TlsError;
use crate::net::tls::listener::{ciphers, protocols};
use crate::net::tls::material::Identity;
use crate::net::tls::observed::Observed;
use crate::net::tls::resume::Sessions;
use crate::net::tls::session::{Side, shake_hands};
use crate::net::wait::Waiter;
use crate::tls::backend::{NameCheck, Policy, is_common_name};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{
    Ssl, SslConnector, SslConnectorBuilder, SslContext, SslMethod, SslOptions, SslVerifyMode,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref, X509StoreContextRef, X509VerifyResult};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

// What OpenSSL finds about a certificate, in its numbers (x509_vfy.h).
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
const HOSTNAME_MISMATCH: i32 = 62;
const ADDRESS_MISMATCH: i32 = 64;

/// The security level below which Debian's OpenSSL does not go either: keys of RSA have 2048 bits and more.
const SECURITY_LEVEL: u32 = 2;

/// A context of OpenSSL with the sessions of its connections.
#[derive(Debug)]
pub(super) struct Direct {
    context: SslConnector,
    sessions: Arc<Sessions>,
    checks: Checks,
}

/// What a certificate has to be.
#[derive(Debug, Clone, Copy)]
struct Checks {
    verify: bool,
    depth: Option<u32>,
    name: NameCheck,
    dates: bool,
}

impl Direct {
    pub(super) fn new(policy: &Policy, read: Read) -> Result<Self, String> {
        let mut builder = prepared(policy, read.authorities)
            .map_err(|error| format!("cannot set up TLS with backends: {error}"))?;
        let (list, suites) = (policy.ciphers.as_deref(), policy.suites.as_deref());
        ciphers(&mut builder, list, suites)
            .map_err(|problem| format!("SSLProxyCipherSuite: {problem}"))?;
        // Behind the ciphers, which may say what keys are good enough.
        if let Some(identity) = read.identity {
            show(&mut builder, identity).map_err(|error| not_accepted(policy, &error))?;
        }
        let sessions = Sessions::of(&mut builder)
            .map_err(|error| format!("cannot keep sessions with backends: {error}"))?;
        Ok(Self {
            context: builder.build(),
            sessions,
            checks: Checks {
                verify: policy.verify,
                depth: policy.depth,
                name: policy.name,
                dates: policy.dates,
            },
        })
    }

    pub(super) fn connect(
        &self,
        name: &str,
        socket: Socket,
        deadline: Instant,
        waiter: &mut Waiter,
    ) -> Result<Stream, TlsError> {
        let peer: Arc<str> = format!("{name} at {}", socket.peer()).into();
        let found = Arc::new(OnceLock::new());
        let ssl = self.ssl(name, &peer, &found);
        let ssl = ssl.map_err(|error| TlsError::Handshake(error.to_string()))?;
        let socket = Observed::new(socket, Vec::new());
        let outcome = shake_hands(ssl, Side::Client, socket, Some(deadline), waiter);
        let outcome = outcome.and_then(|stream| self.with_certificate(stream));
        outcome.map_err(|error| {
            self.sessions.forget(&peer);
            match (error, found.get()) {
                (TlsError::Handshake(_), Some(why)) => TlsError::Handshake(why.clone()),
                (error, _) => error,
            }
        })
    }

    /// A connection that is about to begin. What it finds about the certificate in words of ours, it leaves in `found`.
    fn ssl(
        &self,
        name: &str,
        peer: &Arc<str>,
        found: &Arc<OnceLock<String>>,
    ) -> Result<Ssl, ErrorStack> {
        let mut configured = self.context.configure()?;
        configured.set_verify_hostname(self.checks.name == NameCheck::Name);
        let mut ssl = configured.into_ssl(name)?;
        if self.checks.are_none() {
            ssl.set_verify(SslVerifyMode::NONE);
        } else {
            let (checks, name, found) = (self.checks, name.to_owned(), Arc::clone(found));
            ssl.set_verify_callback(SslVerifyMode::PEER, move |is_ok, context| {
                match checks.judge(is_ok, context, &name) {
                    Ok(()) => {
                        context.set_error(X509VerifyResult::OK);
                        true
                    }
                    Err(None) => false,
                    Err(Some(why)) => {
                        context.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
                        // The first is the one that counts.
                        let _ = found.set(why);
                        false
                    }
                }
            });
        }
        self.sessions.offer(&mut ssl, peer)?;
        Ok(ssl)
    }

    /// What has no certificate has not been checked either. None of the ciphers allows it; this is the second lock.
    fn with_certificate(&self, stream: Stream) -> Result<Stream, TlsError> {
        let has_one = match &stream {
            Stream::Tls(tls) => tls
                .ssl()
                .is_some_and(|ssl| ssl.peer_certificate().is_some()),
            Stream::Plain(_) => false,
        };
        if has_one || self.checks.are_none() {
            return Ok(stream);
        }
        Err(TlsError::Handshake(
            "the backend has shown no certificate".to_owned(),
        ))
    }
}

/// Whom it trusts, and what it speaks.
fn prepared(
    policy: &Policy,
    authorities: Option<Vec<X509>>,
) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    let usual = SslContext::builder(SslMethod::tls_client())?.build();
    builder.set_security_level(usual.security_level().max(SECURITY_LEVEL));
    protocols(&mut builder, policy.protocols)?;
    match authorities {
        Some(authorities) => {
            let mut store = X509StoreBuilder::new()?;
            for authority in authorities {
                store.add_cert(authority)?;
            }
            builder.set_cert_store(store.build());
        }
        None => add_system(&mut builder),
    }
    Ok(builder)
}

/// What is shown to a backend that asks for it.
fn show(builder: &mut SslConnectorBuilder, identity: Identity) -> Result<(), ErrorStack> {
    builder.set_certificate(&identity.leaf)?;
    builder.set_private_key(&identity.key)?;
    for above in identity.above {
        builder.add_extra_chain_cert(above)?;
    }
    Ok(())
}

/// The authorities of the system, wherever it keeps them: those that native-tls takes too.
fn add_system(builder: &mut SslConnectorBuilder) {
    let places = openssl_probe::probe();
    // What is not there leaves what else is there, as with native-tls.
    if let Some(file) = &places.cert_file {
        let _ = builder.load_verify_locations(Some(file), None);
    }
    for folder in &places.cert_dir {
        let _ = builder.load_verify_locations(None, Some(folder));
    }
}

impl Checks {
    /// Whether every certificate is as good as any other.
    fn are_none(self) -> bool {
        !self.verify && !self.dates && self.name == NameCheck::Nobody
    }

    /// What becomes of what OpenSSL has found about one certificate of a chain: it asks from the authority down, and last
    /// whether the backend's own is well. The reason, where it is one of ours.
    fn judge(
        self,
        is_ok: bool,
        context: &X509StoreContextRef,
        name: &str,
    ) -> Result<(), Option<String>> {
        let above = context.error_depth();
        if !is_ok {
            let counts = match context.error().as_raw() {
                HOSTNAME_MISMATCH | ADDRESS_MISMATCH => self.name == NameCheck::Name,
                // Those of an authority are a part of what it vouches for.
                NOT_YET_VALID | HAS_EXPIRED if above == 0 => self.dates,
                _ => self.verify,
            };
            if counts {
                return Err(None);
            }
        }
        if let Some(depth) = self.depth.filter(|_| self.verify)
            && above > depth
        {
            return Err(Some(format!(
                "certificate verify failed: there are more certificates above that of the backend than \
                 SSLProxyVerifyDepth {depth} allows"
            )));
        }
        if above == 0 && self.name == NameCheck::CommonName {
            let own = context.current_cert().and_then(common_name);
            if !own.is_some_and(|own| is_common_name(&own, name)) {
                return Err(Some(format!(
                    "certificate verify failed: its common name is not {name:?}"
                )));
            }
        }
        Ok(())
    }
}

/// The bytes of the first common name, whatever they are: nothing is cut at a zero.
fn common_name(certificate: &X509Ref) -> Option<Vec<u8>> {
    let mut entries = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    Some(entries.next()?.data().as_slice().to_owned())
}
