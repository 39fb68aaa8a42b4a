//! Tests of the host itself: small modules log what the host told them. One file per subject.

mod base;
mod breakers;
mod calls;
mod clocks;
mod done;
mod environment;
mod listeners;
mod properties;
mod queues;
mod restart;
mod shared_data;
mod streams;
mod traps;

use world::*;

/// Host functions, and what every probe needs. A probe logs numbers: `(call $say (i32.const 7))` logs "7".
const HEAD: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_done" (func $done (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (func (export "proxy_on_memory_allocate") (param $n i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (i32.and (i32.add (local.get $n) (i32.const 7)) (i32.const -8)))))
  ;; Writes a number of at most nine digits at 900 and logs it.
  (func $say (param $n i32) (local $at i32)
    (local.set $at (i32.const 910))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $more (local.get $n)))
    (drop (call $log (i32.const 2) (local.get $at) (i32.sub (i32.const 910) (local.get $at)))))
  (data (i32.const 0) "key")
  (data (i32.const 16) "value")
  (data (i32.const 32) "testkube")
  (data (i32.const 48) "nowhere")
  (data (i32.const 64) ":status")
  ;; Three pairs: :method GET, :path /health, :authority t
  (data (i32.const 128) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\07\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/health\00:authority\00t\00")
  (func $ask (param $cluster i32) (param $size i32) (result i32)
    (call $call (local.get $cluster) (local.get $size) (i32.const 128) (i32.const 66)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 800)))
"#;

/// A probe's module.
fn probe(rest: &str) -> Code {
    let text = format!("(module {HEAD}\n{rest})");
    Code::compile(&wat::parse_str(text).unwrap()).unwrap()
}

/// A world with a probe in it and as many workers.
fn world_of(rest: &str, workers: usize) -> World {
    Setup { code: Some(probe(rest)), workers, ..Setup::new(1) }.start().unwrap()
}

/// The logged lines, without the level.
fn said(world: &World) -> Vec<String> {
    world.log().iter().map(|line| line.split_once(' ').unwrap_or_default().1.to_string()).collect()
}

/// The broken rules, except the one about leading, which a probe cannot keep.
fn broken(world: &World) -> Vec<Violation> {
    world.violations().into_iter().filter(|violation| violation.rule != "one leader").collect()
}

fn said_of(rest: &str) -> Vec<String> {
    said(&world_of(rest, 0))
}

/// Ticks each second and logs its number; 100 more at its end, 200 more when it is deleted.
const TICKS: &str = r#"
  (global $said (mut i32) (i32.const 0))
  (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32) (call $say (local.get $root)))
  (func (export "proxy_on_done") (param $root i32) (result i32) (call $say (i32.add (i32.const 100) (local.get $root))) (i32.const 1))
  (func (export "proxy_on_delete") (param $root i32) (call $say (i32.add (i32.const 200) (local.get $root))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $reply (i32.const 204) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1))"#;

fn clear(world: &World) -> usize {
    world.log().len()
}
