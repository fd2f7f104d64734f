//! What every function has, and the workflow's own functions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ALIAS, Desired};
use crate::inputs::Artifact;
use crate::kind::alias::Alias;
use crate::kind::function::{Function, Release};
use crate::kind::log_group::LogGroup;
use crate::kind::role::Role;
use crate::policy;
use crate::resource::{Kind, Properties, ResourceId};

/// The log group that Lambda writes a function's logs to.
#[must_use]
pub fn log_group_of(function: &str) -> String {
    format!("/aws/lambda/{function}")
}

impl Desired<'_> {
    pub(super) fn user_function(&mut self, settings: &bellwire_schema::workflow::Function) {
        let name = self.owner.deployment.function(&settings.name);
        let artifact = self.inputs.functions.get(&settings.name).cloned().unwrap_or_default();
        let release = self.release(
            &name,
            &artifact,
            settings.memory_mb,
            settings.timeout_s,
            &settings.environment,
        );
        let function = Function {
            arn: self.owner.place.function_arn(&name),
            description: format!(
                "Function {} of Bellwire workflow {}",
                settings.name, self.workflow.name
            ),
            release: release.clone(),
            tags: self.owner.tags(),
            name: name.clone(),
        };
        let policy = policy::function(self.owner, &name, &settings.access);
        self.function(function, policy, settings.log_retention_days, vec![]);
        self.alias(&name, release, vec![]);
    }

    /// Role, log group and function, which comes after these and what `more` names.
    pub(super) fn function(
        &mut self,
        function: Function,
        policy: Value,
        retention_days: u32,
        more: Vec<ResourceId>,
    ) {
        let name = function.name.clone();
        let log_group = LogGroup {
            name: log_group_of(&name),
            arn: self.owner.place.log_group_arn(&log_group_of(&name)),
            retention_days: i32::try_from(retention_days).ok(),
            tags: self.owner.tags(),
        };
        self.role(&name, function.description.clone(), policy::trust_lambda(), policy);
        let parts = vec![
            ResourceId::new(Kind::Role, &name),
            ResourceId::new(Kind::LogGroup, &log_group.name),
        ];
        let depends_on = [parts, more].concat();
        self.add(Properties::LogGroup(log_group), vec![]);
        self.add(Properties::Function(function), depends_on);
    }

    pub(super) fn role(&mut self, name: &str, description: String, trust: Value, policy: Value) {
        let role = Role {
            name: name.to_owned(),
            path: self.owner.role_path(),
            arn: self.owner.role_arn(name),
            description,
            trust,
            policy,
            // Whoever asks for one says so for all roles.
            permissions_boundary: None,
            other_policies: Vec::new(),
            tags: self.owner.tags(),
        };
        self.add(Properties::Role(role), vec![]);
    }

    pub(super) fn release(
        &self,
        name: &str,
        artifact: &Artifact,
        memory_mb: u32,
        timeout_s: u32,
        environment: &BTreeMap<String, String>,
    ) -> Release {
        let mut all = BTreeMap::from([("OTEL_SERVICE_NAME".to_owned(), name.to_owned())]);
        if let Some(environment) = &self.owner.deployment.environment {
            all.insert("BELLWIRE_ENVIRONMENT".to_owned(), environment.clone());
        }
        if let Some(endpoint) = &self.workflow.telemetry.otlp_endpoint {
            all.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.clone());
        }
        // What the user sets has the last word.
        all.extend(environment.clone());
        Release {
            code_sha256: artifact.code_sha256.clone(),
            architecture: artifact.architecture.clone(),
            runtime: "provided.al2023".to_owned(),
            role_arn: self.owner.role_arn(name),
            memory_mb,
            timeout_s,
            environment: all,
        }
    }

    pub(super) fn alias(&mut self, function: &str, serves: Release, more: Vec<ResourceId>) {
        let depends_on = [vec![ResourceId::new(Kind::Function, function)], more].concat();
        let alias = Alias { function: function.to_owned(), alias: ALIAS.to_owned(), serves };
        self.add(Properties::Alias(alias), depends_on);
    }
}
