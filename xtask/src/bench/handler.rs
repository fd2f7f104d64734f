//! `cargo xtask bench handler`: the handler as a Lambda function on a local Runtime API,
//! against an empty function, one that makes the same calls and nothing else, and one in
//! Python that does the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bellwire_local::Environment;
use clap::Args;
use serde::Deserialize;

use super::{BenchError, file_error};
use crate::build::{self, BuildError, Profile, Targets};
use crate::figures::{self, Figure, median, table};
use crate::process::{self, Line};
use crate::project::Project;
use crate::steps::Steps;

const HANDLER: &str = "handler";
const EMPTY: &str = "empty";
const BARE: &str = "bare-sdk";
const PYTHON: &str = "python";

pub(super) const BENCH: &str = "bellwire-bench-function";

/// What is promised.
const EMPTY_RATIO_MAX: f64 = 5.0;
const PYTHON_RATIO_MAX: f64 = 1.0 / 20.0;
const OWN_CPU_US_MAX: f64 = 300.0;

/// What `cargo xtask bench handler` takes.
#[derive(Debug, Args)]
pub(crate) struct HandlerBench {
    /// Warm invocations of each function and round
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    warm: u64,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How to compile; what `dev` gives tells of the harness alone and is not kept
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// A function that is measured.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// What the bench tells of one.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Measure {
    pub(super) init_cpu_us: f64,
    init_wall_us: f64,
    first_cpu_us: f64,
    first_wall_us: f64,
    pub(super) warm_cpu_us: f64,
    pub(super) warm_wall_us: f64,
    peak_bytes: u64,
    calls_per_event: BTreeMap<String, f64>,
    request_bytes_per_event: f64,
}

/// What each function took, round by round.
type Measures = BTreeMap<&'static str, Vec<Measure>>;

