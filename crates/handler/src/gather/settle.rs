//! Whether a window has ended, and its closing.

use std::time::Instant;

use bellwire_ledger::{ClosedWindow, Gate, Previous, Window};
use bellwire_schema::gathered::GatherEnd;
use bellwire_telemetry::metrics::{ENDED_BY, TRIGGER, WINDOWS_CLOSED};
use jiff::Timestamp;
use tracing::{Instrument as _, error, info, info_span, warn};

use super::complete::Completion;
use super::manifest::Judgement;
use super::rules::{GatherRules, Verdict};
use crate::handler::{Handler, HandlerError};
use crate::model::CompiledTrigger;

/// Looks at a window that changes while it is looked at.
const LOOKS_MAX: u32 = 20;

/// What was found of a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    /// Nothing is open.
    Nothing,
    /// It waits; its gates, and when it is to be looked at again.
    Waits(Vec<Gate>, Timestamp),
    /// It was closed.
    Closed,
}

/// What a window ends with.
struct Ending {
    ended_by: GatherEnd,
    cause: Option<String>,
}

impl Handler {
    /// Looks at a window, closes it if it has ended, and then starts its run. Once it
    /// is closed it is the sweep's too: what fails from there on is told and left to it.
    pub(crate) async fn settle(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        window: &Window,
        now: Timestamp,
        until: Instant,
    ) -> Result<Settled, HandlerError> {
        for _ in 0..LOOKS_MAX {
            let gates = self.ledger.gates(window, now).await?;
            let verdict = rules.verdict(&gates, now);
            let open = || gates.iter().flatten().filter(|gate| gate.opened_at.is_some()).cloned();
            let ending = match verdict {
                Verdict::Empty => return Ok(Settled::Nothing),
                Verdict::Wait(again) => return Ok(Settled::Waits(open().collect(), again)),
                Verdict::Close(ended_by) => Ending { ended_by, cause: None },
                Verdict::AskManifest => {
                    match self.ask_manifest(trigger, rules, &gates, now).await? {
                        Ok(ending) => ending,
                        Err(again) => return Ok(Settled::Waits(open().collect(), again)),
                    }
                }
            };
            let closed = closed_window(rules, window, &gates, ending, now);
            if !self.ledger.close_window(&closed, &gates).await? {
                continue;
            }
            self.tell_closed(&closed);
            let span = info_span!("gather", trigger = window.trigger, key = window.key);
            let completed = self.complete(trigger, rules, &closed, now, until).instrument(span);
            match completed.await {
                Ok(Completion::Done) => {}
                Ok(Completion::GoesOn) => info!(key = window.key, "the sweep goes on with it"),
                Err(error) => {
                    error!(key = window.key, error = %error, "window not started: the sweep tries again");
                }
            }
            return Ok(Settled::Closed);
        }
        Err(self.ledger.contended().into())
    }

    fn tell_closed(&self, closed: &ClosedWindow) {
        let ClosedWindow { window, generation, ended_by, .. } = closed;
        let previous = Previous {
            ended_by: *ended_by,
            closed_at: closed.closed_at,
            listed_until: closed.listed_until,
        };
        self.generations.set(&window.id, generation + 1, Some(previous));
        let (events, ended_by) = (closed.count(), ended_by.as_str());
        WINDOWS_CLOSED.add(1, || [TRIGGER.bounded(&window.trigger), ENDED_BY.of(ended_by)]);
        info!(
            trigger = window.trigger,
            key = window.key,
            generation,
            events,
            ended_by,
            "window closed"
        );
    }

    /// What a manifest says of its window: that it has ended, or when to ask again.
    async fn ask_manifest(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        gates: &[Option<Gate>],
        now: Timestamp,
    ) -> Result<Result<Ending, Timestamp>, HandlerError> {
        let markers = gates.iter().flatten().filter_map(|gate| gate.marker.as_ref());
        let Some(manifest) = markers.min_by_key(|marker| marker.event.time) else {
            return Ok(Err(now));
        };
        let ending = |ended_by, cause| Ok(Ok(Ending { ended_by, cause }));
        match self.judge_manifest(trigger, manifest).await? {
            Judgement::Whole(_) => ending(GatherEnd::Complete, None),
            Judgement::Untrue(cause) => ending(GatherEnd::Untrue, Some(cause)),
            Judgement::Missing { listed, missing, example } => {
                let cause = format!(
                    "{missing} of the {listed} objects that the manifest lists are not there, such as {example}"
                );
                let deadline = rules.deadline(gates).unwrap_or(now);
                if now >= deadline {
                    return ending(GatherEnd::Deadline, Some(cause));
                }
                warn!(
                    trigger = trigger.trigger.name,
                    missing, example, "manifest waits for objects"
                );
                Ok(Err(deadline.min(now + GatherRules::ask_again_after(gates, now))))
            }
        }
    }
}

/// The row of a window that ends now.
fn closed_window(
    rules: &GatherRules,
    window: &Window,
    gates: &[Option<Gate>],
    ending: Ending,
    now: Timestamp,
) -> ClosedWindow {
    let there = || gates.iter().flatten();
    let previous = there().find_map(|gate| gate.previous);
    let listed_after = previous.and_then(|previous| previous.listed_until);
    let markers = there().filter_map(|gate| gate.marker.as_ref());
    let marker = markers.min_by_key(|marker| marker.event.time).cloned();
    // By the marker S3 itself says when everything was there; a manifest was found
    // to be whole just now.
    let listed_until = match ending.ended_by {
        GatherEnd::Complete if rules.lists() => {
            marker.as_ref().and_then(|marker| marker.event.time).or(Some(now))
        }
        GatherEnd::Complete if rules.marker().is_some() => Some(now),
        _ => listed_after,
    };
    ClosedWindow {
        window: window.clone(),
        generation: there().map(|gate| gate.generation).max().unwrap_or(0),
        ended_by: ending.ended_by,
        cause: ending.cause,
        counts: gates.iter().map(|gate| gate.as_ref().map_or(0, |gate| gate.count)).collect(),
        opened_at: there().filter_map(|gate| gate.opened_at).min().unwrap_or(now),
        closed_at: now,
        marker,
        listed_after,
        listed_until,
        progress: None,
        outcome: None,
    }
}
