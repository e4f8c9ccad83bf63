//! Balancers whose members come and go: a member is a process of its own, and is killed as `kill -9` does it.

use crate::support::client::{frame, request};
use crate::support::{
    BOUND, Backend, Client, Port, Proxy, Wire, each_mode, raise_limit_of_files, wait_until,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUTES: [&str; 3] = ["one", "two", "three"];
/// How many tunnels are open as the member dies.
const TUNNELS: usize = 500;
/// How long it is set aside.
const RETRY: Duration = Duration::from_secs(1);

/// A place for a member, which stays the same when another process takes it over.
struct Place {
    route: &'static str,
    port: Port,
}

impl Place {
    fn new(route: &'static str) -> Self {
        Self {
            route,
            port: Port::at(Ipv4Addr::LOCALHOST.into()),
        }
    }

    /// A process that echoes there.
    fn member(&self, echo: &Backend) -> Proxy {
        Proxy::start(format!(
            "Listen {}\nProxyWebsocketAsync On\nProxyPass /ws/ {}/",
            self.port.address(),
            echo.url()
        ))
    }

    /// As a line of the configuration.
    fn line(&self) -> String {
        let Self { route, port } = self;
        let retry = RETRY.as_secs();
        format!(
            "BalancerMember ws://{} route={route} retry={retry}",
            port.address()
        )
    }
}

/// The member behind a tunnel.
#[track_caller]
fn member_of(client: &mut Client) -> String {
    client.switched().field("Member").expect("a member")
}

/// How many of these each member has.
fn counted<'a>(members: impl IntoIterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for member in members {
        *counts.entry(member.as_str()).or_default() += 1;
    }
    counts
}

/// Clients that come one after the other and stay for one message.
#[derive(Default)]
struct Stream {
    is_over: AtomicBool,
    served: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Stream {
    /// `dies`: the member whose tunnels may end before their time.
    fn run(&self, proxy: &Proxy, dies: &str) {
        let until = Instant::now() + BOUND;
        while !self.is_over.load(Ordering::SeqCst) && Instant::now() < until {
            match Self::visit(&mut Client::connect(proxy.address()), dies) {
                Ok(()) => self.served.fetch_add(1, Ordering::SeqCst),
                Err(failure) => return self.failures.lock().unwrap().push(failure),
            };
        }
    }

    fn visit(client: &mut Wire, dies: &str) -> Result<(), String> {
        client.send(request("/ws/"));
        let head = client.try_head()?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        let is_lost = !client.send_if_taken(frame(b"one message", Some([1, 2, 3, 4])));
        let mut echo = [0; 13];
        let received = client.read_exact(&mut echo);
        if (is_lost || received.is_err()) && !head.contains(&format!("Member: {dies}\r\n")) {
            return Err(format!("{head}{received:?}"));
        }
        Ok(())
    }

    /// Waits until this many more have been served.
    #[track_caller]
    fn wait_for(&self, more: usize) {
        let aim = self.served.load(Ordering::SeqCst) + more;
        wait_until("clients to be served", BOUND, || {
            self.served.load(Ordering::SeqCst) >= aim || !self.failures.lock().unwrap().is_empty()
        });
    }
}

each_mode! {
    fn a_member_that_is_killed_takes_its_own_tunnels_with_it_and_nothing_else(mode: Mode) {
        raise_limit_of_files();
        let echo = Backend::echo();
        let places = ROUTES.map(Place::new);
        let [_one, mut two, _three] = places.each_ref().map(|place| place.member(&echo));
        let proxy = Proxy::start(format!(
            "{}\nMaxRequestWorkers 800\n\
             <Proxy balancer://set>\n{}\n</Proxy>\n\
             ProxyPass /ws/ balancer://set/ws/\n\
             Header set Member %{{BALANCER_WORKER_ROUTE}}e\n\
             CustomLog access.log \"%>s %{{BALANCER_WORKER_ROUTE}}e %U %{{close-reason}}n\"",
            mode.directives(),
            places.each_ref().map(Place::line).join("\n")
        ));
        // The killed one's are told from those of the stream by their path.
        let open = |_| Client::asking(&proxy, "/ws/stays");
        let mut clients: Vec<Client> = (0..TUNNELS).map(open).collect();
        let members: Vec<String> = clients.iter_mut().map(member_of).collect();
        let counts = counted(&members);
        assert!(counts.values().all(|&count| (166..=167).contains(&count)), "{counts:?}");
        let (mut dead, mut alive) = (Vec::new(), Vec::new());
        for (client, member) in clients.into_iter().zip(&members) {
            if member == "two" { dead.push(client) } else { alive.push(client) }
        }
        let stream = Stream::default();
        let _two = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| stream.run(&proxy, "two"));
            }
            stream.wait_for(60);
            let killed = Instant::now();
            two.kill();
            for client in &mut dead {
                client.rest();
            }
            let took = killed.elapsed();
            println!("{mode:?}: {} tunnels ended within {took:?}", dead.len());
            assert!(took < Duration::from_secs(1), "{took:?}");
            // Their clients close nothing, and are not waited for.
            let mut ended = Vec::new();
            wait_until("all dead tunnels in the log", Duration::from_secs(2), || {
                ended = proxy.wait_for_lines("access.log", 1);
                ended.retain(|line| line.contains(" /ws/stays "));
                ended.len() >= dead.len()
            });
            for line in &ended {
                let (_, reason) = line.split_once("101 two /ws/stays backend ").expect(line);
                assert!(reason.contains("without a Close frame"), "{line}");
            }
            stream.wait_for(60);
            let back = Instant::now();
            let two = places[1].member(&echo);
            let mut tried = 0;
            wait_until("the member to get tunnels again", 2 * RETRY, || {
                tried += 1;
                member_of(&mut Client::asking(&proxy, "/ws/")) == "two"
            });
            println!("{mode:?}: back after {:?}, {tried} clients", back.elapsed());
            stream.wait_for(60);
            stream.is_over.store(true, Ordering::SeqCst);
            // All others have stayed, and no client was turned away.
            for (number, client) in alive.iter_mut().enumerate() {
                client.echo(&format!("number {number}"));
            }
            let lines = proxy.wait_for_lines("access.log", 1);
            let ended = lines.iter().filter(|line| line.contains(" /ws/stays ")).count();
            assert_eq!(ended, dead.len());
            two
        });
        let failures = stream.failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
        println!("{mode:?}: {} clients meanwhile", stream.served.into_inner());
        let open = |_| member_of(&mut Client::asking(&proxy, "/ws/"));
        let members: Vec<String> = (0..90).map(open).collect();
        let counts = counted(&members);
        assert!(counts.values().all(|&count| (29..=31).contains(&count)), "{counts:?}");
    }
}
