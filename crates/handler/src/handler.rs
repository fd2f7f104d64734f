//! The orchestrator: one invocation, from its payload to the answer.

use std::time::{Duration, Instant};

use aws_lambda_events::sqs::SqsBatchResponse;
use bellwire_ledger::{ClaimOutcome, End, Ledger, LedgerError, Start, State};
use bellwire_schema::dead_letter::DeadReason;
use bellwire_schema::workflow::TargetKind;
use bellwire_schema::{Envelope, EventContext, EventType};
use bellwire_telemetry::metrics::{
    COLD_STARTS, DUPLICATES, EVENT_SOURCE, EVENT_TYPE, EVENTS_RECEIVED, EVENTS_SKIPPED, OUTCOME,
    REASON, START_LAG, STARTS, TRIGGER,
};
use bellwire_telemetry::semconv::{
    CLOUDEVENTS_EVENT_ID, CLOUDEVENTS_EVENT_SOURCE, CLOUDEVENTS_EVENT_TYPE, DB_OPERATION_NAME,
    DB_SYSTEM_NAME, FAAS_TRIGGER, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, MESSAGING_SYSTEM_SNS,
};
use bellwire_telemetry::{context_of, link, mark_failed, set_parent, trace_id};
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde_json::Value;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::announce::{AnnounceError, Topic, started_event};
use crate::batch::{Queued, answer_of, lanes_of};
use crate::call::Call;
use crate::claim::{Claims, FetchError};
use crate::clients::Clients;
use crate::counts::Counts;
use crate::decode::{Delivery, Invocation, Undeliverable, check_payload};
use crate::gather::{Generations, Lake, LakeError};
use crate::hint::Hints;
use crate::matching::{EndedRun, matching};
use crate::model::{CompiledTrigger, Model};
use crate::plan::plan_start_or_point;
use crate::quarantine::{Quarantine, QuarantineError};
use crate::start::{Attempt, StartError, Targets};
use crate::straight::{Told, told_by_s3};

/// What Lambda calls the version that is no published one.
const UNPUBLISHED: &str = "$LATEST";

/// Messages or groups of a batch that are handled side by side.
const LANES_MAX: usize = 10;

/// The part of an invocation's time after which no message of a batch is begun: were
/// Lambda to end it, all of the batch would come back, handled or not.
const BEGIN_UNTIL: f64 = 0.75;

/// The handler: a model, and the edges to AWS.
#[derive(Debug)]
pub struct Handler {
    pub(crate) model: Model,
    pub(crate) ledger: Ledger,
    pub(crate) targets: Targets,
    pub(crate) topic: Topic,
    pub(crate) quarantine: Quarantine,
    pub(crate) lake: Lake,
    pub(crate) generations: Generations,
    pub(crate) hints: Hints,
    counts: Counts,
    claims: Option<Claims>,
    /// The version of the function, which a probe asks for.
    version: String,
}

/// An event on its way through the handler.
pub(crate) struct Arrival {
    /// With its payload.
    pub(crate) event: Envelope,
    /// As it travelled, where the payload was fetched.
    pub(crate) pointer: Option<Envelope>,
}

/// When an invocation happens, and until when it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// When Lambda would end it.
    pub deadline: Timestamp,
}

/// Why an invocation must be repeated.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The payload of an event cannot be fetched now.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What a gather reads or writes in S3 failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Somebody else is making a start whose target would not refuse a second one.
    #[error("the start {start_key} is another invocation's until {until}: it comes back")]
    Leased {
        /// The start's key.
        start_key: String,
        /// Until when.
        until: Timestamp,
    },
    /// The target did not accept the start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An event did not get to the topic.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// A dead letter did not get to the dead queue.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
}

