//! `envoy/troubleshooting.md` is true: each mistake is made here, in the file that has it, and the quoted line is the one
//! that people see.

mod azure_pipelines;
mod executions;
mod gateway;
mod istio;
mod kubernetes;
mod plain;
mod replicas;
mod testkube;

use crate::istio::{only, setup};
use anyhow::{Context, Result, ensure};
use fakes::Identity;
use host_tests::client::Request;
use host_tests::manifests::{Embedded, Form};
use host_tests::scene::{Pipeline, Scene, USER};
use host_tests::troubleshooting::lines;
use host_tests::{Envoy, PASSWORD, Setup, config, validate, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// How many mistakes of a section are made at the same time: each has its own Envoy, which mostly waits.
const SIDE_BY_SIDE: usize = 2;

/// A mistake: the page's heading for it, and how it is made and noticed.
type Mistake = (&'static str, fn(&Scene, &str) -> Result<()>);

#[test]
fn the_lines_for_a_plain_envoy_are_the_ones_that_people_see() -> Result<()> {
    make_all("## A plain Envoy", plain::MISTAKES)
}

#[test]
fn the_lines_for_kubernetes_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Kubernetes", kubernetes::STANDALONE)
}

#[test]
fn the_lines_for_the_sidecar_are_the_ones_that_people_see() -> Result<()> {
    make_all("## The sidecar", kubernetes::SIDECAR)
}

#[test]
fn the_lines_for_several_replicas_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Several replicas", replicas::MISTAKES)
}

#[test]
fn the_lines_for_the_modules_file_are_the_ones_that_people_see() -> Result<()> {
    make_all("## The module's file", kubernetes::FILE)
}

#[test]
fn the_lines_for_istio_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Istio", istio::MISTAKES)
}

#[test]
fn the_lines_for_envoy_gateway_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Envoy Gateway", gateway::MISTAKES)
}

#[test]
fn the_lines_for_azure_pipelines_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Azure Pipelines", azure_pipelines::MISTAKES)
}

#[test]
fn the_lines_for_testkubes_executions_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Testkube's executions", executions::MISTAKES)
}

#[test]
fn the_lines_for_testkubes_webhook_are_the_ones_that_people_see() -> Result<()> {
    make_all("## Testkube's webhook", testkube::MISTAKES)
}

/// Makes every mistake of a section, and no other is in the section.
fn make_all(section: &str, mistakes: &[Mistake]) -> Result<()> {
    let lines = lines(section)?;
    let names: Vec<&str> = mistakes.iter().map(|(name, _)| *name).collect();
    assert_eq!(lines.keys().copied().collect::<Vec<_>>(), {
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted
    });
    let scene = Scene::new()?;
    let mut wrong = Vec::new();
    for some in mistakes.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let (scene, lines) = (&scene, &lines);
            let started = some.iter().map(|(name, make)| (name, scope.spawn(|| make(scene, lines[name]))));
            for (name, mistake) in started.collect::<Vec<_>>() {
                match mistake.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => wrong.push(format!("{name}: {error:#}")),
                    Err(_) => wrong.push(format!("{name}: a panic")),
                }
            }
        });
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

fn bootstrap(text: &str) -> Result<Embedded> {
    Ok(Embedded { place: "envoy.yaml".into(), form: Form::Bootstrap(serde_saphyr::from_str(text)?) })
}

/// With one value of the plugin's configuration replaced; its clusters stay.
fn plugin(scene: &Scene, embedded: &Embedded, place: &'static str, value: Value) -> Result<Setup> {
    Ok(setup(scene, embedded)?.edit_plugin(move |plugin| {
        let (parent, member) = place.rsplit_once('/').unwrap_or_default();
        if let Some(object) = plugin.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.insert(member.to_owned(), value.clone());
        }
    }))
}

fn without_variable(manifest: &str, name: &str) -> Result<Embedded> {
    let mut embedded = only(manifest)?;
    let Form::Plugin { environment, .. } = &mut embedded.form else { anyhow::bail!("no plugin") };
    environment.retain(|variable| variable != name);
    Ok(embedded)
}

/// All fields in a JSON body.
fn in_body(run: &Pipeline) -> Result<Request> {
    let request = Request::post("/testrelay/v1/checks").basic(USER, PASSWORD);
    Ok(request.json(&run.fields("shop-e2e").json_body()?))
}

/// Envoy does not start with it, and says this.
fn refused(setup: Setup, line: &str) -> Result<()> {
    let said = validate(&setup)?;
    ensure!(!said.accepted && holds(&said.text, line), "{}", said.text);
    Ok(())
}

/// A check is accepted, and then this is logged.
fn logged(scene: &Scene, setup: Setup, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    let answer = next(scene).check("shop-e2e").send(envoy.address())?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let seen = wait_until("the line", SOON, || holds(&envoy.log(), line));
    seen.with_context(|| envoy.log())?;
    envoy.stop()
}

/// The answer to a check says this.
fn answered(scene: &Scene, setup: Setup, request: fn(&Pipeline) -> Request, line: &str) -> Result<()> {
    let envoy = Envoy::start(&setup.concurrency(1))?;
    told(&request(&next(scene)), &envoy, line)
}

fn told(request: &Request, envoy: &Envoy, line: &str) -> Result<()> {
    let answer = request.send(envoy.address())?;
    let problem = answer.json()?;
    let said = format!(
        "{} {}: {}",
        answer.status,
        problem["title"].as_str().unwrap_or_default(),
        problem["detail"].as_str().unwrap_or_default()
    );
    ensure!(said == line, "{said}");
    Ok(())
}

/// A pipeline that no mistake had before.
fn next(scene: &Scene) -> Pipeline {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(100);
    scene.pipeline(NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether a log has a line that ends in this one, whatever the check's id.
fn holds(log: &str, line: &str) -> bool {
    let line = alike(line);
    log.lines().any(|logged| alike(logged).ends_with(&line))
}

/// A line with the ids of checks made alike.
fn alike(line: &str) -> String {
    let is_id = |word: &str| word.len() == 16 && word.bytes().all(|c| c.is_ascii_hexdigit());
    let word = |word: &str| match word.strip_suffix(':').filter(|word| is_id(word)) {
        Some(_) => "ID:".to_owned(),
        None => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
