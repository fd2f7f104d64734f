//! A closed window on its way to its run: its members, page by page; the list of
//! them; and the start.

use std::time::Instant;

use bellwire_ledger::{ClosedWindow, Member, Outcome, Progress};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::gathered::GatherEnd;
use bellwire_schema::workflow::OnDeadline;
use bellwire_schema::{Envelope, EventContext};
use bellwire_telemetry::{context_of, link};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, info, info_span, warn};

use super::collected::{Collected, MEMBERS_MAX, gathered_id};
use super::lake::LakeError;
use super::listing::{self, ListCursor, Span};
use super::manifest::Judgement;
use super::rules::{GatherRules, prefix_of};
use crate::decode::Delivery;
use crate::handler::{Handler, HandlerError};
use crate::model::CompiledTrigger;
use crate::plan::plan_start_or_point;

/// What an interrupted completion waits for before it goes on.
const GOES_ON_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// The longest body of a dead letter, in bytes: encoded, it must fit into a message.
const DEAD_BODY_BYTES_MAX: usize = 120 * 1024;

/// How far a completion came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// The run is started, or the window is in the dead queue.
    Done,
    /// The time was over.
    GoesOn,
}

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cursor {
    /// Of the events that came in through a gate.
    Gate { gate: u32, page: Option<String> },
    /// Of the objects under the marker's prefix.
    Listing(ListCursor),
}

impl Handler {
    /// Reads the members of a closed window and starts its run, or puts it into the
    /// dead queue. Whatever is interrupted is repeated: the start is claimed under the
    /// window's own key, and the list is the same however often it is made.
    pub(super) async fn complete(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        closed: &ClosedWindow,
        now: Timestamp,
        until: Instant,
    ) -> Result<Completion, HandlerError> {
        if closed.ended_by == GatherEnd::Complete && rules.has_manifest() {
            return self.complete_manifest(trigger, rules, closed, now).await;
        }
        let (mut collected, mut cursor) = self.resume(rules, closed).await?;
        loop {
            let (members, next) = self.page(trigger, closed, cursor).await?;
            for member in &members {
                collected.add(member);
            }
            if collected.sums.count > MEMBERS_MAX {
                let message = format!("the window has more than {MEMBERS_MAX} members");
                let dead = self.put_aside(closed, &collected, DeadReason::TooLarge, &message, now);
                dead.await?;
                return Ok(Completion::Done);
            }
            let Some(next) = next else { break };
            if Instant::now() >= until {
                self.put_by(closed, &collected, &next, now).await?;
                return Ok(Completion::GoesOn);
            }
            cursor = next;
        }
        let is_index = !(closed.ended_by == GatherEnd::Complete && rules.lists());
        if is_index && collected.sums.count != closed.count() {
            let (found, expected) = (collected.sums.count, closed.count());
            return Err(LakeError::Lagging { found, expected }.into());
        }
        self.end(trigger, rules, closed, &collected, now).await?;
        Ok(Completion::Done)
    }

    /// What was read of a window before, and where to go on.
    async fn resume(
        &self,
        rules: &GatherRules,
        closed: &ClosedWindow,
    ) -> Result<(Collected, Cursor), HandlerError> {
        if let Some(Progress { cursor, partial_key }) = &closed.progress
            && let Ok(cursor) = serde_json::from_str(cursor)
            && let Some(partial) = self.lake.get(partial_key).await?
            && let Some(collected) = Collected::of_partial(&partial)
        {
            return Ok((collected, cursor));
        }
        let cursor = match closed.ended_by {
            GatherEnd::Complete if rules.lists() => Cursor::Listing(ListCursor::default()),
            _ => Cursor::Gate { gate: 0, page: None },
        };
        Ok((Collected::of(closed), cursor))
    }

