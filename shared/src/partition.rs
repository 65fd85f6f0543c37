//! Partition: a part of the documents, chosen by a hash. There is one, until the store is sharded (`.ops/scale.md`).

use sha2::{Digest as _, Sha256};

/// Number of partitions.
pub const PARTITIONS: u64 = 1;

/// Partition of a key among that many, from 0 on: the first eight bytes of the key's SHA-256 as a number, modulo the
/// number of partitions. Stable, because every process has to arrive at the same one.
///
/// # Panics
/// If there are no partitions.
pub fn partition_of(key: &str, partitions: u64) -> u64 {
    let digest = Sha256::digest(key);
    let first = digest[..8].try_into().expect("a digest has 32 bytes");
    u64::from_be_bytes(first) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_is_stable() {
        let keys = ["tenant:01990000-0000-7000-8000-000000000000", "job:1", ""];

        assert_eq!(keys.map(|key| partition_of(key, 64)), [60, 40, 20]);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut keys_of = [0; 64];

        for n in 0..6_400 {
            let partition = partition_of(&format!("tenant:{n}"), 64);
            keys_of[usize::try_from(partition).unwrap()] += 1;
        }

        assert!(keys_of.iter().all(|keys| (50..200).contains(keys)));
    }

    #[test]
    fn one_partition_has_every_key() {
        assert_eq!(partition_of("tenant:1", PARTITIONS), 0);
    }
}
