//! Random histories. `cargo xtask test histories` plays 4,000 and 4,000 that follow from the source, `cargo xtask soak` more;
//! `TESTRELAY_HISTORIES=FROM-TO,FROM-TO` chooses others. Seeds of the list of expected failures are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use world::coverage::{Coverage, ENOUGH_HISTORIES};
use world::history::play;

/// Nothing else stops an endless loop in a VM whose fuel is not counted. A history takes a twentieth of a second.
const LONGEST: Duration = Duration::from_secs(300);

#[test]
fn no_history_breaks_a_rule() {
    let chosen = std::env::var("TESTRELAY_HISTORIES").unwrap_or_else(|_| "0-500".into());
    let listed = known_to_fail();
    let (skipped, seeds): (Vec<u64>, Vec<u64>) =
        ranges(&chosen).into_iter().flat_map(|(from, to)| from..to).partition(|seed| listed.contains(seed));
    let next = AtomicUsize::new(0);
    let all = Mutex::new((Coverage::default(), Vec::new(), 0));
    let playing: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        // The last playing thread drops its other end.
        let (plays, ended) = mpsc::channel::<()>();
        scope.spawn(|| watch(&playing, ended));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (held, playing, all, seeds, next) = (plays.clone(), &playing, &all, &seeds, &next);
            scope.spawn(move || {
                let _held = held;
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Ten failures say as much as a thousand.
                    if all.lock().unwrap().1.len() >= 10 {
                        return;
                    }
                    playing.lock().unwrap().insert(*seed, Instant::now());
                    let outcome = play(*seed, false).unwrap();
                    playing.lock().unwrap().remove(seed);
                    let mut all = all.lock().unwrap();
                    all.0.add(&outcome.counts);
                    all.1.extend(outcome.failure());
                    all.2 += outcome.span / 1_000_000;
                }
            });
        }
    });
    let (coverage, failures, seconds) = all.into_inner().unwrap();
    // Not with `println!`, whose output the test harness hides if a test passes: these counts show what the pass is worth.
    let (text, hours, took) = (coverage.text(), seconds / 3_600, began.elapsed());
    let mut out = std::io::stdout();
    writeln!(out, "{text}\nhistories {chosen}: {hours} h of virtual time in {took:?}").unwrap();
    if !skipped.is_empty() {
        writeln!(out, "left out, because they are known to fail: {skipped:?}").unwrap();
    }
    assert!(
        failures.is_empty(),
        "{} of them failed: mend each, or list it with its reason in host-tests/expected-failures.txt\n{}",
        failures.len(),
        failures.join("\n")
    );
    if seeds.len() as u64 >= ENOUGH_HISTORIES {
        assert_eq!(coverage.gaps(), Vec::<String>::new());
    }
}

/// Ends the program if a history does not end, and names it.
fn watch(playing: &Mutex<BTreeMap<u64, Instant>>, ended: mpsc::Receiver<()>) {
    while ended.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
        if let Some((seed, _)) = playing.lock().unwrap().iter().find(|(_, since)| since.elapsed() > LONGEST) {
            eprintln!("seed {seed} has played for {LONGEST:?}: replay it with: cargo xtask replay {seed}");
            std::process::abort();
        }
    }
}

/// `FROM-TO`, or several of these with commas between them.
fn ranges(text: &str) -> Vec<(u64, u64)> {
    let range = |range: &str| {
        let (from, to) = range.split_once('-')?;
        Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.unwrap_or_else(|| panic!("TESTRELAY_HISTORIES is FROM-TO or FROM-TO,FROM-TO; it is {text:?}"))
}

/// The seeds of the list of expected failures: `history SEED  # why`.
fn known_to_fail() -> BTreeSet<u64> {
    let list = include_str!("../../expected-failures.txt");
    let seed = |line: &str| line.trim().strip_prefix("history ")?.split('#').next()?.trim().parse().ok();
    list.lines().filter_map(seed).collect()
}

#[test]
fn histories_are_chosen_by_one_range_or_several() {
    assert_eq!(ranges("0-20000"), [(0, 20_000)]);
    assert_eq!(ranges("0-5,10000000-10002000"), [(0, 5), (10_000_000, 10_002_000)]);
}

/// Seeds that failed, and what they found: all but one found a fault of the reference. What a seed plays depends on the
/// generator and on the module's calls, so after a change of either it is one history among many.
const ONCE_FAILED: [(u64, &str); 7] = [
    (2_382, "a token ends while the thread that reads its delivery stalls"),
    (3_465, "an evaluation: a re-run that is deleted uncovers what it had replaced"),
    (4_006, "an evaluation: the same"),
    (4_585, "pages to sign in for four minutes, which then were enough to drop the check"),
    (6_777, "a leader that stalls for longer than its lease is followed by the brake of a fall"),
    (11_094, "a check and an evaluation ask for the same in the same millisecond"),
    (19_001, "an evaluation: a re-run that is deleted uncovers what it had replaced"),
];

#[test]
fn seeds_that_once_failed_break_no_rule() {
    for (seed, why) in ONCE_FAILED {
        assert_eq!(play(seed, false).unwrap().failure(), None, "{why}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history_byte_for_byte() {
    for seed in [1, 2, 3] {
        let traces = [(); 2].map(|()| play(seed, true).unwrap().trace);
        assert!(traces[0] == traces[1], "seed {seed} took another way");
        assert!(traces[0].len() > 1_000);
    }
}
