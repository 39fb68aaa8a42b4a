//! A hot restart: two processes side by side.

use super::*;

/// Like `TICKS`; a request sets a key and logs whether it existed: 0, or 1 (NotFound).
const RESTARTS: &str = r#"
  (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32) (call $say (i32.const 7)))
  (func (export "proxy_on_done") (param $root i32) (result i32) 
    (if (i32.eq (local.get $root) (i32.const 1)) (then (call $say (i32.const 100))))
    (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (i32.add (i32.const 50) (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708))))
    (drop (call $set (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5) (i32.const -1)))
    (drop (call $reply (i32.const 204) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1))"#;

fn asked(world: &mut World, stream: u64) -> String {
    let from = world.log().len();
    assert_eq!(world.wait(stream).status, 204);
    said(world)[from..].iter().find(|line| line.starts_with('5')).unwrap().clone()
}

#[test]
fn the_new_process_has_empty_shared_data_and_all_new_connections_and_the_old_one_works_until_its_time_is_over()
 {
    let mut world = world_of(RESTARTS, 1);
    let first = world.send(fakes::Request::new("GET", "/"));
    assert_eq!(asked(&mut world, first), "51");
    let second = world.send(fakes::Request::new("GET", "/"));
    assert_eq!(asked(&mut world, second), "50");

    assert!(world.hot_restart(20 * SECOND).unwrap());
    assert_eq!(world.shared_size(), (0, 0));
    assert_eq!(world.on_parent(|parent| parent.shared_size().0), Some(1));
    // A connection of the old process stays there.
    let old = world.send_after(first, fakes::Request::new("GET", "/")).unwrap();
    assert_eq!(asked(&mut world, old), "50");
    let new = world.send(fakes::Request::new("GET", "/"));
    assert_eq!(asked(&mut world, new), "51");

    let per_ten_seconds = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        said(world)[from..].iter().filter(|line| *line == "7").count()
    };
    assert_eq!(per_ten_seconds(&mut world), 40, "two threads in each of two processes");
    assert!(world.hot_restart(20 * SECOND).is_err(), "Envoy waits for the parent's end");
    world.pass(11 * SECOND);
    assert_eq!(said(&world).iter().filter(|line| *line == "100").count(), 2, "on_done on both old threads");
    assert_eq!(per_ten_seconds(&mut world), 20);
    assert_eq!(world.on_parent(|_| ()), None);
    let gone = world.send_after(first, fakes::Request::new("GET", "/")).unwrap();
    assert_eq!((world.wait(gone).status, broken(&world)), (0, vec![]));
}

#[test]
fn a_new_process_that_refuses_its_configuration_leaves_the_old_one_alone() {
    let takes_ticks_only = r#"
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 600)))
        (i64.lt_u (i64.div_u (i64.load (i32.const 600)) (i64.const 1000000000)) (i64.const 1005)))"#;
    let mut world = world_of(takes_ticks_only, 1);
    world.pass(10 * SECOND);
    assert!(!world.hot_restart(20 * SECOND).unwrap());
    assert_eq!(world.on_parent(|_| ()), None);
    world.pass(SECOND);
    assert!(world.hot_restart(20 * SECOND).is_ok_and(|taken| !taken));
}
