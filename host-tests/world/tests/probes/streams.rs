//! Requests of clients.

use super::*;

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
    assert_eq!((world.now() - began) / SECOND, 33, "the idle timeout, after the last piece");
    assert!(said(&world).is_empty());
}

/// Logs 1000 plus the number of trailers, and answers in their callback.
const ANSWERS_TRAILERS: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 60000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_body") (param $c i32) (param $size i32) (param $end i32) (result i32)
    (call $say (i32.add (local.get $size) (i32.mul (i32.const 100) (local.get $end))))
    (i32.const 1))
  (func (export "proxy_on_request_trailers") (param $c i32) (param $count i32) (result i32)
    (call $say (i32.add (i32.const 1000) (local.get $count)))
    (drop (call $reply (i32.const 202) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1))"#;

#[test]
fn a_body_that_ends_by_trailers_never_says_so_and_goes_on_where_nobody_holds_the_trailers_back() {
    let run = |code: &str, pieces: &[usize]| {
        let mut world = Setup { code: Some(probe(code)), ..Setup::new(1) }.start().unwrap();
        let (_, chunks) = post(pieces);
        let connection = world.connect(LISTENER, 1);
        let request = fakes::Request::new("POST", "/v1/test-workflow-executions/none/logs");
        let stream = world.send_with_trailers(connection, request, chunks);
        let answer = world.wait(stream);
        (answer.status, answer.by, said(&world))
    };
    let said = |numbers: &[&str]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(run(ANSWERS_TRAILERS, &[10, 20]), (202, By::Module, said(&["10", "30", "1001"])));
    assert_eq!(run(ANSWERS_TRAILERS, &[]), (202, By::Module, said(&["1001"])));
    let (_, by, heard) = run(PAUSES, &[10, 20]);
    assert_eq!((by, heard), (By::Upstream, said(&["10", "30"])));
}

#[test]
fn a_body_over_the_buffer_is_envoys_413() {
    for allow in [true, false] {
        let mut world = paused(allow);
        let (request, chunks) = post(&[900_000, 900_000]);
        let stream = world.send_in_pieces(LISTENER, request, chunks);
        let answer = world.wait(stream);
        assert_eq!((answer.status, answer.by), (413, By::Envoy));
    }
}

#[test]
fn a_body_without_bytes_is_a_callback_of_size_0_and_no_body_is_none() {
    let mut world = paused(true);
    let (request, chunks) = post(&[0]);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    assert_eq!((world.wait(stream).status, said(&world)), (202, vec!["0".to_string()]));
}

#[test]
fn a_paused_request_of_a_fallen_vm_fails_at_its_next_callback_and_without_one_at_the_idle_timeout() {
    for allow in [true, false] {
        let mut world = paused(allow);
        let (request, chunks) = post(&[10, 20]);
        let waiting = world.send_in_pieces(LISTENER, request, chunks);
        world.pass(100 * MILLISECOND);
        // Another request on that worker traps, and the VM with it.
        world.trap(1, TrapAt::NextCallback);
        let (request, _) = post(&[]);
        let fallen = world.send(request);
        assert_eq!(world.wait(fallen).status, 503);
        assert_eq!(world.answer(waiting), None);
        assert_eq!(world.wait(waiting).status, 503);
        // The next piece of its body; or the idle timeout, after the last one.
        assert_eq!(world.now() / SECOND, if allow { 1_001 } else { 1_032 });
        assert_eq!(broken(&world), []);
    }
}

/// Forwards every request. Logs 1 if a tick can then read a header of the request, 2 (BadArgument) if not; for each piece
/// of an answer 10000 plus its size, and 20000 more for the last.
const PASSES: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 60000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $say (call $header (i32.const 0) (i32.const 192) (i32.const 5) (i32.const 700) (i32.const 704)))
    (call $say (call $header (i32.const 2) (i32.const 64) (i32.const 7) (i32.const 700) (i32.const 704)))
    (i32.const 0))
  (func (export "proxy_on_response_body") (param $c i32) (param $size i32) (param $end i32) (result i32)
    (call $say (i32.add (local.get $size) (i32.mul (i32.const 10000) (i32.add (local.get $end) (i32.const 1)))))
    (i32.const 0))
  (data (i32.const 192) ":path")"#;

/// A world with an artifact of 100 bytes in Testkube, and the request for it.
fn download(setup: Setup) -> (World, fakes::Request) {
    let world = Setup { code: Some(probe(PASSES)), ..setup }.start().unwrap();
    let execution = fakes::execution("a").at(START, fakes::Status::Passed).artifact("a.txt", [b'x'; 100]);
    let id = world.testkube(|testkube| testkube.add(execution));
    let path = format!("/v1/test-workflow-executions/{id}/artifacts/a.txt");
    (world, fakes::Request::new("GET", &path))
}

