//! The upgrade of the binary: another process takes over, and nobody is refused or cut.

use crate::support::proxy::{BINARY, run};
use crate::support::{
    BOUND, Backend, Client, Mode, Port, Proxy, TempDir, both_ends, each_mode, wait_until,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A process that has taken over; killed at the latest when this goes.
pub struct Successor(pub Pid);

impl Successor {
    /// The one that this line of the log is about.
    #[track_caller]
    pub fn named(line: &str) -> Self {
        let (_, rest) = line.split_once("upgraded: process ").unwrap();
        let pid = rest.split(' ').next().unwrap().parse().unwrap();
        Self(Pid::from_raw(pid).unwrap())
    }

    pub fn is_alive(&self) -> bool {
        // One that has ended and that nobody has waited for is still there.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if test_kill_process(self.0).is_ok() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

/// Has another process take over from `proxy`, and returns when it has.
#[track_caller]
pub fn upgrade(proxy: &Proxy) -> Successor {
    proxy.signal(Signal::USR2);
    Successor::named(&proxy.wait_for_log("has taken over"))
}

fn config(mode: Mode, backend: &Backend, more: &str) -> String {
    let (mode, url) = (mode.directives(), backend.url());
    format!("{mode}\n{more}\nProxyPass /ws/ {url}/\nCustomLog access.log \"%P %{{close-reason}}n\"")
}

#[track_caller]
fn expect_echo(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send(crate::support::client::request("/ws/"));
    client.switched();
    client.echo("hello");
}

each_mode! {
    fn the_old_process_serves_its_tunnels_to_their_end_and_the_new_one_all_others(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = Proxy::start(config(mode, &backend, "PidFile the.pid"));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let pid_file = proxy.directory().join("the.pid");
        let pid_in_file = || std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(pid_in_file().trim(), proxy.id().to_string());
        let successor = upgrade(&proxy);
        assert_eq!(pid_in_file().trim(), successor.0.as_raw_nonzero().to_string());
        let (new_client, mut new_peer) = both_ends(&proxy, &backend);
        for text in ["one", "two"] {
            client.send(text);
            peer.expect(text);
            peer.send(text);
            client.expect(text);
        }
        client.finish();
        peer.expect_end();
        peer.finish();
        client.expect_end();
        proxy.await_exit_before_another();
        let lines = proxy.wait_for_lines("access.log", 1);
        assert_eq!(lines, [format!("{} client closed", proxy.id())]);
        // What it has left behind is the other's.
        assert_eq!(pid_in_file().trim(), successor.0.as_raw_nonzero().to_string());
        let file = proxy.directory().join("proxy.conf");
        let asked = run(&["-f", file.to_str().unwrap(), "-k", "stop"]);
        assert_eq!(asked.status, 0, "{asked:?}");
        new_peer.expect_end();
        drop(new_client);
        wait_until("the other process to end", BOUND, || !successor.is_alive());
        assert!(!pid_file.exists());
    }

    fn tunnels_of_the_old_process_end_where_that_is_asked_for(mode: Mode) {
        let backend = Backend::listen();
        let mut proxy = Proxy::start(config(mode, &backend, "ProxyWebsocketOnUpgrade End 10ms"));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        proxy.settle();
        let _successor = upgrade(&proxy);
        client.expect_end();
        peer.expect_end();
        drop((client, peer));
        proxy.await_exit_before_another();
        let lines = proxy.wait_for_lines("access.log", 1);
        assert_eq!(lines, [format!("{} the server is stopping", proxy.id())]);
    }
}

/// Says that it is over, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_while_one_process_after_the_other_takes_over() {
    let backend = Backend::echo();
    let mut proxy = Proxy::start(config(Mode::Worker, &backend, ""));
    let address = proxy.address();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut served = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        expect_echo(address);
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        let over = Over(&is_over);
        let successor = upgrade(&proxy);
        // The next one is started by the first.
        kill_process(successor.0, Signal::USR2).unwrap();
        wait_until("the third to take over", BOUND, || {
            proxy.log_lines("has taken over").len() == 2
        });
        proxy.await_exit_before_another();
        let before = proxy.log_lines("upgrading: process ");
        drop(over);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
        let pid = before[1].split("process ").nth(1).unwrap();
        let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
        let third = Successor(Pid::from_raw(pid).unwrap());
        expect_echo(address);
        wait_until("the second to end", BOUND, || !successor.is_alive());
        drop(third);
    });
}

