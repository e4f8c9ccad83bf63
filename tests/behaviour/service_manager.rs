//! What the service manager is told, and what it passes. The tests play systemd.

use crate::support::pages::{expect_page, fetch, get};
use crate::support::{
    BOUND, Backend, Client, Pages, Proxy, TempDir, both_ends, each_mode, missing, wait_until,
};
use crate::upgrade::upgrade;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The end that the proxy is heard at.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

/// One datagram.
#[derive(Debug)]
struct Told {
    text: String,
    descriptor: Option<OwnedFd>,
}

impl Told {
    fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Manager {
    fn below(directory: &Path) -> Self {
        let address = directory.join("notify");
        Self::new(
            UnixDatagram::bind(&address).unwrap(),
            address.to_str().unwrap(),
        )
    }

    fn new(socket: UnixDatagram, address: &str) -> Self {
        socket.set_read_timeout(Some(BOUND)).unwrap();
        Self {
            socket,
            address: address.to_owned(),
        }
    }

    /// Commands of the shell.
    fn variables(&self) -> String {
        format!("export NOTIFY_SOCKET='{}'", self.address)
    }

    #[track_caller]
    fn next(&self) -> Told {
        self.try_next().expect("to be told something")
    }

    fn try_next(&self) -> Option<Told> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let count = recvmsg(&self.socket, &mut pieces, &mut control, flags)
            .ok()?
            .bytes;
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Some(Told {
            text: String::from_utf8(bytes[..count].to_vec()).unwrap(),
            descriptor,
        })
    }

    /// The next that says `text` in a line of its own.
    #[track_caller]
    fn wait_for(&self, text: &str) -> Told {
        loop {
            let told = self.next();
            if told.text.lines().any(|line| line == text) {
                return told;
            }
        }
    }

    /// All that was said to the end of a process.
    fn rest(&self) -> String {
        self.socket.set_nonblocking(true).unwrap();
        let told = std::iter::from_fn(|| self.try_next());
        told.map(|told| told.text + "\n").collect()
    }
}

#[track_caller]
fn start(config: &str, variables: &str) -> (Proxy, Manager) {
    let directory = TempDir::new();
    let manager = Manager::below(directory.path());
    let variables = format!("{}; {variables}", manager.variables());
    let variables = variables.trim_end_matches("; ");
    (Proxy::start_in(directory, config, variables), manager)
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
}

each_mode! {
    fn the_manager_hears_of_the_start_the_tunnels_and_the_end(mode: Mode) {
        let backend = Backend::listen();
        let config = format!("{}\nProxyPass /ws/ {}/", mode.directives(), backend.url());
        let (mut proxy, manager) = start(&config, "");
        let told = manager.wait_for("READY=1");
        assert_eq!(told.value("STATUS"), Some("0 tunnels"));
        let tunnels = [(); 2].map(|()| both_ends(&proxy, &backend));
        manager.wait_for("STATUS=2 tunnels");
        drop(tunnels);
        manager.wait_for("STATUS=0 tunnels");
        proxy.stop();
        let told = manager.wait_for("STOPPING=1");
        assert_eq!(told.value("STATUS"), Some("0 tunnels"));
        assert_eq!(manager.rest(), "");
    }
}