    /// Puts aside what was read, so that the sweep goes on behind it; where there is
    /// nowhere to put it, the sweep begins anew.
    async fn put_by(
        &self,
        closed: &ClosedWindow,
        collected: &Collected,
        next: &Cursor,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let name = format!("{}.partial", gathered_id(closed));
        let put = self.lake.put(&name, &collected.to_partial()).await?;
        let progress = put.map(|(partial_key, _)| Progress {
            cursor: serde_json::to_string(next).expect("a cursor is plain JSON"),
            partial_key,
        });
        if progress.is_none() {
            warn!("a long window was interrupted, and without [claim_check] it begins anew");
        }
        let again = now + GOES_ON_AFTER;
        Ok(self.ledger.put_off_closed(closed, progress.as_ref(), again).await?)
    }

    async fn page(
        &self,
        trigger: &CompiledTrigger,
        closed: &ClosedWindow,
        cursor: Cursor,
    ) -> Result<(Vec<Member>, Option<Cursor>), HandlerError> {
        match cursor {
            Cursor::Gate { gate, page } => {
                let (window, generation) = (&closed.window.id, closed.generation);
                let page = self.ledger.members(window, generation, gate, page.as_deref()).await?;
                let next = match page.next {
                    Some(next) => Some(Cursor::Gate { gate, page: Some(next) }),
                    None => {
                        // A gate that nobody came through has no page.
                        let counts = closed.counts.iter().enumerate();
                        let mut rest = counts.skip(gate as usize + 1);
                        let next = rest.find(|(_, count)| **count > 0);
                        next.and_then(|(gate, _)| u32::try_from(gate).ok())
                            .map(|gate| Cursor::Gate { gate, page: None })
                    }
                };
                Ok((page.members, next))
            }
            Cursor::Listing(cursor) => {
                let (members, next) = self.listed(trigger, closed, cursor).await?;
                Ok((members, next.map(Cursor::Listing)))
            }
        }
    }

    async fn listed(
        &self,
        trigger: &CompiledTrigger,
        closed: &ClosedWindow,
        cursor: ListCursor,
    ) -> Result<(Vec<Member>, Option<ListCursor>), HandlerError> {
        let marker = closed.marker.as_ref().map(|marker| &marker.event);
        let Some((bucket, key)) =
            marker.and_then(|marker| Some((marker.bucket.as_deref()?, marker.key.as_deref()?)))
        else {
            return Ok((Vec::new(), None));
        };
        let is_flat = trigger.gather.as_ref().is_some_and(GatherRules::is_by_prefix);
        let page = self.lake.page(bucket, prefix_of(key), is_flat, &cursor).await?;
        let span = Span { after: closed.listed_after, until: closed.listed_until };
        let (objects, decided) = listing::newest(page.entries, cursor.decided, span);
        let members = objects
            .into_iter()
            .filter_map(|object| listing::member(&self.model, trigger, bucket, object))
            .collect();
        Ok((members, page.next.map(|next| ListCursor { decided, ..next })))
    }

    /// Starts on what the manifest lists. The window was closed when all of it was
    /// there: what has changed since makes it untrue.
    async fn complete_manifest(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        closed: &ClosedWindow,
        now: Timestamp,
    ) -> Result<Completion, HandlerError> {
        let mut collected = Collected::of(closed);
        let judged = match &closed.marker {
            Some(manifest) => self.judge_manifest(trigger, manifest).await?,
            None => Judgement::Untrue("it is not known any more".to_owned()),
        };
        let message = match judged {
            Judgement::Whole(members) => {
                members.iter().for_each(|member| collected.add(member));
                self.end(trigger, rules, closed, &collected, now).await?;
                return Ok(Completion::Done);
            }
            Judgement::Missing { example, .. } => {
                format!("{example} was there, and is not any more")
            }
            Judgement::Untrue(message) => message,
        };
        let reason = DeadReason::ManifestUntrue;
        self.put_aside(closed, &collected, reason, &message, now).await?;
        Ok(Completion::Done)
    }

