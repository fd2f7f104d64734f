//! The `bellwire-handler` program.
fn main() {}
