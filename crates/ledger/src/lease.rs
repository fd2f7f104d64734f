//! The lease: of all who find an unfinished start of a target that refuses no second
//! one, one at a time may make it.
//!
//! A lease lasts longer than whoever holds it can: Lambda ends an invocation at its
//! timeout, and a lease is that and [`CLOCK_SKEW_MAX_S`] more. So who takes over finds
//! nobody who could still begin to start, but perhaps a start that was made and not
//! recorded.

use jiff::{SignedDuration, Timestamp};

use crate::error::LedgerError;
use crate::row::{StartRow, State};
use crate::table::{ClaimOutcome, Ledger, key_of, number, text};

/// The attribute that holds a lease's end, in epoch seconds.
pub(crate) const LEASE_ATTRIBUTE: &str = "lease_until";

/// How far the clocks of two machines may be apart, in seconds: hundreds of times what
/// Lambda's are. Source: Amazon Time Sync Service, which keeps its clients within a
/// millisecond of UTC.
pub const CLOCK_SKEW_MAX_S: u32 = 30;

/// When a lease ends that is taken now.
pub(crate) fn lease_end(now: Timestamp, lease_s: u32) -> Timestamp {
    now + SignedDuration::from_secs(i64::from(lease_s))
}

impl Ledger {
    /// What a claim that nobody finished means to whoever finds it.
    pub(crate) async fn unfinished(
        &self,
        mut row: Box<StartRow>,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let Some((seen, lease_s)) = row.lease_until.zip(row.start.details.lease_s) else {
            return Ok(ClaimOutcome::Unfinished(row));
        };
        // Compared as they are written: in whole seconds.
        if seen.as_second() >= now.as_second() {
            return Ok(ClaimOutcome::Leased { until: seen });
        }
        let until = lease_end(now, lease_s);
        match self.extend_lease(&row, seen, until).await? {
            true => {
                row.lease_until = Some(until);
                Ok(ClaimOutcome::TakenOver(row))
            }
            // Somebody was quicker: the row is started by now, or leased anew.
            false => Ok(ClaimOutcome::Leased { until }),
        }
    }

    /// Takes over a start that the sweep found, where it is leased: as [`Ledger::claim`]
    /// does, whose outcomes it has but for [`ClaimOutcome::Claimed`].
    ///
    /// # Errors
    ///
    /// Where the call fails.
    pub async fn take_over(
        &self,
        row: &StartRow,
        now: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let row = Box::new(row.clone());
        match row.state {
            State::Claimed => self.unfinished(row, now).await,
            _ => Ok(ClaimOutcome::Known(row)),
        }
    }

    /// One conditional write: the lease is still the one that was seen, and the start
    /// unfinished. Whether it was so.
    async fn extend_lease(
        &self,
        row: &StartRow,
        seen: Timestamp,
        until: Timestamp,
    ) -> Result<bool, LedgerError> {
        let result = self
            .update_of(key_of(&row.start.start_key))
            .update_expression("SET lease_until = :until")
            .condition_expression("#row.#state = :claimed AND lease_until = :seen")
            .expression_attribute_names("#row", "row")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", text(State::Claimed.as_str()))
            .expression_attribute_values(":seen", number(seen.as_second()))
            .expression_attribute_values(":until", number(until.as_second()))
            .send()
            .await;
        self.done(result)
    }
}
