//! Another configuration, put in force while the server runs: what it changes, what it leaves alone, and what becomes of one
//! that is wrong.

use crate::support::client::{request, switch};
use crate::support::pages::{expect_page, fetch, get};
use crate::support::proxy::{root, run};
use crate::support::{
    BOUND, Backend, Client, Mode, Pages, Port, Proxy, Wire, both_ends, each_mode, wait_until,
};
use rustix::fs::{CWD, FileType, Mode as Permissions, mknodat};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// A backend that says this in each tunnel.
fn saying(word: &'static str) -> Backend {
    Backend::serve(move |mut wire: Wire| {
        wire.head();
        wire.send(switch() + word);
        wire.rest();
    })
}

#[track_caller]
fn expect_word(address: SocketAddr, word: &str) {
    let mut client = Client::connect(address);
    client.send(request("/ws/"));
    client.switched();
    client.expect(word);
}

fn mapped(mode: Mode, backend: &Backend) -> String {
    let (mode, url) = (mode.directives(), backend.url());
    format!("{mode}\nProxyPass /ws/ {url}/\nCustomLog access.log %>s\n")
}

fn port() -> Port {
    Port::at(Ipv4Addr::LOCALHOST.into())
}

each_mode! {
    fn tunnels_go_on_and_new_ones_follow_the_new_mapping(mode: Mode) {
        let (old, new) = (Backend::listen(), saying("new"));
        let proxy = Proxy::start(mapped(mode, &old));
        let (mut client, mut peer) = both_ends(&proxy, &old);
        client.send("before");
        peer.expect("before");
        proxy.reload(mapped(mode, &new));
        client.send("after");
        peer.expect("after");
        expect_word(proxy.address(), "new");
        peer.send("still");
        client.expect("still");
        drop(peer);
        client.expect_end();
        drop(client);
        assert_eq!(proxy.wait_for_lines("access.log", 2), ["101", "101"]);
    }

    fn the_line_of_a_tunnel_goes_to_the_log_that_it_began_with(mode: Mode) {
        let backend = Backend::listen();
        let config = |log: &str| {
            let (mode, url) = (mode.directives(), backend.url());
            format!("{mode}\nProxyPass /ws/ {url}/\nCustomLog {log}.log {log}-%>s\n")
        };
        let proxy = Proxy::start(config("old"));
        let (client, peer) = both_ends(&proxy, &backend);
        proxy.reload(config("new"));
        drop((client, peer));
        assert_eq!(proxy.wait_for_lines("old.log", 1), ["old-101"]);
        drop(both_ends(&proxy, &backend));
        assert_eq!(proxy.wait_for_lines("new.log", 1), ["new-101"]);
        // Nobody holds the old one any more.
        wait_until("the old log to be closed", BOUND, || !has_open(&proxy, "old.log"));
    }

    fn places_at_a_backend_are_counted_on(mode: Mode) {
        let backend = Backend::listen();
        let config = |max: usize| {
            let (mode, url) = (mode.directives(), backend.url());
            format!("{mode}\nProxyPass /ws/ {url}/ max={max} acquire=1\n")
        };
        let proxy = Proxy::start(config(1));
        let _first = both_ends(&proxy, &backend);
        let with_one = proxy.connections();
        let expect_full = || {
            Client::asking(&proxy, "/ws/").answer().expect_status(503);
        };
        expect_full();
        proxy.reload(config(1));
        expect_full();
        proxy.reload(config(2));
        let second = both_ends(&proxy, &backend);
        expect_full();
        proxy.reload(config(1));
        drop(second);
        wait_until("the second to be gone", BOUND, || proxy.connections() == with_one);
        expect_full();
    }
}

fn has_open(proxy: &Proxy, file: &str) -> bool {
    let links = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).unwrap();
    let mut links = links
        .flatten()
        .filter_map(|link| std::fs::read_link(link.path()).ok());
    links.any(|link| link.ends_with(file))
}

