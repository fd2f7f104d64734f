//! The store of payloads that are over SNS's limit.

use std::collections::BTreeMap;

use bellwire_publisher::call::CallError;
use bellwire_publisher::claim::Claims;
use bellwire_schema::Envelope;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::faults::Call;
use crate::load::{Payload, claim_check, cut};
use crate::world::Edge;

/// The objects, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<String, Vec<u8>>,
}

impl Store {
    /// Keeps an object. Only the same may be there already.
    fn put(&mut self, key: &str, bytes: Vec<u8>) -> Result<(), String> {
        let length = bytes.len();
        match self.objects.insert(key.to_owned(), bytes) {
            Some(before) if before != self.objects[key] => Err(format!(
                "the payload {key} of {} bytes was put again as other {length} bytes",
                before.len()
            )),
            _ => Ok(()),
        }
    }

    /// What is wrong with where an event's payload is.
    pub(crate) fn problem_with(&self, event: &Envelope, payload: &Payload) -> Option<String> {
        let is_claimed = *payload != Payload::Within;
        let Some(dataref) = &event.dataref else {
            return is_claimed.then(|| "its payload is not in S3".to_owned());
        };
        if !is_claimed {
            return Some("its payload is in S3, and fits into the event".to_owned());
        }
        if event.data.is_some() {
            return Some("its payload is in S3, and in the event too".to_owned());
        }
        let check = claim_check();
        let Some(bytes) = check.key_in(dataref).and_then(|key| self.objects.get(key)) else {
            return Some(format!("nothing is under {dataref} yet"));
        };
        let is_right = match payload {
            Payload::Within => false,
            Payload::Claimed(text) => bytes == text.as_bytes(),
            Payload::ClaimedOutput(output) => is_completion_of(event, bytes, output),
        };
        let text = || cut(&String::from_utf8_lossy(bytes));
        (!is_right).then(|| format!("under {dataref} is not its payload: {}", text()))
    }
}

/// Whether it is the payload of the end of a run that had this output.
fn is_completion_of(event: &Envelope, bytes: &[u8], output: &str) -> bool {
    let Ok(payload) = serde_json::from_slice::<Value>(bytes) else { return false };
    let output: Option<Value> = serde_json::from_str(output).ok();
    let is_canonical = payload.to_string().as_bytes() == bytes;
    is_canonical
        && payload.get("output") == output.as_ref()
        && payload.pointer("/run/arn").and_then(Value::as_str) == event.subject.as_deref()
}

impl Claims for Edge {
    fn put<'a>(
        &'a self,
        key: &'a str,
        bytes: Vec<u8>,
        _content_type: &'a str,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            let course = self.call(Call::Put).await;
            if course.is_done() {
                let mut state = self.world.state();
                if let Err(problem) = state.store.put(key, bytes) {
                    state.audit.violated(problem);
                }
                drop(state);
                self.world.note(format_args!("{} puts {key}", self.holder));
            }
            course.back(Call::Put, ()).await
        }
        .boxed()
    }
}
