//! A publisher's lives: it starts over its disk, works, and ends as its plan says.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use bellwire_publisher::bridge::{Bridge, BridgeError, Edges};
use bellwire_publisher::claim::ClaimDesk;
use bellwire_publisher::counts::Counts;
use bellwire_publisher::ingest::{Admit, AdmitError, Ingest};
use bellwire_publisher::outbox::{Outbox, OutboxError};
use bellwire_publisher::pack::Entry;
use bellwire_publisher::publish::{Outlet, Topic as _};
use bellwire_publisher::spool::{Limits, Spool, SpoolError, Store};
use bellwire_telemetry::with_causes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::load::{claim_check, rules, workflow};
use crate::plan::{How, PublisherPlan, Stop};
use crate::samples::QUEUE_ARN;
use crate::topic::TopicSide;
use crate::torn_disk::TornDisk;
use crate::world::{Edge, Holder, World};

const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Whoever starts a process again that ended by itself takes this long.
const RESTART: Duration = Duration::from_secs(1);

/// What a process may take beyond its drain to be gone.
const ENDING: Duration = Duration::from_secs(1);

/// A publisher, through all of its lives.
pub(crate) struct Publisher {
    world: Arc<World>,
    index: usize,
    disk: TornDisk,
    /// The way in over HTTP, while there is one.
    front: Mutex<Option<Front>>,
    lives: AtomicU32,
}

/// A way in over HTTP, and the spool behind it.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) router: Router,
    door: Arc<Door>,
}

/// The spool of a process that is alive: requests that are under way when it dies find
/// it closed.
struct Door(Mutex<Option<Spool>>);

/// One life.
struct Process {
    holder: Holder,
    spool: Spool,
    door: Arc<Door>,
    running: JoinHandle<Result<Left, Ended>>,
    shutdown: CancellationToken,
}

/// What a drain left: messages in work, and events in the spool.
#[derive(Debug)]
struct Left {
    messages: usize,
    events: u64,
}

/// Why a process ended by itself.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

impl Door {
    fn spool(&self) -> MutexGuard<'_, Option<Spool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admit for Door {
    fn admit<'a>(&'a self, events: Vec<Entry>) -> BoxFuture<'a, Result<(), AdmitError>> {
        let spool = self.spool().clone();
        async move {
            match spool {
                Some(spool) => spool.admit(events).await,
                None => Err(AdmitError::Unavailable { message: "the process ended".to_owned() }),
            }
        }
        .boxed()
    }
}

impl Publisher {
    pub(crate) fn new(world: Arc<World>, index: usize) -> Self {
        let (disk, front) = (TornDisk::new(), Mutex::default());
        Self { world, index, disk, front, lives: AtomicU32::new(0) }
    }

