//! A TLS session over a socket, whichever side began it.

use crate::net::stream::{Socket, Stream};
use crate::net::tls::TlsError;
use crate::net::wait::{Waiter, Want};
use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslRef, SslStream};
use openssl::x509::X509VerifyResult;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

/// A TLS session over a socket.
#[derive(Debug)]
pub struct TlsStream {
    library: Library,
    was_cut: bool,
}

/// Who speaks: what native-tls can express, it does.
#[derive(Debug)]
enum Library {
    Native(native_tls::TlsStream<Observed>),
    Ssl(SslStream<Observed>),
}

impl TlsStream {
    pub(super) fn native(library: native_tls::TlsStream<Observed>) -> Self {
        Self {
            library: Library::Native(library),
            was_cut: false,
        }
    }

    fn observed(&self) -> &Observed {
        match &self.library {
            Library::Native(native) => native.get_ref(),
            Library::Ssl(ssl) => ssl.get_ref(),
        }
    }

    pub(in crate::net) fn socket(&self) -> &Socket {
        &self.observed().socket
    }

    pub(in crate::net) fn blocked_on(&self) -> Want {
        self.observed().blocked_on
    }

    pub(in crate::net) fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The session, where OpenSSL was asked for it directly, as it is for every client.
    pub(super) fn ssl(&self) -> Option<&SslRef> {
        match &self.library {
            Library::Native(_) => None,
            Library::Ssl(stream) => Some(stream.ssl()),
        }
    }

    /// Says that nothing more will be sent, as far as the socket has room for it.
    pub(in crate::net) fn close_notify(&mut self) {
        match &mut self.library {
            Library::Native(native) => drop(native.shutdown()),
            Library::Ssl(ssl) => drop(ssl.shutdown()),
        }
    }
}

/// Which side of a handshake we are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Client,
    Server,
}

/// Makes the handshake.
pub(super) fn shake_hands(
    ssl: Ssl,
    side: Side,
    socket: Observed,
    deadline: Option<Instant>,
    waiter: &mut Waiter,
) -> Result<Stream, TlsError> {
    let mut library =
        SslStream::new(ssl, socket).map_err(|error| TlsError::Handshake(error.to_string()))?;
    loop {
        let outcome = match side {
            Side::Client => library.connect(),
            Side::Server => library.accept(),
        };
        let Err(error) = outcome else {
            return Ok(Stream::Tls(Box::new(TlsStream {
                library: Library::Ssl(library),
                was_cut: false,
            })));
        };
        if !matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) {
            let verified = match library.ssl().verify_result() {
                X509VerifyResult::OK => "",
                found => found.error_string(),
            };
            let words = in_words(error.ssl_error(), error.io_error(), verified);
            return Err(TlsError::Handshake(words));
        }
        library.get_ref().wait(deadline, waiter)?;
    }
}

/// The library's error, and what it found about the certificate; empty: nothing.
pub(super) fn in_words(
    stack: Option<&ErrorStack>,
    failed: Option<&io::Error>,
    verified: &str,
) -> String {
    let mut words = match (stack, failed) {
        (Some(stack), _) => {
            let reasons = stack.errors().iter().filter_map(|error| error.reason());
            reasons.collect::<Vec<_>>().join(": ")
        }
        (None, Some(cause)) => cause.to_string(),
        (None, None) => "the peer ended the connection".to_owned(),
    };
    if !verified.is_empty() {
        words = format!("{words}: {verified}");
    }
    words
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match &mut self.library {
            Library::Native(native) => native.read(buffer),
            Library::Ssl(ssl) => ssl.read(buffer),
        };
        let ended = self.observed().ended;
        match outcome {
            // Many peers close without a close_notify, which the library calls an error. In a tunnel it is an end like
            // any other: what runs inside knows where its own messages end. Who has to know asks `was_cut`.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && ended => {
                self.was_cut = true;
                Ok(0)
            }
            Ok(0) => {
                self.was_cut = ended && !buffer.is_empty();
                Ok(0)
            }
            outcome => outcome,
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.library {
            Library::Native(native) => native.write(bytes),
            Library::Ssl(ssl) => ssl.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that remembers what the library cannot be asked: what it last waited for, and whether it has ended. What was
/// read from it already, the library reads first.
#[derive(Debug)]
pub(super) struct Observed {
    socket: Socket,
    read_already: Vec<u8>,
    blocked_on: Want,
    ended: bool,
}

impl Observed {
    pub(super) fn new(socket: Socket, read_already: Vec<u8>) -> Self {
        Self {
            socket,
            read_already,
            blocked_on: Want::Read,
            ended: false,
        }
    }

    /// Waits for what the library waits for.
    pub(super) fn wait(
        &self,
        deadline: Option<Instant>,
        waiter: &mut Waiter,
    ) -> Result<(), TlsError> {
        let socket = (self.socket.as_fd(), self.blocked_on);
        let woken = waiter.wait([socket], deadline);
        woken.map(drop).map_err(TlsError::Interrupted)
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
        if !self.read_already.is_empty() {
            let length = self.read_already.as_slice().read(buffer)?;
            self.read_already.drain(..length);
            if self.read_already.is_empty() {
                self.read_already = Vec::new();
            }
            return Ok(length);
        }
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
