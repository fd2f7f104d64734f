//! The ingest queue: visibility, receipts, receive counts and redrive as SQS has them
//! on a standard queue.

use std::collections::BTreeMap;

use bellwire_publisher::call::CallError;
use bellwire_publisher::receive::{IngestQueue, Message, NotDone, VISIBILITY_S};
use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::faults::{Call, Fault};
use crate::load::QueueMessage;
use crate::world::{Edge, Holder, State, World};

/// How long a poll waits.
const POLL_MS: u64 = 20_000;

/// A real ingest queue has 1,000: with fewer, a core that wastes them is found out.
const RECEIVES_MAX: u32 = 20;

/// The shortest time for which a publisher stops receiving once it knows of an outage:
/// half of the second that its circuit is open at first.
const OUTAGE_MS_MIN: u64 = 500;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: BTreeMap<usize, Stored>,
    next: usize,
    receipts: u64,
    /// How often one message was received at most.
    pub(crate) receives_most: u32,
}

#[derive(Debug)]
struct Stored {
    body: String,
    visible_at: u64,
    receives: u32,
    receipt: Option<Receipt>,
}

/// The right of whoever received a message last.
#[derive(Debug)]
struct Receipt {
    number: u64,
    holder: Holder,
    /// Its holder has let go of it.
    is_left: bool,
    /// Something went wrong for which the holder cannot help.
    is_excused: bool,
}

impl Receipt {
    /// Whether its holder works on the message, as far as anyone can know.
    fn is_in_work(&self) -> bool {
        !self.is_left && !self.is_excused
    }
}

/// A receipt as the publisher has it.
fn handle(message: usize, receipt: u64) -> String {
    format!("{message} {receipt}")
}

fn parsed(handle: &str) -> (usize, u64) {
    let (message, receipt) = handle.split_once(' ').expect("a receipt of ours");
    (message.parse().expect("a number"), receipt.parse().expect("a number"))
}

impl World {
    /// Somebody puts a message into the queue.
    pub(crate) fn send(&self, message: &QueueMessage) {
        let now = self.now();
        let mut state = self.state();
        let number = state.queue.next;
        state.queue.next += 1;
        state.audit.message_sent(&format!("m{number}"), message);
        let stored =
            Stored { body: message.body.clone(), visible_at: now, receives: 0, receipt: None };
        state.queue.messages.insert(number, stored);
        drop(state);
        let is_bad =
            |wanted: &crate::load::Wanted| matches!(wanted, crate::load::Wanted::Buried(_));
        if message.records.iter().any(is_bad) {
            self.fault(Fault::BadMessage);
        }
        self.note(format_args!("m{number} sent"));
        self.queue_changed.notify_waiters();
    }

    /// Whoever this was is gone: what it had received comes back in its time.
    pub(crate) fn holder_ended(&self, holder: Holder) {
        let mut state = self.state();
        let receipts = state.queue.messages.values_mut().filter_map(|it| it.receipt.as_mut());
        for receipt in receipts.filter(|receipt| receipt.holder == holder) {
            receipt.is_excused = true;
        }
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.state().queue.messages.len()
    }

    /// What somebody receives now, and otherwise when there may be something.
    fn take(&self, holder: Holder) -> Result<Vec<Message>, u64> {
        let rates = self.plan.entries;
        let now = self.now();
        let visible: Vec<usize> = {
            let state = self.state();
            let messages = state.queue.messages.iter();
            messages.filter(|(_, it)| it.visible_at <= now).map(|(number, _)| *number).collect()
        };
        let mut taken = Vec::new();
        if visible.is_empty() {
            let next = self.state().queue.messages.values().map(|it| it.visible_at).min();
            return Err(next.unwrap_or(u64::MAX));
        }
        let count = self.state().random.usize(1..=SQS_BATCH_ENTRIES_MAX);
        for number in visible.into_iter().take(count) {
            taken.extend(self.give_out(number, holder, now));
        }
        if self.strikes(rates.delivered_twice) && taken.len() < SQS_BATCH_ENTRIES_MAX {
            let hidden = {
                let mut state = self.state();
                let State { queue, random, .. } = &mut *state;
                let hidden: Vec<usize> = queue
                    .messages
                    .iter()
                    .filter(|(_, it)| it.visible_at > now)
                    .filter(|(_, it)| it.receipt.as_ref().is_some_and(|it| it.holder != holder))
                    .map(|(number, _)| *number)
                    .collect();
                random.choice(hidden)
            };
            if let Some(number) = hidden {
                self.fault(Fault::DeliveredTwice);
                self.excuse(number);
                taken.extend(self.give_out(number, holder, now));
            }
        }
        Ok(taken)
    }

