//! Clocks.

use super::*;

#[test]
fn a_wall_clock_that_jumps_leaves_the_monotonic_one_alone() {
    let mut world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func $seconds (param $clock i32) (result i32)
             (drop (call $clock (local.get $clock) (i64.const 1) (i32.const 600)))
             (i32.wrap_i64 (i64.rem_u (i64.div_u (i64.load (i32.const 600)) (i64.const 1000000000)) (i64.const 100000))))
           (func (export "proxy_on_tick") (param i32)
             (call $say (call $seconds (i32.const 0))) (call $say (call $seconds (i32.const 1))))"#,
        0,
    );
    world.pass(1_500 * MILLISECOND);
    world.set_clock(-3_600_000);
    world.pass(SECOND);
    let said: Vec<i64> = said(&world).iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!((said[2] - said[0], said[3] - said[1]), (1 - 3_600, 1));
}

#[test]
fn the_timer_is_armed_again_after_the_callback_so_its_period_drifts_by_what_that_took() {
    let code = probe(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func $milliseconds (result i32)
             (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 600)))
             (i32.wrap_i64 (i64.div_u (i64.load (i32.const 600)) (i64.const 1000000))))
           (func (export "proxy_on_tick") (param i32)
             (call $say (call $milliseconds))
             ;; The thread stalls in here.
             (drop (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
             (call $say (call $milliseconds)))"#,
    );
    let interleaving = Interleaving { short: 0, long: 1 };
    let mut world = Setup { code: Some(code), workers: 0, interleaving, ..Setup::new(1) }.start().unwrap();
    world.pass(5 * MINUTE);
    let said: Vec<u64> = said(&world).iter().map(|line| line.parse().unwrap()).collect();
    assert!(said.len() >= 8, "{said:?}");
    for pair in said.windows(3).step_by(2) {
        assert!(pair[1] >= pair[0] + 1_000, "a stall of at least a second: {pair:?}");
        assert_eq!(pair[2], pair[1] + 1_000, "and a whole period after it");
    }
}

#[test]
fn a_replica_has_clocks_of_its_own_and_a_restarted_container_those_of_before() {
    let mut world = world_of(
        r#"(func $say_clock (param $clock i32)
             (drop (call $clock (local.get $clock) (i64.const 1) (i32.const 600)))
             (call $say (i32.wrap_i64 (i64.rem_u (i64.div_u (i64.load (i32.const 600)) (i64.const 1000000000)) (i64.const 1000000)))))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say_clock (i32.const 0)) (call $say_clock (i32.const 1)) (i32.const 1))"#,
        0,
    );
    let clocks = |world: &World| -> Vec<i64> {
        let said = said(world);
        said[said.len() - 2..].iter().map(|line| line.parse().unwrap()).collect()
    };
    let first = clocks(&world);
    let replica = world.start_replica("relay-1").unwrap();
    let second = clocks(&world);
    assert!((1..=301).contains(&(first[0] - second[0]).abs()), "{first:?} {second:?}");
    assert_ne!(first[1], second[1]);
    world.restart(replica).unwrap();
    let third = clocks(&world);
    assert!((0..=1).contains(&(third[0] - second[0])) && (0..=1).contains(&(third[1] - second[1])));
}
