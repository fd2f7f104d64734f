//! Probes: rows by which a deploy sees that an event gets through to the handler.

use bellwire_schema::limits::PROBE_NAME_CHARS_MAX;
use jiff::{SignedDuration, Timestamp};

use crate::error::LedgerError;
use crate::table::{Ledger, number, text};

/// What the keys of probes begin with.
pub const PROBE_KEY_PREFIX: &str = "probe#";
/// The attribute with the version of the handler that had the probe.
pub const PROBE_VERSION_ATTRIBUTE: &str = "version";

/// A probe is looked for at once, and never again.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The key of a probe's row. A name is cut where nobody who looks for it would give it.
#[must_use]
pub fn probe_key(name: &str) -> String {
    let name: String = name.chars().take(PROBE_NAME_CHARS_MAX).collect();
    format!("{PROBE_KEY_PREFIX}{name}")
}

impl Ledger {
    /// Writes down that a probe has come to this version of the handler.
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn record_probe(
        &self,
        name: &str,
        version: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", text(&probe_key(name)))
            .item(PROBE_VERSION_ATTRIBUTE, text(version))
            .item("seen_at", text(&now.to_string()))
            .item("expires_at", number((now + KEPT_FOR).as_second()));
        let put = put.send().await;
        put.map(drop).map_err(|error| LedgerError::of("PutItem", &self.table, &error))
    }
}
