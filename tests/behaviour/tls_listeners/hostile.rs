//! Those who do not speak TLS, or not to the end, or in odd pieces.

use super::{NAME, client, s_client, start, try_dial, visit};
use crate::support::client::{frame, request, switch};
use crate::support::http::Origin;
use crate::support::{BOUND, Backend, Certs, Client, Proxy, Wire, each_mode, pattern, wait_until};
use openssl::ssl::{Ssl, SslContext, SslStream};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A connection whose writes come in pieces of their own.
#[derive(Debug)]
struct Odd {
    tcp: TcpStream,
    /// Not sent yet.
    held: Vec<u8>,
    /// At most so many bytes in one packet; nothing: all of it, when an answer is waited for.
    piece: Option<usize>,
}

impl Odd {
    /// A connection that begins with these bytes.
    fn new(address: SocketAddr, first: &[u8], piece: Option<usize>) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(BOUND)).unwrap();
        Self {
            tcp,
            held: first.to_vec(),
            piece,
        }
    }

    #[track_caller]
    fn secure(self, context: &SslContext) -> SslStream<Self> {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_hostname(NAME).unwrap();
        ssl.connect(self).expect("a TLS handshake")
    }
}

impl Read for Odd {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let held = std::mem::take(&mut self.held);
        for piece in held.chunks(self.piece.unwrap_or(usize::MAX)) {
            self.tcp.write_all(piece)?;
        }
        self.tcp.read(bytes)
    }
}

