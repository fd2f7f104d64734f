//! What goes wrong, as often as asked for, in an order that a seed decides.

use clap::Args;
use serde::{Deserialize, Serialize};

/// How often what goes wrong; a ratio is from 0, never, to 1, always.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, Args)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How long each call takes at least, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_ms: u64,
    /// Calls that are refused since they are too many.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub throttle: f64,
    /// Calls that fail with status 500.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub server_error: f64,
    /// Entries of a PublishBatch that fail alone.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub publish_entry_failure: f64,
    /// Entries of a DeleteMessageBatch that fail alone.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub delete_entry_failure: f64,
    /// Calls that are done, and whose connection closes without an answer.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub lost_response: f64,
}

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Throttled,
    ServerError,
    Lost,
}

/// Faults with the randomness that they come by.
#[derive(Debug)]
pub(crate) struct Dice {
    pub(crate) faults: Faults,
    random: fastrand::Rng,
}

impl Dice {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, random: fastrand::Rng::with_seed(seed) }
    }

    /// One throw a call, whatever the ratios are: another ratio then does not
    /// move what befalls all later calls.
    pub(crate) fn fate(&mut self) -> Fate {
        let thrown = self.random.f64();
        let Faults { throttle, server_error, lost_response, .. } = self.faults;
        let fates = [
            (throttle, Fate::Throttled),
            (server_error, Fate::ServerError),
            (lost_response, Fate::Lost),
        ];
        let mut bound = 0.0;
        for (ratio, fate) in fates {
            bound += ratio;
            if thrown < bound {
                return fate;
            }
        }
        Fate::Answered
    }

    pub(crate) fn publish_entry_fails(&mut self) -> bool {
        self.random.f64() < self.faults.publish_entry_failure
    }

    pub(crate) fn delete_entry_fails(&mut self) -> bool {
        self.random.f64() < self.faults.delete_entry_failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_course_of_events() {
        let faults = Faults { throttle: 0.2, lost_response: 0.2, ..Faults::default() };
        let course = |seed| {
            let mut dice = Dice::new(faults, seed);
            (0..100).map(|_| dice.fate()).collect::<Vec<_>>()
        };
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
        for fate in [Fate::Answered, Fate::Throttled, Fate::Lost] {
            assert!(course(1).contains(&fate), "{fate:?}");
        }
    }
}
