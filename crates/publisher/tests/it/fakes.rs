//! The edges of the publisher, scripted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bellwire_publisher::bridge::{Bridge, Edges};
use bellwire_publisher::call::{CallError, Trouble};
use bellwire_publisher::claim::{ClaimDesk, Claims};
use bellwire_publisher::counts::Counts;
use bellwire_publisher::enrich::{LookUpError, Objects, RunOrigins};
use bellwire_publisher::ingest::{Admit, AdmitError};
use bellwire_publisher::pack::{Entry, pack};
use bellwire_publisher::publish::{EntryResult, Fate, Outlet, Patience, Topic};
use bellwire_publisher::quarantine::DeadQueue;
use bellwire_publisher::receive::{IngestQueue, Message, NotDone};
use bellwire_publisher::route::ObjectRef;
use bellwire_publisher::spans::TopicName;
use bellwire_schema::completion::CompletionOrigin;
use bellwire_schema::limits::{SNS_BATCH_ENTRIES_MAX, SNS_MESSAGE_BYTES_MAX};
use bellwire_schema::workflow::ClaimCheck;
use bellwire_schema::{DeadLetter, Envelope};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::samples::{QUEUE_ARN, rules};

pub(crate) fn call_error(trouble: Trouble) -> CallError {
    let (code, message) = (Some("Scripted".to_owned()), trouble.to_string());
    CallError { call: "fake:Call", trouble, code, http_status: Some(400), message }
}

pub(crate) fn failed(code: &str, is_sender_fault: bool) -> EntryResult {
    EntryResult::Failed { code: code.to_owned(), message: "scripted".to_owned(), is_sender_fault }
}

pub(crate) fn message(number: usize, body: &str) -> Message {
    Message {
        id: format!("m{number}"),
        receipt: format!("r{number}"),
        body: body.to_owned(),
        sent_at: None,
        receives: 1,
    }
}

/// What the topic does with one call.
pub(crate) type Act =
    Box<dyn FnMut(&[&Entry]) -> Result<Vec<EntryResult>, CallError> + Send + Sync>;

/// A topic that refuses what SNS refuses, and otherwise acts by its script;
/// without one it accepts.
pub(crate) struct FakeTopic {
    name: TopicName,
    act: Mutex<Option<Act>>,
    /// The events of each entry that was accepted, in order.
    pub(crate) accepted: Mutex<Vec<Envelope>>,
    /// The size of each call's batch.
    pub(crate) calls: Mutex<Vec<usize>>,
    /// Told of each call as it comes.
    pub(crate) entered: Notify,
    /// Where each call waits.
    gate: Option<Arc<Semaphore>>,
}

impl Default for FakeTopic {
    fn default() -> Self {
        Self {
            name: TopicName { arn: "arn:aws:sns:eu-west-1:123456789012:wine".to_owned() },
            act: Mutex::new(None),
            accepted: Mutex::default(),
            calls: Mutex::default(),
            entered: Notify::new(),
            gate: None,
        }
    }
}

impl FakeTopic {
    pub(crate) fn acting(
        act: impl FnMut(&[&Entry]) -> Result<Vec<EntryResult>, CallError> + Send + Sync + 'static,
    ) -> Self {
        Self { act: Mutex::new(Some(Box::new(act))), ..Self::default() }
    }

    pub(crate) fn fifo(mut self) -> Self {
        self.name.arn.push_str(".fifo");
        self
    }

