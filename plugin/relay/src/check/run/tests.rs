use super::*;
use crate::check::tests::record;
use crate::check::{Record, State};

const SECOND: u64 = 1_000;

/// The callback of check `n` of a build.
fn callback(n: u32, build: Option<u64>) -> Callback {
    let Record { state: State::Pending(pending), .. } = record(n) else { panic!("a pending record") };
    Callback { build, ..pending.callback }
}

/// A check that comes at a second and ends at another.
struct One {
    callback: Callback,
    key: CheckKey,
    watch: RunWatch,
    at: std::ops::Range<u64>,
    is_asking: bool,
}

fn one(n: u32, build: Option<u64>, at: std::ops::Range<u64>) -> One {
    let callback = callback(n, build);
    let watch = RunWatch::of(&callback);
    One { key: CheckKey::of(&callback), callback, watch, at, is_asking: false }
}

/// Plays checks whose looks are answered after half a second. Returns which looks were made at which seconds.
fn play(
    mut all: Vec<One>,
    seconds: u64,
    shown: impl Fn(usize, Look, u64) -> Shown,
) -> Vec<(u64, usize, Look)> {
    let mut runs = Runs::default();
    let (mut asked, mut made): (Vec<(u64, usize, Look)>, Vec<_>) = (Vec::new(), Vec::new());
    for ms in (0..seconds * SECOND).step_by(100) {
        let (now, second) = (Mono(1_000_000 + ms), ms / SECOND);
        for (_, n, look) in asked.extract_if(.., |(at, ..)| *at + 500 <= ms) {
            let One { watch, callback, at, is_asking, .. } = &mut all[n];
            *is_asking = false;
            if watch.note_seen(look, shown(n, look, second), now, false, callback, &mut runs).is_some() {
                at.end = second;
            }
        }
        let mut turns: Vec<usize> = (0..all.len()).collect();
        if ms % SECOND == 0 {
            runs.tick();
        }
        while let Some(key) = runs.next_turn() {
            let n = all.iter().position(|one| one.key == key).unwrap();
            all[n].watch.take_turn();
            try_look(&mut all[n], n, now, ms, &mut runs, &mut asked, &mut made);
        }
        for n in turns.drain(..) {
            try_look(&mut all[n], n, now, ms, &mut runs, &mut asked, &mut made);
        }
    }
    made
}

fn try_look(
    one: &mut One,
    n: usize,
    now: Mono,
    ms: u64,
    runs: &mut Runs,
    asked: &mut Vec<(u64, usize, Look)>,
    made: &mut Vec<(u64, usize, Look)>,
) {
    if one.is_asking || !one.at.contains(&(ms / SECOND)) {
        return;
    }
    if let Some(look) = one.watch.due(now, &one.key, &one.callback, runs) {
        one.watch.note_sent(look, now, &one.callback, runs);
        one.is_asking = true;
        asked.push((ms, n, look));
        made.push((ms / SECOND, n, look));
    }
}

fn looks(of: &[Callback], seconds: u64, shown: impl Fn(Look, u64) -> Shown) -> Vec<(u64, usize, Look)> {
    let all = of.iter().map(|callback| One {
        key: CheckKey::of(callback),
        callback: callback.clone(),
        watch: RunWatch::of(callback),
        at: 0..seconds,
        is_asking: false,
    });
    play(all.collect(), seconds, |_, look, at| shown(look, at))
}

#[test]
fn one_check_is_looked_at_once_a_minute_its_record_first_and_then_its_build() {
    let made = looks(&[callback(1, Some(7))], 320, |_, _| Shown::GoesOn);
    let kinds: Vec<(u64, bool)> =
        made.iter().map(|(at, _, look)| (*at, matches!(look, Look::Build(_)))).collect();
    assert_eq!(kinds, [(0, false), (60, true), (121, false), (181, true), (242, false), (302, true)]);
    let made = looks(&[callback(1, None)], 200, |_, _| Shown::GoesOn);
    assert_eq!(made.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [0, 60, 121, 181]);
}

#[test]
fn a_build_is_asked_once_a_minute_for_all_of_its_checks() {
    let of: Vec<Callback> = (1..=200).map(|n| callback(n, Some(7))).collect();
    let made = looks(&of, 240, |_, _| Shown::GoesOn);
    let builds = made.iter().filter(|(.., look)| matches!(look, Look::Build(_))).count();
    assert!((2..=4).contains(&builds), "{builds}");
    assert!((300..=440).contains(&(made.len() - builds)), "two first and one later look a second");
}

#[test]
fn an_entry_is_looked_at_five_times_a_second_and_every_check_has_its_turn() {
    let of: Vec<Callback> = (1..=600).map(|n| callback(n, Some(u64::from(n)))).collect();
    let made = looks(&of, 720, |_, _| Shown::GoesOn);
    for second in 0..720 {
        let at_once = made.iter().filter(|(at, ..)| *at == second).count();
        assert!(at_once <= 5, "{at_once} looks in second {second}");
    }
    let builds: std::collections::BTreeSet<usize> =
        made.iter().filter(|(.., look)| matches!(look, Look::Build(_))).map(|(_, n, _)| *n).collect();
    assert_eq!(builds.len(), 600);
}

#[test]
fn checks_that_have_ended_hold_nobody_up() {
    // 2,000 end before their turn, or ten a second each after ten seconds.
    let crowd = (1..=2_000).map(|n| one(n, None, 0..5));
    let stream = (1..=3_000).map(|n| one(n, None, u64::from(n) / 10..u64::from(n) / 10 + 10));
    for (before, at) in [(crowd.collect::<Vec<One>>(), 10), (stream.collect(), 305)] {
        let last = before.len();
        let all = before.into_iter().chain([one(5_000, None, at..u64::MAX)]).collect();
        let made = play(all, at + 60, |_, _, _| Shown::GoesOn);
        let first = made.iter().find(|(_, n, _)| *n == last).map(|(second, ..)| *second);
        assert!(first.is_some_and(|first| first <= at + 10), "{first:?}");
    }
}

#[test]
fn each_build_is_asked_within_two_minutes_however_many_checks_it_has() {
    let of: Vec<Callback> = (1..=1_000).map(|n| callback(n, Some(u64::from(n % 20)))).collect();
    let made = looks(&of, 600, |_, _| Shown::GoesOn);
    let builds: std::collections::BTreeSet<u64> = made
        .iter()
        .filter_map(|(at, _, look)| match look {
            Look::Build(build) if *at <= 120 => Some(*build),
            _ => None,
        })
        .collect();
    assert_eq!(builds.len(), 20, "{builds:?}");
}

#[test]
fn when_a_build_is_over_each_of_its_checks_sees_it_itself_within_a_minute() {
    let of: Vec<Callback> = (1..=10).map(|n| callback(n, Some(7))).collect();
    let over = |look, at| match (look, at >= 100) {
        (Look::Build(build), true) => Shown::Over(Outcome::Over, format!("Build {build} is over.")),
        _ => Shown::GoesOn,
    };
    let made = looks(&of, 190, over);
    let first = made.iter().find(|(at, _, look)| *at >= 100 && matches!(look, Look::Build(_))).unwrap().0;
    let seen: std::collections::BTreeSet<usize> = made
        .iter()
        .filter(|(at, _, look)| (first..first + 65).contains(at) && matches!(look, Look::Build(_)))
        .map(|(_, n, _)| *n)
        .collect();
    assert_eq!(seen.len(), 10, "{made:?}");
}
