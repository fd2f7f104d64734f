//! CloudWatch dashboards. They take no tags: one is ours where a text on it says so.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::aws::Aws;
use crate::error::{CallError, absent_is_done, absent_is_none, failed};
use crate::policy;
use crate::resource::{Observed, Owner, Properties};

/// A dashboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dashboard {
    /// Its name.
    pub name: String,
    /// What is on it, as CloudWatch keeps it. Source: Amazon CloudWatch API reference,
    /// "Dashboard body structure and syntax".
    pub body: Value,
}

impl Dashboard {
    pub(crate) fn summary(&self) -> String {
        let widgets = self.body["widgets"].as_array().map_or(0, Vec::len);
        format!("{widgets} widgets")
    }
}

/// What stands on every dashboard of a deployment, and on no other.
pub(crate) fn mark(owner: &Owner) -> String {
    let deployment = &owner.deployment;
    let environment = deployment.environment.as_deref().unwrap_or("-");
    format!("bellwire: {} / {environment}", deployment.workflow)
}

pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let found = aws.cloudwatch.get_dashboard().dashboard_name(name).send().await;
    let found = absent_is_none(found.map_err(failed("cloudwatch:GetDashboard", name)))?;
    let Some(found) = found else { return Ok(None) };
    let body = policy::parse_value(found.dashboard_body().unwrap_or_default());
    let mark = mark(owner);
    let widgets = body["widgets"].as_array().into_iter().flatten();
    let mut texts = widgets.filter_map(|widget| widget["properties"]["markdown"].as_str());
    let owned = texts.any(|text| text.lines().any(|line| line == mark));
    let dashboard = Dashboard { name: name.to_owned(), body };
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Dashboard(dashboard)) }))
}

/// Makes it, or makes it what it should be.
pub(crate) async fn put(aws: &Aws, dashboard: &Dashboard) -> Result<(), CallError> {
    let name = &dashboard.name;
    let put = aws.cloudwatch.put_dashboard().dashboard_name(name);
    let put = put.dashboard_body(dashboard.body.to_string()).send().await;
    put.map_err(failed("cloudwatch:PutDashboard", name))?;
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, dashboard: &Dashboard) -> Result<(), CallError> {
    let name = &dashboard.name;
    let deleted = aws.cloudwatch.delete_dashboards().dashboard_names(name).send().await;
    absent_is_done(deleted.map_err(failed("cloudwatch:DeleteDashboards", name)))
}
