//! The publisher's way in over HTTP, with its spool on a disk, under many
//! connections: how many events a second are promised to be kept.
//!
//! ```text
//! 64 connections ──► HTTP over a Unix socket ──► spool: fsync ──► 202
//! ```
//!
//! Each side is one thread, as the publisher's is.
//!
//! Nothing takes events out meanwhile: what is measured is the way in.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bellwire_publisher::ingest::{Ingest, Listen, ListenError, serve};
use bellwire_publisher::run::IngestThread;
use bellwire_publisher::spans::TopicName;
use bellwire_publisher::spool::{Limits, Spool, SpoolError, Store};
use bellwire_schema::workflow::read;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A workflow with a source of events over HTTP.
const WORKFLOW: &str = include_str!("../chaos.toml");

/// More than any run brings.
const LIMITS: Limits = Limits { events_max: 100_000_000, bytes_max: 64 << 30 };

/// How long a run begins before it counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// Bytes of an answer, at most: one to a batch names its events.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Headers of an answer, at most.
const ANSWER_HEADERS_MAX: usize = 16;

/// How events come, and how they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Events of a request: 1 in structured mode, more in batch mode.
    pub events_per_request: usize,
    /// Events for one fsync at most; at 1 each request has one of its own.
    pub records_per_commit_max: usize,
    /// How long is counted.
    pub time: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Events that were answered with 202, a second.
    pub events_per_s: f64,
    /// Commits, each with its fsync, a second.
    pub commits_per_s: f64,
}

