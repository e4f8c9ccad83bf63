//! `ErrorDocument` and `ProxyErrorOverride`: what a client reads in place of an error.

use crate::support::client::request;
use crate::support::wire::Answer;
use crate::support::{Backend, Client, Proxy, TempDir};

/// What comes of a WebSocket handshake at `path`.
#[track_caller]
fn asked(proxy: &Proxy, path: &str) -> Answer {
    Client::asking(proxy, path).answer()
}

fn body(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// A backend that answers every request with this status, some fields and a body.
fn answering(status: &str) -> Backend {
    Backend::answering(format!(
        "HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm=\"app\"\r\nSet-Cookie: a=b\r\nX-Own: 1\r\n\
         Content-Type: application/json\r\nContent-Length: 16\r\n\r\nfrom the backend"
    ))
}

#[test]
fn a_text_is_what_the_client_reads() {
    let proxy = Proxy::start(
        "ErrorDocument 404 \"<p>Not <b>here</b>.\"\n\
         Header always set X-Always 1\n\
         CustomLog access.log \"%>s %B\"\n\
         ProxyPass /ws/ ws://127.0.0.1:9/",
    );
    let answer = asked(&proxy, "/nowhere").expect_status(404);
    assert_eq!(body(&answer), "<p>Not <b>here</b>.");
    for (name, value) in [
        ("Content-Type", "text/html; charset=iso-8859-1"),
        ("Content-Length", "19"),
        ("Connection", "close"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Always", "1"),
        ("Server", "proxy-wstunnel"),
    ] {
        assert_eq!(answer.field(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(proxy.wait_for_lines("access.log", 1), ["404 19"]);
    // The log says what the client is not told.
    proxy.wait_for_log("refused: nothing is mapped at \"/nowhere\" (404)");
    // Another status has our own sentence, and its fields.
    let answer = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .answer()
        .expect_status(426);
    assert!(body(&answer).ends_with("[PW301]\n"), "{answer:?}");
    assert_eq!(answer.field("Upgrade").as_deref(), Some("WebSocket"));
}

#[test]
fn a_head_request_gets_the_length_of_the_page_alone() {
    let proxy = Proxy::start("ErrorDocument 404 \"Nothing here.\"");
    let mut client = Client::sending(&proxy, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer().expect_status(404);
    assert_eq!(answer.field("Content-Length").as_deref(), Some("13"));
    assert_eq!(body(&answer), "");
}

#[test]
fn a_page_is_a_file_below_document_root_as_it_was_at_start() {
    let directory = TempDir::new();
    let page = "<!DOCTYPE html><p>Später.\n".repeat(2000);
    let file = directory.write("www/errors/503.html", &page);
    directory.write("www/404.json", "{}");
    let nobody = crate::support::backend::nobody();
    let proxy = Proxy::start_in(
        directory,
        format!(
            "ErrorDocument 503 /errors/503.html\nErrorDocument 404 /404.json\nDocumentRoot www\n\
             ProxyPass /ws/ ws://{nobody}/"
        ),
        "",
    );
    std::fs::write(file, "changed").unwrap();
    let answer = asked(&proxy, "/ws/").expect_status(503);
    assert_eq!(body(&answer), page);
    assert_eq!(answer.field("Content-Type").as_deref(), Some("text/html"));
    proxy.wait_for_log("PW404 ProxyPass \"/ws/\"");
    let answer = asked(&proxy, "/").expect_status(404);
    assert_eq!(body(&answer), "{}");
    assert_eq!(
        answer.field("Content-Type").as_deref(),
        Some("application/json")
    );
}

#[test]
fn a_url_leads_the_client_there() {
    let proxy = Proxy::start(
        "ErrorDocument 426 https://help.example/ws?from=proxy#why\n\
         Header always set X-Always 1\n\
         CustomLog access.log %>s\n\
         ProxyPass / ws://127.0.0.1:9/",
    );
    let mut client = Client::sending(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer().expect_status(302);
    assert_eq!(
        answer.field("Location").as_deref(),
        Some("https://help.example/ws?from=proxy#why")
    );
    assert_eq!(answer.field("X-Always").as_deref(), Some("1"));
    // It is no 426 any more.
    assert_eq!(answer.field("Upgrade"), None);
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    let kind = answer.field("Content-Type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(proxy.wait_for_lines("access.log", 1), ["302"]);
}

#[test]
fn a_location_has_its_own_and_default_takes_it_away() {
    let nobody = crate::support::backend::nobody();
    let proxy = Proxy::start(format!(
        "ErrorDocument 404 \"of the server\"\nErrorDocument 503 \"of the server\"\n\
         <Location /app>\nErrorDocument 404 \"of the location\"\n</Location>\n\
         <Location /app/plain>\nErrorDocument 404 default\nErrorDocument 503 default\n</Location>\n\
         <Location /no>\nRequire all denied\nErrorDocument 403 \"denied here\"\n</Location>\n\
         <Proxy ws://{nobody}/b/>\nErrorDocument 503 \"of the backend\"\n</Proxy>\n\
         ProxyPass /ws/ ws://{nobody}/\nProxyPass /app/plain/ws ws://{nobody}/"
    ));
    for (path, status, expected) in [
        ("/", 404, "of the server"),
        ("/app/x", 404, "of the location"),
        ("/no/x", 403, "denied here"),
        ("/ws/a", 503, "of the server"),
        ("/ws/b/a", 503, "of the backend"),
    ] {
        let answer = asked(&proxy, path).expect_status(status);
        assert_eq!(body(&answer), expected, "{path}");
    }
    for (path, status, number) in [
        ("/app/plain/x", 404, "[PW201]\n"),
        ("/app/plain/ws", 503, "[PW404]\n"),
    ] {
        let answer = asked(&proxy, path).expect_status(status);
        assert!(body(&answer).ends_with(number), "{answer:?}");
    }
}

#[test]
fn a_virtual_host_has_its_own_pages_also_for_heads_that_are_none() {
    let directory = TempDir::new();
    directory.write("main/400.txt", "main");
    directory.write("own/400.txt", "own");
    let proxy = Proxy::start_in(
        directory,
        "ErrorDocument 400 /400.txt\nErrorDocument 404 none\nDocumentRoot main\n\
         <VirtualHost *>\nServerName one.example\nDocumentRoot own\n</VirtualHost>\n\
         <VirtualHost *>\nServerName two.example\nErrorDocument 404 two\n</VirtualHost>",
        "",
    );
    // Nobody was named, so the first host of the address speaks.
    let mut client = Client::sending(&proxy, "GET / HTTP/1.1\r\nHost\r\n\r\n");
    let answer = client.answer().expect_status(400);
    assert_eq!(body(&answer), "own");
    assert_eq!(answer.field("Content-Type").as_deref(), Some("text/plain"));
    for (host, expected) in [("one.example", "none"), ("two.example", "two")] {
        let bytes = request("/").replace("front.example", host);
        let answer = Client::sending(&proxy, bytes).answer().expect_status(404);
        assert_eq!(body(&answer), expected);
    }
}

#[test]
fn an_error_of_a_backend_passes_unless_it_is_overridden() {
    let backend = answering("403 Its Own Words");
    let proxy = Proxy::start(format!(
        "ErrorDocument 403 \"ours\"\nProxyPass / {}/",
        backend.url()
    ));
    let answer = asked(&proxy, "/").expect_status(403);
    assert_eq!(body(&answer), "from the backend");
    assert_eq!(answer.field("Set-Cookie").as_deref(), Some("a=b"));
    proxy.wait_for_log("PW412 the backend answered 403 instead of 101");
}

#[test]
fn an_overridden_error_has_our_page_and_none_of_the_backend_s_fields() {
    let forbids = answering("403 Its Own Words");
    let breaks = answering("500 Its Own Words");
    let proxy = Proxy::start(format!(
        "ErrorDocument 403 \"ours\"\nProxyErrorOverride On\n\
         Header always set X-Always 1\nHeader set X-Success 1\n\
         CustomLog access.log \"%>s %B %{{X-Own}}o\"\n\
         ProxyPass /forbids {}/\nProxyPass /breaks {}/",
        forbids.url(),
        breaks.url()
    ));
    let answer = asked(&proxy, "/forbids").expect_status(403);
    assert_eq!(body(&answer), "ours");
    assert!(answer.head.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    for gone in ["Set-Cookie", "X-Own", "WWW-Authenticate", "X-Success"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.field("X-Always").as_deref(), Some("1"));
    assert_eq!(
        answer.field("Content-Type").as_deref(),
        Some("text/html; charset=iso-8859-1")
    );
    proxy.wait_for_log("PW415 the backend answered 403");
    // Without a page it is a sentence, which blames nobody.
    let answer = asked(&proxy, "/breaks").expect_status(500);
    assert_eq!(
        body(&answer),
        "The request cannot be served. The error log of the proxy tells more. [PW415]\n"
    );
    let length = answer.body.len();
    assert_eq!(
        proxy.wait_for_lines("access.log", 2),
        ["403 4 -".to_owned(), format!("500 {length} -")]
    );
    assert!(proxy.log_lines("PW412").is_empty());
}

#[test]
fn some_errors_can_be_overridden_and_the_others_pass() {
    let forbids = answering("403 Forbidden");
    let breaks = answering("500 Oh");
    let moved = answering("302 Found");
    let proxy = Proxy::start(format!(
        "ErrorDocument 500 https://status.example/\nErrorDocument 403 ours\n\
         ProxyErrorOverride On 500 502\n\
         ProxyPass /forbids {0}/\nProxyPass /breaks {1}/\nProxyPass /moved {2}/\n\
         ProxyPass /all/forbids {0}/\nProxyPass /all/moved {2}/\nProxyPass /none/breaks {1}/\n\
         <Location /all>\nProxyErrorOverride On\n</Location>\n\
         <Location /none>\nProxyErrorOverride Off\n</Location>",
        forbids.url(),
        breaks.url(),
        moved.url()
    ));
    for (path, status, expected) in [
        ("/forbids", 403, "from the backend"),
        ("/moved", 302, "from the backend"),
        ("/all/forbids", 403, "ours"),
        ("/all/moved", 302, "from the backend"),
        ("/none/breaks", 500, "from the backend"),
    ] {
        let answer = asked(&proxy, path).expect_status(status);
        assert_eq!(body(&answer), expected, "{path}");
    }
    let answer = asked(&proxy, "/breaks").expect_status(302);
    assert_eq!(
        answer.field("Location").as_deref(),
        Some("https://status.example/")
    );
}

#[test]
fn an_overridden_401_still_asks_for_the_password() {
    let backend = answering("401 Unauthorized");
    let proxy = Proxy::start(format!(
        "ErrorDocument 401 \"Who are you?\"\nProxyErrorOverride On\nProxyPass / {}/",
        backend.url()
    ));
    let answer = asked(&proxy, "/").expect_status(401);
    assert_eq!(body(&answer), "Who are you?");
    assert_eq!(
        answer.field("WWW-Authenticate").as_deref(),
        Some("Basic realm=\"app\"")
    );
    assert_eq!(answer.field("Set-Cookie"), None);
}

#[test]
fn the_body_of_an_overridden_answer_is_not_waited_for() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyErrorOverride On\nErrorDocument 404 ours\nProxyPass / {}/",
        backend.url()
    ));
    let mut client = Client::asking(&proxy, "/");
    let mut wire = backend.accept();
    wire.head();
    wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nbegun");
    let answer = client.answer().expect_status(404);
    assert_eq!(body(&answer), "ours");
    // Nobody reads on.
    wire.expect_cut();
}
