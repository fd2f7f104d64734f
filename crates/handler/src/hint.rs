//! Hints: of what is due within a minute, a delayed message of SQS tells the handler when
//! it is, so that it need not wait for the next sweep.
//!
//! A hint is never the only wake-up. What it tells of is due in the ledger too: a hint
//! that is lost, or could not be sent, costs time until the sweep and nothing else, so
//! that it fails nothing; one that comes twice, or too early, finds nothing due. It says
//! where to look, and never what to do.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use bellwire_ledger::{Gate, Window};
use bellwire_schema::workflow::SWEEP_EVERY_S;
use bellwire_telemetry::mark_failed;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, Span, debug, error, info_span, warn};

use crate::clients::Later;
use crate::decode::Delivery;
use crate::gather::Settled;
use crate::handler::{Handler, HandlerError};
use crate::model::Model;

/// How long a hint may take on its way: whoever sends it has an event to answer for.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// Hints that are remembered at most; then all are forgotten, and some are sent twice.
const SENT_MAX: usize = 10_000;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hint {
    /// The trigger of which something is due.
    pub(crate) trigger: String,
    /// The key of its window that is; `None`: what its guards hold back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<String>,
}

/// The queue of hints, which the handler both fills and empties.
#[derive(Debug)]
pub(crate) struct Hints {
    client: Later<Client>,
    queue_url: String,
    queue_arn: String,
    /// What this process has told already.
    sent: Mutex<HashSet<String>>,
}

impl Hints {
    /// The queue of a workflow's hints. Where nothing waits for less than a minute it is
    /// not there, or not for long.
    pub(crate) fn new(model: &Model, client: Later<Client>) -> Self {
        let queue = model.deployment.hint_queue();
        Self {
            client,
            queue_url: model.place.queue_url(&queue),
            queue_arn: model.place.queue_arn(&queue),
            sent: Mutex::default(),
        }
    }

    /// The hint that a message is, where it came by this queue.
    fn read(&self, delivery: &Delivery) -> Option<Hint> {
        let is_ours = delivery.came_by.as_deref() == Some(&self.queue_arn);
        is_ours.then(|| serde_json::from_str(&delivery.body).ok()).flatten()
    }

    /// Whether this process tells of something for the first time.
    fn is_first(&self, what: String) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= SENT_MAX {
            sent.clear();
        }
        sent.insert(what)
    }

    async fn send(&self, hint: &Hint, delay_s: i32) {
        let body = serde_json::to_string(hint).expect("a hint is plain JSON");
        let send = self.client.send_message().queue_url(&self.queue_url).message_body(body);
        let send = Box::pin(send.delay_seconds(delay_s).send());
        let sent = tokio::time::timeout(SEND_WITHIN, send).await;
        let trigger = &hint.trigger;
        match sent {
            Ok(Ok(_)) => debug!(trigger, delay_s, "hint sent"),
            Ok(Err(error)) => {
                let error = DisplayErrorContext(&error).to_string();
                warn!(trigger, error, "hint not sent: the sweep sees to it");
            }
            Err(_) => warn!(trigger, "hint not sent within a second: the sweep sees to it"),
        }
    }
}

/// Whole seconds until something is due, and a second at least; `None` where the sweep
/// comes before, or may.
fn delay_s(due_at: Timestamp, now: Timestamp) -> Option<i32> {
    let millis = due_at.duration_since(now).as_millis();
    let seconds = u64::try_from(millis).unwrap_or(0).div_ceil(1_000).max(1);
    (seconds <= SWEEP_EVERY_S).then(|| i32::try_from(seconds).ok()).flatten()
}

impl Handler {
    /// The hint that a message of a batch is.
    pub(crate) fn hint_in(&self, delivery: &Delivery) -> Option<Hint> {
        self.hints.read(delivery)
    }

    /// Tells of a window that an event has joined, once a process: whoever puts it off
    /// tells of it from then on.
    pub(crate) async fn hint_joined(
        &self,
        window: &Window,
        generation: u32,
        due_at: Timestamp,
        now: Timestamp,
    ) {
        let what = format!("{}#{generation}", window.id);
        let hint = Hint { trigger: window.trigger.clone(), window: Some(window.key.clone()) };
        self.hint(hint, Some(what), due_at, now).await;
    }

    /// Tells of a start that is held back until then, once a process.
    pub(crate) async fn hint_held(&self, trigger: &str, until: Option<Timestamp>, now: Timestamp) {
        let Some(until) = until else { return };
        let hint = Hint { trigger: trigger.to_owned(), window: None };
        self.hint(hint, Some(format!("{trigger}#{until}")), until, now).await;
    }

    /// Puts a window off that waits; whoever does so tells of it.
    pub(crate) async fn put_off_window(
        &self,
        window: &Window,
        gates: &[Gate],
        again: Timestamp,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let mut has_moved = false;
        for gate in gates {
            has_moved |= self.ledger.put_off_gate(gate, again).await?;
        }
        if has_moved {
            let hint = Hint { trigger: window.trigger.clone(), window: Some(window.key.clone()) };
            self.hint(hint, None, again, now).await;
        }
        Ok(())
    }

    /// Sends a hint, where its trigger has short waits and it is of one; of what was told
    /// before it sends none.
    async fn hint(&self, hint: Hint, what: Option<String>, due_at: Timestamp, now: Timestamp) {
        let Some(delay_s) = delay_s(due_at, now) else { return };
        let mut triggers = self.model.triggers.iter();
        let is_short =
            triggers.any(|one| one.trigger.name == hint.trigger && one.trigger.has_short_wait());
        if is_short && what.is_none_or(|what| self.hints.is_first(what)) {
            self.hints.send(&hint, delay_s).await;
        }
    }

    /// Looks where a hint says. What fails is the sweep's, and is told.
    pub(crate) async fn follow(&self, hint: &Hint, now: Timestamp, until: Instant) {
        let span = info_span!("hint", trigger = hint.trigger, key = hint.window);
        async {
            let followed = match &hint.window {
                Some(key) => self.look_at_window(&hint.trigger, key, now, until).await,
                None => self.release_of(&hint.trigger, now, until).await,
            };
            if let Err(error) = followed {
                mark_failed(&Span::current(), &error);
                error!(trigger = hint.trigger, %error, "hint not followed: the sweep sees to it");
            }
        }
        .instrument(span)
        .await;
    }

    async fn look_at_window(
        &self,
        trigger: &str,
        key: &str,
        now: Timestamp,
        until: Instant,
    ) -> Result<(), HandlerError> {
        let Some((trigger, rules)) = self.gathering(trigger) else { return Ok(()) };
        let window = rules.window_of(key);
        match self.settle(trigger, rules, &window, now, until).await? {
            // One that is not due has been put off, and told of, by somebody else.
            Settled::Waits(gates, again) if gates.iter().any(|gate| gate.is_due(now)) => {
                self.put_off_window(&window, &gates, again, now).await
            }
            Settled::Waits(..) | Settled::Nothing | Settled::Closed => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_hint_never_comes_before_what_it_tells_of_nor_behind_the_sweep() {
        let now = Timestamp::from_millisecond(1_764_072_000_500).unwrap();
        for (millis, expected) in [
            (-5, Some(1)),
            (0, Some(1)),
            (400, Some(1)),
            (1_000, Some(1)),
            (1_001, Some(2)),
            (60_000, Some(60)),
            (60_001, None),
        ] {
            let due_at = now + SignedDuration::from_millis(millis);
            assert_eq!(delay_s(due_at, now), expected, "{millis}");
        }
    }
}
