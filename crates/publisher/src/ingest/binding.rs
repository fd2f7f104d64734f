//! `binding`: CloudEvents' HTTP protocol binding, from headers and a body to the
//! events that they carry. Pure.
//!
//! Source: CloudEvents HTTP Protocol Binding 1.0.2, and JSON Event Format 1.0.2.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwire_schema::envelope::AttributeProblem;
use serde_json::{Map, Value};

/// One event in JSON.
pub const EVENT_MEDIA_TYPE: &str = "application/cloudevents+json";

/// A JSON list of events.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// The media types of bodies that hold whole events, the first by its standard.
pub const MEDIA_TYPES: &str =
    "application/cloudevents+json, application/cloudevents-batch+json, application/json";

/// Events of one batch: ten full calls of `PublishBatch`, and an answer that
/// names what is wrong with each of them can still be read.
pub const BATCH_EVENTS_MAX: usize = 100;

/// What a header begins with that is an attribute in binary mode.
const ATTRIBUTE_PREFIX: &str = "ce-";

/// How a request carries its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The body is one event.
    Structured,
    /// The body is a list of events.
    Batch,
    /// The headers are an event's attributes, the body is its data.
    Binary,
}

/// An event as it came: in CloudEvents' JSON format, whatever the mode, and not
/// yet judged.
#[derive(Debug, Clone, PartialEq)]
pub struct RawEvent {
    /// The event.
    pub event: Value,
    /// Attributes that could not be read, and are missing from it.
    pub problems: Vec<AttributeProblem>,
}

/// A request that carries no events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The body is of a media type that is not read.
    #[error(
        "`{found}` is not read: send whole events as {MEDIA_TYPES}, or an event's attributes as ce- headers and its data as the body"
    )]
    MediaType {
        /// What the request says.
        found: String,
    },
    /// The body is text in another encoding.
    #[error("`{found}` is not read: send it in UTF-8")]
    Charset {
        /// What the request says.
        found: String,
    },
    /// The body is no JSON.
    #[error("not JSON: {problem}")]
    NotJson {
        /// What the JSON parser says, with line and column.
        problem: String,
    },
    /// The body is an event's data, and not the JSON that it is said to be.
    #[error(
        "the body is the event's data, as `{media_type}`, and not JSON: {problem}; correct it, or name its own media type as Content-Type"
    )]
    DataNotJson {
        /// What the request says.
        media_type: String,
        /// What the JSON parser says, with line and column.
        problem: String,
    },
    /// A batch is no list.
    #[error("a batch is a JSON list of events: send one event as {EVENT_MEDIA_TYPE}")]
    NotAList,
    /// A batch is too long.
    #[error("the batch has {count} events: send at most {BATCH_EVENTS_MAX} at once")]
    TooMany {
        /// Its length.
        count: usize,
    },
}

/// How a request carries its events. A media type of CloudEvents decides whatever
/// else the headers say; `application/json` is one event where no header is an
/// attribute, and else the data of an event in binary mode.
///
/// # Errors
///
/// Where the media type or its encoding is not read.
pub fn mode_of(headers: &HeaderMap) -> Result<Mode, BindingError> {
    let found = content_type(headers)?;
    let essence = essence_of(found);
    let has_attributes = headers.keys().any(|name| name.as_str().starts_with(ATTRIBUTE_PREFIX));
    let mode = match essence.as_str() {
        EVENT_MEDIA_TYPE => Mode::Structured,
        BATCH_MEDIA_TYPE => Mode::Batch,
        // Another event format than JSON, which the specification does not let
        // anyone read as binary mode.
        other if other.starts_with("application/cloudevents") => {
            return Err(BindingError::MediaType { found: found.to_owned() });
        }
        _ if has_attributes => Mode::Binary,
        "application/json" => Mode::Structured,
        _ => return Err(BindingError::MediaType { found: found.to_owned() }),
    };
    if !is_utf8(found) {
        return Err(BindingError::Charset { found: found.to_owned() });
    }
    Ok(mode)
}

