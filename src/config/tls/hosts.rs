//! Which hosts speak TLS, and whether those of one address can be told apart. Source: httpd ssl_engine_init.c.

use super::{Draft, ListenerTls};
use crate::config::draft::{HostDraft, Hosted};
use crate::config::findings::{Findings, Origin};
use crate::config::{HostAddress, Listen, ListenProtocol};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A host, the main server among them.
struct Host<'a> {
    draft: &'a Draft,
    /// None: the main server, which serves all that nobody else does.
    addresses: Option<&'a [HostAddress]>,
    origin: &'a Origin,
    /// Whether a listener that is meant for TLS leads to it.
    is_at_https: Cell<bool>,
}

impl Host<'_> {
    fn is_secure(&self) -> bool {
        match &self.draft.engine {
            Some((on, _)) => *on,
            None => self.is_at_https.get() && self.draft.certificate().is_some(),
        }
    }
}

/// Addresses of one listener that the same hosts serve.
struct Place<'a> {
    listen: &'a Listen,
    /// None: all that no host names.
    address: Option<IpAddr>,
    /// At least one; the first is taken as long as no name is known.
    hosts: Vec<&'a Host<'a>>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.listen.port).fmt(f),
            None => self.listen.fmt(f),
        }
    }
}

/// What each host does, the main server first.
pub(in crate::config) fn resolve(
    listen: &[Listen],
    main: (&HostDraft, &Origin),
    hosts: &[Hosted],
    findings: &mut Findings,
) -> Vec<Option<ListenerTls>> {
    let (main, whole) = main;
    let host = |draft, addresses, origin| Host {
        draft,
        addresses,
        origin,
        is_at_https: Cell::new(false),
    };
    let virtual_hosts = hosts
        .iter()
        .map(|(draft, addresses, origin)| host(&draft.tls, Some(&**addresses), origin));
    let hosts: Vec<Host<'_>> = std::iter::once(host(&main.tls, None, whole))
        .chain(virtual_hosts)
        .collect();
    let places: Vec<Place<'_>> = listen
        .iter()
        .flat_map(|listen| places(listen, &hosts))
        .collect();
    for place in places.iter().filter(|place| place.listen.is_https()) {
        place
            .hosts
            .iter()
            .for_each(|host| host.is_at_https.set(true));
    }
    for place in &places {
        first(place, &places, findings);
        others(place, findings);
    }
    without_effect(&hosts, findings);
    hosts
        .iter()
        .map(|host| {
            host.draft.check(findings);
            if !host.is_secure() {
                return None;
            }
            if let (Some((_, at)), true) = (&host.draft.engine, host.draft.certificate().is_none()) {
                let problem = "there is no certificate; write SSLCertificateFile with the path of a PEM file, and \
                               SSLCertificateKeyFile with that of its key";
                findings.error(at, "SSLEngine", problem);
            }
            Some(host.draft.finish(findings))
        })
        .collect()
}

/// The addresses of a listener, by who serves them.
fn places<'a>(listen: &'a Listen, hosts: &'a [Host<'a>]) -> Vec<Place<'a>> {
    let fits_port = |own: &HostAddress| own.port.is_none_or(|port| port == listen.port);
    let named = hosts
        .iter()
        .flat_map(|host| host.addresses.unwrap_or_default())
        .filter(|own| fits_port(own))
        .filter_map(|own| own.address);
    let mut addresses: Vec<Option<IpAddr>> = match listen.address {
        Some(address) if !address.is_unspecified() => vec![Some(address.to_canonical())],
        all => {
            // Without an address, and with that of IPv6, both families are bound.
            let is_bound =
                |named: &IpAddr| !all.is_some_and(|all| all.is_ipv4()) || named.is_ipv4();
            named.filter(is_bound).map(Some).chain([None]).collect()
        }
    };
    addresses.sort_unstable();
    addresses.dedup();
    let place = |address: Option<IpAddr>| {
        // As `Config::host_for` chooses.
        let fit = |host: &Host<'_>| {
            let own = host.addresses.unwrap_or_default().iter();
            own.filter(|own| fits_port(own))
                .filter(|own| own.address.is_none() || own.address == address)
                .map(|own| (own.address.is_some(), own.port.is_some()))
                .max()
        };
        let best = hosts.iter().filter_map(fit).max();
        // Nobody else: the main server, which has no addresses.
        let hosts = hosts
            .iter()
            .filter(|host| fit(host) == best && (best.is_some() || host.addresses.is_none()));
        Place {
            listen,
            address,
            hosts: hosts.collect(),
        }
    };
    addresses.into_iter().map(place).collect()
}

