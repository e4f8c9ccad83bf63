//! What is asked of backends in TLS, by native-tls and by OpenSSL itself, and what becomes of those that are not like that.

use crate::support::certs::Identity;
use crate::support::client::{close_frame, frame, request, switch};
use crate::support::proxy::run;
use crate::support::{Backend, Certs, Client, Proxy, TempDir, Wire, each_mode};
use openssl::ssl::{
    NameType, SslAcceptor, SslAcceptorBuilder, SslMethod, SslRef, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::os::unix::fs::PermissionsExt;

/// What each policy is tried with: nothing more, which native-tls can do, and something that it cannot.
const BOTH: [&str; 2] = ["", "SSLProxyCipherSuite HIGH"];
/// The latter.
const DIRECT: &str = BOTH[1];

/// A folder with the certificate of the authority.
fn trusting(certs: &Certs) -> TempDir {
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    directory
}

/// A proxy that trusts `certs` and has `/` mapped to `localhost` at the backend's port.
#[track_caller]
fn start(certs: &Certs, backend: &Backend, more: &str) -> Proxy {
    start_in(trusting(certs), backend, more)
}

#[track_caller]
fn start_in(directory: TempDir, backend: &Backend, more: &str) -> Proxy {
    let port = backend.port();
    let config = format!(
        "SSLProxyCACertificateFile ca.pem\n{more}\nProxyPass / wss://localhost:{port}/ timeout=5\n"
    );
    Proxy::start_in(directory, config, "")
}

/// The line about a backend that is not taken.
#[track_caller]
fn refused(proxy: &Proxy) -> String {
    Client::asking(proxy, "/").answer().expect_status(502);
    proxy.wait_for_log(" tls: ")
}

/// Makes a tunnel, and looks at what the backend sees of it.
#[track_caller]
fn seen<T>(
    proxy: &Proxy,
    backend: &Backend,
    acceptor: &SslAcceptor,
    look: impl FnOnce(&SslRef) -> T,
) -> T {
    seen_by(Client::asking(proxy, "/"), backend, acceptor, look)
}

#[track_caller]
fn seen_by<T>(
    mut client: Client,
    backend: &Backend,
    acceptor: &SslAcceptor,
    look: impl FnOnce(&SslRef) -> T,
) -> T {
    let mut peer = shaken(backend, acceptor);
    peer.head();
    peer.send(switch());
    client.switched();
    let found = look(peer.tls().ssl());
    peer.send(frame(b"hello", None));
    client.expect(frame(b"hello", None));
    found
}

#[track_caller]
fn shaken(backend: &Backend, acceptor: &SslAcceptor) -> Wire {
    let tls = acceptor.accept(backend.accept_tcp());
    Wire::new_tls(tls.expect("a TLS handshake"))
}

fn version(ssl: &SslRef) -> String {
    ssl.version_str().to_owned()
}

fn name_sent(ssl: &SslRef) -> Option<String> {
    ssl.servername(NameType::HOST_NAME).map(str::to_owned)
}

/// A side of TLS that also does what nobody should today.
fn lax(identity: &Identity) -> SslAcceptorBuilder {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_security_level(0);
    acceptor.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    acceptor.set_certificate(identity.certificate()).unwrap();
    acceptor.set_private_key(identity.key()).unwrap();
    acceptor
}

/// What a proxy says that does not start.
#[track_caller]
fn start_fails(directory: &TempDir, config: &str) -> String {
    let root = directory.path().display();
    let user = crate::support::proxy::root();
    let text = format!("ServerRoot \"{root}\"\nListen 127.0.0.1:0\n{config}\n{user}\n");
    let file = directory.write("proxy.conf", text);
    run(&["-f", file.to_str().unwrap()]).expect_status(1).stderr
}

fn serving(acceptor: SslAcceptor) -> Backend {
    Backend::serve_tcp(move |tcp| {
        let bare = tcp.try_clone().unwrap();
        match acceptor.accept(tcp) {
            Ok(tls) => crate::support::backend::echo(Wire::new_tls(tls)),
            // To close at once would reset the connection, and nobody would read why.
            Err(_) => drop(Wire::new(bare).rest()),
        }
    })
}

mod bad_backends {
    use super::*;

    /// Whoever shows this certificate gets no byte of a request, and the log says why.
    #[track_caller]
    fn expect_refused(certs: &Certs, identity: &Identity, reasons: &[&str]) {
        for more in BOTH {
            let backend = serving(lax(identity).build());
            let line = refused(&start(certs, &backend, more));
            assert!(
                reasons.iter().any(|reason| line.contains(reason)),
                "{more}: {line}"
            );
            assert!(line.contains("PW406"), "{line}");
            assert!(line.contains("(502)"), "{line}");
        }
    }

    #[test]
    fn a_certificate_for_another_name() {
        let certs = Certs::new();
        let reason = "ostname mismatch: the certificate is not for \"localhost\"";
        expect_refused(&certs, &certs.server("other.example"), &[reason]);
        // What stands beside the names of RFC 6125 is none.
        let called = certs.called("localhost", "other.example");
        expect_refused(&certs, &called, &[reason]);
    }

    #[test]
    fn a_certificate_that_has_ended_or_has_not_begun() {
        let certs = Certs::new();
        let (ended, future) = (certs.expired("localhost"), certs.not_yet("localhost"));
        expect_refused(&certs, &ended, &["certificate has expired"]);
        expect_refused(&certs, &future, &["certificate is not yet valid"]);
    }

    #[test]
    fn a_certificate_that_nobody_vouches_for_or_nobody_known() {
        let certs = Certs::new();
        let own = Identity::self_signed("localhost");
        let reasons = ["self-signed certificate", "self signed certificate"];
        expect_refused(&certs, &own, &reasons);
        let strange = Certs::new().server("localhost");
        let reason = "unable to get local issuer certificate";
        expect_refused(&certs, &strange, &[reason]);
    }

    #[test]
    fn a_key_that_can_be_broken() {
        let certs = Certs::new();
        let weak = certs.weak("localhost");
        expect_refused(&certs, &weak, &["certificate key too weak"]);
    }

    #[test]
    fn nothing_newer_than_tls_1_0() {
        let certs = Certs::new();
        for more in BOTH {
            let mut old = lax(&certs.server("localhost"));
            old.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
            let backend = serving(old.build());
            let line = refused(&start(&certs, &backend, more));
            assert!(line.contains("protocol"), "{line}");
        }
    }

    #[test]
    fn plain_text_at_the_port_of_tls() {
        let certs = Certs::new();
        for more in BOTH {
            for text in ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH\r\n"] {
                let backend = Backend::serve(move |mut wire| {
                    wire.send(text);
                    wire.rest();
                });
                let line = refused(&start(&certs, &backend, more));
                assert!(line.contains("something that is no TLS"), "{line}");
            }
        }
    }

    #[test]
    fn an_end_in_the_handshake() {
        let certs = Certs::new();
        for more in BOTH {
            let backend = Backend::serve_tcp(|tcp| {
                tcp.shutdown(Shutdown::Write).unwrap();
                Wire::new(tcp).rest();
            });
            let line = refused(&start(&certs, &backend, more));
            assert!(line.contains("the peer ended the connection"), "{line}");
        }
    }

    #[test]
    fn a_stall_in_the_handshake() {
        let certs = Certs::new();
        for more in BOTH {
            let backend = Backend::listen();
            let config = format!(
                "{more}\nProxyPass /stall/ wss://localhost:{}/ timeout=300ms",
                backend.port()
            );
            let proxy = start(&certs, &backend, &config);
            let mut client = Client::asking(&proxy, "/stall/");
            let _stalled = backend.accept_tcp();
            client.answer().expect_status(504);
            let line = proxy.wait_for_log(" tls: ");
            assert!(line.contains("PW407") || line.contains("time"), "{line}");
        }
    }
}

