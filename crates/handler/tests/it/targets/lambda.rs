//! Asynchronous invocations: one for one start, but where whoever invoked dies.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_lambda::types::FunctionCode;
use bellwire_ledger::State;
use bellwire_schema::dead_letter::DeadReason;
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{LEASE_OVER_S, at, wanted, world};
use crate::world::World;

/// A function that writes what it is invoked with to a file, a line each.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3
import os, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        body, request_id = event.read(), event.headers["Lambda-Runtime-Aws-Request-Id"]
    with open("FILE", "ab") as file:
        file.write(body + b"\n")
    urllib.request.urlopen(api + request_id + "/response", data=b"null").read()
"#;

struct Function {
    file: PathBuf,
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Function {
    async fn create(world: &World, name: &str) -> Self {
        let file = format!("{name}-{}-{}", std::process::id(), world.cloud.port());
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let executable = SimpleFileOptions::default().unix_permissions(0o755);
        archive.start_file("bootstrap", executable).unwrap();
        let bootstrap = BOOTSTRAP.replace("FILE", file.to_str().unwrap());
        archive.write_all(bootstrap.as_bytes()).unwrap();
        let zip = archive.finish().unwrap().into_inner();
        let create = world.clients.lambda.create_function().function_name(name);
        let role = "arn:aws:iam::000000000000:role/wine-machines";
        let create = create.role(role).runtime("provided.al2023".into()).handler("bootstrap");
        let code = FunctionCode::builder().zip_file(zip.into()).build();
        create.code(code).send().await.unwrap();
        Self { file }
    }

    /// The payloads, once there are so many.
    async fn invoked(&self, times: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            let lines: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.len() >= times {
                return lines;
            }
            assert!(Instant::now() < deadline, "invoked {} times", lines.len());
        }
    }
}

/// How often the local cloud was asked to invoke it.
fn invocations(world: &World) -> usize {
    let calls = world.cloud.calls();
    calls.iter().filter(|call| call.action == "lambda:InvokeFunction").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_invoked_once_with_its_start_key_and_the_start_is_closed_by_that() {
    let (world, _stub) = world().await;
    let function = Function::create(&world, "notify").await;
    let event = wanted("notify", "e-1");
    assert!(world.queued_side_by_side(&event, 5).await >= 1);
    assert!(world.queued(&event, at(1)).await);
    assert_eq!(invocations(&world), 1);
    let payloads = function.invoked(1).await;
    let row = world.only_row().await;
    assert_eq!(payloads[0]["bellwire"]["start_key"], row.start.start_key.as_str());
    assert_eq!(payloads[0]["data"]["key"], "raw/a.csv");
    assert_eq!(row.state, State::Accepted);
    let run = row.start.run_arn.clone().unwrap();
    let of_function = "arn:aws:lambda:us-east-1:000000000000:function:notify/invocation/";
    assert!(run.starts_with(of_function), "{run}");
    assert_eq!(world.published("ml.evaluation.started.v1").await.len(), 1);
    world.sweep_at(100_000).await;
    assert_eq!(world.only_row().await, row, "nothing of it is due");
}

/// The window: nothing tells whether an invocation that was not recorded was made.
#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_was_not_recorded_is_made_again_under_the_same_start_key() {
    let (world, _stub) = world().await;
    let function = Function::create(&world, "notify").await;
    let event = wanted("notify", "e-1");
    assert!(world.queued(&event, at(0)).await);
    world.forget_record("e-1").await;
    assert!(!world.queued(&event, at(1)).await, "not while the lease lasts");
    assert_eq!(invocations(&world), 1);
    assert!(world.queued(&event, at(LEASE_OVER_S)).await);
    let payloads = function.invoked(2).await;
    assert_eq!(payloads[0]["bellwire"]["start_key"], payloads[1]["bellwire"]["start_key"]);
    assert_eq!(world.only_row().await.state, State::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_it_invokes_is_followed_by_the_sweep() {
    let (world, _stub) = world().await;
    let function = Function::create(&world, "notify").await;
    world.claimed(&wanted("notify", "e-1")).await;
    world.sweep_at(300).await;
    function.invoked(1).await;
    assert_eq!((invocations(&world), world.only_row().await.state), (1, State::Accepted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_not_there_puts_the_event_aside() {
    let (world, _stub) = world().await;
    let event = wanted("notify", "e-1");
    assert!(world.queued(&event, at(0)).await);
    let letter = world.dead_letter().await;
    assert_eq!(
        (letter.reason, letter.trigger.as_deref()),
        (DeadReason::StartRefused, Some("notify"))
    );
    assert!(letter.message.contains("ResourceNotFoundException"), "{}", letter.message);
    assert_eq!(world.only_row().await.state, State::Refused);
}
