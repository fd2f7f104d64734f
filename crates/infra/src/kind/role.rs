//! IAM roles, each with one inline policy.

use aws_sdk_iam::types::Tag;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};

/// The name of the inline policy that each role of ours has.
pub const INLINE_POLICY: &str = "bellwire";

/// A role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its path, which makes it ours.
    pub path: String,
    /// Its ARN.
    pub arn: String,
    /// What it is for.
    pub description: String,
    /// Who may assume it.
    pub trust: Value,
    /// What it may do.
    pub policy: Value,
    /// The ARN of a managed policy beyond which it may not go, whatever its own says.
    pub permissions_boundary: Option<String>,
    /// Inline policies beside ours, and ARNs of attached ones: there should be none.
    pub other_policies: Vec<String>,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

impl Role {
    pub(crate) fn summary(&self) -> String {
        let actions = policy::actions(&self.policy);
        format!("{actions} action{} allowed", if actions == 1 { "" } else { "s" })
    }

    fn tag_list(&self) -> Vec<Tag> {
        let tag = |(key, value): (&String, &String)| {
            Tag::builder().key(key).value(value).build().expect("key and value are set")
        };
        self.tags.iter().map(tag).collect()
    }
}

/// The names of all roles under our path.
pub(crate) async fn list(aws: &Aws, owner: &Owner) -> Result<Vec<String>, CallError> {
    let path = owner.role_path();
    let mut names = Vec::new();
    let mut pages = aws.iam.list_roles().path_prefix(&path).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("iam:ListRoles", &path))?;
        let ours = page.roles().iter().filter(|role| role.path() == path);
        names.extend(ours.map(|role| role.role_name().to_owned()));
    }
    Ok(names)
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let role = aws.iam.get_role().role_name(name).send().await;
    let role = absent_is_none(role.map_err(failed("iam:GetRole", name)))?;
    let Some(role) = role.and_then(|found| found.role) else {
        return Ok(None);
    };
    let inline = aws.iam.get_role_policy().role_name(name).policy_name(INLINE_POLICY).send().await;
    let inline = absent_is_none(inline.map_err(failed("iam:GetRolePolicy", name)))?;
    let tags = role.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
    let tags = own_tags(tags);
    let owned = owner.may_own_path(role.path()) && owner.owns(&tags);
    let boundary = role.permissions_boundary();
    let role = Role {
        name: name.to_owned(),
        path: role.path().to_owned(),
        arn: role.arn().to_owned(),
        description: role.description().unwrap_or_default().to_owned(),
        trust: policy::parse_encoded(role.assume_role_policy_document().unwrap_or_default()),
        policy: inline.map_or(Value::Null, |found| policy::parse_encoded(found.policy_document())),
        permissions_boundary: boundary
            .and_then(|boundary| boundary.permissions_boundary_arn().map(str::to_owned)),
        other_policies: other_policies(aws, name).await?,
        tags,
    };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Role(role)) }))
}

async fn other_policies(aws: &Aws, name: &str) -> Result<Vec<String>, CallError> {
    let mut others = Vec::new();
    let inline = aws.iam.list_role_policies().role_name(name).send().await;
    let inline = absent_is_none(inline.map_err(failed("iam:ListRolePolicies", name)))?;
    let inline = inline.map(|found| found.policy_names).unwrap_or_default();
    others.extend(inline.into_iter().filter(|policy| policy != INLINE_POLICY));
    let attached = aws.iam.list_attached_role_policies().role_name(name).send().await;
    let attached = absent_is_none(attached.map_err(failed("iam:ListAttachedRolePolicies", name)))?;
    let attached = attached.and_then(|found| found.attached_policies).unwrap_or_default();
    others.extend(attached.into_iter().filter_map(|policy| policy.policy_arn));
    Ok(others)
}

pub(crate) async fn create(aws: &Aws, role: &Role) -> Result<(), CallError> {
    let created = aws
        .iam
        .create_role()
        .role_name(&role.name)
        .path(&role.path)
        .description(&role.description)
        .assume_role_policy_document(role.trust.to_string())
        .set_permissions_boundary(role.permissions_boundary.clone())
        .set_tags(Some(role.tag_list()))
        .send()
        .await;
    match created.map_err(failed("iam:CreateRole", &role.arn)) {
        Err(error) if !error.is_code(&["EntityAlreadyExists", "EntityAlreadyExistsException"]) => {
            return Err(error);
        }
        _ => {}
    }
    put_policy(aws, role).await
}

async fn put_policy(aws: &Aws, role: &Role) -> Result<(), CallError> {
    if role.policy.is_null() {
        return remove_policies(aws, &role.name, &[INLINE_POLICY.to_owned()]).await;
    }
    let put = aws.iam.put_role_policy().role_name(&role.name).policy_name(INLINE_POLICY);
    let put = put.policy_document(role.policy.to_string()).send().await;
    put.map_err(failed("iam:PutRolePolicy", &role.arn))?;
    Ok(())
}

async fn put_boundary(aws: &Aws, role: &Role) -> Result<(), CallError> {
    let name = &role.name;
    let Some(boundary) = &role.permissions_boundary else {
        let deleted = aws.iam.delete_role_permissions_boundary().role_name(name).send().await;
        let action = "iam:DeleteRolePermissionsBoundary";
        return absent_is_done(deleted.map_err(failed(action, &role.arn)));
    };
    let put = aws.iam.put_role_permissions_boundary().role_name(name);
    let put = put.permissions_boundary(boundary).send().await;
    put.map_err(failed("iam:PutRolePermissionsBoundary", &role.arn))?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, role: &Role, observed: &Role) -> Result<(), CallError> {
    let name = &role.name;
    // First, so that the role never may what it would not be let: an account may demand it.
    if role.permissions_boundary != observed.permissions_boundary {
        put_boundary(aws, role).await?;
    }
    if role.trust != observed.trust {
        let trust = aws.iam.update_assume_role_policy().role_name(name);
        let trust = trust.policy_document(role.trust.to_string()).send().await;
        trust.map_err(failed("iam:UpdateAssumeRolePolicy", &role.arn))?;
    }
    if role.policy != observed.policy {
        put_policy(aws, role).await?;
    }
    if role.description != observed.description {
        let described = aws.iam.update_role().role_name(name).description(&role.description);
        described.send().await.map_err(failed("iam:UpdateRole", &role.arn))?;
    }
    if role.tags != observed.tags {
        let tagged = aws.iam.tag_role().role_name(name).set_tags(Some(role.tag_list()));
        tagged.send().await.map_err(failed("iam:TagRole", &role.arn))?;
    }
    remove_policies(aws, name, &observed.other_policies).await
}

async fn remove_policies(aws: &Aws, role: &str, policies: &[String]) -> Result<(), CallError> {
    for policy in policies {
        if policy.starts_with("arn:") {
            let detach = aws.iam.detach_role_policy().role_name(role).policy_arn(policy);
            absent_is_done(detach.send().await.map_err(failed("iam:DetachRolePolicy", role)))?;
        } else {
            let delete = aws.iam.delete_role_policy().role_name(role).policy_name(policy);
            absent_is_done(delete.send().await.map_err(failed("iam:DeleteRolePolicy", role)))?;
        }
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, role: &Role) -> Result<(), CallError> {
    let policies = [&[INLINE_POLICY.to_owned()], role.other_policies.as_slice()].concat();
    remove_policies(aws, &role.name, &policies).await?;
    let deleted = aws.iam.delete_role().role_name(&role.name).send().await;
    absent_is_done(deleted.map_err(failed("iam:DeleteRole", &role.arn)))
}
