//! Which mapping a request meets.
#![deny(clippy::indexing_slicing)]

pub mod mapping;
pub mod url;

use mapping::Mapping;
use std::sync::Arc;

/// The mappings of one virtual host, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// The mappings, first match wins.
    pub mappings: Vec<Arc<Mapping>>,
}
