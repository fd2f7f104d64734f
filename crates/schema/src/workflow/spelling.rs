//! How names, ARNs, addresses, durations and schedules are spelt: each rule says why
//! a text breaks it, and what to write instead.

use http::Uri;
use serde_json_path::JsonPath;

use super::model::{Access, AccessVerb, ObjectPrefix};
use super::problem::{Fault, quoted};
use crate::limits::{NAME_CHARS_MAX, WORKFLOW_NAME_CHARS_MAX};

/// The longest duration, in seconds: 90 days, so that nothing outlives its ledger row.
pub(super) const DURATION_S_MAX: u64 = crate::limits::LEDGER_RETENTION_DAYS_MIN as u64 * 86_400;

/// S3: bytes of a key. Source: Amazon S3 user guide, "Naming Amazon S3 objects".
const S3_KEY_BYTES_MAX: usize = 1_024;

/// Any text but an empty one; whoever allows an empty one does not ask.
pub(super) fn not_empty(text: &str) -> Result<(), Fault> {
    match text.trim() {
        "" => Err(Fault::new("is empty", "write a value, or drop the key")),
        _ => Ok(()),
    }
}

/// A text for people: one line of printable characters.
pub(super) fn one_line(text: &str) -> Result<String, Fault> {
    if text.contains(char::is_control) {
        return Err(Fault::new(
            "has control characters",
            "write it in one line of printable characters",
        ));
    }
    Ok(text.to_owned())
}

/// The workflow's own name.
pub(super) fn workflow_name(text: &str) -> Result<String, Fault> {
    name_of(text, WORKFLOW_NAME_CHARS_MAX)
}

/// The name of a source, function, subscriber or trigger.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    name_of(text, NAME_CHARS_MAX)
}

fn name_of(text: &str, chars_max: usize) -> Result<String, Fault> {
    if is_name(text) && text.len() <= chars_max {
        return Ok(text.to_owned());
    }
    if is_name(text) {
        let cause = format!("has {} characters", text.len());
        return Err(Fault::new(cause, format!("at most {chars_max}: shorten it")));
    }
    let mended: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mended = mended.trim_matches('-');
    let rule = "lower-case letters, digits and hyphens, from a letter on";
    let remedy = if is_name(mended) && mended.len() <= chars_max {
        format!("it takes {rule}: `{mended}`?")
    } else {
        format!("it takes {rule}")
    };
    Err(Fault::new("is no name", remedy))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Twelve digits.
pub(super) fn account(text: &str) -> Result<String, Fault> {
    match is_account(text) {
        true => Ok(text.to_owned()),
        false => {
            Err(Fault::new("is no account", "an account is 12 digits, as in \"123456789012\""))
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `eu-west-1`, `us-gov-east-1`.
pub(super) fn region(text: &str) -> Result<String, Fault> {
    match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new("is no region", "a region looks like \"eu-west-1\"")),
    }
}

fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = &parts[..] else { return false };
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_word(area) && !middle.is_empty() && middle.iter().all(|word| is_word(word)) && is_number
}

/// An ARN of one service whose resource is one of these, or begins with one that ends in a separator.
pub(super) fn arn(text: &str, service: &str, resources: &[&str]) -> Result<String, Fault> {
    let is_iam = service == "iam";
    let region = if is_iam { "" } else { "eu-west-1" };
    let form = format!("arn:aws:{service}:{region}:123456789012:{}…", resources[0]);
    let refused = |cause: &str| Err(Fault::new(cause, format!("it takes an ARN like {form}")));
    let ["arn", partition, found, region, account, resource] =
        text.splitn(6, ':').collect::<Vec<_>>()[..]
    else {
        return refused("is no ARN");
    };
    if found != service {
        return refused(&format!(
            "is an ARN of {}",
            if found.is_empty() { "nothing" } else { found }
        ));
    }
    let is_named = |kind: &str| match resource.strip_prefix(kind) {
        Some(rest) if kind.is_empty() || kind.ends_with(['/', ':']) => !rest.is_empty(),
        rest => rest == Some(""),
    };
    let is_sound = partition.starts_with("aws")
        && (if is_iam { region.is_empty() } else { is_region(region) })
        && is_account(account)
        && resources.iter().any(|kind| is_named(kind))
        && resource.chars().all(|c| c.is_ascii_graphic() && c != '*');
    match is_sound {
        true => Ok(text.to_owned()),
        false => refused("is no such ARN"),
    }
}

/// The ARN of a state machine itself: executions of a version or an alias carry the
/// state machine's own ARN, so that nothing would match theirs to what was named.
pub(super) fn state_machine_arn(text: &str) -> Result<String, Fault> {
    const KIND: &str = "stateMachine:";
    let arn = arn(text, "states", &[KIND])?;
    let (before, name) = arn.split_once(KIND).unwrap_or_default();
    match name.split_once([':', '/']) {
        None => Ok(arn),
        Some((name, _)) => Err(Fault::new(
            "names a version, an alias or a part of a state machine",
            format!("write the state machine's own ARN: {before}{KIND}{name}"),
        )),
    }
}

/// A name of AWS, in the characters that the services asked for here share, or an ARN.
pub(super) fn aws_name_or_arn(
    text: &str,
    service: &str,
    resources: &[&str],
) -> Result<String, Fault> {
    if text.starts_with("arn:") {
        return arn(text, service, resources);
    }
    let is_sound =
        text.len() <= 256 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_:.".contains(c));
    match is_sound {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            "is no name",
            "it takes letters, digits, hyphens and underscores, or an ARN",
        )),
    }
}

