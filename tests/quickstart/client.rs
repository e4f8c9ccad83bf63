//! A client for the terminal: each line that is typed is sent, each message that comes is printed.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::net::TcpStream;
use tungstenite::{Message, WebSocket};

/// Speaks with `url` until the input ends.
pub(crate) fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let address = url
        .strip_prefix("ws://")
        .and_then(|rest| rest.split('/').next())
        .ok_or_else(|| format!("\"{url}\" is not ws://host:port/path"))?;
    let stream = TcpStream::connect(address)
        .map_err(|error| format!("cannot connect to {address}: {error}"))?;
    let (mut socket, _) =
        tungstenite::client(url, stream).map_err(|error| format!("{url}: {error}"))?;
    println!("Connected to {url}. Type a line; Ctrl-D ends.");
    for line in stdin().lock().lines() {
        socket.send(Message::text(line?))?;
        println!("{}", next_text(&mut socket)?);
    }
    socket.close(None)?;
    // The other side's farewell.
    while socket.read().is_ok() {}
    Ok(())
}

fn next_text(socket: &mut WebSocket<TcpStream>) -> Result<String, tungstenite::Error> {
    loop {
        if let Message::Text(text) = socket.read()? {
            return Ok(text.to_string());
        }
    }
}
