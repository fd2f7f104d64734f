//! A deploy that proves itself: a probe through the topic, the filter and the real
//! handler; and what becomes of one whose handler does not work.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_config::SdkConfig;
use bellwire_infra::inputs::{self, Inputs};
use bellwire_infra::plan::Plan;
use bellwire_infra::prove::{Proof, Trial};
use bellwire_infra::{Provisioner, resource::Kind};
use bellwire_local::LocalCloud;
use bellwire_schema::workflow;

use crate::world::config_at;

const WORKFLOW: &str = r#"
workflow = "proof"
[topic]
kind = "KIND"
[handler]
delivery = "DELIVERY"
ARTIFACT
[[source]]
name = "requests"
kind = "http"
emits = "collection.requested"
[[subscriber]]
name = "all"
protocol = "sqs"
endpoint = "arn:aws:sqs:us-east-1:000000000000:HEARD"
[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
where = { dataset = ["wine"], source = [{ prefix = "/app" }] }
start = { step-functions = "pass.asl.json" }
"#;

const DEFINITION: &str = r#"{"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}"#;

struct World {
    _cloud: LocalCloud,
    folder: PathBuf,
    config: SdkConfig,
}

impl World {
    async fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("prove-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pass.asl.json"), DEFINITION).unwrap();
        let cloud = LocalCloud::for_tests();
        let config = config_at(cloud.endpoint_url(), cloud.region()).await;
        Self { _cloud: cloud, folder, config }
    }

    /// The real handler, which `cargo xtask build --profile dev` makes.
    fn artifacts() -> PathBuf {
        std::env::current_exe().unwrap().ancestors().nth(4).unwrap().to_owned()
    }

    /// One that ends as soon as it is started.
    fn broken_artifact(&self) -> String {
        use std::io::Write as _;
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file("bootstrap", options).unwrap();
        zip.write_all(b"#!/bin/sh\nexit 1\n").unwrap();
        let path = self.folder.join("broken.zip");
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        format!("artifact = \"{}\"", path.strip_prefix(Self::artifacts()).unwrap().display())
    }

    async fn planned(
        &self,
        kind: &str,
        delivery: &str,
        artifact: &str,
    ) -> (Provisioner, Plan, Inputs) {
        let heard = if kind == "fifo" { "heard.fifo" } else { "heard" };
        let text = WORKFLOW.replace("KIND", kind).replace("DELIVERY", delivery);
        let text = text.replace("HEARD", heard).replace("ARTIFACT", artifact);
        let workflow = workflow::read(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let provisioner = Provisioner::connect(&self.config, workflow, None).await.unwrap();
        let inputs = inputs::read(provisioner.workflow(), &Self::artifacts(), &self.folder);
        let inputs = inputs.unwrap_or_else(|problems| panic!("run `cargo xtask test`: {problems}"));
        let plan = provisioner.plan(&inputs).await.unwrap_or_else(|error| panic!("{error}"));
        (provisioner, plan, inputs)
    }

    async fn applied(&self, kind: &str, delivery: &str, artifact: &str) -> (Provisioner, Plan) {
        let (provisioner, plan, inputs) = self.planned(kind, delivery, artifact).await;
        let stop = AtomicBool::new(false);
        let applied = provisioner.apply(&plan, &inputs.code, "the test", &|_| {}, &stop).await;
        applied.unwrap_or_else(|error| panic!("{error}\n{plan}"));
        (provisioner, plan)
    }

    /// The first message that a subscriber of everything has.
    async fn heard(&self, queue: &str) -> String {
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let url = sqs.get_queue_url().queue_name(queue).send().await.unwrap().queue_url.unwrap();
        let message = sqs.receive_message().queue_url(url).wait_time_seconds(20).send().await;
        message.unwrap().messages.expect("one")[0].body.clone().unwrap()
    }

    async fn publish_a_failure(&self, provisioner: &Provisioner, kind: &str) {
        let owner = provisioner.owner();
        let suffix = if kind == "fifo" { ".fifo" } else { "" };
        let topic = owner.place.topic_arn(&format!("proof{suffix}"));
        let event_type = aws_sdk_sns::types::MessageAttributeValue::builder();
        let event_type = event_type.data_type("String").string_value("ml.training.failed.v1");
        let sns = aws_sdk_sns::Client::new(&self.config);
        let mut publish = sns.publish().topic_arn(topic);
        publish = publish.message(r#"{"type": "ml.training.failed.v1"}"#);
        publish = publish.message_attributes("type", event_type.build().unwrap());
        if kind == "fifo" {
            publish = publish.message_group_id("one").message_deduplication_id("one");
        }
        publish.send().await.unwrap();
    }

    /// A queue that SNS may send to.
    async fn make_queue(&self, name: &str) {
        use aws_sdk_sqs::types::QueueAttributeName as Name;

        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"*"}]}"#;
        let sqs = aws_sdk_sqs::Client::new(&self.config);
        let mut create = sqs.create_queue().queue_name(name).attributes(Name::Policy, policy);
        if name.ends_with(".fifo") {
            create = create.attributes(Name::FifoQueue, "true");
        }
        create.send().await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn trial(name: &str, within_s: u64) -> Trial {
    let within = Duration::from_secs(within_s);
    Trial { name: name.to_owned(), within, within_after_filter: within }
}

