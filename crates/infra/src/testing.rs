//! Workflows for tests.

use std::collections::BTreeMap;

use bellwire_schema::workflow::{
    Access, AccessVerb, Alarms, ContextFrom, Delivery, FileLines, Function, Guards, Handler,
    HttpSource, Identity, Ledger, Publisher, PublisherRun, S3Source, Security, Source, SourceKind,
    StateMachine, Target, Telemetry, Topic, TopicKind, Trigger, Via, WhenHeld, Workflow,
};
use bellwire_schema::{Deployment, EventType, Place, Stage, StageVerb};
use serde_json::{Value, json};

use crate::inputs::{Artifact, Inputs};
use crate::resource::Owner;

pub(crate) fn owner() -> Owner {
    let place = Place::new("eu-west-1", "123456789012");
    Owner::new(Deployment::new("wine", None), place, &Security::default())
}

pub(crate) fn trigger(name: &str, definition: &str) -> Trigger {
    Trigger {
        name: name.to_owned(),
        stage: Stage::Training,
        on: vec![EventType::data_arrived()],
        condition: None,
        gather: None,
        guards: Guards {
            cooldown_s: None,
            max_concurrent: None,
            max_starts_per_day: None,
            when_held: WhenHeld::Wait,
        },
        target: Target::StepFunctions(StateMachine::Definition(definition.to_owned())),
        input: None,
        expected_duration_s: 3_600,
        outputs: Vec::new(),
    }
}

fn sources() -> Vec<Source> {
    let s3 = S3Source {
        bucket: "wine-lake".to_owned(),
        prefix: "raw/".to_owned(),
        suffix: "_SUCCESS".to_owned(),
        emits: EventType::data_arrived(),
        create: true,
        via: Via::Publisher,
        context: ContextFrom::Metadata,
        identity: Identity::Version,
        account: None,
        kms_key: None,
    };
    let http = HttpSource { emits: Stage::Collection.event(StageVerb::Requested) };
    let source = |name: &str, kind: SourceKind| Source {
        name: name.to_owned(),
        dataset: Some("wine".to_owned()),
        expected_s: None,
        kind,
    };
    vec![source("raw", SourceKind::S3(s3)), source("requests", SourceKind::Http(http))]
}

fn worker() -> Function {
    let access = |verb: AccessVerb, keys: &str| Access {
        verb,
        bucket: "wine-lake".to_owned(),
        keys: keys.to_owned(),
    };
    Function {
        name: "worker".to_owned(),
        artifact: "target/lambda/wine-worker.zip".to_owned(),
        access: vec![
            access(AccessVerb::S3Read, "raw/*"),
            access(AccessVerb::S3Read, "models/*"),
            access(AccessVerb::S3Write, "models/*"),
        ],
        memory_mb: 512,
        timeout_s: 60,
        environment: BTreeMap::new(),
        log_retention_days: 30,
    }
}

/// A workflow like the wine example's: an S3 and an HTTP source, four triggers.
pub(crate) fn workflow() -> Workflow {
    let of = |name: &str, stage: Stage, on: EventType, condition: Option<Value>| Trigger {
        stage,
        on: vec![on],
        condition,
        ..trigger(name, &format!("workflows/{name}.asl.json"))
    };
    let requested = Stage::Collection.event(StageVerb::Requested);
    let trained = Stage::Training.event(StageVerb::Completed);
    let evaluated = Stage::Evaluation.event(StageVerb::Completed);
    let passes = json!({"data": {"metrics": {"accuracy": [{"numeric": [">=", 0.6]}]}}});
    Workflow {
        name: "wine".to_owned(),
        region: None,
        account: None,
        topic: Topic { kind: TopicKind::Standard, display_name: None, kms_key: None },
        publisher: Publisher {
            run: PublisherRun::Sidecar,
            trusted_by: vec!["ecs-tasks.amazonaws.com".to_owned()],
            artifact: "target/lambda/bellwire-publisher-lambda.zip".to_owned(),
            memory_mb: 256,
            timeout_s: 60,
            environment: BTreeMap::new(),
            log_retention_days: 30,
        },
        handler: Handler {
            delivery: Delivery::Direct,
            artifact: "target/lambda/bellwire-handler.zip".to_owned(),
            memory_mb: 256,
            timeout_s: 30,
            environment: BTreeMap::new(),
            log_retention_days: 30,
        },
        ledger: Ledger { retention_days: 400, deletion_protection: true },
        security: Security::default(),
        claim_check: None,
        telemetry: Telemetry::default(),
        alarms: Alarms { enabled: false, dashboard: false, ..Alarms::default() },
        event_types: vec![],
        sources: sources(),
        functions: vec![worker()],
        subscribers: vec![],
        triggers: vec![
            of("collect", Stage::Collection, requested, None),
            of("train", Stage::Training, EventType::data_arrived(), None),
            of("evaluate", Stage::Evaluation, trained, None),
            of("predict", Stage::Prediction, evaluated, Some(passes)),
        ],
        lines: FileLines::default(),
    }
}

/// What reading the files of [`workflow`] gives.
pub(crate) fn inputs() -> Inputs {
    let artifact =
        |hash: &str| Artifact { code_sha256: hash.to_owned(), architecture: "x86_64".to_owned() };
    let definition = json!({
        "StartAt": "Work",
        "States": {"Work": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "${function:worker}", "Payload.$": "$"},
            "End": true,
        }},
    });
    let triggers = ["collect", "train", "evaluate", "predict"];
    Inputs {
        handler: artifact("nzHCnzHCnzHCnzHCnzHCnzHCnzHCnzHCnzHCnzHCnzE="),
        functions: BTreeMap::from([(
            "worker".to_owned(),
            artifact("d6sBd6sBd6sBd6sBd6sBd6sBd6sBd6sBd6sBd6sBd6s="),
        )]),
        definitions: triggers.map(|trigger| (trigger.to_owned(), definition.clone())).into(),
        ..Inputs::default()
    }
}
