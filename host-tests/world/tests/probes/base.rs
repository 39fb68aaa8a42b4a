//! The base VM: its canary's answer is kept, and a failure on a thread refuses the configuration for good
//! (proxy-wasm-cpp-host `WasmHandleBase::canary`, envoy#43751).

use super::*;

/// Says 5 at each configuration; refuses the empty one, which has no bytes.
const CHOOSES: &str = r#"
  (func (export "proxy_on_configure") (param i32) (param $size i32) (result i32)
    (call $say (i32.const 5))
    (i32.ne (local.get $size) (i32.const 0)))"#;

fn world() -> World {
    Setup { code: Some(probe(CHOOSES)), workers: 0, drain: 5 * SECOND, ..Setup::new(1) }.start().unwrap()
}

/// How often the module was configured meanwhile.
fn configured(world: &mut World, then: impl FnOnce(&mut World)) -> usize {
    let from = world.log().len();
    then(world);
    world.pass(10 * SECOND);
    world.log().len() - from
}

#[test]
fn a_canary_runs_once_for_a_configuration_whatever_it_says() {
    let mut world = world();
    assert_eq!(configured(&mut world, |world| assert!(!world.reload("").unwrap())), 1);
    assert_eq!(configured(&mut world, |world| assert!(!world.reload("").unwrap())), 0, "refused unasked");
    assert_eq!(configured(&mut world, |world| assert!(world.reload("b").unwrap())), 2, "canary, main thread");
    // Back to the first one, whose contexts are gone by now: the canary's answer still counts.
    assert_eq!(configured(&mut world, |world| assert!(world.reload(&configuration(0)).unwrap())), 1);
    // With the base VM it is forgotten.
    world.remove_filter();
    world.pass(10 * SECOND);
    assert_eq!(configured(&mut world, |world| assert!(world.add_filter().unwrap())), 2);
}

#[test]
fn new_code_has_a_base_of_its_own() {
    let mut world = world();
    assert_eq!(configured(&mut world, |world| assert!(world.upgrade(1).unwrap())), 2);
}

#[test]
fn a_configuration_that_fails_on_a_thread_only_is_the_end_of_all_later_ones_while_the_base_lives() {
    // The third to ask, the worker after the canary and the main thread, finds the key emptied and refuses.
    let counts = probe(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
             (if (i32.eq (i32.load (i32.const 704)) (i32.const 2)) (then (return (i32.const 0))))
             (drop (call $set (i32.const 0) (i32.const 3) (i32.const 16)
               (i32.add (i32.load (i32.const 704)) (i32.const 1)) (i32.const 0)))
             (i32.const 1))"#,
    );
    let mut world = Setup { code: Some(counts), drain: 5 * SECOND, ..Setup::new(1) }.start().unwrap();
    let broken = broken(&world);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].text.contains("that the canary took"), "{broken:?}");
    assert!(!world.reload("other").unwrap());
    assert!(!world.reload(&configuration(0)).unwrap(), "nor the one that is there");
    world.remove_filter();
    world.pass(10 * SECOND);
    assert!(world.add_filter().unwrap());
}

#[test]
fn at_a_reload_a_worker_may_be_configured_before_the_main_thread_and_at_boot_never() {
    let firsts = |reload: bool| -> Vec<bool> {
        let first = |seed| {
            let setup = Setup { code: Some(probe(CHOOSES)), trace: true, ..Setup::new(seed) };
            let mut world = setup.start().unwrap();
            if reload {
                assert!(world.reload("other").unwrap());
                world.pass(SECOND);
            }
            // The last three lines of the log, or the only ones: canary, then the two threads.
            let trace = world.trace();
            let lines: Vec<&str> = trace.lines().filter(|line| line.contains("log 2 thread")).collect();
            lines[lines.len() - 2].contains("thread 1")
        };
        (0..16).map(first).collect()
    };
    let (boot, reload) = (firsts(false), firsts(true));
    assert!(!boot.contains(&true));
    assert!(reload.contains(&true) && reload.contains(&false), "{reload:?}");
}
