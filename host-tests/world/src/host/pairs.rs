//! Header maps on their way into the VM and out of it.

use super::Pairs;

/// A header map in the ABI's form: the number of pairs, the lengths of each name and value, then name, 0, value, 0.
pub(super) fn serialized(pairs: &Pairs) -> Vec<u8> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = length(pairs.len()).to_vec();
    for (name, value) in pairs {
        out.extend_from_slice(&length(name.len()));
        out.extend_from_slice(&length(value.len()));
    }
    for (name, value) in pairs {
        for part in [name, value] {
            out.extend_from_slice(part);
            out.push(0);
        }
    }
    out
}

pub(super) fn deserialized(bytes: &[u8]) -> Option<Pairs> {
    let number = |at: usize| {
        let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut take = |length: usize| {
        let part = bytes.get(at..at.checked_add(length)?)?.to_vec();
        at = at.checked_add(length)?.checked_add(1)?;
        Some(part)
    };
    (0..count).map(|i| Some((take(number(4 + i * 8)?)?, take(number(8 + i * 8)?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_map_comes_back_from_its_wire_form() {
        let pairs = vec![(b":path".to_vec(), b"/".to_vec()), (b"empty".to_vec(), Vec::new())];
        assert_eq!(deserialized(&serialized(&pairs)), Some(pairs));
        assert_eq!(deserialized(&[]), Some(Vec::new()));
        assert_eq!(deserialized(&[9, 0, 0, 0]), None);
    }
}
