//! A manifest: a file that names a window's members, and what S3 has of them. Reading
//! and judging are pure; what S3 has is asked of the listing of what they lie under, and,
//! of members of which a checksum is given, of S3 by one HEAD each.

use std::collections::{BTreeMap, BTreeSet};

use bellwire_ledger::Member;
use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::checksum::{Algorithm, Checksum};
use super::collected::MEMBERS_MAX;
use super::listing::{self, Entry, ListCursor};
use super::rules::prefix_of;
use crate::handler::{Handler, HandlerError};
use crate::model::CompiledTrigger;

/// The lists of a JSON manifest stand under one of these, or are all of it.
const LISTS: [&str; 4] = ["files", "entries", "members", "objects"];
const KEYS: [&str; 5] = ["key", "url", "uri", "path", "name"];
const SIZES: [&str; 3] = ["size_bytes", "size", "content_length"];
const TAGS: [&str; 2] = ["etag", "md5"];
const VERSIONS: [&str; 2] = ["version_id", "versionId"];

/// Members of which a manifest may give checksums that no listing shows: each is a call
/// more, and all of them are made within one invocation.
const CHECKSUMMED_MAX: usize = 1_000;

/// Members whose checksums are asked for at one time.
const HEADS_MAX: usize = 32;

/// An object that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    key: String,
    version_id: Option<String>,
    size_bytes: Option<u64>,
    /// In lower case.
    etag: Option<String>,
    checksums: Vec<Checksum>,
}

impl Listed {
    /// An object of which a manifest says no more than where it is.
    fn of(key: &str) -> Self {
        let key = key.to_owned();
        Self { key, version_id: None, size_bytes: None, etag: None, checksums: Vec::new() }
    }
}

/// What a manifest is worth.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// All that it lists is there, as it says.
    Whole(Vec<Member>),
    /// Some of it is not there.
    Missing { listed: usize, missing: usize, example: String },
    /// It cannot be read, or what it says is not so.
    Untrue(String),
}

/// Reads a manifest of a bucket that lies under a prefix: JSON, or lines of
/// `key[,size_bytes[,etag]]` as CSV.
pub(super) fn parse(bytes: &[u8], bucket: &str, prefix: &str) -> Result<Vec<Listed>, String> {
    let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let rows = match is_json {
        Some(b'{' | b'[') => of_json(bytes)?,
        _ => of_csv(bytes)?,
    };
    if rows.len() as u64 > MEMBERS_MAX {
        return Err(format!("it lists {} objects, more than {MEMBERS_MAX}", rows.len()));
    }
    let mut seen = BTreeSet::new();
    let mut listed = Vec::with_capacity(rows.len());
    for row in rows {
        let key = whole_key(&row.key, bucket, prefix)?;
        if !seen.insert((key.clone(), row.version_id.clone())) {
            return Err(format!("it lists {key} twice"));
        }
        listed.push(Listed { key, ..row });
    }
    let checksummed = listed.iter().filter(|one| !one.checksums.is_empty()).count();
    if checksummed > CHECKSUMMED_MAX {
        return Err(format!(
            "it gives checksums of {checksummed} objects, and S3 is asked for those of {CHECKSUMMED_MAX} at most; give sizes and eTags, which a listing shows"
        ));
    }
    Ok(listed)
}

/// The key of an object that a manifest names by its URI, its whole key, or its place
/// beside the manifest.
fn whole_key(named: &str, bucket: &str, prefix: &str) -> Result<String, String> {
    let key = match named.strip_prefix("s3://") {
        Some(path) => match path.split_once('/') {
            Some((of, key)) if of == bucket => key.to_owned(),
            _ => return Err(format!("it lists {named}, which is not in bucket {bucket}")),
        },
        None if named.starts_with(prefix) => named.to_owned(),
        None => format!("{prefix}{named}"),
    };
    let is_plain = !key.is_empty() && !key.split('/').any(|part| matches!(part, "." | ".."));
    if is_plain { Ok(key) } else { Err(format!("it lists `{named}`, which is no object's key")) }
}

fn of_json(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = match &value {
        Value::Array(list) => Some(list),
        value => LISTS.iter().find_map(|name| value.get(name)?.as_array()),
    };
    let list = list.ok_or_else(|| format!("it has no list under one of {}", LISTS.join(", ")))?;
    list.iter().enumerate().map(|(index, row)| of_row(index, row)).collect()
}

