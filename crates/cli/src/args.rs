//! The command line.

use std::path::PathBuf;

use bellwire_schema::EventType;
use bellwire_schema::names::parse_environment;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Deploys a workflow to AWS, and looks at what it does.
#[derive(Debug, Parser)]
#[command(name = "bellwire", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed; what to do stands on standard error
  2   `plan --exit-code`: there is something to do
  3   `plan --drift`: something was changed by hand since the last apply
  4   `apply --prove`: applied, and unproven
  64  the command line cannot be read

Credentials and region come from the standard AWS settings (AWS_PROFILE, AWS_REGION, …);
AWS_ENDPOINT_URL leads to a local AWS.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The workflow file
    #[arg(long, global = true, default_value = "bellwire.toml", value_name = "FILE")]
    pub(crate) workflow: PathBuf,
    /// The environment: part of every name, so that one account holds several
    #[arg(long, global = true, value_name = "NAME", value_parser = parse_environment)]
    pub(crate) env: Option<String>,
    /// The project's root, which artifacts are relative to
    #[arg(long, global = true, default_value = ".", value_name = "FOLDER")]
    pub(crate) root: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what an apply would do
    Plan(PlanOptions),
    /// Make everything as the workflow file says
    Apply(ApplyOptions),
    /// Delete everything that is the workflow's; data only where it is named
    Destroy(DestroyOptions),
    /// Let the versions serve again that served before the last apply
    Rollback(RollbackOptions),
    /// Print ARNs, URLs and names of what is deployed
    Outputs,
    /// Write what an apply would make as a template for another tool, and apply nothing
    Export(ExportOptions),
    /// Publish an event
    Emit(EmitOptions),
    /// List what was started, why, and what became of it
    Runs(RunsOptions),
    /// Print temporary credentials of a component's role, for `credential_process`
    Credentials(CredentialsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// Exit with 2 where there is something to do, with 0 where there is nothing
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Save the plan, for `bellwire apply FILE`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Tell what was changed by hand since the last apply, and exit with 3 where something was;
    /// it takes no artifacts
    #[arg(long, conflicts_with_all = ["exit_code", "out", "adopt", "otlp_endpoint", "timings"])]
    pub(crate) drift: bool,
    /// Tell how many calls to AWS it took
    #[arg(long)]
    pub(crate) timings: bool,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What stands above the workflow file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Overrides {
    /// Where functions send traces (OTLP over HTTP), in place of the workflow file's
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Take over a resource of this name, which is there and not the workflow's; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) adopt: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyOptions {
    /// A plan that `bellwire plan --out FILE` saved: it is applied as it was shown, without
    /// asking, or not at all
    #[arg(value_name = "FILE", conflicts_with_all = ["otlp_endpoint", "adopt"])]
    pub(crate) plan: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Then send a probe through topic, filter and handler, and go back to the versions before
    /// where it does not come through
    #[arg(long)]
    pub(crate) prove: bool,
    /// How long the probe may take; where the filter was changed it is 15 minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "prove")]
    pub(crate) prove_within: u64,
    /// Tell how many calls to AWS it took, and how long those that follow one another took
    #[arg(long)]
    pub(crate) timings: bool,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The template's language
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Where to write the template [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to write the functions' zips, under the keys that they must have in the code bucket
    #[arg(long, value_name = "FOLDER")]
    pub(crate) code: Option<PathBuf>,
    /// Where functions send traces (OTLP over HTTP), in place of the workflow file's
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// A template's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// AWS CloudFormation, in JSON
    Cloudformation,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackOptions {
    /// `handler`, `publisher`, or the name of a function of the workflow, to go back to the
    /// version before the one that serves; repeatable. Without: all that the last apply changed
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Vec<String>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DestroyOptions {
    /// Do not ask; what holds data stays unless it is named
    #[arg(long)]
    pub(crate) yes: bool,
    /// A bucket, table or queue to delete with all that is in it; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) delete_data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EmitOptions {
    /// A CloudEvent in JSON, structured mode; `-` reads standard input
    #[arg(conflicts_with = "event_type", required_unless_present = "event_type")]
    pub(crate) file: Option<PathBuf>,
    /// The event's type, such as `collection.requested`
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<EventType>,
    /// Its payload, in JSON
    #[arg(long, value_name = "JSON", requires = "event_type")]
    pub(crate) data: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "URI", default_value = "/bellwire/emit")]
    pub(crate) source: String,
    /// Its id: the same source and id are the same event; a new one by default
    #[arg(long, value_name = "ID", requires = "event_type")]
    pub(crate) id: Option<String>,
    /// The dataset it is about
    #[arg(long, value_name = "NAME", requires = "event_type")]
    pub(crate) dataset: Option<String>,
    /// Send it to a running publisher, such as `http://127.0.0.1:8787`; by default it goes
    /// straight to the topic
    #[arg(long, value_name = "URL")]
    pub(crate) publisher: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsOptions {
    /// How far back, in hours
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=9_600))]
    pub(crate) hours: u32,
    /// Only those of one trigger
    #[arg(long, value_name = "NAME")]
    pub(crate) trigger: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CredentialsOptions {
    /// `publisher`, `handler`, or the name of a function of the workflow
    pub(crate) component: String,
}
