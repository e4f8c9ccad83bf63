//! Who the process is, and what it may open. Most of it takes root, as which CI runs the tests.

use crate::support::proxy::{BINARY, check, lines_of, run};
use crate::support::{
    BOUND, Backend, Client, Proxy, TempDir, both_ends, each_mode, missing, wait_until,
};
use rustix::process::{Signal, geteuid};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// `nobody`, by custom.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        missing("the right to become another user, which root has");
    }
    is_root
}

/// A folder that everybody may enter, and the user may write to.
fn folder() -> TempDir {
    let folder = TempDir::below(&std::env::temp_dir());
    set_mode(folder.path(), 0o755);
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    folder
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What the kernel says of each thread, by its name.
fn threads(proxy: &Proxy) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        // One may end meanwhile.
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let fields = lines.map(|(name, value)| {
            let words: Vec<_> = value.split_whitespace().collect();
            (name.to_owned(), words.join(" "))
        });
        let fields: BTreeMap<_, _> = fields.collect();
        Some((fields["Name"].clone(), fields))
    };
    tasks.filter_map(of_task).collect()
}

/// Holds every thread to be that user and no other, without any right beyond `capabilities`.
#[track_caller]
fn expect_user(proxy: &Proxy, user: u32, group: u32, groups: &str, capabilities: u64) {
    let threads = threads(proxy);
    assert!(threads.len() >= 3, "{threads:#?}");
    for (name, fields) in threads {
        let four = |number: u32| [(); 4].map(|()| number.to_string()).join(" ");
        assert_eq!(fields["Uid"], four(user), "{name}");
        assert_eq!(fields["Gid"], four(group), "{name}");
        assert_eq!(fields["Groups"], groups, "{name}");
        assert_eq!(fields["NoNewPrivs"], "1", "{name}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let found = u64::from_str_radix(&fields[set], 16).unwrap();
            // The one of the logs, which was there before, has none in any case.
            let expected = if name == "log" { 0 } else { capabilities };
            assert_eq!(found, expected, "{set} of {name}");
        }
    }
}

