//! Throttling is ridden out, whatever the service that throttles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_sts::config::{HttpClient as _, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

use crate::world::{WORKFLOW, World};

/// How often each call is refused: more often than the SDK repeats one by itself.
const REFUSALS: u32 = 4;

/// How often each call was sent, by what it says.
type Sent = Arc<Mutex<HashMap<Vec<u8>, u32>>>;

#[derive(Debug)]
struct Throttling {
    onwards: SharedHttpConnector,
    sent: Sent,
}

impl HttpConnector for Throttling {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Only one service: how each of them refuses is its own affair.
        let signature = request.headers().get("authorization").unwrap_or_default();
        if !signature.contains("/sqs/aws4_request") {
            return self.onwards.call(request);
        }
        let target = request.headers().get("x-amz-target").unwrap_or_default().as_bytes();
        let what = [target, request.body().bytes().unwrap_or_default()].concat();
        {
            let mut sent = self.sent.lock().expect("whole");
            let sent = sent.entry(what).or_default();
            *sent += 1;
            if *sent > REFUSALS {
                return self.onwards.call(request);
            }
        }
        let body = r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"as told"}"#;
        let mut answer = HttpResponse::new(400.try_into().expect("a status"), body.into());
        answer.headers_mut().insert("x-amzn-query-error", "RequestThrottled;Sender");
        HttpConnectorFuture::ready(Ok(answer))
    }
}

fn throttling() -> SharedHttpClient {
    let plain = aws_smithy_http_client::Builder::new().build_http();
    let sent = Sent::default();
    http_client_fn(move |settings, components| {
        let onwards = plain.http_connector(settings, components);
        SharedHttpConnector::new(Throttling { onwards, sent: Arc::clone(&sent) })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_throttled_is_planned_and_applied_all_the_same() {
    let world = World::new().await;
    let quickly = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let config = world.config.to_builder().retry_config(quickly);
    let config = config.http_client(throttling()).build();
    let provisioner = world.provisioner_with(&config, WORKFLOW).await;
    world.apply(&provisioner).await;
    assert!(world.plan(&provisioner).await.0.is_empty());
    let calls = provisioner.calls().take();
    let repeated = calls.iter().filter(|call| call.service == "SQS" && call.attempts > 3).count();
    assert!(repeated > 0, "no call was refused more than twice: {calls:?}");
}
