//! Nobody stops the others: trouble of one check, project or entry delays only that one.

use super::*;
use crate::common::result;
use fakes::Span;
use fakes::azure::{Fault, Route};
use serde_json::json;
use std::collections::BTreeMap;

/// A run with a number of executions that end in 20 s and whose workflows have annotations of a given size.
fn heavy(world: &mut World, executions: usize, bytes: usize) -> Pipeline {
    let pipeline = world.pipeline(1);
    let now = world.wall();
    for n in 0..executions {
        // Those of one instant have no fixed order, which would be another story.
        let scheduled = now - 60_000 + i64::try_from(n).unwrap();
        let execution = pipeline.tagged(&format!("w{n}")).scheduled_at(scheduled).annotations_of(bytes);
        let execution = execution.at(now, Status::Running).at(now + 20_000, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
    }
    let ask = [("Testrelay-Expect", executions.min(200).to_string())];
    let ask = ask.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(world.deliver(&pipeline, &ask).status, 200);
    pipeline
}

/// A run of its own beside that.
fn light(world: &mut World) -> Pipeline {
    let pipeline = common::passing(world, 2);
    deliver(world, &pipeline);
    pipeline
}

/// Executions and bytes, which JSON makes 1.65 times as many: a list of 35 MB on one page, over Envoy's 32 MiB, so that the
/// module sees a connection that breaks off.
const NINE: (usize, usize) = (9, 2_400_000);
/// 100 on a page are more than is read, and all are more than 50 pages of 25.
const MANY: (usize, usize) = (1_300, 60_000);

/// Which pages were asked for: for each size of a page, how often and the last number.
fn pages(world: &World) -> BTreeMap<u32, (usize, u32)> {
    let mut pages = BTreeMap::new();
    world.testkube(|testkube| {
        for request in testkube.requests() {
            let query: BTreeMap<&str, &str> =
                request.request.query().split('&').filter_map(|pair| pair.split_once('=')).collect();
            let number = |name: &str| query.get(name).and_then(|text| text.parse::<u32>().ok());
            if let (Some(size), Some(page)) = (number("pageSize"), number("page")) {
                let (times, last) = pages.entry(size).or_insert((0, 0));
                (*times, *last) = (*times + 1, page.max(*last));
            }
        }
    });
    pages
}

#[test]
fn a_list_of_more_than_32_mib_holds_up_no_other_check() {
    let mut world = start(Setup::new(7));
    heavy(&mut world, NINE.0, NINE.1);
    let light = light(&mut world);
    let told = world.pass_until(2 * MINUTE, |world| result(world, &light).is_some());
    assert!(
        told,
        "the other check's list of 35 MB is never made smaller; pages asked for: {:?}",
        pages(&world)
    );
}

#[test]
fn a_list_of_more_than_32_mib_is_read_on_smaller_pages() {
    let mut world = start(Setup::new(7));
    let heavy = heavy(&mut world, NINE.0, NINE.1);
    let told = world.pass_until(5 * MINUTE, |world| result(world, &heavy).is_some());
    assert!(told, "35 MB on one page are 4 MB on each of nine; pages asked for: {:?}", pages(&world));
    assert_eq!(result(&world, &heavy).as_deref(), Some("succeeded"));
}

#[test]
fn a_reading_of_more_than_50_pages_holds_up_no_other_check() {
    let mut world = start(Setup::new(7));
    heavy(&mut world, MANY.0, MANY.1);
    let light = light(&mut world);
    let told = world.pass_until(2 * MINUTE, |world| result(world, &light).is_some());
    assert!(told, "the other check's reading is never complete; pages asked for: {:?}", pages(&world));
}

#[test]
fn a_check_with_more_than_50_pages_says_so_or_ends() {
    let mut world = start(Setup::new(7));
    let heavy = heavy(&mut world, MANY.0, MANY.1);
    light(&mut world);
    world.pass(5 * MINUTE);
    let log = log_of(&world, &heavy);
    // Besides the lost connection, which tells nobody what to do.
    let says = |line: &String| line.contains("##[warning]") && !line.contains("connection");
    let is_told = result(&world, &heavy).is_some() || log.iter().any(says);
    assert!(is_told, "more than 50 pages, and for 5 minutes its log says nothing of it: {log:?}");
}

/// A check whose execution passes and cannot be read by its id.
fn unreadable(world: &mut World, n: u32) -> Pipeline {
    let pipeline = world.pipeline(n);
    let execution = ends_after(world, &pipeline, 5_000, Status::Passed);
    world.testkube(|testkube| {
        let id = testkube.add(execution);
        testkube.unreadable(&id, 500);
    });
    deliver(world, &pipeline);
    pipeline
}

/// The longest time from an execution's end to its check's event, of ten checks one after the other, while those of a
/// number of others cannot be read.
fn worst_beside_unreadable(others: u32) -> i64 {
    let mut world = start(Setup::new(7));
    for n in 1..=others {
        unreadable(&mut world, n);
    }
    world.pass(2 * MINUTE);
    let mut worst = 0;
    for n in 101..111 {
        let pipeline = world.pipeline(n);
        let end = world.wall() + 5_000;
        let execution = ends_after(&world, &pipeline, 5_000, Status::Passed);
        world.testkube(|testkube| testkube.add(execution));
        deliver(&mut world, &pipeline);
        worst = worst.max(told_after(&mut world, &pipeline, end, 10 * MINUTE));
        world.pass(10 * SECOND);
    }
    worst
}

#[test]
fn an_execution_that_cannot_be_read_holds_up_no_other_check() {
    let worst = worst_beside_unreadable(1);
    // A young check is read every 2 s; a tick, the confirmation and the delivery add to that.
    assert!(worst < 6_000, "an execution answers 500: another check's is told {worst} ms after its end");
}

#[test]
fn ten_executions_that_cannot_be_read_hold_up_no_other_check() {
    let worst = worst_beside_unreadable(10);
    assert!(worst < 6_000, "10 executions answer 500: another check's is told {worst} ms after its end");
}

#[test]
fn a_check_whose_execution_cannot_be_read_says_so_in_its_log() {
    let mut world = start(Setup::new(7));
    let pipeline = unreadable(&mut world, 1);
    world.pass(5 * MINUTE);
    let log = log_of(&world, &pipeline);
    let says = |line: &String| line.contains("##[warning]") && line.contains("500");
    assert!(
        log.iter().any(says),
        "the execution answers HTTP 500 to each look, and the log is silent: {log:?}"
    );
}

/// How long after its delivery a check of another project is told, whose execution has passed already.
fn another_projects_check(world: &mut World, n: u32) -> i64 {
    let pipeline = Pipeline::new(n).in_project(OTHER_PROJECT);
    world.begin(&pipeline);
    let now = world.wall();
    let passed = pipeline.tagged("a").at(now - 60_000, Status::Running).at(now - 1_000, Status::Passed);
    world.testkube(|testkube| testkube.add(passed));
    deliver(world, &pipeline);
    told_after(world, &pipeline, now, 15 * MINUTE)
}

#[test]
fn a_429_of_one_project_silences_no_other_project() {
    let mut world = start(Setup::new(7));
    let throttled = Fault::Status { status: 429, retry_after: Some(300) };
    world.azure(|azure| azure.fault_of_project(PROJECT, Route::All, Span::UntilCleared, throttled));
    let first = common::passing(&mut world, 1);
    deliver(&mut world, &first);
    world.pass(5 * SECOND);
    let took = another_projects_check(&mut world, 2);
    assert!(took < 10_000, "the 429 was the other project's: told after {took} ms");
    assert_eq!(result(&world, &first), None);
    common::healthy(&world);
}

/// Two entries: [`OTHER_PROJECT`]'s checks come from the first, `azure-devops-slow` is the second's cluster.
fn two_entries() -> World {
    let mut world = configured(|configuration| {
        configuration["azure_devops"] = json!([
            { "url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops" },
            { "url": "https://slow.example/fabrikam", "cluster": "azure-devops-slow" }]);
    });
    // Each answer after 25 s.
    world.network("azure-devops-slow", Rule { latency: 12_500 * MILLISECOND, ..Rule::default() });
    world
}

#[test]
fn an_entry_that_answers_after_25_s_slows_no_other_entry() {
    let mut world = two_entries();
    for n in 1..=200 {
        let pipeline = Pipeline::new(n);
        waiting(&mut world, &pipeline);
        let ask = [("Testrelay-Expect", "a"), ("PlanUrl", "https://slow.example/fabrikam/")];
        assert_eq!(world.deliver(&pipeline, &ask).status, 200);
    }
    world.pass(3 * SECOND);
    let took = another_projects_check(&mut world, 1_000);
    assert!(took < 10_000, "200 checks of another entry wait for answers of 25 s: told after {took} ms");
    common::healthy(&world);
}

#[test]
fn three_thousand_checks_whose_calls_get_503_slow_no_other_project() {
    let mut world = start(Setup { configuration: configuration_for(4_000), ..Setup::new(7) });
    let away = Fault::Status { status: 503, retry_after: None };
    world.azure(|azure| azure.fault_of_project(PROJECT, Route::All, Span::UntilCleared, away));
    let mut streams = Vec::new();
    for n in 1..=3_000 {
        let pipeline = world.pipeline(n);
        world.note_delivery(&pipeline);
        streams.push(world.send(pipeline.check(&[("Testrelay-Expect", "a")])));
        world.pass(MILLISECOND / 2);
    }
    for stream in streams {
        assert_eq!(world.wait(stream).status, 200);
    }
    world.pass(2 * SECOND);
    let took = another_projects_check(&mut world, 5_000);
    assert!(took < 10_000, "3,000 checks of another project get 503: told after {took} ms");
    common::healthy(&world);
}

#[test]
fn a_third_project_has_its_turn_while_two_others_want_all_the_room() {
    // After both others in the order of their ids, whether that begins with the first byte or with the eighth.
    const THIRD: &str = "f2a94c1d-3b57-4eff-8d6a-5c0e7b9f1aff";
    let mut world = start(Setup { configuration: configuration_for(1_000), ..Setup::new(7) });
    // Each answer after 10 s, and not all at once.
    world.network("azure-devops", Rule { latency: 5 * SECOND, ..Rule::default() });
    let mut streams = Vec::new();
    for n in 1..=300 {
        let pipeline = Pipeline::new(n).in_project(if n % 2 == 0 { PROJECT } else { OTHER_PROJECT });
        waiting(&mut world, &pipeline);
        world.note_delivery(&pipeline);
        streams.push(world.send(pipeline.check(&[("Testrelay-Expect", "a")])));
        world.pass(MILLISECOND);
    }
    for stream in streams {
        assert_eq!(world.wait(stream).status, 200);
    }
    world.pass(3 * SECOND);
    let pipeline = Pipeline::new(1_000).in_project(THIRD);
    world.begin(&pipeline);
    let now = world.wall();
    let passed = pipeline.tagged("a").at(now - 60_000, Status::Running).at(now - 1_000, Status::Passed);
    world.testkube(|testkube| testkube.add(passed));
    deliver(&mut world, &pipeline);
    let took = told_after(&mut world, &pipeline, now, 60 * MINUTE);
    assert!(took < 150_000, "300 checks of two other projects wait for room: told after {took} ms");
    common::healthy(&world);
}
