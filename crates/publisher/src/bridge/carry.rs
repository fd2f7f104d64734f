//! `carry`: a round's messages, from what they say to what is known of each record:
//! decode, route, look up, pack, publish, quarantine.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwire_schema::Envelope;
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::fifo::group_of;
use bellwire_telemetry::metrics::{
    EVENT_SOURCE, EVENT_TYPE, EVENTS_PUBLISHED, EVENTS_QUARANTINED, EVENTS_RECEIVED,
    EVENTS_SKIPPED, PUBLISH_LAG, REASON,
};
use bellwire_telemetry::{link, with_causes};
use futures::StreamExt as _;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use opentelemetry::KeyValue;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::{BATCHES_MAX, Bridge, Edges};
use crate::call::{CallError, Trouble};
use crate::claim::Fit;
use crate::decode::{Record, decode};
use crate::enrich::{correlated, enrich};
use crate::lanes::{Line, Ticket};
use crate::pack::{Entry, pack};
use crate::publish::{Fate, Patience};
use crate::quarantine::{Reject, letter_of, quarantine};
use crate::receive::Message;
use crate::route::{Draft, Routed};
use crate::settle::Outcome;
use crate::spans;

/// How long a round tries to quarantine.
const QUARANTINE_FOR: Duration = Duration::from_secs(15);

/// Look-ups of one round that are under way together.
const LOOK_UPS_MAX: usize = 10;

/// What is known of each record of a round: left, until more is known.
pub(super) struct Sheet {
    pub(super) outcomes: Vec<Vec<Outcome>>,
    /// For how many seconds messages are hidden that wait in their groups, by their
    /// places in the round.
    pub(super) hidden_s: BTreeMap<usize, u32>,
}

/// A round's records, once they are decoded and routed.
struct Sorted {
    sheet: Sheet,
    drafts: Vec<(Ticket, Draft)>,
    rejects: Vec<(Ticket, Reject)>,
}

/// When the parts of a round end at the latest; no call of theirs is begun later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) look_up: Instant,
    pub(super) publish: Instant,
    /// `None`: [`QUARANTINE_FOR`] after the rest.
    pub(super) quarantine: Option<Instant>,
}

impl Sheet {
    fn mark(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outcomes[ticket.message][ticket.record] = outcome;
    }

    fn is_done(&self, ticket: Ticket) -> bool {
        self.outcomes[ticket.message][ticket.record] != Outcome::Left
    }
}

impl Bridge {
    /// From messages to what is known of each of their records.
    pub(super) async fn carry(&self, messages: &[Message], bounds: Bounds) -> Sheet {
        let received = spans::receive(&self.queue_arn, messages.len());
        let Sorted { mut sheet, mut drafts, mut rejects } = self.sort(messages);
        let line = self.lanes.as_ref().map(|lanes| {
            // A standard queue hands out a batch in any order.
            drafts.sort_by_key(|(ticket, _)| messages[ticket.message].sent_at);
            lanes.enter(messages, &drafts)
        });
        let (entries, unfit) = self.prepare(drafts, received.as_deref(), bounds.look_up).await;
        let deadline = bounds.publish;
        let refused = match line {
            Some(line) => self.publish_in_turn(line, &unfit, entries, deadline, &mut sheet).await,
            None => self.publish(entries, deadline, &mut sheet).await,
        };
        rejects.extend(unfit);
        rejects.extend(refused);
        let deadline = bounds.quarantine.unwrap_or_else(|| Instant::now() + QUARANTINE_FOR);
        self.quarantine(messages, rejects, deadline, &mut sheet).await;
        sheet
    }

    /// Decodes and routes every record.
    fn sort(&self, messages: &[Message]) -> Sorted {
        let outcomes = Vec::with_capacity(messages.len());
        let mut sheet = Sheet { outcomes, hidden_s: BTreeMap::new() };
        let (mut drafts, mut rejects) = (Vec::new(), Vec::new());
        for (message_index, message) in messages.iter().enumerate() {
            tracing::debug!(message_id = message.id, body = message.body, "message received");
            let records = decode(&message.body);
            let count = records.len();
            sheet.outcomes.push(vec![Outcome::Left; count]);
            for (record_index, record) in records.into_iter().enumerate() {
                let ticket = Ticket { message: message_index, record: record_index };
                let key = record.as_ref().ok().and_then(Record::subject).map(str::to_owned);
                match record.map(|record| self.rules.route(record)) {
                    Ok(Routed::Event(draft)) => drafts.push((ticket, *draft)),
                    Ok(Routed::Skip(skip)) => {
                        tracing::info!(reason = %skip, key, message_id = message.id, "record skipped");
                        EVENTS_SKIPPED.add(1, || [REASON.of(skip.as_str())]);
                        sheet.mark(ticket, Outcome::Skipped(skip));
                    }
                    Err(error) => {
                        let message = match count {
                            1 => error.message,
                            _ => format!("record {} of {count}: {error}", record_index + 1),
                        };
                        let reject = Reject { reason: error.reason, message, traceparent: None };
                        rejects.push((ticket, reject));
                    }
                }
            }
        }
        Sorted { sheet, drafts, rejects }
    }

