//! `--probe`: asks the publisher that listens where the settings say how it is. For
//! whatever watches a container: an image without a shell has nothing else to ask with,
//! and from outside nobody reaches what listens on loopback alone.

use std::io;
use std::time::Duration;

use clap::ValueEnum;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::ingest::Listen;

/// How long the whole of it may take: less than what kubelet and ECS wait.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Question {
    /// Whether it lives.
    Healthz,
    /// Whether it can do its work.
    Readyz,
}

impl Question {
    const fn path(self) -> &'static str {
        match self {
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
        }
    }
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing answers.
    #[error("no publisher answers on {address}: --listen must be what the publisher has")]
    Unanswered {
        /// Where it was asked.
        address: Listen,
        /// What the system says.
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("the publisher on {address} did not answer within {} s", PROBE_TIMEOUT.as_secs())]
    TooSlow {
        /// Where it was asked.
        address: Listen,
    },
    /// It says no.
    #[error("{answer}")]
    No {
        /// What it says.
        answer: String,
    },
}

/// Asks, and answers with what the publisher says.
///
/// # Errors
///
/// Where it says no, or nothing.
pub async fn probe(address: &Listen, question: Question) -> Result<String, ProbeError> {
    let asked = timeout(PROBE_TIMEOUT, ask(address, question)).await;
    let asked = asked.map_err(|_| ProbeError::TooSlow { address: address.clone() })?;
    let answer =
        asked.map_err(|source| ProbeError::Unanswered { address: address.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(ProbeError::No { answer: if body.is_empty() { head } else { body }.to_owned() }),
    }
}

async fn ask(address: &Listen, question: Question) -> io::Result<String> {
    match address {
        Listen::Tcp(address) => exchange(TcpStream::connect(address).await?, question).await,
        Listen::Unix(path) => exchange(UnixStream::connect(path).await?, question).await,
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: Question,
) -> io::Result<String> {
    let path = question.path();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}
