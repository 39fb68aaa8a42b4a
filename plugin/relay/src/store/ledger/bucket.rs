//! One bucket: reading and changing it, and what its reader remembers of it.

use super::{
    Cas, Change, HEADER, KEY, LAYOUT, LedgerError, MAX_GROWN, MAX_PENDING, MAX_RECORD, MAX_RECORDS, Store,
    StoreError, TRIES, decoded, encode, is_of, slots,
};
use crate::check::{CheckKey, Pending, Record, State};
use crate::secret::Secret;
use crate::time::Mono;

/// Size of a record with a token of the usual length, with a margin, in bytes.
const USUAL_RECORD: usize = 3 << 10;

/// A bucket, as it was last read or written.
///
/// A leader reads all buckets again and again, and most of them have not changed: so the key is made once, and a record
/// is parsed only if its bytes are new to the reader.
#[derive(Clone, Debug)]
pub struct Bucket {
    key: String,
    /// The only check that the reader wants; the others are not parsed.
    only: Option<CheckKey>,
    /// The version that was read; `None` if the bucket was never read, or never written.
    cas: Option<Cas>,
    /// The value that was read or written, by size in bytes and slot by slot.
    size: usize,
    slots: Vec<Slot>,
    versions: u64,
    /// Whether a reading for a change found others' changes, which [`Bucket::read`] has not told of yet.
    has_news: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    bytes: Kept,
    /// The record, if this version understands it and the reader wants it.
    record: Option<Record>,
    /// A new number for each reading of other bytes, and for each write.
    version: u64,
}

/// A slot's bytes, in three pieces. Each slot has its own, so that a reader of many buckets keeps no large piece of
/// memory for each; and the token, which is most of a record, is kept once, not twice.
#[derive(Clone, Debug)]
struct Kept {
    before: Box<[u8]>,
    token: Option<Secret>,
    after: Box<[u8]>,
}

impl Kept {
    fn new(bytes: &[u8], record: Option<&Record>) -> Kept {
        let token = match record.map(|record| &record.state) {
            Some(State::Pending(pending)) => Some(pending.tokens.current()),
            _ => None,
        };
        let place = token.and_then(|token| {
            let text = token.reveal().as_bytes();
            let named = |part: &[u8]| part == NAMED;
            let start =
                HEADER + KEY + bytes.get(HEADER + KEY..)?.windows(NAMED.len()).position(named)? + NAMED.len();
            let after = bytes.get(start..)?.strip_prefix(text)?;
            Some((bytes.get(..start)?, after))
        });
        let (before, after) = place.unwrap_or((bytes, &[]));
        let token = token.filter(|_| place.is_some()).cloned();
        Kept { before: before.into(), token, after: after.into() }
    }

    fn pieces(&self) -> [&[u8]; 3] {
        let token = self.token.as_ref().map_or(&[][..], |token| token.reveal().as_bytes());
        [&self.before, token, &self.after]
    }

    fn is(&self, bytes: &[u8]) -> bool {
        let rest = self.pieces().into_iter().try_fold(bytes, |rest, piece| rest.strip_prefix(piece));
        rest.is_some_and(<[u8]>::is_empty)
    }

    fn is_of(&self, key: &[u8; CheckKey::BYTES]) -> bool {
        is_of(&self.before, key)
    }

    fn whole(&self) -> Vec<u8> {
        self.pieces().concat()
    }
}

/// The text before the token in a record's JSON.
const NAMED: &[u8] = b"\"newest\":\"";

impl Bucket {
    /// The bucket under this key of shared data, unread; `only` if the reader wants one check.
    pub(super) fn unread(key: String, only: Option<CheckKey>) -> Bucket {
        Bucket { key, only, cas: None, size: 0, slots: Vec::new(), versions: 0, has_news: false }
    }

    /// Reads the bucket. False if nobody has written it since it was last read so.
    ///
    /// # Errors
    /// The host's status; then the earlier reading stays.
    pub fn read(&mut self, store: &mut dyn Store) -> Result<bool, StoreError> {
        self.look(store)?;
        Ok(std::mem::take(&mut self.has_news))
    }

    /// Reads the bucket for a change of one check. What is new in it is told by the next [`Bucket::read`].
    ///
    /// # Errors
    /// The host's status; then the earlier reading stays.
    pub(crate) fn look(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        self.has_news |= self.fetch(store)?;
        Ok(())
    }

