//! Calls to clusters.

use super::*;

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
    // Envoy's own answers have status, type and length, and no x-envoy-upstream-service-time; these servers send a date and no
    // length.
    assert_eq!(told(Some(Way::NoConnection))[2], "3");
    assert_eq!(answer[2], "4");
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

#[test]
fn why_a_call_broke_can_be_asked_inside_its_callback() {
    let asks_why = ASKS.replace(
        "(call $say (i32.const 100))",
        "(drop (call $status (i32.const 712) (i32.const 716) (i32.const 720)))
         (call $say (i32.load (i32.const 712)))
         (drop (call $log (i32.const 2) (i32.load (i32.const 716)) (i32.load (i32.const 720))))",
    );
    let mut world = world_of(&asks_why, 0);
    world.network("testkube", Rule { fails: 1, ways: vec![Way::ResetInAnswer], ..Rule::default() });
    world.pass(2 * SECOND);
    assert_eq!(said(&world)[2..4], ["11", "reset"], "BrokenConnection");
}

#[test]
fn an_answer_finds_nobody_where_its_vm_has_fallen_or_its_root_context_is_gone() {
    let slow = |world: &mut World| {
        world.network("testkube", Rule { latency: 2 * SECOND, jitter: 0, ..Rule::default() });
    };
    let counts = |world: &World| said(world).iter().filter(|line| *line == "100").count();
    let mut world = world_of(ASKS, 1);
    slow(&mut world);
    world.pass(1_500 * MILLISECOND);
    world.trap(1, TrapAt::NextCallback);
    let request = world.send_on(LISTENER, 1, fakes::Request::new("GET", "/"), Vec::new());
    assert_eq!(world.wait(request).status, 503);
    world.pass(20 * SECOND);
    assert_eq!(counts(&world), 1, "the main thread's alone");

    let mut world =
        Setup { code: Some(probe(ASKS)), drain: 500 * MILLISECOND, ..Setup::new(1) }.start().unwrap();
    slow(&mut world);
    world.pass(1_500 * MILLISECOND);
    world.remove_filter();
    world.pass(20 * SECOND);
    assert_eq!((counts(&world), broken(&world)), (0, vec![]));
}

#[test]
fn an_answer_over_32_mib_is_a_reset_after_its_headers() {
    for (bytes, headers) in [((32 << 20) + 1, "0"), (32 << 20, "3")] {
        let mut world = world_of(ASKS, 0);
        let huge = fakes::testkube::Fault::Huge { bytes };
        world.testkube(|testkube| {
            testkube.fault(fakes::testkube::Route::All, fakes::Span::UntilCleared, huge);
        });
        world.pass(10 * SECOND);
        let said = said(&world);
        assert_eq!((said[2].as_str(), said[3].as_str()), ("100", headers), "{bytes}");
    }
}

#[test]
fn a_call_of_the_canary_is_never_answered_and_one_without_authority_never_made() {
    let world = {
        let mut world = world_of(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (call $say (call $ask (i32.const 32) (i32.const 8)))
                 ;; Two pairs: :method and :path alone.
                 (call $say (call $call (i32.const 32) (i32.const 8) (i32.const 320) (i32.const 43)
                   (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 800)))
                 (i32.const 1))
               (data (i32.const 320) "\02\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\07\00\00\00:method\00GET\00:path\00/health\00")
               (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $say (i32.const 100)))"#,
            1,
        );
        world.pass(5 * SECOND);
        world
    };
    assert_eq!(said(&world), ["0", "2", "0", "2", "0", "2", "100", "100"]);
}

#[test]
fn the_api_server_is_reached_through_its_cluster_and_not_where_a_process_is_cut_off_from_it() {
    const ASKS_IT: &str = r#"
      (data (i32.const 80) "kubernetes")
      (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
      (func (export "proxy_on_tick") (param i32) (drop (call $ask (i32.const 80) (i32.const 10))))
      (func (export "proxy_on_http_call_response") (param $root i32) (param $token i32) (param $headers i32) (param $body i32) (param i32)
        (drop (call $header (i32.const 6) (i32.const 64) (i32.const 7) (i32.const 700) (i32.const 704)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 700)) (i32.const 3))))"#;
    let mut world = world_of(ASKS_IT, 0);
    world.pass(1_500 * MILLISECOND);
    assert_eq!(said(&world), ["403"], "it shows no token");
    let asked = |world: &World| world.kubernetes(|server| server.requests().len());
    assert_eq!(asked(&world), 1);
    world.partition(0, "kubernetes", true);
    world.pass(10 * SECOND);
    assert_eq!(asked(&world), 1);
    assert!(
        said(&world)[1..].iter().all(|status| matches!(status.as_str(), "503" | "504")),
        "{:?}",
        said(&world)
    );
    world.partition(0, "kubernetes", false);
    world.pass(10 * SECOND);
    assert!(asked(&world) > 5);
}
