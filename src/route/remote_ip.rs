//! Who the client is, where other proxies stand before this one: httpd mod_remoteip.
//!
//! Each proxy has added the address that it was called from to a list in a header field. The list is read from its end:
//! an element is believed if the one behind it, or at last the connection itself, is a proxy that we trust. What a client
//! wrote there itself is in front of that, and never believed.

use super::edit;
use crate::http::headers::Headers;
use crate::http::network::Network;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How far a proxy is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// `RemoteIPInternalProxy`: in all that it says.
    Internal,
    /// `RemoteIPTrustedProxy`: except for addresses that nobody on the internet can have.
    External,
}

/// What is set for a virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIp {
    header: String,
    proxies_header: Option<String>,
    /// The first that fits counts.
    proxies: Vec<(Network, Trust)>,
}

/// What a request says, as far as it is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The client: the other end of the connection, or an address that proxies have named. Its port is that of the
    /// connection in both cases.
    pub client: SocketAddr,
    /// The elements in front of that one, which nobody vouches for; as they were written, and joined.
    pub remaining: Option<Vec<u8>>,
    /// The proxies that vouched for it and are not internal ones, the nearest first.
    pub proxies: Vec<IpAddr>,
}

impl RemoteIp {
    /// What `RemoteIPHeader`, `RemoteIPProxiesHeader` and the four lists of proxies say together.
    ///
    /// # Errors
    /// There is no proxy: a sentence that says what to write.
    // httpd: without a list every client is trusted, and so can pass for any other on the internet.
    pub fn new(
        header: String,
        proxies_header: Option<String>,
        proxies: Vec<(Network, Trust)>,
    ) -> Result<Self, String> {
        if proxies.is_empty() {
            return Err(format!(
                "{header} is believed only if a trusted proxy has written it, and no proxy is trusted; name those in front \
                 of this server with RemoteIPInternalProxy or RemoteIPTrustedProxy"
            ));
        }
        Ok(Self {
            header,
            proxies_header,
            proxies,
        })
    }

    /// Finds the client of a request that came from `peer`.
    #[inline(never)]
    pub fn client(&self, peer: SocketAddr, headers: &Headers) -> Found {
        let mut found = Found {
            client: peer,
            remaining: None,
            proxies: Vec::new(),
        };
        let fields: Vec<_> = headers.all(&self.header).collect();
        let list = fields.join(&b", "[..]);
        let mut rest = Some(list.as_slice());
        let mut trust = Trust::Internal;
        while let Some(list) = rest {
            let claimant = found.client.ip();
            let known = self
                .proxies
                .iter()
                .find(|(network, _)| network.contains(claimant));
            let Some((_, own)) = known else {
                break;
            };
            // What an external proxy calls an internal one can be anybody.
            if trust == Trust::Internal {
                trust = *own;
            }
            let (before, element) = split_last(list);
            let Some(address) = parse(element) else {
                break;
            };
            if trust == Trust::External {
                if !is_public(address) {
                    break;
                }
                found.proxies.push(claimant.to_canonical());
            }
            found.client.set_ip(address);
            rest = before;
        }
        found.remaining = rest
            .map(<[u8]>::trim_ascii)
            .filter(|list| !list.is_empty())
            .map(<[u8]>::to_vec);
        found
    }

    /// Leaves in a request's fields what is not used up, so that the backend sees each address once: the client's own comes
    /// back by `X-Forwarded-For`. Nothing changes where no proxy was believed.
    pub fn rewrite(&self, found: &Found, peer: SocketAddr, headers: &mut Headers) {
        if found.client == peer {
            return;
        }
        match &found.remaining {
            Some(list) => headers.set(&self.header, list),
            None => headers.remove(&self.header),
        }
        if let Some(name) = self.proxies_header.as_ref()
            && !found.proxies.is_empty()
        {
            let proxies: Vec<_> = found.proxies.iter().map(IpAddr::to_string).collect();
            headers.set(name, proxies.join(", ").as_bytes());
        }
    }
}