/// Whether the listener and the first host behind it mean the same.
fn first(place: &Place<'_>, places: &[Place<'_>], findings: &mut Findings) {
    let Some(first) = place.hosts.first() else {
        return;
    };
    let Place { listen, .. } = place;
    let is_wanted = listen.protocol == ListenProtocol::Https;
    let who = match first.addresses {
        Some(_) => format!("the first host of {place}, at {},", first.origin),
        None => "the main server, which serves what no virtual host does,".to_owned(),
    };
    if first.is_secure() {
        // Whoever writes SSLEngine On knows that it holds for all ports of the host.
        let is_doubtful = listen.protocol == ListenProtocol::Http || first.draft.engine.is_none();
        if is_doubtful && !listen.is_https() {
            let text = format!(
                "{who} speaks TLS here as well, and answers plain HTTP with 400; give each port a <VirtualHost> of its own"
            );
            findings.warning(&listen.origin, "Listen", text);
        }
        return;
    }
    if !is_wanted {
        return;
    }
    let is_secure_elsewhere = || {
        let same = places
            .iter()
            .filter(|other| std::ptr::eq(other.listen, *listen));
        let mut hosts = same.filter_map(|other| other.hosts.first());
        hosts.any(|host| host.is_secure())
    };
    if let Some((_, off)) = &first.draft.engine {
        let text =
            format!("https: {who} speaks plain HTTP, since \"SSLEngine Off\" stands at {off}");
        findings.warning(&listen.origin, "Listen", text);
    } else if first.addresses.is_none() && place.address.is_none() && is_secure_elsewhere() {
        let text = format!("https: {who} has no certificate and speaks plain HTTP");
        findings.warning(&listen.origin, "Listen", text);
    } else {
        let problem = format!(
            "https: {who} has no certificate; write SSLCertificateFile and SSLCertificateKeyFile into it"
        );
        findings.error(&listen.origin, "Listen", problem);
    }
}

/// Whether hosts of one address can all be reached: it is the first that clients speak to as long as no name is known.
fn others(place: &Place<'_>, findings: &mut Findings) {
    let [first, others @ ..] = place.hosts.as_slice() else {
        return;
    };
    let speaks = |is_secure| if is_secure { "TLS" } else { "plain HTTP" };
    for host in others
        .iter()
        .filter(|host| host.is_secure() != first.is_secure())
    {
        let text = format!(
            "the first host of the same address, at {}, speaks {} and this one {}, so that its requests are answered with \
             421; let both speak TLS, or neither, or give this one another port",
            first.origin,
            speaks(first.is_secure()),
            speaks(host.is_secure()),
        );
        findings.warning(host.origin, "<VirtualHost>", text);
    }
    // httpd: answers 403 for such a host alone, in each request.
    for host in others.iter().filter(|host| host.is_secure()) {
        if host.draft.is_strict && !first.draft.is_strict {
            let text = format!(
                "\"SSLStrictSNIVHostCheck On\" has no effect in this host; write it into the first of the address, at {}, \
                 or outside of all",
                first.origin
            );
            findings.warning(host.origin, "<VirtualHost>", text);
        }
    }
}

