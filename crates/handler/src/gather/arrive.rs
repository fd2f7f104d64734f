//! An event on its way into its window.

use std::time::{Duration, Instant};

use bellwire_ledger::{Admission, Admitted, Fate, MemberRow, Window};
use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::gathered::member_id;
use bellwire_telemetry::metrics::{DUPLICATES, TRIGGER};
use jiff::Timestamp;
use tracing::{info, warn};

use super::rules::{GatherRules, Next, member_of};
use crate::decode::Delivery;
use crate::handler::{Arrival, Handler, HandlerError};
use crate::model::CompiledTrigger;

/// Attempts for one event: each gate found full, each generation found closed and
/// each collision with others takes one.
const ATTEMPTS_MAX: u32 = 30;

/// The wait after a first collision with others at one gate; the next is twice as long.
const COLLISION_WAIT: Duration = Duration::from_millis(10);
const COLLISION_WAIT_MAX: Duration = Duration::from_millis(400);

/// How long the event that ends a window may work on its members: whatever is left
/// then is the sweep's.
pub(super) const COMPLETE_AT_ONCE: Duration = Duration::from_secs(8);

impl Handler {
    /// Takes an event into its window; where that has ended with it, starts the run.
    pub(crate) async fn gather(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        delivery: &Delivery,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let name = trigger.trigger.name.as_str();
        let event = &arrival.event;
        let key = match rules.key_of(event) {
            Ok(key) => key,
            Err(error) => {
                let (reason, message) = (DeadReason::InvalidInput, error.to_string());
                let put = self.quarantine.put(delivery, Some(name), reason, &message, now);
                return Ok(put.await?);
            }
        };
        let window = rules.window_of(&key);
        if self.admit(trigger, rules, &window, arrival, now).await? {
            let until = Instant::now() + COMPLETE_AT_ONCE;
            self.settle(trigger, rules, &window, now, until).await?;
        }
        Ok(())
    }

    /// Tries until the event is in its window, or was before; answers whether the
    /// window may have ended with it.
    async fn admit(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        window: &Window,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<bool, HandlerError> {
        let event = &arrival.event;
        let member = member_of(arrival.pointer.as_ref().unwrap_or(event));
        let id = member_id(&window.trigger, &event.source, &event.id);
        let is_marker = rules.is_marker(event);
        let known = self.generations.get(&window.id);
        let mut attempt = rules.first(window, &id, is_marker, known);
        for number in 0..ATTEMPTS_MAX {
            let fate = rules.fate(&member.event, is_marker, &attempt);
            let admission = Admission {
                window,
                generation: attempt.generation,
                gate: attempt.gate,
                member: &member,
                member_id: &id,
                fate,
                room: rules.room(window, &event.event_type, &attempt),
                is_late: GatherRules::is_late(fate, &attempt),
                completes: attempt.completes,
                due_at: rules.due_at(&attempt, now),
                now,
            };
            if fate == Fate::Listed {
                self.remember_listed(&admission).await?;
                return Ok(false);
            }
            match self.ledger.admit(&admission).await? {
                Admitted::Joined => {
                    tell_joined(&admission, event);
                    self.generations.set(&window.id, attempt.generation, attempt.previous);
                    if !attempt.completes {
                        self.hint_joined(window, attempt.generation, admission.due_at, now).await;
                    }
                    return Ok(attempt.completes);
                }
                Admitted::Known(row) => {
                    tell_known(&row, window, event);
                    return Ok(row.completes);
                }
                Admitted::Contended => tokio::time::sleep(collision_wait(&id, number)).await,
                Admitted::Refused(gate) => match rules.next(&admission, attempt, gate.as_deref()) {
                    Next::Try(next) => attempt = next,
                    Next::Renew => {
                        let gates = self.ledger.gates(window, now).await?;
                        self.ledger.renew_gates(window, &gates, now).await?;
                    }
                    Next::Settle => {
                        let until = Instant::now() + COMPLETE_AT_ONCE;
                        self.settle(trigger, rules, window, now, until).await?;
                        let known = self.generations.get(&window.id);
                        attempt = rules.first(window, &id, is_marker, known);
                    }
                },
            }
        }
        Err(self.ledger.contended().into())
    }

    async fn remember_listed(&self, admission: &Admission<'_>) -> Result<(), HandlerError> {
        let Admission { window, generation, gate, now, .. } = *admission;
        let row = MemberRow {
            member: admission.member.clone(),
            window: window.id.clone(),
            // The one before that which is open: it was in that one's listing.
            generation: generation.saturating_sub(1),
            gate,
            fate: Fate::Listed,
            is_late: false,
            completes: false,
            arrived_at: now,
        };
        let id = admission.member.event.event_id.as_deref();
        info!(trigger = window.trigger, key = window.key, id, "event was in the window's listing");
        Ok(self.ledger.remember_listed(&row, admission.member_id).await?)
    }
}

fn tell_joined(admission: &Admission<'_>, event: &Envelope) {
    let (window, generation) = (admission.window, admission.generation);
    if admission.is_late {
        warn!(
            trigger = window.trigger,
            key = window.key,
            generation,
            id = event.id,
            "late arrival: its window was closed without it, and it is in the next"
        );
    } else {
        info!(
            trigger = window.trigger,
            key = window.key,
            generation,
            id = event.id,
            "event gathered"
        );
    }
}

fn tell_known(row: &MemberRow, window: &Window, event: &Envelope) {
    DUPLICATES.add(1, || [TRIGGER.bounded(&window.trigger)]);
    info!(
        trigger = window.trigger,
        key = window.key,
        generation = row.generation,
        fate = ?row.fate,
        id = event.id,
        "duplicate: gathered before"
    );
}

/// Longer each time, and another for each event, so that those that collided do not
/// again: between half of it and all of it, by the event's id.
fn collision_wait(member_id: &str, attempt: u32) -> Duration {
    let longest = COLLISION_WAIT.saturating_mul(1 << attempt.min(8)).min(COLLISION_WAIT_MAX);
    let index = (attempt as usize * 2) % member_id.len().saturating_sub(2).max(1);
    let digits = member_id.get(index..index + 2).unwrap_or_default();
    let drawn = u8::from_str_radix(digits, 16).unwrap_or(0);
    longest.mul_f64(0.5 + f64::from(drawn) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_collided_wait_differently_and_within_bounds() {
        let (one, other) = (member_id("t", "/a", "1"), member_id("t", "/a", "2"));
        assert!((0..8).any(|n| collision_wait(&one, n) != collision_wait(&other, n)));
        for attempt in 0..ATTEMPTS_MAX {
            let wait = collision_wait(&one, attempt);
            assert!(wait >= COLLISION_WAIT / 2 && wait <= COLLISION_WAIT_MAX, "{wait:?}");
        }
    }
}
