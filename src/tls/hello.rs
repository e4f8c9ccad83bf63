//! What a client opens a connection with, before the TLS library has seen a byte of it: the name that it asks for has to
//! be known when the library is told whose keys, tickets and authorities count. RFC 8446 section 4.1.2, RFC 6066 section 3.
//!
//! The library then reads the very same bytes, so nobody can show it another name than the one that was found here.

/// The most bytes of a ClientHello with what frames it. They have a few hundred, and two thousand with large key shares.
pub const LONGEST: usize = 32 * 1024;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Not enough of them have come to tell.
    Unclear,
    /// A whole ClientHello.
    Hello {
        /// The name that is asked for, in lower case and without a dot at its end, if there is one that a host can have.
        name: Option<String>,
    },
    /// A request in plain HTTP.
    Http,
    /// Neither.
    Other,
}

/// Looks at the first bytes of a connection.
pub fn opening(bytes: &[u8]) -> Opening {
    match bytes {
        [] => Opening::Unclear,
        [HANDSHAKE, ..] => hello(bytes),
        _ => method(bytes),
    }
}

/// A request of HTTP begins with its method, and a blank behind it.
fn method(bytes: &[u8]) -> Opening {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
    match letters.count() {
        length @ 1..=LONGEST_METHOD => match bytes.get(length) {
            Some(b' ') => Opening::Http,
            Some(_) => Opening::Other,
            None => Opening::Unclear,
        },
        _ => Opening::Other,
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: u8 = 0;
/// Letters in the name of a method.
const LONGEST_METHOD: usize = 20;
/// RFC 8446 section 5.1.
const LONGEST_RECORD: usize = 16 * 1024;

/// Puts the fragments of the first handshake message together, and reads it.
fn hello(bytes: &[u8]) -> Opening {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let [kind, major, _, high, low, behind @ ..] = rest else {
            let is_record = rest.iter().zip([HANDSHAKE, 3]).all(|(is, be)| *is == be);
            return if is_record {
                unclear(bytes)
            } else {
                Opening::Other
            };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if (*kind, *major) != (HANDSHAKE, 3) || !(1..=LONGEST_RECORD).contains(&length) {
            return Opening::Other;
        }
        message.extend_from_slice(behind.get(..length).unwrap_or(behind));
        if let [kind, ..] = *message
            && kind != CLIENT_HELLO
        {
            return Opening::Other;
        }
        if let [_, high, middle, low, body @ ..] = &*message {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > LONGEST {
                return Opening::Other;
            }
            if let Some(body) = body.get(..length) {
                return match server_name(body) {
                    Some(name) => Opening::Hello { name },
                    None => Opening::Other,
                };
            }
        }
        match behind.get(length..) {
            Some(behind) => rest = behind,
            None => return unclear(bytes),
        }
    }
}

fn unclear(bytes: &[u8]) -> Opening {
    if bytes.len() < LONGEST {
        Opening::Unclear
    } else {
        Opening::Other
    }
}

/// The name in a ClientHello; the outer none means that it is malformed.
#[expect(clippy::option_option, reason = "a hello without a name is a hello")]
fn server_name(hello: &[u8]) -> Option<Option<String>> {
    let mut hello = Fields(hello);
    // Version and random.
    hello.take(2 + 32)?;
    let _session = hello.vector(1)?;
    let _ciphers = hello.vector(2)?;
    let _compressions = hello.vector(1)?;
    if hello.0.is_empty() {
        return Some(None);
    }
    let mut extensions = hello.vector(2)?;
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut extension = extensions.vector(2)?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = extension.vector(2)?;
        while !names.0.is_empty() {
            let kind = names.take(1)?;
            let name = names.vector(2)?;
            // There is one name of each kind, and this is the only kind.
            if *kind == [HOST_NAME] && found.is_none() {
                found = host_name(name.0);
            }
        }
    }
    Some(found)
}

fn host_name(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_odd = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-_.".contains(byte);
    if name.is_empty() || name.len() > 253 || name.iter().any(is_odd) {
        return None;
    }
    let name = String::from_utf8_lossy(name);
    Some(name.to_ascii_lowercase())
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of one or two bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        let bytes = self.take(width)?.iter();
        Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What stands behind its length.
    fn vector(&mut self, width: usize) -> Option<Self> {
        let length = self.number(width)?;
        self.take(length).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
        let length = bytes.len().to_be_bytes();
        [&length[8 - width..], bytes].concat()
    }

    fn sni(names: &[(u8, &[u8])]) -> Vec<u8> {
        let each = names.iter();
        let each = each.map(|(kind, name)| [&[*kind], &*vector(2, name)].concat());
        let list = vector(2, &each.collect::<Vec<_>>().concat());
        [&[0, 0], &*vector(2, &list)].concat()
    }

    fn message(extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(vector(1, &[1; 32]));
        body.extend(vector(2, &[0x13, 1, 0x13, 2]));
        body.extend(vector(1, &[0]));
        body.extend(extensions.map(|all| vector(2, all)).unwrap_or_default());
        [&[1], &*vector(3, &body)].concat()
    }

    fn record(fragment: &[u8]) -> Vec<u8> {
        [&[22, 3, 1], &*vector(2, fragment)].concat()
    }

    fn named(name: &str) -> Opening {
        Opening::Hello {
            name: Some(name.to_owned()),
        }
    }

    fn other_extension() -> Vec<u8> {
        [&[0, 43], &*vector(2, &[2, 3, 4])].concat()
    }

    #[test]
    fn the_name_is_found_wherever_it_stands() {
        let name = sni(&[(0, b"Chat.Example.ORG.")]);
        for extensions in [
            name.clone(),
            [&*other_extension(), &*name].concat(),
            [&*name, &*other_extension()].concat(),
            [&*name, &*sni(&[(0, b"second.example")])].concat(),
            sni(&[(9, b"?"), (0, b"chat.example.org")]),
        ] {
            let bytes = record(&message(Some(&extensions)));
            assert_eq!(opening(&bytes), named("chat.example.org"));
        }
    }

    #[test]
    fn a_hello_without_a_name_that_a_host_can_have_is_one() {
        for extensions in [
            None,
            Some(Vec::new()),
            Some(other_extension()),
            Some(sni(&[])),
            Some(sni(&[(0, b"")])),
            Some(sni(&[(0, b".")])),
            Some(sni(&[(0, b"a b")])),
            Some(sni(&[(0, b"a\0.example")])),
            Some(sni(&[(0, "b\u{e4}r".as_bytes())])),
            Some(sni(&[(0, &[b'a'; 254])])),
        ] {
            let bytes = record(&message(extensions.as_deref()));
            assert_eq!(opening(&bytes), Opening::Hello { name: None });
        }
    }

    #[test]
    fn it_is_found_in_any_number_of_records_and_pieces() {
        let message = message(Some(&sni(&[(0, b"a.example")])));
        for size in [1, 2, 3, 5, 40, message.len()] {
            let bytes: Vec<u8> = message.chunks(size).flat_map(record).collect();
            for end in 0..bytes.len() {
                assert_eq!(opening(&bytes[..end]), Opening::Unclear, "{size} {end}");
            }
            assert_eq!(opening(&bytes), named("a.example"));
            let with_more = [&*bytes, b"anything"].concat();
            assert_eq!(opening(&with_more), named("a.example"));
        }
    }

    #[test]
    fn what_is_no_hello_is_known_by_its_first_bytes() {
        assert_eq!(opening(b""), Opening::Unclear);
        assert_eq!(opening(b"G"), Opening::Unclear);
        assert_eq!(opening(b"GET"), Opening::Unclear);
        assert_eq!(opening(b"GET "), Opening::Http);
        assert_eq!(opening(b"OPTIONS * HTTP/1.1\r\n"), Opening::Http);
        let cut_inside = message(Some(&[0, 0, 0, 9, 0]));
        for bytes in [
            &b"\0"[..],
            b"SSH-2.0-x",
            b"get / HTTP/1.1",
            b"AAAAAAAAAAAAAAAAAAAAA",
            b"\x16\x02",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x40\x01",
            b"\x16\x03\x01\0\x01\x02",
            // A second record of another kind, in the middle of the message.
            b"\x16\x03\x01\0\x01\x01\x15\x03\x01\0\x02\x01\x00",
            // Longer than anybody's.
            b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
            b"\x80\x2e\x01\x03\x01",
            &record(&cut_inside),
            &record(&[1, 0, 0, 1, 3]),
        ] {
            assert_eq!(opening(bytes), Opening::Other, "{bytes:x?}");
        }
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        // Records of one byte each: five times as many bytes as the message has.
        let endless: Vec<u8> = [1, 0, 0x7f, 0xff]
            .into_iter()
            .chain([0; LONGEST])
            .flat_map(|byte| record(&[byte]))
            .collect();
        assert_eq!(opening(&endless[..LONGEST - 1]), Opening::Unclear);
        assert_eq!(opening(&endless[..LONGEST]), Opening::Other);
    }

    #[test]
    fn never_panics() {
        let whole = record(&message(Some(&sni(&[(0, b"a.example")]))));
        let mut state = 1_u32;
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            let _ = opening(&bytes);
        }
    }
}
