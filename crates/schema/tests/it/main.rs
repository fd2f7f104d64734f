//! What the crate promises to others: CloudEvents, JSON Schema, stable ids.

mod envelope;
mod s3;
mod schemas;
