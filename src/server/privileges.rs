//! Who the process is: it opens what takes root, and then becomes somebody else for good. httpd: `User`, `Group`.

use super::tls::Workshop;
use crate::config::{self, Account, Config, Sources};
use crate::config_files::Machine;
use crate::ids::Id;
use crate::logging::Target;
use crate::net::local::LocalListener;
use crate::sys;
use log::{info, warn};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, no_new_privs, set_capabilities, set_keep_capabilities,
    set_no_new_privs,
};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::sync::Arc;

/// Where ports begin that everybody may listen on, unless the system says otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// No program that this one starts gets more rights than it has. To be called before there is a second thread.
pub(super) fn forbid_new() {
    // Since Linux 3.5 it cannot fail; who changes the user looks at it again.
    let _ = set_no_new_privs(true);
}

/// What becomes of the process.
#[derive(Debug)]
pub(super) enum Plan {
    /// It stays who it is.
    Stay,
    /// So it does, although this line wants it to be another.
    StayUnlike(String),
    /// It becomes this user.
    Become(Identity),
}

/// A user and its groups.
#[derive(Debug)]
pub(super) struct Identity {
    /// None: the system knows the number only.
    name: Option<CString>,
    user: u32,
    group: u32,
    /// How the configuration calls it.
    called: String,
}

impl Plan {
    /// What `config` wants, for the user that the process has now.
    ///
    /// # Errors
    /// There is no such user or group. Or it is root, and nobody has said that it is meant to be.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let is_root = geteuid().is_root();
        let Some((user, origin)) = &config.user else {
            if is_root {
                return Err(
                    "started as root, and no User says who it is to become: write \"User NAME\", or \"User root\" if it is \
                     meant to serve as root"
                        .to_owned(),
                );
            }
            return Ok(Self::Stay);
        };
        let found = match user {
            Account::Name(name) => {
                let unknown = || format!("{origin}: User: there is no user \"{name}\"");
                let found = CString::new(name.as_str()).map_err(|_| unknown())?;
                let found = sys::user_named(&found).map_err(|e| format!("{}: {e}", unknown()))?;
                Some(found.ok_or_else(unknown)?)
            }
            Account::Number(number) => sys::user_numbered(*number)
                .map_err(|e| format!("{origin}: User: cannot look up {user}: {e}"))?,
        };
        let number = match (user, &found) {
            (_, Some(found)) => found.number,
            (Account::Number(number), None) => *number,
            (Account::Name(_), None) => return Ok(Self::Stay),
        };
        let group = match &config.group {
            Some((group, origin)) => {
                number_of(group).map_err(|e| format!("{origin}: Group: {e}"))?
            }
            None => match &found {
                Some(found) => found.group,
                None => {
                    return Err(format!(
                        "{origin}: User: {user} has no name, and so no group; write a Group as well"
                    ));
                }
            },
        };
        if !is_root {
            let is_it = (number, group) == (geteuid().as_raw(), getegid().as_raw());
            let line = format!("{origin}: User: {user}");
            return Ok(if is_it {
                Self::Stay
            } else {
                Self::StayUnlike(line)
            });
        }
        if number == 0 {
            return match &config.group {
                Some((named, origin)) if group != getegid().as_raw() => Err(format!(
                    "{origin}: Group: {named} is not obeyed for a User that is root; remove the line, or name another User"
                )),
                _ => Ok(Self::Stay),
            };
        }
        Ok(Self::Become(Identity {
            name: found.map(|found| found.name),
            user: number,
            group,
            called: user.to_string(),
        }))
    }

    /// Makes the logs that are not there yet, so that they are that user's: later it has to open them itself.
    pub(super) fn make_logs(&self, config: &Config) {
        let Self::Become(identity) = self else {
            return;
        };
        for path in logs(config) {
            // A name that is taken is nobody's business here, nor is what else fails: it is opened soon, and told then.
            let mut options = OpenOptions::new();
            if let Ok(file) = options.append(true).create_new(true).open(path) {
                let _ = fchown(&file, Some(identity.user), Some(identity.group));
            }
        }
    }

    /// Gives that user the control sockets, which it is to change and to remove later.
    pub(super) fn give(&self, sockets: &[Arc<LocalListener>]) {
        let Self::Become(identity) = self else {
            return;
        };
        // Those of the manager stay its.
        for socket in sockets.iter().filter(|it| !it.is_left()) {
            if let Err(error) = socket.give_to(identity.user, identity.group) {
                let (id, path) = (Id::OutOfReach, socket.path().display());
                warn!("{id} control socket {path}: it stays root's: {error}");
            }
        }
    }

    /// Becomes who it is to be, in all threads and for good. All that takes root has to be open by now, and all threads but
    /// that of the logs begin after it.
    ///
    /// # Errors
    /// What the system forbids; or the way back was still open.
    pub(super) fn carry_out(&self, config: &Config) -> Result<(), String> {
        match self {
            Self::Stay => {
                if geteuid().is_root() {
                    info!("it serves as root, as User says");
                }
                Ok(())
            }
            Self::StayUnlike(line) => {
                let id = Id::NotRoot;
                info!(
                    "{id} {line}: only root becomes another user; {}",
                    id.remedy()
                );
                Ok(())
            }
            Self::Become(identity) => identity
                .assume(config)
                .map_err(|why| format!("cannot become User {}: {why}", identity.called)),
        }
    }

    /// Whether it becomes another user.
    pub(super) fn is_change(&self) -> bool {
        matches!(self, Self::Become(_))
    }
}

