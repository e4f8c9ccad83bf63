//! Many tunnels, and nothing left behind.

use crate::support::{BOUND, Backend, Client, Proxy, each_mode, wait_until};
use std::time::Duration;

each_mode! {
    /// As many tunnels as there are workers by default, and as many again that wait for them.
    fn four_hundred_tunnels_echo_and_four_hundred_more_have_their_turn(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        let mut first: Vec<_> = (0..400).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        for (number, client) in first.iter_mut().enumerate() {
            client.echo(&format!("number {number}"));
        }
        let mut second: Vec<_> = (0..400).map(|_| Client::asking(&proxy, "/ws/")).collect();
        proxy.wait_for_log("MaxRequestWorkers");
        assert_eq!(backend.count(), 400, "MaxRequestWorkers is 400 by default");
        for (number, client) in first.iter_mut().enumerate() {
            client.echo(&format!("again number {number}"));
        }
        // One by one: each that ends lets one in.
        for (number, client) in second.iter_mut().enumerate() {
            drop(first.pop());
            client.switched();
            client.echo(&format!("later number {number}"));
        }
        assert_eq!(proxy.log_lines("MaxRequestWorkers").len(), 1, "one episode");
        for (number, client) in second.iter_mut().enumerate() {
            client.echo(&format!("last number {number}"));
        }
    }

    fn five_thousand_tunnels_leave_nothing_behind(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        // The start: what the first crowd needed has been touched once, and is idle again.
        open_and_close(&proxy, 64);
        let start = settled(&proxy);
        open_and_close(&proxy, 5000);
        wait_until("descriptors and threads to be back at the start", BOUND, || {
            let now = proxy.figures();
            now.descriptors <= start.descriptors && now.threads <= start.threads
        });
        let grown = proxy.figures().resident.saturating_sub(start.resident);
        // What the allocator keeps for its arenas is not the tunnels'; a kilobyte for each would be 5 MB.
        assert!(grown < 1 << 20, "{grown} bytes are left behind");
    }

    fn tunnels_that_are_there_at_once_leave_nothing_behind(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/",
            mode.directives(),
            backend.url()
        ));
        let start = settled(&proxy);
        let mut crowd: Vec<_> = (0..300).map(|_| Client::tunnel(&proxy, "/ws/")).collect();
        for client in &mut crowd {
            client.echo("x");
        }
        let full = proxy.figures();
        assert!(full.descriptors >= start.descriptors + 600);
        drop(crowd);
        wait_until("descriptors and threads to be back at the start", BOUND, || {
            let now = proxy.figures();
            now.descriptors <= start.descriptors && now.threads <= start.threads
        });
        let each = full.resident.saturating_sub(start.resident) / 300;
        assert!(each < 100_000, "{each} bytes for a tunnel at rest");
    }
}

/// Sixteen at a time, each echoing once.
#[track_caller]
fn open_and_close(proxy: &Proxy, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for number in 0..count.div_ceil(16) {
                    let mut client = Client::tunnel(proxy, "/ws/");
                    client.echo(&format!("number {number}"));
                    client.finish();
                    client.rest();
                }
            });
        }
    });
}

/// The figures once they stand still: the pool lets idle threads go after some seconds.
#[track_caller]
fn settled(proxy: &Proxy) -> crate::support::proxy::Figures {
    let mut last = proxy.figures();
    let mut since = std::time::Instant::now();
    wait_until("the proxy to settle", BOUND, || {
        let now = proxy.figures();
        if (now.descriptors, now.threads) != (last.descriptors, last.threads) {
            last = now;
            since = std::time::Instant::now();
        }
        since.elapsed() > Duration::from_secs(7)
    });
    proxy.figures()
}
