//! The stub as a process of its own, and what is asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

use super::{BenchError, file_error};
use crate::interrupt;
use crate::process::Group;

const READY_WITHIN: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A local SQS and SNS. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Stub {
    _group: Group,
    url: String,
    agent: Agent,
}

/// What a peer has done so far.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Counts {
    pub(super) calls: BTreeMap<String, u64>,
    pub(super) published: u64,
    pub(super) published_bytes: u64,
    pub(super) deleted: u64,
    /// Polls that wait for a message now; they are among the calls.
    pub(super) waiting: u64,
}

impl Stub {
    /// Starts it, and waits until it listens.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self, BenchError> {
        let address_file = folder.join("stub.address");
        match fs::remove_file(&address_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error(&address_file)(error));
            }
            _ => {}
        }
        let mut command = Command::new(program);
        command.arg("--address-file").arg(&address_file).stdout(Stdio::null());
        let mut group = Group::spawn(&mut command)?;
        let deadline = Instant::now() + READY_WITHIN;
        let address = loop {
            if let Ok(address) = fs::read_to_string(&address_file) {
                break address;
            }
            interrupt::check()?;
            if group.poll()?.is_some() || Instant::now() > deadline {
                let seconds = READY_WITHIN.as_secs();
                return Err(BenchError::NotReady { program: "the stub", seconds });
            }
            thread::sleep(POLL);
        };
        let agent = Agent::config_builder().timeout_global(Some(TIMEOUT)).build().new_agent();
        Ok(Self { _group: group, url: format!("http://{address}"), agent })
    }

    /// The endpoint to give a peer.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Empties it, and fills its ingest queue.
    pub(super) fn begin(&self, events: u64) -> Result<(), BenchError> {
        self.post("reset", "{}")?;
        self.post("fill", &json!({ "count": events }).to_string())
    }

    /// What was done since [`Stub::begin`].
    pub(super) fn counts(&self) -> Result<Counts, BenchError> {
        let call = "counts";
        let failed = |source| BenchError::Stub { call, source };
        let mut answer =
            self.agent.get(format!("{}/_stub/{call}", self.url)).call().map_err(failed)?;
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        serde_json::from_str(&text).map_err(|source| BenchError::StubAnswer { call, source })
    }

    fn post(&self, call: &'static str, body: &str) -> Result<(), BenchError> {
        let request = self.agent.post(format!("{}/_stub/{call}", self.url));
        let failed = |source| BenchError::Stub { call, source };
        let mut answer = request.send(body).map_err(failed)?;
        // Read to its end, so that the connection serves the next call.
        answer.body_mut().read_to_string().map(drop).map_err(failed)
    }
}
