//! Interruptions, failures, and others at the same time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sts::config::Credentials;
use bellwire_infra::apply::{ApplyError, Event};
use bellwire_infra::inputs::Code;
use bellwire_infra::resource::{Kind, ResourceId};
use bellwire_infra::{Cause, PlaceError, ProvisionError, Provisioner};
use bellwire_schema::workflow;

use crate::world::{WORKFLOW, World, execute};

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_was_stopped_anywhere_is_finished_by_the_next() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let mut stops = 0;
    loop {
        let (plan, code) = world.plan(&provisioner).await;
        // Stopped at its first step; what is under way then still ends.
        let stop = AtomicBool::new(false);
        let progress = |event: &Event<'_>| {
            if matches!(event, Event::Done { .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        match provisioner.apply(&plan, &code, "the test", &progress, &stop).await {
            Err(ApplyError::Stopped { done, left }) => {
                assert_eq!(done + left.len(), plan.steps.len());
                stops += 1;
            }
            result => {
                result.expect("the last of it");
                break;
            }
        }
    }
    assert!(stops > 1, "it was stopped {stops} times");
    let (again, _) = world.plan(&provisioner).await;
    assert!(again.is_empty(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_depend_on_a_failed_step_goes_on() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let (mut plan, _) = world.plan(&provisioner).await;
    // Without any code both functions fail: before all others, so that all others
    // are still to be done.
    plan.steps.sort_by_key(|step| step.id.kind != Kind::Function);
    for step in plan.steps.iter_mut().filter(|step| step.id.kind == Kind::Function) {
        step.after.clear();
    }
    let mut hopeless: BTreeSet<ResourceId> = BTreeSet::new();
    for step in &plan.steps {
        if step.id.kind == Kind::Function || step.after.iter().any(|id| hopeless.contains(id)) {
            hopeless.insert(step.id.clone());
        }
    }
    let result = execute(&provisioner, &plan, &Code::default()).await;
    let Err(ApplyError::Failed { failures, left }) = result else { panic!("{result:?}") };
    let mut failed: Vec<String> = failures.iter().map(|failure| failure.id.to_string()).collect();
    failed.sort();
    assert_eq!(failed, ["lambda function wine-handler", "lambda function wine-worker"]);
    let undone: BTreeSet<ResourceId> =
        left.iter().chain(failures.iter().map(|failure| &failure.id)).cloned().collect();
    assert_eq!(undone, hopeless);
    let text = ApplyError::Failed { failures, left }.to_string();
    assert!(
        text.contains("create lambda function wine-worker") && text.contains("apply again"),
        "{text}"
    );
    let outputs = provisioner.outputs().await.expect("outputs");
    assert_eq!(outputs.resources + undone.len(), plan.steps.len());

    world.apply(&provisioner).await;
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_first_applies_at_once_make_everything_once() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let (plan, code) = world.plan(&provisioner).await;
    let (one, other) =
        futures::join!(execute(&provisioner, &plan, &code), execute(&provisioner, &plan, &code));
    for result in [one, other] {
        let is_second =
            |error: &ApplyError| matches!(error, ApplyError::Held { .. } | ApplyError::Outdated);
        assert!(result.as_ref().err().is_none_or(is_second), "{result:?}");
    }
    let (again, _) = world.plan(&provisioner).await;
    assert!(again.is_empty(), "{again}");
    assert_eq!(again.unchanged.len(), plan.steps.len());
}

fn epoch_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

async fn put_lease(dynamodb: &aws_sdk_dynamodb::Client, expires_at: u64) {
    let put = dynamodb.put_item().table_name("wine-ledger");
    let put = put.item("pk", AttributeValue::S("lease#apply".to_owned()));
    let put = put.item("holder", AttributeValue::S("ann on laptop".to_owned()));
    let put = put.item("expires_at", AttributeValue::N(expires_at.to_string()));
    put.send().await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_renewed_holds_others_back_and_a_dead_one_does_not() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    world.apply(&provisioner).await;
    world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 2\n");
    let (plan, code) = world.plan(&provisioner).await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&world.config);

    put_lease(&dynamodb, epoch_s() + 1_000).await;
    let renewals = async {
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        for later in 1_001.. {
            interval.tick().await;
            put_lease(&dynamodb, epoch_s() + later).await;
        }
    };
    tokio::select! {
        result = execute(&provisioner, &plan, &code) => {
            let Err(ApplyError::Held { holder }) = result else { panic!("{result:?}") };
            assert_eq!(holder, "ann on laptop");
        }
        () = renewals => unreachable!("they go on for ever"),
    }
    assert!(!world.plan(&provisioner).await.0.is_empty(), "nothing was changed");

    put_lease(&dynamodb, epoch_s() + 1).await;
    execute(&provisioner, &plan, &code).await.expect("the lease expires");
    assert!(world.plan(&provisioner).await.0.is_empty());
    let lease = dynamodb.get_item().table_name("wine-ledger");
    let lease = lease.key("pk", AttributeValue::S("lease#apply".to_owned())).send().await;
    assert!(lease.expect("read").item().is_none(), "the lease is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_call_names_its_action_and_resource() {
    let world = World::new().await;
    let iam = aws_sdk_iam::Client::new(&world.config);
    iam.create_user().user_name("ann").send().await.expect("created");
    let key = iam.create_access_key().user_name("ann").send().await.expect("created");
    let key = key.access_key().expect("a key");
    let credentials =
        Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "test");
    let config = world
        .config
        .to_builder()
        .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(credentials))
        .build();
    let workflow = workflow::read(WORKFLOW).expect("sound");
    let connected = Provisioner::connect(&config, workflow, None).await;
    let error = match connected {
        Ok(provisioner) => world.try_plan(&provisioner).await.expect_err("denied"),
        Err(error) => error,
    };
    let (ProvisionError::Call(call) | ProvisionError::Place(PlaceError::Call(call))) = &error
    else {
        panic!("{error}")
    };
    assert!(matches!(call.cause, Cause::Denied { .. }), "{error}");
    assert!(error.to_string().contains(&format!("allow {}", call.action)), "{error}");
}
