//! What lines leave the program by: a file, a standard output, or a socket of the system's collector.

use super::syslog::Syslog;
use crate::logging::{Facility, Severity, Target};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fs::{File, OpenOptions, symlink_metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// An open [`Target`].
pub(super) enum Outlet {
    Stderr,
    Stdout,
    File(File),
    Syslog(Syslog),
}

impl Outlet {
    /// Opens it. The collector need not be there yet.
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Stderr => Self::Stderr,
            Target::Stdout => Self::Stdout,
            Target::File(path) => Self::File(append_to(path)?),
            Target::Syslog { socket, .. } => Self::Syslog(Syslog::new(socket)),
        })
    }

    /// Writes whole lines; one alone where each is a message of its own. May take its time.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().write_all(lines),
            Self::Stdout => {
                let mut stdout = io::stdout();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File(file) => file.write_all(lines),
            Self::Syslog(syslog) => syslog.send(lines.strip_suffix(b"\n").unwrap_or(lines)),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    if geteuid().is_root() && is_link_of_another(path) {
        return Err(io::Error::other(
            "it is a symbolic link of a user who is not root, who could have root write anywhere; make it root's (chown -h), or \
             name the file that it leads to",
        ));
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // Opening a pipe waits for somebody who reads, and the server would wait with it. Writing to it may.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}

fn is_link_of_another(path: &Path) -> bool {
    let found = symlink_metadata(path);
    found.is_ok_and(|found| found.is_symlink() && found.uid() != 0)
}

/// Who takes the lines, where they are not just bytes: it knows when each came, and from which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collector {
    /// systemd's, behind a standard output.
    Journal,
    /// Over its socket.
    Syslog(Facility),
}

impl Collector {
    pub(super) fn of(target: &Target) -> Option<Self> {
        let journal = |fd: BorrowedFd<'_>| is_journal(fd).then_some(Self::Journal);
        match target {
            Target::Stderr => journal(io::stderr().as_fd()),
            Target::Stdout => journal(io::stdout().as_fd()),
            Target::File(_) => None,
            Target::Syslog { facility, .. } => Some(Self::Syslog(*facility)),
        }
    }

    /// What a line begins with. Sources: sd-daemon(3); RFC 3164, section 4.1, without the time, which the collector knows
    /// better than we do: we know no zone.
    pub(super) fn prefix(self, severity: Severity) -> String {
        match self {
            Self::Journal => format!("<{}>", severity.number()),
            Self::Syslog(facility) => format!(
                "<{}>proxy-wstunnel[{}]: ",
                facility.priority(severity),
                std::process::id()
            ),
        }
    }
}

/// Whether it is the journal at the other end. Source: systemd.exec(5), `JOURNAL_STREAM`.
fn is_journal(fd: BorrowedFd<'_>) -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let metadata = fd
        .try_clone_to_owned()
        .and_then(|fd| File::from(fd).metadata());
    let own = metadata.map(|own| format!("{}:{}", own.dev(), own.ino()));
    own.is_ok_and(|own| stream == *own)
}
