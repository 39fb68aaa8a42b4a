//! Sealing: a record in a Secret is encrypted with a key that only the replicas have, so that reading the Secret, etcd or a
//! backup gives nobody a token.
//!
//! AES-256-GCM with a random nonce; the Secret's name is authenticated with it, so that a record cannot be put into another
//! check's Secret. A sealed record is [`MARK`], the key's id, the nonce and the ciphertext with its tag. Records that are not
//! sealed are read too: they were there before the key was. So sealing hides records, and does not replace the right to
//! write Secrets.

use crate::secret::Secret;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::BlockEncrypt;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::fmt;

/// The first bytes of a sealed record; a record that is not sealed begins with `{`.
const MARK: &[u8] = b"sealed\x01";
/// Length of a key in bytes, and of the other parts.
const KEY: usize = 32;
const ID: usize = 8;
const NONCE: usize = 12;

/// What is encrypted to get a key's id. No nonce is made of it but by a chance of 2⁻⁹⁶.
const ID_BLOCK: [u8; 16] = *b"testrelay key id";

/// The keys of one replica. None: records are written as they are.
#[derive(Clone, Default)]
pub struct Sealing {
    /// The key that records are sealed with.
    pub(crate) current: Option<Key>,
    /// A key that older records may be sealed with.
    pub(crate) previous: Option<Key>,
}

/// A key, with its id.
#[derive(Clone)]
pub(crate) struct Key {
    cipher: Box<Aes256Gcm>,
    id: [u8; ID],
}

/// A record that is sealed with a key which this replica does not have, or was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Key {
    /// Reads a key: 32 bytes in base64.
    pub(crate) fn of(secret: &Secret) -> Option<Key> {
        let bytes: [u8; KEY] = STANDARD.decode(secret.reveal()).ok()?.try_into().ok()?;
        let mut block = ID_BLOCK.into();
        Aes256::new(&bytes.into()).encrypt_block(&mut block);
        let id = block.first_chunk().copied()?;
        Some(Key { cipher: Box::new(Aes256Gcm::new(&bytes.into())), id })
    }
}

impl Sealing {
    /// A record as it is written into the Secret of this name. `None` if the host has no random numbers.
    pub(crate) fn seal(&self, name: &str, record: Vec<u8>) -> Option<Vec<u8>> {
        let Some(key) = &self.current else { return Some(record) };
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: &record, aad: name.as_bytes() };
        let sealed = key.cipher.encrypt(&nonce.into(), payload).ok()?;
        Some([MARK, &key.id, &nonce, &sealed].concat())
    }

    /// The record in the Secret of this name.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open<'r>(&self, name: &str, record: &'r [u8]) -> Result<Cow<'r, [u8]>, Closed> {
        let Some(sealed) = record.strip_prefix(MARK) else { return Ok(Cow::Borrowed(record)) };
        let (id, rest) = sealed.split_first_chunk::<ID>().ok_or(Closed)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(Closed)?;
        let keys = [&self.current, &self.previous];
        let key = keys.into_iter().flatten().find(|key| key.id == *id).ok_or(Closed)?;
        let payload = Payload { msg: ciphertext, aad: name.as_bytes() };
        key.cipher.decrypt(&(*nonce).into(), payload).map(Cow::Owned).map_err(|_| Closed)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.current.is_some() { "<key>" } else { "<no key>" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Option<Key> {
        Key::of(&Secret::new(STANDARD.encode(bytes)))
    }

    fn sealing(current: Option<u8>, previous: Option<u8>) -> Sealing {
        let [current, previous] = [current, previous].map(|n| n.and_then(|n| key(&[n; KEY])));
        Sealing { current, previous }
    }

    const RECORD: &[u8] = br#"{"format":1,"token":"a-token"}"#;

    #[test]
    fn whoever_has_the_key_as_current_or_previous_opens_a_record_and_nobody_else() {
        let sealed = sealing(Some(1), None).seal("a", RECORD.to_vec()).unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"a-token"));
        for (keys, opens) in [
            (sealing(Some(1), None), true),
            (sealing(Some(2), Some(1)), true),
            (sealing(None, Some(1)), true),
            (sealing(Some(2), None), false),
            (sealing(None, None), false),
        ] {
            assert_eq!(keys.open("a", &sealed).is_ok_and(|record| record == RECORD), opens);
        }
    }

    #[test]
    fn a_record_that_was_changed_or_moved_to_another_secret_is_not_opened() {
        let keys = sealing(Some(1), None);
        let sealed = keys.seal("a", RECORD.to_vec()).unwrap();
        assert_eq!(keys.open("b", &sealed), Err(Closed));
        for at in MARK.len()..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open("a", &changed), Err(Closed), "byte {at}");
            assert_eq!(keys.open("a", &sealed[..at]), Err(Closed), "{at} bytes");
        }
    }

    #[test]
    fn two_seals_of_one_record_differ() {
        let keys = sealing(Some(1), None);
        assert_ne!(keys.seal("a", RECORD.to_vec()), keys.seal("a", RECORD.to_vec()));
    }

    #[test]
    fn without_a_key_a_record_stays_as_it_is_and_one_from_before_the_key_is_read() {
        assert_eq!(sealing(None, None).seal("a", RECORD.to_vec()).unwrap(), RECORD);
        assert_eq!(sealing(Some(1), None).open("a", RECORD).unwrap(), RECORD);
    }

    #[test]
    fn a_key_has_32_bytes() {
        for length in [0, 16, 31, 33, 64] {
            assert!(key(&vec![1; length]).is_none(), "{length} bytes");
        }
        assert!(Key::of(&Secret::new("no-base64-at-all".into())).is_none());
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?} {:?}", sealing(Some(1), None), sealing(None, None)), "<key> <no key>");
    }
}
