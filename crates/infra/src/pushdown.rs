//! Filter push-down: of all that travels on the topic, what the handler's
//! subscription lets through. Pure.
//!
//! It is never narrower than the triggers. Wanted are the events that a trigger
//! starts on, and the completions of the runs it starts, which close their
//! ledger rows; and the probe, by which a deploy sees that anything gets through at
//! all. A key is pushed only where everything wanted pins it, with
//! conditions that mean the same on a body's text and on an attribute's.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_schema::filter::{FilterPolicy, Scope};
use bellwire_schema::workflow::{Source, SourceKind, Subscriber, Trigger, Via, Workflow};
use bellwire_schema::{EventType, StageVerb};
use serde_json::{Map, Value, json};

/// The key of an event's type, in the envelope and among the attributes.
const TYPE: &str = "type";

/// Keys of the envelope, beside `type`, that are SNS attributes of the same text.
const PUSHED: [&str; 3] = ["dataset", "source", "stage"];

/// Operators that mean the same on a text wherever it stands.
const TEXT_OPERATORS: [&str; 5] =
    ["anything-but", "equals-ignore-case", "prefix", "suffix", "wildcard"];

/// Events of these types, and what is known of each of them.
struct Wanted {
    types: BTreeSet<String>,
    /// For each key that is pinned: the conditions, one of which holds.
    pins: BTreeMap<&'static str, Vec<Value>>,
}

/// The filter policy of the handler's subscription, and its scope: that of attributes,
/// unless S3 itself tells the topic of a source, which it does without any.
///
/// ```
/// # use bellwire_infra::pushdown::handler_filter;
/// # use bellwire_schema::filter::Scope;
/// # fn shown(workflow: &bellwire_schema::workflow::Workflow) {
/// let (policy, scope) = handler_filter(workflow);
/// assert_eq!(scope, Scope::Attributes);
/// assert!(policy["type"].is_array() || policy["$or"].is_array());
/// # }
/// ```
#[must_use]
pub fn handler_filter(workflow: &Workflow) -> (Value, Scope) {
    let wanted: Vec<Wanted> = workflow.triggers.iter().flat_map(wanted_by).collect();
    let types: BTreeSet<&String> = wanted.iter().flat_map(|wanted| &wanted.types).collect();
    let notifications = notifications_wanted(workflow);
    let scope = if notifications.is_some() { Scope::Body } else { Scope::Attributes };
    let whole = |events: &Map<String, Value>| with_probe(events, notifications.as_ref());
    let mut events = Map::from_iter([(TYPE.to_owned(), json!(types))]);
    for key in PUSHED {
        let Some(conditions) = union_of_pins(&wanted, key) else {
            continue;
        };
        events.insert(key.to_owned(), Value::Array(conditions));
        if !is_within_limits(&whole(&events), scope) {
            events.remove(key);
        }
    }
    (whole(&events), scope)
}

/// The whole policy: the events, the probe, of which no key is pinned but its type, and
/// what S3 itself tells.
fn with_probe(events: &Map<String, Value>, notifications: Option<&Value>) -> Value {
    let probe = json!(EventType::probe().as_str());
    let mut events = events.clone();
    let mut others = Vec::new();
    let is_type_alone = events.len() == 1;
    match events.get_mut(TYPE) {
        Some(Value::Array(types)) if is_type_alone => types.push(probe),
        _ => others.push(json!({TYPE: [probe]})),
    }
    others.extend(notifications.cloned());
    if others.is_empty() {
        return Value::Object(events);
    }
    others.insert(0, Value::Object(events));
    json!({"$or": others})
}