    /// Where its clients find it, while they do.
    pub(crate) fn front(&self) -> MutexGuard<'_, Option<Front>> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> &PublisherPlan {
        &self.world.plan.publishers[self.index]
    }

    /// How many events wait in its spool; one whose spool is closed does not tell.
    pub(crate) fn spooled(&self) -> Option<u64> {
        let front = self.front();
        let spool = front.as_ref()?.door.spool();
        spool.as_ref().map(|spool| spool.depth().events)
    }

    /// Lives and dies by its plan, then until `end`, and ends in order: nothing is left.
    pub(crate) async fn live(&self, end: CancellationToken) {
        let mut process = self.start().await;
        for stop in self.plan().stops.clone() {
            process = self.go_on(process, self.world.sleep_until(stop.at)).await;
            process = self.stop(process, stop).await;
        }
        process = self.go_on(process, end.cancelled()).await;
        let left = self.drain(process).await;
        if left.events > 0 {
            self.violated(format!("a drain in calm left {} events", left.events));
        }
    }

    async fn stop(&self, process: Process, stop: Stop) -> Process {
        match stop.how {
            How::FailDisk { operations } => {
                self.world.fault(Fault::DiskFailed);
                self.disk.fail_once_after(operations);
                return process;
            }
            How::Terminate => {
                self.world.fault(Fault::Terminated);
                let left = self.drain(process).await;
                if left.messages > 0 || left.events > 0 {
                    self.world.fault(Fault::DrainRanOut);
                }
            }
            How::Kill => {
                self.world.fault(Fault::Killed);
                self.crash(process).await;
                self.disk.go_on();
            }
            How::LosePower { operations, later_ms } => {
                self.world.fault(Fault::PowerLost);
                self.disk.lose_power_after(operations);
                let later = sleep(Duration::from_millis(later_ms));
                let process = self.go_on(process, later).await;
                self.crash(process).await;
                let mut random = self.world.state().random.fork();
                self.disk.restore_power(&mut random);
            }
        }
        sleep(Duration::from_millis(stop.down_ms)).await;
        self.start().await
    }

    /// Starts over what the disk holds. A disk that fails now works a little later.
    async fn start(&self) -> Process {
        let mut has_failed = false;
        loop {
            match self.open() {
                Ok(process) => return process,
                Err(error) if has_failed => {
                    self.violated(format!("the spool cannot be opened: {error}"));
                    std::future::pending::<()>().await;
                }
                Err(error) => self.world.note(format_args!("not started: {error}")),
            }
            has_failed = true;
            sleep(RESTART).await;
            self.disk.go_on();
        }
    }

    fn open(&self) -> Result<Process, SpoolError> {
        let plan = self.plan();
        let limits = Limits { events_max: plan.spool_events_max, bytes_max: SPOOL_BYTES_MAX };
        let spool = Spool::on_runtime(Store::with_backend(self.disk.clone(), limits)?)?;
        let holder = Holder { publisher: self.index, life: self.lives.fetch_add(1, Relaxed) };
        self.world.note(format_args!("{holder} starts with {} events", spool.depth().events));
        let shutdown = CancellationToken::new();
        let edge = self.edge(holder);
        let door = Arc::new(Door(Mutex::new(Some(spool.clone()))));
        let ingest = Ingest::new(workflow(), edge.name().clone(), door.clone())
            .with_claims(edge.claim_desk());
        let router = Arc::new(ingest).router();
        let running = tokio::spawn(life(edge, spool.clone(), plan, shutdown.clone()));
        *self.front() = Some(Front { router, door: door.clone() });
        Ok(Process { holder, spool, door, running, shutdown })
    }

    fn edge(&self, holder: Holder) -> Edge {
        let topic = Arc::new(TopicSide::new(self.world.plan.forms.is_fifo));
        Edge { world: self.world.clone(), holder, topic }
    }

    /// Lets it run until something else is due, and starts it again where it ends first.
    async fn go_on(&self, mut process: Process, until: impl Future<Output = ()>) -> Process {
        let mut until = std::pin::pin!(until);
        loop {
            let ended = tokio::select! {
                biased;
                () = &mut until => return process,
                ended = &mut process.running => ended,
            };
            let why = match ended {
                Ok(Ok(_)) => "without a reason".to_owned(),
                Ok(Err(ended)) => with_causes(&ended),
                Err(panicked) => panicked.to_string(),
            };
            self.world.note(format_args!("{} ended: {why}", process.holder));
            if self.disk.is_sound() {
                self.violated(format!("{} ended by itself: {why}", process.holder));
            }
            self.close(process).await;
            sleep(RESTART).await;
            process = match self.disk.has_power() {
                true => self.start().await,
                // Nobody can start it before the power is back.
                false => {
                    until.await;
                    self.disk.go_on();
                    return self.start().await;
                }
            };
        }
    }

    async fn drain(&self, mut process: Process) -> Left {
        *self.front() = None;
        process.shutdown.cancel();
        let drain = Duration::from_secs(self.plan().drain_s);
        let left = match timeout(drain + ENDING, &mut process.running).await {
            Ok(Ok(Ok(left))) => left,
            Ok(Ok(Err(_))) if !self.disk.is_sound() => Left { messages: 0, events: 0 },
            Ok(ended) => {
                self.violated(format!("{} did not drain: {ended:?}", process.holder));
                Left { messages: 0, events: 0 }
            }
            Err(_) => {
                self.violated(format!("{} still drained after {drain:?}", process.holder));
                Left { messages: 0, events: 0 }
            }
        };
        let Left { messages, events } = &left;
        let holder = process.holder;
        self.world.note(format_args!("{holder} drained, left {messages} and {events}"));
        self.close(process).await;
        left
    }

    /// All of it stops here and now.
    async fn crash(&self, process: Process) {
        self.disk.cut_power();
        process.running.abort();
        self.world.note(format_args!("{} crashes", process.holder));
        self.close(process).await;
    }

    async fn close(&self, process: Process) {
        *self.front() = None;
        *process.door.spool() = None;
        process.spool.close().await;
        self.world.holder_ended(process.holder);
    }

    fn violated(&self, problem: String) {
        self.world.state().audit.violated(problem);
    }
}

impl Edge {
    fn claim_desk(&self) -> Option<ClaimDesk> {
        let claims = Arc::new(self.clone());
        self.world.plan.forms.has_claims.then(|| ClaimDesk { check: claim_check(), claims })
    }
}

/// As `run` does it: whichever way ends first takes the other one along.
fn life(
    edge: Edge,
    spool: Spool,
    plan: &PublisherPlan,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<Left, Ended>> + use<> {
    let edge = Arc::new(edge);
    let outlet = Arc::new(Outlet::new(edge.clone(), plan.calls_max));
    let counts = Arc::new(Counts::default());
    let edges = Edges {
        queue: edge.clone(),
        outlet: outlet.clone(),
        dead: edge.clone(),
        objects: edge.clone(),
        origins: edge.clone(),
        claims: edge.claim_desk(),
    };
    let bridge = Bridge::new(rules(), edges, QUEUE_ARN.to_owned(), counts.clone());
    let outbox = Outbox { spool, outlet, dead: edge, counts };
    let (pipelines, drain) = (plan.pipelines, Duration::from_secs(plan.drain_s));
    async move {
        let stop = shutdown.child_token();
        let bridged = async {
            let ended = Arc::new(bridge).run(pipelines, stop.clone(), drain).await;
            stop.cancel();
            ended
        };
        let published = async {
            let ended = outbox.run(stop.clone(), drain).await;
            stop.cancel();
            ended
        };
        let (messages, events) = tokio::join!(bridged, published);
        Ok(Left { messages: messages?, events: events? })
    }
}
