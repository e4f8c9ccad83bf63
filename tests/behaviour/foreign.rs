//! Other people's clients and servers through the proxy, and a browser.
//!
//! A tool that is not installed is skipped by name; with `CI=true` in the environment it is a failure. `.ci/run` installs
//! them all: the Python and Node packages below `target/foreign`.

use crate::support::{Backend, Client, Proxy, TempDir, each_mode, tree};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Whose implementation.
#[derive(Debug, Clone, Copy)]
enum Maker {
    /// The Python package `websockets`.
    Python,
    /// The npm package `ws`.
    Node,
}

impl Maker {
    /// The interpreter with the package, and one of our scripts as its first argument.
    fn script(self, name: &str) -> Option<Command> {
        let (programs, package, check, extension) = match self {
            Self::Python => (
                vec![packages().join("venv/bin/python"), "python3".into()],
                "the Python package websockets",
                ["-c", "import websockets.asyncio.server"],
                "py",
            ),
            Self::Node => (
                vec![PathBuf::from("node")],
                "the npm package ws",
                ["-e", "require('ws')"],
                "js",
            ),
        };
        let command = |program: &PathBuf| {
            let mut command = Command::new(program);
            command.env("NODE_PATH", packages().join("node_modules"));
            command
        };
        let works = |program: &PathBuf| {
            let status = command(program)
                .args(check)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let Some(program) = programs.into_iter().find(works) else {
            missing(package);
            return None;
        };
        let mut command = command(&program);
        let script = format!("tests/behaviour/foreign/{name}.{extension}");
        command.arg(tree().join(script));
        Some(command)
    }
}

/// Where `.ci/run` puts packages of other languages.
fn packages() -> PathBuf {
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    target.parent().unwrap().join("foreign")
}

fn missing(tool: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{tool} is not installed");
    println!("skipped: {tool} is not installed");
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a server, and says on which port it listens.
fn serve(maker: Maker) -> Option<(Guard, u16)> {
    let mut child = maker
        .script("server")?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("to start the server");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line.trim().parse().expect("the port of the server");
    Some((Guard(child), port))
}

/// Runs a client through everything it has.
#[track_caller]
fn go_through(maker: Maker, url: &str) {
    let Some(mut command) = maker.script("client") else {
        return;
    };
    let output = command.arg(url).output().expect("to run the client");
    assert!(
        output.status.success(),
        "{maker:?} got as far as: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let parts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(parts.lines().count(), 7, "{parts}");
}

#[track_caller]
fn between(mode: crate::support::Mode, client: Maker, server: Maker) {
    let Some((_server, port)) = serve(server) else {
        return;
    };
    let proxy = Proxy::start(format!(
        "{}\nProxyPass /ws/ ws://127.0.0.1:{port}/",
        mode.directives()
    ));
    go_through(client, &format!("ws://{}/ws/", proxy.address()));
}

each_mode! {
    fn a_python_client_speaks_with_a_python_server(mode: Mode) {
        between(mode, Maker::Python, Maker::Python);
    }

    fn a_python_client_speaks_with_a_node_server(mode: Mode) {
        between(mode, Maker::Python, Maker::Node);
    }

    fn a_node_client_speaks_with_a_python_server(mode: Mode) {
        between(mode, Maker::Node, Maker::Python);
    }

    fn a_node_client_speaks_with_a_node_server(mode: Mode) {
        between(mode, Maker::Node, Maker::Node);
    }
}

/// A page of our own in Debian's Chromium, whose WebSockets go through the proxy.
#[test]
fn a_browser_exchanges_messages() {
    let Some(browser) = browser() else { return };
    let backend = Backend::echo();
    #[allow(unused_mut, reason = "a build without TLS has only one path")]
    let mut config = format!("ProxyPass /ws2/ {}/\n", backend.url());
    #[allow(unused_mut, reason = "a build without TLS has only one path")]
    let mut paths = "'/ws2/'".to_owned();
    let directory = TempDir::new();
    #[cfg(feature = "tls")]
    let _secure = {
        let certs = crate::support::Certs::new();
        directory.write("ca.pem", certs.pem());
        let secure = Backend::echo_tls(&certs.server("localhost"));
        config += &format!(
            "SSLProxyCACertificateFile ca.pem\nProxyPass /wss2/ wss://localhost:{}/\n",
            secure.port()
        );
        paths += ", '/wss2/'";
        secure
    };
    let proxy = Proxy::start_in(directory, config, "");
    let page = include_str!("foreign/page.html")
        .replace("PROXY", &proxy.address().to_string())
        .replace("PATHS", &paths);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    let site = Backend::answering(answer);
    let title = browser.title_of(&format!("http://{}/", site.address()), "running");
    assert_eq!(title, "all exchanged");
}

fn browser() -> Option<Browser> {
    let found = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    if !found("chromium") {
        missing("chromium");
        return None;
    }
    if !found("chromedriver") {
        missing("chromedriver");
        return None;
    }
    Some(Browser::start())
}

/// Chromium, driven by the HTTP protocol of its driver (W3C WebDriver).
struct Browser {
    _driver: Guard,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("to start chromedriver");
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "no port of chromedriver"
            );
            if let Some((_, rest)) = line.split_once("started successfully on port ") {
                break rest.trim().trim_end_matches('.').parse().expect("a port");
            }
        };
        // What it says later shall not block it.
        std::thread::spawn(move || drop(output.read_to_end(&mut Vec::new())));
        let profile = TempDir::new();
        let mut browser = Self {
            _driver: Guard(driver),
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

    /// Opens a page, and waits until its title is no longer `at_first`.
    fn title_of(&self, url: &str, at_first: &str) -> String {
        let session = format!("/session/{}", self.session);
        self.post(&format!("{session}/url"), &format!(r#"{{"url":"{url}"}}"#));
        let mut title = String::new();
        crate::support::wait_until(
            "the page to come to an end",
            Duration::from_secs(60),
            || {
                title = string_in(
                    &self.request("GET", &format!("{session}/title"), ""),
                    "value",
                );
                title != at_first && !title.is_empty()
            },
        );
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
