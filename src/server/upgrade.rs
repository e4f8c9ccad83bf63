//! The upgrade of the binary: another process, of what is installed by now, gets the listeners, and this one serves the
//! connections and tunnels that it has. If the other one does not come up, nothing has happened.

use super::activation::name_of;
use super::notify::HELD;
use super::signals::Request;
use super::{Server, asked};
use crate::config::Fate;
use crate::error_log;
use crate::ids::Id;
use crate::log_writer::LogWriter;
use crate::net::listen::Listener;
use crate::net::local::LocalListener;
use crate::pid_file::PidFile;
use log::{error, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::env::{args_os, current_exe};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, PipeReader, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long the other process has until it serves: names may have to be looked up, and keys to be typed in nowhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end when it has closed what it would say so in.
const ENDING: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// How long the process before this one may take to tell the manager.
const HAND_OVER: Duration = Duration::from_secs(2);
/// What the other process is told in: who tells it, where it says that it serves, and the numbers and names of listeners.
const VARIABLE: &str = "PROXY_WSTUNNEL_UPGRADE";
/// Variables that are for this process alone.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How this process was started, and another one will be.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it was then: what is installed there since is another file.
    place: io::Result<PathBuf>,
    arguments: Vec<OsString>,
}

impl Program {
    pub(super) fn running() -> Self {
        Self {
            place: current_exe()
                .map(|file| called().filter(|it| leads_to(it, &file)).unwrap_or(file)),
            arguments: args_os().skip(1).collect(),
        }
    }
}

/// The path that the program was called by. Where that is a link, what is installed later may be another link of its name.
fn called() -> Option<PathBuf> {
    let name = PathBuf::from(args_os().next()?);
    // Without a folder the shell has looked for it, in places that only the shell knows.
    let has_folder = name.parent().is_some_and(|it| !it.as_os_str().is_empty());
    std::path::absolute(name).ok().filter(|_| has_folder)
}

/// The first word of a command line may be anything.
fn leads_to(path: &Path, file: &Path) -> bool {
    path.canonicalize().is_ok_and(|it| it == *file)
}

/// The process that is to take over.
#[derive(Debug)]
pub(super) struct Successor {
    process: Child,
    /// It says so here when it serves, and is gone if it ends.
    word: PipeReader,
    until: Instant,
    /// Somebody has asked for a reload since it was started: it may have read the configuration before.
    is_overtaken: bool,
}

/// What has become of it.
enum News {
    Serves,
    Failed(String),
}

impl Successor {
    /// When it is given up.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// What becomes readable when there are news.
    pub(super) fn word(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }

    fn news(&mut self) -> Option<News> {
        let is_readable = {
            let mut word = [PollFd::new(&self.word, PollFlags::IN)];
            poll(&mut word, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        if is_readable {
            let said = loop {
                match self.word.read(&mut [0]) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    outcome => break outcome,
                }
            };
            if matches!(said, Ok(1)) {
                return Some(News::Serves);
            }
            let how = match self.end() {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            return Some(News::Failed(format!(
                "it ended: {how}; its error log or standard error output says why"
            )));
        }
        (self.until <= Instant::now()).then(|| {
            let _ = self.kill();
            News::Failed(format!("it did not serve within {PATIENCE:?}"))
        })
    }

    /// Waits for its end: it has closed what it would speak in, as happens when all its descriptors go. What lives on all
    /// the same, such as a program of another kind, could never say that it serves.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Where there is no such handle, it has ended by now or is not waited for.
        if let Ok(process) = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty()) {
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&ENDING));
        }
        if let Some(status) = self.process.try_wait()? {
            return Ok(status);
        }
        self.kill()
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
        // It may have ended this moment.
        let _ = self.process.kill();
        self.process.wait()
    }

    fn signal(&self, signal: Signal) {
        // It is our child, and nobody has waited for it: its number is its own.
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}

