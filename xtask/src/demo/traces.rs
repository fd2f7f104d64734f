//! Where the demo's traces go, and what it tells of them at its end.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bellwire_otlp_receiver::Receiver;

use super::DemoError;
use super::phoenix::Phoenix;
use super::runs::Run;
use super::summary;
use super::trace::Trace;
use crate::interrupt;
use crate::project::Project;
use crate::steps::{Steps, shown_duration};

/// Where the user wants traces to go, if not here.
pub(super) const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The trace is complete when nothing new has come for this long.
const TRACE_QUIET: Duration = Duration::from_millis(600);
const TRACE_WITHIN: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(20);

/// Where traces go.
pub(super) enum Traces {
    /// To this process, which hands them on to Phoenix where people want its page.
    Here { receiver: Receiver, phoenix: Option<Phoenix>, picture: Option<PathBuf> },
    /// To where the user has said.
    Elsewhere(String),
}

impl Traces {
    /// With `picture`, Phoenix's page is looked at by a browser, and ends with the demo.
    pub(super) fn choose(
        is_phoenix_wanted: bool,
        picture: Option<PathBuf>,
        project: &Project,
        steps: &Steps,
    ) -> Result<Self, DemoError> {
        if is_phoenix_wanted {
            let phoenix = Phoenix::start_as_step(project, steps)?;
            let receiver = Receiver::start_with(phoenix.sink())?;
            return Ok(Self::Here { receiver, phoenix: Some(phoenix), picture });
        }
        match std::env::var(OTLP_ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => Ok(Self::Elsewhere(endpoint)),
            None => Ok(Self::Here { receiver: Receiver::start()?, phoenix: None, picture: None }),
        }
    }

    pub(super) fn endpoint(&self) -> String {
        match self {
            Self::Here { receiver, .. } => receiver.endpoint(),
            Self::Elsewhere(endpoint) => endpoint.clone(),
        }
    }

    /// The publisher's variables: the user's own ones where traces are theirs.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        match self {
            Self::Here { receiver, .. } => vec![(OTLP_ENDPOINT.to_owned(), receiver.endpoint())],
            Self::Elsewhere(_) => {
                let is_telemetry =
                    |name: &str| name.starts_with("OTEL_") && name != "OTEL_SERVICE_NAME";
                std::env::vars().filter(|(name, _)| is_telemetry(name)).collect()
            }
        }
    }

    /// Whether later traces of what was left running arrive somewhere.
    pub(super) fn outlive_the_demo(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// Tells the events and the trace.
    pub(super) fn tell(&self, runs: &[Run], duplicates: usize, dead: u64) -> Result<(), DemoError> {
        let mut trace_ids: Vec<&str> =
            runs.iter().filter_map(|run| run.trace_id.as_deref()).collect();
        trace_ids.dedup();
        let (receiver, phoenix, picture) = match self {
            Self::Here { receiver, phoenix, picture } => (receiver, phoenix, picture),
            Self::Elsewhere(endpoint) => {
                print!("{}", summary::events(None, duplicates, dead));
                for trace_id in trace_ids {
                    println!("  trace        {trace_id}   sent to {endpoint}");
                }
                return Ok(());
            }
        };
        wait_for_traces(receiver, &trace_ids)?;
        let spans = receiver.spans();
        print!("{}", summary::events(Some(&summary::count_events(&spans)), duplicates, dead));
        let width = Steps::new().width().saturating_sub(2);
        // One, from the request to the predictions; were it cut, that would show.
        for (place, trace_id) in trace_ids.into_iter().enumerate() {
            if place > 0 {
                println!();
            }
            let trace = Trace::new(&spans, trace_id);
            let took = shown_duration(trace.duration());
            println!("  trace        {trace_id}   {} spans, {took}", trace.len());
            if let Some(phoenix) = phoenix {
                phoenix.wait_for_trace(trace_id, trace.len())?;
                println!("  page         {}", phoenix.page_of(trace_id));
                if let Some(picture) = picture {
                    let names = trace.names();
                    phoenix.look_at(trace_id, &names, picture)?;
                    let seen = format!("all {} names of spans seen", names.len());
                    println!("  picture      {}   {seen}", picture.display());
                }
            }
            println!();
            for line in trace.tree(width).lines() {
                println!("  {line}");
            }
        }
        Ok(())
    }

    /// Phoenix, where it runs, shows its page until the user interrupts.
    pub(super) fn show_until_interrupted(self) -> Result<(), DemoError> {
        if let Self::Here { phoenix: Some(phoenix), picture: None, .. } = self {
            println!("\nPhoenix shows the trace until you press Ctrl-C.");
            phoenix.run_until_interrupted()?;
        }
        Ok(())
    }
}

/// Functions send their spans when an invocation ends, the publisher now and then.
fn wait_for_traces(receiver: &Receiver, trace_ids: &[&str]) -> Result<(), DemoError> {
    let deadline = Instant::now() + TRACE_WITHIN;
    while Instant::now() < deadline {
        interrupt::check()?;
        if receiver.quiet_for() > TRACE_QUIET {
            let spans = receiver.spans();
            if trace_ids.iter().all(|trace_id| Trace::new(&spans, trace_id).is_whole()) {
                break;
            }
        }
        thread::sleep(POLL);
    }
    Ok(())
}
