//! Which request meets which backend URL.

use crate::support::client::{request, request_with, switch};
use crate::support::{Backend, Client, Proxy};

/// What the backend is asked for when the client asks for `target`.
#[track_caller]
fn asked(proxy: &Proxy, backend: &Backend, target: &str) -> String {
    let mut client = Client::asking(proxy, target);
    let mut peer = backend.accept();
    let head = peer.head();
    peer.send(switch());
    client.switched();
    let line = head.split_once("\r\n").unwrap().0;
    let line = line.strip_prefix("GET ").expect(line);
    line.strip_suffix(" HTTP/1.1").expect(line).to_owned()
}

#[track_caller]
fn status(proxy: &Proxy, target: &str) -> u16 {
    Client::asking(proxy, target).answer().status
}

/// Reference 3.2 and 3.6, beginning with the table of the former.
#[test]
fn prefixes_match_at_segments_and_the_rest_is_appended() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /slashed/ {url}/\nProxyPass /deep/ {url}/a/b/\nProxyPass /bare {url}/base\n"
    ));
    for (target, expected) in [
        ("/slashed/", "/"),
        ("/slashed/a", "/a"),
        ("/slashed/a/", "/a/"),
        ("/slashed//a", "/a"),
        ("//slashed///a//b", "/a/b"),
        ("/deep/c", "/a/b/c"),
        ("/bare", "/base"),
        ("/bare/", "/base/"),
        ("/bare/c", "/base/c"),
        // The query is the client's, to the byte.
        ("/slashed/?", "/?"),
        ("/slashed/?a=1&b=%20/../?%zz;", "/?a=1&b=%20/../?%zz;"),
        ("/slashed/a?x//y", "/a?x//y"),
        // Decoded once, encoded anew.
        ("/slashed/a%20b", "/a%20b"),
        ("/slashed/%61%2d%7E", "/a-~"),
        ("/slashed/%2B%3B%26%40%3A", "/+;&@:"),
        (
            "/slashed/%3f%23%22%5b%5D%7c%5e%5c%25",
            "/%3F%23%22%5B%5D%7C%5E%5C%25",
        ),
        ("/slashed/%252e%252E/", "/%252e%252E/"),
        ("/slashed/%c3%a9%ff", "/%C3%A9%FF"),
        ("/slashed/%0d%0aX-Injected:%201", "/%0D%0AX-Injected:%201"),
        ("/slashed/;jsessionid=1;a", "/;jsessionid=1;a"),
        ("/%73lashed/a", "/a"),
        // Dot segments are gone before anything is matched.
        ("/slashed/./a/../b", "/b"),
        ("/slashed/a/%2e%2e/b", "/b"),
        ("/slashed/a/.%2E/b/.", "/b/"),
        ("/other/../slashed/c", "/c"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    for target in ["/slashed", "/barer", "/Slashed/", "/bar", "/"] {
        assert_eq!(status(&proxy, target), 404, "for {target}");
    }
    backend.expect_untouched();
}

#[test]
fn the_first_mapping_that_matches_is_taken() {
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/b/ {}/\nProxyPass /a/ {}/\nProxyPass /a/b/c/ {}/never/",
        one.url(),
        two.url(),
        one.url()
    ));
    assert_eq!(asked(&proxy, &one, "/a/b/x"), "/x");
    assert_eq!(asked(&proxy, &two, "/a/x"), "/x");
    assert_eq!(asked(&proxy, &one, "/a/b/c/x"), "/c/x");
}

