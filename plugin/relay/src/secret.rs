//! Values that must never be printed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::rc::Rc;

/// A credential. It has no `Display`, its `Debug` hides it, and it is written to the ledger only. Copies share its
/// memory: a token has 2 KiB, and each step of a check copies the check.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Rc<str>);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: String) -> Secret {
        Secret(value.into())
    }

    /// The credential itself: for the header that it belongs in, and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` equals this credential, in a time that depends on the lengths alone.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        // Compares eight bytes at a time, and the rest one by one.
        let ((own_words, own_rest), (words, rest)) = (own.as_chunks::<8>(), given.as_chunks::<8>());
        let words = own_words.iter().zip(words).map(|(a, b)| u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b));
        let rest = own_rest.iter().zip(rest).map(|(a, b)| u64::from(a ^ b));
        let difference = words.chain(rest).fold(u64::from(own.len() != given.len()), |all, one| all | one);
        std::hint::black_box(difference) == 0
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if cfg!(feature = "test-hooks") { &self.0 } else { "<secret>" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_equal_byte_for_byte_only() {
        let secret = Secret::new("hunter2".into());
        assert!(secret.is(b"hunter2"));
        for other in ["", "hunter", "hunter3", "Hunter2", "hunter2hunter2", "hunter2\0"] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
    }
}