/// A KMS key: its ARN, its id or its alias.
pub(super) fn kms_key(text: &str) -> Result<String, Fault> {
    if text.starts_with("arn:") {
        return arn(text, "kms", &["key/", "alias/"]);
    }
    let is_word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let is_id = (text.len() == 36 || text.starts_with("mrk-")) && is_word(text, "-");
    let is_alias = text.strip_prefix("alias/").is_some_and(|alias| is_word(alias, "/_-"));
    match is_id || is_alias {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            "is no KMS key",
            "it takes an ARN, an id of 36 characters, or alias/NAME",
        )),
    }
}

/// Who may assume a role.
pub(super) fn principal(text: &str) -> Result<String, Fault> {
    if text.starts_with("arn:") {
        return arn(text, "iam", &["role/", "user/", "root"]);
    }
    let host = text.strip_suffix(".cn").unwrap_or(text);
    let is_service = host.strip_suffix(".amazonaws.com").is_some_and(|service| {
        !service.is_empty()
            && service
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    });
    match is_service || is_account(text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            "is no principal",
            "name a service like ecs-tasks.amazonaws.com, an account of 12 digits, or an IAM ARN",
        )),
    }
}

/// A bucket's name. Source: Amazon S3 user guide, "General purpose bucket naming rules".
pub(super) fn bucket(text: &str) -> Result<String, Fault> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let bucket = rest.split('/').next().unwrap_or_default();
        return Err(Fault::new("is a URL", format!("write the bucket's name alone: `{bucket}`")));
    }
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_sound = (3..=63).contains(&text.len())
        && text.chars().all(|c| is_end(c) || c == '-' || c == '.')
        && text.starts_with(is_end)
        && text.ends_with(is_end)
        && !text.contains("..")
        && !text.starts_with("xn--")
        && text.parse::<std::net::Ipv4Addr>().is_err();
    match is_sound {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            "is no bucket's name",
            "3 to 63 lower-case letters, digits, hyphens and dots, from a letter or digit to one",
        )),
    }
}

/// A prefix or suffix of keys, as an S3 notification filters by it.
pub(super) fn key_part(text: &str) -> Result<String, Fault> {
    if text.contains('*') {
        return Err(Fault::new("has a wildcard", "S3 matches literally: drop the `*`"));
    }
    if text.len() > S3_KEY_BYTES_MAX {
        let cause = format!("has {} bytes", text.len());
        return Err(Fault::new(cause, format!("a key has at most {S3_KEY_BYTES_MAX}: shorten it")));
    }
    one_line(text)
}