    pub(crate) fn gated(self, gate: Arc<Semaphore>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    pub(crate) fn accepted_ids(&self) -> Vec<String> {
        self.accepted.lock().unwrap().iter().map(|event| event.id.clone()).collect()
    }
}

impl Topic for FakeTopic {
    fn publish<'a>(
        &'a self,
        entries: &'a [&'a Entry],
    ) -> BoxFuture<'a, Result<Vec<EntryResult>, CallError>> {
        async move {
            let bytes: usize = entries.iter().map(|entry| entry.bytes()).sum();
            assert!((1..=SNS_BATCH_ENTRIES_MAX).contains(&entries.len()));
            assert!(bytes <= SNS_MESSAGE_BYTES_MAX);
            self.calls.lock().unwrap().push(entries.len());
            self.entered.notify_one();
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let results = match self.act.lock().unwrap().as_mut() {
                Some(act) => act(entries)?,
                None => vec![EntryResult::Accepted; entries.len()],
            };
            for (entry, result) in entries.iter().zip(&results) {
                if *result == EntryResult::Accepted {
                    self.accepted.lock().unwrap().push(entry.envelope().clone());
                }
            }
            Ok(results)
        }
        .boxed()
    }

    fn name(&self) -> &TopicName {
        &self.name
    }
}

/// What the queue does with one deletion.
pub(crate) type DeleteAct =
    Box<dyn FnMut(&[&str]) -> Result<Vec<NotDone>, CallError> + Send + Sync>;

/// A queue of batches to be received; then it waits for ever.
#[derive(Default)]
pub(crate) struct FakeQueue {
    pub(crate) to_receive: Mutex<VecDeque<Result<Vec<Message>, CallError>>>,
    pub(crate) act: Mutex<Option<DeleteAct>>,
    /// Receipts that were deleted.
    pub(crate) deleted: Mutex<Vec<String>>,
    pub(crate) delete_calls: Mutex<usize>,
    /// Receipts that were hidden, each with its seconds.
    pub(crate) hidden: Mutex<Vec<(String, u32)>>,
}

impl IngestQueue for FakeQueue {
    fn receive(&self) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        async move {
            let next = self.to_receive.lock().unwrap().pop_front();
            match next {
                Some(next) => next,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        receipts: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        async move {
            *self.delete_calls.lock().unwrap() += 1;
            let not_deleted = match self.act.lock().unwrap().as_mut() {
                Some(act) => act(receipts)?,
                None => Vec::new(),
            };
            let is_deleted = |index: &usize| not_deleted.iter().all(|kept| kept.index != *index);
            let deleted =
                (0..receipts.len()).filter(is_deleted).map(|index| receipts[index].to_owned());
            self.deleted.lock().unwrap().extend(deleted);
            Ok(not_deleted)
        }
        .boxed()
    }

    fn hide<'a>(
        &'a self,
        receipts: &'a [(&'a str, u32)],
    ) -> BoxFuture<'a, Result<Vec<NotDone>, CallError>> {
        async move {
            let receipts =
                receipts.iter().map(|(receipt, seconds)| ((*receipt).to_owned(), *seconds));
            self.hidden.lock().unwrap().extend(receipts);
            Ok(Vec::new())
        }
        .boxed()
    }
}

#[derive(Default)]
pub(crate) struct FakeDead {
    pub(crate) letters: Mutex<Vec<DeadLetter>>,
    pub(crate) trouble: Mutex<Option<Trouble>>,
}

impl DeadQueue for FakeDead {
    fn send<'a>(&'a self, body: &'a str) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            if let Some(trouble) = *self.trouble.lock().unwrap() {
                return Err(call_error(trouble));
            }
            self.letters.lock().unwrap().push(serde_json::from_str(body).unwrap());
            Ok(())
        }
        .boxed()
    }
}

/// Objects by key; one that is not listed is gone.
#[derive(Default)]
pub(crate) struct FakeObjects {
    pub(crate) metadata: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) trouble: Option<Trouble>,
}

impl Objects for FakeObjects {
    fn metadata<'a>(
        &'a self,
        object: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, CallError>> {
        async move {
            match self.trouble {
                Some(trouble) => Err(call_error(trouble)),
                None => Ok(self.metadata.get(&object.key).cloned()),
            }
        }
        .boxed()
    }
}

