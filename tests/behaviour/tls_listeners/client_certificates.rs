//! Certificates of clients: who is let in, and what is known of them.

use super::{NAME, certificate, client, dial, directory, exactly, s_client, try_dial};
use crate::support::certs::Identity;
use crate::support::client::{request, switch};
use crate::support::http::{Origin, Reply};
use crate::support::wire::field;
use crate::support::{Backend, Certs, Client, Proxy, each_mode};
use openssl::ssl::{SslContext, SslVersion};
use std::io::Read;

/// A proxy that asks clients for certificates of `certs`, as these lines say.
#[track_caller]
fn start(certs: &Certs, backend: &str, lines: &str) -> Proxy {
    let config = format!(
        "Listen 127.0.0.1:0 https\n{}SSLCACertificateFile ca.pem\n{lines}\nProxyPass / {backend}/\n\
         CustomLog access.log \"%{{SSL_CLIENT_VERIFY}}x %{{SSL_CLIENT_S_DN_CN}}x %>s\"",
        certificate(NAME)
    );
    Proxy::start_in(directory(certs, &[NAME]), config, "")
}

fn showing(version: SslVersion, identity: Option<&Identity>, above: Option<&Certs>) -> SslContext {
    client(|builder| {
        exactly(version)(builder);
        if let Some(identity) = identity {
            identity.show(builder);
        }
        if let Some(above) = above {
            builder
                .add_extra_chain_cert(above.authority().certificate().clone())
                .unwrap();
        }
    })
}

