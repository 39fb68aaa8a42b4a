//! One preflight of a process, by whoever leads.

use super::*;

/// Calls of preflights so far: to Testkube, and to Azure DevOps.
fn made(world: &World) -> (usize, usize) {
    (world.testkube.preflights().len(), world.azure.preflights().len())
}

#[test]
fn a_process_looks_at_everything_once_after_it_has_started() {
    let mut world = World::new();
    world.pass(5 * SECOND);
    assert_eq!(made(&world), (0, 0), "its network may not be there yet");
    world.pass(10 * SECOND);
    assert_eq!(made(&world), (2, 1));
    let result = world.preflight();
    assert_eq!(result["result"], "ok", "{result}");
    assert_eq!(result["checks"].as_array().map(Vec::len), Some(4), "{result}");
    world.pass(HOUR);
    assert_eq!(made(&world), (2, 1));
}

#[test]
fn neither_a_new_configuration_nor_another_leader_looks_again() {
    let mut world = World::new();
    world.contexts(3);
    world.pass(20 * SECOND);
    for _ in 0..3 {
        world.crash_leader();
        world.pass(2 * MINUTE);
    }
    assert_eq!(made(&world), (2, 1));
}

#[test]
fn a_leader_that_falls_while_it_looks_is_followed_by_one_that_looks_again_but_not_for_ever() {
    let mut world = World::new();
    world.contexts(2);
    world.azure.fault(AzureRoute::All, Span::UntilCleared, AzureFault::Slow { millis: 4_000 });
    let mut looks = 0;
    for _ in 0..30 {
        world.pass(SECOND);
        if world.azure.preflights().len() > looks {
            looks += 1;
            world.crash_leader();
        }
        if looks == 1 {
            break;
        }
    }
    assert_eq!(looks, 1);
    for _ in 0..600 {
        world.pass(SECOND);
        if world.azure.preflights().len() > looks {
            looks += 1;
            world.crash_leader();
        }
    }
    assert_eq!(looks, 3, "an answer that fells its reader fells three of them");
}

#[test]
fn a_leader_that_fell_once_leaves_the_look_to_the_next_one() {
    let mut world = World::new();
    world.contexts(2);
    world.azure.fault(AzureRoute::All, Span::UntilCleared, AzureFault::Slow { millis: 4_000 });
    while world.azure.preflights().is_empty() {
        world.pass(SECOND);
    }
    world.crash_leader();
    world.azure.clear_faults();
    world.pass(2 * MINUTE);
    assert_eq!(made(&world), (4, 2));
    assert_eq!(world.preflight()["result"], "ok");
}

#[test]
fn what_is_wrong_at_the_start_is_found() {
    let mut world = World::new();
    world.testkube.set_clock_ahead(-10 * MINUTE);
    world.azure.fault(AzureRoute::All, Span::UntilCleared, AzureFault::ResetBefore);
    world.pass(30 * SECOND);
    let result = world.preflight();
    assert_eq!(result["result"], "failed", "{result}");
    let of = |name: &str| {
        let all = result["checks"].as_array().unwrap();
        all.iter().find(|found| found["name"] == name).unwrap()["result"].clone()
    };
    assert_eq!(
        (of("testkube"), of("clock"), of("azure_devops[0]")),
        ("ok".into(), "warning".into(), "failed".into())
    );
}