impl Handler {
    /// A handler of a model, whose ledger, topic and dead queue follow from it.
    #[must_use]
    pub fn new(model: Model, clients: Clients) -> Self {
        let table = model.deployment.ledger_table();
        let topic_arn = model.place.topic_arn(&model.topic());
        let dead_queue_url = model.place.queue_url(&model.deployment.dead_queue());
        let targets = Targets::new(&clients);
        let hints = Hints::new(&model, clients.sqs.clone());
        let lake = Lake::new(clients.s3.clone(), model.claim_check.clone());
        let claims = model.claim_check.clone().map(|check| Claims::new(clients.s3, check));
        Self {
            targets,
            claims,
            ledger: Ledger::new(clients.dynamodb, &table, model.retention_days),
            topic: Topic::new(clients.sns, &topic_arn),
            quarantine: Quarantine::new(clients.sqs, &dead_queue_url),
            lake,
            generations: Generations::default(),
            hints,
            counts: Counts::default(),
            version: UNPUBLISHED.to_owned(),
            model,
        }
    }

    /// The same as a published version of the function.
    #[must_use]
    pub fn of_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// The same, which tells somebody else of what it counts.
    #[must_use]
    pub fn counting(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// Handles one invocation of the function, under its own span: a child of the message
    /// that it was invoked for, where that is one, so that the trace shows what the
    /// function itself takes. The sweep has none: what it mends is in the traces of that.
    ///
    /// # Errors
    ///
    /// Those of [`Self::handle`].
    pub async fn handle_call(
        &self,
        payload: &Value,
        moment: Moment,
        call: &Call,
    ) -> Result<Option<SqsBatchResponse>, HandlerError> {
        let invocation = Invocation::decode(payload);
        if call.is_cold {
            COLD_STARTS.add(1, || []);
        }
        let span = match &invocation {
            Invocation::Sweep => Span::none(),
            other => call.span(other),
        };
        let handled = self.handle_decoded(invocation, payload, moment);
        let result = handled.instrument(span.clone()).await;
        if let Err(error) = &result {
            mark_failed(&span, error);
        }
        result
    }

    /// Handles one invocation. Once it answers `Ok`, each event in it was
    /// started, known, held back by a guard, or put aside, for each trigger that it matched; but for those
    /// of a batch of the work queue that the answer names, which come back.
    ///
    /// # Errors
    ///
    /// The first of the errors after which the invocation must be repeated;
    /// what did not fail was done all the same.
    pub async fn handle(
        &self,
        payload: &Value,
        moment: Moment,
    ) -> Result<Option<SqsBatchResponse>, HandlerError> {
        self.handle_decoded(Invocation::decode(payload), payload, moment).await
    }

    async fn handle_decoded(
        &self,
        invocation: Invocation,
        payload: &Value,
        moment: Moment,
    ) -> Result<Option<SqsBatchResponse>, HandlerError> {
        let mut result = Ok(());
        match invocation {
            Invocation::Sweep => result = self.sweep(moment).await,
            Invocation::Batch(batch) => return Ok(Some(self.deliver_batch(batch, moment).await)),
            Invocation::Deliveries(deliveries) => {
                for delivery in &deliveries {
                    result = result.and(self.deliver(delivery, moment.now).await);
                }
            }
            Invocation::Unknown => {
                let unknown = Delivery { body: payload.to_string(), ..Delivery::default() };
                let message = "neither an SNS notification, nor a batch of the work queue, nor an event, nor the sweep's call";
                let reason = DeadReason::Undecodable;
                self.quarantine.put(&unknown, None, reason, message, moment.now).await?;
            }
        }
        result.map(|()| None)
    }

    /// Handles a batch, groups side by side; answers with what must come back.
    async fn deliver_batch(&self, batch: Vec<Queued>, moment: Moment) -> SqsBatchResponse {
        let begun = Instant::now();
        let time = Duration::try_from(moment.deadline.duration_since(moment.now));
        let begin_until = begun + time.unwrap_or_default().mul_f64(BEGIN_UNTIL);
        let lanes = lanes_of(batch).into_iter();
        let failed = lanes.map(|lane| self.deliver_lane(lane, moment.now, begin_until));
        let failed: Vec<Vec<String>> = stream::iter(failed).buffered(LANES_MAX).collect().await;
        answer_of(failed.concat())
    }

    /// Handles the messages of a group in order, up to the first that fails; answers
    /// with that and all behind it.
    async fn deliver_lane(
        &self,
        lane: Vec<Queued>,
        now: Timestamp,
        begin_until: Instant,
    ) -> Vec<String> {
        let mut done = 0;
        for queued in &lane {
            if Instant::now() >= begin_until {
                warn!("the batch ran out of time: what is left of it comes back");
                break;
            }
            if let Some(hint) = self.hint_in(&queued.delivery) {
                Box::pin(self.follow(&hint, now, begin_until)).await;
            } else if self.deliver(&queued.delivery, now).await.is_err() {
                break;
            }
            done += 1;
        }
        lane.into_iter().skip(done).map(|queued| queued.item_id).collect()
    }

    /// Handles a message: an event, or what S3 itself tells the topic, of which each
    /// record goes its own way.
    async fn deliver(&self, delivery: &Delivery, now: Timestamp) -> Result<(), HandlerError> {
        let Some(told) = told_by_s3(&self.model.workflow, &delivery.body) else {
            return self.deliver_event(delivery, delivery.event(), now).await;
        };
        let mut result = Ok(());
        for record in told {
            let event = match record {
                Ok(Told::Event(event)) => Ok(*event),
                Ok(Told::Skip { reason, key }) => {
                    EVENTS_SKIPPED.add(1, || [REASON.of(reason)]);
                    info!(reason, key, message_id = delivery.message_id, "record skipped");
                    continue;
                }
                Err(undeliverable) => Err(undeliverable),
            };
            result = result.and(self.deliver_event(delivery, event, now).await);
        }
        result
    }

    async fn deliver_event(
        &self,
        delivery: &Delivery,
        event: Result<Envelope, Undeliverable>,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let event = match event {
            Ok(event) => event,
            Err(undeliverable) => {
                let (reason, message) = (undeliverable.reason(), undeliverable.to_string());
                return Ok(self.quarantine.put(delivery, None, reason, &message, now).await?);
            }
        };
        EVENTS_RECEIVED.add(1, || {
            let event_type = EVENT_TYPE.bounded(event.event_type.as_str());
            [event_type, EVENT_SOURCE.bounded(&event.source)]
        });
        let span = self.process_span(delivery, &event);
        let result = self.resolve_and_process(delivery, event, now).instrument(span.clone()).await;
        if let Err(error) = &result {
            let _entered = span.enter();
            mark_failed(&span, error);
            tracing::error!(error = %error, "event not handled: it comes back");
        }
        result
    }

    /// The consumer's span, which carries the message's trace on.
    fn process_span(&self, delivery: &Delivery, event: &Envelope) -> Span {
        let topic = self.model.topic();
        let span = info_span!(
            "process",
            otel.name = format!("process {topic}"),
            otel.kind = "consumer",
            { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SNS,
            { MESSAGING_OPERATION_NAME } = "process",
            { MESSAGING_OPERATION_TYPE } = "process",
            { MESSAGING_DESTINATION_NAME } = topic,
            { MESSAGING_MESSAGE_ID } = delivery.message_id,
            { FAAS_TRIGGER } = "pubsub",
            { CLOUDEVENTS_EVENT_ID } = event.id,
            { CLOUDEVENTS_EVENT_TYPE } = event.event_type.as_str(),
            { CLOUDEVENTS_EVENT_SOURCE } = event.source,
        );
        let (context, around) = (&event.context, context_of(&Span::current()));
        let trace_of = |text: Option<&str>| text.and_then(trace_id).map(str::to_owned);
        let around = around.map(|around| around.traceparent);
        let is_inside = trace_of(around.as_deref()) == trace_of(context.traceparent.as_deref());
        if !is_inside {
            set_parent(&span, context.traceparent.as_deref(), context.tracestate.as_deref());
            around.iter().for_each(|invocation| link(&span, invocation));
        }
        span
    }

    async fn resolve_and_process(
        &self,
        delivery: &Delivery,
        event: Envelope,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let (reason, message) = match self.resolve(event).await? {
            Ok(arrival) => {
                self.counts.event(&self.model, &arrival.event, now);
                return self.process(delivery, &arrival, now).await;
            }
            Err(unresolvable) => unresolvable,
        };
        Ok(self.quarantine.put(delivery, None, reason, &message, now).await?)
    }

    /// Gets the payload of an event that came without it; answers with reason
    /// and words where it has none that could be handled.
    async fn resolve(
        &self,
        event: Envelope,
    ) -> Result<Result<Arrival, (DeadReason, String)>, FetchError> {
        let resolved = match &self.claims {
            Some(claims) => claims.resolve(&event).await,
            None => Ok(None),
        };
        let arrival = match resolved {
            Ok(Some(whole)) => Arrival { event: whole, pointer: Some(event) },
            Ok(None) => Arrival { event, pointer: None },
            Err(error) => match error.reason() {
                Some(reason) => return Ok(Err((reason, error.to_string()))),
                None => return Err(error),
            },
        };
        Ok(match check_payload(&arrival.event) {
            Ok(()) => Ok(arrival),
            Err(undeliverable) => Err((undeliverable.reason(), undeliverable.to_string())),
        })
    }

    async fn process(
        &self,
        delivery: &Delivery,
        arrival: &Arrival,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let event = &arrival.event;
        if event.event_type == EventType::probe() {
            let name = event.subject.as_deref().unwrap_or(&event.id);
            info!(name, "a probe has come");
            return Ok(self.ledger.record_probe(name, &self.version, now).await?);
        }
        let mut result = match EndedRun::of(event) {
            Some(ended) => self.close(&ended, now).await,
            None => Ok(()),
        };
        let mut matched = 0;
        for trigger in matching(&self.model, event) {
            matched += 1;
            if let Some(rules) = &trigger.gather {
                result = result.and(self.gather(trigger, rules, delivery, arrival, now).await);
                continue;
            }
            let name = trigger.trigger.name.as_str();
            let span = info_span!("start", otel.name = format!("start {name}"), trigger = name);
            let started = self.start(trigger, delivery, arrival, now).instrument(span).await;
            result = result.and(started);
        }
        if matched == 0 {
            EVENTS_SKIPPED.add(1, || [REASON.of("no-trigger")]);
            info!(type = event.event_type.as_str(), id = event.id, "event starts nothing");
        }
        result
    }

    /// Closes the start whose run has ended. A run that is not in the ledger
    /// was started by somebody else.
    async fn close(&self, ended: &EndedRun, now: Timestamp) -> Result<(), HandlerError> {
        let Some(row) = self.ledger.find_by_run(&ended.run_arn).await? else {
            return Ok(());
        };
        self.close_start(&row.start, ended.state, &ended.end, now).await?;
        info!(
            trigger = row.start.trigger,
            run = ended.run_arn,
            status = ended.end.status,
            duration_s = ended.end.duration_s,
            "run ended"
        );
        Ok(())
    }

    /// Claims and starts, as the span that is current: the run's spans hang on it.
    async fn start(
        &self,
        trigger: &CompiledTrigger,
        delivery: &Delivery,
        Arrival { event, pointer }: &Arrival,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let name = trigger.trigger.name.as_str();
        let (trace, pointer) = (current_trace(event), pointer.as_ref());
        let planned = match plan_start_or_point(&self.model, trigger, event, pointer, trace) {
            Ok(planned) => planned,
            Err(error) => {
                let (reason, message) = (error.reason(), error.to_string());
                return Ok(self
                    .quarantine
                    .put(delivery, Some(name), reason, &message, now)
                    .await?);
            }
        };
        self.claim_and_start(planned, delivery, now).await
    }

    /// Claims what is planned, and starts it where it was not started before.
    pub(crate) async fn claim_and_start(
        &self,
        planned: Start,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let outcome = match self.claim(&planned, now).await {
            Err(error) if !error.is_retryable() => {
                let (reason, message) = (DeadReason::LedgerRefused, error.to_string());
                return Ok(self
                    .quarantine
                    .put(delivery, Some(&planned.trigger), reason, &message, now)
                    .await?);
            }
            outcome => outcome?,
        };
        let (start, attempt) = match outcome {
            ClaimOutcome::Claimed => (planned, Attempt::Claimed),
            ClaimOutcome::Unfinished(row) => (row.start, Attempt::Claimed),
            ClaimOutcome::TakenOver(row) => (row.start, Attempt::TakenOver),
            ClaimOutcome::Leased { until } => {
                let start_key = planned.start_key.to_string();
                return Err(HandlerError::Leased { start_key, until });
            }
            ClaimOutcome::Known(row) => {
                DUPLICATES.add(1, || [TRIGGER.bounded(&planned.trigger)]);
                count_start(&planned.trigger, "duplicate");
                let (run, state) = (row.start.run_arn, row.state.as_str());
                let (trigger, id) = (planned.trigger, planned.cause.id);
                info!(trigger, id, run, state, "duplicate: its start is known");
                return Ok(());
            }
            ClaimOutcome::Held { by, until } => {
                count_start(&planned.trigger, "held");
                let (trigger, id, guard) = (planned.trigger, planned.cause.id, by.as_str());
                self.hint_held(&trigger, until, now).await;
                let until = until.map(|until| until.to_string());
                info!(trigger, id, guard, until, "start held back: the sweep releases it");
                return Ok(());
            }
            ClaimOutcome::Dropped { by } => {
                count_start(&planned.trigger, "dropped");
                let (trigger, id, guard) = (planned.trigger, planned.cause.id, by.as_str());
                warn!(trigger, id, guard, "start dropped: a guard held it back");
                return Ok(());
            }
        };
        self.start_or_refuse(&start, attempt, delivery, now).await
    }

    /// Claims a start, as far as its trigger's guards allow.
    async fn claim(&self, planned: &Start, now: Timestamp) -> Result<ClaimOutcome, LedgerError> {
        let span = info_span!(
            "ledger claim",
            otel.kind = "client",
            { DB_SYSTEM_NAME } = "aws.dynamodb",
            { DB_OPERATION_NAME } = "TransactWriteItems",
        );
        let guards = self.model.guards_of(&planned.trigger);
        self.ledger.claim_guarded(planned, guards, now).instrument(span).await
    }

    /// Closes a start, and gives back the slot of its run: in this order, so that what is
    /// interrupted between is found open, and closed again.
    pub(crate) async fn close_start(
        &self,
        start: &Start,
        state: State,
        end: &End,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        if self.model.guards_of(&start.trigger).max_concurrent.is_some() {
            self.ledger.release_slot(&start.trigger, &start.start_key).await?;
        }
        self.ledger.close(&start.start_key, state, end).await?;
        self.counts.end(&self.model, &start.trigger, state, now);
        Ok(())
    }

    /// Starts what is claimed. Where the target refuses for good, `delivery`
    /// goes to the dead queue and the start is closed.
    pub(crate) async fn start_or_refuse(
        &self,
        start: &Start,
        attempt: Attempt,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let message = match self.start_claimed(start, attempt, now).await {
            Err(HandlerError::Start(StartError::Refused { message, .. })) => message,
            result => {
                let outcome = if result.is_ok() { "started" } else { "failed" };
                count_start(&start.trigger, outcome);
                return result;
            }
        };
        count_start(&start.trigger, "refused");
        let (trigger, reason) = (Some(start.trigger.as_str()), DeadReason::StartRefused);
        self.quarantine.put(delivery, trigger, reason, &message, now).await?;
        let end = End { status: "REFUSED".to_owned(), cause: Some(message), ..End::default() };
        self.close_start(start, State::Refused, &end, now).await
    }

    /// Starts what is claimed, tells of it, and records it: in this order, so
    /// that whatever is interrupted is repeated, and what is repeated is a
    /// duplicate for the target and for every subscriber.
    async fn start_claimed(
        &self,
        start: &Start,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let accepted = self.targets.start(start, attempt).await?;
        let started_at = accepted.started_at.unwrap_or(now);
        let started = started_event(start, &accepted.run_arn, started_at);
        self.announce_or_refuse(started, &start.trigger, now).await?;
        let run_arn = &accepted.run_arn;
        match TargetKind::of_arn(&start.target).is_some_and(TargetKind::tells_the_end) {
            true => self.ledger.record_started(start, run_arn, started_at, now).await?,
            false => self.ledger.record_accepted(&start.start_key, run_arn, started_at).await?,
        }
        if let Some(time) = start.cause.time {
            let lag = started_at.duration_since(time).as_secs_f64().max(0.0);
            START_LAG.record(lag, || [TRIGGER.bounded(&start.trigger)]);
        }
        info!(trigger = start.trigger, id = start.cause.id, run = accepted.run_arn, "run started");
        Ok(())
    }

    /// Publishes an event of the handler's own. One that SNS refuses for good goes to
    /// the dead queue: what it tells of has happened all the same.
    pub(crate) async fn announce_or_refuse(
        &self,
        event: Envelope,
        trigger: &str,
        now: Timestamp,
    ) -> Result<(), HandlerError> {
        let refused = Delivery { body: event.to_json(), ..Delivery::default() };
        match self.announce(event).await {
            Err(HandlerError::Announce(error)) if error.is_for_good() => {
                let (reason, message) = (DeadReason::PublishRefused, error.to_string());
                let put = self.quarantine.put(&refused, Some(trigger), reason, &message, now);
                Ok(put.await?)
            }
            result => result,
        }
    }

    /// Publishes an event of the handler's own under a producer's span.
    pub(crate) async fn announce(&self, mut event: Envelope) -> Result<(), HandlerError> {
        let span = info_span!(
            "create",
            otel.name = format!("ml.{} create", event.event_type.short()),
            otel.kind = "producer",
            { MESSAGING_SYSTEM } = MESSAGING_SYSTEM_SNS,
            { MESSAGING_OPERATION_NAME } = "create",
            { MESSAGING_OPERATION_TYPE } = "create",
            { MESSAGING_DESTINATION_NAME } = self.model.topic(),
            { CLOUDEVENTS_EVENT_ID } = event.id,
            { CLOUDEVENTS_EVENT_TYPE } = event.event_type.as_str(),
        );
        if let Some(trace) = context_of(&span) {
            event.context.traceparent = Some(trace.traceparent);
            event.context.tracestate = trace.tracestate;
        }
        Ok(self.topic.publish(&event).instrument(span).await?)
    }
}

fn count_start(trigger: &str, outcome: &'static str) {
    STARTS.add(1, || [TRIGGER.bounded(trigger), OUTCOME.of(outcome)]);
}

/// The trace context of the current span; where no tracer runs, the event's own.
fn current_trace(event: &Envelope) -> EventContext {
    match context_of(&Span::current()) {
        Some(trace) => EventContext {
            traceparent: Some(trace.traceparent),
            tracestate: trace.tracestate,
            ..EventContext::default()
        },
        None => EventContext {
            traceparent: event.context.traceparent.clone(),
            tracestate: event.context.tracestate.clone(),
            ..EventContext::default()
        },
    }
}
