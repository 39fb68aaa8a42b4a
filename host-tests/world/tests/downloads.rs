//! Downloads: how many a credential may have under way in one worker, and which of Testkube's answers are forwarded by tag.

use fakes::testkube::{Fault, Route};
use fakes::{Request, Span, Status};
use world::*;

/// An artifact of 100 bytes, which comes in pieces of ten, one each second where `is_slow`; the request for it.
fn artifact(world: &World, is_slow: bool) -> Request {
    let execution = fakes::execution("w")
        .tag("ado-run", "shop-1")
        .at(START, Status::Passed)
        .artifact("a.txt", [b'x'; 100]);
    let id = world.testkube(|testkube| {
        if is_slow {
            testkube.fault(Route::Artifact, Span::UntilCleared, Fault::Dribble { chunk: 10, millis: 1_000 });
        }
        testkube.add(execution)
    });
    get(&format!("/v1/test-workflow-executions/{id}/artifacts/a.txt"))
}

fn get(path: &str) -> Request {
    Request::new("GET", path).header("authorization", &format!("Bearer bearer-{MARK}-5b0e"))
}

fn by_tag(rest: &str) -> Request {
    get(&format!("/testrelay/v1/artifacts/shop-1/{rest}"))
}

fn one_worker() -> World {
    Setup { workers: 1, ..Setup::new(7) }.start().unwrap()
}

#[test]
fn a_download_gives_its_place_back_however_it_ends() {
    let mut world = one_worker();
    let own = artifact(&world, false);
    for _ in 0..60 {
        assert_eq!(world.ask(own.clone()).status, 200);
        assert_eq!(world.ask(by_tag("a.txt")).status, 200);
        assert_eq!(world.ask(by_tag("nope.txt")).status, 404);
        let gone = world.send(own.clone());
        world.hang_up(gone);
        world.pass(SECOND / 10);
    }
    assert_eq!(world.violations(), []);
}

#[test]
fn more_downloads_than_a_credential_may_have_are_refused_until_one_ends_or_the_vm_falls() {
    let mut world = one_worker();
    let own = artifact(&world, true);
    let downloads: Vec<u64> = (0..100).map(|_| world.send(own.clone())).collect();
    world.pass(SECOND);
    for request in [own.clone(), by_tag("a.txt")] {
        let refused = world.ask(request);
        assert_eq!((refused.status, refused.by), (503, By::Module));
        assert!(refused.text().contains("downloads under way through this worker"), "{}", refused.text());
    }
    world.trap(1, TrapAt::NextCallback);
    let cut = world.wait(downloads[0]);
    assert!(!cut.is_complete);
    world.pass(5 * SECOND);
    let whole = world.ask(own);
    assert_eq!((whole.status, whole.is_complete, whole.body.len()), (200, true, 100));
    assert_eq!(world.violations(), []);
}

#[test]
fn by_tag_an_answer_of_testkubes_that_is_no_file_is_replaced() {
    let mut world = one_worker();
    artifact(&world, false);
    let no_log = world.ask(by_tag("logs"));
    assert_eq!((no_log.status, no_log.by), (404, By::Module));
    assert!(no_log.text().contains("The execution has no log"), "{}", no_log.text());
    assert!(!no_log.text().contains("presigned"));
    assert_eq!(world.ask(by_tag("a.txt")).status, 200);
    for (status, told) in [(500, 502), (503, 503), (404, 404), (400, 502)] {
        world.testkube(|testkube| testkube.fault(Route::Artifact, Span::Next(1), Fault::Status(status)));
        let answer = world.ask(by_tag("a.txt"));
        assert_eq!((answer.status, answer.by), (told, By::Module), "{}", answer.text());
        assert!(answer.text().contains("when it was asked for this file"), "{}", answer.text());
    }
    assert_eq!(world.violations(), []);
}
