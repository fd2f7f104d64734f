//! What is counted for alarms, by the handler that counts it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_cloudwatch::types::StateValue;
use bellwire_handler::{Counts, Handler};
use serde_json::{Value, json};

use crate::deployed::{Deployed, PATIENCE};
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

const DEPLOYED: &str = r#"
workflow = "counted"
[[source]]
name = "requests"
kind = "http"
emits = "collection.requested"
expected = "1h"
[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "pass.asl.json" }
"#;

/// The alarm of what was expected, once it is in this state.
async fn until(cloudwatch: &aws_sdk_cloudwatch::Client, state: &StateValue) {
    let deadline = Instant::now() + PATIENCE;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    loop {
        pace.tick().await;
        let found = cloudwatch.describe_alarms().alarm_names("counted-expected-requests");
        let found = found.send().await.unwrap();
        let is = found.metric_alarms().first().and_then(|alarm| alarm.state_value().cloned());
        if is.as_ref() == Some(state) {
            return;
        }
        assert!(Instant::now() < deadline, "the alarm is {is:?}");
    }
}

/// From the topic over the real handler's log to the metric, and to the alarm's end.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_ends_the_alarm_that_none_has_come() {
    let deployed = Deployed::of(DEPLOYED.to_owned()).await;
    deployed.apply().await;
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&deployed.config);
    until(&cloudwatch, &StateValue::Alarm).await;
    let event = requested("e-1");
    let event_type = aws_sdk_sns::types::MessageAttributeValue::builder().data_type("String");
    let event_type = event_type.string_value(event.event_type.as_str()).build().unwrap();
    let publish = aws_sdk_sns::Client::new(&deployed.config).publish();
    let publish = publish.topic_arn(deployed.place.topic_arn("counted")).message(event.to_json());
    publish.message_attributes("type", event_type).send().await.unwrap();
    until(&cloudwatch, &StateValue::Ok).await;
}
