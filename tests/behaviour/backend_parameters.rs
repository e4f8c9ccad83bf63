//! What the configuration says about single backends: `key=value`, `ProxySet`, `<Proxy>`.

use crate::support::client::{frame, request, switch};
use crate::support::{BOUND, Backend, Client, Proxy, each_mode, missing, wait_until};
use rustix::io::Errno;
use rustix::net::getsockname;
use rustix::net::sockopt::socket_recv_buffer_size;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::net::SocketAddr;
use std::time::Duration;

each_mode! {
    fn a_backend_has_no_more_tunnels_at_once_than_max_says(mode: Mode) {
        let backend = Backend::echo();
        let url = backend.url();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /a/ {url}/ max=2 acquire=20s\nProxyPass /b/ {url}/ max=2 acquire=1\nLogLevel debug",
            mode.directives()
        ));
        let mut first = Client::tunnel(&proxy, "/a/");
        let mut second = Client::tunnel(&proxy, "/b/");
        // Both mappings lead to the same backend, so they share its places.
        let refused = Client::asking(&proxy, "/b/").answer();
        assert_eq!(refused.status, 503);
        let line = proxy.wait_for_log(": acquire: ");
        assert!(line.contains("ProxyPass \"/b/\""), "{line}");
        // The one that waits gets the place that comes free.
        let mut waiting = Client::asking(&proxy, "/a/");
        waiting.expect_quiet(Duration::from_millis(50));
        first.echo("still there");
        first.finish();
        first.expect_end();
        waiting.switched();
        waiting.echo("my turn");
        second.echo("still there");
        assert_eq!(backend.count(), 3);
        // What comes back is there for the next.
        drop((first, second, waiting));
        wait_until("a place to come free", BOUND, || {
            Client::asking(&proxy, "/b/").answer_head().status == 101
        });
    }
}

#[test]
fn a_place_is_given_back_when_the_request_fails_or_the_client_leaves() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /a/ {}/ max=1", backend.url()));
    for _ in 0..3 {
        let mut client = Client::asking(&proxy, "/a/");
        drop(backend.accept());
        assert_eq!(client.answer().status, 502);
        let client = Client::asking(&proxy, "/a/");
        let mut peer = backend.accept();
        peer.head();
        drop(client);
        peer.expect_end();
    }
    let mut client = Client::asking(&proxy, "/a/");
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch());
    client.switched();
}

#[test]
fn a_mapping_that_names_no_max_takes_its_places_at_the_same_backend() {
    let backend = Backend::echo();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/ {url}/ max=1\nProxyPass /b/ {url}/ acquire=1\nProxyPass /c/ {url}/other/"
    ));
    let _taken = Client::tunnel(&proxy, "/a/");
    Client::asking(&proxy, "/b/").answer().expect_status(503);
    Client::tunnel(&proxy, "/c/").echo("another backend");
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_place_frees_its_worker() {
    let backend = Backend::echo();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "MaxRequestWorkers 2\nProxyWebsocketAsync Off\nLogLevel debug\n\
         ProxyPass /a/ {url}/ max=1 acquire=60s\nProxyPass /b/ {url}/other/"
    ));
    let mut first = Client::tunnel(&proxy, "/a/");
    let mut waiting = Client::asking(&proxy, "/a/");
    waiting.expect_quiet(Duration::from_millis(50));
    drop(waiting);
    proxy.wait_for_log("gone: ");
    drop(Client::tunnel(&proxy, "/b/"));
    // What it leaves behind does not take the place when that comes free.
    first.finish();
    first.expect_end();
    Client::tunnel(&proxy, "/a/").echo("my turn");
}

#[test]
fn what_a_client_sends_while_it_waits_for_a_place_goes_first() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/ {}/ max=1 acquire=60s",
        backend.url()
    ));
    let mut first = Client::tunnel(&proxy, "/a/");
    let mut waiting = Client::asking(&proxy, "/a/");
    let texts = ["one", "two", "three"];
    for text in texts {
        waiting.send(frame(text.as_bytes(), Some([1, 2, 3, 4])));
        waiting.expect_quiet(Duration::from_millis(10));
    }
    first.finish();
    first.expect_end();
    waiting.switched();
    for text in texts {
        waiting.expect(frame(text.as_bytes(), None));
    }
}

/// The client may take its time to close; the backend is done with it.
#[test]
fn a_place_is_free_as_soon_as_an_ordinary_answer_is_out() {
    let backend = Backend::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(format!("ProxyPass /a/ {}/ max=1 acquire=1s", backend.url()));
    let mut first = Client::asking(&proxy, "/a/");
    first.answer_head().expect_status(403);
    Client::asking(&proxy, "/a/").answer().expect_status(403);
    drop(first);
}

