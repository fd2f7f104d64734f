//! `cargo xtask chaos handler`: events that the handler gets three times at once, while
//! it is killed before and after each step, the ledger throttles and answers are lost,
//! and how many runs that makes. It is a test of the handler's crate
//! (`crates/handler/tests/it/chaos`), with many events.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use serde::Deserialize;

use super::{ChaosError, report_of, report_path};
use crate::build::{self, TestOf};
use crate::figures::{self, Figure, table};
use crate::project::Project;
use crate::steps::{Steps, shown_count};

/// What is promised for this many events.
const EVENTS: u64 = 1_000;

const TEST: TestOf = TestOf { package: "bellwire-handler", test: "it", profile: "dev" };
const NAME: &str = "chaos::each_event_is_one_run_whatever_dies_on_the_way";

/// A function is invoked again where whoever invoked it did not get to the record.
const WITH_WINDOW: &str = "lambda";

/// What `cargo xtask chaos handler` takes.
#[derive(Debug, Args)]
pub(crate) struct HandlerChaos {
    /// How many events, for each kind of target
    #[arg(long, value_name = "N", default_value_t = EVENTS, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// What is drawn from it goes wrong; how calls interleave is the machine's own
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

/// What the test reports.
#[derive(Debug, Clone, Deserialize)]
struct Report {
    /// For each kind of target.
    events: u64,
    copies: u64,
    wall_s: f64,
    /// By the handler's clock.
    passed_s: u64,
    rounds: u64,
    invocations: u64,
    kinds: BTreeMap<String, Kind>,
    /// How often each thing went wrong, by its name.
    faults: BTreeMap<String, u64>,
    /// What never went wrong although there were events enough.
    missing: Vec<String>,
}

/// What came of the events of one kind of target.
#[derive(Debug, Clone, Default, Deserialize)]
struct Kind {
    runs: u64,
    lost: u64,
    untold: u64,
    windows: u64,
}

impl HandlerChaos {
    /// Builds, delivers, and tells what came of it.
    pub(super) fn run(&self) -> Result<ExitCode, ChaosError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let step = steps.begin("build", "the handler's tests");
        let built = build::test_of(&project, &TEST, |line| step.note(line));
        step.end(&built, |_| String::new());
        let program = built?;
        let what = format!("{} events for each kind of target", shown_count(self.events));
        let step = steps.begin("deliver", what);
        let report = self.reported(&project, &program);
        step.end(&report, |report| {
            let faults: u64 = report.faults.values().sum();
            format!(
                "{} invocations, {} faults",
                shown_count(report.invocations),
                shown_count(faults)
            )
        });
        let report = report?;
        let figures = figures(&report);
        anstream::print!("\n{}", table(&figures));
        let path = figures::write(&project, "chaos-handler", &figures)?;
        anstream::println!("\n  {}", project.shown(&path));
        for name in &report.missing {
            anstream::println!("\n  never happened: {name}");
        }
        let is_good = figures.iter().all(|figure| figure.holds != Some(false));
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn reported(&self, project: &Project, program: &Path) -> Result<Report, ChaosError> {
        let path = report_path(project, "handler.json")?;
        let mut command = Command::new(program);
        command
            .args([NAME, "--exact"])
            // Where its tests run: they look for the local cloud from there.
            .current_dir(project.root.join("crates/handler"))
            .env("BELLWIRE_CHAOS_EVENTS", self.events.to_string())
            .env("BELLWIRE_CHAOS_SEED", self.seed.to_string())
            .env("BELLWIRE_CHAOS_REPORT", &path);
        report_of(&mut command, &path, "the handler's test")
    }
}

fn figures(report: &Report) -> Vec<Figure> {
    let count = |name: String, value: u64| Figure::of(name, value as f64, "");
    let mut figures = vec![
        count("events for each kind of target".to_owned(), report.events),
        count("deliveries of each event, at once".to_owned(), report.copies),
        count("invocations until all was acknowledged".to_owned(), report.invocations),
    ];
    for (kind, found) in &report.kinds {
        let window = if kind == WITH_WINDOW { found.windows } else { 0 };
        let runs = count(format!("{kind}: runs"), found.runs);
        figures.extend([
            runs.at_most((report.events + window) as f64),
            count(format!("{kind}: ended between start and record"), found.windows),
            count(format!("{kind}: events without a run"), found.lost).at_most(0.0),
            count(format!("{kind}: starts untold to the topic"), found.untold).at_most(0.0),
        ]);
    }
    figures.push(
        count("kinds of fault that never happened".to_owned(), report.missing.len() as u64)
            .at_most(0.0),
    );
    figures.extend(report.faults.iter().map(|(name, times)| count(name.clone(), *times)));
    figures.extend([
        count("rounds of deliveries".to_owned(), report.rounds),
        Figure::of("time by the handler's clock", report.passed_s as f64 / 60.0, "min"),
        Figure::of("wall time", report.wall_s, "s"),
    ]);
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_does_not_hold_but_where_a_window_was() {
        let kind = |runs, lost| Kind { runs, lost, untold: 0, windows: 2 };
        let report = Report {
            events: 10,
            copies: 3,
            wall_s: 1.0,
            passed_s: 600,
            rounds: 9,
            invocations: 90,
            kinds: BTreeMap::from([
                ("batch".to_owned(), kind(11, 0)),
                ("lambda".to_owned(), kind(12, 0)),
                ("step-functions".to_owned(), kind(10, 1)),
            ]),
            faults: BTreeMap::from([("killed after start".to_owned(), 7)]),
            missing: vec!["throttled: claim".to_owned()],
        };
        let broken = figures(&report).into_iter().filter(|figure| figure.holds == Some(false));
        let names: Vec<String> = broken.map(|figure| figure.name).collect();
        assert_eq!(
            names,
            [
                "batch: runs",
                "step-functions: events without a run",
                "kinds of fault that never happened"
            ]
        );
    }
}
