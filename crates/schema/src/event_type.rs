//! Event types: `ml.<noun>.<verb>.v<N>`, and the stages they tell of.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stage of a machine-learning workflow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Data is collected.
    Collection,
    /// A model is trained.
    Training,
    /// A model is scored.
    Evaluation,
    /// A model makes batch predictions.
    Prediction,
}

impl Stage {
    /// The four stages, in the order of a workflow.
    pub const ALL: [Self; 4] =
        [Self::Collection, Self::Training, Self::Evaluation, Self::Prediction];

    /// Its name, as it stands in event types.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::Training => "training",
            Self::Evaluation => "evaluation",
            Self::Prediction => "prediction",
        }
    }

    /// The type of this stage's event of one kind.
    ///
    /// ```
    /// use bellwire_schema::{Stage, StageVerb};
    /// assert_eq!(Stage::Training.event(StageVerb::Completed).as_str(), "ml.training.completed.v1");
    /// ```
    #[must_use]
    pub fn event(self, verb: StageVerb) -> EventType {
        EventType(format!("ml.{}.{}.v1", self.as_str(), verb.as_str()))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == name)
            .ok_or_else(|| UnknownStage { name: name.to_owned() })
    }
}

/// A name that is none of the four stages'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown stage `{name}`: known are collection, training, evaluation, prediction")]
pub struct UnknownStage {
    /// What stood there.
    pub name: String,
}

/// What happened in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageVerb {
    /// Somebody asks for a run.
    Requested,
    /// A run was started.
    Started,
    /// A run ended well.
    Completed,
    /// A run failed, timed out or was aborted.
    Failed,
}

impl StageVerb {
    /// All four, in the order in which they happen.
    pub const ALL: [Self; 4] = [Self::Requested, Self::Started, Self::Completed, Self::Failed];

    /// Its name, as it stands in event types.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// The type of an event: `ml.<noun>.<verb>.v<N>`.
///
/// The short form, without `ml.` and with version 1 understood, serves in the
/// workflow file:
///
/// ```
/// use bellwire_schema::EventType;
/// let arrived: EventType = "data.arrived".parse().unwrap();
/// assert_eq!(arrived.as_str(), "ml.data.arrived.v1");
/// assert_eq!(arrived.short(), "data.arrived");
/// assert!("data".parse::<EventType>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

impl EventType {
    /// An object has arrived.
    #[must_use]
    pub fn data_arrived() -> Self {
        Self("ml.data.arrived.v1".to_owned())
    }

    /// An object was removed.
    #[must_use]
    pub fn data_removed() -> Self {
        Self("ml.data.removed.v1".to_owned())
    }

    /// What a deploy sends to see whether an event gets through: the handler writes it
    /// into the ledger, no trigger starts on it and no subscriber hears of it.
    #[must_use]
    pub fn probe() -> Self {
        Self("ml.bellwire.probe.v1".to_owned())
    }

    /// Whether it is one of Bellwire's own affairs, `ml.bellwire.…`, which no workflow
    /// file may name.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("ml.bellwire.")
    }

    /// Every type that Bellwire itself defines, and that a workflow file may name.
    #[must_use]
    pub fn known() -> Vec<Self> {
        let stages =
            Stage::ALL.into_iter().flat_map(|stage| StageVerb::ALL.map(|verb| stage.event(verb)));
        [Self::data_arrived(), Self::data_removed()].into_iter().chain(stages).collect()
    }

    /// The full form, `ml.data.arrived.v1`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that people read and write: without `ml.`, and without `.v1`.
    #[must_use]
    pub fn short(&self) -> &str {
        let short = self.0.strip_prefix("ml.").unwrap_or(&self.0);
        short.strip_suffix(".v1").unwrap_or(short)
    }

    /// The stage and verb, where this is an event of a stage, in any version.
    #[must_use]
    pub fn stage_and_verb(&self) -> Option<(Stage, StageVerb)> {
        let mut parts = self.0.split('.').skip(1);
        let stage = parts.next()?.parse().ok()?;
        let verb = parts.next()?;
        let verb = StageVerb::ALL.into_iter().find(|known| known.as_str() == verb)?;
        Some((stage, verb))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<EventType> for String {
    fn from(event_type: EventType) -> Self {
        event_type.0
    }
}

impl TryFrom<String> for EventType {
    type Error = InvalidEventType;

    fn try_from(text: String) -> Result<Self, InvalidEventType> {
        text.parse()
    }
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, InvalidEventType> {
        let invalid = || InvalidEventType { text: text.to_owned() };
        let parts: Vec<&str> = text.strip_prefix("ml.").unwrap_or(text).split('.').collect();
        let (noun, verb, version) = match parts[..] {
            [noun, verb] if !text.starts_with("ml.") => (noun, verb, "v1"),
            [noun, verb, version] => (noun, verb, version),
            _ => return Err(invalid()),
        };
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let is_version = version.strip_prefix('v').is_some_and(|number| {
            !number.is_empty()
                && !number.starts_with('0')
                && number.chars().all(|c| c.is_ascii_digit())
        });
        if is_word(noun) && is_word(verb) && is_version {
            Ok(Self(format!("ml.{noun}.{verb}.{version}")))
        } else {
            Err(invalid())
        }
    }
}

/// A text that is no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no event type: it takes `<noun>.<verb>` or `ml.<noun>.<verb>.v<N>`, lower case"
)]
pub struct InvalidEventType {
    /// What stood there.
    pub text: String,
}

impl JsonSchema for EventType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventType".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^ml\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.v[1-9][0-9]*$",
        })
    }
}