/// The notifications that S3 itself sends to the topic, by their buckets; `None` where
/// it sends none. Within a bucket its own filters hold.
fn notifications_wanted(workflow: &Workflow) -> Option<Value> {
    let bucket = |source: &Source| match &source.kind {
        SourceKind::S3(s3) if s3.via == Via::Topic => Some(s3.bucket.clone()),
        _ => None,
    };
    let buckets: BTreeSet<String> = workflow.sources.iter().filter_map(bucket).collect();
    (!buckets.is_empty()).then(|| json!({"Records": {"s3": {"bucket": {"name": buckets}}}}))
}

/// The filter policy of another subscriber, and its scope: what it names, or everything but
/// probes. What S3 itself tells the topic has no attribute to look at, and no type.
#[must_use]
pub fn subscriber_filter(workflow: &Workflow, subscriber: &Subscriber) -> (Value, Scope) {
    if let Some(Value::Object(condition)) = &subscriber.condition {
        return narrowed(subscriber, condition);
    }
    if !subscriber.on.is_empty() {
        let types: BTreeSet<&str> = subscriber.on.iter().map(EventType::as_str).collect();
        return (json!({TYPE: types}), Scope::Attributes);
    }
    let other = json!({TYPE: [{"anything-but": [EventType::probe().as_str()]}]});
    match notifications_wanted(workflow) {
        Some(_) => (json!({"$or": [{TYPE: [{"exists": false}]}, other]}), Scope::Body),
        None => (other, Scope::Attributes),
    }
}

/// The filter policy of a subscriber with a `where`. What looks at attributes alone costs
/// nothing, so that it is one wherever all of it means the same there.
fn narrowed(subscriber: &Subscriber, condition: &Map<String, Value>) -> (Value, Scope) {
    let types: BTreeSet<&str> = subscriber.on.iter().map(EventType::as_str).collect();
    let types = match types.is_empty() {
        true => json!([{"anything-but": [EventType::probe().as_str()]}]),
        false => json!(types),
    };
    let is_attribute = |(key, values): (&String, &Value)| {
        PUSHED.contains(&key.as_str())
            && values.as_array().is_some_and(|all| all.iter().all(means_the_same))
    };
    let scope = match condition.iter().all(is_attribute) {
        true => Scope::Attributes,
        false => Scope::Body,
    };
    let mut policy = condition.clone();
    policy.insert(TYPE.to_owned(), types);
    (Value::Object(policy), scope)
}

fn wanted_by(trigger: &Trigger) -> Vec<Wanted> {
    // `where` judges a gather's members, but its marker must come through too.
    let pins = if trigger.gather.is_some() { BTreeMap::new() } else { pins_of(trigger) };
    // A run's completion carries the dataset of the event that started it, and
    // the stage of its trigger; its source is the run's own.
    let mut closing = BTreeMap::from([("stage", vec![json!(trigger.stage.as_str())])]);
    if let Some(dataset) = pins.get("dataset") {
        closing.insert("dataset", dataset.clone());
    }
    let closed_by = [StageVerb::Completed, StageVerb::Failed];
    let name = |event_type: &EventType| event_type.as_str().to_owned();
    vec![
        Wanted { types: trigger.on.iter().map(name).collect(), pins },
        Wanted {
            types: closed_by.map(|verb| name(&trigger.stage.event(verb))).into(),
            pins: closing,
        },
    ]
}

/// What a trigger's `where` says of the keys that can be pushed.
fn pins_of(trigger: &Trigger) -> BTreeMap<&'static str, Vec<Value>> {
    let pin = |key: &'static str| {
        let conditions = trigger.condition.as_ref()?.get(key)?.as_array()?;
        conditions.iter().all(means_the_same).then(|| (key, conditions.clone()))
    };
    PUSHED.into_iter().filter_map(pin).collect()
}

fn means_the_same(condition: &Value) -> bool {
    match condition {
        Value::String(_) => true,
        Value::Object(operators) => operators.iter().all(|(operator, operand)| {
            TEXT_OPERATORS.contains(&operator.as_str()) && is_text_only(operand)
        }),
        _ => false,
    }
}

