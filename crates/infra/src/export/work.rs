//! What works, and what sets it to work: roles, functions, state machines, rules, alarms.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Export, tag_list};
use crate::kind::alarm::{Alarm, Metric};
use crate::kind::alias::Alias;
use crate::kind::dashboard::Dashboard;
use crate::kind::event_source_mapping::EventSourceMapping;
use crate::kind::function::{Function, Release};
use crate::kind::function_policy::FunctionPolicy;
use crate::kind::invoke_config::InvokeConfig;
use crate::kind::permission::Permission;
use crate::kind::role::{INLINE_POLICY, Role};
use crate::kind::rule::{Rule, Target};
use crate::kind::state_machine::StateMachine;
use crate::resource::ResourceId;

impl Export<'_> {
    pub(super) fn role(&mut self, id: &ResourceId, role: &Role, after: &[ResourceId]) {
        let policy = json!({ "PolicyName": INLINE_POLICY, "PolicyDocument": role.policy });
        let properties = json!({
            "RoleName": role.name,
            "Path": role.path,
            "Description": role.description,
            "AssumeRolePolicyDocument": role.trust,
            "Policies": [policy],
            "PermissionsBoundary": role.permissions_boundary,
            "Tags": tag_list(&role.tags),
        });
        self.put(id, "AWS::IAM::Role", properties, after);
    }

    pub(super) fn function(&mut self, id: &ResourceId, function: &Function, after: &[ResourceId]) {
        let release = &function.release;
        let properties = json!({
            "FunctionName": function.name,
            "Description": function.description,
            "Runtime": release.runtime,
            "Handler": "bootstrap",
            "Code": self.code(&release.code_sha256),
            "Role": release.role_arn,
            "Architectures": [release.architecture],
            "MemorySize": release.memory_mb,
            "Timeout": release.timeout_s,
            "Environment": { "Variables": release.environment },
            "Tags": tag_list(&function.tags),
        });
        self.put(id, "AWS::Lambda::Function", properties, after);
    }

    /// A version is published for each new release, since its logical id is made of that,
    /// and stays when the alias goes on to the next.
    pub(super) fn alias(&mut self, id: &ResourceId, alias: &Alias, after: &[ResourceId]) {
        let version = format!("Version{}", hash_of(&alias.serves));
        let logical = self.logical.part_of(id, &version);
        let published = json!({
            "Type": "AWS::Lambda::Version",
            "Properties": { "FunctionName": alias.function },
            "DependsOn": self.logical.of_all(after),
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
        });
        self.resources.insert(logical.clone(), published);
        let properties = json!({
            "FunctionName": alias.function,
            "Name": alias.alias,
            "FunctionVersion": { "Fn::GetAtt": [logical, "Version"] },
        });
        self.put(id, "AWS::Lambda::Alias", properties, &[]);
    }

    pub(super) fn invoke_config(
        &mut self,
        id: &ResourceId,
        config: &InvokeConfig,
        after: &[ResourceId],
    ) {
        let on_failure = config.on_failure_arn.as_ref();
        let properties = json!({
            "FunctionName": config.function,
            "Qualifier": config.alias,
            "MaximumRetryAttempts": config.retries_max,
            "MaximumEventAgeInSeconds": config.event_age_max_s,
            "DestinationConfig":
                on_failure.map(|arn| json!({ "OnFailure": { "Destination": arn } })),
        });
        self.put(id, "AWS::Lambda::EventInvokeConfig", properties, after);
    }

    pub(super) fn permission(
        &mut self,
        id: &ResourceId,
        permission: &Permission,
        after: &[ResourceId],
    ) {
        let function = format!("{}:{}", permission.function, permission.alias);
        let properties = invocation(&function, &permission.principal, &permission.source_arn);
        self.put(id, "AWS::Lambda::Permission", properties, after);
    }

    pub(super) fn function_policy(
        &mut self,
        id: &ResourceId,
        policy: &FunctionPolicy,
        after: &[ResourceId],
    ) {
        let properties = invocation(&policy.function_arn, &policy.principal, &policy.source_arn);
        self.put(id, "AWS::Lambda::Permission", properties, after);
    }

    pub(super) fn state_machine(
        &mut self,
        id: &ResourceId,
        machine: &StateMachine,
        after: &[ResourceId],
    ) {
        let properties = json!({
            "StateMachineName": machine.name,
            "RoleArn": machine.role_arn,
            "DefinitionString": machine.definition.to_string(),
            "Tags": tag_list(&machine.tags),
        });
        self.put(id, "AWS::StepFunctions::StateMachine", properties, after);
    }

    pub(super) fn rule(&mut self, id: &ResourceId, rule: &Rule, after: &[ResourceId]) {
        let target = |(id, target): (&String, &Target)| {
            let dead = target.dead_queue_arn.as_ref();
            json!({
                "Id": id,
                "Arn": target.arn,
                "Input": (!target.input.is_null()).then(|| target.input.to_string()),
                "DeadLetterConfig": dead.map(|arn| json!({ "Arn": arn })),
            })
        };
        let properties = json!({
            "Name": rule.name,
            "Description": rule.description,
            "ScheduleExpression": rule.schedule,
            "EventPattern": rule.pattern,
            "State": if rule.enabled { "ENABLED" } else { "DISABLED" },
            "Targets": rule.targets.iter().map(target).collect::<Vec<_>>(),
            "Tags": tag_list(&rule.tags),
        });
        self.put(id, "AWS::Events::Rule", properties, after);
    }

    pub(super) fn mapping(
        &mut self,
        id: &ResourceId,
        mapping: &EventSourceMapping,
        after: &[ResourceId],
    ) {
        let concurrency = mapping.concurrency_max;
        let window = (mapping.batching_window_s > 0).then_some(mapping.batching_window_s);
        let properties = json!({
            "EventSourceArn": mapping.queue_arn,
            "FunctionName": mapping.function_arn,
            "BatchSize": mapping.batch_size,
            "MaximumBatchingWindowInSeconds": window,
            "ScalingConfig": concurrency.map(|max| json!({ "MaximumConcurrency": max })),
            "FunctionResponseTypes":
                mapping.reports_failures.then_some(["ReportBatchItemFailures"]),
            "Enabled": mapping.enabled,
            "Tags": tag_list(&mapping.tags),
        });
        self.put(id, "AWS::Lambda::EventSourceMapping", properties, after);
    }

    pub(super) fn alarm(&mut self, id: &ResourceId, alarm: &Alarm, after: &[ResourceId]) {
        let mut properties = json!({
            "AlarmName": alarm.name,
            "AlarmDescription": alarm.description,
            "EvaluationPeriods": alarm.periods,
            "DatapointsToAlarm": alarm.datapoints,
            "ComparisonOperator": alarm.comparison,
            "Threshold": alarm.threshold,
            "TreatMissingData": alarm.missing_data,
            "ActionsEnabled": alarm.enabled,
            "AlarmActions": alarm.tells,
            "OKActions": alarm.tells_when_over,
            "Tags": tag_list(&alarm.tags),
        });
        match alarm.metrics.as_slice() {
            [metric] => {
                properties["Namespace"] = json!(metric.namespace);
                properties["MetricName"] = json!(metric.name);
                properties["Dimensions"] = dimensions(metric);
                properties["Statistic"] = json!(alarm.statistic);
                properties["Period"] = json!(alarm.period_s);
            }
            metrics => properties["Metrics"] = queries(alarm, metrics),
        }
        self.put(id, "AWS::CloudWatch::Alarm", properties, after);
    }

    pub(super) fn dashboard(
        &mut self,
        id: &ResourceId,
        dashboard: &Dashboard,
        after: &[ResourceId],
    ) {
        let body = dashboard.body.to_string();
        let properties = json!({ "DashboardName": dashboard.name, "DashboardBody": body });
        self.put(id, "AWS::CloudWatch::Dashboard", properties, after);
    }
}

