//! What the handler calls on DynamoDB, counted; and calls that fail when told to.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsOutput;

#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    names: Vec<String>,
    transacted_units: f64,
    failing: Option<&'static str>,
    /// Transactions whose answer is that others came at the same time.
    collisions: u32,
    /// Whether transactions are turned away, as where others come between each time.
    turns_away: bool,
    /// Whether indexes show nothing yet.
    is_lagging: bool,
}

impl Calls {
    /// What was called since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().names)
    }

    /// The write units that the transactions took since the last look.
    pub(crate) fn take_units(&self) -> f64 {
        std::mem::take(&mut self.0.lock().unwrap().transacted_units)
    }

    /// From now on this call fails on its way, or all that are about rows of such a key;
    /// `None`: no call does.
    pub(crate) fn fail(&self, name: Option<&'static str>) {
        self.0.lock().unwrap().failing = name;
    }
}

impl Calls {
    /// So many transactions are told that they collided, though they did not: as where
    /// an answer is lost, and the repetition meets its own traces.
    pub(crate) fn collide(&self, transactions: u32) {
        self.0.lock().unwrap().collisions = transactions;
    }

    /// Whether every transaction is turned away by others that come between.
    pub(crate) fn turn_away(&self, turns_away: bool) {
        self.0.lock().unwrap().turns_away = turns_away;
    }

    /// Whether indexes show nothing yet, as they may for a while.
    pub(crate) fn lag(&self, is_lagging: bool) {
        self.0.lock().unwrap().is_lagging = is_lagging;
    }
}

const COLLISION: &str = r#"{
    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "Message": "Transaction cancelled",
    "CancellationReasons": [{ "Code": "None" }, { "Code": "TransactionConflict" }]
}"#;

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        let name = target.rsplit('.').next().unwrap_or_default().to_owned();
        let mut seen = self.0.lock().unwrap();
        seen.names.push(name.clone());
        let body = context.request().body().bytes().unwrap_or_default();
        let is_about =
            |part: &str| body.windows(part.len()).any(|window| window == part.as_bytes());
        if seen.failing.is_some_and(|failing| failing == name || is_about(failing)) {
            return Err("told to fail".into());
        }
        Ok(())
    }

    /// A transaction that is turned away does nothing: nothing is in it.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if target.ends_with(".TransactWriteItems") && self.0.lock().unwrap().turns_away {
            *request.body_mut() = "{}".into();
            request.headers_mut().insert("content-length", "2");
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut seen = self.0.lock().unwrap();
        let is_transaction = seen.names.last().is_some_and(|name| name == "TransactWriteItems");
        if is_transaction && (seen.turns_away || seen.collisions > 0) {
            seen.collisions = seen.collisions.saturating_sub(1);
            let refused = HttpResponse::new(400.try_into().unwrap(), COLLISION.into());
            *context.response_mut() = refused;
        }
        if seen.is_lagging && seen.names.last().is_some_and(|name| name == "Query") {
            let nothing = r#"{ "Items": [], "Count": 0, "ScannedCount": 0 }"#;
            *context.response_mut() = HttpResponse::new(200.try_into().unwrap(), nothing.into());
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Ok(output)) = context.output_or_error()
            && let Some(done) = output.downcast_ref::<TransactWriteItemsOutput>()
        {
            let units: f64 =
                done.consumed_capacity().iter().filter_map(|of| of.capacity_units).sum();
            self.0.lock().unwrap().transacted_units += units;
        }
        Ok(())
    }
}
