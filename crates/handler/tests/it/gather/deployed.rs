//! An upload of several files on the local cloud, whole: S3 tells the topic, the topic the
//! function, and one run gets all of the files.

use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bellwire_schema::Deployment;
use serde_json::Value;

use crate::deployed::{Deployed, PATIENCE};

const BUCKET: &str = "uploads";

const WORKFLOW: &str = r#"
workflow = "gathering"
[topic]
kms_key = "create"
[ledger]
deletion_protection = false
[[source]]
name = "raw"
kind = "s3"
bucket = "uploads"
prefix = "raw/"
suffix = ".csv"
via = "topic"
dataset = "wine"
[[trigger]]
name = "train"
stage = "training"
on = "data.arrived"
gather = { marker = "_SUCCESS", within = "1h" }
start = { step-functions = "pass.asl.json" }
"#;

struct World {
    deployed: Deployed,
    s3: aws_sdk_s3::Client,
    sfn: aws_sdk_sfn::Client,
}

impl World {
    async fn new() -> Self {
        let deployed = Deployed::of(WORKFLOW.to_owned()).await;
        let sfn = aws_sdk_sfn::Client::new(&deployed.config);
        let path_style = aws_sdk_s3::config::Builder::from(&deployed.config).force_path_style(true);
        let s3 = aws_sdk_s3::Client::from_conf(path_style.build());
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        let versions =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let put = s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versions);
        put.send().await.unwrap();
        Self { deployed, s3, sfn }
    }

    /// Puts an object; answers with its version.
    async fn put(&self, key: &str) -> String {
        let put = self.s3.put_object().bucket(BUCKET).key(key).body(key.as_bytes().to_vec().into());
        put.send().await.unwrap().version_id.expect("the bucket has versions")
    }

    /// The inputs of the runs, once there is one.
    async fn inputs(&self) -> Vec<Value> {
        let machine = Deployment::new("gathering", None).state_machine("train");
        let machine = self.deployed.place.state_machine_arn(&machine);
        let (begin, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(50)));
        let runs = loop {
            pace.tick().await;
            let list = self.sfn.list_executions().state_machine_arn(&machine).send().await.unwrap();
            if !list.executions.is_empty() {
                break list.executions;
            }
            assert!(begin.elapsed() < PATIENCE, "no run was started");
        };
        let mut inputs = Vec::new();
        for run in runs {
            let describe = self.sfn.describe_execution().execution_arn(run.execution_arn);
            let input = describe.send().await.unwrap().input.unwrap();
            inputs.push(serde_json::from_str(&input).unwrap());
        }
        inputs
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_with_its_marker_is_one_run_of_all_its_files() {
    let world = World::new().await;
    world.deployed.apply().await;
    let mut expected = Vec::new();
    for name in ["raw/monday/a.csv", "raw/monday/b c.csv", "raw/monday/é.csv"] {
        expected.push((name.to_owned(), world.put(name).await));
    }
    world.put("raw/tuesday/not-yet.csv").await;
    world.put("raw/monday/_SUCCESS").await;
    let inputs = world.inputs().await;
    let [input] = &inputs[..] else { panic!("one run: {inputs:#?}") };
    let members = input["data"]["members"].as_array().unwrap_or_else(|| panic!("{input:#}"));
    let mut pinned: Vec<(String, String)> = members
        .iter()
        .map(|member| {
            let text = |field: &str| member[field].as_str().unwrap().to_owned();
            (text("key"), text("version_id"))
        })
        .collect();
    pinned.sort();
    expected.sort();
    assert_eq!(pinned, expected);
    assert_eq!(
        (&input["type"], &input["dataset"]),
        (&"ml.data.gathered.v1".into(), &"wine".into())
    );
}
