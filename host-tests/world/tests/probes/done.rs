//! `on_done`, `proxy_done` and `on_delete` (proxy-wasm-cpp-host `startShutdown` and `done`).

use super::*;

/// Postpones its end for three more ticks. Logs its number at each tick, 100 more at `on_done`, 200 more when it is
/// deleted, and 300 plus the status of `proxy_done`.
const PUTS_OFF: &str = r#"
  (global $left (mut i32) (i32.const -1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_done") (param $root i32) (result i32)
    (call $say (i32.add (i32.const 100) (local.get $root)))
    (global.set $left (i32.const 3))
    (i32.const 0))
  (func (export "proxy_on_delete") (param $root i32) (call $say (i32.add (i32.const 200) (local.get $root))))
  (func (export "proxy_on_tick") (param $root i32)
    (call $say (local.get $root))
    ;; Only the first root context was ever done.
    (if (i32.and (i32.eq (local.get $root) (i32.const 1)) (i32.gt_s (global.get $left) (i32.const 0))) (then
      (global.set $left (i32.sub (global.get $left) (i32.const 1)))
      (if (i32.eqz (global.get $left)) (then (call $say (i32.add (i32.const 300) (call $done)))))))
    (if (i32.eq (local.get $root) (i32.const 2)) (then (call $say (i32.add (i32.const 300) (call $done))))))"#;

fn world() -> World {
    Setup { code: Some(probe(PUTS_OFF)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap()
}

#[test]
fn a_context_that_puts_its_end_off_ticks_until_it_says_that_it_is_done() {
    let mut world = world();
    world.pass(500 * MILLISECOND);
    assert!(world.reload("other").unwrap());
    world.pass(30 * SECOND);
    let said = said(&world);
    let at = |line: &str| said.iter().position(|said| said == line);
    let (done, finished, deleted) = (at("101").unwrap(), at("300").unwrap(), at("201").unwrap());
    let ticks = said[done..].iter().filter(|line| *line == "1").count();
    assert_eq!((ticks, finished < deleted), (3, true), "{said:?}");
    assert!(!said[deleted..].contains(&"1".to_string()), "a deleted context ticks no more");
    // A context that was not asked to end has nothing to finish: NotFound.
    assert!(said.contains(&"301".to_string()));
    assert_eq!(broken(&world), []);
}

#[test]
fn it_does_not_help_where_the_vm_goes() {
    let mut world = world();
    world.pass(500 * MILLISECOND);
    world.remove_filter();
    world.pass(30 * SECOND);
    let said = said(&world);
    assert_eq!(said.last().unwrap(), "101", "no tick, no on_delete: {said:?}");
}
