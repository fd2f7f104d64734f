//! What a deploy reads from disk: artifacts, and the definitions of state
//! machines. A thin edge, beside the pure judgement of what was read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::Path;

use base64::Engine as _;
use bellwire_schema::function::WORKFLOW_FILE;
use bellwire_schema::limits::{LAMBDA_UNPACKED_BYTES_MAX, LAMBDA_ZIP_BYTES_MAX};
use bellwire_schema::workflow::{PublisherRun, StateMachine, Target, Workflow};
use object::{Architecture, BinaryFormat, Object};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::problem::{Problem, Problems};

/// The file of a `provided.al2023` function that Lambda runs.
const BOOTSTRAP: &str = "bootstrap";
/// The glibc of `provided.al2023`. Source: AWS Lambda developer guide, "Lambda runtimes".
const GLIBC_OF_RUNTIME: (u32, u32) = (2, 34);

/// Zips, by the SHA-256 that Lambda knows them by.
#[derive(Debug, Clone, Default)]
pub struct Code {
    zips: BTreeMap<String, Vec<u8>>,
}

impl Code {
    /// Takes a zip in, and returns its SHA-256 in base64.
    fn add(&mut self, zip: Vec<u8>) -> String {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&zip));
        self.zips.insert(hash.clone(), zip);
        hash
    }

    /// The zip of that SHA-256, in base64.
    #[must_use]
    pub fn zip(&self, code_sha256: &str) -> Option<Vec<u8>> {
        self.zips.get(code_sha256).cloned()
    }
}

/// What the plan needs to know of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifact {
    /// SHA-256 of the zip that is uploaded, in base64.
    pub code_sha256: String,
    /// `arm64` or `x86_64`.
    pub architecture: String,
}

/// All that was read.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The handler's artifact, with the workflow model in it.
    pub handler: Artifact,
    /// The publisher's artifact, with the model too, where it runs as a function.
    pub publisher: Option<Artifact>,
    /// The artifacts of the user's own functions, by their name in the file.
    pub functions: BTreeMap<String, Artifact>,
    /// The definitions of state machines, by trigger.
    pub definitions: BTreeMap<String, Value>,
    /// The zips themselves.
    pub code: Code,
}

/// Reads all that a workflow needs: artifacts relative to `root`, the project's
/// root, definitions relative to the workflow file's folder.
///
/// # Errors
/// All problems of all files at once.
pub fn read(workflow: &Workflow, root: &Path, workflow_folder: &Path) -> Result<Inputs, Problems> {
    let mut inputs = Inputs::default();
    let mut problems = Vec::new();
    let model = serde_json::to_vec(workflow).expect("the model has only text keys");
    let handler = &workflow.handler.artifact;
    match read_artifact("handler", &root.join(handler), Some(&model), &mut inputs.code) {
        Ok(artifact) => inputs.handler = artifact,
        Err(found) => problems.extend(found),
    }
    if workflow.publisher.run == PublisherRun::Lambda {
        let file = root.join(&workflow.publisher.artifact);
        match read_artifact("publisher", &file, Some(&model), &mut inputs.code) {
            Ok(artifact) => inputs.publisher = Some(artifact),
            Err(found) => problems.extend(found),
        }
    }
    for function in &workflow.functions {
        let place = format!("function \"{}\"", function.name);
        match read_artifact(&place, &root.join(&function.artifact), None, &mut inputs.code) {
            Ok(artifact) => {
                inputs.functions.insert(function.name.clone(), artifact);
            }
            Err(found) => problems.extend(found),
        }
    }
    for trigger in &workflow.triggers {
        let Target::StepFunctions(StateMachine::Definition(file)) = &trigger.target else {
            continue;
        };
        let place = format!("trigger \"{}\"", trigger.name);
        match read_definition(&place, &workflow_folder.join(file)) {
            Ok(definition) => {
                inputs.definitions.insert(trigger.name.clone(), definition);
            }
            Err(problem) => problems.push(problem),
        }
    }
    Problems::none_of(problems)?;
    Ok(inputs)
}

