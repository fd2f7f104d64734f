//! Which wine goes where.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Row numbers of the three shares, each in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) training: Vec<usize>,
    pub(crate) held_out: Vec<usize>,
    pub(crate) unseen: Vec<usize>,
}

/// Splits rows by a hash of the seed and of each row: the same on every machine
/// and in every version, whatever a random generator would do.
///
/// Equal rows (of the 1,599 there are 1,359 different ones) stay together, so that
/// no model is asked for a wine that it was told.
pub(crate) fn split(
    rows: &[impl AsRef<[u8]>],
    seed: u64,
    held_out_rows: usize,
    unseen_rows: usize,
) -> Split {
    let mut groups: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(row).finalize();
        groups.entry(hash.into()).or_default().push(number);
    }
    let mut split = Split { training: Vec::new(), held_out: Vec::new(), unseen: Vec::new() };
    for group in groups.into_values() {
        // Single rows fill up what a larger group leaves free.
        let share = if split.held_out.len() + group.len() <= held_out_rows {
            &mut split.held_out
        } else if split.unseen.len() + group.len() <= unseen_rows {
            &mut split.unseen
        } else {
            &mut split.training
        };
        share.extend(group);
    }
    for share in [&mut split.training, &mut split.held_out, &mut split.unseen] {
        share.sort_unstable();
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<String> {
        (0..1_000).map(|number| format!("row {}", number % 800)).collect()
    }

    #[test]
    fn each_row_is_in_one_share() {
        let split = split(&rows(), 42, 200, 150);
        assert_eq!((split.held_out.len(), split.unseen.len()), (200, 150));
        let mut all = [split.training, split.held_out, split.unseen].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn equal_rows_stay_together() {
        let rows = rows();
        let split = split(&rows, 42, 200, 150);
        let texts =
            |share: &[usize]| share.iter().map(|row| rows[*row].clone()).collect::<Vec<_>>();
        let training = texts(&split.training);
        assert!(texts(&split.held_out).iter().all(|text| !training.contains(text)));
        assert!(texts(&split.unseen).iter().all(|text| !training.contains(text)));
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(split(&rows(), 1, 200, 150), split(&rows(), 1, 200, 150));
        assert_ne!(split(&rows(), 1, 200, 150), split(&rows(), 2, 200, 150));
    }
}
