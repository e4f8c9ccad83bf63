//! TLS with clients and with backends: the only room that knows the TLS libraries, and whether there are any.
//!
//! Backends are spoken to by native-tls wherever it can express what is asked for; all else by OpenSSL itself, on which it
//! stands: native-tls has no TLS 1.3 for listeners, no choice of certificates by name, no certificates of clients; and
//! towards backends no ciphers, no checks one by one, and no sessions that go on.

#[cfg(feature = "tls")]
mod backend;
#[cfg(feature = "tls")]
mod lent;
#[cfg(feature = "tls")]
mod listener;
#[cfg(feature = "tls")]
mod material;
#[cfg(feature = "tls")]
mod observed;
#[cfg(feature = "tls")]
mod resume;
#[cfg(feature = "tls")]
mod session;

use super::wait::Interrupted;
use crate::tls::{Named, Protocols};
use std::fmt;

/// Why a TLS connection was not made.
#[derive(Debug)]
pub enum TlsError {
    /// The wait for the peer ended.
    Interrupted(Interrupted),
    /// The handshake failed, or the peer's certificate was refused.
    Handshake(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(why) => why.fmt(f),
            Self::Handshake(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TlsError {}

/// What a listener shows, and what it asks of its clients.
#[derive(Debug, Clone, Copy)]
pub struct Listening<'a> {
    /// At least one, and at most one for each kind of key.
    pub credentials: &'a [Credential<'a>],
    /// PEM: what leads from a certificate to its authority, where its own file says nothing of it.
    pub chain: Option<&'a Named>,
    /// The versions that it speaks.
    pub protocols: Protocols,
    /// The ciphers for TLS up to 1.2, in OpenSSL's words; unset: those of the library.
    pub ciphers: Option<&'a str>,
    /// The cipher suites for TLS 1.3, likewise.
    pub suites: Option<&'a str>,
    /// The groups for the exchange of keys, likewise.
    pub groups: Option<&'a str>,
    /// Whether our order of ciphers counts, and not that of the client.
    pub prefers_own_order: bool,
    /// Whether sessions can be resumed, by tickets.
    pub tickets: bool,
    /// Whose certificates clients are asked for; unset: they are not.
    pub client: Option<Client<'a>>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Copy)]
pub struct Credential<'a> {
    /// PEM: the certificate, then those that lead to its authority.
    pub certificate: &'a Named,
    /// PEM: PKCS#8, PKCS#1 or SEC1; may be the same file.
    pub key: &'a Named,
}

/// What is asked of clients' certificates.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Whether none is let in without one.
    pub is_required: bool,
    /// How many certificates may stand between theirs and the authority.
    pub depth: u32,
    /// PEM: the authorities that count.
    pub authorities: &'a Named,
}

/// Why a listener cannot do what it is to do.
#[derive(Debug)]
pub struct Unfit {
    /// The line that names the file which is to blame, as messages begin; none: it is no file.
    pub line: Option<String>,
    /// A sentence, with the file. It holds no part of a key.
    pub problem: String,
}

impl From<String> for Unfit {
    fn from(problem: String) -> Self {
        let line = None;
        Self { line, problem }
    }
}

#[cfg(feature = "tls")]
pub use backend::Connector;
#[cfg(feature = "tls")]
pub use listener::TlsHost;
#[cfg(feature = "tls")]
pub use material::Validity;
#[cfg(feature = "tls")]
pub use session::TlsStream;
#[cfg(not(feature = "tls"))]
pub use without::{Connector, TlsHost, TlsStream, Validity};

/// A binary without TLS: the configuration refuses what would need it, and these types cannot be made.
#[cfg(not(feature = "tls"))]
#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the same as above, and never called"
)]
mod without {
    use super::{Listening, TlsError, Unfit};
    use crate::net::stream::{Socket, Stream};
    use crate::net::wait::{Waiter, Want};
    use crate::tls::Named;
    use crate::tls::backend::Policy;
    use std::io::{self, Read, Write};
    use std::time::Instant;

    #[derive(Debug, Clone)]
    pub enum Connector {}

    impl Connector {
        pub fn new(_: &Policy) -> Result<Self, String> {
            Err("this binary was built without TLS".to_owned())
        }

        pub fn validity(&self) -> Option<&(Named, Validity)> {
            match *self {}
        }

        pub fn connect(
            &self,
            _: &str,
            _: Socket,
            _: Instant,
            _: &mut Waiter,
        ) -> Result<Stream, TlsError> {
            match *self {}
        }
    }

    #[derive(Debug, Clone)]
    pub enum TlsHost {}

    #[derive(Debug, Clone)]
    // No enum: what would follow the making of one would be called unreachable.
    pub struct Validity(());

    impl Validity {
        pub fn is_short(&self) -> bool {
            false
        }

        pub fn subject(&self) -> &str {
            ""
        }

        pub fn ends(&self) -> i64 {
            0
        }
    }

    impl std::fmt::Display for Validity {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Ok(())
        }
    }

    impl TlsHost {
        pub fn new(_: &Listening<'_>) -> Result<Self, Unfit> {
            Err("this binary was built without TLS".to_owned().into())
        }

        pub fn authorities(&self) -> Option<&[u8; 32]> {
            match *self {}
        }

        pub fn validity(&self) -> &[Validity] {
            match *self {}
        }

        pub fn accept(
            &self,
            _: Socket,
            _: Vec<u8>,
            _: Option<Instant>,
            _: &mut Waiter,
        ) -> Result<Stream, TlsError> {
            match *self {}
        }
    }

    #[derive(Debug)]
    pub enum TlsStream {}

    impl TlsStream {
        pub fn variable(&self, _: &str) -> Option<String> {
            match *self {}
        }

        pub(in crate::net) fn socket(&self) -> &Socket {
            match *self {}
        }

        pub(in crate::net) fn blocked_on(&self) -> Want {
            match *self {}
        }

        pub(in crate::net) fn is_drained(&self) -> bool {
            match *self {}
        }

        pub(in crate::net) fn was_cut(&self) -> bool {
            match *self {}
        }

        pub(in crate::net) fn close_notify(&mut self) -> io::Result<()> {
            match *self {}
        }
    }

    impl Read for TlsStream {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }
    }

    impl Write for TlsStream {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            match *self {}
        }

        fn flush(&mut self) -> io::Result<()> {
            match *self {}
        }
    }
}
