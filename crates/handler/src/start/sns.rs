//! Messages to topics of others.
//!
//! **On a crash:** at least one message for one start. Whoever finds the start unfinished
//! publishes it again, as it was: a topic is no lock, and what it delivers it may deliver
//! twice by its own word, so that a lease would promise its subscribers nothing. A FIFO
//! topic drops what repeats a deduplication id within five minutes, which is the start
//! key: the event's id and source are in it, and the trigger's name, since two triggers
//! may send to one topic on one event. On all of them the attribute `startkey` tells a
//! subscriber what it had before.
//!
//! A start is complete when SNS has accepted it.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use bellwire_ledger::Start;
use futures::future::BoxFuture;

use super::message::{attributes_of, run_arn};
use super::{Accepted, Attempt, RunTarget, StartError};
use crate::call_errors::PUBLISH;

/// The client of SNS.
#[derive(Debug)]
pub(super) struct Sns {
    client: Client,
}

impl Sns {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn publish(&self, start: &Start) -> Result<Accepted, StartError> {
        let mut request = self.client.publish().topic_arn(&start.target).message(&start.input);
        for (name, value) in attributes_of(start) {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value);
            request = request.message_attributes(name, value.build().expect("its type is set"));
        }
        if let Some(group) = &start.details.message_group {
            request =
                request.message_group_id(group).message_deduplication_id(start.start_key.as_str());
        }
        let output = request.send().await.map_err(|error| PUBLISH.error_of(start, &error))?;
        let run_arn = run_arn(start, output.message_id.as_deref());
        Ok(Accepted { run_arn, started_at: None })
    }
}

impl RunTarget for Sns {
    fn method(&self) -> &'static str {
        "SNS/Publish"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        Box::pin(self.publish(start))
    }
}
