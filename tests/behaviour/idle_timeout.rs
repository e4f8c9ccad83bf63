//! `ProxyWebsocketIdleTimeout`: counted over both directions, and nothing else ends a tunnel.

use crate::support::{Backend, Client, Proxy, both_ends as tunnel, each_mode, logging as start};
use std::time::{Duration, Instant};

each_mode! {
    fn a_tunnel_in_which_nothing_moves_ends(mode: Mode) {
        let backend = Backend::listen();
        for (value, limit) in [
            ("500ms", Duration::from_millis(500)),
            ("1", Duration::from_secs(1)),
            ("1s", Duration::from_secs(1)),
        ] {
            let directive = format!("ProxyWebsocketIdleTimeout {value}");
            let proxy = start(mode, &backend, &directive);
            let (mut client, mut peer) = tunnel(&proxy, &backend);
            client.send("x");
            peer.expect("x");
            let begun = Instant::now();
            client.expect_cut();
            peer.expect_cut();
            let took = begun.elapsed();
            let expected = limit - Duration::from_millis(50)..limit + Duration::from_secs(3);
            assert!(expected.contains(&took), "{took:?} for {value}");
            let lines = proxy.wait_for_lines("access.log", 1);
            assert!(lines[0].starts_with("101 idle for "), "{lines:?}");
        }
    }

    fn bytes_of_either_direction_keep_a_tunnel(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "ProxyWebsocketIdleTimeout 1");
        for client_speaks in [true, false] {
            let (mut client, mut peer) = tunnel(&proxy, &backend);
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(250));
                let (from, to) = if client_speaks {
                    (&mut *client, &mut peer)
                } else {
                    (&mut peer, &mut *client)
                };
                from.send("x");
                to.expect("x");
            }
            client.expect_cut();
        }
    }

    fn zero_is_never_and_no_other_timeout_ends_a_tunnel(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(
            mode,
            &backend,
            "ProxyWebsocketIdleTimeout 0\nTimeout 500ms\nProxyTimeout 500ms\n\
             RequestReadTimeout header=1-2,MinRate=500",
        );
        let (mut client, mut peer) = tunnel(&proxy, &backend);
        client.expect_quiet(Duration::from_millis(2500));
        client.send("still");
        peer.expect("still");
        peer.send("here");
        client.expect("here");
    }
}

/// Where a virtual host says nothing, the main server's word holds.
#[test]
fn a_virtual_host_has_its_own_limit() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyWebsocketIdleTimeout 500ms\nProxyPass /ws/ {url}/\n\
         <VirtualHost *:*>\nServerName front.example\nProxyWebsocketIdleTimeout 0\nProxyPass /ws/ {url}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName other.example\nProxyPass /ws/ {url}/\n</VirtualHost>\n"
    ));
    let (mut patient, _peer) = tunnel(&proxy, &backend);
    let other = crate::support::client::request("/ws/").replace("front.example", "other.example");
    let mut impatient = Client::sending(&proxy, other);
    let _other_peer = backend.accept_tunnel();
    impatient.switched();
    impatient.expect_cut();
    patient.expect_quiet(Duration::from_millis(500));
}
