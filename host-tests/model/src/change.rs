//! What one executed write may make of a check's Secret: the protocol as it shows at the API server, whatever its parties
//! keep to themselves.
//!
//! The model holds every write that it executes to it, in each search without a fault. So whoever watches real replicas can
//! hold theirs to the same. Words in *italics* name sentences of the protocol, as the crate's README has them.

/// A Secret as it shows. `O` names owners, `D` decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen<O, D> {
    /// The process that it names; none when it was given up.
    pub owner: Option<O>,
    /// The number of its deliveries.
    pub deliveries: u32,
    /// Whether Azure DevOps has taken a token of it.
    pub proven: bool,
    /// How far it has come.
    pub stage: Stage<D>,
}

/// How far a check has come, as its Secret says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage<D> {
    /// Nothing was decided.
    Undecided,
    /// This was decided.
    Decided(D),
    /// All is served.
    Done,
}

/// What a write was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// *Accept*, *Accept anyway*, *By hand*: it was created.
    Created,
    /// *Merge*: a delivery was added to another's check, or to nobody's.
    Merged,
    /// *Merge*: what was done is evaluated anew.
    Revived,
    /// *Adopt*: another's check, or nobody's, has a new owner.
    Adopted,
    /// *Merge*, *Proof*, *Fence*: its owner has written its own progress.
    Advanced,
    /// *Reopen*: its owner has made a decided check undecided.
    Reopened,
    /// *End*: it is done.
    Ended,
    /// *Drain*: its owner has given it up.
    GivenUp,
    /// *Delete*: it is gone.
    Deleted,
}

/// What a write was for that `by` has made, and that was executed; `None`: there is no Secret.
///
/// # Errors
/// Which sentence knows no such write.
pub fn change<O: PartialEq, D: PartialEq>(
    before: Option<&Seen<O, D>>,
    after: Option<&Seen<O, D>>,
    by: &O,
) -> Result<Change, &'static str> {
    match (before, after) {
        (None, None) => Err("nothing was written"),
        (None, Some(new)) => created(new, by),
        (Some(old), None) => match old.stage {
            Stage::Done => Ok(Change::Deleted),
            _ => Err("Delete: only what is done is deleted"),
        },
        // Where its owner is dead, anybody may delete what is done, and may make it its own first.
        (Some(old), Some(new)) if old.stage == Stage::Done && new.stage == Stage::Done => {
            if old.owner == new.owner {
                return Err("End: what is done changes no more");
            }
            handed_over(old, new, by)
        }
        (Some(old), Some(new)) if old.stage == Stage::Done => revived(new, by),
        (Some(old), Some(new)) if old.owner == new.owner && old.owner.as_ref() != Some(by) => {
            merged(old, new)
        }
        (Some(old), Some(new)) if old.owner == new.owner => advanced(old, new),
        (Some(old), Some(new)) => handed_over(old, new, by),
    }
}

fn created<O: PartialEq, D: PartialEq>(new: &Seen<O, D>, by: &O) -> Result<Change, &'static str> {
    match &new.owner {
        Some(owner) if owner != by => Err("Accept: whoever creates it owns it"),
        _ if new.stage == Stage::Done => Err("By hand: what is done is not stored again"),
        _ => Ok(Change::Created),
    }
}

fn revived<O: PartialEq, D: PartialEq>(new: &Seen<O, D>, by: &O) -> Result<Change, &'static str> {
    match &new.owner {
        Some(owner) if owner != by => Err("Merge: whoever got the delivery owns the new evaluation"),
        _ if new.stage != Stage::Undecided => Err("Merge: a new evaluation is undecided"),
        _ => Ok(Change::Revived),
    }
}

/// By somebody else than its owner, who stays.
fn merged<O: PartialEq, D: PartialEq>(old: &Seen<O, D>, new: &Seen<O, D>) -> Result<Change, &'static str> {
    if old.stage != new.stage || old.proven != new.proven {
        return Err("Merge: nothing but a delivery is added to another's check");
    }
    match new.deliveries > old.deliveries {
        true => Ok(Change::Merged),
        false => Err("Merge: a repeated delivery is always a new one"),
    }
}

/// By its owner. A write may leave out stages that were not written for themselves.
fn advanced<O: PartialEq, D: PartialEq>(old: &Seen<O, D>, new: &Seen<O, D>) -> Result<Change, &'static str> {
    if old.proven && !new.proven {
        return Err("Proof: what was proven stays proven");
    }
    // The proof drops those of other values.
    if new.deliveries < old.deliveries && old.proven {
        return Err("Merge: no delivery is lost");
    }
    match (&old.stage, &new.stage) {
        (_, Stage::Done) if new.deliveries > old.deliveries => {
            Err("End: not with a delivery that came with it")
        }
        (_, Stage::Done) => Ok(Change::Ended),
        (Stage::Decided(old), Stage::Decided(new)) if old != new => Err("Fence: nothing is decided again"),
        (Stage::Decided(_), Stage::Undecided) => Ok(Change::Reopened),
        _ => Ok(Change::Advanced),
    }
}

