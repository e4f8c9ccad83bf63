//! Records as they come off the wire: in pieces of every size, and in heaps. None is lost, none waits for another one, and
//! no byte of ours stays here.

use super::{NAME, client, exactly, start};
use crate::support::client::{request, switch};
use crate::support::{BOUND, Backend, Certs, Mode, Proxy, Wire, each_mode, pattern};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslStream, SslVersion};
use openssl::symm::{Cipher, encrypt_aead};
use rustix::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];
/// The bytes of a full record, in plain text.
const RECORD: usize = 16 * 1024;

/// A connection that keeps what is written as long as it is shut.
#[derive(Debug)]
struct Valve {
    tcp: TcpStream,
    is_shut: bool,
    kept: Vec<u8>,
}

impl Read for Valve {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.tcp.read(bytes)
    }
}

impl Write for Valve {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_shut {
            self.kept.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client that sends its records by itself.
struct Raw(SslStream<Valve>);

impl Raw {
    #[track_caller]
    fn connect(proxy: &Proxy, context: &SslContext) -> Self {
        let tcp = TcpStream::connect(proxy.address()).unwrap();
        tcp.set_read_timeout(Some(BOUND)).unwrap();
        tcp.set_write_timeout(Some(BOUND)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_hostname(NAME).unwrap();
        let valve = Valve {
            tcp,
            is_shut: false,
            kept: Vec::new(),
        };
        let mut made = ssl.connect(valve).expect("a TLS handshake");
        made.get_mut().is_shut = true;
        Self(made)
    }

    /// These bytes in records of their own, as few as there can be.
    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.0.write_all(plain).unwrap();
        std::mem::take(&mut self.0.get_mut().kept)
    }

    fn close_notify(&mut self) -> Vec<u8> {
        self.0.shutdown().unwrap();
        std::mem::take(&mut self.0.get_mut().kept)
    }

    #[track_caller]
    fn put(&self, bytes: &[u8]) {
        (&self.0.get_ref().tcp).write_all(bytes).unwrap();
    }

    /// Has the proxy find all of these bytes at once, as far as there is room for them.
    #[track_caller]
    fn put_at_once(&self, proxy: &Proxy, bytes: &[u8]) {
        let mut tcp = &self.0.get_ref().tcp;
        proxy.signal(Signal::STOP);
        tcp.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match tcp.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        tcp.set_nonblocking(false).unwrap();
        proxy.signal(Signal::CONT);
        tcp.write_all(&bytes[sent..]).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, bytes: &[u8]) {
        let mut found = vec![0; bytes.len()];
        self.0.read_exact(&mut found).unwrap();
        assert!(found == bytes, "other bytes, of {}", bytes.len());
    }

    #[track_caller]
    fn expect_end(&mut self) {
        let outcome = self.0.ssl_read(&mut [0; 10]).unwrap_err();
        assert_eq!(outcome.code(), ErrorCode::ZERO_RETURN, "{outcome}");
    }
}

/// A proxy and its backend.
struct Stage {
    backend: Backend,
    proxy: Proxy,
}

impl Stage {
    #[track_caller]
    fn new(mode: Mode) -> Self {
        let backend = Backend::listen();
        let (mode, url) = (mode.directives(), backend.url());
        let lines = format!("LogLevel debug\n{mode}\nProxyPass /ws/ {url}/");
        let proxy = start(&Certs::new(), lines);
        Self { backend, proxy }
    }

    /// A tunnel, and the proxy has come to rest.
    #[track_caller]
    fn open(&self, context: &SslContext) -> (Raw, Wire) {
        let mut client = Raw::connect(&self.proxy, context);
        let request = client.seal(request("/ws/").as_bytes());
        client.put(&request);
        let mut peer = self.backend.accept();
        peer.head();
        peer.send(switch());
        client.expect(switch().as_bytes());
        // Both ways go on before anything is measured.
        peer.send("down");
        client.expect(b"down");
        self.proxy.settle();
        (client, peer)
    }

