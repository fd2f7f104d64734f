//! `cargo xtask bench infra`: the wine workflow deployed to a local cloud by `bellwire`, as
//! users do, and counted; then applies that are killed at a random call, which is a test of
//! infra's crate (`crates/infra/tests/it/interrupted.rs`), with many of them.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use bellwire_local::StartOptions;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{BenchError, file_error};
use crate::build::{self, BuildError, Built, Profile, Targets, TestOf};
use crate::demo::without_own_settings;
use crate::figures::{self, Figure, median, table};
use crate::local;
use crate::process::{self, Line};
use crate::project::Project;
use crate::steps::Steps;

const TEST: TestOf = TestOf { package: "bellwire-infra", test: "it", profile: "dev" };
const NAME: &str = "interrupted::an_apply_that_was_killed_at_any_call_is_finished_by_the_next";

/// What is promised.
const CALLS_PER_LINE_MAX: f64 = 2.5;
const CHAIN_RATIO_MAX: f64 = 1.5;

/// What cannot go without being named.
const HOLDERS: [&str; 4] = ["wine-dead", "wine-ingest", "wine-lake", "wine-ledger"];

/// What `cargo xtask bench infra` takes.
#[derive(Debug, Args)]
pub(crate) struct InfraBench {
    /// Applies that are killed
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u64,
    /// At which calls, and whether they are done, is drawn from it
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// First applies, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What the test reports.
#[derive(Debug, Deserialize)]
struct Interrupted {
    killed: u64,
    unconverged: Vec<String>,
    misplaced: Vec<String>,
    owned_left: Vec<String>,
    foreign_gone: Vec<String>,
    wall_s: f64,
}

/// What `bellwire` tells of one first apply, and of the plan after it.
struct Round {
    apply: Value,
    plan: Value,
    resources_left: u64,
}

impl Round {
    fn apply(&self) -> &Value {
        &self.apply
    }

    fn plan(&self) -> &Value {
        &self.plan
    }
}

impl InfraBench {
    /// Builds, applies, interrupts, prints the figures and writes them into a file.
    pub(super) fn run(&self) -> Result<ExitCode, BenchError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let environment = local::set_up_as_step(&project, &steps)?;
        let targets =
            Targets::of_workflow(&project.example_workflow()).map_err(BuildError::from)?;
        let built = build::run_as_step(&project, Profile::Dev, &targets, &steps)?;
        let test = build::test_of(&project, &TEST, |_| {})?;
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let options = StartOptions::default();
            let cloud = local::start_as_step(&environment, options, &steps)?;
            let step = steps.begin("apply", format!("the wine workflow, round {number}"));
            let round = round(&project, &built, &cloud.env());
            step.end(&round, |round| {
                let ratio = round.apply["ratio"].as_f64().unwrap_or(f64::NAN);
                format!("{ratio:.2} times the longest chain of calls")
            });
            rounds.push(round?);
            cloud.stop().map_err(local::LocalError::from)?;
        }
        let step = steps.begin("interrupt", format!("{} applies", self.kills));
        let interrupted = self.interrupted(&project, &test);
        step.end(&interrupted, |report| format!("in {:.0} s", report.wall_s));
        let interrupted = interrupted?;
        let figures = figures(&rounds, &interrupted);
        anstream::print!("\n{}", table(&figures));
        let path = figures::write(&project, "bench-infra", &figures)?;
        anstream::println!("\n  {}", project.shown(&path));
        let wrong = [
            &interrupted.unconverged,
            &interrupted.misplaced,
            &interrupted.owned_left,
            &interrupted.foreign_gone,
        ];
        for line in wrong.into_iter().flatten() {
            anstream::println!("\n  {line}");
        }
        let is_good = figures.iter().all(|figure| figure.holds != Some(false));
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn interrupted(&self, project: &Project, test: &Path) -> Result<Interrupted, BenchError> {
        let folder = project.state().join("bench/infra");
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let path = folder.join("interrupted.json");
        if path.exists() {
            fs::remove_file(&path).map_err(file_error(&path))?;
        }
        let mut command = Command::new(test);
        command
            .args([NAME, "--exact"])
            // Where its tests run: they look for the local cloud from there.
            .current_dir(project.root.join("crates/infra"))
            .env("BELLWIRE_INFRA_KILLS", self.kills.to_string())
            .env("BELLWIRE_INFRA_SEED", self.seed.to_string())
            .env("BELLWIRE_INFRA_REPORT", &path);
        let mut output = String::new();
        let status = process::run_with_lines(&mut command, |line| match line {
            Line::Stdout(text) | Line::Stderr(text) => process::push_line(&mut output, &text),
        })?;
        let text = fs::read_to_string(&path).unwrap_or_default();
        serde_json::from_str(&text).map_err(|_| BenchError::NoMeasure { status, output })
    }
}

