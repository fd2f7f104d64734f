//! The way of each call to AWS, on which things go wrong: an HTTP client for the SDK's
//! own clients that knows for which invocation it carries.
//!
//! A kill is the invocation's future dropped where it stands. So a call that is to be
//! its last never answers, and rings [`Attempt::death`], on which whoever drives the
//! invocation drops it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::{HttpClient as _, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::Notify;

use super::fate::{Fate, Step};

tokio::task_local! {
    /// The invocation that calls. Who calls outside of one meets no faults.
    pub(super) static ATTEMPT: Arc<Attempt>;
}

/// One invocation for one message.
#[derive(Debug)]
pub(super) struct Attempt {
    fate: Fate,
    pub(super) death: Notify,
    seen: Mutex<Seen>,
}

/// What came of an invocation's calls where they were answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Whether its fate has befallen it.
    pub(super) is_struck: bool,
    /// Starts that the target accepted.
    pub(super) starts: u64,
    /// Whether the ledger has the start as recorded.
    pub(super) is_recorded: bool,
    /// Ids of the events that the topic accepted.
    pub(super) announced: BTreeSet<String>,
    has_called_start: bool,
    failures: u32,
}

impl Attempt {
    pub(super) fn new(fate: Fate) -> Self {
        Self { fate, death: Notify::new(), seen: Mutex::default() }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Whether this is what befalls it; if so, it has happened.
    pub(super) fn meets(&self, fate: Fate) -> bool {
        let is_it = self.fate == fate;
        self.seen.lock().unwrap().is_struck |= is_it;
        is_it
    }

    fn fails(&self, failures: u32) -> bool {
        let mut seen = self.seen.lock().unwrap();
        seen.is_struck = true;
        seen.failures += 1;
        seen.failures <= failures
    }

    /// The step that a call belongs to: what is called on the ledger before the start
    /// is the claim, whatever it is made of, and what comes after it the record.
    fn step_of(&self, request: &HttpRequest) -> Option<Step> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let mut seen = self.seen.lock().unwrap();
        if target.starts_with("DynamoDB") {
            return Some(if seen.has_called_start { Step::Record } else { Step::Claim });
        }
        let uri = request.uri();
        let is_start = target.ends_with(".StartExecution")
            || target.ends_with(".StartPipelineExecution")
            || uri.ends_with("/submitjob")
            || uri.ends_with("/invocations");
        if is_start {
            seen.has_called_start = true;
            return Some(Step::Start);
        }
        let body = request.body().bytes().unwrap_or_default();
        body.starts_with(b"Action=Publish&").then_some(Step::Announce)
    }

    async fn die<T>(&self) -> T {
        self.death.notify_one();
        std::future::pending().await
    }

    async fn carry(
        &self,
        onwards: SharedHttpConnector,
        request: HttpRequest,
    ) -> Result<HttpResponse, ConnectorError> {
        let Some(step) = self.step_of(&request) else { return onwards.call(request).await };
        if self.meets(Fate::CrashBefore(step)) {
            return self.die().await;
        }
        if let Fate::Throttled(throttled, calls) = self.fate
            && throttled == step
            && self.fails(calls)
        {
            return Ok(throttling());
        }
        let event_id = (step == Step::Announce).then(|| event_id_of(&request)).flatten();
        let answer = onwards.call(request).await?;
        let is_done = answer.status().is_success();
        {
            let mut seen = self.seen.lock().unwrap();
            match step {
                Step::Start if is_done => seen.starts += 1,
                // A condition that fails says that it stands there already.
                Step::Record => seen.is_recorded = true,
                Step::Announce if is_done => seen.announced.extend(event_id),
                _ => {}
            }
        }
        if self.meets(Fate::CrashAfter(step)) {
            return self.die().await;
        }
        match self.fate {
            Fate::AnswerLost(lost, calls) if lost == step && self.fails(calls) => {
                Err(ConnectorError::io("the answer is lost".into()))
            }
            _ => Ok(answer),
        }
    }
}

fn throttling() -> HttpResponse {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"as drawn"}"#;
    HttpResponse::new(400.try_into().unwrap(), body.into())
}

/// The `id` of the event in a `Publish`, whose form has it percent-encoded.
fn event_id_of(request: &HttpRequest) -> Option<String> {
    let form = std::str::from_utf8(request.body().bytes()?).ok()?;
    let (_, behind) = form.split_once("%22id%22%3A%22")?;
    Some(behind.split_once("%22")?.0.to_owned())
}

#[derive(Debug)]
struct Wire {
    onwards: SharedHttpConnector,
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let onwards = self.onwards.clone();
        match ATTEMPT.try_with(Arc::clone) {
            Ok(attempt) => {
                HttpConnectorFuture::new(async move { attempt.carry(onwards, request).await })
            }
            Err(_) => onwards.call(request),
        }
    }
}

/// The SDK's own HTTP client, with faults on its way.
pub(super) fn wire() -> SharedHttpClient {
    let plain = aws_smithy_http_client::Builder::new().build_http();
    http_client_fn(move |settings, components| {
        let onwards = plain.http_connector(settings, components);
        SharedHttpConnector::new(Wire { onwards })
    })
}
