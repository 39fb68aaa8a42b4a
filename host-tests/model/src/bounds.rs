//! What is searched: by the tests, and by the program that goes further.

use crate::environment::Left;
use crate::model::Bounds;

/// A search that must find nothing.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// What it is about.
    pub name: &'static str,
    /// How far it goes.
    pub bounds: Bounds,
    /// Every state for itself ([`crate::reduce`]).
    pub is_whole: bool,
}

/// Nothing goes wrong.
pub const NOTHING: Left = Left {
    crashes: 0,
    lost_answers: 0,
    partitions: 0,
    late_expiries: 0,
    redeliveries: 0,
    other_values: 0,
    hot_restarts: 0,
    drains: 0,
    deleted_secrets: 0,
    deleted_leases: 0,
};

/// One crash, one lost answer, one partition, one late expiry.
const ONE_OF_EACH: Left = Left { crashes: 1, lost_answers: 1, partitions: 1, late_expiries: 1, ..NOTHING };

/// This number of replicas, and one check.
pub const fn one_check(replicas: u8, left: Left) -> Bounds {
    Bounds { replicas, checks: 1, left, accepts_on_outage: false, has_proof: false }
}

const fn reduced(name: &'static str, bounds: Bounds) -> Search {
    Search { name, bounds, is_whole: false }
}

/// In a minute.
pub const IN_TESTS: &[Search] = &[
    reduced(
        "two checks",
        Bounds {
            checks: 2,
            ..one_check(2, Left { crashes: 1, lost_answers: 1, late_expiries: 1, ..NOTHING })
        },
    ),
    reduced(
        "two checks, a partition",
        Bounds { checks: 2, ..one_check(2, Left { partitions: 1, ..NOTHING }) },
    ),
    reduced("two of each", one_check(2, Left { crashes: 2, lost_answers: 2, ..ONE_OF_EACH })),
    Search { name: "one of each, every state for itself", bounds: one_check(2, ONE_OF_EACH), is_whole: true },
    reduced("three replicas", one_check(3, ONE_OF_EACH)),
    reduced("a redelivery", one_check(2, Left { partitions: 0, redeliveries: 1, ..ONE_OF_EACH })),
    reduced("two redeliveries", one_check(2, Left { crashes: 1, redeliveries: 2, ..NOTHING })),
    reduced("a hot restart", one_check(2, Left { partitions: 0, hot_restarts: 1, ..ONE_OF_EACH })),
    reduced("a drain", one_check(2, Left { partitions: 0, drains: 1, ..ONE_OF_EACH })),
    reduced("a drain, a partition", one_check(2, Left { crashes: 0, drains: 1, ..ONE_OF_EACH })),
    reduced(
        "other values side by side",
        Bounds {
            has_proof: true,
            ..one_check(2, Left { crashes: 1, lost_answers: 1, redeliveries: 1, other_values: 1, ..NOTHING })
        },
    ),
    reduced("a Secret deleted by hand", one_check(2, Left { deleted_secrets: 1, ..ONE_OF_EACH })),
    Search {
        name: "a Lease deleted by hand, every state for itself",
        bounds: one_check(2, Left { lost_answers: 1, redeliveries: 1, deleted_leases: 1, ..NOTHING }),
        is_whole: true,
    },
    reduced(
        "accepted without the store",
        Bounds {
            accepts_on_outage: true,
            ..one_check(2, Left { crashes: 1, lost_answers: 1, partitions: 1, ..NOTHING })
        },
    ),
    reduced(
        "two checks, a crash, a lost answer, a partition",
        Bounds { checks: 2, ..one_check(2, Left { late_expiries: 0, ..ONE_OF_EACH }) },
    ),
    reduced("one of each, and a redelivery", one_check(2, Left { redeliveries: 1, ..ONE_OF_EACH })),
];

/// What the program searches as well: the bounds that the protocol is said to hold within.
pub const IN_FULL: &[Search] = &[
    reduced(
        "two redeliveries, a crash and a lost answer",
        one_check(2, Left { crashes: 1, lost_answers: 1, redeliveries: 2, ..NOTHING }),
    ),
    reduced("three replicas, two of each", one_check(3, Left { crashes: 2, lost_answers: 2, ..ONE_OF_EACH })),
    reduced("two partitions", one_check(2, Left { partitions: 2, ..ONE_OF_EACH })),
    reduced("a hot restart, one of each", one_check(2, Left { hot_restarts: 1, ..ONE_OF_EACH })),
    reduced(
        "a drain, one of each and a redelivery",
        one_check(2, Left { late_expiries: 0, redeliveries: 1, drains: 1, ..ONE_OF_EACH }),
    ),
    reduced(
        "a rolling update with a crash",
        one_check(2, Left { crashes: 1, lost_answers: 2, drains: 2, hot_restarts: 1, ..NOTHING }),
    ),
    reduced(
        "other values, one of each",
        Bounds {
            has_proof: true,
            ..one_check(2, Left { late_expiries: 0, redeliveries: 1, other_values: 1, ..ONE_OF_EACH })
        },
    ),
    reduced(
        "accepted without the store, one of each and a redelivery",
        Bounds {
            accepts_on_outage: true,
            ..one_check(2, Left { late_expiries: 0, redeliveries: 1, ..ONE_OF_EACH })
        },
    ),
    reduced(
        "two of each, and a redelivery",
        one_check(2, Left { crashes: 2, lost_answers: 2, redeliveries: 1, ..ONE_OF_EACH }),
    ),
    reduced(
        "two checks, a crash, a lost answer, a late expiry, a redelivery",
        Bounds { checks: 2, ..one_check(2, Left { partitions: 0, redeliveries: 1, ..ONE_OF_EACH }) },
    ),
    reduced(
        "two checks, three replicas, a crash, a lost answer, a late expiry",
        Bounds { checks: 2, ..one_check(3, Left { partitions: 0, ..ONE_OF_EACH }) },
    ),
    reduced(
        "two checks, a drain, a hot restart, a lost answer",
        Bounds { checks: 2, ..one_check(2, Left { lost_answers: 1, drains: 1, hot_restarts: 1, ..NOTHING }) },
    ),
    Search {
        name: "two of each, every state for itself",
        bounds: one_check(2, Left { crashes: 2, lost_answers: 2, ..ONE_OF_EACH }),
        is_whole: true,
    },
    reduced(
        "two checks, two crashes, two lost answers, a partition, a late expiry",
        Bounds { checks: 2, ..one_check(2, Left { crashes: 2, lost_answers: 2, ..ONE_OF_EACH }) },
    ),
];
