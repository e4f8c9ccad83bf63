//! What the directives of TLS towards clients say, as clients find it.

use crate::support::certs::Identity;
use crate::support::client::request;
use crate::support::proxy::check;
use crate::support::{BOUND, Backend, Certs, Proxy, TempDir, Wire, each_mode, missing};
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslStream, SslVersion};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const NAME: &str = "front.example";

/// A proxy with a certificate for [`NAME`].
#[track_caller]
fn start(certs: &Certs, directives: &str) -> Proxy {
    let identity = certs.server(NAME);
    let config = format!(
        "Listen 127.0.0.1:0 https\nSSLCertificateFile site.pem\nSSLCertificateKeyFile site.key\n{directives}\n"
    );
    Proxy::start_in(with_files(&identity), config, "")
}

fn with_files(identity: &Identity) -> TempDir {
    let directory = TempDir::new();
    directory.write("site.pem", identity.pem());
    directory.write("site.key", identity.key_pem());
    directory.write("both.pem", [identity.key_pem(), identity.pem()].concat());
    directory
}

/// Makes the handshake, trusting `certs`.
fn connect(
    certs: &Certs,
    proxy: &Proxy,
    client: impl FnOnce(&mut SslConnectorBuilder),
) -> Result<SslStream<TcpStream>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    let authority = openssl::x509::X509::from_pem(&certs.pem()).unwrap();
    builder.cert_store_mut().add_cert(authority).unwrap();
    client(&mut builder);
    let tcp = TcpStream::connect(proxy.address()).unwrap();
    tcp.set_read_timeout(Some(BOUND)).unwrap();
    let made = builder.build().connect(NAME, tcp);
    made.map_err(|error| error.to_string())
}

fn up_to(version: SslVersion) -> impl FnOnce(&mut SslConnectorBuilder) {
    move |client| client.set_max_proto_version(Some(version)).unwrap()
}

fn cipher(stream: &SslStream<TcpStream>) -> &'static str {
    stream.ssl().current_cipher().unwrap().name()
}

#[test]
fn versions_are_those_of_sslprotocol_and_none_below_1_2_by_itself() {
    let certs = Certs::new();
    let proxy = start(&certs, "");
    let version = |client: SslVersion| {
        let stream = connect(&certs, &proxy, up_to(client))?;
        Ok::<_, String>(stream.ssl().version_str().to_owned())
    };
    assert_eq!(version(SslVersion::TLS1_3).as_deref(), Ok("TLSv1.3"));
    assert_eq!(version(SslVersion::TLS1_2).as_deref(), Ok("TLSv1.2"));

    // Not for want of the client.
    let old = |client: &mut SslConnectorBuilder| {
        client
            .set_min_proto_version(Some(SslVersion::TLS1_1))
            .unwrap();
        client
            .set_max_proto_version(Some(SslVersion::TLS1_1))
            .unwrap();
        client.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    };
    assert!(connect(&certs, &proxy, old).is_err());
    let lenient = start(&certs, "SSLProtocol all\nSSLCipherSuite ALL:@SECLEVEL=0");
    let stream = connect(&certs, &lenient, old).unwrap();
    assert_eq!(stream.ssl().version_str(), "TLSv1.1");

    let old = start(&certs, "SSLProtocol TLSv1.2");
    let stream = connect(&certs, &old, |_| {}).unwrap();
    assert_eq!(stream.ssl().version_str(), "TLSv1.2");
    let new = start(&certs, "SSLProtocol all -TLSv1.2 -TLSv1.1 -TLSv1");
    assert!(connect(&certs, &new, up_to(SslVersion::TLS1_2)).is_err());
    assert!(connect(&certs, &new, |_| {}).is_ok());
}

#[test]
fn ciphers_and_suites_are_those_of_sslciphersuite() {
    let certs = Certs::new();
    let proxy = start(
        &certs,
        "SSLCipherSuite ECDHE-ECDSA-AES256-GCM-SHA384\nSSLCipherSuite TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
    );
    let old = connect(&certs, &proxy, up_to(SslVersion::TLS1_2)).unwrap();
    assert_eq!(cipher(&old), "ECDHE-ECDSA-AES256-GCM-SHA384");
    let new = connect(&certs, &proxy, |_| {}).unwrap();
    assert_eq!(cipher(&new), "TLS_CHACHA20_POLY1305_SHA256");
}