#[test]
fn what_is_excluded_is_not_mapped_by_what_comes_later() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/no !\nProxyPassMatch \\.php$ !\nProxyPass /a {url}/a\nProxyPass /b !\nProxyPass / {url}/rest/"
    ));
    for (target, expected) in [
        ("/a/yes", "/a/yes"),
        ("/a/nobody", "/a/nobody"),
        ("/c", "/rest/c"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    for target in [
        "/a/no", "/a/no/x", "/a//no", "/a/%6eo", "/b", "/a/x.php", "/x.ph%70",
    ] {
        assert_eq!(status(&proxy, target), 404, "for {target}");
    }
    backend.expect_untouched();
}

/// Reference 3.3.
#[test]
fn a_pattern_gives_what_it_captured_to_the_path_of_its_url() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPassMatch ^/(myApp/ws)$ {url}/$1\n\
         ProxyPassMatch ^/glued(.*)$ {url}$1\n\
         ProxyPassMatch ^/two/([^/]+)/(.+)$ {url}/base/$2/$1\n\
         ProxyPass ~ ^/tilde/(.*) {url}/~$1\n\
         ProxyPassMatch ^/whole {url}\n\
         ProxyPassMatch (?i)^/case/(x*) {url}/$1$2\n"
    ));
    for (target, expected) in [
        ("/myApp/ws", "/myApp/ws"),
        ("/myApp/ws?a=b&%20", "/myApp/ws?a=b&%20"),
        ("/my%41pp/ws", "/myApp/ws"),
        ("/two/a/b/c", "/base/b/c/a"),
        ("/two/%C3%A9%ff/%20", "/base/%20/%C3%A9%FF"),
        // What was captured never begins a query, and stays behind the host.
        ("/two/a%3Fb/c", "/base/c/a%3Fb"),
        ("/glued@other.example/", "/@other.example/"),
        ("/glued:99", "/:99"),
        ("/glued.other.example", "/.other.example"),
        ("/glued", "/"),
        ("/two/a%0d%0aX:%20y/b", "/base/b/a%0D%0AX:%20y"),
        ("/tilde/x", "/~x"),
        ("/whole/path", "/whole/path"),
        ("/CASE/xX", "/xX"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    for target in ["/myApp/ws/", "/myApp/wsx", "/x/myApp/ws", "/two/a"] {
        assert_eq!(status(&proxy, target), 404, "for {target}");
    }
    backend.expect_untouched();
}

#[test]
fn without_canonical_form_the_rest_goes_on_as_it_was_written() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "AllowEncodedSlashes NoDecode\nProxyPass /raw/ {url}/base/ nocanon\nProxyPass /canon/ {url}/base/\n\
         ProxyPassMatch ^/re/(.*) {url}/$1 nocanon"
    ));
    for (target, expected) in [
        ("/raw/a%2Fb%2bc%7e//d;e?f", "/base/a%2Fb%2bc%7e//d;e?f"),
        ("/canon/a%2Fb%2bc%7e//d;e?f", "/base/a%2Fb+c~/d;e?f"),
        ("/canon/%252F", "/base/%252F"),
        ("/re/%41%2f%252f", "/%41%2f%252f"),
        // Elsewhere than where the mapping was met: in canonical form.
        ("/raw/../raw/%41", "/base/A"),
        ("/raw/%2e%2E/raw/%41", "/base/A"),
        ("/%72aw/%41", "/base/A"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    assert_eq!(status(&proxy, "/raw/%00"), 404);
    backend.expect_untouched();
}

#[test]
fn encoded_slashes_are_refused_or_decoded_as_the_host_says() {
    let backend = Backend::listen();
    let url = backend.url();
    let config = |slashes: &str| {
        Proxy::start(format!(
            "AllowEncodedSlashes {slashes}\nProxyPass /a/ {url}/"
        ))
    };
    let refused = config("Off");
    assert_eq!(status(&refused, "/a/b%2Fc"), 404);
    let decoded = config("On");
    assert_eq!(asked(&decoded, &backend, "/a%2fb%2F..%2fc"), "/c");
    assert_eq!(status(&decoded, "/a%2f..%2f..%2f"), 400);
    assert_eq!(status(&decoded, "/a%2f..%2fb"), 404);
}

#[test]
fn a_location_has_settings_and_a_mapping_of_its_own() {
    let backend = Backend::listen();
    let other = Backend::listen();
    let (url, other_url) = (backend.url(), other.url());
    let proxy = Proxy::start(format!(
        "ProxyPass / {other_url}/list/\n\
         <Location /app>\nProxyPass {url}/one\nProxyPreserveHost On\n</Location>\n\
         <Location /app/deep/>\nProxyPreserveHost Off\nProxyAddHeaders Off\n</Location>\n\
         <Location /app/none>\nProxyPass !\n</Location>\n\
         <Location /wild/*/x>\nProxyAddHeaders Off\n</Location>\n\
         <LocationMatch ^/m/([0-9]+)$>\nProxyPass {url}/$1\n</LocationMatch>\n\
         <Location ~ ^/t/(.*)>\nProxyPassMatch {url}/t$1\n</Location>\n"
    ));
    for (target, expected) in [
        ("/app", "/one"),
        ("/app/x", "/one/x"),
        ("/app/deep/x", "/one/deep/x"),
        ("/m/17", "/17"),
        ("/t/x", "/tx"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    for (target, expected) in [("/apple", "/list/apple"), ("/m/x", "/list/m/x")] {
        assert_eq!(asked(&proxy, &other, target), expected, "for {target}");
    }
    assert_eq!(status(&proxy, "/app/none/x"), 404);
    for (target, at, keeps_host, adds) in [
        ("/app/x", &backend, true, true),
        ("/app/deep/x", &backend, false, false),
        ("/wild/a/x", &other, false, false),
        ("/wild/a/b/x", &other, false, true),
    ] {
        let mut client = Client::asking(&proxy, target);
        let mut peer = at.accept();
        let head = peer.head();
        assert_eq!(
            head.contains("\r\nHost: front.example\r\n"),
            keeps_host,
            "{target}: {head}"
        );
        assert_eq!(
            head.contains("\r\nX-Forwarded-For: "),
            adds,
            "{target}: {head}"
        );
        peer.send(switch());
        client.switched();
    }
}

#[test]
fn a_virtual_host_has_the_main_server_s_locations_before_its_own() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "<Location /both>\nProxyPass {url}/main\n</Location>\n\
         <VirtualHost *>\nServerName own.example\n<Location /both>\nProxyPass {url}/own\n</Location>\n\
         <Location /only>\nProxyPass {url}/only\n</Location>\n</VirtualHost>\n"
    ));
    assert_eq!(asked(&proxy, &backend, "/both"), "/own");
    assert_eq!(asked(&proxy, &backend, "/only"), "/only");
}

