//! The host itself, held to the rules that it claims, by small modules that say in the log what they were told.

use world::*;

/// Host functions, and a few things that every probe wants. A probe says numbers: `(call $say (i32.const 7))` logs "7".
const HEAD: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
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

/// What was said, without the level.
fn said(world: &World) -> Vec<String> {
    world.log().iter().map(|line| line.split_once(' ').unwrap_or_default().1.to_string()).collect()
}

/// What was broken, apart from leading, of which a probe knows nothing.
fn broken(world: &World) -> Vec<Violation> {
    world.violations().into_iter().filter(|violation| violation.rule != "4").collect()
}

fn said_of(rest: &str) -> Vec<String> {
    said(&world_of(rest, 0))
}

#[test]
fn boot_runs_the_canary_then_the_main_thread_then_the_workers() {
    let world = world_of(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $say (i32.const 1)) (i32.const 1))
           (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say (i32.const 2)) (i32.const 1))
           (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 9)) (i32.const 1))"#,
        2,
    );
    assert_eq!(said(&world), ["1", "2", "1", "2", "1", "2", "1", "2"]);
}

#[test]
fn an_import_that_this_host_does_not_have_is_an_error() {
    let text = r#"(module (import "wasi_snapshot_preview1" "path_open" (func)))"#;
    let Err(error) = Code::compile(&wat::parse_str(text).unwrap()) else { panic!("it was taken") };
    assert!(error.to_string().contains("path_open"), "{error}");
}

#[test]
fn a_configuration_that_the_canary_refuses_is_refused() {
    let refuses = probe(r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#);
    assert!(Setup { code: Some(refuses), ..Setup::new(1) }.start().is_err());
}

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

const ASKS: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $tick (i32.const 0)))
    (call $say (call $ask (i32.const 48) (i32.const 7)))
    (call $say (call $ask (i32.const 32) (i32.const 8))))
  (func (export "proxy_on_http_call_response") (param $root i32) (param $token i32) (param $headers i32) (param $body i32) (param i32)
    (call $say (i32.const 100))
    (call $say (local.get $headers))
    (call $say (local.get $body))
    (call $say (call $header (i32.const 6) (i32.const 64) (i32.const 7) (i32.const 700) (i32.const 704)))
    (if (i32.eq (i32.load (i32.const 704)) (i32.const 3))
      (then (drop (call $log (i32.const 2) (i32.load (i32.const 700)) (i32.const 3))))))"#;

/// What the probe is told of a call to Testkube's `/health`, after the unknown cluster's BadArgument.
fn told(way: Option<Way>) -> Vec<String> {
    let mut world = world_of(ASKS, 0);
    if let Some(way) = way {
        world.network("testkube", Rule { fails: 1, ways: vec![way], ..Rule::default() });
    }
    world.pass(10 * SECOND);
    let said = said(&world);
    assert_eq!(said[0], "2", "an unknown cluster is BadArgument");
    said[1..].to_vec()
}

#[test]
fn a_call_has_five_kinds_of_outcome() {
    let answer = told(None);
    assert_eq!(answer[..2], ["0", "100"]);
    assert_eq!(answer[4..], ["0", "200"]);
    assert_eq!(told(Some(Way::Refused)), ["10"], "InternalFailure, and no callback");
    let broken = ["0", "100", "0", "0", "2"];
    assert_eq!(told(Some(Way::ResetInAnswer)), broken, "no headers, and no map to ask for one");
    for way in [Way::NoConnection, Way::ResetBeforeAnswer] {
        assert_eq!(told(Some(way))[4..], ["0", "503"], "{way:?}");
    }
    for way in [Way::LostRequest, Way::LostAnswer] {
        assert_eq!(told(Some(way))[4..], ["0", "504"], "{way:?}");
    }
    // Envoy's own answers have no x-envoy-upstream-service-time: one header less.
    assert_eq!(told(Some(Way::NoConnection))[2], "2");
    assert_eq!(answer[2], "3");
}

#[test]
fn a_timeout_comes_at_its_time() {
    let mut world = world_of(ASKS, 0);
    world.network("testkube", Rule { fails: 1, ways: vec![Way::LostAnswer], ..Rule::default() });
    world.pass(2 * SECOND + 900 * MILLISECOND);
    assert_eq!(said(&world).len(), 2);
    world.pass(200 * MILLISECOND);
    assert!(said(&world).len() > 2);
}

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

#[test]
fn both_contexts_of_a_reload_tick_until_the_drain_ends_and_the_old_one_is_done() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    world.pass(2_500 * MILLISECOND);
    assert_eq!(said(&world), ["1", "1"]);
    assert!(world.reload("other").unwrap());
    world.pass(9 * SECOND);
    let (old, new) = (said(&world), said(&world).iter().filter(|line| *line == "2").count());
    assert!(old.iter().filter(|line| *line == "1").count() >= 10 && new >= 8, "{old:?}");
    world.pass(2 * SECOND);
    let from = clear(&world);
    assert!(said(&world).contains(&"101".into()) && said(&world).contains(&"201".into()));
    world.pass(3 * SECOND);
    assert!(said(&world)[from..].iter().all(|line| line == "2"));
}