mod checks {
    use super::*;

    /// Which of the odd backends pass: one for another name, one that has ended, one of an unknown authority.
    fn passing(directives: &str) -> [bool; 3] {
        let certs = Certs::new();
        let odd = [
            certs.server("other.example"),
            certs.expired("localhost"),
            Certs::new().server("localhost"),
        ];
        odd.map(|identity| passes(&certs, &identity, directives))
    }

    fn passes(certs: &Certs, identity: &Identity, directives: &str) -> bool {
        let backend = Backend::echo_tls(identity);
        let proxy = start(certs, &backend, directives);
        let mut client = Client::asking(&proxy, "/");
        let answer = client.answer_head();
        if answer.status == 101 {
            client.echo("through");
        } else {
            assert_eq!(answer.status, 502);
        }
        answer.status == 101
    }

    #[test]
    fn each_is_turned_off_by_its_own_directive() {
        for more in BOTH {
            let passing = |directives: &str| passing(&format!("{directives}\n{more}"));
            let (name, common, dates) = (
                "SSLProxyCheckPeerName Off\n",
                "SSLProxyCheckPeerCN Off\n",
                "SSLProxyCheckPeerExpire Off\n",
            );
            let none = "SSLProxyVerify none\n";
            assert_eq!(passing(""), [false; 3]);
            assert_eq!(passing(name), [true, false, false]);
            assert_eq!(passing(common), [true, false, false]);
            assert_eq!(passing(dates), [false, true, false]);
            assert_eq!(passing(none), [false, false, true]);
            assert_eq!(passing(&[none, name].concat()), [true, false, true]);
            assert_eq!(passing(&[none, dates].concat()), [false, true, true]);
            assert_eq!(passing(&[none, name, dates].concat()), [true; 3]);
        }
    }

