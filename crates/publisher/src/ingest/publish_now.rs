//! `publish_now`: admission by publishing, while the caller waits.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Admit, AdmitError, Admitted};
use crate::bridge::log_fate;
use crate::counts::Counts;
use crate::pack::{Entry, pack};
use crate::publish::{Fate, Topic, publish};
use crate::settle::Outcome;

/// How long a client waits for SNS at most, but for one call's own timeout.
const PUBLISH_FOR: Duration = Duration::from_secs(8);

/// Admits what SNS accepts.
pub struct PublishNow {
    topic: Arc<dyn Topic>,
    counts: Arc<Counts>,
}

impl PublishNow {
    /// Admission to a topic.
    #[must_use]
    pub fn new(topic: Arc<dyn Topic>, counts: Arc<Counts>) -> Self {
        Self { topic, counts }
    }

    async fn publish(&self, admitted: Vec<Admitted>) -> Result<(), AdmitError> {
        let unavailable = |message: String| AdmitError::Unavailable { message };
        let entries = admitted.into_iter().map(|admitted| Ok(((), Entry::of(admitted.envelope)?)));
        let entries: Result<Vec<_>, crate::pack::Unfit> = entries.collect();
        let entries = entries.map_err(|unfit| unavailable(unfit.to_string()))?;
        let mut trouble = None;
        for batch in pack(entries) {
            let batch: Vec<&Entry> = batch.iter().map(|(_, entry)| entry).collect();
            let fates = publish(self.topic.as_ref(), &batch, Instant::now() + PUBLISH_FOR).await;
            for (entry, fate) in batch.iter().zip(fates) {
                log_fate(entry.envelope(), &fate);
                match fate {
                    Fate::Published => self.counts.add(Outcome::Published),
                    Fate::Refused { message } | Fate::Left { message, .. } => {
                        trouble = Some(message);
                    }
                }
            }
        }
        trouble.map_or(Ok(()), |message| Err(unavailable(message)))
    }
}

impl Admit for PublishNow {
    fn admit<'a>(&'a self, entries: Vec<Admitted>) -> BoxFuture<'a, Result<(), AdmitError>> {
        self.publish(entries).boxed()
    }
}
