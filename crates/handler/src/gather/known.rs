//! What this process knows of its windows, so that an event of a later generation
//! takes one call too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bellwire_ledger::Previous;
use bellwire_schema::gathered::WindowId;

/// Windows that are remembered at most; then all are forgotten, which costs a call each.
const WINDOWS_MAX: usize = 10_000;

/// The generations that were seen last. A guess: the ledger has the last word.
#[derive(Debug, Default)]
pub(crate) struct Generations(Mutex<HashMap<WindowId, (u32, Option<Previous>)>>);

impl Generations {
    pub(super) fn get(&self, window: &WindowId) -> Option<(u32, Option<Previous>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(window).copied()
    }

    pub(super) fn set(&self, window: &WindowId, generation: u32, previous: Option<Previous>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= WINDOWS_MAX && !known.contains_key(window) {
            known.clear();
        }
        known.insert(window.clone(), (generation, previous));
    }
}
