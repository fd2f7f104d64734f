//! Everything that there is in a local cloud, whoever's it is, a line each: by which two
//! states of it are compared.

use std::collections::BTreeMap;

use aws_config::SdkConfig;

/// Lines, and how often there is one: twice would be once too often.
pub(crate) type Everything = BTreeMap<String, u32>;

pub(crate) async fn everything(config: &SdkConfig) -> Everything {
    let parts = futures::join!(
        messaging(config),
        storage(config),
        functions(config),
        identities(config),
        workflows(config),
        watching(config),
    );
    let mut all = Everything::new();
    for line in [parts.0, parts.1, parts.2, parts.3, parts.4, parts.5].concat() {
        *all.entry(line).or_default() += 1;
    }
    all
}

async fn messaging(config: &SdkConfig) -> Vec<String> {
    let (sns, sqs) = (aws_sdk_sns::Client::new(config), aws_sdk_sqs::Client::new(config));
    let mut lines = Vec::new();
    let topics = sns.list_topics().send().await.expect("listed");
    lines.extend(topics.topics().iter().map(|topic| format!("{:?}", topic.topic_arn())));
    let subscriptions = sns.list_subscriptions().send().await.expect("listed");
    for one in subscriptions.subscriptions() {
        let arn = one.subscription_arn().expect("an ARN");
        // Of one that is not confirmed nothing can be read.
        if !arn.starts_with("arn:") {
            lines.push(format!("{:?} -> {:?}", one.topic_arn(), one.endpoint()));
            continue;
        }
        let attributes = sns.get_subscription_attributes().subscription_arn(arn).send().await;
        let attributes = attributes.expect("read").attributes.unwrap_or_default();
        let filter = attributes.get("FilterPolicy").cloned().unwrap_or_default();
        lines.push(format!("{:?} -> {:?} {filter}", one.topic_arn(), one.endpoint()));
    }
    let queues = sqs.list_queues().max_results(1_000).send().await.expect("listed");
    lines.extend(queues.queue_urls().iter().cloned());
    lines
}

async fn storage(config: &SdkConfig) -> Vec<String> {
    let (s3, dynamodb) = (aws_sdk_s3::Client::new(config), aws_sdk_dynamodb::Client::new(config));
    let mut lines = Vec::new();
    let buckets = s3.list_buckets().send().await.expect("listed");
    for bucket in buckets.buckets().iter().filter_map(|bucket| bucket.name()) {
        lines.push(format!("bucket {bucket}"));
        let told = s3.get_bucket_notification_configuration().bucket(bucket).send().await;
        let queues = told.expect("read").queue_configurations.unwrap_or_default();
        let entry = |queue: aws_sdk_s3::types::QueueConfiguration| {
            format!("entry {bucket} {:?} {:?}", queue.id, queue.filter)
        };
        lines.extend(queues.into_iter().map(entry));
    }
    let tables = dynamodb.list_tables().send().await.expect("listed");
    lines.extend(tables.table_names().iter().map(|name| format!("table {name}")));
    lines
}

async fn functions(config: &SdkConfig) -> Vec<String> {
    let lambda = aws_sdk_lambda::Client::new(config);
    let mut lines = Vec::new();
    let functions = lambda.list_functions().send().await.expect("listed");
    for function in functions.functions().iter().filter_map(|function| function.function_name()) {
        let serves = lambda.get_function_configuration().function_name(function).qualifier("live");
        let serves = match serves.send().await {
            Ok(found) => format!("{:?} {:?}", found.code_sha256, found.memory_size),
            Err(_) => "no alias".to_owned(),
        };
        let policy = lambda.get_policy().function_name(function).qualifier("live").send().await;
        let policy = policy.ok().and_then(|found| found.policy).unwrap_or_default();
        let sids = policy.matches("\"Sid\"").count();
        let versions = lambda.list_versions_by_function().function_name(function).send().await;
        let versions = versions.expect("listed").versions.unwrap_or_default().len();
        lines.push(format!("function {function} {serves} {sids} {versions}"));
    }
    let mappings = lambda.list_event_source_mappings().send().await.expect("listed");
    let mapping = |one: &aws_sdk_lambda::types::EventSourceMappingConfiguration| {
        format!("mapping {:?} {:?}", one.event_source_arn, one.function_arn)
    };
    lines.extend(mappings.event_source_mappings().iter().map(mapping));
    lines
}

async fn identities(config: &SdkConfig) -> Vec<String> {
    let iam = aws_sdk_iam::Client::new(config);
    let mut lines = Vec::new();
    for role in iam.list_roles().max_items(1_000).send().await.expect("listed").roles() {
        let policy = iam.get_role_policy().role_name(role.role_name()).policy_name("bellwire");
        let policy = policy.send().await.map(|found| found.policy_document).unwrap_or_default();
        lines.push(format!("role {} {policy}", role.arn()));
    }
    lines
}

async fn workflows(config: &SdkConfig) -> Vec<String> {
    let (sfn, events) =
        (aws_sdk_sfn::Client::new(config), aws_sdk_eventbridge::Client::new(config));
    let logs = aws_sdk_cloudwatchlogs::Client::new(config);
    let mut lines = Vec::new();
    let machines = sfn.list_state_machines().max_results(1_000).send().await.expect("listed");
    lines.extend(machines.state_machines().iter().map(|one| one.state_machine_arn().to_owned()));
    let rules = events.list_rules().send().await.expect("listed");
    for rule in rules.rules().iter().filter_map(|rule| rule.name()) {
        let targets = events.list_targets_by_rule().rule(rule).send().await.expect("listed");
        lines.push(format!("rule {rule} {}", targets.targets().len()));
    }
    let groups = logs.describe_log_groups().send().await.expect("listed");
    lines.extend(groups.log_groups().iter().map(|group| format!("{:?}", group.log_group_name())));
    lines
}

async fn watching(config: &SdkConfig) -> Vec<String> {
    let cloudwatch = aws_sdk_cloudwatch::Client::new(config);
    let mut lines = Vec::new();
    let alarms = cloudwatch.describe_alarms().send().await.expect("described");
    lines.extend(alarms.metric_alarms().iter().map(|alarm| {
        format!("alarm {:?} {:?} {:?}", alarm.alarm_name(), alarm.threshold(), alarm.metrics())
    }));
    let dashboards = cloudwatch.list_dashboards().send().await.expect("listed");
    for name in dashboards.dashboard_entries().iter().filter_map(|one| one.dashboard_name()) {
        let body = cloudwatch.get_dashboard().dashboard_name(name).send().await.expect("read");
        lines.push(format!("dashboard {name} {:?}", body.dashboard_body()));
    }
    lines
}
