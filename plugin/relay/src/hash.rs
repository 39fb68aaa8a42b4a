//! FNV-1a, 64 bits: the same in every process and version, as the ledger's bucket numbers need. Unfit wherever an
//! attacker must not be able to make collisions.

/// The hash of `bytes`.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| mixed(hash, u64::from(*byte)))
}

/// The hash of what has the hash `before`, and one more item.
pub(crate) fn mixed(before: u64, item: u64) -> u64 {
    (before ^ item).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn the_hash_has_its_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
