//! More clients than workers: who is idle makes room, the one that has been so for the longest first; who is busy is left
//! in peace. `KeepAliveTimeout` is far longer than a test waits, so that nobody is served for its sake.

use crate::support::client::request;
use crate::support::pages::{answer, expect_page, fetch, get, page, to, visitor};
use crate::support::wire::Answer;
use crate::support::{BOUND, Backend, Client, Pages, Proxy, each_mode, wait_until};
use std::io::Read;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

const BUSY: &str = "workers are busy";

#[track_caller]
fn start(workers: usize, backend: &Backend) -> Proxy {
    to(
        backend,
        &format!("MaxRequestWorkers {workers}\nKeepAliveTimeout 600"),
    )
}

/// Whether the client may ask for more on its connection; if not it closes.
fn stays(answer: &Answer) -> bool {
    answer.field("Connection").is_none()
}

/// A client that has got a page and is idle, if need be after others that had to close.
#[track_caller]
fn idle(proxy: &Proxy) -> Client {
    let mut found = None;
    wait_until("a connection that stays", BOUND, || {
        let mut client = Client::connect(proxy.address());
        let stays = stays(&fetch(&mut client, "/"));
        found = stays.then_some(client);
        stays
    });
    proxy.settle();
    found.unwrap()
}

#[test]
fn who_has_been_idle_for_the_longest_makes_room() {
    let pages = Pages::start();
    let proxy = start(2, &pages.backend);
    let mut first = visitor(&proxy, "/first");
    let mut second = visitor(&proxy, "/second");
    proxy.settle();
    // The first is idle again later than the second.
    fetch(&mut first, "/again");
    proxy.settle();
    let mut third = visitor(&proxy, "/third");
    second.expect_end();
    fetch(&mut first, "/still-there");
    proxy.settle();
    fetch(&mut third, "/still-there");
    proxy.settle();
    let mut fourth = visitor(&proxy, "/fourth");
    first.expect_end();
    fetch(&mut third, "/still-there");
    fetch(&mut fourth, "/still-there");
}

#[test]
fn nobody_makes_room_while_a_worker_can_still_be_started() {
    let pages = Pages::start();
    let proxy = start(5, &pages.backend);
    let mut idle: Vec<_> = (0..5).map(|_| visitor(&proxy, "/")).collect();
    assert!(proxy.log_lines(BUSY).is_empty());
    for client in &mut idle {
        fetch(client, "/still-there");
        proxy.settle();
    }
    // The sixth is one too many.
    visitor(&proxy, "/");
    idle[0].expect_end();
    proxy.wait_for_log(BUSY);
    assert_eq!(proxy.log_lines(BUSY).len(), 1);
}

/// An answer that was asked for before anybody waited says so as well, if somebody waits by the time that it comes.
#[test]
fn while_all_are_busy_answers_say_that_they_are_the_last() {
    let backend = Backend::listen();
    let proxy = start(2, &backend);
    let mut busy = [
        Client::sending(&proxy, get("/1")),
        Client::sending(&proxy, get("/2")),
    ];
    let mut peers = [backend.accept(), backend.accept()];
    peers.iter_mut().for_each(|peer| drop(peer.head()));
    let mut waiting = Client::sending(&proxy, get("/3"));
    proxy.wait_for_log(BUSY);
    // No exchange is cut for somebody who waits, nor the wait for an answer.
    for client in &mut busy {
        client.expect_quiet(Duration::from_millis(100));
    }
    peers[0].send(page("busy"));
    let [first, second] = &mut busy;
    // Either may have got the first connection of the backend.
    let mut byte = [0];
    let begun = Instant::now();
    let (last, other) = loop {
        assert!(begun.elapsed() < BOUND);
        let mut has_come = |client: &mut Client| {
            let tcp = client.tcp();
            tcp.set_nonblocking(true).unwrap();
            let has_come = tcp.peek(&mut byte).is_ok();
            tcp.set_nonblocking(false).unwrap();
            has_come
        };
        if has_come(first) {
            break (first, second);
        }
        if has_come(second) {
            break (second, first);
        }
    };
    let answered = expect_page(last, "busy");
    assert_eq!(answered.field("Connection").as_deref(), Some("close"));
    last.expect_end();
    // The one who has waited is served over the connection that is free again, and nobody waits any more.
    assert!(peers[0].head().starts_with("GET /3 "));
    peers[0].send(page("at last"));
    let answered = expect_page(&mut waiting, "at last");
    assert_eq!(answered.field("Connection"), None);
    peers[1].send(page("busy"));
    let answered = expect_page(other, "busy");
    assert_eq!(answered.field("Connection"), None);
    // Both are idle now, and stay.
    for client in [&mut waiting, other] {
        client.send(get("/again"));
        // Over the connection that was used last.
        peers[1].head();
        peers[1].send(page("again"));
        let answered = expect_page(client, "again");
        assert_eq!(answered.field("Connection"), None);
    }
}

#[test]
fn a_client_that_sends_its_answer_slowly_on_is_no_idle_one() {
    let pages = Pages::start();
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "MaxRequestWorkers 2\nKeepAliveTimeout 600\nProxyPass /slow {}/\nProxyPass / {}/",
        crate::support::pages::url(&backend),
        pages.url()
    ));
    let mut slow = Client::sending(&proxy, get("/slow"));
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
    slow.answer_head();
    slow.expect("abc");
    let mut idle = visitor(&proxy, "/");
    for _ in 0..5 {
        let next = visitor(&proxy, "/");
        idle.expect_end();
        idle = next;
    }
    peer.send("def");
    slow.expect("def");
    // Nor one that sends its request slowly.
    slow.send("GET / HTTP/1.1\r\n");
    for _ in 0..5 {
        let next = visitor(&proxy, "/");
        idle.expect_end();
        idle = next;
    }
    slow.send("Host: a\r\n\r\n");
    expect_page(&mut slow, "/");
}

