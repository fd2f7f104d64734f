//! The calls to AWS that a plan or an apply takes: which they are, for which step, and
//! how long each takes. Every client tells them to one [`Calls`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_sts::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use crate::resource::ResourceId;

tokio::task_local! {
    /// The step that is being done. What is called outside of one is called for all.
    static STEP: ResourceId;
}

/// Does something as a step: what it calls is counted as this step's.
pub(crate) async fn as_step<F: Future>(id: &ResourceId, work: F) -> F::Output {
    STEP.scope(id.clone(), work).await
}

/// What the operations of AWS begin with that change nothing.
const READS: [&str; 7] = ["BatchGet", "Describe", "Get", "Head", "List", "Query", "Scan"];

/// One call, with its repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The service, as its API calls itself: `SNS`.
    pub service: String,
    /// The operation: `CreateTopic`.
    pub operation: String,
    /// The step that it was made for, where it was made for one.
    pub step: Option<ResourceId>,
    /// How often it was sent: once, unless it was throttled or failed on the way.
    pub attempts: u32,
    /// When it began, since the first call was listened for.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
}

impl Call {
    /// Whether it only reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        READS.iter().any(|verb| self.operation.starts_with(verb))
    }
}

/// The calls so far. A clone tells of the same ones.
#[derive(Debug, Clone)]
pub struct Calls {
    since: Instant,
    made: Arc<Mutex<Vec<Call>>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { since: Instant::now(), made: Arc::default() }
    }
}

impl Calls {
    /// The calls since the last time that they were taken.
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A call that is under way.
#[derive(Debug)]
struct UnderWay {
    began: Duration,
    attempts: u32,
}

impl Storable for UnderWay {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Calls {
    fn name(&self) -> &'static str {
        "bellwire-calls"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let began = self.since.elapsed();
        bag.interceptor_state().store_put(UnderWay { began, attempts: 0 });
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(UnderWay { began, attempts }) = bag.load::<UnderWay>() {
            let next = UnderWay { began: *began, attempts: attempts + 1 };
            bag.interceptor_state().store_put(next);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        _: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(under_way), Some(metadata)) = (bag.load::<UnderWay>(), bag.load::<Metadata>())
        else {
            return Ok(());
        };
        let call = Call {
            service: metadata.service().to_owned(),
            operation: metadata.name().to_owned(),
            step: STEP.try_with(Clone::clone).ok(),
            attempts: under_way.attempts,
            began: under_way.began,
            ended: self.since.elapsed(),
        };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        Ok(())
    }
}
