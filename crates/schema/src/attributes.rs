//! The SNS message attributes of an event: at most ten, and counted here only.

use std::collections::BTreeMap;

use crate::envelope::Envelope;
use crate::limits::SNS_ATTRIBUTES_MAX;

/// The names of the attributes that Bellwire itself sets; what filter policies
/// in attribute scope can look at.
pub const OWN_ATTRIBUTES: [&str; 7] =
    ["type", "stage", "dataset", "source", "hop", "traceparent", "tracestate"];

/// One SNS message attribute. Its value is never empty, since SNS refuses that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageAttribute {
    /// Its name.
    pub name: String,
    /// Its data type.
    pub data_type: AttributeDataType,
    /// Its value, as text.
    pub value: String,
}

/// The data types of SNS that Bellwire uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeDataType {
    /// Text.
    String,
    /// A number, written as text.
    Number,
}

impl AttributeDataType {
    /// SNS's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Number => "Number",
        }
    }
}

/// The attributes that an event travels with: Bellwire's own, then the user's,
/// in the order of their names.
///
/// ```
/// use bellwire_schema::{Envelope, attributes::attributes_of};
/// let event = Envelope::new("1", "/app", "training.requested".parse()?);
/// let attributes = attributes_of(&event, &Default::default())?;
/// let names: Vec<_> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
/// assert_eq!(names, ["type", "stage", "source", "hop"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Where they are more than ten, or the user's take a name that is Bellwire's.
pub fn attributes_of(
    envelope: &Envelope,
    users: &BTreeMap<String, String>,
) -> Result<Vec<MessageAttribute>, AttributesError> {
    if let Some(name) = users.keys().find(|name| OWN_ATTRIBUTES.contains(&name.as_str())) {
        return Err(AttributesError::Reserved { name: name.clone() });
    }
    let own = [
        ("type", Some(envelope.event_type.to_string())),
        ("stage", envelope.stage.map(|stage| stage.to_string())),
        ("dataset", envelope.dataset.clone()),
        ("source", Some(envelope.source.clone())),
        ("hop", Some(envelope.context.hop.to_string())),
        ("traceparent", envelope.context.traceparent.clone()),
        ("tracestate", envelope.context.tracestate.clone()),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let users = users.iter().map(|(name, value)| (name.clone(), value.clone()));
    let attributes: Vec<_> = own
        .chain(users)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| MessageAttribute {
            data_type: match name.as_str() {
                "hop" => AttributeDataType::Number,
                _ => AttributeDataType::String,
            },
            name,
            value,
        })
        .collect();
    if attributes.len() > SNS_ATTRIBUTES_MAX {
        return Err(AttributesError::TooMany { count: attributes.len() });
    }
    Ok(attributes)
}

/// What SNS counts against a message's limit, in bytes: the body, and of each
/// attribute name, data type and value.
#[must_use]
pub fn message_bytes(body: &str, attributes: &[MessageAttribute]) -> usize {
    let of_attribute = |attribute: &MessageAttribute| {
        attribute.name.len() + attribute.data_type.as_str().len() + attribute.value.len()
    };
    body.len() + attributes.iter().map(of_attribute).sum::<usize>()
}

/// Attributes that SNS would refuse, or that would not mean what they say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// There are too many.
    #[error(
        "{count} message attributes: SNS delivers at most {SNS_ATTRIBUTES_MAX} to raw SQS subscribers; drop some of your own"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// One of the user's has a name of Bellwire's.
    #[error("the attribute name `{name}` is Bellwire's own; choose another")]
    Reserved {
        /// The name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_event() -> Envelope {
        let mut event = Envelope::new("1", "/app", "training.requested".parse().unwrap());
        event.dataset = Some("wine".to_owned());
        event.context.traceparent = Some("00-1-1-01".to_owned());
        event.context.tracestate = Some("a=b".to_owned());
        event
    }

    #[test]
    fn the_users_attributes_share_the_ten_with_ours() {
        let users = |count: usize| (0..count).map(|n| (format!("u{n}"), "x".to_owned())).collect();
        assert_eq!(attributes_of(&full_event(), &users(3)).unwrap().len(), SNS_ATTRIBUTES_MAX);
        assert_eq!(
            attributes_of(&full_event(), &users(4)),
            Err(AttributesError::TooMany { count: 11 })
        );
    }

    #[test]
    fn an_empty_value_is_left_out() {
        let mut event = full_event();
        event.context.tracestate = Some(String::new());
        let attributes = attributes_of(&event, &BTreeMap::new()).unwrap();
        assert!(attributes.iter().all(|attribute| !attribute.value.is_empty()));
        assert!(attributes.iter().all(|attribute| attribute.name != "tracestate"));
    }

    #[test]
    fn our_names_are_reserved() {
        let users = BTreeMap::from([("type".to_owned(), "x".to_owned())]);
        let error = attributes_of(&full_event(), &users).unwrap_err();
        assert_eq!(error, AttributesError::Reserved { name: "type".to_owned() });
    }

    #[test]
    fn the_size_counts_names_types_and_values() {
        let attribute = MessageAttribute {
            name: "hop".to_owned(),
            data_type: AttributeDataType::Number,
            value: "12".to_owned(),
        };
        assert_eq!(message_bytes("body", &[attribute]), 4 + 3 + 6 + 2);
    }
}
