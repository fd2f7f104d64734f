//! The publisher: a sidecar that turns S3 notifications, completions, schedules
//! and HTTP events into messages on the workflow's SNS topic.
//!
//! ```text
//! ingest queue ─► receive ─► decode ─► route ─► enrich ─┐
//!                                                       ├─► pack ─► publish ─► topic
//! application ──► ingest (HTTP) ─► spool ─► outbox ─────┘    │
//!                                                            ├─► quarantine ─► dead queue
//!                                                            └─► settle: delete, or leave
//! ```
//!
//! What is too large for the topic, `claim` puts into S3 before `pack`.
//! `decode`, `route`, `pack` and the decision of `settle` are pure. A message
//! leaves the ingest queue only after each of its records was accepted by SNS,
//! deliberately skipped, or accepted by the dead queue; an HTTP request is
//! answered with 202 only after its events are on disk. Every call to the topic goes
//! through one gate: its circuit waits out an outage, its window follows what SNS allows.

pub mod settings;

pub mod connect;

pub mod receive;

pub mod ingest;
pub mod problem;

pub mod spool;

pub mod decode;

pub mod route;

pub mod enrich;

pub mod pack;

pub mod claim;

pub mod circuit;
pub mod gate;
pub mod publish;
pub mod window;

pub mod settle;

pub mod quarantine;

pub mod bridge;
mod lanes;
pub mod outbox;

pub mod ready;

pub mod check;
pub mod probe;

pub mod call;
pub mod counts;
pub mod run;
pub mod spans;

pub use run::{RunError, run};
pub use settings::{Flags, Settings};
