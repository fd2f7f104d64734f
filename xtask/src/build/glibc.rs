//! Whether a binary runs on Lambda's `provided.al2023`, whose glibc is 2.34.

use std::fmt;

use object::Endianness;
use object::elf::{VER_FLG_WEAK, VersionIndex};
use object::read::elf::{ElfFile64, Sym as _};

/// The glibc of Amazon Linux 2023, and so of the runtime `provided.al2023`.
/// <https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html>
pub(crate) const LAMBDA_GLIBC: Glibc = Glibc { major: 2, minor: 34 };

/// At most this many symbols of a version that is too new are told.
const SYMBOLS_TOLD_MAX: usize = 3;

/// A version of glibc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A version of glibc that a binary cannot run without, and symbols of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) glibc: Glibc,
    pub(crate) symbols: Vec<String>,
}

/// Why a binary does not run on Lambda.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GlibcError {
    /// Not a binary that can be read.
    #[error("not a 64-bit ELF binary; functions are built on Linux")]
    NotElf(#[source] object::Error),
    /// It needs a newer glibc than Lambda has.
    #[error(
        "it needs glibc {} (for {}), but Lambda's provided.al2023 has {LAMBDA_GLIBC}.\n\
         Build on a system with glibc {LAMBDA_GLIBC} or older (Amazon Linux 2023, Debian 11, Ubuntu 20.04, \
         or a container of them)", .0.glibc, .0.symbols.join(", ")
    )]
    TooNew(Need),
}

/// Refuses a binary that needs a newer glibc than Lambda's.
pub(crate) fn check(binary: &[u8]) -> Result<Option<Glibc>, GlibcError> {
    match newest_need(binary).map_err(GlibcError::NotElf)? {
        Some(need) if need.glibc > LAMBDA_GLIBC => Err(GlibcError::TooNew(need)),
        need => Ok(need.map(|need| need.glibc)),
    }
}

/// The newest version of glibc that a binary cannot run without; none for one
/// that is linked statically or with another C library.
fn newest_need(binary: &[u8]) -> Result<Option<Need>, object::Error> {
    let file = ElfFile64::<Endianness>::parse(binary)?;
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let Some((mut libraries, strings)) = sections.gnu_verneed(endian, binary)? else {
        return Ok(None);
    };
    let strings = sections.strings(endian, binary, strings)?;
    let mut newest: Option<(Glibc, VersionIndex)> = None;
    while let Some((_, mut versions)) = libraries.next()? {
        while let Some(version) = versions.next()? {
            // The loader goes on without a version that is needed weakly.
            if version.vna_flags.get(endian).contains(VER_FLG_WEAK) {
                continue;
            }
            let Some(glibc) = glibc_version(version.name(endian, strings)?) else { continue };
            if newest.is_none_or(|(known, _)| glibc > known) {
                newest = Some((glibc, version.vna_other.get(endian)));
            }
        }
    }
    let Some((glibc, index)) = newest else { return Ok(None) };
    Ok(Some(Need { glibc, symbols: symbols_of_version(&file, binary, index)? }))
}

/// `GLIBC_2.34`, but neither `GLIBC_PRIVATE` nor `GCC_3.0`.
fn glibc_version(name: &[u8]) -> Option<Glibc> {
    let numbers = str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    Some(Glibc { major: numbers.next()??, minor: numbers.next()?? })
}

/// Some of the symbols that a binary takes in a version.
fn symbols_of_version(
    file: &ElfFile64<'_, Endianness>,
    binary: &[u8],
    index: VersionIndex,
) -> Result<Vec<String>, object::Error> {
    let (endian, symbols) = (file.endian(), file.elf_dynamic_symbol_table());
    let Some(versions) = file.elf_section_table().versions(endian, binary)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for (symbol_index, symbol) in symbols.enumerate() {
        if versions.version_index(endian, symbol_index).index() == index {
            let name = symbol.name(endian, symbols.strings())?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    names.sort();
    names.truncate(SYMBOLS_TOLD_MAX);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_binary() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("known")).expect("readable")
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(glibc_version(b"GLIBC_2.4") < glibc_version(b"GLIBC_2.34"));
        assert_eq!(glibc_version(b"GLIBC_2.3.4"), Some(Glibc { major: 2, minor: 3 }));
        assert_eq!(glibc_version(b"GLIBC_PRIVATE"), None);
        assert_eq!(glibc_version(b"GCC_4.2.0"), None);
    }

    #[test]
    fn what_a_binary_needs_is_read_with_its_symbols() {
        let need = newest_need(&this_binary()).expect("an ELF binary").expect("glibc");
        assert!(need.glibc.major == 2 && need.glibc.minor > 2, "{need:?}");
        assert!(!need.symbols.is_empty(), "{need:?}");
    }

    #[test]
    fn a_version_that_is_too_new_is_refused_with_symbol_and_remedy() {
        // This test's own binary, made to look as if it needed a later glibc.
        let newest = newest_need(&this_binary()).expect("an ELF binary").expect("glibc").glibc;
        let (from, to) = (format!("GLIBC_{newest}\0"), b"GLIBC_9.99\0");
        assert_eq!(from.len(), to.len(), "both versions have three digits");
        let mut binary = this_binary();
        let places: Vec<usize> = binary
            .windows(from.len())
            .enumerate()
            .filter_map(|(place, bytes)| (bytes == from.as_bytes()).then_some(place))
            .collect();
        for place in places {
            binary[place..place + to.len()].copy_from_slice(to);
        }
        let message = check(&binary).expect_err("too new").to_string();
        assert!(message.starts_with("it needs glibc 9.99 (for "), "{message}");
        assert!(message.contains("Build on a system with glibc 2.34"), "{message}");
    }

    #[test]
    fn what_is_no_binary_is_refused() {
        assert!(matches!(check(b"#!/bin/sh\n"), Err(GlibcError::NotElf(_))));
    }
}