each_mode! {
    fn all_threads_become_the_user_for_good(mode: Mode) {
        if !is_root() {
            return;
        }
        let backend = Backend::listen();
        let config = format!("User nobody\n{}\nProxyPass /ws/ {}/", mode.directives(), backend.url());
        let mut proxy = Proxy::start_in(folder(), config, "");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send("as nobody");
        peer.expect("as nobody");
        let id = |option: &str| {
            let output = Command::new("id").args([option, "nobody"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let group = id("-g").parse().unwrap();
        expect_user(&proxy, id("-u").parse().unwrap(), group, &id("-G"), 0);
        drop((client, peer));
        proxy.stop();
    }
}

#[test]
fn numbers_do_where_there_are_no_names() {
    if !is_root() {
        return;
    }
    let mut proxy = Proxy::start_in(folder(), "User #54321\nGroup #54322", "");
    expect_user(&proxy, 54321, 54322, "54322", 0);
    proxy.stop();
    let finished = run(&["-c", "Listen 127.0.0.1:0", "-c", "User #54321"]).expect_status(1);
    assert!(
        finished
            .stderr
            .contains("-c:2: User: #54321 has no name, and so no group"),
        "{finished:?}"
    );
}

#[test]
fn a_user_or_group_that_is_not_there_is_an_error_of_its_line() {
    for (line, expected) in [
        (
            "User no-such-user",
            "proxy.conf:2: User: there is no user \"no-such-user\"",
        ),
        (
            "User nobody\nGroup no-such-group",
            "proxy.conf:3: Group: there is no group \"no-such-group\"",
        ),
    ] {
        let finished = check(&format!("Listen 127.0.0.1:0\n{line}\n")).expect_status(1);
        assert!(finished.stderr.contains(expected), "{finished:?}");
    }
}

#[test]
fn root_is_refused_unless_user_says_so() {
    if !is_root() {
        return;
    }
    let finished = run(&["-c", "Listen 127.0.0.1:0"]).expect_status(1);
    assert!(
        finished
            .stderr
            .contains("started as root, and no User says"),
        "{finished:?}"
    );
    // It may be meant for another user, who needs no such line.
    run(&["-t", "-c", "Listen 127.0.0.1:0"]).expect_status(0);
    for line in ["User root", "User #0"] {
        let mut proxy = Proxy::start(line);
        proxy.wait_for_log("it serves as root, as User says");
        for (name, fields) in threads(&proxy) {
            assert_eq!(fields["NoNewPrivs"], "1", "{name}");
        }
        proxy.stop();
    }
}

/// The address of its own that this test has, with a port that is not for everybody.
fn low_port(host: u8) -> Option<SocketAddr> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() < 2 {
        println!("skipped: every port is for everybody here");
        return None;
    }
    let pid = std::process::id().to_be_bytes();
    Some((Ipv4Addr::new(127, pid[2] | 1, pid[3], host), 1).into())
}

#[test]
fn where_a_port_takes_it_the_capability_for_it_is_kept_and_nothing_else() {
    let (true, Some(first), Some(second)) = (is_root(), low_port(1), low_port(2)) else {
        return;
    };
    let config = format!("Listen {first}\nUser nobody\nGroup #{NOBODY}");
    let directory = folder();
    let mut proxy = Proxy::start_in(directory, &config, "");
    // CAP_NET_BIND_SERVICE is the tenth.
    expect_user(&proxy, NOBODY, NOBODY, &NOBODY.to_string(), 1 << 10);
    let addresses = proxy.reload(format!("{config}\nListen {second}"));
    assert_eq!(addresses, [first, second]);
    Client::connect(second);
    proxy.stop();
}

#[test]
fn logs_and_pidfile_are_the_user_s_and_are_opened_again_and_removed_by_it() {
    if !is_root() {
        return;
    }
    let config = "User nobody\nErrorLog error.log\nCustomLog access.log %s\nPidFile pid";
    let mut proxy = Proxy::start_in(folder(), config, "");
    let file = |name: &str| proxy.directory().join(name);
    for name in ["error.log", "access.log"] {
        assert_eq!(
            std::fs::metadata(file(name)).unwrap().uid(),
            NOBODY,
            "{name}"
        );
        std::fs::rename(file(name), file(&format!("{name}.1"))).unwrap();
    }
    proxy.signal(Signal::USR1);
    let log = file("error.log");
    wait_until("the reload", BOUND, || {
        lines_of(&log)
            .iter()
            .any(|line| line.contains("] reloaded: "))
    });
    let said = [lines_of(&file("error.log.1")), lines_of(&log)].concat();
    assert!(!said.iter().any(|line| line.contains("PW611")), "{said:#?}");
    assert_eq!(std::fs::metadata(file("access.log")).unwrap().uid(), NOBODY);
    let pid_file = file("pid");
    proxy.stop();
    assert!(!pid_file.exists());
}

#[test]
fn the_control_socket_is_the_user_s_and_is_changed_and_removed_by_it() {
    if !is_root() {
        return;
    }
    let directory = folder();
    let socket = directory.path().join("control");
    let config = format!(
        "Listen 127.0.0.1:0\nListen unix:{}\nUser nobody",
        socket.display()
    );
    let mut proxy = Proxy::start_in(directory, &config, "");
    let found = || {
        let found = std::fs::symlink_metadata(&socket).unwrap();
        (found.uid(), found.mode() & 0o777)
    };
    assert_eq!(found(), (NOBODY, 0o600));
    proxy.reload(format!("{config}\nControlSocketMode 0660"));
    assert_eq!(found(), (NOBODY, 0o660));
    proxy.stop();
    assert!(!socket.exists());
}

#[test]
fn a_control_socket_that_could_not_be_removed_is_said_at_start() {
    if !is_root() {
        return;
    }
    let directory = folder();
    let place = directory.path().join("run");
    std::fs::create_dir(&place).unwrap();
    set_mode(&place, 0o755);
    let socket = place.join("control");
    let config = format!(
        "Listen 127.0.0.1:0\nListen unix:{}\nUser nobody",
        socket.display()
    );
    let mut proxy = Proxy::start_in(directory, &config, "");
    let said = proxy.log_lines("PW611");
    let expected = format!(
        "control socket {}: its user can neither remove it",
        socket.display()
    );
    assert!(said.len() == 1 && said[0].contains(&expected), "{said:#?}");
    proxy.stop();
}

#[test]
fn root_does_not_write_where_the_link_of_another_leads() {
    if !is_root() {
        return;
    }
    let directory = folder();
    let precious = directory.write("precious", "");
    let link = directory.path().join("access.log");
    symlink(&precious, &link).unwrap();
    lchown(&link, Some(NOBODY), None).unwrap();
    let root = format!("ServerRoot {}", directory.path().display());
    let listen = "Listen 127.0.0.1:0";
    let log = "CustomLog access.log %s";
    let finished = run(&["-C", &root, "-c", listen, "-c", "User nobody", "-c", log]);
    let finished = finished.expect_status(1);
    let expected = "access.log: cannot be opened: it is a symbolic link of a user who is not root";
    assert!(finished.stderr.contains(expected), "{finished:?}");
    // One of root is root's word.
    lchown(&link, Some(0), None).unwrap();
    let mut proxy = Proxy::start_in(directory, format!("User nobody\n{log}"), "");
    proxy.stop();
}

#[test]
fn a_group_for_root_is_not_passed_over() {
    if !is_root() {
        return;
    }
    let group = format!("Group #{NOBODY}");
    let arguments = ["-c", "Listen 127.0.0.1:0", "-c", "User root", "-c", &group];
    let finished = run(&arguments).expect_status(1);
    let expected = "-c:3: Group: #65534 is not obeyed for a User that is root";
    assert!(finished.stderr.contains(expected), "{finished:?}");
}

/// What root alone can open: a log, a file of the configuration, and the folder of the PidFile.
fn forbidden(directory: &TempDir) -> String {
    for name in ["kept.log", "more.conf"] {
        let path = directory.write(name, "");
        set_mode(&path, 0o600);
    }
    let place = directory.path().join("run");
    std::fs::create_dir(&place).unwrap();
    set_mode(&place, 0o755);
    "User nobody\nCustomLog kept.log %s\nCustomLog open.log %s\nInclude more.conf\nPidFile run/pid\n".to_owned()
}

const EXPECTED: [&str; 3] = ["/more.conf", "/kept.log: Permission denied", "PidFile "];

#[test]
fn what_could_not_be_opened_again_is_said_at_start_a_line_for_each() {
    if !is_root() {
        return;
    }
    let directory = folder();
    let config = forbidden(&directory);
    let mut proxy = Proxy::start_in(directory, config, "");
    let said = proxy.log_lines("PW611");
    assert_eq!(said.len(), EXPECTED.len(), "{said:#?}");
    for part in EXPECTED {
        let found = said.iter().filter(|line| line.contains(part)).count();
        assert_eq!(found, 1, "{part}: {said:#?}");
    }
    // And so it is.
    proxy.signal(Signal::HUP);
    let line = proxy.wait_for_log("PW601 ");
    assert!(
        line.contains("/more.conf") && line.contains("ermission denied"),
        "{line}"
    );
    proxy.stop();
    proxy.wait_for_log("PW511 ");
}

#[test]
fn t_says_it_too_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let directory = folder();
    let config = forbidden(&directory);
    let root = directory.path().display();
    let file = directory.write(
        "proxy.conf",
        format!("ServerRoot \"{root}\"\nListen 127.0.0.1:0\nProxyPass / ws://b/\n{config}"),
    );
    let finished = run(&["-t", "-f", file.to_str().unwrap()]).expect_status(0);
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), EXPECTED.len() + 1, "{lines:#?}");
    for part in EXPECTED {
        let is_it = |line: &&&str| line.starts_with("warning: ") && line.contains(part);
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{part}: {lines:#?}");
    }
    assert_eq!(lines.last(), Some(&"Syntax OK"));
    assert!(!directory.path().join("open.log").exists());
}

