//! Header fields: ordered, case kept (RFC 9110 section 5).

/// Header fields in the order and the spelling in which they arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    // The pure-rooms author decides the representation: few allocations per head.
    fields: Vec<(String, Vec<u8>)>,
}

impl Headers {
    /// Adds a field at the end.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(n, v)| (n.as_str(), v.as_slice()))
    }

    /// The value of the first field called `name` (any case).
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }
}
