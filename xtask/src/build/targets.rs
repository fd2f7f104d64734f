//! Which kinds of targets the handler is compiled with: those that a workflow starts, so
//! that a small workflow has a small binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bellwire_schema::workflow::{self, Problems, TargetKind};

/// The package whose features they are.
const HANDLER: &str = "bellwire-handler";
/// The package of the `bellwire` command.
const CLI: &str = "bellwire-cli";

/// The kinds of targets that the handler is compiled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    kinds: BTreeSet<TargetKind>,
}

/// Why it is not known what a workflow starts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetsError {
    /// The file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The file says nothing sound.
    #[error("{}: {problems}", path.display())]
    Workflow { path: PathBuf, problems: Problems },
}

impl Targets {
    /// Every kind that there is.
    pub(crate) fn all() -> Self {
        Self { kinds: TargetKind::ALL.into() }
    }

    /// What the triggers of a workflow file start.
    pub(crate) fn of_workflow(path: &Path) -> Result<Self, TargetsError> {
        let path = || path.to_owned();
        let text = std::fs::read_to_string(path())
            .map_err(|source| TargetsError::File { path: path(), source })?;
        let workflow = workflow::read(&text)
            .map_err(|problems| TargetsError::Workflow { path: path(), problems })?;
        Ok(Self { kinds: workflow.triggers.iter().map(|trigger| trigger.target.kind()).collect() })
    }

    /// What Cargo is told.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--no-default-features".to_owned()];
        let features = self.kinds.iter().map(|kind| format!("{HANDLER}/{}", kind.feature()));
        let features: Vec<String> = features.collect();
        if !features.is_empty() {
            arguments.extend(["--features".to_owned(), features.join(",")]);
        }
        arguments
    }

    /// What Cargo is told where `bellwire` is compiled, too: whether it looks up what only a
    /// large SDK can ask for.
    pub(crate) fn arguments_of_cli(&self) -> Vec<String> {
        match self.kinds.contains(&TargetKind::SagemakerPipeline) {
            true => vec!["--features".to_owned(), format!("{CLI}/lookup-sagemaker")],
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_s_handler_has_what_the_example_starts_and_nothing_else() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wine/bellwire.toml");
        let targets = Targets::of_workflow(&example).expect("a sound file");
        let expected =
            ["--no-default-features", "--features", "bellwire-handler/target-step-functions"];
        assert_eq!(targets.arguments(), expected);
        assert!(targets.arguments_of_cli().is_empty());
        let all = Targets::all().arguments_of_cli();
        assert_eq!(all, ["--features", "bellwire-cli/lookup-sagemaker"]);
    }

    #[test]
    fn every_kind_is_a_feature_of_the_handler_and_all_of_them_are_its_default() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/handler/Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("there");
        let default = manifest.split("default = [").nth(1).expect("a default");
        let default = default.split(']').next().expect("its end");
        for kind in TargetKind::ALL {
            assert!(default.contains(&format!("\"{}\"", kind.feature())), "{kind:?}");
            assert!(manifest.contains(&format!("\n{} = [", kind.feature())), "{kind:?}");
        }
    }
}
