//! What the publisher is measured against, and tried with.
//!
//! ```text
//! publisher, bare loop, boto3 ──► stub: SQS and SNS on loopback
//! ```
//!
//! `stub` is the cloud, and `event` the one event whose bytes all peers send.
//! The harness that runs them is `cargo xtask bench`. `ingest` measures the way in over
//! HTTP, and `function` a Lambda function on a local Runtime API. `chaos` kills a publisher
//! again and again and counts what is lost; `cargo xtask chaos publisher` runs it.

pub mod event;

pub mod chaos;

pub mod function;

pub mod ingest;

pub mod stub;