#[test]
fn a_wrong_configuration_leaves_the_old_one_in_force_however_often_it_is_tried() {
    let backend = saying("old");
    let good = mapped(Mode::Worker, &backend);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap();
    let proxy = Proxy::start(&good);
    expect_word(proxy.address(), "old");
    let before = proxy.figures().descriptors;
    let no_folder = format!("{good}CustomLog /no/such/folder/access.log %h");
    let no_port = format!("Listen {taken}\nListen 127.0.0.1:0\n{good}");
    for (wrong, expected) in [
        ("ProxyPas /ws/ ws://b/", vec!["proxy.conf:4: ProxyPas: "]),
        (&no_port, vec!["proxy.conf:3: Listen: cannot bind"]),
        (&no_folder, vec!["/no/such/folder/access.log: cannot be"]),
        (
            "Timeout x\nListen 127.0.0.1:0 what\n",
            vec!["proxy.conf:3: Timeout", "proxy.conf:4: Listen"],
        ),
    ] {
        let lines = proxy.reload_refused(wrong);
        for expected in expected {
            let is_there = lines.iter().any(|line| line.contains(expected));
            assert!(is_there, "{expected}: {lines:#?}");
        }
        expect_word(proxy.address(), "old");
    }
    wait_until("all descriptors to be back", BOUND, || {
        proxy.figures().descriptors <= before
    });
    assert!(proxy.log_lines("reloaded: generation").is_empty());
}

#[test]
fn a_listener_that_stays_keeps_its_socket_and_the_others_come_and_go() {
    let backend = saying("yes");
    let (kept, gone, come) = (port(), port(), port());
    let config = |ports: &[&Port]| {
        let listens = ports.iter().map(|it| format!("Listen {}\n", it.address()));
        let listens: String = listens.collect();
        format!("{listens}ProxyPass /ws/ {}/", backend.url())
    };
    let proxy = Proxy::start(config(&[&kept, &gone]));
    let before = socket_that_listens(kept.address());
    assert!(before.is_some() && socket_that_listens(gone.address()).is_some());
    let now = proxy.reload(config(&[&come, &kept]));
    assert_eq!(now, [come.address(), kept.address()]);
    assert_eq!(socket_that_listens(kept.address()), before);
    wait_until("the old listener to be closed", BOUND, || {
        socket_that_listens(gone.address()).is_none()
    });
    for address in now {
        expect_word(address, "yes");
    }
}

/// The number of the socket, as the system has it.
fn socket_that_listens(address: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = format!("0100007F:{:04X} 00000000:0000 0A", address.port());
    let line = table.lines().find(|line| line.contains(&listening))?;
    line.split_whitespace().nth(9).map(str::to_owned)
}

#[test]
fn one_address_takes_the_place_of_all_and_all_that_of_one() {
    let backend = saying("yes");
    let port = port();
    let number = port.address().port();
    let config = |listen: &str| format!("Listen {listen}\nProxyPass /ws/ {}/", backend.url());
    let all = config(&number.to_string());
    let one = config(&port.address().to_string());
    let proxy = Proxy::start(&all);
    for next in [&one, &all, &one] {
        proxy.reload(next);
        expect_word(port.address(), "yes");
    }
    wait_until("nobody else to be listened for", BOUND, || {
        TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), number)).is_err()
    });
    let other = run(&["-C", &format!("Listen 127.0.0.1:{number}"), "-c", root()]);
    assert!(
        other.stderr.contains("another program listens there"),
        "{other:?}"
    );
}

#[test]
fn a_pipe_keeps_no_reload_waiting() {
    let backend = saying("old");
    let good = mapped(Mode::Worker, &backend);
    let proxy = Proxy::start(&good);
    let pipe = proxy.directory().join("pipe");
    mknodat(
        CWD,
        &pipe,
        FileType::Fifo,
        Permissions::RUSR | Permissions::WUSR,
        0,
    )
    .unwrap();
    for (line, expected) in [
        ("Include pipe", "it is a pipe"),
        ("CustomLog pipe %s", "/pipe: cannot be opened"),
        ("ErrorLog pipe", "/pipe: cannot be opened"),
    ] {
        let lines = proxy.reload_refused(format!("{good}\n{line}"));
        assert!(lines[0].contains(expected), "{lines:#?}");
    }
    // Where somebody reads it is a log like any other.
    let mut options = File::options();
    let reader = options.read(true).write(true).open(&pipe).unwrap();
    proxy.reload(format!("{good}\nCustomLog pipe %s"));
    let mut client = Client::connect(proxy.address());
    client.send(get("/none"));
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert_eq!(line, "404\n");
}

