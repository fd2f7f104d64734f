//! `bellwire rollback`.

use bellwire_infra::Provisioner;
use bellwire_infra::rollback::{Rollback, RollbackError};
use serde_json::json;

use crate::apply::holder;
use crate::args::{Global, RollbackOptions};
use crate::error::CommandError;
use crate::{load, screen};

pub(crate) async fn rollback(
    global: &Global,
    options: &RollbackOptions,
) -> Result<(), CommandError> {
    let workflow = load::workflow(global)?;
    let deployment = load::deployment(global, &workflow);
    let named = options.function.iter();
    let functions: Vec<String> = named
        .map(|name| load::component(&deployment, &workflow, name))
        .collect::<Result<_, _>>()?;
    let provisioner = load::provisioner(global, workflow).await?;
    let rollback = provisioner.plan_rollback(&functions).await?;
    if global.json {
        anstream::println!("{}", json!({"event": "plan", "moves": rollback.to_json()}));
    } else {
        anstream::println!("{rollback}");
    }
    if !options.yes {
        let place = &provisioner.owner().place;
        let (account, region) = (&place.account, &place.region);
        screen::confirm(&format!("\nThis changes account {account}, region {region}."))?;
    }
    execute(global, &provisioner, &rollback).await
}

async fn execute(
    global: &Global,
    provisioner: &Provisioner,
    rollback: &Rollback,
) -> Result<(), CommandError> {
    provisioner.roll_back(rollback, &holder()).await?;
    if global.json {
        anstream::println!("{}", json!({"event": "rolled-back", "moves": rollback.to_json()}));
    } else {
        anstream::println!(
            "\nRolled back: what else the last apply changed stays, and the next apply brings these versions back."
        );
    }
    Ok(())
}

/// Goes back after an apply that does not work; answers with what became of it.
pub(crate) async fn by_itself(
    global: &Global,
    provisioner: &Provisioner,
) -> Result<&'static str, CommandError> {
    let rollback = match provisioner.plan_rollback(&[]).await {
        Ok(rollback) => rollback,
        Err(RollbackError::NothingMoved | RollbackError::NothingApplied) => {
            return Ok("no version served before: everything stays as it is");
        }
        Err(error) => return Err(error.into()),
    };
    if !global.json {
        anstream::println!("{rollback}");
    }
    execute(global, provisioner, &rollback).await?;
    Ok("the versions before serve again")
}
