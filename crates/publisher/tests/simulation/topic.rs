//! The topic, the dead queue and the objects.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::enrich::{LookUpError, Objects, RunOrigins};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{EntryResult, Topic};
use bellwire_publisher::quarantine::DeadQueue;
use bellwire_publisher::route::ObjectRef;
use bellwire_publisher::spans::TopicName;
use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::limits::{SNS_BATCH_ENTRIES_MAX, SNS_MESSAGE_BYTES_MAX};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::faults::{Call, Fault};
use crate::load::{Payload, REFUSED, name_of, origin_of};
use crate::world::{Course, Edge, State, World, error};

/// Failures in a row by which a publisher knows that the topic is down.
const FAILURES_OF_OUTAGE: u32 = 5;

/// What one publisher knows of the topic.
pub(crate) struct TopicSide {
    name: TopicName,
    under_way: AtomicUsize,
    /// Calls in a row that failed, and when they became too many.
    failures: AtomicU32,
    down_since: AtomicU64,
}

impl TopicSide {
    pub(crate) fn new(is_fifo: bool) -> Self {
        let suffix = if is_fifo { ".fifo" } else { "" };
        let arn = format!("arn:aws:sns:eu-west-1:123456789012:wine{suffix}");
        Self {
            name: TopicName { arn },
            under_way: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            down_since: AtomicU64::new(0),
        }
    }

    /// What a call's result tells: only an answer proves that the topic is there.
    fn learn(&self, result: &Result<Vec<EntryResult>, CallError>, now: u64) {
        let is_answered = match result {
            Ok(_) => true,
            Err(error) => error.is_throttling() || error.trouble == Trouble::Refused,
        };
        if is_answered {
            self.failures.store(0, Ordering::Relaxed);
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES_OF_OUTAGE {
            self.down_since.store(now, Ordering::Relaxed);
        }
    }

    /// For how long the publisher has known that the topic is down, if it is.
    pub(crate) fn known_down_for(&self, now: u64) -> Option<u64> {
        let is_down = self.failures.load(Ordering::Relaxed) >= FAILURES_OF_OUTAGE;
        is_down.then(|| now - self.down_since.load(Ordering::Relaxed))
    }
}

/// A call that is under way, however it ends.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Edge {
    async fn publish_batch(&self, entries: &[&Entry]) -> Result<Vec<EntryResult>, CallError> {
        let _under_way = self.enter(entries);
        let course = self.call(Call::Publish).await;
        if let Course::Fails(error) = course {
            return Err(error);
        }
        let world = &self.world;
        if !world.lets_through() {
            world.fault(Fault::Throttled);
            let answer = Some(("Throttling", 400));
            return Err(error(Call::Publish, Trouble::Unavailable, answer));
        }
        let refused = entries.iter().filter(|entry| is_refused(entry)).count();
        if refused > 0 && world.plan.refuses_batches {
            let fault = if entries.len() > 1 { Fault::BatchRefused } else { Fault::EntryRefused };
            world.fault(fault);
            let answer = Some(("InvalidParameter", 400));
            return Err(error(Call::Publish, Trouble::Refused, answer));
        }
        let results = entries.iter().map(|entry| self.publish_one(entry)).collect();
        course.back(Call::Publish, results).await
    }

