//! The wine example worker.
fn main() {}
