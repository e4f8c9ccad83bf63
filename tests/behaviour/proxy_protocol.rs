//! `RemoteIPProxyProtocol`: connections that begin with a PROXY header, which says who the client is.

use crate::support::client::{frame, request, request_with, switch};
use crate::support::wire::field;
use crate::support::{Backend, Client, Proxy, each_mode};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 50000 80\r\n";

/// A header of version 2: LOCAL is the command 0, PROXY 1; TCP over IPv4 is the family 0x11, over IPv6 0x21.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

fn binary_ipv4() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0, 80];
    // A name (PP2_TYPE_AUTHORITY) behind them.
    binary(1, 0x11, &[&addresses[..], b"\x02\0\x04host"].concat())
}

fn binary_ipv6() -> Vec<u8> {
    let [source, destination] = ["2001:db8::7", "2001:db8::1"].map(|address| {
        let address: Ipv6Addr = address.parse().unwrap();
        address.octets()
    });
    binary(
        1,
        0x21,
        &[&source[..], &destination, &[0xc3, 0x50, 0, 80]].concat(),
    )
}

/// A proxy that wants the header, and logs the client, who has connected, and the status.
#[track_caller]
fn start(backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!(
        "RemoteIPProxyProtocol On\n{directives}\nProxyPass /ws/ {}/\n\
         CustomLog access.log \"%a %h %{{remote}}p %{{c}}a %>s\"",
        backend.url()
    ))
}

/// Sends these bytes as the whole beginning of a connection, and says what the backend was told of the client.
#[track_caller]
fn forwarded_for(proxy: &Proxy, backend: &Backend, pieces: &[&[u8]]) -> String {
    let mut client = Client::connect(proxy.address());
    for piece in pieces {
        client.send(piece);
    }
    let mut peer = backend.accept();
    let head = peer.head();
    peer.send(switch());
    client.switched();
    field(&head, "X-Forwarded-For").expect("X-Forwarded-For")
}

#[test]
fn the_source_is_the_client_for_the_backend_and_the_logs() {
    let backend = Backend::listen();
    let proxy = start(&backend, "LogLevel debug");
    let local = binary(0, 0, b"");
    let unix = binary(1, 0x31, &[b'/'; 216]);
    let mut expected = Vec::new();
    for (header, source, port) in [
        (LINE.as_bytes(), "192.0.2.7", Some(50_000)),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 80\r\n",
            "2001:db8::7",
            Some(50_000),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50000 80\r\n",
            "192.0.2.7",
            Some(50_000),
        ),
        (&binary_ipv4(), "192.0.2.7", Some(50_000)),
        (&binary_ipv6(), "2001:db8::7", Some(50_000)),
        // These say nothing of a client, who is then whoever has connected.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", None),
        (&unix, "127.0.0.1", None),
        (&local, "127.0.0.1", None),
    ] {
        let asked = request("/ws/");
        let at_once = [header, asked.as_bytes()].concat();
        assert_eq!(forwarded_for(&proxy, &backend, &[&at_once]), source);
        let bytes: Vec<&[u8]> = at_once.chunks(1).collect();
        assert_eq!(forwarded_for(&proxy, &backend, &bytes), source);
        assert_eq!(
            forwarded_for(&proxy, &backend, &[header, asked.as_bytes()]),
            source
        );
        expected.extend([(source, port); 3]);
    }
    let mut lines = proxy.wait_for_lines("access.log", expected.len());
    lines.sort();
    let mut from_the_client: Vec<String> = expected
        .iter()
        .filter_map(|(source, port)| Some(format!("{source} {source} {} 127.0.0.1 101", (*port)?)))
        .collect();
    from_the_client.sort();
    let (direct, proxied): (Vec<String>, Vec<String>) = lines
        .into_iter()
        .partition(|line| line.starts_with("127.0.0.1 127.0.0.1 "));
    assert_eq!(proxied, from_the_client);
    assert_eq!(direct.len(), 9);
    assert!(
        direct.iter().all(|line| line.ends_with(" 127.0.0.1 101")),
        "{direct:?}"
    );
    // In the error log the connection has both names.
    proxy.wait_for_log("127.0.0.1:");
    proxy.wait_for_log("PROXY header: from 192.0.2.7:50000 to 198.51.100.1:80");
    proxy.wait_for_log("] 192.0.2.7:50000 switched");
}

