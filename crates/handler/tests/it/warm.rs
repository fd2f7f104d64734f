//! Connections that are open before the first event, and what is asked over them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use bellwire_handler::Clients;
use bellwire_schema::workflow::TargetKind;
use tokio::net::TcpListener;

use crate::world::config_at;

/// Of a request: who sends it, what, and whether it is signed.
type Seen = Arc<Mutex<Vec<(SocketAddr, String, bool)>>>;

async fn note(
    State(seen): State<Seen>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> StatusCode {
    let what = format!("{} {}", request.method(), request.uri().path());
    let is_signed = request.headers().contains_key("authorization");
    seen.lock().unwrap().push((peer, what, is_signed));
    StatusCode::NOT_FOUND
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_is_asked_for_nothing_and_the_first_call_finds_its_connection() {
    let seen = Seen::default();
    let router = Router::new().fallback(note).with_state(Arc::clone(&seen));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let config = config_at(endpoint, "eu-central-1").await;
    let clients = Clients::new(&config);
    clients.warm(&BTreeSet::from(TargetKind::ALL)).await;
    let knocks = std::mem::take(&mut *seen.lock().unwrap());
    let peers: BTreeSet<SocketAddr> = knocks.iter().map(|(peer, ..)| *peer).collect();
    // The ledger and the topic, and every kind of target but `sns`.
    assert_eq!((knocks.len(), peers.len()), (7, 7), "{knocks:?}");
    assert!(knocks.iter().all(|(_, what, is_signed)| what == "GET /" && !is_signed), "{knocks:?}");

    // What it answers is no answer to a call: the call fails, over a connection that is there.
    clients.sfn.start_execution().state_machine_arn("a").send().await.unwrap_err();
    let calls = seen.lock().unwrap().clone();
    assert!(
        calls.iter().all(|(peer, _, is_signed)| peers.contains(peer) && *is_signed),
        "{calls:?}"
    );
    assert!(!calls.is_empty());
    server.abort();
}
