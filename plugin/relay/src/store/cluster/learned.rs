//! What the API server's answers say of a record in the ledger.

use super::lease::Replica;
use super::secret::StoredCheck;
use crate::check::{Kept, Reread, State, Written};
use crate::time::Mono;
use crate::wire::kubernetes::Version;

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) enum Learned {
    /// The Secret is in this version now and says this; the version that it replaced, if any.
    Stored { version: Version, written: Written, replaced: Option<Version> },
    /// The Secret was read.
    Read(Box<StoredCheck>),
    /// The Secret is in this version, and must be written again.
    Spoilt(Version),
    /// There is no such Secret.
    Missing,
    /// It was deleted, as this process wanted.
    Deleted,
    /// The check is another replica's now.
    Gone,
}

impl Learned {
    /// What the record becomes.
    pub(crate) fn apply(&self, held: &State, now: Mono, replica: &Replica) -> Reread {
        match self {
            Learned::Stored { version, written, replaced } => {
                let mut state = held.clone();
                // A stream may have put another version, or another evaluation, in its place meanwhile.
                if held.kept().map(|kept| &kept.version) == replaced.as_ref() {
                    let written = Some(*written);
                    state.set_kept(Some(Box::new(Kept { version: version.clone(), written, seen: now })));
                }
                Reread::Becomes(Box::new(state))
            }
            // One that was never stored comes after what another has ended.
            Learned::Read(read)
                if read.owner == replica.id
                    || (held.kept().is_none() && matches!(read.state, State::Done(_))) =>
            {
                held.reread(read.state.clone(), read.version.clone(), now)
            }
            Learned::Spoilt(version) => {
                let mut state = held.clone();
                state.set_kept(Some(Box::new(Kept { version: version.clone(), written: None, seen: now })));
                Reread::Becomes(Box::new(state))
            }
            Learned::Missing => Reread::Becomes(Box::new(held.without_secret())),
            Learned::Deleted => {
                let mut state = held.clone();
                state.set_kept(None);
                Reread::Becomes(Box::new(state))
            }
            Learned::Read(_) | Learned::Gone => Reread::Leaves,
        }
    }
}
