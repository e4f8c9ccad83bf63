//! The PROXY header: what a load balancer says of a connection before the first byte of its client, in both versions.
//!
//! Source: the specification "The PROXY protocol, versions 1 & 2" of HAProxy, sections 2.1 and 2.2; httpd mod_remoteip.
//! What may stand behind the addresses (TLVs, a checksum among them) is skipped: nothing here depends on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1 with its line end, in bytes (section 2.1).
pub const LONGEST_LINE: usize = 107;
/// The longest header of version 2 that is taken, in bytes. The addresses take 232 at the most, and the format has room
/// for 64 KiB behind them; what senders add, such as the name of a certificate, has some hundreds.
pub const LONGEST: usize = 4096;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, and the length of what follows.
const FIXED: usize = 16;

/// What a PROXY header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The sender has connected for itself, to see whether we are there: its own address is the client's.
    Local,
    /// The sender has connected for somebody else, over TCP. IPv4 addresses are such, in whatever form they came.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client has connected to.
        destination: SocketAddr,
    },
    /// The sender has connected for somebody of whom it says nothing that we could use.
    Unknown,
}

impl fmt::Display for Header {
    /// How logs show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Proxied {
                source,
                destination,
            } => write!(f, "from {source} to {destination}"),
            Self::Unknown => f.write_str("from an unknown client"),
        }
    }
}

