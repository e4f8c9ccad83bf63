//! Ten thousand handshakes by each method: whether members get what their factors say, to one in a hundred.

use crate::support::client::{frame, switch};
use crate::support::{Backend, Client, Proxy, Wire, raise_limit_of_files};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

const HANDSHAKES: usize = 10_000;
const FACTORS: [f64; 3] = [1.0, 2.5, 4.0];

/// How many clients there are at a time.
const CLIENTS: usize = 8;

/// Members with these factors, in some balancers of one method.
struct Set {
    members: Vec<Backend>,
    proxy: Proxy,
}

impl Set {
    fn new(method: &str, balancers: usize) -> Self {
        raise_limit_of_files();
        let members: Vec<Backend> = FACTORS.map(|_| Backend::serve(reflect)).into();
        let lines: String = (members.iter().zip(FACTORS))
            .map(|(member, factor)| {
                format!("BalancerMember {} loadfactor={factor}\n", member.url())
            })
            .collect();
        let balancer = |number| {
            format!(
                "<Proxy balancer://set{number}>\n{lines}ProxySet lbmethod={method}\n</Proxy>\n\
                 ProxyPass /{number}/ balancer://set{number}/\n"
            )
        };
        let balancers: String = (0..balancers).map(balancer).collect();
        let proxy = Proxy::start(format!(
            "ProxyWebsocketAsync On\nLogLevel notice\n{balancers}"
        ));
        Self { members, proxy }
    }

    /// All handshakes, each client at the balancer that is its own, or at the one that is for all.
    fn visit(&self, balancer_of: impl Fn(usize) -> usize) {
        let (left, proxy) = (AtomicUsize::new(HANDSHAKES), &self.proxy);
        let is_left = || {
            let take = |left: usize| left.checked_sub(1);
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_ok()
        };
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let path = format!("/{}/", balancer_of(client));
                let is_left = &is_left;
                scope.spawn(move || {
                    while is_left() {
                        let mut client = Client::tunnel(proxy, &path);
                        exchange(&mut client);
                        client.finish();
                        client.expect_end();
                    }
                });
            }
        });
    }

    fn counts(&self) -> Vec<usize> {
        self.members.iter().map(Backend::count).collect()
    }
}

/// Switches, and sends all that comes back.
fn reflect(mut wire: Wire) {
    if wire.try_head().is_err() || !wire.send_if_taken(switch()) {
        return;
    }
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = wire.read(&mut bytes) {
        if wire.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// As many bytes for each.
#[track_caller]
fn exchange(client: &mut Client) {
    let message = frame(&[b'm'; 500], Some([1, 2, 3, 4]));
    client.send(&message);
    client.expect(&message);
}

#[track_caller]
fn expect_shares(counts: &[usize], weights: &[f64]) {
    let (all, weight) = (counts.iter().sum::<usize>(), weights.iter().sum::<f64>());
    for (&count, share) in counts.iter().zip(weights) {
        let due = all as f64 * share / weight;
        let off = (count as f64 - due).abs() / due;
        assert!(off < 0.01, "{counts:?}: {count} instead of {due:.0}");
    }
}

#[test]
fn requests_are_shared_by_factor() {
    let set = Set::new("byrequests", 1);
    set.visit(|_| 0);
    expect_shares(&set.counts(), &FACTORS);
}

/// Each session moves as many bytes.
#[test]
fn traffic_is_shared_by_factor() {
    let set = Set::new("bytraffic", 1);
    set.visit(|_| 0);
    expect_shares(&set.counts(), &FACTORS);
}

/// Each client has a balancer to itself, whose members it finds idle: then the factors decide.
#[test]
fn among_idle_members_requests_are_shared_by_factor() {
    let set = Set::new("bybusyness", CLIENTS);
    set.visit(|client| client);
    expect_shares(&set.counts(), &FACTORS);
}

/// Who has fewer open tunnels gets the next, whatever the factors.
#[test]
fn open_tunnels_are_shared_evenly_by_busyness() {
    let set = Set::new("bybusyness", 1);
    let open = |_| Client::tunnel(&set.proxy, "/0/");
    let _open: Vec<Client> = (0..1500).map(open).collect();
    expect_shares(&set.counts(), &[1.0; 3]);
}
