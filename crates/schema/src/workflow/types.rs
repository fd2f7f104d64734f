//! The event types that a workflow file may name.

use super::problem::{Fault, nearest};
use crate::event_type::{EventType, StageVerb};

/// Bellwire's own types, and those that the file declares.
pub(super) struct KnownTypes {
    pub(super) declared: Vec<EventType>,
    /// Whether a declaration could not be read: then every well-formed type may be one.
    pub(super) is_incomplete: bool,
}

impl KnownTypes {
    /// The type that a text names, in its short or its full form.
    pub(super) fn resolve(&self, text: &str) -> Result<EventType, Fault> {
        let unknown = || Fault::new("", self.remedy(text));
        let event_type: EventType = text.parse().map_err(|_| unknown())?;
        let is_known = (self.is_incomplete && !event_type.is_reserved())
            || self.declared.contains(&event_type)
            || is_own(&event_type);
        if is_known { Ok(event_type) } else { Err(unknown()) }
    }

    fn remedy(&self, text: &str) -> String {
        let known: Vec<EventType> =
            EventType::known().into_iter().chain(self.declared.iter().cloned()).collect();
        let declared: String =
            self.declared.iter().map(|known| format!(", {}", known.short())).collect();
        let verbs = StageVerb::ALL.map(StageVerb::as_str).join("|");
        let list = format!("known: data.arrived, data.removed, <stage>.{verbs}{declared}");
        match nearest(text, known.iter().map(EventType::short)) {
            Some(near) => format!("did you mean `{near}`? {list}"),
            None => format!("{list}; declare your own with [[event]]"),
        }
    }
}

/// Whether Bellwire itself defines this type.
pub(super) fn is_own(event_type: &EventType) -> bool {
    EventType::known().contains(event_type)
}

/// A type that the file declares: none of Bellwire's, in whatever version.
pub(super) fn declared(text: &str) -> Result<EventType, Fault> {
    let event_type: EventType = text.parse().map_err(|_| {
        Fault::new(
            "is no event type",
            "write `<noun>.<verb>` or `ml.<noun>.<verb>.v<N>`, in lower case",
        )
    })?;
    if event_type.is_reserved() {
        return Err(Fault::new("is reserved for Bellwire itself", "choose another noun"));
    }
    let noun_and_verb = |event_type: &EventType| {
        event_type
            .as_str()
            .rsplit_once('.')
            .map(|(noun_and_verb, _version)| noun_and_verb.to_owned())
    };
    let wanted = noun_and_verb(&event_type);
    if EventType::known().iter().any(|own| noun_and_verb(own) == wanted) {
        return Err(Fault::new(
            "is a type of Bellwire's own",
            "name yours otherwise; its own need no [[event]]",
        ));
    }
    Ok(event_type)
}
