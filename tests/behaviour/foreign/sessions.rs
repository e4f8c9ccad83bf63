//! Sticky sessions with socket.io: two applications behind balancers, with several proxies that know nothing of each other.
//! An application that does not know a session refuses its requests, so one that changes its backend is lost.

use super::{Guard, Maker, go_through_all, serve};
use crate::support::{BOUND, Mode, Proxy, each_mode, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

const SESSIONS: usize = 20;

/// Two applications, each in a process of its own.
fn applications() -> Option<[(Guard, SocketAddr); 2]> {
    Maker::Node.script("sessions")?;
    let start = || {
        let (process, port) = serve(Maker::Node, "app")?;
        Some((process, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    };
    Some([start()?, start()?])
}

/// A proxy for these members: polling goes over one balancer, what is upgraded over the other, with the same routes.
/// `tells`: clients get their route from it.
fn proxy(mode: Mode, members: [SocketAddr; 2], tells: bool) -> Proxy {
    let balancer = |name: &str, scheme: &str| {
        let [one, two] = members;
        format!(
            "<Proxy \"balancer://{name}\">\n\
             BalancerMember \"{scheme}://{one}\" route=one\n\
             BalancerMember \"{scheme}://{two}\" route=two\n\
             ProxySet stickysession=ROUTEID\n\
             </Proxy>\n"
        )
    };
    let header = "Header add Set-Cookie \"ROUTEID=.%{BALANCER_WORKER_ROUTE}e; path=/\" \
                  env=BALANCER_ROUTE_CHANGED\n";
    Proxy::start(format!(
        "{}\n{}{}{}RewriteEngine On\n\
         RewriteCond %{{HTTP:Upgrade}} websocket [NC]\n\
         RewriteRule ^/(.*) balancer://app-ws/$1 [P]\n\
         ProxyPass \"/\" \"balancer://app-http/\"\n\
         CustomLog access.log \"%{{BALANCER_WORKER_ROUTE}}e %>s %q\"",
        mode.directives(),
        balancer("app-http", "http"),
        balancer("app-ws", "ws"),
        if tells { header } else { "" },
    ))
}

/// What stands in front of proxies and knows nothing of HTTP: connections go to them by turns.
fn by_turns(proxies: &[Proxy; 2]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().unwrap();
    let mut turns = proxies.each_ref().map(Proxy::address).into_iter().cycle();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(proxy) = TcpStream::connect(turns.next().unwrap()) else {
                return;
            };
            let copy = |from: &TcpStream, to: &TcpStream| {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
            };
            copy(&client, &proxy);
            copy(&proxy, &client);
        }
    });
    address
}

/// Has the sessions, and looks in the logs of both proxies which member each of them has been at.
#[track_caller]
fn expect_sessions_stay(proxies: &[Proxy; 2]) {
    let url = format!("http://{}", by_turns(proxies));
    let arguments = [url.as_str(), &SESSIONS.to_string()];
    go_through_all(Maker::Node, "sessions", &arguments, SESSIONS);
    let mut routes = BTreeMap::<String, BTreeSet<String>>::new();
    let mut seen_by = BTreeMap::<String, BTreeSet<usize>>::new();
    let mut tunnels = 0;
    wait_until("all tunnels in the logs", BOUND, || {
        (routes, seen_by, tunnels) = Default::default();
        for (number, proxy) in proxies.iter().enumerate() {
            for line in proxy.wait_for_lines("access.log", 1) {
                let words: Vec<&str> = line.split([' ', '?', '&']).collect();
                let Some(id) = words.iter().find_map(|word| word.strip_prefix("sid=")) else {
                    continue;
                };
                let sessions = routes.entry(id.to_owned()).or_default();
                sessions.insert(words[0].to_owned());
                seen_by.entry(id.to_owned()).or_default().insert(number);
                tunnels += usize::from(words[1] == "101");
            }
        }
        tunnels >= SESSIONS / 2
    });
    assert_eq!(routes.len(), SESSIONS, "{routes:?}");
    assert!(
        routes.values().all(|routes| routes.len() == 1),
        "{routes:?}"
    );
    let of_both: BTreeSet<_> = routes.values().flatten().collect();
    assert_eq!(of_both.len(), 2, "each application has some: {routes:?}");
    let wandering = seen_by.values().filter(|proxies| proxies.len() == 2);
    assert!(wandering.count() > SESSIONS / 2, "{seen_by:?}");
}

each_mode! {
    fn sessions_stay_where_they_are_with_two_proxies_side_by_side(mode: Mode) {
        let Some(applications) = applications() else { return };
        let members = applications.each_ref().map(|(_, address)| *address);
        let proxies = [(); 2].map(|()| proxy(mode, members, true));
        expect_sessions_stay(&proxies);
    }

    fn sessions_stay_where_they_are_with_proxies_in_a_row(mode: Mode) {
        let Some(applications) = applications() else { return };
        let members = applications.each_ref().map(|(_, address)| *address);
        let inner = [(); 2].map(|()| proxy(mode, members, true));
        // What clients are told is the choice of those who choose an application.
        let members = inner.each_ref().map(Proxy::address);
        let outer = [(); 2].map(|()| proxy(mode, members, false));
        expect_sessions_stay(&outer);
    }
}
