//! A proof that what was applied works: a probe goes through the topic, the filter and
//! the handler, which writes it into the ledger, and starts nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sns::types::MessageAttributeValue;
use bellwire_ledger::{PROBE_VERSION_ATTRIBUTE, probe_key};
use bellwire_schema::attributes::attributes_of;
use bellwire_schema::fifo::{FifoIds, is_fifo};
use bellwire_schema::workflow::Workflow;
use bellwire_schema::{Envelope, EventType};
use tokio::time::Instant;

use crate::aws::Aws;
use crate::desired::ALIAS;
use crate::diff::warning;
use crate::error::{CallError, failed};
use crate::kind::alias;
use crate::plan::{Action, Plan};
use crate::resource::{Kind, Owner};

/// Where the probe comes from.
const SOURCE: &str = "/bellwire/prove";
/// SNS may take this long until it follows a new or changed filter policy. Source: Amazon
/// SNS developer guide, "Message filtering".
pub const FILTER_ACTS_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long a handler may take that is there: it starts, and Lambda tries twice more.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How often the probe's row is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a probe is sent again: SNS drops one that a filter does not let through yet.
const SEND_EVERY: Duration = Duration::from_secs(15);

/// What a proof takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// A name of this proof that no other has.
    pub name: String,
    /// How long the probe may take where its way has been there before.
    pub within: Duration,
    /// How long where the filter was changed: what does not come then is unproven.
    pub within_after_filter: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The probe came through.
    Proven {
        /// How long it took.
        took: Duration,
        /// The version of the handler that had it.
        version: String,
    },
    /// It did not, and SNS may not follow the new filter yet.
    Unproven {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It did not, and should have.
    Failed {
        /// How long it was waited for.
        waited: Duration,
        /// Another version of the handler that had it, where one did.
        other_version: Option<String>,
    },
}

impl Proof {
    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Proven { .. } => "proven",
            Self::Unproven { .. } => "unproven",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven { took, version } => write!(
                f,
                "Proven: a probe went through topic, filter and handler (version {version}) in {:.1} s.",
                took.as_secs_f64()
            ),
            Self::Unproven { waited } => write!(
                f,
                "Unproven: no probe came through within {:.0} s, and SNS may take 15 minutes to follow a changed filter; bellwire apply --prove tries again.",
                waited.as_secs_f64()
            ),
            Self::Failed { waited, other_version } => {
                write!(
                    f,
                    "Not proven: no probe came through within {:.0} s",
                    waited.as_secs_f64()
                )?;
                match other_version {
                    Some(version) => {
                        write!(f, ", but to version {version}, which should not serve any more")
                    }
                    None => write!(f, "; the handler's log group and the dead queue say more"),
                }
            }
        }
    }
}

/// Sends probes until one is in the ledger, or it took too long.
pub(crate) async fn prove(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
    plan: &Plan,
    trial: &Trial,
) -> Result<Proof, CallError> {
    let handler = owner.deployment.handler();
    let wanted = alias::version_of(aws, &handler, ALIAS).await?.unwrap_or_default();
    let is_filter_new = is_filter_new(plan);
    let within = if is_filter_new { trial.within_after_filter } else { trial.within };
    let (began, mut sent, mut other_version) = (Instant::now(), 0_u32, None);
    let mut send_at = began;
    loop {
        if Instant::now() >= send_at {
            send(aws, owner, workflow, &trial.name, sent).await?;
            (sent, send_at) = (sent + 1, send_at + SEND_EVERY);
        }
        match version_that_had(aws, &owner.deployment.ledger_table(), &trial.name).await? {
            Some(version) if version == wanted => {
                return Ok(Proof::Proven { took: began.elapsed(), version });
            }
            Some(version) => other_version = Some(version),
            None => {}
        }
        let waited = began.elapsed();
        if waited >= within {
            return Ok(match is_filter_new {
                true => Proof::Unproven { waited },
                false => Proof::Failed { waited, other_version },
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether SNS may not know yet what to let through.
fn is_filter_new(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| {
        step.id.kind == Kind::Subscription
            && (step.action == Action::Create || warning(step).is_some())
    })
}

async fn send(
    aws: &Aws,
    owner: &Owner,
    workflow: &Workflow,
    name: &str,
    number: u32,
) -> Result<(), CallError> {
    let topic = owner.place.topic_arn(&owner.deployment.topic(workflow.topic.kind));
    // An event of its own each time, so that a FIFO topic takes none for a repetition.
    let mut event = Envelope::new(&format!("{name}-{number}"), SOURCE, EventType::probe());
    event.subject = Some(name.to_owned());
    event.time = Some(jiff::Timestamp::now());
    let unexpected = |error: String| CallError::unexpected("sns:Publish", &topic, error);
    let attributes =
        attributes_of(&event, &BTreeMap::new()).map_err(|error| unexpected(error.to_string()))?;
    let mut request = aws.sns.publish().topic_arn(&topic).message(event.to_json());
    for attribute in attributes {
        let value = MessageAttributeValue::builder()
            .data_type(attribute.data_type.as_str())
            .string_value(attribute.value)
            .build()
            .map_err(|error| unexpected(error.to_string()))?;
        request = request.message_attributes(attribute.name, value);
    }
    if is_fifo(&topic) {
        let FifoIds { group, deduplication } = FifoIds::of(&event);
        request = request.message_group_id(group).message_deduplication_id(deduplication);
    }
    request.send().await.map_err(failed("sns:Publish", &topic))?;
    Ok(())
}

/// The version of the handler that had the probe last, where one had it.
async fn version_that_had(aws: &Aws, table: &str, name: &str) -> Result<Option<String>, CallError> {
    let found = aws.dynamodb.get_item().table_name(table).consistent_read(true);
    let found = found.key("pk", AttributeValue::S(probe_key(name))).send().await;
    let row = found.map_err(failed("dynamodb:GetItem", table))?.item.unwrap_or_default();
    let version = row.get(PROBE_VERSION_ATTRIBUTE).and_then(|value| value.as_s().ok());
    Ok(version.cloned())
}
