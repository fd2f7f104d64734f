//! Checksums that a manifest gives, held to those that S3 keeps of its objects. Pure.
//!
//! S3 keeps the checksums that an object was uploaded with, and tells them without
//! reading it; of what was uploaded in parts it may keep only one of the parts' checksums, which
//! ends in how many there are. Source: Amazon S3 user guide, "Checking object
//! integrity for data uploads".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The kinds of checksums that S3 keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Crc32,
    Crc32C,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] =
        [Self::Crc32, Self::Crc32C, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// Its name in a manifest.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32C => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32C => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// A checksum that a manifest gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    algorithm: Algorithm,
    /// As it is written there.
    text: String,
    value: Value,
}

/// The bytes of a checksum, and of how many parts it is, where it is one of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    digest: Vec<u8>,
    parts: Option<u32>,
}

impl Value {
    /// In hex, as most tools write it, or in base64, as S3 does.
    fn read(algorithm: Algorithm, text: &str) -> Option<Self> {
        let (digest, parts) = match text.rsplit_once('-') {
            Some((digest, parts)) => (digest, Some(parts.parse().ok()?)),
            None => (text, None),
        };
        let is_hex = digest.len() == 2 * algorithm.bytes()
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digest = match is_hex {
            true => (0..algorithm.bytes())
                .map(|at| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).ok())
                .collect::<Option<_>>()?,
            false => STANDARD.decode(digest).ok()?,
        };
        (digest.len() == algorithm.bytes()).then_some(Self { digest, parts })
    }
}

/// What S3 keeps of an object: each checksum as it tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) values: BTreeMap<Algorithm, String>,
    /// Whether they are of the parts' checksums, and not of the object.
    pub(super) is_of_parts: bool,
}

impl Checksum {
    /// A checksum as a manifest writes it; `None` where it is none of its kind.
    pub(super) fn read(algorithm: Algorithm, text: &str) -> Option<Self> {
        let value = Value::read(algorithm, text)?;
        Some(Self { algorithm, text: text.to_owned(), value })
    }

    /// Holds an object to it; says what is not so, or why nobody can tell.
    pub(super) fn hold(&self, key: &str, kept: &Kept) -> Result<(), String> {
        let (name, text) = (self.algorithm.as_str(), &self.text);
        let Some(kept_text) = kept.values.get(&self.algorithm) else {
            return Err(format!(
                "it gives a {name} of {key}, of which S3 keeps none: upload the object with that checksum, or leave it out of the manifest"
            ));
        };
        let actual = Value::read(self.algorithm, kept_text);
        let is_of_parts =
            kept.is_of_parts || actual.as_ref().is_some_and(|actual| actual.parts.is_some());
        if is_of_parts && self.value.parts.is_none() {
            return Err(format!(
                "it gives the {name} of all of {key}, of which S3 keeps only one of its parts, {kept_text}: give that, or upload the object with a checksum of all of it"
            ));
        }
        match actual.as_ref() == Some(&self.value) {
            true => Ok(()),
            false => {
                Err(format!("it says that {key} has the {name} {text}, and it has {kept_text}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "aaa": `printf aaa | sha256sum`, `gzip | crc32` of the same.
    const HEX: &str = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0";
    const BASE64: &str = "mDSHbc+wXLFnpcJJU+uljErImxrfV/KPL50JrxB+6PA=";

    fn kept(text: &str, is_of_parts: bool) -> Kept {
        Kept { values: BTreeMap::from([(Algorithm::Sha256, text.to_owned())]), is_of_parts }
    }

    fn held(text: &str, kept: &Kept) -> Result<(), String> {
        Checksum::read(Algorithm::Sha256, text).expect("it is one").hold("a.csv", kept)
    }

    #[test]
    fn hex_and_base64_are_one_checksum_and_anything_else_is_none() {
        for text in [HEX, &HEX.to_uppercase(), BASE64] {
            assert_eq!(held(text, &kept(BASE64, false)), Ok(()), "{text}");
        }
        for (algorithm, text) in [
            (Algorithm::Crc32, "f007732d"),
            (Algorithm::Crc32, "8AdzLQ=="),
            (Algorithm::Crc64Nvme, "00112233445566aa"),
            (Algorithm::Sha256, "mDSHbc+wXLFnpcJJU+uljErImxrfV/KPL50JrxB+6PA=-3"),
        ] {
            assert!(Checksum::read(algorithm, text).is_some(), "{text}");
        }
        for text in ["", "x", &HEX[2..], "f007732d", "8AdzLQ==", &format!("{BASE64}-x")] {
            assert_eq!(Checksum::read(Algorithm::Sha256, text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_or_cannot_be_told_is_said() {
        let other = HEX.replace("98", "99");
        let error = held(&other, &kept(BASE64, false)).unwrap_err();
        assert!(error.contains(&other) && error.contains("it has mDSH"), "{error}");
        let error = held(HEX, &Kept::default()).unwrap_err();
        assert!(error.contains("S3 keeps none"), "{error}");
        let of_parts = format!("{BASE64}-3");
        for kept in [kept(&of_parts, false), kept(BASE64, true)] {
            let error = held(HEX, &kept).unwrap_err();
            assert!(error.contains("only one of its parts"), "{error}");
        }
        assert_eq!(held(&of_parts, &kept(&of_parts, true)), Ok(()));
        let error = held(&format!("{BASE64}-4"), &kept(&of_parts, true)).unwrap_err();
        assert!(error.contains("and it has"), "{error}");
    }
}
