//! Follows the stages through the ledger until the last one has ended, telling
//! each as it happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::bellwire::{Bellwire, BellwireError, Outputs};
use super::local_aws::LocalAws;
use super::runs::{self, Run, STAGES};
use crate::interrupt;
use crate::process::ProcessError;
use crate::steps::Steps;

/// Between two looks at the ledger. The system itself polls nothing: this is the
/// demo's own look at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// When nothing new has happened for so long, nothing will.
const NOTHING_NEW_MAX: Duration = Duration::from_secs(90);

/// Error lines of functions that are told with a failure.
const ERROR_LINES_TOLD: usize = 6;

/// What helps to find out why a stage failed.
#[derive(Debug)]
pub(crate) struct WhereToLook<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) outputs: &'a Outputs,
    pub(crate) aws: &'a LocalAws,
}

/// Why the last stage was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// A stage failed.
    #[error("{stage} failed: {reason}\n{clues}")]
    StageFailed { stage: String, reason: String, clues: String },
    /// A stage that should have been started was not.
    #[error("nothing has happened for {} s; waiting for {stage}\n{clues}", NOTHING_NEW_MAX.as_secs())]
    Stuck { stage: String, clues: String },
    /// The ledger cannot be read.
    #[error(transparent)]
    Bellwire(#[from] BellwireError),
    /// The user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Tells each stage when it has ended; returns the runs of all four.
pub(crate) fn to_the_end(
    bellwire: &Bellwire,
    steps: &Steps,
    look: &WhereToLook<'_>,
) -> Result<Vec<Run>, FollowError> {
    let bar = steps.moving_line();
    let result = follow(bellwire, look, steps.width(), &mut |event| match (event, &bar) {
        (Event::Ended(run), bar) => {
            bar.iter().for_each(|bar| bar.set_message(""));
            steps.lines(bar.as_ref(), &runs::line(run, steps.width()));
        }
        (Event::Running(text), Some(bar)) => bar.set_message(text),
        (Event::Running(_), None) => {}
    });
    bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    result
}

enum Event<'a> {
    Running(String),
    Ended(&'a Run),
}

fn follow(
    bellwire: &Bellwire,
    look: &WhereToLook<'_>,
    width: usize,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Run>, FollowError> {
    let mut told: BTreeSet<String> = BTreeSet::new();
    let (mut changed, mut before) = (Instant::now(), Vec::new());
    loop {
        interrupt::check()?;
        let runs = bellwire.runs()?;
        for run in runs.iter().filter(|run| run.is_completed() || run.has_failed()) {
            if told.insert(run.start_key.clone()) {
                tell(Event::Ended(run));
            }
        }
        if let Some(failed) = runs.iter().find(|run| run.has_failed()) {
            return Err(stage_failed(failed, look));
        }
        let waited_for = STAGES
            .iter()
            .map(|(stage, _)| *stage)
            .find(|stage| !runs.iter().any(|run| run.stage == *stage && run.is_completed()));
        let Some(stage) = waited_for else { return Ok(runs) };
        let states: Vec<_> =
            runs.iter().map(|run| (run.start_key.clone(), run.state.clone())).collect();
        if states != before {
            (changed, before) = (Instant::now(), states);
        }
        if changed.elapsed() > NOTHING_NEW_MAX {
            return Err(FollowError::Stuck { stage: stage.to_owned(), clues: clues(look) });
        }
        let running = runs.iter().find(|run| !told.contains(&run.start_key));
        let waiting = || format!("  {stage:<12} ▸ waiting for its event");
        tell(Event::Running(running.map_or_else(waiting, |run| runs::running_line(run, width))));
        thread::sleep(LOOK_EVERY);
    }
}

fn stage_failed(run: &Run, look: &WhereToLook<'_>) -> FollowError {
    let said = [&run.error, &run.cause].map(|text| text.as_deref().unwrap_or_default().trim());
    let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
    let reason = if said.is_empty() { "no reason was told".to_owned() } else { said.join(": ") };
    FollowError::StageFailed { stage: run.stage.clone(), reason, clues: clues(look) }
}

/// Saves the functions' logs, since the local cloud is about to end with them,
/// and says where everything lies.
fn clues(look: &WhereToLook<'_>) -> String {
    let mut clues = vec![format!("  publisher    {}", look.folder.join("publisher.log").display())];
    let mut errors = Vec::new();
    for group in &look.outputs.log_groups {
        let Some(path) = save_log(look, group) else { continue };
        let name = group.rsplit('/').next().unwrap_or(group);
        clues.push(format!("  {name:<12} {}", path.display()));
        let text = fs::read_to_string(&path).unwrap_or_default();
        errors.extend(text.lines().filter(|line| is_error(line)).map(str::to_owned));
    }
    for (name, queue) in look.outputs.queues.iter().filter(|(name, _)| name.ends_with("-dead")) {
        if let Ok(depth) = look.aws.queue_depth(&queue.url) {
            clues.push(format!("  {name:<12} {depth} messages in the dead queue"));
        }
    }
    if !errors.is_empty() {
        clues.push("the functions' last errors:".to_owned());
        clues.extend_from_slice(&errors[errors.len().saturating_sub(ERROR_LINES_TOLD)..]);
    }
    clues.join("\n")
}

fn save_log(look: &WhereToLook<'_>, group: &str) -> Option<PathBuf> {
    let lines = look.aws.log(group).ok()?;
    let name = group.rsplit('/').next().unwrap_or(group);
    let path = look.folder.join(format!("{name}.log"));
    fs::write(&path, lines.join("\n")).ok()?;
    Some(path)
}

fn is_error(line: &str) -> bool {
    line.contains("\"ERROR\"") || line.contains("panicked")
}
