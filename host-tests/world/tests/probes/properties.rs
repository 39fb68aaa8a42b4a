//! What a root context may know of itself, and counters.

use super::*;

#[test]
fn a_root_context_knows_its_names_in_its_configuration_and_no_direction() {
    let said = said_of(
        r#"(data (i32.const 300) "plugin_nameplugin_root_idplugin_vm_idxds.listener_direction")
           (func $tell (param $at i32) (param $size i32)
             (if (call $property (local.get $at) (local.get $size) (i32.const 700) (i32.const 704))
               (then (call $say (i32.const 1)))
               (else (drop (call $log (i32.const 2) (i32.load (i32.const 700)) (i32.load (i32.const 704)))))))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $tell (i32.const 300) (i32.const 11))
             (call $tell (i32.const 311) (i32.const 14))
             (call $tell (i32.const 325) (i32.const 12))
             (call $tell (i32.const 337) (i32.const 22))
             (i32.const 1))"#,
    );
    assert_eq!(said[..4], ["testrelay", "testrelay", "testrelay", "1"], "NotFound where no direction is set");
}

#[test]
fn a_counter_has_one_value_for_all_threads_and_only_rises() {
    let world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $say (call $metric (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 700)))
             (call $say (call $increment (i32.load (i32.const 700)) (i64.const 2)))
             (call $say (call $increment (i32.load (i32.const 700)) (i64.const 0)))
             (call $say (call $increment (i32.load (i32.const 700)) (i64.const -1)))
             (call $say (call $metric (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 700)))
             (i32.const 1))"#,
        1,
    );
    assert_eq!(said(&world)[..5], ["0", "0", "2", "2", "2"]);
    assert_eq!(world.metric("value"), 6, "canary, main thread, worker");
}
