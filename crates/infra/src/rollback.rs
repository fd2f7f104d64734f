//! Back to the version that served before. A version is frozen with its configuration:
//! so nothing of it is made anew, and the alias only points to it again.

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::desired::ALIAS;
use crate::diff::{changes, fields_of};
use crate::error::CallError;
use crate::kind::alias;
use crate::lease::{self, NoLease};
use crate::plan::Change;
use crate::record::{self, Record};
use crate::resource::{Owner, Properties};

/// What a rollback will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollback {
    /// Each alias that is moved.
    pub moves: Vec<Move>,
    record: Record,
}

/// One alias that is moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The function's name.
    pub function: String,
    /// The version that serves.
    pub from: String,
    /// The one that will.
    pub to: String,
    /// What is otherwise between the two; no value of an environment variable.
    pub changes: Vec<Change>,
    serves: Properties,
}

impl Rollback {
    /// The form for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let moves = self.moves.iter().map(|one| {
            json!({
                "function": one.function,
                "from": one.from,
                "to": one.to,
                "changes": one.changes,
            })
        });
        json!(moves.collect::<Vec<_>>())
    }
}

/// Why nothing was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// No apply is known.
    #[error("no apply of this workflow is recorded here, so there is nothing to go back to")]
    NothingApplied,
    /// The last apply left the versions as they were.
    #[error(
        "the last apply changed no version that served before; to go back further name a function: --function NAME"
    )]
    NothingMoved,
    /// A function has no older version.
    #[error("{function} has no version before {version}, which serves")]
    NoVersionBefore {
        /// The function's name.
        function: String,
        /// The version that serves.
        version: String,
    },
    /// It was deleted.
    #[error(
        "version {version} of {function} is gone; check out what it was made from, and apply that"
    )]
    VersionGone {
        /// The function's name.
        function: String,
        /// The version that is gone.
        version: String,
    },
    /// There is no such alias.
    #[error("{function} has no alias `live`: bellwire apply makes it")]
    NoAlias {
        /// The function's name.
        function: String,
    },
    /// Another apply is under way.
    #[error("an apply is under way ({holder}); wait until it is done")]
    Held {
        /// Whose.
        holder: String,
    },
    /// AWS could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<NoLease> for RollbackError {
    fn from(error: NoLease) -> Self {
        match error {
            NoLease::Held { holder } => Self::Held { holder },
            NoLease::Call(error) => Self::Call(error),
        }
    }
}

/// What would be moved: what the last apply has moved; or, where functions are named,
/// each of them to the version before the one that serves.
pub(crate) async fn plan(
    aws: &Aws,
    owner: &Owner,
    functions: &[String],
) -> Result<Rollback, RollbackError> {
    let record = record::read(aws, &owner.deployment.ledger_table()).await?;
    let record = record.ok_or(RollbackError::NothingApplied)?;
    let mut moves = Vec::new();
    let wanted: Vec<(&String, Option<&String>)> = match functions {
        [] => record.served_before.iter().map(|(name, version)| (name, Some(version))).collect(),
        named => named.iter().map(|name| (name, None)).collect(),
    };
    for (function, to) in wanted {
        let from = alias::version_of(aws, function, ALIAS).await?;
        let no_alias = || RollbackError::NoAlias { function: function.clone() };
        let from = from.ok_or_else(no_alias)?;
        let to = match to {
            Some(version) => version.clone(),
            None => before(aws, function, &from).await?,
        };
        // Another one may have gone back by hand.
        if from != to {
            moves.push(moved(aws, function, from, to).await?);
        }
    }
    if moves.is_empty() {
        return Err(RollbackError::NothingMoved);
    }
    Ok(Rollback { moves, record })
}

async fn before(aws: &Aws, function: &str, version: &str) -> Result<String, RollbackError> {
    let before = alias::version_before(aws, function, version).await?;
    before.ok_or_else(|| RollbackError::NoVersionBefore {
        function: function.to_owned(),
        version: version.to_owned(),
    })
}

async fn moved(aws: &Aws, function: &str, from: String, to: String) -> Result<Move, RollbackError> {
    let serving = async |version: &str| {
        let found = alias::serving(aws, function, ALIAS, version).await?;
        found.map(Properties::Alias).ok_or_else(|| RollbackError::VersionGone {
            function: function.to_owned(),
            version: version.to_owned(),
        })
    };
    let (present, serves) = (serving(&from).await?, serving(&to).await?);
    let changes = changes(&fields_of(&present), &fields_of(&serves));
    Ok(Move { function: function.to_owned(), from, to, changes, serves })
}

/// Moves the aliases, under the lease: one call each, up to the first that fails.
pub(crate) async fn execute(
    aws: &Aws,
    owner: &Owner,
    rollback: &Rollback,
    holder: &str,
) -> Result<(), RollbackError> {
    let table = owner.deployment.ledger_table();
    let lease = lease::acquire(aws, &table, holder, &|_| {}).await?;
    let mut result = Ok(());
    let mut served = Vec::new();
    for one in &rollback.moves {
        result = alias::point_to(aws, &one.function, ALIAS, &one.to).await;
        if result.is_err() {
            break;
        }
        served.push(one.serves.clone());
    }
    let recorded = match served.len() == rollback.moves.len() {
        true => record::rolled_back(aws, &table, rollback.record.clone(), &served).await,
        false => Ok(()),
    };
    let released = lease.release().await;
    Ok(result.and(recorded).and(released)?)
}
