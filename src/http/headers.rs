//! Header fields: ordered, case kept (RFC 9110 section 5). Which of them end at a hop (section 7.6.1).

use std::borrow::Cow;
use std::fmt;

/// Header fields in the order and the spelling in which they arrived.
///
/// All names and values lie in one buffer, so that a head costs two allocations however many fields it has.
#[derive(Clone, Default)]
pub struct Headers {
    text: Vec<u8>,
    fields: Vec<Field>,
}

/// Where a field lies in the text: the name from `start` to `middle`, the value from there to `end`.
#[derive(Clone, Copy)]
struct Field {
    start: u32,
    middle: u32,
    end: u32,
}

impl Headers {
    /// Room for `fields` fields, whose names and values have `bytes` bytes together.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            fields: Vec::with_capacity(fields),
        }
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let field = self.store(name, value);
        self.fields.push(field);
    }

    /// Gives the field called `name` (any case) this value; adds it if there is none. Further fields of that name go.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let place = self.position(name);
        let field = self.store(name, value);
        let Some(place) = place else {
            self.fields.push(field);
            return;
        };
        if let Some(first) = self.fields.get_mut(place) {
            *first = field;
        }
        let mut at = 0;
        self.retain(|other, _| {
            at += 1;
            at <= place + 1 || !other.eq_ignore_ascii_case(name)
        });
    }

    /// Takes out all fields called `name` (any case).
    pub fn remove(&mut self, name: &str) {
        self.retain(|other, _| !other.eq_ignore_ascii_case(name));
    }

    /// Keeps the fields whose name and value `keep` says yes to, asked once for each and in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        let text = std::mem::take(&mut self.text);
        self.fields
            .retain(|field| keep(field.name(&text), field.value(&text)));
        self.text = text;
    }

    /// Gives each field called `name` (any case) the value that `change` makes of its own; `None` leaves it as it is.
    pub fn change(&mut self, name: &str, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        for place in 0..self.fields.len() {
            let Some(field) = self.fields.get(place).copied() else {
                return;
            };
            if self.is_called(field, name)
                && let Some(value) = change(self.value(field))
            {
                let own_name = field.name(&self.text).to_owned();
                let changed = self.store(&own_name, &value);
                if let Some(field) = self.fields.get_mut(place) {
                    *field = changed;
                }
            }
        }
    }

    /// Puts the fields of `others` before all of these.
    pub fn prepend(&mut self, others: &Self) {
        let stored: Vec<_> = others
            .iter()
            .map(|(name, value)| self.store(name, value))
            .collect();
        self.fields.splice(..0, stored);
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|field| (field.name(&self.text), field.value(&self.text)))
    }

    /// The value of the first field called `name` (any case).
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all fields called `name` (any case), in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.is_called(**field, name))
            .map(|field| self.value(*field))
    }

    /// The values of all fields called `name` (any case) as one, joined by a comma and a blank; `None` if there is none.
    pub fn joined(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.all(name);
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |mut joined, value| {
            let all = joined.to_mut();
            all.extend_from_slice(b", ");
            all.extend_from_slice(value);
            joined
        }))
    }

    /// The elements of the list that all fields called `name` make together, trimmed, without empty ones
    /// (RFC 9110 section 5.6.1).
    ///
    /// Quotes are not looked at: no list that is read here may hold a comma within an element.
    pub fn tokens<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether the list `name` has the element `token`, both in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    fn store(&mut self, name: &str, value: &[u8]) -> Field {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        Field {
            start: offset(start),
            middle: offset(middle),
            end: offset(self.text.len()),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| self.is_called(*field, name))
    }

    fn is_called(&self, field: Field, name: &str) -> bool {
        field.name(&self.text).eq_ignore_ascii_case(name)
    }

    fn value(&self, field: Field) -> &[u8] {
        field.value(&self.text)
    }
}

impl Field {
    fn name(self, text: &[u8]) -> &str {
        // It was a `str` when it was stored.
        std::str::from_utf8(slice(text, self.start, self.middle)).unwrap_or_default()
    }

    fn value(self, text: &[u8]) -> &[u8] {
        slice(text, self.middle, self.end)
    }
}

fn slice(text: &[u8], start: u32, end: u32) -> &[u8] {
    let range = || Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
    range()
        .and_then(|range| text.get(range))
        .unwrap_or_default()
}

/// Heads are bounded far below 4 GiB (`head::MAX_HEAD`); were one not, its last fields would read as empty.
fn offset(place: usize) -> u32 {
    debug_assert!(u32::try_from(place).is_ok(), "a head of 4 GiB");
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl PartialEq for Headers {
    /// Same fields in the same order, spelt the same.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, String::from_utf8_lossy(value))),
            )
            .finish()
    }
}

