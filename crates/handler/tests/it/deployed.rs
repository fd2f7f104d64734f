//! Workflows that are deployed to a local cloud of their own, as users do it: by their files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use bellwire_infra::Provisioner;
use bellwire_infra::inputs::{self, Code};
use bellwire_infra::plan::Plan;
use bellwire_local::LocalCloud;
use bellwire_schema::{Place, workflow};

use crate::world::config_at;

const DEFINITION: &str = r#"{"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}"#;

/// Whatever a test waits for is there long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A cloud, and the folder of a workflow file with its state machine, `pass.asl.json`.
pub(crate) struct Deployed {
    _cloud: LocalCloud,
    folder: PathBuf,
    workflow: String,
    pub(crate) config: SdkConfig,
    pub(crate) place: Place,
}

impl Deployed {
    /// Nothing is deployed yet.
    pub(crate) async fn of(workflow: String) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("deployed-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pass.asl.json"), DEFINITION).unwrap();
        let cloud = LocalCloud::for_tests();
        let config = config_at(cloud.endpoint_url(), cloud.region()).await;
        let place = Place::new(cloud.region(), cloud.account_id());
        Self { _cloud: cloud, folder, workflow, config, place }
    }

    pub(crate) async fn provisioner(&self) -> Provisioner {
        let workflow = workflow::read(&self.workflow);
        let workflow = workflow.unwrap_or_else(|problems| panic!("{problems}"));
        Provisioner::connect(&self.config, workflow, None).await.unwrap()
    }

    pub(crate) async fn plan(&self, provisioner: &Provisioner) -> (Plan, Code) {
        // The function's zip, which `cargo xtask build --profile dev` makes.
        let this = std::env::current_exe().unwrap();
        let root = this.ancestors().nth(4).unwrap().to_owned();
        let inputs = inputs::read(provisioner.workflow(), &root, &self.folder);
        let inputs = inputs.unwrap_or_else(|problems| panic!("run `cargo xtask test`: {problems}"));
        let plan = provisioner.plan(&inputs).await.unwrap_or_else(|error| panic!("{error}"));
        (plan, inputs.code)
    }

    pub(crate) async fn apply(&self) -> Plan {
        let provisioner = self.provisioner().await;
        let (plan, code) = self.plan(&provisioner).await;
        execute(&provisioner, &plan, &code).await;
        plan
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) async fn execute(provisioner: &Provisioner, plan: &Plan, code: &Code) {
    let applied = provisioner.apply(plan, code, "the test", &|_| {}, &AtomicBool::new(false)).await;
    applied.unwrap_or_else(|error| panic!("{error}\n{plan}"));
}
