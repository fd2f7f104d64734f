//! `bellwire plan`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bellwire_infra::plan::Plan;
use bellwire_infra::saved::SavedPlan;
use bellwire_infra::timings::PlanTimings;
use serde_json::json;

use crate::args::{Global, PlanOptions};
use crate::error::CommandError;
use crate::{load, screen};

/// Exit code where there is something to do.
const EXIT_CHANGES: u8 = 2;
/// Exit code where something was changed by hand.
const EXIT_DRIFT: u8 = 3;

pub(crate) async fn plan(global: &Global, options: &PlanOptions) -> Result<ExitCode, CommandError> {
    if options.drift {
        return drift(global).await;
    }
    let began = Instant::now();
    let overrides = &options.overrides;
    let workflow = load::overridden_workflow(global, overrides)?;
    let inputs = load::inputs(global, &workflow)?;
    let provisioner = load::provisioner(global, workflow).await?.adopting(&overrides.adopt);
    let plan = provisioner.plan(&inputs).await?;
    let timings = PlanTimings::of(&plan, &provisioner.calls().take(), began.elapsed());
    if let Some(file) = &options.out {
        save(file, &SavedPlan::of(&plan, &overrides.adopt, overrides.otlp_endpoint.as_deref()))?;
    }
    if global.json {
        let mut shown = plan.to_json();
        if options.timings {
            shown["timings"] = timings.to_json();
        }
        anstream::println!("{shown:#}");
    } else {
        screen::plan(&plan);
        if options.timings {
            anstream::println!("\n{timings}");
        }
        if let Some(file) = &options.out {
            anstream::println!("\nSaved: bellwire apply {}", file.display());
        }
    }
    let has_changes = options.exit_code && !plan.is_empty();
    Ok(if has_changes { ExitCode::from(EXIT_CHANGES) } else { ExitCode::SUCCESS })
}

async fn drift(global: &Global) -> Result<ExitCode, CommandError> {
    let provisioner = load::provisioner(global, load::workflow(global)?).await?;
    let drift = provisioner.drift().await?;
    if global.json {
        anstream::println!("{:#}", drift.to_json());
    } else {
        screen::lines(&drift.lines());
    }
    Ok(if drift.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DRIFT) })
}

/// Writes a plan for its user's eyes only: of what is secret it has hashes, but names and
/// policies as they are.
fn save(file: &Path, plan: &SavedPlan) -> Result<(), CommandError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let text = format!("{:#}\n", json!(plan));
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    let written = opened.and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|source| CommandError::NotSaved { file: file.to_owned(), source })
}

/// Reads a plan that was saved.
pub(crate) fn saved(file: &Path) -> Result<SavedPlan, CommandError> {
    let failed = |cause: String| CommandError::NoPlan { file: file.to_owned(), cause };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// What applying shows first.
pub(crate) fn show(global: &Global, plan: &Plan) {
    if global.json {
        anstream::println!("{}", json!({"event": "plan", "plan": plan.to_json()}));
    } else {
        screen::plan(plan);
    }
}
