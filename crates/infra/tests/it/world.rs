//! A local cloud, a workflow on disk, and what a test does with them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::Credentials;
use bellwire_infra::apply::{Applied, ApplyError};
use bellwire_infra::inputs::{self, Code};
use bellwire_infra::plan::Plan;
use bellwire_infra::{ProvisionError, Provisioner};
use bellwire_local::LocalCloud;
use bellwire_schema::workflow;

pub(crate) const WORKFLOW: &str = r#"
workflow = "wine"

[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
create = true
prefix = "raw/"
suffix = "_SUCCESS"
emits = "data.arrived"
dataset = "wine"
context = "metadata"

[[source]]
name = "requests"
kind = "http"
emits = "collection.requested"
dataset = "wine"

[[function]]
name = "worker"
artifact = "worker.zip"
access = ["s3:read wine-lake/raw/*", "s3:write wine-lake/models/*"]

[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "task.asl.json" }

[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
start = { step-functions = "task.asl.json" }

[[trigger]]
name = "evaluate"
stage = "evaluation"
on = "training.completed"
start = { step-functions = "task.asl.json" }

[[trigger]]
name = "predict"
stage = "prediction"
on = "evaluation.completed"
where = { data.metrics.accuracy = [{ numeric = [">=", 0.6] }] }
start = { step-functions = "task.asl.json" }

[handler]
artifact = "handler.zip"
"#;

const DEFINITION: &str = r#"{
  "StartAt": "Work",
  "States": {
    "Work": {
      "Type": "Task",
      "Resource": "arn:aws:states:::lambda:invoke",
      "Parameters": {"FunctionName": "${function:worker}", "Payload.$": "$"},
      "End": true
    }
  }
}"#;

/// One local cloud of a test's own, and a folder with a workflow's files.
pub(crate) struct World {
    pub(crate) cloud: LocalCloud,
    folder: PathBuf,
    pub(crate) config: SdkConfig,
}

impl World {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("infra-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let cloud = LocalCloud::for_tests();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(cloud.endpoint_url())
            .region(Region::new(cloud.region()))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let world = Self { cloud, folder, config };
        world.write_file("task.asl.json", DEFINITION.as_bytes());
        world.write_artifact("handler.zip", b"#!/bin/sh\n# handler 1\n");
        world.write_artifact("worker.zip", b"#!/bin/sh\n# worker 1\n");
        world
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn write_file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join(name), bytes).expect("written");
    }

    pub(crate) fn write_artifact(&self, name: &str, bootstrap: &[u8]) {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file("bootstrap", options).expect("begun");
        zip.write_all(bootstrap).expect("packed");
        self.write_file(name, &zip.finish().expect("closed").into_inner());
    }

    /// The bytes of an artifact.
    pub(crate) fn artifact(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).expect("written before")
    }

    pub(crate) async fn provisioner(&self, text: &str) -> Provisioner {
        self.provisioner_of(text, None).await
    }

    pub(crate) async fn provisioner_of(
        &self,
        text: &str,
        environment: Option<&str>,
    ) -> Provisioner {
        let workflow = workflow::read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        Provisioner::connect(&self.config, workflow, environment).await.expect("connected")
    }

    /// The provisioner of the workflow, with settings of its own.
    pub(crate) async fn provisioner_with(&self, config: &SdkConfig, text: &str) -> Provisioner {
        let workflow = workflow::read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        Provisioner::connect(config, workflow, None).await.expect("connected")
    }

    pub(crate) async fn try_plan(
        &self,
        provisioner: &Provisioner,
    ) -> Result<(Plan, Code), ProvisionError> {
        let inputs = inputs::read(provisioner.workflow(), &self.folder, &self.folder)?;
        Ok((provisioner.plan(&inputs).await?, inputs.code))
    }

    pub(crate) async fn plan(&self, provisioner: &Provisioner) -> (Plan, Code) {
        self.try_plan(provisioner).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Plans and applies.
    pub(crate) async fn apply(&self, provisioner: &Provisioner) -> Plan {
        let (plan, code) = self.plan(provisioner).await;
        execute(provisioner, &plan, &code).await.unwrap_or_else(|error| panic!("{error}"));
        plan
    }

    /// Plans and destroys; the data of what is named goes too.
    pub(crate) async fn destroy(&self, provisioner: &Provisioner, delete_data: &[&str]) -> Plan {
        let named: Vec<String> = delete_data.iter().map(|name| (*name).to_owned()).collect();
        let plan = provisioner.plan_destroy(&named).await.expect("planned");
        let executed = execute(provisioner, &plan, &Code::default()).await;
        executed.unwrap_or_else(|error| panic!("{error}"));
        plan
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) async fn execute(
    provisioner: &Provisioner,
    plan: &Plan,
    code: &Code,
) -> Result<Applied, ApplyError> {
    let stop = AtomicBool::new(false);
    provisioner.apply(plan, code, "the test", &|_| {}, &stop).await
}
