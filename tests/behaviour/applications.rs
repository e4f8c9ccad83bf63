//! Configurations as people bring them: what the documents of well-known applications tell them to write for Apache.
//! Each is loaded, asked for its mapping, and sends requests through; `tests/data/config/README.md` says how they are
//! written.

use crate::routes::table::{Case, Table, files};
use crate::routes::{compare, hold};
use crate::support::proxy::run;
use crate::support::{Httpd, TempDir, missing};
use std::fmt::Write as _;
use std::path::PathBuf;

/// What httpd needs for balancers.
const BALANCING: [&str; 5] = [
    "proxy_balancer",
    "lbmethod_byrequests",
    "lbmethod_bytraffic",
    "lbmethod_bybusyness",
    "slotmem_shm",
];

const FOLDER: &str = "tests/data/config/accepted/applications";

#[test]
fn each_application_s_mapping_is_what_its_file_says() {
    let directory = TempDir::new();
    let root = format!("ServerRoot {:?}", directory.path());
    let mut failures = String::new();
    for (file, text) in texts() {
        let path = file.to_str().unwrap();
        let checked = run(&["-C", &root, "-S", "-f", path]).expect_status(0);
        for expected in text.lines().filter_map(|line| line.strip_prefix("# -S: ")) {
            let found = checked.stdout.lines().map(str::trim);
            if !found.clone().any(|line| line.starts_with(expected)) {
                writeln!(failures, "{path}: {expected}\n{}", checked.stdout).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn requests_of_each_application_go_where_its_file_says() {
    let tables = tables();
    assert!(tables.len() >= 25, "{} applications", tables.len());
    hold(&tables);
}

#[test]
fn each_application_is_asked_for_pages_and_for_its_websocket() {
    for table in tables() {
        // MQTT, a desktop, and an example of a manual page have nothing but WebSockets.
        let mapped = table.config.lines().map(str::trim_start);
        let has_pages = mapped
            .filter(|line| line.starts_with("ProxyPass") || line.starts_with("RewriteRule"))
            .any(|line| line.contains("http://") || line.contains("https://"));
        let goes_through = |case: &Case| case.expected.ends_with(" and 200");
        let file = table.file.display();
        let asks = |is_plain| {
            let mut cases = table.cases.iter().filter(|case| case.is_plain == is_plain);
            cases.any(|case| {
                if is_plain {
                    goes_through(case)
                } else {
                    case.expected.contains(" /")
                }
            })
        };
        assert!(asks(false), "{file}: no WebSocket");
        assert_eq!(asks(true), has_pages, "{file}: pages");
    }
}

#[test]
fn httpd_does_with_each_application_what_its_file_says() {
    compare(&tables());
}

#[test]
fn httpd_takes_the_balancers_that_are_accepted() {
    if Httpd::program().is_none() {
        return missing("apache2 is not installed");
    }
    let modules = [&["proxy_http", "ssl"], BALANCING.as_slice()].concat();
    let mut failures = String::new();
    for file in files("tests/data/config/accepted/balancers", "conf") {
        let text = std::fs::read_to_string(&file).unwrap();
        // Modules are loaded already, and lie elsewhere.
        let lines = text.lines().filter(|line| !line.starts_with("LoadModule "));
        let config: String = lines.map(|line| line.to_owned() + "\n").collect();
        let config = format!("ServerName www.example.org\n{config}");
        if let Some((false, said)) = Httpd::check(&config, &modules) {
            writeln!(failures, "{}: {said}", file.display()).unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// The files that this build can load.
fn texts() -> Vec<(PathBuf, String)> {
    files(FOLDER, "conf")
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (file, text)
        })
        .filter(|(_, text)| cfg!(feature = "tls") || !text.contains("# needs: tls"))
        .collect()
}

fn tables() -> Vec<Table> {
    let table = |(file, text): (PathBuf, String)| {
        let text = played(&text);
        let mut table = Table::parse(&file, &text);
        // The certificate of the backends is their own.
        let tls = if cfg!(feature = "tls") {
            "SSLProxyEngine On\nSSLProxyVerify none\nSSLProxyCheckPeerName Off\nSSLProxyCheckPeerCN Off\n"
        } else {
            ""
        };
        table.config = format!("ServerName www.example.org\n{tls}{}", table.config);
        table.modules = ["proxy_http", "ssl"].map(str::to_owned).into();
        table
    };
    texts().into_iter().map(table).collect()
}

/// The text as a table: addresses are replaced by the placeholders that comments name, lines that begin with `#|` are the
/// requests.
fn played(text: &str) -> String {
    let mut config = text.to_owned();
    for line in text.lines() {
        let Some((name, meant)) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(" is "))
            .filter(|(name, _)| name.starts_with('@') && name.ends_with('@'))
        else {
            continue;
        };
        config = match name {
            // Its listeners are those of the table.
            "@FRONT@" | "@SIDE@" => config
                .replace(&format!("\nListen {meant}\n"), "\n\n")
                .replace(
                    &format!("*:{meant}>"),
                    &format!("*:{}-PORT@>", name.trim_end_matches('@')),
                ),
            _ => config.replace(meant, name),
        };
    }
    let mut begun = false;
    let line = |line: &str| match line.strip_prefix("#| ") {
        Some(line) => {
            begun = true;
            format!("{line}\n")
        }
        // The numbers of lines stay as they are.
        None if begun => "\n".to_owned(),
        None => format!("{line}\n"),
    };
    config.lines().map(line).collect()
}
