//! What is promised, and whether it is kept. Every check is made as early as it can be.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_publisher::pack::Entry;
use bellwire_schema::DeadLetter;
use bellwire_schema::dead_letter::DeadReason;

use crate::load::{HttpEvent, QUEUE_ARN, QueueMessage, REFUSED, Wanted};

#[derive(Debug, Default)]
pub(crate) struct Audit {
    messages: BTreeMap<String, QueueMessage>,
    /// What clients have sent, by id.
    sent: BTreeMap<String, HttpEvent>,
    /// What was answered with a 202.
    acknowledged: BTreeSet<String>,
    published: BTreeMap<String, Published>,
    letters: BTreeSet<Letter>,
    /// The newest event of each lane that was published.
    lanes: BTreeMap<String, u64>,
    /// The first promise that was not kept.
    violation: Option<String>,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
}

#[derive(Debug)]
struct Published {
    id: String,
    body: String,
}

/// What of a dead letter tells whose it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    /// The message's id, or the event's.
    id: String,
    reason: DeadReason,
    /// Which record of the message it is, where there are several.
    record: Option<usize>,
}

impl Audit {
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Notes that a promise was not kept.
    pub(crate) fn violated(&mut self, problem: impl Into<String>) {
        self.violation.get_or_insert_with(|| problem.into());
    }

    /// How many events are to be published or buried.
    pub(crate) fn events(&self) -> u64 {
        let records = self.messages.values().map(|message| message.records.len()).sum::<usize>();
        (records + self.acknowledged.len()) as u64
    }

    pub(crate) fn message_sent(&mut self, id: &str, message: &QueueMessage) {
        self.messages.insert(id.to_owned(), message.clone());
    }

    pub(crate) fn event_sent(&mut self, event: &HttpEvent) {
        self.sent.insert(event.id.clone(), event.clone());
    }

    pub(crate) fn event_acknowledged(&mut self, event: &HttpEvent) {
        self.acknowledged.insert(event.id.clone());
    }

    /// SNS accepted an event.
    pub(crate) fn event_published(&mut self, entry: &Entry) {
        let event = entry.envelope();
        let subject = event.subject.clone().unwrap_or_default();
        if !self.may_be_published(&subject) {
            self.violated(format!("`{subject}` was published, and never sent as such"));
        }
        if let Some(first) = self.published.get(&subject) {
            self.duplicates += 1;
            if first.id != event.id || first.body != entry.body() {
                let both =
                    format!("{} {}, and {} {}", first.id, first.body, event.id, entry.body());
                self.violated(format!("a duplicate of `{subject}` is another event: {both}"));
            }
            return;
        }
        if let Some(HttpEvent { lane: Some(lane), number, .. }) = self.sent.get(&subject) {
            let newest = self.lanes.entry(lane.clone()).or_default();
            if *newest > *number {
                let problem = format!("event {number} of lane {lane} was overtaken by {newest}");
                self.violated(problem);
            } else {
                *newest = *number;
            }
        }
        let published = Published { id: event.id.clone(), body: entry.body().to_owned() };
        self.published.insert(subject, published);
    }

    fn may_be_published(&self, subject: &str) -> bool {
        let wanted = |message: &QueueMessage| {
            message.records.iter().any(|record| *record == Wanted::Published(subject.to_owned()))
        };
        let is_sent = self.sent.get(subject).is_some_and(|event| !event.is_refused());
        is_sent || self.messages.values().any(wanted)
    }

    /// The dead queue accepted a letter.
    pub(crate) fn letter_buried(&mut self, text: &str) {
        let letter: DeadLetter = match serde_json::from_str(text) {
            Ok(letter) => letter,
            Err(error) => return self.violated(format!("no dead letter: {error}: {text}")),
        };
        let (id, body) = (letter.id.clone().unwrap_or_default(), letter.body());
        let problem = match (self.messages.get(&id), self.sent.get(&id)) {
            (Some(message), _) => {
                let is_whole = body.as_deref() == Some(message.body.as_bytes());
                let is_wanted = message.records.iter().any(|record| match record {
                    Wanted::Buried(reason) => *reason == letter.reason,
                    Wanted::Refused(_) => letter.reason == DeadReason::PublishRefused,
                    Wanted::Published(_) | Wanted::Skipped => false,
                });
                let is_from_there = letter.source.as_deref() == Some(QUEUE_ARN);
                (!is_whole || !is_wanted || !is_from_there).then_some("message")
            }
            (None, Some(event)) => {
                let expected = event.admitted().envelope.to_json();
                let is_whole = body.as_deref() == Some(expected.as_bytes());
                let is_wanted = event.is_refused() && letter.reason == DeadReason::PublishRefused;
                (!is_whole || !is_wanted).then_some("event")
            }
            (None, None) => Some("nothing that was sent"),
        };
        if let Some(of) = problem {
            self.violated(format!("the dead letter of {id} is not that of the {of}: {text}"));
        }
        let record = letter.message.strip_prefix("record ").and_then(|rest| {
            rest.split(' ').next().and_then(|number| number.parse::<usize>().ok())
        });
        let record = record.map(|number| number - 1);
        self.letters.insert(Letter { id, reason: letter.reason, record });
    }

    /// A message leaves the queue: each record of it must be done with.
    pub(crate) fn message_deleted(&mut self, id: &str) {
        if let Some(problem) = self.undone(id) {
            self.lost += 1;
            self.violated(format!("{id} left the queue, but {problem}"));
        }
    }

    fn undone(&self, id: &str) -> Option<String> {
        let message = self.messages.get(id)?;
        let is_alone = message.records.len() == 1;
        message.records.iter().enumerate().find_map(|(index, wanted)| {
            let buried = |reason, record| {
                self.letters.contains(&Letter { id: id.to_owned(), reason, record })
            };
            let is_done = match wanted {
                Wanted::Published(subject) => self.published.contains_key(subject),
                Wanted::Refused(_) => buried(DeadReason::PublishRefused, None),
                Wanted::Skipped => true,
                Wanted::Buried(reason) => buried(*reason, (!is_alone).then_some(index)),
            };
            (!is_done).then(|| format!("its record {index} is neither: {wanted:?}"))
        })
    }

    /// At the end: what was accepted and is neither published nor buried is lost.
    pub(crate) fn end(&mut self) {
        let messages: Vec<String> = self.messages.keys().cloned().collect();
        let mut lost: Vec<String> =
            messages.iter().filter_map(|id| Some(format!("{id}: {}", self.undone(id)?))).collect();
        lost.extend(self.acknowledged.iter().filter(|id| !self.is_done(id)).cloned());
        if !lost.is_empty() {
            self.lost += lost.len() as u64;
            self.violated(format!("lost: {}", lost.join("; ")));
        }
    }

    fn is_done(&self, id: &str) -> bool {
        let letter = Letter { id: id.to_owned(), reason: DeadReason::PublishRefused, record: None };
        match id.contains(REFUSED) {
            true => self.letters.contains(&letter),
            false => self.published.contains_key(id),
        }
    }
}
