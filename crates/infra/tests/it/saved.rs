//! A plan is applied as it was shown, or not at all.

use bellwire_infra::apply::ApplyError;
use bellwire_infra::plan::Plan;
use bellwire_infra::saved::{SavedPlan, SavedPlanError};

use crate::world::{WORKFLOW, World, execute};

/// As it comes back from disk.
fn saved(plan: &Plan) -> SavedPlan {
    let text = serde_json::to_string(&SavedPlan::of(plan, &[], None)).expect("written");
    serde_json::from_str(&text).expect("read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_is_refused_once_the_world_has_moved() {
    let world = World::new().await;
    let secret = format!("{WORKFLOW}environment = {{ TOKEN = \"hush\" }}\n");
    let provisioner = world.provisioner(&secret).await;
    let (plan, code) = world.plan(&provisioner).await;
    let first = saved(&plan);
    let text = serde_json::to_string(&first).expect("written");
    assert!(!text.contains("hush"), "a secret on disk");
    first.check(&world.plan(&provisioner).await.0).expect("nothing has moved");

    // Something is there that was to be made, and an artifact is another one.
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let tags = provisioner.owner().tags();
    let queue = sqs.create_queue().queue_name("wine-dead");
    queue.set_tags(Some(tags.into_iter().collect())).send().await.expect("created");
    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 2\n");
    let moved = first.check(&world.plan(&provisioner).await.0).expect_err("it has moved");
    let text = moved.to_string();
    assert!(text.contains("sqs queue wine-dead: was to create, and would update now"), "{text}");
    let worker = "lambda function wine-worker: would create otherwise than was shown";
    assert!(text.contains(worker), "{text}");
    let SavedPlanError::Moved { moved } = moved else { panic!("{text}") };
    assert_eq!(moved.len(), 3, "the function's alias too: {text}");

    // Elsewhere it is refused as a whole.
    let production = world.provisioner_of(&secret, Some("prod")).await;
    let error = first.check(&world.plan(&production).await.0).expect_err("elsewhere");
    assert!(error.to_string().contains("environment none, and this is"), "{error}");

    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 1\n");
    sqs.delete_queue()
        .queue_url(
            sqs.get_queue_url().queue_name("wine-dead").send().await.unwrap().queue_url().unwrap(),
        )
        .send()
        .await
        .expect("deleted");
    first.check(&world.plan(&provisioner).await.0).expect("it is as it was");
    execute(&provisioner, &plan, &code).await.expect("applied");
    let error = first.check(&world.plan(&provisioner).await.0).expect_err("it was applied");
    assert!(error.to_string().contains("is as it should be now"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_after_another_one_does_not_go_by_an_older_plan() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 2\n");
    let (older, older_code) = world.plan(&provisioner).await;
    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 3\n");
    world.apply(&provisioner).await;

    let result = execute(&provisioner, &older, &older_code).await;
    assert!(matches!(result, Err(ApplyError::Outdated)), "{result:?}");
    assert!(world.plan(&provisioner).await.0.is_empty(), "the newer one stays");
}