#[cfg(feature = "tls")]
mod keys {
    use super::*;
    use crate::support::Certs;
    use crate::support::certs::Identity;
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    use std::net::TcpStream;
    use std::path::PathBuf;

    /// What root alone may read.
    fn secret(directory: &TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = directory.write(name, content);
        chown(&path, Some(0), Some(0)).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// A key for clients, and one for backends, which are out of the user's reach.
    fn directory(front: &Identity, me: &Identity) -> TempDir {
        let directory = folder();
        directory.write("cert.pem", front.pem());
        secret(&directory, "key.pem", &front.key_pem());
        secret(&directory, "me.pem", &[me.pem(), me.key_pem()].concat());
        directory
    }

    const CONFIG: &str = "Listen 127.0.0.1:0\nUser nobody\nSSLEngine On\nSSLCertificateFile cert.pem\n\
                          SSLCertificateKeyFile key.pem\nSSLProxyMachineCertificateFile me.pem\n\
                          ProxyPass / wss://localhost:9/\n";

    /// Where the lines are, behind those that tests begin with.
    const EXPECTED: [(&str, &str); 2] = [
        ("SSLCertificateKeyFile: ", "key.pem"),
        ("SSLProxyMachineCertificateFile: ", "me.pem"),
    ];

    #[track_caller]
    fn shown(proxy: &Proxy) -> Vec<u8> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        let tcp = TcpStream::connect(proxy.address()).unwrap();
        let made = builder.build().connect("localhost", tcp).unwrap();
        made.ssl().peer_certificate().unwrap().to_pem().unwrap()
    }

