//! Applies, changes, rolls back and destroys a workflow on the local cloud.

mod deploy;
mod drift;
mod foreign;
mod rollback;
mod saved;
mod straight;
mod trouble;
mod world;