impl Write for Odd {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a client opens a connection with.
fn hello() -> Vec<u8> {
    let mut ssl = Ssl::new(&client(|_| ())).unwrap();
    ssl.set_hostname(NAME).unwrap();
    let outcome = ssl.connect(Recorder::default());
    let Err(openssl::ssl::HandshakeError::WouldBlock(half)) = outcome else {
        panic!("{outcome:?}");
    };
    half.get_ref().0.clone()
}

/// Keeps what is written, and has nothing to be read.
#[derive(Debug, Default)]
struct Recorder(Vec<u8>);

impl Read for Recorder {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn plain_http_where_tls_is_spoken_is_a_400_that_says_so() {
    let certs = Certs::new();
    let proxy = start(&certs, "CustomLog access.log \"%r %>s %{SSL_PROTOCOL}x\"");
    for bytes in [
        "GET / HTTP/1.1\r\nHost: front.example\r\n\r\n".to_owned(),
        request("/ws/"),
        "POST / HTTP/1.1\r\nHost: front.example\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "G ".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut client = Client::sending(&proxy, &bytes);
        let answer = client.answer().expect_status(400);
        assert_eq!(
            answer.field("Connection").as_deref(),
            Some("close"),
            "{bytes}"
        );
        let body = String::from_utf8(answer.body).unwrap();
        assert!(body.contains("TLS") || body.contains("https"), "{body}");
    }
    wait_until("their lines", BOUND, || proxy.log_lines("PW116").len() == 5);
    let lines = proxy.wait_for_lines("access.log", 5);
    assert_eq!(lines[0], "GET / HTTP/1.1 400 -");
}

/// How the lines about each of these connections end; nothing is in the access log.
#[test]
fn garbage_and_port_scans_cost_a_line_of_debugging() {
    let certs = Certs::new();
    let hello = hello();
    let proxy = start(
        &certs,
        "LogLevel debug\nCustomLog access.log \"%>s\"\nRequestReadTimeout handshake=1",
    );
    let mut answer = vec![22, 3, 3, 0, 4, 2, 0, 0, 0];
    answer.extend([0; 40]);
    for (bytes, what) in [
        (&b""[..], "nothing"),
        (&hello[..1], "a byte"),
        (&hello[..hello.len() / 2], "half a hello"),
        (&[0; 300], "zeroes"),
        (b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10", "a hello of SSL 2"),
        (b"\x16\x03\x01\xff\xff", "a record that is too long"),
        (b"\x15\x03\x01\0\x02\x02\x28", "an alert"),
        (
            b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
            "a hello that is too long",
        ),
        (&answer, "the hello of a server"),
        (
            b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
            "remote desktops",
        ),
        (b"\r\n\r\n", "empty lines"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "another protocol"),
        (b"GE", "the beginning of a method"),
    ] {
        let before = proxy.log().len();
        let mut scan = Client::sending(&proxy, bytes);
        scan.finish();
        let (sent, _) = scan.rest();
        assert!(sent.is_empty(), "{what}: {}", sent.escape_ascii());
        let from = scan.local().to_string();
        wait_until("its line", BOUND, || !proxy.log_lines(&from).is_empty());
        drop(scan);
        proxy.settle();
        let lines = proxy.log_lines(&from);
        assert_eq!(lines.len(), 1, "{what}: {lines:?}");
        assert!(lines[0].contains("[DEBUG]"), "{what}: {lines:?}");
        assert_eq!(proxy.log().len(), before + 1, "{what}: {:?}", proxy.log());
    }
    // Whoever comes next is served.
    let mut visitor = visit(&proxy);
    visitor.send("GET / HTTP/1.1\r\nHost: front.example\r\n\r\n");
    visitor.answer_head().expect_status(404);
    assert_eq!(proxy.wait_for_lines("access.log", 1), ["404"]);
}

#[test]
fn a_stall_in_the_handshake_holds_a_worker_no_longer_than_requestreadtimeout_says() {
    let certs = Certs::new();
    let hello = hello();
    let proxy = start(
        &certs,
        "RequestReadTimeout handshake=1\nMaxRequestWorkers 4\nCustomLog access.log \"%>s\"",
    );
    let begun = Instant::now();
    let mut stalled: Vec<_> = [&b""[..], &hello[..1], &hello]
        .map(|bytes| Client::sending(&proxy, bytes))
        .into();
    // The fourth worker is free.
    let mut visitor = visit(&proxy);
    visitor.send("GET / HTTP/1.1\r\nHost: front.example\r\nConnection: close\r\n\r\n");
    visitor.answer_head().expect_status(404);
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
    drop(visitor);
    for client in &mut stalled {
        client.rest();
    }
    let took = begun.elapsed();
    let expected = Duration::from_millis(950)..Duration::from_secs(4);
    assert!(expected.contains(&took), "{took:?}");
    wait_until("their lines", BOUND, || {
        proxy.log_lines("longer than RequestReadTimeout").len() == stalled.len()
    });
    assert_eq!(proxy.wait_for_lines("access.log", 1), ["404"]);
}

/// The limit is for the whole, not for each read.
#[test]
fn a_hello_that_drips_has_no_longer() {
    let certs = Certs::new();
    let proxy = start(&certs, "RequestReadTimeout handshake=1");
    let mut slow = Client::connect(proxy.address());
    let begun = Instant::now();
    for byte in hello() {
        if !slow.send_if_taken([byte]) || begun.elapsed() > Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    proxy.wait_for_log("longer than RequestReadTimeout");
}

/// Answers of the client that are none, behind a hello that was one.
#[test]
fn a_handshake_that_goes_wrong_is_a_line_and_no_more() {
    let certs = Certs::new();
    let proxy = start(&certs, "CustomLog access.log \"%>s\"");
    let hello = hello();
    let mut broken = Client::sending(&proxy, &hello);
    broken.receive(5);
    broken.send([0xff; 300]);
    broken.rest();
    let line = proxy.wait_for_log("PW512");
    assert!(line.contains("[INFO]"), "{line}");
    // It trusts nobody, and says so.
    let distrustful = client(|builder| builder.set_verify(openssl::ssl::SslVerifyMode::PEER));
    try_dial(proxy.address(), &distrustful, Some(NAME)).unwrap_err();
    let line = proxy.wait_for_log("unknown ca");
    assert!(line.contains("PW512"), "{line}");
    assert_eq!(
        std::fs::read(proxy.directory().join("access.log")).unwrap(),
        b""
    );
}

#[test]
fn a_hello_comes_in_whatever_pieces() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let proxy = start(&certs, format!("ProxyPass / {}/", origin.url()));
    for piece in [Some(1), Some(2), Some(5), Some(6), Some(100), None] {
        let odd = Odd::new(proxy.address(), b"", piece);
        let mut stream = odd.secure(&client(|_| ()));
        stream
            .write_all(b"GET /a HTTP/1.1\r\nHost: front.example\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(
            answer.ends_with(b"\r\n\r\nGET /a"),
            "{piece:?}: {}",
            answer.escape_ascii()
        );
    }
}

/// A message of the handshake may take several records.
#[test]
fn a_long_hello_in_short_records_is_one() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let proxy = start(&certs, format!("ProxyPass / {}/", origin.url()));
    let offered: Vec<String> = ('a'..='p').map(|c| c.to_string().repeat(250)).collect();
    let offered = format!("{},http/1.1", offered.join(","));
    let arguments = [
        "-max_send_frag",
        "512",
        "-servername",
        NAME,
        "-alpn",
        &offered,
        "-ign_eof",
    ];
    let request = "GET /a HTTP/1.1\r\nHost: front.example\r\nConnection: close\r\n\r\n";
    let Some(told) = s_client(proxy.address(), &arguments, request) else {
        return;
    };
    assert!(told.contains("GET /a"), "{told}");
    assert!(told.contains("ALPN protocol: http/1.1"), "{told}");
}

#[test]
fn a_proxy_header_goes_before_tls() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let proxy = start(
        &certs,
        format!(
            "RemoteIPProxyProtocol On\nProxyPass / {}/\nCustomLog access.log \"%a %{{SSL_PROTOCOL}}x %>s\"",
            origin.url()
        ),
    );
    let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n".to_vec();
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb]);
    for header in [text, binary] {
        // In one packet with the hello, and apart from it, byte for byte.
        for piece in [None, Some(1), Some(header.len())] {
            let odd = Odd::new(proxy.address(), &header, piece);
            let mut stream = odd.secure(&client(|_| ()));
            stream
                .write_all(b"GET /a HTTP/1.1\r\nHost: front.example\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.ends_with(b"GET /a"), "{}", answer.escape_ascii());
            let forwarded = origin.request().field("X-Forwarded-For");
            assert_eq!(forwarded.as_deref(), Some("192.0.2.7"));
        }
    }
    for line in proxy.wait_for_lines("access.log", 6) {
        assert_eq!(line, "192.0.2.7 TLSv1.3 200");
    }
    // Without the header it is no beginning.
    assert!(try_dial(proxy.address(), &client(|_| ()), Some(NAME)).is_err());
}