fn number_of(group: &Account) -> Result<u32, String> {
    match group {
        Account::Number(number) => Ok(*number),
        Account::Name(name) => {
            let unknown = || format!("there is no group \"{name}\"");
            let found = CString::new(name.as_str()).map_err(|_| unknown())?;
            let found = sys::group_named(&found).map_err(|e| format!("{}: {e}", unknown()))?;
            found.ok_or_else(unknown)
        }
    }
}

impl Identity {
    fn assume(&self, config: &Config) -> Result<(), String> {
        let step =
            |what: &'static str| move |error: &dyn std::fmt::Display| format!("{what}: {error}");
        let kept = if needs_low_port(config) {
            CapabilitySet::NET_BIND_SERVICE
        } else {
            CapabilitySet::empty()
        };
        set_keep_capabilities(true).map_err(|e| step("capabilities")(&e))?;
        sys::set_groups(self.name.as_deref(), self.group).map_err(|e| step("groups")(&e))?;
        sys::set_group(self.group).map_err(|e| step("group")(&e))?;
        sys::set_user(self.user).map_err(|e| step("user")(&e))?;
        // What the process was not given it cannot keep, such as in a container.
        let had = capabilities(None).map_err(|e| step("capabilities")(&e))?;
        let kept = kept & had.permitted;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: kept,
        };
        set_capabilities(None, sets).map_err(|e| step("capabilities")(&e))?;
        set_keep_capabilities(false).map_err(|e| step("capabilities")(&e))?;
        clear_ambient_capability_set().map_err(|e| step("capabilities")(&e))?;
        if !kept.is_empty() {
            // So that another binary of this program, which takes our place, has it, too.
            configure_capability_in_ambient_set(kept, true)
                .map_err(|e| step("capabilities")(&e))?;
        }
        if !no_new_privs().is_ok_and(|it| it) {
            return Err("no-new-privileges is not in force".to_owned());
        }
        if sys::set_user(0).is_ok() || sys::set_group(0).is_ok() && self.group != 0 {
            return Err("there is still a way back".to_owned());
        }
        Ok(())
    }
}

/// Whether it listens where not everybody may.
fn needs_low_port(config: &Config) -> bool {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    let first = first.unwrap_or(FIRST_FREE_PORT);
    let mut ports = config.listen.iter().map(|listen| listen.port);
    ports.any(|port| port != 0 && port < first)
}

/// The log files that the configuration names.
fn logs(config: &Config) -> impl Iterator<Item = &Path> {
    let own = config.hosts().filter_map(|host| host.error_log.as_ref());
    let errors = std::iter::once(&config.error_log).chain(own);
    let access = config.hosts().flat_map(|host| &host.access_logs);
    let targets = errors
        .map(|log| &log.target)
        .chain(access.map(|log| &log.target));
    targets.filter_map(|target| match target {
        Target::File(path) => Some(path.as_path()),
        Target::Stderr | Target::Stdout | Target::Syslog { .. } => None,
    })
}

const READABLE: &str = "let its user read the file, such as by its group: chgrp, chmod g+r";

/// What a reload could not read or open, with what to do where a start as root has had the right to.
pub(super) fn explained(problem: String, in_force: &Config) -> String {
    // As the standard library says it, through whatever hands that has gone.
    let is_denied = problem.contains("ermission denied");
    match &in_force.user {
        Some((user, _)) if is_denied && !geteuid().is_root() => {
            format!("{problem}; the process is User {user} since its start: {READABLE}")
        }
        _ => problem,
    }
}

/// What the process could not open again as the user that it is now: one line for each thing, with what to do.
pub(super) fn out_of_reach(config: &Config, sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let reload = |what: &str| format!("a reload would fail at {what}");
    let remedy = READABLE;
    match config::load(sources, &Machine) {
        Err(errors) => found.extend(
            errors
                .iter()
                .map(|error| reload(&format!("{error}; {remedy}"))),
        ),
        Ok(_) => {
            let mut workshop = Workshop::default();
            for host in config.hosts() {
                let problems = [workshop.tls_host(host).err(), workshop.of(host).err()];
                let problems = problems.into_iter().flatten();
                found.extend(problems.map(|problem| reload(&format!("{problem}; {remedy}"))));
            }
        }
    }
    for path in logs(config) {
        if let Err(error) = may_write(path) {
            found.push(reload(&format!(
                "{}: {error}; give the log, and the folder that it is rotated in, to its user",
                path.display()
            )));
        }
    }
    let pid_file = config.pid_file.iter();
    let pid_file = pid_file.map(|path| ("PidFile", path.as_path()));
    let sockets = config.control.sockets.iter();
    let sockets = sockets.map(|socket| ("control socket", &*socket.path));
    for (what, path) in pid_file.chain(sockets) {
        // The default socket is done without where its folder is not there.
        if let Err(error) = may(folder_of(path), Access::WRITE_OK | Access::EXEC_OK)
            && error.kind() != io::ErrorKind::NotFound
        {
            found.push(format!(
                "{what} {}: its user can neither remove it nor make another: {error}; put it into a folder of its user",
                path.display()
            ));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Says at start what is [out of reach](out_of_reach).
pub(super) fn say_out_of_reach(config: &Config, sources: &Sources) {
    let id = Id::OutOfReach;
    for problem in out_of_reach(config, sources) {
        warn!("{id} {problem}");
    }
}

/// Whether a file can be opened for writing, or made.
fn may_write(path: &Path) -> io::Result<()> {
    match may(path, Access::WRITE_OK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            may(folder_of(path), Access::WRITE_OK | Access::EXEC_OK)
        }
        outcome => outcome,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// By the effective user, which is also what opening goes by.
fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}
