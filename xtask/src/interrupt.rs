//! Ctrl-C, and a polite request to end: remembered, and looked at by whatever waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::process::ProcessError;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static TERMINATED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on an interrupt does not end the process at once: it is remembered,
/// so that everything that was started can be ended first. Every such end is
/// bounded, so nobody needs a second Ctrl-C.
pub(crate) fn watch() -> std::io::Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(requested))?;
    }
    let terminated = TERMINATED.get_or_init(Arc::default);
    signal_hook::flag::register(SIGTERM, Arc::clone(terminated))?;
    Ok(())
}

/// Whether this process was asked to end, which, unlike what is typed on a terminal,
/// no other process of its group was.
pub(crate) fn terminated() -> bool {
    TERMINATED.get().is_some_and(|terminated| terminated.load(Ordering::SeqCst))
}

/// Whether an interrupt came.
pub(crate) fn requested() -> bool {
    REQUESTED.get().is_some_and(|requested| requested.load(Ordering::SeqCst))
}

/// An error where an interrupt came: for use between steps.
pub(crate) fn check() -> Result<(), ProcessError> {
    if requested() { Err(ProcessError::Interrupted) } else { Ok(()) }
}