/// Where a run writes: `s3://bucket/prefix/`.
pub(super) fn object_prefix(text: &str) -> Result<ObjectPrefix, Fault> {
    let Some(rest) = text.strip_prefix("s3://") else {
        return Err(Fault::new("is no URL of S3", "write it as `s3://bucket/prefix/`"));
    };
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(ObjectPrefix { bucket: bucket(name)?, prefix: key_part(prefix)? })
}

/// The name of a marker or manifest: what follows a key's last slash.
pub(super) fn object_name(text: &str) -> Result<String, Fault> {
    if text.contains('/') {
        return Err(Fault::new("has a slash", "it is the name after the key's last slash alone"));
    }
    key_part(text)
}

/// One line of `access`: `s3:read wine-lake/raw/*`.
pub(super) fn access(text: &str) -> Result<Access, Fault> {
    const VERBS: [(&str, AccessVerb); 3] = [
        ("s3:read", AccessVerb::S3Read),
        ("s3:write", AccessVerb::S3Write),
        ("s3:delete", AccessVerb::S3Delete),
    ];
    let form =
        "write s3:read, s3:write or s3:delete, a blank, and bucket/keys: s3:read wine-lake/raw/*";
    let words: Vec<&str> = text.split_whitespace().collect();
    let [verb, resource] = words[..] else {
        return Err(Fault::new("does not have two words", form));
    };
    let Some((_, verb)) = VERBS.into_iter().find(|(word, _)| *word == verb) else {
        let known: Vec<&str> = VERBS.iter().map(|(word, _)| *word).collect();
        let cause = format!("has the unknown verb {}", quoted(verb));
        return Err(Fault::new(cause, super::problem::known_words(verb, &known)));
    };
    let Some((in_bucket, keys)) = resource.split_once('/') else {
        return Err(Fault::new("names no keys", format!("write `{resource}/*` for all of them")));
    };
    let bucket = bucket(in_bucket).map_err(|fault| {
        Fault::new(format!("names {}, which {}", quoted(in_bucket), fault.cause), fault.remedy)
    })?;
    let literal = keys.strip_suffix('*').unwrap_or(keys);
    if keys.is_empty() {
        return Err(Fault::new("names no keys", format!("write `{resource}*` for all of them")));
    }
    if literal.contains(['*', '?']) {
        return Err(Fault::new("has a wildcard amid its keys", "only a `*` at the end matches"));
    }
    // `${` begins a policy variable in IAM, and would not be a key.
    if literal.contains("${") {
        return Err(Fault::new(
            "has a policy variable",
            "it takes literal keys, and a `*` at the end",
        ));
    }
    Ok(Access { verb, bucket, keys: keys.to_owned() })
}

/// An e-mail address, as far as it can be told without sending to it.
pub(super) fn email(text: &str) -> Result<String, Fault> {
    let is_sound = text.split_once('@').is_some_and(|(local, domain)| {
        let is_label = |label: &str| {
            !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        !local.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            && domain.contains('.')
            && domain.split('.').all(is_label)
    });
    match is_sound {
        true => Ok(text.to_owned()),
        false => Err(Fault::new("is no e-mail address", "write one like ml-on-call@example.com")),
    }
}

/// An HTTPS URL.
pub(super) fn https_url(text: &str) -> Result<String, Fault> {
    url(text, &["https"], "https://example.com/hook")
}

/// An HTTP or HTTPS URL.
pub(super) fn http_url(text: &str) -> Result<String, Fault> {
    url(text, &["http", "https"], "http://localhost:4318")
}

fn url(text: &str, schemes: &[&str], example: &str) -> Result<String, Fault> {
    let uri =
        text.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let scheme = uri.as_ref().and_then(Uri::scheme_str);
    match scheme {
        Some(scheme) if schemes.contains(&scheme) => Ok(text.to_owned()),
        Some(scheme) => Err(Fault::new(
            format!("is of scheme {scheme}"),
            format!("it takes {}", schemes.join(" or ")),
        )),
        None => Err(Fault::new("is no URL", format!("write one like {example}"))),
    }
}

/// `90s`, `15m`, `1h`, `2d`, in seconds.
pub(super) fn duration_s(text: &str) -> Result<u64, Fault> {
    let refused =
        || Fault::new("is no duration", "a whole number and one of s, m, h, d: 90s, 15m, 1h, 2d");
    let mut chars = text.chars();
    let unit_s = match chars.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(refused()),
    };
    let digits = chars.as_str();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
    match seconds {
        Some(0) => Err(Fault::new("is no time at all", "at least 1s, or drop the key")),
        Some(seconds) if seconds <= DURATION_S_MAX => Ok(seconds),
        _ => Err(Fault::new("is too long", format!("at most {}d", DURATION_S_MAX / 86_400))),
    }
}

