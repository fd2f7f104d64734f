//! What a trigger starts, and what that takes as the input of a run. Pure.

use bellwire_ledger::{CLOCK_SKEW_MAX_S, TargetDetails};
use bellwire_schema::context::RUN_CONTEXT_KEY;
use bellwire_schema::fifo::{group_of, is_fifo};
use bellwire_schema::limits::{
    BATCH_SUBMIT_BYTES_MAX, INPUT_BYTES_MAX, PIPELINE_PARAMETER_NAME_CHARS_MAX,
    PIPELINE_PARAMETER_VALUE_CHARS_MAX, PIPELINE_PARAMETERS_MAX, STEP_FUNCTIONS_INPUT_BYTES_MAX,
};
use bellwire_schema::workflow::{Target, TargetKind};
use bellwire_schema::{Deployment, Envelope, Place};
use serde_json::{Map, Value};

use crate::plan::PlanError;

/// What one `SubmitJob` has beside a job's input and parameters, in bytes: names and
/// ARNs, the other variables, and the JSON around it all.
const BATCH_OVERHEAD_BYTES: usize = 4 * 1_024;

/// What a trigger starts, by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// What it is.
    pub kind: TargetKind,
    /// Its ARN: of a job of AWS Batch, that of its queue.
    pub arn: String,
    /// Of AWS Batch: the job definition's ARN.
    pub job_definition: Option<String>,
    /// How long a lease on a start lasts, in seconds, where the kind needs one: as long
    /// as an invocation may take, and what clocks may differ.
    pub lease_s: Option<u32>,
}

impl Destination {
    /// What the trigger of this name starts; an invocation of the handler takes at most
    /// `timeout_s` seconds.
    #[must_use]
    pub fn of(
        target: &Target,
        deployment: &Deployment,
        place: &Place,
        trigger: &str,
        timeout_s: u32,
    ) -> Self {
        let kind = target.kind();
        Self {
            kind,
            arn: target.arn(deployment, place, trigger),
            job_definition: target.job_definition_arn(place),
            lease_s: kind.needs_lease().then_some(timeout_s + CLOCK_SKEW_MAX_S),
        }
    }

    /// What the ledger keeps of it, beside its ARN, for a start on this event.
    pub(crate) fn details(&self, event: &Envelope) -> TargetDetails {
        TargetDetails {
            lease_s: self.lease_s,
            job_definition: self.job_definition.clone(),
            message_group: is_fifo(&self.arn).then(|| group_of(event)),
        }
    }

    /// The ARN of the run of that name, where it follows from its name: an execution's
    /// does, from its machine's.
    pub(crate) fn run_arn(&self, name: &str) -> Option<String> {
        let (before, machine) = self.arn.split_once(":stateMachine:")?;
        Some(format!("{before}:execution:{machine}:{name}"))
    }

    /// The input of a run where the trigger has no `input`. A pipeline refuses what its
    /// definition does not name, so that it gets nothing then.
    pub(crate) fn default_input(&self, event: &Value) -> Map<String, Value> {
        match self.kind {
            TargetKind::SagemakerPipeline => Map::new(),
            _ => event.as_object().cloned().unwrap_or_default(),
        }
    }

    /// Whether the run's context is in its input. A message to others is the input
    /// alone: what is Bellwire's stands in its attributes.
    pub(crate) const fn has_context_in_input(&self) -> bool {
        !matches!(self.kind, TargetKind::Sns | TargetKind::Sqs)
    }

    /// Whether it would take this input.
    pub(crate) fn check(&self, input: &Map<String, Value>, text: &str) -> Result<(), PlanError> {
        let (bytes, bytes_max) = match self.kind {
            TargetKind::StepFunctions => (text.len(), STEP_FUNCTIONS_INPUT_BYTES_MAX),
            TargetKind::SagemakerPipeline => {
                check_pipeline_parameters(input)?;
                (text.len(), INPUT_BYTES_MAX)
            }
            TargetKind::Batch => {
                // Both as the texts that they become within the request's JSON.
                let whole = Value::from(text).to_string().len();
                let parameters = parameters_of(input).map(|(name, value)| name.len() + value.len());
                (whole + parameters.sum::<usize>(), BATCH_SUBMIT_BYTES_MAX - BATCH_OVERHEAD_BYTES)
            }
            TargetKind::Lambda | TargetKind::Sns | TargetKind::Sqs => (text.len(), INPUT_BYTES_MAX),
        };
        match bytes > bytes_max {
            true => Err(PlanError::InputTooLarge { bytes, bytes_max, kind: self.kind.as_str() }),
            false => Ok(()),
        }
    }
}

