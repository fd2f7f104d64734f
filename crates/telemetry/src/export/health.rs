//! Whether the backend takes what it is sent.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_sdk::error::OTelSdkResult;

use super::settings::{Signal, without_secrets};

/// Of one signal; logs when it changes, so that an outage is one line and not one an event.
#[derive(Debug)]
pub(crate) struct Health {
    signal: Signal,
    failing: AtomicBool,
    endpoint: String,
}

impl Health {
    pub(crate) fn new(signal: Signal, endpoint: Option<&str>) -> Self {
        let endpoint = endpoint.map(without_secrets).unwrap_or_default();
        Self { signal, failing: AtomicBool::new(false), endpoint }
    }

    pub(crate) fn note(&self, result: &OTelSdkResult) {
        match result {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    pub(crate) fn failed(&self, reason: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                endpoint = self.endpoint,
                reason,
                "{} are not exported: the OTLP endpoint does not take them; \
                 this is said once, until it does",
                self.signal.name(),
            );
        }
    }

    fn succeeded(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(endpoint = self.endpoint, "{} are exported again", self.signal.name());
        }
    }
}
