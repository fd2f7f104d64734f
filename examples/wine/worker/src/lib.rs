//! The jobs of the wine example, in the order in which events start them:
//! [`collect`], [`train`], [`evaluate`], [`predict`].
//!
//! Each job is a pure function from its input and the objects it needs to the
//! objects it makes and the run's output; [`run`] does the reading and writing.
//! The same input gives the same objects under the same keys, byte for byte, so
//! that a retried run changes nothing.

mod error;
mod forest;
mod lake;
mod run;
mod split;
mod store;
mod wines;

pub mod collect;
pub mod evaluate;
pub mod predict;
pub mod train;

pub use error::WorkerError;
pub use lake::{Location, MalformedUri, Object, Output};
pub use run::{Invocation, Task, run};
pub use store::Store;
