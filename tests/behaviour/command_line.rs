//! The options, as httpd's users write them.

use crate::support::proxy::{BINARY, Finished, root, run};
use crate::support::{BOUND, TempDir};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Runs with `-f` on this configuration.
pub fn with_file(config: &str, arguments: &[&str]) -> Finished {
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", config);
    let mut all = vec!["-f", file.to_str().unwrap()];
    all.extend_from_slice(arguments);
    run(&all)
}

const GOOD: &str = "Listen 127.0.0.1:0\nProxyPass /ws/ ws://127.0.0.1:9/\n";

#[test]
fn t_checks_and_says_syntax_ok() {
    let finished = with_file(GOOD, &["-t"]).expect_status(0);
    assert!(finished.stderr.contains("Syntax OK"), "{finished:?}");
    assert_eq!(finished.stdout, "");
}

#[test]
fn s_prints_listeners_hosts_and_mappings() {
    let config = "Listen 127.0.0.1:8765\nListen [::1]:8765\nServerName main.example\nProxyPass /ws/ ws://backend.example:81/x/\n\
                  AllowEncodedSlashes NoDecode\nUseCanonicalName On\nRemoteIPHeader X-Client\n\
                  RemoteIPInternalProxy 10.0.0.0/8\nRemoteIPTrustedProxy 192.0.2.1\n\
                  <VirtualHost *:8765>\nServerName two.example\nProxyPass /two/ ws://two.example/\nProxyWebsocketAsync On\n\
                  <Proxy *>\nProxyPreserveHost On\n</Proxy>\n</VirtualHost>\n\
                  ProxyPassReverse /ws/ http://backend.example:81/x/\n";
    for option in ["-S", "-tS"] {
        let finished = with_file(config, &[option]).expect_status(0);
        for part in [
            "127.0.0.1:8765",
            "[::1]:8765",
            "main.example",
            "two.example",
            "/ws/",
            "ws://backend.example:81/x/",
            "/two/",
            "proxy.conf",
            "  asynchronous, after 0s\n",
            "  encoded slashes kept\n",
            "  client by X-Client, believed from 10.0.0.0/8, 192.0.2.1 (not for private addresses)\n",
            "  calls itself by its name\n",
            "  reverse http://backend.example:81/x/ -> /ws/\n",
            "  <Proxy \"*\">  [",
            "    preserve host On\n",
        ] {
            assert!(finished.stdout.contains(part), "no {part}: {finished:?}");
        }
        assert!(!finished.stderr.contains("Syntax OK"), "{finished:?}");
    }
}

#[test]
fn l_lists_the_directives_with_syntax_default_and_contexts() {
    let finished = run(&["-L"]).expect_status(0);
    for name in [
        "ServerRoot",
        "Listen",
        "ServerName",
        "ProxyPass",
        "ProxyWebsocketIdleTimeout",
        "ProxyWebsocketFallbackToProxyHttp",
        "ProxyTimeout",
        "Timeout",
        "RequestReadTimeout",
        "LimitRequestLine",
        "LimitRequestFieldSize",
        "LimitRequestFields",
        "MaxRequestWorkers",
        "ThreadStackSize",
        "ListenBacklog",
        "ProxyPreserveHost",
        "ProxyAddHeaders",
        "SSLProxyEngine",
        "SSLProxyVerify",
        "SSLProxyCACertificateFile",
        "ErrorLog",
        "LogLevel",
        "CustomLog",
        "LogFormat",
        "PidFile",
        "Include",
        "IncludeOptional",
        "Define",
        "LoadModule",
    ] {
        let found = finished
            .stdout
            .lines()
            .any(|line| line.split_whitespace().next() == Some(name));
        assert!(found, "no {name}: {}", finished.stdout);
    }
    assert!(
        finished.stdout.contains("server config, virtual host"),
        "{}",
        finished.stdout
    );
}

#[test]
fn v_says_name_and_version() {
    let finished = run(&["-v"]).expect_status(0);
    let version = env!("CARGO_PKG_VERSION");
    assert!(finished.stdout.contains("proxy-wstunnel"), "{finished:?}");
    assert!(finished.stdout.contains(version), "{finished:?}");
}