/// Many more clients than workers, each of whom stays when it has got its page: a wake-up that is lost would leave one of
/// them to wait for longer than any test does.
#[test]
fn in_a_crowd_everybody_is_served() {
    let pages = Pages::start();
    for workers in [1, 2, 3, 8] {
        let proxy = start(workers, &pages.backend);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let mut last = None;
                    for number in 0..60 {
                        let path = format!("/{number}");
                        let mut client = Client::sending(&proxy, get(&path));
                        let answer = expect_page(&mut client, &path);
                        // The one before has been idle meanwhile, if it may.
                        last = stays(&answer).then_some(client);
                    }
                    drop(last);
                });
            }
        });
    }
}

/// All at once, more than the workers, their queue and the handshakes that are let in at a time.
#[test]
fn a_rush_of_clients_that_stay_is_served() {
    let pages = Pages::start();
    for workers in [1, 2, 17, 20, 40] {
        let proxy = start(workers, &pages.backend);
        for _ in 0..5 {
            let mut clients: Vec<_> = (0..120).map(|_| Client::connect(proxy.address())).collect();
            for client in &mut clients {
                client.send(get("/rush"));
            }
            let mut idle = Vec::new();
            for mut client in clients {
                let answer = expect_page(&mut client, "/rush");
                idle.extend(stays(&answer).then_some(client));
            }
        }
    }
}

/// The one that is called away may have been asked in the same moment, and serves that: then the next one is called, since
/// the other may take long.
#[test]
fn if_the_one_that_is_called_has_just_been_asked_another_makes_room() {
    let pages = Pages::start();
    let slow = Backend::listen();
    let proxy = Proxy::start(format!(
        "MaxRequestWorkers 2\nKeepAliveTimeout 600\nProxyPass /slow {}/\nProxyPass / {}/",
        crate::support::pages::url(&slow),
        pages.url()
    ));
    let mut asked_in_time = 0;
    for round in 0..400 {
        let mut longest = idle(&proxy);
        let mut other = idle(&proxy);
        let together = Barrier::new(2);
        let third = std::thread::scope(|scope| {
            let third = scope.spawn(|| {
                let mut client = Client::connect(proxy.address());
                together.wait();
                for _ in 0..round * 20 % 2000 {
                    std::hint::spin_loop();
                }
                client.send(get("/3"));
                expect_page(&mut client, "/3");
                client
            });
            together.wait();
            longest.send_if_taken(get("/slow"));
            third.join().unwrap()
        });
        // One of both has made room.
        longest.tcp().set_nonblocking(true).unwrap();
        if !matches!(longest.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        {
            drop(longest);
            fetch(&mut other, "/still-there");
        } else {
            asked_in_time += 1;
            let mut peer = slow.accept();
            peer.head();
            longest.tcp().set_nonblocking(false).unwrap();
            peer.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            longest.answer_head().expect_status(204);
            other.expect_end();
        }
        drop(third);
    }
    println!("{asked_in_time} of 400 had been asked");
}

each_mode! {
    /// Tunnels hold workers as long as they last, where no reactor takes them, and never make room.
    fn tunnels_stay_and_idle_clients_go(mode: Mode) {
        let pages = Pages::start();
        let echo = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nMaxRequestWorkers 3\nKeepAliveTimeout 600\nProxyPass /ws/ {}/\nProxyPass / {}/",
            mode.directives(),
            echo.url(),
            pages.url()
        ));
        let mut tunnels = vec![Client::tunnel(&proxy, "/ws/"), Client::tunnel(&proxy, "/ws/")];
        for _ in 0..10 {
            visitor(&proxy, "/");
        }
        let mut last = visitor(&proxy, "/");
        for _ in 0..10 {
            last = visitor(&proxy, "/");
        }
        tunnels.iter_mut().for_each(|tunnel| tunnel.echo("still there"));
        // An idle client may turn into a tunnel itself.
        last.send(request("/ws/"));
        last.switched();
        tunnels.push(last);
        tunnels.iter_mut().for_each(|tunnel| tunnel.echo("all three"));
        // Whoever comes now is served when a tunnel ends, if no reactor has freed a worker.
        let mut waiting = Client::sending(&proxy, get("/"));
        tunnels.iter_mut().for_each(|tunnel| tunnel.echo("undisturbed"));
        drop(tunnels.pop());
        expect_page(&mut waiting, "/");
        tunnels.iter_mut().for_each(|tunnel| tunnel.echo("to the end"));
    }
}

/// A browser's six connections beside many others: who comes back after having been let go is served again.
#[test]
fn clients_that_were_let_go_may_come_back() {
    let pages = Pages::start();
    let proxy = start(4, &pages.backend);
    let served = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut connection: Option<Client> = None;
                let mut count = 0;
                let begun = Instant::now();
                while count < 100 {
                    assert!(begun.elapsed() < BOUND, "{count} pages in {BOUND:?}");
                    let client = connection.get_or_insert_with(|| Client::connect(proxy.address()));
                    // One that was closed in the last moment takes the request no more, and may be asked anew.
                    let head = client.send_if_taken(get("/")).then(|| client.try_head());
                    if let Some(Ok(head)) = head {
                        client.expect("/");
                        count += 1;
                        if !head.contains("Connection: close") {
                            continue;
                        }
                    }
                    connection = None;
                }
                *served.lock().unwrap() += count;
            });
        }
    });
    assert_eq!(served.into_inner().unwrap(), 1000);
    let mut client = visitor(&proxy, "/");
    client.send(get("/"));
    answer(&mut client);
}
