//! Several hosts at one address: which of them a client sees, and which of them it may ask.

use super::{certificate, client, dial, directory, exactly, shown_to, try_dial};
use crate::support::http::{Origin, Reply};
use crate::support::{Certs, Client, Proxy, TempDir};
use openssl::ssl::{SslContextBuilder, SslVersion};
use std::fmt::Write;
use std::net::SocketAddr;

/// A backend that answers with the host that it was asked through.
fn origin() -> Origin {
    Origin::new(|request| Reply::ok(request.field("X-Host").unwrap_or_default()))
}

/// Hosts at one address, each with its own certificate where it has TLS, and with these lines.
struct Hosts {
    config: String,
    directory: TempDir,
}

impl Hosts {
    fn new(certs: &Certs, listen: &str, origin: &Origin) -> Self {
        let config = format!(
            "Listen {listen}\nProxyPass / {}/\nCustomLog access.log \"%V %{{Host}}i %>s\"\n",
            origin.url()
        );
        Self {
            config,
            directory: directory(certs, &[]),
        }
    }

    fn with(self, certs: &Certs, name: &str, lines: &str) -> Self {
        super::write(&self.directory, name, &certs.server(name));
        self.plain(name, &format!("SSLEngine On\n{}{lines}", certificate(name)))
    }

    fn plain(mut self, name: &str, lines: &str) -> Self {
        writeln!(
            self.config,
            "<VirtualHost *>\nServerName {name}\nRequestHeader set X-Host {name}\n{lines}\n</VirtualHost>"
        )
        .unwrap();
        self
    }

    #[track_caller]
    fn start(self) -> Proxy {
        Proxy::start_in(self.directory, self.config, "")
    }
}

/// The status, and the host that the backend was asked through.
#[track_caller]
fn ask(client: &mut Client, target: &str, host: &str) -> (u16, String) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = client.answer_to("GET");
    let body = match answer.status() {
        200 => String::from_utf8(answer.body.clone()).unwrap(),
        _ => String::new(),
    };
    (answer.status(), body)
}

#[track_caller]
fn certificate_for(address: SocketAddr, name: Option<&str>) -> String {
    shown_to(&mut dial(address, &client(|_| ()), name))
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "one.example", "")
        .with(
            &certs,
            "two.example",
            "ServerAlias zwei.example *.two.example",
        )
        .start();
    for (name, shown) in [
        (Some("one.example"), "one.example"),
        (Some("two.example"), "two.example"),
        (Some("TWO.Example"), "two.example"),
        (Some("two.example."), "two.example"),
        (Some("zwei.example"), "two.example"),
        (Some("a.two.example"), "two.example"),
        // Nobody has that name, or none was given, or it is none: the first host has them all.
        (Some("three.example"), "one.example"),
        (Some("two.example.evil"), "one.example"),
        (Some("two.example\r\nX: y"), "one.example"),
        (None, "one.example"),
    ] {
        assert_eq!(certificate_for(proxy.address(), name), shown, "{name:?}");
    }
}

#[test]
fn sslstrictsnivhostcheck_refuses_who_names_no_host() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "one.example", "SSLStrictSNIVHostCheck On")
        .with(&certs, "two.example", "")
        .start();
    let anybody = client(|_| ());
    for name in ["one.example", "two.example", "three.example"] {
        try_dial(proxy.address(), &anybody, Some(name)).expect(name);
    }
    try_dial(proxy.address(), &anybody, None).unwrap_err();
    let line = proxy.wait_for_log("PW512");
    assert!(line.contains("no host was named in TLS"), "{line}");
}

#[test]
fn a_connection_serves_all_hosts_of_the_same_policy() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "one.example", "")
        .with(&certs, "two.example", "")
        .start();
    let mut visitor = dial(proxy.address(), &client(|_| ()), Some("two.example"));
    for host in ["two.example", "one.example", "two.example"] {
        assert_eq!(ask(&mut visitor, "/", host), (200, host.to_owned()));
    }
}

