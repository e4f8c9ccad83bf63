//! TLS towards backends.

use super::observed::Observed;
use super::session::TlsStream;
use super::{TlsError, Trust};
use crate::net::stream::{Socket, Stream};
use crate::net::wait::Waiter;
use native_tls::{Certificate, HandshakeError, TlsConnector};
use std::error::Error as _;
use std::time::Instant;

/// Makes TLS connections with backends by one policy.
#[derive(Debug, Clone)]
pub struct Connector {
    library: TlsConnector,
}

impl Connector {
    /// Reads the trust anchors; costly where they are the system's, so made once per policy.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the anchors.
    pub fn new(trust: Trust<'_>) -> Result<Self, String> {
        let mut builder = TlsConnector::builder();
        builder.danger_accept_invalid_certs(!trust.verify);
        builder.danger_accept_invalid_hostnames(!trust.verify);
        if let Some(pem) = trust.anchors {
            let anchors =
                Certificate::stack_from_pem(pem).map_err(|e| format!("not a PEM file: {e}"))?;
            if anchors.is_empty() {
                return Err("no certificate in it; expected at least one PEM block \
                            \"-----BEGIN CERTIFICATE-----\""
                    .to_owned());
            }
            builder.disable_built_in_roots(true);
            for anchor in anchors {
                builder.add_root_certificate(anchor);
            }
        }
        let library = builder.build().map_err(|e| e.to_string())?;
        Ok(Self { library })
    }

    /// Speaks TLS over `socket` with a peer called `name`, which is sent as SNI and verified.
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
        let mut outcome = self
            .library
            .connect(name, Observed::new(socket, Vec::new()));
        loop {
            match outcome {
                Ok(library) => return Ok(Stream::Tls(Box::new(TlsStream::native(library)))),
                Err(HandshakeError::WouldBlock(mut half_way)) => {
                    half_way.get_mut().wait(Some(deadline), waiter)?;
                    outcome = half_way.handshake();
                }
                Err(HandshakeError::Failure(error)) => {
                    return Err(TlsError::Handshake(in_words(&error)));
                }
            }
        }
    }
}

/// The library's error with its cause, each once.
fn in_words(error: &native_tls::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}
