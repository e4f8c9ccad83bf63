//! TLS towards backends: the only file that knows the TLS library, and whether there is one.

use super::stream::{Socket, Stream};
use super::wait::{Interrupted, Waiter};
use std::fmt;
use std::time::Instant;

/// Whom a TLS client trusts. httpd: `SSLProxyVerify`, `SSLProxyCACertificateFile`.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Whether the peer's certificate has to be valid: chain, name and dates.
    pub verify: bool,
    /// The only trust anchors, as PEM; the system's where there are none.
    pub anchors: Option<&'a [u8]>,
}

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

pub use library::{Connector, TlsStream};

#[cfg(feature = "tls")]
mod library {
    use super::{Instant, Socket, Stream, TlsError, Trust, Waiter};
    use crate::net::wait::Want;
    use native_tls::{Certificate, HandshakeError, TlsConnector};
    use std::error::Error as _;
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;

    /// Makes TLS connections with one policy.
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
            let mut outcome = self.library.connect(name, Observed::new(socket));
            loop {
                match outcome {
                    Ok(library) => {
                        return Ok(Stream::Tls(Box::new(TlsStream {
                            library,
                            was_cut: false,
                        })));
                    }
                    Err(HandshakeError::WouldBlock(half_way)) => {
                        let observed = half_way.get_ref();
                        waiter
                            .wait(
                                [(observed.socket.as_fd(), observed.blocked_on)],
                                Some(deadline),
                            )
                            .map_err(TlsError::Interrupted)?;
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

    /// A TLS session over a socket.
    #[derive(Debug)]
    pub struct TlsStream {
        library: native_tls::TlsStream<Observed>,
        was_cut: bool,
    }

    impl TlsStream {
        pub(in crate::net) fn socket(&self) -> &Socket {
            &self.library.get_ref().socket
        }

        pub(in crate::net) fn blocked_on(&self) -> Want {
            self.library.get_ref().blocked_on
        }

        pub(in crate::net) fn was_cut(&self) -> bool {
            self.was_cut
        }

        /// Says that nothing more will be sent, as far as the socket has room for it.
        pub(in crate::net) fn close_notify(&mut self) {
            let _ = self.library.shutdown();
        }
    }

    impl Read for TlsStream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.library.read(buffer) {
                // Many peers close without a close_notify, which the library calls an error. In a tunnel it
                // is an end like any other: what runs inside knows where its own messages end. Who has to
                // know asks `was_cut`.
                Err(error)
                    if error.kind() != io::ErrorKind::WouldBlock
                        && self.library.get_ref().ended =>
                {
                    self.was_cut = true;
                    Ok(0)
                }
                Ok(0) => {
                    self.was_cut = self.library.get_ref().ended && !buffer.is_empty();
                    Ok(0)
                }
                outcome => outcome,
            }
        }
    }

    impl Write for TlsStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.library.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A socket that remembers what the library cannot be asked: what it last waited for, and whether it has ended.
    #[derive(Debug)]
    struct Observed {
        socket: Socket,
        blocked_on: Want,
        ended: bool,
    }

    impl Observed {
        fn new(socket: Socket) -> Self {
            Self {
                socket,
                blocked_on: Want::Read,
                ended: false,
            }
        }

        fn note(&mut self, want: Want, outcome: io::Result<usize>) -> io::Result<usize> {
            if let Err(error) = &outcome
                && error.kind() == io::ErrorKind::WouldBlock
            {
                self.blocked_on = want;
            }
            outcome
        }
    }

    impl Read for Observed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let outcome = self.socket.read(buffer);
            self.ended |= matches!(outcome, Ok(0)) && !buffer.is_empty();
            self.note(Want::Read, outcome)
        }
    }

    impl Write for Observed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let outcome = self.socket.write(bytes);
            self.note(Want::Write, outcome)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

/// A binary without TLS: the configuration refuses what would need it, and these types cannot be made.
#[cfg(not(feature = "tls"))]
#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "the same as above, and never called"
)]
mod library {
    use super::{Instant, Socket, Stream, TlsError, Trust, Waiter};
    use crate::net::wait::Want;
    use std::io::{self, Read, Write};

    #[derive(Debug, Clone)]
    pub enum Connector {}

    impl Connector {
        pub fn new(_: Trust<'_>) -> Result<Self, String> {
            Err("this binary was built without TLS".to_owned())
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

    #[derive(Debug)]
    pub enum TlsStream {}

    impl TlsStream {
        pub(in crate::net) fn socket(&self) -> &Socket {
            match *self {}
        }

        pub(in crate::net) fn blocked_on(&self) -> Want {
            match *self {}
        }

        pub(in crate::net) fn was_cut(&self) -> bool {
            match *self {}
        }

        pub(in crate::net) fn close_notify(&mut self) {
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
