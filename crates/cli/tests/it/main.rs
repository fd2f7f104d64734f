//! The `bellwire` command on the local cloud.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bellwire_local::LocalCloud;
use serde_json::Value;

const WORKFLOW: &str = r#"
workflow = "tiny"

[ledger]
deletion_protection = true

[[source]]
name = "requests"
kind = "http"
emits = "collection.requested"

[[trigger]]
name = "collect"
stage = "collection"
on = "collection.requested"
start = { step-functions = "pass.asl.json" }

[handler]
artifact = "handler.zip"
"#;

const DEFINITION: &str = r#"{"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}"#;

/// A local cloud, and a folder to call the command in.
struct World {
    cloud: LocalCloud,
    folder: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        std::fs::write(folder.join("bellwire.toml"), WORKFLOW).expect("written");
        std::fs::write(folder.join("pass.asl.json"), DEFINITION).expect("written");
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file("bootstrap", options).expect("begun");
        zip.write_all(b"#!/bin/sh\nexit 1\n").expect("packed");
        let zip = zip.finish().expect("closed").into_inner();
        std::fs::write(folder.join("handler.zip"), zip).expect("written");
        Self { cloud: LocalCloud::for_tests(), folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwire"));
        self.cloud.set_env(&mut command);
        command.current_dir(&self.folder).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// Runs what has to succeed, and returns its standard output.
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {}\n{out}\n{err}", output.status);
        out
    }

    /// Runs what has to fail, and returns its standard error.
    fn fail(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{error}");
        error
    }

