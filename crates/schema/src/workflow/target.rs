//! The kinds of things that a trigger can start, and what holds of all things of a kind.

use serde::{Deserialize, Serialize};

use super::model::{StateMachine, Target};
use crate::names::{Deployment, Place};

/// A kind of thing that a trigger can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A state machine of Step Functions.
    StepFunctions,
    /// A pipeline of SageMaker.
    SagemakerPipeline,
    /// A job of AWS Batch.
    Batch,
    /// A function of Lambda.
    Lambda,
    /// A topic of SNS.
    Sns,
    /// A queue of SQS.
    Sqs,
}

impl TargetKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::StepFunctions,
        Self::SagemakerPipeline,
        Self::Batch,
        Self::Lambda,
        Self::Sns,
        Self::Sqs,
    ];

    /// Its key in a trigger's `start`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StepFunctions => "step-functions",
            Self::SagemakerPipeline => "sagemaker-pipeline",
            Self::Batch => "batch",
            Self::Lambda => "lambda",
            Self::Sns => "sns",
            Self::Sqs => "sqs",
        }
    }

    /// The service that an ARN names.
    const fn service(self) -> &'static str {
        match self {
            Self::StepFunctions => "states",
            Self::SagemakerPipeline => "sagemaker",
            Self::Batch => "batch",
            Self::Lambda => "lambda",
            Self::Sns => "sns",
            Self::Sqs => "sqs",
        }
    }

    /// The kind of what an ARN names.
    ///
    /// ```
    /// use bellwire_schema::workflow::TargetKind;
    /// let arn = "arn:aws:batch:eu-west-1:123456789012:job-queue/gpu";
    /// assert_eq!(TargetKind::of_arn(arn), Some(TargetKind::Batch));
    /// assert_eq!(TargetKind::of_arn("arn:aws:s3:::lake"), None);
    /// ```
    #[must_use]
    pub fn of_arn(arn: &str) -> Option<Self> {
        let service = arn.split(':').nth(2)?;
        Self::ALL.into_iter().find(|kind| kind.service() == service)
    }

    /// The feature of the handler's crate that compiles it in: `target-batch`.
    #[must_use]
    pub fn feature(self) -> String {
        format!("target-{}", self.as_str())
    }

    /// Whether only the ledger keeps a second start back: Batch and Lambda take no
    /// name and no token that would make a second request the first one.
    ///
    /// SNS and SQS take none either, outside of FIFO. But what they deliver they may
    /// deliver twice by their own word, so that a lease would promise nothing to
    /// whoever receives it.
    #[must_use]
    pub const fn needs_lease(self) -> bool {
        matches!(self, Self::Batch | Self::Lambda)
    }

    /// Whether AWS tells how a run of it ended. What it only accepts is closed by that.
    #[must_use]
    pub const fn tells_the_end(self) -> bool {
        matches!(self, Self::StepFunctions | Self::SagemakerPipeline | Self::Batch)
    }
}

impl Target {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> TargetKind {
        match self {
            Self::StepFunctions(_) => TargetKind::StepFunctions,
            Self::SagemakerPipeline(_) => TargetKind::SagemakerPipeline,
            Self::Batch(_) => TargetKind::Batch,
            Self::Lambda(_) => TargetKind::Lambda,
            Self::Sns(_) => TargetKind::Sns,
            Self::Sqs(_) => TargetKind::Sqs,
        }
    }

    /// The ARN of what the trigger of this name starts: of a job of AWS Batch, that of
    /// its queue.
    #[must_use]
    pub fn arn(&self, deployment: &Deployment, place: &Place, trigger: &str) -> String {
        let of_name = |name: &str, arn_of: fn(&Place, &str) -> String| match name {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            name => arn_of(place, name),
        };
        match self {
            Self::StepFunctions(StateMachine::Definition(_)) => {
                place.state_machine_arn(&deployment.state_machine(trigger))
            }
            Self::StepFunctions(StateMachine::Arn(arn)) | Self::Sns(arn) | Self::Sqs(arn) => {
                arn.clone()
            }
            Self::SagemakerPipeline(name) => of_name(name, Place::pipeline_arn),
            Self::Batch(batch) => of_name(&batch.job_queue, Place::job_queue_arn),
            Self::Lambda(name) => of_name(name, Place::function_arn),
        }
    }

    /// The ARN of the job definition, with its revision where it has one; `None` for
    /// whatever is no job of AWS Batch.
    #[must_use]
    pub fn job_definition_arn(&self, place: &Place) -> Option<String> {
        let Self::Batch(batch) = self else { return None };
        Some(match batch.job_definition.as_str() {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            name => place.job_definition_arn(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::BatchTarget;

    #[test]
    fn every_target_has_an_arn_of_its_own_kind() {
        let (deployment, place) =
            (Deployment::new("wine", None), Place::new("eu-west-1", "123456789012"));
        let batch = BatchTarget { job_queue: "gpu".to_owned(), job_definition: "fit:3".to_owned() };
        let arn = |service: &str| format!("arn:aws:{service}:eu-west-1:123456789012:x");
        let targets = [
            Target::StepFunctions(StateMachine::Definition("a.asl.json".to_owned())),
            Target::SagemakerPipeline("fit".to_owned()),
            Target::Batch(batch.clone()),
            Target::Lambda("notify:live".to_owned()),
            Target::Sns(arn("sns")),
            Target::Sqs(arn("sqs")),
        ];
        for (target, kind) in targets.iter().zip(TargetKind::ALL) {
            let arn = target.arn(&deployment, &place, "train");
            assert_eq!((target.kind(), TargetKind::of_arn(&arn)), (kind, Some(kind)), "{arn}");
        }
        assert_eq!(
            targets[2].job_definition_arn(&place).as_deref(),
            Some("arn:aws:batch:eu-west-1:123456789012:job-definition/fit:3")
        );
        let named = Target::Lambda("arn:aws:lambda:us-east-1:1:function:f".to_owned());
        assert_eq!(
            named.arn(&deployment, &place, "train"),
            "arn:aws:lambda:us-east-1:1:function:f"
        );
    }
}
