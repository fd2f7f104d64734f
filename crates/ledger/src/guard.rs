//! What holds a trigger's starts back, decided on the trigger's row of guards. Pure.
//!
//! The row counts the starts of each UTC day, remembers the last start, holds a slot for
//! each run that goes on, and counts the starts that wait. A limit over all starts of a
//! trigger needs one place that all of them pass: that row.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_schema::workflow::{Guards, TargetKind, WhenHeld};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::row::Start;
use crate::table::Item;

/// How long a slot outlives the expected end of its run. The sweep asks after a run from
/// its expected end on, every five minutes, and renews the slot for so long: six times
/// nobody can have asked before it lapses.
pub const SLOT_MARGIN: SignedDuration = SignedDuration::from_mins(30);

/// A count of starts that wait, which nothing has changed for so long, counts as none:
/// rows that somebody deleted must not hold a trigger back for ever. Longer than a day,
/// for which `max_starts_per_day` may hold all of them.
const WAITING_STALE_AFTER: SignedDuration = SignedDuration::from_hours(25);

/// Days whose counts are removed at each start, from the day before yesterday backwards.
/// Yesterday's stays: another machine's clock may not be past midnight yet.
const DAYS_REMOVED: std::ops::RangeInclusive<i64> = 2..=8;

/// What begins the name of the attribute that is a run's slot.
const SLOT_PREFIX: &str = "slot#";
/// What begins the name of the attribute that counts a day's starts.
const DAY_PREFIX: &str = "starts#";

/// What holds a start back, by its key in the workflow file where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// The last start is too recent.
    Cooldown,
    /// As many runs go on as may.
    MaxConcurrent,
    /// As many starts were made in this UTC day as may.
    MaxStartsPerDay,
    /// Others wait already, and go first.
    Order,
    /// So many starts came at one time that the guards could not be asked.
    Contention,
}

impl GuardName {
    /// Its name, as it stands in the table and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cooldown => "cooldown",
            Self::MaxConcurrent => "max_concurrent",
            Self::MaxStartsPerDay => "max_starts_per_day",
            Self::Order => "order",
            Self::Contention => "contention",
        }
    }
}

/// That a start was held back, or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// By what.
    pub by: GuardName,
    /// Since when; or when it was dropped.
    pub at: Timestamp,
    /// Until when at least, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When the sweep released it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    /// Whether the trigger's row counts it among those that wait.
    pub is_counted: bool,
}

/// What a trigger's guards allow, and what one more start of it takes of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cooldown: Option<SignedDuration>,
    pub(crate) running_max: Option<u32>,
    pub(crate) starts_per_day_max: Option<u32>,
    pub(crate) when_held: WhenHeld,
    /// How long the run's slot lasts where nobody renews it.
    pub(crate) slot_for: SignedDuration,
}

impl Limits {
    pub(crate) fn of(guards: &Guards, start: &Start) -> Self {
        let expected = i64::try_from(start.expected_duration_s).unwrap_or(i64::MAX / 4);
        // Of what tells no end nobody can ask either: its slot is its expected duration.
        let tells = TargetKind::of_arn(&start.target).is_some_and(TargetKind::tells_the_end);
        let margin = if tells { SLOT_MARGIN } else { SignedDuration::ZERO };
        Self {
            cooldown: guards.cooldown_s.map(|seconds| {
                SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 4))
            }),
            running_max: guards.max_concurrent,
            starts_per_day_max: guards.max_starts_per_day,
            when_held: guards.when_held,
            slot_for: SignedDuration::from_secs(expected).saturating_add(margin),
        }
    }

    /// Whether nothing holds anything back.
    pub(crate) const fn is_none(&self) -> bool {
        self.cooldown.is_none() && self.running_max.is_none() && self.starts_per_day_max.is_none()
    }

    /// When the slot ends of a run that is started now.
    pub(crate) fn slot_until(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.slot_for).unwrap_or(Timestamp::MAX)
    }
}

/// Who asks to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An event that has just come: behind all that wait.
    Arrival,
    /// The sweep, for the first of those that wait.
    Sweep {
        /// Whether the row counts it among those.
        is_counted: bool,
    },
}

/// What the guards say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may start, once these slots are gone that lapsed: name, and end in epoch seconds.
    Admit { lapsed: Vec<(String, i64)> },
    /// It may not.
    Hold { by: GuardName, until: Option<Timestamp> },
}

/// A trigger's row of guards, as it stands in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GuardRow {
    /// Starts of each UTC day.
    pub(crate) starts: BTreeMap<String, i64>,
    /// When the last one was admitted, in epoch nanoseconds.
    pub(crate) last_start_ns: Option<i128>,
    /// Slots that are there, lapsed or not.
    pub(crate) running: i64,
    /// Each slot's end, in epoch seconds.
    pub(crate) slots: BTreeMap<String, i64>,
    /// Starts that wait.
    pub(crate) waiting: i64,
    /// When that last changed, in epoch seconds.
    pub(crate) held_at: i64,
}

