//! How many checks that end at once three replicas decide in a second, compared with one, in virtual time: the work that
//! they share is calls that take 50 ms there and back. `cargo run --release -p testrelay-world --bin sharing [CHECKS]`.

use anyhow::{Context, Result, ensure};
use fakes::Status;
use std::process::ExitCode;
use world::*;

/// The ratio to reach.
const AT_LEAST: f64 = 2.2;

/// One way, in microseconds.
const LATENCY: u64 = 25 * MILLISECOND;

fn main() -> Result<ExitCode> {
    let checks =
        std::env::args().nth(1).map_or(Ok(9_000), |text| text.parse()).context("how many checks?")?;
    let (one, three) = (decided_in_a_second(1, checks)?, decided_in_a_second(3, checks)?);
    let ratio = three / one;
    println!(
        "{checks} checks that end at once: 1 replica decides {one:.0} a second, 3 decide {three:.0}: {ratio:.2} times"
    );
    Ok(if ratio >= AT_LEAST { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn decided_in_a_second(replicas: u32, checks: u32) -> Result<f64> {
    let setup = Setup { configuration: configuration_for(checks + 100), ..Setup::new(7) };
    let mut world = setup.with_cluster_store().start()?;
    for n in 1..replicas {
        world.start_replica(&format!("relay-{n}"))?;
    }
    for cluster in ["testkube", "azure-devops", "kubernetes"] {
        world.network(cluster, Rule { latency: LATENCY, jitter: 2 * MILLISECOND, ..Rule::default() });
    }
    world.pass(5 * SECOND);
    let began = world.wall();
    // Each acceptance takes some 55 ms, one after the other.
    let ends = began + i64::from(checks) * 60 + 120_000;
    let mut pipelines = Vec::new();
    for n in 0..checks {
        let pipeline = world.pipeline(n + 1);
        let execution = pipeline.tagged("a").at(began, Status::Running).at(ends, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
        let answer = world.on(n % replicas, |world| world.deliver(&pipeline, &[("Testrelay-Expect", "a")]));
        ensure!(answer.status == 200, "a check was answered {}: {}", answer.status, answer.text());
        pipelines.push(pipeline);
    }
    ensure!(world.wall() < ends, "the checks came too slowly");
    world.pass(u64::try_from(ends - world.wall())? * 1_000);
    let decided = |world: &World, pipeline: &Pipeline| {
        let events = world.azure(|azure| azure.events(&pipeline.spec().plan));
        events.iter().find(|event| event.accepted).map(|event| event.at)
    };
    world.pass_until(10 * MINUTE, |world| pipelines.iter().all(|one| decided(world, one).is_some()));
    let last = pipelines
        .iter()
        .map(|one| decided(&world, one).context("not decided"))
        .collect::<Result<Vec<_>>>()?;
    let last = last.into_iter().max().context("no check")?;
    Ok(f64::from(checks) / ((last - ends) as f64 / 1_000.0))
}
