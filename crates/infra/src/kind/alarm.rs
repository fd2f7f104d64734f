//! CloudWatch alarms.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types as sdk;
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::error::{CallError, failed};
use crate::resource::{Observed, Owner, Properties, Tags, own_tags};

/// The Id of what an alarm looks at, in a set of metrics.
pub(crate) const RESULT: &str = "result";

/// An alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What it means, and what to do.
    pub description: String,
    /// What it looks at: the sum of these metrics, in which none counts as nothing.
    pub metrics: Vec<Metric>,
    /// `Sum` or `Maximum`, of each period.
    pub statistic: String,
    /// The length of a period, in seconds.
    pub period_s: u64,
    /// How many periods it looks back on.
    pub periods: u64,
    /// How many of those must break the threshold.
    pub datapoints: u64,
    /// `GreaterThanThreshold` and its like.
    pub comparison: String,
    /// What is compared with, in the metric's own unit.
    pub threshold: u64,
    /// `breaching` or `notBreaching`: what a period without data counts as.
    pub missing_data: String,
    /// The ARNs of the topics that are told when it goes off.
    pub tells: Vec<String>,
    /// The ARNs of the topics that are told when it is over.
    pub tells_when_over: Vec<String>,
    /// Whether it tells them.
    pub enabled: bool,
    /// Its tags, as far as they are ours.
    pub tags: Tags,
}

/// A metric of CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// `AWS/SQS`.
    pub namespace: String,
    /// `ApproximateNumberOfMessagesVisible`.
    pub name: String,
    /// Of which resource.
    pub dimensions: BTreeMap<String, String>,
}

impl Metric {
    /// The metric of one resource, which one dimension names.
    #[must_use]
    pub fn of(namespace: &str, name: &str, (dimension, value): (&str, &str)) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dimensions: BTreeMap::from([(dimension.to_owned(), value.to_owned())]),
        }
    }
}

impl Alarm {
    pub(crate) fn summary(&self) -> String {
        let told = match self.tells.as_slice() {
            [] => "tells nobody".to_owned(),
            all => {
                let names = all.iter().map(|arn| arn.rsplit(':').next().unwrap_or(arn));
                format!("tells {}", names.collect::<Vec<_>>().join(", "))
            }
        };
        let minutes = self.period_s * self.periods / 60;
        let over = match minutes {
            minutes if minutes >= 60 && minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
            minutes => format!("{minutes} min"),
        };
        let names: Vec<&str> = self.metrics.iter().map(|metric| metric.name.as_str()).collect();
        format!("{} over {over}, {told}", names.join(" + "))
    }
}

/// All alarms whose names begin so, without their tags: one call tells of a hundred.
pub(crate) async fn list(aws: &Aws, prefix: &str) -> Result<Vec<Alarm>, CallError> {
    let mut found = Vec::new();
    let request = aws.cloudwatch.describe_alarms().alarm_name_prefix(prefix).max_records(100);
    let mut pages = request.alarm_types(sdk::AlarmType::MetricAlarm).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(failed("cloudwatch:DescribeAlarms", prefix))?;
        found.extend(page.metric_alarms().iter().map(alarm_of));
    }
    Ok(found)
}

fn alarm_of(found: &sdk::MetricAlarm) -> Alarm {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let stats: Vec<&sdk::MetricStat> =
        found.metrics().iter().filter_map(sdk::MetricDataQuery::metric_stat).collect();
    let metrics = match stats.as_slice() {
        [] => vec![Metric {
            namespace: text(found.namespace()),
            name: text(found.metric_name()),
            dimensions: dimensions_of(found.dimensions()),
        }],
        stats => stats.iter().filter_map(|stat| stat.metric()).map(metric_of).collect(),
    };
    let statistic = match stats.first() {
        Some(stat) => text(stat.stat()),
        None => text(found.statistic().map(sdk::Statistic::as_str)),
    };
    let period_s = match stats.first() {
        Some(stat) => stat.period(),
        None => found.period(),
    };
    // An expression of somebody's own is none of ours.
    let expression = found.metrics().iter().find_map(|query| query.expression());
    let is_sum = expression.is_none_or(|found| found == sum_of(metrics.len()));
    let number = |number: Option<i32>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
    Alarm {
        name: text(found.alarm_name()),
        arn: text(found.alarm_arn()),
        description: text(found.alarm_description()),
        metrics: if is_sum { metrics } else { Vec::new() },
        statistic,
        period_s: number(period_s),
        periods: number(found.evaluation_periods()),
        datapoints: number(found.datapoints_to_alarm().or(found.evaluation_periods())),
        comparison: text(found.comparison_operator().map(sdk::ComparisonOperator::as_str)),
        threshold: found.threshold().map_or(0, whole),
        missing_data: text(found.treat_missing_data()),
        tells: found.alarm_actions().to_vec(),
        tells_when_over: found.ok_actions().to_vec(),
        enabled: found.actions_enabled().unwrap_or(true),
        tags: Tags::new(),
    }
}

/// All thresholds of ours are whole numbers; what somebody made of one shows all the same.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and shown")]
fn whole(number: f64) -> u64 {
    number.ceil().max(0.0) as u64
}

fn metric_of(metric: &sdk::Metric) -> Metric {
    Metric {
        namespace: metric.namespace().unwrap_or_default().to_owned(),
        name: metric.metric_name().unwrap_or_default().to_owned(),
        dimensions: dimensions_of(metric.dimensions()),
    }
}

fn dimensions_of(dimensions: &[sdk::Dimension]) -> BTreeMap<String, String> {
    let pair = |one: &sdk::Dimension| {
        (one.name().unwrap_or_default().to_owned(), one.value().unwrap_or_default().to_owned())
    };
    dimensions.iter().map(pair).collect()
}

