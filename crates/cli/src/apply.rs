//! `bellwire apply`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwire_infra::Provisioner;
use bellwire_infra::apply::Applied;
use bellwire_infra::inputs::Code;
use bellwire_infra::plan::Plan;
use serde_json::json;

use crate::args::{ApplyOptions, Global};
use crate::error::CommandError;
use crate::load;
use crate::screen::{self, Steps};

pub(crate) async fn apply(global: &Global, options: &ApplyOptions) -> Result<(), CommandError> {
    let workflow = load::overridden_workflow(global, &options.overrides)?;
    let inputs = load::inputs(global, &workflow)?;
    let provisioner = load::provisioner(global, workflow).await?;
    let plan = provisioner.plan(&inputs).await?;
    if global.json {
        anstream::println!("{}", json!({"event": "plan", "plan": plan.to_json()}));
    } else {
        screen::plan(&plan);
    }
    if plan.is_empty() {
        return Ok(());
    }
    if !options.yes {
        let place = &provisioner.owner().place;
        screen::confirm(&format!(
            "\nThis changes account {}, region {}.",
            place.account, place.region
        ))?;
    }
    let applied = execute(global, &provisioner, &plan, &inputs.code).await?;
    if global.json {
        let took_s = applied.took.as_secs_f64();
        anstream::println!(
            "{}",
            json!({"event": "applied", "steps": applied.steps, "took_s": took_s})
        );
    } else {
        anstream::println!(
            "\nApplied: {} steps in {:.1} s.",
            applied.steps,
            applied.took.as_secs_f64()
        );
    }
    Ok(())
}

/// Executes a plan. The first Ctrl-C lets what is under way end; the second ends it.
pub(crate) async fn execute(
    global: &Global,
    provisioner: &Provisioner,
    plan: &Plan,
    code: &Code,
) -> Result<Applied, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                anstream::eprintln!(
                    "stopping when what is under way is done; Ctrl-C again: at once"
                );
            }
        }
    });
    let steps = Steps::new(plan, global.json);
    let progress = |event: &bellwire_infra::apply::Event<'_>| steps.show(event);
    let applied = provisioner.apply(plan, code, &holder(), &progress, &stop).await;
    steps.finish();
    watch.abort();
    Ok(applied?)
}

/// What another apply is told of this one.
fn holder() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").unwrap_or_else(|| "somebody".to_owned());
    let host = variable("HOSTNAME").map_or_else(String::new, |host| format!(" on {host}"));
    let since = jiff::Timestamp::now();
    format!("{user}{host}, process {}, since {since:.0}", std::process::id())
}
