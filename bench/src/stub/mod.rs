//! A local SQS and SNS that cost next to nothing, so that what is measured is
//! their client; with faults, where they are what is tried.
//!
//! ```text
//! POST /                 SQS, DynamoDB, Step Functions (JSON protocol), SNS and STS (Query protocol)
//! POST /_stub/fill       {"count": 10000, "body_kind": "s3", "queue": "bench-ingest"}
//! POST /_stub/faults     {"latency_ms": 5, "throttle": 0.1, ...}
//! POST /_stub/reset
//! GET  /_stub/counts
//! GET  /_stub/events     how often each event was accepted, where recorded
//! ```

pub mod body;
pub mod faults;
mod http;
mod json;
mod query;
mod queue;
mod sqs;
mod state;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use faults::Faults;
use state::Shared;
pub use state::{Counts, Fill, QueueCounts};

/// How a stub begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// What goes wrong.
    pub faults: Faults,
    /// What the course of what goes wrong is made of.
    pub seed: u64,
    /// Remember the id of each event that is accepted, and how often.
    pub record: bool,
    /// How long a received message is hidden at most, whatever its receiver asks
    /// for: so that what a killed one had comes back soon.
    pub hidden_max: Option<Duration>,
}

/// Why there is no stub.
#[derive(Debug, thiserror::Error)]
#[error("the stub cannot listen on a port of 127.0.0.1")]
pub struct StartError(#[from] std::io::Error);

/// A stub that listens. Dropping it ends it.
#[derive(Debug)]
pub struct Stub {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Stub {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(format!("http://{address}"), settings));
        let serving = tokio::spawn(http::serve(listener, shared.clone()));
        Ok(Self { shared, address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to give an AWS SDK.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Fills a queue.
    pub fn fill(&self, fill: &Fill) {
        self.shared.fill(fill);
    }

    /// Sends a message to a queue.
    pub fn send(&self, queue: &str, body: impl Into<String>) {
        self.shared.send(queue, body.into());
    }

    /// The bodies of the messages that wait in a queue.
    #[must_use]
    pub fn bodies(&self, queue: &str) -> Vec<String> {
        self.shared.lock().queue(queue).ready_bodies()
    }

    /// Lets other things go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.set_faults(faults);
    }

    /// Empties queues and counts.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// What happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// How often each event was accepted, by its id; empty where nothing is recorded.
    #[must_use]
    pub fn events(&self) -> BTreeMap<String, u64> {
        self.shared.lock().events.clone().unwrap_or_default()
    }

    /// Serves until the process ends.
    pub async fn serve(mut self) {
        // It ends with an error only where it panicked, which told of itself.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