async fn assert_proven(provisioner: &Provisioner, plan: &Plan, name: &str) -> String {
    match provisioner.prove(plan, &trial(name, 60)).await.unwrap() {
        Proof::Proven { version, .. } => version,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_comes_through_to_the_handler_and_to_nobody_else() {
    for (kind, delivery) in [("standard", "direct"), ("fifo", "queued")] {
        let world = World::new(kind).await;
        let queue = if kind == "fifo" { "heard.fifo" } else { "heard" };
        world.make_queue(queue).await;
        let (provisioner, plan) = world.applied(kind, delivery, "").await;
        assert_eq!(assert_proven(&provisioner, &plan, "one").await, "1", "{kind}");
        // A second proof is one of its own, although nothing was changed.
        let (provisioner, plan, _) = world.planned(kind, delivery, "").await;
        assert!(plan.is_empty(), "{plan}");
        assert_proven(&provisioner, &plan, "two").await;

        // What is published after the probes is heard, and alone.
        world.publish_a_failure(&provisioner, kind).await;
        let heard = world.heard(queue).await;
        assert!(heard.contains("ml.training.failed.v1"), "a probe was heard: {heard}");
        let ledger = aws_sdk_dynamodb::Client::new(&world.config);
        let rows = ledger.scan().table_name("proof-ledger").send().await.unwrap();
        let keys = rows.items().iter().map(|row| row["pk"].as_s().unwrap().as_str());
        let others: Vec<&str> = keys.filter(|key| !key.starts_with("probe#")).collect();
        assert_eq!(others, ["record#apply"], "it starts nothing");
        // Nor does it keep a destruction from the ledger.
        let destruction = provisioner.plan_destroy(&[]).await.unwrap();
        assert!(!destruction.kept.iter().any(|kept| kept.id.kind == Kind::Table), "{destruction}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_work_is_not_proven_and_what_served_before_serves_again() {
    let world = World::new("broken").await;
    world.make_queue("heard").await;
    world.applied("standard", "direct", "").await;
    let broken = world.broken_artifact();
    let (provisioner, plan) = world.applied("standard", "direct", &broken).await;
    let proof = provisioner.prove(&plan, &trial("three", 3)).await.unwrap();
    let Proof::Failed { other_version: None, .. } = proof else { panic!("{proof}") };

    let rollback = provisioner.plan_rollback(&[]).await.unwrap();
    provisioner.roll_back(&rollback, "the test").await.unwrap();
    let mut nothing = world.planned("standard", "direct", "").await.1;
    nothing.steps.clear();
    assert_eq!(assert_proven(&provisioner, &nothing, "four").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_through_a_new_filter_is_unproven_and_not_failed() {
    let world = World::new("filter").await;
    world.make_queue("heard").await;
    let broken = world.broken_artifact();
    let (provisioner, plan) = world.applied("standard", "direct", &broken).await;
    let proof = provisioner.prove(&plan, &trial("five", 2)).await.unwrap();
    assert!(matches!(proof, Proof::Unproven { .. }), "{proof}");
}
