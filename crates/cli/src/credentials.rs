//! `bellwire credentials`: a component's role, as the AWS SDKs' setting
//! `credential_process` wants it.

use bellwire_infra::resource::Owner;
use bellwire_infra::{check_place, place_of};
use serde_json::json;

use crate::args::{CredentialsOptions, Global};
use crate::error::CommandError;
use crate::load;

/// How long the credentials hold: an hour, the most that a role takes by default.
const DURATION_S: i32 = 3_600;

pub(crate) async fn credentials(
    global: &Global,
    options: &CredentialsOptions,
) -> Result<(), CommandError> {
    let workflow = load::workflow(global)?;
    let config = load::aws().await;
    let place = place_of(&config).await?;
    check_place(&workflow, &place)?;
    let owner = Owner::new(load::deployment(global, &workflow), place, &workflow.security);
    let role = load::component(&owner.deployment, &workflow, &options.component)?;
    let role = owner.role_arn(&role);
    let assumed = aws_sdk_sts::Client::new(&config)
        .assume_role()
        .role_arn(&role)
        .role_session_name(format!("bellwire-{}", options.component))
        .duration_seconds(DURATION_S)
        .send()
        .await;
    let not_assumed = |cause: String| CommandError::NotAssumed { role: role.clone(), cause };
    let assumed = assumed.map_err(|error| not_assumed(service_message(&error)))?;
    let credentials =
        assumed.credentials.ok_or_else(|| not_assumed("no credentials came back".to_owned()))?;
    let document = json!({
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
        "Expiration": credentials.expiration.to_string(),
    });
    anstream::println!("{document}");
    Ok(())
}

/// What AWS said, or the SDK where AWS said nothing.
fn service_message<E>(error: &aws_sdk_sts::error::SdkError<E>) -> String
where
    E: aws_sdk_sts::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    use aws_sdk_sts::error::DisplayErrorContext;

    match error.as_service_error().and_then(|error| error.message()) {
        Some(message) => message.to_owned(),
        None => DisplayErrorContext(error).to_string(),
    }
}