#[test]
fn a_client_that_stays_is_served_by_the_new_configuration() {
    let (old, new) = (Pages::start(), Pages::start());
    let config = |pages: &Pages, path: &str| format!("ProxyPass {path} {}{path}", pages.url());
    let proxy = Proxy::start(config(&old, "/a/"));
    let mut client = Client::connect(proxy.address());
    fetch(&mut client, "/a/");
    proxy.reload(config(&new, "/b/"));
    fetch(&mut client, "/b/");
    client.send(get("/a/"));
    client.answer_head().expect_status(404);
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
}

#[test]
fn a_request_that_has_begun_is_served_by_the_configuration_that_it_began_with() {
    let (old, new) = (Pages::start(), Pages::start());
    let config = |pages: &Pages| format!("LogLevel trace1\nProxyPass / {}/", pages.url());
    let proxy = Proxy::start(config(&old));
    let mut client = Client::connect(proxy.address());
    client.send(get("/first") + "GET /second");
    expect_page(&mut client, "/first");
    proxy.settle();
    proxy.reload(config(&new));
    client.send(" HTTP/1.1\r\nHost: front.example\r\n\r\n");
    expect_page(&mut client, "/second");
    assert_eq!((old.seen().len(), new.seen().len()), (2, 0));
}

#[test]
fn what_takes_a_restart_is_named() {
    let config = |more: &str| {
        format!("ProxyWebsocketAsync On\nProxyPass / ws://127.0.0.1:9/\nPidFile {more}\n")
    };
    let proxy = Proxy::start(config("a.pid"));
    proxy.reload(config("b.pid\nProxyWebsocketAsyncThreads 2"));
    let lines = proxy.log_lines("PW602");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains(" PidFile: ") && lines[0].contains("a.pid stays until a restart"));
    assert!(lines[1].contains(" ProxyWebsocketAsyncThreads: 1 stays until a restart"));
    assert!(!proxy.directory().join("b.pid").exists());
}

#[test]
fn more_workers_and_the_first_reactor_come_with_a_reload() {
    let backend = Backend::listen();
    let config = |more: &str| format!("{more}\nProxyPass /ws/ {}/\n", backend.url());
    let proxy = Proxy::start(config("MaxRequestWorkers 1"));
    let _first = both_ends(&proxy, &backend);
    let mut second = Client::asking(&proxy, "/ws/");
    proxy.wait_for_log("PW502");
    proxy.reload(config("MaxRequestWorkers 2"));
    let mut third = Client::asking(&proxy, "/ws/");
    let _peer = backend.accept_tunnel();
    second.switched();
    assert!(!proxy.thread_names().iter().any(|name| name == "reactor 0"));
    proxy.reload(config("MaxRequestWorkers 4\nProxyWebsocketAsync On"));
    assert!(proxy.thread_names().iter().any(|name| name == "reactor 0"));
    let _peer = backend.accept_tunnel();
    third.switched();
    let _fourth = both_ends(&proxy, &backend);
    let _fifth = both_ends(&proxy, &backend);
}

