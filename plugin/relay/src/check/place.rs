//! The place that a pending check takes of the limits of its credential, its project and all checks.

use super::{Pending, State};
use crate::guid::Guid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The credential and project that a check is counted under: those of its first delivery, until it ends. A later
/// delivery with others takes no place and moves none, whichever is proven: a change of an accepted check is never
/// refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The credential's name; empty without one.
    pub credential: String,
    /// The project.
    pub project: Guid,
}

/// What a pending check's record says of its place. In JSON it is one text, because it is written and read at each
/// change of a check: the project's GUID and the credential's name, with nothing between; or [`GAVE_BACK`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placed {
    /// Nothing that is understood: a module that notes no places wrote it. The leader takes a place for it, limit or
    /// not.
    #[default]
    Unnoted,
    /// It holds this place.
    Holds(Place),
    /// It has given its place back.
    GaveBack,
}

const GAVE_BACK: &str = "gave_back";

/// Length of a GUID as text, in bytes.
const GUID: usize = 36;

impl Serialize for Placed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Placed::Holds(place) => {
                serializer.serialize_str(&(place.project.to_string() + &place.credential))
            }
            Placed::GaveBack => serializer.serialize_str(GAVE_BACK),
            Placed::Unnoted => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == GAVE_BACK {
            return Ok(Placed::GaveBack);
        }
        // A place that cannot be read is no reason to lose a check.
        let place = text.split_at_checked(GUID).and_then(|(project, credential)| {
            Some(Place { credential: credential.into(), project: Guid::parse(project)? })
        });
        Ok(place.map_or(Placed::Unnoted, Placed::Holds))
    }
}

impl Pending {
    /// The place that the check holds.
    pub fn held(&self) -> Option<&Place> {
        match &self.place {
            Placed::Holds(place) => Some(place),
            Placed::Unnoted | Placed::GaveBack => None,
        }
    }

    /// Frees the check from the limits from now on. The context whose write of the changed record wins, and no other,
    /// must pass the returned place to [`give_back`](crate::store::places::give_back). `None` if there is nothing to
    /// give back.
    pub fn leave_place(&mut self) -> Option<Place> {
        match std::mem::replace(&mut self.place, Placed::GaveBack) {
            Placed::Holds(place) => Some(place),
            Placed::Unnoted | Placed::GaveBack => None,
        }
    }

    /// The place to take for the check, if its record notes none.
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
    fn what_is_noted_comes_back_and_a_record_that_notes_no_place_says_so() {
        let place =
            |credential: &str| Placed::Holds(Place { credential: credential.into(), project: guid(7) });
        let of = |placed: &Placed| {
            let pending = Pending { place: placed.clone(), ..pending() };
            serde_json::to_value(State::Pending(Box::new(pending))).unwrap()
        };
        let read = |state: serde_json::Value| match serde_json::from_value(state) {
            Ok(State::Pending(pending)) => pending.place,
            other => panic!("no pending check: {other:?}"),
        };
        for placed in
            [place(""), place("azure-pipelines"), place("\"\u{e9}\\"), Placed::GaveBack, Placed::Unnoted]
        {
            assert_eq!(read(of(&placed)), placed);
        }
        assert_eq!(of(&Placed::Unnoted)["pending"].get("place"), None);
        let guid = "00000007-0000-4000-8000-00000000000";
        for unknown in ["", "later", guid, &format!("{guid}g"), &format!("{guid}\u{e9}a")] {
            let mut state = of(&Placed::GaveBack);
            state["pending"]["place"] = unknown.into();
            assert_eq!(read(state), Placed::Unnoted, "{unknown}");
        }
    }
}
