//! The workflow file, compiled once: filters parsed, names resolved.

use bellwire_schema::filter::{FilterPolicy, Scope};
use bellwire_schema::function::Settings;
use bellwire_schema::workflow::{
    ClaimCheck, Guards, SourceKind, TopicKind, Trigger, WhenHeld, Workflow,
};
use bellwire_schema::{Deployment, Envelope, Place};

use crate::destination::Destination;
use crate::gather::rules::{GatherRules, object_of};
use crate::plan::{InputTemplate, TemplateError};
use crate::start::is_compiled;

/// A workflow in its place.
#[derive(Debug)]
pub struct Model {
    /// Workflow and environment.
    pub deployment: Deployment,
    /// Region and account.
    pub place: Place,
    /// The kind of the topic, which its name follows from.
    pub topic_kind: TopicKind,
    /// The triggers, in the order of the file.
    pub triggers: Vec<CompiledTrigger>,
    /// The whole file.
    pub workflow: Workflow,
    /// Days that the ledger remembers a start.
    pub retention_days: u32,
    /// Where the payloads are of events that were too large for SNS.
    pub claim_check: Option<ClaimCheck>,
}

/// A trigger whose filter and input are parsed, and whose target is known by ARN.
#[derive(Debug)]
pub struct CompiledTrigger {
    /// What the workflow file says.
    pub trigger: Trigger,
    /// Its `where`; `None`: all.
    pub condition: Option<FilterPolicy>,
    /// How it gathers; `None`: each event starts alone.
    pub gather: Option<GatherRules>,
    /// Its `input`; `None`: the event.
    pub input: Option<InputTemplate>,
    /// What it starts.
    pub destination: Destination,
}

/// A workflow that this handler cannot work by.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A trigger's `where` is no filter policy.
    #[error("trigger {trigger}: `where` is no filter policy: {problem}")]
    Condition {
        /// The trigger's name.
        trigger: String,
        /// What is wrong.
        problem: String,
    },
    /// A trigger's `input` has a query that is no JSONPath.
    #[error("trigger {trigger}: {source}")]
    Input {
        /// The trigger's name.
        trigger: String,
        /// What is wrong.
        source: TemplateError,
    },
    /// A trigger starts what this handler was compiled without.
    #[error(
        "trigger {trigger}: this handler was built without the target `{kind}`; build it for this workflow: cargo xtask build --workflow FILE"
    )]
    TargetNotCompiled {
        /// The trigger's name.
        trigger: String,
        /// The target's kind, by its key in the workflow file.
        kind: &'static str,
    },
    /// A trigger's `gather.by` is no JSONPath.
    #[error("trigger {trigger}: `gather.by` is no JSONPath: {problem}")]
    Gather {
        /// The trigger's name.
        trigger: String,
        /// What the parser says.
        problem: String,
    },
}

impl Model {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> String {
        self.deployment.topic(self.topic_kind)
    }

    /// What holds a trigger's starts back; nothing, where the file has it no more.
    pub(crate) fn guards_of(&self, trigger: &str) -> &Guards {
        const NONE: &Guards = &Guards {
            cooldown_s: None,
            max_concurrent: None,
            max_starts_per_day: None,
            when_held: WhenHeld::Wait,
        };
        let found = self.triggers.iter().find(|one| one.trigger.name == trigger);
        found.map_or(NONE, |one| &one.trigger.guards)
    }

    /// Whether an event is of a gather's marker or manifest that its source itself
    /// would not tell of: it is there for those that gather by it alone.
    #[must_use]
    pub fn is_marker_alone(&self, event: &Envelope) -> bool {
        let Some((bucket, key)) = object_of(event) else { return false };
        let mut sources = self.workflow.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::S3(s3) if s3.bucket == bucket && s3.emits == event.event_type => Some(s3),
            _ => None,
        });
        let names_it = |trigger: &CompiledTrigger| {
            trigger.gather.as_ref().is_some_and(|rules| rules.is_marker(event))
        };
        let is_under = |prefix: &str| key.starts_with(prefix);
        sources.clone().any(|s3| is_under(&s3.prefix))
            && !sources.any(|s3| is_under(&s3.prefix) && key.ends_with(&s3.suffix))
            && self.triggers.iter().any(names_it)
    }

    /// Compiles what the settings say.
    ///
    /// # Errors
    ///
    /// Where a trigger is not what the deploy would have let through.
    pub fn compile(settings: Settings) -> Result<Self, ModelError> {
        let Settings { workflow, deployment, place } = settings;
        let timeout_s = workflow.handler.timeout_s;
        let triggers = workflow
            .triggers
            .iter()
            .map(|trigger| {
                CompiledTrigger::compile(trigger.clone(), &deployment, &place, timeout_s)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            deployment,
            place,
            topic_kind: workflow.topic.kind,
            triggers,
            retention_days: workflow.ledger.retention_days,
            claim_check: workflow.claim_check.clone(),
            workflow,
        })
    }
}

impl CompiledTrigger {
    fn compile(
        trigger: Trigger,
        deployment: &Deployment,
        place: &Place,
        timeout_s: u32,
    ) -> Result<Self, ModelError> {
        let destination =
            Destination::of(&trigger.target, deployment, place, &trigger.name, timeout_s);
        if !is_compiled(destination.kind) {
            return Err(ModelError::TargetNotCompiled {
                trigger: trigger.name.clone(),
                kind: destination.kind.as_str(),
            });
        }
        let condition = trigger.condition.as_ref().map(|policy| {
            FilterPolicy::parse(policy, Scope::Body).map_err(|problems| ModelError::Condition {
                trigger: trigger.name.clone(),
                problem: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            })
        });
        let input = trigger.input.as_ref().map(|template| {
            InputTemplate::parse(template)
                .map_err(|source| ModelError::Input { trigger: trigger.name.clone(), source })
        });
        let gather = GatherRules::compile(&trigger).map_err(|error| ModelError::Gather {
            trigger: trigger.name.clone(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            condition: condition.transpose()?,
            gather,
            input: input.transpose()?,
            destination,
            trigger,
        })
    }
}
