//! System calls that neither std nor rustix has. The only file with unsafe code.

use std::io;

/// Has the calling thread, and those that it starts, scheduled as `SCHED_BATCH`: when it is woken, who runs is not interrupted for it.
///
/// # Errors
/// When a sandbox forbids it.
pub(crate) fn run_as_batch() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live value of the type that sched_setscheduler(2)
    // reads. It writes nothing.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
