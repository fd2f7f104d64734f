//! `bellwire-bench-stub`: a local SQS and SNS on a free port of 127.0.0.1.

use std::error::Error;
use std::path::PathBuf;

use bellwire_bench::stub::{Faults, Settings, Stub};
use clap::Parser;

/// A local SQS and SNS to measure clients with.
///
/// Writes its host:port into --address-file once it listens, and serves until it
/// is ended.
#[derive(Debug, Parser)]
#[command(name = "bellwire-bench-stub")]
struct Flags {
    /// Write host:port into this file once listening.
    #[arg(long, value_name = "FILE")]
    address_file: PathBuf,
    /// Remember the id of each event that is accepted, and how often.
    #[arg(long)]
    record: bool,
    /// What the course of what goes wrong is made of.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    faults: Faults,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Flags { address_file, record, seed, faults } = Flags::parse();
    let stub = Stub::start(Settings { faults, seed, record, hidden_max: None }).await?;
    // Moved into place, so that whoever waits for the file finds it whole.
    let partial = address_file.with_extension("partial");
    std::fs::write(&partial, stub.address().to_string())?;
    std::fs::rename(&partial, &address_file)?;
    stub.serve().await;
    Ok(())
}
