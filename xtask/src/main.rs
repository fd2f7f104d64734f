//! `cargo xtask`: builds, tests, demonstrates and deploys Bellwire. One file a command.

mod bench;
mod build;
mod chaos;
mod demo;
mod deploy;
mod figures;
mod interrupt;
mod local;
mod process;
mod project;
mod steps;
mod test;

use std::error::Error;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand};

const BAD: Style = AnsiColor::Red.on_default().bold();

/// As shells tell it of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Builds, tests, demonstrates and deploys Bellwire.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the wine example, whole, on a local AWS
    Demo(demo::DemoCommand),
    /// Build what the tests need, and run them
    Test(test::TestCommand),
    /// Build the binaries, and the zips for Lambda
    Build(build::BuildCommand),
    /// Build, show the plan, ask, and apply it to the AWS account of your settings
    Deploy(deploy::DeployCommand),
    /// Measure against peers that do the same work
    Bench(bench::BenchCommand),
    /// Try with faults whether what is promised holds
    Chaos(chaos::ChaosCommand),
    /// A local AWS that stays, to try things on
    Local(local::LocalCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(code) => code,
        Err(_) if interrupt::requested() => {
            anstream::eprintln!("interrupted: everything that was started has been ended");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            anstream::eprintln!("{BAD}error:{BAD:#} {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    interrupt::watch()?;
    Ok(match command {
        Command::Demo(demo) => demo.run()?,
        Command::Test(test) => test.run()?,
        Command::Build(build) => build.run()?,
        Command::Deploy(deploy) => deploy.run()?,
        Command::Bench(bench) => bench.run()?,
        Command::Chaos(chaos) => chaos.run()?,
        Command::Local(local) => local.run()?,
    })
}

/// An error with what caused it, each said once.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the build failed")]
        struct Outer(#[source] std::io::Error);

        let cause = std::io::Error::other("no space");
        assert_eq!(with_causes(&Outer(cause)), "the build failed: no space");
    }
}