/// Why there is no rate.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No socket.
    #[error("the bench cannot listen on a socket beside the spool")]
    Listen(#[from] ListenError),
    /// A connection failed, or ended, or there is no thread.
    #[error("a connection of the bench failed")]
    Connection(#[from] io::Error),
    /// An answer that is not 202.
    #[error("the publisher answered an event of the bench otherwise: {answer}")]
    Answer {
        /// Its first line.
        answer: String,
    },
    /// A task panicked.
    #[error("a connection of the bench ended by itself")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Measures one way of keeping, over a new spool at `path`.
///
/// # Errors
///
/// Where there is no rate.
///
/// # Panics
///
/// Where the workflow file of this crate is not sound: a defect of this crate.
pub async fn measure(settings: &Settings, path: &Path) -> Result<Rate, IngestError> {
    let store = Store::open(path, LIMITS)?.store;
    let spool = Spool::over(store, settings.records_per_commit_max)?;
    let workflow = read(WORKFLOW).expect("the workflow file is sound");
    let topic = TopicName { arn: "arn:aws:sns:eu-central-1:111122223333:bench".to_owned() };
    let ingest = Ingest::new(&workflow, topic, Arc::new(spool.clone()));
    let socket = path.with_extension("sock");
    let (thread, stop) = (IngestThread::begin()?, CancellationToken::new());
    let listen = Listen::Unix(socket.clone());
    let listener = thread.run(async move { listen.bind().await }).await?;
    let serving = thread.run(serve(Arc::new(ingest), listener, stop.clone()));
    let (rate, ()) = tokio::join!(rate(settings, &socket, &spool, &stop), serving);
    spool.close().await;
    rate
}

/// The connections, and what they come to; then the end of whoever serves them.
async fn rate(
    settings: &Settings,
    socket: &Path,
    spool: &Spool,
    stop: &CancellationToken,
) -> Result<Rate, IngestError> {
    let _stop = stop.clone().drop_guard();
    let (accepted, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let connections = Connections::open(settings, socket)?;
    let posting = spawn_blocking({
        let (accepted, is_over) = (accepted.clone(), is_over.clone());
        move || connections.post_until(&is_over, &accepted)
    });
    sleep(WARM_UP).await;
    let count = || (accepted.load(Ordering::Relaxed), spool.commits());
    let (begin, (events, commits)) = (Instant::now(), count());
    sleep(settings.time).await;
    let (taken_s, (events_after, commits_after)) = (begin.elapsed().as_secs_f64(), count());
    is_over.store(true, Ordering::Relaxed);
    posting.await??;
    Ok(Rate {
        events_per_s: (events_after - events) as f64 / taken_s,
        commits_per_s: (commits_after - commits) as f64 / taken_s,
    })
}

/// All connections, on one thread.
struct Connections {
    poll: Poll,
    all: Vec<Connection>,
    events_per_request: u64,
}

/// A connection: it posts the same request again and again.
struct Connection {
    stream: UnixStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// Bytes of the answer that are there.
    read: usize,
}

impl Connections {
    fn open(settings: &Settings, socket: &Path) -> io::Result<Self> {
        let (poll, events_per_request) = (Poll::new()?, settings.events_per_request);
        let mut all = Vec::with_capacity(settings.connections);
        for number in 0..settings.connections {
            let mut stream = UnixStream::connect(socket)?;
            // Not told when there is room to write, which is after every request that the
            // server reads: a request fits into the socket.
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            let request = request_of(number, events_per_request);
            all.push(Connection { stream, request, answer: vec![0; ANSWER_BYTES_MAX], read: 0 });
        }
        Ok(Self { poll, all, events_per_request: events_per_request as u64 })
    }

    /// Counts the events that are accepted, until all is over and answered.
    fn post_until(mut self, is_over: &AtomicBool, accepted: &AtomicU64) -> Result<(), IngestError> {
        for connection in &mut self.all {
            connection.stream.write_all(&connection.request)?;
        }
        let (mut under_way, mut events) = (self.all.len(), Events::with_capacity(self.all.len()));
        while under_way > 0 {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let connection = &mut self.all[event.token().0];
                if !connection.is_answered()? {
                    continue;
                }
                accepted.fetch_add(self.events_per_request, Ordering::Relaxed);
                if is_over.load(Ordering::Relaxed) {
                    under_way -= 1;
                } else {
                    connection.stream.write_all(&connection.request)?;
                }
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what is there; whether that was the end of an answer, which was 202.
    fn is_answered(&mut self) -> Result<bool, IngestError> {
        loop {
            let rest = &mut self.answer[self.read..];
            let room = rest.len();
            let read = match self.stream.read(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            self.read += read;
            if is_whole(&self.answer[..self.read]) {
                break;
            }
            if read < room {
                // That was all: the poll tells of more.
                return Ok(false);
            }
        }
        self.read = 0;
        if self.answer.starts_with(b"HTTP/1.1 202 ") {
            return Ok(true);
        }
        let line = self.answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Err(IngestError::Answer { answer: String::from_utf8_lossy(line).into_owned() })
    }
}

/// Whether an answer has its headers, and a body as long as they say.
fn is_whole(answer: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = head.parse(answer) else { return false };
    let length = head.headers.iter().find(|header| header.name == "content-length");
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse().ok());
    answer.len() >= end + length.unwrap_or(0)
}

fn request_of(connection: usize, events: usize) -> Vec<u8> {
    let event = |number: usize| {
        json!({
            "specversion": "1.0", "id": format!("{connection}-{number}"), "source": "/bench",
            "type": "ml.collection.requested.v1", "data": { "parameters": { "rows": 100 } },
        })
    };
    let (media_type, body) = match events {
        1 => ("application/cloudevents+json", event(0)),
        _ => {
            let batch: Vec<Value> = (0..events).map(event).collect();
            ("application/cloudevents-batch+json", Value::from(batch))
        }
    };
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: {media_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_the_end_of_its_body() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        for length in 0..answer.len() {
            assert!(!is_whole(&answer[..length]), "{length}");
        }
        assert!(is_whole(answer));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_event_of_a_run_is_in_the_spool() {
        let folder = tempfile::tempdir().unwrap();
        for (events_per_request, records_per_commit_max) in [(1, 1), (10, 1_000)] {
            let path = folder.path().join(format!("{events_per_request}.redb"));
            let time = Duration::from_millis(300);
            let settings =
                Settings { connections: 4, events_per_request, records_per_commit_max, time };
            let rate = measure(&settings, &path).await.unwrap();
            assert!(rate.events_per_s > 0.0 && rate.commits_per_s > 0.0, "{rate:?}");
            let kept = Store::open(&path, LIMITS).unwrap().store.depth().events;
            assert!(kept as f64 >= rate.events_per_s * 0.3, "{kept} of {rate:?}");
        }
    }
}
