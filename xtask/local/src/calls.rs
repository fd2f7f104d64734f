//! The calls that the local AWS authorised or refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

/// The file of recorded calls in a state folder.
pub(crate) const CALLS_FILE: &str = "calls.jsonl";

/// One call, and what the local AWS decided about it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct RecordedCall {
    /// The caller's ARN, or the service (`sns.amazonaws.com`) that delivered for its user.
    pub principal: String,
    /// The role of an assumed-role session; empty for other callers.
    pub role: String,
    /// The action as IAM names it: `sns:Publish`, for a batch too.
    pub action: String,
    /// The ARN of what was acted on, or `*`.
    pub resource: String,
    /// What was decided.
    pub decision: Decision,
    /// When, in milliseconds since the epoch.
    pub time_ms: u64,
}

/// What IAM decided about a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Decision {
    /// A policy allows it, or the caller is the account's root.
    Allow,
    /// A policy denies it.
    Deny,
    /// No policy allows it.
    ImplicitDeny,
    /// The credentials were refused.
    Unauthenticated,
}

impl Decision {
    /// Whether the call went through.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self == Decision::Allow
    }
}

/// The calls recorded in `folder` so far; none where nothing is recorded.
pub(crate) fn read(folder: &Path) -> io::Result<Vec<RecordedCall>> {
    let text = match fs::read_to_string(folder.join(CALLS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    parse(&text)
}

fn parse(text: &str) -> io::Result<Vec<RecordedCall>> {
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

/// The variable that names the folder in which the calls of all tests' clouds are kept.
pub const CALLS_OF_TESTS: &str = "BELLWIRE_CALLS_OF_TESTS";
/// How the name of a file ends whose test has calls denied on purpose.
const DENIES: &str = ".denies.jsonl";

/// The calls of one local AWS that a test had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallsOfTest {
    /// The file that they were read from.
    pub file: PathBuf,
    /// The calls, in order.
    pub calls: Vec<RecordedCall>,
    /// Whether the test has some of them denied on purpose.
    pub denies_on_purpose: bool,
}

/// Keeps the calls recorded in `folder` where [`CALLS_OF_TESTS`] says, if it does.
pub(crate) fn keep(folder: &Path, denies_on_purpose: bool) -> io::Result<()> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let Some(kept) = std::env::var_os(CALLS_OF_TESTS) else { return Ok(()) };
    let from = folder.join(CALLS_FILE);
    if !from.exists() {
        return Ok(());
    }
    fs::create_dir_all(&kept)?;
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let ending = if denies_on_purpose { DENIES } else { ".jsonl" };
    let name = format!("{}-{count}{ending}", process::id());
    fs::copy(from, Path::new(&kept).join(name)).map(|_| ())
}

/// The calls that tests kept in a folder.
///
/// # Errors
/// If the folder or one of its files cannot be read.
pub fn calls_of_tests(folder: &Path) -> io::Result<Vec<CallsOfTest>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        let denies_on_purpose = file.to_string_lossy().ends_with(DENIES);
        let calls = parse(&fs::read_to_string(&file)?)?;
        all.push(CallsOfTest { file, calls, denies_on_purpose });
    }
    Ok(all)
}
