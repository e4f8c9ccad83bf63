//! System calls that neither std nor rustix has, and what the TLS library leaves to its callers to do right. The only file
//! with unsafe code.

use std::alloc::{Layout, alloc_zeroed};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes the descriptors of these numbers, which came with the process. No other process gets them. None stands for a number
/// that nothing is open at, is that of a standard stream, or has come before; the second time there are none at all.
pub(crate) fn passed_descriptors(numbers: &[RawFd]) -> Vec<Option<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let take = |(place, number): (usize, &RawFd)| {
        let number = *number;
        let is_taken = numbers.iter().take(place).any(|other| *other == number);
        if number < 3 || is_taken {
            return None;
        }
        // SAFETY: it changes a flag of a descriptor, and fails where there is none.
        let outcome = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        // SAFETY: it is open, since long before anything was opened here that could have this number, and nobody else takes
        // it: this is done once.
        (outcome == 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
    };
    numbers.iter().enumerate().map(take).collect()
}

/// A user that the system knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: CString,
    pub(crate) number: u32,
    /// That of the group that it is in first.
    pub(crate) group: u32,
}

/// Bytes that an entry of a user or group may take. A group lists its members.
const ENTRY: usize = 1024 * 1024;

/// Looks up a user by name. None: there is none.
///
/// # Errors
/// When the list of users cannot be read.
pub(crate) fn user_named(name: &CStr) -> io::Result<Option<User>> {
    look_up(|entry: *mut libc::passwd, buffer, found| {
        let (text, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the name ends with NUL, the entry and the place for the outcome are live, and the buffer is as large as
        // is said.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, text, size, found) }
    })
    .map(|found| found.map(|(entry, _buffer)| user_of(&entry)))
}

/// Looks up a user by number, as [`user_named`] does.
pub(crate) fn user_numbered(number: u32) -> io::Result<Option<User>> {
    look_up(|entry: *mut libc::passwd, buffer, found| {
        let (text, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: as in user_named.
        unsafe { libc::getpwuid_r(number, entry, text, size, found) }
    })
    .map(|found| found.map(|(entry, _buffer)| user_of(&entry)))
}

/// Looks up the number of a group by its name. None: there is none.
///
/// # Errors
/// When the list of groups cannot be read.
pub(crate) fn group_named(name: &CStr) -> io::Result<Option<u32>> {
    look_up(|entry: *mut libc::group, buffer, found| {
        let (text, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: as in user_named.
        unsafe { libc::getgrnam_r(name.as_ptr(), entry, text, size, found) }
    })
    .map(|found| found.map(|(entry, _buffer)| entry.gr_gid))
}

/// The buffer is what the entry points into.
fn look_up<T>(
    ask: impl Fn(*mut T, &mut [u8], *mut *mut T) -> libc::c_int,
) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut buffer = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::uninit();
        let mut found = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), &mut buffer, &raw mut found) {
            0 if found.is_null() => return Ok(None),
            // SAFETY: what was found is this entry, written as a whole.
            0 => return Ok(Some((unsafe { entry.assume_init() }, buffer))),
            libc::ERANGE if buffer.len() < ENTRY => buffer.resize(buffer.len() * 2, 0),
            // Some say so where there is no such name: getpwnam_r(3), "Errors".
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn user_of(entry: &libc::passwd) -> User {
    User {
        // SAFETY: it points into the buffer that the caller has, and ends with NUL there.
        name: unsafe { CStr::from_ptr(entry.pw_name) }.to_owned(),
        number: entry.pw_uid,
        group: entry.pw_gid,
    }
}

/// Gives all threads of the process the groups of a user, or that one alone where the user has no name.
///
/// # Errors
/// When the process has no right to do so, or the groups cannot be read.
pub(crate) fn set_groups(user: Option<&CStr>, group: u32) -> io::Result<()> {
    outcome(match user {
        // SAFETY: the name ends with NUL. The C library changes the groups of all threads.
        Some(user) => unsafe { libc::initgroups(user.as_ptr(), group) },
        // SAFETY: the pointer is to the one number that is said to be there. As above.
        None => unsafe { libc::setgroups(1, &raw const group) },
    })
}

/// Makes this the real, effective and saved group of all threads.
///
/// # Errors
/// When the process has no right to do so.
pub(crate) fn set_group(group: u32) -> io::Result<()> {
    // SAFETY: it takes numbers and touches no memory of ours. The C library changes all threads.
    outcome(unsafe { libc::setresgid(group, group, group) })
}

/// Makes this the real, effective and saved user of all threads.
///
/// # Errors
/// When the process has no right to do so.
pub(crate) fn set_user(user: u32) -> io::Result<()> {
    // SAFETY: as in set_group.
    outcome(unsafe { libc::setresuid(user, user, user) })
}

fn outcome(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the calling thread, and those that it starts, scheduled as `SCHED_BATCH`: when it is woken, who runs is not interrupted for it.
///
/// # Errors
/// When a sandbox forbids it.
pub(crate) fn run_as_batch() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live value of the type that sched_setscheduler(2)
    // reads. It writes nothing.
    outcome(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) })
}

