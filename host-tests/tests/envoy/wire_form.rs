//! The module's requests to Azure DevOps, compared with recorded requests of Microsoft's own clients.
//!
//! Each request is taken apart into traits (`method POST`, `body name: "TaskCompleted"`, …) with its ids replaced by
//! names. A trait that no recorded request of the same kind has must stand in [`ALLOWED`] with its reason, and so must a
//! trait that every one of them has and the module's request lacks.

use anyhow::{Context, Result, ensure};
use fakes::{Request, Status, execution};
use host_tests::Envoy;
use host_tests::scene::{Pipeline, Scene, TAG_KEY, now_ms};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The kinds of request, the trait, and why the module's requests differ in it.
const ALLOWED: &[(&[Kind], &str, &str)] = &[
    (
        &[Kind::LogCreate, Kind::LogAppend, Kind::RecordPatch],
        "api-version in the query: 6.0",
        "the C# sample puts it there too; 6.0 is the newest that Azure DevOps Server 2020 knows, and later ones know it",
    ),
    (&[Kind::RecordPatch], "body.value[].errorCount: a number", ISSUES),
    (&[Kind::RecordPatch], "body.value[].issues[].category: \"General\"", ISSUES),
    (&[Kind::RecordPatch], "body.value[].issues[].message: a text", ISSUES),
    (&[Kind::RecordPatch], "body.value[].issues[].type: \"error\"", ISSUES),
    (&KINDS, "accept application/json", "Accept need not name the version, because the query does"),
    (&KINDS, "x-envoy-expected-rq-timeout-ms", "Envoy tells every upstream how long it will wait"),
    (&KINDS, "x-envoy-internal", "Envoy marks the calls that it makes itself"),
];

const ISSUES: &str =
    "a member of TimelineRecord in Azure DevOps's own specification, distributedTask/7.1/task.json";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    LogCreate,
    LogAppend,
    RecordPatch,
    /// TaskCompleted.
    Event,
}

const KINDS: [Kind; 4] = [Kind::LogCreate, Kind::LogAppend, Kind::RecordPatch, Kind::Event];

#[test]
fn the_module_says_nothing_that_microsofts_clients_do_not_say_but_for_the_table() -> Result<()> {
    let recorded = recorded()?;
    let sent = sent_by_the_module()?;
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for kind in KINDS {
        let theirs = recorded.get(&kind).with_context(|| format!("no recorded {kind:?}"))?;
        let ours = sent.get(&kind).with_context(|| format!("the module sent no {kind:?}"))?;
        let known: BTreeSet<&String> = theirs.iter().flatten().collect();
        let common = theirs.iter().skip(1).fold(theirs[0].clone(), |all, other| &all & other);
        for traits in ours {
            let added = traits.iter().filter(|one| !known.contains(one)).map(|one| (one, "added"));
            let lacking = common.iter().filter(|one| !traits.contains(*one)).map(|one| (one, "lacking"));
            for (one, what) in added.chain(lacking) {
                let in_table =
                    |(of, allowed, _): &(&[Kind], &str, &str)| of.contains(&kind) && allowed == one;
                match ALLOWED.iter().position(in_table) {
                    Some(entry) => used.extend([(entry, kind)]),
                    None => problems.push(format!("{kind:?}, {what}: {one}")),
                }
            }
        }
    }
    problems.sort();
    problems.dedup();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    let entries = ALLOWED.iter().enumerate();
    let all = entries.flat_map(|(entry, (kinds, ..))| kinds.iter().map(move |kind| (entry, *kind)));
    let unused: Vec<_> =
        all.filter(|one| !used.contains(one)).map(|(entry, kind)| (kind, ALLOWED[entry].1)).collect();
    assert!(unused.is_empty(), "differences that are none: {unused:#?}");
    Ok(())
}

