//! What can go wrong, and how often it did.

use std::collections::BTreeMap;
use std::fmt;

/// A call of the publisher to AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Publish,
    Receive,
    Delete,
    Hide,
    Bury,
    LookUp,
    /// The ledger, for why a run was started.
    Ask,
    /// A payload into the claims' store.
    Put,
}

impl Call {
    pub(crate) const ALL: [Self; 8] = [
        Self::Publish,
        Self::Receive,
        Self::Delete,
        Self::Hide,
        Self::Bury,
        Self::LookUp,
        Self::Ask,
        Self::Put,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "sns:PublishBatch",
            Self::Receive => "sqs:ReceiveMessage",
            Self::Delete => "sqs:DeleteMessageBatch",
            Self::Hide => "sqs:ChangeMessageVisibilityBatch",
            Self::Bury => "sqs:SendMessage",
            Self::LookUp => "s3:HeadObject",
            Self::Ask => "dynamodb:Query",
            Self::Put => "s3:PutObject",
        }
    }

    /// Whether it changes nothing.
    pub(crate) const fn is_look_up(self) -> bool {
        matches!(self, Self::LookUp | Self::Ask)
    }
}

/// Something that went wrong, or was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The service answered with a 500.
    Failed(Call),
    /// Nothing answered, and nothing was done.
    Unanswered(Call),
    /// It was done, and the answer was lost.
    AnswerLost(Call),
    /// The service is down for a while.
    Down(Call),
    /// The credentials had expired.
    Expired(Call),
    Throttled,
    /// The role may not publish for a while.
    Denied,
    /// The topic was down for more than half an hour.
    LongOutage,
    /// An entry of a batch failed that others of the batch did not.
    EntryFailed,
    /// The role was refused for an entry alone.
    EntryDenied,
    /// SNS refuses an event for ever.
    EntryRefused,
    /// SNS refuses a whole batch for one event in it.
    BatchRefused,
    DeleteEntryFailed,
    HideEntryFailed,
    /// The queue gave a message out although somebody has it.
    DeliveredTwice,
    /// The queue gave a message out that had been deleted.
    Resurrected,
    /// A message was received again while its first receiver still worked on it.
    VisibilityRanOut,
    /// A message that nobody can read.
    BadMessage,
    SpoolFull,
    /// One operation of the disk failed, and later ones did not.
    DiskFailed,
    /// The disk, and then the process, lost power: unsynced writes are torn or gone.
    PowerLost,
    Killed,
    /// The process was asked to end.
    Terminated,
    /// It ended with work left, which its drain had no time for.
    DrainRanOut,
    /// A client sent events again that it had no answer for.
    SentAgain,
    /// A publisher settled a message that another one had received before.
    ChangedHands,
    /// EventBridge told of one thing twice.
    ToldTwice,
    /// An event over SNS's limit travelled without its payload.
    Claimed,
    /// An event was over SNS's limit where there is no claim check.
    TooLarge,
    /// On a FIFO topic, a message was left behind one of its group that was left.
    GroupHeld,
}

impl Fault {
    pub(crate) fn all() -> Vec<Self> {
        let of_calls = |fault: fn(Call) -> Self| Call::ALL.into_iter().map(fault);
        let mut all: Vec<Self> = Vec::new();
        all.extend(of_calls(Self::Failed));
        all.extend(of_calls(Self::Unanswered));
        // What is lost of a look-up is the same as no answer.
        let changes = || Call::ALL.into_iter().filter(|call| !call.is_look_up());
        all.extend(changes().map(Self::AnswerLost));
        all.extend(changes().map(Self::Down));
        all.extend(of_calls(Self::Expired));
        all.extend([
            Self::Throttled,
            Self::Denied,
            Self::LongOutage,
            Self::EntryFailed,
            Self::EntryDenied,
            Self::EntryRefused,
            Self::BatchRefused,
            Self::DeleteEntryFailed,
            Self::HideEntryFailed,
            Self::DeliveredTwice,
            Self::Resurrected,
            Self::VisibilityRanOut,
            Self::BadMessage,
            Self::SpoolFull,
            Self::DiskFailed,
            Self::PowerLost,
            Self::Killed,
            Self::Terminated,
            Self::DrainRanOut,
            Self::SentAgain,
            Self::ChangedHands,
            Self::ToldTwice,
            Self::Claimed,
            Self::TooLarge,
            Self::GroupHeld,
        ]);
        all
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, call) = match self {
            Self::Failed(call) => ("answers 500", *call),
            Self::Unanswered(call) => ("does not answer", *call),
            Self::AnswerLost(call) => ("is done and its answer lost", *call),
            Self::Down(call) => ("is down", *call),
            Self::Expired(call) => ("meets expired credentials", *call),
            Self::Throttled => ("is throttled", Call::Publish),
            Self::Denied => ("is denied", Call::Publish),
            Self::LongOutage => ("is down for more than half an hour", Call::Publish),
            Self::EntryFailed => ("fails for an entry", Call::Publish),
            Self::EntryDenied => ("is denied for an entry", Call::Publish),
            Self::EntryRefused => ("refuses an event", Call::Publish),
            Self::BatchRefused => ("refuses a batch for one event", Call::Publish),
            Self::DeleteEntryFailed => ("fails for an entry", Call::Delete),
            Self::HideEntryFailed => ("fails for an entry", Call::Hide),
            Self::DeliveredTwice => ("gives out what somebody has", Call::Receive),
            Self::Resurrected => ("gives out what was deleted", Call::Receive),
            Self::VisibilityRanOut => return f.pad("visibility ran out during the work"),
            Self::BadMessage => return f.pad("message that nobody can read"),
            Self::SpoolFull => return f.pad("spool full"),
            Self::DiskFailed => return f.pad("disk failed once"),
            Self::PowerLost => return f.pad("power lost"),
            Self::Killed => return f.pad("SIGKILL"),
            Self::Terminated => return f.pad("SIGTERM"),
            Self::DrainRanOut => return f.pad("drain ran out of time"),
            Self::SentAgain => return f.pad("client sent again"),
            Self::ChangedHands => return f.pad("message changed hands"),
            Self::ToldTwice => return f.pad("EventBridge tells a thing twice"),
            Self::Claimed => return f.pad("event over the limit, claimed"),
            Self::TooLarge => return f.pad("event over the limit, no claim check"),
            Self::GroupHeld => return f.pad("group held by a message that was left"),
        };
        f.pad(&format!("{} {what}", call.name()))
    }
}

/// How often each fault happened.
pub(crate) type FaultCounts = BTreeMap<Fault, u64>;
