//! What guards hold back, released by the sweep: of each trigger the longest held first,
//! as far as its guards allow.

use std::time::Instant;

use bellwire_ledger::{Release, StartRow};
use bellwire_telemetry::{mark_failed, set_parent};
use jiff::Timestamp;
use tracing::{Instrument as _, Span, debug, error, info, info_span, warn};

use crate::handler::{Handler, HandlerError};
use crate::start::Attempt;
use crate::sweep::delivery_of;

/// Held starts that are read at once.
const PAGE_ROWS: i32 = 25;

/// Whether the trigger's next held start is to be looked at.
enum Next {
    GoOn,
    Stop,
}

impl Handler {
    /// Releases what is held back of every trigger of the workflow, as long as there is
    /// time. What fails of one trigger keeps no other from it.
    ///
    /// # Errors
    ///
    /// Where the ledger cannot be asked.
    pub(crate) async fn release_held(
        &self,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        for trigger in &self.model.triggers {
            if Instant::now() >= until {
                warn!("the sweep ran out of time before it looked at all that is held back");
                return Ok(());
            }
            self.release_of(&trigger.trigger.name, now, until).await?;
        }
        Ok(())
    }

    /// Releases what is held back of one trigger, and tells of what is due next.
    ///
    /// # Errors
    ///
    /// Where the ledger cannot be asked.
    pub(crate) async fn release_of(
        &self,
        trigger: &str,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        loop {
            let rows = self.ledger.held(trigger, now, PAGE_ROWS).await?;
            let is_all = rows.len() < PAGE_ROWS.unsigned_abs() as usize;
            let mut released = 0;
            for row in rows {
                if Instant::now() >= until {
                    warn!(trigger, "the sweep ran out of time; the next releases more");
                    return Ok(());
                }
                match row {
                    Ok(row) => match self.release_one(&row, now, &mut released).await {
                        Next::GoOn => {}
                        Next::Stop => return Ok(()),
                    },
                    Err(error) => error!(trigger, %error, "a start that is held cannot be read"),
                }
            }
            // A page of which nothing could be released would only come again.
            if is_all || released == 0 {
                return Ok(());
            }
        }
    }

    /// Releases one start and makes it. One that is released is a claim like any other:
    /// whatever fails from there on is repeated by the sweep.
    async fn release_one(&self, row: &StartRow, now: Timestamp, released: &mut u32) -> Next {
        let (start, context) = (&row.start, &row.start.context);
        let (trigger, id) = (&start.trigger, &start.cause.id);
        let span = info_span!("release", trigger);
        set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
        async {
            let guards = self.model.guards_of(trigger);
            match self.ledger.release(row, guards, now).await {
                Ok(Release::Released) => *released += 1,
                Ok(Release::Gone) => return Next::GoOn,
                Ok(Release::Held { by, until }) => {
                    self.hint_held(trigger, until, now).await;
                    let until = until.map(|until| until.to_string());
                    debug!(trigger, id, guard = by.as_str(), until, "start is still held back");
                    return Next::Stop;
                }
                Err(error) => {
                    mark_failed(&Span::current(), &error);
                    error!(trigger, id, %error, "held start not released: the next sweep tries");
                    return Next::Stop;
                }
            }
            let by = row.held.as_ref().map(|held| held.by.as_str());
            info!(trigger, id, guard = by, "held start released");
            let attempt = Attempt::Claimed;
            if let Err(error) = self.start_or_refuse(start, attempt, &delivery_of(start), now).await
            {
                mark_failed(&Span::current(), &error);
                error!(trigger, id, %error, "released start not made: the sweep repeats it");
            }
            Next::GoOn
        }
        .instrument(span)
        .await
    }
}
