//! The evaluator, of which matching and explaining are two uses.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::attribute::AttributeValue;
use super::condition::Test;
use super::policy::{FilterPolicy, Leaf, Step};

/// Values that an explanation shows of one condition's path, so that a long array does not make a
/// long explanation.
pub const FOUND_VALUES_MAX: usize = 10;

/// Why a policy matched or did not.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What [`FilterPolicy::matches_attributes`] or [`FilterPolicy::matches_body`] says.
    pub matched: bool,
    /// Each condition, in the policy's order.
    pub conditions: Vec<ConditionOutcome>,
}

/// One condition and how it fared by itself. Where several elements of an array are looked into,
/// `held` says that one of them met it; the policy matches only if one element meets all that is
/// asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionOutcome {
    /// The key, with those above it, joined by dots.
    pub path: String,
    /// The condition as written.
    pub condition: Value,
    /// The values found there, each once and at most [`FOUND_VALUES_MAX`]; empty if there is none.
    pub found: Vec<Value>,
    /// Whether it held.
    pub held: bool,
}

impl FilterPolicy {
    /// Whether a message with these attributes passes.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use bellwire_schema::filter::{AttributeValue, FilterPolicy, Scope};
    /// use serde_json::json;
    ///
    /// let policy = FilterPolicy::parse(
    ///     &json!({"stage": ["training"], "hop": [{"numeric": ["<", 5]}]}),
    ///     Scope::Attributes,
    /// ).expect("a valid policy");
    /// let attributes = BTreeMap::from([
    ///     ("stage".to_owned(), AttributeValue::String("training".to_owned())),
    ///     ("hop".to_owned(), AttributeValue::Number("1".to_owned())),
    /// ]);
    /// assert!(policy.matches_attributes(&attributes));
    /// ```
    #[must_use]
    pub fn matches_attributes(&self, attributes: &BTreeMap<String, AttributeValue>) -> bool {
        self.matches_body(&object_of(attributes))
    }

    /// Whether a message with this body passes; a body that is no object passes only an empty
    /// policy.
    ///
    /// ```
    /// use bellwire_schema::filter::{FilterPolicy, Scope};
    /// use serde_json::json;
    ///
    /// let policy = FilterPolicy::parse(
    ///     &json!({"Records": {
    ///         "eventName": [{"prefix": "ObjectCreated:"}],
    ///         "s3": {"object": {"key": [{"suffix": ".csv"}]}},
    ///     }}),
    ///     Scope::Body,
    /// ).expect("a valid policy");
    /// let created = |key: &str| json!({"eventName": "ObjectCreated:Put", "s3": {"object": {"key": key}}});
    /// let removed = |key: &str| json!({"eventName": "ObjectRemoved:Delete", "s3": {"object": {"key": key}}});
    /// let one = json!({"Records": [created("a.csv"), removed("b.txt")]});
    /// let neither = json!({"Records": [created("a.txt"), removed("b.csv")]});
    /// assert!(policy.matches_body(&one));
    /// assert!(!policy.matches_body(&neither));
    /// ```
    #[must_use]
    pub fn matches_body(&self, body: &Value) -> bool {
        Evaluation::new(self, body, None).run()
    }

    /// What [`matches_attributes`](Self::matches_attributes) says, and why.
    #[must_use]
    pub fn explain_attributes(&self, attributes: &BTreeMap<String, AttributeValue>) -> Explanation {
        self.explain_body(&object_of(attributes))
    }

