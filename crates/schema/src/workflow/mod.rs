//! The workflow file, `bellwire.toml`: its model, and its reader, which reports
//! all problems at once, each with its line, cause and remedy.
//!
//! In the order in which a file is read: its syntax, its tables one by one (each
//! against its table of keys), and what the tables are to each other.
#![doc = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow-file.md"))]

mod alarms;
mod check;
mod json;
mod keys;
mod lines;
mod loops;
mod model;
mod objects;
mod party;
mod problem;
mod read;
mod security;
mod settings;
mod source;
mod spelling;
mod syntax;
mod table;
mod target;
mod trigger;
mod types;
mod waits;

#[cfg(test)]
mod tests;

pub use alarms::{AlarmKind, Alarms, LookBack};
pub use keys::reference;
pub use lines::FileLines;
pub use model::*;
pub use problem::{Problem, Problems};
pub use read::read;
pub use security::{Security, TopicKey};
pub use target::TargetKind;
pub use waits::SWEEP_EVERY_S;