    /// Calls `look` with a tunnel in each version.
    #[track_caller]
    fn each(mode: Mode, mut look: impl FnMut(&Proxy, Raw, Wire)) {
        let stage = Self::new(mode);
        for version in VERSIONS {
            let (client, peer) = stage.open(&client(exactly(version)));
            look(&stage.proxy, client, peer);
        }
    }
}

each_mode! {
    fn a_record_may_be_cut_anywhere(mode: Mode) {
        Stage::each(mode, |proxy, mut client, mut peer| {
            let mut place = 1;
            loop {
                let (first, second) = (pattern(place as u64, 20), pattern(1 + place as u64, 30));
                let [first_sealed, second_sealed] = [&first, &second].map(|plain| client.seal(plain));
                let Some((begin, end)) = second_sealed.split_at_checked(place) else {
                    break;
                };
                // The one before arrives without what follows it.
                client.put(&[&first_sealed, begin].concat());
                peer.expect(&first);
                proxy.settle();
                client.put(end);
                peer.expect(&second);
                place += 1;
            }
            assert!(place > 50, "{place}");
        });
    }

    fn records_may_come_byte_by_byte(mode: Mode) {
        Stage::each(mode, |proxy, mut client, mut peer| {
            // Each byte by itself for sure, and as it comes.
            for (size, settles) in [(25, true), (1000, false)] {
                let plain = pattern(3, size);
                let sealed = [client.seal(&plain), client.seal(&plain)].concat();
                for byte in sealed {
                    client.put(&[byte]);
                    if settles {
                        proxy.settle();
                    }
                }
                peer.expect([&plain[..], &plain].concat());
            }
        });
    }

    fn as_many_records_as_there_are_are_read_at_once(mode: Mode) {
        Stage::each(mode, |proxy, mut client, mut peer| {
            for sizes in [vec![1; 300], (1..200).collect(), vec![RECORD; 5], vec![1, RECORD, 1, RECORD - 1, 2]] {
                let mut all = Vec::new();
                let mut sealed = Vec::new();
                for (seed, size) in sizes.into_iter().enumerate() {
                    let plain = pattern(seed as u64, size);
                    sealed.extend(client.seal(&plain));
                    all.extend(plain);
                }
                client.put_at_once(proxy, &sealed);
                peer.expect(&all);
            }
        });
    }

    /// Buffers have room for one full record, or for two, three or four.
    fn a_record_may_end_where_a_buffer_does(mode: Mode) {
        Stage::each(mode, |proxy, mut client, mut peer| {
            let around = client.seal(b"x");
            client.put(&around);
            peer.expect("x");
            let around = around.len() - 1;
            for (records, shift) in (1..=4).flat_map(|records| (0..=12).map(move |shift| (records, shift))) {
                let end = records * RECORD + shift - 6;
                let mut all = Vec::new();
                let mut sealed = Vec::new();
                while sealed.len() < end {
                    let left = end - sealed.len() - around;
                    // What remains behind a record has room for another.
                    let size = if left > RECORD { left.min(RECORD) - 2 * around } else { left };
                    let plain = pattern(sealed.len() as u64, size);
                    sealed.extend(client.seal(&plain));
                    all.extend(plain);
                }
                assert_eq!(sealed.len(), end);
                // With nothing behind it, with a record, and with the beginning of one.
                client.put_at_once(proxy, &sealed);
                peer.expect(&all);
                let [next, again, last] = [b"next", &all[..], b"last"].map(|plain| client.seal(plain));
                client.put_at_once(proxy, &[&next[..], &again, &last[..7]].concat());
                peer.expect(b"next");
                peer.expect(&all);
                client.put(&last[7..]);
                peer.expect(b"last");
            }
        });
    }

    fn nothing_behind_a_close_notify_counts(mode: Mode) {
        for behind in [&[][..], b"garbage", &[0x17, 3, 3, 0, 30]] {
            Stage::each(mode, |proxy, mut client, mut peer| {
                let last = client.seal(b"the last");
                let end = client.close_notify();
                client.put_at_once(proxy, &[&last, &end, behind].concat());
                peer.expect("the last");
                peer.expect_end();
                // The other way is open.
                peer.send("still");
                client.expect(b"still");
                peer.finish();
            });
        }
    }

    /// The kernel would keep what it is told to hold back for 200 ms, unless something follows.
    fn the_end_of_what_is_sent_does_not_wait_for_more(mode: Mode) {
        const AT_ONCE: Duration = Duration::from_millis(150);
        Stage::each(mode, |_, mut client, mut peer| {
            let full = [1, 2, 3, 4, 5, 8].map(|count| count * RECORD);
            let around = full.into_iter().flat_map(|size| [size - 1, size, size + 1]);
            for size in [1, 100].into_iter().chain(around).chain([100_000, 300_001]) {
                let bytes = pattern(size as u64, size);
                let mut took = Vec::new();
                // Others have work for this machine, too.
                while took.iter().all(|took| *took > AT_ONCE) {
                    assert!(took.len() < 5, "{size} bytes: {took:?}");
                    let begun = Instant::now();
                    thread::scope(|scope| {
                        scope.spawn(|| peer.send(&bytes));
                        client.expect(&bytes);
                    });
                    took.push(begun.elapsed());
                }
            }
        });
    }

    fn pieces_pass_both_ways_at_once(mode: Mode) {
        const SIZE: usize = 400_000;
        Stage::each(mode, |_, mut client, mut peer| {
            let (up, down) = (pattern(5, SIZE), pattern(7, SIZE));
            let mut sealed = Vec::new();
            let mut rest = &up[..];
            for size in [1, 3000, RECORD, 17, 9000, 2].into_iter().cycle() {
                let (plain, behind) = rest.split_at(size.min(rest.len()));
                sealed.extend(client.seal(plain));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let mut wire = client.0.get_ref().tcp.try_clone().unwrap();
            let mut back = peer.tcp().try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut rest = &sealed[..];
                    for size in [1, 4, 5, 6, 1400, 1, 30_000, 21, 2, 70_000].into_iter().cycle() {
                        let (piece, behind) = rest.split_at(size.min(rest.len()));
                        wire.write_all(piece).unwrap();
                        rest = behind;
                        if rest.is_empty() {
                            break;
                        }
                    }
                });
                scope.spawn(|| {
                    for piece in down.chunks(7777) {
                        back.write_all(piece).unwrap();
                    }
                });
                scope.spawn(|| peer.expect(&up));
                client.expect(&down);
            });
            let end = client.close_notify();
            client.put(&end);
            peer.expect_end();
            peer.finish();
            client.expect_end();
        });
    }

    /// Which is what OpenSSL does not send by itself: without a byte in it, with nothing but padding, and behind the end.
    fn records_may_be_empty_or_padded(mode: Mode) {
        let stage = Stage::new(mode);
        let (context, secret) = telling_its_secret();
        let (mut client, mut peer) = stage.open(&context);
        // The first was the request.
        let mut sealer = Sealer::new(&secret.lock().unwrap(), 1);
        let empty = |sealer: &mut Sealer| sealer.data(b"", 0);
        let heap = [
            empty(&mut sealer),
            sealer.data(b"one", 0),
            empty(&mut sealer),
            empty(&mut sealer),
            sealer.data(b"", 500),
            sealer.data(b"two", 100),
            empty(&mut sealer),
        ];
        client.put_at_once(&stage.proxy, &heap.concat());
        peer.expect("onetwo");
        // None of them is an end, alone or cut.
        for place in 0..=22 {
            let sealed = sealer.data(b"", 0);
            assert_eq!(sealed.len(), 22);
            client.put(&sealed[..place]);
            stage.proxy.settle();
            client.put(&sealed[place..]);
            stage.proxy.settle();
            let sealed = sealer.data(b"on", place);
            client.put(&sealed);
            peer.expect("on");
        }
        let most = pattern(1, RECORD);
        client.put(&sealer.data(&most, 0));
        peer.expect(&most);
        let padded = pattern(2, 5);
        client.put(&sealer.data(&padded, RECORD - 5));
        peer.expect(&padded);
        peer.send("down");
        client.expect(b"down");
        // What comes behind the end was sealed as it has to be, and is nobody's.
        let last = sealer.data(b"last", 0);
        let end = sealer.close_notify();
        let behind = sealer.data(b"behind", 0);
        client.put_at_once(&stage.proxy, &[last, end, behind].concat());
        peer.expect("last");
        peer.expect_end();
    }

    /// Whoever changes a byte on the way ends the tunnel, and gets none through.
    fn a_record_that_was_tampered_with_ends_the_tunnel(mode: Mode) {
        Stage::each(mode, |proxy, mut client, mut peer| {
            let good = client.seal(b"good");
            let mut bad = client.seal(b"evil");
            *bad.last_mut().unwrap() ^= 1;
            client.put_at_once(proxy, &[good, bad].concat());
            peer.expect("good");
            let (rest, _) = peer.rest();
            assert!(rest.is_empty());
        });
    }
}