/// The origin of every run, or a ledger that is down.
#[derive(Default)]
pub(crate) struct FakeOrigins {
    pub(crate) origin: Option<CompletionOrigin>,
    pub(crate) is_down: bool,
}

impl RunOrigins for FakeOrigins {
    fn origin_of<'a>(
        &'a self,
        run_arn: &'a str,
    ) -> BoxFuture<'a, Result<Option<CompletionOrigin>, LookUpError>> {
        async move {
            match self.is_down {
                true => {
                    Err(LookUpError::Ledger { run_arn: run_arn.to_owned(), source: "down".into() })
                }
                false => Ok(self.origin.clone()),
            }
        }
        .boxed()
    }
}

/// A claim check's bucket.
#[derive(Default)]
pub(crate) struct FakeClaims {
    pub(crate) objects: Mutex<BTreeMap<String, (Vec<u8>, String)>>,
    pub(crate) trouble: Option<Trouble>,
}

impl Claims for FakeClaims {
    fn put<'a>(
        &'a self,
        key: &'a str,
        bytes: Vec<u8>,
        content_type: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            if let Some(trouble) = self.trouble {
                return Err(call_error(trouble));
            }
            let object = (bytes, content_type.to_owned());
            self.objects.lock().unwrap().insert(key.to_owned(), object);
            Ok(())
        }
        .boxed()
    }
}

/// A bridge between fakes.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) topic: Arc<FakeTopic>,
    pub(crate) queue: Arc<FakeQueue>,
    pub(crate) dead: Arc<FakeDead>,
    pub(crate) objects: Arc<FakeObjects>,
    pub(crate) origins: Arc<FakeOrigins>,
    pub(crate) claims: Option<Arc<FakeClaims>>,
    pub(crate) counts: Arc<Counts>,
}

impl World {
    pub(crate) fn with_topic(topic: FakeTopic) -> Self {
        Self { topic: Arc::new(topic), ..Self::default() }
    }

    pub(crate) fn bridge(&self) -> Bridge {
        let (bucket, prefix) = ("wine-lake".to_owned(), "claims/".to_owned());
        let check = ClaimCheck { bucket, prefix };
        let edges = Edges {
            claims: self.claims.clone().map(|claims| ClaimDesk { check, claims }),
            queue: self.queue.clone(),
            outlet: self.outlet(),
            dead: self.dead.clone(),
            objects: self.objects.clone(),
            origins: self.origins.clone(),
        };
        Bridge::new(rules(), edges, QUEUE_ARN.to_owned(), self.counts.clone())
    }

    pub(crate) fn outlet(&self) -> Arc<Outlet> {
        Arc::new(Outlet::new(self.topic.clone(), 16))
    }

    pub(crate) fn hidden(&self) -> Vec<(String, u32)> {
        self.queue.hidden.lock().unwrap().clone()
    }

    pub(crate) fn deleted(&self) -> Vec<String> {
        self.queue.deleted.lock().unwrap().clone()
    }

    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        self.dead.letters.lock().unwrap().clone()
    }
}

/// Admission to the topic itself, at one try.
pub(crate) struct PublishNow(pub(crate) Arc<FakeTopic>);

impl Admit for PublishNow {
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>> {
        async move {
            let unavailable = |message: String| AdmitError::Unavailable { message };
            for batch in pack(events.into_iter().map(|entry| ((), entry)).collect()) {
                let batch: Vec<&Entry> = batch.iter().map(|(_, entry)| entry).collect();
                let patience =
                    Patience { deadline: Instant::now(), give_up: CancellationToken::new() };
                let outlet = Outlet::new(self.0.clone(), 1);
                for fate in outlet.publish(&batch, &patience).await {
                    match fate {
                        Fate::Published => {}
                        Fate::Refused { message } | Fate::Left { message, .. } => {
                            return Err(unavailable(message));
                        }
                    }
                }
            }
            Ok(())
        }
        .boxed()
    }
}
