//! Random histories. More of them: `TESTRELAY_HISTORIES=0-20000 cargo test -p testrelay-world --test histories`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::Counts;
use world::history::play;

#[test]
fn no_history_breaks_a_rule() {
    let range = std::env::var("TESTRELAY_HISTORIES").unwrap_or_else(|_| "0-200".into());
    let (from, to) = range.split_once('-').expect("TESTRELAY_HISTORIES is FROM-TO");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let next = AtomicU64::new(from);
    let all = Mutex::new((Counts::default(), BTreeMap::<&str, u64>::new(), Vec::new(), 0));
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    let outcome = play(seed, false).unwrap();
                    let mut all = all.lock().unwrap();
                    all.0.merge(&outcome.counts);
                    for (callback, fuel) in &outcome.fuel {
                        let most = all.1.entry(callback).or_default();
                        *most = (*most).max(*fuel);
                    }
                    all.2.extend(outcome.failure());
                    all.3 += outcome.span / 1_000_000;
                }
            });
        }
    });
    let (counts, fuel, failures, seconds) = all.into_inner().unwrap();
    println!("{} histories of {} h in {:?}", to - from, seconds / 3_600, began.elapsed());
    for (name, count) in &counts.by_name {
        println!("{count:>10}  {name}");
    }
    for (callback, fuel) in &fuel {
        println!("{fuel:>10}  most fuel of {callback}");
    }
    assert!(
        failures.is_empty(),
        "{} of them failed\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
}

#[test]
fn the_same_seed_gives_the_same_history_byte_for_byte() {
    for seed in [1, 2, 3] {
        let traces = [(); 2].map(|()| play(seed, true).unwrap().trace);
        assert!(traces[0] == traces[1], "seed {seed} took another way");
        assert!(traces[0].len() > 1_000);
    }
}
