//! The handler against the local cloud: real ledger, state machine, topic and dead queue.

mod calls;
mod chaos;
mod counts;
mod deployed;
mod gather;
mod guards;
mod hints;
mod invocations;
mod metrics;
mod prove;
mod queued;
mod straight;
mod stub;
mod targets;
mod warm;
mod world;

use bellwire_handler::Moment;
use bellwire_ledger::State;
use bellwire_schema::completion::{CompletionOrigin, RunCompletion, RunResource, RunStatus};
use bellwire_schema::dead_letter::{DeadReason, Hop};
use bellwire_schema::limits::STEP_FUNCTIONS_INPUT_BYTES_MAX;
use bellwire_schema::{Envelope, EventType, Stage};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::{World, delivery, quality_event, requested};

fn moment_at(minutes: i64) -> Moment {
    let now = Timestamp::now() + SignedDuration::from_mins(minutes);
    Moment { now, deadline: now + SignedDuration::from_mins(1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_delivered_five_times_is_one_execution() {
    let world = World::new().await;
    let event = requested("e-1");
    for _ in 0..5 {
        world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    }
    let executions = world.executions("collect").await;
    assert_eq!(executions.len(), 1);
    let row = world.only_row().await;
    assert_eq!(row.state, State::Started);
    assert_eq!(row.start.run_arn.as_deref(), Some(executions[0].as_str()));
    assert_eq!(world.published("ml.collection.started.v1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_deliveries_are_one_execution() {
    let world = World::new().await;
    let event = delivery(&requested("e-1"));
    let deliveries = (0..10).map(|_| {
        let (handler, event) = (world.handler.clone(), event.clone());
        tokio::spawn(async move { handler.handle(&event, moment_at(0)).await })
    });
    for delivery in deliveries.collect::<Vec<_>>() {
        delivery.await.unwrap().unwrap();
    }
    assert_eq!(world.executions("collect").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_claim_is_repeated_as_it_was_claimed() {
    let world = World::new().await;
    let event = requested("e-1");
    let claimed = world.claim_and_crash(&event).await;
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    assert_eq!(world.executions("collect").await, [claimed.run_arn.clone().unwrap()]);
    let input = world.input_of(claimed.run_arn.as_deref().unwrap()).await;
    assert_eq!(input, claimed.input, "the run has the input of the first claim");
    assert_eq!(world.only_row().await.state, State::Started);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_finishes_a_claim_that_nobody_repeats() {
    let world = World::new().await;
    let claimed = world.claim_and_crash(&requested("e-1")).await;
    let sweep = json!({ "bellwire": "sweep" });
    world.handler.handle(&sweep, moment_at(0)).await.unwrap();
    assert_eq!(world.executions("collect").await.len(), 0, "it is not due yet");
    world.handler.handle(&sweep, moment_at(5)).await.unwrap();
    assert_eq!(world.executions("collect").await, [claimed.run_arn.unwrap()]);
    assert_eq!(world.only_row().await.state, State::Started);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_publishes_the_completion_that_never_came() {
    let world = World::new().await;
    world.handler.handle(&delivery(&requested("e-1")), moment_at(0)).await.unwrap();
    let row = world.only_row().await;
    let run_arn = row.start.run_arn.clone().unwrap();
    world.wait_for_end(&run_arn).await;
    let sweep = json!({ "bellwire": "sweep" });
    world.handler.handle(&sweep, moment_at(1)).await.unwrap();
    assert_eq!(world.published("ml.collection.completed.v1").await, Vec::<Envelope>::new());
    world.handler.handle(&sweep, moment_at(61)).await.unwrap();
    let published = world.published("ml.collection.completed.v1").await;
    let [completed] = &published[..] else { panic!("{published:?}") };
    let event_bridges = completion_of(&run_arn, RunStatus::Succeeded);
    assert_eq!(completed.id, event_bridges.id, "EventBridge's word of it would be the same event");
    assert_eq!(completed.context.causationid.as_deref(), Some("e-1"));
    assert_eq!(completed.context.hop, 1);

    let row = world.only_row().await;
    let status = row.end.as_ref().map(|end| end.status.as_str());
    assert_eq!((row.state, status), (State::Completed, Some("SUCCEEDED")));
    world.handler.handle(&delivery(completed), moment_at(62)).await.unwrap();
    assert_eq!(world.only_row().await, row, "the event closes what is closed");
    world.handler.handle(&sweep, moment_at(600)).await.unwrap();
    assert_eq!(world.published("ml.collection.completed.v1").await.len(), 0, "it is closed");
}

fn completion_of(run_arn: &str, status: RunStatus) -> Envelope {
    let completion = RunCompletion {
        run_arn: run_arn.to_owned(),
        resource: RunResource::StateMachine(world::machine_arn("collect")),
        status,
        redrive_count: 0,
        started_at: None,
        stopped_at: Some(Timestamp::now()),
        input: None,
        output: Some(r#"{"metrics":{"rows":3}}"#.to_owned()),
        metrics: Default::default(),
        artifacts: Vec::new(),
        error: Some("Boom".to_owned()),
        cause: None,
    };
    completion.to_envelope(&CompletionOrigin {
        stage: Stage::Collection,
        trigger: None,
        dataset: None,
        context: Default::default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_closes_its_row_with_metrics_or_error() {
    let world = World::new().await;
    for (id, status, state) in [
        ("e-1", RunStatus::Succeeded, State::Completed),
        ("e-2", RunStatus::TimedOut, State::Failed),
    ] {
        world.handler.handle(&delivery(&requested(id)), moment_at(0)).await.unwrap();
        let row = world.row_of(id).await;
        let completed = completion_of(row.start.run_arn.as_deref().unwrap(), status);
        world.handler.handle(&delivery(&completed), moment_at(0)).await.unwrap();
        let row = world.row_of(id).await;
        assert_eq!(row.state, state);
        let end = row.end.unwrap();
        match state {
            State::Completed => assert_eq!(end.metrics["rows"], 3.0),
            _ => assert_eq!(end.error.as_deref(), Some("Boom")),
        }
    }
    let stranger = completion_of("arn:aws:states:us-east-1:0:execution:x:y", RunStatus::Succeeded);
    world.handler.handle(&delivery(&stranger), moment_at(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_mended_keeps_no_other_from_it() {
    let world = World::new().await;
    for id in ["gone", "ended"] {
        world.handler.handle(&delivery(&requested(id)), moment_at(0)).await.unwrap();
    }
    let ended = world.row_of("ended").await.start.run_arn.unwrap();
    world.wait_for_end(&ended).await;
    world.point_to_no_run("gone").await;
    let sweep = json!({ "bellwire": "sweep" });
    world.handler.handle(&sweep, moment_at(61)).await.unwrap();
    assert_eq!(world.row_of("ended").await.state, State::Completed);
    let gone = world.row_of("gone").await;
    let status = gone.end.map(|end| end.status);
    assert_eq!((gone.state, status.as_deref()), (State::Failed, Some("UNKNOWN")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_starts_only_where_its_condition_holds() {
    let world = World::new().await;
    world.handler.handle(&delivery(&quality_event("low", 0.59)), moment_at(0)).await.unwrap();
    assert_eq!(world.executions("predict").await.len(), 0);
    world.handler.handle(&delivery(&quality_event("high", 0.60)), moment_at(0)).await.unwrap();
    assert_eq!(world.executions("predict").await.len(), 1);
}

/// An event whose payload lies elsewhere.
fn pointer(event: Envelope, dataref: &str) -> Envelope {
    Envelope { data: None, dataref: Some(dataref.to_owned()), ..event }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_in_the_claim_check_is_fetched_for_condition_and_input() {
    let world = World::new().await;
    for (id, accuracy) in [("low", 0.59), ("high", 0.60)] {
        let event = quality_event(id, accuracy);
        world.put_object(&format!("claims/{id}"), event.data.as_ref().unwrap()).await;
        let event = pointer(event, &format!("s3://{}/claims/{id}", world::BUCKET));
        world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    }
    let runs = world.executions("predict").await;
    let [run] = &runs[..] else { panic!("one run: {runs:?}") };
    let input: Value = serde_json::from_str(&world.input_of(run).await).unwrap();
    assert_eq!(input["id"], "high");
    assert_eq!(input["data"]["metrics"]["accuracy"], 0.60);
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_no_run_takes_travels_on_as_a_pointer() {
    let world = World::new().await;
    let parameters = json!({ "text": "x".repeat(STEP_FUNCTIONS_INPUT_BYTES_MAX) });
    world.put_object("claims/large", &json!({ "parameters": parameters })).await;
    let dataref = format!("s3://{}/claims/large", world::BUCKET);
    let event = pointer(requested("large"), &dataref);
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    let runs = world.executions("collect").await;
    let [run] = &runs[..] else { panic!("one run: {runs:?}") };
    let input: Value = serde_json::from_str(&world.input_of(run).await).unwrap();
    assert_eq!((&input["dataref"], input.get("data")), (&json!(dataref), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataref_that_is_not_ours_is_not_followed() {
    let world = World::new().await;
    world.put_object("raw/secret", &json!({ "parameters": { "secret": true } })).await;
    for dataref in ["raw/secret", "claims/../raw/secret"] {
        let dataref = format!("s3://{}/{dataref}", world::BUCKET);
        let event = pointer(requested(&dataref), &dataref);
        world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    }
    let runs = world.executions("collect").await;
    assert_eq!(runs.len(), 2);
    for run in runs {
        let input = world.input_of(&run).await;
        assert!(!input.contains("\"secret\":true"), "{input}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_payload_is_gone_or_wrong_is_put_aside() {
    let world = World::new().await;
    world.put_object("claims/wrong", &json!({ "parameters": "none" })).await;
    for (name, reason) in
        [("gone", DeadReason::ClaimMissing), ("wrong", DeadReason::InvalidPayload)]
    {
        let dataref = format!("s3://{}/claims/{name}", world::BUCKET);
        let event = pointer(requested(name), &dataref);
        world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
        let letter = world.dead_letter().await;
        assert_eq!((letter.reason, letter.hop), (reason, Hop::Handler));
        assert_eq!(letter.body().unwrap(), event.to_json().as_bytes());
    }
    assert_eq!(world.rows().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_brings_the_event_back() {
    let world = World::new().await;
    world.delete_bucket().await;
    let event = pointer(requested("e-1"), &format!("s3://{}/claims/e-1", world::BUCKET));
    let error = world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap_err();
    assert!(error.to_string().contains("s3:GetObject"), "{error}");
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_handled_is_put_aside_with_reason_and_bytes() {
    let world = World::new().await;
    let mut looping = requested("loop");
    looping.context.hop = bellwire_schema::limits::HOP_MAX + 1;
    let mut wrong_payload = requested("payload");
    wrong_payload.data = Some(json!({ "parameters": "none" }));
    for (body, reason) in [
        ("{ not json".to_owned(), DeadReason::Undecodable),
        (r#"{"specversion":"1.0"}"#.to_owned(), DeadReason::InvalidEnvelope),
        (looping.to_json(), DeadReason::HopLimit),
        (wrong_payload.to_json(), DeadReason::InvalidPayload),
    ] {
        world.handler.handle(&world::sns(&body), moment_at(0)).await.unwrap();
        let letter = world.dead_letter().await;
        assert_eq!((letter.reason, letter.hop), (reason, Hop::Handler), "{body}");
        assert_eq!(letter.body().unwrap(), body.as_bytes());
        assert_eq!(letter.id.as_deref(), Some("m-1"));
    }
    let unknown = json!({ "what": "is this" });
    world.handler.handle(&unknown, moment_at(0)).await.unwrap();
    assert_eq!(world.dead_letter().await.body().unwrap(), unknown.to_string().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_puts_the_event_aside_and_leaves_nothing_due() {
    let world = World::new().await;
    let mut event = Envelope::new("e-1", "/app", "training.requested".parse().unwrap());
    event.data = Some(json!({ "parameters": {} }));
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::StartRefused);
    assert_eq!(letter.trigger.as_deref(), Some("train"));
    assert_eq!(letter.body().unwrap(), event.to_json().as_bytes());
    assert_eq!(world.only_row().await.state, State::Refused);
    let sweep = json!({ "bellwire": "sweep" });
    world.handler.handle(&sweep, moment_at(600)).await.unwrap();
    world.assert_no_dead_letter().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_what_the_input_asks_for_is_put_aside() {
    let world = World::new().await;
    let event = Envelope::new("e-1", "/app", "label.approved".parse().unwrap());
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::InvalidInput);
    assert!(letter.message.contains("$.data.parameters.batch"), "{}", letter.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_ledger_brings_the_event_back() {
    let world = World::new().await;
    world.delete_ledger().await;
    let error = world.handler.handle(&delivery(&requested("e-1")), moment_at(0)).await.unwrap_err();
    assert!(error.to_string().contains("ledger"), "{error}");
    assert_eq!(world.executions("collect").await.len(), 0, "nothing starts without a claim");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_trigger_wants_starts_nothing() {
    let world = World::new().await;
    let event = Envelope::new("e-1", "/app", "ml.data.sighted.v1".parse::<EventType>().unwrap());
    world.handler.handle(&delivery(&event), moment_at(0)).await.unwrap();
    world.assert_no_dead_letter().await;
    assert_eq!(world.rows().await.len(), 0);
}

/// Of a message group, what is behind a failure comes back with it; what can never be
/// handled is put aside, and its group goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_only_what_failed_comes_back_and_its_group_behind_it() {
    let world = World::new().await;
    world.delete_bucket().await;
    let lost = pointer(requested("e-2"), &format!("s3://{}/claims/e-2", world::BUCKET));
    let queued = [
        ("q-1", "a", requested("e-1").to_json()),
        ("q-2", "a", lost.to_json()),
        ("q-3", "b", "garbage".to_owned()),
        ("q-4", "a", requested("e-4").to_json()),
        ("q-5", "b", requested("e-5").to_json()),
    ];
    let answer = world.handler.handle(&world::batch(&queued), moment_at(0)).await.unwrap();
    let failed = answer.unwrap().batch_item_failures;
    let failed: Vec<_> = failed.iter().map(|item| item.item_identifier.as_str()).collect();
    assert_eq!(failed, ["q-2", "q-4"]);
    assert_eq!(world.executions("collect").await.len(), 2);
    assert_eq!(world.dead_letter().await.reason, DeadReason::Undecodable);

    let again = world.handler.handle(&world::batch(&queued[3..]), moment_at(1)).await.unwrap();
    assert_eq!(again.unwrap().batch_item_failures, []);
    assert_eq!(world.executions("collect").await.len(), 3, "e-5 is a duplicate");
}

/// No message is begun that Lambda might end: it comes back with the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_time_comes_back() {
    let world = World::new().await;
    let queued = [("q-1", "a", requested("e-1").to_json())];
    let moment = Moment { deadline: moment_at(0).now, ..moment_at(0) };
    let answer = world.handler.handle(&world::batch(&queued), moment).await.unwrap();
    assert_eq!(answer.unwrap().batch_item_failures.len(), 1);
    assert_eq!(world.executions("collect").await.len(), 0);
}
