//! Files of TLS that change while the server runs, and a reload that takes them.

use super::{NAME, certificate, client, dial, directory, exactly, shown_to, try_dial, write};
use crate::support::certs::Identity;
use crate::support::client::{request, switch};
use crate::support::http::{Origin, Reply};
use crate::support::proxy::run;
use crate::support::{BOUND, Backend, Certs, Client, Json, Mode, Proxy, TempDir, Wire, each_mode};
use openssl::ssl::{SslAcceptor, SslContext, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

fn put(proxy: &Proxy, file: &str, content: impl AsRef<[u8]>) {
    std::fs::write(proxy.directory().join(file), content).unwrap();
}

/// Files for [`certificate`].
fn renew(proxy: &Proxy, name: &str, identity: &Identity) {
    put(proxy, &format!("{name}.pem"), identity.pem());
    put(proxy, &format!("{name}.key"), identity.key_pem());
}

/// A tunnel of `visitor`, whose other end `backend` has.
#[track_caller]
fn open(visitor: Client, backend: &Backend) -> (Client, Wire) {
    let mut visitor = visitor;
    visitor.send(request("/ws/"));
    let peer = backend.accept_tunnel();
    visitor.switched();
    (visitor, peer)
}

#[track_caller]
fn expect_alive((client, peer): &mut (Client, Wire)) {
    client.send("up");
    peer.expect("up");
    peer.send("down");
    client.expect("down");
}

/// What a request of `visitor` for [`NAME`] is answered with.
#[track_caller]
fn ask(visitor: &mut Client) -> u16 {
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
    visitor.answer_to("GET").status()
}

/// It is told that the connection is of no use any more, so that it opens another.
#[track_caller]
fn expect_misdirected(mut visitor: Client) {
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
    let answer = visitor.answer().expect_status(421);
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
}

each_mode! {
    fn renewed_certificates_are_shown_and_nobody_is_refused_or_cut_off(mode: Mode) {
        const ROUNDS: usize = 6;
        const HOSTS: [&str; 2] = ["one.example", "two.example"];
        let certs = Certs::new();
        let backend = Backend::listen();
        let host = |name| format!("<VirtualHost *>\nServerName {name}\n{}</VirtualHost>\n", certificate(name));
        let config = format!(
            "Listen 127.0.0.1:0 https\n{}\nProxyPass /ws/ {}/\n{}{}",
            mode.directives(), backend.url(), host(HOSTS[0]), host(HOSTS[1])
        );
        let renewed = |round: usize, name: &str| certs.called(&round.to_string(), name);
        let directory = directory(&certs, &[]);
        for name in HOSTS {
            write(&directory, name, &renewed(0, name));
        }
        let proxy = Proxy::start_in(directory, &config, "");
        let address = proxy.address();
        let number_shown = |version, name| {
            let mut visitor = dial(address, &client(exactly(version)), Some(name));
            shown_to(&mut visitor).parse::<usize>().unwrap()
        };
        let mut tunnels: Vec<_> = VERSIONS.map(|version| {
            open(dial(address, &client(exactly(version)), Some(HOSTS[1])), &backend)
        }).into();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let begun = Instant::now();
            let is_over = &is_over;
            let visiting = |version, name| scope.spawn(move || {
                let mut shown = Vec::new();
                while !is_over.load(Ordering::SeqCst) && begun.elapsed() < BOUND {
                    shown.push(number_shown(version, name));
                }
                shown
            });
            let visitors = [
                visiting(SslVersion::TLS1_2, HOSTS[0]),
                visiting(SslVersion::TLS1_3, HOSTS[0]),
                visiting(SslVersion::TLS1_3, HOSTS[1]),
            ];
            for round in 1..=ROUNDS {
                // One of them stays as it is.
                renew(&proxy, HOSTS[0], &renewed(round, HOSTS[0]));
                proxy.reload(&config);
                for version in VERSIONS {
                    assert_eq!(HOSTS.map(|name| number_shown(version, name)), [round, 0]);
                }
                tunnels.iter_mut().for_each(expect_alive);
            }
            is_over.store(true, Ordering::SeqCst);
            for (visitor, last) in visitors.into_iter().zip([ROUNDS, ROUNDS, 0]) {
                let shown = visitor.join().unwrap();
                assert!(shown.len() > ROUNDS && shown.is_sorted(), "{shown:?}");
                assert!(shown.iter().all(|number| *number <= last), "{shown:?}");
            }
        });
        tunnels.iter_mut().for_each(expect_alive);
        assert!(proxy.log_lines("PW512").is_empty());
    }

    fn what_is_wrong_with_a_file_leaves_the_old_one_in_use_and_its_line_is_named(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let (good, other) = (certs.called("good", NAME), certs.called("bad", NAME));
        let between = certs.below();
        let directory = directory(&certs, &[]);
        let files = [
            ("site.pem", good.pem()),
            ("site.key", good.key_pem()),
            ("chain.pem", between.pem()),
            ("clients.pem", certs.pem()),
        ];
        for (name, content) in &files {
            directory.write(name, content);
        }
        let config = format!(
            "Listen 127.0.0.1:0 https\nSSLCertificateFile site.pem\nSSLCertificateKeyFile site.key\n\
             SSLCertificateChainFile chain.pem\nSSLCACertificateFile clients.pem\nSSLVerifyClient optional\n\
             {}\nProxyPass /ws/ {}/",
            mode.directives(), backend.url()
        );
        let proxy = Proxy::start_in(directory, &config, "");
        let anybody = client(|_| ());
        let visit = || dial(proxy.address(), &anybody, Some(NAME));
        let mut tunnel = open(visit(), &backend);
        let damaged = |pem: Vec<u8>| {
            let text = String::from_utf8(pem).unwrap();
            let (begin, rest) = text.split_at(60);
            format!("{begin}AAAA{rest}").into_bytes()
        };
        for (file, content, line) in [
            ("site.pem", Some(b"nonsense".to_vec()), "4: SSLCertificateFile: "),
            ("site.pem", Some(damaged(good.pem())), "4: SSLCertificateFile: "),
            ("site.pem", Some(good.key_pem()), "4: SSLCertificateFile: "),
            ("site.pem", None, "4: SSLCertificateFile: "),
            // Which of the two is the new one, nobody knows.
            ("site.pem", Some(other.pem()), "5: SSLCertificateKeyFile: "),
            ("site.key", Some(other.key_pem()), "5: SSLCertificateKeyFile: "),
            ("site.key", Some(Vec::new()), "5: SSLCertificateKeyFile: "),
            ("site.key", Some(damaged(good.key_pem())), "5: SSLCertificateKeyFile: "),
            ("site.key", None, "5: SSLCertificateKeyFile: "),
            ("chain.pem", None, "6: SSLCertificateChainFile: "),
            ("chain.pem", Some(damaged(between.pem())), "6: SSLCertificateChainFile: "),
            ("clients.pem", Some(damaged(certs.pem())), "7: SSLCACertificateFile: "),
            ("clients.pem", None, "7: SSLCACertificateFile: "),
        ] {
            let path = proxy.directory().join(file);
            match content {
                Some(content) => std::fs::write(path, content).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            let said = proxy.reload_refused(&config);
            assert_eq!(said.len(), 2, "{said:#?}");
            let named = format!("proxy.conf:{line}");
            assert!(said[0].contains(&named) && said[0].contains(file), "{file} {line} {said:#?}");
            assert_eq!(shown_to(&mut visit()), "good", "{file} {line}");
            expect_alive(&mut tunnel);
            for (name, content) in &files {
                put(&proxy, name, content);
            }
        }
        let log = proxy.log().join("\n");
        let key = String::from_utf8(good.key_pem()).unwrap();
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!log.contains(&line[..20.min(line.len())]), "{log}");
        }
        // Reasons, and not where in its own files the library has found them.
        assert!(!log.contains(".c:"), "{log}");
        proxy.reload(&config);
        expect_alive(&mut tunnel);
    }

    fn a_listener_turns_to_tls_and_back_with_all_who_are_there(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let origin = Origin::new(|_| Reply::ok("page"));
        let config = |listen: &str| format!(
            "{listen}\n{}\nProxyPass /ws/ {}/\nProxyPass / {}/\n",
            mode.directives(), backend.url(), origin.url()
        );
        let plain = config("Listen 127.0.0.1:0");
        let secure = config(&format!("Listen 127.0.0.1:0 https\n{}", certificate(NAME)));
        let proxy = Proxy::start_in(directory(&certs, &[NAME]), &plain, "");
        let address = proxy.address();
        let anybody = client(|_| ());
        let mut tunnel = open(Client::connect(address), &backend);
        let mut old = Client::connect(address);
        assert_eq!(ask(&mut old), 200);

        assert_eq!(proxy.reload(&secure), [address]);
        expect_misdirected(old);
        assert_eq!(ask(&mut Client::connect(address)), 400);
        let mut old = dial(address, &anybody, Some(NAME));
        assert_eq!(ask(&mut old), 200);
        let mut second = open(dial(address, &anybody, Some(NAME)), &backend);
        expect_alive(&mut tunnel);

        assert_eq!(proxy.reload(&plain), [address]);
        expect_misdirected(old);
        assert_eq!(ask(&mut Client::connect(address)), 200);
        try_dial(address, &anybody, Some(NAME)).unwrap_err();
        expect_alive(&mut tunnel);
        expect_alive(&mut second);
        // What was misdirected has reached nobody: three pages were asked for.
        assert_eq!(origin.others().len(), 3);
    }
}

