//! A local AWS on loopback, for the demo and the tests.
//!
//! ```text
//! Environment::ensure -> LocalCloud::start -> (self-check) -> use -> stop | detach
//! ```
//!
//! [`Environment`] is a Python virtual environment with ministack, which serves the AWS APIs.
//! [`LocalCloud`] is one running server: `launcher.py` patches ministack where it differs from
//! AWS (`patches.py`, `authorisation.py`, `encryption.py`, `step_functions.py`), and checks each patched behaviour
//! on the running server (`selfcheck.py`, with what it needs in `bench.py`).
//! Nothing of it outlives the process that started it, unless it is detached.
//!
//! What a Lambda writes to its standard output and error is in CloudWatch Logs of the local
//! AWS, in the group `/aws/lambda/<function>`, once the invocation has ended.

mod calls;
mod cloud;
mod detached;
mod environment;
mod launcher;
mod state;

pub use calls::{Decision, RecordedCall};
pub use cloud::{LocalCloud, SelfCheck, StartError, StartOptions, StopError};
pub use detached::{AttachError, DetachError, DetachedCloud};
pub use environment::{Environment, SetupError, Step};
pub use launcher::FailedCheck;

/// The region of the local AWS.
pub const REGION: &str = "us-east-1";
/// The account of whoever calls the local AWS with the key `test`.
pub const ACCOUNT_ID: &str = "000000000000";
/// The version of ministack that the launcher patches.
pub const MINISTACK_VERSION: &str = "1.5.33";

/// Where the server on `port` listens.
fn endpoint_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What a process needs in its environment to call the local AWS as the account's root.
fn root_variables(port: u16) -> Vec<(String, String)> {
    let endpoint = endpoint_url(port);
    // Nothing of the user's own profile reaches the process.
    let nothing = "/dev/null";
    [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_CONFIG_FILE", nothing),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", REGION),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_SHARED_CREDENTIALS_FILE", nothing),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
