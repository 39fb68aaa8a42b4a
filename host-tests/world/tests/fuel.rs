//! The fuel of the module's main paths: as the committed table says, and at most linear in the pending checks.

use std::sync::LazyLock;
use world::fuel::{Measured, Table, measure};

static MEASURED: LazyLock<Measured> = LazyLock::new(|| measure().unwrap());

/// No callback of the main paths may take more. The largest reads 600 new checks and more in one tick, and begins the first of them.
const MAX_FUEL: u64 = 120_000_000;

#[test]
fn the_main_paths_take_the_fuel_that_the_committed_table_says() {
    let Some(committed) = Table::committed(&MEASURED.compiler).unwrap() else {
        println!(
            "There is no table for Rust {}: nothing was compared. `cargo xtask bench --accept` makes one.",
            MEASURED.compiler
        );
        return;
    };
    let changes = MEASURED.table.changes(&committed);
    let table = MEASURED.table.beside(&committed);
    assert!(
        changes.is_empty(),
        "{}\n\n{table}\nIf that is as it should be: `cargo xtask bench --accept`",
        changes.join("\n")
    );
}

#[test]
fn no_callback_takes_more_than_its_bound() {
    assert!(MEASURED.most <= MAX_FUEL, "{}", MEASURED.most);
}

/// The fuel that pending checks add to a tick, divided by their number, may rise by a fifth at most above that for any
/// smaller number; quadratic growth would double it from 1,000 to 2,000. This begins at ten checks, because the tick's own
/// fuel hides the share of a single one.
#[test]
fn the_leaders_tick_grows_at_most_linearly_with_the_pending_checks() {
    let for_each: Vec<_> =
        MEASURED.for_each_pending().into_iter().filter(|(pending, _)| *pending >= 10).collect();
    assert_eq!(for_each.first().map(|(pending, _)| *pending), Some(10));
    assert_eq!(for_each.last().map(|(pending, _)| *pending), Some(2_000));
    for (n, (pending, fuel)) in for_each.iter().enumerate() {
        let least = for_each[..=n].iter().map(|(_, fuel)| *fuel).min().unwrap();
        assert!(*fuel > 0 && *fuel <= least + least / 5, "from {pending} pending checks on: {for_each:?}");
    }
}
