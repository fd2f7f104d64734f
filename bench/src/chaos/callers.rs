//! Who posts events over HTTP, and remembers what was promised.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

const EVENTS_MAX: u64 = 5;

/// How long a caller waits for an answer, after one, and after none.
const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Events by what their callers know of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    inner: Arc<Mutex<Ids>>,
    is_closed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Ids {
    offered: BTreeSet<String>,
    accepted: BTreeSet<String>,
}

impl Ledger {
    /// No caller begins a batch after this.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// What was sent at all, and what was answered with 202.
    pub(super) fn ids(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let ids = self.lock();
        (ids.offered.clone(), ids.accepted.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        // Sets are whole whatever a panicking thread was doing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who posts batch after batch.
#[derive(Debug)]
pub(super) struct Caller {
    number: u64,
    address: watch::Receiver<Option<String>>,
    ledger: Ledger,
    client: reqwest::Client,
    random: fastrand::Rng,
}

impl Caller {
    pub(super) fn new(
        number: u64,
        address: watch::Receiver<Option<String>>,
        ledger: Ledger,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { number, address, ledger, client, random: fastrand::Rng::with_seed(number) })
    }

    /// Posts until the ledger is closed; what it has begun it brings to its end.
    pub(super) async fn run(mut self) {
        let mut sent = 0;
        while !self.ledger.is_closed.load(Ordering::Relaxed) {
            let count = self.random.u64(1..=EVENTS_MAX);
            let ids: Vec<String> =
                (sent..sent + count).map(|event| format!("http-{}-{event}", self.number)).collect();
            sent += count;
            self.ledger.lock().offered.extend(ids.iter().cloned());
            let batch = Value::Array(ids.iter().map(|id| event_of(id)).collect()).to_string();
            while !self.is_accepted(&batch).await {
                sleep(PAUSE).await;
            }
            self.ledger.lock().accepted.extend(ids);
            sleep(PAUSE).await;
        }
    }

    async fn is_accepted(&mut self, batch: &str) -> bool {
        let Some(address) = self.address.borrow().clone() else { return false };
        let answer = self
            .client
            .post(format!("http://{address}/v1/events"))
            .header("content-type", "application/cloudevents-batch+json")
            .body(batch.to_owned())
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::ACCEPTED)
    }
}

fn event_of(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/chaos", "type": "ml.collection.requested.v1",
        "data": { "parameters": { "rows": 100 } },
    })
}
