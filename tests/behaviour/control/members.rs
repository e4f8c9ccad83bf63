//! Draining members of balancers, and naming them.

use super::{LISTEN, command, start};
use crate::support::{Client, Pages, Proxy, pages};

/// `balancer://set` of these, and more lines.
fn balanced(members: [&Pages; 2], more: &str) -> String {
    let [a, b] =
        members.map(|member| format!("BalancerMember http://{}\n", member.backend.address()));
    format!("<Proxy balancer://set>\n{a}{b}</Proxy>\nProxyPass / balancer://set/\n{more}")
}

fn page(word: &'static str) -> Pages {
    Pages::answering(move |_| pages::page_with("", word))
}

#[track_caller]
fn members(proxy: &Proxy, count: usize) -> String {
    let mut client = Client::connect(proxy.address());
    let pages = (0..count).map(|_| {
        client.send(pages::get("/"));
        pages::answer(&mut client).expect_status(200).body
    });
    pages.map(|page| String::from_utf8(page).unwrap()).collect()
}

#[test]
fn a_drained_member_gets_no_new_sessions_until_it_is_undrained_reloads_or_not() {
    let (a, b) = (page("a"), page("b"));
    let config = |more| LISTEN.to_owned() + &balanced([&a, &b], more);
    let proxy = Proxy::start(config(""));
    assert_eq!(members(&proxy, 4), "abab");
    let name = format!("http://{}", a.backend.address());
    let drained = command(&proxy, &["--drain", &name]).expect_status(0);
    assert_eq!(
        drained.stdout,
        format!("balancer://set/{name} is draining; it has 0 open requests and tunnels\n")
    );
    proxy.wait_for_log("is draining; it has 0 open requests and tunnels, at the request of user ");
    assert_eq!(members(&proxy, 3), "bbb");
    proxy.reload(config("Timeout 7\n"));
    assert_eq!(members(&proxy, 3), "bbb");
    let undrained = command(&proxy, &["--undrain", &format!("balancer://SET/{name}/")]);
    assert_eq!(
        undrained.expect_status(0).stdout,
        format!("balancer://set/{name} is not draining\n")
    );
    let shares = members(&proxy, 4);
    assert!(shares.contains('a') && shares.contains('b'), "{shares}");
}

#[test]
fn a_member_that_there_is_not_or_that_there_are_two_of_is_told_with_what_there_is() {
    let proxy = start(
        "<Proxy balancer://one>\nBalancerMember ws://127.0.0.1:9\n</Proxy>\n\
         <Proxy balancer://two>\nBalancerMember ws://127.0.0.1:9\nBalancerMember ws://127.0.0.1:8/x\n</Proxy>\n\
         ProxyPass /1 balancer://one\nProxyPass /2 balancer://two\n",
    );
    let unknown = command(&proxy, &["--drain", "ws://127.0.0.1:7"]).expect_status(1);
    let ambiguous = command(&proxy, &["--drain", "ws://127.0.0.1:9"]).expect_status(1);
    assert!(
        unknown
            .stderr
            .starts_with("proxy-wstunnel: there is no member \"ws://127.0.0.1:7\"; there are\n")
    );
    assert!(
        ambiguous
            .stderr
            .contains("\"ws://127.0.0.1:9\" is a member of several balancers")
    );
    let file = proxy.directory().join("proxy.conf");
    let place = |line: u32| format!("{}:{line}", file.display());
    for line in [
        format!("  balancer://one/ws://127.0.0.1:9  {}", place(7)),
        format!("  balancer://two/ws://127.0.0.1:9  {}", place(10)),
    ] {
        assert!(unknown.stderr.contains(&line), "{unknown:?}");
        assert!(ambiguous.stderr.contains(&line), "{ambiguous:?}");
    }
    assert!(unknown.stderr.contains("balancer://two/ws://127.0.0.1:8/x"));
    assert!(!ambiguous.stderr.contains("ws://127.0.0.1:8/x"));
    for name in ["balancer://two/ws://127.0.0.1:9", &place(10)] {
        let drained = command(&proxy, &["--drain", name]).expect_status(0);
        assert!(
            drained
                .stdout
                .starts_with("balancer://two/ws://127.0.0.1:9 is draining")
        );
    }
    let last = command(&proxy, &["--drain", "balancer://one/ws://127.0.0.1:9"]).expect_status(0);
    assert!(
        last.stdout
            .ends_with(", and there is no other member that takes new ones\n")
    );
    let none = start("ProxyPass / ws://127.0.0.1:9/");
    let none = command(&none, &["--undrain", "ws://127.0.0.1:9"]).expect_status(1);
    assert!(none.stderr.contains("there is no balancer"), "{none:?}");
}
