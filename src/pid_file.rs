//! The PidFile: who runs, known by a lock and not by a number that may be long another's.
//!
//! The lock is that of fcntl(2): it ends with its process, however that ends, no child has a part in it, and the kernel
//! says whose it is. So a file that is left behind is nobody's, and no signal goes to a process that has got its number
//! since. httpd: `PidFile`, which trusts the number.

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk};
use rustix::process::{kill_process, pidfd_open, pidfd_send_signal};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often others may get in between while a file is taken.
const ATTEMPTS: usize = 100;

/// The PidFile of this process, for as long as this lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    // Locked. Closing it, or any other descriptor of the file, gives the lock back.
    file: File,
}

/// Why a PidFile cannot be had.
#[derive(Debug)]
pub enum Refused {
    /// Another process runs. Its number is not known here if it lives in another namespace.
    Running(Option<Pid>),
    /// The file system does not take part.
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(Some(pid)) => write!(
                f,
                "process {} is running with it; stop that, or give this one a PidFile of its own",
                pid.as_raw_nonzero()
            ),
            Self::Running(None) => f.write_str(
                "a process of another namespace is running with it; stop that, or give this one a PidFile of its own",
            ),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl PidFile {
    /// Takes the file for this process: whoever reads it finds all of a number that lives. What a dead process has left is
    /// replaced.
    ///
    /// # Errors
    /// Another process runs with it; or the file cannot be made, is a symbolic link, or is no ordinary file.
    pub fn take(path: &Path) -> Result<Self, Refused> {
        let fresh = Fresh::beside(path)?;
        for _ in 0..ATTEMPTS {
            let old = match open_as(path, OFlags::RDWR) {
                Ok(old) => old,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Fails if there is one by now.
                    match fs::hard_link(&fresh.name.0, path) {
                        Ok(()) => return Ok(fresh.into_pid_file(path)),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            };
            match fcntl_lock(&old, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => match holder_of(&old)? {
                    Some(holder) => return Err(Refused::Running(holder)),
                    // It has ended this moment.
                    None => continue,
                },
                Err(error) => return Err(error.into()),
            }
            // Who came first may have put another one in its place before this one was locked.
            if is_same(&old, path)? {
                fs::rename(&fresh.name.0, path)?;
                return Ok(fresh.into_pid_file(path));
            }
        }
        Err(Refused::Failed(io::Error::other(
            "other processes keep replacing it",
        )))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless another process has put its own in its place.
    ///
    /// # Errors
    /// What the system said, such as that the folder is another user's.
    pub fn remove(self) -> io::Result<()> {
        self.take_back()
    }

    fn take_back(&self) -> io::Result<()> {
        if is_same(&self.file, &self.path)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Where this fails, a file is left that nobody has locked.
        let _ = self.take_back();
    }
}

/// What a running process can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// TERM
    Stop,
    /// USR1
    Graceful,
    /// HUP
    Restart,
    /// WINCH
    GracefulStop,
}

/// A file that is whole and locked before it has its name.
struct Fresh {
    name: Name,
    file: File,
}

impl Fresh {
    fn beside(path: &Path) -> io::Result<Self> {
        let id = std::process::id();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{id}"));
        let name = Name(path.with_file_name(name));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o644);
        let mut file = match options.open(&name.0) {
            // Of a process that had this number and was killed meanwhile: nobody else makes files of this name.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&name.0)?;
                options.open(&name.0)?
            }
            outcome => outcome?,
        };
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(format!("{id}\n").as_bytes())?;
        Ok(Self { name, file })
    }

    fn into_pid_file(self, path: &Path) -> PidFile {
        PidFile {
            path: path.to_owned(),
            file: self.file,
        }
    }
}

/// A name that is taken back when this goes.
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // It may be the file's no longer.
        let _ = fs::remove_file(&self.0);
    }
}

/// A process that runs with a PidFile.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    /// None: the system does not have them.
    handle: Option<OwnedFd>,
}

impl Running {
    /// Who runs with this file, if somebody does.
    ///
    /// # Errors
    /// The file cannot be read; or somebody runs whose number is not known here.
    pub fn with(path: &Path) -> Result<Option<Self>, Refused> {
        let file = match open_as(path, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome?,
        };
        let pid = match holder_of(&file)? {
            Some(Some(pid)) => pid,
            Some(None) => return Err(Refused::Running(None)),
            None => return Ok(None),
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::NOSYS) => None,
            Err(Errno::SRCH) => return Ok(None),
            outcome => Some(outcome?),
        };
        // It has had the lock from before there was a handle to behind it, so the handle is its.
        match holder_of(&file)? {
            Some(Some(holder)) if holder == pid => Ok(Some(Self { pid, handle })),
            _ => Ok(None),
        }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Asks it, by a signal that never goes to another process.
    ///
    /// # Errors
    /// It is another user's, or has ended.
    pub fn ask(&self, demand: Demand) -> io::Result<()> {
        let signal = match demand {
            Demand::Stop => Signal::TERM,
            Demand::Graceful => Signal::USR1,
            Demand::Restart => Signal::HUP,
            Demand::GracefulStop => Signal::WINCH,
        };
        Ok(match &self.handle {
            Some(handle) => pidfd_send_signal(handle, signal),
            None => kill_process(self.pid, signal),
        }?)
    }

    /// Whether a terminal controls it, as far as can be seen.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()));
        // The name in the second field may hold anything: proc_pid_stat(5), "tty_nr".
        stat.is_ok_and(|stat| {
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
            fields.and_then(|fields| fields.split_whitespace().nth(4)) != Some("0")
        })
    }
}

/// Nobody follows a link here: who may write into the folder could have another file replaced.
fn open_as(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
        outcome => outcome?.into(),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not an ordinary file"));
    }
    Ok(file)
}

/// The process that has the lock; its number if it has one here.
fn holder_of(file: &File) -> rustix::io::Result<Option<Option<Pid>>> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(lock.map(|lock| lock.pid))
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        outcome => outcome?,
    };
    let own = file.metadata()?;
    Ok((found.dev(), found.ino()) == (own.dev(), own.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pid-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_no_file_or_leads_elsewhere_is_not_taken() {
        let folder = folder("links");
        let (target, link) = (folder.join("target"), folder.join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        for path in [&link, &folder] {
            let refused = PidFile::take(path);
            assert!(matches!(refused, Err(Refused::Failed(_))), "{refused:?}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_another_s_by_now_stays() {
        let folder = folder("other");
        let path = folder.join("pid");
        fs::write(&path, "1\n").unwrap();
        let first = PidFile::take(&path).unwrap();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        first.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
        fs::remove_dir_all(folder).unwrap();
    }
}
