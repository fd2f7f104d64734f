//! What the tables may be to each other.

use crate::workflow::tests::{EXAMPLE, accepted, and, problems, refused, with};

#[test]
fn names_are_unique_within_their_kind() {
    refused(
        &and("[[function]]\nname = \"worker\"\nartifact = \"a.zip\" # second\n"),
        "name = \"worker\"",
        "the name \"worker\" is there twice",
        "rename",
    );
    refused(
        &and("[[event]]\ntype = \"ml.label.reviewed.v1\"\n"),
        "type = \"ml.label",
        "the type \"ml.label.reviewed.v1\" is there twice",
        "",
    );
    // A source and a subscriber have nothing in common.
    accepted(&with("name = \"on-call\"", "name = \"raw\""));
}

#[test]
fn two_things_never_share_a_name_on_aws() {
    refused(
        &with("name = \"worker\"", "name = \"train\""),
        "name = \"train\"",
        "its name on AWS, wine-train, is that of function \"train\"",
        "rename",
    );
    refused(
        &with("name = \"worker\"", "name = \"handler\""),
        "name = \"handler\"",
        "Bellwire's own",
        "rename",
    );
    refused(
        &with("name = \"nightly\"", "name = \"sweep\""),
        "name = \"sweep\"",
        "wine-sweep",
        "rename",
    );
    for kind in ["sagemaker", "batch"] {
        let source = |name: &str| {
            and(&format!(
                "[[source]]\nname = \"{name}\"\nkind = \"{kind}\"\nresource = \"jobs\"\nstage = \"training\"\n"
            ))
        };
        refused(&source("completions"), "name = \"completions\"", "wine-completions", "rename");
        accepted(&source("jobs"));
    }
    // A trigger on somebody else's pipeline makes nothing of its name.
    accepted(&with("name = \"predict\"", "name = \"publisher\""));
}

#[test]
fn names_that_are_one_only_after_cutting_are_found() {
    let long = "n".repeat(64);
    let cut = crate::Deployment::new("wine", None).function(&long);
    let short = cut.strip_prefix("wine-").expect("the prefix stays");
    let function = |name: &str| format!("[[function]]\nname = \"{name}\"\nartifact = \"a.zip\"\n");
    refused(
        &and(&format!("{}{}", function(&long), function(short))),
        short,
        &format!("its name on AWS, {cut}, is that of function"),
        "rename",
    );
}

#[test]
fn fifo_refuses_what_aws_refuses() {
    let text = with("kind = \"standard\"", "kind = \"fifo\"\nkms_key = \"alias/ml\"")
        .replace("context = \"metadata\"", "via = \"topic\"");
    let causes: Vec<_> =
        problems(&text).into_iter().map(|problem| (problem.place, problem.cause)).collect();
    assert_eq!(
        causes,
        [
            ("[handler]".to_owned(), "a FIFO topic does not invoke a function directly".to_owned()),
            ("source \"raw\"".to_owned(), "S3 does not notify a FIFO topic".to_owned()),
            (
                "subscriber \"on-call\"".to_owned(),
                "a FIFO topic delivers to queues only".to_owned()
            ),
        ]
    );
    refused(
        "workflow = \"a\"\n[topic]\nkind = \"fifo\"",
        "kind = \"fifo\"",
        "does not invoke",
        "set `delivery = \"queued\"` in [handler]",
    );
    let fifo = "workflow = \"a\"\n[topic]\nkind = \"fifo\"\n[handler]\ndelivery = \"queued\"";
    accepted(fifo);
    refused(
        &format!("{fifo}\n[publisher]\nrun = \"lambda\""),
        "run = \"lambda\"",
        "side by side",
        "set `run = \"sidecar\"`",
    );
}

