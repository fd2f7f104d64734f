//! Built together with the binaries, never run. Cargo compiles dependencies with
//! the features that the tests ask for only where a test or an example is among
//! what it builds: with this one it is, and so one compilation of the dependencies
//! serves the demo and the tests.

fn main() {}
