//! What is exported as a CloudFormation template: that it is sound by cfn-lint, and that a
//! stack of it is what an apply would have made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bellwire_infra::export::Template;
use bellwire_infra::inputs::{self, Inputs};
use bellwire_local::Environment;
use serde_json::Value;

use crate::world::{WORKFLOW, World};

const REQUIREMENTS: &str = include_str!("../cfn-lint-requirements.txt");
const STACK: &str = include_str!("../stack.py");

/// A template on disk, with its code.
struct Exported {
    python: PathBuf,
    template: PathBuf,
    /// The same without what the local cloud's CloudFormation does not make, alarms over more
    /// than one metric, and what has other names there, the entries of a bucket.
    reduced: PathBuf,
    folder: PathBuf,
}

impl Exported {
    fn of(world: &World, inputs: &Inputs, template: &Template) -> Self {
        let root = Environment::for_tests().expect("an environment");
        let python = Environment::python_with(root.root(), REQUIREMENTS, &mut |_| {});
        let folder = world.folder().join("export");
        let code = folder.join("code");
        for (key, code_sha256) in &template.code {
            let file = code.join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, inputs.code.zip(code_sha256).unwrap()).unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("stack.py"), STACK).unwrap();
        let write = |name: &str, body: &Value| {
            let path = folder.join(name);
            std::fs::write(&path, format!("{body:#}")).unwrap();
            path
        };
        let mut reduced = template.body.clone();
        let resources = reduced["Resources"].as_object_mut().unwrap();
        resources.retain(|_, resource| resource["Properties"].get("Metrics").is_none());
        for resource in resources.values_mut() {
            let properties = resource["Properties"].as_object_mut().unwrap();
            properties.remove("NotificationConfiguration");
        }
        Self {
            python: python.expect("cfn-lint is installed"),
            template: write("template.json", &template.body),
            reduced: write("reduced.json", &reduced),
            folder,
        }
    }

    fn lint(&self, region: &str) -> Output {
        let linter = self.python.with_file_name("cfn-lint");
        let mut command = Command::new(linter);
        command.args(["--regions", region, "--non-zero-exit-code", "warning"]);
        command.arg(&self.template).output().expect("cfn-lint runs")
    }

    fn stack(&self, world: &World) -> Output {
        let mut command = Command::new(&self.python);
        world.cloud.set_env(&mut command);
        let stack = self.folder.join("stack.py");
        command.arg(stack).arg(&self.reduced).arg(self.folder.join("code"));
        command.output().expect("Python runs")
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

fn read_inputs(workflow: &bellwire_schema::workflow::Workflow, folder: &Path) -> Inputs {
    inputs::read(workflow, folder, folder).unwrap_or_else(|problems| panic!("{problems}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_of_the_template_is_what_an_apply_would_make() {
    let world = World::new().await;
    let provisioner = world.provisioner(WORKFLOW).await;
    let inputs = read_inputs(provisioner.workflow(), world.folder());
    let template = provisioner.export(&inputs).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(template.left_out, Vec::<String>::new());
    let exported = Exported::of(&world, &inputs, &template);
    let lint = exported.lint(world.cloud.region());
    assert!(lint.status.success(), "{}", said(&lint));
    let stack = exported.stack(&world);
    assert!(stack.status.success(), "{}", said(&stack));
    // The local cloud's stacks give buckets no tags.
    let provisioner = provisioner.adopting(&["wine-lake".to_owned()]);
    let (plan, _) = world.plan(&provisioner).await;
    // What CloudFormation names itself ends in what is new each time.
    let text = plan.to_string();
    let own_name = |line: &str| line.find("/bellwire-LambdaPermission").unwrap_or(line.len());
    let lines: Vec<&str> = text.lines().map(|line| &line[..own_name(line)]).collect();
    insta::assert_snapshot!("stack", lines.join("\n"));
    assert_holds_what_local_stacks_ignore(&template);
}

/// What the plan of the stack shows as not done, although the template says it.
fn assert_holds_what_local_stacks_ignore(template: &Template) {
    let of_type = |of_type: &str| {
        let resources = template.body["Resources"].as_object().unwrap().values();
        let mut found = resources.filter(|resource| resource["Type"] == of_type);
        found.next().unwrap()["Properties"].clone()
    };
    assert_eq!(of_type("AWS::SNS::Topic")["KmsMasterKeyId"], "alias/aws/sns");
    let bucket = of_type("AWS::S3::Bucket");
    assert!(bucket["Tags"].as_array().unwrap().iter().any(|tag| tag["Key"] == "bellwire:managed"));
    let queue = &bucket["NotificationConfiguration"]["QueueConfigurations"][0];
    assert!(queue["Queue"].as_str().unwrap().ends_with(":wine-ingest"));
    let table = of_type("AWS::DynamoDB::Table");
    assert_eq!(table["TimeToLiveSpecification"]["AttributeName"], "expires_at");
    assert_eq!(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
    let alarms = template.body["Resources"].as_object().unwrap().values();
    let sums = alarms.filter(|resource| resource["Properties"].get("Metrics").is_some());
    assert_eq!(sums.count(), 4, "one for the runs of each trigger");
}
