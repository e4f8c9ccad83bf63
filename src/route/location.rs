//! `<Location>` and `<LocationMatch>`: settings, and perhaps a mapping, for a part of the tree of paths.

use super::mapping::Mapping;
use super::place::Place;
use super::settings::Change;
use std::sync::Arc;

/// One section.
#[derive(Debug, Clone)]
pub struct Location {
    /// Where it applies.
    pub place: Place,
    /// What it changes, in the order of its lines.
    pub changes: Vec<Change>,
    /// The `ProxyPass` in it, which is tried before those outside of locations.
    pub mapping: Option<Arc<Mapping>>,
    /// As logs name it: `<Location "/ws">`.
    pub name: String,
    /// Where it was configured: `file:line`.
    pub origin: String,
}
