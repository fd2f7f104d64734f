//! The example whole, without AWS: the four jobs in their order, fed by what
//! `bellwire.toml` makes of the events, and their reads and writes against an S3
//! in this process.

mod chain;
mod s3;
mod workflow_file;

use serde_json::{Value, json};

/// The start key of every run here.
const RUN: &str = "0123456789abcdef0123456789abcdef";

/// What Bellwire adds to a run's input.
fn context(trigger: &str, stage: &str) -> Value {
    json!({
        "trigger": trigger,
        "stage": stage,
        "dataset": "wine",
        "start_key": RUN,
        "event": {
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "correlationid": "c-1",
            "causationid": "e-1",
            "hop": 1,
        },
    })
}

fn typed<T: serde::de::DeserializeOwned>(input: Value) -> T {
    serde_json::from_value(input).unwrap()
}