fn of_row(index: usize, row: &Value) -> Result<Listed, String> {
    let number = index + 1;
    if let Value::String(key) = row {
        return Ok(Listed::of(key));
    }
    let field = |names: &[&str]| names.iter().find_map(|name| row.get(name));
    let text = |names: &[&str]| field(names).and_then(Value::as_str).map(str::to_owned);
    let given = Algorithm::ALL.into_iter().filter_map(|algorithm| {
        let given = row.get(algorithm.as_str()).filter(|given| !given.is_null())?;
        let read = given.as_str().and_then(|text| Checksum::read(algorithm, text));
        Some(read.ok_or_else(|| {
            format!("its entry {number} gives what is no {}: {given}", algorithm.as_str())
        }))
    });
    let checksums = given.collect::<Result<_, _>>()?;
    let size = field(&SIZES).or_else(|| row.get("meta")?.get("content_length"));
    let size_bytes = match size {
        None | Some(Value::Null) => None,
        Some(size) => {
            Some(size.as_u64().ok_or_else(|| format!("its entry {number} has no size: {size}"))?)
        }
    };
    Ok(Listed {
        key: text(&KEYS).ok_or_else(|| format!("its entry {number} has no key"))?,
        version_id: text(&VERSIONS),
        size_bytes,
        etag: text(&TAGS).map(|etag| etag.trim_matches('"').to_lowercase()),
        checksums,
    })
}

fn of_csv(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut listed = Vec::new();
    for (index, record) in reader.into_records().enumerate() {
        let record = record.map_err(|error| format!("it is no CSV: {error}"))?;
        let field = |column: usize| record.get(column).filter(|text| !text.is_empty());
        let Some(key) = field(0) else {
            return Err(format!("its line {} has no key", index + 1));
        };
        if index == 0 && KEYS.contains(&key.to_lowercase().as_str()) {
            continue;
        }
        let size = field(1).map(str::parse::<u64>).transpose();
        let size_bytes = size.map_err(|_| format!("its line {} has no size", index + 1))?;
        let etag = field(2).map(|etag| etag.trim_matches('"').to_lowercase());
        listed.push(Listed { size_bytes, etag, ..Listed::of(key) });
    }
    Ok(listed)
}

/// What all keys begin with.
fn common_prefix(listed: &[Listed]) -> &str {
    let Some(first) = listed.first().map(|one| one.key.as_str()) else { return "" };
    let common = listed.iter().fold(first, |common, one| {
        let mut until = common.len().min(one.key.len());
        while !(common.is_char_boundary(until) && one.key.starts_with(&common[..until])) {
            until -= 1;
        }
        &common[..until]
    });
    prefix_of(common)
}

/// What S3 has of what is listed: of each key its newest version, or the one that is
/// named.
fn pick(listed: &[Listed], mut there: BTreeMap<String, Vec<Entry>>) -> Result<Picked, String> {
    let mut picked = Picked::default();
    for one in listed {
        let entries = there.get_mut(&one.key).map(std::mem::take).unwrap_or_default();
        let newest = entries.iter().max_by_key(|entry| (entry.modified, entry.is_latest));
        let found = match &one.version_id {
            Some(_) => entries.iter().find(|entry| entry.version_id == one.version_id),
            None => newest,
        };
        let found = found.cloned();
        if one.version_id.is_some() {
            // Another version of it may be listed too.
            there.insert(one.key.clone(), entries);
        }
        let Some(entry) = found else {
            picked.missing.push(one.key.clone());
            continue;
        };
        let Some((size_bytes, etag)) = &entry.object else {
            picked.missing.push(one.key.clone());
            continue;
        };
        if let Some(listed_bytes) = one.size_bytes.filter(|listed| listed != size_bytes) {
            return Err(format!(
                "it says that {} is {listed_bytes} bytes, and it is {size_bytes}",
                one.key
            ));
        }
        let actual = etag.as_deref().map(str::to_lowercase);
        if let Some(listed_tag) =
            one.etag.as_ref().filter(|listed| Some(*listed) != actual.as_ref())
        {
            return Err(format!(
                "it says that {} has the eTag {listed_tag}, and it has {}",
                one.key,
                actual.unwrap_or_else(|| "none".to_owned())
            ));
        }
        picked.found.push(entry);
    }
    Ok(picked)
}

#[derive(Debug, Default, PartialEq)]
struct Picked {
    found: Vec<Entry>,
    missing: Vec<String>,
}

/// What is found where an object is asked for its checksums.
enum Doubt {
    /// It went while the manifest was judged.
    Gone(String),
    /// It is not what the manifest says, or S3 cannot tell.
    Untrue(String),
}

