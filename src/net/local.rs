//! Unix sockets that listen: who owns the name, and who is at the other end.

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, open};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, listen, socket_with, sockopt,
};
use std::ffi::OsString;
use std::fmt;
use std::fs::{Permissions, remove_file, set_permissions, symlink_metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A Unix socket that listens. Its file goes with it, unless it is [left](Self::leave) to another process.
#[derive(Debug)]
pub struct LocalListener {
    socket: OwnedFd,
    path: PathBuf,
    file: File,
    is_left: AtomicBool,
}

/// Which file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    device: u64,
    number: u64,
}

/// Who has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The user, in effect when it connected.
    pub user: u32,
    /// The process; 0: one that cannot be seen from here.
    pub process: i32,
}

/// A connection of somebody on this machine.
#[derive(Debug)]
pub struct LocalConnection {
    /// Its socket, non-blocking.
    pub stream: UnixStream,
    /// Who it is.
    pub peer: Credentials,
}

/// Why there is no such socket.
#[derive(Debug)]
pub enum LocalError {
    /// A process listens there.
    Taken,
    /// There is a file that is no socket.
    NoSocket,
    /// What the system says.
    Failed(io::Error),
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("another process listens there"),
            Self::NoSocket => {
                f.write_str("there is a file that is no socket; remove it, or choose another path")
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LocalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Taken | Self::NoSocket => None,
        }
    }
}

