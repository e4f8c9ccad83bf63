//! What bytes go through: a bare socket, or TLS over it. Neither is waited for.

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslMode, SslRef,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// The only suite, so that everybody does the same work.
const SUITE: &str = "TLS_AES_128_GCM_SHA256";

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<SslStream<Wire>>),
}

impl Transport {
    /// Over `socket`, in TLS if there is a context for it. The handshake is made by the first reads and writes.
    pub fn client(socket: TcpStream, tls: Option<&SslContext>) -> io::Result<Self> {
        Self::new(socket, tls, SslRef::set_connect_state)
    }

    /// The other side of [`Self::client`].
    pub fn server(socket: TcpStream, tls: Option<&SslContext>) -> io::Result<Self> {
        Self::new(socket, tls, SslRef::set_accept_state)
    }

    fn new(
        socket: TcpStream,
        tls: Option<&SslContext>,
        set_side: impl FnOnce(&mut SslRef),
    ) -> io::Result<Self> {
        let Some(context) = tls else {
            return Ok(Self::Plain(socket));
        };
        let mut ssl = Ssl::new(context)?;
        set_side(&mut ssl);
        let wire = Wire {
            socket,
            is_dry: false,
        };
        Ok(Self::Tls(Box::new(SslStream::new(ssl, wire)?)))
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Self::Plain(socket) => socket.as_raw_fd(),
            Self::Tls(tls) => tls.get_ref().socket.as_raw_fd(),
        }
    }

    /// As [`Read::read`]. What fills only a part of the buffer is all there was.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(socket) => return socket.read(buffer),
            Self::Tls(tls) => tls,
        };
        tls.get_mut().is_dry = false;
        let mut received = 0;
        // A call gives a record at the most.
        while received < buffer.len() {
            match tls.read(&mut buffer[received..]) {
                Ok(0) => break,
                Ok(now) => received += now,
                Err(error) if received == 0 => return Err(error),
                // It is told again.
                Err(_) => break,
            }
        }
        Ok(received)
    }

    /// As [`Write::write`]. What would have blocked has to be offered again.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(socket) => return socket.write(bytes),
            Self::Tls(tls) => tls,
        };
        tls.get_mut().is_dry = false;
        let mut sent = 0;
        while sent < bytes.len() {
            match tls.write(&bytes[sent..]) {
                Ok(now) => sent += now,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Says in TLS that nothing more comes.
    pub fn close_notify(&mut self) {
        if let Self::Tls(tls) = self {
            // Who has gone cannot be told.
            let _ = tls.shutdown();
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close_notify();
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(tls) => tls.get_ref().socket.shutdown(Shutdown::Write),
        }
    }
}

/// A socket that is not asked in vain: behind a read that filled only a part of the buffer there is nothing more, as far
/// as one turn goes.
pub struct Wire {
    socket: TcpStream,
    is_dry: bool,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_dry {
            return Err(ErrorKind::WouldBlock.into());
        }
        let received = self.socket.read(buffer)?;
        // The end is told as often as it is asked for.
        self.is_dry = received > 0 && received < buffer.len();
        Ok(received)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that trusts anybody, and makes every handshake a full one.
pub fn client() -> Result<SslContext, ErrorStack> {
    let mut builder = builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    Ok(builder.build())
}

/// A server with a certificate and its key, PEM both, that gives no tickets.
pub fn server(certificate: &str, key: &str) -> Result<SslContext, ErrorStack> {
    let mut builder = builder(SslMethod::tls_server())?;
    builder.set_certificate_chain_file(certificate)?;
    builder.set_private_key_file(key, SslFiletype::PEM)?;
    builder.set_num_tickets(0)?;
    Ok(builder.build())
}

fn builder(method: SslMethod) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(method)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_ciphersuites(SUITE)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_mode(
        SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    builder.set_read_ahead(true);
    Ok(builder)
}
