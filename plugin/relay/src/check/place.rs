//! The place that a pending check takes of what its credential, its project and all checks together may have.

use super::{Pending, State};
use crate::guid::Guid;
use serde::{Deserialize, Serialize};

/// Whom a check is counted under: the credential and the project of its first delivery, until it ends. A later delivery with
/// others takes no place and moves none, whichever of them is proven: a change of an accepted check is never refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The credential's name; empty without one.
    pub credential: String,
    /// The project.
    pub project: Guid,
}

/// What a pending check's record says of its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    /// Nothing: a module wrote it that does not note places. The leader takes one for it, limit or not.
    #[default]
    Unnoted,
    /// It is counted here.
    Holds(Place),
    /// It was counted, and is no more.
    GaveBack,
}

impl Pending {
    /// The place that it holds.
    pub fn held(&self) -> Option<&Place> {
        match &self.place {
            Placed::Holds(place) => Some(place),
            Placed::Unnoted | Placed::GaveBack => None,
        }
    }

    /// From now on it is counted against no limit. What it gives back is due to [`give_back`](crate::places::give_back) by
    /// whoever's write of the changed record won, and by nobody else; `None`: nothing is.
    pub fn leave_place(&mut self) -> Option<Place> {
        match std::mem::replace(&mut self.place, Placed::GaveBack) {
            Placed::Holds(place) => Some(place),
            Placed::Unnoted | Placed::GaveBack => None,
        }
    }

    /// The place that is to be taken for it, because its record says nothing of one.
    pub fn unnoted(&self) -> Option<Place> {
        let place = || Place { credential: self.credential.clone(), project: self.callback.project };
        (self.place == Placed::Unnoted).then(place)
    }
}

impl State {
    /// The place that a check holds; `None` once it is done.
    pub fn held(&self) -> Option<&Place> {
        match self {
            State::Pending(pending) => pending.held(),
            State::Done(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{guid, record};
    use super::*;

    fn pending() -> Pending {
        let State::Pending(pending) = record(1).state else { panic!("a pending record") };
        *pending
    }

    #[test]
    fn a_place_is_left_once() {
        let mut pending = pending();
        let place = Place { credential: "a".into(), project: guid(7) };
        pending.place = Placed::Holds(place.clone());
        assert_eq!((pending.held(), pending.unnoted()), (Some(&place), None));
        assert_eq!(pending.leave_place(), Some(place));
        assert_eq!((pending.leave_place(), pending.held(), pending.unnoted()), (None, None, None));
    }

    #[test]
    fn a_record_of_a_module_that_noted_no_place_says_so() {
        let mut written = serde_json::to_value(State::Pending(Box::new(pending()))).unwrap();
        assert_eq!(written["pending"]["place"], serde_json::Value::Null);
        for (noted, is_unnoted) in [(None, true), (Some(serde_json::json!("gave_back")), false)] {
            noted.into_iter().for_each(|noted| written["pending"]["place"] = noted);
            let State::Pending(read) = serde_json::from_value(written.clone()).unwrap() else {
                panic!("pending")
            };
            assert_eq!(read.unnoted().is_some(), is_unnoted);
        }
    }
}
