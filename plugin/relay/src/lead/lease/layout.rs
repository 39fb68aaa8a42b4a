//! The lease as bytes, not JSON, because every context reads it each second and the leader before each call.
//!
//! A byte for the layout's version, eight numbers of eight bytes (little-endian), then the keys of the busy checks.

use super::Lease;
use crate::check::CheckKey;
use crate::time::Mono;

const LAYOUT: u8 = 1;
const NUMBERS: usize = 8;

impl Lease {
    /// The bytes in shared data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers: [u64; NUMBERS] = [
            self.holder,
            self.configuration,
            self.configured_at.0,
            self.until.0,
            self.since.0,
            self.pending.into(),
            self.falls.into(),
            self.brake_until.0,
        ];
        let mut bytes = vec![LAYOUT];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for key in &self.busy {
            bytes.extend_from_slice(&key.bytes());
        }
        bytes
    }

    /// The inverse of [`Lease::to_bytes`]; `None` for any other value.
    pub fn from_bytes(bytes: &[u8]) -> Option<Lease> {
        let (&LAYOUT, rest) = bytes.split_first()? else { return None };
        let (numbers, busy) = rest.split_at_checked(NUMBERS * 8)?;
        let ([holder, configuration, configured_at, until, since, pending, falls, brake_until], []) =
            numbers.as_chunks::<8>()
        else {
            return None;
        };
        let (busy, []) = busy.as_chunks::<{ CheckKey::BYTES }>() else { return None };
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        Some(Lease {
            holder: number(holder),
            configuration: number(configuration),
            configured_at: Mono(number(configured_at)),
            until: Mono(number(until)),
            since: Mono(number(since)),
            pending: u32::try_from(number(pending)).ok()?,
            falls: u32::try_from(number(falls)).ok()?,
            brake_until: Mono(number(brake_until)),
            busy: busy.iter().map(CheckKey::from_bytes).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;

    fn lease(busy: u32) -> Lease {
        Lease {
            holder: u64::MAX,
            configuration: 2,
            configured_at: Mono(3),
            until: Mono(4),
            since: Mono(5),
            pending: u32::MAX,
            falls: 7,
            brake_until: Mono(8),
            busy: (1..=busy).map(|n| record(n).key).collect(),
        }
    }

    #[test]
    fn a_lease_comes_back_from_its_bytes() {
        for busy in [0, 1, 100] {
            assert_eq!(Lease::from_bytes(&lease(busy).to_bytes()), Some(lease(busy)));
        }
    }

    #[test]
    fn a_lease_of_another_version_length_or_range_is_not_read() {
        let bytes = lease(2).to_bytes();
        assert!((0..bytes.len()).filter(|n| Lease::from_bytes(&bytes[..*n]).is_some()).eq([65, 65 + 48]));
        // Another version, JSON, and a number of pending checks that does not fit.
        for (at, byte) in [(0, LAYOUT + 1), (0, b'{'), (1 + 5 * 8 + 7, 1)] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            assert_eq!(Lease::from_bytes(&changed), None, "byte {at}");
        }
    }
}
