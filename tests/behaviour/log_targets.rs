//! Where logs go: files, the standard outputs, syslog and the journal, topic by topic; and what becomes of lines that cannot
//! be written.

use crate::support::backend::nobody;
use crate::support::client::request;
use crate::support::proxy::check;
use crate::support::{BOUND, Backend, Client, Proxy, TempDir, each_mode, wait_until};
use rustix::process::Signal;
use std::io::Read;
use std::os::unix::net::UnixDatagram;

/// A collector of syslog.
struct Collector(UnixDatagram);

impl Collector {
    fn bind(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket for syslog");
        socket.set_read_timeout(Some(BOUND)).unwrap();
        Self(socket)
    }

    /// The next line that holds `text`.
    #[track_caller]
    fn line(&self, text: &str) -> String {
        loop {
            let mut buffer = [0; 16 * 1024];
            let length = self.0.recv(&mut buffer).expect("a line for syslog");
            let line = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if line.contains(text) {
                return line;
            }
        }
    }
}

fn ask(proxy: &Proxy, path: &str, status: u16) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    Client::sending(proxy, text).answer().expect_status(status);
}

#[test]
fn logs_go_to_syslog_and_find_it_when_it_was_started_anew() {
    let directory = TempDir::new();
    let socket = directory.path().join("log");
    let collector = Collector::bind(&socket);
    let path = socket.display().to_string();
    let proxy = Proxy::start_in(
        directory,
        format!(
            "<VirtualHost *:*>\nServerName a\nErrorLog syslog:daemon:{path}\nLogLevel info\n\
             CustomLog syslog:local1:{path} \"%>s %U\"\nCustomLog access.log %U\n</VirtualHost>"
        ),
        "",
    );
    let tag = format!("proxy-wstunnel[{}]: ", proxy.id());
    ask(&proxy, "/first", 404);
    let line = collector.line("PW2");
    assert!(
        line.starts_with(&format!("<30>{tag}[1] 127.0.0.1:")),
        "{line}"
    );
    assert!(line.contains("\"GET /first HTTP/1.1\" refused") && !line.ends_with('\n'));
    assert_eq!(collector.line("404"), format!("<142>{tag}404 /first"));

    drop(collector);
    ask(&proxy, "/nobody", 404);
    // The other log shows that the thread has been there.
    assert_eq!(proxy.wait_for_lines("access.log", 2)[1], "/nobody");
    proxy.wait_for_log("PW514");
    std::fs::remove_file(&socket).unwrap();
    let collector = Collector::bind(&socket);
    let mut asked = 0;
    let mut found = String::new();
    wait_until("a line for the new collector", BOUND, || {
        asked += 1;
        ask(&proxy, "/again", 404);
        proxy.wait_for_lines("access.log", 2 + asked);
        collector.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16 * 1024];
        if let Ok(length) = collector.0.recv(&mut buffer) {
            found = String::from_utf8(buffer[..length].to_vec()).unwrap();
        }
        found.contains("/again")
    });
    let lost = proxy.wait_for_log("PW510");
    assert!(
        lost.contains("lines were lost") && lost.contains("syslog:"),
        "{lost}"
    );
}

#[test]
fn what_goes_to_syslog_goes_nowhere_else_whether_it_is_there_or_not() {
    let directory = TempDir::new();
    let path = directory.path().join("nobody").display().to_string();
    let mut proxy = Proxy::start_in(
        directory,
        format!(
            "<VirtualHost *:*>\nServerName a\nErrorLog syslog:local0:{path}\nLogLevel info\n</VirtualHost>"
        ),
        "",
    );
    for _ in 0..3 {
        ask(&proxy, "/", 404);
    }
    proxy.wait_for_log("PW514");
    proxy.stop();
    assert_eq!(proxy.log_lines("PW514").len(), 1, "{:#?}", proxy.log());
    assert!(proxy.log_lines("refused").is_empty(), "{:#?}", proxy.log());
}

/// `JOURNAL_STREAM` names what systemd has connected: systemd.exec(5).
#[test]
fn lines_for_the_journal_begin_with_their_importance_and_have_no_time_of_ours() {
    let is_journal = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";
    let dead = nobody();
    let config =
        format!("LogLevel debug\nProxyPass /ws/ ws://{dead}/\nCustomLog /dev/stderr \"line %U\"");
    let proxy = Proxy::start_in(TempDir::new(), &config, is_journal);
    Client::asking(&proxy, "/ws/").answer().expect_status(503);
    ask(&proxy, "/none", 404);
    proxy.wait_for_log("line /none");
    for (text, begin) in [
        ("ready", "<5>ready: listening on "),
        ("ProxyPass \"/ws/\"", "<4>["),
        ("GET /none", "<6>["),
        ("line /none", "<6>line /none"),
    ] {
        let line = proxy.wait_for_log(text);
        assert!(line.starts_with(begin), "{line}");
    }
    let other = Proxy::start_in(TempDir::new(), &config, "export JOURNAL_STREAM=1:2");
    let line = other.wait_for_log("ready");
    assert!(line.contains("Z [NOTICE] ready"), "{line}");
}

