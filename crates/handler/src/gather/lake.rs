//! S3, as gathering calls it: what a prefix holds, what a manifest says, and the list
//! of members that a run is given.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use bellwire_schema::workflow::ClaimCheck;
use jiff::Timestamp;

use super::checksum::{Algorithm, Kept};
use super::listing::{Entry, ListCursor, ListPage};
use crate::clients::Later;

/// The longest manifest that is read, in bytes: 100,000 lines of 160.
const MANIFEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bucket where lists go, and those whose objects are gathered.
#[derive(Debug, Clone)]
pub(crate) struct Lake {
    client: Later<Client>,
    check: Option<ClaimCheck>,
}

/// A call to S3 that failed: the window is looked at again.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// S3 did not answer as it should.
    #[error("s3:{operation} of {uri} did not succeed: {message}; may the handler's role do it?")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// What it was about.
        uri: String,
        /// What AWS or the SDK says.
        message: String,
    },
    /// Not all of a window's members are in the ledger's index yet.
    #[error("the index shows {found} of the window's {expected} events yet")]
    Lagging {
        /// How many it shows.
        found: u64,
        /// How many there are.
        expected: u64,
    },
}

impl Lake {
    pub(crate) const fn new(client: Later<Client>, check: Option<ClaimCheck>) -> Self {
        Self { client, check }
    }

    /// Whether there is anywhere to put a list.
    pub(super) const fn keeps_lists(&self) -> bool {
        self.check.is_some()
    }

    /// Puts a text beside the payloads that were too large to travel; answers with its
    /// key and URI, or `None` where the workflow has no claim check.
    pub(super) async fn put(
        &self,
        name: &str,
        text: &str,
    ) -> Result<Option<(String, String)>, LakeError> {
        let Some(check) = &self.check else { return Ok(None) };
        let key = format!("{}gathered/{name}", check.prefix);
        let uri = check.uri_of(&key);
        let put = self.client.put_object().bucket(&check.bucket).key(&key);
        let put = put.content_type("application/jsonl").body(text.as_bytes().to_vec().into());
        put.send().await.map_err(|error| unavailable("PutObject", &uri, &error))?;
        Ok(Some((key, uri)))
    }

    /// Reads what was put under a key; `None` where it is not there any more.
    pub(super) async fn get(&self, key: &str) -> Result<Option<String>, LakeError> {
        let Some(check) = &self.check else { return Ok(None) };
        let bytes = self.read(&check.bucket, key, None, usize::MAX).await?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Reads a manifest; `None` where it is not there any more, or too large to be one.
    pub(super) async fn manifest(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<Vec<u8>>, LakeError> {
        self.read(bucket, key, version_id, MANIFEST_BYTES_MAX).await
    }

    /// The checksums that S3 keeps of an object; `None` where it is not there any more.
    pub(super) async fn checksums(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<Kept>, LakeError> {
        let head = self.client.head_object().bucket(bucket).key(key);
        let head = head.set_version_id(version_id.map(str::to_owned));
        let object = match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(object) => object,
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(unavailable("HeadObject", &format!("s3://{bucket}/{key}"), &error));
            }
        };
        let is_of_parts = object.checksum_type() == Some(&ChecksumType::Composite);
        let values = [
            (Algorithm::Crc32, object.checksum_crc32),
            (Algorithm::Crc32C, object.checksum_crc32_c),
            (Algorithm::Crc64Nvme, object.checksum_crc64_nvme),
            (Algorithm::Sha1, object.checksum_sha1),
            (Algorithm::Sha256, object.checksum_sha256),
        ];
        let values =
            values.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?))).collect();
        Ok(Some(Kept { values, is_of_parts }))
    }

    async fn read(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, LakeError> {
        let uri = format!("s3://{bucket}/{key}");
        let get = self.client.get_object().bucket(bucket).key(key);
        let sent = get.set_version_id(version_id.map(str::to_owned)).send().await;
        let mut object = match sent {
            Ok(object) => object,
            Err(error) if matches!(error.code(), Some("NoSuchKey" | "NoSuchVersion")) => {
                return Ok(None);
            }
            Err(error) => return Err(unavailable("GetObject", &uri, &error)),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = object.body.next().await {
            let chunk = chunk.map_err(|error| unavailable("GetObject", &uri, &error))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }

    /// A page of what a prefix holds, all versions of it: on a bucket without
    /// versions that is each object, under the version `null`.
    pub(super) async fn page(
        &self,
        bucket: &str,
        prefix: &str,
        is_flat: bool,
        cursor: &ListCursor,
    ) -> Result<ListPage, LakeError> {
        let uri = format!("s3://{bucket}/{prefix}");
        let page = self
            .client
            .list_object_versions()
            .bucket(bucket)
            .prefix(prefix)
            .set_delimiter(is_flat.then(|| "/".to_owned()))
            .set_key_marker(cursor.key_marker.clone())
            .set_version_id_marker(cursor.version_id_marker.clone())
            .send()
            .await
            .map_err(|error| unavailable("ListObjectVersions", &uri, &error))?;
        let versions = page.versions.unwrap_or_default().into_iter().filter_map(|version| {
            Some(Entry {
                key: version.key?,
                version_id: version.version_id.filter(|version| version != "null"),
                modified: time_of(version.last_modified?)?,
                is_latest: version.is_latest.unwrap_or(false),
                object: Some((
                    version.size.and_then(|size| size.try_into().ok()).unwrap_or(0),
                    version.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
                )),
            })
        });
        let deletions = page.delete_markers.unwrap_or_default().into_iter().filter_map(|marker| {
            Some(Entry {
                key: marker.key?,
                version_id: marker.version_id,
                modified: time_of(marker.last_modified?)?,
                is_latest: marker.is_latest.unwrap_or(false),
                object: None,
            })
        });
        let entries = versions.chain(deletions).collect();
        let next = page.is_truncated.unwrap_or(false).then_some(ListCursor {
            key_marker: page.next_key_marker,
            version_id_marker: page.next_version_id_marker,
            decided: cursor.decided.clone(),
        });
        Ok(ListPage { entries, next })
    }
}

fn time_of(time: aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

fn unavailable(
    operation: &'static str,
    uri: &str,
    error: &(dyn std::error::Error + 'static),
) -> LakeError {
    let message = DisplayErrorContext(error).to_string();
    LakeError::Unavailable { operation, uri: uri.to_owned(), message }
}
