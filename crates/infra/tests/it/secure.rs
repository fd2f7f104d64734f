//! What is secure by default is so on AWS; what the file switches off is off; and the keys
//! and boundaries that it names.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::PointInTimeRecoveryStatus;
use aws_sdk_kms::types::KeyState;
use aws_sdk_s3::types::BucketVersioningStatus;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_sdk_sts::config::Credentials;
use bellwire_infra::ProvisionError;
use bellwire_infra::plan::Action;
use bellwire_infra::resource::Kind;
use serde_json::Value;

use crate::deploy::step_of;
use crate::world::{WORKFLOW, World};

const ACCOUNT: &str = "000000000000";
const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:wine";
const ALIAS: &str = "alias/wine";

/// The workflow with tables of its own before the others.
fn with(tables: &str) -> String {
    WORKFLOW.replacen("[[source]]", &format!("{tables}\n[[source]]"), 1)
}

/// The same, whose source tells the topic itself.
fn straight(tables: &str) -> String {
    with(tables).replace("context = \"metadata\"", "via = \"topic\"")
}

const MADE_KEY: &str = "[topic]\nkms_key = \"create\"\n";

async fn topic(world: &World) -> std::collections::HashMap<String, String> {
    let sns = aws_sdk_sns::Client::new(&world.config);
    let found = sns.get_topic_attributes().topic_arn(TOPIC).send().await.expect("read");
    found.attributes.expect("attributes")
}

async fn queues(world: &World) -> BTreeMap<String, (String, Value)> {
    let sqs = aws_sdk_sqs::Client::new(&world.config);
    let mut queues = BTreeMap::new();
    for url in sqs.list_queues().send().await.expect("listed").queue_urls.expect("queues") {
        let found = sqs.get_queue_attributes().queue_url(&url);
        let found = found.attribute_names(QueueAttributeName::All).send().await.expect("read");
        let found = found.attributes.expect("attributes");
        let text = |name: QueueAttributeName| found.get(&name).cloned().unwrap_or_default();
        let policy = serde_json::from_str(&text(QueueAttributeName::Policy)).unwrap_or_default();
        let name = url.rsplit('/').next().expect("a name").to_owned();
        queues.insert(name, (text(QueueAttributeName::SqsManagedSseEnabled), policy));
    }
    queues
}

