//! The rules of EventBridge: what fills the ingest queue, and the sweep's call.

use std::collections::BTreeMap;

use bellwire_schema::workflow::{SourceKind, Workflow};
use serde_json::{Value, json};

use super::Desired;
use super::state_machines::machines_watched;
use crate::kind::rule::{self, Rule};
use crate::resource::{Owner, Properties, ResourceId};
use crate::watched;

/// How often the handler looks for what is due.
const SWEEP_EXPRESSION: &str = "rate(1 minute)";
/// The Id of every rule's only target.
const TARGET_ID: &str = "bellwire";

/// What one rule differs from another in.
struct RuleOf {
    description: String,
    schedule: Option<String>,
    pattern: Value,
    target: rule::Target,
}

impl Desired<'_> {
    pub(super) fn rules(&mut self) {
        let into_ingest = || rule::Target {
            arn: self.owner.place.queue_arn(&self.owner.deployment.ingest_queue()),
            input: Value::Null,
            dead_queue_arn: Some(self.dead_queue_arn()),
        };
        let queues = vec![self.ingest_queue_id(), self.dead_queue_id()];
        let machines = machines_watched(self.owner, self.workflow);
        let mut rules = Vec::new();
        if !machines.is_empty() {
            let rule = RuleOf {
                description: format!("Runs of Bellwire workflow {} that ended", self.workflow.name),
                schedule: None,
                pattern: watched::executions(&machines),
                target: into_ingest(),
            };
            rules.push(("completions".to_owned(), rule, queues.clone()));
        }
        for source in &self.workflow.sources {
            let (schedule, pattern) = match &source.kind {
                SourceKind::Schedule(schedule) => (Some(schedule.expression.clone()), Value::Null),
                kind => match watched::pattern(kind, &self.owner.place) {
                    Some(pattern) => (None, pattern),
                    None => continue,
                },
            };
            let (name, workflow) = (&source.name, &self.workflow.name);
            let description = format!("Source {name} of Bellwire workflow {workflow}");
            let rule = RuleOf { description, schedule, pattern, target: into_ingest() };
            rules.push((name.clone(), rule, queues.clone()));
        }
        for (trigger, pattern) in watched::own_runs(self.owner, self.workflow) {
            let workflow = &self.workflow.name;
            let description =
                format!("Runs of trigger {trigger} of Bellwire workflow {workflow} that ended");
            let rule = RuleOf { description, schedule: None, pattern, target: into_ingest() };
            rules.push((format!("runs-{trigger}"), rule, queues.clone()));
        }
        let sweep = RuleOf {
            description: format!("What is due in Bellwire workflow {}", self.workflow.name),
            schedule: Some(SWEEP_EXPRESSION.to_owned()),
            pattern: Value::Null,
            target: rule::Target {
                arn: self.owner.alias_arn(&self.owner.deployment.handler()),
                input: json!({"bellwire": "sweep"}),
                dead_queue_arn: None,
            },
        };
        let depends_on = vec![self.handler_alias_id(), self.permission_id("bellwire-sweep")];
        rules.push(("sweep".to_owned(), sweep, depends_on));
        for (purpose, rule, depends_on) in rules {
            self.rule(&purpose, rule, depends_on);
        }
    }

    fn rule(&mut self, purpose: &str, rule: RuleOf, depends_on: Vec<ResourceId>) {
        let name = self.owner.deployment.rule(purpose);
        let rule = Rule {
            arn: self.owner.place.rule_arn(&name),
            name,
            description: rule.description,
            schedule: rule.schedule,
            pattern: rule.pattern,
            enabled: true,
            targets: BTreeMap::from([(TARGET_ID.to_owned(), rule.target)]),
            tags: self.owner.tags(),
        };
        self.add(Properties::Rule(rule), depends_on);
    }
}

/// The names of the rules that fill the ingest queue.
pub(super) fn rules_into_ingest(owner: &Owner, workflow: &Workflow) -> Vec<String> {
    let has_rule = |kind: &SourceKind| {
        matches!(kind, SourceKind::Schedule(_) | SourceKind::Sagemaker(_) | SourceKind::Batch(_))
    };
    let sources = workflow.sources.iter().filter(|source| has_rule(&source.kind));
    let sources = sources.map(|source| owner.deployment.rule(&source.name));
    let watches = !machines_watched(owner, workflow).is_empty();
    let completions = watches.then(|| owner.deployment.rule("completions"));
    let own = watched::own_runs(owner, workflow).into_iter();
    let own = own.map(|(trigger, _)| owner.deployment.runs_rule(&trigger));
    completions.into_iter().chain(sources).chain(own).collect()
}
