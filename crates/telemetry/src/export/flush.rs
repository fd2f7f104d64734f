//! A flush that can be waited for, and given up.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use super::settings::ExportProblem;

/// A thread of its own, so that who asks for a flush can stop waiting for it. It ends
/// with this.
#[derive(Debug)]
pub(crate) struct Flusher {
    requests: SyncSender<SyncSender<()>>,
}

/// A flush under way; none where the ones before it have not ended, which take what is
/// there along.
pub(crate) struct Flush(Option<Receiver<()>>);

impl Flusher {
    pub(crate) fn start(
        name: &str,
        flush: impl Fn() + Send + 'static,
    ) -> Result<Self, ExportProblem> {
        let (sender, requests): (_, Receiver<SyncSender<()>>) = sync_channel(1);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for request in requests {
                    flush();
                    // Nobody may be waiting any more.
                    let _ = request.try_send(());
                }
            })
            .map_err(|error| ExportProblem::Thread { reason: error.to_string() })?;
        Ok(Self { requests: sender })
    }

    pub(crate) fn begin(&self) -> Flush {
        let (done, is_done) = sync_channel(1);
        Flush(self.requests.try_send(done).is_ok().then_some(is_done))
    }
}

impl Flush {
    /// Whether it ends in time: the SDK's own flush waits five seconds, or for as long as
    /// the exporter retries.
    pub(crate) fn ends_by(self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.is_some_and(|is_done| is_done.recv_timeout(left).is_ok())
    }
}
