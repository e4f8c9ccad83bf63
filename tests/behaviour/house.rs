//! Who may import whom, and who may know which package: read from the sources, so that walls do not move unseen.

use crate::support::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// For each room, the rooms that it may name. Rooms of devices take values, never the configuration; nothing but `main`
/// names `server`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // The numbers of our messages: everybody who speaks may name them.
    ("ids", &[]),
    ("http", &["ids"]),
    ("route", &["http", "handshake", "ids", "balancer", "tls"]),
    ("handshake", &["http", "ids"]),
    ("balancer", &["http", "route", "handshake"]),
    ("forward", &["http", "handshake", "route", "ids"]),
    ("frame", &[]),
    ("transaction", &["http", "route", "tls", "frame"]),
    ("logging", &[]),
    (
        "access_log::format",
        &["http", "route", "transaction", "tls"],
    ),
    (
        "config",
        &[
            "http",
            "route",
            "handshake",
            "balancer",
            "tls",
            "access_log::format",
            "logging",
        ],
    ),
    (
        "explain",
        &[
            "http",
            "route",
            "handshake",
            "balancer",
            "forward",
            "config",
            "ids",
        ],
    ),
    ("log_writer", &["ids", "logging"]),
    (
        "access_log",
        &[
            "access_log::format",
            "log_writer",
            "logging",
            "route",
            "transaction",
        ],
    ),
    ("error_log", &["log_writer", "logging"]),
    ("config_files", &["config"]),
    ("control_client", &["http", "net"]),
    ("pid_file", &[]),
    ("sys", &[]),
    ("tls", &[]),
    ("net", &["sys", "tls"]),
    ("tunnel", &["net", "frame", "transaction", "ids", "sys"]),
    (
        "cli",
        &[
            "config",
            "config_files",
            "control_client",
            "explain",
            "pid_file",
        ],
    ),
    ("registry", &["route", "transaction", "tunnel"]),
    (
        "server",
        &[
            "http",
            "route",
            "handshake",
            "balancer",
            "forward",
            "ids",
            "transaction",
            "access_log",
            "access_log::format",
            "config",
            "config_files",
            "log_writer",
            "logging",
            "error_log",
            "net",
            "pid_file",
            "registry",
            "sys",
            "tls",
            "tunnel",
        ],
    ),
    ("main", &["cli", "server"]),
    ("lib", &[]),
];

/// Where a package may be named.
const PACKAGE_ROOMS: &[(&str, &[&str])] = &[
    ("argh", &["cli"]),
    ("base64", &["handshake"]),
    (
        "crossbeam_channel",
        &["server", "log_writer", "net", "tunnel"],
    ),
    ("glob", &["config_files"]),
    ("httparse", &["http"]),
    ("libc", &["sys"]),
    ("mio", &["tunnel", "server"]),
    ("native_tls", &["net"]),
    // `sys` only for what its callers have to do right.
    ("openssl", &["net", "sys"]),
    ("openssl_probe", &["net"]),
    ("regex_lite", &["route"]),
    (
        "rustix",
        &[
            "net",
            "tunnel",
            "server",
            "config_files",
            "log_writer",
            "pid_file",
        ],
    ),
    ("sha1_smol", &["handshake"]),
    ("signal_hook", &["server"]),
    ("simplelog", &["error_log"]),
];

/// The rooms that know no sockets, threads, files or clock, and what of `std` would bring them in.
const PURE: &[&str] = &[
    "ids",
    "http",
    "route",
    "handshake",
    "balancer",
    "forward",
    "frame",
    "tls",
    "transaction",
    "logging",
    "access_log::format",
    "config",
    "explain",
];
/// What a pure room may name all the same: all threads choose from the same members, and a choice is one step.
const PURE_BUT_FOR: &[(&str, &str)] = &[("balancer", "Mutex")];
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "process::Command",
    "std::os",
    "File::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "Mutex",
];

/// The code of every file, without comments, literals and its tests, by room.
fn rooms() -> BTreeMap<String, Vec<(String, String)>> {
    let mut rooms: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    collect(&tree().join("src"), &mut rooms);
    rooms
}

