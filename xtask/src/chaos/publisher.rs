//! `cargo xtask chaos publisher`: a publisher that is killed again and again, under
//! load and with faults (`bench/src/chaos`), and what was lost.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Args;
use serde::Deserialize;

use super::ChaosError;
use crate::build::{self, BuildError, Profile};
use crate::figures::{self, Figure, table};
use crate::process::{self, Line};
use crate::project::Project;
use crate::steps::{Steps, shown_count};

/// What is promised for this many kills.
const KILLS: u64 = 1_000;

const PACKAGES: [&str; 2] = ["bellwire-publisher", "bellwire-bench"];
const PUBLISHER: &str = "bellwire-publisher";
const CHAOS: &str = "bellwire-bench-chaos";

/// What `cargo xtask chaos publisher` takes.
#[derive(Debug, Args)]
pub(crate) struct PublisherChaos {
    /// How often the publisher is killed
    #[arg(long, value_name = "N", default_value_t = KILLS, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// What moments and faults are made of; the machine's own pace makes each run another
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// How to compile it
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// What came of it: the bench's verdict.
#[derive(Debug, Clone, Deserialize)]
struct Verdict {
    kills: u64,
    failed_starts: u64,
    messages: u64,
    bad_messages: u64,
    accepted: u64,
    published: u64,
    duplicates: u64,
    lost: u64,
    lost_bad: u64,
    unknown: u64,
    dead_unknown: u64,
}

impl PublisherChaos {
    /// Builds, kills, and tells.
    pub(super) fn run(&self) -> Result<ExitCode, ChaosError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let step = steps.begin("build", "publisher, stub");
        let built = build::each_of(&project, self.profile, &PACKAGES, |line| step.note(line));
        step.end(&built, |_| String::new());
        let built = built?;
        let binary = |name: &str| {
            built.get(name).ok_or_else(|| BuildError::Missing { name: name.to_owned() })
        };
        let folder = project.state().join("chaos/publisher");
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(ChaosError::File { path: folder, source });
            }
            _ => {}
        }
        let mut command = Command::new(binary(CHAOS)?);
        command.arg("--publisher").arg(binary(PUBLISHER)?).arg("--folder").arg(&folder);
        command.args(["--kills", &self.kills.to_string(), "--seed", &self.seed.to_string()]);
        let begin = Instant::now();
        let step = steps.begin("kill", format!("{} times", shown_count(self.kills)));
        let verdict = verdict_of(&mut command, |note| step.note(note));
        step.end(&verdict, |verdict| {
            let events = verdict.messages + verdict.accepted;
            format!("{} events, {} lost", shown_count(events), shown_count(verdict.lost))
        });
        let figures = figures(&verdict?, begin.elapsed().as_secs_f64());
        anstream::print!("\n{}", table(&figures));
        let path = figures::write(&project, "chaos-publisher", &figures)?;
        anstream::println!("\n  {}", project.shown(&path));
        let is_good = figures.iter().all(|figure| figure.holds != Some(false));
        if !is_good {
            anstream::println!("  the spool and the last log are in {}", project.shown(&folder));
        }
        Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn verdict_of(command: &mut Command, note: impl Fn(&str)) -> Result<Verdict, ChaosError> {
    let (mut report, mut words) = (String::new(), String::new());
    let status = process::run_with_lines(command, |line| match line {
        Line::Stdout(text) => report = text,
        // A number a kill.
        Line::Stderr(text) => match text.parse::<u64>() {
            Ok(kills) => note(&format!("killed {kills} times")),
            Err(_) => process::push_line(&mut words, &text),
        },
    })?;
    serde_json::from_str(&report).map_err(|_| ChaosError::NoVerdict {
        program: CHAOS,
        status,
        output: words,
    })
}

fn figures(verdict: &Verdict, wall_s: f64) -> Vec<Figure> {
    let count = |name: &str, value: u64| Figure::of(name, value as f64, "");
    vec![
        count("kills", verdict.kills),
        count("starts that failed, nothing answering", verdict.failed_starts),
        count("events of the queue", verdict.messages),
        count("events answered with 202", verdict.accepted),
        count("events on the topic", verdict.published),
        count("events lost", verdict.lost).at_most(0.0),
        count("duplicates, each with the id of its original", verdict.duplicates),
        count("events of an id that nobody sent", verdict.unknown).at_most(0.0),
        count("bad messages", verdict.bad_messages),
        count("bad messages lost", verdict.lost_bad).at_most(0.0),
        count("letters of the dead queue of no bad message", verdict.dead_unknown).at_most(0.0),
        Figure::of("wall time", wall_s, "s"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_strange_does_not_hold() {
        let verdict = Verdict {
            kills: 3,
            failed_starts: 0,
            messages: 40,
            bad_messages: 2,
            accepted: 9,
            published: 50,
            duplicates: 4,
            lost: 1,
            lost_bad: 1,
            unknown: 2,
            dead_unknown: 3,
        };
        let broken = figures(&verdict, 1.0).into_iter().filter(|it| it.holds == Some(false));
        let names: Vec<String> = broken.map(|figure| figure.name).collect();
        assert_eq!(
            names,
            [
                "events lost",
                "events of an id that nobody sent",
                "bad messages lost",
                "letters of the dead queue of no bad message"
            ]
        );
    }
}