fn read_definition(place: &str, file: &Path) -> Result<Value, Problem> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Problem::new(
            place,
            format!("cannot read {shown}: {error}"),
            "paths are relative to the workflow file",
        )
    })?;
    let definition: Value = serde_json::from_str(&text).map_err(|error| {
        Problem::new(place, format!("{shown} is not JSON: {error}"), "mend it there")
    })?;
    let has_states = definition["States"].is_object() && definition["StartAt"].is_string();
    if !has_states {
        let remedy = "see the Amazon States Language specification, states-language.net";
        let cause = format!("{shown} is no state machine: it needs `StartAt` and `States`");
        return Err(Problem::new(place, cause, remedy));
    }
    Ok(definition)
}

fn read_artifact(
    place: &str,
    file: &Path,
    model: Option<&[u8]>,
    code: &mut Code,
) -> Result<Artifact, Vec<Problem>> {
    let shown = file.display().to_string();
    let one = |cause: String, remedy: &str| vec![Problem::new(place, cause, remedy)];
    let opened = File::open(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            one(format!("there is no {shown}"), "build it: cargo xtask build")
        }
        _ => one(format!("cannot read {shown}: {error}"), "check its permissions"),
    })?;
    let unreadable = |error: zip::result::ZipError| {
        one(format!("{shown} is no readable zip: {error}"), "build it again: cargo xtask build")
    };
    let mut archive = ZipArchive::new(opened).map_err(unreadable)?;
    let bootstrap = bootstrap_of(&mut archive).map_err(unreadable)?.ok_or_else(|| {
        one(format!("{shown} holds no `{BOOTSTRAP}`"), "put the program there under that name")
    })?;
    let architecture = judge_bootstrap(place, &shown, &bootstrap)?;
    let zip = match model {
        Some(model) => compose(&mut archive, model).map_err(unreadable)?,
        None => std::fs::read(file)
            .map_err(|error| one(format!("cannot read {shown}: {error}"), "read it again"))?,
    };
    let problems = judge_size(place, &shown, zip.len() as u64, unpacked_bytes(&mut archive));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Artifact { code_sha256: code.add(zip), architecture: architecture.to_owned() })
}

fn bootstrap_of<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
) -> zip::result::ZipResult<Option<Vec<u8>>> {
    let Some(index) = archive.index_for_name(BOOTSTRAP) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let entry = archive.by_index(index)?;
    // A zip may lie of its sizes: no more than a function may have.
    entry.take(LAMBDA_UNPACKED_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn unpacked_bytes<R: Read + Seek>(archive: &mut ZipArchive<R>) -> u64 {
    (0..archive.len()).filter_map(|index| Some(archive.by_index_raw(index).ok()?.size())).sum()
}

/// What Lambda would say of an artifact's size.
fn judge_size(place: &str, shown: &str, zip_bytes: u64, unpacked_bytes: u64) -> Vec<Problem> {
    let sizes = [
        ("zipped", zip_bytes, LAMBDA_ZIP_BYTES_MAX),
        ("unpacked", unpacked_bytes, LAMBDA_UNPACKED_BYTES_MAX),
    ];
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let too_large = sizes.into_iter().filter(|(_, bytes, most)| bytes > most);
    too_large
        .map(|(what, bytes, most)| {
            let cause = format!("{shown} is {} MiB {what}; Lambda takes {}", mib(bytes), mib(most));
            Problem::new(place, cause, "build it with --release, strip symbols, ship data in S3")
        })
        .collect()
}

/// The architecture that a bootstrap is for, by Lambda's name.
fn judge_bootstrap<'a>(
    place: &str,
    shown: &str,
    bootstrap: &[u8],
) -> Result<&'a str, Vec<Problem>> {
    let one = |cause: String, remedy: &str| vec![Problem::new(place, cause, remedy)];
    // A script is a bootstrap too, and runs on either architecture.
    if bootstrap.starts_with(b"#!") {
        return Ok("x86_64");
    }
    let not_elf = || {
        let cause = format!("`{BOOTSTRAP}` in {shown} is no Linux program");
        one(cause, "build it on or for Linux: cargo xtask build")
    };
    let file = object::File::parse(bootstrap).map_err(|_| not_elf())?;
    if file.format() != BinaryFormat::Elf {
        return Err(not_elf());
    }
    let architecture = match file.architecture() {
        Architecture::X86_64 => "x86_64",
        Architecture::Aarch64 => "arm64",
        other => {
            let cause = format!("`{BOOTSTRAP}` in {shown} is for {other:?}");
            return Err(one(cause, "Lambda runs x86_64 and arm64 only"));
        }
    };
    match newest_glibc(bootstrap) {
        Some((major, minor)) if (major, minor) > GLIBC_OF_RUNTIME => {
            let (most_major, most_minor) = GLIBC_OF_RUNTIME;
            let cause = format!(
                "`{BOOTSTRAP}` in {shown} needs glibc {major}.{minor}; provided.al2023 has {most_major}.{most_minor}"
            );
            Err(one(cause, "build it against an older glibc, or statically for musl"))
        }
        _ => Ok(architecture),
    }
}

