//! The alarms: what goes wrong without anybody being told, and whom to tell.
//!
//! What each means, and what to do, is in `docs/alarms.md`.

use std::collections::BTreeMap;

use bellwire_schema::counted::{self, Counted};
use bellwire_schema::workflow::{AlarmKind, LookBack, Target, TargetKind, TopicKind, Trigger};
use serde_json::{Value, json};

use super::Desired;
use crate::kind::alarm::{Alarm, Metric};
use crate::kind::subscription::Subscription;
use crate::kind::topic::Topic;
use crate::policy;
use crate::resource::{Kind, Owner, Properties, ResourceId};

/// The period of what should be told soon, in seconds: SQS and Lambda count by the minute,
/// and some minutes late.
const PERIOD_S: u64 = 300;
/// Age is known by the minute.
const AGE_PERIOD_S: u64 = 60;

/// What one alarm differs from another in.
struct AlarmOf {
    purpose: String,
    meaning: String,
    metrics: Vec<Metric>,
    statistic: &'static str,
    period_s: u64,
    periods: u64,
    comparison: &'static str,
    threshold: u64,
    missing_data: &'static str,
}

impl AlarmOf {
    /// Goes off as soon as there is one; where nothing is counted, there is none.
    fn any(purpose: &str, meaning: &str, metrics: Vec<Metric>) -> Self {
        Self {
            purpose: purpose.to_owned(),
            meaning: meaning.to_owned(),
            metrics,
            statistic: "Sum",
            period_s: PERIOD_S,
            periods: 1,
            comparison: "GreaterThanThreshold",
            threshold: 0,
            missing_data: "notBreaching",
        }
    }
}