impl fmt::Display for RemoteIp {
    /// `X-Forwarded-For, believed from 10.0.0.0/8, 192.0.2.1 (not for private addresses)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.header)?;
        for (place, (network, trust)) in self.proxies.iter().enumerate() {
            let before = if place == 0 { ", believed from" } else { "," };
            write!(f, "{before} {network}")?;
            if *trust == Trust::External {
                f.write_str(" (not for private addresses)")?;
            }
        }
        Ok(())
    }
}

/// The name of a field for `RemoteIPHeader` or `RemoteIPProxiesHeader`.
///
/// # Errors
/// No name, or that of a field which must not be changed on its way.
pub fn field_name(text: &str) -> Result<String, String> {
    edit::check_name(edit::Target::Request, text)?;
    if text.eq_ignore_ascii_case("Host") {
        return Err(
            "Host names a server; expected a field that lists addresses, such as X-Forwarded-For"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// The networks in a file of `RemoteIPInternalProxyList` or `RemoteIPTrustedProxyList`: separated by blanks and line ends,
/// with comments behind `#`.
///
/// # Errors
/// Each word that is no network, with the number of its line.
pub fn parse_list(text: &str) -> Result<Vec<Network>, Vec<(usize, String)>> {
    let mut networks = Vec::new();
    let mut problems = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let words = line.split_ascii_whitespace();
        for word in words.take_while(|word| !word.starts_with('#')) {
            match Network::parse(word.trim_matches('"')) {
                Ok(network) => networks.push(network),
                Err(problem) => problems.push((number, problem)),
            }
        }
    }
    if problems.is_empty() {
        Ok(networks)
    } else {
        Err(problems)
    }
}

/// The last element of a list, and what is before its comma.
fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match list.iter().rposition(|byte| *byte == b',') {
        Some(comma) => {
            let (before, behind) = list.split_at(comma);
            (Some(before), behind.strip_prefix(b",").unwrap_or(behind))
        }
        None => (None, list),
    }
}

/// An address and nothing else. A port or brackets end the walk, as in httpd.
// httpd: asks the resolver, which takes names, and numbers such as 2130706433.
fn parse(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

/// Whether an address can come from the internet, by the list of mod_remoteip.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_private() || address.is_loopback() || address.is_link_local())
        }
        // 2000::/3, the only part that is given out (RFC 4291 section 2.4).
        IpAddr::V6(address) => address
            .segments()
            .first()
            .is_some_and(|first| first >> 13 == 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn sample() -> RemoteIp {
        let proxies = [
            ("127.0.0.1", Trust::Internal),
            ("10.0.0.0/8", Trust::Internal),
            ("192.0.2.0/24", Trust::External),
            ("198.51.100.1", Trust::External),
            ("2001:db8::/32", Trust::External),
        ];
        let proxies = proxies.map(|(text, trust)| (Network::parse(text).unwrap(), trust));
        let by = Some("X-By".to_owned());
        RemoteIp::new("X-Forwarded-For".to_owned(), by, proxies.to_vec()).unwrap()
    }

    fn request(lists: &[&str]) -> Headers {
        let mut headers = Headers::default();
        headers.push("Host", b"a");
        headers.push("X-By", b"forged");
        for list in lists {
            headers.push("x-forwarded-for", list.as_bytes());
        }
        headers
    }

    /// The client, what remains, and the proxies: by the result, and by the fields that the backend gets.
    fn found(peer: &str, lists: &[&str]) -> String {
        let remote_ip = sample();
        let mut headers = request(lists);
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        let found = remote_ip.client(peer, &headers);
        assert_eq!(found.client.port(), 4711);
        remote_ip.rewrite(&found, peer, &mut headers);
        let written = |name| {
            let all: Vec<_> = headers.all(name).map(String::from_utf8_lossy).collect();
            all.join("; ")
        };
        format!(
            "{} [{}] {}",
            found.client.ip(),
            written("X-Forwarded-For"),
            written("X-By")
        )
    }

    #[test]
    fn the_list_is_walked_from_its_end_as_far_as_proxies_are_trusted() {
        for (peer, lists, expected) in [
            // The peer is no proxy: nothing is believed.
            (
                "203.0.113.9",
                &["9.9.9.9"][..],
                "203.0.113.9 [9.9.9.9] forged",
            ),
            ("127.0.0.1", &[], "127.0.0.1 [] forged"),
            ("127.0.0.1", &["9.9.9.9"], "9.9.9.9 [] forged"),
            (
                "127.0.0.1",
                &["8.8.8.8, 9.9.9.9"],
                "9.9.9.9 [8.8.8.8] forged",
            ),
            (
                "127.0.0.1",
                &["9.9.9.9, 8.8.8.8, 192.0.2.5"],
                "8.8.8.8 [9.9.9.9] 192.0.2.5",
            ),
            (
                "198.51.100.1",
                &["9.9.9.9, 192.0.2.5"],
                "9.9.9.9 [] 198.51.100.1, 192.0.2.5",
            ),
            // Repeated fields are one list.
            (
                "127.0.0.1",
                &["8.8.8.8", "192.0.2.1"],
                "8.8.8.8 [] 192.0.2.1",
            ),
            (
                "127.0.0.1",
                &["7.7.7.7,8.8.8.8", "1.1.1.1"],
                "1.1.1.1 [7.7.7.7,8.8.8.8] forged",
            ),
            (
                "127.0.0.1",
                &["foo,   192.0.2.1,198.51.100.1"],
                "192.0.2.1 [foo] 198.51.100.1",
            ),
            // An internal proxy may name private addresses, an external one may not.
            ("127.0.0.1", &["10.1.1.1"], "10.1.1.1 [] forged"),
            (
                "127.0.0.1",
                &["172.16.0.1, 10.1.1.1"],
                "172.16.0.1 [] forged",
            ),
            ("192.0.2.7", &["10.1.1.1"], "192.0.2.7 [10.1.1.1] forged"),
            (
                "127.0.0.1",
                &["9.9.9.9, 10.1.1.1, 192.0.2.5"],
                "192.0.2.5 [9.9.9.9, 10.1.1.1] forged",
            ),
            // IPv6, and IPv4 within it.
            (
                "127.0.0.1",
                &["9.9.9.9, 2001:db8::1"],
                "9.9.9.9 [] 2001:db8::1",
            ),
            ("::ffff:127.0.0.1", &["::ffff:9.9.9.9"], "9.9.9.9 [] forged"),
            ("2001:db8::1", &["fe80::1"], "2001:db8::1 [fe80::1] forged"),
            ("2001:db8::1", &["fd00::1"], "2001:db8::1 [fd00::1] forged"),
            ("2001:db8::1", &["::1"], "2001:db8::1 [::1] forged"),
            ("2001:db8::1", &["2600::1"], "2600::1 [] 2001:db8::1"),
            // What is no address ends the walk.
            ("127.0.0.1", &["9.9.9.9,"], "127.0.0.1 [9.9.9.9,] forged"),
            (
                "127.0.0.1",
                &["9.9.9.9,, 8.8.8.8"],
                "8.8.8.8 [9.9.9.9,] forged",
            ),
            ("127.0.0.1", &[", 192.0.2.5"], "192.0.2.5 [] forged"),
            ("127.0.0.1", &[""], "127.0.0.1 [] forged"),
            ("127.0.0.1", &["unknown"], "127.0.0.1 [unknown] forged"),
            (
                "127.0.0.1",
                &["9.9.9.9:80"],
                "127.0.0.1 [9.9.9.9:80] forged",
            ),
            ("127.0.0.1", &["[2600::1]"], "127.0.0.1 [[2600::1]] forged"),
            (
                "127.0.0.1",
                &["2130706433"],
                "127.0.0.1 [2130706433] forged",
            ),
            ("127.0.0.1", &["127.1"], "127.0.0.1 [127.1] forged"),
            (
                "127.0.0.1",
                &["\"9.9.9.9\""],
                "127.0.0.1 [\"9.9.9.9\"] forged",
            ),
            (
                "127.0.0.1",
                &[" 8.8.8.8 ,\t9.9.9.9 "],
                "9.9.9.9 [8.8.8.8] forged",
            ),
        ] {
            assert_eq!(found(peer, lists), expected, "{peer} {lists:?}");
        }
    }

    #[test]
    fn an_external_proxy_cannot_make_an_internal_one() {
        let lists = ["10.9.9.9, 203.0.113.1, 192.0.2.5"];
        let mut remote_ip = sample();
        remote_ip
            .proxies
            .push((Network::parse("203.0.113.1").unwrap(), Trust::Internal));
        let peer = "127.0.0.1:1".parse().unwrap();
        let found = remote_ip.client(peer, &request(&lists));
        // Named by an internal proxy it would be believed.
        assert_eq!(found.client.ip(), IpAddr::from([203, 0, 113, 1]));
        assert_eq!(found.proxies, [IpAddr::from([192, 0, 2, 5])]);
        let found = remote_ip.client(peer, &request(&["10.9.9.9, 203.0.113.1"]));
        assert_eq!(found.client.ip(), IpAddr::from([10, 9, 9, 9]));
    }

    #[test]
    fn the_edges_of_private_networks() {
        for (text, expected) in [
            ("10.0.0.0", false),
            ("11.0.0.0", true),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.167.255.255", true),
            ("192.168.0.0", false),
            ("169.254.0.1", false),
            ("127.255.255.255", false),
            ("1fff::", false),
            ("2000::", true),
            ("3fff:ffff::", true),
            ("4000::", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn somebody_has_to_be_trusted() {
        let problem = RemoteIp::new("X-Real-IP".to_owned(), None, Vec::new()).unwrap_err();
        assert!(
            problem.contains("X-Real-IP is believed only if"),
            "{problem}"
        );
        assert!(problem.contains("RemoteIPInternalProxy"), "{problem}");
    }

    #[test]
    fn the_field_is_one_that_may_change_on_its_way() {
        assert_eq!(
            field_name("X-Forwarded-For"),
            Ok("X-Forwarded-For".to_owned())
        );
        for (name, problem) in [
            ("", "is not the name of a header field"),
            ("a b", "is not the name of a header field"),
            ("Connection", "cannot be changed"),
            ("content-length", "cannot be changed"),
            ("Sec-WebSocket-Key", "cannot be changed"),
            ("Host", "Host names a server"),
        ] {
            let found = field_name(name).unwrap_err();
            assert!(found.contains(problem), "{name}: {found}");
        }
    }

    #[test]
    fn a_file_lists_networks() {
        let text = "# ours\n10.0.0.0/8 \"192.168.0.0/16\" # and more\r\n\n\t::1 #x\n#10.0.0.1";
        let shown: Vec<_> = parse_list(text)
            .unwrap()
            .iter()
            .map(Network::to_string)
            .collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.168.0.0/16", "::1"]);
        assert_eq!(parse_list(""), Ok(Vec::new()));
        let problems = parse_list("10.0.0.1\nexample.org 10.0.0.2\n\n10/8").unwrap_err();
        let lines: Vec<_> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4]);
        assert!(
            problems
                .iter()
                .all(|(_, problem)| problem.contains("expected an address"))
        );
    }

    #[test]
    fn never_panics_and_believes_no_untrusted_peer() {
        let mut noise = Noise::new(13);
        let remote_ip = sample();
        for _ in 0..20_000 {
            let list = noise.mangle(b"9.9.9.9, 10.0.0.1, 192.0.2.5", b",.: 0129abf[]");
            let mut headers = Headers::default();
            headers.push("X-Forwarded-For", &list);
            let peer = "203.0.113.9:1".parse().unwrap();
            assert_eq!(remote_ip.client(peer, &headers).client, peer);
            let peer = "192.0.2.1:1".parse().unwrap();
            let found = remote_ip.client(peer, &headers);
            assert!(found.client == peer || is_public(found.client.ip()));
            remote_ip.rewrite(&found, peer, &mut headers);
        }
    }
}
