//! Both ends of the tunnels that a comparison of proxies runs through them, and a bare relay to compare with.
//!
//! | module | what it is for |
//! |---|---|
//! | `backend` | the server behind the proxies |
//! | `handshake`, `echo`, `stream`, `idle`, `status` | a kind of load each, as the client before the proxies |
//! | `client`, `pingpong`, `window` | what the loads share: connections, messages, the measured time |
//! | `relay` | a forwarder that knows nothing but bytes |
//! | `transport` | bare sockets, and TLS |
//! | `ws` | the protocol, as far as both ends need it |
//! | `cpu`, `histogram`, `json` | what is measured, and how it is told |
//! | `sys` | system calls: the only unsafe code |

mod backend;
mod client;
mod cpu;
mod echo;
mod handshake;
mod histogram;
mod idle;
mod json;
mod pingpong;
mod relay;
mod status;
mod stream;
mod sys;
mod transport;
mod window;
mod ws;

use client::Target;
use cpu::Watch;
use openssl::ssl::SslContext;
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "\
usage: loadgen backend [--listen ADDR]... [--listen-tls ADDR --cert FILE --key FILE]...
       loadgen relay --listen ADDR --to ADDR [--threads N]
       loadgen handshake|echo|stream|idle|status --to ADDR [options]
options:
  --path PATH       what to ask for                               [/echo]
  --conns N         tunnels (handshake: in flight at a time)      [1]
  --size BYTES      payload of a message or frame                 [32]
  --seconds S       length of the window (idle, status: limit of opening) [2]
  --warmup S        time before the window                        [0.3]
  --protocol NAME   ws, or wss, which trusts anybody            [ws]
  --beside PATH     echo: one tunnel to PATH streams meanwhile
  --ask NAME=ADDR/PATH  status: what is asked for meanwhile
  --rounds N        status: how often each is                     [10]
  --watch NAME=PID  measure the CPU time of this process tree";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().ok_or(USAGE)?;
    let options = Options::parse(arguments)?;
    sys::raise_limit_of_files();
    if mode == "backend" {
        let plain = options.addresses("--listen")?;
        let secured = options.addresses("--listen-tls")?;
        let tls = if secured.is_empty() {
            None
        } else {
            Some(options.server()?)
        };
        let plain = plain.into_iter().map(|address| (address, None));
        let secured = secured.into_iter().map(|address| (address, tls.clone()));
        return backend::run(&plain.chain(secured).collect::<Vec<_>>());
    }
    let to = options.address("--to")?;
    if mode == "relay" {
        return relay::run(
            options.address("--listen")?,
            to,
            options.number("--threads", 1)?,
        );
    }
    let seconds = |name, default| options.number(name, default).map(Duration::from_secs_f64);
    let target = Target {
        addr: to,
        path: options.last("--path").unwrap_or("/echo").to_owned(),
        tls: options.client()?,
        watches: options
            .all("--watch")
            .map(Watch::parse)
            .collect::<Result<_, _>>()?,
        warmup: seconds("--warmup", 0.3)?,
        window: seconds("--seconds", 2.0)?,
    };
    let conns = options.number("--conns", 1)?;
    let size = options.number("--size", 32)?;
    let done = match mode.as_str() {
        "handshake" => handshake::run(&target, conns, size),
        "echo" => echo::run(&target, conns, size, options.last("--beside")),
        "stream" => stream::run(&target, conns, size),
        "idle" => idle::run(&target, conns, size),
        "status" => {
            let questions = options.all("--ask").map(question);
            let questions = questions.collect::<Result<_, _>>()?;
            let rounds = options.number("--rounds", 10)?;
            status::run(&target, conns, size, questions, rounds)
        }
        _ => return Err(USAGE.to_owned()),
    };
    done.map_err(|error| format!("{mode}: {error}"))
}

/// The command line behind the mode: each option has a value, and may be repeated.
struct Options(HashMap<String, Vec<String>>);

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values: HashMap<_, Vec<_>> = HashMap::new();
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            values.entry(name).or_default().push(value);
        }
        Ok(Self(values))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.last(name) {
            Some(text) => text
                .parse()
                .map_err(|_| format!("{name}: not a number: {text}")),
            None => Ok(default),
        }
    }

    fn address(&self, name: &str) -> Result<SocketAddrV4, String> {
        loopback(self.last(name).ok_or(USAGE)?)
    }

    /// What a client speaks TLS with, if it does.
    fn client(&self) -> Result<Option<SslContext>, String> {
        match self.last("--protocol") {
            None | Some("ws") => Ok(None),
            Some("wss") => transport::client().map(Some).map_err(|e| e.to_string()),
            Some(other) => Err(format!("--protocol: neither ws nor wss: {other}")),
        }
    }

    /// What a server speaks TLS with.
    fn server(&self) -> Result<SslContext, String> {
        let (cert, key) = (self.last("--cert"), self.last("--key"));
        let (cert, key) = cert.zip(key).ok_or("--listen-tls needs --cert and --key")?;
        transport::server(cert, key).map_err(|e| format!("{cert}, {key}: {e}"))
    }

    fn addresses(&self, name: &str) -> Result<Vec<SocketAddrV4>, String> {
        self.all(name).map(loopback).collect()
    }
}

/// `NAME=ADDR/PATH`
fn question(text: &str) -> Result<status::Question, String> {
    let parts = text.split_once('=').and_then(|(name, place)| {
        let (addr, path) = place.split_once('/')?;
        Some((name, addr, path))
    });
    let (name, addr, path) = parts.ok_or_else(|| format!("--ask: not NAME=ADDR/PATH: {text}"))?;
    Ok(status::Question {
        name: name.to_owned(),
        addr: loopback(addr)?,
        path: format!("/{path}"),
    })
}

/// Only loopback addresses are ever listened on or connected to.
fn loopback(text: &str) -> Result<SocketAddrV4, String> {
    let addr: SocketAddrV4 = text
        .parse()
        .map_err(|_| format!("not an address: {text}"))?;
    if !addr.ip().is_loopback() {
        return Err(format!("not a loopback address: {text}"));
    }
    Ok(addr)
}