fn showing(version: SslVersion, identity: &Identity) -> SslContext {
    client(|builder| {
        exactly(version)(builder);
        identity.show(builder);
    })
}

/// CVE-2025-23048, by a reload: who was let in by those who counted before is a stranger to those who count now.
#[test]
fn a_certificate_of_a_client_counts_no_longer_than_its_authority() {
    let (ours, theirs) = (Certs::new(), Certs::new());
    let origin = Origin::new(|_| Reply::ok("page"));
    let directory = directory(&ours, &[NAME]);
    directory.write("clients.pem", ours.pem());
    let config = format!(
        "Listen 127.0.0.1:0 https\n{}SSLVerifyClient require\nSSLCACertificateFile clients.pem\nProxyPass / {}/\n",
        certificate(NAME),
        origin.url()
    );
    let proxy = Proxy::start_in(directory, &config, "");
    let both = [ours.pem(), theirs.pem()].concat();
    let turned = [theirs.pem(), ours.pem(), ours.pem()].concat();
    let (us, them) = (ours.server("us"), theirs.server("them"));
    for version in VERSIONS {
        let [us, them] = [&us, &them].map(|who| showing(version, who));
        let visit = |who: &SslContext| try_dial(proxy.address(), who, Some(NAME));
        let mut visitor = visit(&us).unwrap();
        assert_eq!(ask(&mut visitor), 200);
        // The same ones still count.
        proxy.reload(&config);
        assert_eq!(ask(&mut visitor), 200);
        put(&proxy, "clients.pem", theirs.pem());
        proxy.reload(&config);
        expect_misdirected(visitor);
        let mut visitor = visit(&them).unwrap();
        assert_eq!(ask(&mut visitor), 200);
        // More of them are others as well; in what order they stand is all the same.
        put(&proxy, "clients.pem", &both);
        proxy.reload(&config);
        expect_misdirected(visitor);
        let mut visitor = visit(&us).unwrap();
        assert_eq!(ask(&mut visitor), 200);
        put(&proxy, "clients.pem", &turned);
        proxy.reload(&config);
        assert_eq!(ask(&mut visitor), 200);
        put(&proxy, "clients.pem", ours.pem());
        proxy.reload(&config);
        expect_misdirected(visitor);
    }
    assert_eq!(origin.others().len(), 5 * VERSIONS.len());
}

