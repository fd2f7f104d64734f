//! The Lambda that starts the right workflow once.
//!
//! In the order in which data flows:
//!
//! ```text
//! batch (of the work queue: what fails comes back)
//!    │
//! decode ─► matching ─► plan ─► claim ─► start ─► announce ─► record
//!    │          └─► close (a completion ends its start)
//!    └─► quarantine (what can never be handled)          sweep (once a minute: what is due)
//! ```
//!
//! An event that travelled without its payload gets it before `matching`: `claim`.
//!
//! What is due within a minute the handler tells itself by a delayed message: `hint`.
//!
//! The claim asks the trigger's guards too: what they hold back waits for `release`, a
//! part of the sweep.
//!
//! A trigger that gathers has `gather` between `matching` and `plan`: many events,
//! one start.
//!
//! What S3 tells the topic itself becomes events in [`straight`].
//!
//! [`batch`], [`decode`], [`destination`], [`matching`], [`plan`], [`straight`] and the
//! rules of [`gather`] are pure: no client and no clock.

pub mod batch;
pub mod decode;
pub mod destination;
pub mod gather;
pub mod matching;
pub mod plan;
pub mod straight;

mod announce;
mod call;
mod call_errors;
mod claim;
mod clients;
mod counts;
mod handler;
mod hint;
mod model;
mod quarantine;
mod release;
mod roots;
mod start;
mod sweep;
mod warm;

pub use bellwire_schema::function::{Settings, SettingsError};
pub use call::Call;
pub use claim::FetchError;
pub use clients::{Clients, Later};
pub use counts::Counts;
pub use handler::{Handler, HandlerError, Moment};
pub use model::{CompiledTrigger, Model, ModelError};
pub use roots::Roots;
