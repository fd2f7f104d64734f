//! Roles under a path that the workflow file had before: they are found by name, those
//! that nothing asks for any more by the last apply's record, since IAM lists by path.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::aws::Aws;
use crate::error::CallError;
use crate::kind::role;
use crate::record::{self, RecordSeen};
use crate::resource::{Kind, Observed, Owner, Properties, ResourceId};

/// Calls under way at one time.
const CALLS_MAX: usize = 8;

/// The roles of the last apply that are not among the `asked`: looked for only where the
/// path has changed, or where an apply that may have changed it was not finished.
pub(crate) async fn roles(
    aws: &Aws,
    owner: &Owner,
    seen: &RecordSeen,
    asked: &BTreeSet<ResourceId>,
    found: &[Option<Observed>],
) -> Result<Vec<Observed>, CallError> {
    let path = owner.role_path();
    let has_moved = found.iter().flatten().any(|observed| {
        matches!(&observed.properties, Properties::Role(role) if observed.owned && role.path != path)
    });
    let is_unfinished = seen.generation > 0 && !seen.is_whole;
    if !has_moved && !is_unfinished {
        return Ok(Vec::new());
    }
    let record = record::read(aws, &owner.deployment.ledger_table()).await?;
    let recorded = record.map(|record| record.resources).unwrap_or_default().into_keys();
    let roles: Vec<ResourceId> =
        recorded.filter(|id| id.kind == Kind::Role && !asked.contains(id)).collect();
    let found: Vec<Option<Observed>> = stream::iter(&roles)
        .map(|id| role::observe(aws, owner, &id.name))
        .buffered(CALLS_MAX)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().filter(|observed| observed.owned).collect())
}