#[test]
fn sslhonorcipherorder_says_whose_order_counts() {
    let certs = Certs::new();
    let (ours, theirs) = (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    );
    for (switch, chosen) in [("On", ours), ("Off", theirs)] {
        let lines = format!("SSLCipherSuite {ours}:{theirs}\nSSLHonorCipherOrder {switch}");
        let proxy = start(&certs, &lines);
        let stream = connect(&certs, &proxy, |client| {
            up_to(SslVersion::TLS1_2)(client);
            client.set_cipher_list(&format!("{theirs}:{ours}")).unwrap();
        });
        assert_eq!(cipher(&stream.unwrap()), chosen, "{switch}");
    }
}

#[test]
fn groups_are_those_of_sslopensslconfcmd() {
    let certs = Certs::new();
    let proxy = start(&certs, "SSLOpenSSLConfCmd Curves P-384");
    let with = |groups: &str| {
        let made = connect(&certs, &proxy, |client| {
            client.set_groups_list(groups).unwrap();
        });
        made.is_ok()
    };
    assert!(with("P-256:P-384"));
    assert!(!with("P-256"));
}

/// Up to TLS 1.2 the ticket is a part of the handshake, so that nobody has to wait for it.
#[test]
fn sessions_are_resumed_unless_sslsessiontickets_is_off() {
    let certs = Certs::new();
    for (switch, is_resumed) in [("On", true), ("Off", false)] {
        let proxy = start(&certs, &format!("SSLSessionTickets {switch}"));
        let client = Command::new("openssl")
            .args(["s_client", "-reconnect", "-tls1_2", "-connect"])
            .arg(proxy.address().to_string())
            .stdin(Stdio::null())
            .output();
        let Ok(client) = client else {
            missing("openssl");
            return;
        };
        let told = String::from_utf8_lossy(&client.stdout);
        assert!(told.contains("New, TLSv1.2"), "{switch}: {told}");
        assert_eq!(
            told.contains("Reused, TLSv1.2"),
            is_resumed,
            "{switch}: {told}"
        );
    }
}

#[test]
fn a_certificate_may_hold_its_key() {
    let certs = Certs::new();
    let identity = certs.server(NAME);
    let config = "Listen 127.0.0.1:0\nSSLEngine On\nSSLCertificateFile both.pem";
    let proxy = Proxy::start_in(with_files(&identity), config, "");
    assert!(connect(&certs, &proxy, |_| {}).is_ok());
}

#[test]
fn a_check_finds_what_a_start_would_find() {
    let certs = Certs::new();
    let (identity, other) = (certs.server(NAME), certs.server("other.example"));
    let directory = with_files(&identity);
    directory.write("other.key", other.key_pem());
    let root = directory.path().display().to_string();
    let checked = |key: &str| {
        let config = format!(
            "ServerRoot {root}\nListen 127.0.0.1:0\nSSLEngine On\nSSLCertificateFile site.pem\n\
             SSLCertificateKeyFile {key}\nProxyPass / ws://127.0.0.1:9/\n"
        );
        check(&config)
    };
    let sound = checked("site.key").expect_status(0);
    assert!(sound.stderr.ends_with("Syntax OK\n"), "{sound:?}");
    let mismatched = checked("other.key").expect_status(1);
    let said = &mismatched.stderr;
    assert!(
        said.contains("proxy.conf:5: SSLCertificateKeyFile: "),
        "{said}"
    );
    assert!(
        said.contains("does not belong to the certificate"),
        "{said}"
    );
    assert!(!said.contains("Syntax OK"), "{said}");
}

each_mode! {
    /// What has no room at first is written again from another place.
    fn a_client_that_reads_late_gets_all_of_a_stream(mode: Mode) {
        const CHUNK: usize = 100_000;
        let certs = Certs::new();
        let backend = Backend::listen();
        let proxy = start(
            &certs,
            &format!("ProxyPass / ws://{}/\n{}", backend.address(), mode.directives()),
        );
        let mut client = Wire::new_tls(connect(&certs, &proxy, |_| {}).unwrap());
        client.send(request("/"));
        let mut peer = backend.accept_tunnel();
        client.answer_head().expect_status(101);
        let limit = 64 * 1024 * 1024;
        let sent = peer.send_until_stuck(limit, Duration::from_millis(300));
        assert!(sent < limit, "nobody has held the backend");
        let read = client.receive(sent / 2 + CHUNK).len();
        let more = peer.send_until_stuck(CHUNK, Duration::from_millis(300));
        client.receive(sent + more - read);
        peer.send("last");
        client.expect("last");
    }
}
