//! What S3 tells of objects: by itself, through SNS, and through EventBridge.

use bellwire_schema::dead_letter::DeadReason;
use fastrand::Rng;
use serde_json::json;

use super::{Event, QueueMessage, REFUSED, Wanted};
use crate::samples::{s3_body, s3_event, sns_wrapped, test_event};

/// The dataset of every source of objects: one group on a FIFO topic.
const DATASET: &str = "wine";

/// A message, whose objects have names of its number.
pub(super) fn message(number: u64, random: &mut Rng) -> QueueMessage {
    let mut next = 0;
    let mut good = |prefix: &str| {
        next += 1;
        format!("{prefix}{number}-{next}.csv")
    };
    let published = |key: String| (key.clone(), wanted(key));
    let records = match random.u8(0..40) {
        0..20 => vec![published(good("raw/"))],
        20..24 => (0..random.usize(2..14)).map(|_| published(good("raw/"))).collect(),
        24..28 => vec![published(good("models/")), published(good("raw/"))],
        28..30 => {
            let refused = (good(&format!("raw/{REFUSED}-")), Wanted::Refused);
            vec![published(good("raw/")), refused, published(good("raw/"))]
        }
        30..32 => vec![
            published(good("raw/")),
            ("raw/%FF.csv".to_owned(), Wanted::Buried(DeadReason::KeyNotUtf8)),
            published(good("raw/")),
        ],
        32 => vec![("raw/folder/".to_owned(), Wanted::Skipped), published(good("raw/"))],
        33 => vec![("elsewhere/x".to_owned(), Wanted::Skipped)],
        34 => return QueueMessage::of(test_event(), vec![Wanted::Skipped]),
        35 => {
            let key = good("raw/");
            return QueueMessage::of(sns_wrapped(&s3_body(&[&key])), vec![wanted(key)]);
        }
        36 | 37 => {
            let key = good("raw/");
            let event = s3_event("Object Created", &key, &json!({ "reason": "PutObject" }));
            return QueueMessage::of(event, vec![wanted(key)]);
        }
        38 => {
            let body = format!("garbage {}", random.u32(..));
            return QueueMessage::of(body, vec![Wanted::Buried(DeadReason::Undecodable)]);
        }
        _ => {
            let body = json!({ "Records": [{ "eventSource": "aws:s3" }] }).to_string();
            return QueueMessage::of(body, vec![Wanted::Buried(DeadReason::MalformedRecord)]);
        }
    };
    let keys: Vec<&str> = records.iter().map(|(key, _)| key.as_str()).collect();
    let body = s3_body(&keys);
    QueueMessage::of(body, records.into_iter().map(|(_, wanted)| wanted).collect())
}

fn wanted(key: String) -> Wanted {
    Wanted::Published(Event::within(key, Some(DATASET)))
}
