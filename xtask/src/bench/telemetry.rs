//! `cargo xtask bench telemetry`: publisher and handler without a backend, with one trace
//! of a hundred sampled, and with all of them, in turn. The backend is a receiver in this
//! process, whose own CPU counts for nobody; metrics go there, too.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

use bellwire_otlp_receiver::Receiver;
use clap::Args;

use super::handler::{self, Function};
use super::publisher;
use super::stub::Stub;
use super::{BenchError, file_error};
use crate::build::{BuildError, Profile};
use crate::figures::{self, Figure, median, table};
use crate::project::Project;
use crate::steps::Steps;

const NONE: &str = "no backend";
const ONE_PERCENT: &str = "1 % sampled";
const ALL: &str = "100 % sampled";

/// Each way, with the sampler's ratio; none without a backend.
const WAYS: [(&str, Option<&str>); 3] =
    [(NONE, None), (ONE_PERCENT, Some("0.01")), (ALL, Some("1.0"))];

/// Runs a program with more in its environment.
const ENV: &str = "/usr/bin/env";

/// What is promised of one percent: of CPU time for the same events.
const ONE_PERCENT_RATIO_MAX: f64 = 1.05;

/// What `cargo xtask bench telemetry` takes.
#[derive(Debug, Args)]
pub(crate) struct TelemetryBench {
    /// Events of the publisher a round
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(40..))]
    events: u64,
    /// Warm invocations of the handler a round
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    warm: u64,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How to compile; what `dev` gives tells of the harness alone and is not kept
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// What each way took, round by round.
#[derive(Debug, Default)]
struct Measures {
    publisher_cpu: BTreeMap<&'static str, Vec<f64>>,
    handler: BTreeMap<&'static str, Vec<handler::Measure>>,
}

impl TelemetryBench {
    /// Builds, measures, prints the figures and writes them into a file.
    pub(super) fn run(&self) -> Result<ExitCode, BenchError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let folder = project.state().join("bench/telemetry");
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let mut measures = Measures::default();
        self.measure_publisher(&project, &folder, &steps, &mut measures)?;
        self.measure_handler(&project, &folder, &steps, &mut measures)?;
        let figures = figures(&measures);
        anstream::print!("\n{}", table(&figures));
        if self.profile == Profile::Release {
            let path = figures::write(&project, "bench-telemetry", &figures)?;
            anstream::println!("\n  {}", project.shown(&path));
        } else {
            anstream::println!("\n  compiled for development: these figures tell nothing");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn measure_publisher(
        &self,
        project: &Project,
        folder: &std::path::Path,
        steps: &Steps,
        measures: &mut Measures,
    ) -> Result<(), BenchError> {
        let binaries = publisher::built(project, self.profile, steps)?;
        let stub = Stub::start(&publisher::binary(&binaries, "bellwire-bench-stub")?, folder)?;
        for round in 1..=self.rounds {
            for (way, ratio) in WAYS {
                let receiver = Receiver::start()?;
                let mut peer = publisher::publisher_as(way, project, folder, &binaries)?;
                peer.variables = variables(&receiver, ratio);
                let what = format!("publisher, round {round}");
                let measure = publisher::measured(&peer, &stub, folder, self.events, what, steps)?;
                measures.publisher_cpu.entry(way).or_default().push(measure.cpu_per_10k());
            }
        }
        Ok(())
    }

    fn measure_handler(
        &self,
        project: &Project,
        folder: &std::path::Path,
        steps: &Steps,
        measures: &mut Measures,
    ) -> Result<(), BenchError> {
        let step = steps.begin("build", "handler, Runtime API");
        let built = handler::built(project, self.profile, |line| step.note(line));
        step.end(&built, |_| String::new());
        let mut built = built?;
        let mut binary = |name: &str| {
            built.remove(name).ok_or_else(|| BuildError::Missing { name: name.to_owned() })
        };
        let (bench, program) = (binary(handler::BENCH)?, binary("bellwire-handler")?);
        for round in 1..=self.rounds {
            for (way, ratio) in WAYS {
                let receiver = Receiver::start()?;
                let variables = variables(&receiver, ratio).into_iter();
                // The bench hands none of its own settings on; `env` becomes the handler.
                let variables = variables.map(|(name, value)| format!("{name}={value}"));
                let handler = program.to_string_lossy().into_owned();
                let arguments = variables.chain([handler]).collect();
                let function = Function { name: way, program: ENV.into(), arguments };
                let step = steps.begin(way, format!("handler, round {round}"));
                let measure = handler::measured(&bench, &function, folder, self.warm);
                step.end(&measure, |one| format!("{:.0} µs of CPU for an event", one.warm_cpu_us));
                measures.handler.entry(way).or_default().push(measure?);
            }
        }
        Ok(())
    }
}

fn variables(receiver: &Receiver, ratio: Option<&str>) -> Vec<(&'static str, String)> {
    let Some(ratio) = ratio else { return Vec::new() };
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", ratio.to_owned()),
    ]
}

/// What is told of the handler, and how it is had.
type Of<'a> = (&'static str, &'a dyn Fn(&handler::Measure) -> f64);

fn figures(measures: &Measures) -> Vec<Figure> {
    let publisher =
        |way: &str| median(measures.publisher_cpu.get(way).into_iter().flatten().copied());
    let of_handler = |way: &str, of: &dyn Fn(&handler::Measure) -> f64| {
        median(measures.handler.get(way).into_iter().flatten().map(of))
    };
    let mut figures = Vec::new();
    for way in [ONE_PERCENT, ALL] {
        let name = format!("publisher, CPU per 10,000 events, {way}");
        let figure = Figure::of(name, publisher(way), "s").against(NONE, publisher(NONE));
        let is_promised = way == ONE_PERCENT;
        figures.push(if is_promised { figure.at_most(ONE_PERCENT_RATIO_MAX) } else { figure });
    }
    let cpu = |it: &handler::Measure| it.warm_cpu_us;
    let time = |it: &handler::Measure| it.warm_wall_us;
    let init = |it: &handler::Measure| it.init_cpu_us;
    let of: [Of<'_>; 3] =
        [("CPU of an invocation", &cpu), ("time of an invocation", &time), ("CPU to begin", &init)];
    for (what, of) in of {
        for way in [ONE_PERCENT, ALL] {
            let added = of_handler(way, of) - of_handler(NONE, of);
            figures.push(Figure::of(format!("handler, {what} added, {way}"), added, "µs"));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_percent_is_held_to_what_no_backend_takes() {
        for (taken, holds) in [(1.04, true), (1.06, false)] {
            let cpu = [(NONE, vec![1.0]), (ONE_PERCENT, vec![taken]), (ALL, vec![3.0])];
            let measures = Measures { publisher_cpu: cpu.into(), ..Measures::default() };
            let figures = figures(&measures);
            assert_eq!(figures[0].holds, Some(holds));
            assert_eq!(figures[1].holds, None, "all of them are not promised");
        }
    }
}
