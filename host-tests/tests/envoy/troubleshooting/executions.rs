//! The executions in Testkube: what keeps a check from being decided on its tests, as its log tells it and the list of checks.

use super::*;
use crate::readme;
use fakes::testkube::{Fault, Route};
use fakes::{Build, Span, Status, execution};
use host_tests::scene::{PROJECT, TAG_KEY, now_ms};

/// Milliseconds.
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A check that was at its end waits for a last reading as long.
const LAST_READING: Duration = Duration::from_secs(120);

pub(super) const MISTAKES: &[Mistake] = &[
    ("All executions with the tag are older than the run", |scene, line| {
        let run = next(scene);
        passed(scene, &run, now_ms() - 5 * 60 * MINUTE);
        told_in_log_and_list(scene, scene.setup()?, &run, ("Testrelay-Appear-Timeout", "3s"), line)
    }),
    ("Testkube has cleaned the executions up", |scene, line| {
        let run = next(scene);
        let build = Build::new(PROJECT, run.spec.build.unwrap_or_default());
        scene.azure().add_build(build.started_at(now_ms() - 2 * DAY));
        told_in_log_and_list(scene, scene.setup()?, &run, ("Testrelay-Appear-Timeout", "3s"), line)
    }),
    ("An execution was never started", |scene, line| {
        let run = next(scene);
        let declined = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms() - 1_000, Status::Assigned);
        scene.execution(declined.at(now_ms(), Status::Aborted));
        told_in_log_and_list(scene, scene.setup()?, &run, ("Testrelay-Appear-Timeout", "3s"), line)
    }),
    ("The tag is on executions that others have started, and not on these", |scene, line| {
        let run = next(scene);
        let child =
            execution("shop-e2e").tag(TAG_KEY, &run.tag).child_of("suite", "6973a5d2e1c4b0a7f3d9e201");
        scene.execution(child.at(now_ms(), Status::Passed));
        told_in_log_and_list(scene, scene.setup()?, &run, ("Testrelay-Appear-Timeout", "3s"), line)
    }),
    ("Testkube's lists are incomplete", |_, line| {
        let scene = &Scene::new()?;
        let run = next(scene);
        passed(scene, &run, now_ms());
        scene.testkube().fault(Route::List, Span::UntilCleared, Fault::RowMissing);
        told_in_log_and_list(scene, scene.setup()?, &run, ("Testrelay-Timeout", "3s"), line)
    }),
    ("Testkube's database has no room", |_, line| {
        let scene = &Scene::new()?;
        let words = "failed to list test workflow executions: get execution results: client problem: rpc error: code = \
            Internal desc = ERROR: could not extend file \"base/16384/2619\": No space left on device (SQLSTATE 53100)";
        scene.testkube().fault(Route::List, Span::UntilCleared, Fault::Detail(502, words.into()));
        told_in_log_and_list(scene, scene.setup()?, &next(scene), ("Testrelay-Timeout", "10s"), line)
    }),
    ("DNS does not know Testkube's host", |_, line| {
        let scene = &Scene::new()?;
        let unknown = scene.setup()?.edit_cluster("testkube", |cluster| {
            let place = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
            cluster["type"] = json!("STRICT_DNS");
            // Nobody answers there: it is as if the name were not known, and at once.
            cluster["typed_dns_resolver_config"] = json!({
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                    "resolvers": [{ "socket_address": { "address": "127.0.0.1", "port_value": 9 } }],
                },
            });
            if let Some(address) = cluster.pointer_mut(place) {
                *address = json!("testkube-api-server.nowhere.invalid");
            }
        });
        told_in_log_and_list(scene, unknown, &next(scene), ("Testrelay-Timeout", "10s"), line)
    }),
];

fn passed(scene: &Scene, run: &Pipeline, at: i64) {
    scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(at, Status::Passed));
}

/// The last line of the check's log says it, whatever the numbers in it are, and the list of checks the same as its reason, as
/// far as it keeps it.
fn told_in_log_and_list(
    scene: &Scene,
    setup: Setup,
    run: &Pipeline,
    soon: (&str, &str),
    line: &str,
) -> Result<()> {
    let credential = json!([{ "name": "azure-pipelines", "kind": "basic", "username": USER,
        "secret_env": "TESTRELAY_PASSWORD", "allow": ["checks", "status"] }]);
    let envoy = Envoy::start(&setup.concurrency(1).plugin(json!({ "credentials": credential })))?;
    let answer = run.fields("shop-e2e").with(soon.0, soon.1).request().send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let decision = scene.decision(run, LAST_READING)?;
    let (said, line) = (readme::alike(decision.line()), readme::alike(line));
    ensure!(said.ends_with(&line), "{}", decision.line());
    let reason = || {
        let list = Request::get("/testrelay/v1/checks").basic(USER, PASSWORD).send(envoy.address()).ok()?;
        let check = list.json().ok()?["checks"][0].clone();
        check["reason"].as_str().filter(|_| check["state"] == "done").map(str::to_owned)
    };
    let reason = host_tests::wait_for("its place in the list", SOON, reason)?;
    let kept = readme::alike(reason.trim_end_matches('…'));
    let kept = kept.rsplit_once(' ').map_or(kept.as_str(), |(whole_words, _)| whole_words);
    ensure!(line.contains(kept), "{reason}");
    envoy.stop()
}
