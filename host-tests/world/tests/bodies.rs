//! Requests with bodies: every way in which a body can end, and bodies that never end.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{decided_within, healthy};
use fakes::{Request, Status};
use serde_json::json;
use world::*;

/// A run whose only execution passes 20 s from now, and whose check is about to be delivered.
fn passing(world: &mut World, n: u32) -> Pipeline {
    let pipeline = common::passing(world, n);
    world.note_delivery(&pipeline);
    pipeline
}

fn pieces(request: &Request, pause: u64) -> Vec<(u64, Vec<u8>)> {
    let (first, second) = request.body.split_at(request.body.len() / 2);
    vec![(pause, first.to_vec()), (pause, second.to_vec())]
}

/// A request over one connection, with its body in two pieces and trailers after them.
fn with_trailers(world: &mut World, request: Request, pieces: Vec<(u64, Vec<u8>)>) -> Answer {
    let connection = world.connect(LISTENER, 1);
    let stream = world.send_with_trailers(connection, request, pieces);
    world.wait(stream)
}

/// The configuration with a credential for events.
fn with_events() -> String {
    changed(&configuration(0), |value| {
        let events = json!({"name": "testkube", "kind": "basic", "username": "testkube", "secret_env": "TESTRELAY_PASSWORD", "allow": ["events"]});
        value["credentials"].as_array_mut().unwrap().push(events);
    })
}

fn hint(pipeline: &Pipeline) -> Request {
    let body = json!({"testWorkflowExecution": {"tags": {"ado-run": pipeline.tag}}}).to_string();
    let credential = STANDARD.encode(format!("testkube:password-{MARK}-91c4"));
    Request::new("POST", "/testrelay/v1/events")
        .header("authorization", &format!("Basic {credential}"))
        .body(body)
}

#[test]
fn a_check_whose_body_ends_by_trailers_is_taken_and_decided() {
    let mut world = Setup::new(1).start().unwrap();
    let in_body = passing(&mut world, 1);
    let request = in_body.check_in_body(&[("Testrelay-Expect", "a")]);
    let chunks = pieces(&request, SECOND);
    let answer = with_trailers(&mut world, request, chunks);
    assert_eq!((answer.status, answer.by), (200, By::Module), "{}", answer.text());
    let in_headers = passing(&mut world, 2);
    let answer = with_trailers(&mut world, in_headers.check(&[("Testrelay-Expect", "a")]), Vec::new());
    assert_eq!((answer.status, answer.by), (200, By::Module), "trailers without data: {}", answer.text());
    for pipeline in [in_body, in_headers] {
        assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    }
    healthy(&world);
}

#[test]
fn trailers_end_an_evaluation_an_event_and_a_download_that_waits() {
    let mut world = Setup { configuration: with_events(), ..Setup::new(1) }.start().unwrap();
    let pipeline = passing(&mut world, 1);
    let evaluation = Request {
        target: "/testrelay/v1/checks/evaluate".into(),
        ..pipeline.check_in_body(&[("Testrelay-Expect", "a")])
    };
    let chunks = pieces(&evaluation, SECOND);
    let answer = with_trailers(&mut world, evaluation, chunks);
    assert_eq!((answer.status, answer.by), (200, By::Module), "{}", answer.text());
    assert!(answer.text().contains("pending"), "{}", answer.text());
    let hint = hint(&pipeline);
    let chunks = pieces(&hint, SECOND);
    let answer = with_trailers(&mut world, hint, chunks);
    assert_eq!((answer.status, answer.by), (202, By::Module), "{}", answer.text());
    assert!(answer.text().contains("taken"), "{}", answer.text());
    world.testkube(|testkube| {
        testkube.add(pipeline.tagged("b").at(START, Status::Passed).artifact("a.txt", "x"));
    });
    let path = format!("/testrelay/v1/artifacts/{}/b-1/a.txt?all=true&partial=true", pipeline.tag);
    let download = Request::new("GET", &path).header("authorization", &format!("Bearer bearer-{MARK}-5b0e"));
    let answer = with_trailers(&mut world, download, Vec::new());
    assert_eq!((answer.status, answer.by, answer.text().as_str()), (200, By::Upstream, "x"));
    healthy(&world);
}