/// The events of a request. Of one that is in structured or binary mode: exactly one.
///
/// # Errors
///
/// Where the body is not what its media type says.
pub fn events_of(
    mode: Mode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<RawEvent>, BindingError> {
    match mode {
        Mode::Structured => Ok(vec![whole(parse(body)?)]),
        Mode::Batch => batch(body),
        Mode::Binary => Ok(vec![binary(headers, body)?]),
    }
}

fn whole(event: Value) -> RawEvent {
    RawEvent { event, problems: Vec::new() }
}

fn batch(body: &[u8]) -> Result<Vec<RawEvent>, BindingError> {
    let Value::Array(events) = parse(body)? else {
        return Err(BindingError::NotAList);
    };
    match events.len() {
        count if count > BATCH_EVENTS_MAX => Err(BindingError::TooMany { count }),
        _ => Ok(events.into_iter().map(whole).collect()),
    }
}

fn parse(body: &[u8]) -> Result<Value, BindingError> {
    serde_json::from_slice(body)
        .map_err(|error| BindingError::NotJson { problem: error.to_string() })
}

fn binary(headers: &HeaderMap, body: &[u8]) -> Result<RawEvent, BindingError> {
    let (mut event, mut problems) = (Map::new(), Vec::new());
    for header in headers.keys() {
        let Some(name) = header.as_str().strip_prefix(ATTRIBUTE_PREFIX) else { continue };
        let values: Vec<&HeaderValue> = headers.get_all(header).iter().collect();
        match attribute(name, &values) {
            Ok(text) => {
                event.insert(name.to_owned(), text.into());
            }
            Err(problem) => {
                problems.push(AttributeProblem { attribute: name.to_owned(), problem });
            }
        }
    }
    let media_type = content_type(headers)?;
    if !media_type.is_empty() {
        event.insert("datacontenttype".to_owned(), media_type.into());
    }
    if let Some((name, data)) = data(media_type, body)? {
        event.insert(name.to_owned(), data);
    }
    Ok(RawEvent { event: Value::Object(event), problems })
}

/// The body as the JSON format holds it, under the name that the format has for
/// its kind: JSON as itself, text as a JSON string, and bytes, which JSON has no
/// form for, as Base64. What is not said to be text, or is not UTF-8, is bytes, so
/// that what arrives at the subscribers is what was sent. Without a media type the
/// format says JSON. Source: JSON Event Format 1.0.2, section 3.1.
fn data(media_type: &str, body: &[u8]) -> Result<Option<(&'static str, Value)>, BindingError> {
    if body.is_empty() {
        return Ok(None);
    }
    let essence = essence_of(media_type);
    if essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json") {
        let value = serde_json::from_slice(body).map_err(|error| BindingError::DataNotJson {
            media_type: media_type.to_owned(),
            problem: error.to_string(),
        })?;
        return Ok(Some(("data", value)));
    }
    Ok(Some(match std::str::from_utf8(body) {
        Ok(text) if essence.starts_with("text/") => ("data", text.into()),
        _ => ("data_base64", STANDARD.encode(body).into()),
    }))
}

/// An attribute's text out of its header, or what is wrong with it.
fn attribute(name: &str, values: &[&HeaderValue]) -> Result<String, String> {
    match name {
        "" => return Err("the header `ce-` names no attribute".to_owned()),
        "datacontenttype" => return Err("is the Content-Type header in binary mode".to_owned()),
        "data" | "data_base64" => return Err("is the body in binary mode".to_owned()),
        _ => {}
    }
    match values {
        [value] => decode(value.as_bytes()),
        _ => Err(format!("has {} headers; send one", values.len())),
    }
}