/// A JSONPath query (RFC 9535).
pub(super) fn json_path(text: &str) -> Result<String, Fault> {
    match JsonPath::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Fault::new(
            format!("is no JSONPath: {error}"),
            "write one like $.data.key (RFC 9535)",
        )),
    }
}

/// A file of an extension, relative to something.
pub(super) fn file(text: &str, extension: &str) -> Result<String, Fault> {
    if !text.ends_with(extension) {
        return Err(Fault::new(
            format!("is no {extension} file"),
            format!("name a file that ends in {extension}"),
        ));
    }
    if text.starts_with('/') {
        return Err(Fault::new(
            "is an absolute path",
            "write it relative, so that it holds on every machine",
        ));
    }
    one_line(text)
}

/// An EventBridge schedule. Source: Amazon EventBridge user guide, "Setting a schedule pattern for scheduled rules".
pub(super) fn schedule(text: &str) -> Result<String, Fault> {
    let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(rate) = inside("rate") {
        rate_holds(rate)?;
    } else if let Some(cron) = inside("cron") {
        cron_holds(cron)?;
    } else {
        return Err(Fault::new("is no schedule", "write rate(1 day) or cron(0 3 * * ? *)"));
    }
    Ok(text.to_owned())
}

fn rate_holds(rate: &str) -> Result<(), Fault> {
    let refused =
        || Fault::new("is no rate", "write rate(1 day), rate(12 hours) or rate(5 minutes)");
    let (count, unit) = rate.split_once(' ').ok_or_else(refused)?;
    let count: u32 = count.parse().map_err(|_| refused())?;
    let (single, plural) = match unit.trim_end_matches('s') {
        "minute" => ("minute", "minutes"),
        "hour" => ("hour", "hours"),
        "day" => ("day", "days"),
        _ => return Err(refused()),
    };
    let wanted = if count == 1 { single } else { plural };
    if count == 0 {
        return Err(refused());
    }
    if unit != wanted {
        return Err(Fault::new("does not fit its number", format!("write rate({count} {wanted})")));
    }
    Ok(())
}

fn cron_holds(cron: &str) -> Result<(), Fault> {
    let fields: Vec<&str> = cron.split(' ').collect();
    let [.., day_of_month, _, day_of_week, _] = fields[..] else {
        return Err(six_fields(fields.len()));
    };
    if fields.len() != 6 {
        return Err(six_fields(fields.len()));
    }
    let is_field = |field: &str| {
        !field.is_empty()
            && field.chars().all(|c| c.is_ascii_alphanumeric() || ",-*?/#".contains(c))
    };
    if !fields.iter().all(|field| is_field(field)) {
        return Err(Fault::new(
            "has a field that is none",
            "fields take digits, names, and , - * ? / L W #",
        ));
    }
    if (day_of_month == "?") == (day_of_week == "?") {
        return Err(Fault::new(
            "does not leave one of its days open",
            "write `?` for day of month or for day of week, and only for one: cron(0 3 * * ? *)",
        ));
    }
    Ok(())
}

fn six_fields(count: usize) -> Fault {
    Fault::new(
        format!("has {count} fields"),
        "EventBridge takes 6: minutes hours day-of-month month day-of-week year: cron(0 3 * * ? *)",
    )
}
