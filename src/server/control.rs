//! Where the server is asked about itself: the control socket, and the listeners that only tell its status. One thread of
//! its own serves them, never the pool and no reactor, so that they answer when every worker is taken.
//!
//! What is asked through a Unix socket by root, or by the server's own user, may change something; everybody else only
//! looks. Everything is bounded: visits, the bytes of a head, the time that each may take, and how many renderings there
//! are for slow readers. Who has been there longest makes room for the next, but a reader that goes on has its time.

mod members;
mod service;
mod thread;
mod visit;

use super::{Shared, bind};
use crate::config;
use crate::error_log;
use crate::ids::Id;
use crate::net::listen::Listener;
use crate::net::local::{LocalError, LocalListener};
use log::{info, warn};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use thread::{Orders, Thread};

/// Connections that the kernel keeps waiting for each of its listeners: more than are served at a time.
const BACKLOG: i32 = 128;

/// The running thread, and what it listens at.
#[derive(Debug)]
pub(super) struct Control {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    doors: Doors,
}

impl Control {
    /// Starts to answer at `doors`.
    pub(super) fn start(doors: Doors, shared: &Arc<Shared>) -> io::Result<Self> {
        let (orders, thread) = Thread::start(doors.all(), shared)?;
        for door in doors.all() {
            error_log::notice(&door.to_string());
        }
        Ok(Self {
            orders,
            thread,
            doors,
        })
    }

    /// What it listens at.
    pub(super) fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Leaves what it listens at to another process, which has it as well.
    pub(super) fn leave(&mut self) {
        for socket in &self.doors.sockets {
            socket.leave();
        }
        self.replace(Doors::default());
    }

    /// Answers at `doors` from now on. Those that stay miss no connection.
    pub(super) fn replace(&mut self, doors: Doors) {
        if doors.mode != self.doors.mode {
            for socket in &doors.sockets {
                if let Err(error) = socket.set_mode(doors.mode) {
                    let (id, path) = (Id::NoControlSocket, socket.path().display());
                    warn!("{id} control socket at {path}: its mode stays as it is: {error}");
                }
            }
        }
        let known: Vec<String> = self.doors.all().iter().map(Door::to_string).collect();
        for new in doors.all().iter().map(Door::to_string) {
            if !known.contains(&new) {
                error_log::notice(&new);
            }
        }
        self.orders.replace(doors.all());
        self.doors = doors;
    }

    /// From now on probes learn that nobody should be sent here any more.
    pub(super) fn set_stopping(&self) {
        self.orders.set_stopping();
    }

    /// Closes its listeners and removes their files.
    pub(super) fn stop(self) {
        self.orders.stop();
        let _ = self.thread.join();
    }
}

/// Listeners for those who ask about the server.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// `Listen unix:`
    sockets: Vec<Arc<LocalListener>>,
    /// `ControlSocketMode`
    mode: u32,
    /// `Listen ... status`
    status: Vec<Arc<Listener>>,
}

/// One of them.
#[derive(Debug, Clone)]
enum Door {
    Control(Arc<LocalListener>),
    Status(Arc<Listener>),
}

impl Doors {
    /// Opens what `wanted` names. What is `open` already stays so, and is shared until one of both goes.
    ///
    /// `going`: listeners that are soon to be closed, and do not keep those on the same port from opening.
    pub(super) fn open(
        wanted: &config::Control,
        open: &Self,
        going: &[Arc<Listener>],
    ) -> Result<Self, String> {
        let mut sockets = Vec::new();
        for socket in &wanted.sockets {
            let path = &*socket.path;
            let mut open = open.sockets.iter();
            if let Some(open) = open.find(|it| it.path() == path && it.is_in_place()) {
                sockets.push(Arc::clone(open));
                continue;
            }
            match (
                LocalListener::bind(path, wanted.mode, BACKLOG),
                &socket.origin,
            ) {
                (Ok(listener), _) => sockets.push(Arc::new(listener)),
                (Err(error), Some(origin)) => return Err(explained(path, &error, origin)),
                (Err(error), None) => do_without(path, &error),
            }
        }
        Ok(Self {
            sockets,
            mode: wanted.mode,
            status: bind(&wanted.status, BACKLOG, &open.status, going)?,
        })
    }

    /// One that came with the process.
    pub(super) fn add_socket(&mut self, listener: LocalListener) {
        self.sockets.push(Arc::new(listener));
    }

    /// One that came with the process, and only tells the status.
    pub(super) fn add_status(&mut self, listener: Arc<Listener>) {
        self.status.push(listener);
    }

    /// Through which the server takes orders.
    pub(super) fn sockets(&self) -> &[Arc<LocalListener>] {
        &self.sockets
    }

    /// What only tells the status.
    pub(super) fn status(&self) -> &[Arc<Listener>] {
        &self.status
    }

    fn all(&self) -> Vec<Door> {
        let sockets = self.sockets.iter().cloned().map(Door::Control);
        sockets
            .chain(self.status.iter().cloned().map(Door::Status))
            .collect()
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Control(listener) => listener.as_fd(),
            Self::Status(listener) => listener.as_fd(),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(listener) => write!(f, "control socket at {}", listener.path().display()),
            Self::Status(listener) => write!(f, "status at {}", listener.address()),
        }
    }
}

/// Why a socket that the configuration names cannot be made, and what to do about it.
fn explained(path: &Path, error: &LocalError, origin: &config::Origin) -> String {
    let hint = match error {
        LocalError::Failed(error) => match error.kind() {
            io::ErrorKind::NotFound => "; its folder has to be there",
            io::ErrorKind::PermissionDenied => {
                "; its folder has to be one that this program's user may write to"
            }
            _ => "",
        },
        LocalError::Taken => "; is the server running already?",
        LocalError::NoSocket => "",
    };
    let path = path.display();
    format!("{origin}: Listen: cannot make the control socket {path}: {error}{hint}")
}

/// Nobody has asked for the default socket, so it is no failure that there is none.
fn do_without(path: &Path, error: &LocalError) {
    let (id, path) = (Id::NoControlSocket, path.display());
    let remedy = id.remedy();
    match error {
        // Who did not install the program has no such folder.
        LocalError::Failed(error) if error.kind() == io::ErrorKind::NotFound => {
            info!("no control socket: there is no folder for {path}; {remedy}");
        }
        _ => warn!("{id} no control socket at {path}: {error}; {remedy}"),
    }
}
