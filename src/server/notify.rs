//! What the service manager is told: the protocol of sd_notify(3), spoken here. Where there is none, nothing is said.

use crate::ids::Id;
use crate::net::listen::Listener;
use log::{debug, warn};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a manager that does not read is waited for, each time.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether there is something new to tell.
const LOOK: Duration = Duration::from_secs(2);
/// How much time is asked for while the server stops, and how often.
const EXTENSION: Duration = Duration::from_secs(20);
const EXTEND: Duration = Duration::from_secs(5);
/// What stands before the names of listeners that the manager holds for us.
pub(super) const HELD: &str = "held-";

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
    /// What it was told last, and when that is looked at again.
    status: String,
    look_at: Option<Instant>,
    /// When a longer time to stop is asked for again.
    extend_at: Option<Instant>,
    /// The listeners that it holds for us, and by which names.
    held: Vec<(String, Weak<Listener>)>,
    is_lost: bool,
}

/// It wants to hear from us in time, or else takes us for dead.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    at: Instant,
    is_starving: bool,
}

impl Manager {
    /// The one that the environment names: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Its variables are for this
    /// process alone, so whoever starts another one takes them away, or gives it its own.
    pub(super) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = match connect(&name) {
            Ok(socket) => socket,
            Err(error) => {
                let id = Id::Unmanaged;
                warn!("{id} NOTIFY_SOCKET {name:?}: {error}; {}", id.remedy());
                return Self::default();
            }
        };
        let now = Instant::now();
        let own = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let limit = variable("WATCHDOG_USEC").filter(|_| is_ours);
        let limit = limit.and_then(|limit| limit.parse().ok());
        let limit = limit.filter(|limit| *limit > 1).map(Duration::from_micros);
        Self {
            socket: Some(socket),
            watchdog: limit.map(|limit| Watchdog {
                interval: limit / 2,
                at: now,
                is_starving: false,
            }),
            look_at: Some(now + LOOK),
            ..Self::default()
        }
    }

    /// When there may be something to tell.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.at);
        let times = [self.look_at, self.extend_at, watchdog];
        times.into_iter().flatten().min()
    }

    /// To be called then: tells what is new. `is_alive`: whether all live without whom nobody is served.
    pub(super) fn beat(&mut self, is_alive: impl FnOnce() -> bool, status: String) {
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_over(self.watchdog.as_ref().map(|watchdog| watchdog.at)) {
            self.feed(is_alive(), now);
        }
        if is_over(self.look_at) {
            self.look_at = Some(now + LOOK);
            if status != self.status {
                self.tell(&format!("STATUS={}", one_line(&status)));
                self.status = status;
            }
        }
        if is_over(self.extend_at) {
            self.extend_at = Some(now + EXTEND);
            self.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
    }

    fn feed(&mut self, is_alive: bool, now: Instant) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        watchdog.at = now + watchdog.interval;
        let was_starving = std::mem::replace(&mut watchdog.is_starving, !is_alive);
        if is_alive {
            self.tell("WATCHDOG=1");
        } else if !was_starving {
            let id = Id::Hung;
            warn!(
                "{id} the acceptor does not answer, so the watchdog is not told that all is well; {}",
                id.remedy()
            );
        }
    }

    /// Whoever comes is served.
    pub(super) fn ready(&mut self, status: String) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(&status)));
        self.status = status;
    }

    /// The configuration is read anew; [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading"
        ));
        "reloading".clone_into(&mut self.status);
    }

    /// It is going to end, and may take longer than the manager waits: more time is asked for as long as this beats.
    pub(super) fn stopping(&mut self, status: String) {
        self.tell(&format!(
            "STOPPING=1\nSTATUS={}\nEXTEND_TIMEOUT_USEC={}",
            one_line(&status),
            EXTENSION.as_micros()
        ));
        self.status = status;
        self.extend_at = self.socket.is_some().then(|| Instant::now() + EXTEND);
    }

    /// Has the manager hold the listeners that are ours alone, so that nobody is refused while another process takes our
    /// place; and let go of those that are none any more. `name`: by which each will come back; none for those that the
    /// manager has opened, and holds anyway.
    pub(super) fn hold(
        &mut self,
        listeners: &[Arc<Listener>],
        name: impl Fn(&Arc<Listener>) -> Option<String>,
    ) {
        if self.socket.is_none() {
            return;
        }
        let mut gone = Vec::new();
        self.held.retain(|(name, held)| {
            let stays = listeners
                .iter()
                .any(|it| std::ptr::eq(Arc::as_ptr(it), held.as_ptr()));
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        for name in gone {
            self.let_go(&name);
        }
        for listener in listeners {
            let is_held = |(_, held): &(String, Weak<Listener>)| {
                std::ptr::eq(Arc::as_ptr(listener), held.as_ptr())
            };
            if self.held.iter().any(is_held) {
                continue;
            }
            if let Some(name) = name(listener) {
                self.tell_with(&format!("FDSTORE=1\nFDNAME={name}"), Some(listener));
                self.held.push((name, Arc::downgrade(listener)));
            }
        }
    }

    /// Has the manager close what it holds by this name: connections would wait there for ever.
    pub(super) fn let_go(&mut self, name: &str) {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn tell(&mut self, text: &str) {
        self.tell_with(text, None);
    }

    fn tell_with(&mut self, text: &str, listener: Option<&Arc<Listener>>) {
        let Some(socket) = &self.socket else { return };
        debug!("to the service manager: {text:?}");
        let outcome = send(socket, text, listener);
        match outcome {
            Ok(()) => self.is_lost = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    let id = Id::Unmanaged;
                    warn!(
                        "{id} the service manager cannot be told {text:?}: {error}; {}",
                        id.remedy()
                    );
                }
            }
        }
    }
}

/// It stays connected: who the server becomes may have no right to find the socket.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(io::Error::other("expected a path, or @ and a name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What stands in a line must not become one.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn send(socket: &UnixDatagram, text: &str, listener: Option<&Arc<Listener>>) -> io::Result<()> {
    let descriptors = listener.map(|listener| [listener.as_fd()]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        socket,
        &[IoSlice::new(text.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
