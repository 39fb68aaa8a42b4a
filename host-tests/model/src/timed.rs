//! Time: when a process is taken for dead, how soon its checks are adopted, and what bells do to that.
//!
//! One process owns a check; the others watch its Lease. A step is one second: what cannot reach the API server is chosen
//! anew, then each process renews if it is due, and lists. All runs are gone through, with up to [`Span::cut_seconds`] of
//! partition, up to [`Span::outage_seconds`] of an outage for all, and the owner dying at any moment or never.

use hashbrown::HashSet;

mod watch;

pub use watch::{MAX_OTHERS, Other, Owner, Watch};

/// A deliberate fault of the clockwork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slip {
    /// A Lease has expired when its `renewTime` lies 20 s before the reader's own wall clock, which is that much ahead.
    ByTheClock {
        /// By how many seconds the readers' clocks are ahead of the owner's; negative when they are behind.
        ahead: i8,
    },
    /// Time between two answered lists counts, however far apart they are.
    UnobservedTimeCounts,
    /// A gap between two answered lists starts the count anew.
    GapStartsAnew,
    /// A bell is written into the owner's Lease, and any change of the Lease is a sign of life.
    BellInTheLease,
    /// Nobody deletes a bell of another.
    BellsAreKept,
    /// The Lease of a dead process is deleted before its checks are adopted.
    LeaseDeletedFirst,
    /// Only the process that rendezvous hashing names adopts.
    NoFallback,
    /// The predecessor of the same pod name is not looked for at the start.
    NoPredecessor,
}

/// How much is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Processes that watch the owner, at most [`MAX_OTHERS`].
    pub others: usize,
    /// Seconds for which single processes do not reach the API server, all together.
    pub cut_seconds: u8,
    /// Seconds for which nobody reaches it.
    pub outage_seconds: u8,
    /// Whether one of the others may die as well.
    pub second_death: bool,
    /// Whether the owner's container is started anew, under the same pod name, a second after its death.
    pub same_pod_restart: bool,
    /// Whether each second an event is hinted at the owner.
    pub hints: bool,
    /// What is wrong.
    pub slip: Option<Slip>,
}

/// What a search has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timing {
    /// States.
    pub states: usize,
    /// The longest time from the owner's death to the adoption of its check, in seconds; [`NEVER`] when it was not adopted
    /// by then.
    pub longest_adoption: u8,
    /// A check was adopted from an owner that lived, and that had been silent for less than 20 s in which the API server
    /// answered.
    pub taken_from_the_living: bool,
    /// The longest life of a bell, in seconds; [`NEVER`] when it stays.
    pub oldest_bell: u8,
    /// The longest time from a hint to the look of a living owner that reached the API server, in seconds.
    pub longest_ring: u8,
}

/// A search waits no longer than this for an adoption, in seconds.
pub const NEVER: u8 = 100;

/// Goes through all runs.
pub fn search(span: &Span) -> Timing {
    let mut timing = Timing::default();
    let mut seen: HashSet<Watch, foldhash::fast::FixedState> = HashSet::default();
    let mut open: Vec<Watch> = Watch::starts(span);
    while let Some(watch) = open.pop() {
        if !seen.insert(watch) {
            continue;
        }
        timing.oldest_bell = timing.oldest_bell.max(watch.oldest_bell.unwrap_or_default());
        timing.longest_ring = timing.longest_ring.max(watch.ringing_for.unwrap_or_default());
        if let Some(from_the_living) = watch.adopted {
            timing.taken_from_the_living |= from_the_living;
            timing.longest_adoption = timing.longest_adoption.max(watch.owner.dead_for.unwrap_or_default());
        } else if watch.owner.dead_for == Some(NEVER) {
            timing.longest_adoption = NEVER;
            continue;
        }
        watch.seconds(span, &mut open);
    }
    timing.states = seen.len();
    timing
}
