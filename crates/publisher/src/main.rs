//! The `bellwire-publisher` program.
fn main() {}