fn collect(directory: &Path, rooms: &mut BTreeMap<String, Vec<(String, String)>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, rooms);
            continue;
        }
        let name = path.strip_prefix(tree().join("src")).unwrap();
        let name = name
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .replace('/', "::");
        let room = if name.starts_with("access_log::format") {
            "access_log::format"
        } else {
            name.split("::").next().unwrap()
        };
        let text = std::fs::read_to_string(&path).unwrap();
        rooms
            .entry(room.to_owned())
            .or_default()
            .push((name.clone(), code_of(&text)));
    }
}

/// What the compiler reads: no comments, no contents of literals, and nothing behind `#[cfg(test)]`, which stands at
/// the foot of a file.
fn code_of(text: &str) -> String {
    let mut rest = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut code = String::new();
    // Each step takes a comment or a literal as a whole, or one character.
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").unwrap() + 5
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\''") {
            rest[1..].find('\'').unwrap() + 2
        } else if rest.starts_with("b'\"'") {
            4
        } else if next == '"' {
            length_of_literal(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many bytes the string literal at the beginning of `text` takes.
fn length_of_literal(text: &str) -> usize {
    let mut escaped = false;
    for (place, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    panic!("a literal without end");
}

/// The rooms of this crate that a file names, as `crate::room`, in a path or in a `use` list, or from `main` as
/// `proxy_wstunnel::room`.
fn named(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["crate::", "proxy_wstunnel::"] {
        for (place, _) in code.match_indices(start) {
            let path = &code[place + start.len()..];
            let list = match path.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap(),
                None => path.split([' ', ';', '(', ',', '\n']).next().unwrap(),
            };
            for item in list.split(',') {
                let item = item.trim();
                let mut steps = item
                    .split("::")
                    .map(|step| step.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_')));
                let (first, second) = (steps.next().unwrap_or(""), steps.next());
                let room = match (first, second) {
                    ("access_log", Some("format")) => "access_log::format",
                    (room, _) => room,
                };
                if room.starts_with(|c: char| c.is_lowercase()) {
                    found.insert(room.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn every_room_imports_only_what_lies_below_it() {
    for (room, files) in rooms() {
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{room} is a room that the house does not know"));
        for (file, code) in files {
            for import in named(&code) {
                let own = import == room || room.starts_with(&format!("{import}::"));
                assert!(
                    own || allowed.contains(&import.as_str()),
                    "{file} imports {import}, which {room} may not"
                );
            }
        }
    }
}

#[test]
fn a_package_is_named_in_its_rooms_only() {
    for (room, files) in rooms() {
        for (file, code) in files {
            for (package, allowed) in PACKAGE_ROOMS {
                let names = code
                    .match_indices(&format!("{package}::"))
                    .any(|(place, _)| {
                        !code[..place].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    });
                assert!(
                    !names || allowed.contains(&room.as_str()),
                    "{file} names the package {package}"
                );
            }
        }
    }
}

#[test]
fn every_package_has_a_room() {
    let manifest = std::fs::read_to_string(tree().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    for line in dependencies.lines().filter(|line| line.contains('=')) {
        let package = line.split(['=', ' ']).next().unwrap().replace('-', "_");
        // The façade of logging is for everybody.
        let known = package == "log" || PACKAGE_ROOMS.iter().any(|(name, _)| *name == package);
        assert!(known, "{package} has no room");
    }
}

#[test]
fn pure_rooms_know_no_sockets_threads_files_or_clock() {
    let rooms = rooms();
    for room in PURE {
        for (file, code) in &rooms[*room] {
            for word in IMPURE {
                let is_excepted = PURE_BUT_FOR.contains(&(*room, *word));
                assert!(is_excepted || !code.contains(word), "{file} names {word}");
            }
        }
    }
}

#[test]
fn unsafe_code_has_one_room_and_there_is_no_room_for_everything() {
    for (room, files) in rooms() {
        assert!(!["utils", "util", "common", "types", "helpers", "misc"].contains(&room.as_str()));
        for (file, code) in files {
            let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            assert!(
                room == "sys" || words.into_iter().all(|word| word != "unsafe"),
                "{file} has unsafe code"
            );
        }
    }
}

#[test]
fn only_one_file_waits_for_readiness_of_tunnels() {
    for (room, files) in rooms() {
        for (file, code) in files {
            if room == "tunnel" && file != "tunnel::event_loop" {
                assert!(!code.contains(".poll("), "{file} polls");
            }
        }
    }
}
