//! `cargo xtask bench publisher`: publisher, bare loop and boto3, in turn, each
//! with a queue that is full when it starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bellwire_local::Environment;
use clap::Args;

use super::peer::{Measure, Peer};
use super::stub::Stub;
use super::{BenchError, file_error};
use crate::build::{self, BuildError, Profile};
use crate::figures::{self, Figure, median, table};
use crate::project::Project;
use crate::steps::{Steps, shown_count, shown_duration};

const PUBLISHER: &str = "publisher";
const BARE: &str = "bare-sdk";
const BOTO3: &str = "boto3";

/// So many batches are worked on together, by all peers.
const CONCURRENCY: &str = "16";

/// boto3 takes its time: it gets a part of the events.
const BOTO3_PART: u64 = 4;

const MILLION: u64 = 1_000_000;

/// What is promised. The ratios are of CPU time for the same events.
const BARE_RATIO_MAX: f64 = 1.25;
const BOTO3_RATIO_MAX: f64 = 1.0 / 14.0;
const CALLS_MAX: f64 = 100.0;
const PEAK_MB_MAX: f64 = 25.0;
const GROWTH_MAX: f64 = 1.10;

/// What `cargo xtask bench publisher` takes.
#[derive(Debug, Args)]
pub(crate) struct PublisherBench {
    /// Events a round; boto3 gets a quarter of them
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(40..))]
    events: u64,
    /// Rounds, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Also let the publisher move a million events, once: memory and CPU must not grow
    #[arg(long)]
    million: bool,
    /// How to compile; what `dev` gives is quick to have, tells of the harness alone and is not kept
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

/// What each peer took, round by round.
type Measures = BTreeMap<&'static str, Vec<Measure>>;

