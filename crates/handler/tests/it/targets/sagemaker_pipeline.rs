//! Pipelines: a token is an execution.

use bellwire_ledger::State;
use bellwire_schema::dead_letter::DeadReason;
use serde_json::{Value, json};

use super::{at, event_of, wanted, world};
use crate::stub::Fault;

const PIPELINE: &str = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/Fit-Wine";

fn ended(run_arn: &str, status: &str) -> Value {
    json!({
        "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
        "source": "aws.sagemaker",
        "detail": {
            "pipelineArn": PIPELINE, "pipelineExecutionArn": run_arn,
            "currentPipelineExecutionStatus": status,
            "executionStartTime": "2026-11-22T02:14:07Z", "executionEndTime": "2026-11-22T02:14:08Z",
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_is_delivered_it_is_one_execution_with_the_inputs_parameters() {
    let (world, stub) = world().await;
    let event = wanted("fit", "e-1");
    assert_eq!(world.queued_side_by_side(&event, 10).await, 10, "none of them waits");
    let executions = stub.executions();
    let [(arn, execution)] = &executions[..] else { panic!("{executions:?}") };
    let row = world.only_row().await;
    let request = &execution.request;
    assert_eq!(request["PipelineName"], PIPELINE);
    assert_eq!(request["ClientRequestToken"], row.start.start_key.as_str());
    assert_eq!(request["PipelineExecutionDisplayName"], format!("fit-{}", row.start.start_key));
    let parameters = json!([
        { "Name": "Model", "Value": "champion" },
        { "Name": "Seed", "Value": "7" },
        { "Name": "fast", "Value": "true" },
    ]);
    assert_eq!(request["PipelineParameters"], parameters);
    assert_eq!(row.state, State::Started);
    assert_eq!(row.start.run_arn.as_deref(), Some(arn.to_lowercase().as_str()));
    let started = world.published("ml.training.started.v1").await;
    assert!(started.iter().all(|event| event.id == started[0].id), "one event, however often");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_or_after_the_start_and_a_lost_answer_leave_one_execution() {
    let (world, stub) = world().await;
    world.claimed(&wanted("fit", "before")).await;
    assert!(world.queued(&wanted("fit", "before"), at(0)).await, "nobody waits");
    assert_eq!(stub.executions().len(), 1);

    assert!(world.queued(&wanted("fit", "after"), at(0)).await);
    world.forget_record("after").await;
    assert!(world.queued(&wanted("fit", "after"), at(0)).await);
    assert_eq!(world.row_of("after").await.state, State::Started);
    assert_eq!(stub.executions().len(), 2);

    stub.next_starts(&[Fault::AnswerLost]);
    assert!(world.queued(&wanted("fit", "lost"), at(0)).await, "the SDK asks again by its token");
    assert_eq!(stub.executions().len(), 3);

    world.claimed(&wanted("fit", "swept")).await;
    world.sweep_at(300).await;
    assert_eq!(world.row_of("swept").await.state, State::Started);
    assert_eq!(stub.executions().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_comes_back_and_what_does_not_is_put_aside() {
    let (world, stub) = world().await;
    let event = wanted("fit", "e-1");
    stub.next_starts(&[Fault::Throttled; 3]);
    assert!(!world.queued(&event, at(0)).await, "it comes back");
    stub.next_starts(&[Fault::Refused("ResourceLimitExceeded")]);
    assert!(!world.queued(&event, at(0)).await);
    world.assert_no_dead_letter().await;
    assert!(world.queued(&event, at(0)).await);
    assert_eq!(stub.executions().len(), 1);

    // Somebody has used the token with other parameters.
    let start = world.claimed(&wanted("fit", "e-2")).await;
    let other = aws_sdk_sagemaker::types::Parameter::builder().name("Seed").value("8").build();
    let taken = world.clients.sagemaker.start_pipeline_execution().pipeline_name(PIPELINE);
    let taken = taken.pipeline_parameters(other).client_request_token(start.start_key.as_str());
    taken.send().await.unwrap();
    for (what, id) in [("fit", "e-2"), ("gone", "e-3")] {
        assert!(world.queued(&wanted(what, id), at(0)).await);
        let letter = world.dead_letter().await;
        assert_eq!(letter.reason, DeadReason::StartRefused);
        assert!(letter.trigger.unwrap().starts_with("fit"));
        assert_eq!(world.row_of(id).await.state, State::Refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_is_no_parameter_is_put_aside() {
    let (world, stub) = world().await;
    let event = wanted("fit", "e-1").with_payload(&json!({ "seed": [1, 2] }));
    assert!(world.queued(&event, at(0)).await);
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::InvalidInput);
    assert!(letter.message.contains("/Seed"), "{}", letter.message);
    assert_eq!(stub.executions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_end_closes_the_row_whoever_tells_of_it_and_is_one_event() {
    let (world, stub) = world().await;
    for id in ["told", "lost", "gone"] {
        assert!(world.queued(&wanted("fit", id), at(0)).await);
    }
    let row = world.row_of("told").await;
    // EventBridge may write the ARN as the pipeline was named, or in lower case.
    let arn = stub.executions()[0].0.clone();
    let told = event_of(&ended(&arn, "Succeeded"), &row);
    assert!(world.queued(&told, at(1)).await);
    assert_eq!(world.row_of("told").await.state, State::Completed);

    let row = world.row_of("lost").await;
    let arn = row.start.run_arn.clone().unwrap();
    world.sweep_at(3_700).await;
    assert_eq!(world.published("ml.training.failed.v1").await.len(), 0, "they run");
    stub.end_all("Failed", "FAILED");
    world.sweep_at(7_500).await;
    let published = world.published("ml.training.failed.v1").await;
    let lost = published.iter().find(|event| event.subject.as_ref() == Some(&arn)).unwrap();
    let event_bridges = event_of(&ended(&arn, "Failed"), &row);
    assert_eq!((&lost.id, &lost.source), (&event_bridges.id, &event_bridges.source));
    let end = world.row_of("lost").await.end.unwrap();
    assert_eq!((end.status.as_str(), end.cause.as_deref()), ("Failed", Some("the stub's own")));
    assert_eq!(end.duration_s, Some(10.0));

    world.forget_record("gone").await;
    assert!(world.queued(&wanted("fit", "gone"), at(0)).await);
    stub.forget_all();
    world.sweep_at(7_500).await;
    let gone = world.row_of("gone").await;
    assert_eq!((gone.state, gone.end.unwrap().status.as_str()), (State::Failed, "UNKNOWN"));
}