    /// Whether anybody has written it since the last reading of any kind.
    fn fetch(&mut self, store: &mut dyn Store) -> Result<bool, StoreError> {
        let Some(entry) = store.get(&self.key)? else {
            // Most buckets are empty: there is nothing to do for them.
            if !self.slots.is_empty() {
                (self.size, self.slots) = (0, Vec::new());
            }
            return Ok(self.cas.take().is_some());
        };
        if self.cas == Some(entry.cas) {
            return Ok(false);
        }
        self.cas = Some(entry.cas);
        self.size = entry.value.len();
        let mut before = std::mem::take(&mut self.slots);
        let only = self.only.map(|key| key.bytes());
        for place in slots(&entry.value) {
            let bytes = entry.value.get(place).unwrap_or_default();
            let known = before.iter().position(|slot| slot.bytes.is(bytes));
            self.slots.push(match known {
                Some(at) => before.swap_remove(at),
                None => {
                    self.versions = self.versions.wrapping_add(1);
                    let is_wanted = only.is_none_or(|key| is_of(bytes, &key));
                    let record = if is_wanted { decoded(bytes) } else { None };
                    Slot { bytes: self.kept(bytes, record.as_ref()), record, version: self.versions }
                }
            });
        }
        Ok(true)
    }

    /// A slot's bytes in kept form: in one piece for a reader of one check, who keeps them for a moment.
    fn kept(&self, bytes: &[u8], record: Option<&Record>) -> Kept {
        Kept::new(bytes, record.filter(|_| self.only.is_none()))
    }

    /// Reads the bucket, applies `change` to the record under `key`, and writes the result; repeats this while others
    /// write first.
    ///
    /// # Errors
    /// The reason; then nothing was written.
    pub fn update<R>(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        self.look(store).map_err(LedgerError::Store)?;
        self.update_read(store, key, change)
    }

    /// The same for a bucket that was just read: it is read again only if another context wrote first.
    ///
    /// # Errors
    /// The reason; then nothing was written.
    pub fn update_read<R>(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        mut change: impl FnMut(Option<&Record>) -> Change<R>,
    ) -> Result<R, LedgerError> {
        for _ in 0..TRIES {
            let (record, result) = match change(self.find(key)) {
                Change::Keep(result) => return Ok(result),
                Change::Remove(result) => (None, result),
                Change::Put(record, result) => (Some(record), result),
            };
            if self.write(store, key, record)? {
                return Ok(result);
            }
            self.look(store).map_err(LedgerError::Store)?;
        }
        Err(LedgerError::Busy)
    }

    /// Writes this record in place of the check's present one. False if another context has written since the last
    /// reading.
    fn write(
        &mut self,
        store: &mut dyn Store,
        key: &CheckKey,
        record: Option<Box<Record>>,
    ) -> Result<bool, LedgerError> {
        let is_known = self.find(key).is_some();
        let key = key.bytes();
        let mut value = Vec::with_capacity(self.size + USUAL_RECORD);
        value.push(LAYOUT);
        // The new slot goes first: a remainder that cannot be read must stand at the end.
        if let Some(record) = &record {
            // One that another process has accepted has grown there.
            let is_grown = is_known || record.state.kept().is_some();
            encode(record, if is_grown { MAX_GROWN } else { MAX_RECORD }, &mut value)?;
        }
        let new = 1..value.len();
        let others = self.slots.iter().filter(|slot| !slot.bytes.is_of(&key)).count();
        // The limit applies to new checks only.
        let is_new = record.is_some() && !is_known;
        let displaced = if is_new && others >= MAX_RECORDS { self.oldest_done() } else { None };
        if is_new && displaced.is_none() && others >= MAX_PENDING {
            return Err(LedgerError::Full);
        }
        let stays =
            |slot: &Slot| !slot.bytes.is_of(&key) && displaced.is_none_or(|done| !slot.bytes.is_of(&done));
        for piece in self.slots.iter().filter(|slot| stays(slot)).flat_map(|slot| slot.bytes.pieces()) {
            value.extend_from_slice(piece);
        }
        if !store.swap(&self.key, self.cas, &value).map_err(LedgerError::Store)? {
            return Ok(false);
        }
        // The next reading finds an unknown version with known bytes.
        self.slots.retain(stays);
        self.versions = self.versions.wrapping_add(1);
        if let Some(record) = record {
            let bytes = self.kept(value.get(new).unwrap_or_default(), Some(&record));
            self.slots.insert(0, Slot { bytes, record: Some(*record), version: self.versions });
        }
        self.size = value.len();
        Ok(true)
    }

