//! Where the project and what is built of it lie: Cargo is asked, not guessed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::process::{self, ProcessError};

/// The workflow that the demo runs and `deploy` deploys unless told otherwise.
const EXAMPLE_WORKFLOW: &str = "examples/wine/bellwire.toml";

/// The project's folders.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever `CARGO_TARGET_DIR` or its settings put it.
    pub(crate) target: PathBuf,
}

/// Why the project's folders are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    /// Cargo does not say.
    #[error("`cargo metadata` does not tell the project's folders")]
    Metadata(#[source] ProcessError),
    /// Cargo says something unexpected.
    #[error("`cargo metadata` answers in an unknown form")]
    Form(#[source] serde_json::Error),
    /// A folder below the target folder could not be made.
    #[error("`{}` cannot be made; is the target folder writable?", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Project {
    /// Asks Cargo.
    pub(crate) fn find() -> Result<Self, ProjectError> {
        let mut command = cargo();
        command
            .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        let answer = process::output_of(&mut command).map_err(ProjectError::Metadata)?;
        let metadata: Metadata = serde_json::from_str(&answer).map_err(ProjectError::Form)?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory })
    }

    /// The example's workflow file.
    pub(crate) fn example_workflow(&self) -> PathBuf {
        self.root.join(EXAMPLE_WORKFLOW)
    }

    /// The folder of what the project keeps beside Cargo's own: the local cloud's
    /// environment and state, and what the demo leaves.
    pub(crate) fn state(&self) -> PathBuf {
        self.target.join("bellwire")
    }

    /// The zip of a function whose binary has that name.
    pub(crate) fn lambda_zip(&self, binary: &str) -> PathBuf {
        self.target.join("lambda").join(format!("{binary}.zip"))
    }

    /// The folder from which a workflow's `artifact = "target/lambda/..."` is
    /// found: the one that holds the target folder. Where that is not called
    /// `target`, a folder with a link of that name stands in.
    pub(crate) fn artifact_root(&self) -> Result<PathBuf, ProjectError> {
        if self.target.ends_with("target")
            && let Some(parent) = self.target.parent()
        {
            return Ok(parent.to_owned());
        }
        let root = self.state().join("root");
        let link = root.join("target");
        if std::fs::read_link(&link).is_ok_and(|target| target == self.target) {
            return Ok(root);
        }
        let make = || {
            std::fs::create_dir_all(&root)?;
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => symlink(&self.target, &link),
            }
        };
        make().map_err(|source| ProjectError::Folder { path: link.clone(), source })?;
        Ok(root)
    }

    /// A path as a person reads it: relative to the project where it is inside.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// The Cargo that runs this program, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_found_in_a_target_folder_of_any_name() {
        let folder = std::env::temp_dir().join(format!("bellwire-project-{}", std::process::id()));
        let project = Project { root: folder.clone(), target: folder.join("built") };
        std::fs::create_dir_all(project.target.join("lambda")).expect("a folder");
        std::fs::write(project.lambda_zip("x"), "zip").expect("a file");
        for _ in 0..2 {
            let root = project.artifact_root().expect("a root");
            let zip = std::fs::read(root.join("target/lambda/x.zip")).expect("found by its link");
            assert_eq!(zip, b"zip");
        }
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn the_usual_target_folder_needs_no_link() {
        let project = Project { root: "/p".into(), target: "/cache/target".into() };
        assert_eq!(project.artifact_root().expect("a root"), Path::new("/cache"));
    }
}
