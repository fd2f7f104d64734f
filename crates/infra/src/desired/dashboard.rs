//! The dashboard: the way of an event through the workflow, from left to right and from
//! top to bottom.

use bellwire_schema::counted::Counted;
use serde_json::{Value, json};

use super::alarms::{
    age_in, counted_metric, failures_of, is_machine, messages_in, of_function, of_machine,
};
use super::{Desired, log_group_of};
use crate::kind::alarm::Metric;
use crate::kind::dashboard::{Dashboard, mark};
use crate::resource::{Kind, Properties, Resource};

/// The width of a dashboard, in its own units. Source: Amazon CloudWatch API reference,
/// "Dashboard body structure and syntax".
const WIDTH: u64 = 24;
const HALF: u64 = WIDTH / 2;
const HEIGHT: u64 = 6;
/// The period of all graphs, in seconds.
const PERIOD_S: u64 = 300;

/// A line of a graph, with the statistic that it shows.
struct Line {
    metric: Metric,
    statistic: &'static str,
    label: String,
}

impl Line {
    fn new(metric: Metric, statistic: &'static str, label: &str) -> Self {
        Self { metric, statistic, label: label.to_owned() }
    }

    fn to_json(&self) -> Value {
        let mut line = vec![json!(self.metric.namespace), json!(self.metric.name)];
        for (name, value) in &self.metric.dimensions {
            line.extend([json!(name), json!(value)]);
        }
        line.push(json!({"stat": self.statistic, "label": self.label}));
        Value::Array(line)
    }
}

