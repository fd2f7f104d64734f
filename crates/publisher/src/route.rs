//! `route`: a record, under the workflow's sources and triggers, to an event's
//! draft or a named skip. Pure.

use std::collections::BTreeMap;
use std::fmt;

use bellwire_schema::completion::{
    CompletionOrigin, RunCompletion, RunResource, Watch, one_pipeline_arn,
};
use bellwire_schema::id::{ObjectChange, schedule_event_id};
use bellwire_schema::payload::StageRequested;
use bellwire_schema::s3::ObjectEvent;
use bellwire_schema::workflow::{
    ContextFrom, ScheduleSource, Source, SourceKind, TargetKind, Via, Workflow,
};
use bellwire_schema::{Deployment, Envelope, EventContext, Place, RunContext, Stage};

use crate::decode::{Record, Tick};

/// Why a record is deliberately no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// S3 has tried out a notification.
    TestEvent,
    /// What consoles create for an empty "folder".
    FolderMarker,
    /// No source of the workflow watches it.
    NoRule,
    /// The run has begun, and not ended.
    RunStillRunning,
    /// Neither created nor removed: restored, or moved to another storage class.
    OtherObjectEvent,
}

impl Skip {
    /// Its name, in logs and counts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TestEvent => "test-event",
            Self::FolderMarker => "folder-marker",
            Self::NoRule => "no-rule",
            Self::RunStillRunning => "run-still-running",
            Self::OtherObjectEvent => "other-object-event",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a record goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Routed {
    /// Onto the topic, once what must be looked up is known.
    Event(Box<Draft>),
    /// Nowhere, deliberately.
    Skip(Skip),
}

/// An event, but for what only a look-up can tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Draft {
    /// Nothing is missing.
    Whole(Envelope),
    /// Trace and correlation are in the object's metadata.
    Object {
        /// The event without them.
        envelope: Envelope,
        /// The object.
        object: ObjectRef,
    },
    /// Origin and context are in the ledger.
    Completion {
        /// What ended.
        completion: Box<RunCompletion>,
        /// What is known where the ledger knows nothing.
        otherwise: CompletionOrigin,
    },
}

/// One version of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The bucket's name.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, on a versioned bucket.
    pub version_id: Option<String>,
}

/// The workflow's sources and triggers, by what a record is looked up by.
#[derive(Debug, Clone)]
pub struct Rules {
    workflow: Workflow,
    /// The triggers that start each state machine, pipeline or job of a queue, by its
    /// ARN, with the stages that they start it for.
    started: BTreeMap<String, Vec<(String, Stage)>>,
    /// What the sources of completions watch.
    watches: Vec<Watching>,
    /// Indices into the workflow's sources, by the rule's ARN.
    schedules: BTreeMap<String, usize>,
}

/// A source of completions: whose, and what becomes of them.
#[derive(Debug, Clone)]
struct Watching {
    runs: Vec<Watch>,
    stage: Stage,
    dataset: Option<String>,
}

impl Rules {
    /// The rules of a workflow that is deployed at a place.
    #[must_use]
    pub fn new(workflow: &Workflow, deployment: &Deployment, place: &Place) -> Self {
        let mut started: BTreeMap<String, Vec<(String, Stage)>> = BTreeMap::new();
        for trigger in &workflow.triggers {
            if trigger.target.kind().tells_the_end() {
                let arn = comparable(&trigger.target.arn(deployment, place, &trigger.name));
                started.entry(arn).or_default().push((trigger.name.clone(), trigger.stage));
            }
        }
        let (mut schedules, mut watches) = (BTreeMap::new(), Vec::new());
        for (index, source) in workflow.sources.iter().enumerate() {
            match &source.kind {
                SourceKind::StepFunctions(rules)
                | SourceKind::Sagemaker(rules)
                | SourceKind::Batch(rules) => watches.push(Watching {
                    runs: Watch::of(&source.kind, place),
                    stage: rules.stage,
                    dataset: source.dataset.clone(),
                }),
                SourceKind::Schedule(_) => {
                    schedules.insert(place.rule_arn(&deployment.rule(&source.name)), index);
                }
                SourceKind::S3(_) | SourceKind::Http(_) => {}
            }
        }
        Self { workflow: workflow.clone(), started, watches, schedules }
    }

    /// Where a record goes.
    #[must_use]
    pub fn route(&self, record: Record) -> Routed {
        match record {
            Record::TestEvent => Routed::Skip(Skip::TestEvent),
            Record::OtherObjectEvent { .. } => Routed::Skip(Skip::OtherObjectEvent),
            Record::RunGoesOn => Routed::Skip(Skip::RunStillRunning),
            Record::Object(object) => self.route_object(&object),
            Record::Completion(completion) => self.route_completion(completion),
            Record::Tick(tick) => self.route_tick(&tick),
        }
    }