fn is_text_only(operand: &Value) -> bool {
    match operand {
        Value::String(_) => true,
        Value::Array(items) => items.iter().all(is_text_only),
        Value::Object(operators) => operators.values().all(is_text_only),
        _ => false,
    }
}

/// All conditions on a key, where everything wanted pins it.
fn union_of_pins(wanted: &[Wanted], key: &str) -> Option<Vec<Value>> {
    let mut union = Vec::new();
    for one in wanted {
        for condition in one.pins.get(key)? {
            if !union.contains(condition) {
                union.push(condition.clone());
            }
        }
    }
    (!union.is_empty()).then_some(union)
}

fn is_within_limits(policy: &Value, scope: Scope) -> bool {
    match FilterPolicy::parse(policy, scope) {
        Ok(policy) => policy.check_limits().is_empty(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use bellwire_schema::Stage;
    use bellwire_schema::filter::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{trigger, workflow};

    fn any_text() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "wine",
            "Wine",
            "beer",
            "wine-red",
            "training",
            "evaluation",
            "x",
        ])
        .prop_map(str::to_owned)
    }

    fn any_condition() -> impl Strategy<Value = Value> {
        prop_oneof![
            any_text().prop_map(Value::from),
            any_text().prop_map(|text| json!({"prefix": text})),
            any_text().prop_map(|text| json!({"suffix": text})),
            any_text().prop_map(|text| json!({"equals-ignore-case": text})),
            any_text().prop_map(|text| json!({"anything-but": [text]})),
            any_text().prop_map(|text| json!({"anything-but": {"prefix": text}})),
            any_text().prop_map(|text| json!({"wildcard": format!("*{text}*")})),
            any::<bool>().prop_map(|exists| json!({"exists": exists})),
            (0..9_u32).prop_map(|number| json!({"numeric": [">", number]})),
            Just(Value::Null),
        ]
    }

    fn any_where() -> impl Strategy<Value = Option<Value>> {
        let key = prop::sample::select(vec!["dataset", "stage", "source", "hop", "subject"]);
        let leaves =
            prop::collection::btree_map(key, prop::collection::vec(any_condition(), 1..3), 0..4);
        (leaves, any::<bool>()).prop_map(|(leaves, with_or)| {
            let mut policy = json!(leaves);
            if with_or {
                policy["$or"] = json!([{"dataset": ["wine"]}, {"subject": ["x"]}]);
            }
            policy.as_object().is_some_and(|keys| !keys.is_empty()).then_some(policy)
        })
    }

    fn any_type() -> impl Strategy<Value = EventType> {
        prop::sample::select(EventType::known())
    }

    fn any_trigger() -> impl Strategy<Value = Trigger> {
        let stage = prop::sample::select(Stage::ALL.to_vec());
        (stage, prop::collection::vec(any_type(), 1..3), any_where()).prop_map(
            |(stage, on, condition)| Trigger { stage, on, condition, ..trigger("t", "t.asl.json") },
        )
    }

    /// An event as the handler reads it and as SNS sees it: of the same texts.
    fn any_event() -> impl Strategy<Value = (Value, BTreeMap<String, AttributeValue>)> {
        let optional = || prop::option::of(any_text());
        (any_type(), optional(), optional(), any_text(), 0..9_u32).prop_map(
            |(event_type, dataset, stage, source, hop)| {
                let texts = [
                    ("type", Some(event_type.as_str().to_owned())),
                    ("dataset", dataset),
                    ("stage", stage),
                    ("source", Some(source)),
                ];
                let mut body = json!({"id": "1", "hop": hop});
                let mut attributes =
                    BTreeMap::from([("hop".to_owned(), AttributeValue::Number(hop.to_string()))]);
                for (key, text) in texts {
                    let Some(text) = text else { continue };
                    body[key] = json!(text);
                    attributes.insert(key.to_owned(), AttributeValue::String(text));
                }
                (body, attributes)
            },
        )
    }

    fn parsed(policy: &Value, scope: Scope) -> FilterPolicy {
        FilterPolicy::parse(policy, scope)
            .unwrap_or_else(|problems| panic!("{policy}: {problems:?}"))
    }

    proptest! {
        #[test]
        fn the_filter_is_never_narrower_than_the_triggers(
            triggers in prop::collection::vec(any_trigger(), 1..5),
            (body, attributes) in any_event(),
        ) {
            let wants = |trigger: &Trigger| {
                trigger.on.iter().any(|on| body["type"] == on.as_str())
                    && trigger.condition.as_ref().is_none_or(|condition| {
                        parsed(condition, Scope::Body).matches_body(&body)
                    })
            };
            let is_wanted = triggers.iter().any(wants);
            let workflow = Workflow { triggers, ..workflow() };
            let (policy, scope) = handler_filter(&workflow);
            let passes = parsed(&policy, scope).matches_attributes(&attributes);
            prop_assert!(passes || !is_wanted, "{policy} holds back {body}");
            let (policy, scope) = handler_filter(&straight(workflow));
            let passes = parsed(&policy, scope).matches_body(&body);
            prop_assert!(passes || !is_wanted, "{policy} holds back {body}");
        }

        #[test]
        fn a_run_s_completion_passes_whatever_started_it(
            triggers in prop::collection::vec(any_trigger(), 1..5),
            (cause, _) in any_event(),
        ) {
            let starts = |trigger: &&Trigger| {
                trigger.on.iter().any(|on| cause["type"] == on.as_str())
                    && trigger.condition.as_ref().is_none_or(|condition| {
                        parsed(condition, Scope::Body).matches_body(&cause)
                    })
            };
            let Some(started) = triggers.iter().find(starts).cloned() else {
                return Ok(());
            };
            let (policy, scope) = handler_filter(&Workflow { triggers, ..workflow() });
            let policy = parsed(&policy, scope);
            for verb in [StageVerb::Completed, StageVerb::Failed] {
                let mut texts = vec![
                    ("type", started.stage.event(verb).as_str().to_owned()),
                    ("stage", started.stage.as_str().to_owned()),
                    ("source", "arn:aws:states:::".to_owned()),
                ];
                if let Some(dataset) = cause["dataset"].as_str() {
                    texts.push(("dataset", dataset.to_owned()));
                }
                let attributes = texts
                    .into_iter()
                    .map(|(key, text)| (key.to_owned(), AttributeValue::String(text)))
                    .collect();
                prop_assert!(policy.matches_attributes(&attributes), "{}", policy.to_json());
            }
        }
    }

    fn probe() -> (Value, BTreeMap<String, AttributeValue>) {
        let texts = [("type", "ml.bellwire.probe.v1"), ("source", "/bellwire/prove")];
        let text =
            |(key, value): (&str, &str)| (key.to_owned(), AttributeValue::String(value.to_owned()));
        (json!({"type": texts[0].1, "source": texts[1].1}), texts.map(text).into())
    }

    proptest! {
        #[test]
        fn a_probe_passes_whatever_triggers_want(
            triggers in prop::collection::vec(any_trigger(), 1..5),
        ) {
            let (body, attributes) = probe();
            let workflow = Workflow { triggers, ..workflow() };
            let (policy, scope) = handler_filter(&workflow);
            prop_assert!(parsed(&policy, scope).matches_attributes(&attributes), "{policy}");
            let (policy, scope) = handler_filter(&straight(workflow));
            prop_assert!(parsed(&policy, scope).matches_body(&body), "{policy}");
        }
    }

    #[test]
    fn a_probe_is_all_that_a_subscriber_of_everything_does_not_hear() {
        let subscriber = |on: &[&str]| Subscriber {
            name: "all".to_owned(),
            protocol: bellwire_schema::workflow::Protocol::Email,
            endpoint: "a@example.com".to_owned(),
            on: on.iter().map(|name| name.parse().unwrap()).collect(),
            create: false,
            raw: false,
            condition: None,
        };
        let (body, attributes) = probe();
        let straight = straight(workflow());
        for on in [&[][..], &["training.failed"]] {
            let (policy, scope) = subscriber_filter(&workflow(), &subscriber(on));
            let policy = parsed(&policy, scope);
            assert!(!policy.matches_attributes(&attributes), "{}", policy.to_json());
        }
        let (policy, scope) = subscriber_filter(&workflow(), &subscriber(&[]));
        let text = AttributeValue::String("ml.data.arrived.v1".to_owned());
        let arrived = BTreeMap::from([("type".to_owned(), text)]);
        assert!(parsed(&policy, scope).matches_attributes(&arrived));
        let (policy, scope) = subscriber_filter(&straight, &subscriber(&[]));
        let policy = parsed(&policy, scope);
        assert!(policy.check_limits().is_empty());
        assert!(!policy.matches_body(&body), "{}", policy.to_json());
        assert!(policy.matches_body(&json!({"type": "ml.data.arrived.v1"})));
        let notification = json!({"Records": [{"eventSource": "aws:s3"}]});
        assert!(policy.matches_body(&notification), "as S3 itself tells it");
    }

    /// The same, but that S3 tells the topic itself.
    fn straight(mut workflow: Workflow) -> Workflow {
        for source in &mut workflow.sources {
            if let SourceKind::S3(s3) = &mut source.kind {
                s3.via = Via::Topic;
            }
        }
        workflow
    }

    #[test]
    fn what_s3_itself_tells_passes_by_its_bucket() {
        let (policy, scope) = handler_filter(&straight(workflow()));
        assert_eq!(scope, Scope::Body);
        let policy = parsed(&policy, scope);
        assert!(policy.check_limits().is_empty());
        let of_bucket = |bucket: &str| {
            json!({"Records": [{"eventSource": "aws:s3", "s3": {
                "bucket": {"name": bucket}, "object": {"key": "raw/_SUCCESS"},
            }}]})
        };
        assert!(policy.matches_body(&of_bucket("wine-lake")));
        assert!(!policy.matches_body(&of_bucket("another")));
        assert!(!policy.matches_body(&json!({"Event": "s3:TestEvent", "Bucket": "wine-lake"})));
        assert!(policy.matches_body(&json!({"type": "ml.data.arrived.v1"})));
        assert!(!policy.matches_body(&json!({"type": "ml.data.removed.v1"})));
    }

    #[test]
    fn a_dataset_is_pushed_only_where_every_trigger_pins_it() {
        let pinned = |dataset: &str| Trigger {
            condition: Some(json!({"dataset": [dataset]})),
            ..trigger("t", "t.asl.json")
        };
        let open = trigger("t", "t.asl.json");
        let filter_of = |triggers| handler_filter(&Workflow { triggers, ..workflow() }).0;
        let both = filter_of(vec![pinned("a"), pinned("b")]);
        assert_eq!(both["$or"][0]["dataset"], json!(["a", "b"]));
        assert_eq!(both["$or"][1], json!({"type": ["ml.bellwire.probe.v1"]}));
        let one = filter_of(vec![pinned("a"), open]);
        assert_eq!((&one["$or"], &one["dataset"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn what_no_trigger_wants_is_held_back() {
        let policy = parsed(&handler_filter(&workflow()).0, Scope::Attributes);
        let of_type = |event_type: &str| {
            let text = AttributeValue::String(event_type.to_owned());
            policy.matches_attributes(&BTreeMap::from([("type".to_owned(), text)]))
        };
        assert!(of_type("ml.data.arrived.v1"));
        assert!(of_type("ml.training.failed.v1"));
        assert!(!of_type("ml.training.started.v1"));
        assert!(!of_type("ml.data.removed.v1"));
    }
}
