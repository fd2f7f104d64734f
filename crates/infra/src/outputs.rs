//! What others need to know of a deployed workflow: ARNs, URLs, names.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::desired::ALIAS;
use crate::observe::Observation;
use crate::resource::{Kind, Owner, Properties};

/// What a deployed workflow consists of, as far as it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outputs {
    /// The account, 12 digits.
    pub account: String,
    /// The region.
    pub region: String,
    /// The workflow.
    pub workflow: String,
    /// Its environment, where there is one.
    pub environment: Option<String>,
    /// The topic's ARN.
    pub topic_arn: Option<String>,
    /// What publishes: a sidecar that somebody runs, or a function.
    pub publisher: Option<PublisherOutput>,
    /// The ARN of the handler's `live` alias.
    pub handler_arn: Option<String>,
    /// The ARNs of the `live` aliases of the user's own functions, by function name.
    pub functions: BTreeMap<String, String>,
    /// The queues, by name.
    pub queues: BTreeMap<String, QueueOutput>,
    /// The buckets that send notifications, made or found.
    pub buckets: Vec<String>,
    /// The ledger's table.
    pub ledger_table: Option<String>,
    /// The ARNs of the state machines, by name.
    pub state_machines: BTreeMap<String, String>,
    /// The ARNs of the roles, by name.
    pub roles: BTreeMap<String, String>,
    /// The ARN of the topic that the alarms publish to, where the deploy made it.
    pub alarm_topic_arn: Option<String>,
    /// The alarms, by name.
    pub alarms: Vec<String>,
    /// The dashboard's name.
    pub dashboard: Option<String>,
    /// Who was subscribed, and has yet to confirm.
    pub unconfirmed: Vec<String>,
    /// The log groups.
    pub log_groups: Vec<String>,
    /// How many resources there are in all.
    pub resources: usize,
}

/// The publisher, as the workflow file wants it to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "run", rename_all = "kebab-case")]
pub enum PublisherOutput {
    /// A process, which somebody has to run.
    Sidecar {
        /// The ARN of the role that is made for it.
        role_arn: String,
    },
    /// A function on the ingest queue's event source.
    Lambda {
        /// The ARN of its `live` alias.
        arn: String,
    },
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueOutput {
    /// Its ARN.
    pub arn: String,
    /// Its URL.
    pub url: String,
}

/// Sums up what was observed; queue URLs are asked for, by name.
pub(crate) fn outputs(
    owner: &Owner,
    observation: &Observation,
    queue_urls: &BTreeMap<String, String>,
) -> Outputs {
    let mut outputs = Outputs {
        account: owner.place.account.clone(),
        region: owner.place.region.clone(),
        workflow: owner.deployment.workflow.clone(),
        environment: owner.deployment.environment.clone(),
        resources: observation.resources.len(),
        ..Outputs::default()
    };
    for observed in &observation.resources {
        take(&mut outputs, owner, queue_urls, &observed.properties);
        if let Properties::Subscription(subscription) = &observed.properties
            && !observed.notes.is_empty()
        {
            outputs.unconfirmed.push(subscription.endpoint.clone());
        }
    }
    outputs
}

fn take(
    outputs: &mut Outputs,
    owner: &Owner,
    queue_urls: &BTreeMap<String, String>,
    properties: &Properties,
) {
    match properties {
        // That of the alarms is beside it.
        Properties::Topic(topic) if topic.name == owner.deployment.alarm_topic() => {
            outputs.alarm_topic_arn = Some(topic.arn.clone());
        }
        Properties::Topic(topic) => outputs.topic_arn = Some(topic.arn.clone()),
        Properties::Queue(queue) => {
            let url = queue_urls.get(&queue.name).cloned().unwrap_or_default();
            let output = QueueOutput { arn: queue.arn.clone(), url };
            outputs.queues.insert(queue.name.clone(), output);
        }
        Properties::BucketNotification(notification) => {
            outputs.buckets.push(notification.bucket.clone());
        }
        Properties::Table(table) => outputs.ledger_table = Some(table.name.clone()),
        Properties::LogGroup(group) => outputs.log_groups.push(group.name.clone()),
        Properties::Role(role) => {
            // A function has such a role too: its alias comes later, and has the last word.
            if role.name == owner.deployment.publisher() {
                let role_arn = role.arn.clone();
                outputs.publisher = Some(PublisherOutput::Sidecar { role_arn });
            }
            outputs.roles.insert(role.name.clone(), role.arn.clone());
        }
        Properties::Alias(alias) if alias.alias == ALIAS => {
            let arn = owner.alias_arn(&alias.function);
            if alias.function == owner.deployment.handler() {
                outputs.handler_arn = Some(arn);
            } else if alias.function == owner.deployment.publisher() {
                outputs.publisher = Some(PublisherOutput::Lambda { arn });
            } else {
                outputs.functions.insert(alias.function.clone(), arn);
            }
        }
        Properties::Alarm(alarm) => outputs.alarms.push(alarm.name.clone()),
        Properties::Dashboard(dashboard) => outputs.dashboard = Some(dashboard.name.clone()),
        Properties::StateMachine(machine) => {
            outputs.state_machines.insert(machine.name.clone(), machine.arn.clone());
        }
        _ => {}
    }
}

impl Outputs {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        rows.extend(self.topic_arn.iter().map(|arn| ("topic", arn.clone())));
        rows.extend(self.publisher.iter().map(|publisher| match publisher {
            PublisherOutput::Sidecar { role_arn } => {
                ("publisher", format!("a sidecar, to be run as {role_arn}"))
            }
            PublisherOutput::Lambda { arn } => ("publisher", arn.clone()),
        }));
        rows.extend(self.handler_arn.iter().map(|arn| ("handler", arn.clone())));
        rows.extend(self.functions.values().map(|arn| ("function", arn.clone())));
        for queue in self.queues.values() {
            rows.push(("queue", queue.arn.clone()));
            rows.push(("", queue.url.clone()));
        }
        rows.extend(self.buckets.iter().map(|bucket| ("bucket", bucket.clone())));
        rows.extend(self.ledger_table.iter().map(|table| ("ledger", table.clone())));
        rows.extend(
            self.state_machines.values().map(|arn| (Kind::StateMachine.label(), arn.clone())),
        );
        rows.extend(self.roles.values().map(|arn| ("role", arn.clone())));
        rows.extend(self.alarm_topic_arn.iter().map(|arn| ("alarms tell", arn.clone())));
        rows.extend(self.alarms.iter().map(|alarm| (Kind::Alarm.label(), alarm.clone())));
        rows.extend(self.dashboard.iter().map(|name| (Kind::Dashboard.label(), name.clone())));
        let waits = |endpoint: &String| ("unconfirmed", format!("{endpoint} has yet to confirm"));
        rows.extend(self.unconfirmed.iter().map(waits));
        rows.extend(self.log_groups.iter().map(|group| ("log group", group.clone())));
        rows
    }
}

impl fmt::Display for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        for (index, (label, value)) in rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{label:<width$}  {value}")?;
        }
        Ok(())
    }
}
