//! TOML values as JSON.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::problem::{Fault, quoted};
use super::table::Section;

/// The table of a key as a JSON object. What JSON cannot say is reported, and is null in
/// it, so that the rest can be judged all the same.
pub(super) fn object(section: &Section<'_>, key: &str, table: &DeTable<'_>) -> Map<String, Value> {
    table
        .iter()
        .map(|(name, entry)| (name.get_ref().to_string(), value(section, key, entry)))
        .collect()
}

fn value(section: &Section<'_>, key: &str, toml: &Spanned<DeValue<'_>>) -> Value {
    let json = match toml.get_ref() {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Boolean(boolean) => Ok(Value::Bool(*boolean)),
        DeValue::Integer(integer) => number_of_integer(integer),
        DeValue::Float(float) => number_of_float(float),
        DeValue::Datetime(time) => Err(Fault::new(
            format!("{time} is a date or time, which JSON does not have"),
            format!("put it in quotes: \"{time}\""),
        )),
        DeValue::Array(elements) => {
            return elements.iter().map(|element| value(section, key, element)).collect();
        }
        DeValue::Table(table) => return Value::Object(object(section, key, table)),
    };
    json.unwrap_or_else(|Fault { cause, remedy }| {
        section.fault(toml.span().start, Fault::new(format!("`{key}`: {cause}"), remedy));
        Value::Null
    })
}

fn number_of_integer(integer: &DeInteger<'_>) -> Result<Value, Fault> {
    let (digits, radix) = (integer.as_str(), integer.radix());
    let signed = i64::from_str_radix(digits, radix).map(Number::from);
    let number = signed.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from));
    number.map(Value::Number).map_err(|_| {
        Fault::new(
            format!("{} has more than 64 bits", quoted(digits)),
            "write it in quotes, or smaller",
        )
    })
}

fn number_of_float(float: &DeFloat<'_>) -> Result<Value, Fault> {
    let number = float.as_str().parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or_else(|| {
        Fault::new(
            format!("{float} is no number of JSON"),
            "write a finite number, or drop the key",
        )
    })
}
