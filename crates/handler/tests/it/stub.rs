//! SageMaker, AWS Batch and Lambda as far as the handler calls them, behaving as their API
//! references say: the local cloud has no SageMaker, and its Batch takes one name twice
//! and ends every job at once. It has Lambda: this one only counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::config_at;

/// What becomes of the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused for now.
    Throttled,
    /// It is done, and the connection breaks before the answer is there.
    AnswerLost,
    /// It is refused for good, with this code.
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct World {
    /// By token: the parameters that it came with first, and the execution.
    tokens: BTreeMap<String, (Value, String)>,
    executions: BTreeMap<String, Execution>,
    jobs: Vec<Job>,
    /// The payloads of asynchronous invocations.
    invocations: Vec<Value>,
    /// Whether new jobs do not show in lists yet.
    hides_jobs: bool,
    faults: VecDeque<Fault>,
    calls: Vec<String>,
}

/// An execution of a pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) request: Value,
    pub(crate) status: &'static str,
}

/// A job of AWS Batch.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) arn: String,
    pub(crate) request: Value,
    pub(crate) status: &'static str,
    is_hidden: bool,
}

/// The services on one port of loopback; they end with this.
pub(crate) struct Stub {
    world: Arc<Mutex<World>>,
    endpoint: String,
    server: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stub {
    pub(crate) async fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, endpoint, server }
    }

    /// The configuration of whoever calls it.
    pub(crate) async fn config(&self) -> SdkConfig {
        config_at(self.endpoint.clone(), bellwire_local::REGION).await
    }

    pub(crate) fn next_starts(&self, faults: &[Fault]) {
        self.world.lock().unwrap().faults.extend(faults);
    }

    pub(crate) fn hide_new_jobs(&self) {
        self.world.lock().unwrap().hides_jobs = true;
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.world.lock().unwrap().jobs.clone()
    }

    pub(crate) fn executions(&self) -> Vec<(String, Execution)> {
        self.world.lock().unwrap().executions.clone().into_iter().collect()
    }

    pub(crate) fn invocations(&self) -> Vec<Value> {
        self.world.lock().unwrap().invocations.clone()
    }

    /// How often a call came.
    pub(crate) fn count_of(&self, call: &str) -> usize {
        self.world.lock().unwrap().calls.iter().filter(|one| *one == call).count()
    }

    /// Lets everything that runs end so.
    pub(crate) fn end_all(&self, execution: &'static str, job: &'static str) {
        let mut world = self.world.lock().unwrap();
        world.executions.values_mut().for_each(|one| one.status = execution);
        world.jobs.iter_mut().for_each(|one| one.status = job);
    }

    /// As after the time for which the services remember what ended.
    pub(crate) fn forget_all(&self) {
        let mut world = self.world.lock().unwrap();
        world.executions.clear();
        world.jobs.clear();
    }
}

/// What a call is answered with: a document, or a status and an error's code.
type Answer = Result<Value, (StatusCode, &'static str)>;

async fn answer(
    State(world): State<Arc<Mutex<World>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let call = match target {
        Some(target) => target.trim_start_matches("SageMaker.").to_owned(),
        None if uri.path().ends_with("/invocations") => "invoke".to_owned(),
        None => uri.path().trim_start_matches("/v1/").to_owned(),
    };
    let mut world = world.lock().unwrap();
    world.calls.push(call.clone());
    let is_start = ["StartPipelineExecution", "submitjob"].contains(&call.as_str());
    let fault = if is_start { world.faults.pop_front() } else { None };
    let answer = match fault {
        Some(Fault::Throttled) => Err((StatusCode::BAD_REQUEST, "ThrottlingException")),
        Some(Fault::Refused(code)) => Err((StatusCode::BAD_REQUEST, code)),
        Some(Fault::AnswerLost) | None => match call.as_str() {
            "StartPipelineExecution" => world.start_pipeline_execution(request),
            "DescribePipelineExecution" => world.describe_pipeline_execution(&request),
            "submitjob" => Ok(world.submit_job(request)),
            "listjobs" => Ok(world.list_jobs(&request)),
            "describejobs" => Ok(world.describe_jobs(&request)),
            "invoke" => {
                world.invocations.push(request);
                return (StatusCode::ACCEPTED, [("x-amzn-requestid", "the-stub-s")])
                    .into_response();
            }
            other => panic!("the handler calls {other}"),
        },
    };
    if fault == Some(Fault::AnswerLost) {
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("lost"))]);
        return Body::from_stream(broken).into_response();
    }
    match answer {
        Ok(document) => (StatusCode::OK, document.to_string()).into_response(),
        Err((status, code)) => {
            let error = json!({ "__type": code, "message": format!("the stub says {code}") });
            (status, [("x-amzn-errortype", code)], error.to_string()).into_response()
        }
    }
}

