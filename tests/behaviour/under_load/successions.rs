//! One process after the other: restarts where the service manager holds the socket, and upgrades.

use super::{clients, size, tunnel, tunnels};
use crate::support::echoing::{Coming, Echoing};
use crate::support::proxy::lines_of;
use crate::support::{BOUND, Backend, Mode, Proxy, TempDir, wait_until};
use crate::upgrade::{Successor, upgrade};
use rustix::process::{Signal, kill_process};
use std::net::TcpListener;
use std::os::fd::OwnedFd;

fn config(mode: Mode, backend: &Backend, listen: &str) -> String {
    let (mode, url) = (mode.directives(), backend.url());
    format!(
        "{listen}\n{mode}\nMaxRequestWorkers 600\nProxyPass /ws/ {url}/\n\
         CustomLog access.log \"%P %>s %{{close-reason}}n\""
    )
}

/// Waits until the crowd has echoed anew, and others have come and been served.
#[track_caller]
fn all_go_on(crowd: &Echoing, coming: &Coming) {
    let (rounds, served) = (crowd.rounds(), coming.served());
    wait_until("everybody to be served", BOUND, || {
        assert!(crowd.is_well());
        crowd.rounds() > rounds + 1 && coming.served() > served + 3
    });
}

/// Every tunnel of this process has ended by its client's wish, those of the crowd among them.
#[track_caller]
fn expect_ends(proxy: &Proxy, crowd: usize) {
    let lines = lines_of(&proxy.directory().join("access.log"));
    let ours = format!("{} ", proxy.id());
    let ends: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&ours))
        .collect();
    assert!(ends.len() >= crowd, "{} of {crowd}", ends.len());
    assert!(ends.iter().all(|end| *end == "101 client closed"));
}

/// The manager has the listener, and so it is there all the time.
fn restarts_leave_the_tunnels_to_their_ends_and_refuse_nobody(mode: Mode) {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        let held = OwnedFd::from(listener.try_clone().unwrap());
        let config = config(mode, &backend, &format!("Listen {address}"));
        let names = "export LISTEN_FDNAMES=web";
        Proxy::start_passing(TempDir::new(), config, names, [held])
    };
    let mut first = start();
    let size = size(500, 200);
    let crowd = Echoing::start(tunnels(size, |_| tunnel(address, "/ws/")));
    let coming = clients(address);
    all_go_on(&crowd, &coming);
    first.signal(Signal::WINCH);
    first.wait_for_log("stopping gracefully");
    // Who comes now waits for this one.
    let mut second = start();
    all_go_on(&crowd, &coming);
    second.signal(Signal::WINCH);
    second.await_exit();
    let mut third = start();
    all_go_on(&crowd, &coming);
    crowd.end();
    first.await_exit();
    expect_ends(&first, size);
    assert!(coming.stop() > 0);
    expect_ends(&second, 1);
    third.stop();
}

#[test]
fn restarts_leave_tunnels_in_workers_to_their_ends_and_refuse_nobody() {
    restarts_leave_the_tunnels_to_their_ends_and_refuse_nobody(Mode::Worker);
}

#[test]
fn restarts_leave_tunnels_in_the_reactor_to_their_ends_and_refuse_nobody() {
    restarts_leave_the_tunnels_to_their_ends_and_refuse_nobody(Mode::Reactor);
}

fn upgrades_leave_the_tunnels_to_their_ends_and_refuse_nobody(mode: Mode) {
    let backend = Backend::echo();
    let mut proxy = Proxy::start(config(mode, &backend, "Listen 127.0.0.1:0"));
    let address = proxy.address();
    let size = size(500, 200);
    let open = || Echoing::start(tunnels(size, |_| tunnel(address, "/ws/")));
    let crowd = open();
    let coming = clients(address);
    all_go_on(&crowd, &coming);
    let second = upgrade(&proxy);
    all_go_on(&crowd, &coming);
    // The next one takes over from the second, which has a crowd of its own, while the first serves on.
    let later = open();
    kill_process(second.0, Signal::USR2).unwrap();
    wait_until("the third to take over", BOUND, || {
        proxy.log_lines("has taken over").len() == 2
    });
    let third = Successor::named(&proxy.log_lines("has taken over")[1]);
    all_go_on(&crowd, &coming);
    all_go_on(&later, &coming);
    crowd.end();
    proxy.await_exit_before_another();
    expect_ends(&proxy, size);
    later.end();
    wait_until("the second to end", BOUND, || !second.is_alive());
    let last = open();
    all_go_on(&last, &coming);
    last.end();
    assert!(coming.stop() > 0);
    drop(third);
}

#[test]
fn upgrades_leave_tunnels_in_workers_to_their_ends_and_refuse_nobody() {
    upgrades_leave_the_tunnels_to_their_ends_and_refuse_nobody(Mode::Worker);
}

#[test]
fn upgrades_leave_tunnels_in_the_reactor_to_their_ends_and_refuse_nobody() {
    upgrades_leave_the_tunnels_to_their_ends_and_refuse_nobody(Mode::Reactor);
}