impl GuardRow {
    pub(crate) fn of_item(item: &Item) -> Self {
        let number = |name: &str| item.get(name).and_then(integer).unwrap_or(0);
        let those = |prefix: &str| {
            let named = item.iter().filter(|(name, _)| name.starts_with(prefix));
            named.filter_map(|(name, value)| Some((name.clone(), integer(value)?))).collect()
        };
        Self {
            starts: those(DAY_PREFIX),
            last_start_ns: item.get("last_start").and_then(|value| value.as_n().ok()?.parse().ok()),
            running: number("running"),
            slots: those(SLOT_PREFIX),
            waiting: number("waiting"),
            held_at: number("held_at"),
        }
    }

    /// What the guards say to one more start. The condition of the write that admits it
    /// says the same, of the row as it stands then.
    pub(crate) fn verdict(&self, limits: &Limits, asker: Asker, now: Timestamp) -> Verdict {
        let hold = |by, until| Verdict::Hold { by, until };
        let starts = self.starts.get(&day_attribute(now)).copied().unwrap_or(0);
        if limits.starts_per_day_max.is_some_and(|max| starts >= i64::from(max)) {
            return hold(GuardName::MaxStartsPerDay, next_day(now));
        }
        if let Some(last) = self.last_start_ns
            && let Some(cooldown) = limits.cooldown
            && last > cooled_ns(now, cooldown)
        {
            let last = Timestamp::from_nanosecond(last).ok();
            let until = last.and_then(|last| last.checked_add(cooldown).ok());
            return hold(GuardName::Cooldown, until);
        }
        let mut lapsed = Vec::new();
        if let Some(max) = limits.running_max.map(i64::from)
            && self.running >= max
        {
            let is_over = |until: i64| until < now.as_second();
            let over = self.slots.iter().filter(|(_, until)| is_over(**until));
            lapsed = over.map(|(name, until)| (name.clone(), *until)).collect();
            lapsed.truncate(LAPSED_MAX);
            if self.running - i64::try_from(lapsed.len()).unwrap_or(0) >= max {
                let next = self.slots.values().min().copied();
                let until = next.and_then(|until| Timestamp::from_second(until).ok());
                return hold(GuardName::MaxConcurrent, until.filter(|until| *until > now));
            }
        }
        let is_fresh = self.held_at >= stale_before(now);
        if asker == Asker::Arrival
            && limits.when_held == WhenHeld::Wait
            && self.waiting > 0
            && is_fresh
        {
            return hold(GuardName::Order, None);
        }
        Verdict::Admit { lapsed }
    }
}

/// Slots that one write removes: each is named in its condition, which has bounds.
/// Source: Amazon DynamoDB developer guide, "Expression size limits": 4 KB, 300 operators.
const LAPSED_MAX: usize = 20;

fn integer(value: &AttributeValue) -> Option<i64> {
    value.as_n().ok()?.parse().ok()
}

/// The attribute that is the slot of a run.
pub(crate) fn slot_attribute(start_key: &str) -> String {
    format!("{SLOT_PREFIX}{start_key}")
}

/// The attribute that counts the starts of an instant's UTC day.
pub(crate) fn day_attribute(now: Timestamp) -> String {
    day_named(date_of(now))
}

/// The attributes of days that nobody asks for any more. A row that rests for longer
/// than a week keeps one that is not among them: some bytes, and no harm.
pub(crate) fn old_day_attributes(now: Timestamp) -> Vec<String> {
    let today = date_of(now);
    let day = |back: i64| today.saturating_sub(jiff::Span::new().days(back));
    DAYS_REMOVED.map(|back| day_named(day(back))).collect()
}

fn day_named(day: Date) -> String {
    format!("{DAY_PREFIX}{day}")
}

