//! What the operator asks of a running process, by signals and by `-k`, and how the process is found.

use crate::support::pages::{expect_page, get, page, visitor};
use crate::support::proxy::{BINARY, Finished, lines_of, root, run};
use crate::support::{
    BOUND, Backend, Client, Mode, Pages, Proxy, TempDir, both_ends, each_mode, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tests may be run at a terminal, which would control the proxy as well.
const WITHOUT_TERMINAL: &str = "exec setsid \"$0\" \"$@\"";

#[track_caller]
fn start(config: &str) -> Proxy {
    Proxy::start_in(TempDir::new(), config, WITHOUT_TERMINAL)
}

fn tunnels(mode: Mode, backend: &Backend, directives: &str) -> Proxy {
    start(&format!(
        "{}\n{directives}\nProxyPass /ws/ {}/\nCustomLog access.log \"%>s %{{close-reason}}n\"",
        mode.directives(),
        backend.url()
    ))
}

#[track_caller]
fn expect_closed(proxy: &Proxy) {
    let mut outcome = None;
    wait_until("the listener to be closed", BOUND, || {
        outcome = TcpStream::connect(proxy.address()).err().map(|e| e.kind());
        outcome.is_some()
    });
    assert_eq!(outcome, Some(ErrorKind::ConnectionRefused));
}

/// Runs with `-k` and the configuration of a proxy.
fn ask(proxy: &Proxy, demand: &str) -> Finished {
    let file = proxy.directory().join("proxy.conf");
    run(&["-f", file.to_str().unwrap(), "-k", demand])
}

each_mode! {
    fn a_graceful_stop_lets_tunnels_go_on_to_their_end(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = tunnels(mode, &backend, "GracefulShutdownTimeout 0");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let (mut other, mut other_peer) = both_ends(&proxy, &backend);
        // While a tunnel is handed over it is with both.
        proxy.settle();
        proxy.signal(Signal::WINCH);
        let line = proxy.wait_for_log("stopping gracefully; ");
        assert!(line.contains(": 2; they may go on for as long as they take"), "{line}");
        expect_closed(&proxy);
        for (client, peer) in [(&mut client, &mut peer), (&mut other, &mut other_peer)] {
            client.send("after");
            peer.expect("after");
            peer.send("all");
            client.expect("all");
        }
        client.finish();
        peer.expect_end();
        peer.finish();
        client.expect_end();
        // A second one changes nothing.
        proxy.signal(Signal::WINCH);
        other.send("still");
        other_peer.expect("still");
        other_peer.send("here");
        other.expect("here");
        other.finish();
        other_peer.expect_end();
        other_peer.finish();
        other.expect_end();
        proxy.await_exit();
        proxy.wait_for_log("all connections and tunnels have ended");
        assert_eq!(
            proxy.wait_for_lines("access.log", 2),
            ["101 client closed"; 2]
        );
    }

    fn a_graceful_stop_ends_what_is_left_when_its_time_is_over(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = tunnels(mode, &backend, "GracefulShutdownTimeout 300ms");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        proxy.settle();
        let begun = Instant::now();
        proxy.signal(Signal::WINCH);
        client.expect_quiet(Duration::from_millis(100));
        client.expect_end();
        peer.expect_end();
        drop((client, peer));
        proxy.await_exit();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300), "{took:?}");
        proxy.wait_for_log("GracefulShutdownTimeout is over; open connections and tunnels: 1");
        assert_eq!(proxy.wait_for_lines("access.log", 1), ["101 the server is stopping"]);
    }

    fn a_stop_does_not_wait_for_a_graceful_one(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = tunnels(mode, &backend, "GracefulShutdownTimeout 0");
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        proxy.signal(Signal::WINCH);
        proxy.wait_for_log("stopping gracefully; ");
        proxy.signal(Signal::TERM);
        client.expect_end();
        peer.expect_end();
        drop((client, peer));
        proxy.await_exit();
        assert_eq!(proxy.wait_for_lines("access.log", 1), ["101 the server is stopping"]);
    }
}

#[test]
fn a_graceful_stop_sends_idle_clients_away_and_answers_who_has_asked() {
    let backend = Backend::listen();
    let pages = Pages::start();
    let mut proxy = start(&format!(
        "GracefulShutdownTimeout 0\nKeepAliveTimeout 600\nProxyPass /slow http://{}/\nProxyPass / {}/",
        backend.address(),
        pages.url()
    ));
    let mut idle = visitor(&proxy, "/");
    let mut asking = visitor(&proxy, "/first");
    asking.send(get("/slow"));
    let mut peer = backend.accept();
    peer.head();
    proxy.signal(Signal::WINCH);
    idle.expect_end();
    expect_closed(&proxy);
    peer.send(page("/late"));
    expect_page(&mut asking, "/late");
    asking.expect_end();
    drop((idle, asking));
    proxy.await_exit();
}

