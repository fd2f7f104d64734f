//! Headers and bodies as they come over a connection, and Unix sockets.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwire_publisher::ingest::{HEADER_BYTES_MAX, HEADERS_MAX, Listen, ListenError, serve};
use bellwire_publisher::probe::{Question, probe};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Server, ingest, problem, requested};
use crate::fakes::FakeTopic;

#[tokio::test]
async fn headers_have_their_limits() {
    let server = Server::start(FakeTopic::default()).await;
    let large = "x".repeat(HEADER_BYTES_MAX);
    let response = server.binary(&[("ce-note", &large)], b"").send().await.unwrap();
    let (status, document) = problem(response).await;
    assert_eq!(
        (status, &document["type"]),
        (431, &json!("urn:bellwire:problem:headers-too-large"))
    );
    assert!(document["detail"].as_str().unwrap().contains("may be 100 of 32768"), "{document}");
    assert!(server.topic.accepted_ids().is_empty());
}

#[tokio::test]
async fn a_request_with_too_many_headers_is_told_so() {
    let server = Server::start(FakeTopic::default()).await;
    let mut answers = Vec::new();
    // The server's own limit would be 100 too, and its answer without a document.
    for count in [HEADERS_MAX, HEADERS_MAX + 1, 900] {
        let own = "host: x\r\nconnection: close\r\nce-specversion: 1.0\r\nce-source: /wine-app\r\n\
                   ce-type: ml.collection.requested.v1\r\nce-id: e-1\r\n";
        let more: String =
            (own.lines().count()..count).map(|number| format!("x-{number}: y\r\n")).collect();
        let stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        let request = format!("POST /v1/events HTTP/1.1\r\n{own}{more}\r\n");
        answers.push(exchange(stream, &request).await);
    }
    assert!(answers[0].starts_with("HTTP/1.1 202 "), "{}", answers[0]);
    for answer in &answers[1..] {
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains("urn:bellwire:problem:headers-too-large"), "{answer}");
    }
    assert_eq!(server.topic.accepted_ids(), ["e-1"]);
}

/// Sends a request as it stands, and reads until the server has no more to say.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The clock is the runtime's own: it goes forward while nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(FakeTopic::default()).await;
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let request = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   content-length: 10\r\n\r\n{";
    let answer = exchange(stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:bellwire:problem:body-timeout"), "{answer}");
}

/// A server on a Unix socket, and how to end it.
async fn on_socket(path: &Path) -> (JoinHandle<()>, CancellationToken, Arc<FakeTopic>) {
    let listener = Listen::Unix(path.to_owned()).bind().await.unwrap();
    assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
    let (topic, stop) = (Arc::new(FakeTopic::default()), CancellationToken::new());
    let served = tokio::spawn(serve(Arc::new(ingest(&topic)), listener, stop.clone()));
    (served, stop, topic)
}

#[tokio::test]
async fn events_come_through_a_unix_socket_that_is_there_as_long_as_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    let (served, stop, topic) = on_socket(&path).await;
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let body = requested().to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(topic.accepted_ids(), ["e-1"]);
    assert!(probe(&Listen::Unix(path.clone()), Question::Healthz).await.is_ok());
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_is_replaced_only_where_nobody_answers_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    // What a killed publisher leaves: the file, without a listener.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_served, _stop, _topic) = on_socket(&path).await;
    let error = Listen::Unix(path.clone()).bind().await.unwrap_err();
    assert!(matches!(error, ListenError::Taken), "{error}");
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let error = Listen::Unix(file.clone()).bind().await.unwrap_err();
    assert!(matches!(error, ListenError::NotASocket), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn a_socket_that_took_another_one_s_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ingest.sock");
    let first = Listen::Unix(path.clone()).bind().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = Listen::Unix(path.clone()).bind().await.unwrap();
    drop(first);
    assert!(path.exists());
}
