//! Connections that are open before the first event is there.
//!
//! Lambda gives a function more CPU while it starts than afterwards, and a first TLS
//! handshake takes more than all of an event's own work. So each endpoint that an event
//! is going to need is asked, by the client that is going to need it, for nothing: a
//! `GET /` without a signature. Whatever it answers, the connection is there; no
//! permission is needed, and no call of AWS's is made.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use bellwire_schema::workflow::TargetKind;
use futures::future::{BoxFuture, join_all};

use crate::clients::Clients;

/// A part of what Lambda gives a function to start in, ten seconds.
const WARM_WITHIN: Duration = Duration::from_secs(2);

/// What a signed call has and a knock has not.
const HEADERS_OF_A_CALL: [&str; 8] = [
    "authorization",
    "content-length",
    "content-type",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-target",
    "x-amzn-query-mode",
];

/// Makes a knock of a call, once it is signed and before it is sent.
#[derive(Debug)]
struct Knock;

impl Intercept for Knock {
    fn name(&self) -> &'static str {
        "knock"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let root = root_of(request.uri()).to_owned();
        request.set_uri(root)?;
        request.set_method("GET")?;
        for name in HEADERS_OF_A_CALL {
            request.headers_mut().remove(name);
        }
        *request.body_mut() = "".into();
        Ok(())
    }
}

/// A URI up to the slash with which its path begins.
fn root_of(uri: &str) -> &str {
    let host = uri.find("://").map_or(0, |at| at + 3);
    uri[host..].find('/').map_or(uri, |slash| &uri[..=host + slash])
}

/// A knock by a client's own way, whatever the call was.
macro_rules! knock {
    ($sdk:ident, $call:expr) => {{
        let once = $sdk::config::Builder::new().retry_config(RetryConfig::disabled());
        let call = $call.customize().config_override(once).interceptor(Knock);
        // No answer to a knock is one to the call: that it fails is as it should be.
        Box::pin(async move { drop(call.send().await) })
    }};
}

impl Clients {
    /// Opens a connection to each service that an event needs which starts one of
    /// these kinds of targets; gives up after a while.
    pub async fn warm(&self, kinds: &BTreeSet<TargetKind>) {
        let mut knocks: Vec<BoxFuture<'_, ()>> = vec![
            knock!(aws_sdk_dynamodb, self.dynamodb.list_tables()),
            knock!(aws_sdk_sns, self.sns.list_topics()),
        ];
        for kind in kinds {
            knocks.extend(self.knock_at(*kind));
        }
        if tokio::time::timeout(WARM_WITHIN, join_all(knocks)).await.is_err() {
            tracing::warn!("not every connection was open in time: the first event opens it");
        }
    }

    fn knock_at(&self, kind: TargetKind) -> Option<BoxFuture<'_, ()>> {
        match kind {
            #[cfg(feature = "target-batch")]
            TargetKind::Batch => Some(knock!(aws_sdk_batch, self.batch.describe_job_queues())),
            #[cfg(feature = "target-lambda")]
            TargetKind::Lambda => Some(knock!(aws_sdk_lambda, self.lambda.list_functions())),
            #[cfg(feature = "target-sagemaker-pipeline")]
            TargetKind::SagemakerPipeline => {
                Some(knock!(aws_sdk_sagemaker, self.sagemaker.list_pipelines()))
            }
            TargetKind::Sqs => Some(knock!(aws_sdk_sqs, self.sqs.list_queues())),
            #[cfg(feature = "target-step-functions")]
            TargetKind::StepFunctions => Some(knock!(aws_sdk_sfn, self.sfn.list_state_machines())),
            // Of `sns` the handler's own topic is at the same endpoint.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knock_is_at_the_root() {
        assert_eq!(root_of("https://a.b/2015-03-31/functions?x=/"), "https://a.b/");
        assert_eq!(root_of("http://127.0.0.1:80/"), "http://127.0.0.1:80/");
        assert_eq!(root_of("http://127.0.0.1:80"), "http://127.0.0.1:80");
    }
}