fn date_of(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

fn next_day(now: Timestamp) -> Option<Timestamp> {
    let tomorrow = date_of(now).tomorrow().ok()?;
    Some(tomorrow.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A last start no later than this is long enough ago, in epoch nanoseconds.
pub(crate) fn cooled_ns(now: Timestamp, cooldown: SignedDuration) -> i128 {
    now.as_nanosecond() - cooldown.as_nanos()
}

/// A count of those that wait counts from then on, in epoch seconds.
pub(crate) fn stale_before(now: Timestamp) -> i64 {
    now.as_second() - WAITING_STALE_AFTER.as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: i64 = 1_764_072_000;

    fn limits(day: Option<u32>, cooldown_s: Option<i64>, running: Option<u32>) -> Limits {
        Limits {
            cooldown: cooldown_s.map(SignedDuration::from_secs),
            running_max: running,
            starts_per_day_max: day,
            when_held: WhenHeld::Wait,
            slot_for: SignedDuration::from_hours(1),
        }
    }

    /// What the write of an admission does to the row.
    fn admit(row: &mut GuardRow, limits: &Limits, id: u32, lapsed: &[(String, i64)], now: i64) {
        let at = Timestamp::from_second(now).unwrap();
        *row.starts.entry(day_attribute(at)).or_default() += 1;
        for day in old_day_attributes(at) {
            row.starts.remove(&day);
        }
        row.last_start_ns = Some(at.as_nanosecond());
        if limits.running_max.is_some() {
            for (name, _) in lapsed {
                row.slots.remove(name);
            }
            let slot = slot_attribute(&id.to_string());
            row.slots.insert(slot, limits.slot_until(at).as_second());
            row.running = i64::try_from(row.slots.len()).unwrap();
        }
    }

    proptest! {
        /// However starts and ends follow each other: no day has more starts than its
        /// limit, no two starts are closer than the cooldown, and no more slots are
        /// taken, of those that have not lapsed, than runs may go on.
        #[test]
        fn nothing_is_admitted_past_a_limit(
            day in proptest::option::of(1_u32..6),
            cooldown_s in proptest::option::of(1_i64..5_000),
            running in proptest::option::of(1_u32..4),
            steps in proptest::collection::vec((0_i64..20_000, any::<bool>()), 1..80),
        ) {
            let limits = limits(day, cooldown_s, running);
            let (mut row, mut now) = (GuardRow::default(), NOON);
            let mut admitted: Vec<i64> = Vec::new();
            for (id, (passes, ends)) in (0..).zip(steps) {
                now += passes;
                let at = Timestamp::from_second(now).unwrap();
                if ends && row.slots.pop_first().is_some() {
                    row.running -= 1;
                }
                match row.verdict(&limits, Asker::Arrival, at) {
                    Verdict::Admit { lapsed } => {
                        prop_assert!(lapsed.iter().all(|(_, until)| *until < now));
                        admit(&mut row, &limits, id, &lapsed, now);
                        admitted.push(now);
                    }
                    Verdict::Hold { by, until } => {
                        prop_assert!(until.is_none_or(|until| until > at), "{by:?} {until:?}");
                        let is_set = match by {
                            GuardName::MaxStartsPerDay => day.is_some(),
                            GuardName::Cooldown => cooldown_s.is_some(),
                            _ => by == GuardName::MaxConcurrent && running.is_some(),
                        };
                        prop_assert!(is_set, "{by:?}");
                    }
                }
                let going_on = row.slots.values().filter(|until| **until >= now).count();
                prop_assert!(running.is_none_or(|max| going_on <= max as usize));
            }
            for (index, start) in admitted.iter().enumerate() {
                let same = admitted.iter().filter(|one| *one / 86_400 == start / 86_400).count();
                prop_assert!(day.is_none_or(|max| same <= max as usize));
                let next = admitted.get(index + 1);
                let apart = next.zip(cooldown_s).is_none_or(|(next, least)| next - start >= least);
                prop_assert!(apart);
            }
        }
    }

    #[test]
    fn what_waits_goes_first_unless_it_was_forgotten() {
        let limits = limits(Some(5), None, None);
        let row = GuardRow { waiting: 1, held_at: NOON, ..GuardRow::default() };
        let at = |seconds: i64| Timestamp::from_second(NOON + seconds).unwrap();
        let order = Verdict::Hold { by: GuardName::Order, until: None };
        let free = Verdict::Admit { lapsed: Vec::new() };
        assert_eq!(row.verdict(&limits, Asker::Arrival, at(60)), order);
        assert_eq!(row.verdict(&limits, Asker::Sweep { is_counted: true }, at(60)), free);
        assert_eq!(row.verdict(&limits, Asker::Arrival, at(26 * 3_600)), free);
        let drops = Limits { when_held: WhenHeld::Drop, ..limits };
        assert_eq!(row.verdict(&drops, Asker::Arrival, at(60)), free, "nothing waits there");
    }

    #[test]
    fn yesterdays_count_outlives_midnight() {
        let now = Timestamp::from_second(NOON).unwrap();
        let yesterday = day_attribute(now - SignedDuration::from_hours(24));
        let before = day_attribute(now - SignedDuration::from_hours(48));
        let old = old_day_attributes(now);
        assert!(!old.contains(&yesterday) && !old.contains(&day_attribute(now)), "{old:?}");
        assert!(old.contains(&before), "{old:?}");
    }
}