    /// The key of the check that has been done the longest. A reader of one check parses the other records to find it.
    fn oldest_done(&self) -> Option<[u8; CheckKey::BYTES]> {
        let mut oldest: Option<(Mono, CheckKey)> = None;
        for slot in &self.slots {
            let read = if slot.record.is_none() { decoded(&slot.bytes.whole()) } else { None };
            if let Some(Record { key, state: State::Done(done) }) = slot.record.as_ref().or(read.as_ref())
                && oldest.is_none_or(|(at, _)| done.at.mono < at)
            {
                oldest = Some((done.at.mono, *key));
            }
        }
        oldest.map(|(_, key)| key.bytes())
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|slot| slot.record.as_ref())
    }

    /// Whether this version understands every record; for a reader of all checks.
    pub fn is_understood(&self) -> bool {
        self.slots.iter().all(|slot| slot.record.is_some())
    }

    /// The record of a check.
    pub fn find(&self, key: &CheckKey) -> Option<&Record> {
        self.records().find(|record| record.key == *key)
    }

    /// The pending checks.
    pub fn pending(&self) -> impl Iterator<Item = (&CheckKey, &Pending)> {
        self.records().filter_map(|record| match &record.state {
            State::Pending(pending) => Some((&record.key, pending.as_ref())),
            State::Done(_) => None,
        })
    }

    /// Size in bytes when it was last read.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Number of slots so far that were new to the reader.
    pub(crate) fn versions(&self) -> u64 {
        self.versions
    }

    /// A check, if it is pending, and the version of its record. Each change makes a new version.
    pub(crate) fn find_version(&self, key: &CheckKey) -> Option<(&Pending, u64)> {
        let of = |slot: &&Slot| slot.record.as_ref().is_some_and(|record| record.key == *key);
        let slot = self.slots.iter().find(of)?;
        match &slot.record.as_ref()?.state {
            State::Pending(pending) => Some((pending, slot.version)),
            State::Done(_) => None,
        }
    }

    /// A check, if it is pending.
    pub fn find_pending(&self, key: &CheckKey) -> Option<&Pending> {
        match &self.find(key)?.state {
            State::Pending(pending) => Some(pending),
            State::Done(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ledger;
    use super::super::memory::Memory;
    use super::*;
    use crate::check::tests::record;
    use crate::check::{Ends, Tokens};
    use std::collections::BTreeSet;

    fn ids(bucket: &Bucket) -> BTreeSet<String> {
        bucket.records().map(|record| record.key.id()).collect()
    }

    #[test]
    fn a_slots_bytes_are_the_same_whatever_its_token_is() {
        for token in ["", "a", "a\"b\\", "\u{1}", "\"newest\":\"", "ÄÖ", &"x".repeat(8_192)] {
            let mut record = record(1);
            if let State::Pending(pending) = &mut record.state {
                pending.tokens = Tokens::new(Secret::new(token.into()), 1, Ends::default());
            }
            let mut value = vec![LAYOUT];
            encode(&record, MAX_GROWN, &mut value).unwrap();
            let bytes = &value[1..];
            let kept = Kept::new(bytes, Some(&record));
            assert!(
                kept.is(bytes) && kept.whole() == bytes && kept.is_of(&record.key.bytes()),
                "{token:.20}"
            );
            for n in 0..bytes.len().min(600) {
                let mut other = bytes.to_vec();
                other[n] ^= 1;
                assert!(!kept.is(&other), "{n}");
            }
            assert!(!kept.is(&bytes[1..]) && !kept.is(&[bytes, b"x"].concat()));
        }
    }

    #[test]
    fn what_is_remembered_is_what_stands_there_after_each_change() {
        let mut store = Memory::default();
        let ledger = Ledger::with_key("t/", &[0; 16]);
        let few: Vec<Record> =
            (0..100_000).map(record).filter(|record| ledger.bucket_of(&record.key) == 7).take(20).collect();
        let mut bucket = ledger.buckets().swap_remove(7);
        let mut there = BTreeSet::new();
        for step in 0..200 {
            let one = &few[step * 7 % few.len()];
            let mut changed = one.clone();
            if let State::Pending(pending) = &mut changed.state {
                pending.delivery = u32::try_from(step).unwrap();
            }
            let is_removed = step % 3 == 2;
            // Other contexts write the bucket, and now and then its reader does.
            let mut others = ledger.bucket(&one.key);
            let writer = if step % 4 == 1 { &mut bucket } else { &mut others };
            writer
                .update(&mut store, &one.key, |_| match is_removed {
                    true => Change::Remove(()),
                    false => Change::Put(Box::new(changed.clone()), ()),
                })
                .unwrap();
            match is_removed {
                true => there.remove(&one.key.id()),
                false => there.insert(one.key.id()),
            };
            bucket.read(&mut store).unwrap();
            assert_eq!(ids(&bucket), there);
            assert_eq!(bucket.find(&one.key), (!is_removed).then_some(&changed));
        }
    }

    #[test]
    fn a_bucket_that_has_gone_is_empty() {
        let mut store = Memory::default();
        let one = record(1);
        let mut bucket = Ledger::with_key("t/", &[0; 16]).bucket(&one.key);
        bucket.update(&mut store, &one.key, |_| Change::Put(Box::new(one.clone()), ())).unwrap();
        assert_eq!(bucket.find(&one.key), Some(&one));
        store.keys.clear();
        bucket.read(&mut store).unwrap();
        assert_eq!(bucket.find(&one.key), None);
    }
}