impl Handler {
    /// Reads a manifest and looks for all that it lists.
    pub(super) async fn judge_manifest(
        &self,
        trigger: &CompiledTrigger,
        manifest: &Member,
    ) -> Result<Judgement, HandlerError> {
        let object = &manifest.event;
        let (Some(bucket), Some(key)) = (object.bucket.as_deref(), object.key.as_deref()) else {
            return Ok(Judgement::Untrue("it is no object".to_owned()));
        };
        let version = object.version_id.as_deref();
        let Some(bytes) = self.lake.manifest(bucket, key, version).await? else {
            let message = format!("s3://{bucket}/{key} is not there any more, or over 16 MiB");
            return Ok(Judgement::Untrue(message));
        };
        let prefix = prefix_of(key);
        let untrue = |message| Ok(Judgement::Untrue(format!("s3://{bucket}/{key}: {message}")));
        let listed = match parse(&bytes, bucket, prefix) {
            Ok(listed) => listed,
            Err(message) => return untrue(message),
        };
        let is_watched =
            |one: &&Listed| listing::source_of(&self.model, trigger, bucket, &one.key).is_some();
        if let Some(stranger) = listed.iter().find(|one| !is_watched(one)) {
            return untrue(format!("it lists {}, which no source watches", stranger.key));
        }
        let there = self.all_under(bucket, &listed).await?;
        let Picked { found, missing } = match pick(&listed, there) {
            Ok(picked) => picked,
            Err(message) => return untrue(message),
        };
        if let Some(example) = missing.first() {
            let (missing, example) = (missing.len(), example.clone());
            return Ok(Judgement::Missing { listed: listed.len(), missing, example });
        }
        match self.hold_to_checksums(bucket, &listed, &found).await? {
            Ok(()) => {}
            Err(Doubt::Gone(example)) => {
                return Ok(Judgement::Missing { listed: listed.len(), missing: 1, example });
            }
            Err(Doubt::Untrue(message)) => return untrue(message),
        }
        let members = found
            .into_iter()
            .filter_map(|entry| listing::named(&self.model, trigger, bucket, entry));
        Ok(Judgement::Whole(members.collect()))
    }

    /// Holds what was found of each entry to the checksums that it gives.
    async fn hold_to_checksums(
        &self,
        bucket: &str,
        listed: &[Listed],
        found: &[Entry],
    ) -> Result<Result<(), Doubt>, HandlerError> {
        let given = listed.iter().zip(found).filter(|(one, _)| !one.checksums.is_empty());
        let asked: Vec<_> = given
            .map(|(one, entry)| async move {
                let version = entry.version_id.as_deref();
                (one, self.lake.checksums(bucket, &one.key, version).await)
            })
            .collect();
        let mut answers = stream::iter(asked).buffered(HEADS_MAX);
        while let Some((one, kept)) = answers.next().await {
            let Some(kept) = kept? else { return Ok(Err(Doubt::Gone(one.key.clone()))) };
            let mut held = one.checksums.iter().map(|checksum| checksum.hold(&one.key, &kept));
            if let Some(Err(message)) = held.find(Result::is_err) {
                return Ok(Err(Doubt::Untrue(message)));
            }
        }
        Ok(Ok(()))
    }