#[test]
fn a_reload_that_asks_for_more_holds_for_those_who_are_there() {
    let certs = Certs::new();
    let origin = Origin::new(|_| Reply::ok("page"));
    let config = |lines: &str| {
        format!(
            "Listen 127.0.0.1:0 https\n{}{lines}\nProxyPass / {}/\n",
            certificate(NAME),
            origin.url()
        )
    };
    let proxy = Proxy::start_in(directory(&certs, &[NAME]), config(""), "");
    for lines in [
        "SSLVerifyClient require\nSSLCACertificateFile ca.pem",
        "SSLProtocol TLSv1.3",
        "SSLCipherSuite ECDHE+AESGCM",
    ] {
        proxy.reload(config(""));
        let mut visitor = dial(proxy.address(), &client(|_| ()), Some(NAME));
        assert_eq!(ask(&mut visitor), 200);
        proxy.reload(config(lines));
        expect_misdirected(visitor);
    }
    assert_eq!(origin.others().len(), 3);
}

mod ends {
    use super::*;

    const DAY: f64 = 86_400.0;

    /// Everything that tells of certificates.
    struct Told {
        json: Json,
        metrics: Vec<String>,
        auto: String,
        page: String,
        table: String,
    }

    #[track_caller]
    fn told(proxy: &Proxy) -> Told {
        let ask = |query: &str| {
            let mut visitor = dial(proxy.address(), &client(|_| ()), Some("one.example"));
            visitor.send(format!(
                "GET /status{query} HTTP/1.1\r\nHost: one.example\r\n\r\n"
            ));
            let answer = visitor.answer_to("GET").expect_status(200);
            String::from_utf8(answer.body).unwrap()
        };
        let metrics = ask("?metrics");
        let series = "_certificate_expiry_timestamp_seconds{";
        let metrics = metrics.lines().filter(|line| line.contains(series));
        let socket = proxy.directory().join("control.sock");
        Told {
            json: Json::parse(&ask("?json")),
            metrics: metrics.map(str::to_owned).collect(),
            auto: ask("?auto"),
            page: ask(""),
            table: run(&["--control", socket.to_str().unwrap(), "--status"]).stdout,
        }
    }

