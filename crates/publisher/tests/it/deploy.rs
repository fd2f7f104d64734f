//! What `deploy/` says is true of this program: its flags and variables, its health
//! checks, and the time that it is given to stop.

use std::collections::BTreeSet;
use std::path::Path;

use bellwire_publisher::Flags;
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

const PROGRAM: &str = "/usr/local/bin/bellwire-publisher";
const USER: &str = "65532:65532";

const FILES: [&str; 4] = [
    "Containerfile",
    "bellwire-publisher.service",
    "ecs-task-definition.json",
    "kubernetes-sidecar.yaml",
];

fn text_of(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ecs() -> Value {
    serde_json::from_str(&text_of("ecs-task-definition.json")).unwrap()
}

fn ecs_publisher() -> Value {
    let containers = ecs()["containerDefinitions"].clone();
    let mut containers = containers.as_array().unwrap().clone().into_iter();
    containers.find(|container| container["name"] == "bellwire-publisher").unwrap()
}

/// The pod's template.
fn pod() -> Yaml {
    let documents = YamlLoader::load_from_str(&text_of("kubernetes-sidecar.yaml")).unwrap();
    let set = documents.into_iter().find(|one| one["kind"].as_str() == Some("StatefulSet"));
    set.unwrap()["spec"]["template"]["spec"].clone()
}

fn pod_publisher() -> Yaml {
    pod()["initContainers"][0].clone()
}

/// The values of a setting of the unit.
fn unit(name: &str) -> Vec<String> {
    let text = text_of("bellwire-publisher.service");
    let settings = text.lines().filter_map(|line| line.split_once('='));
    settings.filter(|(other, _)| *other == name).map(|(_, value)| value.to_owned()).collect()
}

/// The seconds of a drain by default: no file says another one.
fn drain_s() -> u64 {
    Flags::parse_from(["bellwire-publisher"]).drain_timeout_s.parse().unwrap()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
}

fn exec_of(probe: &Yaml) -> Vec<&str> {
    let command = probe["exec"]["command"].as_vec().unwrap();
    command.iter().map(|word| word.as_str().unwrap()).collect()
}

/// A command line that this program takes, of a probe that asks the right question.
fn is_health_check(command: &[&str]) {
    assert_eq!(command[0], PROGRAM);
    let flags = Flags::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"));
    assert!(flags.probe.is_some(), "{command:?}");
}

#[test]
fn every_variable_and_every_flag_is_one_of_the_program() {
    let command = Flags::command();
    let known: BTreeSet<&str> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let flags: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    for file in FILES {
        let text = text_of(file);
        let named: Vec<&str> = words(&text).filter(|word| word.starts_with("BELLWIRE_")).collect();
        assert!(!named.is_empty(), "{file}");
        for name in named {
            assert!(known.contains(name), "{file} names {name}");
        }
        // A flag of ours follows the program's name, or stands in a list in quotes.
        let ours = text.lines().filter(|line| line.contains(PROGRAM));
        for flag in ours.flat_map(words).filter(|word| word.starts_with("--")) {
            assert!(flags.contains(flag) || flag == "--from", "{file} names {flag}");
        }
    }
}

#[test]
fn health_checks_are_commands_of_the_program_itself() {
    let ecs = ecs_publisher();
    let command = ecs["healthCheck"]["command"].as_array().unwrap();
    let command: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[0], "CMD");
    is_health_check(&command[1..]);
    let publisher = pod_publisher();
    for probe in ["startupProbe", "livenessProbe"] {
        is_health_check(&exec_of(&publisher[probe]));
        assert!(publisher[probe]["timeoutSeconds"].as_i64().unwrap() > 4, "it waits 4 s itself");
    }
    let text = text_of("Containerfile");
    let (_, check) = text.split_once("HEALTHCHECK").unwrap();
    let (_, check) = check.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(check.lines().next().unwrap()).unwrap();
    is_health_check(&command.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(text.contains(&format!("\nENTRYPOINT [\"{PROGRAM}\"]\n")));
    assert_eq!(unit("ExecStart"), [PROGRAM]);
}

#[test]
fn whoever_stops_it_gives_it_the_time_of_a_drain() {
    for file in FILES {
        assert!(!text_of(file).contains("BELLWIRE_DRAIN_TIMEOUT_S"), "{file}: read it here then");
    }
    let drain_s = drain_s();
    let given = [
        ecs_publisher()["stopTimeout"].as_u64().unwrap(),
        u64::try_from(pod()["terminationGracePeriodSeconds"].as_i64().unwrap()).unwrap(),
        unit("TimeoutStopSec")[0].parse().unwrap(),
    ];
    for given_s in given {
        assert!(given_s > drain_s, "{given_s} s are no time for a drain of {drain_s} s");
    }
    // Amazon ECS: at most 120 s on Fargate.
    assert!(given[0] <= 120);
}

#[test]
fn it_runs_without_rights_that_it_does_not_use() {
    let ecs = ecs_publisher();
    assert_eq!((&ecs["user"], &ecs["readonlyRootFilesystem"]), (&json!(USER), &json!(true)));
    assert_eq!(ecs["linuxParameters"]["capabilities"]["drop"], json!(["ALL"]));
    let (pod, publisher) = (pod(), pod_publisher());
    let of_pod = &pod["securityContext"];
    assert_eq!(of_pod["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(of_pod["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
    let own = &publisher["securityContext"];
    assert_eq!(own["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(own["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(own["capabilities"]["drop"][0].as_str(), Some("ALL"));
    assert_eq!(publisher["restartPolicy"].as_str(), Some("Always"), "no sidecar without it");
    assert!(text_of("Containerfile").contains(&format!("\nUSER {USER}\n")));
    for (name, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
    ] {
        assert_eq!(unit(name), [value], "{name}");
    }
}

/// What is written lies on a volume, and nothing else is: the root may be read-only.
#[test]
fn the_spool_is_on_the_volume() {
    let folder = |spool: &str| Path::new(spool).parent().unwrap().to_str().unwrap().to_owned();
    let ecs = ecs_publisher();
    let variables = ecs["environment"].as_array().unwrap();
    let spool = variables.iter().find(|one| one["name"] == "BELLWIRE_SPOOL").unwrap();
    let spool = folder(spool["value"].as_str().unwrap());
    assert_eq!(ecs["mountPoints"][0]["containerPath"], json!(spool));
    assert!(text_of("Containerfile").contains(&format!("VOLUME [\"{spool}\"]")));
    let publisher = pod_publisher();
    let mounts = publisher["volumeMounts"].as_vec().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"].as_str() == Some(&spool)));
    let expected = format!("BELLWIRE_SPOOL={spool}/spool.redb");
    assert!(unit("Environment").contains(&expected));
    assert_eq!(format!("/var/lib/{}", unit("StateDirectory")[0]), spool);
}