#[test]
fn the_manager_may_listen_at_an_abstract_address() {
    let name = format!("proxy-wstunnel-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager = Manager::new(socket, &format!("@{name}"));
    let mut proxy = Proxy::start_in(TempDir::new(), "", &manager.variables());
    manager.wait_for("READY=1");
    proxy.stop();
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_manager_that_is_not_there_is_missed_and_no_more() {
    for address in ["/nowhere/at/all", "vsock:2:1"] {
        let variables = format!("export NOTIFY_SOCKET={address} WATCHDOG_USEC=1000");
        let mut proxy = Proxy::start_in(TempDir::new(), "", &variables);
        let line = proxy.wait_for_log("PW603 ");
        assert!(
            line.contains(&format!("NOTIFY_SOCKET {address:?}: ")),
            "{line}"
        );
        TcpStream::connect(proxy.address()).unwrap();
        proxy.stop();
    }
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end() {
    let (mut proxy, manager) = start("", "");
    manager.wait_for("READY=1");
    for good in [true, false] {
        if !good {
            let file = proxy.directory().join("proxy.conf");
            std::fs::write(file, "Listen nonsense\n").unwrap();
        }
        let before = now();
        proxy.signal(Signal::HUP);
        let told = manager.next();
        assert_eq!(told.value("RELOADING"), Some("1"), "{told:?}");
        let at = told.value("MONOTONIC_USEC").unwrap().parse().unwrap();
        let at = Duration::from_micros(at);
        // Whole microseconds are told.
        assert!(
            at + Duration::from_micros(1) > before && at <= now(),
            "{at:?}"
        );
        let told = manager.next();
        assert_eq!(told.value("READY"), Some("1"), "{told:?}");
        let status = told.value("STATUS").unwrap();
        if good {
            assert_eq!(status, "0 tunnels");
        } else {
            let why = "/proxy.conf:1: Listen: ";
            let is_told = status.starts_with("0 tunnels; not reloaded: ") && status.contains(why);
            assert!(is_told, "{status}");
        }
    }
    proxy.stop();
}

#[test]
fn after_an_upgrade_the_other_process_speaks_as_the_main_one() {
    let (mut proxy, manager) = start("Listen 127.0.0.1:0", "");
    manager.wait_for("READY=1");
    let successor = upgrade(&proxy);
    // By default a manager listens to the main process alone.
    let told = manager.next();
    let pid = successor.0.as_raw_nonzero().to_string();
    assert_eq!(told.value("MAINPID"), Some(pid.as_str()), "{told:?}");
    manager.wait_for("FDSTORE=1");
    manager.wait_for("READY=1");
    proxy.await_exit_before_another();
    kill_process(successor.0, Signal::TERM).unwrap();
    manager.wait_for("STOPPING=1");
}

#[test]
fn while_it_stops_gracefully_it_asks_for_more_time() {
    let backend = Backend::listen();
    let config = format!(
        "GracefulShutdownTimeout 0\nProxyPass /ws/ {}/",
        backend.url()
    );
    let (mut proxy, manager) = start(&config, "exec setsid \"$0\" \"$@\"");
    manager.wait_for("READY=1");
    let tunnel = both_ends(&proxy, &backend);
    // The client has its 101 before the tunnel is known.
    proxy.settle();
    proxy.signal(Signal::WINCH);
    let told = manager.wait_for("STOPPING=1");
    let time = |told: &Told| {
        let time = told.value("EXTEND_TIMEOUT_USEC").unwrap().parse().unwrap();
        Duration::from_micros(time)
    };
    let extension = time(&told);
    assert_eq!(told.value("STATUS"), Some("1 tunnel"));
    let begun = Instant::now();
    let told = manager.wait_for(&format!("EXTEND_TIMEOUT_USEC={}", extension.as_micros()));
    assert!(begun.elapsed() < extension, "{told:?} comes in time");
    drop(tunnel);
    proxy.await_exit();
}

#[test]
fn the_watchdog_is_fed_and_also_where_there_is_no_room_for_anybody() {
    let backend = Backend::listen();
    let config = format!("MaxRequestWorkers 1\nProxyPass /ws/ {}/", backend.url());
    let (mut proxy, manager) = start(&config, "export WATCHDOG_USEC=100000 WATCHDOG_PID=$$");
    manager.wait_for("READY=1");
    let begun = Instant::now();
    for _ in 0..5 {
        manager.wait_for("WATCHDOG=1");
    }
    // Twice in the time that it has.
    assert!(begun.elapsed() >= Duration::from_millis(180));
    let tunnel = both_ends(&proxy, &backend);
    // One waits in the queue, one outside, and one in the kernel.
    let waiting = [(); 3].map(|()| Client::sending(&proxy, get("/")));
    proxy.wait_for_log("workers are busy");
    proxy.settle();
    for _ in 0..20 {
        manager.wait_for("WATCHDOG=1");
    }
    drop((tunnel, waiting));
    proxy.stop();
    assert!(proxy.log_lines("PW604").is_empty());
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let (mut proxy, manager) = start("", "export WATCHDOG_USEC=2000 WATCHDOG_PID=1");
    for _ in 0..3 {
        manager.wait_for("READY=1");
        proxy.signal(Signal::HUP);
    }
    manager.wait_for("READY=1");
    proxy.stop();
    let rest = manager.rest();
    assert!(
        rest.contains("STOPPING=1") && !rest.contains("WATCHDOG"),
        "{rest}"
    );
}

/// Holds one thread until its standard input ends.
const HOLD: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
thread = int(sys.argv[1])
if libc.ptrace(SEIZE, thread, None, None) or libc.ptrace(INTERRUPT, thread, None, None):
    print('refused', flush=True)
    sys.exit(1)
os.waitpid(thread, 0x40000000)
print('held', flush=True)
sys.stdin.read()
libc.ptrace(DETACH, thread, None, None)
";

#[test]
fn a_watchdog_is_not_fed_for_an_acceptor_that_hangs() {
    let (mut proxy, manager) = start("", "export WATCHDOG_USEC=200000");
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    let mut thread = None;
    // It takes its name when it first runs.
    wait_until("the acceptor", BOUND, || {
        let mut tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.id())).unwrap();
        thread = tasks.find_map(|task| {
            let task = task.unwrap();
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            (name.trim() == "acceptor").then(|| task.file_name())
        });
        thread.is_some()
    });
    let mut python = Command::new("python3")
        .args(["-c", HOLD])
        .arg(thread.unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = String::new();
    let mut lines = std::io::BufReader::new(python.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut answer).unwrap();
    if answer.trim() != "held" {
        python.wait().unwrap();
        missing("a process that may be traced");
        proxy.stop();
        return;
    }
    proxy.wait_for_log("PW604 the acceptor does not answer");
    // The main thread goes on, and says nothing of the kind.
    proxy.signal(Signal::HUP);
    let mut feedings = 0;
    loop {
        let told = manager.next();
        feedings += usize::from(told.text == "WATCHDOG=1");
        if told.value("READY").is_some() {
            break;
        }
    }
    // Those before it was held, and one for its last answer.
    let before = feedings;
    std::thread::sleep(Duration::from_millis(500));
    manager.socket.set_nonblocking(true).unwrap();
    assert!(
        manager.try_next().is_none(),
        "after {before} it is starving"
    );
    manager.socket.set_nonblocking(false).unwrap();
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
    manager.wait_for("WATCHDOG=1");
    proxy.stop();
}

/// The process goes, its listener stays with the manager, and who comes meanwhile waits for the next one.
#[test]
fn listeners_survive_a_restart_with_the_manager() {
    let pages = Pages::start();
    let config = format!("Listen 127.0.0.1:0\nProxyPass / {}/", pages.url());
    let (mut first, manager) = start(&config, "");
    let told = manager.wait_for("FDSTORE=1");
    assert_eq!(told.value("FDNAME"), Some("held-127.0.0.1-0"));
    let held = told.descriptor.expect("a descriptor comes with it");
    manager.wait_for("READY=1");
    let address = first.address();
    fetch(&mut Client::connect(address), "/before");
    first.stop();
    let mut client = Client::connect(address);
    client.send(get("/meanwhile"));
    let directory = TempDir::new();
    let manager = Manager::below(directory.path());
    let variables = format!(
        "{}; export LISTEN_FDNAMES=held-127.0.0.1-0",
        manager.variables()
    );
    let mut second = Proxy::start_passing(directory, &config, &variables, [held]);
    assert_eq!(second.addresses(), [address]);
    expect_page(&mut client, "/meanwhile");
    // It may be held already; the manager knows that.
    let told = manager.wait_for("FDSTORE=1");
    assert_eq!(told.value("FDNAME"), Some("held-127.0.0.1-0"));
    second.stop();
}

#[test]
fn the_manager_is_told_to_let_go_of_what_is_not_listened_on_any_more() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = port.local_addr().unwrap();
    drop(port);
    let (mut proxy, manager) = start(&format!("Listen 127.0.0.1:0\nListen {other}"), "");
    let name = format!("FDNAME=held-127.0.0.1-{}", other.port());
    manager.wait_for(&name);
    manager.wait_for("READY=1");
    let file = proxy.directory().join("proxy.conf");
    std::fs::write(file, "Listen 127.0.0.1:0\n").unwrap();
    proxy.signal(Signal::USR1);
    let told = manager.wait_for(&name);
    assert_eq!(told.value("FDSTOREREMOVE"), Some("1"));
    proxy.stop();
    // What a configuration has lost while nobody ran is let go of at the next start.
    let held = TcpListener::bind(other).unwrap();
    let directory = TempDir::new();
    let manager = Manager::below(directory.path());
    let variables = format!("{}; export LISTEN_FDNAMES=held-x", manager.variables());
    let mut proxy = Proxy::start_passing(directory, "", &variables, [held.into()]);
    manager.wait_for("FDNAME=held-x");
    proxy.wait_for_log(&format!(
        "PW605 socket \"held-x\" of the service manager is closed: no Listen is for {other}; "
    ));
    proxy.stop();
}

fn listener() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

#[test]
fn sockets_are_taken_by_address_and_by_name_and_the_others_are_bound() {
    let pages = Pages::start();
    let [(first, by_address), (second, by_name)] = [listener(), listener()];
    let config = format!(
        "Listen 127.0.0.2:0\nListen 127.0.0.1:1\nListen {by_address}\nProxyPass / {}/",
        pages.url()
    );
    let variables = "export LISTEN_FDNAMES=web.socket:127.0.0.1-1";
    let directory = TempDir::new();
    let manager = Manager::below(directory.path());
    let variables = format!("{}; {variables}", manager.variables());
    let mut proxy = Proxy::start_passing(directory, config, &variables, [first, second]);
    let [bound, named, placed] = proxy.addresses() else {
        panic!("{:?}", proxy.addresses());
    };
    assert_eq!((*named, *placed), (by_name, by_address));
    assert_eq!(bound.ip().to_string(), "127.0.0.2");
    for address in [*bound, by_name, by_address] {
        fetch(&mut Client::connect(address), "/");
    }
    // The manager has the others anyway.
    let told = manager.wait_for("FDSTORE=1");
    assert_eq!(told.value("FDNAME"), Some("held-127.0.0.2-0"));
    let told = manager.next();
    assert_eq!(told.value("READY"), Some("1"), "{told:?}");
    // Where nobody listens here any more, the manager still does.
    let file = proxy.directory().join("proxy.conf");
    std::fs::write(file, format!("Listen 127.0.0.2:0\nListen {by_address}")).unwrap();
    proxy.signal(Signal::USR1);
    proxy.wait_for_log("PW605 a socket of the service manager is closed here");
    proxy.stop();
}

#[test]
fn a_socket_that_is_not_wanted_is_closed_and_said() {
    let (unwanted, address) = listener();
    let packets = UdpSocket::bind("127.0.0.1:0").unwrap();
    let variables = "export LISTEN_FDNAMES=web:packets";
    let sockets = [unwanted, packets.into()];
    let mut proxy = Proxy::start_passing(TempDir::new(), "", variables, sockets);
    proxy.wait_for_log("PW605 socket \"packets\" of the service manager is closed: it is no socket for Listen: it is not a stream socket; ");
    proxy.wait_for_log(&format!(
        "PW605 socket \"web\" of the service manager is closed: no Listen is for {address}; "
    ));
    wait_until("the socket to be closed", BOUND, || {
        TcpStream::connect(address).is_err()
    });
    proxy.stop();
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let (socket, address) = listener();
    let config = "Listen 127.0.0.1:0";
    let variables = "export LISTEN_PID=1";
    let mut proxy = Proxy::start_passing(TempDir::new(), config, variables, [socket]);
    assert_ne!(proxy.address(), address);
    assert!(proxy.log_lines("PW605").is_empty());
    proxy.stop();
}
