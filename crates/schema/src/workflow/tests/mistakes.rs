//! A file with a mistake in every second line: all of them are told at once.

use crate::workflow::read;

const FILE: &str = r#"workflow = "Wine"
regoin = "eu-west-1"

[topic]
kind = "fifoo"

[handler]
memory_mb = "lots"
timeout_s = 1000

[ledger]
retention_days = 30

[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
sufix = ".csv"
emits = "training.completed"

[[source]]
kind = "schedule"
expression = "rate(1 days)"
emits = "collection.requested"

[[function]]
name = "worker"
artifact = "worker.zip"
access = ["s3:reed wine-lake/raw/*", "s3:write wine-lake"]

[[subscriber]]
name = "on-call"
protocol = "email"
endpoint = "ml-on-call"
on = ["training.faild"]

[[trigger]]
name = "train"
stage = "training"
on = "data.arived"
where = { dataset = "wine", time = [2026-11-23] }
gather = { marker = "_SUCCESS", within = "1 hour" }
start = { step-functions = "workflows/train.json" }
input = { data = "$.data[" }

[[trigger]]
name = "train"
stage = "trainig"
on = ["data.arrived"]
where = { dataset = "wine" }
"#;

#[test]
fn all_problems_are_told_at_once() {
    let problems = read(FILE).expect_err("a file full of mistakes");
    assert!(problems.problems.len() > 20);
    insta::assert_snapshot!(problems.display("bellwire.toml"));
}

#[test]
fn problems_are_data_too() {
    let problems = read("workflow = \"wine\"\nregoin = 1").expect_err("a mistake");
    assert_eq!(
        serde_json::to_value(&problems).expect("it serialises"),
        serde_json::json!({"problems": [{
            "line": 2,
            "place": "top level",
            "cause": "unknown key `regoin`",
            "remedy": "did you mean `region`?",
        }]})
    );
}
