//! S3 buckets that a workflow makes for itself.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, Delete,
    ObjectIdentifier, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    Tag, Tagging, VersioningConfiguration,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Kind, Observed, Owner, Properties, ResourceId, Tags, own_tags};

/// The one region whose name S3 does not take as a location.
const REGION_WITHOUT_LOCATION: &str = "us-east-1";

/// A bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name, which is unique among all accounts.
    pub name: String,
    /// The region that it is made in.
    pub region: String,
    /// Whether all four of S3's blocks of public access are on.
    pub public_access_blocked: bool,
    /// Whether it keeps every version of an object.
    pub versioned: bool,
    /// How what is put into it is encrypted: `AES256`.
    pub encryption: String,
    /// Its resource policy.
    pub policy: Value,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl Bucket {
    pub(crate) fn summary(&self) -> String {
        let facts = [
            if self.public_access_blocked { "private" } else { "public access not blocked" },
            if self.versioned { "versioned" } else { "not versioned" },
            "encrypted",
            if policy::is_tls_only(&self.policy) { "TLS only" } else { "TLS or not" },
        ];
        facts.join(", ")
    }
}

/// Whether a bucket exists and may be seen, whoever made it.
pub(crate) async fn exists(aws: &Aws, name: &str) -> Result<bool, CallError> {
    match aws.s3.head_bucket().bucket(name).send().await {
        Ok(_) => Ok(true),
        // HEAD answers have no body, and so no code.
        Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 404 => Ok(false),
        Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 403 => {
            let message =
                "it exists, but belongs to another account, or s3:ListBucket on it is denied";
            Err(CallError::unexpected("s3:ListBucket", name, message))
        }
        Err(error) => Err(failed("s3:ListBucket", name)(error)),
    }
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    if !exists(aws, name).await? {
        return Ok(None);
    }
    let tags = match aws.known.tags_of(&owner.place.bucket_arn(name)) {
        Some(tags) => tags,
        None => tags_of(aws, name).await?,
    };
    let owned = owner.owns(&tags);
    let block = aws.s3.get_public_access_block().bucket(name).send().await;
    let block = absent_is_none(block.map_err(failed("s3:GetBucketPublicAccessBlock", name)))?;
    let block = block.and_then(|found| found.public_access_block_configuration);
    let versioning = aws.s3.get_bucket_versioning().bucket(name).send().await;
    let versioning = versioning.map_err(failed("s3:GetBucketVersioning", name))?;
    let document = aws.s3.get_bucket_policy().bucket(name).send().await;
    let document = absent_is_none(document.map_err(failed("s3:GetBucketPolicy", name)))?;
    let document = document.and_then(|found| found.policy);
    let is_asked = owned && aws.known.data_matters(&ResourceId::new(Kind::Bucket, name));
    let data = (is_asked && has_objects(aws, name).await?).then(|| "objects".to_owned());
    let bucket = Bucket {
        name: name.to_owned(),
        region: owner.place.region.clone(),
        public_access_blocked: block.is_some_and(|block| {
            [
                block.block_public_acls,
                block.ignore_public_acls,
                block.block_public_policy,
                block.restrict_public_buckets,
            ]
            .into_iter()
            .all(|switch| switch == Some(true))
        }),
        versioned: versioning.status() == Some(&BucketVersioningStatus::Enabled),
        encryption: encryption_of(aws, name).await?,
        policy: document.map_or(Value::Null, |document| policy::parse(&document)),
        tags,
    };
    Ok(Some(Observed { owned, data, ..Observed::ours(Properties::Bucket(bucket)) }))
}

async fn tags_of(aws: &Aws, name: &str) -> Result<Tags, CallError> {
    let tags = aws.s3.get_bucket_tagging().bucket(name).send().await;
    let tags = absent_is_none(tags.map_err(failed("s3:GetBucketTagging", name)))?;
    let tags = tags.map(|found| found.tag_set).unwrap_or_default();
    Ok(own_tags(tags.into_iter().map(|tag| (tag.key, tag.value))))
}

