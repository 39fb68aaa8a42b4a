//! VMs that trap, and how they are rebuilt.

use super::*;

#[test]
fn a_fallen_main_thread_stays_dead_until_another_configuration_comes() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 1, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    world.trap(0, TrapAt::NextCallback);
    world.pass(5 * SECOND);
    let per_second = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        world.log().len() - from
    };
    assert_eq!(per_second(&mut world), 10, "one worker ticks");
    for _ in 0..15 {
        assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 204);
    }
    assert_eq!(per_second(&mut world), 10);
    assert!(world.reload("other").unwrap());
    world.pass(15 * SECOND);
    assert_eq!(per_second(&mut world), 20, "and the main thread with it");
    assert_eq!(broken(&world), []);
}

#[test]
fn a_fallen_worker_is_rebuilt_by_its_next_request_and_by_nothing_else() {
    let mut world = Setup { code: Some(probe(TICKS)), workers: 1, ..Setup::new(1) }.start().unwrap();
    world.pass(5 * SECOND);
    world.trap(1, TrapAt::NextCallback);
    let answer = world.ask(fakes::Request::new("GET", "/"));
    assert_eq!((answer.status, answer.by), (503, By::Envoy), "its own request is lost with it");
    let ticks = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        world.log().len() - from
    };
    assert_eq!(ticks(&mut world), 10, "only the main thread ticks");
    assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 204);
    assert_eq!(ticks(&mut world), 20);
}

#[test]
fn an_endless_loop_is_a_failure() {
    let mut world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (loop $on (br $on)))"#,
        0,
    );
    world.pass(2 * SECOND);
    let violations = world.violations();
    assert!(
        violations.iter().any(|v| v.rule == "no fall" && v.text.contains("an endless loop")),
        "{violations:?}"
    );
}

#[test]
fn a_trap_that_nobody_asked_for_is_a_failure() {
    let mut world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (unreachable))"#,
        0,
    );
    world.pass(2 * SECOND);
    assert_eq!(world.violations().len(), 1);
    assert_eq!(world.violations()[0].rule, "no fall");
}

#[test]
fn a_vm_is_rebuilt_at_the_earliest_a_back_off_after_it_was_made() {
    let backoff = 10 * SECOND;
    let setup = Setup { reload_backoff: backoff, ..Setup::new(1) };
    let mut world = Setup { code: Some(probe(TICKS)), ..setup }.start().unwrap();
    world.trap(1, TrapAt::NextCallback);
    let mut ask = || {
        let status = world.ask(fakes::Request::new("GET", "/")).status;
        world.pass(SECOND - 1);
        status
    };
    let statuses: Vec<u16> = (0..16).map(|_| ask()).collect();
    let refused = statuses.iter().take_while(|status| **status == 503).count();
    // Between one and one and a half times as long.
    assert!((10..=15).contains(&refused), "{statuses:?}");
    assert!(statuses[refused..].iter().all(|status| *status == 204), "{statuses:?}");
}

#[test]
fn plugins_of_one_vm_fall_together_and_come_back_each_at_its_own_next_request() {
    let second = Plugin::new("second", "second", "{}");
    let setup = Setup { more_plugins: vec![second], reload_backoff: MILLISECOND, ..Setup::new(1) };
    let mut world = Setup { code: Some(probe(TICKS)), ..setup }.start().unwrap();
    let per_ten_seconds = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        world.log().len() - from
    };
    assert_eq!(per_ten_seconds(&mut world), 40, "two root contexts on two threads");
    world.trap(1, TrapAt::NextCallback);
    world.pass(SECOND);
    assert_eq!(per_ten_seconds(&mut world), 20);
    for (listener, ticks) in [("second", 30), (LISTENER, 40)] {
        let stream = world.send_on(listener, 1, fakes::Request::new("GET", "/"), Vec::new());
        assert_eq!(world.wait(stream).status, 204);
        world.pass(SECOND);
        let counted = per_ten_seconds(&mut world);
        assert!((ticks - 1..=ticks).contains(&counted), "{listener}: {counted}");
    }
}