/// Lines that somebody relies on where no TLS is spoken.
fn without_effect(hosts: &[Host<'_>], findings: &mut Findings) {
    let secure = || hosts.iter().filter(|host| host.is_secure());
    let certificate = |host: &Host<'_>| host.draft.certificate().cloned();
    let client = |host: &Host<'_>| Some(host.draft.client.as_ref()?.1.clone());
    let shown: HashSet<Origin> = secure().filter_map(certificate).collect();
    let asked: HashSet<Origin> = secure().filter_map(client).collect();
    for host in hosts {
        if let Some(at) = certificate(host).filter(|at| !shown.contains(at))
            && host.draft.engine.is_none()
        {
            let text = "it has no effect: there is no TLS here; write SSLEngine On, or https behind the port in Listen";
            findings.warning(&at, "SSLCertificateFile", text);
        }
        if let Some(at) = client(host).filter(|at| !asked.contains(at)) {
            let text = "it has no effect: there is no TLS here, so that clients show no certificates; write SSLEngine On";
            findings.warning(&at, "SSLVerifyClient", text);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests {
    use crate::config::tests::Fake;
    use crate::config::{Config, Sources, load};
    use std::path::{Path, PathBuf};

    const FILES: &[(&str, &str)] = &[
        ("/k/a.pem", "-----BEGIN CERTIFICATE-----"),
        ("/k/b.pem", "-----BEGIN CERTIFICATE-----"),
        ("/k/a.key", "-----BEGIN RSA PRIVATE KEY-----"),
        ("/k/b.key", "-----BEGIN EC PRIVATE KEY-----"),
        (
            "/k/both.pem",
            "-----BEGIN PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----",
        ),
    ];

    fn config(text: &str) -> Config {
        let text = format!("ServerRoot /k\nProxyPass / ws://b/\n{text}");
        let sources = Sources {
            file: Some("test.conf".into()),
            ..Sources::default()
        };
        let mut files = Fake::with(FILES);
        files.files.insert("test.conf".into(), text.into_bytes());
        load(&sources, &files).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// Whether the main server speaks TLS, then each virtual host.
    fn secure(text: &str) -> Vec<bool> {
        config(text)
            .hosts()
            .map(|host| host.tls.is_some())
            .collect()
    }

    /// Certificates and keys of each host.
    fn shown(text: &str) -> Vec<Vec<(PathBuf, PathBuf)>> {
        let config = config(text);
        let of = |host: &crate::config::VirtualHost| {
            let certificates = host.tls.iter().flat_map(|tls| &tls.certificates);
            let shown = certificates.map(|own| (own.file.path.clone(), own.key.path.clone()));
            shown.collect()
        };
        config.hosts().map(|host| of(host)).collect()
    }

    fn pair(certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        let path = |name| Path::new("/k").join(name);
        (path(certificate), path(key))
    }

    #[test]
    fn tls_is_on_where_it_is_said_or_where_a_listener_and_a_certificate_say_so() {
        for (text, expected) in [
            ("Listen 443", &[false][..]),
            ("Listen 80\nSSLCertificateFile both.pem", &[false]),
            ("Listen 443\nSSLCertificateFile both.pem", &[true]),
            ("Listen 443 http\nSSLCertificateFile both.pem", &[false]),
            ("Listen 1 https\nSSLCertificateFile both.pem", &[true]),
            ("Listen 0 https\nSSLCertificateFile both.pem", &[true]),
            (
                "Listen 80\nSSLEngine On\nSSLCertificateFile both.pem",
                &[true],
            ),
            (
                "Listen 443\nSSLEngine Off\nSSLCertificateFile both.pem",
                &[false],
            ),
            (
                "Listen 80\nListen 443\nSSLCertificateFile both.pem\n\
                 <VirtualHost *:80>\n</VirtualHost>\n<VirtualHost *:443>\n</VirtualHost>\n\
                 <VirtualHost *:443>\nSSLEngine Off\n</VirtualHost>",
                // Nothing is left of the addresses for the main server.
                &[false, false, true, false],
            ),
            (
                "Listen 443\n<VirtualHost 192.0.2.1>\nSSLCertificateFile both.pem\n</VirtualHost>\n\
                 <VirtualHost *:443>\nSSLCertificateFile both.pem\n</VirtualHost>\n\
                 <VirtualHost [::1]:444>\nSSLCertificateFile both.pem\n</VirtualHost>",
                &[false, true, true, false],
            ),
            (
                "Listen 0.0.0.0:443\n<VirtualHost [::1]:443>\nSSLCertificateFile both.pem\n</VirtualHost>",
                &[false, false],
            ),
            (
                "Listen 80\nSSLEngine On\nSSLCertificateFile both.pem\n<VirtualHost *:80>\n</VirtualHost>",
                &[true, true],
            ),
        ] {
            assert_eq!(secure(text), expected, "{text}");
        }
    }

    #[test]
    fn certificates_and_keys_belong_together_in_their_order() {
        let text = "Listen 443\nSSLCertificateKeyFile a.key\nSSLCertificateFile a.pem\nSSLCertificateFile b.pem\n\
                    SSLCertificateKeyFile b.key\nSSLCertificateFile both.pem";
        let expected = [
            pair("a.pem", "a.key"),
            pair("b.pem", "b.key"),
            pair("both.pem", "both.pem"),
        ];
        assert_eq!(shown(text), [expected]);
    }

    #[test]
    fn a_certificate_of_its_own_replaces_all_of_the_main_server() {
        let text = "SSLEngine On\nListen 1\nListen 2\nSSLCertificateFile a.pem\nSSLCertificateKeyFile a.key\n\
                    SSLCertificateFile b.pem\nSSLCertificateKeyFile b.key\n\
                    <VirtualHost *:1>\nSSLCertificateKeyFile b.key\nSSLCertificateFile b.pem\n</VirtualHost>\n\
                    <VirtualHost *:2>\nSSLCertificateFile both.pem\n</VirtualHost>";
        let [main, first, second] = &*shown(text) else {
            panic!("three hosts");
        };
        assert_eq!(main.len(), 2);
        assert_eq!(*first, [pair("b.pem", "b.key")]);
        assert_eq!(*second, [pair("both.pem", "both.pem")]);
    }

    #[test]
    fn everything_else_is_inherited_line_by_line() {
        let config = config(
            "Listen 443\nSSLCertificateFile both.pem\nSSLProtocol TLSv1.3\nSSLCipherSuite HIGH\n\
             SSLCipherSuite TLSv1.3 TLS_AES_128_GCM_SHA256\nSSLOpenSSLConfCmd Curves P-256\nSSLVerifyDepth 3\n\
             SSLCertificateChainFile b.pem\nSSLCACertificateFile a.pem\n\
             <VirtualHost *:443>\nSSLHonorCipherOrder On\nSSLVerifyClient optional\nSSLSessionTickets Off\n\
             SSLCipherSuite PROFILE=SYSTEM\nSSLStrictSNIVHostCheck On\n</VirtualHost>\n\
             <VirtualHost *:443>\nSSLVerifyClient require\nSSLVerifyDepth 1\nSSLCACertificateFile b.pem\n</VirtualHost>",
        );
        let tls = |host: usize| config.virtual_hosts[host].tls.as_ref().unwrap();
        let (first, second) = (tls(0), tls(1));
        assert_eq!(first.policy.protocols.to_string(), "TLSv1.3");
        assert_eq!(first.policy.ciphers, None);
        assert_eq!(
            second.policy.ciphers.as_deref(),
            Some("HIGH:!aNULL:!eNULL:!EXP")
        );
        assert_eq!(
            first.policy.suites.as_deref(),
            Some("TLS_AES_128_GCM_SHA256")
        );
        assert_eq!(first.policy.groups.as_deref(), Some("P-256"));
        assert_eq!(
            first.chain.as_ref().map(|chain| chain.path.as_path()),
            Some(Path::new("/k/b.pem"))
        );
        for (tls, is_own) in [(first, true), (second, false)] {
            assert_eq!(tls.policy.prefers_own_order, is_own);
            assert_eq!(tls.tickets, !is_own);
            assert_eq!(tls.is_strict, is_own);
        }
        let client = |host: usize| {
            let client = tls(host).policy.client.as_ref().unwrap();
            let authorities = client.authorities.path.display().to_string();
            (client.is_required, client.depth, authorities)
        };
        assert_eq!(client(0), (false, 2, "/k/a.pem".to_owned()));
        assert_eq!(client(1), (true, 0, "/k/b.pem".to_owned()));
    }

    #[test]
    fn the_summary_shows_what_clients_see() {
        let config = config(
            "Listen 80 https\nSSLCertificateFile a.pem\nSSLCertificateKeyFile a.key\nSSLCertificateChainFile b.pem\n\
             SSLCipherSuite HIGH\nSSLVerifyClient require\nSSLCACertificateFile b.pem\nSSLStrictSNIVHostCheck On\n\
             RequestReadTimeout handshake=5\n",
        );
        let summary = config.summary();
        for line in [
            "  *:80 https  [test.conf:3]",
            "  TLS TLSv1.2 to TLSv1.3, handshake within 5s, tickets On, own order Off, no client without a name",
            "  ciphers HIGH:!aNULL:!eNULL:!EXP",
            "  certificates of clients required, by /k/b.pem, at most 0 between",
            "  certificate /k/a.pem, key /k/a.key  [test.conf:4]",
            "  certificate chain /k/b.pem",
        ] {
            assert!(summary.lines().any(|l| l == line), "{line}\n{summary}");
        }
    }
}
