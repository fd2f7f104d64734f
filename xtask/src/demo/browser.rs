//! Phoenix's page of a trace, looked at by a headless Chromium: what a person would see.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::interrupt;
use crate::process::ProcessError;

/// Debian's name of it, and others'.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// How much time the page is given to load its parts, in the browser's own clock, which
/// goes on when nothing is under way.
const TIME_BUDGET: Duration = Duration::from_secs(30);
/// A page may be asked for before its data is indexed.
const LOOKS_MAX: u32 = 5;
const WINDOW: &str = "1600,1400";

/// Why the page does not show the trace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrowserError {
    /// There is none.
    #[error(
        "there is no Chromium to look with: `{}` in PATH (Debian: apt install chromium)",
        PROGRAMS.join("`, `")
    )]
    Missing,
    /// It failed.
    #[error("`{}` failed on {page}:\n{message}", program.display())]
    Failed { program: PathBuf, page: String, message: String },
    /// The page is there, and lacks spans.
    #[error("{page} does not show the spans {}", missing.join(", "))]
    Unseen { page: String, missing: Vec<String> },
    /// It could not be started, or the user interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Looks at a page until it shows all of these names, and takes a picture of it.
pub(crate) fn look_at(
    page: &str,
    names: &BTreeSet<&str>,
    folder: &Path,
    picture: &Path,
) -> Result<(), BrowserError> {
    let program = find().ok_or(BrowserError::Missing)?;
    let profile = folder.join("browser");
    // A new one each time: what an earlier page has left is not looked at.
    let _ = fs::remove_dir_all(&profile);
    let mut missing = Vec::new();
    for _ in 0..LOOKS_MAX {
        interrupt::check()?;
        let text = run(&program, &profile, "--dump-dom", page)?;
        missing = names.iter().filter(|name| !text.contains(**name)).collect();
        if missing.is_empty() {
            run(&program, &profile, &format!("--screenshot={}", picture.display()), page)?;
            return Ok(());
        }
    }
    let missing = missing.into_iter().map(|name| format!("`{name}`")).collect();
    Err(BrowserError::Unseen { page: page.to_owned(), missing })
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    PROGRAMS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

fn run(program: &Path, profile: &Path, what: &str, page: &str) -> Result<String, BrowserError> {
    let mut command = Command::new(program);
    command
        .args(["--headless", "--disable-gpu", "--no-first-run", "--disable-quic"])
        // It has no business with anyone but the page.
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={WINDOW}"))
        .arg(format!("--virtual-time-budget={}", TIME_BUDGET.as_millis()))
        .args([what, page])
        .stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        // Chromium's sandbox does not work for root, and the page is our own.
        command.arg("--no-sandbox");
    }
    let output = command.output().map_err(|source| {
        let program = program.display().to_string();
        BrowserError::Process(ProcessError::Start { program, source })
    })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let (program, page) = (program.to_owned(), page.to_owned());
        return Err(BrowserError::Failed { program, page, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