/// `/ws/` onto a URL without a path would glue the client's words onto the host name.
#[test]
fn no_request_reaches_scheme_host_or_port_of_a_url() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /glued/ {}\nProxyPass /bare {}\n",
        backend.url(),
        backend.url()
    ));
    for (target, expected) in [
        ("/glued/a", "/a"),
        ("/glued/", "/"),
        ("/glued/@other.example/", "/@other.example/"),
        ("/glued/:99/", "/:99/"),
        ("/glued/unix:/tmp/x|ws://h/", "/unix:/tmp/x%7Cws://h/"),
        ("/bare", "/"),
        ("/bare/a", "/a"),
    ] {
        let mut client = Client::asking(&proxy, target);
        let mut peer = backend.accept();
        let head = peer.head();
        let expected = expected.replace("ws://h/", "ws:/h/");
        assert!(
            head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")),
            "{target}: {head}"
        );
        let host = format!("\r\nHost: {}\r\n", backend.address());
        assert!(head.contains(&host), "{target}: {head}");
        peer.send(switch());
        client.switched();
    }
    // httpd: the prefix ends within a segment.
    assert_eq!(status(&proxy, "/bare@other.example/"), 404);
    assert_eq!(status(&proxy, "/bare:99/"), 404);
}

/// A query is never decoded, so what must not stand in a request line has no business there (reference 3.6).
#[test]
fn nothing_gets_into_the_request_line_of_the_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    for target in [
        "/ws/?a\tb",
        "/ws/?a\x0bb",
        "/ws/?a\x7fb",
        "/ws/\x7f",
        "/ws/\x01",
    ] {
        let mut client = Client::asking(&proxy, target);
        let status = client.answer().status;
        assert!(matches!(status, 400 | 403), "{status} for {target:?}");
    }
    backend.expect_untouched();
}

