//! What a single value may be.

use crate::workflow::tests::{EXAMPLE, SMALLEST, accepted, and, refused, with};

/// The example with a line of one of its tables replaced.
#[track_caller]
fn value_refused(old: &str, new: &str, cause: &str, remedy: &str) {
    refused(&with(old, new), new.lines().last().expect("a line"), cause, remedy);
}

#[test]
fn unknown_keys_come_with_the_nearest_or_with_all() {
    value_refused(
        "suffix = \".csv\"",
        "sufix = \".csv\"",
        "unknown key `sufix`",
        "did you mean `suffix`?",
    );
    value_refused(
        "run = \"sidecar\"",
        "zzzzzz = 1",
        "unknown key `zzzzzz`",
        "known: run, trusted_by",
    );
    value_refused(
        "within = \"1h\"",
        "wihtin = \"1h\"",
        "unknown key `gather.wihtin`",
        "did you mean `within`?",
    );
    value_refused("[ledger]", "[leger]", "unknown key `leger`", "did you mean `ledger`?");
}

#[test]
fn a_key_of_another_kind_is_told_from_an_unknown_one() {
    value_refused(
        "expression = \"cron(0 3 * * ? *)\"",
        "expression = \"cron(0 3 * * ? *)\"\nbucket = \"lake\"",
        "`bucket` is no key of this kind",
        "only kind s3 takes it",
    );
}

#[test]
fn missing_keys_are_reported_at_their_table() {
    refused(
        "region = \"eu-west-1\"",
        "region",
        "`workflow` is missing",
        "add `workflow = \"wine\"`",
    );
    refused(
        &and("[[function]]\nname = \"extra\"\n"),
        "[[function]]",
        "`artifact` is missing",
        "add `artifact = ",
    );
    refused(
        &with("start = { step-functions = \"workflows/train.asl.json\" }", ""),
        "[[trigger]]",
        "`start` is missing",
        "add `start = ",
    );
    value_refused(
        "start = { sagemaker-pipeline = \"predict\" }",
        "start = { batch = { job_queue = \"gpu\" } }",
        "`start.batch.job_definition` is missing",
        "add `job_definition = ",
    );
}

#[test]
fn wrong_types_come_with_an_example() {
    let memory = "[handler]\nmemory_mb = \"512\"";
    value_refused(
        "[handler]",
        memory,
        "`memory_mb` is a string",
        "an integer, as in `memory_mb = 256`",
    );
    value_refused(
        "deletion_protection = false",
        "deletion_protection = 0",
        "is an integer",
        "a boolean",
    );
    value_refused(
        "on = \"data.arrived\"",
        "on = { a = 1 }",
        "`on` is a table",
        "a string or a list of strings",
    );
    value_refused("on = \"data.arrived\"", "on = [1]", "`on` is an integer", "a list of strings");
    value_refused(
        "account = \"123456789012\"",
        "account = 123456789012",
        "is an integer",
        "a string",
    );
    value_refused(
        "gather = { marker = \"_SUCCESS\", within = \"1h\" }",
        "gather = true",
        "is a boolean",
        "a table",
    );
}

#[test]
fn tables_are_one_or_many() {
    value_refused("[topic]", "[[topic]]", "`topic` is no table", "write it once, as [topic]");
    refused(
        "workflow = \"a\"\n[source]\nname = \"b\"",
        "[source]",
        "`source` is no list of tables",
        "write it as [[source]]",
    );
    refused(
        "workflow = \"a\"\nsource = [1]",
        "source = [1]",
        "lists what is no table",
        "[[source]]",
    );
}

#[test]
fn unknown_words_come_with_all_that_are_known() {
    value_refused(
        "kind = \"standard\"",
        "kind = \"fiffo\"",
        "kind = \"fiffo\"",
        "did you mean `fifo`? known: standard, fifo",
    );
    value_refused(
        "stage = \"training\"",
        "stage = \"x\"",
        "stage = \"x\"",
        "known: collection, training, evaluation, prediction",
    );
    value_refused(
        "protocol = \"email\"",
        "protocol = \"http\"",
        "protocol = \"http\"",
        "did you mean `https`?",
    );
    let kinds = "known: s3, schedule, step-functions, sagemaker, batch, http";
    refused(
        &and("[[source]]\nname = \"x\"\nkind = \"kinesis\"\nbucket = \"b\"\n"),
        "kind = \"kinesis\"",
        "kind = \"kinesis\"",
        kinds,
    );
}