#[test]
fn a_fifo_queue_takes_no_standard_topic() {
    let text = with("protocol = \"email\"", "protocol = \"sqs\"")
        .replace("ml-on-call@example.com", "arn:aws:sqs:eu-west-1:123456789012:q.fifo");
    refused(
        &text,
        "endpoint",
        "a standard topic does not deliver to a FIFO queue",
        "standard queue",
    );
}

#[test]
fn an_endpoint_is_subscribed_once() {
    refused(
        &and(
            "[[subscriber]]\nname = \"again\"\nprotocol = \"email\"\nendpoint = \"ml-on-call@example.com\"\n",
        ),
        "endpoint",
        "is subscribed twice",
        "one subscriber",
    );
}

#[test]
fn targets_without_a_token_need_the_queue() {
    let start = "start = { sagemaker-pipeline = \"predict\" }";
    for target in ["lambda = \"notify\"", "batch = { job_queue = \"q\", job_definition = \"d\" }"] {
        let text = with(start, &format!("start = {{ {target} }}"));
        refused(
            &text,
            "start = {",
            "its target has no name or token",
            "set `delivery = \"queued\"`",
        );
        accepted(&text.replace("delivery = \"direct\"", "delivery = \"queued\""));
    }
}

#[test]
fn a_pipeline_s_parameters_are_single_values() {
    let start = "start = { sagemaker-pipeline = \"predict\" }";
    let input = |input: &str| with(start, &format!("{start}\ninput = {input}"));
    accepted(&input("{ seed = 7, key = \"$.data.key\", fast = true }"));
    for (field, what) in [("[1, 2]", "a list"), ("{ a = 1 }", "a table")] {
        refused(
            &input(&format!("{{ seed = {field} }}")),
            "input =",
            &format!("the field \"seed\" of `input` is {what}"),
            "a query that finds one",
        );
    }
}

#[test]
fn what_tells_of_a_trigger_s_pipeline_has_a_name_of_its_own() {
    let named = with("name = \"nightly\"", "name = \"runs-predict\"");
    refused(&named, "name = \"predict\"", "its name on AWS, wine-runs-predict,", "rename");
}

#[test]
fn only_the_publisher_reads_metadata() {
    let text = with("context = \"metadata\"", "context = \"metadata\"\nvia = \"topic\"");
    let text = text.replace("kind = \"standard\"", "kms_key = \"alias/ml\"");
    refused(&text, "context = \"metadata\"", "only the publisher reads", "drop `context`");
}

#[test]
fn http_needs_the_sidecar() {
    let text = and("[[source]]\nname = \"api\"\nkind = \"http\"\nemits = \"training.requested\"\n");
    accepted(&text);
    refused(
        &text.replace("run = \"sidecar\"", "run = \"lambda\""),
        "kind = \"http\"",
        "takes no HTTP",
        "run = \"sidecar\"",
    );
}

fn s3(name: &str, keys: &str) -> String {
    format!("[[source]]\nname = \"{name}\"\nkind = \"s3\"\nbucket = \"wine-lake\"\n{keys}\n")
}

#[test]
fn sources_of_one_bucket_do_not_overlap() {
    for keys in
        ["prefix = \"raw/2026/\"", "prefix = \"raw\"", "prefix = \"\"", "suffix = \"part.csv\"", ""]
    {
        let problems = problems(&and(&s3("more", keys)));
        assert_eq!(problems.len(), 1, "{keys}: {problems:#?}");
        assert_eq!(problems[0].place, "source \"more\"");
        assert!(
            problems[0].cause.contains("overlap with those of source \"raw\""),
            "{problems:#?}"
        );
    }
    for keys in [
        "prefix = \"models/\"",
        "prefix = \"raw/\"\nsuffix = \".json\"",
        "prefix = \"raw/\"\nemits = \"data.removed\"",
    ] {
        accepted(&and(&s3("more", keys)));
    }
    accepted(&and(&s3("more", "prefix = \"raw/\"").replace("wine-lake", "other-lake")));
}

