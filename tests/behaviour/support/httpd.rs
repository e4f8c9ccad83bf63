//! Apache's httpd as a process of our own, to be compared with.

use super::{BOUND, TempDir, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where distributions keep its modules.
const MODULES: [&str; 3] = [
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
];

/// What the configurations need. mod_proxy_http is not there: what a `ws://` entry does not take is nobody's.
const LOADED: [&str; 11] = [
    "mpm_event",
    "authz_core",
    "authz_host",
    "access_compat",
    "setenvif",
    "env",
    "headers",
    "remoteip",
    "rewrite",
    "proxy",
    "proxy_wstunnel",
];

/// A running httpd, stopped when dropped.
#[derive(Debug)]
pub struct Httpd {
    child: Child,
    directory: TempDir,
}

impl Httpd {
    /// The program, where it is installed with its modules.
    pub fn program() -> Option<(&'static str, &'static Path)> {
        let modules = MODULES.iter().map(Path::new);
        let modules = modules.into_iter().find(|folder| folder.is_dir())?;
        let program = ["/usr/sbin/apache2", "/usr/sbin/httpd"]
            .into_iter()
            .find(|program| Path::new(program).exists())?;
        Some((program, modules))
    }

    /// What it says of this configuration, and whether it takes it; none where it is not installed. Modules and all else as
    /// for [`Self::start`].
    pub fn check(config: &str, more: &[&str]) -> Option<(bool, String)> {
        let (program, modules) = Self::program()?;
        let directory = TempDir::new();
        let path = directory.path();
        let file = directory.write("httpd.conf", complete(path, modules, more) + config + "\n");
        let checked = Command::new(program)
            .arg("-d")
            .arg(path)
            .arg("-f")
            .arg(file)
            .args(["-t", "-DHTTPD"])
            .stdin(Stdio::null())
            .output()
            .expect("to ask httpd");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        Some((checked.status.success(), said))
    }

    /// Starts it with this configuration, and returns when it listens at `address`; none where it is not installed.
    /// Modules (more than the usual ones on demand), logs and the user are set up before it, and the name `HTTPD` is
    /// defined.
    #[track_caller]
    pub fn start(config: &str, address: SocketAddr, more: &[&str]) -> Option<Self> {
        let (program, modules) = Self::program()?;
        let directory = TempDir::new();
        let path = directory.path();
        let file = directory.write("httpd.conf", complete(path, modules, more) + config + "\n");
        let child = Command::new(program)
            .arg("-d")
            .arg(path)
            .arg("-f")
            .arg(file)
            .args(["-DFOREGROUND", "-DHTTPD"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path.join("output")).unwrap())
            .spawn()
            .expect("to start httpd");
        let mut httpd = Self { child, directory };
        wait_until("httpd to listen", BOUND, || {
            if let Some(status) = httpd.child.try_wait().unwrap() {
                panic!("httpd ended with {status}: {}", httpd.log());
            }
            TcpStream::connect(address).is_ok()
        });
        Some(httpd)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        ["output", "error.log"]
            .map(|name| {
                let content = std::fs::read(self.directory.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&content).into_owned()
            })
            .concat()
    }
}

impl Drop for Httpd {
    fn drop(&mut self) {
        // Its children as well, of which it would wait ten seconds for one that still has a tunnel.
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended by itself.
        let _ = kill_process_group(id, Signal::KILL);
        drop(self.child.wait());
    }
}

fn complete(directory: &Path, modules: &Path, more: &[&str]) -> String {
    let directory = directory.display();
    let mut text = format!(
        "DefaultRuntimeDir \"{directory}\"\nPidFile \"{directory}/httpd.pid\"\nErrorLog \"{directory}/error.log\"\n\
         LogLevel warn\nStartServers 1\nServerLimit 1\nThreadsPerChild 16\nMaxRequestWorkers 16\n\
         MinSpareThreads 1\nMaxSpareThreads 16\n"
    );
    // On Debian it is no module.
    let unixd = modules.join("mod_unixd.so").exists().then_some("unixd");
    for name in LOADED.iter().chain(more).copied().chain(unixd) {
        let file = modules.join(format!("mod_{name}.so"));
        text += &format!("LoadModule {name}_module {}\n", file.display());
    }
    // Whoever is root names somebody who is nobody; anybody else remains who he is.
    if rustix::process::geteuid().is_root() {
        let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let has = |name: &&str| {
            group
                .lines()
                .any(|line| line.starts_with(&format!("{name}:")))
        };
        let group = ["nogroup", "nobody"].into_iter().find(has);
        text += &format!("User nobody\nGroup {}\n", group.expect("a group of nobody"));
    }
    // Without this the tunnels are left to mod_proxy_http.
    text + "ProxyWebsocketFallbackToProxyHttp Off\n"
}
