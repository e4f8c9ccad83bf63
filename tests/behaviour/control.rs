//! The control socket, the listeners that tell the status, and the command line that speaks to a running server: they answer
//! when nobody else can, and whoever may only look changes nothing.

mod members;
mod sockets;
mod status;
mod strangers;

use crate::support::proxy::{Finished, run};
use crate::support::wire::Answer;
use crate::support::{
    BOUND, Backend, Client, Json, Proxy, TempDir, Wire, both_ends, each_mode, wait_until,
};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What these configurations begin with.
const LISTEN: &str = "Listen 127.0.0.1:0\nListen unix:control.sock\nListen 127.0.0.1:0 status\n";

fn start(config: impl AsRef<str>) -> Proxy {
    Proxy::start(LISTEN.to_owned() + config.as_ref())
}

fn socket(proxy: &Proxy) -> PathBuf {
    proxy.directory().join("control.sock")
}

/// Where it tells its status.
#[track_caller]
fn status_address(proxy: &Proxy) -> SocketAddr {
    let line = proxy.wait_for_log("status at ");
    let (_, address) = line.split_once("status at ").unwrap();
    address.parse().unwrap()
}

/// A connection to the control socket.
#[track_caller]
fn knock(path: &Path) -> Wire {
    let unix = UnixStream::connect(path).expect("to connect to the control socket");
    Wire::new(OwnedFd::from(unix).into())
}

fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[track_caller]
fn ask(mut wire: Wire, method: &str, target: &str) -> Answer {
    wire.send(request(method, target));
    wire.answer()
}

/// Asks through the control socket.
#[track_caller]
fn control(proxy: &Proxy, method: &str, target: &str) -> Answer {
    ask(knock(&socket(proxy)), method, target)
}

/// Asks from the network.
#[track_caller]
fn probe(address: SocketAddr, method: &str, target: &str) -> Answer {
    let tcp = TcpStream::connect_timeout(&address, BOUND).expect("to connect");
    ask(Wire::new(tcp), method, target)
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// What the command line says to the server.
#[track_caller]
fn command(proxy: &Proxy, arguments: &[&str]) -> Finished {
    let path = socket(proxy);
    let mut all = vec!["--control", path.to_str().unwrap()];
    all.extend_from_slice(arguments);
    run(&all)
}

/// The shortest of several times that it takes: others run on this machine as well.
fn shortest(mut what: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let begun = Instant::now();
        what();
        begun.elapsed()
    });
    times.min().unwrap()
}

#[test]
fn with_every_worker_taken_by_a_tunnel_the_socket_and_the_probe_answer_at_once() {
    const AT_ONCE: Duration = Duration::from_millis(100);
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = start(format!(
        "MaxRequestWorkers 2\nProxyPass /ws/ {url}/\nCustomLog access.log \"%>s %{{close-reason}}n\""
    ));
    let (mut first, mut first_peer) = both_ends(&proxy, &backend);
    let (_second, _second_peer) = both_ends(&proxy, &backend);
    // Nobody is left for these.
    let ask_for_more = || Client::asking(&proxy, "/ws/");
    let mut waits = ask_for_more();
    proxy.wait_for_log("PW502");
    let address = status_address(&proxy);
    let took = shortest(|| drop(probe(address, "GET", "/readyz").expect_status(200)));
    assert!(took < AT_ONCE, "{took:?}");
    let took = shortest(|| drop(control(&proxy, "GET", "/healthz").expect_status(200)));
    assert!(took < AT_ONCE, "{took:?}");
    let took = shortest(|| {
        let status = command(&proxy, &["--status"]).expect_status(0);
        assert!(status.stdout.contains("workers: 2 of 2 "), "{status:?}");
    });
    assert!(took < AT_ONCE, "{took:?}");
    let mut took = Duration::MAX;
    for _ in 0..5 {
        // Who waits next is there before the worker is free, and so all are taken each time.
        let next = ask_for_more();
        let id = number_of(&proxy, first.local());
        let begun = Instant::now();
        let ended = command(&proxy, &["--end", &id]).expect_status(0);
        took = took.min(begun.elapsed());
        assert_eq!(ended.stdout, format!("tunnel {id} is told to end\n"));
        first.expect_cut();
        first_peer.expect_cut();
        drop((first, first_peer));
        // Its worker serves who waited.
        first_peer = backend.accept_tunnel();
        waits.switched();
        (first, waits) = (waits, next);
    }
    assert!(took < AT_ONCE, "{took:?}");
    let lines = proxy.wait_for_lines("access.log", 5);
    assert_eq!(lines, ["101 ended by the administrator"; 5]);
}

/// The number of the tunnel of the client with this address, once it is known.
#[track_caller]
fn number_of(proxy: &Proxy, client: SocketAddr) -> String {
    let client = client.to_string();
    let mut number = None;
    wait_until("the tunnel to be shown", BOUND, || {
        let status = command(proxy, &["--status", "--json"]).expect_status(0);
        let status = Json::parse(&status.stdout);
        let mut tunnels = status.list("tunnels").iter();
        number = tunnels
            .find(|tunnel| tunnel.text("client") == client)
            .map(|tunnel| tunnel.number("id").to_string());
        number.is_some()
    });
    number.unwrap()
}

