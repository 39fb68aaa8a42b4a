//! The log lines and counters of a check that ends without its event, or whose process ends.

use super::*;
use crate::common::result;
use fakes::azure::{Fault, Route};
use fakes::{Request, Span};
use serde_json::json;

#[test]
fn a_check_whose_event_was_taken_for_an_earlier_delivery_is_not_counted_as_undelivered() {
    let mut world = start(Setup::new(7));
    let first = Pipeline::new(1).token_ends_at(world.wall() + 20 * 60_000);
    world.begin(&first);
    let execution = ends_after(&world, &first, 20_000, Status::Passed);
    world.testkube(|testkube| testkube.add(execution));
    // Azure DevOps sends the same check twice, with two tokens that it both accepts, and waits for one event.
    let mut second = first.clone();
    world.another_delivery(&mut second);
    deliver(&mut world, &first);
    world.azure(|azure| azure.fault(Route::Events, Span::UntilCleared, Fault::Slow { millis: 3_000 }));
    assert_eq!(common::decided_within(&mut world, &first, MINUTE), "succeeded");
    // The event was taken. Before its answer comes, the second delivery does, and then Azure DevOps is away.
    deliver(&mut world, &second);
    world.azure(|azure| {
        azure.clear_faults();
        let away = Fault::Status { status: 503, retry_after: None };
        azure.fault(Route::All, Span::UntilCleared, away);
    });
    world.pass(40 * MINUTE);
    assert!(pending(&mut world).ends_with("pending checks: 0\n"), "the token has ended");
    let counted = (world.metric("testrelay_delivered_succeeded"), world.metric("testrelay_undelivered"));
    assert_eq!(
        counted,
        (1, 0),
        "delivered and undelivered; Azure DevOps has taken `succeeded` for this check"
    );
}

#[test]
fn a_check_of_an_entry_that_the_leader_does_not_have_is_named_ended_and_counted() {
    let of_entry = |url: &str, cluster: &str| {
        changed(&configuration(0), |configuration| {
            configuration["instance"] = json!("shared");
            configuration["azure_devops"] = json!([{ "url": url, "cluster": cluster }]);
        })
    };
    let second = of_entry("https://azure.example/fabrikam", "azure-devops-2");
    let mut world = start(Setup {
        configuration: of_entry("https://dev.azure.com/fabrikam", "azure-devops"),
        more_plugins: vec![Plugin::new("second", "second", &second)],
        ..Setup::new(7)
    });
    world.network("azure-devops-2", answers());
    let pipelines = [1, 2].map(|n| common::passing(&mut world, n));
    let places =
        [(LISTENER, "https://dev.azure.com/fabrikam/"), ("second", "https://azure.example/fabrikam/")];
    let mut ids = Vec::new();
    for (pipeline, (listener, plan_url)) in pipelines.iter().zip(places) {
        world.note_delivery(pipeline);
        let check = pipeline.check(&[("Testrelay-Expect", "a"), ("PlanUrl", plan_url)]);
        let stream = world.send_on(listener, 1, check, Vec::new());
        let answer = world.wait(stream);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        ids.push(answer["id"].as_str().unwrap().to_string());
    }
    world.pass(10 * SECOND);
    let log = world.log();
    world.pass(45 * MINUTE);
    let told: Vec<bool> = pipelines.iter().map(|pipeline| result(&world, pipeline).is_some()).collect();
    assert!(told.contains(&true), "{:?}", world.log());
    for ((id, (_, url)), _) in ids.iter().zip(places).zip(&told).filter(|(_, told)| !**told) {
        let is_named = |line: &String| line.contains(id) && line.contains(url.trim_end_matches('/'));
        assert!(log.iter().any(is_named), "the log names check {id} and {url} at the first look: {log:?}");
    }
    let says = pending(&mut world);
    assert!(says.ends_with("pending checks: 0\n"), "after 45 minutes, for want of an entry: {says}");
    let counted = world.metric("testrelay_delivered_succeeded") + world.metric("testrelay_undelivered");
    assert_eq!(counted, 2, "each of them is counted, delivered or not");
}

/// Three checks in three states: one is watched, one waits for what has not appeared, one has just come.
fn three_pending(world: &mut World) -> Vec<(String, Pipeline)> {
    let mut pipelines: Vec<Pipeline> = (1..4).map(Pipeline::new).collect();
    pipelines[1] = Pipeline { tag: "pay-4002".into(), ..pipelines[1].clone().in_project(OTHER_PROJECT) };
    let mut ids = Vec::new();
    for pipeline in pipelines {
        if pipeline.n == 1 {
            waiting(world, &pipeline);
        } else {
            world.begin(&pipeline);
        }
        let answer = world.deliver(&pipeline, &[("Testrelay-Expect", "a")]);
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        ids.push((answer["id"].as_str().unwrap().to_string(), pipeline.clone()));
        world.pass(if pipeline.n == 3 { 2 * SECOND } else { 20 * SECOND });
    }
    ids
}

/// One line per check has what people need to find the stage that they must re-run.
fn are_named(world: &World, since: usize, pending: &[(String, Pipeline)]) {
    let log = world.log();
    let log = &log[since..];
    for (id, pipeline) in pending {
        let build = pipeline.build.to_string();
        let wanted = [id.as_str(), pipeline.project, &build, &pipeline.tag];
        let is_named = log.iter().any(|line| wanted.iter().all(|part| line.contains(part)));
        assert!(is_named, "no line names the lost check with id, project, build and tag {wanted:?}: {log:?}");
    }
}

#[test]
fn a_process_that_ends_names_each_pending_check() {
    let mut world = start(Setup { workers: 2, ..Setup::new(7) });
    let pending = three_pending(&mut world);
    let since = world.log().len();
    assert!(world.hot_restart(5 * SECOND).unwrap());
    world.pass(10 * SECOND);
    are_named(&world, since, &pending);
}

#[test]
fn a_filter_that_is_taken_out_names_each_pending_check() {
    let mut world = start(Setup { workers: 2, drain: 10 * SECOND, ..Setup::new(7) });
    let pending = three_pending(&mut world);
    let since = world.log().len();
    world.remove_filter();
    world.pass(30 * SECOND);
    are_named(&world, since, &pending);
}

#[test]
fn a_new_configuration_names_no_check_because_none_is_lost() {
    let mut world = start(Setup { workers: 2, drain: 10 * SECOND, ..Setup::new(7) });
    let pending = three_pending(&mut world);
    let since = world.log().len();
    assert!(world.reload(&configuration(1)).unwrap());
    world.pass(30 * SECOND);
    let log = world.log();
    for (id, _) in &pending {
        let named: Vec<&String> = log[since..].iter().filter(|line| line.contains(id)).collect();
        assert!(named.is_empty(), "{named:?}");
    }
    assert_eq!(world.ask(Request::new("GET", "/testrelay/readyz")).status, 200);
}
