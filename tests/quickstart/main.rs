//! The first example of the documents, ready to try: `cargo run --example quickstart`.
//!
//! Starts a backend with a page that echoes (in the clear on one port, in TLS on another, with a certificate made on the
//! spot), and the proxy before it; shows the configuration and what to try. `-- client URL` is a client for the terminal.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example speaks to a person at a terminal"
)]

mod backend;
mod certificate;
mod client;

use proxy_wstunnel::{cli, server};
use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the documents of most programs have their first try.
const USUAL_PORT: u16 = 8080;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [] => serve(),
        ["client", url] => client::run(url).map(|()| ExitCode::SUCCESS),
        _ => Err("usage: quickstart, or: quickstart client ws://host:port/path".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("quickstart: {error}");
        ExitCode::FAILURE
    })
}

/// Runs backend and proxy until Ctrl-C.
fn serve() -> Result<ExitCode, Box<dyn Error>> {
    let directory = Directory::new()?;
    let identity = certificate::for_localhost()?;
    let authorities = directory.0.join("ca.pem");
    fs::write(&authorities, identity.certificate.to_pem()?)?;

    let port = free_port()?;
    let plain = backend::serve()?;
    let secure = backend::serve_tls(&identity)?;
    let config = format!(
        "Listen 127.0.0.1:{port}\n\
         SSLProxyCACertificateFile \"{}\"\n\
         ProxyPass \"/ws2/\"  \"ws://localhost:{plain}/\"\n\
         ProxyPass \"/wss2/\" \"wss://localhost:{secure}/\"\n\
         ProxyPass \"/\"      \"http://localhost:{plain}/\"\n",
        authorities.display()
    );
    let file = directory.0.join("proxy-wstunnel.conf");
    fs::write(&file, &config)?;
    explain(&file, &config, port);

    let mut arguments = vec!["-f".to_owned(), file.display().to_string()];
    if rustix::process::geteuid().is_root() {
        // A try-out needs no user of its own.
        arguments.extend(["-c", "User root"].map(str::to_owned));
    }
    Ok(match cli::command(&arguments) {
        cli::Command::Run(config, sources) => server::run(*config, sources),
        cli::Command::Check(..) => ExitCode::SUCCESS,
        cli::Command::Exit(status) => status.into(),
    })
}

fn explain(file: &Path, config: &str, port: u16) {
    println!("The configuration, in {}:\n", file.display());
    for line in config.lines() {
        println!("    {line}");
    }
    let this = std::env::args().next();
    let client = format!("{} client", this.as_deref().unwrap_or("quickstart"));
    println!("\nIn a browser:   http://127.0.0.1:{port}/");
    println!("In a terminal:  {client} ws://127.0.0.1:{port}/ws2/");
    println!("                {client} ws://127.0.0.1:{port}/wss2/");
    println!("\nCtrl-C ends it.");
}

/// The usual port, or one that is free.
fn free_port() -> std::io::Result<u16> {
    if TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)).is_ok() {
        return Ok(USUAL_PORT);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    println!("Port {USUAL_PORT} is taken on this machine; the proxy listens on {port} instead.\n");
    Ok(port)
}

/// A directory for certificate and configuration, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> std::io::Result<Self> {
        let name = format!("proxy-wstunnel-quickstart-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails if somebody has put it there before us.
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("quickstart: cannot remove {}: {error}", self.0.display());
        }
    }
}