/// The traits of each recorded request.
fn recorded() -> Result<BTreeMap<Kind, Vec<BTreeSet<String>>>> {
    let captures = include_str!("../../fakes/fixtures/azure-devops-client-captures.json");
    let captures: Value = serde_json::from_str(captures)?;
    let ids = Ids(BTreeMap::from(
        [
            ("11111111-1111-1111-1111-111111111111", "{project}"),
            ("22222222-2222-2222-2222-222222222222", "{plan}"),
            ("33333333-3333-3333-3333-333333333333", "{job}"),
            ("44444444-4444-4444-4444-444444444444", "{task}"),
            ("55555555-5555-5555-5555-555555555555", "{timeline}"),
            // The record that the Python and Node recordings write to.
            ("66666666-6666-6666-6666-666666666666", "{task}"),
            ("/hubs/gates/", "/hubs/{hub}/"),
            ("/hubs/Gates/", "/hubs/{hub}/"),
        ]
        .map(|(id, name)| (id.to_owned(), name.to_owned())),
    ));
    let mut all: BTreeMap<Kind, Vec<BTreeSet<String>>> = BTreeMap::new();
    for captured in captures.as_object().into_iter().flatten().flat_map(|(_, all)| all.as_array()).flatten() {
        let text = |name: &str| captured[name].as_str().unwrap_or_default();
        let headers: Vec<&str> =
            captured["rawHeaders"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let bare = Request::new(text("method"), text("target")).body(text("body"));
        let request = headers.chunks(2).fold(bare, |request, pair| request.header(pair[0], pair[1]));
        if let Some(kind) = kind_of(&request) {
            all.entry(kind).or_default().push(traits(&request, &ids));
        }
    }
    Ok(all)
}

/// The traits of what the module sends for a check that passes and for one that fails.
fn sent_by_the_module() -> Result<BTreeMap<Kind, Vec<BTreeSet<String>>>> {
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let mut all: BTreeMap<Kind, Vec<BTreeSet<String>>> = BTreeMap::new();
    for (n, end) in [(1, Status::Passed), (2, Status::Failed)] {
        let run = scene.pipeline(n);
        scene.execution(execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), end));
        ensure!(run.check("shop-e2e").send(envoy.address())?.status == 200);
        scene.decision(&run, Duration::from_secs(30))?;
        let azure = scene.azure();
        let of_plan = azure.requests().iter().map(|recorded| &recorded.request);
        for request in of_plan.filter(|request| request.target.contains(&run.spec.plan)) {
            // None was recorded; its place is that of the record's PATCH.
            if request.method == "GET" && request.path().ends_with(&format!("/{}/records", run.spec.timeline))
            {
                continue;
            }
            let kind = kind_of(request).with_context(|| format!("an unknown call: {}", request.target))?;
            all.entry(kind).or_default().push(traits(request, &Ids::of(&run)));
        }
    }
    envoy.stop()?;
    Ok(all)
}

fn kind_of(request: &Request) -> Option<Kind> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut ending = request.path().rsplit('/');
    match (request.method.as_str(), ending.next()?, ending.next()?) {
        ("POST", "logs", _) => Some(Kind::LogCreate),
        ("POST", _, "logs") => Some(Kind::LogAppend),
        ("PATCH", "records", _) => Some(Kind::RecordPatch),
        ("POST", "events", _) if body["name"] == "TaskCompleted" => Some(Kind::Event),
        _ => None,
    }
}

/// Ids and the names that take their places.
struct Ids(BTreeMap<String, String>);

impl Ids {
    fn of(run: &Pipeline) -> Ids {
        let spec = &run.spec;
        // Plan and timeline of a check are the same id: the place in the path tells them apart.
        let ids = [
            (format!("/timelines/{}/", spec.timeline), "/timelines/{timeline}/"),
            (spec.project.clone(), "{project}"),
            (spec.plan.clone(), "{plan}"),
            (spec.job.clone(), "{job}"),
            (spec.task.clone(), "{task}"),
            (format!("/hubs/{}/", spec.hub), "/hubs/{hub}/"),
        ];
        Ids(ids.map(|(id, name)| (id, name.to_owned())).into())
    }

    fn named(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id.as_str(), name))
    }
}

/// Headers that frame a message or belong to the hop.
const OF_THE_HOP: [&str; 5] =
    ["host", "connection", "content-length", "transfer-encoding", "accept-encoding"];

fn traits(request: &Request, ids: &Ids) -> BTreeSet<String> {
    let mut traits = BTreeSet::from([format!("method {}", request.method)]);
    let path = ids.named(request.path());
    let log = path.rsplit_once("/logs/").map(|(head, _)| format!("{head}/logs/{{log}}"));
    traits.insert(format!("path {}", log.unwrap_or(path)));
    for (name, value) in request.query().split('&').filter_map(|pair| pair.split_once('=')) {
        traits.insert(format!("{name} in the query: {value}"));
    }
    traits.extend(request.headers.iter().filter_map(|(name, value)| {
        let value = String::from_utf8_lossy(value);
        let before = |end: char| value.split(end).next().unwrap_or_default().to_owned();
        match name.as_str() {
            name if OF_THE_HOP.contains(&name) => None,
            "authorization" => Some(format!("authorization {}", before(' '))),
            "content-type" => Some(format!("content-type {}", before(';'))),
            "accept" | "x-tfs-fedauthredirect" => Some(format!("{name} {value}")),
            // The client's name and session are its own.
            name => Some(name.to_owned()),
        }
    }));
    match serde_json::from_slice(&request.body) {
        Ok(body) => add_members(&mut traits, "body", &body, ids),
        Err(_) => traits.extend([format!("lines end with a line feed: {}", request.body.ends_with(b"\n"))]),
    }
    traits
}

/// Every member of a JSON value with its path; ids by name, a log's number as "a number".
fn add_members(traits: &mut BTreeSet<String>, at: &str, value: &Value, ids: &Ids) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| add_members(traits, &format!("{at}.{name}"), value, ids));
        }
        Value::Array(items) => {
            items.iter().for_each(|item| add_members(traits, &format!("{at}[]"), item, ids));
        }
        Value::Number(_)
            if [".log.id", ".percentComplete", ".errorCount"].iter().any(|end| at.ends_with(end)) =>
        {
            traits.extend([format!("{at}: a number")]);
        }
        Value::String(_) if [".currentOperation", ".message"].iter().any(|end| at.ends_with(end)) => {
            traits.extend([format!("{at}: a text")]);
        }
        other => traits.extend([format!("{at}: {}", ids.named(&other.to_string()))]),
    }
}
