//! Applies, changes and destroys a workflow on the local cloud.

mod deploy;
mod drift;
mod foreign;
mod straight;
mod trouble;
mod world;