    /// What [`matches_body`](Self::matches_body) says, and why.
    ///
    /// ```
    /// use bellwire_schema::filter::{FilterPolicy, Scope};
    /// use serde_json::json;
    ///
    /// let policy = FilterPolicy::parse(&json!({"dataset": ["wine", {"prefix": "beer"}]}), Scope::Body)
    ///     .expect("a valid policy");
    /// let explanation = policy.explain_body(&json!({"dataset": "beer-2024"}));
    /// assert!(explanation.matched);
    /// assert!(!explanation.conditions[0].held);
    /// assert!(explanation.conditions[1].held);
    /// assert_eq!(explanation.conditions[1].found, [json!("beer-2024")]);
    /// ```
    #[must_use]
    pub fn explain_body(&self, body: &Value) -> Explanation {
        let mut evaluation = Evaluation::new(self, body, Some(Trace::new(self)));
        let matched = evaluation.run();
        let conditions = evaluation.trace.map(|trace| trace.outcomes.concat()).unwrap_or_default();
        Explanation { matched, conditions }
    }
}

/// Attributes as the flat object that they are.
fn object_of(attributes: &BTreeMap<String, AttributeValue>) -> Value {
    let object: Map<String, Value> = attributes
        .iter()
        .filter_map(|(name, attribute)| Some((name.clone(), attribute.to_value()?)))
        .collect();
    Value::Object(object)
}

/// A place in the message: a value, below what is left of a key with dots.
#[derive(Clone, Copy)]
struct View<'a> {
    pending: Option<&'a str>,
    value: &'a Value,
}

struct Evaluation<'a> {
    policy: &'a FilterPolicy,
    body: &'a Value,
    /// Whether `exists: false` holds for a leaf, once that was asked: the answer is the same in every
    /// element of an array, and finding it walks the whole message.
    absent: Vec<Option<bool>>,
    /// With it nothing is cut short, so that every condition gets its outcome.
    trace: Option<Trace>,
}

impl<'a> Evaluation<'a> {
    fn new(policy: &'a FilterPolicy, body: &'a Value, trace: Option<Trace>) -> Self {
        Self { policy, body, absent: vec![None; policy.leaves.len()], trace }
    }

    fn run(&mut self) -> bool {
        if self.policy.is_empty() {
            return true;
        }
        // "The message payload is a well-formed JSON object" (Amazon SNS Developer Guide, "Message
        // filtering").
        if !self.body.is_object() {
            return false;
        }
        let policy = self.policy;
        let top = [View { pending: None, value: self.body }];
        self.any(&policy.branches, |evaluation, branch| evaluation.steps(branch, &top))
    }

    fn any<T>(&mut self, items: &[T], mut holds: impl FnMut(&mut Self, &T) -> bool) -> bool {
        let mut any = false;
        for item in items {
            any |= holds(self, item);
            if any && self.trace.is_none() {
                break;
            }
        }
        any
    }