/// Good ones, wrong ones, another listener and another log each time.
#[test]
fn a_thousand_reloads_leave_nothing_behind() {
    let backend = Backend::echo();
    let ports = [port(), port()];
    let config = |number: usize| {
        let (port, url) = (ports[number % 2].address(), backend.url());
        format!(
            "LogLevel warn\nListen 127.0.0.1:0\nListen {port}\nProxyWebsocketAsync On\n\
             ProxyPass /ws/ {url}/ max=9\nCustomLog access{number}.log %U\n\
             <Proxy balancer://set>\nBalancerMember {url} hcmethod=TCP hcinterval=1000\n</Proxy>\n\
             ProxyPass /set/ balancer://set/\n\
             <VirtualHost *>\nServerName host{number}\nErrorLog error{}.log\n</VirtualHost>\n",
            number % 2
        )
    };
    let wrong = "ProxyPas / ws://b/";
    let proxy = Proxy::start(config(0));
    let mut tunnels = ["/ws/", "/set/"].map(|path| Client::tunnel(&proxy, path));
    let mut figures = Vec::new();
    for round in 0..3 {
        for number in 0..[20, 480, 500][round] {
            if number % 10 == 9 {
                proxy.reload_refused(wrong);
            } else {
                proxy.reload(config(number % 4));
            }
        }
        for tunnel in &mut tunnels {
            tunnel.echo("still there");
        }
        proxy.settle();
        figures.push(proxy.figures());
    }
    let [first, .., last] = figures[..] else {
        unreachable!()
    };
    // A worker may have been free at first.
    assert!(last.descriptors <= first.descriptors, "{figures:?}");
    assert!(last.threads <= first.threads, "{figures:?}");
    let grown = last.resident.saturating_sub(figures[1].resident);
    assert!(grown < 256 * 1024, "{figures:?}");
}

each_mode! {
    fn tunnels_whose_backend_is_gone_end_where_that_is_asked_for_and_no_others(mode: Mode) {
        let [changed, kept, member, gone, back] = [(); 5].map(|()| Backend::listen());
        let (log, mode) = ("CustomLog access.log \"%U %{close-reason}n\"", mode.directives());
        let start = format!(
            "{log}\n{mode}\nProxyPass /changed/ {}/\nProxyPass /kept/ {}/\nProxyPass /back/ {}/\n\
             <Proxy balancer://set>\nBalancerMember {} route=a\nBalancerMember {} route=b\n</Proxy>\n\
             ProxyPass /set/ balancer://set/ stickysession=s\n",
            changed.url(), kept.url(), back.url(), member.url(), gone.url()
        );
        let proxy = Proxy::start(&start);
        let open = |path: &str, backend: &Backend| {
            let mut client = Client::asking(&proxy, path);
            let peer = backend.accept_tunnel();
            client.switched();
            (client, peer)
        };
        let mut staying = [
            open("/kept/", &kept),
            open("/set/?s=x.a", &member),
            open("/back/", &back),
        ];
        let ending = [open("/changed/", &changed), open("/set/?s=x.b", &gone)];
        let next = |on_reload: &str, back: &str| {
            format!(
                "{log}\n{mode}\nProxyWebsocketOnReload {on_reload}\nProxyPass /changed/ {}/\n\
                 ProxyPass /other/ ws://127.0.0.1:9/\nProxyPass /kept/ {}/ timeout=7\n{back}\n\
                 <Proxy balancer://set>\nBalancerMember {} route=a\n</Proxy>\n\
                 ProxyPass /set/ balancer://set/ stickysession=s\n",
                kept.url(), kept.url(), member.url()
            )
        };
        // The client has its 101 before the tunnel is known.
        proxy.settle();
        // The last reload decides.
        proxy.reload(next("End 1h", ""));
        proxy.wait_for_log("3 tunnels whose mapping or backend is gone end in 3600s");
        proxy.reload(next("Keep", ""));
        proxy.reload(next("End 10ms", &format!("ProxyPass /back/ {}/", back.url())));
        for (mut client, mut peer) in ending {
            client.expect_end();
            peer.expect_end();
        }
        let mut lines = proxy.wait_for_lines("access.log", 2);
        lines.sort();
        let why = "a reload removed or changed what it belongs to";
        assert_eq!(lines, [format!("/changed/ {why}"), format!("/set/ {why}")]);
        for (client, peer) in &mut staying {
            client.send("still");
            peer.expect("still");
        }
    }
}

#[test]
fn a_handshake_that_a_reload_has_overtaken_does_not_outlive_its_mapping() {
    let (old, new) = (Backend::listen(), Backend::listen());
    let config = |backend: &Backend| {
        let url = backend.url();
        format!("LogLevel debug\nProxyWebsocketOnReload End\nProxyPass /ws/ {url}/")
    };
    let proxy = Proxy::start(config(&old));
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = old.accept();
    peer.head();
    proxy.reload(config(&new));
    peer.send(switch());
    client.switched();
    client.expect_end();
    peer.expect_end();
    proxy.wait_for_log("a reload removed or changed");
}