#[test]
fn a_misspelt_suffix_is_not_also_an_overlap() {
    refused(
        &and(&s3("more", "prefix = \"raw/\"\nsufix = \".json\"")),
        "sufix",
        "unknown key",
        "suffix",
    );
}

#[test]
fn markers_are_told_apart_by_their_writes() {
    refused(
        &with("context = \"metadata\"", "identity = \"content\""),
        "identity",
        "trigger \"train\" waits for a marker",
        "drop `identity`",
    );
    let marker = s3("done", "prefix = \"done/\"\nsuffix = \"_SUCCESS\"\nidentity = \"content\"");
    let gatherless = with("gather = { marker = \"_SUCCESS\", within = \"1h\" }\n", "");
    refused(
        &format!("{gatherless}{marker}"),
        "identity",
        "_SUCCESS is a marker",
        "drop `identity`",
    );
    accepted(&gatherless.replace("context = \"metadata\"", "identity = \"content\""));
}

#[test]
fn a_trigger_is_of_the_stage_that_is_requested() {
    refused(
        &with("on = \"collection.requested\"", "on = [\n\"collection.requested\",\n\"training.requested\"]")
            .replace("[[function]]", "[[source]]\nname = \"api\"\nkind = \"http\"\nemits = \"training.requested\"\n[[function]]"),
        "\"training.requested\"]",
        "asks for a run of another stage",
        "set `stage = \"training\"`, or start on collection.requested",
    );
}

#[test]
fn a_trigger_does_not_start_itself_for_ever() {
    let on = "on = [\"training.completed\", \"label.reviewed\"]";
    for verb in ["started", "completed"] {
        let text = with(on, &format!("on = \"prediction.{verb}\""));
        refused(&text, &format!("on = \"prediction.{verb}\""), "start itself for ever", "where");
    }
    accepted(&with(on, "on = \"prediction.completed\"\nwhere = { dataset = [\"wine\"] }"));
    accepted(&with(on, "on = \"prediction.failed\""));
}

#[test]
fn something_emits_what_a_trigger_starts_on() {
    let on = "on = \"data.arrived\"";
    let gatherless = EXAMPLE.replace("gather = { marker = \"_SUCCESS\", within = \"1h\" }\n", "");
    let on_type = |event_type: &str| gatherless.replace(on, &format!("on = \"{event_type}\""));
    for (event_type, remedy) in [
        ("data.removed", "add an s3 source with `emits = \"data.removed\"`"),
        ("training.requested", "kind http or schedule"),
        ("evaluation.started", "add a trigger with `stage = \"evaluation\"`"),
        ("evaluation.completed", "or a source of completions, with `stage = \"evaluation\"`"),
    ] {
        let cause = format!("nothing in this workflow emits {event_type}");
        refused(&on_type(event_type), &format!("on = \"{event_type}\""), &cause, remedy);
    }
    accepted(&on_type("label.reviewed"));
    accepted(&on_type("collection.completed"));
}

#[test]
fn what_may_be_emitted_is_open_while_a_source_is_broken() {
    refused(
        &with("bucket = \"wine-lake\"", "buckt = \"wine-lake\"")
            .replace("name = \"raw\"", "name = \"raw\"\nbucket = \"wine-lake\""),
        "buckt",
        "unknown key `buckt`",
        "bucket",
    );
}

#[test]
fn a_dataref_is_ours_only_under_our_bucket_and_prefix() {
    let (bucket, prefix) = ("lake".to_owned(), "claims/".to_owned());
    let check = crate::workflow::ClaimCheck { bucket, prefix };
    let key = check.key_of("/app", "e-1");
    assert_eq!(check.key_in(&check.uri_of(&key)), Some(key.as_str()));
    for foreign in [
        "s3://lake2/claims/a",
        "s3://lak/claims/a",
        "s3://lake/raw/a",
        "s3://lake/claims/",
        "s3://lake/claims/../raw/a",
        "s3://lake/claims//a",
        "https://lake/claims/a",
        "claims/a",
    ] {
        assert_eq!(check.key_in(foreign), None, "{foreign}");
    }
    assert_eq!(check.key_in(&check.uri_of(&format!("claims/{}", "x".repeat(1_024)))), None);
}