impl PublisherBench {
    /// Builds, measures, prints the figures and writes them into a file.
    pub(super) fn run(&self) -> Result<ExitCode, BenchError> {
        let project = Project::find()?;
        let steps = Steps::new();
        let folder = project.state().join("bench");
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let binaries = built(&project, self.profile, &steps)?;
        let python = python(&project, &steps)?;
        let peers = peers(&project, &folder, &binaries, python)?;
        let stub = Stub::start(&binary(&binaries, "bellwire-bench-stub")?, &folder)?;
        let mut measures = Measures::new();
        for round in 1..=self.rounds {
            for peer in &peers {
                let events =
                    if peer.name == BOTO3 { self.events / BOTO3_PART } else { self.events };
                let what = format!("round {round}: {} events", shown_count(events));
                let measure = measured(peer, &stub, &folder, events, what, &steps)?;
                measures.entry(peer.name).or_default().push(measure);
            }
        }
        let million = match (self.million, peers.first()) {
            (true, Some(publisher)) => {
                let what = format!("{} events", shown_count(MILLION));
                Some(measured(publisher, &stub, &folder, MILLION, what, &steps)?)
            }
            _ => None,
        };
        let figures = figures(&measures, self.events, million.as_ref());
        anstream::print!("\n{}", table(&figures));
        if self.profile == Profile::Release {
            let path = figures::write(&project, "bench-publisher", &figures)?;
            anstream::println!("\n  {}", project.shown(&path));
        } else {
            anstream::println!("\n  compiled for development: these figures tell nothing");
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn built(
    project: &Project,
    profile: Profile,
    steps: &Steps,
) -> Result<BTreeMap<String, PathBuf>, BenchError> {
    let step = steps.begin("build", "publisher, stub, bare loop");
    let packages = ["bellwire-publisher", "bellwire-bench"];
    let built = build::each_of(project, profile, &packages, |line| step.note(line));
    step.end(&built, |_| String::new());
    Ok(built?)
}

pub(super) fn binary(
    binaries: &BTreeMap<String, PathBuf>,
    name: &str,
) -> Result<PathBuf, BuildError> {
    binaries.get(name).cloned().ok_or_else(|| BuildError::Missing { name: name.to_owned() })
}

fn python(project: &Project, steps: &Steps) -> Result<PathBuf, BenchError> {
    let path = project.root.join("bench/peers/requirements.txt");
    let requirements = fs::read_to_string(&path).map_err(file_error(&path))?;
    let step = steps.begin("boto3", "an environment of its own");
    let python = Environment::python_with(&project.state(), &requirements, &mut |_| {});
    step.end(&python, |_| String::new());
    Ok(python?)
}

/// The publisher first, then its peers.
fn peers(
    project: &Project,
    folder: &Path,
    binaries: &BTreeMap<String, PathBuf>,
    python: PathBuf,
) -> Result<[Peer; 3], BenchError> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok([
        publisher_as(PUBLISHER, project, folder, binaries)?,
        Peer {
            name: BARE,
            program: binary(binaries, "bellwire-bench-bare")?,
            arguments: words(&["--tasks", CONCURRENCY]),
            variables: Vec::new(),
        },
        Peer {
            name: BOTO3,
            program: python,
            arguments: words(&[
                &text(&project.root.join("bench/peers/boto3_bridge.py")),
                "--threads",
                CONCURRENCY,
            ]),
            variables: Vec::new(),
        },
    ])
}

/// The publisher, under a name.
pub(super) fn publisher_as(
    name: &'static str,
    project: &Project,
    folder: &Path,
    binaries: &BTreeMap<String, PathBuf>,
) -> Result<Peer, BenchError> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let workflow = text(&project.root.join("bench/workflow.toml"));
    let address_file = text(&folder.join("publisher.address"));
    let arguments = [
        "--workflow",
        &workflow,
        "--listen",
        "127.0.0.1:0",
        "--address-file",
        &address_file,
        "--concurrency",
        CONCURRENCY,
    ];
    Ok(Peer {
        name,
        program: binary(binaries, "bellwire-publisher")?,
        arguments: arguments.map(str::to_owned).to_vec(),
        variables: Vec::new(),
    })
}

pub(super) fn measured(
    peer: &Peer,
    stub: &Stub,
    folder: &Path,
    events: u64,
    what: String,
    steps: &Steps,
) -> Result<Measure, BenchError> {
    let step = steps.begin(peer.name, what);
    let measure = peer.measure(stub, folder, events, |note| step.note(note));
    step.end(&measure, |measure| {
        let per_10k = std::time::Duration::from_secs_f64(measure.cpu_per_10k());
        format!("{} of CPU for 10,000", shown_duration(per_10k))
    });
    measure
}

fn figures(measures: &Measures, events: u64, million: Option<&Measure>) -> Vec<Figure> {
    let middle = |peer: &str, of: &dyn Fn(&Measure) -> f64| {
        median(measures.get(peer).into_iter().flatten().map(of))
    };
    let cpu = |peer| middle(peer, &Measure::cpu_per_10k);
    let (cpu_name, own_cpu) = ("CPU per 10,000 events", cpu(PUBLISHER));
    let mut figures = vec![
        Figure::of(cpu_name, own_cpu, "s").against(BARE, cpu(BARE)).at_most(BARE_RATIO_MAX),
        Figure::of(cpu_name, own_cpu, "s").against(BOTO3, cpu(BOTO3)).at_most(BOTO3_RATIO_MAX),
    ];
    for action in ["ReceiveMessage", "PublishBatch", "DeleteMessageBatch"] {
        let calls = middle(PUBLISHER, &|measure| measure.calls_per_1000(action));
        let name = format!("{action} per 1,000 events");
        figures.push(Figure::of(name, calls, "calls").at_most(CALLS_MAX));
    }
    let peak_mb = |measure: &Measure| measure.peak_bytes as f64 / 1e6;
    let own_peak = middle(PUBLISHER, &peak_mb);
    let name = format!("peak memory at {} events", shown_count(events));
    figures.push(Figure::of(name, own_peak, "MB").at_most(PEAK_MB_MAX));
    if let Some(million) = million {
        let (at, peer) = (format!("at {} events", shown_count(MILLION)), "itself, fewer events");
        let peak = Figure::of(format!("peak memory {at}"), peak_mb(million), "MB");
        let cpu = Figure::of(format!("{cpu_name} {at}"), million.cpu_per_10k(), "s");
        figures.push(peak.against(peer, own_peak).at_most(GROWTH_MAX));
        figures.push(cpu.against(peer, own_cpu).at_most(GROWTH_MAX));
    }
    // Not promised, but what tells whether the peers do the same.
    for (name, of) in informative(&peak_mb) {
        let own = middle(PUBLISHER, of);
        for peer in [BARE, BOTO3] {
            figures.push(Figure::of(name.0, own, name.1).against(peer, middle(peer, of)));
        }
    }
    figures
}

/// A figure's name and unit, and how it is had.
type Informative<'a> = ((&'static str, &'static str), &'a dyn Fn(&Measure) -> f64);

fn informative<'a>(peak_mb: &'a dyn Fn(&Measure) -> f64) -> [Informative<'a>; 3] {
    [
        (("events per second", "1/s"), &|it| it.events as f64 / it.wall_s),
        (("peak memory", "MB"), peak_mb),
        (("request bytes per event", "B"), &|it| {
            it.counts.published_bytes as f64 / it.events as f64
        }),
    ]
}
