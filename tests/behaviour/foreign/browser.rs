//! Debian's Chromium, driven by the HTTP protocol of its driver (W3C WebDriver).

use super::{Guard, has};
use crate::support::{BOUND, Client, TempDir, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A browser, where one is installed.
pub(super) fn browser() -> Option<Browser> {
    let is_there = has("chromium", "--version") && has("chromedriver", "--version");
    is_there.then(Browser::start)
}

/// A session of its own.
pub(super) struct Browser {
    _driver: Guard,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// The driver and its port; nothing where it has ended without one.
    fn start_driver() -> Option<(Guard, u16)> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("to start chromedriver");
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let driver = Guard(driver);
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once("started successfully on port ") {
                let port = rest.trim().trim_end_matches('.').parse().expect("a port");
                // What it says later shall not block it.
                std::thread::spawn(move || drop(output.read_to_end(&mut Vec::new())));
                return Some((driver, port));
            }
            line.clear();
        }
        None
    }

    fn start() -> Self {
        // It chooses a port for IPv4 and gives up where the same is taken for IPv6.
        let (driver, port) = (0..10)
            .find_map(|_| Self::start_driver())
            .expect("chromedriver to find a port");
        let profile = TempDir::new();
        let mut browser = Self {
            _driver: driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        let options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", browser._profile.path().display()),
        ]
        .map(|option| format!("\"{option}\""))
        .join(",");
        let answer = browser.post(
            "/session",
            &format!(
                r#"{{"capabilities":{{"alwaysMatch":{{"goog:chromeOptions":{{"args":[{options}]}}}}}}}}"#
            ),
        );
        browser.session = string_in(&answer, "sessionId");
        browser
    }

    pub(super) fn open(&self, url: &str) {
        let path = format!("/session/{}/url", self.session);
        self.post(&path, &format!(r#"{{"url":"{url}"}}"#));
    }

    /// What a script returns, as a string.
    #[cfg(feature = "tls")]
    pub(super) fn evaluate(&self, script: &str) -> String {
        let path = format!("/session/{}/execute/sync", self.session);
        let answer = self.post(&path, &format!(r#"{{"script":"{script}","args":[]}}"#));
        string_in(&answer, "value")
    }

    /// Types into the element that a CSS selector finds.
    #[cfg(feature = "tls")]
    pub(super) fn type_into(&self, selector: &str, text: &str) {
        let path = format!("/session/{}/element", self.session);
        let find = format!(r#"{{"using":"css selector","value":"{selector}"}}"#);
        // The name under which WebDriver hands out elements.
        let element = string_in(
            &self.post(&path, &find),
            "element-6066-11e4-a52e-4f735466cecf",
        );
        self.post(
            &format!("{path}/{element}/value"),
            &format!(r#"{{"text":"{text}"}}"#),
        );
    }

    /// Opens a page, and waits until its title is no longer `at_first`.
    pub(super) fn title_of(&self, url: &str, at_first: &str) -> String {
        self.open(url);
        let session = format!("/session/{}", self.session);
        let mut title = String::new();
        wait_until("the page to come to an end", 3 * BOUND, || {
            title = string_in(
                &self.request("GET", &format!("{session}/title"), ""),
                "value",
            );
            title != at_first && !title.is_empty()
        });
        title
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.request("POST", path, body)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into());
        // A browser takes its time to start on a small machine.
        client
            .tcp()
            .set_read_timeout(Some(Duration::from_secs(90)))
            .unwrap();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        ));
        // The driver keeps connections open, whatever it is asked.
        let answer = client.answer_head();
        let length = answer.field("Content-Length").expect("Content-Length");
        let text = String::from_utf8(client.receive(length.parse().unwrap())).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {text}");
        text
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver alone, when killed, would leave the browser behind. A second panic here would hide the first.
        let request = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n",
            self.session, self.port
        );
        if let Ok(mut tcp) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            drop(tcp.write_all(request.as_bytes()));
            drop(tcp.read(&mut [0]));
        }
    }
}

/// The first string of this name in a JSON text. Enough for titles and identifiers, which hold no escapes.
fn string_in(json: &str, name: &str) -> String {
    let (_, rest) = json.split_once(&format!("\"{name}\":\"")).expect(json);
    rest.split('"').next().unwrap().to_owned()
}
