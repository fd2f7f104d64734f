//! A publisher's life: connect, listen, bridge, stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{io, panic, thread};

use tokio::runtime::{self, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bridge::BridgeError;
use crate::connect::{ConnectError, Connected, connect};
use crate::ingest::{Ingest, Listen, ListenError, Listener, serve, write_address};
use crate::outbox::OutboxError;
use crate::settings::Settings;

/// Why a publisher ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not begin.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {address}: choose another one with --listen (port 0: any that is free)"
    )]
    Listen {
        /// The address.
        address: Listen,
        /// Why.
        source: ListenError,
    },
    /// The address file cannot be written.
    #[error("cannot write {}: check --address-file", path.display())]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The outbox ended.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The bridge ended.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The system has no thread left.
    #[error("the thread that takes HTTP requests cannot be started")]
    Thread(#[source] io::Error),
}

/// Runs until `shutdown`, then drains within the settings' bound.
///
/// # Errors
///
/// Where the publisher could not begin, or ended by itself.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    let Connected { bridge, ingest, outbox, counts, place } = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        connected = connect(&settings) => connected?,
    };
    let stop = shutdown.child_token();
    let ingest_thread = IngestThread::begin().map_err(RunError::Thread)?;
    let listener = ingest_thread
        .run({
            let listen = settings.listen.clone();
            async move { listen.bind().await }
        })
        .await
        .map_err(|source| RunError::Listen { address: settings.listen.clone(), source })?;
    let address = listener.address().clone();
    if let Some(path) = &settings.address_file {
        write_address(path, &address)
            .map_err(|source| RunError::AddressFile { path: path.clone(), source })?;
    }
    tracing::info!(
        address = %address, workflow = settings.deployment.prefix(),
        account = place.account, region = place.region, concurrency = settings.concurrency,
        "publisher ready"
    );
    let drain = settings.drain;
    // Whichever way ends first takes the other one along.
    let served = async {
        ingest_thread.run(serve_until(ingest, listener, stop.clone(), drain)).await;
        stop.cancel();
    };
    let bridged = async {
        let ended = Arc::new(bridge).run(settings.concurrency, stop.clone(), drain).await;
        stop.cancel();
        ended
    };
    let published = async {
        let ended = outbox.run(stop.clone(), drain).await;
        stop.cancel();
        ended
    };
    let ((), unfinished, spooled) = tokio::join!(served, bridged, published);
    let (unfinished, spooled) = (unfinished?, spooled?);
    if unfinished > 0 {
        tracing::warn!(
            unfinished,
            "messages were still in work when the drain's time was up: they come back to the queue"
        );
    }
    if spooled > 0 {
        tracing::warn!(spooled, "events stay in the spool: the next start publishes them");
    }
    tracing::info!("publisher stopped: {counts}");
    Ok(())
}

/// Serves until `stop`, and then at most for the drain's time.
async fn serve_until(ingest: Ingest, listener: Listener, stop: CancellationToken, drain: Duration) {
    let served = serve(Arc::new(ingest), listener, stop.clone());
    tokio::select! {
        () = served => {}
        () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!("HTTP requests were still under way when the drain's time was up");
        }
    }
}

/// A runtime of the calling thread alone: each of the publisher's two ways in is a
/// thread of its own, so that neither waits for the other, and no work goes from
/// thread to thread, which costs as much as a tenth of it.
///
/// # Errors
///
/// Where the system does not give what it takes.
pub fn one_thread() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(bellwire_telemetry::write_held_lines)
        .build()
}

/// The thread of the HTTP requests; it ends with this.
#[derive(Debug)]
pub struct IngestThread {
    runtime: Handle,
    _ended: DropGuard,
}

impl IngestThread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// Where the system does not give what it takes.
    pub fn begin() -> io::Result<Self> {
        let runtime = one_thread()?;
        let handle = runtime.handle().clone();
        let ended = CancellationToken::new();
        let until = ended.clone();
        thread::Builder::new().name("ingest".to_owned()).spawn(move || {
            bellwire_telemetry::hold_lines();
            runtime.block_on(until.cancelled());
            bellwire_telemetry::write_held_lines();
        })?;
        Ok(Self { runtime: handle, _ended: ended.drop_guard() })
    }

    /// Runs a future there to its end.
    ///
    /// # Panics
    ///
    /// Where the future does.
    pub async fn run<T>(&self, future: impl Future<Output = T> + Send + 'static) -> T
    where
        T: Send + 'static,
    {
        let ended = self.runtime.spawn(future).await;
        ended.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// Where the system takes no handler.
pub async fn stop_signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