#[test]
fn a_virtual_host_is_chosen_by_name_and_else_the_first_of_its_address() {
    let main = Backend::listen();
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "ServerName main.example\nProxyPass /main/ {}/\n\
         <VirtualHost *:*>\nServerName one.example\nProxyPass /ws/ {}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nServerAlias *.two.example\nProxyPass /ws/ {}/\n</VirtualHost>\n",
        main.url(),
        one.url(),
        two.url()
    ));
    for (host, backend) in [
        ("one.example", &one),
        ("ONE.example:8080", &one),
        ("two.example", &two),
        ("deep.two.example", &two),
        ("unknown.example", &one),
    ] {
        let text = request("/ws/").replace("front.example", host);
        let mut client = Client::sending(&proxy, text);
        let mut peer = backend.accept();
        let head = peer.head();
        let server = if std::ptr::eq(backend, &one) {
            "one"
        } else {
            "two"
        };
        let field = format!("X-Forwarded-Server: {server}.example\r\n");
        assert!(head.contains(&field), "{host}: {head}");
        peer.send(switch());
        client.switched();
    }
}

#[test]
fn a_host_in_the_target_overrides_the_host_field() {
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "<VirtualHost *:*>\nServerName one.example\nProxyPass /ws/ {}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nProxyPreserveHost On\nProxyPass /ws/ {}/\n</VirtualHost>\n",
        one.url(),
        two.url()
    ));
    let text = request("http://two.example/ws/x").replace("front.example", "one.example");
    let mut client = Client::sending(&proxy, text);
    let mut peer = two.accept();
    let head = peer.head();
    assert!(
        head.starts_with("GET /x HTTP/1.1\r\nHost: two.example\r\n"),
        "{head}"
    );
    peer.send(switch());
    client.switched();
    one.expect_untouched();
}

/// What a variable holds has not been brought into a canonical form.
#[test]
fn no_variable_climbs_out_of_the_url() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPassInterpolateEnv On\nRewriteEngine On\nRewriteRule ^ - [E=room:%{{HTTP:Room}}]\n\
         ProxyPass / {url}/rooms/${{room}}/ interpolate"
    ));
    for room in ["..", ".", "../../private", "a/.."] {
        let head = request_with("/x", &format!("Room: {room}\r\n"));
        Client::sending(&proxy, head).answer().expect_status(403);
    }
    backend.expect_untouched();
}

/// Reference 3.5.
#[test]
fn interpolate_puts_variables_of_the_request_into_the_path_of_the_url() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPassInterpolateEnv On\nRewriteEngine On\nRewriteRule ^/(?:a|m)/([^/]+)/ - [E=room:$1]\n\
         ProxyPass /a/ {url}/rooms/${{room}}/${{none}} interpolate\nProxyPass /b/ {url}/${{room}}/\n\
         ProxyPassMatch ^/m/[^/]+/(.*) {url}/${{room}}/$1 interpolate\n\
         <Location /c/>\nProxyPassInterpolateEnv Off\nProxyPass {url}/${{room}}/ interpolate\n</Location>\n\
         RewriteRule ^/(?:raw|rawm)/(.+) - [E=rest:$1]\n\
         ProxyPass /raw/ {url}/${{rest}}/ interpolate nocanon\n\
         ProxyPassMatch ^/rawm/(.*) {url}/${{rest}}/$1 interpolate nocanon\n"
    ));
    for (target, expected) in [
        ("/a/x/y", "/rooms/x/x/y"),
        ("/a/a%20b%3F/y?q", "/rooms/a%20b%3F/a%20b%3F/y?q"),
        ("/m/r/s", "/r/s"),
        ("/b/y", "/$%7Broom%7D/y"),
        ("/c/y", "/$%7Broom%7D/y"),
        // A variable is decoded; what nocanon leaves alone is as the client wrote it.
        ("/raw/%41%3f", "/A%3F/%41%3f"),
        ("/rawm/%41%3f", "/A%3F/%41%3f"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
}