    #[test]
    fn a_common_name_is_enough_where_no_more_is_asked_for() {
        let certs = Certs::new();
        let called = certs.called("localhost", "other.example");
        let named = certs.called("other.example", "localhost");
        let only_common = "SSLProxyCheckPeerName Off\nSSLProxyCheckPeerCN On";
        assert!(passes(&certs, &called, only_common));
        assert!(!passes(&certs, &named, only_common));
        assert!(passes(&certs, &named, "SSLProxyCheckPeerCN On"));
        assert!(!passes(&certs, &called, "SSLProxyCheckPeerCN On"));
        let unverified = format!("{only_common}\nSSLProxyVerify none");
        let strange = Certs::new();
        assert!(passes(
            &certs,
            &strange.called("LOCALHOST", "x"),
            &unverified
        ));
        assert!(!passes(&certs, &strange.server("x"), &unverified));
        let backend = Backend::echo_tls(&named);
        let line = refused(&start(&certs, &backend, only_common));
        assert!(line.contains("common name is not \"localhost\""), "{line}");
    }

    #[test]
    fn addresses_are_held_to_the_addresses_in_certificates() {
        let certs = Certs::new();
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        for (more, verify) in BOTH
            .map(|more| (more, ""))
            .into_iter()
            .chain([("", "SSLProxyVerify none")])
        {
            for (names, is_taken) in [("127.0.0.1", true), ("127.0.0.2", false)] {
                let backend = Backend::echo_tls(&certs.server(names));
                let config = format!(
                    "SSLProxyCACertificateFile ca.pem\n{more}\n{verify}\nProxyPass / wss://{}/",
                    backend.address()
                );
                let proxy = Proxy::start_in(trusting(&certs), config, "");
                let status = if is_taken { 101 } else { 502 };
                Client::asking(&proxy, "/")
                    .answer_head()
                    .expect_status(status);
            }
            let acceptor = certs.server("::1").acceptor();
            let backend = Backend::listen_on(v6);
            let config = format!(
                "SSLProxyCACertificateFile ca.pem\n{more}\n{verify}\nProxyPass / wss://[::1]:{}/",
                backend.port()
            );
            let proxy = Proxy::start_in(trusting(&certs), config, "");
            assert_eq!(seen(&proxy, &backend, &acceptor, name_sent), None);
        }
    }