#[test]
fn names_are_lower_case_and_bounded() {
    let name = "workflow = \"Wine Quality\"";
    value_refused("workflow = \"wine\"", name, "is no name", "`wine-quality`?");
    value_refused("name = \"nightly\"", "name = \"1st\"", "is no name", "from a letter on");
    value_refused("name = \"nightly\"", "name = \"nightly-\"", "is no name", "`nightly`?");
    value_refused("name = \"nightly\"", "name = \"\"", "is empty", "write a value");
    let long = format!("workflow = \"{}\"", "w".repeat(33));
    value_refused("workflow = \"wine\"", &long, "has 33 characters", "at most 32");
    let long = format!("name = \"{}\"", "n".repeat(65));
    value_refused("name = \"nightly\"", &long, "has 65 characters", "at most 64");
}

#[test]
fn durations_have_a_unit() {
    for (text, cause) in [
        ("within = \"1 h\"", "is no duration"),
        ("within = \"h\"", "is no duration"),
        ("within = \"1h30m\"", "is no duration"),
        ("within = \"-1h\"", "is no duration"),
        ("within = \"0s\"", "is no time at all"),
        ("within = \"91d\"", "is too long"),
        ("within = \"99999999999999999999d\"", "is too long"),
        ("within = \"1ü\"", "is no duration"),
    ] {
        refused(&with("within = \"1h\"", text), "gather = {", cause, "");
    }
    value_refused("within = \"1h\"", "within = 3600", "has no unit", "write `within = \"3600s\"`");
    let seconds = |text: &str| {
        let workflow = accepted(&with(
            "expected_duration = \"15m\"",
            &format!("expected_duration = \"{text}\""),
        ));
        workflow.triggers[2].expected_duration_s
    };
    assert_eq!(
        ["90s", "15m", "1h", "2d", "90d"].map(seconds),
        [90, 900, 3_600, 172_800, 7_776_000]
    );
}

#[test]
fn places_on_aws_are_spelt_as_aws_does() {
    value_refused("region = \"eu-west-1\"", "region = \"Ireland\"", "is no region", "eu-west-1");
    value_refused("account = \"123456789012\"", "account = \"1234\"", "is no account", "12 digits");
    for region in ["us-gov-east-1", "cn-north-1", "ap-southeast-4"] {
        accepted(&with("region = \"eu-west-1\"", &format!("region = \"{region}\"")));
    }
    let key = "[topic]\nkms_key = \"my key\"";
    value_refused("[topic]", key, "is no KMS key", "alias/NAME");
    for key in [
        "alias/ml",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ] {
        accepted(&with("[topic]", &format!("[topic]\nkms_key = \"{key}\"")));
    }
    let arn = "arn:aws:sns:eu-west-1:123456789012:t";
    let target = |target: &str| {
        with("start = { sagemaker-pipeline = \"predict\" }", &format!("start = {target}"))
    };
    refused(
        &target(&format!("{{ sqs = \"{arn}\" }}")),
        "start =",
        "is an ARN of sns",
        "arn:aws:sqs:",
    );
    refused(&target("{ sqs = \"queue\" }"), "start =", "is no ARN", "arn:aws:sqs:");
    refused(
        &target("{ sns = \"arn:aws:sns:eu-west-1:12:t\" }"),
        "start =",
        "is no such ARN",
        "arn:aws:sns:",
    );
    refused(
        &target("{ step-functions = \"train.json\" }"),
        "start =",
        "is no .asl.json file",
        "or write the ARN",
    );
    refused(
        &target("{ step-functions = \"/a.asl.json\" }"),
        "start =",
        "is an absolute path",
        "relative",
    );
    refused(&target("{ sagemaker-pipeline = \"a b\" }"), "start =", "is no name", "or an ARN");
}

#[test]
fn a_start_names_a_state_machine_itself() {
    let start = |resource: &str| {
        let arn = format!("arn:aws:states:eu-west-1:123456789012:{resource}");
        with(
            "start = { sagemaker-pipeline = \"predict\" }",
            &format!("start = {{ step-functions = \"{arn}\" }}"),
        )
    };
    accepted(&start("stateMachine:etl"));
    for qualified in ["stateMachine:etl:7", "stateMachine:etl:live", "stateMachine:etl/each"] {
        let own = "own ARN: arn:aws:states:eu-west-1:123456789012:stateMachine:etl";
        refused(&start(qualified), "start =", "names a version, an alias", own);
    }
    for other in ["activity:etl", "execution:etl:e-1", "stateMachine:", "stateMachine"] {
        refused(&start(other), "start =", "is no such ARN", "arn:aws:states:");
    }
}

