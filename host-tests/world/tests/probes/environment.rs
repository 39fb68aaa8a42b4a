//! Environment variables: which VM sees them, and when it sees a change (envoy#40881, envoy#44563).

use super::*;
use std::collections::BTreeMap;

/// Logs the number of variables at each configuration.
const COUNTS: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $environ (i32.const 700) (i32.const 704)))
    (call $say (i32.load (i32.const 700)))
    (i32.const 1))"#;

fn variables(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|n| (format!("V{n}"), String::new())).collect()
}

fn world(environment_in_key: bool) -> World {
    Setup {
        code: Some(probe(COUNTS)),
        workers: 0,
        drain: 5 * SECOND,
        environment: variables(2),
        environment_in_key,
        ..Setup::new(1)
    }
    .start()
    .unwrap()
}

#[test]
fn before_envoy_1_39_a_change_is_not_seen_while_the_vm_lives() {
    let mut world = world(false);
    assert!(world.change_environment(variables(3)).unwrap());
    world.pass(10 * SECOND);
    assert_eq!(said(&world), ["2", "2"], "it is not even configured again");
    assert!(world.reload("other").unwrap());
    world.pass(10 * SECOND);
    assert_eq!(said(&world)[2..], ["2", "2"]);
    // With the base VM the old environment goes.
    world.remove_filter();
    world.pass(10 * SECOND);
    assert!(world.add_filter().unwrap());
    world.pass(10 * SECOND);
    assert_eq!(said(&world)[4..], ["3", "3"]);
}

#[test]
fn since_envoy_1_39_a_change_makes_new_vms() {
    let mut world = world(true);
    assert!(world.change_environment(variables(3)).unwrap());
    world.pass(10 * SECOND);
    assert_eq!(said(&world), ["2", "2", "3", "3"]);
}
