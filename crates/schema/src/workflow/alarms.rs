//! `[alarms]`: what is watched, whom it tells; and `expected` of a source, as CloudWatch
//! looks back on it.

use serde::{Deserialize, Serialize};

use super::model::{SourceKind, Trigger};
use super::problem::{Fault, known_words, quoted};
use super::read::{Item, Tables};
use super::spelling;
use super::table::Section;
use crate::event_type::{EventType, StageVerb};

const QUEUE_AGE_S_DEFAULT: u64 = 15 * 60;
/// Below it every burst would be an alarm: the publisher polls, and metrics of SQS come
/// once a minute.
const QUEUE_AGE_S_MIN: u64 = 60;
/// SQS keeps no message longer. Source: Amazon SQS API reference, `SetQueueAttributes`.
const QUEUE_AGE_S_MAX: u64 = 14 * 86_400;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 86_400;
const WEEK_S: u64 = 7 * DAY_S;
/// Up to which time in which unit: what is shorter than the shortest is refused.
const LONGEST: [(u64, (u64, &str)); 3] = [
    (EXPECTED_S_MIN - 1, (MINUTE_S, "minutes")),
    (DAY_S, (MINUTE_S, "minutes")),
    (WEEK_S, (HOUR_S, "hours")),
];
/// Below it the delay of metrics alone would set the alarm off.
const EXPECTED_S_MIN: u64 = 5 * MINUTE_S;

/// `[alarms]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    /// Whether there are any.
    pub enabled: bool,
    /// The e-mail address that they tell.
    pub email: Option<String>,
    /// The ARN of the topic that they tell instead.
    pub topic: Option<String>,
    /// How long a message may wait, in seconds.
    pub queue_age_s: u64,
    /// Those that are not made.
    pub skip: Vec<AlarmKind>,
    /// Whether there is a dashboard.
    pub dashboard: bool,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            enabled: true,
            email: None,
            topic: None,
            queue_age_s: QUEUE_AGE_S_DEFAULT,
            skip: Vec::new(),
            dashboard: true,
        }
    }
}

impl Alarms {
    /// Whether alarms of a kind are made.
    #[must_use]
    pub fn has(&self, kind: AlarmKind) -> bool {
        self.enabled && !self.skip.contains(&kind)
    }
}

/// The kinds of alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// Something could not be handled.
    DeadQueue,
    /// A message waits too long for the publisher or the handler.
    QueueAge,
    /// The handler failed.
    HandlerErrors,
    /// Lambda did not let the handler run.
    HandlerThrottles,
    /// The topic could not deliver.
    Deliveries,
    /// What a trigger started has failed.
    Runs,
    /// No data has come by the time it was expected.
    Expected,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DeadQueue,
        Self::QueueAge,
        Self::HandlerErrors,
        Self::HandlerThrottles,
        Self::Deliveries,
        Self::Runs,
        Self::Expected,
    ];

    /// Its name in `skip`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadQueue => "dead-queue",
            Self::QueueAge => "queue-age",
            Self::HandlerErrors => "handler-errors",
            Self::HandlerThrottles => "handler-throttles",
            Self::Deliveries => "deliveries",
            Self::Runs => "runs",
            Self::Expected => "expected",
        }
    }
}

/// How an alarm looks back over a time: in so many periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookBack {
    /// The length of one, in seconds.
    pub period_s: u64,
    /// How many.
    pub periods: u64,
}

impl LookBack {
    /// Over exactly this time; `None` where CloudWatch does not look back on it.
    ///
    /// Periods under an hour reach back one day at most, and longer ones seven: short ones
    /// tell sooner, so that they are taken wherever they reach. Source: Amazon CloudWatch
    /// API reference, `PutMetricAlarm`, `EvaluationPeriods` and `Period`.
    ///
    /// ```
    /// use bellwire_schema::workflow::LookBack;
    /// assert_eq!(LookBack::over(86_400), Some(LookBack { period_s: 300, periods: 288 }));
    /// assert_eq!(LookBack::over(7 * 86_400), Some(LookBack { period_s: 3_600, periods: 168 }));
    /// assert_eq!(LookBack::over(8 * 86_400), None);
    /// ```
    #[must_use]
    pub fn over(time_s: u64) -> Option<Self> {
        let period_s = match time_s {
            ..EXPECTED_S_MIN => return None,
            ..=DAY_S if time_s.is_multiple_of(5 * MINUTE_S) => 5 * MINUTE_S,
            ..=DAY_S if time_s.is_multiple_of(MINUTE_S) => MINUTE_S,
            ..=WEEK_S if time_s.is_multiple_of(HOUR_S) => HOUR_S,
            _ => return None,
        };
        Some(Self { period_s, periods: time_s / period_s })
    }
}

