//! Other people's clients and servers through the proxy, and a browser.
//!
//! A tool that is not installed is skipped by name; with `CI=true` in the environment it is a failure. `.ci/run` installs
//! them all: the Python and Node packages below `target/foreign`.

mod browser;
mod examples;
mod health;
mod pages;
mod quick_start;
mod sessions;
mod socket_io;

use crate::support::{Backend, Client, Proxy, TempDir, each_mode, missing, tree};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Whose implementation.
#[derive(Debug, Clone, Copy)]
enum Maker {
    /// Python, with the package `websockets`.
    Python,
    /// Node, with the npm package `ws`.
    Node,
}

impl Maker {
    /// The interpreter with what the script needs, and one of our scripts as its first argument.
    fn script(self, name: &str) -> Option<Command> {
        let (programs, flag, check, extension) = match self {
            Self::Python => {
                let check = match name {
                    "pages" => "import requests, websockets.asyncio.client",
                    _ => "import websockets.asyncio.server",
                };
                let own = packages().join("venv/bin/python");
                (vec![own, "python3".into()], "-c", check, "py")
            }
            Self::Node => {
                let check = match name {
                    "app" => "require('socket.io'); require('ws')",
                    "socket_io" | "sessions" => "require('socket.io-client')",
                    _ => "require('ws')",
                };
                (vec![PathBuf::from("node")], "-e", check, "js")
            }
        };
        let command = |program: &PathBuf| {
            let mut command = Command::new(program);
            command.env("NODE_PATH", packages().join("node_modules"));
            command
        };
        let works = |program: &PathBuf| succeeds(command(program).args([flag, check]));
        let Some(program) = programs.into_iter().find(works) else {
            missing(&format!("{self:?} cannot do this: {check}"));
            return None;
        };
        let mut command = command(&program);
        let script = format!("tests/behaviour/foreign/{name}.{extension}");
        command.arg(tree().join(script));
        Some(command)
    }
}

/// Whether a program is there, and content.
fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether a tool is installed; if not, its tests are skipped.
fn has(program: &str, version: &str) -> bool {
    let has = succeeds(Command::new(program).arg(version));
    if !has {
        missing(&format!("{program} is not installed"));
    }
    has
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

/// Starts one of our servers, and says on which port it listens.
fn serve(maker: Maker, name: &str) -> Option<(Guard, u16)> {
    let mut child = maker
        .script(name)?
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

/// Runs a WebSocket client through everything it has.
#[track_caller]
fn go_through(maker: Maker, url: &str) {
    go_through_all(maker, "client", &[url], 7);
}

/// Runs a script through all its parts, which it names as it comes to the end of each.
#[track_caller]
fn go_through_all(maker: Maker, name: &str, arguments: &[&str], parts: usize) {
    let Some(mut command) = maker.script(name) else {
        return;
    };
    let output = command.args(arguments).output().expect("to run the client");
    assert!(
        output.status.success(),
        "{maker:?} {name} {arguments:?} got as far as: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found.lines().count(), parts, "{found}");
}

#[track_caller]
fn between(mode: crate::support::Mode, client: Maker, server: Maker) {
    let Some((_server, port)) = serve(server, "server") else {
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

/// HAProxy in front, which says who its clients are: over TCP, and of itself when it looks whether we are there.
#[test]
fn a_load_balancer_says_who_the_client_is() {
    if !has("haproxy", "-v") {
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