impl Desired<'_> {
    pub(super) fn dashboard(&mut self) {
        if !self.workflow.alarms.dashboard {
            return;
        }
        let mut widgets = vec![self.heading()];
        widgets.extend(self.alarm_states());
        widgets.extend([
            self.graph("Queues: messages waiting", &self.waiting()),
            self.graph("Queues: age of the oldest message, seconds", &self.ages()),
            self.graph("Topic: messages", &self.topic_lines()),
            self.graph("Handler: invocations", &self.handler_lines()),
            self.graph("Handler: duration, milliseconds", &self.durations()),
            self.graph("Runs: started and failed", &self.run_lines()),
        ]);
        let expected = self.expected_lines();
        if !expected.is_empty() {
            widgets.push(self.graph("Sources: events, where they are expected", &expected));
        }
        widgets.push(self.errors());
        let dashboard = Dashboard {
            name: self.owner.deployment.prefix(),
            body: json!({"widgets": placed(widgets)}),
        };
        self.add(Properties::Dashboard(dashboard), vec![]);
    }

    /// By its last line a dashboard is known to be this workflow's.
    fn heading(&self) -> Value {
        let title = self.owner.deployment.prefix();
        let text = format!(
            "# {title}\nEvents come from the left: queues, topic, handler, runs. What each alarm means: docs/alarms.md\n\n{}",
            mark(self.owner)
        );
        json!({"type": "text", "width": WIDTH, "height": 3, "properties": {"markdown": text}})
    }

    fn alarm_states(&self) -> Option<Value> {
        let of_alarm = |resource: &Resource| match &resource.properties {
            Properties::Alarm(alarm) => Some(alarm.arn.clone()),
            _ => None,
        };
        let mut alarms: Vec<String> = self.resources.iter().filter_map(of_alarm).collect();
        alarms.sort();
        (!alarms.is_empty()).then(|| {
            json!({
                "type": "alarm", "width": WIDTH, "height": 3,
                "properties": {"title": "Alarms", "alarms": alarms},
            })
        })
    }

    fn graph(&self, title: &str, lines: &[Line]) -> Value {
        json!({
            "type": "metric", "width": HALF, "height": HEIGHT,
            "properties": {
                "title": title,
                "view": "timeSeries",
                "region": self.owner.place.region,
                "period": PERIOD_S,
                "metrics": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
            },
        })
    }

    /// The queues of this workflow, by what people call them.
    fn queue_names(&self) -> Vec<String> {
        let ids = self.resources.iter().map(Resource::id);
        let mut names: Vec<String> =
            ids.filter(|id| id.kind == Kind::Queue).map(|id| id.name).collect();
        names.sort();
        names
    }

    fn waiting(&self) -> Vec<Line> {
        let line = |name: String| Line::new(messages_in(&name), "Maximum", &name);
        self.queue_names().into_iter().map(line).collect()
    }

    fn ages(&self) -> Vec<Line> {
        let line = |name: String| Line::new(age_in(&name), "Maximum", &name);
        self.queue_names().into_iter().map(line).collect()
    }

    fn topic_lines(&self) -> Vec<Line> {
        let topic = self.owner.deployment.topic(self.workflow.topic.kind);
        let metrics = [
            ("NumberOfMessagesPublished", "published"),
            ("NumberOfNotificationsDelivered", "delivered"),
            ("NumberOfNotificationsFilteredOut", "filtered out"),
            ("NumberOfNotificationsFailed", "failed"),
        ];
        let of = |name: &str| Metric::of("AWS/SNS", name, ("TopicName", &topic));
        metrics.map(|(name, label)| Line::new(of(name), "Sum", label)).into()
    }

    fn handler_lines(&self) -> Vec<Line> {
        let handler = self.owner.deployment.handler();
        let metrics =
            [("Invocations", "invoked"), ("Errors", "failed"), ("Throttles", "throttled")];
        metrics.map(|(name, label)| Line::new(of_function(&handler, name), "Sum", label)).into()
    }

    fn durations(&self) -> Vec<Line> {
        let handler = self.owner.deployment.handler();
        let of = |statistic| Line::new(of_function(&handler, "Duration"), statistic, statistic);
        vec![of("p50"), of("p99"), of("Maximum")]
    }

    fn run_lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for trigger in &self.workflow.triggers {
            let arn = trigger.target.arn(&self.owner.deployment, &self.owner.place, &trigger.name);
            if is_machine(trigger) {
                let label = format!("{} started", trigger.name);
                lines.push(Line::new(of_machine(&arn, "ExecutionsStarted"), "Sum", &label));
            }
            let failures = failures_of(self.owner, trigger).into_iter();
            lines.extend(failures.map(|metric| {
                let how = match metric.name.as_str() {
                    "ExecutionsTimedOut" => "timed out",
                    "ExecutionsAborted" => "aborted",
                    _ => "failed",
                };
                Line::new(metric, "Sum", &format!("{} {how}", trigger.name))
            }));
        }
        lines
    }

    fn expected_lines(&self) -> Vec<Line> {
        let sources = self.workflow.sources.iter().filter(|source| source.expected_s.is_some());
        let line = |source: &bellwire_schema::workflow::Source| {
            let metric = counted_metric(self.owner, Counted::SourceEvents, &source.name);
            Line::new(metric, "Sum", &source.name)
        };
        sources.map(line).collect()
    }

    /// The last words of the handler that are errors.
    fn errors(&self) -> Value {
        let group = log_group_of(&self.owner.deployment.handler());
        let query = format!(
            "SOURCE '{group}' | fields @timestamp, message, error | filter level = \"ERROR\" | sort @timestamp desc | limit 20"
        );
        json!({
            "type": "log", "width": WIDTH, "height": HEIGHT,
            "properties": {
                "title": "Handler: errors",
                "view": "table",
                "region": self.owner.place.region,
                "query": query,
            },
        })
    }
}

/// Puts widgets into rows, each to the right of the one before as long as it fits.
fn placed(widgets: Vec<Value>) -> Vec<Value> {
    let (mut x, mut y, mut row) = (0, 0, 0);
    let mut placed = Vec::new();
    for mut widget in widgets {
        let size = |key: &str| widget[key].as_u64().unwrap_or(0);
        let (width, height) = (size("width"), size("height"));
        if x + width > WIDTH {
            (x, y, row) = (0, y + row, 0);
        }
        widget["x"] = json!(x);
        widget["y"] = json!(y);
        (x, row) = (x + width, row.max(height));
        placed.push(widget);
    }
    placed
}