#[test]
fn what_the_client_says_of_itself_comes_before_what_the_header_says() {
    let backend = Backend::listen();
    let proxy = start(&backend, "");
    let asked = request_with("/ws/", "X-Forwarded-For: 203.0.113.1\r\n");
    let all = [LINE, &asked].concat();
    assert_eq!(
        forwarded_for(&proxy, &backend, &[all.as_bytes()]),
        "203.0.113.1, 192.0.2.7"
    );
}

each_mode! {
    fn bytes_behind_header_and_request_reach_the_backend_once(mode: Mode) {
        let backend = Backend::echo();
        let proxy = start(&backend, mode.directives());
        let message = frame(b"hello", Some([1, 2, 3, 4]));
        for header in [LINE.as_bytes(), &binary_ipv4()] {
            let all = [header, request("/ws/").as_bytes(), &message].concat();
            let mut client = Client::sending(&proxy, all);
            client.switched();
            client.expect(frame(b"hello", None));
            client.echo("again");
        }
    }
}

/// Sends these bytes, and expects a refusal that says so to the client and in the log.
#[track_caller]
fn refused(proxy: &Proxy, bytes: &[u8], why: &str) {
    let mut client = Client::sending(proxy, bytes);
    let answer = client.answer().expect_status(400);
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.to_lowercase().contains(&why.to_lowercase()), "{body}");
    let line = proxy.wait_for_log(why);
    assert!(line.contains("] 127.0.0.1:"), "{line}");
}

