//! The event envelope: CloudEvents 1.0 in JSON, as any CloudEvents SDK reads it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::context::{EventContext, is_traceparent};
use crate::event_type::{EventType, Stage};

/// The version of CloudEvents that every envelope is of.
pub const SPEC_VERSION: &str = "1.0";

/// One event: CloudEvents 1.0 with Bellwire's extension attributes.
///
/// ```
/// use bellwire_schema::{Envelope, EventType};
/// let mut event = Envelope::new("1", "/wine-app", "collection.requested".parse()?);
/// event.dataset = Some("wine".into());
/// let read = Envelope::from_json(event.to_json().as_bytes())?;
/// assert_eq!(read, event);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(transform = with_spec_version)]
pub struct Envelope {
    /// Unique within `source`; a pure function of the cause.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Where the event comes from, as a URI reference: a bucket's, state
    /// machine's or rule's ARN, or the client's own.
    #[schemars(length(min = 1))]
    pub source: String,
    /// What happened.
    #[schemars(rename = "type")]
    pub event_type: EventType,
    /// What it happened to, within `source`: an object's key, a run's ARN.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The media type of `data`; JSON where absent.
    pub datacontenttype: Option<String>,
    /// The schema of `data`, as a URI.
    pub dataschema: Option<String>,
    /// The stage that this is an event of.
    pub stage: Option<Stage>,
    /// The dataset that this is about.
    pub dataset: Option<String>,
    /// Events of one key are kept in order, where anything keeps order.
    pub partitionkey: Option<String>,
    /// Orders the events of one source and subject.
    pub sequence: Option<String>,
    /// Where the payload is, if it is too large to travel: a URI.
    pub dataref: Option<String>,
    /// Trace, correlation, cause and hop.
    #[schemars(flatten)]
    pub context: EventContext,
    /// The payload; its shape is that of the type.
    pub data: Option<Value>,
    /// Every other attribute, kept as it came.
    #[schemars(skip)]
    pub extensions: BTreeMap<String, Value>,
}

/// `specversion` is no field, since it has one value; the schema must still ask for it.
fn with_spec_version(schema: &mut Schema) {
    let object = schema.ensure_object();
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("specversion".to_owned(), serde_json::json!({ "const": SPEC_VERSION }));
    }
    if let Some(required) = object.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != "hop");
        required.push("specversion".into());
    }
}

impl Envelope {
    /// An event with nothing but what CloudEvents asks for.
    #[must_use]
    pub fn new(id: &str, source: &str, event_type: EventType) -> Self {
        Self {
            id: id.to_owned(),
            source: source.to_owned(),
            stage: event_type.stage_and_verb().map(|(stage, _)| stage),
            event_type,
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            dataset: None,
            partitionkey: None,
            sequence: None,
            dataref: None,
            context: EventContext::default(),
            data: None,
            extensions: BTreeMap::new(),
        }
    }

    /// The same event with a payload.
    ///
    /// # Panics
    ///
    /// Where the payload cannot be written as JSON, which no payload of this crate does.
    #[must_use]
    pub fn with_payload(mut self, payload: &impl Serialize) -> Self {
        self.data = Some(serde_json::to_value(payload).expect("payloads are plain JSON"));
        self.datacontenttype = Some("application/json".to_owned());
        self
    }

    /// Reads CloudEvents' structured mode.
    ///
    /// # Errors
    ///
    /// Where the bytes are no JSON object, or with every attribute that is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let value = serde_json::from_slice(bytes)
            .map_err(|error| EnvelopeError::NotJson { problem: error.to_string() })?;
        Self::from_value(value)
    }

    /// Reads an envelope that is already parsed as JSON.
    ///
    /// # Errors
    ///
    /// Where the value is no object, or with every attribute that is wrong.
    pub fn from_value(value: Value) -> Result<Self, EnvelopeError> {
        let Value::Object(object) = value else {
            return Err(EnvelopeError::NotAnObject);
        };
        let mut attributes = Attributes { object, problems: Vec::new() };
        let envelope = attributes.envelope();
        match envelope {
            Some(envelope) if attributes.problems.is_empty() => Ok(envelope),
            _ => Err(EnvelopeError::Attributes { problems: attributes.problems }),
        }
    }

    /// CloudEvents' structured mode, on one line. The two characters that SNS
    /// and SQS do not carry, U+FFFE and U+FFFF, are written as JSON escapes, so
    /// that an object's key which has one reaches the subscribers. Source: Amazon
    /// SQS API reference, `SendMessage`.
    ///
    /// # Panics
    ///
    /// Never: every part of an envelope is plain JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("an envelope is plain JSON");
        // Both begin with this byte, which is found at the speed of memory.
        let may_have = json.as_bytes().contains(&0xEF);
        match may_have && json.contains(['\u{FFFE}', '\u{FFFF}']) {
            true => json.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff"),
            false => json,
        }
    }

    /// The envelope as a JSON value: what filters and JSONPath look at.
    ///
    /// # Panics
    ///
    /// Never: every part of an envelope is plain JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("an envelope is plain JSON")
    }

    /// The workflow instance that this event belongs to: its correlation id, or
    /// its own id where it begins one.
    #[must_use]
    pub fn correlation(&self) -> &str {
        self.context.correlationid.as_deref().unwrap_or(&self.id)
    }
}

/// Takes attributes out of a JSON object, one after the other, and notes what is wrong.
struct Attributes {
    object: Map<String, Value>,
    problems: Vec<AttributeProblem>,
}