fn hash_of(release: &Release) -> String {
    let text = serde_json::to_vec(release).expect("a release has only text keys");
    Sha256::digest(text)[..6].iter().map(|byte| format!("{byte:02X}")).collect()
}

fn invocation(function: &str, principal: &str, source_arn: &str) -> Value {
    json!({
        "Action": "lambda:InvokeFunction",
        "FunctionName": function,
        "Principal": principal,
        "SourceArn": source_arn,
    })
}

fn dimensions(metric: &Metric) -> Value {
    let dimension = |(name, value): (&String, &String)| json!({ "Name": name, "Value": value });
    metric.dimensions.iter().map(dimension).collect()
}

/// The metrics of an alarm over several, and their sum.
fn queries(alarm: &Alarm, metrics: &[Metric]) -> Value {
    let query = |(index, metric): (usize, &Metric)| {
        json!({
            "Id": format!("m{index}"),
            "ReturnData": false,
            "MetricStat": {
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": dimensions(metric),
                },
                "Period": alarm.period_s,
                "Stat": alarm.statistic,
            },
        })
    };
    let sum = json!({
        "Id": crate::kind::alarm::RESULT,
        "Expression": crate::kind::alarm::sum_of(metrics.len()),
        "ReturnData": true,
    });
    metrics.iter().enumerate().map(query).chain([sum]).collect()
}
