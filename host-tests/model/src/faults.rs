//! Deliberate faults: the protocol with one sentence taken back. Each is found by a search, but for those that say so.

/// A fault of every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The event goes out before the decision is stored.
    NoFence,
    /// Adoption without `resourceVersion`.
    AdoptBlind,
    /// A delivery is merged without `resourceVersion`.
    MergeBlind,
    /// "Done" without `resourceVersion`.
    DoneBlind,
    /// DELETE without preconditions.
    DeleteBlind,
    /// After 409 its own record is kept, with the version that was read.
    OwnRecordKept,
    /// After 409 nobody looks whose the check is.
    NoOwnerCheck,
    /// An adopted check that was decided is decided again.
    DecideAgain,
    /// No own sweep.
    NoOwnSweep,
    /// No sweep for Secrets whose owner has no Lease.
    NoSweep,
    /// A check ends when one delivery was served.
    EndUnserved,
    /// A delivery with a known token changes nothing.
    DeliveryNotRaised,
    /// What has expired by a replica's own wall clock is deleted.
    ExpiredDeleted,
    /// Two processes of one pod name take each other for dead, at any time.
    SameNameBothWays,
    /// A process accepts before its Lease is there.
    LeaseAfterAccepting,
    /// The sweep lists Leases first and Secrets after.
    LeasesListedFirst,
    /// A check that is over is deleted at once; 404 means "by hand".
    NoDone,
    /// 404 means "by hand" without asking Azure DevOps.
    PostsWithoutAsking,
    /// An acceptance reads its 201 after its own sweep has taken the check in, and starts it again.
    TwoExchanges,
    /// One event for a decision, with the newest token; then it is undecided again for the rest.
    OneEventADecision,
    /// What a draining process gives up does not say who was served.
    DrainForgetsServed,
    /// The Lease of a dead process is deleted before its checks are adopted. Not a loss as long as there is the sweep: it
    /// costs up to a minute ([`crate::timed`]).
    LeaseDeletedFirst,
    /// A draining process still sends events.
    DrainSends,
}