impl World {
    /// One token is one execution, and comes with one set of parameters.
    fn start_pipeline_execution(&mut self, request: Value) -> Answer {
        let token = request["ClientRequestToken"].as_str().unwrap().to_owned();
        assert!((32..=128).contains(&token.len()), "SageMaker refuses the token {token}");
        let pipeline = request["PipelineName"].as_str().unwrap().to_owned();
        if pipeline.ends_with("/gone") {
            return Err((StatusCode::BAD_REQUEST, "ResourceNotFound"));
        }
        let parameters = request["PipelineParameters"].clone();
        if let Some((first, arn)) = self.tokens.get(&token) {
            return match *first == parameters {
                true => Ok(json!({ "PipelineExecutionArn": arn })),
                false => Err((StatusCode::BAD_REQUEST, "ValidationException")),
            };
        }
        let arn = format!("{pipeline}/execution/e{}", self.executions.len());
        self.tokens.insert(token, (parameters, arn.clone()));
        self.executions.insert(arn.clone(), Execution { request, status: "Executing" });
        Ok(json!({ "PipelineExecutionArn": arn }))
    }

    /// Names of pipelines are the same in upper and lower case.
    fn describe_pipeline_execution(&self, request: &Value) -> Answer {
        let wanted = request["PipelineExecutionArn"].as_str().unwrap();
        let found = self.executions.iter().find(|(arn, _)| arn.eq_ignore_ascii_case(wanted));
        let Some((arn, execution)) = found else {
            return Err((StatusCode::BAD_REQUEST, "ResourceNotFound"));
        };
        let pipeline = arn.split("/execution/").next().unwrap();
        Ok(json!({
            "PipelineArn": pipeline, "PipelineExecutionArn": arn,
            "PipelineExecutionStatus": execution.status,
            "CreationTime": 1_795_313_647.5, "LastModifiedTime": 1_795_313_657.5,
            "FailureReason": "the stub's own",
        }))
    }

    /// Each submission is a job of its own, whatever its name.
    fn submit_job(&mut self, request: Value) -> Value {
        let queue = request["jobQueue"].as_str().unwrap();
        let place = queue.split(":job-queue/").next().unwrap();
        let id = format!("4c7599ae-0a82-49aa-ba5a-{:012}", self.jobs.len());
        let arn = format!("{place}:job/{id}");
        let answer = json!({ "jobArn": arn, "jobName": request["jobName"], "jobId": id });
        let is_hidden = self.hides_jobs;
        self.jobs.push(Job { arn, request, status: "RUNNABLE", is_hidden });
        answer
    }

    /// The filter matches names regardless of case, and jobs of every state; the newest
    /// first, one a page.
    fn list_jobs(&self, request: &Value) -> Value {
        assert_eq!(request["filters"][0]["name"], "JOB_NAME");
        let wanted = request["filters"][0]["values"][0].as_str().unwrap();
        let is_wanted = |job: &&(usize, &Job)| {
            let name = job.1.request["jobName"].as_str().unwrap();
            name.eq_ignore_ascii_case(wanted)
                && job.1.request["jobQueue"] == request["jobQueue"]
                && !job.1.is_hidden
        };
        let jobs: Vec<_> = self.jobs.iter().enumerate().collect();
        let found: Vec<_> = jobs.iter().rev().filter(is_wanted).collect();
        let page: usize = request["nextToken"].as_str().map_or(0, |text| text.parse().unwrap());
        let summary = |(index, job): &&(usize, &Job)| {
            json!({
                "jobArn": job.arn, "jobId": job.arn.rsplit('/').next(), "status": job.status,
                "jobName": job.request["jobName"], "createdAt": 1_795_313_640_000_i64 + *index as i64,
            })
        };
        let shown: Vec<Value> = found.iter().skip(page).take(1).map(summary).collect();
        let next = (page + 1 < found.len()).then(|| (page + 1).to_string());
        json!({ "jobSummaryList": shown, "nextToken": next })
    }

    fn describe_jobs(&self, request: &Value) -> Value {
        let wanted = request["jobs"].as_array().unwrap();
        let is_wanted = |job: &&Job| wanted.contains(&json!(job.arn.rsplit('/').next().unwrap()));
        let detail = |job: &Job| {
            json!({
                "jobArn": job.arn, "jobId": job.arn.rsplit('/').next(), "status": job.status,
                "jobName": job.request["jobName"], "jobQueue": job.request["jobQueue"],
                "jobDefinition": job.request["jobDefinition"],
                "statusReason": "Essential container in task exited",
                "startedAt": 1_795_313_647_000_i64, "stoppedAt": 1_795_313_648_900_i64,
                "container": {
                    "reason": "OutOfMemoryError",
                    "environment": job.request["containerOverrides"]["environment"],
                },
            })
        };
        json!({ "jobs": self.jobs.iter().filter(is_wanted).map(detail).collect::<Vec<_>>() })
    }
}
