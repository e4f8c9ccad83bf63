//! A TLS session over a socket, whichever side began it.

use super::TlsError;
use super::lent::RECORD;
use super::observed::Observed;
use crate::net::stream::{Socket, Stream};
use crate::net::wait::{Waiter, Want};
use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslRef, SslStream};
use openssl::x509::X509VerifyResult;
use std::io::{self, Read, Write};
use std::time::Instant;

/// A TLS session over a socket.
#[derive(Debug)]
pub struct TlsStream {
    library: Library,
    was_cut: bool,
    /// Whether the last read has taken all that there was.
    is_drained: bool,
    /// What came behind the bytes of the last read: an end or a failure.
    behind: Option<io::Result<usize>>,
}

/// Who speaks: what native-tls can express, it does.
#[derive(Debug)]
enum Library {
    Native(native_tls::TlsStream<Observed>),
    Ssl(SslStream<Observed>),
}

impl TlsStream {
    pub(super) fn native(library: native_tls::TlsStream<Observed>) -> Self {
        Self::new(Library::Native(library))
    }

    fn new(library: Library) -> Self {
        let mut made = Self {
            library,
            was_cut: false,
            is_drained: false,
            behind: None,
        };
        made.library.observed_mut().take_back();
        made
    }

    fn observed(&self) -> &Observed {
        match &self.library {
            Library::Native(native) => native.get_ref(),
            Library::Ssl(ssl) => ssl.get_ref(),
        }
    }

    /// Whether the last read has taken all that there was, here and in the socket.
    pub(in crate::net) fn is_drained(&self) -> bool {
        self.is_drained
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

    /// Says that nothing more will be sent. Fails only where the socket has no room for it; a peer that has gone, or a
    /// session that has failed, needs no word.
    pub(in crate::net) fn close_notify(&mut self) -> io::Result<()> {
        let outcome = match &mut self.library {
            Library::Native(native) => native.shutdown(),
            Library::Ssl(ssl) => match ssl.shutdown() {
                Ok(_) => Ok(()),
                Err(error) => Err(error.into_io_error().unwrap_or_else(io::Error::other)),
            },
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
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
            return Ok(Stream::Tls(Box::new(TlsStream::new(Library::Ssl(library)))));
        };
        if !matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) {
            let verified = match library.ssl().verify_result() {
                X509VerifyResult::OK => "",
                found => found.error_string(),
            };
            let words = in_words(error.ssl_error(), error.io_error(), verified);
            return Err(TlsError::Handshake(words));
        }
        library.get_mut().wait(deadline, waiter)?;
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

impl Library {
    fn observed_mut(&mut self) -> &mut Observed {
        match self {
            Self::Native(native) => native.get_mut(),
            Self::Ssl(ssl) => ssl.get_mut(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Native(native) => native.read(buffer),
            Self::Ssl(ssl) => ssl.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Native(native) => native.write(bytes),
            Self::Ssl(ssl) => ssl.write(bytes),
        }
    }

    /// Reads what is here, and where there is nothing what one read of the socket gives: record after record, as far as
    /// the buffer has room. Says how much that was, and what came behind it.
    fn read_records(&mut self, buffer: &mut [u8]) -> (usize, io::Result<usize>) {
        let mut received = 0;
        while let Some(room @ [_, ..]) = buffer.get_mut(received..) {
            let asked = room.len();
            match self.read(room) {
                Ok(length @ 1..) => {
                    received += length;
                    let observed = self.observed_mut();
                    // The library has read no further than to the end of a record, and this one is used up.
                    if length < asked && observed.is_empty() {
                        break;
                    }
                    observed.ask_no_more();
                }
                outcome => return (received, outcome),
            }
        }
        (received, Ok(received))
    }
}

impl TlsStream {
    fn judge(&mut self, outcome: io::Result<usize>) -> io::Result<usize> {
        let ended = self.observed().ended;
        match outcome {
            // Many peers close without a close_notify, which the library calls an error. In a tunnel it is an end like
            // any other: what runs inside knows where its own messages end. Who has to know asks `was_cut`.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && ended => {
                self.was_cut = true;
                Ok(0)
            }
            Ok(0) => {
                self.was_cut = ended;
                Ok(0)
            }
            outcome => outcome,
        }
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.is_drained = false;
        if let Some(behind) = self.behind.take() {
            return self.judge(behind);
        }
        self.library.observed_mut().lend(buffer.len());
        let (received, outcome) = self.library.read_records(buffer);
        let observed = self.library.observed_mut();
        let is_dry = observed.is_dry();
        observed.take_back();
        if received == 0 {
            return self.judge(outcome);
        }
        match outcome {
            Ok(1..) => self.is_drained = is_dry && received < buffer.len(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_drained = is_dry,
            outcome => self.behind = Some(outcome),
        }
        Ok(received)
    }
}

impl Write for TlsStream {
    /// As much as the socket has room for. What would have blocked has to be offered again, as the library has made a record
    /// of its beginning.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        let mut outcome = Ok(0);
        while let Some(left @ [_, ..]) = bytes.get(sent..) {
            self.library.observed_mut().hold_back(left.len() > RECORD);
            outcome = self.library.write(left);
            match outcome {
                Ok(length @ 1..) => sent += length,
                _ => break,
            }
        }
        self.library.observed_mut().hold_back(false);
        if sent > 0 { Ok(sent) } else { outcome }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