    /// Whether every step holds of these places, which together are one object.
    fn steps(&mut self, steps: &[Step], views: &[View<'_>]) -> bool {
        let mut all = true;
        for step in steps {
            let below = descend(views, &step.segment);
            for leaf in &step.leaves {
                all &= self.leaf(*leaf, &below);
            }
            if all || self.trace.is_some() {
                all &= self.children(&step.children, &below);
            }
            if !all && self.trace.is_none() {
                break;
            }
        }
        all
    }

    /// Whether every child step holds, in one and the same element wherever there is an array.
    fn children(&mut self, children: &[Step], views: &[View<'_>]) -> bool {
        if children.is_empty() {
            return true;
        }
        let mut objects = Vec::new();
        let mut elements = Vec::new();
        for view in views {
            match (view.pending, view.value) {
                (None, Value::Array(array)) => elements.extend(array),
                _ => objects.push(*view),
            }
        }
        // Each array by itself: the work stays in proportion to the message even if it spells a
        // path in many ways.
        let in_element = self.any(&elements, |evaluation, element| {
            evaluation.children(children, &[View { pending: None, value: element }])
        });
        if in_element && self.trace.is_none() {
            return true;
        }
        // Asked even if there is nothing to look into: absence may be what the steps want.
        let in_objects = self.steps(children, &objects);
        in_element || in_objects
    }

    fn leaf(&mut self, index: usize, views: &[View<'_>]) -> bool {
        let policy = self.policy;
        let leaf = &policy.leaves[index];
        let values = scalars(views);
        let mut any = false;
        for (position, condition) in leaf.conditions.iter().enumerate() {
            let held = match condition.test {
                Test::Exists(false) => self.is_absent(index, leaf),
                _ => values.iter().any(|value| condition.test.holds(value)),
            };
            any |= held;
            match &mut self.trace {
                Some(trace) => trace.record(index, position, &values, held),
                None if any => break,
                None => {}
            }
        }
        any
    }

    /// `exists: false` asks about the whole message, not about one element of an array, and an
    /// empty message has nothing that it could hold for: "only matches if at least one attribute is
    /// present".
    fn is_absent(&mut self, index: usize, leaf: &Leaf) -> bool {
        let body = self.body;
        *self.absent[index]
            .get_or_insert_with(|| !is_present(body, &leaf.segments) && has_scalar(body))
    }
}

struct Trace {
    /// By leaf, then by condition.
    outcomes: Vec<Vec<ConditionOutcome>>,
}

impl Trace {
    fn new(policy: &FilterPolicy) -> Self {
        let outcome = |leaf: &Leaf, condition: &Value| ConditionOutcome {
            path: leaf.path.clone(),
            condition: condition.clone(),
            found: Vec::new(),
            held: false,
        };
        let outcomes = policy.leaves.iter().map(|leaf| {
            leaf.conditions.iter().map(|condition| outcome(leaf, &condition.json)).collect()
        });
        Self { outcomes: outcomes.collect() }
    }

    /// A leaf is met once for each branch and each array element that leads to it; this adds up.
    fn record(&mut self, leaf: usize, condition: usize, values: &[&Value], held: bool) {
        let outcome = &mut self.outcomes[leaf][condition];
        outcome.held |= held;
        for value in values {
            if outcome.found.len() < FOUND_VALUES_MAX && !outcome.found.contains(*value) {
                outcome.found.push((*value).clone());
            }
        }
    }
}

/// The places one segment below these; a key with dots is as many steps as it has segments.
fn descend<'a>(views: &[View<'a>], segment: &str) -> Vec<View<'a>> {
    let mut below = Vec::new();
    for view in views {
        match (view.pending, view.value) {
            (Some(key), value) => below.extend(enter(key, value, segment)),
            (None, Value::Object(object)) => {
                below.extend(object.iter().filter_map(|(key, value)| enter(key, value, segment)));
            }
            _ => {}
        }
    }
    below
}

fn enter<'a>(key: &'a str, value: &'a Value, segment: &str) -> Option<View<'a>> {
    match key.strip_prefix(segment)? {
        "" => Some(View { pending: None, value }),
        rest => rest.strip_prefix('.').map(|rest| View { pending: Some(rest), value }),
    }
}

/// The values at these places: those themselves and the elements of arrays, however deep; no
/// objects.
fn scalars<'a>(views: &[View<'a>]) -> Vec<&'a Value> {
    let whole = views.iter().filter(|view| view.pending.is_none()).map(|view| view.value);
    let flat = whole.flat_map(elements_of);
    flat.filter(|value| !value.is_object()).collect()
}

/// A value, or in place of an array its elements, however deep.
fn elements_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(array) => array.iter().flat_map(elements_of).collect(),
        other => vec![other],
    }
}

fn is_present(body: &Value, segments: &[String]) -> bool {
    let mut views = vec![View { pending: None, value: body }];
    for segment in segments {
        views = descend(&views, segment).into_iter().flat_map(without_array).collect();
    }
    !scalars(&views).is_empty()
}

fn without_array(view: View<'_>) -> Vec<View<'_>> {
    match view.pending {
        Some(_) => vec![view],
        None => {
            elements_of(view.value).into_iter().map(|value| View { pending: None, value }).collect()
        }
    }
}

fn has_scalar(value: &Value) -> bool {
    match value {
        Value::Array(array) => array.iter().any(has_scalar),
        Value::Object(object) => object.values().any(has_scalar),
        _ => true,
    }
}
