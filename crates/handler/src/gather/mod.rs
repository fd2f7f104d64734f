//! Gathering: many events, one start.
//!
//! ```text
//! arrive (one transaction an event) ─► settle (has the window ended?) ─► close (one transaction)
//!                                        ▲                                  │
//!                        sweep ──────────┴──────────► complete ◄────────────┘
//!                  (quiet, deadlines, what was left)   (members, page by page ─► list ─► start, or dead)
//! ```
//!
//! [`rules`], `listing`, `manifest`, `checksum` and `collected` are pure.

pub mod rules;

mod arrive;
mod checksum;
mod collected;
mod complete;
mod known;
mod lake;
mod listing;
mod manifest;
mod settle;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use known::Generations;
pub(crate) use lake::Lake;
pub use lake::LakeError;
pub(crate) use settle::Settled;
