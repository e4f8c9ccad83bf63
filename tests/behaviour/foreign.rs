//! Other people's clients and servers through the proxy, and a browser.
//!
//! A tool that is not installed is skipped by name; with `CI=true` in the environment it is a failure. `.ci/run` installs
//! them all: the Python and Node packages below `target/foreign`.

use crate::support::{
    BOUND, Backend, Client, Proxy, TempDir, each_mode, missing, tree, wait_until,
};
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
            missing(&format!("{package} is not installed"));
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

/// The example of the README, as a person tries it: its page in the browser, its client in the terminal, Ctrl-C.
#[cfg(feature = "tls")]
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
#[cfg(feature = "tls")]
struct Demo {
    process: Guard,
    /// The address for a browser.
    page: String,
    client_urls: Vec<String>,
}

#[cfg(feature = "tls")]
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

fn browser() -> Option<Browser> {
    let found = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    if !found("chromium") {
        missing("chromium is not installed");
        return None;
    }
    if !found("chromedriver") {
        missing("chromedriver is not installed");
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

    fn open(&self, url: &str) {
        let path = format!("/session/{}/url", self.session);
        self.post(&path, &format!(r#"{{"url":"{url}"}}"#));
    }

    /// What a script returns, as a string.
    #[cfg(feature = "tls")]
    fn evaluate(&self, script: &str) -> String {
        let path = format!("/session/{}/execute/sync", self.session);
        let answer = self.post(&path, &format!(r#"{{"script":"{script}","args":[]}}"#));
        string_in(&answer, "value")
    }

    /// Types into the element that a CSS selector finds.
    #[cfg(feature = "tls")]
    fn type_into(&self, selector: &str, text: &str) {
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
    fn title_of(&self, url: &str, at_first: &str) -> String {
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

/// HAProxy in front, which says who its clients are: over TCP, and of itself when it looks whether we are there.
#[test]
fn a_load_balancer_says_who_the_client_is() {
    let version = Command::new("haproxy").arg("-v").output();
    if !version.is_ok_and(|output| output.status.success()) {
        missing("haproxy");
        return;
    }
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "RemoteIPProxyProtocol On\nProxyPass /ws/ {}/\nCustomLog access.log \"%{{remote}}p %>s\"",
        backend.url()
    ));
    for (number, option) in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"]
        .iter()
        .enumerate()
    {
        let directory = TempDir::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It listens on its standard input, whose port is known.
        let config = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 20s\n timeout server 20s\n\
             listen front\n bind fd@0\n server proxy {} {option} check check-send-proxy inter 100ms\n",
            proxy.address()
        );
        let file = directory.write("haproxy.cfg", config);
        let _balancer = Guard(
            Command::new("haproxy")
                .arg("-db")
                .arg("-f")
                .arg(file)
                .stdin(std::os::fd::OwnedFd::from(listener))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("to start haproxy"),
        );
        let mut client = Client::connect(address);
        let port = client.local().port();
        client.send(crate::support::client::request("/ws/"));
        client.switched();
        client.echo("through both");
        client.finish();
        client.expect_end();
        let lines = proxy.wait_for_lines("access.log", number + 1);
        assert_eq!(lines[number..], [format!("{port} 101")], "{option}");
    }
    // Its checks have been nothing to speak of.
    assert!(proxy.log_lines("refused").is_empty(), "{:?}", proxy.log());
}