    /// Starts the run, or puts the window into the dead queue; and records which.
    async fn end(
        &self,
        trigger: &CompiledTrigger,
        rules: &GatherRules,
        closed: &ClosedWindow,
        collected: &Collected,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let cause = closed.cause.clone();
        match (closed.ended_by, rules.on_deadline()) {
            (GatherEnd::Untrue, _) => {
                let message = cause.unwrap_or_else(|| "the manifest is not true".to_owned());
                let reason = DeadReason::ManifestUntrue;
                self.put_aside(closed, collected, reason, &message, now).await
            }
            (GatherEnd::Deadline, OnDeadline::Dead) => {
                let count = collected.sums.count;
                let mut message = format!(
                    "the deadline of {} passed before it was complete: {count} events had arrived",
                    closed.window.key
                );
                if let Some(cause) = cause {
                    message = format!("{message}; {cause}");
                }
                let reason = DeadReason::GatherDeadline;
                self.put_aside(closed, collected, reason, &message, now).await
            }
            _ if collected.sums.count == 0 => {
                info!("nothing under the marker that the trigger wants: nothing is started");
                Ok(self.ledger.record_outcome(closed, &Outcome::Empty).await?)
            }
            _ => self.start_gathered(trigger, closed, collected, now).await,
        }
    }

    async fn start_gathered(
        &self,
        trigger: &CompiledTrigger,
        closed: &ClosedWindow,
        collected: &Collected,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let list = self.put_list(closed, collected).await?;
        let source = self.source();
        let event = collected.to_event(closed, &source, list.as_deref());
        let pointer = collected.to_pointer(closed, &source, list.as_deref());
        let pointer = list.is_some().then_some(&pointer);
        let name = trigger.trigger.name.as_str();
        let span = info_span!("start", otel.name = format!("start {name}"), trigger = name);
        for traceparent in &collected.sums.links {
            link(&span, traceparent);
        }
        let trace = context_of(&span).map_or_else(EventContext::default, |trace| EventContext {
            traceparent: Some(trace.traceparent),
            tracestate: trace.tracestate,
            ..EventContext::default()
        });
        let planned = match plan_start_or_point(&self.model, trigger, &event, pointer, trace) {
            Ok(planned) => planned,
            Err(error) => {
                let (reason, mut message) = (error.reason(), error.to_string());
                if !self.lake.keeps_lists() && reason == DeadReason::TooLarge {
                    message.push_str("; a long list needs [claim_check]");
                }
                return self.put_aside(closed, collected, reason, &message, now).await;
            }
        };
        let start_key = planned.start_key.to_string();
        let delivery = delivery_of(closed, &event);
        self.claim_and_start(planned, &delivery, now).instrument(span).await?;
        Ok(self.ledger.record_outcome(closed, &Outcome::Started(start_key)).await?)
    }

    async fn put_list(
        &self,
        closed: &ClosedWindow,
        collected: &Collected,
    ) -> Result<Option<String>, HandlerError> {
        let name = format!("{}.jsonl", gathered_id(closed));
        Ok(self.lake.put(&name, &collected.lines).await?.map(|(_, uri)| uri))
    }

    async fn put_aside(
        &self,
        closed: &ClosedWindow,
        collected: &Collected,
        reason: DeadReason,
        message: &str,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let list = self.put_list(closed, collected).await?;
        let source = self.source();
        let whole = collected.to_event(closed, &source, list.as_deref());
        let mut delivery = delivery_of(closed, &whole);
        if delivery.body.len() > DEAD_BODY_BYTES_MAX {
            delivery = delivery_of(closed, &collected.to_pointer(closed, &source, list.as_deref()));
        }
        let trigger = Some(closed.window.trigger.as_str());
        self.quarantine.put(&delivery, trigger, reason, message, now).await?;
        let outcome = Outcome::Dead(format!("{}: {message}", reason.as_str()));
        Ok(self.ledger.record_outcome(closed, &outcome).await?)
    }

    /// Where the event that stands for a window comes from: the ledger.
    fn source(&self) -> String {
        self.model.place.table_arn(&self.model.deployment.ledger_table())
    }
}

fn delivery_of(closed: &ClosedWindow, event: &Envelope) -> Delivery {
    Delivery {
        message_id: Some(gathered_id(closed)),
        came_by: Some(event.source.clone()),
        body: event.to_json(),
        ..Delivery::default()
    }
}
