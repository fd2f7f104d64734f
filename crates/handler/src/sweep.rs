//! What the handler does once a minute: whatever is due. A claim that nobody
//! finished is repeated; a run past its expected end is asked for, and the
//! completion that never came is published, with the id it would have had. What guards
//! hold back is released as they allow: `release`.

use std::time::{Duration, Instant};

use bellwire_ledger::{ClaimOutcome, DUE_SHARDS, End, Start, StartRow, State};
use bellwire_telemetry::{mark_failed, set_parent};
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use crate::decode::Delivery;
use crate::handler::{Handler, HandlerError, Moment};
use crate::matching::EndedRun;
use crate::start::{Attempt, RunState};

/// Rows that one sweep takes from a shard; the next takes the next.
const ROWS_PER_SHARD_MAX: i32 = 50;

/// A run that goes on, or whose completion was just published, is looked at
/// again after this long.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// What a sweep leaves of its time for the answer.
const RESERVE: SignedDuration = SignedDuration::from_secs(5);

impl Handler {
    /// Looks at everything that is due, as long as there is time. A start that
    /// cannot be mended is logged and put off, so that it keeps no other from
    /// being looked at.
    ///
    /// # Errors
    ///
    /// Where the ledger cannot be asked or written.
    pub(crate) async fn sweep(&self, moment: Moment) -> Result<(), HandlerError> {
        // Rows are looked at in real time, whatever moment the sweep was asked to be at.
        let begun = Timestamp::now();
        let budget = moment.deadline.duration_since(moment.now) - RESERVE;
        'starts: for shard in 0..DUE_SHARDS {
            for row in self.ledger.due(shard, moment.now, ROWS_PER_SHARD_MAX).await? {
                if Timestamp::now().duration_since(begun) > budget {
                    warn!("the sweep ran out of time; the next goes on");
                    break 'starts;
                }
                match row {
                    Ok(row) => self.look_at(&row, moment.now).await?,
                    Err(error) => error!(error = %error, "a start that is due cannot be read"),
                }
            }
        }
        let left = Duration::try_from(budget - Timestamp::now().duration_since(begun));
        let until = Instant::now() + left.unwrap_or_default();
        // Behind the runs, whose ends make room.
        self.release_held(moment.now, until).await?;
        self.sweep_windows(moment.now, until).await?;
        self.tell_open_windows(until).await;
        Ok(())
    }

    async fn look_at(&self, row: &StartRow, now: Timestamp) -> Result<(), HandlerError> {
        let context = &row.start.context;
        let span = info_span!("sweep", trigger = row.start.trigger);
        set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
        async {
            if let Err(error) = self.mend(row, now).await {
                mark_failed(&Span::current(), &error);
                let (trigger, id) = (&row.start.trigger, &row.start.cause.id);
                error!(trigger, id, error = %error, "start not mended: put off");
            }
            Ok(self.ledger.put_off(&row.start.start_key, now + AGAIN_AFTER).await?)
        }
        .instrument(span)
        .await
    }

    async fn mend(&self, row: &StartRow, now: Timestamp) -> Result<(), HandlerError> {
        let start = &row.start;
        let Some(run_arn) = start.run_arn.as_deref().filter(|_| row.state == State::Started) else {
            return self.repeat(row, now).await;
        };
        let ended = match self.targets.state_of(start, run_arn).await? {
            RunState::Running => return self.keep_slot(start, now).await,
            RunState::Ended(ended) => ended.to_envelope(&row.completion_origin()),
            RunState::Unknown => {
                let cause = Some("AWS does not know the run any more".to_owned());
                let end = End { status: "UNKNOWN".to_owned(), cause, ..End::default() };
                let (trigger, id) = (&start.trigger, &start.cause.id);
                warn!(trigger, id, run = run_arn, "run is gone: its start is closed");
                return self.close_start(start, State::Failed, &end, now).await;
            }
        };
        let closing = EndedRun::of(&ended);
        self.announce_or_refuse(ended, &start.trigger, now).await?;
        let (trigger, id) = (&start.trigger, &start.cause.id);
        info!(trigger, id, run = run_arn, "lost completion published");
        if let Some(EndedRun { state, end, .. }) = closing {
            self.close_start(start, state, &end, now).await?;
        }
        Ok(())
    }

    /// Keeps the slot of a run that goes on past its expected end.
    async fn keep_slot(&self, start: &Start, now: Timestamp) -> Result<(), HandlerError> {
        if self.model.guards_of(&start.trigger).max_concurrent.is_some() {
            self.ledger.renew_slot(&start.trigger, &start.start_key, now).await?;
        }
        Ok(())
    }

    /// Repeats a start that nobody finished, as it was claimed. One that is leased is
    /// left to its holder as long as the lease lasts.
    async fn repeat(&self, row: &StartRow, now: Timestamp) -> Result<(), HandlerError> {
        let (start, attempt) = match self.ledger.take_over(row, now).await? {
            ClaimOutcome::Claimed | ClaimOutcome::Unfinished(_) => (&row.start, Attempt::Claimed),
            ClaimOutcome::TakenOver(_) => (&row.start, Attempt::TakenOver),
            // A claim that is there has passed its guards.
            ClaimOutcome::Leased { .. }
            | ClaimOutcome::Known(_)
            | ClaimOutcome::Held { .. }
            | ClaimOutcome::Dropped { .. } => return Ok(()),
        };
        info!(trigger = start.trigger, id = start.cause.id, "unfinished start repeated");
        self.start_or_refuse(start, attempt, &delivery_of(start), now).await
    }
}

/// The event itself is gone; what is left of it is the input that was made of it.
pub(crate) fn delivery_of(start: &Start) -> Delivery {
    let traceparent = start.context.traceparent.clone();
    Delivery {
        message_id: Some(start.cause.id.clone()),
        body: start.input.clone(),
        attributes: traceparent.map(|text| ("traceparent".to_owned(), text)).into_iter().collect(),
        ..Delivery::default()
    }
}