#[test]
fn two_hundred_handshakes_at_once() {
    const COUNT: usize = 200;
    let certs = Certs::new();
    let backend = Backend::echo();
    let proxy = start(&certs, format!("ProxyPass /ws/ {}/", backend.url()));
    let together = Barrier::new(COUNT);
    let context = client(|_| ());
    std::thread::scope(|scope| {
        for number in 0..COUNT {
            let (proxy, together, context) = (&proxy, &together, &context);
            scope.spawn(move || {
                together.wait();
                let mut visitor = super::dial(proxy.address(), context, Some(NAME));
                visitor.send(request("/ws/"));
                visitor.switched();
                visitor.echo(&format!("number {number}"));
                together.wait();
                visitor.echo("still there");
            });
        }
    });
    assert_eq!(backend.count(), COUNT);
    assert!(proxy.log_lines("PW512").is_empty());
}

/// The proxy's end of a tunnel as a backend sees it.
#[track_caller]
fn accept(backend: &Backend) -> Wire {
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch());
    peer
}

each_mode! {
    fn a_request_in_one_flight_with_the_end_of_the_handshake_loses_nothing(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let proxy = start(&certs, format!("{}\nProxyPass /ws/ {}/", mode.directives(), backend.url()));
        for size in [0, 1, 1000, 16_384, 100_000] {
            let mut stream = Odd::new(proxy.address(), b"", None).secure(&client(|_| ()));
            let behind = frame(&pattern(1, size), Some([1, 2, 3, 4]));
            stream.write_all(request("/ws/").as_bytes()).unwrap();
            stream.write_all(&behind).unwrap();
            std::thread::scope(|scope| {
                // It sends when it reads.
                scope.spawn(move || {
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).unwrap();
                    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
                    assert!(answer.ends_with(b"\r\n\r\nanswer"), "{}", answer.escape_ascii());
                });
                let mut peer = accept(&backend);
                peer.expect(&behind);
                peer.send("answer");
            });
        }
    }

    /// In one record with the request, and thus decrypted before it was asked for: no event of the socket tells of it.
    fn bytes_behind_a_request_in_its_record_reach_the_backend(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let proxy = start(&certs, format!("{}\nProxyPass /ws/ {}/", mode.directives(), backend.url()));
        let head = request("/ws/");
        for size in [1, 125, 1800, 1900, 2048, 4096, 8000, 16_000] {
            let mut visitor = visit(&proxy);
            let behind = frame(&pattern(1, size), Some([1, 2, 3, 4]));
            visitor.send([head.as_bytes(), &behind].concat());
            let mut peer = accept(&backend);
            peer.expect(&behind);
            visitor.switched();
            // Nor of the 101 and what stands behind it: both ways go on.
            peer.send("down");
            visitor.expect("down");
            visitor.send("up");
            peer.expect("up");
        }
    }
}

#[test]
fn the_hello_of_the_tests_is_one() {
    let certs = Certs::new();
    let proxy: Proxy = start(&certs, "");
    let mut raw = Client::sending(&proxy, hello());
    assert_eq!(raw.receive(3), [22, 3, 3]);
}
