//! The `bellwire` command: deploys a workflow, and looks at what it does.

mod apply;
mod args;
mod credentials;
mod destroy;
mod emit;
mod error;
mod export;
mod load;
mod outputs;
mod plan;
mod rollback;
mod runs;
mod screen;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::{Arguments, Command};
use crate::error::CommandError;

/// Exit code of a command line that cannot be read (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_asked_for =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing to be done where not even this can be printed.
            let _ = error.print();
            return if is_asked_for { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match run(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            screen::error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Plan(options) => return plan::plan(global, options).await,
        Command::Apply(options) => return apply::apply(global, options).await,
        Command::Destroy(options) => destroy::destroy(global, options).await?,
        Command::Rollback(options) => rollback::rollback(global, options).await?,
        Command::Export(options) => export::export(global, options).await?,
        Command::Outputs => outputs::outputs(global).await?,
        Command::Emit(options) => emit::emit(global, options).await?,
        Command::Runs(options) => runs::runs(global, options).await?,
        Command::Credentials(options) => credentials::credentials(global, options).await?,
    }
    Ok(ExitCode::SUCCESS)
}
