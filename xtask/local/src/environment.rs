//! The Python virtual environment that holds ministack.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

const REQUIREMENTS: &str = include_str!("../requirements.txt");
const PROGRAMS: [(&str, &str); 8] = [
    ("authorisation.py", include_str!("../authorisation.py")),
    ("bench.py", include_str!("../bench.py")),
    ("encryption.py", include_str!("../encryption.py")),
    ("launcher.py", include_str!("../launcher.py")),
    ("patches.py", include_str!("../patches.py")),
    ("selfcheck.py", include_str!("../selfcheck.py")),
    ("step_functions.py", include_str!("../step_functions.py")),
    ("watching.py", include_str!("../watching.py")),
];

const PYTHON_MINIMUM: (u32, u32) = (3, 10);
/// The usual names first; the others help where `python3` is an old one.
const PYTHON_NAMES: [&str; 7] =
    ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
const PYTHON_PROBE: &str = "import sys, importlib.util as u; \
    print('%d.%d.%d' % sys.version_info[:3], \
    all(u.find_spec(m) for m in ('venv', 'ensurepip')))";

/// Written last: an environment without it is not trusted.
const COMPLETE_MARKER: &str = ".complete";
const PIP_LINES_SHOWN: usize = 12;

/// A complete environment: a Python with ministack, and the launcher.
#[derive(Clone, Debug)]
pub struct Environment {
    pub(crate) root: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) launcher: PathBuf,
}

/// What [`Environment::ensure`] is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another process sets the same environment up; waiting for it.
    Waiting,
    /// Makes a virtual environment.
    CreatingEnvironment {
        /// The Python that it is made with.
        python: PathBuf,
        /// That Python's version.
        version: String,
    },
    /// Downloads and installs ministack and what it needs.
    Installing,
    /// The environment is complete.
    Ready {
        /// Whether it was made just now.
        installed: bool,
    },
}

/// Why there is no environment, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No Python was found.
    #[error(
        "the local AWS needs Python {}.{} or newer, and there is no `python3` in PATH\n\
         install it (Debian: apt install python3 python3-venv; macOS: brew install python3)",
        PYTHON_MINIMUM.0, PYTHON_MINIMUM.1
    )]
    PythonMissing,
    /// Every Python found is too old.
    #[error(
        "the local AWS needs Python {}.{} or newer, and {} is {version}\n\
         install a newer one; `python3` and `python3.10` to `python3.14` in PATH are tried",
        PYTHON_MINIMUM.0, PYTHON_MINIMUM.1, python.display()
    )]
    PythonTooOld {
        /// The first Python found.
        python: PathBuf,
        /// Its version.
        version: String,
    },
    /// The Python cannot make virtual environments.
    #[error(
        "{} ({version}) has no `venv` and `ensurepip` modules\n\
         install them (Debian: apt install python3-venv)",
        python.display()
    )]
    VenvMissing {
        /// The Python.
        python: PathBuf,
        /// Its version.
        version: String,
    },
    /// The virtual environment could not be made.
    #[error("could not make a virtual environment in {}:\n{output}", folder.display())]
    Venv {
        /// Where.
        folder: PathBuf,
        /// The last lines of what Python said.
        output: String,
    },
    /// pip could not install the requirements.
    #[error(
        "pip could not install what is needed:\n{output}\n\
         check that this machine reaches a Python package index (pip's own settings apply), \
         then try again"
    )]
    Pip {
        /// The last lines of what pip said.
        output: String,
    },
    /// A file or folder of the environment could not be read or written.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Environment {
    /// Finds or makes the environment under `root`, with a Python from PATH.
    ///
    /// Only the first call takes long. Callers at the same time wait for one another, and an
    /// interrupted set-up is begun again.
    ///
    /// # Errors
    /// [`SetupError`], whose text says what to do.
    pub fn ensure(root: &Path, progress: &mut dyn FnMut(Step)) -> Result<Environment, SetupError> {
        let search_path = env::var_os("PATH").unwrap_or_default();
        Environment::ensure_from(root, &search_path, progress)
    }

    /// As [`Environment::ensure`], with a Python from `search_path`, which is written as PATH is.
    ///
    /// # Errors
    /// As [`Environment::ensure`].
    pub fn ensure_from(
        root: &Path,
        search_path: &OsStr,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Environment, SetupError> {
        let python = find_python(search_path)?;
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        let root = root.canonicalize().map_err(io_error("find", root))?;
        let venv = root.join(format!("venv-{}", digest([REQUIREMENTS, &python.version])));
        let programs = root.join(format!("launcher-{}", digest(PROGRAMS.map(|(_, text)| text))));
        let environment = Environment {
            python: venv.join("bin/python"),
            launcher: programs.join("launcher.py"),
            root,
        };
        // Both are complete or absent: no lock is needed to use them.
        if is_complete(&venv) && programs.is_dir() {
            progress(Step::Ready { installed: false });
            return Ok(environment);
        }
        let installed = ensure_venv(&venv, &python, REQUIREMENTS, progress)?;
        let _lock = lock(&environment.root.join("setup.lock"), progress)?;
        write_programs(&programs)?;
        progress(Step::Ready { installed });
        Ok(environment)
    }

    /// Finds or makes, beside ministack's, an environment of other requirements, each
    /// of which has its hash; answers with its Python.
    ///
    /// # Errors
    /// As [`Environment::ensure`].
    pub fn python_with(
        root: &Path,
        requirements: &str,
        progress: &mut dyn FnMut(Step),
    ) -> Result<PathBuf, SetupError> {
        let python = find_python(&env::var_os("PATH").unwrap_or_default())?;
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        let root = root.canonicalize().map_err(io_error("find", root))?;
        let venv = root.join(format!("venv-{}", digest([requirements, &python.version])));
        let installed = ensure_venv(&venv, &python, requirements, progress)?;
        progress(Step::Ready { installed });
        Ok(venv.join("bin/python"))
    }

    /// The folder under which the environment is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Makes an environment where there is no complete one; whether it did.
fn ensure_venv(
    venv: &Path,
    python: &Python,
    requirements: &str,
    progress: &mut dyn FnMut(Step),
) -> Result<bool, SetupError> {
    if is_complete(venv) {
        return Ok(false);
    }
    let _lock = lock(&venv.with_file_name("setup.lock"), progress)?;
    // Whoever held the lock may have made it.
    if is_complete(venv) {
        return Ok(false);
    }
    if let Err(error) = install(venv, python, requirements, progress) {
        // Half of an environment is of no use to anyone; why it is half is.
        let _ = remove_folder(venv);
        return Err(error);
    }
    Ok(true)
}

struct Python {
    program: PathBuf,
    version: String,
}

fn find_python(search_path: &OsStr) -> Result<Python, SetupError> {
    let mut too_old = None;
    let mut without_venv = None;
    for name in PYTHON_NAMES {
        for folder in env::split_paths(search_path) {
            let program = folder.join(name);
            if folder.as_os_str().is_empty() || !program.is_file() {
                continue;
            }
            let Some((version, has_venv)) = probe(&program) else {
                continue;
            };
            let found = Python { program, version };
            if !is_new_enough(&found.version) {
                too_old.get_or_insert(found);
            } else if !has_venv {
                without_venv.get_or_insert(found);
            } else {
                return Ok(found);
            }
        }
    }
    Err(match (without_venv, too_old) {
        (Some(Python { program, version }), _) => {
            SetupError::VenvMissing { python: program, version }
        }
        (None, Some(Python { program, version })) => {
            SetupError::PythonTooOld { python: program, version }
        }
        (None, None) => SetupError::PythonMissing,
    })
}

/// The version of a Python and whether it can make virtual environments; nothing for a program
/// that does not run, such as a version manager's stub for a version that is not installed.
fn probe(program: &Path) -> Option<(String, bool)> {
    let output = Command::new(program)
        .args(["-c", PYTHON_PROBE])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (version, has_venv) = text.trim().split_once(' ')?;
    Some((version.to_owned(), has_venv == "True"))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= PYTHON_MINIMUM
}

fn digest<'text>(texts: impl IntoIterator<Item = &'text str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    }
    let bytes = hasher.finalize();
    bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Complete, and its Python still there: a removed base Python leaves a dangling link.
