#![no_main]

#[allow(dead_code)]
#[path = "../../crates/publisher/tests/it/decoders.rs"]
mod decoders;
#[allow(dead_code)]
#[path = "../../crates/publisher/tests/it/samples.rs"]
mod samples;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::http_binary(bytes));