/// What a client gets for a request: in TLS 1.3 it learns only behind its handshake that it was refused.
fn status(proxy: &Proxy, client: &SslContext) -> Option<u16> {
    let mut visitor = try_dial(proxy.address(), client, Some(NAME)).ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    if !visitor.send_if_taken(request) {
        return None;
    }
    let mut answer = Vec::new();
    drop(visitor.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

#[test]
fn sslverifyclient_says_who_is_let_in() {
    let certs = Certs::new();
    let stranger = Certs::new();
    let origin = Origin::telling();
    let between = certs.below();
    let (own, deep) = (certs.server("own"), between.server("deep"));
    let (expired, unknown) = (certs.expired("expired"), stranger.server("unknown"));
    let alone = Identity::self_signed("alone");
    for (lines, is_asked, is_required, depth) in [
        ("SSLVerifyClient none", false, false, 1),
        ("", false, false, 1),
        ("SSLVerifyClient optional", true, false, 1),
        ("SSLVerifyClient require", true, true, 1),
        ("SSLVerifyClient require\nSSLVerifyDepth 2", true, true, 2),
    ] {
        let proxy = start(&certs, &origin.url(), lines);
        for version in VERSIONS {
            let nobody = status(&proxy, &showing(version, None, None));
            assert_eq!(nobody, (!is_required).then_some(200), "{lines}");
            for (identity, above, is_good, why) in [
                (&own, None, true, ""),
                (
                    &deep,
                    Some(&between),
                    depth > 1,
                    "certificate chain too long",
                ),
                (&expired, None, false, "certificate has expired"),
                (
                    &unknown,
                    None,
                    false,
                    "unable to get local issuer certificate",
                ),
                (&alone, None, false, "self-signed certificate"),
            ] {
                let found = status(&proxy, &showing(version, Some(identity), above));
                let expected = (is_good || !is_asked).then_some(200);
                assert_eq!(found, expected, "{lines} {version:?} {why}");
                if expected.is_none() {
                    let line = proxy.wait_for_log(why);
                    assert!(line.contains("PW512 no TLS with the client: "), "{line}");
                }
            }
        }
        // What nobody was asked for, nobody has shown.
        let known = if is_asked {
            "SUCCESS own 200"
        } else {
            "NONE - 200"
        };
        let log = proxy.wait_for_lines("access.log", 2);
        assert!(log.contains(&known.to_owned()), "{lines}: {log:?}");
        assert!(log.iter().all(|line| line.ends_with("200")), "{log:?}");
        if is_required {
            let line = proxy.wait_for_log("peer did not return a certificate");
            assert!(line.contains("PW512"), "{line}");
        }
    }
}

#[test]
fn clients_are_told_whose_certificates_count() {
    let certs = Certs::new();
    let proxy = start(&certs, "ws://127.0.0.1:1", "SSLVerifyClient optional");
    let Some(told) = s_client(proxy.address(), &["-tls1_2"], "") else {
        return;
    };
    let (_, names) = told
        .split_once("Acceptable client certificate CA names")
        .expect(&told);
    assert!(names.contains(&subject_of(certs.authority())), "{names}");
}

each_mode! {
    fn what_is_known_of_a_client_reaches_the_backend_and_the_log(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let subject = [("C", "DE"), ("O", "Example"), ("OU", "One"), ("CN", "somebody")];
        let somebody = certs.person(&subject);
        let lines = format!(
            "{}\nSSLVerifyClient optional\nRewriteEngine On\n\
             RewriteCond %{{SSL:SSL_CLIENT_VERIFY}} =SUCCESS\nRewriteCond %{{SSL:SSL_CLIENT_S_DN_O}} =Example\n\
             RewriteRule ^/(.*) {}/known/$1 [P]\n\
             RequestHeader set X-Verify %{{SSL_CLIENT_VERIFY}}s\nRequestHeader set X-Name %{{SSL_CLIENT_S_DN}}s\n\
             RequestHeader set X-By %{{SSL_CLIENT_I_DN_CN}}s\nRequestHeader set X-Serial %{{SSL_CLIENT_M_SERIAL}}s\n\
             RequestHeader set X-Certificate %{{SSL_CLIENT_CERT}}s\nRequestHeader set X-Sni %{{SSL_TLS_SNI}}s\n\
             CustomLog tls.log \"%{{SSL_PROTOCOL}}x %{{version}}c %{{SSL_CIPHER}}x %{{SSL_CLIENT_S_DN_OU}}x %>s\"",
            mode.directives(), backend.url()
        );
        let proxy = start(&certs, &backend.url(), &lines);
        let ask = |context: &SslContext| {
            let mut visitor = dial(proxy.address(), context, Some(NAME));
            // Nobody can say of himself who he is.
            visitor.send(request("/a").replace("Upgrade: web", "X-Name: CN=admin\r\nX-Verify: SUCCESS\r\nUpgrade: web"));
            let mut peer = backend.accept();
            let head = peer.head();
            peer.send(switch());
            visitor.switched();
            head
        };
        let own = ask(&showing(SslVersion::TLS1_3, Some(&somebody), None));
        assert!(own.starts_with("GET /known/a HTTP/1.1\r\n"), "{own}");
        let serial = own_serial(&somebody);
        let pem = String::from_utf8(somebody.pem()).unwrap();
        for (name, value) in [
            ("X-Verify", "SUCCESS"),
            ("X-Name", "CN=somebody,OU=One,O=Example,C=DE"),
            ("X-By", &subject_of(certs.authority())),
            ("X-Serial", &serial),
            ("X-Certificate", pem.trim_end().replace('\n', " ").as_str()),
            ("X-Sni", NAME),
        ] {
            assert_eq!(field(&own, name).as_deref(), Some(value), "{name}");
        }
        let none = ask(&showing(SslVersion::TLS1_2, None, None));
        assert!(none.starts_with("GET /a HTTP/1.1\r\n"), "{none}");
        for (name, value) in [("X-Verify", "NONE"), ("X-Name", "(null)"), ("X-Certificate", "(null)")] {
            assert_eq!(field(&none, name).as_deref(), Some(value), "{name}");
        }
        let log = proxy.wait_for_lines("tls.log", 2);
        for (line, version, rest) in [(&log[0], "TLSv1.3", "One 101"), (&log[1], "TLSv1.2", "- 101")] {
            assert!(line.starts_with(&format!("{version} {version} ")), "{line}");
            assert!(line.ends_with(rest), "{line}");
        }
    }
}

fn subject_of(identity: &Identity) -> String {
    let subject = identity.certificate().subject_name();
    let mut names = subject.entries_by_nid(openssl::nid::Nid::COMMONNAME);
    names.next().unwrap().data().to_string().unwrap()
}

fn own_serial(identity: &Identity) -> String {
    let number = identity.certificate().serial_number().to_bn().unwrap();
    number.to_hex_str().unwrap().to_string()
}

/// CVE-2024-47252: whoever an authority has let choose his name may have chosen one that means something in a log.
#[test]
fn no_name_in_a_certificate_or_in_a_hello_ends_a_line_or_a_field() {
    let certs = Certs::new();
    let origin = Origin::new(|_| Reply::ok(""));
    let lines = "SSLVerifyClient optional\n\
        RequestHeader set X-Name %{SSL_CLIENT_S_DN}s\nRequestHeader set X-Part %{SSL_CLIENT_S_DN_CN}s\n\
        RequestHeader set X-Sni %{SSL_TLS_SNI}s\nRequestHeader set X-End end\nLogLevel debug\n\
        CustomLog tls.log \"\\\"%{SSL_CLIENT_S_DN}x\\\" \\\"%{SSL_CLIENT_S_DN_CN}x\\\" \\\"%{SSL_TLS_SNI}x\\\" end\"";
    let proxy = start(&certs, &origin.url(), lines);
    for (number, evil) in [
        "a\r\nX-Evil: 1",
        "a\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n",
        "a\" 200 \"evil",
        "a\\\" evil",
        "\u{1b}[31mred\u{7}",
        "a\u{85}b\u{2028}c\u{7f}",
        "tab\there",
    ]
    .into_iter()
    .enumerate()
    {
        let person = certs.person(&[("O", evil), ("CN", evil)]);
        let showing = showing(SslVersion::TLS1_3, Some(&person), None);
        let mut visitor = dial(proxy.address(), &showing, Some(evil));
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
        visitor.answer_to("GET").expect_status(200);
        let head = origin.request().head;
        assert_eq!(field(&head, "X-Evil"), None, "{head:?}");
        assert_eq!(field(&head, "X-End").as_deref(), Some("end"), "{head:?}");
        let is_text = |byte: u8| matches!(byte, b' '..=b'~' | 0x80..) || byte == b'\t';
        for line in head.split("\r\n") {
            assert!(line.bytes().all(is_text), "{line:?}");
        }
        let line = &proxy.wait_for_lines("tls.log", number + 1)[number];
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
        // Three fields in quotation marks, and none in between.
        let bare = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(bare.matches('"').count(), 6, "{line}");
        assert!(line.ends_with(" end"), "{line}");
        drop(visitor);
    }
    assert!(origin.others().is_empty());
    let log = proxy.log();
    for line in &log {
        assert!(line.starts_with("20"), "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

/// It would have all that the connection before was let in for.
#[test]
fn a_plain_request_knows_nothing_of_certificates() {
    let certs = Certs::new();
    let origin = Origin::new(|_| Reply::ok(""));
    let config = format!(
        "RequestHeader set X-Verify %{{SSL_CLIENT_VERIFY}}s\nRequestHeader set X-Tls %{{HTTPS}}s\nProxyPass / {}/",
        origin.url()
    );
    let proxy = Proxy::start_in(directory(&certs, &[]), config, "");
    let mut visitor = Client::sending(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    visitor.answer_to("GET").expect_status(200);
    let head = origin.request().head;
    assert_eq!(field(&head, "X-Verify").as_deref(), Some("(null)"));
    assert_eq!(field(&head, "X-Tls").as_deref(), Some("off"));
}