#[test]
fn a_connection_without_a_whole_header_is_refused() {
    let backend = Backend::listen();
    let proxy = start(&backend, "");
    let asked = request("/ws/");
    let missing = "the connection does not begin with a PROXY header";
    let behind = |header: &[u8]| [header, asked.as_bytes()].concat();
    for (bytes, why) in [
        (asked.clone().into_bytes(), missing),
        (behind(b"\r\n"), missing),
        (behind(b"\0"), missing),
        // At once: nobody waits for the line to end.
        (b"GET".to_vec(), missing),
        (behind(&LINE.as_bytes()[1..]), missing),
        (
            behind(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n"),
            "the line of the PROXY header is malformed",
        ),
        (
            behind(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 80\n"),
            "the line of the PROXY header is malformed",
        ),
        (
            behind(b"PROXY TCP4 front.example 198.51.100.1 50000 80\r\n"),
            "the line of the PROXY header is malformed",
        ),
        (
            behind(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat()),
            "is longer than 107 bytes",
        ),
        (behind(&binary(2, 0x11, &[0; 12])), "unknown command 2"),
        (behind(&binary(1, 0x11, &[0; 11])), "cut short at 11 bytes"),
        (
            behind(&binary(1, 0x55, &[0; 300])),
            "unknown family and protocol 0x55",
        ),
        (
            behind(&binary(1, 0x11, &[0; 5000])),
            "has 5016 bytes; expected at most 4096",
        ),
        // Once is enough: what comes next is a request.
        (behind(&[LINE, LINE].concat().into_bytes()), "request line"),
    ] {
        // The last one knows its client already.
        if why == "request line" {
            Client::sending(&proxy, bytes).answer().expect_status(400);
        } else {
            refused(&proxy, &bytes, why);
        }
    }
    backend.expect_untouched();
    let lines = proxy.wait_for_lines("access.log", 14);
    assert!(
        lines.iter().all(|line| line.ends_with(" 127.0.0.1 400")),
        "{lines:?}"
    );
}

#[test]
fn an_end_inside_the_header_is_refused_and_one_before_a_request_is_none_of_our_business() {
    let backend = Backend::listen();
    let proxy = start(&backend, "");
    let mut client = Client::sending(&proxy, &LINE[..20]);
    client.finish();
    client.answer().expect_status(400);
    proxy.wait_for_log("the connection ended inside the PROXY header");
    // Load balancers look whether we are there.
    for header in [b"".to_vec(), binary(0, 0, b""), LINE.into()] {
        let mut client = Client::sending(&proxy, header);
        client.finish();
        client.expect_end();
    }
    assert_eq!(proxy.log_lines("refused").len(), 1, "{:?}", proxy.log());
    assert_eq!(proxy.wait_for_lines("access.log", 1).len(), 1);
}

#[test]
fn header_and_head_have_the_time_of_a_head_together() {
    let backend = Backend::listen();
    let proxy = start(&backend, "RequestReadTimeout header=2");
    let in_time = Duration::from_millis(1900)..Duration::from_millis(3200);
    let begun = Instant::now();
    let mut client = Client::sending(&proxy, "PROXY TCP4 ");
    client.answer().expect_status(408);
    assert!(in_time.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    proxy.wait_for_log("the PROXY header took longer than RequestReadTimeout allows");
    // Neither a byte now and then nor a whole header begins the time anew.
    let begun = Instant::now();
    let mut client = Client::connect(proxy.address());
    for byte in LINE.bytes() {
        if begun.elapsed() < Duration::from_millis(1500) {
            std::thread::sleep(Duration::from_millis(60));
        }
        client.send([byte]);
    }
    client.send("GET /ws/ HTTP/1.1\r\n");
    client.answer().expect_status(408);
    assert!(in_time.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let line = proxy.wait_for_log("refused: the request head took longer");
    assert!(line.contains("] 192.0.2.7:50000 "), "{line}");
}

#[test]
fn exceptions_connect_without_a_header() {
    let backend = Backend::echo();
    let proxy = start(
        &backend,
        "RemoteIPProxyProtocolExceptions 192.0.2.1 127.0.0.0/8",
    );
    Client::tunnel(&proxy, "/ws/").echo("direct");
    // From them it is no header.
    let all = [LINE, &request("/ws/")].concat();
    Client::sending(&proxy, all).answer().expect_status(400);
    let proxy = start(
        &backend,
        "RemoteIPProxyProtocolExceptions 192.0.2.1 10. ::1",
    );
    Client::asking(&proxy, "/ws/").answer().expect_status(400);
    let all = [LINE, &request("/ws/")].concat();
    Client::sending(&proxy, all).switched();
}

#[test]
fn without_the_directive_a_header_is_no_way_to_be_somebody_else() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    for header in [
        LINE.as_bytes(),
        b"PROXY UNKNOWN\r\n",
        &binary_ipv4(),
        &binary(0, 0, b""),
    ] {
        let all = [header, request("/ws/").as_bytes()].concat();
        Client::sending(&proxy, all).answer().expect_status(400);
    }
    backend.expect_untouched();
}

#[test]
fn the_address_decides_whatever_host_the_request_names() {
    let backend = Backend::echo();
    let url = backend.url();
    let host = |address: &str, name: &str, more: &str| {
        format!(
            "<VirtualHost {address}>\nServerName {name}\n{more}\nProxyPass /ws/ {url}/\n</VirtualHost>\n"
        )
    };
    let proxy = Proxy::start(format!(
        "Listen 127.0.0.1:0\nListen [::1]:0\n{}{}{}",
        host("127.0.0.1", "front.example", ""),
        host("127.0.0.1", "other.example", "RemoteIPProxyProtocol On"),
        host("[::1]", "front.example", ""),
    ));
    let [with, without] = [0, 1].map(|index| proxy.addresses()[index]);
    let asked = request("/ws/");
    for (address, header, status) in [
        (with, "", 400),
        (with, LINE, 101),
        (without, "", 101),
        (without, LINE, 400),
    ] {
        let mut client = Client::connect(address);
        client.send([header, &asked].concat());
        let answer = client.answer_head();
        assert_eq!(answer.status, status, "{address} {header:?}");
    }
}