#[test]
fn each_module_has_a_level_of_its_own() {
    let dead = format!("ws://{}/", nobody());
    let ask_both = |levels: &str| {
        let mut proxy = Proxy::start(format!("LogLevel {levels}\nProxyPass /ws/ {dead}"));
        Client::asking(&proxy, "/ws/").answer().expect_status(503);
        ask(&proxy, "/none", 404);
        proxy.stop();
        let says = |text: &str| !proxy.log_lines(text).is_empty();
        [says("ProxyPass \"/ws/\""), says("/none")]
    };
    for (levels, said) in [
        ("warn", [true, false]),
        ("error mod_proxy.c:warn", [true, false]),
        ("info proxy:error", [false, true]),
        ("error core:info", [false, true]),
        ("proxy:error http_module:info", [false, true]),
        // One for all forgets what stands before it.
        ("proxy:error core:info warn", [true, false]),
        ("error ssl:trace8", [false, false]),
    ] {
        assert_eq!(ask_both(levels), said, "LogLevel {levels}");
    }
}

#[test]
fn a_virtual_host_keeps_the_levels_of_the_main_server_that_it_does_not_set() {
    let proxy = Proxy::start(format!(
        "LogLevel error core:info\nProxyPass /ws/ ws://{}/\n\
         <VirtualHost *:*>\nServerName a\nErrorLog own.log\nLogLevel proxy:warn\n</VirtualHost>",
        nobody()
    ));
    ask(&proxy, "/none", 404);
    let text = request("/ws/").replace("front.example", "a");
    Client::sending(&proxy, text).answer().expect_status(503);
    let lines = proxy.wait_for_lines("own.log", 2);
    assert!(
        lines[0].contains("/none") && lines[1].contains("PW4"),
        "{lines:#?}"
    );
}

each_mode! {
    /// The pipe of the standard error is full, and nobody reads it: only who writes lines may wait for that.
    fn a_standard_error_that_nobody_reads_stops_no_tunnel_and_what_is_lost_is_counted(mode: Mode) {
        let backend = Backend::echo();
        let directory = TempDir::new();
        let fifo = directory.path().join("stderr");
        // The line that says that it is ready is taken out for the test.
        let (fifo_path, ready) = (fifo.display(), directory.path().join("error.log"));
        let blocked = format!(
            "mkfifo '{fifo_path}'; exec 3<>'{fifo_path}' 4>&2 2>'{fifo_path}'; \
             (while read -r line <&3; do echo \"$line\"; case $line in *ready*) break;; esac; done >'{}') 4>&- & true",
            ready.display()
        );
        let mut proxy = Proxy::start_in(
            directory,
            format!(
                "{}\nLogLevel trace8\nProxyPass /ws/ {}/",
                mode.directives(),
                backend.url()
            ),
            &blocked,
        );
        let mut client = Client::tunnel(&proxy, "/ws/");
        for _ in 0..6000 {
            client.echo("and again");
        }
        // Nor does a signal have to wait for the reader.
        proxy.signal(Signal::USR1);
        client.echo("still there");
        let text = std::thread::spawn(move || {
            let mut pipe = std::fs::File::open(&fifo).unwrap();
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&text).contains("PW510") {
                let length = pipe.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..length]);
            }
            // Until the end, so that it can say goodbye.
            let rest = std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
            (String::from_utf8(text).unwrap(), rest)
        });
        let mut echoes = 0;
        while !text.is_finished() {
            client.echo("to be told of");
            echoes += 1;
            assert!(echoes < 1_000_000);
        }
        let (text, _rest) = text.join().unwrap();
        let (_, lost) = text.split_once("PW510 standard error: ").expect("lost lines");
        let count: u32 = lost.split(' ').next().unwrap().parse().unwrap();
        assert!(count > 100, "{count}");
        proxy.stop();
    }

    fn a_full_disk_costs_the_lines_and_is_told_once(mode: Mode) {
        let backend = Backend::echo();
        let proxy = Proxy::start(format!(
            "{}\nProxyPass /ws/ {}/\nCustomLog /dev/full %U\nCustomLog access.log %U",
            mode.directives(),
            backend.url()
        ));
        for round in 1..=3 {
            let mut client = Client::tunnel(&proxy, "/ws/");
            client.echo("x");
            drop(client);
            proxy.wait_for_lines("access.log", round);
        }
        let line = proxy.wait_for_log("PW514");
        assert!(line.contains("[ERROR]") && line.contains("/dev/full: cannot be written"), "{line}");
        assert_eq!(proxy.log_lines("PW514").len(), 1);
    }
}

#[test]
fn logs_may_go_to_the_standard_output_though_it_is_no_file() {
    let directory = TempDir::new();
    let fifo = directory.path().join("stdout");
    let path = fifo.display();
    let keeps = format!("mkfifo '{path}'; exec 3<>'{path}' >'{path}'");
    let proxy = Proxy::start_in(directory, "CustomLog /dev/stdout \"line %U\"", &keeps);
    ask(&proxy, "/out", 404);
    let mut text = [0; 10];
    let mut pipe = std::fs::File::open(&fifo).unwrap();
    pipe.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"line /out\n");
}

#[test]
fn programs_as_logs_are_refused_by_name() {
    for directive in [
        "ErrorLog \"|/bin/cat\"",
        "CustomLog \"|/bin/cat\" %h",
        "TransferLog |cat",
    ] {
        let said = check(&format!("Listen 80\n{directive}"))
            .expect_status(1)
            .stderr;
        assert!(said.contains("piped logs are not supported"), "{said}");
        assert!(said.contains("write to a file"), "{said}");
    }
}
