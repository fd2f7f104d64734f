#![no_main]

#[allow(dead_code)]
#[path = "../../crates/handler/tests/it/invocations.rs"]
mod invocations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invocations::invocation(bytes));
