//! The built binary as a process.

use super::{BOUND, TempDir, wait_until};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, kill_process, prlimit};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_proxy-wstunnel");

/// A running proxy. Stopped at the latest when dropped; a panic in it fails the test.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    addresses: Vec<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    ended: bool,
    directory: TempDir,
}

impl Proxy {
    /// Starts with this configuration, and returns when it is ready. What every test needs and does not care about
    /// is put before it: a directory of its own, a port that the kernel chooses, a talkative log.
    #[track_caller]
    pub fn start(config: impl AsRef<str>) -> Self {
        Self::start_in(TempDir::new(), config, "")
    }

    /// As [`Proxy::start`], in a directory that may hold files already.
    ///
    /// `limits`: commands of the shell that run before, such as `ulimit -n 40`.
    #[track_caller]
    pub fn start_in(directory: TempDir, config: impl AsRef<str>, limits: &str) -> Self {
        Self::start_with(directory, config, limits, [Stdio::null(), Stdio::null()])
    }

    /// As [`Proxy::start_in`], with these sockets at the descriptors from 3 on.
    #[track_caller]
    pub fn start_passing<const N: usize>(
        directory: TempDir,
        config: impl AsRef<str>,
        limits: &str,
        sockets: [OwnedFd; N],
    ) -> Self {
        assert!((1..=2).contains(&N), "there are so many ways in");
        let mut sockets = sockets.into_iter().map(Stdio::from);
        let ways = [(); 2].map(|()| sockets.next().unwrap_or_else(Stdio::null));
        let mut moves = "exec 3<&0 0</dev/null".to_owned();
        if N == 2 {
            moves += " 4>&1 1>/dev/null";
        }
        let limits = format!("{moves}; export LISTEN_PID=$$ LISTEN_FDS={N}; {limits}");
        Self::start_with(directory, config, &limits, ways)
    }

