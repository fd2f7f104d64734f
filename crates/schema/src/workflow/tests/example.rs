//! The documented example reads to the model that it means.

use std::collections::BTreeMap;

use serde_json::json;

use crate::event_type::{EventType, Stage, StageVerb};
use crate::workflow::tests::{EXAMPLE, SMALLEST, accepted};
use crate::workflow::{
    Access, AccessVerb, Alarms, CompletionSource, ContextFrom, CustomEventType, Delivery,
    FileLines, Function, Gather, GatherUntil, Guards, Handler, HttpSource, Identity, Ledger,
    OnDeadline, Protocol, Publisher, PublisherRun, S3Source, ScheduleSource, Security, Source,
    SourceKind, StateMachine, Subscriber, Target, Telemetry, Topic, TopicKind, Trigger, Via,
    WhenHeld, Workflow,
};

fn expected() -> Workflow {
    Workflow {
        name: "wine".to_owned(),
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        topic: Topic {
            kind: TopicKind::Standard,
            display_name: Some("Wine quality".to_owned()),
            kms_key: None,
        },
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
            timeout_s: 60,
            environment: BTreeMap::from([("RUST_LOG".to_owned(), "info".to_owned())]),
            log_retention_days: 30,
        },
        ledger: Ledger { retention_days: 400, deletion_protection: false },
        security: Security::default(),
        claim_check: None,
        telemetry: Telemetry { otlp_endpoint: Some("http://localhost:4318".to_owned()) },
        alarms: Alarms::default(),
        event_types: vec![CustomEventType {
            event_type: "label.reviewed".parse().expect("a type"),
            schema: Some("schemas/label-reviewed.json".to_owned()),
        }],
        sources: sources(),
        functions: vec![Function {
            name: "worker".to_owned(),
            artifact: "target/lambda/wine-worker.zip".to_owned(),
            access: vec![
                access(AccessVerb::S3Read, "raw/*"),
                access(AccessVerb::S3Write, "models/*"),
            ],
            memory_mb: 1_024,
            timeout_s: 300,
            environment: BTreeMap::new(),
            log_retention_days: 30,
        }],
        subscribers: vec![Subscriber {
            name: "on-call".to_owned(),
            protocol: Protocol::Email,
            endpoint: "ml-on-call@example.com".to_owned(),
            on: vec![
                Stage::Training.event(StageVerb::Failed),
                Stage::Prediction.event(StageVerb::Failed),
            ],
            create: false,
            raw: false,
            condition: None,
        }],
        triggers: triggers(),
        lines: FileLines::default(),
    }
}

fn access(verb: AccessVerb, keys: &str) -> Access {
    Access { verb, bucket: "wine-lake".to_owned(), keys: keys.to_owned() }
}

fn sources() -> Vec<Source> {
    let raw = S3Source {
        bucket: "wine-lake".to_owned(),
        prefix: "raw/".to_owned(),
        suffix: ".csv".to_owned(),
        emits: EventType::data_arrived(),
        create: false,
        via: Via::Publisher,
        context: ContextFrom::Metadata,
        identity: Identity::Version,
        account: None,
        kms_key: None,
    };
    let nightly = ScheduleSource {
        expression: "cron(0 3 * * ? *)".to_owned(),
        emits: Stage::Collection.event(StageVerb::Requested),
        parameters: BTreeMap::from([
            ("rows".to_owned(), json!(1599)),
            ("ratio".to_owned(), json!(0.8)),
            ("tags".to_owned(), json!(["red"])),
        ]),
    };
    vec![
        Source {
            name: "raw".to_owned(),
            dataset: Some("wine".to_owned()),
            expected_s: None,
            kind: SourceKind::S3(raw),
        },
        Source {
            name: "nightly".to_owned(),
            dataset: None,
            expected_s: None,
            kind: SourceKind::Schedule(nightly),
        },
    ]
}