    #[test]
    fn with_proxypreservehost_the_name_is_that_of_the_client() {
        let certs = Certs::new();
        let acceptor = certs.server("front.example").acceptor();
        for more in BOTH {
            let backend = Backend::listen();
            let more = format!("ProxyPreserveHost On\n{more}");
            let proxy = start(&certs, &backend, &more);
            for host in ["front.example", "FRONT.example.:8080"] {
                let request = request("/").replace("front.example", host);
                let client = Client::sending(&proxy, request);
                let name = seen_by(client, &backend, &acceptor, name_sent).unwrap();
                assert!(name.eq_ignore_ascii_case("front.example"), "{name}");
            }
        }
    }

    /// OpenSSL takes `.example` for all names below it.
    #[test]
    fn a_client_cannot_name_many_hosts_at_once_or_one_that_nobody_has() {
        let certs = Certs::new();
        let backend = Backend::echo_tls(&certs.server("any.below.example"));
        let long = format!("{}.example", "a".repeat(250));
        for more in BOTH {
            let proxy = start(&certs, &backend, &format!("ProxyPreserveHost On\n{more}"));
            for host in [".example", ".below.example", ".below.example.", &long] {
                let request = request("/").replace("front.example", host);
                let mut client = Client::sending(&proxy, request);
                client.answer_head().expect_status(502);
                let line = proxy.wait_for_log("PW406");
                assert!(line.contains("no certificate can be for"), "{line}");
            }
            let request = request("/").replace("front.example", "any.below.example");
            let mut client = Client::sending(&proxy, request);
            client.answer_head().expect_status(101);
        }
    }

    #[test]
    fn the_depth_counts_all_that_stand_above_the_backend() {
        let certs = Certs::new();
        let between = certs.below();
        let identity = between.server("localhost");
        let mut chained = identity.acceptor_builder();
        chained
            .add_extra_chain_cert(between.authority().certificate().clone())
            .unwrap();
        let acceptor = chained.build();
        for (depth, is_taken) in [
            ("", true),
            ("SSLProxyVerifyDepth 2", true),
            ("SSLProxyVerifyDepth 1", false),
        ] {
            let backend = serving(acceptor.clone());
            let proxy = start(&certs, &backend, depth);
            if is_taken {
                Client::tunnel(&proxy, "/").echo("through");
            } else {
                let line = refused(&proxy);
                assert!(line.contains("than SSLProxyVerifyDepth 1 allows"), "{line}");
            }
        }
        // Nobody but the backend itself.
        let own = Identity::self_signed("localhost");
        for (trusted, is_taken) in [(own.pem(), true), (certs.pem(), false)] {
            let identity = if is_taken {
                own.clone()
            } else {
                certs.server("localhost")
            };
            let directory = TempDir::new();
            directory.write("ca.pem", trusted);
            let backend = Backend::echo_tls(&identity);
            let proxy = start_in(directory, &backend, "SSLProxyVerifyDepth 0");
            let status = if is_taken { 101 } else { 502 };
            Client::asking(&proxy, "/")
                .answer_head()
                .expect_status(status);
        }
    }

    #[test]
    fn a_folder_of_authorities_is_searched_by_hashed_names() {
        let (certs, other) = (Certs::new(), Certs::new());
        for more in BOTH {
            for (name, is_taken) in [
                (certs.authority().hashed_name(), true),
                ("ca.pem".to_owned(), false),
            ] {
                let backend = Backend::echo_tls(&certs.server("localhost"));
                let directory = TempDir::new();
                directory.write(&format!("authorities/{name}"), certs.pem());
                directory.write("authorities/00000000.0", other.authority().pem());
                directory.write("authorities/00000000.1", "no certificate");
                let config = format!(
                    "SSLProxyCACertificatePath authorities\n{more}\nProxyPass / wss://localhost:{}/",
                    backend.port()
                );
                let proxy = Proxy::start_in(directory, config, "");
                let status = if is_taken { 101 } else { 502 };
                Client::asking(&proxy, "/")
                    .answer_head()
                    .expect_status(status);
            }
        }
    }