/// The newest version of glibc that a program names.
///
/// The names of needed versions (`GLIBC_2.34`) stand in its dynamic string
/// table, each closed by a zero.
fn newest_glibc(bootstrap: &[u8]) -> Option<(u32, u32)> {
    use object::ObjectSection as _;

    let file = object::File::parse(bootstrap).ok()?;
    let strings = file.section_by_name(".dynstr")?.data().ok()?;
    let versions = strings.split(|byte| *byte == 0).filter_map(|name| {
        let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let mut numbers = version.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max()
}

/// The zip of a function of ours, the same bytes for the same contents. The bootstrap is taken
/// over as it is compressed: packing it anew at each plan would take seconds.
fn compose<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    model: &[u8],
) -> zip::result::ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let index = archive.index_for_name(BOOTSTRAP).ok_or(zip::result::ZipError::FileNotFound)?;
    writer.raw_copy_file(archive.by_index_raw(index)?)?;
    writer.start_file(WORKFLOW_FILE, options.unix_permissions(0o644))?;
    writer.write_all(model)?;
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_binary() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("a test has a path")).expect("readable")
    }

    #[test]
    fn the_same_contents_make_the_same_zip() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().unix_permissions(0o755);
        writer.start_file(BOOTSTRAP, options).expect("begun");
        writer.write_all(b"#!/bin/sh\n").expect("written");
        let mut artifact = ZipArchive::new(writer.finish().expect("closed")).expect("a zip");
        let mut compose = |model: &[u8]| compose(&mut artifact, model).expect("composed");

        let first = compose(b"{}");
        assert_eq!(first, compose(b"{}"));
        assert_ne!(first, compose(b"{ }"));
        let mut archive = ZipArchive::new(Cursor::new(first)).expect("a zip");
        let bootstrap = archive.by_name(BOOTSTRAP).expect("there");
        assert_eq!(bootstrap.unix_mode().map(|mode| mode & 0o777), Some(0o755));
    }

    #[test]
    fn a_program_s_architecture_and_glibc_are_read() {
        let binary = own_binary();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        let (major, _) = newest_glibc(&binary).expect("tests are linked against glibc");
        assert_eq!(major, 2);
        if newest_glibc(&binary) <= Some(GLIBC_OF_RUNTIME) {
            assert_eq!(judge_bootstrap("handler", "a.zip", &binary), Ok(architecture));
        }
    }

    #[test]
    fn a_newer_glibc_than_the_runtime_s_is_refused() {
        // The last of the version names that this test's own program carries,
        // made newer in place: the same length, so that nothing moves.
        let mut binary = own_binary();
        let at = binary
            .windows(9)
            .position(|window| window == b"GLIBC_2.3")
            .expect("every glibc program names one");
        binary[at..at + 9].copy_from_slice(b"GLIBC_9.3");
        let problems = judge_bootstrap("handler", "a.zip", &binary).expect_err("too new");
        assert!(problems[0].cause.contains("needs glibc 9.3"), "{}", problems[0].cause);
    }

    #[test]
    fn what_is_no_linux_program_is_refused() {
        let problems = judge_bootstrap("handler", "a.zip", b"MZ, perhaps").expect_err("no ELF");
        assert!(problems[0].cause.contains("no Linux program"), "{}", problems[0].cause);
    }

    #[test]
    fn too_large_is_said_of_both_sizes() {
        let problems =
            judge_size("handler", "a.zip", LAMBDA_ZIP_BYTES_MAX + 1, LAMBDA_UNPACKED_BYTES_MAX + 1);
        assert_eq!(problems.len(), 2);
        assert!(judge_size("handler", "a.zip", LAMBDA_ZIP_BYTES_MAX, 1).is_empty());
    }
}