fn triggers() -> Vec<Trigger> {
    let definition = |file: &str| Target::StepFunctions(StateMachine::Definition(file.to_owned()));
    let no_guards = Guards {
        cooldown_s: None,
        max_concurrent: None,
        max_starts_per_day: Some(1_000),
        when_held: WhenHeld::Wait,
    };
    let collect = Trigger {
        name: "collect".to_owned(),
        stage: Stage::Collection,
        on: vec![Stage::Collection.event(StageVerb::Requested)],
        condition: None,
        gather: None,
        guards: no_guards.clone(),
        target: definition("workflows/collect.asl.json"),
        input: None,
        expected_duration_s: 3_600,
        outputs: Vec::new(),
    };
    let train = Trigger {
        name: "train".to_owned(),
        stage: Stage::Training,
        on: vec![EventType::data_arrived()],
        condition: Some(
            json!({"dataset": ["wine"], "data": {"size_bytes": [{"numeric": [">", 0]}]}}),
        ),
        gather: Some(Gather {
            until: GatherUntil::Marker("_SUCCESS".to_owned()),
            by: None,
            within_s: 3_600,
            on_deadline: OnDeadline::Dead,
        }),
        target: definition("workflows/train.asl.json"),
        input: Some(json!({"data": "$.data", "model": "champion"})),
        ..collect.clone()
    };
    let predict = Trigger {
        name: "predict".to_owned(),
        stage: Stage::Prediction,
        on: vec![
            Stage::Training.event(StageVerb::Completed),
            "label.reviewed".parse().expect("a type"),
        ],
        guards: Guards {
            cooldown_s: Some(600),
            max_concurrent: Some(1),
            max_starts_per_day: Some(1_000),
            when_held: WhenHeld::Drop,
        },
        target: Target::SagemakerPipeline("predict".to_owned()),
        expected_duration_s: 900,
        ..collect.clone()
    };
    vec![collect, train, predict]
}

#[test]
fn the_example_reads_to_its_model() {
    assert_eq!(accepted(EXAMPLE), expected());
}

#[test]
fn every_kind_of_source_and_target_reads() {
    let workflow = accepted(
        r#"
        workflow = "all"
        handler.delivery = "queued"
        source = [
            { name = "sf", kind = "step-functions", resource = "arn:aws:states:eu-west-1:123456789012:stateMachine:etl", stage = "collection" },
            { name = "sm", kind = "sagemaker", resource = "tune", stage = "training" },
            { name = "ba", kind = "batch", resource = "gpu", stage = "prediction" },
            { name = "ht", kind = "http", emits = "evaluation.requested" },
        ]
        [[trigger]]
        name = "a"
        stage = "evaluation"
        on = "evaluation.requested"
        start.batch = { job_queue = "gpu", job_definition = "evaluate:3" }
        [[trigger]]
        name = "b"
        stage = "training"
        on = ["collection.completed"]
        gather = { quiet = "5m", within = "2h", on_deadline = "start", by = "$.dataset" }
        start.lambda = "arn:aws:lambda:eu-west-1:123456789012:function:train:live"
        [[trigger]]
        name = "c"
        stage = "training"
        on = ["collection.completed", "prediction.failed"]
        gather.all_of = ["collection.completed", "prediction.failed"]
        start.sns = "arn:aws:sns:eu-west-1:123456789012:other"
        [[trigger]]
        name = "d"
        stage = "training"
        on = ["collection.completed"]
        gather.count = 12
        start.sqs = "arn:aws:sqs:eu-west-1:123456789012:other.fifo"
        [[trigger]]
        name = "e"
        stage = "training"
        on = "collection.completed"
        start.step-functions = "arn:aws:states:eu-west-1:123456789012:stateMachine:train"
        "#,
    );
    let completion =
        |resource: &str, stage| CompletionSource { resource: resource.to_owned(), stage };
    let kinds: Vec<_> = workflow.sources.into_iter().map(|source| source.kind).collect();
    let etl = "arn:aws:states:eu-west-1:123456789012:stateMachine:etl";
    assert_eq!(
        kinds,
        [
            SourceKind::StepFunctions(completion(etl, Stage::Collection)),
            SourceKind::Sagemaker(completion("tune", Stage::Training)),
            SourceKind::Batch(completion("gpu", Stage::Prediction)),
            SourceKind::Http(HttpSource { emits: Stage::Evaluation.event(StageVerb::Requested) }),
        ]
    );
    let until: Vec<_> =
        workflow.triggers.iter().filter_map(|t| Some(t.gather.as_ref()?.until.clone())).collect();
    let both = vec![
        Stage::Collection.event(StageVerb::Completed),
        Stage::Prediction.event(StageVerb::Failed),
    ];
    assert_eq!(until, [GatherUntil::QuietS(300), GatherUntil::AllOf(both), GatherUntil::Count(12)]);
    assert_eq!(
        workflow.triggers[1].gather.as_ref().and_then(|gather| gather.by.as_deref()),
        Some("$.dataset")
    );
    assert!(matches!(workflow.triggers[0].target, Target::Batch(_)));
    assert!(matches!(workflow.triggers[4].target, Target::StepFunctions(StateMachine::Arn(_))));
}

#[test]
fn the_model_survives_json() {
    for text in [EXAMPLE, SMALLEST] {
        let workflow = accepted(text);
        let json = serde_json::to_string(&workflow).expect("it serialises");
        assert_eq!(serde_json::from_str::<Workflow>(&json).expect("it reads again"), workflow);
    }
}
