//! The upgrade of the binary: another process takes over, and nobody is refused or cut.

use crate::support::proxy::{BINARY, run};
use crate::support::{
    BOUND, Backend, Client, Mode, Proxy, TempDir, both_ends, each_mode, wait_until,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::net::SocketAddr;
use std::path::Path;
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

fn install(place: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    let new = place.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, place).unwrap();
}
