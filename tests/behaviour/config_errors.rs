//! What the operator is told when his configuration is wrong: file, line, directive, what was found, what was expected.

use crate::support::TempDir;
use crate::support::proxy::{check, root, run};
use std::net::TcpListener;

/// Fails unless the only complaint stands at this line, begins with `directive` and holds `parts`.
#[track_caller]
fn expect_error(config: &str, line: usize, directive: &str, parts: &[&str]) {
    let checked = check(config).expect_status(1);
    let place = format!("proxy.conf:{line}: {directive}: ");
    let complaints: Vec<&str> = checked
        .stderr
        .lines()
        .filter(|line| line.contains("proxy.conf:") && !line.contains(": warning: "))
        .collect();
    assert_eq!(complaints.len(), 1, "{config}: {}", checked.stderr);
    let (_, said) = complaints[0]
        .split_once(&place)
        .unwrap_or_else(|| panic!("no {place:?} in {}", checked.stderr));
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {}", checked.stderr);
    }
    assert!(!checked.stderr.contains("Syntax OK"), "{}", checked.stderr);
}

#[test]
fn each_error_says_where_it_is_what_was_found_and_what_was_expected() {
    for (line, directive, parts) in [
        ("ProxyPas /ws/ ws://h/", "ProxyPas", &["ProxyPass"][..]),
        (
            "ProxyWebsocketIdelTimeout 5",
            "ProxyWebsocketIdelTimeout",
            &["ProxyWebsocketIdleTimeout"],
        ),
        (
            "ProxyPass /ws/ ws://h/ timout=5",
            "ProxyPass",
            &["timout", "timeout"],
        ),
        (
            "ProxyPass /ws/ ws://h/ timeout=soon",
            "ProxyPass",
            &["soon"],
        ),
        (
            "ProxyPass /ws/ ws://h/ upgrade=two,words",
            "ProxyPass",
            &["two,words"],
        ),
        ("ProxyPass /ws/", "ProxyPass", &[]),
        ("ProxyPass /ws/ ws://h:99999/", "ProxyPass", &["99999"]),
        ("ProxyPass /ws/ ws:///", "ProxyPass", &["ws:///"]),
        (
            "ProxyPass /ws/ gopher://h/",
            "ProxyPass",
            &["gopher", "ws://"],
        ),
        (
            "ProxyWebsocketIdleTimeout 5 apples",
            "ProxyWebsocketIdleTimeout",
            &[],
        ),
        (
            "ProxyWebsocketIdleTimeout 5m",
            "ProxyWebsocketIdleTimeout",
            &["5m"],
        ),
        (
            "ProxyWebsocketIdleTimeout -5",
            "ProxyWebsocketIdleTimeout",
            &["-5"],
        ),
        ("Timeout never", "Timeout", &["never"]),
        (
            "ProxyPreserveHost maybe",
            "ProxyPreserveHost",
            &["maybe", "On"],
        ),
        ("MaxRequestWorkers 0", "MaxRequestWorkers", &["0"]),
        ("ListenBacklog 0", "ListenBacklog", &["0"]),
        ("LimitRequestFields lots", "LimitRequestFields", &["lots"]),
        ("Listen nowhere", "Listen", &["nowhere"]),
        ("Listen 127.0.0.1", "Listen", &["127.0.0.1"]),
        ("Listen 127.0.0.1:65536", "Listen", &["65536"]),
        ("LogLevel loud", "LogLevel", &["loud"]),
        ("LogFormat \"%Z\" odd", "LogFormat", &["%Z"]),
        ("CustomLog access.log \"%{HOME}f\"", "CustomLog", &["%"]),
        (
            "RequestReadTimeout header=soon",
            "RequestReadTimeout",
            &["soon"],
        ),
        (
            "SSLProxyVerify sometimes",
            "SSLProxyVerify",
            &["sometimes", "require"],
        ),
        (
            "Include missing/file.conf",
            "Include",
            &["missing/file.conf"],
        ),
        (
            "LoadModule php_module modules/mod_php.so",
            "LoadModule",
            &["php"],
        ),
    ] {
        let config = format!("Listen 127.0.0.1:0\n# a comment\n\n{line}\n");
        expect_error(&config, 4, directive, parts);
    }
}

#[test]
fn what_is_not_done_is_refused_by_name_with_a_way_out() {
    for (line, directive, hint) in [
        (
            "ProxyWebsocketFallbackToProxyHttp On",
            "ProxyWebsocketFallbackToProxyHttp",
            "RewriteRule",
        ),
        (
            "ProxyPassMatch ^/(ws)$ ws://$1/",
            "ProxyPassMatch",
            "in the path only",
        ),
        ("ProxyRequests On", "ProxyRequests", "forward proxy"),
        (
            "ProxyPass /a/ http://h/ upgrade=websocket",
            "ProxyPass",
            "\"ws://h/\"",
        ),
        ("ChrootDir /srv", "ChrootDir", "RootDirectory="),
    ] {
        let config = format!("Listen 127.0.0.1:0\n{line}\n");
        expect_error(&config, 2, directive, &[hint]);
    }
    check("Listen 127.0.0.1:0\nProxyWebsocketFallbackToProxyHttp Off").expect_status(0);
}

