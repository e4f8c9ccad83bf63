//! A bound for the memory of a process and for what the kernel holds on its behalf.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup with a limit of memory, removed at the end. Whoever is in it has to have ended by then.
#[derive(Debug)]
pub struct MemoryLimit {
    directory: PathBuf,
    peak: &'static str,
}

impl MemoryLimit {
    /// A limit of `bytes`; nothing where this machine does not let us make one.
    pub fn of(bytes: usize) -> Option<Self> {
        let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path_of = |wanted: fn(&str) -> bool| {
            ours.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let path = parts.next()?.trim_start_matches('/');
                wanted(controllers).then_some(path)
            })
        };
        // Version 1 has a tree for each controller, version 2 one for all.
        let (root, limit, peak) =
            match path_of(|names| names.split(',').any(|name| name == "memory")) {
                Some(path) => (
                    Path::new("/sys/fs/cgroup/memory").join(path),
                    "memory.limit_in_bytes",
                    "memory.max_usage_in_bytes",
                ),
                None => (
                    Path::new("/sys/fs/cgroup").join(path_of(str::is_empty)?),
                    "memory.max",
                    "memory.peak",
                ),
            };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = root.join(format!("behaviour-{}-{number}", std::process::id()));
        fs::create_dir(&directory).ok()?;
        let made = Self { directory, peak };
        fs::write(made.directory.join(limit), bytes.to_string()).ok()?;
        Some(made)
    }

    /// The command of a shell by which it enters, and what it then becomes.
    pub fn entering(&self) -> String {
        format!("echo $$ > '{}/cgroup.procs'", self.directory.display())
    }

    /// The most that was used at a time, in bytes; nothing where the kernel does not tell.
    pub fn peak(&self) -> Option<usize> {
        let text = fs::read_to_string(self.directory.join(self.peak)).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.directory));
    }
}
