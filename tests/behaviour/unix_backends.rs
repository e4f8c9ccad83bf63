//! Backends at Unix sockets: `unix:path|ws://host/`.

use crate::support::client::{echoes, request};
use crate::support::proxy::check;
use crate::support::wire::field;
use crate::support::{
    Backend, Client, Mode, Proxy, TempDir, Wire, both_ends, each_mode, pattern, wait_until,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tungstenite::Message;

/// A proxy that has `/ws/` mapped to the backend that `serve` starts at a socket in its directory.
#[track_caller]
fn start(
    mode: Mode,
    directives: &str,
    serve: impl FnOnce(&std::path::Path) -> Backend,
) -> (Proxy, Backend) {
    let directory = TempDir::new();
    let backend = serve(&directory.path().join("app.sock"));
    let config = format!(
        "{}\n{directives}\nProxyPass /ws/ {}/base/\nCustomLog access.log \"%>s %{{close-reason}}n\"",
        mode.directives(),
        backend.url()
    );
    (Proxy::start_in(directory, config, ""), backend)
}

#[track_caller]
fn listening(mode: Mode) -> (Proxy, Backend) {
    start(mode, "", Backend::listen_unix)
}

each_mode! {
    fn messages_pass_both_ways(mode: Mode) {
        let (proxy, _backend) = start(mode, "", Backend::echo_unix);
        let mut socket = Client::messages(&proxy, "/ws/");
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            echoes(&mut socket, &Message::text("x".repeat(size)));
            echoes(&mut socket, &Message::binary(pattern(size as u64, size)));
        }
    }

    fn much_data_passes_both_ways_at_once(mode: Mode) {
        let (proxy, backend) = listening(mode);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let (there, back) = (pattern(11, 40 << 20), pattern(13, 40 << 20));
        std::thread::scope(|scope| {
            let mut client_writer = Wire::new(client.tcp().try_clone().unwrap());
            let mut peer_writer = Wire::new(peer.tcp().try_clone().unwrap());
            let (there, back) = (&there, &back);
            scope.spawn(move || client_writer.send(there));
            scope.spawn(move || peer_writer.send(back));
            scope.spawn(move || peer.expect(there));
            client.expect(back);
        });
    }

    fn either_side_may_end_first_and_still_read(mode: Mode) {
        let (proxy, backend) = listening(mode);
        let (there, back) = (pattern(17, 300_000), pattern(19, 300_000));
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send(&there);
        client.finish();
        peer.expect(&there);
        peer.expect_end();
        peer.send(&back);
        peer.finish();
        client.expect(&back);
        client.expect_end();
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        peer.send(&back);
        peer.finish();
        client.expect(&back);
        client.expect_end();
        client.send(&there);
        client.finish();
        peer.expect(&there);
        peer.expect_end();
        assert_eq!(
            proxy.wait_for_lines("access.log", 2),
            ["101 client closed", "101 backend closed"]
        );
    }

    fn what_was_sent_before_an_end_arrives_before_the_end(mode: Mode) {
        let (proxy, backend) = listening(mode);
        for size in [1, 1000, 16_384, 16_385, 2_000_000] {
            let (mut client, mut peer) = both_ends(&proxy, &backend);
            let bytes = pattern(29, size);
            std::thread::scope(|scope| {
                let bytes = &bytes;
                // Gone at once, in both directions.
                scope.spawn(move || peer.send(bytes));
                assert!(client.rest_in_order() == *bytes, "of {size} bytes");
            });
        }
    }

    fn a_backend_that_leaves_bytes_unread_ends_the_client(mode: Mode) {
        let (proxy, backend) = listening(mode);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        client.send("unread");
        wait_until("the bytes to be there", Duration::from_secs(20), || {
            let mut byte = [0];
            rustix::net::recv(peer.tcp(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok()
        });
        peer.send("last");
        drop(peer);
        client.expect("last");
        client.expect_cut();
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        assert!(line.starts_with("101 backend"), "{line}");
    }

    fn a_slow_reader_slows_its_own_writer(mode: Mode) {
        let (proxy, backend) = listening(mode);
        let pause = Duration::from_millis(200);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        let most = 64 << 20;
        let down = peer.send_until_stuck(most, pause);
        let up = client.send_until_stuck(most, pause);
        assert!(down < most && up < most, "{down} bytes down, {up} up");
        assert!(client.receive(down).iter().all(|byte| *byte == 0x55));
        assert!(peer.receive(up).iter().all(|byte| *byte == 0x55));
        client.send("on");
        peer.expect("on");
    }

    /// A read ends behind the bytes that a descriptor came with, whatever waits there.
    fn a_descriptor_that_the_backend_passes_holds_nothing_up(mode: Mode) {
        let (proxy, backend) = listening(mode);
        let (mut client, mut peer) = both_ends(&proxy, &backend);
        for _ in 0..20 {
            let mut space = [MaybeUninit::uninit(); 128];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let passed = [peer.tcp().as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
            let bytes = [IoSlice::new(b"with it, ")];
            rustix::net::sendmsg(peer.tcp(), &bytes, &mut control, SendFlags::empty()).unwrap();
            peer.send("behind it");
            client.expect("with it, behind it");
        }
        // Descriptors that nobody took would keep the connection.
        drop(peer);
        client.expect_end();
    }
}

#[test]
fn the_backend_is_asked_by_the_host_of_its_url() {
    let directory = TempDir::new();
    let backend = Backend::listen_unix(&directory.path().join("app.sock"));
    let at = directory.path().join("app.sock");
    let at = at.display();
    // The port and the case of the scheme are of no account for the connection.
    let config = format!(
        "ProxyPass /named/ unix:{at}|ws://App.Example:81/base/\nProxyPass /bare/ UNIX:{at}|ws:\n\
         ProxyPass /below/ unix:app.sock|ws://app.example/\n\
         CustomLog access.log %{{backend}}n"
    );
    let proxy = Proxy::start_in(directory, config, "");
    for (path, target, host) in [
        ("/named/a?b", "/base/a?b", "app.example:81"),
        ("/bare/a", "/a", "localhost"),
        ("/below/", "/", "app.example"),
    ] {
        let client = Client::asking(&proxy, path);
        let head = backend.accept().head();
        assert!(
            head.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
            "{head}"
        );
        assert_eq!(field(&head, "Host").as_deref(), Some(host));
        drop(client);
    }
    let mut lines = proxy.wait_for_lines("access.log", 3);
    lines.sort();
    let socket = proxy.directory().join("app.sock");
    let socket = socket.display();
    assert_eq!(
        lines,
        [
            format!("unix:{socket}|ws://app.example/"),
            format!("unix:{socket}|ws://app.example:81/base/"),
            format!("unix:{socket}|ws://localhost"),
        ]
    );
}

/// httpd compares the URLs behind the sockets alone.
#[test]
fn two_backends_are_the_same_only_if_their_sockets_are() {
    let directory = TempDir::new();
    let [one, two] = ["one", "two"]
        .map(|name| Backend::echo_unix(&directory.path().join(format!("{name}.sock"))));
    let config = "ProxyPass /one/ unix:one.sock|ws://app/\nProxyPass /two/ unix:two.sock|ws://app/\n\
                  ProxyPass /other/ unix:one.sock|ws://other/\n\
                  <Proxy unix:one.sock|ws://app>\nProxySet status=+D\n</Proxy>";
    let proxy = Proxy::start_in(directory, config, "");
    Client::asking(&proxy, "/one/").answer().expect_status(503);
    Client::tunnel(&proxy, "/two/").echo("x");
    Client::tunnel(&proxy, "/other/").echo("x");
    assert_eq!((one.count(), two.count()), (1, 1));
}

/// httpd up to 2.4.48 finds `unix:` anywhere in a URL that clients have a hand in (CVE-2021-40438).
#[test]
fn nothing_in_a_request_leads_to_a_socket() {
    let directory = TempDir::new();
    let secret = Backend::listen_unix(&directory.path().join("secret.sock"));
    let unix = Backend::listen_unix(&directory.path().join("app.sock"));
    let tcp = Backend::listen();
    let config = format!(
        "ProxyPass /unix/ {}/\nProxyPass /tcp/ {}/",
        unix.url(),
        tcp.url()
    );
    let at = directory.path().join("secret.sock");
    let at = at.display().to_string();
    let proxy = Proxy::start_in(directory, config, "");
    // The exploit of the report fills up the length of a path.
    let filler = "A".repeat(5000);
    for (backend, path, host) in [
        (&unix, "/unix/", "localhost".to_owned()),
        (&tcp, "/tcp/", tcp.address().to_string()),
    ] {
        for (rest, target) in [
            (
                format!("unix:{at}|ws://evil/"),
                format!("unix:{at}%7Cws:/evil/"),
            ),
            (format!("unix:{at}%7cws:%2e"), format!("unix:{at}%7Cws:.")),
            (format!("%75nix:{at}|ws:"), format!("unix:{at}%7Cws:")),
            (format!("|unix:{at}|ws:"), format!("%7Cunix:{at}%7Cws:")),
            (
                format!("?unix:{at}|ws://evil/"),
                format!("?unix:{at}|ws://evil/"),
            ),
            (
                format!("x?unix:{filler}|ws://evil/"),
                format!("x?unix:{filler}|ws://evil/"),
            ),
        ] {
            let _client = Client::sending(&proxy, request(&format!("{path}{rest}")));
            let head = backend.accept().head();
            assert!(
                head.starts_with(&format!("GET /{target} HTTP/1.1\r\n")),
                "{head}"
            );
            assert_eq!(field(&head, "Host"), Some(host.clone()));
        }
        for header in [
            format!("Host: unix:{at}|ws://evil"),
            format!("Host: a\r\nUpgrade: unix:{at}|ws"),
        ] {
            let asked = format!("GET {path} HTTP/1.1\r\n{header}\r\nConnection: Upgrade\r\n\r\n");
            let status = Client::sending(&proxy, asked).answer().status;
            assert!([400, 426].contains(&status), "{status}");
        }
        // The whole URL in place of the path.
        let asked = request(&format!("unix:{at}|ws://evil/"));
        Client::sending(&proxy, asked).answer().expect_status(400);
        backend.expect_untouched();
    }
    secret.expect_untouched();
}

/// The answer and the one log line where the backend cannot be reached.
#[track_caller]
fn unreachable(proxy: &Proxy) -> String {
    let before = proxy.log_lines("ProxyPass").len();
    Client::asking(proxy, "/ws/").answer().expect_status(503);
    wait_until("a log line", Duration::from_secs(20), || {
        proxy.log_lines("ProxyPass").len() > before
    });
    let mut lines = proxy.log_lines("ProxyPass");
    assert_eq!(lines.len(), before + 1, "{lines:#?}");
    lines.pop().unwrap()
}

#[test]
fn a_backend_that_is_not_there_is_a_503_that_names_the_socket() {
    let directory = TempDir::new();
    let socket = directory.path().join("app.sock");
    let config = "ProxyPass /ws/ unix:app.sock|ws://app.example/base/";
    let proxy = Proxy::start_in(directory, config, "");
    let named = format!(
        "ProxyPass \"/ws/\": unix:{}|ws://app.example/base/: connect: ",
        socket.display()
    );
    let line = unreachable(&proxy);
    assert!(line.contains(&format!("{named}No such file")), "{line}");
    // Its file outlives a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let line = unreachable(&proxy);
    assert!(
        line.contains(&format!("{named}Connection refused")),
        "{line}"
    );
    // And comes back.
    std::fs::remove_file(&socket).unwrap();
    let _backend = Backend::echo_unix(&socket);
    Client::tunnel(&proxy, "/ws/").echo("again");
}

#[test]
fn a_socket_that_may_not_be_used_is_a_503_that_says_what_is_needed() {
    let directory = TempDir::new();
    let socket = directory.path().join("app.sock");
    let backend = Backend::listen_unix(&socket);
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Who may do anything has to be kept from it.
    let mut limits = "";
    if rustix::process::getuid().is_root() {
        let less = "--bounding-set=-dac_override,-dac_read_search";
        let tried = std::process::Command::new("setpriv")
            .args([less, "true"])
            .status();
        if !tried.is_ok_and(|status| status.success()) {
            eprintln!("skipped: root cannot be kept from a file here");
            return;
        }
        limits = "exec setpriv --bounding-set=-dac_override,-dac_read_search \"$0\" \"$@\"";
    }
    let config = format!("ProxyPass /ws/ {}/", backend.url());
    let proxy = Proxy::start_in(directory, config, limits);
    let line = unreachable(&proxy);
    let expected = "connect: Permission denied (os error 13); this program's user has to have write permission";
    assert!(line.contains(expected), "{line}");
    assert!(line.contains(&socket.display().to_string()), "{line}");
}

#[test]
fn a_backend_that_has_no_room_is_waited_for_until_the_deadline() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let flags = SocketFlags::CLOEXEC;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let fills_it = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let config = "ProxyPass /short/ unix:app.sock|ws: connectiontimeout=300ms\nProxyPass /ws/ unix:app.sock|ws:";
    let proxy = Proxy::start_in(directory, config, "");
    let began = Instant::now();
    Client::asking(&proxy, "/short/")
        .answer()
        .expect_status(503);
    assert!(began.elapsed() >= Duration::from_millis(300));
    proxy.wait_for_log("|ws://localhost: connect: timed out");
    let mut waits = Client::asking(&proxy, "/ws/");
    waits.expect_quiet(Duration::from_millis(100));
    drop(rustix::net::accept(&listener).unwrap());
    drop(fills_it);
    let mut peer = Wire::new(rustix::net::accept(&listener).unwrap().into());
    peer.head();
    peer.send(crate::support::client::switch());
    waits.switched();
}

#[test]
fn an_answer_that_is_no_101_is_passed_on() {
    let (proxy, backend) = listening(Mode::Worker);
    let body = "x".repeat(300_000);
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    peer.send(format!("HTTP/1.1 403 No\r\nX-Why: so\r\n\r\n{body}"));
    drop(peer);
    let answer = client.answer().expect_status(403);
    assert_eq!(answer.field("X-Why").as_deref(), Some("so"));
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(text.matches('x').count(), body.len(), "chunks of it");
}

#[test]
fn a_backend_that_closes_before_its_answer_is_a_502() {
    let (proxy, backend) = listening(Mode::Worker);
    let mut client = Client::asking(&proxy, "/ws/");
    backend.accept().head();
    client.answer().expect_status(502);
    // With the request unread.
    let mut client = Client::asking(&proxy, "/ws/");
    drop(backend.accept_tcp());
    client.answer().expect_status(502);
}

#[test]
fn a_path_that_no_socket_can_have_is_refused_with_its_limit() {
    let path = format!("/{}", "x".repeat(107));
    let found = check(&format!("Listen 80\nProxyPass /ws/ unix:{path}|ws://b/")).expect_status(1);
    let expected =
        format!("the path of the socket, \"{path}\", has 108 bytes; the system takes at most 107");
    assert!(found.stderr.contains(&expected), "{}", found.stderr);
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::support::Certs;
    use crate::support::client::switch;

    /// A proxy that trusts `certs`, with `/wss/` mapped to `unix:app.sock|wss://app.example/`.
    #[track_caller]
    fn start(certs: &Certs, more: &str) -> (Proxy, Backend) {
        let directory = TempDir::new();
        directory.write("ca.pem", certs.pem());
        let backend = Backend::listen_unix(&directory.path().join("app.sock"));
        let config = format!(
            "SSLProxyCACertificateFile ca.pem\nProxyPass /wss/ unix:app.sock|wss://app.example/\n{more}"
        );
        (Proxy::start_in(directory, config, ""), backend)
    }

    each_mode! {
        fn bytes_and_ends_pass_through_tls(mode: Mode) {
            let certs = Certs::new();
            let (proxy, backend) = start(&certs, mode.directives());
            let mut client = Client::asking(&proxy, "/wss/");
            let mut peer = backend.accept_tls(&certs.server("app.example"));
            let name = peer.tls().ssl().servername(openssl::ssl::NameType::HOST_NAME);
            assert_eq!(name, Some("app.example"));
            assert_eq!(field(&peer.head(), "Host").as_deref(), Some("app.example"));
            peer.send(switch());
            client.switched();
            let (there, back) = (pattern(3, 200_000), pattern(5, 200_000));
            for (out, into) in there.chunks(10_000).zip(back.chunks(10_000)) {
                client.send(out);
                peer.expect(out);
                peer.send(into);
                client.expect(into);
            }
            client.finish();
            peer.expect_end();
            peer.send("last");
            peer.finish();
            client.expect("last");
            client.expect_end();
        }
    }

    #[test]
    fn a_certificate_for_another_name_is_a_502() {
        let certs = Certs::new();
        let (proxy, backend) = start(&certs, "");
        for name in ["localhost", "httpd-UDS"] {
            let mut client = Client::asking(&proxy, "/wss/");
            let identity = certs.server(name);
            let tcp = backend.accept_tcp();
            assert!(identity.acceptor().accept(tcp).is_err());
            client.answer().expect_status(502);
        }
        let line = proxy.wait_for_log("app.sock|wss://app.example/: tls: ");
        assert!(line.contains("certificate"), "{line}");
    }
}
