//! How many calls a day of checks costs Testkube and Azure DevOps: the figures of `envoy/operations.md`.

mod common;

use common::*;
use fakes::Status;
use world::*;

const HOUR: u64 = 60 * MINUTE;

/// The time from one check to the next, at 1,000 checks a day.
const BETWEEN: u64 = 24 * HOUR / 1_000;
const WORKFLOWS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A check whose five executions begin at once, have seven steps each, and pass after half an hour.
fn begin(world: &mut World, n: u32) -> Pipeline {
    let pipeline = world.pipeline(n);
    let from = world.wall();
    for (n, workflow) in (0..).zip(WORKFLOWS) {
        let mut execution = pipeline.tagged(workflow).at(from + n * 1_000, Status::Running);
        for step in 1..=7 {
            execution = execution.step(&format!("Step {step}"), from + step * 240_000 + n * 20_000);
        }
        let execution = execution.at(from + 1_700_000 + n * 20_000, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
    }
    let expect = WORKFLOWS.join(", ");
    assert_eq!(world.deliver(&pipeline, &[("Testrelay-Expect", &expect)]).status, 200);
    pipeline
}

/// Lists, reads by id, and calls to Azure DevOps until now.
fn calls(world: &World) -> [usize; 3] {
    let is_list = |path: &str| path.ends_with("/test-workflow-executions");
    let testkube: Vec<bool> =
        world.testkube(|t| t.requests().iter().map(|r| is_list(r.request.path())).collect());
    let lists = testkube.iter().filter(|is_list| **is_list).count();
    [lists, testkube.len() - lists, world.azure(|azure| azure.requests().len())]
}

/// Begins checks for a time.
fn play(world: &mut World, numbers: &mut std::ops::RangeFrom<u32>, span: u64) -> Vec<Pipeline> {
    let begin_next = |n| {
        let pipeline = begin(world, n);
        world.pass(BETWEEN);
        pipeline
    };
    numbers.take(usize::try_from(span / BETWEEN).unwrap()).map(begin_next).collect()
}

/// The figures of the page's table of calls a day, in its order.
fn told() -> Vec<f64> {
    let page = include_str!("../../../envoy/operations.md");
    let (_, table) = page.split_once("| calls a day |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    rows.map(|row| row.split('|').nth(2).unwrap().trim().replace(',', "").parse().unwrap()).collect()
}

#[test]
fn a_thousand_checks_a_day_cost_as_many_calls_as_the_page_says() {
    let mut world = world(2);
    let mut numbers = 1..;
    // From then on as many checks end as begin.
    let first = play(&mut world, &mut numbers, 35 * MINUTE);
    let (before, began) = (calls(&world), world.now());
    play(&mut world, &mut numbers, HOUR);
    let days = (world.now() - began) as f64 / (24 * HOUR) as f64;
    let after = calls(&world);
    for pipeline in &first {
        assert_eq!(result(&world, pipeline).as_deref(), Some("succeeded"));
    }
    let told = told();
    assert_eq!(told.len(), after.len());
    for ((before, after), told) in before.iter().zip(after).zip(told) {
        let a_day = (after - before) as f64 / days;
        assert!((a_day / told - 1.0).abs() < 0.1, "{a_day:.0} a day, and the page says {told}");
    }
    healthy(&world);
}
