//! Executes a plan. It makes no choices: every step is done as it stands, as
//! soon as those before it are, and what does not depend on a failed one goes on.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};

use crate::aws::Aws;
use crate::calls::as_step;
use crate::error::CallError;
use crate::inputs::Code;
use crate::kind::{
    alarm, alias, bucket, bucket_notification, dashboard, event_source_mapping, function,
    function_policy, invoke_config, key, log_group, permission, queue, role, rule, state_machine,
    subscription, table, topic,
};
use crate::lease::{self, NoLease};
use crate::plan::{Action, Plan, Step};
use crate::record;
use crate::resource::{Kind, Owner, Properties, ResourceId};

/// Steps under way at one time.
const STEPS_MAX: usize = 10;

/// What happens while a plan is executed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Somebody else's lease has to expire first: at most half a minute.
    Waiting {
        /// Who holds it.
        holder: &'a str,
    },
    /// A step has begun.
    Started {
        /// To what it is done.
        id: &'a ResourceId,
        /// What is done.
        action: Action,
    },
    /// A step is done.
    Done {
        /// To what it was done.
        id: &'a ResourceId,
        /// What was done.
        action: Action,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    Failed {
        /// To what it was to be done.
        id: &'a ResourceId,
        /// What was to be done.
        action: Action,
        /// Why.
        error: &'a CallError,
    },
}

/// Who is told of what happens.
pub type Progress<'a> = dyn Fn(&Event<'_>) + Sync + 'a;

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    /// To what it was to be done.
    pub id: ResourceId,
    /// What was to be done.
    pub action: Action,
    /// Why it was not.
    pub error: CallError,
}

/// A plan that was executed whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// How many steps were done.
    pub steps: usize,
    /// How long it took.
    pub took: Duration,
}

/// Why a plan was not executed whole. Applying again finishes the work.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else is at it.
    #[error(
        "another apply is under way ({holder}); wait until it is done, then plan and apply again"
    )]
    Held {
        /// Who.
        holder: String,
    },
    /// Another apply was faster than this plan.
    #[error(
        "another apply was done since this was planned; nothing was changed: plan again, and look at it again"
    )]
    Outdated,
    /// Some steps failed.
    #[error("{}", Unfinished { failures, left })]
    Failed {
        /// Which, and why.
        failures: Vec<Failure>,
        /// What was not tried, because it depends on one that failed.
        left: Vec<ResourceId>,
    },
    /// It was told to stop.
    #[error("stopped; {done} steps are done, {} are left: apply again to finish", left.len())]
    Stopped {
        /// How many steps were done.
        done: usize,
        /// What was not begun.
        left: Vec<ResourceId>,
    },
    /// The lease could not be had or given back.
    #[error(transparent)]
    Lease(CallError),
}

/// The text of [`ApplyError::Failed`].
struct Unfinished<'a> {
    failures: &'a [Failure],
    left: &'a [ResourceId],
}

impl fmt::Display for Unfinished<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.failures.len();
        writeln!(f, "{count} step{} failed", if count == 1 { "" } else { "s" })?;
        for Failure { id, action, error } in self.failures {
            write!(f, "\n  {} {id}\n      {error}", action.word())?;
        }
        if !self.left.is_empty() {
            write!(f, "\n\nNot tried, since what they need failed: {}", self.left.len())?;
        }
        write!(f, "\nWhat was done stays; apply again to finish.")
    }
}

impl From<NoLease> for ApplyError {
    fn from(error: NoLease) -> Self {
        match error {
            NoLease::Held { holder } => Self::Held { holder },
            NoLease::Call(error) => Self::Lease(error),
        }
    }
}

async fn release(lease: Option<lease::Lease>) -> Result<(), ApplyError> {
    match lease {
        Some(lease) => lease.release().await.map_err(ApplyError::Lease),
        None => Ok(()),
    }
}

/// What executing takes beside the plan.
pub(crate) struct Executor<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) owner: &'a Owner,
    pub(crate) code: &'a Code,
    /// What other applies are told of who is at it.
    pub(crate) holder: &'a str,
    pub(crate) progress: &'a Progress<'a>,
    /// Set from outside: no further step is begun.
    pub(crate) stop: &'a AtomicBool,
}

/// What became of the steps so far.
#[derive(Default)]
struct Outcome {
    done: BTreeSet<ResourceId>,
    failures: Vec<Failure>,
}