/// One first apply, a plan without changes, and a destruction.
fn round(project: &Project, built: &Built, env: &[(String, String)]) -> Result<Round, BenchError> {
    let apply = bellwire(project, built, env, &["apply", "--yes", "--timings"])?;
    let plan = bellwire(project, built, env, &["plan", "--timings"])?;
    let named = HOLDERS.iter().flat_map(|name| ["--delete-data", name]);
    let destroy: Vec<&str> = ["destroy", "--yes"].into_iter().chain(named).collect();
    bellwire(project, built, env, &destroy)?;
    // With nothing there, all is to be made.
    let again = bellwire(project, built, env, &["plan"])?;
    let left = ["unchanged", "kept"].iter().filter_map(|key| again[key].as_array().map(Vec::len));
    Ok(Round {
        apply: apply["timings"]["apply"].clone(),
        plan: plan["timings"].clone(),
        resources_left: left.sum::<usize>() as u64,
    })
}

/// The last that `bellwire` says, in JSON.
fn bellwire(
    project: &Project,
    built: &Built,
    env: &[(String, String)],
    arguments: &[&str],
) -> Result<Value, BenchError> {
    let mut command = Command::new(built.binary("bellwire")?);
    without_own_settings(&mut command);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.arg("--workflow").arg(project.example_workflow());
    command.arg("--root").arg(project.artifact_root()?).arg("--json").args(arguments);
    let text = process::output_of(&mut command)?;
    // Each event is a line; a plan is one document of many.
    let whole = serde_json::from_str(&text);
    let last = || serde_json::from_str(text.lines().last().unwrap_or_default());
    let call = "bellwire --json";
    whole.or_else(|_| last()).map_err(|source| BenchError::StubAnswer { call, source })
}

fn figures(rounds: &[Round], interrupted: &Interrupted) -> Vec<Figure> {
    let of = |part: fn(&Round) -> &Value, key: &'static str| {
        median(rounds.iter().map(|round| part(round)[key].as_f64().unwrap_or(f64::NAN)))
    };
    let count = |name: &str, value: u64| Figure::of(name, value as f64, "");
    let none = |name: &str, found: &[String]| count(name, found.len() as u64).at_most(0.0);
    let left = rounds.iter().map(|round| round.resources_left).max().unwrap_or(0);
    vec![
        Figure::of(
            "AWS calls for each resource of a plan without changes",
            of(Round::plan, "calls_per_line"),
            "",
        )
        .at_most(CALLS_PER_LINE_MAX),
        Figure::of("resources of that plan", of(Round::plan, "lines"), ""),
        Figure::of("calls of that plan that change something", of(Round::plan, "writes"), "")
            .at_most(0.0),
        Figure::of("time of that plan", of(Round::plan, "took_s"), "s"),
        Figure::of("time of the first apply", of(Round::apply, "took_s"), "s")
            .against("longest chain of calls", of(Round::apply, "longest_chain_s"))
            .at_most(CHAIN_RATIO_MAX),
        Figure::of("calls of the first apply", of(Round::apply, "calls"), ""),
        count("resources after a destruction", left).at_most(0.0),
        count("applies killed at a random call", interrupted.killed),
        none("those that the next apply did not finish", &interrupted.unconverged),
        none("things twice, missing or left over after it", &interrupted.misplaced),
        none("resources of ours after the destructions", &interrupted.owned_left),
        none("things of others that were gone", &interrupted.foreign_gone),
        Figure::of("time of all that", interrupted.wall_s, "s"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_promised_is_what_is_judged() {
        let round = |calls: f64, took: f64| Round {
            apply: json!({"took_s": took, "longest_chain_s": 2.0, "calls": 90}),
            plan: json!({"calls_per_line": calls, "writes": 0, "lines": 31, "took_s": 0.5}),
            resources_left: 0,
        };
        let interrupted = |misplaced: &[&str]| Interrupted {
            killed: 100,
            unconverged: vec![],
            misplaced: misplaced.iter().map(|line| (*line).to_owned()).collect(),
            owned_left: vec![],
            foreign_gone: vec![],
            wall_s: 60.0,
        };
        let broken = |rounds: &[Round], interrupted: &Interrupted| -> Vec<String> {
            let figures = figures(rounds, interrupted).into_iter();
            figures.filter(|figure| figure.holds == Some(false)).map(|one| one.name).collect()
        };
        assert!(broken(&[round(2.5, 2.9)], &interrupted(&[])).is_empty());
        assert_eq!(
            broken(&[round(2.6, 3.1)], &interrupted(&["queue wine-dead: 2"])),
            [
                "AWS calls for each resource of a plan without changes",
                "time of the first apply",
                "things twice, missing or left over after it",
            ]
        );
    }
}