    async fn all_under(
        &self,
        bucket: &str,
        listed: &[Listed],
    ) -> Result<BTreeMap<String, Vec<Entry>>, HandlerError> {
        let mut there: BTreeMap<String, Vec<Entry>> =
            listed.iter().map(|one| (one.key.clone(), Vec::new())).collect();
        let mut next = (!listed.is_empty()).then(ListCursor::default);
        while let Some(cursor) = next {
            let page = self.lake.page(bucket, common_prefix(listed), false, &cursor).await?;
            for entry in page.entries {
                if let Some(entries) = there.get_mut(&entry.key) {
                    entries.push(entry);
                }
            }
            next = page.next;
        }
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn listed(key: &str, size_bytes: Option<u64>, etag: Option<&str>) -> Listed {
        let etag = etag.map(str::to_owned);
        Listed { size_bytes, etag, ..Listed::of(key) }
    }

    fn parsed(text: &str) -> Result<Vec<Listed>, String> {
        parse(text.as_bytes(), "lake", "raw/1/")
    }

    #[test]
    fn json_and_csv_say_the_same() {
        let expected =
            vec![listed("raw/1/a.csv", Some(3), Some("ab")), listed("raw/1/b.csv", None, None)];
        for text in [
            r#"{"files": [{"key": "a.csv", "size_bytes": 3, "etag": "AB"}, "b.csv"]}"#,
            r#"[{"url": "s3://lake/raw/1/a.csv", "size": 3, "md5": "ab"}, {"path": "raw/1/b.csv"}]"#,
            r#"{"entries": [{"url": "s3://lake/raw/1/a.csv", "meta": {"content_length": 3}, "etag": "\"ab\""}, {"key": "b.csv"}]}"#,
            "a.csv,3,ab\nb.csv\n",
            "key,size_bytes,etag\n\"a.csv\", 3, ab\nraw/1/b.csv,,\n",
        ] {
            assert_eq!(parsed(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_true_is_said() {
        for (text, cause) in [
            ("{", "no JSON"),
            ("{}", "no list"),
            (r#"[{"size": 1}]"#, "has no key"),
            (r#"[{"key": "a", "size": -1}]"#, "has no size"),
            (r#"[{"key": "a", "sha256": "x"}]"#, "entry 1 gives what is no sha256: \"x\""),
            (r#"[{"key": "a", "crc32c": 7}]"#, "no crc32c: 7"),
            (r#"["s3://other/a"]"#, "not in bucket lake"),
            (r#"["../a"]"#, "no object's key"),
            (r#"["a", "a"]"#, "twice"),
            ("a,many", "line 1 has no size"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn no_more_checksums_are_given_than_can_be_asked_for() {
        let manifest = |objects: usize| {
            let entries = (0..objects).map(
                |number| serde_json::json!({ "key": format!("{number}.csv"), "crc32": "f007732d" }),
            );
            Value::from_iter(entries).to_string()
        };
        let parsed_all = parsed(&manifest(CHECKSUMMED_MAX)).unwrap();
        assert!(parsed_all.iter().all(|one| one.checksums.len() == 1));
        assert!(parsed(&manifest(CHECKSUMMED_MAX + 1)).unwrap_err().contains("1001 objects"));
    }

    fn there(entries: &[(&str, &str, i64, Option<u64>)]) -> BTreeMap<String, Vec<Entry>> {
        let mut there: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (key, version, second, size) in entries {
            there.entry((*key).to_owned()).or_default().push(Entry {
                key: (*key).to_owned(),
                version_id: Some((*version).to_owned()),
                modified: Timestamp::from_second(*second).unwrap(),
                is_latest: false,
                object: size.map(|size| (size, Some("AB".to_owned()))),
            });
        }
        there
    }

    #[test]
    fn what_is_listed_is_held_to_size_tag_and_version() {
        let entries = [
            ("a", "a1", 1, Some(3)),
            ("a", "a2", 2, Some(4)),
            ("b", "b1", 1, Some(3)),
            ("b", "b2", 2, None),
        ];
        let picked = |listed: Listed| {
            pick(&[listed], there(&entries)).map(|picked| {
                let versions = picked.found.into_iter().filter_map(|entry| entry.version_id);
                (versions.collect::<Vec<_>>(), picked.missing.len())
            })
        };
        assert_eq!(picked(listed("a", Some(4), Some("ab"))), Ok((vec!["a2".to_owned()], 0)));
        let pinned = Listed { version_id: Some("a1".to_owned()), ..listed("a", Some(3), None) };
        assert_eq!(picked(pinned), Ok((vec!["a1".to_owned()], 0)));
        assert_eq!(picked(listed("b", None, None)), Ok((vec![], 1)), "it was deleted");
        assert_eq!(picked(listed("c", None, None)), Ok((vec![], 1)));
        assert!(picked(listed("a", Some(3), None)).unwrap_err().contains("3 bytes, and it is 4"));
        assert!(picked(listed("a", None, Some("cd"))).unwrap_err().contains("eTag cd"));
    }

    #[test]
    fn the_listing_is_of_what_all_of_it_lies_under() {
        let of = |keys: &[&str]| {
            let listed: Vec<_> = keys.iter().map(|key| listed(key, None, None)).collect();
            common_prefix(&listed).to_owned()
        };
        assert_eq!(of(&["raw/1/a", "raw/1/b"]), "raw/1/");
        assert_eq!(of(&["raw/1/ä", "raw/1/ö"]), "raw/1/");
        assert_eq!(of(&["raw/10/a", "raw/1/b"]), "raw/");
        assert_eq!(of(&["raw/1/a"]), "raw/1/");
        assert_eq!(of(&[]), "");
    }
}
