//! What the handler does once a minute: whatever is due. A claim that nobody
//! finished is repeated; a run past its expected end is asked for, and the
//! completion that never came is published, with the id it would have had.

use bellwire_ledger::{DUE_SHARDS, StartRow, State};
use bellwire_telemetry::set_parent;
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument as _, info, info_span, warn};

use crate::decode::Delivery;
use crate::handler::{Handler, HandlerError, Moment};

/// Rows that one sweep takes from a shard; the next takes the next.
const ROWS_PER_SHARD_MAX: i32 = 50;

/// A run that goes on, or whose completion was just published, is looked at
/// again after this long.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// What a sweep leaves of its time for the answer.
const RESERVE: SignedDuration = SignedDuration::from_secs(5);

impl Handler {
    /// Looks at everything that is due, as long as there is time.
    ///
    /// # Errors
    ///
    /// The first row's error; the other rows were looked at all the same, and
    /// the next sweep finds again what failed.
    pub(crate) async fn sweep(&self, moment: Moment) -> Result<(), HandlerError> {
        // Rows are looked at in real time, whatever moment the sweep was asked to be at.
        let begun = Timestamp::now();
        let budget = moment.deadline.duration_since(moment.now) - RESERVE;
        let mut result = Ok(());
        for shard in 0..DUE_SHARDS {
            for row in self.ledger.due(shard, moment.now, ROWS_PER_SHARD_MAX).await? {
                if Timestamp::now().duration_since(begun) > budget {
                    warn!("the sweep ran out of time; the next goes on");
                    return result;
                }
                let context = &row.start.context;
                let span = info_span!("sweep", trigger = row.start.trigger);
                set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
                result = result.and(self.mend(&row, moment.now).instrument(span).await);
            }
        }
        result
    }

    async fn mend(&self, row: &StartRow, now: Timestamp) -> Result<(), HandlerError> {
        let start = &row.start;
        let Some(run_arn) = start.run_arn.as_deref().filter(|_| row.state == State::Started) else {
            info!(trigger = start.trigger, id = start.cause.id, "unfinished start repeated");
            let input = Delivery { body: start.input.clone(), ..Delivery::default() };
            return self.start_or_refuse(start, &input, now).await;
        };
        if let Some(ended) = self.step_functions.ended(start, run_arn).await? {
            self.announce(ended.to_envelope(&row.completion_origin())).await?;
            info!(trigger = start.trigger, run = run_arn, "lost completion published");
        }
        Ok(self.ledger.put_off(&start.start_key, now + AGAIN_AFTER).await?)
    }
}
