//! `bellwire-bench-chaos`: kills a publisher again and again, and tells as JSON on
//! standard output what came of it.

use std::error::Error;
use std::path::PathBuf;

use bellwire_bench::chaos::{Settings, run};
use clap::Parser;

/// Kills a publisher at random moments under load, and tells what was lost.
#[derive(Debug, Parser)]
#[command(name = "bellwire-bench-chaos")]
struct Flags {
    /// The publisher's program.
    #[arg(long, value_name = "FILE")]
    publisher: PathBuf,
    /// An empty folder.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// How often it is killed.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    kills: u64,
    /// What lives and faults are made of.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Flags { publisher, folder, kills, seed } = Flags::parse();
    let settings = Settings { publisher, folder, kills, seed };
    // A line a kill, for whoever watches.
    let verdict = run(&settings, |kills| eprintln!("{kills}")).await?;
    println!("{}", serde_json::to_string(&verdict)?);
    Ok(())
}
