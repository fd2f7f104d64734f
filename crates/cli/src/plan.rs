//! `bellwire plan`.

use std::process::ExitCode;

use crate::args::{Global, PlanOptions};
use crate::error::CommandError;
use crate::{load, screen};

/// Exit code where there is something to do.
const EXIT_CHANGES: u8 = 2;

pub(crate) async fn plan(global: &Global, options: &PlanOptions) -> Result<ExitCode, CommandError> {
    let workflow = load::overridden_workflow(global, &options.overrides)?;
    let inputs = load::inputs(global, &workflow)?;
    let provisioner = load::provisioner(global, workflow).await?;
    let plan = provisioner.plan(&inputs).await?;
    if global.json {
        anstream::println!("{:#}", plan.to_json());
    } else {
        screen::plan(&plan);
    }
    let has_changes = options.exit_code && !plan.is_empty();
    Ok(if has_changes { ExitCode::from(EXIT_CHANGES) } else { ExitCode::SUCCESS })
}
