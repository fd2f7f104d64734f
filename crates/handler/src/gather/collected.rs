//! The members of a closed window, as they are read page by page, and the event that
//! stands for all of them. Pure.

use std::collections::BTreeSet;

use bellwire_ledger::{ClosedWindow, Member};
use bellwire_schema::gathered::{DataGathered, GATHERED_TYPE, GatheredMember};
use bellwire_schema::{Envelope, EventContext};
use serde::{Deserialize, Serialize};

/// Causes of a run that its span is linked to, at most.
pub(super) const LINKS_MAX: usize = 32;

/// Members of one window, at most: what is kept of them must fit into the memory of
/// a function.
pub(super) const MEMBERS_MAX: u64 = 250_000;

/// The longest list that stands in a run's input itself: what is left of it is for
/// the trigger's own `input`.
const INLINE_BYTES_MAX: usize = 160 * 1024;

/// What was read so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Collected {
    /// Of all of them together.
    pub(super) sums: Sums,
    /// One line of JSON for each.
    pub(super) lines: String,
}

/// What is told of all members together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) count: u64,
    pub(super) size_bytes: u64,
    hop: u32,
    correlationid: Option<String>,
    datasets: BTreeSet<String>,
    pub(super) links: Vec<String>,
}

impl Sums {
    fn add_cause(&mut self, cause: &Member) {
        self.hop = self.hop.max(cause.hop);
        if self.correlationid.is_none() {
            self.correlationid.clone_from(&cause.correlationid);
        }
        // Two tell as much as all: that there is not one.
        if self.datasets.len() < 2 {
            self.datasets.extend(cause.event.dataset.clone());
        }
        if let Some(traceparent) = &cause.traceparent
            && self.links.len() < LINKS_MAX
            && !self.links.contains(traceparent)
        {
            self.links.push(traceparent.clone());
        }
    }
}

impl Collected {
    /// The beginning of a window's members: its marker is a cause, and the first.
    pub(super) fn of(closed: &ClosedWindow) -> Self {
        let mut collected = Self::default();
        if let Some(marker) = &closed.marker {
            collected.sums.add_cause(marker);
        }
        collected
    }

    pub(super) fn add(&mut self, member: &Member) {
        let sums = &mut self.sums;
        sums.count += 1;
        sums.size_bytes = sums.size_bytes.saturating_add(member.event.size_bytes.unwrap_or(0));
        sums.add_cause(member);
        self.lines.push_str(&serde_json::to_string(&member.event).expect("a member is plain JSON"));
        self.lines.push('\n');
    }

    /// What was read, as it is put aside: a line for the sums, then the members.
    pub(super) fn to_partial(&self) -> String {
        let sums = serde_json::to_string(&self.sums).expect("sums are plain JSON");
        format!("{sums}\n{}", self.lines)
    }

    /// Reads what [`Self::to_partial`] wrote; `None` where it is something else.
    pub(super) fn of_partial(text: &str) -> Option<Self> {
        let (sums, lines) = text.split_once('\n')?;
        Some(Self { sums: serde_json::from_str(sums).ok()?, lines: lines.to_owned() })
    }

    /// The event that the run gets: with its members where they are few, and where
    /// the list of them is, if it is anywhere.
    pub(super) fn to_event(
        &self,
        closed: &ClosedWindow,
        source: &str,
        list: Option<&str>,
    ) -> Envelope {
        let members = (self.lines.len() <= INLINE_BYTES_MAX || list.is_none()).then(|| {
            self.lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        });
        self.event(closed, source, list, members)
    }

    /// The same without its members.
    pub(super) fn to_pointer(
        &self,
        closed: &ClosedWindow,
        source: &str,
        list: Option<&str>,
    ) -> Envelope {
        self.event(closed, source, list, None)
    }

    fn event(
        &self,
        closed: &ClosedWindow,
        source: &str,
        list: Option<&str>,
        members: Option<Vec<GatheredMember>>,
    ) -> Envelope {
        let event_type = GATHERED_TYPE.parse().expect("it is a type");
        let mut event = Envelope::new(&gathered_id(closed), source, event_type);
        event.subject = Some(closed.window.key.clone()).filter(|key| !key.is_empty());
        event.time = Some(closed.closed_at);
        event.dataref = list.map(str::to_owned);
        let only = (self.sums.datasets.len() == 1).then(|| self.sums.datasets.first().cloned());
        event.dataset = only.flatten();
        event.context = EventContext {
            correlationid: self.sums.correlationid.clone(),
            hop: self.sums.hop,
            ..EventContext::default()
        };
        event.with_payload(&DataGathered {
            trigger: closed.window.trigger.clone(),
            key: closed.window.key.clone(),
            generation: closed.generation,
            ended_by: closed.ended_by,
            count: self.sums.count,
            size_bytes: self.sums.size_bytes,
            opened_at: closed.opened_at,
            closed_at: closed.closed_at,
            members,
        })
    }
}

/// The id of the event that stands for a window: what its start key is made of.
pub(super) fn gathered_id(closed: &ClosedWindow) -> String {
    format!("{}-{}", closed.window.id, closed.generation)
}

#[cfg(test)]
mod tests {
    use bellwire_ledger::Window;
    use bellwire_schema::gathered::GatherEnd;
    use jiff::Timestamp;

    use super::*;
    use crate::gather::rules::member_of;

    fn closed() -> ClosedWindow {
        ClosedWindow {
            window: Window::new("train", "wine", 1),
            generation: 2,
            ended_by: GatherEnd::Complete,
            cause: None,
            counts: vec![0],
            opened_at: Timestamp::UNIX_EPOCH,
            closed_at: Timestamp::UNIX_EPOCH,
            marker: None,
            listed_after: None,
            listed_until: None,
            progress: None,
            outcome: None,
        }
    }

    fn member(number: usize, dataset: &str) -> Member {
        let mut event =
            Envelope::new(&number.to_string(), "/app", "label.approved".parse().unwrap());
        event.dataset = Some(dataset.to_owned());
        event.context.hop = u32::try_from(number % 5).unwrap();
        event.context.traceparent = Some(format!("00-{:032x}-{:016x}-01", number + 1, 1));
        member_of(&event)
    }

    #[test]
    fn what_was_put_aside_goes_on_as_if_it_had_not_been() {
        let mut whole = Collected::of(&closed());
        let mut resumed = Collected::of(&closed());
        for number in 0..100 {
            whole.add(&member(number, "wine"));
            resumed = Collected::of_partial(&resumed.to_partial()).unwrap();
            resumed.add(&member(number, "wine"));
        }
        assert_eq!(whole, resumed);
        assert_eq!(Collected::of_partial("garbage"), None);
    }

    #[test]
    fn the_event_has_the_members_where_they_are_few_and_the_list_where_there_is_one() {
        let mut collected = Collected::of(&closed());
        collected.add(&member(1, "wine"));
        let few = collected.to_event(&closed(), "arn:ledger", Some("s3://b/k"));
        assert_eq!(few.dataref.as_deref(), Some("s3://b/k"));
        assert_eq!(few.data.as_ref().unwrap()["members"][0]["event_id"], "1");
        assert_eq!(few.dataset.as_deref(), Some("wine"));
        for number in 0..5_000 {
            collected.add(&member(number, "beer"));
        }
        let many = collected.to_event(&closed(), "arn:ledger", Some("s3://b/k"));
        let data = many.data.unwrap();
        assert_eq!((data.get("members"), &data["count"]), (None, &5_001.into()));
        assert_eq!((many.dataset, many.context.hop), (None, 4));
        assert_eq!(collected.sums.links.len(), LINKS_MAX);
    }
}