#[test]
fn a_request_that_is_refused_by_its_headers_is_not_helped_by_trailers() {
    let mut world = Setup::new(1).start().unwrap();
    let pipeline = passing(&mut world, 1);
    let mut request = pipeline.check_in_body(&[]);
    request.headers.retain(|(name, _)| name != "authorization");
    let chunks = pieces(&request, 0);
    let answer = with_trailers(&mut world, request, chunks);
    assert_eq!((answer.status, answer.by), (401, By::Module));
    healthy(&world);
}

#[test]
fn a_pause_before_the_first_byte_costs_no_check() {
    for pause in [4, 9] {
        let mut world = Setup::new(1).start().unwrap();
        let pipeline = passing(&mut world, 1);
        let request = pipeline.check_in_body(&[("Testrelay-Expect", "a")]);
        let stream =
            world.send_in_pieces(LISTENER, request.clone(), vec![(pause * SECOND, request.body.clone())]);
        let answer = world.wait(stream);
        assert_eq!((answer.status, answer.by), (200, By::Module), "{pause} s: {}", answer.text());
        assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
        healthy(&world);
    }
}

#[test]
fn where_no_body_has_ever_come_the_sender_is_told_after_ten_seconds() {
    let mut world = Setup { allow_on_headers_stop_iteration: false, ..Setup::new(1) }.start().unwrap();
    let request = passing(&mut world, 1).check_in_body(&[]);
    let began = world.now();
    let stream = world.send_in_pieces(LISTENER, request.clone(), vec![(0, request.body.clone())]);
    let answer = world.wait(stream);
    assert_eq!((answer.status, answer.by), (422, By::Module), "{}", answer.text());
    let waited = (world.now() - began) / SECOND;
    assert!((9..=12).contains(&waited), "{waited} s");
}

#[test]
fn once_a_body_has_come_to_any_worker_nobody_is_told_that_none_comes() {
    let mut world = Setup { workers: 2, ..Setup::new(1) }.start().unwrap();
    let first = passing(&mut world, 1);
    let request = first.check_in_body(&[("Testrelay-Expect", "a")]);
    let stream = world.send_on(LISTENER, 1, request.clone(), vec![(0, request.body.clone())]);
    assert_eq!(world.wait(stream).status, 200);
    let second = passing(&mut world, 2);
    let request = second.check_in_body(&[("Testrelay-Expect", "a")]);
    let slow = world.send_on(LISTENER, 2, request.clone(), vec![(15 * SECOND, request.body.clone())]);
    assert_eq!(world.wait(slow).status, 200);
    // Azure DevOps waits 20 s; nobody reads a later answer.
    let request = world.pipeline(3).check_in_body(&[]);
    let began = world.now();
    let too_slow = world.send_on(LISTENER, 2, request.clone(), vec![(25 * SECOND, request.body.clone())]);
    let answer = world.wait(too_slow);
    assert_eq!((answer.status, answer.by), (408, By::Module), "{}", answer.text());
    assert!(
        (world.now() - began) / SECOND < 20 && answer.text().contains("within 18 s"),
        "{}",
        answer.text()
    );
    healthy(&world);
}