/// Testkube's answer in pieces of ten bytes, one each second.
fn slowly(world: &World) {
    let fault = fakes::testkube::Fault::Dribble { chunk: 10, millis: 1_000 };
    world.testkube(|testkube| testkube.fault(fakes::testkube::Route::All, fakes::Span::UntilCleared, fault));
}

#[test]
fn a_request_with_a_route_goes_on_and_its_answer_comes_back_piece_by_piece() {
    let (mut world, request) = download(Setup::new(1));
    slowly(&world);
    let stream = world.send(request);
    world.pass(5_500 * MILLISECOND);
    let so_far = world.so_far(stream).unwrap();
    assert_eq!((so_far.status, so_far.body.len(), world.answer(stream)), (200, 50, None));
    let answer = world.wait(stream);
    assert_eq!((answer.by, answer.is_complete, answer.body.len()), (By::Upstream, true, 100));
    let said = said(&world);
    assert_eq!(said[..3], ["2", "0", "10010"], "the request's headers have gone on, the answer's are there");
    assert_eq!(said[11..], ["10010", "20000"]);
    let nowhere = world.ask(fakes::Request::new("GET", "/nowhere"));
    assert_eq!((nowhere.status, nowhere.by), (404, By::Envoy));
}

#[test]
fn a_download_is_cut_at_its_next_piece_where_its_vm_has_fallen() {
    let (mut world, request) = download(Setup::new(1));
    slowly(&world);
    let stream = world.send(request);
    world.pass(3_500 * MILLISECOND);
    world.trap(1, TrapAt::NextCallback);
    assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 503);
    // The worker has a new VM long before the download is over, but the stream's context was in the old one.
    let (answer, at) = (world.wait(stream), world.now());
    assert_eq!((answer.status, answer.is_complete, answer.body.len()), (200, false, 30));
    assert!(at < 1_006 * SECOND, "{at}");
    assert_eq!(broken(&world), []);
}

#[test]
fn an_answer_that_begins_after_its_vm_has_fallen_is_envoys_503() {
    let (mut world, request) = download(Setup::new(1));
    let late = fakes::testkube::Fault::Slow { millis: 3_000 };
    world.testkube(|testkube| testkube.fault(fakes::testkube::Route::All, fakes::Span::UntilCleared, late));
    let stream = world.send(request);
    world.pass(SECOND);
    world.trap(1, TrapAt::NextCallback);
    assert_eq!(world.ask(fakes::Request::new("GET", "/")).status, 503);
    let answer = world.wait(stream);
    assert_eq!((answer.status, answer.by, answer.is_complete), (503, By::Envoy, true));
    assert_eq!((answer.at / SECOND, broken(&world)), (1_003, vec![]));
}

#[test]
fn a_download_goes_on_while_its_listener_drains_and_is_cut_at_the_drains_end() {
    for (drain, complete, size) in [(20, true, 100), (4, false, 50)] {
        let (mut world, request) = download(Setup { drain: drain * SECOND, ..Setup::new(1) });
        slowly(&world);
        let stream = world.send(request);
        world.pass(1_500 * MILLISECOND);
        assert!(world.reload("other").unwrap());
        let answer = world.wait(stream);
        assert_eq!(
            (answer.status, answer.is_complete, answer.body.len()),
            (200, complete, size),
            "{drain} s"
        );
        assert_eq!(broken(&world), []);
    }
}

#[test]
fn an_upstream_that_breaks_before_its_headers_is_envoys_503_and_after_them_a_cut() {
    for (way, status, complete) in [
        (Way::NoConnection, 503, true),
        (Way::ResetBeforeAnswer, 503, true),
        (Way::ResetInAnswer, 200, false),
        (Way::LostAnswer, 504, true),
    ] {
        let (mut world, request) = download(Setup::new(1));
        world.network("testkube", Rule { fails: 1, ways: vec![way], ..Rule::default() });
        let began = world.now();
        let answer = world.ask(request);
        assert_eq!((answer.status, answer.is_complete), (status, complete), "{way:?}");
        let waited = (world.now() - began) / SECOND;
        assert_eq!(waited, if status == 504 { 300 } else { 0 }, "the route's idle timeout, {way:?}");
        assert_eq!(broken(&world), []);
    }
}