impl Desired<'_> {
    pub(super) fn alarms(&mut self) {
        if !self.workflow.alarms.enabled {
            return;
        }
        self.alarm_topic();
        let has = |kind| self.workflow.alarms.has(kind);
        let mut all = Vec::new();
        if has(AlarmKind::DeadQueue) {
            all.extend(self.dead_queues());
        }
        if has(AlarmKind::QueueAge) {
            all.extend(self.queue_ages());
        }
        if has(AlarmKind::HandlerErrors) {
            let meaning =
                "The handler failed: what it was called for is tried again, and then dead";
            all.push(AlarmOf::any("handler-errors", meaning, vec![self.of_handler("Errors")]));
        }
        if has(AlarmKind::HandlerThrottles) {
            let meaning =
                "Lambda did not let the handler run: its concurrency, or the account's, is used up";
            all.push(AlarmOf::any(
                "handler-throttles",
                meaning,
                vec![self.of_handler("Throttles")],
            ));
        }
        if has(AlarmKind::Deliveries) {
            all.extend(self.deliveries());
        }
        if has(AlarmKind::Runs) {
            all.extend(self.runs());
        }
        if has(AlarmKind::Expected) {
            all.extend(self.expected());
        }
        for alarm in all {
            self.alarm(alarm);
        }
    }

    fn alarm(&mut self, alarm: AlarmOf) {
        let name = self.owner.deployment.alarm(&alarm.purpose);
        let tells = self.alarms_tell();
        let workflow = &self.workflow.name;
        let properties = Alarm {
            arn: self.owner.place.alarm_arn(&name),
            name,
            description: format!(
                "{}. Bellwire workflow {workflow}; what to do: docs/alarms.md",
                alarm.meaning
            ),
            metrics: alarm.metrics,
            statistic: alarm.statistic.to_owned(),
            period_s: alarm.period_s,
            periods: alarm.periods,
            datapoints: alarm.periods,
            comparison: alarm.comparison.to_owned(),
            threshold: alarm.threshold,
            missing_data: alarm.missing_data.to_owned(),
            tells_when_over: tells.clone(),
            tells,
            enabled: true,
            tags: self.owner.tags(),
        };
        let topic = self.workflow.alarms.email.as_ref();
        let topic =
            topic.map(|_| ResourceId::new(Kind::Topic, self.owner.deployment.alarm_topic()));
        self.add(Properties::Alarm(properties), topic.into_iter().collect());
    }

    /// The topic of an e-mail address, which is never that of events: what alarms tell
    /// would be no event, and what fails there would tell of itself.
    fn alarm_topic(&mut self) {
        let Some(email) = &self.workflow.alarms.email else { return };
        let name = self.owner.deployment.alarm_topic();
        let arn = self.owner.place.topic_arn(&name);
        // CloudWatch cannot use the key that AWS manages for SNS.
        let key = self.workflow.topic_key();
        let topic = Topic {
            policy: policy_of(self.owner, &arn),
            display_name: format!("{} alarms", self.owner.deployment.prefix()),
            kms_key: key.map_or_else(String::new, |key| crate::topic_key::name(self.owner, key)),
            tags: self.owner.tags(),
            name: name.clone(),
            arn: arn.clone(),
        };
        self.add(Properties::Topic(topic), self.before_topic());
        let subscription = Subscription {
            topic_arn: arn,
            protocol: "email".to_owned(),
            endpoint: email.clone(),
            filter_policy: Value::Null,
            filter_scope: "MessageAttributes".to_owned(),
            is_raw: false,
            dead_queue_arn: None,
        };
        let depends_on = vec![ResourceId::new(Kind::Topic, name)];
        self.add(Properties::Subscription(subscription), depends_on);
    }

    fn alarms_tell(&self) -> Vec<String> {
        let Owner { deployment, place, .. } = self.owner;
        let alarms = &self.workflow.alarms;
        let own = alarms.email.as_ref().map(|_| place.topic_arn(&deployment.alarm_topic()));
        own.or_else(|| alarms.topic.clone()).into_iter().collect()
    }

    /// The dead queues, by the suffix of their alarms.
    fn dead_queues(&self) -> Vec<AlarmOf> {
        let deployment = &self.owner.deployment;
        let fifo = (self.workflow.topic.kind == TopicKind::Fifo)
            .then(|| ("dead-queue-fifo", deployment.fifo_dead_queue()));
        let queues = [("dead-queue", deployment.dead_queue())].into_iter().chain(fifo);
        let meaning = "Something could not be handled, and is in the dead queue";
        let alarm = |(purpose, queue): (&str, String)| AlarmOf {
            statistic: "Maximum",
            ..AlarmOf::any(purpose, meaning, vec![messages_in(&queue)])
        };
        queues.map(alarm).collect()
    }

    fn queue_ages(&self) -> Vec<AlarmOf> {
        let work = self.is_queued().then(|| ("work-age", self.work_queue(), "handler"));
        let ingest = ("ingest-age", self.owner.deployment.ingest_queue(), "publisher");
        let alarm = |(purpose, queue, who): (&str, String, &str)| {
            let meaning = format!("A message waits too long for the {who}");
            AlarmOf {
                statistic: "Maximum",
                period_s: AGE_PERIOD_S,
                comparison: "GreaterThanOrEqualToThreshold",
                threshold: self.workflow.alarms.queue_age_s,
                ..AlarmOf::any(purpose, &meaning, vec![age_in(&queue)])
            }
        };
        [ingest].into_iter().chain(work).map(alarm).collect()
    }

    fn of_handler(&self, metric: &str) -> Metric {
        of_function(&self.owner.deployment.handler(), metric)
    }

    fn deliveries(&self) -> [AlarmOf; 2] {
        let topic = self.owner.deployment.topic(self.workflow.topic.kind);
        let of = |metric: &str| vec![Metric::of("AWS/SNS", metric, ("TopicName", &topic))];
        let failed =
            "The topic could not deliver to a subscriber; what it could not is in the dead queue";
        let lost = "The topic could not deliver to a subscriber, nor to the dead queue: it is lost";
        [
            AlarmOf::any("deliveries", failed, of("NumberOfNotificationsFailed")),
            AlarmOf::any("deliveries-lost", lost, of("NumberOfNotificationsFailedToRedriveToDlq")),
        ]
    }

    fn runs(&self) -> Vec<AlarmOf> {
        let triggers = self.workflow.triggers.iter();
        let alarm = |trigger: &Trigger| {
            let metrics = failures_of(self.owner, trigger);
            let meaning = format!("A run that trigger {} has started failed", trigger.name);
            let purpose = format!("runs-{}", trigger.name);
            (!metrics.is_empty()).then(|| AlarmOf::any(&purpose, &meaning, metrics))
        };
        triggers.filter_map(alarm).collect()
    }

    /// No data is the alarm: only data makes it well. It looks back in as many periods as
    /// CloudWatch lets it, so that it is late by one at most.
    fn expected(&self) -> Vec<AlarmOf> {
        let sources = self.workflow.sources.iter();
        let expected = sources.filter_map(|one| Some((one, LookBack::over(one.expected_s?)?)));
        let alarm = |(source, back): (&bellwire_schema::workflow::Source, LookBack)| {
            let metric = counted_metric(self.owner, Counted::SourceEvents, &source.name);
            let meaning =
                format!("No event of source {} has come by the time it was expected", source.name);
            AlarmOf {
                period_s: back.period_s,
                periods: back.periods,
                comparison: "LessThanThreshold",
                threshold: 1,
                missing_data: "breaching",
                ..AlarmOf::any(&format!("expected-{}", source.name), &meaning, vec![metric])
            }
        };
        expected.map(alarm).collect()
    }
}