/// Parses the header at the beginning of a connection. `None` means that more bytes are needed; else the number says
/// where the client's own bytes begin. It never asks for more than [`LONGEST`].
///
/// # Errors
/// Whatever is no header, or not one of those that the specification allows; as soon as that shows.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyHeaderError> {
    let begins_as = |start: &[u8]| bytes.iter().zip(start).all(|(byte, own)| byte == own);
    if begins_as(SIGNATURE) {
        parse_binary(bytes)
    } else if begins_as(LINE_START) {
        parse_line(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 50000 80`, as a line.
fn parse_line(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyHeaderError> {
    let most = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let end = most.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let (line, end) = most.split_at(end.unwrap_or(most.len()));
    match end {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] if most.len() < LONGEST_LINE => return Ok(None),
        [] | [b'\r'] => return Err(ProxyHeaderError::LineTooLong),
        _ => return Err(ProxyHeaderError::Line),
    }
    let header = header_of_line(line).ok_or(ProxyHeaderError::Line)?;
    Ok(Some((line.len() + 2, header)))
}

fn header_of_line(line: &[u8]) -> Option<Header> {
    let line = std::str::from_utf8(line.strip_prefix(LINE_START)?).ok()?;
    let mut words = line.split(' ');
    let parse_address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Some(Header::Unknown),
        _ => return None,
    };
    let source = parse_address(words.next()?)?;
    let destination = parse_address(words.next()?)?;
    let source = SocketAddr::new(source.to_canonical(), parse_port(words.next()?)?);
    let destination = SocketAddr::new(destination.to_canonical(), parse_port(words.next()?)?);
    words.next().is_none().then_some(Header::Proxied {
        source,
        destination,
    })
}

/// Decimal digits without zeros in front.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Version 2.
fn parse_binary(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyHeaderError> {
    let Some((fixed, behind)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let (version, command) = (version_and_command >> 4, version_and_command & 0xf);
    if version != 2 {
        return Err(ProxyHeaderError::Version(version));
    }
    if command > 1 {
        return Err(ProxyHeaderError::Command(command));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(ProxyHeaderError::TooLong(FIXED + length));
    }
    let Some(body) = behind.get(..length) else {
        return Ok(None);
    };
    let header = match command {
        // The sender's own business, whatever addresses it has put there.
        0 => Header::Local,
        _ => header_of_body(family, body)?,
    };
    Ok(Some((FIXED + length, header)))
}

fn header_of_body(family_and_protocol: u8, body: &[u8]) -> Result<Header, ProxyHeaderError> {
    let (family, protocol) = (family_and_protocol >> 4, family_and_protocol & 0xf);
    let addresses = match family {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(ProxyHeaderError::Family(family_and_protocol)),
    };
    if protocol > 2 {
        return Err(ProxyHeaderError::Family(family_and_protocol));
    }
    if body.len() < addresses {
        return Err(ProxyHeaderError::Addresses(body.len()));
    }
    let header = match (family, protocol) {
        (1, 1) => proxied::<4>(body),
        (2, 1) => proxied::<16>(body),
        // Neither Unix sockets nor datagrams are a way to us.
        _ => None,
    };
    Ok(header.unwrap_or(Header::Unknown))
}

/// Two addresses of `N` bytes, and their ports.
fn proxied<const N: usize>(body: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, body) = body.split_first_chunk::<N>()?;
    let (destination, body) = body.split_first_chunk::<N>()?;
    let (source_port, body) = body.split_first_chunk::<2>()?;
    let (destination_port, _) = body.split_first_chunk::<2>()?;
    let address = |ip: [u8; N], port| {
        SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_be_bytes(port))
    };
    Some(Header::Proxied {
        source: address(*source, *source_port),
        destination: address(*destination, *destination_port),
    })
}

/// What is wrong with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// There is none.
    Missing,
    /// A line of version 1 that is not what it should be.
    Line,
    /// No end of a line of version 1 within [`LONGEST_LINE`].
    LineTooLong,
    /// Another version behind the signature than 2.
    Version(u8),
    /// Another command than LOCAL and PROXY.
    Command(u8),
    /// A family or protocol that the specification has not.
    Family(u8),
    /// Fewer bytes than the addresses of the family take.
    Addresses(usize),
    /// More than [`LONGEST`].
    TooLong(usize),
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "the connection does not begin with a PROXY header, as RemoteIPProxyProtocol demands",
            ),
            Self::Line => f.write_str("the line of the PROXY header is malformed"),
            Self::LineTooLong => {
                write!(f, "the line of the PROXY header is longer than {LONGEST_LINE} bytes")
            }
            Self::Version(found) => write!(f, "the PROXY header has version {found}; expected 2"),
            Self::Command(found) => write!(f, "the PROXY header has the unknown command {found}"),
            Self::Family(found) => {
                write!(f, "the PROXY header has the unknown family and protocol {found:#04x}")
            }
            Self::Addresses(found) => {
                write!(f, "the addresses of the PROXY header are cut short at {found} bytes")
            }
            Self::TooLong(found) => write!(
                f,
                "the PROXY header has {found} bytes; expected at most {LONGEST}"
            ),
        }
    }
}

impl std::error::Error for ProxyHeaderError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::noise::Noise;

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// A header of version 2, of LOCAL (0x20) or PROXY (0x21).
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    const IPV4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0, 80];

    fn ipv6(source: &str) -> Vec<u8> {
        let [source, destination] = [source, "2001:db8::1"].map(|text| {
            let address: Ipv6Addr = text.parse().unwrap();
            address.octets()
        });
        [&source[..], &destination, &[0xc3, 0x50, 1, 0xbb]].concat()
    }

    /// All that are headers, with what they say.
    fn headers() -> Vec<(Vec<u8>, Header)> {
        let v4 = proxied("192.0.2.7:50000", "198.51.100.1:80");
        let v6 = proxied("[2001:db8::7]:50000", "[2001:db8::1]:443");
        let mapped = proxied("192.0.2.7:50000", "[2001:db8::1]:443");
        let mut headers: Vec<(Vec<u8>, Header)> = [
            ("TCP4 192.0.2.7 198.51.100.1 50000 80", v4),
            ("TCP6 2001:db8::7 2001:DB8:0::1 50000 443", v6),
            ("TCP6 ::ffff:192.0.2.7 2001:db8::1 50000 443", mapped),
            ("TCP4 0.0.0.0 255.255.255.255 0 65535", proxied("0.0.0.0:0", "255.255.255.255:65535")),
            ("UNKNOWN", Header::Unknown),
            ("UNKNOWN ", Header::Unknown),
            ("UNKNOWN what \0 ever", Header::Unknown),
            (
                "UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
                Header::Unknown,
            ),
        ]
        .map(|(line, header)| (format!("PROXY {line}\r\n").into_bytes(), header))
        .into();
        // An authority (PP2_TYPE_AUTHORITY) and a wrong checksum (PP2_TYPE_CRC32C).
        let tlvs = b"\x02\0\x04host\x03\0\x04\0\0\0\0";
        let full = vec![0; LONGEST - FIXED];
        headers.extend([
            (binary(0x21, 0x11, IPV4), v4),
            (binary(0x21, 0x11, &[IPV4, tlvs].concat()), v4),
            (binary(0x21, 0x21, &ipv6("2001:db8::7")), v6),
            (
                binary(0x21, 0x21, &[&ipv6("2001:db8::7"), &tlvs[..]].concat()),
                v6,
            ),
            (binary(0x21, 0x21, &ipv6("::ffff:192.0.2.7")), mapped),
            (binary(0x21, 0x31, &[b'/'; 216]), Header::Unknown),
            (binary(0x21, 0x32, &[b'/'; 217]), Header::Unknown),
            (binary(0x21, 0x12, IPV4), Header::Unknown),
            (binary(0x21, 0x22, &ipv6("::1")), Header::Unknown),
            (binary(0x21, 0x10, IPV4), Header::Unknown),
            (binary(0x21, 0x00, b""), Header::Unknown),
            (binary(0x21, 0x01, tlvs), Header::Unknown),
            (binary(0x20, 0x00, b""), Header::Local),
            (binary(0x20, 0x11, IPV4), Header::Local),
            (binary(0x20, 0xff, b"x"), Header::Local),
            (binary(0x20, 0x00, &full), Header::Local),
        ]);
        headers
    }

    #[test]
    fn each_header_is_taken_as_soon_as_it_is_whole_and_no_byte_behind_it() {
        for (bytes, header) in headers() {
            for upto in 0..bytes.len() {
                let part = bytes.get(..upto).unwrap();
                assert_eq!(parse(part), Ok(None), "{}", part.escape_ascii());
            }
            for behind in ["", "G", "GET / HTTP/1.1\r\n\r\n", "\r\n"] {
                let all = [&bytes, behind.as_bytes()].concat();
                assert_eq!(
                    parse(&all),
                    Ok(Some((bytes.len(), header))),
                    "{}",
                    all.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        use ProxyHeaderError::{Line, LineTooLong, Missing};
        for (text, error) in [
            ("GET / HTTP/1.1\r\n", Missing),
            ("G", Missing),
            ("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Missing),
            ("PROXY\tTCP4", Missing),
            (" PROXY", Missing),
            ("\r\nPROXY ", Missing),
            ("\n", Missing),
            ("PROXY\r\n", Missing),
            ("PROXY \r\n", Line),
            ("PROXY TCP4\r\n", Line),
            ("PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n", Line),
            ("PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", Line),
            ("PROXY UNKNOWNS\r\n", Line),
            ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Line),
            ("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n", Line),
            ("PROXY TCP4 ::1 ::1 1 1\r\n", Line),
            ("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", Line),
            ("PROXY TCP6 ::1%lo ::1 1 1\r\n", Line),
            ("PROXY TCP6 [::1] [::1] 1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 00 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rx", Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r\n", Line),
            ("PROXY UNKNOWN \n", Line),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 \xff\r\n"), Err(Line));
        // The line end belongs to what is counted.
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(
            parse(line(LONGEST_LINE).as_bytes()),
            Ok(Some((LONGEST_LINE, Header::Unknown)))
        );
        let long = line(LONGEST_LINE + 1);
        assert_eq!(parse(long.as_bytes()), Err(LineTooLong));
        assert_eq!(parse(long.trim_end().as_bytes()), Ok(None));
        let endless = "PROXY UNKNOWN ".to_owned() + &"x".repeat(1000);
        assert_eq!(parse(endless.as_bytes()), Err(LineTooLong));
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        use ProxyHeaderError::{Addresses, Command, Family, Missing, TooLong, Version};
        for (bytes, error) in [
            (binary(0x11, 0x11, IPV4), Version(1)),
            (binary(0x31, 0x11, IPV4), Version(3)),
            (binary(0x22, 0x11, IPV4), Command(2)),
            (binary(0x2f, 0x11, IPV4), Command(15)),
            (binary(0x21, 0x41, &[0; 300]), Family(0x41)),
            (binary(0x21, 0xf0, &[0; 300]), Family(0xf0)),
            (binary(0x21, 0x13, &[0; 300]), Family(0x13)),
            (binary(0x21, 0x1f, &[0; 300]), Family(0x1f)),
            (binary(0x21, 0x11, &[0; 11]), Addresses(11)),
            (binary(0x21, 0x11, b""), Addresses(0)),
            (binary(0x21, 0x12, &[0; 11]), Addresses(11)),
            (binary(0x21, 0x21, &[0; 35]), Addresses(35)),
            (binary(0x21, 0x31, &[0; 215]), Addresses(215)),
            (
                binary(0x20, 0x00, &vec![0; LONGEST - FIXED + 1]),
                TooLong(LONGEST + 1),
            ),
            (binary(0x21, 0x11, &[0; 65_535]), TooLong(65_551)),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Missing),
            (b"\r\n\r\nGET / HTTP/1.1".to_vec(), Missing),
        ] {
            assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
        }
        // A header that will be too long is not waited for.
        let whole = binary(0x21, 0x11, &[0; 65_535]);
        let fixed = whole.get(..FIXED).unwrap();
        assert_eq!(parse(fixed), Err(TooLong(65_551)));
    }

    #[test]
    fn never_panics_and_never_asks_for_more_than_its_bound() {
        let mut noise = Noise::new(0x5eed_0009);
        let headers = headers();
        for _ in 0..30_000 {
            let (sample, _) = noise.pick(&headers);
            let sample = sample.get(..sample.len().min(300)).unwrap();
            let bytes = noise.mangle(
                sample,
                b"\r\n \x20\x21\x11\x21\0 PROXYTCP46UNKNOWN0123456789.:f",
            );
            match parse(&bytes) {
                Ok(None) => assert!(bytes.len() < LONGEST),
                Ok(Some((used, _))) => assert!(used <= bytes.len() && used <= LONGEST),
                Err(_) => {}
            }
            let mut endless = bytes;
            endless.resize(LONGEST, b'x');
            assert_ne!(parse(&endless), Ok(None));
        }
    }

    #[test]
    fn errors_are_sentences_that_say_what_was_expected() {
        for (error, sentence) in [
            (
                ProxyHeaderError::LineTooLong,
                "the line of the PROXY header is longer than 107 bytes",
            ),
            (
                ProxyHeaderError::Family(7),
                "the PROXY header has the unknown family and protocol 0x07",
            ),
            (
                ProxyHeaderError::TooLong(5000),
                "the PROXY header has 5000 bytes; expected at most 4096",
            ),
        ] {
            assert_eq!(error.to_string(), sentence);
        }
    }
}
