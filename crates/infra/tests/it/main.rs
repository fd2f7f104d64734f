//! Applies, changes, rolls back and destroys a workflow on the local cloud.

mod deploy;
mod drift;
mod everything;
mod export;
mod foreign;
mod interrupted;
mod rollback;
mod saved;
mod secure;
mod straight;
mod throttled;
mod trouble;
mod watching;
mod wire;
mod world;