    fn route_object(&self, object: &ObjectEvent) -> Routed {
        if object.is_folder_marker() {
            return Routed::Skip(Skip::FolderMarker);
        }
        let Some((source, rules)) = self.workflow.source_of(object, Via::Publisher) else {
            return Routed::Skip(Skip::NoRule);
        };
        let envelope = object.to_envelope(source, rules);
        // An object that was removed has no metadata left to read.
        let has_context =
            rules.context == ContextFrom::Metadata && object.change == ObjectChange::Created;
        event(match has_context {
            false => Draft::Whole(envelope),
            true => Draft::Object {
                envelope,
                object: ObjectRef {
                    bucket: object.bucket.clone(),
                    key: object.key.clone(),
                    version_id: object.version_id.clone(),
                },
            },
        })
    }

    fn route_completion(&self, completion: Box<RunCompletion>) -> Routed {
        let resource = &completion.resource;
        let triggers = match resource {
            RunResource::StateMachine(arn)
            | RunResource::Pipeline(arn)
            | RunResource::JobQueue(arn) => {
                self.started.get(&comparable(arn)).map_or(&[][..], Vec::as_slice)
            }
            // No trigger starts these.
            RunResource::SagemakerJob(_) => &[],
        };
        // A queue has jobs of anybody's: only what is ours says so in its input.
        let is_shared = matches!(resource, RunResource::JobQueue(_));
        let otherwise = origin_of_hint(triggers, completion.run_context())
            .or_else(|| self.origin_of_source(resource))
            .or_else(|| origin_of_trigger(triggers).filter(|_| !is_shared));
        let Some(otherwise) = otherwise else {
            return Routed::Skip(Skip::NoRule);
        };
        event(match triggers.is_empty() {
            // What Bellwire never starts is in no ledger.
            true => Draft::Whole(completion.to_envelope(&otherwise)),
            false => Draft::Completion { completion, otherwise },
        })
    }

    /// The first source that watches what ran: the event's id is the same whichever
    /// source it is of.
    fn origin_of_source(&self, resource: &RunResource) -> Option<CompletionOrigin> {
        let is_watched = |source: &&Watching| source.runs.iter().any(|runs| runs.is_of(resource));
        let source = self.watches.iter().find(is_watched)?;
        Some(CompletionOrigin {
            stage: source.stage,
            trigger: None,
            dataset: source.dataset.clone(),
            context: EventContext::default(),
        })
    }

    fn route_tick(&self, tick: &Tick) -> Routed {
        let source = self.schedules.get(&tick.rule_arn).map(|index| &self.workflow.sources[*index]);
        match source.map(|source| (source, &source.kind)) {
            Some((source, SourceKind::Schedule(rules))) => {
                event(Draft::Whole(tick_event(tick, source, rules)))
            }
            _ => Routed::Skip(Skip::NoRule),
        }
    }
}

/// An ARN under which a run's resource is looked up: a pipeline's may come in either case.
fn comparable(arn: &str) -> String {
    match TargetKind::of_arn(arn) {
        Some(TargetKind::SagemakerPipeline) => one_pipeline_arn(arn),
        _ => arn.to_owned(),
    }
}

/// What the run's input says, as far as it agrees with the workflow: anyone may
/// start a state machine, with any input.
fn origin_of_hint(
    triggers: &[(String, Stage)],
    hint: Option<RunContext>,
) -> Option<CompletionOrigin> {
    let hint = hint?;
    let (trigger, stage) = triggers.iter().find(|(name, _)| *name == hint.trigger)?;
    Some(CompletionOrigin {
        stage: *stage,
        trigger: Some(trigger.clone()),
        dataset: hint.dataset,
        context: hint.event,
    })
}

/// Somebody has started a trigger's state machine by hand: the stage is the
/// trigger's, and it was not the trigger.
fn origin_of_trigger(triggers: &[(String, Stage)]) -> Option<CompletionOrigin> {
    let (_, stage) = triggers.first()?;
    let context = EventContext::default();
    Some(CompletionOrigin { stage: *stage, trigger: None, dataset: None, context })
}

fn event(draft: Draft) -> Routed {
    Routed::Event(Box::new(draft))
}

fn tick_event(tick: &Tick, source: &Source, rules: &ScheduleSource) -> Envelope {
    let id = schedule_event_id(&tick.rule_arn, &tick.scheduled_time);
    let mut envelope = Envelope::new(&id, &tick.rule_arn, rules.emits.clone());
    envelope.time = tick.scheduled_time.parse().ok();
    envelope.dataset.clone_from(&source.dataset);
    envelope.partitionkey.clone_from(&source.dataset);
    let parameters = rules.parameters.clone().into_iter().collect();
    envelope.with_payload(&StageRequested { parameters })
}