#[test]
fn requests_of_one_connection_stay_on_its_worker_and_with_the_version_of_the_listener_that_took_it() {
    let mut world =
        Setup { code: Some(probe(TICKS)), workers: 2, drain: 10 * SECOND, ..Setup::new(1) }.start().unwrap();
    world.trap(1, TrapAt::NextCallback);
    let connection = world.connect(LISTENER, 2);
    let ask = |world: &mut World| {
        let stream = world.send_over(connection, fakes::Request::new("GET", "/"), Vec::new());
        world.wait(stream).status
    };
    assert_eq!([(); 3].map(|()| ask(&mut world)), [204; 3], "the other worker's fall is none of theirs");
    assert!(world.reload("other").unwrap());
    world.pass(5 * SECOND);
    assert_eq!(ask(&mut world), 204);
    world.pass(6 * SECOND);
    assert_eq!(ask(&mut world), 0, "the drain has ended, and the connection with it");
    let fresh = world.connect(LISTENER, 2);
    let stream = world.send_over(fresh, fakes::Request::new("GET", "/"), Vec::new());
    assert_eq!(world.wait(stream).status, 204);
}

#[test]
fn a_paused_request_can_be_answered_from_the_root_contexts_tick_and_nobody_else_can_be() {
    let mut world = world_of(
        r#"(global $stream (mut i32) (i32.const 0))
           (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param $c i32) (param i32 i32) (result i32)
             (global.set $stream (local.get $c)) (i32.const 1))
           (func $answer (result i32)
             (call $reply (i32.const 204) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
           (func (export "proxy_on_tick") (param $root i32)
             (if (global.get $stream) (then
               ;; On the root context it is OK and does nothing; an unknown context is BadArgument.
               (call $say (call $answer))
               (call $say (call $effective (i32.const 99)))
               (call $say (call $effective (global.get $stream)))
               (call $say (call $answer))
               (global.set $stream (i32.const 0)))))"#,
        1,
    );
    let answer = world.ask(fakes::Request::new("GET", "/"));
    assert_eq!((answer.status, answer.by), (204, By::Module));
    assert_eq!(said(&world), ["0", "2", "0", "0"]);
}

/// Pauses every request; the first tick continues the oldest, the second one resets the other. A request sets the root
/// context's timer, because a stream has none.
const HOLDS: &str = r#"
  (global $first (mut i32) (i32.const 0))
  (global $second (mut i32) (i32.const 0))
  (func (export "proxy_on_request_headers") (param $c i32) (param i32 i32) (result i32)
    (if (global.get $first)
      (then (global.set $second (local.get $c)) (drop (call $tick (i32.const 2000))))
      (else (global.set $first (local.get $c))))
    (i32.const 1))
  (func (export "proxy_on_tick") (param $root i32)
    (call $say (local.get $root))
    (if (global.get $first)
      (then
        (drop (call $effective (global.get $first)))
        (drop (call $continue (i32.const 0)))
        (global.set $first (i32.const 0)))
      (else
        (call $say (call $effective (global.get $second)))
        (drop (call $close (i32.const 0))))))"#;

#[test]
fn a_paused_request_goes_on_or_is_reset_when_the_module_says_so() {
    let mut world = Setup { code: Some(probe(HOLDS)), ..Setup::new(1) }.start().unwrap();
    let began = world.now();
    let goes = world.send(fakes::Request::new("GET", "/v1/test-workflow-executions/none/logs"));
    world.pass(SECOND);
    let reset = world.send(fakes::Request::new("GET", "/"));
    let (answer, cut) = (world.wait(goes), world.wait(reset));
    assert_eq!((answer.status, answer.by), (404, By::Upstream));
    assert_eq!((cut.status, cut.by, cut.is_complete), (0, By::Envoy, false));
    assert_eq!(said(&world)[..3], ["1", "1", "0"], "both ticks are the root context's");
    assert_eq!((cut.at - began) / SECOND, 5);
    assert_eq!(broken(&world), []);
}

#[test]
fn nobody_can_answer_a_client_that_has_gone() {
    let mut world = Setup { code: Some(probe(HOLDS)), ..Setup::new(1) }.start().unwrap();
    let [_, gone] = [(); 2].map(|()| world.send(fakes::Request::new("GET", "/")));
    world.pass(SECOND);
    world.hang_up(gone);
    world.pass(5 * SECOND);
    assert_eq!(said(&world)[..3], ["1", "1", "2"], "its context is gone: BadArgument");
    assert_eq!(world.answer(gone).map(|answer| (answer.status, answer.by)), Some((0, By::Nobody)));
}