    /// Each policy its own connector, whatever else is the same.
    #[test]
    fn sections_say_their_own_of_backends_and_of_the_members_of_balancers() {
        let certs = Certs::new();
        let trusted = Backend::echo_tls(&certs.server("localhost"));
        let strange = Backend::echo_tls(&Certs::new().server("localhost"));
        let [trusted, strange] = [trusted.port(), strange.port()];
        let config = format!(
            "SSLProxyCACertificateFile ca.pem\n\
             ProxyPass /trusted/ wss://localhost:{trusted}/\n\
             ProxyPass /strange/ wss://localhost:{strange}/\n\
             ProxyPass /strange-too/ wss://localhost:{strange}/part/\n\
             ProxyPass /known/ balancer://known/\n\
             ProxyPass /unknown/ balancer://unknown/app/\n\
             <Proxy balancer://known>\nBalancerMember wss://localhost:{strange}\nSSLProxyVerify none\n</Proxy>\n\
             <Proxy balancer://unknown>\nBalancerMember wss://localhost:{strange}\n</Proxy>\n\
             <Proxy wss://localhost:{strange}/part>\nSSLProxyVerify none\n</Proxy>\n\
             <VirtualHost *:*>\nServerName other.example\n\
             <Proxy balancer://unknown>\nSSLProxyVerify none\n</Proxy>\n\
             <ProxyMatch ^wss:.*:{trusted}/>\nSSLProxyProtocol TLSv1.3\nSSLProxyMachineCertificateFile me.pem\n</ProxyMatch>\n\
             </VirtualHost>\n\
             <VirtualHost *:*>\nServerName front.example\n</VirtualHost>\n"
        );
        let directory = trusting(&certs);
        let me = certs.server("me.example");
        directory.write("me.pem", [me.pem(), me.key_pem()].concat());
        let proxy = Proxy::start_in(directory, config, "");
        let status = |host: &str, path: &str| {
            let request = request(path).replace("front.example", host);
            Client::sending(&proxy, request).answer_head().status
        };
        for (path, status_here, status_there) in [
            ("/trusted/", 101, 101),
            ("/strange/", 502, 502),
            ("/strange-too/", 101, 101),
            ("/known/", 101, 101),
            ("/unknown/", 502, 101),
        ] {
            // One that a failure has set aside is not asked.
            assert_eq!(status("other.example", path), status_there, "{path}");
            assert_eq!(status("front.example", path), status_here, "{path}");
        }
    }
}

mod what_is_spoken {
    use super::*;

    #[test]
    fn versions_are_those_of_sslproxyprotocol() {
        let certs = Certs::new();
        let mut all = lax(&certs.server("localhost"));
        all.clear_options(openssl::ssl::SslOptions::NO_TLSV1_3);
        let all = all.build();
        for more in BOTH {
            for (protocols, spoken) in [
                ("", "TLSv1.3"),
                ("SSLProxyProtocol -all +TLSv1.2", "TLSv1.2"),
                ("SSLProxyProtocol TLSv1.3", "TLSv1.3"),
            ] {
                let backend = Backend::listen();
                let proxy = start(&certs, &backend, &format!("{protocols}\n{more}"));
                assert_eq!(seen(&proxy, &backend, &all, version), spoken);
            }
        }
        let backend = Backend::listen();
        let old = "SSLProxyProtocol TLSv1.1\nSSLProxyCipherSuite DEFAULT:@SECLEVEL=0";
        let proxy = start(&certs, &backend, old);
        assert_eq!(seen(&proxy, &backend, &all, version), "TLSv1.1");
    }

    #[test]
    fn ciphers_are_those_of_sslproxyciphersuite() {
        let certs = Certs::new();
        let acceptor = certs.server("localhost").acceptor();
        let cipher = |ssl: &SslRef| ssl.current_cipher().unwrap().name().to_owned();
        for (lines, spoken) in [
            (
                "SSLProxyProtocol TLSv1.2\nSSLProxyCipherSuite ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
            ),
            (
                "SSLProxyProtocol TLSv1.2\nSSLProxyCipherSuite SSL ECDHE-ECDSA-CHACHA20-POLY1305",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ),
            (
                "SSLProxyCipherSuite TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
            ),
        ] {
            let backend = Backend::listen();
            let proxy = start(&certs, &backend, lines);
            assert_eq!(seen(&proxy, &backend, &acceptor, cipher), spoken);
        }
    }