#[test]
fn bodies_that_do_not_end_take_no_others_place_and_a_good_check_is_decided_meanwhile() {
    let mut world = Setup { configuration: with_events(), ..Setup::new(1) }.start().unwrap();
    let pipeline = passing(&mut world, 1);
    let mut endless = hint(&pipeline);
    endless.body = vec![b' '; 1 << 19];
    let half = endless.body.clone();
    let streams: Vec<u64> = (0..70)
        .map(|_| {
            world.send_in_pieces(LISTENER, endless.clone(), vec![(0, half.clone()), (MINUTE, half.clone())])
        })
        .collect();
    let given_up = |world: &World| -> Vec<Answer> {
        streams.iter().filter_map(|stream| world.answer(*stream)).collect()
    };
    world.pass(500 * MILLISECOND);
    // 31 of half a mebibyte, with their headers, are as much as one credential may hold; half of that is free again soon.
    assert_eq!(given_up(&world).len(), 70 - 31);
    let request = pipeline.check_in_body(&[("Testrelay-Expect", "a")]);
    let chunks = pieces(&request, SECOND);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    assert_eq!(world.wait(stream).status, 200);
    world.pass(2 * SECOND);
    assert_eq!(given_up(&world).len(), 70 - 15);
    for answer in given_up(&world) {
        assert_eq!((answer.status, answer.by), (503, By::Module));
        assert!(answer.text().contains("Too many request bodies"), "{}", answer.text());
    }
    let log = world.log().join("\n");
    assert!(log.contains("requests were dropped") && log.contains("with the credential `testkube`"), "{log}");
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn slow_checks_of_one_credential_give_way_to_its_newest() {
    let mut world = Setup::new(1).start().unwrap();
    let endless = passing(&mut world, 1).check_in_body(&[]);
    let streams: Vec<u64> = (0..70)
        .map(|_| {
            let chunks = vec![(0, endless.body[..20].to_vec()), (MINUTE, endless.body[20..].to_vec())];
            let stream = world.send_in_pieces(LISTENER, endless.clone(), chunks);
            world.pass(MILLISECOND);
            stream
        })
        .collect();
    let answered = |world: &World| -> Vec<u16> {
        streams.iter().map(|stream| world.answer(*stream).map_or(0, |answer| answer.status)).collect()
    };
    assert_eq!(answered(&world), [0; 70]);
    world.pass(1_500 * MILLISECOND);
    assert_eq!(answered(&world), [vec![503; 6], vec![0; 64]].concat(), "beyond 64 the oldest have a second");
    world.pass(3 * SECOND);
    assert_eq!(answered(&world), [vec![503; 38], vec![0; 32]].concat());
    let pipeline = passing(&mut world, 2);
    let request = pipeline.check_in_body(&[("Testrelay-Expect", "a")]);
    let chunks = pieces(&request, 4 * SECOND);
    let stream = world.send_in_pieces(LISTENER, request, chunks);
    assert_eq!(world.wait(stream).status, 200);
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_body_that_this_envoy_does_not_hand_over_is_rejected_and_told() {
    let configuration = changed(&configuration(0), |value| value["read_body"] = json!(false));
    let mut world =
        Setup { configuration, allow_on_headers_stop_iteration: false, ..Setup::new(1) }.start().unwrap();
    let pipeline = passing(&mut world, 1);
    let request = pipeline.check(&[]).body(r#"{"expect": "a, b"}"#);
    let answer = world.ask(request);
    assert!(answer.status == 200 && answer.text().contains("rejected"), "{}", answer.text());
    assert_eq!(decided_within(&mut world, &pipeline, MINUTE), "failed");
    let empty = passing(&mut world, 2);
    assert!(world.ask(empty.check(&[("Testrelay-Expect", "a")])).text().contains("accepted"));
    assert_eq!(decided_within(&mut world, &empty, MINUTE), "succeeded");
    healthy(&world);
}

#[test]
fn a_policy_in_a_body_of_any_type_is_obeyed_or_the_check_is_rejected() {
    let mut world = Setup::new(1).start().unwrap();
    let typed =
        |pipeline: &Pipeline, kind: &str, body: &str| pipeline.check(&[("content-type", kind)]).body(body);
    for (n, kind) in (1..).zip(["text/plain", "application/x-www-form-urlencoded", "application/json", ""]) {
        let pipeline = passing(&mut world, n);
        // `b` never appears.
        let policies = r#"{"expect": "a, b", "appear-timeout": "30s"}"#;
        assert!(world.ask(typed(&pipeline, kind, policies)).text().contains("accepted"), "{kind}");
        assert_eq!(decided_within(&mut world, &pipeline, 2 * MINUTE), "failed", "{kind}");
        let other = passing(&mut world, 100 + n);
        let answer = world.ask(typed(&other, kind, "expect: a, b"));
        assert!(answer.text().contains("rejected"), "{kind}: {}", answer.text());
        let blank = passing(&mut world, 200 + n);
        assert!(world.ask(typed(&blank, kind, " \r\n\t")).text().contains("accepted"), "{kind}");
    }
    healthy(&world);
}