/// One of those that were listed, with its tags.
pub(crate) async fn observe(
    aws: &Aws,
    owner: &Owner,
    name: &str,
) -> Result<Option<Observed>, CallError> {
    let alarm = match &aws.known.alarms {
        Some(known) => known.get(name).cloned(),
        None => list(aws, name).await?.into_iter().find(|alarm| alarm.name == name),
    };
    let Some(alarm) = alarm else { return Ok(None) };
    let tags = match aws.known.tags_of(&alarm.arn) {
        Some(tags) => tags,
        None => tags_of(aws, &alarm.arn).await?,
    };
    let owned = owner.owns(&tags);
    Ok(Some(Observed { owned, ..Observed::ours(Properties::Alarm(Alarm { tags, ..alarm })) }))
}

async fn tags_of(aws: &Aws, arn: &str) -> Result<Tags, CallError> {
    let found = aws.cloudwatch.list_tags_for_resource().resource_arn(arn).send().await;
    let found = found.map_err(failed("cloudwatch:ListTagsForResource", arn))?;
    let pair = |tag: &sdk::Tag| {
        (tag.key().unwrap_or_default().to_owned(), tag.value().unwrap_or_default().to_owned())
    };
    Ok(own_tags(found.tags().iter().map(pair)))
}

/// `FILL(m0, 0) + FILL(m1, 0)`: a metric that has not come counts as nothing, or the sum
/// would be nothing as well. Source: Amazon CloudWatch user guide, "Using metric math".
pub(crate) fn sum_of(metrics: usize) -> String {
    let filled: Vec<String> = (0..metrics).map(|index| format!("FILL(m{index}, 0)")).collect();
    filled.join(" + ")
}

fn sdk_metric(metric: &Metric) -> sdk::Metric {
    sdk::Metric::builder()
        .namespace(&metric.namespace)
        .metric_name(&metric.name)
        .set_dimensions(Some(sdk_dimensions(metric)))
        .build()
}

fn sdk_dimensions(metric: &Metric) -> Vec<sdk::Dimension> {
    let dimension = |(name, value): (&String, &String)| {
        sdk::Dimension::builder().name(name).value(value).build()
    };
    metric.dimensions.iter().map(dimension).collect()
}

/// Whatever CloudWatch keeps of a number of seconds or periods has 32 bits.
fn short(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn queries(alarm: &Alarm) -> Vec<sdk::MetricDataQuery> {
    let query = |(index, metric): (usize, &Metric)| {
        let stat = sdk::MetricStat::builder()
            .metric(sdk_metric(metric))
            .period(short(alarm.period_s))
            .stat(&alarm.statistic)
            .build();
        sdk::MetricDataQuery::builder()
            .id(format!("m{index}"))
            .metric_stat(stat)
            .return_data(false)
            .build()
    };
    let sum = sdk::MetricDataQuery::builder()
        .id(RESULT)
        .expression(sum_of(alarm.metrics.len()))
        .return_data(true)
        .build();
    alarm.metrics.iter().enumerate().map(query).chain([sum]).collect()
}

/// Makes it, or makes it what it should be: `PutMetricAlarm` writes the whole of it, but
/// for the tags of one that is there.
pub(crate) async fn put(aws: &Aws, alarm: &Alarm) -> Result<(), CallError> {
    let tag = |(key, value): (&String, &String)| sdk::Tag::builder().key(key).value(value).build();
    let put = aws
        .cloudwatch
        .put_metric_alarm()
        .alarm_name(&alarm.name)
        .alarm_description(&alarm.description)
        .evaluation_periods(short(alarm.periods))
        .datapoints_to_alarm(short(alarm.datapoints))
        .comparison_operator(sdk::ComparisonOperator::from(alarm.comparison.as_str()))
        .threshold(f64::from(short(alarm.threshold)))
        .treat_missing_data(&alarm.missing_data)
        .actions_enabled(alarm.enabled)
        .set_alarm_actions(Some(alarm.tells.clone()))
        .set_ok_actions(Some(alarm.tells_when_over.clone()))
        .set_tags(Some(alarm.tags.iter().map(tag).collect()));
    let put = match alarm.metrics.as_slice() {
        [metric] => put
            .namespace(&metric.namespace)
            .metric_name(&metric.name)
            .set_dimensions(Some(sdk_dimensions(metric)))
            .statistic(sdk::Statistic::from(alarm.statistic.as_str()))
            .period(short(alarm.period_s)),
        _ => put.set_metrics(Some(queries(alarm))),
    };
    put.send().await.map_err(failed("cloudwatch:PutMetricAlarm", &alarm.name))?;
    Ok(())
}

pub(crate) async fn update(aws: &Aws, alarm: &Alarm, observed: &Alarm) -> Result<(), CallError> {
    put(aws, alarm).await?;
    if alarm.tags != observed.tags {
        let tag =
            |(key, value): (&String, &String)| sdk::Tag::builder().key(key).value(value).build();
        let tags = alarm.tags.iter().map(tag).collect();
        let tagged = aws.cloudwatch.tag_resource().resource_arn(&alarm.arn).set_tags(Some(tags));
        tagged.send().await.map_err(failed("cloudwatch:TagResource", &alarm.arn))?;
    }
    Ok(())
}

pub(crate) async fn delete(aws: &Aws, alarm: &Alarm) -> Result<(), CallError> {
    let deleted = aws.cloudwatch.delete_alarms().alarm_names(&alarm.name).send().await;
    crate::error::absent_is_done(deleted.map_err(failed("cloudwatch:DeleteAlarms", &alarm.name)))
}
