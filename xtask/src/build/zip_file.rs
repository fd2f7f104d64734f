//! A function's zip: `bootstrap`, executable, and nothing else. The same binary
//! always makes the same bytes, so that an unchanged function is not deployed again.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64, SymbolSection};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, pod};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What Lambda's custom runtimes start.
const BOOTSTRAP: &str = "bootstrap";
const EXECUTABLE: u32 = 0o755;

/// How a zip is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// For AWS: as small as it gets.
    Small,
    /// For the local cloud: made in a moment, and a third to upload.
    Quick,
}

/// Why a zip was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZipError {
    /// The bytes do not become a zip.
    #[error("the zip cannot be composed")]
    Compose(#[from] zip::result::ZipError),
    /// The binary or the zip cannot be read or written.
    #[error("`{}` cannot be read or written", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// A function's zip as bytes.
pub(crate) fn compose(binary: &[u8], packing: Packing) -> Result<Vec<u8>, ZipError> {
    let options = SimpleFileOptions::default()
        .unix_permissions(EXECUTABLE)
        .last_modified_time(DateTime::default());
    let options = match packing {
        Packing::Small => {
            options.compression_method(CompressionMethod::Deflated).compression_level(Some(9))
        }
        Packing::Quick => {
            options.compression_method(CompressionMethod::Deflated).compression_level(Some(1))
        }
    };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(BOOTSTRAP, options)?;
    match packing {
        Packing::Small => zip.write_all(binary),
        Packing::Quick => zip.write_all(&without_sections(binary)),
    }
    .map_err(zip::result::ZipError::Io)?;
    Ok(zip.finish()?.into_inner())
}

/// A binary cut after the last byte that the loader maps: without symbols and
/// debug information, which are most of a development build. What cannot be
/// read as a binary stays as it is.
fn without_sections(binary: &[u8]) -> Vec<u8> {
    let mut cut = binary.to_vec();
    let Ok(file) = ElfFile64::<Endianness>::parse(binary) else { return cut };
    let endian = file.endian();
    let headers_end = size_of::<FileHeader64<Endianness>>()
        + size_of_val::<[ProgramHeader64<Endianness>]>(file.elf_program_headers());
    let mapped_end = file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == PT_LOAD)
        .map(|header| header.p_offset(endian).saturating_add(header.p_filesz(endian)))
        .max()
        .and_then(|end| usize::try_from(end).ok())
        .unwrap_or(binary.len());
    cut.truncate(mapped_end.max(headers_end));
    if let Ok((header, _)) = pod::from_bytes_mut::<FileHeader64<Endianness>>(&mut cut) {
        header.e_shoff.set(endian, 0);
        header.e_shnum.set(endian, 0);
        header.e_shstrndx.set(endian, SymbolSection(0));
    }
    cut
}

/// Writes a zip where there is not already the very same, in one step: no reader
/// ever sees a half-written one. Says whether it wrote.
pub(crate) fn write_if_changed(path: &Path, zip: &[u8]) -> Result<bool, ZipError> {
    let failed = |source| ZipError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(present) if present == zip => return Ok(false),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let partial = path.with_extension("zip.partial");
    std::fs::write(&partial, zip).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use zip::ZipArchive;

    use super::*;

    #[test]
    fn the_same_binary_makes_the_same_bytes_and_an_executable_bootstrap() {
        for packing in [Packing::Small, Packing::Quick] {
            let zip = compose(b"binary", packing).expect("composed");
            assert_eq!(zip, compose(b"binary", packing).expect("composed"));
            assert_ne!(zip, compose(b"binarz", packing).expect("composed"));
            let mut archive = ZipArchive::new(Cursor::new(zip)).expect("a zip");
            assert_eq!(archive.len(), 1);
            let mut bootstrap = archive.by_name("bootstrap").expect("there");
            assert_eq!(bootstrap.unix_mode().map(|mode| mode & 0o777), Some(0o755));
            let mut content = String::new();
            bootstrap.read_to_string(&mut content).expect("read");
            assert_eq!(content, "binary");
        }
    }

    #[test]
    fn an_unchanged_zip_is_not_written_again() {
        let folder = std::env::temp_dir().join(format!("bellwire-zip-{}", std::process::id()));
        let path = folder.join("lambda/x.zip");
        assert!(write_if_changed(&path, b"one").expect("written"));
        assert!(!write_if_changed(&path, b"one").expect("read"));
        assert!(write_if_changed(&path, b"two").expect("written"));
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_binary_without_its_sections_is_smaller_and_still_runs() {
        let whole = std::fs::read("/bin/true").expect("every Linux has it");
        let cut = without_sections(&whole);
        assert!(cut.len() < whole.len());
        let path = std::env::temp_dir().join(format!("bellwire-true-{}", std::process::id()));
        std::fs::write(&path, &cut).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
        let status = Command::new(&path).status();
        std::fs::remove_file(&path).expect("removed");
        assert!(status.expect("started").success());
    }

    #[test]
    fn what_is_no_binary_stays_as_it_is() {
        assert_eq!(without_sections(b"#!/bin/sh"), b"#!/bin/sh");
    }
}
