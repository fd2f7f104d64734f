//! Messages to queues of others.
//!
//! **On a crash:** at least one message for one start, as to a topic: see
//! `sns.rs`, of which all holds of queues too. A FIFO queue drops what repeats a start
//! key within five minutes.
//!
//! A start is complete when SQS has accepted it.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;
use bellwire_ledger::Start;
use bellwire_schema::Place;
use futures::future::BoxFuture;

use super::message::{attributes_of, run_arn};
use super::{Accepted, Attempt, RunTarget, StartError};
use crate::call_errors::SEND_MESSAGE;
use crate::clients::Later;

/// The client of SQS.
#[derive(Debug)]
pub(super) struct Sqs {
    client: Later<Client>,
}

impl Sqs {
    pub(super) const fn new(client: Later<Client>) -> Self {
        Self { client }
    }

    async fn send(&self, start: &Start) -> Result<Accepted, StartError> {
        let url = queue_url(&start.target).ok_or_else(|| StartError::Refused {
            operation: SEND_MESSAGE.operation,
            target: start.target.clone(),
            message: "it is no queue's ARN".to_owned(),
        })?;
        let mut request = self.client.send_message().queue_url(url).message_body(&start.input);
        for (name, value) in attributes_of(start) {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value);
            request = request.message_attributes(name, value.build().expect("its type is set"));
        }
        if let Some(group) = &start.details.message_group {
            request =
                request.message_group_id(group).message_deduplication_id(start.start_key.as_str());
        }
        let output = request.send().await.map_err(|error| SEND_MESSAGE.error_of(start, &error))?;
        let run_arn = run_arn(start, output.message_id.as_deref());
        Ok(Accepted { run_arn, started_at: None })
    }
}

impl RunTarget for Sqs {
    fn method(&self) -> &'static str {
        "SQS/SendMessage"
    }

    fn start<'a>(
        &'a self,
        start: &'a Start,
        _attempt: Attempt,
    ) -> BoxFuture<'a, Result<Accepted, StartError>> {
        Box::pin(self.send(start))
    }
}

/// A queue's URL follows from its ARN.
fn queue_url(arn: &str) -> Option<String> {
    match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "sqs", region, account, name] => {
            Some(Place::new(region, account).queue_url(name))
        }
        _ => None,
    }
}
