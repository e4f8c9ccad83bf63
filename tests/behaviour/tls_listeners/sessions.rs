//! Sessions that are resumed, and those that must not be.

use super::{certificate, directory, s_client, write};
use crate::support::http::{Origin, Reply};
use crate::support::{Certs, Proxy};
use std::path::PathBuf;

/// Hosts that anybody may ask, and hosts that want a certificate of their own authority.
struct Stage {
    origin: Origin,
    proxy: Proxy,
    config: String,
}

/// What a visit came to.
#[derive(Debug)]
struct Visit {
    told: String,
}

impl Visit {
    fn is_resumed(&self) -> bool {
        self.told.contains("\nReused, ")
    }

    fn status(&self) -> Option<u16> {
        let (_, status) = self.told.split_once("HTTP/1.1 ")?;
        status.get(..3)?.parse().ok()
    }
}

impl Stage {
    #[track_caller]
    fn new(lines: &str) -> Self {
        let [ours, theirs] = [(), ()].map(|()| Certs::new());
        let directory = directory(
            &ours,
            &[
                "open.example",
                "other.example",
                "closed.example",
                "foreign.example",
            ],
        );
        directory.write("theirs.pem", theirs.pem());
        write(&directory, "client", &ours.server("client"));
        let origin =
            Origin::new(|request| Reply::ok(request.field("X-Client").unwrap_or_default()));
        let host = |name, lines| {
            format!(
                "<VirtualHost *>\nServerName {name}\n{}{lines}\n</VirtualHost>\n",
                certificate(name)
            )
        };
        let closed = |file| format!("SSLVerifyClient require\nSSLCACertificateFile {file}");
        let config = format!(
            "Listen 127.0.0.1:0 https\nProxyPass / {}/\nRequestHeader set X-Client %{{SSL_CLIENT_VERIFY}}s\n\
             CustomLog access.log \"%V %{{SSL_SESSION_RESUMED}}x %{{SSL_CLIENT_VERIFY}}x %>s\"\n{lines}\n{}{}{}{}",
            origin.url(),
            host("open.example", String::new()),
            host("other.example", String::new()),
            host("closed.example", closed("ca.pem")),
            host("foreign.example", closed("theirs.pem")),
        );
        let proxy = Proxy::start_in(directory, &config, "");
        Self {
            origin,
            proxy,
            config,
        }
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.proxy.directory().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Asks `host` for a page, and has the other arguments besides.
    fn visit(&self, version: &str, name: &str, host: &str, more: &[&str]) -> Option<Visit> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let arguments = [&[version, "-ign_eof", "-servername", name], more].concat();
        let told = s_client(self.proxy.address(), &arguments, &request)?;
        Some(Visit { told })
    }
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
fn a_host_resumes_its_own_sessions() {
    let stage = Stage::new("");
    let (session, own) = (stage.file("session"), stage.file("client.pem"));
    let key = stage.file("client.key");
    let shown = ["-cert", &own, "-key", &key];
    for (version, (name, shown)) in VERSIONS.into_iter().flat_map(|version| {
        [("open.example", &[][..]), ("closed.example", &shown)].map(|who| (version, who))
    }) {
        let keep = [&["-sess_out", &session], shown].concat();
        let Some(first) = stage.visit(version, name, name, &keep) else {
            return;
        };
        assert_eq!(
            (first.status(), first.is_resumed()),
            (Some(200), false),
            "{first:?}"
        );
        // The certificate of the client is known from the first time.
        let again = stage
            .visit(version, name, name, &["-sess_in", &session])
            .unwrap();
        assert_eq!(
            (again.status(), again.is_resumed()),
            (Some(200), true),
            "{again:?}"
        );
    }
    let lines = stage.proxy.wait_for_lines("access.log", 8);
    let expected = [
        "open.example Initial NONE 200",
        "open.example Resumed NONE 200",
        "closed.example Initial SUCCESS 200",
        "closed.example Resumed SUCCESS 200",
    ];
    assert_eq!(lines, [expected, expected].concat());
}

/// CVE-2025-23048
#[test]
fn no_host_resumes_a_session_of_another() {
    let stage = Stage::new("");
    let (session, own) = (stage.file("session"), stage.file("client.pem"));
    let key = stage.file("client.key");
    let shown = ["-cert", &own, "-key", &key];
    let mut count = 0;
    for version in VERSIONS {
        for (made_at, used_at, status) in [
            // Who has shown no certificate is not let in where one is wanted.
            ("open.example", "closed.example", None),
            // Who has shown one is a stranger where it was not asked for, and where another authority counts.
            ("closed.example", "open.example", Some(200)),
            ("closed.example", "foreign.example", None),
            ("open.example", "other.example", Some(200)),
        ] {
            let who = if made_at == "closed.example" {
                &shown[..]
            } else {
                &[]
            };
            let keep = [&["-sess_out", &session], who].concat();
            let Some(first) = stage.visit(version, made_at, made_at, &keep) else {
                return;
            };
            assert_eq!(first.status(), Some(200), "{first:?}");
            stage.origin.request();
            let again = stage
                .visit(version, used_at, used_at, &["-sess_in", &session])
                .unwrap();
            let what = format!("{version} {made_at} {used_at}: {again:?}");
            assert_eq!(again.status(), status, "{what}");
            assert!(!again.is_resumed(), "{what}");
            count += 1;
            if status.is_some() {
                count += 1;
                assert_eq!(
                    stage.origin.request().field("X-Client").as_deref(),
                    Some("NONE")
                );
            }
            // And named in the one way, asked in the other.
            let aside = stage
                .visit(version, made_at, used_at, &["-sess_in", &session])
                .unwrap();
            let expected = if (made_at, used_at) == ("open.example", "other.example") {
                200
            } else {
                421
            };
            assert_eq!(
                aside.status(),
                Some(expected),
                "{version} {made_at} {used_at}: {aside:?}"
            );
            count += 1;
            stage.origin.others();
        }
    }
    stage.proxy.wait_for_lines("access.log", count);
    assert!(stage.origin.others().is_empty());
}

#[test]
fn sslsessiontickets_off_leaves_nothing_to_resume() {
    let stage = Stage::new("SSLSessionTickets Off");
    let session = stage.file("session");
    for version in VERSIONS {
        let Some(first) = stage.visit(
            version,
            "open.example",
            "open.example",
            &["-sess_out", &session],
        ) else {
            return;
        };
        assert_eq!(first.status(), Some(200), "{first:?}");
        assert!(!first.told.contains("session ticket:"), "{first:?}");
        let has_one = std::fs::metadata(&session).is_ok_and(|file| file.len() > 0);
        if has_one {
            let again = stage
                .visit(
                    version,
                    "open.example",
                    "open.example",
                    &["-sess_in", &session],
                )
                .unwrap();
            assert!(!again.is_resumed(), "{again:?}");
        }
    }
}

/// A ticket says that its bearer has shown a certificate once: of what counted then, and not of what counts now.
#[test]
fn no_session_outlives_a_reload() {
    let stage = Stage::new("");
    let [session, own, key] = ["session", "client.pem", "client.key"].map(|it| stage.file(it));
    let shown = ["-cert", &own, "-key", &key];
    let keep = ["-sess_out", &session];
    let resuming = ["-sess_in", &session];
    let files = ["ca.pem", "theirs.pem"].map(|it| std::fs::read(stage.file(it)).unwrap());
    let reload_with = |authorities: &[u8]| {
        std::fs::write(stage.file("ca.pem"), authorities).unwrap();
        stage.proxy.reload(&stage.config);
    };
    for version in VERSIONS {
        let visit = |name: &str, more: &[&str]| stage.visit(version, name, name, more);
        let Some(first) = visit("closed.example", &[&keep[..], &shown].concat()) else {
            return;
        };
        assert_eq!(first.status(), Some(200), "{first:?}");
        reload_with(&files[1]);
        for more in [&resuming[..], &[&resuming[..], &shown].concat()] {
            let again = visit("closed.example", more).unwrap();
            assert_eq!(again.status(), None, "{again:?}");
            assert!(!again.is_resumed(), "{again:?}");
        }
        // Nor does one of before the last but one, when its authority counts again.
        reload_with(&files[0]);
        let again = visit("closed.example", &resuming).unwrap();
        assert_eq!(again.status(), None, "{again:?}");
        // Whoever can show what is asked for is let in, and has lost a moment.
        for (name, more) in [
            ("closed.example", [&resuming[..], &shown].concat()),
            ("open.example", resuming.to_vec()),
        ] {
            if name == "open.example" {
                visit(name, &keep).unwrap();
                reload_with(&files[0]);
            }
            let again = visit(name, &more).unwrap();
            assert_eq!(again.status(), Some(200), "{again:?}");
            assert!(!again.is_resumed(), "{again:?}");
        }
    }
    // Who was refused has reached nobody.
    let seen = stage.origin.others().len();
    assert_eq!(seen, 4 * VERSIONS.len());
}