/// So many zeros, with no memory touched for them.
///
/// # Errors
/// Out of memory. Where std makes zeros, that ends the process.
pub(crate) fn zeros(count: usize) -> io::Result<Box<[u8]>> {
    let refused = || io::Error::from(io::ErrorKind::OutOfMemory);
    if count == 0 {
        return Ok(Box::default());
    }
    let layout = Layout::array::<u8>(count).map_err(|_| refused())?;
    // SAFETY: the layout is of at least one byte.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        return Err(refused());
    }
    let bytes = std::ptr::slice_from_raw_parts_mut(start, count);
    // SAFETY: it has just been allocated with the layout that a box of so many bytes has, all of them are set, and nobody
    // else has it.
    Ok(unsafe { Box::from_raw(bytes) })
}

/// Gives memory that has been freed back to the system, where the C library would keep it. Takes some milliseconds.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only memory that nobody uses is given back, and the library locks what it works on.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(feature = "tls")]
pub(crate) use resumable::Resumable;

#[cfg(feature = "tls")]
mod resumable {
    use openssl::error::ErrorStack;
    use openssl::ex_data::Index;
    use openssl::ssl::{SslContext, SslContextBuilder, SslRef, SslSession, SslVersion};
    use std::fmt;
    use std::sync::{Arc, OnceLock};

    /// What tells one context from all others, for as long as anybody asks.
    static MARK: OnceLock<Index<SslContext, Arc<()>>> = OnceLock::new();

    fn mark() -> Result<Index<SslContext, Arc<()>>, ErrorStack> {
        match MARK.get() {
            Some(mark) => Ok(*mark),
            None => {
                let mark = SslContext::new_ex_index()?;
                Ok(*MARK.get_or_init(|| mark))
            }
        }
    }

    /// A TLS session that can be offered to its peer again, in the context that it was made in and no other.
    #[derive(Clone)]
    pub(crate) struct Resumable {
        session: SslSession,
        context: Arc<()>,
    }

    impl fmt::Debug for Resumable {
        /// No part of it: there are keys in it.
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Resumable")
        }
    }

    impl Resumable {
        /// Makes sessions of a context known by it: to be called once for each whose sessions are kept.
        pub(crate) fn prepare(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
            context.set_ex_data(mark()?, Arc::new(()));
            Ok(())
        }

        /// The session that `ssl` has now, if its context is [prepared](Self::prepare).
        pub(crate) fn of(ssl: &SslRef) -> Option<Self> {
            let context = ssl.ssl_context().ex_data(mark().ok()?)?;
            Some(Self {
                session: ssl.session()?.to_owned(),
                context: Arc::clone(context),
            })
        }

        /// Has `ssl` offer to go on with it, before its handshake. Says whether it does: not if it is of another context.
        pub(crate) fn offer(&self, ssl: &mut SslRef) -> bool {
            let Ok(mark) = mark() else { return false };
            let context = ssl.ssl_context().ex_data(mark);
            if !context.is_some_and(|context| Arc::ptr_eq(context, &self.context)) {
                return false;
            }
            // SAFETY: a session must be of the same context as the connection. It carries the mark of its own, which no other
            // context has had meanwhile: the mark lives as long as this does, and each context has one that was new.
            unsafe { ssl.set_session(&self.session) }.is_ok()
        }

        /// Whether it is meant for one connection only (RFC 8446, section C.4).
        pub(crate) fn is_for_once(&self) -> bool {
            self.session.protocol_version() == SslVersion::TLS1_3
        }
    }
}