impl HandlerBench {
    /// Builds, measures, prints the figures and writes them into a file.
    pub(super) fn run(&self) -> Result<ExitCode, BenchError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let folder = project.state().join("bench/handler");
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let (bench, functions) = self.functions(&project, &steps)?;
        let mut measures = Measures::new();
        for round in 1..=self.rounds {
            for function in &functions {
                let step = steps.begin(function.name, format!("round {round}"));
                let measure = measured(&bench, function, &folder, self.warm);
                step.end(&measure, |measure| {
                    format!(
                        "{:.1} ms of CPU to the first poll, {:.0} µs for an event",
                        measure.init_cpu_us / 1e3,
                        measure.warm_cpu_us
                    )
                });
                measures.entry(function.name).or_default().push(measure?);
            }
        }
        let zip_bytes = build::zip_bytes(HANDLER, &functions[0].program)?;
        let figures = figures(&measures, zip_bytes);
        anstream::print!("\n{}", table(&figures));
        if self.profile == Profile::Release {
            let path = figures::write(&project, "bench-handler", &figures)?;
            anstream::println!("\n  {}", project.shown(&path));
        } else {
            anstream::println!("\n  compiled for development: these figures tell nothing");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The bench, which is measured by nobody, and the functions: the handler first.
    fn functions(
        &self,
        project: &Project,
        steps: &Steps,
    ) -> Result<(PathBuf, [Function; 4]), BenchError> {
        let step = steps.begin("build", "handler, empty and bare function, Runtime API");
        let built = built(project, self.profile, |line| step.note(line));
        step.end(&built, |_| String::new());
        let mut built = built?;
        let peers = project.root.join("bench/peers");
        let path = peers.join("function-requirements.txt");
        let requirements = fs::read_to_string(&path).map_err(file_error(&path))?;
        let step = steps.begin("python", "an environment of its own");
        let python = Environment::python_with(&project.state(), &requirements, &mut |_| {});
        step.end(&python, |_| String::new());
        let program = peers.join("boto3_function.py").to_string_lossy().into_owned();
        let python = Function { name: PYTHON, program: python?, arguments: vec![program] };
        let mut binary = |name: &str| {
            built.remove(name).ok_or_else(|| BuildError::Missing { name: name.to_owned() })
        };
        let mut function = |name, program: &str| -> Result<Function, BuildError> {
            Ok(Function { name, program: binary(program)?, arguments: Vec::new() })
        };
        let functions = [
            function(HANDLER, "bellwire-handler")?,
            function(EMPTY, "bellwire-bench-function-empty")?,
            function(BARE, "bellwire-bench-function-bare")?,
            python,
        ];
        Ok((binary(BENCH)?, functions))
    }
}

/// The handler and its peers, and the bench, which is measured by nobody.
pub(super) fn built(
    project: &Project,
    profile: Profile,
    mut note: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let targets = Targets::of_workflow(&project.root.join("bench/function.toml"))?;
    let mut built = build::handler_with(project, profile, &targets, &mut note)?;
    let functions = ["bellwire-bench-functions"];
    built.extend(build::each_of(project, profile, &functions, &mut note)?);
    built.extend(build::each_of(project, Profile::Dev, &["bellwire-bench"], note)?);
    Ok(built)
}

/// What a function takes, by the bench's word.
pub(super) fn measured(
    bench: &Path,
    function: &Function,
    folder: &Path,
    warm: u64,
) -> Result<Measure, BenchError> {
    let mut command = Command::new(bench);
    command
        .arg("--folder")
        .arg(folder.join(function.name))
        .args(["--warm", &warm.to_string(), "--"])
        .arg(&function.program)
        .args(&function.arguments);
    let (mut report, mut words) = (String::new(), String::new());
    let status = process::run_with_lines(&mut command, |line| match line {
        Line::Stdout(text) => report = text,
        Line::Stderr(text) => process::push_line(&mut words, &text),
    })?;
    serde_json::from_str(&report).map_err(|_| BenchError::NoMeasure { status, output: words })
}

fn figures(measures: &Measures, zip_bytes: usize) -> Vec<Figure> {
    let middle = |function: &str, of: &dyn Fn(&Measure) -> f64| {
        median(measures.get(function).into_iter().flatten().map(of))
    };
    let beside = |name: &str, unit, of: &dyn Fn(&Measure) -> f64, peer: &'static str| {
        Figure::of(name, middle(HANDLER, of), unit).against(peer, middle(peer, of))
    };
    let init = |it: &Measure| it.init_cpu_us / 1e3;
    let warm = |it: &Measure| it.warm_cpu_us;
    let peak = |it: &Measure| it.peak_bytes as f64 / 1e6;
    let own = middle(HANDLER, &warm) - middle(BARE, &warm);
    let (cpu, event) = ("CPU until the first poll", "CPU of a warm event");
    let mut figures = vec![
        beside(cpu, "ms", &init, EMPTY).at_most(EMPTY_RATIO_MAX),
        beside(cpu, "ms", &init, PYTHON).at_most(PYTHON_RATIO_MAX),
        Figure::of("CPU of a warm event, calls excluded", own, "µs").at_most(OWN_CPU_US_MAX),
        beside(event, "µs", &warm, BARE),
        beside(event, "µs", &warm, PYTHON),
        beside("time of a warm event", "µs", &|it| it.warm_wall_us, PYTHON),
        beside("CPU of the first event", "ms", &|it| it.first_cpu_us / 1e3, PYTHON),
        beside("time of the first event", "ms", &|it| it.first_wall_us / 1e3, PYTHON),
        beside("time until the first poll", "ms", &|it| it.init_wall_us / 1e3, EMPTY),
        beside("time until the first poll", "ms", &|it| it.init_wall_us / 1e3, PYTHON),
        beside("peak memory", "MB", &peak, EMPTY),
        beside("peak memory", "MB", &peak, PYTHON),
        Figure::of("zip", zip_bytes as f64 / 1e6, "MB"),
    ];
    // Not promised, but what tells whether the peers do the same.
    for peer in [BARE, PYTHON] {
        figures.push(beside("request bytes", "B", &|it| it.request_bytes_per_event, peer));
        let calls = |it: &Measure| it.calls_per_event.values().sum();
        figures.push(beside("calls for an event", "", &calls, peer));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(init_cpu_us: f64, warm_cpu_us: f64) -> Vec<Measure> {
        vec![Measure {
            init_cpu_us,
            init_wall_us: 1.0,
            first_cpu_us: 1.0,
            first_wall_us: 1.0,
            warm_cpu_us,
            warm_wall_us: 1.0,
            peak_bytes: 1_000_000,
            calls_per_event: BTreeMap::from([("PutItem".to_owned(), 1.0)]),
            request_bytes_per_event: 4_000.0,
        }]
    }

    #[test]
    fn what_the_handler_takes_itself_is_what_a_bare_function_does_not() {
        let broken = |handler: f64, own: f64| {
            let measures = Measures::from([
                (HANDLER, measure(handler, 1_000.0 + own)),
                (EMPTY, measure(2_000.0, 10.0)),
                (BARE, measure(6_000.0, 1_000.0)),
                (PYTHON, measure(300_000.0, 9_000.0)),
            ]);
            let figures = figures(&measures, 3_000_000);
            figures.into_iter().filter(|it| it.holds == Some(false)).count()
        };
        assert_eq!(broken(10_000.0, 299.0), 0);
        assert_eq!(broken(10_100.0, 299.0), 1);
        assert_eq!(broken(15_100.0, 301.0), 3);
    }
}
