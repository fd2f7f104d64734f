//! The way of each call to AWS, on which a provisioner can be killed: an HTTP client for
//! the SDK's own clients.
//!
//! A kill is the apply's future dropped where it stands, with all that is under way. So the
//! call that is to be its last never answers, and rings [`Death`], on which whoever drives
//! the apply drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_sts::config::{HttpClient as _, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use tokio::sync::Notify;

/// Which call is the last.
#[derive(Debug, Default)]
pub(crate) struct Death {
    /// Calls so far.
    pub(crate) calls: AtomicU64,
    /// The number of the last one; 0: none is.
    last: AtomicU64,
    /// Whether the last one is still done at AWS.
    is_done: AtomicU64,
    pub(crate) bell: Notify,
}

impl Death {
    /// Lets this call, counted from now on, be the last; and whether it is still done.
    pub(crate) fn at(&self, call: u64, is_done: bool) {
        self.calls.store(0, Ordering::SeqCst);
        self.last.store(call, Ordering::SeqCst);
        self.is_done.store(u64::from(is_done), Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Wire {
    onwards: SharedHttpConnector,
    death: Arc<Death>,
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (onwards, death) = (self.onwards.clone(), Arc::clone(&self.death));
        let number = death.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let last = death.last.load(Ordering::SeqCst);
        if last == 0 || number < last {
            return onwards.call(request);
        }
        HttpConnectorFuture::new(async move {
            if number == last && death.is_done.load(Ordering::SeqCst) == 1 {
                let _ = onwards.call(request).await;
            }
            death.bell.notify_one();
            std::future::pending().await
        })
    }
}

/// The SDK's own HTTP client, with a death on its way.
pub(crate) fn wire(death: &Arc<Death>) -> SharedHttpClient {
    let plain = aws_smithy_http_client::Builder::new().build_http();
    let death = Arc::clone(death);
    http_client_fn(move |settings, components| {
        let onwards = plain.http_connector(settings, components);
        SharedHttpConnector::new(Wire { onwards, death: Arc::clone(&death) })
    })
}
