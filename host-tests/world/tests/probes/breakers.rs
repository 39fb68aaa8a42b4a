//! Circuit breakers (Envoy's `conn_pool_base.cc`).

use super::*;

/// Makes three calls at its first tick and logs each status; for each answer, 1000 plus the number of its headers. Forwards
/// requests.
const THREE: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (call $say (call $ask (i32.const 32) (i32.const 8)))
    (call $say (call $ask (i32.const 32) (i32.const 8)))
    (call $say (call $ask (i32.const 32) (i32.const 8)))
    (call $say (i32.const 99)))
  (func (export "proxy_on_http_call_response") (param $root i32) (param $token i32) (param $headers i32) (param i32) (param i32)
    (drop (call $header (i32.const 6) (i32.const 64) (i32.const 7) (i32.const 700) (i32.const 704)))
    (drop (call $log (i32.const 2) (i32.load (i32.const 700)) (i32.const 3)))
    (call $say (i32.add (i32.const 1000) (local.get $headers))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))"#;

/// What it logs from the first tick to the second, then from the second to the third.
fn told(limits: Limits) -> [Vec<String>; 2] {
    let mut world = Setup { code: Some(probe(THREE)), workers: 0, ..Setup::new(1) }.start().unwrap();
    world.network("testkube", Rule { limits, ..Rule::default() });
    world.pass(900 * MILLISECOND);
    [(); 2].map(|()| {
        let from = world.log().len();
        world.pass(SECOND);
        said(&world)[from..].to_vec()
    })
}

#[test]
fn within_the_limits_all_go() {
    let [first, second] = told(Limits::default());
    assert_eq!(first[..4], ["0", "0", "0", "99"]);
    assert_eq!(first.iter().filter(|line| *line == "200").count(), 3);
    assert_eq!(second.len(), first.len());
}

#[test]
fn more_than_max_pending_requests_without_a_connection_are_refused_at_once() {
    let [first, second] = told(Limits { pending: 2, ..Limits::default() });
    assert_eq!(first[..4], ["0", "0", "10", "99"]);
    assert_eq!(
        first.iter().filter(|line| *line == "200").count(),
        2,
        "and nobody is called back for the third"
    );
    // Two connections stand idle by now, so only one has to wait.
    assert_eq!(second[..4], ["0", "0", "0", "99"]);
}

#[test]
fn over_max_requests_the_answer_is_envoys_own_503_where_a_connection_was_made_first_and_a_refusal_where_one_is_idle()
 {
    let [first, second] = told(Limits { requests: 2, ..Limits::default() });
    assert_eq!(first[..4], ["0", "0", "0", "99"]);
    // One header more than its other answers: x-envoy-overloaded.
    assert_eq!(first[4..6], ["503", "1004"]);
    assert_eq!(first.iter().filter(|line| *line == "200").count(), 2);
    assert_eq!(second[..4], ["0", "0", "10", "99"]);
}

#[test]
fn over_max_connections_the_others_wait_until_one_is_free() {
    let [first, second] = told(Limits { connections: 1, ..Limits::default() });
    assert_eq!(
        (first[..4].to_vec(), second[..4].to_vec()),
        (vec!["0"; 3].into_iter().chain(["99"]).map(String::from).collect(), first[..4].to_vec())
    );
    assert_eq!(first.iter().filter(|line| *line == "200").count(), 3);
}

#[test]
fn requests_for_artifacts_count_too_and_get_the_503_themselves() {
    let mut world = Setup { code: Some(probe(THREE)), ..Setup::new(1) }.start().unwrap();
    world
        .network("testkube", Rule { limits: Limits { requests: 0, ..Limits::default() }, ..Rule::default() });
    let answer = world.ask(fakes::Request::new("GET", "/v1/test-workflow-executions/x/logs"));
    assert_eq!((answer.status, answer.by), (503, By::Envoy));
    assert_eq!(answer.headers, [("x-envoy-overloaded".to_string(), "true".to_string())]);
}
