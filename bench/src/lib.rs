//! What the publisher is measured against.
//!
//! ```text
//! publisher, bare loop, boto3 ──► stub: SQS and SNS on loopback
//! ```
//!
//! `stub` is the cloud, and `event` the one event whose bytes all peers send.
//! The harness that runs them is `cargo xtask bench`.

pub mod event;

pub mod stub;