impl From<Errno> for LocalError {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for LocalError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl LocalListener {
    /// Listens at `path`, with these permissions from the first moment on: whoever has them may connect. A socket that a
    /// process has left behind when it ended is replaced.
    ///
    /// # Errors
    /// [`LocalError`]
    pub fn bind(path: &Path, mode: u32, backlog: i32) -> Result<Self, LocalError> {
        let address = SocketAddrUnix::new(path)?;
        let socket = new_socket()?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_if_dead(path, &address)?;
                bind(&socket, &address)?;
            }
            outcome => outcome?,
        }
        // Not yet listening, so nobody has got in by what the umask has left.
        let listener = Self {
            file: file_at(path)?,
            socket,
            path: path.to_owned(),
            is_left: AtomicBool::new(false),
        };
        listener.set_mode(mode)?;
        listen(&listener.socket, backlog)?;
        Ok(listener)
    }

    /// Takes over one that another process has made, and [left](Self::leave) to this one.
    ///
    /// # Errors
    /// The socket, if it is none of Unix that listens at a name that leads to a file.
    pub fn adopt(socket: OwnedFd) -> Result<Self, OwnedFd> {
        let found = Self::place_of(&socket);
        let Ok((path, file)) = found else {
            return Err(socket);
        };
        Ok(Self {
            socket,
            path,
            file,
            is_left: AtomicBool::new(false),
        })
    }

    fn place_of(socket: &OwnedFd) -> io::Result<(PathBuf, File)> {
        let address = SocketAddrUnix::try_from(getsockname(socket)?)?;
        let path = address.path().map(|path| path.to_bytes().to_vec());
        let path = PathBuf::from(OsString::from_vec(path.ok_or(io::ErrorKind::InvalidInput)?));
        let is_stream = sockopt::socket_type(socket)? == SocketType::STREAM;
        if !is_stream || !sockopt::socket_acceptconn(socket)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        ioctl_fionbio(socket, true)?;
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
        let file = file_at(&path)?;
        Ok((path, file))
    }

    /// Its file stays when it is dropped: another process has the same socket, and goes on with it.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Its file goes with it again: the other process has left it to this one.
    pub fn keep(&self) {
        self.is_left.store(false, Ordering::Relaxed);
    }

    /// Whether it was [left](Self::leave).
    pub fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its name leads to it still: nobody can connect to one whose file was removed or replaced.
    pub fn is_in_place(&self) -> bool {
        file_at(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Changes who may connect.
    ///
    /// # Errors
    /// When the file is not there any more, or another user's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        // Not by its name, which may be another file's this moment. What is opened like this can be changed in this way only:
        // open(2), `O_PATH`.
        let handle = self.handle()?;
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        set_permissions(path, Permissions::from_mode(mode))
    }

    /// Gives its file to this user and group.
    ///
    /// # Errors
    /// When the file is not there any more, or the process is not root.
    pub fn give_to(&self, user: u32, group: u32) -> io::Result<()> {
        let owner = (Uid::from_raw(user), Gid::from_raw(group));
        Ok(chownat(
            self.handle()?,
            "",
            Some(owner.0),
            Some(owner.1),
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// Its file, and no other that has been put in its place: whoever may write to the folder could have anything changed.
    fn handle(&self) -> io::Result<OwnedFd> {
        let handle = open(
            &self.path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let found = fstat(&handle)?;
        let file = File {
            device: found.st_dev,
            number: found.st_ino,
        };
        if file != self.file || !FileType::from_raw_mode(found.st_mode).is_socket() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(handle)
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; others as accept(2) has them.
    pub fn accept(&self) -> io::Result<LocalConnection> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = accept_with(&self.socket, flags)?;
        let peer = sockopt::socket_peercred(&socket)?;
        Ok(LocalConnection {
            stream: socket.into(),
            peer: Credentials {
                user: peer.uid.as_raw(),
                process: peer.pid.as_raw_pid(),
            },
        })
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        // Another process may have taken the name meanwhile.
        if !self.is_left() && self.is_in_place() {
            let _ = remove_file(&self.path);
        }
    }
}

impl AsFd for LocalListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn file_at(path: &Path) -> io::Result<File> {
    let found = symlink_metadata(path)?;
    Ok(File {
        device: found.dev(),
        number: found.ino(),
    })
}

/// Removes a socket that nobody listens at: only then a connect to it is refused.
fn remove_if_dead(path: &Path, address: &SocketAddrUnix) -> Result<(), LocalError> {
    if !symlink_metadata(path)?.file_type().is_socket() {
        return Err(LocalError::NoSocket);
    }
    match connect(&new_socket()?, address) {
        Err(Errno::CONNREFUSED) => Ok(remove_file(path)?),
        // It has just gone.
        Err(Errno::NOENT) => Ok(()),
        // Its queue is full, or it does not speak in streams.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Err(LocalError::Taken),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// A folder that is removed with its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("local-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_tells_who_has_connected_and_its_file_goes_with_it() {
        let folder = Folder::new("who");
        let path = folder.socket();
        let listener = LocalListener::bind(&path, 0o620, 8).unwrap();
        assert_eq!(mode(&path), 0o620);
        listener.set_mode(0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(&path).unwrap();
        let connection = listener.accept().unwrap();
        let own = Credentials {
            user: rustix::process::geteuid().as_raw(),
            process: i32::try_from(std::process::id()).unwrap(),
        };
        assert_eq!(connection.peer, own);
        (&connection.stream).write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert!(listener.is_in_place());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_has_left_is_replaced_and_a_live_one_s_is_not() {
        let folder = Folder::new("stale");
        let path = folder.socket();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind");
        let listener = LocalListener::bind(&path, 0o600, 8).unwrap();
        let taken = LocalListener::bind(&path, 0o600, 8);
        assert!(matches!(taken, Err(LocalError::Taken)), "{taken:?}");
        UnixStream::connect(&path).unwrap();
        drop(listener);
        std::fs::write(&path, "x").unwrap();
        let refused = LocalListener::bind(&path, 0o600, 8);
        assert!(matches!(refused, Err(LocalError::NoSocket)), "{refused:?}");
        assert!(path.exists());
    }

    #[test]
    fn one_that_is_left_to_another_process_is_taken_over() {
        let folder = Folder::new("left");
        let path = folder.socket();
        let old = LocalListener::bind(&path, 0o600, 8).unwrap();
        // It comes to the other process in whatever state the one before had it.
        let copy = old.socket.try_clone().unwrap();
        rustix::io::ioctl_fionbio(&copy, false).unwrap();
        let new = LocalListener::adopt(copy).unwrap();
        assert_eq!(new.path(), path);
        old.leave();
        drop(old);
        assert!(new.is_in_place());
        let _client = UnixStream::connect(&path).unwrap();
        new.accept().unwrap();
        let error = new.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(new);
        assert!(!path.exists());
        let [unnamed, _] = UnixStream::pair().unwrap().into();
        assert!(LocalListener::adopt(unnamed.into()).is_err());
    }

    #[test]
    fn a_file_that_took_its_place_stays() {
        let folder = Folder::new("moved");
        let path = folder.socket();
        let first = LocalListener::bind(&path, 0o600, 8).unwrap();
        std::fs::rename(&path, folder.0.join("elsewhere")).unwrap();
        let second = LocalListener::bind(&path, 0o600, 8).unwrap();
        assert!(!first.is_in_place() && first.set_mode(0o666).is_err());
        drop(first);
        assert!(second.is_in_place() && mode(&path) == 0o600);
        // A link to somebody's file changes nothing there.
        let precious = folder.0.join("precious");
        std::fs::write(&precious, "x").unwrap();
        std::fs::set_permissions(&precious, Permissions::from_mode(0o640)).unwrap();
        std::fs::rename(&path, folder.0.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(second.set_mode(0o666).is_err() && second.give_to(1, 1).is_err());
        assert_eq!(mode(&precious), 0o640);
    }
}
