//! Boot, reloads, drains, upgrades.

use super::*;

#[test]
fn boot_runs_the_canary_then_the_main_thread_then_the_workers() {
    let world = world_of(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $say (i32.const 1)) (i32.const 1))
           (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say (i32.const 2)) (i32.const 1))
           (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 9)) (i32.const 1))"#,
        2,
    );
    assert_eq!(said(&world), ["1", "2", "1", "2", "1", "2", "1", "2"]);
}

#[test]
fn an_import_that_this_host_does_not_have_is_an_error() {
    let text = r#"(module (import "wasi_snapshot_preview1" "path_open" (func)))"#;
    let Err(error) = Code::compile(&wat::parse_str(text).unwrap()) else { panic!("it was taken") };
    assert!(error.to_string().contains("path_open"), "{error}");
}

#[test]
fn a_configuration_that_the_canary_refuses_is_refused() {
    let refuses = probe(r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#);
    assert!(Setup { code: Some(refuses), ..Setup::new(1) }.start().is_err());
}

#[test]
fn both_contexts_of_a_reload_tick_until_the_drain_ends_and_the_old_one_is_done() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    world.pass(2_500 * MILLISECOND);
    assert_eq!(said(&world), ["1", "1"]);
    assert!(world.reload("other").unwrap());
    world.pass(9 * SECOND);
    let (old, new) = (said(&world), said(&world).iter().filter(|line| *line == "2").count());
    assert!(old.iter().filter(|line| *line == "1").count() >= 10 && new >= 8, "{old:?}");
    world.pass(2 * SECOND);
    let from = clear(&world);
    assert!(said(&world).contains(&"101".into()) && said(&world).contains(&"201".into()));
    world.pass(3 * SECOND);
    assert!(said(&world)[from..].iter().all(|line| line == "2"));
}

#[test]
fn a_configuration_restored_within_its_drain_keeps_its_contexts() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    assert!(world.reload("other").unwrap());
    world.pass(5 * SECOND);
    assert!(world.reload(&configuration(0)).unwrap());
    world.pass(20 * SECOND);
    let said = said(&world);
    assert!(said.contains(&"102".into()) && !said.contains(&"101".into()) && !said.contains(&"3".into()));
    assert_eq!(said.last().unwrap(), "1");
}

#[test]
fn a_vm_of_new_code_stands_beside_the_old_one_and_shared_data_goes_with_the_last() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    assert!(world.upgrade(1).unwrap());
    world.pass(5_500 * MILLISECOND);
    assert_eq!(world.log().len(), 10, "both tick");
    world.pass(10 * SECOND);
    assert_eq!(said(&world).iter().filter(|line| *line == "101").count(), 1);
    world.remove_filter();
    world.pass(20 * SECOND);
    assert_eq!(world.shared_size(), (0, 0));
    let silent = world.log().len();
    world.pass(20 * SECOND);
    assert_eq!(world.log().len(), silent);
}
