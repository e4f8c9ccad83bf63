//! The proxy as a process, the two ends that talk through it, and waiting with a bound.

pub mod backend;
#[cfg(feature = "tls")]
pub mod certs;
pub mod cgroup;
pub mod client;
pub mod echoing;
pub mod http;
pub mod httpd;
pub mod json;
pub mod pages;
pub mod port;
pub mod proxy;
pub mod strace;
pub mod wire;

pub use backend::Backend;
#[cfg(feature = "tls")]
pub use certs::Certs;
pub use client::Client;
pub use httpd::Httpd;
pub use json::Json;
pub use pages::Pages;
pub use port::Port;
pub use proxy::Proxy;
pub use wire::Wire;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Only a failure ever takes so long.
pub const BOUND: Duration = Duration::from_secs(20);

/// How a tunnel is carried. Every test that has one runs in each of them: see [`each_mode!`].
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// A worker thread stays with its tunnel.
    Worker,
    /// A reactor takes it right after the handshake.
    Reactor,
    /// A reactor takes it from its worker in the first pause.
    HandedOver,
}

impl Mode {
    /// The directives that choose this mode.
    pub fn directives(self) -> &'static str {
        match self {
            Self::Worker => "ProxyWebsocketAsync Off",
            Self::Reactor => "ProxyWebsocketAsync On",
            Self::HandedOver => "ProxyWebsocketAsync On\nProxyWebsocketAsyncDelay 2ms",
        }
    }
}

/// Defines tests that have a tunnel, each as `name::in_worker`, `name::in_reactor` and `name::handed_over`.
macro_rules! each_mode {
    ($($(#[$attribute:meta])* fn $name:ident($mode:ident: Mode) $body:block)+) => { $(
        $(#[$attribute])*
        fn $name($mode: $crate::support::Mode) $body

        mod $name {
            #[test]
            fn in_worker() {
                super::$name($crate::support::Mode::Worker);
            }

            #[test]
            fn in_reactor() {
                super::$name($crate::support::Mode::Reactor);
            }

            #[test]
            fn handed_over() {
                super::$name($crate::support::Mode::HandedOver);
            }
        }
    )+ };
}
pub(crate) use each_mode;

/// A proxy in `mode` that has `/ws/` mapped to `backend` and logs the status and why each tunnel ended.
#[track_caller]
pub fn logging(mode: Mode, backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!(
        "{}\n{directives}\nProxyPass /ws/ {}/\nCustomLog access.log \"%>s %{{close-reason}}n\"",
        mode.directives(),
        backend.url()
    ))
}

/// A tunnel through `/ws/`: the client's end and the backend's.
#[track_caller]
pub fn both_ends(proxy: &Proxy, backend: &Backend) -> (Client, Wire) {
    let mut client = Client::asking(proxy, "/ws/");
    let peer = backend.accept_tunnel();
    client.switched();
    (client, peer)
}

/// Waits until `condition` holds, and fails saying `what` was waited for if that takes longer than `bound`.
#[track_caller]
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < bound, "waited {bound:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets this process open as many files as it may: a shell starts it with less.
pub fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("a process may raise its limit to the hard one");
}

/// A test is skipped for what this machine has not; with `CI=true` in the environment it fails.
#[track_caller]
pub fn missing(what: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{what}");
    println!("skipped: {what}");
}

/// A directory of its own for one test, removed at its end.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// One in another place than where those of tests are.
    pub fn below(place: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "behaviour-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = place.join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into the directory, and says where it is.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).expect("a file for the test");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The bytes of `tests/data/` and everything else in the tree is found from here.
pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Bytes that repeat nowhere near, so that a lost, doubled or moved one is noticed.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 11).to_le_bytes()[..6]);
    }
    bytes.truncate(length);
    bytes
}

/// Appends a text of the tables in `tests/data` as the bytes that it stands for: `\r \n \t \0 \\ \xHH`, and `\{text*count}`.
pub fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (kind, after) = escaped.split_at(1);
        rest = after;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&after[..2], 16).expect(text));
                rest = &after[2..];
            }
            "{" => {
                let (inside, after) = after.split_once('}').expect(text);
                let (unit, count) = inside.rsplit_once('*').expect(text);
                let mut once = Vec::new();
                unescape(unit, &mut once);
                bytes.extend(once.repeat(count.parse().expect(text)));
                rest = after;
            }
            _ => panic!("an unknown escape in {text}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
}