#[test]
fn help_goes_to_stdout_and_is_no_error() {
    let finished = run(&["--help"]).expect_status(0);
    for option in ["-f", "-t", "-c", "-C", "-D", "-S", "-L", "-v"] {
        assert!(
            finished.stdout.contains(option),
            "no {option}: {finished:?}"
        );
    }
}

#[test]
fn d_defines_a_name_attached_or_apart_and_may_be_repeated() {
    let config =
        format!("{GOOD}<IfDefine ONE>\n<IfDefine TWO>\nTimeout never\n</IfDefine>\n</IfDefine>\n");
    with_file(&config, &["-t"]).expect_status(0);
    with_file(&config, &["-t", "-DONE"]).expect_status(0);
    for arguments in [
        ["-t", "-DONE", "-D", "TWO"].as_slice(),
        &["-DTWO", "-t", "-DONE"],
        &["-tDONE", "-DTWO"],
    ] {
        with_file(&config, arguments).expect_status(1);
    }
    // What httpd's users have in their scripts.
    with_file(GOOD, &["-t", "-DFOREGROUND"]).expect_status(0);
    with_file(GOOD, &["-t", "-D", "FOREGROUND"]).expect_status(0);
}

#[test]
fn directives_may_come_before_and_after_the_file() {
    let finished = with_file(
        "Listen 127.0.0.1:0\n<IfDefine EARLY>\nTimeout never\n</IfDefine>\n",
        &["-t", "-C", "Define EARLY"],
    );
    assert_eq!(finished.status, 1, "{finished:?}");
    let finished = with_file(
        "Listen 127.0.0.1:0\n<IfDefine LATE>\nTimeout never\n</IfDefine>\n",
        &["-t", "-c", "Define LATE"],
    );
    assert_eq!(finished.status, 0, "{finished:?}");
    let finished = with_file(GOOD, &["-t", "-c", "Timeout never"]).expect_status(1);
    assert!(finished.stderr.contains("-c"), "{finished:?}");
    assert!(finished.stderr.contains("Timeout: "), "{finished:?}");
    // Repeated, attached, in their order.
    with_file(
        GOOD,
        &["-t", "-cTimeout 5", "-c", "ProxyTimeout 5", "-CDefine X"],
    )
    .expect_status(0);
}

#[test]
fn without_a_file_c_is_a_complete_configuration() {
    run(&["-t", "-c", "Listen 127.0.0.1:0"]).expect_status(0);
    run(&[
        "-t",
        "-c",
        "Listen 127.0.0.1:0",
        "-c",
        "ProxyPass /ws/ ws://h/",
    ])
    .expect_status(0);
    run(&["-t", "-c", "ProxyPass /ws/ ws://h/"]).expect_status(1);
}

#[test]
fn without_file_and_c_the_file_is_the_one_of_the_system() {
    let path = "/etc/proxy-wstunnel/proxy-wstunnel.conf";
    if std::path::Path::new(path).exists() {
        println!("skipped: {path} is there");
        return;
    }
    let finished = run(&["-t"]).expect_status(1);
    assert!(finished.stderr.contains(path), "{finished:?}");
}

#[test]
fn wrong_usage_is_told_and_exits_with_1() {
    for arguments in [
        ["-x"].as_slice(),
        &["--no-such-option"],
        &["stray"],
        &["-t", "stray"],
        &["-f"],
        &["-D"],
        &["-tX"],
    ] {
        let finished = run(arguments).expect_status(1);
        assert!(!finished.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn options_may_be_grouped_and_attached() {
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", GOOD);
    let file = file.to_str().unwrap();
    run(&["-tf", file]).expect_status(0);
    run(&["-t", &format!("-f{file}")]).expect_status(0);
}

/// A running proxy without a file, stopped by hand.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn it_runs_from_the_command_line_alone_and_stops_on_sigint() {
    let child = Command::new(BINARY)
        .args([
            "-c",
            "Listen 127.0.0.1:0",
            "-c",
            "ProxyPass /ws/ ws://127.0.0.1:9/",
            "-c",
            root(),
            "-DFOREGROUND",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Bare(child);
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let ready = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("ready: listening on 127.0.0.1:"));
    assert!(ready.is_some());
    let id = i32::try_from(child.0.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let mut status = None;
    crate::support::wait_until("the proxy to end", BOUND, || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
}