/// A header's value as text: out of its quotes, then percent-decoded, once.
/// Source: HTTP Protocol Binding 1.0.2, section 3.1.3.2.
fn decode(value: &[u8]) -> Result<String, String> {
    let value = unquote(value)?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let Some(byte) = after.get(..2).and_then(hex_byte) else {
            return Err("has a % without two hexadecimal digits; write %25 for it".to_owned());
        };
        bytes.push(byte);
        rest = &after[2..];
    }
    // Overlong forms too are not UTF-8.
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 once it is percent-decoded".to_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Takes the double quotes and their backslashes off, which older versions of
/// the specification wrote. Source: RFC 7230, section 3.2.6.
fn unquote(value: &[u8]) -> Result<Vec<u8>, String> {
    let (mut plain, mut is_quoted) = (Vec::with_capacity(value.len()), false);
    let mut bytes = value.iter().copied();
    let open = || "has a double quote without its other one; write %22 for it".to_owned();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => plain.push(bytes.next().ok_or_else(open)?),
            _ => plain.push(byte),
        }
    }
    if is_quoted { Err(open()) } else { Ok(plain) }
}

/// The `Content-Type`; empty where there is none.
fn content_type(headers: &HeaderMap) -> Result<&str, BindingError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok("") };
    value.to_str().map(str::trim).map_err(|_| BindingError::MediaType {
        found: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    })
}