    #[track_caller]
    fn start_with(
        directory: TempDir,
        config: impl AsRef<str>,
        limits: &str,
        [stdin, stdout]: [Stdio; 2],
    ) -> Self {
        let config = complete(directory.path(), config.as_ref());
        let file = directory.write("proxy.conf", config);
        let mut command = if limits.is_empty() {
            Command::new(BINARY)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), BINARY]);
            shell
        };
        let mut child = command
            .arg("-f")
            .arg(file)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("to start the proxy");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let mut proxy = Self {
            child,
            addresses: Vec::new(),
            log,
            reader: Some(reader),
            ended: false,
            directory,
        };
        proxy.await_ready();
        proxy
    }

    /// The ready line comes on stderr, or in the file that `ErrorLog` names.
    #[track_caller]
    fn await_ready(&mut self) {
        let file = self.directory.path().join("error.log");
        let mut ready = None;
        wait_until("the proxy to be ready", BOUND, || {
            let mut lines = self.log();
            lines.extend(lines_of(&file));
            ready = lines
                .iter()
                .find_map(|line| Some(line.split_once("ready: listening on ")?.1.to_owned()));
            if ready.is_none()
                && let Some(status) = self.child.try_wait().unwrap()
            {
                self.ended = true;
                panic!("the proxy ended with {status}: {lines:#?}");
            }
            ready.is_some()
        });
        self.addresses = ready
            .unwrap()
            .split(", ")
            .map(|address| address.trim().parse().expect("an address"))
            .collect();
    }

    /// Where it listens first.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it listens, in the order of the ready line.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has written to stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The lines that hold `text`.
    pub fn log_lines(&self, text: &str) -> Vec<String> {
        let mut lines = self.log();
        lines.retain(|line| line.contains(text));
        lines
    }

    /// Waits for a line on stderr that holds `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        let mut found = None;
        wait_until(&format!("{text:?} in the log"), BOUND, || {
            found = self.log_lines(text).into_iter().next();
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the file in the proxy's directory has `count` lines or more, and returns them.
    #[track_caller]
    pub fn wait_for_lines(&self, file: &str, count: usize) -> Vec<String> {
        let path = self.directory.path().join(file);
        let mut lines = Vec::new();
        wait_until(&format!("{count} lines in {file}"), BOUND, || {
            lines = lines_of(&path);
            lines.len() >= count
        });
        lines
    }

    /// Waits until all its threads sleep: who has got an answer is idle by then, and who has written a line is done.
    #[track_caller]
    pub fn settle(&self) {
        wait_until("the proxy to come to rest", BOUND, || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
            tasks.flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(')')
                    .is_none_or(|(_, rest)| rest.starts_with(" S"))
            })
        });
    }

    /// Puts another configuration in force, and returns when it is: where the proxy listens then.
    #[track_caller]
    pub fn reload(&self, config: impl AsRef<str>) -> Vec<SocketAddr> {
        let line = self.reload_until(config, "reloaded: generation ");
        let (_, addresses) = line.split_once(" listens on ").unwrap();
        let addresses = addresses.split(", ");
        addresses
            .map(|address| address.trim().parse().expect("an address"))
            .collect()
    }

    /// Asks for another configuration that cannot be put in force, and returns the lines about it when that has failed.
    #[track_caller]
    pub fn reload_refused(&self, config: impl AsRef<str>) -> Vec<String> {
        let before = self.log_lines("PW601").len();
        self.reload_until(config, "not reloaded: ");
        self.log_lines("PW601").split_off(before)
    }

    /// Returns the line with `text` that the reload has led to.
    #[track_caller]
    fn reload_until(&self, config: impl AsRef<str>, text: &str) -> String {
        let config = complete(self.directory.path(), config.as_ref());
        self.directory.write("proxy.conf", config);
        let before = self.log_lines(text).len();
        self.signal(Signal::USR1);
        let mut line = None;
        wait_until(&format!("{text:?} in the log"), BOUND, || {
            line = self.log_lines(text).into_iter().nth(before);
            line.is_some()
        });
        line.unwrap()
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        let id = i32::try_from(self.child.id()).unwrap();
        Pid::from_raw(id).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("to signal the proxy");
    }

    /// From now on it gets no more memory from the system than this much. What it has and does not use it keeps.
    #[track_caller]
    pub fn limit_growth(&self, bytes: usize) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let most = (number_in(&status, "VmData:") * 1024 + bytes) as u64;
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(Some(self.pid()), Resource::Data, limit).expect("to limit the proxy");
    }

    /// Stops it as an operator does, and holds it to exit status 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.await_exit();
    }

    /// Kills it as `kill -9` does: all its connections end with it.
    pub fn kill(&mut self) {
        self.child.kill().expect("to kill the proxy");
        self.child.wait().expect("to kill the proxy");
        self.ended = true;
    }

    /// As [`Proxy::await_exit`], where another process writes on into its log.
    #[track_caller]
    pub fn await_exit_before_another(&mut self) {
        self.reader = None;
        self.await_exit();
    }

    /// Waits for its end, and holds it to exit status 0.
    #[track_caller]
    pub fn await_exit(&mut self) {
        let mut status = None;
        wait_until("the proxy to end", BOUND, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.ended = true;
        self.join_reader();
        let status = status.unwrap();
        assert!(status.success(), "{status}: {:#?}", self.log());
    }

    /// The names of the threads that it has now.
    pub fn thread_names(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// What it takes of the machine at this moment.
    #[track_caller]
    pub fn figures(&self) -> Figures {
        let directory = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect(name);
        // Exact, where VmRSS of `status` may lag behind by some pages for each processor.
        let memory = read("smaps_rollup");
        Figures {
            descriptors: std::fs::read_dir(directory.join("fd")).unwrap().count(),
            threads: number_in(&read("status"), "Threads:"),
            resident: number_in(&memory, "Rss:") * 1024,
            private: number_in(&memory, "Private_Dirty:") * 1024,
        }
    }

    /// How many sockets it holds, its listeners left out.
    pub fn connections(&self) -> usize {
        let links = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let sockets = links
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count();
        sockets.saturating_sub(self.addresses.len())
    }

    /// Time on the processor so far, in steps of 10 ms.
    #[track_caller]
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15, counted from behind the name, which may hold anything: utime and stime.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let early = !self.ended && matches!(self.child.try_wait(), Ok(Some(_)));
        if !self.ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        self.join_reader();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("the proxy's log: {log:#?}");
            return;
        }
        assert!(!early, "the proxy ended by itself: {log:#?}");
        let panicked = log.iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "{log:#?}");
    }
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub descriptors: usize,
    pub threads: usize,
    /// Resident memory in bytes.
    pub resident: usize,
    /// What of it nobody else has: heap and stacks, in bytes. What is read of a file may be shared with other proxies,
    /// and so differs with what else is running.
    pub private: usize,
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Finished {
    Finished::new(
        Command::new(BINARY)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("to run the proxy"),
    )
}

/// Checks a configuration (`-t`), which stands in `proxy.conf`.
pub fn check(config: &str) -> Finished {
    let directory = TempDir::new();
    let file = directory.write("proxy.conf", config);
    run(&["-t", "-f", file.to_str().unwrap()])
}

/// What a run of the binary has left.
#[derive(Debug)]
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    fn new(output: Output) -> Self {
        Self {
            status: output.status.code().expect("an exit status"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.stdout, self.stderr);
        self
    }
}

fn complete(directory: &Path, config: &str) -> String {
    let mut text = format!("ServerRoot \"{}\"\n", directory.display());
    if !config.contains("Listen ") {
        text.push_str("Listen 127.0.0.1:0\n");
    }
    if !config.contains("LogLevel ") {
        text.push_str("LogLevel info\n");
    }
    // At the end, so that lines keep their numbers.
    let user = if config.contains("User ") { "" } else { root() };
    text + config + "\n" + user + "\n"
}

/// The line that a proxy needs which root starts, and nobody else: it is to stay who it is.
pub fn root() -> &'static str {
    if geteuid().is_root() { "User root" } else { "" }
}

/// The lines of a file that are complete; none if there is no file.
pub fn lines_of(file: &Path) -> Vec<String> {
    let content = std::fs::read(file).unwrap_or_default();
    let mut text = String::from_utf8(content).expect("a log is ASCII");
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text.lines().map(str::to_owned).collect()
}

fn number_in(text: &str, name: &str) -> usize {
    let line = text.lines().find(|line| line.starts_with(name));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}