#[test]
fn where_the_other_process_does_not_come_up_this_one_goes_on() {
    let backend = Backend::echo();
    let directory = TempDir::new();
    let program = directory.path().join("proxy-wstunnel");
    std::fs::copy(BINARY, &program).unwrap();
    let start = format!("exec {} \"$@\"", program.display());
    let proxy = Proxy::start_in(directory, config(Mode::Worker, &backend, ""), &start);
    let mut tunnel = Client::tunnel(&proxy, "/ws/");
    let mut expect_failure = |text: &str, count: usize| {
        proxy.signal(Signal::USR2);
        wait_until(text, BOUND, || proxy.log_lines("PW606").len() == count);
        let line = proxy.log_lines("PW606").pop().unwrap();
        assert!(line.contains(text), "{line}");
        tunnel.echo("still there");
        expect_echo(proxy.address());
    };
    // A wrong configuration.
    let file = proxy.directory().join("proxy.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nProxyPas / ws://b/")).unwrap();
    expect_failure("it ended: exit status: 1", 1);
    std::fs::write(&file, good).unwrap();
    // Something else is installed; a file that runs cannot be written, so that packages put others in its place.
    install(&program, "#!/bin/sh\nexit 7\n");
    expect_failure("it ended: exit status: 7", 2);
    install(&program, "#!/bin/sh\nkill -9 $$\n");
    expect_failure("it ended: signal: 9", 3);
    install(&program, "this is no program");
    expect_failure("not upgraded: ", 4);
    std::fs::remove_file(&program).unwrap();
    expect_failure("No such file", 5);
    // And at last a good one.
    std::fs::copy(BINARY, &program).unwrap();
    let _successor = upgrade(&proxy);
    tunnel.echo("still there");
    expect_echo(proxy.address());
}

/// A proxy that is started by a link to its program, whose place others can take, and without a terminal.
fn start_replaceable(backend: &Backend, more: &str) -> (Proxy, PathBuf) {
    let directory = TempDir::new();
    let program = directory.path().join("proxy-wstunnel");
    std::os::unix::fs::symlink(BINARY, &program).unwrap();
    let start = format!("exec setsid {} \"$@\"", program.display());
    let config = config(Mode::Worker, backend, more);
    (Proxy::start_in(directory, config, &start), program)
}

/// Waits for the line about the process that is to take over.
fn about_to_take_over(proxy: &Proxy) -> Successor {
    proxy.signal(Signal::USR2);
    let line = proxy.wait_for_log("upgrading: process ");
    let (_, rest) = line.split_once("upgrading: process ").unwrap();
    let pid = rest.split(' ').next().unwrap().parse().unwrap();
    Successor(Pid::from_raw(pid).unwrap())
}

const NEVER_SERVES: &str = "#!/bin/sh\nexec sleep 1000\n";

#[test]
fn where_the_program_is_a_link_the_upgrade_goes_where_it_leads_by_then() {
    let backend = Backend::echo();
    let (proxy, program) = start_replaceable(&backend, "");
    install(&program, "#!/bin/sh\nexit 7\n");
    proxy.signal(Signal::USR2);
    let line = proxy.wait_for_log("PW606");
    assert!(line.contains("it ended: exit status: 7"), "{line}");
    expect_echo(proxy.address());
}

#[test]
fn a_stop_ends_who_was_about_to_take_over() {
    let backend = Backend::echo();
    let (mut proxy, program) = start_replaceable(&backend, "");
    install(&program, NEVER_SERVES);
    let successor = about_to_take_over(&proxy);
    proxy.signal(Signal::TERM);
    proxy.await_exit();
    assert!(!successor.is_alive());
}

#[test]
fn a_graceful_stop_ends_who_was_about_to_take_over_and_nobody_else() {
    let backend = Backend::listen();
    let (mut proxy, program) = start_replaceable(&backend, "GracefulShutdownTimeout 0");
    let (mut client, mut peer) = both_ends(&proxy, &backend);
    install(&program, NEVER_SERVES);
    let successor = about_to_take_over(&proxy);
    proxy.signal(Signal::WINCH);
    proxy.wait_for_log("stopping gracefully; ");
    assert!(!successor.is_alive());
    proxy.signal(Signal::USR2);
    proxy.wait_for_log("not upgraded, since the server is stopping");
    client.send("still");
    peer.expect("still");
    drop((client, peer));
    proxy.await_exit();
}

#[test]
fn a_reload_waits_for_an_upgrade_and_is_done_by_who_goes_on() {
    let backend = Backend::echo();
    let (mut proxy, program) = start_replaceable(&backend, "");
    install(&program, NEVER_SERVES);
    let successor = about_to_take_over(&proxy);
    proxy.signal(Signal::USR1);
    proxy.wait_for_log("the reload waits for process ");
    assert_eq!(proxy.log_lines("reloaded: "), [""; 0]);
    kill_process(successor.0, Signal::KILL).unwrap();
    proxy.wait_for_log("PW606");
    proxy.wait_for_log("reloaded: generation 2 ");
    // The other one reads the configuration when it likes, perhaps before it was changed.
    let go = proxy.directory().join("go");
    let waits = format!("until test -e {}; do sleep 0.01; done", go.display());
    install(
        &program,
        &format!("#!/bin/sh\n{waits}\nexec {BINARY} \"$@\"\n"),
    );
    proxy.signal(Signal::USR2);
    wait_until("the upgrade", BOUND, || {
        proxy.log_lines("upgrading: ").len() == 2
    });
    proxy.signal(Signal::HUP);
    wait_until("the reload to wait", BOUND, || {
        proxy.log_lines("the reload waits for process ").len() == 2
    });
    std::fs::write(go, "").unwrap();
    let line = proxy.wait_for_log("has taken over");
    let pid = line.rsplit("process ").next().unwrap();
    let pid = pid.split(' ').next().unwrap().parse().unwrap();
    let _successor = Successor(Pid::from_raw(pid).unwrap());
    wait_until("the other process to reload", BOUND, || {
        proxy.log_lines("reloaded: generation 2 ").len() == 2
    });
    expect_echo(proxy.address());
    proxy.await_exit_before_another();
}

