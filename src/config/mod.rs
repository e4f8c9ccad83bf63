//! The configuration: text to resolved, immutable values.
#![deny(clippy::indexing_slicing)]
