//! TLS towards backends: by native-tls where that can express what is asked for, by OpenSSL itself where it cannot.

mod authorities;
mod direct;

use super::TlsError;
use super::material::{Identity, Validity};
use super::observed::Observed;
use super::session::{TlsStream, in_words};
use crate::net::stream::{Socket, Stream};
use crate::net::wait::Waiter;
use crate::tls::backend::{NameCheck, Policy};
use crate::tls::{Named, Version};
use authorities::authorities;
use direct::Direct;
use native_tls::{Certificate, HandshakeError, Protocol, TlsConnector};
use openssl::error::ErrorStack;
use openssl::x509::X509;
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// The most bytes in the name of a host, as DNS has it; RFC 1035 section 2.3.4, without what stands around its labels.
const LONGEST_NAME: usize = 253;

/// Makes TLS connections with backends by one policy.
#[derive(Debug, Clone)]
pub struct Connector(Arc<Tools>);

#[derive(Debug)]
struct Tools {
    library: Library,
    validity: Option<(Named, Validity)>,
}

#[derive(Debug)]
enum Library {
    Native(TlsConnector),
    Direct(Direct),
}

/// What a policy names, read.
struct Read {
    /// None: those of the system.
    authorities: Option<Vec<X509>>,
    identity: Option<Identity>,
}

impl Connector {
    /// Reads the files that the policy names, or the authorities of the system; costly, so made once for each policy.
    ///
    /// # Errors
    /// A sentence that says what is wrong with them, with the line that names them. It holds no part of a key.
    pub fn new(policy: &Policy) -> Result<Self, String> {
        let identity = |named: &Named| {
            let chain = policy.identity_chain.as_ref();
            Identity::read(&named.path, chain.map(|chain| chain.path.as_path()))
                .map_err(|problem| format!("{}: {problem}", named.line))
        };
        let read = Read {
            authorities: authorities(policy)?,
            identity: policy.identity.as_ref().map(identity).transpose()?,
        };
        let named = policy.identity.clone();
        let validity = read.identity.as_ref().map(Identity::validity);
        let library = if is_native(policy) {
            native(policy, &read)
                .map(Library::Native)
                .map_err(|error| not_accepted(policy, &*error))?
        } else {
            Library::Direct(Direct::new(policy, read)?)
        };
        Ok(Self(Arc::new(Tools {
            library,
            validity: named.zip(validity),
        })))
    }

    /// How long the certificate is good for that is shown to backends, where there is one, and which file that is.
    pub fn validity(&self) -> Option<&(Named, Validity)> {
        self.0.validity.as_ref()
    }

    /// Speaks TLS over `socket` with a peer called `name`, which is sent as SNI unless it is an address, and verified.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn connect(
        &self,
        name: &str,
        socket: Socket,
        deadline: Instant,
        waiter: &mut Waiter,
    ) -> Result<Stream, TlsError> {
        // The dot of the root is neither sent (RFC 6066, section 3) nor in any certificate.
        let name = name.strip_suffix('.').unwrap_or(name);
        // A client may have chosen it. OpenSSL checks nothing for an empty one, and lets every name below another pass for
        // one that begins with a dot.
        if name.is_empty() || name.starts_with('.') || name.len() > LONGEST_NAME {
            let why = format!("no certificate can be for {name:?}, which is no name of a host");
            return Err(TlsError::Handshake(why));
        }
        let outcome = match &self.0.library {
            Library::Native(library) => shake_hands(library, name, socket, deadline, waiter),
            Library::Direct(direct) => direct.connect(name, socket, deadline, waiter),
        };
        outcome.map_err(|error| match error {
            TlsError::Handshake(why) => TlsError::Handshake(explained(why, name)),
            interrupted @ TlsError::Interrupted(_) => interrupted,
        })
    }
}

/// What is said where the library takes not what is in the files. All else has no reason to fail.
fn not_accepted(policy: &Policy, error: &dyn std::error::Error) -> String {
    match &policy.identity {
        Some(identity) => format!("{identity}: the certificate is not accepted: {error}"),
        None => format!("cannot set up TLS with backends: {error}"),
    }
}

/// Whether native-tls can express a policy.
fn is_native(policy: &Policy) -> bool {
    let checks = (policy.verify, policy.name, policy.dates);
    let is_expressible = matches!(
        checks,
        (true, NameCheck::Name | NameCheck::Nobody, true) | (false, NameCheck::Nobody, false)
    );
    let has_depth = policy.verify && policy.depth.is_some();
    is_expressible && !has_depth && policy.ciphers.is_none() && policy.suites.is_none()
}

fn native(policy: &Policy, read: &Read) -> Result<TlsConnector, Box<dyn std::error::Error>> {
    let protocol = |version| match version {
        Version::Tls10 => Protocol::Tlsv10,
        Version::Tls11 => Protocol::Tlsv11,
        Version::Tls12 => Protocol::Tlsv12,
        Version::Tls13 => Protocol::Tlsv13,
    };
    let mut builder = TlsConnector::builder();
    builder
        .danger_accept_invalid_certs(!policy.verify)
        .danger_accept_invalid_hostnames(policy.name == NameCheck::Nobody)
        .min_protocol_version(Some(protocol(policy.protocols.least)))
        .max_protocol_version(Some(protocol(policy.protocols.most)));
    if let Some(authorities) = &read.authorities {
        builder.disable_built_in_roots(true);
        for authority in authorities {
            builder.add_root_certificate(Certificate::from_der(&authority.to_der()?)?);
        }
    }
    if let Some(identity) = &read.identity {
        let (chain, key) = identity.to_pem()?;
        builder.identity(native_tls::Identity::from_pkcs8(&chain, &key)?);
    }
    Ok(builder.build()?)
}

fn shake_hands(
    library: &TlsConnector,
    name: &str,
    socket: Socket,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<Stream, TlsError> {
    let mut outcome = library.connect(name, Observed::new(socket, Vec::new()));
    loop {
        match outcome {
            Ok(library) => return Ok(Stream::Tls(Box::new(TlsStream::native(library)))),
            Err(HandshakeError::WouldBlock(mut half_way)) => {
                half_way.get_mut().wait(Some(deadline), waiter)?;
                outcome = half_way.handshake();
            }
            Err(HandshakeError::Failure(error)) => {
                return Err(TlsError::Handshake(words_of(&error)));
            }
        }
    }
}

/// The reasons of OpenSSL, and what it found about the certificate: native-tls gives that behind the rest alone.
fn words_of(error: &native_tls::Error) -> String {
    let text = error.to_string();
    let cause = error.source();
    let stack = cause.and_then(|cause| cause.downcast_ref::<ErrorStack>());
    if let Some(stack) = stack {
        let verified = text.strip_prefix(&stack.to_string()).unwrap_or_default();
        let verified = verified
            .trim_start_matches([' ', '('])
            .trim_end_matches(')');
        return in_words(Some(stack), None, verified);
    }
    match cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        Some(error) => in_words(None, Some(error), ""),
        None => in_words(None, None, ""),
    }
}

/// What the library says in words that need some more.
fn explained(why: String, name: &str) -> String {
    if why.contains("wrong version number") {
        format!("the backend answers with something that is no TLS ({why})")
    } else if why.contains("ostname mismatch") || why.contains("address mismatch") {
        format!("{why}: the certificate is not for {name:?}")
    } else {
        why
    }
}
