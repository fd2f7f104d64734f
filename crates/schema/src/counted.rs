//! What the handler counts for alarms, and in which words: a line of its log that
//! CloudWatch makes a metric of.
//!
//! The line is in CloudWatch's embedded metric format, so that it takes no call, no
//! permission and no filter, and is written whatever the log's level is. Source: Amazon
//! CloudWatch user guide, "Specification: Embedded metric format".

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::completion::{RunResource, Watch};
use crate::event_type::{EventType, StageVerb};
use crate::workflow::{CompletionSource, Source, SourceKind, TargetKind, Workflow};
use crate::{Deployment, Envelope, Place};

/// The namespace of Bellwire's own metrics.
pub const NAMESPACE: &str = "Bellwire";
/// The dimension that names the deployment: `wine`, or `wine-prod`.
pub const WORKFLOW: &str = "Workflow";

/// A metric of the handler's, and the dimension beside [`WORKFLOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Events of a source that says how often they are expected.
    SourceEvents,
    /// Runs of a trigger that failed, where AWS has no metric of its own for that.
    RunsFailed,
}

impl Counted {
    /// The metric's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceEvents => "SourceEvents",
            Self::RunsFailed => "RunsFailed",
        }
    }

    /// The dimension's name.
    #[must_use]
    pub const fn dimension(self) -> &'static str {
        match self {
            Self::SourceEvents => "Source",
            Self::RunsFailed => "Trigger",
        }
    }

    /// The line that counts one.
    ///
    /// ```
    /// use bellwire_schema::counted::Counted;
    /// let at = jiff::Timestamp::UNIX_EPOCH;
    /// let line = Counted::SourceEvents.line("wine", "raw", at);
    /// assert_eq!(line["SourceEvents"], 1);
    /// ```
    #[must_use]
    pub fn line(self, deployment: &str, of: &str, at: Timestamp) -> Value {
        json!({
            "_aws": {
                "Timestamp": at.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [[WORKFLOW, self.dimension()]],
                    "Metrics": [{"Name": self.name(), "Unit": "Count"}],
                }],
            },
            WORKFLOW: deployment,
            (self.dimension()): of,
            (self.name()): 1,
        })
    }
}

/// Whether failed runs of a kind of target are counted by the handler: of the others that
/// tell their end, AWS counts them itself.
#[must_use]
pub const fn counts_failed(kind: TargetKind) -> bool {
    matches!(kind, TargetKind::Batch)
}

impl Workflow {
    /// The sources that expect events, and of which this is one.
    pub fn expecting<'a>(
        &'a self,
        deployment: &'a Deployment,
        place: &'a Place,
        event: &'a Envelope,
    ) -> impl Iterator<Item = &'a Source> {
        let expecting = self.sources.iter().filter(|source| source.expected_s.is_some());
        expecting.filter(move |source| is_of(source, deployment, place, event))
    }
}

/// Whether an event is of a source, by what the envelope says of its cause.
fn is_of(source: &Source, deployment: &Deployment, place: &Place, event: &Envelope) -> bool {
    let is_type = |emits: &EventType| event.event_type == *emits;
    match &source.kind {
        SourceKind::S3(s3) => {
            let text = |name: &str| event.data.as_ref().and_then(|data| data[name].as_str());
            is_type(&s3.emits)
                && text("bucket") == Some(&s3.bucket)
                && text("key")
                    .is_some_and(|key| key.starts_with(&s3.prefix) && key.ends_with(&s3.suffix))
        }
        SourceKind::Schedule(schedule) => {
            is_type(&schedule.emits)
                && event.source == place.rule_arn(&deployment.rule(&source.name))
        }
        SourceKind::StepFunctions(of) | SourceKind::Sagemaker(of) | SourceKind::Batch(of) => {
            is_completion_of(of, &source.kind, place, event)
        }
        // An application names itself as it likes; the dataset tells two sources apart.
        SourceKind::Http(http) => {
            is_type(&http.emits) && (source.dataset.is_none() || source.dataset == event.dataset)
        }
    }
}

