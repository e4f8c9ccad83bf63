//! The control socket as a file: whose it is, who gets in, and what becomes of it.

use super::{LISTEN, ask, control, knock, probe, socket, start, status_address};
use crate::support::proxy::{BINARY, root, run};
use crate::support::{BOUND, Proxy, TempDir, missing, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_is_for_root_and_its_own_user_unless_its_mode_says_otherwise() {
    let directory = TempDir::below(&std::env::temp_dir());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let proxy = Proxy::start_in(
        directory,
        LISTEN.to_owned() + "ProxyPass / ws://127.0.0.1:9/",
        "umask 0",
    );
    let path = socket(&proxy);
    assert_eq!(mode(&path), 0o600);
    if !rustix::process::geteuid().is_root() {
        return missing("only root can be another user");
    }
    // The binary may lie where others cannot reach it.
    let binary = proxy.directory().join("binary");
    std::fs::copy(BINARY, &binary).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .uid(65_534)
            .gid(65_534)
            .arg("--control")
            .arg(&path)
            .args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (status, _, complaint) = as_nobody(&["--end", "1"]);
    assert_eq!(status, Some(1));
    assert!(
        complaint.contains("permission denied; ask as root"),
        "{complaint}"
    );
    // Who is let in may look, and not more.
    proxy.reload(LISTEN.to_owned() + "ControlSocketMode 0666\nProxyPass / ws://127.0.0.1:9/");
    assert_eq!(mode(&path), 0o666);
    for change in [["--end", "1"], ["--drain", "x"], ["--undrain", "x"]] {
        let (status, _, complaint) = as_nobody(&change);
        assert_eq!(status, Some(1));
        assert_eq!(
            complaint,
            "proxy-wstunnel: user 65534 may look, and change nothing; root may, and the user that the server runs as\n"
        );
    }
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_s_is_not() {
    let mut first = start("ProxyPass / ws://127.0.0.1:9/");
    let path = socket(&first);
    first.kill();
    assert!(path.exists());
    let config = format!(
        "Listen 127.0.0.1:0\nListen unix:{}\nProxyPass / ws://127.0.0.1:9/",
        path.display()
    );
    let mut second = Proxy::start(&config);
    ask(knock(&path), "GET", "/healthz").expect_status(200);
    let file = first.directory().join("third.conf");
    std::fs::write(&file, &config).unwrap();
    let third = run(&["-f", file.to_str().unwrap(), "-c", root()]).expect_status(1);
    let place = format!(
        "{}:2: Listen: cannot make the control socket {}",
        file.display(),
        path.display()
    );
    assert!(third.stderr.contains(&place), "{third:?}");
    assert!(
        third
            .stderr
            .contains("another process listens there; is the server running already?")
    );
    ask(knock(&path), "GET", "/healthz").expect_status(200);
    second.stop();
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let fourth = run(&["-f", file.to_str().unwrap(), "-c", root()]).expect_status(1);
    assert!(
        fourth.stderr.contains("there is a file that is no socket"),
        "{fourth:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
    let missing = config.replace("control.sock", "no/such/control.sock");
    std::fs::write(&file, missing).unwrap();
    let fifth = run(&["-f", file.to_str().unwrap(), "-c", root()]).expect_status(1);
    assert!(
        fifth.stderr.contains("; its folder has to be there"),
        "{fifth:?}"
    );
}

/// Each has a /run of its own, where it does not meet the one of this machine.
#[test]
fn without_a_line_the_socket_is_where_everybody_looks_if_it_can_be_made_there() {
    let can_unshare = Command::new("unshare")
        .args(["-m", "true"])
        .stderr(Stdio::null())
        .status();
    if !can_unshare.is_ok_and(|status| status.success()) {
        return missing("only root has a /run of its own");
    }
    let start = |before: &str| {
        let config = "Listen 127.0.0.1:0\nProxyPass / ws://127.0.0.1:9/";
        Proxy::start_in(
            TempDir::new(),
            config,
            &format!("exec {before} \"$0\" \"$@\""),
        )
    };
    let mounted = |then: &str| {
        start(&format!(
            "unshare -m sh -c 'mount -t tmpfs none /run && {then} && exec \"$0\" \"$@\"'"
        ))
    };
    let none = mounted("true");
    none.wait_for_log("no control socket: there is no folder for /run/proxy-wstunnel/control.sock");
    assert_eq!(none.log_lines("PW608"), [""; 0]);
    let first = mounted("mkdir /run/proxy-wstunnel");
    let its_files = Path::new("/proc").join(first.id().to_string()).join("root");
    let path = its_files.join("run/proxy-wstunnel/control.sock");
    run(&["--control", path.to_str().unwrap(), "--status"]).expect_status(0);
    assert_eq!(mode(&path), 0o600);
    // Another one in the same place goes without.
    let second = start(&format!("nsenter -m -t {}", first.id()));
    let line = second.wait_for_log("PW608");
    assert!(
        line.contains("another process listens there; name another path by Listen unix:"),
        "{line}"
    );
    run(&["--control", path.to_str().unwrap(), "--status"]).expect_status(0);
}

#[test]
fn a_reload_moves_adds_and_removes_them_and_those_that_stay_miss_nobody() {
    let rest = "ProxyPass / ws://127.0.0.1:9/\n";
    let proxy = start(rest);
    let path = socket(&proxy);
    let other = proxy.directory().join("other.sock");
    let address = status_address(&proxy);
    let before = proxy.figures().descriptors;
    // One that has connected already is served behind the reload as well.
    let mut early = knock(&path);
    early.send("GET /healthz HTTP/1.1\r\n");
    proxy.reload(LISTEN.to_owned() + rest);
    early.send("Host: a\r\n\r\n");
    early.answer().expect_status(200);
    probe(address, "GET", "/healthz").expect_status(200);
    let moved = format!("Listen 127.0.0.1:0\nListen unix:other.sock\nListen {address}\n{rest}");
    proxy.reload(&moved);
    wait_until("the old socket to be gone", BOUND, || !path.exists());
    ask(knock(&other), "GET", "/healthz").expect_status(200);
    // What told the status serves clients now.
    let served = probe(address, "GET", "/healthz").expect_status(426);
    assert!(served.field("Upgrade").is_some());
    // Removed and wanted again at once.
    for _ in 0..3 {
        proxy.reload(format!(
            "Listen 127.0.0.1:0\nListen unix:other.sock\nListen {address} status\n{rest}"
        ));
        probe(address, "GET", "/healthz").expect_status(200);
        proxy.reload(format!(
            "Listen 127.0.0.1:0\nListen unix:other.sock\n{rest}"
        ));
    }
    // A configuration that cannot be obeyed changes nothing.
    proxy.reload_refused(moved.clone() + "Listen unix:/no/such/folder/x.sock\n");
    ask(knock(&other), "GET", "/healthz").expect_status(200);
    proxy.reload(LISTEN.to_owned() + rest);
    wait_until("the other socket to be gone", BOUND, || !other.exists());
    control(&proxy, "GET", "/healthz").expect_status(200);
    // Somebody has removed the file: the next reload makes it anew.
    std::fs::remove_file(&path).unwrap();
    proxy.reload(LISTEN.to_owned() + rest);
    control(&proxy, "GET", "/healthz").expect_status(200);
    wait_until("all that is left to be closed", BOUND, || {
        proxy.figures().descriptors == before
    });
}
