//! The ingest queue: visibility, receipts, receive counts and redrive as SQS has them
//! on a standard queue.

use std::collections::BTreeMap;

use bellwire_publisher::call::CallError;
use bellwire_publisher::receive::{IngestQueue, Message, NotDone, VISIBILITY_S};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::limits::SQS_BATCH_ENTRIES_MAX;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::faults::{Call, Fault};
use crate::load::{QueueMessage, Wanted};
use crate::world::{Edge, Holder, State, World};

/// How long a poll waits.
const POLL_MS: u64 = 20_000;

/// A real ingest queue has 1,000: with fewer, a core that wastes them is found out. On a
/// FIFO topic a message also comes back with those that it waits for.
const RECEIVES_MAX: u32 = 20;
const RECEIVES_FIFO_MAX: u32 = 50;

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
    sent_at: u64,
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

impl Queue {
    /// Who received a message last.
    pub(crate) fn holder_of(&self, message: usize) -> Option<Holder> {
        Some(self.messages.get(&message)?.receipt.as_ref()?.holder)
    }
}

fn id_of(message: usize) -> String {
    format!("m{message}")
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
        state.audit.message_sent(&id_of(number), message);
        let stored = Stored {
            body: message.body.clone(),
            sent_at: now,
            visible_at: now,
            receives: 0,
            receipt: None,
        };
        state.queue.messages.insert(number, stored);
        drop(state);
        for wanted in &message.records {
            match wanted {
                Wanted::Buried(DeadReason::TooLarge) => self.fault(Fault::TooLarge),
                Wanted::Buried(_) => self.fault(Fault::BadMessage),
                Wanted::Published(_) | Wanted::Refused | Wanted::Skipped => {}
            }
        }
        if message.is_repeated {
            self.fault(Fault::ToldTwice);
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
        let mut visible: Vec<usize> = {
            let state = self.state();
            let messages = state.queue.messages.iter();
            messages.filter(|(_, it)| it.visible_at <= now).map(|(number, _)| *number).collect()
        };
        let mut taken = Vec::new();
        if visible.is_empty() {
            let next = self.state().queue.messages.values().map(|it| it.visible_at).min();
            return Err(next.unwrap_or(u64::MAX));
        }
        let count = {
            let random = &mut self.state().random;
            random.shuffle(&mut visible);
            random.usize(1..=SQS_BATCH_ENTRIES_MAX)
        };
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
        let receives_max = match self.plan.forms.is_fifo {
            true => RECEIVES_FIFO_MAX,
            false => RECEIVES_MAX,
        };
        let mut state = self.state();
        let State { queue, audit, .. } = &mut *state;
        let stored = queue.messages.get_mut(&number)?;
        stored.receives += 1;
        if stored.receives > receives_max {
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
            id: id_of(number),
            receipt: handle(number, queue.receipts),
            body: stored.body.clone(),
            sent_at: Timestamp::from_millisecond(stored.sent_at.try_into().unwrap_or(0)).ok(),
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
        self.state().audit.message_deleted(&id_of(number));
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

    /// Whether an event of a message waits for one that was received before it.
    fn is_held_by_group(&self, holder: Holder, number: usize) -> bool {
        let (state, now) = (self.state(), self.now());
        let Some(message) = state.audit.message(&id_of(number)) else { return false };
        self.plan.forms.is_fifo
            && message.records.iter().any(|wanted| match wanted {
                Wanted::Published(event) => state.first_before(holder, &event.name, now).is_some(),
                Wanted::Refused | Wanted::Skipped | Wanted::Buried(_) => false,
            })
    }

    /// What a publisher knows from now on to have received.
    fn note_order(&self, holder: Holder, messages: &[Message]) {
        let now = self.now();
        let mut state = self.state();
        let State { order, audit, .. } = &mut *state;
        let batch: Vec<_> = messages
            .iter()
            .filter_map(|it| Some((parsed(&it.receipt).0, it, audit.message(&it.id)?)))
            .collect();
        order.received(holder, now, &batch);
    }

    fn hide_one(&self, holder: Holder, receipt: &str, seconds: u32) -> Option<&'static str> {
        let (number, receipt) = parsed(receipt);
        if self.strikes(self.plan.entries.hide_failed) {
            self.fault(Fault::HideEntryFailed);
            self.excuse(number);
            return Some("InternalError");
        }
        // What waits in a group may be left for just as long as what is worked on is hidden.
        let is_left = seconds != VISIBILITY_S || self.plan.forms.is_fifo;
        let now = self.now();
        let mut state = self.state();
        let Some(stored) = state.queue.messages.get_mut(&number) else {
            return Some("InvalidParameterValue");
        };
        let is_hidden = stored.visible_at > now;
        match &mut stored.receipt {
            Some(newest) if newest.number == receipt && is_hidden => {
                newest.is_left = is_left;
                stored.visible_at = now + u64::from(seconds) * 1_000;
            }
            _ => return Some("MessageNotInflight"),
        }
        drop(state);
        if !matches!(seconds, 0 | VISIBILITY_S) && self.is_held_by_group(holder, number) {
            self.fault(Fault::GroupHeld);
        }
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
        let answer = course.back(Call::Receive, taken).await;
        if let Ok(messages) = &answer {
            world.note_order(self.holder, messages);
        }
        answer
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
        let now = self.world.now();
        for (receipt, _) in receipts {
            self.world.state().order.touched(self.holder, parsed(receipt).0, now);
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
