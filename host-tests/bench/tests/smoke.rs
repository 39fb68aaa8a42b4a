//! The bench itself, in a few requests: every case gives figures. Which, says `cargo xtask bench`.

use anyhow::{Context, Result};
use bench::figures::{Figures, Measure};
use bench::targets::{ACCEPTED, DOWNLOADS, SMALL_FLOOR, Target};
use bench::{Programs, checks, downloads, table};
use host_tests::env;

fn programs() -> Result<Programs> {
    Ok(Programs { module: env::module()?, envoy: env::envoy()? })
}

/// Each target's figure, and every other one, is there for each round, and is a number.
fn all_are_measured(figures: &[Figures], targets: &[Target], rounds: usize) -> Result<()> {
    for target in targets {
        let own = figures.iter().find(|own| own.case == target.case && own.measure == target.measure);
        own.with_context(|| format!("{}: {} is not measured", target.case, target.measure.name()))?;
    }
    for own in figures {
        let what = format!("{}: {}", own.case, own.measure.name());
        assert_eq!(own.rounds.len(), rounds, "{what}");
        let (without, with) = (own.without().context(what.clone())?, own.with().context(what.clone())?);
        if own.measure != Measure::Growth {
            assert!(without.least > 0.0 && with.least > 0.0, "{what}");
        }
    }
    let text = table::table(figures, targets, "without");
    assert_eq!(text.matches("target ").count(), targets.len(), "{text}");
    assert!(!text.contains("unknown"), "{text}");
    Ok(())
}

#[test]
fn downloads_give_figures() -> Result<()> {
    // More connections than the downloads that a credential may have by default.
    let plan = downloads::Plan { rounds: 2, large: 1_600_000, small: 20_000, requests: 160, connections: 40 };
    let mut told = 0;
    let figures = downloads::measure(&programs()?, &plan, |round| told = round)?;
    assert_eq!(told, 2);
    assert!(figures.iter().any(|own| own.case == SMALL_FLOOR));
    all_are_measured(&figures, &DOWNLOADS, 2)
}

#[test]
fn checks_give_figures() -> Result<()> {
    let plan = checks::Plan { rounds: 1, checks: 18, connections: 2 };
    let figures = checks::measure(&programs()?, &plan, |_| {})?;
    all_are_measured(&figures, &ACCEPTED, 1)
}