pub(super) fn alarms(section: &Section<'_>) -> Alarms {
    let default = Alarms::default();
    let queue_age_s = section.duration_s("queue_age");
    if let Some(age_s) = queue_age_s.filter(|s| !(QUEUE_AGE_S_MIN..=QUEUE_AGE_S_MAX).contains(s)) {
        let cause = format!("`queue_age` is {age_s} seconds");
        section.fault_of("queue_age", Fault::new(cause, "write a time from 1m to 14d"));
    }
    let alarms = Alarms {
        enabled: section.boolean("enabled").unwrap_or(default.enabled),
        email: section.checked("email", spelling::email),
        topic: section.checked("topic", standard_topic),
        queue_age_s: queue_age_s.unwrap_or(default.queue_age_s),
        skip: section.list("skip", kind).unwrap_or(default.skip),
        dashboard: section.boolean("dashboard").unwrap_or(default.dashboard),
    };
    if section.has("email") && section.has("topic") {
        let cause = "`email` and `topic` are two ways of telling somebody";
        let remedy = "keep one of the two: subscribe the address to the topic";
        section.fault_of("topic", Fault::new(cause, remedy));
    }
    alarms
}

/// Source: Amazon CloudWatch user guide, "Notifying users on alarm changes": no FIFO topics.
fn standard_topic(text: &str) -> Result<String, Fault> {
    let arn = spelling::arn(text, "sns", &[""])?;
    match arn.ends_with(".fifo") {
        true => Err(Fault::new("is a FIFO topic", "alarms tell standard topics only: name one")),
        false => Ok(arn),
    }
}

fn kind(text: &str) -> Result<AlarmKind, Fault> {
    let found = AlarmKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| {
        let known = AlarmKind::ALL.map(AlarmKind::as_str);
        Fault::new("is no alarm", known_words(text, &known))
    })
}

/// `expected` of a source, in seconds.
pub(super) fn expected_s(section: &Section<'_>) -> Option<u64> {
    let expected_s = section.duration_s("expected")?;
    if LookBack::over(expected_s).is_some() {
        return Some(expected_s);
    }
    let given = section.peek("expected").and_then(|given| given.get_ref().as_str());
    let cause = format!("CloudWatch does not look back on {}", quoted(given.unwrap_or_default()));
    let remedy = match LONGEST.into_iter().position(|(longest_s, _)| expected_s <= longest_s) {
        Some(0) => "write 5m or more: metrics themselves come minutes late".to_owned(),
        Some(index) => {
            let (unit_s, unit) = LONGEST[index].1;
            let whole = expected_s.div_ceil(unit_s);
            format!("it takes whole {unit} there: `{whole}{}`", &unit[..1])
        }
        None => "it looks back on 7d at most: ask for what comes more seldom by a schedule".into(),
    };
    section.fault_of("expected", Fault::new(cause, remedy));
    None
}

/// What no trigger starts on never gets to the handler, which counts what was expected.
pub(super) fn expected_by_nobody(tables: &Tables<'_>) {
    if tables.triggers.iter().any(|item| item.value.is_none()) {
        return;
    }
    let triggers: Vec<&Trigger> =
        tables.triggers.iter().filter_map(|item| item.value.as_ref()).collect();
    for item in &tables.sources {
        let Some(source) = item.value.as_ref().filter(|one| one.expected_s.is_some()) else {
            continue;
        };
        let emitted = emitted_by(&source.kind);
        // The completions of a stage come through for the runs that they close, too.
        let hears = |trigger: &&Trigger| {
            emitted.contains(&trigger.stage.event(StageVerb::Completed))
                || trigger.on.iter().any(|wanted| emitted.contains(wanted))
        };
        if !triggers.iter().any(hears) {
            unheard(item, &emitted);
        }
    }
}

fn unheard<T>(item: &Item<'_, T>, emitted: &[EventType]) {
    let names: Vec<String> = emitted.iter().map(|one| one.short().to_string()).collect();
    let cause =
        format!("no trigger starts on {}, so nothing of it is expected", names.join(" or "));
    item.section.fault_of("expected", Fault::new(cause, "add a trigger, or drop `expected`"));
}

/// What a source emits.
fn emitted_by(kind: &SourceKind) -> Vec<EventType> {
    match kind {
        SourceKind::S3(s3) => vec![s3.emits.clone()],
        SourceKind::Schedule(schedule) => vec![schedule.emits.clone()],
        SourceKind::Http(http) => vec![http.emits.clone()],
        SourceKind::StepFunctions(of) | SourceKind::Sagemaker(of) | SourceKind::Batch(of) => {
            vec![of.stage.event(StageVerb::Completed), of.stage.event(StageVerb::Failed)]
        }
    }
}