impl Executor<'_> {
    pub(crate) async fn execute(&self, plan: &Plan) -> Result<Applied, ApplyError> {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        if plan.is_settled() {
            return Ok(Applied { steps: 0, took: began.elapsed() });
        }
        // The lease's row needs its table.
        let (table, others): (Vec<&Step>, Vec<&Step>) = plan
            .steps
            .iter()
            .partition(|step| step.id.kind == Kind::Table && step.action == Action::Create);
        self.run(&table, &mut outcome).await;
        let has_table = !outcome.done.is_empty()
            || plan.has_unchanged(Kind::Table)
            || plan.kept.iter().any(|kept| kept.id.kind == Kind::Table)
            || others.iter().any(|step| step.id.kind == Kind::Table);
        let lease = if has_table { Some(self.lease().await?) } else { None };
        if lease.is_some()
            && let Err(error) = self.begin(plan).await
        {
            return Err(release(lease).await.err().unwrap_or(error));
        }
        self.run(&others, &mut outcome).await;
        let is_whole = outcome.done.len() == plan.steps.len();
        let recorded = match lease.is_some() && is_whole {
            true => record::finish(self.aws, &self.table(), &plan.wanted).await,
            false => Ok(()),
        };
        let released = release(lease).await;
        let left: Vec<ResourceId> = plan
            .steps
            .iter()
            .map(|step| step.id.clone())
            .filter(|id| !outcome.done.contains(id))
            .filter(|id| !outcome.failures.iter().any(|failure| failure.id == *id))
            .collect();
        let Outcome { done, failures } = outcome;
        if !failures.is_empty() {
            return Err(ApplyError::Failed { failures, left });
        }
        if !left.is_empty() {
            return Err(ApplyError::Stopped { done: done.len(), left });
        }
        released?;
        recorded.map_err(ApplyError::Lease)?;
        Ok(Applied { steps: done.len(), took: began.elapsed() })
    }

    fn table(&self) -> String {
        self.owner.deployment.ledger_table()
    }

    async fn lease(&self) -> Result<lease::Lease, ApplyError> {
        let on_wait = |holder: &str| (self.progress)(&Event::Waiting { holder });
        Ok(lease::acquire(self.aws, &self.table(), self.holder, &on_wait).await?)
    }

    /// Makes sure, under the lease, that no other apply was done since the plan was made.
    async fn begin(&self, plan: &Plan) -> Result<(), ApplyError> {
        let begun = record::begin(self.aws, &self.table(), &plan.record, self.holder).await;
        match begun.map_err(ApplyError::Lease)? {
            true => Ok(()),
            false => Err(ApplyError::Outdated),
        }
    }

    /// Runs steps, each as soon as those before it are done.
    async fn run(&self, steps: &[&Step], outcome: &mut Outcome) {
        let mut waiting: Vec<&Step> = steps.to_vec();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < STEPS_MAX && !self.stop.load(Ordering::Relaxed) {
                let is_ready = |step: &&Step| step.after.iter().all(|id| outcome.done.contains(id));
                let Some(index) = waiting.iter().position(is_ready) else {
                    break;
                };
                let step = waiting.remove(index);
                running.push(async move { (step, self.step(step).await) });
            }
            let Some((step, result)) = running.next().await else {
                return;
            };
            match result {
                Ok(()) => {
                    outcome.done.insert(step.id.clone());
                }
                Err(error) => {
                    let (id, action) = (step.id.clone(), step.action);
                    outcome.failures.push(Failure { id, action, error });
                }
            }
        }
    }

    async fn step(&self, step: &Step) -> Result<(), CallError> {
        let (id, action) = (&step.id, step.action);
        (self.progress)(&Event::Started { id, action });
        let began = Instant::now();
        let result = as_step(id, self.act(step)).await;
        match &result {
            Ok(()) => (self.progress)(&Event::Done { id, action, took: began.elapsed() }),
            Err(error) => (self.progress)(&Event::Failed { id, action, error }),
        }
        result
    }

    async fn act(&self, step: &Step) -> Result<(), CallError> {
        match (step.action, &step.desired, &step.observed) {
            (Action::Create, Some(desired), _) => self.create(desired).await,
            (Action::Update, Some(desired), Some(observed)) if step.adopts => {
                // First the tags: interrupted now, it is ours, and the next apply goes on.
                let tags = desired.tags().cloned().unwrap_or_default();
                let tagged = observed.clone().with_tags(&tags);
                self.update(&tagged, observed).await?;
                self.update(desired, &tagged).await
            }
            (Action::Update, Some(desired), Some(observed)) => self.update(desired, observed).await,
            (Action::Replace, Some(desired), Some(observed)) => {
                self.delete(observed, false).await?;
                self.create(desired).await
            }
            (Action::Delete, _, Some(observed)) => self.delete(observed, step.with_data).await,
            _ => Ok(()),
        }
    }

    async fn create(&self, desired: &Properties) -> Result<(), CallError> {
        let Self { aws, owner, code, .. } = self;
        match desired {
            Properties::Key(key) => key::create(aws, key).await,
            Properties::Topic(topic) => topic::create(aws, topic).await,
            Properties::Queue(queue) => queue::create(aws, queue).await,
            Properties::Bucket(bucket) => bucket::create(aws, bucket).await,
            Properties::BucketNotification(notification) => {
                bucket_notification::put(aws, owner, notification).await
            }
            Properties::Table(table) => table::create(aws, table).await,
            Properties::LogGroup(group) => log_group::create(aws, group).await,
            Properties::Role(role) => role::create(aws, role).await,
            Properties::Function(function) => function::create(aws, function, code).await,
            Properties::Alias(alias) => alias::create(aws, alias).await,
            Properties::InvokeConfig(config) => invoke_config::put(aws, config).await,
            Properties::Permission(permission) => permission::create(aws, permission).await,
            Properties::StateMachine(machine) => state_machine::create(aws, machine).await,
            Properties::Rule(rule) => rule::create(aws, rule).await,
            Properties::EventSourceMapping(mapping) => {
                event_source_mapping::create(aws, mapping).await
            }
            Properties::FunctionPolicy(statement) => function_policy::create(aws, statement).await,
            Properties::Subscription(subscription) => subscription::create(aws, subscription).await,
            Properties::Alarm(alarm) => alarm::put(aws, alarm).await,
            Properties::Dashboard(dashboard) => dashboard::put(aws, dashboard).await,
        }
    }

    async fn update(&self, desired: &Properties, observed: &Properties) -> Result<(), CallError> {
        use Properties as P;

        let Self { aws, owner, code, .. } = self;
        match (desired, observed) {
            (P::Key(new), P::Key(old)) => key::update(aws, new, old).await,
            (P::Topic(new), P::Topic(old)) => topic::update(aws, new, old).await,
            (P::Queue(new), P::Queue(old)) => queue::update(aws, new, old).await,
            (P::Bucket(new), P::Bucket(old)) => bucket::update(aws, new, old).await,
            (P::BucketNotification(new), _) => bucket_notification::put(aws, owner, new).await,
            (P::Table(new), P::Table(old)) => table::update(aws, new, old).await,
            (P::LogGroup(new), P::LogGroup(old)) => log_group::update(aws, new, old).await,
            (P::Role(new), P::Role(old)) => role::update(aws, new, old).await,
            (P::Function(new), P::Function(old)) => function::update(aws, new, old, code).await,
            (P::Alias(new), _) => {
                // For a rollback, and before it is moved, so that an interruption loses nothing.
                if let Some(version) = alias::version_of(aws, &new.function, &new.alias).await? {
                    record::served(aws, &self.table(), &new.function, &version).await?;
                }
                alias::update(aws, new).await
            }
            (P::InvokeConfig(new), _) => invoke_config::put(aws, new).await,
            (P::Permission(new), P::Permission(old)) => {
                permission::delete(aws, old).await?;
                permission::create(aws, new).await
            }
            (P::StateMachine(new), P::StateMachine(old)) => {
                state_machine::update(aws, new, old).await
            }
            (P::Rule(new), P::Rule(old)) => rule::update(aws, new, old).await,
            (P::EventSourceMapping(new), _) => event_source_mapping::update(aws, new).await,
            (P::Subscription(new), P::Subscription(old)) => {
                subscription::update(aws, new, old).await
            }
            (P::FunctionPolicy(new), P::FunctionPolicy(old)) => {
                function_policy::delete(aws, old).await?;
                function_policy::create(aws, new).await
            }
            (P::Alarm(new), P::Alarm(old)) => alarm::update(aws, new, old).await,
            (P::Dashboard(new), _) => dashboard::put(aws, new).await,
            // A resource and what was observed of it are of one kind, its Id says so.
            _ => Ok(()),
        }
    }

    async fn delete(&self, observed: &Properties, with_data: bool) -> Result<(), CallError> {
        let Self { aws, owner, .. } = self;
        match observed {
            Properties::Key(key) => key::delete(aws, key, with_data).await,
            Properties::Topic(topic) => topic::delete(aws, topic).await,
            Properties::Queue(queue) => queue::delete(aws, queue, with_data).await,
            Properties::Bucket(bucket) => bucket::delete(aws, bucket, with_data).await,
            Properties::BucketNotification(notification) => {
                bucket_notification::delete(aws, owner, notification).await
            }
            Properties::Table(table) => table::delete(aws, table, with_data).await,
            Properties::LogGroup(group) => log_group::delete(aws, group).await,
            Properties::Role(role) => role::delete(aws, role).await,
            Properties::Function(function) => function::delete(aws, function).await,
            Properties::Alias(alias) => alias::delete(aws, alias).await,
            Properties::InvokeConfig(config) => invoke_config::delete(aws, config).await,
            Properties::Permission(permission) => permission::delete(aws, permission).await,
            Properties::StateMachine(machine) => state_machine::delete(aws, machine).await,
            Properties::Rule(rule) => rule::delete(aws, rule).await,
            Properties::EventSourceMapping(mapping) => {
                event_source_mapping::delete(aws, mapping).await
            }
            Properties::FunctionPolicy(statement) => function_policy::delete(aws, statement).await,
            Properties::Subscription(subscription) => subscription::delete(aws, subscription).await,
            Properties::Alarm(alarm) => alarm::delete(aws, alarm).await,
            Properties::Dashboard(dashboard) => dashboard::delete(aws, dashboard).await,
        }
    }
}
