//! The table of request heads, and how our own answers look and close.

use crate::support::client::request;
use crate::support::wire::End;
use crate::support::{Backend, Client, Proxy, tree, unescape};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// One case of `tests/data/heads`.
struct Case {
    name: String,
    bytes: Vec<u8>,
    status: u16,
    fields: Vec<(String, String)>,
}

#[test]
fn every_head_of_the_table_is_answered_as_it_says() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    let mut failures = String::new();
    let mut cases = 0;
    for file in std::fs::read_dir(tree().join("tests/data/heads")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        for case in parse(&std::fs::read_to_string(&path).unwrap()) {
            cases += 1;
            let asked_before = backend.count();
            // Whatever goes wrong with one case: the others shall have their say.
            let tried = catch_unwind(AssertUnwindSafe(|| try_case(&proxy, &case)));
            let tried = tried.unwrap_or_else(|_| Err("no answer; see above".to_owned()));
            let problem = tried.err().or_else(|| {
                let asked = backend.count() - asked_before;
                let expected = usize::from(case.status == 101);
                (asked != expected).then(|| format!("{asked} backends were asked"))
            });
            if let Some(problem) = problem {
                let file = path.file_name().unwrap().to_string_lossy();
                writeln!(failures, "{file}: {}: {problem}", case.name).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(cases >= 100, "only {cases} cases were found");
}

fn try_case(proxy: &Proxy, case: &Case) -> Result<(), String> {
    let mut client = Client::connect(proxy.address());
    // A refusal may come while we still send.
    client.send_if_taken(&case.bytes);
    let answer = if case.status == 101 {
        client.answer_head()
    } else {
        let answer = client.answer();
        let length = answer.field("Content-Length").unwrap_or_default();
        // To HEAD the length is that of the body that GET would get (RFC 9110 section 9.3.2).
        let is_right = if case.bytes.starts_with(b"HEAD ") {
            answer.body.is_empty() && length != "0"
        } else {
            length == answer.body.len().to_string()
        };
        if !is_right {
            return Err(format!("Content-Length {length}: {answer:?}"));
        }
        answer
    };
    if answer.status != case.status {
        return Err(format!("{}, not {}", answer.status, case.status));
    }
    for (name, value) in &case.fields {
        let found = answer.field(name);
        if found.as_ref() != Some(value) {
            return Err(format!("{name}: {found:?}, not {value:?}"));
        }
    }
    Ok(())
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            let (name, expected) = title.rsplit_once(" -> ").expect(title);
            let mut expected = expected.split("; ");
            cases.push(Case {
                name: name.to_owned(),
                bytes: Vec::new(),
                status: expected.next().unwrap().parse().expect(title),
                fields: expected
                    .map(|field| field.split_once(": ").expect(title))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            });
        } else if !line.is_empty() && !line.starts_with('#') {
            let ordinary = request("/");
            let fields = ordinary.split_once("\r\n").unwrap().1;
            let bytes = &mut cases.last_mut().expect("a case").bytes;
            match line {
                "@ordinary" => bytes.extend_from_slice(fields.as_bytes()),
                "@fields" => bytes.extend_from_slice(&fields.as_bytes()[..fields.len() - 2]),
                line => unescape(line, bytes),
            }
        }
    }
    cases
}

#[test]
fn a_refusal_is_a_complete_answer_that_says_why() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: front.example\r\n\r\n");
    let answer = client.answer().expect_status(426);
    assert_eq!(answer.field("Upgrade").as_deref(), Some("WebSocket"));
    assert_eq!(
        answer.field("Connection").as_deref(),
        Some("close, Upgrade")
    );
    assert_eq!(answer.field("Server").as_deref(), Some("proxy-wstunnel"));
    let kind = answer.field("Content-Type").expect("Content-Type");
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(
        answer.field("X-Content-Type-Options").as_deref(),
        Some("nosniff")
    );
    let date = answer.field("Date").expect("Date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("upgrade"), "{body}");
    backend.expect_untouched();
}

#[test]
fn a_request_that_asks_for_no_upgrade_is_final_on_the_first_mapping_that_matches() {
    let first = Backend::listen();
    let second = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /ws/ {}/\nProxyPass / {}/",
        first.url(),
        second.url()
    ));
    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: front.example\r\n\r\n");
    client.answer().expect_status(426);
    first.expect_untouched();
    second.expect_untouched();
}

#[test]
fn a_client_that_sent_more_still_reads_the_whole_answer() {
    let proxy = Proxy::start("ProxyPass /ws/ ws://127.0.0.1:9/");
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address());
        client.send("POST /ws/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
        // Were the socket closed with these unread, a reset would take the answer away.
        client.send_if_taken(vec![b'x'; 200_000]);
        client.answer().expect_status(426);
    }
}

#[test]
fn the_linger_behind_an_answer_is_bounded() {
    let proxy = Proxy::start("ProxyPass /ws/ ws://127.0.0.1:9/");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = Client::sending(&proxy, request);
    let begun = Instant::now();
    client.answer().expect_status(404);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the end comes with the answer, not behind the linger"
    );
    // This client neither ends nor falls silent.
    loop {
        if !client.send_if_taken("x") {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(6),
            "the proxy reads on without end"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_behind_a_refused_request_is_answered() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    let twice = format!("GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n{}", request("/ws/"));
    let mut client = Client::sending(&proxy, twice);
    let answer = client.answer().expect_status(426);
    let length = answer.field("Content-Length").unwrap();
    assert_eq!(length, answer.body.len().to_string());
    backend.expect_untouched();
}

#[test]
fn a_client_that_ends_before_its_head_is_complete_is_let_go() {
    let proxy = Proxy::start("ProxyPass /ws/ ws://127.0.0.1:9/");
    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost:");
    client.finish();
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 400 "),
        "{text}"
    );
    let mut silent = Client::connect(proxy.address());
    silent.finish();
    assert_eq!(silent.rest().1, End::Orderly);
}