#[test]
fn who_was_waiting_for_a_worker_is_served_before_a_graceful_stop_ends() {
    let backend = Backend::listen();
    let mut proxy = start(&format!(
        "GracefulShutdownTimeout 0\nMaxRequestWorkers 1\nProxyPass / http://{}/",
        backend.address()
    ));
    let mut first = Client::sending(&proxy, get("/first"));
    let mut peer = backend.accept();
    peer.head();
    let mut second = Client::sending(&proxy, get("/second"));
    proxy.wait_for_log("workers are busy");
    proxy.signal(Signal::WINCH);
    let line = proxy.wait_for_log("stopping gracefully; ");
    assert!(line.contains("tunnels: 2; "), "{line}");
    expect_closed(&proxy);
    peer.send(page("/first"));
    expect_page(&mut first, "/first");
    first.expect_end();
    // By the connection that is there.
    assert!(peer.head().starts_with("GET /second "));
    peer.send(page("/second"));
    let answer = expect_page(&mut second, "/second");
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    second.expect_end();
    drop((first, second));
    proxy.await_exit();
}

#[test]
fn a_terminal_that_changes_its_size_stops_nobody() {
    let directory = TempDir::new();
    let config = "Listen 127.0.0.1:0\nPidFile pid\nErrorLog error.log\nLogLevel info\n";
    let (place, user) = (directory.path().display(), root());
    let config = format!("ServerRoot \"{place}\"\n{config}{user}\n");
    let file = directory.write("proxy.conf", config);
    let file = file.to_str().unwrap();
    // It gives its command a terminal.
    let mut script = Command::new("script")
        .args(["-qec", &format!("exec '{BINARY}' -f '{file}'"), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = directory.path().join("error.log");
    let wait_for = |text: &str| {
        wait_until(text, BOUND, || {
            lines_of(&log).iter().any(|line| line.contains(text))
        });
    };
    wait_for("ready: ");
    let pid = std::fs::read_to_string(directory.path().join("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::WINCH).unwrap();
    wait_for("WINCH is ignored while a terminal controls the process");
    // Who asks for it by name is told.
    let finished = run(&["-f", file, "-k", "graceful-stop"]).expect_status(1);
    assert!(finished.stderr.contains("use -k stop"), "{finished:?}");
    run(&["-f", file, "-k", "stop"]).expect_status(0);
    assert!(script.wait().unwrap().success());
    let lines = lines_of(&log);
    assert!(
        !lines.iter().any(|line| line.contains("gracefully")),
        "{lines:#?}"
    );
}

#[test]
fn k_start_is_the_plain_start() {
    let directory = TempDir::new();
    let config = format!("Listen 127.0.0.1:0\n{}\n", root());
    let file = directory.write("proxy.conf", config);
    let mut child = Command::new(BINARY)
        .args(["-k", "start", "-f", file.to_str().unwrap()])
        .args(["-c", &format!("PidFile {}/pid", directory.path().display())])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = directory.path().join("pid");
    wait_until("the PidFile", BOUND, || pid_file.exists());
    // No other process has come of it.
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, format!("{}\n", child.id()));
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn k_finds_the_process_by_its_pidfile() {
    let mut proxy = start("PidFile pid");
    for (number, demand) in ["graceful", "restart"].into_iter().enumerate() {
        let finished = ask(&proxy, demand).expect_status(0);
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("", "")
        );
        wait_until("the reload", BOUND, || {
            proxy.log_lines("] reloaded: ").len() == number + 1
        });
    }
    ask(&proxy, "stop").expect_status(0);
    proxy.await_exit();
    assert!(proxy.log_lines("gracefully").is_empty());
    let mut proxy = start("PidFile pid");
    ask(&proxy, "graceful-stop").expect_status(0);
    proxy.await_exit();
    proxy.wait_for_log("stopping gracefully; ");
}

#[test]
fn where_nobody_runs_k_says_so_and_starts_nothing() {
    let directory = TempDir::new();
    let pid_file = directory.path().join("pid");
    let pid_file = pid_file.to_str().unwrap();
    let config = format!("Listen 127.0.0.1:0\nPidFile {pid_file}\n");
    let file = directory.write("proxy.conf", config);
    let file = file.to_str().unwrap();
    for demand in ["stop", "graceful", "graceful-stop", "restart"] {
        let finished = run(&["-f", file, "-k", demand]).expect_status(1);
        let expected =
            format!("proxy-wstunnel: -k: no process is running with PidFile {pid_file}\n");
        assert_eq!(finished.stderr, expected);
        assert!(!Path::new(pid_file).exists());
    }
}

#[test]
fn k_does_without_nothing_that_it_needs() {
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", "Listen 127.0.0.1:0\n");
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (
            &["-k", "stop"] as &[&str],
            "the configuration has no PidFile",
        ),
        (&["-k", "reload"], "-k \"reload\": expected start, stop,"),
        (&["-t", "-kstop"], "-k does not go together with -t"),
        (&["-k", "stop", "-c", "Listen x"], "-c:1: Listen: "),
    ] {
        let finished = run(&[&["-f", file], arguments].concat()).expect_status(1);
        assert!(finished.stderr.contains(expected), "{finished:?}");
    }
}

#[test]
fn a_second_process_with_the_same_pidfile_is_refused_and_told_who_is_there() {
    let mut proxy = start("PidFile pid");
    let pid_file = proxy.directory().join("pid");
    for arguments in [&[] as &[&str], &["-k", "start"]] {
        let file = proxy.directory().join("proxy.conf");
        let finished = run(&[&["-f", file.to_str().unwrap()], arguments].concat());
        let finished = finished.expect_status(1);
        let who = format!("process {} is running with it", proxy.id());
        assert!(finished.stderr.contains(&who), "{finished:?}");
        let found = std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(found, format!("{}\n", proxy.id()));
    }
    let names = std::fs::read_dir(proxy.directory()).unwrap();
    assert_eq!(names.count(), 2, "the configuration and the PidFile");
    proxy.stop();
    assert!(!pid_file.exists());
}

/// A process that has nothing to do with any of this.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_pidfile_of_a_dead_process_harms_nobody_and_is_taken_over() {
    let mut first = start("PidFile pid");
    first.kill();
    let left = first.directory().join("pid");
    let left = std::fs::read_to_string(left).expect("it was killed");
    assert_eq!(left, format!("{}\n", first.id()));
    // By now another process may have its number.
    let mut bystander = Bystander::new();
    let directory = TempDir::new();
    let pid_file = directory.write("pid", format!("{}\n", bystander.0.id()));
    let config = format!("Listen 127.0.0.1:0\nPidFile {}\n", pid_file.display());
    let file = directory.write("asked.conf", config);
    for demand in ["stop", "graceful", "restart", "graceful-stop"] {
        let finished = run(&["-f", file.to_str().unwrap(), "-k", demand]).expect_status(1);
        assert!(
            finished.stderr.contains("no process is running"),
            "{finished:?}"
        );
    }
    let mut proxy = Proxy::start_in(directory, "PidFile pid", WITHOUT_TERMINAL);
    let found = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(found, format!("{}\n", proxy.id()));
    ask(&proxy, "stop").expect_status(0);
    proxy.await_exit();
    assert!(!pid_file.exists());
    assert!(bystander.lives());
}

#[test]
fn of_many_that_start_with_one_pidfile_one_runs() {
    let directory = TempDir::new();
    directory.write("pid", "1\n");
    let (place, user) = (directory.path().display(), root());
    let config = "Listen 127.0.0.1:0\nPidFile pid\n";
    let config = format!("ServerRoot \"{place}\"\n{config}{user}\n");
    let file = directory.write("proxy.conf", config);
    let mut children: Vec<Child> = (0..8)
        .map(|_| {
            let mut command = Command::new(BINARY);
            command.arg("-f").arg(&file).stdin(Stdio::null());
            command.stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let mut running = Vec::new();
    wait_until("all but one to be refused", BOUND, || {
        running = children
            .iter_mut()
            .filter_map(|child| child.try_wait().unwrap().is_none().then(|| child.id()))
            .collect();
        running.len() <= 1
    });
    let path = directory.path().join("pid");
    let found = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        [found.trim()],
        *running.iter().map(u32::to_string).collect::<Vec<_>>()
    );
    run(&["-f", file.to_str().unwrap(), "-k", "stop"]).expect_status(0);
    let statuses = children
        .iter_mut()
        .map(|child| child.wait().unwrap().code());
    let good = statuses.filter(|status| *status == Some(0)).count();
    assert_eq!(good, 1);
    assert!(!path.exists());
}
