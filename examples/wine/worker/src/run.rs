//! One invocation: what it asks for, and the reading and writing around the job.

use std::fmt;

use bellwire_schema::RunContext;
use bellwire_telemetry::semconv::{FAAS_INVOCATION_ID, FAAS_TRIGGER};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{Instrument as _, Span};

use crate::error::WorkerError;
use crate::lake::{Location, Object, Output};
use crate::store::Store;
use crate::{collect, evaluate, predict, train};

/// What a state machine's task sends: `{"task": "train", "input": {…}}`.
#[derive(Debug, Clone, Deserialize)]
pub struct Invocation {
    /// Which job.
    pub task: Task,
    /// The execution's whole input.
    pub input: Value,
}

/// The four jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// See [`collect`].
    Collect,
    /// See [`train`].
    Train,
    /// See [`evaluate`].
    Evaluate,
    /// See [`predict`].
    Predict,
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Predict => "predict",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// An input, read: one variant a task.
enum Job {
    Collect(collect::Input),
    Train(train::Input),
    Evaluate(evaluate::Input),
    Predict(predict::Input),
}

/// Does the job that is asked for, in the trace of the event that started it.
///
/// # Errors
///
/// See [`WorkerError`].
pub async fn run(
    store: &Store,
    invocation: Invocation,
    request_id: &str,
) -> Result<Output, WorkerError> {
    let task = invocation.task;
    let span = tracing::info_span!(
        "job",
        otel.name = task.name(),
        otel.kind = "server",
        { FAAS_TRIGGER } = "other",
        { FAAS_INVOCATION_ID } = request_id,
    );
    let result = match Job::read(invocation) {
        Ok(job) => {
            let event = &job.context().event;
            bellwire_telemetry::set_parent(
                &span,
                event.traceparent.as_deref(),
                event.tracestate.as_deref(),
            );
            job.run(store, &span).instrument(span.clone()).await
        }
        Err(error) => Err(error),
    };
    let _entered = span.enter();
    match &result {
        Ok(output) => tracing::info!(%task, artifacts = output.artifacts.len(), "job done"),
        Err(error) => {
            bellwire_telemetry::mark_failed(&span, error);
            tracing::error!(%task, error = error as &(dyn std::error::Error + 'static), "job failed");
        }
    }
    result
}

impl Job {
    fn read(invocation: Invocation) -> Result<Self, WorkerError> {
        let Invocation { task, input } = invocation;
        match task {
            Task::Collect => typed(task, input).map(Self::Collect),
            Task::Train => typed(task, input).map(Self::Train),
            Task::Evaluate => typed(task, input).map(Self::Evaluate),
            Task::Predict => typed(task, input).map(Self::Predict),
        }
    }

    const fn context(&self) -> &RunContext {
        match self {
            Self::Collect(input) => &input.bellwire,
            Self::Train(input) => &input.bellwire,
            Self::Evaluate(input) => &input.bellwire,
            Self::Predict(input) => &input.bellwire,
        }
    }

    async fn run(&self, store: &Store, span: &Span) -> Result<Output, WorkerError> {
        let (objects, output) = self.make(store).await?;
        write_all(store, objects, self.context(), span).await?;
        Ok(output)
    }

    async fn make(&self, store: &Store) -> Result<(Vec<Object>, Output), WorkerError> {
        match self {
            Self::Collect(input) => collect::collect(input),
            Self::Train(input) => {
                let marker = input.marker();
                let manifest = train::read_manifest(&marker, &store.read(&marker).await?)?;
                let parts: Vec<Location> =
                    manifest.parts.iter().map(|key| marker.beside(key.as_str())).collect();
                train::train(input, &manifest, &read_all(store, &parts).await?)
            }
            Self::Evaluate(input) => {
                let model = store.read(input.model()?).await?;
                evaluate::evaluate(input, &model, &store.read(input.held_out()?).await?)
            }
            Self::Predict(input) => {
                let model = store.read(input.model()?).await?;
                predict::predict(input, &model, &store.read(input.unseen()?).await?)
            }
        }
    }
}

async fn read_all(store: &Store, locations: &[Location]) -> Result<Vec<Vec<u8>>, WorkerError> {
    let mut bodies = Vec::with_capacity(locations.len());
    for location in locations {
        bodies.push(store.read(location).await?);
    }
    Ok(bodies)
}

/// In order: a marker comes last, once all that it announces is there. Each object
/// carries the run's context on, under the job's own span.
async fn write_all(
    store: &Store,
    objects: Vec<Object>,
    context: &RunContext,
    span: &Span,
) -> Result<(), WorkerError> {
    let mut event = context.event.clone();
    if let Some(current) = bellwire_telemetry::context_of(span) {
        event.traceparent = Some(current.traceparent);
        event.tracestate = current.tracestate;
    }
    let metadata = event.to_object_metadata();
    for object in objects {
        store.write(object, &metadata).await?;
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(task: Task, input: Value) -> Result<T, WorkerError> {
    serde_path_to_error::deserialize(input).map_err(|error| {
        let field = error.path().to_string();
        input_refused(task, &field, error.into_inner().to_string())
    })
}

pub(crate) fn input_refused(task: Task, field: &str, problem: String) -> WorkerError {
    WorkerError::Input { task, field: field.to_owned(), problem }
}