/// A media type without its parameters.
fn essence_of(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_utf8(media_type: &str) -> bool {
    media_type.split(';').skip(1).all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = headers.append(name, value));
        headers
    }

    fn read(pairs: &[(&str, &str)], body: &[u8]) -> RawEvent {
        let headers = headers(pairs);
        let mut events = events_of(mode_of(&headers).unwrap(), &headers, body).unwrap();
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    #[test]
    fn the_media_type_decides_the_mode_before_any_attribute() {
        let ce = ("CE-Id", "1");
        for (pairs, mode) in [
            (vec![("content-type", "application/cloudevents+json")], Mode::Structured),
            (
                vec![("content-type", "Application/CloudEvents+JSON; charset=UTF-8")],
                Mode::Structured,
            ),
            (vec![("content-type", "application/cloudevents+json"), ce], Mode::Structured),
            (vec![("content-type", "application/cloudevents-batch+json"), ce], Mode::Batch),
            (vec![("content-type", "application/json")], Mode::Structured),
            (vec![("content-type", "application/json"), ce], Mode::Binary),
            (vec![("content-type", "image/png"), ce], Mode::Binary),
            (vec![ce], Mode::Binary),
        ] {
            assert_eq!(mode_of(&headers(&pairs)), Ok(mode), "{pairs:?}");
        }
    }

    #[test]
    fn other_formats_and_encodings_are_not_read() {
        let ce = ("ce-id", "1");
        for pairs in [
            vec![],
            vec![("content-type", "text/plain")],
            vec![("content-type", "application/cloudevents+avro"), ce],
            vec![("content-type", "application/cloudevents-batch+xml")],
        ] {
            let error = mode_of(&headers(&pairs)).unwrap_err();
            assert!(matches!(error, BindingError::MediaType { .. }), "{pairs:?}");
        }
        for media_type in [
            "application/json; charset=latin1",
            "application/cloudevents+json;charset=\"utf-16\"",
            "text/plain; format=flowed; Charset = us-ascii",
        ] {
            let error = mode_of(&headers(&[("content-type", media_type), ce])).unwrap_err();
            assert!(matches!(error, BindingError::Charset { .. }), "{media_type}");
        }
    }

    #[test]
    fn binary_mode_s_headers_are_attributes_and_its_body_is_the_data() {
        let event = read(
            &[
                ("CE-SpecVersion", "1.0"),
                ("ce-type", "com.example.someevent"),
                ("ce-time", "2018-04-05T03:56:24Z"),
                ("ce-id", "1234-1234-1234"),
                ("ce-source", "/mycontext/subcontext"),
                ("accept", "*/*"),
                ("content-type", "application/json; charset=utf-8"),
            ],
            br#"{"a": [1]}"#,
        );
        let expected = json!({
            "specversion": "1.0", "type": "com.example.someevent",
            "time": "2018-04-05T03:56:24Z", "id": "1234-1234-1234",
            "source": "/mycontext/subcontext",
            "datacontenttype": "application/json; charset=utf-8", "data": { "a": [1] },
        });
        assert_eq!(event, RawEvent { event: expected, problems: vec![] });
    }

    #[test]
    fn data_is_json_text_or_bytes_by_its_media_type() {
        for (media_type, body, name, value) in [
            ("application/vnd.x+json", &b"[1]"[..], "data", json!([1])),
            ("text/json", b"7", "data", json!(7)),
            ("text/plain", "Gr\u{fc}\u{df}e".as_bytes(), "data", json!("Gr\u{fc}\u{df}e")),
            ("text/plain", b"\xff\x00", "data_base64", json!("/wA=")),
            ("application/xml", b"<a/>", "data_base64", json!("PGEvPg==")),
            ("application/octet-stream", b"{}", "data_base64", json!("e30=")),
        ] {
            let event = read(&[("ce-id", "1"), ("content-type", media_type)], body).event;
            let expected = json!({ "id": "1", "datacontenttype": media_type, name: value });
            assert_eq!(event, expected);
        }
        assert_eq!(read(&[("ce-id", "1")], b"").event, json!({ "id": "1" }));
        assert_eq!(read(&[("ce-id", "1")], b"{}").event, json!({ "id": "1", "data": {} }));
        let headers = headers(&[("ce-id", "1"), ("content-type", "application/json")]);
        let error = events_of(Mode::Binary, &headers, b"{").unwrap_err();
        assert!(matches!(error, BindingError::DataNotJson { .. }));
    }

    #[test]
    fn header_values_are_unquoted_and_decoded_once() {
        for (value, text) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u{20ac} \u{1f600}"),
            ("euro%20%e2%82%ac", "euro \u{20ac}"),
            ("%2541", "%41"),
            ("%41", "A"),
            (r#""a \"b\" \\ c""#, r#"a "b" \ c"#),
            (r#""%22""#, "\""),
            (r"a\b", r"a\b"),
            ("a, b", "a, b"),
            ("", ""),
        ] {
            assert_eq!(decode(value.as_bytes()).as_deref(), Ok(text), "{value}");
        }
        // The specification's own example of what must be refused is the first.
        for value in ["%C0%A0", "%ED%A0%80", "%", "%4", "%4x", "%+4", "\"open", "\"open\\"] {
            assert!(decode(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn attributes_that_binary_mode_does_not_have_as_headers_are_problems() {
        let event = read(
            &[
                ("ce-id", "1"),
                ("ce-id", "2"),
                ("ce-data", "x"),
                ("ce-data_base64", "AA=="),
                ("ce-datacontenttype", "text/plain"),
                ("ce-", "x"),
                ("ce-subject", "%"),
            ],
            b"",
        );
        assert_eq!(event.event, json!({}));
        let mut names: Vec<_> = event.problems.iter().map(|p| p.attribute.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["", "data", "data_base64", "datacontenttype", "id", "subject"]);
    }

    #[test]
    fn a_batch_is_a_list_of_at_most_its_limit() {
        let read =
            |body: Value| events_of(Mode::Batch, &HeaderMap::new(), body.to_string().as_bytes());
        assert_eq!(read(json!([])), Ok(vec![]));
        assert_eq!(read(json!([1, {}])), Ok(vec![whole(json!(1)), whole(json!({}))]));
        assert_eq!(read(json!({})), Err(BindingError::NotAList));
        assert_eq!(read(json!(vec![1; BATCH_EVENTS_MAX])).unwrap().len(), BATCH_EVENTS_MAX);
        let count = BATCH_EVENTS_MAX + 1;
        assert_eq!(read(json!(vec![1; count])), Err(BindingError::TooMany { count }));
    }

    /// As the specification has senders write a value.
    fn encode(text: &str) -> String {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'!' | b'#' | b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
                _ => encoded += &format!("%{byte:02X}"),
            }
        }
        encoded
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(text in any::<String>()) {
            prop_assert_eq!(decode(encode(&text).as_bytes()), Ok(text));
        }

        #[test]
        fn no_value_is_too_odd_to_be_looked_at(bytes in any::<Vec<u8>>()) {
            _ = decode(&bytes);
        }
    }
}
