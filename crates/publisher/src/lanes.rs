//! `lanes`: on a FIFO topic, whose turn it is in each group, over all pipelines.
//!
//! Each message takes its place behind those of its group that were received before
//! it. A message that is left keeps its place, so that nothing overtakes it: what is
//! behind it is left too, until it has come back and gone. Since another publisher may
//! have received it meanwhile, its place is kept a bounded time only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwire_schema::fifo::group_of;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::receive::Message;
use crate::route::Draft;
use crate::settle::hidden_s;

/// How long a place is kept after its message could be received again: longer than
/// all pipelines are busy with other rounds, for another publisher may have it.
const KEPT_FOR: Duration = Duration::from_secs(900);

/// One record's place: in which message of the round, and where in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) message: usize,
    pub(crate) record: usize,
}

/// The groups of which a message is in work or was left. As many places at most as
/// a standard queue has messages in flight: 120,000.
/// Source: Amazon SQS developer guide, "Amazon SQS message quotas".
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    rounds: u64,
    /// By group, those who came first in front.
    lanes: BTreeMap<String, VecDeque<Place>>,
}

#[derive(Debug)]
struct Place {
    message_id: String,
    holder: Holder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// This round works on the message.
    Round(u64),
    /// This round still has the message, and will leave it.
    Leaving(u64),
    /// The message is in the queue, and may be back.
    Away { until: Instant },
}

/// One round's records that are not done with, in order; those that are still there
/// when it is dropped are left.
pub(crate) struct Line<'a> {
    lanes: &'a Lanes,
    round: u64,
    messages: &'a [Message],
    records: Vec<Standing>,
}

struct Standing {
    ticket: Ticket,
    group: String,
    /// It is left.
    is_held: bool,
}

/// Whose turn it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// These go now: one of a group.
    pub(crate) now: Vec<Ticket>,
    /// Others wait for another round.
    pub(crate) is_waiting: bool,
}

impl Lanes {
    /// Takes a place for every draft of a round, in their order.
    pub(crate) fn enter<'a>(
        &'a self,
        messages: &'a [Message],
        drafts: &[(Ticket, Draft)],
    ) -> Line<'a> {
        let mut state = self.lock();
        state.forget(Instant::now());
        state.rounds += 1;
        let round = state.rounds;
        let stand = |(ticket, draft): &(Ticket, Draft)| {
            let group = group_of_draft(draft);
            state.enter(round, &group, &messages[ticket.message].id);
            Standing { ticket: *ticket, group, is_held: false }
        };
        let records = drafts.iter().map(stand).collect();
        let mut line = Line { lanes: self, round, messages, records };
        line.sort(&state);
        line
    }

    /// The places are right whatever a panicking thread was doing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known before the look-ups: a completion's group is its run's input's.
fn group_of_draft(draft: &Draft) -> String {
    match draft {
        Draft::Whole(envelope) | Draft::Object { envelope, .. } => group_of(envelope),
        Draft::Completion { completion, otherwise } => group_of(&completion.to_envelope(otherwise)),
    }
}

impl State {
    fn enter(&mut self, round: u64, group: &str, message_id: &str) {
        let lane = self.lanes.entry(group.to_owned()).or_default();
        let holder = Holder::Round(round);
        let mut own = lane.iter_mut().filter(|place| place.message_id == message_id);
        match own
            .find(|place| place.holder == holder || matches!(place.holder, Holder::Away { .. }))
        {
            Some(place) => place.holder = holder,
            None => lane.push_back(Place { message_id: message_id.to_owned(), holder }),
        }
    }

    fn forget(&mut self, now: Instant) {
        self.lanes.retain(|_, lane| {
            lane.retain(|place| !matches!(place.holder, Holder::Away { until } if until <= now));
            !lane.is_empty()
        });
    }

    /// Those before a round's message, in its group.
    fn before(&self, round: u64, group: &str, message_id: &str) -> impl Iterator<Item = Holder> {
        let lane = self.lanes.get(group).into_iter().flatten();
        lane.take_while(move |place| !place.is_of(round, message_id)).map(|place| place.holder)
    }

    fn leave(&mut self, round: u64, group: &str, message_id: &str) {
        let Some(lane) = self.lanes.get_mut(group) else { return };
        lane.retain(|place| !place.is_of(round, message_id));
        if lane.is_empty() {
            self.lanes.remove(group);
        }
    }

