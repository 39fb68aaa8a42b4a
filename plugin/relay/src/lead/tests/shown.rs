//! What the list shows of the leader's checks.

use super::world::World;
use super::{MINUTE, SECOND};
use fakes::azure::{Fault as AzureFault, Route as AzureRoute};
use fakes::testkube::{Fault, Route};
use fakes::{Span, Status};
use serde_json::Value;

#[test]
fn the_list_says_why_a_check_waits() {
    let mut world = World::new();
    let run = world.run(1);
    world.check(&run, &[("testrelay-expect", "a, b")]);
    let listed = world.listed();
    assert_eq!((listed["state"].as_str(), &listed["live"]), (Some("accepted"), &Value::Null), "{listed}");
    world.pass(MINUTE);
    let listed = world.listed();
    assert_eq!(listed["live"]["reading"]["missing"], "a, b", "{listed}");
    let explained = listed["explain"].as_str().unwrap();
    assert!(
        explained
            .starts_with(&format!("Waits for a, b. No execution tagged ado-run={} counts yet.", run.tag)),
        "{explained}"
    );
    let now = world.at(MINUTE);
    world.testkube.add(world.tagged(&run, "a").at(now, Status::Running));
    world.pass(MINUTE);
    let listed = world.listed();
    let executions = listed["live"]["reading"]["executions"].as_array().unwrap();
    assert_eq!((executions.len(), executions[0]["status"].as_str()), (1, Some("running")), "{listed}");
    assert_eq!(listed["live"]["reading"]["missing"], "b");
    assert_eq!(listed["state"], "running");
}

#[test]
fn the_list_names_the_trouble_at_both_servers() {
    let mut world = World::new();
    let run = world.run(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    world.testkube.fault(Route::All, Span::UntilCleared, Fault::Status(503));
    world.pass(MINUTE);
    let listed = world.listed();
    let trouble = &listed["live"]["testkube"];
    assert!(
        trouble["failures"].as_u64().unwrap() > 3
            && trouble["last"].as_str().unwrap().starts_with("HTTP 503"),
        "{listed}"
    );
    assert!(trouble["next_try"].is_string() && trouble["since"].is_string(), "{listed}");
    let explained = listed["explain"].as_str().unwrap();
    assert!(explained.contains("Requests to Testkube have failed since"), "{explained}");
    assert!(world.health()["testkube"]["trouble"]["failures"].as_u64().unwrap() > 3, "{}", world.health());
    world.testkube.clear_faults();
    world.pass(MINUTE);
    assert!(world.health()["testkube"]["trouble"].is_null(), "{}", world.health());
    assert!(world.listed()["live"]["testkube"].is_null(), "{}", world.listed());
    let now = world.at(3 * MINUTE);
    world.testkube.add(world.tagged(&run, "a").at(now, Status::Passed));
    let refused = AzureFault::Status { status: 503, retry_after: None };
    world.azure.fault(AzureRoute::Events, Span::UntilCleared, refused);
    world.pass(2 * MINUTE);
    let listed = world.listed();
    assert_eq!(
        (listed["state"].as_str(), listed["decision"].as_str()),
        (Some("decided"), Some("succeeded")),
        "{listed}"
    );
    let trouble = &listed["live"]["azure_devops"];
    assert!(trouble["last"].as_str().unwrap().contains("503"), "{listed}");
    assert!(
        listed["explain"].as_str().unwrap().contains("Azure DevOps has not accepted its calls since"),
        "{listed}"
    );
    let azure = |world: &mut World| world.health()["azure_devops"][0]["trouble"].clone();
    assert!(azure(&mut world)["last"].as_str().unwrap().contains("503"), "{}", world.health());
    world.azure.clear_faults();
    world.pass(2 * MINUTE);
    assert!(azure(&mut world).is_null(), "{}", world.health());
}

#[test]
fn a_decision_is_listed_with_its_executions_after_its_record_has_gone() {
    let mut world = World::new();
    let run = world.passing(1);
    world.check(&run, &[("testrelay-expect", "a")]);
    world.pass(MINUTE);
    assert_eq!(world.listed()["state"], "done");
    world.pass(30 * MINUTE);
    assert_eq!(world.records(), 0);
    let listed = world.listed();
    let facts = ["decision", "code"].map(|name| listed[name].as_str().unwrap().to_owned());
    assert_eq!(facts, ["succeeded", "all_passed"], "{listed}");
    assert_eq!(
        (listed["attempts"].as_u64(), listed["build"].as_u64()),
        (Some(1), Some(run.build())),
        "{listed}"
    );
    assert!(listed["reported_after_seconds"].as_u64().unwrap() < 60, "{listed}");
    assert_eq!(listed["live"]["reading"]["executions"][0]["status"], "passed", "{listed}");
}

#[test]
fn a_new_leader_leaves_what_was_known_until_it_has_read_something() {
    let mut world = World::new();
    let run = world.run(1);
    world.testkube.add(world.tagged(&run, "a").at(world.at(0), Status::Running));
    world.check(&run, &[("testrelay-expect", "a, b")]);
    world.pass(MINUTE);
    let before = world.listed();
    assert_eq!(before["live"]["reading"]["missing"], "b", "{before}");
    // The next leader waits before its first call, and then Testkube is away.
    world.testkube.fault(Route::All, Span::UntilCleared, Fault::Slow { millis: 3_600_000 });
    world.crash_leader();
    world.pass(40 * SECOND);
    let after = world.listed();
    assert_eq!(after["live"]["reading"], before["live"]["reading"], "{after}");
}