impl Server {
    /// Starts the other process. What becomes of it is [told](Self::news_of_upgrade) later.
    pub(super) fn upgrade(&mut self) {
        let id = Id::NotUpgraded;
        if let Some(successor) = &self.successor {
            let pid = successor.process.id();
            warn!(
                "{id} process {pid} is about to take over already; {}",
                id.remedy()
            );
            return;
        }
        match self.start_successor() {
            Ok(successor) => {
                let pid = successor.process.id();
                error_log::notice(&format!("upgrading: process {pid} is to take over"));
                self.successor = Some(successor);
            }
            Err(why) => error!(
                "{id} not upgraded: {why}; this process goes on; {}",
                id.remedy()
            ),
        }
    }

    fn start_successor(&self) -> Result<Successor, String> {
        let path = match &self.program.place {
            Ok(path) => path,
            Err(error) => return Err(format!("nobody knows where the program is: {error}")),
        };
        let (word, say) = io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        let passed = self.pass(say.as_fd());
        let (_passed, told) = passed.map_err(|error| format!("no descriptor: {error}"))?;
        let mut command = Command::new(path);
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let process = command
            .args(&self.program.arguments)
            .env(VARIABLE, told)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Successor {
            process,
            word,
            until: Instant::now() + PATIENCE,
            is_overtaken: false,
        })
    }

    /// Copies of what the other process gets, which stay open in it, and what it is told of them.
    fn pass(&self, say: BorrowedFd<'_>) -> io::Result<(Vec<OwnedFd>, String)> {
        let generation = self.shared.in_force.get();
        let say = rustix::io::dup(say)?;
        let mut told = format!("{}:{}", std::process::id(), say.as_raw_fd());
        let mut passed = vec![say];
        let mut pass = |socket: BorrowedFd<'_>, is_ours: bool, name: &str| {
            let copy = rustix::io::dup(socket)?;
            let (number, held) = (copy.as_raw_fd(), if is_ours { HELD } else { "" });
            // Writing to a string does not fail.
            let _ = write!(told, ":{number}={held}{name}");
            passed.push(copy);
            io::Result::Ok(())
        };
        let doors = self.control.doors();
        let config = &generation.config;
        for listener in self.listeners.iter().chain(doors.status()) {
            let mut listens = config.listen.iter().chain(&config.control.status);
            if let Some(listen) = listens.find(|listen| asked(listen) == listener.asked()) {
                let is_ours = !self.is_activated(listener);
                pass(listener.as_fd(), is_ours, &name_of(listen))?;
            }
        }
        for socket in doors.sockets() {
            pass(socket.as_fd(), !socket.is_left(), "control")?;
        }
        Ok((passed, told))
    }

    fn is_activated(&self, listener: &Arc<Listener>) -> bool {
        let is_it = |it: &Weak<Listener>| it.as_ptr() == Arc::as_ptr(listener);
        self.activated.iter().any(is_it)
    }

    /// What is to be done now that the other process serves, or has failed: that is told, and this one goes on.
    pub(super) fn news_of_upgrade(&mut self) -> Option<Request> {
        let successor = self.successor.as_mut()?;
        let why = match successor.news()? {
            News::Serves => return Some(Request::GiveWay),
            News::Failed(why) => why,
        };
        let waits = successor.is_overtaken.then_some(Request::Reload);
        self.successor = None;
        let id = Id::NotUpgraded;
        error!(
            "{id} not upgraded: {why}; this process goes on; {}",
            id.remedy()
        );
        waits
    }

    /// Whether a reload has to wait: two processes that both open what a configuration wants would be in each other's way.
    /// The one that goes on then does it.
    pub(super) fn defers_reload(&mut self, logs: &LogWriter) -> bool {
        let Some(successor) = &mut self.successor else {
            return false;
        };
        successor.is_overtaken = true;
        let pid = successor.process.id();
        logs.reopen();
        error_log::notice(&format!(
            "logs reopened; the reload waits for process {pid}, which is about to take over"
        ));
        true
    }

    /// The server is to end, so nobody takes over. One that serves already is asked as this one was.
    pub(super) fn call_off_upgrade(&mut self, asked: Signal) {
        let Some(mut successor) = self.successor.take() else {
            return;
        };
        let pid = successor.process.id();
        if matches!(successor.news(), Some(News::Serves)) {
            error_log::notice(&format!(
                "process {pid} has taken over, and is to end as well"
            ));
            successor.signal(asked);
        } else {
            let _ = successor.kill();
            error_log::notice(&format!(
                "not upgraded: process {pid} was ended before it served"
            ));
        }
    }

    /// Takes over from the process before this one, now that this one serves.
    pub(super) fn succeed(&mut self, predecessor: Predecessor) {
        let path = self.shared.in_force.get().config.pid_file.clone();
        if let Some(path) = path {
            match PidFile::take_over(&path) {
                Ok(file) => self.pid_file = Some(file),
                Err(error) => {
                    let id = Id::NoPidFile;
                    error!("{id} PidFile {}: {error}; {}", path.display(), id.remedy());
                }
            }
        }
        predecessor.we_serve();
    }

    /// Leaves everything but what goes on here to the other process.
    pub(super) fn give_way(&mut self, logs: &LogWriter) {
        let Some(successor) = self.successor.take() else {
            return;
        };
        let pid = successor.process.id();
        self.manager.hand_over(pid);
        self.control.leave();
        self.health.retire();
        let limit = match self.shared.in_force.get().config.on_upgrade {
            Fate::Keep => None,
            Fate::End(limit) => Some(limit),
        };
        error_log::notice(&format!("upgraded: process {pid} has taken over"));
        if successor.is_overtaken {
            successor.signal(Signal::HUP);
        }
        // By which it knows that the manager listens to it.
        drop(successor);
        self.drain(limit, "ProxyWebsocketOnUpgrade", logs);
    }
}

