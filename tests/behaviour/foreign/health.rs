//! What other people's servers make of health checks.

use super::{Maker, serve};
use crate::support::{Client, Proxy, each_mode};
use tungstenite::Message;

each_mode! {
    fn a_check_is_a_visit_that_ends_with_1000_to_a_python_server(mode: Mode) {
        visited(mode.directives(), Maker::Python);
    }

    fn a_check_is_a_visit_that_ends_with_1000_to_a_node_server(mode: Mode) {
        visited(mode.directives(), Maker::Node);
    }
}

/// The server tells a client how a connection that it has seen was closed: one of a check, since there are no others.
fn visited(directives: &str, maker: Maker) {
    let Some((_server, port)) = serve(maker, "server") else {
        return;
    };
    let proxy = Proxy::start(format!(
        "LogLevel debug\n{directives}\n<Proxy \"balancer://set\">\n\
         BalancerMember ws://127.0.0.1:{port} hcmethod=WS hcinterval=200ms\n</Proxy>\nProxyPass / balancer://set/"
    ));
    let mut client = Client::messages(&proxy, "/");
    client.send(Message::text("reason 1000")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(""));
    assert!(proxy.log_lines("health check WS: failed").is_empty());
}
