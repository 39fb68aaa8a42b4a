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