/// How often a policy refuses what is not TLS, of everybody.
fn refusals(policy: &Value) -> usize {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let is_refusal = |one: &&Value| {
        one["Effect"] == "Deny"
            && one["Principal"] == "*"
            && one["Condition"]["Bool"]["aws:SecureTransport"] == "false"
    };
    statements.filter(is_refusal).count()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What there is of a bucket: its blocks of public access, versions, encryption, policy.
async fn bucket(world: &World) -> (bool, bool, String, Value) {
    let s3 = aws_sdk_s3::Client::new(&world.config);
    let name = "wine-lake";
    let block = s3.get_public_access_block().bucket(name).send().await.expect("read");
    let block = block.public_access_block_configuration.expect("blocks");
    let blocks = [
        block.block_public_acls,
        block.ignore_public_acls,
        block.block_public_policy,
        block.restrict_public_buckets,
    ];
    let versions = s3.get_bucket_versioning().bucket(name).send().await.expect("read");
    let encryption = s3.get_bucket_encryption().bucket(name).send().await.expect("read");
    let rules = encryption.server_side_encryption_configuration.expect("encrypted").rules;
    let default = rules[0].apply_server_side_encryption_by_default.as_ref().expect("a default");
    let policy = s3.get_bucket_policy().bucket(name).send().await;
    let policy = policy.ok().and_then(|found| found.policy).map(|text| parsed(&text));
    (
        blocks.iter().all(|one| *one == Some(true)),
        versions.status == Some(BucketVersioningStatus::Enabled),
        default.sse_algorithm.as_str().to_owned(),
        policy.unwrap_or_default(),
    )
}

async fn has_recovery(world: &World) -> bool {
    let dynamodb = aws_sdk_dynamodb::Client::new(&world.config);
    let backups = dynamodb.describe_continuous_backups().table_name("wine-ledger").send().await;
    let backups = backups.expect("read").continuous_backups_description.expect("told");
    let recovery = backups.point_in_time_recovery_description.expect("told");
    recovery.point_in_time_recovery_status == Some(PointInTimeRecoveryStatus::Enabled)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_secure_by_default_is_so_on_aws_and_each_switch_turns_it_off_and_on_again() {
    let world = World::new().await;
    let secure = world.provisioner(WORKFLOW).await;
    world.apply(&secure).await;
    expect_secure(&world).await;

    let off = [
        "encrypt_topic",
        "encrypt_queues",
        "tls_only",
        "block_public_access",
        "bucket_versioning",
        "point_in_time_recovery",
    ];
    let off: String = off.iter().map(|key| format!("{key} = false\n")).collect();
    let lax = world.provisioner(&with(&format!("[security]\n{off}"))).await;
    let plan = world.apply(&lax).await;
    assert_eq!(plan.count(Action::Replace) + plan.count(Action::Delete), 0, "{plan}");
    assert_eq!(topic(&world).await.get("KmsMasterKeyId").map_or("", String::as_str), "");
    assert_eq!(refusals(&parsed(&topic(&world).await["Policy"])), 0);
    for (name, (encrypted, policy)) in queues(&world).await {
        assert_eq!((encrypted.as_str(), refusals(&policy)), ("false", 0), "{name}");
    }
    let (is_private, is_versioned, encryption, policy) = bucket(&world).await;
    assert_eq!((is_private, is_versioned, encryption.as_str()), (false, false, "AES256"));
    assert_eq!(policy, Value::Null);
    assert!(!has_recovery(&world).await);
    let (again, _) = world.plan(&lax).await;
    assert!(again.is_empty(), "{again}");

    world.apply(&secure).await;
    expect_secure(&world).await;
    let (again, _) = world.plan(&secure).await;
    assert!(again.is_empty(), "{again}");
}

async fn expect_secure(world: &World) {
    let topic = topic(world).await;
    assert_eq!(topic["KmsMasterKeyId"], "alias/aws/sns");
    assert_eq!(refusals(&parsed(&topic["Policy"])), 1);
    let queues = queues(world).await;
    assert_eq!(queues.len(), 2, "{queues:?}");
    for (name, (encrypted, policy)) in queues {
        assert_eq!((encrypted.as_str(), refusals(&policy)), ("true", 1), "{name}");
    }
    let (is_private, is_versioned, encryption, policy) = bucket(world).await;
    assert_eq!((is_private, is_versioned, encryption.as_str()), (true, true, "AES256"));
    assert_eq!(refusals(&policy), 1);
    assert!(has_recovery(world).await);
}

fn kms(world: &World) -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::new(&world.config)
}

async fn key(world: &World, name: &str) -> Option<aws_sdk_kms::types::KeyMetadata> {
    let found = kms(world).describe_key().key_id(name).send().await;
    found.ok().and_then(|found| found.key_metadata)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_for_a_topic_that_s3_tells_and_admits_that_bucket_alone() {
    let world = World::new().await;
    let provisioner = world.provisioner(&straight(MADE_KEY)).await;
    world.apply(&provisioner).await;
    assert_eq!(topic(&world).await["KmsMasterKeyId"], ALIAS);
    let id = key(&world, ALIAS).await.expect("a key").key_id;
    let kms = kms(&world);
    let rotation = kms.get_key_rotation_status().key_id(&id).send().await.expect("read");
    assert!(rotation.key_rotation_enabled);
    let tags = kms.list_resource_tags().key_id(&id).send().await.expect("read").tags;
    assert_eq!(tags.expect("tags").len(), 3);
    let policy = kms.get_key_policy().key_id(&id).policy_name("default").send().await;
    let policy = parsed(&policy.expect("read").policy.expect("a policy"));
    let services: Vec<&Value> = policy["Statement"]
        .as_array()
        .expect("statements")
        .iter()
        .filter(|one| one["Principal"]["Service"].is_string())
        .collect();
    let [s3] = services[..] else { panic!("{policy:#}") };
    assert_eq!(s3["Principal"]["Service"], "s3.amazonaws.com");
    assert_eq!(s3["Condition"]["ArnEquals"]["aws:SourceArn"], "arn:aws:s3:::wine-lake");
    assert_eq!(s3["Condition"]["StringEquals"]["aws:SourceAccount"], ACCOUNT);
    let (again, _) = world.plan(&provisioner).await;
    assert!(again.is_empty(), "{again}");

    // What somebody changes shows, and is set right.
    kms.disable_key_rotation().key_id(&id).send().await.expect("disabled");
    kms.disable_key().key_id(&id).send().await.expect("disabled");
    let plan = world.apply(&provisioner).await.to_string();
    assert!(plan.contains("is_rotated: false -> true"), "{plan}");
    assert!(plan.contains("is_enabled: false -> true"), "{plan}");
    assert!(world.plan(&provisioner).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outlives_the_file_and_a_destroy_and_goes_by_its_name_only() {
    let world = World::new().await;
    let keyed = world.provisioner(&with(MADE_KEY)).await;
    world.apply(&keyed).await;
    let id = key(&world, ALIAS).await.expect("a key").key_id;

    let plan = world.apply(&world.provisioner(WORKFLOW).await).await.to_string();
    assert!(plan.contains("keep     kms key"), "{plan}");
    assert_eq!(topic(&world).await["KmsMasterKeyId"], "alias/aws/sns");
    assert_eq!(key(&world, ALIAS).await.expect("still there").key_id, id);

    let plan = world.apply(&keyed).await;
    assert_eq!(step_of(&plan, Kind::Key, ALIAS), None, "the same key: {plan}");
    let plan = world.destroy(&keyed, &["wine-ingest"]).await;
    let kept: Vec<&str> = plan.kept.iter().map(|kept| kept.id.name.as_str()).collect();
    assert_eq!(kept, [ALIAS], "{plan}");

    world.destroy(&keyed, &[ALIAS]).await;
    assert!(key(&world, ALIAS).await.is_none(), "its alias is free");
    let gone = key(&world, &id).await.expect("there for 30 days");
    assert_eq!(gone.key_state, Some(KeyState::PendingDeletion));
    let left = keyed.plan_destroy(&[]).await.expect("planned");
    assert!(left.is_empty() && left.kept.is_empty(), "{left}");
    world.apply(&keyed).await;
    assert_ne!(key(&world, ALIAS).await.expect("another one").key_id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_interrupted_apply_has_made_is_taken_up() {
    let world = World::new().await;
    let keyed = world.provisioner(&with(MADE_KEY)).await;
    world.apply(&keyed).await;
    let id = key(&world, ALIAS).await.expect("a key").key_id;
    // As it is before its alias is made.
    kms(&world).delete_alias().alias_name(ALIAS).send().await.expect("deleted");
    let plan = world.apply(&keyed).await;
    assert_eq!(step_of(&plan, Kind::Key, ALIAS), Some(Action::Create), "{plan}");
    assert_eq!(key(&world, ALIAS).await.expect("the same").key_id, id);
    let keys = kms(&world).list_keys().send().await.expect("listed").keys.expect("keys");
    assert_eq!(keys.len(), 1);
}

async fn refused(world: &World, text: &str) -> String {
    let error = world.try_plan(&world.provisioner(text).await).await.expect_err("refused");
    let ProvisionError::Problems(problems) = error else { panic!("{error}") };
    problems.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_key_must_fit_and_the_plan_tells_what_its_policy_lacks() {
    let world = World::new().await;
    let named = straight("[topic]\nkms_key = \"alias/ours\"\n");
    let error = refused(&world, &named).await;
    assert!(error.contains("there is no key alias/ours in us-east-1"), "{error}");

    let kms = kms(&world);
    let made = kms.create_key().send().await.expect("made").key_metadata.expect("told");
    let id = made.key_id;
    kms.create_alias().alias_name("alias/ours").target_key_id(&id).send().await.expect("made");
    kms.disable_key().key_id(&id).send().await.expect("disabled");
    let error = refused(&world, &named).await;
    assert!(error.contains("alias/ours cannot be used: it is Disabled"), "{error}");
    assert!(error.contains("enable it"), "{error}");
    kms.enable_key().key_id(&id).send().await.expect("enabled");

    let provisioner = world.provisioner(&named).await;
    let told = |plan: &bellwire_infra::plan::Plan| -> Vec<Value> {
        let notes = plan.notes.iter().map(|note| note.text.as_str());
        let told = notes.filter_map(|text| text.split_once("must have in its policy: "));
        told.map(|(_, statement)| parsed(statement)).collect()
    };
    // The policy that KMS gives lets the account decide, and no service in.
    let (plan, _) = world.plan(&provisioner).await;
    let [statement] = &told(&plan)[..] else { panic!("{plan}") };
    assert_eq!(statement["Principal"]["Service"], "s3.amazonaws.com");
    assert_eq!(statement["Condition"]["ArnEquals"]["aws:SourceArn"], "arn:aws:s3:::wine-lake");

    // With what it told, it has nothing more to tell, and S3 is let in.
    let policy = kms.get_key_policy().key_id(&id).policy_name("default").send().await;
    let mut policy = parsed(&policy.expect("read").policy.expect("a policy"));
    policy["Statement"].as_array_mut().expect("statements").push(statement.clone());
    let put = kms.put_key_policy().key_id(&id).policy_name("default").policy(policy.to_string());
    put.send().await.expect("put");
    let plan = world.apply(&provisioner).await;
    assert_eq!(told(&plan), Vec::<Value>::new(), "{plan}");
    assert_eq!(step_of(&plan, Kind::Key, ALIAS), None, "it is not ours: {plan}");
    assert_eq!(topic(&world).await["KmsMasterKeyId"], "alias/ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_is_under_its_path_and_within_its_boundary() {
    let world = World::new().await;
    let bounded = with("[security]\npermissions_boundary = \"ml\"\nrole_path = \"/teams/ml/\"\n");
    let boundary = format!("arn:aws:iam::{ACCOUNT}:policy/ml");
    let error = refused(&world, &bounded).await;
    assert!(error.contains(&format!("there is no managed policy {boundary}")), "{error}");

    let iam = aws_sdk_iam::Client::new(&world.config);
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}"#;
    let made = iam.create_policy().policy_name("ml").policy_document(document).send().await;
    made.expect("made");
    let provisioner = world.provisioner(&bounded).await;
    world.apply(&provisioner).await;
    for name in ["wine-handler", "wine-publisher", "wine-worker", "wine-collect"] {
        assert_eq!(
            role(&world, name).await,
            ("/teams/ml/bellwire/wine/".to_owned(), Some(boundary.clone()))
        );
    }
    assert!(world.plan(&provisioner).await.0.is_empty());
    // Its own policy lets it do both.
    let publisher = format!("arn:aws:iam::{ACCOUNT}:role/teams/ml/bellwire/wine/wine-publisher");
    let config = assumed(&world, &publisher).await;
    let sqs = aws_sdk_sqs::Client::new(&config);
    sqs.get_queue_url().queue_name("wine-ingest").send().await.expect("within its boundary");
    let sns = aws_sdk_sns::Client::new(&config);
    let published = sns.publish().topic_arn(TOPIC).message("x").send().await;
    published.expect_err("beyond its boundary");

    // A path cannot be changed, so that each role is made anew; and no boundary is left. What
    // goes with it, IAM does not list under the new path.
    let (without_predict, _) =
        WORKFLOW.split_once("[[trigger]]\nname = \"predict\"").expect("there");
    let fewer = format!("{without_predict}\n[handler]\nartifact = \"handler.zip\"\n");
    let plan = world.apply(&world.provisioner(&fewer).await).await;
    assert_eq!(step_of(&plan, Kind::Role, "wine-predict"), Some(Action::Delete), "{plan}");
    iam.get_role().role_name("wine-predict").send().await.expect_err("it is gone");
    assert_eq!(step_of(&plan, Kind::Role, "wine-worker"), Some(Action::Replace), "{plan}");
    assert_eq!(role(&world, "wine-worker").await, ("/bellwire/wine/".to_owned(), None));
    let (again, _) = world.plan(&world.provisioner(&fewer).await).await;
    assert!(again.is_empty(), "{again}");
    let bound = with("[security]\npermissions_boundary = \"ml\"\n");
    world.apply(&world.provisioner(&bound).await).await;
    assert_eq!(role(&world, "wine-worker").await.1, Some(boundary));
    world.apply(&world.provisioner(WORKFLOW).await).await;
    assert_eq!(role(&world, "wine-worker").await.1, None);
}

async fn role(world: &World, name: &str) -> (String, Option<String>) {
    let iam = aws_sdk_iam::Client::new(&world.config);
    let found = iam.get_role().role_name(name).send().await.expect("read").role.expect("a role");
    let boundary = found.permissions_boundary.and_then(|one| one.permissions_boundary_arn);
    (found.path, boundary)
}

async fn assumed(world: &World, role_arn: &str) -> aws_config::SdkConfig {
    let sts = aws_sdk_sts::Client::new(&world.config);
    let assumed = sts.assume_role().role_arn(role_arn).role_session_name("test").send().await;
    let found = assumed.expect("assumed").credentials.expect("credentials");
    let (key, secret) = (found.access_key_id, found.secret_access_key);
    let credentials = Credentials::new(key, secret, Some(found.session_token), None, "test");
    let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(credentials);
    world.config.to_builder().credentials_provider(provider).build()
}
