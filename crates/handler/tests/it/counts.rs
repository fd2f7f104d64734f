//! What is counted for alarms, by the handler that counts it.

use std::sync::{Arc, Mutex};

use bellwire_handler::{Counts, Handler};
use serde_json::{Value, json};

use crate::moment_at;
use crate::world::{World, delivery, quality_event, requested};

const WORKFLOW: &str = r#"
workflow = "wine"
[[source]]
name = "requests"
kind = "http"
emits = "collection.requested"
expected = "1h"
[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
where = { dataset = ["nobody's"] }
start = { step-functions = "collect.asl.json" }
"#;

/// A handler, and the lines that it counts by.
pub(crate) fn counting(handler: Handler) -> (Handler, Arc<Mutex<Vec<Value>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    let counts = Counts::to(move |line| into.lock().unwrap().push(line.clone()));
    (handler.counting(counts), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_event_is_counted_whether_or_not_it_starts_anything() {
    let world = World::of(WORKFLOW, &["collect"], |_| {}).await;
    let (handler, lines) = counting(world.another_handler(WORKFLOW));
    handler.handle(&delivery(&requested("e-1")), moment_at(0)).await.unwrap();
    handler.handle(&delivery(&quality_event("e-2", 0.9)), moment_at(0)).await.unwrap();
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let counted = (&lines[0]["Workflow"], &lines[0]["Source"], &lines[0]["SourceEvents"]);
    assert_eq!(counted, (&json!("wine"), &json!("requests"), &json!(1)));
    assert!(world.rows().await.is_empty(), "nothing was started");
}
