//! HTTP/1.1 messages, without sockets: RFC 9110 and RFC 9112. And what is known of who sends them: PROXY headers, networks.
#![deny(clippy::indexing_slicing)]

pub mod answer;
pub mod authority;
pub mod body;
pub mod date;
pub mod document;
pub mod head;
pub mod headers;
pub mod network;
pub mod persistence;
pub mod proxy_header;

/// Seeded noise for the `never_panics` tests of the pure rooms.
#[cfg(test)]
pub(crate) mod noise {
    /// Marsaglia's xorshift: no randomness to speak of, but the same bytes on every machine.
    pub(crate) struct Noise(u64);

    impl Noise {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed | 1)
        }

        pub(crate) fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
        }

        pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
            from.get(self.below(from.len())).unwrap()
        }

        /// `sample` with some of its bytes changed, doubled, dropped or swapped for one of `likely`.
        pub(crate) fn mangle(&mut self, sample: &[u8], likely: &[u8]) -> Vec<u8> {
            let mut bytes = sample.to_vec();
            for _ in 0..=self.below(4) {
                let place = self.below(bytes.len());
                let byte = if self.below(2) == 0 {
                    *self.pick(likely)
                } else {
                    u8::try_from(self.below(256)).unwrap()
                };
                match self.below(4) {
                    0 if !bytes.is_empty() => drop(bytes.remove(place)),
                    1 => bytes.truncate(place),
                    2 if !bytes.is_empty() => bytes.splice(place..=place, [byte]).for_each(drop),
                    _ => bytes.insert(place, byte),
                }
            }
            bytes
        }
    }
}
