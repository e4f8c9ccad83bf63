//! The example of the README, as a person tries it.
#![cfg(feature = "tls")]

use super::Guard;
use super::browser::browser;
use crate::support::{BOUND, missing, wait_until};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The example of the README, as a person tries it: its page in the browser, its client in the terminal, Ctrl-C.
#[test]
fn the_quick_start_works_in_a_browser_and_in_a_terminal() {
    let Some(mut demo) = Demo::start() else {
        return;
    };
    for (path, url) in [
        ("/ws2/", &demo.client_urls[0]),
        ("/wss2/", &demo.client_urls[1]),
    ] {
        assert!(url.ends_with(path), "{url}");
        let mut client = Command::new(Demo::program())
            .args(["client", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("to start the client");
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"first line\nsecond line\n").unwrap();
        drop(input);
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with("first line\nsecond line\n"), "{text}");
    }
    if let Some(browser) = browser() {
        browser.open(&demo.page);
        for section in ["ws2", "wss2"] {
            let is = |script: &str, expected: &str| {
                let what = format!("{expected:?} in {section}");
                let script = format!("return document.querySelector('#{section} {script}");
                wait_until(&what, BOUND, || browser.evaluate(&script) == expected);
            };
            is(".state').textContent", "open");
            browser.type_into(&format!("#{section} input"), "typed by hand\\n");
            is("li.received')?.textContent ?? ''", "typed by hand");
        }
    }
    demo.interrupt();
}

/// The running example.
struct Demo {
    process: Guard,
    /// The address for a browser.
    page: String,
    client_urls: Vec<String>,
}

impl Demo {
    /// `cargo test` builds the examples beside this binary; `cargo test --test behaviour` does not.
    fn program() -> PathBuf {
        let this = std::env::current_exe().unwrap();
        let profile = this.parent().and_then(std::path::Path::parent).unwrap();
        profile.join("examples/quickstart")
    }

    fn start() -> Option<Self> {
        if !Self::program().exists() {
            missing("the example quickstart is not installed");
            return None;
        }
        let mut child = Command::new(Self::program())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("to start the example");
        let output = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        let process = Guard(child);
        let mut page = None;
        let mut client_urls = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, url)) = line.split_once("In a browser:") {
                page = Some(url.trim().to_owned());
            }
            if let Some((_, url)) = line.split_once(" client ") {
                client_urls.push(url.trim().to_owned());
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        let ready = errors
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("ready: listening on "));
        assert!(ready, "the proxy of the example is not ready");
        assert_eq!(client_urls.len(), 2);
        Some(Self {
            process,
            page: page.expect("an address for a browser"),
            client_urls,
        })
    }

    /// Ctrl-C, and an orderly end.
    fn interrupt(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        let id = i32::try_from(self.process.0.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
        let mut status = None;
        wait_until("the example to end", BOUND, || {
            status = self.process.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }
}
