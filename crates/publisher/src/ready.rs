//! Whether the publisher can do its work, without asking anyone.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::bridge::QueueHealth;
use crate::gate::GateState;
use crate::ingest::{Readiness, Report};
use crate::publish::Outlet;
use crate::spool::{Limits, Spool};

/// What is looked at.
pub struct Health {
    /// The ingest queue.
    pub queue: Arc<QueueHealth>,
    /// The way to the topic.
    pub outlet: Arc<Outlet>,
    /// What HTTP ingest has taken in.
    pub spool: Spool,
    /// How much that may be.
    pub limits: Limits,
}

impl Readiness for Health {
    fn report(&self) -> Report {
        let depth = self.spool.depth();
        let is_full =
            depth.events >= self.limits.events_max || depth.bytes >= self.limits.bytes_max;
        let gate = self.outlet.gate().state();
        let trouble = self.queue.trouble();
        let is_ready = !is_full && gate.outage.is_none() && trouble.is_none();
        let details = json!({
            "status": if is_ready { "ready" } else { "not-ready" },
            "topic": topic(&gate),
            "queue": { "status": if trouble.is_none() { "ok" } else { "failing" }, "cause": trouble },
            "spool": {
                "status": if is_full { "full" } else { "ok" },
                "events": depth.events,
                "bytes": depth.bytes,
                "oldest_at": depth.oldest_at.map(|at| at.to_string()),
            },
        });
        Report { is_ready, details }
    }
}

fn topic(gate: &GateState) -> Value {
    json!({
        "status": if gate.outage.is_none() { "ok" } else { "down" },
        "since": gate.outage.as_ref().map(|outage| outage.since.to_string()),
        "cause": gate.outage.as_ref().map(|outage| &outage.cause),
        "calls_under_way": gate.under_way,
        "calls_max": gate.window,
    })
}