    /// As somebody does in the console.
    fn change_retention(&self, function: &str, days: i32) {
        let (endpoint, region) = (self.cloud.endpoint_url(), self.cloud.region());
        let group = format!("/aws/lambda/{function}");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
                .endpoint_url(endpoint)
                .region(aws_config::Region::new(region))
                .credentials_provider(aws_sdk_sts::config::Credentials::new(
                    "test", "test", None, None, "test",
                ))
                .load()
                .await;
            let logs = aws_sdk_cloudwatchlogs::Client::new(&config);
            let put = logs.put_retention_policy().log_group_name(group).retention_in_days(days);
            put.send().await.expect("put");
        });
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.succeed(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_workflow_is_planned_applied_looked_at_and_destroyed() {
    let world = World::new("whole");
    assert!(world.fail(&["outputs"], 1).contains("nothing of tiny is deployed"));
    assert!(world.fail(&["runs"], 1).contains("tiny-ledger does not exist"));

    let plan = world.succeed(&["plan"]);
    println!("{plan}");
    assert!(plan.contains("+ create   sns topic"), "{plan}");
    assert!(!plan.contains('\x1b'), "colour where there is no terminal");
    assert_eq!(world.run(&["plan", "--exit-code"]).status.code(), Some(2));

    assert!(world.fail(&["apply"], 1).contains("add --yes"));
    let applied = world.succeed(&["apply", "--yes"]);
    println!("{applied}");
    assert_eq!(world.run(&["plan", "--exit-code"]).status.code(), Some(0));

    let outputs = world.json(&["outputs", "--json"]);
    assert_eq!(outputs["topic_arn"], "arn:aws:sns:us-east-1:000000000000:tiny");
    assert_eq!(
        outputs["handler_arn"],
        "arn:aws:lambda:us-east-1:000000000000:function:tiny-handler:live"
    );

    let emitted = world.json(&[
        "emit",
        "--json",
        "--type",
        "collection.requested",
        "--id",
        "one",
        "--data",
        "{\"parameters\": {}}",
    ]);
    assert_eq!(emitted["to"], outputs["topic_arn"]);
    assert_eq!(world.json(&["runs", "--json"]), Value::Array(vec![]));

    let credentials = world.json(&["credentials", "publisher"]);
    assert_eq!(credentials["Version"], 1);
    assert!(credentials["SessionToken"].is_string());
    assert!(world.fail(&["credentials", "nobody"], 1).contains("known: publisher, handler"));

    let destroyed = world.succeed(&["destroy", "--yes", "--delete-data", "tiny-dead"]);
    println!("{destroyed}");
    assert!(world.fail(&["outputs"], 1).contains("nothing of tiny is deployed"));
}

#[test]
fn bad_input_gives_one_clear_message() {
    let world = World::new("bad");
    assert!(world.fail(&["--workflow", "no.toml", "plan"], 1).contains("--workflow"));
    world.fail(&["no-such-command"], 64);
    world.fail(&["--env", "Not A Name", "plan"], 64);

    std::fs::remove_file(world.folder.join("handler.zip")).expect("removed");
    std::fs::write(world.folder.join("pass.asl.json"), "{}").expect("written");
    let error = world.fail(&["plan"], 1);
    assert!(error.contains("2 problems"), "{error}");
    assert!(error.contains("cargo xtask build") && error.contains("StartAt"), "{error}");

    let elsewhere = format!("region = \"eu-west-1\"\naccount = \"123456789012\"\n{WORKFLOW}");
    std::fs::write(world.folder.join("bellwire.toml"), elsewhere).expect("written");
    let error = world.fail(&["outputs"], 1);
    assert!(error.contains("region eu-west-1") && error.contains("us-east-1"), "{error}");
}

#[test]
fn no_credentials_no_region_and_no_answer_are_told_apart() {
    let world = World::new("where");
    let error_of = |command: &mut Command| {
        let output = command.output().expect("the command runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut command = world.command(&["outputs"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let error = error_of(&mut command);
    assert!(error.contains("no usable AWS credentials"), "{error}");

    let mut command = world.command(&["outputs"]);
    command.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    let error = error_of(&mut command);
    assert!(error.contains("AWS_REGION"), "{error}");

    // A port that nothing listens on: bound, and given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let mut command = world.command(&["outputs"]);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    let error = error_of(&mut command);
    assert!(error.contains("did not answer"), "{error}");
}

#[test]
fn a_saved_plan_is_applied_as_it_was_shown_or_not_at_all() {
    let world = World::new("saved");
    world.succeed(&["plan", "--out", "first.plan"]);
    let applied = world.succeed(&["apply", "first.plan", "--timings"]);
    assert!(applied.contains("Applied: "), "{applied}");
    assert!(
        applied.contains("timings  plan") && applied.contains("all of them reads"),
        "{applied}"
    );
    assert!(applied.contains("times the longest chain of calls"), "{applied}");

    let again = world.fail(&["apply", "first.plan"], 1);
    assert!(again.contains("the world has moved since this was planned"), "{again}");
    assert!(world.fail(&["apply", "no.plan"], 1).contains("is no plan that was saved"));
    let elsewhere = world.fail(&["--env", "prod", "apply", "first.plan"], 1);
    assert!(elsewhere.contains("environment none"), "{elsewhere}");
    world.fail(&["apply", "first.plan", "--adopt", "tiny-dead"], 64);

    // A plan of nothing to do is in order, and says so.
    world.succeed(&["plan", "--out", "second.plan"]);
    assert!(world.succeed(&["apply", "second.plan"]).contains("Nothing to do"));
    let timings = world.json(&["--json", "plan", "--timings"]);
    assert_eq!(timings["timings"]["writes"], 0);
    assert!(timings["timings"]["calls"].as_u64().is_some_and(|calls| calls > 20), "{timings}");
}

#[test]
fn drift_fails_a_job_without_any_artifact_and_a_rollback_needs_something_to_go_back_to() {
    let world = World::new("drift");
    assert!(world.fail(&["plan", "--drift"], 1).contains("bellwire apply records one"));
    assert!(world.fail(&["rollback", "--yes"], 1).contains("nothing to go back to"));
    world.succeed(&["apply", "--yes"]);
    std::fs::remove_file(world.folder.join("handler.zip")).expect("removed");
    let none = world.succeed(&["plan", "--drift"]);
    assert!(none.contains("Nothing was changed by hand."), "{none}");
    assert!(world.fail(&["rollback", "--yes"], 1).contains("--function NAME"));
    assert!(world.fail(&["rollback", "--function", "nobody"], 1).contains("known: publisher"));

    world.change_retention("tiny-handler", 1);
    let output = world.run(&["plan", "--drift"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("retention_days: 30 -> 1"), "{text}");
    let json =
        String::from_utf8_lossy(&world.run(&["--json", "plan", "--drift"]).stdout).into_owned();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["drift"][0]["became"], "changed");
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let world = World::new("colour");
    let plan = |variables: &[(&str, &str)]| {
        let mut command = world.command(&["plan"]);
        command.envs(variables.iter().copied());
        let output = command.output().expect("the command runs");
        String::from_utf8_lossy(&output.stdout).contains('\x1b')
    };
    assert!(!plan(&[]), "no terminal");
    assert!(plan(&[("CLICOLOR_FORCE", "1")]));
    assert!(!plan(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}