#[test]
fn all_errors_of_a_file_are_told_in_one_run_and_in_order() {
    let checked = check(
        "Listen 127.0.0.1:0\nTimeout never\nProxyPas /a/ ws://h/\nProxyPass /b/ ws://h/ timout=5\n\
         <VirtualHost *:*>\nMaxRequestWorkers 5\n</VirtualHost>\nProxyAddHeaders perhaps\n",
    )
    .expect_status(1);
    let lines: Vec<usize> = checked
        .stderr
        .lines()
        .filter_map(|line| {
            line.split_once("proxy.conf:")?
                .1
                .split(':')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(lines, [2, 3, 4, 6, 8], "{}", checked.stderr);
}

#[test]
fn a_directive_in_the_wrong_place_is_told_where_it_belongs() {
    let config = "Listen 127.0.0.1:0\n<VirtualHost *:*>\nListen 127.0.0.1:0\n</VirtualHost>\n";
    expect_error(config, 3, "Listen", &["virtual host", "server config"]);
}

#[test]
fn sections_have_to_be_closed_and_in_order() {
    for config in [
        "<VirtualHost *:*>\n",
        "</VirtualHost>\n",
        "<VirtualHost *:*>\n</IfModule>\n",
        "<VirtualHost *:*\n</VirtualHost>\n",
        "<IfDefine X>\n",
        "<IfModule !mod_proxy.c>\n</VirtualHost>\n",
    ] {
        let checked = check(&format!("Listen 127.0.0.1:0\n{config}")).expect_status(1);
        assert!(
            checked.stderr.contains("proxy.conf:"),
            "{config}: {}",
            checked.stderr
        );
    }
}

#[test]
fn an_error_in_an_included_file_is_told_of_that_file() {
    let directory = TempDir::new();
    directory.write("conf.d/b.conf", "Timeout 5\nTimeout never\n");
    directory.write("conf.d/a.conf", "ProxyPass /ws/ ws://h/\n");
    let main = directory.write(
        "proxy.conf",
        format!(
            "ServerRoot \"{}\"\nListen 127.0.0.1:0\nIncludeOptional none.d/*.conf\nInclude conf.d/*.conf\n",
            directory.path().display()
        ),
    );
    let checked = run(&["-t", "-f", main.to_str().unwrap()]).expect_status(1);
    assert!(
        checked.stderr.contains("conf.d/b.conf:2: Timeout: "),
        "{}",
        checked.stderr
    );
}

#[cfg(feature = "tls")]
#[test]
fn sslproxyengine_off_beside_a_wss_entry_is_an_error() {
    let config = "Listen 127.0.0.1:0\nSSLProxyEngine Off\nProxyPass /wss/ wss://h/\n";
    let checked = check(config).expect_status(1);
    assert!(
        checked.stderr.contains("SSLProxyEngine"),
        "{}",
        checked.stderr
    );
    check("Listen 127.0.0.1:0\nSSLProxyEngine Off\nProxyPass /ws/ ws://h/\n").expect_status(0);
}

#[cfg(feature = "tls")]
#[test]
fn sslproxyengine_on_beside_a_wss_entry_changes_nothing() {
    check("Listen 127.0.0.1:0\nSSLProxyEngine On\nProxyPass /wss/ wss://h/\n").expect_status(0);
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_a_wss_entry_is_refused() {
    let config = "Listen 127.0.0.1:0\nProxyPass /wss/ wss://h/\n";
    let checked = check(config).expect_status(1);
    assert!(checked.stderr.contains("wss"), "{}", checked.stderr);
}

#[test]
fn a_file_that_is_not_there_and_a_configuration_without_listen_are_errors() {
    let finished = run(&["-t", "-f", "/nonexistent/proxy.conf"]).expect_status(1);
    assert!(
        finished.stderr.contains("/nonexistent/proxy.conf"),
        "{}",
        finished.stderr
    );
    let finished = check("ProxyPass /ws/ ws://h/\n").expect_status(1);
    assert!(finished.stderr.contains("Listen"), "{}", finished.stderr);
}

#[test]
fn a_configuration_with_errors_does_not_start() {
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", "Listen 127.0.0.1:0\nTimeout never\n");
    let finished = run(&["-f", file.to_str().unwrap()]).expect_status(1);
    assert!(
        finished.stderr.contains("proxy.conf:2: Timeout: "),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("ready: "), "{}", finished.stderr);
}

#[test]
fn an_address_that_is_taken_is_told_with_its_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", format!("\nListen {address}\n{}\n", root()));
    let finished = run(&["-f", file.to_str().unwrap()]).expect_status(1);
    assert!(
        finished.stderr.contains(&address.to_string()),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("proxy.conf:2"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.to_lowercase().contains("in use"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_ca_file_that_cannot_be_read_is_an_error_at_its_line() {
    let directory = TempDir::new();
    directory.write("junk.pem", "this is no certificate\n");
    for name in ["none.pem", "junk.pem"] {
        let file = directory.write(
            "proxy.conf",
            format!(
                "ServerRoot \"{}\"\nListen 127.0.0.1:0\nSSLProxyCACertificateFile {name}\nProxyPass /wss/ wss://h/\n",
                directory.path().display()
            ),
        );
        let finished = run(&["-f", file.to_str().unwrap()]).expect_status(1);
        assert!(
            finished
                .stderr
                .contains("proxy.conf:3: SSLProxyCACertificateFile: "),
            "{}",
            finished.stderr
        );
        assert!(finished.stderr.contains(name), "{}", finished.stderr);
    }
}
