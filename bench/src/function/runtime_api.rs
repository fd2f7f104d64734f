//! Lambda's Runtime API, for one function that handles one invocation at a time.
//! Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const TIMEOUT_MS: u128 = 60_000;

/// A function that asks for its next invocation: it gets the payload that is sent here.
pub(super) type Poll = oneshot::Sender<String>;

/// What a function says.
#[derive(Debug)]
pub(super) enum Said {
    /// It asks for what is next.
    Polls(Poll),
    /// It has handled an invocation.
    Answered,
    /// It could not, or could not even begin; in its own words.
    Failed(String),
}

/// The API on a free port of loopback. Dropping it ends it.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    pub(super) address: SocketAddr,
    said: mpsc::UnboundedReceiver<Said>,
    serving: JoinHandle<()>,
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl RuntimeApi {
    pub(super) async fn start() -> Result<Self, std::io::Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (says, said) = mpsc::unbounded_channel();
        Ok(Self { address, said, serving: tokio::spawn(serve(listener, says)) })
    }

    /// What the function says next; it ends with this where it never does.
    pub(super) async fn said(&mut self) -> Option<Said> {
        self.said.recv().await
    }
}

async fn serve(listener: TcpListener, says: mpsc::UnboundedSender<Said>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it small answers are only slower.
        let _ = stream.set_nodelay(true);
        let says = says.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(says.clone(), request));
            // It ends with an error where the function was ended.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    says: mpsc::UnboundedSender<Said>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    if path == NEXT {
        let (poll, payload) = oneshot::channel();
        // Where nobody listens any more the measurement is over, and so is the function.
        let _ = says.send(Said::Polls(poll));
        return Ok(invocation(payload.await.unwrap_or_default()));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let said = match path.ends_with("/response") {
        true => Said::Answered,
        false => Said::Failed(String::from_utf8_lossy(&body).into_owned()),
    };
    let _ = says.send(said);
    let mut accepted = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *accepted.status_mut() = StatusCode::ACCEPTED;
    Ok(accepted)
}

fn invocation(payload: String) -> Response<Full<Bytes>> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let deadline = (now_ms + TIMEOUT_MS).to_string();
    let arn = "arn:aws:lambda:eu-central-1:111122223333:function:bench-handler";
    let mut response = Response::new(Full::new(Bytes::from(payload)));
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", deadline.as_str()),
        ("lambda-runtime-invoked-function-arn", arn),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"),
    ] {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    response
}