#[test]
fn a_program_that_goes_on_without_a_word_does_not_keep_the_server_waiting() {
    let backend = Backend::echo();
    let (mut proxy, program) = start_replaceable(&backend, "");
    let closes =
        "for file in /proc/$$/fd/*; do n=${file##*/}; test $n -lt 3 || eval \"exec $n>&-\"; done";
    let speechless = format!("#!/usr/bin/env bash\n{closes}\nexec sleep 1000 2>/dev/null\n");
    install(&program, &speechless);
    proxy.signal(Signal::USR2);
    let line = proxy.wait_for_log("PW606");
    assert!(line.contains("it ended: signal: 9"), "{line}");
    proxy.stop();
}

#[test]
fn who_does_not_come_up_takes_no_control_socket_with_it() {
    let backend = Backend::echo();
    let directory = TempDir::new();
    let socket = directory.path().join("control");
    let listen = format!("Listen 127.0.0.1:0\nListen unix:{}", socket.display());
    let proxy = Proxy::start_in(directory, config(Mode::Worker, &backend, &listen), "");
    let file = proxy.directory().join("proxy.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nCustomLog /no/such/folder/log %s")).unwrap();
    proxy.signal(Signal::USR2);
    proxy.wait_for_log("PW606");
    assert!(socket.exists());
    run(&["--control", socket.to_str().unwrap(), "--status"]).expect_status(0);
    // Who comes up removes it at its end.
    std::fs::write(&file, good).unwrap();
    let successor = upgrade(&proxy);
    kill_process(successor.0, Signal::TERM).unwrap();
    wait_until("the other process to end", BOUND, || !successor.is_alive());
    assert!(!socket.exists());
}

#[test]
fn who_does_not_come_up_says_why_in_the_error_log() {
    let backend = Backend::echo();
    let proxy = Proxy::start(config(Mode::Worker, &backend, "ErrorLog error.log"));
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let file = proxy.directory().join("proxy.conf");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\nListen {taken}")).unwrap();
    proxy.signal(Signal::USR2);
    let mut lines = Vec::new();
    wait_until("the upgrade to fail", BOUND, || {
        lines = crate::support::proxy::lines_of(&proxy.directory().join("error.log"));
        lines.iter().any(|line| line.contains("PW606"))
    });
    let why = lines.iter().find(|line| line.contains("cannot start: "));
    let why = why.expect("a line that says why");
    assert!(why.contains(&format!("cannot bind {taken}: ")), "{why}");
}

fn install(place: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    let new = place.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, place).unwrap();
}

#[test]
fn the_control_socket_and_the_probes_are_the_new_process_s() {
    let backend = Backend::listen();
    let port = Port::at(Ipv4Addr::LOCALHOST.into());
    let probe = port.address();
    let more = format!("Listen 127.0.0.1:0\nListen {probe} status\nListen unix:c.sock\nPidFile p");
    let mut proxy = Proxy::start(config(Mode::Worker, &backend, &more));
    let socket = proxy.directory().join("c.sock");
    let status = || {
        let asked = run(&["--status", "--json", "--control", socket.to_str().unwrap()]);
        assert_eq!(asked.status, 0, "{asked:?}");
        asked.stdout
    };
    let pid = |json: &str| {
        let (_, rest) = json.split_once("\"pid\":").expect("a number");
        rest.trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .to_owned()
    };
    let is_healthy = || {
        let mut client = Client::connect(probe);
        client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer_head().expect_status(200);
    };
    assert_eq!(pid(&status()), proxy.id().to_string());
    let (client, peer) = both_ends(&proxy, &backend);
    let successor = upgrade(&proxy);
    let new = successor.0.as_raw_nonzero().to_string();
    for _ in 0..20 {
        assert_eq!(pid(&status()), new);
        is_healthy();
    }
    drop((client, peer));
    proxy.await_exit_before_another();
    assert_eq!(pid(&status()), new);
    is_healthy();
    kill_process(successor.0, Signal::TERM).unwrap();
    wait_until("the other process to end", BOUND, || !successor.is_alive());
    assert!(!socket.exists());
}