/// What of an input is a parameter: its fields that are a text, a number, or true or
/// false, as text.
pub(crate) fn parameters_of(
    input: &Map<String, Value>,
) -> impl Iterator<Item = (&String, String)> + '_ {
    input.iter().filter_map(|(name, value)| Some((name, text_of(value)?)))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Source: Amazon SageMaker API reference, `Parameter`.
fn check_pipeline_parameters(input: &Map<String, Value>) -> Result<(), PlanError> {
    let fault = |name: &str, problem: String| {
        Err(PlanError::NoParameter { field: format!("/{name}"), problem })
    };
    let fields = input.iter().filter(|(name, _)| *name != RUN_CONTEXT_KEY);
    let mut count = 0;
    for (name, value) in fields {
        count += 1;
        let Some(text) = text_of(value) else {
            return fault(name, "is no text, number or boolean, and a parameter is one".to_owned());
        };
        let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !is_word || !(1..=PIPELINE_PARAMETER_NAME_CHARS_MAX).contains(&name.len()) {
            return fault(name, "is no parameter's name".to_owned());
        }
        let chars = text.chars().count();
        if chars > PIPELINE_PARAMETER_VALUE_CHARS_MAX {
            let most = PIPELINE_PARAMETER_VALUE_CHARS_MAX;
            return fault(name, format!("has {chars} characters, and SageMaker takes {most}"));
        }
    }
    if count > PIPELINE_PARAMETERS_MAX {
        let most = PIPELINE_PARAMETERS_MAX;
        return fault("", format!("has {count} parameters, and SageMaker takes {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn destination(kind: TargetKind) -> Destination {
        let arn = "arn:aws:x:eu-west-1:123456789012:x".to_owned();
        Destination { kind, arn, job_definition: None, lease_s: None }
    }

    fn check(kind: TargetKind, input: &Value) -> Result<(), PlanError> {
        let fields = input.as_object().expect("an object");
        destination(kind).check(fields, &input.to_string())
    }

    #[test]
    fn a_pipeline_takes_single_values_of_its_own_length_only() {
        let takes = |input: Value| check(TargetKind::SagemakerPipeline, &input);
        let good = json!({ "a": "x".repeat(1_024), "b-2_": 7, "c": true, "bellwire": { "x": [] } });
        assert_eq!(takes(good), Ok(()));
        let many: Map<String, Value> = (0..201).map(|n| (format!("p{n}"), json!(n))).collect();
        for bad in [
            json!({ "a": [1] }),
            json!({ "a": { "b": 1 } }),
            json!({ "a": null }),
            json!({ "a b": 1 }),
            json!({ "": 1 }),
            json!({ "a": "x".repeat(1_025) }),
            Value::Object(many),
        ] {
            assert!(matches!(takes(bad.clone()), Err(PlanError::NoParameter { .. })), "{bad}");
        }
    }

    #[test]
    fn a_job_s_input_counts_as_the_request_writes_it() {
        // Quotes are escaped within the variable: two bytes each.
        let most = BATCH_SUBMIT_BYTES_MAX - BATCH_OVERHEAD_BYTES;
        let takes = |input: &Value| check(TargetKind::Batch, input);
        let plain = json!({ "data": { "x": "y".repeat(most - 100) } });
        assert_eq!(takes(&plain), Ok(()));
        let quoted = json!({ "data": { "x": "\"".repeat(most / 3) } });
        assert!(matches!(takes(&quoted), Err(PlanError::InputTooLarge { .. })));
        let twice = json!({ "x": "y".repeat(most / 2) });
        assert!(matches!(takes(&twice), Err(PlanError::InputTooLarge { .. })), "a parameter too");
    }

    #[test]
    fn what_takes_a_whole_input_has_a_limit_of_bytes() {
        for (kind, most) in [
            (TargetKind::StepFunctions, STEP_FUNCTIONS_INPUT_BYTES_MAX),
            (TargetKind::Lambda, INPUT_BYTES_MAX),
            (TargetKind::Sns, INPUT_BYTES_MAX),
            (TargetKind::Sqs, INPUT_BYTES_MAX),
        ] {
            let of = |bytes: usize| json!({ "x": "y".repeat(bytes - 8) });
            assert_eq!(check(kind, &of(most)), Ok(()), "{kind:?}");
            assert!(check(kind, &of(most + 1)).is_err(), "{kind:?}");
        }
    }
}
