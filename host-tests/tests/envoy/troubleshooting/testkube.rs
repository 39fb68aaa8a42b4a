//! Testkube's webhook: the mistakes around `envoy/testkube`, as the answer to it tells them.

use super::*;
use crate::hints::{credentials, event, webhook};

pub(super) const MISTAKES: &[Mistake] = &[
    ("The webhook's token is another one", |scene, line| {
        let other = |run: &Pipeline| {
            let request = Request::post("/testrelay/v1/events").bearer("another-token");
            Ok(request.header("content-type", "application/json").body(event(run)))
        };
        hinted(scene, scene.setup()?.plugin(credentials()), other, line)
    }),
    ("The credential does not allow `events`", |scene, line| {
        // The shipped configuration's bearer is for artifacts.
        hinted(scene, scene.setup()?, |run| webhook(event(run)), line)
    }),
    ("The plugin reads no bodies", |scene, line| {
        let unread = scene.setup()?.plugin(credentials()).plugin(json!({ "read_body": false }));
        hinted(scene, unread, |run| webhook(event(run)), line)
    }),
    ("`TESTRELAY_EVENTS` is not in the environment of Envoy's process", |scene, line| {
        let events = json!({ "name": "testkube", "kind": "bearer", "secret_env": "TESTRELAY_EVENTS", "allow": ["events"] });
        let add = move |plugin: &mut Value| {
            plugin["credentials"].as_array_mut().into_iter().for_each(|all| all.push(events.clone()));
        };
        refused(scene.setup()?.edit_plugin(add), line)
    }),
    ("The executions carry another tag key", |scene, line| {
        let setup = scene.setup()?.plugin(credentials()).plugin(json!({ "tag": { "key": "run" } }));
        let envoy = Envoy::start(&setup.concurrency(1))?;
        let answer = webhook(event(&next(scene)))?.send(envoy.address())?;
        let said = format!("{} {}", answer.status, answer.text().trim_end());
        ensure!(said == line, "{said}");
        envoy.stop()
    }),
];

/// The answer to a webhook says this.
fn hinted(scene: &Scene, setup: Setup, request: fn(&Pipeline) -> Result<Request>, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    told(&request(&next(scene))?, &envoy, line)
}
