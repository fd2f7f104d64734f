//! Message attributes as a filter policy sees them.

use serde_json::Value;

use super::number;

/// The value of one SNS message attribute, by its data type (Amazon SNS Developer Guide, "Message
/// attributes").
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// `String`.
    String(String),
    /// `Number`, as its text.
    Number(String),
    /// `String.Array`: strings, numbers, booleans and nulls, each matched by itself.
    StringArray(Vec<Value>),
    /// `Binary`, which filtering ignores.
    Binary,
}

/// An attribute that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// The text of a `String.Array` is not a JSON array.
    #[error("the value of a {data_type} attribute is not a JSON array: {text}")]
    NotAnArray {
        /// The attribute's data type.
        data_type: String,
        /// The attribute's value.
        text: String,
    },
    /// SNS has no such data type.
    #[error(
        "`{data_type}` is not an SNS attribute data type (String, String.Array, Number or Binary)"
    )]
    UnknownDataType {
        /// The data type as it came.
        data_type: String,
    },
}

impl AttributeValue {
    /// The attribute of SNS's `Type` (or `DataType`) and `Value` (or `StringValue`).
    ///
    /// `Number.Array`, which the examples of "Numeric value matching" use, reads as an array.
    ///
    /// # Errors
    /// When the data type is unknown, or the value of an array type is not a JSON array.
    ///
    /// ```
    /// use bellwire_schema::filter::AttributeValue;
    ///
    /// let interests = AttributeValue::decode("String.Array", r#"["rugby", 5]"#).expect("an array");
    /// assert_eq!(interests, AttributeValue::StringArray(vec!["rugby".into(), 5.into()]));
    /// ```
    pub fn decode(data_type: &str, text: &str) -> Result<Self, AttributeError> {
        match data_type {
            "String" => Ok(Self::String(text.to_owned())),
            "Number" => Ok(Self::Number(text.to_owned())),
            "String.Array" | "Number.Array" => serde_json::from_str(text)
                .map(Self::StringArray)
                .map_err(|_| AttributeError::NotAnArray {
                    data_type: data_type.to_owned(),
                    text: text.to_owned(),
                }),
            "Binary" => Ok(Self::Binary),
            other => Err(AttributeError::UnknownDataType { data_type: other.to_owned() }),
        }
    }

    /// The JSON value that conditions look at; none for what filtering ignores.
    pub(super) fn to_value(&self) -> Option<Value> {
        match self {
            Self::String(text) => Some(Value::String(text.clone())),
            // SNS refuses to publish a Number that is none, so what such a text matches is of no
            // consequence.
            Self::Number(text) => Some(
                number::from_text(text).map_or_else(|| Value::String(text.clone()), Value::Number),
            ),
            Self::StringArray(elements) => Some(Value::Array(elements.clone())),
            Self::Binary => None,
        }
    }
}
