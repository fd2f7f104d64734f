//! `bellwire outputs`.

use crate::args::Global;
use crate::error::CommandError;
use crate::load;

pub(crate) async fn outputs(global: &Global) -> Result<(), CommandError> {
    let provisioner = load::provisioner(global, load::workflow(global)?).await?;
    let outputs = provisioner.outputs().await?;
    if outputs.resources == 0 {
        let owner = provisioner.owner();
        return Err(CommandError::NothingDeployed {
            what: owner.deployment.prefix(),
            account: owner.place.account.clone(),
            region: owner.place.region.clone(),
        });
    }
    if global.json {
        anstream::println!("{:#}", serde_json::json!(outputs));
    } else {
        anstream::println!("{outputs}");
    }
    Ok(())
}