#[test]
fn who_may_assume_a_role_is_named_exactly() {
    let trusted = "trusted_by = [\"ecs-tasks.amazonaws.com\"]";
    for bad in
        ["*", "ecs-tasks", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::123456789012:group/x"]
    {
        value_refused(trusted, &format!("trusted_by = [\"{bad}\"]"), "is no", "");
    }
    for good in [
        "123456789012",
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role/app",
        "ec2.amazonaws.com.cn",
    ] {
        accepted(&with(trusted, &format!("trusted_by = [\"{good}\"]")));
    }
}

#[test]
fn endpoints_fit_their_protocol() {
    let endpoint = "endpoint = \"ml-on-call@example.com\"";
    for bad in ["on-call", "@example.com", "a@b", "a b@example.com", "a@example..com"] {
        value_refused(
            endpoint,
            &format!("endpoint = \"{bad}\""),
            "is no e-mail address",
            "ml-on-call@example.com",
        );
    }
    let as_https = with("protocol = \"email\"", "protocol = \"https\"");
    let url = |url: &str| as_https.replace("ml-on-call@example.com", url);
    refused(&url("http://example.com/x"), "endpoint", "is of scheme http", "https");
    refused(&url("https://"), "endpoint", "is no URL", "https://example.com");
    refused(&url("example"), "endpoint", "is no URL", "https://example.com");
    accepted(&url("https://example.com:8443/hook?a=b"));
    let as_lambda = with("protocol = \"email\"", "protocol = \"lambda\"");
    refused(&as_lambda, "endpoint", "is no ARN", "arn:aws:lambda:eu-west-1:123456789012:function:");
    value_refused(
        "otlp_endpoint = \"http://localhost:4318\"",
        "otlp_endpoint = \"localhost:4318\"",
        "is",
        "http",
    );
}

#[test]
fn event_types_are_known_or_declared() {
    value_refused(
        "on = \"data.arrived\"",
        "on = \"data.arived\"",
        "`on = \"data.arived\"`",
        "did you mean `data.arrived`? known: data.arrived, data.removed, <stage>.requested|started|completed|failed",
    );
    refused(
        &with(
            "on = [\"training.completed\", \"label.reviewed\"]",
            "on = [\n\"training.completed\",\n\"label.revoked\"]",
        ),
        "label.revoked",
        "`on = \"label.revoked\"`",
        "label.reviewed",
    );
    value_refused("on = \"data.arrived\"", "on = []", "is an empty list", "at least one");
    value_refused(
        "on = \"data.arrived\"",
        "on = [\"data.arrived\", \"data.arrived\"]",
        "twice",
        "keep one",
    );
    value_refused(
        "type = \"label.reviewed\"",
        "type = \"training.completed\"",
        "Bellwire's own",
        "otherwise",
    );
    value_refused(
        "schema = \"schemas/label-reviewed.json\"",
        "schema = \"x.yaml\"",
        "is no .json file",
        ".json",
    );
    accepted(&with("on = \"data.arrived\"", "on = \"ml.data.arrived.v1\""));
}

#[test]
fn a_broken_declaration_is_not_held_against_those_who_use_it() {
    value_refused(
        "type = \"label.reviewed\"",
        "typ = \"label.reviewed\"",
        "unknown key `typ`",
        "did you mean `type`?",
    );
}

#[test]
fn what_is_emitted_fits_the_source() {
    value_refused(
        "emits = \"data.arrived\"",
        "emits = \"training.completed\"",
        "does not fit",
        "data.removed",
    );
    value_refused(
        "emits = \"collection.requested\"",
        "emits = \"collection.started\"",
        "does not fit",
        "requested",
    );
    accepted(&and(
        "[[source]]\nname = \"s\"\nkind = \"schedule\"\nexpression = \"rate(1 day)\"\nemits = \"label.reviewed\"\n",
    ));
}

#[test]
fn s3_is_asked_only_for_what_it_takes() {
    for bad in ["Wine", "s3://wine-lake/raw", "ab", "192.168.0.1", "a..b", "-ab", "wine_lake"] {
        value_refused("bucket = \"wine-lake\"", &format!("bucket = \"{bad}\""), "is", "");
    }
    value_refused("prefix = \"raw/\"", "prefix = \"raw/*\"", "has a wildcard", "drop the `*`");
    let long = format!("prefix = \"{}\"", "p".repeat(1_025));
    value_refused("prefix = \"raw/\"", &long, "has 1025 bytes", "at most 1024");
}

#[test]
fn access_lines_parse() {
    let line = "\"s3:read wine-lake/raw/*\"";
    for (bad, cause, remedy) in [
        ("s3:red wine-lake/raw/*", "unknown verb \"s3:red\"", "did you mean `s3:read`?"),
        ("s3:read wine-lake", "names no keys", "wine-lake/*"),
        ("s3:read wine-lake/", "names no keys", "wine-lake/*"),
        ("s3:read", "does not have two words", "s3:read wine-lake/raw/*"),
        ("s3:read a b c", "does not have two words", "s3:read wine-lake/raw/*"),
        ("s3:read wine-lake/*/raw", "wildcard amid its keys", "at the end"),
        ("s3:read Wine/raw/*", "names \"Wine\", which is no bucket's name", "3 to 63"),
        ("s3:read wine-lake/${aws:username}/*", "policy variable", "literal"),
    ] {
        refused(&with(line, &format!("{bad:?}")), "access", cause, remedy);
    }
}

#[test]
fn functions_stay_within_lambda() {
    let handler = |line: &str| with("[handler]", &format!("[handler]\n{line}"));
    refused(&handler("memory_mb = 64"), "memory_mb", "out of bounds", "from 128 to 10240 MiB");
    refused(&handler("timeout_s = 901"), "timeout_s", "out of bounds", "from 1 to 900 seconds");
    refused(&handler("timeout_s = -1"), "timeout_s", "`timeout_s = -1` is out of bounds", "from 1");
    refused(
        &handler("log_retention_days = 31"),
        "log_retention",
        "nothing that CloudWatch Logs takes",
        "60",
    );
    refused(&handler("artifact = \"handler.tar\""), "artifact", "is no .zip file", ".zip");
    let variables = "environment = { RUST_LOG = \"info\" }";
    for (bad, cause, remedy) in [
        ("AWS_REGION = \"x\"", "Lambda itself sets", "drop it"),
        ("_HANDLER = \"x\"", "Lambda itself sets", "drop it"),
        ("BELLWIRE_X = \"x\"", "Bellwire itself sets", "otherwise"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT = \"x\"",
            "Bellwire itself sets",
            "[telemetry] otlp_endpoint",
        ),
        ("A-B = \"x\"", "is no name of a variable", "letters"),
        ("AB = 1", "gives \"AB\" an integer", "quotes"),
    ] {
        value_refused(variables, &format!("environment = {{ {bad} }}"), cause, remedy);
    }
    let large = format!("environment = {{ BIG = \"{}\" }}", "x".repeat(4_094));
    value_refused(variables, &large, "has 4097 bytes", "Lambda takes 4096");
}

#[test]
fn the_ledger_outlives_step_functions() {
    value_refused(
        "deletion_protection = false",
        "retention_days = 89",
        "`retention_days = 89` is out of bounds",
        "from 90 to 3650 days",
    );
}

#[test]
fn the_display_name_fits_sns() {
    let long = format!("display_name = \"{}\"", "ü".repeat(101));
    value_refused("display_name = \"Wine quality\"", &long, "has 101 characters", "SNS takes 100");
    value_refused(
        "display_name = \"Wine quality\"",
        "display_name = \"a\\nb\"",
        "control characters",
        "one line",
    );
}

#[test]
fn schedules_are_those_of_eventbridge() {
    let expression = "expression = \"cron(0 3 * * ? *)\"";
    for (bad, cause, remedy) in [
        ("daily", "is no schedule", "rate(1 day)"),
        ("rate(1 days)", "does not fit its number", "rate(1 day)"),
        ("rate(2 day)", "does not fit its number", "rate(2 days)"),
        ("rate(0 days)", "is no rate", "rate(1 day)"),
        ("rate(1 week)", "is no rate", "rate(1 day)"),
        ("cron(0 3 * * *)", "has 5 fields", "takes 6"),
        ("cron()", "has 1 fields", "takes 6"),
        ("cron(0 3 * * * *)", "leave one of its days open", "?"),
        ("cron(0 3 ? * ? *)", "leave one of its days open", "?"),
        ("cron(0 3 * * ? $)", "a field that is none", "L W #"),
    ] {
        value_refused(expression, &format!("expression = \"{bad}\""), cause, remedy);
    }
}

#[test]
fn input_holds_json_and_sound_queries() {
    let input = "input = { data = \"$.data\", model = \"champion\" }";
    value_refused(
        input,
        "input = { a = [{ b = \"$.x[\" }] }",
        "\"b\" = \"$.x[\" is no JSONPath",
        "$.data.key",
    );
    value_refused(
        input,
        "input = { bellwire = 1 }",
        "`input.bellwire` is Bellwire's own",
        "otherwise",
    );
    value_refused(input, "input = { day = 2026-11-23 }", "2026-11-23 is a date", "\"2026-11-23\"");
    value_refused(input, "input = { loss = nan }", "nan is no number of JSON", "finite");
    value_refused(input, "input = { n = 99999999999999999999 }", "more than 64 bits", "quotes");
    let workflow = accepted(&with(
        input,
        "input = { n = 0x1F, big = 18446744073709551615, f = 1.0, b = true, l = [1, \"a\"], t = { q = \"$.data\" } }",
    ));
    let wanted = serde_json::json!(
        {"n": 31, "big": u64::MAX, "f": 1.0, "b": true, "l": [1, "a"], "t": {"q": "$.data"}}
    );
    assert_eq!(workflow.triggers[1].input, Some(wanted));
}

#[test]
fn where_is_a_policy_and_its_problems_have_their_own_lines() {
    let condition =
        "where = { dataset = [\"wine\"], data.size_bytes = [{ numeric = [\">\", 0] }] }";
    refused(
        &with(condition, "[trigger.where]\ndataset = [\"wine\"]\n[trigger.where.data]\nsize_bytes = [{ numeric = [\"!\", 0] }]\n[trigger.x]")
            .replace("\n[trigger.x]\ngather = { marker = \"_SUCCESS\", within = \"1h\" }\nstart = { step-functions = \"workflows/train.asl.json\" }\ninput = { data = \"$.data\", model = \"champion\" }\n", "\n[trigger.start]\nsns = \"arn:aws:sns:eu-west-1:123456789012:t\"\n"),
        "size_bytes = [",
        "`where` at `data.size_bytes[0]",
        "",
    );
    value_refused(
        condition,
        "where = { dataset = \"wine\" }",
        "`where` at `dataset`: a key holds a list",
        "",
    );
    value_refused(condition, "where = { time = [2026-11-23] }", "is a date", "quotes");
    assert_eq!(accepted(&with(condition, "where = {}")).triggers[1].condition, None);
}

#[test]
fn a_gather_waits_for_exactly_one_thing() {
    let gather = "gather = { marker = \"_SUCCESS\", within = \"1h\" }";
    value_refused(
        gather,
        "gather = { within = \"1h\" }",
        "`gather` says nothing",
        "marker, manifest, count",
    );
    value_refused(
        gather,
        "gather = { marker = \"a\", count = 2 }",
        "`gather` has marker and count",
        "exactly one",
    );
    value_refused(gather, "gather = { marker = \"a/b\" }", "has a slash", "alone");
    value_refused(
        gather,
        "gather = { count = 0 }",
        "`gather.count = 0` is out of bounds",
        "from 1",
    );
    value_refused(gather, "gather = { quiet = \"2h\" }", "the deadline is at 3600 s", "shorter");
    value_refused(gather, "gather = { all_of = [\"data.arrived\"] }", "lists 1 of the two", "drop");
    value_refused(
        gather,
        "gather = { all_of = [\"data.arrived\", \"label.reviewed\"] }",
        "waits for label.reviewed, and `on` does not list it",
        "add it",
    );
    value_refused(gather, "gather = { count = 2, by = \"dataset\" }", "is no JSONPath", "$.");
    value_refused(
        "guards = { cooldown = \"10m\", max_concurrent = 1, when_held = \"drop\" }",
        "gather = { marker = \"x\" }",
        "`on` lists no `data.arrived`",
        "add data.arrived",
    );
}

#[test]
fn a_trigger_starts_exactly_one_thing() {
    let start = "start = { sagemaker-pipeline = \"predict\" }";
    value_refused(
        start,
        "start = {}",
        "`start` says nothing",
        "step-functions, sagemaker-pipeline",
    );
    value_refused(
        start,
        "start = { step-function = \"a\" }",
        "unknown key `start.step-function`",
        "`step-functions`?",
    );
    value_refused(
        start,
        "start = { sagemaker-pipeline = \"a\", lambda = \"b\" }",
        "`start` has sagemaker-pipeline and lambda",
        "keep one",
    );
}

#[test]
fn guards_are_bounded() {
    let guards = "guards = { cooldown = \"10m\", max_concurrent = 1, when_held = \"drop\" }";
    value_refused(guards, "guards = { max_concurrent = 0 }", "out of bounds", "from 1");
    value_refused(
        guards,
        "guards = { when_held = \"queue\" }",
        "when_held = \"queue\"",
        "known: wait, drop",
    );
}

#[test]
fn the_examples_are_sound() {
    accepted(EXAMPLE);
    accepted(SMALLEST);
}
