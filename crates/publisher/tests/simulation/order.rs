//! What was received in which order: on a FIFO topic nothing overtakes what its
//! publisher has received before it in its group.

use std::collections::BTreeMap;

use bellwire_publisher::receive::Message;

use crate::load::{Event, QueueMessage, Wanted};
use crate::world::{Holder, State};

/// How long a publisher certainly keeps the place of a message that it left, from when
/// it last had to do with it: two thirds of what it means to, for it cannot know when
/// the queue did what it was asked.
const KEPT_MS: u64 = 600_000;

#[derive(Debug, Default)]
pub(crate) struct Order {
    /// What each publisher's life received, in order, without repetitions.
    received: BTreeMap<Holder, Vec<Standing>>,
    /// When it last had to do with a message.
    known_at: BTreeMap<(Holder, usize), u64>,
}

/// An event that waits in its group.
#[derive(Debug)]
struct Standing {
    message: usize,
    name: String,
    group: String,
}

impl Order {
    /// What an answer brought. A queue that is not FIFO gives a batch out in any order,
    /// which the publisher puts into that of their sending.
    pub(crate) fn received(
        &mut self,
        holder: Holder,
        now: u64,
        batch: &[(usize, &Message, &QueueMessage)],
    ) {
        let mut batch: Vec<_> = batch.iter().collect();
        batch.sort_by_key(|(_, message, _)| message.sent_at);
        for (number, _, sent) in batch {
            let known_at = self.known_at.insert((holder, *number), now);
            let received = self.received.entry(holder).or_default();
            if let Some(at) = known_at {
                // Whether its place was still kept, nobody can say.
                if now >= at + KEPT_MS {
                    let is_of = |one: &&Standing| one.message == *number;
                    let names: Vec<String> =
                        received.iter().filter(is_of).map(|one| one.name.clone()).collect();
                    // Another message may tell of the same.
                    received.retain(|one| !names.contains(&one.name));
                }
                continue;
            }
            let events = sent.records.iter().filter_map(|wanted| match wanted {
                Wanted::Published(event) => Some(event),
                Wanted::Refused | Wanted::Skipped | Wanted::Buried(_) => None,
            });
            let standings = events.filter_map(|Event { name, group, .. }| {
                Some(Standing { message: *number, name: name.clone(), group: group.clone()? })
            });
            received.extend(standings);
        }
    }

    /// A publisher has to do with a message.
    pub(crate) fn touched(&mut self, holder: Holder, message: usize, now: u64) {
        self.known_at.insert((holder, message), now);
    }
}

impl State {
    /// What a publisher received before an event, in its group, and has not done yet.
    pub(crate) fn first_before(&self, holder: Holder, name: &str, now: u64) -> Option<&str> {
        let received = self.order.received.get(&holder)?;
        let own = received.iter().position(|one| one.name == name)?;
        let is_waiting = |one: &&Standing| {
            let known_at = self.order.known_at.get(&(holder, one.message));
            one.group == received[own].group
                && !self.audit.is_published(&one.name)
                // Another publisher may have it, which this one cannot know.
                && self.queue.holder_of(one.message) == Some(holder)
                && known_at.is_some_and(|at| now < at + KEPT_MS)
        };
        received[..own].iter().find(is_waiting).map(|one| one.name.as_str())
    }
}
