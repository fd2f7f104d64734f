//! What became of events so far, by name: in memory, for the last line of the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::settle::Outcome;

/// Counters by outcome.
#[derive(Debug, Default)]
pub struct Counts {
    by_outcome: Mutex<BTreeMap<Outcome, u64>>,
}

impl Counts {
    /// Counts one more outcome.
    pub fn add(&self, outcome: Outcome) {
        *self.lock().entry(outcome).or_default() += 1;
    }

    /// The sum of a name and of all names below it: `skipped`, `skipped.no-rule`.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        let is_below = |outcome: &Outcome| {
            let other = name_of(*outcome);
            other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.lock().iter().filter(|(outcome, _)| is_below(outcome)).map(|(_, count)| count).sum()
    }

    /// A counter is right whatever a panicking thread was doing.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Outcome, u64>> {
        self.by_outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [published, skipped, quarantined, left] =
            ["published", "skipped", "quarantined", "left"].map(|name| self.of(name));
        write!(
            f,
            "published {published}, skipped {skipped}, quarantined {quarantined}, left {left}"
        )
    }
}

fn name_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Published => "published".to_owned(),
        Outcome::Skipped(skip) => format!("skipped.{skip}"),
        Outcome::Quarantined(reason) => format!("quarantined.{}", reason.as_str()),
        Outcome::Left => "left".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bellwire_schema::dead_letter::DeadReason;

    use super::*;
    use crate::route::Skip;

    #[test]
    fn counts_are_by_name_and_sum_up() {
        let counts = Counts::default();
        counts.add(Outcome::Published);
        counts.add(Outcome::Skipped(Skip::NoRule));
        counts.add(Outcome::Skipped(Skip::TestEvent));
        counts.add(Outcome::Quarantined(DeadReason::TooLarge));
        assert_eq!(counts.of("skipped"), 2);
        assert_eq!(counts.of("skipped.no-rule"), 1);
        assert_eq!(counts.to_string(), "published 1, skipped 2, quarantined 1, left 0");
    }
}
