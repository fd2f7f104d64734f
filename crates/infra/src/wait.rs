//! Waiting for AWS, within bounds.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::CallError;

/// How long to wait between tries, and in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Before the second try; doubled for each that follows.
    pub(crate) first: Duration,
    /// The longest wait between two tries.
    pub(crate) longest: Duration,
    /// From the first try to the last.
    pub(crate) total: Duration,
}

/// Tries until it is so, or patience ends: then `false`.
pub(crate) async fn poll(
    patience: &Patience,
    mut is_so: impl AsyncFnMut() -> Result<bool, CallError>,
) -> Result<bool, CallError> {
    let deadline = Instant::now() + patience.total;
    let mut pause = patience.first;
    loop {
        if is_so().await? {
            return Ok(true);
        }
        if Instant::now() + pause > deadline {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(patience.longest);
    }
}

/// How long IAM may take to tell everybody of a new role or policy: seconds as a
/// rule, at times a minute or two.
pub(crate) const IAM_DELAY: Patience = Patience {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
    total: Duration::from_secs(150),
};

/// Tries again while the error is one that passes by itself.
pub(crate) async fn retry<T>(
    patience: &Patience,
    passes: impl Fn(&CallError) -> bool,
    mut call: impl AsyncFnMut() -> Result<T, CallError>,
) -> Result<T, CallError> {
    let deadline = Instant::now() + patience.total;
    let mut pause = patience.first;
    loop {
        match call().await {
            Err(error) if passes(&error) && Instant::now() + pause <= deadline => {
                tracing::debug!(%error, "waiting for AWS to catch up");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(patience.longest);
            }
            result => return result,
        }
    }
}
