//! `[security]`, and the topic's key.

use crate::names::Place;
use crate::workflow::tests::{SMALLEST, accepted, refused, with};
use crate::workflow::{Security, TopicKey};

fn secured(keys: &str) -> String {
    format!("{SMALLEST}[security]\n{keys}\n")
}

#[test]
fn everything_is_secure_unless_the_file_says_otherwise() {
    let security = accepted(SMALLEST).security;
    assert_eq!(security, Security::default());
    let Security {
        encrypt_topic,
        encrypt_queues,
        tls_only,
        block_public_access,
        bucket_versioning,
        point_in_time_recovery,
        permissions_boundary,
        role_path,
    } = security;
    assert!(encrypt_topic && encrypt_queues && tls_only);
    assert!(block_public_access && bucket_versioning && point_in_time_recovery);
    assert_eq!((permissions_boundary, role_path.as_str()), (None, "/"));
}

#[test]
fn each_switch_switches_what_it_names_alone() {
    type Switch = fn(&mut Security) -> &mut bool;
    let switches: [(&str, Switch); 6] = [
        ("encrypt_topic", |security| &mut security.encrypt_topic),
        ("encrypt_queues", |security| &mut security.encrypt_queues),
        ("tls_only", |security| &mut security.tls_only),
        ("block_public_access", |security| &mut security.block_public_access),
        ("bucket_versioning", |security| &mut security.bucket_versioning),
        ("point_in_time_recovery", |security| &mut security.point_in_time_recovery),
    ];
    for (key, switch) in switches {
        let mut expected = Security::default();
        *switch(&mut expected) = false;
        assert_eq!(accepted(&secured(&format!("{key} = false"))).security, expected, "{key}");
    }
}

#[test]
fn the_topic_s_key_is_made_or_named() {
    let key = |text: &str| accepted(&with("[topic]", &format!("[topic]\nkms_key = {text}"))).topic;
    assert_eq!(key("\"create\"").kms_key, Some(TopicKey::Create));
    assert_eq!(key("\"alias/ml\"").kms_key, Some(TopicKey::Named("alias/ml".to_owned())));
    for own in ["alias/aws/sns", "arn:aws:kms:eu-west-1:123456789012:alias/aws/sns"] {
        let text = with("[topic]", &format!("[topic]\nkms_key = \"{own}\""));
        refused(&text, "kms_key", "is a key that AWS manages", "\"create\"");
    }
}

#[test]
fn s3_publishes_to_a_topic_under_a_customer_key_or_under_none() {
    let text = with("context = \"metadata\"", "via = \"topic\"");
    refused(&text, "via = \"topic\"", "under the key that AWS manages", "kms_key = \"create\"");
    accepted(&text.replace("kind = \"standard\"", "kms_key = \"create\""));
    accepted(&text.replace("kind = \"standard\"", "kms_key = \"alias/ml\""));
    accepted(&text.replace("[topic]", "[security]\nencrypt_topic = false\n[topic]"));
}

#[test]
fn a_key_of_a_topic_that_is_not_encrypted_is_a_mistake() {
    let text = with("[topic]", "[security]\nencrypt_topic = false\n[topic]\nkms_key = \"create\"");
    refused(&text, "kms_key", "leaves it nothing to encrypt", "drop one");
}

#[test]
fn a_boundary_is_a_managed_policy() {
    let place = Place::new("eu-west-1", "123456789012");
    let arn = |boundary: &str| {
        let text = secured(&format!("permissions_boundary = \"{boundary}\""));
        accepted(&text).security.boundary_arn(&place).expect("a boundary")
    };
    let own = "arn:aws:iam::123456789012:policy/ml-boundary";
    assert_eq!(arn("ml-boundary"), own);
    for whole in
        [own, "arn:aws:iam::123456789012:policy/ml/b", "arn:aws:iam::aws:policy/ReadOnlyAccess"]
    {
        assert_eq!(arn(whole), whole);
    }
    for (wrong, cause) in [
        ("ml boundary", "is no managed policy"),
        ("arn:aws:iam::123456789012:role/ml", "is no such ARN"),
        ("arn:aws:iam::aws:policy/", "is no such ARN"),
        ("arn:aws:sns:eu-west-1:123456789012:policy/ml", "is an ARN of sns"),
    ] {
        let text = secured(&format!("permissions_boundary = \"{wrong}\""));
        refused(&text, "permissions_boundary", cause, "it takes");
    }
}

#[test]
fn a_role_path_begins_and_ends_in_a_slash() {
    for path in ["/", "/ml/", "/teams/ml-2/"] {
        assert_eq!(accepted(&secured(&format!("role_path = \"{path}\""))).security.role_path, path);
    }
    let long = format!("/{}/", "x".repeat(400));
    for path in ["ml/", "/ml", "//", "/m l/", "/*/", &long] {
        let text = secured(&format!("role_path = \"{path}\""));
        refused(&text, "role_path", "is no path of IAM's", "\"/teams/ml/\"");
    }
    let text = secured("role_path = \"/aws-service-role/ml/\"");
    refused(&text, "role_path", "keeps for its own roles", "\"/teams/ml/\"");
}
