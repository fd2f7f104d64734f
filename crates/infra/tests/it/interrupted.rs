//! Applies that are killed at a random call, each followed by one that is not: does that
//! one finish the work, whatever the first has left?
//!
//! ```text
//! nothing ─► the workflow ─► changed ─► the workflow again ─► nothing
//! ```
//!
//! Each way is gone once undisturbed: what there is then, is what there has to be after
//! each apply that follows an interrupted one on the same way. Beside it is what belongs
//! to others, which has to stay as it is all the time.
//!
//! `cargo xtask bench infra` runs it with 100 interrupted applies.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use bellwire_infra::Provisioner;
use bellwire_infra::inputs::Code;
use bellwire_infra::plan::Plan;
use fastrand::Rng;
use serde::Serialize;

use crate::everything::{Everything, everything};
use crate::wire::{Death, wire};
use crate::world::{WORKFLOW, World};

/// In the tests: each way twice.
const KILLS: u64 = 6;

const HOLDERS: [&str; 5] = ["wine-dead", "wine-ingest", "wine-lake", "wine-ledger", "wine-work"];

/// What `cargo xtask bench infra` reads.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Applies that were killed.
    killed: u64,
    /// Those after which one more apply left something to do, or failed.
    unconverged: Vec<String>,
    /// Lines of what there is that were there twice or too much, or not at all, after it.
    misplaced: Vec<String>,
    /// What is ours and was there after a destruction.
    owned_left: Vec<String>,
    /// What belongs to others and was not there at the end.
    foreign_gone: Vec<String>,
    wall_s: f64,
}

/// The workflow as it is first, on a bucket of ours and on one of others.
fn first() -> String {
    let more = "\n[[source]]\nname = \"more\"\nkind = \"s3\"\nbucket = \"their-lake\"\nprefix = \"more/\"\nemits = \"data.arrived\"\n";
    WORKFLOW.replacen("\n[[function]]", &format!("{more}\n[[function]]"), 1)
}

/// And as it is then: something of every kind comes, changes or goes.
fn second() -> String {
    let (before, _) = WORKFLOW.split_once("[[trigger]]\nname = \"predict\"").expect("there");
    let before = before.replace("artifact = \"worker.zip\"", "artifact = \"worker2.zip\"");
    format!(
        "{before}\n[handler]\nartifact = \"handler.zip\"\ndelivery = \"queued\"\nmemory_mb = 512\n\
         [[trigger]]\nname = \"again\"\nstage = \"prediction\"\non = \"training.failed\"\nstart = {{ step-functions = \"task.asl.json\" }}\n\
         [[subscriber]]\nname = \"on-call\"\nprotocol = \"email\"\nendpoint = \"ml@example.com\"\non = [\"training.failed\"]\n"
    )
}

/// What is not ours: a bucket with an object that tells a queue of theirs, and the same
/// workflow in another environment.
async fn make_theirs(world: &World) {
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:000000000000:etl"}]}"#;
    let queue = sqs.create_queue().queue_name("etl").attributes(QueueAttributeName::Policy, policy);
    queue.send().await.expect("created");
    let s3 = aws_sdk_s3::Client::new(&world.config);
    s3.create_bucket().bucket("their-lake").send().await.expect("created");
    let theirs = QueueConfiguration::builder().id("nightly-etl");
    let theirs = theirs.queue_arn("arn:aws:sqs:us-east-1:000000000000:etl");
    let theirs = theirs.events(Event::from("s3:ObjectRemoved:*")).build().expect("whole");
    let theirs = NotificationConfiguration::builder().queue_configurations(theirs).build();
    let put = s3.put_bucket_notification_configuration().bucket("their-lake");
    put.notification_configuration(theirs).send().await.expect("put");
    let others = WORKFLOW.replace("wine-lake", "prod-lake");
    world.apply(&world.provisioner_of(&others, Some("prod")).await).await;
}

/// One way to go.
struct Way {
    name: &'static str,
    provisioner: Provisioner,
    death: Arc<Death>,
    /// What there has to be at its end, and how many calls an apply takes to get there.
    end: Everything,
    calls: u64,
}

impl Way {
    async fn new(world: &World, name: &'static str, workflow: &str) -> Self {
        let death = Arc::new(Death::default());
        let config = world.config.to_builder().http_client(wire(&death)).build();
        let provisioner = world.provisioner_with(&config, workflow).await;
        Self { name, provisioner, death, end: Everything::new(), calls: 0 }
    }

    /// Goes it undisturbed, to see what there has to be.
    async fn go(&mut self, world: &World) {
        let (plan, code) = world.plan(&self.provisioner).await;
        self.death.at(0, false);
        self.apply(&plan, &code).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.calls = self.death.calls.load(Ordering::SeqCst);
        self.end = everything(&world.config).await;
    }

