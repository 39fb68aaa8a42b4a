//! Shared queues (proxy-wasm-cpp-host `src/shared_queue.cc`).

use super::*;

/// Every root context registers "key" at its first tick and logs its token. A request logs what it finds under the name,
/// enqueues "value" and is answered. A woken context logs 1000 plus its number, then status and size of each item until the
/// queue is empty.
const QUEUES: &str = r#"
  (global $ticks (mut i32) (i32.const 0))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32)
    (drop (call $tick (i32.const 0)))
    (drop (call $register (i32.const 0) (i32.const 3) (i32.const 700)))
    (call $say (i32.load (i32.const 700))))
  (func (export "proxy_on_queue_ready") (param $root i32) (param $token i32)
    (call $say (i32.add (i32.const 1000) (local.get $root)))
    (call $say (call $dequeue (local.get $token) (i32.const 720) (i32.const 724)))
    (call $say (i32.load (i32.const 724)))
    (call $say (call $dequeue (local.get $token) (i32.const 720) (i32.const 724)))
    (call $say (call $dequeue (i32.const 99) (i32.const 720) (i32.const 724))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $say (call $resolve (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 704)))
    (call $say (call $enqueue (i32.const 99) (i32.const 16) (i32.const 5)))
    (call $say (call $resolve (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 704)))
    (call $say (call $enqueue (i32.load (i32.const 704)) (i32.const 16) (i32.const 5)))
    (drop (call $reply (i32.const 204) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1))"#;

fn ask(world: &mut World, listener: &str) -> Vec<String> {
    let from = world.log().len();
    let stream = world.send_on(listener, 1, fakes::Request::new("GET", "/"), Vec::new());
    assert_eq!(world.wait(stream).status, 204);
    world.pass(100 * MILLISECOND);
    said(world)[from..].to_vec()
}

#[test]
fn the_last_registrant_is_woken_with_what_was_put_in() {
    let second = Plugin::new("second", "second", "{}");
    let setup = Setup { more_plugins: vec![second], ..Setup::new(1) };
    let mut world = Setup { code: Some(probe(QUEUES)), ..setup }.start().unwrap();
    world.pass(2 * SECOND);
    assert_eq!(said(&world), ["1"; 4], "one token for one name, for two root contexts on two threads");
    // No such name, no such queue; then the worker's second, which registered last, takes the one item: Empty is 7.
    let woken = ["1", "1", "0", "0", "1002", "0", "5", "7", "1"];
    assert_eq!(ask(&mut world, LISTENER), woken);
    assert_eq!(broken(&world), []);
}

#[test]
fn the_number_of_the_registrant_is_looked_up_in_the_vm_that_stands_there_by_then() {
    let mut world = world_of(QUEUES, 1);
    world.pass(2 * SECOND);
    world.trap(1, TrapAt::NextCallback);
    let fallen = world.send(fakes::Request::new("GET", "/"));
    assert_eq!(world.wait(fallen).status, 503);
    world.pass(SECOND);
    // The worker's VM is rebuilt by this request; its root context has the old one's number, and has not registered.
    assert!(ask(&mut world, LISTENER).contains(&"1001".to_string()));
}

#[test]
fn names_belong_to_a_vm_id_and_go_with_its_last_vm() {
    let other = Plugin { vm_id: "other".into(), ..Plugin::new("other", "other", "{}") };
    let setup = Setup { more_plugins: vec![other], drain: SECOND, ..Setup::new(1) };
    let mut world = Setup { code: Some(probe(QUEUES)), ..setup }.start().unwrap();
    world.pass(2 * SECOND);
    assert_eq!(said(&world), ["1", "2", "1", "2"]);
    assert_eq!(ask(&mut world, "other")[2..4], ["0", "0"]);
    world.remove_filter();
    world.pass(3 * SECOND);
    assert!(world.add_filter().unwrap());
    let from = world.log().len();
    world.pass(2 * SECOND);
    assert_eq!(said(&world)[from..].iter().max().unwrap(), "4", "new queues have new tokens");
}