    fn enter(&self, entries: &[&Entry]) -> UnderWay<'_> {
        let bytes: usize = entries.iter().map(|entry| entry.bytes()).sum();
        assert!((1..=SNS_BATCH_ENTRIES_MAX).contains(&entries.len()), "as SNS takes them");
        assert!(bytes <= SNS_MESSAGE_BYTES_MAX, "as SNS takes them");
        let calls = self.topic.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let calls_max = self.world.plan.publishers[self.holder.publisher].calls_max;
        if calls > calls_max {
            let problem = format!("{calls} calls to the topic together, of {calls_max} at most");
            self.world.state().audit.violated(problem);
        }
        UnderWay(&self.topic.under_way)
    }

    fn publish_one(&self, entry: &Entry) -> EntryResult {
        let (world, rates) = (&self.world, self.world.plan.entries);
        if is_refused(entry) {
            world.fault(Fault::EntryRefused);
            return failed("InvalidParameter", true);
        }
        if world.strikes(rates.publish_failed) {
            world.fault(Fault::EntryFailed);
            return failed("InternalFailure", false);
        }
        if world.strikes(rates.publish_denied) {
            world.fault(Fault::EntryDenied);
            return failed("AuthorizationError", true);
        }
        self.accept(entry);
        EntryResult::Accepted
    }

    /// SNS has an event: whatever was to be before is looked at now.
    fn accept(&self, entry: &Entry) {
        let (world, holder) = (&self.world, self.holder);
        let name = name_of(entry.envelope());
        let is_fifo = world.plan.forms.is_fifo;
        let mut state = world.state();
        let State { audit, store, .. } = &*state;
        let payload = audit.payload_of(&name);
        let is_first = !audit.is_published(&name);
        let problem = match payload {
            None => Some("it was never sent as such".to_owned()),
            Some(payload) => store.problem_with(entry.envelope(), payload),
        };
        let before = state.first_before(holder, &name, world.now()).filter(|_| is_fifo && is_first);
        let problem = problem.or_else(|| {
            before.map(|before| format!("{holder} received {before} before it, in its group"))
        });
        let is_claimed = payload.is_some_and(|payload| *payload != Payload::Within);
        if let Some(problem) = problem {
            state.audit.violated(format!("`{name}` was published, but {problem}"));
        }
        state.audit.event_published(entry, is_fifo);
        drop(state);
        if is_claimed {
            world.fault(Fault::Claimed);
        }
        world.note(format_args!("{holder} publishes {name}"));
    }
}

fn is_refused(entry: &Entry) -> bool {
    entry.envelope().subject.as_deref().is_some_and(|subject| subject.contains(REFUSED))
}

fn failed(code: &str, is_sender_fault: bool) -> EntryResult {
    EntryResult::Failed { code: code.to_owned(), message: "simulated".to_owned(), is_sender_fault }
}

impl World {
    /// Whether the topic's quota has room for a call: a bucket of tokens.
    fn lets_through(&self) -> bool {
        let Some(per_s) = self.plan.topic_calls_per_s else { return true };
        let now = self.now();
        let mut state = self.state();
        let elapsed_s = (now - state.topic_tokens_at) as f64 / 1_000.0;
        state.topic_tokens_at = now;
        state.topic_tokens = (state.topic_tokens + elapsed_s * per_s as f64).min(per_s as f64);
        let has_room = state.topic_tokens >= 1.0;
        if has_room {
            state.topic_tokens -= 1.0;
        }
        has_room
    }
}

impl Topic for Edge {
    fn publish<'a>(
        &'a self,
        entries: &'a [&'a Entry],
    ) -> BoxFuture<'a, Result<Vec<EntryResult>, CallError>> {
        async move {
            let result = self.publish_batch(entries).await;
            self.topic.learn(&result, self.world.now());
            result
        }
        .boxed()
    }

    fn name(&self) -> &TopicName {
        &self.topic.name
    }
}

impl DeadQueue for Edge {
    fn send<'a>(&'a self, body: &'a str) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            let course = self.call(Call::Bury).await;
            if course.is_done() {
                self.world.state().audit.letter_buried(body);
                self.world.note(format_args!("{} buries a letter", self.holder));
            }
            course.back(Call::Bury, ()).await
        }
        .boxed()
    }
}

impl Objects for Edge {
    fn metadata<'a>(
        &'a self,
        _object: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, CallError>> {
        async move { self.call(Call::LookUp).await.back(Call::LookUp, None).await }.boxed()
    }
}

impl RunOrigins for Edge {
    fn origin_of<'a>(
        &'a self,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<Option<CompletionOrigin>, LookUpError>> {
        async move {
            let answer = self.call(Call::Ask).await.back(Call::Ask, origin_of(run_arn)).await;
            let run_arn = run_arn.to_owned();
            answer.map_err(|source| LookUpError::Ledger { run_arn, source: Box::new(source) })
        }
        .boxed()
    }
}