    #[test]
    fn are_read_before_and_a_reload_needs_them_again() {
        if !is_root() {
            return;
        }
        let certs = Certs::new();
        let (front, me) = (certs.server("localhost"), certs.server("me"));
        let mut proxy = Proxy::start_in(directory(&front, &me), CONFIG, "");
        let file = |name: &str| proxy.directory().join(name);
        let said = proxy.log_lines("PW611");
        assert_eq!(said.len(), EXPECTED.len(), "{said:#?}");
        for (line, (directive, name)) in said.iter().zip(EXPECTED) {
            for part in [
                "a reload would fail at ",
                "proxy.conf:",
                directive,
                name,
                "chmod g+r",
            ] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        assert!(shown(&proxy) == front.pem());
        // Renewed, and still for root alone.
        let next = certs.server("localhost");
        std::fs::write(file("cert.pem"), next.pem()).unwrap();
        std::fs::write(file("key.pem"), next.key_pem()).unwrap();
        let said = proxy.reload_refused(CONFIG);
        for ((directive, name), line) in EXPECTED.into_iter().zip(&said) {
            for part in [
                "proxy.conf:",
                directive,
                name,
                "ermission denied",
                "nobody",
                "chmod g+r",
            ] {
                assert!(line.contains(part), "{part}: {said:#?}");
            }
        }
        assert!(shown(&proxy) == front.pem());
        // The user's group may read them.
        for (_, name) in EXPECTED {
            chown(file(name), Some(0), Some(NOBODY)).unwrap();
            set_mode(&file(name), 0o640);
        }
        proxy.reload(CONFIG);
        assert!(shown(&proxy) == next.pem());
        proxy.stop();
    }

    #[test]
    fn that_a_reload_could_not_read_are_found_by_t() {
        if !is_root() {
            return;
        }
        let certs = Certs::new();
        let directory = directory(&certs.server("localhost"), &certs.server("me"));
        let text = format!("ServerRoot \"{}\"\n{CONFIG}", directory.path().display());
        let file = directory.write("proxy.conf", text);
        let finished = run(&["-t", "-f", file.to_str().unwrap()]).expect_status(0);
        let said: Vec<_> = finished.stderr.lines().collect();
        for (directive, name) in EXPECTED {
            let is_it = |line: &&&str| {
                line.starts_with("warning: a reload would fail at ")
                    && line.contains(directive)
                    && line.contains(name)
            };
            assert_eq!(said.iter().filter(is_it).count(), 1, "{name}: {said:#?}");
        }
        assert_eq!(said.last(), Some(&"Syntax OK"));
    }
}

#[test]
fn who_is_not_root_stays_who_he_is() {
    if !is_root() {
        return;
    }
    let directory = folder();
    // Where the binary is, not everybody may be.
    let binary = directory.path().join("proxy-wstunnel");
    std::fs::copy(BINARY, &binary).unwrap();
    let binary = binary.display();
    for (line, is_said) in [
        ("User nobody", false),
        ("User root", true),
        ("User #0", true),
        ("", false),
    ] {
        let start = format!(
            "exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups '{binary}' \"$@\""
        );
        let config = if line.is_empty() {
            "# User of its own\n"
        } else {
            line
        };
        let place = TempDir::below(&std::env::temp_dir());
        set_mode(place.path(), 0o755);
        let mut proxy = Proxy::start_in(place, config, &start);
        expect_user(&proxy, NOBODY, NOBODY, "", 0);
        assert_eq!(!proxy.log_lines("PW610").is_empty(), is_said, "{line}");
        proxy.stop();
    }
}

#[test]
fn another_user_takes_a_restart() {
    if !is_root() {
        return;
    }
    let mut proxy = Proxy::start_in(folder(), "User nobody", "");
    proxy.reload("User root\nGroup root");
    for line in [
        "PW602 User: nobody stays until a restart",
        "PW602 Group: none stays until a restart",
    ] {
        assert_eq!(proxy.log_lines(line).len(), 1, "{:#?}", proxy.log());
    }
    let (_, fields) = &threads(&proxy)[0];
    assert_ne!(fields["Uid"], "0 0 0 0");
    proxy.stop();
}

fn limits(proxy: &Proxy) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn the_limit_of_open_files_is_raised_and_what_is_missing_is_said() {
    let mut proxy = Proxy::start_in(TempDir::new(), "MaxRequestWorkers 10", "ulimit -Sn 64");
    let (soft, hard) = limits(&proxy);
    assert!(soft > 64 && soft == hard, "{soft} of {hard}");
    assert!(proxy.log_lines("PW609").is_empty());
    proxy.stop();
    let mut proxy = Proxy::start_in(TempDir::new(), "MaxRequestWorkers 300", "ulimit -n 1000");
    let line = proxy.wait_for_log("PW609 ");
    let expected = "the limit of open files is 1000, and 2056 may be needed for MaxRequestWorkers 300; \
                    raise the hard limit (LimitNOFILE=";
    assert!(line.contains(expected), "{line}");
    // The limits of a reload count as well.
    proxy.reload("MaxRequestWorkers 10");
    assert_eq!(proxy.log_lines("PW609").len(), 1);
    let config = "MaxRequestWorkers 10\nProxyWebsocketAsync On\nProxyPass / ws://b/\nProxyWebsocketAsyncMaxTunnels 700";
    proxy.reload(config);
    let said = proxy.log_lines("PW609");
    assert!(
        said[1].contains(
            " 1716 may be needed for MaxRequestWorkers 10 and ProxyWebsocketAsyncMaxTunnels 700"
        ),
        "{said:#?}"
    );
    proxy.stop();
}
