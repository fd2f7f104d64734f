//! `bellwire apply`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwire_infra::Provisioner;
use bellwire_infra::apply::Applied;
use bellwire_infra::inputs::{Code, Inputs};
use bellwire_infra::plan::{Action, Plan};
use bellwire_infra::prove::{FILTER_ACTS_WITHIN, Proof, Trial};
use bellwire_infra::resource::Kind;
use bellwire_infra::saved::SavedPlan;
use bellwire_infra::timings::{ApplyTimings, PlanTimings};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ApplyOptions, Global, Overrides};
use crate::error::CommandError;
use crate::load;
use crate::plan::{saved, show};
use crate::rollback;
use crate::screen::{self, Steps};

/// Exit code where all was applied, and it is not known whether it works.
const EXIT_UNPROVEN: u8 = 4;

pub(crate) async fn apply(
    global: &Global,
    options: &ApplyOptions,
) -> Result<ExitCode, CommandError> {
    let saved = options.plan.as_deref().map(saved).transpose()?;
    let overrides = match &saved {
        Some(saved) => {
            Overrides { otlp_endpoint: saved.otlp_endpoint.clone(), adopt: saved.adopt.clone() }
        }
        None => options.overrides.clone(),
    };
    let workflow = load::overridden_workflow(global, &overrides)?;
    let inputs = load::inputs(global, &workflow)?;
    let provisioner = load::provisioner(global, workflow).await?.adopting(&overrides.adopt);
    let began = Instant::now();
    let mut plan = provisioner.plan(&inputs).await?;
    let planned = PlanTimings::of(&plan, &provisioner.calls().take(), began.elapsed());
    show(global, &plan);
    if let Some(saved) = &saved {
        saved.check(&plan)?;
    } else if !plan.is_empty() && !options.yes {
        plan = confirmed(&provisioner, &inputs, plan).await?;
    }
    if !plan.is_settled() {
        let applied = execute(global, &provisioner, &plan, &inputs.code).await?;
        let made = ApplyTimings::of(&plan, &provisioner.calls().take(), applied.took);
        tell(global, &applied, options.timings.then_some((&planned, &made)));
    }
    if options.prove {
        prove(global, options, &provisioner, &plan).await
    } else {
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks, and makes sure that what was shown is still what would be done: an answer takes
/// its time.
async fn confirmed(
    provisioner: &Provisioner,
    inputs: &Inputs,
    plan: Plan,
) -> Result<Plan, CommandError> {
    let place = &provisioner.owner().place;
    screen::confirm(&format!(
        "\nThis changes account {}, region {}.",
        place.account, place.region
    ))?;
    let shown = SavedPlan::of(&plan, &[], None);
    let now = provisioner.plan(inputs).await?;
    shown.check(&now)?;
    let _ = provisioner.calls().take();
    Ok(now)
}

fn tell(global: &Global, applied: &Applied, timings: Option<(&PlanTimings, &ApplyTimings)>) {
    let took_s = applied.took.as_secs_f64();
    if global.json {
        let mut event = json!({"event": "applied", "steps": applied.steps, "took_s": took_s});
        if let Some((planned, made)) = timings {
            event["timings"] = json!({"plan": planned.to_json(), "apply": made.to_json()});
        }
        anstream::println!("{event}");
        return;
    }
    anstream::println!("\nApplied: {} steps in {took_s:.1} s.", applied.steps);
    if let Some((planned, made)) = timings {
        anstream::println!("\n{planned}\n{made}");
    }
}

/// Proves that what was applied works. Where it does not, what served before serves again;
/// where that is not known, all stays.
async fn prove(
    global: &Global,
    options: &ApplyOptions,
    provisioner: &Provisioner,
    plan: &Plan,
) -> Result<ExitCode, CommandError> {
    let now = jiff::Timestamp::now().as_nanosecond();
    let within = Duration::from_secs(options.prove_within);
    let trial = Trial {
        name: format!("prove-{now:x}-{:x}", std::process::id()),
        within,
        within_after_filter: FILTER_ACTS_WITHIN.max(within),
    };
    if !global.json {
        anstream::eprintln!("\nproving: a probe is on its way");
    }
    let proof = provisioner.prove(plan, &trial).await.map_err(CommandError::Prove)?;
    if global.json {
        let (proof, text) = (proof.word(), proof.to_string());
        anstream::println!("{}", json!({"event": "proof", "proof": proof, "text": text}));
    } else {
        anstream::println!("\n{proof}");
    }
    match proof {
        Proof::Proven { .. } => Ok(ExitCode::SUCCESS),
        Proof::Unproven { .. } => Ok(ExitCode::from(EXIT_UNPROVEN)),
        Proof::Failed { .. } => {
            let has_moved = plan
                .steps
                .iter()
                .any(|step| step.id.kind == Kind::Alias && step.action == Action::Update);
            let fate = match has_moved {
                true => rollback::by_itself(global, provisioner).await?,
                false => "no version was changed by this apply: everything stays as it is",
            };
            Err(CommandError::NotProven { fate })
        }
    }
}

/// Executes a plan. The first Ctrl-C or SIGTERM lets what is under way end; the second
/// ends it.
pub(crate) async fn execute(
    global: &Global,
    provisioner: &Provisioner,
    plan: &Plan,
    code: &Code,
) -> Result<Applied, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn(stop_on_signals(Arc::clone(&stop)));
    let steps = Steps::new(plan, global.json);
    let progress = |event: &bellwire_infra::apply::Event<'_>| steps.show(event);
    let applied = provisioner.apply(plan, code, &holder(), &progress, &stop).await;
    steps.finish();
    watch.abort();
    Ok(applied?)
}

async fn stop_on_signals(stop: Arc<AtomicBool>) {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    loop {
        let interrupted = tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed.is_ok(),
            told = terminated.recv() => told.is_some(),
        };
        if !interrupted {
            return;
        }
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        anstream::eprintln!("stopping when what is under way is done; Ctrl-C again: at once");
    }
}

/// What another apply is told of this one.
pub(crate) fn holder() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").unwrap_or_else(|| "somebody".to_owned());
    let host = variable("HOSTNAME").map_or_else(String::new, |host| format!(" on {host}"));
    let since = jiff::Timestamp::now();
    format!("{user}{host}, process {}, since {since:.0}", std::process::id())
}