    /// Holds the status to have these subjects, each with the days that are left.
    #[track_caller]
    fn expect(proxy: &Proxy, certificates: &[(&str, &str, i32)]) {
        let told = told(proxy);
        let list = told.json.list("certificates");
        assert_eq!(list.len(), certificates.len(), "{list:#?}");
        assert_eq!(
            told.metrics.len(),
            certificates.len(),
            "{:#?}",
            told.metrics
        );
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs_f64();
        for (line, subject, days) in certificates {
            let is_it = |one: &&Json| one.text("subject") == *subject;
            let one = list.iter().find(is_it).expect(subject);
            let is_it = |series: &&String| series.contains(subject);
            let series = told.metrics.iter().find(is_it).expect(subject);
            assert!(
                one.text("line").contains(line),
                "{line}: {}",
                one.text("line")
            );
            assert!(
                (one.number("days") - f64::from(*days)).abs() < 0.1,
                "{list:#?}"
            );
            let left = (one.number("ends") - now) / DAY;
            assert!((left.floor() - f64::from(*days)).abs() < 0.1, "{list:#?}");
            assert!(
                series.contains(line) && series.contains(subject),
                "{series}"
            );
            let ends: f64 = series.rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!((ends - one.number("ends")).abs() < 0.1, "{series}");
            assert!(told.page.contains(subject), "{}", told.page);
            let mut rows = told.table.lines().map(|row| row.split_whitespace());
            let days = days.to_string();
            assert!(
                rows.any(|mut row| row.next() == Some(subject) && row.next() == Some(&days)),
                "{}",
                told.table
            );
        }
        let least = certificates.iter().map(|(_, _, days)| days).min().unwrap();
        for field in [
            format!("\nCertificates: {}\n", certificates.len()),
            format!("\nLeastCertificateDays: {least}\n"),
        ] {
            assert!(told.auto.contains(&field), "{}", told.auto);
        }
    }

