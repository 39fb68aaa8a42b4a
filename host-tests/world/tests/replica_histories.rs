//! Random histories with replicas. `cargo xtask soak --replicas` plays more; `TESTRELAY_REPLICA_HISTORIES=FROM-TO` chooses others.

use std::io::Write as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::Counts;
use world::history::play_replicas;

/// As many failures are told.
const MAX_FAILURES: usize = 10;

/// Plays those that were chosen; these, if none were.
fn play(from: u64, to: u64, shares: bool) {
    let chosen = std::env::var("TESTRELAY_REPLICA_HISTORIES").ok().map(|text| {
        let (from, to) = text.split_once('-').expect("FROM-TO");
        (from.trim().parse().expect("a seed"), to.trim().parse().expect("a seed"))
    });
    let (from, to) = chosen.unwrap_or((from, to));
    let next = AtomicU64::new(from);
    let some = || {
        let (mut counts, mut failures) = (Counts::default(), Vec::new());
        while failures.len() < MAX_FAILURES {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                break;
            }
            let outcome = play_replicas(seed, shares, false).unwrap();
            counts.merge(&outcome.counts);
            failures.extend(outcome.failure());
        }
        (counts, failures)
    };
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        for thread in all {
            let (met, failed) = thread.join().unwrap();
            counts.merge(&met);
            failures.extend(failed);
        }
    });
    let mut out = std::io::stdout();
    for (name, count) in &counts.by_name {
        writeln!(out, "{count:>9} {name}").unwrap();
    }
    assert!(failures.is_empty(), "{} of them failed:\n{}", failures.len(), failures.join("\n"));
    for name in
        ["fault: a process is killed", "container restarted", "fault: a process is cut off", "hot restart"]
    {
        assert!(counts.of(name) > 0, "{name}");
    }
    for name in ["replicas: drained", "replicas: events of Testkube", "replicas: listed"] {
        assert!(!shares || counts.of(name) > 0, "{name}");
    }
}

#[test]
fn no_history_with_replicas_that_share_nothing_breaks_a_rule() {
    play(0, 30, false);
}

#[test]
fn no_history_with_replicas_that_share_their_checks_breaks_a_rule() {
    play(0, 600, true);
}

#[test]
fn the_same_seed_gives_the_same_history_byte_for_byte() {
    for seed in [1, 2] {
        let traces = [(); 2].map(|()| play_replicas(seed, false, true).unwrap().trace);
        assert!(traces[0] == traces[1], "seed {seed} took another way");
        assert!(traces[0].len() > 1_000);
    }
}
