//! A backend that sends every message back, and serves the page to whoever asks for no WebSocket.

use crate::certificate::Identity;
use openssl::ssl::{SslAcceptor, SslMethod};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use tungstenite::Message;

/// Serves in the clear, and says on which port.
pub(crate) fn serve() -> io::Result<u16> {
    accept_all(move |mut tcp| {
        if asks_for_websocket(&tcp)? {
            echo(tcp);
        } else {
            answer(&mut tcp)?;
        }
        Ok(())
    })
}

/// Serves in TLS, and says on which port.
pub(crate) fn serve_tls(identity: &Identity) -> Result<u16, Box<dyn Error>> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_certificate(&identity.certificate)?;
    acceptor.set_private_key(&identity.key)?;
    let acceptor = acceptor.build();
    Ok(accept_all(move |tcp| {
        echo(acceptor.accept(tcp).map_err(io::Error::other)?);
        Ok(())
    })?)
}

/// Serves each connection in a thread of its own. A connection that fails concerns nobody but its client.
fn accept_all(
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(tcp));
        }
    });
    Ok(port)
}

fn echo(stream: impl Read + Write) {
    let Ok(mut socket) = tungstenite::accept(stream) else {
        return;
    };
    // Ends when the client does: then reading fails.
    while let Ok(message) = socket.read() {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).is_err()
        {
            return;
        }
    }
}

/// Looks at the head without taking it from whoever reads it next. The proxy sends it in one go.
fn asks_for_websocket(tcp: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; 8192];
    let count = tcp.peek(&mut bytes)?;
    let head = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
    Ok(head
        .to_ascii_lowercase()
        .contains("\r\nupgrade: websocket\r\n"))
}

fn answer(tcp: &mut TcpStream) -> io::Result<()> {
    let mut head = [0; 8192];
    let count = tcp.read(&mut head)?;
    let wanted = head
        .get(..count)
        .is_some_and(|head| head.starts_with(b"GET / "));
    let (status, body) = if wanted {
        ("200 OK", include_str!("page.html"))
    } else {
        ("404 Not Found", "")
    };
    write!(
        tcp,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
