//! The system calls of a process, as strace(1) sees them.

use super::{BOUND, Proxy, TempDir, missing, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

/// strace, attached to all threads of a proxy.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    output: PathBuf,
    _directory: TempDir,
}

/// One system call, counted when it is entered.
#[derive(Debug)]
struct Call {
    thread: u32,
    name: String,
}

impl Strace {
    /// Attaches to a proxy that runs; nothing where this machine cannot. What is called from now on is seen.
    #[track_caller]
    pub fn attach(proxy: &Proxy, options: &[&str]) -> Option<Self> {
        let directory = TempDir::new();
        let output = directory.path().join("calls");
        let spawned = Command::new("strace")
            .args(["-f", "-s", "0", "-e", "signal=none"])
            .args(options)
            .arg("-o")
            .arg(&output)
            .args(["-p", &proxy.id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            missing("strace is not installed");
            return None;
        };
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (says, said) = channel();
        std::thread::spawn(move || pass_on(errors, &says));
        let mut strace = Self {
            child,
            output,
            _directory: directory,
        };
        match said.recv_timeout(BOUND).expect("strace to say something") {
            // `strace: Process 1234 attached with 5 threads`, when it has them all.
            line if line.contains(" attached") => Some(strace),
            line => {
                drop(strace.child.wait());
                missing(&format!("strace cannot attach here ({line})"));
                None
            }
        }
    }

    /// Lets the proxy go. Says what it has called meanwhile, and what a thread was just in at the beginning.
    #[track_caller]
    pub fn finish(mut self) -> Calls {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
        wait_until("strace to let go", BOUND, || {
            self.child.try_wait().unwrap().is_some()
        });
        let text = std::fs::read_to_string(&self.output).expect("the output of strace");
        Calls(text.lines().filter_map(Call::parse).collect())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first line, and the others to nobody: they shall not hold strace up.
fn pass_on(errors: impl BufRead, says: &Sender<String>) {
    for line in errors.lines().map_while(Result::ok) {
        drop(says.send(line));
    }
}

impl Call {
    /// `1234 read(5, ""..., 4096) = 17`; one that another thread has cut in two counts where it begins.
    fn parse(line: &str) -> Option<Self> {
        let (thread, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then(|| Self {
            thread: thread.parse().expect("the number of a thread"),
            name: name.to_owned(),
        })
    }
}

/// What was called.
#[derive(Debug)]
pub struct Calls(Vec<Call>);

impl Calls {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How often this was called.
    pub fn of(&self, name: &str) -> usize {
        self.0.iter().filter(|call| call.name == name).count()
    }

    /// How many calls each thread has made, for those that have made any.
    pub fn by_thread(&self) -> Vec<usize> {
        counted(self.0.iter().map(|call| call.thread))
            .into_values()
            .collect()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = counted(self.0.iter().map(|call| call.name.as_str()));
        f.debug_map().entries(names).finish()
    }
}

fn counted<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}