#[test]
fn a_disabled_backend_is_not_asked() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /off/ {url}/ status=+D\nProxyPass /on/ {url}/ status=+D-D\n"
    ));
    assert_eq!(Client::asking(&proxy, "/off/").answer().status, 503);
    let line = proxy.wait_for_log("disabled");
    assert!(line.contains("ProxyPass \"/off/\""), "{line}");
    backend.expect_untouched();
    let mut client = Client::asking(&proxy, "/on/");
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch());
    client.switched();
}

#[test]
fn the_fields_of_an_answer_have_a_limit_of_their_own() {
    let backend = Backend::answering(format!(
        "HTTP/1.1 403 Forbidden\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(9000)
    ));
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /short/ {url}/ responsefieldsize=100\nProxyPass /long/ {url}/ responsefieldsize=10000\n\
         ProxyPass /usual/ {url}/"
    ));
    for (path, status) in [("/short/", 502), ("/long/", 403), ("/usual/", 502)] {
        assert_eq!(
            Client::asking(&proxy, path).answer().status,
            status,
            "{path}"
        );
    }
}

#[test]
fn a_proxy_section_and_a_proxyset_give_parameters_to_their_backends() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/ {url}/app/\nProxyPass /b/ {url}/other/ upgrade=own\nProxyPass /c/ {url}/third/\n\
         <Proxy {url}/app>\nProxySet upgrade=section\nProxyPreserveHost On\n</Proxy>\n\
         <Proxy *>\nProxyAddHeaders Off\n</Proxy>\n\
         ProxySet {url} upgrade=line\n"
    ));
    for (path, protocol, keeps_host) in [
        ("/a/", "section", true),
        ("/b/", "own", false),
        ("/c/", "line", false),
    ] {
        let text = request(path).replace("Upgrade: websocket", &format!("Upgrade: {protocol}"));
        let client = Client::sending(&proxy, text);
        let head = backend.accept().head();
        assert!(
            head.contains(&format!("\r\nUpgrade: {protocol}\r\n")),
            "{head}"
        );
        assert_eq!(
            head.contains("\r\nHost: front.example\r\n"),
            keeps_host,
            "{head}"
        );
        assert!(!head.contains("X-Forwarded-For"), "{head}");
        drop(client);
    }
}

#[test]
fn backends_see_connections_come_from_the_source_address() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxySourceAddress 127.0.0.2\nProxyPass /a/ {url}/\nProxyPass /six/ ws://[::1]:{}/",
        backend.port()
    ));
    let _client = Client::asking(&proxy, "/a/");
    let peer = backend.accept_tcp().peer_addr().unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
    Client::asking(&proxy, "/six/").answer().expect_status(503);
    let line = proxy.wait_for_log("connect: ");
    assert!(
        line.contains("addresses of IPv6 only") && line.contains("ProxySourceAddress"),
        "{line}"
    );
}

#[test]
fn a_source_address_that_is_not_ours_is_said_in_the_log() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxySourceAddress 192.0.2.1\nProxyPass /a/ {}/",
        backend.url()
    ));
    Client::asking(&proxy, "/a/").answer().expect_status(503);
    let line = proxy.wait_for_log("cannot connect from 192.0.2.1");
    assert!(line.contains("ProxySourceAddress"), "{line}");
    backend.expect_untouched();
}

#[test]
fn a_backend_s_own_receive_buffer_counts_more_than_that_of_its_host() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyReceiveBufferSize 20000\nProxyPass /host/ {url}/\nProxyPass /own/ {url}/ receivebuffersize=30000\n\
         ProxyPass /kernel/ {url}/ receivebuffersize=0"
    ));
    let mut sizes = Vec::new();
    for path in ["/host/", "/own/", "/kernel/"] {
        let _client = Client::asking(&proxy, path);
        // Open until it was looked at: else the proxy closes its end.
        let tcp = backend.accept_tcp();
        match receive_buffer(&proxy, tcp.peer_addr().unwrap()) {
            Ok(size) => sizes.push(size),
            Err(why) => return missing(&format!("nobody may look into the proxy here ({why})")),
        }
    }
    // socket(7): the kernel doubles what it is told, for what it needs itself.
    assert_eq!(sizes[..2], [40_000, 60_000]);
    assert!(sizes[2] > 60_000, "{sizes:?}");
}

/// The size of the kernel's buffer for the socket that the proxy has at this address.
#[track_caller]
fn receive_buffer(proxy: &Proxy, local: SocketAddr) -> Result<usize, Errno> {
    let id = Pid::from_raw(proxy.id().try_into().unwrap()).unwrap();
    let process = pidfd_open(id, PidfdFlags::empty())?;
    for number in 0..100 {
        let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            Err(Errno::BADF) => continue,
            Err(why) => return Err(why),
        };
        let address = getsockname(&socket).ok().map(SocketAddr::try_from);
        if address.is_some_and(|address| address == Ok(local)) {
            return socket_recv_buffer_size(&socket);
        }
    }
    panic!("the proxy has no socket at {local}");
}
