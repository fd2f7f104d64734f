//! `bellwire-bench-function`: a Lambda function on a local Runtime API, and as JSON on
//! standard output what it took.

use std::error::Error;
use std::path::PathBuf;

use bellwire_bench::function::{Settings, measure};
use clap::Parser;

/// Measures a Lambda function: its start, its first invocation, and those that follow.
#[derive(Debug, Parser)]
#[command(name = "bellwire-bench-function")]
struct Flags {
    /// A folder of its own.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Invocations after the first.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    warm: u64,
    /// The function's program, and what it is started with.
    #[arg(required = true, last = true)]
    program: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Flags { folder, warm, program } = Flags::parse();
    let mut arguments = program.into_iter();
    let program = arguments.next().unwrap_or_default().into();
    let settings = Settings { program, arguments: arguments.collect(), folder, warm };
    println!("{}", serde_json::to_string(&measure(&settings).await?)?);
    Ok(())
}
