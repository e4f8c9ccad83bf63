//! A network: the addresses that begin with the same bits, as httpd's `Require ip` and mod_remoteip write them
//! (`apr_ipsubnet_create`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const EXPECTED: &str = "expected an address, such as 192.0.2.1 or 2001:db8::1, or a network, such as 10.0.0.0/8, \
                        10.0.0.0/255.0.0.0, 192.168. or 2001:db8::/32";

/// All addresses of one family whose first bits are the same. One address is the network of all its bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What lies behind the first bits is zero, and an IPv4 address is never an IPv6 one.
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Parses `192.0.2.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `192.168.` (or `192.168`), `2001:db8::1` or
    /// `2001:db8::/32`. Bits behind the mask do not count. Names are not looked up.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("\"{text}\" {what}; {EXPECTED}"));
        let (address, mask) = match text.split_once('/') {
            Some((address, mask)) => (address, Some(mask)),
            None => (text, None),
        };
        let first = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(first)) if first.to_ipv4_mapped().is_some() => {
                return wrong("is an IPv4 address in the form of an IPv6 one: write it as IPv4");
            }
            Ok(first) => first,
            Err(_) if mask.is_none() => {
                return match parse_partial(address) {
                    Some(network) => Ok(network),
                    None => wrong("is no address and no network"),
                };
            }
            Err(_) => return wrong("has no whole address before the \"/\""),
        };
        let width = width(first);
        let bits = match mask {
            None => Some(width),
            Some(mask) => parse_mask(mask, first.is_ipv4()).filter(|bits| *bits <= width),
        };
        match bits {
            Some(bits) => Ok(Self::new(first, bits)),
            None => wrong(&format!(
                "has a mask that is not a number of bits up to {width}"
            )),
        }
    }

    fn new(address: IpAddr, bits: u8) -> Self {
        Self {
            first: masked(address, bits),
            bits,
        }
    }

    /// Whether `address` is one of them. An IPv4 address counts as such in the form of an IPv6 one as well.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.bits) == self.first
    }
}

impl fmt::Display for Network {
    /// `10.0.0.0/8`; one address without its bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.bits < width(self.first) {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

/// How many bits an address of the family of this one has.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `address` with zero behind its first `bits`.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let behind = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A number of bits, or for IPv4 a mask such as `255.255.0.0`.
fn parse_mask(text: &str, is_ipv4: bool) -> Option<u8> {
    if is_ipv4 && let Ok(mask) = text.parse::<Ipv4Addr>() {
        let mask = mask.to_bits();
        let bits = mask.leading_ones();
        // httpd: a mask with ones behind a zero is taken there, for a set of addresses that nobody can have meant.
        return u8::try_from(bits)
            .ok()
            .filter(|_| bits == mask.count_ones());
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The first one to three numbers of an IPv4 address, with or without a dot at the end.
fn parse_partial(text: &str) -> Option<Network> {
    let mut octets = [0; 4];
    let mut count: u8 = 0;
    for part in text.strip_suffix('.').unwrap_or(text).split('.') {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        let octet = part.parse().ok().filter(|_| digits && part.len() <= 3)?;
        *octets.get_mut(usize::from(count))? = octet;
        count += 1;
    }
    let is_partial = count < 4;
    is_partial.then(|| Network::new(Ipv4Addr::from(octets).into(), 8 * count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    #[test]
    fn each_form_holds_its_addresses_and_no_others() {
        for (text, shown, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.0/8", "10.0.0.0", "9.255.255.255"),
            (
                "172.16.0.0/12",
                "172.16.0.0/12",
                "172.31.255.255",
                "172.32.0.0",
            ),
            (
                "10.0.0.0/255.255.254.0",
                "10.0.0.0/23",
                "10.0.1.7",
                "10.0.2.0",
            ),
            ("192.168.", "192.168.0.0/16", "192.168.7.7", "192.169.0.0"),
            ("192.168", "192.168.0.0/16", "192.168.7.7", "192.167.0.0"),
            ("10", "10.0.0.0/8", "10.9.9.9", "100.0.0.0"),
            ("10.1.2.", "10.1.2.0/24", "10.1.2.3", "10.1.20.3"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255", "::"),
            ("127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1"),
            (
                "2001:db8::/32",
                "2001:db8::/32",
                "2001:db8:f::1",
                "2001:db9::",
            ),
            ("2001:DB8::1", "2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::/0", "::/0", "2001:db8::1", "10.0.0.1"),
            ("fe80::1/10", "fe80::/10", "febf::1", "fec0::1"),
        ] {
            let network = Network::parse(text).unwrap();
            assert_eq!(network.to_string(), shown, "{text}");
            assert_eq!(Network::parse(shown), Ok(network.clone()), "{text}");
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{text} {outside}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_was_expected() {
        for (text, what) in [
            ("", "no address and no network"),
            (".", "no address and no network"),
            ("example.org", "no address and no network"),
            ("256.", "no address and no network"),
            ("+1.2", "no address and no network"),
            ("1..2", "no address and no network"),
            ("1.2.3.4.", "no address and no network"),
            ("1.2.3.4.5", "no address and no network"),
            ("010000.1", "no address and no network"),
            ("10.0.0.0:80", "no address and no network"),
            ("[::1]", "no address and no network"),
            ("fe80::1%eth0", "no address and no network"),
            ("10/8", "no whole address before the \"/\""),
            ("/8", "no whole address before the \"/\""),
            ("10.0.0.0/", "not a number of bits up to 32"),
            ("10.0.0.0/33", "not a number of bits up to 32"),
            ("10.0.0.0/+8", "not a number of bits up to 32"),
            ("10.0.0.0/-8", "not a number of bits up to 32"),
            ("10.0.0.0/8/8", "not a number of bits up to 32"),
            ("10.0.0.0/255.0.255.0", "not a number of bits up to 32"),
            ("::1/129", "not a number of bits up to 128"),
            ("::1/255.0.0.0", "not a number of bits up to 128"),
            ("::ffff:10.0.0.1", "write it as IPv4"),
            ("::ffff:10.0.0.1/104", "write it as IPv4"),
        ] {
            let problem = Network::parse(text).unwrap_err();
            assert!(problem.contains(what), "{text}: {problem}");
            assert!(problem.starts_with(&format!("\"{text}\"")), "{problem}");
            assert!(problem.contains("expected an address"), "{problem}");
        }
    }

    #[test]
    fn never_panics() {
        let mut noise = Noise::new(7);
        let samples = ["10.0.0.0/255.0.0.0", "2001:db8::/32", "192.168."];
        for _ in 0..20_000 {
            let sample = noise.pick(&samples).as_bytes();
            let bytes = noise.mangle(sample, b"./:0129");
            let Ok(text) = std::str::from_utf8(&bytes) else {
                continue;
            };
            if let Ok(network) = Network::parse(text) {
                assert_eq!(Network::parse(&network.to_string()), Ok(network.clone()));
                assert!(network.contains(network.first));
            }
        }
    }
}