/// Lets CloudWatch tell the alarms' topic, for alarms of this account; and TLS only.
fn policy_of(owner: &Owner, topic: &str) -> Value {
    let alarms = owner.place.alarm_arn(&format!("{}-*", owner.deployment.prefix()));
    let publishes = json!({
        "Sid": "AlarmsPublish",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {
            "ArnLike": {"aws:SourceArn": alarms},
            "StringEquals": {"aws:SourceAccount": owner.place.account},
        },
    });
    policy::document(&[publishes, policy::tls_only("sns:Publish", &[topic.to_owned()])])
}

/// Messages of a queue that anybody may receive.
pub(super) fn messages_in(queue: &str) -> Metric {
    Metric::of("AWS/SQS", "ApproximateNumberOfMessagesVisible", ("QueueName", queue))
}

/// How long a queue's oldest message has waited.
pub(super) fn age_in(queue: &str) -> Metric {
    Metric::of("AWS/SQS", "ApproximateAgeOfOldestMessage", ("QueueName", queue))
}

/// A metric of a function, whatever its version.
pub(super) fn of_function(function: &str, metric: &str) -> Metric {
    Metric::of("AWS/Lambda", metric, ("FunctionName", function))
}

/// A metric that the handler counts.
pub(super) fn counted_metric(owner: &Owner, counted: Counted, of: &str) -> Metric {
    Metric {
        namespace: counted::NAMESPACE.to_owned(),
        name: counted.name().to_owned(),
        dimensions: BTreeMap::from([
            (counted::WORKFLOW.to_owned(), owner.deployment.prefix()),
            (counted.dimension().to_owned(), of.to_owned()),
        ]),
    }
}

/// What counts the failed runs of a trigger: AWS itself, or the handler where it does not;
/// empty for what has no runs.
///
/// Sources: AWS Step Functions developer guide, "Monitoring Step Functions metrics using
/// Amazon CloudWatch"; Amazon SageMaker AI developer guide, "Amazon SageMaker AI metrics in
/// Amazon CloudWatch", "Pipelines metrics"; AWS Lambda developer guide, "Types of metrics".
pub(super) fn failures_of(owner: &Owner, trigger: &Trigger) -> Vec<Metric> {
    let arn = trigger.target.arn(&owner.deployment, &owner.place, &trigger.name);
    match trigger.target.kind() {
        TargetKind::StepFunctions => {
            ["ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"]
                .map(|name| of_machine(&arn, name))
                .into()
        }
        TargetKind::SagemakerPipeline => {
            let name = arn.rsplit('/').next().unwrap_or_default();
            let namespace = "AWS/Sagemaker/ModelBuildingPipeline";
            vec![Metric::of(namespace, "ExecutionFailed", ("PipelineName", name))]
        }
        TargetKind::Lambda => {
            let name = arn.split(":function:").nth(1).unwrap_or_default();
            vec![of_function(name.split(':').next().unwrap_or_default(), "Errors")]
        }
        kind if counted::counts_failed(kind) => {
            vec![counted_metric(owner, Counted::RunsFailed, &trigger.name)]
        }
        _ => Vec::new(),
    }
}

/// A metric of a state machine.
pub(super) fn of_machine(arn: &str, metric: &str) -> Metric {
    Metric::of("AWS/States", metric, ("StateMachineArn", arn))
}

/// Whether a trigger starts a state machine.
pub(super) fn is_machine(trigger: &Trigger) -> bool {
    matches!(trigger.target, Target::StepFunctions(_))
}
