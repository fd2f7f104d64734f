//! Back to the versions that served before.

use bellwire_infra::Provisioner;
use bellwire_infra::resource::Kind;
use bellwire_infra::rollback::{Rollback, RollbackError};

use crate::world::{WORKFLOW, World};

const MORE_MEMORY: &str = "artifact = \"worker.zip\"\nmemory_mb = 2048";

async fn served(world: &World, function: &str) -> (String, i32) {
    let lambda = aws_sdk_lambda::Client::new(&world.config);
    let alias = lambda.get_function_configuration().function_name(function).qualifier("live");
    let found = alias.send().await.expect("there");
    (found.version().expect("a version").to_owned(), found.memory_size().expect("memory"))
}

async fn roll_back(provisioner: &Provisioner, functions: &[&str]) -> Rollback {
    let functions: Vec<String> = functions.iter().map(|name| (*name).to_owned()).collect();
    let rollback = provisioner.plan_rollback(&functions).await;
    let rollback = rollback.unwrap_or_else(|error| panic!("{error}"));
    provisioner.roll_back(&rollback, "the test").await.unwrap_or_else(|error| panic!("{error}"));
    rollback
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_of_what_the_last_apply_changed_with_its_configuration() {
    let world = World::new().await;
    let before = world.provisioner(WORKFLOW).await;
    let nothing = before.plan_rollback(&[]).await.expect_err("nothing was applied");
    assert!(matches!(nothing, RollbackError::NothingApplied), "{nothing}");
    world.apply(&before).await;
    let nothing = before.plan_rollback(&[]).await.expect_err("nothing served before");
    assert!(matches!(nothing, RollbackError::NothingMoved), "{nothing}");
    let handler = served(&world, "wine-handler").await;
    let first = served(&world, "wine-worker").await;

    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 2\n");
    let with_more = WORKFLOW.replace("artifact = \"worker.zip\"", MORE_MEMORY);
    let after = world.provisioner(&with_more).await;
    world.apply(&after).await;
    let second = served(&world, "wine-worker").await;
    assert_eq!((second.0.as_str(), second.1), ("2", 2048));

    let rollback = roll_back(&after, &[]).await;
    let text = rollback.to_string();
    assert!(text.contains("wine-worker   version 2 -> 1"), "{text}");
    assert!(text.contains("memory_mb: 2048 -> ") && text.contains("code "), "{text}");
    assert_eq!(served(&world, "wine-worker").await, first, "code and configuration");
    let drift = after.drift().await.expect("recorded");
    assert!(drift.is_empty(), "a rollback is no drift: {drift}");
    let nothing = after.plan_rollback(&[]).await.expect_err("it was done");
    assert!(matches!(nothing, RollbackError::NothingMoved), "{nothing}");

    // The next apply brings it back; further back goes only what is named.
    let (plan, _) = world.plan(&after).await;
    assert!(plan.steps.iter().all(|step| step.id.kind == Kind::Alias), "{plan}");
    world.apply(&after).await;
    assert_eq!(served(&world, "wine-worker").await, second);
    roll_back(&after, &["wine-worker"]).await;
    assert_eq!(served(&world, "wine-worker").await, first);
    let nothing = after.plan_rollback(&["wine-worker".to_owned()]).await.expect_err("the first");
    assert!(matches!(nothing, RollbackError::NoVersionBefore { .. }), "{nothing}");
    // What the last apply of the handler's had changed is nothing: it stayed all the time,
    // but for the workflow in its zip.
    assert_eq!(served(&world, "wine-handler").await.1, handler.1);
}
