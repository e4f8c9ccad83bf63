//! curl before the proxy, Node and nginx behind it.

use super::examples::with_rules;
use super::{Guard, Maker, has, serve};
use crate::support::{BOUND, Port, Proxy, TempDir, pattern, wait_until};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// What curl has got, and what it has told of the connection (`-v`).
struct Got {
    content: Vec<u8>,
    told: String,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("a text")
    }

    /// Fails if curl has not been told this.
    #[track_caller]
    fn expect(&self, line: &str) -> &Self {
        let mut lines = self.told.lines().map(str::trim_end);
        assert!(lines.any(|told| told == line), "{line}\n{}", self.told);
        self
    }

    /// A field of the last answer.
    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.told.lines().filter_map(|line| line.strip_prefix("< "));
        let mut fields = fields.filter_map(|line| line.split_once(": "));
        let found = fields.rfind(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim_end())
    }
}

/// Runs curl, which must come to a good end.
#[track_caller]
fn curl(arguments: &[&str]) -> Got {
    let output = Command::new("curl")
        .args(["-q", "--noproxy", "*", "-sSv", "--max-time", "60"])
        .args(arguments)
        .output()
        .expect("to run curl");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    Got {
        content: output.stdout,
        told,
    }
}

/// How many connections curl needs for `count` requests.
#[track_caller]
fn connections(url: &str, count: usize) -> usize {
    let url = format!("{url}?[1-{count}]");
    let format = "%{num_connects} %{http_code} %{size_download}\n";
    let got = curl(&["-o", "/dev/null", "-w", format, &url]);
    assert_eq!(got.text().lines().count(), count);
    let one = |line: &str| {
        let (connections, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "200 22", "{line}");
        connections.parse::<usize>().unwrap()
    };
    got.text().lines().map(one).sum()
}

/// The Node application behind a proxy.
fn application(more: &str) -> Option<(Guard, Proxy)> {
    if !has("curl", "--version") {
        return None;
    }
    let (app, port) = serve(Maker::Node, "app")?;
    let more = more.replace("PORT", &port.to_string());
    let proxy = Proxy::start(format!("{}\n{more}", with_rules(port)));
    Some((app, proxy))
}

#[test]
fn curl_sends_and_gets_what_it_has_sent() {
    let Some((_app, proxy)) = application("ProxyPassReverse / http://127.0.0.1:PORT/") else {
        return;
    };
    let at = |path: &str| format!("http://{}{path}", proxy.address());
    let directory = TempDir::new();
    let file = |name: &str, content: &[u8]| {
        let path = directory.write(name, content);
        path.to_str().unwrap().to_owned()
    };
    let two_megabytes = pattern(1, 2_000_000);
    let eight_mebibytes = pattern(2, 8 << 20);
    let two = file("two", &two_megabytes);
    let eight = file("eight", &eight_mebibytes);
    let data = |path: &str| format!("@{path}");

    // The backend says "100 Continue" itself, and once.
    let got = curl(&[
        "--data-binary",
        &data(&two),
        "-H",
        "Expect: 100-continue",
        &at("/echo"),
    ]);
    got.expect("> Expect: 100-continue")
        .expect("< HTTP/1.1 100 Continue")
        .expect("< HTTP/1.1 200 OK");
    assert_eq!(got.told.matches("100 Continue").count(), 1, "{}", got.told);
    assert!(got.content == two_megabytes);
    let got = curl(&["--data-binary", &data(&two), "-H", "Expect:", &at("/echo")]);
    assert!(got.content == two_megabytes);
    for path in ["/echo", "/stream"] {
        let got = curl(&["-T", &eight, &at(path)]);
        assert!(got.content == eight_mebibytes, "{path}: {}", got.told);
        let got = curl(&["-T", &eight, "-H", "Transfer-Encoding: chunked", &at(path)]);
        got.expect("> Transfer-Encoding: chunked");
        assert!(got.content == eight_mebibytes, "{path}: {}", got.told);
        let got = curl(&["--http1.0", "-T", &eight, &at(path)]);
        got.expect("< Connection: close");
        assert!(got.content == eight_mebibytes, "{path}: {}", got.told);
    }
    let small = curl(&["-F", "name=value", &at("/echo")]);
    assert!(small.text().contains("name=\"name\"\r\n\r\nvalue\r\n"));

    let got = curl(&["-I", &at("/kit.js")]);
    got.expect("> HEAD /kit.js HTTP/1.1")
        .expect("< HTTP/1.1 200 OK");
    let got = curl(&["-X", "DELETE", &at("/seen?x")]);
    assert!(
        got.text()
            .contains("\"method\":\"DELETE\",\"url\":\"/seen?x\"")
    );
    // A redirection to the backend's own address leads through the proxy.
    let effective = [
        "-L",
        "-o",
        "/dev/null",
        "-w",
        "%{url_effective} %{http_code}",
    ];
    let got = curl(&[&effective[..], &[&at("/moved?/seen")]].concat());
    assert_eq!(got.text(), at("/seen") + " 200");
}

/// Up to as many requests as it may have, one connection is enough.
#[test]
fn curl_asks_a_thousand_times_over_one_connection() {
    let Some((_app, proxy)) = application("MaxKeepAliveRequests 0") else {
        return;
    };
    let url = format!("http://{}/kit.js", proxy.address());
    assert_eq!(connections(&url, 1000), 1);
    let Some((_app, proxy)) = application("MaxKeepAliveRequests 100") else {
        return;
    };
    let url = format!("http://{}/kit.js", proxy.address());
    assert_eq!(connections(&url, 1000), 10);
    let Some((_app, proxy)) = application("KeepAlive Off") else {
        return;
    };
    let url = format!("http://{}/kit.js", proxy.address());
    assert_eq!(connections(&url, 10), 10);
}

