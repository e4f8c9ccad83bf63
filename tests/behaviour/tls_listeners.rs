//! TLS with clients: who is spoken to, who is let in, and what no client may do with it. What the directives about versions,
//! ciphers and tickets say is in `tls_terms`.

mod client_certificates;
mod endings;
mod hostile;
mod hosts;
mod matrix;
mod records;
mod renewal;
mod requests;
mod sessions;
mod shown;

use crate::support::certs::Identity;
use crate::support::{BOUND, Certs, Client, Proxy, TempDir, missing};
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslVersion};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

/// The name of the only host, where there is only one.
const NAME: &str = "front.example";

/// The lines of a host that speaks TLS with the certificate `name`.pem.
fn certificate(name: &str) -> String {
    format!("SSLCertificateFile {name}.pem\nSSLCertificateKeyFile {name}.key\n")
}

/// Files for [`certificate`].
fn write(directory: &TempDir, name: &str, identity: &Identity) {
    directory.write(&format!("{name}.pem"), identity.pem());
    directory.write(&format!("{name}.key"), identity.key_pem());
}

/// A directory with the authority, and a certificate for each of the names.
fn directory(certs: &Certs, names: &[&str]) -> TempDir {
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    for name in names {
        write(&directory, name, &certs.server(name));
    }
    directory
}

/// A proxy that speaks TLS as [`NAME`].
#[track_caller]
fn start(certs: &Certs, directives: impl AsRef<str>) -> Proxy {
    let config = format!(
        "Listen 127.0.0.1:0 https\n{}{}",
        certificate(NAME),
        directives.as_ref()
    );
    Proxy::start_in(directory(certs, &[NAME]), config, "")
}

/// How a client speaks TLS: as OpenSSL does by itself, without asking who it speaks to.
fn client(set_up: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut builder = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
    builder.set_mode(SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE);
    set_up(&mut builder);
    builder.build()
}

fn exactly(version: SslVersion) -> impl Fn(&mut SslContextBuilder) {
    move |builder| {
        builder.set_min_proto_version(Some(version)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
    }
}

/// Makes the handshake over this connection, asking for a host by name if there is one.
fn secure(tcp: TcpStream, context: &SslContext, name: Option<&str>) -> Result<Client, String> {
    tcp.set_read_timeout(Some(BOUND)).unwrap();
    let mut ssl = Ssl::new(context).unwrap();
    if let Some(name) = name {
        ssl.set_hostname(name).unwrap();
    }
    let made = ssl.connect(tcp).map_err(|error| error.to_string())?;
    Ok(Client::over_tls(made))
}

/// Connects, and makes the handshake.
fn try_dial(
    address: SocketAddr,
    context: &SslContext,
    name: Option<&str>,
) -> Result<Client, String> {
    secure(TcpStream::connect(address).unwrap(), context, name)
}

#[track_caller]
fn dial(address: SocketAddr, context: &SslContext, name: Option<&str>) -> Client {
    try_dial(address, context, name).expect("a TLS handshake")
}

/// A client of the only host.
#[track_caller]
fn visit(proxy: &Proxy) -> Client {
    dial(proxy.address(), &client(|_| ()), Some(NAME))
}

/// The name in the certificate that a client was shown.
fn shown_to(client: &mut Client) -> String {
    let certificate = client.tls().ssl().peer_certificate().unwrap();
    let mut names = certificate
        .subject_name()
        .entries_by_nid(openssl::nid::Nid::COMMONNAME);
    names.next().unwrap().data().to_string().unwrap()
}

/// What `openssl s_client` says, and what it hears from the other side, when it is given this to send.
fn s_client(address: SocketAddr, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut process) = command.spawn() else {
        missing("openssl");
        return None;
    };
    let mut stdin = process.stdin.take().unwrap();
    // It may have ended before it has read all.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&both).into_owned())
}