/// CVE-2025-23048: who was let in by one host is not welcome at another for that.
#[test]
fn a_request_for_a_host_of_another_policy_is_misdirected() {
    let (certs, origin) = (Certs::new(), origin());
    let closed = "SSLVerifyClient require\nSSLCACertificateFile ca.pem";
    for (lines, what) in [
        (closed, "certificates of clients"),
        ("SSLProtocol TLSv1.3", "versions"),
        ("SSLCipherSuite ECDHE+AESGCM", "ciphers"),
        ("SSLCipherSuite TLSv1.3 TLS_AES_256_GCM_SHA384", "suites"),
    ] {
        let open_first = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
            .with(&certs, "open.example", "")
            .with(&certs, "closed.example", lines);
        let closed_first = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
            .with(&certs, "closed.example", lines)
            .with(&certs, "open.example", "");
        for (hosts, is_open_first) in [(open_first, true), (closed_first, false)] {
            let proxy = hosts.start();
            let mut names = vec![Some("open.example")];
            if is_open_first {
                // What leads to the first host, leads nowhere else.
                names.extend([None, Some("closed.example.evil"), Some("nobody.example")]);
            }
            for name in names {
                let mut visitor = dial(proxy.address(), &client(|_| ()), name);
                for (target, host) in [
                    ("/", "closed.example"),
                    ("/", "CLOSED.example"),
                    ("/", "closed.example."),
                    ("/", "closed.example:443"),
                    ("https://closed.example/", "open.example"),
                    ("http://closed.example/", "closed.example"),
                ] {
                    let found = ask(&mut visitor, target, host);
                    assert_eq!(found.0, 421, "{what}: {name:?} {target} {host}");
                    // The connection is still good for whom it was made for.
                    let found = ask(&mut visitor, "/", "open.example");
                    assert_eq!(found, (200, "open.example".to_owned()), "{what}");
                }
            }
            let line = proxy.wait_for_log("PW117");
            assert!(line.contains("closed.example"), "{line}");
        }
    }
}

/// Without a host in the request it is the first one's.
#[test]
fn a_request_that_names_no_host_gets_no_further_than_its_connection() {
    let (certs, origin) = (Certs::new(), origin());
    let closed = "SSLVerifyClient require\nSSLCACertificateFile ca.pem";
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "closed.example", closed)
        .with(&certs, "open.example", "")
        .start();
    let mut visitor = dial(proxy.address(), &client(|_| ()), Some("open.example"));
    visitor.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(visitor.answer_to("GET").status(), 421);
    assert!(origin.others().is_empty());
}

#[test]
fn each_host_speaks_the_versions_of_its_own() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "new.example", "SSLProtocol TLSv1.3")
        .with(&certs, "old.example", "SSLProtocol TLSv1.2")
        .start();
    let version = |set_up: &dyn Fn(&mut SslContextBuilder), name| {
        let mut visitor = try_dial(proxy.address(), &client(set_up), Some(name)).ok()?;
        Some(visitor.tls().ssl().version_str())
    };
    let any = |_: &mut SslContextBuilder| ();
    assert_eq!(version(&any, "new.example"), Some("TLSv1.3"));
    assert_eq!(version(&any, "old.example"), Some("TLSv1.2"));
    assert_eq!(version(&exactly(SslVersion::TLS1_2), "new.example"), None);
    assert_eq!(version(&exactly(SslVersion::TLS1_3), "old.example"), None);
}

#[test]
fn a_host_with_tls_cannot_be_asked_in_plain_http() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0", &origin)
        .plain("plain.example", "")
        .with(&certs, "secure.example", "")
        .start();
    let mut visitor = Client::connect(proxy.address());
    assert_eq!(ask(&mut visitor, "/", "secure.example").0, 421);
    let found = ask(&mut visitor, "/", "plain.example");
    assert_eq!(found, (200, "plain.example".to_owned()));
    // And one without TLS not by those who speak TLS.
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "secure.example", "")
        .plain("plain.example", "SSLEngine Off")
        .start();
    let mut visitor = dial(proxy.address(), &client(|_| ()), Some("plain.example"));
    assert_eq!(shown_to(&mut visitor), "secure.example");
    assert_eq!(ask(&mut visitor, "/", "plain.example").0, 421);
    let lines = proxy.wait_for_lines("access.log", 1);
    assert_eq!(lines, ["plain.example plain.example 421"]);
}

#[test]
fn a_tunnel_to_a_host_of_another_policy_is_misdirected_as_well() {
    let (certs, origin) = (Certs::new(), origin());
    let proxy = Hosts::new(&certs, "127.0.0.1:0 https", &origin)
        .with(&certs, "open.example", "")
        .with(
            &certs,
            "closed.example",
            "SSLVerifyClient require\nSSLCACertificateFile ca.pem",
        )
        .start();
    let mut visitor = dial(proxy.address(), &client(|_| ()), Some("open.example"));
    let request = crate::support::client::request("/").replace("front.example", "closed.example");
    visitor.send(request);
    visitor.answer().expect_status(421);
}