    /// A list can allow what has no certificate at all; whoever stands on the way could do that.
    #[test]
    fn no_list_makes_do_without_a_certificate() {
        let certs = Certs::new();
        let mut anonymous = lax(&certs.server("localhost"));
        anonymous.set_cipher_list("aNULL:@SECLEVEL=0").unwrap();
        let backend = serving(anonymous.build());
        let lines = "SSLProxyProtocol TLSv1.2\nSSLProxyCipherSuite ALL:aNULL:@SECLEVEL=0";
        refused(&start(&certs, &backend, lines));
    }
}

mod our_certificate {
    use super::*;

    /// A backend that lets nobody in without a certificate of `certs`.
    fn demanding(certs: &Certs) -> SslAcceptor {
        let mut acceptor = certs.server("localhost").acceptor_builder();
        let mut store = X509StoreBuilder::new().unwrap();
        store
            .add_cert(certs.authority().certificate().clone())
            .unwrap();
        acceptor.set_cert_store(store.build());
        acceptor.set_session_id_context(b"test").unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        acceptor.build()
    }

    fn common_name(ssl: &SslRef) -> String {
        let shown = ssl.peer_certificate().unwrap();
        let name = shown.subject_name().entries().next().unwrap();
        name.data().to_string().unwrap()
    }

    #[test]
    fn is_shown_to_a_backend_that_asks_for_it_whatever_the_form_of_its_key() {
        let certs = Certs::new();
        let acceptor = demanding(&certs);
        let me = certs.server("me.example");
        let rsa = certs.weak("me.example");
        for (directive, pem) in [
            ("", [me.pem(), me.key_pem()].concat()),
            ("", [me.old_key_pem(), certs.pem(), me.pem()].concat()),
            (DIRECT, [me.pem(), me.old_key_pem()].concat()),
            (
                "SSLProxyCipherSuite ALL:@SECLEVEL=0",
                [rsa.pem(), rsa.old_key_pem()].concat(),
            ),
        ] {
            let directory = trusting(&certs);
            let file = directory.write("me.pem", pem);
            let owner_only = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file, owner_only).unwrap();
            let backend = Backend::listen();
            let more = format!("SSLProxyMachineCertificateFile me.pem\n{directive}");
            let proxy = start_in(directory, &backend, &more);
            let is_weak = directive.contains("SECLEVEL=0");
            // A backend has its own opinion of it.
            if !is_weak {
                assert_eq!(seen(&proxy, &backend, &acceptor, common_name), "me.example");
            }
            assert!(proxy.log_lines("has a key").is_empty());
            // It ends tomorrow, and whoever runs this wants to know.
            let line = proxy.wait_for_log("me.example");
            assert!(line.contains("SSLProxyMachineCertificateFile"), "{line}");
            let log = proxy.log().join("\n");
            assert!(!log.contains("PRIVATE KEY"), "{log}");
        }
    }

    #[test]
    fn comes_with_what_leads_to_its_authority() {
        let certs = Certs::new();
        let between = certs.below();
        let me = between.server("me.example");
        for more in BOTH {
            let directory = trusting(&certs);
            directory.write("me.pem", [me.pem(), me.key_pem()].concat());
            directory.write("between.pem", between.pem());
            let backend = Backend::listen();
            let more = format!(
                "SSLProxyMachineCertificateFile me.pem\nSSLProxyMachineCertificateChainFile between.pem\n{more}"
            );
            let proxy = start_in(directory, &backend, &more);
            let name = seen(&proxy, &backend, &demanding(&certs), common_name);
            assert_eq!(name, "me.example");
        }
    }

    #[test]
    fn is_missed_where_there_is_none() {
        let certs = Certs::new();
        for more in BOTH {
            let backend = serving(demanding(&certs));
            let proxy = start(&certs, &backend, more);
            Client::asking(&proxy, "/").answer().expect_status(502);
            let line = proxy.wait_for_log("502");
            assert!(line.contains("certificate required"), "{line}");
        }
    }

    #[test]
    fn is_refused_at_start_where_it_cannot_be_used_and_nothing_of_it_is_told() {
        let certs = Certs::new();
        let (me, other) = (certs.server("me.example"), certs.server("other.example"));
        let key = String::from_utf8(me.key_pem()).unwrap();
        let secret = key.lines().nth(1).unwrap();
        let broken = key.replace(&secret[..8], "AAAAAAAA");
        for (pem, why) in [
            ([me.pem(), other.key_pem()].concat(), "the key belongs to no certificate in it"),
            ([me.pem(), me.key_pem(), other.pem(), other.key_pem()].concat(), "there are 2 keys in it"),
            ([me.pem(), broken.into_bytes()].concat(), "the key cannot be read"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n".to_vec(), "cannot be read"),
        ] {
            let directory = TempDir::new();
            directory.write("me.pem", pem);
            let said = start_fails(
                &directory,
                "SSLProxyMachineCertificateFile me.pem\nProxyPass / wss://localhost:1/\n",
            );
            assert!(said.contains(why), "{why}: {said}");
            assert!(said.contains(": SSLProxyMachineCertificateFile: "), "{said}");
            assert!(!said.contains(&secret[8..20]), "{said}");
        }
    }

    #[test]
    fn is_refused_at_start_where_its_key_can_be_broken() {
        let certs = Certs::new();
        let me = certs.weak("me.example");
        for more in BOTH {
            let directory = TempDir::new();
            directory.write("me.pem", [me.pem(), me.key_pem()].concat());
            let config = format!(
                "SSLProxyMachineCertificateFile me.pem\n{more}\nProxyPass / wss://localhost:1/\n"
            );
            let said = start_fails(&directory, &config);
            assert!(said.contains("SSLProxyMachineCertificateFile: "), "{said}");
            assert!(said.contains("key too small"), "{said}");
        }
    }

    #[test]
    fn ciphers_that_the_library_does_not_have_are_refused_at_start() {
        let config = "SSLProxyCipherSuite NO-SUCH-CIPHER\nProxyPass / wss://localhost:1/\n";
        let said = start_fails(&TempDir::new(), config);
        assert!(said.contains("SSLProxyCipherSuite: "), "{said}");
        assert!(said.contains("NO-SUCH-CIPHER"), "{said}");
    }
}

