//! Shared data.

use super::*;

#[test]
fn shared_data_ignores_the_cas_of_a_missing_key_and_of_zero_and_no_other() {
    let said = said_of(
        r#"(func $put (param $cas i32) (call $say (call $set (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5) (local.get $cas))))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             ;; In the canary and then on the main thread: by then the key is there.
             (call $say (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
             (call $put (i32.const -1))
             (call $put (i32.const -1))
             (drop (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
             (call $put (i32.load (i32.const 708)))
             (call $put (i32.load (i32.const 708)))
             (call $put (i32.const 0))
             ;; Emptied, it stays: with an empty value and a null pointer.
             (drop (call $set (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 0) (i32.const 0)))
             (call $say (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
             (call $say (i32.add (i32.load (i32.const 700)) (i32.load (i32.const 704))))
             (call $put (i32.const -1))
             (i32.const 1))"#,
    );
    assert_eq!(said[..9], ["1", "0", "8", "0", "8", "0", "0", "0", "8"], "canary");
    assert_eq!(said[9..], ["0", "8", "8", "0", "8", "0", "0", "0", "8"], "main thread");
}

#[test]
fn each_vm_id_has_shared_data_of_its_own_and_it_goes_with_its_own_last_vm() {
    // Logs whether the key exists, 0 or 1 (NotFound), and sets it.
    let sets = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $say (call $get (i32.const 0) (i32.const 3) (i32.const 700) (i32.const 704) (i32.const 708)))
        (drop (call $set (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 0)))
        (i32.const 1))"#;
    let mine = Plugin::new("mine", "mine", "{}");
    let theirs = Plugin { vm_id: "theirs".into(), ..Plugin::new("theirs", "theirs", "{}") };
    let setup = Setup { more_plugins: vec![mine, theirs], workers: 0, drain: SECOND, ..Setup::new(1) };
    let mut world = Setup { code: Some(probe(sets)), ..setup }.start().unwrap();
    // Three canaries, the second and the third find what was left by the first of their vm_id; then the main thread.
    assert_eq!(said(&world), ["1", "0", "1", "0", "0", "0"]);
    assert_eq!(world.shared_size().0, 2);
    world.remove_filter();
    world.pass(5 * SECOND);
    assert_eq!(world.shared_size().0, 0);
}
