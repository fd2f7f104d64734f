//! `serve`: the connections of a listener, each on a task of its own.

use std::sync::Arc;

use axum::Router;
use axum::serve::Listener as Accept;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::Ingest;
use super::listen::{Listener, Socket};

/// Headers of a request that are read at all: ten times as many as are taken
/// ([`HEADERS_MAX`](super::HEADERS_MAX)), so that one that has too many is told so. To
/// one with even more hyper answers 431 by itself, without a document.
const HEADERS_READ_MAX: usize = 1_000;

/// Serves until `shutdown`, and then until the requests under way are answered.
pub async fn serve(ingest: Arc<Ingest>, listener: Listener, shutdown: CancellationToken) {
    let router = ingest.router();
    match listener.socket {
        Socket::Tcp(socket) => serve_all(socket, &router, &shutdown).await,
        Socket::Unix(socket, _file) => serve_all(socket, &router, &shutdown).await,
    }
}

/// axum's own loop takes no limit for the headers.
async fn serve_all(mut listener: impl Accept, router: &Router, shutdown: &CancellationToken) {
    let mut http = http1::Builder::new();
    http.max_headers(HEADERS_READ_MAX);
    let under_way = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = under_way.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    under_way.shutdown().await;
}