fn is_completion_of(
    of: &CompletionSource,
    kind: &SourceKind,
    place: &Place,
    event: &Envelope,
) -> bool {
    let ends = [of.stage.event(StageVerb::Completed), of.stage.event(StageVerb::Failed)];
    // What the `source` of a completion is: see `RunCompletion::to_envelope`.
    let ran = match TargetKind::of_arn(&event.source) {
        Some(TargetKind::StepFunctions) => RunResource::StateMachine(event.source.clone()),
        Some(TargetKind::Batch) => RunResource::JobQueue(event.source.clone()),
        Some(TargetKind::SagemakerPipeline) if event.source.contains(":pipeline/") => {
            RunResource::Pipeline(event.source.clone())
        }
        Some(TargetKind::SagemakerPipeline) => {
            let name = event.source.rsplit('/').next().unwrap_or_default();
            RunResource::SagemakerJob(name.to_owned())
        }
        _ => return false,
    };
    ends.contains(&event.event_type) && Watch::of(kind, place).iter().any(|watch| watch.is_of(&ran))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::read;

    const FILE: &str = r#"
workflow = "wine"

[[source]]
name = "raw"
kind = "s3"
bucket = "lake"
prefix = "raw/"
suffix = ".csv"
expected = "24h"

[[source]]
name = "quiet"
kind = "s3"
bucket = "lake"
prefix = "quiet/"

[[source]]
name = "nightly"
kind = "schedule"
expression = "rate(1 day)"
emits = "training.requested"
expected = "25h"

[[source]]
name = "labels"
kind = "http"
emits = "training.requested"
dataset = "labels"
expected = "30m"

[[source]]
name = "theirs"
kind = "step-functions"
resource = "etl"
stage = "training"
expected = "2d"

[[source]]
name = "jobs"
kind = "sagemaker"
resource = "fit-"
stage = "training"
expected = "2d"

[[trigger]]
name = "train"
stage = "training"
on = ["data.arrived", "training.requested"]
start = { step-functions = "train.asl.json" }
"#;

    fn expecting(event: &Envelope) -> Vec<String> {
        let workflow = read(FILE).unwrap_or_else(|problems| panic!("{problems}"));
        let (deployment, place) =
            (Deployment::new("wine", Some("prod")), Place::new("eu-west-1", "123456789012"));
        workflow.expecting(&deployment, &place, event).map(|one| one.name.clone()).collect()
    }

    fn event(source: &str, event_type: &str) -> Envelope {
        Envelope::new("1", source, event_type.parse().expect("a type"))
    }

    #[test]
    fn an_event_is_of_the_source_that_told_of_it() {
        let object = |bucket: &str, key: &str| {
            let data = json!({"bucket": bucket, "key": key});
            event("arn:aws:s3:::lake", "data.arrived").with_payload(&data)
        };
        assert_eq!(expecting(&object("lake", "raw/a.csv")), ["raw"]);
        for (bucket, key) in [("other", "raw/a.csv"), ("lake", "a.csv"), ("lake", "raw/a.json")] {
            assert!(expecting(&object(bucket, key)).is_empty(), "{bucket} {key}");
        }
        assert!(expecting(&object("lake", "quiet/a.csv")).is_empty(), "nothing is expected");

        let rule = "arn:aws:events:eu-west-1:123456789012:rule/wine-prod-nightly";
        assert_eq!(expecting(&event(rule, "training.requested")), ["nightly"]);
        let mut posted = event("urn:app", "training.requested");
        assert!(expecting(&posted).is_empty(), "of another dataset");
        posted.dataset = Some("labels".to_owned());
        assert_eq!(expecting(&posted), ["labels"]);

        let arn =
            |service: &str, what: &str| format!("arn:aws:{service}:eu-west-1:123456789012:{what}");
        let machine = event(&arn("states", "stateMachine:etl"), "training.failed");
        assert_eq!(expecting(&machine), ["theirs"]);
        let other = event(&arn("states", "stateMachine:etl"), "evaluation.failed");
        assert!(expecting(&other).is_empty(), "of another stage");
        for what in ["training-job/fit-7", "pipeline/fit-"] {
            assert_eq!(expecting(&event(&arn("sagemaker", what), "training.completed")), ["jobs"]);
        }
        assert!(
            expecting(&event(&arn("sagemaker", "pipeline/x"), "training.completed")).is_empty()
        );
    }

    #[test]
    fn the_line_is_what_cloudwatch_makes_a_metric_of() {
        let line = Counted::RunsFailed.line("wine-prod", "train", Timestamp::UNIX_EPOCH);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], NAMESPACE);
        assert_eq!(line["_aws"]["Timestamp"], 0);
        for dimension in directive["Dimensions"][0].as_array().expect("a list") {
            assert!(line[dimension.as_str().expect("a name")].is_string(), "{line}");
        }
        let metric = directive["Metrics"][0]["Name"].as_str().expect("a name");
        assert_eq!(line[metric], 1);
    }
}