/// nginx with the files of this folder, at a port of its own.
fn nginx(files: &Path) -> Option<(Guard, Port)> {
    let found = ["/usr/sbin/nginx", "nginx"];
    let program = found
        .into_iter()
        .find(|program| Path::new(program).exists());
    let program = program.unwrap_or("nginx");
    if !has("curl", "--version") || !has(program, "-v") {
        return None;
    }
    let port = Port::at(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", files.display()))
        .concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {files}/nginx.pid;\nerror_log stderr;\nevents {{ }}\n\
         http {{\naccess_log off;\n{temporary}keepalive_requests 100000;\n\
         gzip on;\ngzip_types text/plain;\ngzip_min_length 1;\ngzip_proxied any;\n\
         types {{ text/plain txt; }}\ndefault_type application/octet-stream;\n\
         server {{\nlisten {};\nroot {files}/www;\nlocation /private/ {{ return 401 \"no\\n\"; }}\n}}\n}}\n",
        port.address(),
        files = files.display()
    );
    std::fs::write(files.join("nginx.conf"), config).unwrap();
    let child = Command::new(program)
        .args(["-e", "stderr", "-c"])
        .arg(files.join("nginx.conf"))
        .stdin(Stdio::null())
        .stderr(File::create(files.join("nginx.log")).unwrap())
        .spawn()
        .expect("to start nginx");
    let mut guard = Guard(child);
    wait_until("nginx to listen", BOUND, || {
        let status = guard.0.try_wait().unwrap();
        let log = || std::fs::read_to_string(files.join("nginx.log"));
        assert!(status.is_none(), "nginx ended: {status:?}, {:?}", log());
        TcpStream::connect(port.address()).is_ok()
    });
    Some((guard, port))
}

#[test]
fn curl_gets_files_of_nginx_whole_and_in_parts() {
    let directory = TempDir::new();
    let content = pattern(3, 8 << 20);
    directory.write("www/file", &content);
    let text = "a line that comes again and again\n".repeat(3000);
    directory.write("www/text.txt", &text);
    let Some((_nginx, port)) = nginx(directory.path()) else {
        return;
    };
    let proxy = Proxy::start(with_rules(port.address().port()));
    let url = format!("http://{}/file", proxy.address());
    let text_url = format!("http://{}/text.txt", proxy.address());

    let got = curl(&[&url]);
    assert!(got.content == content);
    let tag = got.field("ETag").expect("an ETag").to_owned();

    let got = curl(&["-r", "1000000-1999999", &url]);
    got.expect("< HTTP/1.1 206 Partial Content")
        .expect(&format!(
            "< Content-Range: bytes 1000000-1999999/{}",
            8 << 20
        ));
    assert!(got.content == content[1_000_000..2_000_000]);
    let got = curl(&["-r", "-5", &url]);
    assert!(got.content == content[content.len() - 5..]);
    let got = curl(&["-r", "0-1,5-6", &url]);
    got.expect("< HTTP/1.1 206 Partial Content");
    assert!(
        got.field("Content-Type")
            .unwrap()
            .starts_with("multipart/byteranges")
    );
    let got = curl(&["-r", "99999999-", &url]);
    got.expect("< HTTP/1.1 416 Requested Range Not Satisfiable");
    // An interrupted download goes on where it was.
    let part = directory.write("part", &content[..3_000_000]);
    curl(&["-C", "-", "-o", part.to_str().unwrap(), &url]);
    assert!(std::fs::read(part).unwrap() == content);

    // Nothing is behind a 304 and the answer to a HEAD, whatever length they tell: the connection goes on.
    let condition = format!("If-None-Match: {tag}");
    let got = curl(&["-H", &condition, &url, &url]);
    assert_eq!(got.told.matches("< HTTP/1.1 304 Not Modified").count(), 2);
    assert!(got.content.is_empty() && got.told.contains("Re-using existing connection"));
    let got = curl(&["-I", &url, &url]);
    assert_eq!(
        got.told
            .matches(&format!("< Content-Length: {}", 8 << 20))
            .count(),
        2
    );
    assert!(
        got.told.contains("Re-using existing connection"),
        "{}",
        got.told
    );

    // Compressed by the backend as it goes, so in chunks; what is compressed passes as it is.
    let got = curl(&["--compressed", &text_url]);
    got.expect("< Content-Encoding: gzip")
        .expect("< Transfer-Encoding: chunked");
    assert_eq!(got.text(), text);
    let got = curl(&["-H", "Accept-Encoding: gzip", &text_url]);
    assert!(got.content.starts_with(b"\x1f\x8b") && got.content.len() < text.len() / 10);
    let got = curl(&["--http1.0", "--compressed", &text_url]);
    assert_eq!(got.field("Transfer-Encoding"), None);
    assert_eq!(got.text(), text);

    let got = curl(&[
        &url.replace("/file", "/missing"),
        &url.replace("/file", "/private/"),
    ]);
    got.expect("< HTTP/1.1 404 Not Found")
        .expect("< HTTP/1.1 401 Unauthorized");
}

#[test]
fn curl_gets_a_gibibyte_of_nginx() {
    const SIZE: u64 = 1 << 30;
    let directory = TempDir::new();
    let path = directory.write("www/file", "");
    // No disk is needed for it.
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(SIZE)
        .unwrap();
    let Some((_nginx, port)) = nginx(directory.path()) else {
        return;
    };
    let proxy = Proxy::start(with_rules(port.address().port()));
    let url = format!("http://{}/file", proxy.address());
    let got = curl(&["-o", "/dev/null", "-w", "%{size_download}", &url]);
    assert_eq!(got.text(), SIZE.to_string());
}