    /// Completes every draft, and makes the entry of each: those whose look-up
    /// or claim failed stay left.
    async fn prepare(
        &self,
        drafts: Vec<(Ticket, Draft)>,
        received: Option<&str>,
        deadline: Instant,
    ) -> (Vec<(Ticket, Entry)>, Vec<(Ticket, Reject)>) {
        let (mut entries, mut claims, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        for (ticket, envelope) in self.look_up(drafts, deadline).await {
            EVENTS_RECEIVED.add(1, || type_and_source(&envelope));
            match self.fit(envelope, received) {
                Ok(Fit::Whole(entry)) => entries.push((ticket, *entry)),
                Ok(claim) => claims.push((ticket, claim)),
                Err(reject) => rejects.push((ticket, reject)),
            }
        }
        if !claims.is_empty() {
            entries.extend(self.put(claims, deadline).await);
            entries.sort_by_key(|(ticket, _)| *ticket);
        }
        (entries, rejects)
    }

    /// The events of drafts, in their order. Most are whole, and cost no timer.
    async fn look_up(
        &self,
        drafts: Vec<(Ticket, Draft)>,
        deadline: Instant,
    ) -> Vec<(Ticket, Envelope)> {
        let Edges { objects, origins, .. } = &self.edges;
        let (mut envelopes, mut others) = (Vec::with_capacity(drafts.len()), Vec::new());
        for (ticket, draft) in drafts {
            match draft {
                Draft::Whole(envelope) => envelopes.push((ticket, correlated(envelope))),
                other => others.push((ticket, other)),
            }
        }
        if others.is_empty() {
            return envelopes;
        }
        let looked_up = others.into_iter().map(|(ticket, draft)| async move {
            let completed = enrich(draft, objects.as_ref(), origins.as_ref());
            match timeout_at(deadline, completed).await {
                Ok(Ok(envelope)) => return Some((ticket, envelope)),
                Ok(Err(error)) => tracing::warn!(reason = %with_causes(&error), "event left"),
                Err(_) => tracing::warn!(reason = "its look-up took too long", "event left"),
            }
            None
        });
        let looked_up: Vec<_> = stream::iter(looked_up).buffered(LOOK_UPS_MAX).collect().await;
        envelopes.extend(looked_up.into_iter().flatten());
        envelopes.sort_by_key(|(ticket, _)| *ticket);
        envelopes
    }

    fn fit(&self, mut envelope: Envelope, received: Option<&str>) -> Result<Fit, Reject> {
        let created = spans::create(&mut envelope, self.edges.outlet.topic_name());
        if let Some(received) = received {
            link(&created, received);
        }
        let traceparent = envelope.context.traceparent.clone();
        Fit::of(envelope, self.edges.claims.as_ref()).map_err(|unfit| {
            let (reason, message) = (unfit.reason(), unfit.to_string());
            Reject { reason, message, traceparent }
        })
    }

    /// Puts the payloads of what is too large into S3.
    async fn put(&self, claims: Vec<(Ticket, Fit)>, deadline: Instant) -> Vec<(Ticket, Entry)> {
        let put = claims.into_iter().map(|(ticket, claim)| async move {
            match timeout_at(deadline, claim.put(self.edges.claims.as_ref())).await {
                Ok(Ok(entry)) => return Some((ticket, entry)),
                Ok(Err(error)) => log_unclaimed(&error),
                Err(_) => tracing::warn!(reason = "its payload was not put in time", "event left"),
            }
            None
        });
        let put: Vec<_> = stream::iter(put).buffered(LOOK_UPS_MAX).collect().await;
        put.into_iter().flatten().collect()
    }

    /// Publishes in batches; answers with what SNS refused for good.
    async fn publish(
        &self,
        entries: Vec<(Ticket, Entry)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) -> Vec<(Ticket, Reject)> {
        let patience = &Patience { deadline, give_up: self.give_up.clone() };
        let published = pack(entries).into_iter().map(|batch| async move {
            let entries: Vec<&Entry> = batch.iter().map(|(_, entry)| entry).collect();
            let fates = self.edges.outlet.publish(&entries, patience).await;
            (batch, fates)
        });
        let published: Vec<_> = stream::iter(published).buffered(BATCHES_MAX).collect().await;
        let mut refused = Vec::new();
        for (batch, fates) in published {
            for ((ticket, entry), fate) in batch.into_iter().zip(fates) {
                log_fate(entry.envelope(), &fate);
                match fate {
                    Fate::Published => sheet.mark(ticket, Outcome::Published),
                    Fate::Left { .. } => {}
                    Fate::Refused { message } => {
                        let reason = DeadReason::PublishRefused;
                        let traceparent = entry.envelope().context.traceparent.clone();
                        refused.push((ticket, Reject { reason, message, traceparent }));
                    }
                }
            }
        }
        refused
    }

    /// The same on a FIFO topic: one entry of a group at a time, each behind those that
    /// were received before it. What can never go frees its group; what may go later
    /// holds it.
    async fn publish_in_turn(
        &self,
        mut line: Line<'_>,
        unfit: &[(Ticket, Reject)],
        entries: Vec<(Ticket, Entry)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) -> Vec<(Ticket, Reject)> {
        for (ticket, _) in unfit {
            line.done(*ticket);
        }
        for (ticket, entry) in &entries {
            line.regroup(*ticket, &group_of(entry.envelope()));
        }
        let mut entries: BTreeMap<Ticket, Entry> = entries.into_iter().collect();
        let mut refused = Vec::new();
        loop {
            let changed = line.changed();
            let turns = line.turns();
            if turns.now.is_empty() {
                let patience = Patience { deadline, give_up: self.give_up.clone() };
                match turns.is_waiting && patience.bound(changed).await.is_some() {
                    true => continue,
                    false => break,
                }
            }
            let batch =
                turns.now.iter().filter_map(|ticket| Some((*ticket, entries.remove(ticket)?)));
            let never = self.publish(batch.collect(), deadline, sheet).await;
            for ticket in turns.now {
                let is_done =
                    sheet.is_done(ticket) || never.iter().any(|(other, _)| *other == ticket);
                if is_done { line.done(ticket) } else { line.hold(ticket) }
            }
            refused.extend(never);
        }
        sheet.hidden_s = line.hidden_s();
        refused
    }

    async fn quarantine(
        &self,
        messages: &[Message],
        rejects: Vec<(Ticket, Reject)>,
        deadline: Instant,
        sheet: &mut Sheet,
    ) {
        let sent = rejects.into_iter().map(|(ticket, reject)| async move {
            let message = &messages[ticket.message];
            let letter = letter_of(message, &reject, &self.queue_arn, Timestamp::now());
            let span = spans::dead(reject.reason, reject.traceparent.as_deref());
            let sent = quarantine(self.edges.dead.as_ref(), &letter).instrument(span);
            let sent = timeout_at(deadline, sent).await;
            (ticket, reject, sent)
        });
        let sent: Vec<_> = stream::iter(sent).buffered(BATCHES_MAX).collect().await;
        for (ticket, reject, sent) in sent {
            let message_id = &messages[ticket.message].id;
            let (reason, detail) = (reject.reason.as_str(), &reject.message);
            spans::in_trace_of(reject.traceparent.as_deref(), || match sent {
                Ok(Ok(())) => {
                    EVENTS_QUARANTINED.add(1, || [REASON.of(reason)]);
                    sheet.mark(ticket, Outcome::Quarantined(reject.reason));
                    tracing::warn!(reason, message_id, detail, "record quarantined");
                }
                Ok(Err(error)) => {
                    let error = with_causes(&error);
                    tracing::error!(reason, message_id, error, "record not quarantined, left");
                }
                Err(_) => {
                    tracing::error!(reason, message_id, "no time to quarantine a record, left");
                }
            });
        }
    }
}

/// A payload that was not put: only what is passing is no error.
fn log_unclaimed(error: &CallError) {
    let reason = with_causes(error);
    match error.trouble {
        Trouble::Unavailable => tracing::warn!(reason, "event left: its payload was not put"),
        Trouble::Denied | Trouble::Refused => tracing::error!(
            reason,
            "event left: the publisher's role or the claim check's bucket needs a change"
        ),
    }
}

/// By what events are counted, in and out.
pub(crate) fn type_and_source(event: &Envelope) -> [KeyValue; 2] {
    [EVENT_TYPE.bounded(event.event_type.as_str()), EVENT_SOURCE.bounded(&event.source)]
}

fn count_published(event: &Envelope, lag: Option<SignedDuration>) {
    EVENTS_PUBLISHED.add(1, || type_and_source(event));
    if let Some(lag) = lag {
        let seconds = lag.as_secs_f64().max(0.0);
        PUBLISH_LAG.record(seconds, || [EVENT_TYPE.bounded(event.event_type.as_str())]);
    }
}

/// One line for each event's fate.
pub(crate) fn log_fate(event: &Envelope, fate: &Fate) {
    let (event_type, id, key) = (event.event_type.as_str(), &event.id, event.subject.as_deref());
    let lag = event.time.map(|time| Timestamp::now().duration_since(time));
    let lag_ms = lag.map(|lag| lag.as_millis() as i64);
    if *fate == Fate::Published {
        count_published(event, lag);
    }
    spans::in_trace_of(event.context.traceparent.as_deref(), || match fate {
        Fate::Published => {
            tracing::info!("type" = event_type, id, key, lag_ms, "event published");
        }
        Fate::Refused { message } => {
            tracing::warn!("type" = event_type, id, key, reason = message, "event refused");
        }
        Fate::Left { message, is_denied: true } => {
            tracing::error!(
                "type" = event_type,
                id,
                key,
                reason = message,
                "event left: the publisher's role, the topic or its key needs a change"
            );
        }
        Fate::Left { message, is_denied: false } => {
            tracing::warn!("type" = event_type, id, key, reason = message, "event left");
        }
    });
}
