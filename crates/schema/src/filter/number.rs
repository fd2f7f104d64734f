//! Exact comparison of JSON numbers: integers as integers, so that byte counts and account numbers
//! beyond 2⁵³ keep their last digits.

use std::cmp::Ordering;

use serde_json::Number;

/// Beyond this a float has no `i128` to be compared with.
const I128_EDGE: f64 = 1.0e38;

/// How two numbers compare; `None` only for one that no machine number holds.
pub(super) fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (Some(left), None) => compare_integer(left, right.as_f64()?),
        (None, Some(right)) => compare_integer(right, left.as_f64()?).map(Ordering::reverse),
        (None, None) => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// A number of decimals as it would be written out in full.
pub(super) fn decimals(number: &Number) -> usize {
    if integer(number).is_some() {
        return 0;
    }
    // Rust writes floats in full, never with an exponent.
    let written = number.as_f64().map(|float| float.to_string()).unwrap_or_default();
    written.split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

/// The number of an attribute's text, which AWS lets be written in more ways than JSON does.
pub(super) fn from_text(text: &str) -> Option<Number> {
    if let Ok(number) = serde_json::from_str::<Number>(text) {
        return Some(number);
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare_integer(integer: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= I128_EDGE {
        return Some(Ordering::Less);
    }
    if float <= -I128_EDGE {
        return Some(Ordering::Greater);
    }
    let floor = float.floor();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and within i128 by the two checks above"
    )]
    let whole = floor as i128;
    Some(match integer.cmp(&whole) {
        Ordering::Equal if float > floor => Ordering::Less,
        ordering => ordering,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        from_text(text).expect(text)
    }

    #[test]
    fn integers_keep_their_last_digit_where_floats_lose_it() {
        let cases = [
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("18446744073709551615", "-1", Ordering::Greater),
            ("5", "5.0", Ordering::Equal),
            ("3.015e2", "301.5", Ordering::Equal),
            ("301", "301.5", Ordering::Less),
            ("-301", "-301.5", Ordering::Greater),
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("1", "1e300", Ordering::Less),
            ("1", "-1e300", Ordering::Greater),
        ];
        for (left, right, expected) in cases {
            assert_eq!(
                compare(&number(left), &number(right)),
                Some(expected),
                "{left} against {right}"
            );
            assert_eq!(
                compare(&number(right), &number(left)),
                Some(expected.reverse()),
                "{right} against {left}"
            );
        }
    }

    #[test]
    fn decimals_are_those_of_the_full_form() {
        for (text, expected) in
            [("5", 0), ("5.25", 2), ("1e-6", 6), ("0.00001", 5), ("3.015e2", 1), ("1e300", 0)]
        {
            assert_eq!(decimals(&number(text)), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_number_has_none() {
        for text in ["", "abc", "1e999", "inf", "NaN"] {
            assert_eq!(from_text(text), None, "{text}");
        }
        for text in ["+5", "05", "5.", ".5"] {
            assert!(from_text(text).is_some(), "{text}");
        }
    }
}