/// The process before this one, which waits for a word.
#[derive(Debug)]
pub(super) struct Predecessor {
    say: OwnedFd,
    /// Its sockets, until this one serves: if that comes to nothing, it goes on with them.
    lent: Vec<Arc<LocalListener>>,
}

/// What the process before this one says of what it passes on: where it waits, then listeners and their names.
pub(super) fn told() -> Option<(RawFd, Vec<(RawFd, String)>)> {
    let told = std::env::var(VARIABLE).ok()?;
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    parse(&told, parent.get())
}

fn parse(told: &str, parent: i32) -> Option<(RawFd, Vec<(RawFd, String)>)> {
    let mut words = told.split(':');
    // It may have come down to a child of a child.
    let is_for_us = words.next()?.parse() == Ok(parent);
    let say = words.next().filter(|_| is_for_us)?.parse().ok()?;
    let listener = |word: &str| {
        let (number, name) = word.split_once('=')?;
        Some((number.parse().ok()?, name.to_owned()))
    };
    Some((say, words.filter_map(listener).collect()))
}

impl Predecessor {
    pub(super) fn new(say: OwnedFd) -> Self {
        let lent = Vec::new();
        Self { say, lent }
    }

    /// Leaves it the files of those that are not the manager's.
    pub(super) fn lends(&mut self, sockets: &[Arc<LocalListener>]) {
        let ours = sockets.iter().filter(|it| !it.is_left());
        self.lent = ours.cloned().collect();
        for socket in &self.lent {
            socket.leave();
        }
    }

    /// Tells it that this process serves, and returns when it has told the manager so: before, that may not listen to this one.
    pub(super) fn we_serve(self) {
        for socket in &self.lent {
            socket.keep();
        }
        let mut word = io::PipeWriter::from(self.say);
        if let Err(error) = word.write_all(b"1") {
            warn!("the process before this one is gone: {error}");
            return;
        }
        // Then it closes its end, which is an error of ours: poll(2).
        let limit = Timespec::try_from(HAND_OVER).ok();
        let _ = poll(
            &mut [PollFd::new(&word, PollFlags::empty())],
            limit.as_ref(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_child_takes_what_it_is_told() {
        let listeners = vec![(8, "held-80".to_owned()), (9, "[--1]-81".to_owned())];
        let told = "17:7:8=held-80:9=[--1]-81";
        assert_eq!(parse(told, 17), Some((7, listeners)));
        assert_eq!(parse(told, 18), None);
        assert_eq!(parse("17:7", 17), Some((7, vec![])));
        for wrong in ["", "17", "17:", "17:x", ":::"] {
            assert_eq!(parse(wrong, 17), None);
        }
    }
}