each_mode! {
    fn a_tunnel_is_ended_by_its_number_and_no_other(mode: Mode) {
        let backend = Backend::listen();
        let (directives, url) = (mode.directives(), backend.url());
        let proxy = start(format!(
            "{directives}\nProxyPass /ws/ {url}/\n\
             CustomLog access.log \"%>s %L %{{ended-by}}n: %{{close-reason}}n\""
        ));
        let (mut first, mut first_peer) = both_ends(&proxy, &backend);
        let (mut second, mut second_peer) = both_ends(&proxy, &backend);
        let unknown = command(&proxy, &["--end", "3"]).expect_status(1);
        assert_eq!(
            unknown.stderr,
            "proxy-wstunnel: there is no tunnel 3; --status lists those that are open\n"
        );
        let ended = command(&proxy, &["--end", "2", "--code", "4001"]).expect_status(0);
        assert_eq!(ended.stdout, "tunnel 2 is told to end with code 4001\n");
        second.expect_cut();
        second_peer.expect_cut();
        let lines = proxy.wait_for_lines("access.log", 1);
        assert_eq!(lines, ["101 2 administrator: ended by the administrator with code 4001"]);
        let line = proxy.wait_for_log("tunnel 2 is told to end with code 4001");
        assert!(line.contains("at the request of user "), "{line}");
        first.send("goes on");
        first_peer.expect("goes on");
        command(&proxy, &["--end", "2"]).expect_status(1);
    }
}

#[test]
fn codes_are_those_that_a_close_frame_may_have() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    for code in ["999", "1004", "1005", "1006", "1015", "2000", "5000"] {
        let refused = command(&proxy, &["--end", "1", "--code", code]).expect_status(1);
        assert!(
            refused
                .stderr
                .contains(&format!("code {code}: expected 1000 to 1003"))
        );
    }
    for code in ["1000", "1014", "4999"] {
        let refused = command(&proxy, &["--end", "1", "--code", code]).expect_status(1);
        assert!(
            refused.stderr.contains("there is no tunnel 1"),
            "{refused:?}"
        );
    }
}

#[test]
fn the_command_line_finds_the_socket_by_the_configuration_even_a_broken_one() {
    let proxy = start("ProxyPass / ws://127.0.0.1:9/");
    let file = proxy.directory().join("proxy.conf");
    let file = file.to_str().unwrap();
    let unknown = run(&["-f", file, "--end", "1"]).expect_status(1);
    assert!(
        unknown.stderr.contains("there is no tunnel 1"),
        "{unknown:?}"
    );
    proxy
        .reload_refused(LISTEN.to_owned() + "ProxyPas / ws://127.0.0.1:9/\n<Proxy balancer://x>\n");
    let unknown = run(&["-f", file, "--end", "1"]).expect_status(1);
    assert!(
        unknown.stderr.contains("there is no tunnel 1"),
        "{unknown:?}"
    );
}

#[test]
fn who_cannot_be_reached_is_told_with_what_to_do() {
    let directory = TempDir::new();
    let path = directory.path().join("none.sock");
    let path = path.to_str().unwrap();
    let ask = || run(&["--control", path, "--end", "1"]).expect_status(1);
    let none = ask();
    assert!(none.stderr.contains("is the server running?"), "{none:?}");
    let listener = UnixListener::bind(path).unwrap();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let count = stream.read(&mut asked).unwrap();
            assert!(asked[..count].ends_with(b"\r\n\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in 0..3 {
        let odd = ask();
        assert!(odd.stderr.contains("answer is not whole"), "{odd:?}");
    }
    answering.join().unwrap();
    let dead = ask();
    assert!(
        dead.stderr.contains("has ended; start it again"),
        "{dead:?}"
    );
    // Without a file to read and a socket to name it is the default one.
    let default = run(&["-f", "/no/such/file", "--end", "1"]);
    if !Path::new("/run/proxy-wstunnel/control.sock").exists() {
        assert!(
            default
                .expect_status(1)
                .stderr
                .contains("/run/proxy-wstunnel/control.sock")
        );
    }
}

#[test]
fn orders_to_a_server_stand_alone() {
    for (arguments, problem) in [
        (&["--json"] as &[&str], "--json belongs to --status"),
        (&["--code", "1000"], "--code belongs to --end"),
        (&["--control", "x"], "--control belongs to --status"),
        (&["--end", "1", "--drain", "x"], "one thing at a time"),
        (&["--status", "--end", "1"], "one thing at a time"),
        (&["--status", "-t"], "one thing at a time"),
        (&["--end", "x"], "x"),
        (&["--end", "1", "--code", "70000"], "70000"),
    ] {
        let refused = run(arguments).expect_status(1);
        assert!(refused.stderr.contains(problem), "{refused:?}");
    }
}
