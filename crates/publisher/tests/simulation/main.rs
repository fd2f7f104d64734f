//! The publisher in a simulated world: bridge, outbox and spool as they are, over a
//! queue, a topic and a disk that fail as a seed says. No network, no thread, no clock.
//!
//! `BELLWIRE_SIMULATION_SEEDS` and `_FIRST` say how many seeds and from which on;
//! `_REPORT` where a report is to be written; `_SEED` runs one seed with a log of all
//! that happens in it. `cargo xtask chaos simulation` sets them.

mod audit;
mod claims;
mod faults;
mod load;
mod order;
mod plan;
mod process;
mod queue;
mod report;
mod run;
#[path = "../it/samples.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod samples;
mod topic;
#[path = "../../src/spool/torn_disk.rs"]
mod torn_disk;
mod world;

use report::{Report, setting};
use run::simulate;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 300;

#[test]
fn seeds_hold() {
    if let Some(seed) = setting("SEED") {
        report::log_to_output();
        let outcome = simulate(seed);
        println!("seed {seed}: {outcome:#?}");
        assert_eq!(outcome.problem, None, "seed {seed}");
        return;
    }
    let (seeds, first) = (setting("SEEDS").unwrap_or(SEEDS), setting("FIRST").unwrap_or(0));
    let report = Report::of(first..first + seeds);
    report.write();
    assert!(report.failures.is_empty(), "{}", report.failures_told());
    assert!(report.missing.is_empty(), "never happened: {:?}", report.missing);
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..10 {
        let (first, second) = (simulate(seed), simulate(seed));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.faults, second.faults, "seed {seed}");
    }
}