/// It names another than before, or nobody any more.
fn handed_over<O: PartialEq, D: PartialEq>(
    old: &Seen<O, D>,
    new: &Seen<O, D>,
    by: &O,
) -> Result<Change, &'static str> {
    match &new.owner {
        None if old.owner.as_ref() != Some(by) => Err("Drain: nobody gives up another's check"),
        // With what its owner had not stored yet.
        None => match advanced(old, new)? {
            Change::Advanced => Ok(Change::GivenUp),
            _ => Err("Drain: it is given up as it stands"),
        },
        Some(owner) if owner != by => Err("Adopt: nobody makes a check somebody else's"),
        _ if old.stage != new.stage => Err("Adopt: whoever adopts a check decides nothing with it"),
        _ if old.proven != new.proven || old.deliveries != new.deliveries => {
            Err("Adopt: nothing but the owner changes")
        }
        _ => Ok(Change::Adopted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Secret = Seen<&'static str, u8>;

    fn seen(owner: &'static str, deliveries: u32, proven: bool, stage: Stage<u8>) -> Secret {
        let owner = Some(owner).filter(|owner| !owner.is_empty());
        Seen { owner, deliveries, proven, stage }
    }

    #[test]
    fn one_life_with_an_heir_is_allowed() {
        let life = [
            ("a", Some(seen("a", 1, false, Stage::Undecided)), Change::Created),
            ("a", Some(seen("a", 1, true, Stage::Undecided)), Change::Advanced),
            ("b", Some(seen("a", 2, true, Stage::Undecided)), Change::Merged),
            ("a", Some(seen("a", 2, true, Stage::Decided(1))), Change::Advanced),
            ("b", Some(seen("b", 2, true, Stage::Decided(1))), Change::Adopted),
            ("b", Some(seen("", 2, true, Stage::Decided(1))), Change::GivenUp),
            ("c", Some(seen("", 3, true, Stage::Decided(1))), Change::Merged),
            ("c", Some(seen("c", 3, true, Stage::Decided(1))), Change::Adopted),
            ("c", Some(seen("c", 3, true, Stage::Undecided)), Change::Reopened),
            ("c", Some(seen("c", 3, true, Stage::Decided(2))), Change::Advanced),
            ("c", Some(seen("c", 3, true, Stage::Done)), Change::Ended),
            ("a", Some(seen("a", 1, false, Stage::Undecided)), Change::Revived),
            ("a", Some(seen("a", 1, true, Stage::Done)), Change::Ended),
            ("b", Some(seen("b", 1, true, Stage::Done)), Change::Adopted),
            ("b", None, Change::Deleted),
        ];
        let mut before: Option<Secret> = None;
        for (by, after, what) in life {
            assert_eq!(change(before.as_ref(), after.as_ref(), &by), Ok(what), "{before:?} {after:?}");
            before = after;
        }
    }

    #[test]
    fn what_no_sentence_knows_is_refused() {
        let old = seen("a", 2, true, Stage::Undecided);
        let decided = seen("a", 2, true, Stage::Decided(1));
        let done = seen("a", 2, true, Stage::Done);
        let refused = [
            (None, Some(seen("b", 1, false, Stage::Undecided)), "Accept"),
            (None, Some(seen("a", 1, true, Stage::Done)), "By hand"),
            (Some(&old), None, "Delete"),
            (Some(&decided), Some(seen("a", 2, true, Stage::Decided(2))), "Fence"),
            (Some(&decided), Some(seen("a", 3, true, Stage::Done)), "End"),
            (Some(&old), Some(seen("a", 1, true, Stage::Undecided)), "Merge"),
            (Some(&old), Some(seen("a", 2, false, Stage::Undecided)), "Proof"),
            (Some(&old), Some(seen("b", 2, true, Stage::Undecided)), "Adopt"),
            (Some(&done), Some(decided.clone()), "Merge"),
            (Some(&done), Some(done.clone()), "End"),
            (Some(&done), Some(seen("", 2, true, Stage::Done)), "Drain"),
        ];
        for (before, after, sentence) in refused {
            let why = change(before, after.as_ref(), &"a").unwrap_err();
            assert!(why.starts_with(sentence), "{before:?} {after:?}: {why}");
        }
        let by_another = [
            (seen("a", 2, true, Stage::Undecided), "Merge: a repeated"),
            (seen("a", 3, true, Stage::Decided(1)), "Merge: nothing"),
            (seen("", 2, true, Stage::Undecided), "Drain"),
            (seen("b", 2, true, Stage::Decided(1)), "Adopt: whoever"),
            (seen("b", 1, true, Stage::Undecided), "Adopt: nothing"),
            (seen("c", 2, true, Stage::Undecided), "Adopt: nobody"),
        ];
        for (after, sentence) in by_another {
            let why = change(Some(&old), Some(&after), &"b").unwrap_err();
            assert!(why.starts_with(sentence), "{after:?}: {why}");
        }
    }
}