    fn hold(&mut self, round: u64, group: &str, message_id: &str, holder: Holder) {
        let lane = self.lanes.get_mut(group).into_iter().flatten();
        let own = lane.filter(|place| place.is_of(round, message_id));
        own.for_each(|place| place.holder = holder);
    }
}

impl Place {
    fn is_of(&self, round: u64, message_id: &str) -> bool {
        let is_round =
            matches!(self.holder, Holder::Round(of) | Holder::Leaving(of) if of == round);
        is_round && self.message_id == message_id
    }
}

impl<'a> Line<'a> {
    /// Ends when a place anywhere has changed since the call.
    pub(crate) fn changed(&self) -> Notified<'a> {
        self.lanes.changed.notified()
    }

    /// Whose turn it is. What is behind a message that is left is left too.
    pub(crate) fn turns(&mut self) -> Turns {
        let state = self.lanes.lock();
        let mut turns = Turns::default();
        let (mut seen, mut held): (Vec<&str>, Vec<Ticket>) = (Vec::new(), Vec::new());
        for Standing { ticket, group, is_held } in &self.records {
            if *is_held || seen.contains(&group.as_str()) {
                continue;
            }
            seen.push(group);
            let id = &self.messages[ticket.message].id;
            // The round's own are in the order of their places already.
            let others = |holder: &Holder| *holder != Holder::Round(self.round);
            let before: Vec<Holder> = state.before(self.round, group, id).filter(others).collect();
            match before.iter().all(|holder| matches!(holder, Holder::Round(_))) {
                true if before.is_empty() => turns.now.push(*ticket),
                true => turns.is_waiting = true,
                false => held.push(*ticket),
            }
        }
        drop(state);
        held.into_iter().for_each(|ticket| self.hold(ticket));
        turns
    }

    /// A record waits in this group, as its look-up tells.
    pub(crate) fn regroup(&mut self, ticket: Ticket, group: &str) {
        let is_other = |one: &&mut Standing| one.ticket == ticket && one.group != group;
        let Some(standing) = self.records.iter_mut().find(is_other) else { return };
        let before = std::mem::replace(&mut standing.group, group.to_owned());
        let mut state = self.lanes.lock();
        state.enter(self.round, group, &self.messages[ticket.message].id);
        self.sort(&state);
        drop(state);
        self.let_go(ticket, &before);
    }

    /// A message that is back stands before those that came while it was away.
    fn sort(&mut self, state: &State) {
        let id_of = |ticket: Ticket| &self.messages[ticket.message].id;
        let place =
            |one: &Standing| state.before(self.round, &one.group, id_of(one.ticket)).count();
        self.records.sort_by_cached_key(place);
    }

    /// A record is done with: the next of its group may go.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        let Some(index) = self.records.iter().position(|one| one.ticket == ticket) else { return };
        let Standing { group, .. } = self.records.remove(index);
        self.let_go(ticket, &group);
    }

    /// A record is left, and what is behind it. Other rounds are told at once: they
    /// must not wait for this one's end, which may wait for theirs.
    pub(crate) fn hold(&mut self, ticket: Ticket) {
        let found = self.records.iter().position(|one| one.ticket == ticket);
        let Some(first) = found else { return };
        let group = self.records[first].group.clone();
        let mut state = self.lanes.lock();
        for standing in self.records[first..].iter_mut().filter(|one| one.group == group) {
            standing.is_held = true;
            let id = &self.messages[standing.ticket.message].id;
            state.hold(self.round, &group, id, Holder::Leaving(self.round));
        }
        drop(state);
        self.lanes.changed.notify_waiters();
    }

    /// Gives up a message's place in a group where no other record needs it.
    fn let_go(&self, ticket: Ticket, group: &str) {
        let needs = |one: &Standing| one.ticket.message == ticket.message && one.group == group;
        if !self.records.iter().any(needs) {
            self.lanes.lock().leave(self.round, group, &self.messages[ticket.message].id);
            self.lanes.changed.notify_waiters();
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.lanes.lock();
        for Standing { ticket, group, .. } in &self.records {
            let message = &self.messages[ticket.message];
            let hidden = Duration::from_secs(hidden_s(message.receives, false).into());
            let until = now + hidden + KEPT_FOR;
            state.hold(self.round, group, &message.id, Holder::Away { until });
        }
        drop(state);
        self.lanes.changed.notify_waiters();
    }
}
