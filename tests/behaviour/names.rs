//! Names of backends: several addresses, and others after a while. The proxy sees a file of names of its own; where no
//! namespace of mounts can be made, these tests are skipped.

use crate::support::pages::{answer, get};
use crate::support::{Backend, Client, Pages, Port, Proxy, TempDir, each_mode, wait_until};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// What stands in for `/etc/hosts`.
struct Hosts {
    directory: TempDir,
    unshare: &'static str,
}

impl Hosts {
    /// Nothing where this machine does not let us make one.
    fn new(lines: &str) -> Option<Self> {
        let works = |unshare: &&str| {
            let script = format!("exec {unshare} mount --bind /etc/hosts /etc/hosts");
            let mut shell = Command::new("sh");
            let status = shell.args(["-c", &script]).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        // As root, and as anybody where anybody may.
        let Some(unshare) = ["unshare -m", "unshare -rm"].into_iter().find(works) else {
            println!("skipped: no namespace of mounts can be made here");
            return None;
        };
        let directory = TempDir::new();
        directory.write("hosts", lines);
        Some(Self { directory, unshare })
    }

    /// From now on these hold.
    fn change(&self, lines: &str) {
        self.directory.write("hosts", lines);
    }

    /// A proxy that sees them.
    fn proxy(&self, config: &str) -> Proxy {
        let Self { directory, unshare } = self;
        let file = directory.path().join("hosts");
        let limits = format!(
            "exec {unshare} sh -c 'mount --bind \"$0\" /etc/hosts && exec \"$@\"' '{}' \"$0\" \"$@\"",
            file.display()
        );
        Proxy::start_in(TempDir::new(), config, &limits)
    }
}

/// What the backends serve, and at which port.
struct Service {
    echo: Backend,
    pages: Pages,
    port: Port,
}

impl Service {
    fn new() -> Self {
        Self {
            echo: Backend::echo(),
            pages: Pages::start(),
            // It is free at all addresses.
            port: Port::at(Ipv4Addr::UNSPECIFIED.into()),
        }
    }

    fn port(&self) -> u16 {
        self.port.address().port()
    }

    /// A backend at this address, in a process of its own, that says who it is.
    fn at(&self, ip: Ipv4Addr) -> Proxy {
        Proxy::start(format!(
            "Listen {ip}:{}\nHeader set Backend {ip}\nCustomLog access.log \"%U %k\"\nProxyPass /ws/ {}/\nProxyPass / {}/",
            self.port(),
            self.echo.url(),
            self.pages.url()
        ))
    }
}

/// The backend behind a new tunnel, which echoes.
#[track_caller]
fn reached(proxy: &Proxy, path: &str) -> Option<String> {
    let mut client = Client::asking(proxy, path);
    let backend = client.switched().field("Backend");
    client.echo("there and back");
    backend
}

/// A name is looked up no more often than this where its addresses fail.
fn let_a_second_pass() {
    std::thread::sleep(Duration::from_millis(1010));
}

each_mode! {
    fn a_backend_that_has_moved_is_found_within_the_next_request(mode: Mode) {
        let names = |ip| format!("{ip} moving.test member.test\n");
        let Some(hosts) = Hosts::new(&names(ONE)) else { return };
        let service = Service::new();
        let mut old = service.at(ONE);
        let (directives, port) = (mode.directives(), service.port());
        let proxy = hosts.proxy(&format!(
            "{directives}\nProxyPass /ws/ ws://moving.test:{port}/ws/\n\
             <Proxy balancer://set>\n\
             BalancerMember ws://member.test:{port}/ws/ addressttl=-1\n\
             </Proxy>\n\
             ProxyPass /set/ balancer://set/"
        ));
        for path in ["/ws/", "/set/"] {
            assert_eq!(reached(&proxy, path), Some(ONE.to_string()));
        }
        // As a container that is made anew. What is known of its name would hold for half a minute, and for ever.
        old.kill();
        let _new = service.at(OTHER);
        hosts.change(&names(OTHER));
        let_a_second_pass();
        for path in ["/ws/", "/set/", "/ws/", "/set/"] {
            assert_eq!(reached(&proxy, path), Some(OTHER.to_string()));
        }
        assert!(proxy.log_lines("connect: ").is_empty(), "{:?}", proxy.log());
    }
}

/// Somebody listens at one of the two addresses only, at each in turn; which the system names first does not matter.
#[test]
fn a_backend_is_reached_at_any_address_of_its_name() {
    let both = format!("{ONE} both.test\n{OTHER} both.test\n");
    let Some(hosts) = Hosts::new(&both) else {
        return;
    };
    let service = Service::new();
    for ip in [ONE, OTHER] {
        let mut backend = service.at(ip);
        let proxy = hosts.proxy(&format!(
            "ProxyPass /ws/ ws://both.test:{}/ws/",
            service.port()
        ));
        for _ in 0..3 {
            assert_eq!(reached(&proxy, "/ws/"), Some(ip.to_string()));
        }
        // Where nobody is at either of them, that is said.
        backend.kill();
        let mut client = Client::asking(&proxy, "/ws/");
        client.answer().expect_status(503);
        proxy.wait_for_log("both.test:");
    }
}

/// Both backends live. A connection that is kept is no reason to stay with the one that the name no longer means.
#[test]
fn a_name_is_followed_when_its_time_is_over() {
    let Some(hosts) = Hosts::new(&format!("{ONE} led.test pages.test\n")) else {
        return;
    };
    let service = Service::new();
    let backends = [ONE, OTHER].map(|ip| service.at(ip));
    let port = service.port();
    let proxy = hosts.proxy(&format!(
        "MaxKeepAliveRequests 0\n\
         ProxyPass /ws/ ws://led.test:{port}/ws/ addressttl=0\n\
         ProxyPass /page/ http://pages.test:{port}/ addressttl=1",
    ));
    let mut client = Client::connect(proxy.address());
    let mut page = || {
        client.send(get("/page/"));
        answer(&mut client).expect_status(200).field("Backend")
    };
    for ip in [ONE, OTHER, ONE] {
        hosts.change(&format!("{ip} led.test pages.test\n"));
        let ip = Some(ip.to_string());
        assert_eq!(reached(&proxy, "/ws/"), ip, "each connection looks");
        wait_until("a page of the other", Duration::from_secs(5), || {
            page() == ip
        });
        assert_eq!(page(), ip);
    }
    // Kept they are all the same, as long as the name leads there.
    for backend in &backends {
        let lines = backend.wait_for_lines("access.log", 1);
        let is_kept = |line: &String| line.starts_with("/ ") && !line.ends_with(" 0");
        assert!(lines.iter().any(is_kept), "{lines:?}");
    }
}