#[test]
fn what_is_put_aside_is_no_arrival() {
    let claims = |text: &str| and(&format!("[claim_check]\n{text}\n"));
    let workflow = accepted(&claims("bucket = \"wine-lake\""));
    let claim_check = workflow.claim_check.expect("it is there");
    assert_eq!(
        (claim_check.bucket.as_str(), claim_check.prefix.as_str()),
        ("wine-lake", "claims/")
    );
    accepted(&claims("bucket = \"another\"\nprefix = \"raw/\""));
    for prefix in ["raw/", "raw/claims/"] {
        let text = claims(&format!("bucket = \"wine-lake\"\nprefix = \"{prefix}\""));
        refused(&text, "prefix = ", "source \"raw\" watches", "another prefix");
    }
    for prefix in ["claims", "/claims/"] {
        let text = claims(&format!("bucket = \"wine-lake\"\nprefix = \"{prefix}\""));
        refused(&text, "prefix = ", "no folder", "slash");
    }
}

/// A loop over two stages: `clean` writes what starts `fit`, which writes what starts `clean`.
const LOOP: &str = r#"
workflow = "wine"
[[source]]
name = "raw"
kind = "s3"
bucket = "wine-lake"
prefix = "raw/"
emits = "data.arrived"
dataset = "raw"
[[source]]
name = "cleaned"
kind = "s3"
bucket = "wine-lake"
prefix = "cleaned/"
emits = "data.arrived"
dataset = "cleaned"
[[trigger]]
name = "clean"
stage = "collection"
on = "data.arrived"
where = { dataset = ["raw"] }
start = { step-functions = "clean.asl.json" }
outputs = ["s3://wine-lake/cleaned/"]
[[trigger]]
name = "fit"
stage = "training"
on = "data.arrived"
where = { dataset = ["cleaned"] }
start = { step-functions = "fit.asl.json" }
outputs = ["s3://wine-lake/OUT/"]
[[trigger]]
name = "judge"
stage = "evaluation"
on = "training.completed"
start = { step-functions = "judge.asl.json" }
outputs = ["s3://wine-lake/JUDGED/"]
"#;

#[test]
fn what_a_stage_writes_does_not_start_it_again() {
    accepted(LOOP);
    let output = |name: &str, prefix: &str| LOOP.replace(name, prefix);
    // Itself, wherever in the prefix.
    for prefix in ["cleaned", "cleaned/fits"] {
        let cause = "source \"cleaned\" sees s3://wine-lake/cleaned/";
        refused(&output("OUT", prefix), prefix, cause, "narrow");
    }
    refused(
        &LOOP.replace("lake/cleaned/\"]", "lake/none/\"]").replace("wine-lake/OUT/", "wine-lake/"),
        "s3://wine-lake/\"",
        "source \"cleaned\"",
        "",
    );
    accepted(&LOOP.replace("wine-lake/OUT/", "other-lake/raw/"));
    // Over another trigger's output; and over the event of a run's end besides.
    let cause = "starts trigger \"fit\", then source \"raw\" sees s3://wine-lake/raw/";
    refused(&output("OUT", "raw"), "cleaned/", cause, "narrow");
    let cause = "then training.completed starts trigger \"judge\", then source \"raw\"";
    refused(&output("JUDGED", "raw"), "cleaned/", cause, "narrow");
    // Objects that come are none that go.
    accepted(&output("OUT", "cleaned").replace("\"data.arrived\"", "\"data.removed\""));
    refused(
        &output("s3://wine-lake/OUT/", "wine-lake/models/"),
        "outputs",
        "no URL of S3",
        "s3://",
    );
}
