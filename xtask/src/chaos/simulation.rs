//! `cargo xtask chaos simulation`: thousands of seeds of the publisher's simulation,
//! which is a test of its crate (`crates/publisher/tests/simulation`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use serde::Deserialize;

use super::{ChaosError, report_of, report_path};
use crate::build::{self, TestOf};
use crate::figures::{self, Figure, table};
use crate::process::Group;
use crate::project::Project;
use crate::steps::{Steps, shown_count};

/// What is promised for this many seeds.
const SEEDS: u64 = 10_000;
const WALL_S_MAX: f64 = 60.0;

/// After so many receives the simulated queue gives a message up, by the topic's kind.
const RECEIVES_MAX: f64 = 20.0;
const RECEIVES_FIFO_MAX: f64 = 50.0;

const TEST: TestOf =
    TestOf { package: "bellwire-publisher", test: "simulation", profile: "simulation" };

/// What `cargo xtask chaos simulation` takes.
#[derive(Debug, Args)]
pub(crate) struct Simulation {
    /// How many seeds, from the first one on
    #[arg(long, value_name = "N", default_value_t = SEEDS, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    first: u64,
    /// One seed alone, with a log of all that happens in it
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
}

/// What the simulation reports.
#[derive(Deserialize)]
struct Report {
    seeds: u64,
    wall_s: f64,
    virtual_s: f64,
    events: u64,
    duplicates: u64,
    lost: u64,
    /// How often one message was received at most, by the kind of the topic.
    receives: u32,
    receives_fifo: u32,
    /// How often each fault happened, by its name.
    faults: BTreeMap<String, u64>,
    /// Faults that never happened although there were enough seeds for them.
    missing: Vec<String>,
    failures: Vec<Failure>,
}

/// A seed that breaks a promise.
#[derive(Deserialize)]
struct Failure {
    seed: u64,
    problem: String,
}

impl Simulation {
    /// Builds, runs, and tells what came of it.
    pub(super) fn run(&self) -> Result<ExitCode, ChaosError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let step = steps.begin("build", "the publisher's simulation");
        let built = build::test_of(&project, &TEST, |line| step.note(line));
        step.end(&built, |_| String::new());
        let program = built?;
        match self.seed {
            Some(seed) => replay(&program, seed),
            None => self.run_seeds(&project, &steps, &program),
        }
    }

    fn run_seeds(
        &self,
        project: &Project,
        steps: &Steps,
        program: &Path,
    ) -> Result<ExitCode, ChaosError> {
        let step = steps.begin("simulate", format!("{} seeds", shown_count(self.seeds)));
        let report = self.reported(project, program);
        step.end(&report, |report| {
            let count: u64 = report.faults.values().sum();
            format!("{} events, {} faults", shown_count(report.events), shown_count(count))
        });
        let report = report?;
        let figures = figures(&report);
        anstream::print!("\n{}", table(&figures));
        let path = figures::write(project, "chaos-simulation", &figures)?;
        anstream::println!("\n  {}", project.shown(&path));
        for name in &report.missing {
            anstream::println!("\n  never happened: {name}");
        }
        for failure in &report.failures {
            let Failure { seed, problem } = failure;
            anstream::println!("\n  seed {seed}: {problem}");
            anstream::println!("  replay: cargo xtask chaos simulation --seed {seed}");
        }
        let is_good = report.failures.is_empty() && report.missing.is_empty();
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn reported(&self, project: &Project, program: &Path) -> Result<Report, ChaosError> {
        let path = report_path(project, "simulation.json")?;
        let mut command = Command::new(program);
        command
            .arg("seeds_hold")
            .env("BELLWIRE_SIMULATION_SEEDS", self.seeds.to_string())
            .env("BELLWIRE_SIMULATION_FIRST", self.first.to_string())
            .env("BELLWIRE_SIMULATION_REPORT", &path);
        report_of(&mut command, &path, "the simulation")
    }
}

/// Runs one seed, whose log goes where this program's output goes.
fn replay(program: &Path, seed: u64) -> Result<ExitCode, ChaosError> {
    let mut command = Command::new(program);
    command.args(["seeds_hold", "--nocapture"]);
    command.env("BELLWIRE_SIMULATION_SEED", seed.to_string());
    let status = Group::spawn(&mut command)?.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn figures(report: &Report) -> Vec<Figure> {
    let count = |name: &str, value: u64| Figure::of(name, value as f64, "");
    // The promise is for so many seeds; fewer get their part of the time.
    let wall_s_max = WALL_S_MAX * report.seeds as f64 / SEEDS as f64;
    let mut figures = vec![
        count("seeds", report.seeds),
        Figure::of("wall time", report.wall_s, "s").at_most(wall_s_max),
        count("seeds that break a promise", report.failures.len() as u64).at_most(0.0),
        count("events", report.events),
        count("events lost", report.lost).at_most(0.0),
        count("duplicates, each with the id of its original", report.duplicates),
        count("receives of one message, at most", u64::from(report.receives)).at_most(RECEIVES_MAX),
        count("the same on a FIFO topic", u64::from(report.receives_fifo))
            .at_most(RECEIVES_FIFO_MAX),
        Figure::of("simulated time", report.virtual_s / 3_600.0, "h"),
        count("kinds of fault that never happened", report.missing.len() as u64).at_most(0.0),
    ];
    figures.extend(report.faults.iter().map(|(name, times)| count(name, *times)));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_event_or_a_slow_run_does_not_hold() {
        let report = Report {
            seeds: 1_000,
            wall_s: 6.1,
            virtual_s: 7_200.0,
            events: 90,
            duplicates: 3,
            lost: 1,
            receives: 9,
            receives_fifo: 37,
            faults: BTreeMap::from([("power lost".to_owned(), 7)]),
            missing: Vec::new(),
            failures: vec![Failure { seed: 3, problem: "lost".to_owned() }],
        };
        let broken = figures(&report).into_iter().filter(|figure| figure.holds == Some(false));
        let names: Vec<String> = broken.map(|figure| figure.name).collect();
        assert_eq!(names, ["wall time", "seeds that break a promise", "events lost"]);
    }
}