impl Attributes {
    fn envelope(&mut self) -> Option<Envelope> {
        match self.required("specversion") {
            Some(version) if version != SPEC_VERSION => {
                self.problem(
                    "specversion",
                    &format!("is `{version}`; only `{SPEC_VERSION}` is read"),
                );
            }
            _ => {}
        }
        let id = self.required("id");
        let source = self.required("source");
        let event_type = self.required("type");
        let event_type: Option<EventType> =
            event_type.and_then(|text| self.parsed("type", Some(text)));
        let subject = self.text("subject");
        let time = self.text("time");
        let time = self.parsed("time", time);
        let stage = self.text("stage");
        let stage = self.parsed("stage", stage);
        let data = self.data();
        let rest = (self.text("datacontenttype"), self.text("dataschema"), self.text("dataset"));
        let (datacontenttype, dataschema, dataset) = rest;
        let (partitionkey, sequence) = (self.text("partitionkey"), self.text("sequence"));
        let dataref = self.text("dataref");
        let context = self.context();
        let extensions = self.extensions();
        Some(Envelope {
            id: id?,
            source: source?,
            event_type: event_type?,
            subject,
            time,
            datacontenttype,
            dataschema,
            stage,
            dataset,
            partitionkey,
            sequence,
            dataref,
            context,
            data,
            extensions,
        })
    }

    fn context(&mut self) -> EventContext {
        let traceparent = self.text("traceparent");
        if let Some(text) = traceparent.as_deref().filter(|text| !is_traceparent(text)) {
            let problem = format!("`{text}` is no W3C trace context");
            self.problem("traceparent", &problem);
        }
        EventContext {
            traceparent,
            tracestate: self.text("tracestate"),
            correlationid: self.text("correlationid"),
            causationid: self.text("causationid"),
            hop: self.hop(),
        }
    }

    /// CloudEvents' integers may arrive as text, where a transport knows only text.
    fn hop(&mut self) -> u32 {
        let hop = match self.object.remove("hop") {
            None | Some(Value::Null) => return 0,
            Some(Value::Number(number)) => number.as_u64().and_then(|hop| u32::try_from(hop).ok()),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        hop.unwrap_or_else(|| {
            self.problem("hop", "is no whole number from 0 to 4294967295");
            0
        })
    }

    fn data(&mut self) -> Option<Value> {
        let data = self.object.remove("data").filter(|data| !data.is_null());
        if data.is_some() && self.object.contains_key("data_base64") {
            self.problem("data_base64", "stands beside `data`; CloudEvents allows one of them");
        }
        data
    }

    fn extensions(&mut self) -> BTreeMap<String, Value> {
        let extensions: BTreeMap<_, _> = std::mem::take(&mut self.object)
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect();
        for name in extensions.keys().filter(|name| *name != "data_base64") {
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
                self.problem(
                    name,
                    "is no CloudEvents attribute name: lower-case letters and digits only",
                );
            }
        }
        for (name, value) in &extensions {
            if value.is_object() || value.is_array() {
                self.problem(
                    name,
                    "is an object or a list; an attribute is text, a number or a truth value",
                );
            }
        }
        extensions
    }

    /// An attribute that must be there, as text that is not empty.
    fn required(&mut self, name: &'static str) -> Option<String> {
        match self.object.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            None | Some(Value::Null) => self.refused(name, "is missing"),
            Some(Value::String(_)) => self.refused(name, "is empty"),
            Some(_) => self.refused(name, "is no text"),
        }
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        match self.object.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            Some(Value::String(_)) => self.refused(name, "is empty; leave it out instead"),
            Some(_) => self.refused(name, "is no text"),
        }
    }

    fn parsed<T>(&mut self, name: &'static str, text: Option<String>) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        match text?.parse() {
            Ok(value) => Some(value),
            Err(error) => self.refused(name, &error.to_string()),
        }
    }

    /// Notes a problem; the attribute then counts as absent.
    fn refused<T>(&mut self, attribute: &str, problem: &str) -> Option<T> {
        self.problem(attribute, problem);
        None
    }

    fn problem(&mut self, attribute: &str, problem: &str) {
        let (attribute, problem) = (attribute.to_owned(), problem.to_owned());
        self.problems.push(AttributeProblem { attribute, problem });
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPEC_VERSION)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("type", &self.event_type)?;
        let time = self.time.map(|time| time.to_string());
        let texts = [
            ("subject", &self.subject),
            ("time", &time),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
            ("dataset", &self.dataset),
            ("partitionkey", &self.partitionkey),
            ("sequence", &self.sequence),
            ("dataref", &self.dataref),
            ("traceparent", &self.context.traceparent),
            ("tracestate", &self.context.tracestate),
            ("correlationid", &self.context.correlationid),
            ("causationid", &self.context.causationid),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        if let Some(stage) = self.stage {
            map.serialize_entry("stage", &stage)?;
        }
        map.serialize_entry("hop", &self.context.hop)?;
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        if let Some(data) = &self.data {
            map.serialize_entry("data", data)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One attribute that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeProblem {
    /// The attribute's name.
    pub attribute: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for AttributeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.attribute, self.problem)
    }
}

/// Bytes that are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// They are no JSON.
    #[error("not JSON: {problem}")]
    NotJson {
        /// What the JSON parser says, with line and column.
        problem: String,
    },
    /// They are JSON, but no object.
    #[error("not a CloudEvent: a JSON object is expected")]
    NotAnObject,
    /// Some attributes are missing or wrong.
    #[error("not a CloudEvent: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Attributes {
        /// All of them.
        problems: Vec<AttributeProblem>,
    },
}
