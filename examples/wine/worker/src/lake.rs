//! Objects of the lake, and what a run says of those it made.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bellwire_schema::payload::Artifact;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The bucket's name.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
}

/// A text that is no `s3://bucket/key`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{uri}` is no s3://bucket/key")]
pub struct MalformedUri {
    /// The text.
    pub uri: String,
}

/// An object to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where to.
    pub location: Location,
    /// What.
    pub body: Vec<u8>,
    /// `text/csv`, `application/json`, `application/octet-stream`.
    pub content_type: &'static str,
    /// Whether it announces others, so that it must arrive once: it is never
    /// written over.
    pub is_marker: bool,
}

/// The output of a run. Bellwire lifts both fields into `<stage>.completed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Output {
    /// Numbers, by name.
    pub metrics: BTreeMap<&'static str, f64>,
    /// What the run made, and what of earlier runs the next stage needs.
    pub artifacts: Vec<Artifact>,
}

impl Location {
    /// An object beside this one, in the same bucket.
    #[must_use]
    pub fn beside(&self, key: impl Into<String>) -> Self {
        Self { bucket: self.bucket.clone(), key: key.into() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket, self.key)
    }
}

impl FromStr for Location {
    type Err = MalformedUri;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let parts = uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        match parts {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(MalformedUri { uri: uri.to_owned() }),
        }
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Location {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Object {
    /// What the run's output says of it.
    #[must_use]
    pub fn artifact(&self, name: &str) -> Artifact {
        Artifact {
            name: name.to_owned(),
            uri: self.location.to_string(),
            size_bytes: Some(self.body.len() as u64),
        }
    }
}

/// The artifacts that an earlier stage passed on, each under its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Artifacts(Vec<Named>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Named {
    name: String,
    uri: Location,
}

impl Artifacts {
    pub(crate) fn location(&self, name: &str) -> Result<&Location, String> {
        let named = self.0.iter().find(|artifact| artifact.name == name);
        named.map(|artifact| &artifact.uri).ok_or_else(|| {
            let there: Vec<&str> = self.0.iter().map(|artifact| artifact.name.as_str()).collect();
            format!("no artifact is named `{name}`; there are: {}", there.join(", "))
        })
    }
}

/// An artifact of an earlier stage, passed on.
pub(crate) fn passed_on(name: &str, location: &Location) -> Artifact {
    Artifact { name: name.to_owned(), uri: location.to_string(), size_bytes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_and_written() {
        let location: Location = "s3://wine-lake/raw/a b/part-00000.csv".parse().unwrap();
        assert_eq!(
            location,
            Location { bucket: "wine-lake".into(), key: "raw/a b/part-00000.csv".into() }
        );
        assert_eq!(location.to_string().parse(), Ok(location));
        for malformed in
            ["", "wine-lake/raw", "s3://wine-lake", "s3:///key", "s3://wine-lake/", "http://a/b"]
        {
            assert!(malformed.parse::<Location>().is_err(), "{malformed}");
        }
    }
}