    fn give_out(&self, number: usize, holder: Holder, now: u64) -> Option<Message> {
        let mut state = self.state();
        let State { queue, audit, .. } = &mut *state;
        let stored = queue.messages.get_mut(&number)?;
        stored.receives += 1;
        if stored.receives > RECEIVES_MAX {
            audit.violated(format!("m{number} came to the dead queue by its receive count"));
            queue.messages.remove(&number);
            return None;
        }
        queue.receives_most = queue.receives_most.max(stored.receives);
        queue.receipts += 1;
        stored.visible_at = now + u64::from(VISIBILITY_S) * 1_000;
        let receipt = Receipt { number: queue.receipts, holder, is_left: false, is_excused: false };
        let before = stored.receipt.replace(receipt);
        let message = Message {
            id: format!("m{number}"),
            receipt: handle(number, queue.receipts),
            body: stored.body.clone(),
            sent_at: None,
            receives: stored.receives,
        };
        if let Some(before) = &before
            && before.is_in_work()
        {
            let first = before.holder;
            audit.violated(format!(
                "m{number} was received by {holder} while {first} worked on it, who let it be seen"
            ));
        }
        drop(state);
        if before.is_some_and(|before| !before.is_left) {
            self.fault(Fault::VisibilityRanOut);
        }
        self.note(format_args!("{holder} receives m{number}, time {}", message.receives));
        Some(message)
    }

    /// Nobody can help what becomes of a message's receipt from now on.
    fn excuse(&self, number: usize) {
        let mut state = self.state();
        let receipt = state.queue.messages.get_mut(&number).and_then(|it| it.receipt.as_mut());
        if let Some(receipt) = receipt {
            receipt.is_excused = true;
        }
    }

    /// No more is held than pipelines can.
    fn check_held(&self, holder: Holder) {
        let held_max = self.plan.publishers[holder.publisher].pipelines * SQS_BATCH_ENTRIES_MAX;
        let mut state = self.state();
        let receipts = state.queue.messages.values().filter_map(|it| it.receipt.as_ref());
        let held = receipts.filter(|it| it.holder == holder && it.is_in_work()).count();
        if held > held_max {
            state.audit.violated(format!("{holder} holds {held} messages, of {held_max} at most"));
        }
    }

    fn delete_one(&self, holder: Holder, receipt: &str) -> Option<&'static str> {
        let (number, receipt) = parsed(receipt);
        let rates = self.plan.entries;
        if self.strikes(rates.delete_failed) {
            self.fault(Fault::DeleteEntryFailed);
            self.excuse(number);
            return Some("InternalError");
        }
        let current = {
            let state = self.state();
            let stored = state.queue.messages.get(&number)?;
            stored.receipt.as_ref().map(|it| (it.number, it.holder))
        };
        let is_newest = current.is_some_and(|(number, _)| number == receipt);
        // With an older receipt it may be deleted or not; the answer is the same.
        if !is_newest && self.state().random.bool() {
            return None;
        }
        self.state().audit.message_deleted(&format!("m{number}"));
        self.note(format_args!("{holder} deletes m{number}"));
        if current.is_some_and(|(_, newest)| newest != holder) {
            self.fault(Fault::ChangedHands);
        }
        if self.strikes(rates.resurrected) {
            self.fault(Fault::Resurrected);
            self.excuse(number);
        } else {
            self.state().queue.messages.remove(&number);
        }
        None
    }

    fn hide_one(&self, holder: Holder, receipt: &str, seconds: u32) -> Option<&'static str> {
        let (number, receipt) = parsed(receipt);
        if self.strikes(self.plan.entries.hide_failed) {
            self.fault(Fault::HideEntryFailed);
            self.excuse(number);
            return Some("InternalError");
        }
        let now = self.now();
        let mut state = self.state();
        let Some(stored) = state.queue.messages.get_mut(&number) else {
            return Some("InvalidParameterValue");
        };
        let is_hidden = stored.visible_at > now;
        match &mut stored.receipt {
            Some(newest) if newest.number == receipt && is_hidden => {
                newest.is_left = seconds != VISIBILITY_S;
                stored.visible_at = now + u64::from(seconds) * 1_000;
            }
            _ => return Some("MessageNotInflight"),
        }
        drop(state);
        self.note(format_args!("{holder} hides m{number} for {seconds} s"));
        None
    }
}

