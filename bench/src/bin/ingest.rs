//! `bellwire-bench-ingest`: events over HTTP into a spool on a disk, and as JSON on
//! standard output how many a second.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bellwire_bench::ingest::{Settings, measure};
use clap::Parser;

/// The publisher's own allocator: its way in is what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the publisher's way in.
#[derive(Debug, Parser)]
#[command(name = "bellwire-bench-ingest")]
struct Flags {
    /// The spool's file, which must not be there.
    #[arg(long, value_name = "FILE")]
    spool: PathBuf,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Events of a request.
    #[arg(long, default_value_t = 1)]
    events_per_request: usize,
    /// Events for one fsync at most.
    #[arg(long, default_value_t = 1_000)]
    records_per_commit_max: usize,
    /// How long is counted, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let settings = Settings {
        connections: flags.connections,
        events_per_request: flags.events_per_request,
        records_per_commit_max: flags.records_per_commit_max,
        time: Duration::from_secs(flags.seconds),
    };
    let rate = measure(&settings, &flags.spool).await?;
    println!("{}", serde_json::to_string(&rate)?);
    Ok(())
}
