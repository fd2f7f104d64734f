//! A publisher's life: connect, listen, bridge, stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::bridge::BridgeError;
use crate::connect::{ConnectError, Connected, connect};
use crate::ingest::{Listen, ListenError, serve, write_address};
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
    /// The listener failed.
    #[error("the listener failed")]
    Serve(#[source] io::Error),
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
    let listener = settings
        .listen
        .bind()
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
    // Whichever way ends first takes the other one along.
    let stop = shutdown.child_token();
    let drain = settings.drain;
    let served = async {
        let served = serve(Arc::new(ingest), listener, stop.clone());
        let ended = tokio::select! {
            ended = served => ended,
            () = async { stop.cancelled().await; tokio::time::sleep(drain).await } => {
                tracing::warn!("HTTP requests were still under way when the drain's time was up");
                Ok(())
            }
        };
        stop.cancel();
        ended
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
    let (served, unfinished, spooled) = tokio::join!(served, bridged, published);
    let (unfinished, spooled) = (unfinished?, spooled?);
    served.map_err(RunError::Serve)?;
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