fn is_complete(venv: &Path) -> bool {
    venv.join(COMPLETE_MARKER).is_file() && venv.join("bin/python").is_file()
}

/// Locks until the file is dropped; a killed process's lock is gone with it.
fn lock(path: &Path, progress: &mut dyn FnMut(Step)) -> Result<File, SetupError> {
    let file = File::create(path).map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            progress(Step::Waiting);
            file.lock().map_err(io_error("lock", path))?;
        }
        Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
    }
    Ok(file)
}

fn install(
    venv: &Path,
    python: &Python,
    pinned: &str,
    progress: &mut dyn FnMut(Step),
) -> Result<(), SetupError> {
    remove_folder(venv)?;
    progress(Step::CreatingEnvironment {
        python: python.program.clone(),
        version: python.version.clone(),
    });
    let made = run(Command::new(&python.program).args(["-m", "venv"]).arg(venv))?;
    if !made.status.success() {
        return Err(SetupError::Venv { folder: venv.to_owned(), output: last_lines(&made) });
    }
    progress(Step::Installing);
    let requirements = venv.join("requirements.txt");
    write(&requirements, pinned)?;
    let installed = run(Command::new(venv.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--require-hashes", "-r"])
        .arg(&requirements))?;
    if !installed.status.success() {
        return Err(SetupError::Pip { output: last_lines(&installed) });
    }
    write(&venv.join(COMPLETE_MARKER), "")
}

fn run(command: &mut Command) -> Result<Output, SetupError> {
    let program = PathBuf::from(command.get_program());
    command
        .env_remove("PYTHONHOME")
        .env_remove("PYTHONPATH")
        .env_remove("VIRTUAL_ENV")
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("run", &program))
}

fn last_lines(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(PIP_LINES_SHOWN);
    lines[first..].join("\n")
}

/// Writes the launcher beside its final place, then moves it there whole.
fn write_programs(folder: &Path) -> Result<(), SetupError> {
    if folder.is_dir() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    remove_folder(&partial)?;
    fs::create_dir(&partial).map_err(io_error("make", &partial))?;
    for (name, text) in PROGRAMS {
        write(&partial.join(name), text)?;
    }
    fs::rename(&partial, folder).map_err(io_error("make", folder))
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).map_err(io_error("write", path))
}

fn remove_folder(path: &Path) -> Result<(), SetupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        assert!(is_new_enough("3.10.13"));
        assert!(is_new_enough("3.14.0"));
        assert!(is_new_enough("4.0.0"));
        assert!(!is_new_enough("3.9.18"));
        assert!(!is_new_enough("2.7.18"));
        assert!(!is_new_enough("nonsense"));
    }

    #[test]
    fn the_requirements_pin_the_patched_version_and_hash_everything() {
        assert!(REQUIREMENTS.contains(&format!("ministack=={}", crate::MINISTACK_VERSION)));
        let pins = REQUIREMENTS.matches("==").count();
        let logical = REQUIREMENTS.replace("\\\n", "");
        let unhashed: Vec<&str> = logical
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("--hash=sha256:"))
            .collect();
        assert!(pins > 10 && unhashed.is_empty(), "{unhashed:?}");
    }
}