async fn encryption_of(aws: &Aws, name: &str) -> Result<String, CallError> {
    let found = aws.s3.get_bucket_encryption().bucket(name).send().await;
    let found = absent_is_none(found.map_err(failed("s3:GetEncryptionConfiguration", name)))?;
    let rules = found.and_then(|found| found.server_side_encryption_configuration);
    let default = rules
        .iter()
        .flat_map(ServerSideEncryptionConfiguration::rules)
        .find_map(|rule| rule.apply_server_side_encryption_by_default());
    let Some(default) = default else { return Ok(String::new()) };
    // With a key it is that key that matters.
    let algorithm = default.sse_algorithm().as_str();
    Ok(default.kms_master_key_id().unwrap_or(algorithm).to_owned())
}

/// Whether it holds any object, version or delete marker.
async fn has_objects(aws: &Aws, name: &str) -> Result<bool, CallError> {
    let listed = aws.s3.list_object_versions().bucket(name).max_keys(1).send().await;
    let listed = listed.map_err(failed("s3:ListBucketVersions", name))?;
    Ok(!listed.versions().is_empty() || !listed.delete_markers().is_empty())
}

pub(crate) async fn create(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    let location = (bucket.region != REGION_WITHOUT_LOCATION).then(|| {
        let region = BucketLocationConstraint::from(bucket.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let create = aws.s3.create_bucket().bucket(&bucket.name);
    let created = create.set_create_bucket_configuration(location).send().await;
    match created.map_err(failed("s3:CreateBucket", &bucket.name)) {
        Err(error) if error.is_code(&["BucketAlreadyOwnedByYou"]) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    // Tags first: interrupted after this, the next plan knows it for ours.
    set_tags(aws, bucket).await?;
    block_public_access(aws, bucket).await?;
    if bucket.versioned {
        set_versioning(aws, bucket).await?;
    }
    set_encryption(aws, bucket).await?;
    if !bucket.policy.is_null() {
        set_policy(aws, bucket).await?;
    }
    Ok(())
}

async fn set_tags(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    let name = &bucket.name;
    // The call replaces all tags: those that others have put on it stay.
    let found = aws.s3.get_bucket_tagging().bucket(name).send().await;
    let found = absent_is_none(found.map_err(failed("s3:GetBucketTagging", name)))?;
    let foreign = found.map(|found| found.tag_set).unwrap_or_default();
    let foreign = foreign.into_iter().filter(|tag| !bucket.tags.contains_key(&tag.key));
    let ours = bucket.tags.iter().map(|(key, value)| {
        Tag::builder().key(key).value(value).build().expect("key and value are set")
    });
    let tagging = Tagging::builder().set_tag_set(Some(foreign.chain(ours).collect())).build();
    let tagging = tagging.expect("the tags are set");
    let put = aws.s3.put_bucket_tagging().bucket(name).tagging(tagging).send().await;
    put.map_err(failed("s3:PutBucketTagging", name))?;
    Ok(())
}

async fn block_public_access(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    let (name, is_blocked) = (&bucket.name, bucket.public_access_blocked);
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(is_blocked)
        .ignore_public_acls(is_blocked)
        .block_public_policy(is_blocked)
        .restrict_public_buckets(is_blocked)
        .build();
    let put = aws.s3.put_public_access_block().bucket(name);
    let put = put.public_access_block_configuration(block).send().await;
    put.map_err(failed("s3:PutBucketPublicAccessBlock", name))?;
    Ok(())
}

/// S3 suspends versioning and never takes it back: the versions that there are stay.
async fn set_versioning(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    let name = &bucket.name;
    let status = match bucket.versioned {
        true => BucketVersioningStatus::Enabled,
        false => BucketVersioningStatus::Suspended,
    };
    let versioning = VersioningConfiguration::builder().status(status).build();
    let put = aws.s3.put_bucket_versioning().bucket(name);
    let put = put.versioning_configuration(versioning).send().await;
    put.map_err(failed("s3:PutBucketVersioning", name))?;
    Ok(())
}

async fn set_encryption(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    let name = &bucket.name;
    let default = ServerSideEncryptionByDefault::builder();
    let default = match bucket.encryption.starts_with("arn:") {
        true => default
            .sse_algorithm(ServerSideEncryption::AwsKms)
            .kms_master_key_id(&bucket.encryption),
        false => default.sse_algorithm(ServerSideEncryption::from(bucket.encryption.as_str())),
    };
    let default = default.build();
    let default = default.expect("the algorithm is set");
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(default)
        .build();
    let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build();
    let configuration = configuration.expect("the rules are set");
    let put = aws.s3.put_bucket_encryption().bucket(name);
    let put = put.server_side_encryption_configuration(configuration).send().await;
    put.map_err(failed("s3:PutEncryptionConfiguration", name))?;
    Ok(())
}

async fn set_policy(aws: &Aws, bucket: &Bucket) -> Result<(), CallError> {
    if bucket.policy.is_null() {
        let deleted = aws.s3.delete_bucket_policy().bucket(&bucket.name).send().await;
        return absent_is_done(deleted.map_err(failed("s3:DeleteBucketPolicy", &bucket.name)));
    }
    let put = aws.s3.put_bucket_policy().bucket(&bucket.name).policy(bucket.policy.to_string());
    put.send().await.map_err(failed("s3:PutBucketPolicy", &bucket.name))?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, bucket: &Bucket, observed: &Bucket) -> Result<(), CallError> {
    if bucket.public_access_blocked != observed.public_access_blocked {
        block_public_access(aws, bucket).await?;
    }
    if bucket.versioned != observed.versioned {
        set_versioning(aws, bucket).await?;
    }
    if bucket.encryption != observed.encryption {
        set_encryption(aws, bucket).await?;
    }
    if bucket.policy != observed.policy {
        set_policy(aws, bucket).await?;
    }
    if bucket.tags != observed.tags {
        set_tags(aws, bucket).await?;
    }
    Ok(())
}

/// Deletes a bucket; what is in it only where `with_data` says so. S3 itself
/// refuses to delete one that is not empty.
pub(crate) async fn delete(aws: &Aws, bucket: &Bucket, with_data: bool) -> Result<(), CallError> {
    let name = &bucket.name;
    if with_data {
        absent_is_done(empty(aws, name).await)?;
    }
    let deleted = aws.s3.delete_bucket().bucket(name).send().await;
    absent_is_done(deleted.map_err(failed("s3:DeleteBucket", name)))
}

async fn empty(aws: &Aws, name: &str) -> Result<(), CallError> {
    loop {
        // Always the first page: what it lists is gone when it is asked for again.
        let listed = aws.s3.list_object_versions().bucket(name).max_keys(1_000).send().await;
        let listed = listed.map_err(failed("s3:ListBucketVersions", name))?;
        let versions = listed.versions().iter().map(|one| (one.key(), one.version_id()));
        let markers = listed.delete_markers().iter().map(|one| (one.key(), one.version_id()));
        let objects: Vec<ObjectIdentifier> = versions
            .chain(markers)
            .filter_map(|(key, version)| {
                let object = ObjectIdentifier::builder().key(key?);
                object.set_version_id(version.map(str::to_owned)).build().ok()
            })
            .collect();
        if objects.is_empty() {
            return Ok(());
        }
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.expect("the objects are set");
        let deleted = aws.s3.delete_objects().bucket(name).delete(delete).send().await;
        let deleted = deleted.map_err(failed("s3:DeleteObject", name))?;
        if let [error, ..] = deleted.errors() {
            let key = error.key().unwrap_or_default();
            let reason = error.message().or(error.code()).unwrap_or("no reason given");
            let message = format!("{key} was not deleted: {reason}");
            return Err(CallError::unexpected("s3:DeleteObject", name, message));
        }
    }
}