impl Edge {
    async fn receive_messages(&self) -> Result<Vec<Message>, CallError> {
        self.check_worth();
        let course = self.call(Call::Receive).await;
        if !course.is_done() {
            return course.back(Call::Receive, Vec::new()).await;
        }
        let world = &self.world;
        let until = world.now() + POLL_MS;
        let taken = loop {
            let mut changed = std::pin::pin!(world.queue_changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let next = match world.take(self.holder) {
                Ok(taken) => break taken,
                Err(_) if world.now() >= until => break Vec::new(),
                Err(next) => next.min(until),
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = world.sleep_until(next) => {}
            }
        };
        if course.is_through() {
            world.check_held(self.holder);
        } else {
            taken.iter().for_each(|message| world.excuse(parsed(&message.receipt).0));
        }
        course.back(Call::Receive, taken).await
    }

    /// Nothing is received once the topic is known to be down.
    fn check_worth(&self) {
        if let Some(ago_ms) = self.topic.known_down_for(self.world.now())
            && ago_ms < OUTAGE_MS_MIN
        {
            let problem = format!("{} receives while the topic is down", self.holder);
            self.world.state().audit.violated(problem);
        }
    }

    async fn delete_messages(&self, receipts: &[&str]) -> Result<Vec<NotDone>, CallError> {
        let course = self.call(Call::Delete).await;
        if !course.is_through() {
            receipts.iter().for_each(|receipt| self.world.excuse(parsed(receipt).0));
        }
        let mut kept = Vec::new();
        if course.is_done() {
            let results = receipts.iter().map(|it| self.world.delete_one(self.holder, it));
            kept.extend(not_done(results));
        }
        course.back(Call::Delete, kept).await
    }

    async fn hide_messages(&self, receipts: &[(&str, u32)]) -> Result<Vec<NotDone>, CallError> {
        let course = self.call(Call::Hide).await;
        if !course.is_through() {
            receipts.iter().for_each(|(receipt, _)| self.world.excuse(parsed(receipt).0));
        }
        let mut failed = Vec::new();
        if course.is_done() {
            let each = receipts.iter();
            let results = each.map(|(it, seconds)| self.world.hide_one(self.holder, it, *seconds));
            failed.extend(not_done(results));
            self.world.queue_changed.notify_waiters();
        }
        course.back(Call::Hide, failed).await
    }
}

fn not_done<'a>(results: impl Iterator<Item = Option<&'a str>>) -> impl Iterator<Item = NotDone> {
    results.enumerate().filter_map(|(index, code)| {
        let code = code?.to_owned();
        Some(NotDone { index, is_permanent: code != "InternalError", code })
    })
}

impl IngestQueue for Edge {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        self.receive_messages().boxed()
    }

    fn delete<'a>(
        &'a self,
        receipts: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        assert!((1..=SQS_BATCH_ENTRIES_MAX).contains(&receipts.len()), "as SQS takes them");
        self.delete_messages(receipts).boxed()
    }

    fn hide<'a>(
        &'a self,
        receipts: &'a [(&'a str, u32)],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        assert!((1..=SQS_BATCH_ENTRIES_MAX).contains(&receipts.len()), "as SQS takes them");
        self.hide_messages(receipts).boxed()
    }
}