#[test]
fn a_configuration_restored_within_its_drain_keeps_its_contexts() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    assert!(world.reload("other").unwrap());
    world.pass(5 * SECOND);
    assert!(world.reload(&configuration(0)).unwrap());
    world.pass(20 * SECOND);
    let said = said(&world);
    assert!(said.contains(&"102".into()) && !said.contains(&"101".into()) && !said.contains(&"3".into()));
    assert_eq!(said.last().unwrap(), "1");
}

#[test]
fn a_fallen_main_thread_stays_dead_until_another_configuration_comes() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 1, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    world.trap(0, TrapAt::NextCallback);
    world.pass(5 * SECOND);
    let per_second = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        world.log().len() - from
    };
    assert_eq!(per_second(&mut world), 10, "one worker ticks");
    for _ in 0..15 {
        assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 204);
    }
    assert_eq!(per_second(&mut world), 10);
    assert!(world.reload("other").unwrap());
    world.pass(15 * SECOND);
    assert_eq!(per_second(&mut world), 20, "and the main thread with it");
    assert_eq!(broken(&world), []);
}

#[test]
fn a_fallen_worker_is_rebuilt_by_its_next_request_and_by_nothing_else() {
    let mut world = Setup { code: Some(probe(TICKS)), workers: 1, ..Setup::new(1) }.start().unwrap();
    world.pass(5 * SECOND);
    world.trap(1, TrapAt::NextCallback);
    let answer = world.ask(fakes::Request::new("GET", "/"));
    assert_eq!((answer.status, answer.by), (503, By::Envoy), "its own request is lost with it");
    let ticks = |world: &mut World| {
        let from = world.log().len();
        world.pass(10 * SECOND);
        world.log().len() - from
    };
    assert_eq!(ticks(&mut world), 10, "only the main thread ticks");
    assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 204);
    assert_eq!(ticks(&mut world), 20);
}

const PAUSES: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 60000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_body") (param $c i32) (param $size i32) (param $end i32) (result i32)
    (call $say (local.get $size))
    (if (local.get $end) (then
      (drop (call $reply (i32.const 202) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))))
    (i32.const 1))"#;

fn post(pieces: &[usize]) -> (fakes::Request, Vec<(u64, Vec<u8>)>) {
    let chunks = pieces.iter().map(|size| (SECOND, vec![b'x'; *size])).collect();
    (fakes::Request::new("POST", "/"), chunks)
}

fn paused(allow: bool) -> World {
    Setup { code: Some(probe(PAUSES)), allow_on_headers_stop_iteration: allow, ..Setup::new(1) }
        .start()
        .unwrap()
}

#[test]
fn body_callbacks_run_while_paused_at_headers_only_where_it_is_allowed_and_see_all_so_far() {
    let mut world = paused(true);
    let (request, chunks) = post(&[10, 20, 30]);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    assert_eq!(world.wait(stream).status, 202);
    assert_eq!(said(&world), ["10", "30", "60"]);

    let mut world = paused(false);
    let (request, chunks) = post(&[10, 20, 30]);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    let began = world.now();
    assert_eq!(world.wait(stream).by, By::Envoy);
    assert_eq!((world.now() - began) / SECOND, 30, "the idle timeout");
    assert!(said(&world).is_empty());
}

#[test]
fn a_body_over_the_buffer_is_envoys_413() {
    let mut world = paused(true);
    let (request, chunks) = post(&[900_000, 900_000]);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    let answer = world.wait(stream);
    assert_eq!((answer.status, answer.by), (413, By::Envoy));
}

#[test]
fn a_paused_request_of_a_fallen_vm_stays_silent_until_the_idle_timeout() {
    let mut world = paused(true);
    let (request, chunks) = post(&[10, 20]);
    let waiting = world.send_in_pieces(LISTENER, request, chunks.clone());
    world.pass(100 * MILLISECOND);
    // Another request on that worker falls, and takes the VM with it.
    world.trap(1, TrapAt::NextCallback);
    let (request, _) = post(&[]);
    let fallen = world.send(request);
    assert_eq!(world.wait(fallen).status, 503);
    world.pass(25 * SECOND);
    assert_eq!(world.answer(waiting), None);
    assert_eq!(world.wait(waiting).status, 503);
    assert_eq!(world.now() / SECOND, 1_030);
    assert_eq!(broken(&world), []);
}

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
fn an_endless_loop_is_a_failure() {
    let mut world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (loop $on (br $on)))"#,
        0,
    );
    world.pass(2 * SECOND);
    let violations = world.violations();
    assert!(violations.iter().any(|v| v.rule == "7" && v.text.contains("an endless loop")), "{violations:?}");
}

#[test]
fn a_trap_that_nobody_asked_for_is_a_failure() {
    let mut world = world_of(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (unreachable))"#,
        0,
    );
    world.pass(2 * SECOND);
    assert_eq!(world.violations().len(), 1);
    assert_eq!(world.violations()[0].rule, "7");
}

#[test]
fn a_vm_of_new_code_stands_beside_the_old_one_and_shared_data_goes_with_the_last() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 0, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    assert!(world.upgrade(1).unwrap());
    world.pass(5_500 * MILLISECOND);
    assert_eq!(world.log().len(), 10, "both tick");
    world.pass(10 * SECOND);
    assert_eq!(said(&world).iter().filter(|line| *line == "101").count(), 1);
    world.remove_filter();
    world.pass(20 * SECOND);
    assert_eq!(world.shared_size(), (0, 0));
    let silent = world.log().len();
    world.pass(20 * SECOND);
    assert_eq!(world.log().len(), silent);
}
