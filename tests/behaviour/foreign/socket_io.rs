//! socket.io through the mixed application of the examples: it begins with ordinary requests, and asks for the WebSocket at
//! the same URL.

use super::examples::with_rules;
use super::{Maker, go_through_all, serve};
use crate::support::{BOUND, Mode, Proxy, each_mode, wait_until};
use std::collections::BTreeSet;

/// Runs the client that may use these transports, and ends with `last`; says what was asked: method, transport and status.
#[track_caller]
fn carried(mode: Mode, transports: &str, last: &str) -> Option<BTreeSet<String>> {
    let (_app, port) = serve(Maker::Node, "app")?;
    Maker::Node.script("socket_io")?;
    let proxy = Proxy::start(format!(
        "{}\n{}\nCustomLog access.log \"%m %q %>s\"",
        mode.directives(),
        with_rules(port)
    ));
    let url = format!("http://{}", proxy.address());
    go_through_all(Maker::Node, "socket_io", &[&url, transports, last], 3);
    // Each of its three connections begins with one, and tunnels are told when they end.
    let mut lines = Vec::new();
    wait_until("all requests in the log", BOUND, || {
        lines = proxy.wait_for_lines("access.log", 3);
        let switched = lines.iter().filter(|line| line.ends_with(" 101")).count();
        last == "polling" || switched == 3
    });
    let brief = |line: &String| {
        let words: Vec<&str> = line.split([' ', '?', '&']).collect();
        let transport = words.iter().find(|word| word.starts_with("transport="));
        let (method, status) = (words.first()?, words.last()?);
        Some(format!("{method} {} {status}", transport?))
    };
    Some(lines.iter().filter_map(brief).collect())
}

#[track_caller]
fn expect(mode: Mode, transports: &str, last: &str, asked: &[&str]) {
    if let Some(found) = carried(mode, transports, last) {
        let asked: BTreeSet<String> = asked.iter().map(|one| (*one).to_owned()).collect();
        assert_eq!(found, asked);
    }
}

const POLLING: [&str; 2] = ["GET transport=polling 200", "POST transport=polling 200"];
const WEBSOCKET: &str = "GET transport=websocket 101";

each_mode! {
    fn socket_io_begins_with_polling_and_goes_over_to_a_websocket(mode: Mode) {
        expect(mode, "polling,websocket", "websocket", &[POLLING[0], POLLING[1], WEBSOCKET]);
    }

    fn socket_io_lives_of_polling_alone(mode: Mode) {
        expect(mode, "polling", "polling", &POLLING);
    }

    fn socket_io_lives_of_a_websocket_alone(mode: Mode) {
        expect(mode, "websocket", "websocket", &[WEBSOCKET]);
    }
}
