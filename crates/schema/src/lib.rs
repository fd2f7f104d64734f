//! The ML event envelope, its ids and attributes, the filter engine and the
//! workflow file of Bellwire: pure, no I/O.
//!
//! In the order in which data flows:
//!
//! - [`limits`], [`names`]: what AWS allows, and what everything is called;
//! - [`workflow`]: what `bellwire.toml` says; [`function`]: how a function knows it;
//! - [`s3`], [`completion`]: what AWS tells of, decoded;
//! - [`event_type`], [`id`], [`context`], [`payload`], [`envelope`]: the event made of it;
//! - [`gathered`]: many of them as one, where a trigger gathers;
//! - [`attributes`], [`fifo`]: how the event travels on SNS;
//! - [`filter`]: who wants it;
//! - [`counted`]: what of it is counted for alarms;
//! - [`dead_letter`]: what becomes of what nobody can handle.

pub mod attributes;
pub mod completion;
pub mod context;
pub mod counted;
pub mod dead_letter;
pub mod envelope;
pub mod event_type;
pub mod fifo;
pub mod filter;
pub mod function;
pub mod gathered;
pub mod id;
pub mod limits;
pub mod names;
pub mod payload;
pub mod s3;
pub mod schemas;
pub mod workflow;

pub use context::{EventContext, RunContext};
pub use dead_letter::DeadLetter;
pub use envelope::Envelope;
pub use event_type::{EventType, Stage, StageVerb};
pub use id::StartKey;
pub use names::{Deployment, Place};