mod sessions {
    use super::*;

    fn resumed(ssl: &SslRef) -> bool {
        ssl.session_reused()
    }

    fn up_to(certs: &Certs, version: SslVersion) -> SslAcceptor {
        let mut acceptor = certs.server("localhost").acceptor_builder();
        acceptor.set_max_proto_version(Some(version)).unwrap();
        acceptor.build()
    }

    #[test]
    fn go_on_with_the_same_backend() {
        let certs = Certs::new();
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let acceptor = up_to(&certs, version);
            let backend = Backend::listen();
            let proxy = start(&certs, &backend, DIRECT);
            let mut found = Vec::new();
            for _ in 0..6 {
                found.push(seen(&proxy, &backend, &acceptor, resumed));
            }
            assert_eq!(found, [false, true, true, true, true, true]);
        }
    }

    #[test]
    fn are_of_one_name_and_of_one_way_to_speak_alone() {
        let certs = Certs::new();
        let acceptor = {
            let mut acceptor = certs.server("*.front.example").acceptor_builder();
            acceptor.set_num_tickets(1).unwrap();
            acceptor.build()
        };
        let backend = Backend::listen();
        let port = backend.port();
        let more = format!(
            "{DIRECT}\nProxyPreserveHost On\nProxyPass /strict/ wss://localhost:{port}/strict/\n\
             <Proxy wss://localhost:{port}/strict>\nSSLProxyVerifyDepth 1\n</Proxy>"
        );
        let proxy = start(&certs, &backend, &more);
        let asking = |host: &str, path: &str| {
            Client::sending(&proxy, request(path).replace("front.example", host))
        };
        for (host, path, goes_on) in [
            ("a.front.example", "/", false),
            ("b.front.example", "/", false),
            ("a.front.example", "/strict/", false),
            ("a.front.example", "/", true),
            ("b.front.example", "/", true),
            ("a.front.example", "/strict/", true),
        ] {
            let found = seen_by(asking(host, path), &backend, &acceptor, resumed);
            assert_eq!(found, goes_on, "{host} {path}");
        }
    }

    #[test]
    fn are_forgotten_when_a_handshake_fails() {
        let certs = Certs::new();
        let acceptor = up_to(&certs, SslVersion::TLS1_3);
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, DIRECT);
        assert!(!seen(&proxy, &backend, &acceptor, resumed));
        let mut client = Client::asking(&proxy, "/");
        drop(backend.accept_tcp());
        client.answer().expect_status(502);
        assert!(!seen(&proxy, &backend, &acceptor, resumed));
        assert!(seen(&proxy, &backend, &acceptor, resumed));
    }

    /// What a connection that goes on shows is what was verified when it began.
    #[test]
    fn do_not_let_a_backend_in_that_has_another_certificate() {
        let certs = Certs::new();
        let acceptor = up_to(&certs, SslVersion::TLS1_3);
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, DIRECT);
        seen(&proxy, &backend, &acceptor, resumed);
        let mut client = Client::asking(&proxy, "/");
        let strange = Certs::new().server("localhost").acceptor();
        assert!(strange.accept(backend.accept_tcp()).is_err());
        client.answer().expect_status(502);
    }
}