    /// One certificate for many hosts, a host with two of its own, and one that is shown to backends.
    #[test]
    fn are_told_once_for_each_line_at_start_and_by_a_reload() {
        let certs = Certs::new();
        let directory = TempDir::new();
        let two = |kind| certs.called(kind, "two.example");
        write(&directory, "main", &certs.lasting("main.example", 100));
        write(&directory, "ec", &two("ec.example"));
        write(&directory, "rsa", &certs.rsa_server("rsa.example"));
        let me = certs.lasting("me.example", 14);
        directory.write("me.pem", [me.pem(), me.key_pem()].concat());
        let config = format!(
            "Listen 127.0.0.1:0 https\nListen unix:control.sock\n{}\
             <Location /status>\nSetHandler server-status\n</Location>\n\
             SSLProxyMachineCertificateFile me.pem\nProxyPass / wss://localhost:9/\n\
             <VirtualHost *>\nServerName one.example\n</VirtualHost>\n\
             <VirtualHost *>\nServerName alias.example\n</VirtualHost>\n\
             <VirtualHost *>\nServerName two.example\n{}{}</VirtualHost>\n",
            certificate("main"),
            certificate("ec"),
            certificate("rsa"),
        );
        let proxy = Proxy::start_in(directory, &config, "");
        let lines = |subject: &str| proxy.log_lines(&format!("certificate CN={subject} "));
        for (subject, line, rest, is_warning) in [
            ("main.example", "proxy.conf:5: ", ", in 99 days", false),
            ("ec.example", "proxy.conf:20: ", ", in 0 days", true),
            ("rsa.example", "proxy.conf:22: ", ", in 0 days", true),
            ("me.example", "proxy.conf:10: ", ", in 13 days", true),
        ] {
            let said = lines(subject);
            assert_eq!(said.len(), 1, "{subject}: {said:#?}");
            assert!(
                said[0].contains(line) && said[0].contains(rest),
                "{said:#?}"
            );
            assert_eq!(said[0].contains("PW513 "), is_warning, "{said:#?}");
            assert_eq!(said[0].contains("[WARN]"), is_warning, "{said:#?}");
        }
        let rest = [
            ("proxy.conf:10", "CN=me.example", 13),
            ("proxy.conf:20", "CN=ec.example", 0),
            ("proxy.conf:22", "CN=rsa.example", 0),
        ];
        let expected = |first| [&[("proxy.conf:5", "CN=main.example", first)][..], &rest].concat();
        expect(&proxy, &expected(99));
        // One that has ended is taken, as at start: whoever has nothing else needs the rest of the configuration.
        for (days, rest, is_warning) in [
            (15, ", in 14 days", false),
            (14, ", in 13 days", true),
            (0, " ended ", true),
        ] {
            let identity = certs.lasting("main.example", days);
            renew(&proxy, "main", &identity);
            let before = lines("main.example").len();
            proxy.reload(&config);
            let said = lines("main.example").split_off(before);
            assert_eq!(said.len(), 1, "{said:#?}");
            assert!(said[0].contains(rest), "{said:#?}");
            assert_eq!(said[0].contains("PW513 "), is_warning, "{said:#?}");
            expect(&proxy, &expected(i32::from(days) - 1));
        }
    }
}

mod backends {
    use super::*;

    /// What each policy is tried with: what native-tls can do, and what it cannot.
    const BOTH: [&str; 2] = ["", "SSLProxyCipherSuite HIGH"];

    /// A side of TLS that lets nobody in without a certificate of `certs`.
    fn demanding(certs: &Certs) -> SslAcceptor {
        let mut acceptor = certs.server("localhost").acceptor_builder();
        let mut store = X509StoreBuilder::new().unwrap();
        let authority = certs.authority().certificate().clone();
        store.add_cert(authority).unwrap();
        acceptor.set_cert_store(store.build());
        acceptor.set_session_id_context(b"test").unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        acceptor.build()
    }

    fn common_name(peer: &mut Wire) -> String {
        let shown = peer.tls().ssl().peer_certificate().unwrap();
        let name = shown.subject_name().entries().next().unwrap();
        name.data().to_string().unwrap()
    }

