//! The way of one deploy, from nothing to nothing.

use std::time::Instant;

use aws_sdk_dynamodb::types::AttributeValue;
use bellwire_infra::plan::{Action, Plan};
use bellwire_infra::resource::{Kind, ResourceId};

use crate::world::{WORKFLOW, World};

/// The ingest queue holds the test event that S3 sends when it is told of it.
const INGEST: &str = "wine-ingest";

pub(crate) fn step_of(plan: &Plan, kind: Kind, name: &str) -> Option<Action> {
    let id = ResourceId::new(kind, name);
    plan.steps.iter().find(|step| step.id == id).map(|step| step.action)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_after_an_apply_changes_nothing_and_destroy_leaves_nothing() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;

    let began = Instant::now();
    let plan = world.apply(&provisioner).await;
    println!("first apply: {} steps in {:?}", plan.steps.len(), began.elapsed());
    assert_eq!(plan.count(Action::Create), plan.steps.len());

    let began = Instant::now();
    let (again, _) = world.plan(&provisioner).await;
    println!("no-change plan in {:?}", began.elapsed());
    assert!(again.is_empty(), "{again}");
    assert_eq!(again.unchanged.len(), plan.steps.len());

    let outputs = provisioner.outputs().await.expect("outputs");
    assert_eq!(outputs.resources, plan.steps.len());
    assert_eq!(outputs.topic_arn.as_deref(), Some("arn:aws:sns:us-east-1:000000000000:wine"));

    let destroyed = world.destroy(&provisioner, &[INGEST]).await;
    assert!(destroyed.kept.is_empty(), "{destroyed}");
    let left = provisioner.plan_destroy(&[]).await.expect("planned");
    assert!(left.is_empty() && left.kept.is_empty(), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_code_is_published_and_the_alias_moved() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 2\n");
    let plan = world.apply(&provisioner).await;
    assert_eq!(plan.steps.len(), 2, "{plan}");
    assert_eq!(step_of(&plan, Kind::Function, "wine-worker"), Some(Action::Update));
    assert_eq!(step_of(&plan, Kind::Alias, "wine-worker:live"), Some(Action::Update));
    let lambda = aws_sdk_lambda::Client::new(&world.config);
    let alias = lambda.get_alias().function_name("wine-worker").name("live").send().await;
    assert_eq!(alias.expect("there").function_version(), Some("2"));
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_no_longer_says_is_deleted() {
    let world = World::new().await;
    world.apply(&world.provisioner(WORKFLOW).await).await;
    let (without_predict, _) =
        WORKFLOW.split_once("[[trigger]]\nname = \"predict\"").expect("there");
    let fewer = format!("{without_predict}\n[handler]\nartifact = \"handler.zip\"\n");
    let provisioner = world.provisioner(&fewer).await;
    let plan = world.apply(&provisioner).await;
    assert_eq!(step_of(&plan, Kind::StateMachine, "wine-predict"), Some(Action::Delete), "{plan}");
    assert_eq!(step_of(&plan, Kind::Role, "wine-predict"), Some(Action::Delete), "{plan}");
    assert_eq!(step_of(&plan, Kind::Role, "wine-handler"), Some(Action::Update), "{plan}");
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_only_where_it_is_named() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    let s3 = aws_sdk_s3::Client::new(&world.config);
    for body in ["one", "two"] {
        let put = s3
            .put_object()
            .bucket("wine-lake")
            .key("models/m")
            .body(body.as_bytes().to_vec().into());
        put.send().await.expect("put");
    }
    s3.delete_object().bucket("wine-lake").key("models/m").send().await.expect("a delete marker");
    let dynamodb = aws_sdk_dynamodb::Client::new(&world.config);
    let row = dynamodb.put_item().table_name("wine-ledger");
    row.item("pk", AttributeValue::S("start#1".to_owned())).send().await.expect("put");

    let plan = world.destroy(&provisioner, &[]).await;
    let kept: Vec<&str> = plan.kept.iter().map(|kept| kept.id.name.as_str()).collect();
    assert_eq!(kept, [INGEST, "wine-lake", "wine-ledger"], "{plan}");
    let left = provisioner.plan_destroy(&[]).await.expect("planned");
    assert!(left.is_empty(), "{left}");
    assert_eq!(left.kept.len(), 3, "{left}");
    s3.head_bucket().bucket("wine-lake").send().await.expect("still there");

    // What was kept is taken up again.
    let again = world.apply(&provisioner).await;
    assert_eq!(step_of(&again, Kind::Table, "wine-ledger"), None, "{again}");

    let all = [INGEST, "wine-lake", "wine-ledger"];
    let plan = world.destroy(&provisioner, &all).await;
    assert!(plan.kept.is_empty(), "{plan}");
    let left = provisioner.plan_destroy(&[]).await.expect("planned");
    assert!(left.is_empty() && left.kept.is_empty(), "{left}");
}
