//! Jobs of AWS Batch, which takes every name twice: the lease, and the look by name.

use bellwire_ledger::State;
use bellwire_schema::dead_letter::DeadReason;
use serde_json::{Value, json};

use super::{LEASE_OVER_S, at, event_of, wanted, workflow, world};
use crate::counts::counting;
use crate::stub::Fault;

fn ended(run_arn: &str, status: &str) -> Value {
    json!({
        "detail-type": "Batch Job State Change", "source": "aws.batch",
        "detail": {
            "jobArn": run_arn, "jobId": run_arn.rsplit('/').next(), "status": status,
            "jobQueue": "arn:aws:batch:us-east-1:000000000000:job-queue/gpu",
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_its_parameters_and_its_input_in_its_environment() {
    let (world, stub) = world().await;
    assert!(world.queued(&wanted("score", "e-1"), at(0)).await);
    let jobs = stub.jobs();
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    let row = world.only_row().await;
    let place = "arn:aws:batch:us-east-1:000000000000";
    assert_eq!(job.request["jobQueue"], format!("{place}:job-queue/gpu"));
    assert_eq!(job.request["jobDefinition"], format!("{place}:job-definition/score:3"));
    assert_eq!(job.request["jobName"], format!("score-{}", row.start.start_key));
    assert_eq!(job.request["parameters"]["dataset"], "wine");
    assert_eq!(job.request["parameters"]["id"], "e-1");
    assert_eq!(job.request["parameters"].get("data"), None, "it is no single value");
    let variables = job.request["containerOverrides"]["environment"].as_array().unwrap();
    let variable = |name: &str| {
        let found = variables.iter().find(|one| one["name"] == name).unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(variable("BELLWIRE_START_KEY"), row.start.start_key.as_str());
    assert_eq!(Some(variable("TRACEPARENT")), row.start.context.traceparent);
    let input: Value = serde_json::from_str(&variable("BELLWIRE_INPUT")).unwrap();
    assert_eq!(input["data"]["key"], "raw/a.csv");
    assert_eq!(input["bellwire"]["start_key"], row.start.start_key.as_str());
    assert_eq!((row.state, row.start.run_arn.as_ref()), (State::Started, Some(&job.arn)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_side_by_side_one_submits_and_those_in_between_come_back() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    let done = world.queued_side_by_side(&event, 10).await;
    assert!(done >= 1, "who submitted is done");
    assert_eq!(stub.jobs().len(), 1);
    assert!(world.queued(&event, at(1)).await, "it is known by now");
    assert_eq!(stub.jobs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_it_submits_keeps_others_away_until_its_lease_is_over() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    world.claimed(&event).await;
    for moment in [at(0), at(60), at(85)] {
        assert!(!world.queued(&event, moment).await, "it comes back");
        assert_eq!(stub.jobs().len(), 0);
    }
    world.assert_no_dead_letter().await;
    assert!(world.queued(&event, at(LEASE_OVER_S)).await);
    assert_eq!((stub.jobs().len(), stub.count_of("listjobs")), (1, 1), "it was looked for");
    assert_eq!(world.only_row().await.state, State::Started);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_not_recorded_is_found_by_its_name() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    assert!(world.queued(&event, at(0)).await);
    world.forget_record("e-1").await;
    assert!(!world.queued(&event, at(1)).await);
    // A name of another case is another start's.
    let other = world
        .clients
        .batch
        .submit_job()
        .job_queue("arn:aws:batch:us-east-1:000000000000:job-queue/gpu");
    let name = format!("SCORE-{}", world.only_row().await.start.start_key);
    other.job_definition("score:3").job_name(name).send().await.unwrap();
    stub.end_all("Succeeded", "SUCCEEDED");
    assert!(world.queued(&event, at(LEASE_OVER_S)).await);
    assert_eq!(stub.count_of("submitjob"), 2, "none was submitted again");
    let row = world.only_row().await;
    assert_eq!(
        (row.state, row.start.run_arn.as_ref()),
        (State::Started, Some(&stub.jobs()[0].arn))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_not_asked_for_again_by_a_second_job() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    stub.next_starts(&[Fault::AnswerLost]);
    assert!(!world.queued(&event, at(0)).await);
    assert_eq!(stub.count_of("submitjob"), 1, "the SDK must not repeat it");
    world.sweep_at(300).await;
    assert_eq!(stub.jobs().len(), 1);
    assert_eq!(world.only_row().await.state, State::Started);
    assert_eq!(world.published("ml.prediction.started.v1").await.len(), 1);
}

/// What is left of the window: Batch itself does not show yet what it accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_batch_does_not_show_after_a_whole_lease_is_submitted_twice() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    stub.hide_new_jobs();
    assert!(world.queued(&event, at(0)).await);
    world.forget_record("e-1").await;
    assert!(world.queued(&event, at(LEASE_OVER_S)).await);
    assert_eq!(stub.jobs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_batch_refuses_is_put_aside_and_what_passes_comes_back() {
    let (world, stub) = world().await;
    let event = wanted("score", "e-1");
    stub.next_starts(&[Fault::Throttled]);
    assert!(!world.queued(&event, at(0)).await);
    world.assert_no_dead_letter().await;
    stub.next_starts(&[Fault::Refused("ClientException")]);
    assert!(world.queued(&event, at(LEASE_OVER_S)).await);
    let letter = world.dead_letter().await;
    assert_eq!(letter.reason, DeadReason::StartRefused);
    assert_eq!(letter.trigger.as_deref(), Some("score"));
    assert_eq!(letter.body().unwrap(), event.to_json().as_bytes());
    assert_eq!(world.only_row().await.state, State::Refused);
    assert!(world.queued(&event, at(1_000)).await);
    assert_eq!(stub.jobs().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_end_closes_the_row_whoever_tells_of_it_and_is_one_event() {
    let (world, stub) = world().await;
    for id in ["told", "lost"] {
        assert!(world.queued(&wanted("score", id), at(0)).await);
    }
    let row = world.row_of("told").await;
    let told = event_of(&ended(row.start.run_arn.as_deref().unwrap(), "SUCCEEDED"), &row);
    assert!(world.queued(&told, at(1)).await);
    assert_eq!(world.row_of("told").await.state, State::Completed);

    let row = world.row_of("lost").await;
    let arn = row.start.run_arn.clone().unwrap();
    world.sweep_at(3_700).await;
    assert_eq!(world.published("ml.prediction.failed.v1").await.len(), 0, "it runs");
    stub.end_all("Failed", "FAILED");
    world.sweep_at(7_500).await;
    let published = world.published("ml.prediction.failed.v1").await;
    let [lost] = &published[..] else { panic!("{published:?}") };
    let event_bridges = event_of(&ended(&arn, "FAILED"), &row);
    assert_eq!((&lost.id, &lost.source), (&event_bridges.id, &event_bridges.source));
    let end = world.row_of("lost").await.end.unwrap();
    assert_eq!(end.cause.as_deref(), Some("Essential container in task exited: OutOfMemoryError"));
}

/// AWS has no metric of it, so that the alarm has only the handler's.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_is_counted_and_one_that_did_not_is_not() {
    let (world, stub) = world().await;
    let (handler, lines) = counting(world.another_handler(&workflow()));
    let sweep = json!({ "bellwire": "sweep" });
    for (id, status, counted) in [("e-1", "SUCCEEDED", 0), ("e-2", "FAILED", 1)] {
        assert!(world.queued(&wanted("score", id), at(0)).await);
        stub.end_all("Succeeded", status);
        handler.handle(&sweep, at(3_700)).await.unwrap();
        let lines = lines.lock().unwrap().clone();
        assert_eq!(lines.len(), counted, "{status}: {lines:?}");
        assert!(lines.iter().all(|line| line["Trigger"] == "score" && line["RunsFailed"] == 1));
    }
}
