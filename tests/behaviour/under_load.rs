//! What an operator does while many talk: reloads, a restart with the service manager, an upgrade. No tunnel that may go on
//! ends or loses a byte, and nobody who comes meanwhile is refused.

mod reloads;
mod successions;

use crate::support::client::request;
use crate::support::echoing::Coming;
use crate::support::{Client, raise_limit_of_files};
use std::net::SocketAddr;

/// As many as `whole`, if the tests are to take as long as they like (`LONG=true` in the environment, as `.ci/long` has it),
/// and a share of it otherwise.
fn size(whole: usize, share: usize) -> usize {
    let is_long = std::env::var("LONG").is_ok_and(|value| value == "true");
    if is_long { whole } else { share }
}

/// A tunnel to `path` at this address.
#[track_caller]
fn tunnel(address: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(address);
    client.send(request(path));
    client.switched();
    client
}

/// So many tunnels, opened by several at once.
fn tunnels(count: usize, open: impl Fn(usize) -> Client + Sync) -> Vec<Client> {
    const AT_ONCE: usize = 8;
    raise_limit_of_files();
    let open = &open;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|first| {
                let numbers = (first..count).step_by(AT_ONCE);
                scope.spawn(move || numbers.map(open).collect::<Vec<_>>())
            })
            .collect();
        let shares = threads.into_iter();
        let shares = shares.flat_map(|thread| thread.join().expect("every tunnel to open"));
        shares.collect()
    })
}

/// Clients that come all the time, each for a tunnel that echoes.
fn clients(address: SocketAddr) -> Coming {
    Coming::start(2, move || {
        let mut client = tunnel(address, "/ws/");
        client.echo("I have come");
        client.finish();
        client.expect_end();
    })
}
