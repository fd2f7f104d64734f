//! What is due of windows: quiet ones, those whose deadline passed, and those that
//! were closed and not started.

use std::time::Instant;

use bellwire_ledger::{ClosedWindow, DueWindow, Gate, LedgerError, Outcome, WINDOW_DUE_SHARDS};
use bellwire_telemetry::mark_failed;
use bellwire_telemetry::metrics::WINDOWS_OPEN;
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument as _, Span, error, info_span, warn};

use super::complete::Completion;
use super::rules::GatherRules;
use super::settle::Settled;
use crate::handler::{Handler, HandlerError};
use crate::model::CompiledTrigger;

/// Rows that one sweep takes from a shard; the next takes the next.
const ROWS_PER_SHARD_MAX: i32 = 50;

/// What could not be looked at is looked at again after this long.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(5);

impl Handler {
    /// Looks at every window of which something is due, until the time is over. One
    /// that cannot be looked at is told and put off.
    ///
    /// # Errors
    ///
    /// Where the ledger cannot be asked or written.
    pub(crate) async fn sweep_windows(
        &self,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        if !self.gathers() {
            return Ok(());
        }
        // One window at least, so that each sweep is a step forward.
        let mut has_looked = false;
        for shard in 0..WINDOW_DUE_SHARDS {
            for due in self.ledger.due_windows(shard, now, ROWS_PER_SHARD_MAX).await? {
                if has_looked && Instant::now() >= until {
                    warn!("the sweep ran out of time; the next goes on");
                    return Ok(());
                }
                has_looked = true;
                match due {
                    Ok(DueWindow::Open(gate)) => self.look_at_gate(&gate, now, until).await?,
                    Ok(DueWindow::Closed(closed)) => {
                        self.look_at_closed(&closed, now, until).await?;
                    }
                    Err(error) => error!(error = %error, "a window that is due cannot be read"),
                }
            }
        }
        Ok(())
    }

    /// Tells how many windows are open, where somebody reads that and there is time left.
    /// That they cannot be counted is told, and fails nothing.
    pub(crate) async fn tell_open_windows(&self, until: Instant) {
        if !WINDOWS_OPEN.is_read() || !self.gathers() {
            return;
        }
        let count = async {
            let mut open = 0;
            for shard in 0..WINDOW_DUE_SHARDS {
                open += self.ledger.count_windows(shard).await?;
            }
            Ok::<_, LedgerError>(open)
        };
        match tokio::time::timeout_at(until.into(), count).await {
            Ok(Ok(open)) => WINDOWS_OPEN.record(f64::from(open), || []),
            Ok(Err(error)) => warn!(%error, "open windows not counted"),
            Err(_) => warn!("no time was left to count open windows"),
        }
    }

    fn gathers(&self) -> bool {
        self.model.triggers.iter().any(|trigger| trigger.gather.is_some())
    }

    async fn look_at_gate(
        &self,
        gate: &Gate,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        let window = &gate.window;
        let span = info_span!("sweep", trigger = window.trigger, key = window.key);
        async {
            let settled = match self.gathering(&window.trigger) {
                Some((trigger, rules)) => self.settle(trigger, rules, window, now, until).await,
                None => {
                    error!("nothing in the workflow gathers this window: put off");
                    self.ledger.put_off_gate(gate, now + AGAIN_AFTER).await?;
                    return Ok(());
                }
            };
            match settled {
                Ok(Settled::Waits(gates, again)) => {
                    self.put_off_window(window, &gates, again, now).await
                }
                Ok(Settled::Nothing | Settled::Closed) => Ok(()),
                Err(error) => {
                    mark_failed(&Span::current(), &error);
                    error!(error = %error, "window not looked at: put off");
                    self.ledger.put_off_gate(gate, now + AGAIN_AFTER).await?;
                    Ok(())
                }
            }
        }
        .instrument(span.clone())
        .await
    }

    async fn look_at_closed(
        &self,
        closed: &ClosedWindow,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        let window = &closed.window;
        let span = info_span!("sweep", trigger = window.trigger, key = window.key);
        async {
            let Some((trigger, rules)) = self.gathering(&window.trigger) else {
                error!("nothing in the workflow starts this window: it is given up");
                let outcome = Outcome::Dead("its trigger is gone".to_owned());
                return Ok(self.ledger.record_outcome(closed, &outcome).await?);
            };
            match self.complete(trigger, rules, closed, now, until).await {
                Ok(Completion::Done | Completion::GoesOn) => Ok(()),
                Err(error) => {
                    mark_failed(&Span::current(), &error);
                    error!(error = %error, "window not started: put off");
                    let progress = closed.progress.as_ref();
                    Ok(self.ledger.put_off_closed(closed, progress, now + AGAIN_AFTER).await?)
                }
            }
        }
        .instrument(span.clone())
        .await
    }

    pub(crate) fn gathering(&self, name: &str) -> Option<(&CompiledTrigger, &GatherRules)> {
        let trigger = self.model.triggers.iter().find(|one| one.trigger.name == name)?;
        Some((trigger, trigger.gather.as_ref()?))
    }
}
