//! How the function is linked.

use std::env;

/// For AWS at a fixed address: a program that may lie anywhere has 33,000 addresses put
/// right by the loader at each cold start. The decision is in
/// `docs/adr/0004-the-handler-lies-at-a-fixed-address.md`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bin=bellwire-handler=-no-pie");
    }
}
