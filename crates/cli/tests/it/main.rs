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