    fn config(mode: Mode, more: &str, backend: &Backend) -> String {
        format!(
            "{}\nSSLProxyCACertificateFile ca.pem\nSSLProxyMachineCertificateFile me.pem\n{more}\n\
             ProxyPass /ws/ wss://localhost:{}/ timeout=5\n",
            mode.directives(),
            backend.port()
        )
    }

    fn both(identity: &Identity) -> Vec<u8> {
        [identity.pem(), identity.key_pem()].concat()
    }

    /// A tunnel to the backend, which has this to show.
    #[track_caller]
    fn open(proxy: &Proxy, backend: &Backend, acceptor: &SslAcceptor) -> (Client, Wire) {
        let mut client = Client::asking(proxy, "/ws/");
        let tls = acceptor.accept(backend.accept_tcp());
        let mut peer = Wire::new_tls(tls.expect("a TLS handshake"));
        peer.head();
        peer.send(switch());
        client.switched();
        (client, peer)
    }

    each_mode! {
        fn see_our_renewed_certificate_and_none_that_is_wrong(mode: Mode) {
            let certs = Certs::new();
            for more in BOTH {
                let backend = Backend::listen();
                let acceptor = demanding(&certs);
                let directory = directory(&certs, &[]);
                directory.write("me.pem", both(&certs.server("first")));
                let config = config(mode, more, &backend);
                let proxy = Proxy::start_in(directory, &config, "");
                let mut first = open(&proxy, &backend, &acceptor);
                assert_eq!(common_name(&mut first.1), "first");
                let second = certs.server("second");
                put(&proxy, "me.pem", both(&second));
                proxy.reload(&config);
                assert_eq!(common_name(&mut open(&proxy, &backend, &acceptor).1), "second");
                let foreign = [certs.server("third").pem(), second.key_pem()].concat();
                for wrong in [b"nonsense".to_vec(), second.pem(), second.key_pem(), foreign] {
                    put(&proxy, "me.pem", wrong);
                    let said = proxy.reload_refused(&config);
                    let line = "SSLProxyMachineCertificateFile: ";
                    assert!(said[0].contains("proxy.conf:") && said[0].contains(line), "{said:#?}");
                    assert!(said[0].contains("me.pem"), "{said:#?}");
                    assert_eq!(common_name(&mut open(&proxy, &backend, &acceptor).1), "second");
                }
                expect_alive(&mut first);
            }
        }

        fn are_verified_by_the_renewed_authorities(mode: Mode) {
            let (old, new) = (Certs::new(), Certs::new());
            for more in BOTH {
                let backend = Backend::listen();
                let [old_side, new_side] = [&old, &new].map(|certs| certs.server("localhost").acceptor());
                let directory = directory(&old, &[]);
                directory.write("me.pem", both(&old.server("me")));
                let config = config(mode, more, &backend);
                let proxy = Proxy::start_in(directory, &config, "");
                let expect_refused = |side: &SslAcceptor| {
                    let mut client = Client::asking(&proxy, "/ws/");
                    let bare = backend.accept_tcp();
                    let kept = bare.try_clone().unwrap();
                    drop(side.accept(bare).map(|tls| Wire::new_tls(tls).rest()));
                    drop(kept);
                    client.answer().expect_status(502);
                };
                // Each gives a session that could go on.
                let mut tunnel = open(&proxy, &backend, &old_side);
                expect_alive(&mut tunnel);
                expect_alive(&mut open(&proxy, &backend, &old_side));
                expect_refused(&new_side);
                put(&proxy, "ca.pem", b"nonsense");
                let said = proxy.reload_refused(&config);
                assert!(said[0].contains("SSLProxyCACertificateFile: "), "{said:#?}");
                expect_alive(&mut open(&proxy, &backend, &old_side));
                put(&proxy, "ca.pem", new.pem());
                proxy.reload(&config);
                expect_refused(&old_side);
                expect_alive(&mut open(&proxy, &backend, &new_side));
                expect_alive(&mut tunnel);
            }
        }
    }
}
