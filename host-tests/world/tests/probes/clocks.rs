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
