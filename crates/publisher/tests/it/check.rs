//! `--check` and `--probe`, by the real program on the local cloud.

use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_sqs::types::MessageSystemAttributeName;

use crate::cloud::Deployed;
use crate::process::{NOWHERE, PROGRAM, Running, command, command_at, ended, make_ledger};

/// The exit code and standard output of a publisher that ends by itself.
async fn told(command: &mut Command) -> (Option<i32>, String) {
    let mut command =
        tokio::process::Command::from(std::mem::replace(command, Command::new(PROGRAM)));
    let output = command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// What a report says of each thing, without its causes.
fn findings(report: &str) -> Vec<(&str, &str)> {
    let lines = report.lines().filter(|line| !line.starts_with(' '));
    lines
        .map(|line| {
            let (thing, rest) = line.split_once("  ").unwrap();
            (thing, rest.trim_start().split(' ').next().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn where_all_is_well_it_is_said_and_nothing_is_changed() {
    let deployed = Deployed::new("check").await;
    make_ledger(&deployed, "wine-check-ledger").await;
    deployed.send("a message").await;
    let address_file = deployed.folder.join("address");
    let mut check = command(&deployed);
    let (code, report) = told(check.arg("--check").arg("--address-file").arg(&address_file)).await;
    let things = [
        "settings",
        "account",
        "ingest queue",
        "dead queue",
        "topic",
        "ledger",
        "spool",
        "address file",
        "listen",
    ];
    assert_eq!(findings(&report), things.map(|thing| (thing, "ok")), "{report}");
    assert_eq!(code, Some(0));
    for words in [
        "settings      ok     wine-check, 8 sources\n",
        "account       ok     000000000000 in us-east-1\n",
        "topic         ok     wine-check\n",
        "/spool.redb, which the first start makes\n",
        "listen        ok     127.0.0.1:0 is free\n",
    ] {
        assert!(report.contains(words), "{words:?} is not in\n{report}");
    }
    // S3 has tried its notification out: that makes two.
    assert!(report.contains("wine-check-ingest, about 2 messages wait in it\n"), "{report}");

    let mut left: Vec<_> = std::fs::read_dir(&deployed.folder).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left.remove(0).unwrap().path(), deployed.workflow_file);
    let receives = MessageSystemAttributeName::ApproximateReceiveCount;
    let receive = deployed.sqs.receive_message().queue_url(&deployed.ingest_url);
    let received = receive.message_system_attribute_names(receives.clone()).send().await.unwrap();
    for message in received.messages.unwrap() {
        assert_eq!(message.attributes.unwrap()[&receives], "1", "it was received by the check");
    }
    deployed.until_empty(&deployed.heard_url).await;
}

#[tokio::test]
async fn whatever_is_wrong_is_said_at_once_with_the_remedy() {
    let deployed = Deployed::new("check-wrong").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let spool = deployed.folder.join("spool.redb");
    std::fs::write(&spool, "notes").unwrap();
    let (code, report) = told(command_at(&deployed, "nowhere", &address).arg("--check")).await;
    assert_eq!(code, Some(1));
    let expected = [
        ("settings", "ok"),
        ("account", "ok"),
        ("ingest queue", "wrong"),
        ("dead queue", "wrong"),
        ("topic", "wrong"),
        ("ledger", "wrong"),
        ("spool", "wrong"),
        ("listen", "wrong"),
    ];
    assert_eq!(findings(&report), expected, "{report}");
    for words in [
        "there is no queue wine-nowhere-ingest in account 000000000000, region us-east-1: deploy",
        "there is no topic arn:aws:sns:us-east-1:000000000000:wine-nowhere: deploy the workflow",
        "the ledger table wine-nowhere-ledger does not exist; deploy the workflow first",
        "\n                     because sqs:GetQueueUrl failed: ",
        "/spool.redb is no spool: a start would set it aside under another name; check --spool",
        &format!("cannot listen on {address}: end what listens there"),
    ] {
        assert!(report.contains(words), "{words:?} is not in\n{report}");
    }
    assert_eq!(std::fs::read_to_string(&spool).unwrap(), "notes");
}

#[tokio::test]
async fn what_comes_after_something_wrong_is_not_guessed_at() {
    let deployed = Deployed::new("check-alone").await;
    let mut check = command(&deployed);
    let (code, report) = told(check.arg("--check").env_remove("AWS_ACCESS_KEY_ID")).await;
    assert_eq!(code, Some(1));
    assert!(report.contains("\ncredentials   wrong  no AWS credentials: give"), "{report}");
    let unseen = "\ntopic         wrong  not looked at: credentials comes first\n";
    assert!(report.contains(unseen), "{report}");
    let mut check = command(&deployed);
    let (code, report) = told(check.arg("--check").env("AWS_ENDPOINT_URL", NOWHERE)).await;
    assert_eq!(code, Some(1));
    assert!(report.contains(&format!("{NOWHERE} cannot be reached")), "{report}");

    let mut check = command(&deployed);
    let (code, message) = ended(check.args(["--check", "--concurrency", "0"])).await;
    assert_eq!(code, Some(2));
    assert!(message.contains("error: the settings have 1 problem"), "{message}");
}

#[tokio::test]
async fn a_probe_asks_the_publisher_that_runs() {
    let deployed = Deployed::new("probe").await;
    let running = Running::start(&deployed, &[]).await;
    let address = running.url.trim_start_matches("http://").to_owned();
    // A container's health check has neither the workflow nor credentials to itself.
    let probe_at = |address: &str, what: &str| {
        let mut probe = Command::new(PROGRAM);
        probe.args(["--workflow", "/nowhere", "--listen", address, "--probe", what]);
        probe.stdin(Stdio::null());
        probe
    };
    let probe = |what: &str| probe_at(&address, what);
    let (code, answer) = told(&mut probe("healthz")).await;
    assert_eq!((code, answer.as_str()), (Some(0), "{\"status\":\"alive\"}\n"));
    let (code, answer) = told(&mut probe("readyz")).await;
    assert_eq!(code, Some(0), "{answer}");
    assert!(answer.contains("\"status\":\"ready\""), "{answer}");
    let (status, log) = running.stop().await;
    assert!(status.success(), "{log}");
    let (code, message) = ended(&mut probe("healthz")).await;
    assert_eq!(code, Some(1));
    assert!(message.contains(&format!("no publisher answers on {address}")), "{message}");
    let (code, message) = ended(&mut probe_at("nowhere", "healthz")).await;
    assert_eq!(code, Some(2));
    assert!(message.contains("`nowhere` is no address"), "{message}");
}