mod ends {
    use super::*;

    const NOTE: &str = "LogFormat \"%{close-reason}n\" reason\nCustomLog access.log reason\n";

    each_mode! {
        fn a_backend_that_is_cut_off_is_told_from_one_that_ends(mode: Mode) {
            let certs = Certs::new();
            let identity = certs.server("localhost");
            for more in BOTH {
                let backend = Backend::listen();
                let directives = format!("{NOTE}{more}\n{}", mode.directives());
                let proxy = start(&certs, &backend, &directives);
                let cut = "backend failed without a Close frame: TLS ended without close_notify";
                for (nth, (bytes, is_cut, reason)) in [
                    (frame(b"x", None), true, cut),
                    (frame(b"x", None), false, "backend ended without a Close frame"),
                    // What WebSocket has said needs no second word.
                    (close_frame(None), true, "backend closed"),
                    (close_frame(None), false, "backend closed"),
                    // No WebSocket at all.
                    (b"SSH-2.0-x\r\n".to_vec(), true, "backend closed without close_notify"),
                    (b"SSH-2.0-x\r\n".to_vec(), false, "backend closed"),
                ].into_iter().enumerate() {
                    let mut client = Client::asking(&proxy, "/");
                    let mut peer = backend.accept_tls(&identity);
                    peer.head();
                    peer.send(switch());
                    client.switched();
                    peer.send(&bytes);
                    client.expect(&bytes);
                    if is_cut {
                        peer.tcp().shutdown(Shutdown::Write).unwrap();
                    } else {
                        peer.finish();
                    }
                    client.expect_cut();
                    client.finish();
                    drop(peer);
                    let lines = proxy.wait_for_lines("access.log", nth + 1);
                    assert_eq!(lines[nth], reason, "{more}: {lines:#?}");
                }
            }
        }

        fn what_is_cut_off_behind_the_end_of_the_client_is_told(mode: Mode) {
            let certs = Certs::new();
            let identity = certs.server("localhost");
            let backend = Backend::listen();
            let directives = format!("{NOTE}{}", mode.directives());
            let proxy = start(&certs, &backend, &directives);
            let (cut, whole) = ("backend closed without close_notify", "client closed");
            for (nth, reason) in [cut, whole].into_iter().enumerate() {
                let mut client = Client::asking(&proxy, "/");
                let mut peer = backend.accept_tls(&identity);
                peer.head();
                peer.send(switch());
                client.switched();
                client.send("no frame, and the last");
                client.finish();
                peer.expect("no frame, and the last");
                peer.expect_end();
                peer.send("half of an ans");
                client.expect("half of an ans");
                if reason == cut {
                    peer.tcp().shutdown(Shutdown::Both).unwrap();
                } else {
                    peer.finish();
                }
                client.expect_end();
                let lines = proxy.wait_for_lines("access.log", nth + 1);
                assert_eq!(lines[nth], reason, "{lines:#?}");
            }
        }
    }
}
