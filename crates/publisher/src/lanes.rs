//! `lanes`: on a FIFO topic, whose turn it is in each group, over all pipelines.
//!
//! Each message takes its place behind those of its group that were received before
//! it. A message that is left keeps its place, so that nothing overtakes it: what is
//! behind it is left too, until it has come back and gone. Since another publisher may
//! have received it meanwhile, its place is kept a bounded time only.
//!
//! What waits for a message that was left comes back right after it, however often it
//! was received itself: else each of a group would wait out a pause of its own, in
//! whatever order those end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwire_schema::fifo::group_of;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::receive::{Message, VISIBILITY_S};
use crate::route::Draft;
use crate::settle::{LEFT_FIRST_S, LEFT_LAST_S, hidden_s};

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
    Leaving { round: u64, behind_at: Instant },
    /// The message is in the queue, and may be back.
    Away { behind_at: Instant, until: Instant },
}

/// How long after a message what waits for it comes back.
const BEHIND: Duration = Duration::from_secs(1);

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
    left: Option<Leave>,
}

/// When a message that is left comes back, and when what waits for it does.
#[derive(Debug, Clone, Copy)]
struct Leave {
    back_at: Instant,
    behind_at: Instant,
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
            Standing { ticket: *ticket, group, left: None }
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
            lane.retain(
                |place| !matches!(place.holder, Holder::Away { until, .. } if until <= now),
            );
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
        let is_round = matches!(
            self.holder,
            Holder::Round(of) | Holder::Leaving { round: of, .. } if of == round
        );
        is_round && self.message_id == message_id
    }
}

impl Holder {
    /// When it is worth coming back to what waits for this, where that is left: where it
    /// is overdue, for the longer the less likely it is to come, as long as its place is
    /// kept.
    fn behind_at(self, now: Instant) -> Option<Instant> {
        let (behind_at, until) = match self {
            Self::Round(_) => return None,
            Self::Leaving { behind_at, .. } => (behind_at, None),
            Self::Away { behind_at, until } => (behind_at, Some(until)),
        };
        let first = Duration::from_secs(LEFT_FIRST_S.into());
        let overdue = now.saturating_duration_since(behind_at).max(first);
        let again_at = behind_at.max(now + overdue);
        Some(until.map_or(again_at, |until| again_at.min(until.max(now + first))))
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
        let now = Instant::now();
        let (mut seen, mut held): (Vec<&str>, Vec<_>) = (Vec::new(), Vec::new());
        for Standing { ticket, group, left } in &self.records {
            if left.is_some() || seen.contains(&group.as_str()) {
                continue;
            }
            seen.push(group);
            let id = &self.messages[ticket.message].id;
            // The round's own are in the order of their places already.
            let others = |holder: &Holder| *holder != Holder::Round(self.round);
            let before: Vec<Holder> = state.before(self.round, group, id).filter(others).collect();
            match before.iter().filter_map(|holder| holder.behind_at(now)).max() {
                Some(behind_at) => held.push((*ticket, behind_at)),
                None if before.is_empty() => turns.now.push(*ticket),
                None => turns.is_waiting = true,
            }
        }
        drop(state);
        for (ticket, behind_at) in held {
            self.leave(ticket, Leave { back_at: behind_at, behind_at });
        }
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

    /// A record is left, and what is behind it.
    pub(crate) fn hold(&mut self, ticket: Ticket) {
        let hidden_s = hidden_s(self.messages[ticket.message].receives, false);
        let back_at = Instant::now() + Duration::from_secs(hidden_s.into());
        self.leave(ticket, Leave { back_at, behind_at: back_at + BEHIND });
    }

    /// Other rounds are told at once: they must not wait for this one's end, which may
    /// wait for theirs.
    fn leave(&mut self, ticket: Ticket, own: Leave) {
        let found = self.records.iter().position(|one| one.ticket == ticket);
        let Some(first) = found else { return };
        let group = self.records[first].group.clone();
        let (round, behind_at) = (self.round, own.behind_at);
        let mut state = self.lanes.lock();
        for standing in self.records[first..].iter_mut().filter(|one| one.group == group) {
            let behind = Leave { back_at: behind_at, behind_at };
            standing.left = Some(if standing.ticket == ticket { own } else { behind });
            let id = &self.messages[standing.ticket.message].id;
            state.hold(round, &group, id, Holder::Leaving { round, behind_at });
        }
        drop(state);
        self.lanes.changed.notify_waiters();
    }

    /// For how many seconds each message is to be hidden of which a record is left.
    pub(crate) fn hidden_s(&self) -> BTreeMap<usize, u32> {
        let now = Instant::now();
        let mut hidden = BTreeMap::new();
        for Standing { ticket, left, .. } in &self.records {
            let pause =
                left.map_or(Duration::ZERO, |left| left.back_at.saturating_duration_since(now));
            let pause_s = u32::try_from(pause.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
            let most: &mut u32 = hidden.entry(ticket.message).or_default();
            *most = pause_s.clamp(LEFT_FIRST_S, LEFT_LAST_S).max(*most);
        }
        hidden
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
        let (now, hidden) = (Instant::now(), self.hidden_s());
        let mut state = self.lanes.lock();
        for Standing { ticket, group, left } in &self.records {
            let message = &self.messages[ticket.message];
            // One that was not held either is of a round that was given up.
            let behind_at = match left {
                Some(left) => left.behind_at,
                None => now + Duration::from_secs(VISIBILITY_S.into()) + BEHIND,
            };
            // It comes back as a whole, when the last of its groups lets it.
            let hidden_s = hidden.get(&ticket.message).copied().unwrap_or_default();
            let back_at = now + Duration::from_secs(hidden_s.into());
            let behind_at = behind_at.max(back_at);
            let until = behind_at + KEPT_FOR;
            state.hold(self.round, group, &message.id, Holder::Away { behind_at, until });
        }
        drop(state);
        self.lanes.changed.notify_waiters();
    }
}