/// A client of TLS 1.3, and where the secret of its records will stand, as hexadecimal digits.
fn telling_its_secret() -> (SslContext, Arc<Mutex<String>>) {
    let secret = Arc::<Mutex<String>>::default();
    let found = Arc::clone(&secret);
    let context = client(|builder| {
        exactly(SslVersion::TLS1_3)(builder);
        builder.set_ciphersuites("TLS_AES_128_GCM_SHA256").unwrap();
        builder.set_keylog_callback(move |_, line| {
            if let Some(line) = line.strip_prefix("CLIENT_TRAFFIC_SECRET_0 ") {
                let (_, digits) = line.split_once(' ').unwrap();
                *found.lock().unwrap() = digits.to_owned();
            }
        });
    });
    (context, secret)
}

/// Makes records of TLS 1.3, of AES with 128 bits. RFC 8446 sections 5.2, 5.3 and 7.3.
struct Sealer {
    key: Vec<u8>,
    iv: Vec<u8>,
    number: u64,
}

impl Sealer {
    /// `number`: how many were sent before.
    fn new(secret: &str, number: u64) -> Self {
        let digits = secret.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let secret: Vec<u8> = digits.map(byte).collect();
        let expanded = |label: &str, length: u8| {
            let label = format!("tls13 {label}");
            let own = u8::try_from(label.len()).unwrap();
            let info = [&[0, length, own], label.as_bytes(), &[0, 1]].concat();
            let key = PKey::hmac(&secret).unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
            let mut long = signer.sign_oneshot_to_vec(&info).unwrap();
            long.truncate(length.into());
            long
        };
        Self {
            key: expanded("key", 16),
            iv: expanded("iv", 12),
            number,
        }
    }

    fn data(&mut self, plain: &[u8], padding: usize) -> Vec<u8> {
        self.seal(23, plain, padding)
    }

    fn close_notify(&mut self) -> Vec<u8> {
        self.seal(21, &[1, 0], 0)
    }

    fn seal(&mut self, kind: u8, plain: &[u8], padding: usize) -> Vec<u8> {
        let inner = [plain, &[kind], &vec![0; padding]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce = self.iv.clone();
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let mut tag = [0; 16];
        let cipher = Cipher::aes_128_gcm();
        let sealed = encrypt_aead(cipher, &self.key, Some(&nonce), &header, &inner, &mut tag);
        [&header[..], &sealed.unwrap(), &tag].concat()
    }
}