    async fn apply(&self, plan: &Plan, code: &Code) -> Result<(), String> {
        let stop = AtomicBool::new(false);
        let applied = self.provisioner.apply(plan, code, "the test", &|_| {}, &stop).await;
        applied.map(drop).map_err(|error| error.to_string())
    }

    /// Goes it, killed at this call; whether it was.
    async fn go_to_death(&self, world: &World, call: u64, is_done: bool) -> bool {
        let (plan, code) = world.plan(&self.provisioner).await;
        self.death.at(call, is_done);
        let is_killed = tokio::select! {
            biased;
            () = self.death.bell.notified() => true,
            _ = self.apply(&plan, &code) => false,
        };
        self.death.at(0, false);
        is_killed
    }

    /// Goes the rest, and compares.
    async fn finish(&self, world: &World, report: &mut Report, context: &str) {
        outlive_the_lease(world).await;
        let (plan, code) = world.plan(&self.provisioner).await;
        let applied = self.apply(&plan, &code).await;
        let (left, _) = world.plan(&self.provisioner).await;
        if applied.is_err() || !left.is_settled() {
            report.unconverged.push(format!("{context}: {applied:?}\n{left}"));
        }
        let now = everything(&world.config).await;
        let lines: BTreeSet<&String> = now.keys().chain(self.end.keys()).collect();
        let misplaced = lines.into_iter().filter(|line| now.get(*line) != self.end.get(*line));
        let how = |line: &String| {
            format!("{context}: {line}: {:?}, not {:?}", now.get(line), self.end.get(line))
        };
        report.misplaced.extend(misplaced.map(how));
    }
}

/// Half a minute later: nobody renews a dead apply's lease.
async fn outlive_the_lease(world: &World) {
    let update = aws_sdk_dynamodb::Client::new(&world.config).update_item();
    let update = update.table_name("wine-ledger");
    let update = update.key("pk", AttributeValue::S("lease#apply".to_owned()));
    let update = update.update_expression("SET expires_at = :past");
    let update = update.condition_expression("attribute_exists(pk)");
    // There may be no lease, and no table.
    let _ =
        update.expression_attribute_values(":past", AttributeValue::N("1".to_owned())).send().await;
}

async fn destroy(
    world: &World,
    provisioner: &Provisioner,
    before: &Everything,
    report: &mut Report,
) {
    world.destroy(provisioner, &HOLDERS).await;
    let now = everything(&world.config).await;
    report.owned_left.extend(now.keys().filter(|line| !before.contains_key(*line)).cloned());
    report.foreign_gone.extend(before.keys().filter(|line| !now.contains_key(*line)).cloned());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_was_killed_at_any_call_is_finished_by_the_next() {
    let variable = |name: &str| std::env::var(name).ok();
    let kills = variable("BELLWIRE_INFRA_KILLS").and_then(|text| text.parse().ok());
    let kills: u64 = kills.unwrap_or(KILLS);
    let seed = variable("BELLWIRE_INFRA_SEED").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut random = Rng::with_seed(seed);
    let (began, world) = (Instant::now(), World::new().await);
    world.write_artifact("worker2.zip", b"#!/bin/sh\n# worker 2\n");
    make_theirs(&world).await;
    let theirs = everything(&world.config).await;
    let (first, second) = (first(), second());
    let mut ways = [
        Way::new(&world, "the first apply", &first).await,
        Way::new(&world, "a change", &second).await,
        Way::new(&world, "the way back", &first).await,
    ];
    let mut report = Report::default();
    for way in &mut ways {
        way.go(&world).await;
    }
    destroy(&world, &ways[2].provisioner, &theirs, &mut report).await;
    while report.killed < kills {
        for way in &ways {
            let (call, is_done) = (random.u64(1..=way.calls), random.bool());
            let is_killed = way.go_to_death(&world, call, is_done).await;
            report.killed += u64::from(is_killed);
            let context = format!("{}, killed at call {call} of {}", way.name, way.calls);
            println!("{context}{}", if is_done { ", which was done" } else { "" });
            way.finish(&world, &mut report, &context).await;
        }
        destroy(&world, &ways[2].provisioner, &theirs, &mut report).await;
    }
    report.wall_s = began.elapsed().as_secs_f64();
    if let Some(path) = variable("BELLWIRE_INFRA_REPORT").map(PathBuf::from) {
        let text = serde_json::to_string(&report).expect("only text keys");
        std::fs::write(path, text).expect("written");
    }
    assert!(report.unconverged.is_empty(), "{}", report.unconverged.join("\n"));
    assert!(report.misplaced.is_empty(), "{}", report.misplaced.join("\n"));
    assert!(report.owned_left.is_empty(), "{:?}", report.owned_left);
    assert!(report.foreign_gone.is_empty(), "{:?}", report.foreign_gone);
}
