//! `bellwire destroy`.

use std::io::IsTerminal;

use bellwire_infra::inputs::Code;
use serde_json::json;

use crate::apply::execute;
use crate::args::{DestroyOptions, Global};
use crate::error::CommandError;
use crate::plan::show;
use crate::{load, screen};

pub(crate) async fn destroy(global: &Global, options: &DestroyOptions) -> Result<(), CommandError> {
    let provisioner = load::provisioner(global, load::workflow(global)?).await?;
    let mut named = options.delete_data.clone();
    let mut plan = provisioner.plan_destroy(&named).await?;
    let may_ask = !options.yes && !global.json && std::io::stdin().is_terminal();
    if may_ask && !plan.kept.is_empty() {
        for kept in &plan.kept {
            let question = format!(
                "{} {}. Type its name to delete it too, or nothing to keep it: ",
                kept.id, kept.reason
            );
            if screen::ask(&question)? == kept.id.name {
                named.push(kept.id.name.clone());
            }
        }
        plan = provisioner.plan_destroy(&named).await?;
    }
    show(global, &plan);
    if plan.is_empty() {
        return Ok(());
    }
    if !options.yes {
        let place = &provisioner.owner().place;
        let question =
            format!("\nThis deletes in account {}, region {}.", place.account, place.region);
        screen::confirm(&question)?;
    }
    let applied = execute(global, &provisioner, &plan, &Code::default()).await?;
    let took_s = applied.took.as_secs_f64();
    if global.json {
        anstream::println!(
            "{}",
            json!({"event": "destroyed", "steps": applied.steps, "took_s": took_s})
        );
    } else {
        anstream::println!("\nDestroyed: {} steps in {took_s:.1} s.", applied.steps);
        for kept in &plan.kept {
            anstream::println!("Kept: {}, {}", kept.id, kept.reason);
        }
    }
    Ok(())
}
