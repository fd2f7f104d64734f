//! `cargo xtask bench ingest`: events over HTTP into a spool on this machine's disk,
//! against one fsync for each event.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use serde::Deserialize;

use super::{BenchError, file_error};
use crate::build::{self, BuildError, Profile};
use crate::figures::{self, Figure, median, table};
use crate::process::{self, Line};
use crate::project::Project;
use crate::steps::{Steps, shown_count};

const PROGRAM: &str = "bellwire-bench-ingest";

/// What everything is measured against: each request an event, and each event a
/// commit with an fsync of its own.
const PEER: &str = "one fsync per event";
const EACH_ALONE: Way = Way { events_per_request: 1, records_per_commit_max: 1 };

/// As the publisher keeps events: one fsync for whatever waits.
const SINGLE: Way = Way { events_per_request: 1, records_per_commit_max: 1_024 };
const BATCHES: Way = Way { events_per_request: 100, records_per_commit_max: 1_024 };

/// What is promised.
const CONNECTIONS: usize = 64;
const RATIO_MIN: f64 = 20.0;

/// What `cargo xtask bench ingest` takes.
#[derive(Debug, Args)]
pub(crate) struct IngestBench {
    /// How long each way is counted, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How to compile; what `dev` gives tells of the harness alone and is not kept
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// How events come, and how they are kept.
#[derive(Debug, Clone, Copy)]
struct Way {
    events_per_request: usize,
    records_per_commit_max: usize,
}

/// What the bench tells.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Rate {
    events_per_s: f64,
    commits_per_s: f64,
}

impl IngestBench {
    /// Builds, measures, prints the figures and writes them into a file.
    pub(super) fn run(&self) -> Result<ExitCode, BenchError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let folder = project.state().join("bench/ingest");
        let step = steps.begin("build", "publisher's way in, connections");
        let built =
            build::each_of(&project, self.profile, &["bellwire-bench"], |line| step.note(line));
        step.end(&built, |_| String::new());
        let built = built?;
        let program =
            built.get(PROGRAM).ok_or_else(|| BuildError::Missing { name: PROGRAM.to_owned() })?;
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for round in 1..=self.rounds {
            for (rates, way) in rates.iter_mut().zip([EACH_ALONE, SINGLE, BATCHES]) {
                let step = steps.begin("ingest", format!("round {round}: {}", way.shown()));
                let rate = self.rate(program, &folder, way);
                step.end(&rate, |rate| {
                    format!("{} events a second", shown_count(rate.events_per_s as u64))
                });
                rates.push(rate?);
            }
        }
        let figures = figures(&rates.map(|rates| middle(&rates)));
        anstream::print!("\n{}", table(&figures));
        if self.profile == Profile::Release {
            let path = figures::write(&project, "bench-ingest", &figures)?;
            anstream::println!("\n  {}", project.shown(&path));
        } else {
            anstream::println!("\n  compiled for development: these figures tell nothing");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// One run over a new spool.
    fn rate(&self, program: &Path, folder: &Path, way: Way) -> Result<Rate, BenchError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error(folder)(error));
            }
            _ => fs::create_dir_all(folder).map_err(file_error(folder))?,
        }
        let mut command = Command::new(program);
        command.arg("--spool").arg(folder.join("spool.redb"));
        for (flag, number) in [
            ("--connections", CONNECTIONS),
            ("--events-per-request", way.events_per_request),
            ("--records-per-commit-max", way.records_per_commit_max),
        ] {
            command.args([flag, &number.to_string()]);
        }
        command.args(["--seconds", &self.seconds.to_string()]);
        let (mut report, mut words) = (String::new(), String::new());
        let status = process::run_with_lines(&mut command, |line| match line {
            Line::Stdout(text) => report = text,
            Line::Stderr(text) => process::push_line(&mut words, &text),
        })?;
        fs::remove_dir_all(folder).map_err(file_error(folder))?;
        serde_json::from_str(&report).map_err(|_| BenchError::NoRate { status, output: words })
    }
}

impl Way {
    fn shown(self) -> String {
        let kept = if self.records_per_commit_max == 1 { "an fsync each" } else { "together" };
        match self.events_per_request {
            1 => format!("single events, {kept}"),
            events => format!("batches of {events}, {kept}"),
        }
    }
}

fn middle(rates: &[Rate]) -> Rate {
    Rate {
        events_per_s: median(rates.iter().map(|rate| rate.events_per_s)),
        commits_per_s: median(rates.iter().map(|rate| rate.commits_per_s)),
    }
}

fn figures([each_alone, single, batches]: &[Rate; 3]) -> Vec<Figure> {
    let rate = |what: &str, rate: &Rate| {
        let name = format!("events a second, {what}, {CONNECTIONS} connections");
        Figure::of(name, rate.events_per_s, "1/s").against(PEER, each_alone.events_per_s)
    };
    vec![
        rate("single", single).at_least(RATIO_MIN),
        rate("batches of 100", batches).at_least(RATIO_MIN),
        Figure::of("events for one fsync, single", single.events_per_s / single.commits_per_s, ""),
        Figure::of(PEER, each_alone.events_per_s, "1/s"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_times_is_what_must_hold() {
        let rate = |events_per_s| Rate { events_per_s, commits_per_s: 100.0 };
        let holds = |batches| figures(&[rate(100.0), rate(1_500.0), rate(batches)])[1].holds;
        assert_eq!(holds(2_000.0), Some(true));
        assert_eq!(holds(1_999.0), Some(false));
    }
}
