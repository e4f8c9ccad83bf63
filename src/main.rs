//! start and exit status
fn main() {}