/// Whether a field is for one hop only, whatever `Connection` names (RFC 9110 section 7.6.1, RFC 7540 section 3.2.1;
/// httpd `ap_proxy_clear_connection`).
///
/// `Proxy-Authorization` is not among them: httpd keeps it unless it has authenticated the user itself, and we never do.
pub fn is_hop_by_hop(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "Connection",
        "HTTP2-Settings",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ];
    NAMES.iter().any(|hop| hop.eq_ignore_ascii_case(name))
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Headers {
        let mut headers = Headers::default();
        headers.push("Host", b"a");
        headers.push("connection", b"keep-alive, ,\tUpgrade ");
        headers.push("X-Empty", b"");
        headers.push("Connection", b"X-Foo");
        headers
    }

    #[test]
    fn order_and_spelling_are_kept() {
        let headers = sample();
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Host", "connection", "X-Empty", "Connection"]);
        assert_eq!(headers.len(), 4);
        assert!(!headers.is_empty());
    }

    #[test]
    fn names_are_found_in_any_case() {
        let headers = sample();
        assert_eq!(headers.first("HOST"), Some(&b"a"[..]));
        assert_eq!(headers.first("x-empty"), Some(&b""[..]));
        assert_eq!(headers.first("x-missing"), None);
        assert_eq!(headers.all("CONNECTION").count(), 2);
    }

    #[test]
    fn a_list_spans_fields_and_skips_empty_elements() {
        let headers = sample();
        let tokens: Vec<_> = headers.tokens("Connection").collect();
        assert_eq!(tokens, [&b"keep-alive"[..], b"Upgrade", b"X-Foo"]);
        assert!(headers.has_token("connection", "UPGRADE"));
        assert!(!headers.has_token("connection", "close"));
    }

    #[test]
    fn setting_a_field_keeps_its_place() {
        let mut headers = sample();
        headers.set("host", b"elsewhere:80");
        headers.set("New", b"1");
        let fields: Vec<_> = headers.iter().collect();
        assert_eq!(fields.first(), Some(&("host", &b"elsewhere:80"[..])));
        assert_eq!(fields.last(), Some(&("New", &b"1"[..])));
        assert_eq!(fields.len(), 5);
    }

    #[test]
    fn setting_a_field_leaves_one_of_its_name() {
        let mut headers = sample();
        headers.set("Connection", b"close");
        let fields: Vec<_> = headers.iter().collect();
        let expected: [(&str, &[u8]); 3] =
            [("Host", b"a"), ("Connection", b"close"), ("X-Empty", b"")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn fields_go_by_name_and_by_choice() {
        let mut headers = sample();
        headers.remove("CONNECTION");
        headers.remove("X-Missing");
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Host", "X-Empty"]);
        headers.retain(|name, value| {
            assert_eq!(value.is_empty(), name == "X-Empty");
            !value.is_empty()
        });
        assert_eq!(format!("{headers:?}"), r#"{"Host": "a"}"#);
    }

    #[test]
    fn changed_fields_keep_their_places_and_others_their_values() {
        let mut headers = sample();
        headers.change("CONNECTION", |value| {
            (value != b"X-Foo").then(|| value.to_ascii_uppercase())
        });
        assert_eq!(
            format!("{headers:?}"),
            r#"{"Host": "a", "connection": "KEEP-ALIVE, ,\tUPGRADE ", "X-Empty": "", "Connection": "X-Foo"}"#
        );
    }

    #[test]
    fn fields_can_be_put_first() {
        let mut first = Headers::default();
        first.push("A", b"1");
        first.push("Host", b"2");
        let mut headers = Headers::default();
        headers.push("Host", b"3");
        headers.prepend(&first);
        headers.prepend(&Headers::default());
        assert_eq!(
            format!("{headers:?}"),
            r#"{"A": "1", "Host": "2", "Host": "3"}"#
        );
    }

    #[test]
    fn equality_is_of_the_fields_and_not_of_their_storage() {
        let mut one = Headers::default();
        one.push("A", b"old");
        one.set("A", b"new");
        let mut two = Headers::default();
        two.push("A", b"new");
        assert_eq!(one, two);
        two.push("A", b"new");
        assert_ne!(one, two);
        assert_eq!(format!("{one:?}"), r#"{"A": "new"}"#);
    }

    #[test]
    fn hop_by_hop_fields_are_known_in_any_case() {
        for name in ["connection", "TE", "upgrade", "Transfer-Encoding"] {
            assert!(is_hop_by_hop(name), "{name}");
        }
        for name in ["Host", "Proxy-Authorization", "Cookie", "Trailers"] {
            assert!(!is_hop_by_hop(name), "{name}");
        }
    }

    #[test]
    fn tokens_have_no_separators() {
        assert!(is_token(b"permessage-deflate"));
        for text in [
            &b""[..],
            b"a b",
            b"a/b",
            b"a=b",
            b"\"a\"",
            b"\xe4",
            b"a\x00",
        ] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
